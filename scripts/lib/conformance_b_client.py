"""Group B, the client's half: what never goes out, whatever came in (RFC 5321 §2.3.8, §4.5.2)."""

import re

from conformance_kit import TRUSTED, case, missing
from conformance_outbound import CONFIGURATION, EXTENSIONS, Hop

SEQUENCES = {
    "B33": b"\n.\n", "B34": b"\n.\r\n", "B35": b"\r\n.\n", "B36": b"\r.\r", "B37": b"\r.\r\n",
    "B38": b"\r\n.\r", "B39": b"\n.\r", "B40": b"\r.\n", "B41": b"\r\n.\r\r\n",
    "B42": b"\r\r\n.\r\r\n", "B43": b"\r\n\0.\r\n", "B44": b"\r\n.\0\r\n", "B45": b"\r\0\n.\r\n",
}
SMUGGLED = b"MAIL FROM:<x@b.example>\r\nRCPT TO:<smuggled@ours.example>\r\nDATA\r\nx\r\n"
# What must look the same when its dots are undone.
DOTS = b".\r\n..\r\n...\r\n..x\r\n.. \r\n. \r\n .\r\n.MAIL FROM:<a@b.example>\r\nx.\r\n"


def check_wire(t, wire, has_ends=False):
    """No bare CR, bare LF or NUL, and no line of content begins with one dot."""
    bare = re.search(rb"(?<!\r)\n|\r(?!\n)|\0", wire)
    t.check(not bare, "no bare CR, bare LF or NUL on the wire")
    lines = wire.split(b"\r\n")
    lines = [line for line in lines if not (has_ends and line == b".")]
    t.check(not any(re.match(rb"\.($|[^.])", line) for line in lines),
            "no dot that is not doubled")


def forwarded(t, sequence, name):
    """By a trusted client and by one that has authenticated, with DATA and BDAT."""
    relay = t.relay()
    message = b"Subject: x\r\n\r\ntext" + sequence + SMUGGLED
    for way in ("trusted", "submission", "BDAT"):
        if way == "submission":
            c = t.submit(relay)
            c.envelope("ani@ours.example", f"{name}@ours.example")
        else:
            c = t.connect(relay.mx, source=TRUSTED)
            c.hello()
            c.envelope("a@b.example", f"{name}@elsewhere.example")
        t.note(f"from a client: {way}")
        if way == "BDAT":
            c.send(b"BDAT %d LAST\r\n" % len(message) + message)
        else:
            c.say("DATA", "354")
            # Only a true line that begins with a dot is doubled: the sequence goes as it is.
            c.send(message + b".\r\n")
        reply = c.reply("250|550 5.6.0|550 5.5.2")
        c.say("NOOP", "250")
        if reply.code == 250:
            peer = relay.peer
            mail = peer.wait(lambda: peer.mails_to(f"{name}@ours.example")
                             or peer.mails_to(f"{name}@elsewhere.example"))[-1]
            check_wire(t, mail.wire)
    for session in list(relay.peer.sessions):
        check_wire(t, session.octets, has_ends=True)
    t.check(not relay.peer.mails_to("smuggled@ours.example"), "nothing smuggled")


for one, octets in SEQUENCES.items():
    def outbound(t, octets=octets, one=one):
        forwarded(t, octets, one.lower())
    case(one, "from who is trusted too: none of it is on our outbound wire, and nothing smuggled",
         "RFC 5321 §2.3.8")(outbound)


@case("B33", "leading dots are doubled once, and the message ends where it ended",
      "RFC 5321 §4.5.2")
def dots(t):
    relay = t.relay()
    with t.connect(relay.mx, source=TRUSTED) as c:
        c.hello()
        c.envelope("a@b.example", "b33-dots@elsewhere.example")
        content = b"Subject: x\r\n\r\n" + DOTS
        c.say("DATA", "354")
        c.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        c.reply("250")
    mail = relay.arrived("b33-dots@elsewhere.example")
    t.check(mail.content.endswith(content), "octet for octet")
    t.check(mail.wire.endswith(content.replace(b"\r\n.", b"\r\n..")), "each dot doubled once")
    check_wire(t, mail.wire)


missing("B46", "the HTTP API takes no mail; it comes in by SMTP alone")


@case("B47", "by LMTP the same; BDAT is not sent, so that no count of it can be wrong",
      "RFC 2033, RFC 3030")
def lmtp(t):
    hops = {"lmtp": Hop(lmtp=True), "smtp": Hop(extensions=(*EXTENSIONS, "CHUNKING"))}
    for scheme, hop in hops.items():
        t.stack.callback(hop.close)
        route = f'[[route]]\nname = "hop"\nto = "{scheme}://{hop.place}"\n'
        relay = t.own_relay(toml=CONFIGURATION + route, peer=t.peer())
        t.note(f"the next hop: {scheme}")
        with t.connect(relay.mx, source=TRUSTED) as c:
            c.hello()
            content = b"Subject: x\r\n\r\n" + DOTS
            c.envelope("a@b.example", "u@elsewhere.example")
            c.say("DATA", "354")
            c.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
            c.reply("250")
            for sequence in SEQUENCES.values():
                c.envelope("a@b.example", "v@elsewhere.example")
                c.say("DATA", "354")
                c.send(b"Subject: x\r\n\r\ntext" + sequence + SMUGGLED + b".\r\n")
                c.reply("250|550 5.6.0|550 5.5.2")
        mails = hop.wait(lambda: hop.mails_to("u@elsewhere.example"))
        t.check(mails and mails[0].content.endswith(content), "octet for octet")
        for session in hop.sessions:
            check_wire(t, session.octets, has_ends=True)
            verb = b"LHLO" if scheme == "lmtp" else b"EHLO"
            t.check(session.lines[0].startswith(verb), verb.decode())
            t.check(not any(line.startswith(b"BDAT") for line in session.lines), "no BDAT")
