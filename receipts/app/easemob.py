"""Serving the vendor's Web SDK: its HTTP calls and its websockets, at one address, by a node."""

from __future__ import annotations

import ssl
from collections.abc import Iterable

from receipts.easemob.http import application
from receipts.easemob.http_calls import Face
from receipts.easemob.http_serve import listen
from receipts.easemob.session import Dialects
from receipts.node.commands import ConfigureApp
from receipts.node.runner import Node
from transports.base import Link

__all__ = ["listen_easemob"]


async def listen_easemob(
    node: Node,
    url: str,
    *,
    app_keys: Iterable[str],
    open_registration: bool = False,
    ssl_context: ssl.SSLContext | None = None,
) -> str:
    """Let the SDK in, from now until the node stops. An app that the node does not have yet is made.

    Args:
        url: `http://HOST:PORT`, or `https:` with an `ssl_context`.
        app_keys: `org#app` each.
        open_registration: Whether anybody may open an account in any of them.

    Returns:
        The URL with the real port: the SDK's `apiUrl`. Its `url` is the same as `ws:`, with `/websocket`.

    Raises:
        OSError: If the address is unknown, in use, or not ours to take.
    """
    apps = frozenset(app_keys)
    face = Face(node=node, apps=apps, open_registration=open_registration)
    listener = await listen(url, application(face), ssl_context=ssl_context)
    for app in sorted(apps - node.hub.world.apps.keys()):
        await node.operate(ConfigureApp(rid=1, app=app, settings="{}"))
    dialects = Dialects(apps, now=lambda: node.hub.world.now_ms)

    async def handle(link: Link) -> None:
        await node.handle_queued(link, dialects())

    return node.listen_at(listener, handle)
