"""A stand-in for the vendor's SDK, frame by frame, on a node without a world around it.

It does what the SDK does by itself: UNREAD and greeting after a login, pulls of listed queues,
acknowledgements, its filter of the last 101 ids, delivery receipts if it was opened with them. What it would
tell an application is in `heard`. Unrealistic: no link, no timers, and it never resends.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any, NamedTuple

from receipts.core.errors import DecodeError
from receipts.easemob import codec
from receipts.easemob import msync_pb2 as pb
from receipts.easemob.codec import BodyType, Command
from receipts.easemob.session import Dialects
from receipts.node.commands import LinkLost, Malformed
from receipts.node.pipeline import Mail
from tests.node.playbook import Device, Playbook

APP = "org#app"
FILTER = 101
WAITING, DONE = "waiting", "done"


class Heard(NamedTuple):
    """A callback of the SDK."""

    name: str
    sender: str
    to: str
    mid: str
    """Of a message its own id, of a receipt that of the message."""
    text: str = ""
    counts: dict[str, int] | None = None


class Answer(NamedTuple):
    """What became of something sent."""

    code: int
    reason: str
    mid: int


class Book(Playbook):
    """One node that also speaks with the SDK; its one more app is `APP`."""

    def __init__(self, *arguments: Any, settings: str = "{}", **more: Any) -> None:
        more.setdefault("apps", {APP: settings})
        self.letting_out = 0
        self.talkers: deque[Web] = deque()
        super().__init__(*arguments, **more)
        self.dialects = Dialects({APP}, lambda: self.hub.world.now_ms)

    def web(self, user: str, resource: str = "webim_web_1", *, delivery: bool = False, **more: Any) -> Web:
        """An SDK with a user who is there, not logged in."""
        return Web(self, user, resource, delivery=delivery, **more)

    def online(self, user: str, resource: str = "webim_web_1", *, delivery: bool = False) -> Web:
        """An SDK that has logged in and caught up."""
        web = self.web(user, resource, delivery=delivery)
        web.log_in()
        return web

    def _give(self, session: Any, frames: list[Any]) -> None:
        device = self.devices[session]
        if isinstance(device, _Link):
            device.web.frames_in(frames)
        else:
            super()._give(session, frames)

    def _let_out(self, mail: Mail) -> None:
        """What SDKs say to what they hear comes when all have heard of it."""
        self.letting_out += 1
        super()._let_out(mail)
        self.letting_out -= 1
        while self.talkers and not self.letting_out:
            self.talkers.popleft().speak()

    def crash(self) -> Book:
        """The process dies: what was committed is met again by a new one."""
        self.store.close()
        apps = {name: text for name, text in self.apps.items() if name != "default"}
        return Book(self.store, settings=self.settings, life="never", apps=apps, now_ms=self.now_ms)


class _Link(Device):
    web: Web


class Web:
    """The SDK of one page, over its links."""

    def __init__(self, book: Book, user: str, resource: str, *, delivery: bool, app: str = APP) -> None:
        self.book = book
        self.user = user
        self.resource = resource
        self.delivery = delivery
        self.app = app
        self.link: _Link | None = None
        self.heard: list[Heard] = []
        self.statistics: list[dict[str, Any]] = []
        self.kicks: list[int] = []
        self.answers: dict[int, Answer] = {}
        self.order: list[str] = []
        """Names of callbacks and answers, as they came."""
        self.provisions: list[pb.Provision] = []
        self.farewells: list[str] = []
        self.keys: list[int] = []
        self.metas: list[pb.Meta] = []
        """All that came, repeats included."""
        self.seen: deque[int] = deque(maxlen=FILTER)
        self.silent = False
        """While true, nothing is acknowledged."""
        self.mute = False
        """While true, delivery receipts are lost on the way."""
        self.synced = 0
        """How often a queue ended."""
        self._local_id = 530_000_000_000
        self.unacknowledged: deque[tuple[pb.JID, int]] = deque()
        self._todo: deque[bytes | str] = deque()
        self._busy = False

    # -- the link

    def open(self) -> None:
        """A new link, without a word."""
        session = self.book.hub.open(link=object(), peer=self.resource)
        session.dialect, session.queued = self.book.dialects(), True
        link = _Link(self.book, session, f"{self.user}/{self.resource}")
        link.web = self
        self.book.devices[session] = self.link = link

    def log_in(self, token: str | None = None) -> None:
        """A new link, up to where the SDK is at rest."""
        if token is None:
            token = self.book.token(self.user, app=self.app)
        self.open()
        self.provision(token)
        if self.provisions[-1].status.errorCode == 0:
            self.unread()
            self.greet()

    def provision(self, token: str) -> None:
        self.put(self.login_frame(token))

    def login_frame(self, token: str) -> bytes:
        provision = pb.Provision(
            osType=16,
            version="4.21.1",
            resource=self.resource,
            authToken=json.dumps({"token": "$t$" + token}),
        )
        guid = pb.JID(appKey=self.app, name=self.user, domain="easemob.com")
        payload = provision.SerializeToString()
        sync = pb.MSync(version=0, guid=guid, command=Command.PROVISION, payload=payload)
        return sync.SerializeToString()

    def unread(self) -> None:
        self.say(pb.MSync(version=0, command=Command.UNREAD))

    def greet(self) -> Answer:
        body = pb.StatisticsBody(operation=0).SerializeToString()
        return self.meta(pb.Meta(id=self.local_id(), ns=0, payload=body))

    def lose(self) -> None:
        """The link breaks."""
        assert self.link is not None
        link, self.link = self.link, None
        link.session.link = None
        self._todo.clear()
        self.unacknowledged.clear()
        self.book.run((link, LinkLost()))

    def move(self, book: Book) -> Web:
        """The node was started anew: the link is gone."""
        self.book, self.link = book, None
        self._todo.clear()
        self.unacknowledged.clear()
        return self

    @property
    def is_cut(self) -> bool:
        """Whether the node has closed the link."""
        return self.link is not None and self.link.cut

    def acknowledge(self) -> None:
        """Acknowledge the oldest frame that was not."""
        queue, key = self.unacknowledged.popleft()
        self.sync(pb.CommSyncUL(queue=queue, key=key))

    # -- saying

    def say(self, sync: pb.MSync) -> None:
        self.put(sync.SerializeToString())

    def put(self, frame: bytes | str) -> None:
        """Send a frame, and whatever the SDK sends for what it hears then."""
        self._todo.append(frame)
        if self.book.letting_out:
            self.book.talkers.append(self)
        else:
            self.speak()

    def speak(self) -> None:
        """Send what there is to send."""
        if self._busy:
            return
        self._busy = True
        try:
            while self._todo and self.link is not None:
                self._hand_over(self._todo.popleft())
        finally:
            self._busy = False

    def _hand_over(self, frame: bytes | str) -> None:
        link = self.link
        assert link is not None
        try:
            found = link.session.dialect.decode(frame)
        except DecodeError as error:
            found = [Malformed(code=error.code, reason=str(error), fatal=True)]
        self.book.run(*((link, command) for command in found))

    def sync(self, sync: pb.CommSyncUL) -> None:
        self.say(pb.MSync(version=0, command=Command.SYNC, payload=sync.SerializeToString()))

    def local_id(self) -> int:
        self._local_id += 1
        return self._local_id

    def meta(self, meta: pb.Meta) -> Answer:
        """Send something that is answered."""
        self.sync(pb.CommSyncUL(meta=meta))
        return self.answers.get(meta.id, Answer(-1, "no answer", 0))

    def body(self, body: pb.MessageBody, to: str, *, group: bool = False, local_id: int = 0) -> Answer:
        domain = codec.GROUP_DOMAIN if group else codec.USER_DOMAIN
        meta = pb.Meta(
            id=local_id or self.local_id(),
            to=pb.JID(appKey=self.app, name=to, domain=domain),
            ns=1,
            payload=body.SerializeToString(),
        )
        answer = self.meta(meta)
        self.seen.append(answer.mid)
        return answer

    def send(self, to: str, text: str = "hi", *, group: bool = False, asks: bool = False) -> int:
        """A text message that has to be taken; its id."""
        answer = self.body(self.text(to, text, group=group, asks=asks), to, group=group)
        assert answer.code == 0, answer
        return answer.mid

    def text(self, to: str, text: str, *, group: bool = False, asks: bool = False) -> pb.MessageBody:
        kind = BodyType.GROUPCHAT if group else BodyType.CHAT
        body = self.empty(kind, to, content=pb.Content(type=0, text=text))
        if asks:
            body.msgConfig.allowGroupAck = True
        return body

    def empty(self, kind: int, to: str, *, content: pb.Content | None = None) -> pb.MessageBody:
        return pb.MessageBody(
            type=kind,
            sender=pb.JID(name=self.user),
            to=pb.JID(name=to),
            contents=(content or pb.Content(),),
        )

    def read(self, to: str, mid: int) -> Answer:
        body = self.empty(BodyType.READ_ACK, to)
        body.ackMessageId = mid
        return self.body(body, to)

    def read_group(self, group: str, mid: int, content: str | None = "{}") -> Answer:
        body = self.empty(BodyType.READ_ACK, group)
        body.ackMessageId = mid
        body.msgConfig.allowGroupAck = True
        if content is not None:
            body.ackContent = content
        return self.body(body, group, group=True)

    def deliver(self, to: str, mid: int) -> Answer:
        body = self.empty(BodyType.DELIVER_ACK, to)
        body.ackMessageId = mid
        return self.body(body, to)

    def recall(self, to: str, mid: int, *, group: bool = False) -> Answer:
        body = self.empty(BodyType.RECALL, to)
        body.ackMessageId = mid
        return self.body(body, to, group=group)

    def read_all(self, to: str, *, group: bool = False) -> Answer:
        return self.body(self.empty(BodyType.CHANNEL_ACK, to), to, group=group)

    # -- hearing

    def told(self) -> list[Heard]:
        """Callbacks since the last look."""
        found, self.heard = self.heard, []
        return found

    def frames_in(self, frames: list[bytes]) -> None:
        for frame in frames:
            sync = codec.parse(pb.MSync, frame)
            if sync.command == Command.PROVISION:
                self.provisions.append(codec.parse(pb.Provision, sync.payload))
            elif sync.command == Command.UNREAD:
                for entry in codec.parse(pb.CommUnreadDL, sync.payload).unread:
                    self.sync(pb.CommSyncUL(queue=entry.queue))
            elif sync.command == Command.LOGOUT:
                self.farewells.append(codec.parse(pb.Logout, sync.payload).reason)
            else:
                self._synced(codec.parse(pb.CommSyncDL, sync.payload))

    def _synced(self, found: pb.CommSyncDL) -> None:
        assert found.HasField("status")
        if found.metaId:
            self.order.append("answer")
            self.answers[found.metaId] = Answer(found.status.errorCode, found.status.reason, found.serverId)
            return
        assert found.queue
        self.synced += found.isLast
        for data in found.metas:
            self._dispatch(codec.parse(pb.Meta, data))
        if found.metas:
            assert found.nextKey not in self.keys
            self.keys.append(found.nextKey)
            queue = codec.parse(pb.JID, found.queue)
            if self.silent:
                self.unacknowledged.append((queue, found.nextKey))
            else:
                self.sync(pb.CommSyncUL(queue=queue, key=found.nextKey))

    def _dispatch(self, meta: pb.Meta) -> None:
        self.metas.append(meta)
        if meta.ns == 0:
            body = codec.parse(pb.StatisticsBody, meta.payload)
            if body.operation:
                self.kicks.append(body.operation)
            else:
                self.statistics += json.loads(body.location)["group_ack"]
            return
        if meta.id in self.seen:
            return
        self.seen.append(meta.id)
        self._callback(meta, codec.parse(pb.MessageBody, meta.payload))

    def _callback(self, meta: pb.Meta, body: pb.MessageBody) -> None:
        sender, to = body.sender.name, body.to.name
        name = _CALLBACKS[body.type]
        self.order.append(name)
        if name == "message":
            self.heard.append(Heard(name, sender, to, str(meta.id), body.contents[0].text))
            if self.delivery and not self.mute and body.type == BodyType.CHAT and sender != self.user:
                self.deliver(sender, meta.id)
        else:
            count = json.loads(body.ext[0].stringValue) if body.ext else None
            mid = str(body.ackMessageId) if body.ackMessageId else ""
            self.heard.append(Heard(name, sender, to, mid, body.ackContent, count))


_CALLBACKS: dict[int, str] = {
    BodyType.CHAT: "message",
    BodyType.GROUPCHAT: "message",
    BodyType.READ_ACK: "read",
    BodyType.DELIVER_ACK: "delivered",
    BodyType.CHANNEL_ACK: "channel",
    BodyType.RECALL: "recalled",
}
