"""What others make of our signatures and of what we say about senders, and we of theirs: dkimpy and
authres (PyPI) on both sides, with keys that `merpati domain` made and a DNS of loopback."""

import email
import itertools
import json
import smtplib
import subprocess

import interop_pypi  # noqa: F401
import authres
import dkim
import nacl.signing

from conformance_peers import Dns, Peer
from servers import end_process, serve

US, DOMAIN, PATIENCE = "mx.ours.example", "football.example.com", 30
# RFC 8616
WIDE = "grüße.example"
AUTHOR = f"From: Joe <joe@{DOMAIN}>\r\n".encode()
CANONICAL = (b"simple", b"relaxed")
# As they are in mail, and as they are rarely.
SHAPES = {
    "plain": AUTHOR + b"Subject: x\r\n\r\nhello\r\n",
    "trailing blanks": AUTHOR + b"Subject: x  \r\n\r\nhello  \t\r\n  \r\n\r\n",
    "lines of blanks at the end": AUTHOR + b"\r\nhello\r\n \r\n\t \r\n   \r\n",
    "only blanks": AUTHOR + b"\r\n   \r\n\t\r\n",
    "empty body": AUTHOR + b"Subject: x\r\n\r\n",
    "no body": AUTHOR + b"Subject: x\r\n",
    "a thousand empty lines": AUTHOR + b"\r\n" + b"\r\n" * 1_000,
    "a long line": AUTHOR + b"\r\n" + b"x" * 5_000 + b"\r\n",
    "blanks behind a long line": AUTHOR + b"\r\n" + b"x" * 1_022 + b" \r\n" + b"y" * 998 + b"  \r\n",
    "8-bit": AUTHOR + b"Content-Transfer-Encoding: 8bit\r\n\r\ngr\xc3\xbc\xc3\x9fe\r\n",
    "UTF-8 in the header": AUTHOR + "Subject: grüße\r\n\r\nx\r\n".encode(),
    "folded": AUTHOR + b"Subject: a\r\n b\r\n\tc   d\r\nTo: a@b.example,\r\n  c@d.example\r\n\r\nx\r\n",
    "repeated fields": AUTHOR + b"Comments: 1\r\nComments: 2\r\nTo: a@b.example\r\nTo: c@d.example\r\n\r\nx\r\n",
    "multipart": AUTHOR + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\n\r\none\r\n--b\r\nContent-Type: text/html\r\n\r\n<b>\r\n--b--\r\n",
    "dots": AUTHOR + b"\r\n.\r\n..\r\n. x\r\n",
    "no blank behind the colon": f"From:joe@{DOMAIN}\r\nSubject:x\r\n\r\nx\r\n".encode(),
    "large": AUTHOR + b"\r\n" + b"a line of some length  with blanks \r\n" * 20_000,
    "a list": AUTHOR + b"List-Id: <l.example>\r\nList-Unsubscribe: <mailto:a@b.example>\r\n\r\nx\r\n",
    "a subdomain": f"From: a@mail.{DOMAIN}\r\n\r\nx\r\n".encode(),
    "tabs": AUTHOR + b"Subject:\tx\ty\r\n\r\na\t \tb\r\n",
    "form feeds": AUTHOR + b"\r\na\x0c b\x0b\r\n",
    "an author in UTF-8":
    f"From: José <josé@{DOMAIN}>\r\nTo: 用户@例子.example\r\n\r\nx\r\n".encode(),
    "a domain in UTF-8": f"From: Jo <jo@{WIDE}>\r\nSubject: x\r\n\r\nx\r\n".encode(),
    "empty fields": AUTHOR + b"Subject: \r\nComments:\r\nKeywords: \t \r\n\r\nx\r\n",
    "a fold of blanks": AUTHOR + b"Subject: x\r\n \t\r\n y\r\n\r\nx\r\n",
    "trace of others": b"Received: a\r\nReceived: b\r\n" + AUTHOR + b"\r\nx\r\n",
}
# Ways to write that mail was checked by us; others are not ours to remove.
DISGUISES = [
    f"{US}; dkim=pass", f"{US.upper()}; dkim=pass", f" {US} ; dkim=pass", f"{US} 1; dkim=pass",
    f"(a comment) {US}; dkim=pass", f"(a (nested) comment){US}(x); dkim=pass",
    f"\r\n\t{US};\r\n\tdkim=pass", f'"{US}"; dkim=pass', f"{US}/1; dkim=pass",
    f"{US}; none", f"{US};dkim=pass;spf=pass", f"(\\)) {US}; dkim=pass", f"\t{US}\t;\tdkim=pass",
    f"{US} (x) 1 (y); dkim=pass", f"{US}.; dkim=pass", f"(\r\n\t) {US}; dkim=pass",
    "ours.example; dkim=pass", "OURS.example; dkim=pass", '"ours.example"; dkim=pass',
    '"mx.ours\\.example"; dkim=pass',
]


class Refused(RuntimeError):
    """The relay does not take a message; its reply."""


class Trial:
    """A relay that signs for DOMAIN, checks strangers, and sends all on to `peer`."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        folder.mkdir()
        (folder / "data").mkdir()
        self.peer, self.dns = Peer(), Dns()
        self.config = folder / "merpati.toml"
        self.config.write_text(f"""
            [server]
            data_dir = "{folder}/data"
            hostname = "{US}"
            http_listen = []
            [log]
            to = "off"
            [spool]
            disk_free_min = "1 MiB"
            [dns]
            servers = ["{self.dns.place}"]
            [strangers]
            sender_domain = "any"
            [relay]
            networks = ["127.0.0.1"]
            local_domains = ["ours.example"]
            [[listener]]
            name = "mx"
            kind = "relay"
            listen = ["127.0.0.1:0"]
            [[route]]
            name = "all"
            to = "smtp://{self.peer.place}"
        """)
        # Of all domains the same, for they say the day.
        self.selectors = {}
        for domain in (DOMAIN, WIDE):
            self.domain("add", domain)
            answer = json.loads(self.domain("records", domain, "-o", "json"))
            for record in answer["records"]:
                self.dns.add(f"{record['name']} {record['type']} {record['value']}")
                selector, _, rest = record["name"].partition("._domainkey.")
                if rest:
                    self.selectors[selector] = None
        self.selectors = list(self.selectors)
        self.sent = 0

    def domain(self, *words):
        command = [self.binary, "domain", *words, "--config", self.config]
        ran = subprocess.run(command, capture_output=True, timeout=60, check=False)
        return ran.stdout

    def __enter__(self):
        for domain in (DOMAIN, WIDE):
            self.domain("check", domain)
        self.process, places = serve(
            [self.binary, "serve", "--config", self.config], self.folder
        )
        self.host, _, self.port = places["mx"].rpartition(":")
        return self

    def __exit__(self, *_):
        end_process(self.process)
        self.peer.close()
        self.dns.close()

    def through(self, content, source, sender=f"joe@{DOMAIN}"):
        """What arrives of a message from a client at this address."""
        self.sent += 1
        recipient = f"u{self.sent}@ours.example"
        with smtplib.SMTP(self.host, int(self.port), timeout=60, source_address=(source, 0)) as c:
            c.ehlo("client.example")
            for command in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA"):
                code, text = c.docmd(command)
                if code >= 400:
                    raise RuntimeError(f"{command}: {code} {text}")
            lines = content.split(b"\r\n")
            wire = b"\r\n".join(b"." + one if one.startswith(b".") else one for one in lines)
            c.send(wire + b".\r\n")
            code, text = c.getreply()
            if code != 250:
                raise Refused(f"{code} {text}: {content[:300]!r}")
        if not self.peer.wait(lambda: self.peer.mails_to(recipient), PATIENCE):
            raise RuntimeError(f"{recipient}: nothing arrived")
        arrived = self.peer.mails_to(recipient)[0].content
        # Thousands come this way, in few sessions.
        self.peer.mails.clear()
        self.peer.ended.clear()
        for session in self.peer.sessions:
            session.octets = b""
        return arrived

    def answer(self, name, timeout=5):
        """The TXT record of this name, for dkimpy."""
        texts = [data for kind, data in self.dns.find(name.decode()) or () if kind == "TXT"]
        return texts[0].encode() if texts else None


def ours(trial):
    """Both signatures of each shape, by dkimpy."""
    for name, content in SHAPES.items():
        arrived = trial.through(content, "127.0.0.1")
        for index in (0, 1):
            if not dkim.DKIM(arrived).verify(idx=index, dnsfunc=trial.answer):
                raise RuntimeError(f"{name}: signature {index} does not hold: {arrived[:2000]!r}")
        if dkim.verify(arrived + b"\r\nmore\r\n", dnsfunc=trial.answer):
            raise RuntimeError(f"{name}: dkimpy takes anything")
    print(f"        {len(SHAPES)} shapes, two signatures each")


def theirs(trial, folder):
    """dkimpy signs each shape in each form, and we say so, in a field that authres reads."""
    rsa = folder / "their.pem"
    subprocess.run(["openssl", "genrsa", "-traditional", "-out", rsa, "2048"], check=True,
                   capture_output=True, timeout=60)
    public = subprocess.run(["openssl", "rsa", "-in", rsa, "-pubout"], check=True,
                            capture_output=True, timeout=60).stdout.decode()
    text = "".join(line for line in public.splitlines() if not line.startswith("-"))
    trial.dns.add(f"rsa._domainkey.their.example TXT v=DKIM1; k=rsa; p={text}")
    seed = nacl.signing.SigningKey.generate()
    encode = nacl.encoding.Base64Encoder.encode
    trial.dns.add("ed._domainkey.their.example TXT v=DKIM1; k=ed25519; p="
                  + encode(bytes(seed.verify_key)).decode())
    keys = {(b"rsa", b"rsa-sha256"): rsa.read_bytes(),
            (b"ed", b"ed25519-sha256"): encode(bytes(seed))}
    forms = list(itertools.product(keys.items(), CANONICAL, CANONICAL))
    count = 0
    for name, content in SHAPES.items():
        content = content if b"\r\n\r\n" in content else content + b"\r\n"
        for ((selector, algorithm), key), header, body in forms:
            field = dkim.sign(content, selector, b"their.example", key, signature_algorithm=algorithm,
                              canonicalize=(header, body), include_headers=[b"from"])
            said = results(trial.through(field + content, "127.0.0.2"))
            found = [one for one in said.results if one.method == "dkim"]
            if not any(one.result == "pass" for one in found):
                raise RuntimeError(f"{name} {algorithm} {header}/{body}: {said}")
            count += 1
    broken = dkim.sign(SHAPES["plain"], b"rsa", b"their.example", rsa.read_bytes(),
                       include_headers=[b"from"]) + SHAPES["plain"] + b"more\r\n"
    said = results(trial.through(broken, "127.0.0.2"))
    if [one.result for one in said.results if one.method == "dkim"] != ["fail"]:
        raise RuntimeError(f"a body that was changed: {said}")
    print(f"        {count} signatures of dkimpy")


def results(content):
    """The one field of ours, as authres reads it."""
    fields = email.message_from_bytes(content).get_all("Authentication-Results", [])
    read = [authres.AuthenticationResultsHeader.parse(f"Authentication-Results: {one}")
            for one in fields]
    own = [one for one in read if one.authserv_id == US]
    if len(own) != 1:
        raise RuntimeError(f"{len(own)} fields of ours: {fields}")
    return own[0]


def forged(trial):
    """Twenty ways to speak in our name, and none arrives; that of another host does."""
    plain = SHAPES["plain"]
    for disguise in DISGUISES:
        content = f"Authentication-Results: {disguise}\r\n".encode() + plain
        arrived = trial.through(content, "127.0.0.2")
        if disguise.encode() in arrived:
            raise RuntimeError(f"it survives: {disguise!r}")
    everything = "".join(f"Authentication-Results: {one}\r\n" for one in DISGUISES).encode()
    other = b"Authentication-Results: other.example; spf=pass smtp.mailfrom=a@b.example\r\n"
    arrived = trial.through(everything + other + plain, "127.0.0.2")
    if other not in arrived or any(one.encode() in arrived for one in DISGUISES):
        raise RuntimeError(f"all at once: {arrived[:3000]!r}")
    results(arrived)
    hostile = trial.through(plain, "127.0.0.2", '"a;b=c (d"@e.example')
    results(hostile)
    print(f"        {len(DISGUISES)} disguises")


def authentication(score, binary, folder):
    with Trial(binary, folder) as trial:
        score.case("dkimpy: our signatures", lambda: ours(trial))
        score.case("dkimpy and authres: what we say of theirs", lambda: theirs(trial, folder))
        score.case("forged Authentication-Results", lambda: forged(trial))
