"""A slice of the fuzzing of the vendor's dialect; `python -m tests.easemob.fuzz` is the whole."""

from __future__ import annotations

import random

from tests.easemob.fuzz import run


def test_broken_frames_harm_nobody_else() -> None:
    """Each is read, refused, or ends its own link with a reason; nothing else comes of it."""
    outcomes = run(1500, random.randrange(2**32))
    assert sum(outcomes.values()) == 1500
    assert set(outcomes) <= {"read", "closed", "refused"}
