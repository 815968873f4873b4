"""Small worlds, exhaustively: nothing is wrong in any of them, and what is wrong would be found."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest

from receipts.simulation import exhaustive, small
from receipts.simulation.exhaustive import main, run
from receipts.simulation.run import replay
from receipts.simulation.small import ALPHABET, CAST, exhaust
from receipts.simulation.steps import CrashDevice, CrashNode, Freeze, Step, Thaw
from receipts.simulation.violation import Violation
from receipts.simulation.world import World


@pytest.mark.timeout(1800)
def test_three_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """After any three operations, by devices that come and go and with a crash at any point, all agree (I-13,
    I-16, I-24). How many states were visited is printed."""
    assert len(ALPHABET) >= 6
    assert len(CAST.users) == 2
    assert len(CAST.devices) == 4
    monkeypatch.setenv("RECEIPTS_FROZEN", "0")  # the processes go faster then
    found = run(3, jobs=2)
    print(f"{found.paths:,} sequences, {found.crashes:,} with a crash, {found.states:,} states")
    assert found.violation is None
    assert found.states > 5000


def test_shares_make_a_whole() -> None:
    """Shares go through all sequences together; only states that several of them meet are counted twice."""
    whole = exhaust(2, away=False, crashes=False)
    shares = [exhaust(2, away=False, crashes=False, part=part, parts=2) for part in range(2)]
    together = shares[0] + shares[1]
    assert together.paths == whole.paths
    assert together.states >= whole.states


def test_what_can_happen_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody acts in absence and comes back; everything crashes, with and without its disk, while somebody
    is away, and who comes back crashes then."""
    done: list[tuple[Step, bool]] = []
    do = World.do

    def watched(world: World, step: Step) -> None:
        done.append((step, any(device.frozen for device in world.devices.values())))
        do(world, step)

    monkeypatch.setattr(World, "do", watched)
    monkeypatch.setattr(small, "ALPHABET", {"send": ALPHABET["send"]})
    assert exhaust(3).violation is None
    met = set(done)
    labels = [f"{one.user}/{one.name}" for one in CAST.devices]
    for label in labels:
        assert (Freeze(label), False) in met
        assert (Thaw(label), True) in met
    for away in (False, True):
        assert {(CrashNode(unsynced), away) for unsynced in ("lose", "keep", "tear")} <= met
        for storage in ("keep", "lose"):
            assert {(CrashDevice(label, storage), away) for label in labels} <= met
    in_turn = {(one, other) for (one, _), (other, _) in pairwise(done)}
    assert {(Thaw(label), CrashDevice(label)) for label in labels} & in_turn


def test_progress_is_told() -> None:
    """After every state it is told how far it is, to the last one of each operation."""
    told = []
    exhaust(
        2, away=False, crashes=False, progress=lambda found, level, done, of: told.append((level, done, of))
    )
    first, *_, last = told
    assert first == (1, 1, 1)
    level, done, of = last
    assert level == 2
    assert done == of
    assert len(told) == 1 + of


def test_what_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in the node ends in a violation, and its trace leads there again."""
    monkeypatch.setattr("receipts.node.marks._tell_read", lambda *_: None)
    found = exhaust(2, away=False, crashes=False)
    assert found.violation is not None
    assert found.violation.invariant == "I-16"
    again = replay(CAST, found.steps).violation
    assert again is not None
    assert again.invariant == "I-16"


def test_violations_come_out_of_processes() -> None:
    """What a process has found arrives whole where it was started."""
    violation = Violation("I-16", "not that many", "expected 1\nfound    2")
    violation.step = 7
    again = pickle.loads(pickle.dumps(violation))
    assert (again.invariant, again.what, again.details) == ("I-16", "not that many", "expected 1\nfound    2")
    assert again.step == 7
    assert str(again) == str(violation)


def test_as_a_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints what was visited, and how far it is if asked to; with something wrong it ends in 1 and prints
    the trace."""
    assert main(["--operations", "1"]) == 0
    captured = capsys.readouterr()
    assert "sequences of up to 1 operations" in captured.out
    assert captured.err == ""
    assert main(["--operations", "1", "--jobs", "2", "--no-crashes", "--no-away"]) == 0
    capsys.readouterr()
    monkeypatch.setattr(exhaustive, "EVERY_S", 0)
    assert main(["--operations", "1", "--no-crashes", "--no-away", "--progress"]) == 0
    assert "1/1: operation 1 of 1, from 1 of 1 states" in capsys.readouterr().err
    monkeypatch.setattr("receipts.node.marks._tell_read", lambda *_: None)
    assert main(["--operations", "2", "--no-crashes", "--no-away"]) == 1
    printed = capsys.readouterr().out
    assert "I-16" in printed
    assert "\nact " in printed
