"""Frames of the vendor's Web SDK: reading what comes in, and writing what goes out. PURE.

One binary websocket message is one `MSync`; its `payload` is another message, by `command`. What the numbers
mean stands here; who says what and when is in `session`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import IntEnum
from hashlib import blake2b
from typing import TypeVar

from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message

from receipts.core.errors import DecodeError
from receipts.core.ids import UserId

from . import msync_pb2 as pb

__all__ = [
    "GROUP_DOMAIN",
    "USER_DOMAIN",
    "BodyType",
    "Command",
    "ContentType",
    "Kick",
    "Namespace",
    "StatusCode",
    "answer_frame",
    "farewell_frame",
    "last_frame",
    "meta_bytes",
    "metas_frame",
    "parse",
    "provision_frame",
    "queue_bytes",
    "receipt_body",
    "receipt_id",
    "statistics_body",
    "unread_frame",
]

USER_DOMAIN = "easemob.com"
GROUP_DOMAIN = "conference.easemob.com"
"""What tells a group from a user."""


class Command(IntEnum):
    """`MSync.command`."""

    SYNC = 0
    UNREAD = 1
    NOTICE = 2
    PROVISION = 3
    LOGOUT = 4


class Namespace(IntEnum):
    """`Meta.ns`."""

    STATISTIC = 0
    CHAT = 1


class BodyType(IntEnum):
    """`MessageBody.type`."""

    NORMAL = 0
    CHAT = 1
    GROUPCHAT = 2
    CHATROOM = 3
    READ_ACK = 4
    DELIVER_ACK = 5
    RECALL = 6
    CHANNEL_ACK = 7
    EDIT = 8


class ContentType(IntEnum):
    """`Content.type`."""

    TEXT = 0
    IMAGE = 1
    VIDEO = 2
    LOCATION = 3
    VOICE = 4
    FILE = 5
    COMMAND = 6
    CUSTOM = 7
    COMBINE = 8


class StatusCode(IntEnum):
    """`Status.errorCode`, as far as we say it."""

    OK = 0
    FAIL = 1
    WRONG_PARAMETER = 4
    PERMISSION_DENIED = 7
    PB_PARSER_ERROR = 10
    TOO_MANY_DEVICES = 13


class Kick(IntEnum):
    """`StatisticsBody.operation`: news, or why a session is ended for good."""

    INFORMATION = 0
    USER_REMOVED = 1
    ANOTHER_DEVICE = 2
    PASSWORD_CHANGED = 3
    BY_OTHER_DEVICE = 4


_M = TypeVar("_M", bound=Message)


def parse(kind: type[_M], data: bytes) -> _M:
    """Read a message.

    Raises:
        DecodeError: These bytes are not one.
    """
    try:
        return kind.FromString(data)
    except ProtobufError as error:
        raise DecodeError(f"not a {kind.__name__}: {error}") from None


# -- frames to the client

_OK = pb.Status(errorCode=StatusCode.OK)


def _frame(command: Command, payload: Message) -> bytes:
    return pb.MSync(version=0, command=command, payload=payload.SerializeToString()).SerializeToString()


def provision_frame(
    resource: str, *, expires_ms: int = 0, code: int = StatusCode.OK, reason: str = ""
) -> bytes:
    """The answer to a login: accepted, with the time at which the token expires, or refused for a reason."""
    status = pb.Status(errorCode=code, reason=reason) if code else _OK
    answer = pb.Provision(status=status, resource=resource)
    if expires_ms:
        answer.authToken = json.dumps({"expires_in": expires_ms})
    return _frame(Command.PROVISION, answer)


def unread_frame(app: str, queue: str | None, n: int, now_ms: int) -> bytes:
    """Which queue holds something; None for none."""
    answer = pb.CommUnreadDL(status=_OK, timestamp=now_ms)
    if queue is not None:
        answer.unread.add(queue=pb.JID(appKey=app, name=queue, domain=USER_DOMAIN), n=n)
    return _frame(Command.UNREAD, answer)


def answer_frame(
    local_id: int, mid: int, now_ms: int, *, code: int = StatusCode.OK, reason: str = ""
) -> bytes:
    """What became of a message, receipt or greeting that the client sent under `local_id`."""
    status = pb.Status(errorCode=code, reason=reason) if code else _OK
    answer = pb.CommSyncDL(status=status, metaId=local_id, timestamp=now_ms)
    if mid:
        answer.serverId = mid
    return _frame(Command.SYNC, answer)


def metas_frame(metas: Iterable[bytes], next_key: int, queue: bytes, now_ms: int) -> bytes:
    """Messages, receipts and statistics, to be acknowledged with `next_key`."""
    news = pb.CommSyncDL(
        status=_OK, metas=metas, nextKey=next_key, queue=queue, isLast=False, timestamp=now_ms
    )
    return _frame(Command.SYNC, news)


def last_frame(queue: bytes, now_ms: int) -> bytes:
    """The queue is empty now."""
    return _frame(Command.SYNC, pb.CommSyncDL(status=_OK, queue=queue, isLast=True, timestamp=now_ms))


def farewell_frame(code: int, reason: str) -> bytes:
    """Why the link is closed, for whoever reads along: the SDK only notes it."""
    return _frame(Command.LOGOUT, pb.Logout(reason=reason, status=pb.Status(errorCode=code, reason=reason)))


def queue_bytes(app: str, queue: str) -> bytes:
    """The name of a queue, as it stands in every frame."""
    return pb.JID(appKey=app, name=queue, domain=USER_DOMAIN).SerializeToString()


# -- what is in them


def meta_bytes(
    app: str, mid: int, sender: UserId, to: str, *, group: bool, at_ms: int, payload: bytes, ns: int = 1
) -> bytes:
    """An envelope around a body. Which of the sender's devices it came from is nobody's business."""
    return pb.Meta(
        id=mid,
        sender=pb.JID(appKey=app, name=sender, domain=USER_DOMAIN),
        to=pb.JID(appKey=app, name=to, domain=GROUP_DOMAIN if group else USER_DOMAIN),
        timestamp=at_ms,
        ns=ns,
        payload=payload,
    ).SerializeToString()


_NO_CONTENT = pb.Content()


def receipt_body(
    kind: BodyType,
    sender: UserId,
    to: str,
    mid: int = 0,
    *,
    content: str | None = None,
    count: int | None = None,
) -> bytes:
    """A receipt.

    Args:
        mid: The message that it is about; 0 when it is about a conversation.
        content: Of a group receipt: the reader's words.
        count: Of a group receipt: the readers up to now. The SDK reads it from the first `ext`, as JSON.
    """
    body = pb.MessageBody(type=kind, sender=pb.JID(name=sender), to=pb.JID(name=to), contents=(_NO_CONTENT,))
    if count is not None:
        body.ext.add(key="group_ack", type=JSON_STRING, stringValue=json.dumps({str(mid): count}))
    if mid:
        body.ackMessageId = mid
    if content is not None:
        body.msgConfig.allowGroupAck = True
        body.ackContent = content
    return body.SerializeToString()


JSON_STRING = 8
"""`KeyValue.type`."""


def statistics_body(operation: int, location: str | None = None) -> bytes:
    """News for the session itself: a summary of what was read in its absence, or its end."""
    body = pb.StatisticsBody(operation=operation)
    if location is not None:
        body.location = location
    return body.SerializeToString()


def receipt_id(*about: object) -> int:
    """An id for a receipt, the same whenever it is made again: odd, where those of messages are even, and
    below 2**63."""
    digest = blake2b("\0".join(map(str, about)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") & _BELOW_2_63 | 1


_BELOW_2_63 = (1 << 63) - 1
