"""Servers that a measurement or a trial starts on free ports of loopback, and ends by their id."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

TICKS = os.sysconf("SC_CLK_TCK")
POSTFIX_SERVICES = """
{address}:{port} inet n - n - {limit} smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
virtual unix - n n - - virtual
tlsmgr unix - - n 1000? 1 tlsmgr
"""

# Keeps TLS connections to be used again.
POSTFIX_TLSPROXY = """tlsproxy unix - - n - 0 tlsproxy
"""


def wait_until(what, ready, process, seconds=30):
    """Asks again until it is ready; fails when the process ends or the time is over."""
    end = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            raise RuntimeError(f"{what} ended with {process.returncode}")
        if time.monotonic() > end:
            raise RuntimeError(f"{what} is not ready after {seconds} s")
        time.sleep(0.02)


def end_process(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def greets(port, address="127.0.0.1"):
    try:
        with socket.create_connection((address, port), 2) as stream:
            stream.settimeout(10)
            greeting = stream.recv(200)
            stream.sendall(b"QUIT\r\n")
            stream.recv(200)
            return greeting.startswith(b"220")
    except OSError:
        return False


def cpu_times():
    """Of each process: its parent, and its ticks with those of the children it has waited for."""
    times = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = pathlib.Path("/proc", entry, "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        times[int(entry)] = (int(fields[1]), sum(int(field) for field in fields[11:15]))
    return times


class Server:
    """One process tree, or several."""

    process = None

    def pids(self):
        """The roots of all that belongs to it."""
        return [self.process.pid]

    def cpu_seconds(self):
        pids = set(self.pids())
        times = cpu_times().items()
        return sum(t for pid, (parent, t) in times if pids & {pid, parent}) / TICKS

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end_process(self.process)


def serve(command, folder):
    """Starts a relay with its data in folder/data; the process, and the address by name where it listens."""
    with open(folder / "output", "wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    listening = folder / "data" / "listening"
    try:
        wait_until("merpati", listening.exists, process)
    except RuntimeError:
        end_process(process)
        print((folder / "output").read_text())
        raise
    return process, dict(line.split() for line in listening.read_text().splitlines())


class Merpati(Server):
    """`merpati serve` with one sandbox."""

    def __init__(self, binary, folder, settings=()):
        folder.mkdir()
        data = folder / "data"
        # The empty file shields from a configuration of this machine.
        (folder / "merpati.toml").write_text("")
        command = [binary, "serve", "--config", folder / "merpati.toml"]
        everywhere = (
            f"server.data_dir={data}",
            "server.http_listen=127.0.0.1:0",
            "server.drain_wait=1 s",
            "listener.sandbox.kind=sandbox",
            "listener.sandbox.listen=127.0.0.1:0",
            "listener.sandbox.connections_per_address_max=1000",
            f"log.to={folder}/log",
        )
        for setting in everywhere + tuple(settings):
            command += ["--set", setting]
        self.process, places = serve(command, folder)
        self.http = f"http://{places.pop('http')}"
        self.ports = {name: int(place.rsplit(":", 1)[1]) for name, place in places.items()}
        self.port = self.ports["sandbox"]

    def ask(self, path, method="GET"):
        request = urllib.request.Request(self.http + path, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def syncs(self):
        """How many, and their seconds in all."""
        found = {}
        for line in self.ask("/metrics").decode().splitlines():
            if line.startswith(("merpati_sync_duration_seconds_sum", "merpati_sync_duration_seconds_count")):
                name, value = line.rsplit(" ", 1)
                found[name.rsplit("_", 1)[1]] = float(value)
        return found["count"], found["sum"]


class Postfix(Server):
    """Debian's Postfix from its cached root, with folders of its own."""

    def __init__(self, root, folder, sessions, settings=(), listen=None, services="", around=()):
        """`listen`: address and port, else a free one; `services`: more lines of master.cf;
        `around`: a command that runs the one behind it."""
        folder.mkdir(mode=0o755)
        conf, queue, data = folder / "conf", folder / "queue", folder / "data"
        for made in (conf, queue, data):
            made.mkdir(mode=0o755)
        shutil.chown(data, "postfix")
        names = "active bounce corrupt defer deferred flush hold incoming private saved trace"
        for name in names.split():
            (queue / name).mkdir(mode=0o700)
            shutil.chown(queue / name, "postfix")
        (queue / "pid").mkdir(mode=0o755)
        for name, mode in (("maildrop", 0o730), ("public", 0o710)):
            (queue / name).mkdir()
            (queue / name).chmod(mode)
            shutil.chown(queue / name, "postfix", "postdrop")
        address, self.port = listen or ("127.0.0.1", free_port())
        libraries = root / "usr/lib/postfix"
        options = [
            "compatibility_level = 3.6",
            "mail_owner = postfix",
            "setgid_group = postdrop",
            f"queue_directory = {queue}",
            f"data_directory = {data}",
            f"daemon_directory = {libraries}/sbin",
            f"command_directory = {root}/usr/sbin",
            f"shlib_directory = {libraries}",
            f"meta_directory = {root}/etc/postfix",
            f"maillog_file = {folder}/log",
            f"maillog_file_prefixes = {folder}",
            "import_environment = MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LD_LIBRARY_PATH",
            "myhostname = postfix.bench.test",
            "mydestination =",
            "alias_maps =",
            "alias_database =",
            "local_recipient_maps =",
            "fast_flush_domains =",
            "mynetworks = 127.0.0.0/8",
            "inet_interfaces = 127.0.0.1",
            "inet_protocols = ipv4",
            "smtp_dns_support_level = disabled",
            "smtpd_relay_restrictions = permit_mynetworks, reject",
            "smtpd_peername_lookup = no",
            "smtpd_client_connection_count_limit = 0",
            "in_flow_delay = 0",
            "qmgr_message_active_limit = 60000",
            f"default_process_limit = {sessions + 100}",
            *settings,
        ]
        # The later of two wins; Postfix would say so in each line of the log.
        kept = {option.split("=")[0].strip(): option for option in options}
        (conf / "main.cf").write_text("\n".join(kept.values()) + "\n")
        usual = POSTFIX_SERVICES.format(address=address, port=self.port, limit=sessions + 50)
        (conf / "master.cf").write_text(usual + services)
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LD_LIBRARY_PATH": str(libraries),
            "MAIL_CONFIG": str(conf),
        }
        with open(folder / "output", "wb") as output:
            # A session of its own: master ends its children through its process group.
            self.process = subprocess.Popen(
                [*around, libraries / "sbin/master", "-c", conf, "-d"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            wait_until("postfix", lambda: greets(self.port, address), self.process)
        except RuntimeError:
            end_process(self.process)
            for name in ("output", "log"):
                if (folder / name).exists():
                    print((folder / name).read_text())
            raise


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
