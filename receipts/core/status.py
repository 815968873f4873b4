"""How far a message came with one member, and the honest answer when that is not known.

The laws: order does not matter, repeats do not matter, nothing goes back (I-2). READ implies DELIVERED.
A status is always derived from sets of seqs, never stored.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NoReturn

__all__ = ["Status", "Unknown"]


class Status(IntEnum):
    """What others may see of (message, member); a larger one replaces a smaller one, never the reverse."""

    SENT = 0
    """Only the sender's device knows the message."""
    ACKED = 1
    """The server has it on disk."""
    DELIVERED = 2
    """A device of the member has it, by the conversation's roll-up rule."""
    READ = 3


class Unknown(StrEnum):
    """Why there is no answer; each is different from 'no' (I-28).

    Neither true nor false: `if chat.is_read(...)` on an unknown raises `TypeError` instead of guessing.
    """

    SHARING_OFF = "sharing_off"
    """The member did not share it, or not at that time; the same whether it happened or not."""
    EXPIRED = "expired"
    """It was known once and has been deleted on purpose."""
    ABOVE_CAP = "above_cap"
    """The group was too large to keep it."""
    FEATURE_OFF = "feature_off"
    """The app does not have this feature."""
    NOT_SUPPORTED = "not_supported"
    """The other side's client cannot tell."""
    NOT_ASKED = "not_asked"
    """A group message that did not ask for receipts."""
    RECALLED = "recalled"
    """The message is gone."""
    NOT_IN_AUDIENCE = "not_in_audience"
    """The message was not for this member."""

    def __bool__(self) -> NoReturn:
        raise TypeError(f"unknown ({self.value}) is neither yes nor no: compare with True, False or Unknown")
