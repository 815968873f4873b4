"""Small worlds, exhaustively: nothing is wrong in any of them, and what is wrong would be found."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from receipts.simulation.exhaustive import ALPHABET, CAST, Exhausted, exhaust, main
from receipts.simulation.run import replay


def share(arguments: tuple[int, bool, bool, int]) -> Exhausted:
    operations, away, crashes, part = arguments
    return exhaust(operations, away=away, crashes=crashes, part=part, parts=2)


SMALL = [(operations, operations == 2, True, part) for operations in (3, 2) for part in (0, 1)]
DEEP = [(3, True, True, part) for part in (0, 1)]


@pytest.mark.timeout(1800)
def test_three_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """After any three operations with a crash at any point, and after any two by devices that come and go as
    well, all agree (I-13, I-16, I-24). How many states were visited is printed."""
    assert len(ALPHABET) >= 6
    assert len(CAST.users) == 2
    assert len(CAST.devices) == 4
    monkeypatch.setenv("RECEIPTS_FROZEN", "0")  # the processes go faster then
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        for found in pool.map(share, DEEP if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else SMALL):
            print(f"{found.paths} paths, {found.crashes} crashes, {found.states} states")
            assert found.violation is None
            assert found.states > 50


def test_shares_make_a_whole() -> None:
    """Shares go through all sequences together; only states that several of them meet are counted twice."""
    whole = exhaust(2, away=False, crashes=False)
    shares = [exhaust(2, away=False, crashes=False, part=part, parts=2) for part in range(2)]
    together = shares[0] + shares[1]
    assert together.paths == whole.paths
    assert together.states >= whole.states


def test_what_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in the node ends in a violation, and its trace leads there again."""
    monkeypatch.setattr("receipts.node.marks._tell_read", lambda *_: None)
    found = exhaust(2, away=False, crashes=False)
    assert found.violation is not None
    assert found.violation.invariant == "I-16"
    again = replay(CAST, found.steps).violation
    assert again is not None
    assert again.invariant == "I-16"


def test_as_a_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints what was visited; with something wrong it ends in 1 and prints the trace."""
    assert main(["--operations", "1"]) == 0
    assert "sequences of up to 1 operations" in capsys.readouterr().out
    assert main(["--operations", "1", "--jobs", "2", "--no-crashes", "--no-away"]) == 0
    capsys.readouterr()
    monkeypatch.setattr("receipts.node.marks._tell_read", lambda *_: None)
    assert main(["--operations", "2", "--no-crashes", "--no-away"]) == 1
    printed = capsys.readouterr().out
    assert "I-16" in printed
    assert "\nact " in printed
