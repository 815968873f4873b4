"""A node with the vendor's HTTP face on a real port, and users who call it over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from receipts.client.connection import Connection, connect
from receipts.easemob.http import application
from receipts.easemob.http_calls import Face
from receipts.easemob.http_serve import listen
from receipts.node.commands import AddUser, MakeToken
from receipts.node.runner import Node
from receipts.storage.base import Store
from receipts.storage.memory import MemoryStore

__all__ = ["APP", "Caller", "Faced", "User", "faced", "refusal"]

APP = "org#app"
ORIGIN = "http://page.example:8080"
SECONDS_MAX = 30.0
HOUR_MS = 3_600_000


class Faced:
    """A node, where it listens, and HTTP to it."""

    def __init__(self, node: Node, http: httpx.AsyncClient, native: str) -> None:
        self.node = node
        self.http = http
        self.native = native
        """Where native sessions are taken."""

    def app(self, app: str = APP) -> Caller:
        """Somebody without a token."""
        return Caller(self, app, "")

    async def user(self, name: str, app: str = APP) -> User:
        """Somebody with an account and a token, by the operator: no password has to be hashed."""
        await self.node.operate(AddUser(rid=1, app=app, user=name))
        made = await self.node.operate(MakeToken(rid=1, app=app, user=name, lifetime_ms=HOUR_MS))
        return User(self, app, made.text, name)

    async def users(self, *names: str, app: str = APP) -> list[User]:
        """Several."""
        return [await self.user(name, app) for name in names]

    async def login(self, name: str, app: str = APP, password: str = "secret") -> User:
        """Get a token."""
        answer = await self.app(app).token(name, password)
        answer.raise_for_status()
        return User(self, app, answer.json()["access_token"], name)


class Caller:
    """Calls of one app, as the SDK makes them."""

    def __init__(self, faced: Faced, app: str, token: str) -> None:
        self.faced = faced
        self.app = app
        self.token_text = token

    async def call(self, method: str, path: str, body: Any = None, **query: Any) -> httpx.Response:
        """Make a call under the app's path."""
        headers = {"Content-Type": "application/json", "Origin": ORIGIN}
        if self.token_text:
            headers["Authorization"] = f"Bearer {self.token_text}"
        answer = await self.faced.http.request(
            method,
            f"/{self.app.replace('#', '/')}/{path}",
            headers=headers,
            params=query or None,
            json=body,
        )
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["content-type"] == "application/json"
        assert isinstance(answer.json(), dict)
        return answer

    async def get(self, path: str, **query: Any) -> httpx.Response:
        return await self.call("GET", path, **query)

    async def post(self, path: str, **body: Any) -> httpx.Response:
        return await self.call("POST", path, body)

    async def put(self, path: str, **body: Any) -> httpx.Response:
        return await self.call("PUT", path, body)

    async def delete(self, path: str) -> httpx.Response:
        return await self.call("DELETE", path)

    async def token(self, name: str, password: str) -> httpx.Response:
        """Ask for a token as `open` does."""
        return await self.post("token", grant_type="password", username=name, password=password, timestamp=1)


class User(Caller):
    """Somebody with a token."""

    def __init__(self, faced: Faced, app: str, token: str, name: str) -> None:
        super().__init__(faced, app, token)
        self.name = name

    async def group(self, *members: str, name: str = "G", **more: Any) -> str:
        """Open a group; its id."""
        answer = await self.post(
            "chatgroups?resource=web",
            owner=self.name,
            groupname=name,
            members=list(members),
            **{"desc": "", "public": True, "approval": False, "allowinvites": False, **more},
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"]["groupid"])

    @asynccontextmanager
    async def device(self, name: str = "phone") -> AsyncIterator[Connection]:
        """A native device of the same user."""
        async with connect(
            self.faced.native, user=self.name, device=name, app=self.app, token=self.token_text
        ) as me:
            yield me


@asynccontextmanager
async def faced(
    *apps: str,
    store: Store | None = None,
    settings: Mapping[str, str] | None = None,
    open_registration: bool = True,
    body_seconds_max: float = SECONDS_MAX,
) -> AsyncIterator[Faced]:
    """A node that serves these apps (`org#app`), with settings by app."""
    apps = apps or (APP,)
    known = dict.fromkeys(apps, "{}") | dict(settings or {})
    inline = store is None
    async with Node(store or MemoryStore(), inline=inline, apps=known).running() as node:
        face = Face(
            node=node,
            apps=frozenset(apps),
            open_registration=open_registration,
            body_seconds_max=body_seconds_max,
        )
        listener = await listen("http://127.0.0.1:0", application(face))
        node.listen_at(listener, node.handle)
        native = await node.listen("tcp://127.0.0.1:0")
        async with httpx.AsyncClient(base_url=listener.url, timeout=SECONDS_MAX) as http:
            yield Faced(node, http, native)


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Status and description of an error, whose shape is checked."""
    found = answer.json()
    assert answer.status_code != 200, found
    assert isinstance(found["error"], str)
    assert found["error"]
    return answer.status_code, str(found["error_description"])
