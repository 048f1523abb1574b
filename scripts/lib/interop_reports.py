"""Whether those who read reports understand ours: Python's email, flufl.bounce and BounceParser.

A scripted next hop fails in every way; the reports that come back are given to all three.
"""

import email
import email.parser
import email.policy
import json
import smtplib
import subprocess

import interop_pypi  # noqa: F401
from flufl.bounce import all_failures, scan_message

from conformance_peers import EXTENSIONS, Peer
from interop_mails import HEADER, PLAIN
from interop_net import ADDRESSES
from interop_relay import RELAY, Node, listener, to_peers
from peers import ZONE

HOP, NARROW = f"hop.{ZONE}", f"narrow.{ZONE}"
# What a next hop says of local parts that begin with the key.
REPLIES = {
    "unknown": "550 5.1.1 no such user here",
    "bare": "550 no such user here",
    "disabled": "550 5.2.1 this mailbox is disabled",
    "full": "552 5.2.2 the mailbox is full, over quota",
    "spam": "550 5.7.1 your message was identified as spam",
    "large": "552 5.3.4 the message exceeds the size limit",
    "busy": "451 4.2.0 try again in a moment",
}
WIDE = "j\u00fcrgen"
DELAY, EXPIRY = "3 s", "8 s"
PATIENCE = 60
PERL = """
use strict; use warnings; use JSON::PP; use Mail::DeliveryStatus::BounceParser;
local $/; binmode STDIN;
my $bounce = Mail::DeliveryStatus::BounceParser->new(scalar <STDIN>);
my @reports = map { +{ email => $_->get("email"), reason => $_->get("std_reason") } }
    $bounce->reports;
print encode_json({ is_bounce => $bounce->is_bounce ? \\1 : \\0, reports => \\@reports,
    original => $bounce->orig_message_id // "" });
"""


class Case:
    """What is sent, and what each reader has to find in the report.

    `bounced`: what flufl.bounce finds: `permanent`, `temporary` or `nothing`; `reason`: that of
    BounceParser for the address, or None where it must name none.
    """

    def __init__(self, name, recipient, action, status, bounced, reason, **options):
        self.name, self.recipient = name, recipient
        self.action, self.status = action, status
        self.bounced, self.reason = bounced, reason
        # Whether BounceParser takes the report for a bounce.
        self.is_bounce = options.get("is_bounce", reason is not None)
        self.sender_domain = options.get("sender_domain", HOP)
        self.parameters = options.get("parameters", ())
        # Recipients that are told of in the same report, behind this one.
        self.also = options.get("also", ())
        self.status_type = options.get("status_type", "message/delivery-status")
        # How the report writes the recipient, and as whom its readers find him.
        self.shown = options.get("shown", recipient)
        self.found = options.get("found", self.shown)
        # What a reader does not understand, and no change of ours would mend without harm.
        self.limit = options.get("limit", "")

    @property
    def sender(self):
        return f"sender+{content_id(self)}@{self.sender_domain}"


def cases():
    """BounceParser goes by the status where it is one of six, and else by the words of the reply."""
    failures = [
        # Without a code of its own the status is ours, from what the reply says.
        ("unknown", "5.1.1", "user_unknown"), ("bare", "5.1.1", "user_unknown"),
        ("disabled", "5.2.1", "user_disabled"), ("full", "5.2.2", "over_quota"),
        ("spam", "5.7.1", "spam"),
    ]
    found = [
        Case(key, f"{key}@{HOP}", "failed", status, "permanent", reason)
        for key, status, reason in failures
    ]
    no_name = {"limit": "BounceParser has no name for it"}
    wide = f"{WIDE}@{NARROW}"
    return [
        *found,
        Case("large", f"large@{HOP}", "failed", "5.3.4", "permanent", "over_quota",
             limit="BounceParser: 552 is a full mailbox"),
        Case("no domain", f"budi@missing.{ZONE}", "failed", "5.1.2", "permanent", "domain_error"),
        Case("no mail", f"budi@null.{ZONE}", "failed", "5.1.10", "permanent", "unknown", **no_name),
        Case("no host", f"budi@private.{ZONE}", "failed", "5.4.4", "permanent", "domain_error"),
        Case("ORCPT", f"unknown+2@{HOP}", "failed", "5.1.1", "permanent", "user_unknown",
             parameters=("ORCPT=rfc822;list+2Bx@list.example",), found="list+x@list.example"),
        Case("delayed", f"busy+delayed@{HOP}", "delayed", "4.2.0", "temporary", None,
             parameters=("NOTIFY=DELAY",)),
        Case("expired", f"busy+expired@{HOP}", "failed", "4.4.7", "permanent", "unknown",
             parameters=("NOTIFY=FAILURE",), **no_name),
        Case("relayed", f"budi@{HOP}", "relayed", "2.0.0", "nothing", None,
             parameters=("NOTIFY=SUCCESS",)),
        # It keeps the failures that stand above.
        Case("failed, relayed", f"unknown+3@{HOP}", "failed", "5.1.1", "permanent", "user_unknown",
             parameters=("NOTIFY=SUCCESS,FAILURE",), also=(f"budi+3@{HOP}",), is_bounce=False,
             limit="BounceParser: no bounce where anybody has not failed"),
        # RFC 6533: to a sender whose host speaks SMTPUTF8, and to one whose host does not.
        Case("in UTF-8", wide, "failed", "5.6.7", "nothing", None, is_bounce=True,
             status_type="message/global-delivery-status",
             limit="neither reads message/global-delivery-status"),
        Case("in ASCII again", wide, "failed", "5.6.7", "nothing", "unknown",
             sender_domain=NARROW, shown=f"j\\x{{FC}}rgen@{NARROW}",
             limit="flufl.bounce reads no address of the type utf-8"),
    ]


def content_id(case):
    return case.name.replace(", ", "-").replace(" ", "-")


def content_of(case):
    header = HEADER.format(subject=content_id(case))
    return (header + PLAIN.format(encoding="7bit") + "hi\r\n").encode()


def send(node, case):
    with smtplib.SMTP(RELAY, node.ports["mx"], timeout=60) as client:
        options = () if case.recipient.isascii() else ("SMTPUTF8",)
        recipients = [case.recipient, *case.also]
        client.sendmail(case.sender, recipients, content_of(case), options, case.parameters)


def by_email(case, report):
    """Python's email: three parts, no defects, and the fields of the recipient."""
    defects = [one for part in report.walk() for one in part.defects]
    if defects:
        raise RuntimeError(f"defects: {defects}")
    types = [part.get_content_type() for part in report.get_payload()]
    if report.get_content_type() != "multipart/report" or len(types) != 3 or (
            report.get_param("report-type") != "delivery-status"):
        raise RuntimeError(f"no report: {report['Content-Type']} of {types}")
    if types[:2] != ["text/plain", case.status_type]:
        raise RuntimeError(f"types: {types}")
    of_message, *of_recipients = groups(report.get_payload(1))
    if of_message["Reporting-MTA"] != f"dns; relay.{ZONE}" or (
            len(of_recipients) != 1 + len(case.also)):
        raise RuntimeError(f"fields: {of_message.items()}, {len(of_recipients)} recipients")
    fields = of_recipients[0]
    kind = "rfc822" if case.recipient.isascii() else "utf-8"
    for name, want in (("Final-Recipient", f"{kind}; {case.shown}"), ("Action", case.action),
                       ("Status", case.status)):
        if fields[name] != want:
            raise RuntimeError(f"{name} is {fields[name]!r} in place of {want!r}")
    return f"{fields['Action']} {fields['Status']}"


def groups(part):
    """The groups of fields of a delivery status. `email` knows those of ASCII alone."""
    if part.get_content_type() == "message/delivery-status":
        return part.get_payload()
    octets = part.as_bytes(policy=email.policy.SMTPUTF8).partition(b"\r\n\r\n")[2]
    parser = email.parser.BytesHeaderParser(policy=email.policy.SMTPUTF8)
    return [parser.parsebytes(group + b"\r\n\r\n") for group in octets.strip().split(b"\r\n\r\n")]


def by_flufl(case, raw):
    """flufl.bounce: the recipient, as bounced for good or for now."""
    message = email.message_from_bytes(raw)
    temporary, permanent = all_failures(message)
    address = frozenset([case.found.encode()])
    want = {"permanent": (frozenset(), address), "temporary": (address, frozenset()),
            "nothing": (frozenset(), frozenset())}[case.bounced]
    if (temporary, permanent) != want or scan_message(message) != permanent:
        raise RuntimeError(f"flufl.bounce: {temporary}, {permanent} in place of {want}")
    return case.bounced


def by_perl(case, raw):
    """Mail::DeliveryStatus::BounceParser, of the report as a mailbox keeps it: with LF."""
    done = subprocess.run(
        ["perl", "-e", PERL], input=raw.replace(b"\r\n", b"\n"), check=True, capture_output=True,
        timeout=60,
    )
    found = json.loads(done.stdout)
    want = [] if case.reason is None else [{"email": case.found, "reason": case.reason}]
    if found["reports"] != want or found["is_bounce"] != case.is_bounce:
        raise RuntimeError(f"BounceParser: {found} in place of {want}, {case.is_bounce}")
    message_id = f"<{content_id(case)}@example.org>"
    if found["original"].strip() != message_id:
        raise RuntimeError(f"BounceParser: {found['original']} in place of {message_id}")
    words = "bounce" if case.is_bounce else "no bounce"
    return f"{words}: {case.reason}" if want else f"{words}, no address"


def judged(case, mail):
    raw = mail.content
    report = email.message_from_bytes(raw, policy=email.policy.SMTPUTF8)
    return by_email(case, report), by_flufl(case, raw), by_perl(case, raw)


def reports(score, net, binary, folder):
    """`net`: an `Internet`, of whose DNS alone there is need."""

    def said(_, line):
        local_part = line.decode().partition("<")[2]
        return next((REPLIES[key] for key in REPLIES if local_part.startswith(key)), "250 2.1.5 ok")

    narrow = [name for name in EXTENSIONS if name not in ("8BITMIME", "SMTPUTF8")]
    hops = [Peer({"RCPT": said}, ADDRESSES[name], net.port, offered)
            for name, offered in (("hop", EXTENSIONS), ("narrow", narrow))]
    tables = [listener("mx", "relay"), *to_peers(
        net, give_up_after=EXPIRY, delay_report_after=DELAY)]
    rows = []
    try:
        with Node(binary, folder, tables) as node:
            for case in cases():
                send(node, case)
            for case in cases():
                hop = hops[case.sender_domain == NARROW]

                def check(case=case, hop=hop):
                    found = hop.wait(lambda: hop.mails_to(case.sender), PATIENCE)
                    if not found:
                        raise RuntimeError("no report came")
                    rows.append((case.name, *judged(case, found[0]), case.limit))

                score.case(f"report: {case.name}", check)
    finally:
        for hop in hops:
            hop.close()
    for row in (("report", "email", "flufl.bounce", "BounceParser", "known limit"), *rows):
        print("        {:<16} {:<16} {:<13} {:<25} {}".format(*row))
