"""msmtp submits by several mechanisms, over STARTTLS with a certificate that holds."""

import os
import subprocess

from interop_mails import made
from interop_relay import ANYBODY, RELAY
from peers import PASSWORD

MECHANISMS = ("plain", "login", "scram-sha-256")


def by_msmtp(trial, mechanism):
    """One mail to everywhere, and none with a wrong password. `trial`: of interop_delivery."""
    content = dict(made())["eight-bit"]
    key = next(trial.keys)
    recipients = {way.recipient(key): way for way in trial.all}
    for recipient, way in recipients.items():
        trial.ledger.expect(recipient, way, content)
    done = run(trial, mechanism, PASSWORD, recipients, content)
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace"))
    if not run(trial, mechanism, "wrong", recipients, content).returncode:
        raise RuntimeError("a wrong password is good")
    trial.settle(f"msmtp, submission, {mechanism}")
    used = [told["credential"] for told in trial.relay.events("Accepted")
            if set(recipients) & set(told["to"])]
    if used != [ANYBODY]:
        raise RuntimeError(f"the log has other credentials: {used}")


def run(trial, mechanism, password, recipients, content):
    config = trial.relay.folder / "msmtprc"
    # msmtp reads no passwords from a file that others may read.
    with open(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(
            f"account default\nhost {RELAY}\nport {trial.relay.ports['submission']}\n"
            f"tls on\ntls_starttls on\ntls_trust_file {trial.net.certificate.root}\n"
            f"auth {mechanism}\nuser {ANYBODY}\npassword {password}\n"
        )
    try:
        return subprocess.run(
            ["msmtp", f"--file={config}", f"--from={trial.sender}", "--", *recipients],
            # It takes lines as they are on Unix, and ends them with CRLF.
            input=content.replace(b"\r\n", b"\n"), capture_output=True, timeout=60,
        )
    finally:
        config.unlink()
