"""Each check fires, under the invariant's own id, when what it looks at is damaged; and never otherwise.

What a mistake in the package would do, over many steps, is in `test_mutants`. Here a world that is well is
damaged by hand in one place.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from receipts.core import events
from receipts.core.conversation import Conversation, Receipt
from receipts.core.events import Register
from receipts.core.ids import MessageId
from receipts.core.member import Period, Sharing, UnreadMark
from receipts.core.ranges import RangeSet
from receipts.node.pipeline import Mail
from receipts.node.world import Tick as NodeTick
from receipts.simulation.cast import AppCast, Cast, DeviceCast, GroupCast, UserCast
from receipts.simulation.checks import Checks
from receipts.simulation.steps import (
    Act,
    CrashDevice,
    CrashNode,
    Cut,
    Deliver,
    DiskFull,
    Operate,
    Release,
    Save,
    StartDevice,
    StartNode,
    Step,
    Store,
    Tick,
    Turn,
    Wait,
    parse,
)
from receipts.simulation.violation import Violation
from receipts.simulation.world import World
from receipts.wire import updates
from receipts.wire.commands import AckDelivered, ReadConversation

CHAT = "alice~bob"
PHONE, LAPTOP, BOB, TABLET, CARA = "alice/phone", "alice/laptop", "bob/phone", "bob/tablet", "cara/phone"


def world_of(settings: str = "{}") -> World:
    """A world with a past: #1 to #4 and #6 of the dialogue are alice's, #5 bob's, #3 is recalled, #4 silent,
    and bob has read #1 and #2; in the group #1 asked and bob has answered."""
    people = [("alice", "phone"), ("alice", "laptop"), ("bob", "phone"), ("bob", "tablet"), ("cara", "phone")]
    devices = [DeviceCast(app="default", user=user, name=name, coalesce_ms=0) for user, name in people]
    devices[3] = DeviceCast(app="default", user="bob", name="tablet", coalesce_ms=0, storage=True)
    cast = Cast(
        apps=(AppCast(app="default", settings=settings),),
        users=tuple(UserCast(app="default", user=user) for user in ("alice", "bob", "cara")),
        devices=tuple(devices),
        groups=(GroupCast(app="default", conversation="G", owner="alice", members=("bob",)),),
    )
    world = World(cast)
    settle(world)
    for counts in (0, 0, 0, 1):
        act(world, PHONE, "send", CHAT, counts, False, False)
    act(world, PHONE, "send", "G", 0, True, False)
    act(world, BOB, "send", CHAT, 0, False, False)
    act(world, PHONE, "send", CHAT, 0, False, False)
    act(world, PHONE, "recall", CHAT, 3)
    act(world, BOB, "name", CHAT, (1, 2), None)
    act(world, BOB, "name", "G", (1,), "ok")
    world.heal()  # until nobody waits for anything
    return world


def play(cast: Cast, steps: str) -> None:
    """A world, from its beginning, by the lines of a trace."""
    world = World(cast)
    for line in steps.strip().splitlines():
        world.do(parse(line))


def settle(world: World) -> None:
    """Everything is said, decided and heard."""
    world.do(Wait(1))
    for _ in range(3):
        for label in world.devices:
            for step in (Deliver(label, True, 99), Turn(), Turn(), Deliver(label, False, 99), Save(label)):
                world.do(step)


def act(world: World, label: str, operation: str, *arguments: Any) -> None:
    """A user does something, and it goes through."""
    world.do(Act(label, operation, arguments))
    settle(world)


def checks_of(world: World) -> Checks:
    assert world.checks is not None
    return world.checks


def chat_of(world: World, name: str = CHAT) -> Conversation:
    """What the node has in memory."""
    assert world.node is not None
    return world.node.world.apps["default"].chats[name].conversation


def replica_of(world: World, label: str, name: str = CHAT) -> Conversation:
    """What a device has in memory."""
    return world.devices[label].session.replica.chat(name)


def found(look: Callable[[], Any]) -> str:
    """The invariant that a look finds broken."""
    with pytest.raises(Violation) as caught:
        look()
    assert caught.value.what
    return caught.value.invariant


def test_a_world_that_is_well_has_no_findings() -> None:
    """The past above is judged, step by step, at all times and at rest, and nothing is found."""
    world = world_of()
    world.heal()
    assert checks_of(world).oracle.talks["default", CHAT].head == 6


def _without(name: str, *seqs: int) -> Callable[[Conversation], None]:
    """Takes seqs out of one of bob's sets."""

    def damage(chat: Conversation) -> None:
        for seq in seqs:
            getattr(chat.members["bob"], name).discard((seq, seq + 1))

    return damage


def _with(name: str, seq: int) -> Callable[[Conversation], None]:
    return lambda chat: getattr(chat.members["bob"], name).add(seq, seq + 1)


MEMORY: list[tuple[str, str, Callable[[Conversation], object]]] = [
    ("own messages are unread", "I-1", _without("read", 5)),
    ("a status fell", "I-2", _without("read_shared", 2)),
    ("a delivery is forgotten", "I-2", _without("delivered_shared", 4)),
    ("a read is forgotten", "I-14", _without("read", 1)),
    ("read beyond the head", "I-6", _with("read", 9)),
    ("shared beyond the head", "I-6", _with("read_shared", 9)),
    ("another head", "I-8", lambda chat: setattr(chat, "head", 7)),
    ("a recall is forgotten", "I-9", lambda chat: chat.recalled.discard((3, 4))),
    ("messages expired early", "I-10", lambda chat: setattr(chat, "expired_through", 1)),
    ("receipts expired early", "I-10", lambda chat: setattr(chat, "receipts_expired_through", 1)),
    ("too much is read", "I-14", _with("read", 6)),
    (
        "a mark that nobody made",
        "I-16",
        lambda chat: chat.members["bob"].set_unread_mark(UnreadMark(99, True)),
    ),
    ("a silent message counts", "I-20", lambda chat: chat.uncounted.discard((4, 5))),
    ("read and not told, told", "I-14", _with("read_shared", 6)),
    ("held by a device that does not", "I-24", lambda chat: chat.members["bob"].held("fridge").add(1, 2)),
    (
        "a switch that nobody moved",
        "I-25",
        lambda chat: chat.members["bob"].set_sharing(Sharing(99, delivered=True, read=False)),
    ),
    ("cleared by nobody", "I-14", lambda chat: setattr(chat.members["bob"], "cleared_through", 6)),
    (
        "muted by nobody",
        "I-20",
        lambda chat: chat.members["bob"].set_register(Register.MUTED, 99, True),
    ),
]


@pytest.mark.parametrize(("what", "invariant", "damage"), MEMORY, ids=[name for name, _, _ in MEMORY])
def test_damage_in_memory(what: str, invariant: str, damage: Callable[[Conversation], object]) -> None:
    """Whatever of a conversation in memory is not what happened is found, under the name of its failure."""
    world = world_of()
    damage(chat_of(world))
    assert found(checks_of(world).everything) == invariant


def _answered_by(user: str, at_ms: int = 0) -> Callable[[Conversation], None]:
    return lambda chat: chat.asked[1].readers.update({user: Receipt((1, at_ms, "ok"))})


GROUP: list[tuple[str, str, Callable[[Conversation], object]]] = [
    ("an answer of nobody there", "I-19", _answered_by("cara")),
    ("an own answer", "I-26", _answered_by("alice")),
    ("another answer", "I-23", _answered_by("bob", 5)),
    ("a forgotten answer", "I-24", lambda chat: chat.asked[1].readers.clear()),
    ("receipts without their message", "I-28", lambda chat: chat._asked(9)),
    ("forgotten receipts", "I-28", lambda chat: chat.asked.clear()),
    ("another name", "I-14", lambda chat: chat.registers.clear()),
    ("another role", "I-14", lambda chat: chat.members["bob"].registers.clear()),
    ("a membership that began before", "I-18", lambda chat: chat.members["bob"].drop_period(3)),
]


@pytest.mark.parametrize(("what", "invariant", "damage"), GROUP, ids=[name for name, _, _ in GROUP])
def test_damage_in_a_group(what: str, invariant: str, damage: Callable[[Conversation], object]) -> None:
    """Likewise in a group, with its answers, roles and memberships."""
    world = world_of()
    chat = chat_of(world, "G")
    if "began before" in what:
        member = chat.members["bob"]
        version = max(member.periods)
        damage = lambda _: member.open_period(version - 1, Period(1, 0))  # noqa: E731
    damage(chat)
    assert found(checks_of(world).everything) == invariant


def test_damage_on_disk() -> None:
    """Rows that are not what was committed are found, though memory is well."""
    world = world_of()
    rows = world.disk._chats[world.disk._keys["default", CHAT]]
    kept = rows.marks["bob"]
    rows.marks["bob"] = rows.marks["alice"]._replace(user="bob")
    assert found(checks_of(world).everything) in ("I-1", "I-2", "I-4", "I-14", "I-24", "I-25")
    rows.marks["bob"] = kept
    body = rows.messages[1]
    rows.messages[1] = body._replace(body="something else")
    assert found(checks_of(world).everything) == "I-14"
    rows.messages[1] = body._replace(message_id=body.message_id + 20)
    assert found(checks_of(world).everything) == "I-8"
    rows.messages[1] = body
    rows.seqs.remove(2)
    assert found(checks_of(world).everything) == "I-8"


def test_what_agreed_is_looked_at_again_once_it_differs() -> None:
    """A conversation on disk that agreed with what happened is compared anew when that changes, be it one
    entry deep inside, and agrees again as soon as it is as it was."""
    world = world_of()
    checks = checks_of(world)
    talks = checks.oracle.talks
    talk, group = talks["default", CHAT], talks["default", "G"]

    def look() -> None:
        checks._compare_stored([talk, group])

    for holder, name, other in (
        (talk.people["bob"], "read", 0),
        (talk.people["bob"], "delivered", 0),
        (talk, "recalled", 0),
        (talk.facts[0], "message_id", 99),
        (group, "receipts_expired", 1),
    ):
        look()
        kept = getattr(holder, name)
        setattr(holder, name, other)
        found(look)
        setattr(holder, name, kept)
    inner: list[tuple[dict[str, Any], str]] = [(talk.people["bob"].held, "phone"), (group.asked[1], "bob")]
    for entries, key in inner:
        look()
        entry = entries.pop(key)
        found(look)
        entries[key] = entry
    look()


def test_a_restart_on_a_disk_that_lost_something() -> None:
    """A node that finds less on its disk than was committed has broken its word (I-24)."""
    world = world_of()
    world.do(CrashNode("lose"))
    meta = world.disk._meta
    assert meta is not None
    world.disk._meta = meta._replace(tick=meta.tick - 1)
    assert found(lambda: world.do(StartNode())) == "I-24"


# -- what is said


def _tampered(world: World, change: Callable[[NodeTick], object], step: Step) -> Callable[[], None]:
    """The next tick is changed before anybody sees it."""
    checks = checks_of(world)
    judged = checks.ticked

    def ticked(tick: NodeTick) -> None:
        change(tick)
        judged(tick)

    def look() -> None:
        checks.ticked = ticked  # type: ignore[method-assign]
        world.do(step)

    return look


Change = Callable[[Any, Any], list[tuple[Any, Any]]]
"""What (sessions, update) of an outbox becomes."""


def _changed(change: Change) -> Callable[[NodeTick], None]:
    """Change what is told in a tick; what is to be done besides stays."""

    def changed(tick: NodeTick) -> None:
        outbox: list[Any] = []
        for entry in tick.outbox:
            outbox += change(*entry) if type(entry) is tuple else [entry]
        tick.outbox = outbox

    return changed


def _drop(kind: type, *, of: str = "") -> Callable[[NodeTick], None]:
    """Leave out updates of a kind, to everybody or to one user."""

    def change(to: Any, update: Any) -> list[tuple[Any, Any]]:
        dropped = type(update) is kind and (not of or to[0].user.name == of)
        return [] if dropped else [(to, update)]

    return _changed(change)


def _again(kind: type) -> Callable[[NodeTick], None]:
    """Say it twice."""
    return _changed(lambda to, update: [(to, update)] * (2 if type(update) is kind else 1))


def _to_all(world: World, kind: type) -> Callable[[NodeTick], None]:
    """To every session there is."""
    assert world.node is not None
    everybody = [one for one in world.node.world.sessions if one.logged_in]
    return _changed(lambda to, update: [(everybody if type(update) is kind else to, update)])


def _read_more(to: Any, said: Any) -> list[tuple[Any, Any]]:
    """News with what is none."""
    if isinstance(said, updates.Read):
        said = updates.Read(CHAT, said.member, (1, 7), said.at_ms, said.version, said.by, said.through)
    return [(to, said)]


SAID: list[tuple[str, str, Callable[[World], Callable[[NodeTick], object]]]] = [
    ("a receipt is not told", "I-24", lambda world: _drop(updates.Read, of="alice")),
    ("own devices are not told", "I-16", lambda world: _drop(updates.Read, of="bob")),
    ("a receipt is told twice", "I-21", lambda world: _again(updates.Read)),
    ("a receipt is told to everybody", "I-21", lambda world: _to_all(world, updates.Read)),
    ("a receipt is told with what is old", "I-4", lambda world: _changed(_read_more)),
]


@pytest.mark.parametrize(("what", "invariant", "change"), SAID, ids=[name for name, _, _ in SAID])
def test_what_is_said_of_a_read(
    what: str, invariant: str, change: Callable[[World], Callable[[NodeTick], object]]
) -> None:
    """What the node says of a read is exactly what is new, to exactly those whom it concerns."""
    world = world_of()
    world.do(Act(BOB, "read", (CHAT, 6)))
    world.do(Deliver(BOB, True, 9))
    assert found(_tampered(world, change(world), Tick())) == invariant


def test_in_which_order_answers_come() -> None:
    """Two receipts in one tick, and then answers in another order than the judge's: the receipts, whose
    versions were taken over, are not judged again."""
    world = world_of()
    world.do(Act(BOB, "read", (CHAT, 4)))
    world.do(Deliver(BOB, True, 9))
    more = (("name", (CHAT, (6,), None)), ("mute", (CHAT, True)), ("mark", (CHAT, None)))
    for operation, arguments in more:
        world.do(Act(BOB, operation, arguments))
        world.do(Deliver(BOB, True, 9))

    def turned(tick: NodeTick) -> None:
        kinds = [type(update) for _, update in tick.outbox]  # type: ignore[misc]
        assert kinds.count(updates.Read) == 4
        assert updates.Read not in kinds[-2:]
        tick.outbox[-2:] = reversed(tick.outbox[-2:])

    _tampered(world, turned, Tick())()


OPERATIONS: list[tuple[str, str, str, tuple[Any, ...], Callable[[World], Callable[[NodeTick], object]]]] = [
    (
        "a message is not told",
        "I-24",
        "send",
        (CHAT, 0, False, False),
        lambda w: _drop(events.MessageAccepted),
    ),
    (
        "a message is told to everybody",
        "I-21",
        "send",
        (CHAT, 0, False, False),
        lambda w: _to_all(w, events.MessageAccepted),
    ),
    ("an answer is missing", "I-29", "mute", (CHAT, True), lambda w: _drop(updates.Done)),
    ("a recall is not told", "I-9", "recall", (CHAT, 1), lambda w: _drop(events.MessageRecalled)),
    ("a mark is not told", "I-16", "mark", (CHAT, None), lambda w: _drop(events.UnreadMarked)),
    ("a mark is told to the peer", "I-25", "mark", (CHAT, None), lambda w: _to_all(w, events.UnreadMarked)),
    (
        "a switch is told to the peer",
        "I-25",
        "share",
        (CHAT, None, False),
        lambda w: _to_all(w, events.SharingChanged),
    ),
]


@pytest.mark.parametrize(
    ("what", "invariant", "operation", "arguments", "change"), OPERATIONS, ids=[one[0] for one in OPERATIONS]
)
def test_what_is_said(
    what: str,
    invariant: str,
    operation: str,
    arguments: tuple[Any, ...],
    change: Callable[[World], Callable[[NodeTick], object]],
) -> None:
    """Answers and news of every kind: to whom they belong, once."""
    world = world_of('{"limits": {"recall_window_ms": 1000000}}')
    world.do(Act(PHONE, operation, arguments))
    world.do(Deliver(PHONE, True, 9))
    assert found(_tampered(world, change(world), Tick())) == invariant


def test_nothing_goes_out_before_it_is_on_disk() -> None:
    """A frame of what is decided and not written, or one too many, is a broken promise (I-24)."""
    world = world_of()
    world.do(Act(PHONE, "send", (CHAT, 0, False, False)))
    world.do(Deliver(PHONE, True))
    world.do(Tick())
    node = world.node
    assert node is not None
    checks = checks_of(world)
    node.world.released_tick = node.world.tick_number
    assert found(lambda: checks.released(Mail())) == "I-24"
    extra = Mail()
    extra.frames[node.operator] = [object()]  # type: ignore[list-item]
    assert found(lambda: world_of().checks.released(extra)) == "I-24"  # type: ignore[union-attr]


def test_who_lost_a_command_hears_of_it() -> None:
    """When a commit is undone nobody may be left without a word, and nobody else be told (I-29)."""
    world = world_of()
    world.do(Act(PHONE, "send", (CHAT, 0, False, False)))
    for step in (Deliver(PHONE, True), DiskFull(True), Tick(), Store(9)):
        world.do(step)
    checks = checks_of(world)
    judged = checks.failed

    def failed(mail: Mail) -> None:
        mail.frames.clear()
        judged(mail)

    checks.failed = failed  # type: ignore[method-assign]
    assert found(lambda: world.do(Release(9))) == "I-29"


def test_a_fenced_link_is_not_heard() -> None:
    """A command on a session that has ended must not be decided (I-23)."""
    world = world_of()
    node = world.node
    assert node is not None
    session = next(one for one in node.world.sessions if one.logged_in)
    checks = checks_of(world)
    checks.oracle.closed.add(session.number)
    tick = NodeTick(node.world.tick_number + 1)
    tick.commands.append((session, ReadConversation(0, CHAT, 1)))
    assert found(lambda: checks.ticked(tick)) == "I-23"


# -- devices

DEVICE: list[tuple[str, str, str, Callable[[Conversation], object]]] = [
    ("own messages are unread", "I-1", BOB, lambda chat: chat.members["bob"].read.discard((5, 6))),
    ("a status fell", "I-2", PHONE, lambda chat: chat.members["bob"].read_shared.discard((2, 3))),
    ("a read was taken back", "I-4", BOB, lambda chat: chat.members["bob"].read.discard((2, 3))),
    ("a head that is not there", "I-6", BOB, lambda chat: setattr(chat, "head", 9)),
    ("a read that nobody made", "I-16", BOB, lambda chat: chat.members["bob"].read.add(6, 7)),
    ("a receipt that nobody sent", "I-24", PHONE, lambda chat: chat.members["bob"].read_shared.add(6, 7)),
]


@pytest.mark.parametrize(
    ("what", "invariant", "label", "damage"), DEVICE, ids=[f"{one[0]}" for one in DEVICE]
)
def test_damage_on_a_device(
    what: str, invariant: str, label: str, damage: Callable[[Conversation], object]
) -> None:
    """A device shows no more than was decided, and nothing that it knew is lost."""
    world = world_of()
    damage(replica_of(world, label))
    assert found(checks_of(world).everything) == invariant


def test_what_was_private_is_known_to_nobody() -> None:
    """A peer's device that knows of a private read has been told too much (I-25)."""
    world = world_of()
    act(world, BOB, "share", CHAT, None, False)
    act(world, BOB, "read", CHAT, 6)
    replica_of(world, PHONE).members["bob"].read_shared.add(6, 7)
    assert found(checks_of(world).everything) == "I-25"


REST: list[tuple[str, str, str, Callable[[World], object]]] = [
    (
        "a recall was not heard",
        "I-9",
        BOB,
        lambda world: replica_of(world, BOB).recalled.discard((3, 4)),
    ),
    (
        "a read on the other device",
        "I-16",
        TABLET,
        lambda world: replica_of(world, TABLET).members["bob"].read.discard((2, 3)),
    ),
    (
        "a receipt was not heard",
        "I-24",
        PHONE,
        lambda world: replica_of(world, PHONE).members["bob"].read_shared.discard((2, 3)),
    ),
    (
        "a message is not there",
        "I-12",
        BOB,
        lambda world: world.devices[BOB].session.replica._boxes[CHAT].drop([2]),
    ),
    ("muted elsewhere", "I-16", BOB, lambda world: _mute(replica_of(world, BOB))),
    (
        "an answer was not heard",
        "I-24",
        PHONE,
        lambda world: replica_of(world, PHONE, "G").asked[1].readers.clear(),
    ),
    (
        "somebody is thought to be there",
        "I-19",
        PHONE,
        lambda world: replica_of(world, PHONE, "G").member("bob").close_period(_newest(world), 1),
    ),
]


def _mute(chat: Conversation) -> None:
    chat.members["bob"].set_register(Register.MUTED, 99, True)


def _newest(world: World) -> int:
    return max(replica_of(world, PHONE, "G").members["bob"].periods)


@pytest.mark.parametrize(("what", "invariant", "label", "damage"), REST, ids=[one[0] for one in REST])
def test_at_rest_every_device_knows_it_all(
    what: str, invariant: str, label: str, damage: Callable[[World], object]
) -> None:
    """When all is said, a device that knows less or something else is found, and why that matters."""
    world = world_of()
    damage(world)
    checks = checks_of(world)
    checks.watch._devices[label].known.clear()  # it was so all the time
    checks.watch._devices[label].replica.take_seen()
    assert found(checks.at_rest) == invariant


def test_at_rest_nothing_is_left_to_say() -> None:
    """A receipt that stays in an outbox, without a word why, is not lost sight of (I-29)."""
    world = world_of()
    world.devices[BOB].session.outbox.marks(CHAT).read_conversation(6, True, 0)
    assert found(checks_of(world).at_rest) == "I-29"


def test_what_a_device_acknowledged_is_there_after_a_restart() -> None:
    """Delivered means stored: a device whose disk lacks what it acknowledged is found at its start (I-24)."""
    world = world_of()
    disk = world.devices[TABLET].disk
    assert disk is not None
    assert disk.holds(CHAT, 6)
    world.do(CrashDevice(TABLET))
    del disk._messages[CHAT, 6]
    assert found(lambda: world.do(StartDevice(TABLET))) == "I-24"


def test_a_receipt_before_its_message_is_kept() -> None:
    """A replica that throws away what it cannot place yet is found at once (I-3)."""
    world = world_of()
    checks = checks_of(world)
    device = checks.watch._devices[PHONE]
    early = updates.Read(CHAT, "bob", (9, 10), 0, 9)
    device.replica.heard.append(early)  # heard, and nothing of it is in the state
    assert found(lambda: checks.heard(PHONE)) == "I-3"


def test_reading_clears_at_once() -> None:
    """A user who has read a chat sees nothing unread in it from that moment on (I-17)."""
    world = world_of()
    assert world.devices[BOB].session.unread(CHAT) == 1
    assert found(lambda: checks_of(world).read_on(BOB, CHAT, 6)) == "I-17"


def test_reading_here_reads_nothing_there() -> None:
    """What was read in one conversation may not stand in the outbox of another (I-11)."""
    world = world_of()
    session = world.devices[BOB].session
    session.read(CHAT, 6, 0)
    session.outbox.marks("G").read_conversation(1, True, 0)
    assert found(lambda: checks_of(world).read_on(BOB, CHAT, 6)) == "I-11"


def test_what_was_not_touched_has_not_changed() -> None:
    """A conversation that nothing was heard of changes on no device (I-11); a look in turns finds it."""
    world = world_of()
    replica_of(world, BOB, "G").expired_through = 1
    replica_of(world, BOB, "G").member("bob").read = RangeSet()
    replica_of(world, BOB, "G").expired_through = 0
    checks = checks_of(world)

    def look() -> None:
        for _ in range(12):
            checks.acted(BOB)

    assert found(look) == "I-11"


def test_a_message_that_is_another_one() -> None:
    """A message that reaches a device as something else than was sent is found (I-8)."""
    world = world_of()
    checks = checks_of(world)
    device = checks.watch._devices[BOB]
    device.replica.heard.append(events.MessageAccepted(CHAT, 6, MessageId(2), "alice", body="something else"))
    assert found(lambda: checks.heard(BOB)) == "I-8"


def test_a_cut_changes_nothing() -> None:
    """A device that comes back and is given less than it missed is found at rest (I-13)."""
    world = world_of()
    world.do(Cut(LAPTOP, "both"))
    for step in (Act(BOB, "send", (CHAT, 0, False, False)), Deliver(BOB, True, 9), Turn(), Turn()):
        world.do(step)
    replica = world.devices[LAPTOP].session.replica
    assert replica.token is not None
    replica.token = f"{replica.token.partition(':')[0]}:{world.node.world.committed_tick}"  # type: ignore[union-attr]
    assert found(world.heal) in ("I-13", "I-24")


def test_clocks_decide_nothing() -> None:
    """What a run came to is the same without any time in it, and tells runs that differ apart (I-7)."""
    one, other = world_of(), world_of()
    assert checks_of(one).logical() == checks_of(other).logical()
    act(other, BOB, "read", CHAT, 6)
    assert checks_of(one).logical() != checks_of(other).logical()


def test_acknowledging_through_another_link_counts_for_its_outbox_alone() -> None:
    """What an earlier life of a device has acknowledged is not asked of a later one."""
    world = world_of()
    checks = checks_of(world)
    checks.watch.acknowledged(
        "default", "bob", "another install", CHAT, AckDelivered(0, CHAT, (1, 99)).ranges
    )
    world.do(CrashDevice(TABLET))
    world.do(StartDevice(TABLET))
    world.heal()


def test_an_answer_to_something_else_is_not_taken_for_a_finding() -> None:
    """A repair that is refused is no violation when another question is answered in the same tick."""
    world = world_of()
    for step in (Operate("repair", ("default", "nowhere", "life")), Operate("stats"), Turn()):
        world.do(step)


def test_a_search_for_what_is_due_that_takes_long() -> None:
    """The node asks its store which receipts are due, and hears of it when more of them are, and the messages
    of the first ones as well: what it tells then is right."""
    people = [("alice", "phone"), ("erin", "phone")]
    settings: dict[str, dict[str, object]] = {"groups": {"may_ask_receipts": "member"}}
    settings["limits"] = {"retention_ms": 60_000, "group_receipts_kept_ms": 30_000}
    cast = Cast(
        apps=(AppCast(app="default", settings=json.dumps(settings)),),
        users=tuple(UserCast(app="default", user=user) for user in ("alice", "bob", "erin")),
        devices=tuple(
            DeviceCast(app="default", user=user, name=name, coalesce_ms=0) for user, name in people
        ),
    )
    play(cast, SLOW_SEARCH)


SLOW_SEARCH = """
wait 100
deliver erin/phone up 1
deliver alice/phone up 1
turn
turn
turn
act alice/phone create M16 ["bob","erin"]
deliver alice/phone down 1
deliver erin/phone down 1
deliver alice/phone up 1
act erin/phone send M16 0 true false
deliver erin/phone up 99
turn
act alice/phone send M16 0 true true
deliver alice/phone up 1
wait 100000
turn
wait 70000
turn
turn
"""


def test_a_device_that_comes_while_a_message_is_written() -> None:
    """Which messages a device owes does not depend on what is on disk when its author asks."""
    people = [("alice", "phone", False), ("bob", "phone", True)]
    cast = Cast(
        apps=(AppCast(app="default"),),
        users=tuple(UserCast(app="default", user=user) for user in ("alice", "bob", "cara")),
        devices=tuple(
            DeviceCast(app="default", user=user, name=name, password=password, coalesce_ms=0)
            for user, name, password in people
        ),
        heartbeat_ms=5000,
    )
    play(cast, EARLY_QUESTION)


EARLY_QUESTION = """
wait 100
deliver alice/phone up 1
act alice/phone send alice~bob 0 false true
deliver bob/phone up 1
act alice/phone status alice~bob [1]
turn
store 3 ok
release 3
say default cara send G 10 false
deliver alice/phone down 1
deliver alice/phone up 1
turn
deliver alice/phone up 1
turn
"""
