"""The house rules: who may import whom, and what a pure room never touches."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import receipts
import transports

ROOT = Path(receipts.__file__).parent.parent

MAY_IMPORT = {
    "receipts.core": {"receipts.core"},
    "receipts.wire": {"receipts.core", "receipts.wire"},
    "receipts.storage": {"receipts.core", "receipts.wire", "receipts.storage"},
    "receipts.node": {"receipts.core", "receipts.wire", "receipts.storage", "receipts.node"},
    "receipts.client": {"receipts.core", "receipts.wire", "receipts.client"},
    "receipts.simulation": {
        "receipts.core",
        "receipts.wire",
        "receipts.storage",
        "receipts.node",
        "receipts.client",
        "receipts.simulation",
    },
    "receipts.easemob": {
        "receipts.core",
        "receipts.wire",
        "receipts.storage",
        "receipts.node",
        "receipts.easemob",
    },
    "receipts.app": {"receipts", "transports"},
    "transports": {"transports"},
}
"""Room → rooms it may import from; a room's prefix stands for all inside."""

ALSO = {
    "receipts.node.runner": {"transports"},
    "receipts.client.connection": {"transports"},
    "receipts.simulation.live": {"transports"},
    "receipts.simulation.live_people": {"transports"},
    "receipts.simulation.live_stage": {"transports"},
    "receipts.simulation.live_page": {"receipts.easemob"},
    "receipts.simulation.live_web": {"receipts.easemob", "transports"},
    "receipts.simulation.websdk": {"receipts.easemob"},
    "receipts.simulation.pytest_plugin": {"transports"},
    "receipts.easemob.http_hypercorn": {"transports"},
    "receipts.easemob.http_serve": {"transports"},
    "receipts.easemob.http_uvicorn": {"transports"},
}
"""The async edges, which meet the wire, and the simulation of the vendor's devices."""

PURE = [
    "receipts.core",
    "receipts.wire",
    "receipts.node",
    "receipts.client",
    "receipts.simulation",
    "receipts.easemob",
    "transports.framing",
    "receipts.storage.codec",
]
NOT_PURE = {
    "receipts.node.runner",
    "receipts.node.worker",
    "receipts.node.passwords",
    "receipts.client.connection",
    "receipts.client.disk",
    "receipts.easemob.http_calls",
    "receipts.easemob.http_groups",
    "receipts.easemob.http_hypercorn",
    "receipts.easemob.http_serve",
    "receipts.easemob.http_uvicorn",
    "receipts.simulation.chance",
    "receipts.simulation.exhaustive",
    "receipts.simulation.live",
    "receipts.simulation.live_people",
    "receipts.simulation.live_stage",
    "receipts.simulation.live_web",
    "receipts.simulation.pytest_plugin",
}
IMPURE_MODULES = {
    "anyio",
    "asyncio",
    "datetime",
    "logging",
    "os",
    "random",
    "secrets",
    "select",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "trio",
    "uuid",
    "uvloop",
}
READS_ENVIRONMENT = {"receipts.core.value"}
"""Whether values are frozen is read once; it changes what a mistake does, nothing else."""


def _modules() -> Iterator[tuple[str, Path]]:
    for package in (receipts, transports):
        root = Path(package.__file__ or "").parent
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _imports(name: str, path: Path) -> Iterator[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*anchor, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _inside(name: str, rooms: set[str] | list[str]) -> bool:
    return any(name == room or name.startswith(room + ".") for room in rooms)


MODULES = list(_modules())


@pytest.mark.parametrize(("name", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_imports_point_one_way(name: str, path: Path) -> None:
    """A module imports only from its own room and the rooms below it."""
    room = next((room for room in MAY_IMPORT if _inside(name, [room])), None)
    if room is None:
        assert name == "receipts", f"{name} stands in no room of the house"
        return
    allowed = MAY_IMPORT[room] | ALSO.get(name, set())
    ours = [found for found in _imports(name, path) if found.split(".")[0] in ("receipts", "transports")]
    wrong = [found for found in ours if not _inside(found, allowed) and found != "receipts"]
    assert not wrong, f"{name} imports {wrong}"


@pytest.mark.parametrize(("name", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_pure_rooms_touch_no_world(name: str, path: Path) -> None:
    """A pure module imports no clock, chance, socket, event loop or log."""
    if not _inside(name, PURE) or name in NOT_PURE | READS_ENVIRONMENT:
        return
    wrong = sorted({found.split(".")[0] for found in _imports(name, path)} & IMPURE_MODULES)
    assert not wrong, f"{name} is pure and imports {wrong}"


def test_every_exported_name_is_there() -> None:
    """`__all__` of every public module is exact: all of it exists, and nothing public is left out."""
    for package in (receipts, transports):
        for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if info.name == "receipts.app.__main__":
                continue
            module = importlib.import_module(info.name)
            exported = getattr(module, "__all__", None)
            if exported is None:
                continue
            missing = [name for name in exported if not hasattr(module, name)]
            assert not missing, f"{info.name}.__all__ names {missing}"


def test_the_front_door_opens_every_room() -> None:
    """Every name that `receipts` promises can be had, and an unknown one is a plain AttributeError."""
    for name in receipts.__all__:
        assert getattr(receipts, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = receipts.nothing


def test_embedding_the_machine_imports_nothing_else() -> None:
    """`receipts.Conversation` brings no event loop, no transport, no database and no codec with it."""
    code = (
        "import sys, receipts; receipts.Conversation; receipts.decide; receipts.events\n"
        "heavy = {'anyio', 'asyncio', 'trio', 'sqlite3', 'msgpack', 'transports', 'socket'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
