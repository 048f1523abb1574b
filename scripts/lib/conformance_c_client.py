"""Group C, the client's half: nothing from before TLS counts (RFC 3207 §4.2)."""

from conformance_kit import case
from conformance_outbound import EXTENSIONS, Outbound, Way
from conformance_peers import CLOSE

REQUIRED = 'tls = "required"\ntls_verify = false'


@case("C17", "octets behind the reply to STARTTLS end the connection, and none of them is used",
      "RFC 3207 §4.2, CVE-2021-38371")
def injected(t):
    octets = b"220 ready\r\n250-injected.example\r\n250-AUTH PLAIN\r\n250 SIZE 1\r\n"
    tls = {"tls": True}
    out = Outbound(t, [
        Way("TLS is required", "tls", {"STARTTLS": octets}, settings=REQUIRED, options=tls),
        Way("half a line", "tls", {"STARTTLS": b"220 ready\r\n25"}, settings=REQUIRED,
            options=tls),
        Way("once", "tls, delivered", {"STARTTLS": octets}, settings=REQUIRED, options=tls,
            once=True),
        # Who could write these octets could leave out STARTTLS as well (RFC 7435).
        Way("TLS is opportunistic", "delivered", {"STARTTLS": octets}, options=tls),
    ])
    out.play()
    for way in out.ways[:2]:
        said = b"".join(session.octets for session in way.hops[0].sessions)
        t.check(b"MAIL" not in said, "no mail")


@case("C19", "what was offered in the clear counts no more inside TLS", "RFC 3207 §4.2")
def second_list(t):
    def hello(clear, secret):
        def answer(session, _):
            lines = ["hop.example", *(secret if session.is_tls else [*clear, "STARTTLS"])]
            lines = [f"250-{one}\r\n" for one in lines[:-1]] + [f"250 {lines[-1]}\r\n"]
            return "".join(lines).encode()
        return answer
    user = 'user = "u"\npassword = "p"\n' + REQUIRED + "\nauth_clear = true"
    out = Outbound(t, [
        Way("SIZE 10 in the clear", "delivered", {"EHLO": hello(["SIZE 10"], ["8BITMIME"])},
            settings=REQUIRED, options={"tls": True}),
        Way("SIZE 10 inside", "failed 5.3.4", {"EHLO": hello(["8BITMIME"], ["SIZE 10"])},
            settings=REQUIRED, options={"tls": True}),
        Way("AUTH and CHUNKING in the clear alone", "authentication",
            {"EHLO": hello(["AUTH PLAIN", "CHUNKING"], ["8BITMIME"])}, settings=user,
            options={"tls": True}),
        Way("PIPELINING in the clear alone", "delivered",
            {"EHLO": hello(["PIPELINING"], ["8BITMIME"])}, settings=REQUIRED,
            options={"tls": True}),
    ])
    out.play()
    said = out.ways[2].hops[0].sessions[0].octets
    t.check(b"AUTH" not in said and b"MAIL" not in said, "neither AUTH nor mail")


@case("C20", "a reply that nobody asked for ends the connection, in the clear already",
      "RFC 5321 §4.2, NO STARTTLS")
def early(t):
    greeting = b"220 hop.example\r\n"
    offered = b"250-hop.example\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n"
    want = "protocol"
    tls = {"tls": True}
    out = Outbound(t, [
        Way("235 with the greeting", want, {"greeting": greeting + b"235 2.7.0 in\r\n"},
            settings=REQUIRED, options=tls),
        Way("250 with the greeting", want, {"greeting": greeting + b"250 hop.example\r\n"},
            settings=REQUIRED, options=tls),
        Way("235 with the reply to EHLO", "tls", {"EHLO": offered + b"235 2.7.0 in\r\n"},
            settings=REQUIRED, options=tls),
        Way("a greeting of 354", want, {"greeting": "354 go"}, settings=REQUIRED, options=tls),
        Way("354 to EHLO", want, {"EHLO": "354 go on"}, settings=REQUIRED, options=tls),
    ])
    out.play()
    for way in out.ways:
        said = b"".join(session.octets for session in way.hops[0].sessions)
        t.check(b"MAIL" not in said and b"AUTH" not in said, f"{way.name}: no mail, no AUTH")
