"""Figures of a running node for Prometheus.

Ticks and commits are counted as they happen (`Figures`, the node's observer); everything else is looked up
when somebody asks. The page is served by `prometheus_client` from a thread of its own, and each answer is put
together in the event loop, so that no figure is read while it changes.
"""

from __future__ import annotations

import bisect
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.abc
import anyio.to_thread
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from receipts.node.runner import Node
from receipts.node.worker import call_soon
from receipts.node.world import Tick
from receipts.wire.updates import Rejected

from .complaints import Complaint, system_reason

__all__ = ["COMMIT_SECONDS", "Figures", "LoopWatch", "NodeCollector", "serve_metrics"]

COMMIT_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Upper bounds of the histogram: from a commit on a fast disk to one that somebody will call about."""

WATCH_SECONDS = 0.1
STALL_WINDOW_SECONDS = 60.0
ANSWER_SECONDS = 5.0


class Figures:
    """A node's observer: counts, and nothing else."""

    def __init__(self) -> None:
        self.commands: Counter[type] = Counter()
        self.rejected: Counter[str] = Counter()
        self.ticks = 0
        self.commits_failed = 0
        self.commit_seconds_sum = 0.0
        self.commit_buckets = [0] * (len(COMMIT_SECONDS) + 1)
        """How many commits took at most as long as the bound of the same index; the last has no bound."""

    def ticked(self, tick: Tick) -> None:
        """A tick was decided."""
        self.ticks += 1
        self.commands.update([type(command) for _, command in tick.commands])
        for entry in tick.outbox:
            if len(entry) == 2 and type(entry[1]) is Rejected:
                self.rejected[entry[1].code] += 1

    def committed(self, seconds: float, error: BaseException | None) -> None:
        """A commit has ended."""
        self.commit_seconds_sum += seconds
        self.commit_buckets[bisect.bisect_left(COMMIT_SECONDS, seconds)] += 1
        if error is not None:
            self.commits_failed += 1


class LoopWatch:
    """How long the event loop was busy with one thing: what everybody's latency has in common."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._now = 0.0
        self._before = 0.0

    async def run(self) -> None:
        """Look ten times a second, until cancelled."""
        while True:
            asked = self._clock()
            await anyio.sleep(WATCH_SECONDS)
            self.note(self._clock() - asked - WATCH_SECONDS)

    def note(self, seconds: float) -> None:
        """A wake-up came this much too late."""
        self._turn()
        self._now = max(self._now, seconds)

    @property
    def stall_seconds_max(self) -> float:
        """The longest within the last one to two minutes."""
        self._turn()
        return max(self._now, self._before)

    def _turn(self) -> None:
        age = self._clock() - self._began
        if age >= STALL_WINDOW_SECONDS:
            self._before = self._now if age < 2 * STALL_WINDOW_SECONDS else 0.0
            self._now = 0.0
            self._began = self._clock()


class NodeCollector(Collector):
    """A node's figures as metric families."""

    def __init__(self, node: Node, figures: Figures, watch: LoopWatch, soon: Callable[..., Any]) -> None:
        self._node = node
        self._figures = figures
        self._watch = watch
        self._soon = soon

    def describe(self) -> Iterator[Metric]:
        """Nothing is known before somebody asks."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Called on a thread of the page's; asks the event loop."""
        found: Future[list[Metric]] = Future()

        def look() -> None:
            try:
                found.set_result(list(self.families()))
            except BaseException as error:  # the thread that waits has to hear of it
                found.set_exception(error)

        try:
            self._soon(look)
            yield from found.result(ANSWER_SECONDS)
        except (RuntimeError, FutureTimeout):
            return  # the loop has ended, or is stalled: the process's own figures are still an answer

    def families(self) -> Iterator[Metric]:
        """In the event loop."""
        world, figures = self._node.hub.world, self._figures
        sessions = world.sessions
        yield InfoMetricFamily("receipts_life", "The life of the data.", {"life": world.life})
        by_state = Counter(session.state for session in sessions if not session.admin)
        family = GaugeMetricFamily("receipts_sessions", "Links that are open, by state.", labels=["state"])
        for state in ("new", "checking", "behind", "live"):
            family.add_metric([state], by_state[state])
        yield family
        for name, text, count in (
            ("receipts_users", "Users in memory.", sum(len(app.users) for app in world.apps.values())),
            (
                "receipts_conversations",
                "Conversations in memory.",
                sum(len(app.chats) for app in world.apps.values()),
            ),
            ("receipts_tick", "Number of the last tick.", world.tick_number),
            ("receipts_uncommitted", "Commands decided and not yet durable.", self._node.uncommitted),
            (
                "receipts_buffered_bytes",
                "Updates that peers have not taken yet.",
                sum(session.link.buffered for session in sessions if session.link is not None),
            ),
            (
                "receipts_loop_stall_seconds_max",
                "The longest that the event loop was busy with one thing, in the last one to two minutes.",
                self._watch.stall_seconds_max,
            ),
        ):
            yield GaugeMetricFamily(name, text, value=count)
        yield CounterMetricFamily("receipts_ticks", "Ticks decided.", value=figures.ticks)
        yield CounterMetricFamily("receipts_commits_failed", "Commits undone.", value=figures.commits_failed)
        commands = CounterMetricFamily("receipts_commands", "Commands decided, by type.", labels=["command"])
        for kind, count in figures.commands.items():
            commands.add_metric([kind.__name__], count)
        yield commands
        rejected = CounterMetricFamily("receipts_rejected", "Commands refused, by code.", labels=["code"])
        for code, count in figures.rejected.items():
            rejected.add_metric([str(code)], count)
        yield rejected
        yield self._commits()

    def _commits(self) -> Metric:
        count, buckets = 0, list[tuple[str, float]]()
        for bound, more in zip((*COMMIT_SECONDS, "+Inf"), self._figures.commit_buckets, strict=True):
            count += more
            buckets.append((str(bound), count))
        family = HistogramMetricFamily("receipts_commit_seconds", "How long commits took.")
        family.add_metric([], buckets, self._figures.commit_seconds_sum)
        return family


async def serve_metrics(
    tasks: anyio.abc.TaskGroup, address: str, node: Node, figures: Figures, watch: LoopWatch
) -> str:
    """Serve the page until the task group is cancelled.

    Returns:
        Its URL, with the real port.

    Raises:
        Complaint: The address is none, or cannot be taken.
    """
    try:
        parts = urlsplit(f"http://{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port is None:
        raise Complaint(f"--metrics {address!r} is not HOST:PORT, such as 127.0.0.1:9400", status=2)
    registry = CollectorRegistry()
    registry.register(NodeCollector(node, figures, watch, call_soon()))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise Complaint(f"--metrics {address} cannot be listened at: {system_reason(error)}") from None

    async def until_cancelled() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(close)

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    tasks.start_soon(until_cancelled)
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{server.server_port}/metrics"
