"""Rows as a node would write them, for one or several stores at once, and every question that there is.

What in it is unrealistic: nobody judges. Members and marks are made up, but well-formed; ticks, versions,
keys, ids and times rise as the contract says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from receipts.core.events import Body
from receipts.core.ids import ConversationId, DeviceId, Seq, UserId
from receipts.core.member import Advance, Member, Period, Sharing
from receipts.core.ranges import Ranges, RangeSet, through
from receipts.storage.base import (
    AppRow,
    AskRow,
    Batch,
    Changed,
    ConversationRow,
    DeviceRow,
    GroupReceiptRow,
    InstallRow,
    MarkRow,
    MemberRow,
    MessageRow,
    MetaRow,
    QueueRow,
    ResumePage,
    Start,
    Store,
    ToldRow,
    UserRow,
)
from receipts.storage.codec import pack_advances, pack_marks, pack_member, pack_registers, pack_told

APP = "default"
START_MS = 1_700_000_000_000
MINUTE_MS = 60_000
KEPT_MS = 10 * MINUTE_MS
"""How long the writer's group receipts are kept."""


def open_store(store: Store) -> MetaRow:
    """Open as for the first time."""
    return store.open(now_ms=START_MS, life="life-1", secret=b"secret")


class Writer:
    """Fills a batch and commits it to all its stores; then the next one begins, a minute later."""

    def __init__(self, *stores: Store, app: str = APP) -> None:
        self.stores = stores
        self.app = app
        self.meta = MetaRow("life-1", 0, 0, 0, 0, START_MS, b"secret")
        self.keys: dict[ConversationId, int] = {}
        self.heads: dict[ConversationId, Seq] = {}
        self.periods: dict[tuple[ConversationId, UserId], Member] = {}
        self.numbers: dict[int, int] = {}
        self._begin()

    def _begin(self) -> None:
        meta = self.meta
        self.tick = meta.tick + 1
        self.now_ms = meta.node_time_ms + MINUTE_MS
        self.batch = Batch(meta._replace(tick=self.tick, node_time_ms=self.now_ms))

    def commit(self) -> int:
        """Returns the tick of what was committed."""
        for store in self.stores:
            store.commit(self.batch)
        self.meta = self.batch.meta
        self._begin()
        return self.meta.tick

    def _give(self, name: str, step: int = 1) -> int:
        """The next key, message id or version."""
        value: int = getattr(self.batch.meta, name) + step
        change: dict[str, Any] = {name: value}
        self.batch.meta = self.batch.meta._replace(**change)
        return value

    # -- accounts -----------------------------------------------------------------------------------------

    def user(self, name: UserId, **fields: Any) -> UserRow:
        """An account."""
        row = UserRow(self.app, name, "hash", 0, True, False, 0, self.now_ms, False)._replace(**fields)
        self.batch.users.append(row)
        return row

    def device(self, user: UserId, name: DeviceId, **fields: Any) -> DeviceRow:
        """A device of an account."""
        row = DeviceRow(self.app, user, name, self.tick, self.now_ms, "test/1", False)._replace(**fields)
        self.batch.devices.append(row)
        return row

    def install(self, user: UserId, name: str) -> InstallRow:
        """A stored outbox."""
        row = InstallRow(self._give("key"), self.app, user, name)
        self.batch.installs.append(row)
        return row

    def configure(self, app: str, settings: str) -> AppRow:
        """A tenant."""
        row = AppRow(app, settings)
        self.batch.apps.append(row)
        return row

    # -- conversations ------------------------------------------------------------------------------------

    def conversation(self, name: ConversationId, *users: UserId) -> int:
        """A conversation with members from its beginning; returns its key."""
        key = self.keys[name] = self._give("key")
        self.heads[name] = 0
        self.row(name)
        for user in users:
            self.join(name, user)
        return key

    def row(self, name: ConversationId, **fields: Any) -> ConversationRow:
        """Its row, again."""
        row = ConversationRow(self.keys[name], self.app, name, self.tick, 0, 0, 0, pack_registers({}))
        row = row._replace(**fields)
        self.batch.conversations.append(row)
        return row

    def _put_member(self, name: ConversationId, user: UserId, shared: int | None) -> MemberRow:
        state = pack_member(self.periods[name, user], self.tick if shared is None else shared)
        row = MemberRow(self.keys[name], self.app, user, self.tick, state)
        self.batch.members.append(row)
        return row

    def join(self, name: ConversationId, user: UserId) -> MemberRow:
        """A period begins behind the head."""
        member = self.periods.setdefault((name, user), Member())
        member.open_period(self._give("version"), Period(self.heads[name] + 1))
        return self._put_member(name, user, None)

    def leave(self, name: ConversationId, user: UserId) -> MemberRow:
        """The current period ends at the head."""
        member = self.periods[name, user]
        member.close_period(max(member.periods), self.heads[name])
        return self._put_member(name, user, None)

    def clear(self, name: ConversationId, user: UserId, through: Seq) -> MemberRow:
        """A member's own history goes; nobody else's business."""
        member = self.periods[name, user]
        member.cleared_through = max(member.cleared_through, through)
        return self._put_member(name, user, 0)

    def share(self, name: ConversationId, user: UserId, read: bool) -> MemberRow:
        """A switch is thrown."""
        self.periods[name, user].sharing = Sharing(self._give("version"), True, read, 0, self.heads[name])
        return self._put_member(name, user, None)

    def mark(self, name: ConversationId, user: UserId, read: Ranges, *, private: bool = False) -> MarkRow:
        """A member read something."""
        member = Member()
        member.read.update(read)
        member.held("phone").update(read)
        if not private:
            member.read_shared.update(read)
            member.remember(Advance(self._give("version"), self.now_ms, read))
        packed = pack_marks(member, 0 if private else self.tick)
        row = MarkRow(self.keys[name], user, self.tick, packed, pack_advances(member))
        self.batch.marks.append(row)
        return row

    def hold(self, name: ConversationId, user: UserId, device: DeviceId, held: Ranges) -> MarkRow:
        """A device says what it holds."""
        member = Member()
        member.held(device).update(held)
        row = MarkRow(self.keys[name], user, self.tick, pack_marks(member, 0), b"")
        self.batch.marks.append(row)
        return row

    def tell(
        self, name: ConversationId, user: UserId, device: DeviceId, last: Seq
    ) -> tuple[QueueRow, ToldRow]:
        """A device that keeps nothing itself has been told something."""
        read = RangeSet(through(last))
        queue = QueueRow(self.app, user, device, str(self.tick), Start.KNOWN, self.now_ms)
        told = ToldRow(self.keys[name], user, device, pack_told(read, read, last, last))
        self.batch.queues.append(queue)
        self.batch.told.append(told)
        return queue, told

    def send(
        self, name: ConversationId, author: UserId, body: Body = "hello", *, install: int = 0, **fields: Any
    ) -> MessageRow:
        """The next message of a conversation; under `install`, its next number."""
        seq = self.heads[name] = self.heads[name] + 1
        number = self.numbers[install] = self.numbers.get(install, 0) + 1 if install else 0
        row = MessageRow(
            self.keys[name],
            seq,
            self._give("message_id", 2),
            self.tick,
            author,
            "phone",
            self.now_ms,
            0,
            False,
            3,
            install,
            number,
            body,
            0,
            "",
            0,
        )._replace(**fields)
        self.batch.messages.append(row)
        return row

    def recall(self, name: ConversationId, seq: Seq, by: UserId) -> None:
        """A message is taken back."""
        self.batch.recalls.append((self.keys[name], seq, self.tick, by, self.now_ms))

    def ask(self, name: ConversationId, author: UserId, body: Body = "please answer") -> AskRow:
        """A message that asks for receipts."""
        message = self.send(name, author, body, asks=True)
        row = AskRow(self.keys[name], message.seq, self.app, author, self.now_ms + KEPT_MS, self.tick)
        self.batch.asks.append(row)
        return row

    def answer(self, ask: AskRow, reader: UserId, content: str = "") -> GroupReceiptRow:
        """An answer to it."""
        row = GroupReceiptRow(
            ask.key, ask.seq, reader, self._give("version"), self.now_ms, content, self.tick
        )
        self.batch.receipts.append(row)
        self.batch.asks.append(ask._replace(tick=self.tick))
        return row


# -- questions ------------------------------------------------------------------------------------------


def bare(row: MessageRow) -> MessageRow:
    """As most answers have it."""
    return row._replace(body="")


def pages(
    store: Store,
    user: UserId,
    since: int,
    *,
    bytes_max: int = 1000,
    snapshot_messages: int = 1000,
    app: str = APP,
) -> list[ResumePage]:
    """All pages of a pass."""
    found: list[ResumePage] = []
    cursor = ""
    while not found or cursor:
        page = store.resume(
            app,
            user,
            since=since,
            cursor=cursor,
            bytes_max=bytes_max,
            snapshot_messages=snapshot_messages,
        )
        found.append(page)
        cursor = page.cursor
        assert len(found) < 10_000, "the pass does not end"
    return found


def items(found: Sequence[ResumePage]) -> list[Changed]:
    """What the pages say."""
    return [item for page in found for item in page.items]


def summary_pages(store: Store, user: UserId, limit: int, app: str = APP) -> list[list[ConversationId]]:
    """A user's list, page by page."""
    found: list[list[ConversationId]] = []
    cursor = ""
    while not found or cursor:
        lines, cursor = store.summaries(app, user, cursor, limit)
        found.append([line.row.conversation for line in lines])
    return found


def every_answer(store: Store, writer: Writer) -> Iterator[tuple[str, Any]]:
    """Everything that a store can be asked about what a writer wrote, each with its question."""
    app = writer.app
    yield "apps", store.apps()
    yield "users", store.users(app, "", 100)
    yield "users after b", store.users(app, "b", 1)
    yield "all", store.all_conversations(0, 100)
    yield "all, a page", store.all_conversations(2, 1)
    yield "groups", store.groups(app, "")
    yield "groups after g", store.groups(app, "g")
    ticks = sorted({-1, 0, writer.tick // 2, writer.tick - 2, writer.tick - 1})
    for user in "abcd":
        yield f"user {user}", store.user(app, user)
        yield f"conversations of {user}", store.conversations_of(app, user)
        yield f"summaries of {user}", store.summaries(app, user, "", 100)
        yield f"summary pages of {user}", summary_pages(store, user, 1, app)
        for install in ("i", "j"):
            yield f"install {user} {install}", store.install(app, user, install)
        for tick in ticks:
            yield f"statistics {user} {tick}", store.statistics(app, user, tick)
            for size in (300, 100_000):
                found = pages(store, user, tick, bytes_max=size, snapshot_messages=3, app=app)
                yield f"resume {user} {tick} {size}", found
            for start in Start:
                queued = store.resume(
                    app,
                    user,
                    since=max(tick, 0),
                    cursor="",
                    bytes_max=400,
                    snapshot_messages=3,
                    device="tv",
                    start=start,
                )
                yield f"resume {user} tv {tick} {start}", queued
        for device in ("tv", "car"):
            yield f"queue {user} {device}", store.queue(app, user, device)
    for name, key in writer.keys.items():
        head = writer.heads[name]
        yield f"conversation {name}", store.conversation(app, name)
        yield f"messages {name}", store.messages(key, [*range(head + 2, 0, -1), 1])
        for message_id in range(writer.meta.message_id + 3):
            yield f"seq of {message_id} in {name}", store.seq_of(key, message_id)
        for user in "ab":
            yield f"told {name} {user}", store.told(key, user, "tv")
        for tick in range(-1, writer.tick + 1):
            yield f"head at {name} {tick}", store.head_at(key, tick)
        for limit in (0, 1, 2, 100):
            yield f"history {name} {limit}", store.history(key, (1, 3, 4, head + 5), limit)
        for user in "abc":
            yield f"authored {name} {user}", store.authored(key, user, 2, head + 1)
    for at_ms in range(START_MS, writer.now_ms + KEPT_MS + 2 * MINUTE_MS, MINUTE_MS):
        yield f"due receipts {at_ms}", store.due_receipts(at_ms, 2)
        yield f"next due receipt {at_ms}", store.next_due_receipt(at_ms)
        yield f"due messages {at_ms}", store.due_messages(app, at_ms, 2)
        for name, key in writer.keys.items():
            yield f"asked {name} {at_ms}", store.asked_between(key, at_ms)
    for key in range(writer.meta.key + 2):
        for number in range(5):
            yield f"sent {key} {number}", store.sent(key, number)
