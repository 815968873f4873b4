"""Commits with many rows of a kind: the durable store inserts those in bulk, and nobody may notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from receipts.core.errors import LocalProtocolError
from receipts.storage.memory import MemoryStore
from receipts.storage.sqlite import BULK_ROWS, SQLiteStore
from tests.storage.writer import APP, Writer, every_answer, open_store

ROWS = (BULK_ROWS - 1, BULK_ROWS, BULK_ROWS + 1, 3 * BULK_ROWS + 7)


@pytest.mark.parametrize("rows", ROWS)
def test_large_commits(tmp_path: Path, rows: int) -> None:
    """A group that reads and answers at once is stored as by the store that keeps all in dictionaries."""
    durable, model = SQLiteStore(tmp_path / "data"), MemoryStore()
    open_store(durable)
    open_store(model)
    readers = [f"r{number:03}" for number in range(rows)]
    for store in (durable, model):
        writer = Writer(store)
        for user in ("a", *readers):
            writer.user(user)
        writer.conversation("g", "a", *readers)
        ask = writer.ask("g", "a")
        install = writer.install("a", "i").key
        for number in range(rows):
            writer.send("g", "a", f"text {number}", install=install)
        writer.commit()
        for _ in range(2):  # new rows, then rows in the place of others
            for reader in readers:
                writer.answer(ask, reader, f"of {reader}")
                writer.mark("g", reader, (1, 2 + rows))
            writer.commit()
    found = durable.conversation(APP, "g")
    assert found == model.conversation(APP, "g")
    assert found is not None
    assert len(found.marks) == rows
    for (question, has), (_, wanted) in zip(
        every_answer(durable, writer), every_answer(model, writer), strict=True
    ):
        assert has == wanted, question
    durable.close()


def test_two_of_one_name_in_bulk(tmp_path: Path) -> None:
    """A large commit in which two messages have one number is refused as a whole."""
    store = SQLiteStore(tmp_path / "data")
    open_store(store)
    writer = Writer(store)
    writer.user("a")
    writer.conversation("a~b", "a", "b")
    install = writer.install("a", "i").key
    for _ in range(BULK_ROWS):
        writer.send("a~b", "a", install=install)
    writer.send("a~b", "a", install=install, number=3)
    with pytest.raises(LocalProtocolError, match="two rows of one name"):
        writer.commit()
    assert store.conversation(APP, "a~b") is None
    store.close()
