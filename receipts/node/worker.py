"""One thread that does what blocks, in order, and hands the outcome back to the event loop.

A thread of its own with a queue costs 120 µs of CPU a commit; asking the event loop for a thread each time
costs 200. A store that does not block is called inline, so that simulated time does not run away.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeAlias

import sniffio

__all__ = ["Inline", "Worker", "call_soon"]

Done: TypeAlias = Callable[[Any, BaseException | None], None]
"""Called in the event loop with (result, None) or (None, error)."""


def call_soon() -> Callable[..., Any]:
    """How any thread has something called in the event loop that runs now, whichever it is."""
    if sniffio.current_async_library() == "trio":
        import trio  # only where it runs anyway

        token = trio.lowlevel.current_trio_token()
        return token.run_sync_soon
    import asyncio

    return asyncio.get_running_loop().call_soon_threadsafe


class Worker:
    """Jobs in order, on one thread."""

    def __init__(self, name: str, soon: Callable[..., Any]) -> None:
        """
        Args:
            soon: What `call_soon` returned in the event loop that is to hear of outcomes.
        """
        self._soon = soon
        self._jobs: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Done] | None]
        self._jobs = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, done: Done, job: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Do `job`, then call `done` in the event loop; outcomes arrive in the order of jobs."""
        self._jobs.put((job, args, kwargs, done))

    def close(self) -> None:
        """Finish all jobs and end the thread. Blocks until then; outcomes arrive while the loop runs."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (task := self._jobs.get()) is not None:
            job, args, kwargs, done = task
            try:
                result, error = job(*args, **kwargs), None
            except BaseException as caught:
                result, error = None, caught
            try:
                self._soon(done, result, error)
            except RuntimeError:
                pass  # the event loop has ended: nobody is left to hear of it


class Inline:
    """The same face for what does not block."""

    def submit(self, done: Done, job: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Do `job` and call `done`, at once."""
        try:
            result, error = job(*args, **kwargs), None
        except Exception as caught:
            result, error = None, caught
        done(result, error)

    def close(self) -> None:
        """Nothing to end."""
