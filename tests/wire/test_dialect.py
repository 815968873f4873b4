"""The seam between a session and its frames."""

from __future__ import annotations

import pytest

from receipts.core.errors import DecodeError
from receipts.wire import commands, updates
from receipts.wire.codec import decode_update, encode_command
from receipts.wire.dialect import NATIVE_BINARY, NATIVE_TEXT, Dialect, dialect_of


@pytest.mark.parametrize(
    ("text", "dialect", "form"), [(False, NATIVE_BINARY, bytes), (True, NATIVE_TEXT, str)]
)
def test_the_first_frame_settles_how_the_node_speaks(text: bool, dialect: Dialect, form: type) -> None:
    """P-21: who begins in binary is answered in binary, who begins in text in text; both are understood."""
    ping = commands.Ping(rid=7)
    chosen = dialect_of(encode_command(ping, text=text))
    assert chosen is dialect
    assert chosen.decode(encode_command(ping, text=text)) == [ping]
    assert chosen.decode(encode_command(ping, text=not text)) == [ping]
    (frame,) = chosen.encode(updates.Pong(7), 3)
    assert type(frame) is form
    assert decode_update(frame) == (3, updates.Pong(7))


def test_sessions_of_one_form_share_their_frames() -> None:
    """Frames are shared by key: one for each native form, and the two differ."""
    keys = {NATIVE_BINARY.shared_key, NATIVE_TEXT.shared_key}
    assert len(keys) == 2
    assert "" not in keys


def test_garbage_is_the_callers_to_handle() -> None:
    """A dialect lets the errors of the codec through."""
    for dialect in (NATIVE_BINARY, NATIVE_TEXT):
        with pytest.raises(DecodeError):
            dialect.decode(b"\xc1")
