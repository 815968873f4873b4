"""A client in a process of its own that writes until it is killed: `python -m tests.client.killed`."""

from __future__ import annotations

import sys

import anyio

from receipts.client.connection import connect


async def main(url: str, path: str) -> None:
    """Write, and acknowledge what comes, for ever."""
    async with connect(url, user="bob", device="phone", password="secret", path=path, coalesce_ms=0) as me:
        number = 0
        while True:
            number += 1
            await me.send("alice", f"reply {number}")


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
