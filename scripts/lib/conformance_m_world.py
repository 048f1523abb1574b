"""Group M: hosts that must prove who they are, their names proven or not, a relay among them.

    dane = Dane(t, "spki", "mismatch-13")    these cases of interop_dane_cases, with a signed DNS
    dane.play()                              a mail by each, and what became of it, as it must be
    sts = Sts(t, "enforce", "pattern")       these cases of interop_sts_cases

In the transcript, `R` is the relay and `H` a host of mail; what a certificate is, and which digests
stand in the DNS, differs from run to run and is said in words.
"""

import re

from conformance_kit import Failed
from conformance_outbound import CONFIGURATION, WAITS, Hop, wait
from dane_world import DaneWorld
from interop_dane_cases import CASES as DANE_CASES
from interop_secured import DEFERRED, as_it_says, hand_over, judge
from interop_sts_cases import CASES as STS_CASES
from sts_world import StsWorld

ONCE = '[retry]\nfirst_wait = "1 h"\nlongest_wait = "1 h"\n'
BY_MX = '[[route]]\nname = "world"\nto = "mx"\n'
# Where clients hand over what requires TLS, `relay.places["tls"]`.
TLS = """
[[listener]]
name = "tls"
kind = "relay"
listen = ["127.0.0.1:0"]
tls = "starttls"
tls_certificate = "$cert"
tls_key = "$key"
"""
# Of what is tried again because TLS did not come about as it must (RFC 7672 §2.2, RFC 8461 §5).
REFUSED = r"4\d\d 4\.7\.\d+ "


def chosen(cases, names):
    """The cases with these names; what is a case already stays."""
    by_name = {case.name: case for case in cases}
    return [by_name[name] if isinstance(name, str) else name for name in names]


class Secured:
    """A relay, and the domains of a world, to which it sends by MX."""

    def __init__(self, t, names, cases):
        self.t, self.port = t, t.port()
        self.cases = chosen(cases, names)
        self.folder = t.folder() / "world"

    def start(self, world, settings, tables=BY_MX, delivery=""):
        """`settings`: lines of [dns]; `tables`: with a route, PORT is where hosts listen;
        `delivery`: lines of that section."""
        self.world = self.t.stack.enter_context(world)
        tables = tables.replace("PORT", str(self.port))
        allowed = "" if "allow_networks" in delivery else 'allow_networks = ["127.0.0.0/8"]\n'
        toml = (CONFIGURATION + tables + ONCE + f"[delivery]\nport = {self.port}\n{allowed}{WAITS}"
                + delivery + f"[dns]\n{settings}")
        self.relay = self.t.own_relay(toml=toml, peer=self.t.peer(),
                                      SSL_CERT_FILE=self.world.ca.root)

    def send(self, who="ani", **options):
        """A mail by each case; the line about its first attempt, by the domains."""
        domains = [case.domain for case in self.cases]
        place = self.relay.places["tls" if "trust" in options else "mx"]
        said = hand_over(place, who, domains, **options)
        ids = {re.search(r"queued as (\S+)", text)[1]: domain for domain, text in said.items()}

        def ready():
            lines = [line for line in self.relay.log("Attempted") if line["id"] in ids]
            found = {ids[line["id"]]: line for line in lines if line["attempt"] == 1}
            return found if len(found) == len(domains) else None
        return wait(ready, "an attempt at each")

    def play(self, status=REFUSED, who="ani", wants=None, **options):
        """`status`: what the reply is like where a mail waits; `wants`: by name, in place of what
        the cases say; `options`: of hand_over."""
        told, wrong = self.send(who, **options), []
        for case in self.cases:
            want = (wants or {}).get(case.name, case.want)
            line = told[case.domain]
            try:
                judge(want, as_it_says(line), self.world.hosts[case.name],
                      f"{who}@{case.domain}", int(case.second is not None))
                self.holds(want, line, status)
            except (RuntimeError, Failed) as why:
                wrong.append(f"{case.name}: {why}")
        if wrong:
            raise Failed("; ".join(wrong))
        for case in self.cases:
            self.show(case, (wants or {}).get(case.name, case.want))
        return told

    def holds(self, want, line, status):
        reply = line["outcomes"][0]["reply"]
        if want == DEFERRED and not re.match(status, reply):
            raise Failed(f"the reply is {reply}")

    def show(self, case, want):
        t = self.t
        t.note(f"{case.about}: {want}")
        self.told(case)
        for number, host in enumerate(self.world.hosts[case.name], 1):
            for session in host.sessions:
                if number > 1:
                    t.note(f"host {number}")
                for who, octets in session.dialogue:
                    # All hosts greet alike, and offer the same but for the last line.
                    if not octets.startswith((b"QUIT", b"220 hop.example", b"221 ")):
                        t.show(who, octets.splitlines(keepends=True)[-1])
            host.sessions.clear()

    def told(self, case):
        """More about a case, in the transcript."""


class Dane(Secured):
    """`records`: more of them; `first`: a function of the world, before the relay starts."""

    def __init__(self, t, *names, records=(), first=None, **options):
        super().__init__(t, names, DANE_CASES)
        servers = {name: t.address(at) for name, at in
                   (("dns", 253), ("refuser", 252), ("passing", 251))}
        world = DaneWorld(self.folder, self.cases, servers, t.address, self.port, Hop, records)
        if first:
            first(world)
        anchor = f'trust_anchor = "{world.dns.anchor}"\n'
        place = "{}:{}".format(*world.passing.place)
        self.start(world, f'servers = ["{place}"]\n{anchor}', **options)
        t.wait(lambda: self.relay.metrics().get("merpati_dane") == 1, "what the DNS says is proven")

    def told(self, case):
        for line in case.lines():
            if " TLSA " in line or " CNAME " in line or " TYPE52 " in line:
                self.t.log("-", line.replace("_{port}", "_PORT").format_map(Words(d=case.domain)))


class Words(dict):
    """Words in braces, each as its name where it has no meaning."""

    def __missing__(self, key):
        return f"<{key}>"


class Sts(Secured):
    def __init__(self, t, *names, **options):
        super().__init__(t, names, STS_CASES)
        start = {"mx": 0, "mx2": 80, "mta-sts": 160}
        world = StsWorld(self.folder, self.cases, t.address(254),
                         lambda what, number: t.address(start[what] + number), t.address(253),
                         self.port, Hop)
        self.start(world, f'servers = ["{world.dns.place}"]\n', **options)

    def asked(self):
        """The names of the cases whose host of policies was asked for one."""
        return {name for name, host in self.world.policies.items() if host.asked}
