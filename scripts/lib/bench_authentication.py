"""Signing, and verifying a signed mail: beside Postfix with OpenDKIM as its milter.

What a relay claims is looked at in each round: the sink counts the headers in which each signature,
or each result, stands, and the signatures of the last message are verified by bench_dkim.py, which is
no relay's.
"""

import contextlib
import dataclasses
import json
import pathlib
import re
import shutil
import socket
import subprocess
import typing

from bench_dkim import DOMAIN, Key, parts, signatures
from bench_report import median, ratio, shown
from bench_scenarios import Scenario
from bench_servers import Relay, postfix_relay
from conformance_peers import Dns
from peers import Peer
from servers import Server

NAMES = {"merpati": "mx.sink.test", "postfix": "postfix.bench.test"}
# OpenDKIM 2.11 has one algorithm for all keys of a process: it signs with one key, or two of it are
# asked, one after the other.
BOTH = ("rsa", "ed25519")
SIGNED = {"merpati": BOTH, "postfix": ("rsa",), "postfix2": BOTH}
# What each relay says of a good mail of a stranger.
FOUND = {
    "merpati": ("iprev=pass", "spf=pass", "dkim=pass", "dmarc=pass"),
    "postfix": ("dkim=pass",),
}
SIGNING_CONF = """Mode s
SignatureAlgorithm {kind}-sha256
Canonicalization relaxed/relaxed
OversignHeaders From
InternalHosts 127.0.0.0/8
KeyTable /etc/dkim/keys
SigningTable refile:/etc/dkim/signing
"""
# Nobody is internal: mail of those is not verified. The key is in a file, for with a DNS of its own
# (ResolverConfiguration) this OpenDKIM dies now and then when 50 mails come at once.
VERIFYING_CONF = """Mode v
InternalHosts 192.0.2.1
TestDNSData /etc/dkim/dns
"""
EVERYWHERE_CONF = """AuthservID postfix.bench.test
Socket local:/run/dkim
UserID opendkim
UMask 000
Syslog no
"""
TEXT = """The quarterly figures are attached below as plain text, since some of you read
mail on a terminal. Sales of the spring rose by four per cent, those of the
summer by three; the costs of the new warehouse are in the second table. Please
look at the third column before Thursday, and write to me if a row is missing.

"""
COLUMNS = (
    f"{'work':<10} {'relay':<8} {'per second':>10} {'lowest-highest':>14} {'CPU ms':>7} "
    f"{'lowest-highest':>14} {'a core-second':>13} {'times Postfix':>13} {'per core':>9} "
    f"{'p50 ms':>7} {'p99 ms':>7} {'PSS MiB':>8} {'DNS':>4}"
)
TIMES_PER_CORE = 5


@dataclasses.dataclass(frozen=True)
class Work(Scenario):
    """One row: what a relay does with each mail beside taking and sending it."""

    signs: bool = False
    world: typing.Any = None

    def of_load(self):
        """Options of the generator."""
        options = super().of_load()
        return options if self.signs else [*options, "--content", str(self.world.signed)]

    def of_sink(self, certificate):
        """Options of the sink."""
        options = ["--keep", str(self.world.kept)]
        for text in self.marks("merpati"):
            options += ["--header", text]
        return tuple(options)

    def marks(self, name):
        """What this relay has to write into each header."""
        return tuple(f"a={kind}-sha256;" for kind in SIGNED[name]) if self.signs else FOUND[name]

    def start(self, bench, name, place, next_hop):
        """The relay that does this."""
        self.world.asked = len(self.world.dns.queries)
        if name == "merpati":
            return self.world.merpati(place / name, next_hop, self.signs)
        return self.world.postfix(bench.postfix, name, place, next_hop, self)

    def check(self, name, sink, figures):
        """Whether it was done to each message, or this round is an error."""
        headers, messages = sink.figure("headers"), sink.figure("transactions")
        for text in self.marks(name):
            if headers[text] != messages:
                raise RuntimeError(f"{name}: {text} in {headers[text]} of {messages}")
        content = self.world.kept.read_bytes()
        if self.signs:
            held = signatures(content, self.world.records)
            if sorted(held) != sorted(f"{kind}-sha256" for kind in SIGNED[name]):
                raise RuntimeError(f"{name}: {held}: {content[:3000]!r}")
        else:
            said = [re.sub(rb"\s+", b" ", field) for field in parts(content)[0]]
            mine = f"Authentication-Results: {NAMES[name]};".encode()
            said = b" ".join(field for field in said if field.startswith(mine))
            if any(text.encode() not in said for text in FOUND[name]):
                raise RuntimeError(f"{name}: {said!r}: {content[:3000]!r}")
        figures["asked"] = len(self.world.dns.queries) - self.world.asked


class World:
    """A DNS, keys, and a signed mail of a stranger."""

    def __init__(self, merpati, folder):
        self.binary, self.folder = merpati, folder
        self.asked, self.kept, self.signed = 0, folder / "kept", folder / "signed"
        self.keys = {kind: Key(folder, kind, kind) for kind in BOTH}
        stranger = Key(folder, "stranger", "rsa")
        self.records = {key.name: key.record for key in (*self.keys.values(), stranger)}
        self.signed.write_bytes(stranger.sign(mail(10_240)))
        self.dns = Dns(
            f"{DOMAIN} MX 10 mail.{DOMAIN}",
            f"{DOMAIN} TXT v=spf1 ip4:127.0.0.0/8 -all",
            f"_dmarc.{DOMAIN} TXT v=DMARC1; p=reject",
            f"mail.{DOMAIN} A 127.0.0.1",
            f"mail.{DOMAIN} AAAA ::1",
            f"1.0.0.127.in-addr.arpa PTR mail.{DOMAIN}",
        )
        try:
            (folder / "data").mkdir()
            (folder / "merpati.toml").write_text("")
            self.domain("add")
            told = json.loads(self.domain("records", "-o", "json"))["records"]
            for record in told:
                if record["for"].startswith("DKIM"):
                    self.records[record["name"].rstrip(".")] = record["value"]
            for name, text in self.records.items():
                self.dns.add(f"{name} TXT {text}")
            said = self.domain("check")
            if said.count("signs from now on") != 2:
                raise RuntimeError(f"the keys do not sign: {said}")
        except BaseException:
            self.dns.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.dns.close()

    def domain(self, word, *more):
        """What `merpati domain …` says of our domain. A check may end with 1: its MX is not ours."""
        command = [self.binary, "domain", word, DOMAIN, *more]
        command += ["--config", self.folder / "merpati.toml"]
        command += ["--set", f"server.data_dir={self.folder}/data"]
        command += ["--set", f"dns.servers={self.dns.place}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode and word != "check":
            raise RuntimeError(f"{command}: {done.stderr}")
        return done.stdout

    def works(self):
        """The rows."""
        messages = {"merpati": 10_000, "postfix": 3_000}
        by_two = {**messages, "postfix2": 3_000}
        return (
            Work("signing", 10_240, 50, by_two, signs=True, world=self),
            Work("verifying", 10_240, 50, messages, world=self),
        )

    def merpati(self, folder, next_hop, signs):
        """With our keys and its clients as our own, or with its clients as strangers."""
        folder.mkdir()
        settings = {"DNS_ADDR": self.dns.place, "LOCAL_DOMAINS": "sink.test"}
        if signs:
            shutil.copytree(self.folder / "data" / "domains", folder / "spool" / "domains")
        else:
            # Else nobody asks for the name of a client on loopback.
            settings |= {"TRUSTED": "", "MERPATI_STRANGERS__RDNS": "all"}
        return Relay(self.binary, folder, next_hop, settings=settings).wait()

    def postfix(self, root, name, place, next_hop, work):
        """With milters of its own; all are one relay."""
        milters = []
        with contextlib.ExitStack() as on_error:
            for kind in SIGNED[name] if work.signs else (None,):
                milter = OpenDkim(place / f"dkim{len(milters)}", self, kind)
                milters.append(on_error.enter_context(milter))
            sockets = " ".join(f"unix:{milter.socket}" for milter in milters)
            settings = (f"smtpd_milters = {sockets}", "milter_default_action = tempfail")
            folder = place / "postfix"
            relay = postfix_relay(root, folder, work.sessions, next_hop, settings=settings)
            on_error.pop_all()
        return Together(relay, *milters)


class OpenDkim(Peer):
    """OpenDKIM of Debian, which signs with a key of this kind, or verifies."""

    def __init__(self, folder, world, kind):
        super().__init__("opendkim", folder, ["opendkim"])
        jail = self.jail
        jail.make("run", "opendkim")
        self.socket = jail.path("run/dkim")
        if kind:
            conf, key = SIGNING_CONF.format(kind=kind), world.keys[kind]
            jail.copy(key.path, "etc/dkim/key.pem", "opendkim", 0o600)
            jail.write("etc/dkim/keys", f"ours {DOMAIN}:{key.selector}:/etc/dkim/key.pem\n")
            jail.write("etc/dkim/signing", f"*@{DOMAIN} ours\n")
        else:
            conf = VERIFYING_CONF
            lines = [f"{name} {text}\n" for name, text in world.records.items()]
            jail.write("etc/dkim/dns", "".join(lines))
        jail.write("etc/opendkim.conf", conf + EVERYWHERE_CONF)
        self.start(self.is_there, "/usr/sbin/opendkim", "-f", "-x", "/etc/opendkim.conf")

    def is_there(self):
        with socket.socket(socket.AF_UNIX) as stream, contextlib.suppress(OSError):
            stream.connect(str(self.socket))
            return True
        return False


class Together(Server):
    """Two servers that are one relay; the first one is where mail goes in."""

    def __init__(self, *servers):
        self.servers = servers
        self.port, self.process = servers[0].port, servers[0].process

    def pids(self):
        return [server.process.pid for server in self.servers]

    def __exit__(self, *_):
        for server in self.servers:
            server.__exit__()


def mail(octets):
    """What people write, so large."""
    header = (
        f"From: Ani <ani@{DOMAIN}>\r\nTo: Sink <r0@sink.test>\r\n"
        "Subject: The figures of the year\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n"
        f"Message-ID: <1@{DOMAIN}>\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=us-ascii\r\n\r\n"
    )
    text = TEXT.replace("\n", "\r\n")
    left = octets - len(header) - 2
    return (header + (text * (left // len(text) + 1))[:left].rstrip() + "\r\n").encode()


def core_rows(work, rounds, goals):
    """Prints the rows of a work, and judges it by what a core does in a second."""
    bases = [median(rounds["postfix"], key) for key in ("rate", "cpu")]
    for name, mine in rounds.items():
        rate, cpu = median(mine, "rate"), median(mine, "cpu")
        rates, cpus = ([one[key] for one in mine] for key in ("rate", "cpu"))
        print(
            f"{work.name:<10} {name:<8} {shown(rate, 0):>10} "
            f"{f'{min(rates):,.0f}-{max(rates):,.0f}':>14} {shown(cpu, 3):>7} "
            f"{f'{min(cpus):.3f}-{max(cpus):.3f}':>14} {shown(ratio(1_000, cpu), 0):>13} "
            f"{shown(ratio(rate, bases[0]), 1):>13} {shown(ratio(bases[1], cpu), 1):>9} "
            f"{shown(median(mine, 'p50'), 1):>7} {shown(median(mine, 'p99'), 1):>7} "
            f"{shown(median(mine, 'pss'), 0):>8} {shown(median(mine, 'asked'), 0):>4}",
            flush=True,
        )
    times = ratio(bases[1], median(rounds["merpati"], "cpu"))
    goals.judge(f"{work.name}: times Postfix with OpenDKIM, per core", times, TIMES_PER_CORE)
