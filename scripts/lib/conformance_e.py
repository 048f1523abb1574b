"""Group E, sizes and bounds: what is too long, too much or too slow (RFC 1870, RFC 5321 §4.5.3)."""

import re
import socket
import threading
import time

from conformance_kit import TRUSTED, Failed, case
from conformance_peers import SILENT

HEAD = b"Subject: x\r\n\r\n"
LIMIT = 100_000


@case("E1", "SIZE beyond the limit is 552 at MAIL, up to it 250", "RFC 1870 §6.1")
def declared(t):
    relay = t.relay(MAX_SIZE=LIMIT)
    with t.connect(relay.mx) as c:
        t.check(c.hello()["SIZE"] == str(LIMIT), "the limit is told")
        for size in (LIMIT + 1, LIMIT + 2, 10 * LIMIT, 2**31, 2**32, 2**32 + 5, 2**63, 2**64 - 1):
            c.say(f"MAIL FROM:<a@b.example> SIZE={size}", "552 5.3.4")
            c.say("RCPT TO:<e1@ours.example>", "503 5.5.1")
        for size in (LIMIT, LIMIT - 1, 0, 1, "000100"):
            c.say(f"MAIL FROM:<a@b.example> SIZE={size}", "250 2.1.0")
            c.say("RSET", "250")


@case("E1", "a message longer than its SIZE is taken within the limit", "RFC 1870 §6.3")
def more_than_declared(t):
    relay = t.relay(MAX_SIZE=LIMIT)
    with t.connect(relay.mx) as c:
        c.hello()
        c.envelope("<a@b.example> SIZE=10", "e1-more@ours.example")
        c.content(HEAD + b"x" * 100 + b"\r\n", "250 2.0.0|552 5.3.4")


@case("E2", "a SIZE that is no number is 501, one beyond 64 bits 552", "RFC 1870 §6")
def malformed(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        for size in ("abc", "-1", "+5", "", "1.5", "0x10", "1e3", "1,000", "5 5", "٥", "5a", " 5", "'5'",
                     "\"5\"", "=5"):
            c.say(f"MAIL FROM:<a@b.example> SIZE={size}", "501 5.5.4|555 5.5.4|553 5.6.7|501 5.5.2")
        c.say("MAIL FROM:<a@b.example> SIZE", "501 5.5.4")
        for size in (2**64 + 1, "9" * 20, "1" + "0" * 30, "9" * 400):
            c.say(f"MAIL FROM:<a@b.example> SIZE={size}", "552 5.3.4|501 5.5.4")
        c.say("RCPT TO:<e2@ours.example>", "503 5.5.1")
        c.say("MAIL FROM:<a@b.example> SIZE=5", "250 2.1.0")


@case("E3", "content beyond the limit is read to its end, 552, and nothing of it is kept",
      "RFC 5321 §4.5.3.1.7, RFC 1870 §6.3")
def oversize(t):
    relay = t.own_relay(MAX_SIZE=LIMIT)
    before = relay.memory()
    line = b"x" * 998 + b"\r\n"
    with t.connect(relay.mx) as c:
        c.hello()
        for size in (LIMIT + 1, 2 * LIMIT, 64 << 20):
            c.envelope("a@b.example", "e3@ours.example")
            c.say("DATA", "354")
            t.note(f"content of {size} octets or a few more")
            c.send(HEAD, quiet=True)
            for _ in range(size // len(line) + 1):
                c.send(line, quiet=True)
            c.send(b".\r\n")
            c.reply("552 5.3.4")
            c.say("NOOP", "250 2.0.0")
        c.envelope("a@b.example", "e3-next@ours.example")
        c.content(HEAD + b"next\r\n")
    relay.arrived("e3-next@ours.example")
    t.check(not relay.peer.mails_to("e3@ours.example"), "nothing of them was kept")
    t.check(relay.memory() - before < 32 << 20, "memory stays flat")
    t.check(not [one for one in relay.queue() if "e3@" in str(one)], "nothing waits")


@case("E3", "content of exactly the limit is taken; one octet more is not", "RFC 1870 §6.3")
def exactly(t):
    relay = t.relay(MAX_SIZE=LIMIT)
    with t.connect(relay.mx) as c:
        c.hello()
        for more, pattern in ((0, "250 2.0.0"), (1, "552 5.3.4")):
            c.envelope("a@b.example", f"e3-{more}@ours.example")
            body = HEAD + b"y" * (LIMIT + more - len(HEAD) - 2) + b"\r\n"
            c.content(body, pattern)
            c.envelope("a@b.example", f"e3-bdat-{more}@ours.example")
            c.send(b"BDAT %d LAST\r\n" % len(body) + body)
            c.reply(pattern)
        # Dots that are doubled on the way do not count.
        c.envelope("a@b.example", "e3-dots@ours.example")
        dots = HEAD + b"..\r\n" * ((LIMIT - len(HEAD)) // 3)
        c.say("DATA", "354")
        c.send(dots + b".\r\n")
        c.reply("250 2.0.0")
    relay.arrived("e3-0@ours.example")


@case("E4", "lines of 998 octets and more come through as they are", "RFC 5321 §4.5.3.1.6")
def lines(t):
    relay = t.relay()
    sizes = {998: "998", 1_000: "1k", 2_000: "2k", 100_000: "100k", 10_000_000: "10M"}
    with t.connect(relay.mx) as c:
        c.hello()
        taken = []
        for size, name in sizes.items():
            c.envelope("a@b.example", f"e4-{name}@ours.example")
            c.say("DATA", "354")
            c.send(HEAD + b"z" * size + b"\r\n.\r\n")
            if c.reply("250 2.0.0|500 5.6.0|552 5.6.0|554 5.6.0").code == 250:
                taken.append(size)
        c.say("NOOP", "250")
    t.check(998 in taken and 1_000 in taken, "what the RFC allows is taken")
    for size in taken:
        content = relay.arrived(f"e4-{sizes[size]}@ours.example").content
        t.check(content.endswith(HEAD + b"z" * size + b"\r\n"), f"{size} octets, nothing cut in")
        t.note(f"the line of {size} octets arrived as it was")


@case("E4", "lines of 998 octets of 8-bit text and dots come through", "RFC 6152")
def eight_bit_lines(t):
    body = HEAD + b"".join([
        "ü".encode() * 499 + b"\r\n", b"." * 998 + b"\r\n", b"\xff" * 998 + b"\r\n",
        b" " * 998 + b"\r\n", b"\t\r\n", b"\r\n" * 5,
    ])
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.envelope("<a@b.example> BODY=8BITMIME", "e4-8bit@ours.example")
        c.say("DATA", "354")
        c.send(re.sub(rb"^\.", b"..", body, flags=re.M) + b".\r\n")
        c.reply("250 2.0.0")
    content = t.relay().arrived("e4-8bit@ours.example").content
    t.check(content.endswith(body), "byte for byte")


@case("E5", "command lines of 512 octets are read, of 2,000 refused, of 4 MB the end",
      "RFC 5321 §4.5.3.1.4")
def commands(t):
    relay = t.own_relay()
    with t.connect(relay.mx) as c:
        c.hello()
        for size in (510, 512, 1_000):
            c.say("NOOP " + "x" * (size - 7), "250 2.0.0")
        c.say("MAIL FROM:<a@b.example>" + " " * 470 + "SIZE=1", "250 2.1.0")
        c.say("RSET", "250")
        for size in (2_000, 5_000, 60_000):
            c.say("NOOP " + "x" * size, "500 5.5.2")
            c.say("MAIL FROM:<" + "a" * size + "@b.example>", "500 5.5.2")
            c.say("XYZ" * (size // 3), "500 5.5.2")
        c.say("MAIL FROM:<a@b.example>", "250")
        c.say("RCPT TO:<" + "a" * 2_000 + "@ours.example>", "500 5.5.2")
        c.say("RCPT TO:<e5@ours.example>", "250 2.1.5")
        c.say("NOOP", "250")
    before = relay.memory()
    for octets in (b"x" * (4 << 20), b"MAIL FROM:<" + b"y" * (4 << 20), b"\0" * (4 << 20)):
        with t.connect(relay.mx) as c:
            c.hello()
            t.note(f"{len(octets)} octets without a line end")
            try:
                c.socket.sendall(octets)
            except OSError:
                pass
            try:
                answer = c.rest(quiet=True)
            except Failed:
                raise Failed("it waits for ever") from None
            t.check(answer[:3] in (b"421", b"500", b""), "421, 500 or the end")
    t.check(relay.memory() - before < 16 << 20, "memory stays flat")


@case("E6", "100 recipients are taken; beyond the limit 452, and the earlier ones stay",
      "RFC 5321 §4.5.3.1.8, §4.5.3.1.10")
def recipients(t):
    relay = t.own_relay()
    with t.connect(relay.mx) as c:
        c.hello()
        for count in (100, 1_500):
            c.say("MAIL FROM:<a@b.example>", "250")
            c.send(b"".join(b"RCPT TO:<e6-%d-%d@ours.example>\r\n" % (count, at)
                            for at in range(count)), quiet=True)
            before = len(t.lines)
            found = [c.reply("250 2.1.5|452 4.5.3").code for _ in range(count)]
            del t.lines[before:]
            taken = found.count(250)
            t.check(found == [250] * taken + [452] * (count - taken), "first the one, then the other")
            t.check(taken >= 100, "at least 100 are taken")
            t.note(f"{count} RCPT: {taken} times 250, then 452 4.5.3")
            c.content(HEAD)
    for count, last in ((100, 99), (1_500, taken - 1)):
        relay.arrived(f"e6-{count}-0@ours.example")
        relay.arrived(f"e6-{count}-{last}@ours.example")
    t.check(not relay.peer.mails_to(f"e6-1500-{taken}@ours.example"), "none of the others")


@case("E17", "100 MB of pipelined MAIL and RSET hold nobody else up", "fairness", slow=True)
def flood(t):
    relay = t.own_relay()
    stop = threading.Event()
    sent = [0] * 8
    threads = [threading.Thread(target=pipeline, args=(relay.mx, stop, sent, at)) for at in range(8)]
    for thread in threads:
        thread.start()
    waits = []
    with t.connect(relay.mx) as c:
        c.hello()
        while sum(sent) < 100 << 20:
            began = time.monotonic()
            c.send(b"NOOP\r\n", quiet=True)
            before = len(t.lines)
            c.reply("250")
            del t.lines[before:]
            waits.append(time.monotonic() - began)
            time.sleep(0.05)
        c.envelope("a@b.example", "e17@ours.example")
        c.content(HEAD)
    stop.set()
    for thread in threads:
        thread.join()
    relay.arrived("e17@ours.example")
    t.check(sorted(waits)[len(waits) // 2] < 1, "half of the others' commands take less than 1 s")
    t.check(max(waits) < 10, "none takes longer than 10 s")
    t.check(relay.memory() < 512 << 20, "memory stays in bounds")
    t.note("8 connections sent 100 MB of MAIL and RSET; the other's commands took less than 1 s")


def pipeline(place, stop, sent, at):
    octets = b"MAIL FROM:<a@b.example>\r\nRSET\r\n" * 2_000
    while not stop.is_set():
        with socket.create_connection(place, 60) as stream:
            said = stream.recv(1_000)
            stream.sendall(b"EHLO x\r\n")
            while b"\r\n250 " not in said:
                said += stream.recv(1_000)
            reader = threading.Thread(target=drain, args=(stream,), daemon=True)
            reader.start()
            try:
                while not stop.is_set():
                    stream.sendall(octets)
                    sent[at] += len(octets)
            except OSError:
                pass


def drain(stream):
    try:
        while stream.recv(1 << 20):
            pass
    except OSError:
        pass


@case("E18", "a queue of 100,000 to one destination holds up no other", "fairness", slow=True)
def one_destination(t):
    port = t.port()
    zone = t.dns(f"dead.example MX 10 mx.dead.example", f"mx.dead.example A {t.address(1)}",
                 f"alive.example MX 10 mx.alive.example", f"mx.alive.example A {t.address(2)}")
    dead = t.peer({"greeting": SILENT}, address=t.address(1), port=port)
    alive = t.peer(address=t.address(2), port=port)
    relay = t.own_relay("delivery.connections_per_host_max=5", NEXT_HOP="", DNS_ADDR=zone.place,
                        DEST_PORT=port, RETRY=60)
    relay.peer = alive
    t.note("100,000 deliveries for dead.example, which takes connections and says nothing")
    with t.connect(relay.mx, source=TRUSTED) as c:
        c.hello()
        lines = t.lines
        t.lines = []
        for batch in range(100):
            c.send(b"MAIL FROM:<a@b.example>\r\n" + b"".join(
                b"RCPT TO:<u%d-%d@dead.example>\r\n" % (batch, at) for at in range(1_000))
                + b"DATA\r\n", quiet=True)
            c.reply("250", *["250"] * 1_000, "354")
            c.send(HEAD + b".\r\n", quiet=True)
            c.reply("250")
        t.lines = lines
        t.wait(lambda: dead.sessions, "the first attempt")
        waits = []
        for at in range(20):
            began = time.monotonic()
            c.say("MAIL FROM:<a@b.example>", "250")
            c.say(f"RCPT TO:<e18-{at}@alive.example>", "250")
            c.content(HEAD)
            relay.arrived(f"e18-{at}@alive.example")
            waits.append(time.monotonic() - began)
        t.check(max(waits) < 5, f"mail to alive.example takes {max(waits):.1f} s at most")
        t.note("20 messages to alive.example arrive within 5 s each")


@case("E19", "1,000 contents of 10 MB at once are kept on disk, not in memory", "bounds", slow=True)
def memory(t):
    count, size = 1_000, 10 << 20
    relay = t.own_relay("limits.memory_max=1 GiB", MAX_SIZE=64 << 20)
    before = relay.memory()
    streams = []
    try:
        for _ in range(count):
            stream = socket.create_connection(relay.mx, 60)
            streams.append(stream)
            said = stream.recv(1_000)
            stream.sendall(b"EHLO x\r\n")
            while b"\r\n250 " not in said:
                said += stream.recv(1_000)
            stream.sendall(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<e19@ours.example>\r\nDATA\r\n")
        for stream in streams:
            said = b""
            while b"354" not in said:
                said += stream.recv(65_536)
        piece = (b"x" * 998 + b"\r\n") * 1_049
        highest = 0
        for _ in range(size // len(piece) + 1):
            for stream in streams:
                stream.sendall(piece)
            highest = max(highest, relay.memory())
        t.note("1,000 connections have sent 10 MB of content each, and none its end")
        t.check(highest < 1 << 30, f"{highest >> 20} MiB of memory at most, below limits.memory_max")
        for stream in streams[:5]:
            stream.sendall(b"\r\n.\r\n")
            t.check(stream.recv(1_000)[:3] == b"250", "the end is taken")
    finally:
        for stream in streams:
            stream.close()
    relay.arrived("e19@ours.example", 5)
    t.check(before < 512 << 20, "a small start")
    t.note("memory stayed below limits.memory_max; five of them were ended, and arrived")


@case("E20", "no address makes policy slow", "bounds")
def slow_policy(t):
    hostile = [
        "a" * 64 + "@" + ".".join(["a"] * 120) + ".example",
        "a@" + "-".join(["a"] * 31) + ".example", "a@" + ".".join(["xn--a"] * 40),
        '"' + "\\a" * 31 + '"@ours.example', "a@" + "a" * 63 + ".example",
        "@" + ",@".join(["a.example"] * 19) + ":u@ours.example",
        "@" + ",@".join(["a.example"] * 100) + ":u@ours.example",
        "(" * 400 + "@ours.example", "<" * 400, '"' * 401 + "@ours.example", "a." * 300 + "@ours.example",
        "*@*", "%s%n@ours.example", "^(a+)+$@ours.example", "a@[" + "1" * 500, "a@[IPv6:" + ":" * 500 + "]",
    ]
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.say("MAIL FROM:<a@b.example>", "250")
        for path in hostile:
            began = time.monotonic()
            c.say(f"RCPT TO:<{path}>", "250|5xx")
            t.check(time.monotonic() - began < 2, "answered at once")
