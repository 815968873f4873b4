"""`receipts serve`: a node on a directory, its listeners, its metrics, and an end in good order."""

from __future__ import annotations

import errno
import logging
import os
import signal
import ssl
from collections.abc import AsyncIterable, Mapping
from pathlib import Path

import anyio
import attrs
import structlog

from receipts.node.runner import Node
from receipts.storage.sqlite import SQLiteStore
from transports.sockets import parse

from .complaints import Complaint, system_reason
from .metrics import Figures, LoopWatch, serve_metrics
from .operate import socket_url

__all__ = ["Serving", "default_loop", "public_url", "serve", "tls_context"]

log = structlog.stdlib.get_logger("receipts.app")


@attrs.frozen(kw_only=True)
class Serving:
    """All that a node is started with."""

    data: Path
    urls: tuple[str, ...]
    """What to listen at, as `transports.listen` takes it."""
    apps: Mapping[str, str] = attrs.field(factory=dict)
    """Settings by app, JSON."""
    ssl_context: ssl.SSLContext | None = None
    metrics: str | None = None
    """HOST:PORT of the page for Prometheus."""
    heartbeat_ms: int = 30_000


def default_loop() -> str:
    """The fastest that is installed."""
    try:
        import uvloop  # noqa: F401
    except ModuleNotFoundError:
        return "asyncio"
    return "uvloop"


def public_url(scheme: str, address: str, *, secure: bool) -> str:
    """The URL for an address of the command line.

    Args:
        scheme: `tcp` or `ws`.
        address: HOST:PORT, for `ws` with an optional path.
        secure: Whether to speak TLS.

    Raises:
        Complaint: That is no address.
    """
    name = {"tcp": "tls", "ws": "wss"}[scheme] if secure else scheme
    host, _, path = address.partition("/")
    try:
        if "://" in address or (path and scheme == "tcp"):
            raise ValueError
        url = f"{name}://{address}"
        parse(url)
    except ValueError:
        form = "HOST:PORT/path" if scheme == "ws" else "HOST:PORT"
        raise Complaint(
            f"--{scheme} {address!r} is not {form}, such as 127.0.0.1:4000 or [::1]:4000", status=2
        ) from None
    return url if scheme == "tcp" or path else f"{name}://{host}/"


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What `tls:` and `wss:` show.

    Raises:
        Complaint: The files cannot be read or do not belong together.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for path in (certificate, key):
        if not os.access(path, os.R_OK):
            raise Complaint(f"the file {path} cannot be read")
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise Complaint(
            f"{certificate} and {key} are not a PEM certificate and its key: {error.reason or error}"
        ) from None
    return context


async def serve(serving: Serving) -> None:
    """Run until a signal comes; a second one ends the process at once.

    When everything listens, a line for each URL goes to stdout: `listening tcp://127.0.0.1:4000`, and for
    the metrics `metrics http://127.0.0.1:9400/metrics`.

    Raises:
        Complaint: An address cannot be taken.
        StoreLocked, StoreCorrupt, StoreFailed: As `Node.running`.
    """
    stopping = anyio.Event()
    socket_url(serving.data)  # complain before anything is begun
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch_signals, signals, stopping)
            await _serve_until(serving, stopping)
            tasks.cancel_scope.cancel()
    log.info("stopped")


async def _watch_signals(signals: AsyncIterable[signal.Signals], stopping: anyio.Event) -> None:
    async for number in signals:
        if stopping.is_set():
            log.warning("ending at once", signal=number.name)
            logging.shutdown()
            os._exit(128 + number)
        log.info("draining", signal=number.name)
        stopping.set()


async def _serve_until(serving: Serving, stopping: anyio.Event) -> None:
    figures = Figures() if serving.metrics is not None else None
    node = Node(
        SQLiteStore(serving.data),
        apps=serving.apps,
        heartbeat_ms=serving.heartbeat_ms,
        observer=figures,
    )
    async with node.running(), anyio.create_task_group() as tasks:
        urls = [await _listen(node, url, serving.ssl_context) for url in serving.urls]
        lines = [f"listening {url}" for url in urls]
        await node.listen_operator(socket_url(serving.data))
        if figures is not None and serving.metrics is not None:
            watch = LoopWatch()
            tasks.start_soon(watch.run)
            lines.append(f"metrics {await serve_metrics(tasks, serving.metrics, node, figures, watch)}")
        print("\n".join(lines), flush=True)
        log.info("serving", data=str(serving.data), apps=sorted(node.hub.world.apps), urls=urls)
        await stopping.wait()
        tasks.cancel_scope.cancel()


async def _listen(node: Node, url: str, ssl_context: ssl.SSLContext | None) -> str:
    options = {"ssl_context": ssl_context} if url.startswith(("tls:", "wss:")) else {}
    try:
        return await node.listen(url, **options)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Complaint(f"{url} is in use by another program: stop it, or choose another port") from None
        raise Complaint(f"{url} cannot be listened at: {system_reason(error)}") from None
