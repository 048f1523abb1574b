"""What is measured: the scenarios end to end, and what each goal asks of them."""

import dataclasses
import pathlib
import subprocess

from bench_servers import CONNECTIONS, Relay, postfix_relay


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One row of the table: the same load for every relay, in front of the same sink."""

    name: str
    size: int
    sessions: int
    # The slower one sends fewer, so that a round of each takes seconds.
    messages: dict
    connections: int = CONNECTIONS
    recipients: int = 1
    # Milliseconds before each reply of the sink.
    latency: int = 0
    # The sink answers 451 to so many of 100 RCPT.
    deferred: int = 0
    tls: bool = False
    # Each command waits for the reply to the one before, as most applications send.
    lock_step: bool = False
    # Without a next hop: everything accepted waits.
    is_down: bool = False
    # At least so many times Postfix; None where the issue names no figure.
    times: float | None = None
    # At least this share of what goes straight from generator to sink.
    share: float | None = None
    # At most so many milliseconds of CPU for a message.
    cpu: float | None = None

    def start(self, bench, name, place, next_hop):
        """The relay with this name, in front of the next hop at this port."""
        if name == "merpati":
            settings = self.of_merpati(bench.certificate)
            return Relay(bench.merpati, place / name, next_hop, settings=settings).wait()
        return postfix_relay(bench.postfix, place / name, self.sessions, next_hop,
                             self.connections, self.of_postfix(bench.certificate))

    def check(self, name, sink, figures):
        """Errs if what came is not what it should be; may add figures."""

    def of_load(self):
        """Options of the generator."""
        options = [] if self.lock_step else ["--pipelining"]
        options += ["--rcpts", str(self.recipients)] if self.recipients > 1 else []
        return options + (["--starttls"] if self.tls else [])

    def of_sink(self, certificate):
        """Options of the sink."""
        options = []
        if self.latency:
            options += ["--latency-ms", str(self.latency)]
        if self.deferred:
            options += ["--defer", f"rcpt={self.deferred}"]
        if self.tls:
            options += ["--starttls", "--cert", certificate.chain, "--key", certificate.key]
        return tuple(options)

    def of_merpati(self, certificate):
        """The environment of contrib/referee/run."""
        settings = {"MAX_OUT": str(self.connections)}
        if self.deferred:
            settings["RETRY"] = "1"
        if self.tls:
            settings.update(TLS_CERT=certificate.chain, TLS_KEY=certificate.key)
        return settings

    def of_postfix(self, certificate):
        """Lines of main.cf."""
        settings = []
        if self.deferred:
            settings += ["minimal_backoff_time = 1s", "maximal_backoff_time = 1s"]
            settings += ["queue_run_delay = 1s"]
        if self.tls:
            settings += [
                "smtpd_tls_security_level = may",
                f"smtpd_tls_chain_files = {certificate.key}, {certificate.chain}",
                "smtp_tls_security_level = may",
                # Without it each message would need a handshake of its own.
                "smtp_tls_connection_reuse = yes",
            ]
        return tuple(settings)


def count(none, merpati, postfix):
    """Messages of a round."""
    return {"none": none, "merpati": merpati, "postfix": postfix}


END_TO_END = (
    Scenario("10 KiB x 50", 10_240, 50, count(60_000, 30_000, 4_000),
             times=15, share=0.35, cpu=0.15),
    Scenario("the same, lock-step", 10_240, 50, count(60_000, 30_000, 4_000),
             lock_step=True, times=15, share=0.35),
    Scenario("1 KiB x 200", 1_024, 200, count(60_000, 30_000, 4_000), times=15),
    Scenario("100 KiB x 50", 102_400, 50, count(10_000, 10_000, 1_500), times=10, cpu=0.35),
    Scenario("slow sink", 10_240, 200, count(4_000, 4_000, 3_000),
             connections=200, latency=50, share=0.90),
    Scenario("20 % deferred", 10_240, 50, count(20_000, 20_000, 2_000), deferred=20),
    Scenario("TLS both ways", 10_240, 50, count(30_000, 20_000, 2_000), tls=True, times=10),
    Scenario("1,000 recipients", 10_240, 10, count(400, 100, 20), recipients=1_000),
)
ACCEPTANCE = (
    Scenario("sink down", 10_240, 50, count(0, 40_000, 3_000), is_down=True, times=15),
    Scenario("sink down, small", 1_024, 200, count(0, 40_000, 3_000), is_down=True, times=15),
)
# In a smoke round each sends one message per session and some more.
SMOKE_MESSAGES = 2


@dataclasses.dataclass(frozen=True)
class Certificate:
    """A certificate of this run, self-made, P-256."""

    chain: str
    key: str

    @classmethod
    def make(cls, folder):
        """Writes it into the folder, with openssl."""
        chain, key = pathlib.Path(folder, "certificate.pem"), pathlib.Path(folder, "key.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", "/CN=bench.test", "-out", chain, "-keyout", key],
            check=True, capture_output=True,
        )
        # Postfix reads them as root, Merpati as who started it.
        key.chmod(0o600)
        return cls(str(chain), str(key))
