"""Group B, the server's half: line endings, smuggling, BDAT (RFC 5321 §2.3.8, §4.5.2, RFC 3030)."""

import functools
import pathlib
import re
import ssl

from conformance_kit import TRUSTED, case, escaped

HEAD = b"Subject: x\r\n\r\n"
SMUGGLED = (b"MAIL FROM:<smuggled@b.example>\r\nRCPT TO:<smuggled@ours.example>\r\nDATA\r\n"
            b"Subject: smuggled\r\n\r\nx\r\n.\r\n")
# Between a text and commands each of them looks like the end of the data to somebody.
SEQUENCES = {
    "B1": b"\n.\n", "B2": b"\n.\r\n", "B3": b"\r\n.\n", "B4": b"\r.\r", "B5": b"\r.\r\n",
    "B6": b"\r\n.\r", "B7": b"\n.\r", "B8": b"\r.\n",
    "B9": b"\r\n.\r\r\n", "B10": b"\r\r\n.\r\r\n", "B11": b"\r\n\0.\r\n", "B12": b"\r\n.\0\r\n",
    "B13": b"\r\0\n.\r\n", "B14": b"\r\n.\r\0\n", "B15": b"\n\n.\n", "B16": b"\r\n. \r\n",
    "B17": b"\r\n .\r\n", "B18": b"\r\n..\r\n", "B19": b"\r\n\n.\n",
    "B20": b"\x0b.\x0b", "B21": b"\x0c.\x0c", "B22": b"\xc2\x85.\xc2\x85",
    "B23": b"\xe2\x80\xa8.\xe2\x80\xa8", "B24": b"\x8d\x8a.\x8d\x8a",
}
NEIGHBOURS = [
    b"\r\n\n.\r\n", b"\r\n.\n\r", b"\n\r.\n\r", b"\n\r\n.\n", b"\n\r.\r\n", b"\r\n.\t\r\n",
    b"\r\n\t.\r\n", b"\r\n\x08.\r\n", b"\r\n.\x1a\r\n", b"\r\n.\x7f\r\n", b"\r\n\x0b.\r\n",
    b"\r\n.\x0b\r\n", b"\r\n.\x0c\r\n", b"\xe2\x80\xa9.\xe2\x80\xa9", b"\x85.\x85", b"\x1c.\x1c",
    b"\x1d.\x1d", b"\x1e.\x1e", b"\r\n\xef\xbb\xbf.\r\n", b"\r\n\xe2\x80\x8b.\r\n",
    b"\r\n\xef\xbc\x8e\r\n", b"\r\n\xae\r\n", b"\r\n...\r\n", b"\r\n.\r.\r\n", b"\r\n.\n.\r\n",
    b"\r\n\r.\r\n", b"\r\n..\n", b"\n..\n", b"\0\n.\r\n", b"\r\n.\r\0", b"\n.\0\n", b"\r\0.\r\0",
    b"\r\n=2E\r\n", b"\r\n%2E\r\n", b"\r\n\\.\r\n", b"\r\n.", b"\r.", b"\n.", b"\r\n.\r\r\n.\n",
    b"\r\n.\\r\\n", b"\r\n.\xc2\xa0\r\n", b"\r\n\xc0\xae\r\n", b"\xc4\x8d\xc4\x8a.\xc4\x8d\xc4\x8a",
]


def smuggle(t, octets, whole, source=None, one_by_one=False):
    """Sends it as content: one reply, the session in step, no second message; the reply."""
    with t.connect(t.relay().mx, source=source) as c:
        c.hello()
        c.envelope("a@b.example", "b-victim@ours.example")
        c.say("DATA", "354")
        message = HEAD + b"text" + octets + SMUGGLED
        if one_by_one:
            t.note("the same content, an octet in each segment")
            for octet in message:
                c.send(bytes([octet]), quiet=True)
        else:
            c.send(message)
        found = c.reply("250 2.0.0|550 5.6.0|550 5.5.2|554 5.6.0")
        # Whatever stands behind the sequence was content: this is the reply to NOOP.
        c.say("NOOP", "250 2.0.0")
        c.silent(0.05)
        return found


def check_out(t):
    """Nothing that was ever sent on ends early for anybody, and nothing was smuggled."""
    peer = t.relay().peer
    t.check(not peer.mails_to("smuggled@ours.example"), "nothing smuggled arrived")
    for mail in list(peer.ended):
        bare = re.search(rb"(?<!\r)\n|\r(?!\n)|\0", mail.wire)
        t.check(not bare, f"bare octets went out: {escaped(mail.wire[-400:])}")


def look_alike(octets, t):
    one = smuggle(t, octets, True)
    two = smuggle(t, octets, True, source=TRUSTED)
    three = smuggle(t, octets, True, one_by_one=True)
    t.check(one.code == two.code == three.code, "the verdict depends on the octets alone")
    check_out(t)


for row, sequence in SEQUENCES.items():
    case(row, f"`{escaped(sequence)}` does not end the data", "RFC 5321 §4.1.1.4")(
        functools.partial(look_alike, sequence))


@case("B19", "no other sequence near CR LF . CR LF ends the data", "RFC 5321 §4.1.1.4")
def neighbours(t):
    for sequence in NEIGHBOURS:
        smuggle(t, sequence, True)
    check_out(t)


@case("B14", "no sequence of the public lists ends the data", "RFC 5321 §4.1.1.4")
def public_lists(t):
    """They lie beside the checkout, and not everywhere; without them the rest is enough."""
    path = pathlib.Path(__file__).resolve().parents[3] / "shared/vectors/smuggling"
    path = path / "eod-sequences.yaml"
    if path.exists():
        for digits in re.findall(r'hex: "([0-9a-f]+)"', path.read_text()):
            quiet = type(t).__new__(type(t))
            quiet.__dict__ |= t.__dict__ | {"lines": []}
            try:
                smuggle(quiet, bytes.fromhex(digits), True)
            except Exception:
                t.lines += quiet.lines
                raise
    check_out(t)
    t.note("each sequence of ../shared/vectors/smuggling, where that is, is one message or none")


@case("B3", "the same sequences end nothing on the submission port, in TLS records of their own",
      "RFC 5321 §4.1.1.4")
def look_alikes_in_tls(t):
    c = t.submit(t.relay())
    for sequence in SEQUENCES.values():
        c.say("MAIL FROM:<ani@ours.example>", "250")
        c.say("RCPT TO:<b-victim@ours.example>", "250")
        c.say("DATA", "354")
        c.send(HEAD + b"text", sequence, SMUGGLED)
        c.reply("250 2.0.0|550 5.6.0")
        c.say("NOOP", "250")
    check_out(t)


@case("B25", "the true end is found however it is cut into segments, once", "RFC 5321 §4.1.1.4")
def cut(t):
    end = b"\r\n.\r\n"
    with t.connect(t.relay().mx) as c:
        c.hello()
        cuts = [[1], [2], [3], [4], [1, 2, 3, 4], [1, 3], [2, 4], [2, 3]]
        for at, places in enumerate(cuts):
            c.envelope("a@b.example", f"b25-{at}@ours.example")
            c.say("DATA", "354")
            pieces = [end[a:b] for a, b in zip([0, *places], [*places, len(end)])]
            c.send(HEAD + b"text", *pieces)
            c.reply("250 2.0.0")
            c.silent(0.02)
        c.say("QUIT", "221")
    for at in range(len(cuts)):
        content = t.relay().arrived(f"b25-{at}@ours.example").content
        t.check(content.endswith(HEAD + b"text\r\n"), "it arrived whole")


@case("B25", "the true end is found where it straddles buffers and TLS records",
      "RFC 5321 §4.1.1.4")
def straddling(t):
    end = b"\r\n.\r\n"
    c = t.submit(t.relay())
    for size in (4_096, 8_192, 16_384, 32_768, 65_536, 131_072):
        for shift in range(6):
            c.say("MAIL FROM:<ani@ours.example>", "250")
            c.say(f"RCPT TO:<b25-{size}-{shift}@ours.example>", "250")
            c.say("DATA", "354")
            body = (HEAD + b"x" * 61 + b"\r\n") * (size // 76)
            message = body + b"y" * (size - shift - len(body)) + end
            c.send(message[:size], message[size:] or b"")
            c.reply("250 2.0.0")
    t.relay().arrived("b25-131072-5@ours.example")
    check_out(t)


@case("B26", "a lone dot right after 354 is the empty message", "RFC 5321 §4.1.1.4")
def empty(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        for pieces in ([b".\r\n"], [b".", b"\r", b"\n"], [b".\r", b"\n"], [b"\r\n.\r\n"]):
            c.envelope("a@b.example", "b26@ours.example")
            c.say("DATA", "354")
            c.send(*pieces)
            c.reply("250 2.0.0|554 5.6.0")
            c.silent(0.02)
        c.say("NOOP", "250")


@case("B27", "a NUL beside the true end changes nothing about its being the end",
      "RFC 5321 §4.1.1.4")
def nul_beside_end(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.envelope("a@b.example", "b27@ours.example")
        c.say("DATA", "354")
        c.send(HEAD + b"text\0\r\n.\r\n")
        c.reply("250 2.0.0|550 5.6.0")
        c.say("NOOP", "250 2.0.0")
        c.envelope("a@b.example", "b27@ours.example")
        c.say("DATA", "354")
        c.send(HEAD + b"text\r\n.\r\n\0")
        c.reply("250 2.0.0")
        c.send(b"\r\n")
        c.reply("500 5.5.2")
        c.say("NOOP", "250 2.0.0")
    check_out(t)


@case("B28", "a command that ends in a bare LF is refused, and nothing behind it is run",
      "RFC 5321 §2.3.8")
def bare_lf(t):
    for octets in (b"NOOP\n", b"NOOP\nNOOP\r\n", b"\n", b"MAIL FROM:<a@b.example>\n",
                   b"NOOP\n\r\n", b"NOOP\r\n\nNOOP\r\n"):
        with t.connect(t.relay().mx) as c:
            c.hello()
            c.send(octets)
            if octets.startswith(b"NOOP\r\n"):
                c.reply("250 2.0.0")
            c.reply("500 5.5.2")
            c.closed()
    with t.connect(t.relay().mx, source=TRUSTED) as c:
        c.reply("220")
        c.send(b"EHLO x\nMAIL FROM:<a@b.example>\nRCPT TO:<b28@ours.example>\nDATA\n"
               b"Subject: x\n\nx\n.\nQUIT\n")
        c.reply("500 5.5.2")
        c.closed()


@case("B29", "a bare CR in a command is refused, once", "RFC 5321 §2.3.8")
def bare_cr(t):
    with t.connect(t.relay().mx, source=TRUSTED) as c:
        c.hello()
        c.say("MAIL FROM:<a@b.example>", "250")
        for octets in (b"RSET\rRCPT TO:<b29@ours.example>\r\n", b"RCPT TO:<b29@ours.example>\rRSET\r\n",
                       b"NOOP\r\r\n", b"\rNOOP\r\n", b"\r\r\n", b"DATA\r\r\n",
                       b"RCPT TO:<b29\r@ours.example>\r\n", b"RCPT TO:<b29@ours\r.example>\r\n"):
            c.send(octets)
            c.reply("5xx")
            c.silent(0.02)
        c.say("DATA", "503 5.5.1|554 5.5.1")


@case("B30", "a NUL in a command is refused; nothing is cut off there", "RFC 5321 §4.1.1")
def nul(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        for octets in (b"NOOP\0\r\n", b"\0NOOP\r\n", b"NO\0OP\r\n", b"NOOP x\0y\r\n", b"\0\r\n",
                       b"EHLO x\0y\r\n", b"MAIL FROM:<a@b.example>\0\r\n",
                       b"MAIL FROM:<a\0@b.example>\r\n", b"MAIL FROM:<a@b.example\0>\r\n",
                       b"MAIL FROM:<a@b.example> SIZE=1\0\r\n"):
            c.send(octets)
            c.reply("5xx")
        c.say("MAIL FROM:<a@b.example>", "250")
        for octets in (b"RCPT TO:<u@other.example\0@ours.example>\r\n",
                       b"RCPT TO:<u@ours.example\0@other.example>\r\n",
                       b"RCPT TO:<u@ours.example>\0\r\n", b"RCPT TO:<\0u@ours.example>\r\n",
                       b'RCPT TO:<"u\0"@ours.example>\r\n', b"RCPT TO:<u@ours.example\0>\r\n",
                       b'RCPT TO:<"u\\\0"@ours.example>\r\n'):
            c.send(octets)
            c.reply("5xx")
        c.say("DATA", "503 5.5.1|554 5.5.1")


@case("B31", "in a line of 100 kB no dot is taken for the beginning of a line",
      "RFC 5321 §4.5.3.1.6")
def long_line(t):
    sizes = (510, 512, 996, 997, 998, 999, 1_000, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536)
    line = bytearray(b"x" * 100_000)
    for size in sizes:
        for octet in range(size - 3, size + 4):
            line[octet] = ord(".")
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.envelope("a@b.example", "b31@ours.example")
        c.say("DATA", "354")
        c.send(HEAD + bytes(line) + b"\r\n.\r\n")
        taken = c.reply("250 2.0.0|500 5.6.0|552 5.6.0|554 5.6.0").code == 250
        c.silent(0.05)
        c.say("NOOP", "250")
    if taken:
        mail = t.relay().arrived("b31@ours.example")
        t.check(mail.content.endswith(HEAD + bytes(line) + b"\r\n"), "the line arrived as it is")
    check_out(t)


@case("B32", "dots that were doubled come out as they went in, doubled once on the wire",
      "RFC 5321 §4.5.2")
def stuffed(t):
    lines = [b"..", b"...", b"..x", b".. ", b"....", b"x..", b" ..", b"..\t", b"x.", b"..x..", b"x"]
    sent = b"\r\n".join(lines) + b"\r\n"
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.envelope("a@b.example", "b32@ours.example")
        c.say("DATA", "354")
        c.send(HEAD + sent + b".\r\n")
        c.reply("250 2.0.0")
        c.envelope("a@b.example", "b32-bit@ours.example")
        c.say("DATA", "354")
        t.note("the same content, an octet in each segment")
        for octet in HEAD + sent + b".\r\n":
            c.send(bytes([octet]), quiet=True)
        c.reply("250 2.0.0")
    meant = re.sub(rb"^\.", b"", sent, flags=re.M)
    for recipient in ("b32@ours.example", "b32-bit@ours.example"):
        mail = t.relay().arrived(recipient)
        t.check(mail.content.endswith(HEAD + meant), "byte for byte")


@case("B32", "a line with one dot before text is content without it", "RFC 5321 §4.5.2")
def unstuffed(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.envelope("a@b.example", "b32-one@ours.example")
        c.say("DATA", "354")
        c.send(HEAD + b".x\r\n. \r\n.\t.\r\n.\r\n")
        c.reply("250 2.0.0")
    mail = t.relay().arrived("b32-one@ours.example")
    t.check(mail.content.endswith(HEAD + b"x\r\n \r\n\t.\r\n"), "one dot less")


@case("B48", "BDAT LAST takes octets as they are: no dot is removed, none ends anything",
      "RFC 3030 §2")
def bdat(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.envelope("a@b.example", "b48@ours.example")
        c.send(b"BDAT 7 LAST\r\n..x\r\n\r\n")
        c.reply("250 2.0.0")
        content = HEAD + b".\r\n..\r\n.x\r\n"
        c.envelope("a@b.example", "b48-dots@ours.example")
        c.send(b"BDAT %d LAST\r\n" % len(content) + content)
        c.reply("250 2.0.0")
        c.envelope("a@b.example", "b48-case@ours.example")
        c.send(b"bdat %d last\r\n" % len(content), content)
        c.reply("250 2.0.0")
        c.envelope("a@b.example", "b48-open@ours.example")
        c.send(b"BDAT %d LAST\r\n" % (len(HEAD) + 4) + HEAD + b"text")
        c.reply("250 2.0.0")
    t.check(t.relay().arrived("b48-dots@ours.example").content.endswith(content), "as it is")
    t.check(t.relay().arrived("b48-case@ours.example").content.endswith(content), "as it is")
    t.relay().arrived("b48-open@ours.example")


@case("B49", "commands in a chunk are content", "RFC 3030 §2")
def commands_in_chunk(t):
    content = HEAD + b"text\r\n.\r\n" + SMUGGLED + b"QUIT\r\n"
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.envelope("a@b.example", "b49@ours.example")
        c.send(b"BDAT %d LAST\r\n" % len(content) + content)
        c.reply("250 2.0.0")
        c.silent(0.05)
        c.say("NOOP", "250")
    t.check(t.relay().arrived("b49@ours.example").content.endswith(content), "as it is")
    check_out(t)


@case("B50", "the octets of a chunk that is out of sequence are swallowed", "RFC 3030 §2")
def swallowed(t):
    chunk = b"RSET\r\nMAIL FROM:<smuggled@b.example>\r\nQUIT\r\n"
    last = [b"", b" LAST"]
    with t.connect(t.relay().mx) as c:
        c.reply("220")
        for word in last:
            c.send(b"BDAT %d%s\r\n" % (len(chunk), word) + chunk)
            c.reply("503 5.5.1")
        c.say("EHLO x", "250")
        for word in last:
            c.send(b"BDAT %d%s\r\n" % (len(chunk), word), chunk)
            c.reply("503 5.5.1")
        c.say("MAIL FROM:<a b@b.example>", "501 5.1.7")
        c.send(b"BDAT %d\r\n" % len(chunk) + chunk)
        c.reply("503 5.5.1")
        c.say("MAIL FROM:<a@b.example>", "250")
        c.send(b"BDAT %d LAST\r\n" % len(chunk) + chunk)
        c.reply("503 5.5.1|554 5.5.1")
        c.say("RCPT TO:<u@other.example>", "550 5.7.1")
        c.send(b"BDAT %d LAST\r\n" % len(chunk) + chunk)
        c.reply("503 5.5.1|554 5.5.1")
        c.send(b"BDAT 0 LAST\r\n")
        c.reply("503 5.5.1|554 5.5.1")
        c.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<x@other.example>\r\nBDAT 9 LAST\r\nNOOP x\r\nYNOOP\r\n")
        c.reply("503 5.5.1|250", "550 5.7.1", "503 5.5.1|554 5.5.1", "250 2.0.0")
        c.say("RSET", "250")
        c.envelope("a@b.example", "b50@ours.example")
        c.content(HEAD)
    t.relay().arrived("b50@ours.example")
    check_out(t)


@case("B51", "a count that is none is refused at once, and nothing is waited for or allocated",
      "RFC 3030 §2")
def counts(t):
    for count in ("abc", "-1", "+5", "", "5 FIRST", str(2**64 + 5), "9" * 20, "9" * 400, "5 LAST LAST",
                  "5 LASTX", "0x10", "1e3", "5,5", "5.0", "LAST", "LAST 5", " ", "٥", "5\tLAST",
                  str(2**63), str(2**64 - 1), str(2**32), "18446744073709551615 LAST"):
        with t.connect(t.relay().mx) as c:
            c.hello()
            c.envelope("a@b.example", "b51@ours.example")
            c.send(b"BDAT " + count.encode() + b"\r\n")
            found = c.reply("501 5.5.4|552 5.3.4|501 5.5.2")
            t.note("then it closes, for nobody knows what comes next")
            c.closed()
            t.check(found.code in (501, 552), "refused")
    t.check(t.relay().memory() < 1 << 30, "nothing was allocated for it")


@case("B51", "a count with zeros before it is a number", "RFC 3030 §2")
def zeros(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.envelope("a@b.example", "b51-zeros@ours.example")
        c.send(b"BDAT 00016  LAST\r\n" + HEAD + b"\r\n")
        c.reply("250 2.0.0|501 5.5.4")


@case("B52", "DATA after BDAT is 503; BDAT after LAST is 503 and swallowed; RSET starts afresh",
      "RFC 3030 §2")
def order(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.envelope("a@b.example", "b52@ours.example")
        c.send(b"BDAT 14\r\n" + HEAD)
        c.reply("250 2.0.0")
        c.say("DATA", "503 5.5.1")
        c.say("RCPT TO:<b52-late@ours.example>", "503 5.5.1")
        c.say("MAIL FROM:<c@d.example>", "503 5.5.1")
        c.send(b"BDAT 6 LAST\r\ntext\r\n")
        c.reply("250 2.0.0")
        c.send(b"BDAT 6 LAST\r\nQUIT\r\n")
        c.reply("503 5.5.1")
        for reset in (b"RSET\r\n", b"EHLO x\r\n"):
            c.envelope("a@b.example", "b52-never@ours.example")
            c.send(b"BDAT 6\r\ngone\r\n")
            c.reply("250 2.0.0")
            c.send(reset)
            c.reply("250")
            c.send(b"BDAT 6 LAST\r\nQUIT\r\n")
            c.reply("503 5.5.1")
        c.envelope("a@b.example", "b52-next@ours.example")
        c.send(b"BDAT 20 LAST\r\n" + HEAD + b"next\r\n")
        c.reply("250 2.0.0")
        c.envelope("a@b.example", "b52-data@ours.example")
        c.content(HEAD + b"data\r\n")
    relay = t.relay()
    t.check(relay.arrived("b52@ours.example").content.endswith(HEAD + b"text\r\n"), "two chunks")
    t.check(relay.arrived("b52-next@ours.example").content.endswith(HEAD + b"next\r\n"), "clean")
    t.check(relay.arrived("b52-data@ours.example").content.endswith(HEAD + b"data\r\n"), "clean")
    t.check(not relay.peer.mails_to("b52-never@ours.example"), "what was reset is gone")


@case("B53", "chunks of three octets, pipelined, and an empty last one give the content",
      "RFC 3030 §2, RFC 2920")
def small_chunks(t):
    content = HEAD + b"a\r\n.\r\n..\r\nb\r\n"
    pieces = [content[at:at + 3] for at in range(0, len(content), 3)]
    with t.connect(t.relay().mx) as c:
        c.hello()
        for ending in ("b53", "b53-slow"):
            c.envelope("a@b.example", f"{ending}@ours.example")
            chunks = [b"BDAT %d\r\n" % len(piece) + piece for piece in pieces] + [b"BDAT 0 LAST\r\n"]
            c.send(*([b"".join(chunks)] if ending == "b53" else chunks))
            c.reply(*["250 2.0.0"] * len(chunks))
        c.envelope("a@b.example", "b53-zero@ours.example")
        c.send(b"BDAT 0\r\nBDAT 0\r\nBDAT 14\r\n" + HEAD + b"BDAT 0\r\nBDAT 3 LAST\r\na\r\n")
        c.reply(*["250 2.0.0"] * 5)
        c.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<b53-pipe@ours.example>\r\nBDAT 14\r\n" + HEAD
               + b"BDAT 3 LAST\r\na\r\nMAIL FROM:<a@b.example>\r\nNOOP\r\n")
        c.reply("250 2.1.0", "250 2.1.5", "250 2.0.0", "250 2.0.0", "250 2.1.0", "250 2.0.0")
    for recipient in ("b53", "b53-slow"):
        mail = t.relay().arrived(f"{recipient}@ours.example")
        t.check(mail.content.endswith(content), "byte for byte")
    t.check(t.relay().arrived("b53-zero@ours.example").content.endswith(HEAD + b"a\r\n"), "whole")


@case("B54", "a bare CR, a bare LF and a NUL in a chunk are refused", "RFC 3030 §2")
def bare_in_chunk(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        for bare in (b"a\nb", b"a\rb", b"\n", b"\r", b"a\0b", b"a\r\r\nb", b"a\n\r\nb", b"\n.\n", b"a\r"):
            c.envelope("a@b.example", "b54@ours.example")
            content = HEAD + bare + (b"\r\n" if bare != b"a\r" else b"")
            c.send(b"BDAT %d LAST\r\n" % len(content) + content)
            c.reply("550 5.6.0|554 5.6.0")
            c.say("NOOP", "250")
        # In the first chunk of two: the second is swallowed whatever is said to it.
        c.envelope("a@b.example", "b54@ours.example")
        c.send(b"BDAT 4\r\na\nb\n")
        c.reply("550 5.6.0|250 2.0.0")
        c.send(b"BDAT 6 LAST\r\nQUIT\r\n")
        c.reply("550 5.6.0|503 5.5.1")
        c.say("RSET", "250")
        # A CR at the end of a chunk and its LF in the next are one line end.
        c.envelope("a@b.example", "b54-cut@ours.example")
        c.send(b"BDAT 13\r\n" + HEAD[:-1] + b"BDAT 1\r\n\nBDAT 2\r\na\rBDAT 1 LAST\r\n\n")
        c.reply(*["250 2.0.0"] * 4)
    content = t.relay().arrived("b54-cut@ours.example").content
    t.check(content.endswith(HEAD + b"a\r\n"), "byte for byte")
    check_out(t)


@case("B55", "a message that grows past the limit is 552, and later chunks are swallowed",
      "RFC 3030 §2, RFC 1870 §6")
def beyond_limit(t):
    relay = t.relay(MAX_SIZE=100_000)
    chunk = b"BDAT 40000\r\n" + b"Subject: x\r\n\r\n".ljust(39_998, b"x") + b"\r\n"
    more = b"BDAT 40000\r\n" + (b"QUIT\r\n" * 6_666 + b"ABCD")
    with t.connect(relay.mx) as c:
        c.hello()
        for declared in ("", " SIZE=99999"):
            c.envelope(f"<a@b.example>{declared}", "b55@ours.example")
            c.send(chunk)
            c.reply("250 2.0.0")
            c.send(more)
            c.reply("250 2.0.0")
            c.send(more)
            c.reply("552 5.3.4")
            c.send(more)
            c.reply("552 5.3.4|503 5.5.1")
            c.send(b"BDAT 6 LAST\r\nQUIT\r\n")
            c.reply("552 5.3.4|503 5.5.1")
            c.say("RSET", "250 2.0.0")
        c.envelope("a@b.example", "b55@ours.example")
        c.send(b"BDAT 100001 LAST\r\n" + b"NOOP\r\n" * 16_666 + b"ABCDE")
        c.reply("552 5.3.4")
        c.envelope("a@b.example", "b55-next@ours.example")
        c.send(b"BDAT 20 LAST\r\n" + HEAD + b"next\r\n")
        c.reply("250 2.0.0")
    relay.arrived("b55-next@ours.example")
    t.check(not relay.peer.mails_to("b55@ours.example"), "nothing of the long ones")


@case("B56", "a connection cut inside a chunk delivers nothing", "RFC 3030 §2, RFC 5321 §4.1.1.10")
def cut_in_chunk(t):
    content = HEAD + b"text\r\n"
    for octets in (b"BDAT 100 LAST\r\n" + content, b"BDAT 20\r\n" + content + b"BDAT 6 LAST\r\nte",
                   b"BDAT 20\r\n" + content, b"BDAT 20\r\n" + content + b"BDAT 5 LA"):
        with t.connect(t.relay().mx) as c:
            c.hello()
            c.envelope("a@b.example", "b56@ours.example")
            c.send(octets)
        t.note("the client closes")
    t.check(not t.relay().peer.mails_to("b56@ours.example"), "nothing arrived")


@case("B56", "what comes in the clear behind the end of TLS is not read", "RFC 8446 §6.1")
def clear_behind_tls(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.starttls()
        c.hello(greeting=False)
        c.envelope("a@b.example", "b56-tls@ours.example")
        c.send(b"BDAT 100 LAST\r\n" + HEAD)
        raw = close_notify(c)
        t.note("close_notify, then in the clear")
        try:
            raw.sendall(b"x" * 86 + b"\r\nNOOP\r\nMAIL FROM:<smuggled@b.example>\r\n")
        except OSError:
            pass
        octets = b""
        try:
            while piece := raw.recv(65_536):
                octets += piece
        except OSError:
            pass
        t.check(b"250" not in octets and b"221" not in octets, "no reply in the clear")
    with t.connect(t.relay().mx) as c:
        c.hello()
    t.check(not t.relay().peer.mails_to("b56-tls@ours.example"), "nothing arrived")
    check_out(t)


def close_notify(client):
    """Ends TLS from this side; the bare socket below it."""
    stream = client.socket
    stream.settimeout(3)
    try:
        raw = stream.unwrap()
    except (ssl.SSLError, OSError):
        import socket
        raw = socket.socket(fileno=stream.detach())
    raw.settimeout(3)
    client.socket = raw
    return raw
