"""MTA-STS for mail to us: curl fetches the policy that a Merpati serves, and another Merpati delivers
to it by that policy, with the records that `merpati domain zone` prints."""

import re
import subprocess

from certificates import Authority
from conformance_peers import Dns
from interop_relay import Node, table
from interop_secured import VERIFIED, Sender, as_it_says, with_roots
from peers import ZONE
from policy_host import PATH

NETWORK = "127.28.4."
DNS, OURS, SENDER = (NETWORK + at for at in ("53", "25", "26"))
DOMAIN, HOST = f"ours.{ZONE}", f"relay.{ZONE}"
POLICY_HOST = f"mta-sts.{DOMAIN}"
TEXT = re.compile(rf'^_mta-sts\.{re.escape(DOMAIN)}\. \d+ IN TXT "([^"]*)"$', re.M)


def sts_to_us(score, binary, folder):
    folder.mkdir(mode=0o755)
    ca = Authority(folder / "ca")
    mail, web = ca.leaf("mail", HOST), ca.leaf("web", POLICY_HOST)
    shown = {"tls_certificate": str(mail.chain), "tls_key": str(mail.key)}
    tables = [
        table("[[listener]]", name="mx", kind="relay", listen=[f"{OURS}:25"], tls="starttls",
              **shown),
        table("[relay]", local_domains=[DOMAIN]),
        table("[strangers]", sender_domain="any"),
        table("[https]", listen=[f"{OURS}:443"]),
        table("[[certificate]]", name="sts", chain=str(web.chain), key=str(web.key)),
        table("[[mta_sts]]", name="all", domains=[DOMAIN], mode="enforce"),
        table("[[route]]", name="kept", to=f"lmtp://{OURS}:24"),
    ]
    with Node(binary, folder / "merpati", tables) as node:
        score.case("MTA-STS to us: curl fetches the policy", lambda: fetched(ca))
        score.case("MTA-STS to us: another Merpati keeps to it",
                   lambda: delivered(binary, folder, ca, node))


def fetched(ca):
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--include", "--cacert", ca.root, "--resolve",
         f"{POLICY_HOST}:443:{OURS}", f"https://{POLICY_HOST}{PATH}"],
        capture_output=True, timeout=60)
    head, _, body = done.stdout.decode().partition("\r\n\r\n")
    wanted = {"version: STSv1", "mode: enforce", f"mx: {HOST}"}
    if "content-type: text/plain" not in head.lower() or not wanted <= set(body.splitlines()):
        raise RuntimeError(f"{done.stdout}{done.stderr}")


def record(binary, node):
    """The text that our own command says is to be published."""
    said = ""
    for words in (("add", DOMAIN), ("zone", DOMAIN)):
        done = subprocess.run([binary, "domain", *words, "--config", node.folder / "merpati.toml"],
                              capture_output=True, text=True, timeout=60)
        said += done.stdout + done.stderr
    if not (found := TEXT.search(said)):
        raise RuntimeError(f"no record of MTA-STS: {said}")
    return found[1]


def delivered(binary, folder, ca, node):
    dns = Dns(f"{DOMAIN} MX 10 {HOST}", f"{HOST} A {OURS}", f"{POLICY_HOST} CNAME {HOST}",
              f"_mta-sts.{DOMAIN} TXT {record(binary, node)}", address=DNS)
    try:
        with Sender(binary, folder / "sender", SENDER, (DNS, dns.port),
                    environment=with_roots(ca.root)) as sender:
            _, line = sender.send("ani", [DOMAIN])[DOMAIN]
    finally:
        dns.close()
    how, why = as_it_says(line)
    if how != VERIFIED or line["tls_source"] != "mta-sts":
        raise RuntimeError(f"{how}: {why}")
