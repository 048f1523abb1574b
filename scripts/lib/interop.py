"""Merpati between real clients and real servers; what arrives is compared octet for octet.

Called by scripts/interop.sh, which has built and fetched what is needed.
"""

import collections
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from interop_delivery import deliveries  # noqa: E402
from interop_import import imports  # noqa: E402
from interop_net import BY_CASES, MX, ZONE, Internet, peers_alone  # noqa: E402
from interop_proxied import proxied  # noqa: E402
from interop_relay import RELAY  # noqa: E402
from interop_sandbox import clients  # noqa: E402
from interop_smuggling import smuggling  # noqa: E402

SMOKE = "--smoke" in sys.argv[1:]
if not SMOKE:
    # These need packages of PyPI, or minutes.
    from interop_aiosmtpd import to_aiosmtpd
    from interop_authentication import authentication
    from interop_dane import dane
    from interop_dane_ours import dane_to_us
    from interop_dkim import signatures
    from interop_reports import reports
    from interop_signed import signed
    from interop_sts import sts
    from interop_sts_ours import sts_to_us
    from interop_testssl import scans


class Score:
    """What came of the cases so far."""

    def __init__(self):
        self.passed = self.failed = 0

    def case(self, name, check):
        """Runs one; whatever goes wrong is this case's, and the next one is tried."""
        began = time.monotonic()
        try:
            check()
        except Exception as why:
            self.failed += 1
            text = getattr(why, "stderr", None) or b""
            print(f"failed  {name} ({time.monotonic() - began:.1f} s): {type(why).__name__} {why}")
            print(text.decode(errors="replace"), flush=True)
        else:
            self.passed += 1
            print(f"passed  {name} ({time.monotonic() - began:.1f} s)", flush=True)


Certificate = collections.namedtuple("Certificate", "chain key root")


def certify(folder):
    """A certificate for every host of the trial, and its root."""
    root, chain = folder / "root.pem", folder / "chain.pem"
    usual = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split()
    names = ",".join(f"DNS:mx.{name}.{ZONE}" for name in MX | BY_CASES)
    names += f",DNS:relay.{ZONE},DNS:localhost,IP:127.0.0.1,IP:{RELAY}"
    for command in (
        [*usual, "-subj", "/CN=root", "-keyout", folder / "root.key", "-out", root],
        [*usual, "-subj", "/CN=interop", "-keyout", folder / "key.pem", "-out", chain,
         "-CA", root, "-CAkey", folder / "root.key", "-addext", f"subjectAltName={names}",
         "-addext", "basicConstraints=critical,CA:FALSE"],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    chain.write_text(chain.read_text() + root.read_text())
    return Certificate(chain, folder / "key.pem", root)


def main():
    began = time.monotonic()
    score = Score()
    with tempfile.TemporaryDirectory(prefix="merpati-interop.") as folder:
        os.chmod(folder, 0o755)
        folder = pathlib.Path(folder)
        certificate = certify(folder)
        binary = os.environ["MERPATI"]
        clients(score, folder, certificate, SMOKE)
        imports(score, binary, folder / "import", SMOKE)
        if SMOKE:
            print("skipped with --smoke: aiosmtpd, authres, DANE, dkimpy, Exim and Postfix as clients, "
                  "MTA-STS, nodemailer, OpenDKIM, readers of reports, rspamd, testssl.sh")
        else:
            authentication(score, binary, folder / "authentication")
            signed(score, binary, folder / "signed")
            scans(score, binary, folder / "scanned", certificate)
            dane(score, binary, folder / "dane")
            dane_to_us(score, binary, folder / "dane-to-us")
            sts(score, binary, folder / "sts")
            sts_to_us(score, binary, folder / "sts-to-us")
        with Internet(folder / "internet", certificate) as net:
            peers_alone(score, net)
            smuggling(score, net, binary, folder / "smuggling")
            proxied(score, net, binary, folder / "proxied")
            if not SMOKE:
                to_aiosmtpd(score, net, binary, folder / "to-aiosmtpd")
                signatures(score, net, binary, folder / "signatures")
                reports(score, net, binary, folder / "reports")
            deliveries(score, net, binary, folder / "relay", SMOKE)
    print(f"interop: {time.monotonic() - began:.0f} s")
    print(f"interop: {score.passed} passed, {score.failed} failed")
    return 1 if score.failed else 0


sys.exit(main())
