"""The replica and the outbox of one device in a file, so that they outlive the process.

One SQLite file, one transaction for everything that came of a batch of frames: state, messages, marks, sends
and resume token change together or not at all, so a process that is killed at any moment comes back to a
moment that was. What is saved is the protocol's own frames (`receipts.wire.codec`), one row each.

All methods block: `connection` calls them in a worker thread, one at a time. What costs time on the event
loop is only making the rows (`rows_of`).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgpack

from receipts.core.errors import DecodeError, LocalProtocolError, ReceiptsError
from receipts.core.events import MessageAccepted
from receipts.core.ids import ConversationId, DeviceId, Seq, UserId
from receipts.wire.codec import decode_command, decode_update, encode_command, encode_update
from receipts.wire.commands import AckDelivered, ReadConversation, ReadMessages, SendMessage
from receipts.wire.updates import ConversationPart

from .outbox import Mark
from .session import Changes

__all__ = ["Disk", "DiskFailed", "Rows", "Saved", "rows_of"]

_APPLICATION_ID = 0x52435054  # "RCPT"
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE conversation (
    id TEXT NOT NULL, place INTEGER NOT NULL, part BLOB NOT NULL, PRIMARY KEY (id, place)
) WITHOUT ROWID;
CREATE TABLE message (
    conversation TEXT NOT NULL, seq INTEGER NOT NULL, frame BLOB NOT NULL, PRIMARY KEY (conversation, seq)
) WITHOUT ROWID;
CREATE TABLE send (number INTEGER PRIMARY KEY, frame BLOB NOT NULL);
CREATE TABLE mark (conversation TEXT PRIMARY KEY, frames BLOB NOT NULL) WITHOUT ROWID;
"""

_T = TypeVar("_T")


class DiskFailed(ReceiptsError):
    """The file cannot be used; the message names the way out."""


class Saved(NamedTuple):
    """What a file held."""

    install: str
    token: str | None
    number: int
    parts: list[ConversationPart]
    messages: list[MessageAccepted]
    sends: list[SendMessage]
    marks: list[Mark]


class Rows(NamedTuple):
    """`Changes`, ready to be written."""

    token: str | None
    number: int
    replaced: bool
    parts: list[tuple[ConversationId, int, bytes | str]]
    changed: list[tuple[ConversationId]]
    messages: list[tuple[ConversationId, Seq, bytes | str]]
    removed: list[tuple[ConversationId, Seq]]
    sends: list[tuple[int, bytes | str]]
    settled: list[tuple[int]]
    marks: list[tuple[ConversationId, bytes]]
    unmarked: list[tuple[ConversationId]]


def rows_of(changes: Changes) -> Rows:
    """Make rows of what has to be saved."""
    return Rows(
        changes.token,
        changes.number,
        changes.replaced,
        [
            (name, place, encode_update(part, 0))
            for name, parts in changes.parts.items()
            for place, part in enumerate(parts)
        ],
        [(name,) for name in changes.parts],
        [(m.conversation, m.seq, encode_update(m, 0)) for m in changes.messages],
        changes.removed,
        [(send.number, encode_command(send)) for send in changes.sends if not isinstance(send, int)],
        [(number,) for number in changes.sends if isinstance(number, int)],
        [
            (name, msgpack.packb([encode_command(mark) for mark in marks]))
            for name, marks in changes.marks.items()
            if marks
        ],
        [(name,) for name, marks in changes.marks.items() if not marks],
    )


class Disk:
    """The file of one device.

    Args:
        path: The file; its directory must be there.
        messages_max: Messages kept per conversation, the newest.
    """

    def __init__(self, path: Path, *, messages_max: int) -> None:
        self.path = path
        self._messages_max = messages_max
        self._db: sqlite3.Connection | None = None

    def open(self, *, user: UserId, device: DeviceId, app: str, install: str) -> Saved:
        """Open the file, making it if it is not there, and read all of it.

        Args:
            user, device, app: Whose file it is; another one's is refused.
            install: For a file that is new; numbers of sends count under it.

        Raises:
            DiskFailed: It is not a file of ours, damaged, newer than this program, or in use.
            LocalProtocolError: It belongs to another user, device or app.
        """
        with self._failing():
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            db = self._db = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=0
            )
            try:
                return self._open(db, [user, device, app], install)
            except BaseException:
                self.close()
                raise

    def _open(self, db: sqlite3.Connection, owner: list[str], install: str) -> Saved:
        # An exclusive lock for as long as it is open: two processes would give one number to two sends.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        (found,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        fresh = found == 0 and not tables
        if not fresh and found != _APPLICATION_ID:
            raise DiskFailed(f"{self.path} is not the file of a receipts client; choose another path")
        if not fresh and version != _SCHEMA_VERSION:
            raise DiskFailed(f"{self.path} was written by a newer version of receipts; use that one")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")
        if fresh:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            about = {"owner": "\n".join(owner), "install": install, "token": None, "number": 0}
            db.executemany("INSERT INTO about VALUES (?, ?)", about.items())
        db.execute("COMMIT")
        return self._read(db, owner)

    def _read(self, db: sqlite3.Connection, owner: list[str]) -> Saved:
        about = dict(db.execute("SELECT name, value FROM about"))
        if about["owner"] != "\n".join(owner):
            whose = ", ".join(about["owner"].split("\n"))
            raise LocalProtocolError(f"{self.path} belongs to another device ({whose}); choose another path")
        self._trim(db)
        parts = [_update(frame, ConversationPart) for (frame,) in db.execute("SELECT part FROM conversation")]
        messages = [
            _update(frame, MessageAccepted)
            for (frame,) in db.execute("SELECT frame FROM message ORDER BY conversation, seq")
        ]
        sends = [decode_command(frame) for (frame,) in db.execute("SELECT frame FROM send ORDER BY number")]
        marks = [
            decode_command(frame)
            for (frames,) in db.execute("SELECT frames FROM mark")
            for frame in msgpack.unpackb(frames)
        ]
        return Saved(
            about["install"],
            about["token"],
            about["number"],
            parts,
            messages,
            [send for send in sends if isinstance(send, SendMessage)],
            [mark for mark in marks if isinstance(mark, (AckDelivered, ReadConversation, ReadMessages))],
        )

    def _trim(self, db: sqlite3.Connection) -> None:
        """Drop messages beyond what a replica keeps: once at each start is often enough."""
        crowded = db.execute(
            "SELECT conversation FROM message GROUP BY conversation HAVING count(*) > ?",
            (self._messages_max,),
        ).fetchall()
        for (conversation,) in crowded:
            db.execute(
                "DELETE FROM message WHERE conversation = ? AND seq < (SELECT seq FROM message"
                " WHERE conversation = ? ORDER BY seq DESC LIMIT 1 OFFSET ?)",
                (conversation, conversation, self._messages_max - 1),
            )

    def commit(self, rows: Rows) -> None:
        """Write all of it or nothing; on return it is on disk.

        Raises:
            DiskFailed: Nothing was written.
        """
        db = self._db
        if db is None:
            raise DiskFailed(f"{self.path} is closed")
        with self._failing():
            db.execute("BEGIN IMMEDIATE")
            try:
                self._write(db, rows)
                db.execute("COMMIT")
            except BaseException:
                db.rollback()  # nothing to do where SQLite has done it itself
                raise

    def _write(self, db: sqlite3.Connection, rows: Rows) -> None:
        if rows.replaced:
            db.execute("DELETE FROM conversation")
            db.execute("DELETE FROM message")
        db.executemany("DELETE FROM conversation WHERE id = ?", rows.changed)
        db.executemany("INSERT INTO conversation VALUES (?, ?, ?)", rows.parts)
        db.executemany("REPLACE INTO message VALUES (?, ?, ?)", rows.messages)
        db.executemany("DELETE FROM message WHERE conversation = ? AND seq = ?", rows.removed)
        db.executemany("REPLACE INTO send VALUES (?, ?)", rows.sends)
        db.executemany("DELETE FROM send WHERE number = ?", rows.settled)
        db.executemany("REPLACE INTO mark VALUES (?, ?)", rows.marks)
        db.executemany("DELETE FROM mark WHERE conversation = ?", rows.unmarked)
        db.execute("UPDATE about SET value = ? WHERE name = 'token'", (rows.token,))
        db.execute("UPDATE about SET value = ? WHERE name = 'number'", (rows.number,))

    def close(self) -> None:
        """Let go of the file; idempotent. Nothing that was committed is lost."""
        if self._db is not None:
            self._db.close()
            self._db = None

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise DiskFailed(f"{self.path} is in use by another process") from error
            raise DiskFailed(f"{self.path}: {error}; free some space or check the disk") from error
        except (sqlite3.DatabaseError, DecodeError, msgpack.UnpackException, ValueError, OSError) as error:
            raise DiskFailed(f"{self.path}: {error}; move it away to start afresh") from error


def _update(frame: bytes | str, kind: type[_T]) -> _T:
    decoded = decode_update(frame)
    if decoded is None or not isinstance(decoded[1], kind):
        raise DiskFailed(f"a row is not a {kind.__name__}; move the file away to start afresh")
    return decoded[1]
