"""Nothing leaves before it is durable, and a commit that fails leaves no trace (scene 22)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from receipts.core.errors import Code
from receipts.core.events import MessageAccepted, Role
from receipts.core.policy import DAY_MS
from receipts.node.commands import (
    AddUser,
    ConfigureApp,
    LinkLost,
    ListUsers,
    MakeToken,
    Malformed,
    RemoveUser,
    SetPassword,
    Stats,
    Sweep,
    Text,
    Verify,
)
from receipts.wire import commands, updates
from receipts.wire.updates import Accepted, CatchUp, Done, Goodbye, History, Rejected, Welcome
from tests.node.playbook import Device, Playbook

AB = "alice~bob"
NewBook = Callable[..., Playbook]


def start(new_book: NewBook, **options: Any) -> tuple[Playbook, Device, Device]:
    """alice and bob on a phone each, two messages between them, and a group G of alice's."""
    book = new_book(**options)
    book.user("alice", "bob", "cara", password="secret")
    book.group("G", "alice", "bob")
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    alice.send(AB)
    bob.send(AB)
    alice.told()
    bob.told()
    return book, alice, bob


QUESTIONS: list[Any] = [
    commands.FetchHistory(rid=5, conversation=AB),
    commands.ListConversations(rid=5),
    commands.ListMembers(rid=5, conversation="G"),
    commands.GetStatus(rid=5, conversation=AB, seqs=(2,)),
    commands.ExplainUnread(rid=5, conversation=AB),
    commands.GetBadge(rid=5),
    commands.ListDevices(rid=5),
    commands.Ping(rid=5),
    Malformed(rid=5, code=Code.INVALID, reason="no", fatal=False),
]

CHANGES: list[Any] = [
    commands.SendMessage(5, AB, "x", 2),
    commands.AckDelivered(5, AB, (1, 2)),
    commands.ReadConversation(5, AB, 1),
    commands.ReadMessages(5, AB, (1, 2)),
    commands.MarkUnread(rid=5, conversation=AB),
    commands.RecallMessage(rid=5, conversation=AB, seq=2),
    commands.ClearConversation(rid=5, conversation=AB, through=1),
    commands.SetSharing(rid=5, read=False),
    commands.SetMuted(rid=5, conversation=AB, muted=True),
    commands.CreateGroup(rid=5, conversation="H", name="h", members=("alice",)),
    commands.RemoveMembers(rid=5, conversation="G", users=("bob",)),
    commands.ChangePassword(rid=5, old="secret", new="other"),
    commands.LogOutDevice(rid=5, device="tablet"),
]


@pytest.mark.parametrize("command", QUESTIONS + CHANGES, ids=lambda command: type(command).__name__)
def test_nothing_leaves_before_the_commit(new_book: NewBook, command: Any) -> None:
    """Every answer, and everything that others are told, waits for the commits in front of it."""
    book, alice, bob = start(new_book)
    tablet = book.log_in("bob", "tablet")
    book.hold = True
    book.run((alice, commands.SendMessage(4, AB, "x", 2)))
    frames = book.frames
    book.run((bob, command))
    book.run((bob, commands.SendMessage(6, "cara~bob", "refused", 9)))  # a refusal waits as well
    assert book.frames == frames
    book.finish()
    told = bob.told()
    assert sorted(update.rid for update in told if getattr(update, "rid", 0)) == [5, 6]
    assert book.frames > frames
    tablet.told()
    book.check_agreement()


@pytest.mark.parametrize("command", QUESTIONS, ids=lambda command: type(command).__name__)
def test_questions_survive_a_failed_commit(new_book: NewBook, command: Any) -> None:
    """A question that waited behind a commit that failed is answered, as if that had never been tried."""
    book, alice, bob = start(new_book)
    expected = bob.do(command)
    book.hold = True
    book.run((alice, commands.SendMessage(4, AB, "x", 2)))
    book.run((bob, command))
    book.fail()
    assert bob.told() == expected
    (lost,) = alice.told()
    assert (lost.rid, lost.code) == (4, Code.STORAGE_FULL)
    book.check_agreement()


@pytest.mark.parametrize("command", CHANGES, ids=lambda command: type(command).__name__)
def test_changes_are_undone_by_a_failed_commit(new_book: NewBook, command: Any) -> None:
    """Who asked is told that the disk is full, nobody else anything, nothing changed, and a retry works."""
    book, alice, bob = start(new_book)
    tablet = book.log_in("bob", "tablet")
    before = book.state()
    users = {name: book.store.user("default", name) for name in ("alice", "bob")}
    book.hold = True
    book.run((bob, command))
    book.fail()
    (told,) = bob.told()
    assert isinstance(told, Rejected)
    assert (told.rid, told.code) == (5, Code.STORAGE_FULL)
    assert told.retry_after_ms > 0
    assert alice.told() == []
    if isinstance(command, commands.LogOutDevice | commands.ChangePassword):  # its session was ended
        (goodbye,) = tablet.told()
        assert (goodbye.code, tablet.cut) == (Code.STORAGE_FULL, True)
    else:
        assert tablet.told() == []
    assert book.state() == before
    assert {name: book.store.user("default", name) for name in ("alice", "bob")} == users
    book.check_agreement()
    (again,) = [update for update in bob.do(command) if getattr(update, "rid", 0) == 5]
    assert isinstance(again, Accepted | Done)
    book.check_agreement()


def test_a_second_failure_and_sends_after_it(new_book: NewBook) -> None:
    """After failures in a row the same number is accepted once, with the next seq."""
    book, alice, bob = start(new_book)
    message = commands.SendMessage(4, AB, "x", 2)
    for _ in range(3):
        book.hold = True
        book.run((alice, message))
        book.fail()
        (told,) = alice.told()
        assert told.code is Code.STORAGE_FULL
        assert bob.told() == []
    book.full = True
    (told,) = alice.do(message)  # decided and failed at once
    assert told.code is Code.STORAGE_FULL
    book.full = False
    accepted = alice.ask(message)
    assert accepted.seq == 3
    assert alice.ask(message) == accepted
    (came,) = bob.told()
    assert (came.seq, came.message_id) == (3, accepted.message_id)
    book.check_agreement()
    fresh = book.crash()
    assert fresh.chat(AB).head == 3


def test_resend_while_the_commit_runs(new_book: NewBook) -> None:
    """Exactly once, for hundreds of sends that are decided and not yet written, on a new link as well."""
    book, alice, _bob = start(new_book)
    book.hold = True
    sends = [commands.SendMessage(number, AB, "x", number) for number in range(2, 402)]
    book.run(*((alice, send) for send in sends))
    book.run((alice, LinkLost()))
    book.evict()
    again = book.stranger()
    book.run((again, book.hello("alice", "phone")), *((again, send) for send in sends))
    book.finish()
    answers = [update for update in again.told() if isinstance(update, Accepted)]
    assert [answer.seq for answer in answers] == list(range(3, 403))
    assert book.chat(AB).head == 402
    book.check_agreement()


def test_everything_of_a_burst_is_known_before_it_is_written(new_book: NewBook) -> None:
    """What receipts ask about a message is answered for those that storage does not have yet."""
    book, alice, bob = start(new_book)
    book.hold = True
    book.run(*((alice, commands.SendMessage(0, AB, "x", number)) for number in range(2, 202)))
    book.run((alice, commands.RecallMessage(rid=7, conversation=AB, seq=5)))
    book.run((alice, commands.MarkUnread(rid=8, conversation=AB, from_seq=1)))
    book.run((bob, commands.ReadMessages(9, AB, (2, 30))))
    book.finish()
    assert Done(7) in alice.told()
    (own,) = [update for update in bob.told() if isinstance(update, Rejected)]
    assert (own.code, own.ranges) == (Code.OWN_MESSAGE, (2, 3))
    assert book.chat(AB).unread("alice") == 1  # bob's #2, never her own
    book.check_agreement()


def test_logins_within_a_failed_commit_are_cut(new_book: NewBook) -> None:
    """A session whose login is undone is told so and cut; the device, outbox and session are gone."""
    book, alice, _bob = start(new_book)
    old = book.log_in("bob", "tablet")
    book.hold = True
    book.run((alice, commands.SendMessage(4, AB, "x", 2)))
    fresh, again = book.stranger(), book.stranger()
    book.run((fresh, book.hello("bob", "laptop")))  # a new device
    book.run((again, book.hello("bob", "tablet")))  # a known one, which changes nothing
    book.run((fresh, commands.SendMessage(5, AB, "y", 1)))
    assert fresh.told() == again.told() == []
    book.fail()
    for device in (fresh, again):
        told = device.told()
        assert {update.code for update in told if isinstance(update, Rejected)} == {Code.STORAGE_FULL}
        assert isinstance(told[-1], Goodbye)
        assert told[-1].code is Code.STORAGE_FULL
        assert not any(isinstance(update, Welcome | CatchUp) for update in told)
        assert device.cut
        assert device.session.state == "closed"
    (goodbye,) = old.told()  # it was fenced by the login that is undone
    assert goodbye.code is Code.STORAGE_FULL
    assert book.store.install("default", "bob", "i-bob-laptop") is None
    book.check_agreement()
    assert fresh.do(commands.Ping(rid=1)) == []
    fresh.lose()
    back = book.log_in("bob", "laptop")
    assert back.send(AB).seq == 3


def test_sessions_of_before_stay(new_book: NewBook) -> None:
    """A login that had nothing to write is not undone with a later commit."""
    book, alice, bob = start(new_book)
    bob.lose()
    back = book.log_in("bob", "phone")
    book.hold = True
    book.run((alice, commands.SendMessage(4, AB, "x", 2)))
    book.fail()
    assert back.told() == []
    assert not back.cut
    alice.told()
    alice.ask(commands.SendMessage(4, AB, "x", 2))
    (came,) = back.told()
    assert isinstance(came, MessageAccepted)


def test_catching_up_goes_on_after_a_failure(new_book: NewBook) -> None:
    """A session that acknowledged its page within a commit that failed gets the next one and turns live."""
    book, alice, bob = start(new_book, settings=json.dumps({"limits": {"page_bytes_max": 1}}))
    for _ in range(5):
        alice.send(AB)
    bob.told()
    tablet = book.log_in("bob", "tablet", catch_up=False)
    (page,) = [update for update in tablet.told() if isinstance(update, CatchUp)]
    book.hold = True
    book.run((alice, alice.message(AB)))
    book.run((tablet, commands.AckPage(rid=3, token=page.token)))
    book.run((tablet, commands.AckPage(rid=4, token=page.token)))  # doubled: one page
    assert tablet.told() == []
    book.fail()
    told = tablet.told()
    assert [update for update in told if isinstance(update, Done)] == [Done(3), Done(4)]
    assert len([update for update in told if isinstance(update, CatchUp)]) == 1
    tablet.inbox.extend(told)
    book.catch_up(tablet)
    assert tablet.session.state == "live"


def test_what_was_made_in_a_failed_commit_does_not_exist(new_book: NewBook) -> None:
    """Users, groups, conversations, apps and settings that were not written are not there."""
    book, alice, bob = start(new_book)
    limits = book.hub.world.apps["default"].limits
    book.hold = True
    book.run((book.operator, AddUser(rid=1, app="default", user="dave")))
    book.run((book.operator, AddUser(rid=2, app="default", user="eve", password="secret")))
    book.run((book.operator, ConfigureApp(rid=3, app="new", settings="{}")))
    book.run((book.operator, ConfigureApp(rid=4, app="default", settings='{"limits": {"devices_max": 1}}')))
    book.run((book.operator, SetPassword(rid=5, app="default", user="cara", password="other")))
    book.run((book.operator, RemoveUser(rid=6, app="default", user="bob")))
    book.run((alice, commands.SendMessage(7, "alice~cara", "hi", 2)))
    book.run((alice, commands.CreateGroup(rid=8, conversation="H", name="h", members=("dave",))))
    book.run((book.operator, ListUsers(rid=9, app="default")))
    book.run((book.operator, MakeToken(rid=10, app="default", user="dave", lifetime_ms=5)))
    assert book.operator.told() == []
    book.fail()
    told = {update.rid: update for update in book.operator.told()}
    assert {rid for rid, update in told.items() if isinstance(update, Rejected)} == {1, 2, 3, 4, 5, 6, 10}
    assert told[10].code is Code.UNKNOWN_USER
    assert {told[rid].code for rid in (1, 2, 3, 4, 5, 6)} == {Code.STORAGE_FULL}
    assert [row["user"] for row in json.loads(told[9].text)] == ["alice", "bob", "cara"]
    assert book.hub.world.apps.keys() == {"default"}
    assert book.hub.world.apps["default"].limits is limits
    (goodbye,) = bob.told()
    assert goodbye.code is Code.STORAGE_FULL
    book.check_agreement()
    alice.told()
    alice.refused(commands.SendMessage(1, "alice~dave", "hi", 3), Code.UNKNOWN_USER)
    alice.refused(
        commands.CreateGroup(rid=1, conversation="H", name="h", members=("dave",)), Code.UNKNOWN_USER
    )
    stranger = book.stranger()
    stranger.do(commands.Hello(version=1, user="dave", device="d", install="i", password="secret"))
    assert stranger.cut
    book.user("dave")
    alice.ask(commands.CreateGroup(rid=1, conversation="H", name="h", members=("dave",)))
    book.check_agreement()


def test_a_failure_while_loads_are_in_flight(new_book: NewBook) -> None:
    """What was found by storage before the failure, and undone since, is looked up again."""
    book, alice, bob = start(new_book)
    for _ in range(70):
        alice.send(AB)
    alice.ask(commands.Ping(rid=1))
    bob.told()
    book.evict()
    assert AB not in book.hub.world.apps["default"].chats
    book.hold_loads = True
    book.run((alice, commands.RecallMessage(rid=5, conversation=AB, seq=3)))  # needs two loads
    (need,) = book.loads
    book.loads.clear()
    book._load(need)  # the conversation is there; now the message is asked for
    book.hold = True
    book.run((bob, commands.SendMessage(6, AB, "x", 2)))
    book.run((bob, commands.ListDevices(rid=7)))
    book.fail()
    assert AB not in book.hub.world.apps["default"].chats
    book.load()
    assert Done(5) in alice.told()
    answers = {update.rid: update for update in bob.told() if getattr(update, "rid", 0)}
    assert answers[6].code is Code.STORAGE_FULL
    assert isinstance(answers[7], updates.Devices)
    book.check_agreement()


def test_first_sends_and_installs_after_a_failure_with_loads(new_book: NewBook) -> None:
    """Two devices write to somebody new, the first one's commit fails: no twin conversation."""
    book, alice, _bob = start(new_book)
    tablet = book.log_in("alice", "tablet")
    book.evict()
    book.hold_loads = book.hold = True
    book.run((alice, commands.SendMessage(5, "alice~cara", "x", 2)))
    book.run((tablet, commands.SendMessage(6, "alice~cara", "y", 1)))
    while book.loads:
        book._load(book.loads.popleft())
        book._advance()
    book.hold_loads = False
    book.fail()
    for device, rid in ((alice, 5), (tablet, 6)):
        lost = [update for update in device.told() if isinstance(update, Rejected)]
        assert [update.rid for update in lost] == [rid]
    assert tablet.ask(commands.SendMessage(6, "alice~cara", "y", 1)).seq == 1
    assert alice.ask(commands.SendMessage(5, "alice~cara", "x", 2)).seq == 2
    book.check_agreement()


def test_expiry_that_failed_is_tried_again(new_book: NewBook) -> None:
    """Receipts and messages whose expiry could not be written expire at a later sweep."""
    settings = {"limits": {"retention_ms": 5 * DAY_MS}}
    book, alice, bob = start(new_book, settings=json.dumps(settings))
    alice.send("G", asks=True)
    bob.ask(commands.ReadMessages(1, "G", (1, 2)))
    alice.told()
    for after_ms in (3 * DAY_MS, 2 * DAY_MS + 1):
        book.full = True
        book.sweep(after_ms)
        assert alice.told() == []
        book.check_agreement()
        book.full = False
        book.sweep(10_000)
        assert alice.told() != []
        book.check_agreement()
    assert book.chat("G").expired_through == 1


def test_rates_hold_after_a_failure(new_book: NewBook) -> None:
    """A failed commit gives no calls back, and takes none away."""
    limits = {"limits": {"sends_burst": 4, "sends_per_second": 1}}
    book, alice, _bob = start(new_book, settings=json.dumps(limits))
    book.full = True
    for _ in range(3):
        (told,) = alice.do(commands.SendMessage(4, AB, "x", 2))
        assert told.code is Code.STORAGE_FULL
    book.full = False
    limited = alice.refused(commands.SendMessage(4, AB, "x", 2), Code.RATE_LIMITED)
    book.now_ms += limited.retry_after_ms
    assert alice.ask(commands.SendMessage(4, AB, "x", 2)).seq == 3


def test_password_work_that_began_before_a_failure(new_book: NewBook) -> None:
    """A login or change whose thread outlasts a failed commit is answered once, by its own outcome."""
    book, alice, bob = start(new_book)
    book.hold = book.hold_passwords = True
    fresh = book.stranger()
    book.run(
        (alice, commands.SendMessage(4, AB, "x", 2)),
        (fresh, book.hello("cara", "phone", password="secret")),
        (bob, commands.ChangePassword(rid=5, old="secret", new="other")),
        (book.operator, AddUser(rid=6, app="default", user="dave", password="secret")),
    )
    book.fail()
    assert fresh.told() == bob.told() == book.operator.told() == []
    book.check_passwords()
    told = fresh.told()
    assert isinstance(told[0], Welcome)
    assert bob.told() == [Done(5)]
    assert book.operator.told() == [Done(6)]


def test_links_that_ended_in_a_failed_commit_stay_ended(new_book: NewBook) -> None:
    """Garbage and silence are judged once: the last word and the cut survive the failure."""
    book, alice, bob = start(new_book)
    silent = book.log_in("cara", "phone")
    book.hold = True
    book.run((alice, commands.SendMessage(4, AB, "x", 2)))
    book.run((bob, Malformed(code=Code.BAD_FRAME, reason="not a frame", fatal=True)))
    alice.session.heard_ms = book.now_ms = book.now_ms + 61_000
    book.run((book.operator, Stats(rid=1)))
    book._decide([(book.system, Sweep())])
    book.fail()
    assert [update.code for update in bob.told()] == [Code.BAD_FRAME]
    assert [update.code for update in silent.told()] == [Code.IDLE]
    assert bob.cut
    assert silent.cut
    assert [type(update) for update in book.operator.told()] == [Text]


def test_an_undone_repair_begins_no_life(new_book: NewBook) -> None:
    """A repair whose commit fails leaves life and state as they were."""
    book, _alice, bob = start(new_book)
    book.chat(AB).members["bob"].read_shared.add(50, 60)
    book.full = True
    book.operator.do(Verify(rid=1, app="default", conversation=AB, repair=True, life="life2"))
    book.full = False
    assert book.hub.world.life == "life1"
    (goodbye,) = bob.told()
    assert goodbye.code is Code.SHUTTING_DOWN
    book.check_agreement()


def test_a_role_and_a_history_after_failure(new_book: NewBook) -> None:
    """A chain of commands that built on each other falls as one."""
    book, alice, bob = start(new_book)
    book.hold = True
    book.run((alice, commands.SetRole(rid=1, conversation="G", user="bob", role=Role.OWNER)))
    book.run((bob, commands.DissolveGroup(rid=2, conversation="G")))
    book.run((alice, commands.FetchHistory(rid=3, conversation="G")))
    book.run((alice, commands.ListMembers(rid=4, conversation="G")))
    book.fail()
    told = {update.rid: update for update in alice.told()}
    assert told[1].code is Code.STORAGE_FULL
    assert isinstance(told[3], History)
    assert [(one.user, one.role) for one in told[4].members] == [("alice", Role.OWNER), ("bob", Role.MEMBER)]
    (lost,) = bob.told()
    assert lost.code is Code.STORAGE_FULL
    book.check_agreement()


def test_ticks_that_were_not_stored_are_told_to_nobody(new_book: NewBook) -> None:
    """After a crash numbers of ticks are given again; no resume token may stand for the lost ones."""
    book, alice, bob = start(new_book)
    for _ in range(20):
        bob.ask(commands.Ping(rid=1))
    alice.refused(commands.SendMessage(1, AB, "x", 0), Code.INVALID)
    bob.ask(commands.GetBadge(rid=2))
    token = bob.token
    number = alice.number
    book = book.crash()
    alice = book.log_in("alice", "phone")
    alice.number = number
    for _ in range(5):
        alice.send(AB)
    bob = book.log_in("bob", "phone", resume=token)
    assert [m.seq for page in bob.pages for part in page.parts for m in part.messages] == [3, 4, 5, 6, 7]
