"""A real node with real devices around it, for tests that go from one application to another.

Every device reaches the node through a `Wire` of its own, a transport that the test holds in its hands: it
notes what passes, fails by plan, and can be down. `Raw` is a device that says what no client of ours would.
Time at the node is the test's (`Stage.now_ms`); receipts wait for `flush`, so that the test says when.
What is unrealistic: node and devices live in one process, though all frames go over the transport at hand.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import anyio
import anyio.abc
from trio.testing import MockClock

import transports
from receipts.client.connection import Connection, connect
from receipts.node.commands import AddUser, ExplainFor, MakeGroup, MakeToken, Sweep
from receipts.node.runner import Node
from receipts.storage.base import Store
from receipts.storage.memory import MemoryStore
from receipts.storage.sqlite import SQLiteStore
from receipts.wire import VERSION, commands, updates
from receipts.wire.codec import decode_command, decode_update, encode_command
from transports.base import Frame, Link
from transports.faulty import FaultyLink, Plan

__all__ = ["LONG_MS", "Device", "Raw", "Stage", "Wire", "log_in", "running", "seqs", "simulated", "staged"]

LONG_MS = 10**9
"""Eleven days: for what is not to happen by itself in a test."""

_T = TypeVar("_T")

_BEATS_FROM = 1 << 40  # numbers that no client reaches by counting


class Wire:
    """One device's way to the node."""

    def __init__(self, target: str) -> None:
        self.target = target
        """The node's URL; a test may move it."""
        self.url = f"wire://{next(_numbers)}"
        """The URL that the device connects to."""
        self.plan: Callable[[int], Plan] = lambda attempt: Plan()
        """What goes wrong, by link, counted from 0."""
        self.links = 0
        """Opened up to now."""
        self.link: Link | None = None
        self.sent: list[commands.Command] = []
        """What the device said, on all links."""
        self.received: list[updates.Update] = []
        """What it heard, on all links."""
        self.mended = True
        """Whether the present link was opened after the last cut."""
        self.refusing = False
        """Whether the node's port is closed."""
        self._up = anyio.Event()
        self._up.set()
        self._beats: dict[int, anyio.Event] = {}
        _wires[self.url] = self

    def cut(self) -> None:
        """Break the link; there is no way to the node until `heal`."""
        self.down()
        self.mended = False
        if self.link is not None:
            self.link.abort()

    def down(self) -> None:
        """No link comes about until `heal`; one that stands is left."""
        if self._up.is_set():
            self._up = anyio.Event()

    def heal(self) -> None:
        """The way is free again."""
        self._up.set()

    async def beat(self) -> None:
        """Ask the node whether it is there: what it said to this device before has arrived after this."""
        assert self.link is not None
        rid = _BEATS_FROM + len(self._beats)
        done = self._beats[rid] = anyio.Event()
        self.link.send([encode_command(commands.Ping(rid=rid))])
        await done.wait()

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[Link]:
        """A link to the node, as `transports.connect` gives it."""
        await self._up.wait()
        if self.refusing:
            raise ConnectionRefusedError("nobody listens, says the test")
        async with transports.connect(self.target, **options) as link:
            self.link = _Tap(FaultyLink(link, self.plan(self.links)), self)
            self.links += 1
            self.mended = True
            yield self.link

    def note_sent(self, frames: Iterable[Frame]) -> None:
        """Frames go out."""
        self.sent += [decode_command(frame) for frame in frames]

    def note_received(self, frames: Iterable[Frame]) -> list[Frame]:
        """Frames have come. Returns those that are for the device."""
        passing = []
        for frame in frames:
            decoded = decode_update(frame)
            assert decoded is not None
            update = decoded[1]
            beat = self._beats.get(update.rid) if isinstance(update, updates.Pong) else None
            if beat is not None:
                beat.set()
                continue
            self.received.append(update)
            passing.append(frame)
        return passing


_wires: dict[str, Wire] = {}
_numbers = count()


@asynccontextmanager
async def _connect(url: str, **options: Any) -> AsyncIterator[Link]:
    async with _wires[url].open(**options) as link:
        yield link


async def _listen(url: str, **options: Any) -> transports.Listener:
    raise OSError("a wire has one end")


transports.register("wire", _connect, _listen)


class _Tap(Link):
    """A link that tells its wire what passes."""

    __slots__ = ("_link", "_wire", "peer")

    def __init__(self, link: Link, wire: Wire) -> None:
        self._link = link
        self._wire = wire
        self.peer = link.peer

    async def receive(self) -> list[Frame]:
        while True:
            frames = self._wire.note_received(await self._link.receive())
            if frames:
                return frames

    def send(self, frames: Sequence[Frame]) -> None:
        self._link.send(frames)
        self._wire.note_sent(frames)

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


class Device:
    """One device of a user: its connection, and its wire."""

    def __init__(self, me: Connection, wire: Wire, close: Callable[[], Awaitable[None]]) -> None:
        self.me = me
        self.wire = wire
        self.close = close
        """Leave in good order: what is due goes out."""
        self._looked = len(wire.received)

    async def told(self) -> list[updates.Update]:
        """All that was pushed to this device since the last look, answers and pages left out."""
        await self.wire.beat()
        looked, self._looked = self._looked, len(self.wire.received)
        return pushes(self.wire.received[looked:])

    async def has(self, conversation: str, seq: int) -> None:
        """Wait until a message is here."""
        name = self.me.conversation(conversation)
        await self.me.until(lambda: self.me.session.replica.chat(name).head >= seq)

    def said(self, kind: type[_T]) -> list[_T]:
        """All frames of a type that this device ever sent."""
        return [command for command in self.wire.sent if isinstance(command, kind)]


class Raw:
    """A device that says what the test says, word by word."""

    def __init__(self, link: Link, close: Callable[[], Awaitable[None]]) -> None:
        self.link = link
        self.close = close
        self.heard: list[updates.Update] = []
        """All that came, in order."""
        self.token = ""
        """Of the newest page."""
        self._looked = 0
        self._rid = 0

    def say(self, *said: commands.Command) -> None:
        """Send commands in one write."""
        self.link.send([encode_command(command) for command in said])

    async def hear(self, kind: type[_T]) -> _T:
        """Wait for the next update of a type, from where the last look ended."""
        while True:
            while self._looked < len(self.heard):
                update = self.heard[self._looked]
                self._looked += 1
                if isinstance(update, kind):
                    return update
            for frame in await self.link.receive():
                decoded = decode_update(frame)
                assert decoded is not None
                self.heard.append(decoded[1])

    async def ask(self, make: Callable[[int], commands.Command]) -> Any:
        """Send a command and wait for its answer."""
        self._rid += 1
        rid = self._rid
        self.say(make(rid))
        while True:
            update: Any = await self.hear(object)
            if getattr(update, "rid", None) == rid:
                return update

    async def told(self) -> list[updates.Update]:
        """All that was pushed since the last look."""
        looked = self._looked
        await self.ask(lambda rid: commands.Ping(rid=rid))
        return pushes(self.heard[looked:])

    async def catch_up(self) -> list[updates.CatchUp]:
        """Take all pages, acknowledging each."""
        pages: list[updates.CatchUp] = []
        while not pages or not pages[-1].live:
            pages.append(await self.page())
        return pages

    async def page(self) -> updates.CatchUp:
        """Take one page and acknowledge it."""
        page = await self.hear(updates.CatchUp)
        self.token = page.token
        self.say(commands.AckPage(rid=0, token=page.token))
        return page


def pushes(found: Iterable[updates.Update]) -> list[updates.Update]:
    """What nobody asked for."""
    return [one for one in found if not isinstance(one, (*updates.ANSWER_TYPES, updates.CatchUp))]


def seqs(ranges: Sequence[int]) -> set[int]:
    """The seqs in some ranges."""
    return {seq for start, stop in zip(ranges[::2], ranges[1::2], strict=True) for seq in range(start, stop)}


def log_in(user: str, device: str, token: str, **fields: Any) -> commands.Hello:
    """The first frame of a raw session."""
    fields = {"install": f"install-{user}-{device}", "delivery": True, **fields}
    return commands.Hello(rid=0, version=VERSION, user=user, device=device, token=token, **fields)


class _Held(NamedTuple):
    value: Any
    close: Callable[[], Awaitable[None]]


class Stage:
    """One node, and everybody around it."""

    def __init__(self, transport: str, directory: Path, tasks: anyio.abc.TaskGroup) -> None:
        self.transport = transport
        """`memory`, `tcp` or `websocket`."""
        self.directory = directory
        self.now_ms = 1_700_000_000_000
        """The node's time."""
        self.devices: list[Device] = []
        """All that are open."""
        self.node: Node
        self.url = ""
        self._tasks = tasks
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._tokens: dict[tuple[str, str], str] = {}

    async def start(self, node: Node) -> None:
        """Let the node listen."""
        self.node = node
        listening = {"memory": f"memory://stage-{next(_numbers)}", "tcp": "tcp://127.0.0.1:0"}
        self.url = await node.listen(listening.get(self.transport, "ws://127.0.0.1:0/"))

    async def hold(self, block: AbstractAsyncContextManager[_T]) -> tuple[_T, Callable[[], Awaitable[None]]]:
        """Enter a block in a task of its own, so that blocks may end in any order.

        Returns:
            What the block gives, and what ends it.
        """
        stop, ended = anyio.Event(), anyio.Event()

        async def run(*, task_status: anyio.abc.TaskStatus[_T]) -> None:
            try:
                async with block as value:
                    task_status.started(value)
                    await stop.wait()
            finally:
                ended.set()

        async def close() -> None:
            stop.set()
            await ended.wait()

        value = await self._tasks.start(run)
        self._closers.append(close)
        return value, close

    async def close(self) -> None:
        """Everybody leaves."""
        for close in reversed(self._closers):
            await close()

    # -- who is there

    async def users(self, *names: str, app: str = "default") -> None:
        """New accounts."""
        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(self.node.operate, AddUser(rid=1, app=app, user=name))

    async def group(self, name: str, owner: str, *members: str, admins: Sequence[str] = ()) -> None:
        """A new group."""
        made = MakeGroup(
            rid=1,
            app="default",
            conversation=name,
            name=name,
            owner=owner,
            admins=tuple(admins),
            members=members,
        )
        await self.node.operate(made)

    async def token(self, user: str, app: str = "default") -> str:
        """A token for a user, made once."""
        if (app, user) not in self._tokens:
            made = await self.node.operate(MakeToken(rid=1, app=app, user=user, lifetime_ms=LONG_MS))
            self._tokens[app, user] = made.text
        return self._tokens[app, user]

    def forget_tokens(self) -> None:
        """New ones are made when they are needed."""
        self._tokens.clear()

    async def device(
        self,
        user: str,
        device: str = "phone",
        *,
        app: str = "default",
        wire: Wire | None = None,
        **options: Any,
    ) -> Device:
        """Log a device in. Receipts go out at `flush`, unless `options` say otherwise."""
        wire = wire if wire is not None else Wire(self.url)
        if "password" not in options:
            options.setdefault("token", await self.token(user, app))
        options = {"coalesce_ms": LONG_MS, "text": self.transport == "websocket", **options}
        made = connect(wire.url, user=user, device=device, app=app, **options)
        me, close = await self.hold(made)

        async def leave() -> None:
            if opened in self.devices:
                self.devices.remove(opened)
            await close()

        opened = Device(me, wire, leave)
        self.devices.append(opened)
        return opened

    async def raw_link(self) -> Raw:
        """A link that has said nothing yet."""
        link, close = await self.hold(transports.connect(self.url))
        return Raw(link, close)

    async def raw(self, user: str, device: str, *, catch_up: bool = True, **fields: Any) -> Raw:
        """Log a raw device in; by default until it is live."""
        raw = await self.raw_link()
        app = fields.get("app", "default")
        raw.say(log_in(user, device, await self.token(user, app), **fields))
        await raw.hear(updates.Welcome)
        if catch_up:
            await raw.catch_up()
            await raw.told()
        return raw

    # -- looking

    async def explain(self, user: str, conversation: str) -> list[int]:
        """The messages behind a user's count at the node."""
        asked = ExplainFor(rid=1, app="default", user=user, conversation=conversation)
        found = await self.node.operate(asked)
        assert found.unread == len(found.messages)  # I-12
        return [seq for seq, _ in found.messages]

    def sweep(self, after_ms: int = 0) -> None:
        """Let time pass at the node, and let it look around."""
        self.now_ms += after_ms
        self.node.submit(self.node.hub.open(peer="clock", admin=True), Sweep())


@asynccontextmanager
async def running(
    transport: str,
    directory: Path,
    *,
    store: Store | None = None,
    apps: Mapping[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[Stage]:
    """A stage with a running node, which ends with the block.

    Args:
        transport: `memory`, `tcp` or `websocket`.
        directory: Where the node and devices may keep files.
        store: The node's; SQLite in `directory` when left out.
        apps: As of `Node`.
        options: More for `Node`.
    """
    async with anyio.create_task_group() as tasks:
        stage = Stage(transport, directory, tasks)
        node = Node(
            store if store is not None else SQLiteStore(directory / "node"),
            apps=apps,
            **{"clock": lambda: stage.now_ms, "heartbeat_ms": LONG_MS, **options},
        )
        async with node.running():
            await stage.start(node)
            try:
                yield stage
            finally:
                with anyio.move_on_after(10, shield=True):
                    await stage.close()
        tasks.cancel_scope.cancel()


async def staged(
    transport: str, directory: Path, play: Callable[[Stage], Awaitable[None]], **options: Any
) -> None:
    """Run a play on a stage of its own; its failure is not wrapped in groups."""
    failure: Exception | None = None
    async with running(transport, directory, **options) as stage:
        try:
            with anyio.fail_after(60):
                await play(stage)
        except Exception as error:
            failure = error
    if failure is not None:
        raise failure


def simulated(play: Callable[[Stage], Awaitable[None]], directory: Path, **options: Any) -> None:
    """Run a play in simulated time, over memory."""

    async def main() -> None:
        start = anyio.current_time()

        def now_ms() -> int:
            return 1_700_000_000_000 + int((anyio.current_time() - start) * 1000)

        failure: Exception | None = None
        options.setdefault("heartbeat_ms", 30_000)
        async with running(
            "memory", directory, store=MemoryStore(), inline=True, clock=now_ms, **options
        ) as stage:
            try:
                await play(stage)
            except Exception as error:
                failure = error
        if failure is not None:
            raise failure

    anyio.run(main, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})
