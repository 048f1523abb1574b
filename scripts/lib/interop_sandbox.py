"""Every client against a sandbox that offers STARTTLS, and AUTH on a listener of its own."""

import os
import ssl

from interop_clients import Trial, command_cases, node_case, postfix_cases, python_cases
from interop_exim import exim_cases
from interop_relay import hashed
from interop_source import postfix_programs
from peers import USER
from servers import Merpati


def clients(score, folder, certificate, smoke):
    """`certificate`: its files `chain`, `key` and `root`."""
    binary = os.environ["MERPATI"]
    settings = [
        "listener.authors.kind=sandbox",
        "listener.authors.listen=127.0.0.1:0",
        "listener.authors.auth=tls-only",
        f"credential.{USER}.password={hashed(binary)}",
        f"credential.{USER}.senders=*",
        "spool.disk_free_min=1 MiB",
    ]
    for name in ("sandbox", "authors"):
        settings += [
            f"listener.{name}.tls=starttls",
            f"listener.{name}.tls_certificate={certificate.chain}",
            f"listener.{name}.tls_key={certificate.key}",
        ]
    trust = ssl.create_default_context(cafile=certificate.root)
    with Merpati(binary, folder / "merpati", settings) as relay:
        trial = Trial(score, relay, folder)
        python_cases(trial, relay.port, trust)
        command_cases(trial, relay.port)
        postfix_programs(trial, relay.port, certificate)
        if not smoke:
            postfix_cases(trial, relay.port)
            exim_cases(trial, certificate, relay.port, relay.ports["authors"])
            node_case(trial, relay.port)
