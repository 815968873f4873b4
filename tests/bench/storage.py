"""What the durable store costs: `python -m tests.bench.storage`.

A round is one message with the mark rows that its receipts write. Rounds are committed in batches of several
sizes, as ticks that waited for one another are, into a small store and into one that has a million messages;
of that one also what opening it and asking it costs. CPU is user and system time of this process. Here a
figure may be looked at, not asserted: the limits beside them are what this was built for.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from receipts.core.member import Advance, Member, Period
from receipts.storage.base import Batch, ConversationRow, MarkRow, MemberRow, MessageRow, MetaRow
from receipts.storage.codec import pack_advances, pack_marks, pack_member, pack_registers
from receipts.storage.sqlite import SQLiteStore

__all__ = ["main"]

APP = "default"
ME = "me"
SIZES = (1, 5, 30, 100, 400)
BODY = "x" * 100
UNFOLDED = 128
"""Messages whose authors' marks are not written down yet: half of what a node lets come together."""

ADVANCES = 32
"""Read times per member, as many as are kept."""


class Load:
    """Pairs who write to each other; every pair is `ME` and somebody else, so that one user has them all."""

    def __init__(self, store: SQLiteStore, pairs: int, seed: int = 1) -> None:
        self.store = store
        self.meta = store.open(now_ms=0, life="life", secret=b"")
        self.pairs = pairs
        self.heads = [0] * pairs
        self.message_id = 0
        self.random = random.Random(seed)

    def _batch(self) -> Batch:
        meta = self.meta = self.meta._replace(tick=self.meta.tick + 1, node_time_ms=self.meta.tick)
        return Batch(meta)

    def create(self) -> None:
        """The empty conversations."""
        batch = self._batch()
        member = Member()
        member.open_period(0, Period(1))
        state = pack_member(member, 1)
        for pair in range(self.pairs):
            name = f"{ME}~{_peer(pair)}"
            batch.conversations.append(ConversationRow(pair + 1, APP, name, 1, 0, 0, 0, pack_registers({})))
            batch.members += [MemberRow(pair + 1, APP, user, 1, state) for user in (ME, _peer(pair))]
        self.store.commit(batch)

    def rounds(self, pairs: list[int], marks: int) -> Batch:
        """One round for each of `pairs`, with `marks` mark rows each."""
        batch = self._batch()
        for pair in pairs:
            self.heads[pair] += 1
            batch.messages.append(self._message(batch.meta, pair, self.heads[pair]))
            for n in range(marks):
                batch.marks.append(_mark(pair, (ME, _peer(pair))[n % 2], self.heads[pair], batch.meta.tick))
        return batch

    def _message(self, meta: MetaRow, pair: int, seq: int) -> MessageRow:
        message_id = self.message_id = self.message_id + 2
        return MessageRow(
            pair + 1,
            seq,
            message_id,
            meta.tick,
            ME if seq % 2 else _peer(pair),
            "phone",
            meta.node_time_ms,
            0,
            False,
            3,
            pair + 1,
            seq,
            BODY,
            0,
            "",
            0,
        )

    def some(self, size: int) -> list[int]:
        """Pairs for a batch, each once as long as there are enough."""
        if size <= self.pairs:
            return self.random.sample(range(self.pairs), size)
        return [self.random.randrange(self.pairs) for _ in range(size)]


def _peer(pair: int) -> str:
    return f"user{pair}"


def _mark(pair: int, user: str, head: int, tick: int) -> MarkRow:
    """Somebody who read everything, in order."""
    member = Member()
    for known in (member.read, member.read_shared, member.delivered_shared, member.held("phone")):
        known.add(1, head + 1)
    seqs = range(max(1, head - ADVANCES + 1), head + 1)
    member.advances = [Advance(tick + seq, tick + seq, (seq, seq + 1)) for seq in seqs]
    return MarkRow(pair + 1, user, tick, pack_marks(member, tick), pack_advances(member))


def _fill(load: Load, messages: int) -> None:
    """Messages in large commits, conversation by conversation interleaved as in life."""
    each = max(messages // load.pairs, 1)
    for _ in range(0, each, 10):
        batch = load.rounds(list(range(load.pairs)) * min(10, each), 0)
        load.store.commit(batch)
    batch = load._batch()
    for pair in range(load.pairs):
        tick = batch.meta.tick
        batch.marks += [_mark(pair, user, load.heads[pair], tick) for user in (ME, _peer(pair))]
        name = f"{ME}~{_peer(pair)}"
        folded = max(load.heads[pair] - UNFOLDED, 0)
        batch.conversations.append(ConversationRow(pair + 1, APP, name, tick, folded, 0, 0, b"\x80"))
    load.store.commit(batch)


def _commits(load: Load, marks: int, rounds: int) -> Iterator[tuple[int, float, float]]:
    """(batch size, CPU µs a round, wall µs a commit)."""
    for size in SIZES:
        count = max(min(rounds // size, 1000), 10)
        batches = [load.rounds(load.some(size), marks) for _ in range(count)]
        cpu, wall = time.process_time(), time.perf_counter()
        for batch in batches:
            load.store.commit(batch)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        yield size, cpu / count / size * 1e6, wall / count * 1e6


def _timed(repeat: int, ask: Callable[[], object]) -> float:
    """CPU ms of one call, after a first one that fills caches."""
    ask()
    began = time.process_time()
    for _ in range(repeat):
        ask()
    return (time.process_time() - began) / repeat * 1e3


def _answers(load: Load) -> Iterator[tuple[str, float, str]]:
    """(what, ms, limit): a user who is in every conversation asks."""
    store, tick = load.store, load.meta.tick
    some = f"{ME}~{_peer(load.pairs // 2)}"
    key = load.pairs // 2 + 1
    head = load.heads[load.pairs // 2]

    def resume(since: int) -> Callable[[], object]:
        return lambda: store.resume(
            APP, ME, since=since, cursor="", bytes_max=256 * 1024, snapshot_messages=200
        )

    yield "load a conversation", _timed(20, lambda: store.conversation(APP, some)), ""
    yield "conversation list, 50 lines", _timed(10, lambda: store.summaries(APP, ME, "", 50)), "20"
    yield "resume, nothing new", _timed(10, resume(tick)), ""
    yield "resume, 10 commits behind, a page", _timed(10, resume(tick - 10)), ""
    yield "resume, full state, a page", _timed(5, resume(-1)), ""
    yield "head at a tick", _timed(200, lambda: store.head_at(key, tick // 2)), ""
    yield "history, 200 messages", _timed(20, lambda: store.history(key, (1, head + 1), 200)), ""
    yield "due messages, none", _timed(5, lambda: store.due_messages(APP, 0, 500)), ""


OPEN = """
import json, resource, sys, time
from pathlib import Path
from receipts.storage.sqlite import SQLiteStore
def memory_kib():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
before = memory_kib()
began = time.perf_counter()
store = SQLiteStore(Path(sys.argv[1]))
store.open(now_ms=0, life="", secret=b"")
print(json.dumps([(time.perf_counter() - began) * 1e3, memory_kib() - before]))
store.close()
"""


def _open(directory: Path) -> tuple[float, float]:
    """(ms, KiB) that opening costs a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(directory)], check=True, capture_output=True, text=True
    )
    took_ms, kib = json.loads(done.stdout)
    return took_ms, kib


def _report(directory: Path, messages: int, marks: int, rounds: int) -> None:
    print(f"{'batch':>6} {'CPU µs/round':>14} {'wall µs/commit':>16}")
    small = Load(SQLiteStore(directory / "small"), 100)
    small.create()
    _fill(small, 2000)
    print(f"a small store: {small.pairs} pairs, limit 20 at 100 rounds")
    for size, cpu, wall in _commits(small, marks, rounds):
        print(f"{size:>6} {cpu:>14.1f} {wall:>16.0f}")
    small.store.close()

    large = Load(SQLiteStore(directory / "large"), 1000)
    large.create()
    began = time.process_time()
    _fill(large, messages)
    total = sum(large.heads)
    filled = (time.process_time() - began) / total * 1e6
    print(f"a large store: {large.pairs} pairs, {total} messages (written at {filled:.1f} µs each)")
    for size, cpu, wall in _commits(large, marks, rounds):
        print(f"{size:>6} {cpu:>14.1f} {wall:>16.0f}")
    for what, took_ms, limit in _answers(large):
        print(f"{what:<44} {took_ms:>9.2f} ms{f'  (limit {limit})' if limit else ''}")
    large.store.close()
    megabytes = large.store.path.stat().st_size / 2**20
    took_ms, kib = _open(directory / "large")
    print(f"opening {megabytes:.0f} MiB: {took_ms:.0f} ms (limit 1000), {kib / 1024:.1f} MiB of memory")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: the temporary one")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--marks", type=int, default=4, help="mark rows a round")
    parser.add_argument("--rounds", type=int, default=20_000, help="per batch size, at most")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="receipts-bench-", dir=options.directory) as directory:
        _report(Path(directory), options.messages, options.marks, options.rounds)


if __name__ == "__main__":
    main()
