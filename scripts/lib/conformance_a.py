"""Group A: command syntax and the state machine (RFC 5321 §2.4, §3, §4)."""

import time

from conformance_kit import TRUSTED, case

CONTENT = b"Subject: x\r\n\r\nhello\r\n"


@case("A1", "the greeting is 220, our full name first, and nothing comes before or after it",
      "RFC 5321 §4.2")
def greeting(t):
    for place in (t.relay().mx, t.relay().submission):
        with t.connect(place) as c:
            found = c.reply("220")
            t.check(found.lines[0].startswith("mx.ours.example "), "our name comes first")
            c.silent()


@case("A1", "under TLS from the start the greeting comes after the handshake", "RFC 8314 §3")
def greeting_behind_tls(t):
    with t.connect(t.relay().submissions, tls=True) as c:
        c.reply("220")
        c.silent()


@case("A2", "EHLO lists each extension once, STARTTLS among them before TLS", "RFC 5321 §4.1.1.1")
def ehlo(t):
    for place in (t.relay().mx, t.relay().submission):
        with t.connect(place) as c:
            c.reply("220")
            found = c.say("EHLO x", "250")
            keywords = [line.split()[0].upper() for line in found.lines[1:]]
            t.check(len(keywords) == len(set(keywords)), "no keyword comes twice")
            for keyword in ("PIPELINING SIZE 8BITMIME ENHANCEDSTATUSCODES SMTPUTF8 CHUNKING "
                            "STARTTLS DSN").split():
                t.check(keyword in keywords, f"{keyword} is offered")
            for keyword in ("BINARYMIME", "VRFY", "ETRN", "EXPN", "XCLIENT", "XFORWARD"):
                t.check(keyword not in keywords, f"{keyword} is not offered")


@case("A3", "HELO is answered in one line, and no extension is usable behind it",
      "RFC 5321 §4.1.1.1")
def helo(t):
    with t.connect(t.relay().mx) as c:
        c.reply("220")
        found = c.say("HELO x", "250")
        t.check(len(found.lines) == 1, "one line")
        for parameters in ("SIZE=1000", "BODY=8BITMIME", "SMTPUTF8", "BODY=7BIT"):
            c.say(f"MAIL FROM:<a@b.example> {parameters}", "555 5.5.4")
        c.say("STARTTLS", "503 5.5.1")
        c.say("MAIL FROM:<a@b.example>", "250 2.1.0")
        c.say("RCPT TO:<a3@ours.example> NOTIFY=NEVER", "555 5.5.4")
        c.say("RCPT TO:<a3@ours.example>", "250 2.1.5")
        c.send(b"BDAT 6 LAST\r\nQUIT\r\n")
        c.reply("503 5.5.1")
        c.content(CONTENT)
        c.say("QUIT", "221")
        c.closed()
    t.check(b" with SMTP id " in t.relay().arrived("a3@ours.example").content, "with SMTP")


@case("A4", "EHLO and HELO need a name or an address literal", "RFC 5321 §4.1.1.1, §4.1.3")
def names(t):
    with t.connect(t.relay().mx) as c:
        c.reply("220")
        for word in ("EHLO", "HELO"):
            for bare in ("", " ", "   "):
                c.say(word + bare, "501 5.5.4")
            for wrong in ("[127.0.0.1", "[999.1.1.1]", "[IPv6:::g]", "[::1]", "a\x01b", "a(b)",
                          "x" * 256):
                c.say(f"{word} {wrong}", "501 5.5.4")
            for right in ("[127.0.0.1]", "[IPv6:::1]", "[IPv6:2001:db8::1]", "[ipv6:::1]", "x",
                          "client.example", "CLIENT.example", "under_score.example", "a-b.example",
                          "xn--bcher-kva.example", "client.example  "):
                c.say(f"{word} {right}", "250")
        c.say("MAIL FROM:<a@b.example>", "250")


@case("A5", "NOOP, RSET, VRFY, HELP and QUIT are answered before EHLO", "RFC 5321 §4.1.4")
def before_ehlo(t):
    with t.connect(t.relay().mx) as c:
        c.reply("220")
        c.say("NOOP", "250 2.0.0")
        c.say("RSET", "250 2.0.0")
        c.say("VRFY user", "252 2.0.0|502 5.5.1|550")
        c.say("HELP", "214 2.0.0|502 5.5.1")
        c.say("EXPN list", "502 5.5.1|550")
        c.say("QUIT", "221 2.0.0")
        c.closed()


@case("A6", "a command out of sequence is 503 and changes nothing", "RFC 5321 §4.1.4")
def out_of_sequence(t):
    with t.connect(t.relay().mx) as c:
        c.reply("220")
        for early in ("MAIL FROM:<a@b.example>", "RCPT TO:<a6@ours.example>", "DATA"):
            c.say(early, "503 5.5.1")
        c.say("EHLO x", "250")
        c.say("RCPT TO:<a6@ours.example>", "503 5.5.1")
        c.say("DATA", "503 5.5.1")
        c.say("MAIL FROM:<a@b.example>", "250 2.1.0")
        c.say("DATA", "503 5.5.1|554 5.5.1")
        c.say("MAIL FROM:<other@b.example>", "503 5.5.1")
        c.say("STARTTLS x", "501 5.5.4")
        c.say("RCPT TO:<a6@ours.example>", "250 2.1.5")
        c.say("MAIL FROM:<other@b.example>", "503 5.5.1")
        c.content(CONTENT)
        c.say("DATA", "503 5.5.1")
        c.say("RCPT TO:<a6@ours.example>", "503 5.5.1")
    t.check(t.relay().arrived("a6@ours.example").sender.startswith("<a@b.example>"),
            "the first MAIL counts")


@case("A7", "RSET, EHLO and HELO in a transaction end it", "RFC 5321 §4.1.1.5, §4.1.4")
def reset(t):
    for reset in ("RSET", "EHLO again.example", "HELO again.example", "rset"):
        with t.connect(t.relay().mx) as c:
            c.hello()
            c.say("MAIL FROM:<a@b.example>", "250")
            c.say(reset, "250")
            c.say("RCPT TO:<a7@ours.example>", "503 5.5.1")
            c.say("MAIL FROM:<a@b.example>", "250")
            c.say("RCPT TO:<a7@ours.example>", "250")
            c.say(reset, "250")
            c.say("DATA", "503 5.5.1")
            c.say("RSET", "250 2.0.0")


@case("A7", "a refused EHLO, HELO or MAIL leaves the state as it was", "RFC 5321 §4.1.4")
def refused_changes_nothing(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.say("MAIL FROM:<a@b.example>", "250")
        c.say("RCPT TO:<a7b@ours.example>", "250")
        c.say("EHLO", "501 5.5.4")
        c.say("HELO (", "501 5.5.4")
        c.say("MAIL FROM:<c@d.example>", "503 5.5.1")
        c.say("MAIL FROM:<", "501|503")
        c.say("RSET now", "501 5.5.4")
        c.content(CONTENT)
    t.relay().arrived("a7b@ours.example")


@case("A8", "verbs and keywords are read in any case; NOOP takes anything", "RFC 5321 §2.4, §4.1.1")
def any_case(t):
    with t.connect(t.relay().mx) as c:
        c.reply("220")
        c.say("eHlO client.example", "250")
        for noop in ("NOOP", "NOOP  ", "noop", "NoOp arg", "NOOP a b c", "NOOP\t", "NOOP " + "x" * 400):
            c.say(noop, "250 2.0.0")
        c.say("RSET  ", "250 2.0.0")
        c.say("mAiL fRoM:<a@b.example>", "250 2.1.0")
        c.say("rCpT tO:<a8@ours.example>", "250 2.1.5")
        c.say("rset", "250 2.0.0")
        c.say("MAIL FROM:<a@b.example> size=100 body=8bitmime smtputf8", "250 2.1.0")
        c.say("RSET", "250 2.0.0")
        # Habits of many clients.
        c.say("MAIL FROM: <a@b.example>", "250 2.1.0")
        c.say("RCPT TO: <a8@ours.example>  ", "250 2.1.5")
        c.say("data", "354")
        c.send(CONTENT + b".\r\n")
        c.reply("250 2.0.0")
        c.say("qUiT", "221 2.0.0")
        c.closed()


@case("A9", "nothing may follow DATA, RSET, QUIT and STARTTLS", "RFC 5321 §4.1.1, RFC 3207 §4")
def arguments(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.say("MAIL FROM:<a@b.example>", "250")
        c.say("RCPT TO:<a9@ours.example>", "250")
        for line in ("DATA x", "RSET x", "QUIT x", "STARTTLS x", "data BINARY", "QUIT now please"):
            c.say(line, "501 5.5.4")
        for line in ("MAIL", "MAIL a@b.example", "RCPT", "RCPT ours", "MAIL TO:<a@b.example>",
                     "RCPT FROM:<a9@ours.example>", "VRFY"):
            c.say(line, "501|503")
        c.say("DATA", "354")
        c.send(CONTENT + b".\r\n")
        c.reply("250")
        for line in ("MAIL FROM", "MAIL FROM:", "MAIL FROM:a@b.example", "MAIL FROM a@b.example",
                     "MAIL FROM:<a@b.example", "MAIL FROM:a@b.example>", "MAIL FROM:<<a@b.example>>",
                     "MAIL FROM:<a@b.example>SIZE=1", "MAIL FROM:<a@b.example> <c@d.example>",
                     "MAIL FROM:<a@b.example>,<c@d.example>"):
            c.say(line, "5xx")


@case("A10", "an unknown verb and an empty line get one 500 each", "RFC 5321 §4.2.4")
def unknown(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        for line in ("XYZZY", "", " ", "FOO bar", "MAILFROM:<a@b.example>", " NOOP", "NOOPX", "123",
                     "R", "EHLO:x", "\t", "\x7f", "ÄÖÜ", "STARTTLS\t\x01"):
            c.say(line, "500 5.5.2|501 5.5.2|501 5.5.4")
            c.silent(0.02)
        c.send(b"\r\n\r\n\r\nNOOP\r\n")
        c.reply("500 5.5.2", "500 5.5.2", "500 5.5.2", "250 2.0.0")
        c.send(b"\xff\xfe\xfd\r\n")
        c.reply("500 5.5.2")
        c.say("NOOP", "250 2.0.0")


@case("A11", "a parameter nobody offered is 555, and the transaction stays as it was",
      "RFC 5321 §4.1.1.11")
def parameters(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        for parameters in ("XFOO=1", "XFOO", "SIZE=10 XFOO=1", "XFOO=1 SIZE=10", "TRANSID=<x>",
                           "CONPERM", "AUTH=<>x", "FOO=bar=baz"):
            c.say(f"MAIL FROM:<a@b.example> {parameters}", "555 5.5.4|501 5.5.4")
        c.say("RCPT TO:<a11@ours.example>", "503 5.5.1")
        c.say("MAIL FROM:<a@b.example>", "250 2.1.0")
        for parameters in ("XFOO=1", "XFOO", "SIZE=10", "BODY=7BIT", "RRVS=x", "SMTPUTF8"):
            c.say(f"RCPT TO:<a11x@ours.example> {parameters}", "555 5.5.4|501 5.5.4")
        c.say("RCPT TO:<a11@ours.example>", "250 2.1.5")
        c.content(CONTENT)
    mail = t.relay().arrived("a11@ours.example")
    t.check(len(mail.recipients) == 1, "the refused recipients got nothing")


@case("A11", "parameters that are malformed or come twice are refused", "RFC 5321 §4.1.2")
def malformed_parameters(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        for parameters in ("SIZE=1 SIZE=2", "BODY=7BIT BODY=8BITMIME", "BODY=", "BODY=FOO", "BODY",
                           "=x", "SIZE", "SMTPUTF8 SMTPUTF8"):
            c.say(f"MAIL FROM:<a@b.example> {parameters}", "501 5.5.4|555 5.5.4")
        c.say("MAIL FROM:<a@b.example>  SIZE=100   BODY=7BIT ", "250 2.1.0")


@case("A13", "VRFY tells nothing; EXPN, TURN, ETRN and their kin are not there",
      "RFC 5321 §7.3, §3.5.3")
def not_there(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        for who in ("user", "<u@ours.example>", "postmaster", "u@other.example", "Ani Budi"):
            c.say(f"VRFY {who}", "252 2.0.0|252 2.1.5|502 5.5.1")
        for line in ("EXPN list", "EXPN", "TURN", "ATRN ours.example", "ETRN x", "ETRN #x'; DROP--",
                     "SEND FROM:<a@b.example>", "SOML FROM:<a@b.example>",
                     "SAML FROM:<a@b.example>", "WIZ", "DEBUG", "BURL imap://x LAST"):
            c.say(line, "502 5.5.1|500 5.5.1")
        c.say("KILL", "500 5.5.2")
        c.say("NOOP", "250")


@case("A14", "a message with one refused recipient goes to the other", "RFC 5321 §3.3")
def one_refused(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.say("MAIL FROM:<a@b.example>", "250 2.1.0")
        c.say("RCPT TO:<a14@ours.example>", "250 2.1.5")
        c.say("RCPT TO:<a14@other.example>", "550 5.7.1")
        c.say("RCPT TO:<a14 x@ours.example>", "501 5.1.3")
        c.content(CONTENT)
    mail = t.relay().arrived("a14@ours.example")
    t.check(mail.recipients == ["<a14@ours.example>"], "one recipient")
    t.check(not t.relay().peer.mails_to("a14@other.example"), "nothing for the other")


@case("A15", "DATA pipelined behind refused recipients is refused, and the session is in step",
      "RFC 2920 §3.1")
def all_refused(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<x@other.example>\r\n"
               b"RCPT TO:<y@other.example>\r\nDATA\r\n")
        c.reply("250 2.1.0", "550 5.7.1", "550 5.7.1")
        if c.reply("503 5.5.1|554 5.5.1|354").code == 354:
            c.send(b".\r\n")
            c.reply("554 5.5.1")
        c.say("NOOP", "250")
        c.say("RCPT TO:<a15@ours.example>", "250 2.1.5|503 5.5.1")
        c.say("RSET", "250 2.0.0")
        c.envelope("a@b.example", "a15@ours.example")
        c.content(CONTENT)
    t.relay().arrived("a15@ours.example")


@case("A16", "QUIT is 221, the connection ends at once, and nothing behind it is run",
      "RFC 5321 §4.1.1.10")
def quit_ends(t):
    for place in (t.relay().mx, t.relay().submission):
        with t.connect(place, source=TRUSTED) as c:
            c.hello()
            c.send(b"QUIT\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<a16@ours.example>\r\n"
                   b"DATA\r\n.\r\n")
            began = time.monotonic()
            c.reply("221 2.0.0")
            c.closed()
            t.check(time.monotonic() - began < 5, "at once")
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.say("MAIL FROM:<a@b.example>", "250")
        c.say("RCPT TO:<a16@ours.example>", "250")
        c.say("QUIT", "221 2.0.0")
        c.closed()
    t.check(not t.relay().peer.mails_to("a16@ours.example"), "nothing was sent")


@case("A19", "every line of a reply bears an enhanced code of its class", "RFC 2034 §3")
def enhanced(t):
    # Client.reply holds each reply of the whole suite to it; these are the rest.
    with t.connect(t.relay().submission) as c:
        c.hello()
        for line in ("HELP", "NOOP", "RSET", "VRFY x", "EXPN x", "AUTH PLAIN AGEAYg==", "AUTH",
                     "MAIL FROM:<a@b.example>", "MAIL FROM:<a@b", "RCPT TO:<>", "DATA", "BDAT 0",
                     "BDAT 0 LAST", "FOO", "EHLO", "DATA x", "MAIL FROM:<a@b.example> SIZE=x"):
            c.say(line, "2xx|4xx|5xx")
        c.say("BDAT x", "501 5.5.4")
        c.closed()
    with t.connect(t.relay().mx) as c:
        c.hello()
        for line in ("MAIL FROM:<a@b.example> SIZE=99999999999", "MAIL FROM:<a@b.example>",
                     "RCPT TO:<x@other.example>", "RCPT TO:<a19@ours.example>", "MAIL FROM:<>",
                     "BDAT 0", "DATA", "RCPT TO:<a19@ours.example>", "BDAT 0 LAST", "STARTTLS x"):
            c.say(line, "2xx|5xx")
        c.say("GET / HTTP/1.1", "421")
        c.closed()
