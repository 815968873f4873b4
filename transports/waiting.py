"""The one thing that links wait on: set once by a callback, awaited once by a task.

On asyncio a waiter is a plain future: that is the cheapest thing there is, and protocol callbacks, which run
outside of any task, can set it without AnyIO, which they must not call. On trio it is an event in disguise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Protocol

import sniffio

__all__ = ["Waiter", "library", "waiter_factory"]


class Waiter(Protocol):
    """Awaited by one task until someone sets its result; the result itself means nothing."""

    def __await__(self) -> Generator[Any, Any, None]:
        """Wait until it is set."""

    def done(self) -> bool:
        """Tell whether it was set, or its task cancelled. Then it must not be set again."""

    def set_result(self, result: None, /) -> None:
        """Let the waiting task go on."""


def library() -> str:
    """Return the name of the running event loop's library: ``asyncio`` or ``trio``.

    Raises:
        RuntimeError: If no event loop is running, or one that is not supported.
    """
    try:
        name = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError as error:
        raise RuntimeError("transports need a running event loop: asyncio or trio") from error
    if name not in ("asyncio", "trio"):
        raise RuntimeError(f"transports run on asyncio and trio, not on {name}")
    return name


def waiter_factory() -> Callable[[], Waiter]:
    """Return the function that makes waiters for the running event loop."""
    if library() == "asyncio":
        return asyncio.get_running_loop().create_future
    from transports.pump_trio import EventWaiter  # here, so that asyncio never imports trio

    return EventWaiter
