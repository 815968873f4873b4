"""Devices that write and read as fast as they can, and remember all that they were promised.

A `Witness` belongs to all of them: what was acknowledged, what was shown, what was read. `check_file` holds
the node's file against it, and `check_device` a device against the file. What a count should be is not for
the node's own code to say: messages are looked up in the tables, and unread is recounted from them.
"""

from __future__ import annotations

import random
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from receipts.client.connection import Connection, connect
from receipts.client.news import MarkRefused
from receipts.core.conversation import Conversation
from receipts.core.errors import Code, Refused
from receipts.core.events import MessageAccepted
from receipts.core.ids import direct, direct_members
from receipts.core.ranges import RangeSet
from receipts.wire.updates import Delivered, GroupRead, Read, Reader

__all__ = ["Device", "Line", "Witness", "check_device", "check_file", "lines_of"]

MARKED = direct("alice", "cara")
"""The one conversation that is marked as unread now and then; its count has to be the same everywhere."""

TASKS = 3
"""Of one device at a time, so that several commands are in flight when the node dies."""

VISITS = 25
"""Things that a task does before a device with a file of its own leaves and comes back."""


class Witness:
    """What the node has promised, to anybody."""

    def __init__(self) -> None:
        self.accepted: dict[tuple[str, int], tuple[int, str, str]] = {}
        """(conversation, seq) → (message id, author, body), of sends that were answered."""
        self.shown: dict[tuple[str, int], tuple[int, str, str]] = {}
        """The same, of messages that somebody got."""
        self.delivered: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        """(conversation, member) → messages whose author was shown that the member has them."""
        self.read: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        self.answers: dict[tuple[str, int, str], str] = {}
        """(conversation, seq, reader) → the words that the asker was shown."""
        self.recalled: set[tuple[str, int]] = set()
        """Recalls that were answered."""
        self.reads: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        """(conversation, reader) → what its devices said was read."""
        self.bodies: set[str] = set()
        """All that was ever given to a client to send."""
        self.refusals: list[str] = []
        """There should be none."""
        self.noted = 0
        """Updates seen by all devices together."""
        self._noted = anyio.Event()

    def note(self, device: Device, update: Any) -> None:
        """A device was told something."""
        self.noted += 1
        if isinstance(update, MessageAccepted):
            key = update.conversation, update.seq
            found = update.message_id, update.author, str(update.body)
            known = self.shown.setdefault(key, found)
            if known != found and update.body:
                self.refusals.append(f"{key} was shown as {known} and as {found}")
        elif isinstance(update, Delivered) and update.member != device.user:
            self.delivered[update.conversation, update.member].update(RangeSet(update.ranges))
        elif isinstance(update, Read) and update.member != device.user:
            self.read[update.conversation, update.member].update(RangeSet(update.ranges))
        elif isinstance(update, GroupRead):
            for reader in update.readers:
                self._answer(update, reader)
        elif isinstance(update, MarkRefused) and update.code is not Code.RECALLED:
            self.refusals.append(repr(update))
        self._noted.set()

    def _answer(self, update: GroupRead, reader: Reader) -> None:
        key = update.conversation, update.seq, reader.user
        if self.answers.setdefault(key, reader.content) != reader.content:
            self.refusals.append(f"{key} answered twice")

    async def more(self, count: int) -> None:
        """Wait until that many updates more were seen."""
        goal = self.noted + count
        while self.noted < goal:
            self._noted = anyio.Event()
            await self._noted.wait()


class Device:
    """One device of a user, which does things by chance until it is told to stop.

    Args:
        path: Of the file that outlives its connections; without, it stays connected.
    """

    def __init__(
        self,
        witness: Witness,
        user: str,
        device: str,
        url: str,
        token: str,
        conversations: Iterable[str],
        seed: str,
        path: Path | None = None,
    ) -> None:
        self.user = user
        self.name = device
        self.me: Connection
        self.stopping = False
        self._witness = witness
        self._url = url
        self._token = token
        self._conversations = sorted(conversations)
        self._chance = random.Random(seed)
        self._path = path
        self._written = 0
        self._rested = anyio.Event()

    async def run(self, settled: anyio.Event, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Live, until everybody has settled."""
        while True:
            self.me = connect(
                self._url,
                user=self.user,
                device=self.name,
                token=self._token,
                path=self._path,
                messages_max=100_000,
                wait=False,
                coalesce_ms=self._chance.choice([0, 5]),
            )
            self.me.on(object, lambda update: self._witness.note(self, update))
            async with self.me:
                task_status.started()
                task_status = anyio.TASK_STATUS_IGNORED
                async with anyio.create_task_group() as tasks:
                    for _ in range(TASKS):
                        tasks.start_soon(self._work)
                if self.stopping:
                    self._rested.set()
                    await settled.wait()
                    return

    async def _work(self) -> None:
        visits = VISITS if self._path is not None else 1_000_000
        for _ in range(visits):
            if self.stopping:
                return
            await self.me.until(lambda: self.me.online or self.stopping)
            try:
                await self._do()
            except Refused as refused:
                if refused.code is not Code.RECALLED:
                    self._witness.refusals.append(f"{self.user}: {refused}")

    async def _do(self) -> None:
        conversation = self._chance.choice(self._conversations)
        action = self._chance.choices(
            [self._send, self._read, self._read_some, self._recall, self._mark, self._look],
            [10, 4, 4, 1, 1, 1],
        )[0]
        await action(conversation)

    async def _send(self, conversation: str) -> None:
        self._written += 1
        body = f"{self.user} {self.name} {id(self)} {self._written}"
        self._witness.bodies.add(body)
        asks = direct_members(conversation) is None and self.user != "cara" and self._chance.random() < 0.5
        sent = await self.me.send(conversation=conversation, body=body, asks=asks)
        self._witness.accepted[sent.conversation, sent.seq] = (sent.message_id, self.user, body)

    async def _read(self, conversation: str) -> None:
        last = self.me.session.replica.last(conversation)
        if last:
            # Noted first: even what goes wrong half-way may have been said.
            self._witness.reads[conversation, self.user].update(range(1, last + 1))
            await self.me.read(conversation, last)

    async def _read_some(self, conversation: str) -> None:
        known = [
            message for message in self.me.messages(conversation, limit=10) if message.author != self.user
        ]
        if not known:
            return
        some = self._chance.sample(known, min(len(known), 3))
        content = self._chance.choice([None, "", "ok"]) if all(message.asks for message in some) else None
        if content is not None:
            some = some[:1]
        seqs = [message.seq for message in some]
        self._witness.reads[conversation, self.user].update(seqs)
        await self.me.read_messages(conversation, seqs, content)

    async def _recall(self, conversation: str) -> None:
        own = [message for message in self.me.messages(conversation, limit=20) if message.author == self.user]
        if own:
            seq = self._chance.choice(own).seq
            await self.me.recall(conversation, seq)
            self._witness.recalled.add((conversation, seq))

    async def _mark(self, conversation: str) -> None:
        last = self.me.session.replica.last(MARKED)
        if MARKED in self._conversations and last:
            from_seq = self._chance.choice([None, max(1, last - 3)])
            await self.me.mark_unread(MARKED, from_seq=from_seq)

    async def _look(self, conversation: str) -> None:
        asked = [m.seq for m in self.me.messages(conversation, limit=20) if m.asks and m.author == self.user]
        if asked:
            found = await self.me.readers(conversation, asked[-1])
            for reader in found.readers:
                self._witness._answer(GroupRead(conversation, asked[-1], 0, ()), reader)
        else:
            await self.me.server_badge()

    async def settle(self) -> None:
        """Say all that is due, and hear all that was said."""
        await self._rested.wait()
        await self.me.until(lambda: self.me.online)
        await self.me.until(lambda: not self.me.session.outbox.sends)
        with suppress(Refused):  # noted by the witness
            await self.me.flush()
        await self.me.server_badge()


class Line(NamedTuple):
    """A message, as the table has it."""

    message_id: int
    author: str
    body: str
    recalled: bool


def lines_of(database: Path) -> dict[tuple[str, int], Line]:
    """All messages in a node's file, by (conversation, seq), read with SQLite alone."""
    sql = """
        SELECT c.conversation, m.seq, m.message_id, m.author, m.body, m.recalled_tick > 0
        FROM messages m JOIN conversations c ON c.key = m.key"""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return {(row[0], row[1]): Line(row[2], row[3], row[4], bool(row[5])) for row in db.execute(sql)}


def check_file(
    witness: Witness, lines: Mapping[tuple[str, int], Line], chats: Mapping[str, Conversation]
) -> None:
    """Everything that anybody was promised is in the file, once."""
    for what, promised in (("acknowledged", witness.accepted), ("shown", witness.shown)):
        for key, (message_id, author, body) in promised.items():
            line = lines.get(key)
            assert line is not None, f"{key} was {what} and is gone"
            assert (line.message_id, line.author) == (message_id, author), f"{key} was {what} as another"
            assert line.recalled or line.body == body, f"{key} was {what} with another text"
    bodies = [line.body for line in lines.values() if not line.recalled]
    assert len(bodies) == len(set(bodies)), "a message is there twice"
    assert set(bodies) <= witness.bodies
    kept = {body for _, _, body in witness.accepted.values()}
    assert len(kept) == len(witness.accepted), "a message was acknowledged as two"
    for key in witness.recalled:
        assert lines[key].recalled, f"the recall of {key} is gone"
    for (name, member), seqs in witness.delivered.items():
        lost = seqs - set(chats[name].members[member].delivered_shared)
        assert not lost, f"{name}: {member} was shown to have {lost}"
    for (name, member), seqs in witness.read.items():
        lost = seqs - set(chats[name].members[member].read_shared)
        assert not lost, f"{name}: {member} was shown to have read {lost}"
    for (name, seq, reader), content in witness.answers.items():
        if not lines[name, seq].recalled:
            kept_answer = chats[name].asked[seq].readers.get(reader)
            assert kept_answer is not None, f"the answer of {reader} to {name} #{seq} is gone"
            assert kept_answer.content == content
    _check_counts(witness, lines, chats)


def _check_counts(
    witness: Witness, lines: Mapping[tuple[str, int], Line], chats: Mapping[str, Conversation]
) -> None:
    """Counts are what the messages and the receipts say: nothing lost, nothing counted twice."""
    for name, chat in chats.items():
        here = {seq: line for (conversation, seq), line in lines.items() if conversation == name}
        assert sorted(here) == list(range(1, chat.head + 1)), f"{name}: seqs are not dense"
        for user in chat.members:
            own = {seq for seq, line in here.items() if line.author == user}
            gone = {seq for seq, line in here.items() if line.recalled}
            said = witness.reads[name, user]
            read = set(chat.members[user].read)
            assert read - own - gone == said - own - gone, f"{name}: {user} has not read what was said"
            if name != MARKED:
                unread = sorted(set(here) - own - gone - said)
                assert list(RangeSet(chat.unread_ranges(user))) == unread, f"{name}: {user}'s count is wrong"


def check_device(
    device: Device, lines: Mapping[tuple[str, int], Line], chats: Mapping[str, Conversation]
) -> None:
    """A device knows what the file says, no more and no less."""
    me, user = device.me, device.user
    for name, true in chats.items():
        if user not in true.members:
            continue
        where = f"{user}'s {device.name} in {name}"
        known = me.session.replica.chat(name)
        assert known.head == true.head, where
        assert me.unread_seqs(name) == list(RangeSet(true.unread_ranges(user))), where
        assert me.marked_unread(name) == true.marked_unread(user), where
        gone = {seq for (other, seq), line in lines.items() if other == name and line.recalled}
        assert {seq for seq in known.recalled if seq >= 1} == gone, where
        kept = me.messages(name, limit=100_000)
        assert [message.seq for message in kept] == sorted(set(range(1, true.head + 1)) - gone), where
        for message in kept:
            line = lines[name, message.seq]
            assert (message.message_id, message.author, message.body) == line[:3], where
        own = {seq for (other, seq), line in lines.items() if other == name and line.author == user} - gone
        pair = direct_members(name)
        if pair is not None:
            peer = pair[pair[0] == user]
            theirs, shown = true.members[peer], known.members[peer]
            for what in ("delivered_shared", "read_shared"):
                assert own & set(getattr(shown, what)) == own & set(getattr(theirs, what)), f"{where}: {what}"
        for seq in own & true.asked.keys():
            assert known.asked[seq].readers == true.asked[seq].readers, f"{where}: readers of #{seq}"
