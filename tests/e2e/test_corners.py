"""Corners that random worlds found, each as a short story of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from receipts.core.ids import direct
from receipts.core.status import Status
from receipts.wire import commands
from receipts.wire.updates import Delivered, Rejected
from tests.e2e.agreement import check_counts, check_fresh, settle
from tests.e2e.stage import Device, Stage, simulated

AB = direct("alice", "bob")


def told(play: Callable[[Stage], Awaitable[None]]) -> Callable[[Path], None]:
    """Make a test of a story; at the end everybody has to agree."""

    async def and_agree(stage: Stage) -> None:
        await play(stage)
        await settle(stage)
        await check_counts(stage)
        await check_fresh(stage)

    def test(tmp_path: Path) -> None:
        simulated(and_agree, tmp_path)

    test.__name__ = test.__qualname__ = play.__name__
    test.__doc__ = play.__doc__
    test.__module__ = play.__module__
    return test


async def pair(stage: Stage) -> tuple[Device, Device]:
    """Alice's phone and bob's phone."""
    await stage.users("alice", "bob")
    return await stage.device("alice"), await stage.device("bob")


@told
async def test_let_in_while_away(stage: Stage) -> None:
    """Who is let into a group while away gets all of it by resume: name, members, roles."""
    alice, bob = await pair(stage)
    await stage.users("cara")
    await stage.group("G", "alice", admins=["cara"])
    await alice.me.send("G", "before bob")
    await alice.me.rename("G", "ours")
    for again in (False, True):
        for _ in range(2):  # so that bob's phone resumes from a time when the group was there
            await alice.me.send("bob", "something else")
        await bob.told()
        bob.wire.cut()
        await alice.me.add_members("G", ["bob"])
        bob.wire.heal()
        links = bob.wire.links
        await bob.me.until(lambda links=links: bob.wire.links > links and bob.me.online)  # type: ignore[misc]
        (line,) = [one for one in bob.me.conversations() if one.conversation == "G"]
        assert (line.name, line.unread, line.head) == ("ours", 0, 1)
        chat = bob.me.session.replica.chat("G")
        assert {user for user, member in chat.members.items() if member.joined} == {"alice", "bob", "cara"}
        if not again:
            await alice.me.remove_members("G", ["bob"])
            await bob.told()


@told
async def test_one_refusal_concerns_one_conversation(stage: Stage) -> None:
    """A receipt that one conversation refuses takes none of another conversation's with it."""
    alice, bob = await pair(stage)
    await stage.group("G", "alice", "bob")
    await alice.me.send("G", "in the group")
    await alice.me.send("bob", "between us")
    await bob.has("alice", 1)
    raw = await stage.raw("bob", "raw")
    await alice.me.remove_members("G", ["bob"])
    await alice.told()
    raw.say(commands.AckDelivered(0, "G", (1, 2)), commands.AckDelivered(0, AB, (1, 2)))
    refused = await raw.hear(Rejected)
    assert (refused.rid, refused.conversation) == (0, "G")
    await bob.told()
    await bob.me.flush()  # it acknowledged both; nobody has to hear of the one that was refused
    held = stage.node.hub.world.apps["default"].chats[AB].conversation.members["bob"].devices
    assert list(held["phone"]) == [1]


@told
async def test_a_read_that_was_private_acknowledges_nothing(stage: Stage) -> None:
    """A device that did not know that reads are private still owes the acknowledgement, and gives it."""
    alice, bob = await pair(stage)
    await alice.me.send("bob", "hi")
    await bob.has("alice", 1)
    bob.wire.cut()
    await bob.me.read("alice")  # meant for alice to know
    raw = await stage.raw("bob", "raw")
    await raw.ask(lambda rid: commands.SetSharing(rid=rid, read=False))
    bob.wire.heal()
    await bob.me.flush()
    found = await alice.told()
    assert found == [Delivered(AB, "bob", (1, 2))]
    assert alice.me.status("bob", 1) is Status.DELIVERED


@told
async def test_naming_own_messages_reads_nothing(stage: Stage) -> None:
    """Naming only own messages clears no unread mark, on this device no more than at the node."""
    alice, bob = await pair(stage)
    await bob.me.send("alice", "mine")
    await bob.me.mark_unread("alice")
    await bob.me.read_messages("alice", [1])
    await bob.me.flush()
    assert bob.me.marked_unread("alice")
    assert not bob.said(commands.ReadMessages)
    await alice.has("bob", 1)


@told
async def test_clearing_what_was_never_here(stage: Stage) -> None:
    """Clearing a conversation takes nothing away that this device has not heard of."""
    alice, bob = await pair(stage)
    await alice.me.send("bob", "seen")
    await bob.has("alice", 1)
    bob.wire.cut()
    await alice.me.send("bob", "not seen")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bob.me.clear, "alice", 100)
        await anyio.wait_all_tasks_blocked()
        bob.wire.heal()
    await bob.has("alice", 2)
    assert bob.me.unread_seqs("alice") == [2]
