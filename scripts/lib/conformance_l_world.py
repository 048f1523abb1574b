"""Group L: a relay that looks at strangers, the DNS that it asks, and what it then says of a mail.

    world = World(t, "a.example TXT v=spf1 ip4:127.0.0.40 -all", …)
    world.judge("what is special", letter(), "spf=pass dmarc=none", sender="x@a.example")

What is wanted is a list of methods with their results, several with commas, `|` between those that
are as good. What is not named is not judged; but each mail that arrives must have one field of
results of ours, well-formed, below our Received, then Received-SPF, then itself, octet for octet.
"""

import collections
import re

from conformance_kit import Failed, escaped

CLIENT, US = "127.0.0.40", "mx.ours.example"
PERMITS = f"v=spf1 ip4:{CLIENT} -all"
# Until this time a signature holds, or since it no longer does.
LATE, EARLY = "4102444800", "1000000000"
# Said in front of a mail, where nothing else is shown.
USUAL = "EHLO client.example, MAIL FROM:<ani@none.example>, RCPT, DATA"
Entry = collections.namedtuple("Entry", "method result comments reason properties")
OURS = re.compile(
    rb"Received: (?:[^\r\n]|\r\n[ \t])*\r\n"
    rb"(Authentication-Results: mx\.ours\.example;(?:[^\r\n]|\r\n[ \t])*\r\n)"
    rb"(Received-SPF: (?:[^\r\n]|\r\n[ \t])*\r\n)")
WORD = re.compile(r'(?:"(?:\\[ -~]|[^"\\])*"|[^\s;()"\\])+')
KEY = re.compile(r"[A-Za-z][A-Za-z0-9-]*(?:\.[A-Za-z][A-Za-z0-9-]*)?\Z")
# A value, an address or a domain (RFC 8601 §2.2, RFC 2045 §5.1).
VALUE = re.compile(r"(?:\"(?:\\[ -~]|[^\"\\])*\"|[^\s()<>@,;:\\\"/\[\]?=]+"
                   r"|(?:[^\s()<>@,;:\\\"\[\]]+)?@[A-Za-z0-9.-]+)\Z")


def letter(author="Ani <ani@a.example>", body=b"hi\r\n", more=b""):
    return b"From: " + author.encode() + b"\r\nTo: u@ours.example\r\nSubject: x\r\n" + more \
        + b"\r\n" + body


def strings(*texts):
    """A TXT record of these strings, in hexadecimal."""
    octets = [text if isinstance(text, bytes) else text.encode() for text in texts]
    return "TYPE16 " + b"".join(bytes([len(one)]) + one for one in octets).hex()


class World:
    def __init__(self, t, *records, settings=(), **environment):
        self.t, self.count = t, 0
        t.note(f"each mail comes with {USUAL}, where nothing else is said; F: fields of ours on top")
        self.dns = t.dns(*records)
        self.relay = t.own_relay("listener.mx.proxy_from=127.0.0.1", *settings, peer=t.peer(),
                                 DNS_ADDR=self.dns.place, SENDER_DOMAIN="any", **environment)

    def judge(self, what, content, want="", reply="250 2.0.0", sender="ani@none.example",
              helo="client.example", proxied=None, parameters="", kept=None):
        """What is said of this mail; the reply, where it is refused. `proxied`: an address that a
        proxy names, for those of loopback have no PTR; `kept`: what must arrive, where that is not
        all."""
        t, self.count = self.t, self.count + 1
        recipient = f"u{self.count}@ours.example"
        t.note(what)
        try:
            said = self.hand_over(content, recipient, reply, (sender, parameters), (helo, proxied))
            if said.code != 250:
                return said
            results = Results(t, self.relay.arrived(recipient).content,
                              content if kept is None else kept, want)
            results.hold(want)
        except Failed as why:
            raise Failed(f"{what}: {why}") from None
        return results

    def hand_over(self, content, recipient, reply, sender, client):
        t, (helo, proxied) = self.t, client
        (address, parameters), lines = sender, len(self.t.lines)
        with t.connect(self.relay.mx, source=None if proxied else CLIENT) as c:
            here = "TCP6 {} 2001:db8::25" if ":" in (proxied or "") else "TCP4 {} 192.0.2.25"
            if proxied:
                c.send(f"PROXY {here.format(proxied)} 4711 25\r\n".encode())
            c.hello(helo)
            c.envelope(f"<{address}>{parameters}", recipient)
            c.say("DATA", "354")
            del t.lines[lines:]
            via = f"PROXY {here.format(proxied)}, " if proxied else ""
            said = (f"{via}EHLO {escaped(helo.encode())}, "
                    f"MAIL FROM:<{escaped(address.encode())}>{parameters}, RCPT, DATA")
            if said != USUAL:
                t.log("-", said)
            c.send(content + b".\r\n")
            return c.reply(reply)

    def asked(self, end):
        """The names below `end` that were asked for, once each, in order."""
        return list(dict.fromkeys(name for name, _ in self.dns.queries if name.endswith(end)))


class Results:
    """The fields on top of a mail, read by the letter of RFC 8601 §2.2."""

    def __init__(self, t, content, kept, want):
        found = OURS.match(content)
        if not found:
            raise Failed(f"no fields of ours below our Received: {escaped(content[:2_000])}")
        if content[found.end():] != kept:
            raise Failed(f"the mail is not as it was: {escaped(content[found.end():][:2_000])}")
        self.above = found[0]
        show(t, found, [wanted.partition("=")[0] for wanted in want.split()])
        self.received_spf = unfolded(found[2])
        self.entries = [entry(part) for part in parts(unfolded(found[1]))]

    def all(self, method):
        return [one for one in self.entries if one.method == method]

    def hold(self, want):
        for wanted in want.split():
            method, _, results = wanted.partition("=")
            got = [one.result for one in self.all(method)]
            alike = [one.split("|") for one in results.split(",")]
            if len(got) != len(alike) or any(it not in good for it, good in zip(got, alike)):
                raise Failed(f"want {wanted}, got {method}={','.join(got)}")

    def says(self, method, at=0, **properties):
        """Properties of a result, `_` for the dot: header_d="a.example"."""
        of = self.all(method)[at].properties
        for name, wanted in properties.items():
            got = of.get(name.replace("_", ".", 1))
            if got != wanted:
                raise Failed(f"{method}: want {name} {wanted}, got {got}")


def show(t, found, methods):
    """Of our fields what is judged, or all of them."""
    if not methods or methods[0] == "spf":
        for octets in found.groups():
            t.log("F", escaped(octets))
        return
    for octets in found[1].removesuffix(b"\r\n").split(b";\r\n\t"):
        if octets.partition(b"=")[0].decode() in methods:
            t.log("F", f"… {escaped(octets)} …")


def unfolded(octets):
    """The value of a field in one line; Failed where it has what no field may have."""
    text = octets.decode("ascii", "backslashreplace").partition(":")[2]
    if any(len(line) > 998 or not line.strip() for line in text.rstrip("\r\n").split("\r\n")):
        raise Failed(f"a line of a field is too long, or empty: {text}")
    text = re.sub(r"\r\n(?=[ \t])", "", text).removesuffix("\r\n")
    if not re.fullmatch(r"[ -~\t]*", text) or "\\x" in text:
        raise Failed(f"octets that are not printable: {text}")
    return text


def parts(text):
    """What stands between the semicolons, each as words and comments; without our name."""
    found, at = [[]], 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
        elif text[at] == ";":
            found.append([])
            at += 1
        elif text[at] == "(":
            start, at = at, end_of_comment(text, at)
            found[-1].append(text[start:at])
        elif word := WORD.match(text, at):
            found[-1].append(word[0])
            at = word.end()
        else:
            raise Failed(f"not a word at {at}: {text}")
    if found[0] != [US]:
        raise Failed(f"our name does not stand first: {text}")
    return found[1:]


def end_of_comment(text, at):
    depth = 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        depth += {"(": 1, ")": -1}.get(text[at:at + 1], 0)
        at += 1
        if not depth:
            return at
    raise Failed(f"a comment without an end: {text}")


def entry(words):
    """One result; Failed where it is not well-formed."""
    comments = [word for word in words if word.startswith("(")]
    pairs = [word.partition("=") for word in words if not word.startswith("(")]
    if not pairs:
        raise Failed(f"an empty result: {words}")
    for name, equals, value in pairs:
        if not (KEY.match(name) and equals and VALUE.match(value)):
            raise Failed(f"not well-formed: {name}{equals}{value}")
    names = [name for name, _, _ in pairs[1:]]
    if len(set(names)) != len(names) or any("." not in name for name in names if name != "reason"):
        raise Failed(f"odd properties: {names}")
    properties = {name: re.sub(r'^"(.*)"$', r"\1", value) for name, _, value in pairs[1:]}
    return Entry(pairs[0][0], pairs[0][2], comments, properties.pop("reason", ""), properties)
