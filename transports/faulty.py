"""Links that fail on purpose, for tests.

`FaultyLink` wraps any link and fails between frames: it cuts, holds and delays. `FaultyProxy` stands between
two real sockets and fails between bytes: it cuts inside a frame, splits writes and stalls one direction, as a
half-open peer does. Both do what they are told and nothing by chance; a plan drawn from a seeded generator is
the same each time. What is unrealistic: a proxy's cut loses no byte that it has passed on.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.lowlevel import checkpoint

import transports
from transports.base import Frame, Handler, Link, Listener

__all__ = ["Cut", "Direction", "FaultyLink", "FaultyListener", "FaultyProxy", "Flow", "Plan", "connect"]

Direction = Literal["send", "receive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Where a link breaks."""

    index: int
    """The frame at which it happens, counted from 0 in its direction."""
    when: Literal["before", "after"] = "before"
    """Whether that frame is lost or still passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a faulty link does; without arguments, nothing."""

    send_cut: Cut | None = None
    """Break the link at a frame that is sent; `send` itself succeeds, as it does on a real network."""
    receive_cut: Cut | None = None
    """Break the link at a frame that is received."""
    send_hold_from: int | None = None
    """Keep back sent frames from this index on until `FaultyLink.release`."""
    receive_hold_from: int | None = None
    """Keep back received frames from this index on until `FaultyLink.release`."""
    receive_delay_seconds: tuple[float, float] | None = None
    """Least and most time before each batch is received, drawn at random; meant for trio's `MockClock`."""

    @classmethod
    def draw(cls, rng: random.Random, frames_max: int) -> Plan:
        """Draw a plan that cuts, somewhere in the first `frames_max` frames, in one direction or none."""
        cut = Cut(index=rng.randrange(frames_max), when=rng.choice(("before", "after")))
        choice = rng.randrange(3)
        return cls(send_cut=cut if choice == 1 else None, receive_cut=cut if choice == 2 else None)


class FaultyLink(Link):
    """A link around another one, which fails by plan.

    Args:
        link: The link that works.
        plan: What is to go wrong.
        rng: For the delays; the same seed gives the same ones.
    """

    __slots__ = (
        "_arrived",
        "_closed_here",
        "_held",
        "_holding",
        "_link",
        "_plan",
        "_received",
        "_released",
        "_rng",
        "_sent",
        "_was_cut",
        "peer",
    )

    def __init__(self, link: Link, plan: Plan, rng: random.Random | None = None) -> None:
        self._link = link
        self._plan = plan
        self._rng = rng or random.Random(0)
        self.peer = link.peer
        # How many frames have passed in each direction.
        self._sent = 0
        self._received = 0
        self._holding: dict[Direction, int | None] = {
            "send": plan.send_hold_from,
            "receive": plan.receive_hold_from,
        }
        # Sent, and held back; received from the link, and not handed out.
        self._held: list[Frame] = []
        self._arrived: list[Frame] = []
        self._released = anyio.Event()
        self._was_cut = False
        self._closed_here = False

    def _check(self) -> None:
        """Who did not close the link sees a cut as a link that broke, though we did close it underneath."""
        if self._was_cut and not self._closed_here:
            raise anyio.BrokenResourceError("the link was cut by plan")

    def release(self, direction: Direction) -> None:
        """Let held frames pass, in order, and hold no more in that direction."""
        self._holding[direction] = None
        if direction == "send":
            held, self._held = self._held, []
            if held:
                self._pass_on(held)
        else:
            self._released.set()

    def send(self, frames: Sequence[Frame]) -> None:
        self._check()
        hold_from = self._holding["send"]
        passing = len(frames)
        if hold_from is not None:
            passing = max(0, min(passing, hold_from - self._sent - len(self._held)))
        self._pass_on(frames[:passing])
        self._held += frames[passing:]

    def _pass_on(self, frames: Sequence[Frame]) -> None:
        whole, cut = _until_cut(frames, self._sent, self._plan.send_cut)
        self._sent += len(whole)
        self._link.send(whole)
        if cut:
            self._was_cut = True
            # In good order towards the peer for what came before the cut, and then nothing: a link that was
            # aborted might have dropped those too.
            self._link.close()

    async def receive(self) -> list[Frame]:
        while True:
            if not self._arrived:
                self._arrived = await self._receive_more()
            if self._plan.receive_delay_seconds is not None:
                await anyio.sleep(self._rng.uniform(*self._plan.receive_delay_seconds))
            passing = len(self._arrived)
            hold_from = self._holding["receive"]
            if hold_from is not None:
                passing = max(0, min(passing, hold_from - self._received))
            if passing:
                return self._hand_out(passing)
            await self._released.wait()

    async def _receive_more(self) -> list[Frame]:
        self._check()
        try:
            return await self._link.receive()
        except anyio.ClosedResourceError:
            self._check()
            raise

    def _hand_out(self, count: int) -> list[Frame]:
        frames, self._arrived = self._arrived[:count], self._arrived[count:]
        whole, cut = _until_cut(frames, self._received, self._plan.receive_cut)
        self._received += len(whole)
        if cut:
            self._was_cut = True
            self._arrived.clear()
            self._link.abort()
        if not whole:
            self._check()
        return whole

    @property
    def buffered(self) -> int:
        return self._link.buffered

    async def drained(self, below: int = 0) -> None:
        self._check()
        try:
            await self._link.drained(below)
        except anyio.ClosedResourceError:
            self._check()
            raise

    def close(self) -> None:
        self._closed_here = True
        self._link.close()
        self._arrived.clear()
        self._released.set()

    def abort(self) -> None:
        self._closed_here = True
        self._link.abort()
        self._arrived.clear()
        self._released.set()

    async def wait_closed(self) -> None:
        await self._link.wait_closed()


def _until_cut(frames: Sequence[Frame], passed: int, cut: Cut | None) -> tuple[list[Frame], bool]:
    """Return the frames that come through a cut, and whether it happens here."""
    if cut is None or cut.index >= passed + len(frames):
        return list(frames), False
    stop = cut.index - passed + (cut.when == "after")
    return list(frames[: max(0, stop)]), True


@asynccontextmanager
async def connect(url: str, plan: Plan, *, rng: random.Random | None = None) -> AsyncIterator[FaultyLink]:
    """Open a link as `transports.connect` does, and make it faulty."""
    async with transports.connect(url) as link:
        yield FaultyLink(link, plan, rng)


class FaultyListener(Listener):
    """A listener around another one, whose links fail by plan.

    Args:
        listener: The listener that works.
        plan_for: Gives the plan for each link, counted from 0 in the order of their coming.
    """

    def __init__(self, listener: Listener, plan_for: Callable[[int], Plan]) -> None:
        self.url = listener.url
        self._listener = listener
        self._plan_for = plan_for
        self._count = 0

    async def serve(self, handler: Handler) -> None:
        def handle(link: Link) -> Awaitable[None]:
            plan = self._plan_for(self._count)
            self._count += 1
            return handler(FaultyLink(link, plan))

        await self._listener.serve(handle)

    async def aclose(self) -> None:
        await self._listener.aclose()


class Flow:
    """One direction of a proxied connection. Set its faults before, or while, bytes flow."""

    def __init__(self) -> None:
        self.cut_after: int | None = None
        """Cut the connection, both ways, when this many bytes have passed; None means never."""
        self.split = False
        """Pass every byte in a write of its own."""
        self.passed = 0
        """How many bytes have passed."""
        self._running = anyio.Event()
        self._running.set()

    def stall(self) -> None:
        """Pass nothing until `resume`; the other direction goes on. So does a peer that is half dead."""
        if self._running.is_set():
            self._running = anyio.Event()

    def resume(self) -> None:
        """Pass what has come meanwhile, and go on."""
        self._running.set()

    async def run(self, source: SocketStream, target: SocketStream) -> bool:
        """Pass bytes until the end; return whether that was a cut."""
        while True:
            try:
                data = await source.receive()
            except anyio.EndOfStream:
                await self._running.wait()
                await target.send_eof()
                return False
            await self._running.wait()
            if self.cut_after is not None:
                data = data[: self.cut_after - self.passed]
            await self._write(target, data)
            if self.passed == self.cut_after:
                return True

    async def _write(self, target: SocketStream, data: bytes) -> None:
        step = 1 if self.split else max(1, len(data))
        for start in range(0, len(data), step):
            await target.send(data[start : start + step])
            self.passed += len(data[start : start + step])
            await checkpoint()


class FaultyProxy:
    """A TCP proxy before a ``tcp:``, ``tls:``, ``ws:`` or ``wss:`` listener; use it as a context manager.

    Each connection takes the next pair of flows: `to_server` and `to_client` describe the next one to come.

    Args:
        target: The URL of the listener behind it.
    """

    url: str
    """The URL to connect to instead of the target's."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._exits = AsyncExitStack()
        self.to_server = Flow()
        """From the client to the listener."""
        self.to_client = Flow()
        """From the listener to the client."""

    async def __aenter__(self) -> FaultyProxy:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
        port = listener.extra(SocketAttribute.local_port)
        self.url = urlunsplit(self._target._replace(netloc=f"127.0.0.1:{port}"))
        await self._exits.enter_async_context(listener)
        tasks = await self._exits.enter_async_context(anyio.create_task_group())
        tasks.start_soon(listener.serve, self._proxy)
        self._exits.callback(tasks.cancel_scope.cancel)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._exits.aclose()

    def renew(self) -> None:
        """Give the next connection fresh flows, without faults; those of the last are left as they are."""
        self.to_server, self.to_client = Flow(), Flow()

    async def _proxy(self, client: SocketStream) -> None:
        to_server, to_client = self.to_server, self.to_client
        assert self._target.hostname is not None and self._target.port is not None  # noqa: PT018
        async with (
            client,
            await anyio.connect_tcp(self._target.hostname, self._target.port) as server,
            anyio.create_task_group() as tasks,
        ):

            async def run(flow: Flow, source: SocketStream, target: SocketStream) -> None:
                try:
                    cut = await flow.run(source, target)
                except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                    cut = True  # AnyIO lets an OSError through when there is nobody left to send an end to
                if cut:
                    tasks.cancel_scope.cancel()

            tasks.start_soon(run, to_server, client, server)
            tasks.start_soon(run, to_client, server, client)
