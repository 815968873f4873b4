"""What a simulated world costs: `python -m tests.bench.simulation`.

Worlds with all checks on, seeds taking turns between the profiles of faults as in the long run, one after
the other in this process; events per second of its CPU time, healing and the last judgement included. A run
is the same few seeds every time, so that what differs between runs is the machine: how fast that is just
then is said by one round of the pure machine (`machine.decide_rounds`) before and after each run. Here a
figure may be looked at, not asserted: the limit beside it is what this was built for.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

from receipts.app.simulate import results
from receipts.simulation.generator import PROFILES
from tests.simulation.long import profile_of

from .machine import decide_rounds

__all__ = ["Cost", "main", "measure"]

SEEDS = 16
EVENTS = 2_000
RUNS = 5
AT_LEAST = 15_000
"""Events per second of one core."""
USUAL = "some"
"""The faults that `receipts simulate` has by itself."""
ROUNDS = 20_000
"""Of the pure machine, to see how fast the computer is."""


class Cost(NamedTuple):
    """Of the worlds of one profile, in one run."""

    events: int
    seconds: float
    """Of CPU time."""

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds


def measure(seeds: Sequence[int], events: int) -> dict[str, Cost]:
    """Simulate seeds once, each with its profile's faults.

    Args:
        seeds: Which.
        events: Of each, about.

    Returns:
        What they cost, by profile; profiles without a seed are left out.

    Raises:
        SystemExit: Something that must hold did not.
    """
    found: dict[str, Cost] = {}
    for faults in PROFILES:
        those = [seed for seed in seeds if profile_of(seed) == faults]
        done, before = 0, time.process_time()
        for result in results(those, events, faults, 1, lambda _: None):
            if result.failure is not None:
                raise SystemExit(f"seed {result.seed} breaks {result.failure.invariant}: no figure")
            done += result.events
        if those:
            found[faults] = Cost(done, time.process_time() - before)
    return found


class Run(NamedTuple):
    """The same few worlds, once."""

    costs: dict[str, Cost]
    """By profile."""
    round_seconds: float
    """Of CPU time, for one round of the pure machine, at the same time."""


def _round_seconds() -> float:
    before = time.process_time()
    decide_rounds(ROUNDS)
    return (time.process_time() - before) / ROUNDS


def run(seeds: Sequence[int], events: int) -> Run:
    """Measure once, and how fast the computer is meanwhile."""
    before = _round_seconds()
    costs = measure(seeds, events)
    return Run(costs, (before + _round_seconds()) / 2)


def _sum(costs: dict[str, Cost]) -> Cost:
    return Cost(sum(cost.events for cost in costs.values()), sum(cost.seconds for cost in costs.values()))


def _line(name: str, costs: Sequence[Cost], rounds: Sequence[float], at_least: int | None) -> str:
    rates = [cost.rate for cost in costs]
    verdict = "" if at_least is None else "ok" if median(rates) >= at_least else "UNDER"
    limit = "" if at_least is None else f"{at_least:,}"
    beside = median(1 / rate / one for rate, one in zip(rates, rounds, strict=True))
    return f"| {name} | {max(rates):,.0f} | {median(rates):,.0f} | {limit} | {verdict} | {beside:.1f} |"


def _lines(runs: Sequence[Run]) -> Iterator[str]:
    yield "| events/s of one core, all checks | best | median | at least | verdict | an event, in rounds |"
    yield "|---|---|---|---|---|---|"
    rounds = [one.round_seconds for one in runs]
    yield _line("all profiles alike", [_sum(one.costs) for one in runs], rounds, AT_LEAST)
    for faults in runs[0].costs:
        costs = [one.costs[faults] for one in runs]
        yield _line(f"– with `{faults}` faults", costs, rounds, AT_LEAST if faults == USUAL else None)


def main(arguments: list[str] | None = None) -> None:
    """Run, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.simulation", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="how often the same seeds")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many")
    parser.add_argument("--events", type=int, default=EVENTS, help="of each seed")
    options = parser.parse_args(arguments)
    runs = [run(range(options.seeds), options.events) for _ in range(options.runs)]
    print(f"\nSimulation, {options.seeds} seeds of {options.events:,} events, {options.runs} runs\n")
    print(*_lines(runs), sep="\n")


if __name__ == "__main__":
    main()
