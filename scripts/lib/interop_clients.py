"""Real clients of a sandbox; each message is read back and compared octet for octet."""

import json
import operator
import os
import pathlib
import smtplib
import subprocess

from interop_mails import ASCII, EIGHT_BIT, HEADER, PLAIN
from servers import Postfix

FROM, TO = "ani@example.org", "budi@example.net"


def content_of(name, body):
    """The octets of a case's message, with CRLF."""
    subject = name.replace(" ", "-").replace(",", "")
    return (HEADER.format(subject=subject) + PLAIN.format(encoding="8bit") + body).encode()


class Trial:
    """One sandbox, and the score of its cases."""

    def __init__(self, score, relay, folder):
        self.score, self.relay, self.folder = score, relay, folder

    def case(self, name, send, body=ASCII, judge=operator.eq, declared=None, received=None):
        """Sends one message by `send(content)` and judges what the sandbox has of it.

        `judge(content, raw)`: whether that is right; `declared`, `received`: what the sandbox tells
        of the envelope and of the session; True for whatever is not null.
        """
        content = content_of(name, body)

        def check():
            self.relay.ask("/v1/sandbox/messages", "DELETE")
            send(content)
            found = json.loads(self.relay.ask("/v1/sandbox/messages/wait?timeout=30"))
            path = f"/v1/sandbox/messages/{found['id']}"
            raw = self.relay.ask(path + "/raw")
            if not judge(content, raw):
                raise AssertionError(f"came out differently:\n{content!r}\n{raw!r}")
            told = json.loads(self.relay.ask(path))
            for part, facts in (("envelope", declared or {}), ("received", received or {})):
                for key, value in facts.items():
                    found = told[part].get(key)
                    if found != value and (value is not True or found is None):
                        raise AssertionError(f"{key} is not {value!r}: {told[part]}")

        self.score.case(name, check)

    def file(self, content):
        path = self.folder / "mail.eml"
        path.write_bytes(content)
        return path


def run(*command, stdin=None, cwd=None):
    options = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    subprocess.run(
        [str(part) for part in command], check=True, capture_output=True, timeout=60, cwd=cwd, **options
    )


def python_cases(trial, port, trust):
    def session(content, options=(), tls=False, to=TO):
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            if tls:
                client.starttls(context=trust)
            refused = client.sendmail(FROM, to, content, options)
            if refused:
                raise AssertionError(refused)

    trial.case("smtplib", session)
    trial.case(
        "smtplib, 8BITMIME",
        lambda content: session(content, ["BODY=8BITMIME"]),
        EIGHT_BIT,
        declared={"body": "8BITMIME"},
    )
    trial.case(
        "smtplib, SMTPUTF8",
        lambda content: session(content, ["SMTPUTF8", "BODY=8BITMIME"], to="j\u00fcrgen@b\u00fccher.example"),
        EIGHT_BIT,
        # A domain is kept in A-labels (`mail::address::domain`), a local part as it came.
        declared={"smtputf8": True, "to": ["j\u00fcrgen@xn--bcher-kva.example"]},
    )
    trial.case("smtplib, STARTTLS", lambda content: session(content, tls=True))
    trial.case("smtplib, large", session, ASCII * 2_000)


def command_cases(trial, port):
    server = f"127.0.0.1:{port}"
    swaks = ("swaks", "--server", server, "--from", FROM, "--to", TO, "--silent", "2")

    def by_swaks(*options):
        return lambda content: run(*swaks, "--data", f"@{trial.file(content)}", *options)

    # swaks itself sends an empty line behind the data of a file, whoever listens.
    for name, options, body in (
        ("swaks", (), ASCII),
        ("swaks, 8-bit", (), EIGHT_BIT),
        ("swaks, pipelined", ("--pipeline",), ASCII),
        ("swaks, STARTTLS", ("--tls",), ASCII),
    ):
        trial.case(name, by_swaks(*options), body, lambda sent, raw: raw == sent + b"\r\n")
    curl = ("curl", "--silent", "--show-error", "--mail-from", FROM, "--mail-rcpt", TO)

    def by_curl(*options):
        return lambda content: run(
            *curl, *options, "--upload-file", trial.file(content), f"smtp://{server}/client.example"
        )

    trial.case("curl", by_curl())
    trial.case("curl, 8-bit", by_curl(), EIGHT_BIT)
    trial.case("curl, STARTTLS", by_curl("--ssl-reqd", "--insecure"))
    msmtp = ("msmtp", "--file=/dev/null", "--host=127.0.0.1", f"--port={port}", f"--from={FROM}")
    msmtp += ("--auth=off", "--tls=off", "--", TO)
    trial.case("msmtp", lambda content: run(*msmtp, stdin=content.replace(b"\r\n", b"\n")), EIGHT_BIT)
    send = (os.environ["MERPATI"], "send", "--server", server, "--from", FROM, "--to", TO, "--body", "-")
    trial.case(
        "merpati send",
        lambda _: run(*send, "--subject", "by-merpati", stdin=EIGHT_BIT.encode()),
        judge=lambda _, raw: raw.endswith(b"\r\n\r\n" + EIGHT_BIT.encode())
        and b"\r\nSubject: by-merpati\r\n" in raw,
    )


def traced(content, raw):
    """As it was, below trace fields of the one that handed it on."""
    return raw.endswith(content) and raw.startswith(b"Received: ")


def postfix_cases(trial, port):
    settings = (f"relayhost = [127.0.0.1]:{port}", "smtp_tls_security_level = encrypt")
    root = pathlib.Path(os.environ["POSTFIX_ROOT"])
    with Postfix(root, trial.folder / "postfix", 10, settings) as postfix:

        def send(content):
            with smtplib.SMTP("127.0.0.1", postfix.port, timeout=30) as client:
                client.sendmail(FROM, TO, content, ["BODY=8BITMIME"])

        for name, body in (("Postfix relays, TLS", ASCII), ("Postfix relays, TLS, 8-bit", EIGHT_BIT)):
            trial.case(name, send, body, traced, received={"tls": True})


def node_case(trial, port):
    place = trial.folder / "node"
    place.mkdir()
    script = (
        "const fs=require('fs');require('nodemailer').createTransport({host:'127.0.0.1',port:"
        f"{port},tls:{{rejectUnauthorized:false}}}}).sendMail({{envelope:{{from:'{FROM}',to:'{TO}'}},"
        "raw:fs.readFileSync(process.argv[2])}).catch(e=>{console.error(e);process.exit(1)})"
    )
    (place / "send.js").write_text(script)

    def send(content):
        run("npm", "install", "--silent", "--no-audit", "--no-fund", "nodemailer", cwd=place)
        run("node", "send.js", trial.file(content), cwd=place)

    trial.case("nodemailer", send, EIGHT_BIT)
