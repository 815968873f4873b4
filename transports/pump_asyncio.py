"""Bytes on asyncio, uvloop included: protocols and transports, no streams, no AnyIO in callbacks.

The link *is* the protocol object, so that bytes go from the event loop to the codec in one call and an idle
link is one object. How frames are made and how links close is `transports.stream`'s; trio has its own pump.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, cast

import anyio

from transports.base import Handler, Link, Listener
from transports.framing import Codec
from transports.sockets import BACKLOG, Address, bind, unlink_socket
from transports.stream import (
    HANDSHAKE_SECONDS_MAX,
    LINGER_SECONDS_MAX,
    StreamLink,
    peer_name,
    run_handler,
)

__all__ = ["AsyncioLink", "AsyncioListener", "Owner", "connect", "listen"]

_TLS_WRITE_BYTES_MAX = 64 * 1024
"""TLS transports hand each write, once encrypted, to the plain transport under them, where it counts as
written, until that one holds its own limit of 64 KiB. In pieces of that size `buffered` is wrong by twice as
much at most.
"""


class Owner(Protocol):
    """Who wants to know about a link's beginning and end."""

    def link_made(self, link: AsyncioLink) -> None:
        """The stream is there; the codec may still be shaking hands."""

    def link_opened(self, link: AsyncioLink) -> None:
        """Frames can flow."""

    def link_gone(self, link: AsyncioLink) -> None:
        """The link is wholly gone."""


class AsyncioLink(StreamLink, asyncio.Protocol):
    """A link that is its own asyncio protocol.

    Args:
        loop: The event loop that will drive it.
        codec: Its codec, which no other link uses.
        owner: Who is told of its beginning and end; nobody if None.
    """

    __slots__ = ("_drain_mark", "_loop", "_owner", "_timer", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, codec: Codec, owner: Owner | None = None) -> None:
        super().__init__(codec)
        self._loop = loop
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        # The highest mark anyone in `drained` waits for; -1 while nobody does.
        self._drain_mark = -1

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.peer = peer_name(transport.get_extra_info("peername"))
        self._write_reply()
        owner = self._owner
        if owner is not None:
            owner.link_made(self)
        if not self._opened:
            self._timer = self._loop.call_later(HANDSHAKE_SECONDS_MAX, self._handshake_overdue)
        elif owner is not None:
            owner.link_opened(self)

    data_received = StreamLink._arrived  # by name, not through one more call: this is the hottest one

    def eof_received(self) -> None:
        # Returning None makes the transport write what is buffered and then close.
        self._arrived_end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(exc)

    def resume_writing(self) -> None:
        if self._drain_mark >= 0:
            self._drain_mark = -1
            assert self._transport is not None
            self._transport.set_write_buffer_limits()
            self._wake_watchers()

    # What the other half calls.

    def _new_waiter(self) -> asyncio.Future[None]:
        return self._loop.create_future()

    def _write(self, data: bytes) -> None:
        transport = self._transport
        assert transport is not None
        if len(data) <= _TLS_WRITE_BYTES_MAX or transport.can_write_eof():
            transport.write(data)
            return
        for start in range(0, len(data), _TLS_WRITE_BYTES_MAX):
            transport.write(data[start : start + _TLS_WRITE_BYTES_MAX])

    def _finish(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not transport.can_write_eof():  # TLS, whose close is a two-way handshake already
            transport.close()
            return
        try:
            transport.write_eof()
        except OSError:  # the connection was reset, and we have not been told yet
            transport.abort()

    def _limit_time(self, seconds: float) -> None:
        if self._gone:
            return
        if self._timer is not None:
            if self._opened:
                return
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._kill)

    def _pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _wish_drained(self, below: int) -> None:
        assert self._transport is not None
        self._drain_mark = max(self._drain_mark, below)
        # With both limits at the mark, the transport calls `resume_writing` when it gets there.
        self._transport.set_write_buffer_limits(self._drain_mark, self._drain_mark)

    def _kill(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _on_open(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._owner is not None:
            self._owner.link_opened(self)
        self._wake_watchers()

    def _on_gone(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._owner is not None:
            self._owner.link_gone(self)

    @property
    def buffered(self) -> int:
        if self._transport is None or self._gone:
            return 0
        return self._transport.get_write_buffer_size()


@asynccontextmanager
async def connect(address: Address, codec: Codec, ssl_context: ssl.SSLContext | None) -> AsyncIterator[Link]:
    """Open a link to an address; it is closed at the end of the block.

    Raises:
        OSError: If nobody answers there, or the handshakes fail.
    """
    loop = asyncio.get_running_loop()
    link = AsyncioLink(loop, codec)
    security: dict[str, Any] = {} if ssl_context is None else {"ssl": ssl_context, **_security_times()}
    if address.path:
        await loop.create_unix_connection(lambda: link, address.path, **security)
    else:
        await loop.create_connection(lambda: link, address.host, address.port, **security)
    try:
        await link.wait_opened()
        yield link
    finally:
        await _leave(link)


def _security_times() -> dict[str, float]:
    return {"ssl_handshake_timeout": HANDSHAKE_SECONDS_MAX, "ssl_shutdown_timeout": LINGER_SECONDS_MAX}


async def _leave(link: Link) -> None:
    link.close()
    try:
        await link.wait_closed()
    except BaseException:
        link.abort()
        # Only a turn or two of the event loop, after which no transport is left for it to warn about.
        with anyio.CancelScope(shield=True):
            await link.wait_closed()
        raise


class AsyncioListener(Listener):
    """A listener whose links each run in one asyncio task, with nothing between the task and the handler.

    Args:
        url: The URL to show.
        path: The Unix socket's file, to be removed at the end; empty for TCP.
    """

    def __init__(self, url: str, path: str = "") -> None:
        self.url = url
        self._path = path
        self._loop = asyncio.get_running_loop()
        self.servers: list[asyncio.Server] = []
        self._handler: Handler | None = None
        self._closed = False
        # Every link that is not gone, and the task that runs it once it is open.
        self._links: dict[AsyncioLink, asyncio.Task[None] | None] = {}
        self._changed: asyncio.Future[None] | None = None

    # Owner of its links.

    def link_made(self, link: AsyncioLink) -> None:
        if self._closed:
            link.abort()
        self._links[link] = None

    def link_opened(self, link: AsyncioLink) -> None:
        if self._handler is None:  # serve() is over, and this one was late
            link.abort()
        else:
            self._links[link] = self._loop.create_task(self._run(self._handler, link))

    def link_gone(self, link: AsyncioLink) -> None:
        if self._links.get(link) is None:
            self._forget(link)

    async def _run(self, handler: Handler, link: AsyncioLink) -> None:
        try:
            await run_handler(handler, link)
            await link.wait_closed()
        finally:
            # If this was cancelled, the link was aborted and goes within a turn or two of the event loop.
            self._links[link] = None
            if link.gone:
                self._forget(link)
            else:
                link.abort()

    def _forget(self, link: AsyncioLink) -> None:
        self._links.pop(link, None)
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def _change(self) -> None:
        self._changed = self._loop.create_future()
        await self._changed

    # The contract.

    async def serve(self, handler: Handler) -> None:
        if self._closed:
            raise anyio.ClosedResourceError
        if self._handler is not None:
            raise anyio.BusyResourceError("serving")
        self._handler = handler
        try:
            for server in self.servers:
                await server.start_serving()
            while self._links or not self._closed:
                await self._change()
        finally:
            self._stop()
            with anyio.CancelScope(shield=True):
                await self._end_links()
            self._handler = None

    async def _end_links(self) -> None:
        for link, task in list(self._links.items()):
            if task is None:
                link.abort()
            else:
                task.cancel()
        while self._links:
            await self._change()

    def _stop(self) -> None:
        if not self._closed:
            self._closed = True
            for server in self.servers:
                server.close()
            if self._path:
                unlink_socket(self._path)
            # Who has not finished its handshake has not been accepted yet.
            for link, task in list(self._links.items()):
                if task is None:
                    link.abort()
            self._wake()

    async def aclose(self) -> None:
        self._stop()
        await asyncio.sleep(0)  # uvloop gives the address back on the next turn


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
    loop = asyncio.get_running_loop()
    security: dict[str, Any] = {} if ssl_context is None else {"ssl": ssl_context, **_security_times()}
    sockets = await bind(address)
    port = 0 if address.path else sockets[0].getsockname()[1]
    listener = AsyncioListener(url(port), address.path)

    def make_link() -> AsyncioLink:
        return AsyncioLink(loop, codec_factory(), listener)

    for bound in sockets:
        create = loop.create_unix_server if address.path else loop.create_server
        server = await create(make_link, sock=bound, backlog=BACKLOG, start_serving=False, **security)
        listener.servers.append(server)
    return listener
