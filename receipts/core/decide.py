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
from .member import Member, Sharing
from .policy import GAPS_MAX, RollUp, held_by_rule
from .ranges import EMPTY, Ranges, RangeSet, through

__all__ = [
    "accept",
    "answer",
    "clear",
    "deliver",
    "deliver_again",
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

# Looking a member of an enum up in its class costs as much as a call.
_ANY = RollUp.ANY
_DIRECT = ConversationKind.DIRECT
_SHARES_ALL = Shares.ALL


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

    Only a group can be asked for receipts: between two users `asks` is left out.

    Raises:
        Refused: `not_a_member`.
    """
    member = chat.members.get(author)
    if member is None or not member.joined:
        raise _not_a_member(chat, author)
    sharing = member.sharing
    shares = _SHARES_ALL
    if chat.kind is not _DIRECT or not (sharing.read and sharing.delivered):
        read = sharing.read and chat.kind is _DIRECT
        shares = Shares((1 if sharing.delivered else 0) | (2 if read else 0))
    asks = asks and chat.kind is not _DIRECT
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
    gaps_max: int = GAPS_MAX,
) -> events.DeliveryMarked | None:
    """A device says what it holds; beyond the head nothing is taken.

    What becomes shared never depends on what the device was known to hold: saying it again, when a device
    of the member is gone that `RollUp.ALL` waited for, shares what is due by then.

    Args:
        sharing: Whether the device itself agrees to tell; the member's own switch is asked as well.
        rule: How several devices roll up.
        since: With `RollUp.ALL`: the member's devices now, each with the head when it became known.
        gaps_max: Separate ranges that a set may be made of.

    Raises:
        Refused: `not_a_member`, `too_many_gaps`.
    """
    member = chat.members.get(user)
    if member is None or not member.joined:
        raise _not_a_member(chat, user)
    if ranges and ranges[-1] > chat.head + 1:
        ranges = _up_to(chat.head, ranges)
    held = member.devices.get(device)
    new = held.missing(ranges) if held is not None else ranges
    switches = member.sharing
    shared: Ranges = EMPTY
    if ranges and sharing and switches.delivered:
        shared = _deliverable(chat, member, device, ranges, rule, since)
    if not new and not shared:
        return None
    withheld: Ranges = EMPTY
    if new and switches.delivered and not sharing:  # with the switch off, turning it on draws a line
        withheld = member.delivered_shared.missing(new)
    bounds_max = 2 * gaps_max
    if (len(new) if held is None else len(held._bounds) + len(new)) > bounds_max:
        _check_gaps(held or RangeSet(), new, ranges, gaps_max)
    if len(member.delivered_shared._bounds) + len(shared) > bounds_max:
        _check_gaps(member.delivered_shared, shared, ranges, gaps_max)
    return events.DeliveryMarked(chat.id, user, device, new, shared, withheld)


def _deliverable(
    chat: Conversation,
    member: Member,
    device: DeviceId,
    ranges: Ranges,
    rule: RollUp,
    since: Mapping[DeviceId, Seq] | None,
) -> Ranges:
    """What others learn to be delivered when a device holds `ranges`."""
    counted = ranges
    if rule is not _ANY:
        counted = held_by_rule(rule, device, ranges, member.devices, since or {})
    if member.sharing.delivered_obscured_through:
        counted = _after(member.sharing.delivered_obscured_through, counted)
    shared = member.delivered_shared.missing(counted)
    if shared and (chat.recalled._bounds or chat.expired_through):
        shared = _worth_telling(chat, shared)
    return shared


def deliver_again(
    chat: Conversation, user: UserId, device: DeviceId, *, since: Mapping[DeviceId, Seq]
) -> events.DeliveryMarked | None:
    """Judge deliveries once more under `RollUp.ALL`, after a device left: that can only raise them. What a
    device declined to tell of stays untold.

    Args:
        device: One of the devices that are left.
        since: All of these, each with the head when it became known.
    """
    member = chat.members.get(user)
    if member is None or not member.joined or not member.sharing.delivered:
        return None
    held = RangeSet(through(since[device]))
    if device in member.devices:
        held.update(member.devices[device].ranges)
    anywhere = RangeSet()  # no device owes it, but some device must have had it
    for has in member.devices.values():
        anywhere.update(has.ranges)
    counted = held_by_rule(RollUp.ALL, device, anywhere.within(held.ranges), member.devices, since)
    counted = member.withheld.missing(_after(member.sharing.delivered_obscured_through, counted))
    shared = member.delivered_shared.missing(counted)
    shared = _worth_telling(chat, shared)
    return events.DeliveryMarked(chat.id, user, device, EMPTY, shared) if shared else None


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
    delivers: bool = False,
    rule: RollUp = RollUp.ANY,
    since: Mapping[DeviceId, Seq] | None = None,
    gaps_max: int = GAPS_MAX,
) -> events.ReadMarked | None:
    """A member read these messages; beyond the head nothing is taken.

    Shared becomes what this receipt names, sharing being on by the member's switch and by the receipt's own
    word, from after the head at which the switch was last turned on. Whether some of it had been read in
    private before makes no difference: a gap in what others see would tell them (I-25). For the same reason
    a private read is no acknowledgement of delivery: a device that reads in private owes one of its own.

    Args:
        last: With `By.CONVERSATION`: the last message on screen, inclusive.
        delivers: Whether what is read in a group, for others to know, counts as delivered there; where that
            would make too many gaps it does not, and the read stands.
        rule, since: As in `deliver`.
        gaps_max: Separate ranges that a set may be made of.

    Raises:
        Refused: `not_a_member`, `too_many_gaps`.
    """
    member = chat.members.get(user)
    if member is None or not member.joined:
        raise _not_a_member(chat, user)
    head = chat.head
    if ranges and ranges[-1] > head + 1:
        ranges = _up_to(head, ranges)
        last = min(last, head)
    new = member.read.missing(ranges)
    shared: Ranges = EMPTY
    held: Ranges = EMPTY
    delivered: Ranges = EMPTY
    bounds_max = 2 * gaps_max
    switches = member.sharing
    if sharing and switches.read and ranges:
        floor = switches.read_obscured_through
        open_ = _after(floor, ranges) if floor else ranges
        if chat.kind is _DIRECT:  # in a group only an answer tells
            shared = open_ if new is open_ else member.read_shared.missing(open_)
            if shared and (chat.recalled._bounds or chat.expired_through):
                shared = _worth_telling(chat, shared)
        elif delivers and switches.delivered:
            delivered = _deliverable(chat, member, device, open_, rule, since)
            if len(member.delivered_shared._bounds) + len(delivered) > bounds_max:
                delivered = _what_fits(member.delivered_shared, delivered, ranges, gaps_max)
        if device:
            known = member.devices.get(device)
            held = open_ if known is None else known.missing(open_)
    if not new and not shared and not held and not delivered:
        return None
    if len(member.read._bounds) + len(new) > bounds_max:
        _check_gaps(member.read, new, ranges, gaps_max)
    if len(member.read_shared._bounds) + len(shared) > bounds_max:
        _check_gaps(member.read_shared, shared, ranges, gaps_max)
    if held and (len(held) if known is None else len(known._bounds) + len(held)) > bounds_max:
        _check_gaps(known or RangeSet(), held, ranges, gaps_max)
    return events.ReadMarked(chat.id, user, device, new, shared, held, at_ms, version, by, last, delivered)


def answer(
    chat: Conversation,
    user: UserId,
    seq: Seq,
    content: str,
    *,
    at_ms: int,
    version: Version,
    sharing: bool = True,
) -> events.GroupReadMarked | None:
    """A member of a group answers a message that asked; only the first answer stands.

    None also for a message that was recalled, and for a member who does not share reads, or did not when
    the message was there already: such an answer tells nobody anything (I-25).

    Args:
        sharing: Whether the receipt itself agrees to tell; the member's own switch is asked as well.

    Raises:
        Refused: `expired`, `not_asked`, `own_message`, `not_a_member`, `not_in_audience`.
    """
    if seq <= chat.receipts_expired_through:
        raise Refused(Code.EXPIRED, f"receipts of #{seq} are no longer kept")
    asked = chat.asked.get(seq)
    if asked is None:
        raise Refused(Code.NOT_ASKED, f"#{seq} did not ask for receipts")
    if user in asked.readers:
        return None
    if asked.author == user:
        raise Refused(Code.OWN_MESSAGE, f"#{seq} is your own message")
    member = chat.members.get(user)
    if member is None or not member.joined:
        raise _not_a_member(chat, user)
    if not member.in_audience(seq):
        raise Refused(Code.NOT_IN_AUDIENCE, f"#{seq} was sent when {user} was not in the group")
    switches = member.sharing
    if not (sharing and switches.read) or seq <= switches.read_obscured_through or seq in chat.recalled:
        return None
    return events.GroupReadMarked(chat.id, seq, user, at_ms, content, version)


def mark_unread(
    chat: Conversation, user: UserId, *, version: Version, from_seq: Seq | None = None, own: Ranges = EMPTY
) -> events.UnreadMarked:
    """A member marks the conversation as unread: by a flag, or from a message on.

    What was marked before stays marked: marking never lowers a count.

    Args:
        from_seq: First message to count again, inclusive; None sets the flag alone.
        own: The member's own messages from there to the head; they never count (I-1).

    Raises:
        Refused: `not_a_member`; `unknown_message` for a seq beyond the head, below 1, or behind the floor.
    """
    member = chat.members.get(user)
    if member is None or not member.joined:
        raise _not_a_member(chat, user)
    start, stop = chat.visible(user)
    again = RangeSet(member.unread_mark.ranges)
    flagged = True
    if from_seq is not None:
        if not start <= from_seq < stop:
            raise Refused(Code.UNKNOWN_MESSAGE, f"#{from_seq} is not among the messages you can see")
        more = RangeSet(own).missing((from_seq, stop))
        flagged = not more
        again.update(more)
    again.drop_through(start - 1)
    return events.UnreadMarked(
        conversation=chat.id, member=user, version=version, flagged=flagged, ranges=again.ranges
    )


def unmark(
    chat: Conversation, user: UserId, ranges: Ranges, *, known: Version, version: Version
) -> events.UnreadMarked | None:
    """What a read of `ranges` does to the unread mark, by a device that knew the mark of version `known`."""
    member = chat.members.get(user)
    if member is None or not member.unread_mark or known < member.unread_mark.version:
        return None
    mark = member.unread_mark
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
    """Empty the conversation for one member, up to and including `last` (at most the head).

    None for who was never heard of here, and when that much is cleared already.
    """
    last = min(last, chat.head)
    member = chat.members.get(user)
    if member is None or last <= member.cleared_through:
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
    member = chat.members.get(user)
    old = member.sharing if member is not None else Sharing()
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
    """Let go of readers and contents of all asking messages up to and including `last` (at most the head)."""
    last = min(last, chat.head)
    if last <= chat.receipts_expired_through:
        return None
    return events.GroupReceiptsExpired(conversation=chat.id, through=last)


def expire(chat: Conversation, last: Seq) -> events.MessagesExpired | None:
    """Let go of all messages up to and including `last` (at most the head)."""
    last = min(last, chat.head)
    if last <= chat.expired_through:
        return None
    return events.MessagesExpired(conversation=chat.id, through=last)


def _not_a_member(chat: Conversation, user: UserId) -> Refused:
    return Refused(Code.NOT_A_MEMBER, f"{user} is not in {chat.id}")


def _up_to(head: Seq, ranges: Ranges) -> Ranges:
    return RangeSet(through(head)).within(ranges)


def _after(floor: Seq, ranges: Ranges) -> Ranges:
    return RangeSet(through(floor)).missing(ranges)


def _worth_telling(chat: Conversation, shared: Ranges) -> Ranges:
    """`shared`, or nothing when all of it was recalled or is expired: nobody waits for the ticks of those."""
    kept = _after(chat.expired_through, shared) if chat.expired_through else shared
    return shared if chat.recalled.missing(kept) else EMPTY


def _check_gaps(known: RangeSet, more: Ranges, named: Ranges, gaps_max: int) -> None:
    """The exact judgement, for when the sum of both is too much.

    What closes gaps is always welcome, and so is 'through n', whatever a line of sharing leaves of it: it
    must be possible to be done with a conversation from any state (I-17), and it adds one range at most.
    """
    if len(named) == 2 and named[0] == 1:
        return
    grown = known.copy()
    grown.update(more)
    if grown.gaps > max(gaps_max, known.gaps):
        reason = f"more than {gaps_max} separate ranges: read or acknowledge what lies between"
        raise Refused(Code.TOO_MANY_GAPS, reason, limit=gaps_max)


def _what_fits(known: RangeSet, more: Ranges, named: Ranges, gaps_max: int) -> Ranges:
    """All of `more`, or nothing if it makes too many gaps."""
    try:
        _check_gaps(known, more, named, gaps_max)
    except Refused:
        return EMPTY
    return more
