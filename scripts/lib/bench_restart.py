"""What a full queue costs: memory, the rate beside it, and the time after a restart; and idleness."""

import contextlib
import os
import re
import statistics
import subprocess
import time

from bench_scenarios import Certificate
from bench_servers import Relay, Sink, pss_mib
from servers import end_process, free_port

WAITING_MAX_MIB = 250
RESTART_MAX_SECONDS = 5
IDLE_MAX_MIB = 25
SCRAPE_MAX_MS = 20
SCRAPES = 21
SIZE = 1_024
SESSIONS = 50
# So many deliveries fail often before the others come: a fifth of them.
OFTEN = 0.2
OFTEN_ATTEMPTS = 5
PARTS = 4
# Seconds between the attempts at the rest: long enough that filling and settling end before them.
WAIT = 120
WAIT_SMALL = 3
SMALL = 10_000
# Messages that go past a deep queue.
FRESH = 20_000
# Messages that come as soon as a relay listens that still reads its spool.
MEANWHILE = 1_000


def restart(rig, merpati, place, queued):
    """Fills a queue with the next hop down, ends the relay and starts it anew, with cold caches."""
    port, told = free_port(), {}
    often = int(queued * OFTEN)
    # First those that are tried again and again, with a short wait, by a host that refuses each for
    # now; then, after a restart with a long one and with nobody there, the rest.
    with Sink(rig, place / "refusing", port, options=("--defer", "rcpt=100")), \
            Relay(merpati, place / "relay", port, settings={"RETRY": "1"}).wait() as relay:
        rig.load(relay.port, often, SIZE, SESSIONS, place / "often")
        wait_for_attempts(relay, often * OFTEN_ATTEMPTS)
        end_process(relay.process)
    wait = WAIT if queued > SMALL else WAIT_SMALL
    settings = {"RETRY": str(wait)}
    with Relay(merpati, place / "relay", port, fresh=False, settings=settings).wait() as relay:
        rates = []
        for part in range(PARTS):
            messages = (queued - often) // PARTS
            sent = place / f"part-{part}"
            rates.append(rig.load(relay.port, messages, SIZE, SESSIONS, sent)["accept_per_s"])
        told["waiting"] = settled_mib(relay)
        told["scrape"] = scrape_ms(relay)
        octets = sum(f.stat().st_blocks * 512 for f in (place / "relay").rglob("*") if f.is_file())
        end_process(relay.process)
    filled = time.monotonic()
    with Relay(merpati, place / "empty", port, settings=settings).wait() as empty:
        messages = (queued - often) // PARTS
        none = rig.load(empty.port, messages, SIZE, SESSIONS, place / "none")["accept_per_s"]
    told["rate"] = rates[-1] / none
    # All are due when it starts anew.
    time.sleep(max(0, filled + wait - time.monotonic()))
    is_cold = drop_caches()
    with Sink(rig, place / "sink", port) as sink:
        began, wall = time.monotonic(), time.time()
        with Relay(merpati, place / "relay", port, fresh=False, settings=settings).wait(240) as relay:
            told["ready"] = time.monotonic() - began
            rig.load(relay.port, MEANWHILE, SIZE, SESSIONS, place / "meanwhile")
            told["taken"] = time.monotonic() - began
            wait_for_recovery(relay)
            told["recovered"] = time.monotonic() - began
            last = sink.wait_for(MEANWHILE + often + PARTS * ((queued - often) // PARTS), 900)
            told["first"] = sink.figure("first") - wall
            told["drained"] = last - wall
    print(
        f"\nRestart with {queued:,} of {SIZE} octets queued, {OFTEN:.0%} of them tried "
        f"{OFTEN_ATTEMPTS} times or more; page cache {'dropped' if is_cold else 'NOT dropped'}\n"
        f"waiting: PSS {told['waiting']:.0f} MiB, on disk {octets / 2**20:,.0f} MiB; accepted a "
        f"second, by quarters of the filling: {', '.join(f'{rate:,.0f}' for rate in rates)}; "
        f"by an empty relay {none:,.0f}; a scrape of the metrics {told['scrape']:.1f} ms\n"
        f"after the restart: listens at {told['ready']:.2f} s, {MEANWHILE:,} more taken by "
        f"{told['taken']:.2f} s, all read at {told['recovered']:.2f} s, first delivery "
        f"{told['first']:.2f} s, all delivered {told['drained']:.0f} s",
        flush=True,
    )
    return told


def deep(rig, merpati, place, queued):
    """A relay that starts on a spool in which so many messages wait, filled by the journal alone."""
    spool = place / "relay" / "spool" / "spool"
    spool.parent.mkdir(parents=True)
    began = time.monotonic()
    filler = [os.environ["JOURNAL_BENCH"], "fill", str(spool), str(queued)]
    subprocess.run(filler, check=True, timeout=1_800)
    filled = time.monotonic() - began
    octets = sum(f.stat().st_blocks * 512 for f in spool.rglob("*") if f.is_file())
    is_cold = drop_caches()
    told = {}
    with Sink(rig, place / "sink") as sink:
        began = time.monotonic()
        with Relay(merpati, place / "relay", sink.port, fresh=False).wait(600) as relay:
            told["ready"] = time.monotonic() - began
            wait_for_recovery(relay)
            told["recovered"] = time.monotonic() - began
            told["waiting"] = settled_mib(relay)
            told["deliveries"] = queue_length(relay)
            # Mail that comes now is delivered past all that wait.
            load = rig.load(relay.port, FRESH, SIZE, SESSIONS, place / "fresh")
            told["rate"] = FRESH / (sink.wait_for(FRESH) - load["first_connect"])
    print(
        f"\n{queued:,} waiting, {OFTEN:.0%} of them after {OFTEN_ATTEMPTS} attempts, written into the "
        f"journal in {filled:.0f} s; page cache {'dropped' if is_cold else 'NOT dropped'}\n"
        f"listens {told['ready']:.2f} s after the start, all read at {told['recovered']:.1f} s, "
        f"{told['deliveries']:,} deliveries wait: PSS "
        f"{told['waiting']:,.0f} MiB, {told['waiting'] * 2**20 / queued:.0f} octets each; on disk "
        f"{octets / 2**20:,.0f} MiB; beside them {told['rate']:,.0f} a second end to end",
        flush=True,
    )
    return told


def scrape_ms(relay):
    """What a scrape of the metrics costs in the middle, as whoever scrapes sees it."""
    took = []
    for _ in range(SCRAPES):
        began = time.monotonic()
        relay.ask("/metrics")
        took.append((time.monotonic() - began) * 1_000)
    return statistics.median(took)


def queue_length(relay):
    """How many deliveries wait."""
    found = re.search(r"^merpati_queue_deliveries (\S+)$", relay.ask("/metrics"), re.MULTILINE)
    return int(float(found[1]))


def wait_for_attempts(relay, attempts, seconds=600):
    """Until so many attempts were deferred."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for line in relay.ask("/metrics").splitlines():
            if line.startswith('merpati_outcomes_total{outcome="Deferred"}'):
                if float(line.split()[-1]) >= attempts:
                    return
        time.sleep(0.2)
    raise RuntimeError(f"fewer than {attempts} attempts in {seconds} s")


def wait_for_recovery(relay, seconds=600):
    """Until the relay knows all that its spool held; before, nobody may look at the queue."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(RuntimeError):
            relay.ask("/v1/queue?limit=1")
            return
    raise RuntimeError(f"the relay still reads its spool after {seconds} s")


def settled_mib(relay):
    """The memory once what was under way has settled."""
    time.sleep(5)
    return pss_mib(relay.process.pid)


def drop_caches():
    """Whether nothing is left in the page cache: it takes root."""
    subprocess.run(["sync"], check=True)
    try:
        with open("/proc/sys/vm/drop_caches", "w") as drop:
            drop.write("3")
    except OSError:
        return False
    return True


def idle(merpati, place, seconds):
    """The memory of a relay that nobody talks to."""
    certificate = Certificate.make(place)
    settings = {"TLS_CERT": certificate.chain, "TLS_KEY": certificate.key, "NEXT_HOP": "",
                "DNS_ADDR": "127.0.0.1:53", "HTTP_ADDR": "127.0.0.1:0"}
    with Relay(merpati, place / "relay", 0, settings=settings).wait() as relay:
        time.sleep(seconds)
        return pss_mib(relay.process.pid)
