"""Real processes: who owns the directory, and what a killed one leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from receipts.storage.base import StoreLocked
from receipts.storage.lock import DirectoryLock
from receipts.storage.sqlite import LOCK_NAME, SQLiteStore
from tests.storage.writer import open_store

HOLDER = """
import sys
from pathlib import Path
from receipts.storage.sqlite import SQLiteStore
store = SQLiteStore(Path(sys.argv[1]))
store.open(now_ms=0, life="life", secret=b"")
print("open", flush=True)
sys.stdin.read()
store.close()
"""

COMMITTER = """
import sys
from pathlib import Path
from receipts.storage.sqlite import SQLiteStore
from tests.storage.writer import Writer, open_store
store = SQLiteStore(Path(sys.argv[1]))
meta = open_store(store)
writer = Writer(store)
writer.meta = meta
writer._begin()
if not meta.tick:
    writer.conversation("a~b", "a", "b")
    writer.commit()
else:
    writer.keys["a~b"] = 1
    writer.heads["a~b"] = store.head_at(1, meta.tick)
while True:
    for _ in range(7):
        seq = writer.send("a~b", "a", "x" * 500).seq
    writer.mark("a~b", "b", (1, seq + 1))
    writer.commit()
    print(seq, flush=True)
"""


def start(script: str, directory: Path) -> subprocess.Popen[str]:
    """A Python process with a line of words to us."""
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", script, str(directory)],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line(process: subprocess.Popen[str]) -> str:
    """The next line that the process writes."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_directory_belongs_to_one_process(tmp_path: Path) -> None:
    """A directory that another process has open is refused with its id, and free when that one is gone."""
    with start(HOLDER, tmp_path) as holder:
        assert line(holder) == "open"
        with pytest.raises(StoreLocked, match=rf"process {holder.pid}\b"):
            open_store(SQLiteStore(tmp_path))
        holder.communicate("")
    store = SQLiteStore(tmp_path)
    open_store(store)
    store.close()


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    """The kernel lets go of the lock of who is killed; no file has to be deleted by hand."""
    with start(HOLDER, tmp_path) as holder:
        assert line(holder) == "open"
        holder.send_signal(signal.SIGKILL)
    assert (tmp_path / LOCK_NAME).exists()
    store = SQLiteStore(tmp_path)
    open_store(store)
    store.close()


def test_lock_without_a_number_still_locks(tmp_path: Path) -> None:
    """If the holder could not leave its id, the refusal does without."""
    lock = DirectoryLock(tmp_path / "lock")
    lock.acquire()
    os.truncate(tmp_path / "lock", 0)
    with pytest.raises(StoreLocked, match="another process"):
        DirectoryLock(tmp_path / "lock").acquire()
    lock.release()
    lock.release()
    DirectoryLock(tmp_path / "lock").acquire()


def test_killed_process_loses_nothing_committed(tmp_path: Path) -> None:
    """Whatever moment a process is killed at, all that it said was committed is there, in whole batches, and
    the next process goes on from there."""
    total = 0
    for lines in (1, 2, 5, 11, 23):
        with start(COMMITTER, tmp_path) as process:
            said = [line(process) for _ in range(lines)]
            process.send_signal(signal.SIGKILL)
            assert process.stdout is not None
            said += process.stdout.read().split("\n")[:-1]
        last = int(said[-1])
        assert last == total + 7 * len(said)
        store = SQLiteStore(tmp_path)
        meta = open_store(store)
        assert store.problems() == []
        found = store.conversation("default", "a~b")
        assert found is not None
        assert found.head >= last
        assert found.head % 7 == 0
        assert meta.tick == 1 + found.head // 7
        (mark,) = found.marks
        assert mark.tick == meta.tick
        bodies = [row.body for row in store.history(1, (1, found.head + 1), found.head)]
        assert bodies == ["x" * 500] * found.head
        total = found.head
        store.close()
