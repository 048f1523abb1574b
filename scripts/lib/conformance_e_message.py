"""Groups E and G, what concerns contents: long lines of authors, enormous headers, deep nesting."""

import base64
import quopri
import re
import struct
import time
import zlib

from conformance_h import WHOLE, below_received, relayed, submitted
from conformance_kit import case

MIME = b"MIME-Version: 1.0\r\n"


def body_of(content):
    return content.split(b"\r\n\r\n", 1)[1]


def decoded(content):
    """The body of a message of one part, decoded."""
    header, body = content.split(b"\r\n\r\n", 1)
    found = re.search(rb"(?im)^Content-Transfer-Encoding: *(\S+)", header)
    encoding = found[1].lower() if found else b""
    if encoding == b"base64":
        return base64.b64decode(body)
    return quopri.decodestring(body) if encoding == b"quoted-printable" else body


@case("E4", "long lines of authors are encoded, and nothing of the text is lost", "RFC 5322 §2.1.1")
def long_lines(t):
    base = base64.b64encode(bytes(range(256)) * 200)
    for number, (header, body) in enumerate([
            (b"", b"x" * 999 + b"\r\n"),
            (b"", b"short\r\n" + b"word " * 400 + b"end\r\n.\r\n"),
            (MIME + b"Content-Type: text/html; charset=utf-8\r\n"
             b"Content-Transfer-Encoding: 8bit\r\n", "é<p>".encode() * 5_000 + b"\r\n"),
            (MIME + b"Content-Transfer-Encoding: quoted-printable\r\n", b"=C3=A9-" * 2_000 + b"\r\n"),
            (MIME + b"Content-Transfer-Encoding: BASE64\r\n", base + b"\r\n"),
            (b"", b"y" * 400_000 + b"\r\n")]):
        content = WHOLE + header + b"\r\n" + body
        want = decoded(content)
        with t.submit(t.relay()) as c:
            c.envelope("<ani@ours.example> BODY=8BITMIME", f"e4-long{number}@ours.example")
            c.say("DATA", "354")
            c.send(re.sub(rb"(?m)^\.", b"..", content) + b".\r\n")
            c.reply("250 2.0.0")
        got = t.relay().arrived(f"e4-long{number}@ours.example").content
        t.check(max(map(len, got.split(b"\r\n"))) <= 998, f"no long line: {number}")
        t.check(decoded(got) == want, f"the same text: {number}")
        t.check(WHOLE in got, "the header is the same but for the encoding")


@case("E4", "what is signed or encrypted keeps its lines, also the long ones", "RFC 1847 §2.1, RFC 9788")
def signed(t):
    long = b"x" * 1_500 + b"\r\n"
    signature = (b"\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\n-----BEGIN PGP SIGNATURE"
                 b"-----\r\n--s--\r\n")
    protected = b"Content-Type: text/plain; hp=\"clear\"\r\nSubject: secret\r\nHP-Outer: Subject: [...]\r\n"
    bodies = {
        "pgp": (b"Content-Type: multipart/signed; boundary=s; micalg=pgp-sha256; "
                b"protocol=\"application/pgp-signature\"\r\n",
                b"--s\r\n" + protected + b"\r\n" + long + signature),
        "encrypted": (b"Content-Type: multipart/encrypted; boundary=s; "
                      b"protocol=\"application/pgp-encrypted\"\r\n",
                      b"--s\r\nContent-Type: application/octet-stream\r\n\r\n" + long + b"--s--\r\n"),
        "smime": (b"Content-Type: application/pkcs7-mime; smime-type=signed-data\r\n"
                  b"Content-Transfer-Encoding: binary\r\n", long),
        "x-smime": (b"Content-Type: application/x-pkcs7-mime; name=smime.p7m\r\n", long),
        "inside": (b"Content-Type: multipart/mixed; boundary=m\r\n",
                   b"--m\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\n" + long +
                   signature + b"--m--\r\n"),
        "dkim": (b"DKIM-Signature: v=1; a=rsa-sha256; d=x; s=y; h=From; bh=z; b=z\r\n", long),
    }
    for name, (header, body) in bodies.items():
        content = WHOLE + MIME + header + b"\r\n" + body
        got = submitted(t, content, f"e4-{name}@ours.example")
        t.check(below_received(t, got) == content, f"octet for octet: {name}")


@case("E4", "parts are encoded one by one", "RFC 2045 §6.4")
def parts(t):
    head = WHOLE + MIME + b"Content-Type: multipart/mixed; boundary=\"b b\"\r\n\r\npreamble\r\n"
    short = b"--b b\r\nContent-Type: text/plain\r\n\r\nshort \r\n"
    long = b"--b b\r\nContent-Type: text/plain\r\n\r\n" + b"-" * 2_000 + b"\r\n"
    end = b"--b b--\r\nepilogue\r\n"
    got = submitted(t, head + short + long + short + end, "e4-parts@ours.example")
    got = below_received(t, got)
    t.check(got.startswith(head + short) and got.endswith(short + end), "the others are the same")
    middle = got[len(head + short):-len(short + end)]
    t.check(decoded(middle[len(b"--b b\r\n"):]) == b"-" * 2_000 + b"\r\n", "the text is the same")
    t.check(max(map(len, got.split(b"\r\n"))) <= 998, "no line is long")


@case("E4", "long header fields of authors are folded at blanks, or refused", "RFC 5322 §2.2.3")
def long_fields(t):
    words = b"word " * 400
    got = submitted(t, WHOLE + b"Subject: " + words + b"end\r\n\r\nhi\r\n", "e4-field@ours.example")
    header = got.split(b"\r\n\r\n")[0]
    t.check(max(map(len, header.split(b"\r\n"))) <= 998, "no line is long")
    t.check(b"Subject: " + words + b"end" in header.replace(b"\r\n", b""), "unfolded it is the same")
    people = b",".join(b"p%d@x.example" % n for n in range(300))
    got = submitted(t, WHOLE + b"To: " + people + b"\r\n\r\nhi\r\n", "e4-to@ours.example")
    header = got.split(b"\r\n\r\n")[0]
    t.check(max(map(len, header.split(b"\r\n"))) <= 998, "no line is long")
    t.check(b"To: " + people in header.replace(b"\r\n ", b""), "everybody is there")
    submitted(t, WHOLE + b"Subject: " + b"x" * 999 + b"\r\n\r\nhi\r\n", "e4-x@ours.example", "550 5.6.0")
    content = b"Subject: " + words + b"\r\nX: " + b"x" * 2_000 + b"\r\n\r\nhi\r\n"
    got = relayed(t, content, "e4-relay@ours.example")
    t.check(below_received(t, got) == content, "a relay leaves them as they are")


@case("E4", "an operator may set the longest line", "RFC 5321 §4.5.3.1.6")
def limit(t):
    relay = t.own_relay("listener.mx.line_length_max=998")
    relayed(t, b"\r\n" + b"x" * 998 + b"\r\n", "e4-998@ours.example", relay=relay)
    relayed(t, b"\r\n" + b"x" * 999 + b"\r\n", "e4-999@ours.example", pattern="550 5.6.0", relay=relay)


HEADERS = {
    "fields": lambda n: b"".join(b"X-%d: x\r\n" % at for at in range(n * 1_000)),
    "octets": lambda n: (b"X-Long: " + b"y" * 900 + b"\r\n") * (n * 110),
    "folds": lambda n: b"X-Folded:" + b"\r\n fold" * (n * 500) + b"\r\n",
    "field": lambda n: b"X-Wide: " + b"z" * (n * 30_000) + b"\r\n",
    "parentheses": lambda n: b"To: " + b"(" * (n * 5_000) + b" a@b.example\r\n",
    "closed": lambda n: b"Cc: " + b"(" * (n * 5_000) + b")" * (n * 5_000) + b"\r\n",
    "quotes": lambda n: b"To: " + b"\"" * (n * 5_000 + 1) + b"\r\n",
    "words": lambda n: b"Subject: " + b"=?utf-8?q?" * (n * 1_000) + b"\r\n",
    "groups": lambda n: b"To: " + b"g:" * (n * 2_000) + b";\r\n",
    "froms": lambda n: b"From: " + b"a@b.example," * (n * 200) + b"a@b.example\r\n",
    "results": lambda n: b"Authentication-Results: mx.ours.example; none\r\n" * (n * 500),
}


@case("E7", "enormous headers are passed on or refused, in linear time", "RFC 5321 §4.5.3.1")
def enormous(t):
    for name, make in HEADERS.items():
        spent = []
        for size in (1, 10):
            content = make(size) + b"Subject: x\r\n\r\nhi\r\n"
            began = time.monotonic()
            with t.connect(t.relay().mx) as c:
                c.hello()
                c.envelope("a@b.example", f"e7-{name}-{size}@ours.example")
                taken = c.content(content, "250 2.0.0|552 5.3.4|554 5.6.0").code == 250
                c.say("NOOP", "250")
            spent.append(time.monotonic() - began)
            if taken:
                got = t.relay().arrived(f"e7-{name}-{size}@ours.example").content
                want = content if name != "results" else b"Subject: x\r\n\r\nhi\r\n"
                t.check(got.endswith(b"\r\n" + want), f"octet for octet: {name}")
        # Ten times the octets: a hundred times the time would be quadratic. A machine that is busy
        # may need a second for anything.
        t.check(spent[1] < max(40 * spent[0], 2), f"{name}: {spent}")


@case("E7", "enormous headers of authors are mended or refused, in linear time", "RFC 6409 §8")
def enormous_submission(t):
    for name, make in HEADERS.items():
        for size in (1, 10):
            content = WHOLE + make(size) + b"Subject: x\r\n\r\nhi\r\n"
            with t.submit(t.relay()) as c:
                c.envelope("ani@ours.example", f"e7s-{name}-{size}@ours.example")
                c.content(content, "250 2.0.0|552 5.3.4|550 5.6.0|550 5.7.1|554 5.6.0")
                c.say("NOOP", "250")


def nested(depth):
    head = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n)
                    for n in range(depth))
    return MIME + head + b"\r\n" + b"x" * 1_200 + b"\r\n" + b"".join(
        b"\r\n--b%d--\r\n" % n for n in reversed(range(depth)))


CONTENTS = {
    "depth": nested(2_000),
    "messages": MIME + b"Content-Type: message/rfc822\r\n\r\n" * 2_000 + b"x" * 1_200 + b"\r\n",
    "parts": MIME + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n\r\n" * 20_000 +
             b"--b\r\n\r\n" + b"x" * 1_200 + b"\r\n--b--\r\n",
    "boundary": MIME + b"Content-Type: multipart/mixed;\r\n boundary=\"" + b"b" * 900 + b"\"\r\n\r\n--" +
                b"b" * 900 + b"\r\n\r\n" + b"x" * 1_200 + b"\r\n--" + b"b" * 900 + b"--\r\n",
    "dashes": MIME + b"Content-Type: multipart/mixed; boundary=-\r\n\r\n" + b"--" * 100_000 + b"\r\n",
    "rfc2231": MIME + b"Content-Type: text/plain;\r\n" + b"".join(
        b" name*%d=x;\r\n" % n for n in range(10_000)) + b" a=b\r\n\r\n" + b"x" * 1_200 + b"\r\n",
}


@case("E8", "deep nesting, many parts and many parameters are passed on", "RFC 2046 §5.1")
def deep(t):
    for name, content in CONTENTS.items():
        began = time.monotonic()
        got = relayed(t, content, f"e8-{name}@ours.example")
        t.check(below_received(t, got) == content, f"octet for octet: {name}")
        # Here their long lines are looked for a part of which could be encoded.
        got = submitted(t, WHOLE + content, f"e8s-{name}@ours.example", "250|550 5.6.0|554 5.6.0")
        t.check(time.monotonic() - began < 20, f"{name}: soon")


@case("E8", "the same for a next hop without 8BITMIME", "RFC 6152 §3")
def deep_seven_bit(t):
    peer = t.peer({"EHLO": b"250-hop.example\r\n250 SIZE 104857600\r\n"})
    relay = t.own_relay(peer=peer)
    for name, content in CONTENTS.items():
        content = content.replace(b"x" * 1_200, b"\xe9" * 600)
        with t.connect(relay.mx) as c:
            c.hello()
            c.envelope("<a@b.example> BODY=8BITMIME", f"e8-7-{name}@ours.example")
            c.content(content, "250 2.0.0")
    with t.connect(relay.mx) as c:
        c.hello()
        c.envelope("a@b.example", "e8-7-last@ours.example")
        c.content(b"Subject: x\r\n\r\nhi\r\n")
    relay.arrived("e8-7-last@ours.example")
    t.wait(lambda: not [one for one in relay.queue() if "e8-7-" in str(one)], "all are done with")


def wrapped(octets, times):
    """The octets in base64, that in base64, and so on, all in lines of 76."""
    for _ in range(times):
        octets = base64.encodebytes(octets)
    return octets.replace(b"\n", b"\r\n")


def gzip_of_zeros(matches):
    """One zero and 258 more for each match (RFC 1951 §3.2.6, RFC 1952), the same with any library."""
    match = "11000101" + "00000"
    bits = "1" + "10" + "00110000" + match * matches + "0000000"
    deflated = int(bits[::-1], 2).to_bytes(-(-len(bits) // 8), "little")
    zeros = bytes(1 + 258 * matches)
    head = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    return head + deflated + struct.pack("<II", zlib.crc32(zeros), len(zeros))


def bombs():
    """Contents that grow by far for who unpacks them, each a part beside a line that needs encoding."""
    for name, kind, packed in [("gzip", b"application/gzip", wrapped(gzip_of_zeros(500_000), 1)),
                               ("base64", b"text/plain", wrapped(b"x" * 10_000, 20))]:
        part = b"\r\n".join([b"Content-Type: " + kind, b"Content-Transfer-Encoding: base64", b"", packed])
        yield name, part, (MIME + b"Content-Type: multipart/mixed; boundary=bomb\r\n\r\n--bomb\r\n" +
                           part + b"\r\n--bomb\r\n\r\n" + b"x" * 1_200 + b"\r\n--bomb--\r\n")


@case("E9", "nothing is unpacked: what would blow up goes through as it is", "bounds")
def unpacked(t):
    relay = t.own_relay()
    before = relay.memory()
    for name, part, content in bombs():
        got = relayed(t, content, f"e9-{name}@ours.example", relay=relay)
        t.check(below_received(t, got) == content, f"octet for octet: {name}")
        # Here the part beside it is encoded, and so all are looked at.
        got = submitted(t, WHOLE + content, f"e9s-{name}@ours.example", relay=relay)
        t.check(part in got and b"x" * 1_200 not in got, f"the packed part is the same: {name}")
    t.check(relay.memory() - before < 64 << 20, "memory stays flat")


@case("G13", "8-bit fields without SMTPUTF8 are passed on as they are", "RFC 6532, RFC 6152")
def eight_bit_header(t):
    content = ("Subject: Grüße\r\nFrom: Jörg <a@b.example>\r\nTo: ü@ours.example\r\n".encode() +
               b"X-Latin: J\xf6rg\r\n\r\nhi\r\n")
    got = relayed(t, content, "g13@ours.example")
    t.check(below_received(t, got) == content, "octet for octet")
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.envelope("<a@b.example> BODY=8BITMIME", "g13-8@ours.example")
        c.content(content)
        c.say("NOOP", "250")
    got = t.relay().arrived("g13-8@ours.example").content
    t.check(below_received(t, got) == content, "with BODY=8BITMIME too")
