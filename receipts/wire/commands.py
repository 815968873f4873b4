"""What a session asks of the node. The other half of the conversation is in `updates`.

Every command has a `rid`, a number that the client chose; the answer carries it back. 0 asks for no answer
on success: what is refused is always answered. Marks (`AckDelivered`, `ReadConversation`, `ReadMessages`)
are joins, so sending one again is harmless, and what is missing after a reconnect shows in the resumed state.
"""

from __future__ import annotations

from typing import TypeAlias, get_args

from receipts.core.events import Body, Role
from receipts.core.ids import AppId, ConversationId, Counts, DeviceId, Seq, UserId, Version
from receipts.core.ranges import Ranges
from receipts.core.value import value

__all__ = [
    "COMMAND_TYPES",
    "AckDelivered",
    "AckPage",
    "AckStatistics",
    "AddMembers",
    "ChangeGroup",
    "ChangePassword",
    "ClearConversation",
    "Command",
    "CreateGroup",
    "DissolveGroup",
    "ExplainUnread",
    "FetchHistory",
    "GetBadge",
    "GetStatus",
    "Hello",
    "ListConversations",
    "ListDevices",
    "ListMembers",
    "ListReaders",
    "LogOutDevice",
    "MarkUnread",
    "Ping",
    "ReadConversation",
    "ReadMessages",
    "RecallMessage",
    "RemoveMembers",
    "SendMessage",
    "SetMuted",
    "SetRole",
    "SetSharing",
]


@value
class Hello:
    """First frame of a session: who this is, and what it has already."""

    rid: int = 0
    version: int
    """Of the protocol; see `receipts.wire.VERSION`."""
    user: UserId
    device: DeviceId
    """1 to 64 printable characters, chosen once by the device."""
    install: str
    """1 to 64 printable characters, made once per stored outbox: numbers of sends count under it."""
    app: AppId = "default"
    password: str | None = None
    token: str | None = None
    """A signed token instead of a password; one of the two."""
    resume: str | None = None
    """The token of the last update or page processed; None asks for the full state."""
    delivery: bool = False
    """Whether to be told of deliveries of own messages."""
    client: str = ""
    """Name and version, for the node's log."""


@value(kw_only=False)
class SendMessage:
    """Answered by `Accepted` when it is on disk."""

    rid: int
    conversation: ConversationId
    """`direct(me, peer)` or a group; a one-to-one conversation begins with its first message."""
    body: Body
    number: int
    """Of this send under the session's install id: the same number is the same send."""
    counts: Counts = Counts.YES
    asks: bool = False
    """In a group: ask the members for read receipts."""


@value(kw_only=False)
class AckDelivered:
    """The device has stored these messages. Owed for every message of others; own ones may stand in
    between, so that the ranges stay few."""

    rid: int
    conversation: ConversationId
    ranges: Ranges
    share: bool = True
    """False: the device declines to let others know."""


@value(kw_only=False)
class ReadConversation:
    """Everything up to what was on screen is read: one frame for all unread (R3)."""

    rid: int
    conversation: ConversationId
    through: Seq
    """Inclusive; the last message that was on screen, never 'whatever is newest'."""
    share: bool = True
    mark_version: Version = 0
    """The unread mark that the device knew; a newer one is not cleared."""


@value(kw_only=False)
class ReadMessages:
    """These messages are read, by name (R5, R6). With `content`, each must be one that asked."""

    rid: int
    conversation: ConversationId
    ranges: Ranges
    content: str | None = None
    """Goes with a group receipt (R7). None answers those of `ranges` that asked, with no words."""
    share: bool = True
    mark_version: Version = 0


@value
class MarkUnread:
    """Count the conversation as unread again, by a flag (None) or from a message on (inclusive)."""

    rid: int
    conversation: ConversationId
    from_seq: Seq | None = None


@value
class RecallMessage:
    """Take a message back."""

    rid: int
    conversation: ConversationId
    seq: Seq


@value
class ClearConversation:
    """Empty the conversation for this user alone, up to and including `through`."""

    rid: int
    conversation: ConversationId
    through: Seq


@value
class SetSharing:
    """Let others know of deliveries and reads, or not; None leaves a switch as it is."""

    rid: int
    delivered: bool | None = None
    read: bool | None = None
    conversation: ConversationId | None = None
    """None: in all of the user's conversations, and in those to come."""


@value
class SetMuted:
    """A muted conversation is badged apart."""

    rid: int
    conversation: ConversationId
    muted: bool


@value
class CreateGroup:
    """Open a group; the sender becomes its owner. Repeating it with the same id is answered as the first."""

    rid: int
    conversation: ConversationId
    """Chosen by the client: 1 to 64 characters of `a-z A-Z 0-9 _ . -`."""
    name: str
    members: tuple[UserId, ...] = ()
    description: str = ""


@value
class AddMembers:
    """Let users into a group, from the next message on."""

    rid: int
    conversation: ConversationId
    users: tuple[UserId, ...]


@value
class RemoveMembers:
    """Put users out of a group; naming oneself is leaving."""

    rid: int
    conversation: ConversationId
    users: tuple[UserId, ...]


@value
class SetRole:
    """Make a member admin or plain member again; `Role.OWNER` hands the group over."""

    rid: int
    conversation: ConversationId
    user: UserId
    role: Role


@value
class ChangeGroup:
    """Name and description; None leaves one as it is."""

    rid: int
    conversation: ConversationId
    name: str | None = None
    description: str | None = None


@value
class DissolveGroup:
    """End a group for everybody."""

    rid: int
    conversation: ConversationId


@value
class FetchHistory:
    """A page of messages, newest first in choice, rising in the answer. Answered by `History`."""

    rid: int
    conversation: ConversationId
    before: Seq = 0
    """Exclusive; 0 begins at the head."""
    limit: int = 50


@value
class ListConversations:
    """The user's conversations with unread counts, the latest first. Answered by `Conversations`."""

    rid: int
    cursor: str = ""
    limit: int = 20


@value
class ListMembers:
    """A group with its members. Answered by `Members`."""

    rid: int
    conversation: ConversationId
    after: UserId = ""
    limit: int = 100


@value
class ListReaders:
    """Who has read one asking message, when, with what words, who has not (R10). Answered by `Readers`."""

    rid: int
    conversation: ConversationId
    seq: Seq
    after: UserId = ""
    limit: int = 200


@value
class GetStatus:
    """How far messages came, member by member. Answered by `Statuses`."""

    rid: int
    conversation: ConversationId
    seqs: tuple[Seq, ...]
    """At most `Limits.detail_ids_max`."""


@value
class ExplainUnread:
    """The messages behind my count. Answered by `Explained`."""

    rid: int
    conversation: ConversationId
    after: Seq = 0
    limit: int = 100


@value
class GetBadge:
    """Unread over all of the user's conversations. Answered by `Badge`."""

    rid: int


@value
class ListDevices:
    """The user's devices. Answered by `Devices`."""

    rid: int


@value
class LogOutDevice:
    """Forget a device of this user; its session ends, its tokens stay valid for others."""

    rid: int
    device: DeviceId


@value
class ChangePassword:
    """All tokens given before become invalid; other sessions are ended."""

    rid: int
    old: str
    new: str


@value
class AckPage:
    """A catch-up page is stored; the next one may come."""

    rid: int
    token: str
    """As the page had it."""


@value
class AckStatistics:
    """The summary of R9 has arrived; it will not come again."""

    rid: int
    through: int
    """As `ReadStatistics.through`."""


@value
class Ping:
    """Asks for a `Pong`; any frame keeps a session alive."""

    rid: int


Command: TypeAlias = (
    Hello
    | SendMessage
    | AckDelivered
    | ReadConversation
    | ReadMessages
    | MarkUnread
    | RecallMessage
    | ClearConversation
    | SetSharing
    | SetMuted
    | CreateGroup
    | AddMembers
    | RemoveMembers
    | SetRole
    | ChangeGroup
    | DissolveGroup
    | FetchHistory
    | ListConversations
    | ListMembers
    | ListReaders
    | GetStatus
    | ExplainUnread
    | GetBadge
    | ListDevices
    | LogOutDevice
    | ChangePassword
    | AckPage
    | AckStatistics
    | Ping
)

COMMAND_TYPES: tuple[type, ...] = get_args(Command)
