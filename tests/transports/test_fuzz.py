"""A slice of the fuzzing of the framing."""

from __future__ import annotations

import pytest

from tests.memory_watch import looked_at
from tests.transports.fuzz import run


def test_whatever_arrives_is_frames_or_a_declared_error() -> None:
    """Bytes of every framing, changed and cut in any way, give what was sent or the declared errors."""
    outcomes = run(inputs=3000, seed=20261123)
    assert set(outcomes) == {
        "frames, or their beginning",
        "closed by the peer",
        "a frame too large",
        "not frames",
        "broken by the peer",
    }


def test_the_look_at_memory_sees_what_is_too_much() -> None:
    """An input that takes far more than its size is found, though nothing of it is kept."""
    assert looked_at(lambda: len(bytes(400_000)), 1) == 400_000
    with pytest.raises(AssertionError, match="took"):
        looked_at(lambda: len(bytes(4_000_000)), 1)
