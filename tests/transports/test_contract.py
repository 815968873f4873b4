"""Every transport keeps every clause of the contract, on every event loop."""

from __future__ import annotations

import pytest

from transports.testing import CLAUSES, Subject, check_clause

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("clause", CLAUSES)
async def test_contract(clause: str, subject: Subject) -> None:
    """The clause holds."""
    await check_clause(clause, subject)
