"""Rules that an application may set, as data: no conversation is changed here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from .events import Role
from .ids import DeviceId, Seq
from .ranges import Ranges, RangeSet, through
from .value import value

__all__ = [
    "DAY_MS",
    "GAPS_MAX",
    "MINUTE_MS",
    "Features",
    "GroupPolicy",
    "Limits",
    "RollUp",
    "allowed",
    "held_by_rule",
]

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
GAPS_MAX = 4096


class RollUp(StrEnum):
    """When a message counts as delivered to a member with several devices."""

    ANY = "any"
    """As soon as one device holds it."""
    ALL = "all"
    """When every device that was known before the message holds it."""


@value
class GroupPolicy:
    """Who may do what in a group. A role is allowed with all roles above it."""

    may_ask_receipts: Role = Role.ADMIN
    """As the vendor's document has it: owner and admins."""
    may_add: Role = Role.ADMIN
    may_remove: Role = Role.ADMIN
    may_rename: Role = Role.ADMIN
    may_recall_others: Role = Role.ADMIN
    may_send: Role = Role.MEMBER
    open_history: bool = True
    """Whether a newcomer may fetch what was sent before; it never counts as unread either way."""


@value
class Limits:
    """Numbers with the vendor's defaults where these are public, else with the reason beside them."""

    group_receipts_members_max: int = 200
    """Members of a group, its author included, above which nobody may ask (Easemob)."""
    group_receipts_kept_ms: int = 3 * DAY_MS
    """How long readers and contents are kept (Easemob)."""
    readers_page_max: int = 500
    detail_ids_max: int = 20
    """Messages that one status query may name (Easemob: 20 ids a detail query)."""
    asking_messages_per_day: int = 500
    """Asking messages a group may send a day (Easemob)."""
    group_members_max: int = 3000
    devices_max: int = 10
    device_idle_ms: int = 30 * DAY_MS
    """A device that was away this long is forgotten; it comes back as a new one."""
    body_bytes_max: int = 256 * 1024
    """Room for a quoted message with entities; attachments travel by link everywhere."""
    content_characters_max: int = 1024
    """Of the words that go with a group receipt: a sentence, not a second message."""
    gaps_max: int = GAPS_MAX
    """Separate ranges a set may have: about 64 KiB, far above what a person makes by reading."""
    recall_window_ms: int = 2 * MINUTE_MS
    """For authors (Easemob: 2 minutes); those who may recall others' messages have no window."""
    history_page_max: int = 200
    conversations_page_max: int = 50
    snapshot_messages: int = 200
    """Newest messages per conversation in a full state; older ones come by history."""
    page_bytes_max: int = 256 * 1024
    """Of a catch-up page: large enough to be few, small enough to be sent again after a cut."""
    retention_ms: int = 0
    """Age at which messages are deleted; 0 keeps them."""
    sends_per_second: float = 100.0
    sends_burst: int = 500
    marks_per_second: float = 500.0
    marks_burst: int = 2000
    queries_per_second: float = 50.0
    queries_burst: int = 200
    changes_per_second: float = 20.0
    changes_burst: int = 200
    logins_per_minute: float = 30.0
    """Password attempts per user; hashing one costs the server 50 ms of CPU."""
    logins_burst: int = 10
    registrations_per_second: float = 10.0
    """New accounts of an app where users may register themselves; each costs the server 50 ms of CPU."""
    registrations_burst: int = 100


@value
class Features:
    """What an app has or has not (its edition)."""

    group_receipts: bool = True
    delivery_receipts: bool = True
    recall: bool = True
    open_registration: bool = False
    """Whether anybody may open an account, where there is a way to ask for one."""
    roll_up: RollUp = RollUp.ANY
    groups: GroupPolicy = GroupPolicy()


def held_by_rule(
    rule: RollUp,
    device: DeviceId,
    ranges: Ranges,
    held: Mapping[DeviceId, RangeSet],
    since: Mapping[DeviceId, Seq],
) -> Ranges:
    """Which of `ranges`, now held by `device`, count as delivered.

    Args:
        held: What each device of the member held before.
        since: One entry per device that the member has now: the head when it became known. A device owes
            nothing up to and including that seq.
    """
    if rule is RollUp.ANY:
        return ranges
    counted = RangeSet(ranges)
    for other, head in since.items():
        if other != device:
            has = held[other].copy() if other in held else RangeSet()
            if head:
                has.update(through(head))
            counted.discard(has.missing(counted.ranges))
    return counted.ranges


_RANK = {Role.OWNER: 2, Role.ADMIN: 1, Role.MEMBER: 0}


def allowed(role: Role, least: Role) -> bool:
    """Whether somebody with `role` may do what takes `least`."""
    return _RANK[role] >= _RANK[least]
