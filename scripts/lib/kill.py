"""Kills the relay and its next hop at random, again and again, and accounts for every message.

Called by scripts/kill.sh. What the relay acknowledged has come to the sink, or its failure was
reported to the sender, or it still waits; at the end nothing may wait any more.

Duplicates are right only where a reply or its record can have been lost. An outcome is durable
within 50 ms (and a sync); the window here is wider than that. So a kill of the relay at a time may
repeat what came in the window before it, and what was on its way; a kill of the sink what was on
its way.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from bench_servers import CONNECTIONS, Relay, Rig, Sink  # noqa: E402
from servers import end_process, free_port  # noqa: E402

# Before a kill of the relay: the outcomes of this long may be forgotten.
WINDOW_SECONDS = 0.3
# Seconds from the start of a relay or sink to the next kill, at most.
LIFE_SECONDS = 1.0
# Seconds without any news after which what is missing is called lost: while something waits, and
# when nothing does and only a last line may be on its way.
PATIENCE_SECONDS = 60
PATIENCE_EMPTY_SECONDS = 5
RETRY_SECONDS = 1
SESSIONS = 20
# Faults of the next hop beside its sudden death. It never cuts after the end of data: each such cut
# would be one more duplicate that is right.
FAULTS = ("--defer", "rcpt=3", "--defer", "end=3", "--fail", "rcpt=1", "--fail", "end=1",
          "--cut", "content=1")


class Trial:
    """Relay and sink on ports that stay the same, and what was done to them."""

    def __init__(self, folder, seed, options):
        self.folder = folder
        self.draw = random.Random(seed)
        self.rig = Rig(os.environ["MERPATI_RIG"])
        self.options = options
        self.sink_port, self.relay_port = free_port(), free_port()
        self.bounced = folder / "bounced"
        self.sent, self.sent_before, self.sent_by_load = (
            folder / name for name in ("sent", "held", "load"))
        self.sink = self.relay = self.load = None
        self.held = 0
        self.relay_kills, self.sink_kills = [], 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.load and self.load.poll() is None:
            self.load.kill()
            self.load.wait()
        if self.relay and self.relay.process.poll() is None:
            self.relay.__exit__()
        if self.sink:
            end_process(self.sink.process)

    def start_sink(self, faults=FAULTS):
        seed = str(self.draw.randrange(1 << 32))
        options = ("--bounced", str(self.bounced), "--seed", seed, *faults)
        self.sink = Sink(self.rig, self.folder, self.sink_port, options)

    def start_relay(self, calmly):
        settings = {"RETRY": str(RETRY_SECONDS)}
        self.relay = Relay(os.environ["MERPATI"], self.folder, self.sink_port, self.relay_port,
                           fresh=False, settings=settings)
        if calmly:
            self.relay.wait()

    def start_load(self):
        command = [self.rig.path, "load", "--to", f"127.0.0.1:{self.relay_port}", "--pipelining"]
        command += ["--sessions", str(SESSIONS), "--size", "4096", "--ids", str(self.sent_by_load)]
        command += ["--prefix", "kill", "--retry-connect"]
        command += ["--per-second", str(self.options.per_second)]
        self.load = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def hold(self, messages):
        """Fills the queue with mail that waits to the end, so that each recovery takes a while."""
        told = self.rig.load(self.relay_port, messages, 4_096, SESSIONS, self.sent_before)
        self.held = told["acked"]
        self.operate("hold")

    def operate(self, verb):
        command = [os.environ["MERPATI"], "queue", verb, "--all", "--socket"]
        subprocess.run([*command, str(self.relay.control)], check=True, stdout=subprocess.DEVNULL)

    def kill_sink(self):
        self.sink.process.kill()
        self.sink.process.wait(20)
        self.sink_kills += 1

    def kill_relay(self):
        self.relay_kills.append(time.time())
        self.relay.kill()

    def cycle(self):
        """A life, and the death of one or of both."""
        # The time of a death is drawn, not waited for: at some of them the relay still recovers.
        time.sleep(self.draw.uniform(0.02, LIFE_SECONDS))
        victims = self.draw.choices(("relay", "sink", "both"), (6, 3, 1))[0]
        if victims in ("relay", "both"):
            self.kill_relay()
        if victims in ("sink", "both"):
            self.kill_sink()
            time.sleep(self.draw.uniform(0, LIFE_SECONDS / 2))
            self.start_sink()
        if victims in ("relay", "both"):
            self.start_relay(calmly=self.draw.random() < 0.75)

    def finish(self):
        """Ends the load, restarts both calmly, and waits until nothing more comes."""
        self.load.send_signal(signal.SIGTERM)
        told, _ = self.load.communicate(timeout=60)
        self.relay.__exit__()
        end_process(self.sink.process)
        self.start_sink(faults=())
        self.start_relay(calmly=True)
        if self.held:
            self.operate("release")
        before, since = None, time.monotonic()
        while True:
            balance, is_right = self.check()
            waiting = len(json.loads(self.relay.ask("/v1/queue?limit=1"))["data"])
            if balance["lost"] == 0 and waiting == 0:
                break
            now = (balance["received"], balance["bounced"], waiting)
            if now != before:
                before, since = now, time.monotonic()
            patience = PATIENCE_SECONDS if waiting else PATIENCE_EMPTY_SECONDS
            if time.monotonic() - since > patience:
                print(f"kill: no news for {patience} s; the queue: "
                      f"{self.relay.ask('/v1/queue?limit=10')}")
                break
            time.sleep(0.5)
        end_process(self.sink.process)
        return json.loads(told), balance, is_right

    def check(self):
        most = ("--duplicates-max", str(self.duplicates_max()))
        self.bounced.touch()
        with open(self.sent, "wb") as sent:
            for part in (self.sent_before, self.sent_by_load):
                if part.exists():
                    sent.write(part.read_bytes())
        return self.rig.check(self.sent, self.sink.ids, ("--bounced", str(self.bounced), *most))

    def duplicates_max(self):
        with open(self.sink.ids) as lines:
            came = [float(line.split()[2]) for line in lines if line.endswith("\n")]
        came += [float(line.split()[2]) for line in open(self.bounced) if line.endswith("\n")]
        forgotten = sum(
            sum(kill - WINDOW_SECONDS <= at <= kill for at in came) for kill in self.relay_kills
        )
        return forgotten + CONNECTIONS * (len(self.relay_kills) + self.sink_kills)

    def second_opinion(self, balance):
        """The accounting of the tools beside the checkout, which knows nothing of bounces."""
        other = os.environ.get("RIG")
        if not other:
            return "no second rig beside the checkout"
        told, _ = Rig(other).check(self.sent, self.sink.ids)
        if told["lost"] != balance["lost"] + balance["bounced"]:
            raise RuntimeError(f"the second rig counts otherwise: {told} and {balance}")
        return f"the second rig agrees: {told['lost']} did not come, {balance['bounced']} bounced"


def main():
    parser = argparse.ArgumentParser(prog="scripts/kill.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="3 cycles")
    parser.add_argument("--cycles", type=int, default=100, help="how many deaths (100)")
    parser.add_argument("--per-second", type=int, default=1_000, help="messages of the load")
    parser.add_argument("--held", type=int, default=0,
                        help="messages that wait to the end, so that recovery takes a while (0)")
    parser.add_argument("--seed", type=int, default=None, help="of a run before, which it prints")
    options = parser.parse_args()
    cycles = 3 if options.smoke else options.cycles
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    began = time.monotonic()
    print(f"kill: {cycles} cycles, seed {seed}", flush=True)
    place = os.environ.get("MERPATI_BENCH_DIR", "/var/tmp")
    with tempfile.TemporaryDirectory(prefix="merpati-kill.", dir=place) as folder, \
            Trial(pathlib.Path(folder), seed, options) as trial:
        trial.start_relay(calmly=True)
        if options.held:
            trial.hold(options.held)
        trial.start_sink()
        trial.start_load()
        for _ in range(cycles):
            trial.cycle()
        told, balance, is_right = trial.finish()
        most = trial.duplicates_max()
        print(f"kill: relay killed {len(trial.relay_kills)} times, sink {trial.sink_kills} times, "
              f"in {time.monotonic() - began:.0f} s")
        print(f"kill: {json.dumps(told)}")
        print(f"kill: {json.dumps(balance)}")
        print(f"kill: {balance['duplicates']} duplicates, of at most {most} that are right")
        print(f"kill: {trial.second_opinion(balance)}")
        if told["acked"] == 0:
            print("kill: nothing was acknowledged, so nothing is shown")
            return 1
        if not is_right:
            with contextlib.suppress(OSError):
                print(trial.relay.output.read_text()[-4_000:])
            print(f"kill: FAILED with seed {seed}")
            return 1
        print(f"kill: {balance['acknowledged']} acknowledged = {balance['bounced']} bounced + "
              f"the rest delivered, none lost")
    return 0


sys.exit(main())
