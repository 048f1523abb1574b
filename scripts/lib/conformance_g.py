"""Group G: addresses and internationalized mail (RFC 5321 §4.1.2, RFC 6531)."""

import subprocess
import unicodedata

from conformance_kit import TRUSTED, case

CONTENT = b"Subject: x\r\n\r\nhello\r\n"
SYNTAX = "501 5.1.7|501 5.1.3|501 5.5.2|501 5.5.4|553 5.1.3|553 5.1.7"


def each_refused(t, addresses, pattern=SYNTAX, parameters=""):
    """As reverse-path and as forward-path."""
    octets = [one if isinstance(one, bytes) else one.encode() for one in addresses]
    for at in range(0, len(octets), 20):
        with t.connect(t.relay().mx) as c:
            c.hello()
            for address in octets[at:at + 20]:
                c.say(b"MAIL FROM:<" + address + b">" + parameters.encode(), pattern)
            c.say(f"MAIL FROM:<a@b.example>{parameters}", "250")
            for address in octets[at:at + 20]:
                c.say(b"RCPT TO:<" + address + b">", pattern)
            c.say("RCPT TO:<g@ours.example>", "250 2.1.5")


@case("G1", "long local parts, labels and domains are taken or refused; nothing breaks",
      "RFC 5321 §4.5.3.1")
def lengths(t):
    label = "d" * 63
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.say("MAIL FROM:<a@b.example>", "250")
        c.say(f"RCPT TO:<{'a' * 64}@ours.example>", "250 2.1.5")
        for size in (65, 100, 128, 250, 300, 900):
            c.say(f"RCPT TO:<{'a' * size}@ours.example>", "250 2.1.5|501 5.1.3|500 5.5.2")
        c.say(f'RCPT TO:<"{"a" * 62}"@ours.example>', "250 2.1.5")
        for domain in (f"{label}.example", f"{label}.{label}.example", f"{label}.{label}.{label}.example"):
            c.say(f"RCPT TO:<u@{domain}>", "550 5.7.1")
        for domain in (f"{label}d.example", f"{'d' * 300}.example", f"{label}.{label}.{label}.{label}.example",
                       ".".join(["d"] * 128) + ".example", "d" * 1_000):
            c.say(f"RCPT TO:<u@{domain}>", "501 5.1.3|550 5.7.1")
        c.say("RSET", "250")
        for path in (f"{'a' * 64}@{label}.{label}.{label}.example", f"{'a' * 64}@b.example"):
            c.say(f"MAIL FROM:<{path}>", "250 2.1.0|501 5.1.7")
            c.say("RSET", "250")
        for path in ("a" * 65 + "@b.example", f"u@{label}d.example", "u@" + "d." * 200 + "example"):
            c.say(f"MAIL FROM:<{path}>", "250 2.1.0|501 5.1.7")
            c.say("RSET", "250")


@case("G2", "quoted local parts are taken, and go on quoted where they must be", "RFC 5321 §4.1.2")
def quoted(t):
    relay = t.relay()
    pairs = {'"a b"': '"a b"', '"a\\"b"': '"a\\"b"', '"a>b"': '"a>b"', '"a@b"': '"a@b"', '"a\\\\b"': '"a\\\\b"',
             '"a..b"': '"a..b"', '".a"': '".a"', '"a,b;c:d"': '"a,b;c:d"', '"g2plain"': "g2plain",
             '"a\\ b2"': '"a b2"', '"(x)"': '"(x)"', '"[x]"': '"[x]"', '"<x>"': '"<x>"', '"a."': '"a."'}
    with t.connect(relay.mx, source=TRUSTED) as c:
        c.hello()
        for local in pairs:
            c.say(f"MAIL FROM:<{local}@ours.example>", "250 2.1.0")
            c.say(f"RCPT TO:<{local}@ours.example>", "250 2.1.5")
            c.content(CONTENT)
    for local, out in pairs.items():
        path = f"<{out}@ours.example>"
        t.wait(lambda: [mail for mail in relay.peer.mails
                        if path in mail.recipients and mail.sender.startswith(path)],
               f"{path} arrives, and as the reverse-path too")
        t.log("out", f"MAIL FROM:{path} … RCPT TO:{path}")


@case("G3", "malformed addresses are 501 in MAIL and in RCPT", "RFC 5321 §4.1.2, §4.1.3")
def malformed(t):
    each_refused(t, [
        ".u@ours.example", "u.@ours.example", "u..v@ours.example", "u v@ours.example",
        '"ab@ours.example', 'ab"@ours.example', "Bob <u@ours.example>", "u@[999.1.1.1]", "u@[1.2.3.4",
        "u@1.2.3.4]", "u@[1.2.3]", "u@[1.2.3.4.5]", "u@[IPv6:1::2::3]", "u@[IPv6:12345::]",
        "u@[IPv4:1.2.3.4]", "u@[x-tag:y]", "u\x07@ours.example", "u@ours\x07.example", "\x7fu@ours.example",
        '"u\x07"@ours.example', "u@", "@ours.example", "u", "u@-ours.example", "u@ours-.example",
        "u@ours..example", "u@.example", "u@ours.example-", "u@ou rs.example", "u@ours!example",
        "u@(x)ours.example", "u(x)@ours.example", "u@ours.example,", "u@\"ours\".example", "u\\@x@ours.example",
        "u@[1.2.3.-4]", "u@[ 1.2.3.4 ]", "u@[1.2.3.0x4]", "u@[IPv6:]", "u@[IPv6:1.2.3.4]", "u@%", "u@ours.example@",
    ])
    with t.connect(t.relay().mx) as c:
        c.hello()
        for line in ("MAIL FROM:Bob <u@ours.example>", 'MAIL FROM:"Bob" <u@ours.example>',
                     "MAIL FROM:u@ours.example", "MAIL FROM:<u@ours.example", "MAIL FROM: u@ours.example"):
            c.say(line, SYNTAX)


@case("G4", "the case of a local part is kept", "RFC 5321 §2.4")
def kept_case(t):
    relay = t.relay()
    with t.connect(relay.mx) as c:
        c.hello()
        c.envelope("MiXeD@B.example", "G4User@OURS.example", "g4uSER@ours.EXAMPLE")
        c.content(CONTENT)
    mail = relay.arrived("G4User@ours.example")
    t.check(mail.sender.startswith("<MiXeD@b.example>"), "the sender's too")
    t.check(mail.recipients == ["<G4User@ours.example>", "<g4uSER@ours.example>"], "two mailboxes")


@case("G5", "an address in other letters without SMTPUTF8 is 553 5.6.7", "RFC 6531 §3.4, §3.5")
def without_smtputf8(t):
    each_refused(t, ["ü@ours.example", "u@bücher.example", "用户@例子.example", "δοκιμή@ours.example",
                     '"ü"@ours.example', "u@ours.例子"], "553 5.6.7|550 5.6.7")
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.say("MAIL FROM:<ü@b.example> SIZE=100 BODY=8BITMIME", "553 5.6.7|550 5.6.7")
        c.say("MAIL FROM:<a@b.example>", "250")


@case("G6", "with SMTPUTF8 it is taken, and goes on with SMTPUTF8", "RFC 6531 §3.2, §3.4, §4.3")
def with_smtputf8(t):
    relay = t.relay()
    with t.connect(relay.mx) as c:
        c.hello()
        c.envelope("<пётр@b.example> SMTPUTF8 BODY=8BITMIME", "δοκιμή@ours.example", '"ü x"@ours.example')
        c.content("Subject: ü\r\n\r\nhello\r\n".encode())
        c.starttls()
        c.hello(greeting=False)
        c.envelope("<a@b.example> SMTPUTF8", "用户@ours.example")
        c.content(CONTENT)
    mail = relay.arrived("δοκιμή@ours.example")
    t.check(mail.sender.startswith("<пётр@b.example>") and "SMTPUTF8" in mail.sender, "with SMTPUTF8")
    t.check(b" with UTF8SMTP id " in mail.content, "with UTF8SMTP")
    t.check('<"ü x"@ours.example>' in mail.recipients, "quoted as it must be")
    content = relay.arrived("用户@ours.example").content
    t.check(b" with UTF8SMTPS id " in content, "with UTF8SMTPS over TLS")


@case("G8", "SMTPUTF8 takes no value, and stands once", "RFC 6531 §3.4")
def with_value(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        for parameters in ("SMTPUTF8=x", "SMTPUTF8=", "SMTPUTF8=1", "SMTPUTF8 SMTPUTF8"):
            c.say(f"MAIL FROM:<a@b.example> {parameters}", "501 5.5.4")
        c.say("MAIL FROM:<a@b.example> smtputf8", "250 2.1.0")


@case("G9", "octets that are no UTF-8 are refused, with and without SMTPUTF8", "RFC 3629 §3, §10")
def no_utf8(t):
    broken = [b"\xc0\xaf", b"\xed\xa0\x80", b"\xe2\x82", b"\xff", b"\xf4\x90\x80\x80", b"\x80", b"\xc3", b"\xfe",
              b"\xe2\x28\xa1", b"\xf0\x80\x80\xaf", b"\xf8\x88\x80\x80\x80", b"\xc1\xbf", b"\xed\xbf\xbf",
              b"\xfc\x84\x80\x80\x80\x80", b"a\xe9b"]
    for parameters in (" SMTPUTF8", ""):
        each_refused(t, [b"u" + octets + b"@ours.example" for octets in broken], "501 5.5.2|553 5.6.7|501 5.1.3",
                     parameters)
        each_refused(t, [b"u@ours" + octets + b".example" for octets in broken], "501 5.5.2|553 5.6.7|501 5.1.3",
                     parameters)


@case("G9", "control characters beyond ASCII are refused in addresses", "RFC 6532 §3.2, RFC 5198")
def controls(t):
    each_refused(t, ["u\u0085@ours.example", "u\u009b@ours.example", '"u\u0085x"@ours.example',
                     "u@ours\u0085.example", "u\u0080@ours.example"], "501 5.1.7|501 5.1.3|501 5.5.2", " SMTPUTF8")


@case("G10", "U-labels and A-labels of a domain are the same domain", "RFC 5890 §2.3.2.4")
def labels(t):
    for ours in ("bücher.example", "xn--bcher-kva.example", "XN--BCHER-KVA.example"):
        relay = t.own_relay(LOCAL_DOMAINS=f"ours.example,{ours}")
        t.note(f"local_domains has {ours}")
        with t.connect(relay.mx) as c:
            c.hello()
            c.say("MAIL FROM:<a@b.example> SMTPUTF8", "250")
            for path in ("g10@bücher.example", "g10@xn--bcher-kva.example", "g10@BÜCHER.example",
                         "g10@Xn--Bcher-KVA.Example", "g10@bu\u0308cher.example", "g10@bücher。example"):
                c.say(f"RCPT TO:<{path}>", "250 2.1.5")
            c.say("RCPT TO:<g10@bucher.example>", "550 5.7.1")
            c.content(CONTENT)
        found = relay.peer.wait(lambda: relay.peer.mails)
        names = {one.split("@")[1] for mail in found for one in mail.recipients}
        t.check(names == {"xn--bcher-kva.example>"}, f"one name goes out: {names}")
    with t.connect(relay.mx) as c:
        c.hello()
        c.say("MAIL FROM:<a@b.example> SMTPUTF8", "250")
        for path in ("u@xn--ours-.example", "u@xn--.example", "u@xn--a.example", "u@xn--zzzzzzzz.example",
                     "u@a\u200cb.example", "u@☃-.example", "u@-☃.example"):
            c.say(f"RCPT TO:<{path}>", "5xx")


@case("G11", "a local part is not normalised on its way", "RFC 6532 §3.1")
def unchanged(t):
    relay = t.relay()
    forms = [unicodedata.normalize(form, "gé11é") for form in ("NFC", "NFD")]
    t.check(forms[0] != forms[1], "two forms")
    with t.connect(relay.mx) as c:
        c.hello()
        c.envelope("<a@b.example> SMTPUTF8", *[f"{form}@ours.example" for form in forms])
        c.content(CONTENT)
    mail = relay.arrived(f"{forms[0]}@ours.example")
    t.check(mail.recipients == [f"<{form}@ours.example>" for form in forms], "each as it was")


@case("G12", "VRFY takes SMTPUTF8 and other letters, and tells nothing", "RFC 6531 §3.7.4.2")
def vrfy(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        for line in ("VRFY ü SMTPUTF8", "VRFY <ü@ours.example> SMTPUTF8", "VRFY ani SMTPUTF8"):
            c.say(line, "252 2.0.0|252 2.1.5|502 5.5.1")
        c.send(b"VRFY \xff\r\n")
        c.reply("501 5.5.2|252 2.0.0|502 5.5.1")
        c.say("NOOP", "250")


@case("G14", "what an address shows to an operator holds no control characters", "UTR 36 §2")
def shown(t):
    relay = t.own_relay(NEXT_HOP=f"127.0.0.1:{t.port()}", RETRY=60)
    with t.connect(relay.mx) as c:
        c.hello()
        c.say("MAIL FROM:<a@b.example> SMTPUTF8", "250")
        for local in ("a\u202eb", "a\u2066b\u2069", "\u200fx", "a\u200bb"):
            c.say(f"RCPT TO:<{local}@ours.example>", "250 2.1.5|501 5.1.3")
        c.say("RCPT TO:<g14@ours.example>", "250")
        c.content(CONTENT)
    t.wait(lambda: relay.queue(), "it waits")
    table = subprocess.run([t.bench.binary, "queue", "ls"], capture_output=True, timeout=60,
                           env={"PATH": "/usr/bin:/bin", "MERPATI_DATA": str(relay.data)})
    t.check(b"g14@ours.example" in table.stdout, f"it is listed: {table.stdout} {table.stderr}")
    for letter in "\u202e\u2066\u2069\u200f\u200b":
        t.check(letter.encode() not in table.stdout, f"U+{ord(letter):04X} is not printed as it is")
    t.note("`merpati queue ls` shows these addresses without their invisible characters")
