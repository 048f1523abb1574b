"""swaks as a proxy (PROXY protocol 1 and 2) and as a filter (XCLIENT) that introduces others.

Whom a listed peer names is the client in the log, in Received and for the relay's networks; from
who is not listed, neither is believed (docs/listeners.md).
"""

import subprocess
import tempfile
import time

from conformance_peers import Peer
from interop_clients import content_of
from interop_mails import ASCII
from interop_net import ADDRESSES, same
from interop_relay import RELAY, Node, listener, to_peers
from peers import ZONE

# Of swaks: one that is listed for both, and one that is not.
LISTED, STRANGER = "127.25.0.31", "127.25.0.32"
# Clients that it names: one that may relay, and one that may not.
KNOWN, UNKNOWN = "198.51.100.7", "198.51.100.8"
PATIENCE = 30


class Trial:
    """A relay with a listener for proxies and one for filters, and its next hop."""

    def __init__(self, score, node, peer):
        self.score, self.node, self.peer = score, node, peer
        self.count = 0

    def swaks(self, source, listener, *options):
        """One mail by swaks from this address; whether swaks is content, and the recipient."""
        self.count += 1
        recipient = f"budi+{self.count}@hop.{ZONE}"
        with tempfile.NamedTemporaryFile() as file:
            file.write(content_of("swaks", ASCII))
            file.flush()
            done = subprocess.run(
                ["swaks", "--server", f"{RELAY}:{self.node.ports[listener]}", "--silent", "2",
                 "--local-interface", source, "--helo", "client.example",
                 "--from", f"ani@hop.{ZONE}", "--to", recipient, "--data", f"@{file.name}",
                 *options],
                capture_output=True, timeout=60, stdin=subprocess.DEVNULL,
            )
        return done, recipient

    def taken(self, name, client, *arguments):
        """It is accepted as from this client, and the log and the Received field say so."""

        def check():
            done, recipient = self.swaks(LISTED, *arguments)
            if done.returncode:
                raise RuntimeError(done.stdout + done.stderr)
            if not self.peer.wait(lambda: self.peer.mails_to(recipient), PATIENCE):
                raise RuntimeError("nothing arrived")
            mail = self.peer.mails_to(recipient)[0]
            # swaks itself sends an empty line behind the data of a file.
            if not same(content_of("swaks", ASCII) + b"\r\n", mail.content):
                raise RuntimeError(f"came out differently: {mail.content!r}")
            if f"[{client}]".encode() not in mail.content.split(b"\r\n\r\n")[0]:
                raise RuntimeError(f"Received does not name {client}: {mail.content[:400]!r}")
            seen = [told for told in self.node.events("Accepted") if recipient in told["to"]]
            if [told["peer"].rsplit(":", 1)[0] for told in seen] != [client]:
                raise RuntimeError(f"the log names another client: {seen}")

        self.score.case(name, check)

    def refused(self, name, source, rule, *arguments):
        """Nothing is accepted, and the log has the rule."""

        def check():
            before = self.rules()
            done, recipient = self.swaks(source, *arguments)
            if not done.returncode:
                raise RuntimeError(f"swaks is content: {done.stdout}")
            end = time.monotonic() + PATIENCE
            while self.rules().count(rule) <= before.count(rule):
                if time.monotonic() > end:
                    raise RuntimeError(f"no {rule} in the log: {self.rules()} {done.stdout}")
                time.sleep(0.05)
            if any(recipient in told["to"] for told in self.node.events("Accepted")):
                raise RuntimeError("it was accepted")

        self.score.case(name, check)

    def rules(self):
        """Of all refusals of sessions that ended."""
        return [rule for told in self.node.events("SessionEnded") for rule in told["refusals"]]


def by_proxy(version, client):
    """The options of swaks for a header that names this client."""
    family = ("TCP4",) if version == 1 else ("AF_INET", "--proxy-protocol", "STREAM")
    return ("--proxy-version", str(version), "--proxy-family", *family,
            "--proxy-source", client, "--proxy-source-port", "40000",
            "--proxy-dest", "192.0.2.25", "--proxy-dest-port", "25")


def by_xclient(client):
    return ("--xclient-addr", client, "--xclient-port", "40000", "--xclient-name", "[UNAVAILABLE]",
            "--xclient-helo", "introduced.example", "--xclient-proto", "ESMTP")


def cases(trial):
    for version in (1, 2):
        header = by_proxy(version, KNOWN)
        trial.taken(f"swaks: PROXY {version}, listed", KNOWN, "proxied", *header)
        trial.refused(f"swaks: PROXY {version}, listed, for one who may not relay", LISTED,
                      "relay-denied", "proxied", *by_proxy(version, UNKNOWN))
        trial.refused(f"swaks: PROXY {version}, not listed", STRANGER,
                      # Version 2 is octets that are no command of SMTP.
                      "proxy-denied" if version == 1 else "bare-lf", "proxied", *header)
    trial.refused("swaks: listed, without the header", LISTED, "proxy-header", "proxied")
    trial.taken("swaks: XCLIENT, listed", KNOWN, "introduced", *by_xclient(KNOWN))
    trial.refused("swaks: XCLIENT, listed, for one who may not relay", LISTED,
                  "relay-denied", "introduced", *by_xclient(UNKNOWN))
    # It is not offered there. swaks goes on without it, as who it is.
    trial.refused("swaks: XCLIENT, not listed", STRANGER, "relay-denied", "introduced",
                  "--xclient-optional", *by_xclient(KNOWN))


def proxied(score, net, binary, folder):
    """`net`: an `Internet`."""
    tables = [
        listener("proxied", "relay", proxy_from=[LISTED]),
        listener("introduced", "relay", xclient_from=[LISTED]),
        *to_peers(net, networks=[KNOWN]),
    ]
    peer = Peer(address=ADDRESSES["hop"], port=net.port)
    try:
        with Node(binary, folder, tables) as node:
            cases(Trial(score, node, peer))
    finally:
        peer.close()
