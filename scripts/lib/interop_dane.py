"""DANE (RFC 7672) in a signed DNS of the trial: Postfix and Merpati agree, case by case.

The same mail goes by each case through Postfix with `smtp_tls_security_level = dane` and through
Merpati, to hosts that take it over TLS or in the clear, show a right certificate or a wrong one, or
are an attacker's. What must become of it stands in interop_dane_cases.py. Merpati proves by itself
what the DNS says, behind a resolver that does not and behind one that does as well.
"""

import os
import pathlib
import re

from dane_world import DaneWorld
from interop_dane_cases import CASES
from interop_import import OWN_RESOLVER
from interop_secured import (CLEAR, ENCRYPTED, VERIFIED, Sender, as_it_says, came, hand_over, judge,
                             says, until_told)
from peers import free_ports
from servers import Postfix
from signed_dns import ask

NETWORK = "127.27.0."
SERVERS = {"dns": NETWORK + "53", "refuser": NETWORK + "54", "proving": NETWORK + "1",
           "passing": NETWORK + "2"}
POSTFIX, MERPATI = NETWORK + "25", NETWORK + "26"
# Of these it must be told what DANE had to do with them.
EXPLAINED = ("spki", "ta-spki", "mismatch-12", "stolen-13", "ta-name", "stripped", "tlsa-forged",
             "tlsa-dead", "usage-1", "stripped-unusable", "second-mismatch")
STATUS = re.compile(r"to=<([^>]*)>, relay=([^\[,]+).* status=(\w+) \((.*)\)$", re.M)
ESTABLISHED = re.compile(r": (\w+) TLS connection established to ([^\[]+)\[")


def by_merpati(score, world, folder, binary, who, resolver):
    """What became of each mail, as Merpati says, and why; a case of its own is what it tells."""
    dns = {"trust_anchor": str(world.dns.anchor)}
    with Sender(binary, folder, MERPATI, resolver.place, dns=dns) as node:
        told = node.send(who, [case.domain for case in CASES])
        names = [f"{who}@{case.domain}" for case in CASES if case.name in EXPLAINED]
        for command in ("trace", "explain"):
            score.case(f"DANE: {command} tells of it, {who}", lambda command=command: says(
                node, command, told, names, "DANE|TLSA"))
        return {case.name: as_it_says(told[case.domain][1]) for case in CASES}


def by_postfix(world, folder, who):
    """What became of each mail, as Postfix says, and why."""
    folder.mkdir(mode=0o755)
    (folder / "resolv.conf").write_text(f"nameserver {SERVERS['proving']}\n")
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
        cases = [case for case in CASES if case.by_postfix]
        domains = [case.domain for case in cases]
        hand_over(place, who, domains)
        log = folder / "server/log"

        def ready():
            return {to.split("@")[1]: found for to, *found in STATUS.findall(log.read_text())}
        found = until_told("Postfix", domains, ready)
        levels = {host: level for level, host in ESTABLISHED.findall(log.read_text())}
    return {case.name: as_postfix_says(world, case, who, found[case.domain], levels)
            for case in cases}


def as_postfix_says(world, case, who, found, levels):
    host, status, why = found
    if status != "sent":
        return status, why
    taken, _ = came(world.hosts[case.name], f"{who}@{case.domain}")
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
    with DaneWorld(folder, CASES, SERVERS, lambda at: f"127.27.1.{at}") as world:
        score.case("DANE: a signed DNS alone", lambda: alone(world))
        judge_all(score, world, "Postfix", "postfix", lambda who: by_postfix(
            world, folder / "postfix", who))
        judge_all(score, world, "Merpati", "merpati", lambda who: by_merpati(
            score, world, folder / "merpati", binary, who, world.passing))
        # It need not be the only one that proves.
        judge_all(score, world, "Merpati, a resolver that proves", "behind", lambda who: by_merpati(
            score, world, folder / "behind", binary, who, world.proving))


def judge_all(score, world, name, who, run):
    """What a relay did in all cases; `who`: the local part of sender and recipients."""
    told = {}
    score.case(f"DANE: {name} has tried all", lambda: told.update(run(who)))
    for case in CASES:
        if case.name in told:
            score.case(f"DANE: {name}: {case.about}", lambda case=case: judge(
                case.want, told[case.name], world.hosts[case.name], f"{who}@{case.domain}",
                at=int(case.second is not None)))
