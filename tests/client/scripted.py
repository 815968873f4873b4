"""A peer that plays the node by a script, over any transport.

Unrealistic: it decides nothing. It keeps one list of messages per conversation, gives every message the next
seq, repeats nothing it was not told to repeat, never refuses unless told to, and hands every update to every
link; it has no storage, no rights and one user's view. What is real are the frames, the login, the resume by
token and the exactly-once numbers, because those are what a client's machinery leans on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio

import transports
from receipts.core.events import MessageAccepted
from receipts.core.ids import ConversationId, MessageId, UserId, direct_members
from receipts.core.ids import ConversationKind as Kind
from receipts.core.ranges import EMPTY, RangeSet
from receipts.wire import commands
from receipts.wire.codec import decode_command, encode_update
from receipts.wire.commands import Command
from receipts.wire.updates import (
    Accepted,
    Badge,
    CatchUp,
    ConversationPart,
    Done,
    MemberPart,
    Pong,
    Rejected,
    Update,
    Welcome,
)

_C = TypeVar("_C")
_names = iter(range(10**9))


class ScriptedNode:
    """See the module."""

    def __init__(self, user: UserId = "bob") -> None:
        self.user = user
        self.tick = 0
        self.messages: dict[ConversationId, list[tuple[int, MessageAccepted]]] = {}
        self.sent: dict[tuple[str, int], MessageAccepted] = {}
        self.read = RangeSet()
        """Of the one conversation `alice~bob`."""
        self.heard: list[Command] = []
        """Every command, in order, of all links."""
        self.links: list[transports.Link] = []
        self.answer: Callable[[Command], Update | None] = lambda command: None
        """What a test wants to be answered instead of the usual."""
        self.deaf: Callable[[Command], bool] = lambda command: False
        """Commands after which the link breaks instead of an answer; they were carried out."""
        self._changed = anyio.Event()

    @asynccontextmanager
    async def running(self, url: str = "") -> AsyncIterator[str]:
        """Serve until the block ends; gives the URL."""
        listener = await transports.listen(url or f"memory://scripted-{next(_names)}")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, self._serve)
            try:
                yield listener.url
            finally:
                tasks.cancel_scope.cancel()

    async def _serve(self, link: transports.Link) -> None:
        self.links.append(link)
        install = ""
        try:
            while True:
                for frame in await link.receive():
                    command = decode_command(frame)
                    if isinstance(command, commands.Hello):
                        install = command.install
                    self.heard.append(command)
                    replies = self._carry_out(command, install)
                    if self.deaf(command):
                        link.abort()
                        return
                    if replies:
                        link.send([encode_update(reply, self.tick) for reply in replies])
                self._tell_changed()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass
        finally:
            if link in self.links:
                self.links.remove(link)
            self._tell_changed()

    def _tell_changed(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until something holds that only a client can bring about."""
        with anyio.fail_after(20):
            while not condition():
                await self._changed.wait()

    def all(self, kind: type[_C]) -> list[_C]:
        """The commands of a type that were heard."""
        return [command for command in self.heard if isinstance(command, kind)]

    def post(self, body: str, author: UserId = "alice") -> MessageAccepted:
        """Somebody writes to `alice~bob`; everybody is told."""
        message = self._accept("alice~bob", author, body)
        self.push(message)
        return message

    def push(self, *updates: Update) -> None:
        """Tell every link."""
        self.tick += 1
        for link in self.links:
            link.send([encode_update(update, self.tick) for update in updates])

    def cut(self) -> None:
        """Break every link."""
        links, self.links = self.links, []
        for link in links:
            link.abort()

    def _accept(self, conversation: ConversationId, author: UserId, body: Any) -> MessageAccepted:
        self.tick += 1
        kept = self.messages.setdefault(conversation, [])
        number = sum(len(one) for one in self.messages.values()) + 1
        message = MessageAccepted(
            conversation, len(kept) + 1, MessageId(2 * number), author, at_ms=self.tick, body=body
        )
        kept.append((self.tick, message))
        return message

    def _carry_out(self, command: Command, install: str) -> list[Update]:
        other = self.answer(command)
        if other is not None:
            return [other]
        if isinstance(command, commands.Hello):
            return self._login(command)
        if isinstance(command, commands.SendMessage):
            return [self._send(command, install)]
        if isinstance(command, (commands.ReadConversation, commands.ReadMessages)):
            ranges = (
                (1, command.through + 1) if isinstance(command, commands.ReadConversation) else command.ranges
            )
            self.read.update(ranges)
            self.tick += 1
        if isinstance(command, commands.Ping):
            return [Pong(command.rid)]
        if isinstance(command, commands.GetBadge):
            return [
                Badge(rid=command.rid, messages=1, conversations=1, muted_messages=0, muted_conversations=0)
            ]
        return [Done(command.rid)] if command.rid else []

    def _login(self, hello: commands.Hello) -> list[Update]:
        if hello.password != "secret" and hello.token != "signed":
            from receipts.core.errors import Code

            return [Rejected(rid=hello.rid, code=Code.UNAUTHORIZED, reason="wrong password")]
        since = int(hello.resume.partition(":")[2]) if hello.resume else -1
        highest = max((number for which, number in self.sent if which == hello.install), default=0)
        return [
            Welcome(
                rid=hello.rid,
                user=hello.user,
                device=hello.device,
                prefix="life:",
                full=since < 0,
                node_time_ms=0,
                heartbeat_ms=30_000,
                number=highest,
            ),
            CatchUp(
                parts=tuple(self._part(name, since) for name in self.messages),
                token=f"life:{self.tick}",
                live=True,
                full=since < 0,
            ),
        ]

    def _part(self, conversation: ConversationId, since: int) -> ConversationPart:
        kept = self.messages[conversation]
        kind = Kind.DIRECT if direct_members(conversation) else Kind.GROUP
        read = self.read.ranges if conversation == "alice~bob" else EMPTY
        return ConversationPart(
            conversation=conversation,
            kind=kind,
            head=len(kept),
            messages=tuple(message for tick, message in kept if tick > since),
            members=(MemberPart(user=self.user, read=read),) if read else (),
        )

    def _send(self, command: commands.SendMessage, install: str) -> Accepted:
        key = (install, command.number)
        message = self.sent.get(key)
        if message is None:
            message = self.sent[key] = self._accept(command.conversation, self.user, command.body)
        return Accepted(
            command.rid,
            message.conversation,
            message.seq,
            message.message_id,
            message.at_ms,
            command.number,
        )
