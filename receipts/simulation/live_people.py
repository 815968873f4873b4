"""What people, links, disks and clocks do in a live world, all of it drawn from one chance.

A deed is drawn first, with everything in it, and then begun; nobody waits for it, so that deeds overlap as
they do between people. What the node refuses is noted and is no fault. What must hold in the end is in
`live_checks`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

import anyio
import anyio.abc

from receipts.client.connection import ConnectionLost
from receipts.core.errors import LocalProtocolError, Refused
from receipts.core.events import Role
from receipts.core.ids import ConversationId, Seq, direct
from receipts.core.value import value
from transports.faulty import Cut, Plan

from .chance import Chance
from .live_stage import Device, Stage

__all__ = ["CALM", "GROUPS", "ROUGH", "Deed", "Guests", "LiveFaults", "People", "draw_plan"]


@value
class LiveFaults:
    """How often what goes wrong: so many times in 1,000 deeds, where nothing else is said."""

    cut: int = 0
    """A device's link breaks, and there is none for a while."""
    breaks: int = 0
    """Of 1,000 links: those that will break at one of their first frames."""
    delay_ms_max: int = 0
    """Frames to a device take up to this long, for some links."""
    forgets: int = 0
    """A device loses what it stored, and appears again or is replaced by a new one."""
    node_stops: int = 0
    """The node stops in good order."""
    node_crashes: int = 0
    """The node's disk fails at the next commit, and with it the node."""
    disk_full: int = 0
    """There is no room on the node's disk for a while."""
    clock_jumps: int = 0
    """The node's clock is set forward or back."""


CALM = LiveFaults()
"""Nothing goes wrong."""

ROUGH = LiveFaults(
    cut=60,
    breaks=600,
    delay_ms_max=3000,
    forgets=20,
    node_stops=10,
    node_crashes=15,
    disk_full=10,
    clock_jumps=10,
)
"""Everything goes wrong, and often."""

GROUPS = ("G", "H")
"""Of everybody; who is in them changes."""

BREAKS_AT_MAX = 40
"""The last frame of a link that may break by plan: late enough for catch-up to be through."""


class Deed(NamedTuple):
    """Something to do."""

    what: str
    """In words, for the trace."""
    do: Callable[[], Awaitable[object]]
    waits: bool = False
    """Whether nothing else begins before it is done."""


class Guests(Protocol):
    """Devices of the same users that are not this project's clients, and what is done on them."""

    async def begin(self, users: Sequence[str]) -> None:
        """The first devices of everybody appear."""

    def draw_fault(self) -> Deed | None:
        """Something that goes wrong with one of them, or nothing."""

    def draw(self) -> Deed:
        """Something that is done on one of them."""

    def mend(self) -> None:
        """All of their wires are mended."""

    @property
    def unrest(self) -> str | None:
        """What is under way with them; None when nothing is."""

    @property
    def mistakes(self) -> Sequence[BaseException]:
        """What was found wrong with them up to now."""


class People:
    """Those who do this and that.

    Args:
        stage: Where.
        chance: Where everything is drawn from.
        faults: What goes wrong.
        users: How many.
        guests: Other devices of theirs, on which every other deed is done.
    """

    def __init__(
        self, stage: Stage, chance: Chance, faults: LiveFaults, users: int, guests: Guests | None = None
    ) -> None:
        self.stage = stage
        self.users = [f"user{number}" for number in range(1, users + 1)]
        self.accepted: dict[str, ConversationId] = {}
        """Bodies that the node said it has: body → conversation."""
        self._mistakes: list[BaseException] = []
        self._chance = chance
        self._faults = faults
        self._guests = guests
        self._under_way: dict[int, str] = {}
        self._begun = 0
        self._bodies = 0
        self._names = 0
        self._deeds = [deed for deed, times in self._weights() for _ in range(times)]

    def _weights(self) -> list[tuple[Callable[[Device], Deed], int]]:
        """What people do, and how often next to each other."""
        return [
            (self._send, 10),
            (self._read, 6),
            (self._read_by_name, 5),
            (self._open, 3),
            (self._close, 2),
            (self._mark_unread, 3),
            (self._recall, 3),
            (self._clear, 1),
            (self._share, 3),
            (self._mute, 1),
            (self._members, 3),
            (self._role, 1),
            (self._rename, 1),
            (self._ask, 2),
            (self._heal, 4),
            (self._wait, 4),
        ]

    # -- the run

    async def begin(self) -> None:
        """Accounts, groups, one or two devices each."""
        stage, users = self.stage, self.users
        await stage.start()
        for user in users:
            await stage.user(user)
        await stage.group("G", users[0], users[1:], [])
        await stage.group("H", users[-1], users[:1], users[1:2])
        for user in users:
            for name in ("phone", "tablet")[: 1 + self._chance.below(2)]:
                await self._appear(user, name)
        if self._guests is not None:
            await self._guests.begin(users)

    async def run(self, deeds: int, tasks: anyio.abc.TaskGroup) -> None:
        """Do that many deeds; those that were begun may be under way when it ends."""
        for _ in range(deeds):
            deed = self._draw()
            self.stage.trace.note("deed", deed.what)
            if deed.waits:
                await self._tried(deed)
            else:
                tasks.start_soon(self._tried, deed)
            await anyio.sleep(self._chance.one_of((0.0, 0.0, 0.05, 0.5)))

    def _draw(self) -> Deed:
        fault = self._draw_fault()
        if fault is not None:
            return fault
        if self._guests is not None and self._chance.happens(500):
            return self._guests.draw_fault() or self._guests.draw()
        return self._chance.one_of(self._deeds)(self._someone())

    def _someone(self) -> Device:
        return self._chance.one_of(self.stage.devices)

    @property
    def mistakes(self) -> list[BaseException]:
        """What no deed may end in."""
        return [*self._mistakes, *(self._guests.mistakes if self._guests is not None else ())]

    @property
    def unrest(self) -> str | None:
        """A deed that has not ended; None when there is none."""
        known = next(iter(self._under_way.values()), None)
        return known or (self._guests.unrest if self._guests is not None else None)

    async def _tried(self, deed: Deed) -> None:
        self._begun += 1
        number = self._begun
        self._under_way[number] = deed.what
        try:
            await deed.do()
        except Refused as refused:
            self.stage.trace.note("refused", f"{refused.code.value} {deed.what}")
        except (LocalProtocolError, ConnectionLost) as error:
            self.stage.trace.note("impossible", f"{type(error).__name__} {deed.what}")
        except Exception as error:
            self._mistakes.append(error)
        finally:
            del self._under_way[number]

    # -- what goes wrong

    def _draw_fault(self) -> Deed | None:
        faults, chance = self._faults, self._chance
        if self.stage.node is None:  # it does not stay away for long
            return Deed("the node starts", self._start, waits=True) if chance.happens(200) else None
        for per_mille, draw in (
            (faults.cut, self._cut),
            (faults.forgets, self._forget),
            (faults.node_stops, self._stop),
            (faults.node_crashes, self._crash),
            (faults.disk_full, self._fill_disk),
            (faults.clock_jumps, self._set_clock),
        ):
            if chance.happens(per_mille):
                return draw()
        return None

    def _cut(self) -> Deed:
        device = self._someone()

        async def cut() -> None:
            device.wire.cut()

        return Deed(f"{device.name} is cut off", cut)

    def _forget(self) -> Deed:
        device, number = self._someone(), self._next_name()
        name = self._chance.one_of((device.me.device, f"laptop{number}"))

        async def exchange() -> None:
            await device.close()
            await self._appear(device.me.user, name)

        return Deed(f"{device.name} is lost, {name} comes in its place", exchange, waits=True)

    def _stop(self) -> Deed:
        return Deed("the node stops", self.stage.stop, waits=True)

    async def _start(self) -> None:
        self.stage.disk.full = False
        await self.stage.start()

    def _crash(self) -> Deed:
        how = self._chance.one_of(("lost", "kept"))

        async def crash() -> None:
            self.stage.disk.fails = how

        return Deed(f"the node will crash, its last commit {how}", crash)

    def _fill_disk(self) -> Deed:
        seconds = self._chance.one_of((0.2, 3.0, 20.0))

        async def fill() -> None:
            self.stage.disk.full = True
            await anyio.sleep(seconds)
            self.stage.disk.full = False

        return Deed(f"the node's disk is full for {seconds} s", fill)

    def _set_clock(self) -> Deed:
        jump_ms = self._chance.one_of((-3_600_000, 3_600_000, 5_000, -5_000, 4 * 86_400_000))

        async def jump() -> None:
            self.stage.ahead_ms += jump_ms

        return Deed(f"the node's clock jumps by {jump_ms} ms", jump)

    async def _appear(self, user: str, name: str) -> None:
        """A device, behind a wire that will fail now and then."""
        chance = self._chance
        device = await self.stage.device(
            user,
            name,
            delivery=chance.happens(800),
            share_read=chance.happens(900),
            coalesce_ms=chance.one_of((0, 50, 2000)),
        )
        device.wire.plan = lambda: draw_plan(chance, self._faults)

    # -- what people do

    def _next_name(self) -> int:
        self._names += 1
        return self._names

    def _chat(self, device: Device) -> ConversationId:
        """A conversation of a device's user."""
        others = [user for user in self.users if user != device.me.user]
        return self._chance.one_of([*GROUPS, *(direct(device.me.user, other) for other in others)])

    def _seq(self, device: Device, chat: ConversationId) -> Seq:
        """A message that the device may have seen, or nearly."""
        return 1 + self._chance.below(device.me.session.replica.chat(chat).head + 1)

    def _send(self, device: Device) -> Deed:
        self._bodies += 1
        body, chat = f"{device.me.user} {self._bodies}", self._chat(device)
        asks = chat in GROUPS and self._chance.happens(400)
        counts = self._chance.happens(900)
        patience = self._chance.one_of((1.0, 1000.0, 1000.0))

        async def send() -> None:
            with anyio.move_on_after(patience):  # who does not wait has sent it all the same
                await device.me.send(conversation=chat, body=body, asks=asks, counts=counts)
                self.accepted[body] = chat

        return Deed(f"{device.name} sends {body!r} to {chat}{', asking' * asks}", send)

    def _read(self, device: Device) -> Deed:
        chat = self._chat(device)
        seq = self._seq(device, chat)
        return Deed(f"{device.name} reads {chat} through #{seq}", lambda: device.me.read(chat, seq))

    def _read_by_name(self, device: Device) -> Deed:
        chat = self._chat(device)
        seqs = [self._seq(device, chat) for _ in range(1 + self._chance.below(4))]
        content = self._chance.one_of((None, None, "ok", "later"))
        what = f"{device.name} reads {seqs} of {chat}, saying {content}"
        return Deed(what, lambda: device.me.read_messages(chat, seqs, content))

    def _open(self, device: Device) -> Deed:
        chat, content = self._chat(device), self._chance.one_of((None, "seen"))

        async def look() -> None:
            device.me.open_chat(chat, content)

        return Deed(f"{device.name} opens {chat}", look)

    def _close(self, device: Device) -> Deed:
        chat = self._chat(device)

        async def look_away() -> None:
            device.me.close_chat(chat)

        return Deed(f"{device.name} closes {chat}", look_away)

    def _mark_unread(self, device: Device) -> Deed:
        chat = self._chat(device)
        seq = self._seq(device, chat) if self._chance.happens(500) else None
        what = f"{device.name} marks {chat} unread from #{seq}"
        return Deed(what, lambda: device.me.mark_unread(chat, from_seq=seq))

    def _recall(self, device: Device) -> Deed:
        chat = self._chat(device)
        seq = self._seq(device, chat)
        return Deed(f"{device.name} recalls #{seq} of {chat}", lambda: device.me.recall(chat, seq))

    def _clear(self, device: Device) -> Deed:
        chat = self._chat(device)
        seq = self._seq(device, chat)
        return Deed(f"{device.name} clears {chat} through #{seq}", lambda: device.me.clear(chat, seq))

    def _share(self, device: Device) -> Deed:
        chat = self._chance.one_of((None, self._chat(device)))
        delivered, read = self._chance.happens(600), self._chance.happens(600)
        what = f"{device.name} shares deliveries {delivered}, reads {read} in {chat or 'all'}"
        return Deed(what, lambda: device.me.set_sharing(delivered=delivered, read=read, conversation=chat))

    def _mute(self, device: Device) -> Deed:
        chat, muted = self._chat(device), self._chance.happens(500)
        return Deed(f"{device.name} mutes {chat}: {muted}", lambda: device.me.mute(chat, muted))

    def _members(self, device: Device) -> Deed:
        group, user = self._chance.one_of(GROUPS), self._chance.one_of(self.users)
        if self._chance.happens(600):
            what = f"{device.name} lets {user} into {group}"
            return Deed(what, lambda: device.me.add_members(group, [user]))
        what = f"{device.name} puts {user} out of {group}"
        return Deed(what, lambda: device.me.remove_members(group, [user]))

    def _role(self, device: Device) -> Deed:
        group, user = self._chance.one_of(GROUPS), self._chance.one_of(self.users)
        role = self._chance.one_of((Role.ADMIN, Role.ADMIN, Role.MEMBER, Role.OWNER))
        what = f"{device.name} makes {user} {role.value} of {group}"
        return Deed(what, lambda: device.me.set_role(group, user, role))

    def _rename(self, device: Device) -> Deed:
        group, name = self._chance.one_of(GROUPS), f"name {self._next_name()}"
        return Deed(f"{device.name} calls {group} {name!r}", lambda: device.me.rename(group, name))

    def _ask(self, device: Device) -> Deed:
        """Questions change nothing; they stand among what does."""
        me, chat = device.me, self._chat(device)
        seq = self._seq(device, chat)
        question: Callable[[], Awaitable[object]] = self._chance.one_of(
            (
                lambda: me.explain(chat, limit=3),
                lambda: me.readers(chat, seq),
                lambda: me.ask_status(chat, [seq]),
                lambda: me.fetch_history(chat, before=seq, limit=5),
                lambda: me.list_conversations(limit=2),
                me.server_badge,
                me.devices,
            )
        )
        return Deed(f"{device.name} asks about #{seq} of {chat}", question)

    def _heal(self, device: Device) -> Deed:
        async def heal() -> None:
            for one in self.stage.devices:
                one.wire.heal()
            if self._guests is not None:
                self._guests.mend()

        return Deed("all wires are mended", heal)

    def _wait(self, device: Device) -> Deed:
        seconds = self._chance.one_of((0.01, 0.3, 5.0, 100.0))
        return Deed(f"{seconds} s go by", lambda: anyio.sleep(seconds), waits=True)


def draw_plan(chance: Chance, faults: LiveFaults) -> Plan:
    """What goes wrong on one link."""
    cut: Cut | None = None
    if chance.happens(faults.breaks):
        cut = Cut(index=chance.below(BREAKS_AT_MAX), when=chance.one_of(("before", "after")))
    sending = chance.happens(500)
    most = chance.one_of((0, faults.delay_ms_max // 30, faults.delay_ms_max)) / 1000
    return Plan(
        send_cut=cut if sending else None,
        receive_cut=None if sending else cut,
        receive_delay_seconds=(0.0, most) if most else None,
    )
