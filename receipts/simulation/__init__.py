"""Whole worlds from one number: a node, its users' devices, and everything that can go wrong between them.

    outcome = simulate(seed=7, events=2000)
    if outcome.violation is not None:
        print(outcome.violation, shrink(outcome.cast, outcome.steps, outcome.violation.invariant))

PURE. The node, the client and the wire format are the production code; nothing of them is done again here.
What is simulated is what surrounds them: links, clocks, disks, threads and the people who use it. A world
changes by steps alone, and all chance is in who picks the next step, so a run is its list of steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cast import Cast as Cast
    from .generator import CRUEL as CRUEL
    from .generator import MANY as MANY
    from .generator import NONE as NONE
    from .generator import SOME as SOME
    from .generator import Faults as Faults
    from .run import Outcome as Outcome
    from .run import replay as replay
    from .run import simulate as simulate
    from .shrinking import shrink as shrink
    from .violation import Violation as Violation
    from .world import Journal as Journal
    from .world import World as World

_HOMES = {
    "CRUEL": "generator",
    "MANY": "generator",
    "NONE": "generator",
    "SOME": "generator",
    "Cast": "cast",
    "Faults": "generator",
    "Journal": "world",
    "Outcome": "run",
    "Violation": "violation",
    "World": "world",
    "replay": "run",
    "shrink": "shrinking",
    "simulate": "run",
}
__all__ = [
    "CRUEL",
    "MANY",
    "NONE",
    "SOME",
    "Cast",
    "Faults",
    "Journal",
    "Outcome",
    "Violation",
    "World",
    "replay",
    "shrink",
    "simulate",
]


def __getattr__(name: str) -> Any:
    """Names are resolved when they are asked for: who has the pytest plugin installed pays nothing for it."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{home}", __name__), name)
