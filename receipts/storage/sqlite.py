"""The default store: one SQLite file in a directory that one process owns.

What lives here: opening, committing and asking. What does not: the tables (`schema`), the cutting into pages
(`paging`).

A commit is one transaction in WAL mode with `synchronous = FULL`: on return it is on the disk. What a commit
costs is mostly the pages that it touches, so the tables that every message touches have as few indexes as
answers need. Statements are executed with the rows themselves as parameters.

Rule 1: after a commit that failed cleanly (no room) the database is as before it, and the store goes on.
Rule 2: after any other failure of a write nothing is known, and the store refuses everything but `close`: the
kernel may have dropped the pages that it could not write, and a later success would say nothing of them.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from receipts.core.errors import LocalProtocolError, ReceiptsError
from receipts.core.ids import AppId, ConversationId, DeviceId, Seq, UserId, direct_members
from receipts.core.ranges import Ranges, ranges_of

from . import schema
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
    StoreCorrupt,
    StoreFailed,
    StoreFull,
    ToldRow,
    UserRow,
    UserRows,
    scanned_to,
)
from .lock import DirectoryLock
from .paging import PagedStore

__all__ = ["DATABASE_NAME", "LOCK_NAME", "SQLiteStore"]

DATABASE_NAME = "receipts.sqlite3"
LOCK_NAME = "receipts.lock"

CACHE_KIB = 32 * 1024
"""Room for the inner pages of some 10 million messages and the leaves that are written now."""

CHECKPOINT_PAGES = 16_000
"""64 MiB of log before its pages are copied home: pages written many times are copied once. Against 16 MiB it
saves a sixth of the CPU of commits to a thousand conversations; what it costs is a tenth of a second after a
crash, to read the log."""

LOG_BYTES_KEPT = 128 * 1024 * 1024
"""The log file shrinks to this after a large transaction made it larger."""

BUSY_SECONDS = 10.0
"""How long a commit waits for an operator's own look into the file."""


def _columns(row: type[Any], *, bodiless: bool = False, of: str = "") -> str:
    """The columns of a row class, in its order; of a table's alias when one is given."""
    names = [f"{of}.{name}" if of else name for name in row._fields]
    return ", ".join("''" if bodiless and name.endswith("body") else name for name in names)


def _inserting(table: str, row: type[Any]) -> str:
    marks = ", ".join("?" * len(row._fields))
    return f"INSERT INTO {table} ({_columns(row)}) VALUES ({marks})"


def _replacing(table: str, row: type[Any]) -> str:
    return _inserting(table, row).replace("INSERT", "INSERT OR REPLACE", 1)


def _updating(table: str, row: type[Any], *key: str) -> str:
    """As `_replacing`, for tables where another unique name must not be taken over in silence."""
    changes = ", ".join(f"{name} = excluded.{name}" for name in row._fields if name not in key)
    return f"{_inserting(table, row)} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"


BULK_ROWS = 50
"""Rows that one statement inserts where there are so many. The interpreter's lock changes hands once for each
statement that is executed, which costs more than a row while the event loop wants it too."""


@cache
def _bulk(sql: str) -> str:
    """An insert of one row as one of `BULK_ROWS`."""
    head, _, values = sql.partition(" VALUES ")
    row, close, rest = values.partition(")")
    return f"{head} VALUES {', '.join([row + close] * BULK_ROWS)}{rest}"


def _insert_in_bulk(db: sqlite3.Connection, sql: str, rows: Sequence[Any]) -> Sequence[Any]:
    """Insert as many rows as whole bulks hold and return the rest, which is all of what is no insert."""
    if " VALUES " not in sql:
        return rows
    whole = len(rows) - len(rows) % BULK_ROWS
    for start in range(0, whole, BULK_ROWS):
        db.execute(_bulk(sql), list(chain.from_iterable(rows[start : start + BULK_ROWS])))
    return rows[whole:]


_PUT_META = f"INSERT OR REPLACE INTO meta (id, {_columns(MetaRow)}) VALUES (1, ?, ?, ?, ?, ?, ?, ?)"
_PUT_APP = _replacing("apps", AppRow)
_PUT_USER = _replacing("users", UserRow)
_PUT_DEVICE = _replacing("devices", DeviceRow)
_PUT_INSTALL = _updating("installs", InstallRow, "key")
_PUT_QUEUE = _replacing("queues", QueueRow)
_PUT_TOLD = _replacing("told", ToldRow)
_PUT_CONVERSATION = _updating("conversations", ConversationRow, "key")
_PUT_MEMBER = _replacing("members", MemberRow)
_PUT_MARK = _replacing("marks", MarkRow)
_PUT_MESSAGE = _inserting("messages", MessageRow)
_RECALL = """
    UPDATE messages SET body = '', recalled_tick = ?, recalled_by = ?, recalled_ms = ?
    WHERE key = ? AND seq = ?"""
_PUT_ASK = _replacing("asks", AskRow)
_PUT_RECEIPT = _replacing("receipts", GroupReceiptRow)

_DROP_RECEIPTS = "DELETE FROM receipts WHERE key = ? AND seq <= ?"
_DROP_ASKS = "DELETE FROM asks WHERE key = ? AND seq <= ?"
_DROP_MESSAGES = "DELETE FROM messages WHERE key = ? AND seq <= ?"
_KEEP_NUMBERS = """
    UPDATE installs SET number_floor = max(number_floor, coalesce((
        SELECT max(number) FROM messages WHERE install_key = installs.key AND install_key != 0), 0))
    WHERE key IN (SELECT install_key FROM messages WHERE key = ? AND seq <= ?)"""

_APP = _columns(AppRow)
_USER = _columns(UserRow)
_DEVICE = _columns(DeviceRow)
_CONVERSATION = _columns(ConversationRow)
_MEMBER = _columns(MemberRow)
_MARK = _columns(MarkRow)
_QUEUE = _columns(QueueRow)
_TOLD = _columns(ToldRow)
_ASK = _columns(AskRow)
_MESSAGE = _columns(MessageRow)
_HEAD = _columns(MessageRow, bodiless=True)

_HISTORY = f"""
    SELECT {_MESSAGE} FROM messages WHERE key = ? AND seq >= ? AND seq < ? ORDER BY seq DESC LIMIT ?"""

_TOUCHED = """
    SELECT m.key FROM members m CROSS JOIN conversations c ON c.key = m.key
    WHERE m.app = :app AND m.user = :user AND m.key >= :from_key AND (
        c.tick > :since
        OR (SELECT tick FROM messages WHERE key = m.key ORDER BY seq DESC LIMIT 1) > :since
        OR EXISTS (SELECT 1 FROM messages WHERE key = m.key AND recalled_tick > 0 AND recalled_tick > :since)
        OR EXISTS (SELECT 1 FROM marks WHERE key = m.key AND tick > :since)
        OR EXISTS (SELECT 1 FROM members x WHERE x.key = m.key AND x.tick > :since)
        OR EXISTS (SELECT 1 FROM asks WHERE key = m.key AND tick > :since))
    ORDER BY m.key"""

_LATEST = """
    SELECT coalesce((SELECT message_id FROM messages WHERE key = m.key ORDER BY seq DESC LIMIT 1), 0), m.key
    FROM members m WHERE m.app = ? AND m.user = ?"""

_DUE_RECEIPTS = """
    SELECT c.app, c.conversation, max(a.seq) FROM asks a JOIN conversations c ON c.key = a.key
    WHERE a.expires_ms <= ? GROUP BY a.key ORDER BY min(a.expires_ms), a.key LIMIT ?"""

_DUE_MESSAGES = """
    SELECT c.key, c.conversation FROM conversations c CROSS JOIN messages m
    ON m.key = c.key AND m.seq = (SELECT min(seq) FROM messages WHERE key = c.key)
    WHERE c.app = ? AND m.at_ms < ? ORDER BY c.key LIMIT ?"""

_STATISTICS = """
    SELECT c.conversation, a.seq,
        (SELECT count(*) FROM receipts WHERE key = a.key AND seq = a.seq) AS readers,
        coalesce((SELECT message_id FROM messages WHERE key = a.key AND seq = a.seq), 0)
    FROM asks a JOIN conversations c ON c.key = a.key
    WHERE a.app = ? AND a.author = ? AND a.tick > ? AND readers > 0
    ORDER BY a.key, a.seq"""

_SENT = """
    SELECT c.app, c.conversation, m.seq, m.message_id, m.at_ms, m.number
    FROM messages m JOIN conversations c ON c.key = m.key
    WHERE m.install_key = ? AND m.install_key != 0 AND m.number = ?"""

_INSTALL = f"""
    SELECT {_columns(InstallRow)}, max(number_floor, coalesce((
        SELECT max(number) FROM messages WHERE install_key = installs.key AND install_key != 0), 0))
    FROM installs WHERE app = ? AND user = ? AND install = ?"""

_RECEIPTS = f"""
    SELECT {_columns(GroupReceiptRow, of="r")}
    FROM asks a JOIN receipts r ON r.key = a.key AND r.seq = a.seq
    WHERE a.key = ? AND a.tick > ? ORDER BY r.seq, r.reader"""


class SQLiteStore(PagedStore):
    """A store in `directory`, which is created if need be, for its owner's eyes only.

    Args:
        pages_max: A quota: pages of 4096 bytes that the database may have, its log not counted; None for no
            other bound than the disk. At the bound commits raise `StoreFull`.
    """

    def __init__(self, directory: Path, *, pages_max: int | None = None) -> None:
        self.directory = Path(directory)
        self._pages_max = pages_max
        self._lock = DirectoryLock(self.directory / LOCK_NAME)
        self._db: sqlite3.Connection | None = None
        self._failed: ReceiptsError | None = None

    @property
    def path(self) -> Path:
        """The database; its log stands beside it while it is open."""
        return self.directory / DATABASE_NAME

    # -- life -------------------------------------------------------------------------------------------

    def open(self, *, now_ms: int, life: str, secret: bytes) -> MetaRow:
        try:
            _make_directory(self.directory)
            self._lock.acquire()
        except OSError as error:
            raise self._refusal(error) from error
        try:
            return self._open(MetaRow(life, 0, 0, 0, 0, now_ms, secret))
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise self._refusal(error) from error
        except StoreCorrupt as error:
            self.close()
            raise StoreCorrupt(f"{self.path}: {error}") from None
        except BaseException:
            self.close()
            raise

    def _open(self, new: MetaRow) -> MetaRow:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = os.fstat(descriptor).st_size
        os.close(descriptor)
        if 0 < size < schema.HEADER_BYTES:  # SQLite would take it for empty
            raise StoreCorrupt(f"the file is too short to be a database: {schema.WAY_OUT}")
        # One thread at a time uses a store, but not always the same one.
        db = sqlite3.connect(
            self.path,
            timeout=BUSY_SECONDS,
            isolation_level=None,  # transactions are begun and ended here, not by the driver
            check_same_thread=False,
            cached_statements=128,
        )
        self._db = db
        self._failed = None
        version = schema.identify(db)
        if not version:
            db.execute("PRAGMA page_size = 4096")
        self._configure(db)
        schema.migrate(db, version)
        schema.check(db)
        found = db.execute(f"SELECT {_columns(MetaRow)} FROM meta").fetchone()
        if found is not None:
            return MetaRow._make(found)
        if db.execute(
            "SELECT EXISTS (SELECT 1 FROM users) OR EXISTS (SELECT 1 FROM conversations)"
        ).fetchone()[0]:
            raise StoreCorrupt(f"the row of counters is gone: {schema.WAY_OUT}")
        self._write([(_PUT_META, [new])])
        return new

    def _configure(self, db: sqlite3.Connection) -> None:
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StoreFailed(
                f"{self.directory} is on a file system where SQLite cannot keep a write-ahead log"
            )
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("PRAGMA secure_delete = ON")  # what is recalled or expired does not stay in free pages
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute("PRAGMA mmap_size = 0")  # a disk error on a mapped page would kill the process
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES_KEPT}")
        if self._pages_max is not None:
            db.execute(f"PRAGMA max_page_count = {int(self._pages_max)}")

    def close(self) -> None:
        db, self._db = self._db, None
        try:
            if db is not None:
                db.close()
        finally:
            self._lock.release()

    def new_life(self, life: str) -> None:
        self._write([("UPDATE meta SET life = ?", [(life,)])])

    def problems(self, limit: int = 100) -> list[str]:
        """Read the whole file and say what is damaged, in SQLite's words; empty when it is sound. Takes
        seconds per gigabyte."""
        try:
            found = self._rows(f"PRAGMA integrity_check({int(limit)})")
        except StoreCorrupt as error:  # so damaged that the check itself stumbled
            return [str(error)]
        return [text for (text,) in found if text != "ok"]

    # -- writing ----------------------------------------------------------------------------------------

    def commit(self, batch: Batch) -> None:
        work: list[tuple[str, Sequence[Any]]] = [
            (_PUT_MESSAGE, batch.messages),
            (_PUT_MARK, batch.marks),
            (_RECALL, [(*recall[2:], *recall[:2]) for recall in batch.recalls]),
            (_PUT_APP, batch.apps),
            (_PUT_USER, batch.users),
            (_PUT_DEVICE, batch.devices),
            (_PUT_INSTALL, batch.installs),
            (_PUT_QUEUE, batch.queues),
            (_PUT_TOLD, batch.told),
            (_PUT_CONVERSATION, batch.conversations),
            (_PUT_MEMBER, batch.members),
            (_PUT_ASK, batch.asks),
            (_PUT_RECEIPT, batch.receipts),
            (_DROP_RECEIPTS, batch.expired_receipts),
            (_DROP_ASKS, batch.expired_receipts),
            (_DROP_RECEIPTS, batch.expired_messages),
            (_DROP_ASKS, batch.expired_messages),
            (_KEEP_NUMBERS, batch.expired_messages),
            (_DROP_MESSAGES, batch.expired_messages),
            (_PUT_META, (batch.meta,)),
        ]
        self._write(work)

    def _write(self, work: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Execute each statement for each of its rows, all in one durable transaction."""
        db = self._opened()
        try:
            db.execute("BEGIN IMMEDIATE")
            for sql, rows in work:
                if len(rows) >= BULK_ROWS:
                    rows = _insert_in_bulk(db, sql, rows)
                if rows:
                    db.executemany(sql, rows)
            db.execute("COMMIT")
        except BaseException as error:
            self._undo(db, error)
            if isinstance(error, sqlite3.IntegrityError):
                raise LocalProtocolError(f"two rows of one name: {error}") from error
            if not isinstance(error, sqlite3.DatabaseError) or isinstance(error, _UNFIT):
                raise  # a row that cannot be written, or an interrupt: undone
            refusal = self._refusal(error)
            if not isinstance(refusal, StoreFull):
                self._failed = refusal
            raise refusal from error

    def _undo(self, db: sqlite3.Connection, error: BaseException) -> None:
        try:
            if db.in_transaction:  # some errors have ended it already
                db.execute("ROLLBACK")
        except sqlite3.Error as second:
            self._failed = StoreFailed(
                f"{self.path}: a commit failed ({error}) and so did undoing it ({second})"
            )
            raise self._failed from error

    def _opened(self) -> sqlite3.Connection:
        if self._failed is not None:
            raise StoreFailed(f"{self.path}: not usable after a failure ({self._failed})")
        if self._db is None:
            raise LocalProtocolError("this store is not open")
        return self._db

    def _refusal(self, error: BaseException) -> ReceiptsError:
        """An error of SQLite or of the system in the words of the contract."""
        text = f"{self.path}: {error}"
        if isinstance(error, OSError):
            return StoreFull(text) if error.errno in _NO_ROOM else StoreFailed(text)
        code = getattr(error, "sqlite_errorcode", 0)
        if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return StoreCorrupt(f"{text}: {schema.WAY_OUT}")
        if code == sqlite3.SQLITE_FULL or (code in _WRITE_ERRORS and _is_full(self.directory)):
            return StoreFull(f"{text}: make room and try again")
        return StoreFailed(f"{text} ({getattr(error, 'sqlite_errorname', type(error).__name__)})")

    # -- asking -----------------------------------------------------------------------------------------

    def _stream(self, sql: str, *parameters: Any) -> Iterator[Any]:
        """Rows as they are read; other questions may be asked between two of them."""
        db = self._opened()
        try:
            yield from db.execute(sql, parameters)
        except sqlite3.DatabaseError as error:
            raise self._refusal(error) from error

    def _rows(self, sql: str, *parameters: Any) -> list[Any]:
        db = self._opened()
        try:
            return db.execute(sql, parameters).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._refusal(error) from error

    def _row(self, sql: str, *parameters: Any) -> Any:
        """The first row, or None."""
        db = self._opened()
        try:
            return db.execute(sql, parameters).fetchone()
        except sqlite3.DatabaseError as error:
            raise self._refusal(error) from error

    def apps(self) -> list[AppRow]:
        return [AppRow._make(row) for row in self._rows(f"SELECT {_APP} FROM apps ORDER BY app")]

    def user(self, app: AppId, user: UserId) -> UserRows | None:
        row = self._row(f"SELECT {_USER} FROM users WHERE app = ? AND user = ?", app, user)
        if row is None:
            return None
        sql = f"SELECT {_DEVICE} FROM devices WHERE app = ? AND user = ? ORDER BY device"
        return UserRows(_user(row), [_device(found) for found in self._rows(sql, app, user)])

    def users(self, app: AppId, after: UserId, limit: int) -> list[UserRow]:
        sql = f"SELECT {_USER} FROM users WHERE app = ? AND user > ? ORDER BY user LIMIT ?"
        return [_user(row) for row in self._rows(sql, app, after, limit)]

    def install(self, app: AppId, user: UserId, install: str) -> tuple[InstallRow, int] | None:
        row = self._row(_INSTALL, app, user, install)
        return None if row is None else (InstallRow._make(row[:-1]), row[-1])

    def queue(self, app: AppId, user: UserId, device: DeviceId) -> tuple[QueueRow | None, bool]:
        found = self._rows(f"SELECT {_QUEUE} FROM queues WHERE app = ? AND user = ?", app, user)
        rows = {row.device: row for row in map(QueueRow._make, found)}
        return rows.get(device), bool(rows.keys() - {device})

    def told(self, key: int, user: UserId, device: DeviceId) -> ToldRow | None:
        sql = f"SELECT {_TOLD} FROM told WHERE key = ? AND user = ? AND device = ?"
        row = self._row(sql, key, user, device)
        return None if row is None else ToldRow._make(row)

    def sent(self, install_key: int, number: int) -> Sent | None:
        row = self._row(_SENT, install_key, number)
        return None if row is None else Sent._make(row)

    def conversation(self, app: AppId, conversation: ConversationId) -> ConversationRows | None:
        sql = f"SELECT {_CONVERSATION} FROM conversations WHERE app = ? AND conversation = ?"
        found = self._row(sql, app, conversation)
        if found is None:
            return None
        row = ConversationRow._make(found)
        key = row.key
        head = self._head(key)
        recent = self._rows(
            f"SELECT {_HEAD} FROM messages WHERE key = ? ORDER BY seq DESC LIMIT ?", key, RECENT
        )
        return ConversationRows(
            row,
            max(head, row.expired_through),
            self._members(key, -1),
            self._marks(key, -1),
            self._heads(key, row.folded_through + 1, head + 1),
            [_message(message) for message in reversed(recent)],
            self._recalled(key),
            self._uncounted(key),
            self._asks(key, -1),
            self._receipts(key, -1),
        )

    def conversations_of(self, app: AppId, user: UserId) -> list[ConversationId]:
        sql = (
            "SELECT c.conversation FROM members m JOIN conversations c ON c.key = m.key "
            "WHERE m.app = ? AND m.user = ? ORDER BY m.key"
        )
        return [name for (name,) in self._rows(sql, app, user)]

    def all_conversations(self, after_key: int, limit: int) -> list[tuple[int, AppId, ConversationId]]:
        sql = "SELECT key, app, conversation FROM conversations WHERE key > ? ORDER BY key LIMIT ?"
        return self._rows(sql, after_key, limit)

    def groups(self, app: AppId, after: ConversationId) -> tuple[list[ConversationRow], ConversationId]:
        sql = (
            f"SELECT {_CONVERSATION} FROM conversations WHERE app = ? AND conversation > ? "
            "ORDER BY conversation LIMIT ?"
        )
        rows = [ConversationRow._make(row) for row in self._rows(sql, app, after, SCANNED_MAX)]
        return [row for row in rows if direct_members(row.conversation) is None], scanned_to(rows)

    def messages(self, key: int, seqs: Sequence[Seq]) -> list[MessageRow]:
        sql = f"SELECT {_HEAD} FROM messages WHERE key = ? AND seq = ?"
        found = (self._row(sql, key, seq) for seq in sorted(set(seqs)))
        return [_message(row) for row in found if row is not None]

    def seq_of(self, key: int, message_id: int) -> Seq:
        seq = self._last_below(key, "message_id", message_id + 1)
        row = self._row("SELECT message_id FROM messages WHERE key = ? AND seq = ?", key, seq)
        return seq if row is not None and row[0] == message_id else 0

    def authored(self, key: int, user: UserId, start: Seq, stop: Seq) -> Ranges:
        sql = "SELECT seq FROM messages WHERE key = ? AND seq >= ? AND seq < ? AND author = ? ORDER BY seq"
        return ranges_of(seq for (seq,) in self._rows(sql, key, start, stop, user))

    def head_at(self, key: int, tick: int) -> Seq:
        return self._last_below(key, "tick", tick + 1)

    def asked_between(self, key: int, start_ms: int) -> int:
        before = self._last_below(key, "at_ms", start_ms)
        sql = (
            "SELECT count(*) FROM asks a JOIN messages m ON m.key = a.key AND m.seq = a.seq "
            "WHERE a.key = ? AND a.seq > ?"
        )
        return int(self._row(sql, key, before)[0])

    def due_receipts(self, now_ms: int, limit: int) -> list[tuple[AppId, ConversationId, Seq]]:
        return self._rows(_DUE_RECEIPTS, now_ms, limit)

    def next_due_receipt(self, after_ms: int) -> int | None:
        found: int | None = self._row("SELECT min(expires_ms) FROM asks WHERE expires_ms > ?", after_ms)[0]
        return found

    def due_messages(self, app: AppId, before_ms: int, limit: int) -> list[tuple[AppId, ConversationId, Seq]]:
        # One look at the oldest message of each conversation: an index by time would cost every send.
        return [
            (app, conversation, self._last_below(key, "at_ms", before_ms))
            for key, conversation in self._rows(_DUE_MESSAGES, app, before_ms, limit)
        ]

    def history(self, key: int, ranges: Ranges, limit: int) -> list[MessageRow]:
        found: list[Any] = []
        for index in range(len(ranges) - 2, -1, -2):
            if len(found) >= limit:
                break
            found += self._rows(_HISTORY, key, ranges[index], ranges[index + 1], limit - len(found))
        return [_message(row) for row in reversed(found)]

    def statistics(self, app: AppId, user: UserId, since: int) -> list[tuple[ConversationId, Seq, int, int]]:
        return self._rows(_STATISTICS, app, user, since)

    def _last_below(self, key: int, column: str, bound: int) -> Seq:
        """The highest seq whose `column`, which rises with seq, is below `bound`; 0 for none.

        Steps of growing width down from the newest, since it is mostly near that, then halves.
        """
        sql = f"SELECT seq, {column} FROM messages WHERE key = ? AND seq <= ? ORDER BY seq DESC LIMIT 1"
        found = below = 0  # nothing from `below` up to `above` is known yet, both exclusive
        above = self._head(key) + 1
        step = 1
        while above - below > 1:
            probe = (below + above) // 2 if below else max(above - step, 1)
            row = self._row(sql, key, probe)
            if row is None:
                below = probe
            elif row[1] < bound:
                found, below = row[0], probe
            else:
                above = row[0]
                step *= 2
        return found

    # -- what pages are made of -------------------------------------------------------------------------

    def _tick(self) -> int:
        return int(self._row("SELECT tick FROM meta")[0])

    def _touched(self, app: AppId, user: UserId, since: int, from_key: int) -> Iterator[int]:
        db = self._opened()
        names = {"app": app, "user": user, "since": since, "from_key": from_key}
        try:
            for (key,) in db.execute(_TOUCHED, names):
                yield key
        except sqlite3.DatabaseError as error:
            raise self._refusal(error) from error

    def _latest(self, app: AppId, user: UserId) -> list[tuple[int, int]]:
        return self._rows(_LATEST, app, user)

    def _conversation(self, key: int) -> ConversationRow:
        sql = f"SELECT {_CONVERSATION} FROM conversations WHERE key = ?"
        return ConversationRow._make(self._row(sql, key))

    def _head(self, key: int) -> Seq:
        found: Seq | None = self._row("SELECT max(seq) FROM messages WHERE key = ?", key)[0]
        return found or 0

    def _member(self, key: int, user: UserId) -> MemberRow:
        sql = f"SELECT {_MEMBER} FROM members WHERE key = ? AND user = ?"
        return MemberRow._make(self._row(sql, key, user))

    def _members(self, key: int, since: int) -> list[MemberRow]:
        sql = f"SELECT {_MEMBER} FROM members WHERE key = ? AND tick > ? ORDER BY user"
        return [MemberRow._make(row) for row in self._rows(sql, key, since)]

    def _mark(self, key: int, user: UserId) -> MarkRow | None:
        row = self._row(f"SELECT {_MARK} FROM marks WHERE key = ? AND user = ?", key, user)
        return None if row is None else MarkRow._make(row)

    def _marks(self, key: int, since: int) -> list[MarkRow]:
        sql = f"SELECT {_MARK} FROM marks WHERE key = ? AND tick > ? ORDER BY user"
        return [MarkRow._make(row) for row in self._rows(sql, key, since)]

    def _told(self, key: int, user: UserId) -> list[ToldRow]:
        sql = f"SELECT {_TOLD} FROM told WHERE key = ? AND user = ? ORDER BY device"
        return [ToldRow._make(row) for row in self._rows(sql, key, user)]

    def _bodies(self, key: int, start: Seq, stop: Seq) -> Iterator[MessageRow]:
        sql = f"SELECT {_MESSAGE} FROM messages WHERE key = ? AND seq >= ? AND seq < ? ORDER BY seq"
        return map(_message, self._stream(sql, key, start, stop))

    def _heads(self, key: int, start: Seq, stop: Seq, author: UserId | None = None) -> list[MessageRow]:
        sql = f"SELECT {_HEAD} FROM messages WHERE key = ? AND seq >= ? AND seq < ?"
        if author is None:
            rows = self._rows(f"{sql} ORDER BY seq", key, start, stop)
        else:
            rows = self._rows(f"{sql} AND author = ? ORDER BY seq", key, start, stop, author)
        return [_message(row) for row in rows]

    def _last(self, key: int) -> MessageRow | None:
        sql = f"SELECT {_MESSAGE} FROM messages WHERE key = ? AND recalled_tick = 0 ORDER BY seq DESC LIMIT 1"
        row = self._row(sql, key)
        return None if row is None else _message(row)

    def _last_of(self, key: int, author: UserId) -> Seq:
        sql = (
            "SELECT seq FROM messages WHERE key = ? AND author = ? AND recalled_tick = 0 "
            "ORDER BY seq DESC LIMIT 1"
        )
        row = self._row(sql, key, author)
        return 0 if row is None else int(row[0])

    def _recalled(self, key: int, since: int = 0) -> Ranges:
        # The first condition is what lets SQLite use the partial index.
        sql = (
            "SELECT seq FROM messages WHERE recalled_tick > 0 AND key = ? AND recalled_tick > ? ORDER BY seq"
        )
        return ranges_of(seq for (seq,) in self._rows(sql, key, since))

    def _uncounted(self, key: int) -> Ranges:
        sql = "SELECT seq FROM messages WHERE counts != 0 AND key = ? ORDER BY seq"
        return ranges_of(seq for (seq,) in self._rows(sql, key))

    def _asks(self, key: int, since: int) -> list[AskRow]:
        sql = f"SELECT {_ASK} FROM asks WHERE key = ? AND tick > ? ORDER BY seq"
        return [AskRow._make(row) for row in self._rows(sql, key, since)]

    def _receipts(self, key: int, since: int) -> list[GroupReceiptRow]:
        return [GroupReceiptRow._make(row) for row in self._rows(_RECEIPTS, key, since)]


_UNFIT = (sqlite3.ProgrammingError, sqlite3.DataError)
"""A value that no column can take: the caller's mistake, found before anything was written."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_WRITE_ERRORS = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
"""What SQLite makes of a user's quota, or of no room under its shared memory: not always the disk's fault."""


def _is_full(directory: Path) -> bool:
    """Whether a file cannot grow there for want of room; SQLite does not hand on the system's reason."""
    path = directory / f"{DATABASE_NAME}-room"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, bytes(1 << 16))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            path.unlink()
    except OSError as error:
        return error.errno in _NO_ROOM
    return False


def _make_directory(directory: Path) -> None:
    if directory.is_dir():
        return
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # SQLite syncs the directory that its files are in, not the one that this directory is in.
    parent = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


# SQLite has no booleans: those rows that have some are made here.


def _message(row: Any) -> MessageRow:
    return MessageRow._make((*row[:8], bool(row[8]), *row[9:]))


def _user(row: Any) -> UserRow:
    return UserRow._make((*row[:4], bool(row[4]), bool(row[5]), row[6], row[7], bool(row[8])))


def _device(row: Any) -> DeviceRow:
    return DeviceRow._make((*row[:6], bool(row[6])))
