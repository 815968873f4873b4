"""The pytest plugin: simulated worlds as a fixture, with fresh seeds in every run.

    def test_our_settings_hold(receipts_world):
        receipts_world.run(events=500)

A test that takes `receipts_world` runs once per seed. Seeds are new in every run and printed at its end;
`RECEIPTS_SEED=N` in the environment repeats them. How many, and how long each world lives, say the options
`--receipts-seeds`, `--receipts-events` and `--receipts-faults`, or for one test the marker

    @pytest.mark.receipts_simulation(seeds=20, events=2000, faults="cruel")

When something breaks, the test fails with the seed, what was found, the shortest trace that shows it and the
command that replays it, and a page to look at is written to the directory `--receipts-reports`.

pytest imports this module in every project that has the package installed; so whatever is heavy is imported
by the fixture, when it is used.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from receipts.simulation.application import Application
    from receipts.simulation.live import LiveOutcome
    from receipts.simulation.run import Outcome
    from receipts.simulation.trace import Trace
    from receipts.simulation.violation import Violation
    from transports.base import Link

__all__ = ["ReceiptsWorld"]

SEEDS = 3
EVENTS = 1000
FAULTS = ("none", "some", "many", "cruel")
SHRINK_SECONDS = 20.0
SEED_BITS = 32
MARKER = "receipts_simulation"
STEPS_SHOWN = 40

_BASE = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("receipts", "simulated worlds of message receipts")
    group.addoption(
        "--receipts-seeds",
        metavar="N|A..B",
        default=None,
        help=f"how many fresh seeds, or which ones, for each test that takes `receipts_world` [{SEEDS}]",
    )
    group.addoption(
        "--receipts-events", metavar="N", type=int, default=None, help=f"events in each world [{EVENTS}]"
    )
    group.addoption("--receipts-faults", choices=FAULTS, default=None, help="what goes wrong [some]")
    group.addoption(
        "--receipts-reports",
        metavar="DIR",
        default="receipts-reports",
        help="where to write pages and traces of failures [receipts-reports]",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}(seeds=N, events=N, faults='some'): how often and how long `receipts_world` is simulated",
    )
    given = getattr(config, "workerinput", {}).get("receipts_seed")  # by the process that started us
    config.stash[_BASE] = given if given is not None else _first_seed()


def _first_seed() -> int:
    text = os.environ.get("RECEIPTS_SEED", "")
    if not text:
        return secrets.randbits(SEED_BITS)
    if not text.isdecimal():
        raise pytest.UsageError(f"RECEIPTS_SEED={text!r} is not a whole number")
    return int(text)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """With pytest-xdist: all workers have to collect the same tests, so they take our seed."""
    node.workerinput["receipts_seed"] = node.config.stash[_BASE]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the seeds, in runs that had any; they come with the reports, from whichever process."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    seeds = {
        content
        for report in reports
        for name, content in getattr(report, "user_properties", ())
        if name == "receipts_seed"
    }
    if seeds:
        count = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
        base = config.stash[_BASE]
        again = (
            f"RECEIPTS_SEED={base}" if min(seeds) == base else f"--receipts-seeds {min(seeds)}..{max(seeds)}"
        )
        terminalreporter.write_line(f"receipts: {count} from {min(seeds)} ({again} repeats them)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "receipts_seed" not in metafunc.fixturenames or _has_seeds(metafunc):
        return
    wanted = metafunc.config.getoption("--receipts-seeds") or _marked(metafunc.definition, "seeds") or SEEDS
    base = metafunc.config.stash[_BASE]
    found = re.fullmatch(r"(\d+)(\.\.(\d+))?", str(wanted))
    if found is None or (found[3] is not None and int(found[1]) > int(found[3])):
        raise pytest.UsageError(f"receipts: seeds={wanted!r} is neither a number nor of the form A..B")
    if found[3] is not None:
        seeds = range(int(found[1]), int(found[3]) + 1)
        metafunc.parametrize("receipts_seed", seeds, ids=[f"seed{seed}" for seed in seeds])
    else:
        # Named by place, not by seed: `--lf` and xdist go by names, and the seeds are others every time.
        places = range(int(found[1]))
        metafunc.parametrize(
            "receipts_seed", [base + at for at in places], ids=[f"seed+{at}" for at in places]
        )


def _has_seeds(metafunc: pytest.Metafunc) -> bool:
    """Whether the test says itself which seeds it takes."""
    marks = metafunc.definition.iter_markers("parametrize")
    return any("receipts_seed" in str(mark.args[:1]) for mark in marks)


def _marked(item: pytest.Item | Any, name: str) -> Any:
    """What the nearest marker says; None for nothing."""
    return next((mark.kwargs[name] for mark in item.iter_markers(MARKER) if name in mark.kwargs), None)


@pytest.fixture
def receipts_seed() -> int:
    """The seed of this run of the test; see `pytest_generate_tests`."""
    raise RuntimeError("receipts_seed is given by parametrization")  # pragma: no cover


class ReceiptsWorld:
    """What the fixture `receipts_world` gives.

    Args:
        seed: Of everything in this run of the test.
        events: In `run`, unless it says otherwise.
        faults: Likewise: `none`, `some`, `many` or `cruel`.
        reports: Directory for pages and traces.
        name: Of the test.
    """

    def __init__(self, seed: int, events: int, faults: str, reports: Path, name: str) -> None:
        self.seed = seed
        self._events = events
        self._faults = faults
        self._reports = reports
        self._name = name

    def run(self, events: int | None = None, faults: str | None = None) -> Outcome:
        """Let a world live: everything that can go wrong, then healing; the test fails if anything breaks.

        Args:
            events: How many commands, frames, crashes and faults.
            faults: `none`, `some`, `many` or `cruel`.
        """
        from receipts.simulation.generator import PROFILES
        from receipts.simulation.run import simulate

        outcome = simulate(self.seed, events or self._events, PROFILES[faults or self._faults])
        if outcome.violation is not None:
            self._explain(outcome, outcome.violation)
        return outcome

    def replay(self, trace: Trace | Path | str) -> Outcome:
        """Replay what happened once, such as a failure that was mended; the test fails if it breaks.

        Args:
            trace: A trace, the file it is in, or its text.
        """
        from receipts.simulation import replay
        from receipts.simulation.trace import read_trace

        if isinstance(trace, Path):
            trace = trace.read_text(encoding="utf-8")
        if isinstance(trace, str):
            trace = read_trace(trace)
        outcome = replay(trace.cast, trace.steps)
        if outcome.violation is not None:
            self._fail(trace, outcome.violation, [])
        return outcome

    def live(
        self,
        url: str = "memory://simulated",
        *,
        wrap: Callable[[Link], Link] = lambda link: link,
        deeds: int = 200,
        idle_seconds: float = 0.0,
        web: bool = False,
    ) -> LiveOutcome:
        """Let a live world live, over a transport of yours: see `receipts.simulation.live`.

        Args:
            url: Any scheme that is registered with `transports`.
            wrap: Put around the device's end of every link.
            deeds: How many things are done.
            idle_seconds: 0 for a transport without sockets, 0.01 or more for one with.
            web: Whether users have devices with the vendor's SDK, too.
        """
        from receipts.simulation.live import simulate_live
        from receipts.simulation.violation import Violation

        try:
            return simulate_live(
                self.seed, deeds=deeds, url=url, wrap=wrap, idle_seconds=idle_seconds, web=web
            )
        except Violation as found:
            pytest.fail(f"{found}\n{found.details}\n\n{self._seed_line}", pytrace=False)

    def examine(self, make: Callable[[], Application], *, steps: int = 300) -> None:
        """Put an application of yours to the test: see `receipts.simulation.application`.

        Args:
            make: Gives a fresh adapter.
            steps: How many deeds are drawn.
        """
        from receipts.simulation.application import examine
        from receipts.simulation.violation import Violation

        try:
            examine(make, self.seed, steps=steps)
        except Violation as found:
            pytest.fail(f"{found}\n{found.details}\n\n{self._seed_line}", pytrace=False)

    @property
    def _seed_line(self) -> str:
        return f"seed: {self.seed} (pytest --receipts-seeds {self.seed}..{self.seed})"

    def _explain(self, outcome: Outcome, found: Violation) -> NoReturn:
        """Make it as small as time allows, then fail."""
        from receipts.simulation.run import replay
        from receipts.simulation.shrinking import shrink
        from receipts.simulation.trace import Trace

        until = time.monotonic() + SHRINK_SECONDS
        shrunk = shrink(outcome.cast, outcome.steps, found.invariant, go_on=lambda: time.monotonic() < until)
        # What a run judges now and then, a replay judges after every step.
        found = replay(shrunk.cast, shrunk.steps).violation or found
        trace = Trace(cast=shrunk.cast, steps=shrunk.steps, seed=self.seed, invariant=found.invariant)
        notes = [
            f"Found by seed {self.seed} in {self._name}, after {outcome.events:,} events.",
            f"Shrunk from {len(outcome.steps):,} steps to {len(shrunk.steps):,}.",
        ]
        self._fail(trace, found, notes)

    def _fail(self, trace: Trace, found: Violation, notes: list[str]) -> NoReturn:
        from receipts.simulation.report import explain
        from receipts.simulation.steps import text_of

        self._reports.mkdir(parents=True, exist_ok=True)
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", self._name).strip("-")
        kept, page = self._reports / f"{stem}.trace", self._reports / f"{stem}.html"
        command = f"receipts simulate --replay {kept}"
        kept.write_text(trace.text(f"{found.invariant}: {found.what}", *notes), encoding="utf-8")
        page.write_text(explain(trace, command=command, notes=notes), encoding="utf-8")
        lines = [f"{found.invariant}: {found.what}", *found.details.splitlines(), "", *notes, "The trace:"]
        lines += [f"  {text_of(step)}" for step in trace.steps[:STEPS_SHOWN]]
        lines += ["  …"] * (len(trace.steps) > STEPS_SHOWN)
        lines += ["", f"replay: {command}", f"look at it: {page}"]
        lines += [self._seed_line]
        pytest.fail("\n".join(lines), pytrace=False)


@pytest.fixture
def receipts_world(request: pytest.FixtureRequest, receipts_seed: int) -> ReceiptsWorld:
    """A simulated world per seed: see `ReceiptsWorld`."""
    option = request.config.getoption
    request.node.user_properties.append(("receipts_seed", receipts_seed))
    return ReceiptsWorld(
        seed=receipts_seed,
        events=option("--receipts-events") or _marked(request.node, "events") or EVENTS,
        faults=option("--receipts-faults") or _marked(request.node, "faults") or "some",
        reports=Path(request.config.rootpath, option("--receipts-reports")),
        name=request.node.name,
    )
