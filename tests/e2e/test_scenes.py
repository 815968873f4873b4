"""The scenes about users and groups, from application to application, over every transport on every loop.

Each scene asserts what it says by itself, and runs nine times; what the node has on disk, what it answers and
what every replica holds at the end must be one text, byte for byte (I-31). What only the vendor's SDK can see
of scene 24 is shown elsewhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from receipts.core.errors import Code, Refused
from receipts.core.events import (
    By,
    GroupReceiptsExpired,
    MessageAccepted,
    MessageRecalled,
    UnreadMarked,
)
from receipts.core.ids import direct
from receipts.core.policy import DAY_MS
from receipts.core.status import Status, Unknown
from receipts.storage.base import Batch, StoreFull
from receipts.storage.memory import MemoryStore
from receipts.storage.sqlite import SQLiteStore
from receipts.wire import commands
from receipts.wire.updates import (
    Accepted,
    Delivered,
    Done,
    Goodbye,
    GroupRead,
    Read,
    Reader,
    ReadStatistics,
    Welcome,
)
from tests.e2e.outcome import canonical, device_outcomes, stored
from tests.e2e.stage import Device, Stage, running, seqs

AB = direct("alice", "bob")

LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {"restrict_keyboard_interrupt_to_checkpoints": False}),
}
TRANSPORTS = ("memory", "tcp", "websocket")

Scene = Callable[[Stage], Awaitable[Any]]


def nine_times(*, at_once: bool = False, **options: Any) -> Callable[[Scene], Callable[[Path], None]]:
    """Make a test of a scene: run it on all loops over all transports, and compare what it came to.

    Args:
        at_once: Several devices speak at the same time, so the node may number their words in any order.
        options: For `running`.
    """

    def decorate(scene: Scene) -> Callable[[Path], None]:
        def test(tmp_path: Path) -> None:
            outcomes = {}
            for loop, (backend, backend_options) in LOOPS.items():
                for transport in TRANSPORTS:
                    name = f"{loop} {transport}"
                    directory = tmp_path / loop / transport
                    outcomes[name] = anyio.run(
                        perform,
                        scene,
                        transport,
                        directory,
                        at_once,
                        options,
                        backend=backend,
                        backend_options=backend_options,
                    )
            first = outcomes["asyncio memory"]
            for name, outcome in outcomes.items():
                assert outcome == first, f"{name} came to something else than asyncio memory"

        test.__name__ = test.__qualname__ = scene.__name__
        test.__doc__ = scene.__doc__
        test.__module__ = scene.__module__
        return test

    return decorate


async def perform(
    scene: Scene, transport: str, directory: Path, at_once: bool, options: dict[str, Any]
) -> str:
    """Run a scene once; what it came to, as text."""
    options = dict(options)
    make_store = options.pop("store", SQLiteStore)
    store = make_store(directory / "node")
    failure: Exception | None = None
    found: dict[str, Any] = {}
    async with running(transport, directory, store=store, **options) as stage:
        try:
            with anyio.fail_after(15):
                found["scene"] = await scene(stage)
                found["devices"] = await device_outcomes(stage)
        except Exception as error:
            failure = error
        in_memory = {
            f"{app.id} {name}": chat.conversation.dump()
            for app in stage.node.hub.world.apps.values()
            for name, chat in app.chats.items()
        }
    if failure is not None:
        raise failure
    found["disk"] = {name: chat.dump() for name, chat in stored(store).items()}
    for name, dump in in_memory.items():
        assert found["disk"][name] == dump, f"{name} on disk is not what the node had in memory"
    return canonical(found, numbered=not at_once)


async def pair(stage: Stage) -> tuple[Device, Device]:
    """Alice's phone and bob's phone."""
    await stage.users("alice", "bob")
    return await stage.device("alice"), await stage.device("bob")


async def say(author: Device, conversation: str, count: int = 1) -> list[Accepted]:
    """Messages, one after the other."""
    return [await author.me.send(conversation, f"{author.me.user} {n}") for n in range(count)]


def only_read(told: list[Any], *wanted: int, through: int = 0) -> None:
    """One frame, which says that these were read."""
    assert len(told) == 1, told
    (read,) = told
    assert isinstance(read, Read)
    assert seqs(read.ranges) == set(wanted)
    assert read.by is (By.CONVERSATION if through else By.MESSAGES)
    assert read.through == through


def readers(update: GroupRead) -> dict[str, str]:
    """Who read it, with what words."""
    return {reader.user: reader.content for reader in update.readers}


# -- one-to-one


@nine_times()
async def test_scene_01_one_message(stage: Stage) -> None:
    """A message is acked, delivered and read; everybody who should know is told once, nobody else."""
    phone, bob = await pair(stage)
    laptop = await stage.device("alice", "laptop")
    tablet = await stage.device("bob", "tablet")
    accepted = await phone.me.send("bob", "hi")
    assert accepted.seq == 1
    assert await phone.told() == []
    for device in (laptop, bob, tablet):
        (message,) = await device.told()
        assert isinstance(message, MessageAccepted)
        assert (message.seq, message.body, message.device) == (1, "hi", "")
    assert [d.me.unread("alice") for d in (bob, tablet)] == [1, 1]
    assert [d.me.unread("bob") for d in (phone, laptop)] == [0, 0]
    assert phone.me.status("bob", 1) is Status.ACKED
    await laptop.me.flush()
    assert not laptop.said(commands.AckDelivered)

    await bob.me.flush()
    for device in (phone, laptop):
        assert await device.told() == [Delivered(AB, "bob", (1, 2))]
        assert device.me.status("bob", 1) is Status.DELIVERED
    assert await bob.told() == await tablet.told() == []
    assert bob.me.unread("alice") == 1

    await bob.me.read("alice", 1)
    await bob.me.flush()
    for device in (phone, laptop, tablet):
        only_read(await device.told(), 1, through=1)
    assert await bob.told() == []
    assert [d.me.unread("alice") for d in (bob, tablet)] == [0, 0]
    assert phone.me.status("bob", 1) is Status.READ


@nine_times()
async def test_scene_02_read_before_delivered(stage: Stage) -> None:
    """READ without DELIVERED before it is told once; what another device acknowledges later tells nobody."""
    alice, bob = await pair(stage)
    tablet = await stage.device("bob", "tablet")
    await say(alice, "bob")
    await bob.has("alice", 1)
    await tablet.has("alice", 1)
    await bob.me.read("alice")
    await bob.me.flush()
    only_read(await alice.told(), 1, through=1)
    await tablet.me.flush()
    assert tablet.said(commands.AckDelivered)
    assert await alice.told() == []
    (status,) = (await alice.me.ask_status("bob", [1])).items
    assert status.status is Status.READ
    assert {one.device: one.held for one in status.devices} == {"phone": True, "tablet": True}


@nine_times()
async def test_scene_03_what_was_on_screen(stage: Stage) -> None:
    """A conversation receipt reads what was on screen, not what came meanwhile."""
    alice, bob = await pair(stage)
    await say(alice, "bob", 3)
    await bob.has("alice", 3)
    await bob.me.read("alice")  # on its way
    await say(alice, "bob")
    await bob.has("alice", 4)
    await bob.me.flush()
    await alice.told()
    assert bob.me.unread_seqs("alice") == await stage.explain("bob", AB) == [4]
    assert [alice.me.status("bob", seq) for seq in (1, 2, 3)] == [Status.READ] * 3
    assert alice.me.status("bob", 4) <= Status.DELIVERED


@nine_times()
async def test_scene_04_sparse_reads(stage: Stage) -> None:
    """Single messages are read at the cost of gaps; a later receipt tells only what is new."""
    alice, bob = await pair(stage)
    await say(alice, "bob", 10)
    await bob.has("alice", 10)
    await bob.me.flush()
    assert await alice.told() == [Delivered(AB, "bob", (1, 11))]
    await bob.me.read_messages("alice", [3, 4, 9])
    await bob.me.flush()
    assert bob.me.unread_seqs("alice") == await stage.explain("bob", AB) == [1, 2, 5, 6, 7, 8, 10]
    assert stage.node.hub.world.apps["default"].chats[AB].conversation.members["bob"].read.ranges == (
        3,
        5,
        9,
        10,
    )
    only_read(await alice.told(), 3, 4, 9)
    await bob.me.read("alice", 8)
    await bob.me.flush()
    assert bob.me.unread_seqs("alice") == await stage.explain("bob", AB) == [10]
    only_read(await alice.told(), 1, 2, 5, 6, 7, 8, through=8)


@nine_times()
async def test_scene_05_beyond_the_head(stage: Stage) -> None:
    """A receipt beyond the head is applied up to it, and says so; what comes later is unread."""
    alice, bob = await pair(stage)
    raw = await stage.raw("bob", "raw")
    await say(alice, "bob", 3)
    await raw.told()
    named = await raw.ask(lambda rid: commands.ReadMessages(rid, AB, (2, 3, 7, 8)))
    assert (named.code, named.limit) == (Code.BEYOND_HEAD, 3)
    only_read(await alice.told(), 2)
    answer = await raw.ask(lambda rid: commands.ReadConversation(rid, AB, 10))
    assert (answer.code, answer.limit) == (Code.BEYOND_HEAD, 3)
    only_read(await alice.told(), 1, 3, through=3)
    await bob.told()
    assert bob.me.unread("alice") == 0
    await say(alice, "bob")
    await bob.told()
    assert bob.me.unread_seqs("alice") == await stage.explain("bob", AB) == [4]


@nine_times()
async def test_scene_06_sending_reads_nothing(stage: Stage) -> None:
    """A message that was written offline marks only itself as read, for its author."""
    alice, bob = await pair(stage)
    bob.wire.cut()
    await say(alice, "bob", 3)
    await alice.told()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bob.me.send, "alice", "offline")
        while not bob.me.session.outbox.sends:
            await checkpoint()
        assert not bob.me.online
        bob.wire.heal()
    assert bob.me.unread_seqs("alice") == [1, 2, 3]
    assert await stage.explain("bob", AB) == [1, 2, 3]
    (message,) = await alice.told()
    assert (message.author, message.seq) == ("bob", 4)  # type: ignore[union-attr]


@nine_times()
async def test_scene_07_exactly_once(stage: Stage) -> None:
    """A send is known by its number for ever; a wiped phone counts anew; a fenced link is not heard."""
    await stage.users("alice", "bob", "carl")
    await stage.group("G", "bob", "alice", "carl")
    bob = await stage.device("bob")
    await say(bob, "G", 7)
    first = await stage.raw("alice", "phone", install="i")
    first.say(commands.SendMessage(1, "G", "once", 7))
    await bob.has("G", 8)
    first.link.abort()  # before the answer was looked at
    await bob.me.remove_members("G", ["alice"])

    again = await stage.raw("alice", "phone", install="i")
    accepted = await again.ask(lambda rid: commands.SendMessage(rid, "G", "once", 7))
    assert isinstance(accepted, Accepted)
    message = bob.me.session.replica.message("G", 8)
    assert message is not None
    assert (accepted.seq, accepted.message_id) == (8, message.message_id)
    reused = await again.ask(lambda rid: commands.SendMessage(rid, AB, "elsewhere", 7))
    assert reused.code is Code.CLIENT_ID_REUSED
    refused = await again.ask(lambda rid: commands.SendMessage(rid, "G", "out", 8))
    assert refused.code is Code.NOT_A_MEMBER

    await bob.me.add_members("G", ["alice"])
    wiped = await stage.raw("alice", "phone", install="j")
    assert (await again.hear(Goodbye)).code is Code.REPLACED
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        again.say(commands.SendMessage(1, "G", "late", 9))
    accepted = await wiped.ask(lambda rid: commands.SendMessage(rid, "G", "new", 7))
    assert accepted.seq == 9
    await bob.told()
    assert [m.body for m in bob.me.messages("G", limit=2)] == ["once", "new"]


@nine_times()
async def test_scene_08_recall(stage: Stage) -> None:
    """A recalled message is not unread, read or shown any more, whatever comes late; nothing goes below 0."""
    alice, bob = await pair(stage)
    laptop = await stage.device("alice", "laptop")
    tablet = await stage.raw("bob", "tablet")
    await tablet.close()
    await say(alice, "bob", 3)
    await bob.has("alice", 3)
    await bob.me.flush()
    for device in (alice, laptop, bob):
        await device.told()
    await alice.me.recall("bob", 2)
    for device in (laptop, bob):
        (recalled,) = await device.told()
        assert isinstance(recalled, MessageRecalled)
        assert recalled.seq == 2
    await alice.me.recall("bob", 2)
    assert await alice.told() == await laptop.told() == await bob.told() == []
    assert bob.me.unread_seqs("alice") == await stage.explain("bob", AB) == [1, 3]

    await bob.me.read("alice", 3)
    await bob.me.flush()
    only_read(await alice.told(), 1, 2, 3, through=3)  # one range; a recalled message has no tick to show it
    found = (await alice.me.ask_status("bob", [1, 2, 3])).items
    assert [one.read for one in found] == [True, Unknown.RECALLED, True]
    assert [m.seq for m in alice.me.messages("bob")] == [1, 3]
    late = await stage.raw("bob", "tablet", catch_up=False)
    (page,) = await late.catch_up()
    assert [m.seq for part in page.parts for m in part.messages] == [1, 3]
    assert [part.recalled for part in page.parts] == [(2, 3)]
    assert await late.ask(lambda rid: commands.AckDelivered(rid, AB, (2, 3))) == Done(late._rid)
    assert await alice.told() == []

    await say(alice, "bob")
    await bob.has("alice", 4)
    await bob.me.read("alice")
    await bob.me.flush()
    assert bob.me.unread("alice") == 0
    await alice.me.recall("bob", 4)
    await bob.told()
    assert bob.me.unread_seqs("alice") == await stage.explain("bob", AB) == []
    assert [m.seq for m in bob.me.messages("alice")] == [1, 3]


@nine_times()
async def test_scene_09_private_reads(stage: Stage) -> None:
    """What is read while sharing is off is nobody's business, then and for ever after."""
    alice, bob = await pair(stage)
    tablet = await stage.device("bob", "tablet")
    await say(alice, "bob", 10)
    await bob.has("alice", 10)
    await bob.me.flush()
    await bob.me.set_sharing(read=False, delivered=False)
    await say(alice, "bob")
    await bob.has("alice", 11)
    await tablet.told()
    assert await alice.told() == [Delivered(AB, "bob", (1, 11))]
    await bob.me.read("alice", 11)
    await bob.me.flush()
    assert bob.me.unread("alice") == 0
    only_read(await tablet.told(), *range(1, 12), through=11)
    assert await alice.told() == []
    assert [alice.me.status("bob", seq) for seq in (10, 11)] == [Status.DELIVERED, Status.ACKED]

    await bob.me.set_sharing(read=True, delivered=True)
    assert await alice.told() == []
    await say(alice, "bob")
    await bob.has("alice", 12)
    await bob.me.read("alice", 12)
    await bob.me.flush()
    only_read(await alice.told(), 12, through=12)
    raw = await stage.raw("bob", "raw")
    found = (await alice.me.ask_status("bob", range(1, 12))).items
    assert {one.read for one in found} == {Unknown.SHARING_OFF}
    await raw.ask(lambda rid: commands.ReadConversation(rid, AB, 11))
    assert await alice.told() == []
    assert (await alice.me.ask_status("bob", range(1, 12))).items == found


@nine_times()
async def test_scene_10_the_stricter_word(stage: Stage) -> None:
    """Of what the device knew of sharing and what the node knows the stricter holds."""
    alice, bob = await pair(stage)
    laptop = await stage.device("bob", "laptop")
    await say(alice, "bob", 3)
    await laptop.has("alice", 3)
    await bob.me.set_sharing(read=False, delivered=False)
    for device in (laptop, alice):
        await device.told()
    laptop.wire.cut()
    await laptop.me.read("alice", 3)
    await bob.me.set_sharing(read=True, delivered=True)
    laptop.wire.heal()
    await laptop.me.flush()
    assert [mark.share for mark in laptop.said(commands.ReadConversation)] == [False]
    assert await alice.told() == []
    assert laptop.me.unread("alice") == 0

    await say(alice, "bob")
    await bob.me.set_sharing(read=False, delivered=False)
    await alice.told()
    raw = await stage.raw("bob", "raw")
    await raw.ask(lambda rid: commands.ReadConversation(rid, AB, 4, share=True))
    assert await alice.told() == []
    assert await stage.explain("bob", AB) == []

    await bob.me.set_sharing(read=True, delivered=True)
    discreet = await stage.device("bob", "discreet", share_read=False, share_delivered=False)
    await say(alice, "bob")
    await discreet.has("alice", 5)
    await discreet.me.read("alice", 5)
    await discreet.me.flush()
    assert await alice.told() == []
    assert await stage.explain("bob", AB) == []


@nine_times()
async def test_scene_11_marked_unread(stage: Stage) -> None:
    """A receipt of a device that did not know of the unread mark leaves it; one that knew it clears it."""
    alice, bob = await pair(stage)
    laptop = await stage.device("bob", "laptop")
    await say(alice, "bob", 10)
    await laptop.has("alice", 10)
    laptop.wire.cut()
    await laptop.me.read("alice", 10)
    await bob.me.read("alice")
    await bob.me.flush()
    await alice.told()
    await bob.me.mark_unread("alice")
    laptop.wire.heal()
    await laptop.me.flush()
    assert bob.me.marked_unread("alice")
    assert laptop.me.marked_unread("alice")
    assert (bob.me.unread("alice"), laptop.me.unread("alice")) == (0, 0)
    assert await alice.told() == []

    await bob.told()
    laptop.me.open_chat("alice")
    await laptop.me.flush()
    (cleared,) = await bob.told()
    assert isinstance(cleared, UnreadMarked)
    assert not bob.me.marked_unread("alice")
    assert not laptop.me.marked_unread("alice")
    assert [mark.through for mark in laptop.said(commands.ReadConversation)][-1] == 10
    assert await alice.told() == []


@nine_times()
async def test_scene_12_marked_unread_from(stage: Stage) -> None:
    """Marked unread from a message on: counts rise for me, and nothing of it shows to others."""
    alice, bob = await pair(stage)
    await say(alice, "bob", 10)
    await bob.has("alice", 10)
    await bob.me.read("alice")
    await bob.me.flush()
    await alice.told()
    await bob.me.mark_unread("alice", from_seq=8)
    await bob.told()
    assert bob.me.unread_seqs("alice") == await stage.explain("bob", AB) == [8, 9, 10]
    await say(alice, "bob")
    await bob.has("alice", 11)
    assert bob.me.unread_seqs("alice") == await stage.explain("bob", AB) == [8, 9, 10, 11]
    await bob.me.read("alice", 9)
    await bob.me.flush()
    await bob.told()
    assert bob.me.unread_seqs("alice") == await stage.explain("bob", AB) == [10, 11]
    assert [one for one in await alice.told() if isinstance(one, Read)] == []
    await bob.me.read("alice", 11)
    await bob.me.flush()
    assert bob.me.unread_seqs("alice") == await stage.explain("bob", AB) == []
    assert not bob.me.marked_unread("alice")
    only_read(await alice.told(), 11, through=11)
    assert {alice.me.status("bob", seq) for seq in range(1, 12)} == {Status.READ}


async def _several_devices(stage: Stage, app: str, told_at: str) -> None:
    await stage.users("alice", "bob", app=app)
    alice = await stage.device("alice", app=app)
    bob = await stage.device("bob", app=app)
    tablet = await stage.device("bob", "tablet", app=app)
    await say(alice, "bob")
    for device in (bob, tablet):
        await device.has("alice", 1)
    told = {}
    await bob.me.flush()
    told["phone"] = await alice.told()
    laptop = await stage.device("bob", "laptop", app=app)
    await tablet.me.flush()
    told["tablet"] = await alice.told()
    once = [Delivered(AB, "bob", (1, 2))]
    assert told == {"phone": [], "tablet": [], told_at: once}
    (status,) = (await alice.me.ask_status("bob", [1])).items
    held = {one.device: one.held for one in status.devices}
    assert held == {"phone": True, "tablet": True, "laptop": None}
    await laptop.me.flush()
    assert await alice.told() == []


@nine_times(apps={"all": '{"features": {"roll_up": "all"}}'})
async def test_scene_13_several_devices(stage: Stage) -> None:
    """Delivered is told at the first device, or at the last that knew the message, by the app's rule."""
    await _several_devices(stage, "default", "phone")
    await _several_devices(stage, "all", "tablet")
    alice, bob, tablet, laptop = [d for d in stage.devices if d.me.session.profile.app == "all"]
    await say(alice, "bob")
    await bob.has("alice", 2)
    await laptop.has("alice", 2)
    await bob.me.flush()
    await laptop.me.flush()
    assert await alice.told() == []
    await tablet.close()
    await bob.me.log_out("tablet")  # what only it did not hold counts as delivered now
    assert await alice.told() == [Delivered(AB, "bob", (2, 3))]


@nine_times()
async def test_scene_14_asking_and_sharing(stage: Stage) -> None:
    """A sender's device that did not ask is not told of deliveries; what is not shared is unknown."""
    alice, bob = await pair(stage)
    laptop = await stage.device("alice", "laptop", delivery=False)
    await say(alice, "bob")
    await bob.has("alice", 1)
    await bob.me.flush()
    assert await alice.told() == [Delivered(AB, "bob", (1, 2))]
    assert [one for one in await laptop.told() if isinstance(one, Delivered)] == []
    await bob.me.set_sharing(delivered=False)
    await say(alice, "bob")
    await bob.has("alice", 2)
    await bob.me.flush()
    assert await alice.told() == []
    assert alice.me.status("bob", 2) is Status.ACKED
    (status,) = (await alice.me.ask_status("bob", [2])).items
    assert (status.delivered, status.devices) == (Unknown.SHARING_OFF, ())
    held = stage.node.hub.world.apps["default"].chats[AB].conversation.members["bob"].devices["phone"]
    assert list(held) == [1, 2]
    bob.wire.cut()
    bob.wire.heal()
    await bob.me.until(lambda: bob.wire.links == 2 and bob.me.online)
    assert bob.me.unread("alice") == 2
    assert len([one for one in bob.wire.received if isinstance(one, MessageAccepted)]) == 2


# -- groups


async def cast(stage: Stage, *names: str) -> list[Device]:
    """The group G, and the phones of some of its members."""
    await stage.users("olga", "adam", "bob", "cara", "dan", "erin")
    await stage.group("G", "olga", "bob", "cara", "dan", admins=["adam"])
    return [await stage.device(name) for name in names]


@nine_times()
async def test_scene_15_newcomer(stage: Stage) -> None:
    """A newcomer may fetch what was before, and none of it counts."""
    olga, bob = await cast(stage, "olga", "bob")
    await say(olga, "G", 40)
    erin = await stage.device("erin")
    await olga.me.add_members("G", ["erin"])
    await erin.told()
    assert (erin.me.unread("G"), erin.me.badge().messages) == (0, 0)
    history = await erin.me.fetch_history("G", limit=10)
    assert [m.seq for m in history.messages] == list(range(31, 41))
    await erin.me.read_messages("G", [35])
    await erin.me.flush()
    raw = await stage.raw("erin", "raw")
    await olga.told()
    assert await raw.ask(lambda rid: commands.ReadMessages(rid, "G", (35, 36))) == Done(raw._rid)
    assert (await erin.me.server_badge()).messages == 0
    assert await olga.told() == []
    await say(olga, "G")
    await erin.has("G", 41)
    assert erin.me.unread_seqs("G") == await stage.explain("erin", "G") == [41]
    assert bob.me.unread("G") <= 41


@nine_times()
async def test_scene_16_leaving_and_coming_back(stage: Stage) -> None:
    """Who leaves has nothing unread and may do nothing; who comes back begins anew."""
    olga, bob = await cast(stage, "olga", "bob")
    await say(olga, "G", 10)
    await bob.has("G", 10)
    await bob.me.read("G", 5)
    await bob.me.flush()
    assert bob.me.unread("G") == 5
    await bob.me.leave("G")
    await bob.told()
    assert (bob.me.unread("G"), await stage.explain("bob", "G")) == (0, [])
    with pytest.raises(Refused) as refused:
        await bob.me.send("G", "out")
    assert refused.value.code is Code.NOT_A_MEMBER
    await say(olga, "G", 4)
    assert await bob.told() == []
    await olga.me.add_members("G", ["bob"])
    await bob.told()
    assert bob.me.unread("G") == 0
    await say(olga, "G")
    await bob.told()
    assert bob.me.unread_seqs("G") == await stage.explain("bob", "G") == [15]
    group = stage.node.hub.world.apps["default"].chats["G"].conversation
    periods = [(p.from_seq, p.through) for _, p in sorted(group.members["bob"].periods.items())]
    assert periods == [(1, 10), (15, None)]
    assert ["bob" in group.audience(seq) for seq in (8, 12, 15)] == [True, False, True]


async def asked(stage: Stage) -> tuple[Device, Device, Device, Device]:
    """Olga's phone and laptop, bob's and cara's phones; olga's #20 asks for receipts."""
    olga, bob, cara = await cast(stage, "olga", "bob", "cara")
    laptop = await stage.device("olga", "laptop")
    await say(olga, "G", 19)
    assert (await olga.me.send("G", "who comes?", asks=True)).seq == 20
    for device in (bob, cara, laptop):
        await device.has("G", 20)
    for device in (olga, laptop, bob, cara):
        await device.told()
    return olga, laptop, bob, cara


@nine_times(at_once=True)
async def test_scene_17_group_receipts(stage: Stage) -> None:
    """The asker's devices are told of every reader once, with words; the first answer stands."""
    olga, laptop, bob, cara = await asked(stage)
    await bob.me.read_messages("G", [20], "ok")
    await cara.me.read_messages("G", [20], "")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bob.me.flush)
        tasks.start_soon(cara.me.flush)
    for device in (olga, laptop):
        told: list[Any] = await device.told()
        assert {type(one) for one in told} == {GroupRead}
        assert told[-1].count == 2
        words = [readers(one) for one in told]  # one frame, unless they came in two ticks
        assert sum(len(one) for one in words) == 2
        assert {user: text for one in words for user, text in one.items()} == {"bob": "ok", "cara": ""}
    assert await bob.told() == await cara.told() == []
    stage.now_ms += DAY_MS
    late = await stage.raw("bob", "laptop")
    answer = await late.ask(lambda rid: commands.ReadMessages(rid, "G", (20, 21), "later"))
    assert answer == Done(late._rid)
    assert await olga.told() == await laptop.told() == []
    found = await olga.me.readers("G", 20)
    assert {reader.user: reader.content for reader in found.readers} == {"bob": "ok", "cara": ""}
    assert [reader.user for reader in found.waiting] == ["adam", "dan"]
    assert (found.count, found.audience) == (2, 4)
    mine: list[Reader] = sorted(olga.me.known_readers("G", 20), key=lambda reader: reader.user)
    assert [reader.content for reader in mine] == ["ok", ""]


@nine_times()
async def test_scene_18_a_conversation_receipt_answers_nothing(stage: Stage) -> None:
    """Reading a group clears the badge and answers no request; an open chat sends both receipts."""
    olga, laptop, bob, cara = await asked(stage)
    dan = await stage.device("dan")
    tablet = await stage.device("dan", "tablet")
    await dan.me.read("G", 20)
    await dan.me.flush()
    assert dan.me.unread("G") == 0
    only_read(await tablet.told(), *range(1, 21), through=20)
    assert await olga.told() == await laptop.told() == []
    await dan.me.read_messages("G", [20], "seen")
    await dan.me.flush()
    for device in (olga, laptop):
        (told,) = await device.told()
        assert isinstance(told, GroupRead)
        assert (told.count, readers(told)) == (1, {"dan": "seen"})

    bob.me.open_chat("G")
    await bob.me.flush()
    assert [mark.through for mark in bob.said(commands.ReadConversation)] == [20]
    assert [mark.ranges for mark in bob.said(commands.ReadMessages)] == [(20, 21)]
    (told,) = await olga.told()
    assert isinstance(told, GroupRead)
    assert (told.count, readers(told)) == (2, {"bob": ""})
    assert await cara.told() == []


@nine_times()
async def test_scene_19_who_may_ask_and_answer(stage: Stage) -> None:
    """Asking takes a role and a group that is not too large; answering takes having been asked."""
    olga, _, bob, cara = await asked(stage)
    dan = await stage.device("dan")

    async def refusal(call: Awaitable[Any]) -> Refused:
        with pytest.raises(Refused) as refused:
            await call
        return refused.value

    assert (await refusal(bob.me.send("G", "?", asks=True))).code is Code.NOT_PERMITTED
    await olga.me.add_members("G", ["erin"])
    erin = await stage.raw("erin", "phone")
    not_hers = await erin.ask(lambda rid: commands.ReadMessages(rid, "G", (20, 21), ""))
    assert not_hers.code is Code.NOT_IN_AUDIENCE
    await bob.me.read_messages("G", [20])
    await cara.me.read_messages("G", [20])
    await bob.me.flush()
    await cara.me.flush()
    await olga.me.remove_members("G", ["cara", "adam"])
    found = await olga.me.readers("G", 20)
    assert [(r.user, r.left) for r in found.readers] == [("bob", False), ("cara", True)]
    assert [(r.user, r.left) for r in found.waiting] == [("adam", True), ("dan", False)]
    assert (found.count, found.audience) == (2, 4)

    await olga.told()
    await dan.me.read_messages("G", [1])
    await dan.me.flush()
    assert dan.me.unread("G") == 19
    assert await olga.told() == []
    with pytest.raises(Refused) as local:
        await dan.me.read_messages("G", [2], "words")
    assert local.value.code is Code.NOT_ASKED
    raw = await stage.raw("dan", "raw")
    not_asked = await raw.ask(lambda rid: commands.ReadMessages(rid, "G", (2, 3), "words"))
    assert not_asked.code is Code.NOT_ASKED
    assert len(await stage.explain("dan", "G")) == 19

    many = [f"user{n}" for n in range(200)]
    await stage.users(*many)
    await olga.me.create_group("large", many[:199], conversation="large")
    assert (await olga.me.send("large", "200", asks=True)).seq == 1
    await olga.me.add_members("large", many[199:])
    too_large = await refusal(olga.me.send("large", "201", asks=True))
    assert (too_large.code, too_large.limit) == (Code.GROUP_TOO_LARGE, 200)
    await olga.me.create_group("alone", conversation="alone")
    await olga.me.send("alone", "anybody?", asks=True)
    nobody = await olga.me.readers("alone", 1)
    assert (nobody.audience, nobody.count, nobody.unknown) == (0, 0, None)
    assert (await olga.me.send("G", "next")).seq == 21  # what was refused took no seq


@nine_times()
async def test_scene_20_receipts_expire(stage: Stage) -> None:
    """After three days readers and words are gone for good; the answer is "expired", never 0."""
    olga, laptop, bob, cara = await asked(stage)
    dan = await stage.device("dan")
    await laptop.close()
    for device in (bob, cara):
        await device.me.read_messages("G", [20], "ok")
        await device.me.flush()
    unread = {device: device.me.unread("G") for device in (bob, cara, dan)}
    await olga.told()
    stage.sweep(3 * DAY_MS)
    await olga.me.until(lambda: not olga.me.known_readers("G", 20))
    assert [type(one) for one in await olga.told()] == [GroupReceiptsExpired]
    found = await olga.me.readers("G", 20)
    assert (found.unknown, found.readers, found.count) == (Unknown.EXPIRED, (), 0)
    raw = await stage.raw("dan", "raw")
    late = await raw.ask(lambda rid: commands.ReadMessages(rid, "G", (20, 21), "late"))
    assert late.code is Code.EXPIRED
    stage.sweep(-3_600_000)
    (status,) = [one for one in (await olga.me.ask_status("G", [20])).items if one.user == "bob"]
    assert status.read is Unknown.EXPIRED
    for device, count in unread.items():
        await device.told()
        assert device.me.unread("G") == count
    back = await stage.device("olga", "laptop")  # an older copy of the state is not taken back
    assert back.me.known_readers("G", 20) == ()


@nine_times()
async def test_scene_21_statistics(stage: Stage) -> None:
    """Who was away is told once how many have read, and again if it did not arrive."""
    olga, laptop, bob, cara = await asked(stage)
    dan = await stage.device("dan")
    await say(olga, "G")
    assert (await olga.me.send("G", "and now?", asks=True)).seq == 22
    await olga.close()
    await laptop.close()
    await dan.has("G", 22)
    for device, seq in ((bob, 20), (cara, 20), (dan, 22)):
        await device.me.read_messages("G", [seq])
        await device.me.flush()

    counts = (("G", 20, 2), ("G", 22, 1))
    lost = await stage.raw_link()
    lost.say(_hello_again(await stage.token("olga")))
    assert (await lost.hear(ReadStatistics)).counts == counts
    await lost.close()  # before it acknowledged anything

    phone = await stage.device("olga")
    await phone.me.server_badge()
    assert [one.counts for one in phone.wire.received if isinstance(one, ReadStatistics)] == [counts]
    await phone.wire.beat()
    later = await stage.device("olga", "laptop")
    await later.me.server_badge()
    assert not [one for one in later.wire.received if isinstance(one, ReadStatistics)]
    for device in (phone, later):
        assert [len(device.me.known_readers("G", seq)) for seq in (20, 22)] == [2, 1]
    await dan.me.read_messages("G", [20])
    await dan.me.flush()
    for device in (phone, later):
        (told,) = [one for one in await device.told() if isinstance(one, GroupRead)]
        assert told.count == 3


def _hello_again(token: str) -> commands.Hello:
    from receipts.wire import VERSION

    return commands.Hello(
        rid=1, version=VERSION, user="olga", device="phone", install="install-olga-phone", token=token
    )


# -- the node


class FullMemory(MemoryStore):
    """Says that the disk is full for as long as it is told to."""

    full = False

    def __init__(self, directory: Path) -> None:
        super().__init__()

    def commit(self, batch: Batch) -> None:
        if self.full:
            raise StoreFull("full, says the test")
        super().commit(batch)


@nine_times(store=FullMemory)
async def test_scene_22_the_disk_is_full(stage: Stage) -> None:
    """Nothing that cannot be written has happened: who asked is told, nobody else, and later it works."""
    await stage.users("alice", "bob", "cara")
    await stage.group("G", "alice", "bob", "cara")
    alice, bob, cara = [await stage.device(name) for name in ("alice", "bob", "cara")]
    await say(alice, "G", 8)
    for device in (bob, cara):
        await device.has("G", 8)
        await device.me.flush()
    raw = await stage.raw("cara", "raw")
    for device in (alice, bob, cara):
        await device.told()
    store = stage.node.store
    assert isinstance(store, FullMemory)
    store.full = True
    with pytest.raises(Refused) as refused:
        await alice.me.send("G", "too much")
    assert refused.value.code is Code.STORAGE_FULL
    assert refused.value.retry_after_ms > 0
    read = await raw.ask(lambda rid: commands.ReadConversation(rid, "G", 8))
    assert (read.code, read.retry_after_ms > 0) == (Code.STORAGE_FULL, True)
    (line,) = (await bob.me.list_conversations()).items
    assert (line.head, line.unread) == (8, 8)
    assert await alice.told() == await bob.told() == await cara.told() == []
    assert await stage.explain("cara", "G") == list(range(1, 9))
    store.full = False
    assert (await alice.me.send("G", "now it fits")).seq == 9
    assert isinstance(await raw.ask(lambda rid: commands.ReadConversation(rid, "G", 8)), Done)
    await cara.told()
    assert cara.me.unread_seqs("G") == [9]


SMALL_PAGES = {"default": '{"limits": {"page_bytes_max": 500}}'}


@nine_times(apps=SMALL_PAGES)
async def test_scene_23_coming_back(stage: Stage) -> None:
    """Who comes back gets what changed, once, in pages that a cut does not take back."""
    alice, bob = await pair(stage)
    await say(bob, "alice", 7)
    await say(alice, "bob", 3)
    await bob.has("alice", 10)
    raw = await stage.raw("bob", "raw")
    token = raw.token
    await raw.close()
    bob.wire.cut()
    await alice.has("bob", 10)
    await say(alice, "bob", 50)
    await alice.me.recall("bob", 12)
    reader = await stage.raw("alice", "reader")
    for step in range(200):
        reader.say(commands.ReadMessages(0, AB, (step % 7 + 1, step % 7 + 2)))
    reader.say(commands.ReadConversation(0, AB, 7))
    await reader.told()

    bodies: list[int] = []
    recalled: set[int] = set()
    shared: set[int] = set()
    links, live = 0, False
    while not live:  # the link breaks after every second page
        link = await stage.raw("bob", "raw", resume=token, catch_up=False)
        links += 1
        for _ in range(2):
            page = await link.page()
            assert not page.full
            for part in page.parts:
                bodies += [message.seq for message in part.messages]
                recalled |= seqs(part.recalled)
                shared |= {seq for member in part.members for seq in seqs(member.read_shared) if seq <= 7}
            token, live = page.token, page.live
            if live:
                break
        await link.close()
    assert bodies == [seq for seq in range(11, 61) if seq != 12]
    assert (recalled, shared) == ({12}, set(range(1, 8)))
    assert links > 2

    before = len(bob.wire.received)
    bob.wire.heal()
    await bob.me.until(lambda: bob.me.online and bob.wire.links == 2)
    news = [one for one in bob.wire.received[before:] if not isinstance(one, Welcome)]
    pages: list[Any] = [one for one in news if hasattr(one, "parts")]
    again = [message.seq for page in pages for part in page.parts for message in part.messages]
    assert [seq for seq in again if seq != 10] == bodies  # the last tick before a cut may have come in part
    assert {bob.me.status("alice", seq) for seq in range(1, 8)} == {Status.READ}
    assert bob.me.unread("alice") == 52

    for stranger in (None, "nonsense", "anotherlife:3", token.replace(":", ":9999", 1)):
        full = await stage.raw("bob", "raw", resume=stranger, catch_up=False)
        first = await full.page()
        assert first.full
        await full.close()


@nine_times()
async def test_scene_24_a_read_by_hand_and_by_message(stage: Stage) -> None:
    """A conversation receipt reads up to its message, and one by name that message alone."""
    alice, bob = await pair(stage)
    await say(alice, "bob", 7)
    await bob.has("alice", 7)
    await bob.me.flush()
    browser = await stage.raw("bob", "browser")
    await say(alice, "bob", 2)
    await bob.has("alice", 9)
    await alice.told()
    await browser.ask(lambda rid: commands.ReadConversation(rid, AB, 8))
    await bob.told()
    assert bob.me.unread_seqs("alice") == await stage.explain("bob", AB) == [9]
    only_read(await alice.told(), *range(1, 9), through=8)
    await bob.me.read_messages("alice", [9])
    await bob.me.flush()
    only_read(await alice.told(), 9)
    only_read(await browser.told(), 9)
    assert bob.me.unread("alice") == 0


@nine_times(at_once=True, apps={"org#one": "{}", "org#two": '{"features": {"group_receipts": false}}'})
async def test_scene_25_two_apps(stage: Stage) -> None:
    """Two apps on one node, with users of the same names, never meet; what one lacks the other has."""
    ids: dict[str, list[int]] = {}
    codes: dict[str, str] = {}

    async def story(app: str) -> None:
        await stage.users("alice", "bob", app=app)
        alice = await stage.device("alice", app=app)
        bob = await stage.device("bob", app=app)
        ids[app] = [one.message_id for one in await say(alice, "bob", 3)]
        await alice.me.create_group("G", ["bob"], conversation="G")
        try:
            asking = await alice.me.send("G", f"{app}?", asks=True)
            codes[app] = "accepted"
            assert asking.seq == 1
        except Refused as refused:
            codes[app] = refused.code.value
        assert (await alice.me.send("G", f"of {app}")).seq == (2 if app == "org#one" else 1)
        await bob.has("G", 1)
        await bob.me.read("alice")
        await bob.me.flush()
        await alice.told()
        assert {alice.me.status("bob", seq) for seq in (1, 2, 3)} == {Status.READ}

    async with anyio.create_task_group() as tasks:
        for app in ("org#one", "org#two"):
            tasks.start_soon(story, app)
    assert codes == {"org#one": "accepted", "org#two": "feature_off"}
    assert len({*ids["org#one"], *ids["org#two"]}) == 6
    for device in stage.devices:
        app = device.me.session.profile.app
        await device.wire.beat()
        bodies = {m.body for m in device.me.messages("G")}
        assert bodies <= {f"{app}?", f"of {app}"}
        wrong = app.replace("org#one", "x").replace("org#two", "org#one")
        assert not any(wrong in str(body) for body in bodies)
