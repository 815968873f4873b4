"""Garbage never does more than to be refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from receipts.core.errors import DecodeError
from receipts.wire.codec import decode_command, decode_update
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
