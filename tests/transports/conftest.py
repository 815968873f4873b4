"""Certificates, and each transport as a subject of the contract."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trustme

import transports
from transports.base import Link, Listener
from transports.testing import Subject, url_pair


@dataclass(frozen=True)
class Contexts:
    """TLS contexts that trust each other."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="session")
def contexts() -> Contexts:
    """One certificate for 127.0.0.1 and a client that trusts who signed it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Contexts(server, client)


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """A path short enough for a Unix socket, which pytest's own temporary paths need not be."""
    with tempfile.TemporaryDirectory(prefix="link") as directory:
        yield Path(directory) / "s"


URLS = {
    "memory": "memory://contract",
    "tcp": "tcp://127.0.0.1:0",
    "tls": "tls://127.0.0.1:0",
    "ws": "ws://127.0.0.1:0/link",
    "wss": "wss://127.0.0.1:0/link",
    "tcp+unix": "tcp+unix://{path}",
}


@pytest.fixture(params=list(URLS))
def url(request: pytest.FixtureRequest, socket_path: Path) -> str:
    """A URL to listen at, of every transport."""
    return URLS[request.param].format(path=socket_path)


class _Numbered:
    """URLs for several listeners at once: ports differ by themselves, names and paths by a number."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._count = 0

    def next(self) -> str:
        self._count += 1
        return self._url if self._url.endswith((":0", "/link")) else f"{self._url}{self._count}"


@pytest.fixture
def subject(url: str, contexts: Contexts) -> Subject:
    """Every transport, with all that the contract can be checked on."""
    limit = 1 << 17
    urls = _Numbered(url)
    secure = url.startswith(("tls:", "wss:"))
    server = contexts.server if secure else None
    client = contexts.client if secure else None

    def pair(limits: tuple[int, int]) -> AbstractAsyncContextManager[tuple[Link, Link]]:
        return url_pair(urls.next(), server_context=server, client_context=client, frame_bytes_max=limits)

    async def open_listener() -> Listener:
        return await transports.listen(urls.next(), ssl_context=server)

    def connect_to(listener: Listener) -> AbstractAsyncContextManager[Link]:
        return transports.connect(listener.url, ssl_context=client)

    return Subject(
        make_pair=partial(pair, (limit, limit)),
        frame_bytes_max=limit,
        make_uneven_pair=partial(pair, (2 * limit, limit)),
        open_listener=open_listener,
        connect_to=connect_to,
    )
