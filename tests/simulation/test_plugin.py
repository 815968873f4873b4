"""The pytest plugin, in projects of its own: what a user's test gets, and what a failure leaves behind."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from receipts.simulation.trace import read_trace

pytest_plugins = ["pytester"]

PLUGIN = "receipts.simulation.pytest_plugin"

WORLD = """
def test_world(receipts_world):
    outcome = receipts_world.run(events=60, faults="none")
    assert outcome.seed == receipts_world.seed
"""

SEEDS = """
def test_world(receipts_world):
    print("seed", receipts_world.seed)
"""

BROKEN = """
from receipts.core.conversation import Conversation

def wrong(self, user):
    start, stop = self.visible(user)
    return stop - start

Conversation.unread = wrong  # whatever is visible is unread
"""


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """A run of pytest on the files of a test, with the plugin as an installed package has it."""
    return pytester.runpytest_inprocess(*QUIET, *arguments)


def run_apart(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """The same in a process of its own: for code that is broken on purpose, and for workers."""
    return pytester.runpytest_subprocess(*QUIET, *arguments)


QUIET = ("-p", "no:cacheprovider", "-p", "no:anyio")


@pytest.fixture(autouse=True)
def installed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin is there by its entry point; by name where the package was installed before that."""
    if PLUGIN not in {found.value for found in metadata.entry_points(group="pytest11")}:
        monkeypatch.setenv("PYTEST_PLUGINS", PLUGIN)
    monkeypatch.delenv("RECEIPTS_SEED", raising=False)


def seeds_in(result: pytest.RunResult) -> list[int]:
    return [int(found) for found in re.findall(r"\bseed (\d+)$", result.stdout.str(), re.MULTILINE)]


def test_a_world_lives(pytester: pytest.Pytester) -> None:
    """A test that lets a world live passes when nothing breaks."""
    pytester.makepyfile(WORLD)
    run(pytester).assert_outcomes(passed=3)


def test_a_run_per_seed(pytester: pytest.Pytester) -> None:
    """A test runs once per seed, the seeds are new in every run, and the end of the run says which."""
    pytester.makepyfile(SEEDS)
    first, second = run(pytester, "-s"), run(pytester, "-s")
    first.assert_outcomes(passed=3)
    seeds = seeds_in(first)
    assert len(set(seeds)) == 3
    first.stdout.fnmatch_lines([f"receipts: 3 seeds from {seeds[0]} (RECEIPTS_SEED={seeds[0]} repeats them)"])
    assert not set(seeds) & set(seeds_in(second))


def test_the_environment_repeats_a_run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """RECEIPTS_SEED gives the same seeds again."""
    pytester.makepyfile(SEEDS)
    monkeypatch.setenv("RECEIPTS_SEED", "100")
    assert seeds_in(run(pytester, "-s")) == [100, 101, 102]
    monkeypatch.setenv("RECEIPTS_SEED", "many")
    refused = run(pytester)
    refused.stderr.fnmatch_lines(["*RECEIPTS_SEED='many' is not a whole number"])
    assert refused.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(("given", "expected"), [("2", 2), ("7..7", [7]), ("8..9", [8, 9])])
def test_options_say_which_seeds(pytester: pytest.Pytester, given: str, expected: int | list[int]) -> None:
    """A number, or a range of seeds with both ends."""
    pytester.makepyfile(SEEDS)
    result = run(pytester, "-s", "--receipts-seeds", given)
    seeds = seeds_in(result)
    assert seeds == expected or len(seeds) == expected
    if isinstance(expected, list):
        again = f"--receipts-seeds {expected[0]}..{expected[-1]} repeats them"
        assert again in result.stdout.str()


@pytest.mark.parametrize("given", ["9..8", "some", "-1"])
def test_seeds_that_are_none_are_refused(pytester: pytest.Pytester, given: str) -> None:
    """What is neither a number nor a range is a usage error, with what it should look like."""
    pytester.makepyfile(SEEDS)
    refused = run(pytester, f"--receipts-seeds={given}")
    assert refused.ret != 0
    assert (
        f"receipts: seeds='{given}' is neither a number nor of the form A..B"
        in refused.stdout.str() + str(refused.stderr)
    )


def test_a_marker_says_how_often_and_how_long(pytester: pytest.Pytester) -> None:
    """For one test: seeds, events, faults; the command line goes before it."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.receipts_simulation(seeds=2, events=50, faults="none")
        def test_world(receipts_world):
            outcome = receipts_world.run()
            assert not {"cut", "node crash", "device crash", "partition"} & set(outcome.counts)
            print("seed", receipts_world.seed)
            print("events", outcome.events >= 200)
        """
    )
    marked = run(pytester, "-s", "--strict-markers")
    marked.assert_outcomes(passed=2)
    assert "events False" in marked.stdout.str()
    longer = run(pytester, "-s", "--receipts-events", "200", "--receipts-seeds", "1")
    longer.assert_outcomes(passed=1)
    longer.stdout.fnmatch_lines(["events True"])


def test_without_worlds_nothing_is_said(pytester: pytest.Pytester) -> None:
    """A project that has the package installed and tests something else sees nothing of the plugin."""
    pytester.makepyfile("def test_nothing():\n    pass")
    result = run(pytester)
    result.assert_outcomes(passed=1)
    assert "receipts:" not in result.stdout.str()


def test_a_test_may_name_its_seeds(pytester: pytest.Pytester) -> None:
    """Who parametrizes `receipts_seed` gets just those."""
    pytester.makepyfile("import pytest\n\n@pytest.mark.parametrize('receipts_seed', [5])\n" + SEEDS.strip())
    assert seeds_in(run(pytester, "-s")) == [5]


def test_workers_take_the_same_seeds(pytester: pytest.Pytester) -> None:
    """With pytest-xdist all processes collect the same tests, with the seeds that are named at the end."""
    pytester.makepyfile(SEEDS)
    result = run_apart(pytester, "-n", "2", "--receipts-seeds", "4", "-rA")
    result.assert_outcomes(passed=4)
    found = re.search(r"receipts: 4 seeds from (\d+)", result.stdout.str())
    assert found is not None
    first = int(found[1])
    assert sorted(seeds_in(result)) == [first, first + 1, first + 2, first + 3]


def test_a_failure_says_all_that_is_needed(pytester: pytest.Pytester) -> None:
    """Seed, invariant, trace, the command that replays it, and a page and a trace on disk that show it."""
    pytester.makepyfile(WORLD.replace("60", "300"))
    pytester.makeconftest(BROKEN)
    result = run_apart(pytester, "--receipts-seeds", "3..3", "--receipts-reports", "found")
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert re.search(r"^I-\d+: ", text, re.MULTILINE)
    assert "seed: 3 (pytest --receipts-seeds 3..3)" in text
    assert "Shrunk from" in text
    page, kept = (
        pytester.path / "found" / "test_world-seed3.html",
        pytester.path / "found" / "test_world-seed3.trace",
    )
    assert f"receipts simulate --replay {kept}" in text
    trace = read_trace(kept.read_text())
    assert trace.seed == 3
    assert trace.invariant is not None
    assert trace.invariant in page.read_text()
    assert f"  {kept.read_text().splitlines()[-1]}" in text


def test_a_trace_is_replayed(pytester: pytest.Pytester) -> None:
    """A trace from a file is a regression test: it fails while the bug is there, and passes without."""
    pytester.makepyfile(WORLD.replace("60", "300"))
    pytester.makeconftest(BROKEN)
    run_apart(pytester, "--receipts-seeds", "3..3", "--receipts-reports", "found").assert_outcomes(failed=1)
    pytester.makepyfile(
        test_again="""
        from pathlib import Path
        import pytest

        @pytest.mark.parametrize("receipts_seed", [0])
        def test_again(receipts_world):
            receipts_world.replay(Path("found/test_world-seed3.trace"))
            receipts_world.replay(Path("found/test_world-seed3.trace").read_text())
        """
    )
    broken = run_apart(pytester, "test_again.py")
    broken.assert_outcomes(failed=1)
    assert "test_again-0.trace" in broken.stdout.str()
    pytester.makeconftest("")
    run_apart(pytester, "test_again.py").assert_outcomes(passed=1)


def test_an_application_is_examined(pytester: pytest.Pytester) -> None:
    """An adapter for an application of one's own is held against the oracle, seed by seed."""
    pytester.makepyfile(
        """
        from receipts.simulation.application import Application

        class Counter(Application):
            def __init__(self):
                self.seqs = {}

            def send(self, user, device, conversation, asks):
                self.seqs[conversation] = self.seqs.get(conversation, 0) + 1
                return self.seqs[conversation]

            def read(self, user, device, conversation, through):
                pass

            def unread(self, user, device, conversation):
                return 0

        def test_counter(receipts_world):
            receipts_world.examine(Counter)
        """
    )
    result = run(pytester, "--receipts-seeds", "1..1")
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "I-14: the unread count for" in text
    assert "send(" in text
    assert "seed: 1 (pytest --receipts-seeds 1..1)" in text


def test_a_live_world_is_run(pytester: pytest.Pytester) -> None:
    """The real node and client over a transport, by the same seed."""
    pytester.makepyfile(
        """
        def test_live(receipts_world):
            outcome = receipts_world.live("memory://mine", deeds=30)
            assert outcome.seed == receipts_world.seed
        """
    )
    run(pytester, "--receipts-seeds", "1").assert_outcomes(passed=1)


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    """Who has the package installed and does not use the fixture pays for one small module."""
    code = (
        f"import sys, {PLUGIN}\n"
        "print(*sorted(name for name in sys.modules if name.startswith(('receipts', 'transports'))))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert found.stdout.split() == ["receipts", "receipts.simulation", PLUGIN]
