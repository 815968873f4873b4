"""Bytes on trio: two tasks per link, one that reads and one that writes.

Straight on trio's streams rather than on AnyIO's over them: that is one layer less for each read, and trio's
TLS stream can close in good order while AnyIO's would have to give up either the peer's closing or ours. How
frames are made and how links close is `transports.stream`'s; asyncio has its own pump.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import trio

from transports.base import Handler, Link, Listener
from transports.framing import Codec
from transports.sockets import Address, bind, unlink_socket
from transports.stream import HANDSHAKE_SECONDS_MAX, StreamLink, peer_name, run_handler
from transports.waiting import Waiter

__all__ = ["EventWaiter", "TrioLink", "TrioListener", "connect", "listen"]

_READ_BYTES_MAX = 64 * 1024

_Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class EventWaiter:
    """A `transports.waiting.Waiter` for trio."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = trio.Event()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._event.wait().__await__()

    def done(self) -> bool:
        return self._event.is_set()

    def set_result(self, result: None, /) -> None:
        self._event.set()


class TrioLink(StreamLink):
    """A link over a trio stream. `pump` must be running, in a task of its own, for anything to happen.

    Args:
        stream: The stream, which is the link's from now on.
        codec: Its codec, which no other link uses.
    """

    __slots__ = (
        "_finishing",
        "_outgoing",
        "_outgoing_bytes",
        "_reading_gate",
        "_scope",
        "_stream",
        "_writer",
    )

    def __init__(self, stream: _Stream, codec: Codec) -> None:
        super().__init__(codec, _peer_of(stream))
        if isinstance(stream, trio.SSLStream):
            self._opened = False
        self._stream = stream
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._writer: trio.Event | None = None
        self._reading_gate: trio.Event | None = None
        self._finishing = False
        self._scope = trio.CancelScope()

    async def pump(self) -> None:
        """Move bytes until the link is gone."""
        cause: Exception | None = None
        bottom = _bottom(self._stream)
        if not self._opened:
            self._scope.deadline = trio.current_time() + HANDSHAKE_SECONDS_MAX
        try:
            with self._scope:
                if isinstance(self._stream, trio.SSLStream):
                    await self._stream.do_handshake()
                    if self._codec.ready:
                        self._opened = True
                        self._on_open()
                self._write_reply()
                await self._read_and_write()
        except* (trio.BrokenResourceError, OSError) as group:  # the nursery makes groups of one
            error = _first(group)
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        finally:
            if not self._opened and self._scope.cancelled_caught:
                self._handshake_overdue()
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(bottom)
            self._lost(cause)

    async def _read_and_write(self) -> None:
        async with trio.open_nursery() as nursery:
            reading = trio.CancelScope()
            reader_left = trio.Event()
            nursery.start_soon(self._read, reading, reader_left)
            await self._write_all()
            if isinstance(self._stream, trio.SSLStream):
                # TLS closes by a handshake of its own, which reads by itself.
                reading.cancel()
                await reader_left.wait()
                await self._stream.unwrap()
            else:
                await self._stream.send_eof()

    async def _read(self, scope: trio.CancelScope, left: trio.Event) -> None:
        with scope:
            await self._read_all()
        left.set()

    async def _read_all(self) -> None:
        while True:
            if self._reading_gate is not None:
                await self._reading_gate.wait()
            data = await self._stream.receive_some(_READ_BYTES_MAX)
            if not data:
                self._arrived_end()
                self._finish()
                return
            self._arrived(bytes(data))

    async def _write_all(self) -> None:
        while True:
            while self._outgoing:
                data = b"".join(self._outgoing)
                self._outgoing.clear()
                await self._stream.send_all(data)
                self._outgoing_bytes -= len(data)
                self._wake_watchers()
            if self._finishing:
                return
            self._writer = trio.Event()
            await self._writer.wait()

    def _wake_writer(self) -> None:
        if self._writer is not None:
            self._writer.set()
            self._writer = None

    # What the other half calls.

    def _new_waiter(self) -> Waiter:
        return EventWaiter()

    def _write(self, data: bytes) -> None:
        self._outgoing.append(data)
        self._outgoing_bytes += len(data)
        self._wake_writer()

    def _finish(self) -> None:
        self._finishing = True
        self._wake_writer()

    def _limit_time(self, seconds: float) -> None:
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + seconds)

    def _pause_reading(self) -> None:
        self._reading_gate = trio.Event()

    def _resume_reading(self) -> None:
        if self._reading_gate is not None:
            self._reading_gate.set()
            self._reading_gate = None

    def _kill(self) -> None:
        self._scope.cancel()

    def _on_open(self) -> None:
        self._scope.deadline = float("inf")
        self._wake_watchers()

    @property
    def buffered(self) -> int:
        return 0 if self._gone else self._outgoing_bytes


def _bottom(stream: _Stream) -> trio.SocketStream:
    return stream.transport_stream if isinstance(stream, trio.SSLStream) else stream


def _peer_of(stream: _Stream) -> str:
    try:
        return peer_name(_bottom(stream).socket.getpeername())
    except OSError:  # it has left already
        return "gone"


def _first(error: BaseException) -> Exception:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exception)
    return error


def _secured(
    stream: trio.SocketStream, ssl_context: ssl.SSLContext | None, server_hostname: str | None
) -> _Stream:
    if ssl_context is None:
        return stream
    return trio.SSLStream(
        stream, ssl_context, server_hostname=server_hostname, server_side=server_hostname is None
    )


async def _open(address: Address) -> trio.SocketStream:
    if address.path:
        return await trio.open_unix_socket(address.path)
    try:
        return await trio.open_tcp_stream(address.host, address.port)
    except OSError as error:
        # Trio wraps what each address answered; callers want to tell "refused" from "unknown".
        cause: BaseException | None = error.__cause__
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        if isinstance(cause, OSError):
            raise cause from error
        raise


@asynccontextmanager
async def connect(address: Address, codec: Codec, ssl_context: ssl.SSLContext | None) -> AsyncIterator[Link]:
    """Open a link to an address; it is closed at the end of the block.

    Raises:
        OSError: If nobody answers there, or the handshakes fail.
    """
    link = TrioLink(_secured(await _open(address), ssl_context, address.host), codec)
    error: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.pump)
        # Errors of the caller's block go around the nursery, which would wrap them in groups.
        try:
            await link.wait_opened()
            yield link
        except Exception as exc:
            error = exc
        link.close()
    if error is not None:
        raise error


class TrioListener(Listener):
    """A listener whose links each run in a nursery of their own.

    Args:
        url: The URL to show.
        listeners: Bound sockets.
        codec_factory: Makes one codec per link.
        ssl_context: Speak TLS, if given.
        path: The Unix socket's file, to be removed at the end; empty for TCP.
    """

    def __init__(
        self,
        url: str,
        listeners: list[trio.SocketListener],
        codec_factory: Callable[[], Codec],
        ssl_context: ssl.SSLContext | None,
        path: str = "",
    ) -> None:
        self.url = url
        self._listeners = listeners
        self._codec_factory = codec_factory
        self._ssl_context = ssl_context
        self._path = path
        self._accepting = trio.CancelScope()
        self._serving = False
        self._closed = False

    async def serve(self, handler: Handler) -> None:
        if self._closed:
            raise anyio.ClosedResourceError
        if self._serving:
            raise anyio.BusyResourceError("serving")
        self._serving = True
        try:
            async with trio.open_nursery() as nursery:
                with self._accepting:
                    await trio.serve_listeners(
                        partial(self._run, handler), self._listeners, handler_nursery=nursery
                    )
                self._stop()
        finally:
            self._stop()

    async def _run(self, handler: Handler, stream: trio.SocketStream) -> None:
        link = TrioLink(_secured(stream, self._ssl_context, None), self._codec_factory())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.pump)
            try:
                await link.wait_opened()
            except OSError:  # a plain GET, or a handshake that failed: answered by the codec, and over
                link.close()
                return
            await run_handler(handler, link)

    def _stop(self) -> None:
        if not self._closed:
            self._closed = True
            self._accepting.cancel()
            for listener in self._listeners:
                listener.socket.close()
            if self._path:
                unlink_socket(self._path)

    async def aclose(self) -> None:
        self._stop()
        await trio.lowlevel.checkpoint()


async def listen(
    url: Callable[[int], str],
    address: Address,
    codec_factory: Callable[[], Codec],
    ssl_context: ssl.SSLContext | None,
) -> Listener:
    """Listen at an address.

    Args:
        url: Makes the listener's URL from the real port.
        address: Where; port 0 means any free one.
        codec_factory: Makes one codec per link.
        ssl_context: Speak TLS, if given.

    Raises:
        OSError: If the address cannot be bound.
    """
    sockets = await bind(address)
    port = 0 if address.path else sockets[0].getsockname()[1]
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(bound)) for bound in sockets]
    return TrioListener(url(port), listeners, codec_factory, ssl_context, address.path)
