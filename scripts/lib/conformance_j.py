"""Group J: where mail goes by DNS (RFC 5321 §5.1, RFC 7505, RFC 5452), and where it never goes."""

import collections
import re
import socket
import struct

from conformance_kit import case
from conformance_outbound import CONFIGURATION, MESSAGE, RETRY, WAITS, Hop, wait, word_for
from conformance_peers import Dns, resource, wire_name

UNKNOWN, NULL_MX, LOOP = "failed 5.1.2", "failed 5.1.10", "failed 5.4.6"
BAD, UNREACHABLE = "failed 5.4.4", "connection"


class OddDns(Dns):
    """A DNS that says what it should, and for some names what it should not: `NAME ODD word`."""

    def __init__(self, *records, **options):
        self.odds = {}
        super().__init__(*records, **options)

    def add(self, record):
        name, kind, *data = record.split(None, 2)
        if kind == "ODD":
            self.odds[name] = data[0]
        else:
            super().add(record)

    def clear(self, name):
        self.odds.pop(name, None)
        super().clear(name)

    def _answer(self, query, over_tcp):
        found = self.odd(query)
        if found is None:
            return super()._answer(query, over_tcp)
        word, name, kind = found
        if word == "NO-TCP":
            if over_tcp:
                raise OSError
            return self.message(query, flags=0x8380)
        if word == "GARBAGE":
            return query[:2] + b"\xff"
        if word == "LOOP":
            # A name that is a pointer to itself.
            answer = self.message(query)
            pointer = (0xC000 | len(answer)).to_bytes(2)
            record = pointer + struct.pack(">HHIH", kind, 1, 60, 4) + b"\x7f\0\0\1"
            return answer[:6] + b"\0\1" + answer[8:] + record
        if word == "WRONG-ID":
            octets = super()._answer(query, over_tcp)
            return bytes([octets[0] ^ 1]) + octets[1:]
        if word == "WRONG-CASE":
            # Who writes the name anew has not seen the question (draft-vixie-dnsext-dns0x20).
            octets = super()._answer(query, over_tcp)
            end = query.index(b"\0", 12) + 1
            return octets if over_tcp else octets[:12] + octets[12:end].lower() + octets[end:]
        if word == "FOREIGN":
            other = wire_name("other.example")
            target = wire_name("foreign.example")
            rdata = (10).to_bytes(2) + target if kind == 15 else socket.inet_aton("127.0.0.1")
            record = other + struct.pack(">HHIH", kind, 1, 60, len(rdata)) + rdata
            return self.message(query, answers=[record])
        if word == "LAME":
            elsewhere = wire_name("ns.elsewhere.example")
            record = b"\0" + struct.pack(">HHIH", 2, 1, 60, len(elsewhere)) + elsewhere
            return self.message(query, authority=[record])
        if word == "OCTETS-64K":
            if not over_tcp:
                return self.message(query, flags=0x8380)
            lines = [data for what, data in self.find(name) if what == "MX"]
            records = [resource(b"\xc0\x0c", "MX", lines[0])]
            size = len(self.message(query)) + len(records[0])
            number = 0
            while size < 65_000:
                records.append(resource(b"\xc0\x0c", "MX", f"{100 + number % 900} h{number}.many"
                                                           f".example"))
                size += len(records[-1])
                number += 1
            return self.message(query, answers=records)
        raise ValueError(word)

    def odd(self, query):
        name, at = "", 12
        while length := query[at]:
            name += query[at + 1:at + 1 + length].decode("ascii", "replace").lower() + "."
            at += 1 + length
        name = name.rstrip(".")
        kind = int.from_bytes(query[at + 1:at + 3])
        word, _, only = self.odds.get(name, "").partition(" ")
        if word and only in ("", {1: "A", 15: "MX", 28: "AAAA"}.get(kind)):
            return word, name, kind
        return None

    @staticmethod
    def message(query, flags=0x8180, answers=(), authority=()):
        end = query.index(b"\0", 12) + 5
        counts = struct.pack(">HHHHH", flags, 1, len(answers), len(authority), 0)
        return query[:2] + counts + query[12:end] + b"".join([*answers, *authority])


class Internet:
    """Hosts at addresses of the case, a DNS, and a relay that sends by MX. `$1` in a record is the
    address 1 of the case."""

    def __init__(self, t, records=(), hosts=(2, 3), delivery="", dns="", own=None, script=None,
                 query_wait="4 s"):
        self.t, self.port = t, t.port()
        self.hops = {at: Hop(dict(script or {}), address=t.address(at), port=self.port)
                     for at in hosts}
        for hop in self.hops.values():
            t.stack.callback(hop.close)
        self.dns = t._kept(OddDns())
        for record in ("sender.example MX 10 reports.example", "reports.example A $250", *records):
            self.add(record)
        self.sink = t.peer(address=t.address(250), port=self.port)
        network = t.address(0).rpartition(".")[0] + ".0/24"
        allowed = "" if "allow_networks" in delivery else f'allow_networks = ["{network}"]\n'
        toml = (CONFIGURATION.replace("127.0.0.1:0", own or "127.0.0.1:0")
                + '[[route]]\nname = "mx"\nto = "mx"\n' + RETRY
                + f'[delivery]\nport = {self.port}\n{allowed}{WAITS}{delivery}'
                + f'[dns]\nservers = ["{self.dns.place}"]\nquery_wait = "{query_wait}"\n{dns}')
        # Reports go by MX here.
        toml = re.sub(r'\[\[route\]\]\nname = "reports"\n.*\n.*\n', "", toml, count=1)
        self.relay = t.own_relay(toml=toml, peer=self.sink)

    def add(self, record):
        self.dns.add(re.sub(r"\$(\d+)", lambda found: self.t.address(int(found[1])), record))

    def send(self, *recipients):
        lines = len(self.t.lines)
        with self.t.connect(self.relay.mx) as c:
            c.hello()
            c.envelope("a@sender.example", *recipients)
            reply = c.content(MESSAGE)
        del self.t.lines[lines:]
        return re.search(r"queued as (\S+)", reply.text)[1]

    def outcome(self, id):
        """What the first attempt came to, and with which reply; where it went."""
        def ready():
            return [line for line in self.relay.log("Attempted") if line["id"] == id]
        line = wait(ready, "an attempt")[0]
        outcome = line["outcomes"][0]
        return word_for(outcome), outcome["reply"], line.get("address")


def by_dns(t, cases, **options):
    """`domain: (records, want)`: want is an outcome, or the number of the host that takes it."""
    records = [f"{domain} {record}" if record.split()[0].isupper() else record
               for domain, (lines, _) in cases.items() for record in lines]
    net = Internet(t, records, **options)
    sent = {domain: net.send(f"u@{domain}") for domain in cases}
    for domain, (lines, want) in cases.items():
        word, reply, address = net.outcome(sent[domain])
        is_there = isinstance(want, int) and address == f"{t.address(want)}:{net.port}"
        wanted = "delivered" if isinstance(want, int) else want
        t.check(word == wanted and (is_there or not isinstance(want, int)),
                f"{domain}: {word} {reply} at {address}")
        t.note(f"{'; '.join(lines) or 'nothing'}: "
               + (f"delivered to ${want}" if isinstance(want, int) else f"{word} ({reply})"))
        if word.startswith("failed"):
            found = net.sink.wait(lambda: [mail for mail in net.sink.mails_to("a@sender.example")
                                           if f"u@{domain}".encode() in mail.content])
            t.check(found and found[0].sender.startswith("<>"), f"{domain}: a report")
    return net


@case("J1 J2", "a null MX takes no mail, unless it stands beside others", "RFC 7505 §3")
def null_mx(t):
    by_dns(t, {
        "null.example": (["MX 0 ."], NULL_MX),
        "null-with-address.example": (["MX 0 .", "A $2"], NULL_MX),
        "null-at-ten.example": (["MX 10 ."], NULL_MX),
        "null-and-more.example": (["MX 0 .", "MX 10 h2.example", "h2.example A $2"], 2),
    })


@case("J3", "without MX the domain itself is its host", "RFC 5321 §5.1")
def implicit(t):
    by_dns(t, {
        "address.example": (["A $2"], 2),
        "both.example": (["A $2", "AAAA ::1"], 2),
        "no-name.example": ([], UNKNOWN),
        "no-host.example": (["TXT nothing"], UNKNOWN),
        "mx-to-no-name.example": (["MX 10 missing.example", "A $2"], UNKNOWN),
        "half-known.example": (["A $2", "AAAA ::1"], 2),
    })


@case("J4", "what DNS cannot say is for now; the address of the domain is no way out",
      "RFC 5321 §5.1", slow=True)
def unknown(t):
    net = by_dns(t, {
        "servfail.example": (["SERVFAIL"], "dns"),
        "refused.example": (["REFUSED"], "dns"),
        "silent.example": (["TIMEOUT"], "dns"),
        "lame.example": (["ODD LAME MX", "A $2"], "dns"),
        "servfail-and-address.example": (["ODD GARBAGE MX", "A $2"], "dns"),
    }, query_wait="1 s")
    t.check(not net.hops[2].sessions, "nobody was connected to")
    t.check(not net.sink.ended, "no report")
    waiting = net.relay.ask("/v1/queue?limit=100")["data"]
    t.check(len(waiting) == 5, "all of them wait")
    for domain in ("servfail", "refused", "silent"):
        net.dns.clear(f"{domain}.example")
        net.add(f"{domain}.example MX 10 h2.example")
    net.add("h2.example A $2")
    wait(lambda: len(net.hops[2].mails) >= 3, "three mails once DNS has recovered")
    t.note("and once DNS says: delivered")


@case("J5", "another host is tried where one cannot be found; a doubt is for now", "RFC 5321 §5.1")
def half_known(t):
    broken = ["broken.example SERVFAIL"]
    by_dns(t, {
        "first.example": (["MX 10 broken.example", "MX 20 h2.example", "h2.example A $2",
                           *broken], 2),
        "none.example": (["MX 10 broken.example", "MX 20 missing.example"], "dns"),
        "missing.test": (["MX 10 missing.example", "MX 20 h2.example"], 2),
        "all-missing.example": (["MX 10 missing.example", "MX 20 missing2.example"], UNKNOWN),
    })


@case("J5", "a refusing host beside one that DNS cannot find now is no end", "RFC 5321 §5.1")
def refused_or_unknown(t):
    net = Internet(t, ["b.example MX 10 h2.example", "h2.example A $2",
                       "b.example MX 20 broken.example", "broken.example SERVFAIL"],
                   hosts=(2,), script={"greeting": "554 5.7.1 no mail from you"})
    word, reply, _ = net.outcome(net.send("u@b.example"))
    t.check(word == "connection", f"{word} {reply}")
    t.check(net.hops[2].sessions and not net.sink.ended, "the first was asked; no report")
    t.note(f"MX 10 refuses with 554, MX 20 is SERVFAIL: {word} ({reply})")


@case("J6", "lower preferences first; equal ones share the mail", "RFC 5321 §5.1")
def preferences(t):
    net = Internet(t, [
        "b.example MX 20 h6.example", *(f"b.example MX 10 h{n}.example" for n in (2, 3, 4, 5)),
        *(f"h{n}.example A ${n}" for n in (2, 3, 4, 5, 6))], hosts=(2, 3, 4, 5, 6))
    count = 200
    for _ in range(count):
        net.send("u@b.example")
    wait(lambda: len(net.relay.log("Retired")) >= count, "all mails")
    counts = [len(net.hops[n].mails) for n in (2, 3, 4, 5, 6)]
    t.check(counts[4] == 0 and sum(counts) == count, f"none at preference 20: {counts}")
    chi_square = sum((one - count / 4) ** 2 / (count / 4) for one in counts[:4])
    # 3 degrees of freedom: more than that once in a million.
    t.check(chi_square < 30.7, f"{counts}: χ² {chi_square}")
    t.note("200 mails for four hosts of preference 10 and one of 20: χ² over the four below 30.7")


@case("J7", "hosts at and behind our own preference are left out; where none is left, a loop",
      "RFC 5321 §5.1")
def ourselves(t):
    cases = {
        "by-name.example": (["MX 10 mx.ours.example", "MX 20 h2.example"], LOOP),
        "equal.example": (["MX 10 mx.ours.example", "MX 10 h2.example"], LOOP),
        "second.example": (["MX 10 h2.example", "MX 20 mx.ours.example", "h2.example A $2",
                            "mx.ours.example A $3"], 2),
        "behind.example": (["MX 10 dead.example", "MX 20 mx.ours.example", "MX 30 h2.example",
                            "dead.example A $77"], UNREACHABLE),
    }
    by_dns(t, cases)


@case("J8", "a host that is an alias is followed; a ring of them is for now", "RFC 5321 §5.1")
def aliases(t):
    chain = [f"chain-{n}.example CNAME chain-{n + 1}.example" for n in range(1, 12)]
    short = [f"short-{n}.example CNAME short-{n + 1}.example" for n in range(1, 5)]
    short.append("short-5.example A $2")
    net_records = [*chain, "chain-12.example A $2", "ring.example CNAME gnir.example",
                   "gnir.example CNAME ring.example", "alias.example CNAME h2.example",
                   "h2.example A $2"]
    by_dns(t, {
        "host.example": (["MX 10 alias.example", *net_records], 2),
        "domain.example": (["CNAME first.example", "first.example MX 10 h2.example"], 2),
        "chain-of-five.example": (["MX 10 short-1.example", *short], 2),
        # This DNS gives one step in each answer; with all in one a chain of 12 is followed.
        "chain-of-twelve.example": (["MX 10 chain-1.example"], "dns"),
        "ring-host.example": (["MX 10 ring.example"], "dns"),
        "ring-and-more.example": (["MX 10 ring.example", "MX 20 h2.example"], 2),
        "ring-domain.example": (["CNAME ring.example"], "dns"),
    })


@case("J9", "DNS never leads to this machine, to private networks or to metadata", "RFC 6890")
def forbidden(t):
    addresses = ["127.0.0.1", "0.0.0.0", "169.254.169.254", "10.0.0.1", "172.16.0.1",
                 "192.168.1.1", "100.64.0.1", "224.0.0.1", "255.255.255.255"]
    sixes = ["::1", "::", "fc00::1", "fe80::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1",
             "64:ff9b::a9fe:a9fe", "2002:7f00:1::1", "fd00:ec2::254", "ff02::1"]
    cases = {f"v4-{n}.example": ([f"A {one}"], BAD) for n, one in enumerate(addresses)}
    cases |= {f"v6-{n}.example": ([f"AAAA {one}"], BAD) for n, one in enumerate(sixes)}
    cases["by-mx.example"] = (["MX 10 inside.example", "inside.example A 127.0.0.1"], BAD)
    cases["and-more.example"] = (["A 127.0.0.1", "A $2", "AAAA ::1"], 2)
    cases["next.example"] = (["MX 10 inside.example", "MX 20 h2.example", "h2.example A $2"], 2)
    by_dns(t, cases)


@case("J9", "the guard is asked for the address that is connected to: a name that changes its mind",
      "RFC 6890")
def rebinding(t):
    net = Internet(t, ["b.example MX 10 h2.example", "h2.example A $2"], dns="", script={
        "greeting": "421 busy"})
    trap = Hop(address="127.0.0.1", port=net.port)
    t.stack.callback(trap.close)
    id = net.send("u@b.example")
    t.check(net.outcome(id)[0] == "busy", "the first address is permitted")
    net.dns.clear("h2.example")
    net.dns.clear("b.example")
    net.add("b.example MX 10 h2.example")
    net.add("h2.example A 127.0.0.1")
    net.send("u@b.example")
    wait(lambda: len(net.relay.log("Attempted")) >= 4, "attempts")
    t.check(not trap.sessions, "nobody came to 127.0.0.1")
    t.note("A, then 127.0.0.1: never connected to")


@case("J10", "a host that no host can be is passed over", "RFC 5321 §5.1, RFC 1035 §2.3.1")
def odd_names(t):
    label = "a" * 63
    by_dns(t, {
        "literal.example": (["MX 10 10.0.0.1"], UNKNOWN),
        "star.example": (["MX 10 *"], UNKNOWN),
        "star-and-more.example": (["MX 10 *.example", "MX 20 h2.example", "h2.example A $2"], 2),
        "underscore.example": (["MX 10 mx_1.example", "mx_1.example A $2"], 2),
        "hyphen.example": (["MX 10 -", "MX 20 h2.example"], 2),
        "longest.example": ([f"MX 10 {label}.{label}.{label}.{'a' * 61}", "MX 20 h2.example"], 2),
        # bücher in UTF-8, and an octet 0 in a label.
        "wide.example": (["TYPE15 000a0762c3bc6368657200", "MX 20 h2.example"], 2),
        "zero.example": (["TYPE15 000a0361006200", "MX 20 h2.example"], 2),
    })


@case("J11", "200 hosts of 50 addresses: so many are tried and no more", "RFC 5321 §5.1")
def many(t):
    records = [f"many.example MX {n} h{n}.many.example" for n in range(200)]
    records.append("many.example TRUNCATED")
    records += [f"h{n}.many.example A $77" for n in range(200)]
    records += [f"wide.example A ${n}" for n in range(100, 150)]
    records += ["mixed.example MX 1 wide.example", "mixed.example MX 2 h2.example",
                "h2.example A $2"]
    net = Internet(t, records, hosts=(2,))
    id = net.send("u@many.example")
    word, reply, _ = net.outcome(id)
    t.check(word == "connection", f"{word} {reply}")
    asked = {name for name, _ in net.dns.queries
             if name.endswith("many.example") and not name.startswith("_mta-sts.")}
    t.check(len(asked) <= 21, f"{len(asked)} names were asked for")
    id = net.send("u@mixed.example")
    t.check(net.outcome(id)[0] == "delivered", "the second host is tried behind ten addresses")
    t.note("of 200 hosts 20 are looked up and 10 tried; of 50 addresses 10")


@case("J12", "truncated, huge, broken and foreign answers", "RFC 5452 §4, §6, RFC 7766",
      slow=True)
def answers(t):
    net = by_dns(t, {
        "truncated.example": (["TRUNCATED", "MX 10 h2.example", "h2.example A $2"], 2),
        "no-tcp.example": (["ODD NO-TCP MX", "A $2"], "dns"),
        "huge.example": (["ODD OCTETS-64K MX", "MX 1 h2.example"], 2),
        "garbage.example": (["ODD GARBAGE MX", "A $2"], "dns"),
        "pointer.example": (["ODD LOOP MX", "A $2"], "dns"),
        "wrong-id.example": (["ODD WRONG-ID MX", "MX 10 h2.example"], "dns"),
        "wrong-case.example": (["ODD WRONG-CASE MX", "MX 10 h2.example"], 2),
        # An answer about another name says nothing of this one.
        "foreign.test": (["ODD FOREIGN MX", "A $2"], 2),
    }, query_wait="2 s")
    t.check(not net.hops[3].sessions, "what an answer says about other names is not believed")


@case("J13", "an answer is kept neither for no time nor for years", "RFC 2181 §8, RFC 2308 §5")
def ttl(t):
    net = Internet(t, ["a.example MX 10 h2.example", "h2.example A $2"])
    for _ in range(5):
        net.send("u@a.example")
    wait(lambda: len(net.hops[2].mails) >= 5, "five mails")
    asked = collections.Counter(net.dns.queries)
    t.check(asked["a.example", "MX"] == 1, "one question for five mails")
    t.note("TTL 0 and 2³²-1 are in crates/relay/tests/resolve.rs: kept for 30 s at least, a day at "
           "most; a negative answer for 15 minutes at most")


@case("J14", "a host that has IPv6 alone, and IPv6 that is broken", "RFC 8305")
def ipv6(t):
    net = Internet(t, ["six.example AAAA ::1", "h2.example A $2",
                       "only.example MX 10 six.example",
                       "next.example MX 10 six.example", "next.example MX 20 h2.example",
                       "both.example A $2", "both.example AAAA ::1",
                       "dead.example A $77", "dead.example A $2"],
                   delivery='allow_networks = ["127.0.0.0/8", "::1"]\n')
    for recipient, want in (("u@next.example", "delivered"), ("u@both.example", "delivered"),
                            ("u@dead.example", "delivered"), ("u@only.example", "connection")):
        word, _, _ = net.outcome(net.send(recipient))
        t.check(word == want, f"{recipient}: {word}")
        t.note(f"{recipient}: {word}")


@case("J14", "an address that swallows packets costs no more than the wait for it", "RFC 8305 §5",
      slow=True)
def black_hole(t):
    port = t.port()
    hole = socket.socket()
    hole.bind((t.address(60), port))
    hole.listen(0)
    fill = []
    for _ in range(4):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex((t.address(60), port))
        fill.append(one)
    t.stack.callback(lambda: [one.close() for one in (*fill, hole)])
    hop = Hop(address=t.address(2), port=port)
    t.stack.callback(hop.close)
    dns = t.dns("b.example MX 10 hole.example", "b.example MX 20 h2.example",
                f"hole.example A {t.address(60)}", f"h2.example A {t.address(2)}")
    toml = CONFIGURATION + (
        f'[[route]]\nname = "mx"\nto = "mx"\n[dns]\nservers = ["{dns.place}"]\n{RETRY}'
        f'[delivery]\nport = {port}\nallow_networks = ["127.0.0.0/8"]\n{WAITS}')
    relay = t.own_relay(toml=toml, peer=t.peer())
    with t.connect(relay.mx) as c:
        c.hello()
        c.envelope("a@sender.example", "u@b.example")
        c.say("DATA", "354")
        c.send(MESSAGE + b".\r\n", quiet=True)
        lines = len(t.lines)
        c.reply("250")
        del t.lines[lines:]
    wait(lambda: hop.mails, "the mail at the second host", 20)
    t.note("the second host has it after connect_wait (5 s here, 30 s by default)")


@case("J15", "DNSSEC: what a validating resolver calls bogus is for now; AD of others means nothing",
      "RFC 4035 §4.9.3, RFC 7672 §2.1")
def dnssec(t):
    by_dns(t, {
        # A validating resolver says SERVFAIL for bogus (RFC 4035 §5.5).
        "bogus.example": (["SERVFAIL"], "dns"),
        "insecure.example": (["MX 10 h2.example", "h2.example A $2"], 2),
    })
    by_dns(t, {"unsigned.example": (["MX 10 h2.example", "h2.example A $2"], "dns")},
           dns="validate = true\n")
    t.note("with dns.validate an answer that cannot be proven is for now; nothing depends on AD")


@case("J16", "an address literal is a host, if the network is allowed", "RFC 5321 §4.1.3")
def literals(t):
    net = Internet(t)
    for recipient, want in ((f"u@[{t.address(2)}]", "delivered"), ("u@[127.0.0.1]", BAD),
                            ("u@[10.0.0.1]", BAD), ("u@[IPv6:::1]", BAD),
                            ("u@[IPv6:::ffff:127.0.0.1]", BAD),
                            (f"u@[{t.address(77)}]", "connection")):
        word, _, _ = net.outcome(net.send(recipient))
        t.check(word == want, f"{recipient}: {word}")
        t.note(re.sub(re.escape(t.address(0)[:-1]) + r"(\d+)", r"$\1", f"{recipient}: {word}"))
    # The root is asked for at start, to see whether answers can be proven.
    t.check(all(name in ("", ".", "sender.example", "_mta-sts.sender.example") or "reports" in name
                for name, _ in net.dns.queries), f"without a question: {net.dns.queries}")


@case("J18", "without a resolver mail waits; once there is one it goes, without a report",
      "RFC 5321 §5.1", slow=True)
def no_resolver(t):
    port = t.port()
    hop = Hop(address=t.address(2), port=port)
    t.stack.callback(hop.close)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind((t.address(1), 0))
        place = free.getsockname()
    sink = t.peer()
    toml = CONFIGURATION + (
        f'[[route]]\nname = "mx"\nto = "mx"\n[dns]\nservers = ["{place[0]}:{place[1]}"]\n'
        f'query_wait = "1 s"\n{RETRY}'
        f'[delivery]\nport = {port}\nallow_networks = ["127.0.0.0/8"]\n')
    relay = t.own_relay(toml=toml, peer=sink)
    with t.connect(relay.mx) as c:
        c.hello()
        for number in range(5):
            c.envelope("a@sender.example", f"u{number}@b.example")
            c.say("DATA", "354")
            lines = len(t.lines)
            c.send(MESSAGE + b".\r\n")
            c.reply("250")
            del t.lines[lines:]
    wait(lambda: len(relay.log("Attempted")) >= 5, "five attempts")
    words = {word_for(one) for line in relay.log("Attempted") for one in line["outcomes"]}
    t.check(words == {"dns"}, f"{words}")

    dns = t._kept(OddDns("b.example MX 10 h2.example", f"h2.example A {t.address(2)}",
                         address=place[0], port=place[1]))
    wait(lambda: len(hop.mails) >= 5, "five mails")
    t.check(dns.queries, "it was asked")
    t.check(not sink.ended, "no report")
    t.note("five mails waited with `dns`, and went once there was a resolver")
