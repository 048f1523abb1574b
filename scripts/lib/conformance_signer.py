"""Keys, and signatures by DKIM and ARC, made and proven without the library that the relay uses.

    rsa = Rsa("a seed", 2048)        the same key in each run; also of a size that nobody would make
    ed = Ed25519("a seed")           by openssl
    rsa.record()                     what stands in the DNS
    signed(content, rsa, d="a.example", s="rsa", c="simple/relaxed")     the field, and the content
    sealed(content, rsa, 1, "none")  an ARC set on top
    proven(content, texts)           whether each signature of a message holds; `texts`: by name

Contents are octets with CRLF. Tags are keywords: one that is None is left out, `more` goes in front
of `b=` as it is.
"""

import base64
import functools
import hashlib
import math
import re
import subprocess
import tempfile
import threading

# Tags in their usual order; others follow.
ORDER = ("v", "i", "a", "c", "d", "s", "h", "l", "bh")
# ASN.1 in front of a digest (RFC 8017 §9.2), and of keys (RFC 5958, RFC 8410).
DIGEST_INFO = {
    "sha1": bytes.fromhex("3021300906052b0e03021a05000414"),
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
}
RSA_ENCRYPTION = bytes.fromhex("300d06092a864886f70d0101010500")
ED25519_PRIVATE = bytes.fromhex("302e020100300506032b657004220420")
ED25519_PUBLIC = bytes.fromhex("302a300506032b6570032100")
USUAL = ("from", "to", "subject")
SMALL = [n for n in range(3, 2_000, 2) if all(n % m for m in range(3, math.isqrt(n) + 1, 2))]
LOCK = threading.Lock()


def is_prime(number):
    """By Miller and Rabin: good for numbers that nobody chose to deceive."""
    if any(number % small == 0 for small in SMALL):
        return number in SMALL
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7):
        power = pow(base, odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True


def prime(seed, bits):
    """The same prime for the same seed, near its greatest so that a product has all bits, and 3
    modulo 4."""
    octets, count = b"", 0
    while 8 * len(octets) < bits:
        octets += hashlib.sha256(f"{seed} {count}".encode()).digest()
        count += 1
    number = int.from_bytes(octets) % (1 << bits) | 0xff << (bits - 8) | 3
    while number % 65_537 == 1 or not is_prime(number):
        number += 4
    return number


def der(tag, content):
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size) + content


def integer(number):
    return der(2, number.to_bytes(number.bit_length() // 8 + 1))


def public_key(modulus, exponent):
    """SubjectPublicKeyInfo of any two numbers."""
    inner = der(0x30, integer(modulus) + integer(exponent))
    return der(0x30, RSA_ENCRYPTION + der(3, b"\0" + inner))


class Rsa:
    """A key of `bits` bits, of 512 bits in each prime at least and as many primes as that takes."""

    name = "rsa"

    def __init__(self, seed, bits, exponent=65_537, most=1_024):
        count = max(2, bits // most)
        sizes = [bits * (at + 1) // count - bits * at // count for at in range(count)]
        with LOCK:
            self.primes = [known_prime(f"{seed} {at}", size) for at, size in enumerate(sizes)]
        self.exponent, self.modulus = exponent, math.prod(self.primes)

    def power(self, number):
        """The number to the private exponent; ValueError where there is no root of it."""
        result = 0
        for one in self.primes:
            if self.exponent == 2:
                root = pow(number, (one + 1) // 4, one)
                if root * root % one != number % one:
                    raise ValueError("no square")
            else:
                root = pow(number, pow(self.exponent, -1, one - 1), one)
            rest = self.modulus // one
            result += root * rest * pow(rest, -1, one)
        return result % self.modulus

    def padded(self, octets, digest="sha256"):
        """EMSA-PKCS1-v1_5 of these octets."""
        size = (self.modulus.bit_length() + 7) // 8
        end = b"\0" + DIGEST_INFO[digest] + hashlib.new(digest, octets).digest()
        return b"\0\1" + b"\xff" * (size - 2 - len(end)) + end

    def sign(self, octets, digest="sha256"):
        padded = self.padded(octets, digest)
        return self.power(int.from_bytes(padded)).to_bytes(len(padded))

    def public(self):
        return base64.b64encode(public_key(self.modulus, self.exponent)).decode()

    def record(self, more=""):
        return f"v=DKIM1; k={self.name};{more} p={self.public()}"


# Each is made once in a run.
known_prime = functools.lru_cache(maxsize=None)(prime)


class Ed25519:
    """A key of RFC 8463."""

    name = "ed25519"

    def __init__(self, seed):
        private = ED25519_PRIVATE + hashlib.sha256(seed.encode()).digest()
        self.private = pem("PRIVATE KEY", private)

    def sign(self, octets, _=None):
        """Of the digest, as RFC 8463 §3 has it."""
        return openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.private,
                       "-in", hashlib.sha256(octets).digest())

    def record(self, more=""):
        public = openssl("pkey", "-pubout", "-outform", "DER", "-in", self.private)
        return f"v=DKIM1; k=ed25519;{more} p={base64.b64encode(public[-32:]).decode()}"


def pem(kind, octets):
    text = base64.encodebytes(octets).decode()
    return f"-----BEGIN {kind}-----\n{text}-----END {kind}-----\n".encode()


def openssl(*words, check=True):
    """What openssl says; words that are octets become files."""
    with tempfile.TemporaryDirectory(prefix="merpati-signer.") as folder:
        for at, word in enumerate(words):
            if isinstance(word, bytes):
                with open(f"{folder}/{at}", "wb") as file:
                    file.write(word)
        named = [f"{folder}/{at}" if isinstance(word, bytes) else word
                 for at, word in enumerate(words)]
        done = subprocess.run(["openssl", *named], capture_output=True, timeout=60,
                              stdin=subprocess.DEVNULL, check=check)
    return done.stdout if check else done.returncode == 0


def fields_of(content):
    """The fields of a header as they stand, each with its line end."""
    header = content.partition(b"\r\n\r\n")[0]
    return [one + b"\r\n" for one in re.split(rb"\r\n(?![ \t])", header.removesuffix(b"\r\n"))]


def name_of(field):
    return field.partition(b":")[0].strip().lower()


def tags_of(field):
    """The tags of a field or a record: names to values without any blanks."""
    value = field.partition(b":")[2] if b":" in field.partition(b"=")[0] else field
    pairs = (tag.partition(b"=") for tag in value.split(b";") if tag.strip())
    return {name.strip().decode(): re.sub(rb"\s", b"", text).decode() for name, _, text in pairs}


def header_form(field, form):
    """RFC 6376 §3.4.1, §3.4.2."""
    if form == "simple":
        return field
    name, _, value = field.partition(b":")
    value = re.sub(rb"[ \t]+", b" ", value.replace(b"\r\n", b"")).strip()
    return name.strip().lower() + b":" + value + b"\r\n"


def body_form(body, form):
    """RFC 6376 §3.4.3, §3.4.4."""
    if form == "relaxed":
        lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
        body = b"\r\n".join(lines)
    body = re.sub(rb"(?:\r\n)+\Z", b"", body)
    return body + b"\r\n" if body or form == "simple" else b""


def forms(canonical):
    """Of header and body (RFC 6376 §3.5, c=)."""
    header, _, body = canonical.partition("/")
    return header, body or "simple"


def header_octets(fields, names, own, form):
    """What a signature over these names covers, the field itself at last (RFC 6376 §5.4.2)."""
    left, octets = list(fields), b""
    for wanted in names:
        found = [at for at, field in enumerate(left) if name_of(field) == wanted.lower().encode()]
        # Of several the lower one first.
        octets += header_form(left.pop(found[-1]), form) if found else b""
    return octets + header_form(own, form).removesuffix(b"\r\n")


def folded(text, width=70):
    """Base64 over several lines, as it is in most mail."""
    return "\r\n\t ".join(text[at:at + width] for at in range(0, len(text), width))


def field_with(name, tags, more=""):
    """A field of tags with an empty `b=` at its end, where the signature goes."""
    there = [tag for tag in (*ORDER, *(one for one in tags if one not in ORDER))
             if tags.get(tag) is not None]
    lines = ";\r\n\t".join(f"{tag}={tags[tag]}" for tag in there)
    return f"{name}: {lines};{more}\r\n\tb=\r\n".encode()


def complete(field, signature):
    return field.removesuffix(b"\r\n") + folded(base64.b64encode(signature).decode()).encode() \
        + b"\r\n"


def signature_field(name, content, key, tags, covered=None, length=None, digest="sha256",
                    more="", change=None):
    """`covered`: octets of the canonical body that count; `length`: what is said of them;
    `change`: what is done to the signature."""
    header, body = forms(tags.get("c") or "simple")
    octets = body_form(content.partition(b"\r\n\r\n")[2], body)
    octets = octets if covered is None else octets[:covered]
    usual = {"a": f"{key.name}-{digest}", "d": "a.example", "s": key.name, "h": ":".join(USUAL),
             "l": str(length if length is not None else covered) if covered is not None else None,
             "bh": base64.b64encode(hashlib.new(digest, octets).digest()).decode()}
    field = field_with(name, {**usual, **tags}, more)
    names = [one.strip() for one in ({**usual, **tags}["h"] or "").split(":")]
    signature = key.sign(header_octets(fields_of(content), names, field, header), digest)
    return complete(field, change(signature) if change else signature)


def signed(content, key, covered=None, length=None, digest="sha256", more="", change=None, **tags):
    """The content with a DKIM-Signature on top."""
    tags = {"v": "1", "c": "relaxed/relaxed", **tags}
    return signature_field("DKIM-Signature", content, key, tags, covered, length, digest, more,
                           change) + content


def sealed(content, key, instance, chain, results="mx.forwarder.example; spf=pass", signature=None,
           seal=None, seal_more=""):
    """The content with an ARC set on top (RFC 8617 §4.1); `signature` and `seal`: other tags."""
    where = {"d": "forwarder.example", "s": key.name}
    tags = {"i": str(instance), "c": "relaxed/relaxed", **where, **(signature or {})}
    message = signature_field("ARC-Message-Signature", content, key, tags)
    results = f"ARC-Authentication-Results: i={instance}; {results}\r\n".encode()
    tags = {"i": str(instance), "a": f"{key.name}-sha256", **where, "cv": chain, **(seal or {})}
    field = field_with("ARC-Seal", tags, seal_more)
    before = fields_of(content)
    covered = b""
    for at in range(1, instance):
        for name in (b"arc-authentication-results", b"arc-message-signature", b"arc-seal"):
            covered += b"".join(header_form(one, "relaxed") for one in before
                                if name_of(one) == name and tags_of(one).get("i") == str(at))
    covered += header_form(results, "relaxed") + header_form(message, "relaxed")
    covered += header_form(field, "relaxed").removesuffix(b"\r\n")
    return complete(field, key.sign(covered)) + message + results + content


def proven(content, texts):
    """Whether each DKIM-Signature holds, from the top: its tags, and yes or no."""
    found, fields = [], fields_of(content)
    for field in fields:
        if name_of(field) != b"dkim-signature":
            continue
        tags = tags_of(field)
        header, body = forms(tags.get("c", "simple"))
        octets = body_form(content.partition(b"\r\n\r\n")[2], body)
        is_whole = base64.b64encode(hashlib.sha256(octets).digest()).decode() == tags["bh"]
        bare = re.sub(rb"([;:\s]b=)[^;]*?(\r\n\Z|;)", rb"\1\2", field)
        others = [one for one in fields if one is not field]
        covered = header_octets(others, tags["h"].split(":"), bare, header)
        record = tags_of(texts[f"{tags['s']}._domainkey.{tags['d']}"].encode())
        found.append((tags, is_whole and fits(record, covered, base64.b64decode(tags["b"]))))
    return found


def fits(record, octets, signature):
    public = base64.b64decode(record["p"])
    if record.get("k") == "ed25519":
        return openssl("pkeyutl", "-verify", "-rawin", "-pubin", "-inkey",
                       pem("PUBLIC KEY", ED25519_PUBLIC + public), "-sigfile", signature,
                       "-in", hashlib.sha256(octets).digest(), check=False)
    return openssl("dgst", "-sha256", "-verify", pem("PUBLIC KEY", public), "-signature", signature,
                   octets, check=False)
