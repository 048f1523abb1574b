"""What installing, upgrading, removing and purging the package does to a queue.

usage: package_test.py WORK OLD.deb NEW.deb. There is no systemd in the chroot: the relay is started here as the unit says.
"""

import atexit
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time

WORK, OLD, NEW = sys.argv[1:]
ROOT = os.path.join(WORK, "root")
RIG = os.environ["MERPATI_RIG"]
MESSAGES = 10_000
BEGAN = time.monotonic()

# A relay of ours whose only next hop does not answer: everything waits.
CONFIG = """
[server]
hostname = "mail.example.org"
data_dir = "/var/lib/merpati"
http_listen = []
[relay]
networks = ["127.0.0.0/8"]
[strangers]
sender_domain = "any"
[spool]
disk_free_min = "1 MiB"
[[listener]]
name = "mx"
kind = "relay"
listen = "127.0.0.1:0"
tls = "starttls"
[[route]]
name = "dead"
to = "smtp://127.0.0.1:1"
[log]
to = "off"
"""


def check(holds, what):
    if not holds:
        print(f"package: FAILED: {what}", file=sys.stderr)
        sys.exit(1)
    print(f"  {time.monotonic() - BEGAN:5.1f} s  {what}", flush=True)


def run(*words, **more):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if done.returncode != 0:
        print(done.stdout, file=sys.stderr)
        check(False, " ".join(words))
    return done.stdout


ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "USER": "root",
               "LC_ALL": "C.UTF-8"}


def inside(*words):
    return run("chroot", ROOT, *words, env=ENVIRONMENT)


def place(path):
    return os.path.join(ROOT, path.lstrip("/"))


def debootstrap():
    """A small Debian of this release, from where this machine has its own packages."""
    with open("/etc/os-release") as release:
        suite = re.search(r"^VERSION_CODENAME=(.*)$", release.read(), re.M).group(1)
    targets = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)"], stdout=subprocess.PIPE,
                             text=True, check=True).stdout.split("\n")
    mirrors = [line.split(" ")[0] for line in targets if line.endswith(f" {suite}")]
    check(mirrors, "this machine knows where its packages come from")
    run("debootstrap", "--variant=minbase", "--include=adduser", suite, ROOT, mirrors[0])
    check(True, f"there is a fresh Debian ({suite})")


def unit():
    """ExecStart, User and Environment of the unit."""
    with open(place("/usr/lib/systemd/system/merpati.service")) as text:
        lines = [line.strip().split("=", 1) for line in text if "=" in line and not line.startswith("#")]
    facts = dict(lines)
    return facts["ExecStart"].split(), facts["User"], dict([facts["Environment"].split("=", 1)])


class Relay:
    """The relay as the unit starts it."""

    def __init__(self):
        words, user, environment = unit()
        self.listening = place("/var/lib/merpati/listening")
        self.process = subprocess.Popen(["chroot", f"--userspec={user}:{user}", ROOT, *words],
                                        env={"PATH": ENVIRONMENT["PATH"], **environment}, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL)
        # Whatever goes wrong, it does not outlive the test.
        atexit.register(self.process.kill)
        end = time.monotonic() + 30
        while not os.path.exists(self.listening):
            if self.process.poll() is not None or time.monotonic() > end:
                check(False, "the relay starts")
            time.sleep(0.02)

    def address(self, name):
        with open(self.listening) as lines:
            return dict(line.split() for line in lines)[name]

    def queued(self, wanted):
        """How many messages wait; the count is half a second old at most, and too low while the spool is read."""
        end = time.monotonic() + 20
        while True:
            spool = json.loads(inside("merpati", "status", "-o", "jsonl"))["spool"]
            if spool["messages"] == wanted and not spool["segments_unread"] or time.monotonic() > end:
                return spool["messages"]
            time.sleep(0.1)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        check(self.process.wait(60) == 0, "the relay ends with 0")


def facts(path):
    found = os.stat(place(path))
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def accounts():
    with open(place("/etc/passwd")) as lines:
        return {line.split(":")[0]: [int(number) for number in line.split(":")[2:4]] for line in lines}


def install(deb):
    shutil.copy(deb, place("/tmp/merpati.deb"))
    inside("dpkg", "--force-confold", "-i", "/tmp/merpati.deb")


def version():
    return inside("dpkg-query", "-W", "-f", "${Version} ${Status}", "merpati")


ENABLED = "/etc/systemd/system/multi-user.target.wants/merpati.service"


def first_install():
    install(OLD)
    uid, gid = accounts()["_merpati"]
    check(facts("/var/lib/merpati") == (uid, gid, 0o700), "the data directory is for the relay alone")
    check(facts("/etc/merpati/merpati.toml") == (0, gid, 0o640), "the configuration is not for everybody")
    check(os.path.islink(place(ENABLED)), "the unit is enabled")
    inside("merpati", "config", "check", "/etc/merpati/merpati.toml")
    relay = Relay()
    host, port = relay.address("sandbox").rsplit(":", 1)
    check((host, port) == ("127.0.0.1", "1025") and len(open(relay.listening).readlines()) == 1,
          "as installed it listens on loopback alone")
    inside("merpati", "send", "--server", "127.0.0.1:1025", "--to", "ani@example.org")
    check("ani@example.org" in inside("merpati", "sandbox", "ls"), "and captures mail")
    inside("merpati", "sandbox", "clear")
    relay.stop()


def fill():
    with open(place("/etc/merpati/merpati.toml"), "w") as config:
        config.write(CONFIG)
    relay = Relay()
    told = run(RIG, "load", "--to", relay.address("mx"), "--messages", str(MESSAGES), "--sessions", "32", "--size", "2048")
    check(relay.queued(MESSAGES) == MESSAGES, f"{MESSAGES} messages wait ({told.strip()[:120]})")
    return relay


def main():
    debootstrap()
    first_install()
    relay = fill()
    old = inside("/usr/bin/merpati", "--version")
    install(NEW)
    check("test2 install ok installed" in version(), f"upgraded from {old.strip()} while it runs")
    check(relay.queued(MESSAGES) == MESSAGES, "the old relay runs on")
    relay.stop()
    relay = Relay()
    check(relay.queued(MESSAGES) == MESSAGES, f"after the upgrade and a restart {MESSAGES} messages wait")
    key = open(place("/var/lib/merpati/tls/self-signed.key")).read()
    relay.stop()
    inside("dpkg", "-r", "merpati")
    check(not os.path.exists(place("/usr/bin/merpati")), "removed")
    check(os.listdir(place("/var/lib/merpati/spool")), "the mail stays")
    check(open(place("/etc/merpati/merpati.toml")).read() == CONFIG, "the configuration stays as it was changed")
    install(NEW)
    relay = Relay()
    check(relay.queued(MESSAGES) == MESSAGES, f"installed again, {MESSAGES} messages wait")
    check(open(place("/var/lib/merpati/tls/self-signed.key")).read() == key, "with the same certificate")
    relay.stop()
    with open(place("/etc/merpati/own.pem"), "w") as own:
        own.write("of the operator\n")
    inside("dpkg", "-P", "merpati")
    gone = ["/var/lib/merpati", "/var/log/merpati", "/etc/merpati/merpati.toml", "/usr/share/doc/merpati", ENABLED,
            "/usr/lib/systemd/system/merpati.service", "/etc/systemd/system/merpati.service"]
    left = [path for path in gone if os.path.lexists(place(path))]
    check(not left, f"after a purge nothing is left {left}")
    check(os.path.exists(place("/etc/merpati/own.pem")), "but what the operator put beside it")
    print(f"package: all as it should be, {time.monotonic() - BEGAN:.0f} s")


if __name__ == "__main__":
    main()
