"""Commands and updates in a few words, the most telling first: what an arrow in a diagram is labelled with.

PURE. Nothing is parsed back; the whole content is left to `repr`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import attrs

from receipts.core.ranges import Ranges
from receipts.wire import commands, updates

__all__ = ["ranges_text", "words_of"]


def ranges_text(ranges: Ranges) -> str:
    """Ranges as people write them.

    >>> ranges_text((1, 4, 9, 10))
    '#1–#3, #9'
    """
    pairs = zip(ranges[::2], ranges[1::2], strict=True)
    return ", ".join(f"#{start}" if stop == start + 1 else f"#{start}–#{stop - 1}" for start, stop in pairs)


def words_of(said: Any) -> str:
    """A command, an update or an event in one line.

    >>> words_of(commands.ReadConversation(1, "alice~bob", 3))
    'ReadConversation alice~bob through #3'
    """
    kind = type(said).__name__
    special = _SPECIAL.get(type(said))
    found = special(said) if special is not None else _fields(said)
    return " ".join([kind, *(text for text in found if text)])


def _fields(said: Any) -> Iterable[str]:
    """What is not as it is by default, field by field."""
    for field in attrs.fields(type(said)):
        content = getattr(said, field.name)
        if field.name in _SILENT or content == field.default:
            continue
        yield _text(field.name, content)


_SILENT = frozenset(
    {
        "rid",
        "at_ms",
        "message_id",
        "client_id",
        "version",
        "device",
        "body",
        "shares",
        "mark_version",
        "prefix",
    }
)
"""Fields that say little to who looks at a diagram."""

_BARE = frozenset({"conversation", "member", "user", "code", "register"})
"""Fields that need no name."""

_NUMBERS = {"seq": "", "through": "through ", "from_seq": "from ", "first_seq": "from ", "head": "head "}
_FLAGS = {
    "asks": "asking",
    "live": "and then live",
    "full": "full state",
    "flagged": "flagged",
    "more": "more",
}


def _text(name: str, content: Any) -> str:
    match content:
        case _ if name == "ranges" or name.endswith("ranges"):
            return ranges_text(content)
        case bool() if name in _FLAGS:
            return _FLAGS[name] if content else ""
        case Enum():
            return str(content.value) if name in _BARE else f"{name}={content.name.lower()}"
        case int() if name in _NUMBERS:
            return f"{_NUMBERS[name]}#{content}"
        case str() if name in _BARE:
            return content
        case str() if name in ("author", "by"):
            return f"by {content}"
        case tuple():
            return f"{name}: {_many(content)}"
        case str():
            return f"{name} “{content}”"
        case _:
            return f"{name}={content}"


def _many(contents: tuple[Any, ...]) -> str:
    return ", ".join(_one(content) for content in contents)


def _one(content: Any) -> str:
    match content:
        case updates.Reader():
            return content.user + (f" “{content.content}”" if content.content else "")
        case updates.ConversationPart():
            return content.conversation
        case updates.Summary():
            return f"{content.conversation} {content.unread}"
        case updates.MemberStatus():
            return f"#{content.seq} {content.user} {content.status.name.lower()}"
        case tuple() | list():
            return "/".join(str(one) for one in content)
        case _ if attrs.has(type(content)):
            return words_of(content)
        case _:
            return str(content)


def _hello(said: commands.Hello) -> Iterable[str]:
    yield "from the beginning" if said.resume is None else f"resumes {said.resume}"


def _send(said: commands.SendMessage) -> Iterable[str]:
    yield said.conversation
    yield f"number {said.number}"
    yield "asking" if said.asks else ""
    yield said.counts.name.lower() if said.counts else ""


def _welcome(said: updates.Welcome) -> Iterable[str]:
    yield "full state" if said.full else "what was missed"
    yield f"sends known through {said.number}" if said.number else ""


def _accepted(said: updates.Accepted) -> Iterable[str]:
    yield from (said.conversation, f"#{said.seq}", f"number {said.number}")


def _catch_up(said: updates.CatchUp) -> Iterable[str]:
    yield "full state:" if said.full else ""
    yield _many(said.parts) if said.parts else "nothing"
    yield "and then live" if said.live else "more to come"
    yield f"({said.token})"


def _group_read(said: updates.GroupRead) -> Iterable[str]:
    yield from (said.conversation, f"#{said.seq}", f"count {said.count}: {_many(said.readers)}")


def _rejected(said: updates.Rejected) -> Iterable[str]:
    yield said.code.value
    yield f"{said.conversation or ''} {ranges_text(said.ranges)}".strip()
    yield f"limit {said.limit}" if said.limit is not None else ""
    yield f"again in {said.retry_after_ms} ms" if said.retry_after_ms else ""


_SPECIAL: dict[type, Callable[[Any], Iterable[str]]] = {
    commands.Hello: _hello,
    commands.SendMessage: _send,
    updates.Welcome: _welcome,
    updates.Accepted: _accepted,
    updates.CatchUp: _catch_up,
    updates.GroupRead: _group_read,
    updates.Rejected: _rejected,
}
