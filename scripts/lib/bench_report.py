"""How the figures are shown: a table of medians, and what became of each goal."""

import statistics

COLUMNS = (
    f"{'scenario':<20} {'relay':<8} {'per second':>10} {'lowest-highest':>16} {'of none':>8} "
    f"{'accepted/s':>10} {'p50 ms':>7} {'p99 ms':>7} {'CPU ms':>7} {'PSS MiB':>8} {'sync ms':>8} "
    f"{'times Postfix':>14}"
)


class Goals:
    """What was asked, what was reached."""

    def __init__(self):
        self.lines = []
        self.missed = 0

    def judge(self, what, reached, least=None, most=None):
        """Notes one; `reached` is None where it was not measured."""
        bound = f">= {least:g}" if least is not None else f"<= {most:g}"
        if reached is None:
            return
        is_met = reached >= least if least is not None else reached <= most
        self.missed += not is_met
        self.lines.append(f"{what:<52} {bound:>10} {reached:>10.3g}  {'ok' if is_met else 'MISSED'}")

    def show(self):
        """Prints all of them."""
        print(f"\n{'goal':<52} {'asked':>10} {'reached':>10}")
        print("\n".join(self.lines), flush=True)


def median(rounds, key):
    """The median of what was measured; None where nothing was."""
    values = [one[key] for one in rounds if one.get(key) is not None]
    return statistics.median(values) if values else None


def shown(value, digits):
    """A figure, or a dash."""
    return "-" if value is None else f"{value:,.{digits}f}"


def ratio(value, base):
    """How many times; None where there is nothing to compare with."""
    return value / base if value is not None and base else None


def resumed(rounds):
    """The share of TLS sessions that were resumed, over all rounds with their warm-ups; a line, or
    None where there was no TLS."""
    counts = [one["handshakes"] for one in rounds if one.get("handshakes") is not None]
    if not counts:
        return None
    parts = []
    for direction in ("in", "out"):
        full, again = (sum(one.get((direction, kind), 0) for one in counts)
                       for kind in ("full", "resumed"))
        if not full + again:
            raise RuntimeError(f"no handshake was counted: {direction}")
        share = again / (full + again)
        parts.append(f"{direction} {again:,.0f} of {full + again:,.0f} ({share:.0%})")
    return "sessions that were resumed: " + ", ".join(parts)


def rows(scenario, rounds, goals):
    """Prints a scenario's rows and judges its goals. `rounds`: name of relay to its rounds."""
    none, postfix = (median(rounds.get(n, ()), "rate") for n in ("none", "postfix"))
    for name, mine in rounds.items():
        rate = median(mine, "rate")
        rates = [one["rate"] for one in mine]
        share = ratio(rate, none)
        print(
            f"{scenario.name:<20} {name:<8} {shown(rate, 0):>10} "
            f"{f'{min(rates):,.0f}-{max(rates):,.0f}':>16} "
            f"{'-' if share is None else f'{share:.0%}':>8} "
            f"{shown(median(mine, 'accepted'), 0):>10} {shown(median(mine, 'p50'), 1):>7} "
            f"{shown(median(mine, 'p99'), 1):>7} {shown(median(mine, 'cpu'), 3):>7} "
            f"{shown(median(mine, 'pss'), 0):>8} {shown(median(mine, 'sync'), 2):>8} "
            f"{shown(ratio(rate, postfix), 1):>14}",
            flush=True,
        )
    ours = rounds["merpati"]
    if line := resumed(ours):
        print(f"{'':<20} {'merpati':<8} {line}", flush=True)
    rate, p99 = median(ours, "rate"), median(ours, "p99")
    if scenario.times:
        goals.judge(f"{scenario.name}: times Postfix", ratio(rate, postfix), scenario.times)
    if scenario.share:
        goals.judge(f"{scenario.name}: share of none", ratio(rate, none), scenario.share)
    if scenario.cpu:
        what = f"{scenario.name}: CPU ms per message"
        goals.judge(what, median(ours, "cpu"), most=scenario.cpu)
    if scenario.times:
        theirs = median(rounds["postfix"], "p99")
        goals.judge(f"{scenario.name}: p99 of the 250, of Postfix's", ratio(p99, theirs), most=0.2)
