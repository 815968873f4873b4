"""Hypothesis strategies for every command and update, by the annotations of the vocabulary.

They make what a correct peer may send: user ids are user ids, ranges increase, nothing is longer than the
limits. What is private to the author of a message is left at its default, since it does not travel.
"""

from __future__ import annotations

import functools
import types
from enum import Enum
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints

import attrs
from hypothesis import strategies as st

from receipts.core.events import MessageAccepted
from receipts.core.ids import direct
from receipts.core.ranges import Ranges
from receipts.wire.commands import COMMAND_TYPES, Command
from receipts.wire.limits import INT_MAX, JSON_INT_MAX, SEQ_MAX
from receipts.wire.updates import UPDATE_TYPES, Update

__all__ = [
    "bodies",
    "commands",
    "commands_of",
    "conversations",
    "numbers",
    "ranges",
    "seqs",
    "ticks",
    "updates",
    "updates_of",
    "users",
]

numbers: st.SearchStrategy[int] = st.one_of(
    st.integers(0, 200),
    st.integers(0, INT_MAX),
    st.sampled_from([JSON_INT_MAX - 1, JSON_INT_MAX, JSON_INT_MAX + 1, INT_MAX - 1, INT_MAX]),
)
"""Whole numbers that a frame holds, the interesting ones among them."""

ticks = numbers
seqs: st.SearchStrategy[int] = numbers.map(lambda number: max(number, 1))
_seqs_asked = seqs.map(lambda seq: min(seq, SEQ_MAX))
users: st.SearchStrategy[str] = st.text("abcdefghijklmnopqrstuvwxyz0123456789_.-", min_size=1, max_size=64)
bodies: st.SearchStrategy[str | bytes] = st.text(max_size=40) | st.binary(max_size=40)
_printable = st.text(
    st.characters(exclude_categories=("C", "Z")) | st.just(" "), min_size=1, max_size=64
).filter(str.isprintable)
conversations: st.SearchStrategy[str] = st.one_of(
    st.lists(users, min_size=2, max_size=2, unique=True).map(lambda two: direct(*two)),
    users,
    _printable,
)


def ranges(least: int = 0) -> st.SearchStrategy[Ranges]:
    """Flat bounds that increase, of at least so many ranges."""
    bounds = st.lists(seqs, unique=True, min_size=2 * least, max_size=12)
    return bounds.map(lambda found: tuple(sorted(found[: len(found) // 2 * 2])))


def commands() -> st.SearchStrategy[Command]:
    """Any command."""
    return st.one_of([commands_of(kind) for kind in COMMAND_TYPES])


def updates() -> st.SearchStrategy[Update]:
    """Any update."""
    return st.one_of([updates_of(kind) for kind in UPDATE_TYPES])


def commands_of(kind: type) -> st.SearchStrategy[Any]:
    """Commands of one type, within all limits."""
    return _values(kind, True)


def updates_of(kind: type) -> st.SearchStrategy[Any]:
    """Updates of one type, or values that updates are made of."""
    return _values(kind, False)


_NAMED_STRICT = {
    "conversation": conversations,
    "user": users,
    "users": st.lists(users, min_size=1, max_size=4).map(tuple),
    "members": st.lists(users, max_size=4).map(tuple),
    "device": _printable,
    "install": _printable,
    "app": _printable,
    "ranges": ranges(least=1),
    "seqs": st.lists(_seqs_asked, max_size=5).map(tuple),
    "seq": _seqs_asked,
    "from_seq": _seqs_asked,
    "through": st.just(0) | _seqs_asked,
    "before": st.just(0) | _seqs_asked,
    "limit": seqs,
}


@functools.cache
def _values(kind: type, strict: bool) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    private = {"device", "client_id"} if kind is MessageAccepted else set()
    fields = {
        field.name: _fields(field.name, hints[field.name], strict)
        for field in attrs.fields(kind)
        if field.name not in private
    }
    full = st.builds(kind, **fields)
    bare = {name: fields[name] for name in fields if attrs.fields_dict(kind)[name].default is attrs.NOTHING}
    return full | st.builds(kind, **bare)


def _fields(name: str, hint: Any, strict: bool) -> st.SearchStrategy[Any]:
    if isinstance(hint, NewType):
        return numbers
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    if isinstance(hint, type) and attrs.has(hint):
        return _values(hint, strict)
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        if set(arguments) == {str, bytes}:
            return bodies
        return st.one_of([_fields(name, argument, strict) for argument in arguments])
    if name == "after" and strict:
        return st.just(0) | _seqs_asked if hint is int else st.just("") | users
    if strict and name in _NAMED_STRICT:
        return _NAMED_STRICT[name] if hint is not type(None) else st.none()
    if name == "seq":
        return seqs
    if hint == tuple[int, ...]:
        return ranges()
    if arguments and arguments[-1] is ...:
        return st.lists(_fields("", arguments[0], strict), max_size=3).map(tuple)
    if arguments:
        return st.tuples(*(_fields("", argument, strict) for argument in arguments))
    return _PLAIN[hint]


_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: numbers,
    str: st.text(max_size=20),
    bool: st.booleans(),
    type(None): st.none(),
}
