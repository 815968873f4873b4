"""How answers that do not fit one frame are cut into pages, the same for every store.

What lives here: the walk over a user's conversations for `Store.resume` and `Store.summaries`, their
cursors, and what a page costs. What does not: where rows come from; a store answers that through the few
questions that `PagedStore` leaves open.

Rule 1: the tick that a pass of pages reports is the store's tick when its *first* page was read, and the
cursor carries it. A conversation that was passed early may change while later ones are read; had the last
page reported the tick of its own time, those changes would be lost.
Rule 2: conversations come by key and messages by seq, so a cursor stands for 'everything before this was
given' whatever is committed meanwhile. Rows that change meanwhile have a later tick: the next pass has them.
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
from receipts.core.ids import AppId, Seq, UserId
from receipts.core.ranges import EMPTY, Ranges, RangeSet, ranges_of

from .base import (
    AskRow,
    Changed,
    ConversationRow,
    GroupReceiptRow,
    MarkRow,
    MemberRow,
    MessageRow,
    ResumePage,
    Store,
    SummaryRows,
)
from .codec import load_member, readable, shared_tick

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
    ) -> ResumePage:
        at = _Cursor(*_numbers(cursor, 3)) if cursor else _Cursor(0, 0, self._tick())
        page = _Page(bytes_max)
        for key in self._touched(app, user, since, at.key):
            begun = at.seq if key == at.key else 0
            part = _Part(self, key, user, since, at.tick, begun, snapshot_messages)
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
    ) -> None:
        self._store = store
        self._key = key
        self._user = user
        self._since = since
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

    def _state(self) -> Changed:
        """The item without its messages."""
        store, key, since = self._store, self._key, self._since
        empty = Changed(self._row, self._head, [], self._mine, [], [], EMPTY, EMPTY, self._first_seq, [], [])
        if self._begun:
            return empty
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
            (self._row.tick > self._since and not self._begun)
            or bool(changed.members or changed.marks or changed.recalled or changed.asks)
            or bool(self._wanted)
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
