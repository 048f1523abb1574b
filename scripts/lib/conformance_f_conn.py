"""Group F: who may say that somebody else is the client."""

import socket
import struct

from conformance_kit import TRUSTED, case

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V4 = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack(">HH", 4711, 25)


def header(command, family, rest):
    return SIGNATURE + bytes([command, family]) + struct.pack(">H", len(rest)) + rest


def cannot_relay(c):
    """The session is that of a stranger still."""
    c.say("EHLO client.example", "250")
    c.say("MAIL FROM:<a@b.example>", "250")
    c.say("RCPT TO:<f13@elsewhere.example>", "550 5.7.1")


@case("F13", "XCLIENT and XFORWARD from a stranger are refused", "Postfix XCLIENT_README")
def stranger(t):
    for line in (f"XCLIENT ADDR={TRUSTED}", f"XCLIENT ADDR={TRUSTED} LOGIN=ani",
                 f"XFORWARD ADDR={TRUSTED} NAME=localhost"):
        with t.connect(t.relay().mx) as c:
            keywords = c.hello()
            t.check("XCLIENT" not in keywords and "XFORWARD" not in keywords, "it is offered")
            c.say(line, "5xx")
            cannot_relay(c)


@case("F13", "a PROXY line from a stranger ends the session", "PROXY protocol §2")
def stranger_proxy(t):
    for line in (f"PROXY TCP4 {TRUSTED} 127.0.0.1 1 25\r\n", "PROXY UNKNOWN\r\n"):
        with t.connect(t.relay().mx) as c:
            c.send(line.encode() + b"EHLO client.example\r\n")
            c.reply("220")
            c.reply("5xx|421")
            c.closed()
    with t.connect(t.relay().mx) as c:
        c.send(header(0x21, 0x11, socket.inet_aton(TRUSTED) + V4[4:]) + b"EHLO client.example\r\n")
        c.reply("220")
        c.reply("5xx|421")
        c.rest(quiet=True)


@case("F13", "within TLS it is refused as well", "PROXY protocol §2")
def stranger_proxy_tls(t):
    with t.connect(t.relay().submissions, tls=True) as c:
        c.reply("220")
        c.say(f"PROXY TCP4 {TRUSTED} 127.0.0.1 1 25", "5xx|421")
        c.closed()


@case("F14", "whom a listed proxy names is the client", "PROXY protocol §2")
def proxied(t):
    relay = t.own_relay("listener.mx.proxy_from=127.0.0.1", "listener.submissions.proxy_from=127.0.0.1")
    v6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + bytes(16) + V4[8:]
    tls_facts = b"\x20\x00\x05\x07\x00\x00\x00\x00"
    for octets, address in ((b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n", "192.0.2.7"),
                            (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 25\r\n", "2001:db8::7"),
                            (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
                            (header(0x21, 0x11, V4), "192.0.2.7"),
                            (header(0x21, 0x11, V4 + tls_facts), "192.0.2.7"),
                            (header(0x21, 0x21, v6), "2001:db8::7"),
                            (header(0x20, 0x00, b""), "127.0.0.1"),
                            (header(0x20, 0x11, V4), "127.0.0.1")):
        for size in (len(octets), 5):
            with t.connect(relay.mx) as c:
                c.send(*(octets[at:at + size] for at in range(0, len(octets), size)))
                c.reply("220")
                t.check(f"[{address}]" in c.say("EHLO client.example", "250").text, address)
    with t.connect(relay.submissions) as c:
        c.send(header(0x21, 0x11, V4))
        c.handshake()
        c.reply("220")
        t.check("[192.0.2.7]" in c.say("EHLO client.example", "250").text, "over TLS")


@case("F14", "the address that a proxy names may send no more than it may", "PROXY protocol §2")
def proxied_relaying(t):
    relay = t.own_relay("listener.mx.proxy_from=127.0.0.1")
    for address, want in (("192.0.2.7", "550 5.7.1"), (TRUSTED, "250")):
        with t.connect(relay.mx) as c:
            c.send(f"PROXY TCP4 {address} 127.0.0.1 4711 25\r\n".encode())
            c.hello()
            c.say("MAIL FROM:<a@b.example>", "250")
            c.say("RCPT TO:<f14@elsewhere.example>", want)


@case("F14", "a broken header is dropped without a word", "PROXY protocol §2.2", slow=True)
def broken(t):
    relay = t.own_relay("listener.mx.proxy_from=127.0.0.1")
    for what, octets in (("65,535 octets", header(0x20, 0x00, bytes(65_535))),
                         ("AF_UNIX", header(0x21, 0x31, bytes(216))),
                         ("UDP", header(0x21, 0x12, V4)),
                         ("version 1 in version 2", header(0x11, 0x11, V4)),
                         ("an unknown command", header(0x22, 0x11, V4)),
                         ("an unknown family", header(0x21, 0x41, V4)),
                         ("addresses cut short", header(0x21, 0x11, V4[:11])),
                         ("a TLV beyond the end", header(0x21, 0x11, V4 + b"\x05\x00\xffx")),
                         ("half a TLV", header(0x21, 0x11, V4 + b"\x05")),
                         ("a wrong checksum", header(0x21, 0x11, V4 + b"\x03\x00\x04abcd")),
                         ("TCP4 without ports", b"PROXY TCP4 192.0.2.7 198.51.100.1\r\n"),
                         ("TCP5", b"PROXY TCP5 192.0.2.7 198.51.100.1 1 25\r\n"),
                         ("port 65536", b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n"),
                         ("a bare LF", b"PROXY TCP4 192.0.2.7 198.51.100.1 1 25\n"),
                         ("108 octets", b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n"),
                         ("no header", b"EHLO client.example\r\n")):
        with t.connect(relay.mx) as c:
            c.send(octets)
            t.check(c.rest(quiet=True) == b"", f"{what}: it was answered")
            t.note(f"{what}: closed without a word")
    for what, octets in (("truncated", header(0x21, 0x11, V4)[:20]), ("late", b"")):
        with t.connect(relay.mx) as c:
            c.send(octets) if octets else None
            t.check(c.rest(quiet=True) == b"", f"{what}: it was answered")
            t.note(f"{what}: closed without a word before 10 seconds")
    t.wait(lambda: len([line for line in relay.log("SessionEnded")
                        if "proxy-header" in line["refusals"]]) == 18, "lines in the log")


@case("F15", "XCLIENT from a listed client begins the session anew", "Postfix XCLIENT_README")
def introduced(t):
    relay = t.own_relay("listener.mx.xclient_from=127.0.0.1")
    with t.connect(relay.mx) as c:
        keywords = c.hello()
        t.check("ADDR" in keywords.get("XCLIENT", ""), "it is not offered")
        c.say("XCLIENT NAME=spike.example ADDR=192.0.2.7 PORT=4711", "220")
        c.say("MAIL FROM:<a@b.example>", "503")
        t.check("[192.0.2.7]" in c.say("EHLO client.example", "250").text, "not the client")
        c.say("MAIL FROM:<a@b.example>", "250")
        c.say(f"XCLIENT ADDR={TRUSTED}", "503 5.5.1")
        c.say("RCPT TO:<f15@elsewhere.example>", "550 5.7.1")
        c.say("RSET", "250")
        c.say("XCLIENT ADDR=IPV6:2001:db8::7 PROTO=SMTP HELO=[IPv6:2001:db8::7]", "220")
        c.say("MAIL FROM:<a@b.example>", "250")
        c.say("RSET", "250")
        c.say("XCLIENT ADDR=[UNAVAILABLE] NAME=[TEMPUNAVAIL] LOGIN=", "220")
        t.check("[0.0.0.0]" in c.say("EHLO client.example", "250").text, "not unknown")
        c.say("XCLIENT HELO=client+2Eexample", "220")
        for line in ("XCLIENT", "XCLIENT ADDR", "XCLIENT ADDR=localhost", "XCLIENT COLOUR=red",
                     "XCLIENT PORT=65536", "XCLIENT HELO=a+0D+0Ab", "XCLIENT PROTO=LMTP"):
            c.say(line, "501 5.5.4")


@case("F15", "LOGIN names a credential, and an unknown one sends nothing", "Postfix XCLIENT_README")
def login(t):
    relay = t.own_relay("listener.mx.xclient_from=127.0.0.1")
    for name, want in (("ani", "250"), ("nobody", "553 5.7.1")):
        with t.connect(relay.mx) as c:
            c.hello()
            c.say(f"XCLIENT ADDR=192.0.2.7 LOGIN={name}", "220")
            c.hello(greeting=False)
            c.say("MAIL FROM:<ani@ours.example>", want)
            if want == "250":
                c.say("RCPT TO:<f15@elsewhere.example>", "250")
