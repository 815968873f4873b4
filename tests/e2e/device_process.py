"""A device in a process of its own, which a test kills: `python device_process.py URL USER TOKEN FILE RUN`.

It keeps its replica in FILE, writes to bob without end, acknowledges what it gets, and says on standard
output what it knows for certain, one line each: `accepted BODY`, `got SEQ`.
"""

from __future__ import annotations

import sys

import anyio

from receipts.client.connection import Connection, connect
from receipts.core.events import MessageAccepted


async def write(me: Connection, run: str) -> None:
    """Messages, several at a time."""

    async def one(body: str) -> None:
        await me.send("bob", body)
        print("accepted", body, flush=True)

    for count in range(1000):
        async with anyio.create_task_group() as tasks:
            for part in "abc":
                tasks.start_soon(one, f"{run}-{count}{part}")


async def main(url: str, user: str, token: str, path: str, run: str) -> None:
    """Until somebody kills it."""
    async with (
        connect(url, user=user, device="phone", token=token, path=path, coalesce_ms=0) as me,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(write, me, run)
        async for update in me.updates():
            if isinstance(update, MessageAccepted):
                print("got", update.seq, flush=True)


if __name__ == "__main__":
    _, node, name, secret, file, number = sys.argv
    anyio.run(main, node, name, secret, file, number)
