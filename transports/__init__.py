"""Frames over a wire: one contract, several transports, asyncio and trio.

    async with transports.connect("tcp://127.0.0.1:4000") as link:
        link.send([b"hello"])
        print(await link.receive())

`connect` and `listen` choose a transport by the URL's scheme. What links and listeners promise is in
`transports.base`; `transports.testing` tests it; `transports.faulty` breaks links on purpose. A transport
never reads a frame, and this package knows nothing of what they mean.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from transports import memory, tcp, websocket
from transports.base import Frame, FrameTooLarge, FramingError, Handler, Link, Listener

__all__ = [
    "Connect",
    "Frame",
    "FrameTooLarge",
    "FramingError",
    "Handler",
    "Link",
    "Listen",
    "Listener",
    "connect",
    "listen",
    "register",
]


class Connect(Protocol):
    """What a scheme's connecting function looks like."""

    def __call__(
        self, url: str, /, *, ssl_context: ssl.SSLContext | None, frame_bytes_max: int
    ) -> AbstractAsyncContextManager[Link]:
        """Return a context manager that opens a link and closes it; see `connect`."""


class Listen(Protocol):
    """What a scheme's listening function looks like."""

    async def __call__(
        self,
        url: str,
        /,
        *,
        ssl_context: ssl.SSLContext | None,
        frame_bytes_max: int,
        health: Callable[[], bytes | str] | None,
    ) -> Listener:
        """Return a listener that has its address already; see `listen`."""


_schemes: dict[str, tuple[Connect, Listen]] = {
    "memory": (memory.connect, memory.listen),
    "tcp": (tcp.connect, tcp.listen),
    "tls": (tcp.connect, tcp.listen),
    "tcp+unix": (tcp.connect, tcp.listen),
    "ws": (websocket.connect, websocket.listen),
    "wss": (websocket.connect, websocket.listen),
}


def register(scheme: str, connect: Connect, listen: Listen) -> None:
    """Add a transport of your own, or replace one, for the whole process.

    Args:
        scheme: What stands before ``://`` in its URLs.
        connect: Called by `transports.connect` with the whole URL.
        listen: Called by `transports.listen` with the whole URL.
    """
    _schemes[scheme] = (connect, listen)


def _scheme(url: str) -> tuple[Connect, Listen]:
    scheme, separator, _rest = url.partition("://")
    if not separator or scheme not in _schemes:
        raise ValueError(f"{url!r}: the scheme must be one of {', '.join(sorted(_schemes))}")
    return _schemes[scheme]


@asynccontextmanager
async def connect(
    url: str, *, ssl_context: ssl.SSLContext | None = None, frame_bytes_max: int = 1 << 20
) -> AsyncIterator[Link]:
    """Open a link for the length of a block; at its end the link is closed, and waited for.

    Args:
        url: ``memory://name``, ``tcp://host:port``, ``tls://host:port``, ``tcp+unix:///path``,
            ``ws://host:port/path``, ``wss://host:port/path``, or a scheme added by `register`.
        ssl_context: For ``tls:`` and ``wss:``; the system's certificate authorities if absent.
        frame_bytes_max: The largest frame, in bytes, inclusive, that is sent or accepted.

    Raises:
        ValueError: If the scheme is unknown or the URL malformed.
        OSError: If the link cannot be opened: `ConnectionRefusedError`, `TimeoutError`, `ssl.SSLError`, ….
    """
    opening, _ = _scheme(url)
    async with opening(url, ssl_context=ssl_context, frame_bytes_max=frame_bytes_max) as link:
        yield link


async def listen(
    url: str,
    *,
    ssl_context: ssl.SSLContext | None = None,
    frame_bytes_max: int = 1 << 20,
    health: Callable[[], bytes | str] | None = None,
) -> Listener:
    """Take an address; links are accepted once `Listener.serve` runs.

    After calling this function you must call `Listener.serve`, and cancel it, or `Listener.aclose`.

    Args:
        url: As for `connect`; port 0 means any free one, and `Listener.url` tells which.
        ssl_context: For ``tls:`` and ``wss:``, where it is required.
        frame_bytes_max: The largest frame, in bytes, inclusive, that is sent or accepted.
        health: For ``ws:`` and ``wss:``: gives the body of the answer to GET on ``/`` and ``/health``.

    Raises:
        ValueError: If the scheme is unknown, the URL malformed, or a required `ssl_context` missing.
        OSError: If the address cannot be taken.
    """
    _, listening = _scheme(url)
    return await listening(url, ssl_context=ssl_context, frame_bytes_max=frame_bytes_max, health=health)
