"""What this device wants the node to know and has no word of yet: sends, marks, and commands that wait.

PURE. Everything here outlives a link; what was tried on the present one is noted beside it, so that a cut
needs no bookkeeping: the note is forgotten and what is left is sent again. A send keeps its number for
ever, so sending it again is the same send; marks are joins, so many become one frame, and sending one again
is harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from receipts.core.conversation import Conversation
from receipts.core.events import Body
from receipts.core.ids import ConversationId, ConversationKind, Counts, DeviceId, Seq, UserId, Version
from receipts.core.policy import Limits
from receipts.core.ranges import EMPTY, Ranges, RangeSet, through
from receipts.wire.commands import AckDelivered, Command, ReadConversation, ReadMessages, SendMessage

__all__ = ["Mark", "Marks", "Outbox", "PendingSend", "held_by", "read_by"]

_WORDS_SEQS_MAX = Limits().detail_ids_max  # a node refuses more under one content

Mark = AckDelivered | ReadConversation | ReadMessages


class PendingSend:
    """A message that has no answer yet."""

    __slots__ = (
        "asks",
        "attended",
        "body",
        "conversation",
        "counts",
        "not_before_ms",
        "number",
        "rid",
        "sent",
    )

    def __init__(
        self, rid: int, number: int, conversation: ConversationId, body: Body, counts: Counts, asks: bool
    ) -> None:
        self.rid = rid
        self.number = number
        self.conversation = conversation
        self.body = body
        self.counts = counts
        self.asks = asks
        self.attended = True
        """Whether somebody waits for the answer; if not, a refusal for now is tried again from here."""
        self.sent = False
        """On the present link."""
        self.not_before_ms = 0

    def command(self) -> SendMessage:
        """As it goes out."""
        return SendMessage(self.rid, self.conversation, self.body, self.number, self.counts, self.asks)


class _Reads:
    """What was read under one (share, known unread mark)."""

    __slots__ = ("answers", "named", "through", "words")

    def __init__(self) -> None:
        self.through: Seq = 0
        """Of conversation receipts, inclusive."""
        self.named = RangeSet()
        """By name, above `through`."""
        self.answers = RangeSet()
        """Answers without words to messages that asked."""
        self.words: dict[str, RangeSet] = {}
        """Answers with words, by these."""

    def all(self) -> RangeSet:
        found = RangeSet(through(self.through))
        found.update(self.named.ranges)
        found.update(self.answers.ranges)
        for seqs in self.words.values():
            found.update(seqs.ranges)
        return found

    @property
    def ranges(self) -> Ranges:
        """The same as a value; mostly there is no more than a conversation receipt."""
        if self.named or self.answers or self.words:
            return self.all().ranges
        return through(self.through)

    def drop(self, other: _Reads) -> None:
        """Take out what `other` has."""
        if self.through <= other.through:
            self.through = 0
        self.named.discard(other.named.ranges)
        self.named.drop_through(other.through)
        self.answers.discard(other.answers.ranges)
        for content, seqs in other.words.items():
            if content in self.words:
                self.words[content].discard(seqs.ranges)
                if not self.words[content]:
                    del self.words[content]

    def add(self, other: _Reads) -> None:
        """Take in what `other` has."""
        self.through = max(self.through, other.through)
        self.named.update(other.named.ranges)
        self.answers.update(other.answers.ranges)
        for content, seqs in other.words.items():
            self.words.setdefault(content, RangeSet()).update(seqs.ranges)

    def beyond(self, tried: _Reads) -> _Reads:
        """The part that `tried` has not."""
        rest = _Reads()
        rest.through = self.through if self.through > tried.through else 0
        rest.named.update(tried.named.missing(self.named.ranges))
        rest.answers.update(tried.answers.missing(self.answers.ranges))
        for content, seqs in self.words.items():
            known = tried.words.get(content)
            new = known.missing(seqs.ranges) if known is not None else seqs.ranges
            if new:
                rest.words[content] = RangeSet(new)
        return rest

    def __bool__(self) -> bool:
        return bool(self.through or self.named or self.answers or self.words)


_Key = tuple[bool, Version]
"""(whether others may know, the unread mark that the reader knew)."""


class Marks:
    """The receipts of one conversation that the node is not known to have."""

    __slots__ = ("_along", "_owed", "_reads", "_tried", "_tried_held")

    def __init__(self) -> None:
        self._owed: dict[bool, RangeSet] = {}
        """Messages of others that are stored here and not acknowledged, by whether others may know."""
        self._along = RangeSet()
        """Own messages, from other devices: they go along with an acknowledgement, never alone."""
        self._reads: dict[_Key, _Reads] = {}
        self._tried: dict[_Key, _Reads] = {}
        """What of `_reads` went out on the present link (or the last one, until the state is compared)."""
        self._tried_held = RangeSet()

    def __bool__(self) -> bool:
        return any(self._owed.values()) or any(self._reads.values())

    # -- wishes ---------------------------------------------------------------------------------------

    def owe(self, seq: Seq, share: bool) -> None:
        """A message of somebody else is stored here."""
        self._owed.setdefault(share, RangeSet()).add(seq, seq + 1)

    def bring_along(self, seq: Seq) -> None:
        """An own message, written on another device, is stored here."""
        self._along.add(seq, seq + 1)

    def read_conversation(self, last: Seq, share: bool, known: Version) -> None:
        """Everything up to and including `last` was read."""
        reads = self._reads.setdefault((share, known), _Reads())
        if last > reads.through:
            reads.through = last
            reads.named.drop_through(last)

    def read_messages(self, named: Ranges, share: bool, known: Version) -> None:
        """These were read by name."""
        reads = self._reads.setdefault((share, known), _Reads())
        reads.named.update(RangeSet(through(reads.through)).missing(named))

    def answer(self, seqs: Ranges, content: str | None, share: bool, known: Version) -> None:
        """These asked and are answered; of two answers to one message the first stands."""
        new = RangeSet(seqs)
        for reads in self._reads.values():
            new.discard(reads.answers.ranges)
            for words in reads.words.values():
                new.discard(words.ranges)
        if not new:
            return
        reads = self._reads.setdefault((share, known), _Reads())
        if content is None:
            reads.answers.update(new.ranges)
        else:
            reads.words.setdefault(content, RangeSet()).update(new.ranges)

    def local(self) -> list[tuple[Version, Ranges]]:
        """What was read, for counting: (unread mark known, ranges)."""
        return [(known, reads.ranges) for (_, known), reads in self._reads.items() if reads]

    # -- going out --------------------------------------------------------------------------------------

    def due(
        self,
        conversation: ConversationId,
        *,
        direct: bool,
        reads: bool,
        next_rid: Callable[[], int],
        acks: bool = True,
    ) -> list[Mark]:
        """The frames that say what was not said on this link, and note it as said.

        Acknowledgements first. What a shared read of a one-to-one conversation says in the same breath needs
        none of its own; a private read, or one in a group, tells nobody of the delivery.

        Args:
            direct: Whether this is a one-to-one conversation.
            reads: Whether reads may go out; the node may have asked for patience.
            next_rid: Gives numbers to commands whose refusal must be known from others'.
            acks: Whether acknowledgements may go out.
        """
        said: list[Mark] = []
        if reads:
            for (share, known), pending in self._reads.items():
                tried = self._tried.setdefault((share, known), _Reads())
                new = pending.beyond(tried)
                if new:
                    tried.add(new)
                    said += _commands(conversation, new, share, known, next_rid)
                    if direct and share:
                        self._tried_held.update(new.all().ranges)
        return [*self._acks(conversation), *said] if acks else said

    def _acks(self, conversation: ConversationId) -> Iterator[AckDelivered]:
        for share, owed in self._owed.items():
            if need := self._tried_held.missing(owed.ranges):
                joined = RangeSet(need)
                joined.update(self._tried_held.missing(self._along.ranges))
                self._tried_held.update(joined.ranges)
                yield AckDelivered(0, conversation, joined.ranges, share)

    # -- coming back ------------------------------------------------------------------------------------

    def done(self, mark: Mark, held: Ranges | None = None) -> None:
        """The node has it, or refused it for good: it need not be said again.

        Args:
            held: What the node took it to acknowledge; when left out, all that it names unless it is private.
        """
        names = held_by(mark)
        if held is None:
            held = names if isinstance(mark, AckDelivered) or mark.share else EMPTY
        for owed in self._owed.values():
            owed.discard(held)
        self._along.discard(held)
        self._tried_held.discard(names)
        if not isinstance(mark, AckDelivered):
            key, reads = _reads_of(mark)
            for side in (self._reads, self._tried):
                if key in side:
                    side[key].drop(reads)
                    if not side[key]:
                        del side[key]

    def refuse(self, seqs: Ranges) -> None:
        """The node will not take reads of these messages."""
        for side in (self._reads, self._tried):
            for reads in side.values():
                reads.named.discard(seqs)
                reads.answers.discard(seqs)
                for words in reads.words.values():
                    words.discard(seqs)
                reads.words = {content: words for content, words in reads.words.items() if words}

    def again(self) -> None:
        """Nothing was said yet: say it all again when it is due."""
        self._tried.clear()
        self._tried_held = RangeSet()

    def reconcile(self, chat: Conversation, user: UserId, device: DeviceId) -> None:
        """After a reconnect: what was said before the cut and the state shows has arrived."""
        member = chat.member(user)
        held = member.devices.get(device)
        if held is not None:
            for owed in self._owed.values():
                owed.discard(held.ranges)
            self._along.discard(held.ranges)
        start = max(chat.visible(user)[0], 1)
        for (share, known), tried in self._tried.items():
            mark = member.unread_mark
            if mark and known >= mark.version:
                continue  # it would have cleared the mark, which still stands
            shown = _Reads()
            if tried.through and not (
                start <= tried.through and member.read.missing((start, tried.through + 1))
            ):
                shown.through = tried.through
            shown.named.update(member.read.within(tried.named.ranges))
            shown.answers.update(_answered(chat, user, tried.answers))
            for content, words in tried.words.items():
                if arrived := _answered(chat, user, words):
                    shown.words[content] = RangeSet(arrived)
            self._reads[share, known].drop(shown)
        self._reads = {key: reads for key, reads in self._reads.items() if reads}
        self.again()

    def forget_owed(self) -> None:
        """The replica dropped its messages."""
        self._owed.clear()
        self._along = RangeSet()

    # -- saving -------------------------------------------------------------------------------------------

    def commands(self, conversation: ConversationId) -> list[Mark]:
        """All of it as commands, for `take_back` in another life of the process.

        Answers to messages that asked have the rid 1, all others 0.
        """
        saved: list[Mark] = [
            AckDelivered(0, conversation, owed.ranges, share) for share, owed in self._owed.items() if owed
        ]
        for (share, known), reads in self._reads.items():
            saved += _commands(conversation, reads, share, known, lambda: 1)
        return saved

    def take_back(self, mark: Mark) -> None:
        """Take in one of `commands`."""
        if isinstance(mark, AckDelivered):
            self._owed.setdefault(mark.share, RangeSet()).update(mark.ranges)
        else:
            key, reads = _reads_of(mark)
            self._reads.setdefault(key, _Reads()).add(reads)


class Outbox:
    """Everything that waits to be sent or answered.

    Args:
        install: Names this outbox for ever; numbers of sends count under it.
        number: The highest number given.
    """

    def __init__(self, install: str, number: int = 0) -> None:
        self.install = install
        self.number = number
        self.sends: dict[int, PendingSend] = {}
        """By number, rising."""
        self.asks: dict[int, Command] = {}
        """Commands that wait for an answer, by rid, in order."""
        self.asked: set[int] = set()
        """Those of them that went out on the present link."""
        self._marks: dict[ConversationId, Marks] = {}
        self.touched_sends: set[int] = set()
        """Numbers of sends that came or went since `saved`."""
        self.touched_marks: set[ConversationId] = set()
        """Conversations whose marks changed since `saved`."""

    def saved(self) -> None:
        """Forget what was noted for saving."""
        self.touched_sends.clear()
        self.touched_marks.clear()

    def next_number(self) -> int:
        """A number never given before."""
        self.number += 1
        return self.number

    # -- sends --------------------------------------------------------------------------------------------

    def send(
        self, rid: int, conversation: ConversationId, body: Body, counts: Counts, asks: bool
    ) -> PendingSend:
        """Keep a message until it is answered."""
        number = self.next_number()
        pending = self.sends[number] = PendingSend(rid, number, conversation, body, counts, asks)
        self.touched_sends.add(number)
        return pending

    def settle_send(self, number: int) -> PendingSend | None:
        """A send was answered."""
        self.touched_sends.add(number)
        return self.sends.pop(number, None)

    # -- marks --------------------------------------------------------------------------------------------

    def marks(self, conversation: ConversationId) -> Marks:
        """The marks of a conversation, to be changed."""
        self.touched_marks.add(conversation)
        found = self._marks.get(conversation)
        if found is None:
            found = self._marks[conversation] = Marks()
        return found

    def local(self, conversation: ConversationId) -> list[tuple[Version, Ranges]]:
        """What was read in a conversation and is not confirmed."""
        found = self._marks.get(conversation)
        return found.local() if found is not None else []

    def marked(self) -> list[ConversationId]:
        """Conversations with marks that are not confirmed."""
        self._marks = {name: marks for name, marks in self._marks.items() if marks or marks._along}
        return [name for name, marks in self._marks.items() if marks]

    def forget_owed(self) -> None:
        """The replica dropped its messages; new ones will be owed anew."""
        for conversation in self._marks:
            self.marks(conversation).forget_owed()

    # -- the link -----------------------------------------------------------------------------------------

    def link_lost(self) -> None:
        """What had no answer goes out again on the next link."""
        for pending in self.sends.values():
            pending.sent = False
        self.asked.clear()

    # -- saving -------------------------------------------------------------------------------------------

    def saved_marks(self, conversation: ConversationId) -> list[Mark]:
        """The marks of a conversation as commands."""
        found = self._marks.get(conversation)
        return found.commands(conversation) if found is not None else []

    def restore(self, sends: Iterable[SendMessage], marks: Iterable[Mark]) -> None:
        """Take in what was saved. Nobody waits for these sends; their rid is given when they go out."""
        for send in sends:
            pending = PendingSend(0, send.number, send.conversation, send.body, send.counts, send.asks)
            pending.attended = False
            self.sends[send.number] = pending
        for mark in marks:
            self.marks(mark.conversation).take_back(mark)
        self.saved()


def held_by(mark: Mark) -> Ranges:
    """What a device holds that says this."""
    return mark.ranges if isinstance(mark, AckDelivered) else read_by(mark)


def read_by(mark: ReadConversation | ReadMessages) -> Ranges:
    """What a receipt reads."""
    return through(mark.through) if isinstance(mark, ReadConversation) else mark.ranges


def _reads_of(mark: ReadConversation | ReadMessages) -> tuple[_Key, _Reads]:
    """A receipt as what it says; the reverse of `_commands`."""
    reads = _Reads()
    if isinstance(mark, ReadConversation):
        reads.through = mark.through
    elif mark.content is not None:
        reads.words[mark.content] = RangeSet(mark.ranges)
    elif mark.rid:
        reads.answers.update(mark.ranges)
    else:
        reads.named.update(mark.ranges)
    return (mark.share, mark.mark_version), reads


def _commands(
    conversation: ConversationId, reads: _Reads, share: bool, known: Version, next_rid: Callable[[], int]
) -> Iterator[ReadConversation | ReadMessages]:
    if reads.through:
        yield ReadConversation(0, conversation, reads.through, share, known)
    if reads.named:
        yield ReadMessages(0, conversation, reads.named.ranges, None, share, known)
    # Answers can be refused one by one, so each frame of them has a number of its own.
    if reads.answers:
        yield ReadMessages(next_rid(), conversation, reads.answers.ranges, None, share, known)
    for content, words in reads.words.items():
        for ranges in _chunks(words, _WORDS_SEQS_MAX):
            yield ReadMessages(next_rid(), conversation, ranges, content, share, known)


def _chunks(seqs: RangeSet, size: int) -> Iterator[Ranges]:
    chunk = RangeSet()
    for seq in seqs:
        chunk.add(seq, seq + 1)
        if chunk.count() == size:
            yield chunk.ranges
            chunk = RangeSet()
    if chunk:
        yield chunk.ranges


def _answered(chat: Conversation, user: UserId, seqs: RangeSet) -> Ranges:
    if not seqs or chat.kind is ConversationKind.DIRECT:
        return EMPTY
    arrived = RangeSet()
    for seq in seqs:
        asked = chat.asked.get(seq)
        if asked is not None and user in asked.readers:
            arrived.add(seq, seq + 1)
    return arrived.ranges
