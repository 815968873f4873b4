"""What a live world stands on: a node that stops and starts on one disk, and devices behind wires that fail.

Node and devices are the production ones (`node.runner`, `client.connection`) on a real transport. Between a
device and that transport stands a wire, which notes what passes, breaks by plan, and can be down. The disk
is a `MemoryStore` that runs full or fails when it is told to. What people do is in `live_people`, what must
hold in the end in `live_checks`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from itertools import count
from typing import Any

import anyio
import anyio.abc

import transports
from receipts.client.connection import Connection, connect
from receipts.node.commands import AddUser, Admin, MakeGroup, MakeToken
from receipts.node.runner import Node
from receipts.storage.base import Batch, MetaRow, StoreFailed, StoreFull
from receipts.storage.memory import MemoryStore
from transports.base import Frame, Handler, Link
from transports.faulty import FaultyLink, Plan

__all__ = ["APP", "EPOCH_MS", "Device", "Disk", "Stage", "Trace", "Wire"]

APP = "default"
"""The app that everybody is in."""

EPOCH_MS = 1_700_000_000_000
"""What the node's clock shows when a world begins."""

TOKEN_MS = 10**12
"""Thirty years: no token expires in a world."""

HEARTBEAT_MS = 30_000


class Trace:
    """All that happened, as one number: two runs of a seed are the same when their traces are.

    Args:
        line: Called with every line, for those who look for where two runs part.
    """

    def __init__(self, line: Callable[[str], None] | None = None) -> None:
        self._line = line
        self._hash = sha256()
        self.counts: Counter[str] = Counter()
        """How often what happened."""

    def note(self, kind: str, what: str) -> None:
        """Something happened."""
        self.counts[kind] += 1
        line = f"{anyio.current_time():.6f} {kind} {what}"
        self._hash.update(line.encode() + b"\n")
        if self._line is not None:
            self._line(line)

    @property
    def digest(self) -> str:
        """Of all that was noted up to now, 64 hexadecimal digits."""
        return self._hash.hexdigest()


class Disk(MemoryStore):
    """The node's disk. What it is told to do, it does at the next commit."""

    def __init__(self, life: str) -> None:
        super().__init__()
        self._life = life
        self.full = False
        """Whether there is no room."""
        self.fails: str | None = None
        """`lost`: the next commit fails and is gone. `kept`: it fails and is there."""
        self.failed = False
        """Whether it has failed since it was opened."""

    def open(self, *, now_ms: int, life: str, secret: bytes) -> MetaRow:
        """As `Store.open`; what is drawn for a new store comes from the world's seed instead."""
        self.fails, self.failed = None, False
        return super().open(now_ms=now_ms, life=self._life, secret=sha256(self._life.encode()).digest())

    def commit(self, batch: Batch) -> None:
        """As `Store.commit`."""
        if self.fails == "kept":
            super().commit(batch)
        if self.fails is not None:
            self.failed = True
            raise StoreFailed("the world's disk was told to fail")
        if self.full:
            raise StoreFull("the world's disk is full")
        super().commit(batch)


class Wire:
    """One device's way to the node.

    Args:
        stage: Where it belongs.
        name: Of the device, for the trace.
        where: Gives the URL of the node at its other end; None while the node is down.
    """

    def __init__(self, stage: Stage, name: str, where: Callable[[], str | None]) -> None:
        self._stage = stage
        self._name = name
        self._where = where
        self.url = f"{_SCHEME}://{next(_numbers)}"
        """What the device connects to."""
        self.plan: Callable[[], Plan] = Plan
        """What goes wrong on the next link."""
        self.links = 0
        """Opened up to now."""
        self.mended = True
        """Whether the present link was opened after the last cut."""
        self._link: Link | None = None
        self._up = anyio.Event()
        self._up.set()

    def cut(self) -> None:
        """Break the link; there is no way to the node until `heal`."""
        if self._up.is_set():
            self._up = anyio.Event()
        self.mended = False
        if self._link is not None:
            self._link.abort()

    def heal(self) -> None:
        """The way is free again."""
        self._up.set()

    def repair(self) -> None:
        """Nothing goes wrong from the next link on, which replaces the present one."""
        self.plan = Plan
        self.cut()
        self.heal()

    @asynccontextmanager
    async def open(self, **options: object) -> AsyncIterator[Link]:
        """A link to the node, as `transports.connect` gives it."""
        await self._up.wait()
        stage, url = self._stage, self._where()
        if url is None:
            raise ConnectionRefusedError("the node is down")
        async with transports.connect(url, **options) as link:  # type: ignore[arg-type]
            plan = self.plan()
            self._link = _Tap(FaultyLink(stage.wrap(link), plan, stage.delays), self)
            self.links += 1
            self.mended = True
            self.note("link", f"{self.links} {plan}")
            try:
                yield self._link
            finally:
                self._link = None

    def note(self, kind: str, what: str) -> None:
        """Something passes."""
        self._stage.trace.note(kind, f"{self._name} {what}")


_SCHEME = "simulated-wire"
_numbers = count()
_wires: dict[str, Wire] = {}


@asynccontextmanager
async def _connect(url: str, **options: object) -> AsyncIterator[Link]:
    async with _wires[url].open(**options) as link:
        yield link


async def _listen(url: str, **options: object) -> transports.Listener:
    raise OSError(f"{url} has one end: the node listens behind it")


transports.register(_SCHEME, _connect, _listen)


class _Tap(Link):
    """A link that tells its wire what passes."""

    __slots__ = ("_link", "_wire", "peer")

    def __init__(self, link: Link, wire: Wire) -> None:
        self._link = link
        self._wire = wire
        self.peer = link.peer

    async def receive(self) -> list[Frame]:
        frames = await self._link.receive()
        for frame in frames:
            self._wire.note("received", _shown(frame))
        return frames

    def send(self, frames: Sequence[Frame]) -> None:
        self._link.send(frames)
        for frame in frames:
            self._wire.note("sent", _shown(frame))

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


def _shown(frame: Frame) -> str:
    return frame.hex() if isinstance(frame, bytes) else frame


class Device:
    """One device of a user: its connection, and its wire."""

    def __init__(self, me: Connection, wire: Wire, close: Callable[[], Awaitable[None]]) -> None:
        self.me = me
        self.wire = wire
        self.close = close
        """Leave in good order: what is due goes out."""

    @property
    def name(self) -> str:
        """User and device."""
        return f"{self.me.user}/{self.me.device}"


class Stage:
    """One node, and all devices around it.

    Args:
        seed: Of the world.
        address: Where the node listens; a port of 0 is another one after each start.
        wrap: Put around the device's end of every link, under the faults.
        settings: Of the app `default`, JSON.
        trace: Where everything is noted.
        tasks: Where node and devices run.
        web_address: Where the node listens for the vendor's SDKs.
        web_handler: Makes of a node what serves them; None when there are none.
    """

    def __init__(
        self,
        seed: int,
        *,
        address: str,
        wrap: Callable[[Link], Link],
        settings: str,
        trace: Trace,
        tasks: anyio.abc.TaskGroup,
        web_address: str = "",
        web_handler: Callable[[Node], Handler] | None = None,
    ) -> None:
        self.disk = Disk(f"life-{seed:016x}")
        self.trace = trace
        self.wrap = wrap
        self.delays = random.Random(seed)
        """For the delays of all wires."""
        self.devices: list[Device] = []
        """All that are open."""
        self.node: Node | None = None
        """The one that runs."""
        self.url: str | None = None
        """Where it listens."""
        self.web_url: str | None = None
        """Where it listens for the vendor's SDKs."""
        self.broken: BaseException | None = None
        """What ended a node that nobody had told to fail."""
        self.ahead_ms = 0
        """How far the node's clock is ahead of the world's time; may change at any moment."""
        self._address = address
        self._web_address = web_address
        self._web_handler = web_handler
        self._settings = settings
        self._tasks = tasks
        self._tokens: dict[str, str] = {}
        self._installs = 0
        self._stop = anyio.Event()
        self._ended = anyio.Event()
        self._ended.set()

    # -- the node

    def now_ms(self) -> int:
        """What the node's clock shows."""
        return EPOCH_MS + self.ahead_ms + int(anyio.current_time() * 1000)

    async def start(self) -> None:
        """Start the node; nothing happens when it runs."""
        if self.node is None and self.broken is None:
            await self._ended.wait()
            self._stop, self._ended = anyio.Event(), anyio.Event()
            await self._tasks.start(self._life)

    async def _life(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """From one start of the node to its end."""
        node = Node(
            self.disk,
            apps={APP: self._settings},
            clock=self.now_ms,
            steady=lambda: int(anyio.current_time() * 1000),
            heartbeat_ms=HEARTBEAT_MS,
            inline=True,
        )
        try:
            async with node.running():
                self.url = await node.listen(self._address)
                if self._web_handler is not None:
                    listener = await transports.listen(self._web_address)
                    self.web_url = node.listen_at(listener, self._web_handler(node))
                self.node = node
                self.trace.note("node", "starts")
                task_status.started()
                await self._stop.wait()
                self.node = None
        except Exception as error:
            if self.url is None:
                raise
            if not self.disk.failed:
                self.broken = error
        finally:
            self.node = self.url = self.web_url = None
            self._ended.set()
            self.trace.note("node", "ends")

    async def stop(self) -> None:
        """Let the node stop in good order; nothing happens when it does not run."""
        self._stop.set()
        await self._ended.wait()

    async def operate(self, command: Admin) -> Any:
        """Do an operator's command, if the node runs."""
        if self.node is None:
            return None
        return await self.node.operate(command)

    async def user(self, name: str) -> None:
        """A new account."""
        await self.operate(AddUser(rid=1, app=APP, user=name))
        token = await self.operate(MakeToken(rid=1, app=APP, user=name, lifetime_ms=TOKEN_MS))
        self._tokens[name] = token.text

    async def group(self, name: str, owner: str, members: Sequence[str], admins: Sequence[str]) -> None:
        """A new group."""
        await self.operate(
            MakeGroup(
                rid=1,
                app=APP,
                conversation=name,
                name=name,
                owner=owner,
                admins=tuple(admins),
                members=tuple(members),
            )
        )

    # -- devices

    def token(self, user: str) -> str:
        """A user's token; it does not expire."""
        return self._tokens[user]

    async def keep(self, life: Callable[..., Coroutine[Any, Any, None]]) -> None:
        """Run what has a life of its own (`TaskGroup.start`) until the world ends."""
        await self._tasks.start(life)

    async def device(self, user: str, name: str, **options: bool | int) -> Device:
        """A device without a past appears; it is not waited for until it is logged in."""
        wire = Wire(self, f"{user}/{name}", lambda: self.url)
        _wires[wire.url] = wire
        me = connect(
            wire.url,
            user=user,
            device=name,
            token=self._tokens[user],
            wait=False,
            connect_timeout=1000.0,
            **options,  # type: ignore[arg-type]
        )
        self._installs += 1
        me.session.outbox.install = f"install-{self._installs}"  # drawn at random otherwise
        close = await self._hold(me, wire)
        device = Device(me, wire, close)
        self.devices.append(device)
        return device

    async def _hold(self, me: Connection, wire: Wire) -> Callable[[], Awaitable[None]]:
        """Enter a connection in a task of its own, so that they may end in any order."""
        stop, ended = anyio.Event(), anyio.Event()

        async def run(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            try:
                async with me:
                    task_status.started()
                    await stop.wait()
            finally:
                _wires.pop(wire.url, None)
                ended.set()

        async def close() -> None:
            self.devices = [device for device in self.devices if device.me is not me]
            stop.set()
            await ended.wait()

        await self._tasks.start(run)
        return close

    async def close(self) -> None:
        """Everybody leaves, the node last."""
        for device in list(self.devices):
            await device.close()
        await self.stop()

    @property
    def unrest(self) -> str | None:
        """What has not come to rest; None when all was said, heard and answered."""
        if self.node is None:
            return "the node is down"
        for device in self.devices:
            me, outbox = device.me, device.me.session.outbox
            if not me.online:
                return f"{device.name} is not online"
            if outbox.sends:
                return f"{device.name} has not sent {len(outbox.sends)} messages"
            if outbox.asks:
                return f"{device.name} waits for answers to {list(outbox.asks.values())}"
            if marked := outbox.marked():
                return f"{device.name} has receipts for {marked} that the node did not confirm"
        return None
