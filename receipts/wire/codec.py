"""Between the vocabulary and frames: bytes are msgpack, text is JSON. No state, and no opinion on who may.

A binary frame is an array: a command `[code, rid, fields…]`, an update `[code, tick, fields…]`. A text frame
is an object: `{"type": name, "rid": …, field: …}` or `{"type": name, "tick": …, field: …}`. The codes are in
`table`, the fields in `forms`, the description for clients in other languages in docs/protocol.md.

The frames of which every message needs several are read and written by `short`; what it does not take, the
mistakes among it, goes the general way here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NoReturn, TypeAlias, cast

import msgpack

from receipts.core.errors import Code, DecodeError, LocalProtocolError

from .commands import Command
from .forms import Record, Skipped, Wrong, record
from .limits import (
    FRAME_BYTES_MAX,
    INT_MAX,
    ITEMS_MAX,
    JSON_INT_MAX,
    NESTING_MAX,
    STRANGER_ITEMS_MAX,
)
from .short import COMMAND_READERS, COMMAND_WRITERS, UPDATE_READERS, UPDATE_WRITERS
from .table import CODE_OF, COMMANDS, UPDATES
from .updates import Update

__all__ = ["BadCommand", "Frame", "decode_command", "decode_update", "encode_command", "encode_update"]

Frame: TypeAlias = bytes | str
"""One whole frame: bytes hold msgpack, str holds JSON."""


class BadCommand(DecodeError):
    """A frame in order, whose command cannot be: an unknown type, a field that is missing, wrong or too much.

    The link may go on: the session answers `Rejected(rid, code=code, reason=reason)`.
    """

    def __init__(self, rid: int, reason: str, code: Code = Code.INVALID) -> None:
        super().__init__(reason, code=code)
        self.rid = rid
        """Of the command that is refused."""
        self.reason = reason
        """One sentence for a person; it never repeats what was sent."""


# -- frames to and from plain structures ------------------------------------------------------------------


def _no_ext(code: int, data: bytes) -> NoReturn:
    raise ValueError("extension types are not part of the protocol")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_pack: Final[Callable[[Any], bytes]] = msgpack.Packer(use_bin_type=True, autoreset=True).pack
_SHORT_BYTES: Final = 512


def _unpacker(*, array_max: int, map_max: int) -> Callable[[bytes], Any]:
    return partial(
        msgpack.unpackb,
        use_list=False,
        strict_map_key=True,
        ext_hook=_no_ext,
        max_ext_len=0,
        max_map_len=map_max,
        max_array_len=array_max,
    )


# Each element costs the sender a byte at least.
_unpack_short: Final = _unpacker(array_max=_SHORT_BYTES, map_max=_SHORT_BYTES)
_unpack_from_stranger: Final = _unpacker(array_max=STRANGER_ITEMS_MAX, map_max=STRANGER_ITEMS_MAX)
_unpack_from_node: Final = _unpacker(array_max=ITEMS_MAX, map_max=STRANGER_ITEMS_MAX)
# The header of an array of more than 15 elements begins with one of these; what is in a body may as well.
_ARRAY_16: Final = b"\xdc"
_ARRAY_32: Final = b"\xdd"


def _unpack_long(frame: bytes, unpack: Callable[[bytes], Any]) -> Any:
    """Read a frame that is long enough to do harm by what its headers promise.

    msgpack makes room for as many elements as a header names before it has seen one of them, on each of a
    thousand levels: 64 MiB for 3 KiB. So the frame is first passed over without making anything of it; where
    that succeeds, all elements are there. The few headers of a short frame promise less than 1 MiB.
    """
    size = len(frame)
    if size > FRAME_BYTES_MAX:
        raise _too_large(size)
    if _ARRAY_16 in frame or _ARRAY_32 in frame:
        whole = msgpack.Unpacker(read_size=size, max_buffer_size=size)
        whole.feed(frame)
        whole.skip()
    return unpack(frame)


_dump: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_load: Final = json.JSONDecoder(parse_constant=_no_constant).decode

# What the two libraries raise for input that they cannot read. Deep nesting is a RecursionError in one, a
# ValueError in the other; invalid UTF-8 is a ValueError.
_UNREADABLE: Final = (ValueError, TypeError, RecursionError, msgpack.UnpackException)
# What they raise for values that cannot be written: half surrogate pairs, numbers of more than 64 bits.
_UNWRITABLE: Final = (ValueError, TypeError, OverflowError, RecursionError)


def _unreadable(error: Exception) -> DecodeError:
    return DecodeError(f"not a frame that can be read: {error}")


def _read_text(frame: str) -> dict[str, Any]:
    size = len(frame)
    if size <= FRAME_BYTES_MAX and not frame.isascii():
        size = len(frame.encode(errors="surrogatepass"))
    if size > FRAME_BYTES_MAX:
        raise _too_large(size)
    try:
        found = _load(frame)
    except _UNREADABLE as error:
        raise _unreadable(error) from None
    if found.__class__ is not dict:
        raise DecodeError("a text frame is a JSON object")
    _check_nesting(found)
    return cast(dict[str, Any], found)


def _too_large(size: int) -> DecodeError:
    return DecodeError(
        f"a frame of {size} bytes is larger than the limit of {FRAME_BYTES_MAX}", code=Code.FRAME_TOO_LARGE
    )


def _check_nesting(item: Any) -> None:
    level = [item]
    for _ in range(NESTING_MAX):
        below: list[Any] = []
        for box in level:
            children = box.values() if box.__class__ is dict else box
            below += [child for child in children if child.__class__ in _BOXES]
        if not below:
            return
        level = below
    raise DecodeError(f"nested deeper than {NESTING_MAX} levels")


_BOXES: Final = frozenset({dict, list, tuple})


def _write_binary(items: Any) -> bytes:
    try:
        frame = _pack(items)
    except _UNWRITABLE as error:
        raise LocalProtocolError(f"this cannot be written: {error}") from None
    if len(frame) > FRAME_BYTES_MAX:
        raise LocalProtocolError(str(_too_large(len(frame))))
    return frame


def _write_text(found: dict[str, Any]) -> str:
    try:
        frame = _dump(found)
        size = len(frame) if frame.isascii() else len(frame.encode())
    except _UNWRITABLE as error:
        raise LocalProtocolError(f"this cannot be written: {error}") from None
    if size > FRAME_BYTES_MAX:
        raise LocalProtocolError(str(_too_large(size)))
    return frame


# -- commands ---------------------------------------------------------------------------------------------


def encode_command(command: Command, *, text: bool = False) -> Frame:
    """Write a command.

    Raises:
        LocalProtocolError: It holds what no frame can: a number above 64 bits, half a surrogate pair, more
            than `FRAME_BYTES_MAX`. Whether the node will take it is for the node to say.
    """
    kind = type(command)
    if text:
        return _write_text({"type": kind.__name__, **_COMMAND_RECORDS[kind].dump(command)})
    short = COMMAND_WRITERS.get(kind)
    if short is not None:
        return _write_binary(short(command))
    return _write_binary(_COMMAND_RECORDS[kind].pack(command, CODE_OF[kind]))


def decode_command(frame: Frame) -> Command:
    """Read a command that a stranger sent; every field of it is within the limits.

    Raises:
        BadCommand: The frame is in order, the command cannot be; answer it and go on.
        DecodeError: This is not a frame; close the link with its `code`.
    """
    if isinstance(frame, str):
        return _load_command(frame)
    try:
        items = (
            _unpack_short(frame) if len(frame) <= _SHORT_BYTES else _unpack_long(frame, _unpack_from_stranger)
        )
    except _UNREADABLE as error:
        raise _unreadable(error) from None
    if items.__class__ is tuple and items and items[0].__class__ is int:
        short = COMMAND_READERS.get(items[0])
        if short is not None and (command := short(items)) is not None:
            return command
    return _unpack_command(items)


def _unpack_command(items: Any) -> Command:
    if items.__class__ is not tuple or len(items) < 2:
        raise DecodeError("a binary frame is an array of a code, a rid and the fields of the command")
    _check_nesting(items)
    code, rid = items[0], items[1]
    if code.__class__ is not int or rid.__class__ is not int or not 0 <= rid <= INT_MAX:
        raise DecodeError("the code and the rid of a command are whole numbers from 0 on")
    kind = COMMANDS.get(code)
    if kind is None:
        raise BadCommand(rid, f"there is no command with the code {code}")
    try:
        return cast(Command, _COMMAND_RECORDS[kind].unpack(items, 1))
    except Wrong as error:
        raise BadCommand(rid, f"{kind.__name__}: {error}", error.code) from None


def _load_command(frame: str) -> Command:
    found = _read_text(frame)
    name = found.get("type")
    if name.__class__ is not str:
        raise DecodeError('a text frame has a "type"')
    kind = _COMMANDS_BY_NAME.get(name)
    try:
        rid = _whole(found.get("rid", 0 if kind is COMMANDS[1] else None))
    except Wrong:
        raise DecodeError("the rid of a command is a whole number from 0 on") from None
    if kind is None:
        raise BadCommand(rid, "there is no command of this type")
    try:
        return cast(Command, _COMMAND_RECORDS[kind].load(found))
    except Wrong as error:
        raise BadCommand(rid, f"{kind.__name__}: {error}", error.code) from None


# -- updates ----------------------------------------------------------------------------------------------


def encode_update(update: Update, tick: int, *, text: bool = False) -> Frame:
    """Write an update that belongs to `tick`.

    What is private to the author of a message (`MessageAccepted.device`, `.client_id`) stays out.

    Raises:
        LocalProtocolError: It holds what no frame can: a number above 64 bits, half a surrogate pair, more
            than `FRAME_BYTES_MAX`. Who makes pages cuts them small enough.
    """
    kind = type(update)
    if text:
        stamp = tick if tick <= JSON_INT_MAX else str(tick)
        return _write_text({"type": kind.__name__, "tick": stamp, **_UPDATE_RECORDS[kind].dump(update)})
    short = UPDATE_WRITERS.get(kind)
    if short is not None:
        return _write_binary(short(update, tick))
    return _write_binary(_UPDATE_RECORDS[kind].pack(update, CODE_OF[kind], tick))


def decode_update(frame: Frame) -> tuple[int, Update] | None:
    """Read what a node sent: (tick, update).

    Returns:
        None for an update of a type that this version does not know, and for a register it does not know:
        nothing to be done (I-30).

    Raises:
        DecodeError: This is not a frame, or not one of this protocol.
    """
    if isinstance(frame, str):
        return _load_update(frame)
    try:
        items = _unpack_short(frame) if len(frame) <= _SHORT_BYTES else _unpack_long(frame, _unpack_from_node)
    except _UNREADABLE as error:
        raise _unreadable(error) from None
    if items.__class__ is tuple and items and items[0].__class__ is int:
        short = UPDATE_READERS.get(items[0])
        if short is not None and (update := short(items)) is not None:
            return items[1], update
    return _unpack_update(items)


def _unpack_update(items: Any) -> tuple[int, Update] | None:
    if items.__class__ is not tuple or len(items) < 2:
        raise DecodeError("a binary frame is an array of a code, a tick and the fields of the update")
    _check_nesting(items)
    code, tick = items[0], items[1]
    if code.__class__ is not int or tick.__class__ is not int or not 0 <= tick <= INT_MAX:
        raise DecodeError("the code and the tick of an update are whole numbers from 0 on")
    kind = UPDATES.get(code)
    return None if kind is None else _judged(kind, tick, lambda: _UPDATE_RECORDS[kind].unpack(items, 2))


def _load_update(frame: str) -> tuple[int, Update] | None:
    found = _read_text(frame)
    name = found.get("type")
    if name.__class__ is not str:
        raise DecodeError('a text frame has a "type"')
    try:
        tick = _whole(found.get("tick"))
    except Wrong:
        raise DecodeError("the tick of an update is a whole number from 0 on") from None
    kind = _UPDATES_BY_NAME.get(name)
    return None if kind is None else _judged(kind, tick, lambda: _UPDATE_RECORDS[kind].load(found))


def _judged(kind: type, tick: int, read: Callable[[], Update]) -> tuple[int, Update] | None:
    try:
        return tick, read()
    except Skipped:
        return None
    except Wrong as error:
        raise DecodeError(f"{kind.__name__}: {error}") from None


# -- the general way: tables ------------------------------------------------------------------------------

_COMMAND_RECORDS: Final[dict[type, Record]] = {kind: record(kind, strict=True) for kind in COMMANDS.values()}
_UPDATE_RECORDS: Final[dict[type, Record]] = {kind: record(kind, strict=False) for kind in UPDATES.values()}
_COMMANDS_BY_NAME: Final = {kind.__name__: kind for kind in COMMANDS.values()}
_UPDATES_BY_NAME: Final = {kind.__name__: kind for kind in UPDATES.values()}
_whole: Final = _COMMAND_RECORDS[COMMANDS[1]].fields[0].form.load
