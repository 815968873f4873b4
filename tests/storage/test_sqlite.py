"""What is particular to the durable store: its files, their damage, its limits, its past."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from receipts.core.errors import LocalProtocolError
from receipts.storage import schema
from receipts.storage.base import Store, StoreCorrupt, StoreFailed, StoreFull
from receipts.storage.sqlite import DATABASE_NAME, LOCK_NAME, SQLiteStore
from tests.storage.writer import APP, START_MS, Writer, every_answer, open_store


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a store may be; it does not exist yet."""
    return tmp_path / "deep" / "data"


@pytest.fixture
def store(directory: Path) -> Iterator[SQLiteStore]:
    """An open, empty store in `directory`."""
    made = SQLiteStore(directory)
    open_store(made)
    yield made
    made.close()


def pragma(store: SQLiteStore, name: str) -> object:
    """As the store's own connection has it: some are not in the file."""
    assert store._db is not None
    return store._db.execute(f"PRAGMA {name}").fetchone()[0]


def fill(directory: Path, messages: int = 300) -> Writer:
    """A closed store with something in every table; returns its writer."""
    store = SQLiteStore(directory)
    open_store(store)
    writer = Writer(store)
    writer.configure(APP, "{}")
    writer.user("a")
    writer.device("a", "phone")
    install = writer.install("a", "i").key
    writer.conversation("a~b", "a", "b")
    ask = writer.ask("a~b", "a")
    writer.answer(ask, "b", "ok")
    for _ in range(messages):
        writer.send("a~b", "a", "x" * 100, install=install)
    writer.send("a~b", "a", "the last words", install=install)
    writer.mark("a~b", "b", (1, 2))
    writer.commit()
    store.close()
    return writer


# -- the file -------------------------------------------------------------------------------------------


def test_durability_settings(store: SQLiteStore) -> None:
    """The open file keeps a write-ahead log and syncs it with every commit."""
    assert pragma(store, "journal_mode") == "wal"
    assert pragma(store, "synchronous") == 2
    assert pragma(store, "mmap_size") == 0
    assert pragma(store, "secure_delete") == 1
    assert pragma(store, "foreign_keys") == 0


def test_file_says_whose_it_is(directory: Path) -> None:
    """The header has our application id and the schema's version."""
    fill(directory, 1)
    header = (directory / DATABASE_NAME).read_bytes()[:100]
    assert int.from_bytes(header[68:72], "big") == schema.APPLICATION_ID
    assert int.from_bytes(header[60:64], "big") == schema.LATEST
    assert header[18:20] == b"\x02\x02"  # the file format of a write-ahead log


def test_files_are_for_their_owner(directory: Path, store: SQLiteStore) -> None:
    """Nobody else can list the directory or read a file in it."""
    Writer(store).commit()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert files.keys() >= {DATABASE_NAME, f"{DATABASE_NAME}-wal", LOCK_NAME}
    assert set(files.values()) == {0o600}


def test_recalled_text_leaves_the_file(directory: Path) -> None:
    """Once closed, the file does not hold the words of a message that was recalled or has expired."""
    store = SQLiteStore(directory)
    open_store(store)
    writer = Writer(store)
    key = writer.conversation("a~b", "a", "b")
    for body in ("SECRET-ONE", "SECRET-TWO" * 2000, "SECRET-THREE", "kept words"):
        writer.send("a~b", "a", body)
    writer.commit()
    for seq in (2, 3):
        writer.recall("a~b", seq, "a")
    writer.batch.expired_messages.append((key, 1))
    writer.commit()
    store.close()
    assert [path.name for path in directory.iterdir() if path.name.endswith("-wal")] == []
    content = store.path.read_bytes()
    assert b"SECRET" not in content
    assert b"kept words" in content


def test_store_may_be_used_from_several_threads_in_turn(store: SQLiteStore) -> None:
    """One thread at a time, not always the same one."""
    from concurrent.futures import ThreadPoolExecutor

    writer = Writer(store)
    for n in range(3):
        writer.user(f"u{n}")
        with ThreadPoolExecutor(1) as thread:
            thread.submit(writer.commit).result()
    assert len(store.users(APP, "", 10)) == 3


def test_problems_of_a_sound_file(directory: Path) -> None:
    """A full check of a sound file finds nothing."""
    fill(directory)
    store = SQLiteStore(directory)
    open_store(store)
    assert store.problems() == []
    store.close()


# -- no room --------------------------------------------------------------------------------------------


def test_full_store_undoes_the_commit_and_goes_on(directory: Path) -> None:
    """At its quota a commit is refused and leaves no trace; reading and smaller commits go on."""
    store = SQLiteStore(directory, pages_max=60)
    open_store(store)
    writer = Writer(store)
    key = writer.conversation("a~b", "a", "b")
    writer.send("a~b", "a", "first")
    writer.commit()
    before = dict(every_answer(store, writer))
    writer.send("a~b", "a", "x" * 300_000)
    writer.mark("a~b", "a", (1, 3))
    writer.user("c")
    for _ in range(3):
        with pytest.raises(StoreFull, match="make room"):
            store.commit(writer.batch)
        writer.heads["a~b"] = 1
        assert dict(every_answer(store, writer)) == before
    writer.batch.messages.clear()
    writer.send("a~b", "a", "small")
    writer.commit()
    assert store.head_at(key, 100) == 2
    store.close()
    open_store(store)
    assert [row.body for row in store.history(key, (1, 9), 9)] == ["first", "small"]
    store.close()


def test_deleting_makes_room(directory: Path) -> None:
    """A store that is full takes messages again when old ones expire."""
    store = SQLiteStore(directory, pages_max=60)
    open_store(store)
    writer = Writer(store)
    key = writer.conversation("a~b", "a", "b")
    writer.commit()
    kept = 0
    try:
        while kept < 100:
            writer.send("a~b", "a", "x" * 4000)
            writer.commit()
            kept += 1
    except StoreFull:
        pass
    assert 10 < kept < 100
    writer.batch.messages.clear()
    writer.batch.expired_messages.append((key, kept - 5))
    writer.commit()
    writer.heads["a~b"] = kept
    for _ in range(5):
        writer.send("a~b", "a", "x" * 4000)
        writer.commit()
    assert store.head_at(key, 1000) == kept + 5
    store.close()


def test_quota_too_small_for_the_schema(directory: Path) -> None:
    """A quota that the empty tables do not fit in is refused at once; without it the store opens."""
    with pytest.raises(StoreFull):
        open_store(SQLiteStore(directory, pages_max=2))
    store = SQLiteStore(directory)
    assert open_store(store).tick == 0
    store.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_full_disk_is_told_from_a_failing_one(directory: Path, store: SQLiteStore) -> None:
    """Where SQLite only says that a write failed, the store looks itself whether there is room."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    error.sqlite_errorname = "SQLITE_IOERR_WRITE"
    assert type(store._refusal(error)) is StoreFailed
    assert not (directory / f"{DATABASE_NAME}-room").exists()
    os.symlink("/dev/full", directory / f"{DATABASE_NAME}-room")
    assert type(store._refusal(error)) is StoreFull


# -- failures -------------------------------------------------------------------------------------------


def test_failed_store_refuses_everything_but_close(directory: Path, store: SQLiteStore) -> None:
    """After a write that failed for good nothing is answered from what may not be there."""
    writer = Writer(store)
    writer.conversation("a~b", "a", "b")
    writer.commit()
    assert store._db is not None
    store._db.execute("PRAGMA query_only = ON")  # a disk that has become read-only
    writer.user("a")
    with pytest.raises(StoreFailed, match="SQLITE_READONLY"):
        writer.commit()
    with pytest.raises(StoreFailed, match="not usable"):
        store.conversation(APP, "a~b")
    with pytest.raises(StoreFailed, match="not usable"):
        writer.commit()
    store.close()
    store.close()
    assert open_store(store).tick == 1
    assert store.user(APP, "a") is None


def test_row_that_cannot_be_written_is_undone(store: SQLiteStore) -> None:
    """A value that SQLite has no type for is the caller's error; the store is as before and goes on."""
    writer = Writer(store)
    writer.user("a")
    writer.user("b", created_ms=2**70)
    with pytest.raises(OverflowError):
        writer.commit()
    assert store.users(APP, "", 9) == []
    writer.batch.users.pop()
    writer.commit()
    assert [row.user for row in store.users(APP, "", 9)] == ["a"]


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """A path that leads through a file is refused with the path in the message."""
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(StoreFailed, match="data"):
        open_store(SQLiteStore(tmp_path / "file" / "data"))


# -- damage ---------------------------------------------------------------------------------------------


def truncate_to(size: int) -> Callable[[Path], None]:
    """Cut the file."""
    return lambda path: os.truncate(path, size)


def flip(offset: int, count: int) -> Callable[[Path], None]:
    """Turn bits over."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        for index in range(offset, offset + count):
            content[index] ^= 0xFF
        path.write_bytes(content)

    return damage


DAMAGES = {
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 64),
    "text": lambda path: path.write_text("this is not a database\n" * 100),
    "one byte": lambda path: path.write_bytes(b"x"),
    "magic": flip(0, 16),
    "page size": flip(16, 2),
    "schema": flip(100, 300),
    "half": truncate_to(32 * 1024),
    "one page": truncate_to(4096),
    "odd end": truncate_to(20_000),
    "middle": flip(40_000, 2000),
    "zeros": lambda path: path.write_bytes(path.read_bytes()[:4096] + bytes(60_000)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_found_on_opening(directory: Path, damage: Callable[[Path], None]) -> None:
    """A damaged file is refused before anybody is served from it; the message names it and the ways out, and
    the file is left as it was."""
    fill(directory)
    path = directory / DATABASE_NAME
    assert path.stat().st_size > 64 * 1024
    damage(path)
    content = path.read_bytes()
    store = SQLiteStore(directory)
    with pytest.raises(StoreCorrupt) as caught:
        open_store(store)
    for word in (str(path), "backup", "receipts verify", "move the directory away"):
        assert word in str(caught.value)
    assert path.read_bytes() == content
    with pytest.raises(StoreCorrupt):  # and not StoreLocked: it let go
        open_store(SQLiteStore(directory))


def test_empty_file_is_a_new_store(directory: Path) -> None:
    """A file of no length, as a crash in the very first moment leaves it, is where a store begins."""
    directory.mkdir(parents=True)
    (directory / DATABASE_NAME).touch()
    store = SQLiteStore(directory)
    assert open_store(store).tick == 0
    store.close()


def page_with(path: Path, words: bytes, after: int = 0) -> int:
    """Where the page begins that holds these words, the first one after an offset."""
    return path.read_bytes().index(words, after) // 4096 * 4096


@pytest.mark.parametrize("words", [b"please answer", b"the last words"])
def test_large_file_is_looked_at_where_it_is_quick(
    directory: Path, monkeypatch: pytest.MonkeyPatch, words: bytes
) -> None:
    """In a file too large to be read through, damage at either end of a table is found nevertheless."""
    fill(directory)
    path = directory / DATABASE_NAME
    flip(page_with(path, words), 12)(path)
    monkeypatch.setattr(schema, "QUICK_CHECK_PAGES_MAX", 0)
    with pytest.raises(StoreCorrupt, match="receipts verify"):
        open_store(SQLiteStore(directory))


def test_small_file_is_read_through(directory: Path) -> None:
    """In a file that is small enough, damage in the middle of a table is found on opening."""
    fill(directory, 2000)
    path = directory / DATABASE_NAME
    flip(page_with(path, b"x" * 100, path.stat().st_size // 2), 12)(path)
    with pytest.raises(StoreCorrupt, match="receipts verify"):
        open_store(SQLiteStore(directory))


def test_damage_met_while_reading(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage that opening did not see is reported as such by whatever meets it, and found by a full check."""
    writer = fill(directory, 2000)
    path = directory / DATABASE_NAME
    flip(page_with(path, b"x" * 100, path.stat().st_size // 2), 12)(path)
    monkeypatch.setattr(schema, "QUICK_CHECK_PAGES_MAX", 0)
    store = SQLiteStore(directory)
    open_store(store)
    assert store.problems()
    with pytest.raises(StoreCorrupt, match="receipts verify"):
        store.history(writer.keys["a~b"], (1, 3000), 3000)
    with pytest.raises(StoreCorrupt):
        store.resume(APP, "a", since=0, cursor="", bytes_max=10**7, snapshot_messages=9)
    store.close()


@pytest.mark.parametrize("table", ["messages", "marks", "meta"])
def test_missing_table(directory: Path, table: str) -> None:
    """A database of ours that lacks a table is damaged, not new."""
    fill(directory)
    with sqlite3.connect(directory / DATABASE_NAME) as db:
        db.execute(f"DROP TABLE {table}")
    db.close()
    with pytest.raises(StoreCorrupt, match=f"{table}.*receipts verify"):
        open_store(SQLiteStore(directory))


def test_missing_counters(directory: Path) -> None:
    """Data without its counters is damaged: beginning at 0 again would give old ids to new messages."""
    fill(directory)
    with sqlite3.connect(directory / DATABASE_NAME) as db:
        db.execute("DELETE FROM meta")
    db.close()
    with pytest.raises(StoreCorrupt, match="counters"):
        open_store(SQLiteStore(directory))


def test_database_of_another_program(directory: Path) -> None:
    """Somebody else's database is refused and not touched."""
    directory.mkdir(parents=True)
    path = directory / DATABASE_NAME
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE cats (name TEXT)")
    db.close()
    content = path.read_bytes()
    with pytest.raises(StoreCorrupt, match="another program"):
        open_store(SQLiteStore(directory))
    assert path.read_bytes() == content


# -- versions -------------------------------------------------------------------------------------------


def test_newer_version_is_refused(directory: Path) -> None:
    """Data of a newer program is refused with the version that is needed, and not touched."""
    fill(directory)
    path = directory / DATABASE_NAME
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {schema.LATEST + 1}")
        db.execute("INSERT INTO migrations VALUES (?, '9.8.7')", (schema.LATEST + 1,))
    db.close()
    content = path.read_bytes()
    with pytest.raises(
        StoreCorrupt, match=rf"version {schema.LATEST + 1}.*message-receipts 9\.8\.7 or newer"
    ):
        open_store(SQLiteStore(directory))
    assert path.read_bytes() == content


def test_newer_version_that_left_no_word(directory: Path) -> None:
    """A newer program may keep its record otherwise; it is refused all the same."""
    fill(directory)
    with sqlite3.connect(directory / DATABASE_NAME) as db:
        db.execute("PRAGMA user_version = 1000")
        db.execute("DROP TABLE migrations")
    db.close()
    with pytest.raises(StoreCorrupt, match="newer message-receipts"):
        open_store(SQLiteStore(directory))


def test_impossible_version_is_refused(directory: Path) -> None:
    """Our application id without a version is no new store."""
    fill(directory)
    with sqlite3.connect(directory / DATABASE_NAME) as db:
        db.execute("PRAGMA user_version = 0")
    db.close()
    with pytest.raises(StoreCorrupt, match="impossible"):
        open_store(SQLiteStore(directory))


VERSION_1 = """
CREATE TABLE migrations (version INTEGER PRIMARY KEY, program TEXT NOT NULL);
CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), life TEXT NOT NULL, tick INTEGER NOT NULL,
    version INTEGER NOT NULL, message_id INTEGER NOT NULL, key INTEGER NOT NULL,
    node_time_ms INTEGER NOT NULL, secret BLOB NOT NULL);
CREATE TABLE apps (app TEXT NOT NULL PRIMARY KEY, settings TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE users (app TEXT NOT NULL, user TEXT NOT NULL, password_hash TEXT NOT NULL,
    token_epoch INTEGER NOT NULL, share_delivered INTEGER NOT NULL, share_read INTEGER NOT NULL,
    statistics_tick INTEGER NOT NULL, created_ms INTEGER NOT NULL, removed INTEGER NOT NULL,
    PRIMARY KEY (app, user)) WITHOUT ROWID;
CREATE TABLE devices (app TEXT NOT NULL, user TEXT NOT NULL, device TEXT NOT NULL,
    since_tick INTEGER NOT NULL, seen_ms INTEGER NOT NULL, client TEXT NOT NULL, removed INTEGER NOT NULL,
    PRIMARY KEY (app, user, device)) WITHOUT ROWID;
CREATE TABLE installs (key INTEGER PRIMARY KEY, app TEXT NOT NULL, user TEXT NOT NULL, install TEXT NOT NULL,
    number_floor INTEGER NOT NULL DEFAULT 0, UNIQUE (app, user, install));
CREATE TABLE conversations (key INTEGER PRIMARY KEY, app TEXT NOT NULL, conversation TEXT NOT NULL,
    tick INTEGER NOT NULL, folded_through INTEGER NOT NULL, expired_through INTEGER NOT NULL,
    receipts_expired_through INTEGER NOT NULL, registers BLOB NOT NULL, UNIQUE (app, conversation));
CREATE TABLE members (key INTEGER NOT NULL, user TEXT NOT NULL, app TEXT NOT NULL, tick INTEGER NOT NULL,
    state BLOB NOT NULL, PRIMARY KEY (key, user)) WITHOUT ROWID;
CREATE INDEX members_by_user ON members (app, user);
CREATE TABLE marks (key INTEGER NOT NULL, user TEXT NOT NULL, tick INTEGER NOT NULL, marks BLOB NOT NULL,
    advances BLOB NOT NULL, PRIMARY KEY (key, user)) WITHOUT ROWID;
CREATE TABLE messages (key INTEGER NOT NULL, seq INTEGER NOT NULL, message_id INTEGER NOT NULL,
    tick INTEGER NOT NULL, author TEXT NOT NULL, device TEXT NOT NULL, at_ms INTEGER NOT NULL,
    counts INTEGER NOT NULL, asks INTEGER NOT NULL, shares INTEGER NOT NULL, install_key INTEGER NOT NULL,
    number INTEGER NOT NULL, recalled_tick INTEGER NOT NULL, recalled_by TEXT NOT NULL,
    recalled_ms INTEGER NOT NULL, body NOT NULL, PRIMARY KEY (key, seq)) WITHOUT ROWID;
CREATE UNIQUE INDEX messages_by_number ON messages (install_key, number) WHERE install_key != 0;
CREATE INDEX messages_recalled ON messages (key, recalled_tick) WHERE recalled_tick > 0;
CREATE INDEX messages_uncounted ON messages (key, seq) WHERE counts != 0;
CREATE TABLE asks (key INTEGER NOT NULL, seq INTEGER NOT NULL, app TEXT NOT NULL, author TEXT NOT NULL,
    expires_ms INTEGER NOT NULL, tick INTEGER NOT NULL, PRIMARY KEY (key, seq)) WITHOUT ROWID;
CREATE INDEX asks_by_author ON asks (app, author, tick);
CREATE INDEX asks_by_expiry ON asks (expires_ms);
CREATE TABLE receipts (key INTEGER NOT NULL, seq INTEGER NOT NULL, reader TEXT NOT NULL,
    version INTEGER NOT NULL, at_ms INTEGER NOT NULL, content TEXT NOT NULL, tick INTEGER NOT NULL,
    PRIMARY KEY (key, seq, reader)) WITHOUT ROWID;
INSERT INTO migrations VALUES (1, '0.1.0');
INSERT INTO meta VALUES (1, 'old life', 7, 3, 4, 2, 1000, x'5345');
INSERT INTO apps VALUES ('default', '{}');
INSERT INTO users VALUES ('default', 'a', 'hash', 0, 1, 0, 0, 900, 0);
INSERT INTO devices VALUES ('default', 'a', 'phone', 1, 950, 'old/1', 0);
INSERT INTO installs VALUES (1, 'default', 'a', 'i', 0);
INSERT INTO conversations VALUES (2, 'default', 'a~b', 2, 0, 0, 0, x'80');
INSERT INTO members VALUES (2, 'a', 'default', 2, x'960291930001C000809500C3C300009300C290');
INSERT INTO members VALUES (2, 'b', 'default', 2, x'960291930001C000809500C3C300009300C290');
INSERT INTO marks VALUES (2, 'b', 7, x'950792010292010292010281A570686F6E65920102', x'');
INSERT INTO messages VALUES (2, 1, 2, 6, 'a', 'phone', 990, 0, 0, 3, 1, 1, 0, '', 0, 'an old message');
INSERT INTO messages VALUES (2, 2, 4, 7, 'a', 'phone', 1000, 0, 1, 3, 1, 2, 0, '', 0, x'00FF');
INSERT INTO asks VALUES (2, 2, 'default', 'a', 5000, 7);
INSERT INTO receipts VALUES (2, 2, 'b', 3, 1000, 'seen', 7);
PRAGMA application_id = 1380143188;
PRAGMA user_version = 1;
"""
"""Written once, never to be changed: how the first version left its data."""


def version_1(directory: Path) -> None:
    """Make a directory of the first version."""
    directory.mkdir(parents=True)
    db = sqlite3.connect(directory / DATABASE_NAME)
    script = VERSION_1.replace("919300 01C0 0080 ", "9193" + "0001C0" + "0080").replace(
        "C3C30000 ", "C3C30000"
    )
    db.executescript(script.replace("920102 81", "92010281"))
    db.close()


def check_version_1(store: Store) -> None:
    """All of it is there."""
    assert [row.user for row in store.users(APP, "", 9)] == ["a"]
    found = store.user(APP, "a")
    assert found is not None
    assert (found.user.share_delivered, found.user.share_read) == (True, False)
    assert [row.body for row in store.history(2, (1, 9), 9)] == ["an old message", b"\x00\xff"]
    assert store.install(APP, "a", "i") == ((1, APP, "a", "i"), 2)
    ((line,), _) = store.summaries(APP, "b", "", 9)
    assert (line.row.conversation, line.head) == ("a~b", 2)
    (item,) = store.resume(APP, "b", since=-1, cursor="", bytes_max=9999, snapshot_messages=9).items
    assert [row.user for row in item.marks] == ["b"]
    assert [row.content for row in item.receipts] == ["seen"]


def test_first_version_opens(directory: Path) -> None:
    """Data of the first version is brought up to date on opening, complete, and can be written to."""
    version_1(directory)
    store = SQLiteStore(directory)
    meta = store.open(now_ms=START_MS, life="new", secret=b"new")
    assert meta == ("old life", 7, 3, 4, 2, 1000, b"SE")
    check_version_1(store)
    writer = Writer(store)
    writer.meta = meta
    writer._begin()
    writer.user("c")
    writer.commit()
    store.close()
    open_store(store)
    assert [row.user for row in store.users(APP, "", 9)] == ["a", "c"]
    store.close()


def test_migrations_run_in_order(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step that is missing runs once, in order, and each is recorded with its program."""
    version_1(directory)
    steps = (
        *schema.MIGRATIONS,
        ("ALTER TABLE users ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'",),
        ("UPDATE users SET colour = colour || 'dish'",),
    )
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    monkeypatch.setattr(schema, "LATEST", len(steps))
    for _ in range(2):
        store = SQLiteStore(directory)
        open_store(store)
        check_version_1(store)
        store.close()
    db = sqlite3.connect(directory / DATABASE_NAME)
    assert db.execute("SELECT colour FROM users").fetchall() == [("reddish",)]
    assert db.execute("PRAGMA user_version").fetchone() == (len(steps),)
    assert [version for (version,) in db.execute("SELECT version FROM migrations")] == [1, 2, 3, 4]
    db.close()


def test_failed_migration_leaves_the_version_before(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that fails half-way leaves nothing of itself; the old program could go on."""
    version_1(directory)
    steps = (*schema.MIGRATIONS, ("CREATE TABLE half (x)", "CREATE TABLE half (x)"))
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", steps)
        patch.setattr(schema, "LATEST", len(steps))
        with pytest.raises(StoreFailed, match="half"):
            open_store(SQLiteStore(directory))
    store = SQLiteStore(directory)
    open_store(store)
    check_version_1(store)
    assert pragma(store, "user_version") == len(schema.MIGRATIONS)
    store.close()


def test_unopened_store_refuses() -> None:
    """Before it is opened a store answers nothing."""
    with pytest.raises(LocalProtocolError, match="not open"):
        SQLiteStore(Path("nowhere")).apps()
