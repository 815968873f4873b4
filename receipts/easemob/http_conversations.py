"""The vendor's calls for the list of conversations, with unread counts and last messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from receipts.core.ids import ConversationKind, direct_members
from receipts.node.commands import Enter
from receipts.wire.commands import ListConversations
from receipts.wire.updates import Conversations, Summary

from .bodies import payload_json
from .http_calls import Asked

__all__ = ["list_channels", "list_conversations"]

PAGE_MAX = 50
CHANNELS_MAX = 1000
"""Conversations that the older call gives at most, as it knows no pages."""


async def list_conversations(asked: Asked) -> Mapping[str, Any]:
    """`GET sdk/user/{user}/user_channels/list`: the latest first, behind a cursor."""
    asked.is_for(asked.part("user"))
    if asked.query("is_top") == "true":  # nothing is pinned here, whoever asks
        await asked.ask(Enter(rid=1, app=asked.app, token=asked.token))
        return {"data": {"cursor": "", "channel_infos": []}}
    limit = asked.number("limit", 20, least=1, most=PAGE_MAX)
    with_empty = asked.query("needEmptySession") == "true"
    cursor, found = asked.query("cursor"), list[Summary]()
    while True:
        page = await _page(asked, cursor, limit - len(found))
        found += [item for item in page.items if item.head or with_empty]
        cursor = page.cursor
        if not cursor or len(found) >= limit:
            break
    return {"data": {"cursor": cursor, "channel_infos": [_info(asked, item) for item in found]}}


async def list_channels(asked: Asked) -> Mapping[str, Any]:
    """`GET users/{user}/user_channels`, and `…/page` with pages from 1 on: the same for older SDKs."""
    asked.is_for(asked.part("user"))
    size = asked.number("pageSize", CHANNELS_MAX, least=1, most=CHANNELS_MAX)
    start = (asked.number("pageNum", 1, least=1, most=CHANNELS_MAX) - 1) * size
    cursor, found = "", list[Summary]()
    while len(found) < start + size:
        page = await _page(asked, cursor, PAGE_MAX)
        found += [item for item in page.items if item.head]
        cursor = page.cursor
        if not cursor:
            break
    listed = found[start : start + size]
    return {"data": {"channel_infos": [_channel(asked, item) for item in listed]}}


async def _page(asked: Asked, cursor: str, limit: int) -> Conversations:
    found: Conversations = await asked.ask(ListConversations(rid=1, cursor=cursor, limit=limit))
    return found


def _peer(asked: Asked, item: Summary) -> str:
    """The other user, or the group."""
    pair = direct_members(item.conversation)
    if pair is None:
        return item.conversation
    return pair[0] if pair[1] == asked.user else pair[1]


def _info(asked: Asked, item: Summary) -> dict[str, Any]:
    return {
        "session_to": _peer(asked, item),
        "session_type": "chat" if item.kind is ConversationKind.DIRECT else "groupchat",
        "unread_num": item.unread,
        "is_top": False,
        "update_top_status_time": 0,
        "meta": _last(item),
    }


def _channel(asked: Asked, item: Summary) -> dict[str, Any]:
    domain = "easemob.com" if item.kind is ConversationKind.DIRECT else "conference.easemob.com"
    return {
        "channel_id": f"{asked.app}_{_peer(asked, item)}@{domain}",
        "unread_num": item.unread,
        "meta": _last(item),
    }


def _last(item: Summary) -> dict[str, Any]:
    """The newest message; what it says is a JSON text in it. Empty when there is none to be seen."""
    message = item.last
    if message is None:
        return {}
    pair = direct_members(item.conversation)
    to = item.conversation if pair is None else pair[pair[0] == message.author]
    payload = payload_json(message, to=to, group=pair is None)
    try:
        text = json.dumps(payload, allow_nan=False)
    except (ValueError, RecursionError):  # attributes of somebody's own that are no JSON
        text = json.dumps({**payload, "bodies": [], "ext": {}})
    return {
        "id": str(message.message_id),
        "timestamp": message.at_ms,
        "from": message.author,
        "to": to,
        "payload": text,
    }
