"""Garbage for the framing: whatever bytes come in, only what a codec declares comes out, and little is kept.

`python -m tests.wire.fuzz` runs this too; the suite runs a slice. An input is all that one peer says: frames
of one of the codecs, or a handshake, mostly with something changed, cut into chunks at any place. What was
not changed has to arrive as it was sent, and how it is cut must make no difference.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from websockets.frames import Frame as WebsocketFrame
from websockets.frames import Opcode

from tests.memory_watch import looked_at
from transports.base import BrokenResourceError, EndOfStream, Frame, FrameTooLarge, FramingError, frame_size
from transports.framing import Codec, LengthPrefix, WebsocketClient, WebsocketServer

__all__ = ["Heard", "Input", "heard", "judge", "made", "run"]

LIMIT = 3000
"""Of a frame: small, so that random lengths are above it as often as below."""

_URL = "ws://host/link"
_LOOK_EVERY = 500


class Input(NamedTuple):
    """What one peer says."""

    subject: str
    data: bytes
    sent: list[Frame] | None
    """What has to arrive; None when something was changed."""
    chunks: list[int]
    """Sizes of the pieces in which it comes, over and over."""


class Heard(NamedTuple):
    """What came of it."""

    frames: list[Frame]
    end: type[Exception] | None
    """What `feed` raised; None when it would go on."""


# -- who hears it


def _server(shaken: bool = True) -> WebsocketServer:
    server = WebsocketServer(LIMIT)
    if shaken:
        server.feed(_ASKING, [])
        server.take_reply()
    return server


def _client(shaken: bool = True) -> WebsocketClient:
    client = WebsocketClient(_URL, LIMIT)
    client._protocol.key = _KEY  # one that does not change, so that one answer fits them all
    if shaken:
        client.feed(_answer(), [])
    return client


def _asking() -> bytes:
    client = WebsocketClient(_URL, LIMIT)
    return client.take_reply().replace(client._protocol.key.encode(), _KEY.encode())


def _answer() -> bytes:
    server = WebsocketServer(LIMIT)
    server.feed(_ASKING, [])
    return server.take_reply()


_KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # the one of RFC 6455, section 1.3
_ASKING = _asking()


_SUBJECTS: dict[str, Callable[[], Codec]] = {
    "length prefix": lambda: LengthPrefix(LIMIT),
    "websocket server": _server,
    "websocket client": _client,
    "server's handshake": lambda: _server(shaken=False),
    "client's handshake": lambda: _client(shaken=False),
}
_NAMES = ("length prefix",) * 4 + ("websocket server",) * 3 + ("websocket client",) * 2 + tuple(_SUBJECTS)


# -- what is said


def _frame(chance: random.Random) -> Frame:
    size = chance.choice((0, 1, 5, 125, 126, 127, 1000, LIMIT))
    if chance.random() < 0.5:
        return chance.randbytes(size)
    return "".join(chance.choices("ab é€😀", k=size // 4))


def _said(subject: str, frames: Sequence[Frame], chance: random.Random) -> bytes:
    if subject == "length prefix":
        return LengthPrefix(LIMIT).encode(frames)
    parts: list[bytes] = []
    if subject == "server's handshake":
        parts.append(_ASKING.replace(b"GET /link", chance.choice(_REQUESTS)))
    elif subject == "client's handshake":
        parts.append(_answer())
    mask = subject in ("websocket server", "server's handshake")
    for frame in frames:
        parts.append(_message(frame, mask, chance))
        if chance.random() < 0.3:
            ping = WebsocketFrame(chance.choice((Opcode.PING, Opcode.PONG)), chance.randbytes(3))
            parts.append(ping.serialize(mask=mask))
    return b"".join(parts)


_REQUESTS = (b"GET /link", b"GET /link", b"GET /link?x=1", b"GET http://host/link")


def _message(frame: Frame, mask: bool, chance: random.Random) -> bytes:
    """One message, perhaps in fragments, of which some are empty."""
    opcode = Opcode.TEXT if isinstance(frame, str) else Opcode.BINARY
    payload = frame.encode() if isinstance(frame, str) else frame
    cuts = sorted(chance.randint(0, len(payload)) for _ in range(chance.choice((0, 0, 1, 3))))
    edges = [0, *cuts, len(payload)]
    parts = []
    for index, (start, stop) in enumerate(pairwise(edges)):
        last = index == len(edges) - 2
        part = WebsocketFrame(opcode if index == 0 else Opcode.CONT, payload[start:stop], fin=last)
        parts.append(part.serialize(mask=mask))
    return b"".join(parts)


def _changed(data: bytes, chance: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(found) + 1)
        match chance.randrange(6):
            case 0:
                del found[at:]
            case 1:
                found[at:at] = chance.randbytes(chance.randint(1, 9))
            case 2:
                found[at : at + chance.randrange(9)] = b""
            case 3:
                found[at : at + 1] = bytes([chance.choice(b"\x00\x7f\x80\x81\x82\x88\x89\x8a\xfe\xff\r\n: ")])
            case 4:
                found[at:at] = found[: chance.randrange(200)]
            case _ if found:
                at = chance.randrange(min(len(found), 16))  # heads are where most is decided
                found[at] ^= 1 << chance.randrange(8)
            case _:
                pass
    return bytes(found)


def made(chance: random.Random) -> Input:
    """One input."""
    subject = chance.choice(_NAMES)
    chunks = [chance.choice((1, 2, 7, 100, 5000, 5000)) for _ in range(3)]
    if chance.random() < 0.1:
        return Input(subject, chance.randbytes(chance.randrange(300)), None, chunks)
    frames = [_frame(chance) for _ in range(chance.randrange(5))]
    data = _said(subject, frames, chance)
    if chance.random() < 0.1:
        return Input(subject, data, frames, chunks)
    if chance.random() < 0.1 and subject != "length prefix":
        data += _close(subject != "websocket client", chance)
    return Input(subject, _changed(data, chance), None, chunks)


def _close(mask: bool, chance: random.Random) -> bytes:
    code = chance.choice((1000, 1001, 1005, 1006, 1009, 1011, 3000, 9999))
    payload = chance.choice((b"", code.to_bytes(2, "big"), code.to_bytes(2, "big") + b"why"))
    return WebsocketFrame(Opcode.CLOSE, payload).serialize(mask=mask)


# -- what comes of it


def heard(codec: Codec, data: bytes, chunks: Sequence[int]) -> Heard:
    """Feed all of it, piece by piece, until the codec has had enough."""
    frames: list[Frame] = []
    start = index = 0
    while start < len(data):
        stop = start + chunks[index % len(chunks)]
        try:
            codec.feed(data[start:stop], frames)
        except (EndOfStream, BrokenResourceError) as end:
            return Heard(frames, type(end))
        finally:
            codec.take_reply()
        start, index = stop, index + 1
    return Heard(frames, None)


def judge(case: Input) -> str:
    """Let a codec hear an input, and say what came of it.

    Raises:
        AssertionError: A frame over the limit, or out of nothing, or not as it was sent; or the same bytes in
            other pieces came to something else.
        Exception: Anything but what codecs declare: the bug that is looked for.
    """
    codec = _SUBJECTS[case.subject]()
    result = heard(codec, case.data, case.chunks)
    assert sum(map(frame_size, result.frames)) <= len(case.data)
    assert all(frame_size(frame) <= LIMIT for frame in result.frames)
    if case.sent is not None:
        assert result == Heard(case.sent, None)
    assert heard(_SUBJECTS[case.subject](), case.data, [len(case.data) or 1]) == result
    if result.end is None:
        assert isinstance(codec.end(), EndOfStream | BrokenResourceError)
    if codec.ready and not codec.over:
        assert codec.encode([b"something", "went wrong"])
    assert isinstance(codec.goodbye(), bytes)
    return _OUTCOMES[result.end]


_OUTCOMES: dict[type[Exception] | None, str] = {
    None: "frames, or their beginning",
    EndOfStream: "closed by the peer",
    FrameTooLarge: "a frame too large",
    FramingError: "not frames",
    BrokenResourceError: "broken by the peer",
}


def run(inputs: int, seed: int) -> Counter[str]:
    """Judge so many inputs; how many of them were what."""
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    for number in range(inputs):
        case = made(chance)
        if number % _LOOK_EVERY:
            outcomes[judge(case)] += 1
        else:
            outcomes[looked_at(lambda case=case: judge(case), len(case.data))] += 1  # type: ignore[misc]
    return outcomes
