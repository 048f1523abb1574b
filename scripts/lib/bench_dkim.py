"""DKIM for who judges two relays: relaxed/relaxed alone (RFC 6376 §3.4), the arithmetic by openssl.

Neither relay's code is in it, so that a mail that both verify, and what each of them signs, is judged
from outside.
"""

import base64
import hashlib
import pathlib
import re
import subprocess
import tempfile
import time

DOMAIN = "load.test"
SIGNED = ("from", "to", "subject", "date", "message-id", "mime-version", "content-type")
# What stands before the 32 octets of a public key of Ed25519 in DER (RFC 8410).
ED25519_DER = bytes.fromhex("302a300506032b6570032100")
MAKE = {
    "rsa": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    "ed25519": ("-algorithm", "ED25519"),
}
# Both sign the SHA-256 of what is signed (RFC 8463 §3).
DIGEST = {"rsa": ("-pkeyopt", "digest:sha256"), "ed25519": ("-rawin",)}


def openssl(*words):
    """Its output; errs if it says no."""
    done = subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)
    return done.stdout


class Key:
    """A key pair of this run, in a file, and the record that names it."""

    def __init__(self, folder, selector, kind):
        self.selector, self.kind = selector, kind
        self.path = pathlib.Path(folder, f"{selector}.pem")
        openssl("genpkey", *MAKE[kind], "-out", self.path)
        public = openssl("pkey", "-in", self.path, "-pubout", "-outform", "DER")
        public = public.removeprefix(ED25519_DER) if kind == "ed25519" else public
        self.record = f"v=DKIM1; k={kind}; p={base64.b64encode(public).decode()}"

    @property
    def name(self):
        return f"{self.selector}._domainkey.{DOMAIN}"

    def sign(self, content):
        """The content below a signature of this key."""
        fields, body = parts(content)
        hashed = base64.b64encode(hashlib.sha256(relaxed_body(body)).digest()).decode()
        field = (
            f"DKIM-Signature: v=1; a={self.kind}-sha256; c=relaxed/relaxed; d={DOMAIN};\r\n"
            f"\ts={self.selector}; t={int(time.time())}; h={':'.join(SIGNED)};\r\n"
            f"\tbh={hashed};\r\n\tb="
        ).encode()
        with tempfile.NamedTemporaryFile() as digest:
            digest.write(hashlib.sha256(signed_octets(fields, field, SIGNED)).digest())
            digest.flush()
            found = openssl("pkeyutl", "-sign", "-inkey", self.path, "-in", digest.name,
                            *DIGEST[self.kind])
        text = base64.b64encode(found).decode()
        lines = [text[at:at + 70] for at in range(0, len(text), 70)]
        return field + "\r\n\t".join(lines).encode() + b"\r\n" + content


def parts(content):
    """The fields of the header, each with its folds, and the body."""
    header, _, body = content.partition(b"\r\n\r\n")
    return re.split(rb"\r\n(?![ \t])", header), body


def relaxed_field(field):
    name, _, value = field.partition(b":")
    value = re.sub(rb"[ \t]+", b" ", value.replace(b"\r\n", b"")).strip(b" ")
    return name.strip().lower() + b":" + value


def relaxed_body(body):
    body = re.sub(rb"[ \t]+(?=\r\n)", b"", body)
    body = re.sub(rb"[ \t]+", b" ", body)
    body = re.sub(rb"(\r\n)+\Z", b"", body)
    return body + b"\r\n" if body else b""


def signed_octets(fields, signature, names):
    """What is signed: these fields, the lowest of a name first, and the signature without its b=."""
    left = list(fields)
    out = b""
    for name in names:
        for at in range(len(left) - 1, -1, -1):
            if left[at].partition(b":")[0].strip().lower() == name.encode():
                out += relaxed_field(left.pop(at)) + b"\r\n"
                break
    return out + relaxed_field(re.sub(rb"([;\s]b\s*=)[^;]*", rb"\1", signature))


def tags(field):
    """The tags of a signature or of a record, without blanks."""
    value = field.partition(":")[2] if field.lower().startswith("dkim-signature") else field
    pairs = (one.partition("=") for one in re.sub(r"\s+", "", value).split(";"))
    return {name: text for name, _, text in pairs if name}


def signatures(content, records):
    """The algorithms whose signatures hold, in their order; errs for one that does not.
    `records`: the text of each name."""
    fields, body = parts(content)
    held = []
    for field in fields:
        if not field.lower().startswith(b"dkim-signature:"):
            continue
        said = tags(field.decode())
        if said["c"] != "relaxed/relaxed":
            raise RuntimeError(f"it is not relaxed/relaxed: {field!r}")
        if base64.b64decode(said["bh"]) != hashlib.sha256(relaxed_body(body)).digest():
            raise RuntimeError(f"the body is another one: {field!r}")
        key = tags(records[f"{said['s']}._domainkey.{said['d']}"])
        kind = said["a"].removesuffix("-sha256")
        public = base64.b64decode(key["p"])
        with tempfile.TemporaryDirectory() as folder:
            files = {
                "digest": hashlib.sha256(
                    signed_octets(fields, field, said["h"].lower().split(":"))).digest(),
                "key": ED25519_DER + public if kind == "ed25519" else public,
                "signature": base64.b64decode(said["b"]),
            }
            for name, octets in files.items():
                pathlib.Path(folder, name).write_bytes(octets)
            try:
                openssl("pkeyutl", "-verify", "-pubin", "-keyform", "DER",
                        "-inkey", f"{folder}/key", "-in", f"{folder}/digest",
                        "-sigfile", f"{folder}/signature", *DIGEST[kind])
            except subprocess.CalledProcessError as error:
                raise RuntimeError(f"it does not hold: {field!r}: {error.stdout!r}") from error
        held.append(said["a"])
    return held
