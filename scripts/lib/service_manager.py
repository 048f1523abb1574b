"""Acts as the service manager of a relay: what it is told, what it passes, and with whose rights the relay works.

usage: service_manager.py BINARY [--journal FOLDER]. Ends with 1 at the first thing that is not as it should be.
With --journal it is in namespaces of its own, and is the one check that needs them.
"""

import contextlib
import ctypes
import json
import os
import random
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
import time

BINARY = os.path.abspath(sys.argv[1])
UNIT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../contrib/systemd/merpati.service")
PATIENCE = 60
SETTINGS = ["server.http_listen=", "spool.disk_free_min=1 MiB", "log.to=off", "strangers.sender_domain=any"]


def check(holds, what):
    if not holds:
        print(f"service manager: FAILED: {what}", file=sys.stderr)
        sys.exit(1)
    print(f"  {what}")


class Manager:
    """The socket on which a service manager listens."""

    def __init__(self, name):
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)

    def hear(self, wait):
        """The next message as a dict; None when nothing came for so long."""
        self.socket.settimeout(wait)
        try:
            text = self.socket.recv(4096).decode()
        except socket.timeout:
            return None
        return dict(line.split("=", 1) for line in text.splitlines())

    def hear_until(self, key, wait=PATIENCE):
        end = time.monotonic() + wait
        while (left := end - time.monotonic()) > 0:
            told = self.hear(left)
            if told and key in told:
                return told
        return None

    def count(self, key, span):
        """How often this was told within a span."""
        end = time.monotonic() + span
        count = 0
        while (left := end - time.monotonic()) > 0:
            told = self.hear(left)
            count += bool(told and key in told)
        return count


@contextlib.contextmanager
def relay(folder, settings=(), environment=(), command=(), stderr=None):
    words = [*command, BINARY, "serve"]
    for setting in [f"server.data_dir={folder}/data", *SETTINGS, *settings]:
        words += ["--set", setting]
    variables = {"PATH": os.environ["PATH"], "HOME": folder, **dict(environment)}
    process = subprocess.Popen(words, env=variables, stdin=subprocess.DEVNULL, stderr=stderr,
                               stdout=subprocess.DEVNULL, cwd="/")
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def free_address():
    """An address of loopback that is ours alone, with a port that is free there."""
    host = "127." + ".".join(str(random.randint(1, 254)) for _ in range(3))
    with socket.create_server((host, 0)) as one:
        return host, one.getsockname()[1]


def send(host, port):
    with smtplib.SMTP(host, port, timeout=PATIENCE) as client:
        client.sendmail("a@a.example", "b@b.example", "Subject: x\r\n\r\nx\r\n")


def threads(pid):
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/comm") as name:
            yield name.read().strip(), int(task)


LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207


@contextlib.contextmanager
def stopped(thread):
    """One thread of a process stands still."""
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if LIBC.ptrace(request, thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(thread, 0x40000000)  # __WALL
    try:
        yield
    finally:
        LIBC.ptrace(PTRACE_DETACH, thread, None, None)


def notifications(folder, name):
    manager = Manager(name)
    host, port = free_address()
    environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "2000000"}
    listen = [f"listener.sandbox.listen={host}:{port}"]
    with relay(folder, listen, environment) as process:
        told = manager.hear_until("READY")
        check(told is not None, f"READY=1 is told at {name}")
        send(host, port)
        check(manager.count("WATCHDOG", 3.6) in (3, 4), "WATCHDOG=1 comes each half of the wait")
        for thread in ("committer", "conductor"):
            number = dict(threads(process.pid))[thread]
            with stopped(number):
                manager.count("WATCHDOG", 0.1)
                manager.hear(1.5)  # One may have been on its way.
                check(manager.count("WATCHDOG", 4) == 0, f"a {thread} that hangs stops the watchdog")
            check(manager.hear_until("WATCHDOG", 5), f"and a {thread} that goes on starts it again")
        process.send_signal(signal.SIGTERM)
        told = manager.hear_until("STOPPING")
        check(told and int(told["EXTEND_TIMEOUT_USEC"]) >= 30_000_000, "STOPPING=1 is told, with the time that it takes")
        check(process.wait(PATIENCE) == 0, "it ends with 0")


def activation(folder):
    tool = shutil.which("systemd-socket-activate")
    if tool is None:
        print("  skipped: there is no systemd-socket-activate")
        return
    host, port = free_address()
    command = [tool, "-l", f"{host}:{port}"]
    with relay(folder, [f"listener.sandbox.listen={host}:{port}"], command=command):
        send_to_tool(host, port)
        check(True, "a socket of systemd-socket-activate is used by its address")
    other, _ = free_address()
    command = [tool, "-l", f"{host}:{port}", "--fdname=sandbox"]
    with relay(folder, [f"listener.sandbox.listen={other}:25"], command=command):
        send_to_tool(host, port)
        check(not listens(other, 25), "and by its name, in place of the address of the listener")


def journal(folder):
    """systemd's own journal, in namespaces with nothing else in them."""
    if os.geteuid() != 0:
        print("  skipped: only root can make namespaces for a journal")
        return
    words = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--kill-child"]
    words += [sys.executable, os.path.abspath(__file__), BINARY, "--journal", folder]
    if subprocess.run(words, timeout=2 * PATIENCE).returncode != 0:
        sys.exit(1)


def journal_inside(folder):
    run = lambda *words: subprocess.run(words, check=True)  # noqa: E731
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    os.makedirs("/run/systemd/journal")
    os.makedirs("/run/log/journal")
    with open("/run/machine-id", "w") as name:
        name.write("0123456789abcdef0123456789abcdef\n")
    # A machine that has not started yet has an empty one, or none.
    is_new = not os.path.exists("/etc/machine-id")
    if is_new:
        open("/etc/machine-id", "w").close()
    run("mount", "--bind", "/run/machine-id", "/etc/machine-id")
    with subprocess.Popen(["/lib/systemd/systemd-journald"], stderr=subprocess.DEVNULL) as journald:
        try:
            wait_for("the journal", lambda: os.path.exists("/run/systemd/journal/socket"))
            host, port = free_address()
            settings = [f"listener.sandbox.listen={host}:{port}", "log.to=journal"]
            with relay(folder, settings) as process:
                wait_for("the relay", lambda: listens(host, port))
                send(host, port)
                process.send_signal(signal.SIGTERM)
                process.wait(PATIENCE)
            wait_for("the end in the journal", lambda: entries("MERPATI_EVENT=Stopped"))
            captured = entries("MERPATI_EVENT=Captured")
            check(len(captured) == 1 and captured[0]["MERPATI_LISTENER"] == "sandbox", "a mail is one entry")
            check(captured[0]["SYSLOG_IDENTIFIER"] == "merpati" and captured[0]["_COMM"] == "merpati", "of merpati")
            line = json.loads(captured[0]["MESSAGE"])
            check(line["from"] == "a@a.example" and line["id"] == captured[0]["MERPATI_ID"], "whose text is the line")
            named = entries(f"MERPATI_ID={line['id']}")
            check([entry["MERPATI_EVENT"] for entry in named] == ["Captured"], "and which is found by its id")
        finally:
            journald.terminate()
            run("umount", "/etc/machine-id")
            if is_new:
                os.remove("/etc/machine-id")


def entries(*matches):
    """What `journalctl` finds in the journal of these namespaces."""
    words = ["journalctl", "--directory", "/run/log/journal", "--output", "json", "--no-pager", *matches]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
    return [json.loads(line) for line in done.stdout.splitlines()]


def wait_for(what, holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            check(False, what)
        time.sleep(0.05)


def send_to_tool(host, port):
    """One mail, once systemd-socket-activate listens: it starts the relay with this connection."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return send(host, port)
        except ConnectionRefusedError:
            if time.monotonic() > end:
                check(False, "systemd-socket-activate listens")
            time.sleep(0.05)


def listens(host, port):
    try:
        socket.create_connection((host, port), timeout=2).close()
        return True
    except ConnectionRefusedError:
        return False


def privileges(folder):
    if os.geteuid() != 0:
        print("  skipped: only root can give up rights")
        return
    os.chmod(folder, 0o755)
    host, _ = free_address()
    manager = Manager(f"{folder}/manager")
    os.chmod(manager.name, 0o777)
    settings = [f"listener.sandbox.listen={host}:25", "server.user=nobody", "listener.sandbox.tls=starttls"]
    with relay(folder, settings, {"NOTIFY_SOCKET": manager.name}) as process:
        check(manager.hear_until("READY") is not None, "a relay of root becomes another user and listens on port 25")
        send(host, 25)
        seen = set()
        for task in os.listdir(f"/proc/{process.pid}/task"):
            with open(f"/proc/{process.pid}/task/{task}/status") as status:
                seen.add(tuple(re.sub(r"\s+", " ", line.strip()) for line in status
                               if line.startswith(("Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapAmb", "NoNewPrivs"))))
        check(len(seen) == 1, "all its threads have the same rights")
        facts = dict(line.split(":", 1) for line in seen.pop())
        check(facts["Uid"].split() == ["65534"] * 4 and facts["Gid"].split() == ["65534"] * 4, "those of nobody")
        check(facts["Groups"].split() == ["65534"], "in no group of root")
        check(all(int(facts[name], 16) == 0 for name in ("CapEff", "CapPrm", "CapAmb")), "with no capability")
        check(facts["NoNewPrivs"].strip() == "1", "and no way to more")
        owners = {os.stat(os.path.join(where, name)).st_uid
                  for where, folders, files in os.walk(f"{folder}/data") for name in folders + files}
        check(owners == {65534}, "all that it writes is its own")
        key = f"{folder}/data/tls/self-signed.key"
        check(os.stat(key).st_mode & 0o777 == 0o600, "the key that it made is for it alone")
        process.send_signal(signal.SIGTERM)
        check(process.wait(PATIENCE) == 0, "it ends with 0")
    for settings, part in [
        (["server.user=no-such-user"], "there is no user `no-such-user`"),
        (["server.user=nobody", "server.group=no-such-group"], "there is no group `no-such-group`"),
    ]:
        with relay(folder, settings, stderr=subprocess.PIPE) as process:
            text = process.communicate(timeout=PATIENCE)[1].decode()
            check(process.returncode not in (0, None) and part in text, f"refused: {part}")
    shutil.rmtree(f"{folder}/data")
    os.makedirs(f"{folder}/data", mode=0o700)
    with relay(folder, ["server.user=nobody"], stderr=subprocess.PIPE) as process:
        text = process.communicate(timeout=PATIENCE)[1].decode()
        check("chown -R nobody:" in text, "a data directory of root is told, with what to do")


def calls_of(group, known={}):
    """The system calls of a group of systemd."""
    if not known:
        shown = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager"], stdout=subprocess.PIPE, text=True, check=True)
        name = None
        for line in shown.stdout.splitlines():
            if line.startswith("@"):
                name = line.strip()
                known[name] = set()
            elif name and line.startswith("    ") and not line.strip().startswith("#"):
                known[name].add(line.strip())
    return set().union(*(calls_of(one) if one.startswith("@") else {one} for one in known[group]))


def system_calls(folder):
    """What the relay asks of the kernel while it takes, delivers and loses mail is what the unit lets it ask."""
    if shutil.which("strace") is None:
        print("  skipped: there is no strace")
        return
    with open(UNIT) as unit:
        filters = [line.split("=", 1)[1].split() for line in unit if line.startswith("SystemCallFilter=")]
    allowed = set()
    for words in filters:
        if words[0].startswith("~"):
            for word in [words[0][1:], *words[1:]]:
                allowed -= calls_of(word)
        else:
            allowed |= set().union(*map(calls_of, words))
    trace = f"{folder}/trace"
    manager = Manager(f"{folder}/manager")
    (host, port), (next_host, next_port) = free_address(), free_address()
    settings = [f"listener.mx.listen={host}:{port}", "listener.mx.kind=relay", "listener.mx.tls=starttls",
                "relay.networks=127.0.0.0/8", f"route.next.to=smtp://{next_host}:{next_port}",
                f"log.to={folder}/mail.log", "greylist.enabled=true"]
    command = ["strace", "-f", "-qq", "-o", trace]
    os.makedirs(f"{folder}/next")
    with relay(f"{folder}/next", [f"listener.sandbox.listen={next_host}:{next_port}"]), \
            relay(folder, settings, {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "200000"}, command) as process:
        check(manager.hear_until("READY") is not None, "the relay runs under strace")
        send(host, port)
        with smtplib.SMTP(host, port, timeout=PATIENCE) as client:
            client.starttls()
            # Larger than what travels in the journal: a file of its own.
            client.sendmail("a@a.example", "b@b.example", "Subject: x\r\n\r\n" + ("x" * 70 + "\r\n") * 10_000)
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as children:
            traced = int(children.read().split()[0])
        os.kill(traced, signal.SIGHUP)
        end = time.monotonic() + PATIENCE
        while open(f"{folder}/mail.log").read().count('"Delivered"') < 2:
            if time.monotonic() > end:
                check(False, "mail is delivered")
            time.sleep(0.1)
        manager.count("WATCHDOG", 1)
        os.kill(traced, signal.SIGTERM)
        process.wait(PATIENCE)
    with open(trace) as lines:
        found = set(re.findall(r"^\d+ +([a-z]\w*)\(", lines.read(), re.M))
    check(len(found) > 30 and not found - allowed, f"its {len(found)} system calls are in the filter of the unit {found - allowed or ''}")


def main():
    with tempfile.TemporaryDirectory(prefix="merpati-manager-") as folder:
        for title, test in [
            ("told at a path", lambda one: notifications(one, f"{one}/notify")),
            ("told at an abstract name", lambda one: notifications(one, f"@merpati-{os.getpid()}-{random.random()}")),
            ("sockets", activation),
            ("journal", journal),
            ("system calls", system_calls),
            ("rights", privileges),
        ]:
            print(f"{title}:")
            one = os.path.join(folder, title.replace(" ", "-"))
            os.makedirs(one)
            os.chmod(folder, 0o755)
            test(one)
    print("service manager: all as it should be")


if __name__ == "__main__":
    journal_inside(sys.argv[3]) if sys.argv[2:3] == ["--journal"] else main()
