"""Group C, the server's half: pipelining, STARTTLS, and what is injected around it (RFC 2920, 3207)."""

import base64
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import warnings

from conformance_kit import PASSWORD, USER, Failed, case, escaped
from conformance_relay import certify

CONTENT = b"Subject: x\r\n\r\nhello\r\n"
PLAIN = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()


@case("C1", "MAIL, RCPT, a refused RCPT and DATA in one segment are answered in order",
      "RFC 2920 §3.1")
def pipelined(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c1@ours.example>\r\n"
               b"RCPT TO:<c1@other.example>\r\nDATA\r\n")
        c.reply("250 2.1.0", "250 2.1.5", "550 5.7.1", "354")
        c.send(CONTENT + b".\r\n")
        c.reply("250 2.0.0")
        c.send(b"RSET\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c1@other.example>\r\n"
               b"RCPT TO:<c1-2@ours.example>\r\nFOO\r\nRCPT TO:<c1-3@ours.example>\r\nDATA\r\n")
        c.reply("250 2.0.0", "250 2.1.0", "550 5.7.1", "250 2.1.5", "500 5.5.2", "250 2.1.5", "354")
        c.send(CONTENT + b".\r\nQUIT\r\n")
        c.reply("250 2.0.0", "221 2.0.0")
        c.closed()
    t.relay().arrived("c1@ours.example")
    t.relay().arrived("c1-3@ours.example")


@case("C2", "the end of the data and the next transaction in one segment", "RFC 2920 §3.1")
def across_end(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.envelope("a@b.example", "c2-0@ours.example")
        c.say("DATA", "354")
        for at in range(1, 4):
            c.send(CONTENT + b".\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c2-%d@ours.example>\r\n"
                   b"DATA\r\n" % at)
            c.reply("250 2.0.0", "250 2.1.0", "250 2.1.5", "354")
        c.send(CONTENT + b".\r\nRSET\r\nQUIT\r\n")
        c.reply("250 2.0.0", "250 2.0.0", "221 2.0.0")
        c.closed()
    for at in range(4):
        t.relay().arrived(f"c2-{at}@ours.example")


@case("C3", "MAIL and 40 or 400 RCPT in one segment get as many replies", "RFC 2920 §3.1")
def many_recipients(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        for count in (40, 400):
            lines = [b"RCPT TO:<c3-%d@ours.example>\r\n" % at for at in range(count)]
            c.send(b"MAIL FROM:<a@b.example>\r\n" + b"".join(lines))
            before = len(t.lines)
            c.reply("250 2.1.0", *["250 2.1.5"] * count)
            del t.lines[before:]
            t.note(f"{count + 1} replies, all 250")
            c.silent(0.05)
            c.say("RSET", "250")


@case("C4", "a whole session of one octet per segment works", "RFC 5321 §2.3.8")
def octets(t):
    session = (b"EHLO client.example\r\nNOOP\r\nMAIL FROM:<a@b.example>\r\n"
               b"RCPT TO:<c4@ours.example>\r\nDATA\r\n")
    with t.connect(t.relay().mx) as c:
        c.reply("220")
        t.note("each octet in a segment of its own:")
        for line in session.splitlines(keepends=True):
            t.log("C", escaped(line))
            for octet in line:
                c.send(bytes([octet]), quiet=True)
            c.reply("250|354")
        t.log("C", escaped(CONTENT + b".\r\nQUIT\r\n"))
        for octet in CONTENT + b".\r\nQUIT\r\n":
            c.send(bytes([octet]), quiet=True)
        c.reply("250 2.0.0", "221 2.0.0")
        c.closed()
    content = t.relay().arrived("c4@ours.example").content
    t.check(content.endswith(CONTENT), "whole")


TAILS = {
    "a command": b"NOOP\r\n",
    "a transaction": b"EHLO evil.example\r\nMAIL FROM:<smuggled@b.example>\r\n"
                     b"RCPT TO:<c8@ours.example>\r\nDATA\r\n",
    "half a command": b"NOOP part",
    "half a line that TLS would complete": b"RSET\r\nNOOP\r\nNO",
    "an octet": b"N",
    "a line end": b"\r\n",
    "much": b"NOOP\r\n" * 3_000,
}


@case("C8", "what comes in the clear behind STARTTLS is never taken as said over TLS",
      "RFC 3207 §5, CVE-2011-0411, CVE-2021-33515")
def injected(t):
    for name, tail in TAILS.items():
        t.note(f"behind STARTTLS, in its segment: {name}")
        with t.connect(t.relay().mx) as c:
            c.hello()
            c.send(b"STARTTLS\r\n" + tail)
            if c.reply("220|554 5.5.0|554 5.5.1").code != 220:
                c.closed()
                continue
            try:
                c.handshake()
            except (ssl.SSLError, OSError):
                t.note("the handshake fails")
                continue
            c.silent(0.1)
            c.say("MAIL FROM:<a@b.example>", "503 5.5.1")
            c.say("NOOP", "250 2.0.0")
            c.say("EHLO client.example", "250")
            c.say("RCPT TO:<c8@ours.example>", "503 5.5.1")
    t.check(not t.relay().peer.mails_to("c8@ours.example"), "nothing of it was run")


@case("C8", "the same in a segment of its own, before the handshake", "RFC 3207 §5")
def injected_later(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.send(b"STARTTLS\r\n")
        # What comes before this may be read together with STARTTLS, and is the case above.
        c.reply("220")
        c.send(b"MAIL FROM:<smuggled@b.example>\r\nRCPT TO:<c8@ours.example>\r\n")
        t.note("that is no TLS: the connection ends, and nothing more is said in the clear")
        octets = c.rest(quiet=True)
        t.check(not re.search(rb"250|503|500", octets), "no reply")


@case("C9", "AUTH in the clear behind STARTTLS authenticates nobody", "RFC 3207 §4.2, §5")
def auth_injected(t):
    for tail in (f"AUTH PLAIN {PLAIN}\r\n", f"EHLO x\r\nAUTH PLAIN {PLAIN}\r\n",
                 f"AUTH PLAIN\r\n{PLAIN}\r\n"):
        with t.connect(t.relay().submission) as c:
            c.hello()
            c.send(b"STARTTLS\r\n" + tail.encode())
            if c.reply("220|554").code != 220:
                continue
            try:
                c.handshake()
            except (ssl.SSLError, OSError):
                continue
            c.silent(0.05)
            c.hello(greeting=False)
            c.say("MAIL FROM:<ani@ours.example>", "530 5.7.0")


@case("C10", "STARTTLS forgets EHLO, the transaction and AUTH", "RFC 3207 §4.2")
def forgotten(t):
    relay = t.own_relay("listener.mx.auth=allow-clear")
    with t.connect(relay.mx) as c:
        c.hello()
        c.say(f"AUTH PLAIN {PLAIN}", "235 2.7.0")
        c.say("MAIL FROM:<ani@ours.example>", "250")
        c.say("RCPT TO:<c10@other.example>", "250")
        c.starttls()
        c.say("DATA", "503 5.5.1")
        c.say("RCPT TO:<c10@ours.example>", "503 5.5.1")
        c.say("MAIL FROM:<a@b.example>", "503 5.5.1")
        c.send(b"BDAT 6 LAST\r\nQUIT\r\n")
        c.reply("503 5.5.1")
        c.hello(greeting=False)
        c.say("DATA", "503 5.5.1")
        c.say("MAIL FROM:<a@b.example>", "250 2.1.0")
        c.say("RCPT TO:<c10@other.example>", "550 5.7.1")
        c.say("RCPT TO:<c10@ours.example>", "250 2.1.5")
        c.content(CONTENT)
    content = relay.arrived("c10@ours.example").content
    t.check(b" with ESMTPS id " in content, "with ESMTPS, for nobody is authenticated")


@case("C11", "EHLO over TLS offers no STARTTLS, and AUTH on the submission port", "RFC 3207 §4.2")
def second_ehlo(t):
    for place in (t.relay().mx, t.relay().submission):
        with t.connect(place) as c:
            before = c.hello()
            t.check("STARTTLS" in before and "AUTH" not in before, "before TLS")
            c.starttls()
            after = c.say("EHLO client.example", "250").lines
            words = [line.split()[0] for line in after]
            t.check("STARTTLS" not in words, "no STARTTLS")
            t.check("AUTH" in words, "AUTH")
    with t.connect(t.relay().submissions, tls=True) as c:
        t.check("STARTTLS" not in c.hello(), "no STARTTLS where TLS runs from the start")


@case("C12", "a second STARTTLS is 503", "RFC 3207 §4")
def second_starttls(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.starttls()
        c.say("STARTTLS", "503 5.5.1")
        c.hello(greeting=False)
        c.say("STARTTLS", "503 5.5.1")
        c.say("NOOP", "250")
    with t.connect(t.relay().submissions, tls=True) as c:
        c.hello()
        c.say("STARTTLS", "503 5.5.1|502 5.5.1")
        c.say("NOOP", "250")


@case("C12", "STARTTLS in a transaction or before EHLO", "RFC 3207 §4")
def starttls_out_of_turn(t):
    with t.connect(t.relay().mx) as c:
        c.reply("220")
        c.say("STARTTLS", "503 5.5.1|220")
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.say("MAIL FROM:<a@b.example>", "250")
        if c.say("STARTTLS", "503 5.5.1|220").code == 220:
            c.handshake()
            c.say("RCPT TO:<c12@ours.example>", "503 5.5.1")


@case("C13", "while the certificate cannot be loaded STARTTLS is 454, and the session goes on",
      "RFC 3207 §4")
def no_certificate(t):
    folder = t.folder()
    broken = folder / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n")
    good = t.bench.certificate
    for chain, key in ((folder / "missing.pem", good.key), (broken, good.key), (good.chain, broken)):
        relay = t.own_relay(TLS_CERT=chain, TLS_KEY=key)
        with t.connect(relay.mx) as c:
            t.check("STARTTLS" not in c.hello(), "it is not offered")
            c.say("STARTTLS", "454 4.7.0")
            c.say("NOOP", "250")
            c.envelope("a@b.example", "c13@ours.example")
            c.content(CONTENT)
        relay.arrived("c13@ours.example")
        with t.connect(relay.submissions) as c:
            t.note("the port that speaks TLS from the start")
            c.send(b"EHLO client.example\r\n")
            t.check(not re.search(rb"\A[25]", c.rest(quiet=True)), "no reply in the clear")
        t.check(b"certificate" in relay.output.read_bytes(), "the operator is told")


@case("C14", "what is no ClientHello ends its connection, and no other", "RFC 8446 §6.2")
def garbage(t):
    relay = t.relay()
    for octets in (b"EHLO client.example\r\n", b"\0" * 500, b"\xff" * 500, b"\x16\x03\x01\x02",
                   b"\x16\x03\x01\xff\xff" + b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n",
                   b"\x80\x2e\x01\x03\x01", b"\x15\x03\x01\x00\x02\x02\x28", b"\x17\x03\x03\0\x05abcde"):
        with t.connect(relay.mx) as c:
            c.hello()
            c.say("STARTTLS", "220")
            c.send(octets)
            if len(octets) < 6:
                t.note("the client closes")
                continue
            answer = c.rest(quiet=True)
            t.check(not answer or answer[:1] == b"\x15", "an alert or nothing")
            t.log("S", "(an alert, or nothing; closes)")
    halves = []
    for _ in range(20):
        half = socket.create_connection(relay.mx, 30)
        half.recv(1_000)
        half.sendall(b"EHLO x\r\n")
        half.recv(1_000)
        half.sendall(b"STARTTLS\r\n")
        half.recv(1_000)
        half.sendall(hello_octets(b"mx.ours.example")[:40])
        halves.append(half)
    t.note("20 connections stop in the middle of their ClientHello; meanwhile another one:")
    with t.connect(relay.mx) as c:
        c.hello()
        c.starttls()
        c.hello(greeting=False)
        c.envelope("a@b.example", "c14@ours.example")
        c.content(CONTENT)
    for half in halves:
        half.close()
    relay.arrived("c14@ours.example")


def context_of(t, low, high, ciphers=None):
    context = ssl.create_default_context(cafile=t.bench.certificate.root)
    if ciphers:
        context.set_ciphers(ciphers)
    context.minimum_version, context.maximum_version = low, high
    return context


def fails(t, place, context, what):
    """The handshake comes to nothing on both ports with TLS."""
    for implicit in (False, True):
        port = t.relay().submissions if implicit else place
        with t.connect(port) as c:
            if not implicit:
                c.hello()
                c.say("STARTTLS", "220")
            try:
                c.handshake(context)
            except (ssl.SSLError, ConnectionResetError) as why:
                t.note(f"{what}: the handshake fails")
                t.check(not isinstance(why, ssl.SSLCertVerificationError), "not for the certificate")
                continue
            raise Failed(f"{what}: {c.socket.version()} {c.socket.cipher()}")


@case("C15", "clients that speak TLS 1.0 or 1.1 at most get no session", "RFC 8996 §2")
def old_versions(t):
    versions = ssl.TLSVersion
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for high in (versions.TLSv1, versions.TLSv1_1):
            context = context_of(t, versions.TLSv1, high, "ALL:@SECLEVEL=0")
            fails(t, t.relay().mx, context, f"at most {high.name}")
    # By hand, whatever the library still knows: versions of SSL 3.0 to TLS 1.1 in a ClientHello.
    for minor in (0, 1, 2):
        with t.connect(t.relay().mx) as c:
            c.hello()
            c.say("STARTTLS", "220")
            c.send(hello_octets(b"mx.ours.example", minor), quiet=True)
            t.note(f"ClientHello of version 3.{minor}")
            answer = c.rest(quiet=True)
            t.check(answer[:1] == b"\x15" or not answer, "an alert")
            t.check(len(answer) < 7 or answer[6] in (70, 40), "protocol_version or handshake_failure")


@case("C16", "TLS 1.2 and 1.3 with AEAD and ephemeral keys; no older cipher, no compression",
      "RFC 9325 §3, §4")
def modern(t):
    versions = ssl.TLSVersion
    for version in (versions.TLSv1_2, versions.TLSv1_3):
        with t.connect(t.relay().mx) as c:
            c.hello()
            c.starttls(context_of(t, version, version))
            name, said, _ = c.socket.cipher()
            t.note(f"{c.socket.version()} {name}" if version == versions.TLSv1_3
                   else f"{c.socket.version()}")
            t.check("GCM" in name or "CHACHA20" in name, "AEAD")
            t.check(name.startswith(("ECDHE", "TLS_")), "ephemeral keys")
            t.check(c.socket.compression() is None, "no compression")
            c.hello(greeting=False)
    for ciphers in ("AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA",
                    "ECDHE-RSA-AES256-SHA384", "DHE-RSA-AES128-GCM-SHA256", "aNULL", "eNULL", "PSK"):
        try:
            context = context_of(t, versions.TLSv1_2, versions.TLSv1_2, f"{ciphers}:@SECLEVEL=0")
        except ssl.SSLError:
            continue
        fails(t, t.relay().mx, context, ciphers)


@case("C16", "no renegotiation, no early data", "RFC 9325 §3.5, RFC 8446 §2.3")
def no_renegotiation(t):
    certificate = t.bench.certificate
    command = ["openssl", "s_client", "-connect", "{}:{}".format(*t.relay().mx), "-starttls", "smtp",
               "-CAfile", certificate.root, "-servername", "mx.ours.example"]
    with subprocess.Popen([*command, "-tls1_2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as client:
        said = b""
        while b"250 " not in said.split(b"---")[-1]:
            said += client.stdout.read1()
        # `R` begins a renegotiation. Where it is refused this client waits for ever.
        client.stdin.write(b"R\n")
        client.stdin.flush()
        timer = threading.Timer(2, client.kill)
        timer.start()
        said += client.stdout.read()
        timer.cancel()
    t.check(b"RENEGOTIATING" in said, "it was tried")
    t.check(said.count(b"depth=0") == 1, f"there is no second handshake: {said[-300:]}")
    t.note("renegotiation in TLS 1.2: refused")
    done = subprocess.run([*command, "-tls1_3"], input=b"QUIT\r\n", capture_output=True, timeout=60)
    t.check(b"Max Early Data: 0" in done.stdout or b"Max Early Data" not in done.stdout,
            "no early data")
    t.note("tickets of TLS 1.3 allow no early data")


@case("C21", "a port with TLS from the start says nothing in the clear", "RFC 8314 §3.3")
def clear_on_implicit(t):
    for octets in (b"EHLO client.example\r\n", b"NOOP\r\n" * 100, b"QUIT\r\n", b"\r\n"):
        with t.connect(t.relay().submissions) as c:
            c.send(octets)
            answer = c.rest(quiet=True)
            t.check(not answer or answer[:1] == b"\x15", f"no reply: {escaped(answer)}")
            t.log("S", "(an alert of TLS, or nothing; closes)")


@case("C22", "a ClientHello on a port with STARTTLS is told so, once, and logged", "RFC 3207 §4")
def hello_in_clear(t):
    for place in (t.relay().mx, t.relay().submission):
        with t.connect(place) as c:
            c.reply("220")
            c.send(hello_octets(b"mx.ours.example"))
            c.reply("421 4.7.0|500 5.5.2|554 5.5.0")
            c.closed()
        with t.connect(place) as c:
            t.note("before the greeting")
            c.send(hello_octets(b"mx.ours.example"))
            c.reply("220|421|554")
            octets = c.rest(quiet=True)
            t.check(octets.count(b"\r\n") <= 1, "one reply")
    t.wait(lambda: [line for line in t.relay().log("SessionEnded")
                    if line.get("last_rule") == "tls-in-clear"], "the log names the rule")


def hello_octets(name, minor=3):
    """A ClientHello of TLS 1.2 (or 1.`minor - 1`) that asks for this name."""
    def sized(octets, length):
        return len(octets).to_bytes(length) + octets

    def extension(kind, octets):
        return struct.pack(">H", kind) + sized(octets, 2)

    extensions = b"".join([
        extension(0, sized(b"\0" + sized(name, 2), 2)),
        extension(10, sized(b"\0\x1d\0\x17", 2)),
        extension(11, b"\1\0"),
        extension(13, sized(b"\4\3\4\1\x08\4", 2)),
    ])
    suites = b"\xc0\x2b\xc0\x2f\xc0\x2c\xc0\x30\xc0\x09\xc0\x13\0\x2f"
    body = (bytes([3, minor]) + bytes(range(32)) + b"\0" + sized(suites, 2) + b"\1\0"
            + sized(extensions, 2))
    return b"\x16\3\1" + sized(b"\1" + sized(body, 3), 2)


@case("C23", "the certificate is chosen by SNI; for an unknown name, and for none, there is one",
      "RFC 6066 §3")
def by_name(t):
    folder = t.folder()
    for name in ("root.pem", "root.key"):
        shutil.copy(t.bench.folder / name, folder / name)
    other = certify(folder, "DNS:mail.other.example,DNS:*.wild.example", "other")
    relay = t.own_relay(f"certificate.other.chain={other.chain}", f"certificate.other.key={other.key}")
    for name, want in (("mx.ours.example", "mx.ours.example"),
                       ("mail.other.example", "mail.other.example"),
                       ("MAIL.Other.example", "mail.other.example"),
                       ("a.wild.example", "mail.other.example"),
                       ("a.b.wild.example", "mx.ours.example"),
                       ("unknown.example", "mx.ours.example"),
                       (None, "mx.ours.example")):
        for implicit in (False, True):
            context = ssl.create_default_context(cafile=t.bench.certificate.root)
            context.check_hostname = False
            place = relay.submissions if implicit else relay.mx
            with t.connect(place, server_name=name) as c:
                if not implicit:
                    c.hello()
                    c.say("STARTTLS", "220")
                c.handshake(context)
                names = [value for _, value in c.socket.getpeercert()["subjectAltName"]]
                t.note(f"SNI {name}: a certificate for {names[0]}")
                t.check(names[0] == want, f"{name} gets the certificate of {want}")


@case("C23", "SNI that is no name, or 5 kB long, is answered with an alert", "RFC 6066 §3")
def odd_names(t):
    for name in (b"x" * 5_000, b"\xff\xfe", b"a..b", b"mx.ours.example\0.evil.example", b"a b", b"-",
                 b"m\xc3\xbcller.example", b""):
        with t.connect(t.relay().mx) as c:
            c.hello()
            c.say("STARTTLS", "220")
            t.note(f"a ClientHello with the SNI {escaped(name[:30])} of {len(name)} octets")
            c.send(hello_octets(name), quiet=True)
            c.socket.settimeout(5)
            try:
                answer = c.socket.recv(10)
            except ConnectionResetError:
                answer = b""
            t.check(not answer or answer[0] == 0x15, "an alert or the end")
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.starttls()


@case("C24", "a new certificate and key are taken without a restart, and no session notices",
      "operation")
def reload(t):
    folder = t.folder()
    for name in ("root.pem", "root.key"):
        shutil.copy(t.bench.folder / name, folder / name)
    first = certify(folder, "DNS:mx.ours.example,DNS:first.example", "used")
    relay = t.own_relay(TLS_CERT=first.chain, TLS_KEY=first.key)

    def names():
        with t.connect(relay.mx) as c:
            c.hello()
            c.starttls()
            c.hello(greeting=False)
            return [value for _, value in c.socket.getpeercert()["subjectAltName"]]

    t.check("first.example" in names(), "the first one")
    old = t.connect(relay.mx)
    old.hello()
    old.starttls()
    old.hello(greeting=False)
    old.envelope("a@b.example", "c24@ours.example")
    stop, counts = threading.Event(), []
    threads = [threading.Thread(target=load, args=(relay, stop, counts)) for _ in range(4)]
    for thread in threads:
        thread.start()
    second = certify(folder, "DNS:mx.ours.example,DNS:second.example", "fresh")
    os.replace(second.key, first.key)
    os.replace(second.chain, first.chain)
    t.note("the files are replaced, under load, and the relay gets SIGHUP")
    os.kill(relay.pid, signal.SIGHUP)
    lines = t.lines
    t.lines = []
    t.wait(lambda: "second.example" in names(), "the second one is used")
    t.lines = lines
    old.content(CONTENT)
    relay.arrived("c24@ours.example")
    stop.set()
    for thread in threads:
        thread.join()
    t.check(len(counts) == 4 and all(counts), "every session of the load went well")
    t.note("new connections see the new one; the old session and those of the load went on")
    first.chain.write_text("nonsense")
    t.note("the file is destroyed, and the relay gets SIGHUP: it keeps what it has")
    os.kill(relay.pid, signal.SIGHUP)
    t.wait(lambda: b"certificate" in relay.output.read_bytes(), "the operator is told")
    t.check("second.example" in names(), "the second one stays")


def load(relay, stop, counts):
    """Sessions over TLS until the end; counts them when all went well."""
    import smtplib
    count = 0
    context = ssl._create_unverified_context()
    while not stop.is_set():
        with smtplib.SMTP(*relay.mx, timeout=30) as client:
            client.starttls(context=context)
            client.ehlo()
            client.sendmail("a@b.example", ["c24-load@ours.example"], CONTENT)
        count += 1
    counts.append(count)
