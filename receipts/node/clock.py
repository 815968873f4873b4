"""Node time: what a node goes by for limits, expiry and the times that people see. PURE.

It follows the wall's clock forwards, never backwards: when that is set back, by hand or from the network,
node time goes on from where it was at the pace of a clock that only counts. Standing still until the wall has
come round again would be wrong too: no limit would fill up and nothing expire for that long.
"""

from __future__ import annotations

__all__ = ["NodeTime"]


class NodeTime:
    """Time that goes on.

    Args:
        stored_ms: Node time when the node was last here; 0 for none.
    """

    __slots__ = ("_now_ms", "_steady_ms")

    def __init__(self, stored_ms: int = 0) -> None:
        self._now_ms = stored_ms
        self._steady_ms: int | None = None

    def read(self, wall_ms: int, steady_ms: int) -> int:
        """What time it is.

        Args:
            wall_ms: By the wall's clock, since 1970.
            steady_ms: By a clock that never goes back, from any beginning.
        """
        passed_ms = steady_ms - self._steady_ms if self._steady_ms is not None else 0
        self._steady_ms = steady_ms
        self._now_ms = max(wall_ms, self._now_ms + passed_ms)
        return self._now_ms
