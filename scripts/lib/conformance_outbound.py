"""A relay among next hops of a case, and what became of each mail.

    out = Outbound(t, [
        Way("554 banner", "failed 5.7.1", {"greeting": "554 5.7.1 no"}),
        Way("421, and a second host", "delivered", {"greeting": "421 busy"}, hosts=2),
    ])
    out.play()       sends a mail by each way, all at once, and holds it to what is wanted

A way has a route of its own: `wN.example` to its hosts. The first host follows the script, with
`once` only until the second MAIL or the end of its first session, with `once="session"` until the
latter; all else is as usual. What is wanted is one text for each
recipient: what each attempt came to, as `class of the trouble, delivered`. The last one is
`delivered`, `failed CODE` (and the sender gets a report), or the class for which it waits.
"""

import copy
import dataclasses
import re
import time

from conformance_kit import Failed, shown
from conformance_peers import USUAL, Gone, Peer, Session

EXTENSIONS = ("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES")
MESSAGE = b"Subject: x\r\n\r\ntext\r\n"
# Who is silent is given up soon.
WAITS = "".join(f"{what}_wait = \"5 s\"\n" for what in
                ("greeting", "command", "data", "data_block", "data_end", "connect"))
CONFIGURATION = """
[server]
hostname = "mx.ours.example"
data_dir = "$data"
drain_wait = "1 s"
http_listen = []
[log]
to = "$log"
[spool]
segment_size = "8 MiB"
disk_free_min = "1 MiB"
[relay]
networks = ["127.0.0.0/8"]
[[listener]]
name = "mx"
kind = "relay"
listen = ["127.0.0.1:0"]
connections_per_address_max = 1000
[[route]]
name = "reports"
recipient_domains = ["sender.example"]
to = "smtp://$sink"
"""
RETRY = '[retry]\nfirst_wait = "1 s"\nlongest_wait = "1 s"\n'


class Talk(Session):
    """A session that keeps what both sides said, in order."""

    def __init__(self, peer, connection, script):
        super().__init__(copy.copy(peer), connection)
        self.peer.script = script
        self.dialogue, self.slow, self.begun = [], b"", 0

    def command(self, line):
        if line.upper().startswith(b"MAIL"):
            self.begun += 1
            if self.peer.once is True and self.begun > 1:
                self.peer.script = USUAL
        self.dialogue.append(("R", line + b"\r\n"))
        super().command(line)

    def answer(self, key, line):
        said = super().answer(key, line)
        slow, self.slow = self.slow, b""
        if said.startswith(b"421"):
            # RFC 5321 §3.8: the end of the connection.
            raise Gone
        return slow or said

    def send(self, octets):
        if octets:
            self.dialogue.append(("H", octets))
            super().send(octets)

    def handshake(self):
        super().handshake()
        self.dialogue.append(("-", b"TLS"))

    def end(self, line, wire, content):
        self.dialogue.append(("R", b"(content)"))
        super().end(line, wire, content)


class Hop(Peer):
    """A scripted next hop; `once`: as of a Way."""

    def __init__(self, script=None, once=False, **options):
        options.setdefault("extensions", EXTENSIONS)
        super().__init__(script, **options)
        self.once = once

    def serve(self, connection):
        connection.settimeout(120)
        is_bad = not (self.once and self.sessions)
        session = Talk(self, connection, self.script if is_bad else USUAL)
        self.sessions.append(session)
        session.run()
        with self.changed:
            self.changed.notify_all()


@dataclasses.dataclass
class Way:
    """`settings`: lines of the route; `parameters`: of MAIL; `options`: of the hop; `shows`: the
    dialogue is in the transcript."""

    name: str
    want: object
    script: dict = dataclasses.field(default_factory=dict)
    once: object = False
    hosts: int = 1
    scheme: str = "smtp"
    settings: str = ""
    parameters: str = ""
    content: bytes = MESSAGE
    options: dict = dataclasses.field(default_factory=dict)
    shows: bool = True
    hops: list = dataclasses.field(default_factory=list)
    id: str = ""

    @property
    def wants(self):
        return [self.want] if isinstance(self.want, str) else list(self.want)

    def recipients(self, number):
        return [f"r{at}@w{number}.example" for at in range(len(self.wants))]


class Outbound:
    """The relay, with a route for each way. `configuration`: more of it; `delivery`: lines of that
    section; `retry`: that section."""

    def __init__(self, t, ways, configuration="", delivery=WAITS, retry=RETRY):
        self.t, self.ways = t, ways
        self.sink = t.peer()
        toml = CONFIGURATION + configuration + "[delivery]\n" + delivery + retry
        for number, way in enumerate(ways):
            first = Hop(way.script, way.once, **self.options(way))
            others = [Hop(lmtp=way.scheme == "lmtp") for _ in range(way.hosts - 1)]
            way.hops = [first, *others]
            for hop in way.hops:
                t.stack.callback(hop.close)
            to = ", ".join(f"{way.scheme}://{hop.place}" for hop in way.hops)
            toml += (f'[[route]]\nname = "w{number}"\nrecipient_domains = ["w{number}.example"]\n'
                     f'to = "{to}"\n{way.settings}\n')
        self.relay = t.own_relay(toml=toml, peer=self.sink)

    def options(self, way):
        options = dict(way.options)
        if options.get("tls"):
            from conformance_relay import server_context
            options.setdefault("context", server_context(self.t.bench.certificate))
        if way.scheme == "lmtp":
            options["lmtp"] = True
        return options

    def submit(self, number):
        """A mail by this way; its id."""
        way = self.ways[number]
        sender = f"<w{number}@sender.example> {way.parameters}".strip()
        way.id = self.hand_over(sender, way.recipients(number), way.content)
        return way.id

    def hand_over(self, sender, recipients, content):
        """A mail that is none of the transcript's business; its id."""
        lines = len(self.t.lines)
        with self.t.connect(self.relay.mx) as c:
            c.hello()
            c.envelope(sender, *recipients)
            c.say("DATA", "354")
            stuffed = re.sub(rb"(?m)^\.", b"..", content)
            c.send(stuffed + b".\r\n")
            reply = c.reply("250 2.0.0")
        del self.t.lines[lines:]
        return re.search(r"queued as (\S+)", reply.text)[1]

    def attempts(self, id, count):
        """The lines of the log about so many attempts at a message."""
        def ready():
            found = [line for line in self.relay.log("Attempted") if line["id"] == id]
            return found if len(found) >= count else None
        return wait(ready, f"{count} attempts")

    def outcomes(self, number):
        """For each recipient what each attempt came to."""
        way = self.ways[number]
        counts = [want.count(",") + 1 for want in way.wants]
        found = []

        def ready():
            found[:] = [[] for _ in way.wants]
            for line in self.relay.log("Attempted"):
                for outcome in line["outcomes"] if line["id"] == way.id else ():
                    found[outcome["recipient"]].append(word_for(outcome))
            return all(len(one) >= count for one, count in zip(found, counts))
        try:
            wait(ready, "all attempts")
        except Failed:
            pass
        return [", ".join(one[:count]) for one, count in zip(found, counts)]

    def play(self):
        for number in range(len(self.ways)):
            self.submit(number)
        wrong = []
        for number, way in enumerate(self.ways):
            found = self.outcomes(number)
            if found != way.wants:
                wrong.append(f"{way.name}: {found}")
        if wrong:
            raise Failed("; ".join(wrong))
        for number in range(len(self.ways)):
            self.account(number)
            self.show(number)

    def account(self, number):
        """Each recipient got it so often as is right, or the sender a report."""
        way = self.ways[number]
        if all(want.endswith("delivered") or "failed" in want for want in way.wants):
            wait(lambda: any(line["id"] == way.id for line in self.relay.log("Retired")), "the end")
        for recipient, want in zip(way.recipients(number), way.wants):
            # A lone dot is no mail.
            copies = sum(mail.wire != b"" for hop in way.hops for mail in hop.mails_to(recipient))
            if way.scheme == "smtp" and copies != int(want.endswith("delivered")):
                raise Failed(f"{way.name}: {copies} copies for {recipient}")
            if "failed" in want:
                self.report(number, recipient)

    def report(self, number, recipient):
        """The report of a failure to the sender; the one that names this recipient."""
        sender = f"w{number}@sender.example"
        name = recipient.encode()
        found = self.sink.wait(lambda: [mail for mail in self.sink.mails_to(sender)
                                        if name in mail.content])
        if not found or not found[0].sender.startswith("<>"):
            raise Failed(f"{self.ways[number].name}: no report to {sender}")
        return found[0]

    def show(self, number):
        """What was said with the hosts, and what came of it."""
        way, t = self.ways[number], self.t
        t.note(f"{way.name}: {'; '.join(way.wants)}")
        if not way.shows:
            return
        is_over = way.wants[-1].endswith("delivered") or "failed" in way.wants[-1]
        first = way.hops[0].sessions
        scripted = [one for one in first if one.peer.script is not USUAL or not way.once]
        # Who waits is tried again and again.
        for count, session in enumerate(scripted if is_over else scripted[:1]):
            if count:
                t.note("again")
            for who, octets in session.dialogue:
                if not octets.startswith((b"QUIT", b"221 2.0.0 bye")):
                    t.show(who, octets)
        if len(scripted) < len(first):
            t.note("then as usual")
        for number, hop in enumerate(way.hops[1:], 2):
            if hop.sessions:
                t.note(f"then host {number}, as usual")


def word_for(outcome):
    if outcome["outcome"] == "Delivered":
        return "delivered"
    if outcome["outcome"] == "Deferred":
        return outcome["class"]
    words = re.split("[ -]", outcome["reply"])
    is_enhanced = len(words) > 1 and re.fullmatch(r"5\.\d+\.\d+", words[1])
    return "failed " + (words[1] if is_enhanced else words[0])


def wait(ready, what, seconds=60):
    """Asks again until this gives something true; gives it."""
    end = time.monotonic() + seconds
    while not (found := ready()):
        if time.monotonic() >= end:
            raise Failed(f"in {seconds} s not: {what}")
        time.sleep(0.05)
    return found


def slowly(octets):
    """An answer, an octet in each segment."""
    def answer(session, _):
        for octet in octets:
            session.socket.sendall(bytes([octet]))
            time.sleep(0.002)
        session.dialogue.append(("H", octets))
        session.slow = octets
        return b""
    return answer


def for_ever(octets, pause=0.0):
    """An answer without end."""
    def answer(session, _):
        session.dialogue.append(("H", octets + b" (and again, without end)"))
        while True:
            session.socket.sendall(octets)
            time.sleep(pause)
    return answer
