"""What the demo stands on: a node with its users and apps, devices that write down what they hear, and waits
that end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio

from receipts.client.connection import Connection, connect
from receipts.client.news import News
from receipts.node.commands import AddUser, MakeGroup, MakeToken, Stats
from receipts.node.runner import Node
from receipts.storage.sqlite import DATABASE_NAME, SQLiteStore

from .metrics import Figures

__all__ = ["Device", "Missed", "Stage", "expect", "staged"]

_T = TypeVar("_T")

LIMIT_SECONDS = 10.0
"""For anything to happen: a hundred times what it takes, for a machine that is busy with other things."""

TOKEN_MS = 24 * 60 * 60 * 1000


class Missed(Exception):
    """Something that should have been observed was not; the text says what."""


def expect(condition: object, text: str) -> None:
    """Insist on what was observed.

    Raises:
        Missed: It does not hold.
    """
    if not condition:
        raise Missed(text)


class Device:
    """A device of a user, and all it was told."""

    def __init__(self, me: Connection, app: str, transport: str, changed: Callable[[], None]) -> None:
        self.me = me
        self.app = app
        self.transport = transport
        self.heard: list[News] = []
        self._changed = changed
        me.on(object, self._hear)

    @property
    def name(self) -> str:
        return f"{self.me.user}'s {self.me.device}"

    def _hear(self, news: Any) -> None:
        self.heard.append(news)
        self._changed()

    def all(self, kind: type[_T], *, since: int = 0) -> list[_T]:
        """The updates of a type, in order.

        Args:
            since: An earlier length of `heard`.
        """
        return [news for news in self.heard[since:] if isinstance(news, kind)]

    async def until(self, what: str, condition: Callable[[], _T]) -> _T:
        """Wait until something holds.

        Raises:
            Missed: It did not within the limit.
        """
        try:
            with anyio.fail_after(LIMIT_SECONDS):
                return await self.me.until(condition)
        except TimeoutError:
            raise Missed(f"{self.name} waited {LIMIT_SECONDS:.0f} s for {what}") from None

    async def settle(self) -> None:
        """A round trip: the node answers in order, so whatever it told this device before has arrived."""
        await self.me.server_badge()


class Stage:
    """A node in this process, with real sockets and a real file."""

    def __init__(self, node: Node, figures: Figures, directory: Path, urls: Mapping[str, str]) -> None:
        self.node = node
        self.figures = figures
        self.directory = directory
        self.urls = urls
        """By transport: `tcp` and `ws`."""
        self.tokens: dict[tuple[str, str], str] = {}
        """By app and user."""
        self.devices: list[Device] = []
        self.changed: Callable[[], None] = lambda: None
        """Called when any device hears something."""

    async def add_users(self, *users: str, app: str = "default") -> None:
        """Open accounts, and a token for each."""
        for user in users:
            await self.node.operate(AddUser(rid=1, app=app, user=user))
            made = await self.node.operate(MakeToken(rid=1, app=app, user=user, lifetime_ms=TOKEN_MS))
            self.tokens[app, user] = made.text

    async def add_group(
        self, group: str, owner: str, admin: str, *members: str, app: str = "default"
    ) -> None:
        """Open a group."""
        await self.node.operate(
            MakeGroup(
                rid=1, app=app, conversation=group, name=group, owner=owner, admins=(admin,), members=members
            )
        )

    @asynccontextmanager
    async def device(
        self, user: str, device: str, transport: str, *, app: str = "default", delivery: bool = True
    ) -> AsyncIterator[Device]:
        """Log a device in for a while."""
        connection = connect(
            self.urls[transport],
            user=user,
            device=device,
            app=app,
            token=self.tokens[app, user],
            delivery=delivery,
            client="receipts-demo",
        )
        found = Device(connection, app, transport, lambda: self.changed())
        async with connection:
            self.devices.append(found)
            try:
                yield found
            finally:
                self.devices.remove(found)

    def commands(self, kind: type) -> int:
        """How many commands of a type the node has decided."""
        return self.figures.commands[kind]

    def stored_body(self, message_id: int) -> str | None:
        """What the file on disk has of a message, read by a connection of its own."""
        with sqlite3.connect(f"file:{self.directory / DATABASE_NAME}?mode=ro", uri=True) as db:
            row = db.execute("SELECT body FROM messages WHERE message_id = ?", (message_id,)).fetchone()
        db.close()
        return row[0] if row is not None else None

    async def until_away(self, user: str) -> None:
        """Wait until the node knows that no device of a user is there."""
        with anyio.fail_after(LIMIT_SECONDS):
            while any(session.user and session.user.name == user for session in self.node.hub.world.sessions):
                await self.node.operate(Stats(rid=1))  # one more tick of the node


@asynccontextmanager
async def staged(directory: Path, apps: Mapping[str, str]) -> AsyncIterator[Stage]:
    """Start a node on a fresh database, listening for TCP and for websockets.

    Args:
        apps: Settings by app, JSON.
    """
    figures = Figures()
    async with Node(SQLiteStore(directory), apps=apps, observer=figures).running() as node:
        urls = {scheme: await node.listen(f"{scheme}://127.0.0.1:0") for scheme in ("tcp", "ws")}
        yield Stage(node, figures, directory, urls)
