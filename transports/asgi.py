"""Links made of ASGI's websocket messages: for any ASGI server, on any event loop.

Slower than the byte pumps (a task that reads, one that writes and one that handles, for each link), and with
less to say. ASGI cannot break a connection: `abort` ends as a close with an error code, once the server is
through with what it was given. And servers do not agree on how a goodbye is told from a connection that was
cut: either is `EndOfStream` here. Where the server is uvicorn, `transports.websocket.uvicorn_protocol` is the
better way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from transports.base import Frame, FrameTooLarge, Handler, Link, frame_size
from transports.framing import FRAME_BYTES_MAX
from transports.stream import FRAMES_WAITING_BYTES_MAX, LINGER_SECONDS_MAX, peer_name, run_handler
from transports.waiting import Waiter, waiter_factory

__all__ = ["Application", "AsgiLink", "Receive", "Scope", "Send", "websocket_application"]

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
"""As ASGI has them."""

_NORMAL = 1000

GATHER_ROUNDS_MAX = 32
"""Turns of the event loop that `receive` waits for more, as long as every other one brings some: servers hand
over one message at a time, however many came at once."""


def websocket_application(
    handler: Handler,
    application: Application,
    *,
    path: str = "",
    frame_bytes_max: int = FRAME_BYTES_MAX,
) -> Application:
    """Return an ASGI application that runs websockets as links, and leaves all else to another one.

    Args:
        handler: What to run for each link, on the promises of `transports.Listener.serve`.
        application: Gets everything that is no websocket.
        path: The only path at which websockets are accepted; empty or ``/`` means any.
        frame_bytes_max: The largest message, in bytes, inclusive, that is sent or accepted. The server's own
            limit has to be higher.
    """
    only = path.rstrip("/")

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await application(scope, receive, send)
            return
        await receive()  # websocket.connect
        if only and scope["path"].rstrip("/") != only:
            await send({"type": "websocket.close", "code": _NORMAL})
            return
        await send({"type": "websocket.accept"})
        link = AsgiLink(receive, send, peer_name(scope.get("client")), frame_bytes_max)
        await link.run(handler)

    return run


class AsgiLink(Link):
    """A link over one websocket of an ASGI server, accepted already. It moves while `run` does."""

    __slots__ = (
        "_asgi_receive",
        "_asgi_send",
        "_buffered",
        "_closed_here",
        "_frame_bytes_max",
        "_frames",
        "_frames_bytes",
        "_gone",
        "_new_waiter",
        "_out",
        "_receive_end",
        "_receiver",
        "_roomy",
        "_scope",
        "_send_end",
        "_watchers",
        "_writable",
        "peer",
    )

    def __init__(self, receive: Receive, send: Send, peer: str, frame_bytes_max: int) -> None:
        self.peer = peer
        self._asgi_receive = receive
        self._asgi_send = send
        self._frame_bytes_max = frame_bytes_max
        self._new_waiter = waiter_factory()
        self._frames: list[Frame] = []
        self._frames_bytes = 0
        self._out: deque[tuple[Frame, int]] = deque()
        self._buffered = 0
        self._receiver: Waiter | None = None
        self._writable: Waiter | None = None
        self._roomy: Waiter | None = None
        self._watchers: list[Waiter] = []
        self._receive_end: Exception | None = None
        self._send_end: Exception | None = None
        self._closed_here = False
        self._gone = False
        self._scope = anyio.CancelScope()

    async def run(self, handler: Handler) -> None:
        """Run a handler with this link, and close it afterwards; returns when the link is gone."""
        try:
            async with anyio.create_task_group() as tasks:
                with self._scope:
                    tasks.start_soon(self._read)
                    tasks.start_soon(self._write)
                    await run_handler(handler, self)
                    with anyio.move_on_after(LINGER_SECONDS_MAX):
                        await self.wait_closed()
                tasks.cancel_scope.cancel()
        finally:
            self._lost(anyio.BrokenResourceError("the server has ended the link"))

    # -- in

    async def _read(self) -> None:
        while True:
            message = await self._asgi_receive()
            if message["type"] == "websocket.disconnect":
                self._lost(anyio.EndOfStream())
                return
            if self._receive_end is None:
                self._take(message)
                while self._frames_bytes > FRAMES_WAITING_BYTES_MAX and self._receive_end is None:
                    self._roomy = self._new_waiter()
                    await self._roomy

    def _take(self, message: Message) -> None:
        content = message.get("bytes")
        frame: Frame = content if content is not None else message["text"]
        size = frame_size(frame)
        if size > self._frame_bytes_max:
            self._receive_end = FrameTooLarge(size, self._frame_bytes_max)
        else:
            self._frames.append(frame)
            self._frames_bytes += size
        _wake(self._receiver)

    async def receive(self) -> list[Frame]:
        while not self._frames:
            if self._receive_end is not None:
                raise self._receive_end.with_traceback(None)
            if self._receiver is not None:
                raise anyio.BusyResourceError("receiving from")
            self._receiver = receiver = self._new_waiter()
            try:
                await receiver
                await self._gather()
            finally:
                self._receiver = None
        frames, self._frames = self._frames, []
        self._frames_bytes = 0
        _wake(self._roomy)
        return frames

    async def _gather(self) -> None:
        """Let the server hand over what is there already."""
        count = 0
        for turn in range(GATHER_ROUNDS_MAX):
            await checkpoint()
            if turn % 2:
                if len(self._frames) == count:
                    return
                count = len(self._frames)

    # -- out

    def send(self, frames: Sequence[Frame]) -> None:
        if self._send_end is not None:
            raise self._send_end.with_traceback(None)
        sizes = [self._checked_size(frame) for frame in frames]
        self._out.extend(zip(frames, sizes, strict=True))
        self._buffered += sum(sizes)
        _wake(self._writable)

    def _checked_size(self, frame: Frame) -> int:
        if not isinstance(frame, bytes | str):
            raise TypeError(f"a frame is bytes or str, not {type(frame).__name__}")
        size = frame_size(frame)
        if size > self._frame_bytes_max:
            raise ValueError(f"a frame of {size} bytes cannot be sent; the limit is {self._frame_bytes_max}")
        return size

    async def _write(self) -> None:
        while True:
            while self._out:
                frame, size = self._out.popleft()
                await self._put({"type": "websocket.send", **_content(frame)})
                self._buffered -= size
                self._wake_watchers()
            if self._closed_here:
                await self._put({"type": "websocket.close", "code": _NORMAL})
                return  # `_read` hears of the end
            self._writable = self._new_waiter()
            await self._writable

    async def _put(self, message: Message) -> None:
        try:
            await self._asgi_send(message)
        except (OSError, RuntimeError):  # what servers raise when the peer has left
            self._lost(anyio.BrokenResourceError("the peer has left"))

    @property
    def buffered(self) -> int:
        return 0 if self._gone else self._buffered

    async def drained(self, below: int = 0) -> None:
        while True:
            if self._send_end is not None:
                raise self._send_end.with_traceback(None)
            if self.buffered <= below:
                return
            await self._watch()

    # -- the end

    def close(self) -> None:
        if not self._closed_here:
            self._close_ends()

    def _close_ends(self) -> None:
        self._closed_here = True
        self._frames.clear()
        self._frames_bytes = 0
        self._receive_end = anyio.ClosedResourceError()
        self._send_end = anyio.ClosedResourceError()
        for waiter in (self._receiver, self._writable, self._roomy):
            _wake(waiter)
        self._wake_watchers()

    def abort(self) -> None:
        self.close()
        self._out.clear()
        self._buffered = 0
        if not self._gone:
            self._lost(anyio.ClosedResourceError())
            self._scope.cancel()

    def _lost(self, end: Exception) -> None:
        """Nothing goes over it any more."""
        if self._gone:
            return
        self._gone = True
        if self._receive_end is None:
            self._receive_end = end
        if self._send_end is None:
            self._send_end = anyio.BrokenResourceError("the peer has closed the link")
        self._out.clear()
        for waiter in (self._receiver, self._writable, self._roomy):
            _wake(waiter)
        self._wake_watchers()

    async def wait_closed(self) -> None:
        while not self._gone:
            await self._watch()

    async def _watch(self) -> None:
        watcher = self._new_waiter()
        self._watchers.append(watcher)
        try:
            await watcher
        finally:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

    def _wake_watchers(self) -> None:
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            _wake(watcher)


def _wake(waiter: Waiter | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _content(frame: Frame) -> dict[str, Frame]:
    return {"bytes": frame} if isinstance(frame, bytes) else {"text": frame}
