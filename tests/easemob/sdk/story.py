"""The main story: every behaviour once, as an application on the vendor's SDK sees it.

alice (phone, laptop) and bob (phone, tablet) write to each other; olga asks a group for receipts; adam is its
admin, bob and cara are members. Each act says which callback it is about, and looks at all of its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .driver import NEWEST, Device, Kind
from .stage import Stage, location

__all__ = ["Story", "is_id", "matches"]


def is_id(text: object) -> bool:
    """Whether this is a message id as the vendor shows them: decimal digits of a number below 2^63."""
    return isinstance(text, str) and text.isdigit() and 0 < int(text) < 1 << 63


def matches(found: Mapping[str, Any], *, author: str | None = None, **expected: Any) -> bool:
    """Whether a callback's argument has these fields, `author` standing for `from`; else says the
    difference."""
    if author is not None:
        expected["from"] = author
    differing = {
        name: (found.get(name), value) for name, value in expected.items() if found.get(name) != value
    }
    assert not differing, f"(found, expected): {differing} in {found}"
    return True


class Story:
    """The acts, in the order in which `play` runs them.

    Args:
        version: Of the SDK, for everybody.
        kind: Where it runs.
    """

    def __init__(self, stage: Stage, *, version: str = NEWEST, kind: Kind = "jsdom") -> None:
        self.stage = stage
        self._options: dict[str, Any] = {"version": version, "kind": kind}

    async def play(self) -> None:
        """All acts."""
        await self.begin()
        await self.server_ack_and_delivery()
        await self.conversation_receipt()
        await self.message_receipt()
        await self.reading_policy()
        await self.group_receipts()
        await self.statistics()
        await self.reader_list()

    async def begin(self) -> None:
        """Log in: by password, and by the token that gave."""
        self.a, self.b, self.o, self.d, self.c = await self.stage.people(
            "alice", "bob", "olga", "adam", "cara"
        )
        self.phone = await self._device(self.a)
        self.laptop = await self._device(self.a, "laptop")
        self.bob = await self._device(self.b)
        self.tablet = await self._device(self.b, "tablet")
        for device in (self.phone, self.laptop, self.bob, self.tablet):
            assert len(device.all("onConnected")) == 1

    async def _device(self, user: str, device: str = "phone") -> Device:
        return await self.stage.device(user, device, **self._options)

    # -- one-to-one

    async def server_ack_and_delivery(self) -> None:
        """R1, R2: `onReceivedMessage`, `onTextMessage` on every device, `onDeliveredMessage`."""
        sent = await self.phone.send(
            type="txt",
            chatType="singleChat",
            to=self.b,
            msg="hello bob",
            ext={"n": 7, "deep": {"list": [1, "two"]}},
        )
        mid = sent["serverMsgId"]
        assert is_id(mid)
        assert int(mid) % 2 == 0
        acked = await self.phone.heard_of("onReceivedMessage", mid=mid)
        assert matches(acked, id=sent["localMsgId"], to=self.b)
        for device in (self.bob, self.tablet, self.laptop):
            text = await device.heard_of("onTextMessage", id=mid)
            assert matches(text, type="txt", chatType="singleChat", msg="hello bob", to=self.b)
            assert matches(text, author=self.a, ext={"n": 7, "deep": {"list": [1, "two"]}})
            assert text["time"] == sent["message"]["time"]
        for device in (self.phone, self.laptop):
            told = await device.heard_of("onDeliveredMessage", mid=mid)
            assert matches(told, type="delivery", author=self.b, to=self.a)
            assert is_id(told["id"])
            assert int(told["id"]) % 2 == 1
        await self.stage.settle(self.phone, self.laptop, self.bob, self.tablet)
        assert len([d for d in self.phone.all("onDeliveredMessage") if d["mid"] == mid]) == 1
        assert not self.phone.all("onReadMessage")
        assert all(text["from"] != self.a for text in self.phone.all("onTextMessage"))
        assert await self.stage.unread(self.bob) == {self.a: 1}
        assert (await self.stage.unread(self.phone)).get(self.b, 0) == 0

    async def conversation_receipt(self) -> None:
        """R3, R4: one `onChannelMessage` at the author's devices and at the reader's other one; unread to
        0."""
        for text in ("are you there?", "it is nine"):
            mid = await self.phone.text(self.b, text)
            await self.bob.heard_of("onTextMessage", id=mid)
            await self.tablet.heard_of("onTextMessage", id=mid)
        assert await self.stage.unread(self.tablet) == {self.a: 3}
        await self.bob.send(type="channel", chatType="singleChat", to=self.a)
        for device in (self.phone, self.laptop, self.tablet):
            told = await device.heard_of("onChannelMessage")
            assert matches(told, type="channel", chatType="singleChat", author=self.b, to=self.a)
            assert is_id(told["id"])
        assert (await self.stage.unread(self.bob)).get(self.a, 0) == 0
        await self.stage.settle(self.phone, self.bob, self.tablet)
        assert [len(device.all("onChannelMessage")) for device in (self.phone, self.tablet)] == [1, 1]
        assert not self.bob.all("onChannelMessage")
        assert not self.phone.all("onReadMessage")

    async def message_receipt(self) -> None:
        """R5: `onReadMessage` names one message; unread falls by that one; a repeat is no news."""
        first, second = [await self.phone.text(self.b, text) for text in ("one", "two")]
        await self.bob.heard_of("onTextMessage", id=second)
        read = {"type": "read", "chatType": "singleChat", "to": self.a, "id": first}
        await self.bob.send(**read)
        for device in (self.phone, self.laptop):
            told = await device.heard_of("onReadMessage", mid=first)
            assert matches(told, type="read", author=self.b, to=self.a)
            assert "groupReadCount" not in told
            assert is_id(told["id"])
        assert await self.stage.unread(self.bob) == {self.a: 1}
        await self.bob.send(**read)
        await self.tablet.send(**read)
        await self.stage.settle(self.phone)
        assert [told["mid"] for told in self.phone.all("onReadMessage")] == [first]
        assert await self.stage.unread(self.bob) == {self.a: 1}
        await self.bob.send(**{**read, "id": second})
        await self.phone.heard_of("onReadMessage", mid=second)
        assert (await self.stage.unread(self.bob)).get(self.a, 0) == 0

    async def reading_policy(self) -> None:
        """R11: entering a chat with unread sends one conversation receipt; what comes then, message
        receipts."""
        since = len(self.bob.heard)
        mids = [await self.bob.text(self.a, text) for text in ("three", "at", "once")]
        await self.phone.heard_of("onTextMessage", id=mids[-1])
        await self.phone.send(type="channel", chatType="singleChat", to=self.b)
        await self.bob.heard_of("onChannelMessage", since=since)
        later = await self.bob.text(self.a, "while it is open")
        await self.phone.heard_of("onTextMessage", id=later)
        await self.phone.send(type="read", chatType="singleChat", to=self.b, id=later)
        await self.bob.heard_of("onReadMessage", since=since, mid=later)
        await self.stage.settle(self.bob)
        assert len(self.bob.all("onChannelMessage", since=since)) == 1
        assert [told["mid"] for told in self.bob.all("onReadMessage", since=since)] == [later]
        assert (await self.stage.unread(self.phone)).get(self.b, 0) == 0

    # -- the group

    async def group_receipts(self) -> None:
        """R6, R7, R8: `onReadMessage` with `groupReadCount` and `ackContent`, for the one who asked alone."""
        self.olga = await self._device(self.o)
        self.adam = await self._device(self.d)
        self.cara = await self._device(self.c)
        self.team = await self.stage.group(self.olga, self.d, self.b, self.c, admins=(self.d,))
        self.asked = await self.ask(self.olga, "at nine?")
        for device in (self.bob, self.cara, self.adam):
            text = await device.heard_of("onTextMessage", id=self.asked)
            assert matches(text, chatType="groupChat", to=self.team, msgConfig={"allowGroupAck": True})
        contents = {self.bob: "ok", self.cara: "", self.adam: '{"late":true}'}
        for count, (device, content) in enumerate(contents.items(), 1):
            await self.answer(device, self.asked, content)
            told = await self.olga.heard_of("onReadMessage", mid=self.asked, author=device.user)
            assert matches(told, type="read", to=self.team, groupReadCount={self.asked: count})
            assert told["ackContent"] == content
        await self.answer(self.tablet, self.asked, "again, and otherwise")
        await self.stage.settle(self.olga, self.adam, self.cara)
        assert len(self.olga.all("onReadMessage")) == 3
        assert not self.adam.all("onReadMessage")
        assert not self.cara.all("onReadMessage")
        by_admin = await self.ask(self.adam, "who brings cake?")
        await self.cara.heard_of("onTextMessage", id=by_admin)

    async def ask(self, device: Device, text: str) -> str:
        """Send a group message that asks; its id."""
        return await device.text(self.team, text, chatType="groupChat", msgConfig={"allowGroupAck": True})

    async def answer(self, device: Device, mid: str, content: str) -> None:
        """Send a group read receipt."""
        await device.send(type="read", chatType="groupChat", to=self.team, id=mid, ackContent=content)

    async def statistics(self) -> None:
        """R9: one `onStatisticMessage` after the login, with totals by message, and not a second time."""
        later = await self.ask(self.olga, "tell me when I am back")
        for device in (self.bob, self.cara):
            await device.heard_of("onTextMessage", id=later)
        await self.stage.until_away(self.olga)
        for device in (self.bob, self.cara):
            await self.answer(device, later, "yes")
        self.olga = await self._device(self.o)
        told = await self.olga.heard_of("onStatisticMessage")
        assert told["operation"] in (0, "INFORMATION")
        assert location(told) == [{"mid": later, "gid": self.team, "count": 2}]
        await self.answer(self.adam, later, "me too")
        live = await self.olga.heard_of("onReadMessage", mid=later, author=self.d)
        assert live["groupReadCount"] == {later: 3}
        await self.stage.settle(self.olga)
        assert len(self.olga.all("onStatisticMessage")) == 1
        self.later = later

    async def reader_list(self) -> None:
        """R10: `getGroupMsgReadUser` tells the author who has read."""
        found = await self.olga.call("getGroupMsgReadUser", {"msgId": self.later, "groupId": self.team})
        assert matches(found["data"], ackmid=self.later, total=3, is_last=True)
        assert sorted(found["data"]["userlist"]) == sorted([self.b, self.c, self.d])
