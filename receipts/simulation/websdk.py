"""The vendor's Web SDK as a server meets it: what it says by itself, and what it tells its application. PURE.

A model of one `connection` of `easemob-websdk` 4.21, for simulations: which frames it writes when, what it
repeats and what it does not, its filter of ids, its timers. It is made of what was seen of the SDK, not of
what a server would like. What lives here: one connection. What does not: links and the pauses between them
(`live_web`), and what an application makes of it (`live_page`).

What it leaves out: NOTICE, which this project's node never sends; compression; HTTP calls; and the browser.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

from receipts.core.errors import DecodeError
from receipts.easemob import codec
from receipts.easemob import msync_pb2 as pb
from receipts.easemob.codec import BodyType, Command, Namespace

__all__ = [
    "ANSWER_SECONDS",
    "DISCONNECTED",
    "FILTER",
    "HEARTBEAT_SECONDS",
    "NO_ANSWER",
    "Answer",
    "Callback",
    "Failed",
    "Kicked",
    "Queue",
    "Statistics",
    "Told",
    "WebSDK",
]

FILTER = 101
"""Ids that it remembers, of what it saw and of what it sent; what has one of them again is dropped."""

ANSWER_SECONDS = 15.0
"""For a message or receipt to be answered; then the SDK gives the link up."""

LOGIN_SECONDS = 10.0
"""For a login to be answered, likewise."""

HEARTBEAT_SECONDS = 30.0
"""Without a frame from the server, until it asks what is unread."""

DISCONNECTED, NO_ANSWER = 510, 512
"""`Failed.type`: the link was lost, or the time was up. Nothing is sent again by itself."""


class Callback(NamedTuple):
    """What the application is told by one meta."""

    name: str
    """message, read, delivered, channel or recalled."""
    id: int
    """Of the meta."""
    sender: str
    to: str
    """A user, or a group."""
    mid: int
    """The message: its own id, or that of the message that a receipt is about; 0 for a conversation's."""
    text: str
    """Of a message, or the words of a group receipt."""
    asks: bool
    counts: dict[str, int] | None
    """Of a group receipt: readers by message."""


class Answer(NamedTuple):
    """What became of something that was sent."""

    local_id: int
    code: int
    """0: it was taken."""
    reason: str
    mid: int


class Failed(NamedTuple):
    """Nobody knows what became of something that was sent."""

    local_id: int
    type: int


class Statistics(NamedTuple):
    """What was read while nobody was there."""

    counts: dict[int, int]
    """Readers by message."""


class Kicked(NamedTuple):
    """The session was ended, or the login refused."""

    code: int
    reason: str


class Queue(NamedTuple):
    """Something came of a queue."""

    key: int
    """What acknowledges it; 0 when the queue was said to be empty."""
    metas: int
    """How many came."""


Told: TypeAlias = Callback | Answer | Failed | Statistics | Kicked | Queue


class WebSDK:
    """One connection of the SDK.

    Args:
        app: The app key.
        user, resource: Who it is, and the device's name.
        delivery: Whether it sends delivery receipts.
        first_id: Of the ids that it gives to what it sends; other devices may have the same ones.
    """

    def __init__(
        self, app: str, user: str, resource: str, *, delivery: bool = False, first_id: int = 530_000_000_000
    ) -> None:
        self.app = app
        self.user = user
        self.resource = resource
        self.delivery = delivery
        self.state = "away"
        """away, login or in; kicked when it will not come back by itself."""
        self.out: list[bytes] = []
        """Frames to be sent, in this order; whoever sends them takes them out."""
        self.told: list[Told] = []
        """What the application has not taken yet."""
        self.gave_up = False
        """Whether it wants to be rid of the present link."""
        self._next_id = first_id
        self._kept: list[pb.Meta] = []
        """Written while there was no session."""
        self._deadlines: dict[int, float] = {}
        """By local id, of what waits for an answer; rising."""
        self._seen: deque[int] = deque(maxlen=FILTER)
        self._pulling: list[str] = []
        """Names of queues of which it waits to hear that they are empty."""
        self._queues: dict[str, pb.JID] = {}
        self._last_key: dict[str, int] = {}
        self._heard_at = 0.0
        self._now = 0.0

    @property
    def unrest(self) -> str | None:
        """What it waits for; None for nothing."""
        if self.state != "in":
            return f"is {self.state}"
        if self._deadlines:
            return f"waits for answers to {len(self._deadlines)} of its messages"
        return f"waits for the end of {self._pulling}" if self._pulling else None

    # -- links

    def begin(self, token: str, now: float) -> None:
        """A new link is there: log in."""
        self._now = self._heard_at = now
        self.state, self.gave_up = "login", False
        provision = pb.Provision(
            osType=16,
            version="4.21.1",
            resource=self.resource,
            authToken=json.dumps({"token": "$t$" + token}),
        )
        self._put(Command.PROVISION, provision.SerializeToString(), guid=True)

    def end(self) -> None:
        """The link is gone. What was not answered has failed; what it was told stays in the filter."""
        self.told += [Failed(local_id, DISCONNECTED) for local_id in self._deadlines]
        self._deadlines.clear()
        self.out.clear()
        if self.state != "kicked":
            self.state = "away"

    def log_out(self) -> None:
        """Say so, and forget queues and filter; after calling this method you must send what is `out`, close
        the link and call `end`."""
        if self.state == "in":
            self._put(Command.LOGOUT, pb.Logout(reason="inner:logout").SerializeToString(), guid=True)
        self.told += [Failed(meta.id, DISCONNECTED) for meta in self._kept]
        self._kept.clear()
        self._seen.clear()
        self._pulling.clear()
        self._queues.clear()
        self._last_key.clear()

    # -- time

    @property
    def wake_at(self) -> float | None:
        """When `wake` is to be called next."""
        if self.state == "login":
            return self._heard_at + LOGIN_SECONDS
        if self.state != "in":
            return None
        return min([self._heard_at + HEARTBEAT_SECONDS, *self._deadlines.values()])

    def wake(self, now: float) -> None:
        """It is as late as `wake_at` said."""
        self._now = now
        if self.state == "login":
            self.gave_up = now >= self._heard_at + LOGIN_SECONDS
        elif self.state == "in":
            late = [local_id for local_id, deadline in self._deadlines.items() if deadline <= now]
            for local_id in late:
                del self._deadlines[local_id]
                self.told.append(Failed(local_id, NO_ANSWER))
            self.gave_up = bool(late)
            if now >= self._heard_at + HEARTBEAT_SECONDS:
                self._heard_at = now
                self._put(Command.UNREAD, b"")

    # -- saying

    def local_id(self) -> int:
        """A new one."""
        self._next_id += 1
        return self._next_id

    def send(self, meta: pb.Meta, now: float) -> int:
        """Send something, or keep it until there is a session; its local id. The same again is a repeat."""
        self._now = now
        if self.state == "in":
            self._write(meta)
        else:
            self._kept.append(meta)
        return meta.id

    def text(self, to: str, text: str, *, group: bool = False, asks: bool = False) -> pb.Meta:
        """A text message."""
        kind = BodyType.GROUPCHAT if group else BodyType.CHAT
        body = self.body(kind, to, content=pb.Content(type=0, text=text))
        if asks:
            body.msgConfig.allowGroupAck = True
        return self.meta(body, to, group=group)

    def read(self, to: str, mid: int) -> pb.Meta:
        """A read receipt for one message of a user."""
        return self.meta(self.body(BodyType.READ_ACK, to, mid), to)

    def read_in_group(self, group: str, mid: int, content: str | None = "{}") -> pb.Meta:
        """An answer to a message of a group that asked."""
        body = self.body(BodyType.READ_ACK, group, mid)
        body.msgConfig.allowGroupAck = True
        if content is not None:
            body.ackContent = content
        return self.meta(body, group, group=True)

    def read_all(self, to: str, *, group: bool = False) -> pb.Meta:
        """A conversation receipt."""
        return self.meta(self.body(BodyType.CHANNEL_ACK, to), to, group=group)

    def delivered(self, to: str, mid: int) -> pb.Meta:
        """A delivery receipt, as the SDK sends it by itself."""
        return self.meta(self.body(BodyType.DELIVER_ACK, to, mid), to)

    def recall(self, to: str, mid: int, *, group: bool = False) -> pb.Meta:
        """Take a message back."""
        return self.meta(self.body(BodyType.RECALL, to, mid), to, group=group)

    def body(self, kind: int, to: str, mid: int = 0, *, content: pb.Content | None = None) -> pb.MessageBody:
        """A body with one content, which of receipts is empty."""
        body = pb.MessageBody(
            type=kind,
            sender=pb.JID(name=self.user),
            to=pb.JID(name=to),
            contents=(content or pb.Content(),),
        )
        if mid:
            body.ackMessageId = mid
        return body

    def meta(self, body: pb.MessageBody, to: str, *, group: bool = False) -> pb.Meta:
        """An envelope with a new local id."""
        domain = codec.GROUP_DOMAIN if group else codec.USER_DOMAIN
        return pb.Meta(
            id=self.local_id(),
            to=pb.JID(appKey=self.app, name=to, domain=domain),
            ns=Namespace.CHAT,
            payload=body.SerializeToString(),
        )

    def _write(self, meta: pb.Meta) -> None:
        self._deadlines[meta.id] = self._now + ANSWER_SECONDS
        self._sync(pb.CommSyncUL(meta=meta))

    def _greet(self) -> None:
        """Nobody waits for the answer."""
        payload = pb.StatisticsBody(operation=0).SerializeToString()
        self._sync(pb.CommSyncUL(meta=pb.Meta(id=self.local_id(), ns=Namespace.STATISTIC, payload=payload)))

    def _sync(self, sync: pb.CommSyncUL) -> None:
        self._put(Command.SYNC, sync.SerializeToString())

    def _put(self, command: Command, payload: bytes, *, guid: bool = False) -> None:
        sync = pb.MSync(version=0, command=command, payload=payload)
        if guid:
            sync.guid.CopyFrom(pb.JID(appKey=self.app, name=self.user, domain=codec.USER_DOMAIN))
        self.out.append(sync.SerializeToString())

    # -- hearing

    def hear(self, frames: Iterable[bytes | str], now: float) -> None:
        """Frames have come.

        Raises:
            DecodeError: One makes the SDK throw, or hang for ever.
        """
        self._now = self._heard_at = now
        for frame in frames:
            if isinstance(frame, str):
                raise DecodeError("frames to the SDK are binary")
            sync = codec.parse(pb.MSync, frame)
            if sync.command == Command.PROVISION:
                self._provisioned(codec.parse(pb.Provision, sync.payload))
            elif sync.command == Command.UNREAD:
                self._unread(codec.parse(pb.CommUnreadDL, sync.payload))
            elif sync.command == Command.SYNC:
                self._synced(codec.parse(pb.CommSyncDL, sync.payload))

    def _provisioned(self, found: pb.Provision) -> None:
        if not found.HasField("status"):
            raise DecodeError("a Provision without status")
        if found.status.errorCode:
            self.state, self.gave_up = "kicked", True
            self.told.append(Kicked(found.status.errorCode, found.status.reason))
            return
        self.state = "in"
        kept, self._kept = self._kept, []
        for meta in kept:
            self._write(meta)
        self._put(Command.UNREAD, b"")
        self._greet()

    def _unread(self, found: pb.CommUnreadDL) -> None:
        if not found.unread:
            self._greet()
        self._greet()
        for entry in found.unread:
            name = entry.queue.name
            self._queues[name] = entry.queue
            if name not in self._pulling:
                self._pulling.append(name)
            self._sync(pb.CommSyncUL(queue=entry.queue))

    def _synced(self, found: pb.CommSyncDL) -> None:
        if not found.HasField("status"):
            raise DecodeError("a CommSyncDL without status")
        if found.metaId:
            self._answered(found)
            return
        if not found.queue:
            raise DecodeError("a CommSyncDL without a queue")
        queue = codec.parse(pb.JID, found.queue)
        for data in found.metas:
            self._dispatch(codec.parse(pb.Meta, data))
        if found.metas:
            self.told.append(Queue(found.nextKey, len(found.metas)))
            self._acknowledge(queue, found)
        elif found.isLast:
            self.told.append(Queue(0, 0))
            self._ended(queue.name)

    def _acknowledge(self, queue: pb.JID, found: pb.CommSyncDL) -> None:
        if found.isLast:
            self._sync(pb.CommSyncUL(queue=queue))
        elif found.nextKey != self._last_key.get(queue.name):  # else it believes that it said so before
            self._last_key[queue.name] = found.nextKey
            self._sync(pb.CommSyncUL(queue=queue, key=found.nextKey))

    def _ended(self, name: str) -> None:
        if name in self._pulling:
            self._pulling.remove(name)
        if self._pulling:
            self._sync(pb.CommSyncUL(queue=self._queues[self._pulling[0]]))

    def _answered(self, found: pb.CommSyncDL) -> None:
        if self._deadlines.pop(found.metaId, None) is None:
            return  # a greeting's, or too late
        status = found.status
        if not status.errorCode:
            self._seen.append(found.serverId)
        self.told.append(Answer(found.metaId, status.errorCode, status.reason, found.serverId))

    def _dispatch(self, meta: pb.Meta) -> None:
        if meta.ns == Namespace.STATISTIC:
            self._statistics(codec.parse(pb.StatisticsBody, meta.payload))
        elif meta.ns == Namespace.CHAT and meta.id not in self._seen:
            self._seen.append(meta.id)
            self._call_back(meta, codec.parse(pb.MessageBody, meta.payload))

    def _statistics(self, body: pb.StatisticsBody) -> None:
        if body.operation:
            self.state, self.gave_up = "kicked", True
            self.told.append(Kicked(body.operation, body.reason))
        else:
            entries = _json(body.location)["group_ack"]
            self.told.append(Statistics({int(entry["mid"]): entry["count"] for entry in entries}))

    def _call_back(self, meta: pb.Meta, body: pb.MessageBody) -> None:
        name = _CALLBACKS.get(body.type)
        if name is None:
            raise DecodeError(f"there is no body of type {body.type}")
        sender, to = body.sender.name, body.to.name
        asks = body.msgConfig.allowGroupAck
        if name == "message":
            text = body.contents[0].text
            self.told.append(Callback(name, meta.id, sender, to, meta.id, text, asks, None))
            if self.delivery and body.type == BodyType.CHAT and sender != self.user:
                self._write(self.delivered(sender, meta.id))
            return
        counts = _json(body.ext[0].stringValue) if body.ext else None
        self.told.append(
            Callback(name, meta.id, sender, to, body.ackMessageId, body.ackContent, asks, counts)
        )


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DecodeError(f"{text!r} is not JSON") from error


_CALLBACKS: dict[int, str] = {
    BodyType.CHAT: "message",
    BodyType.GROUPCHAT: "message",
    BodyType.READ_ACK: "read",
    BodyType.DELIVER_ACK: "delivered",
    BodyType.CHANNEL_ACK: "channel",
    BodyType.RECALL: "recalled",
}
