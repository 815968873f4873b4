"""The worker: order, errors, closing, and outcomes for which nobody is there any more."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from receipts.node.worker import Inline, Worker, call_soon


class Outcomes:
    """What a worker handed back, in order, and where."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self.threads: set[threading.Thread] = set()
        self._changed = anyio.Event()

    def take(self, result: Any, error: BaseException | None) -> None:
        self.all.append(result if error is None else error)
        self.threads.add(threading.current_thread())
        self._changed.set()

    async def count(self, number: int) -> list[Any]:
        """Wait until there are that many."""
        while len(self.all) < number:
            self._changed = anyio.Event()
            await self._changed.wait()
        return self.all


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.anyio
async def test_jobs_are_done_in_order_on_one_thread() -> None:
    """Jobs run one by one on a thread of their own; outcomes come in that order, in the event loop."""
    outcomes, worked_on = Outcomes(), set()

    def job(number: int, *, twice: bool) -> int:
        worked_on.add(threading.current_thread())
        return number * (2 if twice else 1)

    worker = Worker("worker", call_soon())
    try:
        for number in range(100):
            worker.submit(outcomes.take, job, number, twice=number % 2 == 0)
        found = await outcomes.count(100)
    finally:
        worker.close()
    assert found == [number * (2 if number % 2 == 0 else 1) for number in range(100)]
    assert outcomes.threads == {threading.current_thread()}
    assert len(worked_on) == 1
    assert worked_on.isdisjoint(outcomes.threads)


@pytest.mark.anyio
async def test_what_a_job_raises_is_its_outcome() -> None:
    """An error, of whatever kind, goes to who submitted the job; the next job is done all the same."""
    outcomes = Outcomes()
    worker = Worker("worker", call_soon())
    errors = [ValueError("no"), KeyboardInterrupt(), SystemExit(3)]
    try:
        for error in errors:
            worker.submit(outcomes.take, fail, error)
        worker.submit(outcomes.take, str, 7)
        assert await outcomes.count(4) == [*errors, "7"]
    finally:
        worker.close()


@pytest.mark.anyio
async def test_closing_finishes_what_was_submitted() -> None:
    """When `close` returns, every job is done and the thread has ended; the outcomes are on their way."""
    outcomes, done = Outcomes(), list[int]()
    began, gate = threading.Event(), threading.Event()
    worker = Worker("worker-to-close", call_soon())
    worker.submit(outcomes.take, began.set)
    worker.submit(outcomes.take, gate.wait)
    for number in range(10):
        worker.submit(outcomes.take, done.append, number)
    assert began.wait(10)
    gate.set()
    worker.close()
    assert done == list(range(10))
    assert "worker-to-close" not in {thread.name for thread in threading.enumerate()}
    assert len(await outcomes.count(12)) == 12


@pytest.mark.parametrize(
    ("backend", "options"), [("asyncio", {}), ("asyncio", {"use_uvloop": True}), ("trio", {})]
)
def test_outcomes_after_the_event_loop_has_ended(backend: str, options: dict[str, Any]) -> None:
    """A job that is done when the event loop is gone, and all behind it, are done in silence."""
    heard, done = list[Any](), list[str]()
    gate = threading.Event()

    async def main() -> Worker:
        worker = Worker("late", call_soon())
        worker.submit(lambda *outcome: heard.append(outcome), gate.wait)
        worker.submit(lambda *outcome: heard.append(outcome), done.append, "behind")
        return worker

    worker = anyio.run(main, backend=backend, backend_options=options)
    gate.set()
    worker.close()
    assert done == ["behind"]
    assert heard == []


def test_inline() -> None:
    """What does not block is done at once; its errors are outcomes, mistakes of who hears of them are not."""
    heard = list[Any]()
    inline = Inline()
    error = ValueError("no")
    inline.submit(lambda *outcome: heard.append(outcome), int, "12", base=8)
    inline.submit(lambda *outcome: heard.append(outcome), fail, error)
    assert heard == [(10, None), (None, error)]
    with pytest.raises(ZeroDivisionError):
        inline.submit(lambda *outcome: fail(ZeroDivisionError()), int)
    with pytest.raises(KeyboardInterrupt):
        inline.submit(lambda *outcome: heard.append(outcome), fail, KeyboardInterrupt())
    inline.close()
    assert len(heard) == 2
