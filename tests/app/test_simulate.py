"""`receipts simulate`: what it prints, what it writes, how it ends."""

from __future__ import annotations

import gc
import json
import os
import pty
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import receipts
import transports
from receipts.app.simulate import results, seeds_of
from receipts.core.conversation import Conversation
from receipts.simulation.trace import read_trace
from tests.app.conftest import COMMAND, SECONDS_MAX, Here, environment, ok

SMALL = ("--events", "120", "--faults", "none")


def fields(out: str) -> dict[str, str]:
    """Lines of a pipe, by their first word; of several the last one stands."""
    return {line.partition("\t")[0]: line.partition("\t")[2] for line in out.splitlines()}


@pytest.fixture
def break_it(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Breaks the machine of this process: whatever is visible is unread."""

    def wrong(chat: Conversation, user: str) -> int:
        start, stop = chat.visible(user)
        return stop - start

    return lambda: monkeypatch.setattr(Conversation, "unread", wrong)


@pytest.fixture
def here_in(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    """The command line, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return here


def test_a_run_is_lines_in_a_pipe(tmp_path: Path) -> None:
    """Counts by kind, seeds, events, a digest that is the same every time; nothing on stderr, no file."""
    command = [*COMMAND, "simulate", "--seed", "7", *SMALL]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment(), check=True)
        for _ in range(2)
    )
    found, again = fields(first.stdout), fields(second.stdout)
    assert first.stderr == ""
    assert found["seeds"] == "7"
    assert found["done"] == "1"
    assert int(found["events"]) >= 120
    assert "count" in found
    del found["events_per_second"], again["events_per_second"]
    assert found == again
    assert list(tmp_path.iterdir()) == []


def test_jobs_change_nothing_but_the_time() -> None:
    """Two processes come to the digest that one comes to."""
    alone = ok("simulate", "--seeds", "1..3", *SMALL)
    together = ok("simulate", "--seeds", "1..3", *SMALL, "--jobs", "2")
    assert fields(alone)["digest"] == fields(together)["digest"]
    assert fields(together)["done"] == "3"
    assert sorted(line for line in alone.splitlines() if line.startswith("count")) == sorted(
        line for line in together.splitlines() if line.startswith("count")
    )


def test_without_a_seed_one_is_drawn_and_named(here_in: Here) -> None:
    """Each run draws another seed and says which, so that it can be had again."""
    status, out, _ = here_in("simulate", *SMALL)
    assert status == 0
    seed = fields(out)["seeds"]
    assert int(seed) >= 0
    _, again, _ = here_in("simulate", *SMALL, "--seed", seed)
    assert fields(again)["digest"] == fields(out)["digest"]
    assert fields(here_in("simulate", *SMALL)[1])["seeds"] != seed


def test_json_is_one_object(here_in: Here) -> None:
    """For programs: all of it as one JSON object."""
    status, out, _ = here_in("simulate", "--seeds", "3..4", *SMALL, "--json")
    found = json.loads(out)
    assert status == 0
    assert found["seeds"] == "3..4"
    assert found["done"] == 2
    assert found["failure"] is None
    assert found["failed_seeds"] == []
    assert found["counts"]["send"] > 0


def test_a_failure_is_shown_and_replayed(
    here_in: Here, tmp_path: Path, break_it: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1; seed, invariant, a short trace, a page; the command that it names shows it again, and
    once the bug is mended says that nothing is wrong."""
    break_it()
    status, out, _ = here_in("simulate", "--seed", "3", "--events", "500")
    assert status == 1
    found = fields(out)
    assert found["failed"] == "3"
    assert found["invariant"].startswith("I-")
    page, trace = tmp_path / "receipts-seed-3.html", tmp_path / "receipts-seed-3.trace"
    assert found["report"] == page.name
    assert found["replay"] == f"receipts simulate --replay {trace.name}"
    kept = read_trace(trace.read_text())
    assert kept.invariant == found["invariant"]
    assert kept.seed == 3
    assert len(kept.steps) < 60
    assert found["invariant"] in page.read_text()
    status, again, _ = here_in(*found["replay"].split()[1:], "--report", "again.html")
    assert status == 1
    assert fields(again)["what"] == found["what"]
    assert (tmp_path / "again.html").read_text().startswith("<!doctype html>")
    status, again, _ = here_in("simulate", "--replay", trace.name, "--json")
    assert json.loads(again)["failure"]["invariant"] == found["invariant"]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert here_in("simulate", "--replay", trace.name) == (0, "nothing is wrong\n", "")
    assert json.loads(here_in("simulate", "--replay", trace.name, "--json")[1])["failure"] is None


def test_the_first_failure_ends_it_unless_told_otherwise(here_in: Here, break_it: Callable[[], None]) -> None:
    """A run stops at the first seed that fails; with --keep-going it names them all, and shows the lowest."""
    break_it()
    quick = ("--events", "400", "--shrink-seconds", "0")
    _, out, _ = here_in("simulate", "--seeds", "1..6", *quick)
    assert fields(out)["failed"] == fields(out)["seed"]
    _, out, _ = here_in("simulate", "--seeds", "1..6", *quick, "--keep-going", "--report", "some.html")
    found = fields(out)
    assert found["done"] == "6"
    assert len(found["failed"].split("\t")) > 1
    assert found["seed"] == found["failed"].split("\t")[0]
    assert Path("some.trace").exists()


def test_a_failure_comes_out_of_a_worker_process(place: Path) -> None:
    """With --jobs the failing world is another process's; what is shown of it is the same."""
    for package in (receipts, transports):
        root = Path(package.__file__ or "").parent
        shutil.copytree(root, place / root.name, ignore=shutil.ignore_patterns("__pycache__"))
    file = place / "receipts" / "core" / "conversation.py"
    text = file.read_text()
    broken = text.replace("    def unread(self, user: UserId) -> int:\n", BROKEN, 1)
    assert broken != text
    file.write_text(broken)
    done = subprocess.run(
        [*COMMAND, "simulate", "--seeds", "1..20", "--events", "500", "--jobs", "2", "--shrink-seconds", "1"],
        capture_output=True,
        text=True,
        cwd=place,
        env=environment(PYTHONPATH=str(place)),
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    found = fields(done.stdout)
    assert found["invariant"].startswith("I-")
    assert (place / found["report"]).exists()


BROKEN = """    def unread(self, user: UserId) -> int:
        start, stop = self.visible(user)
        return stop - start

    def unread_as_it_was(self, user: UserId) -> int:
"""


def test_a_terminal_gets_a_table(tmp_path: Path) -> None:
    """On a terminal a person sees a progress bar, a table and a sentence."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "simulate", "--seeds", "1..2", *SMALL],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=tmp_path,
        env=environment(TERM="xterm", COLUMNS="120", LINES="60"),
    )
    os.close(theirs)
    seen = b""
    try:
        while more := os.read(ours, 4096):
            seen += more
    except OSError:
        pass  # how Linux says that nobody writes any more
    os.close(ours)
    assert process.wait(SECONDS_MAX) == 0
    text = seen.decode()
    assert "simulating" in text
    assert "frame down" in text
    assert "seeds 1..2: " in text
    assert "Every invariant held." in text


def test_an_interrupt_ends_all_processes(tmp_path: Path) -> None:
    """Ctrl-C: exit code 130, one line, and no process stays behind."""
    process = subprocess.Popen(
        [
            *COMMAND,
            "simulate",
            "--seeds",
            "1..100000",
            "--events",
            "100000",
            "--jobs",
            "2",
            "--faults",
            "none",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(),
        start_new_session=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(children.read_text().split()) < 3:  # two workers and what looks after what they share
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 130
    assert err == "receipts: interrupted\n"
    left = [one for one in psutil.process_iter(["status"]) if one.info["status"] != psutil.STATUS_ZOMBIE]
    ours = [one for one in left if _group_of(one.pid) == process.pid]
    _, alive = psutil.wait_procs(ours, timeout=SECONDS_MAX)  # they may be on their way out
    assert not alive


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


@pytest.mark.parametrize(
    ("arguments", "complaint", "status"),
    [
        (["--seeds", "5"], None, 0),
        (["--seeds", "9..8"], "--seeds 9..8 holds no seeds", 2),
        (["--seeds", "one"], "--seeds 'one' is not of the form A..B, such as 1..200", 2),
        (["--seed", "1", "--seeds", "1..2"], "--seed and --seeds exclude each other", 2),
        (["--faults", "evil"], "--faults 'evil' is none of none, some, many, cruel", 2),
        (["--replay", "nowhere"], "cannot read nowhere: No such file or directory", 1),
        (["--replay", "x", "--seed", "1"], "a trace has no seed", 2),
        (["--events", "0"], "Invalid value for '--events'", 2),
    ],
)
def test_what_makes_no_sense_is_one_line(
    here_in: Here, arguments: list[str], complaint: str | None, status: int
) -> None:
    """A mistake on the command line is answered with one line that says what to do."""
    if complaint is None:
        assert here_in("simulate", *SMALL, *arguments)[0] == status
    else:
        assert here_in.complaint("simulate", *arguments, status=status).startswith(complaint)


def test_a_file_that_is_no_trace_is_named_with_its_line(here_in: Here) -> None:
    """A trace is edited by hand: the line of a mistake is named."""
    Path("some.trace").write_text("# mine\nturn\n")
    line = here_in.complaint("simulate", "--replay", "some.trace")
    assert line.startswith("some.trace: line 2: the cast is missing")
    Path("some.trace").write_bytes(b"\xff\xfe")
    assert here_in.complaint("simulate", "--replay", "some.trace").startswith("some.trace: 'utf-8'")


def test_a_report_that_cannot_be_written_is_a_line(here_in: Here, break_it: Callable[[], None]) -> None:
    """No traceback for a directory that is not there."""
    break_it()
    line = here_in.complaint(
        "simulate", "--seed", "3", "--events", "500", "--shrink-seconds", "0", "--report", "no/where.html"
    )
    assert line == "cannot write no/where.trace: No such file or directory"


def test_seeds_are_ranges_with_both_ends() -> None:
    """A..B holds A and B."""
    assert list(seeds_of("3..5")) == [3, 4, 5]
    assert list(seeds_of("3")) == [3]


def test_the_command_says_what_it_does() -> None:
    """`--help` has the options, and examples that can be copied."""
    text = ok("simulate", "--help")
    for option in ("--seed", "--seeds", "--events", "--faults", "--jobs", "--report", "--replay", "--json"):
        assert option in text
    assert "receipts simulate --seeds 1..200" in " ".join(text.split())


def test_the_garbage_collector_is_left_as_it_was() -> None:
    """While worlds run in this process it looks rarely; after the last one, or when the caller has enough, it
    looks as often as before, and at everything."""
    before = gc.get_threshold(), gc.get_freeze_count()
    for enough in (1, 2):
        some = results(range(2), 50, "some", 1, lambda _: None)
        for _ in range(enough):
            next(some)
            assert gc.get_threshold() != before[0]
            assert gc.get_freeze_count() > before[1]
        some.close()  # type: ignore[attr-defined]
        assert (gc.get_threshold(), gc.get_freeze_count()) == before
