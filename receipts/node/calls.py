"""What is asked for somebody who has a token and no device, call by call: an HTTP face, for one. PURE.

A session enters with a token (`enter`), and what it asks then is judged as if a device of that user had
asked it: the same handlers, the same rights and limits. But no device becomes known by it, it does not count
as being there, and nothing is pushed to it. Beside what clients may ask, such a session can look for groups
and open them with more kept with them.
"""

from __future__ import annotations

from typing import Any

from receipts.core.errors import Code, Refused
from receipts.core.events import Joining, Register, RegisterValue, Role
from receipts.core.ids import ConversationId
from receipts.storage import base as rows
from receipts.storage.codec import unpack_registers
from receipts.wire import VERSION, commands

from . import accounts, admin, groups, queries
from .commands import (
    Enter,
    Entered,
    FindGroup,
    Grant,
    GroupFound,
    GroupInfo,
    GroupsFound,
    ListGroups,
    ListPublicGroups,
    ListReadersOf,
    OpenGroup,
    PasswordHashed,
    RegisterUser,
    Text,
)
from .limits import take
from .queue_calls import seq_of
from .world import App, Ask, Chat, PasswordJob, Session, World

__all__ = [
    "ANSWERS",
    "enter",
    "find_group",
    "grant",
    "granted",
    "list_groups",
    "list_public_groups",
    "list_readers_of",
    "open_group",
    "register_user",
    "registered",
]

PUBLIC_GROUPS_PAGE_MAX = 100


# -- who asks


def enter(world: World, session: Session, command: Enter) -> None:
    """Judge a token. Entering once more, with what was asked before, changes nothing."""
    app = _app(world, command.app)
    name = accounts.subject_of(command.token)
    user = world.user(app, name)
    row = user.row if user is not None and user.row is not None and not user.row.removed else None
    claimed = commands.Hello(
        version=VERSION, user=name, device="", install="", app=command.app, token=command.token
    )
    expires_ms = accounts.check_token(world, claimed, row)
    assert user is not None
    session.app, session.user = app, user
    session.state = "live"
    if command.rid:
        world.answer(session, Entered(rid=command.rid, user=name, expires_ms=expires_ms))


def _app(world: World, name: str) -> App:
    app = world.apps.get(name)
    if app is None:
        raise Refused(Code.UNKNOWN_APP, f"there is no app {name!r} here")
    return app


def grant(world: World, session: Session, command: Grant) -> None:
    """The password goes to a thread first. Here an unknown user is told from a wrong password."""
    app = _app(world, command.app)
    world.user(app, command.user)  # loaded first, or the attempt were counted twice
    take(app.buckets_of(command.user), "logins", app.limits, world.now_ms)
    user = world.account(app, command.user)
    assert user.row is not None
    known = user.row.password_hash or accounts.DUMMY_HASH
    world.tick.passwords.append(PasswordJob(session, command.password, known, command))


def granted(world: World, session: Session, command: Grant, good: bool) -> None:
    """The thread has compared the password."""
    if not good:
        raise Refused(Code.UNAUTHORIZED, "wrong password")
    user = world.account(_app(world, command.app), command.user)
    assert user.row is not None
    token = accounts.sign_token(world.secret, user.row, expires_ms=world.now_ms + command.lifetime_ms)
    world.answer(session, Text(command.rid, token))


def register_user(world: World, session: Session, command: RegisterUser) -> None:
    """The password is hashed in a thread first."""
    app = _app(world, command.app)
    admin.check_new(world, command.app, command.user)
    accounts.check_password(command.password)
    take(app.buckets, "registrations", app.limits, world.now_ms)
    world.tick.passwords.append(PasswordJob(session, command.password, None, command))


def registered(world: World, session: Session, outcome: PasswordHashed) -> None:
    """The thread has made the hash."""
    command = outcome.command
    assert isinstance(command, RegisterUser)
    assert outcome.hash is not None
    admin.check_new(world, command.app, command.user)
    admin.create_user(world, _app(world, command.app), command.user, outcome.hash)
    world.done(session, command.rid)


# -- groups


def open_group(world: World, session: Session, command: OpenGroup) -> None:
    """The user becomes the owner."""
    app = session.app
    registers: dict[Register, RegisterValue] = {Register.CREATED_MS: world.now_ms}
    if command.joining is not Joining.INVITED:
        registers[Register.JOINING] = command.joining.value
    if command.inviting is not None:
        registers[Register.INVITING] = command.inviting.value
    if command.members_max:
        if command.members_max > app.limits.group_members_max:
            limit = app.limits.group_members_max
            raise Refused(Code.GROUP_TOO_LARGE, f"a group has at most {limit} members", limit=limit)
        registers[Register.MEMBERS_MAX] = command.members_max
    if command.custom:
        groups.check_text("custom", command.custom)
        registers[Register.CUSTOM] = command.custom
    groups.check_group_id(command.conversation)
    if world.find_chat(app, command.conversation) is not None:
        raise Refused(Code.ALREADY_EXISTS, f"the id {command.conversation!r} is taken; choose another")
    members = {session.user.name, *command.members}
    groups.check_size(app, len(members), command.members_max or None)
    groups.check_accounts(world, app, sorted(members))
    take(session.user.buckets, "changes", app.limits, world.now_ms)
    groups.make_group(
        world,
        app,
        command.conversation,
        command.name,
        command.description,
        session.user.name,
        (),
        command.members,
        registers,
    )
    world.done(session, command.rid)


def find_group(world: World, session: Session, command: FindGroup) -> None:
    """Whether there is a group of some id is no secret among the users of an app; what is told of it to one
    who is not in it is for the face that asks to decide."""
    chat = world.find_chat(session.app, command.conversation)
    take(session.user.buckets, "queries", session.app.limits, world.now_ms)
    if chat is None or chat.pair is not None or chat.dissolved:
        raise Refused(Code.UNKNOWN_CONVERSATION, f"there is no group {command.conversation!r}")
    world.answer(session, GroupFound(rid=command.rid, group=_info(session, chat)))


def list_groups(world: World, session: Session, command: ListGroups) -> None:
    """All that the user is in now: a person is in hundreds at most."""
    app, me = session.app, session.user.name
    stored = world.ask("conversations_of", app.id, me)
    known = [name for name, chat in app.chats.items() if me in chat.conversation.members]
    chats = world.all_of(app, [name for name in dict.fromkeys([*stored, *known]) if "~" not in name])
    take(session.user.buckets, "queries", app.limits, world.now_ms)
    mine = [chat for chat in chats if chat.conversation.members[me].joined and not chat.dissolved]
    found = tuple(_info(session, chat) for chat in sorted(mine, key=lambda chat: chat.id))
    world.answer(session, GroupsFound(rid=command.rid, groups=found))


def _info(session: Session, chat: Chat) -> GroupInfo:
    members = chat.members()
    me = session.user.name
    return _as_info(
        session.app,
        chat.id,
        {register: content for register, (_, content) in chat.conversation.registers.items()},
        owner=next((name for name in members if chat.role(name) is Role.OWNER), ""),
        count=len(members),
        role=chat.role(me) if me in members else None,
    )


def _as_info(
    app: App,
    conversation: ConversationId,
    registers: dict[Register, RegisterValue],
    *,
    owner: str = "",
    count: int = 0,
    role: Role | None = None,
) -> GroupInfo:
    limit = app.limits.group_members_max
    return GroupInfo(
        conversation=conversation,
        name=str(registers.get(Register.NAME, "")),
        description=str(registers.get(Register.DESCRIPTION, "")),
        owner=owner,
        count=count,
        role=role,
        joining=Joining(str(registers.get(Register.JOINING, Joining.INVITED.value))),
        inviting=Role(str(registers.get(Register.INVITING, app.features.groups.may_add.value))),
        members_max=min(limit, int(registers.get(Register.MEMBERS_MAX) or limit)),
        created_ms=int(registers.get(Register.CREATED_MS) or 0),
        custom=str(registers.get(Register.CUSTOM, "")),
    )


def list_public_groups(world: World, session: Session, command: ListPublicGroups) -> None:
    """Read from storage, a stretch of conversations at a time."""
    take(session.user.buckets, "queries", session.app.limits, world.now_ms)
    limit = max(1, min(command.limit, PUBLIC_GROUPS_PAGE_MAX))
    arguments = {"app": session.app.id, "after": command.after}
    world.tick.outbox.append(Ask(session, "groups", arguments, "public_groups", (command.rid, limit)))


def _public_groups(
    world: World,
    session: Session,
    context: tuple[int, int],
    found: tuple[list[rows.ConversationRow], ConversationId],
) -> GroupsFound:
    rid, limit = context
    listed: list[GroupInfo] = []
    for row in found[0]:
        known = unpack_registers(row.registers)
        if Register.JOINING in known and Register.DELETED not in known:
            registers = {register: content for register, (_, content) in known.items()}
            listed.append(_as_info(session.app, row.conversation, registers))
            if len(listed) == limit:
                more = row is not found[0][-1] or found[1]
                return GroupsFound(rid=rid, groups=tuple(listed), cursor=row.conversation if more else "")
    return GroupsFound(rid=rid, groups=tuple(listed), cursor=found[1])


# -- receipts


def list_readers_of(world: World, session: Session, command: ListReadersOf) -> None:
    """By the id that its author was given for the message."""
    chat = world.member_chat(session, command.conversation)
    seq = seq_of(world, chat, command.message_id)
    if not seq:
        raise Refused(Code.UNKNOWN_MESSAGE, f"there is no message {command.message_id} in {chat.id!r}")
    queries.list_readers(
        world,
        session,
        commands.ListReaders(
            rid=command.rid, conversation=chat.id, seq=seq, after=command.after, limit=command.limit
        ),
    )


ANSWERS: dict[str, Any] = {"public_groups": _public_groups}
