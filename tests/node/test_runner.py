"""The runner: what leaves when, what happens when the disk says no, and how a node ends; on all event loops.

Commits wait at a `Gate` for as long as a test wants, so "not yet" is a state and not a matter of time.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import transports
from receipts.client.connection import connect
from receipts.core.errors import Code, Refused
from receipts.core.ids import direct
from receipts.node import runner
from receipts.node.commands import AddUser, ConfigureApp, ListUsers, MakeGroup, MakeToken, Stats, Verify
from receipts.node.operator import encode_request
from receipts.node.runner import Node
from receipts.node.worker import call_soon
from receipts.node.world import Tick
from receipts.storage.base import Batch, ConversationRows, StoreFailed, StoreFull
from receipts.storage.memory import MemoryStore
from receipts.storage.sqlite import SQLiteStore
from receipts.wire import commands
from receipts.wire.codec import decode_update, encode_command
from receipts.wire.updates import (
    Accepted,
    CatchUp,
    Conversations,
    Done,
    Explained,
    Goodbye,
    GroupRead,
    Pong,
    ReadStatistics,
    Rejected,
    Statuses,
    Welcome,
)
from tests.e2e.stage import LONG_MS, Raw, log_in
from transports.base import Frame, Handler, Link, Listener

AB = direct("alice", "bob")
NOW_MS = 1_700_000_000_000


class Gate:
    """Where commits wait until the test lets them go on, or has them fail."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        """What commits end with from now on, instead of being written."""
        self.commits = 0
        """How many have come to the gate."""
        self._open = threading.Event()
        self._open.set()
        self._arrived = anyio.Event()
        self._soon = call_soon()

    def hold(self) -> None:
        """From now on commits wait."""
        self._arrived = anyio.Event()
        self._open.clear()

    async def somebody(self) -> None:
        """Wait until a commit waits."""
        await self._arrived.wait()

    def release(self) -> None:
        """Let go those that wait, and all others."""
        self._open.set()

    def pass_through(self) -> None:
        """Called by a commit, on the store's thread."""
        self.commits += 1
        if not self._open.is_set():
            self._soon(self._arrived.set)
            assert self._open.wait(60), "the test forgot the gate"
        if self.error is not None:
            raise self.error


class GatedStore(SQLiteStore):
    """SQLite behind a gate; whether it fails is the test's to say, all else is real."""

    gate: Gate

    def commit(self, batch: Batch) -> None:
        self.gate.pass_through()
        super().commit(batch)


class Life:
    """A node from its start to its end, and links to it."""

    def __init__(self, node: Node, tasks: anyio.abc.TaskGroup) -> None:
        self.node = node
        self.error: BaseException | None = None
        """What `running` raised."""
        self.ended = anyio.Event()
        self._tasks = tasks
        self._stop = anyio.Event()
        self._closers: list[Callable[[], Awaitable[None]]] = []

    def stop(self) -> None:
        """Let the block of `running` end."""
        self._stop.set()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """`running`, until `stop`."""
        try:
            async with self.node.running():
                task_status.started()
                await self._stop.wait()
        except Exception as error:
            self.error = error
        finally:
            self.ended.set()

    async def leave(self) -> None:
        """Close all links."""
        for close in self._closers:
            await close()

    async def raw(self, url: str) -> Raw:
        """A link that has said nothing yet."""
        leave, left = anyio.Event(), anyio.Event()

        async def hold(*, task_status: anyio.abc.TaskStatus[Link]) -> None:
            try:
                async with transports.connect(url) as link:
                    task_status.started(link)
                    await leave.wait()
            finally:
                left.set()

        async def close() -> None:
            leave.set()
            await left.wait()

        link = await self._tasks.start(hold)
        self._closers.append(close)
        return Raw(link, close)

    async def token(self, user: str) -> str:
        """A token for a user."""
        made = await self.node.operate(MakeToken(rid=1, app="default", user=user, lifetime_ms=LONG_MS))
        return str(made.text)

    async def user(self, url: str, name: str, device: str = "phone") -> Raw:
        """A device, logged in and live."""
        raw = await self.raw(url)
        raw.say(log_in(name, device, await self.token(name)))
        await raw.hear(Welcome)
        await raw.catch_up()
        await raw.told()
        return raw

    async def users(self, *names: str) -> None:
        """New accounts."""
        for name in names:
            await self.node.operate(AddUser(rid=1, app="default", user=name))


@asynccontextmanager
async def living(node: Node) -> AsyncIterator[Life]:
    """A running node, which is stopped at the end of the block if it has not ended before."""
    async with anyio.create_task_group() as tasks:
        life = Life(node, tasks)
        await tasks.start(life.run)
        try:
            yield life
        finally:
            with anyio.CancelScope(shield=True):
                await life.leave()
                life.stop()
                await life.ended.wait()


@asynccontextmanager
async def gated(directory: Path) -> AsyncIterator[tuple[Life, Gate]]:
    """A running node whose commits pass a gate."""
    store = GatedStore(directory)
    store.gate = gate = Gate()
    node = Node(store, heartbeat_ms=LONG_MS, clock=lambda: NOW_MS)
    async with living(node) as life:
        try:
            yield life, gate
        finally:
            gate.release()


ADDRESSES = {"memory": "memory://runner", "tcp": "tcp://127.0.0.1:0", "ws": "ws://127.0.0.1:0/"}


async def silent(other: Raw, *links: Raw) -> None:
    """Assert that nothing waits on links, after a round trip over `other`, which leads to another node."""
    await anyio.wait_all_tasks_blocked()
    for _ in range(2):
        await other.ask(lambda rid: commands.Ping(rid=rid))
    for raw in links:
        frames: list[Frame] = []
        with anyio.move_on_after(0):
            frames = await raw.link.receive()
        assert [decode_update(frame) for frame in frames] == []


def send(raw: Raw, rid: int, body: str, conversation: str = AB) -> None:
    """Send a message without waiting."""
    raw.say(commands.SendMessage(rid, conversation, body, rid))


def listing(rid: int) -> commands.Command:
    """A query that storage answers."""
    return commands.ListConversations(rid=rid)


# -- nothing before it is durable


@pytest.mark.anyio
@pytest.mark.parametrize("transport", ["memory", "tcp", "ws"])
async def test_nothing_leaves_before_the_commit_returns(tmp_path: Path, transport: str) -> None:
    """While a commit runs no link hears anything: no acceptance, message, refusal, query answer, Welcome."""
    other_node = Node(MemoryStore(), inline=True, heartbeat_ms=LONG_MS)
    async with gated(tmp_path) as (life, gate), living(other_node) as elsewhere:
        await life.users("alice", "bob", "cara")
        await elsewhere.users("alice")
        there = await other_node.listen(ADDRESSES[transport].replace("runner", "elsewhere"))
        other = await elsewhere.user(there, "alice")
        url = await life.node.listen(ADDRESSES[transport])
        alice, bob = [await life.user(url, name) for name in ("alice", "bob")]
        cara_token, cara = await life.token("cara"), await life.raw(url)
        gate.hold()
        send(alice, 1, "held back")
        await gate.somebody()
        bob.say(listing(2), commands.Ping(rid=3), commands.GetBadge(rid=4))
        alice.say(commands.RecallMessage(rid=5, conversation="nowhere", seq=1))
        cara.say(log_in("cara", "phone", cara_token))
        await silent(other, alice, bob, cara)
        gate.release()
        assert (await alice.hear(Accepted)).seq == 1
        assert (await alice.hear(Rejected)).rid == 5
        assert (await bob.hear(Pong)).rid == 3
        assert (await bob.hear(Conversations)).items[0].unread == 1
        assert (await cara.hear(Welcome)).user == "cara"
        assert [page.live for page in await cara.catch_up()] == [True]


@pytest.mark.anyio
async def test_one_commit_serves_all_ticks_that_waited(tmp_path: Path) -> None:
    """What arrives while a commit is written, in however many ticks, shares the next one."""
    async with gated(tmp_path) as (life, gate):
        await life.users("alice", "bob")
        url = await life.node.listen(ADDRESSES["memory"])
        alice = await life.user(url, "alice")
        send(alice, 1, "opens the conversation")
        await alice.hear(Accepted)
        before = gate.commits
        gate.hold()
        for number in range(2, 12):
            send(alice, number, "one of ten")
            await anyio.wait_all_tasks_blocked()
        await gate.somebody()
        assert gate.commits == before + 1
        assert life.node.uncommitted == 10
        gate.release()
        assert [(await alice.hear(Accepted)).seq for _ in range(10)] == list(range(2, 12))
        assert gate.commits == before + 2
        await alice.told()
        assert life.node.uncommitted == 0


# -- a full disk

_LISTED: Any = (Conversations, Explained)


@pytest.mark.anyio
async def test_a_commit_that_finds_no_room_is_undone(tmp_path: Path) -> None:
    """Scene 22: writers are refused with the time to wait, questions are answered from the disk, nobody else
    hears anything, and a later retry gets the number that was free."""
    async with gated(tmp_path) as (life, gate):
        await life.users("alice", "bob", "cara", "dan")
        made = MakeGroup(
            rid=1, app="default", conversation="G", name="", owner="alice", members=("bob", "cara", "dan")
        )
        await life.node.operate(made)
        url = await life.node.listen(ADDRESSES["memory"])
        alice, bob, cara, dan = [await life.user(url, name) for name in ("alice", "bob", "cara", "dan")]
        for number in range(1, 9):
            send(alice, number, "on disk", "G")
            await alice.hear(Accepted)
        for raw in (alice, bob, cara, dan):
            await raw.told()
        gate.hold()
        send(alice, 9, "no room", "G")
        cara.say(commands.ReadConversation(10, "G", 8))
        await gate.somebody()
        bob.say(commands.ListConversations(rid=11), commands.ExplainUnread(rid=12, conversation="G"))
        await anyio.wait_all_tasks_blocked()
        gate.error = StoreFull("says the test")
        gate.release()
        for raw, rid in ((alice, 9), (cara, 10)):
            refused = await raw.hear(Rejected)
            assert (refused.rid, refused.code) == (rid, Code.STORAGE_FULL)
            assert refused.retry_after_ms > 0
        answers = {type(answer): answer for answer in [await bob.hear(_LISTED), await bob.hear(_LISTED)]}
        assert [seq for seq, _ in answers[Explained].messages] == list(range(1, 9))
        assert answers[Conversations].items[0].head == 8
        for raw in (alice, bob, cara, dan):
            assert await raw.told() == []
        gate.error = None
        send(alice, 9, "fits", "G")
        assert (await alice.hear(Accepted)).seq == 9
        assert isinstance(await cara.ask(lambda rid: commands.ReadConversation(rid, "G", 9)), Done)
        assert len(await dan.told()) == 1


@pytest.mark.anyio
async def test_an_operator_hears_of_a_full_disk(tmp_path: Path) -> None:
    """An operator's command that cannot be written is refused like anybody's, hashed passwords included; what
    only asks is answered."""
    async with gated(tmp_path) as (life, gate):
        await life.users("alice")
        gate.error = StoreFull("says the test")
        for password in (None, "secret"):
            with pytest.raises(Refused) as refused:
                await life.node.operate(AddUser(rid=1, app="default", user="bob", password=password))
            assert refused.value.code is Code.STORAGE_FULL
            assert refused.value.retry_after_ms > 0
        with pytest.raises(Refused) as refused:
            await life.node.operate(ConfigureApp(rid=1, app="second", settings="{}"))
        assert refused.value.code is Code.STORAGE_FULL
        listed = await life.node.operate(ListUsers(rid=1, app="default"))
        assert [row["user"] for row in json.loads(listed.text)] == ["alice"]
        assert json.loads((await life.node.operate(Stats(rid=1))).text)["apps"] == ["default"]
        gate.error = None
        await life.node.operate(AddUser(rid=1, app="default", user="bob", password="secret"))


# -- a disk that fails


@pytest.mark.anyio
async def test_a_disk_that_fails_stops_the_node_at_once(tmp_path: Path, caplog: Any) -> None:
    """Nobody is told of what may not be on disk; links end, `running` raises, and what was durable is there
    for the next node."""
    async with gated(tmp_path) as (life, gate):
        await life.users("alice", "bob")
        url = await life.node.listen(ADDRESSES["tcp"])
        alice, bob = [await life.user(url, name) for name in ("alice", "bob")]
        send(alice, 1, "durable")
        await alice.hear(Accepted)
        await bob.told()
        heard = len(alice.heard), len(bob.heard)
        gate.hold()
        send(alice, 2, "who knows")
        await gate.somebody()
        gate.error = StoreFailed("the disk reports an error")
        gate.release()
        for raw in (alice, bob):
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await raw.hear(object)
        assert (len(alice.heard), len(bob.heard)) == heard
        await life.ended.wait()
        assert isinstance(life.error, StoreFailed)
        assert "the disk reports an error" in str(life.error)
    assert "the node stops" in caplog.text
    async with living(Node(SQLiteStore(tmp_path), heartbeat_ms=LONG_MS)) as life:
        bob = await life.user(await life.node.listen(ADDRESSES["memory"]), "bob")
        (page,) = [update for update in bob.heard if isinstance(update, CatchUp)]
        assert [message.body for message in page.parts[0].messages] == ["durable"]


class UnreadableStore(SQLiteStore):
    """One whose conversations cannot be read any more."""

    error: Exception | None = None

    def conversation(self, app: str, conversation: str) -> ConversationRows | None:
        if self.error is not None:
            raise self.error
        found = super().conversation(app, conversation)
        assert found is not None
        return found._replace(marks=[mark._replace(marks=b"\xc1") for mark in found.marks])


@pytest.mark.anyio
@pytest.mark.parametrize("error", [StoreFailed("unreadable"), None], ids=["failed", "damaged"])
async def test_what_cannot_be_read_stops_the_node(tmp_path: Path, error: Exception | None) -> None:
    """Storage that fails a question, or answers with rows that are none, ends the node instead of leaving
    somebody waiting; whoever operates it at that moment hears so."""
    async with living(Node(SQLiteStore(tmp_path))) as life:
        await life.users("alice", "bob")
        await life.node.operate(
            MakeGroup(rid=1, app="default", conversation="G", name="", owner="alice", members=("bob",))
        )
        alice = await life.user(await life.node.listen(ADDRESSES["memory"]), "alice")
        send(alice, 1, "with a mark", "G")
        await alice.hear(Accepted)
        bob = await life.user(life.node.urls[0], "bob")
        await bob.ask(lambda rid: commands.ReadConversation(rid, "G", 1))
    store = UnreadableStore(tmp_path)
    store.error = error
    async with living(Node(store)) as life:
        bob = await life.user(await life.node.listen(ADDRESSES["memory"]), "bob")
        answers: list[Any] = []

        async def verify() -> None:
            try:
                answers.append(await life.node.operate(Verify(rid=1, app="default", conversation="G")))
            except Refused as refused:
                answers.append(refused.code)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(verify)
            with pytest.raises(anyio.BrokenResourceError):
                await bob.ask(lambda rid: commands.ExplainUnread(rid=rid, conversation="G"))
        assert answers == [Code.SHUTTING_DOWN]
        await life.ended.wait()
    if error is None:
        assert life.error is not None
        assert not isinstance(life.error, StoreFailed)
    else:
        assert isinstance(life.error, StoreFailed)


@pytest.mark.anyio
async def test_the_block_stumbles_over_a_node_that_is_gone(tmp_path: Path) -> None:
    """Why the node has stopped is what `running` raises, whatever the block raises on its way out."""
    store = GatedStore(tmp_path)
    store.gate = Gate()
    store.gate.error = StoreFailed("no more")
    node = Node(store)

    async def operate() -> None:
        async with node.running():
            await node.operate(AddUser(rid=1, app="default", user="alice"))

    with pytest.raises(StoreFailed):
        await operate()


@pytest.mark.anyio
async def test_mistakes_of_the_block_are_not_hidden(tmp_path: Path) -> None:
    """What the block raises goes on as it is, and the data is let go of all the same."""
    for _ in range(2):
        with pytest.raises(LookupError):
            async with Node(SQLiteStore(tmp_path)).running():
                raise LookupError


# -- the end


@pytest.mark.anyio
async def test_a_graceful_end(tmp_path: Path) -> None:
    """Nobody new is let in and nothing more is taken; what was decided is committed and answered; everybody
    hears goodbye, with the time to come back after."""
    async with gated(tmp_path) as (life, gate):
        await life.users("alice", "bob")
        url = await life.node.listen(ADDRESSES["tcp"])
        alice, bob = [await life.user(url, name) for name in ("alice", "bob")]
        stranger = await life.raw(url)
        gate.hold()
        send(alice, 1, "decided in time")
        await gate.somebody()
        life.stop()
        await anyio.wait_all_tasks_blocked()
        assert json.loads(life.node.health()) == {"status": "draining"}
        with pytest.raises(ConnectionRefusedError):
            await life.raw(url)
        send(alice, 2, "too late")
        bob.say(listing(3))
        await anyio.wait_all_tasks_blocked()
        assert not life.ended.is_set()
        gate.release()
        assert (await alice.hear(Accepted)).seq == 1
        for raw in (alice, bob):
            goodbye = await raw.hear(Goodbye)
            assert goodbye.code is Code.SHUTTING_DOWN
            assert goodbye.retry_after_ms > 0
        for raw in (alice, bob, stranger):
            with pytest.raises(anyio.EndOfStream):
                await raw.hear(object)
            await raw.close()
        await life.ended.wait()
        assert life.error is None
    async with living(Node(SQLiteStore(tmp_path))) as life:
        bob = await life.user(await life.node.listen(ADDRESSES["memory"]), "bob")
        (page,) = [update for update in bob.heard if isinstance(update, CatchUp)]
        assert [message.body for message in page.parts[0].messages] == ["decided in time"]


@pytest.mark.anyio
async def test_what_was_told_before_a_graceful_end_is_not_told_again(tmp_path: Path) -> None:
    """That a user's last device has gone is written down by a node that ends: no summary of what was told."""
    async with living(Node(SQLiteStore(tmp_path), heartbeat_ms=LONG_MS)) as life:
        await life.users("olga", "bob")
        await life.node.operate(
            MakeGroup(rid=1, app="default", conversation="G", name="", owner="olga", members=("bob",))
        )
        url = await life.node.listen(ADDRESSES["memory"])
        olga, bob = [await life.user(url, name) for name in ("olga", "bob")]
        olga.say(commands.SendMessage(1, "G", "asks", 1, asks=True))
        await olga.hear(Accepted)
        await bob.ask(lambda rid: commands.ReadMessages(rid, "G", (1, 2), "ok"))
        assert (await olga.hear(GroupRead)).count == 1
    async with living(Node(SQLiteStore(tmp_path), heartbeat_ms=LONG_MS)) as life:
        olga = await life.user(await life.node.listen(ADDRESSES["memory"]), "olga")
        assert [update for update in olga.heard if isinstance(update, ReadStatistics)] == []


@pytest.mark.anyio
async def test_no_tick_is_told_that_the_disk_does_not_know(tmp_path: Path) -> None:
    """No frame, the last word of a node that ends included, carries a tick that the next node on the same
    data would give to something else."""
    async with living(Node(SQLiteStore(tmp_path), heartbeat_ms=LONG_MS)) as life:
        await life.users("alice", "bob")
        url = await life.node.listen(ADDRESSES["memory"])
        alice, bob = [await life.user(url, name) for name in ("alice", "bob")]
        send(alice, 1, "known to the disk")
        await alice.hear(Accepted)
        await bob.told()
        ticks = []
        for rid in range(100):
            bob.say(commands.Ping(rid=rid))
            ticks += [decode_update(frame) for frame in await bob.link.receive()]
        life.stop()
        ticks += [decode_update(frame) for frame in await bob.link.receive()]
        await life.leave()
        await life.ended.wait()
    told = [update for update in ticks if update is not None]
    assert isinstance(told[-1][1], Goodbye)
    store = SQLiteStore(tmp_path)
    known = store.open(now_ms=0, life="", secret=b"").tick
    store.close()
    assert max(tick for tick, _ in told) <= known


@pytest.mark.anyio
async def test_who_waits_for_an_answer_when_the_node_ends(tmp_path: Path) -> None:
    """A command in the same process that the end overtakes is refused, and does not hold the end up."""
    node = Node(SQLiteStore(tmp_path))
    errors: list[Code] = []

    async def add() -> None:
        with pytest.raises(Refused) as refused:
            await node.operate(AddUser(rid=1, app="default", user="alice", password="hashing takes a while"))
        errors.append(refused.value.code)

    async with anyio.create_task_group() as tasks, node.running():
        tasks.start_soon(add)
        await checkpoint()
    assert errors == [Code.SHUTTING_DOWN]


# -- bounds


@pytest.mark.anyio
@pytest.mark.parametrize("transport", ["memory", "tcp", "ws"])
async def test_a_reader_that_is_too_slow_is_cut(transport: str, caplog: Any) -> None:
    """Who does not read what comes is cut, alone, once 8 MiB wait; the others have everything."""
    caplog.set_level(logging.WARNING, "receipts.node")
    node = Node(MemoryStore(), inline=True, heartbeat_ms=LONG_MS)
    async with living(node) as life:
        await life.users("alice", "bob", "cara")
        await node.operate(
            MakeGroup(rid=1, app="default", conversation="G", name="", owner="alice", members=("bob", "cara"))
        )
        url = await node.listen(ADDRESSES[transport])
        alice, bob, cara = [await life.user(url, name) for name in ("alice", "bob", "cara")]
        count, body = 0, "x" * 200_000
        while "is cut" not in caplog.text:
            count += 1
            assert count < 500, "64 MiB wait, and nobody was cut"
            send(alice, count, body, "G")
            assert (await alice.hear(Accepted)).seq == count
            await cara.told()
        with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
            await bob.hear(Rejected)  # reads on until the end
        assert len([update for update in cara.heard if getattr(update, "body", "") == body]) == count
        bob = await life.user(url, "bob")
        assert isinstance(await bob.ask(lambda rid: commands.ReadConversation(rid, "G", count)), Done)


@pytest.mark.anyio
async def test_links_wait_when_the_disk_does_not_keep_up(tmp_path: Path) -> None:
    """Beyond `UNCOMMITTED_MAX` commands nothing more is read from links until a commit has returned; then all
    of it is answered."""
    async with gated(tmp_path) as (life, gate):
        await life.users("alice", "bob")
        url = await life.node.listen(ADDRESSES["memory"])
        alice, bob = [await life.user(url, name) for name in ("alice", "bob")]
        gate.hold()
        send(alice, 1, "slow")
        await gate.somebody()
        chunk, sent = 5000, 0
        pings = [encode_command(commands.Ping(rid=rid)) for rid in range(1, chunk + 1)]
        while not bob.link.buffered:
            assert sent <= 2 * runner.UNCOMMITTED_MAX
            bob.link.send(pings)
            sent += chunk
            await anyio.wait_all_tasks_blocked()
        assert runner.UNCOMMITTED_MAX < life.node.uncommitted <= runner.UNCOMMITTED_MAX + chunk
        gate.release()
        assert (await alice.hear(Accepted)).seq == 1
        for number in range(sent):
            assert (await bob.hear(Pong)).rid == number % chunk + 1
        await alice.told()
        assert life.node.uncommitted == 0


# -- several faces


@pytest.mark.anyio
async def test_the_file_is_as_safe_as_it_can_be(tmp_path: Path) -> None:
    """While a node runs, its file is in WAL mode and every commit is synced."""
    store = SQLiteStore(tmp_path)
    async with living(Node(store)) as life:
        await life.users("alice")
        assert store._rows("PRAGMA synchronous") == [(2,)]
        assert store._rows("PRAGMA journal_mode") == [("wal",)]
        with sqlite3.connect(f"file:{store.path}?mode=ro", uri=True) as db:
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        db.close()


@pytest.mark.anyio
async def test_the_operators_socket(tmp_path: Path) -> None:
    """An operator's tool asks and is answered in JSON, and is told what was wrong with a request; what is no
    request ends its link, and that alone."""
    async with living(Node(SQLiteStore(tmp_path / "data"), heartbeat_ms=LONG_MS)) as life:
        url = await life.node.listen_operator(f"tcp+unix://{tmp_path}/operator.sock")
        link = (await life.raw(url)).link

        async def ask(frame: str) -> dict[str, Any]:
            link.send([frame])
            (answer,) = await link.receive()
            found: dict[str, Any] = json.loads(answer)
            return found

        add = AddUser(rid=7, app="default", user="alice")
        assert await ask(encode_request(add)) == {"type": "Done", "rid": 7}
        again = await ask(encode_request(add))
        assert (again["type"], again["rid"], again["code"]) == ("Rejected", 7, "already_exists")
        assert (await ask('{"type": "AddUser", "rid": 8}'))["code"] == "invalid"
        assert (await ask('{"type": "SendMessage", "rid": 9}'))["rid"] == 9
        listed = await ask(encode_request(ListUsers(rid=10, app="default")))
        assert [row["user"] for row in json.loads(listed["text"])] == ["alice"]
        second = (await life.raw(url)).link
        second.send(["this is no request"])
        (last,) = await second.receive()
        assert json.loads(last)["code"] == "bad_frame"
        with pytest.raises(anyio.EndOfStream):
            await second.receive()
        assert (await ask(encode_request(Stats(rid=11))))["rid"] == 11


@pytest.mark.anyio
async def test_operating_in_the_same_process(tmp_path: Path) -> None:
    """`operate` gives the answer or raises the refusal, and leaves no session behind, cancelled or not."""
    async with gated(tmp_path) as (life, gate):
        operate = life.node.operate
        await life.users("alice")
        with pytest.raises(Refused) as refused:
            await operate(AddUser(rid=1, app="default", user="alice"))
        assert refused.value.code is Code.ALREADY_EXISTS
        gate.hold()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(operate, AddUser(rid=1, app="default", user="bob"))
                await gate.somebody()
                scope.cancel()
        gate.release()
        listed = await operate(ListUsers(rid=1, app="default"))  # cancelled was the waiting, not the command
        assert [row["user"] for row in json.loads(listed.text)] == ["alice", "bob"]
        await anyio.wait_all_tasks_blocked()
        assert json.loads((await operate(Stats(rid=1))).text)["sessions"] == 2  # the node's own, and this


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/", "/health"])
async def test_health(tmp_path: Path, path: str) -> None:
    """The websocket listener answers a plain GET."""
    async with living(Node(SQLiteStore(tmp_path))) as life:
        url = await life.node.listen(ADDRESSES["ws"])
        host, _, port = url.removeprefix("ws://").rstrip("/").partition(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            answer = b"".join([part async for part in stream])
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert json.loads(body) == {"status": "ok"}


class BrittleLink(Link):
    """A link with a mistake in it: it cannot take the word 'crash'."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.peer = link.peer

    async def receive(self) -> list[Frame]:
        frames = await self._link.receive()
        if any(isinstance(frame, bytes) and b"crash" in frame for frame in frames):
            raise ZeroDivisionError("a mistake in this link")
        return frames

    def send(self, frames: Any) -> None:
        self._link.send(frames)

    @property
    def buffered(self) -> int:
        return self._link.buffered

    async def drained(self, below: int = 0) -> None:
        await self._link.drained(below)

    def close(self) -> None:
        self._link.close()

    def abort(self) -> None:
        self._link.abort()

    async def wait_closed(self) -> None:
        await self._link.wait_closed()


class BrittleListener(Listener):
    """A listener that hands out brittle links."""

    def __init__(self, inner: Listener) -> None:
        self._inner = inner
        self.url = inner.url

    async def serve(self, handler: Handler) -> None:
        await self._inner.serve(lambda link: handler(BrittleLink(link)))

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _listen_brittle(url: str, **options: Any) -> Listener:
    return BrittleListener(await transports.listen("memory://brittle", **options))


transports.register("brittle", transports.memory.connect, _listen_brittle)


@pytest.mark.anyio
async def test_a_mistake_in_one_link_ends_that_link(tmp_path: Path, caplog: Any) -> None:
    """An exception in what serves one link is logged and ends it; the node and all other links go on."""
    async with living(Node(SQLiteStore(tmp_path), heartbeat_ms=LONG_MS)) as life:
        await life.users("alice", "bob")
        url = await life.node.listen("brittle://")
        alice, bob = [await life.user(url, name) for name in ("alice", "bob")]
        send(alice, 1, "crash")
        with pytest.raises(anyio.BrokenResourceError):
            await alice.hear(Accepted)
        assert isinstance(await bob.ask(listing), Conversations)
        alice = await life.user(url, "alice")
        send(alice, 1, "all is well")
        assert (await alice.hear(Accepted)).seq == 1
        assert len(await bob.told()) == 1
    assert "a mistake in this link" in caplog.text
    assert life.error is None


class Witness:
    """Notes what an observer is told."""

    def __init__(self) -> None:
        self.ticks: list[Tick] = []
        self.commits: list[tuple[float, BaseException | None]] = []

    def ticked(self, tick: Tick) -> None:
        self.ticks.append(tick)

    def committed(self, seconds: float, error: BaseException | None) -> None:
        self.commits.append((seconds, error))


@pytest.mark.anyio
async def test_an_observer(tmp_path: Path) -> None:
    """An observer hears of every tick and of every commit, of those that failed with the error."""
    store = GatedStore(tmp_path)
    store.gate = gate = Gate()
    witness = Witness()
    async with living(Node(store, observer=witness)) as life:
        await life.users("alice")
        assert [error for _, error in witness.commits] == [None] * gate.commits
        assert all(seconds >= 0 for seconds, _ in witness.commits)
        assert [tick.writes for tick in witness.ticks].count(True) >= gate.commits
        gate.error = full = StoreFull("says the test")
        with pytest.raises(Refused):
            await life.users("bob")
        assert witness.commits[-1][1] is full
        gate.error = None


# -- time, which here is the test's


def timed(main: Callable[[], Any]) -> None:
    """Run on trio with a clock that jumps to the next deadline when all wait."""
    import trio.testing

    clock = trio.testing.MockClock(autojump_threshold=0)
    anyio.run(main, backend="trio", backend_options={"clock": clock})


def node_time() -> int:
    """The event loop's, as a node's clock."""
    return NOW_MS + round(anyio.current_time() * 1000)


def test_sweeps_end_silent_sessions() -> None:
    """A session that is silent for two heartbeats hears why and is closed; one that pings, or has never said
    anything but is young, stays."""

    async def main() -> None:
        node = Node(MemoryStore(), inline=True, clock=node_time, heartbeat_ms=30_000)
        async with living(node) as life:
            await life.users("alice", "bob")
            url = await node.listen(ADDRESSES["memory"])
            alice, bob = [await life.user(url, name) for name in ("alice", "bob")]
            mute = await life.raw(url)
            began = anyio.current_time()
            for _ in range(4):
                await anyio.sleep(25)
                await bob.ask(lambda rid: commands.Ping(rid=rid))
            goodbye = await alice.hear(Goodbye)
            assert goodbye.code is Code.IDLE
            with pytest.raises(anyio.EndOfStream):
                await alice.hear(object)
            with pytest.raises(anyio.EndOfStream):
                await mute.hear(object)
            assert await bob.told() == []
            young = await life.user(url, "alice")
            assert isinstance(await young.ask(listing), Conversations)
            assert anyio.current_time() - began < 101

    timed(main)


def test_sweeps_let_receipts_expire() -> None:
    """Group receipts expire at their time, without anybody doing anything, and the asker is told."""
    settings = json.dumps({"limits": {"group_receipts_kept_ms": 60_000}})

    async def main() -> None:
        node = Node(
            MemoryStore(), inline=True, clock=node_time, heartbeat_ms=LONG_MS, apps={"default": settings}
        )
        async with living(node) as life:
            await life.users("olga", "bob")
            await node.operate(
                MakeGroup(rid=1, app="default", conversation="G", name="", owner="olga", members=("bob",))
            )
            url = await node.listen(ADDRESSES["memory"])
            olga, bob = [await life.user(url, name) for name in ("olga", "bob")]
            olga.say(commands.SendMessage(1, "G", "asks", 1, asks=True))
            sent = anyio.current_time()
            await olga.hear(Accepted)
            await bob.ask(lambda rid: commands.ReadMessages(rid, "G", (1, 2), "ok"))
            await olga.hear(GroupRead)
            expired = await olga.hear(object)
            assert type(expired).__name__ == "GroupReceiptsExpired"
            assert 60 <= anyio.current_time() - sent <= 62

    timed(main)


class FullStore(MemoryStore):
    """Memory that has no room for as long as it is told so."""

    full = False

    def commit(self, batch: Batch) -> None:
        if self.full:
            raise StoreFull("says the test")
        super().commit(batch)


def test_receipts_that_found_no_room_are_said_again() -> None:
    """A client keeps what was refused for lack of room, of every kind, and says it again when the node asked
    it to: nothing is lost and nobody has to reconnect."""

    async def main() -> None:
        store = FullStore()
        node = Node(store, inline=True, clock=node_time, heartbeat_ms=LONG_MS)
        async with living(node) as life:
            await life.users("olga", "bob")
            await node.operate(
                MakeGroup(rid=1, app="default", conversation="G", name="", owner="olga", members=("bob",))
            )
            url = await node.listen(ADDRESSES["memory"])
            olga = await life.user(url, "olga")
            token = await life.token("bob")
            bob = connect(url, user="bob", device="phone", token=token, coalesce_ms=LONG_MS)
            async with bob:
                for number in range(1, 5):
                    olga.say(commands.SendMessage(number, "G", "hello", number, asks=number > 2))
                    await olga.hear(Accepted)
                send(olga, 5, "hello", direct("bob", "olga"))
                await bob.until(lambda: bob.unread("G") == 4 and bob.unread("olga") == 1)
                store.full = True
                await bob.read_messages("G", [1, 2])
                await bob.read_messages("G", [3])
                await bob.read_messages("G", [4], "ok")
                await bob.read("olga")
                node_session = next(
                    one for one in node.hub.world.sessions if one.user is not None and one.user.name == "bob"
                )
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(bob.flush)
                    await anyio.sleep(2)
                    assert not bob.session.flushed
                    store.full = False
                assert bob.session.flushed
                assert node_session in node.hub.world.sessions, "it had to reconnect"
                for name in ("G", "olga"):
                    assert (await bob.explain(name)).unread == 0
            answered = [update for update in olga.heard if isinstance(update, GroupRead)]
            answered += [update for update in await olga.told() if isinstance(update, GroupRead)]
            assert {(update.seq, update.readers[0].content) for update in answered} == {(3, ""), (4, "ok")}
            held = await olga.ask(lambda rid: commands.GetStatus(rid=rid, conversation="G", seqs=(1, 2)))
            assert isinstance(held, Statuses)
            assert all(item.delivered is True for item in held.items)

    timed(main)


def test_a_page_that_found_no_room_comes_all_the_same() -> None:
    """A device that catches up while the disk is full gets all its pages and turns live: reading needs no
    room, even when its acknowledgements stood in ticks that were undone."""
    settings = json.dumps({"limits": {"page_bytes_max": 1000}})

    async def main() -> None:
        store = FullStore()
        node = Node(store, inline=True, clock=node_time, heartbeat_ms=LONG_MS, apps={"default": settings})
        async with living(node) as life:
            await life.users("alice", "bob")
            url = await node.listen(ADDRESSES["memory"])
            alice = await life.user(url, "alice")
            for number in range(1, 20):
                send(alice, number, "x" * 500)
                await alice.hear(Accepted)
            bob = await life.raw(url)
            bob.say(log_in("bob", "phone", await life.token("bob")))
            await bob.hear(Welcome)
            page = await bob.hear(CatchUp)
            store.full = True
            pages = 1
            while not page.live:
                send(alice, 100 + pages, "no room")
                bob.say(commands.AckPage(rid=0, token=page.token))
                page = await bob.hear(CatchUp)
                assert (await alice.hear(Rejected)).code is Code.STORAGE_FULL
                pages += 1
            assert pages > 5
            store.full = False
            send(alice, 200, "room")
            assert [getattr(update, "body", None) for update in await bob.told()] == ["room"]

    timed(main)
