"""The vendor's SDK and native clients in one conversation: every status and every count is the same on
both."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

from receipts.core.status import Status
from receipts.easemob.window import WINDOW
from transports.faulty import FaultyProxy

from .stage import Stage, location, numbered

pytestmark = pytest.mark.anyio


async def test_a_phone_and_a_browser(stage: Stage) -> None:
    """bob has a native phone and an SDK browser, alice both as well: texts, ticks and badges agree
    throughout."""
    a, b = await stage.people("alice", "bob")
    alice = await stage.device(a, "web")
    bob = await stage.device(b, "web")
    async with stage.native(a) as alice_phone, stage.native(b) as bob_phone:
        # A text of the SDK at the native client, and one of the native client at the SDK.
        mid = await alice.text(b, "from the browser")
        await bob.heard_of("onTextMessage", id=mid)
        await bob_phone.until(lambda: bob_phone.unread(a) == 1)
        assert str(bob_phone.messages(a)[-1].message_id) == mid
        sent = await alice_phone.send(to=b, body="from the phone")
        text = await bob.heard_of("onTextMessage", id=str(sent.message_id))
        assert (text["msg"], text["from"], text["type"]) == ("from the phone", a, "txt")
        own = await alice.heard_of("onTextMessage", id=str(sent.message_id))
        assert own["from"] == a
        await bob_phone.until(lambda: bob_phone.unread(a) == 2)
        assert await stage.unread(bob) == {a: 2}

        # Delivered: the SDK is told once a message, whichever device it was; the native one sees the same.
        for told in (mid, str(sent.message_id)):
            await alice.heard_of("onDeliveredMessage", mid=told)
        await alice_phone.until(lambda: alice_phone.status(b, 2) is Status.DELIVERED)

        # Read by the native phone: a message, then the conversation.
        await bob_phone.read_messages(a, [1])
        await bob_phone.flush()
        await alice.heard_of("onReadMessage", mid=mid)
        await alice_phone.until(lambda: alice_phone.status(b, 1) is Status.READ)
        assert await stage.unread(bob) == {a: 1}
        await bob_phone.read(a)
        await bob_phone.flush()
        await alice.heard_of("onChannelMessage", author=b)
        await bob.heard_of("onChannelMessage", author=b, to=a)
        await alice_phone.until(lambda: alice_phone.status(b, 2) is Status.READ)
        assert (await stage.unread(bob)).get(a, 0) == 0

        # Read by the SDK: the native phone's badge falls, and the author's devices agree.
        mids = [await alice.text(b, "three"), await alice.text(b, "four")]
        await bob.heard_of("onTextMessage", id=mids[-1])
        await bob_phone.until(lambda: bob_phone.unread(a) == 2)
        await bob.send(type="read", chatType="singleChat", to=a, id=mids[0])
        await bob_phone.until(lambda: bob_phone.unread(a) == 1)
        await alice_phone.until(lambda: alice_phone.status(b, 3) is Status.READ)
        assert alice_phone.status(b, 4) < Status.READ
        await bob.send(type="channel", chatType="singleChat", to=a)
        await bob_phone.until(lambda: bob_phone.unread(a) == 0)
        await alice_phone.until(lambda: alice_phone.status(b, 4) is Status.READ)
        await stage.settle(alice, bob)
        assert sorted(told["mid"] for told in alice.all("onReadMessage")) == sorted([mid, mids[0]])
        assert len(alice.all("onChannelMessage")) == 2
        delivered = [told["mid"] for told in alice.all("onDeliveredMessage")]
        assert len(delivered) == len(set(delivered))
        assert [m.message_id for m in alice_phone.messages(b)] == [
            m.message_id for m in bob_phone.messages(a)
        ]


async def test_in_a_group(stage: Stage) -> None:
    """Who asks may be native and who answers on the SDK, or the other way: counts, words and lists agree."""
    o, b, c = await stage.people("olga", "bob", "cara")
    olga = await stage.device(o, "web")
    bob = await stage.device(b, "web")
    team = await stage.group(olga, b, c)
    asking: dict[str, Any] = {"chatType": "groupChat", "msgConfig": {"allowGroupAck": True}}
    async with stage.native(o) as olga_phone, stage.native(c) as cara_phone:
        asked = await olga.text(team, "asked by the browser", **asking)
        await cara_phone.until(lambda: cara_phone.unread(team) == 1)
        await bob.heard_of("onTextMessage", id=asked)
        await cara_phone.read_messages(team, [1], "from the phone")
        await cara_phone.flush()
        told = await olga.heard_of("onReadMessage", mid=asked, author=c)
        assert (told["groupReadCount"], told["ackContent"]) == ({asked: 1}, "from the phone")
        await bob.send(type="read", chatType="groupChat", to=team, id=asked, ackContent="from the browser")
        told = await olga.heard_of("onReadMessage", mid=asked, author=b)
        assert (told["groupReadCount"], told["ackContent"]) == ({asked: 2}, "from the browser")
        await olga_phone.until(lambda: len(olga_phone.known_readers(team, 1)) == 2)
        readers = {reader.user: reader.content for reader in (await olga_phone.readers(team, 1)).readers}
        assert readers == {c: "from the phone", b: "from the browser"}
        listed = await olga.call("getGroupMsgReadUser", {"msgId": asked, "groupId": team})
        assert sorted(listed["data"]["userlist"]) == sorted([b, c])

        native = await olga_phone.send(conversation=team, body="asked by the phone", asks=True)
        text = await bob.heard_of("onTextMessage", id=str(native.message_id))
        assert text["msgConfig"] == {"allowGroupAck": True}
        receipt = {"type": "read", "chatType": "groupChat", "to": team, "id": str(native.message_id)}
        await bob.send(**receipt, ackContent="seen")
        await olga_phone.until(lambda: olga_phone.known_readers(team, native.seq))
        await olga.heard_of(
            "onReadMessage", mid=str(native.message_id), groupReadCount={str(native.message_id): 1}
        )

        await cara_phone.read(team)
        await cara_phone.flush()
        await stage.settle(olga)
        assert len(olga.all("onReadMessage")) == 3
        assert (await cara_phone.server_badge()).messages == 0


async def test_what_the_browser_read(stage: Stage) -> None:
    """Scene 24: a browser's conversation receipt covers what was there at its login and what was written
    to it since, no more. While texts of the author stay unread she is told of messages, of the
    conversation at the end."""
    a, b = await stage.people("alice", "bob")
    alice = await stage.device(a, "web")
    async with (
        stage.native(b) as bob_phone,
        FaultyProxy(f"ws://{stage.served.address}/websocket") as link,
    ):
        known = await alice.send_all(numbered(b, range(1, 8)))
        await bob_phone.until(lambda: bob_phone.unread(a) == len(known))
        bob = await stage.device(b, "web", via=link)
        await stage.settle(bob)
        await alice.text(b, "number 8")
        await bob.heard_of("onTextMessage", msg="number 8")
        assert await stage.unread(bob) == {a: len(known) + 1}
        # Nothing more reaches the browser, and of what is on its way to it only so much is written.
        link.to_client.stall()
        later = await alice.send_all(numbered(b, range(9, 9 + WINDOW + 5)))
        await bob_phone.until(lambda: bob_phone.unread(a) == len(known) + 1 + len(later))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(bob.send, type="channel", chatType="singleChat", to=a))
            await bob_phone.until(lambda: bob_phone.unread(a) < len(later))
            left = bob_phone.unread(a)
            assert 5 <= left < len(later)
            await alice.heard_of("onReadMessage", mid=later[-left - 1])
            link.to_client.resume()
        await bob.heard_of("onTextMessage", id=later[-1])
        await stage.settle(alice)
        assert not alice.all("onChannelMessage")
        read = [told["mid"] for told in alice.all("onReadMessage")]
        assert len(read) == len(set(read)) == len(known) + 1 + len(later) - left
        assert await stage.unread(bob) == {a: left}
        await bob_phone.read(a)
        await bob_phone.flush()
        await alice.heard_of("onChannelMessage", author=b)
        await bob.heard_of("onChannelMessage", author=b, to=a)
        assert (await stage.unread(bob)).get(a, 0) == 0
        await stage.vanish(bob)


async def test_statistics_and_native(stage: Stage) -> None:
    """While a native device of the author is there she is not away: her browser gets receipts, no summary."""
    o, b = await stage.people("olga", "bob")
    olga = await stage.device(o, "web")
    bob = await stage.device(b, "web")
    team = await stage.group(olga, b)
    asked = await olga.text(team, "hello?", chatType="groupChat", msgConfig={"allowGroupAck": True})
    await bob.heard_of("onTextMessage", id=asked)
    async with stage.native(o) as olga_phone:
        await stage.until_away(olga)
        await bob.send(type="read", chatType="groupChat", to=team, id=asked, ackContent="")
        await olga_phone.until(lambda: olga_phone.known_readers(team, 1))
        olga = await stage.device(o, "web")
        told = await olga.heard_of("onReadMessage", mid=asked)
        assert told["groupReadCount"] == {asked: 1}
        await stage.settle(olga)
        assert not [s for s in olga.all("onStatisticMessage") if location(s)]
