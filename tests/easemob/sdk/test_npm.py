"""Installing from the npm registry: what the lock says, once, into the user's cache, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from receipts.app.complaints import Complaint
from receipts.app.npm import MANIFEST_NAMES, installed, missing_programs

from .conftest import missing


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that needs nothing, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    directory = tmp_path / "project"
    directory.mkdir()
    project = {"name": "nothing", "version": "1.0.0"}
    lock = {**project, "lockfileVersion": 3, "requires": True, "packages": {"": project}}
    for name, content in zip(MANIFEST_NAMES, (project, lock), strict=True):
        (directory / name).write_text(json.dumps(content))
    return directory


def test_it_installs_once(manifest: Path) -> None:
    """The second time nothing is run: what is there is whole."""
    if absent := missing_programs():
        missing(" and ".join(absent))
    place = installed(manifest)
    assert place.is_dir()
    (place / "mark").touch()
    assert installed(manifest) == place
    assert (place / "mark").exists()
    assert [found.name for found in place.parent.iterdir()] == [place.name]


def test_a_lock_that_does_not_fit(manifest: Path) -> None:
    """What npm refuses is said in one line, and nothing stays behind."""
    if absent := missing_programs():
        missing(" and ".join(absent))
    wanting = {"name": "nothing", "version": "1.0.0", "dependencies": {"easemob-websdk": "4.21.1"}}
    (manifest / "package.json").write_text(json.dumps(wanting))
    with pytest.raises(Complaint, match="npm could not install"):
        installed(manifest)
    assert not list((manifest.parent / "cache" / "receipts" / "npm").iterdir())


def test_without_npm(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has no npm is told so."""
    monkeypatch.setenv("PATH", "")
    assert missing_programs() == ["node", "npm"]
    with pytest.raises(Complaint, match="npm is not installed"):
        installed(manifest)
