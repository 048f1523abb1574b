"""What a measurement end to end puts around a relay: the rig, and relays that send on to its sink."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

from servers import POSTFIX_TLSPROXY, Postfix, Server, end_process, free_port, greets, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Connections to the next hop, for every relay.
CONNECTIONS = 50


class Rig:
    """The binary that loads, receives and checks: ours, or another one with these options."""

    def __init__(self, path):
        self.path = str(path)

    def load(self, port, messages, size, sessions, ids, options=("--pipelining",)):
        """Sends all of them, or fails; gives the figures of the load."""
        command = [self.path, "load", "--to", f"127.0.0.1:{port}"]
        command += ["--messages", str(messages), "--size", str(size), "--sessions", str(sessions)]
        command += ["--ids", str(ids), "--prefix", ids.name, "--time-limit", "180", *options]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240)
        told = json.loads(done.stdout)
        if told["acked"] != messages:
            raise RuntimeError(f"only {told['acked']} of {messages} were accepted: {told}")
        return told

    def check(self, sent, received, options=()):
        """The balance, and whether the rig calls it right."""
        command = [self.path, "check", "--sent", str(sent), "--received", str(received)]
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=240)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"{command}: {done.stderr}")
        return json.loads(done.stdout), done.returncode == 0


class Unfinished(RuntimeError):
    """A relay did not deliver all that it had accepted."""


class Sink(Server):
    """The rig as the next hop."""

    def __init__(self, rig, folder, port=None, options=()):
        folder.mkdir(exist_ok=True)
        self.port = port or free_port()
        self.ids = folder / "received"
        self.figures = folder / "sink.json"
        self.expected = 0
        command = [rig.path, "sink", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--ids", str(self.ids), "--stats", str(self.figures), *options]
        with open(folder / "sink.output", "ab") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            wait_until("the sink", lambda: greets(self.port), self.process)
        except RuntimeError:
            end_process(self.process)
            raise

    def figure(self, name):
        """One of its figures, as it was last written down."""
        return json.loads(self.figures.read_text())[name]

    def wait_for(self, messages, seconds=240):
        """The time of the last delivery, after so many more different ones."""
        self.expected += messages
        end = time.monotonic() + seconds
        while True:
            # The file may be half written just now.
            with contextlib.suppress(OSError, ValueError):
                told = json.loads(self.figures.read_text())
                if told["unique"] >= self.expected:
                    return told["last"]
            if time.monotonic() > end:
                raise Unfinished(f"not all came in {seconds} s: {self.figures.read_text()}")
            time.sleep(0.05)


class Relay(Server):
    """Merpati as an outside test program starts it: contrib/referee/run."""

    def __init__(self, binary, folder, next_hop, port=None, fresh=True, settings=None):
        folder.mkdir(exist_ok=True)
        self.port = port or free_port()
        self.control = folder / "spool" / "control.sock"
        self.output = folder / "relay.output"
        environment = {
            **os.environ,
            "MERPATI": str(binary),
            "MX_ADDR": f"127.0.0.1:{self.port}",
            "NEXT_HOP": f"127.0.0.1:{next_hop}",
            "MAX_OUT": str(CONNECTIONS),
            "TRUSTED": "127.0.0.0/8",
            "SPOOL_DIR": str(folder / "spool"),
            "FRESH": "1" if fresh else "",
            "LOG_TO": str(folder / "log"),
            # What a killed one leaves behind goes with the folder.
            "TMPDIR": str(folder),
            **(settings or {}),
        }
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen(
                [ROOT / "contrib/referee/run"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )

    def wait(self, seconds=60):
        """Until it says that it is ready; `ready` is its first line."""
        os.set_blocking(self.process.stdout.fileno(), False)
        try:
            wait_until("merpati", lambda: self.process.stdout.read(1), self.process, seconds)
        except RuntimeError:
            self.__exit__()
            print(self.output.read_text())
            raise
        return self

    def kill(self):
        """kill -9 of the whole group; returns when its port and its spool are free."""
        end = time.monotonic() + 20
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < end:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.poll()
                time.sleep(0.005)
        self.process.wait(20)
        self.process.stdout.close()

    def __exit__(self, *_):
        end_process(self.process)
        self.kill()

    def ask(self, path):
        """GET over the control socket."""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(30)
            stream.connect(str(self.control))
            request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            stream.sendall(request.encode())
            answer = b""
            while more := stream.recv(65_536):
                answer += more
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{path}: {head[:200]!r}")
        return body.decode()

    def syncs(self):
        """How many, and their seconds in all."""
        found = {}
        for name in ("count", "sum"):
            pattern = rf"^merpati_sync_duration_seconds_{name} (\S+)$"
            found[name] = float(re.search(pattern, self.ask("/metrics"), re.MULTILINE)[1])
        return found["count"], found["sum"]

    def handshakes(self):
        """How often TLS came about since the start: by direction and kind."""
        pattern = r'^merpati_tls_handshakes_total\{direction="(\w+)",kind="(\w+)"\} (\S+)$'
        found = re.findall(pattern, self.ask("/metrics"), re.MULTILINE)
        return {(direction, kind): float(count) for direction, kind, count in found}


def postfix_relay(root, folder, sessions, next_hop, connections=CONNECTIONS, settings=()):
    """An expert's relay: everything goes to the sink, at full concurrency from the start."""
    settings = (
        f"relayhost = [127.0.0.1]:{next_hop}",
        f"default_destination_concurrency_limit = {connections}",
        f"initial_destination_concurrency = {connections}",
        "smtp_connection_cache_on_demand = yes",
        f"default_process_limit = {max(sessions, connections) + 100}",
        *settings,
    )
    return Postfix(root, folder, sessions, settings, services=POSTFIX_TLSPROXY)


def pss_mib(pid):
    """The memory of a process and its descendants: what is shared counts in shares."""
    pids, octets = [pid], 0
    while pids:
        one = pids.pop()
        children = subprocess.run(
            ["ps", "--no-headers", "-o", "pid", "--ppid", str(one)],
            capture_output=True, text=True, check=False,
        ).stdout.split()
        pids += [int(child) for child in children]
        # One may have ended meanwhile.
        with contextlib.suppress(OSError):
            told = pathlib.Path(f"/proc/{one}/smaps_rollup").read_text()
            octets += 1_024 * int(re.search(r"^Pss:\s+(\d+)", told, re.MULTILINE)[1])
    return octets / 2**20


def traced_syncs(server, trace, work):
    """fsync and fdatasync calls of a process tree during `work`, written to the file `trace`;
    None if strace cannot."""
    pids = subprocess.run(
        ["ps", "--no-headers", "-o", "pid", "--ppid", str(server.process.pid)],
        capture_output=True, text=True, check=False,
    ).stdout.split()
    command = ["strace", "-f", "-e", "trace=fsync,fdatasync", "-o", str(trace)]
    for pid in [str(server.process.pid), *pids]:
        command += ["-p", pid]
    try:
        tracer = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
    except FileNotFoundError:
        return None
    try:
        # It says so for each process before it goes on to count.
        for _ in range(1 + len(pids)):
            if b"attached" not in tracer.stderr.readline():
                return None
        work()
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.stderr.read()
        tracer.wait(20)
        tracer.stderr.close()
    return len(re.findall(r"\bf(?:data)?sync\(", trace.read_text()))
