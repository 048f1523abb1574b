"""Runs the console blocks of docs/tasks.md and compares what they say.

Called by scripts/tasks.sh. Each section runs in one shell, in a network namespace with loopback alone and with folders of
its own in place of /etc/merpati and /var/lib/merpati. A line of a block that begins with `$ ` is a command; the lines
behind it are what it must say, where `…` stands for anything in a line, and alone in a line for any lines.
"""

import os
import pathlib
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading

sys.dont_write_bytecode = True
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "tasks.md"
PROVIDER = ("smtp.provider.example", "127.0.0.9")
ADDRESSES = {PROVIDER[0]: PROVIDER[1], "example.org": "192.0.2.25", "example.net": "192.0.2.26"}
COMMANDS_MAX = 10
MARK = "that was all of it:"


def sections():
    """The title and the blocks of each task: lists of commands with what they must say."""
    for part in PAGE.read_text().split("\n## ")[1:]:
        title = part.split("\n", 1)[0]
        blocks = re.findall(r"```console\n(.*?)```", part, re.S)
        yield title, [list(commands(block)) for block in blocks]


def commands(block):
    command, said = None, []
    for line in block.splitlines():
        if line.startswith("$ "):
            if command is not None:
                yield command, said
            command, said = line[2:], []
        else:
            said.append(line)
    yield command, said


def pattern(lines):
    """What the lines mean as one regular expression over the whole output."""
    text = ""
    for line in lines:
        if line == "…":
            text += r"(?:[^\n]*\n)*?"
        else:
            text += "[^\n]*".join(re.escape(part) for part in line.split("…")) + r"[ ]*\n"
    return re.compile(text + r"\n*\Z")


class Names(threading.Thread):
    """A name server that knows the addresses of the page's hosts and nothing else (RFC 1035)."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.53", 53))

    def run(self):
        while True:
            query, whom = self.socket.recvfrom(512)
            end = query.index(b"\0", 12) + 5
            name = b".".join(self.labels(query[12:])).decode().lower()
            is_address = query[end - 4:end - 2] == b"\0\1"
            known = name in ADDRESSES
            answer = b""
            if known and is_address:
                answer = b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", 60, 4) + socket.inet_aton(ADDRESSES[name])
            flags = 0x8180 if known else 0x8183
            head = query[:2] + struct.pack(">HHHHH", flags, 1, 1 if answer else 0, 0, 0)
            self.socket.sendto(head + query[12:end] + answer, whom)

    @staticmethod
    def labels(octets):
        while octets[0]:
            yield octets[1:1 + octets[0]]
            octets = octets[1 + octets[0]:]


class Provider:
    """Where a smart host takes mail of one user by TLS and password: a sandbox."""

    def __init__(self, merpati, folder):
        self.merpati, self.folder = merpati, folder
        self.process = None
        run = lambda *words: subprocess.run(words, check=True, capture_output=True)  # noqa: E731
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "2", "-subj", f"/CN={PROVIDER[0]}", "-addext", f"subjectAltName=DNS:{PROVIDER[0]}",
            "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", certificate)
        hashed = subprocess.run([merpati, "credential", "hash"], input="the password of the provider\n",
                                check=True, capture_output=True, text=True).stdout.strip()
        (folder / "provider.toml").write_text(f"""
[server]
hostname = "{PROVIDER[0]}"
data_dir = "{folder}/provider"
http_listen = []
[log]
to = "off"
[[listener]]
name = "submissions"
kind = "sandbox"
listen = "{PROVIDER[1]}:465"
tls = "implicit"
tls_certificate = "{certificate}"
tls_key = "{key}"
auth = "tls-only"
[[credential]]
name = "ani@example.org"
password = "{hashed}"
""")

    def start(self):
        self.process = subprocess.Popen([self.merpati, "serve", "--config", self.folder / "provider.toml"],
                                        stdout=subprocess.DEVNULL)
        control = self.folder / "provider" / "control.sock"
        subprocess.run([self.merpati, "health", "--wait", "20s", "--socket", control], check=True,
                       capture_output=True)

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)


class Shell:
    """One shell for all commands of a task."""

    def __init__(self, environment):
        self.process = subprocess.Popen(["bash"], env=environment, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def say(self, command):
        self.process.stdin.write(f"{command}\necho {shlex.quote(MARK)}\n")
        self.process.stdin.flush()
        said = ""
        for line in self.process.stdout:
            if line.rstrip("\n").endswith(MARK):
                return said + line.rstrip("\n").removesuffix(MARK)
            said += line
        raise RuntimeError(f"the shell ended after: {command}\n{said}")

    def end(self):
        self.process.stdin.write("kill $(jobs -p) 2>/dev/null; wait\n")
        self.process.stdin.close()
        self.process.wait(60)


def play(title, blocks, folder):
    """Runs a task in the namespaces that this process is in."""
    merpati = os.environ["MERPATI"]
    (folder / "bin").mkdir()
    (folder / "bin" / "merpati").symlink_to(merpati)
    provider = Provider(merpati, folder)
    environment = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": str(folder), "LC_ALL": "C.UTF-8",
                   "SSL_CERT_FILE": str(folder / "certificate.pem"), "MERPATI_DATA": str(folder / "data")}
    shell = Shell(environment)
    dovecot = None
    try:
        waits = title.startswith("Find out")
        if waits:
            prepare(shell)
        else:
            provider.start()
        lmtp = "/run/dovecot/lmtp"
        if any(lmtp in command for block in blocks for command, _ in block):
            from peers import Dovecot
            dovecot = Dovecot(folder / "dovecot", "example.org", "127.0.0.1", ["ani"])
            lmtp_here = str(dovecot.lmtp_socket)
        for number, block in enumerate(blocks):
            if waits and number == 1:
                provider.start()
            for command, wanted in block:
                here = command.replace(lmtp, lmtp_here) if dovecot else command
                said = shell.say(here)
                wanted = [line for line in wanted]
                if not pattern(wanted).match(said if said.endswith("\n") or not said else said + "\n"):
                    want = "\n".join(wanted)
                    raise SystemExit(f"tasks: {title}\n$ {command}\nsaid:\n{said}\nwanted:\n{want}")
    finally:
        shell.end()
        provider.stop()
        if dovecot:
            dovecot.__exit__(None, None, None)


def prepare(shell):
    """A relay as in the second task, with a mail that its smart host does not take just now."""
    blocks = next(blocks for title, blocks in sections() if title.startswith("Everything"))
    for command, _ in blocks[0]:
        if "trace" not in command:
            shell.say(command)
    shell.say("sleep 1")


def inside(title):
    """Within the namespaces: the network, the folders and one task."""
    run = lambda *words: subprocess.run(words, check=True)  # noqa: E731
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", "192.0.2.7/32", "dev", "lo")
    with tempfile.TemporaryDirectory(prefix="merpati-tasks.") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        (folder / "etc").mkdir()
        (folder / "resolv.conf").write_text("nameserver 127.0.0.53\n")
        run("mount", "--bind", folder / "etc", "/etc/merpati")
        run("mount", "--bind", folder / "resolv.conf", os.path.realpath("/etc/resolv.conf"))
        Names().start()
        blocks = dict(sections())[title]
        play(title, blocks, folder)


def main():
    if sys.argv[1:2] == ["--inside"]:
        return inside(sys.argv[2])
    place = pathlib.Path("/etc/merpati")
    was_there = place.exists()
    place.mkdir(exist_ok=True)
    count = 0
    try:
        for title, blocks in sections():
            number = sum(len(block) for block in blocks)
            if number > COMMANDS_MAX:
                raise SystemExit(f"tasks: {title}: {number} commands, more than {COMMANDS_MAX}")
            if "--smoke" in sys.argv and "Dovecot" in title:
                continue
            words = ["unshare", "--net", "--mount", "--propagation", "private", sys.executable, __file__]
            subprocess.run([*words, "--inside", title], check=True, timeout=180)
            print(f"tasks: {title}: {number} commands")
            count += 1
    finally:
        if not was_there:
            place.rmdir()
    print(f"tasks: {count} of them say what the page says")


if __name__ == "__main__":
    main()
