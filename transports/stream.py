"""Frames over a byte stream: the half of a link that is the same on every event loop.

`StreamLink` joins a codec (`transports.framing`) with a pump (`transports.pump_asyncio`,
`transports.pump_trio`). The pump calls `_arrived`, `_arrived_end` and `_lost`; this half calls the pump's few
hooks. It knows no sockets, and does not know which event loop runs it.

How a link closes (all of it within `LINGER_SECONDS_MAX`, or it is aborted):

- Closed here: what is buffered goes out, then the codec's goodbye; once the peer has answered it, or owes no
  answer, our direction of the stream ends; what still arrives is thrown away until the peer ends its own.
- Closed by the peer: the codec's answer goes out after what is buffered, and our direction ends too. There
  are no half-open links: who has closed does not listen any more.

Reading on until the peer's end is not politeness: closing a TCP socket that holds unread bytes resets the
connection, and a reset destroys frames that were sent before it.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import anyio

from transports.base import Frame, Handler, Link
from transports.framing import Codec
from transports.waiting import Waiter

__all__ = [
    "ANSWERS_WAITING_BYTES_MAX",
    "FRAMES_WAITING_BYTES_MAX",
    "HANDSHAKE_SECONDS_MAX",
    "LINGER_SECONDS_MAX",
    "StreamLink",
    "peer_name",
    "run_handler",
]

FRAMES_WAITING_BYTES_MAX = 256 * 1024
"""Received bytes whose frames nobody has taken, above which reading pauses.

One read of the event loops is at most 256 KiB (asyncio, libuv's 64 KiB), so a handler that keeps up is never
paused; one that does not holds at most this plus one read, plus one unfinished frame.
"""

ANSWERS_WAITING_BYTES_MAX = 64 * 1024
"""Answers of the protocol itself (pongs) that a peer leaves unread, above which the link is aborted.

A peer that is well sends a ping in some seconds; one that sends them without end and takes no answer would
have us keep as much as it cares to send.
"""

HANDSHAKE_SECONDS_MAX = 10.0
"""Time for TLS and websocket handshakes together with the peer; as `websockets`' ``open_timeout``."""

LINGER_SECONDS_MAX = 5.0
"""Time after `close` for buffered frames and the closing handshake; half of `websockets`' ``close_timeout``,
because a node that stops waits for its slowest link."""

_logger = logging.getLogger("transports")

_LINK_ENDS = (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError)


class StreamLink(Link):
    """A link over a byte stream, without the stream."""

    __slots__ = (
        "_answers_bytes",
        "_closed_here",
        "_codec",
        "_frames",
        "_frames_bytes",
        "_gone",
        "_opened",
        "_reading_paused",
        "_receive_end",
        "_receiver",
        "_send_end",
        "_take",
        "_take_end",
        "_watchers",
        "peer",
    )

    def __init__(self, codec: Codec, peer: str = "") -> None:
        self.peer = peer
        self._codec = codec
        self._frames: list[Frame] = []
        self._frames_bytes = 0
        # Bytes of answers since all that was buffered had last gone out.
        self._answers_bytes = 0
        self._receiver: Waiter | None = None
        # What the receiver wants to be called with, as soon as frames arrive; None while it is to be woken.
        self._take: Callable[[list[Frame]], bool] | None = None
        # How that ended: an error of its own, or True once it had enough.
        self._take_end: Exception | bool = False
        # Who waits for anything else: to be opened, drained, closed. They all look again when one is woken.
        self._watchers: list[Waiter] | None = None
        self._receive_end: Exception | None = None
        self._send_end: Exception | None = None
        self._opened = codec.ready
        self._closed_here = False
        self._reading_paused = False
        self._gone = False

    # What the pump provides.

    @abstractmethod
    def _new_waiter(self) -> Waiter:
        """Return a new waiter for the event loop that runs the pump."""

    @abstractmethod
    def _write(self, data: bytes) -> None:
        """Buffer bytes for the stream. Only called while `_send_end` is None, or just before `_finish`."""

    @abstractmethod
    def _finish(self) -> None:
        """End our direction of the stream after what is buffered; it closes when the peer's has ended too."""

    @abstractmethod
    def _limit_time(self, seconds: float) -> None:
        """Abort the link that many seconds from now, unless it is gone before."""

    @abstractmethod
    def _pause_reading(self) -> None:
        """Stop calling `_arrived`, soon."""

    @abstractmethod
    def _resume_reading(self) -> None:
        """Go on calling `_arrived`."""

    def _wish_drained(self, below: int) -> None:
        """Someone waits for `buffered` to fall to `below`: when it has, `_wake_watchers` must be called."""

    def _on_open(self) -> None:
        """The codec has just become ready."""
        self._wake_watchers()

    def _on_gone(self) -> None:
        """The link has just become wholly gone."""

    # What the pump calls.

    def _arrived(self, data: bytes) -> None:
        """Bytes came from the peer."""
        codec = self._codec
        frames = self._frames
        if self._receive_end is None:
            try:
                codec.feed(data, frames)
            except _LINK_ENDS as end:
                self._ended(end)
        else:
            self._arrived_late(data)
            return
        if codec.reply:
            self._answer()
        if not self._opened and codec.ready:
            self._opened = True
            self._on_open()
        if frames:
            if self._take is not None:
                self._frames = []
                self._hand_over(self._take, frames)
                return
            receiver = self._receiver
            if receiver is not None and not receiver.done():
                receiver.set_result(None)
            self._frames_bytes += len(data)
            if self._frames_bytes > FRAMES_WAITING_BYTES_MAX and not self._reading_paused:
                self._reading_paused = True
                self._pause_reading()

    def _hand_over(self, take: Callable[[list[Frame]], bool], frames: list[Frame]) -> None:
        """Call the receiver where the bytes arrived: to wake a task for them costs several times more."""
        try:
            if take(frames):
                return
            self._take_end = True
        except Exception as error:
            self._take_end = error
        self._take = None
        self._wake_receiver()

    def _arrived_late(self, data: bytes) -> None:
        """Bytes came that nobody will receive; only the answer to our goodbye still matters."""
        if not self._codec.awaits_answer:
            return
        try:
            self._codec.feed(data, [])
        except _LINK_ENDS:
            self._finish()

    def _ended(self, end: Exception) -> None:
        """The codec says that nothing more can be received."""
        self._receive_end = end
        self._wake_receiver()
        if self._codec.over:
            self._send_end = self._send_end or _peer_has_closed(end)
            self._write_reply()
            self._finish()
            self._limit_time(LINGER_SECONDS_MAX)
            self._wake_watchers()

    def _answer(self) -> None:
        """Write what the protocol owes the peer, unless it takes none of that."""
        if not self.buffered:
            self._answers_bytes = 0
        self._answers_bytes += len(self._codec.reply)
        if self._answers_bytes <= ANSWERS_WAITING_BYTES_MAX:
            self._write_reply()
            return
        broken = anyio.BrokenResourceError("the peer asks for answers and takes none")
        self._receive_end = self._receive_end or broken
        self._send_end = self._send_end or broken
        self._wake_receiver()
        self._wake_watchers()
        self._kill()

    def _write_reply(self) -> None:
        reply = self._codec.take_reply()
        if reply:
            self._write(reply)

    def _arrived_end(self) -> None:
        """The peer's direction of the stream ended. After this the pump must end ours, as by `_finish`."""
        if self._receive_end is None:
            self._receive_end = self._codec.end()
        if self._send_end is None:
            self._send_end = _peer_has_closed(self._receive_end)
        self._limit_time(LINGER_SECONDS_MAX)
        self._wake_receiver()
        self._wake_watchers()

    def _lost(self, cause: Exception | None) -> None:
        """The stream is gone, in good order or because of `cause`."""
        if self._gone:
            return
        self._gone = True
        if self._receive_end is None:
            self._receive_end = self._codec.end() if cause is None else _broken(cause)
        if self._send_end is None:
            self._send_end = _broken(cause)
        self._wake_receiver()
        self._wake_watchers()
        self._on_gone()

    # Waiting and waking.

    def _wake_receiver(self) -> None:
        receiver = self._receiver
        if receiver is not None and not receiver.done():
            receiver.set_result(None)

    def _wake_watchers(self) -> None:
        watchers, self._watchers = self._watchers, None
        for watcher in watchers or ():
            if not watcher.done():
                watcher.set_result(None)

    async def _watch(self) -> None:
        """Wait for the next change of anything but frames."""
        watcher = self._new_waiter()
        if self._watchers is None:
            self._watchers = []
        self._watchers.append(watcher)
        try:
            await watcher
        finally:
            if self._watchers is not None and watcher in self._watchers:
                self._watchers.remove(watcher)

    async def wait_opened(self) -> None:
        """Wait until the opening handshake is done.

        Raises:
            OSError: If it failed: `ConnectionRefusedError` if the peer declined, `ssl.SSLError` if TLS did,
                `TimeoutError` if it took longer than `HANDSHAKE_SECONDS_MAX`.
        """
        while not self._opened:
            end = self._receive_end
            if isinstance(end, OSError):
                raise end
            if end is not None and isinstance(end.__cause__, OSError):
                raise end.__cause__
            if end is not None:
                raise ConnectionRefusedError(str(end) or "the peer closed during the handshake") from end
            await self._watch()

    def _handshake_overdue(self) -> None:
        if not self._opened:
            self._receive_end = TimeoutError(f"no handshake within {HANDSHAKE_SECONDS_MAX} seconds")
            self.abort()

    @property
    def gone(self) -> bool:
        """Whether the link is wholly gone."""
        return self._gone

    # The contract.

    async def receive(self) -> list[Frame]:
        while not self._frames:
            await self._wait_for_frames()
        return self._take_frames()

    async def receive_into(self, take: Callable[[list[Frame]], bool]) -> None:
        if self._receiver is not None:
            raise anyio.BusyResourceError("receiving from")
        while True:
            if self._frames:
                if not take(self._take_frames()):
                    return
                continue
            self._take, self._take_end = take, False
            try:
                await self._wait_for_frames()
            finally:
                self._take = None
            if self._take_end:
                if isinstance(self._take_end, Exception):
                    raise self._take_end
                return

    async def _wait_for_frames(self) -> None:
        """Wait until there may be frames, or raise why there will not be any."""
        if self._receive_end is not None:
            raise self._receive_end.with_traceback(None)
        if self._receiver is not None:
            raise anyio.BusyResourceError("receiving from")
        self._receiver = receiver = self._new_waiter()
        try:
            await receiver
        finally:
            self._receiver = None

    def _take_frames(self) -> list[Frame]:
        """All frames at hand; the peer may go on."""
        frames = self._frames
        self._frames = []
        self._frames_bytes = 0
        if self._reading_paused:
            self._reading_paused = False
            self._resume_reading()
        return frames

    def send(self, frames: Sequence[Frame]) -> None:
        if self._send_end is not None:
            raise self._send_end.with_traceback(None)
        if frames:
            self._write(self._codec.encode(frames))

    async def drained(self, below: int = 0) -> None:
        while True:
            if self._send_end is not None:
                raise self._send_end.with_traceback(None)
            if self.buffered <= below:
                return
            self._wish_drained(below)
            await self._watch()

    def close(self) -> None:
        if self._closed_here:
            return
        self._close_ends()
        if self._gone:
            return
        goodbye = self._codec.goodbye()
        if goodbye:
            self._write(goodbye)
        if not self._codec.awaits_answer:
            self._finish()
        self._limit_time(LINGER_SECONDS_MAX)
        if self._reading_paused:
            self._reading_paused = False
            self._resume_reading()

    def _close_ends(self) -> None:
        self._closed_here = True
        self._frames.clear()
        self._receive_end = anyio.ClosedResourceError()
        self._send_end = anyio.ClosedResourceError()
        self._wake_receiver()
        self._wake_watchers()

    def abort(self) -> None:
        if not self._closed_here and self._opened:
            self._close_ends()
        if not self._gone:
            self._kill()

    @abstractmethod
    def _kill(self) -> None:
        """Drop the stream and what is buffered; `_lost` follows soon."""

    async def wait_closed(self) -> None:
        while not self._gone:
            await self._watch()


def _peer_has_closed(cause: Exception) -> anyio.BrokenResourceError:
    error = anyio.BrokenResourceError("the peer has closed the link")
    error.__cause__ = cause
    return error


def _broken(cause: Exception | None) -> anyio.BrokenResourceError:
    error = anyio.BrokenResourceError(f"the link broke: {cause}" if cause else "the link is gone")
    error.__cause__ = cause
    return error


def _is_link_end(error: BaseException) -> bool:
    """Tell whether an error says only that a link ended, also as the group that a task group makes of it."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_link_end, error.exceptions))
    return isinstance(error, _LINK_ENDS)


async def run_handler(handler: Handler, link: Link) -> None:
    """Run a listener's handler as `Listener.serve` promises: afterwards its link is closing.

    After calling this function you must wait for the link to be gone: `Link.wait_closed`.
    """
    try:
        await handler(link)
    except Exception as error:
        if _is_link_end(error):
            _logger.debug("the link to %s ended: %r", link.peer, error)
            link.close()
        else:
            _logger.exception("the handler of the link to %s failed", link.peer)
            link.abort()
    except BaseException:
        link.abort()
        raise
    else:
        link.close()


def peer_name(address: Any) -> str:
    """Return a socket address as text for logs."""
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(address) if address else "local"
