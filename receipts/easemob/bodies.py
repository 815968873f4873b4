"""Message bodies of both worlds: what a native client sees of the SDK's, and the SDK of native ones. PURE.

A text message of the SDK whose bytes follow from its text is stored as that text, so that it is plain text to
everybody. Any other (pictures, attributes of the application, commands …) is stored as its bytes behind a
mark, and `opened` gives a native client the text in it and the bytes. Either way the SDK gets the bytes that
were sent; a text of a native client becomes a text message of the SDK.
"""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError as ProtobufError

from receipts.core.events import Body, MessageAccepted
from receipts.core.ids import Counts, UserId

from . import msync_pb2 as pb
from .codec import BodyType, ContentType

__all__ = ["MARK", "Opened", "counts_of", "opened", "payload_json", "payload_of", "stored"]

MARK = b"easemob\0"
"""What stands before the bytes of a `MessageBody`; no text and no msgpack begins like this by chance."""

BYTES_EVENT = "receipts.bytes"
"""As what the SDK is given bytes of a native client: a custom message with one attribute, `base64`."""


class Opened(NamedTuple):
    """A stored body, as a native client may show it."""

    text: str
    """Of a text message all there is; of others what comes nearest, which may be nothing."""
    payload: bytes | None
    """The vendor's `MessageBody`, when there is more to it than the text."""


def stored(payload: bytes, body: pb.MessageBody, sender: UserId, to: str, *, group: bool) -> Body:
    """What is stored of a message that the SDK sent.

    Args:
        payload: The bytes of `body`.
        sender, to, group: As the node understands them.
    """
    if len(body.contents) == 1:
        text = body.contents[0].text
        asks = group and body.msgConfig.allowGroupAck
        if payload == _text_payload(sender, to, text, group=group, asks=asks):
            return text
    return MARK + payload


def counts_of(body: pb.MessageBody) -> Counts:
    """Commands to an application are not messages to its user: they raise no badge."""
    contents = body.contents
    commands = bool(contents) and all(content.type == ContentType.COMMAND for content in contents)
    return Counts.SILENT if commands else Counts.YES


def payload_of(event: MessageAccepted, to: str, *, group: bool) -> bytes:
    """A message's `MessageBody` as the SDK gets it.

    Args:
        to: The peer of the author, or the group.
    """
    body = event.body
    if isinstance(body, str):
        return _text_payload(event.author, to, body, group=group, asks=event.asks)
    if body.startswith(MARK):
        return body[len(MARK) :]
    content = pb.Content(type=ContentType.CUSTOM, customEvent=BYTES_EVENT)
    content.customExts.add(key="base64", type=_STRING, stringValue=base64.b64encode(body).decode())
    return _payload(event.author, to, content, group=group, asks=event.asks)


def opened(body: Body) -> Opened:
    """What a native client sees of a body."""
    if isinstance(body, str):
        return Opened(body, None)
    if not body.startswith(MARK):
        return Opened("", None)
    payload = body[len(MARK) :]
    try:
        contents = pb.MessageBody.FromString(payload).contents
    except ProtobufError:
        return Opened("", payload)
    texts = (content.text or content.displayName or content.address for content in contents)
    return Opened(next((text for text in texts if text), ""), payload)


def _text_payload(sender: UserId, to: str, text: str, *, group: bool, asks: bool) -> bytes:
    return _payload(sender, to, pb.Content(type=ContentType.TEXT, text=text), group=group, asks=asks)


def _payload(sender: UserId, to: str, content: pb.Content, *, group: bool, asks: bool) -> bytes:
    body = pb.MessageBody(
        type=BodyType.GROUPCHAT if group else BodyType.CHAT,
        sender=pb.JID(name=sender),
        to=pb.JID(name=to),
        contents=(content,),
    )
    if asks:
        body.msgConfig.allowGroupAck = True
    return body.SerializeToString()


# -- as JSON, for the conversation list


def payload_json(event: MessageAccepted, *, to: str, group: bool) -> dict[str, Any]:
    """A message as the vendor's HTTP calls write it."""
    try:
        body = pb.MessageBody.FromString(payload_of(event, to, group=group))
    except ProtobufError:  # stored by somebody who knew the mark, not the shape
        body = pb.MessageBody()
    return {
        "bodies": [_content_json(content) for content in body.contents],
        "from": event.author,
        "to": to,
        "type": "groupchat" if group else "chat",
        "ext": _attributes(body.ext),
    }


def _content_json(content: pb.Content) -> dict[str, Any]:
    kind = _JSON_TYPES.get(content.type, "txt")
    found: dict[str, Any] = {"type": kind}
    if kind in ("txt", "combine"):
        found["msg"] = content.text
    elif kind == "cmd":
        found["action"] = content.action
    elif kind == "custom":
        found |= {"customEvent": content.customEvent, "customExts": [_attributes(content.customExts)]}
    elif kind == "loc":
        found |= {"addr": content.address, "lat": content.latitude, "lng": content.longitude}
    if content.remotePath:
        found |= {
            "url": content.remotePath,
            "secret": content.secretKey,
            "filename": content.displayName,
            "file_length": content.fileLength,
        }
    if content.HasField("size"):
        found["size"] = {"width": content.size.width, "height": content.size.height}
    if content.duration:
        found["length"] = content.duration
    return found


_JSON_TYPES: dict[int, str] = {
    ContentType.TEXT: "txt",
    ContentType.IMAGE: "img",
    ContentType.VIDEO: "video",
    ContentType.LOCATION: "loc",
    ContentType.VOICE: "audio",
    ContentType.FILE: "file",
    ContentType.COMMAND: "cmd",
    ContentType.CUSTOM: "custom",
    ContentType.COMBINE: "combine",
}

_BOOL, _FLOAT, _DOUBLE, _STRING, _JSON_STRING = 1, 5, 6, 7, 8


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _attribute(pair) for pair in pairs}


def _attribute(pair: pb.KeyValue) -> Any:
    if pair.type == _STRING:
        return pair.stringValue
    if pair.type == _JSON_STRING:
        try:
            return json.loads(pair.stringValue)
        except (ValueError, RecursionError):
            return pair.stringValue
    if pair.type == _FLOAT:
        return pair.floatValue
    if pair.type == _DOUBLE:
        return pair.doubleValue
    return bool(pair.varintValue) if pair.type == _BOOL else pair.varintValue
