"""Message receipts and unread counts for instant messaging.

Everything an application needs is here, resolved when it is first asked for (PEP 562): embedding the machine
imports no event loop, no transport, no database.

    import receipts
    chat = receipts.Conversation.between("alice", "bob")

`receipts.events`, `receipts.decide`, `receipts.commands`, `receipts.updates` and `receipts.news` are
vocabularies to import as modules; `receipts.connect` is the client; `receipts.Node` is the server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from receipts.client import news
    from receipts.client.connection import Connection, ConnectionLost, connect
    from receipts.client.reading import ReadingPolicy
    from receipts.core import decide, events
    from receipts.core.conversation import Conversation, join
    from receipts.core.errors import (
        Code,
        DecodeError,
        LocalProtocolError,
        ReceiptsError,
        Refused,
        RemoteProtocolError,
    )
    from receipts.core.explain import Explanation, Finding, explain, repair, verify
    from receipts.core.ids import ConversationKind, Counts, direct
    from receipts.core.policy import Features, GroupPolicy, Limits, RollUp
    from receipts.core.ranges import Ranges, RangeSet
    from receipts.core.status import Status, Unknown
    from receipts.node.runner import Node
    from receipts.storage.memory import MemoryStore
    from receipts.storage.sqlite import SQLiteStore
    from receipts.wire import commands, updates

_HOMES = {
    "Code": "core.errors",
    "Conversation": "core.conversation",
    "Connection": "client.connection",
    "ConnectionLost": "client.connection",
    "ConversationKind": "core.ids",
    "Counts": "core.ids",
    "DecodeError": "core.errors",
    "Explanation": "core.explain",
    "Features": "core.policy",
    "Finding": "core.explain",
    "GroupPolicy": "core.policy",
    "Limits": "core.policy",
    "LocalProtocolError": "core.errors",
    "MemoryStore": "storage.memory",
    "Node": "node.runner",
    "RangeSet": "core.ranges",
    "Ranges": "core.ranges",
    "ReadingPolicy": "client.reading",
    "ReceiptsError": "core.errors",
    "Refused": "core.errors",
    "RemoteProtocolError": "core.errors",
    "RollUp": "core.policy",
    "SQLiteStore": "storage.sqlite",
    "Status": "core.status",
    "Unknown": "core.status",
    "connect": "client.connection",
    "direct": "core.ids",
    "explain": "core.explain",
    "join": "core.conversation",
    "repair": "core.explain",
    "verify": "core.explain",
}
_MODULES = {
    "commands": "wire.commands",
    "decide": "core.decide",
    "events": "core.events",
    "news": "client.news",
    "updates": "wire.updates",
}

__all__ = [
    "Code",
    "Connection",
    "ConnectionLost",
    "Conversation",
    "ConversationKind",
    "Counts",
    "DecodeError",
    "Explanation",
    "Features",
    "Finding",
    "GroupPolicy",
    "Limits",
    "LocalProtocolError",
    "MemoryStore",
    "Node",
    "RangeSet",
    "Ranges",
    "ReadingPolicy",
    "ReceiptsError",
    "Refused",
    "RemoteProtocolError",
    "RollUp",
    "SQLiteStore",
    "Status",
    "Unknown",
    "commands",
    "connect",
    "decide",
    "direct",
    "events",
    "explain",
    "join",
    "news",
    "repair",
    "updates",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        found: Any = import_module(f"{__name__}.{_MODULES[name]}")
    elif name in _HOMES:
        found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
