"""The vendor's frames, byte for byte, and bodies of both worlds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from receipts.core.errors import DecodeError
from receipts.core.events import Body, MessageAccepted
from receipts.core.ids import Counts, MessageId
from receipts.easemob import bodies, codec
from receipts.easemob import msync_pb2 as pb
from receipts.easemob.codec import BodyType, ContentType, StatusCode

LOGIN = (
    "0800122b0a076f7267236170701205616c6963651a0b656173656d6f622e636f6d220c776562696d5f7765625f61311a0c247424746f"
    "6b2d616c69636540034a6f08101206342e32312e31280030004a0c776562696d5f7765625f6131620c776562696d5f7765625f61316a"
    "0c776562696d5f7765625f61318a010476352e329201187b22746f6b656e223a22247424746f6b2d616c696365227da2010e31373935"
    "33383432343532313"
    "53ab201010250005800a00180a080c0efebd3c068"
)
TEXT = (
    "080040004a460a4408e2c5a7f3b70f1a1b0a076f7267236170701203626f621a0b656173656d6f622e636f6d2801321a080112071205"
    "616c6963651a051203626f62220608001202686938005800a00180a080befbebd3c068"
)
ACKNOWLEDGEMENT = (
    "080040004a2110011a1d0a076f7267236170701205715f626f621a0b656173656d6f622e636f6d5800a00180a080e8fbebd3c068"
)


def test_reading_a_login() -> None:
    """A login as the SDK sends it."""
    sync = codec.parse(pb.MSync, bytes.fromhex(LOGIN))
    provision = codec.parse(pb.Provision, sync.payload)
    assert (sync.command, sync.guid.appKey, sync.guid.name) == (3, "org#app", "alice")
    assert (provision.resource, provision.version) == ("webim_web_a1", "4.21.1")
    assert json.loads(provision.authToken) == {"token": "$t$tok-alice"}


def test_reading_a_message() -> None:
    """A text as the SDK sends it; its body can be written again byte for byte."""
    sync = codec.parse(pb.MSync, bytes.fromhex(TEXT))
    meta = codec.parse(pb.CommSyncUL, sync.payload).meta
    assert (meta.id, meta.to.name, meta.to.domain, meta.ns) == (530401845986, "bob", codec.USER_DOMAIN, 1)
    body = codec.parse(pb.MessageBody, meta.payload)
    assert bodies.stored(meta.payload, body, "alice", "bob", group=False) == "hi"
    event = message("hi")
    assert bodies.payload_of(event, "bob", group=False) == meta.payload


def test_reading_an_acknowledgement() -> None:
    """A queue with a key, and no message."""
    sync = codec.parse(pb.CommSyncUL, codec.parse(pb.MSync, bytes.fromhex(ACKNOWLEDGEMENT)).payload)
    assert (sync.key, sync.queue.name, sync.HasField("meta")) == (1, "q_bob", False)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (codec.unread_frame("org#app", None, 0, 1795384245237), "080040014a0b0a02080018f5f7f5a9a034"),
        (
            codec.unread_frame("org#app", "q_alice", 1, 1795384245110),
            "080040014a300a02080012230a1f0a076f7267236170701207715f616c6963651a0b656173656d6f622e636f6d100118f694f6a9a034",
        ),
        (
            codec.answer_frame(530401845986, 1400000000000000007, 1795384245984),
            "080040004a1c0a02080010e2c5a7f3b70f188780b0ecd192f3b61340e0fdf5a9a034",
        ),
        (
            codec.last_frame(codec.queue_bytes("org#app", "q_bob"), 1795384246005),
            "080040004a2e0a0208002801321d0a076f7267236170701205715f626f621a0b656173656d6f622e636f6d380140f5fdf5a9a034",
        ),
    ],
    ids=["unread", "unread queue", "answer", "last"],
)
def test_writing_frames(made: bytes, expected: str) -> None:
    """Frames with the fields, order and explicit zeros that the SDK is known to take."""
    found, known = codec.parse(pb.MSync, made), codec.parse(pb.MSync, bytes.fromhex(expected))
    assert found.command == known.command
    kind = pb.CommUnreadDL if found.command == codec.Command.UNREAD else pb.CommSyncDL
    first, second = codec.parse(kind, found.payload), codec.parse(kind, known.payload)
    first.ClearField("timestamp")
    second.ClearField("timestamp")
    if isinstance(second, pb.CommSyncDL):
        second.ClearField("nextKey")
    first.DiscardUnknownFields()
    second.DiscardUnknownFields()
    assert first == second


def test_a_login_is_accepted_with_the_expiry_of_its_token() -> None:
    """The SDK's timers go by it; status and resource are always there."""
    made = codec.parse(pb.MSync, codec.provision_frame("webim_web_a1", expires_ms=77))
    answer = codec.parse(pb.Provision, made.payload)
    assert answer.status.HasField("errorCode")
    assert answer.resource == "webim_web_a1"
    assert json.loads(answer.authToken) == {"expires_in": 77}
    refused = codec.parse(pb.MSync, codec.provision_frame("r", code=StatusCode.FAIL, reason="no"))
    assert codec.parse(pb.Provision, refused.payload).status.reason == "no"


def test_a_group_receipt_carries_its_count_first() -> None:
    """The SDK parses the first attribute as JSON, whatever it is called."""
    body = codec.parse(
        pb.MessageBody, codec.receipt_body(BodyType.READ_ACK, "bob", "g1", 14, content="{}", count=2)
    )
    assert json.loads(body.ext[0].stringValue) == {"14": 2}
    assert (body.ackMessageId, body.ackContent, body.msgConfig.allowGroupAck) == (14, "{}", True)
    plain = codec.parse(pb.MessageBody, codec.receipt_body(BodyType.READ_ACK, "bob", "alice", 14))
    assert not plain.ext
    assert len(plain.contents) == 1


def test_what_is_no_message_is_refused() -> None:
    """With what it should have been."""
    with pytest.raises(DecodeError, match="Provision"):
        codec.parse(pb.Provision, b"\xff")
    with pytest.raises(DecodeError, match="UTF-8"):
        codec.parse(pb.MSync, bytes.fromhex("1a02ff61"))


def test_ids_of_receipts() -> None:
    """The same for the same, odd, positive and below 2**63."""
    made = {codec.receipt_id(mid, "bob", "READ") for mid in range(1000)}
    assert len(made) == 1000
    assert all(mid % 2 == 1 and 0 < mid < 2**63 for mid in made)
    assert codec.receipt_id(7, "bob", "READ") in made


# -- bodies


def message(body: Body, *, asks: bool = False, conversation: str = "alice~bob") -> MessageAccepted:
    return MessageAccepted(conversation, 1, MessageId(2), "alice", "", 5, body, asks=asks)


def picture() -> pb.MessageBody:
    content = pb.Content(
        type=ContentType.IMAGE, displayName="cat.png", remotePath="https://x/1", fileLength=9
    )
    content.size.width, content.size.height = 3, 4
    return pb.MessageBody(type=1, sender=pb.JID(name="alice"), to=pb.JID(name="bob"), contents=(content,))


def test_bodies_are_forwarded_byte_for_byte() -> None:
    """What does not follow from its text is kept as it came, unknown fields and all."""
    with_zero = pb.MessageBody(
        type=1, sender=pb.JID(name="alice"), to=pb.JID(name="bob"), contents=(pb.Content(type=0, text="hi"),)
    )
    with_zero.contents[0].subType = 0
    unknown = with_zero.SerializeToString() + bytes.fromhex("920103616263")
    for payload in (picture().SerializeToString(), with_zero.SerializeToString(), unknown, b""):
        body = codec.parse(pb.MessageBody, payload)
        kept = bodies.stored(payload, body, "alice", "bob", group=False)
        assert isinstance(kept, bytes)
        assert bodies.payload_of(message(kept), "bob", group=False) == payload


def test_asking_texts_are_texts() -> None:
    """Whether a message asks is known beside its body."""
    payload = bodies.payload_of(message("yo", asks=True, conversation="g1"), "g1", group=True)
    body = codec.parse(pb.MessageBody, payload)
    assert body.msgConfig.allowGroupAck
    assert bodies.stored(payload, body, "alice", "g1", group=True) == "yo"
    assert isinstance(bodies.stored(payload, body, "alice", "bob", group=False), bytes)


def test_native_clients_see_the_text() -> None:
    """Of any body, with the bytes where there is more."""
    payload = picture().SerializeToString()
    assert bodies.opened("hi") == bodies.Opened("hi", None)
    assert bodies.opened(bodies.MARK + payload) == bodies.Opened("cat.png", payload)
    assert bodies.opened(bodies.MARK + b"\xff") == bodies.Opened("", b"\xff")
    assert bodies.opened(b"\x00raw") == bodies.Opened("", None)
    assert bodies.opened(bodies.MARK) == bodies.Opened("", b"")


def test_bytes_of_native_clients_are_custom_messages() -> None:
    """The SDK has no other place for them."""
    payload = bodies.payload_of(message(b"\x00\x01"), "bob", group=False)
    (content,) = codec.parse(pb.MessageBody, payload).contents
    assert (content.type, content.customEvent) == (ContentType.CUSTOM, bodies.BYTES_EVENT)
    assert content.customExts[0].stringValue == "AAE="


def test_commands_raise_no_badge() -> None:
    """They are for the application, not for its user."""
    command = pb.MessageBody(type=1, contents=(pb.Content(type=ContentType.COMMAND, action="typing"),))
    assert bodies.counts_of(command) is Counts.SILENT
    assert bodies.counts_of(picture()) is Counts.YES
    assert bodies.counts_of(pb.MessageBody(type=1)) is Counts.YES


def test_bodies_as_json() -> None:
    """As the vendor's conversation list has them, attributes by their types."""
    assert bodies.payload_json(message("hi"), to="bob", group=False) == {
        "bodies": [{"type": "txt", "msg": "hi"}],
        "from": "alice",
        "to": "bob",
        "type": "chat",
        "ext": {},
    }
    body = picture()
    for key, kind, field, value in (
        ("text", 7, "stringValue", "a"),
        ("json", 8, "stringValue", '{"b": 1}'),
        ("broken", 8, "stringValue", "{"),
        ("yes", 1, "varintValue", 1),
        ("number", 2, "varintValue", 5),
        ("float", 5, "floatValue", 0.5),
        ("double", 6, "doubleValue", 0.25),
    ):
        body.ext.add(key=key, type=kind, **{field: value})
    body.contents.add(type=ContentType.COMMAND, action="go")
    body.contents.add(type=ContentType.CUSTOM, customEvent="event")
    body.contents.add(type=ContentType.LOCATION, address="here", latitude=1, longitude=2)
    body.contents.add(type=ContentType.VOICE, duration=3)
    body.contents.add(type=99, text="later")
    found = bodies.payload_json(message(bodies.MARK + body.SerializeToString()), to="g1", group=True)
    assert found["type"] == "groupchat"
    assert found["ext"] == {
        "text": "a",
        "json": {"b": 1},
        "broken": "{",
        "yes": True,
        "number": 5,
        "float": 0.5,
        "double": 0.25,
    }
    assert found["bodies"] == [
        {
            "type": "img",
            "url": "https://x/1",
            "secret": "",
            "filename": "cat.png",
            "file_length": 9,
            "size": {"width": 3.0, "height": 4.0},
        },
        {"type": "cmd", "action": "go"},
        {"type": "custom", "customEvent": "event", "customExts": [{}]},
        {"type": "loc", "addr": "here", "lat": 1.0, "lng": 2.0},
        {"type": "audio", "length": 3},
        {"type": "txt", "msg": "later"},
    ]
    assert bodies.payload_json(message(bodies.MARK + b"\xff"), to="bob", group=False)["bodies"] == []


def test_the_classes_are_those_of_the_description() -> None:
    """`msync_pb2` was made from `msync.proto` as it is now: every field has its name and number."""
    described = []
    name = ""
    for line in (Path(codec.__file__).parent / "msync.proto").read_text().splitlines():
        words = line.split()
        if line.startswith("message "):
            name = words[1]
        elif words and words[0] in ("optional", "repeated"):
            described.append((name, words[2], int(words[4].rstrip(";"))))
    made = [
        (kind.name, field.name, field.number)
        for kind in pb.DESCRIPTOR.message_types_by_name.values()
        for field in kind.fields
    ]
    assert sorted(described) == sorted(made)
