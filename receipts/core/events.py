"""What was decided: the only input of `Conversation.apply`.

An event carries its whole outcome (which seqs became read, which of them became shared, which version a
register has), so applying it never asks other state what it means; order and repeats cannot matter. Events
are made by `receipts.core.decide` on the side that decides, and only joined everywhere else.

Rule 1: sets only grow. Rule 2: of two values of a register the higher version stands. Rule 3: of two group
receipts of one reader the lower version stands (the first answer). Rule 4: what is recalled or expired
stays so. Every field that changes state follows one of them.

`conversation` is the id of the one that the event is about; another one refuses it (I-27).
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import TypeAlias, get_args

from .ids import ClientId, ConversationId, Counts, DeviceId, MessageId, Seq, Shares, UserId, Version
from .ranges import EMPTY, Ranges
from .value import value

__all__ = [
    "EVENT_TYPES",
    "Body",
    "By",
    "DeliveryMarked",
    "Event",
    "GroupReadMarked",
    "GroupReceiptsExpired",
    "HistoryCleared",
    "Joining",
    "MemberJoined",
    "MemberLeft",
    "MessageAccepted",
    "MessageRecalled",
    "MessagesExpired",
    "ReadMarked",
    "Register",
    "RegisterSet",
    "RegisterValue",
    "Role",
    "SharingChanged",
    "UnreadMarked",
]

Body: TypeAlias = str | bytes
"""What the application sends; never looked at."""


class By(IntEnum):
    """How a read was said; information for the application, not state."""

    UNSAID = 0
    CONVERSATION = 1
    MESSAGES = 2


class Role(StrEnum):
    """A member's standing in a group."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"


class Joining(StrEnum):
    """How one comes into a group."""

    INVITED = "invited"
    """Let in by somebody who may; nobody else finds it."""
    LISTED = "listed"
    """The same, but all users of the app find it."""
    ANYONE = "anyone"
    """All users of the app find it, and may come in by themselves."""


class Register(StrEnum):
    """Values of which only the newest counts. Those of a member, then those of the conversation."""

    ROLE = "role"
    MUTED = "muted"
    NAME = "name"
    DESCRIPTION = "description"
    DELETED = "deleted"
    """The group was dissolved: True, for good."""
    JOINING = "joining"
    """How one comes into a group (`Joining`); absent: by invitation."""
    INVITING = "inviting"
    """The least role that may let others into this group; absent: as the app's policy has it."""
    MEMBERS_MAX = "members_max"
    """How many members this group may have; absent: as many as the app's limit allows."""
    CREATED_MS = "created_ms"
    """When the group was opened, node time; absent where nobody asked for it to be kept."""
    CUSTOM = "custom"
    """Whatever the application keeps with a group; never looked at."""


RegisterValue: TypeAlias = str | bool | int | None


@value(kw_only=False)
class MessageAccepted:
    """The node took a message: it has a seq, an id, and (once told) a place on disk."""

    conversation: ConversationId
    seq: Seq
    message_id: MessageId
    author: UserId
    device: DeviceId = ""
    """The author's device that sent it, which therefore holds it; empty when not known."""
    at_ms: int = 0
    """Node time, milliseconds since 1970."""
    body: Body = ""
    counts: Counts = Counts.YES
    asks: bool = False
    """Whether the author asks the members of a group for read receipts."""
    shares: Shares = Shares.ALL
    """Which of the author's own shared sets take the author's own message in, so that they stay whole."""
    client_id: ClientId | None = None


@value(kw_only=False)
class DeliveryMarked:
    """A device holds these messages; `shared` of them newly count as delivered for others."""

    conversation: ConversationId
    member: UserId
    device: DeviceId
    held: Ranges
    shared: Ranges = EMPTY
    withheld: Ranges = EMPTY
    """Of `held`: those that the device declined to tell of."""


@value(kw_only=False)
class ReadMarked:
    """A member read these messages; `shared` of them are for others to know."""

    conversation: ConversationId
    member: UserId
    device: DeviceId
    read: Ranges
    shared: Ranges = EMPTY
    held: Ranges = EMPTY
    """What the device thereby holds: reading at once needs no acknowledgement of its own."""
    at_ms: int = 0
    version: Version = 0
    by: By = By.UNSAID
    through: Seq = 0
    """With `By.CONVERSATION`: the last message that was on screen, inclusive."""
    delivered: Ranges = EMPTY
    """What others may know as delivered by it, beside `shared`: in a group reading tells only who asked."""


@value(kw_only=False)
class GroupReadMarked:
    """A member answered a message that asked. The lowest version of a reader stands."""

    conversation: ConversationId
    seq: Seq
    member: UserId
    at_ms: int
    content: str
    version: Version


@value
class GroupReceiptsExpired:
    """Readers and contents of all asking messages up to and including `through` are gone for good."""

    conversation: ConversationId
    through: Seq


@value
class UnreadMarked:
    """A member's own overlay on counting: a flag, and seqs that count as unread again. Clearing it is
    one more version, with neither."""

    conversation: ConversationId
    member: UserId
    version: Version
    flagged: bool
    ranges: Ranges = EMPTY
    """Others' messages only: an own message is never unread (I-1)."""


@value
class MessageRecalled:
    """A message was taken back; its body is gone, its seq stays used."""

    conversation: ConversationId
    seq: Seq
    by: UserId
    at_ms: int = 0


@value
class MessagesExpired:
    """Retention took all messages up to and including `through`, their receipts with them."""

    conversation: ConversationId
    through: Seq


@value
class HistoryCleared:
    """A member emptied the conversation for themselves, up to and including `through`."""

    conversation: ConversationId
    member: UserId
    through: Seq


@value
class MemberJoined:
    """A membership period begins; what came before it is never unread (I-18)."""

    conversation: ConversationId
    member: UserId
    version: Version
    """Names the period."""
    from_seq: Seq
    """First message of the period, inclusive: head + 1 at the time."""


@value
class MemberLeft:
    """The period that began with version `joined` ends."""

    conversation: ConversationId
    member: UserId
    joined: Version
    through: Seq
    """Last message of the period, inclusive: the head at the time."""


@value
class SharingChanged:
    """A member's sharing of deliveries and of reads was switched.

    Switching on shares what happens from then on: messages up to and including `*_obscured_through` stay
    unknown for ever, read before or not, so that nothing of the past leaks (I-25).
    """

    conversation: ConversationId
    member: UserId
    version: Version
    delivered: bool
    read: bool
    delivered_obscured_through: Seq = 0
    read_obscured_through: Seq = 0


@value
class RegisterSet:
    """A register got a value. `member` is None for a register of the conversation itself."""

    conversation: ConversationId
    member: UserId | None
    register: Register
    version: Version
    value: RegisterValue


Event: TypeAlias = (
    MessageAccepted
    | DeliveryMarked
    | ReadMarked
    | GroupReadMarked
    | GroupReceiptsExpired
    | UnreadMarked
    | MessageRecalled
    | MessagesExpired
    | HistoryCleared
    | MemberJoined
    | MemberLeft
    | SharingChanged
    | RegisterSet
)

EVENT_TYPES: tuple[type, ...] = get_args(Event)
