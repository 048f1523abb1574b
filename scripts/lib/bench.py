"""Measures Merpati beside Postfix; see docs/performance.md.

Called by scripts/bench.sh, which has built and fetched what is needed. The rows are in
bench_scenarios.py, how they are shown in bench_report.py.
"""

import argparse
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import bench_authentication as authentication  # noqa: E402
from bench_authentication import World, core_rows  # noqa: E402
from bench_report import COLUMNS, Goals, rows  # noqa: E402
from bench_restart import IDLE_MAX_MIB, RESTART_MAX_SECONDS  # noqa: E402
from bench_restart import SCRAPE_MAX_MS, WAITING_MAX_MIB  # noqa: E402
from bench_restart import deep, idle, restart  # noqa: E402
from bench_scenarios import ACCEPTANCE, END_TO_END, SMOKE_MESSAGES, Certificate  # noqa: E402
from bench_servers import Rig, Sink, Unfinished, pss_mib, traced_syncs  # noqa: E402
from servers import end_process, free_port  # noqa: E402

PARTS = ("end-to-end", "acceptance", "authentication", "journal", "restart", "deep", "idle")
# Only where they are asked for: one takes ten minutes, the other seven gigabytes.
ON_DEMAND = ("deep", "idle")
TRACED = 100
QUEUED = 1_000_000
QUEUED_DEEP = 10_000_000
QUEUED_SMOKE = 2_000


class Bench:
    """One run with its choices."""

    def __init__(self, options):
        self.options = options
        self.smoke = options.smoke
        self.rounds = 1 if options.smoke else options.rounds
        self.rig = Rig(options.rig or os.environ["MERPATI_RIG"])
        self.postfix = pathlib.Path(os.environ["POSTFIX_ROOT"])
        self.merpati = os.environ["MERPATI"]
        self.goals = Goals()
        self.certificate = None

    def journal(self, folder):
        messages = "2000" if self.smoke else "20000"
        out = subprocess.run(
            [os.environ["JOURNAL_BENCH"], folder / "journal", messages],
            check=True, capture_output=True, text=True, timeout=300,
        ).stdout
        lines = [line.split() for line in out.splitlines()]
        lines = [line for line in lines if line and line[0] in ("64", "256")]
        print(f"\nThe journal alone: {messages} messages of 10 KiB, median of {len(lines) // 2}")
        print(f"{'in flight':>10} {'per second':>11} {'mean sync':>12}")
        for in_flight in ("64", "256"):
            mine = sorted((line for line in lines if line[0] == in_flight),
                          key=lambda line: float(line[1]))
            if not mine:
                raise RuntimeError(f"the journal gave no figure for {in_flight}:\n{out}")
            middle = mine[len(mine) // 2]
            print(f"{in_flight:>10} {float(middle[1]):>11,.0f} {middle[2]:>12}")

    def acceptance(self, folder):
        print(f"\nAcceptance with nothing at the next hop (250s a second), {self.kind()}")
        self.table(folder, ("postfix", "merpati"), ACCEPTANCE)

    def end_to_end(self, folder):
        print(f"\nEnd to end, generator to relay to sink (deliveries a second), {self.kind()}")
        self.traces(folder)
        self.table(folder, ("none", "postfix", "merpati"), END_TO_END)

    def authentication(self, folder):
        print(f"\nSigning and verifying, 10 KiB x 50, end to end, {self.kind()}")
        print("postfix: OpenDKIM signs with RSA-2048; postfix2: a second one with Ed25519; "
              "merpati: both")
        place = folder / "authentication"
        place.mkdir()
        with World(self.merpati, place) as world:
            names = ("postfix", "postfix2", "merpati")
            self.table(folder, names, world.works(), authentication.COLUMNS, core_rows)

    def restart(self, folder):
        queued = self.options.queued or (QUEUED_SMOKE if self.smoke else QUEUED)
        place = folder / "restart"
        place.mkdir()
        told = restart(self.rig, self.merpati, place, queued)
        if queued == QUEUED:
            self.goals.judge("1,000,000 waiting: MiB", told["waiting"], most=WAITING_MAX_MIB)
            what = "a scrape with 1,000,000 waiting: ms"
            self.goals.judge(what, told["scrape"], most=SCRAPE_MAX_MS)
            what = "restart with 1,000,000: s to the first delivery"
            self.goals.judge(what, told["first"], most=RESTART_MAX_SECONDS)
            what = "the same: s to 1,000 more accepted, before all is read"
            self.goals.judge(what, told["taken"], most=told["recovered"])
            what = "accepted a second, with 1,000,000 waiting of with none"
            self.goals.judge(what, told["rate"], least=0.9)

    def deep(self, folder):
        place = folder / "deep"
        place.mkdir()
        queued = self.options.queued or (QUEUED_SMOKE if self.smoke else QUEUED_DEEP)
        told = deep(self.rig, self.merpati, place, queued)
        if told["deliveries"] != queued:
            raise RuntimeError(f"{told['deliveries']} wait, not {queued}")
        if queued == QUEUED_DEEP:
            each = told["waiting"] * 2**20 / queued
            self.goals.judge("10,000,000 waiting: octets of memory each", each, most=150)

    def idle(self, folder):
        place = folder / "idle"
        place.mkdir()
        mib = idle(self.merpati, place, 60 * self.options.minutes)
        print(f"\nIdle for {self.options.minutes:g} min, with TLS, DNS and HTTP: PSS {mib:.1f} MiB")
        self.goals.judge("idle: PSS in MiB", mib, most=IDLE_MAX_MIB)

    def one(self, name, scenario, place):
        """One round of one relay."""
        place.mkdir(mode=0o755)
        with contextlib.ExitStack() as open_until_the_end:
            sink = None
            if not scenario.is_down:
                of_sink = scenario.of_sink(self.certificate)
                sink = open_until_the_end.enter_context(
                    Sink(self.rig, place / "sink", options=of_sink))
            next_hop = sink.port if sink else free_port()
            relay = sink if name == "none" else scenario.start(self, name, place, next_hop)
            if relay is not sink:
                open_until_the_end.enter_context(relay)
            return self.sample(name, scenario, relay, sink, place)

    def sample(self, name, scenario, relay, sink, place):
        """One round: a warm-up of a few messages per session, then the figures."""
        messages = scenario.messages[name]
        per_session = 4
        if self.smoke:
            messages, per_session = SMOKE_MESSAGES * scenario.sessions, 1
        if scenario.recipients > 1:
            per_session = 1
        sent, recipients, of_load = place / "sent", scenario.recipients, scenario.of_load()
        load = (scenario.size, scenario.sessions)
        warm_up = self.rig.load(
            relay.port, per_session * scenario.sessions, *load, place / "warm-up", of_load)
        if sink:
            sink.wait_for(warm_up["acked"] * recipients)
        is_merpati = name == "merpati"
        before = relay.syncs() if is_merpati else None
        cpu = relay.cpu_seconds()
        told = self.rig.load(relay.port, messages, *load, sent, of_load)
        accepted = rate = told["accept_per_s"]
        pss = None if name == "none" else sum(map(pss_mib, relay.pids()))
        if sink:
            last = sink.wait_for(messages * recipients)
            began = told["first_connect"] if "first_connect" in told else told["first_conn"]
            rate = messages * recipients / (last - began)
        cpu = relay.cpu_seconds() - cpu
        sync = None
        if is_merpati:
            count, seconds = (b - a for a, b in zip(before, relay.syncs()))
            sync = 1_000 * seconds / max(1, count)
        handshakes = relay.handshakes() if is_merpati and scenario.tls else None
        if sink:
            end_process(sink.process)
            self.balance(sink, sent)
        # Without a relay between, the CPU would be that of the sink.
        cpu = None if name == "none" else 1_000 * cpu / messages
        figures = {"rate": rate, "accepted": accepted, "p50": told["lat_ms"]["p50"], "pss": pss,
                   "p99": told["lat_ms"]["p99"], "cpu": cpu, "sync": sync,
                   "handshakes": handshakes}
        scenario.check(name, sink, figures)
        return figures

    def balance(self, sink, sent):
        mine = sink.ids.with_name("measured")
        with open(sink.ids) as all_lines, open(mine, "w") as lines:
            lines.writelines(line for line in all_lines if line.startswith("sent-"))
        balance, is_right = self.rig.check(sent, mine)
        if balance["lost"] or balance["damaged"] or not is_right:
            raise RuntimeError(f"lost or damaged: {balance}")

    def table(self, folder, names, scenarios, columns=COLUMNS, show=rows):
        wanted = self.options.scenario
        print(columns)
        for scenario in scenarios:
            if wanted and scenario.name != wanted:
                continue
            # The generator does not try again what is deferred.
            rounds = {name: [] for name in names if name in scenario.messages
                      and (name != "none" or not scenario.deferred)}
            for _ in range(self.rounds):
                for name, mine in rounds.items():
                    mine.append(self.round(name, scenario, folder))
            show(scenario, rounds, self.goals)

    def round(self, name, scenario, folder):
        """One round, with the one try more for a peer that keeps a message back for minutes."""
        for tries_left in (1, 0):
            with tempfile.TemporaryDirectory(dir=folder) as place:
                os.chmod(place, 0o755)
                try:
                    return self.one(name, scenario, pathlib.Path(place, name))
                except Unfinished as error:
                    if not name.startswith("postfix") or not tries_left:
                        raise
                    print(f"{name}: a round of {scenario.name} is made anew: {error}", flush=True)

    def traces(self, folder):
        """How often each relay asks the disk, at one session: nothing shares a sync there."""
        for name in ("postfix", "merpati"):
            with tempfile.TemporaryDirectory(dir=folder) as place:
                os.chmod(place, 0o755)
                place = pathlib.Path(place)
                with Sink(self.rig, place / "sink") as sink, \
                        END_TO_END[0].start(self, name, place, sink.port) as relay:
                    def work(relay=relay, sink=sink, place=place):
                        self.rig.load(relay.port, TRACED, 10_240, 1, place / "traced")
                        sink.wait_for(TRACED)

                    syncs = traced_syncs(relay, place / "trace", work)
            told = "strace is not there or not allowed" if syncs is None else \
                f"{syncs} fsync or fdatasync for {TRACED} messages, one after the other (strace)"
            print(f"{name}: {told}", flush=True)

    def kind(self):
        return f"median of {self.rounds} interleaved rounds; {pathlib.Path(self.rig.path).name}"


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description="see docs/performance.md")
    parser.add_argument("--smoke", action="store_true", help="one tiny round, judges no speed")
    parser.add_argument("--rounds", type=int, default=5, help="of each relay, in turn (5)")
    parser.add_argument("--rig", help="another load generator and sink with the same options")
    parser.add_argument("--only", choices=PARTS, help="this part alone; deep and idle: only so")
    parser.add_argument("--scenario", help="this row of its table alone")
    parser.add_argument("--queued", type=int, help=f"messages of restart ({QUEUED:,})")
    parser.add_argument("--minutes", type=float, default=10, help="of idle (10)")
    options = parser.parse_args()
    began = time.monotonic()
    place = os.environ.get("MERPATI_BENCH_DIR", "/var/tmp")
    bench = Bench(options)
    measures = {"journal": bench.journal, "end-to-end": bench.end_to_end,
                "acceptance": bench.acceptance, "authentication": bench.authentication,
                "restart": bench.restart, "deep": bench.deep, "idle": bench.idle}
    wanted = [options.only] if options.only else [part for part in measures if part not in ON_DEMAND]
    with tempfile.TemporaryDirectory(prefix="merpati-bench.", dir=place) as folder:
        os.chmod(folder, 0o755)
        bench.certificate = Certificate.make(folder)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, data in {place}")
        for part in wanted:
            measures[part](pathlib.Path(folder))
    if bench.goals.lines and not options.smoke:
        bench.goals.show()
    print(f"\nbench: {time.monotonic() - began:.0f} s")
    if bench.goals.missed and not options.smoke:
        print(f"bench: {bench.goals.missed} goals are missed")
        return 1
    return 0


sys.exit(main())
