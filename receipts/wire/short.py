"""The short way for the binary frames of which every message needs several. By position, without tables.

A reader here takes what is in order and has one of the usual lengths, and answers None to anything else:
fields of a newer peer and mistakes go the general way of `codec`, which alone knows what to say about them.
So whatever is accepted here is accepted there, and means the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from receipts.core.events import By, MessageAccepted
from receipts.core.ids import Counts, MessageId, Shares

from .commands import AckDelivered, Command, ReadConversation, ReadMessages, SendMessage
from .limits import CONVERSATION_CHARACTERS_MAX, INT_MAX, RANGES_MAX, SEQ_MAX
from .table import CODE_OF
from .updates import Accepted, Delivered, GroupRead, Read, Reader, Update

__all__ = ["COMMAND_READERS", "COMMAND_WRITERS", "UPDATE_READERS", "UPDATE_WRITERS"]

# -- commands, read ---------------------------------------------------------------------------------------

# Of an enum, a table of its values: calling the class costs 0.3 µs.
_COUNTS: Final[dict[Any, Counts]] = {kind.value: kind for kind in Counts}
_SHARES: Final[dict[Any, Shares]] = {kind.value: kind for kind in Shares}
_BY: Final[dict[Any, By]] = {kind.value: kind for kind in By}


def _is_conversation(item: Any) -> bool:
    return item.__class__ is str and 0 < len(item) <= CONVERSATION_CHARACTERS_MAX and item.isprintable()


def _is_ranges(ranges: Any) -> bool:
    """One range or several, in order, within the limits of a mark."""
    if ranges.__class__ is not tuple:
        return False
    if len(ranges) == 2:
        start, stop = ranges
        return start.__class__ is stop.__class__ is int and 0 < start < stop <= INT_MAX
    if not ranges or len(ranges) & 1 or len(ranges) > 2 * RANGES_MAX:
        return False
    previous = 0
    for bound in ranges:
        if bound.__class__ is not int or bound <= previous:
            return False
        previous = bound
    return previous <= INT_MAX


def _is_int(item: Any) -> bool:
    return item.__class__ is int and 0 <= item <= INT_MAX


def _send_message(items: tuple[Any, ...]) -> SendMessage | None:
    counts, asks = Counts.YES, False
    if len(items) == 5:
        _, rid, conversation, body, number = items
    elif len(items) == 7:
        _, rid, conversation, body, number, kind, asks = items
        if kind.__class__ is not int or kind not in _COUNTS or asks.__class__ is not bool:
            return None
        counts = _COUNTS[kind]
    else:
        return None
    if (
        rid.__class__ is int
        and 0 <= rid <= INT_MAX
        and number.__class__ is int
        and 0 <= number <= INT_MAX
        and (body.__class__ is str or body.__class__ is bytes)
        and _is_conversation(conversation)
    ):
        return SendMessage(rid, conversation, body, number, counts, asks)
    return None


def _ack_delivered(items: tuple[Any, ...]) -> AckDelivered | None:
    if len(items) == 4:
        _, rid, conversation, ranges = items
        share = True
    elif len(items) == 5:
        _, rid, conversation, ranges, share = items
    else:
        return None
    if (
        rid.__class__ is int
        and 0 <= rid <= INT_MAX
        and share.__class__ is bool
        and _is_conversation(conversation)
        and _is_ranges(ranges)
    ):
        return AckDelivered(rid, conversation, ranges, share)
    return None


def _read_conversation(items: tuple[Any, ...]) -> ReadConversation | None:
    share, mark_version = True, 0
    if len(items) == 4:
        _, rid, conversation, through = items
    elif len(items) == 6:
        _, rid, conversation, through, share, mark_version = items
    else:
        return None
    if (
        rid.__class__ is int
        and 0 <= rid <= INT_MAX
        and through.__class__ is int
        and 0 <= through <= SEQ_MAX
        and mark_version.__class__ is int
        and 0 <= mark_version <= INT_MAX
        and share.__class__ is bool
        and _is_conversation(conversation)
    ):
        return ReadConversation(rid, conversation, through, share, mark_version)
    return None


def _read_messages(items: tuple[Any, ...]) -> ReadMessages | None:
    share, mark_version, content = True, 0, None
    if len(items) == 4:
        _, rid, conversation, ranges = items
    elif len(items) == 5:
        _, rid, conversation, ranges, content = items
    elif len(items) == 7:
        _, rid, conversation, ranges, content, share, mark_version = items
    else:
        return None
    if (
        rid.__class__ is int
        and 0 <= rid <= INT_MAX
        and mark_version.__class__ is int
        and 0 <= mark_version <= INT_MAX
        and (content is None or content.__class__ is str)
        and share.__class__ is bool
        and _is_conversation(conversation)
        and _is_ranges(ranges)
    ):
        return ReadMessages(rid, conversation, ranges, content, share, mark_version)
    return None


COMMAND_READERS: Final[dict[int, Callable[[Any], Command | None]]] = {
    CODE_OF[SendMessage]: _send_message,
    CODE_OF[AckDelivered]: _ack_delivered,
    CODE_OF[ReadConversation]: _read_conversation,
    CODE_OF[ReadMessages]: _read_messages,
}
"""By code: from the elements of a frame to the command, or None."""

# -- commands, written ------------------------------------------------------------------------------------


def _pack_send_message(it: SendMessage) -> tuple[Any, ...]:
    if it.counts is Counts.YES and not it.asks:
        return _SEND_MESSAGE, it.rid, it.conversation, it.body, it.number
    return _SEND_MESSAGE, it.rid, it.conversation, it.body, it.number, it.counts, it.asks


def _pack_ack_delivered(it: AckDelivered) -> tuple[Any, ...]:
    if it.share:
        return _ACK_DELIVERED, it.rid, it.conversation, it.ranges
    return _ACK_DELIVERED, it.rid, it.conversation, it.ranges, False


def _pack_read_conversation(it: ReadConversation) -> tuple[Any, ...]:
    if it.share and not it.mark_version:
        return _READ_CONVERSATION, it.rid, it.conversation, it.through
    return _READ_CONVERSATION, it.rid, it.conversation, it.through, it.share, it.mark_version


def _pack_read_messages(it: ReadMessages) -> tuple[Any, ...]:
    if not it.share or it.mark_version:
        return _READ_MESSAGES, it.rid, it.conversation, it.ranges, it.content, it.share, it.mark_version
    if it.content is None:
        return _READ_MESSAGES, it.rid, it.conversation, it.ranges
    return _READ_MESSAGES, it.rid, it.conversation, it.ranges, it.content


_SEND_MESSAGE: Final = CODE_OF[SendMessage]
_ACK_DELIVERED: Final = CODE_OF[AckDelivered]
_READ_CONVERSATION: Final = CODE_OF[ReadConversation]
_READ_MESSAGES: Final = CODE_OF[ReadMessages]

COMMAND_WRITERS: Final[dict[type, Callable[[Any], tuple[Any, ...]]]] = {
    SendMessage: _pack_send_message,
    AckDelivered: _pack_ack_delivered,
    ReadConversation: _pack_read_conversation,
    ReadMessages: _pack_read_messages,
}
"""By type: from the command to the elements of a frame."""

# -- updates, read ----------------------------------------------------------------------------------------


def _message_accepted(items: tuple[Any, ...]) -> MessageAccepted | None:
    counts, asks, shares = Counts.YES, False, Shares.ALL
    if len(items) == 8:
        _, tick, conversation, seq, message_id, author, at_ms, body = items
    elif len(items) == 11:
        _, tick, conversation, seq, message_id, author, at_ms, body, kind, asks, bits = items
        if kind.__class__ is not int or bits.__class__ is not int or asks.__class__ is not bool:
            return None
        if kind not in _COUNTS or bits not in _SHARES:
            return None
        counts, shares = _COUNTS[kind], _SHARES[bits]
    else:
        return None
    if (
        tick.__class__ is int
        and 0 <= tick <= INT_MAX
        and message_id.__class__ is int
        and 0 <= message_id <= INT_MAX
        and at_ms.__class__ is int
        and 0 <= at_ms <= INT_MAX
        and seq.__class__ is int
        and 0 < seq <= INT_MAX
        and conversation.__class__ is str
        and author.__class__ is str
        and (body.__class__ is str or body.__class__ is bytes)
    ):
        return MessageAccepted(
            conversation, seq, MessageId(message_id), author, "", at_ms, body, counts, asks, shares
        )
    return None


def _accepted(items: tuple[Any, ...]) -> Accepted | None:
    if len(items) != 8:
        return None
    _, tick, rid, conversation, seq, message_id, at_ms, number = items
    if (
        tick.__class__ is int
        and 0 <= tick <= INT_MAX
        and rid.__class__ is int
        and 0 <= rid <= INT_MAX
        and seq.__class__ is int
        and 0 < seq <= INT_MAX
        and message_id.__class__ is int
        and 0 <= message_id <= INT_MAX
        and at_ms.__class__ is int
        and 0 <= at_ms <= INT_MAX
        and number.__class__ is int
        and 0 <= number <= INT_MAX
        and conversation.__class__ is str
    ):
        return Accepted(rid, conversation, seq, MessageId(message_id), at_ms, number)
    return None


def _delivered(items: tuple[Any, ...]) -> Delivered | None:
    if len(items) != 5:
        return None
    _, tick, conversation, member, ranges = items
    if (
        tick.__class__ is int
        and 0 <= tick <= INT_MAX
        and conversation.__class__ is str
        and member.__class__ is str
        and (not ranges or _is_ranges(ranges))
        and ranges.__class__ is tuple
    ):
        return Delivered(conversation, member, ranges)
    return None


def _read(items: tuple[Any, ...]) -> Read | None:
    at_ms, version, by, through = 0, 0, By.UNSAID, 0
    if len(items) == 9:
        _, tick, conversation, member, ranges, at_ms, version, kind, through = items
        if kind.__class__ is not int or kind not in _BY:
            return None
        by = _BY[kind]
    elif len(items) == 5:
        _, tick, conversation, member, ranges = items
    else:
        return None
    if (
        tick.__class__ is int
        and 0 <= tick <= INT_MAX
        and at_ms.__class__ is int
        and 0 <= at_ms <= INT_MAX
        and version.__class__ is int
        and 0 <= version <= INT_MAX
        and through.__class__ is int
        and 0 <= through <= INT_MAX
        and conversation.__class__ is str
        and member.__class__ is str
        and (not ranges or _is_ranges(ranges))
        and ranges.__class__ is tuple
    ):
        return Read(conversation, member, ranges, at_ms, version, by, through)
    return None


def _group_read(items: tuple[Any, ...]) -> GroupRead | None:
    if len(items) != 6:
        return None
    _, tick, conversation, seq, count, answers = items
    if not (_is_int(tick) and _is_int(seq) and seq and _is_int(count) and conversation.__class__ is str):
        return None
    if answers.__class__ is not tuple:
        return None
    readers = []
    for answer in answers:
        if answer.__class__ is not tuple or len(answer) != 4:
            return None
        user, at_ms, content, version = answer
        if not (user.__class__ is content.__class__ is str and _is_int(at_ms) and _is_int(version)):
            return None
        readers.append(Reader(user, at_ms, content, version))
    return GroupRead(conversation, seq, count, tuple(readers))


UPDATE_READERS: Final[dict[int, Callable[[Any], Update | None]]] = {
    CODE_OF[MessageAccepted]: _message_accepted,
    CODE_OF[Accepted]: _accepted,
    CODE_OF[Delivered]: _delivered,
    CODE_OF[Read]: _read,
    CODE_OF[GroupRead]: _group_read,
}
"""By code: from the elements of a frame to the update, or None; the tick is checked as well."""

# -- updates, written -------------------------------------------------------------------------------------


def _pack_message_accepted(it: MessageAccepted, tick: int) -> tuple[Any, ...]:
    head = (_MESSAGE_ACCEPTED, tick, it.conversation, it.seq, it.message_id, it.author, it.at_ms, it.body)
    if it.counts is Counts.YES and not it.asks and it.shares is Shares.ALL:
        return head
    return *head, it.counts, it.asks, it.shares


def _pack_accepted(it: Accepted, tick: int) -> tuple[Any, ...]:
    return _ACCEPTED, tick, it.rid, it.conversation, it.seq, it.message_id, it.at_ms, it.number


def _pack_delivered(it: Delivered, tick: int) -> tuple[Any, ...]:
    return _DELIVERED, tick, it.conversation, it.member, it.ranges


def _pack_read(it: Read, tick: int) -> tuple[Any, ...]:
    return _READ, tick, it.conversation, it.member, it.ranges, it.at_ms, it.version, it.by, it.through


def _pack_group_read(it: GroupRead, tick: int) -> tuple[Any, ...]:
    readers = [
        (reader.user, reader.at_ms, reader.content, reader.version, True)
        if reader.left
        else (reader.user, reader.at_ms, reader.content, reader.version)
        for reader in it.readers
    ]
    return _GROUP_READ, tick, it.conversation, it.seq, it.count, readers


_MESSAGE_ACCEPTED: Final = CODE_OF[MessageAccepted]
_ACCEPTED: Final = CODE_OF[Accepted]
_DELIVERED: Final = CODE_OF[Delivered]
_READ: Final = CODE_OF[Read]
_GROUP_READ: Final = CODE_OF[GroupRead]

UPDATE_WRITERS: Final[dict[type, Callable[[Any, int], tuple[Any, ...]]]] = {
    MessageAccepted: _pack_message_accepted,
    Accepted: _pack_accepted,
    Delivered: _pack_delivered,
    Read: _pack_read,
    GroupRead: _pack_group_read,
}
"""By type: from the update and its tick to the elements of a frame."""
