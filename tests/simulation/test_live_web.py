"""Live worlds with devices of the vendor's SDK: they know what native ones do, and what is wrong is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from receipts.simulation.live import CALM, ROUGH, LiveFaults, simulate_live
from receipts.simulation.pytest_plugin import ReceiptsWorld
from tests.simulation import mutants
from tests.simulation.mutants import ROOT, Change, Mutant

SESSION = "receipts/easemob/session.py"
QUEUES = "receipts/node/queues.py"
SEEDS = 60
"""Worlds that a mutant may live."""

MUTANTS = (
    Mutant(
        0,
        "keys begin anew",
        (Change(SESSION, "        self._key = update.login_ms * KEYS_PER_MS\n", "        self._key = 0\n"),),
        ("I-23",),
        "Every link of a device has the same keys, so the SDK stops to acknowledge.",
    ),
    Mutant(
        0,
        "the window stays shut",
        (
            Change(
                SESSION,
                "            return self._frames(self._window.flush()) or self._end_of_pull(now_ms)\n",
                "            return self._end_of_pull(now_ms)\n",
            ),
        ),
        ("I-13", "I-24"),
        "What had to wait for room in the window is never sent.",
    ),
    Mutant(
        0,
        "arrival is not noted",
        (
            Change(
                SESSION,
                "            arrival = AckQueue(rid=rid, heard=heard, page=page, through=self._through)\n",
                "            arrival = AckQueue(rid=rid, page=page)\n",
            ),
        ),
        ("I-23",),
        "What the SDK has acknowledged is given to it again, long after it has forgotten the ids.",
    ),
    Mutant(
        0,
        "ids of receipts change",
        (
            Change(
                "receipts/easemob/envelopes.py",
                "        mid = receipt_id_of(message_id, member, level)\n",
                "        mid = receipt_id_of(message_id, member, level) ^ update.at_ms << 1\n",
            ),
        ),
        ("I-23",),
        "A receipt that is told again is taken for another one.",
    ),
    Mutant(
        0,
        "all are read when one is",
        (
            Change(
                QUEUES,
                "    left = done.missing(through(conversation.head))\n",
                "    left = done.missing(shared)\n",
            ),
        ),
        ("I-24",),
        "A conversation receipt of the peer stands for messages that were not read.",
    ),
    Mutant(
        0,
        "nobody answers",
        (Change(SESSION, "    Answered: EasemobDialect._news,\n", ""),),
        ("I-13", "I-24"),
        "Answers to messages of groups are not told while the author is there.",
    ),
)

_HUNT = """
import json, sys
import receipts
from receipts.simulation.live import simulate_live
from receipts.simulation.violation import Violation

directory, wanted, seeds = json.loads(sys.argv[1])
assert receipts.__file__.startswith(directory), receipts.__file__
found = []
for seed in range(seeds):
    try:
        simulate_live(seed, web=True)
        found.append(None)
    except Violation as violation:
        found.append([violation.invariant, violation.what])
        if violation.invariant in wanted:
            break
print(json.dumps(found))
"""


def hunt(mutant: Mutant) -> list[tuple[str, str] | None]:
    """What worlds on a mutated copy end in, until one is as the mutant's."""
    with tempfile.TemporaryDirectory() as directory:
        copy = str(mutants.mutated(mutant, Path(directory).resolve() / "copy"))
        found = subprocess.run(
            [sys.executable, "-c", _HUNT, json.dumps([copy, list(mutant.invariants), SEEDS])],
            env={**os.environ, "PYTHONPATH": copy},
            cwd=copy,
            capture_output=True,
            text=True,
        )
    assert not found.returncode, found.stderr[-2000:]
    return [None if one is None else (one[0], one[1]) for one in json.loads(found.stdout)]


@pytest.mark.parametrize("faults", [CALM, ROUGH], ids=["calm", "rough"])
@pytest.mark.parametrize("seed", range(3))
def test_worlds_converge(seed: int, faults: LiveFaults) -> None:
    """Whatever fails, at the end every page was told what its user's native devices know, each of it once,
    and at no time what was not so (I-13, I-14, I-23, I-24)."""
    outcome = simulate_live(seed, web=True, faults=faults)
    assert outcome.counts["told"] > 100
    assert outcome.counts["heal"] == 1


@pytest.mark.receipts_simulation(seeds=8)
def test_fresh_worlds_converge(receipts_world: ReceiptsWorld) -> None:
    """As above, with other seeds in every run."""
    receipts_world.live(web=True)


def test_one_seed_is_one_run() -> None:
    """The same seed gives the same bytes at the same times in any process, whatever strings hash to."""
    code = "from receipts.simulation.live import simulate_live\nprint(simulate_live(5, web=True).digest)"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == simulate_live(5, web=True).digest != simulate_live(5).digest


def test_over_sockets() -> None:
    """Over websockets, as the SDK has them, all agree in the end as well (I-31)."""
    outcome = simulate_live(3, deeds=30, web=True, web_url="ws://127.0.0.1:0/websocket", idle_seconds=0.01)
    assert outcome.counts["heal"] == 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_every_mutant_is_caught(mutant: Mutant) -> None:
    """A deliberate mistake in how the vendor's dialect is spoken ends a world in the invariant it breaks."""
    found = hunt(mutant)
    last = found[-1]
    assert last is not None, f"{len(found)} worlds found nothing"
    assert last[0] in mutant.invariants, found
