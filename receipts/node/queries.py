"""Questions and their answers. PURE.

What memory knows is answered at once; the rest is fetched from storage, in outbox order, and made into an
answer by the function in `ANSWERS` under the fetch's purpose.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from receipts.core.conversation import Conversation
from receipts.core.errors import Code, Refused
from receipts.core.events import Register, Role
from receipts.core.explain import explain
from receipts.core.ids import ConversationId, ConversationKind, MessageId, Seq, UserId
from receipts.core.policy import RollUp
from receipts.core.ranges import EMPTY, RangeSet, ranges_of
from receipts.core.status import Unknown
from receipts.storage import base as rows
from receipts.storage import codec
from receipts.wire import commands
from receipts.wire.updates import (
    Badge,
    Conversations,
    DeviceStatus,
    Explained,
    History,
    MemberInfo,
    Members,
    MemberStatus,
    Pong,
    Reader,
    Readers,
    Statuses,
    Summary,
    Update,
)

from . import catchup
from .limits import take
from .marks import devices_since
from .world import Ask, Chat, Info, Session, World

__all__ = [
    "ANSWERS",
    "explain_unread",
    "fetch_history",
    "get_badge",
    "get_status",
    "list_conversations",
    "list_members",
    "list_readers",
    "ping",
]


def ping(world: World, session: Session, command: commands.Ping) -> None:
    """Still here."""
    world.answer(session, Pong(command.rid))


# -- fetched from storage


def fetch_history(world: World, session: Session, command: commands.FetchHistory) -> None:
    """What the user may read: their periods, above their floor; before the first one if history is open."""
    chat = world.chat(session, command.conversation)
    limits = session.app.limits
    take(session.user.buckets, "queries", limits, world.now_ms)
    conversation = chat.conversation
    ranges = codec.readable(
        conversation.members[session.user.name],
        conversation.head,
        conversation.expired_through,
        open_history=session.app.features.groups.open_history,
    )
    if command.before > 0:
        ranges = RangeSet(ranges).within((1, command.before)) if command.before > 1 else EMPTY
    limit = _limit(command.limit, limits.history_page_max)
    arguments = {"key": chat.key, "ranges": ranges, "limit": limit + 1}
    world.tick.outbox.append(Ask(session, "history", arguments, "history", (command.rid, chat.id, limit)))


def _history(
    world: World, session: Session, context: tuple[int, ConversationId, int], found: list[rows.MessageRow]
) -> Update:
    rid, conversation, limit = context
    given = _newest_that_fit(found[-limit:], session.app.limits.page_bytes_max)
    return History(
        rid=rid,
        conversation=conversation,
        messages=tuple(codec.message(conversation, row) for row in given if not row.recalled_tick),
        recalled=ranges_of(row.seq for row in given if row.recalled_tick),
        more=len(found) > len(given),
    )


def _newest_that_fit(found: list[rows.MessageRow], bytes_max: int) -> list[rows.MessageRow]:
    """As many of the newest as fit in a frame; at least one."""
    room = bytes_max
    for index in range(len(found) - 1, -1, -1):
        room -= len(found[index].body)
        if room < 0:
            return found[min(index + 1, len(found) - 1) :]
    return found


def list_conversations(world: World, session: Session, command: commands.ListConversations) -> None:
    """The latest first, with unread counts."""
    limits = session.app.limits
    if command.cursor and _CURSOR.fullmatch(command.cursor) is None:
        raise Refused(Code.INVALID, "this is not the cursor of a page; begin without one")
    take(session.user.buckets, "queries", limits, world.now_ms)
    arguments = {
        "app": session.app.id,
        "user": session.user.name,
        "cursor": command.cursor,
        "limit": _limit(command.limit, limits.conversations_page_max),
    }
    world.tick.outbox.append(Ask(session, "summaries", arguments, "conversations", command.rid))


_CURSOR = re.compile(r"[0-9]{1,18}\.[0-9]{1,18}")
"""What `Store.summaries` gives as cursors."""


def _conversations(
    world: World, session: Session, rid: int, found: tuple[list[rows.SummaryRows], str]
) -> Update:
    me = session.user.name
    items = []
    room = session.app.limits.page_bytes_max
    for summary in found[0]:
        chat = _counted(summary, me)
        member = chat.members[me]
        last = summary.last
        if last is not None and last.seq not in RangeSet(
            codec.readable(member, chat.head, chat.expired_through)
        ):
            last = None
        if last is not None:
            room -= len(last.body)
            if room < 0:  # long messages of a whole page do not fit a frame: the line stays, without it
                last = None
        name = chat.registers.get(Register.NAME)
        items.append(
            Summary(
                conversation=chat.id,
                kind=chat.kind,
                name=str(name[1]) if name is not None else "",
                head=chat.head,
                unread=chat.unread(me),
                marked_unread=chat.marked_unread(me),
                muted=_muted(chat, me),
                last=codec.message(chat.id, last) if last is not None else None,
            )
        )
    return Conversations(rid=rid, items=tuple(items), cursor=found[1])


def _counted(summary: rows.SummaryRows, user: UserId) -> Conversation:
    """As much of a conversation as a count takes."""
    chat = codec.load_shell(summary.row, summary.head, summary.recalled, summary.uncounted)
    member = chat.member(user)
    codec.unpack_member(member, summary.member)
    if summary.mark is not None:
        codec.unpack_marks(member, summary.mark)
    codec.fold(chat, summary.unfolded)
    return chat


def _muted(chat: Conversation, user: UserId) -> bool:
    known = chat.members[user].registers.get(Register.MUTED)
    return known is not None and bool(known[1])


def get_badge(world: World, session: Session, command: commands.GetBadge) -> None:
    """Over all conversations."""
    take(session.user.buckets, "queries", session.app.limits, world.now_ms)
    arguments = {"app": session.app.id, "user": session.user.name, "cursor": "", "limit": BADGE_MAX}
    world.tick.outbox.append(Ask(session, "summaries", arguments, "badge", command.rid))


BADGE_MAX = 100_000
"""Conversations of one user: no page, a badge is one number; 10 µs each."""


def _badge(world: World, session: Session, rid: int, found: tuple[list[rows.SummaryRows], str]) -> Update:
    me = session.user.name
    counts = {False: [0, 0], True: [0, 0]}
    for summary in found[0]:
        chat = _counted(summary, me)
        unread = chat.unread(me)
        apart = counts[_muted(chat, me)]
        apart[0] += unread
        apart[1] += bool(unread) or chat.marked_unread(me)
    (messages, conversations), (muted_messages, muted_conversations) = counts[False], counts[True]
    return Badge(
        rid=rid,
        messages=messages,
        conversations=conversations,
        muted_messages=muted_messages,
        muted_conversations=muted_conversations,
    )


def explain_unread(world: World, session: Session, command: commands.ExplainUnread) -> None:
    """The messages behind the user's own count."""
    chat = world.chat(session, command.conversation)
    take(session.user.buckets, "queries", session.app.limits, world.now_ms)
    explain_for(world, session, chat, session.user.name, command.after, command.limit, command.rid)


def explain_for(
    world: World, session: Session, chat: Chat, user: UserId, after: Seq, limit: int, rid: int
) -> None:
    """The messages behind a user's count, with their ids from storage."""
    most = _limit(limit, 1000)
    page = explain(chat.conversation, user, after=after, limit=most)
    arguments = {"key": chat.key, "seqs": page.seqs}
    context = (rid, chat.id, page, chat.conversation.marked_unread(user))
    world.tick.outbox.append(Ask(session, "messages", arguments, "explained", context))


def _explained(world: World, session: Session, context: Any, found: list[rows.MessageRow]) -> Update:
    rid, conversation, page, marked = context
    return Explained(
        rid=rid,
        conversation=conversation,
        unread=page.unread,
        marked_unread=marked,
        messages=tuple((row.seq, MessageId(row.message_id)) for row in found),
        more=page.more,
    )


def _page(world: World, session: Session, context: Any, found: rows.ResumePage) -> Update:
    return catchup.page(world, session, found)


def _statistics(
    world: World, session: Session, context: None, found: list[tuple[ConversationId, Seq, int, int]]
) -> list[Update]:
    return catchup.statistics(world, session, found)


ANSWERS: dict[str, Callable[[World, Session, Any, Any], Update | list[Update]]] = {
    "history": _history,
    "conversations": _conversations,
    "badge": _badge,
    "explained": _explained,
    "page": _page,
    "statistics": _statistics,
}


# -- from memory


def list_members(world: World, session: Session, command: commands.ListMembers) -> None:
    """A group with its current members, by name."""
    chat = world.member_chat(session, command.conversation)
    take(session.user.buckets, "queries", session.app.limits, world.now_ms)
    conversation = chat.conversation
    names = sorted(chat.members())
    limit = _limit(command.limit, 1000)
    rest = [name for name in names if name > command.after]
    infos = []
    for name in rest[:limit]:
        period = conversation.members[name].period
        role = chat.role(name) if chat.pair is None else Role.MEMBER
        infos.append(MemberInfo(user=name, role=role, from_seq=period.from_seq if period is not None else 1))
    world.answer(
        session,
        Members(
            rid=command.rid,
            conversation=chat.id,
            name=_text(conversation, Register.NAME),
            description=_text(conversation, Register.DESCRIPTION),
            count=len(names),
            members=tuple(infos),
            more=len(rest) > limit,
        ),
    )


def _text(chat: Conversation, register: Register) -> str:
    known = chat.registers.get(register)
    return str(known[1]) if known is not None else ""


def list_readers(world: World, session: Session, command: commands.ListReaders) -> None:
    """For the author of a message that asked: who has read it, and who has not (R10)."""
    chat = world.chat(session, command.conversation)
    seq = command.seq
    info = world.info(chat, seq)
    take(session.user.buckets, "queries", session.app.limits, world.now_ms)
    if chat.pair is not None:
        raise Refused(Code.INVALID, "one-to-one messages have a status; reader lists are of groups")
    info = _own_message(session, chat, seq, info)
    if not session.app.features.group_receipts:
        raise Refused(Code.FEATURE_OFF, "group receipts are switched off for this app")
    world.answer(session, _readers(session, chat, info.asks, command))


def _readers(session: Session, chat: Chat, asks: bool, command: commands.ListReaders) -> Readers:
    conversation, seq = chat.conversation, command.seq
    unknown = None
    if not asks:
        unknown = Unknown.NOT_ASKED
    elif seq in conversation.recalled:
        unknown = Unknown.RECALLED
    elif seq not in conversation.asked:
        unknown = Unknown.EXPIRED
    if unknown is not None:
        return Readers(
            rid=command.rid,
            conversation=chat.id,
            seq=seq,
            unknown=unknown,
            audience=0,
            count=0,
            readers=(),
            waiting=(),
            more=False,
        )
    receipts = conversation.asked[seq].readers
    audience = conversation.audience(seq)
    limit = _limit(command.limit, session.app.limits.readers_page_max)
    rest = [name for name in audience if name > command.after]
    read, waiting = [], []
    given, room = 0, session.app.limits.page_bytes_max
    for name in rest[:limit]:
        if room < 0:
            break
        given += 1
        left = not conversation.members[name].joined
        if name in receipts:
            receipt = receipts[name]
            read.append(Reader(name, receipt.at_ms, receipt.content, receipt.version, left))
            room -= len(receipt.content)
        elif conversation.is_read(seq, name) is False:
            waiting.append(Reader(name, 0, "", 0, left))
    return Readers(
        rid=command.rid,
        conversation=chat.id,
        seq=seq,
        unknown=None,
        audience=len(audience),
        count=len(receipts),
        readers=tuple(read),
        waiting=tuple(waiting),
        more=len(rest) > given,
    )


def get_status(world: World, session: Session, command: commands.GetStatus) -> None:
    """For the author: how far messages came, member by member; one-to-one device by device as well."""
    chat = world.chat(session, command.conversation)
    limits = session.app.limits
    if len(command.seqs) > limits.detail_ids_max:
        limit = limits.detail_ids_max
        raise Refused(Code.TOO_MANY, f"at most {limit} messages are named in one query", limit=limit)
    infos = world.infos(chat, command.seqs)
    me = session.user.name
    since = {name: _since(world, chat, name) for name in chat.pair or () if name != me}
    take(session.user.buckets, "queries", limits, world.now_ms)
    items: list[MemberStatus] = []
    for seq, info in infos.items():
        _own_message(session, chat, seq, info)
        for name in chat.conversation.audience(seq, me):
            items.append(_status(chat, seq, name, since.get(name, {})))
    if len(items) > STATUSES_MAX:
        reason = f"{len(items)} answers do not fit a frame: name fewer messages, or list the readers of one"
        raise Refused(Code.TOO_MANY, reason, limit=STATUSES_MAX)
    world.answer(session, Statuses(rid=command.rid, conversation=chat.id, items=tuple(items)))


STATUSES_MAX = 5000
"""Members times messages in one answer: a frame of JSON has room for so many of them with long names."""


def _own_message(session: Session, chat: Chat, seq: Seq, info: Info | None) -> Info:
    """How far a message came is for its author to know."""
    if info is None:
        if 1 <= seq <= chat.conversation.expired_through:
            raise Refused(Code.EXPIRED, f"#{seq} is no longer kept")
        raise Refused(Code.UNKNOWN_MESSAGE, f"there is no #{seq} in {chat.id!r}")
    if info.author != session.user.name:
        raise Refused(Code.NOT_PERMITTED, "only the author of a message sees how far it came")
    return info


def _since(world: World, chat: Chat, name: UserId) -> dict[str, Seq]:
    user = world.user(chat.app, name)
    return devices_since(world, chat, user) if user is not None else {}


def _status(chat: Chat, seq: Seq, name: UserId, since: dict[str, Seq]) -> MemberStatus:
    features = chat.app.features
    conversation = chat.conversation
    member = conversation.members[name]
    delivered = conversation.is_delivered(seq, name)
    read = conversation.is_read(seq, name)
    if conversation.kind is ConversationKind.GROUP and not features.group_receipts:
        read = Unknown.FEATURE_OFF
    devices: tuple[DeviceStatus, ...] = ()
    if not isinstance(delivered, Unknown):
        # A device may hold it and have declined to let others know (I-25): one alone tells nothing then.
        told = delivered or features.roll_up is RollUp.ALL
        devices = tuple(
            DeviceStatus(device, _held(member.devices.get(device) if told else None, seq, head))
            for device, head in sorted(since.items())
        )
    return MemberStatus(
        seq=seq,
        user=name,
        status=conversation.status(seq, name),
        delivered=delivered,
        read=read,
        read_at_ms=conversation.read_at(seq, name),
        devices=devices,
    )


def _held(held: RangeSet | None, seq: Seq, head: Seq) -> bool | None:
    """None: the device came later than the message and is not asked."""
    if held is not None and seq in held:
        return True
    return None if seq <= head else False


def _limit(asked: int, most: int) -> int:
    return max(1, min(asked, most))
