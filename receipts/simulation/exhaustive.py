"""The command that goes through all small worlds, and the processes that share the work.

    python -m receipts.simulation.exhaustive --operations 4 --jobs 2
    found = run(operations=3, jobs=2)

Not PURE: it says how far it is every few seconds. What is gone through, and what is folded, is in `small`.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time
from typing import NamedTuple

from .small import Exhausted, exhaust
from .steps import text_of

__all__ = ["main", "run"]

EVERY_S = 10.0
"""How often a process says how far it is."""


class _Share(NamedTuple):
    """What one process does."""

    operations: int
    away: bool
    crashes: bool
    part: int
    parts: int
    progress: bool


class _Progress:
    """Says now and then on stderr how far a share is."""

    def __init__(self, share: _Share) -> None:
        self._share = share
        self._began_s = self._said_s = time.monotonic()

    def __call__(self, found: Exhausted, level: int, done: int, states: int) -> None:
        now_s = time.monotonic()
        if now_s - self._said_s >= EVERY_S:
            self._said_s = now_s
            share = self._share
            print(
                f"{share.part + 1}/{share.parts}: operation {level} of {share.operations}, from {done:,} of"
                f" {states:,} states; {found.paths:,} sequences in {now_s - self._began_s:.0f} s",
                file=sys.stderr,
                flush=True,
            )


def run(
    operations: int, *, away: bool = True, crashes: bool = True, jobs: int = 1, progress: bool = False
) -> Exhausted:
    """Do everything, in so many processes.

    Args:
        operations: How many there are in a sequence, at most.
        away: Whether devices may act while they are away.
        crashes: Whether one crash may happen in a sequence.
        jobs: With 1 it is done in this process. With more, states that several of them meet are counted by
            each, and the first violation ends it.
        progress: Whether they say on stderr how far they are.
    """
    shares = [_Share(operations, away, crashes, part, jobs, progress) for part in range(jobs)]
    if jobs == 1:
        return _one(shares[0])
    found = Exhausted(operations=operations)
    with multiprocessing.get_context("spawn").Pool(jobs, gc.freeze) as pool:
        for one in pool.imap_unordered(_one, shares):
            found += one
            if found.violation is not None:
                break
    return found


def _one(share: _Share) -> Exhausted:
    return exhaust(
        share.operations,
        away=share.away,
        crashes=share.crashes,
        part=share.part,
        parts=share.parts,
        progress=_Progress(share) if share.progress else None,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run it and print what was visited; 1 when something is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m receipts.simulation.exhaustive",
        description="Everything that two users with two devices each can do in a few operations.",
    )
    parser.add_argument("--operations", type=int, default=3, help="in a sequence, at most [3]")
    parser.add_argument("--no-away", action="store_true", help="devices are always connected")
    parser.add_argument("--no-crashes", action="store_true", help="nothing crashes")
    parser.add_argument("--jobs", type=int, default=1, help="processes [1]")
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=sys.stderr.isatty(),
        help="say every few seconds how far it is [on a terminal]",
    )
    options = parser.parse_args(arguments)
    began_s = time.monotonic()
    found = run(
        options.operations,
        away=not options.no_away,
        crashes=not options.no_crashes,
        jobs=options.jobs,
        progress=options.progress,
    )
    print(
        f"{found.paths:,} sequences of up to {found.operations} operations, {found.crashes:,} with a crash,"
        f" {found.states:,} different states, each healed, in {time.monotonic() - began_s:.0f} s"
    )
    if found.violation is not None:
        print(f"{found.violation}\n{found.violation.details}")
        print(*map(text_of, found.steps), sep="\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
