"""Measures Merpati beside Postfix; see docs/performance.md.

Called by scripts/bench.sh, which has built and fetched what is needed.
"""

import argparse
import contextlib
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from bench_servers import Relay, Rig, Sink, postfix_relay, traced_syncs  # noqa: E402
from servers import Merpati, Postfix, end_process  # noqa: E402

PARTS = ("end-to-end", "acceptance", "journal")
GOAL = 5.0
# Octets, sessions.
END_TO_END = ((10_240, 50),)
ACCEPTANCE = ((10_240, 50), (1_024, 200))
# The slower one sends fewer, so that a round of each takes seconds.
MESSAGES = {"none": 50_000, "merpati": 20_000, "postfix": 5_000}
MESSAGES_SMOKE = {"none": 2_000, "merpati": 1_000, "postfix": 400}
TRACED = 100


class Bench:
    """One run with its choices."""

    def __init__(self, options):
        self.smoke = options.smoke
        self.rounds = 1 if options.smoke else options.rounds
        self.messages = MESSAGES_SMOKE if options.smoke else MESSAGES
        self.rig = Rig(options.rig or os.environ["MERPATI_RIG"])
        self.postfix = pathlib.Path(os.environ["POSTFIX_ROOT"])
        self.merpati = os.environ["MERPATI"]

    def journal(self, folder):
        messages = "2000" if self.smoke else "20000"
        out = subprocess.run(
            [os.environ["JOURNAL_BENCH"], folder / "journal", messages],
            check=True, capture_output=True, text=True, timeout=300,
        ).stdout
        rows = [line.split() for line in out.splitlines()]
        rows = [row for row in rows if row and row[0] in ("64", "256")]
        print(f"\nThe journal alone: {messages} messages of 10 KiB, median of {len(rows) // 2}")
        print(f"{'in flight':>10} {'per second':>11} {'mean sync':>12}")
        for in_flight in ("64", "256"):
            mine = sorted((row for row in rows if row[0] == in_flight), key=lambda r: float(r[1]))
            if not mine:
                raise RuntimeError(f"the journal gave no figure for {in_flight}:\n{out}")
            middle = mine[len(mine) // 2]
            print(f"{in_flight:>10} {float(middle[1]):>11,.0f} {middle[2]:>12}")
        return None

    def acceptance(self, folder):
        def one(name, place, size, sessions):
            if name == "merpati":
                server = Merpati(self.merpati, place, ("sandbox.after_capture=discard",))
            else:
                # Held: on disk before the 250, then neither delivered nor deferred, which costs.
                settings = ("smtpd_client_restrictions = check_client_access static:hold",)
                settings += ("relayhost = [127.0.0.1]:9",)
                server = Postfix(self.postfix, place, sessions, settings)
            with server:
                return self.sample(name, server, None, place, size, sessions)

        print(f"\nAcceptance, nothing delivered (250s a second), {self.kind()}")
        return self.table(folder, ("postfix", "merpati"), ACCEPTANCE, one)

    def end_to_end(self, folder):
        def one(name, place, size, sessions):
            place.mkdir(mode=0o755)
            with contextlib.ExitStack() as open_until_the_end:
                sink = open_until_the_end.enter_context(Sink(self.rig, place / "sink"))
                relay = sink if name == "none" else self.relay(name, place, sink, sessions)
                if relay is not sink:
                    open_until_the_end.enter_context(relay)
                return self.sample(name, relay, sink, place, size, sessions)

        print(f"\nEnd to end, generator to relay to sink (deliveries a second), {self.kind()}")
        self.traces(folder)
        return self.table(folder, ("none", "postfix", "merpati"), END_TO_END, one)

    def relay(self, name, place, sink, sessions):
        if name == "merpati":
            return Relay(self.merpati, place / name, sink.port).wait()
        return postfix_relay(self.postfix, place / name, sessions, sink.port)

    def sample(self, name, relay, sink, place, size, sessions):
        """One round: a warm-up of 4 messages per session, then the figures."""
        messages = self.messages[name]
        sent = place / "sent"
        warm_up = self.rig.load(relay.port, 4 * sessions, size, sessions, place / "warm-up")
        if sink:
            sink.wait_for(warm_up["acked"])
        is_merpati = name == "merpati"
        before = relay.syncs() if is_merpati else None
        cpu = relay.cpu_seconds()
        told = self.rig.load(relay.port, messages, size, sessions, sent)
        accepted = rate = told["accept_per_s"]
        if sink:
            last = sink.wait_for(messages)
            began = told["first_connect"] if "first_connect" in told else told["first_conn"]
            rate = messages / (last - began)
        cpu = relay.cpu_seconds() - cpu
        sync = None
        if is_merpati:
            count, seconds = (b - a for a, b in zip(before, relay.syncs()))
            sync = 1_000 * seconds / max(1, count)
        if sink:
            end_process(sink.process)
            self.balance(sink, sent)
        # Without a relay between, the CPU would be that of the sink.
        cpu = None if name == "none" else 1_000 * cpu / messages
        return {"rate": rate, "accepted": accepted, "p50": told["lat_ms"]["p50"],
                "p99": told["lat_ms"]["p99"], "cpu": cpu, "sync": sync}

    def balance(self, sink, sent):
        mine = sink.ids.with_name("measured")
        with open(sink.ids) as all_lines, open(mine, "w") as lines:
            lines.writelines(line for line in all_lines if line.startswith("sent-"))
        balance, is_right = self.rig.check(sent, mine)
        if balance["lost"] or balance["damaged"] or not is_right:
            raise RuntimeError(f"lost or damaged: {balance}")

    def table(self, folder, names, scenarios, measure):
        print(f"{'scenario':<16} {'relay':<8} {'per second':>11} {'lowest-highest':>16} "
              f"{'accepted/s':>11} {'p50 ms':>8} {'p99 ms':>8} {'CPU s/1,000':>12} "
              f"{'sync ms':>8} {'times Postfix':>14}")
        ratios = []
        for size, sessions in scenarios:
            rounds = {name: [] for name in names}
            for _ in range(self.rounds):
                for name, mine in rounds.items():
                    with tempfile.TemporaryDirectory(dir=folder) as place:
                        os.chmod(place, 0o755)
                        mine.append(measure(name, pathlib.Path(place, name), size, sessions))
            base = median(rounds["postfix"], "rate")
            for name, mine in rounds.items():
                ratio = median(mine, "rate") / base
                rates = [one["rate"] for one in mine]
                print(f"{f'{size // 1_024} KiB x {sessions}':<16} {name:<8} "
                      f"{shown(median(mine, 'rate'), 0):>11} "
                      f"{f'{min(rates):,.0f}-{max(rates):,.0f}':>16} "
                      f"{shown(median(mine, 'accepted'), 0):>11} "
                      f"{shown(median(mine, 'p50'), 1):>8} {shown(median(mine, 'p99'), 1):>8} "
                      f"{shown(median(mine, 'cpu'), 3):>12} {shown(median(mine, 'sync'), 2):>8} "
                      f"{ratio:>14.1f}", flush=True)
            ratios.append(ratio)
        return min(ratios)

    def traces(self, folder):
        """How often each relay asks the disk, at one session: nothing shares a sync there."""
        for name in ("postfix", "merpati"):
            with tempfile.TemporaryDirectory(dir=folder) as place:
                os.chmod(place, 0o755)
                place = pathlib.Path(place)
                with Sink(self.rig, place / "sink") as sink, \
                        self.relay(name, place, sink, 10) as relay:
                    def work(relay=relay, sink=sink, place=place):
                        self.rig.load(relay.port, TRACED, 10_240, 1, place / "traced")
                        sink.wait_for(TRACED)

                    syncs = traced_syncs(relay, place / "trace", work)
            told = "strace is not there or not allowed" if syncs is None else \
                f"{syncs} fsync or fdatasync for {TRACED} messages, one after the other (strace)"
            print(f"{name}: {told}", flush=True)

    def kind(self):
        return f"median of {self.rounds} interleaved rounds; {pathlib.Path(self.rig.path).name}"


def median(rounds, key):
    values = [one[key] for one in rounds if one[key] is not None]
    return statistics.median(values) if values else None


def shown(value, digits):
    return "-" if value is None else f"{value:,.{digits}f}"


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description="see docs/performance.md")
    parser.add_argument("--smoke", action="store_true", help="one tiny round, judges no speed")
    parser.add_argument("--rounds", type=int, default=3, help="of each relay, in turn (3)")
    parser.add_argument("--rig", help="another load generator and sink with the same options")
    parser.add_argument("--only", choices=PARTS, help="this part alone")
    options = parser.parse_args()
    began = time.monotonic()
    place = os.environ.get("MERPATI_BENCH_DIR", "/var/tmp")
    bench = Bench(options)
    measures = {"journal": bench.journal, "acceptance": bench.acceptance,
                "end-to-end": bench.end_to_end}
    missed = []
    with tempfile.TemporaryDirectory(prefix="merpati-bench.", dir=place) as folder:
        os.chmod(folder, 0o755)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, data in {place}")
        for part, measure in measures.items():
            if options.only not in (None, part):
                continue
            times = measure(pathlib.Path(folder))
            if times is not None:
                print(f"bench: {part}: at least {times:.1f} times Postfix (the goal is {GOAL:.0f})")
                missed += [part] if times < GOAL else []
    print(f"\nbench: {time.monotonic() - began:.0f} s")
    if missed and not options.smoke:
        print(f"bench: the goal is missed: {', '.join(missed)}")
        return 1
    return 0


sys.exit(main())
