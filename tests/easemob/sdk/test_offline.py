"""Away and back: a backlog comes once, in order and whole; receipts that waited come merged, none too
many."""

from __future__ import annotations

import pytest

from transports.faulty import FaultyProxy

from .driver import Device
from .stage import Stage, location, numbered

pytestmark = pytest.mark.anyio

BACKLOG = 520
"""More than 500, and several times what the SDK's filter of repeats remembers (101)."""


def texts_from(device: Device, sender: str) -> list[str]:
    return [text["id"] for text in device.all("onTextMessage") if text["from"] == sender]


async def test_a_long_absence(stage: Stage) -> None:
    """520 texts that were sent to an absent device come once each, in order, in a new browser."""
    a, b = await stage.people("alice", "bob")
    alice = await stage.device(a)
    bob = await stage.device(b)
    await bob.heard_of("onTextMessage", id=await alice.text(b, "before"))
    await stage.until_away(bob, vanished=True)
    mids = await alice.send_all(numbered(b, range(BACKLOG)))
    assert mids == sorted(mids, key=int)
    bob = await stage.device(b)
    await bob.until(lambda: mids[-1] in texts_from(bob, a))
    await stage.settle(bob)
    assert texts_from(bob, a) == mids
    assert bob.all("onOfflineMessageSyncStart")
    await bob.heard_of("onOfflineMessageSyncFinish")
    delivered = {told["mid"] for told in alice.all("onDeliveredMessage")}
    await alice.until(lambda: {told["mid"] for told in alice.all("onDeliveredMessage")} >= set(mids))
    await stage.settle(alice)
    told = [found["mid"] for found in alice.all("onDeliveredMessage")]
    assert len(told) == len(set(told)) == BACKLOG + 1, len(delivered)
    assert await stage.unread(bob) == {a: BACKLOG + 1}


async def test_a_backlog_over_bad_links(stage: Stage) -> None:
    """The link breaks again and again while the backlog comes; still each text comes once, in order."""
    a, b = await stage.people("alice", "bob")
    alice = await stage.device(a)
    async with FaultyProxy(f"ws://{stage.served.address}/websocket") as proxy:
        bob = await stage.device(b, via=proxy)
        await stage.until_away(bob, vanished=True)
        mids = await alice.send_all(numbered(b, range(BACKLOG)))
        # Each link ends within the backlog, a little later than the one before; the SDK makes three more.
        cuts = [4_000, 20_011, 50_023]
        proxy.renew()
        proxy.to_client.cut_after = cuts[0]
        bob = await stage.device(b, via=proxy)
        for number, cut in enumerate([*cuts[1:], None], 1):
            proxy.renew()
            proxy.to_client.cut_after = cut
            await bob.connected(number + 1)
        await bob.until(lambda: mids[-1] in texts_from(bob, a))
        await stage.settle(bob)
        assert texts_from(bob, a) == mids
        await alice.until(lambda: {told["mid"] for told in alice.all("onDeliveredMessage")} >= set(mids))
        await stage.leave(bob)


async def test_receipts_that_waited(stage: Stage) -> None:
    """What was read meanwhile is told at the next login: all of it as one conversation receipt, a part as
    receipts of messages, and no delivery receipt for what was read."""
    a, b, c = await stage.people("alice", "bob", "cara")
    alice = await stage.device(a)
    bob, cara = await stage.device(b), await stage.device(c)
    to_bob = await alice.send_all(numbered(b, range(30)))
    to_cara = await alice.send_all(numbered(c, range(30)))
    for device, mids in ((bob, to_bob), (cara, to_cara)):
        await device.heard_of("onTextMessage", id=mids[-1])
    await stage.until_away(alice, vanished=True)
    await bob.send(type="channel", chatType="singleChat", to=a)
    for mid in to_cara[:7]:
        await cara.send(type="read", chatType="singleChat", to=a, id=mid)
    alice = await stage.device(a)
    await alice.heard_of("onChannelMessage", author=b)
    await alice.heard_of("onReadMessage", mid=to_cara[6])
    await stage.settle(alice)
    assert len(alice.all("onChannelMessage")) == 1
    assert sorted(told["mid"] for told in alice.all("onReadMessage")) == to_cara[:7]


async def test_a_second_device_after_statistics(stage: Stage) -> None:
    """The summary of group receipts goes to the device that comes first, with all messages in one."""
    o, b, c = await stage.people("olga", "bob", "cara")
    olga = await stage.device(o)
    bob, cara = await stage.device(b), await stage.device(c)
    team = await stage.group(olga, b, c)
    asking = {"chatType": "groupChat", "msgConfig": {"allowGroupAck": True}}
    first, second = [await olga.text(team, text, **asking) for text in ("first?", "second?")]
    for device in (bob, cara):
        await device.heard_of("onTextMessage", id=second)
    await stage.until_away(olga)
    for device, mid in ((bob, first), (cara, first), (bob, second)):
        await device.send(type="read", chatType="groupChat", to=team, id=mid, ackContent="")
    olga = await stage.device(o)
    told = location(await olga.heard_of("onStatisticMessage"))
    assert sorted((entry["mid"], entry["gid"], entry["count"]) for entry in told) == sorted(
        [(first, team, 2), (second, team, 1)]
    )
    laptop = await stage.device(o, "laptop")
    await stage.settle(olga, laptop)
    assert len(olga.all("onStatisticMessage")) == 1
    assert not laptop.all("onStatisticMessage")
