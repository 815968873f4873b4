"""What is drawn: everything that can happen happens, and drawing changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
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


SEEDS_MAX = 300
"""After so many worlds what has not come up never does; a few dozen are usual."""


def drawing(seeds: range, faults: Faults, events: int = 400) -> Iterator[tuple[World, Step]]:
    """The worlds of some seeds, each with every step that is drawn for it, before it is done; nothing is
    judged."""
    for seed in seeds:
        chance = Chance(seed)
        world = World(Cast.drawn(chance), checks=False)
        generator = Generator(chance, faults, world)
        while world.events < events:
            step = generator.next()
            yield world, step
            world.do(step)


def drawn(seeds: range, faults: Faults, events: int = 400) -> list[tuple[World, list[Step]]]:
    """Worlds, each with the steps that were drawn for it."""
    found: dict[World, list[Step]] = {}
    for world, step in drawing(seeds, faults, events):
        found.setdefault(world, []).append(step)
    return list(found.items())


def kinds_of(step: Step) -> Iterator[tuple[type, str]]:
    """What a step is an instance of: its type, and with it what varies of it."""
    yield type(step), ""
    if isinstance(step, Act | Operate | Say):
        yield type(step), step.operation
    elif isinstance(step, Store):
        yield type(step), step.outcome


def test_everything_is_drawn() -> None:
    """Every kind of step, every act, every operation and everything a rogue may say comes up."""
    wanted: set[tuple[type, str]] = {(kind, "") for kind in get_args(Step)}
    for kind, names in ((Act, ACTS), (Operate, OPERATIONS), (Say, ROGUES)):
        wanted |= {(kind, name) for name in names}
    wanted |= {(Store, outcome) for outcome in ("ok", "written", "failed", "failed-kept")}
    missing = set(wanted)
    for _, step in drawing(range(SEEDS_MAX), CRUEL):
        met = set(kinds_of(step))
        assert met <= wanted
        missing -= met
        if not missing:
            break
    assert not missing


def test_every_trouble_comes_up() -> None:
    """All that can go wrong does, and counts as an event."""
    counts = Counter[str]()
    for seed in range(SEEDS_MAX):
        ((world, _),) = drawn(range(seed, seed + 1), CRUEL)
        counts.update(world.counts)
        assert sum(world.counts.values()) == world.events
        if counts.keys() >= TROUBLE:
            break
    assert counts.keys() >= TROUBLE


def test_crashes_come_between_all_stages() -> None:
    """The node crashes while commands wait, while a commit waits, is written, is durable and not let out."""
    missing = {"queued", "to be done", "written", "durable"}
    for world, step in drawing(range(SEEDS_MAX), CRUEL):
        node = world.node
        if isinstance(step, CrashNode) and node is not None:
            stages = {
                "queued": bool(node.inbox),
                "to be done": any(job.kind == "commit" for job in node.jobs),
                "written": world.disk.unsynced,
                "durable": node.ahead,
            }
            missing -= {stage for stage, met in stages.items() if met}
            if not missing:
                break
    assert not missing


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
    for seed in range(SEEDS_MAX):
        drawn(range(seed, seed + 1), MANY, 1000)
        if kinds >= set(updates.UPDATE_TYPES) and len(codes) >= 15:
            break
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
