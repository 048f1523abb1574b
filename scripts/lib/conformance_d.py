"""Group D: AUTH (RFC 4954), with the rows of other groups that are about it."""

import base64
import hashlib
import hmac
import json
import pathlib
import ssl
import subprocess
import time

from conformance_kit import PASSWORD, USER, case
from conformance_relay import certify

# Guessing is slow where it is not what is tested.
QUICK = ("auth.failure_wait=0 s", "auth.failures_per_address_max=off",
         "auth.failures_per_user_max=off", "listener.submission.auth_failures_max=1000",
         "listener.submission.bad_commands_max=1000")
DENIED = "535 5.7.8 The credentials are not valid"
CONTENT = b"From: ani@ours.example\r\nSubject: x\r\n\r\nhello\r\n"


def b64(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def url64(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def secured(t, relay, **options):
    """A client of the submission port under TLS, behind EHLO; and what AUTH offers."""
    c = t.connect(relay.submission, **options)
    c.hello()
    c.starttls()
    offered = c.hello(greeting=False)
    return c, offered.get("AUTH", "").split()


class Scram:
    """The client of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding."""

    def __init__(self, user=USER, password=PASSWORD, header="n,,", nonce="rOprNGfwEbeRWgbNEkqO"):
        self.user = user.replace("=", "=3D").replace(",", "=2C")
        self.password, self.header, self.nonce = password, header, nonce
        self.bare = f"n={self.user},r={nonce}"

    def first(self):
        return b64(self.header + self.bare)

    def challenged(self, t, reply):
        """Takes the challenge apart, which differs from run to run."""
        t.check(reply.code == 334, "a challenge comes")
        t.hide(reply.text, "challenge")
        self.challenge = base64.b64decode(reply.text).decode()
        parts = dict(part.split("=", 1) for part in self.challenge.split(","))
        self.whole, self.rounds = parts["r"], int(parts["i"])
        self.salt = base64.b64decode(parts["s"])
        t.check(self.whole.startswith(self.nonce) and len(self.whole) >= len(self.nonce) + 18,
                "the server extends the nonce")
        return self

    def last(self, t, nonce=None, header=None, spoil=False):
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), self.salt, self.rounds)
        key = self._sign(salted, b"Client Key")
        bare = f"c={b64(self.header if header is None else header)},r={nonce or self.whole}"
        self.all = f"{self.bare},{self.challenge},{bare}".encode()
        signature = self._sign(hashlib.sha256(key).digest(), self.all)
        proof = bytes(a ^ b for a, b in zip(key, signature))
        if spoil:
            proof = bytes([proof[0] ^ 1]) + proof[1:]
        self.signature = b64(self._sign(self._sign(salted, b"Server Key"), self.all))
        message = b64(f"{bare},p={b64(proof)}")
        t.hide(message, "proof")
        return message

    @staticmethod
    def _sign(key, text):
        return hmac.new(key, text, "sha256").digest()


@case("D1", "in the clear AUTH is neither offered nor taken", "RFC 4954 §4")
def in_the_clear(t):
    with t.connect(t.relay(*QUICK).submission) as c:
        offered = c.hello()
        t.check("AUTH" not in offered and "STARTTLS" in offered, "STARTTLS is offered, not AUTH")
        for line in (f"AUTH PLAIN {b64(f'{chr(0)}{USER}{chr(0)}{PASSWORD}')}", "AUTH LOGIN",
                     "AUTH SCRAM-SHA-256", "AUTH PLAIN", "AUTH NONSENSE"):
            c.say(line, "538 5.7.11")
        c.say("MAIL FROM:<ani@ours.example>", "530 5.7.0")


@case("D2", "MAIL before AUTH is refused on both submission ports", "RFC 6409 §4.3")
def mail_first(t):
    relay = t.relay(*QUICK)
    c, _ = secured(t, relay)
    c.say("MAIL FROM:<ani@ours.example>", "530 5.7.0")
    c.say("RCPT TO:<u@ours.example>", "503 5.5.1")
    c.say("DATA", "503 5.5.1")
    with t.connect(relay.submissions, tls=True) as c:
        c.hello()
        c.say("MAIL FROM:<>", "530 5.7.0")


@case("D3", "the mechanisms are offered with SCRAM in front, and each one works",
      "RFC 4954 §4, RFC 4616")
def each_mechanism(t):
    relay = t.relay(*QUICK)
    c, offered = secured(t, relay)
    t.check(offered == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"], f"{offered}")
    plain = b64(f"\0{USER}\0{PASSWORD}")
    c.say(f"AUTH PLAIN {plain}", "235 2.7.0")
    t.check("AUTH" not in c.hello(greeting=False), "who has authenticated is not offered it again")
    for script in (
        [("auth plain", "334"), (plain, "235 2.7.0")],
        [(f"AUTH PLAIN {b64(f'{USER}{chr(0)}{USER}{chr(0)}{PASSWORD}')}", "235 2.7.0")],
        [("AUTH LOGIN", "334"), (b64(USER), "334"), (b64(PASSWORD), "235 2.7.0")],
        [(f"AUTH login {b64(USER)}", "334"), (b64(PASSWORD), "235 2.7.0")],
    ):
        c, _ = secured(t, relay)
        for line, pattern in script:
            c.say(line, pattern)
        c.say("MAIL FROM:<ani@ours.example>", "250")


@case("D4", "a wrong password, an unknown and a disabled user get the same words and the same time",
      "RFC 4954 §6")
def one_answer(t):
    relay = t.own_relay(*QUICK, "credential.budi.senders=ours.example",
                        f"credential.budi.password={t.bench.password_hash()}",
                        "credential.budi.enabled=false")
    c, _ = secured(t, relay)
    tries = {"wrong": (USER, "wrong"), "unknown": ("nobody", PASSWORD), "disabled":
             ("budi", PASSWORD)}
    took = {name: [] for name in tries}
    for _ in range(5):
        for name, (user, password) in tries.items():
            begin = time.monotonic()
            c.say(f"AUTH PLAIN {b64(f'{chr(0)}{user}{chr(0)}{password}')}", DENIED)
            took[name].append(time.monotonic() - begin)
    best = {name: min(times) for name, times in took.items()}
    t.check(max(best.values()) < 3 * min(best.values()) + 0.02, f"as fast as each other: {best}")


@case("D5", "while it cannot be checked, the answer is temporary", "RFC 4954 §6")
def not_now(t):
    relay, _ = issuing(t, keys=False)
    c, _ = secured(t, relay)
    parts = ({"alg": "RS256"}, {"iss": "https://id.example"})
    token = ".".join([*(url64(json.dumps(part).encode()) for part in parts), "AAAA"])
    c.say(f"AUTH XOAUTH2 {b64(xoauth2('dewi@shop.example', token))}", "454 4.7.0")
    c.say("NOOP", "250")


@case("D6", "what is not one word of base64 is refused, and the session is in step",
      "RFC 4954 §4, RFC 4648 §3")
def not_base64(t):
    # Padded, so that the padding can be left away; nobody has this password.
    plain = b64(f"\0{USER}\0{PASSWORD}x")
    t.check(plain.endswith("="), "it is padded")
    c, _ = secured(t, t.relay(*QUICK))
    for wrong in (f"{plain} x", f"{plain} {plain}", f"{plain[:8]} {plain[8:]}",
                  f"{plain[:8]}\t{plain[8:]}", f"{plain[:8]}\r{plain[8:]}",
                  plain[:8] + "\0" + plain[8:], plain[:-1], plain.rstrip("="), plain + "=",
                  plain + "A", "!!!!", "====", plain[:4] + "=" + plain[4:], plain[:-3] + "B==",
                  "A", "AA", "AAA", b64(b"\0ani\0\xff\xfe")):
        c.say(f"AUTH PLAIN {wrong}", "501 5.5.2")
        c.say("AUTH PLAIN", "334")
        c.say(wrong, "501 5.5.2")
        c.say("NOOP", "250")
    c.say("AUTH LOGIN", "334")
    c.say("!", "501 5.5.2")
    c.say(f"AUTH LOGIN {b64(USER)}", "334")
    c.say("b", "501 5.5.2")
    c.say("MAIL FROM:<ani@ours.example>", "530")


@case("D7", "PLAIN has two NULs, a name and a password, or it is no PLAIN", "RFC 4616 §2")
def malformed_plain(t):
    c, _ = secured(t, t.relay(*QUICK))
    user, password = USER.encode(), PASSWORD.encode()
    for octets, pattern in (
        (user, "501 5.5.2"),
        (user + b"\0" + password, "501 5.5.2"),
        (b"\0" + user + b"\0" + password + b"\0", "501 5.5.2"),
        (b"\0\0" + user + b"\0" + password, "501 5.5.2"),
        (b"\0" + user + b"\0" + password + b"\0x", "501 5.5.2"),
        (b"\0\0\0", "501 5.5.2"),
        (b"\0\0", "535 5.7.8"),
        (b"\0\0" + password, "535 5.7.8"),
        (b"\0" + user + b"\0", "535 5.7.8"),
        (user + b"\0\0" + password, "535 5.7.8"),
        (b"\0" + user + b"\0" + password + b"\n", "535 5.7.8"),
        (b"\0" + user + b" \0" + password, "535 5.7.8"),
        (b"\0" + user.upper() + b"\0" + password, "535 5.7.8"),
    ):
        c.say(f"AUTH PLAIN {b64(octets)}", pattern)
    c.say("AUTH PLAIN =", "501 5.5.2")
    c.say("AUTH PLAIN", "334")
    c.say("", "501 5.5.2")
    c.say("AUTH LOGIN =", "334")
    c.say("=", "535 5.7.8")
    c.say(f"AUTH LOGIN {b64(USER)}", "334")
    c.say("", "535 5.7.8")
    c.say("MAIL FROM:<ani@ours.example>", "530")


@case("D8", "nobody acts for somebody else", "RFC 4616 §2, RFC 5802 §5.1")
def acts_for(t):
    c, _ = secured(t, t.relay(*QUICK))
    for other in ("budi", "ani@ours.example", "root", "*", "ANI"):
        c.say(f"AUTH PLAIN {b64(f'{other}{chr(0)}{USER}{chr(0)}{PASSWORD}')}", DENIED)
        c.say(f"AUTH SCRAM-SHA-256 {Scram(header=f'n,a={other},').first()}", DENIED)
    scram = Scram(header=f"n,a={USER},")
    scram.challenged(t, c.say(f"AUTH SCRAM-SHA-256 {scram.first()}", "334"))
    t.hide(c.say(scram.last(t), "334").text, "signature")
    c.say("", "235 2.7.0")


@case("D9", "an unknown mechanism, a second AUTH, AUTH in a transaction, and `*`", "RFC 4954 §4")
def out_of_place(t):
    relay = t.relay(*QUICK)
    c, _ = secured(t, relay)
    for mechanism in ("CRAM-MD5", "DIGEST-MD5", "NTLM", "GSSAPI", "SCRAM-SHA-1", "ANONYMOUS",
                      "EXTERNAL", "XOAUTH2", "OAUTHBEARER", "PLAIN,", "PLAINX", "X" * 60):
        c.say(f"AUTH {mechanism}", "504 5.5.4")
    c.say("AUTH", "501 5.5.4")
    for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"):
        c.say(f"AUTH {mechanism}", "334")
        c.say("*", "501 5.0.0")
    c.say(f"AUTH LOGIN {b64(USER)}", "334")
    c.say("*", "501 5.0.0")
    c.say("AUTH PLAIN *", "501 5.5.2")
    t.login(c)
    for line in ("AUTH PLAIN", "AUTH NONSENSE", f"AUTH PLAIN {b64('x')}"):
        c.say(line, "503 5.5.1")
    c.say("MAIL FROM:<ani@ours.example>", "250")
    c.say("AUTH PLAIN", "503 5.5.1")
    with t.connect(relay.mx) as c:
        c.hello()
        c.starttls()
        c.hello(greeting=False)
        c.say("MAIL FROM:<ani@ours.example>", "250")
        c.say("AUTH PLAIN", "503 5.5.1")
        c.say("RSET", "250")
        c.say("HELO client.example", "250")
        c.say("AUTH PLAIN", "503 5.5.1")


@case("D10", "lines of an exchange have up to 12,288 octets", "RFC 4954 §4")
def long_lines(t):
    c, _ = secured(t, t.relay(*QUICK))
    longest = b64(b"\0ani\0" + b"x" * (9_216 - 5))
    t.check(len(longest) == 12_288, "the longest response")
    c.say("AUTH PLAIN", "334")
    c.say(longest, DENIED)
    c.say(f"AUTH PLAIN {longest[:-16]}", DENIED)
    for prefix in ("", "AUTH PLAIN "):
        for length in (12_292, 20_000, 60_000):
            if not prefix:
                c.say("AUTH PLAIN", "334")
            c.say(prefix + "A" * length, "500 5.5.6")
            c.say("NOOP", "250")
    c.say("AUTH LOGIN", "334")
    c.say("A" * 20_000, "500 5.5.6")
    t.login(c)
    c.say("MAIL FROM:<ani@ours.example>", "250")


@case("D11", "failures are answered later and later, and a session has an end",
      "RFC 4954 §9", slow=True)
def slower_and_slower(t):
    relay = t.own_relay("auth.failure_wait=300 ms", "listener.submission.auth_failures_max=11")
    c, _ = secured(t, relay)
    wrong, took = f"AUTH PLAIN {b64(f'{chr(0)}{USER}{chr(0)}wrong')}", []
    for pattern in (*["535 5.7.8"] * 10, "421 4.7.0"):
        begin = time.monotonic()
        c.say(wrong, pattern)
        took.append(time.monotonic() - begin)
    c.closed()
    t.check(all(one >= 0.3 for one in took) and took[-1] >= 0.6, f"waits grow: {took}")
    c, _ = secured(t, relay)
    begin = time.monotonic()
    c.say(wrong, "535 5.7.8")
    t.check(time.monotonic() - begin >= 0.6, "and go on growing on the next connection")
    # Meanwhile others are served: the wait is this client's alone.
    c.send(f"{wrong}\r\n".encode())
    begin = time.monotonic()
    with t.connect(relay.mx) as other:
        other.hello()
    t.check(time.monotonic() - begin < 0.6, "others do not wait")
    c.reply("535 5.7.8")


@case("D11", "too many failures lock out the address, across connections and mechanisms",
      "RFC 4954 §9")
def address_locked(t):
    relay = t.own_relay("auth.failure_wait=0 s", "auth.failures_per_address_max=5",
                        "auth.failures_per_user_max=off")
    for n in range(5):
        c, _ = secured(t, relay)
        if n % 2:
            scram = Scram(user=f"user{n}")
            scram.challenged(t, c.say(f"AUTH SCRAM-SHA-256 {scram.first()}", "334"))
            c.say(scram.last(t), DENIED)
        else:
            c.say(f"AUTH PLAIN {b64(f'{chr(0)}user{n}{chr(0)}wrong')}", DENIED)
    for line in (f"AUTH PLAIN {b64(f'{chr(0)}{USER}{chr(0)}{PASSWORD}')}",
                 f"AUTH SCRAM-SHA-256 {Scram().first()}"):
        c, _ = secured(t, relay)
        c.say(line, "421 4.7.0")
        c.closed()
    c, _ = secured(t, relay, source="127.0.0.8")
    t.login(c)


@case("D11", "too many failures lock out a user for strangers, and tell nothing of who exists",
      "RFC 4954 §9")
def user_locked(t):
    relay = t.own_relay("auth.failure_wait=0 s", "auth.failures_per_address_max=off",
                        "auth.failures_per_user_max=3")
    known, _ = secured(t, relay, source="127.0.0.8")
    t.login(known)
    for user in (USER, "nobody"):
        c, _ = secured(t, relay)
        for _ in range(3):
            c.say(f"AUTH PLAIN {b64(f'{chr(0)}{user}{chr(0)}wrong')}", DENIED)
        c.say(f"AUTH PLAIN {b64(f'{chr(0)}{user}{chr(0)}{PASSWORD}')}", "454 4.7.0")
        c.say(f"AUTH SCRAM-SHA-256 {Scram(user=user).first()}", "454 4.7.0")
        c.say("NOOP", "250")
    known, _ = secured(t, relay, source="127.0.0.8")
    t.login(known)
    trusted, _ = secured(t, relay, source="127.0.0.7")
    trusted.say(f"AUTH PLAIN {b64(f'{chr(0)}{USER}{chr(0)}{PASSWORD}')}", "454 4.7.0")


@case("D12", "SCRAM-SHA-256 shows each side that the other knows the password",
      "RFC 5802 §3, RFC 7677")
def scram_good(t):
    relay = t.relay(*QUICK)
    for has_initial in (True, False):
        c, _ = secured(t, relay)
        scram = Scram()
        if has_initial:
            found = c.say(f"AUTH SCRAM-SHA-256 {scram.first()}", "334")
        else:
            c.say("AUTH scram-sha-256", "334")
            found = c.say(scram.first(), "334")
        scram.challenged(t, found)
        t.check(scram.rounds >= 4_096 and len(scram.salt) >= 16, "the rounds and the salt")
        signed = c.say(scram.last(t), "334").text
        t.hide(signed, "signature")
        t.check(base64.b64decode(signed).decode() == f"v={scram.signature}",
                "the server knows the password")
        c.say("" if has_initial else "=", "235 2.7.0")
        c.say("MAIL FROM:<ani@ours.example>", "250")


@case("D12", "a wrong proof, another nonce and another channel binding are no proof",
      "RFC 5802 §5.1, §7")
def scram_wrong(t):
    c, _ = secured(t, t.relay(*QUICK))
    for name, make in (
        ("another password", lambda s: s.last(t)),
        ("one bit of the proof", lambda s: s.last(t, spoil=True)),
        ("the nonce of the client alone", lambda s: s.last(t, nonce=s.nonce)),
        ("another nonce", lambda s: s.last(t, nonce=s.whole + "x")),
        ("c= of a client that could bind", lambda s: s.last(t, header="y,,")),
        ("c= with octets behind it", lambda s: s.last(t, header="n,,x")),
        ("c= of channel binding", lambda s: s.last(t, header="p=tls-exporter,,")),
    ):
        t.note(name)
        scram = Scram(password="wrong" if name == "another password" else PASSWORD)
        scram.challenged(t, c.say(f"AUTH SCRAM-SHA-256 {scram.first()}", "334"))
        c.say(make(scram), DENIED)
    for last in ("", "=", b64("c=biws,r=x"), b64("r=x,c=biws,p=AAAA"), b64("p=AAAA"), "!"):
        scram = Scram()
        scram.challenged(t, c.say(f"AUTH SCRAM-SHA-256 {scram.first()}", "334"))
        c.say(last, "501 5.5.2")
    t.note("messages that begin nothing")
    for first in ("", "n,,", "n,,n=ani", "n,,r=x,n=ani", "n,,n=ani,r=", "n,,m=x,n=ani,r=x",
                  "n,,n=a=b,r=x", "x,,n=ani,r=x", "p=tls-exporter,,n=ani,r=x"):
        c.say(f"AUTH SCRAM-SHA-256 {b64(first) or '='}", "501 5.5.2")
    scram = Scram()
    scram.challenged(t, c.say(f"AUTH SCRAM-SHA-256 {scram.first()}", "334"))
    t.hide(c.say(scram.last(t), "334").text, "signature")
    c.say("MAIL FROM:<ani@ours.example>", "501 5.5.2")
    c.say("MAIL FROM:<ani@ours.example>", "530 5.7.0")


@case("D12", "who was told that there is no channel binding was lied to", "RFC 5802 §6")
def scram_downgrade(t):
    relay = t.relay(*QUICK)
    c, offered = secured(t, relay)
    t.check("SCRAM-SHA-256-PLUS" in offered, "it is offered")
    c.say(f"AUTH SCRAM-SHA-256 {Scram(header='y,,').first()}", DENIED)
    old = ssl.create_default_context(cafile=t.bench.certificate.root)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    c, offered = secured(t, relay, context=old)
    t.check("SCRAM-SHA-256-PLUS" not in offered and "SCRAM-SHA-256" in offered, "not with TLS 1.2")
    c.say(f"AUTH SCRAM-SHA-256-PLUS {Scram(header='p=tls-exporter,,').first()}", "504 5.5.4")
    scram = Scram(header="y,,")
    scram.challenged(t, c.say(f"AUTH SCRAM-SHA-256 {scram.first()}", "334"))
    t.hide(c.say(scram.last(t), "334").text, "signature")
    c.say("", "235 2.7.0")


@case("D12", "SCRAM-SHA-256-PLUS is bound to this very TLS session", "RFC 9266")
def scram_plus(t):
    c, _ = secured(t, t.relay(*QUICK))
    for binding in (b"", bytes(32), bytes(12)):
        scram = Scram(header="p=tls-exporter,,")
        scram.challenged(t, c.say(f"AUTH SCRAM-SHA-256-PLUS {scram.first()}", "334"))
        c.say(scram.last(t, header=b"p=tls-exporter,," + binding), DENIED)
    c.say(f"AUTH SCRAM-SHA-256-PLUS {Scram(header='p=tls-unique,,').first()}", DENIED)
    for flag in ("n", "y"):
        c.say(f"AUTH SCRAM-SHA-256-PLUS {Scram(header=f'{flag},,').first()}", "501 5.5.2")
    t.note("the right value, which only TLS knows, is given by a test of the relay over rustls")


@case("D13", "an unknown user has a salt like everybody else, always the same", "RFC 5802 §9")
def made_up_salt(t):
    relay = t.relay(*QUICK)
    salts = {}
    for _ in range(2):
        c, _ = secured(t, relay)
        for user in ("nobody", "somebody", USER):
            scram = Scram(user=user)
            scram.challenged(t, c.say(f"AUTH SCRAM-SHA-256 {scram.first()}", "334"))
            salts.setdefault(user, set()).add((scram.salt, scram.rounds))
            if user == USER:
                c.say("*", "501 5.0.0")
            else:
                c.say(scram.last(t), DENIED)
    t.check(all(len(found) == 1 for found in salts.values()), "the same salt each time")
    t.check(len({salt for found in salts.values() for salt, _ in found}) == 3, "each its own")
    t.check(len({(len(salt), rounds) for found in salts.values() for salt, rounds in found}) == 1,
            "as long as each other, with the same rounds")


def xoauth2(user, token):
    return f"user={user}\x01auth=Bearer {token}\x01\x01"


def oauthbearer(user, token):
    return f"n,{'a=' + user if user else ''},\x01host=mx\x01port=587\x01auth=Bearer {token}\x01\x01"


class Issuer:
    """Signs tokens, with the command openssl."""

    def __init__(self, folder):
        self.key, self.public = folder / "issuer.key", folder / "issuer.pem"
        self._openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048",
                      "-out", self.key)
        self._openssl("pkey", "-in", self.key, "-pubout", "-out", self.public)

    def _openssl(self, *words, octets=b""):
        return subprocess.run(["openssl", *words], input=octets, check=True, timeout=60,
                              capture_output=True).stdout

    def token(self, header=None, **changes):
        now = int(time.time())
        claims = {"iss": "https://id.example", "aud": "merpati", "exp": now + 600, "nbf": now - 9,
                  "email": "dewi@shop.example"} | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        header = header or {"alg": "RS256", "typ": "JWT"}
        signed = ".".join(url64(json.dumps(part).encode()) for part in (header, claims))
        match header["alg"].lower():
            case "none":
                signature = b""
            case "hs256":
                signature = hmac.new(self.public.read_bytes(), signed.encode(), "sha256").digest()
            case _:
                signature = self._openssl("dgst", "-sha256", "-sign", self.key,
                                          octets=signed.encode())
        return f"{signed}.{url64(signature)}"


def issuing(t, keys=True):
    """A relay that takes the word of an issuer, and the issuer."""
    folder = pathlib.Path(t.folder())
    issuer = Issuer(folder)
    relay = t.own_relay(
        *QUICK, "token_issuer.id.issuer=https://id.example", "token_issuer.id.audience=merpati",
        f"token_issuer.id.keys={issuer.public if keys else folder / 'none.pem'}",
        "token_issuer.id.domains=shop.example")
    return relay, issuer


def bring(t, c, mechanism, message, *patterns):
    """Brings a token, which differs from run to run."""
    t.note(f"{mechanism} with the token")
    c.send(f"AUTH {mechanism} {b64(message)}\r\n".encode(), quiet=True)
    return c.reply(*patterns)


@case("D14", "a signed token says who the client is, by OAUTHBEARER and XOAUTH2", "RFC 7628 §3")
def tokens(t):
    relay, issuer = issuing(t)
    _, offered = secured(t, relay)
    t.check(offered.index("SCRAM-SHA-256") < offered.index("OAUTHBEARER")
            < offered.index("XOAUTH2") < offered.index("PLAIN"), "they are offered")
    for mechanism, message in (("XOAUTH2", xoauth2), ("OAUTHBEARER", oauthbearer)):
        c, _ = secured(t, relay)
        bring(t, c, mechanism, message("dewi@shop.example", issuer.token()), "235 2.7.0")
        c.say("MAIL FROM:<boss@shop.example>", "553 5.7.1")
        c.say("MAIL FROM:<dewi@shop.example>", "250")
    c, _ = secured(t, relay)
    bring(t, c, "OAUTHBEARER", oauthbearer("", issuer.token(aud=["x", "merpati"])), "235 2.7.0")


@case("D14 P11", "a token that is no good is refused in two steps: JSON, then 535",
      "RFC 7628 §3.2.2, RFC 8725 §2.1")
def bad_tokens(t):
    relay, issuer = issuing(t)
    now = int(time.time())
    c, _ = secured(t, relay)
    for name, token in (
        ("no signature", issuer.token({"alg": "none"})),
        ("no signature, in other letters", issuer.token({"alg": "nOnE"})),
        ("the public key as a secret", issuer.token({"alg": "HS256"})),
        ("RSA by the name of ECDSA", issuer.token({"alg": "ES256"})),
        ("an extension", issuer.token({"alg": "RS256", "crit": ["x"]})),
        ("for somebody else", issuer.token(aud="other")),
        ("for nobody", issuer.token(aud=None)),
        ("from somebody else", issuer.token(iss="https://evil.example")),
        ("over", issuer.token(exp=now - 3_600)),
        ("without end", issuer.token(exp=None)),
        ("not yet", issuer.token(nbf=now + 3_600)),
        ("without a user", issuer.token(email=None)),
        ("another domain", issuer.token(email="dewi@evil.example")),
        ("not verified", issuer.token(email_verified=False)),
        ("changed", issuer.token()[:-8] + "AAAAAAAA"),
        ("no token", "x"),
    ):
        t.note(name)
        found = bring(t, c, "OAUTHBEARER", oauthbearer("", token), "334")
        t.check("status" in json.loads(base64.b64decode(found.text)), "JSON")
        c.say("AQ==", DENIED)
        found = bring(t, c, "XOAUTH2", xoauth2("dewi@shop.example", token), "334")
        t.check(json.loads(base64.b64decode(found.text))["status"] == "401", "JSON")
        c.say("", DENIED)
    t.note("another user than the token names")
    bring(t, c, "XOAUTH2", xoauth2("boss@shop.example", issuer.token()), "334")
    c.say("*", "501 5.0.0")
    for message in ("n,,\x01\x01", "n,,\x01auth=\x01\x01", "n,,\x01auth=Basic eDp5\x01\x01"):
        c.say(f"AUTH OAUTHBEARER {b64(message)}", "334")
        c.say("AQ==", DENIED)
    for message in ("", "x", "n,,\x01auth=Bearer x", "user=x\x01auth=Bearer x\x01\x01"):
        c.say(f"AUTH OAUTHBEARER {b64(message) or '='}", "501 5.5.2")
    c.say("MAIL FROM:<dewi@shop.example>", "530")


@case("D15", "EXTERNAL takes the certificate of the client, and nothing else", "RFC 4422 A")
def external(t):
    folder = pathlib.Path(t.folder())
    for name in ("root.pem", "root.key"):
        (folder / name).write_bytes((t.bench.certificate.root.parent / name).read_bytes())
    ani = certify(folder, "email:ani@ours.example", "ani")
    stranger = certify(folder, "DNS:stranger.example", "stranger")
    (folder / "other").mkdir()
    foreign = certify(folder / "other", "email:ani@ours.example", "foreign")
    relay = t.own_relay(*QUICK, f"listener.submission.tls_client_ca={t.bench.certificate.root}",
                        f"credential.{USER}.certificate_names=ani@ours.example")

    def context(certificate):
        made = ssl.create_default_context(cafile=t.bench.certificate.root)
        if certificate:
            made.load_cert_chain(certificate.chain, certificate.key)
        return made

    t.note("without a certificate")
    c, offered = secured(t, relay)
    t.check("EXTERNAL" not in offered, "not offered")
    c.say("AUTH EXTERNAL =", DENIED)
    c.say("AUTH EXTERNAL", "334")
    c.say("", DENIED)
    c.say(f"AUTH EXTERNAL {b64(USER)}", DENIED)
    t.login(c)
    t.note("with that of ani")
    for begin in ("AUTH EXTERNAL =", f"AUTH EXTERNAL {b64(USER)}",
                  f"AUTH EXTERNAL {b64('ani@ours.example')}"):
        c, offered = secured(t, relay, context=context(ani))
        t.check("EXTERNAL" in offered, "offered")
        for wrong in ("budi", "x" * 3_000, "ani\0", "boss@ours.example"):
            c.say(f"AUTH EXTERNAL {b64(wrong)}", DENIED)
        c.say("AUTH EXTERNAL !", "501 5.5.2")
        c.say(begin, "235 2.7.0")
        c.say("MAIL FROM:<ani@ours.example>", "250")
    t.note("with that of a stranger")
    c, _ = secured(t, relay, context=context(stranger))
    c.say("AUTH EXTERNAL =", DENIED)
    t.note("with one of another CA")
    c = t.connect(relay.submission, context=context(foreign))
    c.hello()
    c.say("STARTTLS", "220")
    try:
        c.handshake()
        c.say("NOOP")
        is_refused = not c._read()
    except OSError:
        is_refused = True
    t.check(is_refused, "no TLS comes about")


@case("D16", "a user sends as himself: in MAIL, in From and in Sender", "RFC 6409 §6.1")
def as_whom(t):
    c = t.submit(t.relay(*QUICK))
    c.say("MAIL FROM:<boss@other.example>", "553 5.7.1")
    for header, pattern in (
        ("From: boss@other.example", "550 5.7.1"),
        ("From: Ani <ani@ours.example>, boss@other.example", "550 5.7.1"),
        ('From: "ani@ours.example" <boss@other.example>', "550 5.7.1"),
        ("From: ani@ours.example\r\nFrom: boss@other.example", "550"),
        ("From: ani@ours.example\r\nSender: boss@other.example", "550 5.7.1"),
        ("From: ani@ours.example, budi@ours.example\r\nSender: boss@other.example", "550 5.7.1"),
        ("From: ani@ours.example, budi@ours.example\r\nSender: ani@ours.example", "250"),
        ("From: Ani <ANI@ours.example>", "250"),
    ):
        c.envelope("ani@ours.example", "d16@other.example")
        c.content(header.encode() + b"\r\nSubject: x\r\n\r\nhello\r\n", pattern)


@case("D17", "AUTH= is checked and goes nowhere", "RFC 4954 §5, CVE-2020-28021")
def auth_parameter(t):
    relay = t.relay(*QUICK)
    c = t.submit(relay)
    for value in ("a+0Ab", "a+0D+0Ab", "+0AM", "a+7Fb", "a+00b", "a+2", "a+", "a+2b", "a=b", "",
                  "x" * 501):
        c.say(f"MAIL FROM:<ani@ours.example> AUTH={value}", "501 5.5.4")
    c.say("MAIL FROM:<ani@ours.example> AUTH=" + "x" * 10_240, "500 5.5.2")
    c.say("MAIL FROM:<ani@ours.example> AUTH=<> AUTH=<>", "501 5.5.4")
    for at, value in enumerate(("<>", "marker17+2Bx@ours.example", "e+3Dmarker17")):
        c.envelope(f"<ani@ours.example> AUTH={value}", f"d17.{at}@other.example")
        c.content(CONTENT)
        arrived = relay.arrived(f"d17.{at}@other.example")
        t.check(b"marker17" not in arrived.content, "not in the header")
    stored = b"".join(path.read_bytes() for path in relay.data.rglob("*.seg"))
    t.check(b"marker17" not in stored, "not in the spool")


@case("D18", "passwords are prepared alike whatever the keyboard, and none is cut off",
      "RFC 8265 §4.2")
def prepared(t):
    for composed, typed in (("caf\u00e9 \u03c0", "cafe\u0301\u00a0\u03c0"), ("x" * 1_024,) * 2):
        stored = subprocess.run([t.bench.binary, "credential", "hash"], check=True, text=True,
                                input=composed + "\n", capture_output=True, timeout=60).stdout
        relay = t.own_relay(*QUICK, f"credential.budi.password={stored.strip()}")
        c, _ = secured(t, relay)
        for wrong in (composed[:-1], composed + "x", composed[:72] + "y", composed + "\0", ""):
            t.note("another password")
            octets = b64(f"\0budi\0{wrong}")
            c.send(f"AUTH PLAIN {octets}\r\n".encode(), quiet=True)
            c.reply("535 5.7.8|501 5.5.2")
        for right in {composed, typed}:
            scram = Scram(user="budi", password=composed)
            scram.challenged(t, c.say(f"AUTH SCRAM-SHA-256 {scram.first()}", "334"))
            t.hide(c.say(scram.last(t), "334").text, "signature")
            c.say("*", "501 5.0.0")
            other, _ = secured(t, relay)
            other.send(f"AUTH PLAIN {b64(f'{chr(0)}budi{chr(0)}{right}')}\r\n".encode(), quiet=True)
            other.reply("235 2.7.0")


@case("D19", "no credential is written anywhere", "RFC 4954 §9")
def nowhere(t):
    peer = t.peer({"RCPT": "550 5.1.1 no such user"})
    relay = t.own_relay(*QUICK, peer=peer, MERPATI_TRACE="trace")
    c, _ = secured(t, relay)
    secrets = ["hunter2-wrong", PASSWORD, "bearer-token-17"]
    tries = [f"AUTH PLAIN {b64(f'{chr(0)}{USER}{chr(0)}hunter2-wrong')}",
             f"AUTH PLAIN {b64('hunter2-wrong')}", f"AUTH PLAIN {b64('hunter2-wrong')} x",
             f"AUTH hunter2-wrong {b64('hunter2-wrong')}", f"AUTH PLAIN {b64('hunter2-wrong')}!"]
    for line in tries:
        c.say(line, "5xx")
    c.say(f"AUTH LOGIN {b64(USER)}", "334")
    c.say(b64("hunter2-wrong"), DENIED)
    scram = Scram()
    scram.challenged(t, c.say(f"AUTH SCRAM-SHA-256 {scram.first()}", "334"))
    proof = scram.last(t, spoil=True)
    c.say(proof, DENIED)
    t.login(c)
    c.envelope("ani@ours.example", "d19@other.example")
    c.content(CONTENT)
    c.say("QUIT", "221")
    t.wait(lambda: peer.mails_to("ani@ours.example") or relay.log("Attempted"), "the report")
    written = relay.output.read_bytes()
    written += b"".join(path.read_bytes() for path in sorted(relay.data.rglob("*"))
                        if path.is_file())
    written += relay.log_file.read_bytes()
    for secret in [*secrets, *(b64(f"\0{USER}\0{secret}") for secret in secrets), proof,
                   *(b64(secret) for secret in secrets)]:
        t.check(secret.encode() not in written, "a secret was written")


@case("F16", "who has authenticated sends to any domain", "RFC 6409 §3.1")
def anywhere(t):
    relay = t.relay(*QUICK)
    c = t.submit(relay)
    for domain in ("ours.example", "other.example", "sub.deep.elsewhere.example"):
        c.envelope("ani@ours.example", f"f16@{domain}")
        c.content(CONTENT)
        t.check(b" with ESMTPSA id " in relay.arrived(f"f16@{domain}").content, "with ESMTPSA")
