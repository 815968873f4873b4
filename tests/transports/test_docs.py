"""The transport that `docs/write-a-transport.md` builds works as the page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import transports
from transports.testing import CLAUSES, Subject, check_clause

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "write-a-transport.md"


@pytest.fixture(scope="module")
def page() -> Iterator[dict[str, Any]]:
    """The page's code, all blocks in order, as a module's names."""
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE))
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(code, str(PAGE), "exec"), names)
    yield names
    del transports._schemes["exec"]


@pytest.mark.parametrize("clause", CLAUSES)
async def test_the_page_keeps_the_contract(clause: str, page: dict[str, Any]) -> None:
    """The page's transport keeps every clause that it can be checked on."""
    pair = page["pair"]
    await check_clause(clause, Subject(make_pair=pair, make_uneven_pair=partial(pair, 2 << 20)))


async def test_the_page_talks_to_a_child(page: dict[str, Any]) -> None:
    """The scheme that the page registers reaches a child process."""
    assert await page["talk"]() == [b"hello", "there"]


async def test_the_page_cannot_listen(page: dict[str, Any]) -> None:
    """The page's scheme refuses to listen with an `OSError`."""
    assert page["talk"]
    with pytest.raises(OSError, match="nobody can listen"):
        await transports.listen("exec:///bin/cat")
