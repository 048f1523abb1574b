"""The side of a mail server in the milter protocol, version 6: one message, and what a filter adds.

Fields go as Postfix and Sendmail give them: the value with all that stands behind the colon, folds
as LF. The body goes as it is on the wire.
"""

import re
import socket
import struct

VERSION = 6
# SMFIF_ADDHDRS and SMFIF_CHGHDRS
ACTIONS = 0x11
# What a filter may ask for: no such step; no reply to it; values with the blank behind the colon.
NO_STEP = {b"C": 0x1, b"H": 0x2, b"M": 0x4, b"R": 0x8, b"B": 0x10, b"L": 0x20, b"N": 0x40, b"T": 0x200}
NO_REPLY = {b"C": 0x1000, b"H": 0x2000, b"M": 0x4000, b"R": 0x8000, b"B": 0x80000, b"L": 0x80,
            b"N": 0x40000, b"T": 0x10000}
LEADING_BLANK = 0x100000
CHUNK = 65_535


class Milter:
    """One connection to the filter at the Unix socket `place`."""

    def __init__(self, place):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(60)
        self.socket.connect(str(place))
        self.stream = self.socket.makefile("rb")

    def __enter__(self):
        offered = sum(NO_STEP.values()) | sum(NO_REPLY.values()) | LEADING_BLANK
        self.send(b"O", struct.pack(">3I", VERSION, ACTIONS, offered))
        kind, chosen = self.read()
        if kind != b"O":
            raise RuntimeError(f"milter: {kind} {chosen}")
        self.chosen = struct.unpack(">3I", chosen[:12])[2]
        return self

    def __exit__(self, *_):
        self.send(b"Q", b"")
        self.stream.close()
        self.socket.close()

    def send(self, kind, data):
        self.socket.sendall(struct.pack(">I", 1 + len(data)) + kind + data)

    def read(self):
        length = int.from_bytes(self.stream.read(4))
        packet = self.stream.read(length)
        return packet[:1], packet[1:]

    def step(self, kind, data):
        """False when the filter wants to see no more of this message."""
        if self.chosen & NO_STEP[kind]:
            return True
        self.send(kind, data)
        if self.chosen & NO_REPLY[kind]:
            return True
        answer, said = self.read()
        if answer not in b"ca":
            raise RuntimeError(f"milter: {answer} {said} to {kind} {data[:200]}")
        return answer == b"c"

    def added(self, content, sender, recipient):
        """Names and values of the fields that the filter puts on top, from the top."""
        header, _, body = content.partition(b"\r\n\r\n")
        steps = [
            (b"C", b"client.example\x004\x00\x19127.0.0.1\0"),
            (b"H", b"client.example\0"),
            (b"M", f"<{sender}>\0".encode()),
            (b"R", f"<{recipient}>\0".encode()),
            (b"T", b""),
        ]
        for field in re.split(rb"\r\n(?![ \t])", header.removesuffix(b"\r\n")):
            name, _, value = field.partition(b":")
            if not self.chosen & LEADING_BLANK:
                value = value.removeprefix(b" ")
            steps.append((b"L", name + b"\0" + value.replace(b"\r\n", b"\n") + b"\0"))
        steps.append((b"N", b""))
        steps += [(b"B", body[at:at + CHUNK]) for at in range(0, len(body), CHUNK)]
        for kind, data in steps:
            if not self.step(kind, data):
                return []
        self.send(b"E", b"")
        found = []
        while True:
            kind, data = self.read()
            if kind == b"i":
                name, value = data[4:].split(b"\0")[:2]
                found.insert(int.from_bytes(data[:4]), (name, value))
            elif kind == b"h":
                found.append(tuple(data.split(b"\0")[:2]))
            elif kind in b"ca":
                return found
            elif kind not in b"mp":
                raise RuntimeError(f"milter: {kind} {data} at the end")
