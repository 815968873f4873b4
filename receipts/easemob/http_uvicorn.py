"""The HTTP face on asyncio: uvicorn, with our own websocket protocol class on the same port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import anyio
import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from transports.base import Handler
from transports.websocket import uvicorn_protocol

from .http_serve import CANCELLED_SECONDS_MAX, DRAIN_SECONDS_MAX, WEBSOCKET_PATH, Server

__all__ = ["UvicornServer"]


class UvicornServer(Server):
    """See `http_serve`."""

    _uvicorn: _Uvicorn | None = None

    async def run(self, handler: Handler) -> None:
        context = self.ssl_context
        config = uvicorn.Config(
            self.application,
            http=_http_protocol(self.request_seconds_max),
            ws=uvicorn_protocol(handler, path=WEBSOCKET_PATH),
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=DRAIN_SECONDS_MAX,
            ssl_context_factory=(lambda *_: context) if context is not None else None,
        )
        self._uvicorn = server = _Uvicorn(config, self)
        ended = anyio.Event()

        async def run() -> None:
            # Cancelled, it would drop its connections as they are.
            with anyio.CancelScope(shield=True):
                try:
                    await server.serve(sockets=self.sockets)
                finally:
                    ended.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            try:
                await ended.wait()
            except anyio.get_cancelled_exc_class():
                config.timeout_graceful_shutdown = CANCELLED_SECONDS_MAX
                raise
            finally:
                server.should_exit = True

    def stop_accepting(self) -> None:
        if self._uvicorn is not None:
            self._uvicorn.stop_accepting()


def _http_protocol(request_seconds_max: float) -> type[asyncio.Protocol]:
    """Uvicorn's, which by itself waits for ever for a request to be whole."""

    class Http(H11Protocol):
        _looking: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._look_later()

        def _look_later(self) -> None:
            self._looking = self.loop.call_later(request_seconds_max, self._look, self.cycle)

        def _look(self, last: object) -> None:
            """End a connection on which no request has begun to be answered since the last look. To be
            answered takes as long as it takes."""
            if self.cycle is None or (self.cycle is last and self.cycle.response_complete):
                self.transport.close()
            else:
                self._look_later()

        def handle_websocket_upgrade(self, event: h11.Request) -> None:
            self._look_no_more()
            super().handle_websocket_upgrade(event)

        def connection_lost(self, exc: Exception | None) -> None:
            self._look_no_more()
            super().connection_lost(exc)

        def _look_no_more(self) -> None:
            if self._looking is not None:
                self._looking.cancel()

    return Http


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the program, and ends by itself when it lets nobody in and nothing runs."""

    def __init__(self, config: uvicorn.Config, owner: Server) -> None:
        super().__init__(config)
        self._owner = owner

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        over = self._owner.closing and not self.server_state.tasks
        return await super().on_tick(counter) or over

    def stop_accepting(self) -> None:
        for server in getattr(self, "servers", []):  # there are none before it has started
            server.close()
