"""A user's device on a raw protocol: framing, login, and asking for counts. What it says its `End` decides.

Nothing of `transports` is used here, so that a mistake there is not made twice.
"""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from receipts.node.accounts import sign_token
from receipts.storage.base import UserRow
from receipts.wire import VERSION, commands
from receipts.wire.codec import decode_update, encode_command
from receipts.wire.updates import CatchUp, Welcome

from .load_checks import Asker, End, Sender, Wrong, judge_count
from .server import SECRET

__all__ = ["FAR_MS", "Device", "Owner", "split_websocket", "upgrade", "wrap_websocket"]

FAR_MS = 4_000_000_000_000
_QUESTIONS = 1 << 40
"""The rids of questions lie above those of all sends."""
_LENGTH = struct.Struct(">I")


class Owner(Protocol):
    """Who runs devices."""

    def heard(self, device: Any) -> None:
        """After each turn in which the device was told something."""

    def fail(self, error: BaseException) -> None:
        """Something was wrong."""


class Device(asyncio.Protocol):
    """Logs in, then does what its end of the conversation says."""

    def __init__(self, owner: Owner, end: End, *, websocket: bool) -> None:
        self.end = end
        self._owner = owner
        self._rest = b""
        self._shaken = not websocket
        self._split: Callable[[bytes], tuple[list[bytes], bytes]]
        self._split = split_websocket if websocket else _split_prefixed
        self._wrap: Callable[[Any], bytes] = wrap_websocket if websocket else _wrap_prefixed
        self._transport: Any = None
        self._live = False
        self._leaving = False
        loop = asyncio.get_running_loop()
        self.live: asyncio.Future[None] = loop.create_future()
        """Set when it is logged in and has caught up."""
        self._answers: dict[int, asyncio.Future[None]] = {}

    # -- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if self._shaken:
            self._hello()
        else:
            self._transport.write(upgrade("/"))

    def data_received(self, data: bytes) -> None:
        try:
            self._received(self._rest + data if self._rest else data)
        except Exception as error:
            self._owner.fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._leaving:
            self._owner.fail(exc or Wrong(f"the link of {self.end.user} was closed"))

    # -- what comes

    def _received(self, data: bytes) -> None:
        if not self._shaken:
            self._shake_hands(data)
            return
        frames, self._rest = self._split(data)
        replies: list[commands.Command] = []
        take = self.end.take
        for frame in frames:
            found = decode_update(frame)
            if found is None:
                raise Wrong(f"an update of an unknown kind: {frame!r}")
            tick, update = found
            if not self._live:
                replies += self._log_in(update)
            elif self._answers and (waiting := self._answers.pop(getattr(update, "rid", 0), None)):
                judge_count(self.end, update)
                waiting.set_result(None)
            else:
                replies += take(tick, update)
        if replies:
            self.say(replies)
        self._owner.heard(self)

    def _shake_hands(self, data: bytes) -> None:
        head, end, _ = data.partition(b"\r\n\r\n")
        if not end:
            self._rest = data
            return
        if b" 101 " not in head:
            raise Wrong(f"no websocket: {head!r}")
        self._shaken = True
        self._rest = b""
        self._hello()

    def _hello(self) -> None:
        user = self.end.user
        token = sign_token(
            SECRET, UserRow("default", user, "", 0, True, True, 0, 0, False), expires_ms=FAR_MS
        )
        hello = commands.Hello(
            rid=1,
            version=VERSION,
            user=user,
            device="phone",
            install=f"install-{user}",
            token=token,
            delivery=True,
            client="bench",
        )
        self.say([hello])

    def _log_in(self, update: Any) -> list[commands.Command]:
        if isinstance(update, CatchUp):
            if not update.live:
                return [commands.AckPage(rid=0, token=update.token)]
            self._live = True
            self.live.set_result(None)
        elif not isinstance(update, Welcome):
            raise Wrong(f"{self.end.user} logs in and is told {update!r}")
        return []

    # -- what goes

    def begin(self, now: float, count: int = 1) -> None:
        """So many more rounds, in one write."""
        end = self.end
        assert isinstance(end, Sender | Asker)
        self.say([end.send(now) for _ in range(count)])

    def say(self, said: Iterable[commands.Command]) -> None:
        """One write for all these commands."""
        wrap = self._wrap
        self._transport.write(b"".join([wrap(encode_command(command)) for command in said]))

    async def check_counts(self) -> None:
        """Ask for the user's counts in three ways; each has to be what was left unread."""
        loop = asyncio.get_running_loop()
        self._answers = {_QUESTIONS + number: loop.create_future() for number in range(3)}
        answers = list(self._answers.values())
        self.say(
            [
                commands.GetBadge(rid=_QUESTIONS),
                commands.ExplainUnread(rid=_QUESTIONS + 1, conversation=self.end.conversation),
                commands.ListConversations(rid=_QUESTIONS + 2),
            ]
        )
        await asyncio.gather(*answers)

    def close(self) -> None:
        """Leave."""
        self._leaving = True
        if self._transport is not None:
            self._transport.close()


def _split_prefixed(data: bytes) -> tuple[list[bytes], bytes]:
    """The frames that are whole, and the rest."""
    frames = []
    start, size = 0, len(data)
    while start + 4 <= size:
        stop = start + 4 + _LENGTH.unpack_from(data, start)[0]
        if stop > size:
            break
        frames.append(data[start + 4 : stop])
        start = stop
    return frames, data[start:]


def _wrap_prefixed(frame: bytes) -> bytes:
    return _LENGTH.pack(len(frame)) + frame


# RFC 6455, section 5.2. A client masks; with a mask of zeros the payload stays as it is.
_MASK = bytes(4)


def upgrade(path: str) -> bytes:
    """What asks for a websocket."""
    return (
        b"GET " + path.encode() + b" HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.b64encode(bytes(16)) + b"\r\n\r\n"
    )


def split_websocket(data: bytes) -> tuple[list[bytes], bytes]:
    """As `_split_prefixed`, of whole binary messages."""
    frames = []
    start, size = 0, len(data)
    while start + 2 <= size:
        if data[start] != 0x82:
            raise Wrong(f"not a whole binary message: {data[start : start + 16]!r}")
        length, head = data[start + 1], 2
        if length >= 126:
            head += 2 if length == 126 else 8
            if start + head > size:
                break
            length = int.from_bytes(data[start + 2 : start + head], "big")
        stop = start + head + length
        if stop > size:
            break
        frames.append(data[start + head : stop])
        start = stop
    return frames, data[start:]


def wrap_websocket(frame: bytes) -> bytes:
    """One frame as a binary message."""
    size = len(frame)
    if size < 126:
        return bytes((0x82, 0x80 | size)) + _MASK + frame
    return struct.pack(">BBH", 0x82, 0xFE, size) + _MASK + frame
