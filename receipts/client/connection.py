"""What an application uses: a device that is logged in, stays connected and knows its conversations.

Thin and async: it opens links, carries frames between them and the pure `session`, saves what must outlive
the process, and hands news and answers to who waits for them. What any of it means is decided in `session`,
`replica`, `outbox` and `reading`.
"""

from __future__ import annotations

import inspect
import logging
import math
import random
import ssl
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, TypeVar, cast

import anyio
import anyio.abc

import transports
from receipts.core.errors import LocalProtocolError, ReceiptsError, Refused
from receipts.core.events import Body, MessageAccepted, Role
from receipts.core.ids import ConversationId, Counts, DeviceId, Seq, UserId
from receipts.core.status import Status
from receipts.wire import commands
from receipts.wire.commands import Command
from receipts.wire.limits import FRAME_BYTES_MAX
from receipts.wire.updates import (
    Accepted,
    Answer,
    Badge,
    Conversations,
    Device,
    Devices,
    Done,
    Explained,
    History,
    Members,
    Reader,
    Readers,
    Rejected,
    Statuses,
    Summary,
)

from .disk import Disk, DiskFailed, rows_of
from .news import Lagged, MarkRefused, News
from .outbox import Outbox
from .reading import ReadingPolicy
from .replica import MESSAGES_MAX, Replica
from .session import COALESCE_MS, Changes, Profile, Session, State

__all__ = ["CLOSE_SECONDS", "UPDATES_MAX", "Connection", "ConnectionLost", "Token", "connect"]

UPDATES_MAX = 10_000
"""Updates that wait for the application; beyond, the oldest are dropped and `Lagged` says so. The replica
has them all."""

CLOSE_SECONDS = 2.0
"""How long leaving waits for the last frames to go out."""

_FRAME_BYTES_MAX = FRAME_BYTES_MAX
_BODY_ROOM_BYTES = 1024  # of a frame, for everything around a body

Token: TypeAlias = str | Callable[[], str] | Callable[[], Awaitable[str]]
"""A token, or a function that gives a fresh one for each login."""

_T = TypeVar("_T")
_A = TypeVar("_A")

_log = logging.getLogger("receipts.client")


class ConnectionLost(ReceiptsError):
    """The first login did not come about, or the connection was closed while somebody waited for it."""


class _Waiter:
    """Somebody waits for an answer."""

    __slots__ = ("answer", "error", "event")

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.answer: Answer | None = None
        self.error: Exception | None = None


def connect(
    url: str,
    *,
    user: UserId,
    device: DeviceId,
    password: str | None = None,
    token: Token | None = None,
    app: str = "default",
    delivery: bool = True,
    share_delivered: bool = True,
    share_read: bool = True,
    path: Path | str | None = None,
    reading: ReadingPolicy | None = None,
    wait: bool = True,
    connect_timeout: float = 15.0,
    coalesce_ms: int = COALESCE_MS,
    messages_max: int = MESSAGES_MAX,
    updates_max: int = UPDATES_MAX,
    text: bool = False,
    client: str = "receipts-python",
    ssl_context: ssl.SSLContext | None = None,
) -> Connection:
    """Log a device in for the length of an `async with` block, and stay connected in it.

    Lost links are opened again by themselves, with growing pauses; messages and receipts wait in the outbox
    meanwhile and go out exactly once.

    Args:
        url: Of the node; the schemes are those of `transports.connect`.
        user: Who logs in.
        device: Which of the user's devices this is: 1 to 64 printable characters, the same each time.
        password, token: One of the two.
        app: The tenant.
        delivery: Whether to be told of deliveries of own messages.
        share_delivered, share_read: False: this device never lets others know. What the user decided for
            all devices (`Connection.set_sharing`) holds as well; the stricter of the two counts.
        path: A file in which replica and outbox outlive the process; without, they live as long as the block.
        reading: When an open chat sends which receipts.
        wait: Whether entering waits until the device is logged in and has caught up. Without, it works
            offline on what is in the file.
        connect_timeout: Seconds for opening one link, and for the waiting of `wait`.
        coalesce_ms: How long receipts wait for others to go out in the same frame.
        messages_max: Messages with bodies kept per conversation, the newest.
        updates_max: Updates that may wait for the application.
        text: Whether to speak JSON instead of msgpack.
        client: Name and version of the program, for the node's log.
        ssl_context: For ``tls:`` and ``wss:``.

    Returns:
        To be entered with `async with`. Entering raises `Refused` if the node does not let this device in,
        `OSError` if the first link cannot be opened, `TimeoutError`, and `DiskFailed`.

    Raises:
        ValueError: Both of password and token, or none of them.
    """
    if (password is None) == (token is None):
        raise ValueError("pass either password or token")
    profile = Profile(
        user=user,
        device=device,
        app=app,
        delivery=delivery,
        share_delivered=share_delivered,
        share_read=share_read,
        coalesce_ms=coalesce_ms,
        client=client,
        text=text,
    )
    return Connection(
        url,
        profile,
        password=password,
        token=token,
        disk=Disk(Path(path), messages_max=messages_max) if path is not None else None,
        reading=reading,
        wait=wait,
        connect_timeout=connect_timeout,
        messages_max=messages_max,
        updates_max=updates_max,
        ssl_context=ssl_context,
    )


class Connection:
    """A device of a user. Made by `connect`; all methods belong inside its `async with` block.

    Where a method takes a conversation, the user id of a peer stands for the conversation with them.
    Methods that wait for the node raise `Refused` for what it refused. They go on waiting across lost links;
    limit them with `anyio.fail_after`.
    """

    def __init__(
        self,
        url: str,
        profile: Profile,
        *,
        password: str | None,
        token: Token | None,
        disk: Disk | None,
        reading: ReadingPolicy | None,
        wait: bool,
        connect_timeout: float,
        messages_max: int,
        updates_max: int,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self._url = url
        self._profile = profile
        self._password = password
        self._token = token
        self._disk = disk
        self._reading = reading
        self._wait = wait
        self._connect_timeout = connect_timeout
        self._messages_max = messages_max
        self._ssl_context = ssl_context
        self._session = self._make_session(uuid.uuid4().hex)
        self._link: transports.Link | None = None
        self._tasks: anyio.abc.TaskGroup | None = None
        self._waiters: dict[int, _Waiter] = {}
        self._updates: deque[News] = deque()
        self._updates_max = updates_max
        self._lagged = 0
        self._handlers: list[tuple[type, Callable[[Any], Any]]] = []
        self._refused_mark: MarkRefused | None = None  # since the last `flush`
        self._saving = anyio.Lock()
        self._wake = anyio.Event()
        self._changed = anyio.Event()
        self._failure: Exception | None = None
        self._closing = False

    def _make_session(self, install: str) -> Session:
        profile = self._profile
        return Session(
            profile,
            Replica(profile.user, profile.device, messages_max=self._messages_max),
            Outbox(install),
            policy=self._reading,
            chance=random.random,
            saving=self._disk is not None,
        )

    # -- the block ------------------------------------------------------------------------------------

    async def __aenter__(self) -> Connection:
        if self._tasks is not None:
            raise LocalProtocolError("a connection is entered once")
        if self._disk is not None:
            await anyio.to_thread.run_sync(self._load, self._disk)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._guard, self._run)
        self._tasks.start_soon(self._guard, self._write)
        if self._wait:
            try:
                with anyio.fail_after(self._connect_timeout):
                    await self._until_live()
            except BaseException:
                await self._leave()
                raise
        return self

    def _load(self, disk: Disk) -> None:
        profile, session = self._profile, self._session
        saved = disk.open(
            user=profile.user, device=profile.device, app=profile.app, install=session.outbox.install
        )
        session.outbox.install = saved.install
        session.outbox.number = saved.number
        session.replica.token = saved.token
        session.replica.restore(saved.parts, saved.messages)
        session.outbox.restore(saved.sends, saved.marks)

    async def _until_live(self) -> None:
        while self._session.state is not State.LIVE:
            self._check()
            await self._changed.wait()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._leave()

    async def _leave(self) -> None:
        """Send what is due, save, close. What goes wrong in the block is not wrapped in a group."""
        assert self._tasks is not None
        self._closing = True
        try:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._last_words()
            self._tasks.cancel_scope.cancel()
            await self._tasks.__aexit__(None, None, None)
        finally:
            self._fail_waiters(ConnectionLost("the connection was closed"))
            if self._disk is not None:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._disk.close)

    async def _last_words(self) -> None:
        session, link = self._session, self._link
        if session.state is State.LIVE and not session.flushed:
            session.flush(_now_ms())
        await self._save_and_send()
        session.close()
        if link is not None and link is self._link:
            link.close()
            await link.wait_closed()

    # -- the link ---------------------------------------------------------------------------------------

    async def _guard(self, task: Callable[[], Awaitable[None]]) -> None:
        """A mistake of ours is said to everybody who waits, instead of leaving them waiting."""
        try:
            await task()
        except Exception as error:
            _log.exception("the client of %s stopped", self._profile.user)
            self._fail(error)

    async def _run(self) -> None:
        while self._session.state is not State.CLOSED:
            await self._pause()
            await self._attempt()
        if self._session.error is not None:
            self._fail(self._session.error)

    async def _pause(self) -> None:
        at = self._session.reconnect_at
        if at is not None and at > (now := _now_ms()):
            await anyio.sleep((at - now) / 1000)

    async def _attempt(self) -> None:
        session = self._session
        reason = "the node closed the link"
        try:
            token = await self._login_token()
            with anyio.CancelScope(deadline=anyio.current_time() + self._connect_timeout) as opening:
                async with transports.connect(
                    self._url, ssl_context=self._ssl_context, frame_bytes_max=_FRAME_BYTES_MAX
                ) as link:
                    opening.deadline = math.inf
                    session.link_opened(_now_ms(), password=self._password, token=token)
                    self._link = link
                    await self._talk(link)
            if opening.cancelled_caught:
                reason = f"{self._url} did not answer within {self._connect_timeout} s"
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
            reason = f"{self._url}: {error}"
            if self._wait and session.welcome is None:  # somebody waits to hear just that
                self._fail(error)
        finally:
            self._link = None
        session.link_lost(_now_ms(), reason)
        self._hand_out()
        self._wake.set()

    async def _login_token(self) -> str | None:
        if self._token is None or isinstance(self._token, str):
            return self._token
        made = self._token()
        return await made if inspect.isawaitable(made) else made

    async def _talk(self, link: transports.Link) -> None:
        """Take in what the node sends until the link ends."""
        session = self._session
        try:
            self._push(link)
            while session.state is not State.CLOSED and session.broken is None:
                frames = await link.receive()
                session.receive_frames(frames, _now_ms())
                self._hand_out()
                self._push(link)
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            pass
        if session.broken is not None:
            link.abort()

    def _push(self, link: transports.Link) -> None:
        """Send what is due: at once, or after the writer has saved what it promises."""
        if self._disk is None:
            frames = self._session.take_frames(_now_ms())
            if frames:
                link.send(frames)
        self._wake.set()

    async def _write(self) -> None:
        """Save what has to outlive the process, and send what was promised by that or is due by now."""
        session = self._session
        while True:
            self._wake = anyio.Event()
            session.timer(_now_ms())
            if session.broken is not None and self._link is not None:
                self._link.abort()
            await self._save_and_send()
            await self._sleep_until(session.wake_at)

    async def _sleep_until(self, at: int | None) -> None:
        if at is None:
            await self._wake.wait()
            return
        with anyio.move_on_after(max(0, at - _now_ms()) / 1000):
            await self._wake.wait()

    async def _save_and_send(self) -> None:
        """Send what is due, once what it promises is on disk."""
        async with self._saving:
            # From here to `take_frames` nothing may wait: these are the frames of this link.
            link = self._link
            changes = self._session.take_changes() if self._disk is not None else None
            frames = self._session.take_frames(_now_ms())
            if changes is not None and not await self._commit(changes):
                return
            if frames and link is not None and link is self._link:  # else that link is gone, and they with it
                try:
                    link.send(frames)
                except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                    pass  # the receiving task finds out too

    async def _commit(self, changes: Changes) -> bool:
        assert self._disk is not None
        rows = rows_of(changes)
        try:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._disk.commit, rows)
        except DiskFailed as error:
            self._fail(error)
            if self._link is not None:
                self._link.abort()
            return False
        return True

    # -- handing out --------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        for rid, answer in self._session.take_outcomes():
            waiter = self._waiters.pop(rid, None)
            if waiter is not None:
                waiter.answer = answer
                waiter.event.set()
        for update in self._session.take_news():
            if isinstance(update, MarkRefused):
                self._refused_mark = update
            if len(self._updates) >= self._updates_max:
                self._updates.popleft()
                self._lagged += 1
            self._updates.append(update)
            for kind, handler in self._handlers:
                if isinstance(update, kind):
                    self._handle(handler, update)
        self._tell_changed()

    def _tell_changed(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def _handle(self, handler: Callable[[Any], Any], update: News) -> None:
        try:
            made = handler(update)
        except Exception:
            _log.exception("a handler of %s failed", type(update).__name__)
            return
        if inspect.isawaitable(made) and self._tasks is not None:
            self._tasks.start_soon(self._handle_later, made, update)

    async def _handle_later(self, made: Awaitable[Any], update: News) -> None:
        try:
            await made
        except Exception:
            _log.exception("a handler of %s failed", type(update).__name__)

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._session.close()
        self._fail_waiters(error)
        self._tell_changed()

    def _fail_waiters(self, error: Exception) -> None:
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters.values():
            waiter.error = error
            waiter.event.set()
        self._tell_changed()

    def _check(self) -> None:
        """Raise what ended the connection, in a fresh copy where we can make one."""
        error = self._failure
        if isinstance(error, Refused):
            raise Refused(error.code, error.reason)
        if error is not None:
            raise error
        if self._tasks is None:
            raise LocalProtocolError("a connection works inside its `async with` block")
        if self._closing:
            raise LocalProtocolError("this connection is closed")

    def _go(self) -> None:
        """A wish was noted: let it out."""
        link = self._link
        if link is not None and self._disk is None:
            try:
                self._push(link)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                pass  # the receiving side finds out too, and what was not sent is kept
        self._wake.set()

    async def _answer(self, rid: int) -> Answer:
        waiter = self._waiters[rid] = _Waiter()
        self._go()
        try:
            await waiter.event.wait()
        finally:
            if self._waiters.pop(rid, None) is not None:
                self._session.forget(rid)
        if waiter.error is not None:
            self._check()
            raise waiter.error
        answer = waiter.answer
        assert answer is not None
        if isinstance(answer, Rejected):
            raise Refused(
                answer.code, answer.reason, retry_after_ms=answer.retry_after_ms, limit=answer.limit
            )
        return answer

    async def _ask(self, make: Callable[[int], Command], kind: type[_A]) -> _A:
        self._check()
        answer = await self._answer(self._session.ask(make))
        if not isinstance(answer, kind):
            raise ReceiptsError(f"the node answered with {type(answer).__name__} instead of {kind.__name__}")
        return answer

    # -- state -----------------------------------------------------------------------------------------

    @property
    def user(self) -> UserId:
        """Who is logged in."""
        return self._profile.user

    @property
    def device(self) -> DeviceId:
        """Which device this is."""
        return self._profile.device

    @property
    def online(self) -> bool:
        """Whether the link stands and the replica has caught up."""
        return self._session.state is State.LIVE

    @property
    def session(self) -> Session:
        """The pure half, with `replica` and `outbox`; to be read."""
        return self._session

    def conversation(self, name: str) -> ConversationId:
        """The conversation that a name stands for: its id, a group known here, or a peer's user id."""
        return self._session.replica.resolve(name)

    def unread(self, conversation: str) -> int:
        """How many messages wait unread; what was read here counts as read at once."""
        return self._session.unread(self.conversation(conversation))

    def unread_seqs(self, conversation: str) -> list[Seq]:
        """The seqs behind `unread`, rising."""
        return self._session.unread_seqs(self.conversation(conversation))

    def marked_unread(self, conversation: str) -> bool:
        """Whether the conversation is marked as unread."""
        return self._session.marked_unread(self.conversation(conversation))

    def badge(self) -> Badge:
        """Unread over all conversations as this device knows them, muted ones apart."""
        return self._session.badge()

    def conversations(self) -> tuple[Summary, ...]:
        """The conversations the user is in, the one with the latest message first."""
        return self._session.conversations()

    def messages(self, conversation: str, *, before: Seq = 0, limit: int = 50) -> list[MessageAccepted]:
        """The newest messages kept here, rising; `before` is exclusive, 0 begins at the newest."""
        return self._session.replica.messages(self.conversation(conversation), before, limit)

    def status(self, conversation: str, seq: Seq, member: UserId | None = None) -> Status:
        """How far a message is known to have come with a member.

        Args:
            member: The peer when left out; in a group then the least of the audience.
        """
        return self._session.status(self.conversation(conversation), seq, member)

    def known_readers(self, conversation: str, seq: Seq) -> tuple[Reader, ...]:
        """Who is known here to have answered a message that asked, the first one first."""
        return self._session.readers(self.conversation(conversation), seq)

    # -- news ------------------------------------------------------------------------------------------

    async def updates(self) -> AsyncIterator[News]:
        """What happens, from the moment the connection was made, each update once.

        Updates wait here up to `updates_max`; then the oldest are dropped and `Lagged` says how many. Ends
        when the connection is closed; raises what ended it for good.
        """
        while True:
            if self._lagged:
                count, self._lagged = self._lagged, 0
                yield Lagged(count=count)
            elif self._updates:
                yield self._updates.popleft()
            elif self._closing:
                return
            else:
                self._check()
                await self._changed.wait()

    def on(self, kind: type[_T], handler: Callable[[_T], Any]) -> None:
        """Call `handler` with every update of a type, from now on, beside `updates`.

        A plain function is called in the order of updates and must not block; an async one runs in a task
        of its own. What it raises is logged and stops nothing.
        """
        self._handlers.append((kind, handler))

    async def until(self, condition: Callable[[], _T]) -> _T:
        """Wait until something holds that only news can change, such as ``lambda: me.unread("bob") == 0``.

        Returns:
            The first true value of `condition`, which is called now and after each batch of updates.
        """
        while True:
            found = condition()
            if found:
                return found
            self._check()
            await self._changed.wait()

    # -- messages --------------------------------------------------------------------------------------

    async def send(
        self,
        to: UserId | None = None,
        body: Body = "",
        *,
        conversation: ConversationId | None = None,
        asks: bool = False,
        counts: bool = True,
    ) -> Accepted:
        """Send a message and wait until the node has it on disk.

        It goes out exactly once, however often the link is lost. Being cancelled stops the waiting, not the
        message.

        Args:
            to: A peer, or a group known here; or pass `conversation`.
            body: Text or bytes, never looked at.
            asks: In a group: ask the members for read receipts.
            counts: Whether it raises the unread counts of others.

        Raises:
            Refused: The node refused it; it is not kept. With `retry_after_ms` it may be sent again then.
            LocalProtocolError: Both or none of `to` and `conversation`, or a body that fits no frame.
        """
        self._check()
        if (to is None) == (conversation is None):
            raise LocalProtocolError("pass either a peer or a conversation")
        if to is not None:
            conversation = self.conversation(to)
        size = len(body.encode()) if isinstance(body, str) else len(body)
        if size > _FRAME_BYTES_MAX - _BODY_ROOM_BYTES:
            raise LocalProtocolError(f"a body of {size} bytes fits no frame; attachments travel by link")
        assert conversation is not None
        kind = Counts.YES if counts else Counts.SILENT
        pending = self._session.send(conversation, body, counts=kind, asks=asks)
        return cast(Accepted, await self._answer(pending.rid))

    async def recall(self, conversation: str, seq: Seq) -> None:
        """Take a message back."""
        name = self.conversation(conversation)
        await self._ask(lambda rid: commands.RecallMessage(rid=rid, conversation=name, seq=seq), Done)

    async def clear(self, conversation: str, through: Seq | None = None) -> None:
        """Empty the conversation for this user alone, up to and including `through` (the newest one here).

        What this device has not heard of is not emptied, whatever `through` says.
        """
        name = self.conversation(conversation)
        replica = self._session.replica
        last = replica.last(name) if through is None else min(through, replica.chat(name).head)
        await self._ask(
            lambda rid: commands.ClearConversation(rid=rid, conversation=name, through=last), Done
        )

    async def fetch_history(self, conversation: str, *, before: Seq = 0, limit: int = 50) -> History:
        """Older messages from the node, rising; `before` is exclusive, 0 begins at the head."""
        name = self.conversation(conversation)
        return await self._ask(
            lambda rid: commands.FetchHistory(rid=rid, conversation=name, before=before, limit=limit),
            History,
        )

    # -- receipts --------------------------------------------------------------------------------------

    async def read(self, conversation: str, through: Seq | None = None) -> None:
        """Everything up to and including `through` was on screen (the newest message here when left out).

        Counts here at once; the receipt goes out shortly, with others (`flush` waits for it).

        Raises:
            LocalProtocolError: `through` is a message that this device has not seen.
        """
        self._check()
        self._session.read(self.conversation(conversation), through, _now_ms())
        self._noted()

    async def read_messages(self, conversation: str, seqs: Iterable[Seq], content: str | None = None) -> None:
        """These messages were read; those that asked are answered, with `content` if there is any.

        Counts here at once; the receipt goes out shortly, with others (`flush` waits for it).

        Raises:
            LocalProtocolError: One of them is a message that this device has not seen.
            Refused: `not_asked`, `own_message`: there is `content` for a message that cannot have any.
        """
        self._check()
        self._session.read_messages(self.conversation(conversation), seqs, content, _now_ms())
        self._noted()

    def open_chat(self, conversation: str, content: str | None = None) -> None:
        """The conversation is on screen from now on; the reading policy sends the receipts.

        Args:
            content: Words to answer with where messages ask.
        """
        self._check()
        self._session.open_chat(self.conversation(conversation), _now_ms(), content)
        self._noted()

    def close_chat(self, conversation: str) -> None:
        """The conversation is no longer on screen."""
        self._session.close_chat(self.conversation(conversation))

    def _noted(self) -> None:
        self._go()
        self._tell_changed()

    async def flush(self) -> None:
        """Send receipts now, and wait until the node has all of them.

        Raises:
            Refused: Since the last time the node has refused one for good; the others went through.
        """
        self._check()
        while not self._session.flushed:
            self._session.flush(_now_ms())
            self._go()
            await self._changed.wait()
            self._check()
        refused, self._refused_mark = self._refused_mark, None
        if refused is not None:
            raise Refused(refused.code, refused.reason)

    async def mark_unread(self, conversation: str, *, from_seq: Seq | None = None) -> None:
        """Count the conversation as unread again: by a flag, or from a message on (inclusive)."""
        name = self.conversation(conversation)
        await self._ask(lambda rid: commands.MarkUnread(rid=rid, conversation=name, from_seq=from_seq), Done)

    async def set_sharing(
        self,
        *,
        delivered: bool | None = None,
        read: bool | None = None,
        conversation: str | None = None,
    ) -> None:
        """Let others know of deliveries and reads, or not, on all devices; None leaves a switch as it is."""
        name = self.conversation(conversation) if conversation is not None else None
        await self._ask(
            lambda rid: commands.SetSharing(rid=rid, delivered=delivered, read=read, conversation=name),
            Done,
        )

    async def mute(self, conversation: str, muted: bool = True) -> None:
        """Badge a conversation apart, or no longer."""
        name = self.conversation(conversation)
        await self._ask(lambda rid: commands.SetMuted(rid=rid, conversation=name, muted=muted), Done)

    # -- groups ----------------------------------------------------------------------------------------

    async def create_group(
        self,
        name: str,
        members: Iterable[UserId] = (),
        *,
        description: str = "",
        conversation: ConversationId | None = None,
    ) -> ConversationId:
        """Open a group, with this user as its owner.

        Args:
            conversation: An id of your own choice; made when left out.

        Returns:
            Its id.
        """
        self._check()
        outbox = self._session.outbox
        # Upper case, so that no user can have this name.
        group = conversation or f"G-{outbox.install}-{outbox.next_number()}"
        users = tuple(members)
        await self._ask(
            lambda rid: commands.CreateGroup(
                rid=rid, conversation=group, name=name, members=users, description=description
            ),
            Done,
        )
        return group

    async def add_members(self, conversation: str, users: Iterable[UserId]) -> None:
        """Let users in, from the next message on."""
        named = tuple(users)
        await self._ask(
            lambda rid: commands.AddMembers(rid=rid, conversation=conversation, users=named), Done
        )

    async def remove_members(self, conversation: str, users: Iterable[UserId]) -> None:
        """Put users out of a group."""
        named = tuple(users)
        await self._ask(
            lambda rid: commands.RemoveMembers(rid=rid, conversation=conversation, users=named), Done
        )

    async def leave(self, conversation: str) -> None:
        """Leave a group."""
        await self.remove_members(conversation, [self.user])

    async def set_role(self, conversation: str, user: UserId, role: Role) -> None:
        """Make a member admin or plain member; `Role.OWNER` hands the group over."""
        await self._ask(
            lambda rid: commands.SetRole(rid=rid, conversation=conversation, user=user, role=role),
            Done,
        )

    async def rename(
        self, conversation: str, name: str | None = None, *, description: str | None = None
    ) -> None:
        """Change a group's name or description; None leaves one as it is."""
        await self._ask(
            lambda rid: commands.ChangeGroup(
                rid=rid, conversation=conversation, name=name, description=description
            ),
            Done,
        )

    async def dissolve(self, conversation: str) -> None:
        """End a group for everybody."""
        await self._ask(lambda rid: commands.DissolveGroup(rid=rid, conversation=conversation), Done)

    # -- questions -------------------------------------------------------------------------------------

    async def readers(self, conversation: str, seq: Seq, *, after: UserId = "", limit: int = 200) -> Readers:
        """Who has read a message that asked, when, with what words, and who has not: a page, by name."""
        name = self.conversation(conversation)
        return await self._ask(
            lambda rid: commands.ListReaders(rid=rid, conversation=name, seq=seq, after=after, limit=limit),
            Readers,
        )

    async def ask_status(self, conversation: str, seqs: Iterable[Seq]) -> Statuses:
        """How far messages came, member by member, as the node knows it, or why it does not."""
        name = self.conversation(conversation)
        named = tuple(seqs)
        return await self._ask(
            lambda rid: commands.GetStatus(rid=rid, conversation=name, seqs=named), Statuses
        )

    async def explain(self, conversation: str, *, after: Seq = 0, limit: int = 100) -> Explained:
        """The messages behind the node's unread count: a page."""
        name = self.conversation(conversation)
        return await self._ask(
            lambda rid: commands.ExplainUnread(rid=rid, conversation=name, after=after, limit=limit),
            Explained,
        )

    async def list_conversations(self, *, cursor: str = "", limit: int = 20) -> Conversations:
        """The node's conversation list with its counts: a page, the latest first."""
        return await self._ask(
            lambda rid: commands.ListConversations(rid=rid, cursor=cursor, limit=limit),
            Conversations,
        )

    async def members(self, conversation: str, *, after: UserId = "", limit: int = 100) -> Members:
        """A group and its current members: a page, by name."""
        return await self._ask(
            lambda rid: commands.ListMembers(rid=rid, conversation=conversation, after=after, limit=limit),
            Members,
        )

    async def server_badge(self) -> Badge:
        """Unread over all conversations as the node counts."""
        return await self._ask(lambda rid: commands.GetBadge(rid=rid), Badge)

    async def devices(self) -> tuple[Device, ...]:
        """The user's devices, by name."""
        found = await self._ask(lambda rid: commands.ListDevices(rid=rid), Devices)
        return found.items

    async def log_out(self, device: DeviceId) -> None:
        """Forget a device of this user; its session ends."""
        await self._ask(lambda rid: commands.LogOutDevice(rid=rid, device=device), Done)

    async def change_password(self, old: str, new: str) -> None:
        """Tokens given before become void; other sessions are ended.

        Raises:
            Refused: Also when the link is cut before the answer: it may have been changed or not.
        """
        await self._ask(lambda rid: commands.ChangePassword(rid=rid, old=old, new=new), Done)
        if self._password is not None:
            self._password = new


def _now_ms() -> int:
    return int(anyio.current_time() * 1000)
