"""The connection: what an application sees, over real links, on every event loop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from receipts.client.connection import Connection, ConnectionLost, connect
from receipts.client.disk import DiskFailed
from receipts.client.news import Lagged, MarkRefused, Online
from receipts.core.errors import Code, LocalProtocolError, Refused
from receipts.core.events import MessageAccepted
from receipts.core.ranges import count
from receipts.core.status import Status
from receipts.wire import commands
from receipts.wire.updates import Accepted, Delivered, Goodbye, Read, Rejected

from .scripted import ScriptedNode

pytestmark = pytest.mark.anyio

CHAT = "alice~bob"


def client(url: str, **options: Any) -> Connection:
    options.setdefault("password", "secret" if "token" not in options else None)
    options.setdefault("coalesce_ms", 0)
    return connect(url, user="bob", device="phone", **options)


@pytest.fixture
async def node() -> Any:
    return ScriptedNode()


@pytest.mark.parametrize("scheme", ["memory", "tcp"])
async def test_the_whole_way(node: ScriptedNode, scheme: str) -> None:
    """Connect, send, receive, acknowledge, read, be told of receipts; over memory and TCP alike (I-31)."""
    with anyio.fail_after(20):
        async with (
            node.running("tcp://127.0.0.1:0" if scheme == "tcp" else "") as url,
            client(url) as me,
        ):
            assert me.online
            sent = await me.send("alice", "hello")
            assert isinstance(sent, Accepted)
            assert me.status("alice", sent.seq) is Status.ACKED
            node.push(Delivered(CHAT, "alice", (1, 2)))
            node.push(Read(CHAT, "alice", (1, 2), 5, 5))
            await me.until(lambda: me.status("alice", 1) is Status.READ)
            node.post("hi")
            await me.until(lambda: me.unread("alice") == 1)
            assert me.unread_seqs("alice") == [2]
            await node.until(lambda: node.all(commands.AckDelivered))
            assert [m.body for m in me.messages("alice")] == ["hello", "hi"]
            me.open_chat("alice")
            assert me.unread(CHAT) == 0
            await me.flush()
            assert [c.through for c in node.all(commands.ReadConversation)] == [2]
            assert me.badge().messages == 0
            assert me.conversations()[0].name == "alice"


async def test_updates_come_once_each_and_typed(node: ScriptedNode) -> None:
    """The stream gives what happens in order, catch-up taken apart, and ends with the connection."""
    node.post("one")
    seen: list[str] = []
    with anyio.fail_after(20):
        async with node.running() as url, anyio.create_task_group() as tasks, client(url) as me:

            async def listen() -> None:
                async for update in me.updates():
                    if isinstance(update, MessageAccepted):
                        seen.append(str(update.body))

            tasks.start_soon(listen)
            node.post("two")
            await me.until(lambda: len(me.messages("alice")) == 2)
            node.cut()
            node.post("three")
            await me.until(lambda: len(me.messages("alice")) == 3)
    assert seen == ["one", "two", "three"]


async def test_handlers(node: ScriptedNode, caplog: pytest.LogCaptureFixture) -> None:
    """Handlers get their type in order; a broken one is logged and stops nothing."""
    got: list[Any] = []
    later: list[Any] = []

    def broken(update: MessageAccepted) -> None:
        raise RuntimeError("mine")

    async def slowly(update: MessageAccepted) -> None:
        later.append(update.seq)
        raise RuntimeError("mine too")

    with anyio.fail_after(20):
        async with node.running() as url, client(url) as me:
            me.on(MessageAccepted, broken)
            me.on(MessageAccepted, slowly)
            me.on(MessageAccepted, lambda update: got.append(update.seq))
            node.post("one")
            node.post("two")
            await me.until(lambda: me.unread("alice") == 2)
            await anyio.wait_all_tasks_blocked()
    assert got == [1, 2]
    assert sorted(later) == [1, 2]
    assert len(caplog.records) == 4


async def test_a_slow_consumer_loses_updates_but_no_state(node: ScriptedNode) -> None:
    """Updates beyond the bound are dropped, the oldest first, and the stream says how many."""
    with anyio.fail_after(20):
        async with node.running() as url, client(url, updates_max=3) as me:
            for number in range(10):
                node.post(str(number))
            await me.until(lambda: me.unread("alice") == 10)
            stream = me.updates()
            lagged = await anext(stream)
            assert lagged == Lagged(count=8)  # ten messages and `Online`, three of them left
            rest = [await anext(stream) for _ in range(3)]
            assert [update.seq for update in rest if isinstance(update, MessageAccepted)] == [8, 9, 10]
            await stream.aclose()  # type: ignore[attr-defined]


async def test_a_send_survives_a_cut_and_goes_out_once(node: ScriptedNode) -> None:
    """A link that breaks between a message and its answer: one message, one answer (scene 7)."""
    broken: list[int] = []

    def once(command: commands.Command) -> bool:
        if isinstance(command, commands.SendMessage) and not broken:
            broken.append(command.number)
            return True
        return False

    node.deaf = once
    with anyio.fail_after(20):
        async with node.running() as url, client(url) as me:
            sent = await me.send("alice", "hello")
            assert sent.seq == 1
            assert [c.number for c in node.all(commands.SendMessage)] == [1, 1]
            assert len(node.messages[CHAT]) == 1
            assert len(me.messages("alice")) == 1


async def test_receipts_survive_a_cut(node: ScriptedNode) -> None:
    """What was read while the link was away is said when it is back."""
    node.post("one")
    with anyio.fail_after(20):
        async with node.running() as url, client(url) as me:
            node.cut()
            await me.until(lambda: not me.online)
            await me.read("alice")
            assert me.unread("alice") == 0
            await me.flush()
            assert me.online
            assert count(node.read.ranges) == 1


async def test_cancelled_send_still_goes_out(node: ScriptedNode) -> None:
    """Giving up the waiting does not take the message back."""
    node.deaf = lambda command: (
        isinstance(command, commands.SendMessage) and len(node.all(commands.Hello)) < 2
    )
    with anyio.fail_after(20):
        async with node.running() as url, client(url) as me:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(me.send, "alice", "hello")
                await node.until(lambda: node.all(commands.SendMessage))
                tasks.cancel_scope.cancel()
            await node.until(lambda: len(node.all(commands.SendMessage)) == 2)
            await me.until(lambda: not me.session.outbox.sends)
            assert len(node.messages[CHAT]) == 1


async def test_refusals_are_exceptions(node: ScriptedNode) -> None:
    """What the node refuses is raised with code, reason and when to come again (R12, R13)."""
    node.answer = lambda command: (
        Rejected(rid=command.rid, code=Code.RATE_LIMITED, reason="slowly", retry_after_ms=700, limit=5)
        if isinstance(command, (commands.SendMessage, commands.CreateGroup))
        else None
    )
    with anyio.fail_after(20):
        async with node.running() as url, client(url) as me:
            with pytest.raises(Refused, match="slowly") as refused:
                await me.send("alice", "hello", counts=False)
            assert (refused.value.code, refused.value.retry_after_ms) == (Code.RATE_LIMITED, 700)
            assert refused.value.limit == 5
            with pytest.raises(Refused):
                await me.create_group("team", ["alice"])


async def test_refused_receipts_are_raised_by_flush(node: ScriptedNode) -> None:
    """A receipt that was refused for good is news, and `flush` raises it once."""
    node.answer = lambda command: (
        Rejected(rid=command.rid, code=Code.NOT_A_MEMBER, reason="you left", conversation=CHAT)
        if isinstance(command, commands.ReadConversation)
        else None
    )
    node.post("one")
    with anyio.fail_after(20):
        async with node.running() as url, client(url) as me:
            told: list[MarkRefused] = []
            me.on(MarkRefused, told.append)
            await me.read("alice")
            with pytest.raises(Refused, match="you left"):
                await me.flush()
            assert [refused.code for refused in told] == [Code.NOT_A_MEMBER]
            await me.flush()


async def test_wrong_password(node: ScriptedNode) -> None:
    """Entering raises what the node said, plainly and not in a group of exceptions."""
    with anyio.fail_after(20):
        async with node.running() as url:
            with pytest.raises(Refused, match="wrong password"):
                async with client(url, password="guess"):
                    raise AssertionError("nobody gets in")


async def test_nobody_there(node: ScriptedNode) -> None:
    """Entering raises the error of the first attempt; without waiting it comes in when the node does."""
    with anyio.fail_after(20):
        with pytest.raises(ConnectionRefusedError):
            async with client("memory://nobody"):
                raise AssertionError("nobody is there")
        async with client("memory://late", wait=False) as me:
            assert not me.online
            await me.until(lambda: me.session.reconnect_at)
            async with node.running("memory://late"):
                await me.until(lambda: me.online)


async def test_a_node_that_says_nothing() -> None:
    """Entering gives up after `connect_timeout`."""

    class Mute(ScriptedNode):
        def _carry_out(self, command: commands.Command, install: str) -> list[Any]:
            return []

    with anyio.fail_after(20):
        async with Mute().running() as url:
            with pytest.raises(TimeoutError):
                async with client(url, connect_timeout=0.05):
                    raise AssertionError("nobody answers")


async def test_errors_of_the_block_stay_as_they_are(node: ScriptedNode) -> None:
    """What the block raises comes out unchanged, cancellation included."""
    with anyio.fail_after(20):
        async with node.running() as url:
            with pytest.raises(KeyError, match="mine"):
                async with client(url):
                    raise KeyError("mine")
            with anyio.CancelScope() as scope:
                async with client(url):
                    scope.cancel()
                    await anyio.sleep_forever()
            assert scope.cancelled_caught


async def test_end_for_good(node: ScriptedNode) -> None:
    """When the node ends the session for good, all that waits is told why, and so is every later call."""
    node.answer = lambda command: (
        Goodbye(code=Code.REPLACED, reason="another login")
        if isinstance(command, commands.GetBadge)
        else None
    )
    with anyio.fail_after(20):
        async with node.running() as url, client(url) as me:
            with pytest.raises(Refused, match="another login"):
                await me.server_badge()
            with pytest.raises(Refused, match="another login"):
                await me.send("alice", "hello")
            stream = me.updates()
            assert [type(await anext(stream)) for _ in range(2)] == [Online, Goodbye]
            with pytest.raises(Refused, match="another login"):
                await anext(stream)
            assert len(node.all(commands.Hello)) == 1


async def test_leaving_sends_what_is_due(node: ScriptedNode) -> None:
    """Receipts that still wait for company go out when the block ends."""
    node.post("one")
    with anyio.fail_after(20):
        async with node.running() as url:
            async with client(url, coalesce_ms=60_000) as me:
                me.open_chat("alice")
            await node.until(lambda: node.all(commands.ReadConversation))
            await node.until(lambda: not node.links)
            with pytest.raises(LocalProtocolError):
                await me.read("alice")


async def test_waiting_ends_with_the_block(node: ScriptedNode) -> None:
    """Who still waits for an answer when the connection is closed gets an error."""
    node.deaf = lambda command: isinstance(command, commands.SendMessage)
    failed: list[Exception] = []

    async def send(me: Connection) -> None:
        try:
            await me.send("alice", "hello")
        except (ConnectionLost, LocalProtocolError) as error:
            failed.append(error)

    with anyio.fail_after(20):
        async with node.running() as url, anyio.create_task_group() as tasks, client(url) as me:
            tasks.start_soon(send, me)
            await node.until(lambda: node.all(commands.SendMessage))
        assert len(failed) == 1


async def test_misuse_is_said_clearly(node: ScriptedNode) -> None:
    """Mistakes of the caller raise at once and send nothing."""
    with pytest.raises(ValueError, match="password or token"):
        connect("memory://x", user="bob", device="phone")
    with anyio.fail_after(20):
        async with node.running() as url:
            outside = client(url)
            with pytest.raises(LocalProtocolError, match="block"):
                await outside.send("alice", "hello")
            async with client(url) as me:
                with pytest.raises(LocalProtocolError, match="peer or a conversation"):
                    await me.send()
                with pytest.raises(LocalProtocolError, match="no frame"):
                    await me.send("alice", "x" * (1 << 20))
                with pytest.raises(LocalProtocolError):
                    await me.send("bob", "to myself")
                with pytest.raises(LocalProtocolError, match="never on screen"):
                    await me.read("alice", 5)
                with pytest.raises(LocalProtocolError, match="once"):
                    await me.__aenter__()
            assert node.all(commands.SendMessage) == []


async def test_tokens_may_be_made_fresh(node: ScriptedNode) -> None:
    """A function gives the token for each login, plain or async."""
    made: list[str] = []

    async def fresh() -> str:
        made.append("signed")
        return "signed"

    with anyio.fail_after(20):
        async with node.running() as url:
            async with client(url, token=fresh) as me:
                node.cut()
                await me.until(lambda: not me.online)
                await me.until(lambda: me.online)
            async with client(url, token=lambda: "signed"):
                pass
    assert made == ["signed", "signed"]


async def test_json_on_the_link(node: ScriptedNode) -> None:
    """A client may speak JSON; nothing else changes."""
    with anyio.fail_after(20):
        async with node.running() as url, client(url, text=True) as me:
            assert (await me.send("alice", "hello")).seq == 1


async def test_every_question_has_its_command(node: ScriptedNode) -> None:
    """Each call sends its command, with a peer's name turned into the conversation."""
    with anyio.fail_after(20):
        async with node.running() as url, client(url) as me:
            node.post("hi")
            await me.until(lambda: me.unread("alice") == 1)
            group = await me.create_group("team", ["alice"])
            assert group.startswith("G-")
            await me.add_members(group, ["cara"])
            await me.remove_members(group, ["cara"])
            await me.rename(group, "crew", description="all")
            await me.mute("alice")
            await me.mark_unread("alice", from_seq=1)
            await me.set_sharing(read=False, conversation="alice")
            await me.clear("alice")
            await me.dissolve(group)
            await me.leave(group)
            await me.log_out("tablet")
            await me.change_password("secret", "better")
            assert (await me.server_badge()).messages == 1
    said = {type(command): command for command in node.heard}
    assert said[commands.CreateGroup] == commands.CreateGroup(
        rid=said[commands.CreateGroup].rid, conversation=group, name="team", members=("alice",)
    )
    assert said[commands.SetMuted].conversation == CHAT  # type: ignore[union-attr]
    assert said[commands.ClearConversation].through == 1  # type: ignore[union-attr]
    assert said[commands.RemoveMembers].users == ("bob",)  # type: ignore[union-attr]


# -- in a file --------------------------------------------------------------------------------------------


async def test_replica_and_outbox_outlive_the_connection(node: ScriptedNode, tmp_path: Path) -> None:
    """With a file the next process resumes: the same install, the same messages, no full state."""
    path = tmp_path / "phone.db"
    node.post("one")
    with anyio.fail_after(20):
        async with node.running() as url:
            async with client(url, path=path) as me:
                await me.send("alice", "two")
                await me.read("alice")
                await me.flush()
            node.post("three")
            async with client(url, path=path) as me:
                assert [m.body for m in me.messages("alice")] == ["one", "two", "three"]
                assert me.unread_seqs("alice") == [3]
                assert (await me.send("alice", "four")).number == 2
    first, second = node.all(commands.Hello)
    assert second.install == first.install
    assert first.resume is None
    assert second.resume is not None


async def test_offline_start(node: ScriptedNode, tmp_path: Path) -> None:
    """From a file a client works without a node, and says later what was done meanwhile."""
    path = tmp_path / "phone.db"
    node.post("one")
    with anyio.fail_after(20):
        async with node.running() as url, client(url, path=path):
            pass
        async with client("memory://away", path=path, wait=False) as me:
            assert me.unread("alice") == 1
            await me.read("alice")
        async with node.running() as url, client(url, path=path) as me:
            assert me.unread("alice") == 0
            await me.flush()
    assert count(node.read.ranges) == 1


async def test_acknowledged_only_when_on_disk(node: ScriptedNode, tmp_path: Path) -> None:
    """Whatever was acknowledged is in the file when the process is killed at that moment (I-24)."""
    path = tmp_path / "phone.db"
    with anyio.fail_after(60):
        async with node.running("tcp://127.0.0.1:0") as url:
            command = [sys.executable, "-m", "tests.client.killed", url, str(path)]
            process = subprocess.Popen(command, cwd=Path(__file__).parents[2])  # noqa: ASYNC220 - it returns at once
            try:
                await node.until(lambda: node.links)
                for number in range(40):
                    node.post(f"body {number}")
                await node.until(lambda: node.all(commands.AckDelivered))
                os.kill(process.pid, signal.SIGKILL)
            finally:
                process.kill()
                await anyio.to_thread.run_sync(process.wait)
            acknowledged = max(ack.ranges[-1] for ack in node.all(commands.AckDelivered))
            sent = {send.number: send.body for send in node.all(commands.SendMessage)}
            node.heard.clear()
            async with client("memory://away", path=path, wait=False) as me:
                assert {m.seq for m in me.messages("alice", limit=1000)} >= set(range(1, acknowledged)) - {
                    m.seq for m in node.sent.values()
                }
                number = me.session.outbox.number
                waiting = set(me.session.outbox.sends)
            assert number >= max(sent, default=0), "a number was used that the file does not know"
            async with client(url, path=path) as me:
                await me.until(lambda: not me.session.outbox.sends)
            again = {send.number: send.body for send in node.all(commands.SendMessage)}
            assert set(again) <= waiting | set(sent)
            assert all(sent[number] == body for number, body in again.items() if number in sent)


async def test_a_file_is_one_devices_own(node: ScriptedNode, tmp_path: Path) -> None:
    """Another device's file, one that is in use, or none of ours is refused with a word on what to do."""
    path = tmp_path / "phone.db"
    with anyio.fail_after(20):
        async with node.running() as url:
            async with client(url, path=path):
                with pytest.raises(DiskFailed, match="in use"):
                    async with client(url, path=path):
                        raise AssertionError("two at once")
            with pytest.raises(LocalProtocolError, match="another device"):
                async with connect(url, user="bob", device="tablet", password="secret", path=path):
                    raise AssertionError("not the tablet's")
            garbage = tmp_path / "garbage"
            garbage.write_bytes(b"not a database at all" * 100)
            with pytest.raises(DiskFailed, match="garbage"):
                async with client(url, path=garbage):
                    raise AssertionError("not a database")
