"""One device: the real client session with its replica and outbox, on a simulated link and disk.

This stands where `receipts.client.connection` stands: it opens links, carries frames, saves what has to
outlive the process before it sends what promises that, and does what a user does (`ACTS`). When a link is
cut, frames arrive or time passes is the world's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from receipts.client.outbox import Outbox
from receipts.client.session import Changes, Profile, Session, State
from receipts.core.errors import Code, LocalProtocolError
from receipts.core.events import Role
from receipts.core.ids import Counts
from receipts.wire import commands
from receipts.wire.codec import Frame

from .cast import DeviceCast
from .checks import Watched
from .disk import DeviceDisk
from .link import Link

__all__ = ["ACTS", "SimulatedDevice", "password_of"]

_CLOSED_BY_NODE = tuple(f"({code.value})" for code in Code)
_TIMED_OUT = ("no answer to the login", "the node does not answer")


class SimulatedDevice:
    """A device, on or off.

    Args:
        cast: Who it is.
        label: What it is called in steps.
        clock: True time in ms.
    """

    def __init__(self, cast: DeviceCast, label: str, clock: Callable[[], int]) -> None:
        self.cast = cast
        self.label = label
        self._clock = clock
        self._offset_ms = cast.offset_ms
        self.link: Link | None = None
        self.frozen = False
        """Whether a partition keeps it from the node."""
        self.running = False
        self.lives = 0
        """How often its process was started."""
        self.installs = 0
        self.sent = 0
        self.disk: DeviceDisk | None = None
        self.writing: tuple[Changes, list[Frame], Link | None] | None = None
        """What the disk is about to write, and the frames that promise it."""
        self.password = password_of(cast.user)
        self.on_frames: Callable[[SimulatedDevice, Link, list[Frame]], None] = _send
        """Puts frames on a link."""
        self.session: Session = None  # type: ignore[assignment]  # `start` comes first

    # -- the process

    def start(self) -> None:
        """A new process, with what the disk has."""
        self.running = True
        self.lives += 1
        cast = self.cast
        if cast.storage and self.disk is None:
            self.disk = DeviceDisk(self._new_install())
        profile = Profile(
            user=cast.user,
            device=cast.name,
            app=cast.app,
            delivery=cast.delivery,
            share_delivered=cast.share_delivered,
            share_read=cast.share_read,
            coalesce_ms=cast.coalesce_ms,
            client="simulated",
            text=cast.text,
        )
        saved = self.disk.read() if self.disk is not None else None
        outbox = Outbox(saved.install if saved is not None else self._new_install())
        replica = Watched(cast.user, cast.name, messages_max=cast.messages_max)
        if saved is not None:
            outbox.number = saved.number
            replica.token = saved.token
            replica.restore(saved.parts, saved.messages)
        self.session = Session(profile, replica, outbox, saving=self.disk is not None)
        if saved is not None:
            outbox.restore(saved.sends, saved.marks)
        self.session.reconnect_at = self.now_ms

    def _new_install(self) -> str:
        self.installs += 1
        return f"{self.label}:{self.installs}"

    def crash(self, storage: str) -> None:
        """The process is gone; `storage` is `keep` or `lose`."""
        self.running = False
        self.writing = None
        if storage == "lose":
            self.disk = None

    @property
    def now_ms(self) -> int:
        """Its own clock, which never goes back."""
        return self._clock() + self._offset_ms

    def jump(self, ms: int) -> None:
        """Its clock jumps; backwards it does not."""
        self._offset_ms += max(ms, 0)

    # -- the link

    @property
    def wants_link(self) -> bool:
        """Whether it is time to connect."""
        at = self.session.reconnect_at
        return self.running and self.link is None and at is not None and at <= self.now_ms

    def connected(self, link: Link, *, token: str | None) -> None:
        """A link stands; without a token it logs in with the password."""
        password = self.password if token is None else None
        self.link = link
        self.session.link_opened(self.now_ms, password=password, token=token)
        self.pump()

    def lost(self) -> None:
        """The link is gone, or none could be opened."""
        self.link = None
        self.session.link_lost(self.now_ms)

    def receive(self, frames: list[Frame]) -> None:
        """Frames have arrived; `pump` comes next."""
        self.session.receive_frames(frames, self.now_ms)

    @property
    def complaint(self) -> str | None:
        """What the session takes for a breach of the protocol, if anything."""
        broken = self.session.broken
        if broken is None or broken in _TIMED_OUT or broken.endswith(_CLOSED_BY_NODE):
            return None
        return broken

    @property
    def gives_up(self) -> bool:
        """Whether the session wants no more of this link."""
        return self.link is not None and (
            self.session.broken is not None or self.session.state is State.CLOSED
        )

    def timer(self) -> None:
        """Time has passed on a link that stands."""
        now_ms = self.now_ms
        wake_at = self.session.wake_at
        if wake_at is not None and wake_at <= now_ms:
            self.session.timer(now_ms)
            if self.session.broken is None:
                self.pump()

    def pump(self) -> None:
        """Send what is due: at once, or when the disk has written what it promises. Nobody here waits for
        answers or news."""
        session = self.session
        session.take_news()
        session.take_outcomes()
        if self.disk is None:
            frames = session.take_frames(self.now_ms)
            if frames and self.link is not None:
                self.on_frames(self, self.link, frames)
        elif self.writing is None:
            changes = session.take_changes()
            frames = session.take_frames(self.now_ms)
            if changes is not None:
                self.writing = (changes, frames, self.link)
            elif frames and self.link is not None:
                self.on_frames(self, self.link, frames)

    def save(self) -> bool:
        """The disk has written. Returns whether there was anything to write."""
        if self.writing is None or self.disk is None:
            return False
        (changes, frames, link), self.writing = self.writing, None
        self.disk.commit(changes)
        if frames and link is not None and link is self.link:  # else that link is gone, and they with it
            self.on_frames(self, link, frames)
        self.pump()
        return True

    # -- the user

    def act(self, operation: str, arguments: tuple[Any, ...]) -> bool:
        """Do what a user does; `pump` comes next. Returns False when the client says that it cannot be."""
        try:
            ACTS[operation](self, *arguments)
        except LocalProtocolError:  # `Refused` is one
            return False
        return True

    @property
    def rests(self) -> bool:
        """Whether it is logged in, and everything is said, answered and saved. On a link that only it
        believes in it has yet to find out."""
        if self.link is None or self.link.session is None:
            return False
        session = self.session
        outbox = session.outbox
        waits = outbox.sends or outbox.asks or outbox.marked() or self.writing
        return session.state is State.LIVE and not waits


def password_of(user: str) -> str:
    """What a user's password is in a world."""
    return f"password of {user}"


def _send(device: SimulatedDevice, link: Link, frames: list[Frame]) -> None:
    link.send_up(frames)


# -- what a user does


def _say(device: SimulatedDevice, to: str, counts: int, asks: bool, patient: bool) -> None:
    device.sent += 1
    body = f"{device.label} {device.sent}"
    pending = device.session.send(to, body, counts=Counts(counts), asks=asks)
    if patient:  # nobody waits for the answer, so a refusal for now is tried again by the client
        device.session.forget(pending.rid)


def _read(device: SimulatedDevice, chat: str, last: int) -> None:
    device.session.read(chat, last or None, device.now_ms)


def _name(device: SimulatedDevice, chat: str, seqs: tuple[int, ...], content: str | None) -> None:
    device.session.read_messages(chat, seqs, content, device.now_ms)


def _open(device: SimulatedDevice, chat: str, content: str | None) -> None:
    device.session.open_chat(chat, device.now_ms, content)


def _clear(device: SimulatedDevice, chat: str, last: int) -> None:
    replica = device.session.replica
    seq = min(last, replica.chat(chat).head) if last else replica.last(chat)
    device.session.ask(lambda rid: commands.ClearConversation(rid=rid, conversation=chat, through=seq))


def _asking(make: Callable[..., commands.Command]) -> Callable[..., None]:
    """An act that is one command, made of (rid, *arguments)."""

    def act(device: SimulatedDevice, *arguments: Any) -> None:
        device.session.ask(lambda rid: make(rid, *arguments))

    return act


ACTS: dict[str, Callable[..., None]] = {
    "send": _say,  # conversation, counts, asks, patient
    "read": _read,  # conversation, through (0: the newest here)
    "name": _name,  # conversation, seqs, content or None
    "open": _open,  # conversation, content or None
    "close": lambda device, chat: device.session.close_chat(chat),
    "flush": lambda device: device.session.flush(device.now_ms),
    "mark": _asking(lambda rid, chat, seq: commands.MarkUnread(rid=rid, conversation=chat, from_seq=seq)),
    "recall": _asking(lambda rid, chat, seq: commands.RecallMessage(rid=rid, conversation=chat, seq=seq)),
    "clear": _clear,  # conversation, through (0: the newest here)
    "share": _asking(
        lambda rid, chat, delivered, read: commands.SetSharing(
            rid=rid, delivered=delivered, read=read, conversation=chat
        )
    ),
    "mute": _asking(lambda rid, chat, muted: commands.SetMuted(rid=rid, conversation=chat, muted=muted)),
    "create": _asking(
        lambda rid, group, users: commands.CreateGroup(
            rid=rid, conversation=group, name=f"the group {group}", members=users
        )
    ),
    "add": _asking(lambda rid, group, users: commands.AddMembers(rid=rid, conversation=group, users=users)),
    "remove": _asking(
        lambda rid, group, users: commands.RemoveMembers(rid=rid, conversation=group, users=users)
    ),
    "role": _asking(
        lambda rid, group, user, role: commands.SetRole(
            rid=rid, conversation=group, user=user, role=Role(role)
        )
    ),
    "rename": _asking(lambda rid, group, name: commands.ChangeGroup(rid=rid, conversation=group, name=name)),
    "dissolve": _asking(lambda rid, group: commands.DissolveGroup(rid=rid, conversation=group)),
    "history": _asking(
        lambda rid, chat, before, limit: commands.FetchHistory(
            rid=rid, conversation=chat, before=before, limit=limit
        )
    ),
    "list": _asking(lambda rid: commands.ListConversations(rid=rid)),
    "members": _asking(lambda rid, group: commands.ListMembers(rid=rid, conversation=group)),
    "readers": _asking(lambda rid, chat, seq: commands.ListReaders(rid=rid, conversation=chat, seq=seq)),
    "status": _asking(lambda rid, chat, seqs: commands.GetStatus(rid=rid, conversation=chat, seqs=seqs)),
    "explain": _asking(lambda rid, chat: commands.ExplainUnread(rid=rid, conversation=chat)),
    "badge": _asking(lambda rid: commands.GetBadge(rid=rid)),
    "devices": _asking(lambda rid: commands.ListDevices(rid=rid)),
    "log-out": _asking(lambda rid, name: commands.LogOutDevice(rid=rid, device=name)),
}
"""Operation of an `Act` → what the application calls."""
