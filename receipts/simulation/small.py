"""Small worlds, exhaustively: everything that two users with two devices each can do in a few operations.

    found = exhaust(operations=3)

PURE. The worlds are those of `world`, with all of its checks; only who picks the next step differs. The
command and its processes are in `exhaustive`.

What is done. One conversation, in which a message was sent and heard by all. From there every sequence of
operations, on every device. A device may be *away* while it acts, once or several times: what it says arrives
when it comes back, before any later operation or after the last, and until then it hears of nothing. So
operations arrive in every order in which they could, whatever those who acted knew.

Once in a sequence something may crash, at every point where that makes a difference: the node while commands
are on their way, decided, half written, durable, or told; the device that acts, or comes back, before and
after it has stored what it says; every device that is there before and after it has heard, with or without
its disk. Who crashed comes back, what it had said comes late, and it goes on.

Every state that is new is healed, in a copy, and then all have to agree.

What is folded, and why nothing is lost by it:

- Users are alike, so the first message is alice's. Of two devices of a user of which the same is known the
  first acts, and the first crashes of those that only hear: what the other one could do is the same with
  their names exchanged.
- States that are equal in everything that anybody could notice are gone on from once: what happened (as the
  oracle keeps it), what each device knows and has not said, and who is away. A state in which nothing has
  crashed yet is gone on from even if an equal one was, in which something has. After fewer operations comes
  first: levels are gone through in order, and in each whoever is away comes back before anybody acts.
- A device does not come back right after the operation with which it left: that is as if it had been there.
  So with everybody there the last operation is not done in absence.
- A device does not crash while it is away, but when it comes back: nobody can tell before.
- A crash of the node leaves behind what is on its disk and what it has told. So a command that was lost on
  its way and one that was decided and not written need only one crash, and so do one that was written and is
  kept, and one that is durable and not told.
- An operation that nobody could tell from none has no crashes of its own: nothing is on its way, so they are
  those of an operation before or after.

What is left out: who comes back after the *last* operation does so without a crash. With crashes it is done
by a run of one operation more.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
from collections import deque
from collections.abc import Callable, Iterator
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
    Late,
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
    """How many of them with a crash."""
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


Progress = Callable[[Exhausted, int, int, int], None]
"""Called with what was found up to now, at which operation of a sequence it is (from 1), from how many states
that one was done, and from how many it will be."""

_Trail = tuple[Any, Step] | None
"""Steps from the beginning of a world, the last one first: (the ones before, step)."""


class _State(NamedTuple):
    """A state to go on from, any number of times."""

    frozen: bytes
    """The world."""
    trail: _Trail
    crashed: bool
    """Whether something has crashed on the way here."""
    absent: tuple[str, ...]
    """Devices that are away."""
    left: str | None
    """The one that has just gone away, if it is the last that happened."""


class _Place(NamedTuple):
    """A world to go on with, once."""

    world: World
    trail: _Trail
    crashed: bool
    left: str | None = None


def exhaust(
    operations: int,
    *,
    away: bool = True,
    crashes: bool = True,
    part: int = 0,
    parts: int = 1,
    progress: Progress | None = None,
) -> Exhausted:
    """Do everything.

    Args:
        operations: How many there are in a sequence, at most.
        away: Whether devices may act while they are away.
        crashes: Whether one crash may happen in a sequence.
        part, parts: Which of so many shares of the last operation; the sums of all are the whole, but for
            states that two shares meet.
        progress: Called after every state that was gone on from.
    """
    return _Search(operations, away, crashes, progress).run(part, parts)


class _Search:
    """One run."""

    def __init__(self, operations: int, away: bool, crashes: bool, progress: Progress | None) -> None:
        self._found = Exhausted(operations=operations)
        self._away, self._crashes = away, crashes
        self._progress = progress
        self._seen: dict[bytes, bool] = {}
        """States that were met, and whether something had crashed by then."""
        self._trail: _Trail = None
        """Of the world in hand."""

    def run(self, part: int, parts: int) -> Exhausted:
        """Level by level: all states after one operation, then all after two, and so on. Shares differ in the
        last level, which is nearly all of the work; what comes before it is the first one's to count."""
        try:
            frontier = [_freeze(self._beginning())]
            for level in range(1, self._found.operations + 1):
                last = level == self._found.operations
                if last:
                    frontier = frontier[part::parts]
                    if part > 0:
                        self._found = Exhausted(operations=self._found.operations)
                frontier = self._level(self._all_returns(frontier, self._crashes), level, last)
        except Violation as violation:
            self._found.violation = violation
            self._found.steps = _steps_of(self._trail)
        return self._found

    def _level(self, frontier: list[_State], level: int, last: bool) -> list[_State]:
        """From all of these states by one operation. After the last one whoever is away comes back at once;
        there is nothing to go on from then."""
        following: list[_State] = []
        for index, state in enumerate(frontier):
            for name, device in self._choices(state):
                for after in self._operation(state, name, device, last):
                    new = self._met(after)
                    if new is not None and last:
                        self._all_returns([new], False)
                    elif new is not None:
                        following.append(new)
            if self._progress is not None:
                self._progress(self._found, level, index + 1, len(frontier))
        return following

    def _all_returns(self, states: list[_State], crashes: bool) -> list[_State]:
        """These states, and those in which some who were away have come back, one after the other. Who has
        just left does not: that would be as if it had not been away."""
        everything = list(states)
        waiting = deque(state for state in states if state.absent)
        while waiting:
            state = waiting.popleft()
            for device in state.absent:
                if device == state.left:
                    continue
                for after in self._return(state, device, crashes):
                    new = self._met(after)
                    if new is not None:
                        everything.append(new)
                        waiting.append(new)
        return everything

    # -- the world in hand

    def _do(self, world: World, *steps: Step) -> None:
        for step in steps:
            self._trail = (self._trail, step)
            world.do(step)

    def _beginning(self) -> _Place:
        self._trail = None
        world = World(CAST)
        self._settle(world)
        self._do(world, _send(world, _DEVICES[0]))
        self._settle(world)
        return _Place(world, self._trail, False)

    def _settle(self, world: World) -> None:
        """Everybody who is not away says and hears everything, and comes back from a crash."""
        self._do(world, StartNode())
        for _ in range(ROUNDS_MAX):
            if self._round(world):
                continue
            wait_ms = _patience_ms(world)
            if wait_ms is not None:
                self._do(world, Wait(wait_ms))
            elif not self._late(world):
                return
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

    def _late(self, world: World) -> bool:
        """What a device had said before it crashed arrives, after what it said since. Returns whether there
        was anything."""
        found = False
        for label, device in world.devices.items():
            while world.late[label] and not device.frozen:
                found = True
                self._do(world, Late(label, ALL))
        return found

    def _take(self, state: _State) -> _Place:
        world: World = pickle.loads(state.frozen)
        assert world.checks is not None
        world.checks.copied()
        self._trail = state.trail
        return _Place(world, state.trail, state.crashed)

    # -- what can happen next

    def _choices(self, state: _State) -> list[tuple[str, str]]:
        """Operations and devices; of two devices that are alike, the first."""
        place = self._take(state)
        devices = _different(place.world)
        _discard(place.world)
        return [(name, device) for name in ALPHABET for device in devices]

    def _operation(self, state: _State, name: str, device: str, last: bool) -> Iterator[_Place]:
        """One operation on a device: at once, in absence, and with every crash."""
        place = self._take(state)
        act = ALPHABET[name](place.world, device)
        if device in state.absent:  # it goes on being away
            yield self._acted(place, [act, Save(device)])
            return
        before = _fingerprint(place.world)
        around = _Around(place.world, device)
        after = self._acted(place, [act])
        changed = _fingerprint(after.world) != before
        yield after
        if self._away and (state.absent or not last):
            gone = self._acted(self._take(state), [Freeze(device), act, Save(device)])
            yield gone._replace(left=device)
        if self._crashes and changed and not state.crashed:
            yield from self._crashing(state, _acting(act, around))

    def _return(self, state: _State, device: str, crashes: bool) -> Iterator[_Place]:
        """A device comes back: without a crash, and with every one."""
        place = self._take(state)
        around = _Around(place.world, device)
        yield self._acted(place, [Thaw(device)])
        if crashes and not state.crashed:
            yield from self._crashing(state, _returning(device, around))

    def _acted(self, place: _Place, steps: list[Step]) -> _Place:
        self._do(place.world, *steps)
        self._settle(place.world)
        self._found.paths += 1
        return place._replace(trail=self._trail)

    def _crashing(self, state: _State, stages: Iterator[_Stage]) -> Iterator[_Place]:
        """Stage by stage, with a crash after each."""
        place = self._take(state)
        for stage, crashes in stages:
            self._do(place.world, *stage)
            point = _freeze(_Place(place.world, self._trail, True))
            for crash in crashes:
                self._found.crashes += 1
                again = StartDevice(crash.device) if isinstance(crash, CrashDevice) else StartNode()
                yield self._acted(self._take(point), [crash, again])
            self._trail = point.trail
        _discard(place.world)

    # -- what came of it

    def _met(self, place: _Place) -> _State | None:
        """A state to go on from, if nothing equal was met; then it is healed, and all have to agree. Uses
        the world up."""
        known = _fingerprint(place.world)
        state = None
        if self._seen.get(known, 2) > place.crashed:  # else at least as much may still happen from there
            self._seen[known] = place.crashed
            self._found.states += 1
            state = _freeze(place)
            self._trail = place.trail
            place.world.heal()
        _discard(place.world)
        return state


_Stage = tuple[list[Step], list[CrashDevice | CrashNode]]
"""What is done up to a point, and who crashes there."""


class _Around:
    """Who notices what a device does.

    Args:
        world: In which it is going to do it.
    """

    def __init__(self, world: World, device: str) -> None:
        self.there = [one for one in _DEVICES if one == device or not world.devices[one].frozen]
        """All who are not away, in the order of the cast."""
        different = _different(world, but=device)
        self.crashing = [one for one in self.there if one in (device, *different)]
        """Of two that hear the same, the first."""


def _acting(act: Act, around: _Around) -> Iterator[_Stage]:
    """An operation of somebody who is connected, cut where a crash can make a difference."""
    device = act.device
    yield [act], [CrashDevice(device)]  # nothing is stored yet
    yield [Save(device)], [CrashDevice(device), CrashDevice(device, "lose"), CrashNode()]
    yield from _on_its_way(device, around)


def _returning(device: str, around: _Around) -> Iterator[_Stage]:
    """Somebody comes back, likewise. Nothing of what is on its way, in both directions, has arrived yet."""
    yield [Thaw(device)], [CrashDevice(device), CrashDevice(device, "lose"), CrashNode()]
    yield from _on_its_way(device, around)


def _on_its_way(device: str, around: _Around) -> Iterator[_Stage]:
    """What a device has said, until all have heard of it."""
    # decided, and half written
    yield [Deliver(device, True, ALL), Tick(), Store(1, "written")], [CrashNode("tear"), CrashNode("keep")]
    yield [Store()], [CrashDevice(device)]  # durable, and not told
    # told, and not heard
    yield [Release(ALL)], [CrashNode(), *(CrashDevice(one, "lose") for one in around.crashing)]
    heard: list[Step] = [Deliver(one, False, ALL) for one in around.there]
    yield heard, [CrashNode(), *(CrashDevice(one) for one in around.crashing)]  # and not stored


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


def _steps_of(trail: _Trail) -> list[Step]:
    steps = []
    while trail is not None:
        trail, step = trail
        steps.append(step)
    return steps[::-1]


# -- states


def _freeze(place: _Place) -> _State:
    """A state from which the world can be had again and again."""
    file = io.BytesIO()
    _Freezer(file, protocol=5).dump(place.world)
    absent = tuple(label for label, device in place.world.devices.items() if device.frozen)
    return _State(file.getvalue(), place.trail, place.crashed, absent, place.left)


def _discard(world: World) -> None:
    """A world is full of circles. They are cut, so that its memory is free at once and not only when somebody
    collects it."""
    node, checks = world.node, world.checks
    parts: list[object] = [*world.devices.values(), world]
    if node is not None:
        parts += [node.hub.world, node.hub, node.pipeline, node]
    if checks is not None:
        parts += [checks.oracle, checks.watch, checks]
    for one in parts:
        vars(one).clear()


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


def _fingerprint(world: World) -> bytes:
    """All that anybody could notice, without ticks, versions, labels and numbers of requests: they differ
    between states that come to the same. The devices of a user are alike, so their order says nothing."""
    truth, devices = _parts(world)
    return _digest(truth, [sorted(devices[one : one + 2]) for one in range(0, len(devices), 2)])


def _digest(*parts: Any) -> bytes:
    """16 bytes, which are equal for equal parts alone: a hundred million states, and the odds that any two of
    them share theirs are still one in 10^22."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


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


def _different(world: World, *, but: str | None = None) -> list[str]:
    """Devices, without the second of two of which the same is known.

    Args:
        but: One that is different by what it is going to do.
    """
    _, known = _parts(world)
    return [
        device
        for index, device in enumerate(_DEVICES)
        if index % 2 == 0 or known[index] != known[index - 1] or _DEVICES[index - 1] == but
    ]
