"""One number, one run: in every process, and whatever the clocks say."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from receipts.simulation import MANY, SOME, Cast, Outcome, Violation, World, replay, simulate
from receipts.simulation.chance import Chance
from receipts.simulation.steps import parse_all, text_of

SEEDS = (3, 11)
EVENTS = 600


def same(one: Outcome, other: Outcome) -> bool:
    """Whether two runs came to the same."""
    return (one.events, one.counts, one.digest) == (other.events, other.counts, other.digest)


def test_a_seed_gives_one_run_in_every_process() -> None:
    """Hashes of texts, which differ from process to process, decide nothing."""
    code = (
        "from receipts.simulation import MANY, simulate\n"
        f"print(*(simulate(seed, {EVENTS}, MANY).digest for seed in {SEEDS}))"
    )
    found = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hashed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hashed in ("0", "1", "2")
    ]
    digests = {process.communicate()[0].strip() for process in found}
    assert all(process.returncode == 0 for process in found)
    assert digests == {" ".join(simulate(seed, EVENTS, MANY).digest for seed in SEEDS)}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_trace_is_the_run(seed: int) -> None:
    """Doing the steps of a run again, read back from text, comes to the same without any chance."""
    first = simulate(seed, EVENTS, MANY)
    assert first.violation is None
    steps = parse_all("\n".join(text_of(step) for step in first.steps))
    again = replay(Cast.from_json(first.cast.to_json()), steps, check_every=1000)
    assert same(first, again)
    assert again.steps == first.steps


def test_how_often_is_judged_changes_nothing() -> None:
    """Looking does not touch: with everything judged after every step a run comes to the same."""
    first = simulate(SEEDS[0], 250, MANY)
    assert same(first, simulate(SEEDS[0], 250, MANY, check_every=1))


@pytest.mark.parametrize("seed", SEEDS)
def test_clocks_decide_nothing(seed: int) -> None:
    """I-7: with every clock somewhere else, hours apart, the same steps come to the same state."""
    first = simulate(seed, EVENTS, SOME)
    worlds = [World(first.cast), World(first.cast.shifted(Chance(seed)))]
    assert worlds[0].cast != worlds[1].cast
    for world in worlds:
        for step in first.steps:
            world.do(step)
        world.heal()
    one, other = (world.checks.logical() for world in worlds if world.checks is not None)
    assert one == other
    assert worlds[0].counts == worlds[1].counts


def test_progress_is_told_and_runs_end() -> None:
    """Whoever watches hears of growing numbers; a run ends at the number asked for, or soon after."""
    heard: list[int] = []
    outcome = simulate(5, 2000, SOME, progress=heard.append)
    assert heard == sorted(heard)
    assert len(heard) >= 3
    assert 2000 <= outcome.events < 4000
    assert sum(outcome.counts.values()) == outcome.events


def test_without_checks_a_run_is_the_same() -> None:
    """Judging is looking on: a world that nobody judges comes to the same."""
    first = simulate(SEEDS[1], EVENTS, MANY)
    world = World(first.cast, checks=False)
    for step in first.steps:
        world.do(step)
    world.heal()
    assert world.digest() == first.digest


def test_a_violation_says_where_it_was() -> None:
    """Its text begins with the invariant; the step is its place in the trace."""
    violation = Violation("I-5", "unread is negative", "-1")
    assert str(violation) == "I-5: unread is negative"
    assert (violation.invariant, violation.details, violation.step) == ("I-5", "-1", -1)
