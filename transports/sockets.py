"""Where things are: addresses out of URLs, and listening sockets bound to them.

Shared by both pumps, which differ in how they wait but not in what they bind. Nothing here reads or writes.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import anyio

__all__ = ["BACKLOG", "Address", "bind", "parse", "unlink_socket"]

BACKLOG = 4096
"""Connections that the kernel accepts ahead of us; it cuts this to its own limit (Linux: also 4096)."""

_UMASK_OWNER_ONLY = 0o177


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP host and port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""


def parse(url: str, *, default_port: int | None = None) -> tuple[SplitResult, Address]:
    """Split a URL and find its address.

    Raises:
        ValueError: If the host or port is missing or malformed, or a Unix socket's path not absolute.
    """
    parts = urlsplit(url)
    if parts.scheme.endswith("+unix"):
        if parts.netloc or not parts.path.startswith("/"):
            raise ValueError(f"{url!r} must name an absolute path, as in tcp+unix:///run/node.sock")
        return parts, Address(path=parts.path)
    port = parts.port if parts.port is not None else default_port
    if not parts.hostname or port is None:
        raise ValueError(f"{url!r} must name a host and a port, as in {parts.scheme}://127.0.0.1:4000")
    return parts, Address(parts.hostname, port)


async def bind(address: Address) -> list[socket.socket]:
    """Return non-blocking listening sockets for an address; port 0 means any free one, the same for all.

    Raises:
        OSError: If the address is unknown, in use, or not ours to bind.
    """
    if address.path:
        return [_bind_unix(address.path)]
    infos = await anyio.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    port = address.port
    try:
        for family, _kind, _protocol, _name, place in dict.fromkeys(infos):
            try:
                bound = _bind_tcp(family, (place[0], port, *place[2:]))
            except OSError as error:
                # A name may stand for addresses that this machine lacks, or, where the port is free to
                # choose, one that is taken on the second: what the first address gives is enough.
                if sockets and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EADDRINUSE):
                    continue
                raise
            sockets.append(bound)
            port = bound.getsockname()[1]
    except BaseException:
        for bound in sockets:
            bound.close()
        raise
    return sockets


def _bind_tcp(family: int, place: tuple[object, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(place)
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def _bind_unix(path: str) -> socket.socket:
    _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # By umask and not by chmod afterwards: nobody else can connect in between. It is the process's, but
        # nothing here awaits, and what another thread creates meanwhile only becomes more private.
        umask = os.umask(_UMASK_OWNER_ONLY)
        try:
            bound.bind(path)
        finally:
            os.umask(umask)
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def _remove_stale(path: str) -> None:
    """Remove the socket that a process which died left behind; one that still answers stays."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


def unlink_socket(path: str) -> None:
    """Remove the file of a Unix socket whose listener has closed."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
