"""`receipts demo --easemob`: a page on which the vendor's unmodified Web SDK chats with itself, on a node
here.

The page is in `easemob_page`. The SDK is the vendor's: npm installs it into this user's cache, or it is
given as a file; it is no part of this package.
"""

from __future__ import annotations

import json
import secrets
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from receipts.easemob.http_serve import WEBSOCKET_PATH, listen
from receipts.node.commands import AddUser
from receipts.node.runner import Node
from receipts.storage.sqlite import SQLiteStore
from transports import Link, Listener

from .complaints import Complaint
from .easemob import listen_easemob
from .npm import installed
from .serve import cannot_listen, public_url

__all__ = ["APP_KEY", "PEOPLE", "easemob_demo"]

PAGE = Path(__file__).parent / "easemob_page"
APP_KEY = "demo#chat"
PEOPLE = ("alice", "bob")
"""One pane each; the first one makes the group."""
LISTENER = "cara"
"""Has no pane, and answers what the group is asked."""
GROUP = "Friday"


async def easemob_demo(*, address: str = "127.0.0.1:0", sdk: Path | None = None) -> None:
    """Serve the page until a signal comes.

    Args:
        address: HOST:PORT of the page. The node listens at the same host.
        sdk: The vendor's `Easemob-chat.js`; left out, npm installs the version that this was tried with.

    Raises:
        Complaint: npm could not, there is no such file, or that is no address that can be taken.
    """
    at = _url(address)
    script = sdk if sdk is not None else await to_thread.run_sync(_installed_sdk)
    if not script.is_file():
        raise Complaint(f"there is no file {script}: give --sdk the vendor's Easemob-chat.js", status=2)
    host = address.rpartition(":")[0]
    with tempfile.TemporaryDirectory(prefix="receipts-demo-") as directory:
        async with Node(SQLiteStore(Path(directory)), apps={APP_KEY: "{}"}).running() as node:
            api = await listen_easemob(node, f"http://{host}:0", app_keys=[APP_KEY])
            setup = {**await _people(node), **_options(api, script)}
            page = node.listen_at(await _listen(at, _page(setup, script)), _nobody)
            print(f"The page is at {page}/ and the node for it at {api}; Ctrl-C ends both.", flush=True)
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    return


def _url(address: str) -> str:
    try:
        return public_url("http", address, secure=False)
    except Complaint:
        raise Complaint(f"--page {address!r} is not HOST:PORT, such as 127.0.0.1:8000", status=2) from None


async def _listen(url: str, page: Starlette) -> Listener:
    try:
        return await listen(url, page)
    except OSError as error:
        raise cannot_listen(url, error) from None


def _installed_sdk() -> Path:
    return installed(PAGE) / "node_modules" / "easemob-websdk" / "Easemob-chat.js"


def _options(api: str, script: Path) -> dict[str, Any]:
    """What the page gives to the SDK, and which one that is."""
    manifest = script.parent / "package.json"
    known = json.loads(manifest.read_text()) if manifest.exists() else {}
    return {
        "appKey": APP_KEY,
        "apiUrl": api,
        "url": api.replace("http", "ws", 1) + WEBSOCKET_PATH,
        "group": GROUP,
        "sdkVersion": known.get("version", script.name),
    }


async def _people(node: Node) -> dict[str, Any]:
    """Accounts with passwords that nobody can guess, for the page to log in with."""
    made = []
    for user in (*PEOPLE, LISTENER):
        password = secrets.token_urlsafe(12)
        await node.operate(AddUser(rid=1, app=APP_KEY, user=user, password=password))
        made.append({"user": user, "password": password})
    # What a tab remembers belongs to one run of the demo.
    return {"people": made[:-1], "listener": made[-1], "id": secrets.token_hex(4)}


def _page(setup: dict[str, Any], script: Path) -> Starlette:
    async def answer_setup(request: Request) -> Response:
        return JSONResponse(setup, headers={"Cache-Control": "no-store"})

    async def answer_sdk(request: Request) -> Response:
        return FileResponse(script, media_type="text/javascript")

    files: Callable[..., Any] = StaticFiles(directory=PAGE, html=True)
    return Starlette(
        routes=[
            Route("/setup.json", answer_setup),
            Route("/sdk.js", answer_sdk),
            Mount("/", files),
        ]
    )


async def _nobody(link: Link) -> None:
    """The page's port takes no websockets."""
    link.close()
