"""Group L: keys in the DNS, many signatures (RFC 6376 §6.1), and those that we make (L19)."""

import base64
import json
import re
import subprocess
import time

from conformance_kit import TRUSTED, case
from conformance_l_dkim import AUTHOR, DKIM, POLICY, keys, rsa
from conformance_l_world import CLIENT, World, letter, strings
from conformance_signer import Rsa, der, integer, proven, signed, tags_of

OURS = "ours.example"


def rsa_public_key(key):
    """As the RFC has it, and hardly anybody: without the algorithm around it."""
    return der(0x30, integer(key.modulus) + integer(key.exponent))


def spaced(text):
    return " ".join(text[at:at + 40] for at in range(0, len(text), 40))


@case("L16", "a key that is not there, revoked or broken is none; one that the DNS does not tell "
      "may be one", f"{DKIM} §3.6.2, §6.1.2")
def key_records(t):
    good, other = rsa().record(), Rsa("other", 1_024).record()
    half, bare = len(good) // 3, base64.b64encode(rsa_public_key(rsa())).decode()
    world = World(
        t, "revoked._domainkey.a.example TXT v=DKIM1; k=rsa; p=",
        f"cut._domainkey.a.example {strings(good[:half], good[half:2 * half], good[2 * half:])}",
        "alias._domainkey.a.example CNAME real.b.example", f"real.b.example TXT {good}",
        "ring._domainkey.a.example CNAME ring._domainkey.a.example",
        "nothing._domainkey.a.example A 127.0.0.1", "broken._domainkey.a.example SERVFAIL",
        "silent._domainkey.a.example TIMEOUT",
        "text._domainkey.a.example TXT v=spf1 -all",
        f"short._domainkey.a.example TXT p={rsa().public()}",
        f"bare._domainkey.a.example TXT v=DKIM1; k=rsa; p={bare}",
        f"blanks._domainkey.a.example TXT v = DKIM1 ; k = rsa ; p = {spaced(rsa().public())} ;",
        f"UPPER._domainkey.a.example TXT {good}",
        f"two._domainkey.a.example TXT {other}", f"two._domainkey.a.example TXT {good}",
        "three._domainkey.a.example TXT unrelated", f"three._domainkey.a.example TXT {good}",
        f"a.b._domainkey.a.example TXT {good}",
        settings=("dns.query_wait=1 s",))
    for selector, want in (
            ("revoked", "permerror|fail"), ("missing", "permerror|fail"),
            ("nothing", "permerror|fail"), ("cut", "pass"), ("alias", "pass"),
            ("ring", "temperror|permerror|fail"), ("broken", "temperror"), ("silent", "temperror"),
            ("text", "permerror|fail"), ("short", "pass"), ("bare", "pass"),
            ("blanks", "pass"), ("upper", "pass"), ("two", "pass|permerror|fail"),
            ("three", "pass|permerror|fail"), ("a.b", "pass")):
        world.judge(selector, signed(letter(AUTHOR), rsa(), s=selector), f"dkim={want} dmarc=none")
    world.dns.add("_dmarc.c.example TXT v=DMARC1; p=reject")
    world.dns.add("broken._domainkey.c.example SERVFAIL")
    for what, tags, reply in (
            ("mail waits for one that could help", {"s": "broken", "d": "c.example"}, "451 4.4.3"),
            ("not for one that does not exist", {"s": "missing", "d": "c.example"}, "550 5.7.26"),
            ("nor for one of somebody else", {"s": "broken"}, "550 5.7.26")):
        world.judge(what, signed(letter("ani@c.example"), rsa(), **tags), reply=reply)


@case("L17", "of many signatures a few are looked at, and the time that takes has an end",
      f"{DKIM} §6.1, §8.4")
def many(t):
    world = World(t, POLICY, *keys(), f"*._domainkey.junk.example TXT {rsa().record()}")
    good = signed(letter(AUTHOR), rsa())
    one = signed(letter(AUTHOR), rsa(), d="junk.example", s="s0")
    field = one.partition(b"From:")[0]
    junk = b"".join(field.replace(b"s=s0;", f"s=s{at};".encode()) for at in range(1, 100))
    for what, content, want in (
            ("the good one above 99 others", good.replace(b"From:", junk + b"From:", 1), True),
            ("the good one below 99 others", junk + good, False)):
        before, began = len(world.dns.queries), time.monotonic()
        found = world.judge(what, content)
        t.check(time.monotonic() - began < 20, "within 20 seconds")
        results = [entry.result for entry in found.all("dkim")]
        t.check(len(results) <= 10, f"{len(results)} are told")
        asked = {name for name, _ in world.dns.queries[before:] if "_domainkey" in name}
        t.check(len(asked) <= 10, f"{len(asked)} keys are asked for")
        t.check(("pass" in results) == want, f"the good one counts: {want}")
        found.hold("dmarc=pass" if want else "dmarc=fail")
    large = letter(AUTHOR, b"a line of some length  with blanks \r\n" * 20_000)
    simple, relaxed = (signed(large, rsa(), c=f"relaxed/{form}").partition(b"From:")[0]
                       for form in ("simple", "relaxed"))
    began = time.monotonic()
    found = world.judge("a hundred over a large body", (simple + relaxed) * 50 + large)
    t.check({entry.result for entry in found.all("dkim")} == {"pass"}, "those that count are good")
    lines = b"".join(b"X-%d: y\r\n" % (at % 250) for at in range(15_000))
    wide = letter(AUTHOR, more=lines)
    names = "from:" + ":".join(f"x-{at}" for at in range(250))
    one = signed(wide, rsa(), h=names).partition(b"From:")[0]
    world.judge("eight over hundreds of names, and 15,000 fields", one * 8 + wide, "dmarc=pass")
    t.check(time.monotonic() - began < 20, "within 20 seconds")


SIGNING = """
[server]
hostname = "mx.ours.example"
data_dir = "$data"
drain_wait = "1 s"
http_listen = []
[log]
to = "$log"
[spool]
segment_size = "8 MiB"
disk_free_min = "1 MiB"
[relay]
local_domains = ["ours.example"]
networks = ["127.0.0.9"]
[strangers]
sender_domain = "any"
[dns]
servers = ["DNS"]
[[listener]]
name = "mx"
kind = "relay"
listen = ["127.0.0.1:0"]
[[listener]]
name = "submission"
kind = "submission"
listen = ["127.0.0.1:0"]
tls = "starttls"
tls_certificate = "$cert"
tls_key = "$key"
[[credential]]
name = "ani"
password = "$password"
senders = ["ours.example"]
[[route]]
name = "all"
to = "smtp://$sink"
"""


class Signing:
    """A relay that signs for ours.example, and the DNS where its keys are published."""

    def __init__(self, t):
        self.t, self.dns, self.peer, self.count = t, t.dns(), t.peer(), 0
        self.relay = t.own_relay(toml=SIGNING.replace("DNS", self.dns.place), peer=self.peer)
        self.texts = {}
        self.domain("add", OURS)
        self.publish()

    def domain(self, *words):
        command = [self.t.bench.binary, "domain", *words, "--socket",
                   self.relay.data / "control.sock", "--config", self.relay.folder / "merpati.toml"]
        done = subprocess.run(command, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
        self.t.check(b"does not run" not in done.stderr, "the relay takes it up")
        return done.stdout.decode()

    def publish(self):
        """Puts what the relay says into the DNS, and lets it see that."""
        records = json.loads(self.domain("records", OURS, "-o", "json"))["records"]
        for record in records:
            name = record["name"].rstrip(".")
            if record["type"] == "TXT" and name not in self.texts:
                self.texts[name] = record["value"]
                self.dns.add(f"{name} TXT {record['value']}")
        said = self.domain("check", OURS)
        self.t.check("signs from now on" in said, f"new keys sign: {said}")

    def submit(self, what, content):
        """What arrives of a mail of its author."""
        self.count += 1
        recipient = f"l19-{self.count}@{OURS}"
        self.t.note(what)
        with self.t.submit(self.relay) as c:
            c.envelope("ani@ours.example", recipient)
            c.content(content)
        return self.relay.arrived(recipient).content

    def signatures(self, content, want=2):
        found = proven(content, self.texts)
        kinds = sorted(tags["a"] for tags, _ in found)
        self.t.check(kinds == ["ed25519-sha256", "rsa-sha256"][:want], f"signatures: {kinds}")
        return found

    def hold(self, content):
        found = self.signatures(content)
        self.t.check(all(fits for _, fits in found), f"both hold: {content[:3_000]!r}")
        more = proven(content + b"\r\nx\r\n", self.texts)
        self.t.check(not any(fits for _, fits in more), "and for nothing else")
        return found


WHOLE = (b"From: Ani <ani@ours.example>\r\nTo: u@b.example\r\nSubject: x\r\n"
         b"Date: Mon, 30 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@ours.example>\r\n")
MIME = (b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n")


@case("L19", "what an author hands over is signed behind all changes, with RSA and Ed25519",
      f"{DKIM} §5.3, §5.4, RFC 8463 §5")
def signing(t):
    ours, many_addresses = Signing(t), b", ".join([b"someone@b.example"] * 100)
    for what, content in (
            ("a whole mail", WHOLE + b"\r\nhi\r\n"),
            ("no Date and no Message-ID", WHOLE[:WHOLE.index(b"Date")] + b"\r\nhi\r\n"),
            ("8-bit", WHOLE + MIME + "\r\ngrüße\r\n".encode()),
            ("long lines in the body", WHOLE + MIME + b"\r\n" + b"x" * 5_000 + b"\r\n"),
            ("a long line in the header", WHOLE + b"Cc: " + many_addresses + b"\r\n\r\nhi\r\n"),
            ("two To", WHOLE + b"To: v@b.example\r\n\r\nhi\r\n"),
            ("an empty body", WHOLE + b"\r\n"), ("no body", WHOLE),
            ("blanks and empty lines", WHOLE + b"\r\na  b\t \r\n \r\n\r\n\r\n"),
            ("UTF-8 in the header", WHOLE + "Comments: grüße\r\n\r\nhi\r\n".encode()),
            ("a large one", WHOLE + b"\r\n" + b"a line of some length\r\n" * 30_000)):
        ours.hold(ours.submit(what, content))
    content = ours.submit("Bcc", WHOLE + b"Bcc: secret@b.example\r\n\r\nhi\r\n")
    ours.hold(content)
    t.check(b"secret" not in content, "nobody learns of it")
    for tags, _ in ours.hold(ours.submit("how long it is believed", WHOLE + b"\r\nhi\r\n")):
        t.check(int(tags["x"]) - int(tags["t"]) == 14 * 86_400, f"14 days: {tags}")
        t.check(abs(int(tags["t"]) - time.time()) < 600, f"from now on: {tags}")
        t.check(tags["d"] == OURS and "l" not in tags, f"whole, by the author's domain: {tags}")


@case("L13", "nobody can add a field to what we signed, nor another author",
      f"{DKIM} §5.4.2, §8.15")
def over_signed(t):
    ours = Signing(t)
    mails = (("with few fields", WHOLE.replace(b"To: u@b.example\r\n", b"") + b"\r\nhi\r\n"),
             ("with all", WHOLE + b"Cc: c@b.example\r\nReply-To: r@ours.example\r\n" + MIME
              + b"\r\nhi\r\n"))
    names = ("From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "MIME-Version",
             "Content-Type", "Content-Transfer-Encoding")
    for what, content in mails:
        content = ours.submit(what, content)
        ours.hold(content)
        for name in names:
            field = f"{name}: evil@b.example\r\n".encode()
            below = content.replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n", 1)
            for place, forged in (("above", field + content), ("below", below)):
                t.check(not any(fits for _, fits in proven(forged, ours.texts)),
                        f"{name} is added {place} to a mail {what}, and the signature holds")
        trace = b"Received: from a by b; Mon, 30 Nov 2026 12:00:00 +0000\r\nX-Spam: no\r\n"
        t.check(all(fits for _, fits in proven(trace + content, ours.texts)), "hosts may add theirs")
        t.note(f"no field of {', '.join(names)} can be added")


@case("L19", "keys change without one mail that cannot be proven", f"{DKIM} §3.1, RFC 8301 §3.2")
def rotation(t):
    ours = Signing(t)
    selectors = []
    for what in ("before", "once new keys were made", "once they are published"):
        if what != "before":
            ours.domain("rotate", OURS) if "made" in what else ours.publish()
        found = ours.hold(ours.submit(what, WHOLE + b"\r\nhi\r\n"))
        selectors.append({tags["s"] for tags, _ in found})
    t.check(selectors[0] == selectors[1], "what nobody can find yet does not sign")
    t.check(not selectors[1] & selectors[2], "then the new ones do, and they alone")
    for name, text in ours.texts.items():
        if "_domainkey" in name and tags_of(text.encode()).get("k") == "rsa":
            size = len(re.sub(r"[^A-Za-z0-9+/]", "", text.partition("p=")[2])) * 6
            t.check(size > 2_048, f"no key below 2,048 bits: {size}")


@case("L19", "for strangers, and for authors of other domains, nothing is signed; for those of a "
      "domain below it is", f"{DKIM} §5.1")
def not_signed(t):
    ours = Signing(t)
    with t.connect(ours.relay.mx, source=CLIENT) as c:
        c.hello()
        c.envelope("ani@ours.example", "l19-stranger@ours.example")
        c.content(WHOLE + b"\r\nhi\r\n")
    got = ours.relay.arrived("l19-stranger@ours.example").content
    t.check(b"DKIM-Signature" not in got, "a stranger who says to be an author")
    for number, author in enumerate(("x@b.example", "x@xours.example", "x@example",
                                     "x@mail.ours.example")):
        recipient = f"l19-network{number}@ours.example"
        with t.connect(ours.relay.mx, source=TRUSTED) as c:
            c.hello()
            c.envelope("ani@ours.example", recipient)
            c.content(letter(author))
        found = proven(ours.relay.arrived(recipient).content, ours.texts)
        is_ours = author == "x@mail.ours.example"
        t.check([fits for _, fits in found] == [True, True] * is_ours, f"{author}: {found}")
