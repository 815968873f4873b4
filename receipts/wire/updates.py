"""What a session is told. The other half of the conversation is in `commands`.

Where an update is just an event seen from outside, it is the event (`receipts.core.events`); what only has
to be said to clients is here. On the wire every update carries the tick it belongs to: the number of the
node's commit step, the same for all receivers. A live client's resume token is `Welcome.prefix` + tick.

Answers carry the `rid` of their command; everything else is pushed.
"""

from __future__ import annotations

from typing import TypeAlias, get_args

from receipts.core import events
from receipts.core.errors import Code
from receipts.core.events import By, Role
from receipts.core.ids import ConversationId, ConversationKind, DeviceId, MessageId, Seq, UserId, Version
from receipts.core.member import Advance, Period, Sharing, UnreadMark
from receipts.core.ranges import EMPTY, Ranges
from receipts.core.status import Status, Unknown
from receipts.core.value import value

__all__ = [
    "ANSWER_TYPES",
    "UPDATE_TYPES",
    "Accepted",
    "Answer",
    "AskedPart",
    "Badge",
    "CatchUp",
    "ConversationPart",
    "Conversations",
    "Delivered",
    "Device",
    "DeviceStatus",
    "Devices",
    "Done",
    "Explained",
    "Goodbye",
    "GroupRead",
    "History",
    "MemberInfo",
    "MemberPart",
    "MemberStatus",
    "Members",
    "Pong",
    "Read",
    "ReadStatistics",
    "Reader",
    "Readers",
    "RegisterPart",
    "Rejected",
    "Statuses",
    "Summary",
    "Update",
    "Welcome",
]

# -- pushed


@value(kw_only=False)
class Delivered:
    """Messages of mine newly count as delivered to `member` (R2)."""

    conversation: ConversationId
    member: UserId
    ranges: Ranges


@value(kw_only=False)
class Read:
    """`member` read these (R3, R5); when `member` is myself, another device of mine did (R4)."""

    conversation: ConversationId
    member: UserId
    ranges: Ranges
    """What is new: what was shared, or for own devices what was read."""
    at_ms: int = 0
    version: Version = 0
    by: By = By.UNSAID
    through: Seq = 0
    """With `By.CONVERSATION`: the last message that was on the reader's screen, inclusive."""


@value(kw_only=False)
class Reader:
    """One answer to a message that asked."""

    user: UserId
    at_ms: int
    content: str
    version: Version = 0
    left: bool = False
    """Whether the reader is no longer in the group; only in `Readers`."""


@value(kw_only=False)
class GroupRead:
    """New answers to a message of mine (R6–R8): one frame a tick, with all new readers."""

    conversation: ConversationId
    seq: Seq
    count: int
    """Readers up to now, these included."""
    readers: tuple[Reader, ...]


@value
class ReadStatistics:
    """What was answered while no device of mine was there (R9): totals, at each login until acknowledged."""

    counts: tuple[tuple[ConversationId, Seq, int], ...]
    """(conversation, message, readers up to now)."""
    through: int
    """To be acknowledged with `AckStatistics`."""


@value
class RegisterPart:
    """A register as it stands."""

    register: events.Register
    version: Version
    value: events.RegisterValue


@value
class MemberPart:
    """What changed of one member, as far as the receiver may know."""

    user: UserId
    read: Ranges = EMPTY
    """The receiver's own alone."""
    read_shared: Ranges = EMPTY
    delivered_shared: Ranges = EMPTY
    held: Ranges = EMPTY
    """What the receiver's own device holds."""
    periods: tuple[tuple[Version, Period], ...] = ()
    cleared_through: Seq = 0
    registers: tuple[RegisterPart, ...] = ()
    sharing: Sharing = Sharing()
    """The receiver's own alone."""
    unread_mark: UnreadMark = UnreadMark()
    """The receiver's own alone."""
    advances: tuple[Advance, ...] = ()


@value
class AskedPart:
    """Answers to one message that asked."""

    seq: Seq
    author: UserId
    readers: tuple[Reader, ...] = ()


@value
class ConversationPart:
    """What changed of one conversation; joining it into the replica is all that is needed. Pushed alone to
    somebody who was just let into a group."""

    conversation: ConversationId
    kind: ConversationKind
    head: Seq
    messages: tuple[events.MessageAccepted, ...] = ()
    """Rising; none for a recalled one."""
    first_seq: Seq = 1
    """In a full state: the lowest seq whose message is sent along; older ones come by history."""
    recalled: Ranges = EMPTY
    uncounted: Ranges = EMPTY
    expired_through: Seq = 0
    receipts_expired_through: Seq = 0
    registers: tuple[RegisterPart, ...] = ()
    members: tuple[MemberPart, ...] = ()
    asked: tuple[AskedPart, ...] = ()
    """Messages of the receiver's that asked, and asking messages of others without their readers."""


@value
class CatchUp:
    """A page of what changed while the session was away. Acknowledge with `AckPage(token)` once stored."""

    parts: tuple[ConversationPart, ...]
    token: str
    """Resume from here if the link is cut after this page."""
    live: bool
    """True on the last page: from now on updates come as they happen."""
    full: bool = False
    """True on the first page of a full state: drop what the replica holds."""


@value
class Goodbye:
    """The last word before the node closes a link."""

    code: Code
    reason: str
    retry_after_ms: int = 0


# -- answers


@value
class Welcome:
    """Logged in. Catch-up pages follow, at least one."""

    rid: int
    user: UserId
    device: DeviceId
    prefix: str
    """Of resume tokens: prefix + str(tick)."""
    full: bool
    """Whether the state comes from the beginning, because the resume token was absent or of another life."""
    node_time_ms: int
    heartbeat_ms: int
    """A session that is silent for twice this long is closed; send a `Ping` within."""
    number: int
    """The highest send number that the node knows under this install id; 0 for none."""
    group_receipts: bool = True
    """Feature switch of the app (R12)."""


@value(kw_only=False)
class Accepted:
    """The message is on disk (R1)."""

    rid: int
    conversation: ConversationId
    seq: Seq
    message_id: MessageId
    at_ms: int
    number: int


@value(kw_only=False)
class Done:
    """It is done, or was done before."""

    rid: int


@value
class Rejected:
    """It was not done (or, with ranges, not for these); nothing else is affected."""

    rid: int
    code: Code
    reason: str
    """One sentence: what is wrong and what to do."""
    retry_after_ms: int = 0
    """0: trying again as it is will not help."""
    limit: int | None = None
    """The number that was exceeded, or with `beyond_head` the head."""
    conversation: ConversationId | None = None
    ranges: Ranges = EMPTY
    """The messages that were refused, when others in the same command were not."""


@value
class History:
    """A page of messages, rising; recalled ones as markers without a body."""

    rid: int
    conversation: ConversationId
    messages: tuple[events.MessageAccepted, ...]
    recalled: Ranges
    more: bool
    """Whether there are older ones that may be fetched."""


@value
class Summary:
    """One line of the conversation list."""

    conversation: ConversationId
    kind: ConversationKind
    name: str
    head: Seq
    unread: int
    marked_unread: bool
    muted: bool
    last: events.MessageAccepted | None
    """The newest message that is neither recalled nor gone."""


@value
class Conversations:
    """A page of the conversation list, the latest first."""

    rid: int
    items: tuple[Summary, ...]
    cursor: str
    """For the next page; empty on the last one."""


@value
class MemberInfo:
    """A current member of a group."""

    user: UserId
    role: Role
    from_seq: Seq


@value
class Members:
    """A group and a page of its current members, by name."""

    rid: int
    conversation: ConversationId
    name: str
    description: str
    count: int
    """Of all current members."""
    members: tuple[MemberInfo, ...]
    more: bool


@value
class Readers:
    """Who has read a message that asked, and who has not, against the audience at its send (R10)."""

    rid: int
    conversation: ConversationId
    seq: Seq
    unknown: Unknown | None
    """Why there is no answer; all else is empty then."""
    audience: int
    """0: nobody to read, which is not 'read by all'."""
    count: int
    """Of all readers; the page may hold fewer."""
    readers: tuple[Reader, ...]
    waiting: tuple[Reader, ...]
    """Who has not read, with `at_ms` 0; those whose answer cannot be known are in neither list."""
    more: bool


@value(kw_only=False)
class DeviceStatus:
    """Whether a device holds a message; None: it came later than the message and is not asked."""

    device: DeviceId
    held: bool | None


@value
class MemberStatus:
    """How far a message came with one member."""

    seq: Seq
    user: UserId
    status: Status
    delivered: bool | Unknown
    read: bool | Unknown
    read_at_ms: int | None
    devices: tuple[DeviceStatus, ...]
    """Empty unless the member shares deliveries."""


@value
class Statuses:
    """Message by message, member by member."""

    rid: int
    conversation: ConversationId
    items: tuple[MemberStatus, ...]


@value
class Explained:
    """A page of what stands behind an unread count."""

    rid: int
    conversation: ConversationId
    unread: int
    marked_unread: bool
    messages: tuple[tuple[Seq, MessageId], ...]
    more: bool


@value
class Badge:
    """Unread over all conversations, muted ones apart."""

    rid: int
    messages: int
    conversations: int
    """With something unread, or marked as unread."""
    muted_messages: int
    muted_conversations: int


@value
class Device:
    """One of the user's devices."""

    device: DeviceId
    seen_ms: int
    """When it was last known to be there."""
    online: bool


@value
class Devices:
    """The user's devices, by name."""

    rid: int
    items: tuple[Device, ...]


@value(kw_only=False)
class Pong:
    """Still here."""

    rid: int


Answer: TypeAlias = (
    Welcome
    | Accepted
    | Done
    | Rejected
    | History
    | Conversations
    | Members
    | Readers
    | Statuses
    | Explained
    | Badge
    | Devices
    | Pong
)

Update: TypeAlias = (
    events.MessageAccepted
    | events.UnreadMarked
    | events.MessageRecalled
    | events.MessagesExpired
    | events.HistoryCleared
    | events.MemberJoined
    | events.MemberLeft
    | events.SharingChanged
    | events.RegisterSet
    | events.GroupReceiptsExpired
    | Delivered
    | Read
    | GroupRead
    | ReadStatistics
    | ConversationPart
    | CatchUp
    | Goodbye
    | Answer
)

ANSWER_TYPES: tuple[type, ...] = get_args(Answer)
UPDATE_TYPES: tuple[type, ...] = get_args(Update)
