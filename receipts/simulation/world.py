"""A whole world: everybody of a cast, one node, the links between them, and the judge of it all.

    world = World(cast)
    for step in steps:
        world.do(step)          raises `Violation`
    world.heal()                phase two: nothing fails any more, and all must agree

Nothing happens but by steps. What is possible at a moment is `generator`'s to see, what must hold is in
`checks`; here is what each step does.
"""

from __future__ import annotations

import hashlib
import json
import traceback
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from receipts.client.session import State
from receipts.storage.codec import load_conversation
from receipts.wire.codec import Frame, decode_command
from receipts.wire.updates import Done

from .cast import Cast
from .checks import Checks
from .device import ACTS, SimulatedDevice, password_of
from .disk import NodeDisk
from .link import Link
from .node import OPERATIONS, NodeProcess
from .rogue import ROGUES, Rogue
from .steps import (
    Act,
    Clock,
    CrashDevice,
    CrashNode,
    Cut,
    Deliver,
    DiskFull,
    Duplicate,
    Freeze,
    Late,
    Operate,
    Password,
    Release,
    Save,
    Say,
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
from .words import words_of

__all__ = ["BEGINNING_MS", "Journal", "World"]

BEGINNING_MS = 1_800_000_000_000
"""True time when a world begins, in ms since 1970: any, but far from 0, because clocks are off by days."""

ALL = 1 << 30


class Journal(Protocol):
    """Somebody who writes down what happens; for reports."""

    def step(self, index: int, step: Step, now_ms: int) -> None:
        """A step is about to be done; `now_ms` is true time since the beginning. Steps of the healing have
        indices that go on after those of the trace."""

    def frame(self, number: int, source: str, target: str, what: str) -> None:
        """A frame was put on a link. `source` and `target` are labels of devices, or "node"; the number is
        unique in the world; `what` is the command or update in a few words."""

    def arrived(self, number: int) -> None:
        """The frame was handed over."""

    def lost(self, number: int) -> None:
        """The frame will never arrive."""

    def note(self, place: str, text: str) -> None:
        """Something happened at a device, or at "node", that is worth a word: a crash, a commit, a login."""


class World:
    """Everybody and everything; changed by `do` alone.

    Args:
        cast: Who there is. They are all there, the node runs and devices are on; nobody has connected yet.
        checks: Whether anything is judged; without, a world is faster and finds only exceptions.
        check_every: After how many steps everything is judged, not only what a step has touched.
        journal: Who writes down what happens.

    Raises:
        Violation: Already the beginning goes wrong.
    """

    def __init__(
        self, cast: Cast, *, checks: bool = True, check_every: int = 1000, journal: Journal | None = None
    ) -> None:
        self.cast = cast
        self.now_ms = BEGINNING_MS
        """True time."""
        self.checks = Checks() if checks else None
        self.journal = journal
        self.index = 0
        """Of the next step."""
        self.events = 0
        """Commands, delivered frames, crashes and faults up to now."""
        self.counts: dict[str, int] = {}
        """Events by kind."""
        self.disk = NodeDisk()
        self.node: NodeProcess | None = None
        self.devices = {
            cast.label(one): SimulatedDevice(one, cast.label(one), self._clock) for one in cast.devices
        }
        """By label."""
        self.late: dict[str, list[Link]] = {label: [] for label in self.devices}
        """Links that a device has given up and the node does not know to be gone, the oldest first."""
        self.rogues = {(user.app, user.user): Rogue(user.app, user.user) for user in cast.users}
        """By app and user."""
        self.lives = 0
        """How often a new life of the node's data has begun."""
        self._check_every = check_every
        self._check_at = check_every
        self._node_offset_ms = cast.node_offset_ms
        self._links = 0
        self._frames = 0
        self._crc = 0
        self._tokens: dict[tuple[str, str, int], str] = {}
        with _Judged(self):
            self._begin()

    def _clock(self) -> int:
        return self.now_ms

    def _node_clock(self) -> int:
        return self.now_ms + self._node_offset_ms

    def _begin(self) -> None:
        node = self._start_node(StartNode())
        assert node is not None
        with_password = {(one.app, one.user) for one in self.cast.devices if one.password}
        for user in self.cast.users:
            password = password_of(user.user) if (user.app, user.user) in with_password else None
            node.operate("add-user", (user.app, user.user, password))
        self._work_off(node)
        for group in self.cast.groups:
            node.operate(
                "make-group", (group.app, group.conversation, group.owner, group.admins, group.members)
            )
        self._work_off(node)
        wrong = [answer for answer in node.answers if not isinstance(answer, Done)]
        if wrong:
            raise Violation("crash", "the node does not take the cast in", "\n".join(map(str, wrong)))
        node.answers.clear()
        for device in self.devices.values():
            self._start_device(StartDevice(device.label))

    def _work_off(self, node: NodeProcess) -> None:
        while node.busy:
            self._turn(Turn())

    # -- steps

    def do(self, step: Step) -> None:
        """Let one thing happen, and judge what came of it.

        Raises:
            Violation: What must not be; the world cannot go on.
        """
        if self.journal is not None:
            self.journal.step(self.index, step, self.now_ms - BEGINNING_MS)
        with_trouble = None
        try:
            _DO[type(step)](self, step)
            self.index += 1
            if self.checks is not None and self.index >= self._check_at:
                self._check_everything(self.checks)
            return
        except Violation as violation:
            with_trouble = violation
        except Exception as error:
            with_trouble = _crash_of(error)
        with_trouble.step = self.index
        raise with_trouble

    def _check_everything(self, checks: Checks) -> None:
        """Disk and memory can be compared when the node has taken up what is durable."""
        if self.node is None or not self.node.ahead:
            self._check_at = self.index + self._check_every
            checks.everything()

    def _count(self, kind: str, events: int = 1) -> None:
        self.events += events
        self.counts[kind] = self.counts.get(kind, 0) + events

    def _note(self, place: str, text: str) -> None:
        if self.journal is not None:
            self.journal.note(place, text)

    # people

    def _act(self, step: Act) -> None:
        device = self.devices.get(step.device)
        if device is None or not device.running or device.session.state is State.CLOSED:
            return
        if step.operation not in ACTS or not device.act(step.operation, step.arguments):
            return
        self._count(step.operation)
        checks = self.checks
        if checks is not None:
            if step.operation == "read" or step.operation == "open":
                chat = step.arguments[0]
                last = step.arguments[1] if step.operation == "read" else 0
                checks.read_on(device.label, chat, last or device.session.replica.last(chat))
            else:
                checks.acted(device.label)
        device.pump()

    def _operate(self, step: Operate) -> None:
        if self.node is not None and step.operation in OPERATIONS:
            self.node.operate(step.operation, step.arguments)
            self._count(step.operation)

    def _say(self, step: Say) -> None:
        rogue = self.rogues.get((step.app, step.user))
        if self.node is not None and rogue is not None and step.operation in ROGUES:
            token = self._token(self.node, step.app, step.user)
            if rogue.say(self.node, token, step.operation, step.arguments):
                self._count(f"rogue {step.operation}")

    # links

    def _deliver(self, step: Deliver) -> None:
        device = self.devices.get(step.device)
        if device is None or device.frozen or device.link is None:
            return
        link = device.link
        if step.up:
            self._deliver_up(link, step.frames)
        elif link.down:
            frames = self._take(link, False, step.frames)
            device.receive(frames)
            self._count("frame down", len(frames))
            self._heard(device)
        elif link.node_gone:
            self._drop(device)

    def _deliver_up(self, link: Link, count: int) -> None:
        if self.node is None or link.session is None:
            return
        if link.up:
            frames = self._take(link, True, count)
            self.node.take(link.session, frames)
            self._count("frame up", len(frames))
        elif link.node_gone or link.device_gone:
            self.node.lose(link.session)
            link.session = None

    def _take(self, link: Link, up: bool, count: int) -> list[Frame]:
        """The next frames of a direction."""
        queue = link.up if up else link.down
        frames = [queue.popleft() for _ in range(min(count, len(queue)))]
        crc = self._crc
        for frame in frames:
            crc = zlib.crc32(frame if isinstance(frame, bytes) else frame.encode(), crc)
        self._crc = crc
        if self.journal is not None:
            for _ in frames:
                self.journal.arrived(link.numbers[up].popleft())
        return frames

    def _heard(self, device: SimulatedDevice) -> None:
        """A device has taken in what came: judge that, then let it answer."""
        link = device.link
        assert link is not None
        complaint = device.complaint
        if complaint is not None and not link.duplicated:
            raise Violation("crash", f"{device.label} finds that the node broke the protocol", complaint)
        if self.checks is not None:
            self.checks.heard(device.label)
        if device.gives_up:
            self._drop(device)
        else:
            device.pump()

    def _drop(self, device: SimulatedDevice) -> None:
        """A device gives its link up, or hears that it has ended."""
        link = device.link
        assert link is not None
        self._lose(link, False)
        link.device_gone = True
        if link.session is not None:
            self.late[device.label].append(link)
        device.lost()
        device.pump()

    def _lose(self, link: Link, up: bool) -> None:
        """What is on its way will not arrive."""
        (link.up if up else link.down).clear()
        if self.journal is not None:
            for number in link.numbers[up]:
                self.journal.lost(number)
            link.numbers[up].clear()

    def _late(self, step: Late) -> None:
        links = self.late.get(step.device)
        if not links or self.devices[step.device].frozen:
            return
        link = links[0]
        self._deliver_up(link, step.frames)
        if link.session is None:
            del links[0]

    def _cut(self, step: Cut) -> None:
        device = self.devices.get(step.device)
        if device is None or device.link is None:
            return
        self._count("cut")
        link = device.link
        if step.notices != "device":
            self._lose(link, True)
            if link.session is not None and self.node is not None:
                self.node.lose(link.session)
            link.session = None
        if step.notices != "node":
            self._drop(device)

    def _freeze(self, step: Freeze) -> None:
        device = self.devices.get(step.device)
        if device is not None and not device.frozen:
            device.frozen = True
            self._count("partition")

    def _thaw(self, step: Thaw) -> None:
        device = self.devices.get(step.device)
        if device is not None:
            device.frozen = False

    def _duplicate(self, step: Duplicate) -> None:
        device = self.devices.get(step.device)
        if device is None or device.link is None:
            return
        link = device.link
        queue = link.up if step.up else link.down
        if queue:
            link.duplicated = True
            self._count("duplicate")
            self._put(link, step.up, [queue[0]])

    def _put(self, link: Link, up: bool, frames: list[Frame]) -> None:
        """Frames go onto a link."""
        queue = link.up if up else link.down
        before = len(queue)
        (link.send_up if up else link.send_down)(frames)
        if self.journal is None:
            return
        here, there = (link.label, "node") if up else ("node", link.label)
        for frame in frames:
            self._frames += 1
            self.journal.frame(self._frames, here, there, _words(frame, up))
            if len(queue) > before:
                link.numbers[up].append(self._frames)
            else:
                self.journal.lost(self._frames)

    def _from_device(self, device: SimulatedDevice, link: Link, frames: list[Frame]) -> None:
        self._put(link, True, frames)

    def _from_node(self, link: Link, frames: list[Frame]) -> None:
        self._put(link, False, frames)

    # the node

    def _tick(self, step: Tick) -> None:
        if self.node is not None:
            self.node.tick()

    def _store(self, step: Store) -> None:
        if self.node is not None:
            self.node.store(step.jobs, step.outcome)
            if self.node.failed:
                self._count("disk failure")
                self._stop_node("keep" if step.outcome == "failed-kept" else "lose")

    def _release(self, step: Release) -> None:
        if self.node is not None:
            self.node.release(step.outcomes)

    def _turn(self, step: Turn) -> None:
        node = self.node
        if node is not None:
            while node.passwords:
                node.check_password()
            node.tick()
            node.store(ALL)
            node.release(ALL)

    def _password(self, step: Password) -> None:
        if self.node is not None:
            self.node.check_password()

    def _disk_full(self, step: DiskFull) -> None:
        if self.disk.full is not step.full:
            self.disk.full = step.full
            self._note("node", "the disk is full" if step.full else "the disk has room again")
            if step.full:
                self._count("disk full")

    def _crash_node(self, step: CrashNode) -> None:
        if self.node is not None:
            self._count("node crash")
            self._stop_node(step.unsynced)

    def _stop_node(self, unsynced: str) -> None:
        self.node = None
        self.disk.crash(unsynced)
        for device in self.devices.values():
            for link in [*self.late[device.label], *([device.link] if device.link is not None else [])]:
                self._lose(link, True)
                link.session, link.node_gone = None, True
            self.late[device.label].clear()
        for rogue in self.rogues.values():
            rogue.leave(None)
        self._note("node", f"crashed; unsynced: {unsynced}")
        if self.checks is not None:
            self.checks.node_gone()

    def _start_node(self, step: StartNode) -> NodeProcess | None:
        if self.node is not None:
            return None
        if step.new_life:
            self.lives += 1
            self.disk.open(now_ms=self._node_clock(), life="life", secret=b"")
            self.disk.new_life(f"life {self.lives}")
            self.disk.close()
        self.node = NodeProcess(
            self.disk,
            self.cast.apps,
            self._node_clock,
            self._clock,
            heartbeat_ms=self.cast.heartbeat_ms,
            life="life",
            checks=self.checks,
        )
        self.node.on_frames = self._from_node
        self._note("node", "started")
        return self.node

    # devices

    def _save(self, step: Save) -> None:
        device = self.devices.get(step.device)
        if device is not None and device.running and device.save():
            self._note(device.label, "saved")

    def _crash_device(self, step: CrashDevice) -> None:
        device = self.devices.get(step.device)
        if device is not None and device.running:
            self._count("device crash")
            self._end_process(device, step.storage)

    def _end_process(self, device: SimulatedDevice, storage: str) -> None:
        if device.link is not None:
            self._drop(device)
        device.crash(storage)
        self._note(device.label, "crashed" if storage == "keep" else "crashed, and lost its disk")
        if self.checks is not None:
            self.checks.device_gone(device.label)

    def _start_device(self, step: StartDevice) -> None:
        device = self.devices.get(step.device)
        if device is None:
            return
        if device.running:
            if device.session.state is not State.CLOSED:
                return
            self._end_process(device, "keep")
        kept = device.disk is not None
        device.start()
        device.on_frames = self._from_device
        self._note(device.label, "started")
        if self.checks is not None:
            self.checks.device_started(device.label, device.session, kept=kept)

    def _connect(self, device: SimulatedDevice) -> None:
        node = self.node
        if node is None or device.frozen:
            device.lost()
            return
        token = None if device.cast.password else self._token(node, device.cast.app, device.cast.user)
        if token is None and not device.cast.password:
            device.lost()  # there is no such account any more, so nobody gives it a token
            return
        self._links += 1
        link = Link(self._links, device.label)
        node.accept(link)
        self._note(device.label, "connected")
        device.connected(link, token=token)

    def _token(self, node: NodeProcess, app: str, user: str) -> str | None:
        rows = self.disk.user(app, user)
        if rows is None or rows.user.removed:
            return None
        key = (app, user, rows.user.token_epoch)
        if key not in self._tokens:
            made = node.token(app, user)
            assert made is not None
            self._tokens[key] = made
        return self._tokens[key]

    # time

    def _clock_jump(self, step: Clock) -> None:
        if step.who == "node":
            self._node_offset_ms += step.jump_ms
            self._count("clock jump")
        elif step.who in self.devices:
            self.devices[step.who].jump(step.jump_ms)
            self._count("clock jump")

    def _wait(self, step: Wait) -> None:
        self.now_ms += max(step.ms, 0)
        if self.node is not None:
            self.node.sweep_if_due()
        for device in self.devices.values():
            if not device.running:
                continue
            if device.link is not None:
                device.timer()
                if device.gives_up:
                    self._drop(device)
            elif device.wants_link:
                self._connect(device)

    # -- the second phase

    def heal(self) -> None:
        """Nothing fails any more; let everything be said, heard and written, and demand that all agree.

        Raises:
            Violation: They do not (as `Checks.at_rest` says), or it never comes to rest (I-24).
        """
        for rogue in self.rogues.values():
            rogue.leave(self.node)
        self.do(DiskFull(False))
        self.do(StartNode())
        for label, device in self.devices.items():
            if device.frozen:
                self.do(Thaw(label))
            self.do(StartDevice(label))
        starts = dict.fromkeys(self.devices, 0)
        for _ in range(ROUNDS_MAX):
            if self._round():
                continue
            for label, device in self.devices.items():
                if device.session.state is State.CLOSED and starts[label] < STARTS_MAX:
                    starts[label] += 1
                    self.do(StartDevice(label))
            wait_ms = self._patience()
            if wait_ms is None:
                break
            self.do(Wait(wait_ms))
        else:
            self._never()
        if self.checks is not None:
            with _Judged(self):
                self.checks.everything()
                self.checks.at_rest()

    def _round(self) -> bool:
        """Deliver everything once. Returns whether there was anything."""
        found = False
        node = self.node
        assert node is not None
        if node.busy:
            found = True
            self.do(Turn())
        for label, device in self.devices.items():
            while self.late[label]:
                found = True
                self.do(Late(label, ALL))
            link = device.link
            if link is not None and (link.up or (link.node_gone and link.session is not None)):
                found = True
                self.do(Deliver(label, True, ALL))
            if link is not None and (link.down or link.node_gone):
                found = True
                self.do(Deliver(label, False, ALL))
            if device.writing is not None:
                found = True
                self.do(Save(label))
        return found

    def _patience(self) -> int | None:
        """How long to wait for the next thing to happen; None when everybody is at rest."""
        times = []
        for device in self.devices.values():
            session = device.session
            if device.rests or session.state is State.CLOSED or self.locked_out(device):
                continue
            at = session.reconnect_at if device.link is None else _wakes(device)
            if at is None:
                self._never()
            else:
                times.append(max(at - device.now_ms, 1))
        return min(times, default=None)

    def locked_out(self, device: SimulatedDevice) -> bool:
        """Whether a device has nobody to log in as: its account is gone, and it has no password to try."""
        rows = self.disk.user(device.cast.app, device.cast.user)
        return not device.cast.password and device.link is None and (rows is None or rows.user.removed)

    def _never(self) -> None:
        lines = []
        for label, device in self.devices.items():
            session = device.session
            if not device.rests and session.state is not State.CLOSED:
                outbox = session.outbox
                lines.append(
                    f"{label} is {session.state.value}: {len(outbox.sends)} sends,"
                    f" {list(outbox.asks.values())}, receipts of {outbox.marked()}"
                )
        raise self._found(Violation("I-24", "healed, and it does not come to rest", "\n".join(lines)))

    def _found(self, violation: Violation) -> Violation:
        violation.step = self.index
        return violation

    # -- what it came to

    def digest(self) -> str:
        """Of everything that the node has on disk, that devices know, and that went over links: equal for
        equal runs, on every machine and in every version of Python."""
        known: dict[str, Any] = {"events": self.events, "counts": self.counts, "frames": self._crc}
        for key, app, name in self.disk.all_conversations(0, ALL):
            rows = self.disk.conversation(app, name)
            assert rows is not None
            known[f"stored {key} {app} {name}"] = load_conversation(rows).dump()
        for label, device in self.devices.items():
            known[f"device {label}"] = device.session.replica.dump()
            known[f"token {label}"] = device.session.token
        text = json.dumps(known, sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def _wakes(device: SimulatedDevice) -> int | None:
    """When a device that is linked has something to do. One that only waits until it may send again is not
    woken for every heartbeat: a message that asks may have to wait for a day."""
    outbox = device.session.outbox
    times = [pending.not_before_ms for pending in outbox.sends.values()]
    if times and min(times) > 0 and not outbox.asks and not outbox.marked():
        return min(times)
    return device.session.wake_at


ROUNDS_MAX = 5000
"""Of healing: thousands of messages at one a round trip would fit."""

STARTS_MAX = 3
"""How often a device that was turned away is started again while healing."""


class _Judged:
    """Turns what goes wrong into a `Violation` that knows its place."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Violation):
            error.step = self._world.index
        elif isinstance(error, Exception):
            raise self._world._found(_crash_of(error)) from error


def _crash_of(error: Exception) -> Violation:
    what = f"{type(error).__name__}: {error}"
    violation = Violation("crash", what, "".join(traceback.format_exception(error)))
    violation.__cause__ = error
    return violation


def _words(frame: Any, up: bool) -> str:
    """What a frame says, in one line."""
    return words_of(decode_command(frame) if up else frame.update)


_DO: dict[type, Callable[[World, Any], object]] = {
    Act: World._act,
    Operate: World._operate,
    Deliver: World._deliver,
    Late: World._late,
    Tick: World._tick,
    Store: World._store,
    Release: World._release,
    Turn: World._turn,
    Password: World._password,
    Save: World._save,
    Say: World._say,
    Cut: World._cut,
    Freeze: World._freeze,
    Thaw: World._thaw,
    Duplicate: World._duplicate,
    CrashNode: World._crash_node,
    StartNode: World._start_node,
    CrashDevice: World._crash_device,
    StartDevice: World._start_device,
    DiskFull: World._disk_full,
    Clock: World._clock_jump,
    Wait: World._wait,
}
