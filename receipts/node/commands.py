"""What the node says to itself and what its operator asks, beside `receipts.wire.commands`.

They go through the same queue and the same hub as what clients ask, so that order and durability are one.
"""

from __future__ import annotations

from typing import TypeAlias

from receipts.core.errors import Code
from receipts.core.events import Joining, Role
from receipts.core.ids import AppId, ConversationId, MessageId, UserId
from receipts.core.value import value
from receipts.wire.commands import ChangePassword, Hello

__all__ = [
    "AddUser",
    "Admin",
    "Call",
    "ConfigureApp",
    "Enter",
    "Entered",
    "ExplainFor",
    "FindGroup",
    "Grant",
    "GroupFound",
    "GroupInfo",
    "GroupsFound",
    "Internal",
    "JoinGroup",
    "LinkLost",
    "ListAllConversations",
    "ListGroups",
    "ListPublicGroups",
    "ListReadersOf",
    "ListUsers",
    "MakeGroup",
    "MakeToken",
    "Malformed",
    "OpenGroup",
    "PasswordChecked",
    "PasswordHashed",
    "RegisterUser",
    "RemoveUser",
    "Reply",
    "RevokeTokens",
    "SetPassword",
    "Stats",
    "Sweep",
    "Text",
    "Verify",
]


@value
class LinkLost:
    """The link of a session has ended, from either side."""

    rid: int = 0


@value
class Malformed:
    """A session sent what is not a frame (fatal), or a frame that is no command."""

    rid: int = 0
    code: Code
    reason: str
    fatal: bool


@value
class Sweep:
    """Time has passed: silent sessions, expired receipts and messages, idle conversations."""

    rid: int = 0


@value
class PasswordChecked:
    """A thread has compared a password."""

    rid: int = 0
    command: Hello | ChangePassword | Grant
    good: bool | None
    """None: that could not be done now."""


@value
class PasswordHashed:
    """A thread has made a hash for a new password."""

    rid: int = 0
    command: ChangePassword | AddUser | SetPassword | RegisterUser
    hash: str | None
    """None: that could not be done now."""


@value
class AddUser:
    """A new account. Without a password only tokens let it in."""

    rid: int
    app: AppId
    user: UserId
    password: str | None = None


@value
class SetPassword:
    """Earlier tokens are void, sessions end."""

    rid: int
    app: AppId
    user: UserId
    password: str


@value
class RemoveUser:
    """The account ends: sessions close, groups are left; what was written stays, under its name."""

    rid: int
    app: AppId
    user: UserId


@value
class RevokeTokens:
    """All tokens given to a user up to now are void; sessions end."""

    rid: int
    app: AppId
    user: UserId


@value
class MakeToken:
    """A signed token for a user."""

    rid: int
    app: AppId
    user: UserId
    lifetime_ms: int


@value
class ListUsers:
    """Accounts by name."""

    rid: int
    app: AppId
    after: UserId = ""
    limit: int = 100


@value
class MakeGroup:
    """A group for somebody else."""

    rid: int
    app: AppId
    conversation: ConversationId
    name: str
    owner: UserId
    admins: tuple[UserId, ...] = ()
    members: tuple[UserId, ...] = ()


@value
class ConfigureApp:
    """Features and limits of an app; it is made if it is not there."""

    rid: int
    app: AppId
    settings: str
    """JSON, as `AppRow.settings`."""


@value
class ExplainFor:
    """The messages behind somebody's unread count."""

    rid: int
    app: AppId
    user: UserId
    conversation: ConversationId
    after: int = 0
    limit: int = 1000


@value
class ListAllConversations:
    """Conversations of all apps, by key: what there is to verify. Answered by `Text`: JSON,
    `[[key, app, conversation], …]`."""

    rid: int
    after_key: int = 0
    limit: int = 1000


@value
class Verify:
    """Compare one conversation with a recount over its messages. Answered by `Text`: JSON, a list of
    findings, each {invariant, member, detail}; with `repair` they have been mended."""

    rid: int
    app: AppId
    conversation: ConversationId
    repair: bool = False
    life: str = ""
    """With `repair`: the id of the life that begins if anything has to be mended."""


@value
class Stats:
    """Figures of the running node."""

    rid: int


# -- calls: somebody with a token, or who wants one, and without a device (`receipts.node.calls`)


@value
class Enter:
    """What follows on this session is in the name of the user of a token. No device is known by it, and
    nothing is pushed to it. With a rid answered by `Entered`."""

    rid: int = 0
    app: AppId
    token: str


@value
class Grant:
    """A token for a password. Answered by `Text`."""

    rid: int
    app: AppId
    user: UserId
    password: str
    lifetime_ms: int


@value
class RegisterUser:
    """A new account, opened by whoever wants it; the app's rate of them is limited."""

    rid: int
    app: AppId
    user: UserId
    password: str


@value
class OpenGroup:
    """As the client's `CreateGroup`, with all that may be kept with a group."""

    rid: int
    conversation: ConversationId
    name: str
    description: str = ""
    members: tuple[UserId, ...] = ()
    joining: Joining = Joining.INVITED
    inviting: Role | None = None
    """The least role that may let others in; None: as the app has it."""
    members_max: int = 0
    """0: as many as the app allows."""
    custom: str = ""


@value
class JoinGroup:
    """Come into a group by oneself."""

    rid: int
    conversation: ConversationId


@value
class FindGroup:
    """A group, whether one is in it or not. Answered by `GroupFound`."""

    rid: int
    conversation: ConversationId


@value
class ListGroups:
    """The groups that the user is in, by id. Answered by `GroupsFound`."""

    rid: int


@value
class ListPublicGroups:
    """Groups that all users of the app may find, by id. Answered by `GroupsFound`."""

    rid: int
    after: ConversationId = ""
    limit: int = 20


@value
class ListReadersOf:
    """As the client's `ListReaders`, by the message's id. Answered by `Readers`."""

    rid: int
    conversation: ConversationId
    message_id: MessageId
    after: UserId = ""
    limit: int = 500


# -- answers


@value
class Entered:
    """The token is good."""

    rid: int
    user: UserId
    expires_ms: int
    """Node time; exclusive."""


@value
class GroupInfo:
    """A group as it stands."""

    conversation: ConversationId
    name: str
    description: str
    owner: UserId
    """Empty where the answer is a list for everybody."""
    count: int
    """Of members; 0 likewise."""
    role: Role | None
    """Of the user who asks; None: not a member."""
    joining: Joining
    inviting: Role
    members_max: int
    created_ms: int
    """0: not known."""
    custom: str


@value
class GroupFound:
    """One group."""

    rid: int
    group: GroupInfo


@value
class GroupsFound:
    """Some groups."""

    rid: int
    groups: tuple[GroupInfo, ...]
    cursor: ConversationId = ""
    """Where the next page begins (`after`); empty on the last one. A page may be short."""


@value(kw_only=False)
class Text:
    """The answer to an operator's question, where no update has its shape."""

    rid: int
    text: str


Internal: TypeAlias = LinkLost | Malformed | Sweep | PasswordChecked | PasswordHashed
Admin: TypeAlias = (
    AddUser
    | SetPassword
    | RemoveUser
    | RevokeTokens
    | MakeToken
    | ListUsers
    | MakeGroup
    | ConfigureApp
    | ExplainFor
    | ListAllConversations
    | Verify
    | Stats
)
Call: TypeAlias = (
    Enter
    | Grant
    | RegisterUser
    | OpenGroup
    | JoinGroup
    | FindGroup
    | ListGroups
    | ListPublicGroups
    | ListReadersOf
)
Reply: TypeAlias = Text | Entered | GroupFound | GroupsFound
"""Answers to all of these that no client's update has the shape of."""
