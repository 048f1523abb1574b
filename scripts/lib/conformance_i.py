"""Group I: reports and bounces (RFC 3461, RFC 3464, RFC 6522, RFC 6533, RFC 3834)."""

import email
import email.policy
import re

from conformance_kit import TRUSTED, case, missing
from conformance_peers import CLOSE, EXTENSIONS

CONTENT = b"From: <a@b.example>\r\nMessage-ID: <i@b.example>\r\nSubject: the pigeon\r\n\r\nhome\r\n"
WITH_DSN = (*EXTENSIONS, "DSN")
WITHOUT_UTF8 = tuple(one for one in EXTENSIONS if one != "SMTPUTF8")
# What differs from run to run.
DATES = re.compile(r"(Arrival-Date|Last-Attempt-Date|Will-Retry-Until|Received|until):? .*")


def refuse(word, reply="550 5.1.1 there is nobody of this name"):
    """A script for RCPT that refuses addresses with this word in them."""
    return lambda session, line: reply if word.encode() in line else "250 2.1.5 ok"


class Report:
    """A DSN as it came, taken apart by Python's `email`."""

    def __init__(self, t, mail):
        self.mail, self.octets = mail, mail.content
        self.text = mail.content.decode()
        t.check(mail.sender.startswith("<>"), "the reverse-path of a report is null")
        lines = mail.content.split(b"\r\n")
        t.check(all(len(line) <= 998 for line in lines), "no line is above 998 octets")
        t.check(not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", mail.content),
                "there is no control character")
        self.message = email.message_from_bytes(mail.content, policy=email.policy.default)
        t.check(self.message.get_content_type() == "multipart/report", "it is a multipart/report")
        t.check(self.message.get_param("report-type") == "delivery-status", "of delivery status")
        t.check(not self.message.defects, "nothing is wrong with it")
        self.parts = self.message.get_payload()
        t.check(len(self.parts) == 3, "it has three parts")
        t.check(self.parts[0].get_content_type() == "text/plain", "the first one is for people")
        self.types = [part.get_content_type() for part in self.parts]
        self.people = self.parts[0].get_content()
        blocks = self.status_text().split("\r\n\r\n")
        self.fields = [self.read(block) for block in blocks if block.strip()]
        t.check(self.fields[0]["reporting-mta"].startswith("dns; "), "it says who reports")
        self.of = {one["final-recipient"].split(";")[1].strip(): one for one in self.fields[1:]}
        for one in self.fields[1:]:
            wanted = {"failed": "[45]", "delayed": "4", "relayed": "2", "delivered": "2"}
            pattern = wanted[one["action"]] + r"\.\d{1,3}\.\d{1,3}"
            t.check(re.fullmatch(pattern, one["status"]), "the status fits the action")

    def status_text(self):
        boundary = self.message.get_boundary()
        part = self.text.split(f"--{boundary}\r\n")[2]
        return part.split("\r\n\r\n", 1)[1]

    @staticmethod
    def read(block):
        pairs = (line.split(": ", 1) for line in block.strip().split("\r\n"))
        return {name.lower(): value for name, value in pairs}

    def show(self, t):
        for line in self.status_text().strip().split("\r\n"):
            t.log("dsn", DATES.sub(r"\1 (a date)", line))


def reports(t, peer, sender, count=1):
    """The reports to this sender, and that no other one comes with them."""
    mails = peer.wait(lambda: len(peer.mails_to(sender)) >= count and peer.mails_to(sender))
    t.check(mails, f"a report comes to {sender}")
    t.check(len(mails) == count, f"{count} reports come to {sender}")
    return [Report(t, mail) for mail in mails]


def report(t, peer, sender):
    found = reports(t, peer, sender)[0]
    found.show(t)
    return found


def send(t, relay, sender, *recipients, content=CONTENT):
    """A mail by who may send anywhere."""
    with t.connect(relay.mx, source=TRUSTED) as c:
        c.hello()
        c.envelope(sender, *recipients)
        c.content(content)


def taken(peer):
    """What was taken for somebody: behind refused recipients a pipelined DATA ends empty."""
    return [mail for mail in peer.mails if mail.recipients]


def nothing_waits(t, relay):
    """All that was taken has come to its end."""
    t.wait(lambda: not relay.queue(), "the queue is empty")


def hop(t, script, *settings, **options):
    """A relay with a next hop of the case's own."""
    peer = t.peer(script, **options)
    return t.own_relay(*settings, peer=peer), peer


@case("I1", "a refused recipient: one report to the sender, with all its fields",
      "RFC 3464 §2, RFC 6522 §3")
def refused_recipient(t):
    relay, peer = hop(t, {"RCPT": refuse("nobody")})
    send(t, relay, "i1@ours.example", "nobody@there.example")
    found = report(t, peer, "i1@ours.example")
    one = found.of["nobody@there.example"]
    for field, value in {
        "final-recipient": "rfc822; nobody@there.example", "action": "failed", "status": "5.1.1",
        "diagnostic-code": "smtp; 550 5.1.1 there is nobody of this name",
    }.items():
        t.check(one[field] == value, f"{field} is {value}")
    t.check(one["remote-mta"].startswith("dns; "), "Remote-MTA names the host")
    t.check({"arrival-date", "reporting-mta"} <= set(found.fields[0]), "it says when it arrived")
    t.check(found.types[1:] == ["message/delivery-status", "message/rfc822"], "the types are right")
    t.check("There is no such mailbox" in found.people, "the words come from the cause")
    t.check("Check the address" in found.people, "and say what to do")


@case("I2", "5yz at EHLO, MAIL, DATA and behind the end of data is reported likewise",
      "RFC 5321 §6.1")
def refused_elsewhere(t):
    for at, script in enumerate([
        {"MAIL": lambda s, line: "250 2.1.0 ok" if b"<>" in line else "550 5.7.1 not from you"},
        {"DATA": lambda s, line: "354 go" if s.sender.startswith("<>") else "554 5.3.0 no data"},
        {"end": lambda s, line: "250 ok" if s.sender.startswith("<>") else "554 5.6.0 no content"},
    ]):
        relay, peer = hop(t, script)
        send(t, relay, f"i2{at}@ours.example", "u@there.example")
        found = report(t, peer, f"i2{at}@ours.example")
        t.check(found.of["u@there.example"]["action"] == "failed", "it failed")


@case("I3", "mail with the null reverse-path never makes a report", "RFC 5321 §4.5.5")
def null_path(t):
    relay, peer = hop(t, {"RCPT": refuse("nobody")})
    send(t, relay, "", "nobody@there.example")
    send(t, relay, "", "nobody@there.example NOTIFY=SUCCESS,FAILURE,DELAY".replace(" ", "> ", 1)
         .join(["<", ""]))
    nothing_waits(t, relay)
    t.check(not taken(peer), "nothing came to anybody")

    def failures():
        return [line for line in relay.log("Attempted") if "Failed" in str(line["outcomes"])]

    t.wait(lambda: len(failures()) == 2, "the mail log has both failures")


@case("I4", "a report that cannot be delivered ends there; a postmaster who is named is told once",
      "RFC 5321 §4.5.5")
def double_bounce(t):
    for settings, others in [((), 0), (("delivery.postmaster=pm@ours.example",), 1)]:
        relay, peer = hop(t, {"RCPT": refuse("i4")}, *settings)
        send(t, relay, "i4@ours.example", "i4other@there.example")
        t.wait(lambda: len(relay.log("Accepted")) == 2 + others, "the reports are made")
        nothing_waits(t, relay)
        t.wait(lambda: len(taken(peer)) == others, f"{others} mails arrived")
        accepted = len(relay.log("Accepted"))
        t.check(accepted == 2 + others, "no other report is made")
        t.note(f"{accepted} messages in all")
    one = report(t, peer, "pm@ours.example")
    t.check(one.message["Subject"] == "A report could not be delivered", "it says what it is")


@case("I4", "the postmaster's own report that fails is the last one", "RFC 5321 §4.5.5")
def triple_bounce(t):
    relay, peer = hop(t, {"RCPT": "550 5.1.1 nobody at all"}, "delivery.postmaster=pm@ours.example")
    send(t, relay, "i4@ours.example", "u@there.example")
    t.wait(lambda: len(relay.log("Accepted")) == 3, "mail, report, and report on the report")
    nothing_waits(t, relay)
    t.check(len(relay.log("Accepted")) == 3 and not taken(peer), "and that was all")


@case("I5", "NOTIFY=NEVER is silence, whatever happens", "RFC 3461 §4.1")
def never(t):
    relay, peer = hop(t, {"RCPT": refuse("nobody")})
    send(t, relay, "i5@ours.example", "<nobody@there.example> NOTIFY=NEVER")
    send(t, relay, "i5@ours.example", "<nobody@there.example> notify=success,delay")
    nothing_waits(t, relay)
    t.check(not taken(peer), "nobody is told")


@case("I5 I7", "NOTIFY=NEVER is silent about delay too, and so is a list without DELAY; "
      "DELAY is told once, with Will-Retry-Until", "RFC 3461 §4.1, §6.2", slow=True)
def delay(t):
    later = refuse("later", "450 4.2.1 come again")
    relay, peer = hop(t, {"RCPT": later}, "retry.delay_report_after=1 s")
    send(t, relay, "i5@ours.example", "<later0@there.example> NOTIFY=NEVER",
         "<later1@there.example> NOTIFY=FAILURE,SUCCESS")
    send(t, relay, "i7@ours.example", "<later2@there.example> NOTIFY=DELAY")
    send(t, relay, "i7list@ours.example", "later3@there.example",
         content=b"List-Id: <a.example>\r\n" + CONTENT)
    found = report(t, peer, "i7@ours.example")
    one = found.of["later2@there.example"]
    t.check(one["action"] == "delayed" and one["status"] == "4.2.1", "it is delayed")
    t.check("will-retry-until" in one, "it says until when")
    t.check(found.types[2] == "text/rfc822-headers", "it returns the header alone")

    def is_tried(count):
        attempts = [line["attempt"] for line in relay.log("Attempted")]
        return attempts.count(attempts[0]) and max(attempts) >= count

    t.wait(lambda: is_tried(4), "it is tried again and again")
    t.check(len(taken(peer)) == 1, "there is no other report")


@case("I6", "NOTIFY=SUCCESS: a next hop without DSN is reported as relayed",
      "RFC 3461 §5.2.2")
def relayed(t):
    relay, peer = hop(t, {})
    send(t, relay, "i6@ours.example", "<u@there.example> NOTIFY=SUCCESS",
         "<v@there.example> NOTIFY=FAILURE")
    found = report(t, peer, "i6@ours.example")
    t.check(list(found.of) == ["u@there.example"], "it is about who asked")
    t.check(found.of["u@there.example"]["action"] == "relayed", "it is relayed")
    t.check(found.types[2] == "text/rfc822-headers", "it returns the header alone")
    mail = peer.mails_to("u@there.example")[0]
    t.check("NOTIFY" not in mail.recipients[0], "what is not offered is not used")


@case("I6", "NOTIFY=SUCCESS: a next hop with DSN gets the parameters as they came, and reports",
      "RFC 3461 §5.2.1")
def passed_on(t):
    relay, peer = hop(t, {}, extensions=WITH_DSN)
    send(t, relay, "<i6@ours.example> RET=HDRS ENVID=QQ+2B314",
         "<u@there.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;old+2Bname@alias.example",
         "<v@there.example> NOTIFY=NEVER", "<w@there.example>")
    mail = peer.wait(lambda: peer.mails_to("u@there.example"))[0]
    t.log("out", re.sub(r" SIZE=\d+| BODY=8BITMIME", "", f"MAIL FROM:{mail.sender}"))
    for path in mail.recipients:
        t.log("out", f"RCPT TO:{path}")
    t.check("RET=HDRS" in mail.sender and "ENVID=QQ+2B314" in mail.sender, "RET and ENVID go on")
    t.check(mail.recipients == [
        "<u@there.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;old+2Bname@alias.example",
        "<v@there.example> NOTIFY=NEVER",
        "<w@there.example> ORCPT=rfc822;w@there.example",
    ], "NOTIFY and ORCPT go on, and ORCPT is added where there was none")
    nothing_waits(t, relay)
    t.check(not peer.mails_to("i6@ours.example"), "we make no report of our own")


@case("I8", "RET, ENVID and ORCPT are honoured and decoded; without RET small mail comes back whole",
      "RFC 3461 §4.3, §6.3")
def returned(t):
    large = CONTENT + b"a line of the body that is returned or not\r\n" * 400
    relay, peer = hop(t, {"RCPT": refuse("nobody")})
    for at, (parameters, content, kind) in enumerate([
        (" RET=FULL", CONTENT, "message/rfc822"), (" RET=FULL", large, "message/rfc822"),
        (" ret=hdrs", CONTENT, "text/rfc822-headers"), ("", CONTENT, "message/rfc822"),
        ("", large, "text/rfc822-headers"),
    ]):
        sender = f"i8{at}@ours.example"
        send(t, relay, f"<{sender}>{parameters} ENVID=a+2Bb+3Dc+20d{at}",
             "<nobody@there.example> ORCPT=rfc822;N+2BN@alias.example", content=content)
        found = report(t, peer, sender)
        t.check(found.types[2] == kind, f"it returns {kind}")
        t.check((content in found.octets) == (kind == "message/rfc822"), "as it was")
        t.check(found.fields[0]["original-envelope-id"] == f"a+b=c d{at}", "ENVID is decoded")
        one = found.of["nobody@there.example"]
        t.check(one["original-recipient"] == "rfc822; N+N@alias.example", "ORCPT is decoded")
        t.check(b"Subject: the pigeon\r\n" in found.octets, "the header is there")


@case("I8", "malformed, repeated and unoffered parameters are refused", "RFC 3461 §4")
def parameters(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        for wrong in ["RET=", "RET", "RET=BODY", "RET=FULL,HDRS", "RET=FULL RET=FULL", "ENVID=",
                      "ENVID", "ENVID=a+2", "ENVID=a+zz", "ENVID=a=b", "ENVID=a+0Db",
                      "ENVID=" + "x" * 101, "ENVID=a ENVID=b", "ENVID=\u00e9"]:
            c.say(f"MAIL FROM:<a@b.example> {wrong}", "501 5.5.4")
        for wrong in ["NOTIFY=NEVER", "ORCPT=rfc822;a@b.example"]:
            c.say(f"MAIL FROM:<a@b.example> {wrong}", "555 5.5.4")
        c.say(f"MAIL FROM:<a@b.example> RET=FULL ENVID={'x' * 100}", "250 2.1.0")
        for wrong in ["NOTIFY=", "NOTIFY", "NOTIFY=ALWAYS", "NOTIFY=NEVER,SUCCESS",
                      "NOTIFY=SUCCESS,NEVER", "NOTIFY=SUCCESS,", "NOTIFY=SUCCESS NOTIFY=DELAY",
                      "ORCPT=", "ORCPT", "ORCPT=rfc822", "ORCPT=rfc822;", "ORCPT=;a@b.example",
                      "ORCPT=rfc822;a=b", "ORCPT=rfc822;a+0A", "ORCPT=rfc822;a+2",
                      "ORCPT=utf-8;\\x{D800}", "ORCPT=utf-8;\\y", "ORCPT=rfc822;" + "x" * 500,
                      "ORCPT=rfc822;a@b ORCPT=rfc822;a@b"]:
            c.say(f"RCPT TO:<i8@ours.example> {wrong}", "501 5.5.4")
        for wrong in ["RET=FULL", "ENVID=x"]:
            c.say(f"RCPT TO:<i8@ours.example> {wrong}", "555 5.5.4")
        c.say("RCPT TO:<i8@ours.example> NOTIFY=never ORCPT=RFC822;a+2Bb@c.example", "250 2.1.5")
        c.say("QUIT", "221")
    with t.connect(t.relay().mx) as c:
        c.reply("220")
        c.say("HELO client.example", "250")
        c.say("MAIL FROM:<a@b.example> RET=FULL", "555 5.5.4")
        c.say("MAIL FROM:<a@b.example>", "250")
        c.say("RCPT TO:<i8@ours.example> NOTIFY=NEVER", "555 5.5.4")


@case("I9", "a hostile refusal injects nothing: no line, no field, no control character",
      "RFC 3464 §2.1.2, CVE-2020-8794")
def hostile(t):
    bad = b"".join(
        b"550-5.1.1 " + piece + b"\r\n" for piece in [
            b"\x1b[2J\x1b[31mred", b"Final-Recipient: rfc822; evil@x.example", b"--boundary--",
            b"X-Evil: yes", b"\xe9\xff\x80 8-bit", b"a\x08\x7f\x0b b", b". . ."])
    bad += b"550-5.1.1 " + b"long " * 150 + b"\r\n" + b"550-5.1.1 more\r\n" * 40 + b"550 5.1.1 end\r\n"
    relay, peer = hop(t, {"RCPT": lambda s, line: bad if b"nobody" in line else "250 2.1.5 ok"})
    send(t, relay, "i9@ours.example", "nobody@there.example")
    found = reports(t, peer, "i9@ours.example")[0]
    t.check(list(found.of) == ["nobody@there.example"], "there is one recipient in it")
    t.check(not re.search(rb"^(X-Evil|--boundary)", found.octets, re.M), "no line is forged")
    t.check(found.octets.isascii(), "all of it is ASCII")
    t.note(f"Diagnostic-Code: {found.of['nobody@there.example']['diagnostic-code'][:76]}…")


@case("I9", "a refusal that never ends, or ends in NUL and bare CR, is bounded and harmless",
      "RFC 5321 §4.5.3.1.5", slow=True)
def endless(t):
    for bad in (b"550-" + b"x" * 16_384 + b"\r\n" + b"550 5.1.1 y\r\n",
                b"550 5.1.1 a\rb\x00c\nAction: delivered\r\n",
                b"550-5.1.1 z\r\n" * 5_000 + b"550 5.1.1 z\r\n"):
        relay, peer = hop(t, {"RCPT": lambda s, line: bad if b"nobody" in line else "250 2.1.5 ok"})
        send(t, relay, "i9@ours.example", "nobody@there.example")
        t.wait(lambda: relay.log("Attempted"), "it is tried")
        for mail in peer.mails_to("i9@ours.example"):
            found = Report(t, mail)
            t.check(found.of["nobody@there.example"]["action"] == "failed", "it failed")
            t.check(len(found.octets) < 100_000, "it is bounded")
        t.check(relay.process.poll() is None, "the relay lives")


@case("I10", "one good and one bad recipient: one delivery, and a report on the bad one",
      "RFC 5321 §6.1")
def partly(t):
    relay, peer = hop(t, {"RCPT": refuse("nobody")})
    send(t, relay, "i10@ours.example", "nobody@there.example", "u@there.example",
         "nobody2@there.example", "nobody3@elsewhere.example")
    t.check(peer.wait(lambda: peer.mails_to("u@there.example")), "the good one is delivered")
    found = report(t, peer, "i10@ours.example")
    bad = ["nobody@there.example", "nobody2@there.example", "nobody3@elsewhere.example"]
    t.check(list(found.of) == bad, "the report names the bad ones, all in one")


UTF8 = "Subject: gr\u00fcn\r\nX-A: b\r\n\r\nhome\r\n".encode()


def send_utf8(t, relay):
    with t.connect(relay.mx, source=TRUSTED) as c:
        c.hello()
        c.say("MAIL FROM:<i11@ours.example> SMTPUTF8 BODY=8BITMIME", "250")
        c.say("RCPT TO:<\u03b4nobody@there.example> ORCPT=utf-8;\\x{3B4}alias@old.example", "250")
        c.content(UTF8)


@case("I11 G12", "an internationalized recipient fails: a global report with `utf-8` addresses",
      "RFC 6533 §4")
def global_report(t):
    relay, peer = hop(t, {"RCPT": refuse("nobody")})
    send_utf8(t, relay)
    found = report(t, peer, "i11@ours.example")
    t.check(found.types[1:] == ["message/global-delivery-status", "message/global"], "it is global")
    one = found.of["\u03b4nobody@there.example"]
    t.check(one["final-recipient"].startswith("utf-8; "), "the type is utf-8")
    t.check(one["original-recipient"] == "utf-8; \u03b4alias@old.example", "ORCPT comes back")
    t.check("SMTPUTF8" in found.mail.sender, "it goes with SMTPUTF8")


@case("I11", "where the sender's host does not offer SMTPUTF8 the report comes in ASCII",
      "RFC 6533 §6")
def downgraded(t):
    relay, peer = hop(t, {}, extensions=WITHOUT_UTF8)
    send_utf8(t, relay)
    found = report(t, peer, "i11@ours.example")
    t.check(found.types[1:] == ["message/delivery-status", "text/rfc822-headers"], "it is plain")
    one = found.of["\\x{3B4}nobody@there.example"]
    t.check(one["final-recipient"].startswith("utf-8; "), "the address is utf-8 in 7 bits")
    t.check(one["original-recipient"] == "utf-8; \\x{3B4}alias@old.example", "so is ORCPT")
    t.check("SMTPUTF8" not in found.mail.sender, "it goes without SMTPUTF8")
    head, status = found.octets.split(b"\r\n\r\n", 1)[0], found.status_text()
    t.check(head.isascii() and status.isascii(), "header and status are ASCII")
    t.check(b"=?utf-8?Q?gr=C3=BCn?=" in found.octets, "the returned header too")


@case("I12", "a report has the header that keeps programs from answering it", "RFC 3834 §3.1, §5")
def header(t):
    relay, peer = hop(t, {"RCPT": refuse("nobody")})
    send(t, relay, "i12@ours.example", "nobody@there.example")
    found = reports(t, peer, "i12@ours.example")[0].message
    t.check(found["Auto-Submitted"] == "auto-replied", "Auto-Submitted: auto-replied")
    for field in ("Message-ID", "Date", "From", "To", "Subject", "MIME-Version", "Received"):
        t.check(len(found.get_all(field, [])) == 1, f"it has one {field}")
    t.check("postmaster@mx.ours.example" in found["From"], "it is from the postmaster")
    t.check("i12@ours.example" in found["To"], "it is to the sender")
    t.check(found["In-Reply-To"] == "<i@b.example>", "it stands beside the message")
    for field in ("From", "To", "Subject", "Auto-Submitted", "In-Reply-To"):
        t.log("dsn", f"{field}: {found[field]}")


@case("I13", "what waited too long fails once, with 4.4.7 and the last diagnostic",
      "RFC 5321 §4.5.4.1, RFC 3463 §3.5", slow=True)
def expiry(t):
    later = refuse("later", "450 4.2.1 still not")
    relay, peer = hop(t, {"RCPT": later}, "retry.give_up_after=3 s")
    send(t, relay, "i13@ours.example", "later@there.example")
    found = report(t, peer, "i13@ours.example")
    one = found.of["later@there.example"]
    t.check(one["action"] == "failed" and one["status"] == "4.4.7", "it has expired")
    t.check(one["diagnostic-code"] == "smtp; 450 4.2.1 still not", "with what was said last")
    nothing_waits(t, relay)
    t.check(len(taken(peer)) == 1, "there is one report")


@case("I15", "LMTP: each recipient has the reply of its own behind the dot", "RFC 2033 §4.2")
def lmtp(t):
    said = {b"one": "250 2.1.5 saved", b"two": "452 4.2.2 full for now", b"three": "550 5.2.1 closed"}

    def end(session, line):
        session.place = getattr(session, "place", -1) + 1
        at = session.place % len(session.recipients)
        name = next((name for name in said if name.decode() in session.recipients[at]), None)
        return said.get(name, "250 2.1.5 saved")

    store = t.peer({"LHLO": "250-store\r\n250 PIPELINING", "end": end}, lmtp=True)
    sink = t.peer()
    relay = t.own_relay(peer=sink, toml=f"""
        [server]
        data_dir = "$data"
        hostname = "mx.ours.example"
        [log]
        to = "$log"
        [relay]
        local_domains = ["ours.example"]
        networks = ["{TRUSTED}/32"]
        [spool]
        segment_size = "8 MiB"
        disk_free_min = "1 MiB"
        [[listener]]
        name = "mx"
        kind = "relay"
        listen = ["127.0.0.1:0"]
        [[route]]
        name = "store"
        recipient_domains = ["store.example"]
        to = "lmtp://{store.place}"
        [[route]]
        name = "rest"
        to = "smtp://{sink.place}"
    """)
    send(t, relay, "i15@ours.example", "<one@store.example> NOTIFY=SUCCESS",
         "<two@store.example> NOTIFY=SUCCESS,FAILURE", "<three@store.example>")
    found = report(t, sink, "i15@ours.example")
    actions = {path: one["action"] for path, one in found.of.items()}
    t.check(actions == {"three@store.example": "failed", "one@store.example": "delivered"},
            "the first is delivered, the third failed")
    waiting = t.wait(relay.queue, "the second waits")
    t.check([one["envelope_to"] for one in waiting] == ["two@store.example"], "and it alone")


@case("I17", "a thousand recipients that fail are one report of bounded size", "RFC 3464 §2", slow=True)
def thousand(t):
    relay, peer = hop(t, {"RCPT": refuse("nobody")}, "listener.mx.recipients_max=1000")
    with t.connect(relay.mx, source=TRUSTED) as c:
        c.hello()
        c.say("MAIL FROM:<i17@ours.example>", "250")
        t.note("1,000 times RCPT TO:<nobody(number)@there.example>, each accepted")
        lines = b"".join(b"RCPT TO:<nobody%d@there.example>\r\n" % at for at in range(1_000))
        before = len(t.lines)
        c.send(lines)
        c.reply(*["250 2.1.5"] * 1_000)
        del t.lines[before:]
        c.content(CONTENT)
    found = reports(t, peer, "i17@ours.example")[0]
    t.check(len(found.of) == 1_000, "it names them all")
    t.check(len(found.octets) < 1_000_000, "it is bounded")
    nothing_waits(t, relay)
    t.check(len(taken(peer)) == 1, "there is no other report")
    t.note("one report that names 1,000 recipients")


missing("I14", "what is refused for its content is refused in the session; rules about spam and "
        "DMARC come with a later issue, until then there is nothing that could bounce later")
missing("I16", "bounces to addresses of ours with a token come with the sending platform")
missing("I18", "mail over the API comes with the sending platform")
