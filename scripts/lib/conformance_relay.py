"""The relay under test, and what a case has at hand: see conformance_kit for how it is used."""

import collections
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import string
import subprocess
import threading
import time

from conformance_kit import OURS, PASSWORD, PATIENCE_SECONDS, TRUSTED, USER, Client, Failed, shown
from conformance_peers import Dns, Peer
from servers import end_process, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
LISTENERS = {"MX_ADDR": "mx", "SUBMISSION_ADDR": "submission", "SUBMISSIONS_ADDR": "submissions"}
Certificate = collections.namedtuple("Certificate", "chain key root")


class Relay:
    """`merpati serve`, by contrib/referee/run or with a configuration of the case."""

    def __init__(self, bench, folder, settings=(), toml=None, peer=None, environment=None):
        self.peer, self.folder, self.data = peer, folder, folder / "data"
        self.log_file = folder / "log"
        folder.mkdir()
        environment = {key: str(value) for key, value in (environment or {}).items()}
        for setting in settings:
            key, _, value = setting.partition("=")
            environment["MERPATI_" + key.upper().replace(".", "__")] = value
        inherited = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        if toml is None:
            command = [ROOT / "contrib/referee/run"]
            usual = {
                "MERPATI": bench.binary, "SPOOL_DIR": self.data, "HTTP_ADDR": "127.0.0.1:0",
                "LOG_TO": self.log_file, "LOCAL_DOMAINS": OURS, "TRUSTED": TRUSTED,
                "SERVER_NAME": f"mx.{OURS}", "TLS_CERT": bench.certificate.chain,
                "TLS_KEY": bench.certificate.key, "SMTP_USER": USER, "SMTP_PASSWORD": PASSWORD,
                "RETRY": 1, **dict.fromkeys(LISTENERS, "127.0.0.1:0"),
                "MERPATI_SPOOL__SEGMENT_SIZE": "8 MiB", "MERPATI_SPOOL__DISK_FREE_MIN": "1 MiB",
                "MERPATI_SERVER__DRAIN_WAIT": "1 s",
            }
            if peer:
                usual["NEXT_HOP"] = peer.place
            environment = usual | environment
        else:
            names = {"data": self.data, "log": self.log_file, "cert": bench.certificate.chain,
                     "key": bench.certificate.key, "ca": bench.certificate.root,
                     "password": bench.password_hash(), "sink": peer.place if peer else ""}
            # Unknown names stay: a stored password has `$` in it.
            text = string.Template(toml).safe_substitute(names)
            (folder / "merpati.toml").write_text(text)
            command = [bench.binary, "serve", "--config", folder / "merpati.toml"]
        self.environment = inherited | {key: str(value) for key, value in environment.items()}
        self.command, self.output = command, folder / "output"
        self._start()

    def _start(self):
        listening = self.data / "listening"
        listening.unlink(missing_ok=True)
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=output,
                                            stderr=output, env=self.environment)
        try:
            wait_until("merpati", listening.exists, self.process, 60)
        except RuntimeError as why:
            self.close()
            raise Failed(f"{why}: {self.output.read_text(errors='replace')[-2_000:]}") from None
        self.places = {}
        for line in listening.read_text().splitlines():
            name, place = line.split()
            address, _, port = place.rpartition(":")
            self.places[name] = (address.strip("[]"), int(port))

    mx = property(lambda self: self.places["mx"])
    submission = property(lambda self: self.places["submission"])
    submissions = property(lambda self: self.places["submissions"])

    @property
    def pid(self):
        """Of the relay itself, also where a script started it."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        pids = children.read_text().split()
        return int(pids[0]) if pids else self.process.pid

    def memory(self):
        """Resident octets."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) << 10

    def ask(self, path, method="GET"):
        """The API over the control socket: what JSON says, or text."""
        connection = http.client.HTTPConnection("localhost", timeout=PATIENCE_SECONDS)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.data / "control.sock"))
        with contextlib.closing(connection):
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
            is_json = "json" in (answer.getheader("Content-Type") or "")
            return json.loads(body) if is_json else body.decode()

    def metrics(self):
        """Each metric with its labels, as it is written, to its value."""
        lines = [line for line in self.ask("/metrics").splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def log(self, event=None):
        """The lines of the mail log so far."""
        text = self.log_file.read_text() if self.log_file.exists() else ""
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]
        return [line for line in lines if event in (None, line["event"])]

    def queue(self, query=""):
        """The deliveries that wait."""
        from urllib.parse import quote
        return self.ask(f"/v1/queue?query={quote(query)}")["data"]

    def arrived(self, recipient, count=1, seconds=PATIENCE_SECONDS):
        """The one mail to this address at the next hop; a list where more are asked for."""
        mails = self.peer.wait(lambda: len(self.peer.mails_to(recipient)) >= count and
                               self.peer.mails_to(recipient), seconds)
        if not mails:
            raise Failed(f"nothing arrived for {recipient}")
        if len(mails) != count:
            raise Failed(f"{len(mails)} mails arrived for {recipient}")
        return mails[0] if count == 1 else mails

    def again(self, with_signal=signal.SIGTERM):
        """Ends it, and starts it anew with the same directory and configuration."""
        self.close(with_signal)
        self._start()

    def close(self, with_signal=signal.SIGTERM):
        if with_signal != signal.SIGTERM and self.process.poll() is None:
            os.kill(self.pid, with_signal)
        end_process(self.process)


class Bench:
    """What all cases share: the binary, a certificate, relays of equal configuration."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.certificate = certify(folder)
        self.trust = ssl.create_default_context(cafile=self.certificate.root)
        self.lock = threading.Lock()
        self.stack = contextlib.ExitStack()
        self.relays, self.count, self.hash = {}, 0, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def place(self):
        with self.lock:
            self.count += 1
            return self.folder / f"relay{self.count}"

    def password_hash(self):
        """The stored form of PASSWORD."""
        with self.lock:
            if not self.hash:
                self.hash = subprocess.run(
                    [self.binary, "credential", "hash"], input=f"{PASSWORD}\n", check=True,
                    capture_output=True, text=True, timeout=60).stdout.strip()
            return self.hash

    def shared(self, settings, environment):
        """A relay for all cases that want the same, with a next hop that takes everything."""
        key = (settings, tuple(sorted(environment.items())))
        with self.lock:
            lock = self.relays.setdefault(key, [threading.Lock(), None])
        with lock[0]:
            if not lock[1]:
                peer = Peer()
                relay = Relay(self, self.place(), settings, peer=peer, environment=environment)
                with self.lock:
                    self.stack.callback(peer.close)
                    self.stack.callback(relay.close)
                lock[1] = relay
            return lock[1]


class Trial:
    """One run of a case: what it has at hand, and its transcript."""

    def __init__(self, bench, number):
        self.bench, self.number = bench, number
        self.trust = bench.trust
        self.stack = contextlib.ExitStack()
        self.lines, self.hidden = [], {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def relay(self, *settings, **environment):
        """A relay that other cases use as well. Its next hop takes everything."""
        return self.bench.shared(settings, environment)

    def own_relay(self, *settings, toml=None, peer=None, **environment):
        """A relay for this case alone, ended with it; its next hop is `peer`, or takes all."""
        if peer is None and "NEXT_HOP" not in environment and "DNS_ADDR" not in environment:
            peer = self.peer()
        relay = Relay(self.bench, self.bench.place(), settings, toml, peer, environment)
        self.stack.callback(relay.close)
        return relay

    def connect(self, place, **options):
        """A client; `source`, `tls`, `context`, `server_name`, `name` as of Client."""
        client = Client(self, place, **options)
        self.stack.callback(client.socket.close)
        return client

    def login(self, client):
        """AUTH PLAIN; the client has said EHLO."""
        import base64
        octets = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
        client.say(f"AUTH PLAIN {octets}", "235 2.7.0")

    def submit(self, relay):
        """A client on the submission port that has authenticated over TLS."""
        client = self.connect(relay.submission)
        client.hello()
        client.starttls()
        client.hello(greeting=False)
        self.login(client)
        return client

    def peer(self, script=None, **options):
        if options.get("tls"):
            options.setdefault("context", server_context(self.bench.certificate))
        return self._kept(Peer(script, **options))

    def dns(self, *records, **options):
        return self._kept(Dns(*records, **options))

    def _kept(self, server):
        self.stack.callback(server.close)
        return server

    def address(self, at):
        """A loopback address that no other case has; `at` is 1 to 254."""
        return f"127.{64 + self.number // 250}.{1 + self.number % 250}.{at}"

    def port(self):
        """A port that is free on all loopback addresses now."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return probe.getsockname()[1]

    def folder(self):
        """A folder for this case, removed with it."""
        place = self.bench.place()
        place.mkdir()
        self.stack.callback(shutil.rmtree, place, ignore_errors=True)
        return place

    def log(self, who, text):
        self.lines.append(f"{who}: {text}")

    def note(self, text):
        """A line about what the case does or finds; the same in each run."""
        self.lines.append(f"# {text}")

    def show(self, who, octets):
        """Octets that came somewhere else, line by line."""
        for line in octets.splitlines(keepends=True):
            self.log(who, shown(line))

    def hide(self, value, name):
        """In the transcript this value, which differs from run to run, is `<name>`."""
        self.hidden[str(value)] = f"<{name}>"

    def check(self, condition, what):
        if not condition:
            raise Failed(what)

    def wait(self, ready, what, seconds=PATIENCE_SECONDS):
        """Asks again until this gives something true; gives it."""
        end = time.monotonic() + seconds
        while not (found := ready()):
            self.check(time.monotonic() < end, f"in {seconds} s not: {what}")
            time.sleep(0.02)
        return found


def server_context(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    return context


def certify(folder, names="DNS:mx.ours.example,DNS:hop.example,DNS:localhost,IP:127.0.0.1",
            stem="certificate"):
    """A certificate for these names, and its root, which is made once."""
    root, chain, key = folder / "root.pem", folder / f"{stem}.pem", folder / f"{stem}.key"
    usual = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split()
    commands = [
        [*usual, "-subj", "/CN=conformance", "-keyout", key, "-out", chain, "-CA", root, "-CAkey",
         folder / "root.key", "-addext", f"subjectAltName={names}",
         "-addext", "basicConstraints=critical,CA:FALSE"],
    ]
    if not root.exists():
        commands.insert(0, [*usual, "-subj", "/CN=conformance root", "-keyout",
                            folder / "root.key", "-out", root])
    for command in commands:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    chain.write_text(chain.read_text() + root.read_text())
    return Certificate(chain, key, root)
