"""Who signs and verifies besides us: dkimpy, OpenDKIM as a milter, rspamd over HTTP.

Each has `sign(content)`, which gives the content with signatures of THEIRS on top, one for each of
`selectors`, and `verify(content, selectors)`, which gives what it says of the signatures with these
selectors: "pass", or other words.
"""

import base64
import contextlib
import http.client
import itertools
import json
import os
import pathlib
import re
import socket
import subprocess

import interop_pypi  # noqa: F401
import authres
import dkim

from interop_milter import Milter
from jail import Jail
from peers import Peer

THEIRS = "their.example"
SENDER, RECIPIENT = f"ani@{THEIRS}", "budi@ours.example"
CANONICAL = ("simple", "relaxed")
FORMS = list(itertools.product(CANONICAL, CANONICAL))
ALGORITHMS = {"rsa": "rsa-sha256", "ed": "ed25519-sha256"}
SIGNATURES_MAX = 32


class Keys:
    """An RSA and an Ed25519 key of THEIRS."""

    def __init__(self, folder):
        folder.mkdir()
        self.pem, self.public = {}, {}
        for name, how in (("rsa", ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]), ("ed", ["ED25519"])):
            path = folder / f"{name}.pem"
            openssl("genpkey", "-algorithm", *how, "-out", path)
            self.pem[name] = path.read_text()
            public = openssl("pkey", "-in", path, "-pubout", "-outform", "DER")
            self.public[name] = public if name == "rsa" else public[-32:]
        self.rsa = openssl("rsa", "-in", folder / "rsa.pem", "-traditional")
        self.seed = openssl("pkey", "-in", folder / "ed.pem", "-outform", "DER")[-32:]

    def record(self, name):
        kind = "rsa" if name == "rsa" else "ed25519"
        return f"v=DKIM1; k={kind}; p={base64.b64encode(self.public[name]).decode()}"

    def publish(self, dns, selectors):
        """The key of a selector is what its name ends with."""
        for selector in selectors:
            record = self.record(selector.rsplit("-", 1)[1])
            dns.add(f"{selector}._domainkey.{THEIRS} TXT {record}")


def openssl(*words):
    ran = subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)
    return ran.stdout


def said_of(fields, selectors):
    """What Authentication-Results say of signatures, by selector; the first word counts."""
    found = {}
    for field in fields:
        unfolded = re.sub(r"\r?\n[ \t]*", " ", field)
        read = authres.AuthenticationResultsHeader.parse(f"Authentication-Results: {unfolded}")
        for one in read.results:
            if one.method == "dkim":
                selector = next((it.value for it in one.properties if it.name == "s"), None)
                why = one.reason or one.result_comment
                result = one.result if one.result == "pass" or not why else f"{one.result}: {why}"
                found.setdefault(selector, result)
    return {selector: found.get(selector, "nothing") for selector in selectors}


class Dkimpy:
    """In all four canonicalizations with both keys."""

    name = "dkimpy"

    def __init__(self, keys, dns, answer):
        """`answer`: the TXT record of a name."""
        self.answer = answer
        private = {"rsa": keys.rsa, "ed": base64.b64encode(keys.seed)}
        self.forms = {f"{header}-{body}-{kind}": (header, body, kind, private[kind])
                      for (header, body), kind in itertools.product(FORMS, private)}
        self.selectors = list(self.forms)
        keys.publish(dns, self.selectors)

    def sign(self, content):
        signatures = b""
        for selector, (header, body, kind, private) in self.forms.items():
            signatures += dkim.DKIM(content).sign(
                selector.encode(), THEIRS.encode(), private,
                signature_algorithm=ALGORITHMS[kind].encode(),
                canonicalize=(header.encode(), body.encode()))
        return signatures + content

    def verify(self, content, selectors):
        found = {}
        checked = dkim.DKIM(content)
        count = sum(name.lower() == b"dkim-signature" for name, _ in checked.headers)
        for index in range(count):
            try:
                result = "pass" if checked.verify(index, self.answer) else "fail"
            except dkim.DKIMException as why:
                result = f"fail: {why}"
            selector = checked.signature_fields.get(b"s", b"").decode("ascii", "replace")
            found.setdefault(selector, result)
        return {selector: found.get(selector, "nothing") for selector in selectors}


class OpenDkimFilter(Peer):
    """One process of OpenDKIM, which answers at a Unix socket in the jail of all of them."""

    def __init__(self, jail, folder, name, settings):
        folder.mkdir()
        self.jail, self.folder = jail, folder
        self.socket = jail.path(f"run/{name}")
        jail.write(f"etc/{name}.conf", f"""
Socket local:/run/{name}
Syslog no
ResolverConfiguration /etc/unbound.conf
{settings}
""")
        self.start(self.answers, "/usr/sbin/opendkim", "-f", "-x", f"/etc/{name}.conf")

    def answers(self):
        try:
            with Milter(self.socket):
                return True
        except OSError:
            return False

    def added(self, content, name):
        """The values of the fields of this name that the filter adds."""
        with Milter(self.socket) as milter:
            added = milter.added(content, SENDER, RECIPIENT)
        return [value for one, value in added if one.lower() == name.lower()]


class OpenDkim:
    """A filter that verifies, and one that signs for each of `selectors`: it does so with one key
    and one canonicalization."""

    name = "OpenDKIM"

    def __init__(self, folder, keys, dns, stack):
        folder.mkdir()
        jail = Jail(pathlib.Path(os.environ["PEERS"], "opendkim/root"), folder / "jail")
        jail.make("run")
        # Its own resolver asks nobody but our DNS.
        jail.write("etc/unbound.conf", f"""server:
    do-not-query-localhost: no
    module-config: "iterator"
    do-ip6: no
forward-zone:
    name: "."
    forward-addr: {dns.address}@{dns.port}
""")
        for kind, pem in keys.pem.items():
            jail.write(f"etc/{kind}.pem", pem, mode=0o600)

        def runs(name, settings):
            return stack.enter_context(OpenDkimFilter(jail, folder / name, name, settings))

        self.verifier = runs("verifier", f"""
Mode v
AuthservID opendkim.example
MaximumSignaturesToVerify {SIGNATURES_MAX}
MaximumHeaders 0
""")
        self.signers = {}
        for (header, body), kind in itertools.product(FORMS, keys.pem):
            name = f"opendkim-{header}-{body}-{kind}"
            jail.write(f"etc/{name}.keys", f"{name} {THEIRS}:{name}:/etc/{kind}.pem\n")
            jail.write(f"etc/{name}.signing", f"* {name}\n")
            self.signers[name] = runs(name, f"""
Mode s
SignatureAlgorithm {ALGORITHMS[kind]}
Canonicalization {header}/{body}
KeyTable /etc/{name}.keys
SigningTable refile:/etc/{name}.signing
OversignHeaders From
MaximumHeaders 0
InternalHosts 0.0.0.0/0
""")
        self.selectors = list(self.signers)
        keys.publish(dns, self.selectors)
        stack.callback(self.end)

    def end(self):
        """Each takes up to five seconds to notice, so all are told before one is waited for."""
        for one in (self.verifier, *self.signers.values()):
            one.process.terminate()

    def sign(self, content):
        signatures = b""
        for signer in self.signers.values():
            for value in signer.added(content, b"DKIM-Signature"):
                signatures += b"DKIM-Signature:" + crlf(value) + b"\r\n"
        return signatures + content

    def verify(self, content, selectors):
        fields = self.verifier.added(content, b"Authentication-Results")
        return said_of([field.decode(errors="replace") for field in fields], selectors)


class Rspamd(Peer):
    """In its one canonicalization, with both keys."""

    name = "rspamd"

    def __init__(self, folder, keys, dns):
        super().__init__("rspamd", folder, ["_rspamd"])
        self.selectors = [f"rspamd-{kind}" for kind in keys.pem]
        keys.publish(dns, self.selectors)
        for name in ("run/rspamd", "var/lib/rspamd"):
            self.jail.make(name, "_rspamd")
        # It reads Ed25519 keys as a seed in base64 alone.
        seed = base64.b64encode(keys.seed).decode()
        for kind, text in (("rsa", keys.pem["rsa"]), ("ed", seed)):
            self.jail.write(f"etc/{kind}.key", text, "_rspamd", 0o600)
        selectors = "".join(
            f'{{ selector = "{one}"; path = "/etc/{one.rsplit("-", 1)[1]}.key"; }},\n'
            for one in self.selectors)
        # The list of all top-level domains costs ten seconds, and DKIM does not ask for it.
        self.jail.write("etc/rspamd/domains", "com\nexample\n")
        plugins = "/usr/share/rspamd/plugins"
        self.jail.write("etc/rspamd/rspamd.conf", f"""
options {{
    filters = "dkim";
    dns {{ nameserver = ["{dns.address}:{dns.port}"]; timeout = 5s; }}
    local_addrs = [127.0.0.0/8];
    tempdir = "/tmp";
    url_tld = "/etc/rspamd/domains";
    control_socket = "/run/rspamd/control";
    pidfile = "/run/rspamd/pid";
    history_rows = 1;
    disable_monitoring = true;
}}
logging {{ type = "console"; level = "warning"; }}
worker "normal" {{ bind_socket = "/run/rspamd/scan mode=0666"; count = 1; }}
modules {{
    path = "{plugins}/dkim_signing.lua";
    path = "{plugins}/milter_headers.lua";
}}
dkim {{ max_sigs = {SIGNATURES_MAX}; }}
dkim_signing {{
    use_domain = "envelope";
    use_esld = false;
    allow_hdrfrom_mismatch = true;
    allow_hdrfrom_mismatch_local = true;
    allow_hdrfrom_multiple = true;
    domain {{ {THEIRS} {{ selectors [ {selectors} ] }} }}
}}
milter_headers {{ use = ["authentication-results"]; skip_local = false; }}
""")
        self.start(self.answers, "/usr/bin/rspamd", "-f", "-u", "_rspamd", "-g", "_rspamd",
                   "-c", "/etc/rspamd/rspamd.conf")

    def answers(self):
        try:
            return self.ask("GET", "/ping", b"", {}).startswith(b"pong")
        except OSError:
            return False

    def ask(self, method, path, content, fields):
        client = http.client.HTTPConnection("rspamd", timeout=60)
        client.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.closing(client):
            client.sock.settimeout(60)
            client.sock.connect(str(self.jail.path("run/rspamd/scan")))
            client.request(method, path, content, fields)
            return client.getresponse().read()

    def scan(self, content, address):
        """What it says of a message from this client; those of loopback are signed."""
        fields = {"From": SENDER, "Rcpt": RECIPIENT, "IP": address, "Helo": "client.example"}
        return json.loads(self.ask("POST", "/checkv2", content, fields))

    def sign(self, content):
        found = self.scan(content, "127.0.0.1").get("dkim-signature", [])
        values = [found] if isinstance(found, str) else found
        fields = [b"DKIM-Signature: " + crlf(value.encode()) + b"\r\n" for value in values]
        return b"".join(fields) + content

    def verify(self, content, selectors):
        added = self.scan(content, "192.0.2.1").get("milter", {}).get("add_headers", {})
        found = added.get("Authentication-Results", [])
        fields = [one["value"] for one in (found if isinstance(found, list) else [found])]
        return said_of(fields, selectors)


def crlf(value):
    return re.sub(rb"\r?\n", b"\r\n", value)
