"""From a long trace to a short one that fails the same way. The bugs are planted."""

from __future__ import annotations

import pytest

from receipts.client import replica
from receipts.core import events
from receipts.simulation import SOME, Outcome, replay, shrink, simulate
from receipts.simulation.steps import Act, Deliver, Tick, Turn, text_of


def found(seeds: range) -> Outcome:
    """The first run that goes wrong."""
    for seed in seeds:
        outcome = simulate(seed, 2000, SOME)
        if outcome.violation is not None:
            return outcome
    raise AssertionError("the planted bug was not found")


def test_a_long_failure_becomes_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left fails the same way, each of its steps is needed, and it is short enough to be read."""
    honest = replica.Replica._recalled

    def deaf(self: replica.Replica, event: events.MessageRecalled) -> bool:
        return False if event.seq > 1 else honest(self, event)

    monkeypatch.setitem(replica._HANDLERS, events.MessageRecalled, deaf)
    outcome = found(range(20))
    violation = outcome.violation
    assert violation is not None
    heard: list[int] = []
    short = shrink(outcome.cast, outcome.steps, violation.invariant, tried=heard.append)
    assert short.violation is not None
    assert short.violation.invariant == violation.invariant
    assert len(short.steps) <= 40
    assert heard == sorted(heard, reverse=True)
    assert any(isinstance(step, Act) and step.operation == "recall" for step in short.steps)
    assert len(short.cast.devices) <= len(outcome.cast.devices)
    again = replay(short.cast, short.steps)
    assert again.violation is not None
    assert again.violation.invariant == violation.invariant
    for index in range(len(short.steps)):
        fewer = short.steps[:index] + short.steps[index + 1 :]
        heal = short.violation.step >= len(short.steps)
        rest = replay(short.cast, fewer, heal=heal, check_every=1 << 30)
        same = rest.violation is not None and rest.violation.invariant == violation.invariant
        assert not same, f"{text_of(short.steps[index])} is not needed"


def test_whoever_has_no_time_gets_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the time is over, the shortest trace up to then is given; it fails as well."""
    monkeypatch.setitem(replica._HANDLERS, events.MessageRecalled, lambda self, event: 1 / 0)
    outcome = found(range(20))
    assert outcome.violation is not None
    assert outcome.violation.invariant == "crash"
    left = 5

    def go_on() -> bool:
        nonlocal left
        left -= 1
        return left > 0

    short = shrink(outcome.cast, outcome.steps, "crash", go_on=go_on)
    assert short.violation is not None
    assert 0 < len(short.steps) <= len(outcome.steps)


def test_a_trace_that_does_not_fail_cannot_be_shrunk() -> None:
    """It is a ValueError that names the invariant."""
    outcome = simulate(1, 50, SOME)
    with pytest.raises(ValueError, match="I-5"):
        shrink(outcome.cast, outcome.steps, "I-5")


def test_inner_steps_become_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it does not matter how the node got there, one turn is all that is left of it."""
    monkeypatch.setitem(replica._HANDLERS, events.MessageRecalled, lambda self, event: 1 / 0)
    outcome = found(range(20))
    short = shrink(outcome.cast, outcome.steps, "crash")
    assert any(isinstance(step, Turn) for step in short.steps)
    assert not any(isinstance(step, Tick) for step in short.steps)
    assert any(isinstance(step, Deliver) and not step.up for step in short.steps)
