"""What strangers must show: names (P10), sender domains (J17), DNS lists (P9), first contacts (P8),
recipients (F17), who is always reached (F10), and VRFY (A13)."""


from conformance_kit import TRUSTED, case

CONTENT = b"Subject: x\r\n\r\nbody\r\n"
SENDER = "a.example MX 10 mx.a.example"


def reversed_octets(address):
    return ".".join(reversed(address.split(".")))


def deliver(c, recipient, sender="a@a.example"):
    c.hello()
    c.envelope(sender, recipient)
    c.content(CONTENT)


def rcpt(t, relay, source, sender, *recipients):
    """MAIL and some RCPT from this address, each with its reply."""
    with t.connect(relay.mx, source=source) as c:
        c.hello()
        c.say(f"MAIL FROM:<{sender}>", "250 2.1.0")
        for recipient, reply in recipients:
            c.say(f"RCPT TO:<{recipient}>", reply)
        c.say("QUIT", "221")


@case("A13", "VRFY can be off, and EXPN is never there", "RFC 5321 §7.3")
def vrfy_off(t):
    relay = t.own_relay("listener.mx.vrfy=off")
    with t.connect(relay.mx) as c:
        c.hello()
        for line in ("VRFY user", "VRFY <user@ours.example>", "EXPN list", "EXPN staff"):
            c.say(line, "502 5.5.1")
        c.envelope("a@a.example", "a13@ours.example")
        c.content(CONTENT)


@case("J17", "a stranger's sender domain must exist and take mail; trouble is temporary",
      "RFC 5321 §4.5.5, RFC 7505 §4.2")
def sender_domain(t):
    dns = t.dns(
        "mx.example MX 10 nowhere.example", "a.example A 127.0.0.1", "aaaa.example AAAA ::1",
        "alias.example CNAME mx.example", "txt.example TXT nothing", "null.example MX 0 .",
        "broken.example SERVFAIL", "silent.example TIMEOUT", "refused.example REFUSED",
        "there.test A 127.0.0.1", "there.invalid A 127.0.0.1")
    peer = t.peer()
    relay = t.own_relay("dns.query_wait=1 s", peer=peer, DNS_ADDR=dns.place)
    with t.connect(relay.mx) as c:
        c.hello()
        for sender, reply in (
                ("a@mx.example", "250 2.1.0"), ("a@a.example", "250 2.1.0"),
                ("a@aaaa.example", "250 2.1.0"), ("a@alias.example", "250 2.1.0"),
                ("a@there.test", "250 2.1.0"), ("a@ours.example", "250 2.1.0"),
                ("a@[192.0.2.1]", "250 2.1.0"), ("", "250 2.1.0"),
                ("a@silent.example", "250 2.1.0"), ("a@refused.example", "250 2.1.0"),
                ("a@nothing.example", "550 5.1.8"), ("a@nothing.test", "550 5.1.8"),
                ("a@nothing.invalid", "550 5.1.8"), ("a@there.invalid", "550 5.1.8"),
                ("a@localhost", "550 5.1.8"), ("a@txt.example", "550 5.1.8"),
                ("a@null.example", "550 5.7.27"), ("a@broken.example", "451 4.1.8")):
            c.say(f"MAIL FROM:<{sender}>", reply)
            c.say("RSET", "250")
    for source in (TRUSTED, None):
        with t.connect(relay.mx, source=source) if source else t.submit(relay) as c:
            if source:
                c.hello()
            c.say("MAIL FROM:<ani@nothing.example>", "250 2.1.0" if source else "553 5.7.1")


@case("J17", "without a name server nobody is refused", "RFC 5321 §4.5.5")
def no_name_server(t):
    relay = t.own_relay(peer=t.peer(), DNS_ADDR="127.0.0.1:1")
    with t.connect(relay.mx) as c:
        deliver(c, "j17@ours.example", "a@nothing.example")
    relay.arrived("j17@ours.example")


LISTS = ("good", "wild", "expired", "errors", "surbl", "silent", "broken", "gone")


def lists(t, dns, *sources):
    """A good list, and lists that would block everybody."""
    dns.add("2.0.0.127.good.list A 127.0.0.2")
    everything = {"wild": "A 127.0.0.2", "expired": "A 203.0.113.80", "surbl": "A 127.0.0.1",
                  "errors": "A 127.255.255.254", "silent": "TIMEOUT", "broken": "SERVFAIL"}
    for name, record in everything.items():
        for address in ("127.0.0.1", "127.0.0.2", *sources):
            dns.add(f"{reversed_octets(address)}.{name}.list {record}")
    settings = [f"list.{name}.zone={name}.list" for name in LISTS]
    relay = t.own_relay("dns.query_wait=1 s", *settings, peer=t.peer(), DNS_ADDR=dns.place)
    decided = t.wait(lambda: len(relay.log("ListChanged")) >= len(LISTS) and
                     relay.log("ListChanged"), "each list is tested")
    for line in sorted(decided, key=lambda line: line["list"]):
        t.note(f"list {line['list']}: {'believed' if line['believed'] else 'ignored'}, because "
               f"{line['reason']}")
        t.check(line["believed"] == (line["list"] == "good"), f"{line['list']} is judged")
    return relay


@case("P9", "who is listed is refused with the reason, and reaches the postmaster; nobody else is",
      "RFC 5782 §2, §5")
def dns_lists(t):
    listed, other = "127.0.0.31", "127.0.0.32"
    dns = t.dns(SENDER, f"{reversed_octets(listed)}.good.list A 127.0.0.3",
                f"{reversed_octets(listed)}.good.list TXT see http://good.list/",
                f"{reversed_octets(TRUSTED)}.good.list A 127.0.0.3")
    relay = lists(t, dns, listed, other, TRUSTED)
    with t.connect(relay.mx, source=listed) as c:
        c.hello()
        c.say("MAIL FROM:<a@a.example>", "250")
        refused = c.say("RCPT TO:<p9@ours.example>", "550 5.7.1")
        t.check("listed by good: see http://good.list/" in refused.text, "the reason is told")
        c.say("RCPT TO:<postmaster@ours.example>", "250")
        c.say("RCPT TO:<postmaster>", "250")
    rcpt(t, relay, other, "a@a.example", ("p9@ours.example", "250"))
    rcpt(t, relay, TRUSTED, "a@a.example", ("p9@ours.example", "250"), ("x@b.example", "250"))


@case("P9", "a list that begins to answer with error codes is ignored from then on",
      "RFC 5782 §2.1")
def list_turns(t):
    first, second = "127.0.0.33", "127.0.0.34"
    dns = t.dns(SENDER, f"{reversed_octets(first)}.good.list A 127.0.0.2",
                f"{reversed_octets(second)}.good.list A 127.255.255.252")
    relay = lists(t, dns, first, second)
    rcpt(t, relay, first, "a@a.example", ("p9@ours.example", "550 5.7.1"))
    rcpt(t, relay, second, "a@a.example", ("p9@ours.example", "250"))
    t.wait(lambda: [line for line in relay.log("ListChanged")
                    if line["list"] == "good" and not line["believed"]], "the operator is told")
    rcpt(t, relay, first, "a@a.example", ("p9@ours.example", "250"))


@case("P8", "a first contact waits by network, sender domain and recipient, and is known then, "
      "also behind a restart; the null sender and the postmaster never wait", "RFC 6647 §2.3, §5")
def greylisting(t):
    settings = ("greylist.enabled=true", "greylist.wait=0 s")
    relay = t.own_relay(*settings, peer=t.peer())
    rcpt(t, relay, "127.7.1.1", "", ("p8@ours.example", "250"))
    rcpt(t, relay, "127.7.1.1", "a@a.example", ("postmaster@ours.example", "250"),
         ("postmaster", "250"), ("p8@ours.example", "451 4.7.1"))
    t.note("another address of the same /24 tries again")
    rcpt(t, relay, "127.7.1.200", "b@a.example", ("p8@ours.example", "250"),
         ("p8-other@ours.example", "250"))
    rcpt(t, relay, "127.7.2.1", "a@a.example", ("p8@ours.example", "451 4.7.1"))
    rcpt(t, relay, "127.7.1.1", "a@b.example", ("p8@ours.example", "451 4.7.1"))
    rcpt(t, relay, TRUSTED, "a@a.example", ("p8@ours.example", "250"))
    relay.again()
    t.note("a restart")
    rcpt(t, relay, "127.7.1.2", "a@a.example", ("p8-third@ours.example", "250"))
    rcpt(t, relay, "127.7.1.1", "a@b.example", ("p8@ours.example", "250"))


@case("P10", "what the DNS says of an address is bounded, and else the field says unknown",
      "RFC 5321 §4.4")
def names(t):
    sources = {
        "127.0.0.1": "localhost",
        "127.0.0.35": "unknown",
    }
    dns = t.dns(SENDER, "many.example A 127.0.0.99",
                *[f"35.0.0.127.in-addr.arpa PTR n{n}.many.example" for n in range(1_000)])
    relay = t.own_relay("strangers.rdns=all", peer=t.peer(), DNS_ADDR=dns.place)
    for number, (source, name) in enumerate(sources.items()):
        recipient = f"p10-{number}@ours.example"
        with t.connect(relay.mx, source=source) as c:
            deliver(c, recipient)
        field = relay.arrived(recipient).content.splitlines()[0].decode()
        t.note(field)
        t.check(field == f"Received: from client.example ({name} [{source}])", "the name")


@case("F17", "who is not listed is refused at RCPT, with extensions and whole domains",
      "RFC 5321 §3.3, RFC 2142")
def known_recipients(t):
    relay = t.own_relay("recipients.known=ani@ours.example, @all.example", peer=t.peer(),
                        LOCAL_DOMAINS="ours.example,all.example")
    rcpt(t, relay, None, "a@a.example",
         ("ani@ours.example", "250"), ("ANI+list@OURS.example", "250"),
         ("nobody@ours.example", "550 5.1.1"), ("ani.@ours.example", "501|550 5.1.1"),
         ("anybody@all.example", "250"), ("ani@other.example", "550 5.7.1"))
    rcpt(t, relay, TRUSTED, "a@a.example", ("nobody@ours.example", "550 5.1.1"))
    with t.submit(relay) as c:
        c.say("MAIL FROM:<ani@ours.example>", "250")
        c.say("RCPT TO:<nobody@ours.example>", "550 5.1.1")


CALL_AHEAD = """
[server]
hostname = "mx.ours.example"
data_dir = "$data"
http_listen = []
[log]
to = "$log"
[[listener]]
name = "mx"
kind = "relay"
listen = ["127.0.0.1:0"]
[relay]
local_domains = ["ours.example"]
[strangers]
sender_domain = "any"
[recipients]
call_ahead = "defer"
[[route]]
name = "store"
to = "SCHEME://$sink"
[delivery]
idle_wait = "30 s"
"""


@case("F17", "the next hop is asked at RCPT, by SMTP and LMTP; its answer is kept", "RFC 5321 §3.3")
def call_ahead(t):
    replies = {"nobody": "550 5.1.1 no such user", "full": "452 4.2.2 mailbox full"}

    def known(_, line):
        local = line.decode().partition("<")[2].partition("@")[0]
        return replies.get(local, "250 2.1.5 ok")

    for scheme in ("smtp", "lmtp"):
        t.note(f"next hop by {scheme}")
        peer = t.peer({"RCPT": known}, lmtp=scheme == "lmtp")
        relay = t.own_relay(toml=CALL_AHEAD.replace("SCHEME", scheme), peer=peer)
        for _ in range(2):
            rcpt(t, relay, None, "a@a.example", ("ani@ours.example", "250"),
                 ("nobody@ours.example", "550 5.1.1"), ("full@ours.example", "250"),
                 ("postmaster@ours.example", "250"))
        lines = [line.decode() for session in peer.sessions for line in session.lines]
        for line in lines:
            t.log("peer", line)
        t.check(sum("RCPT" in line for line in lines) == 3, "each is asked about once")
        t.check("DATA" not in lines, "nothing is handed over")


@case("F17", "where the next hop is down, strangers are told 451, and mail is not returned later",
      "RFC 5321 §3.3")
def next_hop_down(t):
    for policy, reply in (("defer", "451 4.3.0"), ("accept", "250")):
        relay = t.own_relay(f"recipients.call_ahead={policy}", NEXT_HOP="127.0.0.1:1")
        rcpt(t, relay, None, "a@a.example", ("ani@ours.example", reply),
             ("postmaster@ours.example", "250"))


@case("F10", "postmaster and abuse are reached also by who is listed, unknown or comes first",
      "RFC 5321 §4.5.1, RFC 2142 §4")
def always_reached(t):
    source = "127.0.0.36"
    dns = t.dns(SENDER, "2.0.0.127.good.list A 127.0.0.2",
                f"{reversed_octets(source)}.good.list A 127.0.0.2")
    relay = t.own_relay("list.good.zone=good.list", "greylist.enabled=true",
                        "recipients.known=ani@ours.example", peer=t.peer(), DNS_ADDR=dns.place)
    t.wait(lambda: relay.log("ListChanged"), "the list is tested")
    always = [(name, "250") for name in ("postmaster", "PostMaster", "postmaster@ours.example",
                                         "POSTMASTER@OURS.example", "abuse@ours.example")]
    rcpt(t, relay, source, "a@a.example", *always, ("ani@ours.example", "550 5.7.1"))
    rcpt(t, relay, "127.0.0.37", "a@a.example", *always, ("ani@ours.example", "451 4.7.1"),
         ("nobody@ours.example", "550 5.1.1"))
