"""A device as it is looked at: its replica, which notes what it hears, and what was seen of it before."""

from __future__ import annotations

from typing import Any

from receipts.client.replica import Replica
from receipts.client.session import Session as Client
from receipts.core.ids import ConversationId, UserId
from receipts.wire import updates

from .violation import Violation

__all__ = ["Watched", "WatchedDevice"]


class Watched(Replica):
    """A replica that notes what it hears, for `Checks`."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.heard: list[Any] = []
        """Updates joined in since this was emptied."""
        self.seen: set[ConversationId] = set()
        """Conversations that changed since this was emptied."""

    def apply(self, update: updates.Update, tick: int = 0) -> list[updates.Update]:
        """As `Replica.apply`."""
        self.heard.append(update)
        return super().apply(update, tick)

    def saved(self) -> None:
        """As `Replica.saved`."""
        if self.touched:
            self.seen |= self.touched
        super().saved()

    @property
    def names(self) -> list[ConversationId]:
        """All conversations that were heard of."""
        return list(self._boxes)

    def take_seen(self) -> list[ConversationId]:
        """Conversations that changed since the last call, in an order that is the same in every run."""
        seen = self.seen
        if self.touched:
            seen = seen | self.touched
        if not seen:
            return []
        self.seen = set()
        return list(seen) if len(seen) < 2 else sorted(seen)


class WatchedDevice:
    """What is remembered of one process of a device."""

    __slots__ = (
        "app",
        "client",
        "complete",
        "counts",
        "delivery",
        "install",
        "known",
        "label",
        "logins",
        "looks",
        "prints",
        "read_here",
        "replica",
    )

    def __init__(self, label: str, client: Client) -> None:
        replica = client.replica
        assert isinstance(replica, Watched)
        self.label = label
        self.client = client
        self.replica = replica
        self.app = client.profile.app
        self.install = client.outbox.install
        self.known: dict[tuple[ConversationId, UserId], tuple[int, int, int]] = {}
        """(read, shared as read, shared as delivered) of members, as it was known the last time."""
        self.prints: dict[ConversationId, dict[UserId, tuple[int, ...]]] = {}
        """What those sets look like from afar; empty to look closely."""
        self.counts: dict[ConversationId, int] = {}
        """Unread without what was read here, the last time."""
        self.read_here: dict[ConversationId, int] = {}
        """What was read here and is not confirmed, the last time."""
        self.complete = True
        """Not while it has caught up with a part, in an earlier process, and with no more yet."""
        self.looks = 0
        """At it and at what it shows, up to now."""
        self.logins = 0
        """Full or partial catch-ups since it began."""
        self.delivery = True
        """Whether every login was one that is told of deliveries."""

    @property
    def user(self) -> UserId:
        return self.replica.user

    def wrong(self, invariant: str, what: str, expected: Any, found: Any) -> Violation:
        return Violation(invariant, f"{self.label}: {what}", f"expected {expected}\nfound    {found}")
