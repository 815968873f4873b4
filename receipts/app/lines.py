"""What is printed: updates and answers as one line each, for people or for programs. PURE."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import attrs

from receipts.client.news import Lagged, MarkRefused, News, Offline, Online, SendRefused
from receipts.core import events
from receipts.core.events import By, MessageAccepted
from receipts.core.ids import ConversationId, UserId, direct_members
from receipts.core.ranges import Ranges
from receipts.wire import updates
from receipts.wire.updates import Reader, Rejected

__all__ = ["clock_time", "conversation_name", "json_line", "message_line", "news_line", "seqs_text"]


def seqs_text(ranges: Ranges) -> str:
    """Ranges as people write them.

    >>> seqs_text((1, 4, 9, 10))
    '#1-#3, #9'
    """
    pairs = zip(ranges[::2], ranges[1::2], strict=True)
    return ", ".join(f"#{start}" if stop == start + 1 else f"#{start}-#{stop - 1}" for start, stop in pairs)


def clock_time(at_ms: int) -> str:
    """Node time as a time of the day in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S")


def conversation_name(conversation: ConversationId, me: UserId) -> str:
    """The peer of a one-to-one conversation, the id of a group."""
    pair = direct_members(conversation)
    if pair is None or me not in pair:
        return conversation
    return pair[0] if pair[1] == me else pair[1]


def message_line(message: MessageAccepted, me: UserId) -> str:
    """A message as it stands in a conversation."""
    where = conversation_name(message.conversation, me)
    who = "you" if message.author == me else message.author
    place = f"#{message.seq}" if where == message.author else f"[{where}] #{message.seq}"
    body = message.body if isinstance(message.body, str) else f"{len(message.body)} bytes"
    asks = " (asks for receipts)" if message.asks else ""
    return f"{place} {who}: {body}{asks}"


def news_line(news: News, me: UserId) -> str | None:
    """What happened, or None when there is nothing to say to people."""
    match news:
        case MessageAccepted():
            return message_line(news, me)
        case updates.Delivered():
            return f"delivered to {news.member}: {seqs_text(news.ranges)}"
        case updates.Read():
            return _read_line(news, me)
        case updates.GroupRead():
            return f"[{news.conversation}] #{news.seq} read by {_readers(news.readers)}, {news.count} in all"
        case updates.ReadStatistics():
            counts = ", ".join(f"[{name}] #{seq} by {count}" for name, seq, count in news.counts)
            return f"read while you were away: {counts}"
        case events.MessageRecalled():
            return f"[{conversation_name(news.conversation, me)}] #{news.seq} was recalled by {news.by}"
        case events.UnreadMarked():
            return _marked_line(news, me)
        case events.MemberJoined():
            return f"[{news.conversation}] {news.member} is in"
        case events.MemberLeft():
            return f"[{news.conversation}] {news.member} has left"
        case events.RegisterSet():
            whose = f" of {news.member}" if news.member else ""
            return f"[{conversation_name(news.conversation, me)}] {news.register.value}{whose}: {news.value}"
        case events.SharingChanged():
            told = {True: "shared", False: "kept private"}
            where = conversation_name(news.conversation, me)
            return f"[{where}] deliveries are {told[news.delivered]}, reads are {told[news.read]}"
        case events.MessagesExpired() | events.HistoryCleared():
            where = conversation_name(news.conversation, me)
            return f"[{where}] messages through #{news.through} are gone"
        case Online():
            return "online"
        case Offline():
            return f"offline: {news.reason}; trying again in {news.retry_in_ms} ms"
        case Lagged():
            return f"{news.count} updates were dropped"
        case MarkRefused() | SendRefused():
            return f"refused: {news.reason} ({news.code.value})"
        case Rejected():
            return f"refused: {news.reason} ({news.code.value})"
        case updates.Accepted():
            return f"sent #{news.seq} (message {news.message_id})"
        case _:
            return None  # answers are printed by who asked, pages were taken apart into what they brought


def _read_line(news: updates.Read, me: UserId) -> str:
    where = conversation_name(news.conversation, me)
    seqs = seqs_text(news.ranges)
    if news.member == me:
        return f"[{where}] read on another device: {seqs}"
    how = f" (all through #{news.through})" if news.by is By.CONVERSATION else ""
    return f"read by {news.member}: {seqs}{how}"


def _marked_line(news: events.UnreadMarked, me: UserId) -> str:
    where = conversation_name(news.conversation, me)
    if not news.flagged and not news.ranges:
        return f"[{where}] no longer marked as unread"
    return f"[{where}] marked as unread" + (f": {seqs_text(news.ranges)}" if news.ranges else "")


def _readers(readers: Iterable[Reader]) -> str:
    return ", ".join(
        f'{reader.user} "{reader.content}"' if reader.content else reader.user for reader in readers
    )


def json_line(kind: str, fields: Any) -> str:
    """An object on one line: `type`, then the fields of an attrs value or the entries of a dict.

    Bytes become `{"base64": …}`; ranges are flat lists, start and stop by turns.
    """
    plain = fields if isinstance(fields, dict) else attrs.asdict(fields)
    return json.dumps({"type": kind, **plain}, default=_plain, ensure_ascii=False)


def _plain(found: Any) -> Any:
    if isinstance(found, bytes):
        return {"base64": base64.b64encode(found).decode()}
    if isinstance(found, Iterable):
        return list(found)
    return str(found)
