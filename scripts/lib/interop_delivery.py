"""Merpati on its way to every peer: by MX, through smart hosts, by LMTP; and what comes back.

Each mail has a recipient of its own, and a sender of its own to whom a report would come, so that
whatever arrives is known by its envelope.
"""

import collections
import email
import hashlib
import json
import pathlib
import re
import smtplib
import subprocess
import threading
import time
import urllib.request

from interop_mails import corpus, made, same
from interop_net import JUDGES, ODD_MX, alone_by_lmtp, hand_over
from peers import PASSWORD, UNKNOWN, USER, ZONE
from servers import Server, end_process, wait_until

RELAY = "127.25.0.25"
LISTENERS = {"mx": ("relay", "starttls"), "submission": ("submission", "starttls"),
             "submissions": ("submission", "implicit")}
# Mails on one way that are taken and not there yet; more than that wait at the door.
IN_FLIGHT = 300
PATIENCE = 120
# Why a mail may stay behind, and with whose words it is said. Anything else is a failure.
NAMED = (
    # Our own refusals at the end of the content.
    (None, r"\(rule (bare-cr|nul)\)"),
    ("opensmtpd", r"Line too long"),
    # `mail::NotConvertible`.
    ("sevenbit", r"a multipart has no boundary, or one that readers disagree on"),
    ("sevenbit", r"a part of type message holds 8-bit octets and must not be encoded"),
    ("sevenbit", r"a Content-Type cannot be read, or there are two"),
    ("sevenbit", r"parts are nested too deeply"),
    ("sevenbit", r"a header field holds 8-bit octets"),
    ("sevenbit", r"a Content-Transfer-Encoding does not fit its part"),
    ("sevenbit", r"a header does not end with an empty line"),
    ("sevenbit", r"a multipart does not end"),
    ("sevenbit", r"8-bit octets stand outside of the parts of a multipart"),
    ("sevenbit", r"8-bit octets are signed or encrypted"),
)


class Relay(Server):
    """`merpati serve` with a relay, two submission listeners, and a route for each way."""

    def __init__(self, binary, folder, net):
        folder.mkdir(mode=0o755)
        self.binary, self.folder, self.data = binary, folder, folder / "data"
        self.log = folder / "log"
        (folder / "merpati.toml").write_text(self._config(net))
        with open(folder / "output", "wb") as output:
            self.process = subprocess.Popen(
                [binary, "serve", "--config", folder / "merpati.toml"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )
        listening = self.data / "listening"
        try:
            wait_until("merpati", listening.exists, self.process)
        except RuntimeError:
            end_process(self.process)
            print((folder / "output").read_text())
            raise
        places = dict(line.split() for line in listening.read_text().splitlines())
        self.http = f"http://{places['http']}"
        self.ports = {name: int(places[name].rsplit(":", 1)[1]) for name in LISTENERS}

    def _config(self, net):
        def table(name, **options):
            lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
            return "\n".join([name, *lines, ""])

        stored = subprocess.run(
            [self.binary, "credential", "hash"], input=f"{PASSWORD}\n", check=True, timeout=60,
            capture_output=True, text=True,
        ).stdout.strip()
        tables = [
            table("[server]", hostname=f"relay.{ZONE}", data_dir=str(self.data),
                  http_listen=["127.0.0.1:0"], drain_wait="1 s"),
            table("[log]", to=str(self.log)),
            table("[spool]", disk_free_min="1 MiB"),
            table("[relay]", networks=["127.0.0.0/8"],
                  local_domains=[net.dovecot.domain, f"unix.{ZONE}"]),
            table("[[credential]]", name=USER, password=stored,
                  senders=[ZONE, net.dovecot.domain]),
            table("[dns]", servers=["{}:{}".format(*net.dns)]),
            table("[delivery]", port=net.port, allow_networks=["127.0.0.0/8"],
                  connections_per_host_max=10),
            table("[retry]", first_wait="1 s", longest_wait="2 s"),
        ]
        for name, (kind, tls) in LISTENERS.items():
            tables.append(table(
                "[[listener]]", name=name, kind=kind, listen=[f"{RELAY}:0"], tls=tls,
                tls_certificate=str(net.certificate.chain), tls_key=str(net.certificate.key),
            ))
        tables += [
            table("[[route]]", name="unix", recipient_domains=[f"unix.{ZONE}"],
                  to=f"lmtp:{net.dovecot.lmtp_socket}"),
            table("[[route]]", name="tcp", recipients="local",
                  to=f"lmtp://{net.dovecot.address}:{net.dovecot.lmtp}"),
        ]
        for at, host in enumerate(net.smart_hosts):
            scheme = "smtps" if host.tls == "implicit" else "smtp"
            # By name: the certificate has to be valid for it.
            tables.append(table(
                "[[route]]", name=f"smart{at}", recipient_domains=[f"smart{at}.{ZONE}"],
                to=f"{scheme}://mx.{host.peer.domain}:{host.port}", user=USER, password=PASSWORD,
                tls_ca=str(net.certificate.root),
            ))
        return "\n".join([*tables, table("[[route]]", name="world", to="mx")])

    def connect(self, listener, trust):
        """A client, with TLS and AUTH but for `mx`."""
        place = (RELAY, self.ports[listener])
        if listener == "submissions":
            client = smtplib.SMTP_SSL(*place, timeout=60, context=trust)
        else:
            client = smtplib.SMTP(*place, timeout=60)
            if listener == "submission":
                client.starttls(context=trust)
        client.ehlo()
        if listener != "mx":
            client.login(USER, PASSWORD)
        return client

    def waiting(self):
        with urllib.request.urlopen(self.http + "/v1/queue", timeout=60) as answer:
            return json.loads(answer.read())["data"]

    def told(self):
        return (self.folder / "output").read_text(errors="replace")


class Way:
    """To one peer: the address of each mail, and what may become of a mail."""

    def __init__(self, name, domain, box="corpus", judge=same):
        self.name, self.domain, self.box, self.judge = name, domain, box, judge


class Inbox:
    """A mailbox of Dovecot over IMAP, from its first mail on."""

    def __init__(self, dovecot, user):
        self.dovecot, self.user, self.next = dovecot, user, 1
        # Of each mail: POP3 has to give the same ones.
        self.digests = collections.Counter()

    def take(self):
        with self.dovecot.box(self.user) as client:
            count = int(client.select("INBOX", readonly=True)[1][0])
            while self.next <= count:
                last = min(count, self.next + 99)
                _, found = client.fetch(f"{self.next}:{last}", "(BODY.PEEK[])")
                self.next = last + 1
                for part in found:
                    if isinstance(part, tuple):
                        self.digests[hashlib.sha256(part[1]).digest()] += 1
                        yield part[1]


class Ledger:
    """What is under way, and what became of the rest."""

    def __init__(self):
        self.lock = threading.Condition()
        self.waiting = {}
        self.open = collections.Counter()
        self.results = collections.Counter()
        self.wrong = []

    def expect(self, key, way, mail):
        """Waits until there is room on this way."""
        with self.lock:
            if not self.lock.wait_for(lambda: self.open[way.name] < IN_FLIGHT, PATIENCE):
                raise RuntimeError(f"{way.name}: nothing arrived in {PATIENCE} s")
            self.waiting[key] = (way, mail)
            self.open[way.name] += 1

    def settle(self, key, result):
        """`result`: of the way and the content; None where it must not be so."""
        with self.lock:
            if key not in self.waiting:
                self.wrong.append(f"{key}: came twice, or was never sent")
                return
            way, mail = self.waiting.pop(key)
            self.open[way.name] -= 1
            self.lock.notify_all()
        text, why = result(way, mail)
        with self.lock:
            if text:
                self.results[way.name, text] += 1
            else:
                self.wrong.append(f"{key}: {why}")

    def arrived(self, raw, recipient):
        local = (recipient or "").split("@")[0]
        box, _, key = local.partition("+")
        if box == "sender":
            self.settle(key, lambda way, _: self.returned(way, raw))
        else:
            self.settle(key, lambda way, mail: (way.judge(mail, raw), f"changed: {recipient}"))

    def returned(self, way, raw):
        words = diagnostic(email.message_from_bytes(raw))
        return named(way, f"returned: {words}")

    def refused(self, key, reply):
        words = f"refused: {reply[0]} {reply[1].decode(errors='replace')}"
        self.settle(key, lambda way, _: named(way, words))

    def wait(self, patience=PATIENCE):
        """Until nothing is under way, or nothing comes any more."""
        with self.lock:
            left = None
            while self.waiting and len(self.waiting) != left:
                left = len(self.waiting)
                self.lock.wait_for(lambda: not self.waiting, patience)
            if self.waiting:
                keys = sorted(self.waiting)
                raise RuntimeError(f"{len(keys)} never arrived: {keys[:10]}")

    def verdict(self):
        for (way, text), count in sorted(self.results.items()):
            print(f"        {way:<46} {text:<70} {count:>6}")
        if self.wrong:
            shown = "\n".join(self.wrong[:10])
            raise RuntimeError(f"{len(self.wrong)} are wrong:\n{shown}")


def named(way, words):
    """The reason without what differs from mail to mail, if it is one that may be."""
    for name, pattern in NAMED:
        found = re.search(pattern, words)
        if found and name in (None, way.name):
            return f"{words.split(':')[0]}: {found.group(0)}", None
    return None, words


def diagnostic(report):
    """The words about the recipient in a report (RFC 3464 §2.3)."""
    if report.get_content_type() != "multipart/report":
        return f"no report: {report.get_content_type()}"
    status = [part for part in report.walk() if part.get_content_type() == "message/delivery-status"]
    about = status[0].get_payload()[1]
    return " ".join(f"{about['Status']} {about['Diagnostic-Code']}".split())


class Post:
    """A thread that empties all mailboxes into the ledger."""

    def __init__(self, net, ledger):
        self.ledger = ledger
        self.boxes = [peer.maildir for peer in net.peers.values()]
        self.inboxes = {user: Inbox(net.dovecot, user) for user in ("sender", "tcp", "unix")}
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.failure = None

    def _run(self):
        from peers import recipient_of

        while not self.is_over.is_set():
            try:
                for box in [*self.boxes, *self.inboxes.values()]:
                    for raw in box.take():
                        self.ledger.arrived(raw, recipient_of(raw))
            except Exception as why:  # The next round may do; the last failure is told.
                self.failure = why
            self.is_over.wait(0.05)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()
