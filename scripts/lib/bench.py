"""Measures the journal alone, and acceptance of Merpati beside Postfix; see docs/performance.md.

Called by scripts/bench.sh, which has built and fetched what is needed.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from servers import Merpati, Postfix  # noqa: E402

SMOKE = "--smoke" in sys.argv[1:]
ROUNDS = 1 if SMOKE else 3
# Octets, sessions.
SCENARIOS = ((10_240, 50), (1_024, 200))
MESSAGES = {"merpati": 1_000, "postfix": 400} if SMOKE else {"merpati": 20_000, "postfix": 5_000}
GOAL = 5.0


def journal(folder):
    messages = "2000" if SMOKE else "20000"
    out = subprocess.run(
        [os.environ["JOURNAL_BENCH"], folder / "journal", messages],
        check=True, capture_output=True, text=True, timeout=300,
    ).stdout
    rows = [line.split() for line in out.splitlines()]
    rows = [row for row in rows if row and row[0] in ("64", "256")]
    print(f"\nThe journal alone: {messages} messages of 10 KiB, median of {len(rows) // 2} rounds")
    print(f"{'in flight':>10} {'per second':>11} {'mean sync':>12}")
    for in_flight in ("64", "256"):
        mine = sorted((row for row in rows if row[0] == in_flight), key=lambda row: float(row[1]))
        if not mine:
            raise RuntimeError(f"the journal gave no figure for {in_flight} in flight:\n{out}")
        middle = mine[len(mine) // 2]
        print(f"{in_flight:>10} {float(middle[1]):>11,.0f} {middle[2]:>12}")


def load(port, messages, size, sessions):
    """Sends; gives the acknowledged messages a second and the 99th percentile in ms, if known."""
    rig = os.environ.get("RIG")
    if rig:
        command = [rig, "load", "--to", f"127.0.0.1:{port}", "--pipelining"]
        command += ["--messages", str(messages), "--size", str(size)]
        command += ["--sessions", str(sessions), "--time-limit", "120"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=180)
        told = json.loads(done.stdout)
        if told["acked"] != messages:
            raise RuntimeError(f"only {told['acked']} of {messages} were accepted: {told}")
        return told["accept_per_s"], told["lat_ms"]["p99"]
    root = pathlib.Path(os.environ["POSTFIX_ROOT"])
    command = [root / "usr/sbin/smtp-source", "-d", "-s", str(sessions), "-m", str(messages)]
    command += ["-l", str(size), "-f", "a@bench.test", "-t", "b@bench.test"]
    command += [f"inet:127.0.0.1:{port}"]
    environment = dict(os.environ, LD_LIBRARY_PATH=str(root / "usr/lib/postfix"))
    began = time.monotonic()
    subprocess.run(command, check=True, env=environment, timeout=180)
    return messages / (time.monotonic() - began), None


def measure(name, folder, size, sessions):
    if name == "merpati":
        settings = ("sandbox.after_capture=discard",)
        server = Merpati(os.environ["MERPATI"], folder, settings)
    else:
        # Held: on disk before the 250, and then neither delivered nor deferred, which would cost.
        settings = ("smtpd_client_restrictions = check_client_access static:hold",)
        settings += ("relayhost = [127.0.0.1]:9",)
        server = Postfix(pathlib.Path(os.environ["POSTFIX_ROOT"]), folder, sessions, settings)
    with server:
        load(server.port, 4 * sessions, size, sessions)
        count, seconds = server.syncs() if name == "merpati" else (0, 0)
        cpu = server.cpu_seconds()
        rate, p99 = load(server.port, MESSAGES[name], size, sessions)
        cpu = server.cpu_seconds() - cpu
        sync = None
        if name == "merpati":
            after = server.syncs()
            sync = 1_000 * (after[1] - seconds) / max(1, after[0] - count)
        return {"rate": rate, "p99": p99, "cpu": 1_000 * cpu / MESSAGES[name], "sync": sync}


def median(rounds, key):
    values = [one[key] for one in rounds if one[key] is not None]
    return statistics.median(values) if values else None


def shown(value, digits):
    return "-" if value is None else f"{value:,.{digits}f}"


def acceptance(folder):
    generator = "rig, pipelined" if os.environ.get("RIG") else "smtp-source"
    print(f"\nAcceptance (250s a second; {generator}), median of {ROUNDS} interleaved rounds")
    print(f"{'scenario':<18} {'relay':<8} {'per second':>11} {'p99 ms':>8} "
          f"{'CPU s/1,000':>12} {'mean sync ms':>13} {'times Postfix':>14}")
    ratios = []
    for size, sessions in SCENARIOS:
        rounds = {"postfix": [], "merpati": []}
        for turn in range(ROUNDS):
            for name, mine in rounds.items():
                with tempfile.TemporaryDirectory(dir=folder) as place:
                    os.chmod(place, 0o755)
                    mine.append(measure(name, pathlib.Path(place, name), size, sessions))
        base = median(rounds["postfix"], "rate")
        scenario = f"{size // 1_024} KiB x {sessions}"
        for name, mine in rounds.items():
            ratio = median(mine, "rate") / base
            print(f"{scenario:<18} {name:<8} {shown(median(mine, 'rate'), 0):>11} "
                  f"{shown(median(mine, 'p99'), 1):>8} {shown(median(mine, 'cpu'), 3):>12} "
                  f"{shown(median(mine, 'sync'), 2):>13} {ratio:>14.1f}", flush=True)
        ratios.append(ratio)
    return min(ratios)


def main():
    began = time.monotonic()
    place = os.environ.get("MERPATI_BENCH_DIR", "/var/tmp")
    with tempfile.TemporaryDirectory(prefix="merpati-bench.", dir=place) as folder:
        os.chmod(folder, 0o755)
        folder = pathlib.Path(folder)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, data in {place}")
        journal(folder)
        worst = acceptance(folder)
    print(f"\nbench: {time.monotonic() - began:.0f} s; at least {worst:.1f} times Postfix "
          f"(the goal is {GOAL:.0f})")
    if worst < GOAL and not SMOKE:
        print("bench: the goal is missed")
        return 1
    return 0


sys.exit(main())
