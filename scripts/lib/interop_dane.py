"""DANE (RFC 7672) in a signed DNS of the trial: Postfix and Merpati agree, case by case.

The same mail goes by each case through Postfix with `smtp_tls_security_level = dane` and through
Merpati, to hosts that take it over TLS or in the clear, show a right certificate or a wrong one, or
are an attacker's. What must become of it stands in interop_dane_cases.py. Merpati proves by itself
what the DNS says, behind a resolver that does not and behind one that does as well.
"""

import contextlib
import hashlib
import os
import pathlib
import re
import smtplib
import time

from certificates import Authority, stolen
from conformance_peers import Peer
from interop_dane_cases import CASES, CLEAR, DEFERRED, ENCRYPTED, TLSA, VERIFIED, ZONES
from interop_import import OWN_RESOLVER
from peers import free_ports
from servers import Postfix
from signed_dns import Resolver, SignedDns, ask

NETWORK = "127.27.0."
KNOT, REFUSER, PROVING, PASSING, POSTFIX = (NETWORK + at for at in ("53", "54", "1", "2", "25"))
HOSTS = "127.27.1."
PATIENCE = 60
CONTENT = "From: ani@sender.example\r\nSubject: {}\r\n\r\nHello\r\n"
STATUS = re.compile(r"to=<([^>]*)>, relay=([^\[,]+).* status=(\w+) \((.*)\)$", re.M)
ESTABLISHED = re.compile(r": (\w+) TLS connection established to ([^\[]+)\[")


def sha(octets, kind="sha256"):
    return hashlib.new(kind, octets).hexdigest()


class World:
    """All domains with their hosts, and the DNS that tells of them; `proving` and `passing` are
    resolvers."""

    def __init__(self, folder):
        folder.mkdir(mode=0o755)
        self.stack = contextlib.ExitStack()
        self.folder, self.hosts = folder, {}
        self.ca = Authority(folder / "certificates")
        try:
            self.dns = self.stack.enter_context(self._dns())
            self.proving = self._resolver("proving", PROVING, True)
            self.passing = self._resolver("passing", PASSING, False)
        except BaseException:
            self.stack.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def _resolver(self, name, address, proves):
        return self.stack.enter_context(Resolver(self.folder / name, address, self.dns, proves))

    def _dns(self):
        zones, records = dict(ZONES), []
        for number, case in enumerate(CASES):
            first, second = HOSTS + str(1 + 2 * number), HOSTS + str(2 + 2 * number)
            leaf = self._host(case, case.shows, first, f"mx.{case.domain}")
            words = self._words(case, leaf) | {"a": first, "b": second}
            if case.second:
                other = self._host(case, case.second, second, f"mx2.{case.domain}")
                words["spki2"] = sha(other.spki)
            lines = [*case.records, *(TLSA.format(d="{d}", data=data) for data in case.tlsa)]
            records += [line.format(**words) for line in lines]
            zones |= {name.format(**words): kind for name, kind in case.zones.items()}
        return SignedDns(self.folder / "dns", KNOT, zones, records, REFUSER)

    def _host(self, case, shows, address, name):
        """Starts one; what it ought to show."""
        stem = name.replace(".", "-")
        names = {"other-name": "other.example", "next-hop": case.domain}
        leaf = self.ca.leaf(stem, names.get(shows, name), days=-1 if shows == "expired" else 2,
                            with_root=shows != "leaf-alone")
        shown = stolen(self.ca.folder, leaf) if shows == "stolen" else leaf
        is_first = name.startswith("mx.")
        context = shown.context(case.version if is_first else None)
        peer = Peer(case.script if is_first else None, address=address, port=25,
                    tls=case.tls or not is_first, context=context)
        self.stack.callback(peer.close)
        self.hosts.setdefault(case.name, []).append(peer)
        return leaf

    def _words(self, case, leaf):
        other = b"something else"
        return {
            "d": case.domain, "other": sha(other), "other512": sha(other, "sha512"),
            "spki": sha(leaf.spki), "spki512": sha(leaf.spki, "sha512"),
            "whole_spki": leaf.spki.hex(), "cert": sha(leaf.certificate),
            "cert512": sha(leaf.certificate, "sha512"), "whole_cert": leaf.certificate.hex(),
            "ta": sha(self.ca.spki), "tacert": sha(self.ca.certificate),
        }

    def came(self, case, recipient):
        """The sessions in which a mail to this address was taken; those in which it was begun."""
        sessions = [session for host in self.hosts[case.name] for session in host.sessions]
        taken = [one for one in sessions for mail in one.mails
                 if mail.accepted and any(f"<{recipient}>" in to for to in mail.recipients)]
        sender = f"MAIL FROM:<{recipient.split('@')[0]}@sender.example>".upper().encode()
        begun = [one for one in sessions if any(line.upper().startswith(sender)
                                                for line in one.lines)]
        return taken, begun


def judge(world, case, who, found):
    """Holds what a relay says, and what the hosts saw, to what is wanted."""
    how, why = found
    taken, begun = world.came(case, f"{who}@{case.domain}")
    if how != case.want:
        raise RuntimeError(f"{case.about}: wanted {case.want}, {who} says {how}: {why}")
    if how == DEFERRED and begun:
        raise RuntimeError(f"{case.about}: {who} began a mail to whom it must not")
    if how != DEFERRED and len(taken) != 1:
        raise RuntimeError(f"{case.about}: {len(taken)} copies came from {who}")
    clear = [one for one in begun if not one.is_tls]
    if how in (VERIFIED, ENCRYPTED) and clear:
        raise RuntimeError(f"{case.about}: {who} began a mail in the clear")
    if how == CLEAR and not clear:
        raise RuntimeError(f"{case.about}: {who} did not send it in the clear")
    if case.second and taken[0].peer is not world.hosts[case.name][1]:
        raise RuntimeError(f"{case.about}: {who} took the first host")


def cases_by(who):
    return [case for case in CASES if who in case.by]


def hand_over(place, who):
    """A mail by each case; the replies by the names of the cases."""
    replies = {}
    with smtplib.SMTP(*place, timeout=60) as client:
        client.ehlo("client.example")
        for case in cases_by(who):
            client.mail(f"{who}@sender.example")
            client.rcpt(f"{who}@{case.domain}")
            code, text = client.data(CONTENT.format(case.name))
            if code != 250:
                raise RuntimeError(f"{case.name}: {code} {text}")
            replies[case.name] = text.decode()
    return replies


def until_told(who, ready):
    """Asks again until there is something for each case; gives it."""
    end = time.monotonic() + PATIENCE
    while True:
        found = ready()
        lacking = [case.name for case in cases_by(who) if case.name not in found]
        if not lacking:
            return found
        if time.monotonic() > end:
            raise RuntimeError(f"{who}: in {PATIENCE} s nothing of {lacking}")
        time.sleep(0.1)


def by_postfix(world, folder):
    """What became of each mail, as Postfix says, and why."""
    folder.mkdir(mode=0o755)
    (folder / "resolv.conf").write_text(f"nameserver {PROVING}\n")
    settings = [
        "myhostname = postfix.trial.example",
        "smtp_host_lookup = dns",
        "smtp_dns_support_level = dnssec",
        "smtp_tls_security_level = dane",
        # Where MX is not proven, DANE does not apply (RFC 7672 §2.2.1).
        "smtp_tls_dane_insecure_mx_policy = may",
        "smtp_tls_loglevel = 1",
        "smtp_tls_CAfile =",
        "minimal_backoff_time = 1h",
    ]
    place = (POSTFIX, free_ports(1, [POSTFIX])[0])
    root = pathlib.Path(os.environ["POSTFIX_ROOT"])
    around = (*OWN_RESOLVER, folder / "resolv.conf")
    with Postfix(root, folder / "server", 50, settings, place, around=around):
        hand_over(place, "postfix")
        log = folder / "server/log"

        def ready():
            names = {f"postfix@{case.domain}": case.name for case in CASES}
            return {names[found[0]]: found[1:] for found in STATUS.findall(log.read_text())
                    if found[0] in names}
        found = until_told("postfix", ready)
        levels = {host: level for level, host in ESTABLISHED.findall(log.read_text())}
    return {case.name: as_postfix_says(world, case, found[case.name], levels)
            for case in cases_by("postfix")}


def as_postfix_says(world, case, found, levels):
    host, status, why = found
    if status != "sent":
        return status, why
    taken, _ = world.came(case, f"postfix@{case.domain}")
    if not any(one.is_tls for one in taken):
        return CLEAR, why
    return (VERIFIED if levels.get(host) == "Verified" else ENCRYPTED), why


def alone(world):
    """The DNS works without any relay: what is proven, what is not, and what is forged."""
    wanted = {
        "spki.signed.example": (0, True), "nsec3.nsec3.example": (0, True),
        "plain.plain.example": (0, False), "mx-forged.forged.example": (2, False),
    }
    for name, (code, is_proven) in wanted.items():
        proving, passing = (ask(one.place, name, "MX") for one in (world.proving, world.passing))
        if (proving.code, proving.is_proven) != (code, is_proven):
            raise RuntimeError(f"{name}: {proving}")
        if passing.code or passing.is_proven or not passing.count:
            raise RuntimeError(f"{name}: the resolver that judges nothing says {passing}")
    for name in (f"_25._tcp.mx.{case.domain}" for case in CASES if case.zones):
        if ask(world.proving.place, name, "TLSA").code != 2:
            raise RuntimeError(f"{name}: not SERVFAIL")


def dane(score, binary, folder):
    """All cases, by each relay."""
    with World(folder) as world:
        score.case("DANE: a signed DNS alone", lambda: alone(world))
        told = {}
        score.case("DANE: Postfix has sent", lambda: told.update(
            by_postfix(world, folder / "postfix")))
        for case in cases_by("postfix"):
            score.case(f"DANE: Postfix, {case.about}",
                       lambda case=case: judge(world, case, "postfix", told[case.name]))
