"""A session driven by hand: frames in, commands out, time moved by the test alone.

Unrealistic: there is no link and no node, so whatever the node would judge or repeat the test says itself.
Every update goes through the real codec, so a session sees exactly what it would see on a link.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from receipts.client.news import News
from receipts.client.outbox import Outbox
from receipts.client.reading import ReadingPolicy
from receipts.client.replica import Replica
from receipts.client.session import Profile, Session, State
from receipts.core.events import MessageAccepted
from receipts.core.ids import ConversationId, Counts, MessageId, Seq, UserId
from receipts.wire.codec import decode_command, encode_update
from receipts.wire.commands import Command, Hello
from receipts.wire.updates import CatchUp, ConversationPart, Update, Welcome

PREFIX = "life:"

_T = TypeVar("_T")


def message(
    seq: Seq,
    author: UserId = "alice",
    *,
    conversation: ConversationId = "alice~bob",
    body: str = "hi",
    asks: bool = False,
    counts: Counts = Counts.YES,
) -> MessageAccepted:
    """A message as the node pushes it."""
    return MessageAccepted(
        conversation, seq, MessageId(2 * seq), author, at_ms=1000 + seq, body=body, asks=asks, counts=counts
    )


def only(kind: type[_T], items: Iterable[Any]) -> list[_T]:
    """Those of a type."""
    return [item for item in items if isinstance(item, kind)]


class Device:
    """One device of bob's (or another user's)."""

    def __init__(
        self,
        user: UserId = "bob",
        device: str = "phone",
        *,
        install: str = "install",
        replica: Replica | None = None,
        outbox: Outbox | None = None,
        policy: ReadingPolicy | None = None,
        saving: bool = False,
        **profile: Any,
    ) -> None:
        self.now_ms = 0
        self.tick = 0
        self.session = Session(
            Profile(user=user, device=device, **profile),
            replica or Replica(user, device),
            outbox or Outbox(install),
            policy=policy,
            saving=saving,
        )
        self.replica = self.session.replica

    def state(self) -> State:
        """Where the session stands."""
        return self.session.state

    def open(self) -> Hello:
        """A link stands; the hello that went out."""
        self.session.link_opened(self.now_ms, password="secret")
        (hello,) = self.said()
        assert isinstance(hello, Hello)
        return hello

    def welcome(self, *, number: int = 0, full: bool = False) -> Hello:
        """Log in, and say welcome."""
        hello = self.open()
        self.hear(
            Welcome(
                rid=hello.rid,
                user=hello.user,
                device=hello.device,
                prefix=PREFIX,
                full=full,
                node_time_ms=0,
                heartbeat_ms=30_000,
                number=number,
            )
        )
        return hello

    def live(self, *parts: ConversationPart, full: bool = False, number: int = 0) -> list[Command]:
        """Log in and catch up with one page; what was said from the welcome on."""
        self.welcome(full=full, number=number)
        said = self.said()
        self.page(*parts, full=full)
        return said + self.said()

    def page(self, *parts: ConversationPart, live: bool = True, full: bool = False) -> None:
        """A page of catch-up."""
        self.tick += 1
        self.hear(CatchUp(parts=parts, token=f"{PREFIX}{self.tick}", live=live, full=full))

    def hear(self, *updates: Update) -> None:
        """The node says something, all in one tick."""
        self.tick += 1
        frames = [encode_update(update, self.tick) for update in updates]
        self.session.receive_frames(frames, self.now_ms)
        assert self.session.broken is None, self.session.broken

    def said(self) -> list[Command]:
        """What goes out now."""
        return [decode_command(frame) for frame in self.session.take_frames(self.now_ms)]

    def wait(self, ms: int) -> list[Command]:
        """Time passes; what goes out then."""
        self.now_ms += ms
        self.session.timer(self.now_ms)
        return self.said()

    def told(self) -> list[News]:
        """What the application hears."""
        return self.session.take_news()

    def lose(self) -> None:
        """The link is cut."""
        self.session.link_lost(self.now_ms)
