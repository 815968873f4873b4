"""The hub: from commands to a tick. It routes; the rules are in the modules beside it. PURE.

    tick = hub.apply([(session, command), …], now_ms)      decide, all at once
    hub.learn(need, found, now_ms)                         storage answered one of tick.loads
    batch = hub.collect()                                  all rows touched since the last time
    hub.undo()                                             the commit failed: memory equals the disk again

A handler that misses something raises `Missing` before it changed anything; the session's commands wait, in
order, until it is loaded, and other sessions go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

from receipts.core.errors import Code, Refused
from receipts.core.ids import AppId, ConversationId, DeviceId, Seq, UserId
from receipts.storage import base as rows
from receipts.storage.codec import PackedAdvances, pack_marks, pack_member, pack_registers
from receipts.wire import commands
from receipts.wire.updates import GroupRead, Reader

from . import accounts, admin, calls, catchup, groups, marks, messages, queries, queue_calls, queues, upkeep
from .commands import (
    AddUser,
    Admin,
    Call,
    ConfigureApp,
    Enter,
    ExplainFor,
    FindGroup,
    Grant,
    Internal,
    JoinGroup,
    LinkLost,
    ListAllConversations,
    ListGroups,
    ListPublicGroups,
    ListReadersOf,
    ListUsers,
    MakeGroup,
    MakeToken,
    Malformed,
    OpenGroup,
    PasswordChecked,
    PasswordHashed,
    RegisterUser,
    RemoveUser,
    RevokeTokens,
    SetPassword,
    Stats,
    Sweep,
    Verify,
)
from .queued import AckQueue, Queueing, ReadUpTo, ToMessage
from .world import App, Chat, Missing, Need, Session, Tick, User, World

__all__ = ["HASH_AGAIN_MS", "AnyCommand", "Hub"]

AnyCommand: TypeAlias = commands.Command | Internal | Admin | Call | Queueing
Handler: TypeAlias = Callable[[World, Session, Any], None]


def _password_checked(world: World, session: Session, outcome: PasswordChecked) -> None:
    if outcome.good is None:
        raise _no_room_to_hash()
    if isinstance(outcome.command, Grant):
        calls.granted(world, session, outcome.command, outcome.good)
    else:
        accounts.password_checked(world, session, outcome)


def _password_hashed(world: World, session: Session, outcome: PasswordHashed) -> None:
    if outcome.hash is None:
        raise _no_room_to_hash()
    if isinstance(outcome.command, commands.ChangePassword):
        accounts.password_hashed(world, session, outcome)
    elif isinstance(outcome.command, RegisterUser):
        calls.registered(world, session, outcome)
    else:
        admin.password_hashed(world, session, outcome)


def _no_room_to_hash() -> Refused:
    return Refused(
        Code.BUSY, "the node has no memory to check passwords with; try again", retry_after_ms=HASH_AGAIN_MS
    )


HASH_AGAIN_MS = 1000


def _link_lost(world: World, session: Session, command: LinkLost) -> None:
    accounts.link_lost(world, session)


def _malformed(world: World, session: Session, command: Malformed) -> None:
    """What cannot be read ends the link; what can be read and makes no sense is answered. A stranger gets
    the answer and is let go."""
    if not command.fatal:
        world.reject(session, command.rid, Refused(command.code, command.reason))
        if session.logged_in or session.admin:
            return
    accounts.part(world, session)
    session.backlog = None
    world.close(session, command.code, command.reason)


ROUTES: dict[type, Handler] = {
    commands.SendMessage: messages.send,
    commands.AckDelivered: marks.ack_delivered,
    commands.ReadConversation: marks.read_conversation,
    commands.ReadMessages: marks.read_messages,
    commands.MarkUnread: marks.mark_unread,
    commands.RecallMessage: messages.recall,
    commands.ClearConversation: messages.clear,
    commands.SetSharing: accounts.set_sharing,
    commands.SetMuted: groups.set_muted,
    commands.CreateGroup: groups.create_group,
    commands.AddMembers: groups.add_members,
    commands.RemoveMembers: groups.remove_members,
    commands.SetRole: groups.set_role,
    commands.ChangeGroup: groups.change_group,
    commands.DissolveGroup: groups.dissolve_group,
    commands.FetchHistory: queries.fetch_history,
    commands.ListConversations: queries.list_conversations,
    commands.ListMembers: queries.list_members,
    commands.ListReaders: queries.list_readers,
    commands.GetStatus: queries.get_status,
    commands.ExplainUnread: queries.explain_unread,
    commands.GetBadge: queries.get_badge,
    commands.ListDevices: accounts.list_devices,
    commands.LogOutDevice: accounts.log_out_device,
    commands.ChangePassword: accounts.change_password,
    commands.AckPage: catchup.ack_page,
    commands.AckStatistics: catchup.ack_statistics,
    commands.Ping: queries.ping,
    AckQueue: queue_calls.ack_queue,
    ReadUpTo: queue_calls.read_up_to,
    ToMessage: queue_calls.to_message,
    # Said in this process alone, for somebody who entered with a token; no frame holds them.
    OpenGroup: calls.open_group,
    JoinGroup: groups.join_group,
    FindGroup: calls.find_group,
    ListGroups: calls.list_groups,
    ListPublicGroups: calls.list_public_groups,
    ListReadersOf: calls.list_readers_of,
}
"""What a logged-in session may ask."""

INTERNAL: dict[type, Handler] = {
    commands.Hello: accounts.hello,
    LinkLost: _link_lost,
    PasswordChecked: _password_checked,
    PasswordHashed: _password_hashed,
    Malformed: _malformed,
    Sweep: upkeep.sweep,
    Enter: calls.enter,
    Grant: calls.grant,
    RegisterUser: calls.register_user,
}
"""What needs no login."""

OPERATOR: dict[type, Handler] = {
    AddUser: admin.add_user,
    SetPassword: admin.set_password,
    RemoveUser: admin.remove_user,
    RevokeTokens: admin.revoke_tokens,
    MakeToken: admin.make_token,
    ListUsers: admin.list_users,
    MakeGroup: admin.make_group,
    ConfigureApp: admin.configure_app,
    ExplainFor: admin.explain_for,
    ListAllConversations: admin.list_all_conversations,
    Verify: upkeep.verify,
    Stats: admin.stats,
}
"""What only the operator's session may ask."""


class Hub:
    """The state of a node and the one way to change it."""

    def __init__(
        self, meta: rows.MetaRow, apps: Iterable[App], *, next_receipts_ms: int | None = None
    ) -> None:
        """
        Args:
            meta: As the store gave it on opening.
            apps: All tenants.
            next_receipts_ms: `Store.next_due_receipt(0)`.
        """
        self.world = World(meta, apps)
        self.world.next_receipts_ms = next_receipts_ms
        self._loading: dict[Need, list[Session]] = {}
        self._committing: _Collected | None = None
        self._numbers = 0

    def open(self, link: Any = None, peer: str = "", *, admin: bool = False) -> Session:
        """A new session, for a link that came in."""
        self._numbers += 1
        session = Session(self._numbers, link, peer, admin=admin)
        session.heard_ms = self.world.now_ms
        self.world.sessions[session] = None
        return session

    # -- deciding

    def apply(self, batch: Iterable[tuple[Session, AnyCommand]], now_ms: int) -> Tick:
        """Decide commands, in order, as one tick.

        After calling this, you must load `tick.loads` and give each to `learn`, do the password jobs, and let
        the outbox out only when the tick is committed (see `pipeline`).
        """
        tick = self._begin(now_ms)
        for session, command in batch:
            if session.waiting_for is None or session.state == "closed" or _is_flood(command):
                self._run(tick, session, command)
            else:
                self._queue(session, command)
        return self._end(tick)

    def learn(self, need: Need, found: Any, now_ms: int) -> Tick:
        """Storage answered; the commands that waited for it are decided, as a tick of their own."""
        tick = self._begin(now_ms)
        self.world.learn(need, found)
        for session in self._loading.pop(need):
            waiting = session.waiting_for
            assert waiting is not None  # it waits for this, whatever became of its link
            if session.found is None:
                session.found = {}
            session.found[need] = found
            waiting.discard(need)
            if not waiting:
                self._go_on(tick, session)
        return self._end(tick)

    def _begin(self, now_ms: int) -> Tick:
        world = self.world
        world.now_ms = max(world.now_ms, now_ms)  # node time never goes back
        world.tick_number += 1
        world.tick = Tick(world.tick_number)
        return world.tick

    def _end(self, tick: Tick) -> Tick:
        world = self.world
        for (chat, seq), readers in world.group_reads.items():
            _tell_readers(world, chat, seq, readers)
        world.group_reads.clear()
        world.asked_ids.clear()
        return tick

    def _run(self, tick: Tick, session: Session, command: AnyCommand) -> bool:
        """Run one command. False when it has to wait for storage."""
        world = self.world
        kind = type(command)
        handler = ROUTES.get(kind)
        if handler is not None:
            state = session.state
            if state != "live" and state != "behind":
                if state == "closed":
                    return True  # fenced, or gone: what it still sent is dropped
                if state == "checking":
                    self._queue(session, command)
                    return True
                self._refuse(
                    session, command.rid, Refused(Code.NOT_LOGGED_IN, "begin with Hello"), close=True
                )
                tick.commands.append((session, command))
                return True
        else:
            handler = INTERNAL.get(kind) or (OPERATOR.get(kind) if session.admin else None)
            if handler is None:
                self._refuse(session, command.rid, Refused(Code.NOT_PERMITTED, "this is the operator's"))
                tick.commands.append((session, command))
                return True
            if session.state == "closed" and kind is not LinkLost:
                return True
        world.found = session.found if session.found is not None else _NOTHING
        jobs = len(tick.passwords)
        try:
            if session.user is not None and session.user.row is None and session.state != "closed":
                world.user(session.app, session.user.name)  # undone: to be loaded again
            handler(world, session, command)
        except Missing as missing:
            self._wait(tick, session, command, missing)
            return False
        except Refused as refused:
            asked = command.command if isinstance(command, PasswordChecked | PasswordHashed) else command
            # A mark without a number is known by its conversation alone.
            unnumbered = getattr(asked, "conversation", None) if asked.rid == 0 else None
            self._refuse(
                session, asked.rid, refused, close=isinstance(asked, commands.Hello), conversation=unnumbered
            )
        session.found = None
        if len(tick.passwords) == jobs:  # what waits for a thread is decided later, and answered then
            tick.commands.append((session, command))
        if kind is PasswordChecked and session.backlog:
            self._go_on(tick, session)
        return True

    def _refuse(
        self,
        session: Session,
        rid: int,
        refused: Refused,
        *,
        close: bool = False,
        conversation: ConversationId | None = None,
    ) -> None:
        world = self.world
        world.reject(session, rid, refused, conversation=conversation)
        if close and not session.logged_in:
            world.close(session, refused.code, refused.reason, refused.retry_after_ms)

    def _wait(self, tick: Tick, session: Session, command: AnyCommand, missing: Missing) -> None:
        session.waiting_for = set(missing.needs)
        if missing.known is not None:
            session.found = missing.known
        if session.backlog is None:
            session.backlog = []
        session.backlog.insert(0, command)
        for need in missing.needs:
            waiting = self._loading.get(need)
            if waiting is None:
                self._loading[need] = [session]
                tick.loads.append(need)
            else:
                waiting.append(session)

    def _queue(self, session: Session, command: AnyCommand) -> None:
        if session.backlog is None:
            session.backlog = []
        session.backlog.append(command)

    def _go_on(self, tick: Tick, session: Session) -> None:
        """Decide what waited, until something is missing again."""
        session.waiting_for = None
        backlog, session.backlog = session.backlog, None
        for index, command in enumerate(backlog or ()):
            if not self._run(tick, session, command) or session.waiting_for is not None:
                rest = (backlog or [])[index + 1 :]
                session.backlog = (session.backlog or []) + rest
                return

    # -- making it durable

    def collect(self) -> rows.Batch:
        """All rows touched up to now, as one commit. The next commit may be collected after `committed` or
        `undo` only."""
        world = self.world
        assert self._committing is None
        batch, world.new = world.new, rows.Batch(meta=world.meta())
        batch.meta = world.meta()
        batch.asks.extend(world.new_asks.values())
        world.new_asks = {}
        for chat in world.touched_chats:
            _collect_chat(batch, chat, world.tick_number)
        queues, told = world.queue_rows, world.told_rows
        batch.queues.extend(queues.values())
        batch.told.extend(told.values())
        world.queue_rows, world.told_rows = {}, {}
        heads = {chat: chat.conversation.head for chat in world.touched_chats}
        self._committing = _Collected(
            world.tick_number, heads, world.touched_users, world.restores, queues, told
        )
        world.touched_chats, world.touched_users, world.restores = set(), set(), []
        return batch

    def committed(self) -> None:
        """The collected batch is durable."""
        done = self._committing
        assert done is not None
        self._committing = None
        self.world.committed_tick = done.tick
        for chat, head in done.heads.items():
            chat.stored_through = head

    def released(self, tick_number: int) -> None:
        """All ticks up to this one are let out."""
        self.world.released_tick = tick_number

    def undo(self) -> list[Session]:
        """The collected batch is not on disk: drop it and all that came since; it is loaded again when
        somebody asks.

        Returns:
            Sessions whose login is undone with it; they are closed now and have to be cut.
        """
        world = self.world
        lost = self._committing
        assert lost is not None
        self._committing = None
        chats, users = world.touched_chats | lost.heads.keys(), world.touched_users | lost.users
        restores = lost.restores + world.restores
        # What devices were told they were told, whatever is on disk: to be written with the next commit.
        world.queue_rows = lost.queues | world.queue_rows
        world.told_rows = lost.told | world.told_rows
        for restore in reversed(restores):
            restore()
        for chat in chats:  # all of them are in memory: what is touched is not let go
            del chat.app.chats[chat.id]
        for user in users:
            user.row = None
            user.devices = {}
        for app in world.apps.values():  # numbers of sends that are not on disk
            for user in app.users.values():
                user.installs = {}
                for session in user.sessions:
                    session.install = None  # looked up again by the next send
        world.touched_chats, world.touched_users, world.restores = set(), set(), []
        world.new, world.new_asks = rows.Batch(meta=world.meta()), {}
        again_ms = world.now_ms + EXPIRE_AGAIN_MS  # what was to expire is still there
        world.next_receipts_ms = min(world.next_receipts_ms or again_ms, again_ms)
        world.next_retention_ms = min(world.next_retention_ms, again_ms)
        undone = []
        for link in world.sessions:
            link.page_coming = False  # its acknowledgement is decided again
            if link.logged_in and link.login_tick > world.released_tick:
                link.user.sessions.remove(link)
                link.user.queued -= link.queue is not None
                world.queued -= link.queue is not None
                link.state = "closed"
                undone.append(link)
        return undone


class _Collected(NamedTuple):
    """What is on its way to the disk."""

    tick: int
    heads: dict[Chat, Seq]
    """The conversations in it, each with its head."""
    users: set[User]
    restores: list[Callable[[], object]]
    queues: dict[tuple[AppId, UserId, DeviceId], rows.QueueRow]
    told: dict[tuple[int, UserId, DeviceId], rows.ToldRow]


EXPIRE_AGAIN_MS = 5000
"""When expiry is tried again after its commit has failed."""


def _is_flood(command: AnyCommand) -> bool:
    """Whether a session sent more than it may while it waits: it is not to wait for its own end."""
    return isinstance(command, Malformed) and command.code is Code.BUSY


READERS_PER_FRAME = 100
"""With the longest words that go with a receipt, still well inside a frame."""

_NOTHING: dict[Need, Any] = {}


def _tell_readers(world: World, chat: Chat, seq: int, readers: list[Reader]) -> None:
    """One frame a tick with all new readers, to the asker alone (R8)."""
    asked = chat.conversation.asked.get(seq)
    if asked is None:
        return  # they have expired in this very tick
    assert asked.author is not None  # the node knows a message before answers to it
    user = chat.app.users.get(asked.author)
    if user is not None and user.sessions:
        # A session that is behind finds it in its pages.
        user.told = user.told or any(session.state == "live" for session in user.sessions)
        before = len(asked.readers) - len(readers)
        for start in range(0, len(readers), READERS_PER_FRAME):
            some = tuple(readers[start : start + READERS_PER_FRAME])
            update = GroupRead(chat.id, seq, before + start + len(some), some)
            world.tick.outbox.append((list(user.sessions), update))
            if user.queued:
                queues.tell_answers(world, chat, user, seq, before + start, some)


def _collect_chat(batch: rows.Batch, chat: Chat, tick: int) -> None:
    conversation = chat.conversation
    key = chat.key
    members = conversation.members
    for user in chat.marks_touched:
        member = members[user]
        marks_blob = pack_marks(member, chat.mark_ticks.get(user, 0), chat.mark_heads.get(user, 0))
        advances = b""
        if member.advances:  # in a group there are none
            packed = chat.packed_advances.get(user)
            if packed is None:
                packed = chat.packed_advances[user] = PackedAdvances()
            advances = packed.of(member)
        batch.marks.append(rows.MarkRow(key, user, tick, marks_blob, advances))
    chat.marks_touched.clear()
    if chat.members_touched:
        for user in chat.members_touched:
            state = pack_member(members[user], chat.member_ticks.get(user, 0))
            batch.members.append(rows.MemberRow(key, chat.app.id, user, tick, state))
        chat.members_touched.clear()
    if chat.row_touched:
        chat.row_touched = False
        batch.conversations.append(
            rows.ConversationRow(
                key,
                chat.app.id,
                chat.id,
                tick,
                chat.folded_through,
                conversation.expired_through,
                conversation.receipts_expired_through,
                pack_registers(conversation.registers),
            )
        )
