"""Garbage never does more than to be refused."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from receipts.core.errors import DecodeError
from receipts.wire.codec import decode_command, decode_update, encode_command, encode_update
from receipts.wire.commands import SendMessage
from receipts.wire.limits import FRAME_BYTES_MAX, ITEMS_MAX, STRANGER_ITEMS_MAX
from receipts.wire.updates import Read
from tests.wire.fuzz import judge, run


@given(st.binary() | st.text(st.characters()))
@example(b"")
@example("")
@example(b"\x81\x80\x01")  # a map whose key is a map
@example(b"\x91" * 2000)
@example(b"\xdd\x00\x01\xff\xff" * 1024)
@example("[" * 200_000)
@example('{"a":' * 200_000)
@example('{"type":"Ping","rid":' + "9" * 5000 + "}")
@example('{"type":"Ping","rid":NaN}')
@example('{"type":"Ping","rid":1e400}')
@example(b"\xd6\xff\x00\x00\x00\x00")  # a timestamp
@example(b"\x92\x1d\xc1")
def test_noise_is_refused(frame: bytes | str) -> None:
    """P-10: whatever arrives is a command, an update, or refused by one of the two errors."""
    judge(frame)


def test_changed_frames_are_read_or_refused() -> None:
    """P-10: frames that were changed in their bytes or their structure raise nothing else either."""
    outcomes = run(inputs=6000, seed=20261122)
    assert set(outcomes) == {"a command", "a bad command", "garbage", "an update", "an unknown update"}


@pytest.mark.parametrize("read", [decode_command, decode_update])
def test_a_header_that_promises_too_much_is_refused(read: object) -> None:
    """P-11: an array that claims millions of elements is refused before there is room made for it."""
    assert callable(read)
    for frame in (
        b"\xdd\x7f\xff\xff\xff",
        b"\xdf\x7f\xff\xff\xff",
        b"\xdb\x7f\xff\xff\xff",
        b"\xc9\x7f\xff\xff\xff\x01",
    ):
        with pytest.raises(DecodeError):
            read(frame)


@pytest.mark.parametrize("read", [decode_command, decode_update])
@pytest.mark.parametrize("promised", [15, 16, 120, 500, STRANGER_ITEMS_MAX, ITEMS_MAX])
@pytest.mark.parametrize("levels", [20, 42, 170, 171, 1000, 1024, 300_000])
def test_what_headers_promise_is_not_believed(
    read: Callable[[bytes], object], promised: int, levels: int
) -> None:
    """P-11: arrays within arrays, each with room for many, take little more memory than the frame."""
    header = msgpack.Packer().pack_array_header(promised)
    frame = (header * levels)[: FRAME_BYTES_MAX - 3]
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            read(frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(frame) + 1024 * 1024


def test_a_long_frame_whose_elements_are_there_is_read() -> None:
    """P-11: the largest arrays that are allowed are read, whatever bytes the frame has in it."""
    told = Read("alice~bob", "alice", tuple(range(1, ITEMS_MAX + 1)), 5, 6)
    assert decode_update(encode_update(told, 7)) == (7, told)
    sent = SendMessage(1, "alice~bob", b"\xdc\xdd" * 1000, 2)
    assert decode_command(encode_command(sent)) == sent
