"""The file: what is committed is there, what is settled is gone, and what is not ours is refused."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from receipts.client.disk import Disk, DiskFailed, Saved, rows_of
from receipts.client.outbox import Mark, Outbox
from receipts.client.replica import Replica
from receipts.client.session import Changes
from receipts.core.errors import LocalProtocolError
from receipts.core.events import MessageAccepted, MessageRecalled
from receipts.core.ids import ConversationId, ConversationKind, MessageId
from receipts.wire.codec import encode_update
from receipts.wire.commands import AckDelivered, ReadConversation, ReadMessages, SendMessage
from receipts.wire.updates import Accepted, ConversationPart, Pong

from .device import Device, message, only

CHAT = "alice~bob"


def changes(
    *,
    token: str | None = "life:1",
    number: int = 0,
    replaced: bool = False,
    parts: dict[ConversationId, list[ConversationPart]] | None = None,
    messages: list[MessageAccepted] | None = None,
    removed: list[tuple[ConversationId, int]] | None = None,
    sends: list[SendMessage | int] | None = None,
    marks: dict[ConversationId, list[Mark]] | None = None,
) -> Changes:
    return Changes(
        token=token,
        number=number,
        replaced=replaced,
        parts=parts or {},
        messages=messages or [],
        removed=removed or [],
        sends=sends or [],
        marks=marks or {},
    )


def open_disk(path: Path, *, device: str = "phone", messages_max: int = 1000) -> tuple[Disk, Saved]:
    disk = Disk(path, messages_max=messages_max)
    return disk, disk.open(user="bob", device=device, app="default", install="fresh")


def reopened(path: Path, *batches: Changes, messages_max: int = 1000) -> Saved:
    disk, _ = open_disk(path)
    for batch in batches:
        disk.commit(rows_of(batch))
    disk.close()
    disk.close()
    disk, saved = open_disk(path, messages_max=messages_max)
    disk.close()
    return saved


PART = ConversationPart(conversation=CHAT, kind=ConversationKind.DIRECT, head=3)


def test_what_is_committed_comes_back(tmp_path: Path) -> None:
    """State, messages, sends, marks, token and number come back as they were saved last."""
    marks: list[Mark] = [AckDelivered(0, CHAT, (1, 4)), ReadConversation(0, CHAT, 2)]
    send = SendMessage(3, CHAT, b"\x00body", 7)
    saved = reopened(
        tmp_path / "x",
        changes(parts={CHAT: [PART, PART]}, messages=[message(1)], sends=[send], marks={CHAT: marks}),
        changes(token="life:9", number=7, parts={"g": []}, messages=[message(2), message(3)]),
    )
    assert (saved.install, saved.token, saved.number) == ("fresh", "life:9", 7)
    assert saved.parts == [PART, PART]
    assert saved.messages == [message(1), message(2), message(3)]
    assert saved.sends == [send]
    assert saved.marks == marks


def test_what_is_settled_is_gone(tmp_path: Path) -> None:
    """Answered sends, confirmed marks, recalled messages, and all of a state that was replaced, are gone."""
    send = SendMessage(3, CHAT, "x", 7)
    first = changes(
        parts={CHAT: [PART, PART]},
        messages=[message(1), message(2)],
        sends=[send],
        marks={CHAT: [AckDelivered(0, CHAT, (1, 4))]},
    )
    saved = reopened(tmp_path / "x", first, changes(sends=[7], marks={CHAT: []}, removed=[(CHAT, 1)]))
    assert (saved.sends, saved.marks) == ([], [])
    assert saved.messages == [message(2)]
    saved = reopened(tmp_path / "y", first, changes(replaced=True, messages=[message(9)]))
    assert saved.parts == []
    assert saved.messages == [message(9)]
    assert saved.sends == [send], "what was not sent is no state of the node"


def test_the_newest_messages_are_kept(tmp_path: Path) -> None:
    """On opening, messages beyond what a replica keeps are dropped, conversation by conversation."""
    other = [message(seq, conversation="bob~zoe", author="zoe") for seq in (1, 2)]
    batch = changes(messages=[message(seq) for seq in range(1, 8)] + other)
    saved = reopened(tmp_path / "x", batch, messages_max=3)
    assert [m.seq for m in saved.messages if m.conversation == CHAT] == [5, 6, 7]
    assert len(saved.messages) == 5


def test_files_are_private(tmp_path: Path) -> None:
    """Only the owner may read the file: it holds messages."""
    disk, _ = open_disk(tmp_path / "x")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600
    disk.close()


def test_a_failed_commit_writes_nothing(tmp_path: Path) -> None:
    """When a row cannot be written none of the batch is."""
    disk, _ = open_disk(tmp_path / "x")
    rows = rows_of(changes(token="life:5", messages=[message(1)]))
    broken = rows._replace(sends=[(1, None)])  # type: ignore[list-item]
    with pytest.raises(DiskFailed):
        disk.commit(broken)
    disk.commit(rows_of(changes(token="life:2")))
    disk.close()
    with pytest.raises(DiskFailed, match="closed"):
        disk.commit(rows)
    saved = reopened(tmp_path / "x")
    assert (saved.token, saved.messages) == ("life:2", [])


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A file that is open is nobody else's: two would give one number to two sends."""
    disk, _ = open_disk(tmp_path / "x")
    with pytest.raises(DiskFailed, match="in use"):
        open_disk(tmp_path / "x")
    disk.close()
    open_disk(tmp_path / "x")[0].close()


def test_a_new_process_goes_on_where_the_old_one_was(tmp_path: Path) -> None:
    """What a session wants to be saved, batch by batch, is all that another one needs to be in its place."""

    def begun() -> tuple[Device, Disk]:
        disk, saved = open_disk(tmp_path / "x")
        replica, outbox = Replica("bob", "phone"), Outbox(saved.install, saved.number)
        replica.restore(saved.parts, saved.messages)
        replica.token = saved.token
        outbox.restore(saved.sends, saved.marks)
        return Device(replica=replica, outbox=outbox, saving=True), disk

    def save(device: Device, disk: Disk) -> None:
        batch = device.session.take_changes()
        if batch is not None:
            disk.commit(rows_of(batch))
        assert device.session.take_changes() is None, "once"

    device, disk = begun()
    device.live()
    save(device, disk)
    device.hear(message(1), message(2), message(3), MessageRecalled(conversation=CHAT, seq=2, by="alice"))
    lost, kept = (device.session.send(CHAT, body) for body in ("answered", "not answered"))
    device.session.read_messages(CHAT, [1], None, device.now_ms)
    save(device, disk)
    device.said()
    device.hear(Accepted(lost.rid, CHAT, 4, MessageId(8), 9, lost.number), message(5))
    save(device, disk)
    before, token = device.replica.dump(), device.session.token
    disk.close()

    again, disk = begun()
    assert again.replica.dump() == before
    assert again.session.unread_seqs(CHAT) == [3, 5]
    assert [m.seq for m in again.replica.messages(CHAT)] == [1, 3, 4, 5]
    assert again.open().resume == token
    again.lose()
    sends = only(SendMessage, again.live())
    assert [(send.body, send.number) for send in sends] == [("not answered", kept.number)]
    assert again.session.send(CHAT, "next").number == kept.number + 1
    assert again.wait(50)[:2] == [AckDelivered(0, CHAT, (2, 4, 5, 6)), ReadMessages(0, CHAT, (1, 2))]
    disk.close()


def test_a_full_disk_is_said_and_then_forgotten(tmp_path: Path) -> None:
    """Without room nothing of a batch is written, the error says what to do, and with room it is taken."""
    disk, _ = open_disk(tmp_path / "x")
    disk.commit(rows_of(changes(token="life:1", messages=[message(1)])))
    assert disk._db is not None
    (pages,) = disk._db.execute("PRAGMA page_count").fetchone()
    disk._db.execute(f"PRAGMA max_page_count = {pages}")
    large = rows_of(changes(token="life:2", messages=[message(2, body="x" * 100_000)]))
    with pytest.raises(DiskFailed, match="free some space"):
        disk.commit(large)
    disk._db.execute(f"PRAGMA max_page_count = {pages + 100}")
    disk.commit(rows_of(changes(token="life:3", messages=[message(3)])))
    disk.close()
    saved = reopened(tmp_path / "x")
    assert saved.token == "life:3"
    assert saved.messages == [message(1), message(3)]


def test_a_row_of_another_kind_is_damage(tmp_path: Path) -> None:
    """A frame that can be read, but stands where another kind belongs, is refused like one that cannot."""
    for table, column in (("conversation", "part"), ("message", "frame")):
        path = tmp_path / table
        reopened(path, changes(parts={CHAT: [PART]}, messages=[message(1)]))
        with sqlite3.connect(path) as db:
            db.execute(f"UPDATE {table} SET {column} = ?", (encode_update(Pong(1), 0),))
        db.close()
        with pytest.raises(DiskFailed, match="afresh"):
            open_disk(path)


def test_strange_files_are_refused(tmp_path: Path) -> None:
    """Another owner, another program, a newer version, damage, no directory: each is said plainly."""
    path = tmp_path / "x"
    reopened(path)
    with pytest.raises(LocalProtocolError, match="another device"):
        open_disk(path, device="tablet")
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(DiskFailed, match="newer"):
        open_disk(path)
    with sqlite3.connect(tmp_path / "foreign") as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    with pytest.raises(DiskFailed, match="not the file of a receipts client"):
        open_disk(tmp_path / "foreign")
    (tmp_path / "garbage").write_bytes(b"garbage" * 1000)
    with pytest.raises(DiskFailed, match="afresh"):
        open_disk(tmp_path / "garbage")
    with pytest.raises(DiskFailed):
        open_disk(tmp_path / "nowhere" / "x")
    damaged = tmp_path / "damaged"
    reopened(damaged, changes(messages=[message(1)]))
    with sqlite3.connect(damaged) as db:
        db.execute("UPDATE message SET frame = x'ff'")
    db.close()
    with pytest.raises(DiskFailed):
        open_disk(damaged)
