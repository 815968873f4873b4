"""What a replica knows for certain, as plain sorted data: to compare with what another one knows. PURE."""

from __future__ import annotations

from typing import Any

from receipts.core.conversation import Conversation
from receipts.core.ids import DeviceId, Seq, UserId, Version
from receipts.core.member import Member, Period
from receipts.core.ranges import RangeSet

__all__ = ["dump_chat"]


def dump_chat(chat: Conversation, user: UserId, device: DeviceId) -> dict[str, Any]:
    """All that a device knows for certain of a conversation: equal on all devices of `user`, apart from what
    `device` holds."""
    gone = chat.recalled.copy()
    if chat.expired_through:
        gone.add(1, chat.expired_through + 1)
    return {
        "kind": chat.kind.value,
        "head": chat.head,
        "recalled": list(chat.recalled.ranges),
        "uncounted": list(gone.missing(chat.uncounted.ranges)),
        "expired_through": chat.expired_through,
        "receipts_expired_through": chat.receipts_expired_through,
        "registers": {name.value: list(known) for name, known in sorted(chat.registers.items())},
        "asked": {
            seq: {
                "author": asked.author,
                "readers": {
                    reader: list(receipt)
                    for reader, receipt in sorted(asked.readers.items())
                    if asked.author == user
                },
            }
            for seq, asked in sorted(chat.asked.items())
            if seq not in gone
        },
        "members": {
            name: _mine(member, device, gone) if name == user else _member(member, gone)
            for name, member in sorted(chat.members.items())
        },
    }


def _member(member: Member, gone: RangeSet) -> dict[str, Any]:
    return {
        "periods": _periods(member),
        "registers": {name.value: list(known) for name, known in sorted(member.registers.items())},
        "read_shared": list(gone.missing(member.read_shared.ranges)),
        "delivered_shared": list(gone.missing(member.delivered_shared.ranges)),
        "advances": [[a.version, a.at_ms, list(a.ranges)] for a in member.advances],
    }


def _mine(member: Member, device: DeviceId, gone: RangeSet) -> dict[str, Any]:
    held = member.devices.get(device)
    sharing, mark = member.sharing, member.unread_mark
    return {
        "periods": _periods(member),
        "registers": {name.value: list(known) for name, known in sorted(member.registers.items())},
        "read": list(gone.missing(member.read.ranges)),
        "held": list(gone.missing(held.ranges)) if held is not None else [],
        "cleared_through": member.cleared_through,
        "sharing": [
            sharing.version,
            sharing.delivered,
            sharing.read,
            sharing.delivered_obscured_through,
            sharing.read_obscured_through,
        ],
        # Its version is known only to devices that did not clear it themselves.
        "unread_mark": [mark.flagged, list(mark.ranges)],
    }


def _periods(member: Member) -> dict[Version, list[Seq | None]]:
    def bounds(period: Period) -> list[Seq | None]:
        return [period.from_seq, period.through]

    return {version: bounds(period) for version, period in sorted(member.periods.items())}
