"""docs/simulation.md, typed in: every block is run in an empty directory, and gives what it promises."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.test_tutorial import Terminal, blocks

DOCUMENT = Path(__file__).parents[2] / "docs" / "simulation.md"


@pytest.fixture
def place() -> Iterator[Path]:
    """A new directory."""
    directory = Path(tempfile.mkdtemp(prefix="receipts-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def terminal(place: Path) -> Iterator[Terminal]:
    """A shell in it."""
    shell = Terminal(place)
    yield shell
    shell.kill()


@pytest.mark.timeout(300)  # a dozen commands, each of which starts a process
def test_the_how_to_works(place: Path, terminal: Terminal) -> None:
    """From top to bottom, every file and every command of the how-to gives what it shows."""
    commands = 0
    for block in blocks(DOCUMENT.read_text(encoding="utf-8")):
        if block.language == "python":
            (place / block.options["file"]).write_text("\n".join(block.lines) + "\n")
        elif block.language == "console":
            for line in block.lines:
                terminal.type(line)
                commands += line.startswith("$ ")
            terminal.finish()
    assert commands >= 10
    assert (place / "again.html").read_text().startswith("<!doctype html>")
