"""Real processes for the tests of the command line: `receipts` as it is typed, nodes that serve."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from receipts.app.program import run

COMMAND = [sys.executable, "-m", "receipts.app"]
SECONDS_MAX = 60.0
"""For any one process to end: only a hang takes as long."""


def environment(**more: str) -> dict[str, str]:
    """Of a process that knows nothing of the one that tests, but which code to run."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RECEIPTS_")}
    return {**kept, "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **more}


def receipts(
    *arguments: object,
    stdin: str = "",
    seconds: float = SECONDS_MAX,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        env=environment(**(env or {})),
        check=False,
    )


def ok(*arguments: object, stdin: str = "", env: Mapping[str, str] | None = None) -> str:
    """Run a command that has to succeed; its output."""
    done = receipts(*arguments, stdin=stdin, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Serving:
    """A node in a process of its own."""

    def __init__(self, data: Path, *arguments: object, **env: str) -> None:
        self.data = data
        self.log = data.parent / f"{data.name}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", "--data", str(data), *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment(**env),
            )
        self.urls: dict[str, str] = {}
        """By scheme, and the metrics page under `http`."""

    def ready(self, count: int) -> Serving:
        """Wait for that many lines on stdout."""
        assert self.process.stdout is not None
        for _ in range(count):
            line = self.process.stdout.readline()
            assert line, f"the node ended with {self.process.wait()}: {self.log.read_text()}"
            _, url = line.split()
            self.urls[url.partition(":")[0]] = url
        return self

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS_MAX)

    def close(self) -> None:
        """Whatever is left of it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(SECONDS_MAX)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def place() -> Iterator[Path]:
    """A new directory whose name is short: the path of a Unix socket may not be long."""
    directory = Path(tempfile.mkdtemp(prefix="receipts-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def data(place: Path) -> Path:
    """Where a node is going to keep its data."""
    return place / "data"


@pytest.fixture
def start(data: Path) -> Iterator[Callable[..., Serving]]:
    """Starts nodes, by default on `data`, TCP and websocket at any port."""
    started: list[Serving] = []

    def start(*arguments: object, where: Path = data, lines: int = 2, **env: str) -> Serving:
        arguments = arguments or ("--tcp", "127.0.0.1:0", "--ws", "127.0.0.1:0")
        serving = Serving(where, *arguments, **env)
        started.append(serving)
        return serving.ready(lines)

    yield start
    for serving in started:
        serving.close()


class Here:
    """Runs commands in this process: as `receipts`, but a hundred times as fast."""

    def __init__(self, capsys: Any) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """The exit code, what was printed, and what was complained about."""
        self._capsys.readouterr()
        status = run([str(argument) for argument in arguments])
        out, err = self._capsys.readouterr()
        return status, out, err

    def complaint(self, *arguments: object, status: int = 1) -> str:
        """Of a command that has to fail: exactly one line."""
        got, _, err = self(*arguments)
        assert got == status, err
        assert err.startswith("receipts: ")
        assert err.count("\n") == 1, err
        return err.removeprefix("receipts: ").strip()


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    """The command line, in this process."""
    for name in [name for name in os.environ if name.startswith("RECEIPTS_") and name != "RECEIPTS_FROZEN"]:
        monkeypatch.delenv(name)
    return Here(capsys)
