"""Abuses a relay with half-open, slow and hostile connections while somebody else sends mail.

Called by scripts/abuse.sh. The other client's mail must go on, all of it, and the memory and the
descriptors of the relay must come back. Two processes beside the relay and its next hop: this one
abuses, the other one sends a message per connection and notes how long each takes.
"""

import argparse
import contextlib
import errno
import heapq
import json
import os
import pathlib
import random
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from bench_servers import Rig, Sink, pss_mib  # noqa: E402
from servers import Server, end_process, free_port, greets, wait_until  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
FRIEND = "127.0.0.77"
# Linux: the port is drawn at connect, so that one address has all of them for each other end.
IP_BIND_ADDRESS_NO_PORT = 24
TCP_REPAIR = 19
RESET = struct.pack("ii", 1, 0)
# What a connection is allowed to cost the relay, and how much may be left of it afterwards.
CONNECTION_KIB_MAX = 20
LEFT_MIB_MAX = 24
COMES_BACK_SECONDS = 30
# Seconds that the other client's slowest mail may take, and its 99th in a hundred.
SLOWEST_SECONDS = 15
SLOW_SECONDS = 5

EHLO = b"EHLO abuse.example\r\n"
ENVELOPE = b"MAIL FROM:<a@abuse.example>\r\nRCPT TO:<b@ours.example>\r\n"
HELLO_RECORD = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60)

# What each kind of abuser says: at once, after the greeting, after further replies, and then an
# octet in each second, or floods; and whether it reads. `tls`: it talks to the port of implicit TLS.
KINDS = {
    "silent": {},
    "vanishing": {"ends": "vanish"},
    "greeted": {"says": [EHLO]},
    "slow in a command": {"drips": b"EHLO " + b"x" * 400},
    "slow in the header": {"says": [EHLO, ENVELOPE, b"DATA\r\n"], "drips": b"Subject: " + b"x" * 400},
    "slow in a chunk": {"says": [EHLO, ENVELOPE, b"BDAT 100000 LAST\r\n"], "drips": b"x" * 400},
    "deaf": {"says": [EHLO], "floods": b"NOOP\r\n" * 1_000, "reads": False},
    "endless line": {"floods": b"x" * 16_384},
    "garbage": {"at_once": bytes(range(256)) * 8 + b"\r\n"},
    "early": {"at_once": EHLO + ENVELOPE + b"DATA\r\nSubject: x\r\n\r\n.\r\n"},
    "browser": {"at_once": b"POST / HTTP/1.1\r\nHost: x\r\n\r\n" + EHLO + ENVELOPE},
    "cut in the body": {"says": [EHLO, ENVELOPE, b"DATA\r\n", b"Subject: x\r\n\r\nhalf"], "life": 2},
    "storm": {"life": 0},
    "half a ClientHello": {"tls": True, "at_once": HELLO_RECORD},
    "silent for TLS": {"tls": True},
    "silent after STARTTLS": {"says": [EHLO, b"STARTTLS\r\n"]},
    "plaintext for TLS": {"tls": True, "at_once": EHLO + ENVELOPE},
    "forged proxy": {"at_once": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n" + EHLO},
}


class Abuser:
    """One connection."""

    __slots__ = ("socket", "kind", "told", "sent", "is_connected", "ends_at")

    def __init__(self, kind, ends_at):
        self.kind, self.ends_at = KINDS[kind], ends_at
        self.socket = socket.socket()
        self.told, self.sent, self.is_connected = 0, 0, False


class Horde:
    """All abusers: opens them, lets them do what they do, and ends them."""

    def __init__(self, options, ports, draw):
        self.options, self.ports, self.draw = options, ports, draw
        self.poll = select.epoll()
        self.open, self.clock = {}, []
        self.made = self.refused = self.failed = self.most = 0
        self.names = list(KINDS)

    def run(self, watch):
        began = time.monotonic()
        while self.made < self.options.connections or self.open:
            now = time.monotonic()
            due = min(self.options.connections, int((now - began) * self.options.per_second) + 1)
            for _ in range(min(due - self.made, 200)):
                if len(self.open) >= self.options.at_once:
                    break
                self.begin(now)
            self.most = max(self.most, len(self.open))
            for number, events in self.poll.poll(0.01, 4_096):
                if abuser := self.open.get(number):
                    self.turn(abuser, events)
            while self.clock and self.clock[0][0] <= now:
                _, _, number, abuser = heapq.heappop(self.clock)
                if self.open.get(number) is abuser:
                    self.tick(abuser, now)
            watch(now, len(self.open))

    def begin(self, now):
        kind = self.names[self.made % len(self.names)]
        life = KINDS[kind].get("life", self.draw.uniform(2, self.options.life))
        abuser = Abuser(kind, now + life)
        # A fifth of them comes from few addresses, beyond what one address may have.
        number = self.draw.randrange(10 if self.made % 5 == 0 else self.options.addresses)
        self.made += 1
        abuser.socket.setblocking(False)
        abuser.socket.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        if not abuser.kind.get("reads", True):
            abuser.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        abuser.socket.bind((f"127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}", 0))
        port = self.ports["tls" if abuser.kind.get("tls") else "mx"]
        failure = abuser.socket.connect_ex(("127.0.0.1", port))
        if failure not in (0, errno.EINPROGRESS):
            self.failed += 1
            abuser.socket.close()
            return
        self.open[abuser.socket.fileno()] = abuser
        self.poll.register(abuser.socket, select.EPOLLIN | select.EPOLLOUT)
        self.wake(abuser, min(now + 1, abuser.ends_at))

    def wake(self, abuser, at):
        heapq.heappush(self.clock, (at, self.draw.random(), abuser.socket.fileno(), abuser))

    def turn(self, abuser, events):
        try:
            if events & select.EPOLLOUT and not abuser.is_connected:
                abuser.is_connected = True
                if said := abuser.kind.get("at_once"):
                    abuser.socket.send(said)
                self.poll.modify(abuser.socket, select.EPOLLIN)
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self.hear(abuser)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.end(abuser)

    def hear(self, abuser):
        octets = abuser.socket.recv(4_096)
        if not octets:
            self.end(abuser)
            return
        if octets.startswith(b"421"):
            self.refused += 1
        says = abuser.kind.get("says", ())
        if abuser.told < len(says):
            abuser.socket.send(says[abuser.told])
            abuser.told += 1
        elif not abuser.kind.get("reads", True):
            self.poll.modify(abuser.socket, 0)

    def tick(self, abuser, now):
        if now >= abuser.ends_at:
            self.end(abuser, abuser.kind.get("ends", "reset"))
            return
        try:
            if not abuser.is_connected or abuser.told < len(abuser.kind.get("says", ())):
                pass
            elif drips := abuser.kind.get("drips"):
                abuser.socket.send(drips[abuser.sent % len(drips):][:1])
                abuser.sent += 1
            elif flood := abuser.kind.get("floods"):
                abuser.sent += abuser.socket.send(flood)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.end(abuser)
            return
        self.wake(abuser, min(now + 1, abuser.ends_at))

    def end(self, abuser, how="reset"):
        del self.open[abuser.socket.fileno()]
        with contextlib.suppress(OSError):
            if how == "vanish":
                # Without a word: neither FIN nor reset, as when the machine loses its power.
                abuser.socket.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
            else:
                abuser.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        abuser.socket.close()


class Watched(Server):
    """The relay, with the settings of the trial."""

    def __init__(self, binary, folder, next_hop, options):
        self.folder = folder
        self.ports = {"mx": free_port(), "tls": free_port()}
        chain, key = folder / "chain.pem", folder / "key.pem"
        make_certificate(chain, key)
        waits = "" if options.default_waits else """
command_wait = "15 s"
data_block_wait = "15 s"
content_grace = "15 s"
handshake_wait = "10 s"
write_wait = "10 s"
"""
        listeners = "".join(
            f"""
[[listener]]
name = "{name}"
kind = "relay"
listen = ["127.0.0.1:{self.ports[name]}"]
tls = "{tls}"
tls_certificate = "{chain}"
tls_key = "{key}"
{waits}"""
            for name, tls in (("mx", "starttls"), ("tls", "implicit"))
        )
        config = folder / "merpati.toml"
        config.write_text(f"""
[server]
data_dir = "{folder / 'data'}"
http_listen = []
[log]
to = "{folder / 'log'}"
[relay]
local_domains = ["ours.example"]
[strangers]
sender_domain = "any"
[[route]]
name = "all"
to = "smtp://127.0.0.1:{next_hop}"
{listeners}""")
        with open(folder / "output", "ab") as output:
            self.process = subprocess.Popen(
                [binary, "serve", "--config", config],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )
        try:
            wait_until("merpati", lambda: greets(self.ports["mx"]), self.process)
        except RuntimeError:
            end_process(self.process)
            print((folder / "output").read_text())
            raise

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self):
        return pss_mib(self.process.pid)

    def ends(self):
        """How the sessions ended, by the mail log."""
        counts = {}
        for line in (self.folder / "log").read_text().splitlines():
            told = json.loads(line)
            if told["event"] == "SessionEnded":
                what = told.get("last_rule") or next(iter(told["refusals"]), told["end"])
                counts[what] = counts.get(what, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: -item[1]))


class Friend:
    """The other client, in a process of its own."""

    def __init__(self, port, per_second, notes):
        command = [sys.executable, __file__, "--friend", str(port), str(per_second)]
        self.notes = notes
        with open(notes, "wb") as output:
            self.process = subprocess.Popen(command, stdout=output)

    def finish(self):
        """Of each message: when it began, how long it took, and what went wrong or nothing."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(90)
        return [json.loads(line) for line in self.notes.read_text().splitlines()]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end_process(self.process)


def be_friend(port, per_second):
    """Sends a message in a connection of its own, again and again, until SIGTERM."""
    is_over = []
    signal.signal(signal.SIGTERM, lambda *_: is_over.append(True))
    began = time.monotonic()
    count = 0
    while not is_over:
        pause = began + count / per_second - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        at = time.monotonic()
        wrong = None
        try:
            send_one(port, count)
        except (OSError, RuntimeError) as error:
            wrong = str(error)
        count += 1
        print(json.dumps([at, time.monotonic() - at, wrong]), flush=True)


def send_one(port, number):
    with socket.create_connection(("127.0.0.1", port), 60, (FRIEND, 0)) as stream:
        replies = stream.makefile("rb")

        def expect(code, said=None):
            if said:
                stream.sendall(said)
            line = replies.readline()
            while line[3:4] == b"-":
                line = replies.readline()
            if not line.startswith(code):
                raise RuntimeError(line.decode(errors="replace").strip() or "closed")

        expect(b"220")
        expect(b"250", b"EHLO friend.example\r\n")
        stream.sendall(b"MAIL FROM:<a@friend.example>\r\nRCPT TO:<b@ours.example>\r\nDATA\r\n")
        for code in (b"250", b"250", b"354"):
            expect(code)
        header = f"Message-ID: <friend-{number}@friend.example>\r\nX-Rig-Id: friend-{number}\r\n"
        expect(b"250", header.encode() + b"Subject: hello\r\n\r\n" + b"x" * 2_000 + b"\r\n.\r\n")
        expect(b"221", b"QUIT\r\n")


def make_certificate(chain, key):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", "/CN=mx.ours.example", "-out", chain, "-keyout", key],
        check=True, capture_output=True,
    )


def share(times, part):
    return sorted(times)[min(len(times) - 1, int(len(times) * part))]


def judge(name, messages):
    """Prints how the other client fared, and gives what is not good enough."""
    if not messages:
        return [f"{name}: no mail was sent"]
    times = [took for _, took, _ in messages]
    lasted = max(1e-3, messages[-1][0] + messages[-1][1] - messages[0][0])
    wrong = [why for _, _, why in messages if why]
    print(f"abuse: other client {name}: {len(messages)} mails, {len(messages) / lasted:.1f}/s, "
          f"median {1_000 * share(times, 0.5):.0f} ms, 99 % in {1_000 * share(times, 0.99):.0f} ms, "
          f"longest {1_000 * max(times):.0f} ms, {len(wrong)} refused or cut", flush=True)
    faults = [f"{name}: {len(wrong)} mails failed, such as: {wrong[0]}"] if wrong else []
    if share(times, 0.99) > SLOW_SECONDS or max(times) > SLOWEST_SECONDS:
        faults.append(f"{name}: mail took too long")
    return faults


def settle(relay, descriptors, seconds):
    """Waits until the relay has let go of all connections; gives how long that took."""
    began = time.monotonic()
    while relay.descriptors() > descriptors + 8 and time.monotonic() < began + seconds:
        time.sleep(0.2)
    return time.monotonic() - began


def trial(options, folder):
    draw = random.Random(options.seed)
    rig = Rig(os.environ["MERPATI_RIG"])
    with Sink(rig, folder / "sink") as sink, \
            Watched(os.environ["MERPATI"], folder, sink.port, options) as relay, \
            Friend(relay.ports["mx"], options.mails_per_second, folder / "friend") as friend:
        time.sleep(options.calm)
        before, handles = relay.memory(), relay.descriptors()
        began = time.monotonic()
        peak = [before, 0.0, 0]

        def watch(now, count):
            if now >= peak[1]:
                peak[0] = max(peak[0], relay.memory())
                peak[1] = now + 0.5
                peak[2] = max(peak[2], relay.descriptors())

        horde = Horde(options, relay.ports, draw)
        horde.run(watch)
        ended = time.monotonic()
        took = settle(relay, handles, 30 if not options.default_waits else 360)
        time.sleep(options.calm)
        # The allocator gives pages back some time after they became free.
        end = time.monotonic() + COMES_BACK_SECONDS
        while (after := relay.memory()) > before + LEFT_MIB_MAX and time.monotonic() < end:
            time.sleep(1)
        handles_after = relay.descriptors()
        messages = friend.finish()
        sink.wait_for(sum(1 for _, _, wrong in messages if not wrong), 60)
        print(f"abuse: {horde.made} connections in {ended - began:.0f} s from {options.addresses} "
              f"addresses, at most {horde.most} at once; {horde.refused} told 421, "
              f"{horde.failed} not made")
        print(f"abuse: sessions ended so: {json.dumps(relay.ends())}")
        faults = judge("before", [m for m in messages if m[0] + m[1] < began])
        faults += judge("during", [m for m in messages if m[0] + m[1] >= began and m[0] <= ended])
        faults += judge("after", [m for m in messages if m[0] > ended])
        each = (peak[0] - before) * 1_024 / max(1, peak[2] - handles)
        print(f"abuse: memory (PSS) before {before:.1f} MiB, peak {peak[0]:.1f} MiB, after "
              f"{after:.1f} MiB; {each:.1f} KiB for each of {peak[2] - handles} connections")
        print(f"abuse: descriptors before {handles}, peak {peak[2]}, after {handles_after}, back "
              f"{took:.1f} s after the last abuser")
        if horde.made < options.connections or horde.failed > options.connections // 100:
            faults.append("not all connections were made")
        if each > CONNECTION_KIB_MAX and peak[2] - handles > 1_000:
            faults.append(f"a connection cost {each:.1f} KiB")
        if after > before + LEFT_MIB_MAX:
            faults.append(f"{after - before:.1f} MiB did not come back")
        if handles_after > handles + 8:
            faults.append(f"{handles_after - handles} descriptors did not come back")
    return faults


def main():
    parser = argparse.ArgumentParser(prog="scripts/abuse.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="3,000 connections, 1,500 at once")
    parser.add_argument("--connections", type=int, default=100_000)
    parser.add_argument("--at-once", type=int, default=15_000)
    parser.add_argument("--addresses", type=int, default=1_500, help="from so many of 127/8")
    parser.add_argument("--per-second", type=int, default=2_000, help="new ones, at most")
    parser.add_argument("--life", type=float, default=60, help="seconds that one stays, at most")
    parser.add_argument("--mails-per-second", type=float, default=20, help="of the other client")
    parser.add_argument("--default-waits", action="store_true", help="those of a new configuration")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.calm = 5
    if options.smoke:
        options.connections, options.at_once, options.addresses = 3_000, 1_500, 150
        options.per_second, options.life, options.calm = 1_000, 4, 1
    wanted = options.at_once + 2_048 + 1_000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        hard = max(hard, wanted) if hard != resource.RLIM_INFINITY else hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < wanted:
        print(f"abuse: {wanted} open files are needed: raise the limit (ulimit -n)")
        return 1
    with tempfile.TemporaryDirectory(prefix="merpati-abuse.") as folder:
        faults = trial(options, pathlib.Path(folder))
    for fault in faults:
        print(f"abuse: FAILED: {fault}")
    if not faults:
        print("abuse: the other client's mail went on, and memory and descriptors came back")
    return 1 if faults else 0


if sys.argv[1:2] == ["--friend"]:
    be_friend(int(sys.argv[2]), float(sys.argv[3]))
else:
    sys.exit(main())
