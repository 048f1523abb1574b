"""Group K: what we do with what a next hop says, does and leaves out (RFC 5321 §3, §4.2, §4.5)."""

import contextlib
import datetime
import re
import socket
import ssl
import subprocess
import threading
import time

from conformance_kit import case
from conformance_outbound import (CONFIGURATION, EXTENSIONS, MESSAGE, WAITS, Hop, Outbound, Way,
                                  for_ever, slowly, wait, word_for)
from conformance_peers import CLOSE, RESET, SILENT, Gone
from conformance_relay import certify, server_context

LATER, BROKEN = "connection, delivered", "protocol, delivered"
SILENCE, BUSY = "timed-out, delivered", "busy, delivered"
TROUBLE, AMBIGUOUS = "remote-trouble, delivered", "ambiguous-end-of-data, delivered"
# No buffer takes all of it.
LARGE = b"Subject: x\r\n\r\n" + b"0123456789abcde\r\n" * 500_000
PATIENT = WAITS.replace('data_end_wait = "5 s"', 'data_end_wait = "60 s"').replace(
    'data_block_wait = "5 s"', 'data_block_wait = "12 s"')


def play(t, *ways, **options):
    out = Outbound(t, ways, **options)
    out.play()
    return out


def two(name, script, want="delivered", **options):
    """Two hosts: the first is like this in each session, the second does as it should."""
    return Way(f"{name}; and a second host", want, script, hosts=2, **options)


def said_to(way):
    """All commands that the first host got."""
    return [line for session in way.hops[0].sessions for line in session.lines]


@case("K1", "a greeting has an end, in time, in lines and in octets; then the next host is tried",
      "RFC 5321 §4.5.3.2.1", slow=True)
def greetings_without_end(t):
    drip, lines = for_ever(b"2", 0.1), for_ever(b"220-\r\n")
    play(t,
         Way("no greeting", SILENCE, {"greeting": SILENT}, once=True),
         Way("an octet now and then", SILENCE, {"greeting": drip}, once=True, shows=False),
         Way("a line without end", BROKEN, {"greeting": for_ever(b"220-welcome ")}, once=True,
             shows=False),
         Way("lines without end", BROKEN, {"greeting": lines}, once=True, shows=False),
         Way("100 lines", "delivered", {"greeting": b"220-x\r\n" * 99 + b"220 x\r\n"}),
         Way("the end", LATER, {"greeting": CLOSE}, once=True),
         two("no greeting", {"greeting": SILENT}),
         two("an octet now and then", {"greeting": drip}, shows=False),
         two("lines without end", {"greeting": lines}, shows=False),
         two("the end", {"greeting": CLOSE}))


@case("K2", "a greeting that refuses leads to the next host; where all do, 5yz fails and 4yz waits",
      "RFC 5321 §3.1, RFC 7504")
def greetings_that_refuse(t):
    play(t,
         Way("554", "failed 554", {"greeting": "554 no mail from you"}),
         Way("554 with a code", "failed 5.7.1", {"greeting": "554 5.7.1 no"}),
         Way("521", "failed 521", {"greeting": "521 hop.example takes no mail"}),
         Way("550", "failed 550", {"greeting": "550 no"}),
         Way("421", BUSY, {"greeting": "421 busy"}, once=True),
         Way("450", "unknown-transient, delivered", {"greeting": "450 later"}, once=True),
         Way("354", BROKEN, {"greeting": "354 go on"}, once=True),
         Way("no word of ESMTP", "delivered", {"greeting": "220 hello"}),
         Way("nothing behind 220", "delivered", {"greeting": "220"}),
         two("554", {"greeting": "554 no"}), two("521", {"greeting": "521 no"}),
         two("421", {"greeting": "421 busy"}), two("450", {"greeting": "450 later"}))


@case("K3", "HELO once, where EHLO is not known, and never where ESMTP is needed",
      "RFC 5321 §3.2")
def helo(t):
    refusals = [Way(f"EHLO: {said}", "delivered", {"EHLO": said}, once=True)
                for said in ("500 what", "501 what", "502 what", "504 what", "550 no", "554 no")]
    login = 'user = "u"\npassword = "p"\ntls = "never"\nauth_clear = true'
    needs = [
        Way("TLS is required", "tls", {"EHLO": "502 what"},
            settings='tls = "required"\ntls_verify = false'),
        Way("a login is needed", "authentication", {"EHLO": "502 what"}, settings=login),
    ]
    play(t, *refusals, *needs,
         Way("EHLO and HELO refused", "failed 5.7.1",
             {"EHLO": "550 no", "HELO": "550 5.7.1 not you"}),
         Way("EHLO: 421", BUSY, {"EHLO": "421 busy"}, once=True),
         Way("EHLO: 451", TROUBLE, {"EHLO": "451 later"}, once=True),
         Way("EHLO: the end", LATER, {"EHLO": CLOSE}, once=True),
         Way("EHLO: silence", SILENCE, {"EHLO": SILENT}, once=True),
         two("EHLO: the end", {"EHLO": CLOSE}), two("EHLO: 421", {"EHLO": "421 busy"}))
    for way in refusals:
        t.check(b"HELO mx.ours.example" in said_to(way), "HELO behind a refused EHLO")
    for way in needs:
        t.check(not any(line.startswith((b"HELO", b"MAIL")) for line in said_to(way)),
                "neither HELO nor mail where ESMTP is needed")


@case("K4", "keywords in any case, odd ones and many are taken as they are", "RFC 5321 §4.1.1.1")
def keywords(t):
    def hello(*lines):
        lines = [b"hop.example", *lines]
        return {"EHLO": b"".join(b"250-" + one + b"\r\n" for one in lines[:-1])
                + b"250 " + lines[-1] + b"\r\n"}
    out = play(
        t,
        Way("lower case", "delivered", hello(b"pipelining", b"8bitmime")),
        Way("AUTH=LOGIN", "delivered", hello(b"AUTH=LOGIN PLAIN", b"AUTH LOGIN")),
        Way("SIZE without a number", "delivered", hello(b"SIZE")),
        Way("SIZE with odd numbers", "delivered", hello(b"SIZE x", b"SIZE -5", b"SIZE 0")),
        Way("400 of them", "delivered", hello(*[b"X-%d" % n for n in range(400)], b"PIPELINING"),
            shows=False),
        Way("500 lines", "delivered", hello(*[b"X" for n in range(498)], b"PIPELINING"),
            shows=False),
        Way("without end", BROKEN, {"EHLO": for_ever(b"250-X-WORD\r\n")}, once=True, shows=False),
        Way("NUL, 0xff and nothing", "delivered", hello(b"X\0\xff", b"", b"=", b"8BITMIME")),
        Way("a name that looks like a keyword", "delivered",
            {"EHLO": b"250-PIPELINING\r\n250 HELP\r\n"}),
        Way("a number for each limit", "delivered", hello(b"LIMITS RCPTMAX=0 MAILMAX=x A")))
    t.check(b"MAIL FROM:<w0@sender.example>" in said_to(out.ways[0])[1], "MAIL behind EHLO")


@case("K5", "421 at any time is for now, for those who have no reply yet", "RFC 5321 §3.8")
def closing(t):
    down = "421 4.3.2 going down"
    play(t,
         Way("to MAIL", [BUSY, BUSY], {"MAIL": down}, once=True),
         Way("to the first RCPT", [BUSY, BUSY], {"RCPT": down}, once=True),
         Way("to the second RCPT", ["failed 5.1.1", BUSY], {"RCPT": ["550 5.1.1 nobody", down]},
             once=True),
         Way("to DATA", [BUSY, BUSY], {"DATA": down}, once=True),
         Way("to the end of data", [BUSY, BUSY], {"end": down}, once=True),
         Way("LMTP, behind one 250", ["delivered", BUSY], {"end": ["250 2.0.0 taken", down]},
             once=True, scheme="lmtp"),
         two("to MAIL", {"MAIL": down}), two("to RCPT", {"RCPT": down}),
         two("to DATA", {"DATA": down}))


@case("K6", "what a reply does at each stage: its first digit decides, and for whom",
      "RFC 5321 §4.2.1, §4.5.3.1.10", slow=True)
def matrix(t):
    ways = []
    for key, stage in (("MAIL", "MAIL"), ("RCPT", "RCPT"), ("DATA", "DATA"), ("end", "the end")):
        for code in (450, 451, 452, 455, 499):
            text = f"{code} so it is"
            want = TROUBLE if code in (451, 452) else "unknown-transient, delivered"
            ways.append(Way(f"{code} to {stage}", want, {key: text}, once=True, shows=False))
        for code in (500, 501, 502, 503, 504, 521, 550, 551, 553, 554, 555, 556, 571, 599):
            text = f"{code} so it is"
            ways.append(Way(f"{code} to {stage}", f"failed {code}", {key: text}, shows=False))
    play(t, *ways)


@case("K6", "who is refused is refused alone; who does not fit goes into another transaction",
      "RFC 5321 §4.5.3.1.10")
def recipients(t):
    ok, many = "250 2.1.5 ok", "452 4.5.3 too many recipients"
    out = play(
        t,
        Way("yes, no, later, yes", ["delivered", "failed 5.1.1", "unknown-transient, delivered",
                                    "delivered"],
            {"RCPT": [ok, "550 5.1.1 nobody", "450 4.2.0 later", ok]}),
        Way("452: two fit", ["delivered"] * 5, {"RCPT": [ok, ok, many, many, many, ok]}),
        Way("552 for 452", ["delivered"] * 3, {"RCPT": [ok, "552 too many recipients", ok]}),
        Way("552 without a word, to the only one", "too-many-recipients, delivered",
            {"RCPT": "552 no"}, once=True),
        Way("452, the mailbox is full", ["delivered", "mailbox-full, delivered"],
            {"RCPT": [ok, "452 4.2.2 mailbox full", ok]}),
        Way("552, the mailbox is full", ["delivered", "failed 5.2.2"],
            {"RCPT": [ok, "552 5.2.2 mailbox full", ok]}),
        Way("451 about the host, and a second host", ["delivered", "delivered"],
            {"RCPT": [ok, "451 local error"]}, hosts=2),
        Way("550, and a second host", ["delivered", "failed 5.1.1"],
            {"RCPT": [ok, "550 5.1.1 nobody"]}, hosts=2))
    t.check(len(out.ways[1].hops[0].sessions) == 1, "the rest goes on the same connection")
    t.check(not out.ways[7].hops[1].sessions, "who does not exist is not asked for elsewhere")


@case("K7", "what is no reply code breaks the protocol, and lasts for now", "RFC 5321 §4.2.1")
def reply_codes(t):
    ok = [b"250-a\n250 b\n", b"250\r\n", b"299 odd\r\n", b"250 \r\n", b"250 ok\n"]
    bad = [b"000 ok\r\n", b"99 ok\r\n", b"199 ok\r\n", b"600 ok\r\n", b"25\r\n", b"250x\r\n",
           b"2500 ok\r\n", b"well done\r\n", b"\r\n", b"\n", b"250_ok\r\n", b"+OK\r\n"]
    play(t, *[Way(repr(one), "delivered", {"MAIL": one}) for one in ok],
         *[Way(repr(one), BROKEN, {"MAIL": one}, once=True) for one in bad],
         Way("only CR", BROKEN, {"MAIL": b"250 ok\r"}, once=True))


@case("K8", "the last line of a reply counts, and its text is never more than text",
      "RFC 5321 §4.2.1")
def several_codes(t):
    def yes(session, _):
        session.send(b"550-no\r\n250 yes\r\n")
        session.slow = b"250"
        return b""
    shell = b"250-`id`;$(id)|id\r\n550 5.1.1 \x1b[2J\0 `id` $(id) | id; <!--\r\n"
    out = play(
        t,
        Way("250- and 550", "failed 550", {"RCPT": b"250-yes\r\n550 no\r\n"}),
        Way("550- and 250", "delivered", {"RCPT": yes}),
        Way("words for a shell", "failed 5.1.1", {"RCPT": shell}))
    report = out.report(2, "r0@w2.example").content
    t.check(b"`id` $(id) | id" in report, "the report quotes what was said")
    t.check(not re.search(rb"[\0\x1b]", report), "without its control characters")


@case("K9", "a reply in single octets", "RFC 5321 §4.2.1")
def octet_by_octet(t):
    out = play(t, Way("each reply", "delivered", {
        "greeting": slowly(b"220-a\r\n220 b\r\n"),
        "EHLO": slowly(b"250-hop.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n"),
        "MAIL": slowly(b"250-2.1.0 a\r\n250 2.1.0 b\r\n"), "RCPT": slowly(b"250 2.1.5 ok\r\n"),
        "DATA": slowly(b"354 go on\r\n"), "end": slowly(b"250 2.0.0 taken\r\n")}))
    t.check(len(out.ways[0].hops[0].sessions) == 1, "one connection")


@case("K10", "a reply of 30 lines", "RFC 5321 §4.2.1")
def thirty_lines(t):
    def many(code):
        return f"{code}-line\r\n".encode() * 29 + f"{code} end\r\n".encode()
    play(t, Way("to each command", "delivered", {
        "greeting": many(220), "MAIL": many(250), "RCPT": many(250), "DATA": many(354),
        "end": many(250)}, shows=False))


@case("K11", "a reply that is lost behind the end of data: kept and sent again, never lost",
      "RFC 5321 §4.5.3.2.6, RFC 1047", slow=True)
def lost_reply(t):
    content = b"Message-ID: <one@sender.example>\r\nSubject: x\r\n\r\ntext\r\n"
    def way(name, end, want=AMBIGUOUS, **options):
        return Way(name, want, {"end": end}, once=True, content=content, **options)
    def half(session, _):
        session.send(b"25")
        raise Gone
    out = play(t, way("the end", CLOSE), way("a reset", RESET), way("silence", SILENT),
               way("half a reply", half), way("the end; and a second host", CLOSE, hosts=2),
               way("LMTP", CLOSE, scheme="lmtp"),
               # What was said counts, even where it is the last thing.
               way("354", "354 again", BROKEN))
    for way in out.ways[:5]:
        copies = [mail.content for hop in way.hops for mail in hop.ended]
        ids = [re.search(rb"(?m)^Message-ID: (\S+)", copy)[1] for copy in copies]
        t.check(ids == [b"<one@sender.example>"] * 2, f"{way.name}: twice, with the same id")
        t.check(copies[0] == copies[1], f"{way.name}: octet for octet")
    t.check(not out.ways[4].hops[1].sessions, "not at once with another host")
    t.note("The wait for that reply is 5 s here; the default is 10 minutes (RFC 5321 §4.5.3.2.6).")


@case("K12", "451 behind the end of data and 450 to RCPT: tried again, no report",
      "RFC 5321 §4.2.1")
def transient(t):
    out = play(t, Way("451 to the end", TROUBLE, {"end": "451 4.3.0 later"}, once=True),
               Way("450 to RCPT", "unknown-transient, delivered", {"RCPT": "450 later"}, once=True))
    t.check(not out.sink.ended, "no report")


@case("K13", "250 behind the end of data is the end, whatever becomes of the connection",
      "RFC 5321 §4.2.5", slow=True)
def taken_and_gone(t):
    def reset(session, _):
        session.send(b"250 2.0.0 taken\r\n")
        session.slow = b"250"
        mail = session.mails[-1]
        mail.accepted = True
        session.peer.mails.append(mail)
        time.sleep(0.2)
        session.peer.script = {**session.peer.script, "end": RESET}
        return session.answer("end", b"")
    out = play(t, Way("a reset", "delivered", {"end": reset}),
               Way("a reset in place of 221", "delivered", {"QUIT": RESET}),
               Way("silence in place of 221", "delivered", {"QUIT": SILENT}))
    time.sleep(1.5)
    for way in out.ways:
        t.check(len(way.hops[0].ended) == 1, f"{way.name}: sent once")


@case("K14", "354 although all were refused: a lone dot, and it counts for nobody",
      "RFC 2920 §3.1")
def nobody_wanted(t):
    for said in ("250 2.0.0 taken", "554 5.5.1 nobody", CLOSE):
        out = play(t, Way(f"{said if isinstance(said, str) else 'the end'} to the dot",
                          ["failed 5.1.1", "failed 5.1.1"],
                          {"RCPT": "550 5.1.1 nobody", "end": said}))
        ended = out.ways[0].hops[0].ended
        t.check(all(mail.wire == b"" for mail in ended), "not a word of the message went out")


@case("K15", "replies are for commands in order; too few or too many end the connection",
      "RFC 2920 §3.1")
def reply_splitting(t):
    def group(octets):
        """Reads MAIL, RCPT twice and DATA, then says this at once."""
        def answer(session, _):
            for _ in range(3):
                session.dialogue.append(("R", session.read_line() + b"\r\n"))
            session.send(octets)
            while True:
                session.read()
        return {"MAIL": answer}
    ok = b"250 2.1.0 ok\r\n"
    out = play(
        t,
        Way("250, 550, 450, 354", ["failed 5.1.1", "unknown-transient, delivered"],
            {"RCPT": ["550 5.1.1 nobody", "450 later"], "DATA": "354 go on"}, once=True),
        Way("one reply missing", [SILENCE] * 2, group(ok * 3), once=True),
        Way("250 for DATA", [BROKEN] * 2, group(ok * 4), once=True),
        Way("a 250 behind 354", [BROKEN] * 2, group(ok * 3 + b"354 go on\r\n250 taken\r\n"),
            once=True),
        Way("a 354 too early", [BROKEN] * 2, group(ok + b"354 go on\r\n" + ok * 2), once=True),
        Way("half a reply behind 354", [BROKEN] * 2, group(ok * 3 + b"354 go on\r\n25"),
            once=True))
    for way in out.ways[1:]:
        sessions = way.hops[0].sessions
        t.check(b"text" not in sessions[0].octets, f"{way.name}: no content went out")


@case("K16", "a reply that came before the end of data is none to it", "RFC 5321 §4.5.3.2.6",
      slow=True)
def early(t):
    def amid(octets):
        """Says this when some of the content has come, and reads on."""
        def data(session):
            while len(session.buffer) < 100_000:
                session.read()
            session.send(octets)
            while True:
                session.read()
        return {"data": data}
    play(t,
         Way("with 354, in one segment", BROKEN, {"DATA": b"354 go on\r\n250 2.0.0 taken\r\n"},
             once=True),
         Way("250 in the middle of the content", BROKEN, amid(b"250 2.0.0 taken\r\n"), once=True,
             content=LARGE, shows=False),
         Way("half of it", BROKEN, amid(b"250 2.0"), once=True, content=LARGE, shows=False),
         Way("452 in the middle: a refusal", TROUBLE, amid(b"452 4.3.1 full\r\n"), once=True,
             content=LARGE, shows=False),
         Way("552 in the middle: a refusal", "failed 5.3.4", amid(b"552 5.3.4 too large\r\n"),
             content=LARGE, shows=False),
         delivery=PATIENT)


@case("K17", "one command at a time where PIPELINING is not offered, or is not understood",
      "RFC 2920 §3.1", slow=True)
def lock_step(t):
    def forgetful(session, _):
        """Answers MAIL and forgets what had come with it."""
        time.sleep(0.05)
        session.socket.settimeout(0.2)
        try:
            session.read()
        except TimeoutError:
            pass
        session.socket.settimeout(120)
        session.buffer = b""
        return "250 2.1.0 ok"
    strict = {}
    for key in ("MAIL", "RCPT", "DATA"):
        def answer(session, _, key=key):
            if session.buffer:
                return "503 5.5.1 one at a time"
            time.sleep(0.05)
            session.socket.settimeout(0.05)
            try:
                session.read()
                return "503 5.5.1 one at a time"
            except TimeoutError:
                return {"MAIL": "250 2.1.0 ok", "RCPT": "250 2.1.5 ok", "DATA": "354 go on"}[key]
            finally:
                session.socket.settimeout(120)
        strict[key] = answer
    play(t,
         Way("not offered", ["delivered", "delivered"], strict,
             options={"extensions": ("8BITMIME",)}),
         Way("offered, and only the first of a group is heard", "timed-out, delivered",
             {"MAIL": forgetful}),
         Way("one reply in each segment", ["delivered"] * 3, {
             "RCPT": lambda s, _: time.sleep(0.05) or "250 2.1.5 ok"}))


EIGHT_BIT = (b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
             b"Content-Transfer-Encoding: 8bit\r\n\r\nna\xc3\xafve caf\xc3\xa9\r\n")
SIGNED = (b'MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b; protocol="a/x"\r\n\r\n'
          b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
          b"\r\ncaf\xc3\xa9\r\n--b\r\nContent-Type: a/x\r\n\r\nx\r\n--b--\r\n")
DKIM = b"DKIM-Signature: v=1; a=ed25519-sha256; d=sender.example; s=s; b=x\r\n"
SEVEN = {"extensions": ("PIPELINING",)}


@case("K18", "8-bit content for a host of 7: encoded anew where nothing is signed",
      "RFC 6152 §3")
def seven_bit(t):
    import email
    import email.policy
    out = play(
        t,
        Way("8BITMIME is offered", "delivered", content=EIGHT_BIT, parameters="BODY=8BITMIME"),
        Way("not offered", "delivered", content=EIGHT_BIT, parameters="BODY=8BITMIME",
            options=SEVEN),
        Way("not offered, not declared", "delivered", content=EIGHT_BIT, options=SEVEN),
        Way("multipart/signed", "failed 5.6.3", content=SIGNED, parameters="BODY=8BITMIME",
            options=SEVEN),
        Way("DKIM", "delivered", content=DKIM + EIGHT_BIT, parameters="BODY=8BITMIME",
            options=SEVEN),
        Way("in the header", "failed 5.6.3", content=b"Subject: caf\xc3\xa9\r\n\r\nx\r\n",
            parameters="BODY=8BITMIME", options=SEVEN))
    def got(number):
        return out.ways[number].hops[0].mails[0].content
    t.check(got(0).endswith(EIGHT_BIT), "octet for octet where it is offered")
    t.check(b"MAIL FROM:<w0@sender.example> BODY=8BITMIME" in said_to(out.ways[0]), "declared")
    for number in (1, 2):
        message = email.message_from_bytes(got(number), policy=email.policy.default)
        t.check(got(number).isascii(), "7 bits")
        t.check(message.get_content().splitlines() == ["naïve café"], "the same text")
    # RFC 6152 §3 forbids this; encoding anew would break the signature.
    t.check(got(4).endswith(DKIM + EIGHT_BIT), "signed by a domain: octet for octet")


@case("K19", "a message larger than SIZE fails without DATA, once all hosts say so", "RFC 1870 §6")
def size(t):
    def limit(octets):
        return {"extensions": ("PIPELINING", f"SIZE {octets}")}
    content = b"Subject: x\r\n\r\n" + b"0123456789abcde\r\n" * 100
    out = play(
        t,
        Way("SIZE 1000", "failed 5.3.4", content=content, options=limit(1_000), shows=False),
        Way("SIZE 1000; and a second host", "delivered", content=content, options=limit(1_000),
            hosts=2, shows=False),
        Way("SIZE 0", "delivered", content=content, options=limit(0), shows=False),
        Way("552 to MAIL", "failed 5.3.4", {"MAIL": "552 5.3.4 too large"}, content=content),
        Way("552 to the end", "failed 5.3.4", {"end": "552 5.3.4 too large"}, content=content))
    for way in out.ways[:2]:
        t.check(not any(line.startswith(b"MAIL") for line in said_to(way)), "not even MAIL")


def tls_context(t, version=None, names="DNS:localhost,IP:127.0.0.1", days=None, own=False):
    """A context for a server, with a certificate that is wrong in one way."""
    folder = t.folder()
    certificate = t.bench.certificate
    if own:
        certificate = certify(folder, names)
    elif days is not None or names != "DNS:localhost,IP:127.0.0.1":
        chain, key = folder / "chain.pem", folder / "key.pem"
        root, root_key = certificate.root, certificate.root.parent / "root.key"
        request = folder / "request.pem"
        new = "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x".split()
        subprocess.run([*new, "-keyout", key, "-out", request], check=True, capture_output=True)
        extensions = folder / "extensions"
        extensions.write_text(f"subjectAltName={names}\nbasicConstraints=critical,CA:FALSE\n")
        span = ["-days", str(2 if days is None else days)]
        subprocess.run(["openssl", "x509", "-req", "-in", request, "-CA", root, "-CAkey", root_key,
                        "-extfile", extensions, "-out", chain, *span],
                       check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        return context
    context = server_context(certificate)
    if version:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = version
        context.maximum_version = version
    return context


@case("K20 C18", "what each way of TLS trouble means under each policy", "RFC 7435, RFC 3207 §4.1",
      slow=True)
def tls_policies(t):
    never, may = 'tls = "never"', 'tls = "opportunistic"'
    encrypt = 'tls = "required"\ntls_verify = false'
    verify = 'tls = "required"\ntls_ca = "$ca"'
    troubles = [
        ("no STARTTLS", {}, {}),
        ("454", {"STARTTLS": "454 4.7.0 not now"}, {"tls": True}),
        ("502", {"STARTTLS": "502 5.5.1 no"}, {"tls": True}),
        ("the end in place of a handshake", {"handshake": CLOSE}, {"tls": True}),
        ("no TLS behind 220", {"STARTTLS": b"220 go\r\nnonsense\r\n"}, {"tls": True}),
        ("TLS 1.1 alone", {}, {"tls": True, "context": tls_context(t, ssl.TLSVersion.TLSv1_1)}),
    ]
    certificates = [
        ("right", {"tls": True}, "delivered"),
        ("for another name", {"tls": True, "context": tls_context(t, names="DNS:other.example")},
         "tls"),
        ("expired", {"tls": True, "context": tls_context(t, days=-1)}, "tls"),
        ("by an unknown issuer", {"tls": True, "context": tls_context(t, own=True)}, "tls"),
    ]
    ways = []
    for policy, settings in (("never", never), ("may", may), ("encrypt", encrypt),
                             ("verify", verify)):
        for name, script, options in troubles:
            want = "delivered" if policy in ("never", "may") else "tls"
            ways.append(Way(f"{policy}, {name}", want, script, options=options, settings=settings,
                            shows=False))
        for name, options, strict in certificates:
            want = strict if policy == "verify" else "delivered"
            ways.append(Way(f"{policy}, a certificate {name}", want, options=options,
                            settings=settings, shows=False))
    out = play(t, *ways)
    for way in ways:
        policy, trouble = way.name.split(", ", 1)
        sessions = way.hops[0].sessions
        clear = [one for one in sessions if not one.is_tls]
        if policy in ("encrypt", "verify"):
            said = [line for one in clear for line in one.lines]
            t.check(not any(line.startswith(b"MAIL") for line in said), f"{way.name}: not in clear")
            if way.want == "tls":
                said = [line for one in sessions for line in one.lines]
                t.check(not any(line.startswith(b"MAIL") for line in said), f"{way.name}: no mail")
        elif policy == "never":
            t.check(not any(b"STARTTLS" in one.lines for one in sessions), "never STARTTLS")
        elif "certificate" in trouble:
            t.check(sessions[-1].is_tls, f"{way.name}: over TLS")
        elif trouble in ("the end in place of a handshake", "TLS 1.1 alone"):
            t.check(len(sessions) == 2, f"{way.name}: in clear on a new connection")
    for outcome in (one for line in out.relay.log("Attempted") for one in line["outcomes"]):
        if outcome["outcome"] == "Deferred":
            t.check(outcome["class"] == "tls", f"it waits for TLS: {outcome}")
    t.note("dane, sts-enforce and requiretls: see the rows of their own")


@case("K21", "BDAT is not sent, so that nothing can go wrong with it", "RFC 3030")
def no_bdat(t):
    out = play(t, Way("CHUNKING is offered", "delivered",
                      options={"extensions": (*EXTENSIONS, "CHUNKING", "BINARYMIME")}))
    t.check(not any(line.startswith(b"BDAT") for line in said_to(out.ways[0])), "DATA alone")
    t.note("BDAT would save nothing: its chunk must wait for the replies to RCPT, as DATA does.")


@case("K22", "an end in the middle of the content is for now, and another host may have it",
      "RFC 5321 §4.5.3.2.5", slow=True)
def amid_content(t):
    def data(end):
        def read(session):
            while len(session.buffer) < 100_000:
                session.read()
            session.peer.script = {**session.peer.script, "end": end}
            session.answer("end", b"")
        return {"data": read}
    play(t, Way("the end", LATER, data(CLOSE), once=True, content=LARGE, shows=False),
         Way("a reset", LATER, data(RESET), once=True, content=LARGE, shows=False),
         two("the end", data(CLOSE), content=LARGE, shows=False),
         two("a reset", data(RESET), content=LARGE, shows=False),
         Way("no reading", SILENCE, {"data": lambda session: time.sleep(30)},
             once=True, content=LARGE * 2, shows=False),
         delivery=PATIENT)


@case("K23", "a host that takes its time holds up nobody but itself", "RFC 5321 §4.5.3.2",
      slow=True)
def tarpit(t):
    ways = [Way("a host of one octet now and then", "timed-out",
                {"greeting": for_ever(b"2", 0.2)}, settings="connections_max = 3", shows=False),
            Way("another host", "delivered", shows=False)]
    delivery = WAITS.replace('greeting_wait = "5 s"', 'greeting_wait = "20 s"')
    out = Outbound(t, ways, delivery=delivery, retry='[retry]\nfirst_wait = "1 h"\n')
    for _ in range(20):
        out.submit(0)
    hop = ways[0].hops[0]
    wait(lambda: len(hop.sessions) >= 3, "three connections")
    began = time.monotonic()
    out.submit(1)
    out.attempts(ways[1].id, 1)
    t.check(time.monotonic() - began < 10, "the other host has its mail while the first one waits")
    t.check(len(hop.sessions) == 3, "three connections for twenty mails")
    t.note("20 mails wait at 3 connections; the mail of another host was delivered meanwhile")


@case("K24", "a connection is used again; its end at the wrong moment is no failure",
      "RFC 5321 §4.5.4.1", slow=True)
def reuse(t):
    def nth(number, answer, usual):
        """This at the n-th time in the first session."""
        def say(session, _):
            session.said[usual] = session.said.get(usual, 0) + 1
            if session.said[usual] != number:
                return usual
            if answer is CLOSE:
                return CLOSE
            session.send(answer.encode() + b"\r\n")
            return CLOSE
        return say
    ways = [
        Way("421 at the 50th MAIL", "delivered",
            {"MAIL": nth(50, "421 4.7.0 enough", "250 2.1.0 ok")}, once="session", shows=False),
        Way("the end at the 50th RCPT", "delivered",
            {"RCPT": nth(50, CLOSE, "250 2.1.5 ok")}, once="session", shows=False),
    ]
    settings = "connections_max = 1"
    for way in ways:
        way.settings = settings
    out = Outbound(t, ways, delivery=WAITS + 'messages_per_connection_max = 1000\n')
    ids = [out.submit(number) for _ in range(100) for number in range(2)]
    wait(lambda: len(out.relay.log("Retired")) >= 200, "200 mails")
    lines = [line for line in out.relay.log("Attempted") if line["id"] in ids]
    words = {word_for(one) for line in lines for one in line["outcomes"]}
    t.check(words == {"delivered"}, f"nothing failed: {words}")
    t.check(len(lines) == 200, "one attempt each")
    for way in ways:
        t.check(len(way.hops[0].sessions) == 2, f"{way.name}: two connections for 100 mails")
        t.check(len(way.hops[0].mails) == 100, f"{way.name}: each once")
        t.note(f"{way.name}: 100 mails in 2 connections, each in one attempt")


@case("K25", "a login that does not work makes mail wait; a password goes nowhere in the clear",
      "RFC 4954 §4, §6")
def login(t):
    user = 'user = "u"\npassword = "geheim"\n'
    clear = user + 'tls = "never"\nauth_clear = true'
    checked = user + 'tls_ca = "$ca"'
    offers = {"extensions": (*EXTENSIONS, "AUTH PLAIN LOGIN")}
    secret = {**offers, "tls": True}
    wrong = {**secret, "context": tls_context(t, names="DNS:other.example")}
    want = "authentication, delivered"
    ways = [
        Way("535", want, {"AUTH": "535 5.7.8 wrong"}, settings=clear, options=offers, once=True),
        Way("454", want, {"AUTH": "454 4.7.0 not now"}, settings=clear, options=offers, once=True),
        Way("334 with garbage", want, {"AUTH": b"334 \xff\xfe=\r\n"}, settings=clear,
            options=offers, once=True),
        Way("530 to MAIL", want, {"MAIL": "530 5.7.0 log in first"}, settings=clear, options=offers,
            once=True),
        Way("the end", "connection, delivered", {"AUTH": CLOSE}, settings=clear, options=offers,
            once=True),
        Way("no mechanism", "authentication", settings=clear,
            options={"extensions": (*EXTENSIONS, "AUTH GSSAPI")}),
        Way("no AUTH", "authentication", settings=clear),
        Way("over TLS, with its right name", "delivered", settings=checked, options=secret),
        Way("AUTH in the clear alone", "tls", settings=checked, options=offers),
        Way("TLS for another name", "tls", settings=checked, options=wrong),
        Way("454 to STARTTLS", "tls", {"STARTTLS": "454 4.7.0 no"}, settings=checked,
            options=secret),
    ]
    out = play(t, *ways)
    for way in ways[8:]:
        said = b" ".join(session.octets for session in way.hops[0].sessions)
        t.check(b"AUTH" not in said and b"MAIL" not in said, f"{way.name}: neither AUTH nor mail")
    waiting = {line["id"].partition(".")[0]: line["reason"]["id"]
               for line in out.relay.ask("/v1/queue?limit=100")["data"]}
    for way in (ways[5], ways[6], *ways[8:]):
        t.check(waiting[way.id] == way.want, f"{way.name}: an operator sees why it waits")
    t.check(not out.sink.ended, "no report to senders")


@case("K26", "a mirror, an echo, and a host that has our name", "RFC 5321 §6.3", slow=True)
def mirrors(t):
    def mirror(session):
        session.send(b"220 hop.example\r\n")
        while True:
            session.read()
            octets, session.buffer = session.buffer, b""
            session.send(octets)
    def echo(session):
        while True:
            session.read()
            octets, session.buffer = session.buffer, b""
            session.send(octets)
    ours = {"greeting": "220 mx.ours.example ESMTP Merpati",
            "EHLO": b"250-mx.ours.example\r\n250 8BITMIME\r\n"}
    out = play(
        t,
        Way("says what we say", "protocol", options={"talk": mirror}, shows=False),
        Way("says what we say, without a greeting", "timed-out", options={"talk": echo},
            shows=False),
        # A next hop that the operator named may have any name: other servers of one machine.
        Way("a host of the operator with our name", "delivered", ours))
    port, address = t.port(), t.address(7)
    dns = t.dns("loop.example MX 10 mx.loop.example", f"mx.loop.example A {address}")
    hop = Hop(ours, address=address, port=port)
    t.stack.callback(hop.close)
    sink = t.peer()
    toml = CONFIGURATION + (
        f'[[route]]\nname = "mx"\nto = "mx"\n[dns]\nservers = ["{dns.place}"]\n'
        f'[delivery]\nport = {port}\nallow_networks = ["127.0.0.0/8"]\n')
    relay = t.own_relay(toml=toml, peer=sink)
    with t.connect(relay.mx) as c:
        c.hello()
        c.envelope("a@sender.example", "u@loop.example")
        lines = len(t.lines)
        c.content(MESSAGE)
        del t.lines[lines:]
    report = sink.wait(lambda: sink.mails_to("a@sender.example"))
    t.check(report and b"Status: 5.4.6" in report[0].content, "an MX host with our name: 5.4.6")
    t.check(not hop.ended, "and no mail")
    for who, octets in hop.sessions[0].dialogue[:3]:
        t.show(who, octets)
    t.check(out.ways[2].hops[0].mails, "delivered")


class Detour:
    """A port that leads wherever `to` says."""

    def __init__(self):
        self.to = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(self.to)
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self.carry, args=ends, daemon=True).start()

    @staticmethod
    def carry(source, target):
        with contextlib.suppress(OSError):
            while octets := source.recv(65_536):
                target.sendall(octets)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@case("K26", "mail that comes round ends by its Received fields", "RFC 5321 §6.3", slow=True)
def round_trip(t):
    # A route to a port of our own is refused as a mistake; here somebody between leads it back.
    detour = Detour()
    t.stack.callback(detour.close)
    toml = CONFIGURATION + (
        f'[[route]]\nname = "round"\nrecipient_domains = ["round.example"]\n'
        f'to = "smtp://127.0.0.1:{detour.port}"\n')
    sink = t.peer()
    relay = t.own_relay(toml=toml, peer=sink)
    detour.to = relay.mx
    with t.connect(relay.mx) as c:
        c.hello()
        c.envelope("a@sender.example", "u@round.example")
        lines = len(t.lines)
        c.content(MESSAGE)
        del t.lines[lines:]
    report = sink.wait(lambda: sink.mails_to("a@sender.example"), 60)
    t.check(report, "a report in the end")
    t.check(b"Status: 5.4.6" in report[0].content, "5.4.6")
    rounds = len(relay.log("Accepted"))
    t.check(90 <= rounds <= 150, f"{rounds} rounds")
    t.check(len(sink.ended) == 1, "one report")


@case("K27", "a host that greylists is asked again after minutes, from the same address",
      "RFC 6647 §5")
def greylisting(t):
    said = "450 4.7.1 Greylisted, come back later"
    way = Way("450", "greylisted", {"RCPT": said})
    out = Outbound(t, [way], retry="")
    out.submit(0)
    line = out.attempts(way.id, 1)[0]
    outcome = line["outcomes"][0]
    moment = datetime.datetime.fromisoformat
    seconds = (moment(outcome["until"]) - moment(line["time"])).total_seconds()
    t.check(60 <= seconds <= 300, f"tried again in {seconds} s")
    t.note("by default the second attempt comes 240 to 300 seconds behind the first")
    out = play(t, Way("450 once", "greylisted, delivered", {"RCPT": said}, once=True))
    said = [line for line in said_to(out.ways[0]) if line[:4] in (b"MAIL", b"RCPT")]
    t.check(len(said) == 4 and said[:2] == said[2:], "the same envelope")


@case("K28", "who is asked to slow down lets that message wait, and mail for no other host", "RFC 5321 §4.5.4.1")
def throttled(t):
    ways = [
        Way(reply, "throttled, delivered", {key: reply}, once=True) for key, reply in (
            ("end", "421 4.7.28 Our system has detected an unusual rate of mail"),
            ("MAIL", "421 4.7.0 [TSS04] Messages temporarily deferred"),
            ("end", "451 4.7.650 The mail server has been temporarily rate limited"),
            ("RCPT", "452 4.7.1 connection rate limit exceeded"),
            ("greeting", "421 4.7.0 Too many connections from your host"),
            ("greeting", "550 connection frequency limited"),
            ("end", "550 5.7.1 sending limit reached for today"))]
    out = play(t, *ways, Way("another host", "delivered"))
    other = out.attempts(out.ways[-1].id, 1)
    t.check(len(other) == 1, "the other host's mail was not held up")
    t.check(not out.sink.ended, "no report")


@case("K28", "a host that asks us to slow down gets nothing for a while, then one mail, then the rest",
      "RFC 5321 §4.5.4.1", slow=True)
def back_off(t):
    ways = [Way("421", "throttled, delivered", {"MAIL": "421 4.7.28 Too many messages"}, once=True),
            Way("another host", "delivered")]
    # A fifth of it is long beside what a busy machine takes for six mails.
    out = Outbound(t, ways, retry='[retry]\nfirst_wait = "40 s"\n')
    out.attempts(out.submit(0), 1)
    began = time.monotonic()
    for _ in range(5):
        out.submit(0)
    out.attempts(out.submit(1), 1)
    hop = ways[0].hops[0]
    t.check(len(hop.sessions) == 1, "five mails wait, and that of another host does not")
    wait(lambda: len(hop.sessions) >= 2, "another connection")
    waited = time.monotonic() - began
    t.check(5 <= waited <= 20, f"{waited:.1f} s")
    wait(lambda: len(hop.mails) >= 6, "all mails")
    t.check(not out.sink.ended, "no report")
    t.show("H", b"421 4.7.28 Too many messages\r\n")
    t.note("five more mails for that host wait for a fifth of retry.first_wait; then all go")
