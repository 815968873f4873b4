"""From ticks to frames: in order, and nothing before it is durable. PURE.

    pipeline.add(tick)                       decided, not yet to be seen by anybody
    mail = pipeline.ready()                  what may go out now, because nothing in front has to be written
    batch = pipeline.start()                 one commit for all ticks that wait; None when there is none to do
    mail = pipeline.committed()              it is durable: its ticks go out
    mail = pipeline.failed()                 it was undone: what everybody is told instead
    frames = answer(world, ask, found)       storage has answered a fetch of `mail.then`

Whoever calls this sends `mail.frames` first, then does `mail.then` in order; `mail.again` is to be decided
with the next tick, before anything else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from receipts.core.errors import Code, LocalProtocolError
from receipts.core.ranges import EMPTY, Ranges, through
from receipts.storage import base as rows
from receipts.wire import commands
from receipts.wire.codec import Frame
from receipts.wire.updates import Goodbye, Rejected, Update

from . import admin, calls, queries, queue_calls
from .commands import (
    Enter,
    ExplainFor,
    FindGroup,
    Grant,
    LinkLost,
    ListAllConversations,
    ListGroups,
    ListPublicGroups,
    ListReadersOf,
    ListUsers,
    MakeToken,
    Malformed,
    PasswordChecked,
    PasswordHashed,
    Reply,
    Stats,
    Sweep,
    Verify,
)
from .hub import Hub
from .queued import Queued
from .world import Ask, Cut, Session, Tick, World

__all__ = ["Mail", "Pipeline", "answer", "mail_of"]

RETRY_AFTER_FULL_MS = 5000
"""A full disk is emptied by a person, not by the next millisecond."""


class Mail:
    """What is let out."""

    __slots__ = ("again", "frames", "then")

    def __init__(self) -> None:
        self.again: list[tuple[Session, Any]] = []
        """Questions whose answers were undone: nothing was wrong with them."""
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
        """A tick was decided. One that brought nothing new may owe that to another which is not durable yet:
        then it shares its fate."""
        if tick.outbox or tick.writes or (tick.commands and not self.idle):
            self._waiting.append(tick)

    def ready(self) -> Mail:
        """Ticks at the front with nothing to write go out at once."""
        free: list[Tick] = []
        if self._committing is None:
            while self._waiting and not self._waiting[0].writes:
                free.append(self._waiting.popleft())
        return self._release(free)

    def _release(self, ticks: list[Tick]) -> Mail:
        """What changes nothing goes out under the number of the last tick that storage knows of: a number
        that storage does not know is given once more after a crash, to something else."""
        if ticks:
            self._hub.released(ticks[-1].number)
        return mail_of(ticks, self._hub.world.committed_tick)

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
        self._hub.committed()
        while self._waiting and not self._waiting[0].writes:
            ticks.append(self._waiting.popleft())
        return self._release(ticks)

    def failed(self) -> Mail:
        """The commit was undone, and with it all later ticks, which were built on it. Everybody whose
        command is lost is answered; nobody else is told anything. Questions are decided again, on what is
        on disk (scene 22)."""
        assert self._committing is not None
        lost = [*self._committing, *self._waiting]
        self._committing = None
        self._waiting.clear()
        undone = self._hub.undo()
        number = self._hub.world.committed_tick
        mail = Mail()
        for tick in lost:
            for session, command in tick.commands:
                if isinstance(command, PasswordChecked | PasswordHashed):
                    command = command.command
                if isinstance(command, LinkLost | Sweep):
                    continue  # nobody waits for an answer to these
                if _only_asks(command) and session.state != "closed":
                    mail.again.append((session, command))
                elif not isinstance(command, Malformed):
                    _put(mail, session, _storage_full(command), number)
            for entry in tick.outbox:
                if isinstance(entry, Cut):
                    mail.then.append(entry)
                elif not isinstance(entry, Ask) and isinstance(entry[1], Goodbye):
                    assert isinstance(entry[0], Session)
                    _put(mail, entry[0], _last_word(entry[1]), number)
        for session in undone:
            _put(mail, session, _UNDONE, number)
            mail.then.append(Cut(session))
        return mail


_ASKING = frozenset(
    {
        commands.FetchHistory,
        commands.ListConversations,
        commands.ListMembers,
        commands.ListReaders,
        commands.GetStatus,
        commands.ExplainUnread,
        commands.GetBadge,
        commands.ListDevices,
        commands.AckPage,
        commands.Ping,
        MakeToken,
        ListUsers,
        ExplainFor,
        ListAllConversations,
        Stats,
        Enter,
        Grant,
        FindGroup,
        ListGroups,
        ListPublicGroups,
        ListReadersOf,
        Malformed,
    }
)


def _only_asks(command: Any) -> bool:
    return type(command) in _ASKING or (type(command) is Verify and not command.repair)


_UNDONE = Goodbye(
    code=Code.STORAGE_FULL,
    reason="what this session was about could not be written: the node's disk is full",
    retry_after_ms=RETRY_AFTER_FULL_MS,
)

_JUDGED_ON_STATE = frozenset(
    {Code.REPLACED, Code.LOGGED_OUT, Code.UNAUTHORIZED, Code.TOKEN_REVOKED, Code.TOO_MANY}
)


def _last_word(said: Goodbye) -> Goodbye:
    """A link stays closed, but not for a reason that was undone: who hears 'logged out' forgets a lot."""
    return _UNDONE if said.code in _JUDGED_ON_STATE else said


def _put(mail: Mail, session: Session, update: Update | Reply | Queued, number: int) -> None:
    frames = _encode(mail, session, update, number)
    if frames:
        known = mail.frames.get(session)
        if known is None:
            mail.frames[session] = frames
        else:
            known += frames


def _encode(mail: Mail, session: Session, update: Update | Reply | Queued, number: int) -> list[Frame]:
    """An update as this session's frames. What is too large for one ends as an error of whoever asked for
    it, never as one of the node; without somebody who asked, the session cannot go on."""
    if session.dialect is None:
        return []
    try:
        return list(session.dialect.encode(update, number))
    except LocalProtocolError as error:
        rid = getattr(update, "rid", None)
        if rid is not None:
            refused = Rejected(rid=rid, code=Code.FRAME_TOO_LARGE, reason=f"ask for less at once: {error}")
            return list(session.dialect.encode(refused, number))
        mail.then.append(Cut(session))
        return list(session.dialect.encode(Goodbye(code=Code.FRAME_TOO_LARGE, reason=str(error)), number))


def answer(world: World, ask: Ask, found: Any) -> Mail:
    """What storage found, for the session that asked."""
    mail = Mail()
    if ask.session.state != "closed":
        made = _MAKE[ask.purpose](world, ask.session, ask.context, found)
        for update in made if isinstance(made, list) else [made]:
            if isinstance(update, Ask):  # there is more to fetch before anything can be said
                mail.then.append(update)
            else:
                _put(mail, ask.session, update, world.committed_tick)
    return mail


_MAKE: dict[str, Callable[[World, Session, Any, Any], Any]] = {
    **queries.ANSWERS,
    **admin.ANSWERS,
    **calls.ANSWERS,
    **queue_calls.ANSWERS,
}


def _storage_full(command: Any) -> Rejected:
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


_ACTIONS = (Ask, Cut)


def mail_of(ticks: Iterable[Tick], committed_tick: int) -> Mail:
    """Frames by session, each update encoded once per way of speaking, none under a later tick than
    `committed_tick`.

    A session that is behind is passed by: the page that is on its way has, or will have, what it misses.
    """
    mail = Mail()
    frames_of = mail.frames
    for tick in ticks:
        number = min(tick.number, committed_tick)
        for entry in tick.outbox:
            if isinstance(entry, _ACTIONS):
                mail.then.append(entry)
                continue
            to, update = entry
            if isinstance(to, list):
                if len(to) == 1:  # the usual one
                    if to[0].pushed:
                        _put(mail, to[0], update, number)
                    continue
                shared: dict[str, list[Frame]] = {}
                for session in to:
                    if not session.pushed:
                        continue
                    dialect = session.dialect
                    key = dialect.shared_key
                    frames = shared.get(key)
                    if frames is None:
                        cuts = len(mail.then)
                        frames = _encode(mail, session, update, number)
                        if key and len(mail.then) == cuts:
                            shared[key] = frames
                    known = frames_of.get(session)
                    if not frames:
                        continue
                    if known is None:
                        frames_of[session] = list(frames)
                    else:
                        known.extend(frames)
            else:
                _put(mail, to, update, number)
    return mail
