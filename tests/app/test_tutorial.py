"""The tutorial, typed in: every block of it is run, and what it promises has to come."""

from __future__ import annotations

import os
import queue
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.app.conftest import SECONDS_MAX, environment

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"


class Block(NamedTuple):
    """A fenced block: its language, what stands behind it, its lines."""

    language: str
    options: dict[str, str]
    lines: list[str]


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a document, in order."""
    for info, body in re.findall(r"^```(\S.*?)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        language, *options = info.split()
        yield Block(language, dict(option.split("=") for option in options), body.splitlines())


class Terminal:
    """A shell in which one thing is typed after the other, and lines are waited for."""

    def __init__(self, where: Path) -> None:
        self._where = where
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader: threading.Thread | None = None
        self.seen: list[str] = []

    def type(self, line: str) -> None:
        """A line of a block: a command, input for what runs, an interrupt, or what has to come back."""
        if line.startswith("$ "):
            self.finish()
            self._begin(line[2:])
            return
        process = self._process
        assert process is not None, line
        if line.startswith("> "):
            assert process.stdin is not None
            process.stdin.write(line[2:] + "\n")
            process.stdin.flush()
        elif line == "^C":
            os.killpg(process.pid, signal.SIGINT)
        else:
            self._expect(line)

    def _begin(self, command: str) -> None:
        python = shlex.quote(str(Path(sys.executable).parent))
        setting = f'PATH={python}:$PATH; receipts() {{ python -m receipts.app "$@"; }}; '
        self._process = process = subprocess.Popen(
            ["bash", "-c", setting + command],
            cwd=self._where,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            start_new_session=True,
        )
        self.seen = []
        self._lines = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(process, self._lines))
        self._reader.start()

    def _read(self, process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line.rstrip("\n"))
        lines.put(None)

    def _expect(self, line: str) -> None:
        pattern = re.compile(".*".join(map(re.escape, line.split("…"))))
        while True:
            found = self._lines.get(timeout=SECONDS_MAX)
            assert found is not None, f"{line!r} did not come, but {self.seen}: {self._complaints()}"
            self.seen.append(found)
            if pattern.fullmatch(found):
                return

    def _complaints(self) -> str:
        assert self._process is not None
        return self._process.communicate(timeout=SECONDS_MAX)[1]

    def finish(self) -> None:
        """Wait for what runs to end, and to have gone well."""
        process, self._process = self._process, None
        if process is None:
            return
        _, complaints = process.communicate(timeout=SECONDS_MAX)
        assert self._reader is not None
        self._reader.join()
        assert process.returncode == 0, complaints

    def kill(self) -> None:
        """End it, however."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            assert self._reader is not None
            self._reader.join()


@pytest.fixture
def terminals(place: Path) -> Iterator[Callable[[str], Terminal]]:
    """Terminals by name, in one directory."""
    found: dict[str, Terminal] = {}
    yield lambda name: found.setdefault(name, Terminal(place))
    for terminal in found.values():
        terminal.kill()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [bound.getsockname()[1] for bound in sockets]
    for bound in sockets:
        bound.close()
    return ports


def test_the_tutorial_works(place: Path, terminals: Callable[[str], Terminal]) -> None:
    """Typed in from top to bottom, on free ports, every block of the tutorial gives what it shows."""
    text = TUTORIAL.read_text(encoding="utf-8")
    for written, free in zip(("4000", "4001"), _free_ports(2), strict=True):
        text = text.replace(f"127.0.0.1:{written}", f"127.0.0.1:{free}")
    found = list(blocks(text))
    assert len([block for block in found if block.language == "console"]) > 10
    for block in found:
        if block.language == "python":
            (place / block.options["file"]).write_text("\n".join(block.lines) + "\n")
        elif block.language == "console":
            terminal = terminals(block.options.get("terminal", ""))
            for line in block.lines:
                terminal.type(line)
            if any(line.startswith("$ receipts token") for line in block.lines):
                terminal.finish()  # other terminals need the files
    for name in ("", "alice", "bob", "robot", "node"):
        terminals(name).finish()


def test_the_machine_is_short() -> None:
    """Embedding the machine takes at most fifteen lines."""
    machine = next(
        block for block in blocks(TUTORIAL.read_text(encoding="utf-8")) if block.language == "python"
    )
    assert machine.options == {"file": "machine.py"}
    assert len(machine.lines) <= 15
