"""Group E: connections that do nothing, do it slowly, or are too many."""

import contextlib
import resource
import socket
import threading
import time

from conformance_kit import case


def told(stream):
    """What a connection is told first: its code."""
    with contextlib.suppress(OSError):
        return stream.recv(200)[:9].decode(errors="replace")
    return "closed"


def served(t, place, source=None):
    with t.connect(place, source=source) as c:
        c.hello()
        c.say("QUIT", "221")


def raise_limit(wanted):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


@case("E10", "60 idle connections do not keep others out", "operations")
def idle_connections(t):
    relay = t.relay()
    idle = [socket.create_connection(relay.mx, 30, ("127.0.1.1", 0)) for _ in range(60)]
    t.note("60 idle connections from one address; another one:")
    served(t, relay.mx)
    for stream in idle:
        stream.close()


@case("E10", "10,000 idle connections do not keep others out", "operations", slow=True)
def many_idle_connections(t):
    raise_limit(12_000)
    relay = t.own_relay()
    idle = []
    try:
        for number in range(10_000):
            source = f"127.2.{number // 2_500}.{1 + number // 50 % 50}"
            idle.append(socket.create_connection(relay.mx, 30, (source, 0)))
        t.check(all(told(stream) == "220 mx.ou" for stream in idle), "not all are greeted")
        t.note("10,000 idle connections from 200 addresses; another one:")
        served(t, relay.mx)
    finally:
        for stream in idle:
            stream.close()


@case("E10", "beyond the limit of an address: 421 4.7.0", "operations")
def one_address(t):
    relay = t.own_relay("listener.mx.connections_per_address_max=100")
    streams = [socket.create_connection(relay.mx, 30, ("127.0.1.2", 0)) for _ in range(500)]
    codes = [told(stream)[:9] for stream in streams]
    t.check(codes.count("421 4.7.0") == 400, f"{codes.count('421 4.7.0')} were refused")
    t.note("500 connections from one address: 100 are greeted, 400 told 421 4.7.0; another one:")
    served(t, relay.mx)
    for stream in streams:
        stream.close()
    t.note("the first one again, after all were closed:")
    t.wait(lambda: relay.metrics().get('merpati_sessions_open{listener="mx"}') == 0, "all closed")
    served(t, relay.mx, source="127.0.1.2")


@case("E10", "networks and rates have limits of their own", "operations")
def networks_and_rates(t):
    relay = t.own_relay("listener.mx.connections_per_network_max=3",
                        "listener.submission.connections_per_minute_max=3")
    places = [socket.create_connection(relay.mx, 30, (f"127.3.3.{at}", 0)) for at in range(1, 6)]
    codes = [told(stream)[:3] for stream in places]
    t.check(codes == ["220"] * 3 + ["421"] * 2, str(codes))
    t.note("5 neighbours: 3 are greeted, 2 told 421")
    codes = []
    for _ in range(5):
        with socket.create_connection(relay.submission, 30, ("127.3.4.1", 0)) as stream:
            codes.append(told(stream)[:3])
    t.check(codes == ["220"] * 3 + ["421"] * 2, str(codes))
    t.note("5 connections in a minute: 3 are greeted, 2 told 421")
    for stream in places:
        stream.close()


@case("E11", "who drips octets is told 421 4.4.2 in each phase", "slowloris")
def slow(t):
    relay = t.own_relay(
        "listener.mx.command_wait=1 s", "listener.mx.data_block_wait=5 s",
        "listener.mx.content_grace=1 s", "listener.mx.content_rate_min=1000",
        "listener.submissions.handshake_wait=1 s")
    for where, text in (("a command", b"EHLO slow"), ("the header", b"Subject: slow"),
                        ("the body", b"\r\nslow and slow"), ("a chunk", b"slow and slow")):
        with t.connect(relay.mx) as c:
            c.reply("220") if where == "a command" else c.hello()
            if where != "a command":
                c.envelope("a@b.example", "e11@ours.example")
                if where == "a chunk":
                    c.send(b"BDAT 1000 LAST\r\n")
                else:
                    c.say("DATA", "354")
            end = time.monotonic() + 20
            at = 0
            c.socket.settimeout(0.2)
            octets = b""
            while not octets and time.monotonic() < end:
                with contextlib.suppress(OSError):
                    c.socket.send(text[at % len(text):][:1])
                at += 1
                with contextlib.suppress(TimeoutError):
                    octets = c.socket.recv(500)
            t.check(octets.startswith(b"421 4.4.2"), f"{where}: {octets!r}")
            t.note(f"an octet from time to time in {where}: 421 4.4.2")
    began = time.monotonic()
    with socket.create_connection(relay.submissions, 30) as stream:
        with contextlib.suppress(OSError):
            for octet in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200):
                stream.sendall(bytes([octet]))
                time.sleep(0.1)
                if time.monotonic() > began + 10:
                    break
    t.check(time.monotonic() - began < 10, "a slow handshake goes on")
    t.note("an octet from time to time in the handshake: closed")


@case("E11", "a transaction has an end, however busy it looks", "slowloris")
def slow_transaction(t):
    relay = t.own_relay("listener.mx.transaction_wait=1 s")
    with t.connect(relay.mx) as c:
        c.hello()
        c.envelope("a@b.example", "e11@ours.example")
        end = time.monotonic() + 20
        code = 250
        while code == 250 and time.monotonic() < end:
            before = len(t.lines)
            c.send(b"NOOP\r\n", quiet=True)
            code = c.reply("250|421 4.4.2").code
            if code == 250:
                del t.lines[before:]
            time.sleep(0.1)
        t.check(code == 421, "the transaction goes on")


@case("E12", "who never reads our replies is cut off, and memory is flat", "operations")
def deaf(t):
    relay = t.own_relay("listener.mx.write_wait=1 s")
    served(t, relay.mx)
    before = relay.memory()
    deaf = []
    for _ in range(20):
        stream = socket.socket()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stream.connect(relay.mx)
        stream.settimeout(2)
        deaf.append(stream)

    def flood(stream):
        with contextlib.suppress(OSError):
            while True:
                stream.sendall(b"NOOP\r\n" * 10_000)

    threads = [threading.Thread(target=flood, args=(stream,)) for stream in deaf]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    t.wait(lambda: len(relay.log("SessionEnded")) >= 21, "all are cut off")
    t.check(relay.memory() < before + (32 << 20), "memory grew")
    t.note("20 clients that only send: cut off; memory is flat; another one:")
    served(t, relay.mx)
    for stream in deaf:
        stream.close()


@case("E13", "who is gone without a word is let go", "RFC 1122 §4.2.3.6", slow=True)
def half_open(t):
    raise_limit(4_096)
    relay = t.own_relay("listener.mx.command_wait=2 s")
    served(t, relay.mx)
    repair = 19
    streams = []
    for number in range(2_000):
        stream = socket.create_connection(relay.mx, 30, (f"127.4.0.{1 + number // 50}", 0))
        streams.append(stream)
    for stream in streams:
        try:
            stream.setsockopt(socket.IPPROTO_TCP, repair, 1)
        except PermissionError:
            pass
        stream.close()
    t.note("2,000 clients vanish without FIN and reset")
    t.wait(lambda: relay.metrics().get('merpati_sessions_open{listener="mx"}') == 0, "all let go")
    t.note("all of them are let go")
    served(t, relay.mx)


@case("E14", "a connection cut in the body delivers nothing", "RFC 5321 §4.1.1.4")
def cut(t):
    relay = t.relay()
    for text in (b"Subject: x\r\n\r\nhalf", b"Subject: x\r\n\r\nbody\r\n.\r",
                 b"Subject: x\r\n\r\nbody\r\n.", b"Subject: x\r\n\r\nbody\r\n"):
        for how in (socket.SHUT_WR, None):
            with t.connect(relay.mx) as c:
                c.hello()
                c.envelope("a@b.example", "e14@ours.example")
                c.say("DATA", "354")
                c.send(text)
                if how is None:
                    c.socket.close()
                    continue
                c.socket.shutdown(how)
                octets = c.rest(quiet=True)
                t.check(not octets.startswith(b"2"), f"half a message was taken: {octets!r}")
    with t.connect(relay.mx) as c:
        c.hello()
        c.envelope("a@b.example", "e14.end@ours.example")
        c.content(b"Subject: x\r\n\r\n")
    relay.arrived("e14.end@ours.example")
    t.check(not relay.peer.mails_to("e14@ours.example"), "half a message arrived")


@case("E15", "in a burst all that is acknowledged is delivered", "RFC 5321 §6.1", slow=True)
def burst(t):
    relay = t.own_relay()
    acked, others = [], []

    def client(number):
        with contextlib.suppress(OSError), socket.create_connection(relay.mx, 60) as stream:
            replies = stream.makefile("rb")
            replies.readline()
            stream.sendall(b"HELO x\r\n")
            replies.readline()
            for mail in range(160):
                name = f"e15.{number}.{mail}@ours.example"
                stream.sendall(f"MAIL FROM:<a@b.example>\r\nRCPT TO:<{name}>\r\nDATA\r\n".encode())
                codes = [replies.readline()[:3] for _ in range(3)]
                if codes[2] == b"354":
                    stream.sendall(b"Subject: x\r\n\r\n.\r\n")
                    codes.append(replies.readline()[:3])
                (acked if codes[-1] == b"250" else others).append((name, codes[-1]))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    t.check(all(code[:1] == b"4" for _, code in others), f"not 4yz: {others[:3]}")
    t.check(len(acked) + len(others) == 16 * 160, "a client was cut off")
    t.wait(lambda: all(relay.peer.mails_to(name) for name, _ in acked), "all arrive", 120)
    t.note("16 clients with 160 mails each: what is acknowledged arrives")


@case("E16", "with 64 descriptors and 200 clients it refuses or waits, and recovers", "operations")
def few_descriptors(t):
    limited = t.folder() / "merpati"
    limited.write_text(f'#!/bin/sh\nulimit -n 64\nexec "{t.bench.binary}" "$@"\n')
    limited.chmod(0o755)
    relay = t.own_relay(MERPATI=limited)
    streams = []
    for number in range(200):
        stream = socket.socket()
        stream.settimeout(5)
        stream.bind((f"127.5.0.{1 + number % 200}", 0))
        stream.connect(relay.mx)
        streams.append(stream)
    time.sleep(0.5)
    used = cpu_ticks(relay.pid)
    time.sleep(1)
    spent = (cpu_ticks(relay.pid) - used) / 100
    t.check(spent < 0.5, f"it spins: {spent} s of a second")
    codes = set()
    for stream in streams:
        stream.settimeout(0.01)
        codes.add(told(stream)[:9])
    t.check(codes <= {"220 mx.ou", "421 4.3.2", "421 4.7.0", "closed", ""}, str(codes))
    for stream in streams:
        stream.close()
    t.note("200 clients: greeted, told 421 or let wait; no spinning; and then:")
    t.wait(lambda: can_connect(relay.mx), "it recovers")
    served(t, relay.mx)


def can_connect(place):
    with contextlib.suppress(OSError), socket.create_connection(place, 5) as stream:
        stream.settimeout(5)
        return stream.recv(100).startswith(b"220")
    return False


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])
