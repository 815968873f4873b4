"""The load generator: users on raw protocols, in a process of its own, that judge all they are told.

    python -m tests.bench.load saturated --url tcp://127.0.0.1:4000 --pid 4711 --seconds 5

It speaks with a node that `tests.bench.server` runs, writes one line of JSON and ends; with status 1 and the
reason when an update or a count was wrong. What is right is judged in `load_checks`, bytes are moved in
`load_device`, and which figure is held against which budget stands in `node`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import psutil

from receipts.core.ids import direct

from .easemob import VendorDevice, VendorReceiver, VendorSender
from .load_checks import Asker, End, Reader, Receiver, Sender, Wrong
from .load_device import Device
from .server import GROUP, group_members, user_name

__all__ = ["SCENARIOS", "Load", "main", "play"]

LIGHT_PER_SECOND = 500
WARM_UP_SECONDS = 1.0
IDLE_LINKS = (1000, 5000)
VENDOR_IDLE_LINKS = (500, 2000)
LEFT_UNREAD = 2
"""Messages at the end that nobody reads, so that the last counts are not all 0."""
PATIENCE_SECONDS = 60.0
LOGINS_AT_ONCE = 100


AnyDevice: TypeAlias = Device | VendorDevice


class Load:
    """One run: its devices, its window, and what went wrong.

    Args:
        url: Of the node: `tcp://`, `ws://`, or `easemob://` for the vendor's dialect.
        pid: Of the node, whose CPU time is measured.
    """

    def __init__(self, url: str, pid: int) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname or "", parts.port or 0
        self._scheme = parts.scheme
        self._process = psutil.Process(pid)
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.devices: list[AnyDevice] = []
        self.again = False
        """Whether a round that is finished begins another one."""
        self.latencies: list[float] = []
        """Of the rounds that were finished, in seconds."""
        self._unsettled: set[AnyDevice] = set()
        self._settled: asyncio.Future[None] | None = None

    # -- what devices call

    def fail(self, error: BaseException) -> None:
        """End the run."""
        if not self._failed.done():
            self._failed.set_exception(error)

    def heard(self, device: AnyDevice) -> None:
        """Count what is finished, begin what is due."""
        end = device.end
        if not isinstance(end, Sender | Asker):
            return
        finished = end.finished()
        if finished:
            now = time.perf_counter()
            self.latencies += [now - began for began in finished]
            if self.again:
                device.begin(now, len(finished))
        if self._settled is not None and end.settled:
            self._unsettled.discard(device)
            if not self._unsettled and not self._settled.done():
                self._settled.set_result(None)

    # -- what scenarios call

    async def until(self, done: Awaitable[Any], patience: float = PATIENCE_SECONDS) -> None:
        """Wait for something, unless the run fails before.

        Raises:
            Wrong: What came was wrong, or not all came in time.
        """
        waiting = asyncio.ensure_future(done)
        await asyncio.wait([waiting, self._failed], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done() and not self._failed.done():
            waiting.result()
            return
        waiting.cancel()
        await asyncio.wait([waiting])
        if self._failed.done():
            self._failed.result()
        raise Wrong(f"something did not come within {patience:.0f} s")

    async def pass_time(self, seconds: float) -> None:
        """Let the load run."""
        await self.until(asyncio.sleep(seconds), seconds + PATIENCE_SECONDS)

    def pair(self, alice: str, bob: str) -> tuple[Sender, Receiver]:
        """The two ends of a conversation."""
        chat = direct(alice, bob)
        if self._scheme == "easemob":
            return VendorSender(alice, bob, chat), VendorReceiver(bob, alice, chat)
        return Sender(alice, bob, chat), Receiver(bob, alice, chat)

    def _device(self, end: End) -> AnyDevice:
        if self._scheme == "easemob":
            return VendorDevice(self, end, self._address)
        return Device(self, end, websocket=self._scheme == "ws")

    async def log_in(self, ends: Sequence[End]) -> list[AnyDevice]:
        """A device for each, logged in."""
        made = [self._device(end) for end in ends]
        self.devices += made
        for start in range(0, len(made), LOGINS_AT_ONCE):
            some = made[start : start + LOGINS_AT_ONCE]
            await self.until(asyncio.gather(*map(self._connect, some)))
        return made

    async def _connect(self, device: AnyDevice) -> None:
        host, port = self._address
        await asyncio.get_running_loop().create_connection(lambda: device, host, port)
        await device.live

    async def settle(self) -> None:
        """Begin nothing more, and wait until everything that was begun has come to its end."""
        self.again = False
        ends = [(device, device.end) for device in self.devices]
        self._unsettled = {d for d, end in ends if isinstance(end, Sender | Asker) and not end.settled}
        if self._unsettled:
            self._settled = asyncio.get_running_loop().create_future()
            await self.until(self._settled)
            self._settled = None

    async def check_counts(self) -> None:
        """Of every user, in the end."""
        for start in range(0, len(self.devices), LOGINS_AT_ONCE):
            some = self.devices[start : start + LOGINS_AT_ONCE]
            await self.until(asyncio.gather(*(device.check_counts() for device in some)))

    async def window(self, seconds: float) -> dict[str, Any]:
        """What the node and this process spend while the load runs."""
        self.latencies.clear()
        begin, spent, own = time.monotonic(), self.cpu_seconds(), time.process_time()
        await self.pass_time(seconds)
        rounds = len(self.latencies)
        end, spent, own = time.monotonic(), self.cpu_seconds() - spent, time.process_time() - own
        latencies = sorted(self.latencies)
        if not rounds:
            raise Wrong("not one round was finished")
        return {
            "begin": begin,
            "end": end,
            "rounds": rounds,
            "rounds_per_second": rounds / (end - begin),
            "cpu_us": spent / rounds * 1e6,
            "server_cpu": spent / (end - begin),
            "generator_cpu": own / (end - begin),
            "p50_ms": latencies[rounds // 2] * 1e3,
            "p99_ms": latencies[rounds * 99 // 100] * 1e3,
        }

    def cpu_seconds(self) -> float:
        """User and system time of the node's whole process tree up to now."""
        tree = [self._process, *self._process.children(recursive=True)]
        times = [process.cpu_times() for process in tree]
        return sum(spent.user + spent.system for spent in times)

    def memory_kib(self) -> float:
        """The node's resident memory."""
        return float(self._process.memory_info().rss) / 1024

    def close(self) -> None:
        """Hang up."""
        for device in self.devices:
            device.close()
        if not self._failed.done():
            self._failed.cancel()


# -- scenarios


async def _pairs(load: Load, count: int) -> tuple[list[AnyDevice], list[Receiver]]:
    senders: list[Sender] = []
    receivers: list[Receiver] = []
    for number in range(count):
        sender, receiver = load.pair(user_name(2 * number), user_name(2 * number + 1))
        senders.append(sender)
        receivers.append(receiver)
    await load.log_in(receivers)
    return await load.log_in(senders), receivers


async def _finish(load: Load, senders: Sequence[AnyDevice], receivers: Sequence[Receiver]) -> None:
    """Come to rest, leave something unread, and compare all counts."""
    await load.settle()
    for receiver in receivers:
        receiver.reads = False
    for device in senders:
        assert isinstance(device.end, Sender)
        device.end.left = LEFT_UNREAD
        device.begin(0.0, LEFT_UNREAD)
    await load.settle()
    await load.check_counts()


async def closed_loop(load: Load, seconds: float, *, pairs: int, outstanding: int) -> dict[str, Any]:
    """Each pair keeps up as many rounds; a finished one begins the next."""
    senders, receivers = await _pairs(load, pairs)
    load.again = True
    now = time.perf_counter()
    for device in senders:
        device.begin(now, outstanding)
    await load.pass_time(min(WARM_UP_SECONDS, seconds))
    found = await load.window(seconds)
    await _finish(load, senders, receivers)
    return found


async def open_loop(load: Load, seconds: float, *, pairs: int, per_second: int) -> dict[str, Any]:
    """Rounds begin at even times, whatever became of those before."""
    senders, receivers = await _pairs(load, pairs)
    loop = asyncio.get_running_loop()
    began = loop.time()
    number = 0
    timer: asyncio.Handle

    def begin() -> None:
        nonlocal number, timer
        senders[number % pairs].begin(time.perf_counter())
        number += 1
        timer = loop.call_at(began + number / per_second, begin)

    timer = loop.call_soon(begin)
    await load.pass_time(min(WARM_UP_SECONDS, seconds))
    found = await load.window(seconds)
    timer.cancel()
    await _finish(load, senders, receivers)
    return found


async def group(load: Load, seconds: float) -> dict[str, Any]:
    """One member asks, all others read, and when the last is counted the next message goes out."""
    names = group_members()
    asker = Asker(names[0], GROUP, frozenset(names[1:]))
    await load.log_in([Reader(name, names[0], GROUP) for name in names[1:]])
    (device,) = await load.log_in([asker])
    load.again = True
    device.begin(time.perf_counter())
    await load.pass_time(min(WARM_UP_SECONDS, seconds))
    found = await load.window(seconds)
    await load.settle()
    assert isinstance(device, Device)
    device.say([asker.send(0.0, asks=False) for _ in range(LEFT_UNREAD)])
    await load.settle()
    await load.check_counts()
    return found


class _Idler(Reader):
    """A user to whom nothing happens."""


async def idle(load: Load, seconds: float, sizes_of: tuple[int, int] = IDLE_LINKS) -> dict[str, Any]:
    """Links that are logged in and silent: first some, then more."""
    sizes = []
    for links in sizes_of:
        known = len(load.devices)
        await load.log_in([_Idler(user_name(number), "", "") for number in range(known, links)])
        await load.pass_time(min(seconds, 1.0))
        sizes.append(load.memory_kib())
    return {"kib_per_link": (sizes[1] - sizes[0]) / (sizes_of[1] - sizes_of[0]), "rss_kib": sizes[1]}


async def one_login(load: Load, seconds: float) -> dict[str, Any]:
    """When the first user is logged in."""
    await load.log_in([_Idler(user_name(0), "", "")])
    return {"at": time.monotonic()}


Scenario = Callable[[Load, float], Awaitable[dict[str, Any]]]

SCENARIOS: dict[str, Scenario] = {
    "saturated": lambda load, seconds: closed_loop(load, seconds, pairs=100, outstanding=4),
    "w1": lambda load, seconds: closed_loop(load, seconds, pairs=1000, outstanding=1),
    "light": lambda load, seconds: open_loop(load, seconds, pairs=100, per_second=LIGHT_PER_SECOND),
    "group": group,
    "idle": idle,
    "vendor_idle": lambda load, seconds: idle(load, seconds, VENDOR_IDLE_LINKS),
    "login": one_login,
}
"""What can be played, by name."""


async def play(scenario: Scenario, url: str, pid: int, seconds: float) -> dict[str, Any]:
    """Play a scenario to its end.

    Raises:
        Wrong: An update or a count was.
    """
    load = Load(url, pid)
    try:
        return await scenario(load, seconds)
    finally:
        load.close()


def main() -> int:
    """Play one scenario and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--cpu", type=int, help="run on this CPU alone")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    import uvloop

    try:
        found = uvloop.run(play(SCENARIOS[options.scenario], options.url, options.pid, options.seconds))
    except Wrong as error:
        print(f"wrong: {error}", file=sys.stderr)
        return 1
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
