"""What the tests of the node share: both stores, and a node on them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from receipts.storage.base import Store
from receipts.storage.memory import MemoryStore
from receipts.storage.sqlite import SQLiteStore
from tests.node.playbook import Playbook


@pytest.fixture(params=["memory", "sqlite"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Makes stores of each kind, closed when the test ends."""
    made: list[Store] = []
    numbers = itertools.count()

    def make() -> Store:
        store: Store = (
            MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / str(next(numbers)))
        )
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


@pytest.fixture
def new_book(new_store: Callable[[], Store]) -> Callable[..., Playbook]:
    """Makes nodes on each kind of store."""

    def make(**options: Any) -> Playbook:
        return Playbook(new_store(), **options)

    return make


@pytest.fixture
def book(new_book: Callable[..., Playbook]) -> Playbook:
    """A node with alice and bob."""
    found = new_book()
    found.user("alice", "bob")
    return found
