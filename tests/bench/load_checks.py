"""What a load generator expects of a node: every update, its place, its content, and the counts in the end.

No sockets and no clock: a `Sender` and a `Receiver` are one end each of a conversation of two, an `Asker` and
a `Reader` of a group in which one member asks for receipts. They say what to send and judge all that comes
back; anything out of place is `Wrong`, and the run is worth nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from receipts.core.events import By, MessageAccepted
from receipts.core.ids import ConversationId, UserId
from receipts.wire import commands
from receipts.wire.updates import Accepted, Badge, Conversations, Delivered, Explained, GroupRead, Read

__all__ = [
    "BODY_CHARACTERS",
    "Asker",
    "End",
    "Reader",
    "Receiver",
    "Sender",
    "Wrong",
    "body_of",
    "judge_count",
]

BODY_CHARACTERS = 100


class Wrong(Exception):
    """The node said something that it must not say here."""


def body_of(number: int) -> str:
    """The text of a message, which names it."""
    return f"{number:0{BODY_CHARACTERS}d}"


class End(Protocol):
    """One user's end of one conversation."""

    user: UserId
    conversation: ConversationId

    def take(self, tick: int, update: Any) -> list[commands.Command]:
        """Judge an update and say what to answer.

        Raises:
            Wrong: It has no place here.
        """

    @property
    def unread(self) -> dict[int, int]:
        """What must be unread for this user now: message ids by seq."""


class _Ticks:
    """The tick of an update never goes back on one link."""

    __slots__ = ("tick",)

    def __init__(self) -> None:
        self.tick = 0

    def see(self, tick: int) -> None:
        if tick < self.tick:
            raise Wrong(f"tick {tick} after tick {self.tick}")
        self.tick = tick


class Sender(_Ticks):
    """Writes all messages of a conversation, and hears of each that it was taken, delivered and read."""

    __slots__ = (
        "accepted",
        "began",
        "conversation",
        "delivered",
        "left",
        "message_id",
        "peer",
        "read",
        "sent",
        "user",
        "version",
    )

    def __init__(self, user: UserId, peer: UserId, conversation: ConversationId) -> None:
        super().__init__()
        self.user = user
        self.peer = peer
        self.conversation = conversation
        self.sent = self.accepted = self.delivered = self.read = 0
        """How many messages came how far; all of them are in order, so these are seqs too."""
        self.message_id = self.version = 0
        self.left = 0
        """How many of the newest messages nobody reads."""
        self.began: deque[float] = deque()
        """When each message was sent, until its round is counted."""

    def send(self, now: float) -> commands.SendMessage:
        """The next message."""
        self.sent = number = self.sent + 1
        self.began.append(now)
        return commands.SendMessage(number, self.conversation, body_of(number), number)

    def take(self, tick: int, update: Any) -> list[commands.Command]:
        self.see(tick)
        kind = type(update)
        if kind is Read:
            self._read(update)
        elif kind is Delivered:
            self._delivered(update)
        elif kind is Accepted:
            self._accepted(update)
        else:
            raise Wrong(f"to {self.user} who sends: {update!r}")
        return []

    @property
    def settled(self) -> bool:
        """Whether all is heard of all messages."""
        return self.accepted == self.delivered == self.sent == self.read + self.left

    def finished(self) -> list[float]:
        """When the rounds began that have been finished since the last call."""
        return [self.began.popleft() for _ in range(self.read + len(self.began) - self.sent)]

    def _accepted(self, update: Accepted) -> None:
        number = self.accepted + 1
        if (
            not update.rid == update.number == update.seq == number <= self.sent
            or update.conversation != self.conversation
            or update.message_id <= self.message_id
        ):
            raise Wrong(f"after #{self.accepted} of {self.sent}: {update!r}")
        self.accepted = number
        self.message_id = update.message_id

    def _delivered(self, update: Delivered) -> None:
        self.delivered = self._advance(update, self.delivered, self.accepted)

    def _read(self, update: Read) -> None:
        self.read = self._advance(update, self.read, self.delivered)
        if update.version <= self.version:
            raise Wrong(f"version {update.version} after {self.version}: {update!r}")
        self.version = update.version
        if update.by is By.CONVERSATION and update.through != self.read:
            raise Wrong(f"read through #{self.read}, says {update!r}")

    def _advance(self, update: Delivered | Read, known: int, most: int) -> int:
        """One range, that begins where the last one ended and goes no further than it can."""
        ranges = update.ranges
        if (
            len(ranges) != 2
            or ranges[0] != known + 1
            or not known + 1 < ranges[1] <= most + 1
            or update.member != self.peer
            or update.conversation != self.conversation
        ):
            raise Wrong(f"after #{known} of {most}: {update!r}")
        return ranges[1] - 1

    @property
    def unread(self) -> dict[int, int]:
        return {}


class Receiver(_Ticks):
    """Gets all messages of a conversation; acknowledges and reads each, by one of the two reads in turn."""

    __slots__ = ("conversation", "held", "kept", "peer", "reads", "user")

    def __init__(self, user: UserId, peer: UserId, conversation: ConversationId) -> None:
        super().__init__()
        self.user = user
        self.peer = peer
        self.conversation = conversation
        self.held = 0
        self.reads = True
        """False: what comes is acknowledged and left unread."""
        self.kept: dict[int, int] = {}

    def take(self, tick: int, update: Any) -> list[commands.Command]:
        self.see(tick)
        seq = self.held + 1
        if (
            type(update) is not MessageAccepted
            or update.seq != seq
            or update.conversation != self.conversation
            or update.author != self.peer
            or update.body != body_of(seq)
        ):
            raise Wrong(f"to {self.user} who has #{self.held} of {self.peer}: {update!r}")
        self.held = seq
        named = (seq, seq + 1)
        delivered = commands.AckDelivered(0, self.conversation, named)
        if not self.reads:
            self.kept[seq] = update.message_id
            return [delivered]
        if seq & 1:
            return [delivered, commands.ReadMessages(0, self.conversation, named)]
        return [delivered, commands.ReadConversation(0, self.conversation, seq)]

    @property
    def unread(self) -> dict[int, int]:
        return self.kept


class Asker(_Ticks):
    """Asks a group for receipts, one message after the other, and counts who answered."""

    __slots__ = ("_began", "accepted", "conversation", "members", "readers", "sent", "user")

    def __init__(self, user: UserId, conversation: ConversationId, members: frozenset[UserId]) -> None:
        super().__init__()
        self.user = user
        self.conversation = conversation
        self.members = members
        """All but the asker."""
        self.sent = self.accepted = 0
        self._began: float | None = None
        self.readers: set[UserId] = set(members)
        """Of the message that was sent last."""

    @property
    def settled(self) -> bool:
        """Whether all have answered, and the newest message is taken."""
        return len(self.readers) == len(self.members) and self.accepted == self.sent

    def finished(self) -> list[float]:
        """When the round began, once after all have answered."""
        began = self._began
        if began is None or not self.settled:
            return []
        self._began = None
        return [began]

    def send(self, now: float, *, asks: bool = True) -> commands.SendMessage:
        """The next message; with `asks`, all have answered the one before."""
        self.sent = number = self.sent + 1
        if asks:
            self._began = now
            self.readers = set()
        return commands.SendMessage(number, self.conversation, body_of(number), number, asks=asks)

    def take(self, tick: int, update: Any) -> list[commands.Command]:
        self.see(tick)
        if type(update) is GroupRead:
            self._group_read(update)
        elif (
            type(update) is not Accepted or not update.seq == update.number == self.accepted + 1 <= self.sent
        ):
            raise Wrong(f"to {self.user} who asks, after #{self.accepted}: {update!r}")
        else:
            self.accepted += 1
        return []

    def _group_read(self, update: GroupRead) -> None:
        new = {reader.user for reader in update.readers}
        if (
            update.conversation != self.conversation
            or not update.seq == self.accepted == self.sent
            or not new
            or len(new) != len(update.readers)
            or not new <= self.members
            or new & self.readers
            or update.count != len(self.readers) + len(new)
        ):
            raise Wrong(f"after {len(self.readers)} readers of #{self.sent}: {update!r}")
        self.readers |= new

    @property
    def unread(self) -> dict[int, int]:
        return {}


class Reader(_Ticks):
    """Reads what is asked in a group."""

    __slots__ = ("asker", "conversation", "held", "kept", "user")

    def __init__(self, user: UserId, asker: UserId, conversation: ConversationId) -> None:
        super().__init__()
        self.user = user
        self.asker = asker
        self.conversation = conversation
        self.held = 0
        self.kept: dict[int, int] = {}

    def take(self, tick: int, update: Any) -> list[commands.Command]:
        self.see(tick)
        seq = self.held + 1
        if (
            type(update) is not MessageAccepted
            or update.seq != seq
            or update.conversation != self.conversation
            or update.author != self.asker
            or update.body != body_of(seq)
        ):
            raise Wrong(f"to {self.user} who has #{self.held} of {self.conversation}: {update!r}")
        self.held = seq
        if update.asks:
            return [commands.ReadMessages(0, self.conversation, (seq, seq + 1))]
        self.kept[seq] = update.message_id
        return []

    @property
    def unread(self) -> dict[int, int]:
        return self.kept


def judge_count(end: End, answer: Any) -> None:
    """Compare a count, asked in the end, with what was sent and read.

    Raises:
        Wrong: The two differ.
    """
    unread = end.unread
    match answer:
        case Badge():
            right = (answer.messages, answer.conversations) == (len(unread), int(bool(unread)))
        case Explained():
            right = answer.unread == len(unread) and dict(answer.messages) == unread and not answer.more
        case Conversations():
            counts = {item.conversation: item.unread for item in answer.items}
            right = counts.pop(end.conversation, None) == len(unread) and not any(counts.values())
        case _:
            right = False
    if not right:
        raise Wrong(f"{end.user} has {len(unread)} unread in {end.conversation}, the node says {answer!r}")
