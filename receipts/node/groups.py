"""Groups: who is in, in which role, under which name; and muting, which is a member's own. PURE."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from receipts.core import decide
from receipts.core.conversation import Conversation
from receipts.core.errors import Code, Refused
from receipts.core.events import Joining, MemberJoined, Register, RegisterSet, RegisterValue, Role
from receipts.core.ids import ConversationId, UserId
from receipts.core.policy import allowed
from receipts.wire import commands

from .catchup import tell_newcomers
from .commands import JoinGroup
from .limits import take
from .messages import open_chat
from .world import App, Chat, Missing, Need, Session, World

__all__ = [
    "add_members",
    "change_group",
    "check_accounts",
    "check_group_id",
    "check_size",
    "check_text",
    "create_group",
    "dissolve_group",
    "expel",
    "hand_over",
    "join_group",
    "make_group",
    "remove_members",
    "set_muted",
    "set_role",
]

_GROUP_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
NAME_CHARACTERS_MAX = 200
DESCRIPTION_CHARACTERS_MAX = 2000


def create_group(world: World, session: Session, command: commands.CreateGroup) -> None:
    """The sender becomes the owner. A repeat, after a lost answer, is answered as the first time."""
    app, me = session.app, session.user.name
    check_group_id(command.conversation)
    known = world.find_chat(app, command.conversation)
    if known is not None:
        owned = me in known.conversation.members and known.role(me) is Role.OWNER
        if not owned or known.dissolved:
            raise Refused(Code.ALREADY_EXISTS, f"the id {command.conversation!r} is taken; choose another")
        world.done(session, command.rid)
        return
    _check_texts(command.name, command.description)
    members = {me, *command.members}
    check_size(app, len(members))
    check_accounts(world, app, sorted(members))  # before it is counted: what has to wait for it is run again
    take(session.user.buckets, "changes", app.limits, world.now_ms)
    make_group(
        world,
        app,
        command.conversation,
        command.name,
        command.description,
        me,
        (),
        command.members,
    )
    world.done(session, command.rid)


def make_group(
    world: World,
    app: App,
    conversation: ConversationId,
    name: str,
    description: str,
    owner: UserId,
    admins: Iterable[UserId],
    members: Iterable[UserId],
    registers: Mapping[Register, RegisterValue] | None = None,
) -> Chat:
    """Open a group with its first members.

    Args:
        registers: What else is to be kept with it.

    Raises:
        Refused: `invalid` id, `already_exists`, `unknown_user`, `group_too_large`.
    """
    check_group_id(conversation)
    _check_texts(name, description)
    if world.find_chat(app, conversation) is not None:
        raise Refused(Code.ALREADY_EXISTS, f"the id {conversation!r} is taken; choose another")
    roles: dict[UserId, Role] = {owner: Role.OWNER}
    for user, role in [(user, Role.ADMIN) for user in admins] + [(user, Role.MEMBER) for user in members]:
        roles.setdefault(user, role)
    check_size(app, len(roles))
    check_accounts(world, app, roles)
    chat = open_chat(world, app, Conversation.group(conversation))
    _set(world, chat, None, Register.NAME, name)
    if description:
        _set(world, chat, None, Register.DESCRIPTION, description)
    for register, content in (registers or {}).items():
        _set(world, chat, None, register, content)
    for user, role in roles.items():
        _let_in(world, chat, user, role)
    tell_newcomers(world, chat, roles)
    return chat


def add_members(world: World, session: Session, command: commands.AddMembers) -> None:
    """From the next message on. Who is in already stays as they are."""
    chat = _group(world, session, command.conversation)
    app = session.app
    own = chat.conversation.registers.get(Register.INVITING)
    _check_role(session, chat, app.features.groups.may_add if own is None else Role(str(own[1])))
    new = [user for user in dict.fromkeys(command.users) if not _is_in(chat, user)]
    _check_room(chat, len(new))
    check_accounts(world, app, new)
    take(session.user.buckets, "changes", app.limits, world.now_ms)
    _welcome(world, chat, new)
    world.done(session, command.rid)


def join_group(world: World, session: Session, command: JoinGroup) -> None:
    """Come in by oneself, where everybody may. Who is in already stays as they are."""
    app, me = session.app, session.user.name
    chat = world.find_chat(app, command.conversation)
    if chat is None or chat.pair is not None or chat.dissolved:
        raise Refused(Code.UNKNOWN_CONVERSATION, f"there is no group {command.conversation!r}")
    if not _is_in(chat, me):
        how = chat.conversation.registers.get(Register.JOINING)
        if how is None or how[1] != Joining.ANYONE:
            raise Refused(Code.NOT_PERMITTED, f"one comes into {command.conversation!r} by invitation alone")
        _check_room(chat, 1)
        world.account(app, me)
        take(session.user.buckets, "changes", app.limits, world.now_ms)
        _welcome(world, chat, [me])
    world.done(session, command.rid)


def _welcome(world: World, chat: Chat, users: Sequence[UserId]) -> None:
    """Let them in, and tell everybody."""
    before = chat.members()
    events: list[MemberJoined | RegisterSet] = []
    for user in users:
        events += _let_in(world, chat, user, Role.MEMBER)
    for event in events:
        world.tell(chat.app, before, event)
    tell_newcomers(world, chat, users)


def remove_members(world: World, session: Session, command: commands.RemoveMembers) -> None:
    """Putting somebody out takes a role above theirs; leaving takes none, but an owner hands over first."""
    chat = _group(world, session, command.conversation)
    app, me = session.app, session.user.name
    policy = app.features.groups
    gone = [user for user in dict.fromkeys(command.users) if _is_in(chat, user)]
    for user in gone:
        if user != me:
            _check_role(session, chat, policy.may_remove)
            if chat.role(user) is Role.OWNER or (
                chat.role(user) is Role.ADMIN and chat.role(me) is not Role.OWNER
            ):
                raise Refused(
                    Code.NOT_PERMITTED, f"{user} is {chat.role(user).value}; you cannot put them out"
                )
        elif chat.role(me) is Role.OWNER and len(chat.members()) > 1:
            raise Refused(
                Code.NOT_PERMITTED, "an owner first hands the group over (`SetRole` owner) or dissolves it"
            )
    take(session.user.buckets, "changes", app.limits, world.now_ms)
    expel(world, chat, gone)
    world.done(session, command.rid)


def expel(world: World, chat: Chat, users: Sequence[UserId]) -> None:
    """End the memberships of users who are in, and tell everybody who was."""
    everybody = chat.members()
    for user in users:
        _put_out(world, chat, user, everybody)


def _put_out(world: World, chat: Chat, user: UserId, told: Iterable[UserId]) -> None:
    event = decide.leave(chat.conversation, user)
    assert event is not None  # whoever is put out is in
    chat.conversation.apply(event)
    world.touch_member(chat, user, True)
    world.tell(chat.app, told, event)


def hand_over(world: World, chat: Chat, owner: UserId) -> None:
    """When an owner's account ends: the group goes to the first admin by name, else to the first member."""
    if chat.role(owner) is not Role.OWNER:
        return
    heirs = sorted((chat.role(user) is not Role.ADMIN, user) for user in chat.members() if user != owner)
    if heirs:
        event = _set(world, chat, heirs[0][1], Register.ROLE, Role.OWNER.value)
        world.tell(chat.app, chat.members(), event)


def set_role(world: World, session: Session, command: commands.SetRole) -> None:
    """The owner names admins; naming an owner hands the group over, and the old one becomes admin."""
    chat = _group(world, session, command.conversation)
    me = session.user.name
    _check_role(session, chat, Role.OWNER)
    if not _is_in(chat, command.user):
        raise Refused(Code.UNKNOWN_USER, f"{command.user} is not in {chat.id!r}")
    if command.user == me and command.role is not Role.OWNER:
        raise Refused(Code.NOT_PERMITTED, "an owner first hands the group over to somebody else")
    take(session.user.buckets, "changes", session.app.limits, world.now_ms)
    if chat.role(command.user) is not command.role:
        changed = [(command.user, command.role)]
        if command.role is Role.OWNER:
            changed.append((me, Role.ADMIN))
        for user, role in changed:
            event = _set(world, chat, user, Register.ROLE, role.value)
            world.tell(session.app, chat.members(), event)
    world.done(session, command.rid)


def change_group(world: World, session: Session, command: commands.ChangeGroup) -> None:
    """Name and description."""
    chat = _group(world, session, command.conversation)
    _check_role(session, chat, session.app.features.groups.may_rename)
    _check_texts(command.name or "", command.description or "")
    take(session.user.buckets, "changes", session.app.limits, world.now_ms)
    for register, text in ((Register.NAME, command.name), (Register.DESCRIPTION, command.description)):
        known = chat.conversation.registers.get(register)
        if text is not None and (known is None or known[1] != text):
            event = _set(world, chat, None, register, text)
            world.tell(session.app, chat.members(), event)
    world.done(session, command.rid)


def dissolve_group(world: World, session: Session, command: commands.DissolveGroup) -> None:
    """Everybody leaves, the owner last; what was said stays readable for who was in."""
    known = world.chat(session, command.conversation)
    if known.dissolved and known.role(session.user.name) is Role.OWNER:
        world.done(session, command.rid)
        return
    chat = _group(world, session, command.conversation)
    _check_role(session, chat, Role.OWNER)
    take(session.user.buckets, "changes", session.app.limits, world.now_ms)
    everybody = chat.members()
    event = _set(world, chat, None, Register.DELETED, True)
    world.tell(session.app, everybody, event)
    for user in everybody:  # each is told of the own leaving alone, or the frames were members times members
        _put_out(world, chat, user, (user,))
    world.done(session, command.rid)


def set_muted(world: World, session: Session, command: commands.SetMuted) -> None:
    """A member's own wish; nobody else is told."""
    chat = world.member_chat(session, command.conversation)
    me = session.user.name
    take(session.user.buckets, "changes", session.app.limits, world.now_ms)
    known = chat.conversation.members[me].registers.get(Register.MUTED)
    if (known is not None and bool(known[1])) is not command.muted:
        event = RegisterSet(
            conversation=chat.id,
            member=me,
            register=Register.MUTED,
            version=world.next_version(),
            value=command.muted,
        )
        chat.conversation.apply(event)
        world.touch_member(chat, me, False)
        world.tell(session.app, (me,), event)
    world.done(session, command.rid)


# -- judging and changing


def _group(world: World, session: Session, conversation: ConversationId) -> Chat:
    chat = world.member_chat(session, conversation)
    if chat.pair is not None:
        raise Refused(Code.INVALID, "this is a conversation of two users, not a group")
    return chat


def _is_in(chat: Chat, user: UserId) -> bool:
    member = chat.conversation.members.get(user)
    return member is not None and member.joined


def _check_role(session: Session, chat: Chat, least: Role) -> None:
    role = chat.role(session.user.name)
    if not allowed(role, least):
        raise Refused(Code.NOT_PERMITTED, f"this takes the role {least.value}; yours is {role.value}")


def _check_room(chat: Chat, more: int) -> None:
    if more:
        own = chat.conversation.registers.get(Register.MEMBERS_MAX)
        check_size(chat.app, len(chat.members()) + more, int(own[1] or 0) if own is not None else None)


def check_size(app: App, members: int, own_limit: int | None = None) -> None:
    """Whether so many may be in a group.

    Args:
        own_limit: The group's own, which counts if it is below the app's.

    Raises:
        Refused: `group_too_large`.
    """
    limit = app.limits.group_members_max
    if own_limit is not None:
        limit = min(limit, own_limit)
    if members > limit:
        raise Refused(Code.GROUP_TOO_LARGE, f"a group has at most {limit} members", limit=limit)


def _check_texts(name: str, description: str) -> None:
    check_text("name", name, NAME_CHARACTERS_MAX)
    check_text("description", description)


def check_text(what: str, text: str, limit: int = DESCRIPTION_CHARACTERS_MAX) -> None:
    """Whether a text may be kept with a group.

    Raises:
        Refused: `invalid`.
    """
    if len(text) > limit:
        raise Refused(Code.INVALID, f"the {what} of a group has at most {limit} characters", limit=limit)


def _let_in(world: World, chat: Chat, user: UserId, role: Role) -> list[MemberJoined | RegisterSet]:
    conversation = chat.conversation
    event = decide.join(conversation, user, version=world.next_version())
    assert event is not None  # who is in already was left out
    conversation.apply(event)
    made: list[MemberJoined | RegisterSet] = [event]
    row = chat.app.users[user].row
    if row is not None and user not in chat.member_ticks:  # the sharing that they chose for all
        sharing = decide.share(
            conversation,
            user,
            version=world.next_version(),
            delivered=row.share_delivered,
            read=row.share_read,
        )
        if sharing is not None:
            conversation.apply(sharing)
    made.append(_set(world, chat, user, Register.ROLE, role.value))
    return made


def check_group_id(conversation: ConversationId) -> None:
    """Before anything is looked up: who asks for the conversation of two others is not to learn that it is
    there.

    Raises:
        Refused: `invalid`.
    """
    if _GROUP_ID.fullmatch(conversation) is None:
        raise Refused(Code.INVALID, "a group id has 1 to 64 characters of a-z A-Z 0-9 _ . -")


def check_accounts(world: World, app: App, users: Iterable[UserId]) -> None:
    """All of them have to be there; what is missing is asked for at once.

    Raises:
        Refused: `unknown_user`.
    """
    needs: list[Need] = []
    for user in users:
        try:
            world.account(app, user)
        except Missing as missing:
            needs += missing.needs
    if needs:
        raise Missing(*needs)


def _set(
    world: World, chat: Chat, member: UserId | None, register: Register, content: RegisterValue
) -> RegisterSet:
    event = RegisterSet(
        conversation=chat.id, member=member, register=register, version=world.next_version(), value=content
    )
    chat.conversation.apply(event)
    if member is None:
        world.touch_row(chat)
    else:
        world.touch_member(chat, member, True)
    return event
