"""The tables of the SQLite store, and how they came to be what they are.

What lives here: every migration that there ever was, in order, and the check that a file is one of ours. What
does not: queries (see `sqlite`). A migration that has been released is never edited; a change is one more.

Columns are those of the rows in `base`; their order is free because every statement names them. Bodies stand
last in their table, so that reading a message without its body does not walk through it.
"""

from __future__ import annotations

import sqlite3
from importlib import metadata
from typing import TypeAlias

from .base import StoreCorrupt

__all__ = [
    "APPLICATION_ID",
    "HEADER_BYTES",
    "LATEST",
    "MIGRATIONS",
    "QUICK_CHECK_PAGES_MAX",
    "WAY_OUT",
    "Migration",
    "check",
    "identify",
    "migrate",
]

APPLICATION_ID = 0x52435054
"""'RCPT', in the header of the file: what `file` and we tell our databases by."""

HEADER_BYTES = 100
"""Every SQLite file that is not empty has at least its header."""

Migration: TypeAlias = tuple[str, ...]
"""Statements that take the schema from the version before to the next one, in one transaction."""

_FIRST: Migration = (
    """CREATE TABLE migrations (
        version INTEGER PRIMARY KEY,
        program TEXT NOT NULL
    )""",
    """CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        life TEXT NOT NULL,
        tick INTEGER NOT NULL,
        version INTEGER NOT NULL,
        message_id INTEGER NOT NULL,
        key INTEGER NOT NULL,
        node_time_ms INTEGER NOT NULL,
        secret BLOB NOT NULL
    )""",
    """CREATE TABLE apps (
        app TEXT NOT NULL PRIMARY KEY,
        settings TEXT NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE users (
        app TEXT NOT NULL,
        user TEXT NOT NULL,
        password_hash TEXT NOT NULL,
        token_epoch INTEGER NOT NULL,
        share_delivered INTEGER NOT NULL,
        share_read INTEGER NOT NULL,
        statistics_tick INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        removed INTEGER NOT NULL,
        PRIMARY KEY (app, user)
    ) WITHOUT ROWID""",
    """CREATE TABLE devices (
        app TEXT NOT NULL,
        user TEXT NOT NULL,
        device TEXT NOT NULL,
        since_tick INTEGER NOT NULL,
        seen_ms INTEGER NOT NULL,
        client TEXT NOT NULL,
        removed INTEGER NOT NULL,
        PRIMARY KEY (app, user, device)
    ) WITHOUT ROWID""",
    # number_floor: the highest number among messages that have expired, so that it is not forgotten.
    """CREATE TABLE installs (
        key INTEGER PRIMARY KEY,
        app TEXT NOT NULL,
        user TEXT NOT NULL,
        install TEXT NOT NULL,
        number_floor INTEGER NOT NULL DEFAULT 0,
        UNIQUE (app, user, install)
    )""",
    """CREATE TABLE conversations (
        key INTEGER PRIMARY KEY,
        app TEXT NOT NULL,
        conversation TEXT NOT NULL,
        tick INTEGER NOT NULL,
        folded_through INTEGER NOT NULL,
        expired_through INTEGER NOT NULL,
        receipts_expired_through INTEGER NOT NULL,
        registers BLOB NOT NULL,
        UNIQUE (app, conversation)
    )""",
    """CREATE TABLE members (
        key INTEGER NOT NULL,
        user TEXT NOT NULL,
        app TEXT NOT NULL,
        tick INTEGER NOT NULL,
        state BLOB NOT NULL,
        PRIMARY KEY (key, user)
    ) WITHOUT ROWID""",
    "CREATE INDEX members_by_user ON members (app, user)",
    # No index but the key: this table is written four times a message.
    """CREATE TABLE marks (
        key INTEGER NOT NULL,
        user TEXT NOT NULL,
        tick INTEGER NOT NULL,
        marks BLOB NOT NULL,
        advances BLOB NOT NULL,
        PRIMARY KEY (key, user)
    ) WITHOUT ROWID""",
    # The body has no type, so that text stays text and bytes stay bytes.
    """CREATE TABLE messages (
        key INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        message_id INTEGER NOT NULL,
        tick INTEGER NOT NULL,
        author TEXT NOT NULL,
        device TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        counts INTEGER NOT NULL,
        asks INTEGER NOT NULL,
        shares INTEGER NOT NULL,
        install_key INTEGER NOT NULL,
        number INTEGER NOT NULL,
        recalled_tick INTEGER NOT NULL,
        recalled_by TEXT NOT NULL,
        recalled_ms INTEGER NOT NULL,
        body NOT NULL,
        PRIMARY KEY (key, seq)
    ) WITHOUT ROWID""",
    """CREATE UNIQUE INDEX messages_by_number ON messages (install_key, number)
        WHERE install_key != 0""",
    "CREATE INDEX messages_recalled ON messages (key, recalled_tick) WHERE recalled_tick > 0",
    "CREATE INDEX messages_uncounted ON messages (key, seq) WHERE counts != 0",
    """CREATE TABLE asks (
        key INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        app TEXT NOT NULL,
        author TEXT NOT NULL,
        expires_ms INTEGER NOT NULL,
        tick INTEGER NOT NULL,
        PRIMARY KEY (key, seq)
    ) WITHOUT ROWID""",
    "CREATE INDEX asks_by_author ON asks (app, author, tick)",
    "CREATE INDEX asks_by_expiry ON asks (expires_ms)",
    """CREATE TABLE receipts (
        key INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        reader TEXT NOT NULL,
        version INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        content TEXT NOT NULL,
        tick INTEGER NOT NULL,
        PRIMARY KEY (key, seq, reader)
    ) WITHOUT ROWID""",
)

_QUEUES: Migration = (
    """CREATE TABLE queues (
        app TEXT NOT NULL,
        user TEXT NOT NULL,
        device TEXT NOT NULL,
        position TEXT NOT NULL,
        start INTEGER NOT NULL,
        login_ms INTEGER NOT NULL,
        PRIMARY KEY (app, user, device)
    ) WITHOUT ROWID""",
    """CREATE TABLE told (
        key INTEGER NOT NULL,
        user TEXT NOT NULL,
        device TEXT NOT NULL,
        told BLOB NOT NULL,
        PRIMARY KEY (key, user, device)
    ) WITHOUT ROWID""",
)

MIGRATIONS: tuple[Migration, ...] = (_FIRST, _QUEUES)
"""MIGRATIONS[n] leads from version n to n + 1; version 0 is an empty file."""

LATEST = len(MIGRATIONS)

_PROBES = {
    "meta": "id",
    "apps": "app",
    "users": "app, user",
    "devices": "app, user, device",
    "installs": "key",
    "conversations": "key",
    "members": "key, user",
    "marks": "key, user",
    "messages": "key, seq",
    "asks": "key, seq",
    "receipts": "key, seq, reader",
    "queues": "app, user, device",
    "told": "key, user, device",
}
"""Each table with its key, by which its first and last page are found."""

QUICK_CHECK_PAGES_MAX = 2048
"""Files up to 8 MiB are checked as a whole (some 20 ms); larger ones would make a start wait for it."""

WAY_OUT = (
    "restore the directory from a backup, look at the damage with `receipts verify`, or move the directory "
    "away to begin anew"
)
"""What an operator can do about damage; ends every message about it."""


def identify(db: sqlite3.Connection) -> int:
    """Read, changing nothing, which schema version the file has: 0 for one that is new.

    Raises:
        StoreCorrupt: It belongs to another program, or to a newer version of this one.
        sqlite3.Error: It cannot be read as a database.
    """
    application = _number(db, "PRAGMA application_id")
    version = _number(db, "PRAGMA user_version")
    if application != APPLICATION_ID:
        if application == version == _number(db, "SELECT count(*) FROM sqlite_master") == 0:
            return 0
        raise StoreCorrupt(
            f"this is a database of another program (application id {application:#x}): "
            "use another directory, or move the file away"
        )
    if version > LATEST:
        raise StoreCorrupt(
            f"this data has schema version {version}, this program knows versions up to {LATEST}: "
            f"{_needed(db)}, or restore a backup from before the upgrade"
        )
    if version < 1:
        raise StoreCorrupt(f"this data has the impossible schema version {version}: {WAY_OUT}")
    return version


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Bring the schema from `version` to `LATEST`, each step in a transaction of its own."""
    for target, statements in enumerate(MIGRATIONS[version:], version + 1):
        db.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                db.execute(statement)
            db.execute("INSERT INTO migrations (version, program) VALUES (?, ?)", (target, _program()))
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {target}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def check(db: sqlite3.Connection) -> None:
    """Look for damage as far as that is quick: the whole of a small file; of a large one the schema, the
    row of counters, and the first and last page of each table.

    Raises:
        StoreCorrupt: There is damage.
        sqlite3.Error: There is damage that SQLite itself stumbled over.
    """
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    missing = sorted(_PROBES.keys() - tables)
    if missing:
        raise StoreCorrupt(f"the tables {', '.join(missing)} are gone: {WAY_OUT}")
    if _number(db, "PRAGMA page_count") <= QUICK_CHECK_PAGES_MAX:
        problems = [text for (text,) in db.execute("PRAGMA quick_check(3)")]
        if problems != ["ok"]:
            raise StoreCorrupt(f"the database is damaged ({'; '.join(problems)}): {WAY_OUT}")
    for table, key in _PROBES.items():
        last = ", ".join(f"{column} DESC" for column in key.split(", "))
        db.execute(f"SELECT * FROM {table} ORDER BY {key} LIMIT 1").fetchall()
        db.execute(f"SELECT * FROM {table} ORDER BY {last} LIMIT 1").fetchall()


def _number(db: sqlite3.Connection, sql: str) -> int:
    return int(db.execute(sql).fetchone()[0])


def _program() -> str:
    """The version of this program, for the record."""
    try:
        return metadata.version("message-receipts")
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return ""


def _needed(db: sqlite3.Connection) -> str:
    """What to run instead, as far as the newer program left word of itself."""
    try:
        row = db.execute("SELECT program FROM migrations ORDER BY version DESC LIMIT 1").fetchone()
    except sqlite3.Error:  # how a newer version keeps its record is its own affair
        row = None
    if row and row[0]:
        return f"use message-receipts {row[0]} or newer"
    return "use the newer message-receipts that wrote it"
