"""Receipts on their way: when the next ones go out, which went out on this link, and what an answer or a
refusal says of them. PURE.

Rule 1: the node answers in order, so an answer confirms every receipt that went out before its question.
Rule 2: a refusal without a number may mean any receipt without a number that is on its way.
Rule 3: what was refused for now is said again, what was refused for good is given up and reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from receipts.core.errors import Code
from receipts.core.ids import ConversationId, direct_members
from receipts.core.ranges import EMPTY, Ranges, RangeSet, through
from receipts.wire.commands import AckDelivered, Command, ReadConversation, ReadMessages
from receipts.wire.updates import Rejected

from .news import MarkRefused
from .outbox import Mark, Outbox, held_by, read_by
from .replica import Replica

__all__ = ["Flight"]

_GONE = frozenset({Code.NOT_A_MEMBER, Code.UNKNOWN_CONVERSATION})


class Flight:
    """What one device has said of its receipts, on the present link.

    Args:
        replica: Joins in what is confirmed.
        outbox: Has the receipts that the node is not known to have.
        coalesce_ms: How long receipts wait for others to go out with.
        next_rid: Gives numbers to commands whose refusal must be known from others'.
    """

    def __init__(
        self, replica: Replica, outbox: Outbox, coalesce_ms: int, next_rid: Callable[[], int]
    ) -> None:
        self._replica = replica
        self._outbox = outbox
        self._coalesce_ms = coalesce_ms
        self._next_rid = next_rid
        self.flush_at: int | None = None
        """When receipts go out, in the caller's time; None when there are none to go."""
        self._place = 0  # of the newest command that went out
        self._places: dict[int, int] = {}  # rid → place of what waits for an answer
        self._marks: dict[int, Mark] = {}  # place → mark that is not confirmed
        self._numbered: set[ConversationId] = set()  # where marks have to be told apart
        self._split: set[ConversationId] = set()  # where each says one range
        self._reads_not_before = 0
        self._acks_not_before = 0
        self._confirming = False

    # -- going out --------------------------------------------------------------------------------------

    def schedule(self, now_ms: int) -> None:
        """There is something to say."""
        if self.flush_at is None:
            self.flush_at = now_ms + self._coalesce_ms

    def flush(self, now_ms: int) -> None:
        """Say it now, and have the node confirm it."""
        self.flush_at = now_ms
        self._confirming = True

    @property
    def flushed(self) -> bool:
        """Whether the node is known to have every receipt."""
        return not self._outbox.marked()

    @property
    def awaits_answer(self) -> bool:
        """Whether an answer to anything is on its way."""
        return bool(self._places)

    @property
    def needs_question(self) -> bool:
        """Whether a question has to go out for its answer to confirm what went before."""
        return self._confirming and bool(self._marks)

    def due(self, now_ms: int, *, asking: bool) -> bool:
        """Whether receipts go out now.

        Args:
            asking: A question goes out: its answer has to know what was read before it.
        """
        return self.flush_at is not None and (asking or self.flush_at <= now_ms)

    def take(self, now_ms: int) -> list[Mark]:
        """The receipts that go out now."""
        patient = now_ms < self._reads_not_before
        self.flush_at = self._reads_not_before if patient else None
        found: list[Mark] = []
        for conversation in self._outbox.marked():
            due = self._outbox.marks(conversation).due(
                conversation,
                direct=direct_members(conversation) is not None,
                reads=not patient,
                acks=now_ms >= self._acks_not_before,
                next_rid=self._next_rid,
            )
            found += due if conversation not in self._split else self._pieces(due)
        return found

    def _pieces(self, marks: list[Mark]) -> Iterator[Mark]:
        """Each range of each by itself."""
        for mark in marks:
            if isinstance(mark, ReadConversation) or len(mark.ranges) == 2:
                yield mark
                continue
            for index in range(0, len(mark.ranges), 2):
                yield _ranged(mark, self._next_rid() if mark.rid else 0, mark.ranges[index : index + 2])

    def sent(self, command: Command) -> Command:
        """Anything goes out: its place is noted. Returns it as it is to be written, with a number if its
        answer has to be told apart."""
        self._place += 1
        if isinstance(command, (AckDelivered, ReadConversation, ReadMessages)):
            self._marks[self._place] = command
            if command.rid == 0 and command.conversation in self._numbered:
                command = _numbered(command, self._next_rid())
        if command.rid:
            self._places[command.rid] = self._place
        return command

    def welcomed(self, rid: int) -> None:
        """The answer to the login is here; it confirms nothing, because nothing went before it."""
        self._places.pop(rid, None)

    def link_lost(self) -> None:
        """What was on its way may have arrived or not."""
        self._places.clear()
        self._marks.clear()
        self._numbered.clear()
        self._split.clear()
        self.flush_at = None
        self._confirming = False
        self._outbox.link_lost()

    # -- what the node says of it -----------------------------------------------------------------------

    def answered(self, rid: int, now_ms: int) -> None:
        """A command was answered, and not refused."""
        place = self._confirm_before(rid, now_ms)
        mark = self._marks.pop(place, None) if place is not None else None
        if mark is not None:
            self._confirmed(mark, now_ms)

    def refused(self, update: Rejected, now_ms: int) -> list[MarkRefused] | None:
        """Something was refused. Returns what the application has to hear; None when no receipt is meant."""
        if update.rid == 0:
            return self._marks_refused(self._meant_by(update), update, now_ms)
        place = self._confirm_before(update.rid, now_ms)
        if place is None or place not in self._marks:
            return None
        return self._marks_refused([place], update, now_ms)

    def _meant_by(self, update: Rejected) -> list[int]:
        """Receipts without a number that a refusal without a number may mean."""
        conversation = update.conversation
        return [
            place
            for place, mark in self._marks.items()
            if mark.rid == 0 and (conversation is None or mark.conversation == conversation)
        ]

    def _confirm_before(self, rid: int, now_ms: int) -> int | None:
        """An answer confirms what went out before its question (rule 1). Returns the question's place."""
        place = self._places.pop(rid, None)
        if place is not None:
            for earlier in [p for p in self._marks if p < place and self._marks[p].rid == 0]:
                self._confirmed(self._marks.pop(earlier), now_ms)
            if self._confirming and self.flushed:
                self._confirming = False
        return place

    def _confirmed(self, mark: Mark, now_ms: int, refused: RangeSet | None = None) -> None:
        marks = self._outbox.marks(mark.conversation)
        if isinstance(mark, AckDelivered):
            marks.done(mark)
            self._replica.delivery_confirmed(mark.conversation, mark.ranges)
            return
        head = self._replica.chat(mark.conversation).head
        seqs = RangeSet(through(head)).within(read_by(mark))
        if refused is not None:
            seqs = refused.missing(seqs)
        held = self._replica.acknowledged(mark.conversation, seqs) if mark.share else EMPTY
        marks.done(mark, held)
        if mark.share and RangeSet(held).missing(seqs):  # it was to acknowledge these, and stayed private
            self.schedule(now_ms)
        if seqs:
            self._replica.read_confirmed(mark.conversation, seqs, mark.mark_version, share=mark.share)

    # -- refusals ---------------------------------------------------------------------------------------

    def _marks_refused(self, places: list[int], update: Rejected, now_ms: int) -> list[MarkRefused]:
        marks = [self._marks[place] for place in places]
        if update.ranges and not update.retry_after_ms:
            self._partly_refused(places, marks, update, now_ms)
            return _reported(update, marks)
        several = len(marks) > 1 or any(len(held_by(mark)) > 2 for mark in marks)
        if update.code is Code.TOO_MANY_GAPS and several:
            self._say_again_apart(places, marks, now_ms)
            return []
        if not update.retry_after_ms and update.rid == 0:
            # Whatever is wrong is wrong with receipts of this conversation; acknowledgements are not judged.
            marks = [mark for mark in marks if not isinstance(mark, AckDelivered)] or marks
            places = [place for place in places if self._marks[place] in marks]
        for place in places:
            del self._marks[place]
        if update.retry_after_ms:
            self._refused_for_now(marks, update, now_ms)
            return []
        for mark in marks:
            # A receipt that was refused acknowledged nothing; who is not in there owes nothing.
            owes = not isinstance(mark, AckDelivered) and update.code not in _GONE
            self._outbox.marks(mark.conversation).done(mark, EMPTY if owes else None)
            if owes:
                self.schedule(now_ms)
        return _reported(update, marks)

    def _partly_refused(self, places: list[int], marks: list[Mark], update: Rejected, now_ms: int) -> None:
        """The rest of it was done."""
        refused = RangeSet(update.ranges)
        for conversation in dict.fromkeys(mark.conversation for mark in marks):
            self._outbox.marks(conversation).refuse(update.ranges)
        if not update.rid:
            self._forget_refused(places, refused)
            return
        for place, mark in zip(places, marks, strict=True):
            del self._marks[place]
            self._confirmed(mark, now_ms, refused)

    def _forget_refused(self, places: list[int], refused: RangeSet) -> None:
        """What is confirmed later is what was not refused."""
        for place in places:
            mark = self._marks[place]
            if isinstance(mark, ReadMessages):
                if rest := refused.missing(mark.ranges):
                    self._marks[place] = ReadMessages(
                        0, mark.conversation, rest, mark.content, mark.share, mark.mark_version
                    )
                else:
                    del self._marks[place]

    def _say_again_apart(self, places: list[int], marks: list[Mark], now_ms: int) -> None:
        """One of these was refused and the others taken, or a part of one was taken before, nobody can tell
        which: say them once more, each range with a number. What makes a gap by itself is refused whole."""
        for place in places:
            del self._marks[place]
        for conversation in dict.fromkeys(mark.conversation for mark in marks):
            self._numbered.add(conversation)
            self._split.add(conversation)
            self._outbox.marks(conversation).again()
        self.flush_at = now_ms

    def _refused_for_now(self, marks: list[Mark], update: Rejected, now_ms: int) -> None:
        for mark in marks:
            self._outbox.marks(mark.conversation).again()
        # Of several reads without a number nobody can tell which one was over the limit. Sent again all
        # together they would be refused for ever where the node gives room for one at a time; so from now on
        # each has a number, and what is taken need not be said again.
        reads = [mark for mark in marks if not isinstance(mark, AckDelivered)]
        if len(reads) > 1:
            self._numbered.update(mark.conversation for mark in reads)
        self._reads_not_before = now_ms + update.retry_after_ms
        if update.code is not Code.RATE_LIMITED:  # acknowledgements have no rate, but need room too
            self._acks_not_before = self._reads_not_before
        self.flush_at = max(self.flush_at or 0, self._reads_not_before)


def _reported(update: Rejected, marks: list[Mark]) -> list[MarkRefused]:
    """What the application hears: of receipts that it gave, not of acknowledgements, which it never asked
    for."""
    if update.code is Code.BEYOND_HEAD:
        return []  # what there was, is read; the rest is not there to be read
    given = [mark for mark in marks if not isinstance(mark, AckDelivered)]
    found = []
    for conversation in dict.fromkeys(mark.conversation for mark in given):
        seqs = RangeSet(update.ranges)
        if not seqs:
            for mark in given:
                if mark.conversation == conversation:
                    seqs.update(held_by(mark))
        found.append(
            MarkRefused(conversation=conversation, code=update.code, reason=update.reason, ranges=seqs.ranges)
        )
    return found


def _numbered(mark: Mark, rid: int) -> Mark:
    """The same mark, to be answered by itself."""
    if isinstance(mark, ReadConversation):
        return ReadConversation(rid, mark.conversation, mark.through, mark.share, mark.mark_version)
    return _ranged(mark, rid, mark.ranges)


def _ranged(mark: ReadMessages | AckDelivered, rid: int, ranges: Ranges) -> Mark:
    """The same of other messages."""
    if isinstance(mark, ReadMessages):
        return ReadMessages(rid, mark.conversation, ranges, mark.content, mark.share, mark.mark_version)
    return AckDelivered(rid, mark.conversation, ranges, mark.share)
