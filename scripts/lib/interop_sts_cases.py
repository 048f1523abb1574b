"""The cases of MTA-STS: what a domain demands, what its hosts do, what must become of the mail.

`{d}` in patterns is the domain of the case. `LATER` are those to which something happens between a
first mail and a second one.
"""

import dataclasses

from interop_secured import CLEAR, DEFERRED, ENCRYPTED, VERIFIED
from policy_host import PATH, answer, policy

ID = "v=STSv1; id=20261201;"


def says(mode, *patterns, kind="text/plain", body=b"", **options):
    """What the host of a domain answers: a policy, `{d}` in its patterns being the domain; behind
    it the octets of `body`."""
    return lambda d: answer(policy(mode, *[one.format(d=d) for one in patterns], **options) + body,
                            kind=kind)


def always(octets):
    return lambda _: octets


MX = "mx.{d}"
ENFORCE = says("enforce", MX)


@dataclasses.dataclass(frozen=True)
class Case:
    """`said`: by the host with the policy, a function of the domain; None: it is not there.
    `shows`, `https`: what the certificates of the two hosts are; `host`: what stands before the domain in
    the name of the first; `second`: what a second host of mail shows."""

    name: str
    about: str
    want: str
    said: object = ENFORCE
    shows: str = "right"
    https: str = "right"
    tls: bool = True
    texts: tuple = (ID,)
    host: str = "mx"
    second: str | None = None

    @property
    def domain(self):
        return f"{self.name}.sts.example"

    @property
    def first(self):
        """The name of its first host."""
        return f"{self.host}.{self.domain}" if self.host else self.domain


def enforced(name, about, want, *patterns, **options):
    return Case(name, about, want, says("enforce", *patterns), **options)


def no_policy(name, about, said=ENFORCE, **options):
    """As if there were none: a host goes that the policy would not allow."""
    return Case(name, f"no policy: {about}", ENCRYPTED, said, "other-name", **options)


DEMANDS = (
    enforced("enforce", "enforce", VERIFIED, MX),
    Case("lf", "a policy with LF alone", DEFERRED,
         says("enforce", MX, end="\n"), "other-name"),
    enforced("name", "enforce, a certificate for another name", DEFERRED, MX, shows="other-name"),
    enforced("expired", "enforce, an expired certificate", DEFERRED, MX, shows="expired"),
    enforced("issuer", "enforce, an unknown issuer", DEFERRED, MX, shows="unknown-issuer"),
    enforced("stripped", "enforce, no STARTTLS", DEFERRED, MX, tls=False),
    enforced("pattern", "enforce, a host that is not listed", DEFERRED, "mx.other.example"),
    enforced("wildcard", "enforce, *.DOMAIN", VERIFIED, "*.{d}"),
    enforced("deeper", "enforce, *.DOMAIN, a host two labels below", DEFERRED, "*.{d}",
             host="a.mx"),
    enforced("apex", "enforce, *.DOMAIN, the domain itself is the host", DEFERRED, "*.{d}",
             host=""),
    enforced("upper", "enforce, a pattern in upper case", VERIFIED, "MX.{d}"),
    enforced("second", "enforce, a first host that is not listed, and a second", VERIFIED,
             "mx2.{d}", second="right"),
    enforced("second-name", "enforce, a first host that is wrong, and a second", VERIFIED, "*.{d}",
             shows="other-name", second="right"),
    Case("testing", "testing, a certificate for another name", ENCRYPTED,
         says("testing", MX), "other-name"),
    Case("testing-clear", "testing, no STARTTLS", CLEAR, says("testing", MX), tls=False),
    Case("testing-pattern", "testing, a host that is not listed", ENCRYPTED,
         says("testing", "mx.other.example")),
    Case("none", "none", ENCRYPTED, says("none"), "other-name"),
)
NO_POLICY = (
    no_policy("down", "nobody listens", None),
    no_policy("https-name", "its certificate is for another name", https="other-name"),
    no_policy("https-expired", "its certificate is expired", https="expired"),
    no_policy("https-issuer", "its issuer is unknown", https="unknown-issuer"),
    # Where it leads there is a policy that would allow nothing here.
    no_policy("redirect", "301 to one", always(answer(
        status="301 Moved", more=f"Location: https://mta-sts.enforce.sts.example{PATH}\r\n"))),
    no_policy("error", "500", always(answer(policy("enforce", "x.example"), "500 Oops"))),
    no_policy("later", "429", always(answer(policy("enforce", "x.example"), "429 Too Many"))),
    no_policy("html", "text/html", says("enforce", MX, kind="text/html")),
    no_policy("untyped", "no Content-Type", says("enforce", MX, kind="")),
    no_policy("large", "more than 64 KiB", says("enforce", MX, body=b"x: y\r\n" * 12_000)),
    no_policy("two", "two records", texts=(ID, "v=STSv1; id=2;")),
    no_policy("bad-id", "an id with a dash", texts=("v=STSv1; id=a-b;",)),
    no_policy("no-record", "no record", texts=()),
    no_policy("version", "another version", says("enforce", MX, version="STSv2")),
    no_policy("no-version", "no version", says("enforce", MX, version=None)),
    no_policy("no-age", "no max_age", says("enforce", MX, age=None)),
    no_policy("mode", "another mode", says("demand", MX)),
    no_policy("no-mx", "no mx", says("enforce")),
)
# What comes to these domains later, and what must become of a second mail, after a restart.
LATER = (
    (Case("kept", "a kept policy, its host is down", VERIFIED), DEFERRED),
    (Case("vanished", "a kept policy, the record is gone", VERIFIED), DEFERRED),
    (Case("other-id", "another id, its host is down", VERIFIED), DEFERRED),
    (Case("renewed", "another id, the policy is none now", VERIFIED), ENCRYPTED),
    (Case("stricter", "another id, testing became enforce", ENCRYPTED,
          says("testing", MX)), DEFERRED),
)
# Domains without a record that says that there is a policy.
SILENT = ("two", "bad-id", "no-record")
CASES = (*DEMANDS, *NO_POLICY, *(case for case, _ in LATER))
