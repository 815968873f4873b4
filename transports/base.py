"""The contract: what a link and a listener promise, and the errors they raise.

A transport moves whole *frames* between two ends of a *link* and never reads them. Here live the two abstract
classes that every transport implements and every user of a transport programs against, and nothing else: no
framing (`transports.framing`), no sockets (`transports.tcp`, `transports.websocket`), no registry
(`transports`). `transports.testing` holds the same contract as a test.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream

# AnyIO's three errors are part of the contract; from here, codecs have them without importing AnyIO.
__all__ = [
    "BrokenResourceError",
    "ClosedResourceError",
    "EndOfStream",
    "Frame",
    "FrameTooLarge",
    "FramingError",
    "Handler",
    "Link",
    "Listener",
    "frame_size",
]

Frame: TypeAlias = bytes | str
"""One whole message: `bytes` travels as binary, `str` as text, and each arrives as the type that was sent."""


class FrameTooLarge(BrokenResourceError):
    """The peer sent a frame over the limit.

    Nothing can be received any more, but the link can still send (to say why), and should then be closed.
    """

    size: int
    """Bytes in the offending frame, as far as its header tells; text counts as UTF-8."""
    limit: int
    """The largest size, in bytes, that would have been accepted."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the peer sent a frame of {size} bytes; the limit is {limit}")
        self.size = size
        self.limit = limit


class FramingError(BrokenResourceError):
    """What arrived is not a sequence of frames: garbage, or a frame whose end never came."""

    reason: str
    """What was wrong, for logs."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def frame_size(frame: Frame) -> int:
    """Return the size of a frame in bytes; text counts as UTF-8.

    Raises:
        UnicodeEncodeError: If the text holds lone surrogates, which UTF-8 cannot carry (a `ValueError`).
    """
    if isinstance(frame, bytes) or frame.isascii():
        return len(frame)
    return len(frame.encode())


class Link(ABC):
    """One end of a connection that carries whole frames both ways, in order.

    One task at a time may wait in `receive` or `receive_into`; everything else may be called from any task of
    the event loop.
    """

    __slots__ = ()

    peer: str
    """Who is at the other end, for logs, such as ``127.0.0.1:5423``."""

    @abstractmethod
    async def receive(self) -> list[Frame]:
        """Wait until there is something, then return **all** frames at hand, at least one, in order.

        Being cancelled loses nothing: what was not returned is returned by the next call. Frames that came
        whole before the link ended are handed out first; then, and ever after, the error is raised.

        Raises:
            anyio.EndOfStream: If the peer has closed the link cleanly.
            anyio.ClosedResourceError: If the link was closed here, also while this call was waiting.
            FrameTooLarge: If the peer sent a frame over the limit.
            FramingError: If what the peer sent is not frames, or ended inside of one.
            anyio.BrokenResourceError: If the link broke in any other way.
            anyio.BusyResourceError: If another task is waiting in `receive`.
        """

    async def receive_into(self, take: Callable[[list[Frame]], bool]) -> None:
        """Call `take` with **all** frames at hand whenever there are some, until it returns False.

        As `receive` in a loop, and cheaper where the transport can call `take` as the bytes arrive, without
        waking a task for them. `take` is called in the event loop and must be quick; it may `send` and
        `close`. Being cancelled loses nothing.

        Raises:
            Exception: What `take` raised; the frames it was called with count as received.
            anyio.EndOfStream, anyio.ClosedResourceError, FrameTooLarge, FramingError,
            anyio.BrokenResourceError, anyio.BusyResourceError: As `receive`.
        """
        while take(await self.receive()):
            pass

    @abstractmethod
    def send(self, frames: Sequence[Frame]) -> None:
        """Accept frames for sending, without waiting: they are buffered, and written as one batch.

        There is no limit to the buffer here; look at `buffered`, or wait in `drained`, to hold back.

        Raises:
            ValueError: If a frame is over the limit or not encodable; then no frame of the batch is sent.
            TypeError: If something is neither `bytes` nor `str`; then no frame of the batch is sent.
            anyio.ClosedResourceError: If the link was closed here.
            anyio.BrokenResourceError: If the link broke, or the peer has closed it.
        """

    @property
    @abstractmethod
    def buffered(self) -> int:
        """Bytes that `send` accepted and the operating system (in memory: the peer) has not taken yet.

        Framing overhead may count. Over TLS the last burst that was encrypted may no longer count.
        """

    @abstractmethod
    async def drained(self, below: int = 0) -> None:
        """Wait until `buffered` is at most `below` bytes.

        Raises:
            anyio.ClosedResourceError: If the link is closed here, before or while waiting.
            anyio.BrokenResourceError: If the link breaks, or the peer closes it, before or while waiting.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the link in good order; frames sent before still go out, frames not yet received are dropped.

        Returns at once and may be called again. What is still to go out is bounded in time by the transport's
        linger limit; `wait_closed` tells when it is over.
        """

    @abstractmethod
    def abort(self) -> None:
        """End the link at once, dropping what is buffered. May be called again, also after `close`."""

    @abstractmethod
    async def wait_closed(self) -> None:
        """Wait until the link is wholly gone, by `close`, by `abort` or because it ended by itself."""


Handler: TypeAlias = Callable[[Link], Awaitable[None]]
"""What a listener runs for each link. The link is closed when it returns."""


class Listener(ABC):
    """Something that accepts links at a URL."""

    url: str
    """Where it listens, with the real port, so that ``connect(listener.url)`` works."""

    @abstractmethod
    async def serve(self, handler: Handler) -> None:
        """Accept links, and run each in `handler`, in a task of its own, until cancelled or closed.

        When the handler returns, or raises because its link ended (`EndOfStream`, `ClosedResourceError`,
        `BrokenResourceError`), its link is closed. When it raises any other `Exception`, that is logged to
        ``logging.getLogger("transports")``, its link is aborted and the others go on. When `serve` is
        cancelled, so are all handlers, and it returns only after they and their links are gone.

        Raises:
            anyio.ClosedResourceError: If the listener was closed before.
            anyio.BusyResourceError: If it is being served already.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Stop accepting; `serve` then returns when the handlers that are running have finished.

        May be called again, and must be called, or `serve` cancelled, to give the address back.
        """
