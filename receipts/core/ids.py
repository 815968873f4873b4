"""The names of things: plain strings and numbers with a type of their own to read them by.

All of them are opaque to the core. The one rule that lives here is how the conversation of two users is
called, so that either side can name it before it exists.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import NewType, TypeAlias

from .errors import LocalProtocolError

__all__ = [
    "AppId",
    "ClientId",
    "ConversationId",
    "ConversationKind",
    "Counts",
    "DeviceId",
    "MessageId",
    "Seq",
    "Shares",
    "UserId",
    "Version",
    "direct",
    "direct_members",
    "is_user_id",
]

AppId: TypeAlias = str
"""A tenant of a node: users, groups, limits and switches of two apps never meet."""

UserId: TypeAlias = str
"""1 to 64 characters of `a-z 0-9 _ . -`."""

DeviceId: TypeAlias = str
"""One installation of a user's client, unique under that user."""

ConversationId: TypeAlias = str
"""`direct(a, b)` for two users, anything without `~` for a group."""

Seq: TypeAlias = int
"""Place of a message in its conversation: 1, 2, 3 … without gaps, given by the node."""

MessageId = NewType("MessageId", int)
"""Unique over the node, grows with the seq inside a conversation, even, below 2**63."""

Version: TypeAlias = int
"""Given by the node, larger for what was decided later; 0 stands for 'from the beginning'."""

ClientId: TypeAlias = tuple[str, int]
"""(install id, counter): names one send for ever, so that a repeat is known as one."""


class ConversationKind(StrEnum):
    """What a conversation is; never changes."""

    DIRECT = "direct"
    GROUP = "group"


class Counts(IntEnum):
    """Whether a message counts as unread. One predicate for every counter (I-20)."""

    YES = 0
    SILENT = 1
    """Sent by a user who does not want to raise a badge."""
    SYSTEM = 2
    """Made by the node: someone joined, a group was renamed."""


class Shares(IntEnum):
    """What of its author's sharing was on when a message was accepted; a bit each."""

    NOTHING = 0
    DELIVERED = 1
    READ = 2
    ALL = 3


_USER_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")
_USER_ID_CHARACTERS_MAX = 64  # as XMPP servers and Easemob have it


def is_user_id(text: str) -> bool:
    """Whether `text` may name a user."""
    return 0 < len(text) <= _USER_ID_CHARACTERS_MAX and _USER_CHARACTERS.issuperset(text)


def direct(one: UserId, other: UserId) -> ConversationId:
    """The conversation of two users, whoever asks.

    Raises:
        LocalProtocolError: The two are the same.
    """
    if one == other:
        raise LocalProtocolError(f"a conversation needs two users, not {one!r} twice")
    return f"{one}~{other}" if one < other else f"{other}~{one}"


@lru_cache(maxsize=4096)  # the same few are asked about again and again
def direct_members(conversation: ConversationId) -> tuple[UserId, UserId] | None:
    """The two users of a one-to-one conversation, in order; None when the id does not name one."""
    one, tilde, other = conversation.partition("~")
    return (one, other) if tilde and one < other and is_user_id(one) and is_user_id(other) else None
