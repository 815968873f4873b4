"""What the node has in memory: apps, users with their sessions, conversations, and the tick in the making.

Everything here is plain state with small helpers; the rules are in the handlers beside it. A handler looks
up all it needs first: what is not in memory raises `Missing`, nothing has changed yet, and the command is run
again when it has been loaded. What handlers change they note as touched; the pipeline commits touched rows.

PURE: no clock (`World.now_ms` arrives), no chance, no I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from receipts.core.conversation import Conversation
from receipts.core.errors import Code, Refused
from receipts.core.events import Register, Role
from receipts.core.ids import (
    AppId,
    ConversationId,
    DeviceId,
    MessageId,
    Seq,
    UserId,
    Version,
    direct_members,
)
from receipts.core.policy import Features, Limits
from receipts.storage import base as rows
from receipts.storage.codec import PackedAdvances, load_conversation, shared_through, shared_tick
from receipts.wire.updates import Done, Goodbye, Reader, Rejected, Update

from .commands import Reply
from .limits import Bucket

if TYPE_CHECKING:
    from .queued import Queued
    from .queues import Queue

__all__ = [
    "App",
    "Ask",
    "Chat",
    "Cut",
    "Install",
    "Missing",
    "Need",
    "PasswordJob",
    "Session",
    "Tick",
    "User",
    "World",
]


# -- what is not in memory


class Need(NamedTuple):
    """Something to be loaded: the name of a `Store` method, and its arguments."""

    method: str
    arguments: tuple[Any, ...]


class Missing(Exception):
    """Raised by a look-up; the command is run again once all of `needs` are there."""

    def __init__(self, *needs: Need, known: dict[Need, Any] | None = None) -> None:
        """
        Args:
            known: What the command wants to find beside them when it is run again; all else that was found
                before is dropped then. None keeps what was found.
        """
        super().__init__(*needs)
        self.needs = needs
        self.known = known


# -- outcomes


class Ask(NamedTuple):
    """A fetch to be answered from storage, in outbox order: a `Store` call, and what makes it an answer."""

    session: Session
    method: str
    arguments: dict[str, Any]
    purpose: str
    """Key of `queries.ANSWERS`."""
    context: Any


class Cut(NamedTuple):
    """Close a session's link, after what was said to it before."""

    session: Session


class PasswordJob(NamedTuple):
    """Slow work for a thread: verify against `known`, or with `known` None make a hash."""

    session: Session
    password: str
    known: str | None
    command: Any
    """The command that waits for the outcome."""


Entry: TypeAlias = "tuple[Session | list[Session], Update | Reply | Queued] | Ask | Cut"
"""(session, answer), (sessions, pushed update), a fetch, or a cut."""


class Tick:
    """The outcome of some commands, to be let out when it is durable."""

    __slots__ = ("commands", "loads", "number", "outbox", "passwords", "writes")

    def __init__(self, number: int) -> None:
        self.number = number
        self.outbox: list[Entry] = []
        """In order."""
        self.commands: list[tuple[Session, Any]] = []
        """What was decided in it, so that a roll-back can answer everybody."""
        self.loads: list[Need] = []
        """To be loaded now; commands that wait for them are kept in the hub."""
        self.passwords: list[PasswordJob] = []
        self.writes = False
        """Whether anything in it has to be committed."""


# -- who is there


class Install:
    """A stored outbox of a client: what it sent."""

    __slots__ = ("highest", "key", "recent", "ticks")

    def __init__(self, key: int, highest: int) -> None:
        self.key = key
        self.highest = highest
        """The highest number of a send; anything above is new without asking storage."""
        self.recent: dict[int, rows.Sent] = {}
        """Answers at hand by number: all that storage does not have yet, and the newest of the others."""
        self.ticks: deque[tuple[int, int]] = deque()
        """(tick, number) of `recent`, in order."""

    def remember(self, sent: rows.Sent, tick: int, committed_tick: int) -> None:
        """Keep the answer to a send; let go of old ones that storage can give."""
        self.recent[sent.number] = sent
        ticks = self.ticks
        ticks.append((tick, sent.number))
        while len(ticks) > SENT_RECENT and ticks[0][0] <= committed_tick:
            del self.recent[ticks.popleft()[1]]


SENT_RECENT = 256
"""Sends per outbox whose answer stays at hand once it is durable; more than are usually in flight."""


class Session:
    """One device's link, from its first frame to its end."""

    __slots__ = (
        "admin",
        "app",
        "backlog",
        "client",
        "cursor",
        "delivery",
        "device",
        "dialect",
        "expires_ms",
        "found",
        "full",
        "heard_ms",
        "install",
        "install_name",
        "link",
        "login_tick",
        "number",
        "page_coming",
        "page_token",
        "peer",
        "pushed",
        "queue",
        "queued",
        "since",
        "state",
        "user",
        "waiting_for",
    )

    def __init__(self, number: int, link: Any = None, peer: str = "", *, admin: bool = False) -> None:
        self.number = number
        self.admin = admin
        """Whether this is the operator, who needs no login."""
        self.link = link
        """Whatever the runner needs; never looked at here."""
        self.peer = peer
        self.dialect: Any = None
        """How the session speaks (`wire.Dialect`); its first frame decides."""
        self.login_tick = 0
        self.state: Literal["new", "checking", "behind", "live", "closed"] = "new"
        self.pushed = False
        """Whether what its user is told goes to it as it happens: from when it is live to the end of its
        link. What was decided before it was closed comes before the last word, whose tick stands for it."""
        self.app: App = None  # type: ignore[assignment]  # set by login, and nothing else is run before
        self.user: User = None  # type: ignore[assignment]
        self.device: DeviceId = ""
        self.install: Install | None = None
        """None after a roll-back: to be looked up again by `install_name`."""
        self.install_name = ""
        self.delivery = False
        self.client = ""
        self.heard_ms = 0
        self.expires_ms = 0
        """When the token expires with which it logged in; 0 with a password."""
        self.queued = False
        """Whether the device keeps nothing itself (`queues`): its link says so, before the first frame."""
        self.queue: Queue | None = None
        """What such a device was told, once it has logged in."""
        self.since = -1
        """While behind: what the session holds, as a tick; -1 for nothing."""
        self.cursor = ""
        """While behind: where the next page begins."""
        self.page_token: str | None = None
        """Of the page that has to be acknowledged before the next one."""
        self.page_coming = False
        """Whether it was, and the next one is being read."""
        self.full = False
        self.waiting_for: set[Need] | None = None
        """What is being loaded for the first command of the backlog."""
        self.found: dict[Need, Any] | None = None
        """What was loaded for it up to now."""
        self.backlog: list[Any] | None = None
        """Commands that wait, in order."""

    @property
    def logged_in(self) -> bool:
        return self.state in ("behind", "live")

    def __repr__(self) -> str:
        who = f"{self.user.name}/{self.device}" if self.user is not None else self.peer
        return f"<Session {self.number} {who} {self.state}>"


class User:
    """A user who has a session or was looked up: account as stored, and who is there."""

    __slots__ = (
        "app",
        "buckets",
        "devices",
        "installs",
        "name",
        "owed",
        "queued",
        "row",
        "sessions",
        "told",
        "touched_tick",
    )

    def __init__(self, app: App, name: UserId) -> None:
        self.app = app
        self.name = name
        self.row: rows.UserRow | None = None
        """None while it is not loaded, or was undone."""
        self.devices: dict[DeviceId, rows.DeviceRow] = {}
        self.installs: dict[str, Install] = {}
        self.sessions: list[Session] = []
        """Logged in; one per device."""
        self.queued = 0
        """How many of them are of devices that keep nothing themselves."""
        self.buckets: dict[str, Bucket] = {}
        self.touched_tick = 0
        self.told = False
        """Whether group receipts were told live, so that a summary need not begin before now."""
        self.owed = False
        """Whether there may be a summary that was not acknowledged: it has to come again."""

    def online(self, device: DeviceId) -> Session | None:
        for session in self.sessions:
            if session.device == device:
                return session
        return None


class Info(NamedTuple):
    """What receipts ask about a message."""

    author: UserId
    message_id: MessageId
    at_ms: int
    asks: bool
    tick: int


class Chat:
    """A conversation in memory: the machine's state, and what the node needs beside it."""

    __slots__ = (
        "app",
        "asked_ms",
        "asks",
        "conversation",
        "folded_through",
        "id",
        "key",
        "mark_heads",
        "mark_ticks",
        "marks_touched",
        "member_ticks",
        "members_touched",
        "packed_advances",
        "pair",
        "recent",
        "row_touched",
        "seated",
        "stored_through",
        "touched_tick",
        "unfolded",
        "used_ms",
    )

    def __init__(self, app: App, key: int, conversation: Conversation) -> None:
        self.app = app
        self.key = key
        self.id = conversation.id
        self.conversation = conversation
        self.pair = direct_members(conversation.id)
        """The two users, None for a group."""
        self.recent: dict[Seq, Info] = {}
        """The newest `rows.RECENT` messages, and all that storage does not have yet; rising."""
        self.stored_through: Seq = conversation.head
        """Storage has the messages up to and including this one."""
        self.seated: list[UserId] | None = None
        """Who is in it now, once that was asked; only of groups."""
        self.folded_through: Seq = conversation.head
        self.unfolded: set[UserId] = set()
        """Authors since then, whose marks storage does not have."""
        self.asks: dict[Seq, rows.AskRow] = {}
        """Messages that asked and have not expired, as stored."""
        self.asked_ms: deque[int] = deque()
        """When messages asked for receipts, within a day."""
        self.mark_ticks: dict[UserId, int] = {}
        """When the shared part of a member's marks last changed; likewise of the member's own row."""
        self.member_ticks: dict[UserId, int] = {}
        self.mark_heads: dict[UserId, Seq] = {}
        """The head when the shared part of a member's marks last changed, or was folded."""
        self.packed_advances: dict[UserId, PackedAdvances] = {}
        """Of members whose marks were written."""
        self.marks_touched: set[UserId] = set()
        self.members_touched: set[UserId] = set()
        self.row_touched = False
        self.touched_tick = 0
        self.used_ms = 0

    def remember(self, seq: Seq, info: Info) -> None:
        recent = self.recent
        recent[seq] = info
        while len(recent) > rows.RECENT:
            oldest = next(iter(recent))
            if oldest > self.stored_through:
                break
            del recent[oldest]

    def members(self) -> list[UserId]:
        """Who is in it now; not to be changed. Kept until somebody joins or leaves: a group of thousands is
        not gone through for every message."""
        if self.pair is not None:
            return list(self.pair)
        if self.seated is None:
            self.seated = [user for user, member in self.conversation.members.items() if member.joined]
        return self.seated

    def role(self, user: UserId) -> Role:
        known = self.conversation.members[user].registers.get(Register.ROLE)
        return Role(str(known[1])) if known is not None else Role.MEMBER

    @property
    def dissolved(self) -> bool:
        return Register.DELETED in self.conversation.registers


class App:
    """A tenant."""

    __slots__ = ("buckets", "chats", "features", "id", "limits", "strangers", "users")

    def __init__(self, app: AppId, features: Features, limits: Limits) -> None:
        self.id = app
        self.features = features
        self.limits = limits
        self.users: dict[UserId, User] = {}
        self.chats: dict[ConversationId, Chat] = {}
        self.buckets: dict[str, Bucket] = {}
        """Calls that are limited for the app as a whole."""
        self.strangers: dict[UserId, dict[str, Bucket]] = {}
        """Login attempts under names that nobody has: limited like any others, or the difference would tell
        which names exist."""

    def buckets_of(self, name: UserId) -> dict[str, Bucket]:
        """What counts the calls made under a name, whether there is such a user or not."""
        user = self.users.get(name)
        if user is not None:
            return user.buckets
        found = self.strangers.get(name)
        if found is None:
            found = self.strangers[name] = {}
            if len(self.strangers) > STRANGERS_MAX:
                del self.strangers[next(iter(self.strangers))]
        return found


STRANGERS_MAX = 10_000
"""Names without a user whose login attempts are counted; beyond it the oldest is forgotten: about 3 MiB."""


class World:
    """Everything, and the tick in the making."""

    def __init__(self, meta: rows.MetaRow, apps: Iterable[App]) -> None:
        self.life = meta.life
        self.secret = meta.secret
        self.tick_number = meta.tick
        self.version = meta.version
        self.message_id = meta.message_id
        self.key = meta.key
        self.now_ms = meta.node_time_ms
        self.apps: dict[AppId, App] = {app.id: app for app in apps}
        self.sessions: dict[Session, None] = {}
        """All that are open, in the order in which they came: a set's would differ from run to run."""
        self.queued = 0
        """How many sessions have a queue; what is done for those alone is skipped without any."""
        self.heartbeat_ms = 30_000
        self.draining = False
        self.tick = Tick(self.tick_number)
        self.group_reads: dict[tuple[Chat, Seq], list[Reader]] = {}
        """New answers in this tick, told in one frame each at its end."""
        self.asked_ids: dict[tuple[int, Seq], MessageId] = {}
        """(key, seq) → id of messages that were answered in this tick, where somebody has to be told it."""
        self.queue_rows: dict[tuple[AppId, UserId, DeviceId], rows.QueueRow] = {}
        """To be written with the next commit; worth none of their own. Likewise, by (key, user, device):"""
        self.told_rows: dict[tuple[int, UserId, DeviceId], rows.ToldRow] = {}
        self.next_receipts_ms: int | None = None
        """When the next group receipts expire."""
        self.sweep_ms = 0
        self.next_retention_ms = 0
        self.evicted_ms = 0
        self.committed_tick = meta.tick
        """The last tick that storage knows of."""
        self.released_tick = meta.tick
        """The last tick whose outbox was let out: it and all before it are durable, or change nothing."""
        self.found: dict[Need, Any] = {}
        """What was loaded for the command that runs now."""
        self.restores: list[Callable[[], object]] = []
        """How to undo what has no rows in memory to be loaded again, since the last collected batch."""
        # touched since the last collected batch
        self.touched_chats: set[Chat] = set()
        self.touched_users: set[User] = set()
        self.new: rows.Batch = rows.Batch(meta=meta)
        """Rows that are complete as they are."""
        self.new_asks: dict[tuple[int, Seq], rows.AskRow] = {}

    # -- counters

    def next_version(self) -> Version:
        self.version += 1
        return self.version

    def next_key(self) -> int:
        self.key += 1
        return self.key

    @property
    def prefix(self) -> str:
        """Of resume tokens."""
        return f"{self.life}:"

    def meta(self) -> rows.MetaRow:
        return rows.MetaRow(
            self.life, self.tick_number, self.version, self.message_id, self.key, self.now_ms, self.secret
        )

    # -- looking up

    def ask(self, method: str, *arguments: Any) -> Any:
        """What storage says, for the command that runs.

        Raises:
            Missing: It has not been asked yet.
        """
        need = Need(method, arguments)
        try:
            return self.found[need]
        except KeyError:
            raise Missing(need) from None

    def _absent(self, method: str, *arguments: Any) -> None:
        """Return if storage has nothing to take into memory either.

        Raises:
            Missing: It has not been asked, or what it gave has left memory since: it is asked again, because
                what was found then may have changed in between.
        """
        if self.ask(method, *arguments) is not None:
            need = Need(method, arguments)
            del self.found[need]
            raise Missing(need)

    def all_of(self, app: App, names: Iterable[ConversationId]) -> list[Chat]:
        """Conversations of an app, that storage named or memory has; what is missing is asked for at once."""
        chats: list[Chat] = []
        needs: list[Need] = []
        for name in names:
            try:
                chat = self.find_chat(app, name)
            except Missing as missing:
                needs += missing.needs
            else:
                assert chat is not None  # none is ever removed from storage
                chats.append(chat)
        if needs:
            raise Missing(*needs)
        return chats

    def chats_of(self, app: App, user: UserId) -> list[Chat]:
        """All conversations that a user was ever a member of, with those that storage does not have yet."""
        stored = self.ask("conversations_of", app.id, user)
        new = [name for name, chat in app.chats.items() if user in chat.conversation.members]
        return self.all_of(app, dict.fromkeys([*stored, *new]))

    def user(self, app: App, name: UserId) -> User | None:
        """An account, None when there is none (removed ones are there, marked so)."""
        user = app.users.get(name)
        if user is None or user.row is None:
            self._absent("user", app.id, name)
            return None
        return user

    def account(self, app: App, name: UserId) -> User:
        """An account that can be used.

        Raises:
            Refused: `unknown_user`.
        """
        user = self.user(app, name)
        if user is None or user.row is None or user.row.removed:
            raise Refused(Code.UNKNOWN_USER, f"there is no user {name!r}")
        return user

    def install(self, user: User, name: str) -> Install | None:
        """A stored outbox; None when it is new."""
        found = user.installs.get(name)
        if found is None:
            self._absent("install", user.app.id, user.name, name)
        return found

    def find_chat(self, app: App, conversation: ConversationId) -> Chat | None:
        """A conversation, None when there is none."""
        chat = app.chats.get(conversation)
        if chat is None:
            self._absent("conversation", app.id, conversation)
        return chat

    def chat(self, session: Session, conversation: ConversationId) -> Chat:
        """A conversation that the session's user is, or was, a member of.

        Raises:
            Refused: `unknown_conversation` (for strangers too: they learn nothing about it).
        """
        chat = session.app.chats.get(conversation) or self.find_chat(session.app, conversation)
        if chat is None or session.user.name not in chat.conversation.members:
            raise Refused(
                Code.UNKNOWN_CONVERSATION, f"there is no conversation {conversation!r} with you in it"
            )
        chat.used_ms = self.now_ms
        return chat

    def member_chat(self, session: Session, conversation: ConversationId) -> Chat:
        """A conversation that the session's user is in now.

        Raises:
            Refused: `unknown_conversation`, `not_a_member`.
        """
        chat = self.chat(session, conversation)
        if chat.pair is None and not chat.conversation.members[session.user.name].joined:
            raise Refused(Code.NOT_A_MEMBER, f"you are no longer in {conversation!r}")
        return chat

    # -- what was loaded

    def learn(self, need: Need, found: Any) -> None:
        """Take in what storage answered. What is in memory already stands: it may be newer."""
        if found is None:
            return
        if need.method == "user":
            self._learn_user(found)
        elif need.method == "install":
            row, highest = found
            user = self.apps[row.app].users.get(row.user)
            if user is not None:
                user.installs.setdefault(row.install, Install(row.key, highest))
        elif need.method == "conversation":
            app = self.apps[found.row.app]
            if found.row.conversation not in app.chats:
                app.chats[found.row.conversation] = self._chat_of(app, found)

    def _learn_user(self, found: rows.UserRows) -> None:
        app = self.apps[found.user.app]
        user = app.users.get(found.user.user)
        if user is None:
            user = app.users[found.user.user] = User(app, found.user.user)
        if user.row is None:
            user.row = found.user
            user.devices = {device.device: device for device in found.devices}

    def _chat_of(self, app: App, found: rows.ConversationRows) -> Chat:
        chat = Chat(app, found.row.key, load_conversation(found))
        chat.folded_through = found.row.folded_through
        chat.unfolded = {row.author for row in found.unfolded}
        chat.used_ms = self.now_ms
        for row in found.recent:
            chat.recent[row.seq] = Info(
                row.author, MessageId(row.message_id), row.at_ms, bool(row.asks), row.tick
            )
        kept = app.limits.group_receipts_kept_ms
        chat.mark_ticks = {row.user: shared_tick(row) for row in found.marks}
        chat.mark_heads = {row.user: shared_through(row) for row in found.marks}
        chat.member_ticks = {row.user: shared_tick(row) for row in found.members}
        chat.asks = {ask.seq: ask for ask in found.asks}
        chat.asked_ms.extend(sorted(ask.expires_ms - kept for ask in found.asks))
        return chat

    def info(self, chat: Chat, seq: Seq) -> Info | None:
        """What receipts ask about a message; None when there is none (any more)."""
        return self.infos(chat, (seq,))[seq]

    def infos(self, chat: Chat, seqs: Iterable[Seq]) -> dict[Seq, Info | None]:
        """`info` of several, asked for at once."""
        found: dict[Seq, Info | None] = {seq: chat.recent.get(seq) for seq in seqs}
        floor, head = chat.conversation.expired_through, chat.conversation.head
        away = tuple(seq for seq, info in found.items() if info is None and floor < seq <= head)
        if away:
            for row in self.ask("messages", chat.key, away):
                found[row.seq] = Info(
                    row.author, MessageId(row.message_id), row.at_ms, bool(row.asks), row.tick
                )
        return found

    # -- changing

    def touch_marks(self, chat: Chat, user: UserId, shared: bool) -> None:
        """A member's marks changed; `shared` says whether for others too."""
        chat.marks_touched.add(user)
        if shared:
            chat.mark_ticks[user] = self.tick_number
            chat.mark_heads[user] = chat.conversation.head
        self.touch(chat)

    def touch_member(self, chat: Chat, user: UserId, shared: bool) -> None:
        """A member's periods or role changed (shared), or mute, sharing, floor or mark (not shared)."""
        chat.members_touched.add(user)
        chat.seated = None
        if shared:
            chat.member_ticks[user] = self.tick_number
        self.touch(chat)

    def touch_row(self, chat: Chat) -> None:
        """Something of the conversation itself changed."""
        chat.row_touched = True
        self.touch(chat)

    def touch(self, chat: Chat) -> None:
        """Something of it has to be committed."""
        chat.touched_tick = self.tick_number
        self.touched_chats.add(chat)
        self.tick.writes = True

    def touch_ask(self, chat: Chat, row: rows.AskRow) -> None:
        """An asking message is new or got an answer."""
        chat.asks[row.seq] = row
        self.new_asks[row.key, row.seq] = row
        self.touch(chat)

    def touch_user(self, user: User, row: rows.UserRow) -> None:
        """An account changed."""
        user.row = row
        self.touched_users.add(user)
        user.touched_tick = self.tick_number
        self.new.users.append(row)
        self.tick.writes = True

    def touch_device(self, user: User, row: rows.DeviceRow) -> None:
        """A device changed."""
        user.devices[row.device] = row
        self.touched_users.add(user)
        user.touched_tick = self.tick_number
        self.new.devices.append(row)
        self.tick.writes = True

    # -- saying

    def answer(self, session: Session, update: Update | Reply | Queued) -> None:
        """Answer a command."""
        self.tick.outbox.append((session, update))

    def done(self, session: Session, rid: int) -> None:
        """Say that it is done, if that was asked for."""
        if rid:
            self.tick.outbox.append((session, Done(rid)))

    def reject(self, session: Session, rid: int, refused: Refused, **more: Any) -> None:
        """Say why not."""
        self.tick.outbox.append(
            (
                session,
                Rejected(
                    rid=rid,
                    code=refused.code,
                    reason=refused.reason,
                    retry_after_ms=refused.retry_after_ms,
                    limit=refused.limit,
                    **more,
                ),
            )
        )

    def tell(self, app: App, users: Iterable[UserId], update: Update, *, but: Session | None = None) -> None:
        """Push to all sessions of these users; those that are behind get it by catching up."""
        known = app.users
        sessions = []
        for name in users:
            user = known.get(name)
            if user is not None:
                sessions += user.sessions
        if but is not None and but in sessions:
            sessions.remove(but)
        if sessions:
            self.tick.outbox.append((sessions, update))

    def close(self, session: Session, code: Code, reason: str, retry_after_ms: int = 0) -> None:
        """End a session, which must not have ended, with a last word; what it still sends is dropped."""
        assert session.state != "closed"
        session.state = "closed"
        goodbye = Goodbye(code=code, reason=reason, retry_after_ms=retry_after_ms)
        self.tick.outbox.append((session, goodbye))
        self.tick.outbox.append(Cut(session))
