"""Devices that keep nothing themselves: the node keeps what they have been told. PURE.

A native device keeps its state and a token; it says what it holds and asks for what changed since. A vendor's
device has neither: it acknowledges frames. For each such device the node keeps how far it came
(`QueueRow`), which messages it holds (as for every device), and which receipts it was told (`ToldRow`). What
waits for it is not stored: it is the difference between the joined state and that, so what waited merges, and
no body is kept twice.

What lives here: that memory, and what is told live. What does not: what such devices say (`queue_calls`).
"""

from __future__ import annotations

from collections.abc import Iterable

from receipts.core.events import By, DeliveryMarked, ReadMarked
from receipts.core.ids import DeviceId, MessageId, Seq, UserId, Version
from receipts.core.ranges import EMPTY, Ranges, RangeSet, count, seqs_of, through
from receipts.storage import base as rows
from receipts.storage import codec
from receipts.wire.updates import Reader

from .queued import Answered, Heard, Level, Opened, Recalled, Received
from .world import Chat, Info, Session, User, World

__all__ = [
    "SLOT",
    "Known",
    "Queue",
    "begin",
    "foresee",
    "free_slot",
    "has_queue",
    "know_ids",
    "move",
    "note",
    "open_queue",
    "summary_arrived",
    "tell",
    "tell_answers",
    "tell_cleared",
    "tell_recalled",
]


class Queue:
    """A session's memory of what its device was told."""

    __slots__ = (
        "has_summary",
        "heads",
        "known_tick",
        "login_ms",
        "position",
        "start",
        "summary_after",
        "summed_up",
        "told",
    )

    def __init__(self, row: rows.QueueRow) -> None:
        self.position = row.position
        self.start = rows.Start(row.start)
        self.login_ms = row.login_ms
        self.known_tick = 0
        """When the device became known."""
        self.summary_after: int | None = None
        """A summary tells the answers after this tick and up to the login; None when there is none."""
        self.has_summary = False
        """Whether it has arrived, or there was nothing to tell."""
        self.summed_up: dict[int, Heard] = {}
        """By key, what is known once the summary has arrived."""
        self.told: dict[int, Known] = {}
        """By key, of conversations of which something was told on this link."""
        self.heads: dict[int, Seq] = {}
        """By key, the head at login, where that was asked."""


class Known:
    """What a device was told of one conversation."""

    __slots__ = ("answered", "cleared", "delivered", "read")

    def __init__(self, blob: bytes | None) -> None:
        self.delivered, self.read = RangeSet(), RangeSet()
        self.cleared: Seq = 0
        self.answered: Version = 0
        if blob is not None:
            delivered, read, self.cleared, self.answered = codec.unpack_told(blob)
            self.delivered.update(delivered)
            self.read.update(read)

    def join(self, told: Heard) -> bool:
        """Take in what was told; whether anything of it is new."""
        delivered, read = self.delivered.missing(told.delivered), self.read.missing(told.read)
        if not (delivered or read or told.cleared > self.cleared or told.answered > self.answered):
            return False
        self.delivered.update(delivered)
        self.read.update(read)
        self.cleared = max(self.cleared, told.cleared)
        self.answered = max(self.answered, told.answered)
        return True

    def pack(self) -> bytes:
        """As stored."""
        return codec.pack_told(self.delivered, self.read, self.cleared, self.answered)


# -- login

SLOT = "#"
"""A device name that ends so stands for any of the user's devices of that kind that is not there: for clients
that call themselves something else each time, and would else be forgotten and known anew for ever."""

SLOTS_MAX = 100


def free_slot(user: User, device: DeviceId) -> DeviceId:
    """The device that a session is to be."""
    if not device.endswith(SLOT):
        return device
    names = (f"{device}{number}" for number in range(1, SLOTS_MAX))
    return next((name for name in names if user.online(name) is None), f"{device}{SLOTS_MAX}")


def begin(world: World, user: User, device: DeviceId) -> Queue:
    """What is kept for a device, from its login on.

    Raises:
        Missing: Storage has to be asked; nothing has changed.
    """
    app = user.app
    row, others = world.ask("queue", app.id, user.name, device)
    row = world.queue_rows.get((app.id, user.name, device), row)
    login_ms = row.login_ms if row is not None else 0
    known = user.devices.get(device)
    if row is None or known is None or known.removed:
        start = rows.Start.ANOTHER if others or row is not None else rows.Start.FIRST
        row = rows.QueueRow(app.id, user.name, device, "0", start, 0)
    old = user.online(device)
    if old is not None and old.queue is not None:
        login_ms = max(login_ms, old.queue.login_ms)
    return Queue(row._replace(login_ms=max(world.now_ms, login_ms + 1)))


def open_queue(world: World, session: Session) -> None:
    """The session has logged in. That it has is written down, and what is not written yet, before anything
    is read for it."""
    queue = session.queue
    assert queue is not None
    move(world, session, queue.position)
    world.tick.writes = True
    world.answer(session, Opened(queue.login_ms, session.expires_ms))


def move(world: World, session: Session, position: str) -> None:
    """All up to a position has arrived; to be written with other rows. What a summary tells has not before
    that has: until then the device would come back to where it was."""
    queue = session.queue
    assert queue is not None
    if not queue.summed_up:
        queue.position = position
    app, user = session.app.id, session.user.name
    row = rows.QueueRow(app, user, session.device, queue.position, queue.start, queue.login_ms)
    world.queue_rows[app, user, session.device] = row


def note(world: World, session: Session, key: int, known: Known, told: Heard) -> None:
    """Receipts have arrived, or need not be told; to be written with other rows."""
    if known.join(told):
        name, device = session.user.name, session.device
        world.told_rows[key, name, device] = rows.ToldRow(key, name, device, known.pack())


def summary_arrived(world: World, session: Session) -> None:
    """The summary of what was answered in absence has arrived."""
    queue = session.queue
    if queue is not None:
        queue.has_summary = True
        for key, heard in queue.summed_up.items():
            note(world, session, key, queue.told[key], heard)
        queue.summed_up.clear()


# -- live


def has_queue(chat: Chat, user: UserId) -> User | None:
    """The user, if a device of theirs that is here keeps nothing itself."""
    found = chat.app.users.get(user)
    return found if found is not None and found.queued else None


def foresee(
    world: World, chat: Chat, reader: UserId, event: DeliveryMarked | ReadMarked | None
) -> Received | None:
    """What the peer's devices will be told of a receipt; None when none of them is here.

    Raises:
        Missing: The ids of the messages have to be looked up; nothing has changed.
    """
    if event is None or not event.shared or chat.pair is None:
        return None
    if has_queue(chat, chat.pair[chat.pair[0] == reader]) is None:
        return None
    shared = event.shared
    if isinstance(event, ReadMarked):
        level, at_ms = Level.READ, event.at_ms
        if event.by is By.CONVERSATION and _all_read(chat, reader, shared):
            return Received(chat.id, reader, Level.ALL_READ, shared, (), shared[-1] - 1, at_ms)
    else:
        level, at_ms = Level.DELIVERED, world.now_ms
    ids = _ids(world.infos(chat, seqs_of(shared)), reader)
    return Received(chat.id, reader, level, shared, ids, shared[-1] - 1, at_ms) if ids else None


def _ids(infos: dict[Seq, Info | None], reader: UserId) -> tuple[MessageId, ...]:
    return tuple(info.message_id for info in infos.values() if info is not None and info.author != reader)


def _all_read(chat: Chat, reader: UserId, shared: Ranges) -> bool:
    """Whether the peer may know all they wrote as read, with `shared`. What cannot be told at once counts as
    not: saying less is never wrong."""
    conversation = chat.conversation
    done = conversation.members[reader].read_shared.copy()
    for ranges in (shared, conversation.recalled.ranges, through(conversation.expired_through)):
        done.update(ranges)
    left = done.missing(through(conversation.head))
    recent = chat.recent
    return count(left) <= rows.RECENT and all(
        seq in recent and recent[seq].author == reader for seq in seqs_of(left)
    )


def tell(world: World, chat: Chat, received: Received) -> None:
    """Tell the peer what was foreseen."""
    assert chat.pair is not None
    peer = has_queue(chat, chat.pair[chat.pair[0] == received.member])
    assert peer is not None
    _push(world, peer, received)


def tell_cleared(world: World, session: Session, chat: Chat, event: ReadMarked) -> None:
    """Nothing is unread any more: the user's other devices are told (R4). Their frame says nothing less."""
    user = session.user
    if chat.pair is None or not user.queued or event.by is not By.CONVERSATION or not event.read:
        return
    conversation = chat.conversation
    if not conversation.unread(user.name):
        head = conversation.head
        cleared = Received(chat.id, user.name, Level.CLEARED, EMPTY, (), head, event.at_ms)
        _push(world, user, cleared, but=session)


def know_ids(world: World, chat: Chat, seqs: Iterable[Seq]) -> None:
    """Look up the ids of messages that are answered, where somebody has to be told them.

    Raises:
        Missing: Storage has to be asked; nothing has changed.
    """
    for seq in seqs:
        author = chat.conversation.asked[seq].author
        if author is not None and has_queue(chat, author) is not None:
            info = world.info(chat, seq)
            if info is not None:
                world.asked_ids[chat.key, seq] = info.message_id


def tell_answers(
    world: World, chat: Chat, author: User, seq: Seq, before: int, readers: tuple[Reader, ...]
) -> None:
    """Answers to a message, one by one with their counts."""
    message_id = world.asked_ids.get((chat.key, seq))
    if message_id is not None:  # else the device came in this very tick, and finds it in its pages
        _push(world, author, Answered(chat.id, seq, message_id, before, readers))


def tell_recalled(world: World, chat: Chat, users: list[UserId], recalled: Recalled, but: Session) -> None:
    """A message was taken back."""
    for name in users:
        user = has_queue(chat, name)
        if user is not None:
            _push(world, user, recalled, but=but)


def _push(
    world: World, user: User, update: Received | Answered | Recalled, *, but: Session | None = None
) -> None:
    sessions = [session for session in user.sessions if session.queue is not None and session is not but]
    if sessions:
        world.tick.outbox.append((sessions, update))
