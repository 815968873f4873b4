"""What one device knows: conversations joined from updates, and the newest messages with their bodies.

PURE. A live update, a page of catch-up and a snapshot all end in the same joins of
`receipts.core.conversation`, so a replica that gets them late, doubled or in another order is equal in the
end. What this device wishes and the node has not confirmed is not here (`outbox`): it is laid over the
answers below as `local`, so that a refused wish leaves no trace.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, cast

from receipts.core import events
from receipts.core.conversation import Conversation
from receipts.core.events import MessageAccepted, Register
from receipts.core.ids import (
    ConversationId,
    DeviceId,
    Seq,
    UserId,
    Version,
    direct,
    direct_members,
    is_user_id,
)
from receipts.core.member import Member, UnreadMark
from receipts.core.ranges import EMPTY, Ranges, RangeSet, count, ranges_of, through
from receipts.core.status import Status
from receipts.wire import updates
from receipts.wire.updates import (
    AskedPart,
    Badge,
    CatchUp,
    ConversationPart,
    Delivered,
    GroupRead,
    MemberPart,
    Read,
    Reader,
    Summary,
    Update,
)

from .dump import dump_chat
from .parts import facts_of, member_facts, parts_of, readers_of

__all__ = ["BLANKS_MAX", "MESSAGES_MAX", "LocalReads", "Replica"]

MESSAGES_MAX = 1000
"""Messages with bodies that are kept per conversation: some screens full; older ones come by history."""

BLANKS_MAX = 64
"""Conversations that nothing was heard of whose empty state is kept for who asks again."""

LocalReads: TypeAlias = Iterable[tuple[Version, Ranges]]
"""Reads that the node has not confirmed: (the unread mark that the reader knew, what was read)."""


class _Box:
    """A conversation and its newest messages."""

    __slots__ = ("chat", "messages", "seqs")

    def __init__(self, chat: Conversation) -> None:
        self.chat = chat
        self.messages: dict[Seq, MessageAccepted] = {}
        self.seqs: list[Seq] = []
        """The keys of `messages`, rising."""

    def put(self, message: MessageAccepted, limit: int, removed: list[tuple[ConversationId, Seq]]) -> bool:
        """Keep a message if it is among the newest `limit`. Returns whether it is kept and new.

        Args:
            removed: Gets the one that had to make room: what is kept nowhere here cannot be recalled later.
        """
        seq = message.seq
        if seq in self.messages:
            return False
        if len(self.seqs) >= limit:
            if seq < self.seqs[0]:
                return False
            oldest = self.seqs.pop(0)
            del self.messages[oldest]
            removed.append((self.chat.id, oldest))
        if not self.seqs or seq > self.seqs[-1]:
            self.seqs.append(seq)
        else:
            insort(self.seqs, seq)
        self.messages[seq] = message
        return True

    def drop(self, seqs: Iterable[Seq]) -> None:
        for seq in seqs:
            if self.messages.pop(seq, None) is not None:
                del self.seqs[bisect_left(self.seqs, seq)]


class Replica:
    """What one device knows.

    Args:
        user: Whose device it is.
        device: Which of the user's devices.
        messages_max: How many messages with bodies are kept per conversation.
    """

    def __init__(self, user: UserId, device: DeviceId, *, messages_max: int = MESSAGES_MAX) -> None:
        self.user = user
        self.device = device
        self.token: str | None = None
        """Where to resume: all that happened up to there is in this replica. None: from the beginning."""
        self._messages_max = messages_max
        self._boxes: dict[ConversationId, _Box] = {}
        self._blanks: dict[ConversationId, Conversation] = {}  # empty ones that were asked for lately
        self._former: dict[ConversationId, _Box] = {}  # what a full state replaced, until it is complete
        self._filling = False
        self.catching_up = False
        """Whether messages are on their way that come before what is told meanwhile: from the welcome to the
        last page. Until then a conversation ends here where its messages end: what stands between them and an
        answer to an own send may be own messages, which must not be counted (I-1)."""
        self._heads: dict[ConversationId, Seq] = {}  # while catching up: where conversations end at the node
        self.touched: set[ConversationId] = set()
        """Conversations whose state changed since `saved`."""
        self.arrived: list[MessageAccepted] = []
        """Messages that were stored since `saved`."""
        self._fresh_messages: list[MessageAccepted] = []
        self.removed: list[tuple[ConversationId, Seq]] = []
        """Messages that were dropped since `saved`: recalled, expired, or too old to be kept."""
        self.replaced = False
        """Whether a full state dropped everything since `saved`."""

    def saved(self) -> None:
        """Forget what was noted for saving."""
        self.touched.clear()
        self.arrived.clear()
        self.removed.clear()
        self.replaced = False

    def take_fresh(self) -> list[MessageAccepted]:
        """Messages that were stored since the last call, news or not: each is to be acknowledged."""
        fresh, self._fresh_messages = self._fresh_messages, []
        return fresh

    # -- the way in -----------------------------------------------------------------------------------

    def apply(self, update: Update, tick: int = 0) -> list[Update]:
        """Join one update in, whatever is known already.

        Answers and other updates that are not state change nothing.

        Args:
            update: As the node sent it.
            tick: The node's tick that it belongs to; state does not depend on it.

        Returns:
            What it brought that was not known, as updates for the application: a catch-up page is taken
            apart into what would have come live, times of day apart.
        """
        if isinstance(update, CatchUp):
            return self._catch_up(update)
        if isinstance(update, ConversationPart):
            return list(self._part(update))
        handler = _HANDLERS.get(type(update))
        if handler is None:
            return []
        conversation = cast(MessageAccepted, update).conversation  # all in the table have one
        end = self.chat(conversation).head if self.catching_up else 0
        fresh = handler(self, update)
        if self.catching_up:
            self._ends_later(self._box(conversation).chat, end)
        self.touched.add(conversation)
        return [update] if fresh else []

    def _box(self, conversation: ConversationId) -> _Box:
        found = self._boxes.get(conversation)
        if found is None:
            found = self._boxes[conversation] = _Box(Conversation.named(conversation))
        return found

    def _message(self, message: MessageAccepted) -> bool:
        box = self._box(message.conversation)
        chat = box.chat
        chat.apply(message)
        if message.seq in chat.recalled or message.seq <= chat.expired_through:
            return False
        fresh = box.put(message, self._messages_max, self.removed)
        if fresh:
            self.arrived.append(message)
            self._fresh_messages.append(message)
        return fresh

    def _ends_later(self, chat: Conversation, end: Seq, head: Seq = 0) -> None:
        """What was told before older messages does not move the end of a conversation yet.

        Args:
            end: Where the messages that are here end.
            head: Where the node says that all of them end.
        """
        self._heads[chat.id] = max(self._heads.get(chat.id, 0), chat.head, head)
        chat.head = max(end, chat.expired_through)

    def _delivered(self, update: Delivered) -> bool:
        chat = self._box(update.conversation).chat
        if not chat.member(update.member).delivered_shared.missing(update.ranges):
            return False
        chat.apply(
            events.DeliveryMarked(update.conversation, update.member, "", EMPTY, update.ranges),
        )
        return True

    def _read(self, update: Read) -> bool:
        conversation, member = update.conversation, update.member
        chat = self._box(conversation).chat
        known = chat.member(member)
        if member == self.user:
            fresh = bool(known.read.missing(update.ranges))
            chat.apply(events.ReadMarked(conversation, member, "", update.ranges))
            return fresh
        fresh = bool(known.read_shared.missing(update.ranges))
        chat.apply(
            events.ReadMarked(
                conversation, member, "", EMPTY, update.ranges, EMPTY, update.at_ms, update.version
            )
        )
        return fresh

    def _group_read(self, update: GroupRead) -> bool:
        chat = self._box(update.conversation).chat
        asked = chat.asked.get(update.seq)
        known = len(asked.readers) if asked is not None else 0
        for reader in update.readers:
            chat.apply(
                events.GroupReadMarked(
                    chat.id, update.seq, reader.user, reader.at_ms, reader.content, reader.version
                )
            )
        asked = chat.asked.get(update.seq)
        return asked is not None and len(asked.readers) > known

    def _recalled(self, event: events.MessageRecalled) -> bool:
        box = self._box(event.conversation)
        if event.seq in box.chat.recalled or event.seq <= box.chat.expired_through:
            return False
        box.chat.apply(event)
        self._drop(box, [event.seq])
        return True

    def _expired(self, event: events.MessagesExpired) -> bool:
        box = self._box(event.conversation)
        if event.through <= box.chat.expired_through:
            return False
        box.chat.apply(event)
        self._drop(box, [seq for seq in box.seqs if seq <= event.through])
        return True

    def _drop(self, box: _Box, seqs: list[Seq]) -> None:
        self.removed.extend((box.chat.id, seq) for seq in seqs if seq in box.messages)
        box.drop(seqs)

    def _receipts_expired(self, event: events.GroupReceiptsExpired) -> bool:
        chat = self._box(event.conversation).chat
        fresh = event.through > chat.receipts_expired_through
        chat.apply(event)
        return fresh

    def _unread_marked(self, event: events.UnreadMarked) -> bool:
        chat = self._box(event.conversation).chat
        fresh = event.version > chat.member(event.member).unread_mark.version
        chat.apply(event)
        return fresh

    def _cleared(self, event: events.HistoryCleared) -> bool:
        chat = self._box(event.conversation).chat
        fresh = event.through > chat.member(event.member).cleared_through
        chat.apply(event)
        return fresh

    def _joined(self, event: events.MemberJoined) -> bool:
        chat = self._box(event.conversation).chat
        known = chat.member(event.member).periods.get(event.version)
        chat.apply(event)
        return known is None

    def _left(self, event: events.MemberLeft) -> bool:
        chat = self._box(event.conversation).chat
        known = chat.member(event.member).periods.get(event.joined)
        chat.apply(event)
        return known is None or known.through is None

    def _sharing(self, event: events.SharingChanged) -> bool:
        chat = self._box(event.conversation).chat
        fresh = event.version > chat.member(event.member).sharing.version
        chat.apply(event)
        return fresh

    def _register(self, event: events.RegisterSet) -> bool:
        chat = self._box(event.conversation).chat
        registers = chat.registers if event.member is None else chat.member(event.member).registers
        known = registers.get(event.register)
        chat.apply(event)
        return known is None or event.version > known[0]

    # -- catching up ------------------------------------------------------------------------------------

    def _catch_up(self, page: CatchUp) -> list[Update]:
        self.catching_up = not page.live
        if page.full:
            self._heads.clear()
            self._former = self._boxes
            self._boxes = {}
            self._filling = True
            self.saved()
            self.replaced = True
        news = [update for part in page.parts for update in self._part(part)]
        if self._filling:
            # Of a state that comes from the beginning only what waits to be read is news.
            news = self._waiting(news)
        if page.live:
            self._filling = False
            self._former = {}
            self._reach_heads()
        return news

    def _reach_heads(self) -> None:
        """All messages are here: conversations end where the node says."""
        for name, head in self._heads.items():
            chat = self._box(name).chat
            if head > chat.head:
                chat.head = head
                self.touched.add(name)
        self._heads.clear()

    def _waiting(self, news: list[Update]) -> list[Update]:
        """Messages that wait to be read, without those that were here before."""
        unread: dict[ConversationId, RangeSet] = {}
        found: list[Update] = []
        for message in news:
            if not isinstance(message, MessageAccepted):
                continue
            name = message.conversation
            former = self._former.get(name)
            known = former.messages.get(message.seq) if former is not None else None
            if known is not None and known.message_id == message.message_id:
                continue
            if name not in unread:
                unread[name] = RangeSet(self.unread_ranges(name))
            if message.seq in unread[name]:
                found.append(message)
        return found

    def _part(self, part: ConversationPart) -> Iterator[Update]:
        """Join a part; gives what it brought."""
        box = self._box(part.conversation)
        chat = box.chat
        self.touched.add(chat.id)
        if not self.catching_up:
            chat.head = max(chat.head, part.head)
        if part.uncounted:
            chat.uncounted.update(part.uncounted)
        mine = next((member for member in part.members if member.user == self.user), None)
        if mine is not None and mine.held:  # before the messages, so that no acknowledgement is owed twice
            chat.member(self.user).held(self.device).update(mine.held)
        # Messages first: they say which seqs are a member's own, so that those are not taken for receipts.
        for message in part.messages:
            if self._message(message):
                yield message
        end = chat.head
        yield from self._fresh(facts_of(chat, part))
        if self.catching_up:
            self._ends_later(chat, end, part.head)
        for member in part.members:
            yield from self._member_part(chat, member)
        for asked in part.asked:
            yield from self._asked_part(chat, asked)

    def _fresh(self, facts: Iterable[Update]) -> Iterator[Update]:
        for fact in facts:
            if _HANDLERS[type(fact)](self, fact):
                yield fact

    def _member_part(self, chat: Conversation, part: MemberPart) -> Iterator[Update]:
        member = chat.member(part.user)
        yield from self._fresh(member_facts(chat, part))
        mine = part.user == self.user
        read = member.read.missing(part.read) if mine else member.read_shared.missing(part.read_shared)
        delivered = member.delivered_shared.missing(part.delivered_shared)
        member.read.update(part.read)
        member.read.update(part.read_shared)
        member.read_shared.update(part.read_shared)
        member.delivered_shared.update(part.read_shared)
        member.delivered_shared.update(part.delivered_shared)
        for advance in part.advances:
            member.remember(advance)
        if not mine and (delivered := member.read_shared.missing(delivered)):
            yield Delivered(chat.id, part.user, delivered)
        if read:
            at_ms = part.advances[-1].at_ms if part.advances and not mine else 0
            yield Read(chat.id, part.user, read, at_ms)

    def _asked_part(self, chat: Conversation, part: AskedPart) -> Iterator[Update]:
        if part.seq <= chat.receipts_expired_through:
            return
        asked = chat._asked(part.seq)
        asked.author = part.author or asked.author
        fresh = tuple(reader for reader in part.readers if reader.user not in asked.readers)
        if self._group_read(GroupRead(chat.id, part.seq, 0, part.readers)) and part.author == self.user:
            yield GroupRead(chat.id, part.seq, len(asked.readers), fresh)

    def history(self, page: updates.History) -> None:
        """Keep what an answer to `FetchHistory` brought, as far as there is room."""
        box = self._box(page.conversation)
        self.touched.add(page.conversation)
        if page.recalled:
            box.chat.recalled.update(page.recalled)
            self._drop(box, list(RangeSet(page.recalled)))
        end = box.chat.head
        for message in page.messages:
            self._message(message)
        if self.catching_up:
            self._ends_later(box.chat, end)

    # -- what this device did, once the node is known to have it ------------------------------------------

    def read_confirmed(
        self, conversation: ConversationId, ranges: Ranges, known: Version, *, share: bool
    ) -> None:
        """The node has this user's read of `ranges`, by this device, which knew the unread mark `known`.

        Args:
            share: Whether the read was for others to know; a private one acknowledges no delivery.
        """
        chat = self._box(conversation).chat
        member = chat.member(self.user)
        held = self.acknowledged(conversation, ranges) if share else EMPTY
        chat.apply(events.ReadMarked(conversation, self.user, self.device, ranges, EMPTY, held))
        mark = member.unread_mark
        if mark and known >= mark.version:
            # The node cleared it with a version that this device is not told; under its own one it is gone.
            left = RangeSet(ranges).missing(mark.ranges)
            member.unread_mark = UnreadMark(mark.version, False, left)
        self.touched.add(conversation)

    def acknowledged(self, conversation: ConversationId, ranges: Ranges) -> Ranges:
        """What of a read of `ranges`, meant for others to know, the node also took for an acknowledgement.

        A read that the user's own switch keeps private acknowledges nothing (I-25).
        """
        sharing = self.member(conversation).sharing
        return RangeSet(through(sharing.read_obscured_through)).missing(ranges) if sharing.read else EMPTY

    def delivery_confirmed(self, conversation: ConversationId, ranges: Ranges) -> None:
        """The node has this device's acknowledgement of `ranges`."""
        chat = self._box(conversation).chat
        chat.apply(events.DeliveryMarked(conversation, self.user, self.device, ranges))
        self.touched.add(conversation)

    # -- answers ------------------------------------------------------------------------------------------

    def resolve(self, name: str) -> ConversationId:
        """The conversation that `name` stands for: an id, a group known here, or a peer's user id.

        Raises:
            LocalProtocolError: It is the user's own id.
        """
        if "~" in name or name in self._boxes or not is_user_id(name):
            return name
        return direct(self.user, name)

    def chat(self, conversation: ConversationId) -> Conversation:
        """The joined state, to be read; an empty one for a conversation that was never heard of."""
        box = self._boxes.get(conversation)
        if box is not None:
            return box.chat
        blank = self._blanks.get(conversation)
        if blank is None:
            if len(self._blanks) >= BLANKS_MAX:
                self._blanks.clear()
            blank = self._blanks[conversation] = Conversation.named(conversation)
        return blank

    def member(self, conversation: ConversationId) -> Member:
        """The user's own part of the state, to be read."""
        return self.chat(conversation).member(self.user)

    def message(self, conversation: ConversationId, seq: Seq) -> MessageAccepted | None:
        """A message that is kept here."""
        box = self._boxes.get(conversation)
        return box.messages.get(seq) if box is not None else None

    def last(self, conversation: ConversationId) -> Seq:
        """The newest message that can be on screen; 0 for none."""
        box = self._boxes.get(conversation)
        return box.seqs[-1] if box is not None and box.seqs else 0

    def messages(
        self, conversation: ConversationId, before: Seq = 0, limit: int = 50
    ) -> list[MessageAccepted]:
        """The newest messages that are kept here, rising, without recalled, expired and cleared ones.

        Args:
            before: Exclusive; 0 begins at the newest.
            limit: At most this many.
        """
        box = self._boxes.get(conversation)
        if box is None:
            return []
        start = bisect_left(box.seqs, box.chat.member(self.user).cleared_through + 1)
        stop = bisect_left(box.seqs, before) if before else len(box.seqs)
        return [box.messages[seq] for seq in box.seqs[max(start, stop - limit) : stop]]

    def unread_ranges(self, conversation: ConversationId, local: LocalReads = ()) -> Ranges:
        """The messages behind `unread`."""
        chat = self.chat(conversation)
        unread = chat.unread_ranges(self.user)
        if not unread:
            return unread
        reads = list(local)
        if not reads:
            return unread
        kept = _mark_after(chat.member(self.user).unread_mark, reads).ranges
        gone = RangeSet()
        for _, ranges in reads:
            gone.update(ranges)
        gone.discard(kept)
        return gone.missing(unread)

    def unread_seqs(self, conversation: ConversationId, local: LocalReads = ()) -> list[Seq]:
        """The seqs behind `unread`, rising (I-12)."""
        return list(RangeSet(self.unread_ranges(conversation, local)))

    def unread(self, conversation: ConversationId, local: LocalReads = ()) -> int:
        """How many messages wait unread."""
        return count(self.unread_ranges(conversation, local))

    def marked_unread(self, conversation: ConversationId, local: LocalReads = ()) -> bool:
        """Whether the conversation is marked as unread."""
        chat = self.chat(conversation)
        mark = _mark_after(chat.member(self.user).unread_mark, local)
        if mark.flagged or not mark.ranges:
            return mark.flagged
        start, stop = chat.visible(self.user)
        return start < stop and bool(RangeSet(mark.ranges).within((start, stop)))

    def unreported(self, conversation: ConversationId, through: Seq, local: LocalReads = ()) -> Ranges:
        """Messages up to and including `through` that the user may see and has not read, counting or not."""
        chat = self.chat(conversation)
        start, stop = chat.visible(self.user)
        stop = min(stop, through + 1)
        if start >= stop:
            return EMPTY
        read = chat.member(self.user).read.copy()
        for _, ranges in local:
            read.update(ranges)
        return chat.recalled.missing(read.missing((start, stop)))

    def asking(self, conversation: ConversationId, ranges: Ranges) -> Ranges:
        """Those of `ranges` that ask this user for a group receipt."""
        asked = self.chat(conversation).asked
        if not asked:
            return EMPTY
        wanted = ranges_of(seq for seq, one in asked.items() if one.author not in (None, self.user))
        return RangeSet(ranges).within(wanted)

    def status(self, conversation: ConversationId, seq: Seq, member: UserId | None = None) -> Status:
        """How far a message is known to have come with a member; the peer when left out.

        In a group without a member: the least over the audience; ACKED when there is nobody to read.
        """
        chat = self.chat(conversation)
        if member is not None:
            return chat.status(seq, member)
        pair = direct_members(conversation)
        if pair is not None:
            return chat.status(seq, pair[0] if pair[1] == self.user else pair[1])
        message = self.message(conversation, seq)
        author = message.author if message is not None else self.user
        audience = chat.audience(seq, author)
        floor = Status.ACKED if seq <= chat.head else Status.SENT
        return min((chat.status(seq, user) for user in audience), default=floor)

    def readers(self, conversation: ConversationId, seq: Seq) -> tuple[Reader, ...]:
        """Who is known to have answered a message of this user's that asked, the first one first."""
        asked = self.chat(conversation).asked.get(seq)
        return readers_of(asked) if asked is not None else ()

    def conversations(
        self, local: Callable[[ConversationId], LocalReads] = lambda _: ()
    ) -> tuple[Summary, ...]:
        """The conversations that the user is in now, the one with the latest message first."""
        lines = []
        for box in self._boxes.values():
            member = box.chat.member(self.user)
            if member.joined and not _register(box.chat.registers, Register.DELETED):
                lines.append(self._summary(box, local(box.chat.id)))
        lines.sort(key=lambda line: (-(line.last.message_id if line.last else 0), line.conversation))
        return tuple(lines)

    def _summary(self, box: _Box, local: LocalReads) -> Summary:
        chat = box.chat
        reads = list(local)
        shown = self.messages(chat.id, limit=1)
        pair = direct_members(chat.id)
        peer = next((user for user in pair or () if user != self.user), "")
        return Summary(
            conversation=chat.id,
            kind=chat.kind,
            name=str(_register(chat.registers, Register.NAME) or peer),
            head=chat.head,
            unread=self.unread(chat.id, reads),
            marked_unread=self.marked_unread(chat.id, reads),
            muted=bool(_register(chat.member(self.user).registers, Register.MUTED)),
            last=shown[0] if shown else None,
        )

    def badge(self, local: Callable[[ConversationId], LocalReads] = lambda _: ()) -> Badge:
        """Unread over all conversations, muted ones apart (rid 0)."""
        counts = {False: [0, 0], True: [0, 0]}
        for line in self.conversations(local):
            tally = counts[line.muted]
            tally[0] += line.unread
            tally[1] += 1 if line.unread or line.marked_unread else 0
        return Badge(
            rid=0,
            messages=counts[False][0],
            conversations=counts[False][1],
            muted_messages=counts[True][0],
            muted_conversations=counts[True][1],
        )

    def dump(self, *, messages: bool = True) -> dict[str, Any]:
        """All that the replica knows for certain, as plain sorted data: equal replicas give equal dumps.

        Left out is what a device is told or not told depending on how it heard: its own shared sets and
        answers, what others read in private, and receipts of messages that are gone.

        Args:
            messages: With the messages kept; how many depends on when the replica began.
        """
        found: dict[str, Any] = {"user": self.user, "conversations": {}}
        for conversation, box in sorted(self._boxes.items()):
            lines = dump_chat(box.chat, self.user, self.device)
            if messages:
                lines["messages"] = [
                    [m.seq, m.message_id, m.author, m.body, int(m.counts), m.asks]
                    for m in (box.messages[seq] for seq in box.seqs)
                ]
            found["conversations"][conversation] = lines
        return found

    # -- saving -------------------------------------------------------------------------------------------

    def parts(self, conversation: ConversationId) -> Iterator[ConversationPart]:
        """The state of a conversation, without messages, in the form that `restore` takes.

        Answers to messages that asked may be many, with words: they come in parts that fit a frame each.
        """
        chat = self.chat(conversation)
        head = max(chat.head, self._heads.get(chat.id, 0))
        return parts_of(chat, head, self.user, self.device)

    def restore(self, parts: Iterable[ConversationPart], messages: Iterable[MessageAccepted]) -> None:
        """Take in what was saved; of messages those that are still there to be seen."""
        for part in parts:
            for _ in self._part(part):
                pass
        self._fresh_messages.clear()
        self.saved()
        for message in messages:
            box = self._box(message.conversation)
            if message.seq in box.chat.recalled or message.seq <= box.chat.expired_through:
                self.removed.append((message.conversation, message.seq))
            else:
                box.put(message, self._messages_max, self.removed)


def _mark_after(mark: UnreadMark, local: LocalReads) -> UnreadMark:
    """What local reads leave of an unread mark."""
    for known, ranges in local:
        if mark and known >= mark.version:
            mark = UnreadMark(mark.version, False, RangeSet(ranges).missing(mark.ranges))
    return mark


def _register(
    registers: Mapping[Register, tuple[Version, events.RegisterValue]], name: Register
) -> events.RegisterValue:
    known = registers.get(name)
    return known[1] if known is not None else None


_HANDLERS: dict[type, Callable[[Replica, Any], bool]] = {
    MessageAccepted: Replica._message,
    Delivered: Replica._delivered,
    Read: Replica._read,
    GroupRead: Replica._group_read,
    events.MessageRecalled: Replica._recalled,
    events.MessagesExpired: Replica._expired,
    events.GroupReceiptsExpired: Replica._receipts_expired,
    events.UnreadMarked: Replica._unread_marked,
    events.HistoryCleared: Replica._cleared,
    events.MemberJoined: Replica._joined,
    events.MemberLeft: Replica._left,
    events.SharingChanged: Replica._sharing,
    events.RegisterSet: Replica._register,
}
