"""Links break, devices die, nodes move: nothing is lost or doubled, and in the end everybody agrees."""

from __future__ import annotations

import random
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from receipts.client.connection import connect
from receipts.client.news import Offline, Online
from receipts.core.errors import Code, Refused
from receipts.core.ids import direct
from receipts.core.status import Status
from receipts.node.commands import AddUser, RevokeTokens
from receipts.node.runner import Node
from receipts.storage.memory import MemoryStore
from receipts.storage.sqlite import SQLiteStore
from receipts.wire import commands
from receipts.wire.updates import CatchUp, Delivered, Goodbye
from tests.e2e.agreement import check_counts, check_fresh, settle
from tests.e2e.stage import Device, Stage, Wire, simulated, staged
from transports.faulty import Cut, FaultyProxy, Plan

AB = direct("alice", "bob")

TRANSPORTS = ("memory", "tcp", "websocket")
SOCKETS = ("tcp", "websocket")


async def pair(stage: Stage, **options: Any) -> tuple[Device, Device]:
    """Alice's phone and bob's phone."""
    await stage.users("alice", "bob")
    return await stage.device("alice", **options), await stage.device("bob", **options)


async def chatter(stage: Stage, devices: list[Device], count: int, rng: random.Random) -> None:
    """Everybody writes, reads and marks at the same time."""

    async def one(device: Device) -> None:
        peer = "bob" if device.me.user == "alice" else "alice"
        for number in range(count):
            await device.me.send(peer, f"{device.me.user} {device.me.device} {number}")
            last = device.me.session.replica.last(AB)
            if rng.random() < 0.5:
                await device.me.read(peer, rng.randint(1, last))
            else:
                await device.me.read_messages(peer, [rng.randint(1, last)])
            if rng.random() < 0.1:
                await device.me.mark_unread(peer)

    async with anyio.create_task_group() as tasks:
        for device in devices:
            tasks.start_soon(one, device)


def wipe(directory: Path) -> None:
    """The device's storage is gone."""
    for file in directory.glob("bob.db*"):
        file.unlink()


async def nothing_lost(stage: Stage, devices: list[Device], count: int) -> None:
    """Every message is there once, in the order of its writer, and everybody agrees."""
    await settle(stage)
    await check_counts(stage)
    for device in devices:
        bodies = [
            str(m.body)
            for m in device.me.messages("bob" if device.me.user == "alice" else "alice", limit=1000)
        ]
        assert len(bodies) == len(devices) * count
        for writer in devices:
            name = f"{writer.me.user} {writer.me.device} "
            assert [b for b in bodies if b.startswith(name)] == [f"{name}{n}" for n in range(count)]
    await check_fresh(stage)


# -- links that break


@pytest.mark.anyio
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_cuts_between_frames(transport: str, tmp_path: Path) -> None:
    """Links that break before or after any frame, either way, lose and double nothing (I-13, I-23)."""
    rng = random.Random(7)

    async def play(stage: Stage) -> None:
        devices = [*await pair(stage, coalesce_ms=0), await stage.device("bob", "tablet", coalesce_ms=0)]
        for device in devices:
            device.wire.plan = lambda attempt: Plan.draw(rng, 20) if attempt < 2 else Plan()
            device.wire.cut()
            device.wire.heal()
        await chatter(stage, devices, 12, rng)
        assert all(device.wire.links > 1 for device in devices)
        await nothing_lost(stage, devices, 12)

    await staged(transport, tmp_path, play)


@pytest.mark.anyio
@pytest.mark.parametrize("transport", SOCKETS)
async def test_cuts_inside_frames(transport: str, tmp_path: Path) -> None:
    """Links that break in the middle of a frame, and bytes that come one by one, lose and double nothing."""
    rng = random.Random(11)

    async def play(stage: Stage) -> None:
        async with FaultyProxy(stage.url) as proxy:
            wire = Wire(proxy.url)
            devices = [
                await stage.device("alice", wire=wire, coalesce_ms=0),
                await stage.device("bob", coalesce_ms=0),
            ]

            def unlucky(attempt: int) -> Plan:
                proxy.renew()
                if attempt < 3:
                    proxy.to_server.cut_after = 600 + rng.randrange(600) if attempt % 2 else None
                    proxy.to_client.cut_after = None if attempt % 2 else 700 + rng.randrange(600)
                proxy.to_client.split = attempt == 3
                return Plan()

            wire.plan = unlucky
            unlucky(0)
            wire.cut()
            wire.heal()
            await chatter(stage, devices, 20, rng)
            assert wire.links > 2
            await nothing_lost(stage, devices, 20)

    async def begin(stage: Stage) -> None:
        await stage.users("alice", "bob")
        await play(stage)

    await staged(transport, tmp_path, begin)


@pytest.mark.anyio
@pytest.mark.parametrize("transport", SOCKETS)
async def test_half_open(transport: str, tmp_path: Path) -> None:
    """A node that does not answer any more, on a link that looks alive, is left for a new link."""

    async def play(stage: Stage) -> None:
        await stage.users("alice", "bob")
        bob = await stage.device("bob")
        async with FaultyProxy(stage.url) as proxy:
            wire = Wire(proxy.url)
            alice = await stage.device("alice", wire=wire)
            stalled = proxy.to_client
            proxy.renew()
            stalled.stall()
            accepted = await alice.me.send("bob", "into the void")
            assert (accepted.seq, wire.links) == (1, 2)
            await bob.told()
            assert [m.body for m in bob.me.messages("alice")] == ["into the void"]
            stalled.resume()

    await staged(transport, tmp_path, play, heartbeat_ms=400)


def test_resume_in_pages(tmp_path: Path) -> None:
    """A device that is cut again and again while it catches up gets no body twice but those of one page."""

    async def play(stage: Stage) -> None:
        alice, bob = await pair(stage)
        for n in range(5):
            await alice.me.send("bob", f"before {n}")
        await bob.has("alice", 5)
        bob.wire.cut()
        before = len(bob.wire.received)
        for n in range(60):
            await alice.me.send("bob", f"{n:02} " + "x" * 100)
        first = bob.wire.links
        # Welcome and two or three pages pass on each of three links.
        cuts = [Cut(index=3, when="after"), Cut(index=4, when="before"), Cut(index=3, when="before")]
        bob.wire.plan = lambda attempt: (
            Plan(receive_cut=cuts[attempt - first]) if attempt - first < len(cuts) else Plan()
        )
        bob.wire.heal()
        await bob.me.until(lambda: bob.me.online and bob.wire.links > first + 2)
        pages = [one for one in bob.wire.received[before:] if isinstance(one, CatchUp)]
        assert not any(page.full for page in pages)
        got = [
            message.seq
            for page in pages
            for part in page.parts
            for message in part.messages
            if message.seq > 5
        ]
        assert sorted(set(got)) == list(range(6, 66))
        assert len(got) == 60  # what was handed to the device was not handed out again
        assert len(pages) > 6
        await settle(stage)
        await check_counts(stage)
        await check_fresh(stage)

    apps = {"default": '{"limits": {"page_bytes_max": 800}}'}
    simulated(play, tmp_path, apps=apps)


# -- devices that die


@pytest.mark.anyio
async def test_killed_device(tmp_path: Path) -> None:
    """A device that is killed at any moment has all that it told anybody, and sends nothing twice (I-24)."""
    rng = random.Random(5)

    async def play(stage: Stage) -> None:
        await stage.users("alice", "bob")
        bob = await stage.device("bob", coalesce_ms=0)
        path = tmp_path / "alice.db"
        accepted: set[str] = set()
        told = 0
        for run in range(3):
            arguments = [stage.url, "alice", await stage.token("alice"), str(path), str(run)]
            program = [sys.executable, str(Path(__file__).with_name("device_process.py")), *arguments]
            process = await anyio.open_process(program, stdout=-1, stderr=None)
            assert process.stdout is not None
            lines = 0
            wanted = rng.randint(6, 20)
            rest = b""
            async with anyio.create_task_group() as tasks:
                while lines < wanted:
                    rest += await process.stdout.receive()
                    *whole, rest = rest.split(b"\n")
                    lines += len(whole)
                    accepted |= {line.split()[1].decode() for line in whole if line.startswith(b"accepted")}
                    told += 1
                    tasks.start_soon(bob.me.send, "alice", f"bob {run} {told}")
            process.kill()
            await process.wait()
            await process.aclose()
        await bob.told()
        sent = [str(m.body) for m in bob.me.messages("alice", limit=1000) if m.author == "alice"]
        assert len(sent) == len(set(sent))
        assert accepted <= set(sent)
        shown = {m.seq for m in bob.me.messages("alice", limit=1000) if m.author == "bob"}
        delivered = {seq for seq in shown if bob.me.status("alice", seq) >= Status.DELIVERED}
        assert delivered
        nowhere = "memory://nobody"
        async with connect(nowhere, user="alice", device="phone", token="", path=path, wait=False) as dead:
            kept = {m.seq for m in dead.messages("bob", limit=1000)}
            assert delivered <= kept
        back = await stage.device("alice", path=path)
        await settle(stage)
        await check_counts(stage)
        assert [m.seq for m in back.me.messages("bob", limit=1000)] == [
            m.seq for m in bob.me.messages("alice", limit=1000)
        ]
        assert len({m.body for m in bob.me.messages("alice", limit=1000)}) == len(
            bob.me.messages("alice", limit=1000)
        )
        await check_fresh(stage)

    apps = {"default": '{"limits": {"snapshot_messages": 100000}}'}  # for `check_fresh`
    await staged("tcp", tmp_path, play, apps=apps)


@pytest.mark.anyio
async def test_restart_from_disk(tmp_path: Path) -> None:
    """A device with a file comes back with all it knew, offline too, and asks only for what is new."""

    async def play(stage: Stage) -> None:
        path = tmp_path / "bob.db"
        await stage.users("alice", "bob")
        alice = await stage.device("alice")
        bob = await stage.device("bob", path=path)
        for n in range(3):
            await alice.me.send("bob", str(n))
        await bob.has("alice", 3)
        await bob.me.read("alice", 2)
        await bob.close()
        await alice.told()
        assert alice.me.status("bob", 2) is Status.READ
        wire = Wire(stage.url)
        wire.down()
        await alice.me.send("bob", "3")
        bob = await stage.device("bob", path=path, wire=wire, wait=False)
        assert (bob.me.unread("alice"), len(bob.me.messages("alice"))) == (1, 3)
        await bob.me.read("alice")
        assert bob.me.unread("alice") == 0
        wire.heal()
        await bob.me.until(lambda: bob.me.online)
        pages = [one for one in wire.received if isinstance(one, CatchUp)]
        assert not pages[0].full
        assert 4 in [m.seq for page in pages for part in page.parts for m in part.messages]
        await settle(stage)
        assert [alice.me.status("bob", seq) for seq in (1, 2, 3, 4)] == [Status.READ] * 3 + [Status.DELIVERED]
        await check_counts(stage)
        await check_fresh(stage)

    await staged("tcp", tmp_path, play)


@pytest.mark.anyio
async def test_wiped_device(tmp_path: Path) -> None:
    """A device that lost its storage gets everything again, and its new sends are not taken for old ones."""

    async def play(stage: Stage) -> None:
        path = tmp_path / "bob.db"
        alice, bob = (await pair(stage))[0], None
        bob = await stage.device("bob", "tablet", path=path)
        for n in range(3):
            await bob.me.send("alice", f"first life {n}")
        await alice.me.send("bob", "hello")
        await bob.has("alice", 4)
        await bob.me.flush()
        await bob.close()
        wipe(tmp_path)
        told = len(await alice.told())
        assert told
        bob = await stage.device("bob", "tablet", path=path)
        assert bob.me.unread("alice") == 1
        for n in range(3):
            assert (await bob.me.send("alice", f"second life {n}")).seq == 5 + n
        await settle(stage)
        assert not [one for one in await alice.told() if isinstance(one, Delivered)]  # it had them before
        assert len(alice.me.messages("bob")) == 7
        await check_counts(stage)
        await check_fresh(stage)

    await staged("tcp", tmp_path, play)


@pytest.mark.anyio
async def test_fenced(tmp_path: Path) -> None:
    """Of two that say they are the same device the first is sent away for good, with a reason."""

    async def play(stage: Stage) -> None:
        alice, bob = await pair(stage)
        again = await stage.device("bob")
        with pytest.raises(Refused) as refused:
            await bob.me.until(lambda: False)
        assert refused.value.code is Code.REPLACED
        with pytest.raises(Refused):
            await bob.me.send("alice", "I am still here")
        assert bob.wire.links == 1
        await again.me.send("alice", "it is me")
        await alice.told()
        assert [m.body for m in alice.me.messages("bob")] == ["it is me"]

    await staged("tcp", tmp_path, play)


@pytest.mark.anyio
@pytest.mark.parametrize("transport", SOCKETS)
async def test_slow_reader(transport: str, tmp_path: Path) -> None:
    """Who does not read is cut before the node drowns in what they are owed, and resumes; nothing is lost."""

    async def play(stage: Stage) -> None:
        alice, bob = await pair(stage)
        slow = await stage.raw("bob", "slow")
        session = next(one for one in stage.node.hub.world.sessions if one.device == "slow")
        body = "x" * 250_000
        count = 0
        while session.state != "closed":
            await alice.me.send("bob", body)
            count += 1
            assert count < 200
        for _ in range(count, count + 3):
            await alice.me.send("bob", "after")
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await slow.hear(Goodbye)
        back = await stage.raw("bob", "slow", resume=slow.token, catch_up=False)
        pages = await back.catch_up()
        got = [message.seq for page in pages for part in page.parts for message in part.messages]
        assert got == list(range(1, count + 4))
        await bob.has("alice", count + 3)

    await staged(transport, tmp_path, play, store=MemoryStore())


# -- time


def test_idle_sessions_end(tmp_path: Path) -> None:
    """A session that says nothing for two heartbeats is sent away; a client that waits stays."""

    async def play(stage: Stage) -> None:
        alice, bob = await pair(stage)
        silent = await stage.raw("bob", "silent")
        before = anyio.current_time()
        assert (await silent.hear(Goodbye)).code is Code.IDLE
        assert 60 <= anyio.current_time() - before <= 62
        with pytest.raises(anyio.EndOfStream):
            await silent.hear(Goodbye)
        await anyio.sleep(3600)
        assert (alice.wire.links, bob.wire.links) == (1, 1)
        pings = len(alice.said(commands.Ping))
        assert pings <= 3600 / 30 + 2
        await alice.me.send("bob", "still here")
        await bob.told()
        assert bob.me.unread("alice") == 1

    simulated(play, tmp_path)


def test_back_off(tmp_path: Path) -> None:
    """While the node is away a client tries soon, then ever less often, and at least every half minute."""

    async def play(stage: Stage) -> None:
        alice, bob = await pair(stage)
        news: list[Offline] = []
        bob.me.on(Offline, news.append)
        back: list[float] = []
        bob.me.on(Online, lambda _: back.append(anyio.current_time()))
        bob.wire.refusing = True
        assert bob.wire.link is not None
        bob.wire.link.abort()
        await alice.me.send("bob", "are you there?")
        await anyio.sleep(3600)
        waits = [one.retry_in_ms for one in news]
        assert waits[0] <= 250
        assert all(wait <= 30_000 for wait in waits)
        assert all(wait >= 15_000 for wait in waits[10:])
        assert 120 <= len(waits) <= 300
        bob.wire.refusing = False
        healed = anyio.current_time()
        await bob.me.until(lambda: bob.me.online)
        assert back[-1] - healed <= 30
        assert bob.me.unread("alice") == 1
        again = len(news)
        assert bob.wire.link is not None
        bob.wire.link.abort()
        await bob.me.until(lambda: len(news) > again)
        assert news[-1].retry_in_ms <= 250  # patience begins anew

    simulated(play, tmp_path)


@pytest.mark.parametrize("seed", range(5))
def test_delays_and_cuts(seed: int, tmp_path: Path) -> None:
    """Frames that take seconds, and links that break while they do, change nothing in the end."""

    async def play(stage: Stage) -> None:
        rng = random.Random(seed)
        devices = [
            *await pair(stage),
            await stage.device("bob", "tablet"),
            await stage.device("alice", "tablet"),
        ]
        for device in devices:
            device.wire.plan = lambda attempt: Plan(
                send_cut=Cut(index=rng.randrange(30)) if attempt % 2 else None,
                receive_cut=Cut(index=rng.randrange(30), when="after") if attempt % 3 else None,
                receive_delay_seconds=(0, rng.choice((0.1, 5.0))),
            )
            device.wire.cut()
            device.wire.heal()
        await chatter(stage, devices, 30, rng)
        await nothing_lost(stage, devices, 30)

    simulated(play, tmp_path)


# -- nodes that move


@pytest.mark.anyio
async def test_drain(tmp_path: Path) -> None:
    """A node that shuts down says so; its clients find the next one, and what was on its way is sent once."""
    directory = tmp_path / "node"
    news: list[Any] = []

    async with anyio.create_task_group() as tasks, Restarting("tcp", directory, tasks) as stage:
        await stage.users("alice", "bob")
        alice, bob = await stage.device("alice"), await stage.device("bob")
        for kind in (Goodbye, Offline, Online):
            alice.me.on(kind, news.append)
        await alice.me.send("bob", "to the first")
        await bob.has("alice", 1)
        await stage.stop()
        await alice.me.until(lambda: any(isinstance(one, Offline) for one in news))
        assert [one.code for one in news if isinstance(one, Goodbye)] == [Code.SHUTTING_DOWN]
        async with anyio.create_task_group() as sending:
            sending.start_soon(alice.me.send, "bob", "to whom it may concern")
            await bob.me.read("alice", 1)
            while not alice.me.session.outbox.sends:
                await checkpoint()
            await stage.again()
        await bob.has("alice", 2)
        await settle(stage)
        assert alice.me.status("bob", 1) is Status.READ
        await check_counts(stage)
        assert [m.body for m in bob.me.messages("alice")] == ["to the first", "to whom it may concern"]
        await stage.close()


class Restarting(Stage):
    """A stage whose node can be stopped and started again, on the same directory at another address."""

    def __init__(self, transport: str, directory: Path, tasks: anyio.abc.TaskGroup) -> None:
        super().__init__(transport, directory, tasks)
        self._stop: Callable[[], Awaitable[None]]

    async def again(self) -> None:
        """Start a node; wires lead there from now on."""
        node = Node(SQLiteStore(self.directory), clock=lambda: self.now_ms, heartbeat_ms=10**9)
        _, self._stop = await self.hold(node.running())
        self._closers.pop()
        await self.start(node)
        for device in self.devices:
            device.wire.target = self.url
            device.wire.heal()

    async def stop(self) -> None:
        """Shut the node down in good order."""
        for device in self.devices:
            device.wire.down()
        await self._stop()

    async def __aenter__(self) -> Restarting:
        await self.again()
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.move_on_after(10, shield=True):
            await self.close()
            await self._stop()


# -- who comes in


@pytest.mark.anyio
async def test_tokens_revoked(tmp_path: Path) -> None:
    """Revoked tokens end sessions, and do not open new ones; a fresh one does."""

    async def play(stage: Stage) -> None:
        alice, bob = await pair(stage)
        old = await stage.token("bob")
        await stage.node.operate(RevokeTokens(rid=1, app="default", user="bob"))
        with pytest.raises(Refused) as refused:
            await bob.me.until(lambda: False)
        assert refused.value.code is Code.LOGGED_OUT
        with pytest.raises(Refused) as refused:
            await stage.device("bob")
        assert refused.value.code is Code.TOKEN_REVOKED
        stage.forget_tokens()
        fresh = await stage.token("bob")
        assert fresh != old

        async def ask() -> str:
            await checkpoint()
            return fresh

        back = await stage.device("bob", token=ask)
        await alice.me.send("bob", "welcome back")
        await back.has("alice", 1)

    await staged("tcp", tmp_path, play)


@pytest.mark.anyio
async def test_passwords(tmp_path: Path) -> None:
    """A password lets its user in, a wrong one nobody; changing it ends the other sessions."""

    async def play(stage: Stage) -> None:
        await stage.node.operate(AddUser(rid=1, app="default", user="alice", password="secret"))
        alice = await stage.device("alice", password="secret")
        laptop = await stage.device("alice", "laptop", password="secret")
        for user, password in (("alice", "guess"), ("nobody", "secret")):
            with pytest.raises(Refused) as refused:
                await stage.device(user, "tablet", password=password)
            assert refused.value.code is Code.UNAUTHORIZED
        with pytest.raises(Refused) as refused:
            await alice.me.change_password("guess", "better")
        assert refused.value.code is Code.UNAUTHORIZED
        await alice.me.change_password("secret", "better")
        with pytest.raises(Refused) as refused:
            await laptop.me.until(lambda: False)
        assert refused.value.code is Code.LOGGED_OUT
        links = alice.wire.links
        assert alice.wire.link is not None
        alice.wire.link.abort()
        await alice.me.until(lambda: alice.wire.links > links and alice.me.online)  # with the new one
        with pytest.raises(Refused):
            await stage.device("alice", "laptop", password="secret")

    await staged("tcp", tmp_path, play)
