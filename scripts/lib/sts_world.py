"""Domains with MTA-STS: hosts of mail, hosts with policies, and a DNS that tells of them."""

import contextlib

from certificates import Authority
from conformance_peers import Dns, Peer
from interop_sts_cases import LATER
from policy_host import PolicyHost, answer, policy

CHANGED = {case.name for case, _ in LATER}


class StsWorld:
    """All domains of the cases. `hosts` and `policies`: of each case by its name; `ca`: who signed
    their certificates; `dns`: a `Dns`."""

    def __init__(self, folder, cases, dns, address, nobody, port=25, host=Peer):
        """`dns`: its address; `address`: of a host by what it is for, mx, mx2 or mta-sts, and its
        number, from 1; `nobody`: an address at which none listens; `port`, `host`: where hosts
        listen, and what they are."""
        folder.mkdir(mode=0o755)
        self.stack = contextlib.ExitStack()
        self.cases, self.address, self.nobody = cases, address, nobody
        self.port, self.host = port, host
        self.ca, self.unknown = Authority(folder / "ca"), Authority(folder / "unknown")
        self.hosts, self.policies, self.addresses = {}, {}, {}
        try:
            self.dns = self._kept(Dns(address=dns))
            for number, case in enumerate(cases, 1):
                self._domain(number, case)
        except BaseException:
            self.stack.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def _kept(self, server):
        self.stack.callback(server.close)
        return server

    def _domain(self, number, case):
        d = case.domain
        addresses = [self.address(what, number) for what in ("mx", "mx2", "mta-sts")]
        self.hosts[case.name] = [self._host(case, case.shows, addresses[0], case.first, case.tls)]
        records = [f"{d} MX 10 {case.first}", f"{case.first} A {addresses[0]}"]
        if case.second:
            self.hosts[case.name].append(self._host(case, case.second, addresses[1], f"mx2.{d}",
                                                     True))
            records += [f"{d} MX 20 mx2.{d}", f"mx2.{d} A {addresses[1]}"]
        records += [f"_mta-sts.{d} TXT {text}" for text in case.texts]
        records.append(f"mta-sts.{d} A {addresses[2] if case.said else self.nobody}")
        for record in records:
            self.dns.add(record)
        if case.said:
            said = {f"mta-sts.{d}": case.said(d)}
            context = self.context(case, case.https, f"mta-sts.{d}")
            self.policies[case.name] = self._kept(PolicyHost(addresses[2], context, said))

    def context(self, case, shows, host):
        """Of a server with this name, with such a certificate."""
        ca = self.unknown if shows == "unknown-issuer" else self.ca
        name = "other.example" if shows == "other-name" else host
        stem = f"{case.name}-{host}-{shows}"
        return ca.leaf(stem, name, days=-1 if shows == "expired" else 2).context()

    def _host(self, case, shows, address, host, tls):
        return self._kept(self.host(address=address, port=self.port, tls=tls,
                                    context=self.context(case, shows, host)))

    def change(self):
        """What is otherwise before the second mail: an attacker is there, and more."""
        for case in self.cases:
            if case.name not in CHANGED:
                continue
            d = case.domain
            for host in self.hosts[case.name]:
                host.context = self.context(case, "other-name", case.first)
            if case.name in ("kept", "other-id"):
                self.policies[case.name].close()
            if case.name in ("other-id", "renewed", "stricter", "vanished"):
                self.dns.clear(f"_mta-sts.{d}")
            if case.name in ("other-id", "renewed", "stricter"):
                self.dns.add(f"_mta-sts.{d} TXT v=STSv1; id=20261202;")
            if case.name == "renewed":
                self.say(case, "none")
            if case.name == "stricter":
                self.say(case, "enforce", f"mx.{d}")

    def say(self, case, *words):
        self.policies[case.name].answers[f"mta-sts.{case.domain}"] = answer(policy(*words))
