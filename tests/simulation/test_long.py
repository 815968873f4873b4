"""The long run: it goes on where it was, stops at what breaks, and writes down what it did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from receipts.core.conversation import Conversation
from receipts.simulation.generator import PROFILES
from tests.simulation import long

FEW = ("--events", "400", "--seeds", "4")


def test_it_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Finished seeds are lines of a file, and are not run again; more seeds take only what is missing."""
    state = tmp_path / "state.jsonl"
    assert long.main([*FEW, "--state", str(state)]) == 0
    lines = [json.loads(line) for line in state.read_text().splitlines()]
    assert {line["seed"] for line in lines} == {0, 1, 2, 3}
    assert all(line["events_each"] == 100 and line["events"] >= 100 for line in lines)
    assert long.main(["--events", "500", "--seeds", "5", "--state", str(state)]) == 0
    assert [json.loads(line)["seed"] for line in state.read_text().splitlines()[4:]] == [4]
    assert "| seeds | 0 to 4, 5 in all |" in capsys.readouterr().out


def test_what_was_run_on_other_code_does_not_count(tmp_path: Path) -> None:
    """Lines of another commit are left alone, and their seeds run again."""
    state = tmp_path / "state.jsonl"
    other = {"commit": "other", "events_each": 100, "seed": 0, "events": 100, "seconds": 1, "digest": ""}
    state.write_text(json.dumps(other) + "\n")
    assert long.main([*FEW, "--state", str(state)]) == 0
    assert len(state.read_text().splitlines()) == 5


def test_it_stops_at_what_breaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seed, what does not hold, and the command that shows it; the seed is not counted as done."""

    def wrong(chat: Conversation, user: str) -> int:
        start, stop = chat.visible(user)
        return stop - start

    monkeypatch.setattr(Conversation, "unread", wrong)
    state = tmp_path / "state.jsonl"
    assert long.main(["--events", "2000", "--seeds", "4", "--state", str(state)]) == 1
    out = capsys.readouterr().out
    assert "breaks I-" in out
    seed = int(out.split()[1])
    assert f"receipts simulate --seed {seed} --events 500 --faults {long.profile_of(seed)}" in out
    done = [json.loads(line)["seed"] for line in state.read_text().splitlines()] if state.exists() else []
    assert seed not in done


def test_the_result_has_its_place_in_the_docs(tmp_path: Path) -> None:
    """What is written stands between its marks, and the rest of the page is as it was."""
    text = long.DOCUMENT.read_text(encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    long.write("| new |", page)
    before, _, rest = text.partition(long.MARKS[0])
    after = rest.partition(long.MARKS[1])[2]
    assert page.read_text(encoding="utf-8") == f"{before}{long.MARKS[0]}\n| new |\n{long.MARKS[1]}{after}"


def test_profiles_take_turns() -> None:
    """Of any four seeds in a row each has another profile."""
    assert {long.profile_of(seed) for seed in range(8, 12)} == set(PROFILES)
