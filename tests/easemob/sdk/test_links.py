"""Links that break at every kind of moment, or only seem to live: nothing is lost, nothing comes twice.

Each moment has people and a link of its own; all are played at once, for the SDK waits a second or two before
it tries again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Literal

import anyio
import pytest
from anyio.abc import SocketStream

from transports.faulty import FaultyProxy, Flow

from .driver import LINK_LOST, Device, SDKError
from .stage import Stage, numbered

pytestmark = pytest.mark.anyio

Side = Literal["to_server", "to_client"]


class WatchedFlow(Flow):
    """A flow that says when it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = anyio.Event()

    async def run(self, source: SocketStream, target: SocketStream) -> bool:
        try:
            return await super().run(source, target)
        finally:
            self.ended.set()


class Scene:
    """alice, whose link may break, and bob, whose link may break: each through a proxy of its own."""

    def __init__(self, stage: Stage, exits: AsyncExitStack) -> None:
        self.stage = stage
        self.exits = exits

    async def proxy(self) -> FaultyProxy:
        """Before the node."""
        return await self.exits.enter_async_context(
            FaultyProxy(f"ws://{self.stage.served.address}/websocket")
        )

    async def begin(self) -> None:
        """Both are there, have exchanged a text, and have nothing under way."""
        self.a, self.b, self.nobody = await self.stage.people("alice", "bob", "nobody")
        self.alice_link, self.bob_link = await self.proxy(), await self.proxy()
        self.alice = await self.stage.device(self.a, via=self.alice_link)
        self.bob = await self.stage.device(self.b, via=self.bob_link)
        first = await self.alice.text(self.b, "first")
        await self.alice.heard_of("onDeliveredMessage", mid=first)
        await self.stage.settle(self.alice, self.bob)
        for device in (self.alice, self.bob):
            await device.text(self.nobody, "what was to be acknowledged has been")
        self.first = first

    async def end(self) -> None:
        """Both are gone before their links are."""
        for device in (self.alice, self.bob):
            await self.stage.vanish(device)

    def cut(self, proxy: FaultyProxy, side: Side, bytes_more: int) -> None:
        """Break the link that stands when so many more bytes have passed; the next one is whole."""
        flow: Flow = getattr(proxy, side)
        proxy.renew()
        flow.cut_after = flow.passed + bytes_more

    async def back(self, device: Device) -> None:
        """Wait until a device has noticed and come back."""
        await device.connected(2)

    async def persist(self, device: Device, **message: Any) -> Any:
        """Send as an application does that tries again with the same message object."""
        return await device.persist(await device.create(**message))

    async def check(self, *mids: str) -> None:
        """bob has the first text and these, alice the receipts of their delivery, each once."""
        await self.alice.until(lambda: {told["mid"] for told in self.delivered()} >= {self.first, *mids})
        await self.stage.settle(self.alice, self.bob)
        texts = [text["id"] for text in self.bob.all("onTextMessage") if text["from"] == self.a]
        assert texts == [self.first, *mids]
        told = [found["mid"] for found in self.delivered()]
        assert sorted(told, key=int) == [self.first, *mids]

    def delivered(self) -> list[dict[str, Any]]:
        """What alice was told of deliveries to bob."""
        return self.alice.all("onDeliveredMessage")


TEXT = {"type": "txt", "chatType": "singleChat", "msg": "second"}


def sending(side: Side, bytes_more: int) -> Callable[[Scene], Awaitable[None]]:
    """The sender's link breaks while a text goes out or its answer comes back."""

    async def play(scene: Scene) -> None:
        scene.cut(scene.alice_link, side, bytes_more)
        sent = await scene.persist(scene.alice, **TEXT, to=scene.b)
        await scene.back(scene.alice)
        await scene.check(sent["serverMsgId"])

    return play


def told(bytes_more: int) -> Callable[[Scene], Awaitable[None]]:
    """The sender's link breaks after the answer, while the delivery receipt comes."""

    async def play(scene: Scene) -> None:
        await scene.stage.vanish(scene.bob)
        mid = await scene.alice.text(scene.b, "second")
        scene.cut(scene.alice_link, "to_client", bytes_more)
        scene.bob = await scene.stage.device(scene.b, via=scene.bob_link)
        await scene.back(scene.alice)
        await scene.alice.heard_of("onDeliveredMessage", mid=mid)
        await scene.stage.settle(scene.alice, scene.bob)
        assert [found["mid"] for found in scene.delivered()].count(mid) == 1
        assert [text["id"] for text in scene.bob.all("onTextMessage") if text["from"] == scene.a] == [mid]

    return play


def receiving(bytes_more: int) -> Callable[[Scene], Awaitable[None]]:
    """The receiver's link breaks while a text comes."""

    async def play(scene: Scene) -> None:
        scene.cut(scene.bob_link, "to_client", bytes_more)
        mid = await scene.alice.text(scene.b, "second")
        await scene.bob.heard_of("onTextMessage", id=mid)
        await scene.back(scene.bob)
        await scene.check(mid)

    return play


def acknowledging(bytes_more: int) -> Callable[[Scene], Awaitable[None]]:
    """The receiver's link breaks after a text has come, before the server knows.

    What the SDK had under way then, its delivery receipt among it, it gives up and never repeats, since it
    knows the text when that comes again. The author is told all the same: this device has sent some before.
    """

    async def play(scene: Scene) -> None:
        scene.cut(scene.bob_link, "to_server", bytes_more)
        mid = await scene.alice.text(scene.b, "second")
        await scene.bob.heard_of("onTextMessage", id=mid)
        await scene.back(scene.bob)
        await scene.check(mid)
        await scene.bob.send(type="read", chatType="singleChat", to=scene.a, id=mid)
        await scene.alice.heard_of("onReadMessage", mid=mid)

    return play


def reading(side: Side, bytes_more: int, kind: str) -> Callable[[Scene], Awaitable[None]]:
    """The reader's link breaks while a receipt goes out or its answer comes back."""

    async def play(scene: Scene) -> None:
        scene.cut(scene.bob_link, side, bytes_more)
        receipt = {"type": kind, "chatType": "singleChat", "to": scene.a}
        if kind == "read":
            receipt["id"] = scene.first
        await scene.persist(scene.bob, **receipt)
        name = "onReadMessage" if kind == "read" else "onChannelMessage"
        await scene.alice.heard_of(name, author=scene.b)
        await scene.back(scene.bob)
        await scene.stage.settle(scene.alice)
        assert len(scene.alice.all(name)) == 1
        assert (await scene.stage.unread(scene.bob)).get(scene.a, 0) == 0

    return play


def hearing(bytes_more: int) -> Callable[[Scene], Awaitable[None]]:
    """The author's link breaks while a read receipt comes."""

    async def play(scene: Scene) -> None:
        scene.cut(scene.alice_link, "to_client", bytes_more)
        await scene.bob.send(type="read", chatType="singleChat", to=scene.a, id=scene.first)
        await scene.back(scene.alice)
        # What was read in the meantime is merged: nothing of alice's is unread, which is a conversation's
        # receipt.
        read, channel = scene.alice.all("onReadMessage"), scene.alice.all("onChannelMessage")
        await scene.alice.until(
            lambda: scene.alice.all("onReadMessage") or scene.alice.all("onChannelMessage")
        )
        await scene.stage.settle(scene.alice)
        read, channel = scene.alice.all("onReadMessage"), scene.alice.all("onChannelMessage")
        assert len(read) + len(channel) == 1

    return play


async def question(scene: Scene) -> tuple[str, str]:
    """A group in which alice has asked and bob has heard of it; its id, and that of what she asked."""
    team = await scene.stage.group(scene.alice, scene.b)
    asking: dict[str, Any] = {"chatType": "groupChat", "msgConfig": {"allowGroupAck": True}}
    asked = await scene.alice.text(team, "at nine?", **asking)
    await scene.bob.heard_of("onTextMessage", id=asked)
    for device in (scene.alice, scene.bob):
        await device.text(scene.nobody, "what was to be acknowledged has been")
    return team, asked


async def answer(scene: Scene, team: str, asked: str) -> None:
    """bob's group receipt, as often as it takes."""
    receipt = {"type": "read", "chatType": "groupChat", "to": team, "id": asked}
    await scene.persist(scene.bob, **receipt, ackContent="yes")


def answering(side: Side, bytes_more: int) -> Callable[[Scene], Awaitable[None]]:
    """The reader's link breaks while a group receipt goes out or its answer comes back: it counts once."""

    async def play(scene: Scene) -> None:
        team, asked = await question(scene)
        scene.cut(scene.bob_link, side, bytes_more)
        await answer(scene, team, asked)
        await scene.alice.heard_of("onReadMessage", mid=asked)
        await scene.back(scene.bob)
        await scene.stage.settle(scene.alice)
        (told,) = scene.alice.all("onReadMessage")
        assert (told["groupReadCount"], told["ackContent"]) == ({asked: 1}, "yes")

    return play


def counting(bytes_more: int) -> Callable[[Scene], Awaitable[None]]:
    """The author's link breaks while a group receipt comes: she is told once, with the count."""

    async def play(scene: Scene) -> None:
        team, asked = await question(scene)
        scene.cut(scene.alice_link, "to_client", bytes_more)
        await answer(scene, team, asked)
        await scene.back(scene.alice)
        await scene.alice.heard_of("onReadMessage", mid=asked)
        await scene.stage.settle(scene.alice)
        (told,) = scene.alice.all("onReadMessage")
        assert (told["groupReadCount"], told["ackContent"]) == ({asked: 1}, "yes")
        listed = await scene.alice.call("getGroupMsgReadUser", {"msgId": asked, "groupId": team})
        assert listed["data"]["userlist"] == [scene.b]

    return play


def logging_in(bytes_more: int) -> Callable[[Scene], Awaitable[None]]:
    """A link breaks while its device logs in: inside the handshake, or the answer to PROVISION, or after
    it."""

    async def play(scene: Scene) -> None:
        await scene.stage.vanish(scene.bob)
        scene.bob_link.renew()
        flow = scene.bob_link.to_client = WatchedFlow()
        flow.cut_after = bytes_more
        scene.bob = await scene.stage.page(scene.b, via=scene.bob_link)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scene.stage.log_in, scene.bob)
            await flow.ended.wait()
            scene.bob_link.renew()
        mid = await scene.alice.text(scene.b, "second")
        await scene.bob.heard_of("onTextMessage", id=mid)
        await scene.stage.settle(scene.bob)
        assert [text["id"] for text in scene.bob.all("onTextMessage") if text["from"] == scene.a] == [mid]

    return play


MOMENTS: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "inside a text that goes out": sending("to_server", 9),
    "before its answer": sending("to_client", 0),
    "inside its answer": sending("to_client", 7),
    "before the delivery receipt": told(0),
    "inside the delivery receipt": told(11),
    "before a text that comes": receiving(0),
    "inside a text that comes": receiving(23),
    "before it is acknowledged": acknowledging(0),
    "inside what acknowledges it": acknowledging(6),
    "inside a read receipt that goes out": reading("to_server", 9, "read"),
    "before its answer comes": reading("to_client", 0, "read"),
    "inside its answer that comes": reading("to_client", 5, "read"),
    "inside a conversation receipt": reading("to_server", 9, "channel"),
    "before a conversation receipt's answer": reading("to_client", 0, "channel"),
    "inside the handshake of a websocket": logging_in(60),
    "between the handshake and PROVISION": logging_in(129),
    "inside PROVISION": logging_in(190),
    "after PROVISION": logging_in(260),
    "before a read receipt that comes": hearing(0),
    "inside a read receipt that comes": hearing(13),
    "inside a group receipt that goes out": answering("to_server", 9),
    "before a group receipt's answer": answering("to_client", 0),
    "inside a group receipt's answer": answering("to_client", 5),
    "before a group receipt that comes": counting(0),
    "inside a group receipt that comes": counting(13),
}


async def at_once(stage: Stage, plays: dict[str, Callable[[Scene], Awaitable[None]]]) -> None:
    """Play all, each with people and links of its own; what failed is said by name."""
    failed: dict[str, Exception] = {}

    async def run(name: str, play: Callable[[Scene], Awaitable[None]]) -> None:
        try:
            async with AsyncExitStack() as exits:
                scene = Scene(stage, exits)
                await scene.begin()
                await play(scene)
                await scene.end()
        except (AssertionError, TimeoutError, SDKError) as error:
            failed[name] = error

    async with anyio.create_task_group() as tasks:
        for name, play in plays.items():
            tasks.start_soon(run, name, play)
    assert not failed, "\n".join(f"{name}: {error!r}" for name, error in failed.items())


async def test_cut_at_every_kind_of_moment(stage: Stage) -> None:
    """Wherever a link breaks, texts and receipts arrive once each after the SDK has come back by itself."""
    await at_once(stage, MOMENTS)


# -- links that only seem to live

LOST = 200
"""Texts whose acknowledgement is lost: more than the SDK would know again if it had got them all."""


async def silent_server(scene: Scene) -> None:
    """Nothing comes from the server any more: the SDK gives up waiting for its answer, and comes back."""
    link = scene.alice_link
    link.to_client.stall()
    link.renew()
    sent = await scene.persist(scene.alice, **TEXT, to=scene.b)
    await scene.check(sent["serverMsgId"])


async def zombie_receiver(scene: Scene) -> None:
    """bob's link is dead, but the server does not know: what was written to it is written to the next one."""
    near, far = await chained(scene)
    await scene.stage.leave(scene.bob)
    scene.bob = await scene.stage.device(scene.b, via=near)
    await scene.stage.settle(scene.bob)
    since = len(scene.bob.heard)
    far.to_server.stall()
    far.to_client.stall()
    far.renew()
    mids = [await scene.alice.text(scene.b, text) for text in ("into", "the", "void")]
    await break_near(scene, near, scene.bob, scene.a)
    await scene.bob.heard_of("onTextMessage", id=mids[-1])
    await scene.alice.heard_of("onDeliveredMessage", mid=mids[-1])
    await scene.stage.settle(scene.alice, scene.bob)
    texts = [text["id"] for text in scene.bob.all("onTextMessage", since=since) if text["from"] == scene.a]
    assert texts == mids
    assert not scene.bob.all("onDisconnected")
    assert len({told["mid"] for told in scene.delivered()}) == len(scene.delivered())


async def chained(scene: Scene) -> tuple[FaultyProxy, FaultyProxy]:
    """Two proxies in a row, so that the near end can break while the far one goes on as if nothing was."""
    far = await scene.proxy()
    return await scene.exits.enter_async_context(FaultyProxy(far.url)), far


async def break_near(scene: Scene, near: FaultyProxy, device: Device, to: str) -> None:
    """Let the near end break at the next thing that the device says; the server notices nothing. What the
    device says then is lost, or waits in the SDK if an acknowledgement was first."""
    scene.cut(near, "to_server", 0)
    times = len(device.all("onConnected"))
    try:
        await device.text(to, "is anybody there?")
    except SDKError as error:
        if error.type not in LINK_LOST:
            raise
    await device.connected(times + 1)


async def deaf_server(scene: Scene) -> None:
    """What bob acknowledges does not arrive: of what comes once more the SDK knows all, however much that
    is."""
    near, far = await chained(scene)
    await scene.stage.leave(scene.bob)
    scene.bob = await scene.stage.device(scene.b, via=near)
    await scene.stage.settle(scene.bob)
    since = len(scene.bob.heard)
    far.to_server.stall()
    far.renew()
    mids = await scene.alice.send_all(numbered(scene.b, range(LOST)))
    await scene.bob.until(lambda: len(scene.bob.all("onTextMessage", since=since)) >= 20)
    await break_near(scene, near, scene.bob, scene.nobody)
    await scene.bob.heard_of("onTextMessage", id=mids[-1])
    await scene.stage.settle(scene.bob)
    texts = [text["id"] for text in scene.bob.all("onTextMessage", since=since) if text["from"] == scene.a]
    assert texts == mids


async def deaf_to_the_author(scene: Scene) -> None:
    """What alice acknowledges does not arrive: the receipts that come once more are the same ones."""
    near, far = await chained(scene)
    await scene.stage.leave(scene.alice)
    scene.alice = await scene.stage.device(scene.a, via=near)
    read, unread = [await scene.alice.text(scene.b, text) for text in ("to be read", "not to be")]
    await scene.bob.heard_of("onTextMessage", id=unread)
    await scene.alice.heard_of("onDeliveredMessage", mid=unread)
    await scene.stage.settle(scene.alice)
    far.to_server.stall()
    far.renew()
    await scene.bob.send(type="read", chatType="singleChat", to=scene.a, id=read)
    more = await scene.stage.native_text(scene.a, scene.b, "from another device")
    await scene.alice.heard_of("onDeliveredMessage", mid=more)
    await scene.alice.heard_of("onReadMessage", mid=read)
    await break_near(scene, near, scene.alice, scene.nobody)
    await scene.stage.settle(scene.alice)
    told = [found["mid"] for found in scene.delivered()]
    assert sorted(told, key=int) == sorted([read, unread, more], key=int)
    assert [found["mid"] for found in scene.alice.all("onReadMessage")] == [read]


ZOMBIES: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "a silent server": silent_server,
    "a dead receiver": zombie_receiver,
    "a server that hears nothing of a receiver": deaf_server,
    "a server that hears nothing of an author": deaf_to_the_author,
}


async def test_zombie_links(stage: Stage) -> None:
    """A link that only seems to live, at either end, loses nothing and doubles nothing."""
    await at_once(stage, ZOMBIES)
