"""aiosmtpd gets mail from Merpati by SMTP, with TLS and SMTPUTF8, and by LMTP: octet for octet."""

import contextlib
import ssl
import threading

import interop_pypi  # noqa: F401
from aiosmtpd.controller import Controller
from aiosmtpd.lmtp import LMTP

from interop_mails import made
from interop_net import ADDRESSES, same, submit
from interop_relay import Node, listener, table, to_peers
from peers import ZONE

DOMAIN, BY_LMTP = f"aiosmtpd.{ZONE}", f"lmtp.{ZONE}"
PATIENCE = 30
SIZE_MAX = 64 << 20
# Both halves of an address that ASCII has no letters for.
WIDE = f"j\u00fcrgen@{DOMAIN}"


class Box:
    """A handler of aiosmtpd that keeps whatever comes."""

    def __init__(self):
        self.changed = threading.Condition()
        self.mails = []

    async def handle_DATA(self, _server, session, envelope):
        with self.changed:
            self.mails.append((session, envelope))
            self.changed.notify_all()
        # LMTP has a reply for each recipient (RFC 2033 §4.2).
        count = len(envelope.rcpt_tos) if session.is_lmtp else 1
        return "\r\n".join(["250 2.0.0 kept"] * count)

    async def handle_EHLO(self, server, session, _envelope, hostname, responses):
        session.host_name = hostname
        session.is_lmtp = isinstance(server, LMTP)
        return responses

    def wait_for(self, recipient):
        """The session and the envelope with this recipient."""
        found = []

        def is_there():
            found[:] = [mail for mail in self.mails if recipient in mail[1].rcpt_tos]
            return found

        with self.changed:
            if not self.changed.wait_for(is_there, PATIENCE):
                raise RuntimeError(f"nothing arrived for {recipient}")
        if len(found) > 1:
            raise RuntimeError(f"{len(found)} arrived for {recipient}")
        return found[0]


class ByLmtp(Controller):
    def factory(self):
        return LMTP(self.handler, data_size_limit=SIZE_MAX, decode_data=False, enable_SMTPUTF8=True)


@contextlib.contextmanager
def running(controller):
    controller.start()
    try:
        yield controller
    finally:
        controller.stop()


def carry(node, box, recipients_of, protected):
    """Every mail of ours, as it is."""
    with node.connect("mx", None) as client:
        for at, (_, content) in enumerate(made()):
            code, text = submit(client, recipients_of(at), content, f"ani@hop.{ZONE}")
            if code != 250:
                raise RuntimeError(f"{code} {text}")
    for at, (name, content) in enumerate(made()):
        for recipient in recipients_of(at):
            session, envelope = box.wait_for(recipient)
            if not same(content, envelope.content):
                raise RuntimeError(f"{name} came out differently: {envelope.content[:4000]!r}")
            if bool(session.ssl) != protected:
                raise RuntimeError(f"{name}: TLS is {session.ssl}")
            if not content.isascii() and "BODY=8BITMIME" not in envelope.mail_options:
                raise RuntimeError(f"{name} was not declared: {envelope.mail_options}")


def utf8(node, box):
    """An address and a header in UTF-8."""
    content = dict(made())["eight-bit"]
    content = content.replace(b"Subject: eight-bit", "Subject: \u00dcber".encode())
    with node.connect("mx", None) as client:
        options = ["SMTPUTF8", "BODY=8BITMIME"]
        client.sendmail(f"ani@hop.{ZONE}", [WIDE], content, options)
    _, envelope = box.wait_for(WIDE)
    if not envelope.smtp_utf8 or not same(content, envelope.content):
        raise RuntimeError(f"{envelope.mail_options}: {envelope.content!r}")


def to_aiosmtpd(score, net, binary, folder):
    """`net`: an `Internet`."""
    box = Box()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(net.certificate.chain, net.certificate.key)
    place = {"hostname": ADDRESSES["aiosmtpd"], "port": net.port}
    by_smtp = Controller(
        box, **place, tls_context=context, enable_SMTPUTF8=True, decode_data=False,
        data_size_limit=SIZE_MAX,
    )
    # The client of this address is one of other cases.
    by_lmtp = ByLmtp(box, hostname=ADDRESSES["client"], port=net.port)
    tables = [
        listener("mx", "relay"),
        table("[[route]]", name="lmtp", recipient_domains=[BY_LMTP],
              to=f"lmtp://{ADDRESSES['client']}:{net.port}"),
        *to_peers(net),
    ]
    with running(by_smtp), running(by_lmtp), Node(binary, folder, tables) as node:
        score.case("aiosmtpd: by MX, TLS",
                   lambda: carry(node, box, lambda at: [f"budi+{at}@{DOMAIN}"], True))
        score.case("aiosmtpd: SMTPUTF8", lambda: utf8(node, box))
        score.case(
            "aiosmtpd: LMTP, two recipients",
            lambda: carry(node, box, lambda at: [f"{who}+{at}@{BY_LMTP}" for who in "ab"], False),
        )
