"""What must hold when a live world has come to rest: everybody knows the same, and it is the truth. PURE.

The truth is counted here once more, with plain sets, from the rows on the node's disk: which messages there
are, who was in, what was read, what was shared. The node's answers and all devices are compared with that.
Nothing here asks the machine (`core.conversation`) what it thinks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from receipts.core.events import Register
from receipts.core.ids import ConversationId, Seq, UserId, direct_members
from receipts.core.member import Member
from receipts.core.status import Status
from receipts.storage import base as rows
from receipts.storage.codec import load_member, unpack_registers, user_marks

from .violation import Violation

__all__ = ["Truth", "check_sent", "differences", "recount"]

ALL = 10**9
"""More messages than a conversation has."""


class Truth:
    """One conversation as its rows tell it."""

    def __init__(self, store: rows.Store, found: rows.ConversationRows) -> None:
        row = found.row
        self.name: ConversationId = row.conversation
        self.pair = direct_members(row.conversation)
        self.messages = {
            message.seq: message for message in store.history(row.key, (row.expired_through + 1, ALL), ALL)
        }
        self.head: Seq = max([row.expired_through, *self.messages])
        self.gone = {seq for seq, message in self.messages.items() if message.recalled_tick}
        self.dissolved = Register.DELETED in unpack_registers(row.registers)
        self.members = {member.user: load_member(member) for member in found.members}
        self._marks = {mark.user: user_marks(mark) for mark in found.marks}
        self._expired_through = row.expired_through
        self.readers: dict[Seq, set[UserId]] = {
            ask.seq: set() for ask in found.asks if ask.seq > row.receipts_expired_through
        }
        for receipt in found.receipts:
            if receipt.seq in self.readers:
                self.readers[receipt.seq].add(receipt.reader)

    def joined(self, user: UserId) -> bool:
        """Whether a user is in it now."""
        member = self.members.get(user)
        return member is not None and any(
            period.through is None
            for version, period in member.periods.items()
            if version == max(member.periods)
        )

    def unread(self, user: UserId) -> set[Seq]:
        """The seqs that count as unread for a user."""
        if not self.joined(user):
            return set()
        member = self.members[user]
        since = member.periods[max(member.periods)].from_seq
        floor = max(since, member.cleared_through + 1, self._expired_through + 1)
        read = set(self._of(user).read)
        again = set(_seqs(member.unread_mark.ranges))
        return {
            seq
            for seq, message in self.messages.items()
            if seq >= floor
            and seq not in self.gone
            and not message.counts
            and message.author != user
            and (seq not in read or seq in again)
        }

    def marked_unread(self, user: UserId) -> bool:
        """Whether a user has marked it as unread by hand: a flag, or from a message that is still there."""
        mark = self.members[user].unread_mark
        floor = max(self.members[user].cleared_through, self._expired_through)
        if self.joined(user):
            floor = max(floor, self.members[user].periods[max(self.members[user].periods)].from_seq - 1)
        else:
            floor = self.head
        return mark.flagged or any(floor < seq <= self.head for seq in _seqs(mark.ranges))

    def muted(self, user: UserId) -> bool:
        """Whether a user has muted it."""
        known = self.members[user].registers.get(Register.MUTED)
        return known is not None and bool(known[1])

    def status(self, seq: Seq, user: UserId) -> Status:
        """How far a message is known to have come with a user, between two."""
        marks = self._of(user)
        if seq in set(marks.read_shared):
            return Status.READ
        return Status.DELIVERED if seq in set(marks.delivered_shared) else Status.ACKED

    def _of(self, user: UserId) -> Member:
        return self._marks.get(user) or Member()


def recount(store: rows.Store, app: str = "default") -> list[Truth]:
    """All conversations of an app, from their rows."""
    found = []
    for _, of, name in store.all_conversations(0, ALL):
        known = store.conversation(of, name) if of == app else None
        if known is not None:
            found.append(Truth(store, known))
    return found


def check_sent(truths: Iterable[Truth], accepted: dict[str, ConversationId]) -> None:
    """Every message that a device was told the node has is there once, recalled or expired ones apart.

    Raises:
        Violation: I-24 for one that is not there, I-23 for one that is there twice.
    """
    truths = list(truths)
    bodies: Counter[str] = Counter()
    forgotten = 0
    for truth in truths:
        forgotten += truth.head - len(truth.messages) + len(truth.gone)
        bodies.update(str(one.body) for seq, one in truth.messages.items() if seq not in truth.gone)
    twice = sorted(body for body, times in bodies.items() if times > 1)
    if twice:
        raise Violation("I-23", "a message that was sent once is there twice", f"{twice}")
    lost = sorted(accepted.keys() - bodies.keys())
    if len(lost) > forgotten:
        what = "a message that the node said it has is gone"
        raise Violation("I-24", what, f"{lost}, while {forgotten} were forgotten")


def differences(truths: Iterable[Truth], user: UserId, shown: dict[str, Any], *, delivery: bool) -> list[str]:
    """Where what a device shows is not what it should show, in words.

    Args:
        user: Whose device it is.
        shown: By conversation id: a dict of `unread` (seqs), `marked`, and `statuses` and `readers` of the
            user's own messages, by seq.
        delivery: Whether the device is told of deliveries.
    """
    found = []
    for truth in truths:
        if user not in truth.members:
            continue
        view = shown.get(truth.name)
        if view is None:
            if truth.joined(user) and not truth.dissolved:
                found.append(f"{truth.name} is not known")
            continue
        found += [f"{truth.name}: {what}" for what in _differences(truth, user, view, delivery)]
    return found


def _differences(truth: Truth, user: UserId, view: dict[str, Any], delivery: bool) -> Iterable[str]:
    unread = sorted(truth.unread(user))
    if view["unread"] != unread:
        yield f"unread is {view['unread']} instead of {unread}"
    if view["marked"] != truth.marked_unread(user):
        yield f"marked unread is {view['marked']}"
    if not truth.joined(user):
        return
    if view["head"] != truth.head:
        yield f"the head is {view['head']} instead of {truth.head}"
    if truth.pair is not None:
        peer = truth.pair[truth.pair[0] == user]
        for seq, status in view["statuses"].items():
            known = truth.status(seq, peer) if seq in truth.messages else status
            if status != known and (delivery or Status.READ in (status, known)):
                yield f"#{seq} is {status.name} instead of {known.name}"
    for seq, readers in view["readers"].items():
        known_readers = truth.readers.get(seq, set())
        if set(readers) != known_readers:
            yield f"#{seq} was read by {sorted(readers)} instead of {sorted(known_readers)}"


def _seqs(ranges: tuple[int, ...]) -> Iterable[Seq]:
    for start, stop in zip(ranges[::2], ranges[1::2], strict=True):
        yield from range(start, stop)
