"""Devices that keep nothing themselves: what they say, what waits for them, and corners."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from receipts.core.errors import Code
from receipts.core.events import MessageAccepted
from receipts.core.status import Status
from receipts.node.queued import (
    AckQueue,
    Answered,
    Deed,
    Heard,
    Level,
    Opened,
    QueuePage,
    ReadUpTo,
    Recalled,
    Received,
    Summary,
    ToMessage,
)
from receipts.storage.sqlite import DATABASE_NAME, SQLiteStore
from receipts.wire import commands
from receipts.wire.updates import Done, Goodbye
from tests.node.playbook import Device, Playbook

AB = "alice~bob"
NewBook = Callable[..., Playbook]


def browser(book: Playbook, user: str, device: str = "web") -> Device:
    """Log in with a device that keeps nothing, and acknowledge what waited; the inbox keeps it."""
    found = book.stranger(f"{user}/{device}")
    found.session.queued = True
    book.run((found, book.hello(user, device)))
    while found.session.state == "behind":
        pages = [update for update in found.inbox if isinstance(update, QueuePage)]
        book.run((found, AckQueue(page=pages[-1].token)))
    acknowledge(found)
    return found


def acknowledge(device: Device) -> None:
    """Say that all that was told has arrived."""
    for update in list(device.inbox):
        for item in update.items if isinstance(update, QueuePage) else (update,):
            heard = _heard(device, item)
            if heard is not None:
                device.book.run((device, AckQueue(heard=(heard,))))
        if isinstance(update, QueuePage) and update.items:
            device.book.run((device, AckQueue(page=update.token)))


def _heard(device: Device, item: Any) -> Heard | None:
    if isinstance(item, Received):
        if item.level is Level.CLEARED:
            return Heard(item.conversation, cleared=item.last)
        read = item.ranges if item.level is not Level.DELIVERED else ()
        return Heard(item.conversation, delivered=item.ranges, read=read)
    if isinstance(item, Answered):
        return Heard(item.conversation, answered=item.readers[-1].version)
    return (
        Heard(item.conversation, held=(item.seq, item.seq + 1)) if isinstance(item, MessageAccepted) else None
    )


def items(device: Device) -> list[Any]:
    """What the pages held, and what came live, in order; the inbox is empty after it."""
    found: list[Any] = []
    for update in device.told():
        if isinstance(update, QueuePage):
            found += update.items
        elif isinstance(update, Received | Answered | Recalled | MessageAccepted):
            found.append(update)
    return found


# -- what is said


def test_only_a_device_that_keeps_nothing_has_a_queue(book: Playbook) -> None:
    """A native device, which keeps its own state, cannot speak as if it did not."""
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    sent = alice.send(AB)
    bob.told()
    for command in (
        AckQueue(rid=1, through=9),
        ReadUpTo(1, AB, 1),
        ToMessage(1, AB, sent.message_id, Deed.READ),
    ):
        bob.refused(command, Code.INVALID)
    assert book.chat(AB).unread("bob") == 1


def test_messages_are_known_by_their_ids_alone(new_book: NewBook) -> None:
    """An id is delivered, read and recalled by; one that stands for nothing, or elsewhere, is refused."""
    book = new_book()
    book.user("alice", "bob", "cara")
    book.group("G", "alice", "cara")
    alice, bob = browser(book, "alice"), browser(book, "bob")
    sent = [alice.send(AB).message_id for _ in range(3)]
    alice.told()
    assert bob.do(ToMessage(1, AB, sent[0], Deed.DELIVER))[-1] == Done(1)
    assert [(one.level, one.message_ids) for one in items(alice)] == [(Level.DELIVERED, (sent[0],))]
    assert bob.do(ToMessage(2, AB, sent[1], Deed.READ))[-1] == Done(2)
    assert [(one.level, one.message_ids) for one in items(alice)] == [(Level.READ, (sent[1],))]
    assert alice.do(ToMessage(3, AB, sent[2], Deed.RECALL))[-1] == Done(3)
    assert [(one.seq, one.message_id, one.by) for one in items(bob)] == [(3, sent[2], "alice")]
    assert book.chat(AB).unread("bob") == 1
    for wrong in (sent[0] - 2, sent[0] + 1, sent[2] + 10**6, 0):
        bob.refused(ToMessage(4, AB, wrong, Deed.READ), Code.UNKNOWN_MESSAGE)
    bob.refused(ToMessage(5, "G", sent[0], Deed.READ), Code.NOT_A_MEMBER)
    bob.refused(ToMessage(6, "nowhere", sent[0], Deed.READ), Code.UNKNOWN_CONVERSATION)
    book.check_agreement()


def test_reading_where_nothing_was_said_is_done(book: Playbook) -> None:
    """A conversation receipt between two who never spoke reads nothing; a group has to be there."""
    bob = browser(book, "bob")
    bob.told()
    assert bob.do(ReadUpTo(1, AB, 0)) == [Done(1)]
    bob.refused(ReadUpTo(2, "nowhere", 0), Code.UNKNOWN_CONVERSATION)
    assert AB not in book.hub.world.apps["default"].chats


def test_a_conversation_receipt_reaches_what_was_there_at_login(book: Playbook) -> None:
    """However often it is said, and with one device that tells itself nothing: scene 24."""
    alice = book.log_in("alice", "phone")
    for _ in range(3):
        alice.send(AB)
    bob = browser(book, "bob")
    alice.send(AB)
    alice.told()
    bob.told()
    for rid, unread in ((1, 1), (2, 1)):
        assert bob.do(ReadUpTo(rid, AB, 0)) == [Done(rid)]
        assert book.chat(AB).unread("bob") == unread
    assert bob.do(ReadUpTo(3, AB, 4)) == [Done(3)]
    assert book.chat(AB).unread("bob") == 0
    assert [update.ranges for update in alice.told()] == [(1, 4), (4, 5)]


def test_what_arrives_after_leaving_is_not_held(new_book: NewBook) -> None:
    """A message that is acknowledged by somebody who was put out meanwhile is taken for nothing."""
    book = new_book()
    book.user("alice", "bob")
    book.group("G", "alice", "bob")
    alice, bob = book.log_in("alice", "phone"), browser(book, "bob")
    alice.send("G")
    bob.told()
    alice.ask(commands.RemoveMembers(rid=1, conversation="G", users=("bob",)))
    assert bob.do(AckQueue(rid=2, heard=(Heard("G", held=(1, 2)),)))[-1] == Done(2)
    assert book.chat("G").members["bob"].devices.get("web") is None
    assert book.chat("G").status(1, "bob") is Status.ACKED
    book.check_agreement()


def test_the_other_devices_are_told_when_all_is_read(book: Playbook) -> None:
    """R4: one frame says that nothing is unread any more, not to the device that read; less is not told."""
    alice, one, other = (
        book.log_in("alice", "phone"),
        browser(book, "bob", "one"),
        browser(book, "bob", "other"),
    )
    alice.send(AB)
    alice.send(AB)
    for device in (one, other):
        device.told()
    one.do(ReadUpTo(1, AB, 1))
    assert items(other) == []
    one.do(ReadUpTo(2, AB, 2))
    assert [(one.level, one.member, one.last) for one in items(other)] == [(Level.CLEARED, "bob", 2)]
    assert items(one) == []
    other.lose()
    alice.send(AB)
    one.told()
    assert one.do(ReadUpTo(3, AB, 3)) == [Done(3)], "there is nobody else to tell"
    book.check_agreement()


def test_what_has_arrived_twice_is_held_once(book: Playbook) -> None:
    """An acknowledgement that is said again changes nothing (I-23)."""
    alice, web = book.log_in("alice", "phone"), browser(book, "bob")
    alice.send(AB)
    before = []
    for _ in range(2):
        web.do(AckQueue(heard=(Heard(AB, held=(1, 2)),)))
        before.append(book.chat(AB).dump())
    assert before[0] == before[1]
    assert book.chat(AB).members["bob"].devices["web"].ranges == (1, 2)
    assert book.chat(AB).status(1, "bob") is Status.ACKED, "arrival is not delivery"


# -- login


def test_a_name_with_a_slot_takes_the_first_that_is_free(book: Playbook) -> None:
    """Clients that have no name of their own are devices one, two, … as long as they are there."""
    first, second = browser(book, "bob", "web#"), browser(book, "bob", "web#")
    assert [device.session.device for device in (first, second)] == ["web#1", "web#2"]
    first.lose()
    assert browser(book, "bob", "web#").session.device == "web#1"
    native = book.log_in("alice", "phone")
    listed = native.ask(commands.ListDevices(rid=1)).items
    assert [one.device for one in listed] == ["phone"]


def test_each_login_of_a_device_has_a_later_time(book: Playbook) -> None:
    """Also while the one before is still there, and nothing of it is written, at one moment of the clock."""
    times = []
    devices = []
    for _ in range(3):
        found = book.stranger("web")
        found.session.queued = True
        book.run((found, book.hello("bob", "web")))
        (opened,) = [update for update in found.told() if isinstance(update, Opened)]
        times.append(opened.login_ms)
        devices.append(found)
    assert times == sorted(set(times))
    closed = [[update.code for update in one.told() if isinstance(update, Goodbye)] for one in devices]
    assert closed == [[Code.REPLACED], [Code.REPLACED], []]
    assert [one.session.state for one in devices] == ["closed", "closed", "live"]


# -- what waits


def test_what_was_read_elsewhere_waits_too(new_book: NewBook) -> None:
    """A device that was away is told that all was read on another; one that is new need not be."""
    book = new_book()
    book.user("alice", "bob")
    alice, phone, web = book.log_in("alice", "phone"), book.log_in("bob", "phone"), browser(book, "bob")
    alice.send(AB)
    acknowledge(web)
    web.lose()
    phone.ask(commands.ReadConversation(1, AB, 1))
    web = browser(book, "bob")
    assert [(one.level, one.member, one.last) for one in items(web)] == [(Level.CLEARED, "bob", 1)]
    web.lose()
    assert items(browser(book, "bob")) == [], "once"
    other = browser(book, "bob", "other")
    assert [one for one in items(other) if isinstance(one, Received)] == []
    other.lose()
    assert items(browser(book, "bob", "other")) == []
    book.check_agreement()


def test_answers_that_were_told_are_not_told_again(new_book: NewBook) -> None:
    """Of the answers to a message a device that comes back is given those that it has not heard of."""
    book = new_book()
    book.user("olga", "bob", "cara")
    book.group("G", "olga", "bob", "cara")
    first, bob, cara = browser(book, "olga"), book.log_in("bob", "phone"), book.log_in("cara", "phone")
    second = browser(book, "olga", "second")
    first.told()
    sent = first.send("G", asks=True)
    first.told()
    bob.ask(commands.ReadMessages(1, "G", (1, 2), "ok"))
    acknowledge(first)
    assert [(one.message_id, one.before, len(one.readers)) for one in items(first)] == [
        (sent.message_id, 0, 1)
    ]
    first.lose()
    first = browser(book, "olga")
    assert items(first) == []
    first.lose()
    cara.ask(commands.ReadMessages(1, "G", (1, 2), "seen"))
    first = browser(book, "olga")
    answered = [one for one in items(first) if isinstance(one, Answered)]
    assert [(one.before, [reader.user for reader in one.readers]) for one in answered] == [(1, ["cara"])]
    assert [one.before for one in items(second) if isinstance(one, Answered)] == [0, 1]
    new = browser(book, "bob", "new")
    assert [one for one in items(new) if isinstance(one, Answered)] == []


def test_pages_with_nothing_in_them_are_passed_over(new_book: NewBook) -> None:
    """Where many conversations changed in nothing that the device is told of, no page is waited for."""
    book = new_book(settings=json.dumps({"limits": {"page_bytes_max": 1000}}))
    names = [f"u{number:02}" for number in range(40)]
    book.user("bob", *names)
    web = browser(book, "bob")
    phone = book.log_in("bob", "phone")
    for name in names:
        phone.send(f"bob~{name}", "x" * 200)
    acknowledge(web)
    web.lose()
    for name in names:
        phone.ask(commands.SetMuted(rid=1, conversation=f"bob~{name}", muted=True))
    back = book.stranger("bob/web")
    back.session.queued = True
    book.run((back, book.hello("bob", "web")))
    assert back.session.state == "live", "nothing was to be acknowledged"
    assert items(back) == []


def test_a_long_conversation_comes_in_pages(new_book: NewBook) -> None:
    """Each page waits for the one before to arrive; what happens meanwhile comes too; receipts come once."""
    book = new_book(settings=json.dumps({"limits": {"page_bytes_max": 1000}}))
    book.user("alice", "bob")
    alice = book.log_in("alice", "phone")
    phone = book.log_in("bob", "phone")
    phone.send(AB, "mine")
    for _ in range(6):
        alice.send(AB, "x" * 400)
    web = book.stranger("bob/web")
    web.session.queued = True
    book.run((web, book.hello("bob", "web")))
    seqs: list[int] = []
    pages = 0
    while web.session.state == "behind":
        (page,) = [update for update in web.told() if isinstance(update, QueuePage)]
        seqs += [item.seq for item in page.items if isinstance(item, MessageAccepted)]
        pages += 1
        if pages == 2:
            alice.send(AB, "meanwhile")
        held = Heard(AB, held=(seqs[0], seqs[-1] + 1))
        web.do(AckQueue(heard=(held,)))
        book.run((web, AckQueue(page=page.token)))
    last = [update for update in web.told() if isinstance(update, QueuePage)]
    seqs += [item.seq for page in last for item in page.items if isinstance(item, MessageAccepted)]
    assert pages > 2
    assert seqs == [2, 3, 4, 5, 6, 7, 8], "each once, and none that the user wrote"
    book.check_agreement()


def test_receipts_by_name_wait_with_their_ids(new_book: NewBook) -> None:
    """What the peer read by name while the author was away is told with the ids of those messages alone."""
    book = new_book()
    book.user("alice", "bob")
    web, phone = browser(book, "alice"), book.log_in("bob", "phone")
    sent = [web.send(AB).message_id for _ in range(3)]
    web.lose()
    phone.send(AB)
    phone.ask(commands.ReadMessages(1, AB, (2, 3)))
    phone.ask(commands.AckDelivered(2, AB, (1, 2)))
    told = [one for one in items(browser(book, "alice")) if isinstance(one, Received)]
    assert [(one.level, one.ranges, one.message_ids) for one in told] == [
        (Level.DELIVERED, (1, 2), (sent[0],)),
        (Level.READ, (2, 3, 4, 5), (sent[1],)),
    ], "#4 is the peer's own: no id of it"


def test_what_has_arrived_live_does_not_wait(new_book: NewBook) -> None:
    """All of the ticks that a device says have arrived are left out when it comes back."""
    book = new_book()
    book.user("alice", "bob")
    web, phone = browser(book, "bob"), book.log_in("alice", "phone")
    phone.send(AB)
    position = web.session.queue.position if web.session.queue is not None else ""
    for through in (web.tick, 1):
        web.do(AckQueue(heard=(Heard(AB, held=(1, 2)),), through=through))
        assert web.session.queue is not None
        assert web.session.queue.position == str(web.tick) != position
    web.lose()
    back = book.stranger("bob/web")
    back.session.queued = True
    book.run((back, book.hello("bob", "web")))
    assert (back.session.state, items(back)) == ("live", [])


def test_what_was_answered_in_absence_is_summed_up(new_book: NewBook) -> None:
    """R9: the first device that comes back is told counts, with the messages' ids, until it confirms."""
    book = new_book()
    book.user("olga", "bob", "cara")
    book.group("G", "olga", "bob", "cara")
    web = browser(book, "olga")
    sent = [web.send("G", asks=True) for _ in range(2)]
    web.lose()
    for name in ("bob", "cara"):
        book.log_in(name, "phone").ask(commands.ReadMessages(1, "G", (1, 3 if name == "bob" else 2)))
    expected = (("G", 1, sent[0].message_id, 2), ("G", 2, sent[1].message_id, 1))
    for confirmed in (False, True):
        web = browser(book, "olga")
        (summary,) = [update for update in web.told() if isinstance(update, Summary)]
        assert summary.counts == expected
        if confirmed:
            assert web.do(commands.AckStatistics(rid=1, through=summary.through)) == [Done(1)]
        web.lose()
    assert not any(isinstance(update, Summary) for update in browser(book, "olga").told())


def test_what_is_noted_is_written_with_the_next_sweep(new_book: NewBook) -> None:
    """That a receipt has arrived is written when the node looks around; then it is not told again."""
    for swept in (True, False):
        book = new_book()
        book.user("alice", "bob")
        alice, bob = browser(book, "alice"), book.log_in("bob", "phone")
        alice.send(AB)
        bob.ask(commands.ReadConversation(1, AB, 1))
        acknowledge(alice)
        assert book.hub.world.told_rows
        if swept:
            book.sweep()
            assert not book.hub.world.told_rows
        book = book.crash()
        told = items(browser(book, "alice"))
        assert [one.level for one in told] == ([] if swept else [Level.ALL_READ])


def test_an_asking_message_that_storage_has_lost(tmp_path: Path) -> None:
    """Where a row is gone from the file, the answer to its message stands, and nobody is told of an id."""
    book = Playbook(SQLiteStore(tmp_path / "data"))
    book.user("olga", "bob")
    book.group("G", "olga", "bob")
    phone = book.log_in("olga", "phone")
    phone.send("G", asks=True)
    for _ in range(70):
        phone.send("G")
    book.store.close()
    with sqlite3.connect(tmp_path / "data" / DATABASE_NAME) as db:
        assert db.execute("DELETE FROM messages WHERE seq = 1").rowcount == 1
    db.close()
    book = book.crash()
    web, bob = browser(book, "olga"), book.log_in("bob", "phone")
    web.told()
    assert Done(1) in bob.do(commands.ReadMessages(1, "G", (1, 2), "ok"))
    assert items(web) == []
    assert book.chat("G").is_read(1, "bob") is True
    book.store.close()


# -- links without a word, or behind


def test_a_link_that_never_spoke_is_closed_without_a_word(book: Playbook) -> None:
    """How a link speaks is known by its first frame: one that said nothing cannot be told why it ends."""
    session = book.hub.open(link=object(), peer="silent")
    mute = book._attach(session, "silent")
    session.dialect = None
    book.sweep(120_000, heard=False)
    assert mute.told() == []
    assert mute.cut


def test_who_cannot_be_told_is_told_nothing(book: Playbook) -> None:
    """A way of speaking that has no frame for an update sends none, and the others are told as ever."""
    alice, phone, tablet = (
        book.log_in("alice", "phone"),
        book.log_in("bob", "phone"),
        book.log_in("bob", "tablet"),
    )

    class Deaf:
        shared_key = ""

        def decode(self, frame: Any) -> list[Any]:
            return [frame]

        def encode(self, update: Any, tick: int) -> list[Any]:
            return []

    tablet.session.dialect = Deaf()
    frames = book.frames
    alice.send(AB)
    assert [update.seq for update in phone.told()] == [1]
    assert tablet.told() == []
    assert book.frames == frames + 2


def test_a_device_that_is_behind_is_passed_by(new_book: NewBook) -> None:
    """Of two devices the one that is still catching up is not pushed to: its pages bring it."""
    book = new_book(settings=json.dumps({"limits": {"page_bytes_max": 1000}}))
    names = [f"u{number}" for number in range(9)]
    book.user("bob", *names)
    senders = [book.log_in(name, "phone") for name in names]
    for name, sender in zip(names, senders, strict=True):
        sender.send(f"bob~{name}", "x" * 400)
    phone, tablet = book.log_in("bob", "phone"), book.log_in("bob", "tablet", catch_up=False)
    assert tablet.session.state == "behind"
    first = tablet.told()
    senders[0].send("bob~u0")
    assert [update.seq for update in phone.told()] == [2]
    assert tablet.told() == []
    tablet.inbox.extend(first)
    book.catch_up(tablet)
    brought = [
        (message.conversation, message.seq)
        for page in tablet.pages
        for part in page.parts
        for message in part.messages
    ]
    assert ("bob~u0", 2) in brought
    assert len(set(brought)) == len(names) + 1
