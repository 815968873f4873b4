"""What an embedding program sees of its own mistakes."""

from __future__ import annotations

import pytest

from receipts.node.runner import Node
from receipts.storage.memory import MemoryStore


@pytest.mark.anyio
async def test_an_error_in_the_block_comes_out_as_it_is() -> None:
    """Whoever embeds a node catches their own exception, not a group with it inside."""
    with pytest.raises(ValueError, match="mine"):
        async with Node(MemoryStore(), inline=True).running():
            raise ValueError("mine")
