"""What is said between the node and a session whose device keeps nothing itself (`queues`). PURE.

Such a device names messages by their ids alone, says nothing of what it holds, and knows no resume tokens. So
its dialect says more than the device did, and is told more than is in the updates of others: each receipt
comes with the ids of the messages that it is about. These commands and updates never go over a wire.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

from receipts.core.events import MessageAccepted
from receipts.core.ids import ConversationId, MessageId, Seq, UserId, Version
from receipts.core.ranges import EMPTY, Ranges
from receipts.core.value import value
from receipts.wire.updates import Reader

__all__ = [
    "AckQueue",
    "Answered",
    "Deed",
    "Heard",
    "Item",
    "Level",
    "Opened",
    "QueuePage",
    "Queued",
    "Queueing",
    "ReadUpTo",
    "Recalled",
    "Received",
    "Summary",
    "ToMessage",
]

# -- commands


class Deed(IntEnum):
    """What is done to a message that is named by its id."""

    DELIVER = 1
    READ = 2
    RECALL = 3


@value(kw_only=False)
class ToMessage:
    """As `AckDelivered`, `ReadMessages` or `RecallMessage`, of one message."""

    rid: int
    conversation: ConversationId
    message_id: int
    deed: Deed
    content: str | None = None


@value(kw_only=False)
class ReadUpTo:
    """As `ReadConversation`, by a device that cannot say what it had on screen: that is all up to the head
    when it logged in, or up to `written` if that is more."""

    rid: int
    conversation: ConversationId
    written: Seq
    """The last message of it that was written to the device since."""


@value(kw_only=False)
class Heard:
    """What a device has heard of a conversation by frames that it acknowledged."""

    conversation: ConversationId
    held: Ranges = EMPTY
    """Messages."""
    delivered: Ranges = EMPTY
    """Which of the user's messages are delivered; likewise read."""
    read: Ranges = EMPTY
    cleared: Seq = 0
    answered: Version = 0


@value
class AckQueue:
    """Something has arrived. With a rid answered by `Done`."""

    rid: int = 0
    heard: tuple[Heard, ...] = ()
    page: str = ""
    """Token of the page that has arrived as a whole with it."""
    through: int = 0
    """All of the ticks up to this one has arrived; 0 while that cannot be said."""


Queueing: TypeAlias = ToMessage | ReadUpTo | AckQueue

# -- updates


class Level(IntEnum):
    """What `Received` says of messages."""

    DELIVERED = 1
    READ = 2
    ALL_READ = 3
    """The peer has read all that the user wrote."""
    CLEARED = 4
    """The user has read all, on another device."""


@value(kw_only=False)
class Opened:
    """The session's queue: comes before `Welcome`."""

    login_ms: int
    """Node time of this login; higher at each of the device's logins."""
    expires_ms: int
    """When the token expires."""


@value(kw_only=False)
class Received:
    """Receipts of a one-to-one conversation."""

    conversation: ConversationId
    member: UserId
    """Whose receipt it is."""
    level: Level
    ranges: Ranges
    """What to note as told, once it is."""
    message_ids: tuple[MessageId, ...]
    """Of the user's messages among them; none with `ALL_READ` and `CLEARED`."""
    last: Seq
    """The last message that it reaches."""
    at_ms: int


@value(kw_only=False)
class Answered:
    """Answers to a message of the user's that asked (`GroupRead`)."""

    conversation: ConversationId
    seq: Seq
    message_id: MessageId
    before: int
    """Readers before these."""
    readers: tuple[Reader, ...]


@value(kw_only=False)
class Recalled:
    """A message was taken back."""

    conversation: ConversationId
    seq: Seq
    message_id: MessageId
    by: UserId
    at_ms: int


@value(kw_only=False)
class Summary:
    """What was answered in the user's absence (`ReadStatistics`)."""

    counts: tuple[tuple[ConversationId, Seq, MessageId, int], ...]
    """(conversation, message, its id, readers up to now)."""
    through: int
    """To be acknowledged with `AckStatistics`; 0 when more comes."""


Item: TypeAlias = MessageAccepted | Received | Answered | Recalled


@value(kw_only=False)
class QueuePage:
    """What the device missed, or some of it."""

    items: tuple[Item, ...]
    token: str
    """To be acknowledged with `AckQueue`, if there are items."""
    live: bool
    """Whether it was the last."""


Queued: TypeAlias = Opened | Received | Answered | Recalled | Summary | QueuePage
