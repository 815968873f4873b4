"""A store that forgets everything when the process ends: for tests, simulations and short-lived nodes.

It keeps its promise of atomic commits (a batch that cannot be taken changes nothing) and outlives `close`,
so that a simulated crash is: throw the node away, open the same store again. Answers are found by looking at
everything of a conversation, which is slow for a store and easy to believe: this is also the model that the
durable store is compared with.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from receipts.core.errors import LocalProtocolError
from receipts.core.ids import AppId, ConversationId, DeviceId, Seq, UserId, direct_members
from receipts.core.ranges import EMPTY, Ranges, RangeSet, ranges_of

from .base import (
    RECENT,
    SCANNED_MAX,
    AppRow,
    AskRow,
    Batch,
    ConversationRow,
    ConversationRows,
    DeviceRow,
    GroupReceiptRow,
    InstallRow,
    MarkRow,
    MemberRow,
    MessageRow,
    MetaRow,
    QueueRow,
    Sent,
    StoreLocked,
    ToldRow,
    UserRow,
    UserRows,
    scanned_to,
)
from .paging import PagedStore

__all__ = ["MemoryStore"]


class _Chat:
    """The rows of one conversation."""

    __slots__ = (
        "asks",
        "bare",
        "marks",
        "members",
        "messages",
        "recalled",
        "recalled_tick",
        "receipts",
        "row",
        "seqs",
        "uncounted",
    )

    def __init__(self) -> None:
        self.row: ConversationRow | None = None
        self.members: dict[UserId, MemberRow] = {}
        self.marks: dict[UserId, MarkRow] = {}
        self.messages: dict[Seq, MessageRow] = {}
        self.seqs: list[Seq] = []
        """Of `messages`, rising."""
        self.bare: dict[Seq, MessageRow] = {}
        """Of those that were asked for, without their bodies: what does not change is made once."""
        self.recalled = RangeSet()
        self.recalled_tick = 0
        """Of the newest recall."""
        self.uncounted = RangeSet()
        self.asks: dict[Seq, AskRow] = {}
        self.receipts: dict[Seq, dict[UserId, GroupReceiptRow]] = {}

    def within(self, start: Seq, stop: Seq) -> list[MessageRow]:
        """Messages of [start, stop), rising."""
        seqs = self.seqs
        return [self.messages[seq] for seq in seqs[bisect_left(seqs, start) : bisect_left(seqs, stop)]]

    def put_recalled(self, seq: Seq, tick: int) -> None:
        """A message was recalled."""
        self.recalled.add(seq, seq + 1)
        self.recalled_tick = max(self.recalled_tick, tick)

    def without_bodies(self, seqs: Iterable[Seq]) -> list[MessageRow]:
        """Messages that are there."""
        bare = self.bare
        found = []
        for seq in seqs:
            row = bare.get(seq)
            if row is None:
                row = bare[seq] = self.messages[seq]._replace(body="")
            found.append(row)
        return found


class MemoryStore(PagedStore):
    """All rows in dictionaries. Create it once and open it as often as the data shall be met again."""

    def __init__(self) -> None:
        self._meta: MetaRow | None = None
        self._is_open = False
        self._apps: dict[AppId, AppRow] = {}
        self._users: dict[tuple[AppId, UserId], UserRow] = {}
        self._devices: dict[tuple[AppId, UserId], dict[DeviceId, DeviceRow]] = {}
        self._installs: dict[tuple[AppId, UserId, str], InstallRow] = {}
        self._numbers: dict[int, int] = {}
        """The highest number sent under each install key; stays when messages expire."""
        self._sends: dict[tuple[int, int], tuple[int, Seq]] = {}
        """(install key, number) → (conversation key, seq)."""
        self._chats: defaultdict[int, _Chat] = defaultdict(_Chat)
        self._keys: dict[tuple[AppId, ConversationId], int] = {}
        self._chats_of: defaultdict[tuple[AppId, UserId], set[int]] = defaultdict(set)
        self._queues: dict[tuple[AppId, UserId], dict[DeviceId, QueueRow]] = {}
        self._told_rows: dict[tuple[int, UserId], dict[DeviceId, ToldRow]] = {}
        self._due: list[tuple[int, int, Seq]] = []
        """(expires_ms, key, seq) of every ask, rising."""

    # -- life -------------------------------------------------------------------------------------------

    def open(self, *, now_ms: int, life: str, secret: bytes) -> MetaRow:
        if self._is_open:
            raise StoreLocked("this memory store is open already: close it first")
        self._is_open = True
        if self._meta is None:
            self._meta = MetaRow(life, 0, 0, 0, 0, now_ms, secret)
        return self._meta

    def close(self) -> None:
        self._is_open = False

    def new_life(self, life: str) -> None:
        self._meta = self._opened()._replace(life=life)

    def _opened(self) -> MetaRow:
        if self._meta is None or not self._is_open:
            raise LocalProtocolError("this store is not open")
        return self._meta

    # -- writing ----------------------------------------------------------------------------------------

    def commit(self, batch: Batch) -> None:
        self._opened()
        self._check(batch)
        self._meta = batch.meta
        if batch.apps or batch.users or batch.devices or batch.installs:
            self._put_accounts(batch)
        if batch.conversations or batch.members:
            self._put_conversations(batch)
        for queue in batch.queues:
            self._queues.setdefault((queue.app, queue.user), {})[queue.device] = queue
        for told in batch.told:
            self._told_rows.setdefault((told.key, told.user), {})[told.device] = told
        chats = self._chats
        for mark in batch.marks:
            chats[mark.key].marks[mark.user] = mark
        for message in batch.messages:
            self._put_message(message)
        for recall in batch.recalls:
            self._recall(*recall)
        for ask in batch.asks:
            self._put_ask(ask)
        for receipt in batch.receipts:
            chats[receipt.key].receipts.setdefault(receipt.seq, {})[receipt.reader] = receipt
        for key, through in batch.expired_receipts:
            self._drop_receipts(key, through)
        for key, through in batch.expired_messages:
            self._drop_receipts(key, through)
            self._drop_messages(key, through)

    def _check(self, batch: Batch) -> None:
        """Refuse what would give one name to two rows, before anything has changed."""
        for conversation in batch.conversations:
            name = (conversation.app, conversation.conversation)
            if self._keys.get(name, conversation.key) != conversation.key:
                raise LocalProtocolError(f"conversation {name!r} has another key already")
        for install in batch.installs:
            known = self._installs.get(install[1:])
            if known is not None and known.key != install.key:
                raise LocalProtocolError(f"install {install[1:]!r} has another key already")
        places: set[tuple[int, Seq]] = set()
        sends: set[tuple[int, int]] = set()
        for message in batch.messages:
            place = (message.key, message.seq)
            if place in places or (
                message.key in self._chats and message.seq in self._chats[message.key].messages
            ):
                raise LocalProtocolError(
                    f"message {message.seq} of conversation key {message.key} is there already"
                )
            places.add(place)
            if message.install_key:
                send = (message.install_key, message.number)
                if send in sends or send in self._sends:
                    raise LocalProtocolError(f"number {send[1]} of install key {send[0]} was used already")
                sends.add(send)

    def _put_accounts(self, batch: Batch) -> None:
        for app in batch.apps:
            self._apps[app.app] = app
        for user in batch.users:
            self._users[user.app, user.user] = user
        for device in batch.devices:
            self._devices.setdefault((device.app, device.user), {})[device.device] = device
        for install in batch.installs:
            self._installs[install[1:]] = install

    def _put_conversations(self, batch: Batch) -> None:
        for row in batch.conversations:
            self._keys[row.app, row.conversation] = row.key
            self._chats[row.key].row = row
        for member in batch.members:
            self._chats_of[member.app, member.user].add(member.key)
            self._chats[member.key].members[member.user] = member

    def _put_message(self, row: MessageRow) -> None:
        chat = self._chats[row.key]
        seqs = chat.seqs
        if not seqs or row.seq > seqs[-1]:
            seqs.append(row.seq)
        else:
            insort(seqs, row.seq)
        chat.messages[row.seq] = row
        if row.counts:
            chat.uncounted.add(row.seq, row.seq + 1)
        if row.recalled_tick:
            chat.put_recalled(row.seq, row.recalled_tick)
        if row.install_key:
            self._sends[row.install_key, row.number] = (row.key, row.seq)
            if row.number > self._numbers.get(row.install_key, 0):
                self._numbers[row.install_key] = row.number

    def _recall(self, key: int, seq: Seq, tick: int, by: UserId, at_ms: int) -> None:
        chat = self._chats[key]
        row = chat.messages.get(seq)
        if row is not None:
            row = row._replace(body="", recalled_tick=tick, recalled_by=by, recalled_ms=at_ms)
            chat.messages[seq] = row
            chat.bare.pop(seq, None)
            chat.put_recalled(seq, tick)

    def _put_ask(self, row: AskRow) -> None:
        asks = self._chats[row.key].asks
        known = asks.get(row.seq)
        if known is None or known.expires_ms != row.expires_ms:
            if known is not None:
                self._forget_due(known)
            insort(self._due, (row.expires_ms, row.key, row.seq))
        asks[row.seq] = row

    def _forget_due(self, row: AskRow) -> None:
        del self._due[bisect_left(self._due, (row.expires_ms, row.key, row.seq))]

    def _drop_receipts(self, key: int, through: Seq) -> None:
        chat = self._chats[key]
        for seq in [seq for seq in chat.asks if seq <= through]:
            self._forget_due(chat.asks.pop(seq))
        for seq in [seq for seq in chat.receipts if seq <= through]:
            del chat.receipts[seq]

    def _drop_messages(self, key: int, through: Seq) -> None:
        chat = self._chats[key]
        end = bisect_right(chat.seqs, through)
        for seq in chat.seqs[:end]:
            row = chat.messages.pop(seq)
            chat.bare.pop(seq, None)
            if row.install_key:
                del self._sends[row.install_key, row.number]
        del chat.seqs[:end]
        chat.recalled.drop_through(through)
        chat.uncounted.drop_through(through)

    # -- accounts ---------------------------------------------------------------------------------------

    def apps(self) -> list[AppRow]:
        return sorted(self._apps.values())

    def user(self, app: AppId, user: UserId) -> UserRows | None:
        row = self._users.get((app, user))
        if row is None:
            return None
        return UserRows(row, sorted(self._devices.get((app, user), {}).values()))

    def users(self, app: AppId, after: UserId, limit: int) -> list[UserRow]:
        names = sorted(name for of, name in self._users if of == app and name > after)
        return [self._users[app, name] for name in names[:limit]]

    def install(self, app: AppId, user: UserId, install: str) -> tuple[InstallRow, int] | None:
        row = self._installs.get((app, user, install))
        return None if row is None else (row, self._numbers.get(row.key, 0))

    def queue(self, app: AppId, user: UserId, device: DeviceId) -> tuple[QueueRow | None, bool]:
        rows = self._queues.get((app, user), {})
        return rows.get(device), bool(rows.keys() - {device})

    def told(self, key: int, user: UserId, device: DeviceId) -> ToldRow | None:
        return self._told_rows.get((key, user), {}).get(device)

    def sent(self, install_key: int, number: int) -> Sent | None:
        place = self._sends.get((install_key, number))
        if place is None:
            return None
        row = self._chats[place[0]].messages[place[1]]
        conversation = self._conversation(row.key)
        return Sent(
            conversation.app, conversation.conversation, row.seq, row.message_id, row.at_ms, row.number
        )

    # -- conversations ----------------------------------------------------------------------------------

    def conversation(self, app: AppId, conversation: ConversationId) -> ConversationRows | None:
        key = self._keys.get((app, conversation))
        if key is None:
            return None
        chat = self._chats[key]
        row = self._conversation(key)
        head = self._head(key)
        recent = chat.seqs[-RECENT:]
        return ConversationRows(
            row,
            max(head, row.expired_through),
            self._members(key, -1),
            self._marks(key, -1),
            self._heads(key, row.folded_through + 1, head + 1),
            chat.without_bodies(recent),
            self._recalled(key),
            self._uncounted(key),
            self._asks(key, -1),
            self._receipts(key, -1),
        )

    def conversations_of(self, app: AppId, user: UserId) -> list[ConversationId]:
        keys = sorted(self._chats_of.get((app, user), ()))
        return [self._conversation(key).conversation for key in keys]

    def all_conversations(self, after_key: int, limit: int) -> list[tuple[int, AppId, ConversationId]]:
        keys = sorted(key for key in self._keys.values() if key > after_key)
        rows = [self._conversation(key) for key in keys[:limit]]
        return [(row.key, row.app, row.conversation) for row in rows]

    def groups(self, app: AppId, after: ConversationId) -> tuple[list[ConversationRow], ConversationId]:
        names = sorted(name for of_app, name in self._keys if of_app == app and name > after)[:SCANNED_MAX]
        rows = [self._conversation(self._keys[app, name]) for name in names]
        return [row for row in rows if direct_members(row.conversation) is None], scanned_to(rows)

    def messages(self, key: int, seqs: Sequence[Seq]) -> list[MessageRow]:
        chat = self._of(key)
        return chat.without_bodies(seq for seq in sorted(set(seqs)) if seq in chat.messages)

    def seq_of(self, key: int, message_id: int) -> Seq:
        chat = self._of(key)
        return next((seq for seq in chat.seqs if chat.messages[seq].message_id == message_id), 0)

    def authored(self, key: int, user: UserId, start: Seq, stop: Seq) -> Ranges:
        return ranges_of(row.seq for row in self._of(key).within(start, stop) if row.author == user)

    def head_at(self, key: int, tick: int) -> Seq:
        chat = self._of(key)
        end = bisect_right(chat.seqs, tick, key=lambda seq: chat.messages[seq].tick)
        return chat.seqs[end - 1] if end else 0

    def asked_between(self, key: int, start_ms: int) -> int:
        chat = self._of(key)
        return sum(1 for seq in chat.asks if seq in chat.messages and chat.messages[seq].at_ms >= start_ms)

    def due_receipts(self, now_ms: int, limit: int) -> list[tuple[AppId, ConversationId, Seq]]:
        through: dict[int, Seq] = {}  # by key, in the order of the first to expire
        for _, key, seq in self._due[: bisect_left(self._due, (now_ms + 1,))]:
            through[key] = max(through.get(key, 0), seq)
        rows = [(self._conversation(key), seq) for key, seq in through.items()]
        return [(row.app, row.conversation, seq) for row, seq in rows[:limit]]

    def next_due_receipt(self, after_ms: int) -> int | None:
        place = bisect_left(self._due, (after_ms + 1,))
        return self._due[place][0] if place < len(self._due) else None

    def due_messages(self, app: AppId, before_ms: int, limit: int) -> list[tuple[AppId, ConversationId, Seq]]:
        found: list[tuple[AppId, ConversationId, Seq]] = []
        for key in sorted(key for (of, _), key in self._keys.items() if of == app):
            chat = self._chats[key]
            end = bisect_left(chat.seqs, before_ms, key=lambda seq: chat.messages[seq].at_ms)
            if end and len(found) < limit:
                found.append((app, self._conversation(key).conversation, chat.seqs[end - 1]))
        return found

    def history(self, key: int, ranges: Ranges, limit: int) -> list[MessageRow]:
        chat = self._of(key)
        found: list[MessageRow] = []
        for index in range(0, len(ranges), 2):
            found += chat.within(ranges[index], ranges[index + 1])
        return found[max(len(found) - limit, 0) :]

    def statistics(self, app: AppId, user: UserId, since: int) -> list[tuple[ConversationId, Seq, int, int]]:
        found = []
        for _, key, seq in self._due:
            chat = self._chats[key]
            ask = chat.asks[seq]
            readers = len(chat.receipts.get(seq, ()))
            if ask.app == app and ask.author == user and ask.tick > since and readers:
                message = chat.messages.get(seq)
                found.append((key, seq, readers, message.message_id if message is not None else 0))
        return [
            (self._conversation(key).conversation, seq, readers, message_id)
            for key, seq, readers, message_id in sorted(found)
        ]

    # -- what pages are made of -------------------------------------------------------------------------

    def _of(self, key: int) -> _Chat:
        """A conversation, without making one for a key that nobody gave."""
        return self._chats[key] if key in self._chats else _Chat()

    def _tick(self) -> int:
        return self._opened().tick

    def _touched(self, app: AppId, user: UserId, since: int, from_key: int) -> Iterator[int]:
        for key in sorted(self._chats_of.get((app, user), ())):
            if key >= from_key and self._is_later(key, since):
                yield key

    def _is_later(self, key: int, since: int) -> bool:
        chat = self._chats[key]
        head = self._head(key)
        return (
            self._conversation(key).tick > since
            or any(row.tick > since for rows in (chat.members, chat.marks) for row in rows.values())
            or (head > 0 and chat.messages[head].tick > since)
            or bool(self._recalled(key, since))
            or any(ask.tick > since for ask in chat.asks.values())
        )

    def _latest(self, app: AppId, user: UserId) -> list[tuple[int, int]]:
        found = []
        for key in self._chats_of.get((app, user), ()):
            head = self._head(key)
            found.append((self._chats[key].messages[head].message_id if head else 0, key))
        return found

    def _conversation(self, key: int) -> ConversationRow:
        row = self._chats[key].row
        assert row is not None, "rows of a conversation come with or after its own"
        return row

    def _head(self, key: int) -> Seq:
        seqs = self._chats[key].seqs
        return seqs[-1] if seqs else 0

    def _member(self, key: int, user: UserId) -> MemberRow:
        return self._chats[key].members[user]

    def _members(self, key: int, since: int) -> list[MemberRow]:
        rows = self._chats[key].members
        return [rows[user] for user in sorted(rows) if rows[user].tick > since]

    def _mark(self, key: int, user: UserId) -> MarkRow | None:
        return self._chats[key].marks.get(user)

    def _marks(self, key: int, since: int) -> list[MarkRow]:
        rows = self._chats[key].marks
        return [rows[user] for user in sorted(rows) if rows[user].tick > since]

    def _told(self, key: int, user: UserId) -> list[ToldRow]:
        rows = self._told_rows.get((key, user), {})
        return [rows[device] for device in sorted(rows)]

    def _bodies(self, key: int, start: Seq, stop: Seq) -> Iterator[MessageRow]:
        yield from self._chats[key].within(start, stop)

    def _heads(self, key: int, start: Seq, stop: Seq, author: UserId | None = None) -> list[MessageRow]:
        chat = self._chats[key]
        seqs = chat.seqs[bisect_left(chat.seqs, start) : bisect_left(chat.seqs, stop)]
        if author is not None:
            seqs = [seq for seq in seqs if chat.messages[seq].author == author]
        return chat.without_bodies(seqs)

    def _last(self, key: int) -> MessageRow | None:
        chat = self._chats[key]
        for seq in reversed(chat.seqs):
            if not chat.messages[seq].recalled_tick:
                return chat.messages[seq]
        return None

    def _last_of(self, key: int, author: UserId) -> Seq:
        chat = self._chats[key]
        rows = (chat.messages[seq] for seq in reversed(chat.seqs))
        return next((row.seq for row in rows if row.author == author and not row.recalled_tick), 0)

    def _recalled(self, key: int, since: int = 0) -> Ranges:
        chat = self._chats[key]
        if since <= 0:
            return chat.recalled.ranges
        if chat.recalled_tick <= since:
            return EMPTY
        return ranges_of(seq for seq in chat.recalled if chat.messages[seq].recalled_tick > since)

    def _uncounted(self, key: int) -> Ranges:
        return self._chats[key].uncounted.ranges

    def _asks(self, key: int, since: int) -> list[AskRow]:
        asks = self._chats[key].asks
        if not asks:
            return []
        return [asks[seq] for seq in sorted(asks) if asks[seq].tick > since]

    def _receipts(self, key: int, since: int) -> list[GroupReceiptRow]:
        known = self._chats[key].receipts
        if not known:
            return []
        return [row for ask in self._asks(key, since) for row in sorted(known.get(ask.seq, {}).values())]
