"""What a node costs: a server process, a load process, each on a CPU of its own, and the figures of both.

    python -m tests.bench node --seconds 5

CPU per round is user and system time of the server's whole process tree ÷ rounds in the window. A *round* is
a 100-byte text to a peer, its acceptance, and the delivery and read receipts back at the sender; everything
is on disk before anybody hears of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from receipts.core.conversation import Conversation
from receipts.core.events import MessageAccepted
from receipts.core.ids import MessageId, direct
from receipts.storage import base as rows
from receipts.storage.codec import pack_advances, pack_marks, pack_member, pack_registers
from receipts.storage.sqlite import SQLiteStore

from . import server
from .load import SCENARIOS, play
from .report import Row

__all__ = ["LOOPS", "Served", "fill", "group", "idle", "measure", "restart", "rounds", "serving", "vendor"]

ROUND_BUDGET_US = {"saturated": 60.0, "w1": 120.0}
WEBSOCKET_FACTOR = 2.0
VENDOR_FACTOR = 3.0
IDLE_BUDGET_KIB = 10.0
GROUP_BUDGET_MS = 6.0
RESTART_BUDGET_S = 1.0
RESTART_MESSAGES = 1_000_000
END_SECONDS_MAX = 60.0

LOOPS = ("uvloop", "asyncio", "trio")
WHAT = {
    "saturated": "saturated: 100 pairs × 4 rounds at once",
    "w1": "W1: 1000 pairs × 1 round at once",
    "light": "light: 500 rounds/s, open loop",
    "group": "group of 200, all read",
    "idle": "idle links, 1,000 to 5,000",
    "vendor_idle": "idle links, 500 to 2,000",
}


# -- processes


def _cpus() -> tuple[list[str], list[str]]:
    """Where the server runs, and where the generator."""
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cpus) < 2:
        return [], []
    return ["--cpu", str(cpus[0])], ["--cpu", str(cpus[1])]


class Served(NamedTuple):
    """A server process that listens."""

    pid: int
    url: str
    said: dict[str, Any]
    """After the block: what it said at its end."""


@contextmanager
def serving(directory: Path, url: str, loop: str, *more: str) -> Iterator[Served]:
    """A server process on a directory; it ends in good order with the block."""
    command = [sys.executable, "-m", "tests.bench.server", str(directory), "--url", url, "--loop", loop]
    with subprocess.Popen(
        [*command, *_cpus()[0], *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            served = Served(process.pid, json.loads(process.stdout.readline())["url"], {})
            yield served
            process.send_signal(signal.SIGTERM)
            served.said.update(json.loads(process.stdout.readline()))
            process.wait(END_SECONDS_MAX)
        finally:
            process.kill()


def generate(scenario: str, url: str, pid: int, seconds: float) -> dict[str, Any]:
    """Run the load generator to its end.

    Raises:
        SystemExit: Something that it was told was wrong.
    """
    command = [sys.executable, "-m", "tests.bench.load", scenario, "--url", url, "--pid", str(pid)]
    done = subprocess.run(
        [*command, "--seconds", str(seconds), *_cpus()[1]], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{scenario}: the node did wrong, there is no figure")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(scenario: str, scheme: str, loop: str, seconds: float, *more: str) -> dict[str, Any]:
    """One scenario against a fresh node; the generator's figures, and `stall_ms` of the server."""
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        directory = Path(place) / "data"
        url = f"{scheme}://127.0.0.1:0"
        server.seed(directory, server.app_of(url))
        with serving(directory, url, loop, *more) as served:
            found = generate(scenario, served.url, served.pid, seconds)
    if "begin" in found:
        window = range(int(found["begin"] * 10) + 1, int(found["end"] * 10))
        late = {int(tenth): worst for tenth, worst in served.said["late"].items()}
        found["stall_ms"] = max((late.get(tenth, 0.0) for tenth in window), default=0.0) * 1e3
    return found


# -- figures


def _notes(found: dict[str, Any]) -> str:
    return (
        f"{found['rounds_per_second']:,.0f}/s, p50 {found['p50_ms']:.2f} ms, p99 {found['p99_ms']:.2f} ms, "
        f"longest stall {found['stall_ms']:.1f} ms, server {found['server_cpu']:.0%}, "
        f"generator {found['generator_cpu']:.0%} of a CPU"
    )


def rounds(scheme: str, loop: str, seconds: float, tcp_us: dict[str, float]) -> Iterator[Row]:
    """Rounds over one transport on one event loop.

    Args:
        tcp_us: What the same cost over TCP on uvloop, by scenario: filled by that run, read by websocket's.
    """
    for scenario in ("saturated", "w1", "light"):
        found = measure(scenario, scheme, loop, seconds)
        budget = None
        if loop == "uvloop" and scheme == "tcp":
            budget = ROUND_BUDGET_US.get(scenario)
            tcp_us[scenario] = found["cpu_us"]
        elif loop == "uvloop" and scenario in ROUND_BUDGET_US and scenario in tcp_us:
            budget = WEBSOCKET_FACTOR * tcp_us[scenario]
        yield Row(f"{scheme}, {loop}", WHAT[scenario], found["cpu_us"], "µs CPU/round", budget, _notes(found))


def idle(loop: str = "uvloop") -> Row:
    """Memory of a link that is logged in and silent."""
    found = measure("idle", "tcp", loop, 1.0)
    notes = f"{found['rss_kib'] / 1024:.0f} MiB with 5,000"
    return Row(f"tcp, {loop}", WHAT["idle"], found["kib_per_link"], "KiB/link", IDLE_BUDGET_KIB, notes)


def vendor(seconds: float, loop: str = "uvloop") -> Iterator[Row]:
    """Rounds through the vendor's dialect beside the native websocket's of the same run, and its idle
    links."""
    for scenario in ("saturated", "w1"):
        native = measure(scenario, "ws", loop, seconds)["cpu_us"]
        found = measure(scenario, "easemob", loop, seconds)
        notes = f"{found['cpu_us'] / native:.1f} × ws's {native:.0f} µs; {_notes(found)}"
        budget = VENDOR_FACTOR * native
        yield Row(f"easemob, {loop}", WHAT[scenario], found["cpu_us"], "µs CPU/round", budget, notes)
    found = measure("vendor_idle", "easemob", loop, 1.0)
    notes = f"{found['rss_kib'] / 1024:.0f} MiB with 2,000"
    yield Row(f"easemob, {loop}", WHAT["vendor_idle"], found["kib_per_link"], "KiB/link", None, notes)


def group(seconds: float, loop: str = "uvloop") -> Row:
    """A message to 200 that asks, from the send to the last count."""
    found = measure("group", "tcp", loop, seconds)
    cost_ms = found["cpu_us"] / 1000
    return Row(f"tcp, {loop}", WHAT["group"], cost_ms, "ms CPU/round", GROUP_BUDGET_MS, _notes(found))


def restart(messages: int = RESTART_MESSAGES) -> Row:
    """From the start of the process to the first login, on a directory with many messages."""
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        directory = Path(place) / "data"
        fill(directory, messages)
        took = []
        for _ in range(3):
            began = time.monotonic()
            with serving(directory, "tcp://127.0.0.1:0", "uvloop") as served:
                listening = time.monotonic() - began
                took.append((listening + _login_seconds(served), listening))
    seconds, listening = sorted(took)[1]
    return Row(
        "tcp, uvloop",
        f"restart with {messages:,} messages",
        seconds,
        "s to the first login",
        RESTART_BUDGET_S,
        f"listening after {listening:.2f} s; median of 3",
    )


def _login_seconds(served: Served) -> float:
    """How long a login takes, by this process."""
    began = time.monotonic()
    found = asyncio.run(play(SCENARIOS["login"], served.url, served.pid, 0))
    return float(found["at"] - began)


MESSAGES_EACH = 1000
"""Of a conversation in a filled directory; all but the last few are read."""


def fill(directory: Path, messages: int) -> None:
    """Store so many messages in conversations of two, without a node."""
    meta = server.seed(directory)
    store = SQLiteStore(directory)
    store.open(now_ms=server.NOW_MS, life="bench", secret=server.SECRET)
    try:
        chats = -(-messages // MESSAGES_EACH)
        for number in range(chats):
            meta = meta._replace(
                tick=meta.tick + 1, key=meta.key + 1, message_id=meta.message_id + 2 * MESSAGES_EACH
            )
            batch = rows.Batch(meta=meta)
            _fill_chat(batch, number, min(MESSAGES_EACH, messages - number * MESSAGES_EACH))
            store.commit(batch)
    finally:
        store.close()


def _fill_chat(batch: rows.Batch, number: int, messages: int) -> None:
    meta = batch.meta
    one, other = server.user_name(0 if number < 20 else number), server.user_name(number + 2000)
    chat = Conversation.between(one, other)
    first_id = meta.message_id - 2 * MESSAGES_EACH
    for seq in range(1, messages + 1):
        author = one if seq % 2 else other
        chat.apply(MessageAccepted(chat.id, seq, MessageId(first_id + 2 * seq), author, "phone"))
        batch.messages.append(
            rows.MessageRow(
                meta.key,
                seq,
                first_id + 2 * seq,
                meta.tick,
                author,
                "phone",
                server.NOW_MS,
                0,
                False,
                3,
                0,
                0,
                f"{seq:0100d}",
                0,
                "",
                0,
            )
        )
    for user in (one, other):
        member = chat.members[user]
        member.read.update((1, messages))
        batch.marks.append(
            rows.MarkRow(meta.key, user, meta.tick, pack_marks(member, meta.tick), pack_advances(member))
        )
        batch.members.append(
            rows.MemberRow(meta.key, "default", user, meta.tick, pack_member(member, meta.tick))
        )
    batch.conversations.append(
        rows.ConversationRow(
            meta.key, "default", direct(one, other), meta.tick, messages, 0, 0, pack_registers(chat.registers)
        )
    )
