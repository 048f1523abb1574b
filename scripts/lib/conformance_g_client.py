"""Group G, the client's half: internationalised mail to hosts with and without SMTPUTF8."""

import re

from conformance_kit import TRUSTED, case
from conformance_outbound import EXTENSIONS, Outbound, Way

WIDE = {"extensions": (*EXTENSIONS, "SMTPUTF8")}
UTF8 = "Subject: Grüße\r\nFrom: jörg@sender.example\r\n\r\nhallo\r\n".encode()
ASCII = b"Subject: x\r\n\r\nhello\r\n"


@case("G6", "SMTPUTF8 is accepted, told in Received, and passed on", "RFC 6531 §3.4, §4.3")
def passed_on(t):
    relay = t.relay()
    c = t.connect(relay.mx, source=TRUSTED)
    c.hello()
    c.say("MAIL FROM:<jörg@b.example> SMTPUTF8 BODY=8BITMIME", "250")
    c.say("RCPT TO:<g6-ö@elsewhere.example>", "250")
    c.say("DATA", "354")
    c.send(UTF8 + b".\r\n")
    c.reply("250")
    mail = relay.peer.wait(lambda: [one for one in relay.peer.mails
                                    if any("g6-" in to for to in one.recipients)])[0]
    t.check(re.search(rb"with UTF8SMTP\b", mail.content), "with UTF8SMTP")
    t.check(mail.content.endswith(UTF8), "octet for octet")
    t.check("SMTPUTF8" in mail.sender, mail.sender)
    c = t.submit(relay)
    c.say("MAIL FROM:<ani@ours.example> SMTPUTF8", "250")
    c.say("RCPT TO:<g6-submitted@ours.example>", "250")
    c.say("DATA", "354")
    c.send(b"From: ani@ours.example\r\n" + ASCII + b".\r\n")
    c.reply("250")
    mail = relay.arrived("g6-submitted@ours.example")
    t.check(b"with UTF8SMTPSA" in mail.content, "over TLS by a credential: UTF8SMTPSA")


@case("G7", "a host without SMTPUTF8: 5.6.7 where the message needs it, else the flag is dropped",
      "RFC 6531 §3.2, §3.6, RFC 6533")
def lacking(t):
    out = Outbound(t, [
        Way("flag alone, all ASCII", "delivered", parameters="SMTPUTF8", content=ASCII),
        Way("a header of UTF-8", "failed 5.6.7", parameters="SMTPUTF8 BODY=8BITMIME",
            content=UTF8),
        Way("a header of UTF-8, 7 bits", "failed 5.6.7", parameters="SMTPUTF8 BODY=8BITMIME",
            content=UTF8, options={"extensions": ("PIPELINING",)}),
        Way("a body of UTF-8 alone", "delivered", parameters="SMTPUTF8 BODY=8BITMIME",
            content=ASCII + "Grüße\r\n".encode()),
        Way("offered", "delivered", parameters="SMTPUTF8 BODY=8BITMIME", content=UTF8,
            options=WIDE),
        Way("a second host offers it", "delivered", parameters="SMTPUTF8 BODY=8BITMIME",
            content=UTF8, hosts=2),
    ])
    # The second host of the last one does.
    out.ways[5].hops[1].extensions = WIDE["extensions"]
    out.play()
    said = [line for session in out.ways[0].hops[0].sessions for line in session.lines]
    t.check(not any(b"SMTPUTF8" in line for line in said), "the flag is dropped")
    report = out.report(1, "r0@w1.example").content
    t.check(b"5.6.7" in report, "the report says so")


@case("G7", "an address that needs SMTPUTF8 fails alone; a domain never needs it",
      "RFC 6531 §3.2, RFC 5891")
def addresses(t):
    hop = t.peer(extensions=EXTENSIONS)
    relay = t.own_relay(NEXT_HOP=hop.place)
    c = t.connect(relay.mx, source=TRUSTED)
    c.hello()
    c.say("MAIL FROM:<a@b.example> SMTPUTF8", "250")
    c.say("RCPT TO:<ascii@elsewhere.example>", "250")
    c.say("RCPT TO:<jörg@elsewhere.example>", "250")
    c.say("RCPT TO:<ascii@bücher.example>", "250")
    c.say("DATA", "354")
    c.send(ASCII + b".\r\n")
    c.reply("250")
    mails = hop.wait(lambda: hop.mails_to("ascii@elsewhere.example"))
    recipients = sorted(one for mail in mails for one in mail.recipients)
    t.check(recipients == ["<ascii@elsewhere.example>", "<ascii@xn--bcher-kva.example>"],
            str(recipients))
    report = hop.wait(lambda: hop.mails_to("a@b.example"))
    t.check(report and b"5.6.7" in report[0].content, "a report for the other one")
