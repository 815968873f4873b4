"""One process of the node: the real hub, pipeline and dialects, driven without I/O.

This stands where `receipts.node.runner` stands, with queues that steps empty in place of an event loop, a
store's thread and password threads. What is glue there is glue here: frames become commands (`take`), all
that is queued becomes a tick, the store's jobs are done in order by one thread, and what they bring is taken
up in that order. Hashing a password is simulated: it costs 50 ms. Not simulated is what keeps a stranger in
bounds: how much may wait for one session, and how much may be decided and not durable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from receipts.core.errors import DecodeError
from receipts.node import admin
from receipts.node.accounts import sign_token
from receipts.node.clock import NodeTime
from receipts.node.commands import (
    AddUser,
    Admin,
    ConfigureApp,
    ExplainFor,
    LinkLost,
    ListAllConversations,
    ListUsers,
    MakeGroup,
    MakeToken,
    Malformed,
    PasswordChecked,
    PasswordHashed,
    RemoveUser,
    RevokeTokens,
    SetPassword,
    Stats,
    Sweep,
    Verify,
)
from receipts.node.hub import AnyCommand, Hub
from receipts.node.pipeline import Mail, Pipeline, answer
from receipts.node.world import Ask, PasswordJob, Session, Tick
from receipts.storage.base import AppRow, StoreFailed, StoreFull
from receipts.wire.codec import BadCommand, Frame
from receipts.wire.dialect import NATIVE_BINARY, NATIVE_TEXT, dialect_of
from receipts.wire.updates import Update

from .cast import AppCast
from .checks import Checks
from .disk import NodeDisk
from .link import Link

__all__ = ["OPERATIONS", "NodeProcess", "Told", "ToldText"]

SECRET = b"a secret of 32 bytes, simulated."
SWEEP_MS = 1000
TOKEN_MS = 10 * 365 * 24 * 3_600_000


class Told(bytes):
    """A frame that remembers what it says, so that nobody has to read it twice."""

    tick: int
    update: Any


class ToldText(str):
    """The same in JSON."""

    __slots__ = ("tick", "update")

    tick: int
    update: Any


class _Binary:
    """The native protocol in msgpack, its frames marked with what they say."""

    shared_key = NATIVE_BINARY.shared_key
    decode = staticmethod(NATIVE_BINARY.decode)

    @staticmethod
    def encode(update: Update, tick: int) -> list[Frame]:
        frame = Told(NATIVE_BINARY.encode(update, tick)[0])  # type: ignore[arg-type]
        frame.tick, frame.update = tick, update
        return [frame]


class _Text:
    """The native protocol in JSON, likewise."""

    shared_key = NATIVE_TEXT.shared_key
    decode = staticmethod(NATIVE_TEXT.decode)

    @staticmethod
    def encode(update: Update, tick: int) -> list[Frame]:
        frame = ToldText(NATIVE_TEXT.encode(update, tick)[0])
        frame.tick, frame.update = tick, update
        return [frame]


class _Desk:
    """The operator's way of speaking: values, not frames."""

    shared_key = ""

    @staticmethod
    def decode(frame: Any) -> list[Any]:
        return [frame]

    @staticmethod
    def encode(update: Any, tick: int) -> list[Any]:
        return [update]


class Job(NamedTuple):
    """Something for the store's thread."""

    kind: str
    """`load`, `ask` or `commit`."""
    what: Any
    """A `Need`, an `Ask` or a `Batch`, as its kind says."""


class NodeProcess:
    """From one start of the node to its crash.

    Args:
        disk: Closed; what an earlier process left there.
        apps: Settings that override what is stored.
        wall: The wall's clock, which may be set back.
        steady: True time.
        life: Of a disk that is new.
        checks: Judges everything.
    """

    def __init__(
        self,
        disk: NodeDisk,
        apps: Iterable[AppCast],
        wall: Callable[[], int],
        steady: Callable[[], int],
        *,
        heartbeat_ms: int,
        life: str,
        checks: Checks | None,
    ) -> None:
        self.disk = disk
        self._checks = checks
        self.failed = False
        """Whether it has to stop: a sync failed."""
        self.inbox: list[tuple[Session, AnyCommand]] = []
        self.jobs: deque[Job] = deque()
        """For the store's thread."""
        self.done: deque[tuple[Job, Any]] = deque()
        """What it brought, to be taken up."""
        self.passwords: deque[PasswordJob] = deque()
        self._wall, self._steady = wall, steady
        meta = disk.open(now_ms=wall(), life=life, secret=SECRET)
        self._time = NodeTime(meta.node_time_ms)
        stored = {row.app: row for row in disk.apps()}
        for app in apps:
            stored.setdefault(app.app, AppRow(app.app, app.settings))
        self.hub = Hub(
            meta,
            [admin.app_of(row) for row in stored.values()],
            next_receipts_ms=disk.next_due_receipt(0),
        )
        world = self.world = self.hub.world
        world.now_ms = self.swept_ms = self.clock()
        world.heartbeat_ms = heartbeat_ms
        world.new.apps.extend(stored.values())
        self.pipeline = Pipeline(self.hub)
        self.system = self.hub.open(peer="node", admin=True)
        self.operator = self.hub.open(link=Link(0, "operator"), peer="operator", admin=True)
        self.operator.dialect = _Desk()
        self.answers: list[Any] = []
        """What the operator was told, in order."""
        self.on_frames: Callable[[Link, list[Frame]], None] = _send
        """Puts frames on a link."""
        self._rid = 0
        if checks is not None:
            checks.node_started(self.hub, disk)

    def clock(self) -> int:
        """Node time; as `Node` has it."""
        return self._time.read(self._wall(), self._steady())

    # -- what comes in

    @property
    def busy(self) -> bool:
        """Whether there is anything for `tick`, `store`, `release` or `check_password` to do."""
        return bool(self.inbox or self.jobs or self.done or self.passwords)

    @property
    def ahead(self) -> bool:
        """Whether the disk has a commit that the node has not taken up yet."""
        return any(job.kind == "commit" and found is None for job, found in self.done)

    def accept(self, link: Link) -> None:
        """A device has opened a link."""
        link.session = self.hub.open(link, link.label)

    def take(self, session: Session, frames: Iterable[Frame]) -> None:
        """Frames have arrived; as `Node._take`."""
        session.heard_ms = self.world.now_ms
        inbox = self.inbox
        dialect = session.dialect
        for frame in frames:
            if dialect is None:
                dialect = session.dialect = _Text if dialect_of(frame) is NATIVE_TEXT else _Binary
            try:
                inbox.append((session, dialect.decode(frame)[0]))
            except BadCommand as error:
                bad = Malformed(rid=error.rid, code=error.code, reason=str(error), fatal=False)
                inbox.append((session, bad))
            except DecodeError as error:
                inbox.append((session, Malformed(code=error.code, reason=str(error), fatal=True)))
                break

    def lose(self, session: Session) -> None:
        """The link of a session has ended."""
        if session.link is not None:
            session.link = None
            self.inbox.append((session, LinkLost()))

    def sweep_if_due(self) -> None:
        """Time has passed. A node that sweeps every second knows the time that well, however much passes in
        one step; else whoever connects after a long pause would be taken for silent at once."""
        now_ms = self.clock()
        self.world.now_ms = max(self.world.now_ms, now_ms)
        if self.swept_ms <= now_ms - SWEEP_MS:
            self.swept_ms = now_ms
            if self.system.waiting_for is None:
                self.inbox.append((self.system, Sweep()))

    def operate(self, operation: str, arguments: tuple[Any, ...]) -> None:
        """The operator asks for something."""
        self._rid += 1
        self.inbox.append((self.operator, OPERATIONS[operation](self._rid, *arguments)))

    def token(self, app: str, user: str) -> str | None:
        """A token as the operator's tool makes it; None for whom there is no account."""
        rows = self.disk.user(app, user)
        if rows is None or rows.user.removed:
            return None
        return sign_token(self.world.secret, rows.user, expires_ms=self.clock() + TOKEN_MS)

    # -- steps

    def tick(self) -> None:
        """All that is queued, as one tick."""
        inbox = self.inbox
        if inbox:
            self.inbox = []
            self._take_up(self.hub.apply(inbox, self.clock()))
            self._advance()

    def store(self, jobs: int, outcome: str = "ok") -> int:
        """Let the store's thread do the next jobs. Returns how many commits were among them."""
        commits = 0
        while self.jobs and jobs > 0 and not self.failed:
            jobs -= 1
            job = self.jobs[0]
            if job.kind == "commit":
                if not self._commit(job, outcome):
                    break
                commits += 1
            elif job.kind == "load":
                self.done.append((job, getattr(self.disk, job.what.method)(*job.what.arguments)))
            else:
                self.done.append((job, getattr(self.disk, job.what.method)(**job.what.arguments)))
            self.jobs.popleft()
        return commits

    def _commit(self, job: Job, outcome: str) -> bool:
        """Returns whether the job is done."""
        disk = self.disk
        try:
            if outcome in ("failed", "failed-kept"):
                disk.fail(job.what)
            if not disk.unsynced:
                disk.write(job.what)
        except StoreFull as error:
            self.done.append((job, error))
            return True
        except StoreFailed:
            self.failed = True
            return False
        if outcome == "written":
            return False
        disk.sync()
        self.done.append((job, None))
        return True

    def release(self, outcomes: int) -> None:
        """Take up what the store's thread has brought."""
        checks = self._checks
        while self.done and outcomes > 0:
            outcomes -= 1
            job, found = self.done.popleft()
            if job.kind == "load":
                self._take_up(self.hub.learn(job.what, found, self.clock()))
                self._advance()
            elif job.kind == "ask":
                mail = answer(self.world, job.what, found)
                if checks is not None:
                    checks.answered(job.what, mail)
                self._let_out(mail)
            else:
                self._committed(found)

    def _committed(self, error: StoreFull | None) -> None:
        checks = self._checks
        if error is not None:
            mail = self.pipeline.failed()
            if checks is not None:
                checks.failed(mail)
        else:
            mail = self.pipeline.committed()
            if checks is not None:
                checks.committed(mail)
        self._let_out(mail)
        self._advance()

    def check_password(self) -> None:
        """The thread is done with the next one."""
        if self.passwords:
            job = self.passwords.popleft()
            if job.known is None:
                hashed = PasswordHashed(command=job.command, hash="hash:" + job.password)
                self.inbox.append((job.session, hashed))
            else:
                good = job.known == "hash:" + job.password
                self.inbox.append((job.session, PasswordChecked(command=job.command, good=good)))

    # -- between them

    def _take_up(self, tick: Tick) -> None:
        if self._checks is not None:
            self._checks.ticked(tick)
        self.pipeline.add(tick)
        for need in tick.loads:
            self.jobs.append(Job("load", need))
        self.passwords.extend(tick.passwords)

    def _advance(self) -> None:
        if self.pipeline.idle:
            return
        checks = self._checks
        mail = self.pipeline.ready()
        if checks is not None:
            checks.released(mail)
        self._let_out(mail)
        batch = self.pipeline.start()
        if batch is not None:
            if checks is not None:
                checks.collected()
            self.jobs.append(Job("commit", batch))

    def _let_out(self, mail: Mail) -> None:
        for session, frames in mail.frames.items():
            link = session.link
            if session is self.operator:
                self.answers += frames
            elif link is not None:
                self.on_frames(link, frames)
        for action in mail.then:
            if type(action) is Ask:
                self.jobs.append(Job("ask", action))
            elif action.session.link is not None:
                action.session.link.node_gone = True
        if mail.again:
            self.inbox[:0] = mail.again


def _send(link: Link, frames: list[Frame]) -> None:
    link.send_down(frames)


def _repair(rid: int, app: str, conversation: str, life: str) -> Verify:
    return Verify(rid=rid, app=app, conversation=conversation, repair=True, life=life)


OPERATIONS: dict[str, Callable[..., Admin]] = {
    "add-user": lambda rid, app, user, password=None: AddUser(rid=rid, app=app, user=user, password=password),
    "remove-user": lambda rid, app, user: RemoveUser(rid=rid, app=app, user=user),
    "set-password": lambda rid, app, user, password: SetPassword(
        rid=rid, app=app, user=user, password=password
    ),
    "revoke-tokens": lambda rid, app, user: RevokeTokens(rid=rid, app=app, user=user),
    "make-token": lambda rid, app, user: MakeToken(rid=rid, app=app, user=user, lifetime_ms=TOKEN_MS),
    "list-users": lambda rid, app: ListUsers(rid=rid, app=app),
    "make-group": lambda rid, app, group, owner, admins, members: MakeGroup(
        rid=rid,
        app=app,
        conversation=group,
        name=f"the group {group}",
        owner=owner,
        admins=admins,
        members=members,
    ),
    "configure": lambda rid, app, settings: ConfigureApp(rid=rid, app=app, settings=settings),
    "explain": lambda rid, app, user, conversation: ExplainFor(
        rid=rid, app=app, user=user, conversation=conversation
    ),
    "list-conversations": lambda rid: ListAllConversations(rid=rid),
    "verify": lambda rid, app, conversation: Verify(rid=rid, app=app, conversation=conversation),
    "repair": _repair,
    "stats": lambda rid: Stats(rid=rid),
}
"""Operation of an `Operate` step → its command."""
