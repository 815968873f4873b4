"""The tables of docs/protocol.md, made from the code.

`python -m tests.wire.frames_table` prints them, with `--write` it puts them into the document, between the
lines that begin and end each of them.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import types
from enum import Enum
from pathlib import Path
from typing import Any, NewType, Union, get_args, get_origin

import attrs

from receipts.core.errors import Code
from receipts.core.events import Body, By, MessageAccepted, Register, RegisterValue, Role
from receipts.core.ids import ConversationKind, Counts, Shares
from receipts.core.status import Status, Unknown
from receipts.wire import limits, updates
from receipts.wire.forms import fields_of
from receipts.wire.table import ANSWERED_BY, COMMANDS, UPDATES

__all__ = ["DOCUMENT", "main", "renewed", "tables"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"

_OWES: dict[type, str] = {
    MessageAccepted: "`AckDelivered`, by whom it is not from",
    updates.CatchUp: "`AckPage`",
    updates.ReadStatistics: "`AckStatistics`",
    updates.Goodbye: "closing",
}
"""What a client answers updates with."""

_FALLBACKS: dict[type[Enum], str] = {
    Code: "`protocol_error`; the reason stays",
    Status: "the highest known one below it",
    Unknown: "`not_supported`",
    Role: "`member`",
    ConversationKind: "`group`",
    Register: "the register is skipped",
    Counts: "2",
    Shares: "unknown bits are ignored",
    By: "0",
}
"""What an unknown value in an update is read as."""


def tables() -> dict[str, str]:
    """All tables of the document by name, as Markdown."""
    return {
        "frames": _frames(),
        "values": _values(),
        "choices": _choices(),
        "limits": _limits(),
    }


def renewed(document: str) -> str:
    """The document with its tables as the code has them now."""
    for name, table in tables().items():
        begin, end = f"<!-- table {name} -->", f"<!-- end {name} -->"
        pattern = re.compile(f"{begin}.*?{end}", re.DOTALL)
        assert pattern.search(document), f"the document has no place for the table {name!r}"
        document = pattern.sub(lambda _: f"{begin}\n{table}\n{end}", document)  # noqa: B023
    return document


def _rows(*rows: tuple[str, ...]) -> str:
    head, *rest = rows
    lines = [head, ("---",) * len(head), *rest]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _frames() -> str:
    rows = [("code", "type", "from → to", "fields", "answered by")]
    for code, kind in COMMANDS.items():
        answer = f"`{ANSWERED_BY[kind].__name__}`"
        rows.append((str(code), f"`{kind.__name__}`", "client → node", _fields(kind), answer))
    for code, kind in UPDATES.items():
        way = "node → client, answer" if kind in updates.ANSWER_TYPES else "node → client"
        rows.append((str(code), f"`{kind.__name__}`", way, _fields(kind), _OWES.get(kind, "–")))
    return _rows(*rows)


def _values() -> str:
    rows = [("value", "fields")]
    known: dict[str, type] = {}
    for kind in UPDATES.values():
        _gather(kind, known)
    for name in sorted(known):
        rows.append((f"`{name}`", _fields(known[name])))
    return _rows(*rows)


def _gather(kind: type, known: dict[str, type]) -> None:
    for _, hint, _ in fields_of(kind):
        for part in (hint, *get_args(hint), *(deep for inner in get_args(hint) for deep in get_args(inner))):
            if isinstance(part, type) and attrs.has(part) and part.__name__ not in known:
                if part not in UPDATES.values():
                    known[part.__name__] = part
                _gather(part, known)


def _choices() -> str:
    rows = [("choice", "values", "unknown in an update")]
    for kind, fallback in _FALLBACKS.items():
        members: list[Enum] = list(kind)
        values = ", ".join(f"`{json.dumps(member.value)}`" + _label(member) for member in members)
        if kind is Code:
            values = "see [Closing and refusing](#closing-and-refusing)"
        rows.append((f"`{kind.__name__}`", values, fallback))
    return _rows(*rows)


def _label(member: Enum) -> str:
    return "" if isinstance(member.value, str) else f" {member.name.lower()}"


def _limits() -> str:
    rows = [("limit", "number", "why")]
    source = inspect.getsource(limits)
    for name in limits.__all__:
        match = re.search(rf'^{name}: Final = .*?\n"""(.*?)"""', source, re.DOTALL | re.MULTILINE)
        assert match, f"{name} has no reason"
        rows.append((f"`{name}`", str(getattr(limits, name)), " ".join(match[1].split())))
    return _rows(*rows)


def _fields(kind: type) -> str:
    return ", ".join(
        f"`{name}: {_type(name, hint)}`"
        if default is attrs.NOTHING
        else f"`{name}: {_type(name, hint)} = {_default(default)}`"
        for name, hint, default in fields_of(kind)
    )


def _type(name: str, hint: Any) -> str:
    if isinstance(hint, NewType):
        return _type(name, hint.__supertype__)
    if hint == Body:
        return "body"
    if hint == RegisterValue:
        return "register value"
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        some = [_type(name, argument) for argument in arguments if argument is not type(None)]
        return " or ".join(some) + ("?" if type(None) in arguments else "")
    if hint == tuple[int, ...] and name != "seqs":
        return "ranges"
    if arguments and arguments[-1] is ...:
        return f"[{_type('', arguments[0])}]"
    if arguments:
        return "(" + ", ".join(_type("", argument) for argument in arguments) + ")"
    return str(hint.__name__)


def _default(default: Any) -> str:
    if attrs.has(type(default)):
        return f"{type(default).__name__}()"
    return json.dumps(default)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into the document")
    if parser.parse_args().write:
        DOCUMENT.write_text(renewed(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print("\n\n".join(tables().values()))


if __name__ == "__main__":
    main()
