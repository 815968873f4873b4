"""Disks that keep what was synced and may lose the rest: the node's, and those of devices.

What a disk can do to its owner is here; when it does so is a step (`Store`, `DiskFull`, `CrashNode`).
"""

from __future__ import annotations

from typing import TypeVar

from receipts.client.disk import Saved
from receipts.client.outbox import Mark
from receipts.client.session import Changes
from receipts.core.events import MessageAccepted
from receipts.core.ids import ConversationId, Seq
from receipts.storage.base import Batch, MetaRow, StoreFailed, StoreFull
from receipts.storage.memory import MemoryStore
from receipts.wire.codec import decode_command, decode_update, encode_command, encode_update
from receipts.wire.commands import SendMessage
from receipts.wire.updates import ConversationPart

__all__ = ["DeviceDisk", "NodeDisk"]

_T = TypeVar("_T")


class NodeDisk(MemoryStore):
    """A store whose commits are written first and synced then, as a journal's are.

    Unrealistic: reading never fails, and what is written in front of a crash is there whole, in half or not
    at all, while a real file may also have a later page without an earlier one; a journal with checksums
    takes that for half.
    """

    def __init__(self) -> None:
        super().__init__()
        self.full = False
        """While true, there is no room for a commit."""
        self._written: Batch | None = None
        self._torn = False

    @property
    def unsynced(self) -> bool:
        """Whether something is written that a crash may take."""
        return self._written is not None

    def write(self, batch: Batch) -> None:
        """The first half of a commit.

        Raises:
            StoreFull: Nothing is written.
        """
        if self.full:
            raise StoreFull("the simulated disk is full")
        self._written = batch

    def sync(self) -> None:
        """The second half: now it is durable."""
        batch, self._written = self._written, None
        assert batch is not None
        super().commit(batch)

    def commit(self, batch: Batch) -> None:
        """Both halves."""
        self.write(batch)
        self.sync()

    def fail(self, batch: Batch) -> None:
        """Write, and fail to sync.

        Raises:
            StoreFailed: Always; what is there after a restart is up to the crash.
        """
        self._written = batch
        raise StoreFailed("the simulated disk reports an error while syncing")

    def crash(self, unsynced: str) -> None:
        """The process that had it open is gone.

        Args:
            unsynced: What becomes of a commit that was not synced: `keep`, `lose`, or `tear`.
        """
        if self._written is not None:
            if unsynced == "lose":
                self._written = None
            self._torn = unsynced == "tear"
        self.close()

    def open(self, *, now_ms: int, life: str, secret: bytes) -> MetaRow:
        """As `Store.open`. A commit whose record is whole is taken over, half a record is dropped."""
        meta = super().open(now_ms=now_ms, life=life, secret=secret)
        if self._written is not None:
            if not self._torn:
                self.sync()
            self._written, self._torn = None, False
            meta = self._opened()
        return meta


class DeviceDisk:
    """What a device has on disk: `client.disk` without a file.

    Everything is kept as values and goes through its frames when it is read, which is when a frame that
    cannot be read back would be noticed.
    """

    def __init__(self, install: str) -> None:
        self.install = install
        self._token: str | None = None
        self._number = 0
        self._parts: dict[ConversationId, list[ConversationPart]] = {}
        self._messages: dict[tuple[ConversationId, Seq], MessageAccepted] = {}
        self._whole: set[tuple[ConversationId, Seq]] = set()
        """Messages that went through their frames already: they never change, so that once is enough."""
        self._sends: dict[int, SendMessage] = {}
        self._marks: dict[ConversationId, list[Mark]] = {}

    def commit(self, changes: Changes) -> None:
        """All of it, durably."""
        if changes.replaced:
            self._parts.clear()
            self._messages.clear()
            self._whole.clear()
        self._token, self._number = changes.token, changes.number
        self._parts.update(changes.parts)
        for message in changes.messages:
            self._messages[message.conversation, message.seq] = message
            self._whole.discard((message.conversation, message.seq))
        for place in changes.removed:
            self._messages.pop(place, None)
            self._whole.discard(place)
        for send in changes.sends:
            if isinstance(send, int):
                self._sends.pop(send, None)
            else:
                self._sends[send.number] = send
        for conversation, marks in changes.marks.items():
            if marks:
                self._marks[conversation] = marks
            else:
                self._marks.pop(conversation, None)

    def holds(self, conversation: ConversationId, seq: Seq) -> bool:
        """Whether a message is on disk."""
        return (conversation, seq) in self._messages

    def read(self) -> Saved:
        """Everything, as a new process meets it."""
        parts = [_update(part) for _, known in sorted(self._parts.items()) for part in known]
        for place, message in self._messages.items():
            if place not in self._whole:
                self._messages[place] = _update(message)
        self._whole.update(self._messages)
        messages = [message for _, message in sorted(self._messages.items())]
        sends = [_command(send) for _, send in sorted(self._sends.items())]
        marks = [_command(mark) for _, known in sorted(self._marks.items()) for mark in known]
        return Saved(self.install, self._token, self._number, parts, messages, sends, marks)


def _update(value: _T) -> _T:
    decoded = decode_update(encode_update(value, 0))  # type: ignore[arg-type]
    assert decoded is not None
    return decoded[1]  # type: ignore[return-value]


def _command(value: _T) -> _T:
    return decode_command(encode_command(value))  # type: ignore[arg-type,return-value]
