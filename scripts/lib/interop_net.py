"""A small internet on 127/8: all peers with their DNS, and whether each works without Merpati."""

import concurrent.futures
import contextlib
import smtplib
import ssl
import time

from interop_mails import behind_exim, made, same, same_behind_opensmtpd, same_in_seven_bits
from peers import (
    PASSWORD, UNKNOWN, USER, ZONE, Dovecot, Exim, Nsd, OpenSmtpd, PostfixPeer, free_ports,
    recipient_of,
)

NETWORK = "127.25.0."
MX = {"postfix": 1, "exim": 2, "opensmtpd": 3, "sevenbit": 4}
# Also found by MX, and started by the cases that need them: scripted servers and aiosmtpd.
BY_CASES = {"hop": 6, "narrow": 7, "aiosmtpd": 8}
OTHERS = {"dovecot": 5, "client": 9, "dns": 53}
ADDRESSES = {name: NETWORK + str(at) for name, at in (MX | BY_CASES | OTHERS).items()}
# Domains of Exim: one with A alone, one whose first host is dead, one with CNAME.
ODD_MX = ("implicit", "second", "alias")
JUDGES = {
    "exim": behind_exim(same),
    "opensmtpd": same_behind_opensmtpd,
    # Another Exim.
    "sevenbit": behind_exim(same_in_seven_bits),
}
# The mailboxes of Dovecot: of people, of what comes over TCP and over the Unix socket, of DSNs.
BOXES = ("ani", "budi", "tcp", "unix", "sender")


class SmartHost:
    """A port at which a peer takes any mail, after TLS and AUTH."""

    def __init__(self, peer, listen):
        self.peer = peer
        self.port, self.tls, self.mechanisms = listen
        self.address = peer.listen[0]
        self.name = f"{peer.domain.split('.')[0]}, {self.tls}, {self.mechanisms}"


class Internet:
    """All peers: `peers` by name, `dovecot`, `dns` (address and port), `smart_hosts`.

    Every mail exchanger listens on `port`, at the address to which the DNS leads.
    """

    def __init__(self, folder, certificate):
        """`certificate`: its files `chain`, `key` and `root`, for `*.interop.example`."""
        folder.mkdir(mode=0o755)
        self.stack = contextlib.ExitStack()
        self.trust = ssl.create_default_context(cafile=certificate.root)
        self.trust.check_hostname = False
        self.certificate = certificate
        addresses = list(ADDRESSES.values())
        self.port, *ports = free_ports(6, addresses)
        listens = {
            "exim": [(ports[0], "starttls", "PLAIN"), (ports[1], "starttls", "LOGIN"),
                     (ports[2], "implicit", "PLAIN LOGIN")],
            "postfix": [(ports[3], "starttls", "SCRAM-SHA-256"),
                        (ports[4], "implicit", "PLAIN LOGIN SCRAM-SHA-256")],
        }

        def start(name):
            place, domain = folder / name, f"{name}.{ZONE}"
            if name == "dns":
                return Nsd(place, (ADDRESSES["dns"], self.port), self.records())
            if name == "dovecot":
                return Dovecot(place, domain, ADDRESSES["dovecot"], BOXES)
            usual = (place, domain, (ADDRESSES[name], self.port), certificate)
            if name == "postfix":
                return PostfixPeer(*usual, accounts=(self.dovecot, listens[name]))
            if name == "opensmtpd":
                return OpenSmtpd(*usual)
            if name == "sevenbit":
                return Exim(*usual, eight_bit=False)
            return Exim(*usual, listens=listens[name], also=[f"{one}.{ZONE}" for one in ODD_MX])

        try:
            self.dovecot = self.stack.enter_context(start("dovecot"))
            with concurrent.futures.ThreadPoolExecutor() as pool:
                started = [(name, pool.submit(start, name)) for name in ("dns", *MX)]
            # Those that came up are ended even if another did not.
            came = [(name, one) for name, one in started if not one.exception()]
            self.peers = {name: self.stack.enter_context(one.result()) for name, one in came}
            for _, one in started:
                one.result()
        except BaseException:
            self.stack.close()
            raise
        self.dns = self.peers.pop("dns").listen
        self.smart_hosts = [
            SmartHost(self.peers[name], listen) for name in listens for listen in listens[name]
        ]

    def records(self):
        """MX and A of each peer, and of domains that are odd."""
        records = [
            f"implicit.{ZONE}. A {ADDRESSES['exim']}",
            f"null.{ZONE}. MX 0 .",
            f"second.{ZONE}. MX 10 nowhere.{ZONE}.",
            f"second.{ZONE}. MX 20 mx.exim.{ZONE}.",
            f"nowhere.{ZONE}. A {NETWORK}254",
            f"alias.{ZONE}. CNAME exim.{ZONE}.",
            # Where no mail may go: to ourselves, and to where nobody is outside.
            f"loop.{ZONE}. MX 10 relay.{ZONE}.",
            f"relay.{ZONE}. A {NETWORK}25",
            f"private.{ZONE}. A 10.0.0.1",
            f"dead.{ZONE}. MX 10 nowhere.{ZONE}.",
        ]
        for name in MX | BY_CASES:
            records.append(f"{name}.{ZONE}. MX 10 mx.{name}.{ZONE}.")
            records.append(f"mx.{name}.{ZONE}. A {ADDRESSES[name]}")
        return records

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()


def arrivals(maildir, count, seconds=30):
    """So many mails from a Maildir, by their recipients."""
    found, end = {}, time.monotonic() + seconds
    while len(found) < count:
        found.update((recipient_of(raw), raw) for raw in maildir.take())
        if time.monotonic() > end:
            raise RuntimeError(f"{len(found)} of {count} arrived in {seconds} s")
        time.sleep(0.02)
    return found


def submit(client, recipients, content, sender=f"ani@{ZONE}"):
    """One mail, as it is; smtplib would rewrite the ends of lines. Gives the reply that decides."""
    takes_eight = client.has_extn("8bitmime")
    options = () if content.isascii() or not takes_eight else ("BODY=8BITMIME",)
    reply = client.mail(sender, options)
    for recipient in recipients:
        if reply[0] == 250:
            reply = client.rcpt(recipient)
    if reply[0] != 250:
        client.rset()
        return reply
    client.putcmd("DATA")
    if (reply := client.getreply())[0] != 354:
        return reply
    client.send((b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")
    return client.getreply()


def hand_over(client, recipient, content):
    """One mail that must be taken."""
    if (reply := submit(client, [recipient], content))[0] != 250:
        raise RuntimeError(f"{recipient}: {reply}")


def judge(name, sent, raw):
    verdict = JUDGES.get(name, same)(sent, raw)
    if not verdict:
        raise RuntimeError(f"came out differently:\n{sent[:4000]!r}\n{raw[:4000]!r}")


def alone_by_mx(name, peer):
    """A peer keeps what smtplib brings, and refuses whom it does not know."""
    mails = made()
    with smtplib.SMTP(*peer.listen, timeout=30) as client:
        client.ehlo()
        for at, (_, content) in enumerate(mails):
            hand_over(client, f"budi+{at}@{peer.domain}", content)
        client.mail(f"ani@{ZONE}")
        for unknown in (f"{UNKNOWN}@{peer.domain}", f"budi@elsewhere.{ZONE}"):
            if client.rcpt(unknown)[0] < 550:
                raise RuntimeError(f"{unknown} is not refused")
    found = arrivals(peer.maildir, len(mails))
    for at, (_, content) in enumerate(mails):
        raw = found[f"budi+{at}@{peer.domain}"]
        # It does not offer 8BITMIME; here nobody heeds that.
        judge("exim" if name == "sevenbit" else name, content, raw)


def alone_by_smart_host(net, host):
    is_implicit = host.tls == "implicit"
    kind = smtplib.SMTP_SSL if is_implicit else smtplib.SMTP
    options = {"context": net.trust} if is_implicit else {}
    content = made()[0][1]
    with kind(host.address, host.port, timeout=30, **options) as client:
        if not is_implicit:
            client.starttls(context=net.trust)
        client.ehlo()
        offered = set(client.esmtp_features.get("auth", "").split())
        if offered != set(host.mechanisms.split()):
            raise RuntimeError(f"it offers {offered}")
        # smtplib has no SCRAM; that there is a mechanism it has not is what it says then.
        if offered & {"PLAIN", "LOGIN"}:
            client.login(USER, PASSWORD)
            hand_over(client, f"budi@elsewhere.{ZONE}", content)
            judge("", content, arrivals(host.peer.maildir, 1)[f"budi@elsewhere.{ZONE}"])


def alone_by_lmtp(dovecot):
    mails = made()
    for at, place in enumerate(((dovecot.address, dovecot.lmtp), (str(dovecot.lmtp_socket), 0))):
        user = ("ani", "budi")[at]
        with smtplib.LMTP(*place, timeout=30) as client:
            client.ehlo()
            for number, (_, content) in enumerate(mails):
                hand_over(client, f"{user}+{number}@{dovecot.domain}", content)
            client.mail(f"ani@{ZONE}")
            if client.rcpt(f"{UNKNOWN}@{dovecot.domain}")[0] < 550:
                raise RuntimeError("an unknown user is not refused")
        for found in (dovecot.by_imap(user), dovecot.by_pop(user)):
            found = {recipient_of(raw): raw for raw in found}
            for number, (_, content) in enumerate(mails):
                judge("", content, found[f"{user}+{number}@{dovecot.domain}"])


def peers_alone(score, net):
    """Each peer works without Merpati: what fails later is not their setting-up."""
    for name, peer in net.peers.items():
        score.case(f"{name} alone", lambda name=name, peer=peer: alone_by_mx(name, peer))
    for host in net.smart_hosts:
        score.case(f"smart host alone: {host.name}", lambda host=host: alone_by_smart_host(net, host))
    score.case("Dovecot alone: LMTP, IMAP, POP3", lambda: alone_by_lmtp(net.dovecot))
