"""Receipts and unread marks: what devices say of what they hold and what was read. PURE.

A mark that brings nothing new changes nothing and is told to nobody. Deliveries are never rate-limited;
a read over the limit stays with the client, where it merges with later ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from receipts.core import decide
from receipts.core.errors import Code, Refused
from receipts.core.events import By, GroupReadMarked, ReadMarked
from receipts.core.ids import DeviceId, Seq, Version
from receipts.core.policy import RollUp
from receipts.core.ranges import EMPTY, Ranges, RangeSet, count, ranges_of, seqs_of, through
from receipts.storage import base as rows
from receipts.wire import commands
from receipts.wire.updates import Delivered, Read, Reader, Rejected

from . import queues
from .limits import take
from .world import Chat, Missing, Need, Session, User, World

__all__ = ["ack_delivered", "devices_since", "mark_unread", "read_conversation", "read_messages", "roll_up"]


def ack_delivered(world: World, session: Session, command: commands.AckDelivered) -> None:
    """What the device owes for reliable delivery is the delivery receipt (R2)."""
    chat = world.chat(session, command.conversation)
    since = _since(world, session, chat)
    _deliver(world, session, chat, command.ranges, command.share, since)
    _answer_head(world, session, chat, command.rid, command.ranges[-1] - 1 if command.ranges else 0)


def _deliver(
    world: World,
    session: Session,
    chat: Chat,
    ranges: Ranges,
    share: bool,
    since: Mapping[DeviceId, Seq] | None,
) -> None:
    app, user = session.app, session.user
    features = app.features
    event = decide.deliver(
        chat.conversation,
        user.name,
        session.device,
        ranges,
        sharing=share and features.delivery_receipts,
        rule=features.roll_up,
        since=since,
        gaps_max=app.limits.gaps_max,
    )
    if event is not None:
        told = queues.foresee(world, chat, user.name, event) if world.queued else None
        chat.conversation.apply(event)
        world.touch_marks(chat, user.name, bool(event.shared))
        if event.shared and chat.pair is not None:
            _tell_delivered(world, chat, user, event.shared)
            if told is not None:
                queues.tell(world, chat, told)


def _since(world: World, session: Session, chat: Chat) -> dict[DeviceId, Seq] | None:
    """What the rule 'all' asks about the user's devices; looked up before anything changes."""
    rule = session.app.features.roll_up
    return devices_since(world, chat, session.user) if rule is RollUp.ALL else None


def _tell_delivered(world: World, chat: Chat, user: User, shared: Ranges) -> None:
    """Groups record deliveries and push none; a session that did not ask is not told."""
    assert chat.pair is not None
    peer = chat.app.users.get(chat.pair[chat.pair[0] == user.name])
    if peer is None:
        return
    sessions = [session for session in peer.sessions if session.delivery]
    if sessions:
        world.tick.outbox.append((sessions, Delivered(chat.id, user.name, shared)))


def read_conversation(world: World, session: Session, command: commands.ReadConversation) -> None:
    """One frame for all unread (R3)."""
    chat = world.chat(session, command.conversation)
    since = _since(world, session, chat) if chat.pair is None else None
    take(session.user.buckets, "marks", session.app.limits, world.now_ms)
    if command.through > 0:
        _read(
            world,
            session,
            chat,
            through(command.through),
            command.share,
            By.CONVERSATION,
            command.through,
            command.mark_version,
            since,
        )
    _answer_head(world, session, chat, command.rid, command.through)


def read_messages(world: World, session: Session, command: commands.ReadMessages) -> None:
    """Messages by name (R5); in a group an answer to those that asked (R6)."""
    chat = world.chat(session, command.conversation)
    conversation = chat.conversation
    name = session.user.name
    content = command.content
    limits = session.app.limits
    if content is not None and len(content) > limits.content_characters_max:
        limit = limits.content_characters_max
        raise Refused(Code.INVALID, f"the content of a receipt may have {limit} characters", limit=limit)
    wanted = command.ranges
    if not wanted:
        world.done(session, command.rid)
        return
    if wanted[-1] > conversation.head + 1:
        wanted = RangeSet(through(conversation.head)).within(wanted)
    own = _own(world, chat, name, wanted)
    if own:
        wanted = RangeSet(own).missing(wanted)
    answers: list[GroupReadMarked] = []
    refused: list[tuple[Seq, Refused]] = []
    if chat.pair is not None:
        if content:
            raise Refused(Code.NOT_ASKED, "words go with group receipts alone")
    elif not conversation.members[name].joined:
        raise Refused(Code.NOT_A_MEMBER, f"you are no longer in {chat.id!r}")
    elif command.share and conversation.members[name].sharing.read:
        answers, refused = _judge_answers(world, session, chat, wanted, content)
    if answers and world.queued:
        queues.know_ids(world, chat, (answer.seq for answer in answers))
    since = _since(world, session, chat) if chat.pair is None else None
    take(session.user.buckets, "marks", limits, world.now_ms)
    world.version += len(answers)
    if refused:
        wanted = RangeSet(ranges_of(seq for seq, _ in refused)).missing(wanted)
    if wanted:
        _read(world, session, chat, wanted, command.share, By.MESSAGES, 0, command.mark_version, since)
    for answer in answers:
        _answer(world, chat, answer)
    if own or refused:  # one answer for all of them: what it does not name counts as done
        why = Refused(Code.OWN_MESSAGE, "a message is not read by its author; leave it out")
        if not own:
            why = refused[0][1]
        not_done = RangeSet(own)
        not_done.update(ranges_of(seq for seq, _ in refused))
        world.reject(session, command.rid, why, conversation=chat.id, ranges=not_done.ranges)
    else:
        _answer_head(world, session, chat, command.rid, command.ranges[-1] - 1)


def _own(world: World, chat: Chat, name: str, wanted: Ranges) -> Ranges:
    """Which of them the reader wrote."""
    recent = chat.recent
    if len(wanted) == 2 and wanted[1] - wanted[0] == 1:  # the usual one message
        info = recent.get(wanted[0])
        if info is not None:
            return wanted if info.author == name else EMPTY
    if count(wanted) <= rows.RECENT and all(seq in recent for seq in seqs_of(wanted)):
        own = RangeSet()
        for seq in seqs_of(wanted):
            if recent[seq].author == name:
                own.add(seq, seq + 1)
        return own.ranges
    wrote: Ranges = world.ask("authored", chat.key, name, wanted[0], wanted[-1])
    authored = RangeSet(wrote)
    for seq, info in recent.items():  # what is not committed yet
        if info.author == name:
            authored.add(seq, seq + 1)
    return authored.within(wanted)


def _judge_answers(
    world: World, session: Session, chat: Chat, wanted: Ranges, content: str | None
) -> tuple[list[GroupReadMarked], list[tuple[Seq, Refused]]]:
    """What answers those of the named messages that can be answered, and which cannot be; nothing changes
    yet. Versions of the answers are the next ones.

    With words every one has to have asked; without, those that asked are answered and the others just read.
    """
    conversation = chat.conversation
    asked = conversation.asked
    candidates: Iterable[Seq]
    if len(wanted) == 2 and wanted[1] - wanted[0] == 1:  # the usual one message
        seq = wanted[0]
        candidates = wanted[:1]
        if content is None and seq not in asked:
            info = world.info(chat, seq)
            if info is None or not info.asks:
                return [], []  # else its receipts have expired: to be told, not to be taken for a plain one
    elif content is not None:
        limit = chat.app.limits.detail_ids_max
        if count(wanted) > limit:
            raise Refused(Code.TOO_MANY, f"words go with at most {limit} messages at once", limit=limit)
        candidates = seqs_of(wanted)
    else:
        inside = RangeSet(wanted)
        candidates = [seq for seq in sorted(asked) if seq in inside]
    obscured = conversation.members[session.user.name].sharing.read_obscured_through
    answers: list[GroupReadMarked] = []
    refused: list[tuple[Seq, Refused]] = []
    for seq in candidates:
        try:
            answer = _judge_answer(world, session, chat, seq, content or "", world.version + 1 + len(answers))
        except Refused as reason:
            refused.append((seq, reason))
        else:
            if answer is not None and seq > obscured:
                answers.append(answer)
    return answers, refused


def _judge_answer(
    world: World, session: Session, chat: Chat, seq: Seq, content: str, version: Version
) -> GroupReadMarked | None:
    """None: the first answer stands, or it would tell nobody anything."""
    conversation = chat.conversation
    if seq not in conversation.asked:
        info = world.info(chat, seq)
        if info is None or not info.asks:
            raise Refused(Code.NOT_ASKED, f"#{seq} did not ask for receipts")
    if not session.app.features.group_receipts:
        raise Refused(Code.FEATURE_OFF, "group receipts are switched off for this app")
    return decide.answer(conversation, session.user.name, seq, content, at_ms=world.now_ms, version=version)


def _answer(world: World, chat: Chat, event: GroupReadMarked) -> None:
    chat.conversation.apply(event)
    tick, seq, reader = world.tick_number, event.seq, event.member
    world.new.receipts.append(
        rows.GroupReceiptRow(chat.key, seq, reader, event.version, event.at_ms, event.content, tick)
    )
    ask = chat.asks[seq]
    if ask.tick != tick:  # else it was touched by another answer
        world.touch_ask(chat, ask._replace(tick=tick))
    answer = Reader(reader, event.at_ms, event.content, event.version)
    world.group_reads.setdefault((chat, seq), []).append(answer)


def _read(
    world: World,
    session: Session,
    chat: Chat,
    ranges: Ranges,
    share: bool,
    by: By,
    last: Seq,
    mark_version: int,
    since: Mapping[DeviceId, Seq] | None,
) -> None:
    conversation = chat.conversation
    user = session.user
    name = user.name
    version = world.version + 1
    features = session.app.features
    event = decide.read(
        conversation,
        name,
        ranges,
        # A device that keeps nothing itself may mark as read what has not arrived yet.
        device=session.device if session.queue is None else "",
        sharing=share,
        at_ms=world.now_ms,
        version=version,
        by=by,
        last=last,
        delivers=features.delivery_receipts,
        rule=features.roll_up,
        since=since,
        gaps_max=session.app.limits.gaps_max,
    )
    if event is not None:
        told = queues.foresee(world, chat, name, event) if world.queued else None
        world.version = version
        conversation.apply(event)
        world.touch_marks(chat, name, bool(event.shared or event.delivered))
        _tell_read(world, session, chat, event)
        if told is not None:
            queues.tell(world, chat, told)
    if conversation.members[name].unread_mark:
        _unmark(world, session, chat, ranges, mark_version)


def _tell_read(world: World, session: Session, chat: Chat, event: ReadMarked) -> None:
    """To the own other devices what was read (R4), to the peer what was shared."""
    user = session.user
    last = event.through
    if event.read and len(user.sessions) > 1:
        echo = Read(chat.id, user.name, event.read, event.at_ms, event.version, event.by, last)
        world.tell(chat.app, (user.name,), echo, but=session)
        queues.tell_cleared(world, session, chat, event)
    if event.shared and chat.pair is not None:
        peer = chat.app.users.get(chat.pair[chat.pair[0] == user.name])
        if peer is not None and peer.sessions:
            read = Read(chat.id, user.name, event.shared, event.at_ms, event.version, event.by, last)
            world.tick.outbox.append((list(peer.sessions), read))


def _unmark(world: World, session: Session, chat: Chat, ranges: Ranges, known: int) -> None:
    """A receipt clears a mark only if the device knew it (scene 11)."""
    name = session.user.name
    event = decide.unmark(chat.conversation, name, ranges, known=known, version=world.version + 1)
    if event is not None:
        world.version += 1
        chat.conversation.apply(event)
        world.touch_member(chat, name, False)
        world.tell(chat.app, (name,), event)  # the asking device too: it has to learn the version


def mark_unread(world: World, session: Session, command: commands.MarkUnread) -> None:
    """A versioned overlay on counting; others see nothing."""
    chat = world.member_chat(session, command.conversation)
    conversation = chat.conversation
    name = session.user.name
    own: Ranges = EMPTY
    if command.from_seq is not None and 1 <= command.from_seq <= conversation.head:
        own = _own(world, chat, name, (command.from_seq, conversation.head + 1))
    take(session.user.buckets, "marks", session.app.limits, world.now_ms)
    if len(own) // 2 > session.app.limits.gaps_max:
        limit = session.app.limits.gaps_max
        raise Refused(Code.TOO_MANY_GAPS, f"more than {limit} own messages stand in between", limit=limit)
    event = decide.mark_unread(
        conversation, name, version=world.version + 1, from_seq=command.from_seq, own=own
    )
    world.version += 1
    conversation.apply(event)
    world.touch_member(chat, name, False)
    world.tell(session.app, (name,), event)
    world.done(session, command.rid)


# -- several devices


def devices_since(world: World, chat: Chat, user: User) -> dict[DeviceId, Seq]:
    """The user's devices now, each with the head of the conversation when it became known."""
    idle_ms = world.now_ms - chat.app.limits.device_idle_ms
    devices = [
        row
        for row in user.devices.values()
        if not row.removed and (row.seen_ms > idle_ms or user.online(row.device) is not None)
    ]
    needs = [Need("head_at", (chat.key, row.since_tick)) for row in devices]
    missing = [need for need in dict.fromkeys(needs) if need not in world.found]
    if missing:
        raise Missing(*missing)
    return {
        row.device: _head_at(chat, row.since_tick, world.found[need])
        for row, need in zip(devices, needs, strict=True)
    }


def _head_at(chat: Chat, tick: int, stored: Seq) -> Seq:
    """The head after a tick; storage may have been asked before its last messages were there."""
    for seq in reversed(chat.recent):
        if seq <= stored or chat.recent[seq].tick <= tick:
            return max(seq, stored)
    return stored


def roll_up(world: World, chat: Chat, user: User, since: Mapping[DeviceId, Seq]) -> None:
    """A device left: under the rule 'all' what only it did not hold counts as delivered now (scene 13).

    Args:
        since: As `devices_since`, of the devices that are left.
    """
    if not since or not chat.app.features.delivery_receipts:
        return
    event = decide.deliver_again(chat.conversation, user.name, min(since), since=since)
    if event is not None:
        chat.conversation.apply(event)
        world.touch_marks(chat, user.name, True)
        if chat.pair is not None:
            _tell_delivered(world, chat, user, event.shared)


def _answer_head(world: World, session: Session, chat: Chat, rid: int, last: Seq) -> None:
    """Applied up to the head; who said more is told where the head is (I-6)."""
    head = chat.conversation.head
    if last > head:
        world.tick.outbox.append(
            (
                session,
                Rejected(
                    rid=rid,
                    code=Code.BEYOND_HEAD,
                    reason=f"there is nothing after #{head} yet; up to there it was applied",
                    limit=head,
                    conversation=chat.id,
                    ranges=(head + 1, last + 1),
                ),
            )
        )
    else:
        world.done(session, rid)
