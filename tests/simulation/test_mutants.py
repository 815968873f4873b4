"""The simulator finds each of the field's 25 failures, under its own invariant (see `mutants`)."""

from __future__ import annotations

import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.simulation import mutants
from tests.simulation.mutants import MUTANTS, ROOT, Change, Mutant

CHOSEN = [one for one in MUTANTS if not one.rare or os.environ.get("HYPOTHESIS_PROFILE") == "deep"]
NAMES = [f"{one.failure}-{one.name}" for one in MUTANTS]


@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_a_mutant_fits_the_package(mutant: Mutant) -> None:
    """What a mutant changes stands in the package, once: else it has to be brought up to date."""
    mutants.check(mutant)


def test_every_failure_has_a_mutant() -> None:
    """All 25 are expressed, at least in part; what is not has its reason in words."""
    assert sorted({one.failure for one in MUTANTS} - {0}) == list(range(1, 26)) == list(mutants.FAILURES)
    assert all(one.invariants[0] == f"I-{one.failure}" for one in MUTANTS if one.failure)


@pytest.mark.timeout(600)
def test_every_mutant_is_caught() -> None:
    """A few worlds end in the invariant that stands for the failure; as many without it find nothing."""
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(mutants.catch, CHOSEN))
        missed = [
            f"{one.mutant.failure} {one.mutant.name}: {one.others}" for one in found if not one.invariant
        ]
        assert not missed
    with tempfile.TemporaryDirectory() as directory:
        copy = mutants.mutated(None, Path(directory).resolve() / "copy")
        worlds = mutants.hunt(copy, ["I-7"], seeds=max(one.seeds for one in found))
    assert [world for world in worlds if world is not None] == []


def test_the_table_is_of_these_mutants() -> None:
    """docs/mutants.md has every mutant, in order, caught (`python -m tests.simulation.mutants --write`)."""
    page = (ROOT / "docs" / "mutants.md").read_text()
    rows = re.findall(r"^\| (\d+|–) \| [^|]+ \| ([^|]+) \| ([^|]+) \| (\S+) \| (\d+)", page, re.MULTILINE)
    assert [row[:3] for row in rows] == [(str(one.failure or "–"), one.name, one.why) for one in MUTANTS]
    assert all(row[3] in one.invariants for row, one in zip(rows, MUTANTS, strict=True))


def test_a_mutant_that_does_not_fit_is_said_so(tmp_path: Path) -> None:
    """A text that is not there once names the mutant and its file, and the copy is all that is touched."""
    before = (ROOT / mutants.DECIDE).read_text()
    stray = Mutant(4, "stray", (Change(mutants.DECIDE, "no such line", ""),), ("I-4",), "")
    with pytest.raises(
        mutants.NotFound, match=r"mutant 4 “stray”: receipts/core/decide.py has its text 0 times"
    ):
        mutants.mutated(stray, tmp_path / "copy")
    mutants.mutated(next(one for one in MUTANTS if one.changes[0].file == mutants.DECIDE), tmp_path / "other")
    assert (tmp_path / "other" / mutants.DECIDE).read_text() != before
    assert (ROOT / mutants.DECIDE).read_text() == before
