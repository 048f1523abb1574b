"""I15 and P5: LMTP, where each recipient has a reply of its own behind the end of data."""

from conformance_kit import case
from conformance_outbound import Outbound, Way
from conformance_peers import CLOSE


@case("I15", "LMTP: each recipient as its own reply says", "RFC 2033 §4.2")
def each(t):
    ok = "250 2.0.0 taken"
    out = Outbound(t, [
        Way("250, 452, 550", ["delivered", "remote-trouble, delivered", "failed 5.1.1"],
            {"end": [ok, "452 4.3.1 full", "550 5.1.1 nobody"]}, once=True, scheme="lmtp"),
        Way("all taken", ["delivered"] * 5, scheme="lmtp"),
        Way("all refused", ["failed 5.7.1"] * 3, {"end": "550 5.7.1 no"}, scheme="lmtp"),
    ])
    out.play()
    again = out.ways[0].hops[0].ended[1]
    t.check([one.split(">")[0] for one in again.recipients] == ["<r1@w0.example"],
            "the second one alone is tried again")


@case("P5", "LMTP: LHLO, and what was said before the end of the connection counts",
      "RFC 2033 §4.1, §4.2")
def cut_short(t):
    ok = "250 2.0.0 taken"
    out = Outbound(t, [
        Way("421 after two of five", ["delivered"] * 2 + ["busy, delivered"] * 3,
            {"end": [ok, ok, "421 4.3.2 going down"]}, once=True, scheme="lmtp"),
        Way("the end after two of five",
            ["delivered"] * 2 + ["ambiguous-end-of-data, delivered"] * 3, {"end": [ok, ok, CLOSE]},
            once=True, scheme="lmtp"),
        Way("LHLO is not known", "protocol", {"LHLO": "502 5.5.1 what?"}, scheme="lmtp"),
        Way("refused at RCPT", ["delivered", "failed 5.1.1", "delivered"],
            {"RCPT": ["250 2.1.5 ok", "550 5.1.1 nobody", "250 2.1.5 ok"]}, scheme="lmtp"),
    ])
    out.play()
    for way in out.ways:
        said = [line for session in way.hops[0].sessions for line in session.lines]
        t.check(not any(line.startswith((b"EHLO", b"HELO")) for line in said), "never EHLO")
