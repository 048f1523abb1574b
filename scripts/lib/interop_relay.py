"""Merpati between real servers: its listeners, its routes, and what it tells of itself."""

import json
import smtplib
import subprocess
import urllib.parse
import urllib.request

from peers import PASSWORD, USER, ZONE
from servers import Server, end_process, wait_until

RELAY = "127.25.0.25"
# Who may send as anybody, and who as an address of the zone alone.
ANYBODY, BOUND = "anybody", "bound"
LISTENERS = {"mx": ("relay", "starttls"), "submission": ("submission", "starttls"),
             "submissions": ("submission", "implicit")}
# A route through a smart host with a password that it does not know.
MISTAKEN = f"mistaken.{ZONE}"


class Node(Server):
    """`merpati serve` with tables of TOML. `ports`: of its listeners, by their names."""

    def __init__(self, binary, folder, tables, environment=None, hostname=f"relay.{ZONE}"):
        folder.mkdir(mode=0o755)
        self.folder, self.data = folder, folder / "data"
        self.log = folder / "log"
        usual = [
            table("[server]", hostname=hostname, data_dir=str(self.data),
                  http_listen=["127.0.0.1:0"], drain_wait="1 s"),
            table("[log]", to=str(self.log)),
            table("[spool]", disk_free_min="1 MiB"),
        ]
        (folder / "merpati.toml").write_text("\n".join([*usual, *tables]))
        self.start(binary, environment)

    def start(self, binary, environment=None):
        """Also once more, where it has ended."""
        listening = self.data / "listening"
        listening.unlink(missing_ok=True)
        with open(self.folder / "output", "ab") as output:
            self.process = subprocess.Popen(
                [binary, "serve", "--config", self.folder / "merpati.toml"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
            )
        try:
            wait_until("merpati", listening.exists, self.process)
        except RuntimeError:
            end_process(self.process)
            print((self.folder / "output").read_text())
            raise
        places = dict(line.split() for line in listening.read_text().splitlines())
        self.http = f"http://{places.pop('http')}"
        self.ports = {name: int(place.rsplit(":", 1)[1]) for name, place in places.items()}

    def connect(self, listener, trust, user=ANYBODY):
        """A client, with TLS and AUTH but for `mx`."""
        place = (RELAY, self.ports[listener])
        if listener == "submissions":
            client = smtplib.SMTP_SSL(*place, timeout=60, context=trust)
        else:
            client = smtplib.SMTP(*place, timeout=60)
            if listener == "submission":
                client.starttls(context=trust)
        client.ehlo()
        if listener != "mx" and user:
            client.login(user, PASSWORD)
        return client

    def ask(self, path, method="GET"):
        request = urllib.request.Request(self.http + path, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def waiting(self, query=""):
        """The first deliveries that wait."""
        return self.ask("/v1/queue?query=" + urllib.parse.quote(query))["data"]

    def cancel(self, query):
        self.ask("/v1/queue/cancel?query=" + urllib.parse.quote(query), "POST")

    def events(self, *names):
        """What the mail log tells of these so far."""
        with open(self.log) as lines:
            for line in lines:
                # A line may be half there.
                if line.endswith("\n") and (told := json.loads(line))["event"] in names:
                    yield told

    def told(self):
        """The end of what it said to developers."""
        return (self.folder / "output").read_text(errors="replace")[-4_000:]


class Relay(Node):
    """With a relay, two submission listeners, and a route for each way."""

    def __init__(self, binary, folder, net):
        """`net`: an `Internet`."""
        super().__init__(binary, folder, self._tables(binary, net))

    def _tables(self, binary, net):
        stored = hashed(binary)
        tables = [
            table("[relay]", networks=["127.0.0.0/8"],
                  local_domains=[net.dovecot.domain, f"unix.{ZONE}"]),
            table("[[credential]]", name=ANYBODY, password=stored, senders=["*"]),
            table("[[credential]]", name=BOUND, password=stored, senders=[ZONE]),
            table("[dns]", servers=["{}:{}".format(*net.dns)]),
            table("[delivery]", port=net.port, allow_networks=["127.0.0.0/8"],
                  connections_per_host_max=10),
            table("[retry]", first_wait="1 s", longest_wait="2 s"),
        ]
        for name, (kind, tls) in LISTENERS.items():
            tables.append(listener(name, kind, tls, net.certificate))
        tables += [
            table("[[route]]", name="unix", recipient_domains=[f"unix.{ZONE}"],
                  to=f"lmtp:{net.dovecot.lmtp_socket}"),
            table("[[route]]", name="tcp", recipients="local",
                  to=f"lmtp://{net.dovecot.address}:{net.dovecot.lmtp}"),
        ]
        ways = [(f"smart{at}.{ZONE}", host, PASSWORD) for at, host in enumerate(net.smart_hosts)]
        for domain, host, password in [*ways, (MISTAKEN, net.smart_hosts[0], "wrong")]:
            scheme = "smtps" if host.tls == "implicit" else "smtp"
            # By name: the certificate has to be valid for it.
            tables.append(table(
                "[[route]]", name=domain.split(".")[0], recipient_domains=[domain],
                to=f"{scheme}://mx.{host.peer.domain}:{host.port}", user=USER, password=password,
                tls_ca=str(net.certificate.root),
            ))
        return [*tables, table("[[route]]", name="world", to="mx")]


def table(heading, **options):
    """A table of TOML."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
    return "\n".join([heading, *lines, ""])


def hashed(binary):
    """The password of the trial, as a configuration has it."""
    return subprocess.run(
        [binary, "credential", "hash"], input=f"{PASSWORD}\n", check=True, timeout=60,
        capture_output=True, text=True,
    ).stdout.strip()


def listener(name, kind, tls="none", certificate=None, **options):
    """A table of TOML, on a free port of the relay's address."""
    if certificate:
        options |= {"tls_certificate": str(certificate.chain), "tls_key": str(certificate.key)}
    return table("[[listener]]", name=name, kind=kind, listen=[f"{RELAY}:0"], tls=tls, **options)


def to_peers(net, networks=("127.0.0.0/8",), **retry):
    """Tables: mail of these networks goes to the peers of an `Internet`, by MX."""
    return [
        table("[relay]", networks=list(networks)),
        table("[dns]", servers=["{}:{}".format(*net.dns)]),
        table("[delivery]", port=net.port, allow_networks=["127.0.0.0/8"]),
        table("[retry]", **{"first_wait": "1 s", "longest_wait": "2 s"} | retry),
        table("[[route]]", name="world", to="mx"),
    ]
