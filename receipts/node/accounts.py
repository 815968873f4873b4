"""Who somebody is: login, devices, passwords, tokens, sharing. PURE: passwords are hashed elsewhere.

Wrong user and wrong password are one answer, and take the same time: an unknown user's attempt is verified
against a hash that nothing matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jwt

from receipts.core import decide
from receipts.core.errors import Code, Refused
from receipts.core.ids import DeviceId, UserId, is_user_id
from receipts.core.policy import MINUTE_MS, RollUp
from receipts.storage import base as rows
from receipts.wire import VERSION, commands
from receipts.wire.updates import Device, Devices, Welcome

from . import catchup, marks, messages, queues
from .commands import PasswordChecked, PasswordHashed
from .limits import take
from .world import PasswordJob, Session, User, World

__all__ = [
    "ACCOUNT_REMOVED",
    "DUMMY_HASH",
    "PASSWORD_CHANGED",
    "change_password",
    "check_token",
    "hello",
    "link_lost",
    "list_devices",
    "log_out_device",
    "part",
    "password_checked",
    "password_hashed",
    "set_sharing",
    "sign_token",
    "subject_of",
]

DUMMY_HASH = (
    "$argon2id$v=19$m=65536,t=3,p=4$ZHVtbXlzYWx0ZHVtbXlzYQ$3pKZJ7rJz0n8p0Zf9v2mN0Jb6j0a4cV8r1w5yQm9XgE"
)
"""Well-formed, of nobody's password."""

TOKEN_ALGORITHM = "HS256"
CLIENT_CHARACTERS_KEPT = 200
SEEN_EVERY_MS = 60 * MINUTE_MS
"""How exactly a device's last time is stored: forgetting is by the month, a row per login would be waste."""


def sign_token(secret: bytes, row: rows.UserRow, *, expires_ms: int) -> str:
    """A token for a user, valid until a node time (exclusive) or until the user's tokens are revoked."""
    claims = {"app": row.app, "sub": row.user, "epoch": row.token_epoch, "exp": expires_ms // 1000}
    return jwt.encode(claims, secret, algorithm=TOKEN_ALGORITHM)


# -- login


def hello(world: World, session: Session, command: commands.Hello) -> None:
    """Judge who it is; a password goes to a thread first. A session that fails here is closed."""
    if session.state != "new":
        raise Refused(Code.ALREADY_LOGGED_IN, "this session is logged in; open another link for another user")
    if command.version != VERSION:
        raise Refused(
            Code.WRONG_VERSION, f"this node speaks version {VERSION}, not {command.version}", limit=VERSION
        )
    if world.draining:
        raise Refused(Code.SHUTTING_DOWN, "the node is shutting down", retry_after_ms=2000)
    app = world.apps.get(command.app)
    if app is None:
        raise Refused(Code.UNKNOWN_APP, f"there is no app {command.app!r} here")
    user = world.user(app, command.user)
    row = user.row if user is not None and user.row is not None and not user.row.removed else None
    if command.token is not None:
        session.expires_ms = check_token(world, command, row)
        assert user is not None
        _log_in(world, session, command, user)
        return
    take(app.buckets_of(command.user), "logins", app.limits, world.now_ms)
    session.state = "checking"
    known = row.password_hash if row is not None and row.password_hash else DUMMY_HASH
    world.tick.passwords.append(PasswordJob(session, command.password or "", known, command))


def subject_of(token: str) -> UserId:
    """Whom a token says it is for. Nothing about it has been checked: `check_token` does that.

    Raises:
        Refused: `token_invalid`.
    """
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, RecursionError) as error:  # the latter by releases before it was caught
        raise Refused(Code.TOKEN_INVALID, "this is not a token; get one") from error
    subject = claims.get("sub")
    if not isinstance(subject, str) or not is_user_id(subject):
        raise Refused(Code.TOKEN_INVALID, "the token is not one of this node's; get a new one")
    return subject


def check_token(world: World, command: commands.Hello, row: rows.UserRow | None) -> int:
    """Judge a token against what it is shown for.

    Args:
        row: The account that is claimed; None when there is none.

    Returns:
        Until when it is good, node time in milliseconds, exclusive.

    Raises:
        Refused: `token_invalid`, `token_expired`, `token_revoked`.
    """
    assert command.token is not None
    try:
        claims = _claims_of(command.token, world.secret)
    except (jwt.InvalidTokenError, RecursionError) as error:  # the latter by releases before it was caught
        raise Refused(Code.TOKEN_INVALID, "the token is not one of this node's; get a new one") from error
    if (claims["app"], claims["sub"]) != (command.app, command.user) or not isinstance(claims["exp"], int):
        raise Refused(Code.TOKEN_INVALID, "the token is for somebody else")
    if claims["exp"] * 1000 <= world.now_ms:
        raise Refused(Code.TOKEN_EXPIRED, "the token has expired; get a new one")
    if row is None or claims["epoch"] != row.token_epoch:
        raise Refused(Code.TOKEN_REVOKED, "the token was revoked; get a new one")
    return int(claims["exp"]) * 1000


@lru_cache(maxsize=1024)  # a device shows the same token at every login, and signatures take their time
def _claims_of(token: str, secret: bytes) -> dict[str, Any]:
    """What a token says, its signature checked, and nothing else: claims are judged at every login."""
    claims: dict[str, Any] = jwt.decode(
        token,
        secret,
        algorithms=[TOKEN_ALGORITHM],
        # Node time decides; the library would look at a clock of its own.
        options={
            "verify_exp": False,
            "verify_nbf": False,
            "verify_iat": False,
            "require": ["app", "sub", "epoch", "exp"],
        },
    )
    return claims


def password_checked(world: World, session: Session, outcome: PasswordChecked) -> None:
    """The thread is done with a password."""
    command = outcome.command
    if isinstance(command, commands.ChangePassword):
        if not outcome.good:
            raise Refused(Code.UNAUTHORIZED, "the old password is wrong")
        world.tick.passwords.append(PasswordJob(session, command.new, None, command))
        return
    assert isinstance(command, commands.Hello)
    user = world.user(world.apps[command.app], command.user)
    if not outcome.good or user is None or user.row is None or user.row.removed:
        raise Refused(Code.UNAUTHORIZED, "wrong user or password")
    _log_in(world, session, command, user)


def _log_in(world: World, session: Session, command: commands.Hello, user: User) -> None:
    app = user.app
    device, install_name, queue = command.device, command.install, None
    if session.queued:
        device = install_name = queues.free_slot(user, device)
        queue = queues.begin(world, user, device)
    install = world.install(user, install_name)
    row = user.devices.get(device)
    if row is None or row.removed or is_idle(world, user, row):
        row = None
        _make_room(world, user)
    if install is None:
        install = messages.new_install(world, user, install_name)
    client = command.client[:CLIENT_CHARACTERS_KEPT]
    if row is None or world.now_ms - row.seen_ms > SEEN_EVERY_MS or row.client != client:
        since = row.since_tick if row is not None else world.tick_number
        world.touch_device(
            user,
            rows.DeviceRow(app.id, user.name, device, since, world.now_ms, client, removed=False),
        )
    old = user.online(device)
    if old is not None:  # the device logged in again: what still limps in on the old link is dropped
        part(world, old)
        world.close(old, Code.REPLACED, "this device has logged in on another link")
    session.app, session.user, session.device = app, user, device
    session.install, session.install_name = install, install_name
    session.login_tick = world.tick_number
    session.delivery = command.delivery and app.features.delivery_receipts
    session.client = client
    first = not user.sessions
    if first:
        user.told = False
    user.sessions.append(session)
    if queue is not None:
        session.queue = queue
        queue.known_tick = user.devices[device].since_tick
        user.queued += 1
        world.queued += 1
        queues.open_queue(world, session)
        if first and user.row is not None:
            queue.summary_after = user.row.statistics_tick
    catchup.begin(world, session, command.resume)
    world.answer(
        session,
        Welcome(
            rid=command.rid,
            user=user.name,
            device=session.device,
            prefix=world.prefix,
            full=session.full,
            node_time_ms=world.now_ms,
            heartbeat_ms=world.heartbeat_ms,
            number=install.highest,
            group_receipts=app.features.group_receipts,
        ),
    )
    if first:
        catchup.ask_statistics(world, session)
    catchup.ask_page(world, session)


def _make_room(world: World, user: User) -> None:
    """A new device: one that was away too long makes room, else the limit stands."""
    limits = user.app.limits
    known = [row for row in user.devices.values() if not row.removed]
    idle = [row for row in known if is_idle(world, user, row)]
    if len(known) - len(idle) >= limits.devices_max:
        limit = limits.devices_max
        raise Refused(
            Code.TOO_MANY, f"{limit} devices are logged in; log one out first (`LogOutDevice`)", limit=limit
        )
    if idle:
        forget_devices(world, user, [row.device for row in idle])


def is_idle(world: World, user: User, row: rows.DeviceRow) -> bool:
    """Whether a device was away for so long that it is forgotten; when it comes back it is a new one."""
    away_ms = world.now_ms - row.seen_ms
    return away_ms > user.app.limits.device_idle_ms and user.online(row.device) is None


def link_lost(world: World, session: Session) -> None:
    """The link is gone; what the device is owed waits for its return."""
    part(world, session)
    session.state = "closed"
    session.pushed = False  # there is nobody to hear it
    world.sessions.pop(session, None)


def part(world: World, session: Session) -> None:
    """A session is no longer among its user's: nothing more is pushed to it. What has to be known when the
    device, or the user, comes back is written down."""
    user = session.user
    if user is None or session not in user.sessions:
        return
    user.sessions.remove(session)
    if session.queue is not None:
        user.queued -= 1
        world.queued -= 1
    row = user.devices.get(session.device)
    if row is not None and not row.removed and world.now_ms - row.seen_ms > SEEN_EVERY_MS:
        world.touch_device(user, row._replace(seen_ms=world.now_ms))
    if user.sessions or user.row is None:
        return
    before = world.tick_number - 1  # answers are told at the end of a tick: those of this one will not be
    if user.told and not user.owed and user.row.statistics_tick < before:
        world.touch_user(user, user.row._replace(statistics_tick=before))


# -- devices, passwords, sharing


def list_devices(world: World, session: Session, command: commands.ListDevices) -> None:
    """All of the user's devices that have not been logged out."""
    take(session.user.buckets, "queries", session.app.limits, world.now_ms)
    user = session.user
    items = tuple(
        Device(device=name, seen_ms=world.now_ms if online else row.seen_ms, online=online)
        for name, row, online in [
            (name, row, user.online(name) is not None) for name, row in sorted(user.devices.items())
        ]
        if not row.removed
    )
    world.answer(session, Devices(rid=command.rid, items=items))


def log_out_device(world: World, session: Session, command: commands.LogOutDevice) -> None:
    """Forget a device; logging out the own one ends this session."""
    user = session.user
    row = user.devices.get(command.device)
    if row is None or row.removed:
        raise Refused(Code.UNKNOWN_DEVICE, f"you have no device {command.device!r}")
    forget_devices(world, user, [command.device])
    world.done(session, command.rid)
    gone = user.online(command.device)
    if gone is not None:
        _end(world, user, gone, "this device was logged out")


def forget_devices(world: World, user: User, devices: Sequence[DeviceId]) -> None:
    """Without them, more may count as delivered under the rule 'all'."""
    if user.app.features.roll_up is RollUp.ALL:
        left = [
            (chat, marks.devices_since(world, chat, user)) for chat in world.chats_of(user.app, user.name)
        ]
        for chat, since in left:  # all that is needed is there: now things change
            marks.roll_up(world, chat, user, {name: since[name] for name in since if name not in devices})
    for device in devices:
        world.touch_device(user, user.devices[device]._replace(removed=True))


def _end(world: World, user: User, session: Session, reason: str) -> None:
    part(world, session)
    world.close(session, Code.LOGGED_OUT, reason)


def change_password(world: World, session: Session, command: commands.ChangePassword) -> None:
    """Verified and hashed in a thread; then all earlier tokens are void and other sessions end."""
    take(session.user.buckets, "logins", session.app.limits, world.now_ms)
    check_password(command.new)
    row = session.user.row
    known = row.password_hash if row is not None and row.password_hash else DUMMY_HASH
    world.tick.passwords.append(PasswordJob(session, command.old, known, command))


def check_password(password: str) -> None:
    """Raises:
    Refused: `invalid`, for one that is empty or longer than hashing takes gladly.
    """
    if not 1 <= len(password) <= PASSWORD_CHARACTERS_MAX:
        limit = PASSWORD_CHARACTERS_MAX
        raise Refused(Code.INVALID, f"a password has 1 to {limit} characters", limit=limit)


PASSWORD_CHARACTERS_MAX = 256


def password_hashed(world: World, session: Session, outcome: PasswordHashed) -> None:
    """The thread has made a hash."""
    user = world.account(session.app, session.user.name)
    assert outcome.hash is not None
    new_password(world, user, outcome.hash, but=session)
    world.done(session, outcome.command.rid)


ACCOUNT_REMOVED = "this account was removed"
PASSWORD_CHANGED = "the password was changed"
"""Why sessions end, for clients that tell their users in words of their own."""


def new_password(world: World, user: User, password_hash: str, but: Session | None = None) -> None:
    """Set it; tokens and sessions of before are void."""
    assert user.row is not None
    row = user.row._replace(password_hash=password_hash, token_epoch=user.row.token_epoch + 1)
    world.touch_user(user, row)
    for session in list(user.sessions):
        if session is not but:
            _end(world, user, session, PASSWORD_CHANGED)


def revoke_tokens(world: World, user: User, reason: str = "the tokens of this user were revoked") -> None:
    """All tokens given up to now are void; sessions end."""
    assert user.row is not None
    world.touch_user(user, user.row._replace(token_epoch=user.row.token_epoch + 1))
    for session in list(user.sessions):
        _end(world, user, session, reason)


def set_sharing(world: World, session: Session, command: commands.SetSharing) -> None:
    """In one conversation, or in all and in those to come."""
    user, app = session.user, session.app
    if command.conversation is not None:
        chats = [world.chat(session, command.conversation)]
    else:
        chats = world.chats_of(app, user.name)
    take(user.buckets, "changes", app.limits, world.now_ms)
    for chat in chats:
        event = decide.share(
            chat.conversation,
            user.name,
            version=world.next_version(),
            delivered=command.delivered,
            read=command.read,
        )
        if event is not None:
            chat.conversation.apply(event)
            world.touch_member(chat, user.name, False)
            world.tell(app, (user.name,), event)
    if command.conversation is None and user.row is not None:
        delivered = user.row.share_delivered if command.delivered is None else command.delivered
        read = user.row.share_read if command.read is None else command.read
        world.touch_user(user, user.row._replace(share_delivered=delivered, share_read=read))
    world.done(session, command.rid)
