"""Group H: what becomes of the header, and of everything else in a message (docs/messages.md)."""

import re

from conformance_kit import TRUSTED, case

DATE = b"Date: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
# A header to which nothing is missing.
WHOLE = b"From: Ani <ani@ours.example>\r\n" + DATE + b"Message-ID: <1@ours.example>\r\n"
RECEIVED = re.compile(
    rb"Received: from (\S+) \((?:(\S+) )?\[127\.0\.0\.1\]\)\r\n\tby mx\.ours\.example with (\S+) "
    rb"id ([0-9A-Z]{13})(?:\r\n\t\([^\r\n]*\))?(?:\r\n\tfor (\S+))?;\r\n\t"
    rb"\w{3}, \d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d \+0000\r\n")


def relayed(t, content, *recipients, pattern="250 2.0.0", source=None, relay=None):
    """Hands it over on port 25; what came out for the first recipient, or None."""
    relay = relay or t.relay()
    with t.connect(relay.mx, source=source) as c:
        c.hello()
        c.envelope("a@b.example", *recipients)
        if c.content(content, pattern).code != 250:
            return None
    return relay.arrived(recipients[0]).content


def submitted(t, content, recipient, pattern="250 2.0.0", sender="ani@ours.example", relay=None):
    """The same on port 587, as an author."""
    relay = relay or t.relay()
    with t.submit(relay) as c:
        c.envelope(sender, recipient)
        if c.content(content, pattern).code != 250:
            return None
    return relay.arrived(recipient).content


def below_received(t, content):
    """What stands below the one Received field that is ours."""
    found = RECEIVED.match(content)
    t.check(found, f"one Received of ours on top of {content[:400]!r}")
    return content[found.end():]


def field(content, name):
    """The values of all fields of this name."""
    header = content.split(b"\r\n\r\n")[0] + b"\r\n"
    return re.findall(rb"(?im)^" + name + rb"[ \t]*:((?:[^\r\n]|\r\n[ \t])*)\r\n", header)


@case("H1", "exactly one Received field is put on top, in full", "RFC 5321 §4.4")
def received(t):
    relay = t.relay()
    content = relayed(t, b"Subject: h1\r\n\r\nhi\r\n", "h1@ours.example")
    found = RECEIVED.match(content)
    t.check(found, f"a whole Received field: {content[:300]!r}")
    t.check(found[1] == b"client.example" and found[3] == b"ESMTP", "from and with")
    t.check(found[5] == b"<h1@ours.example>", "for, with a single recipient")
    t.check(content[found.end():] == b"Subject: h1\r\n\r\nhi\r\n", "and nothing else")
    two = relayed(t, b"Subject: h1\r\n\r\nhi\r\n", "h1-a@ours.example", "h1-b@ours.example")
    t.check(RECEIVED.match(two) and RECEIVED.match(two)[5] is None, "nobody learns of another")
    with t.connect(relay.mx) as c:
        c.reply("220")
        c.say("HELO old.example", "250")
        c.envelope("a@b.example", "h1-helo@ours.example")
        c.content(b"\r\nhi\r\n")
    helo = RECEIVED.match(relay.arrived("h1-helo@ours.example").content)
    t.check(helo and helo[3] == b"SMTP" and helo[1] == b"old.example", "with SMTP after HELO")
    with t.connect(relay.mx) as c:
        c.hello()
        c.starttls()
        c.hello(greeting=False)
        c.envelope("a@b.example", "h1-tls@ours.example")
        c.content(b"\r\nhi\r\n")
    tls = RECEIVED.match(relay.arrived("h1-tls@ours.example").content)
    t.check(tls and tls[3] == b"ESMTPS", "with ESMTPS over TLS (RFC 3848)")
    content = submitted(t, WHOLE + b"\r\nhi\r\n", "h1-auth@ours.example")
    t.check(RECEIVED.match(content)[3] == b"ESMTPSA", "with ESMTPSA after AUTH")


@case("H2", "everything below it is what came in, octet for octet", "RFC 5321 §6.4")
def octets(t):
    content = (
        b"Return-Path: <x@y.example>\r\nDate: yesterday\r\nDate: today\r\nTO:a@x,\r\n\tb@x \r\n"
        b"Subject:\r\n folded \r\n\t \t\r\n   oddly\t \r\nX-Empty:\r\nX-Empty: \r\nx-empty :\r\n"
        b"X-8bit: J\xc3\xb6rg \xe9\xff\r\nX-Tabs:\t\ta\t\tb\t\t\r\nBcc: kept@ours.example\r\n"
        b"To: second@x\r\nMessage-ID: none\r\n\r\n \r\n..\r\n\t\r\n\r\n=3D=\r\n\xc0\xaf\xfe \r\n\r\n")
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.envelope("<a@b.example> BODY=8BITMIME", "h2@ours.example")
        c.say("DATA", "354")
        c.send(content.replace(b"\r\n..\r\n", b"\r\n...\r\n") + b".\r\n")
        c.reply("250 2.0.0")
    t.check(below_received(t, t.relay().arrived("h2@ours.example").content) == content, "the same")
    for name, source in (("h2-trusted", TRUSTED), ("h2-stranger", None)):
        got = relayed(t, content, f"{name}@ours.example", source=source)
        t.check(got.endswith(content.replace(b"\r\n..\r\n", b"\r\n.\r\n")), f"the same: {name}")


def canonical_body_hash(body):
    import base64
    import hashlib
    return base64.b64encode(hashlib.sha256(body.rstrip(b"\r\n") + b"\r\n").digest())


@case("H3", "what is hashed for a DKIM signature, simple and relaxed, is the same at the next hop",
      "RFC 6376 §3.4")
def signed(t):
    # The signature itself, with a key and dkimpy: scripts/lib/interop_dkim.py.
    body = b"Hi \t there\r\n\r\n.hidden\r\n \r\n\r\n\r\n"
    hashed = canonical_body_hash(body)
    for port, name in (("25", "h3-relay"), ("587", "h3-submission")):
        content = (b"DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=ours.example; s=x;\r\n"
                   b"\th=From :  To:Subject : Date; bh=" + hashed + b";\r\n\tb=" + b"A" * 200 +
                   b"\r\n" + WHOLE + b"To:  B@x ,\r\n  c@x\r\nSubject:  two  blanks \r\n\r\n" + body)
        wire = content.replace(b"\r\n.hidden", b"\r\n..hidden")
        if port == "25":
            got = relayed(t, wire, f"{name}@ours.example")
        else:
            got = submitted(t, wire, f"{name}@ours.example")
        t.check(below_received(t, got) == content, f"octet for octet on port {port}")
        t.check(canonical_body_hash(got.split(b"\r\n\r\n", 1)[1]) == hashed, "the body hash fits")


@case("H4", "90 Received fields pass, 150 are a loop", "RFC 5321 §6.3")
def hops(t):
    one = b"Received: from a.example by b.example with ESMTP id 1; Thu, 1 Jan 2026 00:00:00 +0000\r\n"
    for count, pattern in ((30, "250"), (50, "250"), (90, "250"), (100, "250"), (101, "554 5.4.6"),
                           (150, "554 5.4.6"), (500, "554 5.4.6")):
        t.note(f"{count} Received fields")
        relayed(t, one * count + b"Subject: x\r\n\r\nhi\r\n", f"h4-{count}@ours.example",
                pattern=pattern)
        submitted(t, one * count + WHOLE + b"\r\nhi\r\n", f"h4s-{count}@ours.example", pattern)
    # Folded, in any case, with blanks before the colon.
    odd = b"received :\r\n from a\r\n\tby b; x\r\n"
    relayed(t, odd * 101 + b"\r\nhi\r\n", "h4-odd@ours.example", pattern="554 5.4.6")
    relayed(t, b"\r\n" + one * 150, "h4-body@ours.example")


@case("H5", "what was delivered to its mailbox before goes round", "RFC 9228 §4")
def delivered_to(t):
    store = t.peer(lmtp=True)
    hop, port = store.place.rsplit(":", 1)
    relay = t.own_relay(toml=f"""
        [server]
        data_dir = "$data"
        hostname = "mx.ours.example"
        http_listen = []
        [log]
        to = "off"
        [relay]
        local_domains = ["ours.example"]
        [strangers]
        sender_domain = "any"
        [[listener]]
        name = "mx"
        kind = "relay"
        listen = ["127.0.0.1:0"]
        [[route]]
        name = "store"
        to = "lmtp://{hop}:{port}"
    """, peer=store)
    for content in (b"Delivered-To: h5@ours.example\r\n\r\nhi\r\n",
                    b"Subject: x\r\ndelivered-to:\r\n <H5@OURS.example>\r\n\r\nhi\r\n",
                    b"X-Loop: h5@ours.example\r\n\r\nhi\r\n"):
        relayed(t, content, "h5@ours.example", pattern="554 5.4.6", relay=relay)
    for name, content in (
            ("other", b"Delivered-To: another@ours.example\r\n\r\nhi\r\n"),
            ("body", b"Subject: x\r\n\r\nDelivered-To: h5-body@ours.example\r\n")):
        got = relayed(t, content, f"h5-{name}@ours.example", relay=relay)
        t.check(got.endswith(content), "others are delivered")


@case("H6", "a hostile EHLO name forges no syntax in Received", "RFC 5321 §4.4")
def hostile_name(t):
    names = [b"x) by evil; (a\"b", b"x\\", b"(((", b"<a@b>", b"x\x07y", b"x\x7fy", b"a" * 255,
             b"x;date", b"\"x\"", b"[127.0.0.1", b"x\xc3\xa9\xff"]
    for number, name in enumerate(names):
        with t.connect(t.relay().mx) as c:
            c.reply("220")
            if c.say(b"EHLO " + name, "250|501").code == 501:
                continue
            c.envelope("a@b.example", f"h6-{number}@ours.example")
            c.content(b"Subject: x\r\n\r\nhi\r\n")
        content = t.relay().arrived(f"h6-{number}@ours.example").content
        t.check(RECEIVED.match(content), f"whole: {content[:200]!r}")
        t.check(below_received(t, content) == b"Subject: x\r\n\r\nhi\r\n", "nothing more")


@case("H7", "From, Date and Message-ID are added on submission, and nothing on port 25",
      "RFC 6409 §8")
def missing_fields(t):
    content = b"Subject: h7\r\n\r\nhi\r\n"
    got = relayed(t, content, "h7-relay@ours.example")
    t.check(below_received(t, got) == content, "untouched on port 25")
    got = submitted(t, content, "h7@ours.example")
    t.check(field(got, b"From") == [b" ani@ours.example"], "From is the reverse-path")
    t.check(re.fullmatch(rb" \w{3}, \d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d \+0000",
                         *field(got, b"Date")), "a Date")
    t.check(re.fullmatch(rb" <[^<>@ ]+@mx\.ours\.example>", *field(got, b"Message-ID")),
            "a Message-ID in our name")
    t.check(got.endswith(content), "below them what came in")
    got = submitted(t, WHOLE + content, "h7-whole@ours.example")
    t.check(below_received(t, got) == WHOLE + content, "a whole header is left alone")
    with t.submit(t.relay()) as c:
        c.envelope("", "h7-nobody@ours.example")
        c.content(content, "550 5.6.0")


@case("H7", "a malformed Date or Message-ID is replaced on submission", "RFC 6409 §8.2, §8.3")
def malformed(t):
    for number, (date, name) in enumerate([
            (b"now", b"<1@x>"), (b"2026-01-01T00:00:00Z", b"<1@x>"), (b"", b"<1@x>"),
            (b"Thu, 1 Jan 2026 00:00:00 +0000", b"12"), (b"1 Jan 26 00:00 GMT", b"<12>")]):
        content = (b"From: ani@ours.example\r\nDate: " + date + b"\r\nMessage-ID: " + name +
                   b"\r\n\r\nhi\r\n")
        got = submitted(t, content, f"h7-bad{number}@ours.example")
        [date_now], [name_now] = field(got, b"Date"), field(got, b"Message-ID")
        t.check((date_now == b" " + date) == (b"Jan" in date), f"Date: {date!r}")
        t.check((name_now == b" " + name) == (b"@" in name), f"Message-ID: {name!r}")
        got = relayed(t, content, f"h7-rel{number}@ours.example")
        t.check(below_received(t, got) == content, "untouched on port 25")


@case("H8", "Bcc does not leave a submission, and its recipients get their copies", "RFC 5322 §3.6.3")
def blind_copies(t):
    content = (b"Bcc: h8-hidden@ours.example\r\n" + WHOLE + b"bcc :\r\n <h8-hidden@ours.example>,\r\n"
               b"\tx@y\r\nTo: h8@ours.example\r\nResent-Bcc: x@y\r\nReturn-Path: <x@y>\r\n"
               b"Resent-Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nResent-Message-ID: <r@ours.example>\r\n"
               b"Resent-From: ani@ours.example\r\n\r\nBcc: body\r\n")
    with t.submit(t.relay()) as c:
        c.envelope("ani@ours.example", "h8@ours.example", "h8-hidden@ours.example")
        c.content(content)
    for recipient in ("h8@ours.example", "h8-hidden@ours.example"):
        got = t.relay().arrived(recipient).content
        t.check(not field(got, b"(?:Resent-)?Bcc") and not field(got, b"Return-Path"), "removed")
        t.check(b"hidden" not in got.split(b"\r\n\r\n")[0], "nothing tells of it")
        t.check(got.endswith(b"\r\n\r\nBcc: body\r\n") and WHOLE in got, "the rest is there")
    got = relayed(t, b"Bcc: x@y\r\n\r\nhi\r\n", "h8-relay@ours.example")
    t.check(below_received(t, got) == b"Bcc: x@y\r\n\r\nhi\r\n", "a relay leaves it alone")


@case("H9", "a Return-Path from outside stays in mail that is passed on", "RFC 5321 §4.4")
def return_path(t):
    content = b"Return-Path: <old@b.example>\r\nSubject: x\r\n\r\nhi\r\n"
    got = relayed(t, content, "h9@ours.example")
    t.check(below_received(t, got) == content, "kept, and none is added")


@case("H10", "a body without header, and a binary one, come through as bodies", "RFC 5322 §2.1")
def headerless(t):
    for number, (body, is_body) in enumerate([
            (b"hello\r\n", True), (b"hello world: x\r\nX: y\r\n", True), (b" folded\r\n", True),
            (b": x\r\n", True), (b"\r\nhello\r\n", False), (b"", False), (b"\r\n", False),
            (bytes(o for o in range(1, 256) if o not in b"\r\n.") + b"\r\n", True),
            (b"\xff\xfe\x01\x02\x7f\r\n" * 40, True)]):
        got = below_received(t, relayed(t, body, f"h10-{number}@ours.example"))
        # The empty line in front keeps readers from taking a line of the body for a field.
        t.check(got == (b"\r\n" if is_body else b"") + body, f"the body is the body: {body[:20]!r}")
        got = submitted(t, body, f"h10s-{number}@ours.example")
        t.check(got.endswith(b"\r\n\r\n" + body if is_body else body), "on submission too")
        t.check(len(field(got, b"From")) == 1, "and there it gets a header")
    relayed(t, b"Subject: x\r\n\r\n\0\r\n", "h10-nul@ours.example", pattern="250|550 5.6.0|554 5.6.0")


@case("H11", "two recipients at one host share a transaction, and one named twice gets one copy",
      "RFC 5321 §4.1.1.3")
def duplicates(t):
    relay = t.relay()
    recipients = ["h11-a@ours.example", "h11-b@ours.example", "h11-a@ours.example",
                  "h11-a@OURS.example"]
    relayed(t, b"Subject: x\r\n\r\nhi\r\n", *recipients)
    mail = relay.arrived("h11-a@ours.example")
    t.check(len(mail.recipients) == 2, f"both in one transaction, each once: {mail.recipients}")
    t.check(relay.arrived("h11-b@ours.example") is mail, "the same transaction")


@case("H12", "dates in Received and Date do not matter to delivery", "RFC 5321 §4.4")
def dates(t):
    for number, date in enumerate([b"Thu, 1 Jan 1970 00:00:00 +0000", b"Tue, 31 Dec 2099 23:59:59 "
                                   b"+0000", b"1 Jan 0001 00:00:00 -9999", b"never", b""]):
        content = (b"Received: from a by b; " + date + b"\r\nDate: " + date + b"\r\n\r\nhi\r\n")
        got = relayed(t, content, f"h12-{number}@ours.example")
        t.check(below_received(t, got) == content, "passed on at once")


@case("H13", "a message with more than one From is refused", "RFC 5322 §3.6")
def two_froms(t):
    for header in (b"From: a@b.example\r\nFrom: c@d.example\r\n",
                   b"From: a@b.example\r\nSubject: x\r\nfrom : c@d.example\r\n",
                   b"From: a@b.example\r\nFROM:\r\n c@d.example\r\n",
                   b"From: a@b.example\r\nFrom: a@b.example\r\n",
                   b"From: a@b.example\r\nno field\r\nFrom: c@d.example\r\n",
                   b"From: a@b.example\r\n\xc3\xbc: x\r\nFrom: c@d.example\r\n"):
        relayed(t, header + b"\r\nhi\r\n", "h13@ours.example", pattern="550 5.6.0")
        submitted(t, header + DATE + b"\r\nhi\r\n", "h13@ours.example", "550 5.6.0|550 5.7.1")
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.envelope("a@b.example", "h13@ours.example")
        c.content(b"From: a@b.example\rFrom: c@d.example\r\n\r\nhi\r\n", "550 5.6.0|554 5.6.0")


@case("H13", "a From in which readers find another author is refused", "RFC 5322 §3.6.2, RFC 9989")
def other_authors(t):
    for value in (b": a@b.example, c@d.example", b": Team: a@b.example;", b": Team:;",
                  b" : a@b.example", b": =?utf-8?q?boss=40bank.example?= <a@b.example>"):
        relayed(t, b"From" + value + b"\r\nSubject: x\r\n\r\nhi\r\n", "h13o@ours.example",
                pattern="550 5.6.0|550 5.7.1")
    for number, value in enumerate((b": a@b.example, c@b.example", b": a@b.example (x) <a@b.example>",
                                    b": Shop ,_<a@b.example>", b": J\xf6rg <a@b.example>", b":")):
        content = b"From" + value + b"\r\nSubject: x\r\n\r\nhi\r\n"
        got = relayed(t, content, f"h13o-{number}@ours.example")
        t.check(below_received(t, got) == content, f"octet for octet: {value!r}")


@case("H13", "on submission From plainly names its author", "RFC 5322 §3.6.2, RFC 6409 §8.1")
def one_author(t):
    for value in (b": ani@ours.example, x@y.example", b": Team: ani@ours.example;", b": Team:;", b":",
                  b": ani", b" : ani@ours.example", b": ani@ours.example <ani@ours.example",
                  b": (ani@ours.example", b": <ani@ours.example> x@ours.example",
                  b": =?utf-8?q?boss=40ours.example?= <ani@ours.example>",
                  b": =?utf-8?B?Ym9zc0BiYW5rLmV4YW1wbGU=?= <ani@ours.example>",
                  b": =?utf-8?q?ani=40ours.example?="):
        submitted(t, b"From" + value + b"\r\n" + DATE + b"\r\nhi\r\n", "h13s@ours.example",
                  "550 5.6.0|550 5.7.1")
    for number, value in enumerate((b"Ani <ani@ours.example>", b"\"A, B\" <ani@ours.example>",
                                    b"=?utf-8?q?An=C3=AD?=\r\n <ani@ours.example> (x (y))")):
        content = WHOLE.replace(b"Ani <ani@ours.example>", value) + b"\r\nhi\r\n"
        got = submitted(t, content, f"h13-ok{number}@ours.example")
        t.check(below_received(t, got) == content, "and then it is left alone")
    two = WHOLE.replace(b"Ani <ani@ours.example>", b"ani@ours.example, ben@ours.example") + b"\r\nhi\r\n"
    got = submitted(t, two, "h13-two@ours.example")
    t.check(field(got, b"Sender") == [b" ani@ours.example"] and got.endswith(two), "a Sender is added")


@case("H13", "fields that stand twice are refused on submission, or joined", "RFC 5322 §3.6, §4.5.3")
def repeated(t):
    for name in (b"Sender", b"Reply-To", b"Subject", b"Date", b"Message-ID", b"Content-Type"):
        twice = name + b": a@ours.example\r\n" + name + b": b@ours.example\r\n"
        submitted(t, b"From: ani@ours.example\r\n" + twice + b"\r\nhi\r\n", "h13r@ours.example",
                  "550 5.6.0")
    got = submitted(t, WHOLE + b"To: a@x\r\nSubject: x\r\nto: b@x\r\nSubject: x\r\n\r\nhi\r\n",
                    "h13-joined@ours.example")
    t.check(field(got, b"To") == [b" a@x,\r\n b@x"] and field(got, b"Subject") == [b" x"], "joined")


@case("H14", "odd lines in a header: it ends there, and a relay passes all of it on",
      "RFC 5322 §2.2")
def odd_lines(t):
    for number, line in enumerate([
            b"X" * 1_000 + b": x", b"J\xc3\xb6rg: x", b": x", b"no colon", b"a b: x", b"\xff\xfe",
            b"X" * 900, b"From x Thu Jan  1 00:00:00 2026", b"\x01: x", b"X-A\t : x"]):
        content = b"Subject: h14\r\n" + line + b"\r\nTo: b@x\r\n\r\nhi\r\n"
        got = relayed(t, content, f"h14-{number}@ours.example")
        t.check(below_received(t, got) == content, f"octet for octet: {line[:20]!r}")
        is_field = re.match(rb"[!-9;-~]+[ \t]*:", line)
        # Its author is told, as long as it is clear that the header goes on.
        submitted(t, WHOLE + line + b"\r\nTo: b@x\r\n\r\nhi\r\n", f"h14s-{number}@ours.example",
                  "250|550 5.6.0" if is_field else "550 5.6.0")
    got = submitted(t, WHOLE + b"hi there\r\nbye\r\n", "h14-body@ours.example")
    t.check(below_received(t, got) == WHOLE + b"\r\nhi there\r\nbye\r\n", "the empty line is added")


@case("H14", "results that strangers write in our name are removed", "RFC 8601 §5")
def forged_results(t):
    other = b"Authentication-Results: mx.ours.example.evil; spf=pass\r\n"
    ours = [b"Authentication-Results: mx.ours.example; spf=pass\r\n",
            b"authentication-results :\r\n (x) MX.Ours.EXAMPLE 1;\r\n\tdkim=pass\r\n",
            b"AUTHENTICATION-RESULTS: \"mx.ours.example\"; none\r\n"]
    content = b"Subject: x\r\n".join(ours) + other + b"\r\n" + ours[0]
    got = relayed(t, content, "h14-ar@ours.example")
    want = b"Subject: x\r\n" * 2 + other + b"\r\n" + ours[0]
    t.check(below_received(t, got) == want, "ours went, others and the body stayed")
    got = submitted(t, WHOLE + content, "h14-ars@ours.example")
    t.check(not [v for v in field(got, b"Authentication-Results") if b"evil" not in v], "here too")
    with t.connect(t.relay().mx, source=TRUSTED) as c:
        c.hello()
        c.envelope("a@b.example", "h14-art@ours.example")
        c.content(content)
    got = t.relay().arrived("h14-art@ours.example").content
    t.check(got.endswith(content), "our own networks speak in our name")
