"""How frames become bytes and bytes become frames. PURE: no sockets, no clock, no tasks.

Two codecs, one object of either per link: `LengthPrefix` (TCP, TLS, Unix sockets) and a websocket one for
each side (RFC 6455, by the Sans-I/O layer of the `websockets` package). What drives them is
`transports.stream`; what opens sockets is elsewhere too.

Rule 1: `feed` appends every frame that came whole before it raises anything about those that did not.

Rule 2: after an error nothing further can be decoded, but `encode` and `goodbye` still work, unless the codec
is `over`.

Rule 3: work is linear in the bytes fed, however they are cut into chunks.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidURI, PayloadTooBig
from websockets.frames import Frame as WebsocketFrame
from websockets.frames import Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from transports.base import BrokenResourceError, EndOfStream, Frame, FrameTooLarge, FramingError

__all__ = ["FRAME_BYTES_MAX", "Codec", "Health", "LengthPrefix", "WebsocketClient", "WebsocketServer"]

FRAME_BYTES_MAX = 1 << 20
"""Default limit of one frame: 1 MiB, as in `websockets` and NATS; bounds what one peer makes us buffer."""

Health = Callable[[], bytes | str]
"""Gives the body of the answer to a plain GET: JSON if it starts with a brace or bracket, else text."""

_HEADER = struct.Struct(">I")
_pack = _HEADER.pack
_unpack_from = _HEADER.unpack_from
_TEXT_BIT = 0x8000_0000
_LENGTH_MASK = 0x7FFF_FFFF


class Codec(ABC):
    """Turns one link's frames into bytes and back.

    After `feed`, whether it returned or raised, you must write `reply` to the peer, if there is any, and take
    it by `take_reply`.
    """

    __slots__ = ()

    reply: bytes
    """Bytes that the protocol itself owes the peer (a handshake, a pong, a close), to be written now."""
    ready: bool
    """Whether the opening handshake is done, so that frames can flow."""
    over: bool
    """Whether the peer has ended the conversation; then nothing more may be sent but `reply`."""
    awaits_answer: bool
    """Whether, after `goodbye`, the peer still owes an answer, which `feed` reports as the end."""

    def take_reply(self) -> bytes:
        """Return `reply`, and forget it."""
        return b""

    @abstractmethod
    def encode(self, frames: Sequence[Frame]) -> bytes:
        """Return the bytes of all these frames.

        Raises:
            ValueError: If a frame is over the limit or is text that UTF-8 cannot carry.
            TypeError: If something is neither `bytes` nor `str`.
        """

    @abstractmethod
    def feed(self, data: bytes, frames: list[Frame]) -> None:
        """Take bytes as they arrived and append to `frames` those that are now whole.

        Raises:
            EndOfStream: If the peer closed the link within the protocol; `over` is true.
            FrameTooLarge: If a frame is over the limit.
            FramingError: If the bytes are not frames, or the opening handshake failed (then `over` is true).
            BrokenResourceError: If the peer closed saying that something failed; `over` is true.
        """

    @abstractmethod
    def end(self) -> EndOfStream | BrokenResourceError:
        """Return what it means that the bytes end here: an orderly end, or a link that broke."""

    @abstractmethod
    def goodbye(self) -> bytes:
        """Return the bytes that tell the peer that we close; may be empty. To be called once."""


def _too_large_to_send(size: int, limit: int) -> ValueError:
    return ValueError(f"a frame of {size} bytes cannot be sent; the limit is {limit}")


def _wrong_type(frame: object) -> TypeError:
    return TypeError(f"a frame is bytes or str, not {type(frame).__name__}")


class LengthPrefix(Codec):
    """Each frame behind its length in four bytes, big-endian; the top bit says that it is text (UTF-8).

    Args:
        frame_bytes_max: The largest frame, in bytes, inclusive, that is sent or accepted.
    """

    __slots__ = ("_limit", "_needed", "_rest")

    # These never change here, so they cost no memory per link.
    reply = b""
    ready = True
    over = False
    awaits_answer = False

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        if not 0 < frame_bytes_max <= _LENGTH_MASK:
            raise ValueError(f"frame_bytes_max is {frame_bytes_max}; it can be 1 to {_LENGTH_MASK}")
        self._limit = frame_bytes_max
        # The beginning of a frame whose end has not come, or None: an idle link owns no buffer.
        self._rest: bytearray | None = None
        # How long `_rest` must become before it is worth looking at again.
        self._needed = 0

    def encode(self, frames: Sequence[Frame]) -> bytes:
        if len(frames) == 1:
            return self._encode_one(frames[0])
        encode_one = self._encode_one
        return b"".join([encode_one(frame) for frame in frames])

    def _encode_one(self, frame: Frame) -> bytes:
        if isinstance(frame, bytes):
            size = len(frame)
            if size <= self._limit:
                return _pack(size) + frame
        elif isinstance(frame, str):
            payload = frame.encode()
            size = len(payload)
            if size <= self._limit:
                return _pack(size | _TEXT_BIT) + payload
        else:
            raise _wrong_type(frame)
        raise _too_large_to_send(size, self._limit)

    def feed(self, data: bytes, frames: list[Frame]) -> None:
        rest = self._rest
        if rest is not None:
            rest += data
            if len(rest) < self._needed:
                return
            data = bytes(rest)
            self._rest = None
        size = len(data)
        start = 0
        needed = 4
        while start + 4 <= size:
            (head,) = _unpack_from(data, start)
            length = head & _LENGTH_MASK
            if length > self._limit:
                raise FrameTooLarge(length, self._limit)
            stop = start + 4 + length
            if stop > size:
                needed = 4 + length
                break
            payload = data[start + 4 : stop]
            frames.append(_text(payload) if head & _TEXT_BIT else payload)
            start = stop
        if start < size:
            self._rest = bytearray(memoryview(data)[start:])
            self._needed = needed

    def end(self) -> EndOfStream | BrokenResourceError:
        if self._rest is None:
            return EndOfStream()
        return FramingError(
            f"the peer vanished inside a frame: {len(self._rest)} of {self._needed} bytes came"
        )

    def goodbye(self) -> bytes:
        return b""


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise FramingError(f"a text frame is not UTF-8: {error.reason} at byte {error.start}") from error


# RFC 6455, section 7.4.1: the codes with which a peer says that all is well.
_CLEAN_CLOSE_CODES = frozenset({1000, 1001, 1005})
_NORMAL_CLOSURE = 1000
_INVALID_DATA = 1007

_REQUEST_END = b"\r\n\r\n"


class _Websocket(Codec):
    """What both sides of a websocket share; each message is one frame, extensions are never negotiated."""

    __slots__ = (
        "_limit",
        "_parts",
        "_protocol",
        "_text",
        "_verdict",
        "awaits_answer",
        "over",
        "ready",
        "reply",
    )

    def __init__(self, protocol: Protocol, frame_bytes_max: int) -> None:
        self._protocol = protocol
        self._limit = frame_bytes_max
        # What came of a message in fragments. One buffer, because a list of them would grow by fragments that
        # are empty, of which no limit of size ever tells.
        self._parts: bytearray | None = None
        self._text = False
        # The close frame that names what the peer did wrong. It is held back until `goodbye`, so that frames
        # can still be sent: after a close frame there must be none (RFC 6455, section 5.5.1).
        self._verdict: bytes | None = None
        self.reply = b""
        self.ready = False
        self.over = False
        self.awaits_answer = False

    def take_reply(self) -> bytes:
        reply, self.reply = self.reply, b""
        return reply

    def feed(self, data: bytes, frames: list[Frame]) -> None:
        protocol = self._protocol
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, WebsocketFrame):
                self._feed_event(event, frames)
            else:
                self._shake_hands(event)
        if protocol.parser_exc is not None:
            self._verdict = self._written()
            raise self._failure(protocol.parser_exc)
        if not self.ready and protocol.handshake_exc is not None:
            self.over = True
            self.reply += self._written()
            raise FramingError(f"the websocket handshake failed: {protocol.handshake_exc}")
        if protocol.writes:
            self.reply += self._written()

    def _written(self) -> bytes:
        # The library marks the end of the stream by an empty string; when to end it is the link's decision.
        return b"".join(self._protocol.data_to_send())

    def _feed_event(self, event: WebsocketFrame, frames: list[Frame]) -> None:
        opcode = event.opcode
        if opcode is Opcode.BINARY or opcode is Opcode.TEXT:
            text = opcode is Opcode.TEXT
            if event.fin:
                frames.append(self._message(bytes(event.data), text))
            else:
                self._parts, self._text = bytearray(event.data), text
        elif opcode is Opcode.CONT:
            assert self._parts is not None, "the library lets no continuation through without a beginning"
            self._parts += event.data
            if event.fin:
                payload, self._parts = bytes(self._parts), None
                frames.append(self._message(payload, self._text))
        elif opcode is Opcode.CLOSE:
            self._closed_by_peer()

    def _message(self, payload: bytes, text: bool) -> Frame:
        if not text:
            return payload
        try:
            return _text(payload)
        except FramingError as error:
            self._protocol.fail(_INVALID_DATA, error.reason)
            self._verdict = self._written()
            raise

    def _closed_by_peer(self) -> None:
        self.reply += self._written()
        self.over = True
        self.awaits_answer = False
        close = self._protocol.close_rcvd
        assert close is not None
        if close.code in _CLEAN_CLOSE_CODES:
            raise EndOfStream
        raise BrokenResourceError(f"the peer closed the websocket: {close}")

    def _failure(self, error: Exception) -> BrokenResourceError:
        self.awaits_answer = False
        if isinstance(error, PayloadTooBig):
            return FrameTooLarge((error.size or 0) + (error.current_size or 0), self._limit)
        return FramingError(f"not a websocket frame: {error}")

    def end(self) -> EndOfStream | BrokenResourceError:
        if self.over:
            return EndOfStream()
        if not self.ready:
            return FramingError("the peer vanished during the websocket handshake")
        self._protocol.receive_eof()
        error = self._protocol.parser_exc
        if self._parts is not None or (error is not None and "expected" in str(error)):
            return FramingError("the peer vanished inside a frame")
        return BrokenResourceError("the peer vanished without the websocket closing handshake")

    def goodbye(self) -> bytes:
        if self._verdict is not None:
            return self._verdict
        if self.over or not self.ready or self._protocol.state is not State.OPEN:
            return b""
        self._protocol.send_close(_NORMAL_CLOSURE)
        self.awaits_answer = True
        return self._written()

    @abstractmethod
    def _shake_hands(self, event: Request | Response) -> None:
        """Take the peer's half of the opening handshake."""


class WebsocketServer(_Websocket):
    """The server's side of a websocket, which also answers plain GET.

    Args:
        frame_bytes_max: The largest message, in bytes, inclusive, that is sent or accepted.
        path: The only path at which websockets are accepted; empty or ``/`` means any.
        health: The body of the answer to GET on ``/`` and ``/health``; an empty one if absent.
    """

    __slots__ = ("_health", "_path", "_tail")

    _protocol: ServerProtocol

    def __init__(
        self, frame_bytes_max: int = FRAME_BYTES_MAX, *, path: str = "", health: Health | None = None
    ) -> None:
        super().__init__(ServerProtocol(max_size=frame_bytes_max), frame_bytes_max)
        self._path = path.rstrip("/")
        self._health = health
        # The last bytes of a request whose end has not come: its end may be cut in two.
        self._tail = b""

    def feed(self, data: bytes, frames: list[Frame]) -> None:
        # The library reads what stands behind a request as frames before the request is answered; where it is
        # none (two requests at once, say) it fails, and then cannot answer any more. So that comes after.
        if not self.ready:
            seen = self._tail + data
            found = seen.find(_REQUEST_END)
            stop = found + len(_REQUEST_END) - len(self._tail)
            self._tail = seen[1 - len(_REQUEST_END) :]
            if found >= 0 and stop < len(data):
                super().feed(data[:stop], frames)
                data = data[stop:]
        super().feed(data, frames)

    def encode(self, frames: Sequence[Frame]) -> bytes:
        # A server's frames are not masked, so a header of two to ten bytes is all there is to them. The
        # library's way costs a message object and a file object each: several times as much.
        parts = []
        for frame in frames:
            if isinstance(frame, bytes):
                first, payload = 0x82, frame
            elif isinstance(frame, str):
                first, payload = 0x81, frame.encode()
            else:
                raise _wrong_type(frame)
            size = len(payload)
            if size > self._limit:
                raise _too_large_to_send(size, self._limit)
            if size < 126:
                parts.append(bytes((first, size)))
            elif size < 65536:
                parts.append(struct.pack(">BBH", first, 126, size))
            else:
                parts.append(struct.pack(">BBQ", first, 127, size))
            parts.append(payload)
        return b"".join(parts)

    def _shake_hands(self, event: Request | Response) -> None:
        assert isinstance(event, Request)
        path = event.path.partition("?")[0]
        # `method` came with websockets 16; the versions before refused all but GET themselves.
        method = getattr(event, "method", "GET")
        if "Upgrade" not in event.headers and method == "GET":
            self._protocol.send_response(self._plain_answer(path))
        elif self._path and path.rstrip("/") != self._path:
            self._protocol.send_response(_response(404, "Not Found", "no websocket here\n"))
        else:
            self._protocol.send_response(self._protocol.accept(event))
        self.reply += self._written()
        if self._protocol.state is State.OPEN:
            self.ready = True
        else:
            self.over = True
            raise EndOfStream

    def _plain_answer(self, path: str) -> Response:
        if path not in ("/", "/health"):
            return _response(404, "Not Found", "nothing here\n")
        try:
            body = b"" if self._health is None else self._health()
        except Exception as error:  # whatever it is, it means: not healthy
            return _response(503, "Service Unavailable", f"the health check failed: {error!r}\n")
        return _response(200, "OK", body)


def _response(status: int, phrase: str, body: bytes | str) -> Response:
    payload = body.encode() if isinstance(body, str) else body
    is_json = payload[:1] in (b"{", b"[")
    headers = Headers()
    headers["Connection"] = "close"
    headers["Content-Length"] = str(len(payload))
    headers["Content-Type"] = "application/json" if is_json else "text/plain; charset=utf-8"
    headers["Cache-Control"] = "no-store"
    return Response(status, phrase, headers, payload)


class WebsocketClient(_Websocket):
    """The client's side of a websocket. Its `reply` starts as the request that opens the handshake.

    Args:
        url: The ``ws:`` or ``wss:`` URL that is being opened.
        frame_bytes_max: The largest message, in bytes, inclusive, that is sent or accepted.

    Raises:
        ValueError: If the URL is not one of a websocket.
    """

    __slots__ = ()

    _protocol: ClientProtocol

    def __init__(self, url: str, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        try:
            uri = parse_uri(url)
        except InvalidURI as error:
            raise ValueError(str(error)) from error
        super().__init__(ClientProtocol(uri, max_size=frame_bytes_max), frame_bytes_max)
        self._protocol.send_request(self._protocol.connect())
        self.reply = self._written()

    def encode(self, frames: Sequence[Frame]) -> bytes:
        parts = []
        for frame in frames:
            if isinstance(frame, bytes):
                opcode, payload = Opcode.BINARY, frame
            elif isinstance(frame, str):
                opcode, payload = Opcode.TEXT, frame.encode()
            else:
                raise _wrong_type(frame)
            if len(payload) > self._limit:
                raise _too_large_to_send(len(payload), self._limit)
            parts.append(WebsocketFrame(opcode, payload).serialize(mask=True))
        return b"".join(parts)

    def _shake_hands(self, event: Request | Response) -> None:
        self.ready = self._protocol.state is State.OPEN
