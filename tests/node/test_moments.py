"""Moments that are seldom met: two things at once, twice, too late, or on a storage with a hole in it."""

from __future__ import annotations

import gc
import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from receipts.core.errors import Code
from receipts.core.events import GroupReceiptsExpired, MessagesExpired, Register
from receipts.core.policy import DAY_MS
from receipts.core.status import Status
from receipts.node.commands import AddUser, Enter, RemoveUser, SetPassword, Verify
from receipts.node.hub import HASH_AGAIN_MS
from receipts.node.passwords import THREADS, Passwords
from receipts.node.process import THRESHOLDS, calm_collector
from receipts.node.world import Need, PasswordJob
from receipts.storage.base import RECENT
from receipts.storage.sqlite import DATABASE_NAME, SQLiteStore
from receipts.wire import commands
from receipts.wire.updates import Done, Goodbye, GroupRead, History
from tests.node.playbook import Playbook

AB = "alice~bob"
NewBook = Callable[..., Playbook]


def asked(new_book: NewBook, *groups: str, **limits: int) -> Playbook:
    """Olga asks bob for a receipt in each of these groups, one after the other, an hour apart."""
    book = new_book(settings=json.dumps({"limits": limits}))
    book.user("olga", "bob")
    olga = book.log_in("olga", "phone")
    for number, group in enumerate(groups):
        book.sweep(3_600_000 if number else 0)
        book.group(group, "olga", "bob")
        olga.send(group, asks=True)
    return book


# -- at once


def test_nothing_goes_past_a_commit_that_runs(new_book: NewBook) -> None:
    """Whoever looks for what may go out while a commit runs gets nothing, though it would need no writing."""
    book = new_book()
    book.user("alice", "bob")
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    book.hold = True
    book.run((alice, alice.message(AB)))
    book.run((bob, commands.Ping(rid=7)))
    assert not book.pipeline.idle
    early = book.pipeline.ready()
    assert (early.frames, early.then, early.again) == ({}, [], [])
    book.finish()
    message, pong = bob.told()
    assert (message.seq, pong.rid) == (1, 7)
    assert book.pipeline.idle


def test_what_has_expired_and_is_not_written_yet_does_not_expire_again(new_book: NewBook) -> None:
    """While the commit of an expiry runs storage still names it as due; askers are told of it once."""
    book = asked(new_book, "G", "H", retention_ms=10 * DAY_MS)
    olga = book.log_in("olga", "tablet")
    book.hold = True
    book.sweep(3 * DAY_MS - 1_800_000)  # the first one is due
    book.sweep(3_600_000)  # the second one is, and the first still stands in storage
    assert book.chat("G").receipts_expired_through == book.chat("H").receipts_expired_through == 1
    book.finish()
    assert [(type(update), update.conversation) for update in olga.told()] == [
        (GroupReceiptsExpired, "G"),
        (GroupReceiptsExpired, "H"),
    ]
    book.check_agreement()
    book.hold = True
    book.sweep(7 * DAY_MS)
    book.sweep(3_600_000)
    book.finish()
    assert [(type(update), update.conversation) for update in olga.told()] == [
        (MessagesExpired, "G"),
        (MessagesExpired, "H"),
    ]
    book.check_agreement()


def test_expiring_bit_by_bit_keeps_every_authors_mark(new_book: NewBook) -> None:
    """Authors have read what they wrote, whether their marks were written before it expires or with it."""
    book = new_book(settings=json.dumps({"limits": {"retention_ms": DAY_MS}}))
    book.user("alice", "bob")
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    alice.send(AB)
    book.sweep(DAY_MS // 2)
    bob.send(AB)
    book.sweep(DAY_MS // 2 + 60_001)
    assert book.chat(AB).expired_through == 1
    assert book.hub.world.apps["default"].chats[AB].folded_through == 2
    book.sweep(DAY_MS // 2)
    assert book.chat(AB).expired_through == 2
    book.check_agreement()
    book = book.crash()
    alice = book.log_in("alice", "phone")
    alice.number = 1
    alice.send(AB)
    chat = book.chat(AB)
    assert (chat.unread("alice"), chat.unread("bob")) == (0, 1)
    assert 2 in chat.members["bob"].read


# -- twice


def test_a_session_that_was_closed_is_not_closed_again(new_book: NewBook) -> None:
    """A replaced session whose link still stands hears one last word, whatever ends all sessions after it."""
    book = new_book()
    book.user("alice", "bob")
    alice = book.log_in("alice", "phone")
    alice.send(AB)
    again = book.log_in("alice", "phone")
    book.hub.world.apps["default"].chats[AB].conversation.members["bob"].read_shared.add(20, 30)
    book.operator.ask(Verify(rid=1, app="default", conversation=AB, repair=True, life="life2"))
    assert [update.code for update in alice.told() if isinstance(update, Goodbye)] == [Code.REPLACED]
    assert [update.code for update in again.told() if isinstance(update, Goodbye)] == [Code.SHUTTING_DOWN]


def test_a_removed_device_stays_as_it_was_when_its_user_is_removed(new_book: NewBook) -> None:
    """Removing an account removes the devices that are left; the row of one removed before stays."""
    book = new_book()
    book.user("alice")
    book.log_in("alice", "tablet").lose()
    phone = book.log_in("alice", "phone")
    phone.ask(commands.LogOutDevice(rid=1, device="tablet"))
    before = {row.device: row for row in book.hub.world.apps["default"].users["alice"].devices.values()}
    assert [row.removed for row in (before["phone"], before["tablet"])] == [False, True]
    book.hold = True
    book.run((book.operator, RemoveUser(rid=2, app="default", user="alice")))
    assert [row.device for row in book._started.devices] == ["phone"]
    book.finish()
    assert Done(2) in book.operator.told()
    rows = book.store.user("default", "alice")
    assert rows is not None
    after = {row.device: row for row in rows.devices}
    assert after["tablet"] == before["tablet"]
    assert after["phone"].removed
    book.check_agreement()


def test_what_is_in_memory_stands_against_what_storage_said_before(new_book: NewBook) -> None:
    """Rows that were read before a change and arrive after it do not take it back."""
    book = new_book()
    book.user("alice", "bob")
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    alice.send(AB)
    old_chat, old_user = book.store.conversation("default", AB), book.store.user("default", "bob")
    bob.ask(commands.ReadConversation(1, AB, 1))
    bob.ask(commands.SetSharing(rid=2, read=False))
    before = book.state()
    row = book.hub.world.apps["default"].users["bob"].row
    book.hub.world.learn(Need("conversation", ("default", AB)), old_chat)
    book.hub.world.learn(Need("user", ("default", "bob")), old_user)
    assert book.state() == before
    assert book.hub.world.apps["default"].users["bob"].row is row
    book.check_agreement()


# -- too late


def test_a_login_outlives_the_eviction_of_its_account_while_the_outbox_is_looked_up(
    new_book: NewBook,
) -> None:
    """What is found of an account that has left memory is not kept; the login asks again and goes on."""
    book = new_book()
    book.user("alice", "bob")
    first = book.log_in("alice", "phone")
    assert first.send(AB).seq == 1
    first.lose()
    book.evict()
    book.hold_loads = True
    phone = book.stranger("phone")
    book.run((phone, book.hello("alice", "phone")))
    app = book.hub.world.apps["default"]
    while book.loads[0].method != "install":
        book._load(book.loads.popleft())
    assert "alice" in app.users
    book.evict()
    assert "alice" not in app.users
    book.load()
    book.catch_up(phone)
    assert phone.session.state == "live"
    phone.number = 1
    assert phone.send(AB).seq == 2
    book.check_agreement()


def test_an_answer_for_a_link_that_has_gone_is_dropped(new_book: NewBook) -> None:
    """Who asks and is gone when storage answers is sent nothing; others are served."""
    book = new_book()
    book.user("alice", "bob")
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    alice.send(AB)
    bob.told()
    book.hold = True
    book.run((alice, alice.message(AB)))
    book.run((bob, commands.FetchHistory(rid=7, conversation=AB)))
    bob.lose()
    book.finish()
    assert bob.told() == []
    (page,) = [
        update for update in alice.do(commands.FetchHistory(rid=8, conversation=AB)) if update.rid == 8
    ]
    assert [message.seq for message in page.messages] == [1, 2]


def test_who_entered_with_a_token_sends_from_an_outbox_of_its_own(new_book: NewBook) -> None:
    """A call without a device sends like a device: numbered, once, however often it is said (scene 7)."""
    book = new_book()
    book.user("alice", "bob")
    bob = book.log_in("bob", "phone")
    call = book.stranger("call")
    book.run((call, Enter(rid=1, app="default", token=book.token("alice"))))
    call.told()
    taken = [call.ask(commands.SendMessage(rid, AB, "hi", 1)) for rid in (2, 3)]
    assert [(one.seq, one.message_id) for one in taken] == [(1, taken[0].message_id)] * 2
    assert [update.seq for update in bob.told()] == [1]
    assert (book.chat(AB).unread("alice"), book.chat(AB).unread("bob")) == (0, 1)
    book = book.crash()
    call = book.stranger("call")
    book.run((call, Enter(rid=1, app="default", token=book.token("alice"))))
    call.told()
    assert call.ask(commands.SendMessage(4, AB, "hi", 1)).seq == 1
    assert call.ask(commands.SendMessage(5, AB, "ho", 2)).seq == 2
    book.check_agreement()


def test_a_session_says_who_it_is(new_book: NewBook) -> None:
    """In logs a session is known by its user and device, before its login by its link."""
    book = new_book()
    book.user("alice")
    stranger, alice = book.stranger("1.2.3.4:5"), book.log_in("alice", "phone")
    assert repr(stranger.session) == f"<Session {stranger.session.number} 1.2.3.4:5 new>"
    assert repr(alice.session) == f"<Session {alice.session.number} alice/phone live>"


# -- nobody there, or long ago


def test_who_is_not_there_or_does_not_ask_is_told_of_no_delivery(new_book: NewBook) -> None:
    """Deliveries are kept for an author who is away, out of memory even, or did not ask to hear of them."""
    book = new_book()
    book.user("alice", "bob")
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    alice.send(AB)
    alice.lose()
    book.evict()
    assert "alice" not in book.hub.world.apps["default"].users
    frames = book.frames
    bob.told()
    assert bob.do(commands.AckDelivered(1, AB, (1, 2))) == [Done(1)]
    assert book.frames == frames + 1
    alice = book.log_in("alice", "phone", delivery=False)
    assert book.chat(AB).status(1, "bob") is Status.DELIVERED
    alice.number = 1
    alice.send(AB)
    bob.ask(commands.AckDelivered(2, AB, (2, 3)))
    assert alice.told() == []
    answer = alice.ask(commands.GetStatus(rid=3, conversation=AB, seqs=(1, 2)))
    assert [(item.seq, item.status) for item in answer.items] == [
        (1, Status.DELIVERED),
        (2, Status.DELIVERED),
    ]


def test_one_message_of_long_ago_is_still_its_authors(new_book: NewBook) -> None:
    """A message that has left memory is read by name as any other, and by its author never (I-26)."""
    book = new_book()
    book.user("alice", "bob")
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    alice.send(AB)
    for _ in range(RECENT + 1):
        bob.send(AB)
    assert 1 not in book.hub.world.apps["default"].chats[AB].recent
    alice.told()
    alice.refused(commands.ReadMessages(1, AB, (1, 2)), Code.OWN_MESSAGE)
    bob.told()
    assert bob.do(commands.ReadMessages(2, AB, (1, 2))) == [Done(2)]
    assert [update.ranges for update in alice.told()] == [(1, 2)]


def test_a_device_that_leaves_raises_a_group_in_silence(new_book: NewBook) -> None:
    """Under the rule 'all' what waited for a device alone is delivered then; groups are not told."""
    book = new_book(settings=json.dumps({"features": {"roll_up": "all"}}))
    book.user("alice", "bob")
    book.group("G", "alice", "bob")
    alice, phone = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    book.log_in("bob", "tablet").lose()
    alice.send("G")
    phone.told()
    phone.ask(commands.AckDelivered(1, "G", (1, 2)))
    assert book.chat("G").status(1, "bob") is Status.ACKED
    alice.told()
    phone.ask(commands.LogOutDevice(rid=2, device="tablet"))
    assert book.chat("G").status(1, "bob") is Status.DELIVERED
    assert alice.told() == []
    book.check_agreement()


# -- lost, or too much


def test_a_message_that_storage_has_lost_is_unknown(tmp_path: Path) -> None:
    """Where a row is gone from the file, its message cannot be recalled, and the node goes on."""
    book = Playbook(SQLiteStore(tmp_path / "data"))
    book.user("alice", "bob")
    alice = book.log_in("alice", "phone")
    for _ in range(3):
        alice.send(AB)
    book.store.close()
    with sqlite3.connect(tmp_path / "data" / DATABASE_NAME) as db:
        assert db.execute("DELETE FROM messages WHERE seq = 2").rowcount == 1
    db.close()
    book = book.crash()
    alice = book.log_in("alice", "phone")
    alice.refused(commands.RecallMessage(rid=1, conversation=AB, seq=2), Code.UNKNOWN_MESSAGE)
    assert alice.do(commands.RecallMessage(rid=2, conversation=AB, seq=3)) == [Done(2)]
    book.store.close()


def test_a_page_of_history_holds_what_fits_and_one_at_least(new_book: NewBook) -> None:
    """Long messages come in smaller pages, each saying that there is more, down to one alone (I-22)."""
    book = new_book(settings=json.dumps({"limits": {"page_bytes_max": 1000}}))
    book.user("alice", "bob")
    alice = book.log_in("alice", "phone")
    for size in (10, 400, 400, 5000):
        alice.send(AB, "x" * size)
    pages: list[tuple[list[int], bool]] = []
    before = 0
    while not pages or pages[-1][1]:
        page = alice.ask(commands.FetchHistory(rid=1, conversation=AB, before=before))
        assert isinstance(page, History)
        pages.append(([message.seq for message in page.messages], page.more))
        before = page.messages[0].seq
    assert pages == [([4], True), ([1, 2, 3], False)]


def test_a_group_keeps_its_description(new_book: NewBook) -> None:
    """What a group is described by at its making is there for everybody, over a restart as well."""
    book = new_book()
    book.user("alice", "bob")
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    made = commands.CreateGroup(rid=1, conversation="G", name="g", description="about", members=("bob",))
    assert Done(1) in alice.do(made)
    (part,) = [part for part in bob.told() if getattr(part, "conversation", "") == "G"]
    texts = {one.register: one.value for one in part.registers}
    assert texts == {Register.NAME: "g", Register.DESCRIPTION: "about"}
    book = book.crash()
    assert book.chat("G").registers[Register.DESCRIPTION][1] == "about"


def test_i_08_whatever_the_clock_does_the_seq_is_the_order(new_book: NewBook) -> None:
    """I-8: with a clock that stands still or steps back, pages, lists, counts and receipts follow the seq."""
    book = new_book()
    book.user("alice", "bob")
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    for back_ms in (0, 0, 900_000, -5, 0):
        book.now_ms -= back_ms
        alice.send(AB)
    found = alice.ask(commands.FetchHistory(rid=1, conversation=AB))
    assert [message.seq for message in found.messages] == [1, 2, 3, 4, 5]
    ids = [message.message_id for message in found.messages]
    assert ids == sorted(set(ids))
    (line,) = bob.ask(commands.ListConversations(rid=2)).items
    assert (line.last.seq, line.unread) == (5, 5)
    bob.ask(commands.ReadConversation(3, AB, 3))
    explained = bob.ask(commands.ExplainUnread(rid=4, conversation=AB))
    assert [seq for seq, _ in explained.messages] == [4, 5]
    chat = book.chat(AB)
    assert [chat.status(seq, "bob") for seq in range(1, 6)] == [Status.READ] * 3 + [Status.ACKED] * 2
    pages = book.log_in("bob", "tablet").pages
    assert [message.seq for page in pages for part in page.parts for message in part.messages] == [
        1,
        2,
        3,
        4,
        5,
    ]
    answered = book.operator.ask(Verify(rid=5, app="default", conversation=AB))
    assert json.loads(answered.text) == []
    book.check_agreement()


# -- passwords, and the process


class Loop:
    """What threads hand over, run by the test: without an event loop only they have to be waited for."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], Any]] = []

    def soon(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.calls.append(lambda: call(*arguments))


def test_passwords_are_hashed_and_checked_in_threads_of_their_own() -> None:
    """A hash fits its password and no other, a hash that is none fits nothing; two threads do all of it."""
    loop = Loop()
    passwords = Passwords(loop.soon)
    session: Any = object()
    heard: list[tuple[int, bool | str | None]] = []

    def outcomes(*jobs: tuple[str, str | None]) -> list[bool | str | None]:
        heard.clear()
        for rid, (password, known) in enumerate(jobs):
            command = AddUser(rid=rid, app="default", user="alice")
            passwords.start(
                PasswordJob(session, password, known, command),
                lambda job, outcome: heard.append((job.command.rid, outcome)),
            )
        begun = {thread.name for thread in threading.enumerate()}
        assert {f"receipts-passwords-{n}" for n in range(min(len(jobs), THREADS))} <= begun
        assert f"receipts-passwords-{THREADS}" not in begun
        passwords.close()
        for call in loop.calls:
            call()
        return [outcome for _, outcome in sorted(heard)]

    (made,) = outcomes(("secret", None))
    assert isinstance(made, str)
    assert made.startswith("$argon2id$")
    passwords, loop.calls = Passwords(loop.soon), []
    assert outcomes(("secret", made), ("wrong", made), ("secret", "no hash")) == [True, False, False]


BROKEN = "$argon2id$v=19$m=1,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA"
"""A hash that no memory is right for: less than the algorithm takes."""


def hear_of(passwords: Passwords, loop: Loop, password: str, known: str | None) -> list[Any]:
    session: Any = object()
    job = PasswordJob(session, password, known, AddUser(rid=1, app="default", user="alice"))
    heard: list[Any] = []
    passwords.start(job, lambda job, outcome: heard.append(outcome))
    passwords.close()
    for call in loop.calls:
        call()
    return heard


@pytest.mark.parametrize(("password", "known"), [("secret", BROKEN), ("\ud800", None)])
def test_what_cannot_be_hashed_is_not_a_wrong_password(password: str, known: str | None) -> None:
    """Without the memory for it, say, nobody can tell whether a password is right: the outcome is neither."""
    loop = Loop()
    assert hear_of(Passwords(loop.soon), loop, password, known) == [None]


def no_more(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_without_threads_nothing_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that gives the node no thread fails its logins, not the node."""
    monkeypatch.setattr(threading.Thread, "start", no_more)
    loop = Loop()
    assert hear_of(Passwords(loop.soon), loop, "secret", None) == [None]


def test_with_fewer_threads_one_does_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that is there goes on when the system gives no second one."""
    loop = Loop()
    passwords = Passwords(loop.soon)
    session: Any = object()
    heard: list[Any] = []
    for rid in (1, 2):
        job = PasswordJob(session, "secret", None, AddUser(rid=rid, app="default", user="alice"))
        passwords.start(job, lambda job, outcome: heard.append(outcome))
        monkeypatch.setattr(threading.Thread, "start", no_more)
    passwords.close()
    for call in loop.calls:
        call()
    assert [type(outcome) for outcome in heard] == [str, str]


def test_who_waits_for_a_password_that_cannot_be_hashed_is_told(new_book: NewBook) -> None:
    """Busy, come again: a login ends with it, a change of password is refused, and nobody waits for ever."""
    book = new_book()
    book.user("alice", password="secret")
    alice = book.log_in("alice", "phone")
    book.without_hashes = True
    refused = alice.refused(commands.ChangePassword(rid=7, old="secret", new="new"), Code.BUSY)
    assert refused.retry_after_ms == HASH_AGAIN_MS
    operator = book.operator.refused(SetPassword(rid=8, app="default", user="alice", password="x"), Code.BUSY)
    assert operator.retry_after_ms == HASH_AGAIN_MS
    stranger = book.stranger()
    rejected, goodbye = stranger.do(book.hello("alice", "tablet", password="secret"))
    assert (rejected.code, goodbye.code) == (Code.BUSY, Code.BUSY)
    assert stranger.session.state == "closed"
    book.without_hashes = False
    assert book.stranger().do(book.hello("alice", "tablet", password="secret"))[0].rid == 1


def test_the_collector_is_calmed() -> None:
    """What is there when the node starts is never looked at again, and young objects seldom."""
    thresholds = gc.get_threshold()
    gc.unfreeze()  # whoever was calm before in this process
    try:
        calm_collector()
        assert gc.get_threshold() == THRESHOLDS
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


def test_two_answers_of_a_tick_are_told_in_one_frame(new_book: NewBook) -> None:
    """Two members who answer in one tick are one piece of news to the asker, with both (R8)."""
    book = new_book()
    book.user("olga", "bob", "cara")
    book.group("G", "olga", "bob", "cara")
    olga, bob, cara = (book.log_in(name, "phone") for name in ("olga", "bob", "cara"))
    olga.send("G", asks=True)
    olga.told()
    book.run(*((one, commands.ReadMessages(1, "G", (1, 2), one.name)) for one in (bob, cara)))
    (told,) = olga.told()
    assert isinstance(told, GroupRead)
    assert (told.count, [reader.user for reader in told.readers]) == (2, ["bob", "cara"])
