"""From a wish to an event: the judgements of the side that decides.

Each function looks at a `Conversation`, changes nothing, and returns the event to apply, `None` when the
wish brings nothing new (no new information, no event), or raises `Refused`. The outcome is written into
the event, so that whoever applies it need not judge again.

Rights of roles, rates and switches are judged before this, by the node.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import events
from .conversation import Conversation
from .errors import Code, Refused
from .events import Body, By
from .ids import ClientId, ConversationKind, Counts, DeviceId, MessageId, Seq, Shares, UserId, Version
from .policy import RollUp, held_by_rule
from .ranges import EMPTY, Ranges, RangeSet, through

__all__ = [
    "accept",
    "answer",
    "clear",
    "deliver",
    "expire",
    "expire_receipts",
    "join",
    "leave",
    "mark_unread",
    "read",
    "recall",
    "share",
    "unmark",
]


def accept(
    chat: Conversation,
    author: UserId,
    *,
    message_id: MessageId,
    at_ms: int = 0,
    device: DeviceId = "",
    body: Body = "",
    counts: Counts = Counts.YES,
    asks: bool = False,
    client_id: ClientId | None = None,
) -> events.MessageAccepted:
    """Give a message the next seq. It marks only itself, for its author (never what stood before it).

    Raises:
        Refused: `not_a_member`.
    """
    member = chat.members.get(author)
    if member is None or not member.joined:
        raise Refused(Code.NOT_A_MEMBER, f"{author} is not in {chat.id}")
    sharing = member.sharing
    shares = Shares.ALL
    if chat.kind is ConversationKind.GROUP or not (sharing.read and sharing.delivered):
        read = sharing.read and chat.kind is ConversationKind.DIRECT
        shares = Shares((1 if sharing.delivered else 0) | (2 if read else 0))
    return events.MessageAccepted(
        chat.id, chat.head + 1, message_id, author, device, at_ms, body, counts, asks, shares, client_id
    )


def deliver(
    chat: Conversation,
    user: UserId,
    device: DeviceId,
    ranges: Ranges,
    *,
    sharing: bool = True,
    rule: RollUp = RollUp.ANY,
    since: Mapping[DeviceId, Seq] | None = None,
) -> events.DeliveryMarked | None:
    """A device says what it holds; beyond the head nothing is taken.

    Args:
        sharing: Whether the device itself agrees to tell; the member's own switch is asked as well.
        rule: How several devices roll up.
        since: With `RollUp.ALL`: the member's devices now, each with the head when it became known.
    """
    member = chat.member(user)
    ranges = _up_to(chat.head, ranges)
    held = member.devices.get(device)
    new = held.missing(ranges) if held is not None else ranges
    if not new:
        return None
    shared: Ranges = EMPTY
    if sharing and member.sharing.delivered:
        counted = (
            new if rule is RollUp.ANY else held_by_rule(rule, device, ranges, member.devices, since or {})
        )
        shared = member.delivered_shared.missing(_after(member.sharing.delivered_obscured_through, counted))
    return events.DeliveryMarked(chat.id, user, device, new, shared)


def read(
    chat: Conversation,
    user: UserId,
    ranges: Ranges,
    *,
    device: DeviceId = "",
    sharing: bool = True,
    at_ms: int = 0,
    version: Version = 0,
    by: By = By.UNSAID,
    last: Seq = 0,
) -> events.ReadMarked | None:
    """A member read these messages; beyond the head nothing is taken.

    Shared becomes only what becomes read in this very event while sharing is on, by the member's switch and
    by the receipt's own word. What was there before sharing was last switched on stays private.

    Args:
        last: With `By.CONVERSATION`: the last message on screen, inclusive.
    """
    member = chat.members.get(user) or chat.member(user)
    head = chat.head
    if ranges and ranges[-1] > head + 1:
        ranges = _up_to(head, ranges)
        last = min(last, head)
    new = member.read.missing(ranges)
    held = ranges
    if device:
        known = member.devices.get(device)
        held = ranges if known is None else known.missing(ranges)
    if not new and not held:
        return None
    shared: Ranges = EMPTY
    if sharing and new and chat.kind is ConversationKind.DIRECT and member.sharing.read:
        obscured = member.sharing.read_obscured_through
        shared = _after(obscured, new) if obscured else new
    return events.ReadMarked(chat.id, user, device, new, shared, held, at_ms, version, by, last)


def answer(
    chat: Conversation, user: UserId, seq: Seq, content: str, *, at_ms: int, version: Version
) -> events.GroupReadMarked | None:
    """A member of a group answers a message that asked; only the first answer stands.

    Raises:
        Refused: `expired`, `not_asked`, `own_message`, `not_in_audience`.
    """
    if seq <= chat.receipts_expired_through:
        raise Refused(Code.EXPIRED, f"receipts of #{seq} are no longer kept")
    asked = chat.asked.get(seq)
    if asked is None:
        raise Refused(Code.NOT_ASKED, f"#{seq} did not ask for receipts")
    if asked.author == user:
        raise Refused(Code.OWN_MESSAGE, f"#{seq} is your own message")
    if not chat.member(user).in_audience(seq):
        raise Refused(Code.NOT_IN_AUDIENCE, f"#{seq} was sent when {user} was not in the group")
    if user in asked.readers:
        return None
    return events.GroupReadMarked(chat.id, seq, user, at_ms, content, version)


def mark_unread(
    chat: Conversation, user: UserId, *, version: Version, from_seq: Seq | None = None, own: Ranges = EMPTY
) -> events.UnreadMarked:
    """A member marks the conversation as unread: by a flag, or from a message on.

    Args:
        from_seq: First message to count again, inclusive; None sets the flag alone.
        own: The member's own messages from there to the head; they never count (I-1).

    Raises:
        Refused: `unknown_message` for a seq beyond the head, below 1, or above the floor.
    """
    if from_seq is None:
        return events.UnreadMarked(conversation=chat.id, member=user, version=version, flagged=True)
    start, stop = chat.visible(user)
    if not start <= from_seq < stop:
        raise Refused(Code.UNKNOWN_MESSAGE, f"#{from_seq} is not among the messages you can see")
    ranges = RangeSet(own).missing((from_seq, stop))
    return events.UnreadMarked(
        conversation=chat.id, member=user, version=version, flagged=not ranges, ranges=ranges
    )


def unmark(
    chat: Conversation, user: UserId, ranges: Ranges, *, known: Version, version: Version
) -> events.UnreadMarked | None:
    """What a read of `ranges` does to the unread mark, by a device that knew the mark of version `known`."""
    mark = chat.member(user).unread_mark
    if not mark or known < mark.version:
        return None
    left = RangeSet(ranges).missing(mark.ranges)
    if left == mark.ranges and not mark.flagged:
        return None
    return events.UnreadMarked(conversation=chat.id, member=user, version=version, flagged=False, ranges=left)


def recall(chat: Conversation, seq: Seq, by: UserId, *, at_ms: int = 0) -> events.MessageRecalled | None:
    """Take a message back, once.

    Raises:
        Refused: `unknown_message`, `expired`.
    """
    if not 1 <= seq <= chat.head:
        raise Refused(Code.UNKNOWN_MESSAGE, f"there is no #{seq} in {chat.id}")
    if seq <= chat.expired_through:
        raise Refused(Code.EXPIRED, f"#{seq} is no longer kept")
    if seq in chat.recalled:
        return None
    return events.MessageRecalled(conversation=chat.id, seq=seq, by=by, at_ms=at_ms)


def clear(chat: Conversation, user: UserId, last: Seq) -> events.HistoryCleared | None:
    """Empty the conversation for one member, up to and including `last` (at most the head)."""
    last = min(last, chat.head)
    if last <= chat.member(user).cleared_through:
        return None
    return events.HistoryCleared(conversation=chat.id, member=user, through=last)


def join(chat: Conversation, user: UserId, *, version: Version) -> events.MemberJoined | None:
    """Let a user in, from the next message on; None for who is in already."""
    member = chat.members.get(user)
    if member is not None and member.joined:
        return None
    return events.MemberJoined(conversation=chat.id, member=user, version=version, from_seq=chat.head + 1)


def leave(chat: Conversation, user: UserId) -> events.MemberLeft | None:
    """End a user's membership with the newest message; None for who is not in."""
    member = chat.members.get(user)
    if member is None or not member.joined:
        return None
    return events.MemberLeft(conversation=chat.id, member=user, joined=max(member.periods), through=chat.head)


def share(
    chat: Conversation,
    user: UserId,
    *,
    version: Version,
    delivered: bool | None = None,
    read: bool | None = None,
) -> events.SharingChanged | None:
    """Switch a member's sharing; None leaves a switch as it is.

    Switching on draws a line at the head: what is there already stays unknown to others, because some of it
    may have been read in private, and a later receipt for the rest would tell which (I-25).
    """
    old = chat.member(user).sharing
    delivered = old.delivered if delivered is None else delivered
    read = old.read if read is None else read
    if (delivered, read) == (old.delivered, old.read):
        return None
    return events.SharingChanged(
        conversation=chat.id,
        member=user,
        version=version,
        delivered=delivered,
        read=read,
        delivered_obscured_through=chat.head
        if delivered and not old.delivered
        else old.delivered_obscured_through,
        read_obscured_through=chat.head if read and not old.read else old.read_obscured_through,
    )


def expire_receipts(chat: Conversation, last: Seq) -> events.GroupReceiptsExpired | None:
    """Let go of the readers and contents of all asking messages up to and including `last`."""
    if last <= chat.receipts_expired_through:
        return None
    return events.GroupReceiptsExpired(conversation=chat.id, through=last)


def expire(chat: Conversation, last: Seq) -> events.MessagesExpired | None:
    """Let go of all messages up to and including `last` (at most the head)."""
    last = min(last, chat.head)
    if last <= chat.expired_through:
        return None
    return events.MessagesExpired(conversation=chat.id, through=last)


def _up_to(head: Seq, ranges: Ranges) -> Ranges:
    if not ranges or ranges[-1] <= head + 1:
        return ranges
    return RangeSet(through(head)).within(ranges)


def _after(floor: Seq, ranges: Ranges) -> Ranges:
    return RangeSet(through(floor)).missing(ranges) if floor else ranges
