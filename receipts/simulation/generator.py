"""What happens next, by chance: people, links, clocks, disks and crashes.

The generator looks at the world and gives steps that make sense in it, so that what is interesting meets: two
devices of one user are offline at once, several commands fall into one tick, a crash comes between a commit
and its release. It never changes the world, and what it draws depends on its seed and on what it sees alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from receipts.client.session import State
from receipts.core.ids import ConversationId, Seq, direct
from receipts.core.value import value

from .chance import Chance
from .device import SimulatedDevice
from .node import NodeProcess
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
from .world import World

__all__ = ["CRUEL", "MANY", "NONE", "PROFILES", "SOME", "Faults", "Generator"]


@value
class Faults:
    """How often what goes wrong, in 100,000 steps each; a world has about two steps per event."""

    cuts: int = 0
    """Links that break; a third of them are noticed by one side only."""
    partitions: int = 0
    """Devices that nothing reaches for a while."""
    duplicates: int = 0
    """Frames that are there twice."""
    node_crashes: int = 0
    device_crashes: int = 0
    storage_losses: int = 0
    """Crashes of devices that come back with nothing."""
    disk_full: int = 0
    sync_failures: int = 0
    clock_jumps: int = 0
    rogues: int = 0
    """Commands that no client of ours would send, some in a row."""
    new_lives: int = 0
    """Starts of the node after which resume tokens are void; in 1,000 starts."""


NONE = Faults()
SOME = Faults(
    cuts=400,
    partitions=120,
    duplicates=60,
    node_crashes=80,
    device_crashes=100,
    storage_losses=50,
    disk_full=60,
    sync_failures=15,
    clock_jumps=60,
    rogues=200,
    new_lives=60,
)
MANY = Faults(
    cuts=1600,
    partitions=400,
    duplicates=300,
    node_crashes=300,
    device_crashes=400,
    storage_losses=200,
    disk_full=240,
    sync_failures=60,
    clock_jumps=240,
    rogues=400,
    new_lives=100,
)
CRUEL = Faults(
    cuts=5000,
    partitions=1200,
    duplicates=1000,
    node_crashes=1200,
    device_crashes=1500,
    storage_losses=700,
    disk_full=700,
    sync_failures=250,
    clock_jumps=600,
    rogues=800,
    new_lives=250,
)
PROFILES: dict[str, Faults] = {"none": NONE, "some": SOME, "many": MANY, "cruel": CRUEL}
"""By name."""

_SCALE = 100_000


def _weighted(**weights: int) -> tuple[str, ...]:
    """Names as often as their weight says; `_` stands for a hyphen."""
    return tuple(name.replace("_", "-") for name, weight in weights.items() for _ in range(weight))


TALK = _weighted(send=60, read=14, name=10, open=8, close=6, mark=3, recall=3, history=1, status=1, badge=1)
READ = _weighted(send=25, read=26, name=20, open=12, close=9, mark=8, recall=4, explain=2, badge=2, flush=3)
MANAGE = _weighted(
    send=30,
    read=10,
    name=8,
    open=5,
    close=4,
    mark=3,
    recall=3,
    share=10,
    mute=4,
    add=12,
    remove=8,
    role=4,
    rename=2,
    create=2,
    dissolve=1,
    clear=4,
    log_out=1,
    list=1,
    members=1,
    devices=1,
)
ASKING = _weighted(
    send=30,
    read=12,
    name=22,
    open=8,
    close=6,
    readers=5,
    status=5,
    recall=3,
    share=4,
    mark=2,
    add=2,
    remove=2,
)
MOODS = (TALK, TALK, READ, READ, MANAGE, ASKING)
"""What people have in mind for a while."""

OPERATIONS = _weighted(
    configure=8, verify=4, repair=2, explain=3, revoke_tokens=2, set_password=1, remove_user=1, add_user=2,
    make_group=2, stats=1, list_conversations=1, list_users=1, make_token=1,
)  # fmt: skip
"""What operators do."""

ROGUE = _weighted(
    read=6, name=6, ack=4, send=6, mark=2, recall=3, clear=1, status=1, readers=1, history=1, page=1,
    statistics=1, ping=1,
)  # fmt: skip
"""What rogues say."""

PAUSES_MS = (1, 5, 20, 50, 50, 60, 100, 100, 300, 300, 1000, 1000, 3000)
LONG_PAUSES_MS = (10_000, 35_000, 65_000, 70_000, 310_000, 700_000, 3_700_000)
ANSWERS = (None, None, "ok", "later", "")
ASKS_MAX = 6
SENDS_MAX = 10
FRAMES_MAX = 12
"""On their way from a device; beyond it nobody does anything new there."""
FRAMES = (1, 1, 1, 1, 2, 3, 5, 8)
"""How many arrive at once: most often one, because what comes between two frames is where things go wrong."""


class Generator:
    """Picks the next step.

    Args:
        chance: All of it.
        faults: How often what goes wrong.
        world: Looked at, never changed.
    """

    def __init__(self, chance: Chance, faults: Faults, world: World) -> None:
        self._chance = chance
        self._world = world
        self._devices = list(world.devices.values())
        self._savers = [device for device in self._devices if device.cast.storage]
        self._groups: dict[str, list[str]] = {app.app: [] for app in world.cast.apps}
        for group in world.cast.groups:
            self._groups[group.app].append(group.conversation)
        self._users = {
            app.app: [user.user for user in world.cast.users if user.app == app.app]
            for app in world.cast.apps
        }
        self._settings = {app.app: json.loads(app.settings) for app in world.cast.apps}
        self._coming: list[Step] = []
        """What was drawn together, to be done next, the last one first."""
        self._made = 0
        self._until = 0
        """When the mood changes, as a step."""
        self._mood = TALK
        self._quick = True
        """Whether the node does all its work at once."""
        self._short = True
        """Whether pauses are short."""
        self._focus: dict[str, str] = {}
        """App → the conversation of which most is said."""
        self._awake = self._devices
        """Whose users are up."""
        self._faults = faults
        self._trouble = _ladder(faults)
        self._top = self._trouble[-1][0] if self._trouble else 0

    def next(self) -> Step:
        """The next step."""
        world, chance = self._world, self._chance
        if world.index >= self._until:
            self._change_mood()
        if self._coming:
            return self._coming.pop()
        roll = chance.below(_SCALE)
        if roll < self._top:
            for limit, fault in self._trouble:
                if roll < limit:
                    step = fault(self)
                    if step is not None:
                        return step
                    break
        node = world.node
        if node is None:
            if chance.happens(150):
                return StartNode(chance.happens(self._faults.new_lives))
        elif world.disk.full and chance.happens(30):
            return DiskFull(False)
        return self._usual(node, chance.below(1000))

    def _usual(self, node: NodeProcess | None, roll: int) -> Step:
        if roll < 150 and self._savers:
            saver = self._chance.one_of(self._savers)
            if saver.writing is not None:
                return Save(saver.label)
        if roll < 330 and node is not None and node.busy:
            return self._work(node)
        if roll < 780:
            found = self._arrival()
            if found is not None:
                return found
            if node is not None and node.busy:
                return self._work(node)
        if roll >= 985:
            return self._upkeep()
        if roll >= 930:
            return self._pause()
        return self._act()

    def _arrival(self) -> Step | None:
        """Something that is on its way arrives, if there is anything: the first that is found from any device
        on."""
        chance, devices = self._chance, self._devices
        count = len(devices)
        start = chance.below(count)
        for index in range(start, start + count):
            device = devices[index - count if index >= count else index]
            link = device.link
            if link is None or device.frozen:
                continue
            up = link.up or (link.node_gone and link.session is not None)
            down = link.down or link.node_gone
            if up or down:
                direction = bool(up) and not (down and chance.below(2))
                return Deliver(device.label, direction, chance.one_of(FRAMES))
        return None

    # -- the world around

    def _change_mood(self) -> None:
        chance = self._chance
        self._until = self._world.index + chance.between(20, 250)
        self._mood = chance.one_of(MOODS)
        self._quick = chance.happens(750)
        self._short = chance.happens(930)
        for app, users in self._users.items():
            chats = [*self._groups[app], direct(*chance.some_of(users, 2))]
            self._focus[app] = chance.one_of(chats)
        awake = chance.between(1, len(self._devices))
        self._awake = chance.some_of(self._devices, awake) if chance.happens(600) else self._devices

    def _work(self, node: NodeProcess) -> Step:
        chance = self._chance
        if self._quick:
            return Turn()
        roll = chance.below(16)
        if roll < 3:
            return Turn()
        if node.done and roll < 8:
            return Release(chance.between(1, 3))
        if node.jobs and roll < 12:
            written = chance.happens(250) and not self._world.disk.full
            return Store(chance.between(1, 3), "written" if written else "ok")
        if node.passwords and roll < 14:
            return Password()
        return Tick() if node.inbox else Turn()

    def _pause(self) -> Step:
        chance = self._chance
        if self._short or chance.below(8):
            return Wait(chance.one_of(PAUSES_MS))
        return Wait(chance.one_of(LONG_PAUSES_MS))

    def _upkeep(self) -> Step:
        """Something that is due now and then: whoever is off comes back, partitions end, operators look."""
        chance = self._chance
        device = chance.one_of(self._devices)
        label = device.label
        if not device.running or device.session.state is State.CLOSED:
            return StartDevice(label)
        if device.frozen:
            return Thaw(label)
        if self._world.late[label]:
            return Late(label, chance.between(1, 3))
        if chance.below(3) == 0:
            return self._operate()
        return self._pause()

    # -- trouble

    def _cut(self) -> Step | None:
        device = self._linked()
        if device is None:
            return None
        return Cut(device.label, self._chance.one_of(("both", "both", "device", "device", "node")))

    def _linked(self) -> SimulatedDevice | None:
        linked = [device for device in self._devices if device.link is not None]
        return self._chance.one_of(linked) if linked else None

    def _partition(self) -> Step | None:
        device = self._chance.one_of(self._devices)
        return Thaw(device.label) if device.frozen else Freeze(device.label)

    def _duplicate(self) -> Step | None:
        """A node's frame; what a device sends twice are messages and receipts that had no answer, and those
        come by themselves when a link was cut."""
        device = self._linked()
        return Duplicate(device.label, False) if device is not None else None

    def _crash_node(self) -> Step | None:
        return CrashNode(self._chance.one_of(("keep", "lose", "tear")))

    def _crash_device(self) -> Step | None:
        return CrashDevice(self._chance.one_of(self._devices).label, "keep")

    def _lose_storage(self) -> Step | None:
        return CrashDevice(self._chance.one_of(self._devices).label, "lose")

    def _fill_disk(self) -> Step | None:
        return DiskFull(not self._world.disk.full)

    def _fail_sync(self) -> Step | None:
        node = self._world.node
        if node is None or not any(job.kind == "commit" for job in node.jobs):
            return None
        return Store(8, self._chance.one_of(("failed", "failed-kept")))

    def _jump(self) -> Step | None:
        chance = self._chance
        ms = chance.one_of((1_000, 60_000, 600_000, 3_600_000))
        if chance.below(2):
            return Clock("node", ms if chance.below(2) else -ms)
        return Clock(chance.one_of(self._devices).label, ms)

    def _rogue(self) -> Step | None:
        """Some commands in a row, about anything: what is there, what is not, and what is somebody else's."""
        chance = self._chance
        app = chance.one_of(list(self._users))
        user = chance.one_of(self._users[app])
        self._coming = [self._rogue_command(app, user) for _ in range(chance.between(1, 4))]
        return self._coming.pop()

    def _rogue_command(self, app: str, user: str) -> Step:
        chance = self._chance
        one, other = chance.some_of(self._users[app], 2)
        chat = chance.one_of((self._focus[app], self._focus[app], direct(one, other), "G", f"{one}~nobody"))
        seq = chance.one_of((1, 2, 3, 5, 8, 13, 21, 40))
        seqs = tuple(range(seq, seq + chance.between(1, 3)))
        operation = chance.one_of(ROGUE)
        arguments: tuple[Any, ...] = (chat, seq)
        if operation == "read":
            arguments = (chat, seq, chance.one_of((0, 0, 10**6)))
        elif operation == "name":
            arguments = (chat, seqs, chance.one_of(ANSWERS))
        elif operation in ("ack", "status"):
            arguments = (chat, seqs)
        elif operation == "send":
            arguments = (chat, chance.between(1, 12), chance.below(3) == 0)
        elif operation == "page":
            arguments = (f"life:{seq}",)
        elif operation == "statistics":
            arguments = (seq,)
        elif operation == "ping":
            arguments = ()
        return Say(app, user, operation, arguments)

    # -- operators

    def _operate(self) -> Step:
        chance = self._chance
        operation = chance.one_of(OPERATIONS)
        app = chance.one_of(list(self._users))
        users = self._users[app]
        user = chance.one_of(users)
        chat = self._focus[app]
        self._made += 1
        arguments: tuple[Any, ...] = (app,)
        if operation == "configure":
            arguments = (app, self._configured(app))
        elif operation in ("verify", "repair"):
            arguments = (app, chat) if operation == "verify" else (app, chat, f"repaired {self._made}")
        elif operation == "explain":
            arguments = (app, user, chat)
        elif operation in ("revoke-tokens", "add-user", "make-token"):
            arguments = (app, user)
        elif operation == "set-password":
            arguments = (app, user, f"password of {user}")
        elif operation == "remove-user":
            arguments = (app, user)
        elif operation == "make-group":
            inside = chance.some_of(users, 3)
            name = f"M{self._made}"
            self._groups[app].append(name)
            arguments = (app, name, inside[0], tuple(inside[1:2]), tuple(inside[2:]))
        elif operation in ("stats", "list-conversations"):
            arguments = ()
        return Operate(operation, arguments)

    def _configured(self, app: str) -> str:
        """One switch of an app is turned."""
        chance = self._chance
        settings = self._settings[app]
        features, groups = settings["features"], settings["groups"]
        name = chance.one_of(("group_receipts", "delivery_receipts", "recall", "roll_up", "may_ask_receipts"))
        if name == "roll_up":
            features[name] = "any" if features.get(name) == "all" else "all"
        elif name == "may_ask_receipts":
            groups[name] = "admin" if groups.get(name) == "member" else "member"
        else:
            features[name] = not features.get(name, True)
        return json.dumps(settings)

    # -- people

    def _act(self) -> Step:
        chance = self._chance
        device = chance.one_of(self._awake)
        if not device.running or device.session.state is State.CLOSED:
            return StartDevice(device.label) if chance.below(8) == 0 else self._pause()
        if device.link is not None and len(device.link.up) > FRAMES_MAX:
            return Turn() if device.frozen else Deliver(device.label, True, FRAMES_MAX)
        operation = chance.one_of(self._mood)
        outbox = device.session.outbox
        if operation == "send":
            if len(outbox.sends) >= SENDS_MAX:
                operation = "read"
        elif len(outbox.asks) >= ASKS_MAX:
            operation = "read"
        made = _ACTS.get(operation)
        chat = self._chat(device)
        arguments = made(self, device, chat) if made is not None else (chat,)
        return Act(device.label, operation, arguments)

    def _chat(self, device: SimulatedDevice) -> ConversationId:
        """A conversation of the user: most often the one that is spoken of most, seldom one that the user is
        not in."""
        chance = self._chance
        app, me = device.cast.app, device.cast.user
        anywhere = chance.below(12) == 0
        focus = self._focus[app]
        if chance.below(10) < 7 and (anywhere or self._is_in(device, focus)):
            return focus
        groups = self._groups[app]
        if groups and chance.below(2):
            group = chance.one_of(groups)
            if anywhere or self._is_in(device, group):
                return group
        users = self._users[app]
        peer = users[chance.below(len(users))]
        return direct(me, peer if peer != me else users[(users.index(me) + 1) % len(users)])

    def _is_in(self, device: SimulatedDevice, chat: ConversationId) -> bool:
        """Whether a device knows its user to be in a conversation."""
        me = device.cast.user
        if "~" in chat:
            return me in chat.split("~")
        member = device.session.replica.chat(chat).members.get(me)
        return member is not None and member.joined

    def _seq(self, device: SimulatedDevice, chat: ConversationId) -> Seq:
        """A message that the user may have seen: most often one of the newest."""
        head = device.session.replica.chat(chat).head
        if head < 1:
            return 1
        if self._chance.below(4):
            return max(1, head - self._chance.below(5))
        return 1 + self._chance.below(head)

    def _group(self, device: SimulatedDevice) -> ConversationId:
        groups = self._groups[device.cast.app]
        return self._chance.one_of(groups) if groups else "G"

    def _user(self, device: SimulatedDevice) -> str:
        return self._chance.one_of(self._users[device.cast.app])

    def _send(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        chance = self._chance
        asks = "~" not in chat and chance.below(5) < (4 if self._mood is ASKING else 1)
        return chat, int(chance.below(10) == 0), asks, chance.below(3) == 0

    def _read(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        return chat, 0 if self._chance.below(3) else self._seq(device, chat)

    def _name(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        chance = self._chance
        seqs = sorted({self._seq(device, chat) for _ in range(chance.between(1, 4))})
        asked = device.session.replica.chat(chat).asked
        if asked and chance.below(2):  # answer what asks
            seqs = sorted(chance.some_of(list(asked), 2))
        return chat, tuple(seqs), chance.one_of(ANSWERS)

    def _open(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        return chat, self._chance.one_of((None, None, "seen"))

    def _mark(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        return chat, None if self._chance.below(2) else self._seq(device, chat)

    def _one(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        return chat, self._seq(device, chat)

    def _share(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        chance = self._chance
        switches = (None, True, True, False)
        return None if chance.below(4) == 0 else chat, chance.one_of(switches), chance.one_of(switches)

    def _create(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        app = device.cast.app
        self._made += 1
        name = f"N{self._made}" if len(self._groups[app]) < 6 else self._group(device)
        if name not in self._groups[app]:
            self._groups[app].append(name)
        return name, tuple(self._chance.some_of(self._users[app], 2))

    def _add(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        """Most often somebody who is not in it."""
        chance = self._chance
        group = self._in_group(device, chat)
        users = self._users[device.cast.app]
        if chance.below(4):
            members = device.session.replica.chat(group).members
            users = [user for user in users if user not in members or not members[user].joined] or users
        return group, tuple(chance.some_of(users, 1 + (chance.below(5) == 0)))

    def _remove(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        chance = self._chance
        me = [device.cast.user]
        users = me if chance.below(3) == 0 else chance.some_of(self._users[device.cast.app], 2)
        return self._in_group(device, chat), tuple(users[: 1 + (chance.below(5) == 0)])

    def _in_group(self, device: SimulatedDevice, chat: ConversationId) -> ConversationId:
        return chat if "~" not in chat else self._group(device)

    def _role(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        role = self._chance.one_of(("admin", "admin", "member", "owner"))
        return self._in_group(device, chat), self._user(device), role

    def _rename(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        return self._in_group(device, chat), f"name {self._chance.below(3)}"

    def _log_out(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        mine = [other.cast.name for other in self._devices if other.cast.user == device.cast.user]
        return (self._chance.one_of(mine),)

    def _history(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        before = self._seq(device, chat) if self._chance.below(2) else 0
        return chat, before, self._chance.between(1, 50)

    def _status(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        return chat, tuple(sorted({self._seq(device, chat) for _ in range(3)}))

    def _nothing(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        return ()

    def _mute(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        return chat, self._chance.below(2) == 0

    def _clear(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        return chat, self._seq(device, chat) if self._chance.below(2) else 0

    def _group_alone(self, device: SimulatedDevice, chat: ConversationId) -> tuple[Any, ...]:
        return (self._in_group(device, chat),)


_ACTS: dict[str, Callable[[Generator, SimulatedDevice, ConversationId], tuple[Any, ...]]] = {
    "send": Generator._send,
    "read": Generator._read,
    "name": Generator._name,
    "open": Generator._open,
    "mark": Generator._mark,
    "recall": Generator._one,
    "readers": Generator._one,
    "clear": Generator._clear,
    "share": Generator._share,
    "mute": Generator._mute,
    "create": Generator._create,
    "add": Generator._add,
    "remove": Generator._remove,
    "role": Generator._role,
    "rename": Generator._rename,
    "dissolve": Generator._group_alone,
    "members": Generator._group_alone,
    "log-out": Generator._log_out,
    "history": Generator._history,
    "status": Generator._status,
    "badge": Generator._nothing,
    "list": Generator._nothing,
    "devices": Generator._nothing,
    "flush": Generator._nothing,
}
"""Operation → what makes its arguments; without one it is the conversation."""


def _ladder(faults: Faults) -> list[tuple[int, Callable[[Generator], Step | None]]]:
    """Each fault with the roll below which it happens."""
    found: list[tuple[int, Callable[[Generator], Step | None]]] = []
    top = 0
    for weight, fault in (
        (faults.cuts, Generator._cut),
        (faults.partitions, Generator._partition),
        (faults.duplicates, Generator._duplicate),
        (faults.node_crashes, Generator._crash_node),
        (faults.device_crashes, Generator._crash_device),
        (faults.storage_losses, Generator._lose_storage),
        (faults.disk_full, Generator._fill_disk),
        (faults.sync_failures, Generator._fail_sync),
        (faults.clock_jumps, Generator._jump),
        (faults.rogues, Generator._rogue),
    ):
        top += weight
        if weight:
            found.append((top, fault))
    return found
