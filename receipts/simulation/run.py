"""One run, from a number or from a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from .cast import Cast
from .chance import Chance
from .generator import SOME, Faults, Generator
from .steps import Step
from .violation import Violation
from .world import Journal, World

__all__ = ["Outcome", "Violation", "replay", "simulate"]

PROGRESS_EVERY = 500
STEPS_PER_EVENT_MAX = 40
"""A world in which nothing happens any more (every user was removed) ends all the same."""


@attrs.define
class Outcome:
    """What a run came to."""

    seed: int
    """-1 for a trace."""
    cast: Cast
    steps: list[Step]
    """All that was done in the first phase, the one that went wrong included."""
    events: int
    """Commands, delivered frames, crashes and faults, those of healing included."""
    violation: Violation | None
    counts: dict[str, int]
    """Events by kind."""
    digest: str
    """Of everything at the end: equal for equal runs. Empty after a violation."""


def simulate(
    seed: int,
    events: int,
    faults: Faults = SOME,
    *,
    check_every: int = 1000,
    progress: Callable[[int], None] | None = None,
) -> Outcome:
    """Run a world that is drawn from a seed, then heal it.

    Args:
        seed: Any whole number; the same one gives the same run.
        events: How many events there are before healing, about.
        faults: How often what goes wrong.
        check_every: After how many steps everything is judged; what a step touched is judged after each.
        progress: Called now and then with the number of events up to now.
    """
    chance = Chance(seed)
    cast = Cast.drawn(chance)
    steps: list[Step] = []
    world: World | None = None
    try:
        world = World(cast, check_every=check_every)
        generator = Generator(chance, faults, world)
        following, do = generator.next, world.do
        shown = 0
        for _ in range(events * STEPS_PER_EVENT_MAX):
            if world.events >= events:
                break
            step = following()
            steps.append(step)
            do(step)
            if progress is not None and world.events - shown >= PROGRESS_EVERY:
                shown = world.events
                progress(shown)
        world.heal()
    except Violation as violation:
        return _outcome(seed, cast, steps, world, violation)
    return _outcome(seed, cast, steps, world, None)


def replay(
    cast: Cast,
    steps: Iterable[Step],
    *,
    heal: bool = True,
    journal: Journal | None = None,
    check_every: int = 1,
) -> Outcome:
    """Do the steps of a trace.

    Args:
        cast: With whom it was made.
        steps: In order; what makes no sense in the world it meets does nothing.
        heal: Whether to heal afterwards and demand that all agree.
        journal: Who writes down what happens.
        check_every: After how many steps everything is judged.
    """
    done: list[Step] = []
    world: World | None = None
    try:
        world = World(cast, check_every=check_every, journal=journal)
        for step in steps:
            done.append(step)
            world.do(step)
        if heal:
            world.heal()
    except Violation as violation:
        return _outcome(-1, cast, done, world, violation)
    return _outcome(-1, cast, done, world, None)


def _outcome(
    seed: int, cast: Cast, steps: list[Step], world: World | None, violation: Violation | None
) -> Outcome:
    return Outcome(
        seed=seed,
        cast=cast,
        steps=steps,
        events=world.events if world is not None else 0,
        violation=violation,
        counts=dict(world.counts) if world is not None else {},
        digest=world.digest() if world is not None and violation is None else "",
    )
