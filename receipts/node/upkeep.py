"""What time and trouble ask for: silent sessions, expiry, resting conversations, verification. PURE."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise

from receipts.core import decide, explain
from receipts.core.errors import Code, Refused
from receipts.core.explain import Finding
from receipts.core.ids import AppId, ConversationId, Seq, UserId
from receipts.core.ranges import RangeSet, ranges_of
from receipts.storage import base as rows

from .commands import Sweep, Text, Verify
from .messages import fold
from .world import Chat, Session, World

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
    receipts = _due_receipts(world)
    messages = _due_messages(world)
    for app, conversation, seq in receipts:
        _expire_receipts(world, app, conversation, seq)
    for app, conversation, seq in messages:
        _expire_messages(world, app, conversation, seq)
    for link in list(world.sessions):
        silent_ms = world.now_ms - link.heard_ms
        if silent_ms > 2 * world.heartbeat_ms and link.state != "closed" and not link.admin:
            if link.user is not None and link in link.user.sessions:
                link.user.sessions.remove(link)
            reason = f"nothing was heard for {silent_ms} ms; send a Ping within the heartbeat"
            world.close(link, Code.IDLE, reason)
    if world.now_ms - world.evicted_ms > EVICT_EVERY_MS:
        world.evicted_ms = world.now_ms
        evict(world)


def _due_receipts(world: World) -> list[tuple[AppId, ConversationId, Seq]]:
    """Loads all that is needed, and says when to look again; nothing changes yet but that."""
    if world.next_receipts_ms is None or world.next_receipts_ms > world.now_ms:
        return []
    now_ms = world.sweep_ms = world.sweep_ms or world.now_ms  # one question, however often it is run again
    due: list[tuple[AppId, ConversationId, Seq]] = world.ask("due_receipts", now_ms, DUE_AT_ONCE)
    following: int | None = world.ask("next_due_receipt", now_ms)
    for app, conversation, _ in due:
        world.find_chat(world.apps[app], conversation)
    world.sweep_ms = 0
    if len(due) == DUE_AT_ONCE:
        return due  # at the next sweep the rest
    coming = [
        ask.expires_ms
        for known in world.apps.values()
        for chat in known.chats.values()
        for ask in chat.asks.values()
        if ask.expires_ms > now_ms
    ]
    world.next_receipts_ms = min([*coming, *([following] if following is not None else [])], default=None)
    return due


def _expire_receipts(world: World, app: AppId, conversation: ConversationId, seq: Seq) -> None:
    """The node decides, by its own clock; askers are told, so that their replicas let go too."""
    chat = world.apps[app].chats[conversation]
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


def _due_messages(world: World) -> list[tuple[AppId, ConversationId, Seq]]:
    if world.now_ms < world.next_retention_ms:
        return []
    now_ms = world.retention_asked_ms = world.retention_asked_ms or world.now_ms
    due: list[tuple[AppId, ConversationId, Seq]] = []
    for app in world.apps.values():
        if app.limits.retention_ms:
            due += world.ask("due_messages", app.id, now_ms - app.limits.retention_ms, DUE_AT_ONCE)
    for name, conversation, _ in due:
        world.find_chat(world.apps[name], conversation)
    world.retention_asked_ms = 0
    world.next_retention_ms = now_ms + RETENTION_EVERY_MS
    return due


def _expire_messages(world: World, app: AppId, conversation: ConversationId, seq: Seq) -> None:
    chat = world.apps[app].chats[conversation]
    event = decide.expire(chat.conversation, seq)
    if event is None:
        return
    if chat.folded_through < event.through:
        fold(world, chat)  # their authors' marks must not go with the messages
    chat.conversation.apply(event)
    _forget_asks(chat, event.through)
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
    """Recount one conversation from its messages, and mend it if that is asked."""
    app = world.apps.get(command.app)
    chat = world.find_chat(app, command.conversation) if app is not None else None
    if chat is None:
        raise Refused(Code.UNKNOWN_CONVERSATION, f"there is no conversation {command.conversation!r}")
    facts: list[rows.MessageRow] = []
    floor = chat.conversation.expired_through
    for start in range(floor + 1, chat.conversation.head + 1, FACTS_AT_ONCE):
        stop = min(start + FACTS_AT_ONCE, chat.conversation.head + 1)
        facts += world.ask("history", chat.key, (start, stop), FACTS_AT_ONCE)
    findings = list(_recount(chat, facts)) + explain.verify(chat.conversation)
    if findings and command.repair:
        _repair(world, chat, facts, command.life)
    listed = [{"invariant": f.invariant, "member": f.member, "detail": f.detail} for f in findings]
    world.answer(session, Text(command.rid, json.dumps(listed)))


def _recount(chat: Chat, facts: list[rows.MessageRow]) -> Iterator[Finding]:
    """What the messages say, against what the state says. A message not committed yet is left out."""
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
        if set(stored.within(known.ranges)) and RangeSet(stored.within(known.ranges)) != RangeSet(
            ranges_of(recount)
        ):
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
    if life:
        world.life = life
        for link in list(world.sessions):
            if link.logged_in:
                link.user.sessions.remove(link)
                world.close(
                    link, Code.SHUTTING_DOWN, "the state was repaired; connect again", retry_after_ms=100
                )
