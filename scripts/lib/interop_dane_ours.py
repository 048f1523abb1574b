"""DANE for mail to us: the TLSA record that `merpati domain zone --tlsa` prints stands in a signed
DNS, and Postfix's posttls-finger finds our listener proven by it, but not with another one."""

import os
import pathlib
import re
import subprocess

from interop_import import OWN_RESOLVER
from interop_relay import Node, table
from peers import ZONE
from signed_dns import SIGNED, Resolver, SignedDns

NETWORK = "127.27.2."
DNS, RESOLVER, OURS = (NETWORK + at for at in ("53", "1", "25"))
DOMAIN, HOST = f"ours.{ZONE}", f"relay.{ZONE}"
TLSA = re.compile(rf"^_25\._tcp\.{re.escape(HOST)}\. \d+ IN (TLSA .*)$", re.M)


def dane_to_us(score, binary, folder):
    folder.mkdir(mode=0o755)
    tables = [
        table("[[listener]]", name="mx", kind="relay", listen=[f"{OURS}:25"], tls="starttls"),
        table("[relay]", local_domains=[DOMAIN]),
        table("[[route]]", name="nowhere", to="refuse nothing is delivered here"),
    ]
    with Node(binary, folder / "merpati", tables) as node:
        records = {}
        score.case("DANE to us: the record to publish",
                   lambda: records.update(ours=record(binary, node)))
        other = "TLSA 3 1 1 " + "ab" * 32
        for name, published, word in (
            ("our record", records.get("ours"), "Verified"),
            ("another record", other, "Untrusted"),
        ):
            score.case(f"DANE to us: posttls-finger, {name}", lambda name=name, published=published,
                       word=word: finger(folder / name.replace(" ", "-"), published, word))


def record(binary, node):
    """What our own command says is to be published of our certificate."""
    said = ""
    for words in (("add", DOMAIN), ("zone", DOMAIN, "--tlsa")):
        done = subprocess.run([binary, "domain", *words, "--config", node.folder / "merpati.toml"],
                              capture_output=True, text=True, timeout=60)
        said += done.stdout + done.stderr
    found = TLSA.search(said)
    if not found:
        raise RuntimeError(f"no TLSA record: {said}")
    return found[1]


def finger(folder, published, word):
    """posttls-finger at the level dane, where this is published."""
    folder.mkdir(mode=0o755)
    records = [f"{DOMAIN} MX 10 {HOST}", f"{HOST} A {OURS}", f"_25._tcp.{HOST} {published}"]
    root = pathlib.Path(os.environ["POSTFIX_ROOT"])
    (folder / "main.cf").write_text("compatibility_level = 3.6\nmail_owner = postfix\n")
    (folder / "resolv.conf").write_text(f"nameserver {RESOLVER}\n")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "MAIL_CONFIG": str(folder),
                   "LD_LIBRARY_PATH": str(root / "usr/lib/postfix")}
    with SignedDns(folder / "dns", DNS, {ZONE: SIGNED}, records) as dns, \
            Resolver(folder / "resolver", RESOLVER, dns, proves=True):
        done = subprocess.run(
            [*OWN_RESOLVER, folder / "resolv.conf", root / "usr/sbin/posttls-finger", "-c", "-l",
             "dane", DOMAIN], env=environment, capture_output=True, text=True, timeout=60,
            stdin=subprocess.DEVNULL)
    told = done.stdout + done.stderr
    if f": {word} TLS connection established" not in told:
        raise RuntimeError(f"not {word}: {told}")
