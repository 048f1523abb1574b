"""The cases of DANE: what stands in the DNS, what the host does, and what must become of the mail.

In TLSA data, and in records, `{d}` is the domain of the case, `{a}` and `{b}` are the addresses of
its hosts, `{port}` is where they listen. The digests are of what the first host ought to show:
`{spki}` `{spki512}` `{cert}` `{cert512}` of the leaf, `{ta}` `{tacert}` of the root, with `whole_`
in front the thing itself; `{spki2}` is of the second host, `{other}` and `{other512}` are of
something else.
"""

import dataclasses
import ssl

from conformance_peers import CLOSE
from interop_secured import CLEAR, DEFERRED, ENCRYPTED, VERIFIED
from signed_dns import (DEAD, ED448, ED25519, FORGED, NSEC3, P384, RSA, SIGNED,
                        UNSIGNED)

ZONES = {"signed.example": SIGNED, "nsec3.example": NSEC3, "plain.example": UNSIGNED,
         "forged.example": FORGED, "plain.nsec3.example": UNSIGNED, "rsa.example": RSA,
         "p384.example": P384, "ed25519.example": ED25519, "ed448.example": ED448}
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
MX = "{d} MX 10 mx.{d}"
A = "mx.{d} A {a}"
GOOD, BAD = "3 1 1 {spki}", "3 1 1 {other}"
# No digest of a SHA-256 has 31 octets, and none has 0.
SHORT, EMPTY = "TYPE52 \\# 34 030101" + "ab" * 31, "TYPE52 \\# 3 030101"


@dataclasses.dataclass(frozen=True)
class Case:
    """`shows`: a certificate that is right, expired, for other-name or the next-hop, stolen (with
    the key of an attacker) or leaf-alone (without the root beside it); `version`: of TLS, that and
    no other; `tls`: STARTTLS is offered; `records`: in place of the usual ones, MX and A; `zones`:
    cuts below the domain; `second`: what a second host shows; `by_postfix`: it is tried with
    Postfix as well."""

    name: str
    about: str
    want: str
    tlsa: tuple = ()
    zone: str = "signed.example"
    shows: str = "right"
    version: object = None
    tls: bool = True
    script: dict = dataclasses.field(default_factory=dict)
    records: tuple = (MX, A)
    zones: dict = dataclasses.field(default_factory=dict)
    second: str | None = None
    by_postfix: bool = True

    @property
    def domain(self):
        return f"{self.name}.{self.zone}"

    def lines(self):
        """Its records, with words in braces."""
        return [*self.records, *("_{port}._tcp.mx.{d} TLSA " + data for data in self.tlsa)]


def case(name, about, want, *tlsa, **options):
    return Case(name, about, want, tlsa, **options)


TWO = (MX, "{d} MX 20 mx2.{d}", A, "mx2.{d} A {b}", "_{port}._tcp.mx2.{d} TLSA 3 1 1 {spki2}")
MATCHES = (
    case("spki", "3 1 1", VERIFIED, GOOD),
    case("spki-12", "3 1 1, TLS 1.2", VERIFIED, GOOD, version=V12),
    case("cert", "3 0 1", VERIFIED, "3 0 1 {cert}"),
    case("spki-512", "3 1 2", VERIFIED, "3 1 2 {spki512}"),
    case("cert-512", "3 0 2", VERIFIED, "3 0 2 {cert512}"),
    case("spki-whole", "3 1 0", VERIFIED, "3 1 0 {whole_spki}"),
    case("cert-whole", "3 0 0", VERIFIED, "3 0 0 {whole_cert}"),
    case("ta-spki", "2 1 1, the root in the chain", VERIFIED, "2 1 1 {ta}"),
    case("ta-cert", "2 0 1, the root in the chain", VERIFIED, "2 0 1 {tacert}"),
    case("ta-next-hop", "2 1 1, for the domain of the recipient", VERIFIED, "2 1 1 {ta}",
         shows="next-hop"),
    case("expired", "3 1 1, expired", VERIFIED, GOOD, shows="expired"),
    case("other-name", "3 1 1, for another name", VERIFIED, GOOD, shows="other-name"),
    case("mixed", "beside others that cannot be used", VERIFIED, "1 1 1 {other}", "3 9 1 {other}",
         "3 1 9 {other}", GOOD),
    case("rollover", "the next key is announced", VERIFIED, BAD, GOOD),
    case("usages", "the leaf is another, the root is right", VERIFIED, BAD, "2 1 1 {ta}"),
    case("many", "more than a datagram holds", VERIFIED,
         *[f"3 1 1 {at:064x}" for at in range(40)], GOOD),
    case("nsec3", "a zone with NSEC3", VERIFIED, GOOD, zone="nsec3.example"),
    case("rsa", "a zone with RSA", VERIFIED, GOOD, zone="rsa.example"),
    case("p384", "a zone with P-384", VERIFIED, GOOD, zone="p384.example"),
    case("ed25519", "a zone with Ed25519", VERIFIED, GOOD, zone="ed25519.example"),
    case("tlsa-wildcard", "TLSA of each port, *._tcp", VERIFIED, records=(
        MX, A, "*._tcp.mx.{d} TLSA " + GOOD)),
    case("any.wild", "MX of a wildcard", VERIFIED, records=(
        "*.wild.signed.example MX 10 wild-mx.signed.example", "wild-mx.signed.example A {a}",
        "_{port}._tcp.wild-mx.signed.example TLSA " + GOOD)),
    case("any.wild3", "MX of a wildcard, NSEC3", VERIFIED, zone="nsec3.example", records=(
        "*.wild3.nsec3.example MX 10 wild-mx.nsec3.example", "wild-mx.nsec3.example A {a}",
        "_{port}._tcp.wild-mx.nsec3.example TLSA " + GOOD)),
    case("tlsa-alias", "the TLSA record is an alias", VERIFIED, records=(
        MX, A, "_{port}._tcp.mx.{d} CNAME keys.{d}", "keys.{d} TLSA " + GOOD)),
    case("no-mx", "no MX, the domain is the host", VERIFIED, records=(
        "{d} A {a}", "_{port}._tcp.{d} TLSA " + GOOD)),
    case("domain-alias", "the domain is an alias", VERIFIED, GOOD, records=(
        "{d} CNAME real.{d}", "real.{d} MX 10 mx.{d}", A)),
    case("host-alias", "the host is an alias, TLSA at its real name", VERIFIED, records=(
        MX, "mx.{d} CNAME real.{d}", "real.{d} A {a}", "_{port}._tcp.real.{d} TLSA " + GOOD)),
    case("host-alias-own", "the host is an alias, TLSA at the alias", VERIFIED, records=(
        MX, "mx.{d} CNAME real.{d}", "real.{d} A {a}", "_{port}._tcp.mx.{d} TLSA " + GOOD)),
    case("host-alias-both", "the host is an alias, TLSA at both: the real name counts", VERIFIED,
         records=(MX, "mx.{d} CNAME real.{d}", "real.{d} A {a}", "_{port}._tcp.mx.{d} TLSA " + BAD,
                  "_{port}._tcp.real.{d} TLSA " + GOOD)),
)
FAILURES = (
    case("mismatch-12", "another key, TLS 1.2", DEFERRED, BAD, version=V12),
    case("mismatch-13", "another key, TLS 1.3", DEFERRED, BAD, version=V13),
    case("mismatch-cert", "another certificate", DEFERRED, "3 0 1 {other}"),
    case("stolen-12", "the right certificate, another key, TLS 1.2", DEFERRED, GOOD,
         shows="stolen", version=V12),
    case("stolen-13", "the right certificate, another key, TLS 1.3", DEFERRED, GOOD,
         shows="stolen", version=V13),
    case("stolen-cert", "the same with 3 0 1", DEFERRED, "3 0 1 {cert}", shows="stolen"),
    case("stolen-ta", "the same with 2 1 1", DEFERRED, "2 1 1 {ta}", shows="stolen"),
    case("ta-name", "2 1 1, for another name", DEFERRED, "2 1 1 {ta}", shows="other-name"),
    case("ta-expired", "2 1 1, expired", DEFERRED, "2 1 1 {ta}", shows="expired"),
    case("ta-absent", "2 1 1, the root is not in the chain", DEFERRED, "2 1 1 {ta}",
         shows="leaf-alone"),
    case("ta-other", "2 1 1, another root", DEFERRED, "2 1 1 {other}"),
    case("stripped", "no STARTTLS", DEFERRED, GOOD, tls=False),
    case("stripped-unusable", "no STARTTLS, TLSA that cannot be used", DEFERRED, "1 1 1 {other}",
         tls=False),
    case("refused", "STARTTLS is refused", DEFERRED, GOOD, script={"STARTTLS": "454 4.7.0 no"}),
    case("cut", "the end in place of a handshake", DEFERRED, GOOD, script={"handshake": CLOSE}),
    case("agility", "SHA-512 of another key counts more than SHA-256 (RFC 7671 §9)", DEFERRED,
         "3 1 2 {other512}", GOOD),
    case("tlsa-forged", "TLSA that cannot be believed", DEFERRED, records=(
        MX, A, "_{port}._tcp.mx.{d} TLSA " + GOOD), zones={"_tcp.mx.{d}": FORGED}),
    case("tlsa-dead", "TLSA cannot be had", DEFERRED, zones={"_tcp.mx.{d}": DEAD}),
    case("wildcard-mismatch", "TLSA of each port, another key", DEFERRED, records=(
        MX, A, "*._tcp.mx.{d} TLSA " + BAD)),
    case("mx-forged", "MX that cannot be believed", DEFERRED, zone="forged.example"),
    case("a-forged", "an address that cannot be believed", DEFERRED, records=(
        "{d} MX 10 a-host.forged.example", "a-host.forged.example A {a}")),
)
WEAKER = (
    case("usage-0", "0 1 1 alone", ENCRYPTED, "0 1 1 {spki}"),
    case("usage-1", "1 1 1 alone", ENCRYPTED, "1 1 1 {other}"),
    case("usage-9", "usage 9", ENCRYPTED, "9 1 1 {other}"),
    case("selector-9", "selector 9", ENCRYPTED, "3 9 1 {other}"),
    case("type-9", "matching type 9", ENCRYPTED, "3 1 9 {other}"),
    # The smtp process of Postfix 3.7 dies of it: "panic: mymalloc: requested length 0".
    case("empty", "no digest", ENCRYPTED, records=(MX, A, "_{port}._tcp.mx.{d} " + EMPTY),
         by_postfix=False),
    case("short", "a digest that is too short", ENCRYPTED, records=(
        MX, A, "_{port}._tcp.mx.{d} " + SHORT)),
    case("no-tlsa", "signed, without TLSA", ENCRYPTED),
    case("no-tlsa-nsec3", "the same with NSEC3", ENCRYPTED, zone="nsec3.example"),
    case("no-tlsa-clear", "signed, without TLSA and STARTTLS", CLEAR, tls=False),
    case("plain", "not signed, TLSA of another key", ENCRYPTED, BAD, zone="plain.example"),
    case("plain-below", "not signed, below a zone with NSEC3, TLSA of another key", ENCRYPTED,
         BAD, zone="plain.nsec3.example"),
    # Unbound knows this algorithm, and so Postfix; for who does not, the zone is as if not signed
    # (RFC 4035 §5.2).
    case("unknown-algorithm", "signed with Ed448 alone, TLSA of another key", ENCRYPTED, BAD,
         zone="ed448.example", by_postfix=False),
    case("plain-clear", "not signed, no STARTTLS", CLEAR, zone="plain.example", tls=False),
    case("plain-mx", "MX not signed, the host is, TLSA of another key", ENCRYPTED,
         zone="plain.example", records=(
             "{d} MX 10 plain-mx.signed.example", "plain-mx.signed.example A {a}",
             "_{port}._tcp.plain-mx.signed.example TLSA " + BAD)),
    case("plain-host", "MX signed, the host is not, TLSA of another key", ENCRYPTED, records=(
        "{d} MX 10 host.plain.example", "host.plain.example A {a}",
        "_{port}._tcp.host.plain.example TLSA " + BAD)),
    case("plain-alias", "the host is an alias of one that is not signed, TLSA at the alias",
         VERIFIED, records=(MX, "mx.{d} CNAME real.plain.example", "real.plain.example A {a}",
                            "_{port}._tcp.mx.{d} TLSA " + GOOD)),
)
SECOND = (
    case("second-mismatch", "another key, and a second host", VERIFIED, BAD, records=TWO,
         second="right"),
    case("second-stripped", "no STARTTLS, and a second host", VERIFIED, GOOD, records=TWO,
         second="right", tls=False),
    case("second-forged", "TLSA that cannot be believed, and a second host", VERIFIED,
         records=(*TWO, "_{port}._tcp.mx.{d} TLSA " + GOOD), zones={"_tcp.mx.{d}": FORGED},
         second="right"),
    case("second-dead", "TLSA cannot be had, and a second host", VERIFIED, records=TWO,
         zones={"_tcp.mx.{d}": DEAD}, second="right"),
)
CASES = (*MATCHES, *FAILURES, *WEAKER, *SECOND)
