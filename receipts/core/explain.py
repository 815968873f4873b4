"""Why a count is what it is, and whether the state holds what must hold.

`explain` gives the messages behind a member's unread count (I-12). `verify` finds what cannot be right,
each finding with the id of the invariant it breaks; `repair` mends what `verify` can find, and says what
it did. A healthy state has no findings, so both are safe to run at any time.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from .conversation import Conversation
from .ids import Seq, UserId
from .member import Member, UnreadMark
from .ranges import Ranges, RangeSet, count, seqs_of, through
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
    return [finding for finding, _, _ in _check(chat)]


def repair(chat: Conversation) -> list[Finding]:
    """Take out what cannot be right. Returns what was found; afterwards `verify` finds nothing."""
    found = []
    for finding, target, excess in list(_check(chat)):
        found.append(finding)
        if isinstance(target, Member):
            mark = target.unread_mark
            target.unread_mark = UnreadMark(mark.version, mark.flagged, RangeSet(excess).missing(mark.ranges))
        else:
            target.discard(excess)
    for member in chat.members.values():
        member.read.update(member.read_shared.ranges)
    return found


def _check(chat: Conversation) -> Iterator[tuple[Finding, RangeSet | Member, Ranges]]:
    """Findings, each with the set that is wrong and the part of it that has to go."""
    exists = RangeSet(through(chat.head))

    def beyond(what: str, known: RangeSet, user: UserId | None) -> Iterator[tuple[Finding, RangeSet, Ranges]]:
        if excess := exists.missing(known.ranges):
            detail = f"{what} holds {RangeSet(excess)} beyond head {chat.head}"
            yield Finding(invariant="I-6", member=user, detail=detail), known, excess

    yield from beyond("recalled", chat.recalled, None)
    yield from beyond("uncounted", chat.uncounted, None)
    for user, member in sorted(chat.members.items()):
        yield from beyond("read", member.read, user)
        yield from beyond("read_shared", member.read_shared, user)
        yield from beyond("delivered_shared", member.delivered_shared, user)
        for device, held in sorted(member.devices.items()):
            yield from beyond(f"held on {device}", held, user)
        mark = member.unread_mark.ranges
        if excess := exists.missing(mark):
            detail = f"the unread mark holds {RangeSet(excess)} beyond head {chat.head}"
            yield Finding(invariant="I-5", member=user, detail=detail), member, excess
        if leaked := member.read.missing(exists.within(member.read_shared.ranges)):
            detail = f"{RangeSet(leaked)} shared as read but not read"
            yield Finding(invariant="I-14", member=user, detail=detail), RangeSet(), leaked
