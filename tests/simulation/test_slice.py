"""A slice of what `python -m tests.simulation.long` runs: fresh seeds in every run of the tests.

The seeds are printed at the end of the run, and with every failure; `RECEIPTS_SEED=N` repeats them.
"""

from __future__ import annotations

import pytest

from receipts.simulation.pytest_plugin import ReceiptsWorld


@pytest.mark.receipts_simulation(seeds=6, events=2500, faults="none")
def test_nothing_breaks_on_a_fine_day(receipts_world: ReceiptsWorld) -> None:
    """With links, disks and clocks as they should be, all that must hold does, after every step."""
    receipts_world.run()


@pytest.mark.receipts_simulation(seeds=12, events=2500, faults="some")
def test_nothing_breaks_on_a_usual_day(receipts_world: ReceiptsWorld) -> None:
    """With faults now and then, it still does."""
    receipts_world.run()


@pytest.mark.receipts_simulation(seeds=8, events=2500, faults="many")
def test_nothing_breaks_on_a_bad_day(receipts_world: ReceiptsWorld) -> None:
    """With faults all the time, it still does."""
    receipts_world.run()


@pytest.mark.receipts_simulation(seeds=8, events=2500, faults="cruel")
def test_nothing_breaks_on_the_worst_day(receipts_world: ReceiptsWorld) -> None:
    """When next to nothing works, it still does."""
    receipts_world.run()
