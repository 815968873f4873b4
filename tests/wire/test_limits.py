"""What strangers may not send: every limit of the protocol, at the bound and one beyond it."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

from receipts.core.errors import Code, DecodeError
from receipts.wire import commands, limits, updates
from receipts.wire.codec import (
    BadCommand,
    decode_command,
    decode_update,
    encode_command,
    encode_update,
)
from receipts.wire.table import CODE_OF

HELLO: dict[str, Any] = {"version": 1, "user": "alice", "device": "phone", "install": "outbox"}


def refused(found: dict[str, Any]) -> BadCommand:
    """The refusal of a text frame with rid 7."""
    with pytest.raises(BadCommand) as caught:
        decode_command(json.dumps({"rid": 7, **found}))
    assert caught.value.rid == 7
    return caught.value


def taken(found: dict[str, Any]) -> Any:
    """The command in a text frame with rid 7."""
    return decode_command(json.dumps({"rid": 7, **found}))


def garbage(frame: bytes | str, code: Code = Code.BAD_FRAME) -> None:
    """It is not a frame, to either side."""
    for read in (decode_command, decode_update):
        with pytest.raises(DecodeError) as caught:
            read(frame)
        assert not isinstance(caught.value, BadCommand)
        assert caught.value.code is code


# -- frames -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", ["x", "é"])
def test_a_frame_has_at_most_a_mebibyte(sign: str) -> None:
    """P-11: a frame of exactly the limit is read, one byte more is not; text counts in UTF-8."""
    empty = commands.SendMessage(7, "g", "", 1)
    for text in (False, True):
        overhead = len(encode_command(empty, text=text)) + (0 if text else 4)  # the header of a long string
        room = limits.FRAME_BYTES_MAX - overhead
        body = sign * (room // len(sign.encode())) + "x" * (room % len(sign.encode()))
        send = commands.SendMessage(7, "g", body, 1)
        frame = encode_command(send, text=text)
        assert len(frame if isinstance(frame, bytes) else frame.encode()) == limits.FRAME_BYTES_MAX
        assert decode_command(frame) == send
    garbage(b"\xc0" * (limits.FRAME_BYTES_MAX + 1), Code.FRAME_TOO_LARGE)
    garbage(" " * (limits.FRAME_BYTES_MAX + 1), Code.FRAME_TOO_LARGE)
    garbage('"' + "é" * (limits.FRAME_BYTES_MAX // 2) + '"', Code.FRAME_TOO_LARGE)


@pytest.mark.parametrize("text", [False, True])
def test_a_frame_nests_at_most_sixteen_deep(text: bool) -> None:
    """P-11: also in parts that are otherwise ignored, nesting has an end."""
    for levels, fine in ((limits.NESTING_MAX - 1, True), (limits.NESTING_MAX, False), (900, False)):
        deep: Any = []
        for _ in range(levels - 1):
            deep = [deep]
        send: Any = {"type": "SendMessage", "rid": 7, "conversation": "g", "body": "", "number": 1, "x": deep}
        frame = json.dumps(send) if text else msgpack.packb([2, 7, "g", "", 1, 0, False, deep])
        done: Any = {"type": "Done", "rid": 7, "tick": 1, "x": deep}
        told = json.dumps(done) if text else msgpack.packb([CODE_OF[updates.Done], 1, 7, deep])
        if fine:
            assert decode_command(frame) == commands.SendMessage(7, "g", "", 1)
            assert decode_update(told) == (1, updates.Done(7))
        else:
            with pytest.raises(DecodeError) as caught:
                decode_command(frame)
            assert not isinstance(caught.value, BadCommand)
            with pytest.raises(DecodeError):
                decode_update(told)


def test_arrays_have_a_largest_length() -> None:
    """P-11: an array longer than the limit is not a frame, however the frame goes on."""
    longest = tuple(range(1, limits.STRANGER_ITEMS_MAX + 1))
    ack = commands.AckDelivered(7, "g", longest)
    assert decode_command(encode_command(ack)) == ack
    with pytest.raises(DecodeError) as caught:
        decode_command(encode_command(commands.AckDelivered(7, "g", tuple(range(1, len(longest) + 3)))))
    assert not isinstance(caught.value, BadCommand)
    told = updates.Delivered("g", "bob", tuple(range(1, limits.ITEMS_MAX + 1)))
    assert decode_update(encode_update(told, 1)) == (1, told)
    with pytest.raises(DecodeError):
        decode_update(encode_update(updates.Delivered("g", "bob", tuple(range(1, limits.ITEMS_MAX + 3))), 1))


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x01",
        b"\x90",
        b"\x91\x02",
        msgpack.packb(["2", 7]),
        msgpack.packb([2, "7"]),
        msgpack.packb([2, True]),
        msgpack.packb([2.0, 7]),
        msgpack.packb([True, 7]),
        msgpack.packb([2, -1]),
        msgpack.packb([2, 2**63]),
        msgpack.packb({"type": "Ping"}),
        msgpack.packb([29, 7]) + b"\x00",
        msgpack.packb([29, 7])[:-1],
        msgpack.packb([29, 7, msgpack.ExtType(4, b"x")]),
        msgpack.packb([29, 7, msgpack.Timestamp(0)]),
        b"\x93\x1d\x07\xc7\x00\x05",
        b"\x93\x1d\x07\xa1\xff",
        "",
        "[]",
        "7",
        "{}",
        '{"type":"Ping"}',
        '{"type":7,"rid":7,"tick":7}',
        '{"type":"Ping","rid":true}',
        '{"type":"Ping","rid":7.0}',
        '{"type":"Ping","rid":-1}',
        '{"type":"Ping","rid":"x"}',
        '{"type":"Ping","rid":"٧"}',
        '{"type":"Ping","rid":9223372036854775808}',
        '{"type":"Ping","rid":7,"x":NaN}',
        '{"type":"Ping","rid":7,"x":Infinity}',
        '{"type":"Ping","rid":7,"x":-Infinity}',
        '{"type":"Ping","rid":7}}',
    ],
)
def test_what_is_not_a_frame_closes_the_link(frame: bytes | str) -> None:
    """P-12: without a readable type and rid (or tick) there is nobody to answer."""
    garbage(frame)


def test_doubled_keys_are_fine() -> None:
    """P-23: of a key that stands twice in an object the last one counts."""
    assert decode_command('{"type":"Ping","rid":1,"rid":2}') == commands.Ping(rid=2)


# -- commands ---------------------------------------------------------------------------------------------


def test_an_unknown_command_is_refused_and_the_link_goes_on() -> None:
    """P-13: a command of a newer client is answered, not cut off."""
    assert refused({"type": "Juggle"}).code is Code.INVALID
    for code in (0, 30, 63, 64, 83, 10**9):
        with pytest.raises(BadCommand) as caught:
            decode_command(msgpack.packb([code, 7]))
        assert (caught.value.rid, caught.value.code) == (7, Code.INVALID)


def test_a_hello_may_leave_its_rid_out() -> None:
    """P-13: rid is 0 in a Hello that has none, and what is wrong with it is answered under 0."""
    assert decode_command(json.dumps({"type": "Hello", **HELLO})) == commands.Hello(**HELLO)
    with pytest.raises(BadCommand) as caught:
        decode_command('{"type":"Hello"}')
    assert caught.value.rid == 0


@pytest.mark.parametrize(
    ("field", "fine", "wrong"),
    [
        ("user", ["a", "a" * 64, "a-b_c.9"], ["", "a" * 65, "Alice", "a~b", "a b", "é", 7, None]),
        ("device", ["x", "x" * 64, "Büro 1"], ["", "x" * 65, "a\nb", "\u200b", 7, None]),
        ("install", ["x", "x" * 64], ["", "x" * 65, "\x7f", False]),
        ("app", ["org#app", "x" * 128], ["", "x" * 129, "\t"]),
        ("password", ["", "x" * 1024, None], ["x" * 1025, 7]),
        ("token", ["", "x" * 8192, None], ["x" * 8193, 7]),
        ("resume", ["", "x" * 8192, None], ["x" * 8193, 7]),
        ("client", ["", "x" * 256], ["x" * 257, None]),
        ("version", [0, 2**63 - 1, "7"], [-1, 2**63, 1.0, True, None, "seven"]),
        ("delivery", [True, False], [0, 1, "true", None]),
    ],
)
def test_fields_of_a_hello_are_bounded(field: str, fine: list[Any], wrong: list[Any]) -> None:
    """P-14: each field of the first frame is checked for its type and its length."""
    for item in fine:
        assert isinstance(taken({"type": "Hello", **HELLO, field: item}), commands.Hello)
    for item in wrong:
        error = refused({"type": "Hello", **HELLO, field: item})
        assert error.code is Code.INVALID
        assert error.reason.startswith(f"Hello: {field}: ")


@pytest.mark.parametrize(
    ("command", "field", "wrong"),
    [
        ({"type": "ListMembers", "conversation": "g"}, "after", ["Bob", "x" * 65, 7]),
        ({"type": "ListMembers", "conversation": "g"}, "limit", [0, -1, True, "x"]),
        ({"type": "ListConversations"}, "cursor", ["x" * 8193, 7]),
        ({"type": "RecallMessage", "conversation": "g", "seq": 1}, "seq", [0, -1, 2**63 - 1, "0", None]),
        ({"type": "MarkUnread", "conversation": "g"}, "from_seq", [0, "x"]),
        ({"type": "ReadConversation", "conversation": "g", "through": 1}, "through", [-1, 2**63 - 1, None]),
        ({"type": "ReadConversation", "conversation": "g", "through": 1}, "mark_version", [-1, None]),
        ({"type": "SetRole", "conversation": "g", "user": "bob", "role": "admin"}, "role", ["emperor", 1]),
        ({"type": "SetRole", "conversation": "g", "user": "bob", "role": "admin"}, "user", ["Bob", ""]),
        ({"type": "CreateGroup", "conversation": "g", "name": "G"}, "name", ["x" * 257, None]),
        ({"type": "CreateGroup", "conversation": "g", "name": "G"}, "description", ["x" * 4097, None]),
        ({"type": "CreateGroup", "conversation": "g", "name": "G"}, "members", [["Bob"], "bob", [7], None]),
        ({"type": "AddMembers", "conversation": "g", "users": ["bob"]}, "users", [[], ["Bob"], {}]),
        ({"type": "ChangeGroup", "conversation": "g"}, "name", ["x" * 257, 7]),
        ({"type": "SetMuted", "conversation": "g", "muted": True}, "muted", [1, None]),
        ({"type": "SetSharing"}, "read", [1, "true"]),
        ({"type": "GetStatus", "conversation": "g", "seqs": [1]}, "seqs", [[0], [True], 1]),
        ({"type": "LogOutDevice", "device": "d"}, "device", ["", "x" * 65]),
        ({"type": "ChangePassword", "old": "a", "new": "b"}, "new", ["x" * 1025, 7]),
        ({"type": "AckPage", "token": "t"}, "token", ["x" * 8193, None]),
        ({"type": "AckStatistics", "through": 1}, "through", [-1, 1.5]),
        ({"type": "SendMessage", "conversation": "g", "body": "", "number": 1}, "counts", [3, -1, True]),
        ({"type": "SendMessage", "conversation": "g", "body": "", "number": 1}, "number", [-1, None, "x"]),
        (
            {"type": "SendMessage", "conversation": "g", "body": "", "number": 1},
            "body",
            [7, None, "\ud800", {}, {"base64": 7}, {"base64": "?"}, {"base64": "é"}, {"text_base64": "/w=="}],
        ),
        ({"type": "ReadMessages", "conversation": "g", "ranges": [1, 2]}, "content", [7, "\udfff"]),
    ],
)
def test_fields_of_commands_are_checked(command: dict[str, Any], field: str, wrong: list[Any]) -> None:
    """P-14: a field of the wrong type or beyond its bounds refuses the command."""
    taken(command)
    for item in wrong:
        error = refused({**command, field: item})
        assert error.code is Code.INVALID
        assert f"{field}: " in error.reason


def test_a_missing_field_is_named() -> None:
    """P-14: the refusal says which field is missing, in both forms."""
    assert refused({"type": "RecallMessage", "conversation": "g"}).reason == "RecallMessage: seq is missing"
    with pytest.raises(BadCommand, match="seq is missing"):
        decode_command(msgpack.packb([CODE_OF[commands.RecallMessage], 7, "g"]))


@pytest.mark.parametrize("kind", ["AckDelivered", "ReadMessages", "ReadConversation", "SendMessage"])
def test_conversations_are_1_to_140_printable_characters(kind: str) -> None:
    """P-14: a conversation id is not empty, not too long, and holds nothing that cannot be seen."""
    rest: dict[str, Any] = {"ranges": [1, 2], "through": 1, "body": "", "number": 1}
    code = CODE_OF[getattr(commands, kind)]
    tails: dict[str, list[Any]] = {
        "AckDelivered": [[1, 2]],
        "ReadMessages": [[1, 2]],
        "ReadConversation": [1],
        "SendMessage": ["", 1],
    }
    tail = tails[kind]
    for fine in ("a~b", "x" * 140, "Grüße"):
        assert taken({"type": kind, "conversation": fine, **rest}).conversation == fine
        assert decode_command(msgpack.packb([code, 7, fine, *tail])) == taken(
            {"type": kind, "conversation": fine, **rest}
        )
    for wrong in ("", "x" * 141, "a\x00b", "a\nb", "\u202e", 7, None):
        refused({"type": kind, "conversation": wrong, **rest})
        with pytest.raises(BadCommand, match="conversation: "):
            decode_command(msgpack.packb([code, 7, wrong, *tail]))


@pytest.mark.parametrize("kind", [commands.AckDelivered, commands.ReadMessages])
def test_ranges_of_a_mark_increase_and_are_not_empty(kind: type) -> None:
    """P-15: ranges are flat, even in number, increasing from 1, at least one and at most 4096."""
    code = CODE_OF[kind]
    for wrong in (
        [],
        [1],
        [0, 1],
        [-1, 2],
        [2, 2],
        [3, 2],
        [1, 3, 3, 4],
        [1, 3, 2, 4],
        [1, 2, 3],
        [1, 2**63],
        [True, 2],
        [1.0, 2],
        ["x", 2],
        [[1, 2]],
        None,
        7,
    ):
        with pytest.raises(BadCommand) as caught:
            decode_command(msgpack.packb([code, 7, "g", wrong]))
        assert (caught.value.rid, caught.value.code) == (7, Code.INVALID)
        refused({"type": kind.__name__, "conversation": "g", "ranges": wrong})
    most = list(range(1, 2 * limits.RANGES_MAX + 1))
    assert taken({"type": kind.__name__, "conversation": "g", "ranges": most}).ranges == tuple(most)
    more = [*most, len(most) + 1, len(most) + 2]
    error = refused({"type": kind.__name__, "conversation": "g", "ranges": more})
    assert error.code is Code.TOO_MANY_GAPS


def test_lists_of_users_and_messages_are_bounded() -> None:
    """P-14: more users or messages than the limit are refused as too many."""
    for kind, field, most, item in (
        ("AddMembers", "users", limits.USERS_MAX, "bob"),
        ("RemoveMembers", "users", limits.USERS_MAX, "bob"),
        ("CreateGroup", "members", limits.USERS_MAX, "bob"),
        ("GetStatus", "seqs", limits.SEQS_MAX, 1),
    ):
        command = {"type": kind, "conversation": "g", "name": "G"}
        taken({**command, field: [item] * most})
        assert refused({**command, field: [item] * (most + 1)}).code is Code.TOO_MANY


@pytest.mark.parametrize(
    "items",
    [
        [2, 7, "g", "", 1, 0, 1],
        [2, 7, "g", "", 1, True, False],
        [2, 7, "g", "", True],
        [2, 7, "g", None, 1],
        [3, 7, "g", [1, 2], 1],
        [4, 7, "g", True],
        [4, 7, "g", 2**63 - 1],
        [4, 7, "g", 1, 1, 0],
        [4, 7, "g", 1, True, -1],
        [5, 7, "g", [1, 2], 7],
        [5, 7, "g", [1, 2], None, 0, 0],
        [5, 7, "g", [1, 2], None, True, None],
    ],
)
def test_frequent_commands_are_checked_as_strictly(items: list[Any]) -> None:
    """P-14: the frames of every message are read by a shorter way, which lets no more through."""
    with pytest.raises(BadCommand) as caught:
        decode_command(msgpack.packb(items))
    assert (caught.value.rid, caught.value.code) == (7, Code.INVALID)


def test_a_refusal_never_repeats_what_was_sent() -> None:
    """P-13: the reason may go into logs, so a password is not in it."""
    for password in (["hunter2"], "hunter2" * 200, {"hunter2": 1}):
        error = refused({"type": "Hello", **HELLO, "password": password})
        assert "hunter2" not in str(error)
    for old in (["hunter2"], "hunter2" * 200):
        assert "hunter2" not in str(refused({"type": "ChangePassword", "old": old, "new": "x"}))


# -- updates ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "items",
    [
        [64, 1, "g", 0, 2, "bob", 3, "hi"],
        [64, 1, "g", 1, -2, "bob", 3, "hi"],
        [64, 1, "g", 1, 2, 7, 3, "hi"],
        [64, 1, "g", 1, 2, "bob", 3, 7],
        [64, 1, "g", 1, 2, "bob", 3, "hi", True, False, 3],
        [64, 1, "g", 1, 2, "bob", 3, "hi", 0, 0, 3],
        [74, 1, "g", "bob", [2, 1]],
        [74, 1, "g", "bob", None],
        [74, 1, "g", 7, [1, 2]],
        [75, 1, "g", "bob", [1, 2], -1, 0, 0, 0],
        [75, 1, "g", "bob", [1, 2], 0, 0, True, 0],
        [75, 1, "g", "bob", 0],
        [76, 1, "g", 1, 1, [["bob", 1]]],
        [76, 1, "g", 1, 1, [["bob", 1, 7, 1]]],
        [76, 1, "g", 1, True, []],
        [76, True, "g", 1, 1, []],
        [64, -1, "g", 1, 2, "bob", 3, "hi"],
        [64, 1, b"g", 1, 2, "bob", 3, "hi"],
        [64, 1, "g", 1, 2, "bob", -1, "hi"],
        [64, 1, "g", 1, 2, "bob", 3, "hi", 0, False, True],
        [64, 1, "g", 1, 2, "bob", 3, "hi", -1, False, 3],
        [64, 1, "g", 1, 2, "bob", 3, "hi", 0, False, -1],
        [76, 1, "g", 1, 1, ["bob"]],
        [76, 1, "g", 1, 1, [["bob", 1, "ok", -1]]],
        [76, 1, "g", 1, 1, None],
        [76, 1, "g", 0, 1, []],
        [77, 1, [["g", 1]], 3],
        [82, 1, 2, "g", 0, 1, 1, 1],
        [82, 1, 2, "g", 1, 1, 1],
        [82, 1, True, "g", 1, 1, 1, 1],
        [83, 1],
        [83, 1, None],
        [89, 1, 2, "g", [[1, "bob", -1, True, True, None, []]]],
        [89, 1, 2, "g", [[1, "bob", 1, 1, True, None, []]]],
        [79, 1, {}, "t", True],
    ],
)
def test_what_a_node_sends_is_checked_for_its_types(items: list[Any]) -> None:
    """P-16: an update whose fields cannot be joined into a replica is not a frame."""
    with pytest.raises(DecodeError) as caught:
        decode_update(msgpack.packb(items))
    assert not isinstance(caught.value, BadCommand)


def test_an_empty_set_of_seqs_is_an_update() -> None:
    """P-16: only marks of strangers have to name something."""
    told = updates.Delivered("g", "bob", ())
    assert decode_update(encode_update(told, 1)) == (1, told)
    read = updates.Read("g", "bob", ())
    assert decode_update(encode_update(read, 1)) == (1, read)
