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
import urllib.request

from interop_relay import Node, table
from servers import wait_until

# What becomes of a mail. VERIFIED: over TLS with who was meant; ENCRYPTED: over TLS with whoever it
# was; DEFERRED: nobody has got it, and it is tried again; FAILED: it is not.
VERIFIED, ENCRYPTED, CLEAR, DEFERRED, FAILED = "verified encrypted clear deferred failed".split()
ARRIVED = (VERIFIED, ENCRYPTED, CLEAR)
# By what the log says was asked of a connection, the two by which a host proves who it is.
PROVEN = ("certified", "dane")
# The metric once what the DNS says is proven.
PROVES = "merpati_dane 1"
PATIENCE = 60
CONTENT = "From: ani@sender.example\r\nSubject: secured\r\n\r\nHello\r\n"


def hand_over(place, who, domains, content=CONTENT, options=(), trust=None):
    """A mail to `who` at each domain; what the relay says of each, by the domains. `options`: of
    MAIL; `trust`: a context, for TLS."""
    said = {}
    with smtplib.SMTP(*place, timeout=60) as client:
        if trust:
            client.starttls(context=trust)
        client.ehlo("client.example")
        for domain in domains:
            client.mail(f"{who}@sender.example", options)
            client.rcpt(f"{who}@{domain}")
            code, text = client.data(content)
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
    if how not in ARRIVED and begun:
        raise RuntimeError("a mail was begun with whom it must not")
    if how in ARRIVED and len(taken) != 1:
        raise RuntimeError(f"{len(taken)} copies came")
    clear = [one for one in begun if not one.is_tls]
    if how in (VERIFIED, ENCRYPTED) and clear:
        raise RuntimeError("a mail was begun in the clear")
    if how == CLEAR and not clear:
        raise RuntimeError("it was not sent in the clear")
    if how in ARRIVED and taken[0].peer.address != hosts[at].address:
        raise RuntimeError("another host got it")


class Sender(Node):
    """Merpati, which sends by MX whatever it is given, and tries once an hour."""

    def __init__(self, binary, folder, address, resolver, tables=(), delivery=None, dns=None,
                 environment=None):
        """`resolver`: the place of one; `delivery`, `dns`: more options of these sections; with a
        `trust_anchor` it must come to prove what the DNS says."""
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
        ], environment, hostname="sender.example")
        if "trust_anchor" in (dns or {}):
            wait_until("DNSSEC", lambda: PROVES in self.metrics(), self.process)

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

    def metrics(self):
        with urllib.request.urlopen(self.http + "/metrics", timeout=60) as answer:
            return answer.read().decode().splitlines()

    def command(self, *words):
        """What the command line says, as text."""
        done = subprocess.run(
            [self.binary, *words, "--socket", self.data / "control.sock"],
            capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr


def says(node, command, told, names, word):
    """What `merpati trace`, or `merpati explain tls`, says of each of these mails must have the
    word. `told`: of node.send; `names`: recipients."""
    for name in names:
        id, _ = told[name.split("@")[1]]
        words = ("trace", id) if command == "trace" else ("explain", "tls", name.split("@")[1])
        text = node.command(*words)
        if not re.search(word, text):
            raise RuntimeError(f"merpati {' '.join(words)} says nothing of {word}: {text}")


def as_it_says(line):
    """What became of a mail by the line about its attempt."""
    outcome = line["outcomes"][0]
    why = json.dumps(line)
    if outcome["outcome"] != "Delivered":
        return outcome["outcome"].lower(), why
    if not line["tls"]:
        return CLEAR, why
    return (VERIFIED if line["tls_demand"] in PROVEN else ENCRYPTED), why


def with_roots(root):
    """The environment of a process that trusts this root and no other."""
    return {**os.environ, "SSL_CERT_FILE": str(root)}
