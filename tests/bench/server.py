"""A node on a real store, in a process of its own, for the load generator to speak with.

    python -m tests.bench.server DIRECTORY --url tcp://127.0.0.1:0 --loop uvloop

It writes one line of JSON when it listens and one when it was ended by SIGTERM: how long its event loop was
held up, by tenths of a second. Users are there from the beginning, and rates are as good as unlimited.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anyio

from receipts.core.conversation import Conversation
from receipts.core.events import Register, Role
from receipts.node.process import calm_collector
from receipts.node.runner import Node
from receipts.storage import base as rows
from receipts.storage.codec import pack_member, pack_registers
from receipts.storage.sqlite import SQLiteStore

__all__ = ["APP_KEY", "GROUP", "SECRET", "USERS", "app_of", "group_members", "main", "seed", "user_name"]

SECRET = b"a secret that everybody may know"
APP_KEY = "bench#app"
"""The app of users on the vendor's dialect; `default` is that of all others."""
USERS = 5000
GROUP = "everybody"
GROUP_MEMBERS = 200
"""Users behind the first `USERS`, so that these are in no group."""
NOW_MS = 1_700_000_000_000
LATE_EVERY_S = 0.002
"""How often the event loop is asked whether it is late."""

MANY = 1_000_000_000
SETTINGS = json.dumps(
    {
        "limits": {
            "sends_per_second": MANY,
            "sends_burst": MANY,
            "marks_per_second": MANY,
            "marks_burst": MANY,
            "queries_per_second": MANY,
            "queries_burst": MANY,
            "asking_messages_per_day": MANY,
        }
    }
)


def user_name(number: int) -> str:
    """The name of a user, by number from 0 on."""
    return f"user{number:05d}"


def group_members() -> list[str]:
    """Who is in the group; the first one owns it."""
    return [user_name(USERS + number) for number in range(GROUP_MEMBERS)]


def app_of(url: str) -> str:
    """The app for users who come by this URL."""
    return APP_KEY if url.startswith("easemob:") else "default"


def seed(directory: Path, app: str = "default") -> rows.MetaRow:
    """Create a store with accounts and one group; what is there already stays as it is."""
    store = SQLiteStore(directory)
    meta = store.open(now_ms=NOW_MS, life="bench", secret=SECRET)
    try:
        if meta.tick:
            return meta
        meta = meta._replace(tick=1, version=1, key=1)
        batch = rows.Batch(meta=meta)
        batch.users += [
            rows.UserRow(app, user_name(number), "", 0, True, True, 0, NOW_MS, False)
            for number in range(USERS + GROUP_MEMBERS)
        ]
        _seed_group(batch, app)
        store.commit(batch)
        return meta
    finally:
        store.close()


def _seed_group(batch: rows.Batch, app: str) -> None:
    names = group_members()
    chat = Conversation.group(GROUP, names)
    chat.members[names[0]].set_register(Register.ROLE, 1, Role.OWNER.value)
    batch.conversations.append(
        rows.ConversationRow(1, app, GROUP, 1, 0, 0, 0, pack_registers(chat.registers))
    )
    batch.members += [rows.MemberRow(1, app, name, 1, pack_member(chat.members[name], 1)) for name in names]


async def _watch(late: dict[int, float]) -> None:
    """Note how late the event loop is, the worst of each tenth of a second."""
    while True:
        due = time.monotonic() + LATE_EVERY_S
        await anyio.sleep(LATE_EVERY_S)
        now = time.monotonic()
        tenth = int(now * 10)
        if now - due > late.get(tenth, 0.0):
            late[tenth] = now - due


def _end_with_parent() -> None:
    """Die when whoever holds the other end of standard input has died."""
    sys.stdin.read()
    os._exit(1)


async def _listen(node: Node, url: str) -> str:
    """As `Node.listen`; at `easemob://HOST:PORT` for the vendor's dialect, with its HTTP on the same port."""
    if not url.startswith("easemob:"):
        return await node.listen(url)

    from receipts.app.easemob import listen_easemob

    place = await listen_easemob(node, url.replace("easemob", "http", 1), app_keys=[APP_KEY])
    return place.replace("http", "easemob", 1)


async def _serve(directory: Path, url: str) -> None:
    store = SQLiteStore(directory)
    late: dict[int, float] = {}
    made = Node(store, apps={app_of(url): SETTINGS}, heartbeat_ms=3_600_000, secret=SECRET)
    async with made.running() as node:
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            print(json.dumps({"url": await _listen(node, url)}), flush=True)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_watch, late)
                async for _ in signals:
                    tasks.cancel_scope.cancel()
    print(json.dumps({"late": late}), flush=True)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--url", default="tcp://127.0.0.1:0")
    parser.add_argument("--loop", choices=("uvloop", "asyncio", "trio"), default="uvloop")
    parser.add_argument("--cpu", type=int, help="run on this CPU alone")
    parser.add_argument("--profile", type=Path, help="write a profile of the event loop's thread there")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    calm_collector()
    backend = "trio" if options.loop == "trio" else "asyncio"
    settings: dict[str, Any] = {} if backend == "trio" else {"use_uvloop": options.loop == "uvloop"}
    if options.profile is None:
        anyio.run(_serve, options.directory, options.url, backend=backend, backend_options=settings)
        return
    import cProfile

    profile = cProfile.Profile()
    profile.enable()
    anyio.run(_serve, options.directory, options.url, backend=backend, backend_options=settings)
    profile.disable()
    profile.dump_stats(options.profile)


if __name__ == "__main__":
    main()
