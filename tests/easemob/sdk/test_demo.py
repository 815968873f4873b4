"""`receipts demo --easemob` in a real browser: two people write to each other and see ticks, badges and
readers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.app.conftest import SECONDS_MAX, environment, receipts

from .conftest import missing
from .driver import Driver, Page

PICTURES = "RECEIPTS_DEMO_PICTURES"
"""A directory: then what was seen is kept there."""


@pytest.fixture
def demo(packages: Path) -> Iterator[str]:
    """The command, as a process; where its page is."""
    sdk = packages / "node_modules" / "easemob-websdk" / "Easemob-chat.js"
    command = [sys.executable, "-m", "receipts.app", "demo", "--easemob", "--sdk", str(sdk)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            url = next((word for word in line.split() if word.startswith("http://")), None)
            assert url is not None, line
            yield url
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS_MAX) == 0
        finally:
            process.kill()


@pytest.fixture
async def page(demo: str, driver: Driver) -> AsyncIterator[Page]:
    """The demo's page, in a window that shows both panes."""
    if shutil.which("chromium") is None:
        missing("chromium")
    driver.unhandled.clear()
    page = await driver.visit(demo, viewport={"width": 1180, "height": 780}, colorScheme="light")
    yield page
    await page.close()
    assert not driver.unhandled


async def keep(page: Page, name: str) -> None:
    """Take a picture, where somebody wants to look at it."""
    if directory := os.environ.get(PICTURES):
        await page.picture(Path(directory) / f"{name}.png")


def of(user: str, selector: str) -> str:
    """Something in one user's pane."""
    return f'.pane[data-user="{user}"] {selector}'


@pytest.mark.anyio
async def test_two_panes(page: Page) -> None:
    """A text gets its ticks as it is delivered and read, the badge counts and clears, the group's readers are
    listed with their words, and who was away is told what was read meanwhile."""
    for user in ("alice", "bob"):
        await page.shows(of(user, '.state[data-online="true"]'))
        await page.shows(of(user, '[data-chat="Friday"]'))
    await page.click(of("alice", '[data-chat="bob"]'))
    await page.write(of("alice", ".text"), "Lunch at one?")
    await page.shows(of("alice", '.tick[data-status="delivered"]'))
    assert await page.shows(of("bob", '[data-chat="alice"] .badge')) == "1"
    await page.write(of("alice", ".text"), "The place by the river")
    assert await page.shows(of("bob", '[data-chat="alice"] .badge:text-is("2")')) == "2"
    await keep(page, "delivered")
    await page.click(of("bob", '[data-chat="alice"]'))
    await page.lacks(of("bob", ".badge"))
    await page.shows(of("alice", 'li:nth-child(2) .tick[data-status="read"]'))
    await page.write(of("bob", ".text"), "With pleasure")
    await page.shows(of("alice", 'li[data-mine="false"] .said'))
    await page.shows(of("bob", '.tick[data-status="read"]'))
    await keep(page, "read")

    await page.click(of("alice", '[data-chat="Friday"]'))
    await page.click(of("alice", ".asks input"))
    await page.write(of("alice", ".text"), "Who is coming?")
    await page.shows(of("alice", '.asked:text-is("read by 1")'))  # the one without a pane
    await page.click(of("bob", '[data-chat="Friday"]'))
    await page.shows(of("alice", '.asked:text-is("read by 2")'))
    await keep(page, "group")
    await page.click(of("alice", ".asked"))
    assert await page.shows("#readers li:nth-child(2)")
    await keep(page, "readers")
    await page.click("#readers button")

    await page.click(of("bob", ".back"))
    await page.click(of("alice", ".link"))
    await page.shows(of("alice", '.state[data-online="false"]'))
    await page.click(of("bob", '[data-chat="alice"]'))
    await page.write(of("bob", ".text"), "Are you there?")
    await page.shows(of("bob", '.tick[data-status="acked"]'))
    await page.click(of("alice", ".link"))
    await page.shows(of("alice", '.state[data-online="true"]'))
    await page.shows(of("alice", '[data-chat="bob"] .badge'))
    await page.shows(of("bob", 'li:last-child .tick[data-status="delivered"]'))
    await keep(page, "back")

    await page.write(of("alice", ".text"), "Who brings cake?")
    await page.shows(of("alice", 'li:last-child .asked:text-is("read by 1")'))
    await page.click(of("alice", ".link"))
    await page.click(of("bob", '[data-chat="Friday"]'))
    await page.shows(of("bob", 'li:last-child .answer:text-is("you answered: seen")'))
    await page.click(of("alice", ".link"))
    await page.shows(of("alice", 'li:last-child .asked:text-is("read by 2")'))
    assert "While you were away: “Who brings cake?” was read by 2" in await page.shows(of("alice", ".notice"))
    await keep(page, "summary")

    await page.click(of("alice", ".link"))
    await page.write(of("alice", ".text"), "Into the void")
    await page.shows(of("alice", 'li:last-child .tick[data-status="failed"]'))
    assert await page.shows(of("alice", ".notice span")) == "Not sent: you are offline"
    await keep(page, "failed")
    await page.click(of("alice", ".link"))
    await page.shows(of("alice", '.state[data-online="true"]'))
    await page.lacks(of("alice", ".notice"))
    await page.click(of("alice", ".again"))
    await page.shows(of("alice", 'li:last-child .tick[data-status="acked"]'))
    await page.shows(of("bob", 'li:last-child .said:text-is("Into the void")'))


@pytest.mark.anyio
async def test_in_a_narrow_window(demo: str, driver: Driver) -> None:
    """On a telephone the panes are one above the other, and nothing is cut off at the side."""
    if shutil.which("chromium") is None:
        missing("chromium")
    page = await driver.visit(demo, viewport={"width": 360, "height": 740}, colorScheme="dark")
    for user in ("alice", "bob"):
        await page.click(of(user, '[data-chat="Friday"]'))
    await page.write(of("alice", ".text"), "Oneverylongword" * 12)
    await page.shows(of("alice", '.tick[data-status="acked"]'))
    await page.shows(of("bob", 'li[data-mine="false"]'))
    await keep(page, "narrow")
    assert await page.value("document.documentElement.scrollWidth") == 360
    await page.close()


@pytest.mark.parametrize(
    ("option", "given", "complaint"),
    [
        ("--page", "nonsense", "--page 'nonsense' is not HOST:PORT, such as 127.0.0.1:8000"),
        ("--sdk", "nowhere.js", "there is no file nowhere.js: give --sdk the vendor's Easemob-chat.js"),
    ],
)
def test_what_it_refuses(option: str, given: str, complaint: str) -> None:
    """A mistake on the command line is said in one line."""
    done = receipts("demo", "--easemob", option, given)
    assert (done.returncode, done.stderr) == (2, f"receipts: {complaint}\n")


def test_a_port_that_is_taken() -> None:
    """So is an address that another program has."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        page = f"127.0.0.1:{other.getsockname()[1]}"
        done = receipts("demo", "--easemob", "--sdk", __file__, "--page", page)
    assert done.returncode == 1
    assert "is in use by another program" in done.stderr
