"""Sets of seqs as sorted, disjoint, half-open ranges.

A `Ranges` is the immutable form that travels in events and frames: a flat tuple of bounds,
`(start, stop, start, stop, …)`, strictly increasing, so `(1, 4, 9, 10)` is {1, 2, 3, 9}. A `RangeSet` is
the mutable form that lives in the state. Read in order, a set is one range whatever the number of messages;
out of order it costs its gaps.

Because the bounds strictly increase, the number of bounds at or below a seq is odd exactly when the seq is
inside: that one fact is the whole arithmetic below.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from .errors import LocalProtocolError
from .ids import Seq

__all__ = ["EMPTY", "RangeSet", "Ranges", "check_ranges", "count", "ranges_of", "seqs_of", "through"]

Ranges: TypeAlias = tuple[int, ...]
"""Flat half-open bounds, strictly increasing, an even number of them, all at least 1."""

EMPTY: Ranges = ()


def check_ranges(ranges: Sequence[int]) -> None:
    """Refuse what is not a `Ranges`.

    Raises:
        LocalProtocolError: Odd number of bounds, a bound below 1, or bounds that do not strictly increase.
    """
    if len(ranges) == 2:
        if 0 < ranges[0] < ranges[1]:
            return
    elif len(ranges) % 2 == 0:
        previous = 0
        for bound in ranges:
            if bound <= previous:
                break
            previous = bound
        else:
            return
    raise LocalProtocolError(f"not half-open ranges (start, stop, …) that increase from 1: {ranges!r}")


def through(seq: Seq) -> Ranges:
    """{1 … seq}, inclusive; empty for 0."""
    return (1, seq + 1) if seq > 0 else EMPTY


def count(ranges: Sequence[int]) -> int:
    """How many seqs are in `ranges`."""
    if len(ranges) == 2:
        return ranges[1] - ranges[0]
    return sum(ranges[1::2]) - sum(ranges[::2])


def ranges_of(seqs: Iterable[Seq]) -> Ranges:
    """The ranges that hold exactly these seqs, given in any order, repeats allowed."""
    result = RangeSet()
    for seq in seqs:
        result.add(seq, seq + 1)
    return result.ranges


def seqs_of(ranges: Sequence[int]) -> Iterator[Seq]:
    """The seqs in `ranges`, rising."""
    for index in range(0, len(ranges), 2):
        yield from range(ranges[index], ranges[index + 1])


class RangeSet:
    """A mutable set of seqs; a join-semilattice under `update` (union)."""

    __slots__ = ("_bounds",)

    def __init__(self, ranges: Sequence[int] = EMPTY) -> None:
        self._bounds: list[int] = list(ranges)

    @property
    def ranges(self) -> Ranges:
        """The set as an immutable value."""
        return tuple(self._bounds)

    @property
    def gaps(self) -> int:
        """How many separate ranges the set is made of: what it costs."""
        return len(self._bounds) // 2

    def add(self, start: Seq, stop: Seq) -> None:
        """Add `start` (inclusive) to `stop` (exclusive), `start < stop`."""
        bounds = self._bounds
        if bounds:
            last = bounds[-1]
            if last == start:  # in order: the end moves
                bounds[-1] = stop
                return
            if stop <= last and bounds[-2] <= start:  # a repeat of the newest
                return
        i = bisect_left(bounds, start)
        j = bisect_right(bounds, stop)
        edge = []
        if not i & 1:
            edge.append(start)
        if not j & 1:
            edge.append(stop)
        bounds[i:j] = edge

    def update(self, ranges: Sequence[int]) -> None:
        """Add all of `ranges`."""
        if len(ranges) == 2:
            start, stop = ranges
            bounds = self._bounds
            if bounds and bounds[-1] == start:  # the same as in `add`, without the call
                bounds[-1] = stop
            elif not bounds or stop > bounds[-1] or start < bounds[-2]:
                self.add(start, stop)
            return
        for index in range(0, len(ranges), 2):
            self.add(ranges[index], ranges[index + 1])

    def discard(self, ranges: Sequence[int]) -> None:
        """Take all of `ranges` out. For repairs and limits only: a join never shrinks a set."""
        for index in range(0, len(ranges), 2):
            start, stop = ranges[index], ranges[index + 1]
            bounds = self._bounds
            i = bisect_left(bounds, start)
            j = bisect_right(bounds, stop)
            bounds[i:j] = ([start] if i & 1 else []) + ([stop] if j & 1 else [])

    def missing(self, ranges: Ranges) -> Ranges:
        """The part of `ranges` that is not in the set; `ranges` itself when that is one range, all of it."""
        bounds = self._bounds
        if len(ranges) == 2:
            start, stop = ranges
            if not bounds or bounds[-1] <= start:
                return ranges
            if len(bounds) == 2 and bounds[0] <= start:  # read in order: only the end is new
                return (bounds[1], stop) if bounds[1] < stop else EMPTY
            return tuple(_between(bounds, start, stop, 0))
        found: list[int] = []
        for index in range(0, len(ranges), 2):
            found += _between(bounds, ranges[index], ranges[index + 1], 0)
        return tuple(found)

    def within(self, ranges: Sequence[int]) -> Ranges:
        """The part of `ranges` that is in the set."""
        found: list[int] = []
        for index in range(0, len(ranges), 2):
            found += _between(self._bounds, ranges[index], ranges[index + 1], 1)
        return tuple(found)

    def count(self) -> int:
        """How many seqs are in the set."""
        return count(self._bounds)

    def drop_through(self, seq: Seq) -> None:
        """Forget everything up to and including `seq`, which a floor covers from now on."""
        bounds = self._bounds
        if bounds and bounds[0] <= seq:
            i = bisect_right(bounds, seq + 1)
            bounds[:i] = [seq + 1] if i & 1 else []

    def copy(self) -> RangeSet:
        """An independent set with the same seqs."""
        return RangeSet(self._bounds)

    def __contains__(self, seq: Seq) -> bool:
        return bool(bisect_right(self._bounds, seq) & 1)

    def __iter__(self) -> Iterator[Seq]:
        return seqs_of(self._bounds)

    def __bool__(self) -> bool:
        return bool(self._bounds)

    def __eq__(self, other: object) -> bool:
        return self._bounds == other._bounds if isinstance(other, RangeSet) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        pairs = zip(self._bounds[::2], self._bounds[1::2], strict=True)
        return "{" + ", ".join(f"{a}" if b == a + 1 else f"{a}-{b - 1}" for a, b in pairs) + "}"


def _between(bounds: list[int], start: Seq, stop: Seq, inside: int) -> list[int]:
    """The parts of [start, stop) whose count of bounds at or below is odd (`inside` 1) or even (0)."""
    i = bisect_right(bounds, start)
    j = bisect_left(bounds, stop)
    found = bounds[i:j]
    if i & 1 == inside:
        found.insert(0, start)
    if j & 1 == inside:
        found.append(stop)
    return found
