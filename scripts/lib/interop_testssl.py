"""testssl.sh looks at each kind of listener: nothing above LOW.

Of its sections these are run: protocols (-p), categories of ciphers (-s), forward secrecy (-f),
the server's preferences (-P) and vulnerabilities (-U). Left out are the server's defaults (-S),
which judge the certificate: it is made for this trial, so it has no public chain, no OCSP and no
CAA record; and the simulation of clients (-c), which finds nothing by itself.
"""

import collections
import concurrent.futures
import json
import pathlib
import subprocess

from interop_relay import RELAY, Node, hashed, listener, table
from peers import USER

SECTIONS = ("-p", "-s", "-f", "-P", "-U")
# Of findings that are no trouble, or so little that it is told and borne. WARN is what could not
# be tried.
BORNE = {"DEBUG", "OK", "INFO", "LOW"}
# About the machine that scans: its openssl has no ciphers of GOST, and neither has Merpati.
OF_THE_SCANNER = {"engine_problem"}
LISTENERS = {"relay": ("relay", "starttls"), "submission": ("submission", "starttls"),
             "submissions": ("submission", "implicit")}
# The section of the configuration with the listener for HTTPS, which tells where it listens by this
# name as well.
HTTPS = "https"
REFERENCE = pathlib.Path(__file__).resolve().parents[2] / "docs/reference/configuration.md"
# What has to be among the findings, or testssl.sh did not come to look.
EXPECTED = {"SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3", "cipherlist_NULL",
            "cipherlist_STRONG", "PFS", "cipher_order", "heartbleed", "secure_renego", "ROBOT",
            "SWEET32", "LUCKY13", "RC4"}
PATIENCE = 600


def scan(folder, name, port, tls):
    """The findings about one listener."""
    found = folder / f"{name}.json"
    protocol = ("-t", "smtp") if tls == "starttls" else ()
    done = subprocess.run(
        ["testssl", "--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none",
         "--jsonfile", found, *SECTIONS, *protocol, f"{RELAY}:{port}"],
        capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL,
    )
    try:
        return json.loads(found.read_text())
    except (OSError, ValueError) as why:
        raise RuntimeError(f"{why}: {done.stdout.decode(errors='replace')[-2000:]}") from None


def judge(findings):
    lacking = EXPECTED - {one["id"] for one in findings}
    if lacking:
        raise RuntimeError(f"it did not look at {sorted(lacking)}")
    findings = [one for one in findings if one["id"] not in OF_THE_SCANNER]
    bad = [one for one in findings if one["severity"] not in BORNE]
    if bad:
        lines = [f"{one['severity']} {one['id']}: {one['finding']}" for one in bad]
        raise RuntimeError("testssl.sh found:\n" + "\n".join(lines))
    counts = collections.Counter(one["severity"] for one in findings)
    low = [one["id"] for one in findings if one["severity"] == "LOW"]
    print(f"        {dict(counts)} {' '.join(low)}")


def of_https(certificate):
    """What the listener for HTTPS shows."""
    return {"tls_certificate": str(certificate.chain), "tls_key": str(certificate.key)}


def scans(score, binary, folder, certificate):
    """All listeners at once: most of the time testssl.sh waits."""
    tables = [listener(name, kind, tls, certificate, connections_per_address_max=1000)
              for name, (kind, tls) in LISTENERS.items()]
    tables += [table("[[credential]]", name=USER, password=hashed(binary), senders=["*"]),
               table("[[route]]", name="nowhere", to="refuse nothing is delivered here")]
    looked_at = {name: tls for name, (_, tls) in LISTENERS.items()}
    if f"[{HTTPS}]" in REFERENCE.read_text():
        looked_at[HTTPS] = "implicit"
        tables.append(table(f"[{HTTPS}]", listen=[f"{RELAY}:0"], **of_https(certificate)))
    else:
        print(f"skipped: there is no [{HTTPS}] in {REFERENCE.name}: testssl.sh has nothing at 443")
    with Node(binary, folder, tables) as node, concurrent.futures.ThreadPoolExecutor() as pool:
        running = {
            name: pool.submit(scan, folder, name, node.ports[name], tls)
            for name, tls in looked_at.items()
        }
        for name, found in running.items():
            score.case(f"testssl.sh: {name}", lambda found=found: judge(found.result()))
