"""The HTTP face on trio: hypercorn, with links made of ASGI's messages."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

import anyio
from hypercorn.config import Config
from hypercorn.trio import serve

from transports.asgi import Application, Receive, Scope, Send, websocket_application
from transports.base import Handler
from transports.framing import FRAME_BYTES_MAX

from .http_serve import CANCELLED_SECONDS_MAX, DRAIN_SECONDS_MAX, WEBSOCKET_PATH, Server

__all__ = ["HypercornServer"]


class HypercornServer(Server):
    """See `http_serve`."""

    _stop: anyio.Event | None = None

    async def run(self, handler: Handler) -> None:
        self._stop = anyio.Event()
        ended = anyio.Event()
        scope = anyio.CancelScope(shield=True)  # cancelled, it would drop its connections as they are

        async def run() -> None:
            try:
                with scope:
                    await self._run(handler, self._stopped)
            finally:
                ended.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            try:
                await ended.wait()
            finally:
                self._stop.set()
                scope.deadline = anyio.current_time() + CANCELLED_SECONDS_MAX

    async def _stopped(self) -> None:
        assert self._stop is not None
        await self._stop.wait()

    async def _run(self, handler: Handler, stopped: Callable[[], Awaitable[None]]) -> None:
        config = _Config(self.ssl_context)
        # It closes what it is given when it lets nobody in any more; ours would still listen.
        config.bind = [f"fd://{bound.detach()}" for bound in self.sockets]
        config.graceful_timeout = DRAIN_SECONDS_MAX
        config.keep_alive_timeout = self.request_seconds_max
        config.websocket_max_message_size = 2 * FRAME_BYTES_MAX  # the link says what is too large
        config.include_server_header = False
        config.alpn_protocols = ["http/1.1"]
        config.errorlog = None
        application = websocket_application(handler, self.application, path=WEBSOCKET_PATH)
        await serve(
            _without_lifespan(application),  # type: ignore[arg-type]  # its own messages are typed more narrowly
            config,
            shutdown_trigger=stopped,
            mode="asgi",
        )

    def stop_accepting(self) -> None:
        if self._stop is not None:
            self._stop.set()


def _without_lifespan(application: Application) -> Application:
    """As with uvicorn: the node is what begins and ends, the application is a part of it."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await application(scope, receive, send)
            return
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})

    return run


class _Config(Config):
    """Takes a TLS context as it is, where hypercorn wants files."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context

    @property
    def ssl_enabled(self) -> bool:
        return self._context is not None

    def create_ssl_context(self) -> ssl.SSLContext | None:
        return self._context
