"""The native codec: every frame there and back in both forms, and peers of other versions."""

from __future__ import annotations

import json
from typing import Any

import attrs
import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receipts.core.errors import Code, LocalProtocolError
from receipts.core.events import By, MessageAccepted, Register, RegisterSet, Role
from receipts.core.ids import ConversationKind, Counts, MessageId, Shares
from receipts.core.status import Status, Unknown
from receipts.wire import commands, updates
from receipts.wire.codec import decode_command, decode_update, encode_command, encode_update
from receipts.wire.limits import JSON_INT_MAX
from receipts.wire.table import CODE_OF, COMMANDS, UPDATES
from tests.wire.strategies import commands_of, ticks, updates_of

few = settings(max_examples=max(settings().max_examples // 5, 10))
"""For what is repeated for every type of frame."""

json_trees = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def array_of(frame: bytes | str) -> list[Any]:
    """The elements of a binary frame."""
    assert isinstance(frame, bytes)
    found: list[Any] = msgpack.unpackb(frame)
    return found


def object_of(frame: bytes | str) -> dict[str, Any]:
    """The keys and values of a text frame."""
    assert isinstance(frame, str)
    found: dict[str, Any] = json.loads(frame)
    return found


def evolved(value: Any, **changes: Any) -> Any:
    """A copy with other fields."""
    return attrs.evolve(value, **changes)


def told(items: list[Any]) -> Any:
    """What a client hears of a binary frame with these elements."""
    found = decode_update(msgpack.packb(items))
    assert found is not None
    return found[1]


# -- there and back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", COMMANDS.values())
@few
@given(data=st.data())
def test_a_command_comes_back_as_it_was_in_both_forms(kind: type, data: st.DataObject) -> None:
    """P-20: what is encoded decodes to an equal command, and both forms say the same."""
    command = data.draw(commands_of(kind))
    binary = decode_command(encode_command(command))
    text = decode_command(encode_command(command, text=True))
    assert binary == command
    assert text == command
    assert_same_types(binary, command)
    assert_same_types(text, command)


@pytest.mark.parametrize("kind", UPDATES.values())
@few
@given(data=st.data(), tick=ticks)
def test_an_update_comes_back_as_it_was_in_both_forms(kind: type, data: st.DataObject, tick: int) -> None:
    """P-20: what is encoded decodes to an equal update with its tick, and both forms say the same."""
    update = data.draw(updates_of(kind))
    binary = decode_update(encode_update(update, tick))
    text = decode_update(encode_update(update, tick, text=True))
    assert binary == (tick, update)
    assert text == (tick, update)
    assert binary is not None
    assert text is not None
    assert_same_types(binary[1], update)
    assert_same_types(text[1], update)


def assert_same_types(one: Any, other: Any) -> None:
    """1, True and an enum's 1 are equal to Python; here they have to be the same thing."""
    assert type(one) is type(other)
    if attrs.has(type(one)):
        for field in attrs.fields(type(one)):
            assert_same_types(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, tuple):
        for mine, theirs in zip(one, other, strict=True):
            assert_same_types(mine, theirs)


def test_what_is_private_to_the_author_does_not_travel() -> None:
    """P-27: device and client id of a message stay between its author and the node; shares travels."""
    message = MessageAccepted(
        "alice~bob", 3, MessageId(8), "alice", "phone", 17, "hi", shares=Shares.READ, client_id=("install", 7)
    )
    seen = evolved(message, device="", client_id=None)
    summary = updates.Summary(
        conversation="alice~bob",
        kind=ConversationKind.DIRECT,
        name="",
        head=3,
        unread=0,
        marked_unread=False,
        muted=False,
        last=message,
    )
    for text in (False, True):
        frame = encode_update(message, 5, text=text)
        assert decode_update(frame) == (5, seen)
        page = updates.Conversations(rid=1, items=(summary,), cursor="")
        found = decode_update(encode_update(page, 5, text=text))
        assert found is not None
        assert isinstance(found[1], updates.Conversations)
        assert found[1].items[0].last == seen
        assert "install" not in str(frame)
        assert "phone" not in str(frame)


def test_trailing_defaults_are_left_out_of_a_binary_frame() -> None:
    """P-22: a plain send is five elements long, a plain mark four."""
    send = commands.SendMessage(1, "alice~bob", "hi", 7)
    assert array_of(encode_command(send)) == [2, 1, "alice~bob", "hi", 7]
    ack = commands.AckDelivered(0, "alice~bob", (1, 4))
    assert array_of(encode_command(ack)) == [3, 0, "alice~bob", [1, 4]]
    assert array_of(encode_update(updates.Done(4), 9)) == [83, 9, 4]


def test_the_text_form_names_its_fields() -> None:
    """P-23: a text frame is an object with the type's name, and without fields that have their default."""
    send = commands.SendMessage(1, "alice~bob", b"\x00\xff", 7)
    assert object_of(encode_command(send, text=True)) == {
        "type": "SendMessage",
        "rid": 1,
        "conversation": "alice~bob",
        "body": {"base64": "AP8="},
        "number": 7,
    }
    heard = updates.Read("alice~bob", "bob", (1, 4, 9, 10), 17, 5, By.MESSAGES)
    assert object_of(encode_update(heard, 9, text=True)) == {
        "type": "Read",
        "tick": 9,
        "conversation": "alice~bob",
        "member": "bob",
        "ranges": [1, 4, 9, 10],
        "at_ms": 17,
        "version": 5,
        "by": 2,
    }


@pytest.mark.parametrize("number", [JSON_INT_MAX, JSON_INT_MAX + 1])
def test_large_numbers_are_strings_in_text(number: int) -> None:
    """P-24: numbers above 2**53 are written as strings; either is understood."""
    written: Any = number if number <= JSON_INT_MAX else str(number)
    update = updates.Accepted(number, "g", 1, MessageId(number), number, number)
    found = object_of(encode_update(update, number, text=True))
    assert found["message_id"] == found["rid"] == found["tick"] == written
    for spelled in (number, str(number)):
        frame = json.dumps({**found, "tick": spelled, "rid": spelled, "number": spelled})
        assert decode_update(frame) == (number, update)


def test_a_long_body_of_control_characters_still_fits_into_text() -> None:
    """P-26: a body that JSON would blow up sixfold goes as base64, and stays a string."""
    send = commands.SendMessage(1, "g", "\x01" * (256 * 1024), 7)
    frame = encode_command(send, text=True)
    assert len(frame) < 400 * 1024
    assert decode_command(frame) == send


def test_a_large_number_in_a_register_stays_a_number() -> None:
    """P-25: in a register, where a string is a value too, a large number wears {"int": …} in text."""
    values: list[str | int] = [JSON_INT_MAX, JSON_INT_MAX + 1, str(JSON_INT_MAX + 1)]
    for value in values:
        update = RegisterSet(conversation="g", member=None, register=Register.NAME, version=1, value=value)
        assert decode_update(encode_update(update, 1, text=True)) == (1, update)


# -- peers of another version -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", COMMANDS.values())
@few
@given(data=st.data())
def test_a_newer_client_may_say_more(kind: type, data: st.DataObject) -> None:
    """P-30 (I-30): further elements and unknown keys of a command are ignored."""
    command = data.draw(commands_of(kind))
    more = data.draw(st.lists(json_trees, min_size=1, max_size=3))
    longer = [*full_array(command, [CODE_OF[kind]], []), *more]
    assert decode_command(msgpack.packb(longer)) == command
    wider = {**object_of(encode_command(command, text=True)), "newer": more}
    assert decode_command(json.dumps(wider)) == command


@pytest.mark.parametrize("kind", UPDATES.values())
@few
@given(data=st.data())
def test_a_newer_node_may_say_more(kind: type, data: st.DataObject) -> None:
    """P-30 (I-30): further elements and unknown keys of an update, at any depth, are ignored."""
    update = data.draw(updates_of(kind))
    more = data.draw(st.lists(json_trees, min_size=1, max_size=3))
    longer = full_array(update, [CODE_OF[kind], 5], more)
    assert decode_update(msgpack.packb(longer)) == (5, update)
    wider = widened(object_of(encode_update(update, 5, text=True)), more)
    assert decode_update(json.dumps(wider)) == (5, update)


def full_array(value: Any, head: list[int], more: list[Any]) -> list[Any]:
    """The binary form with every field spelled out and `more` behind them, at each level."""
    private = {"device", "client_id"} if isinstance(value, MessageAccepted) else set()
    items = [
        spelled(getattr(value, field.name), more)
        for field in attrs.fields(type(value))
        if field.name not in private
    ]
    return [*head, *items, *more]


def spelled(item: Any, more: list[Any]) -> Any:
    """One field for `full_array`."""
    if attrs.has(type(item)):
        return full_array(item, [], more)
    return [spelled(inner, more) for inner in item] if isinstance(item, tuple) else item


def widened(found: Any, more: list[Any]) -> Any:
    """A text frame with an unknown key in each object."""
    if isinstance(found, dict):
        return {**{key: widened(inner, more) for key, inner in found.items()}, "newer": more}
    return [widened(inner, more) for inner in found] if isinstance(found, list) else found


@pytest.mark.parametrize("kind", [*COMMANDS.values(), *UPDATES.values()])
@few
@given(data=st.data())
def test_missing_trailing_fields_have_their_defaults(kind: type, data: st.DataObject) -> None:
    """P-22: a frame that stops after its required fields means the defaults for all others."""
    is_command = kind in COMMANDS.values()
    private = {"device", "client_id"} if kind is MessageAccepted else set()
    fields = [field for field in attrs.fields(kind) if field.name not in private]
    value = data.draw((commands_of if is_command else updates_of)(kind))
    required = [at for at, field in enumerate(fields) if field.default is attrs.NOTHING]
    cut = data.draw(st.integers(max(required, default=-1) + 1, len(fields)))
    wanted = evolved(value, **{field.name: field.default for field in fields[cut:]})
    if is_command:
        items = full_array(value, [CODE_OF[kind]], [])[: 1 + cut]
        assert decode_command(msgpack.packb(items)) == wanted
    else:
        items = full_array(value, [CODE_OF[kind], 5], [])[: 2 + cut]
        assert decode_update(msgpack.packb(items)) == (5, wanted)


@given(code=st.integers(0, 1000).filter(lambda code: code not in UPDATES), more=st.lists(json_trees))
def test_an_update_of_an_unknown_type_is_nothing(code: int, more: list[Any]) -> None:
    """P-31 (I-30): a client passes over updates of a type that it does not know."""
    assert decode_update(msgpack.packb([code, 5, *more])) is None
    assert decode_update(json.dumps({"type": f"Newer{code}", "tick": 5, "more": more})) is None


def test_unknown_values_fall_back_to_what_claims_least() -> None:
    """P-32 (I-30): an enum value of a newer node is carried as one that this version knows."""
    message = [CODE_OF[MessageAccepted], 1, "g", 1, 2, "bob", 3, "hi"]
    assert told([*message, 9, False, 7]).counts is Counts.SYSTEM
    assert told([*message, 0, False, 6]).shares is Shares.READ
    assert told([CODE_OF[updates.Read], 1, "g", "bob", [1, 2], 3, 4, 9, 0]).by is By.UNSAID
    goodbye = told([CODE_OF[updates.Goodbye], 1, "on_strike", "come tomorrow"])
    assert (goodbye.code, goodbye.reason) == (Code.PROTOCOL_ERROR, "come tomorrow")
    members = told([CODE_OF[updates.Members], 1, 2, "g", "", "", 1, [["bob", "emperor", 1]], False])
    assert members.members[0].role is Role.MEMBER
    status = [1, "bob", 9, "vanished", True, None, []]
    (item,) = told([CODE_OF[updates.Statuses], 1, 2, "g", [status]]).items
    assert (item.status, item.delivered, item.read) == (Status.READ, Unknown.NOT_SUPPORTED, True)
    part = told([CODE_OF[updates.ConversationPart], 1, "g", "channel", 4])
    assert part.kind is ConversationKind.GROUP


@pytest.mark.parametrize("text", [False, True])
def test_an_unknown_register_is_skipped(text: bool) -> None:
    """P-33 (I-30): of registers only those are taken that this version knows; the rest of a part stands."""
    registers = (
        updates.RegisterPart(register=Register.NAME, version=1, value="a"),
        updates.RegisterPart(register=Register.DESCRIPTION, version=2, value="b"),
    )
    part = updates.ConversationPart(
        conversation="g", kind=ConversationKind.GROUP, head=4, registers=registers, expired_through=2
    )
    known = evolved(part, registers=registers[1:])
    single = RegisterSet(conversation="g", member=None, register=Register.NAME, version=1, value="a")
    if text:
        renamed = str(encode_update(part, 1, text=True)).replace('"name"', '"colour"')
        assert decode_update(renamed) == (1, known)
        renamed = str(encode_update(single, 1, text=True)).replace('"name"', '"colour"')
        assert decode_update(renamed) is None
    else:
        items = array_of(encode_update(part, 1))
        items[11][0][0] = "colour"
        assert decode_update(msgpack.packb(items)) == (1, known)
        items = array_of(encode_update(single, 1))
        items[4] = "colour"
        assert decode_update(msgpack.packb(items)) is None


def test_a_register_value_of_a_newer_sort_is_skipped() -> None:
    """P-33 (I-30): a value that is neither text, number nor truth belongs to a newer version."""
    items = [CODE_OF[RegisterSet], 1, "g", None, "name", 4, ["newer"]]
    assert decode_update(msgpack.packb(items)) is None
    odd: list[Any] = [[], {"a": 1}, {"int": "x"}, 1.5, -1]
    for value in odd:
        found = {"type": "RegisterSet", "tick": 1, "conversation": "g", "member": None}
        frame = json.dumps({**found, "register": "name", "version": 4, "value": value})
        assert decode_update(frame) is None


# -- what cannot be written -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [False, True])
def test_what_no_frame_can_hold_is_refused_to_the_caller(text: bool) -> None:
    """Half a surrogate pair and a frame over the limit are the caller's mistake, on both sides."""
    for body in ("\ud800", "x" * (1024 * 1024)):
        with pytest.raises(LocalProtocolError):
            encode_command(commands.SendMessage(1, "g", body, 7), text=text)
        with pytest.raises(LocalProtocolError):
            encode_update(MessageAccepted("g", 1, MessageId(2), "bob", body=body), 1, text=text)
    assert decode_command(encode_command(commands.SendMessage(1, "g", "fine", 7), text=text))


def test_numbers_over_64_bits_are_refused_to_the_caller() -> None:
    """A number that msgpack cannot hold is the caller's mistake."""
    with pytest.raises(LocalProtocolError):
        encode_command(commands.Ping(rid=2**64))
