"""What the node tells a device that keeps nothing itself, as the SDK's envelopes. PURE.

Ids of receipts follow from what they say, so that one which is told again is known again.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from receipts.core.events import MessageAccepted
from receipts.core.ids import ConversationId, MessageId, Seq, UserId, direct_members
from receipts.core.ranges import EMPTY
from receipts.node.queued import Answered, Heard, Item, Level, Recalled, Received, Summary

from . import bodies, codec
from .codec import BodyType, Kick, Namespace

__all__ = ["Arrival", "Envelopes", "News", "receipt_id_of", "statistics"]


class Arrival(NamedTuple):
    """A message of somebody else's in a one-to-one conversation: the SDK may owe a receipt for it."""

    message_id: MessageId
    conversation: ConversationId
    seq: Seq


class News(NamedTuple):
    """Envelopes, and what the device has heard once they have arrived."""

    metas: list[bytes]
    heard: Heard
    arrival: Arrival | None = None


def receipt_id_of(message_id: int, member: UserId, level: Level) -> int:
    """The id of a receipt for one message."""
    return codec.receipt_id(message_id, member, level.name)


class Envelopes:
    """Makes envelopes; keeps the last message's, since a group gets it one by one."""

    def __init__(self) -> None:
        self._event: MessageAccepted | None = None
        self._meta = b""

    def news(self, app: str, user: UserId, update: Item) -> News:
        """An update as `user` of `app` is told it."""
        if isinstance(update, MessageAccepted):
            return self._message(app, user, update)
        if isinstance(update, Received):
            return _received(app, update)
        if isinstance(update, Answered):
            return _answered(app, update)
        return _recalled(app, update)

    def _message(self, app: str, user: UserId, event: MessageAccepted) -> News:
        conversation, seq = event.conversation, event.seq
        pair = direct_members(conversation)
        if event is not self._event:
            to = conversation if pair is None else pair[pair[0] == event.author]
            group = pair is None
            payload = bodies.payload_of(event, to, group=group)
            self._meta = codec.meta_bytes(
                app, event.message_id, event.author, to, group=group, at_ms=event.at_ms, payload=payload
            )
            self._event = event
        owes = pair is not None and event.author != user
        arrival = Arrival(event.message_id, conversation, seq) if owes else None
        return News([self._meta], Heard(conversation, (seq, seq + 1)), arrival)


def _received(app: str, update: Received) -> News:
    conversation, member, level, ranges = update.conversation, update.member, update.level, update.ranges
    pair = direct_members(conversation)
    assert pair is not None  # of groups there are none
    to = pair[pair[0] == member]
    if level is Level.ALL_READ or level is Level.CLEARED:
        mid = codec.receipt_id(app, conversation, member, level.name, update.last)
        body = codec.receipt_body(BodyType.CHANNEL_ACK, member, to)
        metas = [codec.meta_bytes(app, mid, member, to, group=False, at_ms=update.at_ms, payload=body)]
        if level is Level.CLEARED:
            return News(metas, Heard(conversation, cleared=update.last))
        return News(metas, Heard(conversation, EMPTY, ranges, ranges))
    kind = BodyType.READ_ACK if level is Level.READ else BodyType.DELIVER_ACK
    metas = []
    for message_id in update.message_ids:
        body = codec.receipt_body(kind, member, to, message_id)
        mid = receipt_id_of(message_id, member, level)
        metas.append(codec.meta_bytes(app, mid, member, to, group=False, at_ms=update.at_ms, payload=body))
    return News(metas, Heard(conversation, EMPTY, ranges, ranges if level is Level.READ else EMPTY))


def _answered(app: str, update: Answered) -> News:
    group, message_id = update.conversation, update.message_id
    metas = []
    for count, reader in enumerate(update.readers, update.before + 1):
        user, content = reader.user, reader.content
        body = codec.receipt_body(BodyType.READ_ACK, user, group, message_id, content=content, count=count)
        mid = receipt_id_of(message_id, user, Level.READ)
        metas.append(codec.meta_bytes(app, mid, user, group, group=True, at_ms=reader.at_ms, payload=body))
    return News(metas, Heard(group, answered=max(reader.version for reader in update.readers)))


def _recalled(app: str, update: Recalled) -> News:
    conversation, by, message_id = update.conversation, update.by, update.message_id
    pair = direct_members(conversation)
    to = conversation if pair is None else pair[pair[0] == by]
    body = codec.receipt_body(BodyType.RECALL, by, to, message_id)
    mid = codec.receipt_id(message_id, by, BodyType.RECALL.name)
    group = pair is None
    meta = codec.meta_bytes(app, mid, by, to, group=group, at_ms=update.at_ms, payload=body)
    return News([meta], Heard(conversation))


def statistics(app: str, user: UserId, mid: int, now_ms: int, what: Summary | Kick) -> bytes:
    """News for the session itself: what was answered in its absence, or why it ends."""
    if isinstance(what, Summary):
        entries = [{"mid": str(mid), "gid": group, "count": count} for group, _, mid, count in what.counts]
        body = codec.statistics_body(Kick.INFORMATION, json.dumps({"group_ack": entries}))
    else:
        body = codec.statistics_body(what)
    return codec.meta_bytes(
        app, mid, SYSTEM, user, group=False, at_ms=now_ms, payload=body, ns=Namespace.STATISTIC
    )


SYSTEM = "admin"
"""Whom news for the session itself is from; the SDK does not look."""
