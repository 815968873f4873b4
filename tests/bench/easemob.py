"""Users on the vendor's dialect for the load generator: the frames of its Web SDK, without the SDK.

What an SDK does by itself is done here: it acknowledges what comes by its queue's key, answers each text
with a delivery receipt, and its application with a read receipt, the two kinds in turn. So a round takes
more frames than natively: each receipt is a message that is answered, and each frame that brings something
is acknowledged."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from receipts.core.ids import ConversationId, UserId
from receipts.easemob import msync_pb2 as pb
from receipts.node.accounts import sign_token
from receipts.storage.base import UserRow

from .load_checks import Receiver, Sender, Wrong, body_of
from .load_device import FAR_MS, Owner, split_websocket, upgrade, wrap_websocket
from .server import APP_KEY, SECRET

__all__ = ["VendorDevice", "VendorReceiver", "VendorSender"]

SYNC, UNREAD, NOTICE, PROVISION = 0, 1, 2, 3
CHAT = 1
TEXT, READ_ACK, DELIVER_ACK, CHANNEL_ACK = 1, 4, 5, 7
DOMAIN = "easemob.com"

_TAIL = bytes.fromhex("5800a00180a080befbebd3c068")
"""encryptType and traceId, as the SDK ends each of its frames."""


class VendorSender(Sender):
    """As `Sender`, told of each message by its id."""

    __slots__ = ("delivered_ids", "waiting")

    def __init__(self, user: UserId, peer: UserId, conversation: ConversationId) -> None:
        super().__init__(user, peer, conversation)
        self.waiting: deque[int] = deque()
        """Ids of messages that were taken and not read."""
        self.delivered_ids: set[int] = set()
        """Of those, the ones that were delivered."""

    def say(self, now: float) -> bytes:
        """The next message, as a frame."""
        self.sent = number = self.sent + 1
        self.began.append(now)
        body = pb.MessageBody(type=TEXT, contents=[pb.Content(type=0, text=body_of(number))])
        return _chat_frame(number, self.user, self.peer, body)

    def answered(self, answer: pb.CommSyncDL) -> None:
        """The server took a message."""
        number = self.accepted + 1
        if answer.status.errorCode or answer.metaId != number or answer.serverId <= self.message_id:
            raise Wrong(f"after #{self.accepted} of {self.sent}: {answer}")
        self.accepted = number
        self.message_id = answer.serverId
        self.waiting.append(answer.serverId)

    def heard(self, meta: pb.Meta, body: pb.MessageBody) -> list[bytes]:
        """A receipt."""
        mid = body.ackMessageId
        if meta.id % 2 == 0 or body.sender.name != self.peer:
            raise Wrong(f"to {self.user} who sends: {meta}")
        if body.type == DELIVER_ACK and mid in self.waiting and mid not in self.delivered_ids:
            self.delivered_ids.add(mid)
            self.delivered += 1
        elif body.type == READ_ACK and mid in self.waiting:
            self._is_read(mid)
        elif body.type == CHANNEL_ACK:
            for each in list(self.waiting):  # nothing that was taken before is unread for the peer
                self._is_read(each)
        else:
            raise Wrong(f"to {self.user} with {list(self.waiting)} waiting: {body}")
        return []

    def _is_read(self, mid: int) -> None:
        self.waiting.remove(mid)
        if mid in self.delivered_ids:
            self.delivered_ids.remove(mid)
        else:
            self.delivered += 1  # a read says so too
        self.read += 1


class VendorReceiver(Receiver):
    """As `Receiver`, in the vendor's words."""

    __slots__ = ("_local", "unanswered")

    def __init__(self, user: UserId, peer: UserId, conversation: ConversationId) -> None:
        super().__init__(user, peer, conversation)
        self._local = 0
        self.unanswered: set[int] = set()
        """Local ids of receipts that the server has not taken."""

    def answered(self, answer: pb.CommSyncDL) -> None:
        """The server took a receipt."""
        if answer.status.errorCode or answer.metaId not in self.unanswered:
            raise Wrong(f"to {self.user} for a receipt: {answer}")
        self.unanswered.remove(answer.metaId)

    def heard(self, meta: pb.Meta, body: pb.MessageBody) -> list[bytes]:
        """A message: it is delivered, and read."""
        seq = self.held + 1
        if body.type != TEXT or body.contents[0].text != body_of(seq) or meta.id % 2:
            raise Wrong(f"to {self.user} who has #{self.held} of {self.peer}: {meta}")
        self.held = seq
        said = [self._receipt(DELIVER_ACK, meta.id)]
        if not self.reads:
            self.kept[seq] = meta.id
        elif seq & 1:
            said.append(self._receipt(READ_ACK, meta.id))
        else:
            said.append(self._receipt(CHANNEL_ACK, 0))
        return said

    def _receipt(self, kind: int, mid: int) -> bytes:
        self._local = local = self._local + 1
        self.unanswered.add(local)
        body = pb.MessageBody(type=kind, contents=[pb.Content()])
        if mid:
            body.ackMessageId = mid
        return _chat_frame(local, self.user, self.peer, body)


def _jid(name: str) -> pb.JID:
    return pb.JID(appKey=APP_KEY, name=name, domain=DOMAIN)


def _chat_frame(local: int, user: str, peer: str, body: pb.MessageBody) -> bytes:
    body.sender.name = user
    body.to.name = peer
    meta = pb.Meta(id=local, to=_jid(peer), ns=CHAT, payload=body.SerializeToString(), routetype=0)
    return _frame(SYNC, pb.CommSyncUL(meta=meta).SerializeToString())


def _frame(command: int, payload: bytes = b"") -> bytes:
    return pb.MSync(version=0, command=command, payload=payload).SerializeToString() + _TAIL


class VendorDevice(asyncio.Protocol):
    """Logs in as the SDK does, then does what its end of the conversation says."""

    def __init__(self, owner: Owner, end: Any, address: tuple[str, int]) -> None:
        self.end = end
        self._owner = owner
        self._address = address
        self._rest = b""
        self._shaken = False
        self._leaving = False
        self._transport: Any = None
        self.live: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Set when it is logged in."""
        row = UserRow(APP_KEY, end.user, "", 0, True, True, 0, 0, False)
        self._token = sign_token(SECRET, row, expires_ms=FAR_MS)

    # -- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(upgrade("/websocket"))

    def data_received(self, data: bytes) -> None:
        try:
            self._received(self._rest + data if self._rest else data)
        except Exception as error:
            self._owner.fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._leaving:
            self._owner.fail(exc or Wrong(f"the link of {self.end.user} was closed"))

    # -- what comes

    def _received(self, data: bytes) -> None:
        if not self._shaken:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            if b" 101 " not in head:
                raise Wrong(f"no websocket: {head!r}")
            self._shaken = True
            self._log_in()
        frames, self._rest = split_websocket(data)
        replies: list[bytes] = []
        for frame in frames:
            replies += self._take(pb.MSync.FromString(frame))
        if replies:
            self.say(replies)
        self._owner.heard(self)

    def _log_in(self) -> None:
        provision = pb.Provision(osType=16, version="4.21.1", deviceName="webim_web_bench")
        provision.resource = "webim_web_bench"
        provision.authToken = json.dumps({"token": f"$t${self._token}"})
        frame = pb.MSync(version=0, command=PROVISION, payload=provision.SerializeToString())
        frame.guid.CopyFrom(_jid(self.end.user))
        frame.guid.clientResource = provision.resource
        self.say([frame.SerializeToString()])

    def _take(self, frame: pb.MSync) -> list[bytes]:
        match frame.command:
            case 3:
                answer = pb.Provision.FromString(frame.payload)
                if answer.status.errorCode:
                    raise Wrong(f"{self.end.user} logs in and is told {answer}")
                return [_frame(UNREAD)]
            case 1:
                found = pb.CommUnreadDL.FromString(frame.payload)
                if not self.live.done():
                    self.live.set_result(None)
                return [self._pull(entry.queue) for entry in found.unread]
            case 2:
                notice = pb.CommSyncUL.FromString(b"\x1a" + frame.payload[1:])  # both hold one queue
                return [self._pull(notice.queue)]
            case 0:
                return self._sync(pb.CommSyncDL.FromString(frame.payload))
            case other:
                raise Wrong(f"a frame of command {other}")

    @staticmethod
    def _pull(queue: pb.JID, key: int = 0) -> bytes:
        asked = pb.CommSyncUL(queue=queue)
        if key:
            asked.key = key
        return _frame(SYNC, asked.SerializeToString())

    def _sync(self, sync: pb.CommSyncDL) -> list[bytes]:
        if sync.metaId:
            self.end.answered(sync)
            return []
        said: list[bytes] = []
        for raw in sync.metas:
            meta = pb.Meta.FromString(raw)
            if meta.ns != CHAT:
                raise Wrong(f"to {self.end.user}: {meta}")
            said += self.end.heard(meta, pb.MessageBody.FromString(meta.payload))
        if sync.metas and sync.HasField("nextKey"):
            said.append(self._pull(pb.JID.FromString(sync.queue), sync.nextKey))
        return said

    # -- what goes

    def begin(self, now: float, count: int = 1) -> None:
        """So many more rounds, in one write."""
        self.say([self.end.say(now) for _ in range(count)])

    def say(self, said: Iterable[bytes]) -> None:
        """One write for all these frames."""
        self._transport.write(b"".join(map(wrap_websocket, said)))

    async def check_counts(self) -> None:
        """Ask over HTTP for the unread counts, as an application does."""
        org, app = APP_KEY.split("#")
        path = f"/{org}/{app}/sdk/user/{quote(self.end.user)}/user_channels/list?limit=20&cursor="
        reader, writer = await asyncio.open_connection(*self._address)
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n"
            f"Authorization: Bearer {self._token}\r\n\r\n".encode()
        )
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise Wrong(f"{path} is answered with {head!r} {body!r}")
        found = json.loads(body)["data"]["channel_infos"]
        counts = {chat["session_to"]: chat["unread_num"] for chat in found}
        if counts.get(self.end.peer, 0) != len(self.end.unread):
            raise Wrong(f"{self.end.user} has {len(self.end.unread)} unread, the node says {counts}")

    def close(self) -> None:
        """Leave."""
        self._leaving = True
        if self._transport is not None:
            self._transport.close()
