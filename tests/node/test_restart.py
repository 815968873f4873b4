"""A node that was away for long, and who comes before its first tick."""

from __future__ import annotations

import pytest

from receipts.node.runner import Node
from receipts.storage.memory import MemoryStore

DAY_MS = 86_400_000


@pytest.mark.anyio
async def test_who_comes_before_the_first_tick_is_not_taken_for_silent() -> None:
    """A session counts as heard from now on, not from when the node was last stopped, a day ago."""
    store = MemoryStore()
    now_ms = 1_700_000_000_000
    store.open(now_ms=now_ms, life="life", secret=bytes(32))
    store.close()
    later_ms = now_ms + DAY_MS
    node = Node(store, clock=lambda: later_ms, inline=True)
    async with node.running():
        assert node.hub.open(peer="early").heard_ms == later_ms
