"""What time and trouble ask for: silent sessions, expiry, resting conversations, verification. PURE."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import TypeAlias

from receipts.core import decide, explain
from receipts.core.errors import Code, Refused
from receipts.core.explain import Finding
from receipts.core.ids import AppId, ConversationId, Seq, UserId
from receipts.core.ranges import RangeSet, ranges_of
from receipts.storage import base as rows

from . import accounts
from .commands import Sweep, Text, Verify
from .messages import fold
from .world import Chat, Missing, Need, Session, World

__all__ = ["evict", "sweep", "verify"]

DUE_AT_ONCE = 500
"""Expiries taken in one tick, so that a backlog does not hold up everybody else."""

REST_MS = 5 * 60_000
"""A conversation that nobody used for this long leaves memory once it is committed."""

EVICT_EVERY_MS = 30_000
RETENTION_EVERY_MS = 60_000

FACTS_AT_ONCE = 10_000
"""Messages read from storage at a time while verifying."""


def sweep(world: World, session: Session, command: Sweep) -> None:
    """Look around: called every second or so, and when something is due."""
    _expire(world)
    if world.queue_rows or world.told_rows:
        world.tick.writes = True
    for link in list(world.sessions):
        silent_ms = world.now_ms - link.heard_ms
        # Devices that keep nothing themselves also speak when nothing was said to them, by a clock of theirs.
        patience_ms = (3 if link.queued else 2) * world.heartbeat_ms
        if silent_ms > patience_ms and link.state != "closed" and not link.admin:
            accounts.part(world, link)
            reason = f"nothing was heard for {silent_ms} ms; send a Ping within the heartbeat"
            world.close(link, Code.IDLE, reason)
    if world.now_ms - world.evicted_ms > EVICT_EVERY_MS:
        world.evicted_ms = world.now_ms
        evict(world)


def _expire(world: World) -> None:
    """Receipts and messages whose time has come, by the node's own clock. All that is needed is asked for
    before anything changes, at one time however often this is run again."""
    now_ms = world.sweep_ms or world.now_ms
    receipts_due = world.next_receipts_ms is not None and world.next_receipts_ms <= now_ms
    messages_due = world.next_retention_ms <= now_ms
    if not receipts_due and not messages_due:
        return
    world.sweep_ms = now_ms
    receipts: list[_Due] = []
    following: int | None = None
    if receipts_due:
        receipts = world.ask("due_receipts", now_ms, DUE_AT_ONCE)
        following = world.ask("next_due_receipt", now_ms)
    messages: list[_Due] = []
    if messages_due:
        for app in world.apps.values():
            if app.limits.retention_ms:
                messages += world.ask("due_messages", app.id, now_ms - app.limits.retention_ms, DUE_AT_ONCE)
    old = _chats(world, receipts)
    older = _chats(world, messages)
    world.sweep_ms = 0
    if messages_due:
        all_done = len(messages) < DUE_AT_ONCE
        world.next_retention_ms = now_ms + RETENTION_EVERY_MS if all_done else now_ms
    for chat, seq in old:
        _expire_receipts(world, chat, seq)
    for chat, seq in older:
        _expire_messages(world, chat, seq)
    if receipts_due and len(receipts) < DUE_AT_ONCE:  # else the rest at the next sweep
        world.next_receipts_ms = _next_receipts(world, following)


_Due: TypeAlias = tuple[AppId, ConversationId, Seq]


def _chats(world: World, due: list[_Due]) -> list[tuple[Chat, Seq]]:
    names: dict[AppId, list[ConversationId]] = {}
    for app, conversation, _ in due:
        names.setdefault(app, []).append(conversation)
    needs: list[Need] = []
    for app in names:
        try:
            world.all_of(world.apps[app], names[app])
        except Missing as missing:
            needs += missing.needs
    if needs:
        raise Missing(*needs)
    return [(world.apps[app].chats[conversation], seq) for app, conversation, seq in due]


def _next_receipts(world: World, stored: int | None) -> int | None:
    """When the next ones expire, those that storage does not have yet included: also when their time has come
    already, since storage was asked without them."""
    coming = [
        ask.expires_ms
        for known in world.apps.values()
        for chat in known.chats.values()
        for ask in chat.asks.values()
    ]
    return min([*coming, *([stored] if stored is not None else [])], default=None)


def _expire_receipts(world: World, chat: Chat, seq: Seq) -> None:
    """Askers are told, so that their replicas let go too."""
    event = decide.expire_receipts(chat.conversation, seq)
    if event is None:
        return
    askers = sorted({ask.author for number, ask in chat.asks.items() if number <= seq})
    chat.conversation.apply(event)
    _forget_asks(chat, seq)
    world.new.expired_receipts.append((chat.key, seq))
    world.touch_row(chat)
    world.tell(chat.app, askers, event)


def _forget_asks(chat: Chat, seq: Seq) -> None:
    for number in [number for number in chat.asks if number <= seq]:
        del chat.asks[number]


def _expire_messages(world: World, chat: Chat, seq: Seq) -> None:
    event = decide.expire(chat.conversation, seq)
    if event is None:
        return
    if chat.folded_through < event.through:
        fold(world, chat)  # their authors' marks must not go with the messages
    chat.conversation.apply(event)
    _forget_asks(chat, event.through)
    for number in [number for number in chat.recent if number <= event.through]:
        del chat.recent[number]
    world.new.expired_messages.append((chat.key, event.through))
    world.touch_row(chat)
    world.tell(chat.app, chat.members(), event)


def evict(world: World) -> None:
    """Memory follows what is in use. What is not committed stays."""
    for app in world.apps.values():
        for name, chat in list(app.chats.items()):
            rests = world.now_ms - chat.used_ms > REST_MS
            if rests and chat.touched_tick <= world.committed_tick and chat not in world.touched_chats:
                del app.chats[name]
        for name, user in list(app.users.items()):
            if (
                not user.sessions
                and user.touched_tick <= world.committed_tick
                and user not in world.touched_users
            ):
                del app.users[name]


# -- verification


def verify(world: World, session: Session, command: Verify) -> None:
    """Recount one conversation from its messages, and mend it if that is asked.

    What memory says is compared with what storage says, so nothing may lie between the two: while the
    conversation is written to, it is looked at again.
    """
    app = world.apps.get(command.app)
    chat = world.find_chat(app, command.conversation) if app is not None else None
    if chat is None:
        raise Refused(Code.UNKNOWN_CONVERSATION, f"there is no conversation {command.conversation!r}")
    if command.repair and not command.life:
        raise Refused(Code.INVALID, "a repair begins a new life of the data: it needs an id")
    facts = _facts(world, chat)
    findings = list(_recount(chat, facts)) + explain.verify(chat.conversation)
    if findings and command.repair:
        _repair(world, chat, facts, command.life)
    listed = [{"invariant": f.invariant, "member": f.member, "detail": f.detail} for f in findings]
    world.answer(session, Text(command.rid, json.dumps(listed)))


def _facts(world: World, chat: Chat) -> list[rows.MessageRow]:
    """All messages of a conversation, as of now."""
    floor, head = chat.conversation.expired_through, chat.conversation.head
    needs = [
        Need("history", (chat.key, (start, min(start + FACTS_AT_ONCE, head + 1)), FACTS_AT_ONCE))
        for start in range(floor + 1, head + 1, FACTS_AT_ONCE)
    ]
    # Of nobody: when it was asked, if storage had everything by then, and how often.
    asked = Need("looked", (chat.key,))
    began, times = world.found.get(asked, (0, 0))
    if chat.touched_tick < began:
        return [row for need in needs for row in world.found[need]]
    if times >= LOOKS_MAX:
        reason = f"{chat.id!r} is written to all the time; verify it when it is quiet"
        raise Refused(Code.BUSY, reason, retry_after_ms=1000)
    if not needs:
        return []
    began = world.tick_number if chat.touched_tick <= world.committed_tick else 0
    raise Missing(*needs, known={asked: (began, times + 1)})


LOOKS_MAX = 20
"""How often a conversation that changes is looked at again."""


def _recount(chat: Chat, facts: list[rows.MessageRow]) -> Iterator[Finding]:
    """What the messages say, against what the state says."""
    conversation = chat.conversation
    seqs = [row.seq for row in facts]
    floor = conversation.expired_through
    if seqs != list(range(floor + 1, floor + 1 + len(seqs))):
        yield Finding(invariant="I-8", member=None, detail="the seqs in storage are not dense")
    ids = [row.message_id for row in facts]
    if any(one >= other for one, other in pairwise(ids)):
        yield Finding(invariant="I-8", member=None, detail="message ids do not rise with the seq")
    stored = RangeSet(ranges_of(seqs))
    for what, known, recount in (
        ("recalled", conversation.recalled, {row.seq for row in facts if row.recalled_tick}),
        ("uncounted", conversation.uncounted, {row.seq for row in facts if row.counts}),
    ):
        if stored.within(known.ranges) != ranges_of(recount):
            yield Finding(
                invariant="I-14", member=None, detail=f"{what} is {known}, recounted {sorted(recount)[:20]}"
            )
    for user in sorted(conversation.members):
        yield from _recount_member(chat, user, facts)


def _recount_member(chat: Chat, user: UserId, facts: list[rows.MessageRow]) -> Iterator[Finding]:
    conversation = chat.conversation
    member = conversation.members[user]
    own = [row.seq for row in facts if row.author == user and row.seq not in member.read]
    if own:
        yield Finding(invariant="I-1", member=user, detail=f"own messages {own[:20]} are not read")
    start, stop = conversation.visible(user)
    marked = set(RangeSet(member.unread_mark.ranges))
    read = set(member.read) - marked
    recount = {
        row.seq
        for row in facts
        if start <= row.seq < stop and not row.recalled_tick and not row.counts and row.seq not in read
    }
    counted = {seq for seq in RangeSet(conversation.unread_ranges(user)) if not facts or seq <= facts[-1].seq}
    if recount != counted:
        yield Finding(
            invariant="I-14", member=user, detail=f"unread is {len(counted)}, recounted {len(recount)}"
        )


def _repair(world: World, chat: Chat, facts: list[rows.MessageRow], life: str) -> None:
    """The messages are the truth; what was lowered must not live on in replicas, so a new life begins."""
    conversation = chat.conversation
    explain.repair(conversation)
    stored = ranges_of(row.seq for row in facts)
    for known, true in (
        (conversation.recalled, ranges_of(row.seq for row in facts if row.recalled_tick)),
        (conversation.uncounted, ranges_of(row.seq for row in facts if row.counts)),
    ):
        known.discard(stored)
        known.update(true)
    for row in facts:
        conversation.member(row.author).read.add(row.seq, row.seq + 1)
    for user in conversation.members:
        world.touch_marks(chat, user, True)
        world.touch_member(chat, user, True)
    fold(world, chat)
    world.restores.append(partial(setattr, world, "life", world.life))
    world.life = life
    for link in list(world.sessions):
        if link.logged_in:
            accounts.part(world, link)
            world.close(link, Code.SHUTTING_DOWN, "the state was repaired; connect again", retry_after_ms=100)
