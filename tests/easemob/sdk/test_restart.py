"""A node that dies under connected SDKs, and is back before they give up."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

from .driver import Device, Driver
from .stage import Served, Stage

pytestmark = pytest.mark.anyio

KILLS = 3
TEXTS_EACH = 25
"""Between two kills, and as many after the last."""


@pytest.fixture
async def own(place: Path, driver: Driver) -> AsyncIterator[Stage]:
    """A stage whose node nobody else uses."""
    served = Served(place)
    try:
        served.start()
        stage = Stage(served, driver)
        yield stage
        await stage.close()
    finally:
        served.close()


class Writer:
    """An application that writes one text after the other and gives none up."""

    def __init__(self, device: Device, to: str) -> None:
        self.device = device
        self.to = to
        self.mids: list[str] = []

    async def write(self, count: int) -> None:
        """So many more texts."""
        for _ in range(count):
            text = f"number {len(self.mids)}"
            handle = await self.device.create(type="txt", chatType="singleChat", to=self.to, msg=text)
            self.mids.append(str((await self.device.persist(handle))["serverMsgId"]))


async def has_texts(device: Device, count: int) -> None:
    """Wait until so many have come."""
    await device.until(lambda: len(device.all("onTextMessage")) >= count)


async def kill_and_restart(served: Served, number: signal.Signals) -> None:
    """End the node, and start it again at once on the same data and port."""
    await to_thread.run_sync(served.end, number)
    await to_thread.run_sync(served.start)


async def test_killed_while_they_write(own: Stage) -> None:
    """SIGKILL, three times in the middle of things: what was acknowledged is there, what was not is sent
    again, each text arrives once, in order, and counts and receipts agree in the end."""
    a, b = await own.people("alice", "bob")
    alice, bob = await own.device(a), await own.device(b)
    writer = Writer(alice, b)
    for kill in range(1, KILLS + 1):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.write, TEXTS_EACH)
            await has_texts(bob, kill * TEXTS_EACH - 12)
            await kill_and_restart(own.served, signal.SIGKILL)
        for device in (alice, bob):
            await device.connected(kill + 1)
    await writer.write(TEXTS_EACH)
    await bob.heard_of("onTextMessage", id=writer.mids[-1])
    await alice.until(lambda: {told["mid"] for told in alice.all("onDeliveredMessage")} >= set(writer.mids))
    await own.settle(alice, bob)
    texts = [text["id"] for text in bob.all("onTextMessage") if text["from"] == a]
    assert texts == writer.mids
    assert len(set(texts)) == (KILLS + 1) * TEXTS_EACH
    assert await own.unread(bob) == {a: len(texts)}
    told = [found["mid"] for found in alice.all("onDeliveredMessage")]
    assert len(told) == len(set(told))
    await bob.send(type="channel", chatType="singleChat", to=a)
    await alice.heard_of("onChannelMessage", author=b)
    assert (await own.unread(bob)).get(a, 0) == 0
    assert not alice.all("onDisconnected")


async def test_receipts_survive(own: Stage) -> None:
    """Reads, answers in a group, and what waits for somebody who is away are all there after SIGKILL."""
    a, b, c = await own.people("alice", "bob", "cara")
    alice, bob, cara = await own.device(a), await own.device(b), await own.device(c)
    team = await own.group(alice, b, c)
    asking: dict[str, Any] = {"chatType": "groupChat", "msgConfig": {"allowGroupAck": True}}
    asked = await alice.text(team, "at nine?", **asking)
    mid = await alice.text(b, "hello")
    for device in (bob, cara):
        await device.heard_of("onTextMessage", id=asked)
    await bob.heard_of("onTextMessage", id=mid)
    await own.until_away(alice)
    answer = {"type": "read", "chatType": "groupChat", "to": team, "id": asked}
    await bob.send(**answer, ackContent="before")
    await bob.send(type="read", chatType="singleChat", to=a, id=mid)
    await kill_and_restart(own.served, signal.SIGKILL)
    for device in (bob, cara):
        await device.connected(2)
    await cara.send(**answer, ackContent="after")
    alice = await own.device(a)
    told = await alice.heard_of("onStatisticMessage")
    assert f'"{asked}"' in told["location"]
    assert '"count":2' in told["location"].replace(" ", "")
    await alice.until(lambda: alice.all("onReadMessage") or alice.all("onChannelMessage"))
    listed = await alice.call("getGroupMsgReadUser", {"msgId": asked, "groupId": team})
    assert sorted(listed["data"]["userlist"]) == [b, c]
    assert (await own.unread(bob)).get(a, 0) == 0


async def test_stopped_in_good_order(own: Stage) -> None:
    """SIGTERM and a restart: connected SDKs come back by themselves and nothing is missing."""
    a, b = await own.people("alice", "bob")
    alice, bob = await own.device(a), await own.device(b)
    before = await alice.text(b, "before")
    await bob.heard_of("onTextMessage", id=before)
    await kill_and_restart(own.served, signal.SIGTERM)
    for device in (alice, bob):
        await device.connected(2)
    after = await alice.text(b, "after")
    await bob.heard_of("onTextMessage", id=after)
    await own.settle(bob)
    assert [text["id"] for text in bob.all("onTextMessage") if text["from"] == a] == [before, after]
