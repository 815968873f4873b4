"""What the node says to itself and what its operator asks, beside `receipts.wire.commands`.

They go through the same queue and the same hub as what clients ask, so that order and durability are one.
"""

from __future__ import annotations

from typing import TypeAlias

from receipts.core.errors import Code
from receipts.core.ids import AppId, ConversationId, UserId
from receipts.core.value import value
from receipts.wire.commands import ChangePassword, Hello

__all__ = [
    "AddUser",
    "Admin",
    "ConfigureApp",
    "ExplainFor",
    "Internal",
    "LinkLost",
    "ListAllConversations",
    "ListUsers",
    "MakeGroup",
    "MakeToken",
    "Malformed",
    "PasswordChecked",
    "PasswordHashed",
    "RemoveUser",
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
    command: Hello | ChangePassword
    good: bool


@value
class PasswordHashed:
    """A thread has made a hash for a new password."""

    rid: int = 0
    command: ChangePassword | AddUser | SetPassword
    hash: str


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
