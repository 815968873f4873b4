"""What is drawn: everything that can happen happens, and drawing changes nothing."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any, get_args

import pytest

from receipts.core.errors import Code
from receipts.simulation import CRUEL, MANY, NONE, SOME, Faults, World, simulate
from receipts.simulation.cast import Cast
from receipts.simulation.chance import Chance
from receipts.simulation.device import ACTS
from receipts.simulation.generator import PROFILES, Generator
from receipts.simulation.node import OPERATIONS
from receipts.simulation.rogue import ROGUES
from receipts.simulation.steps import Act, CrashNode, Operate, Say, Step, Store, Turn
from receipts.wire import updates

TROUBLE = {
    "cut",
    "partition",
    "duplicate",
    "node crash",
    "device crash",
    "disk full",
    "disk failure",
    "clock jump",
}


def drawn(seeds: range, faults: Faults, events: int = 400) -> list[tuple[World, list[Step]]]:
    """Some worlds, each with the steps that were drawn for it; nothing is judged."""
    found = []
    for seed in seeds:
        chance = Chance(seed)
        world = World(Cast.drawn(chance), checks=False)
        generator = Generator(chance, faults, world)
        steps: list[Step] = []
        while world.events < events:
            steps.append(generator.next())
            world.do(steps[-1])
        found.append((world, steps))
    return found


@pytest.fixture(scope="module")
def cruel() -> list[tuple[World, list[Step]]]:
    """Worlds in which everything goes wrong."""
    return drawn(range(60), CRUEL)


def test_everything_is_drawn(cruel: list[tuple[World, list[Step]]]) -> None:
    """Every kind of step, every act, every operation and everything a rogue may say comes up."""
    steps = [step for _, some in cruel for step in some]
    assert {type(step) for step in steps} == set(get_args(Step))
    assert {step.operation for step in steps if isinstance(step, Act)} == set(ACTS)
    assert {step.operation for step in steps if isinstance(step, Operate)} == set(OPERATIONS)
    assert {step.operation for step in steps if isinstance(step, Say)} == set(ROGUES)
    assert {step.outcome for step in steps if isinstance(step, Store)} == {
        *("ok", "written", "failed", "failed-kept")
    }


def test_every_trouble_comes_up(cruel: list[tuple[World, list[Step]]]) -> None:
    """All that can go wrong does, and counts as an event."""
    counts = Counter[str]()
    for world, _ in cruel:
        counts.update(world.counts)
        assert sum(world.counts.values()) == world.events
    assert counts.keys() >= TROUBLE


def test_crashes_come_between_all_stages(cruel: list[tuple[World, list[Step]]]) -> None:
    """The node crashes while commands wait, while a commit waits, is written, is durable and not let out."""
    stages = Counter[str]()
    for seed in range(60):
        chance = Chance(seed)
        world = World(Cast.drawn(chance), checks=False)
        generator = Generator(chance, CRUEL, world)
        while world.events < 400:
            step, node = generator.next(), world.node
            if isinstance(step, CrashNode) and node is not None:
                stages["queued"] += bool(node.inbox)
                stages["to be done"] += any(job.kind == "commit" for job in node.jobs)
                stages["written"] += world.disk.unsynced
                stages["durable"] += node.ahead
            world.do(step)
    assert all(stages[name] for name in ("queued", "to be done", "written", "durable")), stages


def test_without_faults_nothing_goes_wrong() -> None:
    """A world without faults has none; what people do is there all the same."""
    for world, steps in drawn(range(10), NONE):
        assert not world.counts.keys() & TROUBLE
        assert not any(isinstance(step, Say) for step in steps)
        assert world.counts["send"]


def test_profiles_are_in_order() -> None:
    """Each profile has more of everything than the one before."""
    assert list(PROFILES.values()) == [NONE, SOME, MANY, CRUEL]
    names = list(Faults.__annotations__)
    rows = [[getattr(faults, name) for name in names] for faults in PROFILES.values()]
    for less, more in pairwise(rows):
        assert all(one < other for one, other in zip(less, more, strict=True))


def test_drawing_changes_nothing() -> None:
    """The generator only looks: a world is the same after a step was drawn and not done."""
    chance = Chance(7)
    world = World(Cast.drawn(chance))
    generator = Generator(chance, SOME, world)
    for _ in range(300):
        step = generator.next()
        world.do(step)
        before = world.digest()
        generator.next()
        assert world.digest() == before


def test_what_the_node_says_is_of_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers and pushed updates of every kind go over links, and refusals for most reasons there are."""
    kinds: set[type] = set()
    codes: set[Code] = set()
    honest = World._from_node

    def noting(self: World, link: Any, frames: list[Any]) -> None:
        for frame in frames:
            kinds.add(type(frame.update))
            if isinstance(frame.update, updates.Rejected):
                codes.add(frame.update.code)
        honest(self, link, frames)

    monkeypatch.setattr(World, "_from_node", noting)
    drawn(range(40), MANY, 1000)
    assert set(updates.UPDATE_TYPES) - kinds == set()
    assert len(codes) >= 15, sorted(codes)


def test_a_world_in_which_nothing_happens_ends() -> None:
    """A run ends even when nobody is left to do anything."""
    outcome = simulate(2, 30, Faults(device_crashes=100_000))
    assert outcome.violation is None
    assert outcome.events >= 30


def test_a_quick_node_works_in_turns() -> None:
    """Most of the node's work is done at once: a crash between its stages is the exception."""
    steps = [step for _, some in drawn(range(10), SOME) for step in some]
    turns = sum(isinstance(step, Turn) for step in steps)
    assert turns > sum(isinstance(step, Store) for step in steps)
