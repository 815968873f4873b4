"""The scenes of semantics by example, each on the hub and on both stores: frames, counts, and silences.

*Nothing* is written `== []`: not one frame.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from receipts.core.errors import Code
from receipts.core.events import (
    By,
    GroupReceiptsExpired,
    HistoryCleared,
    MemberJoined,
    MemberLeft,
    MessageAccepted,
    MessageRecalled,
    Role,
    SharingChanged,
    UnreadMarked,
)
from receipts.core.ids import Seq
from receipts.core.policy import DAY_MS
from receipts.core.ranges import RangeSet, seqs_of
from receipts.core.status import Status, Unknown
from receipts.wire import commands, updates
from receipts.wire.updates import Accepted, Delivered, Done, GroupRead, Read, ReadStatistics, Rejected
from tests.node.playbook import Device, Playbook

AB = "alice~bob"
NewBook = Callable[..., Playbook]


# -- shorthand


def ack(device: Device, chat: str, *seqs: Seq, share: bool = True) -> None:
    ranges = RangeSet()
    for seq in seqs:
        ranges.add(seq, seq + 1)
    device.book.run((device, commands.AckDelivered(0, chat, ranges.ranges, share)))


def read_through(device: Device, last: Seq, *, chat: str = AB, share: bool = True, knows: int = 0) -> None:
    device.book.run((device, commands.ReadConversation(0, chat, last, share, knows)))


def read(device: Device, chat: str, *seqs: Seq, content: str | None = None, share: bool = True) -> None:
    ranges = RangeSet()
    for seq in seqs:
        ranges.add(seq, seq + 1)
    device.book.run((device, commands.ReadMessages(0, chat, ranges.ranges, content, share)))


def unread(device: Device, chat: str = AB) -> list[Seq]:
    """The seqs behind the device's user's count, after all answers about it were found to agree."""
    explained = device.ask(commands.ExplainUnread(rid=70, conversation=chat))
    seqs = [seq for seq, _ in explained.messages]
    assert explained.unread == len(seqs)
    listed = device.ask(commands.ListConversations(rid=71))
    lines = [line for line in listed.items if line.conversation == chat]
    assert sum(line.unread for line in lines) == len(seqs)
    conversation = device.book.chat(chat, device.session.app.id)
    assert conversation.unread(device.session.user.name) == len(seqs)
    return seqs


def status(asker: Device, seq: Seq, chat: str = AB) -> updates.MemberStatus:
    """How far a one-to-one message of the asker came."""
    (found,) = asker.ask(commands.GetStatus(rid=72, conversation=chat, seqs=(seq,))).items
    assert isinstance(found, updates.MemberStatus)
    return found


def statuses(asker: Device, *seqs: Seq) -> list[Status]:
    return [status(asker, seq).status for seq in seqs]


def readers(asker: Device, seq: Seq, chat: str = "G") -> updates.Readers:
    found = asker.ask(commands.ListReaders(rid=73, conversation=chat, seq=seq))
    assert isinstance(found, updates.Readers)
    return found


def quiet(*devices: Device) -> None:
    """Nothing, not one frame, since the last look."""
    for device in devices:
        assert device.told() == [], device


def hush(*devices: Device) -> None:
    """Look away."""
    for device in devices:
        device.told()


def of(kind: type, found: list[object]) -> list[object]:
    return [update for update in found if isinstance(update, kind)]


# -- one-to-one


def test_scene_01_send_deliver_read(book: Playbook) -> None:
    """One message from sending to reading: who is told what, on four devices."""
    phone, laptop = book.log_in("alice", "phone"), book.log_in("alice", "laptop")
    bobs, tablet = book.log_in("bob", "phone"), book.log_in("bob", "tablet")
    book.hold = True
    book.run((phone, phone.message(AB, "hello")))
    quiet(phone, laptop, bobs, tablet)  # not before the commit
    book.finish()
    (accepted,) = phone.told()
    assert (accepted.seq, accepted.rid) == (1, 9)
    for device in (laptop, bobs, tablet):
        (message,) = device.told()
        assert isinstance(message, MessageAccepted)
        assert (message.seq, message.message_id) == (1, accepted.message_id)
        assert (message.body, message.author) == ("hello", "alice")
    assert unread(phone) == unread(laptop) == []
    assert unread(bobs) == unread(tablet) == [1]
    assert status(phone, 1).status is Status.ACKED

    assert bobs.do(commands.AckDelivered(3, AB, (1, 2))) == [Done(3)]
    assert phone.told() == laptop.told() == [Delivered(AB, "bob", (1, 2))]
    quiet(tablet)
    assert unread(bobs) == [1]
    assert status(phone, 1).status is Status.DELIVERED

    assert bobs.do(commands.ReadConversation(4, AB, 1)) == [Done(4)]
    (told,) = phone.told()
    assert (told.member, told.ranges, told.by, told.through) == ("bob", (1, 2), By.CONVERSATION, 1)
    assert laptop.told() == tablet.told() == [told]
    assert unread(bobs) == unread(tablet) == []
    assert status(phone, 1).status is Status.READ


def test_scene_02_read_implies_delivered(book: Playbook) -> None:
    """READ is told once, with no DELIVERED before or after it; a late acknowledgement is remembered only."""
    alice = book.log_in("alice", "phone")
    phone, tablet = book.log_in("bob", "phone"), book.log_in("bob", "tablet")
    alice.send(AB)
    hush(alice, phone, tablet)
    read(phone, AB, 1)
    (told,) = alice.told()
    assert isinstance(told, Read)
    assert len(tablet.told()) == 1
    ack(tablet, AB, 1)
    quiet(alice, phone, tablet)
    assert 1 in book.chat(AB).members["bob"].devices["tablet"]
    assert status(alice, 1).status is Status.READ


def test_scene_03_read_through_what_was_on_screen(book: Playbook) -> None:
    """A message that is accepted just before the receipt arrives is not read by it."""
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    for _ in range(4):
        alice.send(AB)
    ack(bob, AB, 1, 2, 3)
    read_through(bob, 3)
    assert list(book.chat(AB).members["bob"].read) == [1, 2, 3]
    assert unread(bob) == [4]
    assert statuses(alice, 1, 2, 3) == [Status.READ] * 3
    assert status(alice, 4).status <= Status.DELIVERED


def test_scene_04_sparse_reads(book: Playbook) -> None:
    """Reads by name cost ranges; the asker is told only what is new."""
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    for _ in range(10):
        alice.send(AB)
    ack(bob, AB, *range(1, 11))
    hush(alice, bob)
    read(bob, AB, 3, 4, 9)
    assert unread(bob) == [1, 2, 5, 6, 7, 8, 10]
    assert book.chat(AB).members["bob"].read.gaps == 2
    (told,) = alice.told()
    assert list(seqs_of(told.ranges)) == [3, 4, 9]
    read_through(bob, 8)
    assert list(book.chat(AB).members["bob"].read) == list(range(1, 10))
    assert unread(bob) == [10]
    (told,) = alice.told()
    assert list(seqs_of(told.ranges)) == [1, 2, 5, 6, 7, 8]


def test_scene_05_beyond_the_head(book: Playbook) -> None:
    """What is beyond the head is said so and not applied; the next message is unread."""
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    for _ in range(3):
        alice.send(AB)
    hush(bob)
    (told,) = bob.do(commands.ReadConversation(5, AB, 10))
    assert (told.code, told.limit, told.ranges) == (Code.BEYOND_HEAD, 3, (4, 11))
    assert unread(bob) == []
    alice.send(AB)
    assert unread(bob) == [4]
    hush(alice, bob)
    read(bob, AB, 2)
    alice.send(AB)
    hush(alice, bob)
    (told,) = bob.do(commands.ReadMessages(6, AB, (4, 5, 7, 8)))
    assert (told.code, told.ranges) == (Code.BEYOND_HEAD, (6, 8))
    assert unread(bob) == [5]
    (told,) = alice.told()
    assert told.ranges == (4, 5)


def test_scene_06_a_send_marks_only_itself(book: Playbook) -> None:
    """Writing reads nothing but the own message, and makes no receipt."""
    alice = book.log_in("alice", "phone")
    for _ in range(3):
        alice.send(AB)
    bob = book.log_in("bob", "phone")
    hush(alice)
    assert bob.send(AB).seq == 4
    assert unread(bob) == [1, 2, 3]
    (told,) = alice.told()
    assert isinstance(told, MessageAccepted)
    assert status(alice, 1).status is Status.ACKED


def test_scene_07_exactly_once(new_book: NewBook) -> None:
    """A resend is answered as the first time, also after a crash, a removal, or over the rate."""
    limits = {"limits": {"sends_burst": 12, "sends_per_second": 0.001}}
    book = new_book(settings=json.dumps(limits))
    book.user("alice", "bob", "olga")
    book.group("G", "olga", "alice", "bob")
    alice, bob = book.log_in("alice", "phone", install="i"), book.log_in("bob", "phone")
    for _ in range(7):
        alice.send("G")
    hush(bob)
    message = commands.SendMessage(9, "G", "seven", 8)
    book.run((alice, message))
    (first,) = bob.told()  # committed as #8; alice's answer is lost with the process
    book = book.crash()
    alice, bob = book.log_in("alice", "phone", install="i"), book.log_in("bob", "phone", resume=bob.token)
    assert alice.welcome is not None
    assert alice.welcome.number == 8
    assert sum(len(part.messages) for page in bob.pages for part in page.parts) == 0
    again = alice.ask(message)
    assert isinstance(again, Accepted)
    assert (again.seq, again.message_id, again.at_ms) == (8, first.message_id, first.at_ms)
    quiet(bob)
    olga = book.log_in("olga", "phone")
    olga.ask(commands.RemoveMembers(rid=1, conversation="G", users=("alice",)))
    hush(alice, bob)
    assert alice.ask(message) == again  # removed meanwhile
    old = alice
    new = book.log_in("alice", "phone", install="j")
    (goodbye,) = old.told()
    assert (goodbye.code, old.cut) == (Code.REPLACED, True)
    assert new.ask(commands.SendMessage(1, AB, "ten", 8)).seq == 1  # (j, 8) is another message
    hush(bob)
    assert old.do(commands.SendMessage(1, AB, "late", 9)) == []  # the old link is fenced
    quiet(bob, new)
    assert book.chat(AB).head == 1
    reused = new.refused(commands.SendMessage(2, "G", "ten", 8), Code.CLIENT_ID_REUSED)
    assert "8" in reused.reason
    for number in range(9, 20):
        new.ask(commands.SendMessage(1, AB, "x", number))
    new.refused(commands.SendMessage(1, AB, "x", 20), Code.RATE_LIMITED)
    assert new.ask(commands.SendMessage(1, AB, "ten", 8)).seq == 1  # over the rate, yet answered


def test_scene_08_recall(book: Playbook) -> None:
    """A recall lowers the count by exactly the message, once, and leaves a marker."""
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    away, tablet = book.log_in("bob", "away"), book.log_in("bob", "tablet")
    for _ in range(3):
        alice.send(AB)
    ack(bob, AB, 1, 2, 3)
    read(tablet, AB)  # names nothing: nothing
    away_token = away.token
    away.lose()
    hush(alice, bob, tablet)
    assert alice.do(commands.RecallMessage(rid=3, conversation=AB, seq=2)) == [Done(3)]
    assert unread(bob) == [1, 3]
    for device in (bob, tablet):
        (told,) = device.told()
        assert isinstance(told, MessageRecalled)
        assert told.seq == 2
    assert alice.do(commands.RecallMessage(rid=4, conversation=AB, seq=2)) == [Done(4)]
    quiet(bob, tablet)
    read_through(bob, 3)
    assert unread(bob) == []
    assert statuses(alice, 1, 3) == [Status.READ] * 2
    assert status(alice, 2).read is Unknown.RECALLED
    hush(alice, bob, tablet)
    assert tablet.do(commands.AckDelivered(8, AB, (2, 3))) == [Done(8)]
    assert tablet.do(commands.ReadMessages(9, AB, (2, 3))) == [Done(9)]
    quiet(alice, bob)
    back = book.log_in("bob", "away", resume=away_token)
    (part,) = back.pages[0].parts
    assert part.recalled == (2, 3)
    assert 2 not in [message.seq for message in part.messages]


def test_scene_08_recall_after_reading(book: Playbook) -> None:
    """A message that was read before its recall takes nothing from the count: 0 before, 0 after."""
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    alice.send(AB)
    read_through(bob, 1)
    assert unread(bob) == []
    alice.ask(commands.RecallMessage(rid=3, conversation=AB, seq=1))
    assert unread(bob) == []


def test_scene_09_private_reads_and_switching_on(book: Playbook) -> None:
    """What was read while sharing was off stays unknown for ever; sharing begins with what comes later."""
    alice, bob, tablet = (
        book.log_in("alice", "phone"),
        book.log_in("bob", "phone"),
        book.log_in("bob", "tablet"),
    )
    for _ in range(10):
        alice.send(AB)
    ack(bob, AB, *range(1, 11))
    bob.ask(commands.SetSharing(rid=1, read=False))
    hush(alice, bob, tablet)
    alice.send(AB)
    hush(bob, tablet)
    read_through(bob, 11)
    assert unread(bob) == []
    assert of(Read, tablet.told())
    quiet(alice)
    assert statuses(alice, *range(1, 11)) == [Status.DELIVERED] * 10
    assert status(alice, 11).status is Status.ACKED
    bob.ask(commands.SetSharing(rid=2, read=True))
    assert of(SharingChanged, tablet.told())
    quiet(alice)
    alice.send(AB)
    hush(alice, bob, tablet)
    read_through(bob, 12)
    (told,) = alice.told()
    assert told.ranges == (12, 13)
    for seq in range(1, 12):
        assert status(alice, seq).read is Unknown.SHARING_OFF
    read(bob, AB, *range(1, 12))
    quiet(alice)
    assert status(alice, 3).read is Unknown.SHARING_OFF


def test_scene_10_the_stricter_of_both(book: Playbook) -> None:
    """A receipt that was made private stays so, and one that was not is so if the switch is off by now."""
    alice = book.log_in("alice", "phone")
    phone, laptop = book.log_in("bob", "phone"), book.log_in("bob", "laptop")
    for _ in range(3):
        alice.send(AB)
    hush(alice, phone, laptop)
    read_through(laptop, 3, share=False)
    assert of(Read, phone.told())
    quiet(alice)
    phone.ask(commands.SetSharing(rid=1, read=False))
    alice.send(AB)
    hush(alice, phone, laptop)
    read_through(laptop, 4, share=True)
    quiet(alice)
    assert unread(phone) == []


def test_scene_11_marked_unread(book: Playbook) -> None:
    """A mark is cleared only by a receipt of a device that knew it."""
    alice = book.log_in("alice", "phone")
    phone, laptop = book.log_in("bob", "phone"), book.log_in("bob", "laptop")
    for _ in range(10):
        alice.send(AB)
    read_through(phone, 10)
    hush(alice, phone, laptop)
    phone.ask(commands.MarkUnread(rid=1, conversation=AB))
    (marked,) = phone.told()
    assert laptop.told() == [marked]
    assert isinstance(marked, UnreadMarked)
    assert (marked.flagged, marked.ranges) == (True, ())
    assert unread(phone) == []
    assert phone.ask(commands.ListConversations(rid=2)).items[0].marked_unread
    quiet(alice)
    read_through(laptop, 10, knows=marked.version - 1)
    quiet(alice, phone, laptop)
    assert book.chat(AB).marked_unread("bob")
    alice.send(AB)
    hush(alice, phone, laptop)
    read_through(laptop, 11, knows=marked.version - 1)  # brings new seqs: read, and the mark stays
    assert unread(phone) == []
    assert book.chat(AB).marked_unread("bob")
    hush(alice, phone, laptop)
    read_through(laptop, 11, knows=marked.version)
    (cleared,) = laptop.told()
    assert phone.told() == [cleared]
    assert cleared.version > marked.version
    assert not cleared.flagged
    assert not book.chat(AB).marked_unread("bob")
    quiet(alice)


def test_scene_12_marked_unread_from_a_message(book: Playbook) -> None:
    """Marking from a message on counts again, while others see READ throughout."""
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    for _ in range(10):
        alice.send(AB)
    read_through(bob, 10)
    hush(alice, bob)

    def knows() -> int:
        version: int = book.chat(AB).members["bob"].unread_mark.version
        return version

    bob.ask(commands.MarkUnread(rid=1, conversation=AB, from_seq=8))
    assert unread(bob) == [8, 9, 10]
    quiet(alice)
    alice.send(AB)
    hush(alice)
    assert unread(bob) == [8, 9, 10, 11]
    read_through(bob, 9, knows=knows())
    assert unread(bob) == [10, 11]
    quiet(alice)
    assert list(book.chat(AB).members["bob"].read) == list(range(1, 11))
    assert statuses(alice, *range(1, 11)) == [Status.READ] * 10
    read_through(bob, 11, knows=knows())
    assert unread(bob) == []
    assert not book.chat(AB).members["bob"].unread_mark
    (told,) = alice.told()
    assert told.ranges == (11, 12)


@pytest.mark.parametrize("rule", ["any", "all"])
def test_scene_13_several_devices(new_book: NewBook, rule: str) -> None:
    """Any device, or all that were known before the message; a newer one is not asked."""
    book = new_book(settings=json.dumps({"features": {"roll_up": rule}}))
    book.user("alice", "bob")
    alice = book.log_in("alice", "phone")
    phone, tablet = book.log_in("bob", "phone"), book.log_in("bob", "tablet")
    alice.send(AB)
    hush(phone, tablet)
    ack(phone, AB, 1)
    told_first = alice.told()
    laptop = book.log_in("bob", "laptop")
    ack(tablet, AB, 1)
    told_then = alice.told()
    expected = [Delivered(AB, "bob", (1, 2))]
    assert (told_first, told_then) == ((expected, []) if rule == "any" else ([], expected))
    devices = {one.device: one.held for one in status(alice, 1).devices}
    assert devices == {"phone": True, "tablet": True, "laptop": None}
    alice.send(AB)
    hush(phone, tablet, laptop)
    ack(phone, AB, 2)
    ack(laptop, AB, 2)
    before = alice.told()
    phone.ask(commands.LogOutDevice(rid=1, device="tablet"))  # removing a device can only raise
    after = alice.told()
    expected = [Delivered(AB, "bob", (2, 3))]
    assert (before, after) == ((expected, []) if rule == "any" else ([], expected))


def test_scene_14_delivery_is_told_to_who_asked(book: Playbook) -> None:
    """Only sessions that asked are told of deliveries; not shared is unknown, and is not sent again."""
    phone, laptop = book.log_in("alice", "phone"), book.log_in("alice", "laptop", delivery=False)
    bob = book.log_in("bob", "phone")
    phone.send(AB)
    hush(laptop, bob)
    ack(bob, AB, 1)
    assert phone.told() == [Delivered(AB, "bob", (1, 2))]
    quiet(laptop)
    bob.ask(commands.SetSharing(rid=1, delivered=False))
    phone.send(AB)
    hush(laptop, bob)
    ack(bob, AB, 2)
    quiet(phone, laptop)
    found = status(phone, 2)
    assert (found.status, found.delivered, found.devices) == (Status.ACKED, Unknown.SHARING_OFF, ())
    token = bob.token
    bob.lose()
    bob = book.log_in("bob", "phone", resume=token)
    assert [part.messages for page in bob.pages for part in page.parts] in ([], [()])


# -- groups


def group_book(new_book: NewBook, **options: object) -> tuple[Playbook, dict[str, Device]]:
    """G has olga (owner), adam (admin), bob, cara, dan, each on a phone."""
    book = new_book(**options)
    names = ("olga", "adam", "bob", "cara", "dan")
    book.user(*names, "erin")
    book.group("G", "olga", "bob", "cara", "dan", admins=("adam",))
    return book, {name: book.log_in(name, "phone") for name in names}


def test_scene_15_newcomer(new_book: NewBook) -> None:
    """A newcomer's unread begins with the joining, however much history may be fetched."""
    book, at = group_book(new_book)
    for _ in range(40):
        at["olga"].send("G")
    erin = book.log_in("erin", "phone")
    at["adam"].ask(commands.AddMembers(rid=1, conversation="G", users=("erin",)))
    (part,) = erin.told()
    assert isinstance(part, updates.ConversationPart)
    assert (part.head, part.messages) == (40, ())
    assert unread(erin, "G") == []
    history = erin.ask(commands.FetchHistory(rid=2, conversation="G", limit=10))
    assert [message.seq for message in history.messages] == list(range(31, 41))
    hush(*at.values())
    assert erin.do(commands.ReadMessages(3, "G", (35, 36))) == [Done(3)]
    quiet(*at.values(), erin)
    assert unread(erin, "G") == []
    at["olga"].send("G")
    assert unread(erin, "G") == [41]


def test_scene_16_leaving_and_coming_back(new_book: NewBook) -> None:
    """Neither what was unread at leaving nor what was sent meanwhile is unread afterwards."""
    book, at = group_book(new_book)
    olga, bob = at["olga"], at["bob"]
    for _ in range(10):
        olga.send("G")
    read_through(bob, 5, chat="G")
    assert unread(bob, "G") == [6, 7, 8, 9, 10]
    bob.ask(commands.RemoveMembers(rid=1, conversation="G", users=("bob",)))
    hush(*at.values())
    assert bob.ask(commands.ExplainUnread(rid=1, conversation="G")).unread == 0
    bob.refused(commands.SendMessage(1, "G", "x", 50), Code.NOT_A_MEMBER)
    bob.refused(commands.ReadConversation(1, "G", 10), Code.NOT_A_MEMBER)
    bob.refused(commands.ReadMessages(1, "G", (9, 10)), Code.NOT_A_MEMBER)
    bob.refused(commands.AckDelivered(1, "G", (9, 10)), Code.NOT_A_MEMBER)
    bob.refused(commands.MarkUnread(rid=1, conversation="G"), Code.NOT_A_MEMBER)
    bob.refused(commands.ListMembers(rid=1, conversation="G"), Code.NOT_A_MEMBER)
    bob.refused(commands.SetMuted(rid=1, conversation="G", muted=True), Code.NOT_A_MEMBER)
    for _ in range(4):
        olga.send("G")
    quiet(bob)
    olga.ask(commands.AddMembers(rid=1, conversation="G", users=("bob",)))
    assert unread(bob, "G") == []
    olga.send("G")
    assert unread(bob, "G") == [15]
    chat = book.chat("G")
    periods = sorted((p.from_seq, p.through) for p in chat.members["bob"].periods.values())
    assert periods == [(1, 10), (15, None)]
    assert [n for n in (8, 12, 15) if "bob" in chat.audience(n, "olga")] == [8, 15]


def asked_twenty(new_book: NewBook, **options: object) -> tuple[Playbook, dict[str, Device], Device]:
    """Scene 17's beginning: olga, on phone and laptop, asks with #20."""
    book, at = group_book(new_book, **options)
    laptop = book.log_in("olga", "laptop")
    for _ in range(19):
        at["olga"].send("G")
    assert at["olga"].send("G", asks=True).seq == 20
    hush(*at.values(), laptop)
    return book, at, laptop


def test_scene_17_group_receipts(new_book: NewBook) -> None:
    """One frame a tick with all new readers to each session of the asker; the first answer stands."""
    book, at, laptop = asked_twenty(new_book)
    book.run(
        (at["bob"], commands.ReadMessages(0, "G", (20, 21), "ok")),
        (at["cara"], commands.ReadMessages(0, "G", (20, 21), "")),
    )
    for device in (at["olga"], laptop):
        (told,) = device.told()
        assert isinstance(told, GroupRead)
        assert (told.seq, told.count) == (20, 2)
        assert [(reader.user, reader.content) for reader in told.readers] == [("bob", "ok"), ("cara", "")]
    quiet(*at.values())
    book.sweep(DAY_MS)
    bobs = book.log_in("bob", "laptop")
    assert bobs.do(commands.ReadMessages(5, "G", (20, 21), "later")) == [Done(5)]
    quiet(*at.values(), laptop)
    found = readers(at["olga"], 20)
    assert [(reader.user, reader.content) for reader in found.readers] == [("bob", "ok"), ("cara", "")]
    assert found.count == 2
    assert [reader.user for reader in found.waiting] == ["adam", "dan"]


def test_scene_18_a_conversation_receipt_answers_nothing(new_book: NewBook) -> None:
    """Reading a group clears the badge; only a receipt by name answers a request."""
    book, at, laptop = asked_twenty(new_book)
    book.run(
        (at["bob"], commands.ReadMessages(0, "G", (20, 21))),
        (at["cara"], commands.ReadMessages(0, "G", (20, 21))),
    )
    dans = book.log_in("dan", "tablet")
    read_through(at["dan"], 14, chat="G")
    hush(*at.values(), laptop, dans)
    read_through(at["dan"], 20, chat="G")
    assert unread(at["dan"], "G") == []
    (echo,) = dans.told()
    assert echo.ranges == (15, 21)
    quiet(*at.values(), laptop)
    assert readers(at["olga"], 20).count == 2
    read(at["dan"], "G", 20, content="seen")
    (told,) = at["olga"].told()
    assert (told.count, [(r.user, r.content) for r in told.readers]) == (3, [("dan", "seen")])
    assert laptop.told() == [told]


def test_scene_19_rights_audience_and_size(new_book: NewBook) -> None:
    """Who may ask, who may answer, and what is said of leavers."""
    book, at, laptop = asked_twenty(new_book)
    olga = at["olga"]
    at["bob"].refused(commands.SendMessage(1, "G", "x", 1, asks=True), Code.NOT_PERMITTED)
    assert book.chat("G").head == 20  # no seq used
    erin = book.log_in("erin", "phone")
    olga.ask(commands.AddMembers(rid=1, conversation="G", users=("erin",)))
    read(at["cara"], "G", 20)
    read(at["bob"], "G", 20)
    hush(erin, *at.values(), laptop)
    erin.refused(commands.ReadMessages(2, "G", (20, 21)), Code.NOT_IN_AUDIENCE)
    quiet(olga, laptop)
    assert readers(olga, 20).count == 2
    for name in ("cara", "adam"):
        at[name].ask(commands.RemoveMembers(rid=1, conversation="G", users=(name,)))
    found = readers(olga, 20)
    assert [(r.user, r.left) for r in found.readers] == [("bob", False), ("cara", True)]
    assert [(r.user, r.left) for r in found.waiting] == [("adam", True), ("dan", False)]
    assert (found.count, found.audience) == (2, 4)
    olga.send("G")  # #21 asks for nothing
    tablet = book.log_in("dan", "tablet")
    hush(erin, *at.values(), laptop, tablet)
    before = unread(at["dan"], "G")
    assert at["dan"].do(commands.ReadMessages(3, "G", (21, 22))) == [Done(3)]
    assert unread(at["dan"], "G") == [seq for seq in before if seq != 21]
    assert len(tablet.told()) == 1  # the own other device
    quiet(erin, *at.values(), laptop)
    olga.send("G")
    hush(erin, *at.values(), laptop, tablet)
    before = unread(at["dan"], "G")
    at["dan"].refused(commands.ReadMessages(4, "G", (22, 23), "words"), Code.NOT_ASKED)
    at["dan"].refused(commands.ReadMessages(5, "G", (22, 23), ""), Code.NOT_ASKED)
    assert unread(at["dan"], "G") == before
    quiet(erin, *at.values(), laptop, tablet)


def test_scene_19_two_hundred_and_one(new_book: NewBook) -> None:
    """A group of 200, its author included, may ask, one of 201 may not; alone there is nobody to read."""
    book = new_book()
    names = [f"u{number}" for number in range(200)]
    book.user("olga", *names)
    book.group("G", "olga", *names[:199])
    book.group("alone", "olga")
    olga = book.log_in("olga", "phone")
    assert olga.send("G", asks=True).seq == 1
    assert readers(olga, 1).audience == 199
    olga.ask(commands.AddMembers(rid=1, conversation="G", users=("u199",)))
    hush(olga)
    found = olga.refused(commands.SendMessage(5, "G", "x", 90, asks=True), Code.GROUP_TOO_LARGE)
    assert found.limit == 200
    assert book.chat("G").head == 1
    assert olga.send("alone", asks=True).seq == 1
    nobody = readers(olga, 1, "alone")
    assert (nobody.audience, nobody.count, nobody.unknown) == (0, 0, None)


def test_readers_of_what_has_none(new_book: NewBook) -> None:
    """A message that did not ask, and one that was recalled, each say so instead of 'nobody'."""
    _book, at, _laptop = asked_twenty(new_book)
    assert readers(at["olga"], 19).unknown is Unknown.NOT_ASKED
    read(at["bob"], "G", 20)
    at["olga"].ask(commands.RecallMessage(rid=1, conversation="G", seq=20))
    found = readers(at["olga"], 20)
    assert (found.unknown, found.count, found.readers) == (Unknown.RECALLED, 0, ())
    hush(*at.values())
    assert at["cara"].do(commands.ReadMessages(2, "G", (20, 21), "late")) == [Done(2)]
    quiet(at["olga"])


def test_scene_20_expiry(new_book: NewBook) -> None:
    """After three days readers are gone: unknown (expired), never 0, and it stays so."""
    book, at, laptop = asked_twenty(new_book)
    olga = at["olga"]
    read(at["bob"], "G", 20)
    read(at["cara"], "G", 20)
    hush(*at.values(), laptop)
    before = {name: unread(at[name], "G") for name in at}
    older = book.chat("G").copy()
    book.sweep(3 * DAY_MS - 1)
    quiet(*at.values(), laptop)
    book.sweep(1)
    assert olga.told() == laptop.told() == [GroupReceiptsExpired(conversation="G", through=20)]
    quiet(*at.values())
    assert book.store.statistics("default", "olga", -1) == []
    found = readers(olga, 20)
    assert (found.unknown, found.readers) == (Unknown.EXPIRED, ())
    at["dan"].refused(commands.ReadMessages(4, "G", (20, 21)), Code.EXPIRED)
    at["dan"].refused(commands.ReadMessages(4, "G", (20, 21), "seen"), Code.EXPIRED)
    joined = book.chat("G").copy()
    joined.merge(older)
    older.merge(book.chat("G"))
    assert joined == older
    assert 20 not in joined.asked
    book.now_ms -= 3_600_000
    book.sweep()
    assert readers(olga, 20).unknown is Unknown.EXPIRED
    assert {name: unread(at[name], "G") for name in at} == before
    assert book.crash().chat("G").receipts_expired_through == 20


def test_scene_21_statistics(new_book: NewBook) -> None:
    """Who was away gets one summary at the next login, again until it is acknowledged."""
    book, at = group_book(new_book)
    for number in range(1, 23):
        at["olga"].send("G", asks=number in (20, 22))
    at["olga"].lose()
    read(at["bob"], "G", 20)
    read(at["cara"], "G", 20)
    read(at["dan"], "G", 22)
    phone = book.log_in("olga", "phone")
    (summary,) = phone.told()
    assert isinstance(summary, ReadStatistics)
    assert summary.counts == (("G", 20, 2), ("G", 22, 1))
    read(at["adam"], "G", 22)
    (told,) = phone.told()
    assert (told.seq, told.count) == (22, 2)  # then live updates
    laptop = book.log_in("olga", "laptop")
    assert laptop.told() == []  # no second summary
    counts = {asked.seq: len(asked.readers) for page in laptop.pages for p in page.parts for asked in p.asked}
    assert counts == {20: 2, 22: 2}
    phone.lose()
    laptop.lose()
    phone = book.log_in("olga", "phone")  # the link broke before it was acknowledged
    (again,) = phone.told()
    assert again.counts == (("G", 20, 2), ("G", 22, 2))
    phone.ask(commands.AckStatistics(rid=1, through=again.through))
    read(at["cara"], "G", 22)
    phone.lose()
    phone = book.log_in("olga", "phone")
    assert phone.told() == []


# -- the node


def test_scene_22_the_disk_is_full(new_book: NewBook) -> None:
    """What a failed commit held is undone and answered; questions are answered from what is on disk."""
    book = new_book()
    book.user("alice", "bob", "cara")
    book.group("G", "alice", "bob", "cara")
    alice, bob, cara = (book.log_in(name, "phone") for name in ("alice", "bob", "cara"))
    for _ in range(8):
        alice.send("G")
    hush(alice, bob, cara)
    before = book.state()
    book.hold = True
    book.run((alice, commands.SendMessage(1, "G", "nine", 9)), (cara, commands.ReadConversation(2, "G", 8)))
    book.run((bob, commands.FetchHistory(rid=3, conversation="G", limit=100)))
    assert book.chat("G").head == 9
    quiet(alice, bob, cara)
    book.fail()
    for device, rid in ((alice, 1), (cara, 2)):
        (told,) = device.told()
        assert isinstance(told, Rejected)
        assert (told.rid, told.code) == (rid, Code.STORAGE_FULL)
        assert told.retry_after_ms > 0
    (history,) = bob.told()
    assert [message.seq for message in history.messages] == list(range(1, 9))
    assert book.state() == before
    book.check_agreement()
    assert [device.cut for device in (alice, bob, cara)] == [False] * 3
    assert alice.ask(commands.SendMessage(1, "G", "nine", 9)).seq == 9


def test_scene_23_resume(new_book: NewBook) -> None:
    """What changed since the token, in pages, the next after the last was acknowledged; else everything."""
    book = new_book(settings=json.dumps({"limits": {"page_bytes_max": 2000}}))
    book.user("alice", "bob")
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    for number in range(1, 11):
        (bob if number <= 7 else alice).send(AB)
    ack(bob, AB, 8, 9, 10)
    token = bob.token
    bob.lose()
    for _ in range(50):
        alice.send(AB)
    alice.ask(commands.RecallMessage(rid=1, conversation=AB, seq=12))
    for seq in range(1, 8):
        read(alice, AB, seq)
    bob = book.log_in("bob", "phone", resume=token, catch_up=False)
    pages: list[updates.CatchUp] = []
    cuts = 0
    while not pages or not pages[-1].live:
        (page,) = of(updates.CatchUp, bob.told())
        assert isinstance(page, updates.CatchUp)
        quiet(bob)  # no page before the last was acknowledged
        pages.append(page)
        if len(pages) % 2:  # a cut half-way loses no ground
            cuts += 1
            bob.lose()
            bob = book.log_in("bob", "phone", resume=page.token, catch_up=False)
        else:
            book.run((bob, commands.AckPage(rid=0, token=page.token)))
    assert cuts > 1
    parts = [part for page in pages for part in page.parts]
    assert [m.seq for part in parts for m in part.messages] == [n for n in range(11, 61) if n != 12]
    assert [part.recalled for part in parts if part.recalled] == [(12, 13)]
    marks = [member for part in parts for member in part.members if member.user == "alice"]
    assert [list(seqs_of(mark.read_shared))[:7] for mark in marks] == [[1, 2, 3, 4, 5, 6, 7]]
    assert not any(page.full for page in pages)
    for token in (None, "", "nonsense", "other:3", f"{bob.prefix}999999", f"{bob.prefix}3:9.9", "life1:x"):
        fresh = book.log_in("bob", "phone", resume=token)
        assert fresh.pages[0].full, token
        assert fresh.welcome is not None
        assert fresh.welcome.full
        assert sum(len(part.messages) for page in fresh.pages for part in page.parts) == 59


def test_scene_24_native_part(book: Playbook) -> None:
    """Through what was on screen; a conversation receipt of the rest; one message at a time."""
    alice, phone = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    for _ in range(7):
        alice.send(AB)
    ack(phone, AB, *range(1, 8))
    browser = book.log_in("bob", "browser")
    assert unread(browser) == list(range(1, 8))
    alice.send(AB)
    alice.send(AB)
    hush(alice, phone, browser)
    read_through(browser, 8)
    assert unread(browser) == [9]
    (told,) = alice.told()
    assert told.ranges == (1, 9)
    (echo,) = phone.told()
    assert echo.through == 8
    read(phone, AB, 9)
    assert unread(browser) == []
    (told,) = alice.told()
    assert (told.ranges, told.by) == ((9, 10), By.MESSAGES)
    (echo,) = browser.told()
    assert echo.ranges == (9, 10)


def test_scene_25_two_apps(new_book: NewBook) -> None:
    """The same story in two apps at once: nothing crosses, and only one has group receipts."""
    off = json.dumps({"features": {"group_receipts": False}})
    book = new_book(apps={"org#one": "{}", "org#two": off})
    devices: dict[str, list[Device]] = {}
    ids: list[int] = []
    for app in ("org#one", "org#two"):
        book.user("alice", "bob", app=app)
        book.group("G", "alice", "bob", app=app)
        devices[app] = [book.log_in(name, "phone", app=app) for name in ("alice", "bob")]
    stranger = book.stranger()
    stranger.do(book.hello("alice", "phone", app="org#two", token=book.token("alice", app="org#one")))
    assert stranger.cut
    for app, (alice, bob) in devices.items():
        other = devices["org#two" if app == "org#one" else "org#one"]
        hush(*other)
        ids += [alice.send(AB).message_id, alice.send("G").message_id]
        assert unread(bob) == [1]
        assert unread(bob, "G") == [1]
        read_through(bob, 1)
        quiet(*other)
    assert len(set(ids)) == 4
    (alice, bob), (two, twos) = devices["org#one"], devices["org#two"]
    hush(alice, bob, two, twos)
    two.refused(commands.SendMessage(1, "G", "x", 50, asks=True), Code.FEATURE_OFF)
    assert book.chat("G", "org#two").head == 1
    quiet(alice, bob, twos)
    assert alice.send("G", asks=True).seq == 2
    read(bob, "G", 2)
    (told,) = of(GroupRead, alice.told())
    assert isinstance(told, GroupRead)
    assert told.count == 1
    quiet(two, twos)
    assert unread(twos, "G") == [1]


def test_silence_of_repeats(new_book: NewBook) -> None:
    """No new information, no frame: every repeated command is answered to its sender alone."""
    book, at, laptop = asked_twenty(new_book)
    bob, olga = at["bob"], at["olga"]
    again: list[tuple[Device, object]] = [
        (bob, commands.ReadMessages(1, "G", (20, 21), "ok")),
        (bob, commands.ReadConversation(1, "G", 20)),
        (bob, commands.AckDelivered(1, "G", (1, 21))),
        (bob, commands.SetMuted(rid=1, conversation="G", muted=True)),
        (bob, commands.SetSharing(rid=1, delivered=False)),
        (bob, commands.ClearConversation(rid=1, conversation="G", through=7)),
        (olga, commands.AddMembers(rid=1, conversation="G", users=("erin",))),
        (olga, commands.RemoveMembers(rid=1, conversation="G", users=("dan",))),
        (olga, commands.SetRole(rid=1, conversation="G", user="bob", role=Role.ADMIN)),
        (olga, commands.ChangeGroup(rid=1, conversation="G", name="Gee")),
        (olga, commands.RecallMessage(rid=1, conversation="G", seq=9)),
    ]
    tablet = book.log_in("bob", "tablet")
    for device, command in again:
        device.ask(command)  # type: ignore[arg-type]
        hush(*at.values(), laptop, tablet)
        assert device.do(command) == [Done(1)]  # type: ignore[arg-type]
        quiet(*at.values(), laptop, tablet)


def test_left_and_joined_are_told_to_who_is_in(new_book: NewBook) -> None:
    """Joining and leaving are told to all who are in, the one who leaves included; clearing to oneself."""
    book, at = group_book(new_book)
    tablet = book.log_in("bob", "tablet")
    at["bob"].send("G")
    hush(*at.values(), tablet)
    at["bob"].ask(commands.ClearConversation(rid=1, conversation="G", through=1))
    assert [type(update) for update in tablet.told()] == [HistoryCleared]
    quiet(*at.values())
    at["olga"].ask(commands.AddMembers(rid=1, conversation="G", users=("erin",)))
    for device in (*at.values(), tablet):
        assert len(of(MemberJoined, device.told())) == 1
    at["olga"].ask(commands.RemoveMembers(rid=1, conversation="G", users=("bob",)))
    for device in (*at.values(), tablet):
        assert [type(update) for update in device.told()] == [MemberLeft]
