"""What a run came to, as one text: runs that differ only in their wires give the same text (I-31).

Names that a node or client makes up (versions, message ids) are replaced by their order, times by a word.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from typing import Any

import attrs

from receipts.core.conversation import Conversation
from receipts.storage.base import Store
from receipts.storage.codec import load_conversation
from tests.e2e.stage import Stage

__all__ = ["canonical", "device_outcomes", "stored"]

_RENAMED = ("version", "message_id")


async def device_outcomes(stage: Stage) -> dict[str, Any]:
    """What all open devices know and are answered, once everything that is due has been said."""
    found: dict[str, Any] = {}
    for device in stage.devices:
        await device.wire.beat()  # all that was said has come
    for device in stage.devices:
        await device.me.flush()
    for device in stage.devices:
        await device.wire.beat()
    for device in stage.devices:
        me = device.me
        found[f"{me.session.profile.app} {me.user} {me.device}"] = {
            "replica": me.session.replica.dump(),
            "list": me.conversations(),
            "badge": me.badge(),
            "node's list": (await me.list_conversations()).items,
            "node's badge": await me.server_badge(),
        }
    return found


def stored(store: Store) -> dict[str, Conversation]:
    """All conversations in a store that no node uses now, by app and name."""
    store.open(now_ms=0, life="", secret=b"")
    try:
        found = {}
        for _, app, name in store.all_conversations(0, 10_000):
            rows = store.conversation(app, name)
            assert rows is not None
            found[f"{app} {name}"] = load_conversation(rows)
        return found
    finally:
        store.close()


def canonical(found: Any, *, numbered: bool = True) -> str:
    """One text for all runs that came to the same.

    Args:
        numbered: Whether the order in which the node gave its numbers belongs to it.
    """
    plain = _plain(found, "")
    ranks = {
        key: {
            number: rank if numbered else 0 for rank, number in enumerate(sorted(set(_numbers(plain, key))))
        }
        for key in _RENAMED
    }
    return json.dumps(_renamed(plain, ranks), sort_keys=True, indent=1)


def _plain(item: Any, key: str) -> Any:
    """Dictionaries, lists and texts, in which every version, id and time stands under its name."""
    if isinstance(item, Conversation):
        item = item.dump()
    if isinstance(item, Enum):
        return str(item)
    if attrs.has(type(item)):
        fields = {field.name: getattr(item, field.name) for field in attrs.fields(type(item))}
        fields.pop("rid", None)
        return {name: _plain(content, name) for name, content in fields.items()}
    if isinstance(item, dict):
        return _plain_dict(item, key)
    if isinstance(item, (list, tuple)):
        names = {"advances": ["version", "at_ms"], "messages": ["seq", "message_id"]}.get(key)
        if names and item and isinstance(item[0], list):
            return [_named(names, line) for line in item]
        return [_plain(one, "") for one in item]
    return item


def _plain_dict(item: dict[Any, Any], key: str) -> Any:
    if key == "periods":
        return [{"version": version, "bounds": bounds} for version, bounds in sorted(item.items())]
    if key == "registers":
        return {name: _named(["version"], known) for name, known in item.items()}
    if key == "readers":
        return {name: _named(["version", "at_ms"], known) for name, known in item.items()}
    found = {}
    for name, content in item.items():
        if name == "sharing" or (name == "unread_mark" and len(content) == 3):
            found[name] = _named(["version"], content)
        else:
            found[str(name)] = _plain(content, str(name))
    return found


def _named(names: list[str], line: list[Any]) -> dict[str, Any]:
    return {**dict(zip(names, line, strict=False)), "rest": _plain(line[len(names) :], "")}


def _numbers(item: Any, wanted: str) -> Iterator[int]:
    if isinstance(item, dict):
        for key, content in item.items():
            if key == wanted:
                yield content
            else:
                yield from _numbers(content, wanted)
    elif isinstance(item, list):
        for one in item:
            yield from _numbers(one, wanted)


def _renamed(item: Any, ranks: dict[str, dict[int, int]]) -> Any:
    if isinstance(item, list):
        return [_renamed(one, ranks) for one in item]
    if not isinstance(item, dict):
        return item
    found: dict[str, Any] = {}
    for key, content in item.items():
        if key in ranks:
            found[key] = ranks[key][content]
        elif key.endswith("_ms"):
            found[key] = "a time" if content else "never"
        else:
            found[key] = _renamed(content, ranks)
    return found
