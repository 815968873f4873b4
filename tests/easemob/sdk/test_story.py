"""The main story, with each version of the vendor's SDK, in Node.js and in a real browser, on two event
loops."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .conftest import missing
from .driver import NEWEST, OLDER, Driver, Kind
from .stage import Served, Stage
from .story import Story

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("version", [NEWEST, *OLDER])
async def test_the_main_story(stage: Stage, version: str) -> None:
    """Every behaviour comes out by the SDK's own callbacks, with the right values, in each version."""
    await Story(stage, version=version).play()


async def test_in_a_browser(stage: Stage) -> None:
    """The same in headless Chromium, with its own websocket, its own HTTP and its rules about origins."""
    if shutil.which("chromium") is None:
        missing("chromium")
    kind: Kind = "chromium"
    await Story(stage, kind=kind).play()


async def test_on_trio(driver: Driver, place: Path) -> None:
    """The same with a node on trio, whose HTTP server is another one."""
    served = Served(place, loop="trio")
    try:
        served.start()
        stage = Stage(served, driver)
        await Story(stage).play()
        await stage.close()
        assert served.end() == 0
    finally:
        served.close()
