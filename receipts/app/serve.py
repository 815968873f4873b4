"""`receipts serve`: a node on a directory, its listeners, its metrics, and an end in good order."""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import ssl
from collections.abc import AsyncIterable, Mapping, Sequence
from pathlib import Path

import anyio
import attrs
import structlog

from receipts.node.runner import Node
from receipts.storage.sqlite import SQLiteStore
from receipts.wire.limits import APP_CHARACTERS_MAX
from transports.sockets import parse

from .complaints import Complaint, system_reason
from .metrics import Figures, LoopWatch, serve_metrics
from .operate import socket_url

__all__ = ["Serving", "cannot_listen", "check_app_keys", "default_loop", "public_url", "serve", "tls_context"]

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
    easemob: tuple[str, ...] = ()
    """Where the vendor's Web SDK is served: `http:` or `https:` URLs."""
    app_keys: tuple[str, ...] = ()
    """For which of its apps."""
    open_registration: bool = False


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
        scheme: `tcp`, `ws` or `http`.
        address: HOST:PORT, for `ws` with an optional path.
        secure: Whether to speak TLS.

    Raises:
        Complaint: That is no address.
    """
    name = {"tcp": "tls", "ws": "wss", "http": "https"}[scheme] if secure else scheme
    host, _, path = address.partition("/")
    try:
        if "://" in address or (path and scheme != "ws"):
            raise ValueError
        url = f"{name}://{address}"
        parse(url)
    except ValueError:
        form = "HOST:PORT/path" if scheme == "ws" else "HOST:PORT"
        flag = "easemob" if scheme == "http" else scheme
        raise Complaint(
            f"--{flag} {address!r} is not {form}, such as 127.0.0.1:4000 or [::1]:4000", status=2
        ) from None
    return url if scheme != "ws" or path else f"{name}://{host}/"


def check_app_keys(easemob: Sequence[str], app_keys: Sequence[str]) -> None:
    """Whether apps are named for the vendor's Web SDK, if it is to be served.

    Raises:
        Complaint: One goes without the other, or one is no app key.
    """
    if bool(easemob) != bool(app_keys):
        raise Complaint("--easemob and --app-key go together", status=2)
    for key in app_keys:
        if _APP_KEY.fullmatch(key) is None or len(key) > APP_CHARACTERS_MAX:
            raise Complaint(f"--app-key {key!r} is not ORG#APP, such as 'org#app'", status=2)


_APP_KEY = re.compile(r"[A-Za-z0-9_.-]+#[A-Za-z0-9_.-]+")


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
    the metrics `metrics http://127.0.0.1:9400/metrics`; where the vendor's Web SDK is served `easemob http://…`.

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
        urls += (vendor := await _listen_easemob(node, serving))
        lines += [f"easemob {url}" for url in vendor]
        await node.listen_operator(socket_url(serving.data))
        if figures is not None and serving.metrics is not None:
            watch = LoopWatch()
            tasks.start_soon(watch.run)
            lines.append(f"metrics {await serve_metrics(tasks, serving.metrics, node, figures, watch)}")
        print("\n".join(lines), flush=True)
        log.info("serving", data=str(serving.data), apps=sorted(node.hub.world.apps), urls=urls)
        await stopping.wait()
        tasks.cancel_scope.cancel()


async def _listen_easemob(node: Node, serving: Serving) -> list[str]:
    if not serving.easemob:
        return []
    try:
        from .easemob import listen_easemob
    except ModuleNotFoundError as error:
        raise Complaint(
            f"--easemob needs {error.name}: install it with `pip install 'message-receipts[easemob]'`"
        ) from None
    found = []
    for url in serving.easemob:
        try:
            found.append(
                await listen_easemob(
                    node,
                    url,
                    app_keys=serving.app_keys,
                    open_registration=serving.open_registration,
                    ssl_context=serving.ssl_context,
                )
            )
        except OSError as error:
            raise cannot_listen(url, error) from None
    return found


async def _listen(node: Node, url: str, ssl_context: ssl.SSLContext | None) -> str:
    options = {"ssl_context": ssl_context} if url.startswith(("tls:", "wss:")) else {}
    try:
        return await node.listen(url, **options)
    except OSError as error:
        raise cannot_listen(url, error) from None


def cannot_listen(url: str, error: OSError) -> Complaint:
    """What to say when an address cannot be taken."""
    if error.errno == errno.EADDRINUSE:
        return Complaint(f"{url} is in use by another program: stop it, or choose another port")
    return Complaint(f"{url} cannot be listened at: {system_reason(error)}")
