"""What a simulation finds. The rules are in `checks` and `world`."""

from __future__ import annotations

from typing import Any

__all__ = ["Violation"]


class Violation(Exception):
    """Something happened that must never happen.

    Args:
        invariant: Its id, as in docs/invariants.md ("I-5"); "crash" for an exception of the code under test.
        what: One sentence for a person.
        details: What was expected and what was found, or a traceback; may have many lines.
    """

    def __init__(self, invariant: str, what: str, details: str = "") -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant
        self.what = what
        self.details = details
        self.step = -1
        """Index of the step after which it was found; the number of steps when it was found while healing."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Processes hand it on: an exception is made again of its message alone otherwise."""
        return Violation, (self.invariant, self.what, self.details), {"step": self.step}
