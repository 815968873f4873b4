"""Whether devices know what they should, once everything has been said.

Two judges. `check_counts` asks the node's own state, conversation by conversation, what a
device of a user ought to show. `check_fresh` compares what a device put together over many links with what a
device without any past is given at one login.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from receipts.client.replica import Replica
from receipts.core.conversation import Conversation
from receipts.core.errors import Refused
from receipts.core.explain import verify
from receipts.core.ids import ConversationKind
from receipts.core.ranges import RangeSet, ranges_of, through
from receipts.wire import updates
from tests.e2e.stage import Device, Stage
from transports.faulty import Plan

__all__ = ["check_counts", "check_fresh", "settle"]


async def settle(stage: Stage) -> None:
    """Mend all wires, wait until everything that is due has been said and heard."""
    for device in stage.devices:
        device.wire.plan = lambda attempt: Plan()
        device.wire.cut()  # what stands may still be going to fail
        device.wire.heal()
    for device in stage.devices:
        await device.me.until(lambda device=device: not device.me.online or device.wire.mended)  # type: ignore[misc]
        await device.me.until(lambda device=device: device.me.online)  # type: ignore[misc]
    for _ in range(2):  # messages first, then the receipts that they brought about
        for device in stage.devices:
            await device.wire.beat()
        for device in stage.devices:
            with suppress(Refused):  # some receipt was refused for good; the others went through
                await device.me.flush()
    for device in stage.devices:
        await device.wire.beat()


async def check_counts(stage: Stage, app: str = "default") -> None:
    """Every device shows what the node's state says it should, and the node's answers say the same."""
    chats = {name: chat.conversation for name, chat in stage.node.hub.world.apps[app].chats.items()}
    for chat in chats.values():
        assert verify(chat) == []
    for device in stage.devices:
        me = device.me
        replica = me.session.replica
        for name, chat in chats.items():
            if me.user in chat.members:
                key = stage.node.hub.world.apps[app].chats[name].key
                own = stage.node.store.authored(key, me.user, 1, chat.head + 1)
                _check_chat(device, replica.chat(name), chat, RangeSet(own))
        lines = {line.conversation: line for line in me.conversations()}
        answered: dict[str, updates.Summary] = {}
        cursor: str | None = None
        while cursor != "":
            page = await me.list_conversations(cursor=cursor or "", limit=50)
            answered |= {line.conversation: line for line in page.items}
            cursor = page.cursor
        counts = {name: (line.head, line.unread, line.marked_unread) for name, line in lines.items()}
        assert counts == {
            name: (line.head, line.unread, line.marked_unread) for name, line in answered.items()
        }, f"{device} lists what the node does not"
        badge, known = await me.server_badge(), me.badge()
        assert (badge.messages, badge.conversations, badge.muted_messages) == (
            known.messages,
            known.conversations,
            known.muted_messages,
        )


def _check_chat(device: Device, known: Conversation, true: Conversation, own: RangeSet) -> None:
    me = device.me.user
    mine, member = known.members[me], true.members[me]
    where = f"{me}'s {device.me.device} in {true.id}"
    start, _ = true.visible(me)
    gone = true.recalled.copy()
    gone.update(through(start - 1))

    def same(what: str, one: RangeSet, other: RangeSet) -> None:
        shown, meant = gone.missing(one.ranges), gone.missing(other.ranges)
        assert shown == meant, f"{where}: {what} {RangeSet(shown)} instead of {RangeSet(meant)}"

    assert known.unread_ranges(me) == true.unread_ranges(me), f"{where}: unread"
    assert known.marked_unread(me) == true.marked_unread(me), f"{where}: marked unread"
    assert mine.periods == member.periods, f"{where}: periods"
    assert mine.cleared_through == member.cleared_through, f"{where}: cleared"
    assert mine.sharing == member.sharing, f"{where}: sharing"
    if not member.joined:
        return  # what happened since is not for them
    assert known.head == true.head, f"{where}: head"
    below = RangeSet(through(start - 1))
    assert below.missing(known.recalled.ranges) == below.missing(true.recalled.ranges), f"{where}: recalled"
    same("read", mine.read, member.read)
    # Of own messages a device that lost its storage does not know whether it had sent them itself.
    held = [own.missing(one.held(device.me.device).ranges) for one in (mine, member)]
    same("held", RangeSet(held[0]), RangeSet(held[1]))
    for other in true.members.keys() - {me}:
        assert known.members[other].periods == true.members[other].periods, f"{where}: periods of {other}"
        if true.kind is ConversationKind.DIRECT:
            theirs, shown = true.members[other], known.members[other]
            same("read by them", *(RangeSet(own.within(one.read_shared.ranges)) for one in (shown, theirs)))
            if device.me.session.profile.delivery:
                sets = (RangeSet(own.within(one.delivered_shared.ranges)) for one in (shown, theirs))
                same("delivered to them", *sets)
    for seq, asked in true.asked.items():
        if asked.author == me and seq not in gone:
            assert known.asked[seq].readers == asked.readers, f"{where}: readers of #{seq}"


async def check_fresh(stage: Stage) -> None:
    """What every device knows is what it would be given if it had no past. Their sessions end."""
    for device in list(stage.devices):
        me = device.me
        known = _shown(me.session.replica)
        await device.close()
        delivery = me.session.profile.delivery
        raw = await stage.raw(
            me.user, me.device, app=me.session.profile.app, delivery=delivery, catch_up=False
        )
        fresh = Replica(me.user, me.device)
        for page in await raw.catch_up():
            fresh.apply(page)
        await raw.close()
        found = list(_differences(known, _shown(fresh)))
        assert not found, f"{me.user}'s {me.device}, put together and given: {found}"


def _shown(replica: Replica) -> dict[str, Any]:
    """What a replica holds of what is visible now: below that a device may remember more, or less."""
    shown = {}
    for name, dump in replica.dump()["conversations"].items():
        start, stop = replica.chat(name).visible(replica.user)
        if not replica.member(name).joined:
            continue
        for what in ("recalled", "uncounted"):
            dump[what] = list(RangeSet(dump[what]).within((start, stop))) if start < stop else []
        dump["messages"] = [line for line in dump["messages"] if line[0] >= start]
        dump["asked"] = {seq: asked for seq, asked in dump["asked"].items() if seq >= start}
        for user, member in dump["members"].items():
            member.pop("held", None)  # see `_check_chat`
            own = ranges_of(line[0] for line in dump["messages"] if line[2] == user)
            for what in ("read", "read_shared", "delivered_shared"):
                if what in member:  # of a member's own messages nobody asks whether they got or read them
                    seqs = RangeSet(own).missing(member[what])
                    member[what] = list(RangeSet(seqs).within((start, stop))) if start < stop else []
        shown[name] = dump
    return shown


def _differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Where two dumps differ, in words."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}, key=str):
            yield from _differences(one.get(key), other.get(key), f"{where}/{key}")
    elif one != other:
        yield f"{where}: {str(one)[:300]} / {str(other)[:300]}"
