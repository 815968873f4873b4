"""A node without a world around it: hub, pipeline and a store, driven by hand, one command at a time.

Unrealistic: there is no link and no thread, so commits happen at once unless a test holds them, and updates
are compared as objects, not as frames. Everything that decides is the real thing.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from receipts.node import admin, queries
from receipts.node.commands import AddUser, LinkLost, MakeGroup, PasswordChecked, PasswordHashed, Sweep
from receipts.node.hub import AnyCommand, Hub
from receipts.node.pipeline import Mail, Pipeline
from receipts.node.world import Ask, Session, Tick
from receipts.storage.base import AppRow, Store, StoreFull
from receipts.storage.memory import MemoryStore
from receipts.wire import VERSION, commands, updates


class Recorder:
    """A way of speaking that keeps updates as they are."""

    def __init__(self, shared_key: str) -> None:
        self.shared_key = shared_key

    def decode(self, frame: Any) -> list[Any]:
        return [frame]

    def encode(self, update: Any, tick: int) -> list[Any]:
        return [(tick, update)]


class Device:
    """A device's session, and what it was told."""

    def __init__(self, book: Playbook, session: Session, name: str) -> None:
        self.book = book
        self.session = session
        self.name = name
        self.inbox: deque[Any] = deque()
        self.token: str | None = None
        self.prefix = ""
        self.cut = False

    def do(self, command: AnyCommand) -> list[Any]:
        """Send a command; what this device was told since the last look."""
        self.book.run((self, command))
        return self.told()

    def told(self) -> list[Any]:
        """What came since the last look."""
        found = list(self.inbox)
        self.inbox.clear()
        return found

    def lose(self) -> None:
        """The link breaks."""
        self.session.link = None
        self.book.run((self, LinkLost()))

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Playbook:
    """One node; `now_ms` is its clock, moved by the test alone."""

    def __init__(self, store: Store | None = None, *, settings: str = "{}", life: str = "life1") -> None:
        self.store = store if store is not None else MemoryStore()
        self.now_ms = 1_000_000
        self.settings = settings
        meta = self.store.open(now_ms=self.now_ms, life=life, secret=b"0" * 32)
        self.hub = Hub(
            meta,
            [admin.app_of(AppRow("default", settings)), *self._more_apps()],
            next_receipts_ms=self.store.next_due_receipt(0),
        )
        self.pipeline = Pipeline(self.hub)
        self.hold = False
        """While true, commits are started and not finished."""
        self.full = False
        """While true, commits fail as on a full disk."""
        self._started: Any = None
        self.devices: dict[Session, Device] = {}
        self.system = self.hub.open(peer="node", admin=True)
        self.operator = self._attach(self.hub.open(peer="operator", admin=True), "operator")

    def _more_apps(self) -> list[Any]:
        return []

    # -- who is there

    def user(self, *names: str, app: str = "default") -> None:
        """New accounts."""
        for name in names:
            answer = self.operator.do(AddUser(rid=1, app=app, user=name))
            assert answer[-1] == updates.Done(1), answer

    def group(self, conversation: str, owner: str, *members: str, admins: tuple[str, ...] = ()) -> None:
        """A new group."""
        made = MakeGroup(
            rid=1, app="default", conversation=conversation, name="", owner=owner, admins=admins, members=members
        )
        answer = self.operator.do(made)
        assert answer[-1] == updates.Done(1), answer

    def log_in(
        self,
        user: str,
        device: str,
        *,
        app: str = "default",
        delivery: bool = True,
        resume: str | None = None,
        install: str | None = None,
        catch_up: bool = True,
    ) -> Device:
        """Log in with a token; by default until live, with the catching up taken out of the inbox."""
        found = self._attach(self.hub.open(link=object(), peer=device), f"{user}/{device}")
        account = self.hub.world.apps[app].users.get(user)
        if account is None or account.row is None:
            account = None
        from receipts.node.accounts import sign_token

        row = self.store.user(app, user)
        assert row is not None
        token = sign_token(self.hub.world.secret, row.user, expires_ms=self.now_ms + 10**10)
        hello = commands.Hello(
            rid=1,
            version=VERSION,
            user=user,
            device=device,
            install=install or f"i-{user}-{device}",
            app=app,
            token=token,
            resume=resume,
            delivery=delivery,
        )
        self.run((found, hello))
        if catch_up:
            while found.session.state == "behind":
                pages = [update for update in found.inbox if isinstance(update, updates.CatchUp)]
                self.run((found, commands.AckPage(rid=0, token=pages[-1].token)))
            found.pages = [update for update in found.inbox if isinstance(update, updates.CatchUp)]  # type: ignore[attr-defined]
            found.inbox = deque(u for u in found.inbox if isinstance(u, updates.ReadStatistics))
        return found

    def _attach(self, session: Session, name: str) -> Device:
        session.dialect = Recorder("recorder")
        session.link = session.link or object()
        device = self.devices[session] = Device(self, session, name)
        return device

    # -- time and commands

    def run(self, *batch: tuple[Device, AnyCommand]) -> None:
        """Decide commands as one tick, and all that follows."""
        self._take_up(self.hub.apply([(device.session, command) for device, command in batch], self.now_ms))
        self._advance()

    def sweep(self, after_ms: int = 0) -> None:
        """Let time pass and look around."""
        self.now_ms += after_ms
        self._take_up(self.hub.apply([(self.system, Sweep())], self.now_ms))
        self._advance()

    def finish(self) -> None:
        """Finish the commit that was held."""
        self.hold = False
        batch, self._started = self._started, None
        if batch is not None:
            self._commit(batch)
        self._advance()

    def _take_up(self, tick: Tick) -> None:
        self.pipeline.add(tick)
        for need in tick.loads:
            found = getattr(self.store, need.method)(*need.arguments)
            self._take_up(self.hub.learn(need, found, self.now_ms))
        for job in tick.passwords:
            device = self.devices[job.session]
            if job.known is None:
                self.run((device, PasswordHashed(command=job.command, hash="hash:" + job.password)))
            else:
                good = job.known == "hash:" + job.password
                self.run((device, PasswordChecked(command=job.command, good=good)))

    def _advance(self) -> None:
        while True:
            self._let_out(self.pipeline.ready())
            batch = self.pipeline.start()
            if batch is None:
                return
            if self.hold:
                self._started = batch
                return
            self._commit(batch)

    def _commit(self, batch: Any) -> None:
        if self.full:
            self._let_out(self.pipeline.failed())
            return
        try:
            self.store.commit(batch)
        except StoreFull:
            self._let_out(self.pipeline.failed())
        else:
            self._let_out(self.pipeline.committed())

    def _let_out(self, mail: Mail) -> None:
        for session, frames in mail.frames.items():
            self._give(session, frames)
        for action in mail.then:
            session = action.session
            if isinstance(action, Ask):
                found = getattr(self.store, action.method)(**action.arguments)
                make: Any = queries.ANSWERS.get(action.purpose) or admin.ANSWERS[action.purpose]
                update = make(self.hub.world, session, action.context, found)
                if update is not None:
                    self._give(session, [(self.hub.world.committed_tick, update)])
            else:
                self.devices[session].cut = True

    def _give(self, session: Session, frames: list[tuple[int, Any]]) -> None:
        device = self.devices[session]
        for tick, update in frames:
            if isinstance(update, updates.Welcome):
                device.prefix = update.prefix
            if isinstance(update, updates.CatchUp):
                device.token = update.token
            elif session.state == "live":
                device.token = f"{device.prefix}{tick}"
            device.inbox.append(update)

    # -- looking

    def chat(self, conversation: str, app: str = "default") -> Any:
        """The machine's state, as in memory."""
        return self.hub.world.apps[app].chats[conversation].conversation
