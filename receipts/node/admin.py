"""What the operator may ask of a node: accounts, tokens, groups, apps. PURE."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs

from receipts.core import decide
from receipts.core.errors import Code, Refused
from receipts.core.events import Role
from receipts.core.ids import AppId, UserId, is_user_id
from receipts.core.policy import Features, GroupPolicy, Limits, RollUp
from receipts.storage import base as rows
from receipts.wire.forms import is_printable
from receipts.wire.limits import APP_CHARACTERS_MAX

from . import accounts, groups, queries
from .commands import (
    AddUser,
    ConfigureApp,
    ExplainFor,
    ListAllConversations,
    ListUsers,
    MakeGroup,
    MakeToken,
    PasswordHashed,
    RemoveUser,
    RevokeTokens,
    SetPassword,
    Stats,
    Text,
)
from .world import App, Ask, PasswordJob, Session, User, World

__all__ = ["ANSWERS", "app_of", "check_new", "create_user", "parse_settings"]


# -- apps


def parse_settings(text: str) -> tuple[Features, Limits]:
    """Features and limits of an app from JSON: `{"features": {…}, "groups": {…}, "limits": {…}}`.

    Raises:
        Refused: `invalid`, naming the entry and what it may be.
    """
    try:
        settings = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise Refused(Code.INVALID, f"the settings are not JSON: {error}") from error
    if not isinstance(settings, dict) or not settings.keys() <= {"features", "groups", "limits"}:
        raise Refused(Code.INVALID, "settings have the parts features, groups and limits")
    policy = _fill(GroupPolicy, settings.get("groups", {}))
    features = _fill(Features, settings.get("features", {}), groups=policy)
    return features, _fill(Limits, settings.get("limits", {}))


def _fill(cls: Any, given: Any, **more: Any) -> Any:
    if not isinstance(given, dict):
        raise Refused(Code.INVALID, f"{cls.__name__.lower()} has to be a table of names and values")
    known = {field.name: field for field in attrs.fields(cls)}
    values = {}
    for name, content in given.items():
        if name not in known or name in more:
            raise Refused(Code.INVALID, f"there is no setting {name!r}; known are {', '.join(sorted(known))}")
        values[name] = _convert(name, known[name].default, content)
    return cls(**values, **more)


def _convert(name: str, default: Any, content: Any) -> Any:
    try:
        if isinstance(default, Role | RollUp):
            return type(default)(content)
        if isinstance(default, bool):
            if isinstance(content, bool):
                return content
        elif isinstance(content, int | float) and not isinstance(content, bool) and content >= 0:
            return type(default)(content)
    except (ValueError, OverflowError):
        pass
    kind = type(default)
    choices = (
        f"one of {', '.join(kind)}" if issubclass(kind, Role | RollUp) else f"a {kind.__name__}, not negative"
    )
    raise Refused(Code.INVALID, f"{name} has to be {choices}, not {content!r}")


def app_of(row: rows.AppRow) -> App:
    """An app as stored."""
    return App(row.app, *parse_settings(row.settings))


def configure_app(world: World, session: Session, command: ConfigureApp) -> None:
    """Make an app, or switch its features and limits while it runs."""
    features, limits = parse_settings(command.settings)
    app = world.apps.get(command.app)
    if app is None:
        if not is_printable(command.app, APP_CHARACTERS_MAX):
            limit = APP_CHARACTERS_MAX
            raise Refused(Code.INVALID, f"the name of an app has 1 to {limit} characters", limit=limit)
        world.apps[command.app] = App(command.app, features, limits)
        world.restores.append(partial(world.apps.pop, command.app))
    else:
        world.restores.append(partial(_configure, app, app.features, app.limits))
        _configure(app, features, limits)
    world.new.apps.append(rows.AppRow(command.app, command.settings))
    world.tick.writes = True
    world.done(session, command.rid)


def _configure(app: App, features: Features, limits: Limits) -> None:
    app.features, app.limits = features, limits


# -- accounts


def _app(world: World, name: AppId) -> App:
    app = world.apps.get(name)
    if app is None:
        raise Refused(Code.UNKNOWN_APP, f"there is no app {name!r} here")
    return app


def add_user(world: World, session: Session, command: AddUser) -> None:
    """A password is hashed in a thread first."""
    check_new(world, command.app, command.user)
    if command.password is None:
        create_user(world, _app(world, command.app), command.user, "")
        world.done(session, command.rid)
        return
    accounts.check_password(command.password)
    world.tick.passwords.append(PasswordJob(session, command.password, None, command))


def check_new(world: World, app: AppId, name: UserId) -> None:
    """Whether an account of that name may be opened.

    Raises:
        Refused: `invalid`, `already_exists`, `unknown_app`.
    """
    if not is_user_id(name):
        raise Refused(Code.INVALID, f"{name!r} cannot be a user: 1 to 64 characters of a-z 0-9 _ . -")
    user = world.user(_app(world, app), name)
    if user is not None and user.row is not None and not user.row.removed:
        raise Refused(Code.ALREADY_EXISTS, f"there is a user {name!r} already")


def create_user(world: World, app: App, name: UserId, password_hash: str) -> None:
    """A new account; one that was removed begins anew, with earlier tokens void."""
    known = app.users.get(name)
    epoch = known.row.token_epoch + 1 if known is not None and known.row is not None else 0
    user = app.users.setdefault(name, User(app, name))
    world.touch_user(
        user,
        rows.UserRow(app.id, name, password_hash, epoch, True, True, world.tick_number, world.now_ms, False),
    )


def set_password(world: World, session: Session, command: SetPassword) -> None:
    """Hashed in a thread first."""
    world.account(_app(world, command.app), command.user)
    accounts.check_password(command.password)
    world.tick.passwords.append(PasswordJob(session, command.password, None, command))


def password_hashed(world: World, session: Session, outcome: PasswordHashed) -> None:
    """The thread has made a hash for one of the two above."""
    command = outcome.command
    assert outcome.hash is not None
    if isinstance(command, AddUser):
        check_new(world, command.app, command.user)
        create_user(world, _app(world, command.app), command.user, outcome.hash)
    else:
        assert isinstance(command, SetPassword)
        user = world.account(_app(world, command.app), command.user)
        accounts.new_password(world, user, outcome.hash)
    world.done(session, command.rid)


def remove_user(world: World, session: Session, command: RemoveUser) -> None:
    """Sessions close, groups are left (an owner's go to the first admin, or member, by name), and what the
    user could read is closed to whoever gets the name next."""
    app = _app(world, command.app)
    user = world.account(app, command.user)
    for chat in world.chats_of(app, command.user):
        if chat.pair is None and command.user in chat.members():
            groups.hand_over(world, chat, command.user)
            groups.expel(world, chat, [command.user])
        # Who comes later under this name must not find what was written to somebody else.
        cleared = decide.clear(chat.conversation, command.user, chat.conversation.head)
        if cleared is not None:
            chat.conversation.apply(cleared)
            world.touch_member(chat, command.user, False)
    assert user.row is not None
    accounts.revoke_tokens(world, user, accounts.ACCOUNT_REMOVED)
    for row in user.devices.values():
        if not row.removed:
            world.touch_device(user, row._replace(removed=True))
    world.touch_user(user, user.row._replace(removed=True, password_hash=""))
    world.done(session, command.rid)


def revoke_tokens(world: World, session: Session, command: RevokeTokens) -> None:
    """All tokens of a user."""
    accounts.revoke_tokens(world, world.account(_app(world, command.app), command.user))
    world.done(session, command.rid)


def make_token(world: World, session: Session, command: MakeToken) -> None:
    """Answered by `Text`: the token."""
    user = world.account(_app(world, command.app), command.user)
    assert user.row is not None
    token = accounts.sign_token(world.secret, user.row, expires_ms=world.now_ms + command.lifetime_ms)
    world.answer(session, Text(command.rid, token))


def list_users(world: World, session: Session, command: ListUsers) -> None:
    """Answered by `Text`: JSON, a list of {user, created_ms, removed, password}."""
    limit = max(1, min(command.limit, LISTED_MAX))
    arguments = {"app": _app(world, command.app).id, "after": command.after, "limit": limit}
    world.tick.outbox.append(Ask(session, "users", arguments, "users", command.rid))


LISTED_MAX = 5000
"""Of accounts or conversations at once: a second's work for the store."""


def _users(world: World, session: Session, rid: int, found: list[rows.UserRow]) -> Text:
    listed = [
        {"user": row.user, "created_ms": row.created_ms, "password": bool(row.password_hash)}
        for row in found
        if not row.removed
    ]
    return Text(rid, json.dumps(listed))


def list_all_conversations(world: World, session: Session, command: ListAllConversations) -> None:
    """What there is to verify."""
    limit = max(1, min(command.limit, LISTED_MAX))
    arguments = {"after_key": command.after_key, "limit": limit}
    world.tick.outbox.append(Ask(session, "all_conversations", arguments, "all_conversations", command.rid))


def _all_conversations(world: World, session: Session, rid: int, found: list[tuple[int, str, str]]) -> Text:
    return Text(rid, json.dumps(found))


ANSWERS: dict[str, Callable[[World, Session, Any, Any], Text]] = {
    "users": _users,
    "all_conversations": _all_conversations,
}


def make_group(world: World, session: Session, command: MakeGroup) -> None:
    """A group in somebody's name."""
    groups.make_group(
        world,
        _app(world, command.app),
        command.conversation,
        command.name,
        "",
        command.owner,
        command.admins,
        command.members,
    )
    world.done(session, command.rid)


def explain_for(world: World, session: Session, command: ExplainFor) -> None:
    """As `ExplainUnread`, for anybody."""
    app = _app(world, command.app)
    world.account(app, command.user)
    chat = world.find_chat(app, command.conversation)
    if chat is None or command.user not in chat.conversation.members:
        raise Refused(
            Code.UNKNOWN_CONVERSATION,
            f"there is no conversation {command.conversation!r} with {command.user} in it",
        )
    queries.explain_for(world, session, chat, command.user, command.after, command.limit, command.rid)


def stats(world: World, session: Session, command: Stats) -> None:
    """Answered by `Text`: JSON."""
    figures = {
        "life": world.life,
        "tick": world.tick_number,
        "node_time_ms": world.now_ms,
        "sessions": len(world.sessions),
        "users": sum(len(app.users) for app in world.apps.values()),
        "conversations": sum(len(app.chats) for app in world.apps.values()),
        "apps": sorted(world.apps),
    }
    world.answer(session, Text(command.rid, json.dumps(figures)))
