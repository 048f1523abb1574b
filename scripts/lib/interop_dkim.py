"""What an author's domain signed is still signed behind Merpati, as dkimpy sees it (RFC 6376)."""

import base64
import itertools
import smtplib
import subprocess

import interop_pypi  # noqa: F401
import dkim

from conformance_peers import EXTENSIONS, Peer
from interop_mails import HEADER, PLAIN, made
from interop_net import ADDRESSES, submit
from interop_relay import ANYBODY, RELAY, Node, hashed, listener, table, to_peers
from peers import PASSWORD, ZONE

SELECTOR, DOMAIN = b"trial", f"hop.{ZONE}".encode()
CANONICAL = (b"simple", b"relaxed")
# What a signature with simple/simple bears least: blanks, folds, empty lines at the end.
ODD = (
    HEADER.format(subject="odd") + "X-Odd:  two  blanks \r\n\t \r\n  folded \r\n"
    + PLAIN.format(encoding="8bit") + " \r\n.\r\n..\r\nGr\u00fc\u00dfe \t \r\n"
    + "z" * 5_000 + "\r\n\r\n\r\n"
).encode()
PATIENCE = 30


class Key:
    """A key, and the DNS in which it stands."""

    def __init__(self, folder):
        path = folder / "dkim.pem"
        for command in (("genrsa", "-traditional", "-out", path, "2048"),
                        ("rsa", "-in", path, "-pubout", "-outform", "DER", "-out", f"{path}.pub")):
            subprocess.run(["openssl", *command], check=True, capture_output=True, timeout=60)
        self.private = path.read_bytes()
        with open(f"{path}.pub", "rb") as public:
            self.record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public.read())

    def answer(self, name, timeout=5):
        """The TXT record of this name."""
        return self.record if name.rstrip(b".") == SELECTOR + b"._domainkey." + DOMAIN else None

    def sign(self, content, canonical):
        names = [b"from", b"to", b"subject", b"date", b"message-id", b"mime-version",
                 b"content-type", b"content-transfer-encoding", b"x-odd", b"x-folded"]
        present = content.partition(b"\r\n\r\n")[0].lower()
        signed = [name for name in names if b"\n" + name in b"\n" + present]
        field = dkim.sign(content, SELECTOR, DOMAIN, self.private, canonicalize=canonical,
                          include_headers=signed)
        return field + content

    def holds(self, content):
        return dkim.verify(content, dnsfunc=self.answer)


def verified(node, net, key, peer, way):
    """Every mail in all four canonicalizations: by `relay` or `submission`, to this peer."""
    mails = [*(content for _, content in made()), ODD]
    if way == "relay":
        client = smtplib.SMTP(RELAY, node.ports["mx"], timeout=60)
    else:
        client = smtplib.SMTP(RELAY, node.ports["submission"], timeout=60)
        client.starttls(context=net.trust)
    host = f"{peer.name}.{ZONE}"
    sent = {}
    with client:
        client.ehlo()
        if way != "relay":
            client.login(ANYBODY, PASSWORD)
        for at, (content, canonical) in enumerate(
            itertools.product(mails, itertools.product(CANONICAL, CANONICAL))
        ):
            signed = key.sign(content, canonical)
            # The verifier can tell: as it is signed the mail is good, and another one is not.
            changed = signed.replace(b"Subject: ", b"Subject: Re: ", 1)
            if not key.holds(signed) or key.holds(changed):
                raise RuntimeError("dkimpy does not judge as it should")
            recipient = f"{way}+{at}@{host}"
            sent[recipient] = (signed, canonical)
            code, text = submit(client, [recipient], signed, f"ani@hop.{ZONE}")
            if code != 250:
                raise RuntimeError(f"{code} {text}: {signed[:2000]!r}")
    for recipient, (signed, canonical) in sent.items():
        if not peer.wait(lambda: peer.mails_to(recipient), PATIENCE):
            raise RuntimeError(f"{recipient}: nothing arrived")
        content = peer.mails_to(recipient)[0].content
        if not key.holds(content):
            raise RuntimeError(f"{canonical} is broken:\n{signed[:3000]!r}\n{content[:3000]!r}")
    print(f"        {len(sent)} signatures hold")


def signatures(score, net, binary, folder):
    """`net`: an `Internet`. To a host with 8BITMIME and to one without."""
    tables = [
        listener("mx", "relay"),
        listener("submission", "submission", "starttls", net.certificate),
        table("[[credential]]", name=ANYBODY, password=hashed(binary), senders=["*"]),
        *to_peers(net),
    ]
    narrow = [name for name in EXTENSIONS if name != "8BITMIME"]
    hosts = [Peer(address=ADDRESSES[name], port=net.port, extensions=offered)
             for name, offered in (("hop", EXTENSIONS), ("narrow", narrow))]
    try:
        with Node(binary, folder, tables) as node:
            key = Key(folder)
            for name, host in zip(("hop", "narrow"), hosts):
                host.name = name
                lack = "" if name == "hop" else ", to a host without 8BITMIME"
                for way in ("relay", "submission"):
                    score.case(
                        f"dkimpy: {way}{lack}",
                        lambda way=way, host=host: verified(node, net, key, host, way),
                    )
    finally:
        for host in hosts:
            host.close()
