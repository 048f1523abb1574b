"""Group M: DANE (RFC 7672), MTA-STS (RFC 8461), and what asks for TLS (RFC 8689)."""

import signal

from conformance_kit import case, missing
from conformance_m_world import BY_MX, TLS, Dane, Sts
from interop_dane_cases import BAD, GOOD, Case
from interop_secured import CLEAR, CONTENT, DEFERRED, ENCRYPTED, FAILED, VERIFIED
from interop_sts_cases import LATER, NO_POLICY, SILENT
from policy_host import PolicyHost, answer, policy

DANE, STS, REQUIRETLS = "RFC 7672", "RFC 8461", "RFC 8689"
# The DNS could not be had, or cannot be believed (RFC 3463 §3.5).
DNS_FAILED = r"4\d\d 4\.(4\.3|4\.4|7\.\d+) "
UNPROVEN = r"4\d\d 4\.7\.5 "


@case("M1", "the key in TLSA proves the host, whatever its certificate says of names and time",
      f"{DANE} §3.1.1")
def keys(t):
    Dane(t, "spki", "spki-12", "cert", "spki-512", "expired", "other-name", "mismatch-12",
         "mismatch-13", "mismatch-cert").play(UNPROVEN)


@case("M1", "the certificate of the host with the key of somebody else proves nothing",
      f"{DANE} §3.1.1, RFC 8446 §4.4.3")
def stolen(t):
    Dane(t, "stolen-12", "stolen-13", "stolen-cert", "stolen-ta").play(UNPROVEN)


@case("M2", "a root in TLSA proves whom it has signed, by name and in time", f"{DANE} §3.1.2, §3.2.3")
def roots(t):
    Dane(t, "ta-spki", "ta-cert", "ta-next-hop", "ta-name", "ta-expired", "ta-absent",
         "ta-other").play(UNPROVEN)


@case("M3", "records that cannot be used ask for TLS, with whomever", f"{DANE} §2.2, §3.1.3")
def unusable(t):
    Dane(t, "usage-0", "usage-1", "usage-9", "selector-9", "type-9", "empty", "short",
         "stripped-unusable").play()


@case("M4", "one record that matches is enough, beside others and while keys change",
      f"{DANE} §8.1, RFC 7671 §8.1")
def several(t):
    Dane(t, "mixed", "rollover", "usages", "many", "agility").play(UNPROVEN)


@case("M5", "what the DNS cannot prove leads to the next host, else nowhere, never into the clear",
      f"{DANE} §2.1.1, §2.2.1")
def unproven(t):
    Dane(t, "tlsa-forged", "tlsa-dead", "mx-forged", "a-forged", "second-forged",
         "second-dead").play(DNS_FAILED)


@case("M6", "DANE is where MX and address are proven; which name TLSA has, with aliases",
      f"{DANE} §2.2.1, §2.2.2, §2.2.3")
def names(t):
    Dane(t, "plain", "plain-clear", "plain-mx", "plain-host", "no-tlsa", "no-tlsa-nsec3",
         "no-tlsa-clear", "nsec3", "no-mx", "domain-alias", "host-alias", "host-alias-own",
         "host-alias-both", "plain-alias", "tlsa-alias").play()


@case("M6", "records of wildcards are proven like others; so are zones with other keys",
      "RFC 4035 §5.3.4, RFC 8624 §3.1")
def zones(t):
    Dane(t, "tlsa-wildcard", "wildcard-mismatch", "any.wild", "any.wild3", "rsa", "p384", "ed25519",
         "plain-below", "unknown-algorithm").play()


@case("M7", "a host with TLSA and without TLS gets nothing; the next one may", f"{DANE} §2.2")
def stripped(t):
    Dane(t, "stripped", "refused", "cut", "second-stripped", "second-mismatch").play()


@case("M8", "a policy neither saves a host that DANE refuses nor refuses one that it proves",
      f"{STS} §2")
def both(t):
    listed = {"mismatch-13": "*.signed.example", "mismatch-12": "mx.mismatch-12.signed.example",
              "spki": "mx.other.example", "no-tlsa": "mx.other.example"}
    records = []
    for name in listed:
        d = f"{name}.signed.example"
        records += [f'_mta-sts.{d} TXT "v=STSv1; id=1;"', f"mta-sts.{d} A {t.address(250)}"]

    def policies(world):
        hosts = [f"mta-sts.{name}.signed.example" for name in listed]
        context = world.ca.leaf("mta-sts", *hosts).context()
        said = {host: answer(policy("enforce", pattern))
                for host, pattern in zip(hosts, listed.values())}
        t.stack.callback(PolicyHost(t.address(250), context, said).close)
    t.note("each domain enforces a policy: " + ", ".join(
        f"{name} allows {pattern}" for name, pattern in listed.items()))
    Dane(t, *listed, records=records, first=policies).play(wants={"no-tlsa": DEFERRED})


@case("M9", "enforce: a host that is not listed, or does not prove its name, gets nothing",
      f"{STS} §4.1, §4.2, §5")
def enforce(t):
    Sts(t, "enforce", "name", "expired", "issuer", "stripped", "pattern", "second",
        "second-name").play()


@case("M10", "testing and none: the mail goes as without a policy", f"{STS} §5")
def testing(t):
    Sts(t, "testing", "testing-clear", "testing-pattern", "none").play()


@case("M11", "what is no policy, or cannot be fetched as it must, demands nothing",
      f"{STS} §3.2, §3.3")
def no_policy(t):
    names = [one.name for one in NO_POLICY if one.name not in SILENT]
    sts = Sts(t, *names)
    sts.play()
    silent = {"down", "https-name", "https-expired", "https-issuer"}
    t.check(sts.asked() == set(names) - silent, f"who was asked: {sts.asked()}")


@case("M11", "a policy may have LF at the ends of its lines", f"{STS} §3.2")
def line_feeds(t):
    Sts(t, "lf").play()


@case("M11 M13", "another id leads to another policy; where it cannot be fetched the old one stays,"
      " over kill -9 as well", f"{STS} §3.1, §3.3, §5.1")
def kept(t):
    again(t, "kept", "other-id", "renewed", "stricter")


@case("M12", "the policy stays in force when its record vanishes", f"{STS} §10.2")
def vanished(t):
    again(t, "vanished")


def again(t, *names):
    """Two mails to each domain; between them something happens, and the relay dies."""
    sts = Sts(t, *names)
    sts.play()
    sts.world.change()
    t.note("the certificates of the hosts are for another name from here on; kill -9")
    sts.relay.again(signal.SIGKILL)
    wants = {one.name: want for one, want in LATER}
    sts.play(who="eka", wants=wants)


@case("M14", "a star stands for one label, and not for none; case does not matter", f"{STS} §4.1")
def patterns(t):
    Sts(t, "wildcard", "deeper", "apex", "upper").play()


@case("M15", "a host of policies at an address that is not for the public is not asked",
      f"{STS} §10.3")
def private(t):
    address = t.address(1)
    sts = Sts(t, "name", delivery=f'allow_networks = ["{address}/32"]\n')
    sts.play(wants={"name": ENCRYPTED})
    t.check(not sts.asked(), "it was not asked")


@case("M16", "two records, or a record that is not well-formed, are none", f"{STS} §3.1")
def records(t):
    sts = Sts(t, *SILENT)
    sts.play()
    t.check(not sts.asked(), "nobody was asked")


@case("M17", "where a route names the next hop, no policy of the domain counts", f"{STS} §2")
def smart_host(t):
    sts = Sts(t, "name", tables=BY_MX.replace('"mx"', f'"smtp://{t.address(1)}:PORT"'))
    sts.play(wants={"name": ENCRYPTED})
    t.check(not sts.asked(), "it was not asked")


missing("M18 M19", "TLS reports are not sent yet")


def offers(session, _):
    """EHLO of a host that offers REQUIRETLS."""
    last = "REQUIRETLS" if session.is_tls else "STARTTLS"
    return f"250-hop.example\r\n250 {last}".encode() + b"\r\n"


@case("M20", "what requires TLS goes by MX to a host that is proven and requires it as well",
      f"{REQUIRETLS} §4.2.1")
def require(t):
    script = {"EHLO": offers}
    codes = {"proven": "", "lacks": "550 5.7.30", "another-key": "550 5.7.10",
             "not-signed": "550 5.7.10", "no-tls": "550 5.7.10"}
    dane = Dane(
        t, Case("proven", "it is proven and offers REQUIRETLS", VERIFIED, (GOOD,), script=script),
        Case("lacks", "it is proven and does not offer REQUIRETLS", FAILED, (GOOD,)),
        Case("another-key", "it shows another key", FAILED, (BAD,), script=script),
        Case("not-signed", "its name is not proven", FAILED, zone="plain.example", script=script),
        Case("no-tls", "it has no STARTTLS", FAILED, (GOOD,), tls=False),
        tables=BY_MX + TLS)
    told = dane.play(options=["REQUIRETLS"], trust=t.trust)
    t.check(any("MAIL FROM:<ani@sender.example> REQUIRETLS" in line for line in t.lines),
            "it goes on with REQUIRETLS")
    for one in dane.cases:
        reply = told[one.domain]["outcomes"][0]["reply"]
        t.check(reply.startswith(codes[one.name]), f"{one.name}: {reply}")


@case("M21", "TLS-Required: No: what DANE or a policy would hold back goes", f"{REQUIRETLS} §5")
def waived(t):
    content = "TLS-Required: No\r\n" + CONTENT
    Dane(t, "mismatch-13", "ta-name", "stripped", "tlsa-forged").play(content=content, wants={
        "mismatch-13": ENCRYPTED, "ta-name": ENCRYPTED, "stripped": CLEAR,
        "tlsa-forged": ENCRYPTED})


@case("M21", "TLS-Required: No is over a policy too", f"{REQUIRETLS} §5")
def policy_waived(t):
    content = "TLS-Required: No\r\n" + CONTENT
    Sts(t, "name", "stripped", "pattern").play(content=content, wants={
        "name": ENCRYPTED, "stripped": CLEAR, "pattern": ENCRYPTED})


@case("M21", "TLS-Required: No means nothing where REQUIRETLS stands beside it",
      f"{REQUIRETLS} §4.1")
def required_all_the_same(t):
    dane = Dane(t, Case("another-key", "it shows another key", FAILED, (BAD,),
                        script={"EHLO": offers}), tables=BY_MX + TLS)
    dane.play(content="TLS-Required: No\r\n" + CONTENT, options=["REQUIRETLS"], trust=t.trust)


@case("M22", "REQUIRETLS in the clear is refused, and not offered", f"{REQUIRETLS} §4.1")
def require_in_the_clear(t):
    relay = t.relay()
    with t.connect(relay.mx, source="127.0.0.9") as c:
        offered = c.hello()
        t.check("REQUIRETLS" not in offered, "it is not offered in the clear")
        c.say("MAIL FROM:<ani@a.example> REQUIRETLS", "530 5.7.10|555 5.5.4")
        c.say("RCPT TO:<u@ours.example>", "503 5.5.1")
