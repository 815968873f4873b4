"""Millions of events over thousands of seeds, one after the other, until something breaks.

    python -m tests.simulation.long                                20,000,000 events over 2,000 seeds
    python -m tests.simulation.long --jobs 2 --state long.jsonl    in two processes; goes on where it was
    python -m tests.simulation.long --state long.jsonl --write     and writes the result into the docs

Seeds take turns between the profiles of faults. With a state file every finished seed is a line in it, with
the commit that it was run on: started again on the same commit, those are not run again, so that a long run
may be interrupted whenever the machine is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from receipts.app.simulate import Failure, Result, results
from receipts.simulation.generator import PROFILES

__all__ = ["main", "profile_of", "result_block"]

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "simulation.md"
MARKS = "<!-- long: begin -->", "<!-- long: end -->"
EVENTS = 20_000_000
SEEDS = 2_000
SAY_EVERY_SECONDS = 30.0


def profile_of(seed: int) -> str:
    """Which faults a seed gets: all profiles alike."""
    names = list(PROFILES)
    return names[seed % len(names)]


def _commit() -> str:
    """Of the tree, with a plus sign when it has changes."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "receipts", "transports")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+" if changed else "")


class Progress:
    """What is done, here and in runs before."""

    def __init__(self, path: Path | None, commit: str, events: int) -> None:
        self._path = path
        self._key = {"commit": commit, "events_each": events}
        self.lines: list[dict[str, Any]] = []
        self.failure: tuple[int, Failure] | None = None
        if path is not None and path.exists():
            found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
            self.lines = [line for line in found if self._key.items() <= line.items()]

    @property
    def seeds(self) -> set[int]:
        """Those that are done."""
        return {line["seed"] for line in self.lines}

    def sum(self, name: str) -> float:
        """Over all that are done."""
        return float(sum(line[name] for line in self.lines))

    def add(self, result: Result, seconds: float) -> None:
        """One more; `seconds` is its share of the time."""
        line = {
            **self._key,
            "seed": result.seed,
            "events": result.events,
            "seconds": round(seconds, 4),
            "digest": result.digest,
        }
        if result.failure is not None:
            self.failure = result.seed, result.failure
            return
        self.lines.append(line)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def run(progress: Progress, seeds: Iterable[int], events: int, jobs: int) -> bool:
    """Run what is left. Returns whether nothing broke."""
    left = [seed for seed in seeds if seed not in progress.seeds]
    said = time.monotonic()
    for faults in PROFILES:
        those = [seed for seed in left if profile_of(seed) == faults]
        before = time.monotonic()
        for result in results(those, events, faults, jobs, lambda _: None):
            now = time.monotonic()
            progress.add(result, now - before)
            before = now
            if progress.failure is not None:
                return False
            if now - said > SAY_EVERY_SECONDS:
                said = now
                done = f"{len(progress.lines):,} seeds, {progress.sum('events'):,.0f} events"
                print(f"{done}, now with {faults} faults", flush=True)
    return True


def result_block(progress: Progress, commit: str, jobs: int) -> str:
    """What the docs say of it."""
    seconds = progress.sum("seconds")
    events = progress.sum("events")
    machine = f"{os.cpu_count()} cores, {platform.python_implementation()} {platform.python_version()}"
    rows = [
        ("commit", f"`{commit}`"),
        ("seeds", f"{min(progress.seeds)} to {max(progress.seeds)}, {len(progress.seeds):,} in all"),
        ("events", f"{events:,.0f}"),
        ("violations", "none"),
        ("time", f"{seconds / 60:,.0f} minutes in {jobs} process{'es' * (jobs > 1)} ({machine})"),
        ("events per second", f"{events / max(seconds, 1e-9):,.0f}"),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)])


def write(block: str, document: Path = DOCUMENT) -> None:
    """Put it between its marks."""
    begin, end = MARKS
    text = document.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    assert pattern.search(text), f"{document.name} has no place for it"
    document.write_text(pattern.sub(lambda _: f"{begin}\n{block}\n{end}", text), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 when something broke."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=EVENTS, help="in all")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--state", type=Path, help="a file to go on from")
    parser.add_argument("--write", action="store_true", help="write the result into docs/simulation.md")
    options = parser.parse_args(arguments)
    commit, each = _commit(), -(-options.events // options.seeds)
    progress = Progress(options.state, commit, each)
    fine = run(progress, range(options.first, options.first + options.seeds), each, options.jobs)
    if progress.failure is not None:
        seed, failure = progress.failure
        print(f"seed {seed} breaks {failure.invariant}: {failure.what}")
        print(f"receipts simulate --seed {seed} --events {each} --faults {profile_of(seed)}")
        return 1
    block = result_block(progress, commit, options.jobs)
    print(block)
    if options.write:
        write(block)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
