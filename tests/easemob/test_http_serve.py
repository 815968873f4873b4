"""The servers of the HTTP face: calls and links on one port, as the listeners that they are."""

from __future__ import annotations

import errno
import socket
import ssl
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import httpx
import pytest
import trustme

import transports
from receipts.easemob.http_serve import WEBSOCKET_PATH, Server, listen
from transports.base import Link, Listener
from transports.testing import CLAUSES, Subject, check_clause

pytestmark = pytest.mark.anyio


class Application:
    """Answers a call when the test lets it."""

    def __init__(self) -> None:
        self.gate = anyio.Event()
        self.called = anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        self.called.set()
        if scope["path"] == "/slow":
            await self.gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"asgi"})


async def echo(link: Link) -> None:
    while True:
        link.send(await link.receive())


def place_of(listener: Listener) -> str:
    """Where its websockets are."""
    return listener.url.replace("http", "ws", 1) + WEBSOCKET_PATH


def no_pair() -> AbstractAsyncContextManager[tuple[Link, Link]]:
    """The clauses about listeners make links by themselves."""
    raise AssertionError


@pytest.mark.parametrize("clause", [clause for clause in CLAUSES if clause.startswith("listener_")])
async def test_they_are_listeners(clause: str) -> None:
    """The contract of listeners holds for them."""

    async def open_listener() -> Listener:
        return await listen("http://127.0.0.1:0", Application())

    def connect_to(listener: Listener) -> AbstractAsyncContextManager[Link]:
        return transports.connect(place_of(listener))

    subject = Subject(make_pair=no_pair, open_listener=open_listener, connect_to=connect_to)
    await check_clause(clause, subject)


async def test_calls_and_links_share_a_port() -> None:
    """HTTP goes to the application, websockets at their path become links, at others they are turned away."""
    listener = await listen("http://127.0.0.1:0", Application())
    async with anyio.create_task_group() as tasks, httpx.AsyncClient() as http:
        tasks.start_soon(listener.serve, echo)
        async with transports.connect(place_of(listener)) as link:
            link.send([b"one", "two"])
            frames = await link.receive()
            while len(frames) < 2:
                frames += await link.receive()
            assert frames == [b"one", "two"]
            assert (await http.get(f"{listener.url}/any")).text == "asgi"
            link.send([b"x" * (1 << 20)])
            assert await link.receive() == [b"x" * (1 << 20)]
        with pytest.raises(OSError, match="40"):
            async with transports.connect(listener.url.replace("http", "ws")):
                pass
        tasks.cancel_scope.cancel()


async def test_a_call_is_answered_before_the_server_ends() -> None:
    """A call that is under way when the listener closes gets its answer, and then the server ends."""
    application = Application()
    listener = await listen("http://127.0.0.1:0", application)
    ended = anyio.Event()

    async def serve() -> None:
        await listener.serve(echo)
        ended.set()

    async with anyio.create_task_group() as tasks, httpx.AsyncClient(timeout=30) as http:
        tasks.start_soon(serve)

        async def call() -> None:
            assert (await http.get(f"{listener.url}/slow")).text == "asgi"

        async with anyio.create_task_group() as calls:
            calls.start_soon(call)
            await application.called.wait()
            await listener.aclose()
            assert not ended.is_set()
            application.gate.set()
        await ended.wait()
        with pytest.raises(httpx.ConnectError):
            await http.get(f"{listener.url}/late")


async def test_requests_that_do_not_come() -> None:
    """A connection is closed on which nothing comes, or no whole request, also after one that was answered; a
    call that takes longer is answered, and a link stays."""
    application = Application()
    listener = await listen("http://127.0.0.1:0", application, request_seconds_max=0.2)
    port = int(listener.url.rpartition(":")[2])
    async with anyio.create_task_group() as tasks, httpx.AsyncClient(timeout=30) as http:
        tasks.start_soon(listener.serve, echo)
        async with transports.connect(place_of(listener)) as link, anyio.create_task_group() as calls:

            async def call() -> None:
                assert (await http.get(f"{listener.url}/slow")).text == "asgi"

            async def stall(said: bytes) -> None:
                async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                    await stream.send(said)
                    with anyio.fail_after(30):
                        async for _ in stream:
                            pass

            calls.start_soon(call)
            await application.called.wait()
            whole = b"GET /any HTTP/1.1\r\nHost: x\r\n\r\n"
            async with anyio.create_task_group() as stalling:
                for said in (b"", b"GET / HTTP/1.1\r\nHost:", whole, whole + b"GET"):
                    stalling.start_soon(stall, said)
            application.gate.set()
            link.send([b"still here"])
            assert await link.receive() == [b"still here"]
        tasks.cancel_scope.cancel()


async def test_a_peer_that_takes_nothing() -> None:
    """A link to it can be aborted while much waits to be written, and the listener ends although the peer
    stays as it is."""
    listener = await listen("http://127.0.0.1:0", Application(), stall_seconds_max=0.5)
    aborted, ended, scope = anyio.Event(), anyio.Event(), anyio.CancelScope()

    async def flood(link: Link) -> None:
        sent = 0
        while link.buffered == sent or link.buffered < 1 << 20:  # until the system takes no more
            link.send([b"x" * 100_000])
            sent += 100_000
            await anyio.lowlevel.checkpoint()
        link.abort()
        await link.wait_closed()
        aborted.set()

    async def serve() -> None:
        with scope:
            await listener.serve(flood)
        ended.set()

    upgrade = b"GET /websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    key = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        async with await anyio.connect_tcp("127.0.0.1", int(listener.url.rpartition(":")[2])) as stream:
            await stream.send(upgrade + key)
            with anyio.fail_after(30):
                await aborted.wait()
                scope.cancel()
                await ended.wait()


async def test_answers_are_not_held_back() -> None:
    """What is accepted sends at once: an answer goes out in two writes, of which the second would wait for
    the peer to acknowledge the first."""
    listener = await listen("http://127.0.0.1:0", Application())
    assert isinstance(listener, Server)
    (bound,) = listener.sockets
    with socket.create_connection(bound.getsockname()):
        accepted, _ = bound.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    await listener.aclose()


async def test_an_address_that_is_taken() -> None:
    """An address that somebody has is an `OSError` that says so, before anything runs."""
    listener = await listen("http://127.0.0.1:0", Application())
    with pytest.raises(OSError) as caught:  # noqa: PT011  # the number says which
        await listen(listener.url, Application())
    assert caught.value.errno == errno.EADDRINUSE
    await listener.aclose()
    await (await listen(listener.url, Application())).aclose()


async def test_tls() -> None:
    """With a TLS context calls and links are both encrypted."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    listener = await listen("https://127.0.0.1:0", Application(), ssl_context=server)
    assert listener.url.startswith("https://127.0.0.1:")
    async with anyio.create_task_group() as tasks, httpx.AsyncClient(verify=client) as http:
        tasks.start_soon(listener.serve, echo)
        assert (await http.get(f"{listener.url}/any")).text == "asgi"
        async with transports.connect(place_of(listener), ssl_context=client) as link:
            link.send([b"secret"])
            assert await link.receive() == [b"secret"]
        tasks.cancel_scope.cancel()
