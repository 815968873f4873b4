"""Receipts in groups, beyond the main story: many at once, and what is no answer."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from .stage import Stage

pytestmark = pytest.mark.anyio

ASKING: dict[str, Any] = {"chatType": "groupChat", "msgConfig": {"allowGroupAck": True}}
READERS = 8


async def test_many_at_once(stage: Stage) -> None:
    """Readers who answer at the same time come one by one, each with a count of their own (scene 17)."""
    owner, *members = await stage.people("olga", *(f"reader-{letter}-" for letter in "abcdefgh"[:READERS]))
    olga = await stage.device(owner)
    readers = [await stage.device(user) for user in members]
    team = await stage.group(olga, *members)
    asked = await olga.text(team, "everybody?", **ASKING)
    async with anyio.create_task_group() as tasks:
        for reader in readers:

            async def answer(reader: Any = reader) -> None:
                await reader.heard_of("onTextMessage", id=asked)
                receipt = {"type": "read", "chatType": "groupChat", "to": team, "id": asked}
                await reader.send(**receipt, ackContent=f"I, {reader.user}")

            tasks.start_soon(answer)
    await olga.until(lambda: len(olga.all("onReadMessage")) >= READERS)
    await stage.settle(olga)
    told = olga.all("onReadMessage")
    assert [receipt["groupReadCount"][asked] for receipt in told] == list(range(1, READERS + 1))
    assert {receipt["from"]: receipt["ackContent"] for receipt in told} == {
        user: f"I, {user}" for user in members
    }


async def test_clearing_is_no_answer(stage: Stage) -> None:
    """Scene 18: a conversation receipt in a group clears one's own unread and tells nobody; to answer takes a
    receipt that names the message, which clears it as well."""
    owner, first, second = await stage.people("olga", "bob", "cara")
    olga, bob, cara = [await stage.device(user) for user in (owner, first, second)]
    team = await stage.group(olga, first, second)
    asked = await olga.text(team, "at nine?", **ASKING)
    plain = await olga.text(team, "good morning", chatType="groupChat")
    for device in (bob, cara):
        await device.heard_of("onTextMessage", id=plain)
        assert await stage.unread(device) == {team: 2}
    await bob.send(type="channel", chatType="groupChat", to=team)
    assert (await stage.unread(bob)).get(team, 0) == 0
    assert await stage.unread(cara) == {team: 2}
    await stage.settle(olga, cara)
    for device in (olga, cara):
        assert not device.all("onChannelMessage")
        assert not device.all("onReadMessage")
    receipt = {"type": "read", "chatType": "groupChat", "to": team, "id": asked}
    await bob.send(**receipt, ackContent="yes")
    await cara.send(**receipt)
    told = await olga.heard_of("onReadMessage", author=second)
    assert told["groupReadCount"] == {asked: 2}
    assert await stage.unread(cara) == {team: 1}
    assert (await olga.heard_of("onReadMessage", author=first))["ackContent"] == "yes"
