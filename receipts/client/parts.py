"""Parts of a conversation's state, in pages of catch-up and on a device's disk: what one says, as the updates
that would have said it live, and a conversation as parts. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from receipts.core import events
from receipts.core.conversation import Asked, Conversation
from receipts.core.events import Register
from receipts.core.ids import DeviceId, Seq, UserId, Version
from receipts.core.member import Member
from receipts.core.ranges import EMPTY, RangeSet
from receipts.wire.updates import AskedPart, ConversationPart, MemberPart, Reader, RegisterPart, Update

__all__ = ["facts_of", "member_facts", "parts_of", "readers_of"]

_READER_BYTES = 128  # of one answer in a frame, its words apart
_PART_BYTES_MAX = 256 * 1024  # of a saved part, far below what a frame may have


# -- what a part says


def facts_of(chat: Conversation, part: ConversationPart) -> Iterator[Update]:
    """A part's facts about the conversation itself, as the updates that would have said them live."""
    for seq in RangeSet(chat.recalled.missing(part.recalled)):
        yield events.MessageRecalled(conversation=chat.id, seq=seq, by="")
    if part.expired_through:
        yield events.MessagesExpired(conversation=chat.id, through=part.expired_through)
    if part.receipts_expired_through:
        yield events.GroupReceiptsExpired(conversation=chat.id, through=part.receipts_expired_through)
    yield from _register_facts(chat, None, part.registers)


def member_facts(chat: Conversation, part: MemberPart) -> Iterator[Update]:
    """A part's facts about one member, receipts apart."""
    user = part.user
    for version, period in part.periods:
        yield events.MemberJoined(
            conversation=chat.id, member=user, version=version, from_seq=max(period.from_seq, 1)
        )
        if period.through is not None:
            yield events.MemberLeft(conversation=chat.id, member=user, joined=version, through=period.through)
    if part.cleared_through:
        yield events.HistoryCleared(conversation=chat.id, member=user, through=part.cleared_through)
    yield from _register_facts(chat, user, part.registers)
    sharing, mark = part.sharing, part.unread_mark
    if sharing.version:
        yield events.SharingChanged(
            conversation=chat.id,
            member=user,
            version=sharing.version,
            delivered=sharing.delivered,
            read=sharing.read,
            delivered_obscured_through=sharing.delivered_obscured_through,
            read_obscured_through=sharing.read_obscured_through,
        )
    if mark.version:
        yield events.UnreadMarked(
            conversation=chat.id,
            member=user,
            version=mark.version,
            flagged=mark.flagged,
            ranges=mark.ranges,
        )


def _register_facts(
    chat: Conversation, member: UserId | None, registers: Iterable[RegisterPart]
) -> Iterator[Update]:
    """
    Args:
        member: Whose registers; None for those of the conversation.
    """
    for one in registers:
        yield events.RegisterSet(
            conversation=chat.id, member=member, register=one.register, version=one.version, value=one.value
        )


# -- a conversation as parts


def parts_of(chat: Conversation, head: Seq, user: UserId, device: DeviceId) -> Iterator[ConversationPart]:
    """The state of a conversation, without messages, in parts that fit a frame each.

    Args:
        chat: Is not changed while these are taken.
        head: The highest seq heard of, messages that are on their way included.
        user: Whose part of it is private.
        device: What it holds is part of the state; what others hold is not.
    """
    yield ConversationPart(
        conversation=chat.id,
        kind=chat.kind,
        head=head,
        recalled=chat.recalled.ranges,
        uncounted=chat.uncounted.ranges,
        expired_through=chat.expired_through,
        receipts_expired_through=chat.receipts_expired_through,
        registers=_registers(chat.registers),
        members=tuple(
            _member(name, member, device if name == user else None) for name, member in chat.members.items()
        ),
    )
    asked: list[AskedPart] = []
    size = 0
    for seq, one in chat.asked.items():
        readers = readers_of(one)
        cost = sum(_READER_BYTES + 4 * len(reader.content) for reader in readers)
        if asked and size + cost > _PART_BYTES_MAX:
            yield _asked_only(chat, asked)
            asked, size = [], 0
        asked.append(AskedPart(seq=seq, author=one.author or "", readers=readers))
        size += cost
    if asked:
        yield _asked_only(chat, asked)


def readers_of(asked: Asked) -> tuple[Reader, ...]:
    """Who has answered a message that asked, the first one first."""
    return tuple(
        Reader(user, receipt.at_ms, receipt.content, receipt.version)
        for user, receipt in sorted(asked.readers.items(), key=lambda item: (item[1], item[0]))
    )


def _member(user: UserId, member: Member, device: DeviceId | None) -> MemberPart:
    """
    Args:
        device: Of which it is said what it holds.
    """
    held = member.devices.get(device) if device is not None else None
    return MemberPart(
        user=user,
        read=member.read.ranges,
        read_shared=member.read_shared.ranges,
        delivered_shared=member.delivered_shared.ranges,
        held=held.ranges if held is not None else EMPTY,
        periods=tuple(member.periods.items()),
        cleared_through=member.cleared_through,
        registers=_registers(member.registers),
        sharing=member.sharing,
        unread_mark=member.unread_mark,
        advances=tuple(member.advances),
    )


def _registers(
    registers: Mapping[Register, tuple[Version, events.RegisterValue]],
) -> tuple[RegisterPart, ...]:
    return tuple(
        RegisterPart(register=name, version=version, value=content)
        for name, (version, content) in registers.items()
    )


def _asked_only(chat: Conversation, asked: list[AskedPart]) -> ConversationPart:
    return ConversationPart(conversation=chat.id, kind=chat.kind, head=chat.head, asked=tuple(asked))
