"""Group H, the client's half: recipients of one host share a transaction."""

from conformance_kit import TRUSTED, case
from conformance_outbound import EXTENSIONS


@case("H11", "recipients of one host share a transaction; who is named twice gets one copy",
      "RFC 5321 §4.1.1.3, §5.1")
def repeated(t):
    hop = t.peer(extensions=EXTENSIONS)
    relay = t.own_relay(NEXT_HOP=hop.place)
    c = t.connect(relay.mx, source=TRUSTED)
    c.hello()
    c.envelope("a@b.example", "one@elsewhere.example", "two@elsewhere.example",
               "one@elsewhere.example", '"one"@ELSEWHERE.example', "two@elsewhere.example")
    c.content(b"Subject: x\r\n\r\nx\r\n")
    mails = hop.wait(lambda: hop.mails)
    t.check(len(mails) == 1, "one transaction")
    t.check(mails[0].recipients == ["<one@elsewhere.example>", "<two@elsewhere.example>"],
            str(mails[0].recipients))
    t.check(len(hop.sessions) == 1, "one connection")
