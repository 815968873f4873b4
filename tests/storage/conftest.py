"""The stores that keep the contract, each opened anew for a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from receipts.storage.base import Store
from receipts.storage.memory import MemoryStore
from receipts.storage.sqlite import SQLiteStore
from tests.storage.writer import Writer, open_store


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """One store of each kind, open and empty."""
    made: Store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "data")
    open_store(made)
    yield made
    made.close()


@pytest.fixture
def writer(store: Store) -> Writer:
    """Writes to `store`."""
    return Writer(store)
