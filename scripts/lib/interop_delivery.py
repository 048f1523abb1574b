"""Merpati on its way to every peer: by MX, through smart hosts, by LMTP; and what comes back."""

import collections
import concurrent.futures
import email
import hashlib
import itertools
import pathlib
import smtplib
import subprocess
import tempfile
import time

from interop_ledger import PATIENCE, Ledger, Postman, Way
from interop_mails import behind_exim, corpus, made, same_when_submitted
from interop_msmtp import MECHANISMS, by_msmtp
from interop_net import ADDRESSES, JUDGES, ODD_MX, same, submit
from interop_relay import BOUND, LISTENERS, MISTAKEN, RELAY, Relay
from peers import PASSWORD, UNKNOWN, ZONE

SMOKE_CORPUS = 300
# Clients that bring the corpora at the same time.
CLIENTS = 4
FAILURES = (
    # Of a domain, the enhanced status, and words.
    ("null", "5.1.10", "takes no mail"),
    ("missing", "5.1.2", "does not exist"),
    ("loop", "5.4.6", "loops back"),
    ("private", "5.4.4", "no usable address"),
)


class Trial:
    """Merpati between its clients and all peers."""

    def __init__(self, score, net, relay, ledger):
        self.score, self.net, self.relay, self.ledger = score, net, relay, ledger
        self.sender = f"sender@{net.dovecot.domain}"
        self.keys = itertools.count()
        self.table = collections.Counter()
        by_mx = [Way(name, f"{name}.{ZONE}", judge=JUDGES.get(name, same)) for name in net.peers]
        self.by_lmtp = [Way("LMTP over TCP", net.dovecot.domain, "tcp"),
                        Way("LMTP over a Unix socket", f"unix.{ZONE}", "unix")]
        self.odd = [Way(f"MX: {name}", f"{name}.{ZONE}") for name in ODD_MX]
        self.smart = [
            Way(f"smart host {host.name}", f"smart{at}.{ZONE}")
            for at, host in enumerate(net.smart_hosts)
        ]
        self.usual = [*by_mx, *self.by_lmtp]
        self.all = [*self.usual, *self.odd, *self.smart]

    def case(self, name, check):
        self.score.case(f"delivery: {name}", check)

    def settle(self, name):
        """Waits for all that is under way, and keeps what became of it for the table."""
        for (way, result), count in self.ledger.balance().items():
            self.table[name, way, result] += count

    def send(self, client, ways, mail):
        """One mail for all these ways in one transaction."""
        key = next(self.keys)
        recipients = [way.recipient(key) for way in ways]
        for way, recipient in zip(ways, recipients):
            self.ledger.expect(recipient, way, mail)
        reply = submit(client, recipients, mail, self.sender)
        if reply[0] != 250:
            for recipient in recipients:
                self.ledger.refused(recipient, reply)

    def connect(self, listener, **options):
        return self.relay.connect(listener, self.net.trust, **options)


def by_smtplib(trial, listener):
    """Every mail of ours to everywhere: all at once, and one by one."""
    mails = made()
    with trial.connect(listener) as client:
        for _, mail in mails:
            trial.send(client, trial.all, mail)
        for way in trial.all:
            trial.send(client, [way], mails[0][1])
    trial.settle(f"smtplib, {listener}")


def by_swaks(trial, listener, mechanism):
    """swaks itself sends an empty line behind the data of a file, whoever listens."""
    protect = "--tls-on-connect" if listener == "submissions" else "--tls"
    content = dict(made())["dots-and-long-lines"]
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        key = next(trial.keys)
        recipients = {way.recipient(key): way for way in trial.all}
        for recipient, way in recipients.items():
            trial.ledger.expect(recipient, way, content + b"\r\n")
        subprocess.run(
            ["swaks", "--server", f"{RELAY}:{trial.relay.ports[listener]}", "--silent", "2",
             protect, "--tls-verify", "--tls-ca-path", trial.net.certificate.root,
             "--auth", mechanism, "--auth-user", "anybody", "--auth-password", PASSWORD,
             "--from", trial.sender, "--to", ",".join(recipients), "--data", f"@{file.name}"],
            check=True, capture_output=True, timeout=60, stdin=subprocess.DEVNULL,
        )
    trial.settle(f"swaks, {listener}, {mechanism}")


def submission_rules(trial):
    """What a submission mends in a header, and from whom it takes nothing."""
    way = Way("mended", trial.net.dovecot.domain, "tcp", same_when_submitted)
    bare = f"From: <ani@{ZONE}>\r\nBcc: <cici@{ZONE}>,\r\n\t<dedi@{ZONE}>\r\nSubject: x\r\n\r\nx\r\n"
    stranger = bare.replace(f"ani@{ZONE}", "ani@stranger.example")
    key = next(trial.keys)
    with trial.connect("submission", user=BOUND) as client:
        trial.ledger.expect(way.recipient(key), way, bare.encode())
        own = submit(client, [way.recipient(key)], bare.encode())
        for what, code, reply in (
            ("its own sender", 250, own),
            ("another sender", 553, submit(client, ["x@y.example"], b"x\r\n", "a@stranger.example")),
            ("another From", 550, submit(client, ["x@y.example"], stranger.encode())),
        ):
            expect_code(what, code, reply)
    with trial.connect("submission", user=None) as client:
        expect_code("no AUTH", 530, submit(client, ["x@y.example"], bare.encode()))
        try:
            client.login(BOUND, "wrong")
        except smtplib.SMTPAuthenticationError:
            pass
        else:
            raise RuntimeError("a wrong password is good")
    trial.settle("smtplib, submission")


def expect_code(what, code, reply):
    if reply[0] != code:
        raise RuntimeError(f"{what}: {reply} in place of {code}")


def unknown_recipients(trial):
    """Whom a peer does not know, the sender hears of; a null sender hears nothing."""
    content = made()[0][1]
    domains = [way.domain for way in trial.usual]
    recipients = [f"{UNKNOWN}@{domain}" for domain in domains]
    with trial.connect("mx") as client:
        expect_code("a null sender", 250, submit(client, recipients, content, ""))
        expect_nothing_waits(trial)
        expect_code("a sender", 250, submit(client, recipients, content, trial.sender))
    for recipient in recipients:
        words, raw = trial.ledger.report(recipient)
        if not words.startswith("5."):
            raise RuntimeError(f"{recipient}: {words}")
        report = email.message_from_bytes(raw)
        header = report.get_payload()[2].as_string()
        if "Message-ID: <dots-and-long-lines@example.org>" not in header:
            raise RuntimeError(f"{recipient}: the report lacks the header: {header}")
    trial.settle("reports")
    # One report for each next hop, and none for the null sender.
    expect_nothing_waits(trial)


def odd_domains(trial):
    """Where mail cannot go, it fails at once, with the reason."""
    content = made()[0][1]
    with trial.connect("mx") as client:
        for name, _, _ in FAILURES:
            recipient = f"budi@{name}.{ZONE}"
            expect_code(name, 250, submit(client, [recipient], content, trial.sender))
    for name, status, text in FAILURES:
        words, _ = trial.ledger.report(f"budi@{name}.{ZONE}")
        if not words.startswith(f"{status} ") or text not in words:
            raise RuntimeError(f"{name}: {words}")


def deferrals(trial):
    """What may pass waits with its reason, until it is cancelled."""
    content = made()[0][1]
    for domain, reason in ((f"dead.{ZONE}", "connection"), (MISTAKEN, "authentication")):
        with trial.connect("mx") as client:
            expect_code(domain, 250, submit(client, [f"budi@{domain}"], content, trial.sender))
        query = f"domain:{domain}"
        wait_for(domain, lambda: reason in str(trial.relay.waiting(query)))
        trial.relay.cancel(query)
    expect_nothing_waits(trial)


def wait_for(what, is_so):
    end = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not so after {PATIENCE} s")
        time.sleep(0.05)


def expect_nothing_waits(trial):
    wait_for("an empty queue", lambda: not trial.relay.waiting())


def protection(trial):
    """All peers but Dovecot offer TLS, so every delivery to them was made over it; or in the clear
    where that is all the peer can (that of OpenSMTPD is broken in Debian 12)."""
    seen = collections.Counter()
    for told in trial.relay.events("Attempted"):
        if all(outcome["outcome"] == "Delivered" for outcome in told["outcomes"]):
            seen[told["address"].rsplit(":", 1)[0], bool(told["tls"])] += 1
    for name, peer in trial.net.peers.items():
        can = speaks_tls(peer, trial.net.trust)
        if not seen[ADDRESSES[name], can] or seen[ADDRESSES[name], not can]:
            raise RuntimeError(f"{name}: {seen}")
        if not can:
            print(f"        {name} offers TLS and cannot speak it, so mail went in the clear")
    if not seen[ADDRESSES["dovecot"], False]:
        raise RuntimeError(f"dovecot: {seen}")


def speaks_tls(peer, trust):
    with smtplib.SMTP(*peer.listen, timeout=30) as client:
        try:
            return client.starttls(context=trust)[0] == 220
        except OSError:
            return False


def corpora(trial, smoke):
    """The corpora on every way; those through smart hosts are submitted, and take turns there."""
    mails = corpus(SMOKE_CORPUS if smoke else None)
    if mails is None:
        print("skipped: no ../shared")
        return
    exim = trial.net.peers["exim"]
    smart = [
        Way(way.name, way.domain, way.box,
            behind_exim(same_when_submitted) if host.peer is exim else same_when_submitted)
        for way, host in zip(trial.smart, trial.net.smart_hosts)
    ]

    def carry(part):
        with trial.connect("mx") as relay, trial.connect("submissions") as submission:
            for at in range(part, len(mails), CLIENTS):
                trial.send(relay, trial.usual, mails[at][1])
                trial.send(submission, [smart[at % len(smart)]], mails[at][1])

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(carry, part) for part in range(CLIENTS)]:
            done.result()
    trial.settle("corpora")
    counted = sum(count for (what, _, _), count in trial.table.items() if what == "corpora")
    if counted != len(mails) * (len(trial.usual) + 1):
        raise RuntimeError(f"{counted} of {len(mails)} mails on each way are accounted for")


def by_pop(trial, postman):
    """POP3 gives what IMAP gave."""
    for user, inbox in postman.inboxes.items():
        raws = trial.net.dovecot.by_pop(user)
        if collections.Counter(hashlib.sha256(raw).digest() for raw in raws) != inbox.digests:
            raise RuntimeError(f"{user}: POP3 and IMAP differ")


def accounts(trial):
    """What was acknowledged is finished, and nothing waits."""
    expect_nothing_waits(trial)
    taken, retired = (
        {told["id"] for told in trial.relay.events(name)} for name in ("Accepted", "Retired")
    )
    if not taken or taken != retired:
        raise RuntimeError(f"{len(taken)} were accepted, {len(retired)} retired")


def deliveries(score, net, binary, folder, smoke):
    """Everything through Merpati, and the table of what became of it."""
    ledger = Ledger()
    with Relay(binary, pathlib.Path(folder), net) as relay, Postman(net, ledger) as postman:
        trial = Trial(score, net, relay, ledger)
        for listener in LISTENERS:
            trial.case(f"smtplib, {listener}", lambda one=listener: by_smtplib(trial, one))
        for listener, mechanism in itertools.product(("submission", "submissions"), ("PLAIN", "LOGIN")):
            trial.case(
                f"swaks, {listener}, {mechanism}",
                lambda one=listener, how=mechanism: by_swaks(trial, one, how),
            )
        for mechanism in MECHANISMS:
            trial.case(f"msmtp, submission, {mechanism}", lambda one=mechanism: by_msmtp(trial, one))
        trial.case("submission rules", lambda: submission_rules(trial))
        trial.case("unknown recipients are reported", lambda: unknown_recipients(trial))
        trial.case("domains without a host fail", lambda: odd_domains(trial))
        trial.case("what may pass waits", lambda: deferrals(trial))
        trial.case("corpora", lambda: corpora(trial, smoke))
        trial.case("TLS where it is offered", lambda: protection(trial))
        trial.case("POP3 gives what IMAP gave", lambda: by_pop(trial, postman))
        trial.case("nothing is lost", lambda: accounts(trial))
        print(f"{'mails':<28} {'way':<54} {'result':<60} {'count':>6}")
        for (what, way, result), count in sorted(trial.table.items()):
            print(f"{what:<28} {way:<54} {result:<60} {count:>6}")
        if score.failed:
            print(relay.told())
