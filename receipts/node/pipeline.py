"""From ticks to frames: in order, and nothing before it is durable. PURE.

    pipeline.add(tick)                       decided, not yet to be seen by anybody
    mail = pipeline.ready()                  what may go out now, because nothing in front has to be written
    batch = pipeline.start()                 one commit for all ticks that wait; None when there is none to do
    mail = pipeline.committed()              it is durable: its ticks go out
    mail = pipeline.failed()                 it was undone: what everybody is told instead

Whoever calls this sends `mail.frames` first, then does `mail.then` in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from receipts.core.errors import Code
from receipts.core.ranges import EMPTY, Ranges, through
from receipts.storage import base as rows
from receipts.wire import commands
from receipts.wire.codec import Frame
from receipts.wire.updates import Goodbye, Rejected

from .hub import Hub
from .world import Ask, Cut, Session, Tick

__all__ = ["Mail", "Pipeline", "mail_of"]

RETRY_AFTER_FULL_MS = 5000
"""A full disk is emptied by a person, not by the next millisecond."""


class Mail:
    """What is let out."""

    __slots__ = ("frames", "then")

    def __init__(self) -> None:
        self.frames: dict[Session, list[Frame]] = {}
        """One write per session."""
        self.then: list[Ask | Cut] = []
        """Fetches to make and links to close, in order, after the frames."""


class Pipeline:
    """Ticks waiting, committing, released, rolled back."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._waiting: deque[Tick] = deque()
        self._committing: list[Tick] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is being written."""
        return not self._waiting and self._committing is None

    def add(self, tick: Tick) -> None:
        """A tick was decided."""
        if tick.outbox or tick.writes:
            self._waiting.append(tick)

    def ready(self) -> Mail:
        """Ticks at the front with nothing to write go out at once."""
        free: list[Tick] = []
        if self._committing is None:
            while self._waiting and not self._waiting[0].writes:
                free.append(self._waiting.popleft())
        return mail_of(free)

    def start(self) -> rows.Batch | None:
        """The next commit, if there is one to do and none is running.

        After calling this, you must call `committed` or `failed` when it has ended.
        """
        if self._committing is not None or not any(tick.writes for tick in self._waiting):
            return None
        self._committing = list(self._waiting)
        self._waiting.clear()
        return self._hub.collect()

    def committed(self) -> Mail:
        """The commit is durable."""
        assert self._committing is not None
        ticks, self._committing = self._committing, None
        self._hub.committed(ticks[-1].number)
        while self._waiting and not self._waiting[0].writes:
            ticks.append(self._waiting.popleft())
        return mail_of(ticks)

    def failed(self) -> Mail:
        """The commit was undone, and with it all later ticks, which were built on it. Everybody whose
        command is lost is answered; nobody else is told anything."""
        assert self._committing is not None
        lost = [*self._committing, *self._waiting]
        self._committing = None
        self._waiting.clear()
        undone = self._hub.undo()
        number = self._hub.world.tick_number
        mail = Mail()
        for tick in lost:
            for session, command in tick.commands:
                if session.dialect is not None and type(command) in _ANSWERED:
                    mail.frames.setdefault(session, []).extend(
                        session.dialect.encode(_storage_full(command), number)
                    )
            mail.then += [entry for entry in tick.outbox if type(entry) is Cut]
        for session in undone:
            goodbye = Goodbye(
                code=Code.STORAGE_FULL,
                reason="the login could not be written: the node's disk is full",
                retry_after_ms=RETRY_AFTER_FULL_MS,
            )
            mail.frames.setdefault(session, []).extend(session.dialect.encode(goodbye, number))
            mail.then.append(Cut(session))
        return mail


_ANSWERED = frozenset(commands.COMMAND_TYPES)


def _storage_full(command: commands.Command) -> Rejected:
    ranges: Ranges = EMPTY
    if isinstance(command, commands.AckDelivered | commands.ReadMessages):
        ranges = command.ranges
    elif isinstance(command, commands.ReadConversation):
        ranges = through(command.through)
    return Rejected(
        rid=command.rid,
        code=Code.STORAGE_FULL,
        reason="the node's disk is full; nothing was changed, try again later",
        retry_after_ms=RETRY_AFTER_FULL_MS,
        conversation=getattr(command, "conversation", None),
        ranges=ranges,
    )


def mail_of(ticks: Iterable[Tick]) -> Mail:
    """Frames by session, each update encoded once per way of speaking.

    A session that is behind is passed by: the page that is on its way has, or will have, what it misses.
    """
    mail = Mail()
    frames_of = mail.frames
    for tick in ticks:
        number = tick.number
        for entry in tick.outbox:
            if isinstance(entry, Ask | Cut):
                mail.then.append(entry)
                continue
            to, update = entry
            if isinstance(to, list):
                shared: dict[str, list[Frame]] = {}
                for session in to:
                    if session.state != "live":
                        continue
                    dialect = session.dialect
                    key = dialect.shared_key
                    frames = shared.get(key)
                    if frames is None:
                        frames = dialect.encode(update, number)
                        if key:
                            shared[key] = frames
                    known = frames_of.get(session)
                    if known is None:
                        frames_of[session] = list(frames)
                    else:
                        known.extend(frames)
            elif to.dialect is not None:
                frames_of.setdefault(to, []).extend(to.dialect.encode(update, number))
    return mail
