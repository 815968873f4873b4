"""Random worlds over links that fail: whatever happens, in the end everybody knows what the node knows.

Everything comes from one number, which a failure names: who does what, which links break where, how long
frames take. Time is simulated (trio's `MockClock`), so a world of hours takes a second.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from receipts.client.connection import ConnectionLost
from receipts.core.errors import LocalProtocolError, Refused
from receipts.core.events import Role
from receipts.core.ids import direct
from tests.e2e.agreement import check_counts, check_fresh, settle
from tests.e2e.stage import Device, Stage, simulated
from transports.faulty import Plan

USERS = ("alice", "bob", "cara", "dan")
GROUPS = ("G", "H")
SETTINGS = """{
    "groups": {"may_ask_receipts": "member"},
    "limits": {"page_bytes_max": 2000, "devices_max": 100}
}"""
WORLDS = 500 if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else 20
DEEDS = (
    *(
        "send",
        "send",
        "send",
        "send",
        "read",
        "read",
        "name",
        "name",
        "open",
        "close",
        "mark",
        "recall",
        "clear",
    ),
    *("share", "mute", "member", "role", "rename", "cut", "cut", "heal", "heal", "time", "time", "device"),
)
"""What people do, as often as it stands here."""


class Life:
    """People who do this and that, drawn from a generator."""

    def __init__(self, stage: Stage, rng: random.Random) -> None:
        self.stage = stage
        self.rng = rng
        self.sent: dict[str, str] = {}
        """Bodies that the node said it has: body → conversation."""
        self.refused: dict[str, int] = {}
        self.count = 0

    async def begin(self) -> None:
        """Accounts, groups, devices with their wires."""
        await self.stage.users(*USERS)
        await self.stage.group("G", "alice", "bob", "cara", "dan")
        await self.stage.group("H", "dan", "alice", admins=["bob"])
        for user in USERS:
            for name in ("phone", "tablet")[: self.rng.randint(1, 2)]:
                await self.appear(user, name)

    async def appear(self, user: str, name: str) -> None:
        """A device, behind a wire that will fail now and then."""
        device = await self.stage.device(
            user,
            name,
            delivery=self.rng.random() < 0.8,
            share_read=self.rng.random() < 0.9,
            coalesce_ms=self.rng.choice((0, 50, 2000)),
            connect_timeout=1000.0,
        )
        device.wire.plan = self.plan

    def plan(self, attempt: int) -> Plan:
        """What goes wrong on one link."""
        return replace(Plan.draw(self.rng, 40), receive_delay_seconds=(0.0, self.rng.choice((0.0, 0.1, 3.0))))

    def step(self) -> Callable[[], Awaitable[Any]] | None:
        """Something to do, and to be waited for by nobody."""
        device = self.rng.choice(self.stage.devices)
        deed: Any = getattr(self, "_" + self.rng.choice(DEEDS))
        made: Callable[[], Awaitable[Any]] | None = deed(device)
        return made

    def chat(self, device: Device) -> str:
        """A conversation of a device's user."""
        others = [user for user in USERS if user != device.me.user]
        return self.rng.choice([*GROUPS, *(direct(device.me.user, other) for other in others)])

    def seq(self, device: Device, chat: str) -> int:
        """A message that the device may have seen, or nearly."""
        return self.rng.randint(1, device.me.session.replica.chat(chat).head + 1)

    def _send(self, device: Device) -> Callable[[], Awaitable[Any]]:
        self.count += 1
        body, chat = f"{device.me.user} {self.count}", self.chat(device)
        asks, counts = chat in GROUPS and self.rng.random() < 0.4, self.rng.random() < 0.9

        async def send() -> None:
            await device.me.send(conversation=chat, body=body, asks=asks, counts=counts)
            self.sent[body] = chat

        return send

    def _read(self, device: Device) -> Callable[[], Awaitable[Any]]:
        chat = self.chat(device)
        seq = self.seq(device, chat)
        return lambda: device.me.read(chat, seq)

    def _name(self, device: Device) -> Callable[[], Awaitable[Any]]:
        chat = self.chat(device)
        seqs = [self.seq(device, chat) for _ in range(self.rng.randint(1, 4))]
        content = self.rng.choice((None, None, "ok", "later"))
        return lambda: device.me.read_messages(chat, seqs, content)

    def _open(self, device: Device) -> Callable[[], Awaitable[Any]]:
        chat, content = self.chat(device), self.rng.choice((None, "seen"))

        async def look() -> None:
            device.me.open_chat(chat, content)

        return look

    def _close(self, device: Device) -> None:
        device.me.close_chat(self.chat(device))

    def _mark(self, device: Device) -> Callable[[], Awaitable[Any]]:
        chat = self.chat(device)
        from_seq = self.rng.choice((None, self.seq(device, chat)))
        return lambda: device.me.mark_unread(chat, from_seq=from_seq)

    def _recall(self, device: Device) -> Callable[[], Awaitable[Any]]:
        chat = self.chat(device)
        seq = self.seq(device, chat)
        return lambda: device.me.recall(chat, seq)

    def _clear(self, device: Device) -> Callable[[], Awaitable[Any]] | None:
        if self.rng.random() < 0.7:
            return None
        chat = self.chat(device)
        seq = self.seq(device, chat)
        return lambda: device.me.clear(chat, seq)

    def _share(self, device: Device) -> Callable[[], Awaitable[Any]]:
        chat = self.rng.choice((None, self.chat(device)))
        delivered, read = self.rng.choice((True, False)), self.rng.choice((True, False))
        return lambda: device.me.set_sharing(delivered=delivered, read=read, conversation=chat)

    def _mute(self, device: Device) -> Callable[[], Awaitable[Any]]:
        chat, muted = self.chat(device), self.rng.random() < 0.5
        return lambda: device.me.mute(chat, muted)

    def _member(self, device: Device) -> Callable[[], Awaitable[Any]]:
        group, user = self.rng.choice(GROUPS), self.rng.choice(USERS)
        if self.rng.random() < 0.6:
            return lambda: device.me.add_members(group, [user])
        return lambda: device.me.remove_members(group, [user])

    def _role(self, device: Device) -> Callable[[], Awaitable[Any]]:
        group, user = self.rng.choice(GROUPS), self.rng.choice(USERS)
        role = self.rng.choice((Role.ADMIN, Role.ADMIN, Role.MEMBER, Role.OWNER))
        return lambda: device.me.set_role(group, user, role)

    def _rename(self, device: Device) -> Callable[[], Awaitable[Any]]:
        group, name = self.rng.choice(GROUPS), f"name {self.rng.random()}"
        return lambda: device.me.rename(group, name)

    def _cut(self, device: Device) -> None:
        device.wire.cut()

    def _heal(self, device: Device) -> None:
        for one in self.stage.devices:
            one.wire.heal()

    def _time(self, device: Device) -> Callable[[], Awaitable[Any]]:
        return lambda: anyio.sleep(self.rng.choice((0.01, 0.3, 5.0, 100.0)))

    def _device(self, device: Device) -> Callable[[], Awaitable[Any]] | None:
        """A device loses its storage and comes back; or goes for good, and a new one appears."""
        if self.rng.random() < 0.5:
            return None

        self.count += 1
        name = self.rng.choice((device.me.device, f"laptop {self.count}"))

        async def exchange() -> None:
            await device.close()
            await self.appear(device.me.user, name)

        return exchange

    async def run(self, steps: int) -> None:
        """Let it happen; what cannot be done is refused, and nothing else goes wrong."""
        await self.begin()
        async with anyio.create_task_group() as tasks:
            for _ in range(steps):
                deed = self.step()
                if deed is not None and deed.__qualname__.split(".")[1] in ("_time", "_device"):
                    await deed()
                elif deed is not None:
                    tasks.start_soon(self.tried, deed)
                await anyio.sleep(self.rng.choice((0.0, 0.0, 0.05, 0.5)))
            for device in self.stage.devices:
                device.wire.heal()

    async def tried(self, deed: Callable[[], Awaitable[Any]]) -> None:
        """Do it, however often it is refused."""
        try:
            await deed()
        except Refused as refused:
            self.refused[refused.code.value] = self.refused.get(refused.code.value, 0) + 1
        except (LocalProtocolError, ConnectionLost):
            pass


def live(seed: int, directory: Path, steps: int) -> None:
    """One world, from its number."""

    async def play(stage: Stage) -> None:
        life = Life(stage, random.Random(seed))
        with anyio.fail_after(100_000):
            await life.run(steps)
            await settle(stage)
            await check_counts(stage)
            check_sent(life)
            await check_fresh(stage)

    simulated(play, directory, apps={"default": SETTINGS})


def check_sent(life: Life) -> None:
    """Every message that the node said it has is there, once."""
    store = life.stage.node.store
    bodies: dict[str, int] = {}
    for key, _, _ in store.all_conversations(0, 1000):
        for row in store.history(key, (1, 10_000), 10_000):
            bodies[str(row.body)] = bodies.get(str(row.body), 0) + 1
    recalled = bodies.pop("", 0)
    assert set(bodies.values()) <= {1}
    assert len(life.sent.keys() - bodies.keys()) <= recalled


@pytest.mark.parametrize("seed", range(WORLDS))
def test_random_worlds(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever users do over whatever links, at the end all devices and the node agree (I-13, I-16, I-24)."""
    # The order in which trio runs tasks, and the jitter of clients, come from the seed as well. Before trio
    # shuffles tasks they are sorted: those that one event wakes come out of a set, in the order of addresses.
    monkeypatch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True)
    monkeypatch.setattr("trio._core._run._r", random.Random(seed))
    random.seed(seed)
    print(f"world {seed}")
    live(seed, tmp_path, 200)
