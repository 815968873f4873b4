"""What a conversation knows of one member: sets, registers, periods. No rules of counting here."""

from __future__ import annotations

from bisect import insort
from typing import TypeVar

from .events import By, Register, RegisterValue
from .ids import DeviceId, Seq, Version
from .ranges import EMPTY, Ranges, RangeSet
from .value import value

__all__ = ["ADVANCES_MAX", "Advance", "Member", "Period", "Sharing", "UnreadMark", "set_register"]

ADVANCES_MAX = 32
"""How many read times are kept a member. Enough for 'read at' on what is on screen; a row per message is
what made the tables of others outgrow their messages (invariants: failure 21)."""


@value(kw_only=False)
class Advance:
    """These messages were shared as read at this time. Orders by version."""

    version: Version
    at_ms: int
    ranges: Ranges
    by: By = By.UNSAID
    """How it was said: information for the application."""


@value(kw_only=False)
class Period:
    """A stretch of membership: the audience of #n is who has a period that covers n."""

    from_seq: Seq
    """Inclusive; 0 while only the end was heard of."""
    through: Seq | None = None
    """Inclusive; None while it is open. Less than `from_seq` when nothing was sent in it."""

    def covers(self, seq: Seq) -> bool:
        """Whether a message with this seq fell into the period. None while its beginning is not known."""
        return 0 < self.from_seq <= seq and (self.through is None or seq <= self.through)


@value(kw_only=False)
class Sharing:
    """What a member lets others know, and since when: a register."""

    version: Version = 0
    delivered: bool = True
    read: bool = True
    delivered_obscured_through: Seq = 0
    read_obscured_through: Seq = 0


@value(kw_only=False)
class UnreadMark:
    """The marked-as-unread overlay: a register."""

    version: Version = 0
    flagged: bool = False
    ranges: Ranges = EMPTY

    def __bool__(self) -> bool:
        return self.flagged or bool(self.ranges)


_Register = TypeVar("_Register", Sharing, UnreadMark)

_SHARING = Sharing()
_UNMARKED = UnreadMark()


class Member:
    """One member's part of the state. Mutable; changed by `Conversation` alone."""

    __slots__ = (
        "advances",
        "cleared_through",
        "delivered_shared",
        "devices",
        "joined",
        "period",
        "periods",
        "read",
        "read_shared",
        "registers",
        "sharing",
        "unread_mark",
        "withheld",
    )

    def __init__(self) -> None:
        self.read = RangeSet()
        """All the member has read or written: what own counts use."""
        self.read_shared = RangeSet()
        """What others may know as read; with the own messages, to stay whole."""
        self.delivered_shared = RangeSet()
        """What others may know as delivered; with the own messages, to stay whole."""
        self.withheld = RangeSet()
        """What a device said to hold and declined to tell of: no other device's leaving makes it known."""
        self.devices: dict[DeviceId, RangeSet] = {}
        """One entry per device that ever held something: what it holds."""
        self.periods: dict[Version, Period] = {}
        """Keyed by the version of the joining; changed by `open_period` and `close_period` alone."""
        self.period: Period | None = None
        """The period of the highest version: the current or the last one; None for who never was a member."""
        self.joined = False
        """Whether the member is in the conversation now: the current period is open."""
        self.cleared_through: Seq = 0
        self.registers: dict[Register, tuple[Version, RegisterValue]] = {}
        self.sharing = _SHARING
        self.unread_mark = _UNMARKED
        self.advances: list[Advance] = []
        """The newest `ADVANCES_MAX`, by rising version."""

    def in_audience(self, seq: Seq) -> bool:
        """Whether message `seq` was for this member, its author apart."""
        latest = self.period  # mostly the only one
        if latest is not None and latest.covers(seq):
            return True
        return any(period.covers(seq) for period in self.periods.values())

    def held(self, device: DeviceId) -> RangeSet:
        """What a device holds, to be changed in place."""
        found = self.devices.get(device)
        if found is None:
            found = self.devices[device] = RangeSet()
        return found

    def remember(self, advance: Advance) -> None:
        """Keep a read time if it is among the newest; a repeat changes nothing.

        The newest `ADVANCES_MAX` of a union are the newest of the newest of its parts, so cutting off the
        rest is still a join.
        """
        advances = self.advances
        if not advances or advance.version > advances[-1].version:
            advances.append(advance)
        elif any(_newness(known) == _newness(advance) for known in advances):
            return
        else:
            insort(advances, advance, key=_newness)
        if len(advances) > ADVANCES_MAX:
            del advances[0]

    def set_sharing(self, sharing: Sharing) -> None:
        """The higher version stands."""
        if _supersedes(sharing, self.sharing):
            self.sharing = sharing

    def set_unread_mark(self, mark: UnreadMark) -> None:
        """The higher version stands."""
        if _supersedes(mark, self.unread_mark):
            self.unread_mark = mark

    def set_register(self, register: Register, version: Version, content: RegisterValue) -> None:
        """The higher version stands."""
        set_register(self.registers, register, version, content)

    def open_period(self, version: Version, period: Period) -> None:
        """Take a period in; a closed one beats an open one, so that order does not matter."""
        periods = self.periods
        known = periods.get(version)
        if known is not None:
            bounds = [p.through for p in (known, period) if p.through is not None]
            period = Period(max(known.from_seq, period.from_seq), min(bounds) if bounds else None)
        periods[version] = period
        self._find_period()

    def close_period(self, version: Version, through: Seq) -> None:
        """End a period; if its beginning has not been heard of yet, it is filled in when it comes."""
        self.open_period(version, Period(0, through))

    def drop_period(self, version: Version) -> None:
        """Forget a period. For repairs only: a join never forgets one."""
        del self.periods[version]
        self._find_period()

    def _find_period(self) -> None:
        period = self.period = self.periods[max(self.periods)] if self.periods else None
        self.joined = period is not None and period.through is None


def set_register(
    registers: dict[Register, tuple[Version, RegisterValue]],
    register: Register,
    version: Version,
    content: RegisterValue,
) -> None:
    """The higher version stands. Of two values of one version, which no node gives, one stands everywhere."""
    known = registers.get(register)
    if known is None or version > known[0] or (version == known[0] and repr(content) > repr(known[1])):
        registers[register] = (version, content)


def _supersedes(new: _Register, known: _Register) -> bool:
    """Whether `new` stands against `known`. The node gives no version twice; if something else did, the
    choice between the two is arbitrary but the same everywhere."""
    return new.version > known.version or (new.version == known.version and repr(new) > repr(known))


def _newness(advance: Advance) -> tuple[Version, int, Ranges]:
    return advance.version, advance.at_ms, advance.ranges
