"""By URL: errors, names, ports, files, plain GET, and asyncio without AnyIO around it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from websockets.frames import Frame, Opcode

import transports
from transports.base import FramingError, Link
from transports.framing import WebsocketClient


async def echo(link: Link) -> None:
    """Send back what comes."""
    while True:
        link.send(await link.receive())


@pytest.mark.anyio
@pytest.mark.parametrize("url", ["gopher://host:70", "tcp:host", "", "tcp://:1", "tcp://host", "memory://"])
async def test_urls_that_mean_nothing(url: str) -> None:
    """An unknown scheme or a URL without its parts is a `ValueError`, to connect and to listen."""
    with pytest.raises(ValueError, match="must"):
        async with transports.connect(url):
            pass
    with pytest.raises(ValueError, match="must"):
        await transports.listen(url)


@pytest.mark.anyio
async def test_secure_listener_needs_a_context() -> None:
    """Listening with TLS takes a certificate, and says so."""
    for url in ("tls://127.0.0.1:0", "wss://127.0.0.1:0"):
        with pytest.raises(ValueError, match="ssl_context"):
            await transports.listen(url)


@pytest.mark.anyio
async def test_nobody_answers(url: str, socket_path: Path) -> None:
    """Connecting where nobody listens is an `OSError`, and `ConnectionRefusedError` where a port says no."""
    if url.startswith(("memory:", "tcp+unix:")):
        target, expected = url, OSError
    else:
        listener = await transports.listen("tcp://127.0.0.1:0")
        await listener.aclose()
        port = listener.url.rpartition(":")[2]
        target, expected = url.replace(":0", f":{port}"), ConnectionRefusedError
    with pytest.raises(expected):
        async with transports.connect(target):
            pass


@pytest.mark.anyio
async def test_a_memory_listener_that_ends_refuses() -> None:
    """While handlers of a cancelled listener are still at work, whoever connects is refused."""
    url = "memory://ending"
    entered, leaving, done = anyio.Event(), anyio.Event(), anyio.Event()

    async def slow(link: Link) -> None:
        entered.set()
        try:
            await link.receive()
        finally:
            leaving.set()
            with anyio.CancelScope(shield=True):
                await done.wait()

    listener = await transports.listen(url)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, slow)
        async with transports.connect(url):
            await entered.wait()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await leaving.wait()
                with pytest.raises(ConnectionRefusedError):
                    async with transports.connect(url):
                        pass
                done.set()


@pytest.mark.anyio
async def test_untrusted_certificate(contexts: Any) -> None:
    """A certificate that nobody trusts is refused with an `OSError` when connecting."""
    listener = await transports.listen("tls://127.0.0.1:0", ssl_context=contexts.server)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        with pytest.raises(OSError):  # noqa: PT011  (asyncio and trio say it in words of their own)
            async with transports.connect(listener.url):
                pass
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_addresses_are_taken_once(url: str, contexts: Any) -> None:
    """Two listeners cannot have one address; once the first is closed, the next can."""
    server = contexts.server if url.startswith(("tls:", "wss:")) else None
    first = await transports.listen(url, ssl_context=server)
    with pytest.raises(OSError, match=r"."):
        await transports.listen(first.url, ssl_context=server)
    await first.aclose()
    second = await transports.listen(first.url, ssl_context=server)
    assert second.url == first.url
    await second.aclose()


@pytest.mark.anyio
async def test_memory_links_wait_for_serve() -> None:
    """A memory link opened before `serve` runs is served when it does, with what was sent meanwhile."""
    listener = await transports.listen("memory://early")
    async with transports.connect("memory://early") as link, anyio.create_task_group() as tasks:
        link.send(["first"])
        tasks.start_soon(listener.serve, echo)
        assert await link.receive() == ["first"]
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_memory_passes_the_same_object() -> None:
    """In memory a frame is handed over, not copied."""
    listener = await transports.listen("memory://same")
    async with transports.connect("memory://same") as link, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        frame = b"x" * 1000
        link.send([frame])
        assert (await link.receive())[0] is frame
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_unix_socket_is_the_owners(socket_path: Path) -> None:
    """The socket's file is readable and writable by its owner alone, and goes away with the listener."""
    listener = await transports.listen(f"tcp+unix://{socket_path}")
    assert stat.S_IMODE(os.lstat(socket_path).st_mode) == 0o600
    await listener.aclose()
    with pytest.raises(FileNotFoundError):
        os.lstat(socket_path)


@pytest.mark.anyio
async def test_stale_unix_socket(socket_path: Path) -> None:
    """A socket file that a dead process left behind does not prevent listening."""
    import socket

    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_path))
    listener = await transports.listen(f"tcp+unix://{socket_path}")
    await listener.aclose()


@pytest.mark.anyio
async def test_errors_in_the_block_come_out_as_they_are(url: str, contexts: Any) -> None:
    """What is raised inside of `connect` is not wrapped, on any event loop."""
    secure = url.startswith(("tls:", "wss:"))
    listener = await transports.listen(
        url,
        ssl_context=contexts.server if secure else None,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        with pytest.raises(KeyError, match="mine"):
            async with transports.connect(
                listener.url,
                ssl_context=contexts.client if secure else None,
            ):
                raise KeyError("mine")
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_failing_handler_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A handler's own error is logged with its traceback; a link that merely ended is not."""
    listener = await transports.listen("memory://logged")

    async def fail(link: Link) -> None:
        if await link.receive() == [b"fail"]:
            raise RuntimeError("broken handler")
        await link.receive()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, fail)
        for word in (b"fail", b"end"):
            async with transports.connect(listener.url) as link:
                link.send([word])
                if word == b"fail":
                    with pytest.raises(anyio.BrokenResourceError):
                        await link.receive()
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    errors = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.name for record in errors] == ["transports"]
    assert "broken handler" in str(errors[0].exc_info)


async def get(url: str, path: str, headers: str = "") -> tuple[str, dict[str, str], str]:
    """Ask by plain HTTP; return the status line, the headers in lower case, and the body."""
    host, _, port = url.removeprefix("ws://").partition("/")[0].partition(":")
    answer = b""
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n".encode())
        async for data in stream:
            answer += data
    head, _, body = answer.decode().partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    return status, dict(line.lower().split(": ", 1) for line in lines), body


@pytest.mark.anyio
async def test_plain_get() -> None:
    """A GET answers health on two paths, 404 elsewhere, 503 if the check fails, and refuses odd upgrades."""
    answers: list[str] = ['{"ok": true}', "fine"]

    def health() -> str:
        return answers.pop(0)

    listener = await transports.listen("ws://127.0.0.1:0/link", health=health)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        status, headers, body = await get(listener.url, "/health")
        assert (status, body) == ("HTTP/1.1 200 OK", '{"ok": true}')
        assert headers["content-type"] == "application/json"
        status, headers, body = await get(listener.url, "/")
        assert (status, body) == ("HTTP/1.1 200 OK", "fine")
        assert headers["content-type"].startswith("text/plain")
        assert (await get(listener.url, "/health"))[0] == "HTTP/1.1 503 Service Unavailable"
        assert (await get(listener.url, "/elsewhere"))[0] == "HTTP/1.1 404 Not Found"
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        assert (await get(listener.url, "/link", upgrade))[0] == "HTTP/1.1 400 Bad Request"
        assert (await get(listener.url, "/link", "Upgrade: tea\r\n"))[0] == "HTTP/1.1 426 Upgrade Required"
        with pytest.raises(ConnectionRefusedError, match="404"):
            async with transports.connect(listener.url.replace("/link", "/other")):
                pass
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_garbage_on_the_wire() -> None:
    """A peer that talks nonsense ends its own link with a framing error, and nobody else's."""
    listener = await transports.listen("tcp://127.0.0.1:0", frame_bytes_max=100)
    ends: list[Exception] = []
    ended = anyio.Event()

    async def watch(link: Link) -> None:
        try:
            await echo(link)
        except anyio.BrokenResourceError as end:
            ends.append(end)
            ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, watch)
        port = int(listener.url.rpartition(":")[2])
        async with transports.connect(listener.url) as link:
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(b"\x80\x00\x00\x01\xff")
                await ended.wait()
            link.send(["well"])
            assert await link.receive() == ["well"]
        tasks.cancel_scope.cancel()
    assert isinstance(ends[0], FramingError)


@pytest.mark.anyio
async def test_requests_at_once_end_nothing_but_themselves() -> None:
    """A peer that asks for the health twice in one breath gets one answer; the listener goes on."""
    listener = await transports.listen("ws://127.0.0.1:0", health=lambda: "well")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        port = int(listener.url.rpartition(":")[2])
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"GET /health HTTP/1.1\r\nHost: host\r\n\r\n" * 2)
            came = b"".join([part async for part in stream])
            assert came.count(b"HTTP/1.1 200 OK") == 1
            assert came.endswith(b"well")
        async with transports.connect(listener.url) as link:
            link.send(["well"])
            assert await link.receive() == ["well"]
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_pings_without_end_end_the_link() -> None:
    """A peer that pings and takes no answer is cut before its answers fill memory, and nobody else is."""
    listener = await transports.listen("ws://127.0.0.1:0")
    ends: list[Exception] = []
    ended = anyio.Event()

    async def watch(link: Link) -> None:
        try:
            await echo(link)
        except anyio.BrokenResourceError as end:
            ends.append(end)
            ended.set()

    async def ping_on(stream: anyio.abc.ByteStream) -> None:
        pings = Frame(Opcode.PING, b"x" * 125).serialize(mask=True) * 1000
        while True:
            await stream.send(pings)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, watch)
        port = int(listener.url.rpartition(":")[2])
        async with transports.connect(listener.url) as link:
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                codec = WebsocketClient(listener.url)
                await stream.send(codec.take_reply())
                while not codec.ready:
                    codec.feed(await stream.receive(), [])
                narrow = stream.extra(anyio.abc.SocketAttribute.raw_socket)
                narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                with pytest.raises(anyio.BrokenResourceError):
                    await ping_on(stream)
                await ended.wait()
            link.send(["well"])
            assert await link.receive() == ["well"]
        tasks.cancel_scope.cancel()
    assert "takes none" in str(ends[0])


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:0", "ws://127.0.0.1:0", "memory://plain"])
def test_plain_asyncio(url: str) -> None:
    """Everything works, and ends without a trace, under `asyncio.run` with native tasks and no AnyIO."""

    async def main() -> list[object]:
        listener = await transports.listen(url)
        serving = asyncio.create_task(listener.serve(echo))
        async with transports.connect(listener.url) as link:
            link.send([b"one", "two"])
            got: list[object] = []
            while len(got) < 2:
                got += await link.receive()
            waiting = asyncio.create_task(link.receive())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            link.send([b"three"])
            got += await link.receive()
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return got

    assert asyncio.run(main(), debug=True) == [b"one", "two", b"three"]


def test_no_event_loop() -> None:
    """Without a running event loop the error says what is missing."""
    from transports.waiting import library

    with pytest.raises(RuntimeError, match="running event loop"):
        library()


@pytest.mark.anyio
async def test_register() -> None:
    """A scheme of one's own connects and listens like the others."""
    from transports import _schemes, memory

    transports.register("mine", memory.connect, memory.listen)
    try:
        listener = await transports.listen("mine://place")
        async with transports.connect("mine://place") as link:
            link.send([b"x"])
        await listener.aclose()
    finally:
        del _schemes["mine"]
