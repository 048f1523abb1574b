"""What DANE and MTA-STS are tried with: Merpati as a sender, and what became of each of its mails.

What is judged is what the hosts saw: whether a mail came, over TLS or in the clear, and whether one
was begun with a host that must not have it.
"""

import json
import os
import re
import smtplib
import subprocess
import time

from interop_relay import Node, table

# What becomes of a mail. VERIFIED: over TLS with who was meant; ENCRYPTED: over TLS with whoever it
# was; DEFERRED: nobody has got it, and it is tried again.
VERIFIED, ENCRYPTED, CLEAR, DEFERRED = "verified", "encrypted", "clear", "deferred"
PATIENCE = 60
CONTENT = "From: ani@sender.example\r\nSubject: secured\r\n\r\nHello\r\n"


def hand_over(place, who, domains):
    """A mail to `who` at each domain; what the relay says of each, by the domains."""
    said = {}
    with smtplib.SMTP(*place, timeout=60) as client:
        client.ehlo("client.example")
        for domain in domains:
            client.mail(f"{who}@sender.example")
            client.rcpt(f"{who}@{domain}")
            code, text = client.data(CONTENT)
            if code != 250:
                raise RuntimeError(f"{domain}: {code} {text}")
            said[domain] = text.decode()
    return said


def until_told(who, domains, ready):
    """Asks again until there is something for each domain; gives it."""
    end = time.monotonic() + PATIENCE
    while True:
        found = ready()
        lacking = [domain for domain in domains if domain not in found]
        if not lacking:
            return found
        if time.monotonic() > end:
            raise RuntimeError(f"{who}: in {PATIENCE} s nothing of {lacking}")
        time.sleep(0.1)


def came(hosts, recipient):
    """The sessions in which a mail to this address was taken; those in which it was begun."""
    sessions = [session for host in hosts for session in host.sessions]
    taken = [one for one in sessions for mail in one.mails
             if mail.accepted and any(f"<{recipient}>" in to for to in mail.recipients)]
    sender = f"MAIL FROM:<{recipient.split('@')[0]}@sender.example>".upper().encode()
    begun = [one for one in sessions if any(line.upper().startswith(sender) for line in one.lines)]
    return taken, begun


def judge(want, found, hosts, recipient, at=0):
    """Holds what a relay says, and what the hosts saw, to what is wanted. `at`: of the host that
    must have it."""
    how, why = found
    taken, begun = came(hosts, recipient)
    if how != want:
        raise RuntimeError(f"wanted {want}, it says {how}: {why}")
    if how == DEFERRED and begun:
        raise RuntimeError("a mail was begun with whom it must not")
    if how != DEFERRED and len(taken) != 1:
        raise RuntimeError(f"{len(taken)} copies came")
    clear = [one for one in begun if not one.is_tls]
    if how in (VERIFIED, ENCRYPTED) and clear:
        raise RuntimeError("a mail was begun in the clear")
    if how == CLEAR and not clear:
        raise RuntimeError("it was not sent in the clear")
    if how != DEFERRED and taken[0].peer.address != hosts[at].address:
        raise RuntimeError("another host got it")


class Sender(Node):
    """Merpati, which sends by MX whatever it is given, and tries once an hour."""

    def __init__(self, binary, folder, address, resolver, tables=(), delivery=None, dns=None,
                 environment=None):
        """`resolver`: the place of one; `delivery`, `dns`: more options of these sections."""
        self.binary, self.address = binary, address
        super().__init__(binary, folder, [
            table("[[listener]]", name="mx", kind="relay", listen=[f"{address}:0"],
                  connections_per_address_max=1000),
            table("[relay]", networks=["127.0.0.0/8"]),
            table("[dns]", servers=["{}:{}".format(*resolver)], **(dns or {})),
            table("[delivery]", allow_networks=["127.0.0.0/8"], **(delivery or {})),
            table("[retry]", first_wait="1 h", longest_wait="1 h"),
            table("[[route]]", name="world", to="mx"),
            *tables,
        ], environment)

    @property
    def place(self):
        return (self.address, self.ports["mx"])

    def send(self, who, domains):
        """A mail to each domain, and its first attempt. What it says became of each, and the id of
        the mail, by the domains."""
        said = hand_over(self.place, who, domains)
        ids = {re.search(r"queued as (\S+)", text)[1]: domain for domain, text in said.items()}

        def ready():
            lines = self.events("Attempted")
            return {ids[line["id"]]: (line["id"], line) for line in lines
                    if line["id"] in ids and line["attempt"] == 1}
        return until_told("Merpati", domains, ready)

    def command(self, *words):
        """What the command line says, as text."""
        done = subprocess.run(
            [self.binary, *words, "--socket", self.data / "control.sock"],
            capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr


def as_it_says(want, line):
    """What became of a mail by the line about its attempt. Over TLS is over TLS: that the host had to
    prove who it is shows in the cases where one cannot."""
    outcome = line["outcomes"][0]
    why = json.dumps(line)
    if outcome["outcome"] != "Delivered":
        return outcome["outcome"].lower(), why
    if not line.get("tls"):
        return CLEAR, why
    return (want if want in (VERIFIED, ENCRYPTED) else "over TLS"), why


def with_roots(root):
    """The environment of a process that trusts this root and no other."""
    return {**os.environ, "SSL_CERT_FILE": str(root)}
