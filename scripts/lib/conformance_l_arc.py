"""Group L: chains of forwarders (ARC, RFC 8617), and what others sign or encrypt (L32, L35)."""

import re

from conformance_kit import case, elsewhere, missing
from conformance_l_world import PERMITS, World, letter
from conformance_signer import Ed25519, Rsa, sealed, signed

ARC = "RFC 8617"
AUTHOR = "Ani <ani@a.example>"

elsewhere("L29", "174 of the 175 tests of the suite about validation, and all 17 about seals",
          f"{ARC} §5.2", "crates/auth/tests/vectors/arc.rs", "cargo test")
elsewhere("L34", "a forwarded message leaves from an address of ours; a report to it finds who sent "
          "the message, and a forged or old one is refused", "", "crates/relay/tests/srs.rs",
          "cargo test")


def key():
    # Chains of fifty are many signatures.
    return Rsa("l", 1_024)


def chain(content, count, **last):
    """So many sets; the last one with these arguments."""
    for at in range(1, count + 1):
        more = last if at == count else {}
        content = sealed(content, key(), at, "none" if at == 1 else "pass", **more)
    return content


def world_of(t, *records):
    return World(t, f"rsa._domainkey.forwarder.example TXT {key().record()}",
                 f"ed25519._domainkey.forwarder.example TXT {Ed25519('l').record()}", *records)


def renumbered(content, old, new):
    """The set of one instance gets the number of another."""
    return re.sub(rb"(?m)^(ARC-[A-Za-z-]+: i=)%d;" % old, rb"\g<1>%d;" % new, content)


@case("L30", "a chain that is whole passes; one that is not fails, wherever it is broken",
      f"{ARC} §4.1, §5.2")
def chains(t):
    plain = letter(AUTHOR)
    one, two = chain(plain, 1), chain(plain, 2)
    listed = sealed(one.replace(b"Subject: x", b"Subject: [l] x"), key(), 2, "pass")
    above, at, below = two.rpartition(b"; spf=pass")
    results = b"ARC-Authentication-Results: i=1; x.example; none\r\n"
    covers = {"h": "from:to:subject:arc-seal"}
    broken = {
        "a gap": renumbered(two, 2, 3), "no first set": renumbered(one, 1, 2),
        "i=0": renumbered(one, 1, 0),
        "one set twice": re.sub(rb"(?s)\A(ARC-Seal.*?)(From:)", rb"\1\1\2", one),
        "one field twice": results + one,
        "a set without its seal": re.sub(rb"(?s)\AARC-Seal.*?(ARC-Message)", rb"\1", one),
        "a set without its signature": re.sub(
            rb"(?s)ARC-Message-Signature.*?(ARC-Authentication)", rb"\1", one),
        "a set without its results": re.sub(rb"ARC-Authentication-Results[^\r]*\r\n", b"", one),
        "i=51": chain(plain, 51), "cv=fail on top": chain(plain, 2, seal={"cv": "fail"}),
        "cv=fail below": sealed(chain(plain, 2, seal={"cv": "fail"}), key(), 3, "pass"),
        "cv=none above the first": chain(plain, 2, seal={"cv": "none"}),
        "cv=pass at the first": sealed(plain, key(), 1, "pass"),
        "no cv=": chain(plain, 1, seal={"cv": None}),
        "a seal with h=": chain(plain, 1, seal={"h": "from"}),
        "a signature over the seal": chain(plain, 1, signature=covers),
        "the body was changed": one.replace(b"\r\nhi\r\n", b"\r\nho\r\n"),
        "the header was changed": one.replace(b"Subject: x", b"Subject: y"),
        "results were changed": one.replace(b"; spf=pass", b"; spf=fail"),
        "the first results of two": above + at.replace(b"pass", b"fail") + below,
        "a seal by nobody's key": chain(plain, 1, seal={"s": "missing"}),
        "a signature by nobody's key": chain(plain, 1, signature={"s": "missing"}),
        "a seal with SHA-1": chain(plain, 1, seal={"a": "rsa-sha1"}),
        "a tag twice in a seal": chain(plain, 1, seal_more=" cv=none;"),
    }
    world = world_of(t)
    for what, content in {
            "one set": one, "two": two, "three": chain(plain, 3), "fifty": chain(plain, 50),
            "a body with empty lines": chain(letter(AUTHOR, b"hi\r\n\r\n\r\n"), 2),
            "simple/simple": chain(
                letter(AUTHOR, b"a  b \r\n"), 1, signature={"c": "simple/simple"}),
            "Ed25519": sealed(one, Ed25519("l"), 2, "pass"),
            # Only the newest signature must still fit.
            "a list changed the subject": listed}.items():
        world.judge(what, content, "arc=pass")
    found = world.judge("no chain", plain)
    t.check([entry.result for entry in found.all("arc")] in ([], ["none"]), "there is none")
    for what, content in broken.items():
        world.judge(what, content, "arc=fail")


@case("L30", "a key of a forwarder that the DNS does not tell is no pass", f"{ARC} §5.2")
def unanswered(t):
    world = World(t, "rsa._domainkey.forwarder.example SERVFAIL")
    found = world.judge("SERVFAIL", chain(letter(AUTHOR), 1))
    t.check("pass" not in [entry.result for entry in found.all("arc")], "and not a pass")


@case("L30", "what comes with a chain goes on with it, and gets no seal of ours", f"{ARC} §5.1")
def unsealed(t):
    world = world_of(t)
    for what, content in (("a good chain", chain(letter(AUTHOR), 2)),
                          ("a broken one", renumbered(chain(letter(AUTHOR), 2), 2, 3))):
        # `judge` holds the mail to what was sent, octet for octet.
        world.judge(what, content)


@case("L31", "what a forwarder says does not prove an author", "draft-ietf-dmarc-arc-to-historic")
def no_override(t):
    results = "mx.ours.example; spf=pass; dkim=pass header.d=a.example; dmarc=pass"
    records = (f"forwarder.example TXT {PERMITS}", "_dmarc.b.example TXT v=DMARC1; p=quarantine")
    world = world_of(t, "_dmarc.a.example TXT v=DMARC1; p=reject", *records)
    content = chain(letter(AUTHOR), 1, results=results)
    world.judge("a chain that holds, and says that the author is proven", content,
                reply="550 5.7.26", sender="list@forwarder.example")
    world.judge("where the policy is softer", chain(letter("ani@b.example"), 1, results=results),
                "arc=pass dmarc=fail", sender="list@forwarder.example")
    world.dns.add(f"rsa._domainkey.a.example TXT {key().record()}")
    own = {"d": "a.example"}
    world.judge("a seal of the author's own domain is no signature of his",
                chain(letter(AUTHOR), 1, signature=own, seal=own), reply="550 5.7.26")


@case("L32", "DKIM2 passes through untouched, and nothing is said of it",
      "draft-ietf-dkim-dkim2-spec")
def dkim2(t):
    world = world_of(t, f"rsa._domainkey.a.example TXT {key().record()}")
    fields = (b"DKIM2-Signature: i=1; m=1; t=1764500000; d=a.example; s=rsa:rsa-sha256:YQ==;\r\n"
              b"\tmf=YW5pQGEuZXhhbXBsZQ==; rt=dUBvdXJzLmV4YW1wbGU=\r\n"
              b"Message-Instance: m=1; h=sha256:YQ==:YQ==\r\n")
    names = "from:dkim2-signature:message-instance"
    for what, content, want in (
            ("alone", fields + letter(AUTHOR), "dkim=none"),
            ("above a signature", fields + signed(letter(AUTHOR), key()), "dkim=pass"),
            ("signed too", signed(fields + letter(AUTHOR), key(), h=names), "dkim=pass")):
        found = world.judge(what, content, want)
        t.check({entry.method for entry in found.entries} == {"iprev", "spf", "dkim", "dmarc"},
                "no other method")


LONG = b"x" * 3_000 + b"\r\n"
INNER = (b"Content-Type: text/plain; charset=utf-8; hp=clear\r\nSubject: x\r\n"
         b"HP-Outer: Subject: x\r\n\r\n")


@case("L35", "what is signed or encrypted by its author keeps every octet",
      "RFC 8551 §3.5, RFC 3156 §5, RFC 9788 §2")
def signed_and_encrypted(t):
    header = (b"From: Ani <ani@ours.example>\r\nTo: u@b.example\r\nSubject: x\r\n"
              b"Date: Mon, 30 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@ours.example>\r\n"
              b"MIME-Version: 1.0\r\n")
    parts = {
        "PGP, signed": (b"multipart/signed; micalg=pgp-sha256; "
                        b'protocol="application/pgp-signature"; boundary=b',
                        b"--b\r\n" + INNER + LONG + b"trailing  \r\n\xc3\xbc\r\n--b\r\n"
                        b"Content-Type: application/pgp-signature\r\n\r\nAAAA\r\n--b--\r\n"),
        "PGP, encrypted": (b'multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b',
                           b"--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
                           b"--b\r\nContent-Type: application/octet-stream\r\n\r\n" + LONG
                           + b"--b--\r\n"),
        "S/MIME, signed": (b"multipart/signed; micalg=sha-256; "
                           b'protocol="application/pkcs7-signature"; boundary=b',
                           b"--b\r\n" + INNER + LONG + b"--b\r\n"
                           b"Content-Type: application/pkcs7-signature\r\n\r\nAAAA\r\n--b--\r\n"),
        "S/MIME, opaque": (b"application/pkcs7-mime; smime-type=enveloped-data",
                           LONG + b"AAAA\r\n\r\n\r\n"),
    }
    relay = t.relay()
    for number, (what, (kind, body)) in enumerate(parts.items()):
        content = header + b"Content-Type: " + kind + b"\r\n\r\n" + body
        for way in ("relay", "submission"):
            recipient = f"l35-{number}-{way}@ours.example"
            t.note(f"{what}, by {way}")
            with t.submit(relay) if way == "submission" else t.connect(relay.mx) as c:
                if way == "relay":
                    c.hello()
                c.envelope("ani@ours.example", recipient)
                c.content(content)
            got = relay.arrived(recipient).content
            t.check(got.endswith(b"\r\n" + content), f"{what}: every octet is kept: {got[:1_000]!r}")
