"""Links within one event loop: frames change hands as the objects they are, with no bytes in between.

The scheme ``memory:``. For tests, for simulations and for a client that lives in its server's process. It is
deterministic: nothing happens but through calls, and a task that waits is woken by the call it waits for.
Names of listeners are kept for the whole process.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio

from transports.base import Frame, FrameTooLarge, Handler, Link, Listener, frame_size
from transports.framing import FRAME_BYTES_MAX, Health
from transports.stream import run_handler
from transports.waiting import Waiter, library, waiter_factory

__all__ = ["MemoryLink", "MemoryListener", "connect", "link_pair", "listen"]

_BACKLOG = 4096
"""Links that may wait for a listener to be served; as many as the kernel lets wait for a TCP socket."""

_listeners: dict[str, MemoryListener] = {}


class MemoryLink(Link):
    """One end of a pair; see `link_pair`."""

    __slots__ = (
        "_frame_bytes_max",
        "_frames",
        "_frames_bytes",
        "_new_waiter",
        "_other",
        "_receive_end",
        "_receiver",
        "_send_end",
        "_watchers",
        "peer",
    )

    _other: MemoryLink

    def __init__(self, peer: str, frame_bytes_max: int, new_waiter: Callable[[], Waiter]) -> None:
        self.peer = peer
        self._frame_bytes_max = frame_bytes_max
        self._new_waiter = new_waiter
        # Frames that the other end has sent and this one not yet received, and their size.
        self._frames: list[Frame] = []
        self._frames_bytes = 0
        self._receiver: Waiter | None = None
        self._watchers: list[Waiter] = []
        self._receive_end: Exception | None = None
        self._send_end: Exception | None = None

    async def receive(self) -> list[Frame]:
        while not self._frames:
            if self._receive_end is not None:
                raise self._receive_end.with_traceback(None)
            if self._receiver is not None:
                raise anyio.BusyResourceError("receiving from")
            self._receiver = receiver = self._new_waiter()
            try:
                await receiver
            finally:
                self._receiver = None
        frames, self._frames = self._frames, []
        self._frames_bytes = 0
        self._other._wake_watchers()
        return frames

    def send(self, frames: Sequence[Frame]) -> None:
        if self._send_end is not None:
            raise self._send_end.with_traceback(None)
        sizes = [self._checked_size(frame) for frame in frames]
        other = self._other
        for frame, size in zip(frames, sizes, strict=True):
            if other._receive_end is None:
                other._take(frame, size)

    def _checked_size(self, frame: Frame) -> int:
        if not isinstance(frame, (bytes, str)):
            raise TypeError(f"a frame is bytes or str, not {type(frame).__name__}")
        size = frame_size(frame)
        if size > self._frame_bytes_max:
            raise ValueError(f"a frame of {size} bytes cannot be sent; the limit is {self._frame_bytes_max}")
        return size

    def _take(self, frame: Frame, size: int) -> None:
        if size > self._frame_bytes_max:
            self._receive_end = FrameTooLarge(size, self._frame_bytes_max)
        else:
            self._frames.append(frame)
            self._frames_bytes += size
        self._wake_receiver()

    @property
    def buffered(self) -> int:
        return self._other._frames_bytes if self._send_end is None else 0

    async def drained(self, below: int = 0) -> None:
        while True:
            if self._send_end is not None:
                raise self._send_end.with_traceback(None)
            if self.buffered <= below:
                return
            watcher = self._new_waiter()
            self._watchers.append(watcher)
            try:
                await watcher
            finally:
                if watcher in self._watchers:
                    self._watchers.remove(watcher)

    def close(self) -> None:
        self._close(anyio.EndOfStream())

    def abort(self) -> None:
        if not self._is_closed:
            self._other._frames.clear()
            self._other._frames_bytes = 0
            self._close(anyio.BrokenResourceError("the peer has aborted the link"))

    @property
    def _is_closed(self) -> bool:
        return isinstance(self._send_end, anyio.ClosedResourceError)

    def _close(self, end: Exception) -> None:
        if self._is_closed:
            return
        self._frames.clear()
        self._frames_bytes = 0
        self._receive_end = anyio.ClosedResourceError()
        self._send_end = anyio.ClosedResourceError()
        self._wake_receiver()
        self._wake_watchers()
        self._other._closed_by_peer(end)

    def _closed_by_peer(self, end: Exception) -> None:
        if self._receive_end is None:
            self._receive_end = end
        if self._send_end is None:
            self._send_end = anyio.BrokenResourceError("the peer has closed the link")
        self._wake_receiver()
        self._wake_watchers()

    async def wait_closed(self) -> None:
        while self._send_end is None:
            watcher = self._new_waiter()
            self._watchers.append(watcher)
            await watcher

    def _wake_receiver(self) -> None:
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)

    def _wake_watchers(self) -> None:
        if self._watchers:
            watchers, self._watchers = self._watchers, []
            for watcher in watchers:
                if not watcher.done():
                    watcher.set_result(None)


def link_pair(
    *, frame_bytes_max: tuple[int, int] = (FRAME_BYTES_MAX, FRAME_BYTES_MAX), name: str = "memory"
) -> tuple[MemoryLink, MemoryLink]:
    """Return two links that are each other's peer, for the running event loop.

    Args:
        frame_bytes_max: The largest frame, in bytes, inclusive, that the first and the second link take.
        name: What `Link.peer` says at both ends.
    """
    new_waiter = waiter_factory()
    first = MemoryLink(name, frame_bytes_max[0], new_waiter)
    second = MemoryLink(name, frame_bytes_max[1], new_waiter)
    first._other, second._other = second, first
    return first, second


@asynccontextmanager
async def connect(
    url: str, *, ssl_context: ssl.SSLContext | None = None, frame_bytes_max: int = FRAME_BYTES_MAX
) -> AsyncIterator[Link]:
    """Open a link to a ``memory:`` URL; see `transports.connect`. `ssl_context` is not used.

    Raises:
        ConnectionRefusedError: If nobody listens by that name, or too many links wait to be served there.
    """
    listener = _listeners.get(_name_of(url))
    if listener is None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens at {url}")
    link = listener.accept(frame_bytes_max)
    try:
        yield link
    finally:
        link.close()


class MemoryListener(Listener):
    """A listener by name.

    Args:
        name: Its name in the process.
        frame_bytes_max: The largest frame, in bytes, inclusive, that its links take.
    """

    def __init__(self, name: str, frame_bytes_max: int) -> None:
        self.url = f"memory://{name}"
        self._name = name
        self._frame_bytes_max = frame_bytes_max
        self._new_waiter = waiter_factory()
        self._start: Callable[[MemoryLink], None] | None = None
        self._waiting: list[MemoryLink] = []
        self._changed: Waiter | None = None
        self._closed = False

    def accept(self, frame_bytes_max: int) -> MemoryLink:
        """Make a pair, run the handler with one end, and return the other.

        Raises:
            ConnectionRefusedError: If too many links wait for `serve`.
        """
        if len(self._waiting) >= _BACKLOG:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"{len(self._waiting)} links wait at {self.url}")
        ours, theirs = link_pair(frame_bytes_max=(self._frame_bytes_max, frame_bytes_max), name=self._name)
        if self._start is None:
            self._waiting.append(ours)
        else:
            self._start(ours)
        return theirs

    async def serve(self, handler: Handler) -> None:
        if self._closed:
            raise anyio.ClosedResourceError
        if self._start is not None:
            raise anyio.BusyResourceError("serving")
        try:
            if library() == "asyncio":
                await self._serve_asyncio(handler)
            else:
                await self._serve_trio(handler)
        finally:
            self._stop()

    async def _serve_trio(self, handler: Handler) -> None:
        import trio

        async with trio.open_nursery() as nursery:
            await self._accept_all(lambda link: nursery.start_soon(run_handler, handler, link))

    async def _serve_asyncio(self, handler: Handler) -> None:
        # Not an AnyIO task group: links of this kind are many too, and must cost as little as those of TCP.
        tasks: set[asyncio.Task[None]] = set()

        def start(link: MemoryLink) -> None:
            task = asyncio.get_running_loop().create_task(run_handler(handler, link))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        try:
            await self._accept_all(start)
            while tasks:
                await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            with anyio.CancelScope(shield=True):
                while tasks:
                    await asyncio.wait(tasks)

    async def _accept_all(self, start: Callable[[MemoryLink], None]) -> None:
        self._start = start
        waiting, self._waiting = self._waiting, []
        for link in waiting:
            start(link)
        try:
            while not self._closed:
                self._changed = self._new_waiter()
                await self._changed
        finally:
            self._stop()  # before the handlers have ended: whoever comes meanwhile is refused

    def _stop(self) -> None:
        if not self._closed:
            self._closed = True
            _listeners.pop(self._name, None)
            for link in self._waiting:
                link.abort()
            if self._changed is not None and not self._changed.done():
                self._changed.set_result(None)

    async def aclose(self) -> None:
        self._stop()


async def listen(
    url: str,
    *,
    ssl_context: ssl.SSLContext | None = None,
    frame_bytes_max: int = FRAME_BYTES_MAX,
    health: Health | None = None,
) -> Listener:
    """Listen at a ``memory:`` URL; see `transports.listen`. `ssl_context` and `health` are not used.

    Raises:
        OSError: If someone listens by that name already.
    """
    name = _name_of(url)
    if name in _listeners:
        raise OSError(errno.EADDRINUSE, f"someone listens at {url} already")
    listener = _listeners[name] = MemoryListener(name, frame_bytes_max)
    return listener


def _name_of(url: str) -> str:
    name = url.partition("://")[2]
    if not name:
        raise ValueError(f"{url!r} must have a name, as in memory://node")
    return name
