"""Live worlds: they converge over any transport, one seed is one run, and what is wrong is found."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio._core._run as scheduler

import transports
from receipts.simulation.live import CALM, ROUGH, LiveFaults, simulate_live
from receipts.simulation.violation import Violation
from transports import memory
from transports.base import Frame, Link

ROOT = Path(__file__).parents[2]


class Passing(Link):
    """A link around another one that passes everything, as users write them."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.peer = link.peer

    async def receive(self) -> list[Frame]:
        return await self._link.receive()

    def send(self, frames: Sequence[Frame]) -> None:
        self._link.send(frames)

    @property
    def buffered(self) -> int:
        return self._link.buffered

    async def drained(self, below: int = 0) -> None:
        await self._link.drained(below)

    def close(self) -> None:
        self._link.close()

    def abort(self) -> None:
        self._link.abort()

    async def wait_closed(self) -> None:
        await self._link.wait_closed()


class Forgetful(Passing):
    """A transport with a bug: of several frames in one write the last one is lost, and the link goes on."""

    def send(self, frames: Sequence[Frame]) -> None:
        self._link.send(frames[:-1] if len(frames) > 1 else frames)


@pytest.mark.parametrize("faults", [CALM, ROUGH], ids=["memory", "faulty memory"])
@pytest.mark.parametrize("seed", range(4))
def test_worlds_converge(seed: int, faults: LiveFaults) -> None:
    """Whatever users do and whatever fails, at the end all devices, the node and a recount of its disk agree,
    nothing waits to be sent, and every message that was accepted is there once (I-13, I-16, I-23, I-24)."""
    outcome = simulate_live(seed, faults=faults)
    assert outcome.counts["deed"] == 200
    assert outcome.counts["sent"] > 100
    assert (outcome.counts["node"] > 2) is (faults is ROUGH)


def test_one_seed_is_one_run(tmp_path: Path) -> None:
    """The same seed gives the same bytes at the same times in any process, whatever strings hash to; another
    seed gives others."""
    code = "from receipts.simulation.live import simulate_live\nprint(simulate_live(5).digest)"
    digests = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        found = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        digests.add(found.stdout.strip())
    assert digests == {simulate_live(5).digest}
    assert simulate_live(6).digest not in digests


def test_what_it_rules_is_put_back() -> None:
    """A run leaves trio's scheduler and the module `random` as they were."""
    random.seed(1)
    expected = random.random()
    kept = scheduler._r, scheduler._ALLOW_DETERMINISTIC_SCHEDULING
    random.seed(1)
    simulate_live(1, deeds=10)
    assert random.random() == expected
    assert (scheduler._r, scheduler._ALLOW_DETERMINISTIC_SCHEDULING) == kept


def test_over_a_transport_of_ones_own() -> None:
    """A scheme that was registered carries a world, and a link of one's own around it changes nothing."""
    transports.register("mine", memory.connect, memory.listen)
    assert simulate_live(2, url="mine://node").digest == simulate_live(2, wrap=Passing).digest


def test_over_sockets() -> None:
    """Over TCP the machine says which frame comes first, and all agree in the end all the same (I-31)."""
    outcome = simulate_live(3, deeds=30, url="tcp://127.0.0.1:0", idle_seconds=0.01)
    assert outcome.counts["heal"] == 1


def test_a_broken_transport_is_found() -> None:
    """What goes wrong is said as a violation that names the seed, and how to run it again."""
    with pytest.raises(Violation) as found:
        simulate_live(0, faults=CALM, wrap=Forgetful)
    assert "live world 0, 200 deeds" in found.value.details


def test_the_trace_can_be_read() -> None:
    """Every line of the trace has its time, and the deeds are in words."""
    lines: list[str] = []
    listen: Callable[[str], None] = lines.append
    outcome = simulate_live(4, deeds=20, line=listen)
    times = [float(line.split()[0]) for line in lines]
    assert times == sorted(times)
    assert sum(" deed " in line for line in lines) == outcome.counts["deed"] == 20
