"""Small worlds, exhaustively: everything that two users with two devices each can do in a few operations.

    found = exhaust(operations=3)
    python -m receipts.simulation.exhaustive --operations 4

PURE. The worlds are those of `world`, with all of its checks; only who picks the next step differs. One
conversation, in which a message was sent and heard by all. From there every sequence of operations is done,
on every device. A device may be *away* while it acts: what it says arrives when it comes back, before any
later operation or at the end, and until then it hears of nothing. So operations arrive in every order in
which they could, whatever those who acted knew.

Once in a sequence something may crash, at every point where that makes a difference: the node while a command
is on its way, decided, half written, durable, or told; a device before and after it has stored what it does
or hears, with or without its disk. Who crashed comes back, and it goes on.

After every sequence everything is healed and all have to agree.

What is folded: users are alike, so the first message is alice's; of two devices of a user that are alike the
first acts; and states that are equal in everything that anybody could notice are gone on from once. Equal
means: what happened (as the oracle keeps it), what each device knows and has not said, and who is away.
"""

from __future__ import annotations

import argparse
import io
import pickle
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from types import FunctionType
from typing import Any, NamedTuple

import attrs

from receipts.client.session import Profile, State
from receipts.core.policy import Features, GroupPolicy, Limits

from .cast import AppCast, Cast, DeviceCast, UserCast
from .device import SimulatedDevice
from .steps import (
    Act,
    CrashDevice,
    CrashNode,
    Deliver,
    Freeze,
    Release,
    Save,
    StartDevice,
    StartNode,
    Step,
    Store,
    Thaw,
    Tick,
    Turn,
    Wait,
    text_of,
)
from .violation import Violation
from .world import World

__all__ = ["ALPHABET", "CAST", "Exhausted", "exhaust"]

CHAT = "alice~bob"
ALL = 1 << 30
ROUNDS_MAX = 200
"""Of settling: a few round trips for each of a few operations."""

SOON_MS = 5000
"""Longer than it takes to connect again, shorter than a heartbeat."""

CAST = Cast(
    apps=(AppCast(app="default"),),
    users=tuple(UserCast(app="default", user=user) for user in ("alice", "bob")),
    devices=tuple(
        DeviceCast(app="default", user=user, name=name, storage=True, coalesce_ms=0)
        for user in ("alice", "bob")
        for name in ("phone", "tablet")
    ),
)
"""Two users, two devices each, which keep what they know and say at once what is to be said."""

_DEVICES = tuple(f"{one.user}/{one.name}" for one in CAST.devices)


def _send(world: World, device: str) -> Act:
    return Act(device, "send", (CHAT, 0, False, False))


def _read(world: World, device: str) -> Act:
    return Act(device, "read", (CHAT, 0))


def _mark(world: World, device: str) -> Act:
    return Act(device, "mark", (CHAT, 1))


def _recall(world: World, device: str) -> Act:
    """The user's newest message that the device knows; else one that is not theirs, which is refused."""
    replica = world.devices[device].session.replica
    own = [one.seq for one in replica.messages(CHAT) if one.author == replica.user]
    return Act(device, "recall", (CHAT, own[-1] if own else 1))


def _toggle(world: World, device: str) -> Act:
    """Reads are no longer shared, or are again."""
    sharing = world.devices[device].session.replica.member(CHAT).sharing
    return Act(device, "share", (CHAT, None, not sharing.read))


def _clear(world: World, device: str) -> Act:
    return Act(device, "clear", (CHAT, 0))


ALPHABET: dict[str, Callable[[World, str], Act]] = {
    "send": _send,
    "read": _read,
    "mark unread": _mark,
    "recall": _recall,
    "share or not": _toggle,
    "clear": _clear,
}
"""What users do: name → the step, as the device that does it sees things."""


@attrs.define
class Exhausted:
    """What an exhaustive run came to."""

    operations: int
    """At most this many in a sequence."""
    paths: int = 0
    """Sequences that were done to their end: operations, devices, absences, crashes."""
    crashes: int = 0
    """Points at which something crashed; those that leave the same behind are gone on from once."""
    states: int = 0
    """Different ones, each healed; all others were equal to one of them."""
    violation: Violation | None = None
    steps: list[Step] = attrs.Factory(list)
    """The trace that ends in it, for `replay` with `CAST`."""

    def __add__(self, other: Exhausted) -> Exhausted:
        """Two parts of one run."""
        wrong = self if self.violation is not None else other
        return Exhausted(
            operations=max(self.operations, other.operations),
            paths=self.paths + other.paths,
            crashes=self.crashes + other.crashes,
            states=self.states + other.states,
            violation=wrong.violation,
            steps=wrong.steps,
        )


class _Place(NamedTuple):
    """A state to go on from."""

    world: World
    steps: list[Step]
    """From the beginning of the world."""
    crashed: bool


def exhaust(
    operations: int,
    *,
    away: bool = True,
    crashes: bool = True,
    part: int = 0,
    parts: int = 1,
    progress: Callable[[Exhausted], None] | None = None,
) -> Exhausted:
    """Do everything.

    Args:
        operations: How many there are in a sequence, at most.
        away: Whether devices may act while they are away.
        crashes: Whether one crash may happen in a sequence.
        part, parts: Which of so many shares of the first operations; the sums of all are the whole, but for
            states that two shares meet.
        progress: Called now and then.
    """
    return _Search(operations, away, crashes, progress).run(part, parts)


class _Search:
    """One run."""

    def __init__(
        self, operations: int, away: bool, crashes: bool, progress: Callable[[Exhausted], None] | None
    ) -> None:
        self._found = Exhausted(operations=operations)
        self._away, self._crashes = away, crashes
        self._progress = progress
        self._seen: dict[Any, bool] = {}
        """States that were met, and whether something had crashed by then."""
        self._steps: list[Step] = []
        """Of the world in hand."""

    def run(self, part: int, parts: int) -> Exhausted:
        """Level by level: all states after one operation, then all after two, and so on. Shares differ in the
        last level, which is nearly all of the work; what comes before it is the first one's to count."""
        found = self._found
        try:
            frontier = [_freeze(self._beginning())]
            for done in range(found.operations):
                last = done == found.operations - 1
                if last:
                    frontier = frontier[part::parts]
                    if part > 0:
                        found = self._found = Exhausted(operations=found.operations)
                frontier = self._level(frontier, last)
        except Violation as violation:
            found.violation = violation
            found.steps = self._steps
        return found

    def _level(self, frontier: list[bytes], last: bool) -> list[bytes]:
        """From all of these states by one operation; those that devices come back to are among them."""
        following: list[bytes] = []
        waiting = deque(frontier)
        while waiting:
            frozen = waiting.popleft()
            place = self._take(frozen)
            for after in self._returns(frozen, self._absent(place.world)):
                if self._is_new(after):
                    waiting.append(_freeze(after))
            for name, device in self._choices(place):
                for after in self._operation(frozen, name, device, last):
                    if self._is_new(after) and not last:
                        following.append(_freeze(after))
        return following

    # -- the world in hand

    def _do(self, world: World, *steps: Step) -> None:
        for step in steps:
            self._steps.append(step)
            world.do(step)

    def _beginning(self) -> _Place:
        self._steps = []
        world = World(CAST)
        self._settle(world)
        self._do(world, _send(world, _DEVICES[0]))
        self._settle(world)
        return _Place(world, self._steps, False)

    def _settle(self, world: World) -> None:
        """Everybody who is not away says and hears everything, and comes back from a crash."""
        self._do(world, StartNode())
        for _ in range(ROUNDS_MAX):
            if self._round(world):
                continue
            wait_ms = _patience_ms(world)
            if wait_ms is None:
                return
            self._do(world, Wait(wait_ms))
        raise Violation("I-24", "it does not come to rest")

    def _round(self, world: World) -> bool:
        """Everything moves on by one place. Returns whether there was anything."""
        found = False
        node = world.node
        if node is not None and node.busy:
            found = True
            self._do(world, Turn())
        for label, device in world.devices.items():
            if not device.running or device.session.state is State.CLOSED:
                found = True
                self._do(world, StartDevice(label))
            link = device.link
            if link is not None and not device.frozen:
                if link.up or (link.node_gone and link.session is not None):
                    found = True
                    self._do(world, Deliver(label, True, ALL))
                if link.down or link.node_gone:
                    found = True
                    self._do(world, Deliver(label, False, ALL))
            if device.writing is not None:
                found = True
                self._do(world, Save(label))
        return found

    # -- what can happen next

    def _choices(self, place: _Place) -> Iterator[tuple[str, str]]:
        """Operations and devices; of two devices that are alike, the first."""
        _, known = _parts(place.world)
        for name in ALPHABET:
            for index, device in enumerate(_DEVICES):
                if index % 2 == 0 or known[index] != known[index - 1]:
                    yield name, device

    def _absent(self, world: World) -> list[str]:
        return [label for label, device in world.devices.items() if device.frozen]

    def _returns(self, frozen: bytes, absent: list[str]) -> Iterator[_Place]:
        """An absent device comes back."""
        for device in absent:
            place = self._take(frozen)
            self._do(place.world, Thaw(device))
            self._settle(place.world)
            yield place._replace(steps=self._steps)

    def _take(self, frozen: bytes) -> _Place:
        place: _Place = pickle.loads(frozen)
        assert place.world.checks is not None
        place.world.checks.copied()
        self._steps = place.steps
        return place

    def _operation(self, frozen: bytes, name: str, device: str, last: bool) -> Iterator[_Place]:
        """One operation on a device: at once, in absence, and with every crash."""
        place = self._take(frozen)
        act = ALPHABET[name](place.world, device)
        before = _fingerprint(place.world)
        if place.world.devices[device].frozen:  # it goes on being away
            yield self._acted(place, [act, Save(device)])
            return
        after = self._acted(place, [act])
        changed = _fingerprint(after.world) != before  # else a crash is one without an operation
        yield after
        if self._away and not last:  # at the end it comes back, and then it is as if it had not been away
            yield self._acted(self._take(frozen), [Freeze(device), act, Save(device)])
        if self._crashes and changed and not place.crashed:
            yield from self._crashing(frozen, act)

    def _acted(self, place: _Place, steps: list[Step]) -> _Place:
        self._do(place.world, *steps)
        self._settle(place.world)
        self._found.paths += 1
        return place._replace(steps=self._steps)

    def _crashing(self, frozen: bytes, act: Act) -> Iterator[_Place]:
        """The operation, stage by stage, with a crash after each. Crashes that leave the same behind (a
        command that was lost on its way, or with the node's memory) are gone on from once."""
        place = self._take(frozen)._replace(crashed=True)
        left_behind: set[Any] = set()
        for stage, crashes in _stages(act):
            self._do(place.world, *stage)
            point = _freeze(place._replace(steps=self._steps))
            steps = self._steps
            for crash in crashes:
                after = self._take(point)
                self._found.crashes += 1
                again: Step = StartNode()
                if isinstance(crash, CrashDevice):
                    again = StartDevice(crash.device)
                self._do(after.world, crash, again)
                left = _left_behind(after.world)
                if left not in left_behind:
                    left_behind.add(left)
                    yield self._acted(after, [])
            self._steps = steps

    # -- what came of it

    def _is_new(self, place: _Place) -> bool:
        """Whether nothing equal was met; if so it is healed, and all have to agree."""
        if self._progress is not None and self._found.paths % 100 == 0:
            self._progress(self._found)
        known = _fingerprint(place.world)
        if self._seen.get(known, 2) <= place.crashed:
            return False  # and from there at least as much may still happen
        self._seen[known] = place.crashed
        self._found.states += 1
        absent = bool(self._absent(place.world))
        world = self._take(_freeze(place)).world if absent else place.world
        world.heal()
        self._steps = place.steps
        return True


def _stages(act: Act) -> Iterator[tuple[list[Step], list[Step]]]:
    """An operation of somebody who is connected, cut where a crash can make a difference: what is done up to
    there, and who crashes."""
    device = act.device
    yield [act], [CrashDevice(device)]  # nothing is stored yet
    yield [Save(device)], [CrashDevice(device), CrashDevice(device, "lose"), CrashNode()]
    yield [Deliver(device, True, ALL), Tick()], [CrashNode()]  # decided
    yield [Store(1, "written")], [CrashNode("lose"), CrashNode("keep"), CrashNode("tear")]
    yield [Store()], [CrashNode(), CrashDevice(device)]  # durable, and not told
    # told, and not heard
    yield [Release(ALL)], [CrashNode(), *(CrashDevice(one, "lose") for one in _DEVICES)]
    heard: list[Step] = [Deliver(one, False, ALL) for one in _DEVICES]
    yield heard, [CrashNode(), *(CrashDevice(one) for one in _DEVICES)]  # and not stored


def _patience_ms(world: World) -> int | None:
    """How long to wait for the next thing to happen; None when all is said and heard. What is said and only
    waits to be confirmed by the next answer, whenever that comes, is not waited for."""
    times = []
    for device in world.devices.values():
        at = device.session.reconnect_at if device.link is None else device.session.wake_at
        if not device.frozen and at is not None:
            times.append(max(at - device.now_ms, 1))
    soonest = min(times, default=SOON_MS + 1)
    return soonest if soonest <= SOON_MS else None


# -- states


def _freeze(place: _Place) -> bytes:
    """A state as bytes, from which it can be had again and again."""
    file = io.BytesIO()
    _Freezer(file, protocol=5).dump(place)
    return file.getvalue()


_kept: dict[int, Any] = {}


def _kept_one(identity: int) -> Any:
    return _kept[identity]


_SHARED = frozenset({object, Cast, DeviceCast, AppCast, UserCast, Profile, Features, Limits, GroupPolicy})
"""Kinds of which nothing ever changes. Of plain objects each stands for itself."""


class _Freezer(pickle.Pickler):
    """Leaves where it is what never changes, and functions without a name of their own."""

    def reducer_override(self, one: Any) -> Any:
        kind = type(one)
        if kind in _SHARED or (kind is FunctionType and "<" in one.__qualname__):
            _kept[id(one)] = one
            return _kept_one, (id(one),)
        return NotImplemented


_RID = re.compile(r"rid=\d+, ")


def _fingerprint(world: World) -> Any:
    """All that anybody could notice, without ticks, versions, labels and numbers of requests: they differ
    between states that come to the same. The devices of a user are alike, so their order says nothing."""
    truth, devices = _parts(world)
    return truth, *(tuple(sorted(devices[one : one + 2])) for one in range(0, len(devices), 2))


def _parts(world: World) -> tuple[str, list[str]]:
    """What happened, and what is known of and by each device."""
    assert world.checks is not None
    happened = world.checks.logical()[f"default {CHAT}"]
    messages = [[author, counts, asks] for author, _, _, counts, asks in happened["messages"]]
    held = {user: dict(person[HELD]) for user, person in happened["people"].items()}
    people = {user: person[:HELD] + person[HELD + 1 :] for user, person in happened["people"].items()}
    truth = repr((messages, happened["recalled"], people))
    return truth, [_known(world, device, held) for device in world.devices.values()]


HELD = 3
"""Where `states.logical` has what the devices of somebody hold."""


def _known(world: World, device: SimulatedDevice, held: dict[str, dict[str, int]]) -> str:
    """What a device knows, and has not said."""
    assert world.checks is not None
    replica, outbox = device.session.replica, device.session.outbox
    person = world.checks.oracle.talks["default", CHAT].people[replica.user]
    mark = replica.member(CHAT).unread_mark.version
    dump = replica.dump()["conversations"].get(CHAT, {})
    for member in dump.get("members", {}).values():
        for unnoticed in ("advances", "periods", "held"):  # of what it holds the node has the last word
            member.pop(unnoticed, None)
        if "sharing" in member:
            del member["sharing"][0]
    dump["messages"] = [line[0] for line in dump.get("messages", [])]
    asks = [_RID.sub("", repr(ask)) for ask in outbox.asks.values()]
    marks = [
        (share, known >= mark, known >= person.mark_version, repr(reads.all()))
        for (share, known), reads in outbox.marks(CHAT)._reads.items()
    ]
    latest = mark >= person.mark_version
    there = held[replica.user].get(replica.device, 0) & ~person.wrote  # nobody asks about own ones
    return repr((device.frozen, there, dump, latest, asks, marks, len(outbox.sends)))


def _left_behind(world: World) -> Any:
    """What is there right after a crash and a start, with what is still on its way."""
    truth, known = _parts(world)
    devices = []
    for part, device in zip(known, world.devices.values(), strict=True):
        link = device.link
        links = [link, *world.late[device.label]] if link is not None else world.late[device.label]
        devices.append((part, link is None, [(len(one.up), len(one.down)) for one in links]))
    return repr((truth, [sorted(devices[one : one + 2]) for one in range(0, len(devices), 2)]))


# -- as a command


def _part(arguments: tuple[int, bool, bool, int, int]) -> Exhausted:
    operations, away, crashes, part, parts = arguments
    return exhaust(operations, away=away, crashes=crashes, part=part, parts=parts)


def main(arguments: list[str] | None = None) -> int:
    """Run it and print what was visited; 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--operations", type=int, default=3, help="in a sequence, at most")
    parser.add_argument("--no-away", action="store_true", help="devices are always connected")
    parser.add_argument("--no-crashes", action="store_true", help="nothing crashes")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args(arguments)
    shares = [
        (options.operations, not options.no_away, not options.no_crashes, part, options.jobs)
        for part in range(options.jobs)
    ]
    found = Exhausted(operations=options.operations)
    if options.jobs == 1:
        found = _part(shares[0])
    else:
        with ProcessPoolExecutor(options.jobs) as pool:
            for one in pool.map(_part, shares):
                found += one
    print(
        f"{found.paths} sequences of up to {found.operations} operations, {found.crashes} crash points,"
        f" {found.states} different states, each healed"
    )
    if found.violation is not None:
        print(f"{found.violation}\n{found.violation.details}")
        print(*map(text_of, found.steps), sep="\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
