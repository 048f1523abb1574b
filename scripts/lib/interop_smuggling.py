"""Smuggling: what looks like the end of the data to somebody, to us alone and before real servers.

Behind each sequence stand commands of another transaction. Whoever took the sequence for the end
would have a second message, for a recipient who must never get anything (RFC 5321 §4.1.1.4).
"""

import collections
import re
import socket
import time

from conformance_b import NEIGHBOURS, SEQUENCES
from conformance_peers import Peer
from interop_mails import ROOT
from interop_net import ADDRESSES, JUDGES, same
from interop_relay import RELAY, Node, listener, to_peers
from peers import ZONE, recipient_of

HEAD = b"Subject: outer\r\n\r\ntext"
# CHUNKING has no end of data: there the true one is one more sequence.
TRUE_END = b"\r\n.\r\n"
WAYS = ("DATA", "BDAT", "BDAT in two chunks")
VICTIM, SMUGGLED = "victim", "smuggled"
STUFFED = re.compile(rb"(\A|\r\n)\.")
BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)|\0")
PATIENCE = 60


def sequences():
    """Those of the conformance suite, and the public list where it lies beside the checkout."""
    found = [*SEQUENCES.values(), *NEIGHBOURS]
    listed = ROOT.parent / "shared/vectors/smuggling/eod-sequences.yaml"
    if listed.exists():
        found += map(bytes.fromhex, re.findall(r'hex: "([0-9a-f]+)"', listed.read_text()))
    return list(dict.fromkeys(found))


def inner(domain):
    """The commands of the transaction that must not come about."""
    return (f"MAIL FROM:<{SMUGGLED}@b.example>\r\nRCPT TO:<{SMUGGLED}@{domain}>\r\nDATA\r\n"
            "Subject: inner\r\n\r\nx\r\n.\r\n").encode()


class Raw:
    """A client that sends octets as they are."""

    def __init__(self, place):
        self.socket = socket.create_connection(place, 30)
        self.stream = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.socket.close()

    def reply(self):
        while True:
            line = self.stream.readline()
            if not line.endswith(b"\r\n"):
                raise RuntimeError(f"no reply: {line!r}")
            if line[3:4] != b"-":
                return int(line[:3])

    def say(self, octets, code):
        self.socket.sendall(octets)
        if (found := self.reply()) != code:
            raise RuntimeError(f"{found} in place of {code} to {octets!r}")


    def chunk(self, octets, last=b""):
        self.socket.sendall(b"BDAT %d%s\r\n" % (len(octets), last) + octets)
        return self.reply()


def offer(place, recipient, octets, way):
    """One transaction with this content: the code it got.

    There is one reply to all of it, and the session is in step behind it.
    """
    with Raw(place) as client:
        if client.reply() != 220:
            raise RuntimeError("no greeting")
        client.say(b"EHLO client.example\r\n", 250)
        client.say(f"MAIL FROM:<ani@hop.{ZONE}>\r\n".encode(), 250)
        client.say(f"RCPT TO:<{recipient}>\r\n".encode(), 250)
        if way == "DATA":
            client.say(b"DATA\r\n", 354)
            client.socket.sendall(octets)
            code = client.reply()
        else:
            # The first of two chunks ends behind the first octet of the sequence.
            cut = len(HEAD) + 1 if way == WAYS[2] else 0
            codes = [client.chunk(octets[:cut])] if cut else []
            codes.append(client.chunk(octets[cut:], b" LAST"))
            # A chunk that is refused takes those behind it with it.
            code = max(codes)
            if codes[-1] != code:
                raise RuntimeError(f"{codes} to the chunks of {octets!r}")
        client.say(b"NOOP\r\n", 250)
        client.say(b"QUIT\r\n", 221)
        if rest := client.stream.read():
            raise RuntimeError(f"replies that nobody asked for: {rest!r}")
    return code


def offer_all(node, domain):
    """Every sequence in every way: how many, and the contents of those accepted, by recipients.

    What holds a bare CR or LF or a NUL is refused, and nothing else is (docs/messages.md).
    """
    accepted, offered = {}, 0
    for way in WAYS:
        for sequence in [*sequences(), *([TRUE_END] if way != "DATA" else [])]:
            recipient = f"{VICTIM}+{offered}@{domain}"
            offered += 1
            octets = HEAD + sequence + inner(domain)
            code = offer((RELAY, node.ports["mx"]), recipient, octets, way)
            if code != (550 if BARE.search(octets) else 250):
                raise RuntimeError(f"{code} to {sequence!r} by {way}")
            if code == 250:
                is_stuffed = way == "DATA"
                accepted[recipient] = re.sub(STUFFED, rb"\1", octets[:-3]) if is_stuffed else octets
    return offered, accepted


def expect_idle(node):
    end = time.monotonic() + PATIENCE
    while node.waiting():
        if time.monotonic() > end:
            raise RuntimeError(f"these wait: {node.waiting()}")
        time.sleep(0.05)


def alone(node, peer):
    """To a scripted server, octet by octet: one message each, and nothing bare in what goes out."""
    offered, accepted = offer_all(node, f"hop.{ZONE}")
    expect_idle(node)
    arrived = collections.Counter(recipient for mail in peer.mails for recipient in mail.recipients)
    if arrived != collections.Counter({f"<{one}>": 1 for one in accepted}):
        raise RuntimeError(f"accepted {len(accepted)}, arrived {arrived}")
    for mail in peer.mails:
        content = accepted[mail.recipients[0].strip("<>")]
        if not mail.content.endswith(content):
            raise RuntimeError(f"came out differently: {content!r} {mail.content!r}")
    for session in peer.sessions:
        if bare := BARE.search(session.octets):
            around = session.octets[max(0, bare.start() - 200):bare.end() + 200]
            raise RuntimeError(f"bare octets went out: {around!r}")
    print(f"        {offered} transactions: {len(accepted)} messages, the others refused")


def before(node, name, peer):
    """To a real server, which undoes dots and ends lines as it likes."""
    offered, accepted = offer_all(node, peer.domain)
    expect_idle(node)
    arrived = collections.defaultdict(list)
    end = time.monotonic() + PATIENCE
    # Another moment when all are there: none may come behind them.
    is_over = False
    while not is_over:
        is_over = sum(map(len, arrived.values())) >= len(accepted)
        if time.monotonic() > end:
            break
        time.sleep(1 if is_over else 0.05)
        for raw in peer.maildir.take():
            arrived[recipient_of(raw)].append(raw)
    counts = {recipient: len(raws) for recipient, raws in arrived.items()}
    if counts != {recipient: 1 for recipient in accepted}:
        raise RuntimeError(f"accepted {len(accepted)}, arrived {counts}")
    for recipient, content in accepted.items():
        if not JUDGES.get(name, same)(content, arrived[recipient][0]):
            raise RuntimeError(f"came out differently: {content!r} {arrived[recipient][0]!r}")
    print(f"        {offered} transactions: {len(accepted)} messages, the others refused")


def smuggling(score, net, binary, folder):
    """`net`: an `Internet`, whose mailboxes nobody else empties meanwhile."""
    with Node(binary, folder, [listener("mx", "relay"), *to_peers(net)]) as node:
        peer = Peer(address=ADDRESSES["hop"], port=net.port)
        try:
            score.case("smuggling: Merpati alone", lambda: alone(node, peer))
        finally:
            peer.close()
        for name in ("postfix", "exim"):
            score.case(
                f"smuggling: in front of {name}",
                lambda name=name: before(node, name, net.peers[name]),
            )
