"""What the suite stands on: a served node in a process of its own, people who are nobody else's, and their
browsers.

All plays share one node and one driver; a play makes users of its own, so none sees another's.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import anyio

from receipts.app.operate import operating
from receipts.client.connection import Connection, connect
from receipts.node.commands import AddUser, MakeToken, Stats
from tests.app.conftest import SECONDS_MAX, environment
from transports.faulty import FaultyProxy

from .driver import NEWEST, Device, Driver, Kind

__all__ = [
    "APP",
    "BRIEF",
    "PASSWORD",
    "SLOW",
    "SMALL",
    "TIGHT",
    "Served",
    "Stage",
    "free_port",
    "location",
    "numbered",
]

APP = "org#app"
"""The vendor's defaults, but for the rates, which would make the suite wait."""
SMALL = "org#small"
"""An edition without group receipts."""
TIGHT = "org#tight"
"""Small numbers: groups that may ask, and messages a day that ask."""
BRIEF = "org#brief"
"""Group receipts that are kept for a moment."""
SLOW = "org#slow"
"""Low rates."""

CONFIGURATION = """
[apps."org#app".limits]
sends_per_second = 10000.0
sends_burst = 10000
marks_per_second = 10000.0
marks_burst = 10000
queries_per_second = 1000.0
queries_burst = 1000
changes_per_second = 1000.0
changes_burst = 1000
logins_per_minute = 1000.0
logins_burst = 1000

[apps."org#small".features]
group_receipts = false

[apps."org#tight".limits]
group_receipts_members_max = 3
asking_messages_per_day = 2

[apps."org#brief".limits]
group_receipts_kept_ms = 1

[apps."org#slow".limits]
sends_per_second = 0.001
sends_burst = 2
queries_per_second = 0.001
queries_burst = 2
"""

PASSWORD = "correct horse"
DAY_MS = 24 * 60 * 60 * 1000

_numbers = count(1)


def free_port() -> int:
    """A port that nobody listens at: a node that is killed has to come back at the same one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """`receipts serve` as a process that can be killed and started again on the same data and port.

    Args:
        place: An empty directory.
        loop: As of `receipts serve`.
    """

    def __init__(self, place: Path, loop: str = "uvloop") -> None:
        self.data = place / "data"
        self.address = f"127.0.0.1:{free_port()}"
        self.native = ""
        """The URL for native clients."""
        self._log = place / "log"
        self._configuration = place / "receipts.toml"
        self._configuration.write_text(CONFIGURATION)
        self._loop = loop
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [
            sys.executable,
            "-m",
            "receipts.app",
            "serve",
            "--data",
            str(self.data),
            "--loop",
            self._loop,
        ]
        command += ["--config", str(self._configuration), "--tcp", "127.0.0.1:0", "--easemob", self.address]
        for app_key in (APP, SMALL, TIGHT, BRIEF, SLOW):
            command += ["--app-key", app_key]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [*command, "--open-registration"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment(),
            )
        assert self._process.stdout is not None
        seen = ""
        while not (self.native and self.address in seen):
            line = self._process.stdout.readline()
            assert line, f"the node ended with {self._process.wait()}: {self._log.read_text()}"
            seen += line
            url = line.split()[-1]
            if url.startswith("tcp://"):
                self.native = url

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        assert self._process is not None and self._process.stdout is not None  # noqa: PT018
        self._process.send_signal(number)
        status = self._process.wait(SECONDS_MAX)
        self._process.stdout.close()
        self._process = None
        self.native = ""
        return status

    def close(self) -> None:
        """Whatever is left of it."""
        if self._process is not None:
            self.end(signal.SIGKILL)

    def log(self) -> str:
        """What it wrote to stderr."""
        return self._log.read_text()


class Stage:
    """One test's view: the node that is shared, and those devices that are its own."""

    def __init__(self, served: Served, driver: Driver) -> None:
        self.served = served
        self.driver = driver
        self._devices: list[Device] = []
        self._beat: dict[str, Device] = {}
        self._making_beat = anyio.Lock()
        self._tokens: dict[str, str] = {}

    # -- people

    async def people(self, *roles: str, app_key: str = APP, registering: bool = False) -> list[str]:
        """Make users whose names begin so and are used nowhere else; their names.

        Args:
            registering: By the SDK, with `PASSWORD`, as applications do. Else an operator makes them and
            their
                tokens: a hundredth of the time, which hashing passwords takes.
        """
        number = next(_numbers)
        names = [f"{role}{number}" for role in roles]
        if registering:
            device = await self.page(names[0], app_key=app_key)
            for name in names:
                await device.call("registerUser", {"username": name, "password": PASSWORD, "nickname": ""})
            await self.leave(device)
            return names
        async with operating(self.served.data) as operate:
            for name in names:
                await operate(AddUser(rid=1, app=app_key, user=name))
                made = await operate(MakeToken(rid=1, app=app_key, user=name, lifetime_ms=DAY_MS))
                self._tokens[name] = made["text"]
        return names

    def options(
        self, device: str, *, app_key: str = APP, via: FaultyProxy | None = None, **more: Any
    ) -> dict[str, Any]:
        """For the SDK's `connection`: the three that a team has to change, and those of one device."""
        address = via.url.removeprefix("ws://").partition("/")[0] if via is not None else self.served.address
        chosen = {
            "appKey": app_key,
            "isHttpDNS": False,
            "url": f"ws://{address}/websocket",
            "apiUrl": f"http://{self.served.address}",
            "deviceId": device,
            "delivery": True,
        }
        return {**chosen, **more}

    async def page(
        self,
        user: str,
        device: str = "phone",
        *,
        version: str = NEWEST,
        kind: Kind = "jsdom",
        **options: Any,
    ) -> Device:
        """A browser with a connection that is not open."""
        made = await self.driver.device(user, self.options(device, **options), version=version, kind=kind)
        self._devices.append(made)
        return made

    async def device(self, user: str, device: str = "phone", **options: Any) -> Device:
        """A browser that is logged in: with a password only who registered, and only the first time."""
        made = await self.page(user, device, **options)
        await self.log_in(made)
        return made

    async def log_in(self, device: Device) -> None:
        """Open a connection that is not open."""
        if device.user in self._tokens:
            await device.open(accessToken=self._tokens[device.user])
        else:
            self._tokens[device.user] = (await device.open(pwd=PASSWORD))["accessToken"]

    async def leave(self, device: Device) -> None:
        """Log out if need be, and shut the browser."""
        if device in self._devices:
            self._devices.remove(device)
            await device.close()

    async def vanish(self, device: Device) -> None:
        """Shut the browser without logging out."""
        self._devices.remove(device)
        await device.shut()

    async def close(self) -> None:
        """Everybody leaves."""
        for device in (*self._devices, *self._beat.values()):
            await device.shut()

    @asynccontextmanager
    async def native(
        self, user: str, device: str = "native", *, app: str = APP, **options: Any
    ) -> AsyncIterator[Connection]:
        """A device of the native protocol, on the same account."""
        made = await self.operate(MakeToken(rid=1, app=app, user=user, lifetime_ms=DAY_MS))
        options = {"delivery": True, **options}
        async with connect(
            self.served.native, user=user, device=device, app=app, token=made["text"], **options
        ) as me:
            yield me

    async def native_text(self, user: str, to: str, text: str) -> str:
        """Send a text from a native device that comes and goes; its message id."""
        async with self.native(user) as me:
            return str((await me.send(to=to, body=text)).message_id)

    # -- looking

    async def operate(self, command: Any) -> dict[str, Any]:
        """An operator's command."""
        async with operating(self.served.data) as operate:
            return await operate(command)

    async def sessions(self) -> int:
        """How many the node has, the one that asks left out."""
        found = await self.operate(Stats(rid=1))
        return int(json.loads(found["text"])["sessions"])

    async def until_away(self, device: Device, *, vanished: bool = False) -> None:
        """Let a device leave, and wait until the node has noticed."""
        before = await self.sessions()
        await (self.vanish(device) if vanished else self.leave(device))
        with anyio.fail_after(SECONDS_MAX):
            while await self.sessions() >= before:
                await anyio.lowlevel.checkpoint()

    async def settle(self, *devices: Device, app_key: str = APP) -> None:
        """Wait until devices have heard all that was to be said up to now.

        A stranger writes to each: the node says everything in order, so what came before the stranger's
        text is all. The stranger's texts stay unread.
        """
        async with self._making_beat:
            if app_key not in self._beat:
                (stranger,) = await self.people("stranger", app_key=app_key)
                self._beat[app_key] = await self.device(stranger, app_key=app_key, delivery=False)
                self._devices.remove(self._beat[app_key])
        for user in {device.user for device in devices}:
            text = f"beat {next(_numbers)}"
            await self._beat[app_key].text(user, text)
            for device in devices:
                if device.user == user:
                    await device.heard_of("onTextMessage", msg=text)

    async def unread(self, device: Device) -> dict[str, int]:
        """The server's unread counts of a user, by conversation; strangers left out."""
        found = await device.call("getServerConversations", {"pageSize": 50, "cursor": ""})
        return {
            chat["conversationId"]: chat["unReadCount"]
            for chat in found["data"]["conversations"]
            if not chat["conversationId"].startswith("stranger")
        }

    async def group(self, owner: Device, *members: str, admins: tuple[str, ...] = ()) -> str:
        """A new group, by the SDK's own calls; its id."""
        made = await owner.call(
            "createGroup",
            {
                "data": {
                    "groupname": "team",
                    "desc": "",
                    "members": list(members),
                    "public": True,
                    "approval": False,
                    "allowinvites": True,
                    "inviteNeedConfirm": False,
                    "maxusers": 200,
                }
            },
        )
        group = str(made["data"]["groupid"])
        for admin in admins:
            await owner.call("setGroupAdmin", {"groupId": group, "username": admin})
        return group


def numbered(to: str, numbers: range) -> list[dict[str, Any]]:
    """Texts that name their number, for `Device.send_all`."""
    return [
        {"type": "txt", "chatType": "singleChat", "to": to, "msg": f"number {number}"} for number in numbers
    ]


def location(statistic: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The `group_ack` of what `onStatisticMessage` was given."""
    found: list[dict[str, Any]] = json.loads(statistic["location"])["group_ack"]
    return found
