"""Bringing a session from where it was to where the node is, in pages, and then live. PURE.

A session that has logged in is *behind*: pushed updates pass it by. It gets pages of what changed since its
resume token, the next one after the last was acknowledged. A page is read from storage on the thread that
commits, and taken up before any later commit is let out; so the page that reaches the end turns the session
live without a gap and without an `await`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from receipts.core.errors import Code, Refused
from receipts.core.events import Register, RegisterValue
from receipts.core.ids import ConversationId, ConversationKind, Seq, UserId, Version, direct_members
from receipts.core.member import Member
from receipts.core.ranges import EMPTY, RangeSet, through
from receipts.storage import base as rows
from receipts.storage import codec
from receipts.wire import commands
from receipts.wire.updates import (
    AskedPart,
    CatchUp,
    ConversationPart,
    MemberPart,
    Reader,
    ReadStatistics,
    RegisterPart,
    Update,
)

from . import queues
from .messages import FOLD_EVERY
from .world import Ask, Chat, Session, World

__all__ = [
    "STATISTICS_PER_FRAME",
    "ack_page",
    "ack_statistics",
    "advance",
    "ask_page",
    "ask_statistics",
    "begin",
    "page",
    "page_fetch",
    "statistics",
    "tell_newcomers",
]


def begin(world: World, session: Session, token: str | None) -> None:
    """Judge a resume token: of another life, of the future, or none at all means the full state."""
    session.state = "behind"
    if session.queue is not None:
        token = world.prefix + session.queue.position
    session.since, session.cursor = _position(world, token)
    session.full = session.since < 0 and not session.cursor
    session.page_token = None
    session.page_coming = False


def _position(world: World, token: str | None) -> tuple[int, str]:
    if token is None:
        return -1, ""
    life, _, rest = token.partition(":")
    tick, _, cursor = rest.partition(":")
    try:
        since = int(tick)
    except ValueError:
        return -1, ""
    if life != world.life or not -1 <= since <= world.tick_number:
        return -1, ""
    if cursor and _CURSOR.fullmatch(cursor) is None:
        return -1, ""  # forged: storage does not take it
    return since, cursor


_CURSOR = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18}){2}")
"""What `Store.resume` gives as cursors."""


def ask_page(world: World, session: Session) -> None:
    """Fetch the next page."""
    world.tick.outbox.append(page_fetch(session))


def page_fetch(session: Session) -> Ask:
    """The fetch of a session's next page."""
    limits = session.app.limits
    arguments: dict[str, Any] = {
        "app": session.app.id,
        "user": session.user.name,
        "since": session.since,
        "cursor": session.cursor,
        "bytes_max": limits.page_bytes_max,
        # what authors have not folded into their marks yet is told by the messages themselves
        "snapshot_messages": max(limits.snapshot_messages, FOLD_EVERY),
    }
    if session.queue is None:
        return Ask(session, "resume", arguments, "page", None)
    arguments |= {
        "device": session.device,
        "start": session.queue.start,
        "known_tick": session.queue.known_tick,
    }
    return Ask(session, "resume", arguments, "queue_page", None)


def page(world: World, session: Session, found: rows.ResumePage) -> CatchUp:
    """A page as an update. With the last one the session is live from this moment on."""
    parts = tuple(
        part
        for part in (part_of(session, changed, session.since) for changed in found.items)
        if part is not None
    )
    full = session.full
    session.full = False
    token, live = advance(world, session, found)
    return CatchUp(parts=parts, token=token, live=live, full=full)


def advance(world: World, session: Session, found: rows.ResumePage) -> tuple[str, bool]:
    """Move the session past a page: its token, and whether it was the last, and the session is live now."""
    first_of_pass = not session.cursor
    if found.cursor:
        session.cursor = found.cursor
        token = f"{world.prefix}{session.since}:{found.cursor}"
    else:
        session.since, session.cursor = found.tick, ""
        token = f"{world.prefix}{found.tick}"
    live = first_of_pass and not found.cursor  # a pass of several pages may have been overtaken
    session.page_token, session.page_coming = token, False
    if live and session.state == "behind":
        session.state = "live"
        session.pushed = True
    return token, live


def ack_page(world: World, session: Session, command: commands.AckPage) -> None:
    """The page is stored; the next may come."""
    if command.token != session.page_token:
        raise Refused(Code.INVALID, "this is not the token of the last page")
    if session.state == "behind" and not session.page_coming:
        session.page_coming = True
        ask_page(world, session)
    world.done(session, command.rid)


# -- statistics (R9)


def ask_statistics(world: World, session: Session) -> None:
    """The first device that comes back is told what was answered meanwhile."""
    user = session.user
    assert user.row is not None
    user.owed = True
    arguments = {"app": session.app.id, "user": user.name, "since": user.row.statistics_tick}
    purpose = "statistics" if session.queue is None else "queue_summary"
    world.tick.outbox.append(Ask(session, "statistics", arguments, purpose, None))


def statistics(
    world: World, session: Session, found: list[tuple[ConversationId, Seq, int, int]]
) -> list[Update]:
    """What storage found: one update, more only if it does not fit a frame. The last one, which is
    acknowledged, stands for all; nothing when nothing was answered."""
    if not found:
        session.user.owed = False
    starts = range(0, len(found), STATISTICS_PER_FRAME)
    return [
        ReadStatistics(
            counts=tuple(line[:3] for line in found[start : start + STATISTICS_PER_FRAME]),
            through=world.committed_tick if start == starts[-1] else 0,
        )
        for start in starts
    ]


STATISTICS_PER_FRAME = 3000
"""With the longest names of conversations, half of what a frame may have."""


def ack_statistics(world: World, session: Session, command: commands.AckStatistics) -> None:
    """It has arrived and will not come again."""
    user = session.user
    assert user.row is not None
    if user.row.statistics_tick < command.through <= world.tick_number:
        world.touch_user(user, user.row._replace(statistics_tick=command.through))
        user.owed = False
        queues.summary_arrived(world, session)
    world.done(session, command.rid)


# -- what a user may see of a conversation


def part_of(session: Session, changed: rows.Changed, since: int) -> ConversationPart | None:
    """Rows as a part of state, as far as this session may know; None when there is nothing for it.

    Who has left a group hears no more of it than live: of the own leaving, of the end of messages and of the
    group's own, and what concerns messages that were theirs to read.
    """
    me = session.user.name
    row = changed.row
    mine = codec.load_member(changed.mine)
    period = mine.period
    last = changed.head if period is None or period.through is None else min(period.through, changed.head)
    members: dict[UserId, MemberPart] = {}
    for one in changed.members:
        if one.user == me or mine.joined:  # of others the store gives only what may be shown (its rule 4)
            members[one.user] = _member_part(one.user, codec.load_member(one), me)
    direct = direct_members(row.conversation) is not None
    for mark in changed.marks:
        # 0: of others only what they read in private, or wrote; the messages themselves tell that.
        if mark.user == me or (direct and codec.shared_tick(mark) > max(since, 0)):
            known = members.get(mark.user) or MemberPart(user=mark.user)
            members[mark.user] = _with_marks(known, codec.user_marks(mark), session)
    seen = RangeSet(through(last))
    # What was recalled since the first page of the conversation is said where its message would stand: else
    # there would be a hole until the next pass, and a hole counts as unread.
    recalled = RangeSet(seen.within(changed.recalled))
    for message in changed.messages:
        if message.recalled_tick:
            recalled.add(message.seq, message.seq + 1)
    # Whose own membership has changed may be new here: what the group is called comes along.
    new = row.tick > since or codec.shared_tick(changed.mine) > since
    registers = _registers(codec.unpack_registers(row.registers), mine.joined) if new else ()
    gone = row.tick > since and (mine.joined or bool(registers or row.expired_through))
    part = ConversationPart(
        conversation=row.conversation,
        kind=ConversationKind.DIRECT if direct else ConversationKind.GROUP,
        head=last,
        messages=tuple(
            codec.message(row.conversation, one) for one in changed.messages if not one.recalled_tick
        ),
        first_seq=changed.first_seq,
        recalled=recalled.ranges,
        uncounted=seen.within(changed.uncounted),
        expired_through=row.expired_through,
        receipts_expired_through=row.receipts_expired_through,
        registers=registers,
        members=tuple(members[user] for user in sorted(members)),
        asked=tuple(
            _asked_part(ask, changed.receipts, me)
            for ask in changed.asks
            if ask.seq <= last and _concerns(ask, changed.receipts, me, since)
        ),
    )
    empty = not (part.messages or part.recalled or part.members or part.asked or gone)
    return None if empty and since >= 0 else part


def _member_part(user: UserId, member: Member, me: UserId) -> MemberPart:
    own = user == me
    registers = tuple(
        RegisterPart(register=register, version=version, value=content)
        for register, (version, content) in sorted(member.registers.items())
        if own or register is Register.ROLE
    )
    part = MemberPart(user=user, periods=tuple(sorted(member.periods.items())), registers=registers)
    if not own:
        return part
    return MemberPart(
        user=user,
        periods=part.periods,
        registers=registers,
        cleared_through=member.cleared_through,
        sharing=member.sharing,
        unread_mark=member.unread_mark,
    )


def _with_marks(part: MemberPart, marks: Member, session: Session) -> MemberPart:
    """Own: what I read and this device holds. A peer's: what was shared, deliveries if asked for."""
    own = part.user == session.user.name
    held = marks.devices.get(session.device) if own else None
    return MemberPart(
        user=part.user,
        read=marks.read.ranges if own else EMPTY,
        read_shared=EMPTY if own else marks.read_shared.ranges,
        delivered_shared=marks.delivered_shared.ranges if session.delivery and not own else EMPTY,
        held=held.ranges if held is not None else EMPTY,
        periods=part.periods,
        cleared_through=part.cleared_through,
        registers=part.registers,
        sharing=part.sharing,
        unread_mark=part.unread_mark,
        advances=() if own else tuple(marks.advances),
    )


def _registers(
    registers: Mapping[Register, tuple[Version, RegisterValue]], joined: bool = True
) -> tuple[RegisterPart, ...]:
    return tuple(
        RegisterPart(register=register, version=version, value=content)
        for register, (version, content) in sorted(registers.items())
        if joined or register is Register.DELETED
    )


def _concerns(ask: rows.AskRow, receipts: list[rows.GroupReceiptRow], me: UserId, since: int) -> bool:
    """To its author every answer is news, to a reader only the own one."""
    return ask.author == me or any(
        receipt.reader == me and receipt.seq == ask.seq and receipt.tick > since for receipt in receipts
    )


def _asked_part(ask: rows.AskRow, receipts: list[rows.GroupReceiptRow], me: UserId) -> AskedPart:
    """The author sees all readers; others see their own answer."""
    return AskedPart(
        seq=ask.seq,
        author=ask.author,
        readers=tuple(
            Reader(receipt.reader, receipt.at_ms, receipt.content, receipt.version)
            for receipt in receipts
            if receipt.seq == ask.seq and me in (ask.author, receipt.reader)
        ),
    )


def tell_newcomers(world: World, chat: Chat, users: Iterable[UserId]) -> None:
    """Give those who were just let into a group its state: no messages, all members."""
    conversation = chat.conversation
    here = [user for user in map(chat.app.users.get, users) if user is not None and user.sessions]
    if not here:
        return
    parts = {
        name: _member_part(name, member, "") for name, member in sorted(conversation.members.items())
    }  # made once: a group of thousands may come in at once
    for user in here:
        own = _member_part(user.name, conversation.members[user.name], user.name)
        part = ConversationPart(
            conversation=chat.id,
            kind=conversation.kind,
            head=conversation.head,
            first_seq=conversation.head + 1,
            recalled=conversation.recalled.ranges,
            uncounted=conversation.uncounted.ranges,
            expired_through=conversation.expired_through,
            receipts_expired_through=conversation.receipts_expired_through,
            registers=_registers(conversation.registers),
            members=tuple({**parts, user.name: own}.values()),
        )
        world.tell(chat.app, (user.name,), part)
