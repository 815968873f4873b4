"""Links on a port that uvicorn owns."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
import uvicorn

import transports
from transports.base import Link
from transports.websocket import uvicorn_protocol


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The smallest ASGI application that answers."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"asgi"})


class _Server(uvicorn.Server):
    """Tells when it is up, and leaves signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()


def test_one_port_for_both() -> None:
    """HTTP goes to the application, websockets become links, and stopping closes them in good order."""

    async def main() -> None:
        ends: list[str] = []

        async def echo(link: Link) -> None:
            try:
                while True:
                    link.send(await link.receive())
            finally:
                ends.append(link.peer)

        config = uvicorn.Config(
            application, port=0, lifespan="off", log_level="error", ws=uvicorn_protocol(echo)
        )
        server = _Server(config)
        running = asyncio.create_task(server._serve())
        await server.up.wait()
        port = server.servers[0].sockets[0].getsockname()[1]
        async with transports.connect(f"ws://127.0.0.1:{port}/any") as link:
            link.send([b"one", "two"])
            assert await link.receive() == [b"one", "two"]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).endswith(b"asgi")
            writer.close()
            await writer.wait_closed()
            link.send([b"three"])
            assert await link.receive() == [b"three"]
            server.should_exit = True
            with pytest.raises(anyio.EndOfStream):
                await link.receive()
        await running
        assert len(ends) == 1

    asyncio.run(main())
