"""A node without a world around it: hub, pipeline and a store, driven by hand, one command at a time.

Unrealistic: there is no link and no thread, so commits and loads happen at once unless a test holds them, and
updates are compared as objects, not as frames. Everything that decides is the real thing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from receipts.core.errors import Code
from receipts.node import admin
from receipts.node.accounts import sign_token
from receipts.node.commands import (
    AddUser,
    LinkLost,
    MakeGroup,
    Malformed,
    PasswordChecked,
    PasswordHashed,
    Sweep,
    Text,
)
from receipts.node.hub import AnyCommand, Hub
from receipts.node.pipeline import Mail, Pipeline, answer
from receipts.node.world import Ask, Need, PasswordJob, Session, Tick
from receipts.storage.base import AppRow, Store, StoreFull
from receipts.storage.codec import load_conversation
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
        self.pages: list[updates.CatchUp] = []
        """Of the last login, when the book did the catching up."""
        self.welcome: updates.Welcome | None = None
        self.token: str | None = None
        self.prefix = ""
        self.tick = 0
        self.number = 0
        self.cut = False

    def send(self, conversation: str, body: str | bytes = "hi", **more: Any) -> updates.Accepted:
        """Send the next message, which has to be accepted; pushed updates stay in the inbox."""
        self.number += 1
        message = commands.SendMessage(9, conversation, body, self.number, **more)
        found = self.ask(message)
        assert isinstance(found, updates.Accepted), found
        return found

    def message(self, conversation: str, body: str | bytes = "hi", **more: Any) -> commands.SendMessage:
        """The next message, not sent yet."""
        self.number += 1
        return commands.SendMessage(9, conversation, body, self.number, **more)

    def do(self, command: AnyCommand) -> list[Any]:
        """Send a command; what this device was told since the last look."""
        self.book.run((self, command))
        return self.told()

    def ask(self, command: AnyCommand) -> Any:
        """Send a command and give its one answer; pushed updates stay in the inbox."""
        before = list(self.inbox)
        self.inbox.clear()
        self.book.run((self, command))
        answers = [found for found in self.inbox if getattr(found, "rid", None) == command.rid]
        assert len(answers) == 1, (command, list(self.inbox))
        self.inbox = deque([*before, *(found for found in self.inbox if found is not answers[0])])
        return answers[0]

    def refused(self, command: AnyCommand, code: Code) -> updates.Rejected:
        """Send a command that has to be refused with `code`, and tell nothing else."""
        found = self.do(command)
        assert len(found) == 1, found
        rejected = found[0]
        assert isinstance(rejected, updates.Rejected), rejected
        assert rejected.code is code, rejected
        assert rejected.rid == command.rid
        assert rejected.reason
        return rejected

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
    """One node; `now_ms` is its clock, moved by the test alone.

    Args:
        settings: Of the app `default`, JSON.
        apps: Of more apps, by name.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        settings: str = "{}",
        life: str = "life1",
        apps: Mapping[str, str] | None = None,
        now_ms: int = 1_000_000,
    ) -> None:
        self.store = store if store is not None else MemoryStore()
        self.now_ms = now_ms
        self.settings = settings
        self.apps = {"default": settings, **(apps or {})}
        meta = self.store.open(now_ms=self.now_ms, life=life, secret=b"0" * 32)
        self.hub = Hub(
            meta,
            [admin.app_of(AppRow(name, text)) for name, text in self.apps.items()],
            next_receipts_ms=self.store.next_due_receipt(0),
        )
        self.pipeline = Pipeline(self.hub)
        self.hold = False
        """While true, commits are started and not finished."""
        self.full = False
        """While true, commits fail as on a full disk."""
        self.hold_loads = False
        """While true, what is to be loaded waits for `load`."""
        self.hold_passwords = False
        """While true, passwords wait for `check_passwords`."""
        self.without_hashes = False
        """While true, nothing can be hashed."""
        self.loads: deque[Need] = deque()
        self.jobs: deque[PasswordJob] = deque()
        self.frames = 0
        """Given to anybody, ever."""
        self._started: Any = None
        self.devices: dict[Session, Device] = {}
        self.system = self.hub.open(peer="node", admin=True)
        self.operator = self._attach(self.hub.open(peer="operator", admin=True), "operator")

    def crash(self) -> Playbook:
        """The process dies: what was committed is met again by a new one."""
        self.store.close()
        return Playbook(
            self.store,
            settings=self.settings,
            life="never",
            apps={name: text for name, text in self.apps.items() if name != "default"},
            now_ms=self.now_ms,
        )

    # -- who is there

    def user(self, *names: str, app: str = "default", password: str | None = None) -> None:
        """New accounts."""
        for name in names:
            answered = self.operator.do(AddUser(rid=1, app=app, user=name, password=password))
            assert answered[-1] == updates.Done(1), answered

    def group(
        self,
        conversation: str,
        owner: str,
        *members: str,
        admins: tuple[str, ...] = (),
        app: str = "default",
    ) -> None:
        """A new group."""
        made = MakeGroup(
            rid=1, app=app, conversation=conversation, name="", owner=owner, admins=admins, members=members
        )
        answered = self.operator.do(made)
        assert answered[-1] == updates.Done(1), answered

    def token(self, user: str, *, app: str = "default", lifetime_ms: int = 10**10) -> str:
        """A token as the operator gives it."""
        row = self.store.user(app, user)
        assert row is not None
        return sign_token(self.hub.world.secret, row.user, expires_ms=self.now_ms + lifetime_ms)

    def stranger(self, name: str = "stranger") -> Device:
        """A link on which nothing was said yet."""
        return self._attach(self.hub.open(link=object(), peer=name), name)

    def hello(self, user: str, device: str, **more: Any) -> commands.Hello:
        """A first frame, with a token unless a password is given."""
        app = more.pop("app", "default")
        if "password" not in more and "token" not in more:
            more["token"] = self.token(user, app=app)
        more.setdefault("install", f"i-{user}-{device}")
        more.setdefault("delivery", True)
        more.setdefault("version", VERSION)
        more.setdefault("rid", 1)
        return commands.Hello(user=user, device=device, app=app, **more)

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
        more = {} if install is None else {"install": install}
        self.run((found, self.hello(user, device, app=app, delivery=delivery, resume=resume, **more)))
        if catch_up:
            self.catch_up(found)
        return found

    def catch_up(self, device: Device) -> None:
        """Acknowledge pages until the device is live, and take them out of its inbox."""
        while device.session.state == "behind":
            pages = [update for update in device.inbox if isinstance(update, updates.CatchUp)]
            self.run((device, commands.AckPage(rid=0, token=pages[-1].token)))
        device.pages = [update for update in device.inbox if isinstance(update, updates.CatchUp)]
        device.inbox = deque(u for u in device.inbox if isinstance(u, updates.ReadStatistics))

    def _attach(self, session: Session, name: str) -> Device:
        session.dialect = Recorder("recorder")
        session.link = session.link or object()
        device = self.devices[session] = Device(self, session, name)
        return device

    # -- time and commands

    def run(self, *batch: tuple[Device, AnyCommand]) -> None:
        """Decide commands as one tick, and all that follows."""
        for device, command in batch:
            if not isinstance(command, LinkLost):
                device.session.heard_ms = max(self.now_ms, self.hub.world.now_ms)
        self._decide([(device.session, command) for device, command in batch])

    def _decide(self, batch: list[tuple[Session, AnyCommand]]) -> None:
        self._take_up(self.hub.apply(batch, self.now_ms))
        self._advance()

    def sweep(self, after_ms: int = 0, *, heard: bool = True) -> None:
        """Let time pass and look around.

        Args:
            heard: Whether all sessions sent something meanwhile.
        """
        self.now_ms += after_ms
        if heard:
            for session in self.hub.world.sessions:
                session.heard_ms = max(self.now_ms, self.hub.world.now_ms)
        self._decide([(self.system, Sweep())])

    def evict(self) -> None:
        """Everything that may leave memory does, without time passing."""
        world = self.hub.world
        for app in world.apps.values():
            for chat in app.chats.values():
                chat.used_ms = -(10**12)
        world.evicted_ms = -(10**12)
        self.sweep()

    def fail(self) -> None:
        """The commit that was held fails, as on a full disk; later ones are at once again."""
        self.full = self._started is not None
        self.finish(then_full=False)

    def finish(self, *, then_full: bool | None = None) -> None:
        """Finish the commit that was held."""
        self.hold = False
        batch, self._started = self._started, None
        if batch is not None:
            self._commit(batch, then_full)
        self._advance()

    def load(self) -> None:
        """Storage answers what waited, and what is asked for then."""
        self.hold_loads = False
        while self.loads:
            self._load(self.loads.popleft())
            self._advance()

    def check_passwords(self) -> None:
        """The threads are done."""
        self.hold_passwords = False
        while self.jobs:
            self._do_job(self.jobs.popleft())

    def _take_up(self, tick: Tick) -> None:
        self.pipeline.add(tick)
        for need in tick.loads:
            if self.hold_loads:
                self.loads.append(need)
            else:
                self._load(need)
        for job in tick.passwords:
            if self.hold_passwords:
                self.jobs.append(job)
            else:
                self._do_job(job)

    def _load(self, need: Need) -> None:
        found = getattr(self.store, need.method)(*need.arguments)
        self._take_up(self.hub.learn(need, found, self.now_ms))

    def _do_job(self, job: PasswordJob) -> None:
        device = self.devices[job.session]
        if job.known is None:
            made = None if self.without_hashes else "hash:" + job.password
            self.run((device, PasswordHashed(command=job.command, hash=made)))
        else:
            good = None if self.without_hashes else job.known == "hash:" + job.password
            self.run((device, PasswordChecked(command=job.command, good=good)))

    def _advance(self) -> None:
        while self._started is None:
            self._let_out(self.pipeline.ready())
            batch = self.pipeline.start()
            if batch is None:
                return
            if self.hold:
                self._started = batch
                return
            self._commit(batch)

    def _commit(self, batch: Any, then_full: bool | None = None) -> None:
        full = self.full
        if then_full is not None:
            self.full = then_full
        try:
            if full:
                raise StoreFull("no room")
            self.store.commit(batch)
        except StoreFull:
            self._let_out(self.pipeline.failed())
        else:
            self._let_out(self.pipeline.committed())

    def _let_out(self, mail: Mail) -> None:
        for session, frames in mail.frames.items():
            self._give(session, frames)
        for action in mail.then:
            if isinstance(action, Ask):
                found = getattr(self.store, action.method)(**action.arguments)
                self._let_out(answer(self.hub.world, action, found))
            else:
                self.devices[action.session].cut = True
        if mail.again:
            self._decide(mail.again)

    def _give(self, session: Session, frames: list[Any]) -> None:
        device = self.devices[session]
        self.frames += len(frames)
        for tick, update in frames:
            assert tick >= device.tick or isinstance(update, updates.CatchUp), "ticks never go back"
            device.tick = tick
            if isinstance(update, updates.Welcome):
                device.welcome = update
                device.prefix = update.prefix
            if isinstance(update, updates.CatchUp):
                device.token = update.token
            elif session.state == "live" and device.prefix:
                device.token = f"{device.prefix}{tick}"
            device.inbox.append(update)

    # -- looking

    def chat(self, conversation: str, app: str = "default") -> Any:
        """The machine's state, as in memory or else as stored."""
        chat = self.hub.world.apps[app].chats.get(conversation)
        if chat is not None:
            return chat.conversation
        found = self.store.conversation(app, conversation)
        assert found is not None
        return load_conversation(found)

    def state(self) -> dict[str, Any]:
        """All conversations as they are in memory, or else as stored."""
        return {
            f"{app} {name}": self.chat(name, app).dump()
            for _, app, name in self.store.all_conversations(0, 10**6)
        }

    def stored_state(self) -> dict[str, Any]:
        """All conversations as a new process would meet them."""
        found = {}
        for _, app, name in self.store.all_conversations(0, 10**6):
            rows = self.store.conversation(app, name)
            assert rows is not None
            found[f"{app} {name}"] = load_conversation(rows).dump()
        return found

    def check_agreement(self) -> None:
        """Memory equals the disk: conversations, accounts, devices, outboxes."""
        assert self.state() == self.stored_state()
        for app in self.hub.world.apps.values():
            for name in app.chats:
                assert self.store.conversation(app.id, name) is not None, name
            for name, user in app.users.items():
                if user.row is None:
                    continue
                rows = self.store.user(app.id, name)
                assert rows is not None, name
                assert rows.user == user.row
                assert {row.device: row for row in rows.devices} == user.devices
                for install, known in user.installs.items():
                    stored = self.store.install(app.id, name, install)
                    assert stored is not None
                    assert (stored[0].key, stored[1]) == (known.key, known.highest)


__all__ = ["Code", "Device", "Malformed", "Playbook", "Text"]
