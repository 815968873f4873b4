"""The short way for frequent frames agrees with the general way."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipts.wire.codec import encode_command, encode_update
from receipts.wire.forms import Skipped, Wrong, record
from receipts.wire.short import COMMAND_READERS, COMMAND_WRITERS, UPDATE_READERS, UPDATE_WRITERS
from receipts.wire.table import CODE_OF, COMMANDS, UPDATES
from tests.wire.strategies import commands_of, ticks, updates_of

odd: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, -1, 0, 1, 3, 2**63 - 1, 2**63, 1.0, "", "g", "\n", b"g", (), (1,), (1, 2), (2, 1), {}]
)


def test_readers_and_writers_are_for_the_same_frames() -> None:
    """What is written the short way is read the short way."""
    assert set(COMMAND_READERS) == {CODE_OF[kind] for kind in COMMAND_WRITERS}
    assert set(UPDATE_READERS) == {CODE_OF[kind] for kind in UPDATE_WRITERS}


@pytest.mark.parametrize("code", COMMAND_READERS)
@given(data=st.data())
def test_a_frequent_command_is_read_like_any_other(code: int, data: st.DataObject) -> None:
    """P-20: what the short way takes, the general way reads as the same; what is written, both take."""
    kind = COMMANDS[code]
    command = data.draw(commands_of(kind))
    items = elements(encode_command(command))
    assert record(kind, strict=True).unpack(items, 1) == command
    assert COMMAND_READERS[code](items) == command
    changed = changed_somewhere(items, data)
    found = COMMAND_READERS[code](changed)
    if found is not None:
        assert record(kind, strict=True).unpack(changed, 1) == found
        assert 0 <= changed[1] < 2**63


@pytest.mark.parametrize("code", UPDATE_READERS)
@given(data=st.data(), tick=ticks)
def test_a_frequent_update_is_read_like_any_other(code: int, data: st.DataObject, tick: int) -> None:
    """P-20: what the short way takes, the general way reads as the same; what is written, it takes."""
    kind = UPDATES[code]
    update = data.draw(updates_of(kind))
    items = elements(encode_update(update, tick))
    assert record(kind, strict=False).unpack(items, 2) == update
    changed = changed_somewhere(items, data)
    found = UPDATE_READERS[code](changed)
    if found is not None:
        assert record(kind, strict=False).unpack(changed, 2) == found
        assert 0 <= changed[1] < 2**63


@pytest.mark.parametrize("code", [*COMMAND_READERS, *UPDATE_READERS])
@given(data=st.data())
def test_what_the_short_way_leaves_is_not_what_it_is_for(code: int, data: st.DataObject) -> None:
    """P-16: a frame with a wrong element is never taken, at any length, where the general way refuses it."""
    is_command = code in COMMAND_READERS
    items = (code, *data.draw(st.lists(odd, min_size=2, max_size=11)))
    read = (COMMAND_READERS if is_command else UPDATE_READERS)[code]
    kind = (COMMANDS if is_command else UPDATES)[code]
    try:
        wanted = record(kind, strict=is_command).unpack(items, 1 if is_command else 2)
    except (Wrong, Skipped):
        assert read(items) is None
    else:
        assert read(items) in (None, wanted)


def elements(frame: bytes | str) -> tuple[Any, ...]:
    """The elements of a binary frame, arrays as tuples."""
    assert isinstance(frame, bytes)
    found: tuple[Any, ...] = msgpack.unpackb(frame, use_list=False)
    return found


def changed_somewhere(items: tuple[Any, ...], data: st.DataObject) -> tuple[Any, ...]:
    """The elements with one of them, or one inside one of them, replaced by something odd."""
    at = data.draw(st.integers(1, len(items) - 1))
    there = items[at]
    if isinstance(there, tuple) and there and data.draw(st.booleans()):
        return (*items[:at], changed_inside(there, data), *items[at + 1 :])
    return (*items[:at], data.draw(odd), *items[at + 1 :])


def changed_inside(items: tuple[Any, ...], data: st.DataObject) -> tuple[Any, ...]:
    """The same, one level further in."""
    at = data.draw(st.integers(0, len(items) - 1))
    there = items[at]
    if isinstance(there, tuple) and there:
        return (*items[:at], changed_inside(there, data), *items[at + 1 :])
    return (*items[:at], data.draw(odd), *items[at + 1 :])
