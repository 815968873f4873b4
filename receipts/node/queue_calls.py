"""What devices say that keep nothing themselves, and what they are given when they come back. PURE.

That a frame was acknowledged is written down with other rows, at the latest with the next sweep; only which
messages a device holds, and that a page of what it had missed has arrived, is written at once. What was not
written when the node died is told again, under the same ids.

Arrival is not delivery: whether the sender is told is for the device to say (`Deed.DELIVER`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from receipts.core import decide
from receipts.core.errors import Code, Refused
from receipts.core.ids import ConversationId, MessageId, Seq, direct_members
from receipts.core.ranges import EMPTY, Ranges, RangeSet
from receipts.storage import base as rows
from receipts.storage import codec
from receipts.wire import commands
from receipts.wire.updates import Reader

from . import catchup, marks, messages, queues
from .queued import (
    AckQueue,
    Answered,
    Deed,
    Heard,
    Item,
    Level,
    QueuePage,
    ReadUpTo,
    Recalled,
    Received,
    Summary,
    ToMessage,
)
from .queues import Known, Queue
from .world import Chat, Session, World

__all__ = ["ANSWERS", "ack_queue", "read_up_to", "seq_of", "to_message"]

# -- what arrived


def ack_queue(world: World, session: Session, command: AckQueue) -> None:
    """Frames have arrived."""
    queue = _queue(session)
    found = [(one, *_known(world, session, queue, one.conversation)) for one in command.heard]
    for one, chat, known in found:  # all that is needed is there: now things change
        if one.held:
            _hold(world, session, chat, one.held)
        queues.note(world, session, chat.key, known, one)
    if command.page and command.page == session.page_token:
        _page_arrived(world, session, queue, command.page)
    if command.through > _tick_of(queue.position) and session.state == "live":
        queues.move(world, session, str(command.through))
    world.done(session, command.rid)


def _queue(session: Session) -> Queue:
    if session.queue is None:
        raise Refused(Code.INVALID, "this device keeps its own state")
    return session.queue


def _known(world: World, session: Session, queue: Queue, conversation: ConversationId) -> tuple[Chat, Known]:
    chat = world.chat(session, conversation)
    known = queue.told.get(chat.key)
    if known is None:
        row = world.ask("told", chat.key, session.user.name, session.device)
        known = queue.told[chat.key] = Known(row.told if row is not None else None)
    return chat, known


def _hold(world: World, session: Session, chat: Chat, ranges: Ranges) -> None:
    limit = session.app.limits.gaps_max
    try:
        event = decide.deliver(
            chat.conversation, session.user.name, session.device, ranges, sharing=False, gaps_max=limit
        )
    except Refused:
        return  # no longer in it, or too many gaps: it may be given once more
    if event is not None:
        chat.conversation.apply(event)
        world.touch_marks(chat, session.user.name, False)


def _page_arrived(world: World, session: Session, queue: Queue, token: str) -> None:
    if session.state == "live":
        _caught_up(queue)
    queues.move(world, session, token.partition(":")[2])
    world.tick.writes = True
    if session.state == "behind" and not session.page_coming:
        session.page_coming = True
        catchup.ask_page(world, session)


def _caught_up(queue: Queue) -> None:
    """It has all there was, up to what a summary tells: if that is lost, it comes back as it was."""
    if not queue.summed_up:
        queue.start = rows.Start.KNOWN


def _tick_of(position: str) -> int:
    return int(position.partition(":")[0])


# -- what is said of messages that are known by their ids


def seq_of(world: World, chat: Chat, message_id: int) -> Seq:
    """The message with an id; 0 when there is none.

    Raises:
        Missing: Storage has to be asked.
    """
    recent = chat.recent
    for seq in reversed(recent):  # receipts are mostly for the newest
        found = recent[seq].message_id
        if found <= message_id:
            return seq if found == message_id else 0
    seq = world.ask("seq_of", chat.key, message_id)
    return seq if isinstance(seq, int) else 0


def _chat(world: World, session: Session, conversation: ConversationId) -> Chat:
    """Unlike others, these devices are told that there is a group which they are not in.

    Raises:
        Refused: `unknown_conversation`, `not_a_member`.
    """
    chat = world.find_chat(session.app, conversation)
    if chat is None or chat.dissolved:
        raise Refused(Code.UNKNOWN_CONVERSATION, f"there is no conversation {conversation!r}")
    if session.user.name not in chat.conversation.members:
        raise Refused(Code.NOT_A_MEMBER, f"you are not in {conversation!r}")
    return chat


def to_message(world: World, session: Session, command: ToMessage) -> None:
    """A receipt or a recall, of one message."""
    conversation, rid = command.conversation, command.rid
    chat = _chat(world, session, conversation)
    seq = seq_of(world, chat, command.message_id)
    if not 0 < seq <= chat.conversation.head:
        raise Refused(Code.UNKNOWN_MESSAGE, f"there is no message {command.message_id} in {conversation!r}")
    if command.deed is Deed.DELIVER:
        marks.ack_delivered(world, session, commands.AckDelivered(rid, conversation, (seq, seq + 1)))
    elif command.deed is Deed.RECALL:
        recall = commands.RecallMessage(rid=rid, conversation=conversation, seq=seq)
        messages.recall(world, session, recall)
    else:
        # An answered question of a message that asked is answered in words, were they none: else a message
        # that did not ask would be taken for one.
        version = chat.conversation.members[session.user.name].unread_mark.version
        read = commands.ReadMessages(rid, conversation, (seq, seq + 1), command.content, mark_version=version)
        known = _known(world, session, _queue(session), conversation)[1]
        marks.read_messages(world, session, read)
        _note_cleared(world, session, chat, known)


def read_up_to(world: World, session: Session, command: ReadUpTo) -> None:
    """A conversation receipt (scene 24). It clears an unread mark: these devices know of none, but show the
    count that is in it."""
    queue = _queue(session)
    try:
        chat = _chat(world, session, command.conversation)
    except Refused:
        if direct_members(command.conversation) is None:
            raise
        world.done(session, command.rid)  # nothing was said between the two yet
        return
    last = command.written
    if last < chat.conversation.head:
        login_head = queue.heads.get(chat.key)
        if login_head is None:
            login_head = queue.heads[chat.key] = world.ask("head_at", chat.key, session.login_tick)
        last = max(last, login_head)
    known = _known(world, session, queue, chat.id)[1]
    version = chat.conversation.members[session.user.name].unread_mark.version
    read = commands.ReadConversation(command.rid, chat.id, last, mark_version=version)
    marks.read_conversation(world, session, read)
    _note_cleared(world, session, chat, known)


def _note_cleared(world: World, session: Session, chat: Chat, known: Known) -> None:
    """The device that has read all need not be told that all was read."""
    if chat.pair is not None and not chat.conversation.unread(session.user.name):
        queues.note(world, session, chat.key, known, Heard(chat.id, cleared=chat.conversation.head))


# -- what waits for a device that comes back


def _page(world: World, session: Session, context: None, found: rows.ResumePage) -> list[Any]:
    """What storage found. An empty page needs no acknowledgement: the next one is fetched at once."""
    queue = _queue(session)
    items: list[Item] = []
    for changed in found.items:
        items += _items(world, session, queue, changed)
    token, live = catchup.advance(world, session, found)
    if items:
        return [QueuePage(tuple(items), token, live)]
    if live:
        _caught_up(queue)
        queues.move(world, session, token.partition(":")[2])
        return [QueuePage((), token, live)]
    session.page_coming = True
    return [catchup.page_fetch(session)]


def _items(world: World, session: Session, queue: Queue, changed: rows.Changed) -> list[Item]:
    items: list[Item] = [*_messages(session, queue, changed)]
    owed = changed.owed
    if owed is None:
        return items
    key = changed.row.key
    known = queue.told.get(key)
    if known is None:
        known = queue.told[key] = Known(owed.told)
    items += [
        Recalled(
            changed.row.conversation, row.seq, MessageId(row.message_id), row.recalled_by, row.recalled_ms
        )
        for row in owed.recalled
    ]
    if owed.peer:
        items += _received(world, session, queue, changed, owed, known)
    else:
        items += _answered(world, session, queue, changed, owed, known)
    return items


def _messages(session: Session, queue: Queue, changed: rows.Changed) -> list[Item]:
    """Without those that the device sent itself, and what the user wrote before the device was known."""
    me, device = session.user.name, session.device
    return [
        codec.message(changed.row.conversation, row)
        for row in changed.messages
        if not row.recalled_tick
        and not (row.author == me and (row.device == device or _is_old(queue, row.tick)))
    ]


def _is_old(queue: Queue, tick: int) -> bool:
    """Whether something is from before a device that is new became known."""
    return queue.start != rows.Start.KNOWN and tick <= queue.known_tick


def _received(
    world: World,
    session: Session,
    queue: Queue,
    changed: rows.Changed,
    owed: rows.Owed,
    known: Known,
) -> list[Item]:
    conversation, peer, at_ms = changed.row.conversation, owed.peer, world.now_ms
    items: list[Item] = []
    settled, cleared = RangeSet(owed.settled), 0
    for level, ranges in ((Level.DELIVERED, owed.delivered), (Level.READ, owed.read)):
        ids = _own_ids(owed, ranges)
        if not ids:  # all of it the peer's own messages, or recalled ones
            settled.update(ranges)
        elif level is Level.READ and owed.all_read and owed.by_conversation:
            # Not the head: messages behind this pass, and that they are read, come with the next one.
            items.append(Received(conversation, peer, Level.ALL_READ, ranges, (), ranges[-1] - 1, at_ms))
        else:
            items.append(Received(conversation, peer, level, ranges, ids, ranges[-1] - 1, at_ms))
    if owed.seen_through > known.cleared:
        if queue.start == rows.Start.KNOWN:
            last = owed.seen_through
            items.append(Received(conversation, session.user.name, Level.CLEARED, EMPTY, (), last, at_ms))
        else:
            cleared = owed.seen_through
    both = settled.ranges
    queues.note(world, session, changed.row.key, known, Heard(conversation, EMPTY, both, both, cleared))
    return items


def _own_ids(owed: rows.Owed, ranges: Ranges) -> tuple[MessageId, ...]:
    wanted = RangeSet(ranges)
    return tuple(MessageId(row.message_id) for row in owed.own if row.seq in wanted and not row.recalled_tick)


def _answered(
    world: World, session: Session, queue: Queue, changed: rows.Changed, owed: rows.Owed, known: Known
) -> list[Item]:
    """Answers to the user's own messages: those that no summary tells."""
    items: list[Item] = []
    conversation, ids = changed.row.conversation, {row.seq: row for row in owed.own}
    settled = summed_up = 0
    for ask in changed.asks:
        row = ids.get(ask.seq)
        if row is None or row.recalled_tick:
            continue
        receipts = sorted((r for r in changed.receipts if r.seq == ask.seq), key=lambda r: r.version)
        new: list[Reader] = []
        for receipt in receipts:
            version, tick = receipt.version, receipt.tick
            if _is_old(queue, tick) and (
                queue.start == rows.Start.FIRST or version <= owed.answered_elsewhere
            ):
                settled = max(settled, version)
            elif queue.summary_after is not None and queue.summary_after < tick <= session.login_tick:
                summed_up = max(summed_up, version)
            elif version > owed.answered:
                new.append(Reader(receipt.reader, receipt.at_ms, receipt.content, version))
        if new:
            before = len(receipts) - len(new)
            items.append(Answered(conversation, ask.seq, MessageId(row.message_id), before, tuple(new)))
    if not items:  # else the last of them says it, once it has arrived
        key = changed.row.key
        if queue.has_summary:
            settled = max(settled, summed_up)
        queues.note(world, session, key, known, Heard(conversation, answered=settled))
        if summed_up and not queue.has_summary:
            queue.summed_up[key] = Heard(conversation, answered=summed_up)
    return items


def _summary(world: World, session: Session, context: None, found: list[Any]) -> list[Any]:
    """R9, with the ids of the messages."""
    if not found:
        session.user.owed = False
        _queue(session).has_summary = True
        return []
    counts = tuple(
        (conversation, seq, MessageId(message_id), readers)
        for conversation, seq, readers, message_id in found
    )
    size = catchup.STATISTICS_PER_FRAME
    starts = range(0, len(counts), size)
    last = starts[-1]
    return [
        Summary(counts[start : start + size], world.committed_tick if start == last else 0)
        for start in starts
    ]


ANSWERS: dict[str, Callable[[World, Session, Any, Any], Any]] = {
    "queue_page": _page,
    "queue_summary": _summary,
}
