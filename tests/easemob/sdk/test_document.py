"""What docs/easemob.md promises: its script does what it says, its tables are the code's, and the Chinese
page has the same."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from receipts.app.config import load_config
from receipts.easemob.http import CALLS
from tests.app.conftest import SECONDS_MAX, Serving

from .conftest import missing
from .driver import HERE, Driver

DOCS = Path(__file__).parents[3] / "docs"
PAGES = {name: (DOCS / name).read_text(encoding="utf-8") for name in ("easemob.md", "easemob.zh.md")}
PROMISED: list[list[Any]] = [
    ["arrived", "hello"],
    ["delivered", True],
    ["unread", 1],
    ["all read by", "bob", "unread", 0],
    ["read", True],
    ["readers", 1, "I do"],
    ["who", 1, ["bob"]],
    ["summary", True, 1],
]
"""What the script prints, as the comments in it have it."""


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_the_scenarios(page: str, packages: Path, place: Path) -> None:
    """The script of the page, as it stands there, runs on the vendor's SDK and finds what it says."""
    arguments = ["--tcp", "127.0.0.1:0", "--easemob", "127.0.0.1:0", "--app-key", "org#app"]
    serving = Serving(place / "data", *arguments, "--open-registration")
    try:
        address = serving.ready(2).urls["http"].removeprefix("http://")
        script = place / "scenarios.js"
        script.write_text("\n".join(blocks(page, "js")).replace("127.0.0.1:4002", address))
        node = shutil.which("node")
        assert node is not None
        done = subprocess.run(
            [node, str(HERE / "document.mjs"), str(packages), str(script)],
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert [json.loads(line) for line in done.stdout.splitlines()] == PROMISED
        assert serving.stop() == 0
    finally:
        serving.close()


@pytest.mark.anyio
async def test_the_scenarios_in_a_page(packages: Path, place: Path, driver: Driver) -> None:
    """The page of the document, made by its own commands, shows in a browser what the script prints: also the
    second time, when accounts and messages are there already."""
    if shutil.which("chromium") is None:
        missing("chromium")
    arguments = ["--tcp", "127.0.0.1:0", "--easemob", "127.0.0.1:0", "--app-key", "org#app"]
    serving = Serving(place / "data", *arguments, "--open-registration")
    try:
        address = serving.ready(2).urls["http"].removeprefix("http://")
        site = place / "scenarios"
        (commands,) = [block for block in blocks("easemob.md", "sh") if "scenarios" in block]
        making = "\n".join(commands.splitlines()[:3]).replace("../scenarios", str(site))
        await anyio.run_process(["bash", "-ec", making], cwd=DOCS.parent)
        (site / "node_modules").symlink_to(packages / "node_modules")
        script = site / "scenarios.js"
        script.write_text(script.read_text().replace("127.0.0.1:4002", address))
        with files_served(site) as url:
            for _ in range(2):
                page = await driver.visit(url)
                await page.shows("pre:has-text('summary'), pre:has-text('failed')")
                assert await page.shows("pre") == "".join(f"{shown(line)}\n" for line in PROMISED)
                await page.close()
        assert serving.stop() == 0
    finally:
        serving.close()


@contextmanager
def files_served(directory: Path) -> Iterator[str]:
    """A directory's files over HTTP, as the document says but at any port; the address."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            found = re.search(r"http://[^/]*/", process.stdout.readline())
            assert found is not None
            yield found[0]
        finally:
            process.kill()


def shown(line: list[Any]) -> str:
    """A line that the script prints, as JavaScript writes its values."""
    texts = (value if isinstance(value, str) else json.dumps(value) for value in line)
    return " ".join(texts if not isinstance(line[-1], list) else [*map(str, line[:-1]), ",".join(line[-1])])


@pytest.mark.parametrize("page", PAGES)
def test_every_call_is_listed(page: str) -> None:
    """The table of calls has exactly those that the server has."""
    listed = set(re.findall(r"`((?:GET|POST|PUT|DELETE) /[^`]*)`", PAGES[page]))
    assert listed == {f"{method} {path}" for method, path, _ in CALLS}


@pytest.mark.parametrize("page", PAGES)
def test_the_configuration_is_one(page: str, place: Path) -> None:
    """The file that the page shows is taken as it stands."""
    (text,) = blocks(page, "toml")
    file = place / "node.toml"
    file.write_text(text)
    assert set(load_config(file).apps) == set(tomllib.loads(text)["apps"])


def test_both_pages_are_of_one_mind() -> None:
    """The two pages have the same headings in number, the same rows in each table, and the same programs."""
    english, chinese = PAGES.values()
    for pattern in (r"^#+ ", r"^\| ", r"^- "):
        counts = [len(re.findall(pattern, text, re.MULTILINE)) for text in (english, chinese)]
        assert counts[0] == counts[1], pattern
    for language in ("html", "js", "toml", "sh"):
        programs = [
            [re.sub(r"\s*(//|#) .*", "", block) for block in blocks(page, language)] for page in PAGES
        ]
        assert programs[0] == programs[1], language
