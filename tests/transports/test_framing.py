"""The codecs by themselves: any cutting of the bytes gives the same frames; garbage gives clean errors."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame as WebsocketFrame
from websockets.frames import Opcode

from transports.base import Frame, FrameTooLarge, FramingError
from transports.framing import Codec, LengthPrefix, WebsocketClient, WebsocketServer

LIMIT = 300

frames_lists = st.lists(st.binary(max_size=LIMIT) | st.text(max_size=LIMIT // 4), max_size=20)
chunk_sizes = st.lists(st.integers(1, 50), min_size=1)


def websocket_pair() -> tuple[WebsocketClient, WebsocketServer]:
    """A client and a server that have shaken hands."""
    client, server = WebsocketClient("ws://host/", LIMIT), WebsocketServer(LIMIT)
    server.feed(client.take_reply(), [])
    client.feed(server.take_reply(), [])
    assert client.ready
    assert server.ready
    return client, server


def length_prefix_pair() -> tuple[Codec, Codec]:
    """Two ends of a TCP link."""
    return LengthPrefix(LIMIT), LengthPrefix(LIMIT)


def swapped_pair() -> tuple[Codec, Codec]:
    """A websocket whose server sends."""
    client, server = websocket_pair()
    return server, client


PAIRS = [length_prefix_pair, websocket_pair, swapped_pair]


def feed_in_chunks(codec: Codec, data: bytes, sizes: list[int]) -> list[Frame]:
    """Feed data cut at the given sizes, over and over."""
    frames: list[Frame] = []
    start = index = 0
    while start < len(data):
        stop = start + sizes[index % len(sizes)]
        codec.feed(data[start:stop], frames)
        start, index = stop, index + 1
    return frames


@pytest.mark.parametrize("make_pair", PAIRS)
@given(sent=frames_lists, sizes=chunk_sizes)
def test_any_cutting_gives_the_same_frames(
    make_pair: Callable[[], tuple[Codec, Codec]], sent: list[Frame], sizes: list[int]
) -> None:
    """However the bytes of any frames are cut, they decode to those frames with their types."""
    sender, receiver = make_pair()
    arrived = feed_in_chunks(receiver, sender.encode(sent), sizes)
    assert arrived == sent
    assert list(map(type, arrived)) == list(map(type, sent))


@pytest.mark.parametrize("make_pair", PAIRS)
@given(before=frames_lists, sizes=chunk_sizes, over=st.integers(1, 1000))
def test_frame_over_the_limit(
    make_pair: Callable[[], tuple[Codec, Codec]], before: list[Frame], sizes: list[int], over: int
) -> None:
    """The frames before one that is too large come first; then it is told with its size and the limit."""
    sender, receiver = make_pair()
    data = sender.encode(before)
    sender._limit = 2 * LIMIT + 1000  # type: ignore[attr-defined]
    data += sender.encode([b"x" * (LIMIT + over)])
    frames: list[Frame] = []
    with pytest.raises(FrameTooLarge) as info:  # noqa: PT012  (any chunk may tell)
        for start in range(0, len(data), sizes[0]):
            receiver.feed(data[start : start + sizes[0]], frames)
    assert frames == before
    assert (info.value.size, info.value.limit) == (LIMIT + over, LIMIT)
    assert not receiver.over
    assert receiver.encode([b"too large"])


@given(sent=frames_lists.filter(bool), data=st.data())
def test_truncated_length_prefix(sent: list[Frame], data: st.DataObject) -> None:
    """An end between frames is an orderly end; an end inside of one is a framing error."""
    encoded = LengthPrefix(LIMIT).encode(sent)
    ends = [0]
    for frame in sent:
        ends.append(ends[-1] + len(LengthPrefix(LIMIT).encode([frame])))
    stop = data.draw(st.integers(0, len(encoded)))
    receiver = LengthPrefix(LIMIT)
    frames: list[Frame] = []
    receiver.feed(encoded[:stop], frames)
    assert frames == sent[: sum(end <= stop for end in ends) - 1]
    assert type(receiver.end()) is (anyio.EndOfStream if stop in ends else FramingError)


@pytest.mark.parametrize("make_pair", PAIRS)
@given(garbage=st.binary(max_size=2000), sizes=chunk_sizes)
def test_garbage(make_pair: Callable[[], tuple[Codec, Codec]], garbage: bytes, sizes: list[int]) -> None:
    """Whatever the bytes are, nothing but the codec's own errors comes out, and no frame over the limit."""
    _sender, receiver = make_pair()
    frames: list[Frame] = []
    try:
        for start in range(0, len(garbage), sizes[0]):
            receiver.feed(garbage[start : start + sizes[0]], frames)
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        pass
    else:
        assert isinstance(receiver.end(), anyio.EndOfStream | anyio.BrokenResourceError)
    for frame in frames:
        assert len(frame) <= LIMIT
    receiver.goodbye()


@given(garbage=st.binary(max_size=2000))
def test_garbage_instead_of_a_handshake(garbage: bytes) -> None:
    """Whatever comes instead of a handshake, either side only says that it failed."""
    for codec in (WebsocketServer(LIMIT), WebsocketClient("ws://host/", LIMIT)):
        try:
            codec.feed(garbage, [])
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            assert codec.over
        assert not codec.ready


@pytest.mark.parametrize("make_pair", [length_prefix_pair, websocket_pair, swapped_pair])
def test_text_that_is_not_utf8(make_pair: Callable[[], tuple[Codec, Codec]]) -> None:
    """A text frame with other bytes than UTF-8 is a framing error, after the frames before it."""
    sender, receiver = make_pair()
    good, bad = sender.encode([b"good"]), b"\xff\xfe"
    if isinstance(sender, LengthPrefix):
        encoded = struct.pack(">I", 1 << 31 | 2) + bad
    else:
        encoded = WebsocketFrame(Opcode.TEXT, bad).serialize(mask=isinstance(sender, WebsocketClient))
    frames: list[Frame] = []
    with pytest.raises(FramingError, match="UTF-8"):
        receiver.feed(good + encoded, frames)
    assert frames == [b"good"]


@given(payload=st.binary(max_size=LIMIT), cuts=st.lists(st.integers(0, LIMIT), max_size=5))
def test_fragments_make_one_frame(payload: bytes, cuts: list[int]) -> None:
    """A message in fragments, with a ping between them, arrives whole, and the ping is answered."""
    client, server = websocket_pair()
    marks = [0, *sorted(min(cut, len(payload)) for cut in cuts), len(payload)]
    data = b""
    for index in range(len(marks) - 1):
        opcode = Opcode.BINARY if index == 0 else Opcode.CONT
        part = payload[marks[index] : marks[index + 1]]
        data += WebsocketFrame(opcode, part, fin=index == len(marks) - 2).serialize(mask=True)
        data += WebsocketFrame(Opcode.PING, b"are you there").serialize(mask=True)
    frames: list[Frame] = []
    server.feed(data, frames)
    assert frames == [payload]
    pong = WebsocketFrame(Opcode.PONG, b"are you there").serialize(mask=False)
    assert server.take_reply() == pong * (len(marks) - 1)
    assert client.ready


@pytest.mark.parametrize("payload", [b"", b"xy"])
def test_fragments_cost_what_they_hold(payload: bytes) -> None:
    """However many fragments a message comes in, empty ones without end too, they take their bytes alone."""
    client, server = websocket_pair()
    server.feed(WebsocketFrame(Opcode.BINARY, b"begin", fin=False).serialize(mask=True), [])
    fragment = WebsocketFrame(Opcode.CONT, payload, fin=False).serialize(mask=True)
    server.feed(fragment, [])
    tracemalloc.start()
    try:
        for _ in range(100):
            server.feed(fragment, [])
        before, _ = tracemalloc.get_traced_memory()
        if not payload:
            server.feed(fragment * 10_000, [])
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert before < 4096
    assert after - before < 1024
    frames: list[Frame] = []
    server.feed(WebsocketFrame(Opcode.CONT, b"end").serialize(mask=True), frames)
    assert frames == [b"begin" + payload * 101 + b"end"]
    assert client.ready


def test_fragments_over_the_limit() -> None:
    """Fragments count together: the size told is that of all that came and the one that is too much."""
    _client, server = websocket_pair()
    first = WebsocketFrame(Opcode.BINARY, b"x" * 200, fin=False).serialize(mask=True)
    second = WebsocketFrame(Opcode.CONT, b"x" * 200).serialize(mask=True)
    with pytest.raises(FrameTooLarge) as info:
        server.feed(first + second, [])
    assert (info.value.size, info.value.limit) == (400, LIMIT)
    assert server.goodbye()[2:4] == struct.pack(">H", 1009)


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_two_requests_at_once(chunk: int) -> None:
    """What stands behind a plain request is not taken for frames: the first is answered, and that is all."""
    request = b"GET /health HTTP/1.1\r\nHost: host\r\n\r\n"
    server = WebsocketServer(LIMIT, health=lambda: "well")
    with pytest.raises(anyio.EndOfStream):
        feed_in_chunks(server, request * 2, [chunk])
    assert server.over
    assert server.take_reply().endswith(b"\r\n\r\nwell")


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_frames_behind_the_handshake(chunk: int) -> None:
    """A client that does not wait for the answer is heard, and answered in order, the handshake first."""
    client, server = WebsocketClient("ws://host/", LIMIT), WebsocketServer(LIMIT)
    eager = client.take_reply() + WebsocketFrame(Opcode.PING, b"?").serialize(mask=True)
    eager += client.encode([b"one", "two"]) + WebsocketFrame(Opcode.CLOSE, b"").serialize(mask=True)
    frames: list[Frame] = []
    with pytest.raises(anyio.EndOfStream):  # noqa: PT012  (any chunk may tell)
        for start in range(0, len(eager), chunk):
            server.feed(eager[start : start + chunk], frames)
    assert frames == [b"one", "two"]
    heard = server.take_reply()
    assert heard.startswith(b"HTTP/1.1 101 ")
    client.feed(heard[: heard.index(b"\r\n\r\n") + 4], [])
    assert client.ready
    assert heard[heard.index(b"\r\n\r\n") + 4 :] == b"\x8a\x01?\x88\x00"


def test_closing_handshake() -> None:
    """A goodbye is answered, is a clean end for both, and only then is the answer no longer awaited."""
    client, server = websocket_pair()
    goodbye = client.goodbye()
    owed = client.awaits_answer
    with pytest.raises(anyio.EndOfStream):
        server.feed(goodbye, [])
    with pytest.raises(anyio.EndOfStream):
        client.feed(server.take_reply(), [])
    assert server.over
    assert client.over
    assert (owed, client.awaits_answer) == (True, False)
    assert server.goodbye() == b""


def test_vanished_websocket_peer() -> None:
    """A websocket that ends without the closing handshake did not end cleanly, inside of a frame or not."""
    _client, server = websocket_pair()
    assert not isinstance(server.end(), anyio.EndOfStream)
    client, server = websocket_pair()
    server.feed(client.encode([b"x" * 50])[:30], [])
    assert isinstance(server.end(), FramingError)


def test_many_small_chunks_are_not_copied_again() -> None:
    """A large frame in single bytes decodes in linear time: a quadratic decoder would take minutes here."""
    size = 1 << 20
    codec = LengthPrefix(size)
    frames: list[Frame] = []
    for byte in codec.encode([b"x" * size]):
        codec.feed(bytes((byte,)), frames)
    assert frames == [b"x" * size]


def test_limits_must_make_sense() -> None:
    """A limit of nothing, or over what the length can say, is refused at once."""
    for limit in (0, -1, 1 << 31):
        with pytest.raises(ValueError, match="frame_bytes_max"):
            LengthPrefix(limit)
