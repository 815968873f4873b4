"""Packages from the npm registry, installed outside the repository: what is not ours is never vendored.

Only the installing lives here; who needs which packages says so with a `package.json` and its lock beside it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .complaints import Complaint

__all__ = ["MANIFEST_NAMES", "installed", "missing_programs"]

MANIFEST_NAMES = ("package.json", "package-lock.json")
INSTALL_SECONDS_MAX = 300.0


def missing_programs() -> list[str]:
    """Of those that installing and running takes, the ones that are not on the path."""
    return [name for name in ("node", "npm") if shutil.which(name) is None]


def installed(manifest: Path) -> Path:
    """Install the packages that a manifest names, exactly as its lock has them, unless they are there.

    Args:
        manifest: A directory with the files of `MANIFEST_NAMES`.

    Returns:
        A directory of this user's cache that holds them as `node_modules`.

    Raises:
        Complaint: There is no npm, or it failed.
    """
    contents = [(manifest / name).read_bytes() for name in MANIFEST_NAMES]
    target = _cache() / hashlib.sha256(b"\0".join(contents)).hexdigest()[:16]
    if target.is_dir():
        return target
    npm = shutil.which("npm")
    if npm is None:
        raise Complaint("npm is not installed; it comes with Node.js")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="installing-") as place:
        made = Path(place) / "packages"
        made.mkdir()
        for name, content in zip(MANIFEST_NAMES, contents, strict=True):
            (made / name).write_bytes(content)
        _run_npm(npm, made)
        try:
            made.rename(target)  # whole or not at all, whoever else installs the same at this moment
        except OSError:
            if not target.is_dir():
                raise
    return target


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "receipts" / "npm"


def _run_npm(npm: str, directory: Path) -> None:
    # Scripts of packages are not run: none of ours needs one.
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        raise Complaint(f"npm was not done after {INSTALL_SECONDS_MAX:.0f} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise Complaint(f"npm could not install: {lines[-1] if lines else f'exit code {done.returncode}'}")
