"""Between the machine's objects and the blobs in rows. The shapes are versioned with the schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from receipts.core.conversation import Conversation, Receipt
from receipts.core.events import By, MessageAccepted, Register, RegisterValue
from receipts.core.ids import ConversationId, Counts, MessageId, Seq, Shares, Version
from receipts.core.member import Advance, Member, Period, Sharing, UnreadMark
from receipts.core.ranges import Ranges, RangeSet, through

from .base import ConversationRow, ConversationRows, MarkRow, MemberRow, MessageRow

__all__ = [
    "PackedAdvances",
    "fold",
    "load_conversation",
    "load_member",
    "load_shell",
    "message",
    "pack_advances",
    "pack_marks",
    "pack_member",
    "pack_registers",
    "pack_told",
    "readable",
    "shared_through",
    "shared_tick",
    "unpack_marks",
    "unpack_member",
    "unpack_registers",
    "unpack_told",
    "user_marks",
]

_pack: Callable[[Any], bytes] = msgpack.Packer(use_bin_type=True, autoreset=True).pack

# By their values: looking one up is a fifth of calling its class.
_REGISTERS = {register.value: register for register in Register}
_COUNTS = {int(one): one for one in Counts}
_SHARES = {int(one): one for one in Shares}


def pack_marks(member: Member, shared_tick: int, shared_through: Seq | None = None) -> bytes:
    """`MarkRow.marks`: [shared_tick, read, read_shared, delivered_shared, {device: held}], and what is
    withheld if anything is.

    Sets are flat bounds.

    Args:
        shared_tick: When what others may know of it last changed: a private read must not show (I-25), not
            even as a row sent again.
        shared_through: The head at that time, or at the last folding: own messages after it are left out of
            what others see of the row, so that it does not show when the row was written. None for no bound.
    """
    read_shared, delivered_shared = member.read_shared._bounds, member.delivered_shared._bounds
    if shared_through is not None:
        read_shared = _clipped(read_shared, shared_through)
        delivered_shared = _clipped(delivered_shared, shared_through)
    return _pack(
        (
            shared_tick,
            member.read._bounds,
            read_shared,
            delivered_shared,
            {device: held._bounds for device, held in member.devices.items()},
            *([member.withheld._bounds] if member.withheld else ()),
        )
    )


def _clipped(bounds: list[int], last: Seq) -> list[int]:
    if not bounds or bounds[-1] <= last + 1:
        return bounds
    return list(RangeSet(through(last)).within(bounds))


def pack_advances(member: Member) -> bytes:
    """`MarkRow.advances`: [version, at_ms, bounds, by] each, concatenated."""
    return PackedAdvances().of(member)


class PackedAdvances:
    """The packed advances of one member, kept: all of them are written whenever one is added."""

    __slots__ = ("_advances", "_parts")

    def __init__(self) -> None:
        self._advances: list[Advance] = []
        self._parts: list[bytes] = []

    def of(self, member: Member) -> bytes:
        """As `pack_advances`; packs what was not there the last time."""
        advances = member.advances
        added = self._added(advances)
        parts = self._parts
        parts += [_pack((a.version, a.at_ms, a.ranges, a.by)) for a in advances[len(advances) - added :]]
        del parts[: len(parts) - len(advances)]
        self._advances = advances.copy()
        return b"".join(parts)

    def _added(self, advances: list[Advance]) -> int:
        """How many were appended since, the oldest having made room; all of them if it is not that simple."""
        known = self._advances
        if known:
            for added in range(min(len(advances), ADDED_MAX)):
                kept = len(advances) - added
                if advances[kept - 1] is known[-1] and known[len(known) - kept :] == advances[:kept]:
                    return added
        self._parts.clear()
        return len(advances)


ADDED_MAX = 8
"""Advances of a member between two commits, beyond which packing all again is as cheap as looking."""


def unpack_marks(member: Member, row: MarkRow) -> None:
    """Join a mark row into a member."""
    _, read, read_shared, delivered_shared, devices, *withheld = msgpack.unpackb(row.marks)
    member.read.update(read)
    member.read_shared.update(read_shared)
    member.delivered_shared.update(delivered_shared)
    for device, held in devices.items():
        member.held(device).update(held)
    for declined in withheld:
        member.withheld.update(declined)
    if not row.advances:
        return  # a reader of a stream is dear to make
    unpacker = msgpack.Unpacker(use_list=False)
    unpacker.feed(row.advances)
    for version, at_ms, ranges, *by in unpacker:  # rows of schema version 1 do not say how
        member.remember(Advance(version, at_ms, ranges, By(by[0]) if by else By.UNSAID))


def pack_registers(registers: dict[Register, tuple[Version, RegisterValue]]) -> bytes:
    """{name: [version, value]}."""
    return _pack({name.value: known for name, known in registers.items()})


def unpack_registers(blob: bytes) -> dict[Register, tuple[Version, RegisterValue]]:
    """The reverse of `pack_registers`; names of a newer version are left out."""
    return {
        _REGISTERS[name]: (version, content)
        for name, (version, content) in msgpack.unpackb(blob).items()
        if name in _REGISTERS
    }


def pack_member(member: Member, shared_tick: int) -> bytes:
    """`MemberRow.state`; `shared_tick` as in `pack_marks`."""
    sharing, mark = member.sharing, member.unread_mark
    return _pack(
        (
            shared_tick,
            [(version, p.from_seq, p.through) for version, p in member.periods.items()],
            member.cleared_through,
            {name.value: known for name, known in member.registers.items()},
            (
                sharing.version,
                sharing.delivered,
                sharing.read,
                sharing.delivered_obscured_through,
                sharing.read_obscured_through,
            ),
            (mark.version, mark.flagged, mark.ranges),
        )
    )


def unpack_member(member: Member, row: MemberRow) -> None:
    """Join a member row into a member."""
    _, periods, cleared_through, registers, sharing, mark = msgpack.unpackb(row.state, use_list=False)
    for version, from_seq, last in periods:
        member.open_period(version, Period(from_seq, last))
    member.cleared_through = max(member.cleared_through, cleared_through)
    for name, (version, content) in registers.items():
        member.set_register(Register(name), version, content)
    if sharing[0] > member.sharing.version:
        member.sharing = Sharing(*sharing)
    if mark[0] > member.unread_mark.version:
        member.unread_mark = UnreadMark(*mark)


def pack_told(delivered: RangeSet, read: RangeSet, cleared: Seq, answered: Version) -> bytes:
    """`ToldRow.told`: [delivered, read, cleared, answered], sets as flat bounds."""
    return _pack((delivered._bounds, read._bounds, cleared, answered))


def unpack_told(blob: bytes) -> tuple[Ranges, Ranges, Seq, Version]:
    """The reverse of `pack_told`."""
    delivered, read, cleared, answered = msgpack.unpackb(blob, use_list=False)
    return delivered, read, cleared, answered


def shared_tick(row: MarkRow | MemberRow) -> int:
    """When what others may know of the row last changed."""
    blob = row.marks if isinstance(row, MarkRow) else row.state
    tick: int = msgpack.unpackb(blob)[0]
    return tick


def shared_through(row: MarkRow) -> Seq:
    """A bound for `pack_marks` that leaves the row as it is."""
    _, _, read_shared, delivered_shared, *_ = msgpack.unpackb(row.marks)
    return max((bounds[-1] - 1 for bounds in (read_shared, delivered_shared) if bounds), default=0)


def load_member(row: MemberRow) -> Member:
    """A member of its own, without marks."""
    member = Member()
    unpack_member(member, row)
    return member


def message(conversation: ConversationId, row: MessageRow) -> MessageAccepted:
    """A message row as the event it came from, without its client id."""
    return MessageAccepted(
        conversation,
        row.seq,
        MessageId(row.message_id),
        row.author,
        row.device,
        row.at_ms,
        row.body,
        _COUNTS[row.counts],
        bool(row.asks),
        _SHARES[row.shares],
    )


def fold(chat: Conversation, rows: list[MessageRow]) -> None:
    """Join the author's marks of messages that are not in mark rows yet."""
    for row in rows:
        chat.apply_message(row)


def load_conversation(rows: ConversationRows) -> Conversation:
    """The machine's state from its rows."""
    chat = load_shell(rows.row, rows.head, rows.recalled, rows.uncounted)
    for member_row in rows.members:
        unpack_member(chat.member(member_row.user), member_row)
    for mark_row in rows.marks:
        unpack_marks(chat.member(mark_row.user), mark_row)
    fold(chat, rows.unfolded)
    for ask in rows.asks:
        if ask.seq > chat.receipts_expired_through:
            chat._asked(ask.seq).author = ask.author
    for receipt in rows.receipts:
        if receipt.seq in chat.asked:
            answer = Receipt((receipt.version, receipt.at_ms, receipt.content))
            chat.asked[receipt.seq].readers[receipt.reader] = answer
    return chat


def load_shell(row: ConversationRow, head: Seq, recalled: Ranges, uncounted: Ranges) -> Conversation:
    """A conversation without its members' states."""
    chat = Conversation.named(row.conversation)
    chat.head = max(head, row.expired_through)
    chat.recalled.update(recalled)
    chat.uncounted.update(uncounted)
    chat.expired_through = row.expired_through
    chat.receipts_expired_through = row.receipts_expired_through
    chat.recalled.drop_through(row.expired_through)
    chat.uncounted.drop_through(row.expired_through)
    chat.registers = unpack_registers(row.registers)
    return chat


def readable(member: Member, head: Seq, expired_through: Seq, *, open_history: bool = False) -> Ranges:
    """Which messages a member may be given.

    Args:
        open_history: Whether messages from before a member's first period may be read.
    """
    floor = max(member.cleared_through, expired_through)
    seen = RangeSet()
    periods = sorted(member.periods.values(), key=lambda period: period.from_seq)
    for index, period in enumerate(periods):
        start = 1 if open_history and index == 0 else period.from_seq
        stop = (head if period.through is None else period.through) + 1
        if start < stop:
            seen.add(start, stop)
    return RangeSet(through(floor)).missing(seen.ranges)


def user_marks(row: MarkRow) -> Member:
    """A member of its own with the marks of a row, without periods."""
    member = Member()
    unpack_marks(member, row)
    return member
