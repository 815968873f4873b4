"""Links made of ASGI messages keep the contract of links, under a server of somebody else's."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from hypercorn.config import Config

import transports
from transports.asgi import websocket_application
from transports.base import Link
from transports.sockets import Address, bind
from transports.testing import CLAUSES, Subject, check_clause
from transports.waiting import library

pytestmark = pytest.mark.anyio

LIMIT = 1 << 17

CANNOT = {
    "abort_drops_what_is_buffered": "ASGI cannot break a connection, and hypercorn not stop a write",
    "all_frames_at_hand": "ASGI takes one message at a time, and the server writes each alone",
}
"""Clauses that ASGI does not let a link keep with what it sends."""


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """The application beside the links: says no to everything."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def serving(application: Any) -> AsyncIterator[str]:
    """A server with an ASGI application, until the block ends; HOST:PORT."""
    if library() == "asyncio":
        from hypercorn.asyncio import serve
    else:
        from hypercorn.trio import serve
    (bound,) = await bind(Address("127.0.0.1", 0))
    config = Config()
    config.bind = [f"fd://{os.dup(bound.fileno())}"]
    config.errorlog = None
    config.graceful_timeout = 5
    stop = anyio.Event()

    async def run() -> None:
        with anyio.CancelScope(shield=True):
            await serve(application, config, shutdown_trigger=stop.wait, mode="asgi")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        try:
            yield f"127.0.0.1:{bound.getsockname()[1]}"
        finally:
            stop.set()
    bound.close()


@asynccontextmanager
async def pair(limits: tuple[int, int]) -> AsyncIterator[tuple[Link, Link]]:
    """One of our websockets, and the ASGI link at the other end; and their limits."""
    accepted: list[Link] = []
    arrived, done = anyio.Event(), anyio.Event()

    async def keep(link: Link) -> None:
        accepted.append(link)
        arrived.set()
        await done.wait()

    application = websocket_application(keep, nothing, path="/link", frame_bytes_max=limits[1])
    async with (
        serving(application) as place,
        transports.connect(f"ws://{place}/link", frame_bytes_max=limits[0]) as link,
    ):
        await arrived.wait()
        try:
            yield link, accepted[0]
        finally:
            done.set()


@asynccontextmanager
async def swapped(limits: tuple[int, int]) -> AsyncIterator[tuple[Link, Link]]:
    """The ASGI link first."""
    async with pair((limits[1], limits[0])) as (ours, asgi):
        yield asgi, ours


@pytest.mark.parametrize("ends", [pair, swapped], ids=["accepts", "acts"])
@pytest.mark.parametrize("clause", [clause for clause in CLAUSES if not clause.startswith("listener_")])
async def test_contract(clause: str, ends: Any) -> None:
    """The clause holds, with the ASGI link at either end."""
    if clause in CANNOT and ends is swapped:
        pytest.skip(CANNOT[clause])

    def pairs(limits: tuple[int, int]) -> AbstractAsyncContextManager[tuple[Link, Link]]:
        found: AbstractAsyncContextManager[tuple[Link, Link]] = ends(limits)
        return found

    subject = Subject(
        make_pair=partial(pairs, (LIMIT, LIMIT)),
        frame_bytes_max=LIMIT,
        make_uneven_pair=partial(pairs, (2 * LIMIT, LIMIT)) if ends is pair else None,
    )
    await check_clause(clause, subject)


async def test_only_one_path_is_for_websockets() -> None:
    """A websocket at another path is turned away, and what is no websocket is the application's."""

    async def never(link: Link) -> None:
        raise AssertionError("no link was to be made")

    async with serving(websocket_application(never, nothing, path="/link")) as place:
        with pytest.raises(OSError, match="403"):
            async with transports.connect(f"ws://{place}/other"):
                pass
