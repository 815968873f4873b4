"""`receipts simulate`: worlds by the seed, in one process or in several, and what to show of a failure.

The simulation itself is `receipts.simulation`, which knows no clock, no process and no file; they are here.
Results go to stdout: a table on a terminal, lines with tabs in a pipe, JSON on request. The progress bar goes
to stderr, and only to a terminal.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import re
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import attrs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from receipts.simulation.cast import Cast
from receipts.simulation.generator import PROFILES
from receipts.simulation.report import explain
from receipts.simulation.run import Outcome, replay
from receipts.simulation.run import simulate as simulate_one
from receipts.simulation.shrinking import shrink
from receipts.simulation.steps import parse, text_of
from receipts.simulation.trace import Trace, read_trace
from receipts.simulation.violation import Violation

from .complaints import Complaint

__all__ = ["Failure", "Result", "Simulating", "fresh_seed", "play_again", "results", "seeds_of", "simulate"]

SEEDS_MAX = 10_000_000
SEED_BITS = 32
COLLECTOR_THRESHOLDS = (50_000, 20, 100)
"""Objects of worlds die by their reference counts, apart from whole worlds, nodes and devices: looking for
cycles as often as the interpreter would takes a twentieth of the time and finds little."""
POLL_SECONDS = 0.2
"""Between two looks at how far the processes are."""


@attrs.frozen(kw_only=True)
class Simulating:
    """All that a run of the command is told."""

    seeds: range
    events: int
    """For each seed."""
    faults: str = "some"
    jobs: int = 1
    keep_going: bool = False
    """Whether to go through all seeds after a failure."""
    report: Path | None = None
    """Where to write the page of a failure; beside it goes the trace."""
    shrink_seconds: float = 60.0
    as_json: bool = False


@attrs.frozen(kw_only=True)
class Failure:
    """What was found with a seed, as text: it comes from another process."""

    invariant: str
    what: str
    details: str
    step: int
    cast: str
    """JSON."""
    steps: list[str]

    @property
    def violation(self) -> Violation:
        """As it was raised."""
        found = Violation(self.invariant, self.what, self.details)
        found.step = self.step
        return found


@attrs.frozen(kw_only=True)
class Result:
    """What became of one seed."""

    seed: int
    events: int
    counts: dict[str, int]
    digest: str
    failure: Failure | None


def seeds_of(text: str) -> range:
    """The seeds of `A..B`, both inclusive, or the one seed of `A`.

    Raises:
        Complaint: This is neither.
    """
    found = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", text.strip())
    if found is None:
        raise Complaint(f"--seeds {text!r} is not of the form A..B, such as 1..200", status=2)
    first = int(found[1])
    last = int(found[2] or found[1])
    if not first <= last < first + SEEDS_MAX:
        raise Complaint(f"--seeds {text} holds no seeds, or more than {SEEDS_MAX:,}", status=2)
    return range(first, last + 1)


def fresh_seed() -> int:
    """One that was most likely never tried."""
    return secrets.randbits(SEED_BITS)


# -- running


class Meter(Protocol):
    """Counts events while they happen; from any number of processes."""

    def add(self, events: int) -> None:
        """So many more."""

    @property
    def stopped(self) -> bool:
        """Whether there is no more need for the rest."""


class _Stopped(Exception):
    """Another seed has failed."""


class _Local:
    """A meter for one process, which shows what it counts."""

    stopped = False

    def __init__(self, show: Callable[[int], None]) -> None:
        self._show = show

    def add(self, events: int) -> None:
        self._show(events)


class _Shared:
    """A meter for many processes. It is a plain class of two shared values, so it survives the way there."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._events = context.Value("Q", 0)
        self._stop = context.Value("b", 0, lock=False)

    def add(self, events: int) -> None:
        with self._events.get_lock():
            self._events.value += events

    @property
    def events(self) -> int:
        return int(self._events.value)

    @property
    def stopped(self) -> bool:
        return bool(self._stop.value)

    def stop(self) -> None:
        self._stop.value = 1


def _run(seed: int, events: int, faults: str, meter: Meter) -> Result:
    """Simulate one seed, telling the meter how it goes."""
    counted = 0

    def progress(now: int) -> None:
        nonlocal counted
        meter.add(now - counted)
        counted = now
        if meter.stopped:
            raise _Stopped

    outcome = simulate_one(seed, events, PROFILES[faults], progress=progress)
    meter.add(outcome.events - counted)
    gc.collect()  # the world is a net of references to itself
    return _result(outcome, seed)


def _calm_collector() -> None:
    """Let the garbage collector look rarely, and not at what is there by now."""
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


@contextmanager
def _calmed() -> Iterator[None]:
    """So for as long as worlds run here."""
    before = gc.get_threshold()
    _calm_collector()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _result(outcome: Outcome, seed: int) -> Result:
    found = outcome.violation
    failure = None
    if found is not None:
        failure = Failure(
            invariant=found.invariant,
            what=found.what,
            details=found.details,
            step=found.step,
            cast=outcome.cast.to_json(),
            steps=[text_of(step) for step in outcome.steps],
        )
    return Result(
        seed=seed, events=outcome.events, counts=outcome.counts, digest=outcome.digest, failure=failure
    )


_meter: Meter | None = None
"""Of a worker process: what it was started with."""


def _begin_worker(meter: Meter) -> None:
    global _meter
    _meter = meter
    _calm_collector()


def _run_there(seed: int, events: int, faults: str) -> Result | None:
    assert _meter is not None
    try:
        return _run(seed, events, faults, _meter)
    except _Stopped:
        return None


def results(
    seeds: Iterable[int], events: int, faults: str, jobs: int, show: Callable[[int], None]
) -> Iterator[Result]:
    """Simulate seeds, in `jobs` processes; results come as they are there.

    Args:
        seeds: Which.
        events: Of each.
        faults: A key of `PROFILES`.
        jobs: 1 runs them in this process.
        show: Is told how many events there were since the last time.

    Raises:
        Complaint: A process was killed from outside.
    """
    if jobs == 1:
        meter = _Local(show)
        with _calmed():
            for seed in seeds:
                yield _run(seed, events, faults, meter)
        return
    yield from _results_of_many(seeds, events, faults, jobs, show)


def _results_of_many(
    seeds: Iterable[int], events: int, faults: str, jobs: int, show: Callable[[int], None]
) -> Iterator[Result]:
    shared, shown, left = _Shared(), 0, iter(seeds)
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    waiting: set[Future[Result | None]] = set()
    pool = ProcessPoolExecutor(jobs, context, _begin_worker, (shared,))
    with ExitStack() as stack:
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        stack.callback(shared.stop)  # first: the workers look at it, so that they end soon
        while True:
            # A window, not all at once: ten million seeds need no ten million futures.
            while len(waiting) < 2 * jobs and (seed := next(left, None)) is not None:
                with _uninterrupted():
                    waiting.add(pool.submit(_run_there, seed, events, faults))
            if not waiting:
                return
            done, waiting = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
            show(shared.events - shown)
            shown = shared.events
            for future in done:
                yield _taken(future)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Interrupts wait. What is started meanwhile never gets any: they are for us, who tell the others."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _taken(future: Future[Result | None]) -> Result:
    try:
        found = future.result()
    except BrokenProcessPool:
        raise Complaint("a worker process was killed; is there enough memory for --jobs?") from None
    assert found is not None  # they stop only once nobody takes their results
    return found


# -- the command


class _Bar:
    """The progress bar, on a terminal; silent elsewhere."""

    def __init__(self, total: int, seeds: int) -> None:
        self._began = time.monotonic()
        self._seen = 0
        self._seeds = seeds
        self._done = 0
        self._bar = Progress(
            TextColumn("[bold]simulating"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("events · {task.fields[rate]} · {task.fields[seeds]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("", total=total, rate="", seeds="")

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def add(self, events: int) -> None:
        self._seen += events
        rate = f"{self._seen / max(self.seconds, 1e-9):,.0f}/s"
        self._bar.update(
            self._task, advance=events, rate=rate, seeds=f"seed {self._done + 1:,} of {self._seeds:,}"
        )

    def next_seed(self) -> None:
        self._done += 1


@attrs.define
class _Sum:
    """Of all seeds."""

    seeds: int = 0
    events: int = 0
    seconds: float = 0.0
    counts: Counter[str] = attrs.field(factory=Counter)
    digests: dict[int, str] = attrs.field(factory=dict)
    failures: list[Result] = attrs.field(factory=list)

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.events += result.events
        self.counts.update(result.counts)
        self.digests[result.seed] = result.digest
        if result.failure is not None:
            self.failures.append(result)

    @property
    def digest(self) -> str:
        """Of one seed its own; of several, one made of theirs, which order cannot change."""
        if len(self.digests) == 1:
            return next(iter(self.digests.values()))
        lines = "".join(f"{seed} {self.digests[seed]}\n" for seed in sorted(self.digests))
        return sha256(lines.encode()).hexdigest()

    @property
    def rate(self) -> float:
        return self.events / max(self.seconds, 1e-9)


def simulate(asked: Simulating) -> bool:
    """Run the command.

    Returns:
        Whether everything held.
    """
    total = _Sum()
    with _Bar(asked.events * len(asked.seeds), len(asked.seeds)) as bar:
        for result in results(asked.seeds, asked.events, asked.faults, asked.jobs, bar.add):
            bar.next_seed()
            total.add(result)
            if result.failure is not None and not asked.keep_going:
                break
        total.seconds = bar.seconds
    total.failures.sort(key=lambda result: result.seed)
    shown = _show_failure(total.failures[0], asked) if total.failures else None
    if asked.as_json:
        print(json.dumps(_as_json(total, asked.seeds, shown)))
    elif sys.stdout.isatty():
        _show_table(total, asked.seeds, shown)
    else:
        _show_lines(total, asked.seeds, shown)
    return not total.failures


@attrs.frozen(kw_only=True)
class _Shown:
    """A failure, made as small as time allowed, and where it was written to."""

    seed: int | None
    violation: Violation
    steps: list[str]
    before: int
    """Steps before it was shrunk."""
    page: Path | None
    trace: Path | None

    @property
    def command(self) -> str:
        return _command(self.trace)


def _command(trace: Path | None) -> str:
    return f"receipts simulate --replay {trace}" if trace is not None else ""


def _show_failure(result: Result, asked: Simulating) -> _Shown:
    """Shrink it, write the trace and the page."""
    assert result.failure is not None
    failure = result.failure
    began = time.monotonic()
    if sys.stderr.isatty():
        print(f"seed {result.seed} breaks {failure.invariant}; looking for a shorter trace", file=sys.stderr)

    def in_time() -> bool:
        return time.monotonic() - began < asked.shrink_seconds

    steps = [parse(line) for line in failure.steps]
    shrunk = shrink(Cast.from_json(failure.cast), steps, failure.invariant, go_on=in_time)
    # What a run judges now and then, a replay judges after every step: it may be seen sooner.
    found = replay(shrunk.cast, shrunk.steps).violation or shrunk.violation
    assert found is not None
    page = asked.report or Path(f"receipts-seed-{result.seed}.html")
    trace = page.with_suffix(".trace")
    kept = Trace(cast=shrunk.cast, steps=shrunk.steps, seed=result.seed, invariant=found.invariant)
    notes = [
        f"Found by seed {result.seed} with {asked.faults} faults, after {result.events:,} events.",
        f"Shrunk from {len(steps):,} steps to {len(shrunk.steps):,}.",
    ]
    _write(trace, kept.text(f"{found.invariant}: {found.what}", *notes))
    _write(page, explain(kept, command=_command(trace), notes=notes))
    return _Shown(
        seed=result.seed,
        violation=found,
        steps=[text_of(step) for step in shrunk.steps],
        before=len(steps),
        page=page,
        trace=trace,
    )


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Complaint(f"cannot write {path}: {error.strerror}") from None


def play_again(path: Path, *, report: Path | None, as_json: bool = False) -> bool:
    """Replay a trace from a file, and say what came of it.

    Returns:
        Whether everything held.

    Raises:
        Complaint: The file cannot be read, or is no trace.
    """
    try:
        trace = read_trace(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Complaint(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise Complaint(f"{path}: {error}") from None
    outcome = replay(trace.cast, trace.steps)
    found = outcome.violation
    if report is not None:
        _write(report, explain(trace, command=_command(path)))
    if found is None:
        print(json.dumps({"failure": None, "digest": outcome.digest}) if as_json else "nothing is wrong")
        return True
    shown = _Shown(
        seed=trace.seed,
        violation=found,
        steps=[text_of(step) for step in trace.steps],
        before=len(trace.steps),
        page=report,
        trace=path,
    )
    if as_json:
        print(json.dumps({"failure": _failure_json(shown), "digest": outcome.digest}))
    elif sys.stdout.isatty():
        _print_failure(Console(highlight=False), shown)
    else:
        print("\n".join(_failure_lines(shown)))
    return False


# -- what is printed


def _seeds_text(seeds: range) -> str:
    """As `--seeds` takes them."""
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}..{seeds[-1]}"


def _as_json(total: _Sum, seeds: range, shown: _Shown | None) -> dict[str, Any]:
    return {
        "seeds": _seeds_text(seeds),
        "done": total.seeds,
        "events": total.events,
        "seconds": round(total.seconds, 3),
        "events_per_second": round(total.rate),
        "counts": dict(sorted(total.counts.items())),
        "digest": total.digest,
        "failed_seeds": [result.seed for result in total.failures],
        "failure": None if shown is None else _failure_json(shown),
    }


def _failure_json(shown: _Shown) -> dict[str, Any]:
    return {
        "seed": shown.seed,
        "invariant": shown.violation.invariant,
        "what": shown.violation.what,
        "details": shown.violation.details,
        "steps": shown.steps,
        "replay": shown.command,
        "report": str(shown.page) if shown.page is not None else None,
    }


def _show_lines(total: _Sum, seeds: range, shown: _Shown | None) -> None:
    for name, count in sorted(total.counts.items()):
        print("count", name, count, sep="\t")
    print("seeds", _seeds_text(seeds), sep="\t")
    print("done", total.seeds, sep="\t")
    print("events", total.events, sep="\t")
    print("events_per_second", round(total.rate), sep="\t")
    print("digest", total.digest, sep="\t")
    if shown is not None:
        print("failed", *(result.seed for result in total.failures), sep="\t")
        print("\n".join(_failure_lines(shown)))


def _failure_lines(shown: _Shown) -> list[str]:
    found = shown.violation
    lines = [f"seed\t{shown.seed}"] if shown.seed is not None else []
    lines += [f"invariant\t{found.invariant}", f"what\t{' '.join(found.what.split())}"]
    lines += [f"detail\t{line}" for line in found.details.splitlines() if line.strip()]
    lines += [f"step\t{line}" for line in shown.steps]
    if shown.page is not None:
        lines.append(f"report\t{shown.page}")
    if shown.command:
        lines.append(f"replay\t{shown.command}")
    return lines


def _show_table(total: _Sum, seeds: range, shown: _Shown | None) -> None:
    console = Console(highlight=False)
    table = Table("what", "times", title="what happened", title_justify="left")
    table.columns[1].justify = "right"
    for name, count in sorted(total.counts.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(name, f"{count:,}")
    console.print(table)
    which = f"seed{'s' * (len(seeds) != 1)} {_seeds_text(seeds)}"
    done = "" if total.seeds == len(seeds) else f" ({total.seeds:,} of {len(seeds):,} done)"
    console.print(
        f"{which}{done}: {total.events:,} events in {total.seconds:.1f} s ({total.rate:,.0f}/s), "
        f"digest {total.digest[:16]}"
    )
    if shown is None:
        console.print(Text("Every invariant held.", "green"))
        return
    if len(total.failures) > 1:
        failed = ", ".join(str(result.seed) for result in total.failures[:20])
        console.print(Text(f"{len(total.failures):,} seeds failed: {failed}", "red"))
    _print_failure(console, shown)


def _print_failure(console: Console, shown: _Shown) -> None:
    """For a person."""
    found = shown.violation
    seed = f"seed {shown.seed} breaks " if shown.seed is not None else "broken: "
    console.print(Text(f"{seed}{found.invariant}: {found.what}", "bold red"))
    if found.details.strip():
        console.print(Text(found.details.rstrip(), "red"))
    if shown.before != len(shown.steps):
        console.print(f"{len(shown.steps):,} steps of {shown.before:,} are enough:")
    for index, line in enumerate(shown.steps[:STEPS_SHOWN]):
        console.print(Text.assemble((f"{index:4} ", "dim"), line))
    if len(shown.steps) > STEPS_SHOWN:
        console.print(f"     … and {len(shown.steps) - STEPS_SHOWN:,} more")
    if shown.page is not None:
        console.print(f"look at it: {shown.page}", soft_wrap=True)
    if shown.command:
        console.print(f"replay it:  {shown.command}", soft_wrap=True)


STEPS_SHOWN = 60
"""On a terminal; the trace has them all."""
