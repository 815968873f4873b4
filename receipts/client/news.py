"""What a client tells its application besides the node's updates: things that happen on this device.

They come through the same stream as `receipts.wire.updates`; nothing here ever travels.
"""

from __future__ import annotations

from typing import TypeAlias

from receipts.core.errors import Code
from receipts.core.ids import ConversationId
from receipts.core.ranges import EMPTY, Ranges
from receipts.core.value import value
from receipts.wire.updates import Update

__all__ = ["Lagged", "Local", "MarkRefused", "News", "Offline", "Online", "SendRefused"]


@value
class Online:
    """The link stands and the replica has caught up; from now on updates come as they happen."""


@value
class Offline:
    """The link is gone; the client tries again by itself."""

    reason: str
    retry_in_ms: int


@value
class Lagged:
    """The application took updates too slowly, so the oldest were dropped. The replica has it all."""

    count: int
    """Updates dropped since the last one that was taken."""


@value
class MarkRefused:
    """A receipt was refused for good and is no longer kept."""

    conversation: ConversationId
    code: Code
    reason: str
    ranges: Ranges = EMPTY
    """The messages concerned."""


@value
class SendRefused:
    """A message that nobody waits for any more was refused for good and is no longer kept."""

    conversation: ConversationId
    number: int
    code: Code
    reason: str


Local: TypeAlias = Online | Offline | Lagged | MarkRefused | SendRefused

News: TypeAlias = Update | Local
