"""What each step does to a world, seen from outside."""

from __future__ import annotations

import json
from typing import Any

import pytest

from receipts.client.session import State
from receipts.core.status import Status
from receipts.simulation.cast import AppCast, Cast, DeviceCast, GroupCast, UserCast
from receipts.simulation.steps import (
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
from receipts.simulation.violation import Violation
from receipts.simulation.world import World

CHAT = "alice~bob"
PHONE, LAPTOP, BOB = "alice/phone", "alice/laptop", "bob/phone"


def device(user: str, name: str, **habits: Any) -> DeviceCast:
    """A device of the only app; receipts go out at once."""
    return DeviceCast(app="default", user=user, name=name, **{"coalesce_ms": 0, **habits})


def cast(*devices: DeviceCast, settings: str = "{}", groups: tuple[GroupCast, ...] = ()) -> Cast:
    """Alice and bob, and their devices: one each when none is named."""
    return Cast(
        apps=(AppCast(app="default", settings=settings),),
        users=(UserCast(app="default", user="alice"), UserCast(app="default", user="bob")),
        devices=devices or (device("alice", "phone"), device("bob", "phone")),
        groups=groups,
    )


def begun(of: Cast | None = None) -> World:
    """A world in which everybody is logged in."""
    world = World(of or cast())
    settle(world)
    assert all(one.session.state is State.LIVE for one in world.devices.values())
    return world


def settle(world: World, *, but: str = "") -> None:
    """Deliver and decide until nothing is on its way; a device may be left out."""
    world.do(Wait(1000))
    for _ in range(12):
        for label in world.devices:
            if label != but:
                run(world, Deliver(label, True, 99), Turn(), Turn(), Deliver(label, False, 99), Save(label))


def run(world: World, *steps: Step) -> None:
    """Do steps."""
    for step in steps:
        world.do(step)


def say(world: World, label: str = PHONE, to: str = CHAT) -> None:
    """Somebody sends a message."""
    world.do(Act(label, "send", (to, 0, False, False)))


def unread(world: World, label: str = BOB, chat: str = CHAT) -> int:
    """What a device shows."""
    return world.devices[label].session.unread(chat)


def head(world: World, label: str, chat: str = CHAT) -> int:
    """The newest message that a device knows."""
    return world.devices[label].session.replica.chat(chat).head


def test_a_message_goes_step_by_step() -> None:
    """Nothing happens by itself: said, arrived, decided, durable, let out, arrived, acknowledged."""
    world = begun()
    say(world)
    run(world, Tick(), Store(), Release())
    assert world.disk.conversation("default", CHAT) is None
    world.do(Deliver(PHONE, True))
    run(world, Tick(), Store(9), Release(9))  # that there is no such conversation yet is a load
    assert world.disk.conversation("default", CHAT) is None
    world.do(Store())
    assert world.disk.conversation("default", CHAT) is not None
    world.do(Deliver(BOB, False))
    assert head(world, BOB) == 0
    world.do(Release())
    run(world, Deliver(BOB, False), Deliver(BOB, False), Deliver(BOB, False))
    assert (head(world, BOB), unread(world)) == (1, 1)
    settle(world)
    assert world.devices[PHONE].session.status(CHAT, 1) is Status.DELIVERED


def test_a_crash_between_commit_and_release_loses_the_answer_alone() -> None:
    """The message is there after the restart, and the repeat is answered as the first time."""
    world = begun()
    say(world)
    settle(world)
    say(world)
    run(world, Deliver(PHONE, True), Tick(), Store(9), CrashNode("lose"), StartNode())
    settle(world)
    world.do(Wait(40_000))
    settle(world)
    assert (head(world, PHONE), head(world, BOB)) == (2, 2)
    assert world.devices[PHONE].rests


@pytest.mark.parametrize(("unsynced", "kept"), [("keep", 2), ("lose", 1), ("tear", 1)])
def test_a_crash_takes_what_was_not_synced(unsynced: str, kept: int) -> None:
    """What was written and not synced is there after a crash, or not; nobody had been told of it."""
    world = begun()
    say(world)
    settle(world)
    say(world)
    run(
        world, Deliver(PHONE, True), Tick(), Store(9, "written"), Release(9), CrashNode(unsynced), StartNode()
    )
    found = world.disk.conversation("default", CHAT)
    assert found is not None
    assert found.head == kept
    world.heal()
    assert head(world, BOB) == 2


@pytest.mark.parametrize("outcome", ["failed", "failed-kept"])
def test_the_node_stops_when_a_sync_fails(outcome: str) -> None:
    """It lets nothing out, and starts again on what the disk has."""
    world = begun()
    say(world)
    settle(world)
    say(world)
    run(world, Deliver(PHONE, True), Tick(), Store(9, outcome))
    assert world.node is None
    found = world.disk.conversation("default", CHAT)
    assert found is not None
    assert found.head == 1
    world.heal()
    assert head(world, BOB) == 2


def test_a_full_disk_refuses_and_the_client_says_it_again() -> None:
    """Without room a message that somebody waits for is refused, one that nobody waits for is kept."""
    world = begun()
    say(world)
    settle(world)
    world.do(DiskFull(True))
    say(world)
    world.do(Act(PHONE, "send", (CHAT, 0, False, True)))
    settle(world)
    assert head(world, BOB) == 1
    assert len(world.devices[PHONE].session.outbox.sends) == 1
    world.do(DiskFull(False))
    world.heal()
    assert head(world, BOB) == 2


def test_both_sides_notice_a_cut() -> None:
    """What was on its way is lost, the client connects again, and nothing is missing in the end."""
    world = begun()
    say(world)
    run(world, Cut(PHONE, "both"))
    assert world.devices[PHONE].link is None
    assert not world.late[PHONE]
    world.heal()
    assert head(world, BOB) == 1


def test_frames_of_a_link_that_was_given_up_come_late_and_are_dropped() -> None:
    """When the device has logged in again, what still comes on its old link changes nothing; when it has
    not, it counts."""
    for again in (False, True):
        world = begun()
        say(world)
        world.do(Cut(PHONE, "device"))
        assert len(world.late[PHONE]) == 1
        if again:
            run(world, Wait(1000), Deliver(PHONE, True, 9), Turn(), Turn(), Turn(), Deliver(PHONE, False, 9))
            assert world.devices[PHONE].link is not None
        before = world.events
        run(world, Late(PHONE, 9), Turn(), Turn(), Turn())
        assert world.events == before + 1
        assert (world.disk.conversation("default", CHAT) is not None) is not again
        world.do(Late(PHONE))
        assert not world.late[PHONE]
        world.heal()
        assert head(world, BOB) == 1


def test_a_half_open_link_is_found_out_by_its_silence() -> None:
    """When only the node notices, the device goes on until nothing answers, and then connects again."""
    world = begun()
    world.do(Cut(PHONE, "node"))
    say(world)
    settle(world)
    assert head(world, BOB) == 0
    assert world.devices[PHONE].link is not None
    world.do(Wait(61_000))
    assert world.devices[PHONE].link is None
    world.heal()
    assert head(world, BOB) == 1


def test_a_partition_holds_everything_back() -> None:
    """Nothing arrives and no link can be opened until it ends."""
    world = begun()
    say(world)
    world.do(Freeze(PHONE))
    settle(world)
    assert head(world, BOB) == 0
    run(world, Wait(61_000), Wait(61_000), Wait(40_000))
    assert world.devices[PHONE].link is None
    world.do(Thaw(PHONE))
    world.heal()
    assert head(world, BOB) == 1


def test_a_frame_that_is_there_twice_changes_nothing() -> None:
    """The copy comes last and brings no news."""
    world = begun()
    say(world)
    settle(world)
    say(world)
    run(world, Deliver(PHONE, True), Turn())
    run(world, Duplicate(BOB, False), Deliver(BOB, False, 9))
    assert world.counts["duplicate"] == 1
    assert (head(world, BOB), unread(world)) == (2, 2)
    world.heal()
    assert unread(world) == 2


def test_a_device_without_a_disk_forgets() -> None:
    """After a crash it knows nothing, sends under a new install, and gets the whole state."""
    world = begun()
    say(world)
    settle(world)
    installs = [world.devices[BOB].session.outbox.install]
    run(world, CrashDevice(BOB), StartDevice(BOB))
    installs.append(world.devices[BOB].session.outbox.install)
    assert len(set(installs)) == 2
    assert head(world, BOB) == 0
    settle(world)
    assert (head(world, BOB), unread(world)) == (1, 1)


def test_a_device_with_a_disk_remembers_what_was_saved() -> None:
    """What it had acknowledged is there after a crash; what was not saved had not been acknowledged."""
    of = cast(device("alice", "phone"), device("bob", "phone", storage=True))
    world = begun(of)
    say(world)
    settle(world)
    say(world)
    run(world, Deliver(PHONE, True), Turn(), Turn(), Deliver(BOB, False, 9))
    assert head(world, BOB) == 2
    assert world.devices[BOB].writing is not None
    run(world, CrashDevice(BOB), StartDevice(BOB))
    assert head(world, BOB) == 1
    settle(world)
    assert head(world, BOB) == 2
    run(world, CrashDevice(BOB, "lose"), StartDevice(BOB))
    assert head(world, BOB) == 0
    world.heal()


def test_passwords_are_checked_beside_everything_else() -> None:
    """A login with a password waits for its thread, and others do not wait for it."""
    world = World(cast(device("alice", "phone", password=True), device("bob", "phone", text=True)))
    run(world, Wait(1), Deliver(PHONE, True), Deliver(BOB, True))
    for _ in range(4):
        run(world, Tick(), Store(9), Release(9))
    run(world, Deliver(BOB, False, 9), Deliver(PHONE, False, 9))
    assert world.devices[BOB].session.state is State.LIVE
    assert world.devices[PHONE].session.state is State.GREETING
    world.do(Password())
    for _ in range(4):
        run(world, Tick(), Store(9), Release(9))
    world.do(Deliver(PHONE, False, 9))
    assert world.devices[PHONE].session.state is State.LIVE


def test_clocks_do_not_matter_and_do_not_go_back() -> None:
    """A jump of the node's clock, either way, and a device's own leave messages in their order."""
    world = begun()
    for jump in (3_600_000, -7_200_000):
        say(world)
        run(world, Clock("node", jump), Clock(PHONE, abs(jump)), Clock(BOB, -5))
        settle(world)
    assert world.devices[BOB].session.unread_seqs(CHAT) == [1, 2]
    world.heal()


def test_a_new_life_gives_everybody_the_whole_state() -> None:
    """After a restore, tokens of the life before are void and counts are as before."""
    world = begun()
    say(world)
    settle(world)
    run(world, CrashNode(), StartNode(True))
    world.heal()
    assert unread(world) == 1
    assert world.node is not None
    assert world.node.world.life == "life 1"


def test_operators_are_served() -> None:
    """Accounts come and go while the node runs; whoever lost theirs is out, all others agree."""
    world = begun()
    run(world, Operate("add-user", ("default", "cara")), Turn(), Turn(), Operate("stats"), Turn(), Turn())
    assert world.node is not None
    assert len(world.node.answers) == 2
    run(world, Operate("remove-user", ("default", "bob")), Turn(), Turn(), Turn(), Deliver(BOB, False, 9))
    assert world.devices[BOB].session.state is State.CLOSED
    world.heal()
    assert world.locked_out(world.devices[BOB])


def test_what_makes_no_sense_does_nothing() -> None:
    """Steps for devices that are not there, off or not linked, and for a node that is down, do nothing."""
    world = begun()
    run(world, CrashNode(), CrashDevice(BOB))
    before = world.digest()
    nowhere = "nobody/phone"
    for label in (nowhere, BOB):
        run(world, Act(label, "read", (CHAT, 0)), Deliver(label, True), Deliver(label, False), Late(label))
        run(world, Cut(label), Duplicate(label, True), Save(label), Thaw(label), CrashDevice(label))
    run(world, Freeze(nowhere), StartDevice(nowhere), Clock(nowhere, 5))
    run(world, Tick(), Store(), Release(), Turn(), Password(), CrashNode(), Operate("stats"), DiskFull(False))
    assert world.digest() == before
    run(world, StartNode(), StartNode(), StartDevice(PHONE), Act(PHONE, "read", (CHAT, 7)))
    assert world.events == sum(world.counts.values())


def test_healing_brings_everybody_back() -> None:
    """Whatever is off, cut, frozen or full is as it should be afterwards, and all agree."""
    world = begun(cast(device("alice", "phone"), device("alice", "laptop"), device("bob", "phone")))
    say(world)
    run(world, Freeze(LAPTOP), CrashDevice(BOB), DiskFull(True), CrashNode())
    world.heal()
    assert {head(world, label) for label in (PHONE, LAPTOP, BOB)} == {1}
    assert all(one.rests for one in world.devices.values())


def test_a_limit_that_lasts_a_day_is_waited_for() -> None:
    """A message that asks, one too many of its day, goes out a day later, without a ping every minute."""
    group = GroupCast(app="default", conversation="G", owner="alice", members=("bob",))
    settings = json.dumps({"limits": {"asking_messages_per_day": 1, "group_receipts_kept_ms": 10**9}})
    world = begun(cast(settings=settings, groups=(group,)))
    for _ in range(2):
        world.do(Act(PHONE, "send", ("G", 0, True, True)))
    world.heal()
    assert head(world, BOB, "G") == 2
    assert world.events < 200


class Notes:
    """A journal that keeps all it hears."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.way: dict[int, str] = {}
        self.ends: dict[int, str] = {}
        self.notes: list[tuple[str, str]] = []

    def step(self, index: int, step: Step, now_ms: int) -> None:
        assert now_ms >= 0
        assert index == len(self.steps)
        self.steps.append(text_of(step))

    def frame(self, number: int, source: str, target: str, what: str) -> None:
        assert number not in self.way
        assert what
        self.way[number] = f"{source} > {target}"

    def arrived(self, number: int) -> None:
        assert number in self.way
        assert number not in self.ends
        self.ends[number] = "arrived"

    def lost(self, number: int) -> None:
        assert number in self.way
        assert number not in self.ends
        self.ends[number] = "lost"

    def note(self, place: str, text: str) -> None:
        self.notes.append((place, text))


def test_a_journal_hears_of_every_frame_once() -> None:
    """Each frame has one beginning and at most one end; after healing none is on its way."""
    notes = Notes()
    world = World(cast(), journal=notes)
    settle(world)
    say(world)
    run(world, Deliver(PHONE, True), Turn(), Turn(), Duplicate(BOB, False), Cut(BOB, "device"))
    say(world)
    run(world, CrashNode(), StartNode())
    world.heal()
    assert notes.way.keys() == notes.ends.keys()
    assert set(notes.ends.values()) == {"arrived", "lost"}
    assert set(notes.way.values()) == {f"{PHONE} > node", f"node > {PHONE}", f"{BOB} > node", f"node > {BOB}"}
    assert ("node", "started") in notes.notes


def test_an_exception_of_the_code_under_test_is_a_violation() -> None:
    """It names the step and shows where it came from."""
    world = begun()
    say(world)
    session = world.devices[PHONE].session
    session.outbox.sends.clear()
    del session.outbox.install
    with pytest.raises(Violation, match="crash") as caught:
        run(world, Cut(PHONE), Wait(10_000))
    assert caught.value.step == world.index
    assert "Traceback" in caught.value.details
