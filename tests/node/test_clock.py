"""Node time: it follows the wall's clock and neither goes back nor stands still."""

from __future__ import annotations

import json

import anyio
from hypothesis import given
from hypothesis import strategies as st

from receipts.node.clock import NodeTime
from receipts.node.runner import Node
from receipts.storage.memory import MemoryStore
from receipts.wire.updates import Accepted, Rejected
from tests.node.test_runner import ADDRESSES, living, node_time, send, timed

HOUR_MS = 3_600_000


@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 1000)), min_size=1),
)
def test_time_goes_on(stored_ms: int, readings: list[tuple[int, int]]) -> None:
    """Node time is never behind the wall, and passes at least as fast as the steady clock."""
    time, steady_ms, before = NodeTime(stored_ms), 0, stored_ms
    for index, (wall_ms, passed_ms) in enumerate(readings):
        steady_ms += passed_ms
        now_ms = time.read(wall_ms, steady_ms)
        assert now_ms == max(wall_ms, before + (passed_ms if index else 0))
        before = now_ms


def test_limits_fill_up_while_the_wall_is_behind() -> None:
    """With the wall's clock set back by an hour, who was over the rate may send again when the node said."""
    settings = json.dumps({"limits": {"sends_burst": 1, "sends_per_second": 0.1}})
    back_ms = 0

    async def main() -> None:
        nonlocal back_ms
        node = Node(
            MemoryStore(),
            inline=True,
            clock=lambda: node_time() - back_ms,
            steady=node_time,
            heartbeat_ms=3_600_000,
            apps={"default": settings},
        )
        async with living(node) as life:
            await life.users("alice", "bob")
            alice = await life.user(await node.listen(ADDRESSES["memory"]), "alice")
            send(alice, 1, "one")
            await alice.hear(Accepted)
            back_ms = HOUR_MS
            send(alice, 2, "two")
            refused = await alice.hear(Rejected)
            assert 0 < refused.retry_after_ms <= 10_001
            await anyio.sleep(refused.retry_after_ms / 1000)
            send(alice, 3, "two")
            assert (await alice.hear(Accepted)).seq == 2

    timed(main)
