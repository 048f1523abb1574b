"""`merpati import postfix`: mail takes the same way through a Postfix and through what it became.

A real Postfix runs with each configuration, and Merpati with what was imported from its folder. Both
get the same senders and recipients from trusted clients and from strangers; compared are the class
of the reply to RCPT and the next hop at which each mail arrives, with its envelope.
"""

import os
import pathlib
import smtplib
import subprocess
import time

from conformance_peers import Dns, Peer
from interop_mails import HEADER
from peers import free_ports
from servers import Postfix, Server, serve

NETWORK = "127.26.0."
POSTFIX, MERPATI = NETWORK + "1", NETWORK + "2"
# Clients: one in `mynetworks`, one that is not, and one that is excepted from it in one place.
CLIENTS = {"trusted": NETWORK + "9", "stranger": "127.26.1.9", "excepted": NETWORK + "14"}
# Next hops by what they are for.
HOPS = {"inside": NETWORK + "11", "lists": NETWORK + "12", "hub": NETWORK + "13"}
DNS = NETWORK + "53"
SENDERS = ("ani@sender.example", "eka@elsewhere.example")
PATIENCE = 30
# Postfix asks who stands in this file, and knows no other port: it gets one of its own.
OWN_RESOLVER = (
    "unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
)

OURS = "ours.example"
# `{inside}` and the like stand for `[address]:port`, `{tables}` for the folder of the tables. With
# `dns`, records of the whole DNS, the next hops listen on port 25.
CONFIGURATIONS = {
    "null client": {
        "main": """
            myhostname = app1.ours.example
            myorigin = $mydomain
            mydestination =
            mynetworks_style = host
            mynetworks = 127.26.0.8/29
            relayhost = {hub}
            smtpd_relay_restrictions = permit_mynetworks, reject
        """,
        "recipients": ["budi@foreign.example", f"citra@{OURS}", "dewi@app1.ours.example"],
    },
    "gateway": {
        "main": """
            myhostname = gate.ours.example
            myorigin = ours.example
            mydestination =
            local_transport = error:there are no mailboxes here
            mynetworks = 127.26.0.8/29
            relay_domains = ours.example, lists.ours.example
            parent_domain_matches_subdomains = debug_peer_list smtpd_access_maps
            smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
            relay_recipient_maps = texthash:{tables}/recipients
            transport_maps = texthash:{tables}/transport
            relayhost = {hub}
            sender_dependent_relayhost_maps = inline:{{@elsewhere.example={lists}}}
        """,
        "tables": {
            "transport": """
                ours.example        smtp:{inside}
                lists.ours.example  relay:{lists}
                .ours.example       smtp:{inside}
            """,
            "recipients": """
                ani@ours.example    x
                budi@ours.example   x
                @lists.ours.example x
            """,
        },
        "recipients": [
            f"ani@{OURS}", f"Budi@{OURS}", f"nobody@{OURS}", f"ani+tag@{OURS}", f"any@lists.{OURS}",
            f"any@branch.{OURS}", f"any@deep.branch.{OURS}", "budi@foreign.example",
            "budi@notours.example",
        ],
    },
    "behind a firewall": {
        "main": """
            myhostname = mail.ours.example
            myorigin = $mydomain
            mydestination =
            mynetworks = !127.26.0.14, 127.26.0.8/29
            relay_domains = $mydomain
            recipient_delimiter = +
            smtpd_relay_restrictions =
                permit_mynetworks
                reject_unauth_destination
            relay_recipient_maps = inline:{{ani@ours.example=x, list@sub.ours.example=x}}
            transport_maps = inline:{{{{ ours.example = :{inside} }}, sub.ours.example=smtp:{lists}}}
            default_transport = smtp:{hub}
        """,
        "recipients": [
            f"ani@{OURS}", f"ani+tag@{OURS}", f"nobody@{OURS}", f"list@sub.{OURS}",
            f"nobody@sub.{OURS}", "budi@foreign.example",
        ],
    },
    "aliases": {
        "main": """
            myhostname = mail.ours.example
            myorigin = ours.example
            mydestination =
            mynetworks = 127.26.0.8/29
            relay_domains = ours.example
            recipient_delimiter = +
            smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
            relay_recipient_maps = inline:{{ani@ours.example=x, dewi@ours.example=x}}
            virtual_alias_domains = old.example
            virtual_alias_maps = texthash:{tables}/virtual
            transport_maps = inline:{{{{ ours.example = :{inside} }}}}
            relayhost = {hub}
        """,
        "tables": {
            "virtual": """
                info@ours.example   ani@ours.example
                away@ours.example   budi@foreign.example
                help@ours.example   info@ours.example
                sales@old.example   dewi@ours.example
            """,
        },
        "recipients": [
            f"info@{OURS}", f"Info@{OURS}", f"info+tag@{OURS}", f"away@{OURS}", f"help@{OURS}",
            f"ani@{OURS}", f"nobody@{OURS}", "sales@old.example", "nobody@old.example",
            "budi@foreign.example",
        ],
    },
    "backup MX": {
        "main": """
            myhostname = mx2.ours.example
            mydestination =
            mynetworks = 127.26.0.8/29
            relay_domains = theirs.example
            relay_recipient_maps =
            smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination
            smtpd_relay_restrictions =
            smtp_dns_support_level = enabled
            smtp_host_lookup = dns
        """,
        "dns": [
            "theirs.example MX 10 mx1.theirs.example",
            "theirs.example MX 20 mx2.ours.example",
            f"mx1.theirs.example A {HOPS['inside']}",
            f"mx2.ours.example A {POSTFIX}",
            "foreign.example MX 10 mx.foreign.example",
            f"mx.foreign.example A {HOPS['hub']}",
            f"bare.example A {HOPS['lists']}",
        ],
        "recipients": ["any@theirs.example", "budi@foreign.example", "budi@bare.example"],
    },
}
IN_SMOKE = ("gateway",)


class Imported(Server):
    """`merpati serve` with what was imported, on an address of its own."""

    def __init__(self, binary, folder, postfix, listener):
        """`postfix`: its folder with main.cf."""
        folder.mkdir(mode=0o755)
        self.folder, config = folder, folder / "merpati.toml"
        done = subprocess.run(
            [binary, "import", "postfix", postfix, "--output", config],
            capture_output=True, text=True, timeout=60, check=True,
        )
        self.told = done.stderr
        subprocess.run([binary, "config", "check", config], capture_output=True, timeout=60, check=True)
        command = [binary, "serve", "--config", config]
        for setting in (
            f"server.data_dir={folder}/data", "server.http_listen=", "server.drain_wait=1 s",
            f"log.to={folder}/log", "spool.disk_free_min=1 MiB",
            # Nobody asks the real DNS.
            f"dns.servers={DNS}:53", "delivery.allow_networks=127.0.0.0/8",
            f"listener.{listener}.listen={MERPATI}:0",
        ):
            command += ["--set", setting]
        self.process, places = serve(command, folder)
        self.port = int(places[listener].rsplit(":", 1)[1])


def plain(text, **names):
    """A text without its indentation; what is indented further stays a continuation."""
    lines = [line for line in text.format(**names).splitlines() if line.strip()]
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    return "\n".join(line[margin:] for line in lines) + "\n"


def settings(text):
    """The assignments of a main.cf, each with its continuations."""
    found = []
    for line in text.splitlines():
        if line[0].isspace():
            found[-1] += "\n" + line
        else:
            found.append(line)
    return found


class Trial:
    """The next hops, the DNS where there is one, and what came of each mail."""

    def __init__(self, records=()):
        port = 25 if records else 0
        self.hops = {name: Peer(address=address, port=port) for name, address in HOPS.items()}
        self.dns = Dns(*records, address=DNS, port=53) if records else None

    def names(self):
        return {name: f"[{peer.address}]:{peer.port}" for name, peer in self.hops.items()}

    def arrived(self):
        """Each mail since the last time as its hop, its sender and its recipient."""
        found = []
        for name, peer in self.hops.items():
            with peer.changed:
                mails, peer.mails[:] = list(peer.mails), []
            for mail in mails:
                sender = mail.sender.split(">")[0].lstrip("<")
                found += [(name, sender, one.split(">")[0].lstrip("<")) for one in mail.recipients]
        return found

    def offer(self, place, recipients):
        """Everything from every client; what came of it, by client, sender and recipient."""
        came = {}
        for client, source in CLIENTS.items():
            with smtplib.SMTP(*place, timeout=60, source_address=(source, 0)) as session:
                session.ehlo("client.example")
                for sender in SENDERS:
                    for recipient in recipients:
                        came[client, sender, recipient] = self.one(session, sender, recipient)
        return came

    def one(self, session, sender, recipient):
        """The class of the reply, and where the mail arrives if it was taken."""
        if (reply := session.mail(sender))[0] != 250:
            raise RuntimeError(f"{sender}: {reply}")
        code, _ = session.rcpt(recipient)
        if code != 250:
            session.rset()
            return code // 100, None
        reply = session.data(HEADER.format(subject="import") + "\r\nHello\r\n")
        if reply[0] != 250:
            raise RuntimeError(f"{sender}, {recipient}: {reply}")
        end = time.monotonic() + PATIENCE
        while not (found := self.arrived()):
            if time.monotonic() > end:
                return 2, "nowhere"
            time.sleep(0.02)
        if len(found) > 1:
            raise RuntimeError(f"{sender}, {recipient}: more than one arrived: {found}")
        return 2, found[0]

    def close(self):
        for one in (*self.hops.values(), *filter(None, [self.dns])):
            one.close()


def compare(binary, folder, configuration):
    """Both servers are asked the same, and answer the same."""
    tables = folder / "tables"
    tables.mkdir(mode=0o755, parents=True)
    (folder / "resolv.conf").write_text(f"nameserver {DNS}\n")
    records, recipients = configuration.get("dns", ()), configuration["recipients"]
    trial = Trial(records)
    try:
        names = trial.names() | {"tables": tables}
        for name, text in configuration.get("tables", {}).items():
            (tables / name).write_text(plain(text, **names))
        main = settings(plain(configuration["main"], **names))
        port = free_ports(1, [POSTFIX, MERPATI])[0]
        root = pathlib.Path(os.environ["POSTFIX_ROOT"])
        around = (*OWN_RESOLVER, folder / "resolv.conf") if records else ()
        with Postfix(root, folder / "postfix", 20, main, (POSTFIX, port), around=around):
            by_postfix = trial.offer((POSTFIX, port), recipients)
        conf = folder / "postfix/conf"
        with Imported(binary, folder / "merpati", conf, f"smtp-{port}") as merpati:
            by_merpati = trial.offer((MERPATI, merpati.port), recipients)
    finally:
        trial.close()
    differences = [
        f"{', '.join(case)}: Postfix {way}, Merpati {by_merpati[case]}"
        for case, way in by_postfix.items() if by_merpati[case] != way
    ]
    if differences:
        raise RuntimeError("\n".join(["they differ:", *differences, merpati.told]))
    taken = [way for code, way in by_postfix.values() if code == 2]
    refused = [code for code, _ in by_postfix.values() if code == 5]
    if not taken or len(taken) + len(refused) != len(by_postfix) or "nowhere" in taken:
        raise RuntimeError(f"the trial shows nothing: {by_postfix}")
    hops = ", ".join(sorted({hop for hop, _, _ in taken}))
    print(f"        {len(by_postfix)} mails: {len(refused)} refused, {len(taken)} arrived at {hops}")


def imports(score, binary, folder, smoke):
    """Every configuration; with `smoke` one alone."""
    for name, configuration in CONFIGURATIONS.items():
        if smoke and name not in IN_SMOKE:
            continue
        place = pathlib.Path(folder) / name.replace(" ", "-")
        score.case(
            f"import of Postfix: {name}",
            lambda place=place, one=configuration: compare(binary, place, one),
        )
