"""Group A: how much nonsense a session bears, and how it ends."""

import os
import signal

from conformance_kit import case


@case("A17", "60 bad commands end the session with 421", "RFC 5321 §3.8")
def sixty_bad_commands(t):
    with t.connect(t.relay().mx) as c:
        c.reply("220")
        for _ in range(60):
            c.send(b"FOO\r\n", quiet=True)
            before = len(t.lines)
            reply = c.reply("500 5.5.2|421 4.7.0")
            if reply.code == 421:
                break
            del t.lines[before:]
        t.check(reply.code == 421, "the session goes on after 60 bad commands")
        c.closed()


@case("A17", "a limit of one's own holds", "RFC 5321 §3.8")
def own_limit(t):
    relay = t.own_relay("listener.mx.bad_commands_max=3")
    with t.connect(relay.mx) as c:
        c.reply("220")
        c.say("FOO", "500 5.5.2")
        c.say("DATA", "503 5.5.1")
        c.say("MAIL FROM:<a b>", "421 4.7.0")
        c.closed()


@case("A18", "HTTP is cut off at its first line", "cross-protocol requests")
def http(t):
    for line in ("POST / HTTP/1.1", "GET / HTTP/1.1", "HEAD / HTTP/1.0", "PUT /x HTTP/1.1",
                 "DELETE / HTTP/1.1", "OPTIONS * HTTP/1.1", "CONNECT mx:25 HTTP/1.1",
                 "PATCH / HTTP/1.1", "TRACE / HTTP/1.1", "Host: mx.ours.example", "get / http/1.1"):
        with t.connect(t.relay().mx) as c:
            c.reply("220")
            c.send(f"{line}\r\nContent-Type: text\r\n\r\nEHLO x\r\nMAIL FROM:<a@b.example>\r\n"
                   "RCPT TO:<a18@ours.example>\r\nDATA\r\nx\r\n.\r\n".encode())
            c.reply("421 4.7.0|521")
            c.closed()


@case("A18", "an authenticated session is cut off as well", "cross-protocol requests")
def http_submission(t):
    with t.submit(t.relay()) as c:
        c.say("POST / HTTP/1.1", "421 4.7.0|521")
        c.closed()


@case("A21", "an idle client is told 421 4.4.2", "RFC 5321 §4.5.3.2.7")
def idle(t):
    relay = t.own_relay("listener.mx.command_wait=500 ms")
    with t.connect(relay.mx) as c:
        c.reply("220")
        c.reply("421 4.4.2")
        c.closed()
    with t.connect(relay.mx) as c:
        c.hello()
        c.reply("421 4.4.2")
        c.closed()
    with t.connect(relay.mx) as c:
        c.hello()
        c.envelope("a@b.example", "a21@ours.example")
        c.reply("421 4.4.2")
        c.closed()


@case("A21", "half a command is no command", "RFC 5321 §4.5.3.2.7")
def half_a_command(t):
    relay = t.own_relay("listener.mx.command_wait=500 ms")
    with t.connect(relay.mx) as c:
        c.reply("220")
        c.send(b"EHL")
        c.reply("421 4.4.2")
        c.closed()


@case("A21", "content that stops is told 421 4.4.2, and nothing is kept", "RFC 5321 §4.5.3.2.5")
def idle_content(t):
    relay = t.own_relay("listener.mx.data_block_wait=500 ms")
    for begin in ("DATA", "BDAT 100 LAST"):
        with t.connect(relay.mx) as c:
            c.hello()
            c.envelope("a@b.example", "a21@ours.example")
            if begin == "DATA":
                c.say(begin, "354")
                c.send(b"Subject: x\r\n\r\nhalf")
            else:
                c.send(b"BDAT 100 LAST\r\nhalf")
            c.reply("421 4.4.2")
            c.closed()
    t.check(not relay.peer.mails_to("a21@ours.example"), "half a message arrived")


@case("A22", "shutdown says 421 4.3.2 and never cuts a transaction at its end", "RFC 5321 §3.8")
def shutdown(t):
    relay = t.own_relay("server.drain_wait=5 s")
    idle = t.connect(relay.mx, name="C1")
    idle.hello()
    sending = t.connect(relay.mx, name="C2")
    sending.hello()
    sending.envelope("a@b.example", "a22@ours.example")
    sending.say("DATA", "354")
    sending.send(b"Subject: x\r\n\r\n")
    t.note("SIGTERM")
    os.kill(relay.pid, signal.SIGTERM)
    idle.reply("421 4.3.2")
    idle.closed()
    sending.send(b"body\r\n.\r\n")
    sending.reply("250 2.0.0")
    sending.reply("421 4.3.2")
    sending.closed()
    t.check(relay.process.wait(20) == 0, "the relay did not end well")
