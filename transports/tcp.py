"""Frames over TCP, TLS and Unix sockets: a URL, the length prefix, and a pump.

The schemes ``tcp:``, ``tls:`` and ``tcp+unix:``. How bytes move is the pumps'; what a frame looks like on the
wire is `transports.framing.LengthPrefix`'s.
"""

from __future__ import annotations

import ssl
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import ModuleType

from transports.base import Link, Listener
from transports.framing import FRAME_BYTES_MAX, Health, LengthPrefix
from transports.sockets import Address, parse
from transports.waiting import library

__all__ = ["connect", "listen", "pump", "require_context", "url_with_port"]


def pump() -> ModuleType:
    """Return the pump for the running event loop: `transports.pump_asyncio` or `transports.pump_trio`."""
    if library() == "asyncio":
        from transports import pump_asyncio

        return pump_asyncio
    from transports import pump_trio

    return pump_trio


def url_with_port(scheme: str, address: Address, path: str, port: int) -> str:
    """Return the URL of a listener, with the port that it really has."""
    if address.path:
        return f"{scheme}://{address.path}"
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{scheme}://{host}:{port}{path}"


def connect(
    url: str, *, ssl_context: ssl.SSLContext | None = None, frame_bytes_max: int = FRAME_BYTES_MAX
) -> AbstractAsyncContextManager[Link]:
    """Open a link to a ``tcp:``, ``tls:`` or ``tcp+unix:`` URL; see `transports.connect`."""
    parts, address = parse(url)
    ssl_context = (ssl_context or ssl.create_default_context()) if parts.scheme == "tls" else None
    manager: AbstractAsyncContextManager[Link] = pump().connect(
        address, LengthPrefix(frame_bytes_max), ssl_context
    )
    return manager


async def listen(
    url: str,
    *,
    ssl_context: ssl.SSLContext | None = None,
    frame_bytes_max: int = FRAME_BYTES_MAX,
    health: Health | None = None,
) -> Listener:
    """Listen at a ``tcp:``, ``tls:`` or ``tcp+unix:`` URL; see `transports.listen`. `health` is not used."""
    parts, address = parse(url)
    ssl_context = require_context(url, ssl_context) if parts.scheme == "tls" else None
    listener: Listener = await pump().listen(
        partial(url_with_port, parts.scheme, address, ""),
        address,
        partial(LengthPrefix, frame_bytes_max),
        ssl_context,
    )
    return listener


def require_context(url: str, ssl_context: ssl.SSLContext | None) -> ssl.SSLContext:
    """Return the context that a secure listener cannot do without.

    Raises:
        ValueError: If it is None: a server has a certificate, or it has nothing.
    """
    if ssl_context is None:
        raise ValueError(f"to listen at {url!r} takes an ssl_context with a certificate")
    return ssl_context
