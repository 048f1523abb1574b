"""Certificates of a trial: good ones, and those that an attacker or a careless operator shows.

    ca = Authority(folder)
    leaf = ca.leaf("mx", "mx.a.example")           leaf.chain: the leaf, then the root; leaf.key
    ca.leaf("old", "mx.a.example", days=-1)        expired
    leaf.spki, leaf.certificate                    DER, of which TLSA records tell
    stolen(folder, leaf)                           the same certificate with the key of another
"""

import base64
import pathlib
import ssl
import subprocess

NEW_KEY = "openssl ecparam -name prime256v1 -genkey -noout -out".split()
# The two numbers of a private key on P-256 (RFC 5915 §3): the secret, then the public point.
SECRET = slice(7, 39)


def openssl(*words, stdin=None):
    return subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60,
                          input=stdin).stdout


class Leaf:
    """Files with a chain and a key; what stands in them as DER."""

    def __init__(self, chain, key):
        self.chain, self.key = pathlib.Path(chain), pathlib.Path(key)
        self.certificate = openssl("x509", "-in", self.chain, "-outform", "DER")
        self.spki = spki(self.chain)

    def context(self, version=None):
        """Of a server that shows it; `version`: of TLS, that and no other."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        if version:
            context.minimum_version = context.maximum_version = version
        return context


def spki(path):
    """The SubjectPublicKeyInfo of the first certificate in a file, as DER."""
    public = openssl("x509", "-in", path, "-noout", "-pubkey")
    return openssl("pkey", "-pubin", "-outform", "DER", stdin=public)


class Authority:
    """A root that nobody trusts but those who are told to. `root`: its file."""

    def __init__(self, folder, name="trial root"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.root, self.key = self.folder / "root.pem", self.folder / "root.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-days", "3", "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.root)
        self.certificate = openssl("x509", "-in", self.root, "-outform", "DER")
        self.spki = spki(self.root)

    def leaf(self, stem, *names, days=2, with_root=True):
        """A certificate for these names; `days` below 0: expired. Beside it stands the root."""
        chain, key, request = (self.folder / f"{stem}.{end}" for end in ("pem", "key", "csr"))
        subprocess.run([*NEW_KEY, key], check=True, capture_output=True, timeout=60)
        openssl("req", "-new", "-key", key, "-subj", f"/CN={stem}", "-out", request)
        extensions = self.folder / f"{stem}.ext"
        extensions.write_text("basicConstraints=critical,CA:FALSE\nsubjectAltName="
                              + ",".join(f"DNS:{name}" for name in names) + "\n")
        openssl("x509", "-req", "-in", request, "-CA", self.root, "-CAkey", self.key,
                "-extfile", extensions, "-out", chain, "-days", str(days))
        if with_root:
            chain.write_text(chain.read_text() + self.root.read_text())
        return Leaf(chain, key)


def stolen(folder, leaf):
    """The certificate of another, which anybody can fetch, and a key that does not belong to it.

    No server starts with such a pair: it compares the public numbers. So the file of the key has
    the public number of the victim beside the secret one of the attacker, which is what signs.
    """
    folder = pathlib.Path(folder)
    other = folder / f"{leaf.key.stem}.attacker"
    subprocess.run([*NEW_KEY, other], check=True, capture_output=True, timeout=60)
    theirs, ours = (bytearray(openssl("ec", "-in", key, "-outform", "DER"))
                    for key in (leaf.key, other))
    if theirs[:7] != ours[:7] or theirs[5:7] != b"\x04\x20" or len(theirs) != len(ours):
        raise RuntimeError("keys on P-256 do not look as they should")
    theirs[SECRET] = ours[SECRET]
    text = base64.encodebytes(bytes(theirs)).decode()
    key = folder / f"{leaf.key.stem}.stolen"
    key.write_text(f"-----BEGIN EC PRIVATE KEY-----\n{text}-----END EC PRIVATE KEY-----\n")
    return Leaf(leaf.chain, key)
