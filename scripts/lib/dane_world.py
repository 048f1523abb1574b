"""Domains with DANE: hosts with right and wrong certificates, and a signed DNS that tells of them."""

import contextlib
import hashlib

from certificates import Authority, stolen
from conformance_peers import Peer
from interop_dane_cases import ZONES
from signed_dns import Resolver, SignedDns


def sha(octets, kind="sha256"):
    return hashlib.new(kind, octets).hexdigest()


class DaneWorld:
    """All domains of the cases. `hosts`: of each case by its name; `ca`: who signed their
    certificates; `proving`, `passing`: resolvers."""

    def __init__(self, folder, cases, servers, address, port=25, host=Peer, more=()):
        """`servers`: addresses of `dns`, `refuser` and of the resolvers that are wanted; `address`:
        of a host by its number, from 1; `port`, `host`: where hosts listen, and what they are;
        `more`: records."""
        folder.mkdir(mode=0o755)
        self.stack = contextlib.ExitStack()
        self.folder, self.cases, self.hosts = folder, cases, {}
        self.address, self.port, self.host = address, port, host
        self.ca = Authority(folder / "certificates")
        try:
            self.dns = self.stack.enter_context(self._dns(servers, more))
            for name in servers.keys() & {"passing", "proving"}:
                resolver = Resolver(folder / name, servers[name], self.dns, name == "proving")
                setattr(self, name, self.stack.enter_context(resolver))
        except BaseException:
            self.stack.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def _dns(self, servers, more):
        zones, records = dict(ZONES), list(more)
        for number, case in enumerate(self.cases):
            first, second = self.address(1 + 2 * number), self.address(2 + 2 * number)
            leaf = self._host(case, case.shows, first, f"mx.{case.domain}")
            words = self._words(case, leaf) | {"a": first, "b": second}
            if case.second:
                other = self._host(case, case.second, second, f"mx2.{case.domain}")
                words["spki2"] = sha(other.spki)
            records += [line.format(**words) for line in case.lines()]
            zones |= {name.format(**words): kind for name, kind in case.zones.items()}
        return SignedDns(self.folder / "dns", servers["dns"], zones, records, servers["refuser"])

    def _host(self, case, shows, address, name):
        """Starts one; what it ought to show."""
        stem = name.replace(".", "-")
        names = {"other-name": "other.example", "next-hop": case.domain}
        leaf = self.ca.leaf(stem, names.get(shows, name), days=-1 if shows == "expired" else 2,
                            with_root=shows != "leaf-alone")
        shown = stolen(self.ca.folder, leaf) if shows == "stolen" else leaf
        is_first = name.startswith("mx.")
        context = shown.context(case.version if is_first else None)
        peer = self.host(case.script if is_first else None, address=address, port=self.port,
                         tls=case.tls or not is_first, context=context)
        self.stack.callback(peer.close)
        self.hosts.setdefault(case.name, []).append(peer)
        return leaf

    def _words(self, case, leaf):
        other = b"something else"
        return {
            "d": case.domain, "port": self.port,
            "other": sha(other), "other512": sha(other, "sha512"),
            "spki": sha(leaf.spki), "spki512": sha(leaf.spki, "sha512"),
            "whole_spki": leaf.spki.hex(), "cert": sha(leaf.certificate),
            "cert512": sha(leaf.certificate, "sha512"), "whole_cert": leaf.certificate.hex(),
            "ta": sha(self.ca.spki), "tacert": sha(self.ca.certificate),
        }
