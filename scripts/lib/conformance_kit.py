"""What the cases of the conformance suite are written with.

A case is a function. It talks to a relay over sockets, octet by octet; whatever goes over them is
its transcript, which is committed in docs/conformance and must come out the same in each run.

    from conformance_kit import case, missing

    @case("A8", "verbs and keywords are read in any case", "RFC 5321 §2.4")
    def any_case(t):
        relay = t.relay()                          # contrib/referee/run, shared by all cases
        with t.connect(relay.mx) as c:             # relay.mx, .submission, .submissions
            c.reply("220")                         # reads one whole reply and compares
            c.say("eHlO client.example", "250")    # sends a line with CRLF, then reply()
            c.say("MAIL FROM:<a@b.example>", "250 2.1.0")
            c.send(b"RCPT TO:<u@ours.ex", b"ample>\r\n")   # segments; then
            c.reply("250 2.1.5|550")               # alternatives; "5xx" is any of a class
            c.say("QUIT", "221")
            c.closed()

    missing("B46", "the HTTP API takes no mail yet")
    elsewhere("L1", "the rule", "RFC 7208", "crates/auth/tests/vectors/spf.rs", "cargo test")

Many cases may bear one id (the variants of a row). Also at hand:

    c.hello()  c.envelope(from, to...)  c.content(octets)    the usual, each step checked
    c.starttls()          STARTTLS and the handshake; t.connect(place, tls=True) from the start
    c.silent()            nothing comes within a moment; c.rest() whatever comes until it closes
    t.connect(place, source="127.0.0.9")       the relay trusts this address, and it alone
    t.login(c)            AUTH PLAIN as USER with PASSWORD
    relay.arrived("u@ours.example")    waits for mail to it at the next hop: .sender .content …
    t.own_relay("listener.mx.command_wait=1 s", NEXT_HOP=…)   one for this case alone
    t.own_relay(toml="…$data $sink $cert $key $dns $password…")   with a whole configuration
    relay.ask("/v1/queue")  relay.metrics()  relay.log()  relay.process      what it tells
    t.peer({"RCPT": "550 5.1.1 no"})    a scripted server: see conformance_peers.Peer
    t.dns("a.example MX 10 mx.a.example", …)    DNS of the case's own: conformance_peers.Dns
    t.address(1)  t.port()              a loopback address of the case's own; a free port
    t.note("text")        a line of the transcript; t.hide(text, "name") keeps one out of it
    t.check(condition, "what must be so")       Failed unless so
"""

import dataclasses
import hashlib
import pathlib
import re
import socket
import ssl
import time

# How many rows each group of the catalogue has.
CATALOGUE = {"A": 22, "B": 56, "C": 24, "D": 19, "E": 20, "F": 18, "G": 14, "H": 14, "I": 18,
             "J": 18, "K": 28, "L": 35, "M": 22, "P": 12}
USER, PASSWORD = "ani", "correct horse battery staple"
OURS, TRUSTED = "ours.example", "127.0.0.9"
# How long a reply may take on a busy machine.
PATIENCE_SECONDS = 30
# Longer pieces are abbreviated in transcripts.
SHOWN_OCTETS = 320

CASES, MISSING, ELSEWHERE = [], {}, {}


class Failed(Exception):
    """What a case found to be otherwise than it must be."""


@dataclasses.dataclass
class Case:
    """`slow`: takes more than some seconds, and is left out with --smoke."""

    id: str
    rule: str
    reference: str
    run: object
    slow: bool

    @property
    def group(self):
        return self.id[0]

    @property
    def order(self):
        return self.id[0], int(self.id[1:])


def case(ids, rule, reference, slow=False):
    """Registers a function as a case of this row of the catalogue.

    `ids` is one id or several with blanks: the case then counts for each, and its transcript is
    shown with the first.
    """

    def register(run):
        if any(one.id == ids.split()[0] and one.rule == rule for one in CASES):
            raise ValueError(f"{ids}: there is a case with this rule")
        CASES.append(Case(ids.split()[0], rule, reference, run, slow))
        ALSO.update({other: ids.split()[0] for other in ids.split()[1:]})
        return run

    return register


# Rows that are shown by a case of another row.
ALSO = {}


def missing(ids, reason):
    """Says why a row has no case."""
    for one in ids.split():
        MISSING[one] = reason


def elsewhere(id, rule, reference, path, run_by):
    """A row whose test is another file of the repository, run by something else."""
    if not (pathlib.Path(__file__).resolve().parents[2] / path).exists():
        raise ValueError(f"{id}: there is no {path}")
    ELSEWHERE[id] = rule, reference, path, run_by


def escaped(octets):
    """Octets as printable ASCII: `\\r`, `\\n`, `\\x00`; a backslash is doubled."""
    return "".join(ESCAPES[octet] for octet in octets)


def shown(octets):
    """As escaped, but long ones by beginning, end, length and hash."""
    if len(octets) <= SHOWN_OCTETS:
        return escaped(octets)
    digest = hashlib.sha256(octets).hexdigest()[:16]
    middle = f" [… {len(octets)} octets in all, SHA-256 {digest} …] "
    return escaped(octets[:120]) + middle + escaped(octets[-60:])


@dataclasses.dataclass
class Reply:
    """One reply: its code, its lines without CRLF and code, all its octets."""

    code: int
    lines: list
    octets: bytes

    @property
    def text(self):
        return "\n".join(self.lines)

    def matches(self, pattern):
        """`250`, `250 2.1.0`, `5xx`, or several of them with `|` between."""
        return any(self._matches(one.strip()) for one in pattern.split("|"))

    def _matches(self, pattern):
        code, _, enhanced = pattern.partition(" ")
        same = str(self.code) == code or (code[1:] == "xx" and str(self.code)[0] == code[0])
        return same and (not enhanced or all(
            line == enhanced or line.startswith(enhanced + " ") for line in self.lines))


class Client:
    """A connection to a relay, with its transcript."""

    def __init__(self, case, place, source=None, name="C", tls=False, context=None,
                 server_name="mx.ours.example"):
        self.t, self.name = case, name
        self.context, self.server_name = context, server_name
        self.buffer = b""
        self.host = None
        self.socket = socket.create_connection(
            place, PATIENCE_SECONDS, (source, 0) if source else None)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.handshake()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *segments, quiet=False):
        """Octets, each argument as a segment of its own. `quiet`: not in the transcript."""
        for at, segment in enumerate(segments):
            if at:
                # Gives the other side the time to read the last one by itself.
                time.sleep(0.003)
            if not quiet:
                self.t.log(self.name, shown(segment))
            try:
                self.socket.sendall(segment)
            except (BrokenPipeError, ConnectionResetError):
                self.t.log("S", "(has closed already)")
                return

    def reply(self, *patterns):
        """One reply for each pattern; the last one. Without a pattern any reply will do."""
        found = None
        for pattern in patterns or (None,):
            found = self._reply()
            if pattern is not None and not found.matches(pattern):
                raise Failed(f"expected {pattern}, got {escaped(found.octets)}")
        return found

    def say(self, line, *patterns):
        """A command line, then its replies."""
        octets = line if isinstance(line, bytes) else line.encode()
        self.send(octets + b"\r\n")
        return self.reply(*patterns) if patterns else None

    def hello(self, name="client.example", greeting=True):
        """The greeting and EHLO; the keywords offered, with their parameters.

        In the transcript it is one line: A2 shows what is said.
        """
        before = len(self.t.lines)
        if greeting:
            self.reply("220")
        lines = self.say(f"EHLO {name}", "250").lines[1:]
        del self.t.lines[before:]
        self.t.log("-", ("greeting, " if greeting else "") + f"EHLO {name}")
        pairs = (line.partition(" ") for line in lines)
        return {keyword.upper(): parameters for keyword, _, parameters in pairs}

    def envelope(self, sender, *recipients):
        """MAIL and RCPT, each accepted. Parameters may follow a `>`."""
        for word, path in [("MAIL FROM", sender), *(("RCPT TO", one) for one in recipients)]:
            path = path if "<" in path else f"<{path}>"
            self.say(f"{word}:{path}", "250")

    def content(self, octets, pattern="250 2.0.0"):
        """DATA, and octets that need no dots doubled, with the end behind them."""
        self.say("DATA", "354")
        self.send(octets + b".\r\n")
        return self.reply(pattern)

    def starttls(self, context=None):
        """STARTTLS, and the handshake."""
        self.say("STARTTLS", "220")
        self.handshake(context)

    def handshake(self, context=None):
        """TLS from here on."""
        context = context or self.context or self.t.trust
        self.socket = context.wrap_socket(self.socket, server_hostname=self.server_name)
        self.t.log("-", "TLS")

    def silent(self, seconds=0.3):
        """Nothing comes meanwhile, and the connection stays."""
        if self.buffer:
            raise Failed(f"unexpected: {escaped(self.buffer)}")
        self.socket.settimeout(seconds)
        try:
            octets = self.socket.recv(65_536)
            raise Failed(f"unexpected: {escaped(octets) or 'closed'}")
        except (TimeoutError, ssl.SSLWantReadError):
            self.t.log("S", "(nothing)")
        finally:
            self.socket.settimeout(PATIENCE_SECONDS)

    def closed(self):
        """The relay closes, without another octet."""
        rest = self.rest(quiet=True)
        if rest:
            raise Failed(f"expected the end, got {escaped(rest)}")
        self.t.log("S", "(closes)")

    def rest(self, quiet=False):
        """All octets until the relay closes."""
        octets, self.buffer = self.buffer, b""
        while piece := self._read():
            octets += piece
        if not quiet:
            for line in octets.splitlines(keepends=True):
                self.t.log("S", shown(line))
            self.t.log("S", "(closes)")
        return octets

    def _read(self):
        try:
            return self.socket.recv(65_536)
        except TimeoutError:
            raise Failed("nothing came in time") from None
        except (ConnectionResetError, ssl.SSLEOFError, ssl.SSLError):
            return b""

    def _line(self):
        while b"\n" not in self.buffer:
            piece = self._read()
            if not piece:
                raise Failed(f"closed instead of a reply; before that {escaped(self.buffer)}")
            self.buffer += piece
        line, self.buffer = self.buffer.split(b"\n", 1)
        line += b"\n"
        self.t.log("S", shown(line))
        return line

    def _reply(self):
        """Holds each reply to RFC 5321 §4.2 and, but for 220, EHLO and 3yz, to RFC 2034."""
        octets, lines, is_last = b"", [], False
        while not is_last:
            line = self._line()
            octets += line
            found = REPLY_LINE.fullmatch(line)
            if not found or len(line) > 512 or (lines and int(found[1]) != code):
                raise Failed(f"not a line of a reply: {escaped(line)}")
            code, is_last = int(found[1]), found[2] != b"-"
            lines.append(found[3].decode("utf-8", "backslashreplace"))
        first = lines[0].split(" ")[0]
        if code == 220 and not ENHANCED.match(first):
            self.host = first
        is_plain = code in (220, 334, 354) or (code == 250 and first == self.host)
        for line in () if is_plain else lines:
            if not ENHANCED.match(line) or line[0] != str(code)[0]:
                raise Failed(f"no enhanced code of its class (RFC 2034): {code} {line}")
        return Reply(code, lines, octets)


ESCAPES = [chr(octet) if 32 <= octet < 127 else f"\\x{octet:02x}" for octet in range(256)]
ESCAPES[ord("\r")], ESCAPES[ord("\n")], ESCAPES[ord("\t")] = "\\r", "\\n", "\\t"
ESCAPES[ord("\\")] = "\\\\"
REPLY_LINE = re.compile(rb"([2-5][0-5][0-9])([ -]|(?=\r\n))([^\r\n\x00]*)\r\n")
ENHANCED = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?: |$)")
