"""One driver and one served node for the whole suite; who has no Node.js gets the suite skipped, CI does
not."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from receipts.app.npm import installed, missing_programs

from .driver import HERE, Driver
from .stage import Served, Stage

REQUIRED = "RECEIPTS_SDK_SUITE"
"""Set by CI to `required`: then what is missing is a failure."""


def missing(what: str) -> None:
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Of the tests, not of the node: that is a process of its own."""
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture(scope="session")
def packages() -> Path:
    """The vendor's SDK and what it is driven with, from the npm registry."""
    if absent := missing_programs():
        missing(" and ".join(absent))
    return installed(HERE)


@pytest.fixture(scope="session")
async def driver(packages: Path, anyio_backend: object) -> AsyncIterator[Driver]:
    """One for all tests."""
    async with Driver.running(packages) as driver:
        yield driver


@pytest.fixture
def place() -> Iterator[Path]:
    """A new directory whose name is short: the path of a Unix socket may not be long."""
    with tempfile.TemporaryDirectory(prefix="receipts-") as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """The node that tests share which do nothing to it."""
    with tempfile.TemporaryDirectory(prefix="receipts-") as directory:
        served = Served(Path(directory))
        try:
            served.start()
            yield served
        finally:
            served.close()


@pytest.fixture
async def stage(served: Served, driver: Driver) -> AsyncIterator[Stage]:
    """For one test; nothing that it did may have thrown inside the SDK."""
    driver.unhandled.clear()
    stage = Stage(served, driver)
    yield stage
    await stage.close()
    thrown = [error for error in driver.unhandled if error.get("stack")]
    assert not thrown, f"errors inside the SDK: {thrown}"
