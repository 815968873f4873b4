"""The simulated disks: what is synced stays, what is not may go, and never by half."""

from __future__ import annotations

import pytest

from receipts.client.outbox import Outbox
from receipts.client.replica import Replica
from receipts.client.session import Profile, Session
from receipts.simulation.disk import DeviceDisk, NodeDisk
from receipts.storage.base import AppRow, Batch, StoreFailed, StoreFull

SECRET = b"s" * 32


def opened(disk: NodeDisk) -> list[str]:
    """Open it as a new process; the apps that are there."""
    disk.open(now_ms=1, life="life", secret=SECRET)
    return [row.app for row in disk.apps()]


def batch(disk: NodeDisk, app: str) -> Batch:
    """A commit of one app, in the tick after the last."""
    meta = disk.open(now_ms=1, life="life", secret=SECRET)
    found = Batch(meta=meta._replace(tick=meta.tick + 1))
    found.apps.append(AppRow(app, "{}"))
    return found


def test_what_is_synced_stays() -> None:
    """A commit that has returned survives every crash."""
    for unsynced in ("keep", "lose", "tear"):
        disk = NodeDisk()
        disk.commit(batch(disk, "one"))
        disk.crash(unsynced)
        assert opened(disk) == ["one"]


@pytest.mark.parametrize(("unsynced", "left"), [("keep", ["one"]), ("lose", []), ("tear", [])])
def test_what_is_written_and_not_synced_is_there_whole_or_not_at_all(unsynced: str, left: list[str]) -> None:
    """A crash keeps or loses a commit that was not synced; half a record counts as none."""
    disk = NodeDisk()
    disk.write(batch(disk, "one"))
    assert disk.unsynced
    disk.crash(unsynced)
    assert opened(disk) == left
    assert not disk.unsynced


def test_a_full_disk_refuses_and_goes_on() -> None:
    """Without room a commit changes nothing; with room again the next one is taken."""
    disk = NodeDisk()
    first = batch(disk, "one")
    disk.full = True
    with pytest.raises(StoreFull):
        disk.commit(first)
    assert disk.apps() == []
    disk.full = False
    disk.commit(first)
    assert [row.app for row in disk.apps()] == ["one"]


def test_a_failing_sync_is_a_failing_store() -> None:
    """The caller is told that it must stop, and what was written is up to the crash."""
    for unsynced, left in (("keep", ["one"]), ("lose", [])):
        disk = NodeDisk()
        with pytest.raises(StoreFailed):
            disk.fail(batch(disk, "one"))
        disk.crash(unsynced)
        assert opened(disk) == left


def test_a_device_gets_back_what_it_has_saved() -> None:
    """Sends and receipts that wait, and the install they are numbered under, outlive the process."""
    session = Session(
        Profile(user="alice", device="phone"), Replica("alice", "phone"), Outbox("i"), saving=True
    )
    disk = DeviceDisk("i")
    session.send("alice~bob", "hi")
    changes = session.take_changes()
    assert changes is not None
    disk.commit(changes)
    saved = disk.read()
    assert (saved.install, saved.number) == ("i", 1)
    assert [(send.number, send.body) for send in saved.sends] == [(1, "hi")]
    assert not disk.holds("alice~bob", 1)
