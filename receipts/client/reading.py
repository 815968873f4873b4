"""When to send which receipt: the advice of R11 as data in, data out.

Entering a chat with unread messages sends ONE conversation receipt; messages that arrive while it is open
are read by name. A conversation receipt never answers a group message that asked, so those are named too.
Only what is on screen is ever read. An application with other habits subclasses `ReadingPolicy`.
"""

from __future__ import annotations

from receipts.core.ids import Seq
from receipts.core.ranges import EMPTY, Ranges, RangeSet
from receipts.core.value import value

__all__ = ["ReadingPolicy", "Wishes"]


@value
class Wishes:
    """Receipts to send; nothing in a field, nothing of that kind."""

    through: Seq = 0
    """Send one conversation receipt up to and including this message."""
    named: Ranges = EMPTY
    """Read these by name."""
    answers: Ranges = EMPTY
    """Answer these, which asked."""


class ReadingPolicy:
    """What an open chat reads. Pure: the session asks, and sends what comes back."""

    def opened(self, *, unread: Ranges, asking: Ranges, last: Seq, marked: bool) -> Wishes:
        """The user has opened a chat.

        Args:
            unread: Messages of others that nobody reported as read yet.
            asking: Those of them that ask for a group receipt.
            last: The last message on screen.
            marked: Whether the conversation is marked as unread.
        """
        if not unread and not marked:
            return Wishes()
        shown = RangeSet((1, last + 1)) if last else RangeSet()
        return Wishes(through=last, answers=shown.within(asking))

    def arrived(self, *, unread: Ranges, asking: Ranges) -> Wishes:
        """Messages have arrived in a chat that is open.

        Args:
            unread: Messages of others.
            asking: Those of them that ask for a group receipt.
        """
        return Wishes(named=RangeSet(asking).missing(unread), answers=asking)
