"""The one place where the node meets the world: links, the clock, threads, the disk.

Frames that are at hand are decoded and queued; all that is queued becomes one tick of the hub, without an
`await` in between; ticks become commits and then frames through the pipeline. Decisions are in the hub,
order and durability in the pipeline, bytes in `transports`, rows in the store.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

import anyio
import sniffio

import transports
from receipts.core.errors import Code, DecodeError, Refused
from receipts.core.ids import AppId
from receipts.storage.base import AppRow, Store, StoreCorrupt, StoreFailed, StoreFull
from receipts.wire.codec import BadCommand, Frame
from receipts.wire.commands import Command
from receipts.wire.dialect import Dialect, dialect_of
from receipts.wire.updates import Goodbye, Rejected

from . import admin
from .clock import NodeTime
from .commands import Admin, Call, Enter, LinkLost, Malformed, PasswordChecked, PasswordHashed, Sweep
from .hub import AnyCommand, Hub
from .operator import OPERATOR
from .passwords import Passwords
from .pipeline import Mail, Pipeline, answer
from .worker import Inline, Worker, call_soon
from .world import Ask, Need, PasswordJob, Session, Tick

__all__ = ["Node", "Observer"]

log = logging.getLogger("receipts.node")

BUFFERED_BYTES_MAX = 8 << 20
"""Of updates that a session does not read. Beyond it the link is cut; the session resumes where it was."""

UNCOMMITTED_MAX = 20_000
"""Commands decided and not yet durable; beyond it nothing more is read from links until the disk is done."""

BACKLOG_MAX = 10_000
"""Commands of one session that wait for storage; a client that sends more without an answer is cut."""

WORTH_A_COMMIT = 256
"""Commands with which a commit begins at once: its fixed cost, 250 µs of CPU, is 1 µs for each of them."""

LOOKS_MAX = 6
"""How often a smaller commit waits for what one more look at the links brings, while every look brings some.
A group of 200 that reads at once falls into two commits instead of three; a look takes some 100 µs."""

SWEEP_S = 1.0


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def _steady_clock_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _no_clock_ms() -> int:
    return 0


class Observer(Protocol):
    """Somebody who counts what a node does. Called in the event loop: be quick, and do not raise."""

    def ticked(self, tick: Tick) -> None:
        """A tick was decided; nothing of it is durable yet."""

    def committed(self, seconds: float, error: BaseException | None) -> None:
        """A commit has ended, `seconds` after it was handed to the store's thread."""


class Node:
    """A complete server on one store.

        store = SQLiteStore(directory)
        async with Node(store).running() as node:
            url = await node.listen("tcp://127.0.0.1:0")

    Args:
        store: Opened and closed by the node.
        apps: Settings by app name, JSON as in `admin.parse_settings`; they override what is stored. An app
            `default` is always there.
        clock: Milliseconds since 1970, the wall's clock when left out. Node time follows it, but never goes
            back.
        steady: Milliseconds of a clock that never goes back: how fast node time goes on when `clock` was set
            back. When left out, the system's, or with a `clock` of the caller's none: then it stands still.
        heartbeat_ms: A session that is silent for twice this long is closed.
        inline: Call the store in the event loop: for stores that do not block.
        secret: Signs tokens; None takes the one that the store was created with.
        observer: Hears of every tick and commit.
    """

    def __init__(
        self,
        store: Store,
        *,
        apps: Mapping[str, str] | None = None,
        clock: Callable[[], int] | None = None,
        steady: Callable[[], int] | None = None,
        heartbeat_ms: int = 30_000,
        inline: bool = False,
        secret: bytes | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.store = store
        self._observer = observer
        self._commit_began = 0.0
        self._settings = dict(apps or {})
        self._wall = clock or _wall_clock_ms
        self._steady = steady or (_no_clock_ms if clock is not None else _steady_clock_ms)
        self._time = NodeTime()
        self._heartbeat_ms = heartbeat_ms
        self._inline = inline
        self._secret = secret
        self._inbox: list[tuple[Session, AnyCommand]] = []
        self._scheduled = False
        self._advancing = False
        self._looks = 0
        self._failed: BaseException | None = None
        self._stopped = False
        self._uncommitted = 0
        self._committing = 0
        self._listeners: list[transports.Listener] = []
        self.urls: list[str] = []
        """Where the node listens, with real ports."""

    def _clock(self) -> int:
        return self._time.read(self._wall(), self._steady())

    # -- life

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Node]:
        """Open the store and serve until the block ends; then say goodbye and close everything.

        Raises:
            StoreLocked, StoreCorrupt: As `Store.open`.
            StoreFailed: The disk failed while running; the block is cancelled.
        """
        self._open()
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                tasks.start_soon(self._sweep_now_and_then)
                try:
                    yield self
                finally:
                    if self._failed is None:
                        with anyio.CancelScope(shield=True):
                            await self._drain()
                    tasks.cancel_scope.cancel()
        except Exception as error:
            if self._failed is None:  # else the block stumbled over a node that was gone
                raise _alone(error) from None
        finally:
            self._stopped = True
            self._passwords.close()
            self._worker.close()
            self.store.close()
        if isinstance(self._failed, StoreFailed | StoreCorrupt):
            raise StoreFailed(f"the node has stopped: {self._failed}") from self._failed
        if self._failed is not None:
            raise self._failed

    def _open(self) -> None:
        life, secret = secrets.token_hex(8), secrets.token_bytes(32)
        meta = self.store.open(now_ms=self._wall(), life=life, secret=secret)
        self._time = NodeTime(meta.node_time_ms)
        try:
            stored = {row.app: row for row in self.store.apps()}
            stored.setdefault("default", AppRow("default", "{}"))
            stored.update((app, AppRow(app, settings)) for app, settings in self._settings.items())
            due = self.store.next_due_receipt(0)
            self.hub = Hub(
                meta._replace(secret=self._secret or meta.secret),
                [admin.app_of(row) for row in stored.values()],
                next_receipts_ms=due,
            )
        except BaseException:
            self.store.close()
            raise
        # Who comes before the first tick is heard now, not when the node was last stopped.
        self.hub.world.now_ms = self._clock()
        self.hub.world.heartbeat_ms = self._heartbeat_ms
        self.hub.world.new.apps.extend(stored.values())
        self._pipeline = Pipeline(self.hub)
        soon = partial(call_soon(), self._guard)
        self._worker: Worker | Inline = Inline() if self._inline else Worker("receipts-store", soon)
        self._passwords = Passwords(soon)
        self._soon = _soon()
        self._relief: anyio.Event | None = None
        self._system = self.hub.open(peer="node", admin=True)

    async def listen(self, url: str, **options: Any) -> str:
        """Take sessions at a URL (`transports.listen`), from now until the node stops.

        Returns:
            The URL with the real port.
        """
        if url.startswith(("ws:", "wss:")):
            options.setdefault("health", self.health)
        return await self._serve(url, self.handle, options)

    def listen_at(self, listener: transports.Listener, handler: transports.Handler) -> str:
        """Take links from a listener that was made elsewhere, until the node stops; then it is closed before
        the sessions on it are.

        Args:
            handler: As `handle`, or something of that kind.

        Returns:
            Where it listens.
        """
        self._listeners.append(listener)
        self.urls.append(listener.url)
        self._tasks.start_soon(listener.serve, handler)
        return listener.url

    async def listen_operator(self, url: str) -> str:
        """Take operator's tools at a URL; whoever reaches it may do everything."""
        return await self._serve(url, self.handle_operator, {})

    async def _serve(self, url: str, handler: transports.Handler, options: dict[str, Any]) -> str:
        return self.listen_at(await transports.listen(url, **options), handler)

    @property
    def uncommitted(self) -> int:
        """Commands decided and not yet durable."""
        return self._uncommitted

    def health(self) -> str:
        """What a plain GET is answered."""
        return '{"status": "%s"}' % ("draining" if self.hub.world.draining else "ok")

    async def _drain(self) -> None:
        """Nothing new, everything that was decided to disk, a last word to everybody, and that they left."""
        world = self.hub.world
        world.draining = True
        for listener in self._listeners:
            await listener.aclose()
        self._guard(self._tick)
        await self._idle()
        links = []
        for session in list(world.sessions):
            if session.link is not None:
                if session.dialect is not None:
                    goodbye = Goodbye(
                        code=Code.SHUTTING_DOWN, reason="the node is shutting down", retry_after_ms=1000
                    )
                    self._send_to(session, session.dialect.encode(goodbye, world.committed_tick))
                links.append(session.link)
                session.link.close()
        with anyio.move_on_after(2):
            for link in links:
                await link.wait_closed()
        for session in list(world.sessions):
            self.submit(session, LinkLost())
        self._guard(self._tick)
        await self._idle()

    async def _idle(self) -> None:
        """Wait until all that was decided is durable."""
        while not self._pipeline.idle and self._failed is None:
            await self._room()

    # -- links

    async def handle(self, link: transports.Link) -> None:
        """Serve one link until it ends. What comes in on it is a session."""
        await self._handle(link, self.hub.open(link, link.peer))

    async def handle_queued(self, link: transports.Link, dialect: Dialect) -> None:
        """Serve a link of a device that keeps nothing itself: the node keeps what it was told.

        Args:
            dialect: Made for this link; see `receipts.node.queued` for what it says and is told.
        """
        session = self.hub.open(link, link.peer)
        session.dialect, session.queued = dialect, True
        await self._handle(link, session)

    async def handle_operator(self, link: transports.Link) -> None:
        """Serve an operator's tool."""
        session = self.hub.open(link, "operator", admin=True)
        session.dialect = OPERATOR
        await self._handle(link, session)

    async def _handle(self, link: transports.Link, session: Session) -> None:
        try:
            take = partial(self._take, session)
            while True:
                await link.receive_into(take)
                while self._is_behind:
                    await self._room()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            pass
        except transports.FrameTooLarge as error:
            reason = f"a frame may have {error.limit} bytes, this one has {error.size}"
            await self._end_badly(session, link, Code.FRAME_TOO_LARGE, reason)
        except transports.FramingError as error:
            await self._end_badly(session, link, Code.BAD_FRAME, error.reason)
        except anyio.BrokenResourceError:
            pass
        finally:
            session.link = None
            self.submit(session, LinkLost())

    async def _end_badly(self, session: Session, link: transports.Link, code: Code, reason: str) -> None:
        """Say why before the link is closed; the hub cuts it when the word is out."""
        session.dialect = session.dialect or dialect_of(b"")
        self.submit(session, Malformed(code=code, reason=reason, fatal=True))
        with anyio.move_on_after(5):
            await link.wait_closed()

    def _take(self, session: Session, frames: Iterable[Frame]) -> bool:
        """Decode and queue what came; whether more of it may come."""
        if self.hub.world.draining:
            return True  # else there would be no end; whoever sent this says it again after the reconnect
        session.heard_ms = self.hub.world.now_ms
        dialect = session.dialect
        inbox = self._inbox
        for frame in frames:
            if dialect is None:
                dialect = session.dialect = dialect_of(frame)
            try:
                commands = dialect.decode(frame)
            except BadCommand as error:
                inbox.append(
                    (session, Malformed(rid=error.rid, code=error.code, reason=str(error), fatal=False))
                )
            except DecodeError as error:
                inbox.append((session, Malformed(code=error.code, reason=str(error), fatal=True)))
                break
            else:
                for command in commands:
                    inbox.append((session, command))
        if session.backlog is not None and len(session.backlog) > BACKLOG_MAX:
            inbox.append((session, Malformed(code=Code.BUSY, reason="too many commands at once", fatal=True)))
        if not self._scheduled:
            self._scheduled = True
            self._soon(self._tick_now)
        return not self._is_behind

    @property
    def _is_behind(self) -> bool:
        """Whether the disk has to catch up before more is read from links."""
        return self._uncommitted + len(self._inbox) > UNCOMMITTED_MAX

    # -- ticks

    def submit(self, session: Session, command: AnyCommand) -> None:
        """Queue a command for the next tick."""
        self._inbox.append((session, command))
        if not self._scheduled:
            self._scheduled = True
            self._soon(self._tick_now)

    def _tick_now(self) -> None:
        self._guard(self._tick)

    def _guard(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Call what the event loop or a thread hands back. There, nobody is above it who would hear of a
        mistake of ours; what it leaves half done must not go on, nor reach the disk."""
        if self._failed is not None or self._stopped:
            return
        try:
            callback(*arguments)
        except Exception as error:
            self._fail(error)

    def _tick(self) -> None:
        """All that is queued, as one tick."""
        self._scheduled = False
        inbox = self._inbox
        if not inbox:
            return
        self._inbox = []
        self._uncommitted += len(inbox)
        self._take_up(self.hub.apply(inbox, self._clock()))
        self._advance_soon()

    def _advance_soon(self) -> None:
        """Look at the links once more first: what is there by now shares the commit."""
        if not self._advancing:
            self._advancing = True
            self._looks = 0
            self._soon(self._advance_now)

    def _advance_now(self) -> None:
        if self._inbox and self._looks < LOOKS_MAX and self._uncommitted < WORTH_A_COMMIT:
            self._looks += 1  # more comes with every look
            self._soon(self._advance_now)
        else:
            self._guard(self._advance)

    def _take_up(self, tick: Tick) -> None:
        self._pipeline.add(tick)
        if self._observer is not None:
            self._observer.ticked(tick)
        for need in tick.loads:
            self._worker.submit(
                partial(self._loaded, need), getattr(self.store, need.method), *need.arguments
            )
        for job in tick.passwords:
            self._passwords.start(job, self._password_done)

    def _advance(self) -> None:
        """Let out what may go, and start the next commit."""
        self._advancing = False
        self._let_out(self._pipeline.ready())
        batch = self._pipeline.start()
        if batch is not None:
            self._commit_began = time.perf_counter()
            self._committing = self._uncommitted
            self._worker.submit(self._committed, self.store.commit, batch)
        elif self._pipeline.idle:
            self._relieve(self._uncommitted)

    def _committed(self, result: None, error: BaseException | None) -> None:
        if self._observer is not None:
            self._observer.committed(time.perf_counter() - self._commit_began, error)
        if isinstance(error, StoreFull):
            log.error("the disk is full: %s", error)
            self._let_out(self._pipeline.failed())
        elif error is not None:
            self._fail(error)
            return
        else:
            self._let_out(self._pipeline.committed())
        self._relieve(self._committing)
        self._advance_soon()

    def _loaded(self, need: Need, found: Any, error: BaseException | None) -> None:
        if error is not None:
            self._fail(error)
            return
        self._take_up(self.hub.learn(need, found, self._clock()))
        self._advance()

    def _password_done(self, job: PasswordJob, outcome: bool | str | None) -> None:
        if job.known is not None:
            assert not isinstance(outcome, str)
            self.submit(job.session, PasswordChecked(command=job.command, good=outcome))
        else:
            assert not isinstance(outcome, bool)
            self.submit(job.session, PasswordHashed(command=job.command, hash=outcome))

    def _fail(self, error: BaseException) -> None:
        """What was acknowledged may not be on disk, or cannot be read, or memory may be wrong: stop at once
        (scene 22)."""
        if self._failed is None:
            log.critical("the node stops: %s", error, exc_info=error)
            self._failed = error
            for session in list(self.hub.world.sessions):
                if session.link is not None:
                    session.link.abort()
            self._relieve(self._uncommitted)
            self._tasks.cancel_scope.cancel()

    # -- what goes out

    def _let_out(self, mail: Mail) -> None:
        for session, frames in mail.frames.items():
            self._send_to(session, frames)
        for action in mail.then:
            if type(action) is Ask:
                done = partial(self._answered, action)
                self._worker.submit(done, getattr(self.store, action.method), **action.arguments)
            elif action.session.link is not None:
                action.session.link.close()
        if mail.again:
            self._inbox[:0] = mail.again
            if not self._scheduled:
                self._scheduled = True
                self._soon(self._tick_now)

    def _send_to(self, session: Session, frames: list[Frame]) -> None:
        link = session.link
        if link is None:
            return
        try:
            link.send(frames)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return  # its handler hears of it as well
        if link.buffered > BUFFERED_BYTES_MAX:
            log.warning("%r reads too slowly and is cut", session)
            link.abort()

    def _answered(self, ask: Ask, found: Any, error: BaseException | None) -> None:
        """A fetch is done; no commit after it has been let out yet (see `catchup`)."""
        if error is not None:
            self._fail(error)
            return
        self._let_out(answer(self.hub.world, ask, found))

    # -- time

    async def _sweep_now_and_then(self) -> None:
        while True:
            await anyio.sleep(SWEEP_S)
            if self._system.waiting_for is None:
                self.submit(self._system, Sweep())

    async def _room(self) -> None:
        if self._relief is None or self._relief.is_set():
            self._relief = anyio.Event()
        await self._relief.wait()

    def _relieve(self, durable: int) -> None:
        """That many commands are durable, or undone."""
        self._uncommitted -= durable
        if self._relief is not None:
            self._relief.set()

    # -- in the same process

    async def operate(self, command: Admin) -> Any:
        """Do an operator's command and return its answer (`Done`, `Text`, `Explained`), once it is durable.

        Raises:
            Refused: The node refused it, or stopped before it was done (`shutting_down`).
        """
        return await self._ask("operator", [command], admin=True)

    async def call(self, command: Command | Call, *, app: AppId = "", token: str = "") -> Any:
        """Do something for somebody who has no device here, and return its answer once it is durable.

        What it may be, what it may do and at what rate is as for a device of that user; it does not count as
        one, and nobody appears online by it.

        Args:
            command: With a rid.
            app, token: In whose name; not for `Enter`, `Grant` and `RegisterUser`, which say it themselves.

        Raises:
            Refused: The token or the command was refused, or the node stopped before (`shutting_down`).
        """
        entering = [Enter(app=app, token=token)] if token else []
        return await self._ask("call", [*entering, command], admin=False)

    async def _ask(self, peer: str, asked: Sequence[AnyCommand], *, admin: bool) -> Any:
        if self.hub.world.draining or self._failed is not None:  # nobody is there to answer any more
            raise Refused(Code.SHUTTING_DOWN, "the node is stopping", retry_after_ms=1000)
        desk = _Desk()
        session = self.hub.open(desk, peer, admin=admin)
        session.dialect = desk
        for command in asked:
            self.submit(session, command)
        try:
            await desk.answered.wait()
        finally:
            session.link = None
            self.submit(session, LinkLost())
        if desk.answer is None:
            raise Refused(Code.SHUTTING_DOWN, "the node stopped before it answered", retry_after_ms=1000)
        if isinstance(desk.answer, Rejected):
            refused = desk.answer
            raise Refused(
                refused.code, refused.reason, retry_after_ms=refused.retry_after_ms, limit=refused.limit
            )
        return desk.answer


def _alone(error: Exception) -> Exception:
    """What went wrong in the block, without the group that a task group puts around it."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


class _Desk:
    """Somebody in the same process who asks one thing: a link and a way of speaking in one, without frames.
    The first answer is the one: of what is asked in a row, all but the last answers only when refused."""

    shared_key = ""
    buffered = 0

    def __init__(self) -> None:
        self.answer: Any = None
        self.answered = anyio.Event()

    def encode(self, update: Any, tick: int) -> list[Any]:
        return [update]

    def send(self, frames: list[Any]) -> None:
        if self.answer is None and not isinstance(frames[0], Goodbye):
            self.answer = frames[0]
        self.answered.set()

    def close(self) -> None:
        self.answered.set()

    abort = close

    async def wait_closed(self) -> None:
        """As of a link: it is."""


def _soon() -> Callable[[Callable[[], None]], None]:
    """How something is called when the tasks that are ready have run."""
    if sniffio.current_async_library() == "trio":
        import trio

        return partial(trio.lowlevel.current_trio_token().run_sync_soon, idempotent=True)
    import asyncio

    loop = asyncio.get_running_loop()

    def soon(callback: Callable[[], None]) -> None:
        loop.call_soon(callback)

    return soon
