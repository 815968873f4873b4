"""A trace as a file: everybody who was there, and what happened, for `receipts simulate --replay`.

PURE: text in, text out. Lines that begin with `#` are for people. The first other line is a JSON object with
the cast; every line after it is a step (see `steps`). A trace may be edited by hand: any part of it is one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from receipts.core.value import value

from .cast import Cast
from .steps import Step, parse, text_of

__all__ = ["Trace", "read_trace"]


@value
class Trace:
    """What can be replayed."""

    cast: Cast
    steps: Sequence[Step]
    seed: int | None = None
    """That it came from, if it came from one."""
    invariant: str | None = None
    """What it breaks."""

    def text(self, *remarks: str) -> str:
        """The content of the file; `read_trace` reads it.

        Args:
            remarks: For people, one line each.
        """
        head = {"seed": self.seed, "invariant": self.invariant, "cast": json.loads(self.cast.to_json())}
        lines = [f"# {' '.join(remark.split())}" for remark in remarks]
        lines.append(json.dumps(head, ensure_ascii=False))
        lines += [text_of(step) for step in self.steps]
        return "\n".join(lines) + "\n"


def read_trace(text: str) -> Trace:
    """The trace that `Trace.text` has written.

    Raises:
        ValueError: It is none; the message begins with the number of the line.
    """
    head: Trace | None = None
    steps: list[Step] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            if head is None:
                head = _head(line)
            else:
                steps.append(parse(line))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    if head is None:
        raise ValueError("line 1: the cast is missing: this is not a trace of `receipts simulate`")
    return Trace(cast=head.cast, steps=steps, seed=head.seed, invariant=head.invariant)


def _head(line: str) -> Trace:
    try:
        found = json.loads(line)
        cast, seed, invariant = found["cast"], found.get("seed"), found.get("invariant")
    except (ValueError, TypeError, KeyError):
        raise ValueError("the cast is missing: this is not a trace of `receipts simulate`") from None
    return Trace(cast=Cast.from_json(json.dumps(cast)), steps=(), seed=seed, invariant=invariant)
