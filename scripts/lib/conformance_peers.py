"""Servers of the cases themselves: a scripted next hop, and a small DNS.

    peer = t.peer()                                     takes everything, remembers everything
    peer = t.peer({"RCPT": ["250 2.1.5 ok", "550 5.1.1 no"]})    a list: one after the other, the
                                                        last one stays
    peer = t.peer({"greeting": "421 busy", "end": CLOSE})
    peer = t.peer({"EHLO": b"250-x\\r\\n250 SIZE\\r\\n"})    octets go out as they are
    peer = t.peer({"MAIL": lambda session, line: "250 2.1.0 ok"}, address=t.address(1), port=port)
    peer = t.peer(tls=True)                             offers STARTTLS; "implicit": from the start
    peer = t.peer(lmtp=True)                            LHLO; "end" is said once for each recipient

Keys of a script: `greeting`, a verb, `end` (the end of DATA or of BDAT LAST), `handshake` (CLOSE
instead of a TLS handshake), `data` (a function of the session in place of reading the content) and
`other`. Answers: a string (CRLF is added), octets, CLOSE, RESET, SILENT, a function of session and
line that gives one of these, or a list of them. Or `t.peer(talk=function(session))`, which does all
by itself with `session.read_line()`, `.send()`, `.socket`.

What is remembered: `peer.sessions`, each with `.octets` (all that the relay sent after TLS),
`.lines` (commands) and `.mails`; `peer.mails` in the order of their end. A mail has `.sender` and
`.recipients` (as `<a@b> PARAMETERS`), `.content` (dots undone), `.wire` (as it came), `.accepted`.
"""

import dataclasses
import re
import socket
import struct
import threading
import time

CLOSE, RESET, SILENT = object(), object(), object()
EXTENSIONS = ("PIPELINING", "SIZE 104857600", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8",
              "CHUNKING")
USUAL = {
    "greeting": "220 hop.example ESMTP", "MAIL": "250 2.1.0 ok", "RCPT": "250 2.1.5 ok",
    "DATA": "354 go on", "end": "250 2.0.0 taken", "RSET": "250 2.0.0 ok",
    "NOOP": "250 2.0.0 ok", "QUIT": "221 2.0.0 bye", "STARTTLS": "220 2.0.0 go on",
    "AUTH": "235 2.7.0 ok", "BDAT": "250 2.0.0 ok", "HELO": "250 hop.example",
    "other": "500 5.5.1 what?",
}


@dataclasses.dataclass
class Mail:
    """One transaction that came to its end."""

    sender: str
    recipients: list
    content: bytes
    wire: bytes
    accepted: bool = False


class Gone(Exception):
    """The session is over."""


class Session:
    """One connection from the relay, on a thread of its own."""

    def __init__(self, peer, connection):
        self.peer, self.socket = peer, connection
        self.octets, self.buffer, self.lines, self.mails = b"", b"", [], []
        self.said = {}
        self.sender, self.recipients, self.chunks = None, [], b""
        self.is_tls = False

    def run(self):
        try:
            if self.peer.tls == "implicit":
                self.handshake()
            if self.peer.talk:
                self.peer.talk(self)
                return
            self.answer("greeting", b"")
            while True:
                self.command(self.read_line())
        except (Gone, OSError):
            pass
        finally:
            self.socket.close()

    def read(self):
        """Whatever comes next, as a piece."""
        piece = self.socket.recv(65_536)
        if not piece:
            raise Gone
        self.octets += piece
        self.buffer += piece

    def read_until(self, end):
        while end not in self.buffer:
            self.read()
        octets, self.buffer = self.buffer.split(end, 1)
        return octets + end

    def read_line(self):
        """The next line, without its CRLF."""
        return self.read_until(b"\r\n")[:-2]

    def read_octets(self, count):
        while len(self.buffer) < count:
            self.read()
        octets, self.buffer = self.buffer[:count], self.buffer[count:]
        return octets

    def send(self, octets):
        self.socket.sendall(octets)

    def handshake(self):
        self.socket = self.peer.context.wrap_socket(self.socket, server_side=True)
        self.octets = self.buffer = b""
        self.is_tls = True

    def command(self, line):
        self.lines.append(line)
        words = line.upper().split()
        verb = words[0].decode("ascii", "replace") if words else ""
        if verb in ("EHLO", "LHLO") and verb not in self.peer.script:
            self.forget()
            self.send(self.peer.hello(self.is_tls))
        elif verb == "DATA":
            self.data(line)
        elif verb == "BDAT":
            self.chunk(line, int(words[1]), words[2:] == [b"LAST"])
        elif verb == "MAIL":
            if self.answer("MAIL", line)[:1] == b"2":
                self.sender, self.recipients = text(line)[10:].strip(), []
        elif verb == "RCPT":
            if self.answer("RCPT", line)[:1] == b"2":
                self.recipients.append(text(line)[8:].strip())
        elif verb == "STARTTLS" and self.peer.context:
            if self.answer("STARTTLS", line)[:3] == b"220":
                if self.peer.script.get("handshake") is CLOSE:
                    raise Gone
                self.handshake()
        else:
            self.answer(verb if verb in self.peer.script else "other", line)
            if verb == "RSET":
                self.forget()
            if verb == "QUIT":
                raise Gone

    def data(self, line):
        if self.answer("DATA", line)[:1] != b"3":
            return
        if "data" in self.peer.script:
            self.peer.script["data"](self)
            return
        while not (self.buffer.startswith(b".\r\n") or b"\r\n.\r\n" in self.buffer):
            self.read()
        if self.buffer.startswith(b".\r\n"):
            wire = self.read_until(b".\r\n")[:-3]
        else:
            wire = self.read_until(b"\r\n.\r\n")[:-3]
        self.end(line, wire, re.sub(rb"(\A|\r\n)\.", rb"\1", wire))

    def chunk(self, line, octets, is_last):
        self.chunks += self.read_octets(octets)
        if is_last:
            self.end(line, self.chunks, self.chunks)
        else:
            self.answer("BDAT", line)

    def end(self, line, wire, content):
        mail = Mail(self.sender, self.recipients, content, wire)
        self.mails.append(mail)
        with self.peer.changed:
            self.peer.ended.append(mail)
        # Before the reply, for what the relay says next is about this mail.
        for _ in mail.recipients if self.peer.lmtp else [None]:
            said = self.answer("end", line)
            mail.accepted |= said[:1] == b"2"
        self.forget()
        with self.peer.changed:
            if mail.accepted:
                self.peer.mails.append(mail)
            self.peer.changed.notify_all()

    def forget(self):
        self.sender, self.recipients, self.chunks = None, [], b""

    def answer(self, key, line):
        """Says what the script has for it; gives what was said."""
        answer = self.peer.script[key]
        if isinstance(answer, list):
            at = self.said[key] = self.said.get(key, -1) + 1
            answer = answer[min(at, len(answer) - 1)]
        if callable(answer):
            answer = answer(self, line)
        if answer is CLOSE:
            raise Gone
        if answer is RESET:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise Gone
        if answer is SILENT:
            # Until the relay gives up.
            while True:
                self.read()
        octets = answer if isinstance(answer, bytes) else answer.encode() + b"\r\n"
        self.send(octets)
        return octets


class Listening:
    """Something that accepts connections until it is closed, and serves each on a thread."""

    def listen(self, address, port):
        self.listener = socket.create_server((address, port), backlog=512)
        self.address, self.port = self.listener.getsockname()
        self.place = f"{self.address}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def close(self):
        # Wakes the thread in accept, which a close alone does not.
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()


class Peer(Listening):
    """A scripted server for SMTP or LMTP."""

    def __init__(self, script=None, address="127.0.0.1", port=0, extensions=EXTENSIONS, tls=False,
                 lmtp=False, context=None, talk=None):
        """`context`: of a server, where `tls` is set."""
        self.script = USUAL | (script or {})
        self.extensions, self.lmtp, self.talk = extensions, lmtp, talk
        self.tls, self.context = tls, context if tls else None
        self.sessions, self.mails, self.ended = [], [], []
        self.changed = threading.Condition()
        self.listen(address, port)

    def hello(self, is_tls):
        """The reply to EHLO."""
        offered = ["hop.example", *self.extensions]
        if self.context and not is_tls:
            offered.append("STARTTLS")
        lines = [f"250-{one}" for one in offered[:-1]] + [f"250 {offered[-1]}"]
        return "".join(f"{line}\r\n" for line in lines).encode()

    def serve(self, connection):
        connection.settimeout(120)
        # Each reply is sent alone: without this the second waits until the first is acknowledged.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = Session(self, connection)
        self.sessions.append(session)
        session.run()
        with self.changed:
            self.changed.notify_all()

    def wait(self, ready, seconds=30):
        """Waits until this gives something true, asked after each mail and session; gives it."""
        end = time.monotonic() + seconds
        with self.changed:
            while not (found := ready()):
                if not self.changed.wait(min(0.25, max(0, end - time.monotonic()))):
                    if time.monotonic() >= end:
                        return None
            return found

    def mails_to(self, recipient):
        """What was accepted for this address."""
        return [mail for mail in self.mails
                if any(one.split(">")[0].lstrip("<") == recipient for one in mail.recipients)]


def udp_with_free_tcp(address, wanted=0):
    """A UDP socket, and its port, which was free for TCP as well: somebody may ask from the one
    that is free for TCP alone. `wanted`: that port and no other."""
    while True:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((address, wanted))
        port = udp.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tcp.bind((address, port))
                return udp, port
            except OSError:
                udp.close()
                if wanted:
                    raise


class Dns(Listening):
    """DNS over UDP and TCP for loopback.

    Records are lines: `NAME A 127.0.0.1`, `NAME AAAA ::1`, `NAME MX 10 HOST`, `NAME TXT text`,
    `NAME PTR HOST`, `NAME CNAME HOST`, `NAME TYPE52 0301…` (any type, in hexadecimal); `NAME
    SERVFAIL`, `NAME REFUSED`, `NAME TIMEOUT` (no answer), `NAME DELAY 2` (seconds), `NAME TRUNCATED`
    (over UDP). A name with no record does not exist. `*.NAME` covers what is below.
    `queries` are names and types as they came.
    """

    def __init__(self, *records, address="127.0.0.1", port=0):
        self.queries, self.records = [], {}
        for record in records:
            self.add(record)
        self.udp, port = udp_with_free_tcp(address, port)
        self.listen(address, port)
        threading.Thread(target=self._datagrams, daemon=True).start()

    def add(self, record):
        """One more record, also later."""
        name, kind, *data = record.split(None, 2)
        self.records.setdefault(name.rstrip(".").lower(), []).append((kind, "".join(data)))

    def clear(self, name):
        self.records.pop(name.lower(), None)

    def close(self):
        super().close()
        self.udp.close()

    def _datagrams(self):
        while True:
            try:
                query, where = self.udp.recvfrom(4_096)
            except OSError:
                return
            threading.Thread(target=self._datagram, args=[query, where], daemon=True).start()

    def _datagram(self, query, where):
        answer = self._answer(query, False)
        try:
            if answer:
                self.udp.sendto(answer, where)
        except OSError:
            pass

    def serve(self, connection):
        connection.settimeout(30)
        try:
            with connection, connection.makefile("rb") as stream:
                while len(head := stream.read(2)) == 2:
                    answer = self._answer(stream.read(int.from_bytes(head)), True)
                    if answer:
                        connection.sendall(len(answer).to_bytes(2) + answer)
        except OSError:
            pass

    def _answer(self, query, over_tcp):
        name, at = "", 12
        while length := query[at]:
            name += query[at + 1:at + 1 + length].decode("ascii", "replace").lower() + "."
            at += 1 + length
        name = name.rstrip(".")
        kind = int.from_bytes(query[at + 1:at + 3])
        question = query[12:at + 5]
        self.queries.append((name, TYPE_NAMES.get(kind, str(kind))))
        records = self.find(name)
        flags, answers = 0x8580, []
        for type_name, data in records or ():
            if type_name == "TIMEOUT":
                return None
            if type_name == "DELAY":
                time.sleep(float(data))
            elif type_name == "TRUNCATED":
                flags |= 0x0200 if not over_tcp else 0
            elif type_name in ("SERVFAIL", "REFUSED"):
                flags = 0x8180 | (2 if type_name == "SERVFAIL" else 5)
            elif type_name == "CNAME":
                answers.append(resource(b"\xc0\x0c", type_name, data))
                answers += [resource(wire_name(data), *one) for one in self.find(data) or ()
                            if number_of(one[0]) == kind]
            elif number_of(type_name) == kind:
                answers.append(resource(b"\xc0\x0c", type_name, data))
        if flags & 0x0200:
            answers = []
        # A name exists also where only something below it does (RFC 8020).
        if records is None and not any(one.endswith("." + name) for one in self.records):
            flags |= 3
        # What does not exist is known for a second (RFC 2308).
        denial = [] if answers or flags & 7 == 2 else [resource(b"\0", "SOA", "")]
        header = struct.pack(">2sHHHHH", query[:2], flags, 1, len(answers), len(denial), 0)
        return header + question + b"".join(answers + denial)

    def find(self, name):
        """The records of a name, or of a `*` above it; None where there are none."""
        name = name.rstrip(".").lower()
        return self.records.get(name) or self.records.get("*." + name.partition(".")[2])


def text(line):
    return line.decode("utf-8", "backslashreplace")


def wire_name(name):
    labels = [label for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(one)]) + one.encode() for one in labels) + b"\0"


def number_of(type_name):
    return TYPES.get(type_name) or int(type_name.removeprefix("TYPE") or 0)


def resource(owner, type_name, data):
    """A record of an answer."""
    if type_name == "A":
        rdata = socket.inet_aton(data)
    elif type_name == "AAAA":
        rdata = socket.inet_pton(socket.AF_INET6, data)
    elif type_name == "MX":
        preference, host = data.split()
        rdata = int(preference).to_bytes(2) + wire_name(host)
    elif type_name == "TXT":
        octets = data.encode()
        pieces = [octets[at:at + 255] for at in range(0, len(octets), 255)] or [b""]
        rdata = b"".join(bytes([len(one)]) + one for one in pieces)
    elif type_name in ("PTR", "CNAME"):
        rdata = wire_name(data)
    elif type_name == "SOA":
        rdata = wire_name("ns.example") + wire_name("postmaster.example")
        rdata += struct.pack(">IIIII", 1, 60, 60, 60, 1)
    else:
        rdata = bytes.fromhex(data)
    return owner + struct.pack(">HHIH", number_of(type_name), 1, 60, len(rdata)) + rdata


TYPES = {"A": 1, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28}
TYPE_NAMES = {number: name for name, number in TYPES.items()} | {52: "TLSA", 2: "NS"}
