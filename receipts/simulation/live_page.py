"""What an application on the vendor's SDK makes of its callbacks, and what must hold of it. PURE.

A page keeps what it is told, as the vendor's documents say an application should: ids of messages, which of
its user's are delivered or read, readers of those that asked. With every callback it is checked that nothing
is told twice, and nothing that is not so by what is on the node's disk; at rest, that nothing is missing. The
truth is counted as for native devices (`live_checks`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from receipts.core.ids import ConversationId, Seq, UserId, direct, direct_members
from receipts.core.status import Status
from receipts.easemob import msync_pb2 as pb
from receipts.storage import base as rows

from .live_checks import Truth
from .violation import Violation
from .websdk import Answer, Callback, Failed, Kicked, Queue, Statistics, Told

__all__ = ["Message", "Page", "Sent", "peer_of"]


class Message(NamedTuple):
    """A message that a page holds."""

    mid: int
    sender: UserId
    asks: bool


class Sent(NamedTuple):
    """What a page sent, and waits to hear of."""

    what: str
    """message, recall or receipt."""
    meta: pb.Meta
    conversation: ConversationId
    text: str = ""
    asks: bool = False
    mid: int = 0
    """Of a recall: the message."""


class Page:
    """An application on one connection of the SDK, with everything that it was told.

    Args:
        store: The node's disk.
        app: The app key.
        user, resource: Who it is, and the device's name.
    """

    def __init__(self, store: rows.Store, app: str, user: UserId, resource: str) -> None:
        self._store = store
        self._app = app
        self.user = user
        self.resource = resource
        self.messages: dict[ConversationId, dict[int, Message]] = defaultdict(dict)
        """By id, in the order of their coming; own ones that it sent too."""
        self.sent: dict[int, Sent] = {}
        """By local id, what has no answer yet."""
        self.failed: list[Sent] = []
        """What nobody knows the outcome of, for the page to send again."""
        self.accepted: list[tuple[str, ConversationId]] = []
        """Bodies that were taken since somebody looked."""
        self.refused: list[str] = []
        """Likewise, why what was sent was not taken."""
        self.kicked: str | None = None
        """Why it was sent away; whoever lets it come back clears that."""
        self._delivered: set[int] = set()
        self._read: set[int] = set()
        self._counts: dict[int, int] = {}
        self._recalled: set[int] = set()
        self._unsure: dict[int, ConversationId] = {}
        """Local ids of messages whose first answer was lost, in one-to-one conversations."""
        self._hidden: set[int] = set()
        """Messages that were read, as a conversation receipt said, before the page knew their ids."""
        self.all_has_arrived = False
        """Whether nothing that it was told before is to be told again, even to an SDK without a filter."""
        self._told_ever: set[int] = set()
        """Ids of metas."""
        self._told_since: dict[int, int] = {}
        """Of these, since the SDK has its filter: on which link."""
        self._said_since: dict[tuple[str, int, UserId], int] = {}
        """Likewise, by what they said: the callback, the message, and whose receipt or message it was."""
        self._link = 0
        self._newest: dict[ConversationId, int] = defaultdict(int)
        """The last message that came on this link."""
        self._key = 0

    def begin_link(self) -> None:
        """The SDK has a new link. What it had on earlier ones and could not acknowledge comes again; it lets
        that through if it has seen more ids since than it remembers."""
        self._link += 1
        self._newest.clear()

    def forget_filter(self) -> None:
        """The SDK has lost its filter: what it had and could not acknowledge may be told once more."""
        self._told_since.clear()
        self._said_since.clear()

    # -- what it is told

    def take(self, told: Told) -> None:
        """The application is told something.

        Raises:
            Violation: I-23 for what was told before, I-24 for what is not so, I-11 for what is nobody's
                business, I-8 for a message that comes after later ones.
        """
        if isinstance(told, Callback):
            self._call_back(told)
        elif isinstance(told, Answer):
            self._answered(told)
        elif isinstance(told, Failed):
            self._lost(told)
        elif isinstance(told, Statistics):
            for mid, count in told.counts.items():
                self._count(mid, count)
        elif isinstance(told, Kicked):
            self.kicked = f"{told.code} {told.reason}"
        else:
            self._of_queue(told)

    def _of_queue(self, told: Queue) -> None:
        if told.key and told.key <= self._key:
            raise self._wrong("I-23", f"is given the key {told.key} after {self._key}")
        self._key = max(self._key, told.key)

    def _call_back(self, told: Callback) -> None:
        said = told.name, told.mid, told.sender
        again = self._told_since.get(told.id) == self._link or (
            told.mid and self._said_since.get(said, told.id) != told.id
        )
        if again or (self.all_has_arrived and told.id in self._told_ever):
            raise self._wrong("I-23", f"is told twice: {told}")
        self._said_since[said] = told.id
        self._told_since[told.id] = self._link
        self._told_ever.add(told.id)
        if told.name == "message":
            self._message(told)
        elif told.name == "recalled":
            self._recall(told)
        elif told.name == "delivered":
            self._check(told.mid, direct(told.sender, told.to), Status.DELIVERED, told.sender)
            self._delivered.add(told.mid)
        elif told.name == "channel":
            self._all_read(told)
        elif told.counts is None:
            self._check(told.mid, direct(told.sender, told.to), Status.READ, told.sender)
            self._read.add(told.mid)
        else:
            self._answered_by(told)

    def _message(self, told: Callback) -> None:
        conversation = self._conversation(told)
        truth = self._truth(conversation)
        found = _of_id(truth, told.mid)
        if found is not None:
            if found.seq not in periods_of(truth, self.user):
                raise self._wrong("I-27", f"is given #{found.seq} of {conversation}, which is not for it")
            if found.author != told.sender or (found.body != told.text and not found.recalled_tick):
                raise self._wrong("I-24", f"is given {told} instead of {found}")
        if told.mid <= self._newest[conversation]:
            raise self._wrong("I-8", f"is given {told.mid} after {self._newest[conversation]}")
        self._newest[conversation] = told.mid
        self.messages[conversation].setdefault(told.mid, Message(told.mid, told.sender, told.asks))

    def _recall(self, told: Callback) -> None:
        found = _of_id(self._truth(self._conversation(told)), told.mid)
        if found is not None and not found.recalled_tick:
            raise self._wrong("I-24", f"is told of a recall that was not: {told}")
        self._recalled.add(told.mid)

    def _all_read(self, told: Callback) -> None:
        """All own messages up to now are read; one's own receipt comes from another device."""
        conversation = direct(told.sender, told.to)
        if told.sender == self.user:
            return
        for mid in self._own(conversation):
            self._check(mid, conversation, Status.READ, told.sender)
            self._read.add(mid)
        self._hidden.update(local_id for local_id, of in self._unsure.items() if of == conversation)

    def _answered_by(self, told: Callback) -> None:
        assert told.counts is not None
        truth = self._truth(told.to)
        found = _of_id(truth, told.mid)
        if found is not None and found.seq in truth.readers:
            if told.sender not in truth.readers[found.seq]:
                raise self._wrong("I-24", f"is told of an answer that was not given: {told}")
            if found.author != self.user:
                raise self._wrong("I-26", f"is told of an answer to somebody else: {told}")
        for mid, count in told.counts.items():
            self._count(int(mid), count)

    def _count(self, mid: int, count: int) -> None:
        for truth in self._groups():
            found = _of_id(truth, mid)
            if (
                found is not None
                and count > len(truth.readers.get(found.seq, ()))
                and found.seq in truth.readers
            ):
                what = f"is told of {count} readers of #{found.seq} of {truth.name}"
                raise self._wrong("I-24", what, f"there are {sorted(truth.readers[found.seq])}")
        self._counts[mid] = max(self._counts.get(mid, 0), count)

    def _check(self, mid: int, conversation: ConversationId, status: Status, member: UserId) -> None:
        truth = self._truth(conversation)
        found = _of_id(truth, mid)
        if found is None or found.recalled_tick:
            return  # it is gone by now
        if found.author != self.user:
            raise self._wrong("I-26", f"is told that {member} has {status.name} #{found.seq} of another")
        known = truth.status(found.seq, member)
        if known < status:
            what = f"is told that #{found.seq} of {conversation} is {status.name}"
            raise self._wrong("I-24", what, f"it is {known.name}")

    # -- what became of what it sent

    def _answered(self, told: Answer) -> None:
        sent = self.sent.pop(told.local_id, None)
        if sent is None:
            return  # the SDK's own receipt
        if told.code:
            self.refused.append(f"{told.reason!r} for a {sent.what}")
            return
        if sent.what == "message":
            conversation, mid = sent.conversation, told.mid
            self.accepted.append((sent.text, conversation))
            self.messages[conversation].setdefault(mid, Message(mid, self.user, sent.asks))
            if told.local_id in self._hidden:
                self._hidden.add(mid)
        elif sent.what == "recall":
            self._recalled.add(sent.mid)
        self._unsure.pop(told.local_id, None)

    def _lost(self, told: Failed) -> None:
        sent = self.sent.pop(told.local_id, None)
        if sent is not None:
            self.failed.append(sent)
            if sent.what == "message":
                self._unsure[told.local_id] = sent.conversation
            elif sent.what == "recall":
                self._recalled.add(sent.mid)  # whoever tried that need not be told

    # -- at rest

    def lacks(self, truth: Truth, since_tick: int) -> Iterator[str]:
        """What this page should know of a conversation and does not, in words.

        Args:
            since_tick: When the node came to know the device. What was before may have gone to others.
        """
        held = self.messages[truth.name]
        recent = {seq: row for seq, row in truth.messages.items() if row.tick > since_tick}
        for seq in sorted(readable(truth, self.user) & recent.keys()):
            row = recent[seq]
            if row.message_id not in held and not self._may_not_know(row):
                yield f"#{seq} ({row.message_id}) was not given"
        for seq in sorted(truth.gone & recent.keys()):
            mid = recent[seq].message_id
            if mid in held and mid not in self._recalled and truth.joined(self.user):
                yield f"#{seq} was recalled, which was not told"
        for seq, row in recent.items():
            known = row.message_id in held and row.author == self.user and seq not in truth.gone
            if known and truth.joined(self.user):
                yield from self._lacks_receipts(truth, seq, row.message_id)

    def _lacks_receipts(self, truth: Truth, seq: Seq, mid: int) -> Iterator[str]:
        if truth.pair is None:
            readers = truth.readers.get(seq)
            count = self._counts.get(mid, 0)
            if readers is not None and count != len(readers):
                yield f"#{seq} has {count} readers instead of {sorted(readers)}"
            return
        status = truth.status(seq, truth.pair[truth.pair[0] == self.user])
        if status is Status.READ and mid not in self._read | self._hidden:
            yield f"#{seq} is READ, which was not told"
        if status is Status.DELIVERED and mid not in self._delivered:
            yield f"#{seq} is DELIVERED, which was not told"

    def _may_not_know(self, row: rows.MessageRow) -> bool:
        """What it sent itself, and whose answer was lost for good."""
        return row.author == self.user and row.device == self.resource and row.number in self._unsure

    # -- looking

    def known(self) -> Iterator[tuple[ConversationId, Message]]:
        """All messages that it holds."""
        for conversation, held in self.messages.items():
            for message in held.values():
                yield conversation, message

    def _own(self, conversation: ConversationId) -> list[int]:
        return [one.mid for one in self.messages[conversation].values() if one.sender == self.user]

    def _conversation(self, told: Callback) -> ConversationId:
        if self._store.conversation(self._app, told.to) is not None:
            return told.to
        return direct(told.sender, told.to)

    def _truth(self, conversation: ConversationId) -> Truth:
        found = self._store.conversation(self._app, conversation)
        if found is None:
            raise self._wrong("I-24", f"is told of {conversation}, which there is not")
        return Truth(self._store, found)

    def _groups(self) -> Iterator[Truth]:
        for conversation in self._store.conversations_of(self._app, self.user):
            if direct_members(conversation) is None:
                yield self._truth(conversation)

    def _wrong(self, invariant: str, what: str, details: str = "") -> Violation:
        return Violation(invariant, f"{self.user}/{self.resource} {what}", details)


def peer_of(conversation: ConversationId, user: UserId) -> str:
    """To whom the SDK writes in a conversation: the other user, or the group."""
    pair = direct_members(conversation)
    return conversation if pair is None else pair[pair[0] == user]


def _of_id(truth: Truth, mid: int) -> rows.MessageRow | None:
    return next((row for row in truth.messages.values() if row.message_id == mid), None)


def periods_of(truth: Truth, user: UserId) -> set[Seq]:
    """The seqs that were sent while a user was in it."""
    member = truth.members.get(user)
    found: set[Seq] = set()
    for period in member.periods.values() if member is not None else ():
        through = truth.head if period.through is None else period.through
        found.update(range(period.from_seq, through + 1))
    return found


def readable(truth: Truth, user: UserId) -> set[Seq]:
    """The seqs of messages that a user may read by now."""
    member = truth.members.get(user)
    cleared = member.cleared_through if member is not None else 0
    return {seq for seq in periods_of(truth, user) - truth.gone if seq > cleared and seq in truth.messages}
