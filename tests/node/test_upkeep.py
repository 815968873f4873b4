"""The rest of the node: lists, statistics, devices, accounts, expiry, verification, the operator."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from receipts.core.errors import Code, DecodeError, LocalProtocolError, Refused
from receipts.core.events import GroupReceiptsExpired, MemberLeft, MessagesExpired, Role
from receipts.core.ids import Counts
from receipts.core.policy import DAY_MS, RollUp
from receipts.core.status import Status, Unknown
from receipts.node.admin import parse_settings
from receipts.node.commands import (
    AddUser,
    ConfigureApp,
    ExplainFor,
    LinkLost,
    ListAllConversations,
    ListUsers,
    MakeGroup,
    MakeToken,
    RemoveUser,
    RevokeTokens,
    SetPassword,
    Stats,
    Text,
    Verify,
)
from receipts.node.operator import OPERATOR, encode_request
from receipts.node.upkeep import _recount
from receipts.wire import commands, updates
from receipts.wire.codec import BadCommand
from receipts.wire.updates import CatchUp, Delivered, Done, Goodbye, ReadStatistics, Rejected
from tests.node.playbook import Device, Playbook

AB = "alice~bob"
NewBook = Callable[..., Playbook]


def text_of(answer: Any) -> Any:
    assert isinstance(answer, Text)
    return json.loads(answer.text)


def kinds(found: list[Any]) -> list[type]:
    return [type(update) for update in found]


# -- lists and badges


def test_conversation_list_and_badge(new_book: NewBook) -> None:
    """The latest first, in pages, with counts; muted ones are badged apart; what is cleared is not shown."""
    book = new_book()
    names = [f"u{number}" for number in range(5)]
    book.user("bob", *names)
    bob = book.log_in("bob", "phone")
    for name in names:
        device = book.log_in(name, "phone")
        for _ in range(2):
            device.send(f"bob~{name}", f"from {name}")
    book.log_in("u0", "tablet").send("bob~u0", "newest", counts=Counts.SILENT)
    bob.told()
    bob.ask(commands.SetMuted(rid=1, conversation="bob~u1", muted=True))
    bob.ask(commands.ReadConversation(1, "bob~u2", 2))
    bob.ask(commands.MarkUnread(rid=1, conversation="bob~u2"))
    bob.ask(commands.ClearConversation(rid=1, conversation="bob~u3", through=2))
    lines: list[updates.Summary] = []
    cursor = ""
    while True:
        page = bob.ask(commands.ListConversations(rid=2, cursor=cursor, limit=2))
        lines += page.items
        cursor = page.cursor
        assert len(page.items) <= 2
        if not cursor:
            break
    assert [line.conversation for line in lines] == [f"bob~u{n}" for n in (0, 4, 3, 2, 1)]
    assert [line.unread for line in lines] == [2, 2, 0, 0, 2]
    assert [line.marked_unread for line in lines] == [False, False, False, True, False]
    assert [line.muted for line in lines] == [False] * 4 + [True]
    bodies = [line.last.body if line.last is not None else None for line in lines]
    assert bodies == ["newest", "from u4", None, "from u2", "from u1"]
    badge = bob.ask(commands.GetBadge(rid=3))
    counts = (badge.messages, badge.conversations, badge.muted_messages, badge.muted_conversations)
    assert counts == (4, 3, 2, 1)


def test_a_list_with_long_messages_fits_a_frame(new_book: NewBook) -> None:
    """Lines stay when the newest messages of a page are too long together."""
    book = new_book(settings=json.dumps({"limits": {"page_bytes_max": 1000}}))
    book.user("bob", *(f"u{number}" for number in range(3)))
    for number in range(3):
        book.log_in(f"u{number}", "phone").send(f"bob~u{number}", "x" * 400)
    items = book.log_in("bob", "phone").ask(commands.ListConversations(rid=1)).items
    assert [line.last is not None for line in items] == [True, True, False]


def test_readers_in_pages(new_book: NewBook) -> None:
    """A list of readers that does not fit is continued after the last name (I-22)."""
    book = new_book(settings=json.dumps({"limits": {"page_bytes_max": 1500, "readers_page_max": 4}}))
    names = [f"u{number}" for number in range(9)]
    book.user("olga", *names)
    book.group("G", "olga", *names)
    olga = book.log_in("olga", "phone")
    olga.send("G", asks=True)
    for name in names[:7]:
        device = book.log_in(name, "phone")
        device.ask(commands.ReadMessages(1, "G", (1, 2), "x" * (900 if name < "u2" else 1)))
    found: list[str] = []
    after, more, pages = "", True, 0
    while more:
        page = olga.ask(commands.ListReaders(rid=1, conversation="G", seq=1, after=after))
        both = sorted(reader.user for reader in (*page.readers, *page.waiting))
        found += both
        after, more, pages = both[-1], page.more, pages + 1
        assert page.count == 7
    assert found == names
    assert pages == 3


def test_status_of_large_groups_is_bounded(new_book: NewBook) -> None:
    """Members times messages that do not fit a frame are refused, with the way out."""
    book = new_book()
    names = [f"u{number}" for number in range(300)]
    book.user("olga", *names)
    book.group("G", "olga", *names)
    olga = book.log_in("olga", "phone")
    for _ in range(20):
        olga.send("G")
    answer = olga.ask(commands.GetStatus(rid=1, conversation="G", seqs=tuple(range(1, 17))))
    assert len(answer.items) == 16 * 300
    olga.refused(commands.GetStatus(rid=1, conversation="G", seqs=tuple(range(1, 21))), Code.TOO_MANY)
    members = olga.ask(commands.ListMembers(rid=1, conversation="G", limit=100))
    assert (len(members.members), members.count, members.more) == (100, 301, True)
    rest = olga.ask(commands.ListMembers(rid=1, conversation="G", after=members.members[-1].user, limit=999))
    assert (len(rest.members), rest.more) == (201, False)


def test_what_does_not_fit_a_frame_is_an_error_of_who_asked(book: Playbook) -> None:
    """An update that cannot be written ends a question with an error, a push with the end of that link."""
    alice, bob, tablet = (
        book.log_in("alice", "phone"),
        book.log_in("bob", "phone"),
        book.log_in("bob", "tablet"),
    )

    class Narrow:
        shared_key = "narrow"

        def decode(self, frame: Any) -> list[Any]:
            return [frame]

        def encode(self, update: Any, tick: int) -> list[Any]:
            if isinstance(update, updates.History) or getattr(update, "body", "") == "huge":
                raise LocalProtocolError("too large")
            return [(tick, update)]

    bob.session.dialect = tablet.session.dialect = Narrow()
    alice.send(AB)
    bob.told()
    bob.refused(commands.FetchHistory(rid=4, conversation=AB), Code.FRAME_TOO_LARGE)
    alice.send(AB, "huge")
    for device in (bob, tablet):
        assert [update.code for update in device.told() if isinstance(update, Goodbye)] == [
            Code.FRAME_TOO_LARGE
        ]
        assert device.cut
    assert alice.send(AB).seq == 3


# -- statistics (R9)


def asking_group(new_book: NewBook, **settings: Any) -> tuple[Playbook, Device, Device]:
    book = new_book(settings=json.dumps(settings))
    book.user("olga", "bob", "cara")
    book.group("G", "olga", "bob", "cara")
    olga, bob = book.log_in("olga", "phone"), book.log_in("bob", "phone")
    for _ in range(3):
        olga.send("G", asks=True)
    bob.told()
    return book, olga, bob


def test_statistics_over_a_restart(new_book: NewBook) -> None:
    """What was answered before and after a crash is in the summary, until it is acknowledged."""
    book, olga, bob = asking_group(new_book)
    olga.lose()
    bob.ask(commands.ReadMessages(1, "G", (1, 2)))
    book = book.crash()
    cara = book.log_in("cara", "phone")
    cara.ask(commands.ReadMessages(1, "G", (1, 3)))
    olga = book.log_in("olga", "phone")
    (summary,) = olga.told()
    assert summary.counts == (("G", 1, 2), ("G", 2, 1))
    book = book.crash()
    olga = book.log_in("olga", "phone")
    assert olga.told() == [summary]
    assert olga.do(commands.AckStatistics(rid=1, through=summary.through)) == [Done(1)]
    assert olga.do(commands.AckStatistics(rid=2, through=summary.through)) == [Done(2)]
    assert olga.do(commands.AckStatistics(rid=3, through=10**9)) == [Done(3)]
    book = book.crash()
    assert book.log_in("olga", "phone").told() == []


def test_what_was_told_live_is_not_summed_up(new_book: NewBook) -> None:
    """Answers that a live session was told of are no news at the next login; those to a page are."""
    book, olga, bob = asking_group(new_book)
    bob.ask(commands.ReadMessages(1, "G", (1, 2)))
    assert olga.told()
    olga.lose()
    behind = book.log_in("olga", "phone", catch_up=False)
    behind.told()
    behind.lose()
    olga = book.log_in("olga", "phone")
    assert olga.told() == []
    olga.lose()
    stopped = book.log_in("olga", "phone", catch_up=False)
    stopped.session.state, stopped.session.pushed = "behind", False  # its pages are not acknowledged yet
    bob.ask(commands.ReadMessages(1, "G", (2, 3)))
    assert not any(isinstance(update, updates.GroupRead) for update in stopped.told())
    stopped.lose()
    (summary,) = book.log_in("olga", "phone").told()
    assert summary.counts == (("G", 2, 1),)


def test_what_is_answered_in_the_tick_of_leaving_is_summed_up(new_book: NewBook) -> None:
    """An answer in the very tick in which the asker's last session ends is told by the next summary."""
    book, olga, bob = asking_group(new_book)
    bob.ask(commands.ReadMessages(1, "G", (1, 2)))
    assert olga.told()
    book.run((bob, commands.ReadMessages(0, "G", (2, 3))), (olga, LinkLost()))
    (summary,) = book.log_in("olga", "phone").told()
    assert summary.counts == (("G", 2, 1),)


def test_an_answer_that_expires_in_its_own_tick_is_told_to_nobody(new_book: NewBook) -> None:
    """When an answer and the end of its time meet in one tick, the asker hears of the end alone."""
    book, olga, bob = asking_group(new_book)
    book.evict()
    book.hold_loads = True
    book.now_ms += 3 * DAY_MS
    book.run((bob, commands.ReadMessages(0, "G", (1, 2))))
    book.sweep()
    while book.loads[0].method == "conversation":  # both wait for the group, the answer came first
        book.loads.rotate(-1)
    book.load()
    assert [type(update) for update in olga.told()] == [GroupReceiptsExpired]
    assert book.chat("G").asked == {}


def test_long_statistics_come_in_parts(new_book: NewBook, monkeypatch: pytest.MonkeyPatch) -> None:
    """A summary that does not fit a frame comes in several; the last one is acknowledged for all."""
    monkeypatch.setattr("receipts.node.catchup.STATISTICS_PER_FRAME", 2)
    book, olga, bob = asking_group(new_book)
    olga.lose()
    bob.ask(commands.ReadMessages(1, "G", (1, 4)))
    olga = book.log_in("olga", "phone")
    first, last = olga.told()
    assert isinstance(first, ReadStatistics)
    assert first.counts + last.counts == (("G", 1, 1), ("G", 2, 1), ("G", 3, 1))
    olga.ask(commands.AckStatistics(rid=1, through=first.through))
    olga.lose()
    olga = book.log_in("olga", "phone")
    assert len(olga.told()) == 2
    olga.ask(commands.AckStatistics(rid=1, through=last.through))
    olga.lose()
    assert book.log_in("olga", "phone").told() == []


# -- devices


def test_devices_seen_and_idle(new_book: NewBook) -> None:
    """When a device was last there, whether it is online, and that it is new when it was forgotten."""
    book = new_book(settings=json.dumps({"features": {"roll_up": "all"}}))
    book.user("alice", "bob")
    alice, phone = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    tablet = book.log_in("bob", "tablet")
    for device in (phone, tablet):
        device.told()
    alice.send(AB)
    phone.told()
    book.sweep(2 * 3_600_000)
    tablet.lose()
    lost_ms = book.now_ms
    book.sweep(40 * DAY_MS)
    listed = {one.device: (one.seen_ms, one.online) for one in phone.ask(commands.ListDevices(rid=1)).items}
    assert listed == {"phone": (book.now_ms, True), "tablet": (lost_ms, False)}
    alice.told()
    phone.ask(commands.AckDelivered(1, AB, (1, 2)))
    assert alice.told() == [Delivered(AB, "bob", (1, 2))]  # a device that was away so long is not waited for
    alice.send(AB)
    phone.told()
    book.log_in("bob", "tablet")
    phone.ask(commands.AckDelivered(1, AB, (2, 3)))
    assert alice.told() == [Delivered(AB, "bob", (2, 3))]  # it came back as a new one
    phone.lose()
    phone = book.log_in("bob", "phone")
    assert len(phone.ask(commands.ListDevices(rid=1)).items) == 2
    book.check_agreement()


def test_forgetting_idle_devices_raises_what_waited_for_them(new_book: NewBook) -> None:
    """Under the rule 'all' a forgotten device is no longer waited for, also for what was sent before."""
    book = new_book(settings=json.dumps({"features": {"roll_up": "all"}, "limits": {"devices_max": 3}}))
    book.user("alice", "bob")
    alice, phone, tablet = (
        book.log_in("alice", "phone"),
        book.log_in("bob", "phone"),
        book.log_in("bob", "tablet"),
    )
    watch = book.log_in("bob", "watch")
    alice.send(AB)
    phone.told()
    for device in (tablet, watch):
        device.lose()
    phone.ask(commands.AckDelivered(1, AB, (1, 2)))
    assert alice.told() == []
    book.sweep(40 * DAY_MS)
    alice.told()
    book.evict()
    book.log_in("bob", "laptop")
    assert alice.told() == [Delivered(AB, "bob", (1, 2))]
    assert [one.device for one in phone.ask(commands.ListDevices(rid=1)).items] == ["laptop", "phone"]
    phone.ask(commands.LogOutDevice(rid=2, device="laptop"))
    assert phone.do(commands.LogOutDevice(rid=3, device="phone"))[0] == Done(3)
    assert phone.cut
    book.check_agreement()


def test_idle_sessions_are_closed(book: Playbook) -> None:
    """Who is silent for two heartbeats is cut, logged in or not; who says anything is not."""
    alice, bob, stranger = book.log_in("alice", "phone"), book.log_in("bob", "phone"), book.stranger()
    book.now_ms += 59_000
    bob.ask(commands.Ping(rid=1))
    book.sweep(1_001, heard=False)
    for device in (alice, stranger):
        assert [update.code for update in device.told()] == [Code.IDLE]
        assert device.cut
        device.lose()
    assert bob.told() == []
    assert bob.session.logged_in
    assert "alice" not in book.hub.world.apps["default"].users
    assert {session.peer for session in book.hub.world.sessions} == {"node", "operator", "phone"}


# -- accounts


def test_password_change(new_book: NewBook) -> None:
    """The old one has to be right; then other sessions and all tokens end, and only the new one lets in."""
    book = new_book()
    book.user("alice", password="old")
    phone, tablet = book.log_in("alice", "phone"), book.log_in("alice", "tablet")
    token = book.token("alice")
    phone.refused(commands.ChangePassword(rid=4, old="wrong", new="new"), Code.UNAUTHORIZED)
    phone.refused(commands.ChangePassword(rid=4, old="old", new=""), Code.INVALID)
    phone.refused(commands.ChangePassword(rid=4, old="old", new="x" * 257), Code.INVALID)
    assert not phone.cut
    assert phone.do(commands.ChangePassword(rid=5, old="old", new="new")) == [Done(5)]
    assert [update.code for update in tablet.told()] == [Code.LOGGED_OUT]
    assert phone.session.logged_in
    for hello, code in (
        (book.hello("alice", "tablet", password="old"), Code.UNAUTHORIZED),
        (book.hello("alice", "tablet", token=token), Code.TOKEN_REVOKED),
    ):
        stranger = book.stranger()
        assert stranger.do(hello)[0].code is code
    stranger = book.stranger()
    stranger.do(book.hello("alice", "tablet", password="new"))
    assert stranger.session.logged_in
    book.check_agreement()
    assert book.operator.do(SetPassword(rid=6, app="default", user="alice", password="third")) == [Done(6)]
    assert [phone.cut, stranger.cut] == [True, True]
    book.operator.refused(SetPassword(rid=7, app="default", user="zoe", password="x"), Code.UNKNOWN_USER)


def test_a_password_change_outlives_eviction_and_not_its_link(new_book: NewBook) -> None:
    """A change whose link is gone when the thread is done changes nothing."""
    book = new_book()
    book.user("alice", password="old")
    phone = book.log_in("alice", "phone")
    book.hold_passwords = True
    book.run((phone, commands.ChangePassword(rid=5, old="old", new="new")))
    phone.lose()
    book.check_passwords()
    stranger = book.stranger()
    stranger.do(book.hello("alice", "phone", password="old"))
    assert stranger.session.logged_in


def test_removing_a_user(new_book: NewBook) -> None:
    """Sessions end, groups are left and handed over, and who gets the name next finds nothing of it."""
    book = new_book()
    book.user("olga", "adam", "zed", "bob", "cara")
    book.group("G", "olga", "bob", admins=("zed", "adam"))
    book.group("H", "olga", "cara", "bob")
    book.group("alone", "olga")
    olga, bob = book.log_in("olga", "phone"), book.log_in("bob", "phone")
    olga.send("bob~olga", "secret")
    olga.send("G")
    bob.told()
    book.evict()
    book.hold = True
    book.run((bob, commands.CreateGroup(rid=1, conversation="new", name="n", members=("olga",))))
    book.run((book.operator, RemoveUser(rid=1, app="default", user="olga")))
    book.finish()
    assert Done(1) in book.operator.told()
    assert olga.cut
    told = [update for update in bob.told() if isinstance(update, MemberLeft)]
    assert sorted(update.conversation for update in told) == ["G", "H", "new"]
    owners = {
        one.user
        for name in ("G", "H")
        for one in bob.ask(commands.ListMembers(rid=2, conversation=name)).members
        if one.role is Role.OWNER
    }
    assert owners == {"adam", "bob"}
    book.operator.refused(RemoveUser(rid=2, app="default", user="olga"), Code.UNKNOWN_USER)
    book.operator.refused(MakeToken(rid=2, app="default", user="olga", lifetime_ms=5), Code.UNKNOWN_USER)
    book.user("olga")
    fresh = book.log_in("olga", "phone")
    assert not any(part.messages for page in fresh.pages for part in page.parts)
    for name in ("bob~olga", "G"):
        assert fresh.ask(commands.FetchHistory(rid=3, conversation=name)).messages == ()
    assert [one.device for one in fresh.ask(commands.ListDevices(rid=4)).items] == ["phone"]
    book.check_agreement()


def test_sharing_chosen_for_all(book: Playbook) -> None:
    """A switch for all conversations holds in those that are there, not loaded ones included, and to come."""
    book.user("cara", "dave")
    alice, bob, cara = (
        book.log_in("alice", "phone"),
        book.log_in("bob", "phone"),
        book.log_in("cara", "phone"),
    )
    alice.send(AB)
    book.evict()
    cara.send("bob~cara")
    bob.told()
    bob.ask(commands.SetSharing(rid=1, read=False, delivered=False))
    assert len(bob.told()) == 2
    book.user("eve")
    eve = book.log_in("eve", "phone")
    eve.send("bob~eve")
    changed, message = bob.told()
    assert (changed.read, changed.delivered, message.seq) == (False, False, 1)
    book.group("G", "eve", "bob")
    bob.told()
    for device in (alice, cara, eve):
        device.told()
    for name, author in ((AB, alice), ("bob~cara", cara), ("bob~eve", eve)):
        bob.ask(commands.ReadConversation(1, name, 1))
        assert author.told() == []
    eve.send("G", asks=True)
    assert bob.ask(commands.ReadMessages(1, "G", (1, 2), "words")) == Done(1)
    assert eve.told() == []
    found = eve.ask(commands.ListReaders(rid=1, conversation="G", seq=1))
    assert (found.count, found.readers, found.waiting, found.audience) == (0, (), (), 1)
    book.check_agreement()


# -- time


def test_receipts_expire_over_a_restart_and_in_many_groups(
    new_book: NewBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was running when their time came, receipts expire; a backlog is taken bit by bit."""
    monkeypatch.setattr("receipts.node.upkeep.DUE_AT_ONCE", 2)
    book = new_book(settings=json.dumps({"limits": {"retention_ms": 10 * DAY_MS}}))
    book.user("olga", "bob")
    olga = book.log_in("olga", "phone")
    for number in range(5):
        book.group(f"G{number}", "olga", "bob")
        olga.send(f"G{number}", asks=True)
    book = book.crash()
    book.sweep(3 * DAY_MS)
    book.sweep(1)
    book.sweep(1)
    book.sweep(1)
    assert [book.chat(f"G{number}").receipts_expired_through for number in range(5)] == [1] * 5
    assert book.hub.world.next_receipts_ms is None
    book.check_agreement()
    book.sweep(8 * DAY_MS)
    book.sweep(1)
    book.sweep(1)
    assert [book.chat(f"G{number}").expired_through for number in range(5)] == [1] * 5
    book.check_agreement()


def test_receipts_and_retention_due_at_once(new_book: NewBook) -> None:
    """Asking for one of two things that are due does not lose the other, however slow storage is."""
    book = new_book(settings=json.dumps({"limits": {"retention_ms": 3 * DAY_MS}}))
    book.user("olga", "bob")
    book.group("G", "olga", "bob")
    olga = book.log_in("olga", "phone")
    olga.send("G", asks=True)
    book.sweep()
    book.evict()
    olga.told()
    book.hold_loads = True
    book.sweep(3 * DAY_MS + 60_001)
    while book.loads:
        book.now_ms += 1
        book._load(book.loads.popleft())
        book._advance()
    book.hold_loads = False
    assert kinds(olga.told()) == [GroupReceiptsExpired, MessagesExpired]
    assert (book.chat("G").expired_through, book.chat("G").receipts_expired_through) == (1, 1)
    book.check_agreement()


def test_retention(new_book: NewBook) -> None:
    """Old messages go with their receipts, counts stay exact, and the next resume and recount agree."""
    book = new_book(settings=json.dumps({"limits": {"retention_ms": DAY_MS}}))
    book.user("alice", "bob")
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    for _ in range(70):
        alice.send(AB)
    bob.send(AB)
    book.sweep(DAY_MS // 2)
    alice.send(AB)
    alice.told()
    bob.told()
    book.sweep(DAY_MS // 2 + 60_001)
    (told,) = alice.told()
    assert told.through == 71
    assert bob.told() == [told]
    assert book.chat(AB).unread("bob") == 1
    assert text_of(book.operator.ask(Verify(rid=1, app="default", conversation=AB))) == []
    alice.refused(commands.GetStatus(rid=1, conversation=AB, seqs=(70,)), Code.EXPIRED)
    alice.refused(commands.RecallMessage(rid=1, conversation=AB, seq=70), Code.EXPIRED)
    assert alice.send(AB).seq == 73
    assert alice.ask(commands.SendMessage(1, AB, "hi", 72)).seq == 73  # known as sent, though it may expire
    tablet = book.log_in("bob", "tablet")
    (part,) = tablet.pages[0].parts
    assert (part.expired_through, [message.seq for message in part.messages]) == (71, [72, 73])
    book.check_agreement()


def test_the_clock_may_step_back(book: Playbook) -> None:
    """Node time never goes back, in one process or over a restart."""
    alice = book.log_in("alice", "phone")
    first = alice.send(AB).at_ms
    book.now_ms -= 500_000
    assert alice.send(AB).at_ms == first
    book = book.crash()
    alice = book.log_in("alice", "phone")
    alice.number = 2
    assert alice.send(AB).at_ms == first


# -- verification and repair


def test_verify_finds_and_repair_mends(new_book: NewBook) -> None:
    """A corrupted count is found, mended from the messages, and a new life makes replicas start over."""
    book = new_book()
    book.user("alice", "bob")
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    for _ in range(3):
        alice.send(AB)
    bob.send(AB)
    alice.ask(commands.RecallMessage(rid=1, conversation=AB, seq=2))
    alice.send(AB, counts=Counts.SILENT)
    verify = Verify(rid=1, app="default", conversation=AB)
    assert text_of(book.operator.ask(verify)) == []
    healthy = book.chat(AB).dump()
    chat = book.chat(AB)
    chat.recalled.discard((2, 3))
    chat.uncounted.discard((5, 6))
    chat.members["alice"].read.discard((1, 2))
    chat.members["bob"].read_shared.add(20, 30)
    found = {(one["invariant"], one["member"]) for one in text_of(book.operator.ask(verify))}
    assert found == {("I-14", None), ("I-1", "alice"), ("I-6", "bob"), ("I-14", "alice"), ("I-14", "bob")}
    repair = Verify(rid=2, app="default", conversation=AB, repair=True, life="life2")
    book.operator.refused(Verify(rid=2, app="default", conversation=AB, repair=True), Code.INVALID)
    assert text_of(book.operator.ask(repair)) != []
    assert book.chat(AB).dump() == healthy
    assert text_of(book.operator.ask(verify)) == []
    for device in (alice, bob):
        assert [update.code for update in device.told() if isinstance(update, Goodbye)] == [
            Code.SHUTTING_DOWN
        ]
        assert device.cut
    again = book.log_in("bob", "phone", resume=bob.token)
    assert again.pages[0].full
    assert again.prefix == "life2:"
    book.check_agreement()
    book = book.crash()
    assert book.hub.world.life == "life2"
    assert text_of(book.operator.ask(repair)) == []  # nothing to mend, no new life
    assert book.hub.world.life == "life2"
    book.operator.refused(Verify(rid=3, app="default", conversation="nowhere"), Code.UNKNOWN_CONVERSATION)
    book.operator.refused(Verify(rid=3, app="nowhere", conversation=AB), Code.UNKNOWN_CONVERSATION)


def test_verify_compares_like_with_like(book: Playbook) -> None:
    """What is not written yet is no finding; a conversation that never rests is said to be busy."""
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    for _ in range(3):
        alice.send(AB)
    book.hold = True
    book.run((alice, alice.message(AB)))
    book.run((alice, commands.RecallMessage(rid=1, conversation=AB, seq=1)))
    book.hold_loads = True
    book.run((book.operator, Verify(rid=1, app="default", conversation=AB)))
    book._load(book.loads.popleft())
    book.finish()
    book.load()
    assert text_of(book.operator.told()[0]) == []
    book.hold_loads = True
    book.run((book.operator, Verify(rid=2, app="default", conversation=AB)))
    while book.loads:
        book.run((bob, bob.message(AB)))
        need = book.loads.popleft()
        if need.method == "history":
            book._load(need)
            book._advance()
        else:
            book._load(need)
    (busy,) = book.operator.told()
    assert (busy.code, busy.rid) == (Code.BUSY, 2)
    assert busy.retry_after_ms > 0


def test_verify_of_an_empty_and_of_a_damaged_conversation(new_book: NewBook) -> None:
    """No messages, no findings; seqs that are not dense and ids that do not rise are found."""
    book = new_book()
    book.user("alice", "bob")
    book.group("G", "alice", "bob")
    assert text_of(book.operator.ask(Verify(rid=1, app="default", conversation="G"))) == []
    alice = book.log_in("alice", "phone")
    for _ in range(3):
        alice.send("G")
    chat = book.hub.world.apps["default"].chats["G"]
    facts = book.store.history(chat.key, (1, 4), 9)
    twisted = [facts[0]._replace(seq=2, message_id=50), facts[1]._replace(seq=1), facts[2]]
    details = [finding.detail for finding in _recount(chat, twisted)]
    assert "the seqs in storage are not dense" in details
    assert "message ids do not rise with the seq" in details


# -- the operator


def test_operator_lists_and_figures(new_book: NewBook) -> None:
    """Accounts, conversations, figures and explanations for the operator."""
    book = new_book(apps={"two": "{}"})
    book.user("alice", "bob", password="secret")
    book.user("carl", app="two")
    alice, _bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    alice.send(AB)
    alice.send(AB)
    users = text_of(book.operator.ask(ListUsers(rid=1, app="default", limit=1)))
    assert users == [{"user": "alice", "created_ms": 1_000_000, "password": True}]
    rest = text_of(book.operator.ask(ListUsers(rid=1, app="default", after="alice", limit=-5)))
    assert [row["user"] for row in rest] == ["bob"]
    book.operator.refused(ListUsers(rid=1, app="none"), Code.UNKNOWN_APP)
    book.operator.do(RemoveUser(rid=1, app="two", user="carl"))
    assert text_of(book.operator.ask(ListUsers(rid=1, app="two"))) == []
    listed = text_of(book.operator.ask(ListAllConversations(rid=1)))
    assert [line[1:] for line in listed] == [["default", AB]]
    figures = text_of(book.operator.ask(Stats(rid=1)))
    assert figures["life"] == "life1"
    assert (figures["sessions"], figures["conversations"]) == (4, 1)
    explained = book.operator.ask(ExplainFor(rid=1, app="default", user="bob", conversation=AB, limit=1))
    assert (explained.unread, [seq for seq, _ in explained.messages], explained.more) == (2, [1], True)
    explain = ExplainFor(rid=1, app="default", user="bob", conversation=AB, after=1)
    assert [seq for seq, _ in book.operator.ask(explain).messages] == [2]
    for user, conversation, code in (
        ("zoe", AB, Code.UNKNOWN_USER),
        ("bob", "nowhere", Code.UNKNOWN_CONVERSATION),
    ):
        book.operator.refused(ExplainFor(rid=1, app="default", user=user, conversation=conversation), code)


def test_operator_mistakes(book: Playbook) -> None:
    """Each mistake of an operator has its answer, and changes nothing."""
    wrong: list[tuple[Any, Code]] = [
        (AddUser(rid=1, app="default", user="alice"), Code.ALREADY_EXISTS),
        (AddUser(rid=1, app="default", user="Alice"), Code.INVALID),
        (AddUser(rid=1, app="none", user="zoe"), Code.UNKNOWN_APP),
        (AddUser(rid=1, app="default", user="zoe", password=""), Code.INVALID),
        (RevokeTokens(rid=1, app="default", user="zoe"), Code.UNKNOWN_USER),
        (MakeGroup(rid=1, app="default", conversation="G", name="g", owner="zoe"), Code.UNKNOWN_USER),
        (MakeGroup(rid=1, app="default", conversation="G", name="x" * 201, owner="bob"), Code.INVALID),
        (MakeGroup(rid=1, app="default", conversation="a~b", name="g", owner="bob"), Code.INVALID),
        (ConfigureApp(rid=1, app="", settings="{}"), Code.INVALID),
        (ConfigureApp(rid=1, app="x" * 129, settings="{}"), Code.INVALID),
        (ConfigureApp(rid=1, app="default", settings="{"), Code.INVALID),
    ]
    before = book.hub.world.apps["default"].limits
    for command, code in wrong:
        book.operator.refused(command, code)
    assert book.hub.world.apps["default"].limits is before
    book.operator.do(MakeGroup(rid=1, app="default", conversation="G", name="g", owner="bob"))
    taken = MakeGroup(rid=1, app="default", conversation="G", name="g", owner="bob")
    book.operator.refused(taken, Code.ALREADY_EXISTS)
    book.check_agreement()


def test_an_app_is_made_and_switched_while_it_runs(book: Playbook) -> None:
    """Settings take effect at once, and a new app is another world."""
    alice = book.log_in("alice", "phone")
    settings = '{"limits": {"body_bytes_max": 3}}'
    assert book.operator.do(ConfigureApp(rid=1, app="default", settings=settings)) == [Done(1)]
    alice.refused(commands.SendMessage(1, AB, "four", 1), Code.INVALID)
    assert book.operator.do(ConfigureApp(rid=1, app="new", settings="")) == [Done(1)]
    book.user("alice", "bob", app="new")
    assert book.log_in("alice", "phone", app="new").send(AB, "four").seq == 1
    assert sorted(row.app for row in book.store.apps()) == ["default", "new"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[]", "parts"),
        ("nonsense", "JSON"),
        ('{"other": {}}', "parts"),
        ('{"limits": []}', "table"),
        ('{"limits": {"nothing": 1}}', "no setting"),
        ('{"features": {"groups": {}}}', "no setting"),
        ('{"limits": {"gaps_max": -1}}', "not negative"),
        ('{"limits": {"gaps_max": true}}', "not negative"),
        ('{"limits": {"gaps_max": "9"}}', "not negative"),
        ('{"limits": {"gaps_max": Infinity}}', "not negative"),
        ('{"limits": {"gaps_max": NaN}}', "not negative"),
        ('{"features": {"recall": 1}}', "bool"),
        ('{"features": {"roll_up": "some"}}', "one of any, all"),
        ('{"groups": {"may_add": "boss"}}', "one of owner, admin, member"),
        ("[" * 100_000, "JSON"),
    ],
)
def test_settings_errors(text: str, wrong: str) -> None:
    """A setting that cannot be is named, with what it may be."""
    with pytest.raises(Refused, match=wrong) as caught:
        parse_settings(text)
    assert caught.value.code is Code.INVALID


def test_settings() -> None:
    """All three parts, each by name."""
    text = json.dumps(
        {
            "features": {"recall": False, "roll_up": "all"},
            "groups": {"may_add": "member"},
            "limits": {"sends_per_second": 2, "gaps_max": 7.0},
        }
    )
    features, limits = parse_settings(text)
    assert (features.recall, features.roll_up, features.groups.may_add) == (False, RollUp.ALL, Role.MEMBER)
    assert (limits.sends_per_second, limits.gaps_max) == (2.0, 7)
    assert parse_settings("") == parse_settings("{}")


@pytest.mark.parametrize(
    "command",
    [
        AddUser(rid=1, app="org#one", user="alice", password="x"),
        MakeGroup(rid=2, app="a", conversation="G", name="n", owner="o", admins=("a",), members=("b", "c")),
        Verify(rid=3, app="a", conversation=AB, repair=True, life="x"),
        ConfigureApp(rid=4, app="a", settings="{}"),
        MakeToken(rid=5, app="a", user="b", lifetime_ms=7),
        ListAllConversations(rid=6),
        Stats(rid=7),
    ],
    ids=lambda command: type(command).__name__,
)
def test_operator_requests_as_frames(command: Any) -> None:
    """A request survives its frame; an answer is a JSON object with its type."""
    assert OPERATOR.decode(encode_request(command)) == [command]
    (frame,) = OPERATOR.encode(Rejected(rid=1, code=Code.INVALID, reason="no"), 5)
    assert json.loads(frame)["code"] == "invalid"
    assert json.loads(frame)["type"] == "Rejected"


@pytest.mark.parametrize(
    "frame", ["nonsense", "[]", "{}", '{"type": 5}', b"\xff", "[" * 100_000], ids=range(6)
)
def test_operator_frames_that_are_none(frame: Any) -> None:
    """What is no request ends the link."""
    with pytest.raises(DecodeError) as caught:
        OPERATOR.decode(frame)
    assert not isinstance(caught.value, BadCommand)


@pytest.mark.parametrize(
    ("frame", "rid"),
    [
        ('{"type": "Nothing", "rid": 4}', 4),
        ('{"type": "AddUser", "rid": 4, "app": "default", "user": 5}', 4),
        ('{"type": "AddUser", "rid": 4, "app": "default"}', 4),
        ('{"type": "AddUser", "app": "default", "user": "zoe"}', 0),
        ('{"type": "Stats", "rid": 4, "more": 1}', 4),
        ('{"type": "ListUsers", "rid": 4, "app": "default", "limit": "x"}', 4),
        ('{"type": "MakeGroup", "rid": 4, "app": "d", "conversation": "G", "name": "g", "owner": []}', 4),
    ],
)
def test_operator_requests_with_mistakes(frame: str, rid: int) -> None:
    """A mistake in a request is answered, whatever is in it: it never reaches a handler."""
    with pytest.raises(BadCommand) as caught:
        OPERATOR.decode(frame)
    assert caught.value.rid == rid


# -- catching up


def test_resume_of_leavers(new_book: NewBook) -> None:
    """Who has left hears by resume no more than live: the own leaving, and nothing of what came after."""
    book = new_book()
    book.user("olga", "bob", "cara", "dan")
    book.group("G", "olga", "bob", "cara")
    olga, bob = book.log_in("olga", "phone"), book.log_in("bob", "phone")
    olga.send("G")
    olga.send("G")
    token = bob.token
    bob.lose()
    olga.ask(commands.RemoveMembers(rid=1, conversation="G", users=("bob",)))
    for command in (
        commands.ChangeGroup(rid=2, conversation="G", name="secret"),
        commands.AddMembers(rid=2, conversation="G", users=("dan",)),
        commands.SetRole(rid=2, conversation="G", user="cara", role=Role.ADMIN),
    ):
        olga.ask(command)
    olga.send("G")
    bob = book.log_in("bob", "phone", resume=token)
    (part,) = [part for page in bob.pages for part in page.parts]
    assert [member.user for member in part.members] == ["bob"]
    assert (part.head, part.registers, [m.seq for m in part.messages]) == (2, (), [])
    token = bob.token
    bob.lose()
    olga.send("G")
    olga.ask(commands.ChangeGroup(rid=2, conversation="G", name="more"))
    olga.ask(commands.RemoveMembers(rid=2, conversation="G", users=("dan",)))
    bob = book.log_in("bob", "phone", resume=token)
    assert [part for page in bob.pages for part in page.parts] == []
    full = book.log_in("bob", "tablet")
    (part,) = full.pages[0].parts
    assert [member.user for member in part.members] == ["bob"]
    assert part.registers == ()
    assert book.chat("G").status(1, "bob") is Status.ACKED
    found = olga.ask(commands.GetStatus(rid=1, conversation="G", seqs=(1,))).items
    assert {one.read for one in found} == {Unknown.NOT_ASKED}
    live = [update for update in full.told() if isinstance(update, CatchUp)]
    assert live == []


def test_resume_of_who_was_let_in_meanwhile(new_book: NewBook) -> None:
    """Who was away when they were let into a group learns of all its members, as if they had been there."""
    book = new_book()
    book.user("olga", "bob", "erin")
    book.group("G", "olga", "bob")
    olga, erin = book.log_in("olga", "phone"), book.log_in("erin", "phone")
    tablet = book.log_in("erin", "tablet")
    olga.send("G")
    olga.send("erin~olga")
    erin.told()
    token = erin.token
    erin.lose()
    olga.ask(commands.AddMembers(rid=1, conversation="G", users=("erin",)))
    olga.send("G")
    erin = book.log_in("erin", "phone", resume=token)
    (part,) = [part for page in erin.pages for part in page.parts]
    (live,) = [update for update in tablet.told() if isinstance(update, updates.ConversationPart)]
    assert part.members == live.members
    assert [message.seq for message in part.messages] == [2]
