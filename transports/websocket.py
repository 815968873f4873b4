"""Frames as websocket messages: the schemes ``ws:`` and ``wss:``, and a protocol class for ASGI servers.

A listener also answers plain GET, for health checks. The codec, handshake included, is
`transports.framing`'s, which leaves RFC 6455 to the `websockets` package.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from transports.base import Handler, Link, Listener
from transports.framing import FRAME_BYTES_MAX, Health, WebsocketClient, WebsocketServer
from transports.sockets import parse
from transports.stream import run_handler
from transports.tcp import pump, require_context, url_with_port

if TYPE_CHECKING:
    from transports.pump_asyncio import AsyncioLink

__all__ = ["connect", "listen", "uvicorn_protocol"]


def connect(
    url: str, *, ssl_context: ssl.SSLContext | None = None, frame_bytes_max: int = FRAME_BYTES_MAX
) -> AbstractAsyncContextManager[Link]:
    """Open a link to a ``ws:`` or ``wss:`` URL; see `transports.connect`."""
    secure = url.startswith("wss:")
    _parts, address = parse(url, default_port=443 if secure else 80)
    ssl_context = (ssl_context or ssl.create_default_context()) if secure else None
    manager: AbstractAsyncContextManager[Link] = pump().connect(
        address, WebsocketClient(url, frame_bytes_max), ssl_context
    )
    return manager


async def listen(
    url: str,
    *,
    ssl_context: ssl.SSLContext | None = None,
    frame_bytes_max: int = FRAME_BYTES_MAX,
    health: Health | None = None,
) -> Listener:
    """Listen at a ``ws:`` or ``wss:`` URL; see `transports.listen`.

    Websockets are accepted at the URL's path, or at any if it has none. A GET without an upgrade is answered
    with what `health` returns on ``/`` and ``/health`` (503 if it raises), and with 404 elsewhere.
    """
    secure = url.startswith("wss:")
    parts, address = parse(url, default_port=443 if secure else 80)
    ssl_context = require_context(url, ssl_context) if secure else None
    listener: Listener = await pump().listen(
        partial(url_with_port, parts.scheme, address, parts.path),
        address,
        partial(WebsocketServer, frame_bytes_max, path=parts.path, health=health),
        ssl_context,
    )
    return listener


def uvicorn_protocol(
    handler: Handler, *, path: str = "", frame_bytes_max: int = FRAME_BYTES_MAX
) -> type[asyncio.Protocol]:
    """Return a class for uvicorn's ``ws=`` option that runs each websocket as a link in `handler`.

    So an ASGI application and links share a port, and the links go at the full speed of the byte pump. ASGI
    has no part in them: the application is not asked. When uvicorn stops, links are closed in good order, and
    it waits for the handlers.

    Args:
        handler: What to run for each link, on the promises of `transports.Listener.serve`.
        path: The only path at which websockets are accepted; empty or ``/`` means any.
        frame_bytes_max: The largest message, in bytes, inclusive, that is sent or accepted.
    """
    from transports.pump_asyncio import AsyncioLink

    class UvicornLink(AsyncioLink):
        """A link whose connection uvicorn has accepted."""

        __slots__ = ()

        def __init__(
            self,
            config: Any,
            server_state: Any,
            app_state: dict[str, Any],
            _loop: asyncio.AbstractEventLoop | None = None,
        ) -> None:
            super().__init__(
                _loop or asyncio.get_running_loop(),
                WebsocketServer(frame_bytes_max, path=path),
                _UvicornOwner(handler, server_state),
            )

        def shutdown(self) -> None:
            """Close in good order: uvicorn calls this when it stops."""
            self.close()

    return UvicornLink


class _UvicornOwner:
    """Enters a link in uvicorn's books, which tell it what to wait for when it stops."""

    __slots__ = ("_handler", "_state")

    def __init__(self, handler: Handler, state: Any) -> None:
        self._handler = handler
        self._state = state

    def link_made(self, link: AsyncioLink) -> None:
        self._state.connections.add(link)

    def link_opened(self, link: AsyncioLink) -> None:
        task = asyncio.get_running_loop().create_task(self._run(link))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    async def _run(self, link: AsyncioLink) -> None:
        await run_handler(self._handler, link)
        await link.wait_closed()

    def link_gone(self, link: AsyncioLink) -> None:
        self._state.connections.discard(link)
