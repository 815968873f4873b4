"""One link of the vendor's Web SDK: its frames as native commands, native updates as its frames. PURE.

A dialect here has state of its own: which of the SDK's messages wait for an answer, and which frames it has
not acknowledged. All that a frame asks for becomes commands, even what this side could answer alone (`Ping`
stands for that): so answers leave in order, and nothing before it is durable.

Frames are pushed, not announced: the SDK takes a push in as it would the answer to a pull, and acknowledges
it. Each has a key that never comes again: node time of the login, which rises with every login of the device,
times a thousand, and a count. The queue is named in the first answer to an UNREAD, since a queue that the SDK
was pulling when its link broke stays deaf until it hears that it is empty.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from typing import Any

from receipts.core.errors import Code, DecodeError
from receipts.core.events import MessageAccepted
from receipts.core.ids import ConversationId, DeviceId, MessageId, Seq, UserId, direct, is_user_id
from receipts.core.ranges import ranges_of
from receipts.node.commands import Malformed
from receipts.node.queued import (
    AckQueue,
    Answered,
    Deed,
    Item,
    Level,
    Opened,
    QueuePage,
    ReadUpTo,
    Recalled,
    Received,
    Summary,
    ToMessage,
)
from receipts.node.queues import SLOT
from receipts.wire import VERSION, commands
from receipts.wire.codec import Frame
from receipts.wire.limits import DEVICE_CHARACTERS_MAX, INT_MAX
from receipts.wire.updates import Accepted, Done, Goodbye, Pong, Rejected, Update, Welcome

from . import bodies, codec, envelopes, refusals
from . import msync_pb2 as pb
from .codec import BodyType, Command, Kick, Namespace, StatusCode
from .envelopes import Arrival, Envelopes
from .owed import OnWay, Owed
from .refusals import Refusal
from .window import WINDOW, Batch, Window, batches

__all__ = ["Dialects", "EasemobDialect"]

KEYS_PER_MS = 1000

EARLY_MAX = 4 * WINDOW
"""Messages at the beginning of a link of which it is kept in mind whether the SDK sent a receipt: more than
it can have from an earlier link without the node's knowing."""

RANDOM_RESOURCE = "webim_random"
"""How the resource begins of an SDK that was told to take a new one for every link."""


class Dialects:
    """Makes the dialect of each link of a listener.

    Args:
        apps: The app keys that are served, which are the node's app ids; looked at on every login.
        now: Node time in milliseconds.
    """

    def __init__(self, apps: Collection[str], now: Callable[[], int]) -> None:
        self.apps = apps
        self.now = now
        self.envelopes = Envelopes()
        self.owed = Owed()

    def __call__(self) -> EasemobDialect:
        """A dialect for one link."""
        return EasemobDialect(self)


class _Asked:
    """Something that the SDK sent and that waits for its answer."""

    __slots__ = ("arrival", "asks", "kind", "local_id", "mid", "refusal", "to")

    def __init__(
        self, kind: str, local_id: int = 0, mid: int = 0, to: str = "", *, asks: bool = False
    ) -> None:
        self.kind = kind
        """login; message, receipt, delivery, recall or other, with `local_id`; unread, pull or arrival."""
        self.local_id = local_id
        self.mid = mid
        """The id that the answer gives it; of a message, the node's answer says."""
        self.to = to
        self.asks = asks
        self.refusal: Refusal | None = None
        """What was decided here already."""
        self.arrival: AckQueue | None = None


class EasemobDialect:
    """How one link of the SDK speaks; see `receipts.wire.dialect.Dialect`."""

    shared_key = ""

    def __init__(self, dialects: Dialects) -> None:
        self._dialects = dialects
        self._now = dialects.now
        self._state = "new"
        self._app = ""
        self._user: UserId = ""
        self._resource = ""
        self._queue_name = ""
        self._queue = b""
        self._key = 0
        self._expires_ms = 0
        self._rid = 0
        self._asked: dict[int, _Asked] = {}
        self._window = Window()
        self._written: dict[ConversationId, Seq] = {}
        """The highest message of each conversation that was written to this link."""
        self._tick = 0
        """The last that was heard of."""
        self._delivers = False
        """Whether the SDK sends delivery receipts, as one on this link has shown."""
        self._delivered: set[MessageId] = set()
        """Messages of which it has, before it acknowledged their frame; and those of which it has not."""
        self._undelivered: list[Arrival] = []
        self._on_way: OnWay | None = None
        """Once the device has shown that it sends delivery receipts, on this link or an earlier one."""
        self._again: frozenset[MessageId] = frozenset()
        """What it may have had, and said so, on an earlier link."""
        self._live = False
        self._listed = False
        """Whether an UNREAD was answered with the queue."""
        self._pulling = False
        """Whether the SDK waits to hear that the queue is empty."""
        self._late: list[AckQueue] = []
        """Acknowledgements that the node could not write down."""

    # -- frames in

    def decode(self, frame: Frame) -> list[Any]:
        """The commands in a frame of the SDK.

        Raises:
            DecodeError: This is not one, or it does not come at this time.
        """
        if isinstance(frame, str):
            raise DecodeError("frames of this protocol are binary")
        sync = codec.parse(pb.MSync, frame)
        command = sync.command
        if command == Command.PROVISION:
            return [self._provision(sync)]
        if self._state != "in":
            raise DecodeError("begin with PROVISION, and wait for its answer", code=Code.NOT_LOGGED_IN)
        if command == Command.SYNC:
            return self._sync(codec.parse(pb.CommSyncUL, sync.payload))
        if command == Command.UNREAD:
            return [*self._once_more(), commands.Ping(rid=self._expect(_Asked("unread")))]
        if command == Command.LOGOUT:
            return [self._leave()]
        raise DecodeError(f"there is no command {command} from a client")

    def _leave(self) -> Malformed:
        """The SDK closes as soon as it has said so, and waits for nothing: from now on the user is away, not
        only when the end of the link is noticed."""
        self._state = "left"
        return Malformed(code=Code.LOGGED_OUT, reason="the client has left", fatal=True)

    def _once_more(self) -> list[AckQueue]:
        """What the node could not write down: the SDK does not say it twice, and waits for what follows."""
        late, self._late = self._late, []
        for arrival in late:
            self._expect_arrival(arrival)
        return late

    def _expect_arrival(self, arrival: AckQueue) -> None:
        asked = self._asked[arrival.rid] = _Asked("arrival")
        asked.arrival = arrival

    def _expect(self, asked: _Asked) -> int:
        self._rid += 1
        self._asked[self._rid] = asked
        return self._rid

    # -- login

    def _provision(self, sync: pb.MSync) -> commands.Hello:
        if self._state != "new":
            raise DecodeError("a second PROVISION", code=Code.ALREADY_LOGGED_IN)
        provision = codec.parse(pb.Provision, sync.payload)
        self._state = "asked"
        self._app, self._user = sync.guid.appKey, sync.guid.name.lower()
        self._resource = provision.resource or sync.guid.clientResource
        self._queue_name = f"q_{self._user}"
        self._queue = codec.queue_bytes(self._app, self._queue_name)
        device = self._device()
        if not is_user_id(self._user) or not device:
            raise DecodeError("PROVISION names no user, or no resource")
        return commands.Hello(
            rid=self._expect(_Asked("login")),
            version=VERSION,
            user=self._user,
            device=device,
            install=device,
            # An app that is not served here is to be as unknown as one that the node does not have.
            app=self._app if self._app in self._dialects.apps else "",
            token=_token(provision, sync),
            client=f"easemob-websdk {provision.version}",
        )

    def _device(self) -> DeviceId:
        """The SDK's resource; its own copy of a slot's sign would claim a slot."""
        if self._resource.startswith(RANDOM_RESOURCE):
            return RANDOM_RESOURCE + SLOT
        device = self._resource.rstrip(SLOT)
        return device if len(device) <= DEVICE_CHARACTERS_MAX and device.isprintable() else ""

    # -- SYNC

    def _sync(self, sync: pb.CommSyncUL) -> list[Any]:
        found: list[Any] = []
        if sync.HasField("meta"):
            found.append(self._meta(sync.meta))
        if sync.HasField("queue"):
            if sync.HasField("key"):
                found += self._arrived(sync.key)
            else:
                found.append(self._pull())
        return found

    def _meta(self, meta: pb.Meta) -> Any:
        local_id = meta.id
        if not 0 < local_id <= INT_MAX:
            raise DecodeError("the id of a message is from 1 to 2**63 - 1")
        if meta.ns == Namespace.STATISTIC:
            return self._greeting(local_id)
        if meta.ns != Namespace.CHAT:
            return self._refuse(local_id, "this kind of message is not supported")
        body = codec.parse(pb.MessageBody, meta.payload)
        if body.sender.name.lower() != self._user:
            return self._refuse(local_id, "a message is from who sends it")
        group = meta.to.domain == codec.GROUP_DOMAIN
        if body.to.name != meta.to.name:  # what the others' SDKs go by
            return self._refuse(local_id, "a message is for whom it is sent to")
        to = meta.to.name if group else meta.to.name.lower()
        if group:
            if not _is_group_id(to):
                return self._refuse(local_id, "group not found")
            conversation = to
        elif not is_user_id(to):
            return self._refuse(local_id, f"username {to} doesn't exist!")
        elif to == self._user:
            return self._refuse(local_id, "messages to oneself are not supported")
        else:
            conversation = direct(self._user, to)
        return self._of_body(meta, body, conversation, to, group)

    def _greeting(self, local_id: int) -> commands.Ping:
        asked = _Asked("other", local_id, self._receipt_id(local_id))
        return commands.Ping(rid=self._expect(asked))

    def _refuse(self, local_id: int, reason: str) -> commands.Ping:
        """Refused here, in its turn."""
        asked = _Asked("other", local_id)
        asked.refusal = Refusal(StatusCode.FAIL, reason)
        return commands.Ping(rid=self._expect(asked))

    def _receipt_id(self, local_id: int) -> int:
        """For what only its sender will know by an id."""
        return codec.receipt_id(self._app, self._user, self._resource, local_id)

    def _of_body(
        self, meta: pb.Meta, body: pb.MessageBody, conversation: ConversationId, to: str, group: bool
    ) -> Any:
        kind, local_id, mid = body.type, meta.id, body.ackMessageId
        if kind == (BodyType.GROUPCHAT if group else BodyType.CHAT):
            if meta.directedUsers:
                return self._refuse(local_id, "messages to some members of a group are not supported")
            return self._message(meta, body, conversation, to, group)
        if kind == BodyType.CHANNEL_ACK:
            rid = self._expect(_Asked("receipt", local_id, self._receipt_id(local_id)))
            return ReadUpTo(rid, conversation, self._written.get(conversation, 0))
        if kind not in _ABOUT_A_MESSAGE:
            return self._refuse(local_id, "this kind of message is not supported")
        if not 0 < mid <= INT_MAX:
            return self._refuse(local_id, "group ack msg not found")
        if kind == BodyType.READ_ACK:
            # Not to have said anything is an answer too: in a group it has to be one.
            content = body.ackContent if group else None
            receipt_id = envelopes.receipt_id_of(mid, self._user, Level.READ)
            rid = self._expect(_Asked("receipt", local_id, receipt_id))
            return ToMessage(rid, conversation, mid, Deed.READ, content)
        if kind == BodyType.DELIVER_ACK:
            receipt_id = envelopes.receipt_id_of(mid, self._user, Level.DELIVERED)
            self._shown()
            if len(self._delivered) < EARLY_MAX:
                self._delivered.add(MessageId(mid))
            rid = self._expect(_Asked("delivery", local_id, receipt_id))
            return ToMessage(rid, conversation, mid, Deed.DELIVER)
        rid = self._expect(_Asked("recall", local_id, self._receipt_id(local_id)))
        return ToMessage(rid, conversation, mid, Deed.RECALL)

    def _message(
        self, meta: pb.Meta, body: pb.MessageBody, conversation: ConversationId, to: str, group: bool
    ) -> commands.SendMessage:
        asks = group and body.msgConfig.allowGroupAck
        payload = meta.payload
        if body.sender.name != self._user or body.to.name != to:
            # In capitals: everywhere else, in receipts and lists, users have their names in small letters.
            body.sender.name, body.to.name = self._user, to
            payload = body.SerializeToString()
        stored = bodies.stored(payload, body, self._user, to, group=group)
        rid = self._expect(_Asked("message", meta.id, to=to, asks=asks))
        return commands.SendMessage(rid, conversation, stored, meta.id, bodies.counts_of(body), asks)

    # -- what the SDK has

    def _pull(self) -> commands.Ping:
        self._pulling = True
        return commands.Ping(rid=self._expect(_Asked("pull")))

    def _arrived(self, key: int) -> list[Any]:
        """The SDK has all frames up to a key."""
        arrived = self._window.arrived(key)
        found: list[Any] = [*self._once_more()]
        found += [commands.AckStatistics(rid=0, through=batch.summary) for batch in arrived if batch.summary]
        found += self._deliveries(arrived)
        page = next((batch.ends_page for batch in reversed(arrived) if batch.ends_page), "")
        goes_on = bool(page or self._window.waits or (self._pulling and self._caught_up))
        heard = self._window.heard(arrived)
        # What is written at once may fail, and has to be said again then.
        rid = self._expect(_Asked("arrival")) if goes_on or any(one.held for one in heard) else 0
        if arrived:
            arrival = AckQueue(rid=rid, heard=heard, page=page, through=self._through)
            if rid:
                self._expect_arrival(arrival)
            found.append(arrival)
        elif rid:
            found.append(commands.Ping(rid=rid))
        return found

    def _shown(self) -> None:
        """The SDK sends delivery receipts."""
        if not self._delivers:
            self._delivers = True
            on_way = [arrival.message_id for arrival in self._window.arrivals]
            self._on_way = self._dialects.owed.shown((self._app, self._user, self._resource), on_way)

    def _deliveries(self, arrived: Iterable[Batch]) -> list[commands.AckDelivered]:
        """Delivery receipts that the SDK does not send. What it had from an earlier link already it drops
        without a word, whether its receipt came through or not; but if it sends them at all, one shows it, on
        this link or on the one on which the message came first."""
        left, owed = self._undelivered, list[Arrival]()
        for arrival in (arrival for batch in arrived for arrival in batch.arrivals):
            if self._on_way is not None:
                self._on_way.discard(arrival.message_id)
            if arrival.message_id in self._delivered:
                self._delivered.discard(arrival.message_id)
            elif arrival.message_id in self._again:
                owed.append(arrival)
            elif self._delivers or len(left) < EARLY_MAX:
                left.append(arrival)
        if self._delivers:
            owed, self._undelivered = [*owed, *left], []
        seqs: dict[ConversationId, list[Seq]] = {}
        for arrival in owed:
            seqs.setdefault(arrival.conversation, []).append(arrival.seq)
        return [
            commands.AckDelivered(0, conversation, ranges_of(seqs[conversation])) for conversation in seqs
        ]

    @property
    def _caught_up(self) -> bool:
        """Whether all that the SDK missed has arrived."""
        return self._live and not self._window.of_pages

    @property
    def _through(self) -> int:
        """All of the ticks up to this one has arrived; 0 while that cannot be said."""
        if not self._caught_up:
            return 0
        first = self._window.first_tick
        return first - 1 if first else self._tick

    # -- updates out

    def encode(self, update: Update, tick: int) -> list[Frame]:
        """The frames that tell the SDK; most of what a native client is told it has no frame for."""
        if tick > self._tick:
            self._tick = tick
        encode = _ENCODERS.get(type(update))
        return encode(self, update, tick) if encode is not None else []

    def _opened(self, update: Opened, tick: int) -> list[Frame]:
        self._key = update.login_ms * KEYS_PER_MS
        self._expires_ms = update.expires_ms
        return []

    def _welcome(self, update: Welcome, tick: int) -> list[Frame]:
        del self._asked[update.rid]
        self._state = "in"
        self._on_way = self._dialects.owed.known((self._app, self._user, self._resource))
        if self._on_way is not None:
            self._again = self._on_way.all()
        return [codec.provision_frame(self._resource, expires_ms=self._expires_ms)]

    def _goodbye(self, update: Goodbye, tick: int) -> list[Frame]:
        if self._state == "left":
            return [codec.farewell_frame(StatusCode.OK, update.reason)]
        kick = refusals.kick_of(update.code, update.reason)
        if self._state == "in" and kick is not None:
            return [self._frame(Batch([self._statistics(kick)]))]
        if update.code in _MALFORMED:
            return [codec.farewell_frame(StatusCode.PB_PARSER_ERROR, update.reason)]
        return []

    # answers

    def _accepted(self, update: Accepted, tick: int) -> list[Frame]:
        asked = self._asked.pop(update.rid)
        answer = codec.answer_frame(asked.local_id, update.message_id, update.at_ms)
        return [answer] if not self._window.waits else self._frames(self._window.answer(answer))

    def _done(self, update: Done | Pong, tick: int) -> list[Frame]:
        asked = self._asked.pop(update.rid)
        now_ms = self._now()
        if asked.kind == "unread":
            return [self._unread(now_ms)]
        if asked.kind in ("pull", "arrival"):
            return self._frames(self._window.flush()) or self._end_of_pull(now_ms)
        if asked.refusal is not None:
            return [_refused(asked, asked.refusal, now_ms)]
        return [codec.answer_frame(asked.local_id, asked.mid, now_ms)]

    def _unread(self, now_ms: int) -> Frame:
        waiting = self._window.count
        listed = waiting or not self._listed or not self._live
        self._listed = True
        return codec.unread_frame(self._app, self._queue_name if listed else None, waiting, now_ms)

    def _end_of_pull(self, now_ms: int) -> list[Frame]:
        if not (self._pulling and self._caught_up):
            return []
        self._pulling = False
        return [codec.last_frame(self._queue, now_ms)]

    def _rejected(self, update: Rejected, tick: int) -> list[Frame]:
        asked = self._asked.pop(update.rid, None)
        if asked is None:  # what needs no answer is refused in silence: the SDK would not know of what
            return []
        if asked.kind == "arrival":
            assert asked.arrival is not None  # else it stood for a `Ping`, which nobody refuses
            self._late.append(asked.arrival)
            return []
        if asked.kind == "login":
            refusal = refusals.of_login(update)
            if refusal is None:
                return []
            code, reason = refusal
            return [codec.provision_frame(self._resource, code=code, reason=reason)]
        if asked.kind == "delivery" and update.code in _NOTHING_TO_DELIVER:
            return [codec.answer_frame(asked.local_id, asked.mid, self._now())]
        if asked.kind == "message":
            refusal = refusals.of_message(update, asked.to, asks=asked.asks)
        else:
            refusal = refusals.of_receipt(update, recall=asked.kind == "recall")
        return [_refused(asked, refusal, self._now())]

    # news

    def _news(self, update: Item, tick: int) -> list[Frame]:
        found: list[Frame] = []
        for batch in self._batches(update, tick):
            found += self._frames(self._window.push(batch))
        return found

    def _batches(self, update: Item, tick: int) -> Iterable[Batch]:
        return batches(self._dialects.envelopes.news(self._app, self._user, update), tick)

    def _page(self, page: QueuePage, tick: int) -> list[Frame]:
        """What the SDK missed; the page has arrived with the last of it."""
        self._live = page.live
        found: list[Batch] = []
        for item in page.items:
            for batch in self._batches(item, 0):
                batch.of_page = True
                if found and found[-1].takes(batch):
                    found[-1].add(batch)
                else:
                    found.append(batch)
        if found:
            found[-1].ends_page = page.token
        frames: list[Frame] = []
        for batch in found:
            frames += self._frames(self._window.push(batch))
        return frames or self._end_of_pull(self._now())

    def _summary(self, update: Summary, tick: int) -> list[Frame]:
        batch = Batch([self._statistics(update)])
        batch.summary = update.through
        return self._frames(self._window.push(batch))

    def _statistics(self, what: Summary | Kick) -> bytes:
        mid = codec.receipt_id(self._app, self._user, self._resource, self._key)
        return envelopes.statistics(self._app, self._user, mid, self._now(), what)

    def _frames(self, sent: list[Batch]) -> list[Frame]:
        return [self._frame(batch) for batch in sent]

    def _frame(self, batch: Batch) -> Frame:
        if batch.answer:
            return batch.answer
        self._key += 1
        frame = codec.metas_frame(batch.metas, self._key, self._queue, self._now())
        batch.key, batch.metas = self._key, []
        if self._on_way is not None:
            for arrival in batch.arrivals:
                self._on_way.add(arrival.message_id)
        written = self._written
        for heard in batch.heard:
            if heard.held:
                written[heard.conversation] = max(written.get(heard.conversation, 0), heard.held[-1] - 1)
        return frame


_MALFORMED = frozenset({Code.BAD_FRAME, Code.FRAME_TOO_LARGE, Code.NOT_LOGGED_IN, Code.ALREADY_LOGGED_IN})

_ABOUT_A_MESSAGE = (BodyType.READ_ACK, BodyType.DELIVER_ACK, BodyType.RECALL)

_NOTHING_TO_DELIVER = frozenset({Code.UNKNOWN_MESSAGE, Code.RECALLED, Code.EXPIRED})
"""The SDK sends delivery receipts by itself: of a message that is gone by now, nobody minds."""

_ENCODERS: dict[type, Callable[[Any, Any, int], list[Frame]]] = {
    Opened: EasemobDialect._opened,
    Welcome: EasemobDialect._welcome,
    Goodbye: EasemobDialect._goodbye,
    Accepted: EasemobDialect._accepted,
    Done: EasemobDialect._done,
    Pong: EasemobDialect._done,
    Rejected: EasemobDialect._rejected,
    MessageAccepted: EasemobDialect._news,
    Received: EasemobDialect._news,
    Answered: EasemobDialect._news,
    Recalled: EasemobDialect._news,
    Summary: EasemobDialect._summary,
    QueuePage: EasemobDialect._page,
}


def _token(provision: pb.Provision, sync: pb.MSync) -> str:
    """The token of a login, which stands in one of three places, by the SDK's version."""
    found = ""
    try:
        found = json.loads(provision.authToken)["token"]
    except (ValueError, RecursionError, KeyError, TypeError):
        pass  # not there, or not of that shape
    if not isinstance(found, str) or not found:
        found = provision.auth or sync.auth
    return found.removeprefix("$t$")


def _is_group_id(text: str) -> bool:
    return 0 < len(text) <= 64 and "~" not in text and text.isprintable()


def _refused(asked: _Asked, refusal: Refusal, now_ms: int) -> Frame:
    return codec.answer_frame(asked.local_id, asked.mid, now_ms, code=refusal.code, reason=refusal.reason)
