"""Serving the HTTP face and the SDK's websockets on one port: what the two servers have in common.

On asyncio the server is uvicorn (`http_uvicorn`), with the websocket protocol class of `transports`, so that
links go at the full speed of the byte pump; on trio it is hypercorn (`http_hypercorn`), with links made of
ASGI messages, which is slower. Both are listeners as any other (`transports.Listener`), so that a node closes
them before the sessions on them, and the links before the server ends.
"""

from __future__ import annotations

import socket
import ssl
from abc import abstractmethod

import anyio

from transports.asgi import Application
from transports.base import Handler, Listener
from transports.sockets import bind, parse
from transports.waiting import library

__all__ = [
    "CANCELLED_SECONDS_MAX",
    "DRAIN_SECONDS_MAX",
    "REQUEST_SECONDS_MAX",
    "STALL_SECONDS_MAX",
    "WEBSOCKET_PATH",
    "Server",
    "listen",
]

WEBSOCKET_PATH = "/websocket"

DRAIN_SECONDS_MAX = 5
"""For calls that are being answered, and links that are being closed, when the server stops."""

REQUEST_SECONDS_MAX = 30.0
"""From when a connection is there, or was last used, until a request has come: twice what the SDK waits for
an answer."""

STALL_SECONDS_MAX = 30.0
"""For how long a peer may take nothing of what is sent to it. Only for hypercorn, which waits for ever for a
write to end, even when it is cancelled: there the system has to break the connection."""

CANCELLED_SECONDS_MAX = 1
"""What they still get when it is cancelled: what a node that drained has said has yet to arrive."""


async def listen(
    url: str,
    application: Application,
    *,
    ssl_context: ssl.SSLContext | None = None,
    request_seconds_max: float = REQUEST_SECONDS_MAX,
    stall_seconds_max: float = STALL_SECONDS_MAX,
) -> Listener:
    """Take the address of a URL. `serve` of what is returned answers HTTP with the application, and runs its
    handler for each websocket at `/websocket`.

    Args:
        url: `http://HOST:PORT`, or `https:` with an `ssl_context`.
        request_seconds_max: After how long, at the least, a connection is closed on which no request comes,
            or comes too slowly to be whole; at the most twice as long.
        stall_seconds_max: On trio, and on Linux, after how long a connection is broken whose peer takes
            nothing that is sent to it; until then it keeps the listener from ending. On asyncio none does.

    Raises:
        OSError: If the address is unknown, in use, or not ours to take.
    """
    parts, address = parse(url)
    sockets = await bind(address)
    for bound in sockets:  # what is accepted has it too: answers go out in two writes
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    host = f"[{address.host}]" if ":" in address.host else address.host
    place = f"{parts.scheme}://{host}:{sockets[0].getsockname()[1]}"
    if library() == "asyncio":
        from .http_uvicorn import UvicornServer

        return UvicornServer(place, sockets, application, ssl_context, request_seconds_max)
    from .http_hypercorn import HypercornServer  # here, so that asyncio never imports trio

    if hasattr(socket, "TCP_USER_TIMEOUT"):
        for bound in sockets:
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(stall_seconds_max * 1000))
    return HypercornServer(place, sockets, application, ssl_context, request_seconds_max)


class Server(Listener):
    """A listener whose links and calls are accepted by somebody else's server.

    Args:
        url: Where it listens, with the real port.
        sockets: Listening already.
        application: Answers HTTP.
        ssl_context: For TLS.
        request_seconds_max: As of `listen`.
    """

    def __init__(
        self,
        url: str,
        sockets: list[socket.socket],
        application: Application,
        ssl_context: ssl.SSLContext | None,
        request_seconds_max: float,
    ) -> None:
        self.url = url
        self.application = application
        self.ssl_context = ssl_context
        self.request_seconds_max = request_seconds_max
        self.sockets = sockets
        self.closing = False
        """Whether nobody is to be let in any more."""
        self._serving = False

    async def serve(self, handler: Handler) -> None:
        if self.closing:
            raise anyio.ClosedResourceError
        if self._serving:
            raise anyio.BusyResourceError("serving")
        self._serving = True
        try:
            await self.run(handler)
        finally:
            self.closing = True
            self._close_sockets()

    async def aclose(self) -> None:
        if not self.closing:
            self.closing = True
            self.stop_accepting()
            if not self._serving:
                self._close_sockets()

    def _close_sockets(self) -> None:
        for bound in self.sockets:
            bound.close()

    @abstractmethod
    async def run(self, handler: Handler) -> None:
        """Serve until cancelled, or until `stop_accepting` was called and nothing runs any more; then end all
        connections in good order."""

    @abstractmethod
    def stop_accepting(self) -> None:
        """Let nobody in any more; may be called before `run`."""
