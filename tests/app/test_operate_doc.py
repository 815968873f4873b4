"""What docs/operate.md promises: its tables against the code, its backup against a running node."""

from __future__ import annotations

import re
import sqlite3
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

import receipts as package
from receipts.app.config import load_config
from receipts.app.metrics import Figures, LoopWatch, NodeCollector
from receipts.core.policy import Features, GroupPolicy, Limits
from receipts.node.runner import Node
from receipts.storage.memory import MemoryStore
from receipts.storage.sqlite import DATABASE_NAME
from tests.app.conftest import Here, Serving

DOCUMENT = (Path(__file__).parents[2] / "docs" / "operate.md").read_text(encoding="utf-8")


def table(head: str) -> list[list[str]]:
    """The rows of the table whose first column has this head, as cells."""
    found = re.search(rf"^\| {re.escape(head)} \|.*?\n\|[-|]+\|\n((?:\|.*\n)+)", DOCUMENT, re.MULTILINE)
    assert found is not None, head
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found[1].splitlines()]


def names(cell: str) -> list[str]:
    """What stands between backquotes."""
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize(
    ("head", "cls"), [("`features`", Features), ("`groups`", GroupPolicy), ("`limits`", Limits)]
)
def test_settings_and_their_defaults(head: str, cls: Any) -> None:
    """The document names every setting of an app, with the default that it has."""
    told: dict[str, str] = {}
    for cells in table(head):
        settings = names(cells[0])
        defaults = [text.strip('`" ') for text in cells[1].split(",")]
        told |= zip(settings, defaults * len(settings) if len(defaults) == 1 else defaults, strict=False)
    known = {field.name: field.default for field in attrs.fields(cls) if field.name != "groups"}
    assert told.keys() == known.keys()
    for name, default in known.items():
        shown = (
            str(default).lower()
            if isinstance(default, bool)
            else f"{default:g}"
            if isinstance(default, float)
            else str(default)
        )
        assert told[name] == shown, name


def test_flags_and_their_environment(here: Here) -> None:
    """Every flag of `serve` stands in the document with its variable, and its name in the file is taken."""
    _, out, _ = here("serve", "--help")
    flags = set(re.findall(r"--[a-z][a-z-]+", out)) - {"--help"}
    rows = table("flag")
    told = {flag.split()[0] for cells in rows for flag in names(cells[0])}
    assert told == {flag for flag in flags if f"`{flag}" in DOCUMENT}
    assert flags == told
    for cells in rows:
        for flag, variable in zip(names(cells[0]), names(cells[1]), strict=True):
            assert variable == "RECEIPTS_" + flag.split()[0].removeprefix("--").replace("-", "_").upper()
            assert variable in out


def test_the_example_is_good(place: Path) -> None:
    """The configuration that the document shows is one."""
    (text,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    file = place / "node.toml"
    file.write_text(text)
    config = load_config(file)
    assert config.serve["tcp"] == tomllib.loads(text)["serve"]["tcp"]
    assert sorted(config.apps) == ["default", "small"]


@pytest.mark.anyio
async def test_metrics_and_their_names() -> None:
    """The document names every figure of the node that the page has."""
    async with Node(MemoryStore(), inline=True).running() as node:
        collector = NodeCollector(node, Figures(), LoopWatch(), lambda call: call())
        found = {family.name for family in collector.collect()}
    told = {
        re.sub(r"(_total|_info)?(\{.*\})?$", "", name) for cells in table("name") for name in names(cells[0])
    }
    assert {name for name in told if name.startswith("receipts_")} == found


def test_a_backup_while_it_runs(place: Path, data: Path, start: Callable[..., Serving], here: Here) -> None:
    """A backup made as described is complete; after a restore and a new life, a device that knew more than
    the backup starts from its full state, and goes on."""
    serving = start()
    tokens = []
    for user in ("alice", "bob"):
        here("user", "add", user, "--no-password", "--data", data)
        tokens.append(here("token", user, "--data", data)[1].strip())
    kept = place / "alice.db"
    anyio.run(_send, serving.urls["tcp"], tokens[0], kept, "before")
    live, copy = sqlite3.connect(data / DATABASE_NAME), sqlite3.connect(place / "backup")
    live.backup(copy)
    live.close()
    copy.close()
    anyio.run(_send, serving.urls["tcp"], tokens[0], kept, "after")
    serving.process.kill()
    serving.process.wait()

    restored = place / "restored"
    restored.mkdir()
    (place / "backup").rename(restored / DATABASE_NAME)
    assert here("new-life", "--data", restored)[0] == 0
    again = start("--tcp", "127.0.0.1:0", where=restored, lines=1)
    assert anyio.run(_send, again.urls["tcp"], tokens[0], kept, "once more") == ["before", "once more"]
    assert anyio.run(_bodies, again.urls["tcp"], tokens[1]) == ["before", "once more"]
    assert here("verify", "--data", restored)[0] == 0


async def _send(url: str, token: str, path: Path, body: str) -> list[Any]:
    async with package.connect(url, user="alice", device="phone", token=token, path=path) as me:
        await me.send("bob", body)
        return [message.body for message in me.messages("bob")]


async def _bodies(url: str, token: str) -> list[Any]:
    async with package.connect(url, user="bob", device="phone", token=token) as me:
        return [message.body for message in me.messages("alice")]
