"""The only source of chance in a simulation: one generator, one seed, integers only.

Everything is made of `getrandbits`, whose sequence for a given integer seed is the same in every version of
Python; `random.choice` and its kin have changed between versions, and floats invite rounding.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

__all__ = ["Chance"]

_T = TypeVar("_T")


class Chance:
    """Numbers drawn one after the other from a seed."""

    __slots__ = ("_bits",)

    def __init__(self, seed: int) -> None:
        self._bits = random.Random(seed).getrandbits

    def below(self, limit: int) -> int:
        """A number in [0, limit); `limit` is at most 2**20, far below the 32 bits drawn, so that none of
        them is noticeably more likely than another."""
        return (self._bits(32) * limit) >> 32

    def between(self, first: int, last: int) -> int:
        """A number in [first, last], both inclusive."""
        return first + self.below(last - first + 1)

    def one_of(self, items: Sequence[_T]) -> _T:
        """One of a sequence that is not empty."""
        return items[(self._bits(32) * len(items)) >> 32]

    def happens(self, per_mille: int) -> bool:
        """Whether something that happens `per_mille` times in 1,000 happens now."""
        return self._bits(32) * 1000 < per_mille << 32

    def some_of(self, items: Sequence[_T], count: int) -> list[_T]:
        """At most `count` different items, in the order drawn."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(min(count, len(left)))]
