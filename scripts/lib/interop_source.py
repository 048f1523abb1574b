"""Postfix's own programs against a sandbox: smtp-source, and posttls-finger for TLS.

smtp-source has no TLS; what Postfix needs of a handshake is what posttls-finger checks.
"""

import json
import os
import pathlib
import subprocess

from interop_mails import EIGHT_BIT

SESSIONS, MESSAGES, OCTETS = 10, 300, 3_000


class Programs:
    """Those of the cached Postfix, with an empty configuration."""

    def __init__(self, folder):
        self.root = pathlib.Path(os.environ["POSTFIX_ROOT"])
        libraries = self.root / "usr/lib/postfix"
        folder.mkdir()
        (folder / "main.cf").write_text("compatibility_level = 3.6\nmail_owner = postfix\n")
        self.environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LD_LIBRARY_PATH": str(libraries),
            "MAIL_CONFIG": str(folder),
        }

    def run(self, name, *options):
        done = subprocess.run(
            [self.root / "usr/sbin" / name, *map(str, options)], env=self.environment, check=True,
            capture_output=True, stdin=subprocess.DEVNULL, timeout=60,
        )
        return (done.stdout + done.stderr).decode(errors="replace")


def many(relay, run):
    """Sessions side by side; everything they brought is there."""
    relay.ask("/v1/sandbox/messages", "DELETE")
    run("-s", SESSIONS, "-m", MESSAGES, "-l", OCTETS, "-S", "many")
    found, after = [], ""
    while True:
        page = json.loads(relay.ask(f"/v1/sandbox/messages?limit=100{after}"))
        found += page["data"]
        if not page["page"]["has_more"]:
            break
        after = f"&after={page['page']['next']}"
    sizes = {one["size_bytes"] for one in found}
    if len({one["id"] for one in found}) != MESSAGES or min(sizes) < OCTETS:
        raise RuntimeError(f"{len(found)} messages of {sizes} octets came")


def handshake(programs, place, root):
    """The certificate holds for the name, to the strictest of Postfix's levels without DANE."""
    told = programs.run("posttls-finger", "-c", "-l", "secure", "-F", root, place, "localhost")
    if "Verified TLS connection established" not in told:
        raise RuntimeError(told)


def postfix_programs(trial, port, certificate):
    """`trial`: of interop_clients."""
    programs = Programs(trial.folder / "programs")

    def source(*options):
        programs.run("smtp-source", "-f", "ani@example.org", "-t", "budi@example.net", *options,
                     f"127.0.0.1:{port}")

    trial.case(
        "smtp-source, a file",
        # It takes lines as they are on Unix, and sends an empty line behind the last one.
        lambda content: source("-F", trial.file(content.replace(b"\r\n", b"\n"))),
        EIGHT_BIT,
        lambda sent, raw: raw == sent + b"\r\n",
    )
    trial.score.case(
        f"smtp-source, {MESSAGES} messages in {SESSIONS} sessions",
        lambda: many(trial.relay, source),
    )
    trial.score.case(
        "posttls-finger, STARTTLS",
        lambda: handshake(programs, f"[127.0.0.1]:{port}", certificate.root),
    )
