"""Why a count is what it is, and whether the state holds what must hold.

`explain` gives the messages behind a member's unread count (I-12). `verify` finds what cannot be right,
each finding with the id of the invariant it breaks; `repair` mends what `verify` can find, and says what
it did. A healthy state has no findings, so both are safe to run at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import TypeAlias

from .conversation import Asked, Conversation
from .ids import Seq, UserId
from .member import Member, Period, UnreadMark
from .ranges import Ranges, RangeSet, count, ranges_of, seqs_of, through
from .value import value

__all__ = ["Explanation", "Finding", "explain", "repair", "verify"]


@value
class Explanation:
    """A page of the messages behind a count."""

    unread: int
    """The count itself; the pages together hold exactly this many seqs."""
    seqs: tuple[Seq, ...]
    """Rising."""
    more: bool
    """Whether there is a next page, after the last of `seqs` (I-22)."""


@value
class Finding:
    """Something that must hold and does not."""

    invariant: str
    """As in docs/invariants.md: I-1 …"""
    member: UserId | None
    detail: str


def explain(chat: Conversation, user: UserId, *, after: Seq = 0, limit: int = 1000) -> Explanation:
    """The seqs behind `chat.unread(user)`.

    Args:
        after: Begin behind this seq (exclusive): the last one of the page before.
        limit: At most this many, at least 1.
    """
    unread = chat.unread_ranges(user)
    rest = RangeSet(through(after)).missing(unread)
    return Explanation(
        unread=count(unread), seqs=tuple(islice(seqs_of(rest), limit)), more=count(rest) > limit
    )


def verify(chat: Conversation) -> list[Finding]:
    """Everything in the state of the side that decides that cannot be right; empty when all is well.

    A replica may rightly hold marks ahead of the messages it knows, so this is not for replicas.
    """
    return [finding for finding, _ in _check(chat)]


def repair(chat: Conversation) -> list[Finding]:
    """Take out what cannot be right. Returns what was found; afterwards `verify` finds nothing.

    Repairing what `verify` does not doubt changes nothing, so a second repair finds nothing to do. After
    calling this with findings, you must start a new life of the data: what was taken out would come back
    with the next join from a replica that still has it.
    """
    found = []
    # Mending one thing may show another (a lower floor, a shorter period); every mend takes something out or
    # fills a set up to what it must hold, so this ends.
    while broken := list(_check(chat)):
        for finding, mend in broken:
            found.append(finding)
            mend()
    return found


_Broken: TypeAlias = tuple[Finding, Callable[[], object]]
"""What is wrong, and what to call to make it right."""


def _check(chat: Conversation) -> Iterator[_Broken]:
    if chat.expired_through > chat.head:  # all else is judged by the head, so it comes first, alone
        detail = f"expired through {chat.expired_through}, beyond head {chat.head}"
        yield _broken("I-6", None, detail, lambda: setattr(chat, "head", chat.expired_through))
        return
    yield from _check_floors(chat)
    yield from _check_tombstones(chat)
    for user, member in sorted(chat.members.items()):
        yield from _check_sets(chat, user, member)
        yield from _check_mark(chat, user, member)
        yield from _check_periods(chat, user, member)
    for seq, asked in sorted(chat.asked.items()):
        yield from _check_asked(chat, seq, asked)


def _broken(invariant: str, user: UserId | None, detail: str, mend: Callable[[], object]) -> _Broken:
    return Finding(invariant=invariant, member=user, detail=detail), mend


def _check_floors(chat: Conversation) -> Iterator[_Broken]:
    head = chat.head
    if chat.receipts_expired_through > head:
        detail = f"receipts expired through {chat.receipts_expired_through}, beyond head {head}"
        yield _broken("I-6", None, detail, lambda: setattr(chat, "receipts_expired_through", head))
    if chat.receipts_expired_through < chat.expired_through:
        detail = f"messages expired through {chat.expired_through} without their receipts"
        floor = chat.expired_through
        yield _broken("I-10", None, detail, lambda: setattr(chat, "receipts_expired_through", floor))
    for user, member in sorted(chat.members.items()):
        if member.cleared_through > head:
            detail = f"cleared through {member.cleared_through}, beyond head {head}"
            yield _broken("I-6", user, detail, partial(setattr, member, "cleared_through", head))


def _check_tombstones(chat: Conversation) -> Iterator[_Broken]:
    gone = RangeSet(through(chat.expired_through))
    exists = RangeSet(through(chat.head))
    for what, known in (("recalled", chat.recalled), ("uncounted", chat.uncounted)):
        yield from _beyond(exists, what, known, None)
        if orphans := gone.within(known.ranges):
            detail = f"{what} holds {RangeSet(orphans)}, which are expired"
            yield _broken("I-10", None, detail, partial(known.discard, orphans))


def _beyond(exists: RangeSet, what: str, known: RangeSet, user: UserId | None) -> Iterator[_Broken]:
    if excess := exists.missing(known.ranges):
        detail = f"{what} holds {RangeSet(excess)} beyond head {exists.count()}"
        yield _broken("I-6", user, detail, partial(known.discard, excess))


def _check_sets(chat: Conversation, user: UserId, member: Member) -> Iterator[_Broken]:
    exists = RangeSet(through(chat.head))
    yield from _beyond(exists, "read", member.read, user)
    yield from _beyond(exists, "read_shared", member.read_shared, user)
    yield from _beyond(exists, "delivered_shared", member.delivered_shared, user)
    for device, held in sorted(member.devices.items()):
        yield from _beyond(exists, f"held on {device}", held, user)
    if leaked := member.read.missing(exists.within(member.read_shared.ranges)):
        detail = f"{RangeSet(leaked)} shared as read but not read"
        yield _broken("I-14", user, detail, partial(member.read.update, leaked))


def _check_mark(chat: Conversation, user: UserId, member: Member) -> Iterator[_Broken]:
    mark = member.unread_mark

    def without(excess: Ranges) -> Callable[[], object]:
        left = RangeSet(excess).missing(mark.ranges)
        return partial(setattr, member, "unread_mark", UnreadMark(mark.version, mark.flagged, left))

    if excess := RangeSet(through(chat.head)).missing(mark.ranges):
        detail = f"the unread mark holds {RangeSet(excess)} beyond head {chat.head}"
        yield _broken("I-5", user, detail, without(excess))
    elif own := ranges_of(seq for seq, asked in chat.asked.items() if asked.author == user):
        if marked := RangeSet(own).within(mark.ranges):
            yield _broken("I-1", user, f"own {RangeSet(marked)} marked unread", without(marked))
        if unread := member.read.missing(RangeSet(through(chat.head)).within(own)):
            detail = f"own {RangeSet(unread)} not read"
            yield _broken("I-1", user, detail, partial(member.read.update, unread))


def _check_periods(chat: Conversation, user: UserId, member: Member) -> Iterator[_Broken]:
    head = chat.head
    after: Period | None = None
    for version, period in sorted(member.periods.items(), reverse=True):
        last = head if after is None else after.from_seq - 1
        if period.from_seq < 1 or period.from_seq > head + 1:
            detail = f"a membership that begins at {period.from_seq} with head {head}"
            yield _broken("I-18", user, detail, partial(member.drop_period, version))
            continue
        if (period.through is None and after is not None) or (period.through or 0) > last:
            detail = f"the membership from {period.from_seq} runs beyond {last}"
            # Closing is a join, which keeps the lower end.
            yield _broken("I-18", user, detail, partial(member.close_period, version, last))
        after = period


def _check_asked(chat: Conversation, seq: Seq, asked: Asked) -> Iterator[_Broken]:
    drop = partial(chat.asked.pop, seq, None)
    if seq > chat.head:
        yield _broken("I-6", None, f"receipts of #{seq}, beyond head {chat.head}", drop)
    elif seq <= chat.receipts_expired_through:
        yield _broken("I-10", None, f"receipts of #{seq}, which are expired", drop)
    elif asked.author is None:
        yield _broken("I-10", None, f"answers to #{seq}, which did not ask", drop)
    else:
        for reader in sorted(asked.readers):
            member = chat.members.get(reader)
            mend = partial(asked.readers.pop, reader, None)
            if reader == asked.author:
                yield _broken("I-26", reader, f"the author of #{seq} answered it", mend)
            elif member is None or not member.in_audience(seq):
                yield _broken("I-19", reader, f"#{seq} was answered by somebody it was not for", mend)
