"""A node that is killed thirty times while devices write, read, recall and come back keeps every promise.

The node is `receipts serve` on a directory, the devices are applications of their own with real links to it,
some with files that outlive their connections. Kills come after so many updates seen, by a seed.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import anyio

import transports
from receipts.client.connection import connect
from receipts.node.commands import AddUser, MakeGroup, MakeToken
from receipts.node.runner import Node
from receipts.storage.sqlite import SQLiteStore
from receipts.wire.codec import decode_update, encode_command
from receipts.wire.commands import AckPage, Ping
from receipts.wire.updates import CatchUp, Pong, Welcome
from tests.e2e.durability_load import MARKED, Device, Witness, check_device, check_file, lines_of
from tests.e2e.durability_node import NodeProcesses
from tests.e2e.outcome import stored
from tests.e2e.stage import log_in

KILLS = 30
SEED = int(os.environ.get("DURABILITY_SEED", "7"))

MANY = 1_000_000
APP = json.dumps(
    {
        "limits": {
            "sends_per_second": MANY,
            "sends_burst": MANY,
            "marks_per_second": MANY,
            "marks_burst": MANY,
            "queries_per_second": MANY,
            "queries_burst": MANY,
            "changes_per_second": MANY,
            "changes_burst": MANY,
            "asking_messages_per_day": MANY,
            "snapshot_messages": MANY,
        }
    }
)

USERS = ("alice", "bob", "cara")
CONVERSATIONS = {"G": USERS, "alice~bob": ("alice", "bob"), MARKED: ("alice", "cara")}
DEVICES = (
    ("alice", "phone", True),
    ("alice", "laptop", False),
    ("bob", "phone", True),
    ("cara", "phone", True),
    ("cara", "tablet", False),
)
"""(user, device, whether it has a file)."""


async def prepare(data: Path) -> dict[str, str]:
    """Accounts and a group in a new directory; the users' tokens."""
    tokens = {}
    async with Node(SQLiteStore(data), apps={"default": APP}).running() as node:
        for user in USERS:
            await node.operate(AddUser(rid=1, app="default", user=user))
            made = await node.operate(MakeToken(rid=1, app="default", user=user, lifetime_ms=MANY * 1000))
            tokens[user] = made.text
        await node.operate(
            MakeGroup(
                rid=1,
                app="default",
                conversation="G",
                name="",
                owner="alice",
                admins=("bob",),
                members=("cara",),
            )
        )
    return tokens


async def torment(
    processes: NodeProcesses, devices: list[Device], witness: Witness, chance: random.Random
) -> None:
    """Load the node and kill it, again and again; at last let everybody settle."""
    settled = anyio.Event()
    async with anyio.create_task_group() as tasks:
        for device in devices:
            await tasks.start(device.run, settled)
        for _ in range(KILLS):
            await witness.more(chance.choice([1, 10, 40, 120]) + chance.randrange(60))
            await processes.kill()
            await processes.start()
        await witness.more(50)
        for device in devices:
            device.stopping = True
        for _ in range(2):  # what the first round says, the second hears
            for device in devices:
                await device.settle()
        settled.set()


def test_thirty_kills_and_not_one_promise_broken(tmp_path: Path) -> None:
    """However often and whenever the node is killed: every acknowledged message and every receipt that was
    shown is in its file, nothing is there twice, counts equal a recount, and all devices know just that."""
    began = time.monotonic()
    data = tmp_path / "node"
    witness, chance = Witness(), random.Random(SEED)
    devices: list[Device] = []

    async def main() -> None:
        tokens = await prepare(data)
        with (tmp_path / "log").open("w") as log:
            processes = NodeProcesses(data, "asyncio", log)
            try:
                await processes.start()
                for user, name, has_file in DEVICES:
                    path = tmp_path / f"{user}-{name}" if has_file else None
                    mine = [chat for chat, members in CONVERSATIONS.items() if user in members]
                    seed = f"{SEED} {user} {name}"
                    devices.append(Device(witness, user, name, processes.url, tokens[user], mine, seed, path))
                with anyio.fail_after(100):
                    await torment(processes, devices, witness, chance)
                assert await processes.stop() == 0
            finally:
                processes.close()

    anyio.run(main)
    took = time.monotonic() - began
    where = f"seed {SEED}"
    assert witness.refusals == [], where
    store = SQLiteStore(data)
    lines = lines_of(store.path)
    chats = {name.partition(" ")[2]: chat for name, chat in stored(store).items()}
    print(
        f"{took:.0f} s, {len(lines)} messages, {witness.noted} updates, {len(witness.accepted)} acknowledged"
    )
    check_file(witness, lines, chats)
    for device in devices:
        check_device(device, lines, chats)
    verified = subprocess.run(
        [sys.executable, "-m", "receipts.app", "verify", "--data", str(data)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout
    assert verified.stdout == "verified 3 conversations, 0 findings\n"


def test_numbers_that_a_killed_node_gave_stand_for_nothing_else(tmp_path: Path) -> None:
    """A device that has heard more ticks than the disk knows of, because nothing was changed in them, misses
    nothing of what the next node does under such numbers."""

    async def main() -> None:
        tokens = await prepare(tmp_path / "node")
        with (tmp_path / "log").open("w") as log:
            processes = NodeProcesses(tmp_path / "node", "asyncio", log)
            try:
                with anyio.fail_after(60):
                    await processes.start()
                    resume = await _newest_token(processes.url, tokens)
                    await processes.kill()
                    await processes.start()
                    assert await _missed(processes.url, tokens, resume) == [str(n) for n in range(100)]
            finally:
                processes.close()

    anyio.run(main)


async def _newest_token(url: str, tokens: dict[str, str]) -> str:
    """Log alice in, ask a hundred questions, one by one, and go by the tick of the last answer."""
    async with transports.connect(url) as link:
        link.send([encode_command(log_in("alice", "phone", tokens["alice"]))])
        prefix, tick, rid = "", 0, 0
        while rid < 100:
            for frame in await link.receive():
                tick, update = decode_update(frame) or (0, None)
                if isinstance(update, Welcome):
                    prefix = update.prefix
                elif isinstance(update, CatchUp | Pong):
                    rid += 1
                    link.send([encode_command(Ping(rid=rid))])
        return f"{prefix}{tick}"


async def _missed(url: str, tokens: dict[str, str], resume: str) -> list[str]:
    """Bob writes a hundred messages, one by one; what alice is given who comes back then."""
    async with connect(url, user="bob", device="phone", token=tokens["bob"]) as bob:
        for number in range(100):
            await bob.send("alice", str(number))
    missed: list[str] = []
    async with transports.connect(url) as link:
        link.send([encode_command(log_in("alice", "phone", tokens["alice"], resume=resume))])
        while True:
            for frame in await link.receive():
                _, update = decode_update(frame) or (0, None)
                if isinstance(update, CatchUp):
                    missed += [str(message.body) for part in update.parts for message in part.messages]
                    if update.live:
                        return missed
                    link.send([encode_command(AckPage(rid=0, token=update.token))])
