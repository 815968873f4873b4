"""How answers that do not fit one frame are cut into pages, the same for every store.

What lives here: the walk over a user's conversations for `Store.resume` and `Store.summaries`, their
cursors, and what a page costs. What does not: where rows come from; a store answers that through the few
questions that `PagedStore` leaves open.

Rule 1: the tick that a pass of pages reports is the store's tick when its *first* page was read, and the
cursor carries it. A conversation that was passed early may change while later ones are read; had the last
page reported the tick of its own time, those changes would be lost.
Rule 2: conversations come by key and messages by seq, so a cursor stands for 'everything before this was
given' whatever is committed meanwhile. Rows that change meanwhile have a later tick: the next pass has them.
In a conversation that is being given, what makes its messages stay away is said at once.
Rule 3: messages accepted after the first page are left to the next pass, so that a conversation that grows
as fast as it is read does not keep a pass from ending.
Rule 4: where pages begin and end must not show what others keep private (I-25): of another member a row is
given only if something of it that is shared has changed, and the size of its blobs counts for nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from receipts.core.errors import LocalProtocolError
from receipts.core.events import By
from receipts.core.ids import AppId, DeviceId, Seq, UserId, Version, direct_members
from receipts.core.member import Member
from receipts.core.ranges import EMPTY, Ranges, RangeSet, ranges_of, through

from .base import (
    AskRow,
    Changed,
    ConversationRow,
    GroupReceiptRow,
    MarkRow,
    MemberRow,
    MessageRow,
    Owed,
    ResumePage,
    Start,
    Store,
    SummaryRows,
    ToldRow,
)
from .codec import load_member, readable, shared_tick, unpack_told, user_marks

__all__ = ["PagedStore", "newest"]

ROW_BYTES = 64
"""What a row costs in a page beside its blobs: ids, numbers and framing, roughly."""


class _Cursor(NamedTuple):
    """Where a page of `resume` begins."""

    key: int
    """The conversation."""
    seq: Seq
    """The next message of it; 0 when nothing of the conversation was given yet."""
    tick: int
    """The store's tick when the first page was read (Rule 1)."""


class PagedStore(Store):
    """A store whose `resume` and `summaries` are the common walk."""

    # -- what a store has to answer ---------------------------------------------------------------------

    @abstractmethod
    def _tick(self) -> int:
        """Of the last commit."""

    @abstractmethod
    def _touched(self, app: AppId, user: UserId, since: int, from_key: int) -> Iterator[int]:
        """Keys from `from_key` (inclusive), rising, of a user's conversations with rows after `since`."""

    @abstractmethod
    def _latest(self, app: AppId, user: UserId) -> list[tuple[int, int]]:
        """(id of the latest message or 0, key) of all conversations of a user, in any order."""

    @abstractmethod
    def _conversation(self, key: int) -> ConversationRow: ...

    @abstractmethod
    def _head(self, key: int) -> Seq:
        """The highest seq stored; 0 for none."""

    @abstractmethod
    def _member(self, key: int, user: UserId) -> MemberRow: ...

    @abstractmethod
    def _members(self, key: int, since: int) -> list[MemberRow]:
        """Those later than `since`, by user."""

    @abstractmethod
    def _mark(self, key: int, user: UserId) -> MarkRow | None: ...

    @abstractmethod
    def _marks(self, key: int, since: int) -> list[MarkRow]:
        """Those later than `since`, by user."""

    @abstractmethod
    def _bodies(self, key: int, start: Seq, stop: Seq) -> Iterator[MessageRow]:
        """Messages of [start, stop), rising, with bodies."""

    @abstractmethod
    def _heads(self, key: int, start: Seq, stop: Seq, author: UserId | None = None) -> list[MessageRow]:
        """Messages of [start, stop), rising, without bodies; of one author if one is given."""

    @abstractmethod
    def _last(self, key: int) -> MessageRow | None:
        """The newest message that is not recalled, with body."""

    @abstractmethod
    def _recalled(self, key: int, since: int = 0) -> Ranges:
        """Messages recalled after tick `since`."""

    @abstractmethod
    def _uncounted(self, key: int) -> Ranges: ...

    @abstractmethod
    def _asks(self, key: int, since: int) -> list[AskRow]:
        """Those later than `since`, by seq."""

    @abstractmethod
    def _receipts(self, key: int, since: int) -> list[GroupReceiptRow]:
        """All answers to the asks later than `since`, by seq and reader."""

    @abstractmethod
    def _last_of(self, key: int, author: UserId) -> Seq:
        """The newest message of somebody's that was not recalled; 0 for none."""

    @abstractmethod
    def _told(self, key: int, user: UserId) -> list[ToldRow]:
        """Of all devices of a user that keep nothing themselves."""

    # -- resume -----------------------------------------------------------------------------------------

    def resume(
        self,
        app: AppId,
        user: UserId,
        *,
        since: int,
        cursor: str,
        bytes_max: int,
        snapshot_messages: int,
        device: DeviceId = "",
        start: int = Start.KNOWN,
        known_tick: int = 0,
    ) -> ResumePage:
        at = _Cursor(*_numbers(cursor, 3)) if cursor else _Cursor(0, 0, self._tick())
        page = _Page(bytes_max)
        for key in self._touched(app, user, since, at.key):
            begun = at.seq if key == at.key else 0
            part = _Part(self, key, user, since, at.tick, begun, snapshot_messages, device, start, known_tick)
            if not part.tells():
                continue
            if page.items and page.room <= 0:
                return ResumePage(page.items, at.tick, _text(_Cursor(key, begun, at.tick)))
            left = part.fill(page)
            if left:
                return ResumePage(page.items, at.tick, _text(_Cursor(key, left, at.tick)))
        return ResumePage(page.items, at.tick, "")

    # -- summaries --------------------------------------------------------------------------------------

    def summaries(self, app: AppId, user: UserId, cursor: str, limit: int) -> tuple[list[SummaryRows], str]:
        # Conversations that get a message between two pages move above the cursor; live updates tell of them.
        lines = sorted(self._latest(app, user), reverse=True)
        if cursor:
            below = tuple(_numbers(cursor, 2))
            lines = [line for line in lines if line < below]
        found: list[SummaryRows] = []
        end = ""
        for message_id, key in lines:
            member = self._member(key, user)
            if not load_member(member).joined:
                continue
            if len(found) >= limit:
                return found, end
            found.append(self._summary(key, member))
            end = _text((message_id, key))
        return found, ""

    def _summary(self, key: int, member: MemberRow) -> SummaryRows:
        row = self._conversation(key)
        head = self._head(key)
        return SummaryRows(
            row,
            max(head, row.expired_through),
            member,
            self._mark(key, member.user),
            self._heads(key, row.folded_through + 1, head + 1, member.user),
            self._recalled(key),
            self._uncounted(key),
            self._last(key),
        )


class _Told:
    """What a device was told of a conversation."""

    __slots__ = ("answered", "delivered", "read")

    def __init__(self) -> None:
        self.delivered = RangeSet()
        self.read = RangeSet()
        self.answered: Version = 0

    def join(self, row: ToldRow) -> None:
        """What it was told itself."""
        delivered, read, _, self.answered = unpack_told(row.told)
        self.delivered.update(delivered)
        self.read.update(read)

    def join_old(self, row: ToldRow, old: Ranges) -> Version:
        """What another device was told of old messages; which answers that one knows."""
        delivered, read, _, answered = unpack_told(row.told)
        self.delivered.update(RangeSet(old).within(delivered))
        self.read.update(RangeSet(old).within(read))
        return answered


class _Page:
    """A page while it is being filled."""

    __slots__ = ("items", "room")

    def __init__(self, bytes_max: int) -> None:
        self.items: list[Changed] = []
        self.room = bytes_max


class _Part:
    """What one page and later ones have to take of one conversation."""

    def __init__(
        self,
        store: PagedStore,
        key: int,
        user: UserId,
        since: int,
        tick: int,
        begun: Seq,
        snapshot_messages: int,
        device: DeviceId,
        start: int,
        known_tick: int,
    ) -> None:
        self._store = store
        self._key = key
        self._user = user
        self._since = since
        self._tick = tick
        """When the pass began."""
        self._begun = begun
        """The message to go on with, when an earlier page has given the rest; else 0."""
        self._row = store._conversation(key)
        self._mine = store._member(key, user)
        self._member = load_member(self._mine)
        self._head = max(store._head(key), self._row.expired_through)
        self._through = store.head_at(key, tick)
        """The last message of this pass, inclusive (Rule 3)."""
        self._before = store.head_at(key, since) if since >= 0 else 0
        """The last message of earlier passes, inclusive."""
        self._wanted, self._first_seq = self._messages(snapshot_messages)
        self._device, self._start = device, start
        if device:
            # Of what was there when a new device became known.
            self._old = through(store.head_at(key, known_tick)) if start != Start.KNOWN else EMPTY
            self._wanted = self._arrived(device).missing(self._wanted)
        self._changed = self._state()

    def _messages(self, snapshot_messages: int) -> tuple[Ranges, Seq]:
        """Which messages are left to give, and `Changed.first_seq`."""
        readable_now = readable(self._member, self._head, self._row.expired_through)
        wanted = _within(readable_now, self._before + 1, self._through + 1)
        first_seq = 1
        if self._since < 0:
            kept = newest(wanted, snapshot_messages)
            if kept != wanted:
                first_seq = kept[0] if kept else self._through + 1
            wanted = kept
        return _within(wanted, self._begun, self._through + 1), first_seq

    def _arrived(self, device: DeviceId) -> RangeSet:
        """What a device that keeps nothing itself need not be given."""
        marks = self._marks(self._user)
        arrived = marks.held(device).copy()
        for known in (marks.read, *marks.devices.values()):
            arrived.update(known.within(self._old))
        return arrived

    def _with_owed(self, changed: Changed) -> Changed:
        """The last part of a conversation, for a device that keeps nothing itself: with all receipts, which
        are of messages that it has by then."""
        asks = self._store._asks(self._key, self._since)
        return changed._replace(
            asks=asks,
            receipts=self._store._receipts(self._key, self._since),
            owed=self._owed(self._device, asks),
        )

    def _owed(self, device: DeviceId, asks: list[AskRow]) -> Owed:
        """What else such a device has to be told; see `base.Owed`."""
        stored = self._store._told(self._key, self._user)
        blob = next((row.told for row in stored if row.device == device), None)
        told = _Told()
        elsewhere = 0
        for row in stored:
            if row.device == device:
                told.join(row)
            elif self._start != Start.KNOWN:
                elsewhere = max(elsewhere, told.join_old(row, self._old))
        pair = direct_members(self._row.conversation)
        if pair is None:
            own = self._own(ranges_of(ask.seq for ask in asks if ask.author == self._user))
            return Owed(
                "",
                EMPTY,
                EMPTY,
                EMPTY,
                False,
                False,
                0,
                told.answered,
                elsewhere,
                own,
                self._taken_back(device),
                blob,
            )
        peer = pair[pair[0] == self._user]
        theirs = self._marks(peer)
        given = RangeSet(through(self._through))
        read = told.read.missing(given.within(theirs.read_shared.ranges))
        known = told.read.copy()
        known.update(read)
        known.update(told.delivered.ranges)
        delivered = known.missing(given.within(theirs.delivered_shared.ranges))
        settled: Ranges = EMPTY
        if self._start == Start.FIRST:
            theirs.delivered_shared.update(read)
            settled = theirs.delivered_shared.within(self._old)
            old = RangeSet(self._old)
            read, delivered = old.missing(read), old.missing(delivered)
        both = RangeSet(read)
        both.update(delivered)
        return Owed(
            peer,
            delivered,
            read,
            settled,
            # Of what the user has cleared, too: the device may still show it.
            bool(read) and not self._is_left(through(self._head), theirs.read_shared, self._user, EMPTY),
            bool(theirs.advances) and theirs.advances[-1].by is By.CONVERSATION,
            self._seen_through(peer),
            told.answered,
            elsewhere,
            self._own(both.ranges),
            self._taken_back(device),
            blob,
        )

    def _marks(self, user: UserId) -> Member:
        mark = self._store._mark(self._key, user)
        return user_marks(mark) if mark is not None else Member()

    def _seen_through(self, peer: UserId) -> Seq:
        read = self._marks(self._user).read
        last = self._store._last_of(self._key, peer)
        visible = readable(self._member, self._head, self._row.expired_through)
        if last not in read or self._is_left(visible, read, peer, self._store._uncounted(self._key)):
            return 0
        return last

    def _is_left(self, ranges: Ranges, read: RangeSet, author: UserId, apart: Ranges) -> bool:
        """Whether a message of somebody's in `ranges`, which was not recalled, is not in `read`."""
        seen = RangeSet(self._store._recalled(self._key)).missing(ranges)
        missing = read.missing(RangeSet(apart).missing(seen))
        return any(
            self._store._heads(self._key, missing[index], missing[index + 1], author)
            for index in range(0, len(missing), 2)
        )

    def _own(self, ranges: Ranges) -> list[MessageRow]:
        return self._heads_of(ranges, self._user)

    def _taken_back(self, device: DeviceId) -> list[MessageRow]:
        """What was recalled since, of what the device may have. That is more than it has acknowledged: what
        it sent itself, what was on its way when its link broke, and what could not be written down."""
        held, old, member = self._marks(self._user).held(device), RangeSet(self._old), self._member
        return [
            row
            for row in self._heads_of(self._store._recalled(self._key, max(self._since, 0)))
            if row.recalled_tick <= self._tick  # else the next pass has it (Rule 2)
            and (row.seq in held or (row.seq not in old and (member.joined or member.in_audience(row.seq))))
        ]

    def _heads_of(self, ranges: Ranges, author: UserId | None = None) -> list[MessageRow]:
        rows: list[MessageRow] = []
        for index in range(0, len(ranges), 2):
            rows += self._store._heads(self._key, ranges[index], ranges[index + 1], author)
        return rows

    def _state(self) -> Changed:
        """The item without its messages."""
        store, key, since = self._store, self._key, self._since
        empty = Changed(self._row, self._head, [], self._mine, [], [], EMPTY, EMPTY, self._first_seq, [], [])
        if self._begun:
            # What the user has cleared since the first page leaves no hole: it is said where its messages
            # would stand, like what was recalled.
            return empty._replace(members=[self._mine]) if self._mine.tick > self._tick else empty
        # Somebody new needs the others whole, not only what changed of them.
        known = -1 if self._is_new() else since
        return empty._replace(
            members=[row for row in store._members(key, known) if self._may_show(row, known)],
            marks=[row for row in store._marks(key, known) if self._may_show(row, known)],
            recalled=store._recalled(key, max(since, 0)),
            uncounted=store._uncounted(key) if since < 0 else EMPTY,
            asks=store._asks(key, since),
            receipts=store._receipts(key, since),
        )

    def _is_new(self) -> bool:
        """Whether the user's current period may have begun after `since`: it then begins behind what was the
        head. Where the two cannot be told apart (nothing was sent in between) the answer is yes: rows that
        are known already do no harm."""
        period = self._member.period
        return self._mine.tick > self._since and period is not None and period.from_seq > self._before

    def _may_show(self, row: MarkRow | MemberRow, known: int) -> bool:
        """Rule 4."""
        return row.user == self._user or shared_tick(row) > known

    def tells(self) -> bool:
        """Whether there is anything in it: messages that the user may not read are nothing."""
        changed = self._changed
        return (
            self._row.tick > (self._tick if self._begun else self._since)
            or bool(changed.members or changed.marks or changed.recalled or changed.asks)
            or bool(self._wanted)
            or bool(self._begun and self._device)  # what it is owed beside messages comes with the last part
        )

    def fill(self, page: _Page) -> Seq:
        """Add an item to the page; returns the seq that the next page begins with, 0 when all was given."""
        may_stop = not self._begun  # at least one message, or one conversation
        messages: list[MessageRow] = []
        page.room -= _cost(self._changed)
        left = 0
        for message in self._bodies():
            if page.room <= 0 and (may_stop or messages):
                left = message.seq
                break
            messages.append(message)
            page.room -= len(message.body) + ROW_BYTES
        changed = self._changed._replace(messages=messages)
        if self._since >= 0 or self._begun:
            changed = changed._replace(uncounted=ranges_of(row.seq for row in messages if row.counts))
        if self._device and not left:
            changed = self._with_owed(changed)
        page.items.append(changed)
        return left

    def _bodies(self) -> Iterator[MessageRow]:
        wanted = self._wanted
        for index in range(0, len(wanted), 2):
            yield from self._store._bodies(self._key, wanted[index], wanted[index + 1])


def newest(ranges: Ranges, limit: int) -> Ranges:
    """The highest `limit` seqs of `ranges`."""
    kept: list[int] = []
    for index in range(len(ranges) - 2, -1, -2):
        if limit <= 0:
            break
        start, stop = ranges[index], ranges[index + 1]
        start = max(start, stop - limit)
        limit -= stop - start
        kept[:0] = (start, stop)
    return tuple(kept)


def _within(ranges: Ranges, start: Seq, stop: Seq) -> Ranges:
    """The part of `ranges` in [start, stop)."""
    return RangeSet(ranges).within((start, stop)) if start < stop else EMPTY


def _cost(changed: Changed) -> int:
    """Bytes that the rows of an item take, roughly; messages are counted as they are added."""
    people = max(len(changed.members), len(changed.marks))  # in a full state whoever has marks is a member
    content = sum(len(receipt.content) for receipt in changed.receipts)
    return content + ROW_BYTES * (1 + 2 * people + len(changed.asks) + len(changed.receipts))


def _text(numbers: Iterable[int]) -> str:
    return ".".join(map(str, numbers))


def _numbers(cursor: str, length: int) -> list[int]:
    """The reverse of `_text`.

    Raises:
        LocalProtocolError: It is not one of ours.
    """
    parts = cursor.split(".")
    if len(parts) != length or not all(
        part.isascii() and part.isdigit() and len(part) < 19 for part in parts
    ):
        raise LocalProtocolError(f"not a cursor of this store: {cursor[:80]!r}")
    return [int(part) for part in parts]
