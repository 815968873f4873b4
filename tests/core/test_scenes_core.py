"""The scenes of the semantics on the pure machine, as far as one without node and links can show them.

A scene's events stand for what is told: `shared` of a mark is what its reader's peers get to know, `None`
is "nothing". Who is told on which device is the node's to show.
"""

from __future__ import annotations

from typing import TypeVar

import pytest

from receipts.core import decide, events
from receipts.core.conversation import Conversation, join
from receipts.core.errors import Code, Refused
from receipts.core.events import By
from receipts.core.explain import explain, verify
from receipts.core.ids import Counts, MessageId
from receipts.core.policy import RollUp
from receipts.core.ranges import Ranges, ranges_of, through
from receipts.core.status import Status, Unknown

_Event = TypeVar("_Event", bound=events.Event)

PHONE, TABLET, LAPTOP = "phone", "tablet", "laptop"


class Scene:
    """A conversation and short words for what happens in it. Each returns the event, or None."""

    def __init__(self, chat: Conversation) -> None:
        self.chat = chat
        self.version = 0

    def apply(self, event: _Event | None) -> _Event | None:
        """Apply what was decided, if anything was."""
        if event is not None:
            self.chat.apply(event)
        return event

    def send(self, author: str = "alice", device: str = PHONE, *, times: int = 1, asks: bool = False) -> int:
        """The seq of the (last) message."""
        for _ in range(times):
            self.version += 1
            self.apply(
                decide.accept(
                    self.chat, author, message_id=MessageId(2 * self.version), device=device, asks=asks
                )
            )
        return self.chat.head

    def deliver(self, ranges: Ranges, user: str = "bob", device: str = PHONE) -> events.DeliveryMarked | None:
        """A device acknowledges."""
        return self.apply(decide.deliver(self.chat, user, device, ranges))

    def read(
        self,
        ranges: Ranges,
        user: str = "bob",
        device: str = PHONE,
        *,
        share: bool = True,
        known: int = 10**9,
        at_ms: int = 0,
    ) -> events.ReadMarked | None:
        """A device reads; `known` is the version of the unread mark that it knows."""
        self.version += 1
        event = decide.read(
            self.chat,
            user,
            ranges,
            device=device,
            sharing=share,
            at_ms=at_ms,
            version=self.version,
            by=By.CONVERSATION,
            last=ranges[-1] - 1,
        )
        self.apply(event)
        self.version += 1
        self.apply(decide.unmark(self.chat, user, ranges, known=known, version=self.version))
        return event

    def share(self, user: str, *, read: bool | None = None, delivered: bool | None = None) -> None:
        """Switch sharing."""
        self.version += 1
        self.apply(decide.share(self.chat, user, version=self.version, read=read, delivered=delivered))

    def answer(self, seq: int, user: str, content: str = "") -> events.GroupReadMarked | None:
        """A group read receipt."""
        self.version += 1
        return self.apply(
            decide.answer(self.chat, user, seq, content, at_ms=self.version, version=self.version)
        )

    def unread(self, user: str = "bob") -> tuple[int, ...]:
        """The explanation of the count, which it must equal."""
        found = explain(self.chat, user)
        assert found.unread == len(found.seqs) == self.chat.unread(user)
        assert verify(self.chat) == []
        return found.seqs

    def statuses(self, user: str = "bob") -> str:
        """A letter a message: Acked, Delivered, Read, as alice sees it."""
        return "".join(self.chat.status(seq, user).name[0] for seq in range(1, self.chat.head + 1))


@pytest.fixture
def scene() -> Scene:
    """Alice and bob, nothing said yet."""
    return Scene(Conversation.between("alice", "bob"))


@pytest.fixture
def group() -> Scene:
    """G with olga (owner), adam (admin), bob, cara, dan, from the beginning."""
    return Scene(Conversation.group("G", ["olga", "adam", "bob", "cara", "dan"]))


def refused(code: Code, scene: Scene, seq: int, user: str, content: str = "") -> None:
    """An answer is refused with this code and changes nothing."""
    before = scene.chat.dump()
    with pytest.raises(Refused) as refusal:
        scene.answer(seq, user, content)
    assert refusal.value.code is code
    assert scene.chat.dump() == before


def test_scene_01_one_message(scene: Scene) -> None:
    """Scene 1: sent, delivered, read: ACKED, DELIVERED, READ; bob's unread 1, 1, 0, alice's always 0."""
    assert scene.send() == 1
    assert (scene.unread(), scene.unread("alice"), scene.statuses()) == ((1,), (), "A")
    delivered = scene.deliver((1, 2))
    assert delivered is not None
    assert delivered.shared == (1, 2)
    assert (scene.unread(), scene.statuses()) == ((1,), "D")
    read = scene.read(through(1))
    assert read is not None
    assert (read.shared, read.through, read.by) == ((1, 2), 1, By.CONVERSATION)
    assert (scene.unread(), scene.unread("alice"), scene.statuses()) == ((), (), "R")


def test_scene_02_a_read_and_a_late_acknowledgement(scene: Scene) -> None:
    """Scene 2: alice is told READ once; the tablet's late acknowledgement tells her nothing, but is kept."""
    scene.send()
    read = scene.read(through(1))
    assert read is not None
    assert read.shared == (1, 2)
    late = scene.deliver((1, 2), device=TABLET)
    assert late is not None
    assert (late.held, late.shared) == ((1, 2), ())
    assert 1 in scene.chat.members["bob"].devices[TABLET]
    assert scene.statuses() == "R"
    assert scene.deliver((1, 2), device=TABLET) is None


def test_scene_03_a_message_comes_just_before_the_receipt(scene: Scene) -> None:
    """Scene 3: a receipt through 3 that finds head 4 leaves #4 unread."""
    scene.send(times=3)
    scene.send()
    scene.read(through(3))
    assert scene.unread() == (4,)
    assert scene.statuses() == "RRRA"
    scene.deliver((4, 5))
    assert scene.statuses() == "RRRD"


def test_scene_04_sparse_reads(scene: Scene) -> None:
    """Scene 4: three messages read out of ten cost ranges; then only what is new is told."""
    scene.send(times=10)
    scene.deliver(through(10))
    first = scene.read(ranges_of([3, 4, 9]))
    assert first is not None
    assert first.shared == ranges_of([3, 4, 9])
    assert scene.unread() == (1, 2, 5, 6, 7, 8, 10)
    assert scene.chat.members["bob"].read.gaps == 2
    then = scene.read(through(8))
    assert then is not None
    assert then.shared == ranges_of([1, 2, 5, 6, 7, 8])
    assert scene.chat.members["bob"].read.ranges == through(9)
    assert scene.unread() == (10,)


def test_scene_05_beyond_the_head(scene: Scene) -> None:
    """Scene 5: decided is up to the head; a replica keeps a mark that comes before its messages."""
    scene.send(times=3)
    event = scene.read(through(10))
    assert event is not None
    assert (event.shared, event.through) == (through(3), 3)
    assert scene.unread() == ()
    scene.send()
    assert scene.unread() == (4,)
    named = scene.read((4, 5, 7, 8))
    assert named is not None
    assert named.read == (4, 5)
    replica = Conversation.between("alice", "bob")
    replica.apply(events.ReadMarked("alice~bob", "bob", PHONE, through(10), through(10), through(10), 0, 1))
    assert replica.unread("bob") == 0
    for seq in range(1, 11):
        replica.apply(events.MessageAccepted("alice~bob", seq, MessageId(2 * seq), "alice"))
        assert replica.unread("bob") == 0
        assert replica.status(seq, "bob") is Status.READ


def test_scene_06_a_send_is_no_receipt(scene: Scene) -> None:
    """Scene 6: bob's own message marks only itself: his unread stays 3, alice gets no receipt."""
    scene.send(times=3)
    assert scene.send("bob") == 4
    assert scene.unread() == (1, 2, 3)
    assert scene.unread("alice") == (4,)
    assert scene.statuses()[:3] == "AAA"


def test_scene_08_a_recall(scene: Scene) -> None:
    """Scene 8: a recalled message does not count, read or not; late receipts for it tell nothing."""
    scene.send(times=3)
    scene.deliver(through(3))
    assert scene.unread() == (1, 2, 3)
    assert scene.apply(decide.recall(scene.chat, 2, "alice")) is not None
    assert scene.unread() == (1, 3)
    assert decide.recall(scene.chat, 2, "alice") is None
    scene.read(through(3))
    assert scene.unread() == ()
    assert [scene.chat.is_read(seq, "bob") for seq in (1, 2, 3)] == [True, Unknown.RECALLED, True]
    late = scene.deliver((2, 3), device=TABLET)
    assert late is not None
    assert late.shared == ()


def test_scene_08_read_before_the_recall_or_only_the_recalled(scene: Scene) -> None:
    """Scene 8: had #2 been read before: 0 before, 0 after; who reads only the recalled one tells nothing."""
    scene.send(times=3)
    scene.read(through(3))
    scene.apply(decide.recall(scene.chat, 2, "alice"))
    assert scene.unread() == ()
    scene.send()
    scene.apply(decide.recall(scene.chat, 4, "alice"))
    for event in (scene.deliver((4, 5)), scene.read((4, 5))):
        assert event is not None
        assert event.shared == ()
    assert scene.chat.is_read(4, "bob") is Unknown.RECALLED


def test_scene_09_private_reads(scene: Scene) -> None:
    """Scene 9: read while sharing was off stays unknown for ever; from switching on, what comes is told."""
    scene.send(times=10)
    scene.deliver(through(10))
    scene.share("bob", read=False)
    scene.send()
    private = scene.read(through(11))
    assert private is not None
    assert (private.read, private.shared) == (through(11), ())
    assert scene.unread() == ()
    assert scene.statuses() == "DDDDDDDDDDA"
    scene.share("bob", read=True)
    assert scene.statuses() == "DDDDDDDDDDA"
    scene.send()
    told = scene.read(through(12))
    assert told is not None
    assert told.shared == (12, 13)
    assert {scene.chat.is_read(seq, "bob") for seq in range(1, 12)} == {Unknown.SHARING_OFF}
    assert scene.chat.is_read(12, "bob") is True
    assert scene.read(through(11)) is None
    assert {scene.chat.is_read(seq, "bob") for seq in range(1, 12)} == {Unknown.SHARING_OFF}


def test_scene_09_unread_ones_are_just_as_unknown(scene: Scene) -> None:
    """Scene 9: the answer for #1-#11 is the same when bob read none, or reads them later."""
    scene.send(times=10)
    scene.share("bob", read=False)
    scene.send()
    scene.share("bob", read=True)
    assert {scene.chat.is_read(seq, "bob") for seq in range(1, 12)} == {Unknown.SHARING_OFF}
    late = scene.read(through(11))
    assert late is not None
    assert late.shared == ()
    assert {scene.chat.is_read(seq, "bob") for seq in range(1, 12)} == {Unknown.SHARING_OFF}


def test_scene_10_a_stale_device_must_not_leak(scene: Scene) -> None:
    """Scene 10: the stricter of what the device knew and what the deciding side knows, both ways."""
    scene.send(times=3)
    scene.share("bob", read=False)
    scene.share("bob", read=True)
    stale = scene.read(through(3), device=LAPTOP, share=False)
    assert stale is not None
    assert stale.shared == ()
    scene.send()
    scene.share("bob", read=False)
    other_way = scene.read(through(4), share=True)
    assert other_way is not None
    assert (other_way.read, other_way.shared) == ((4, 5), ())
    assert "R" not in scene.statuses()


def test_scene_11_a_flag_and_a_stale_receipt(scene: Scene) -> None:
    """Scene 11: a receipt clears the mark only if the device knew of it; what is new is read."""
    scene.send(times=10)
    scene.read(through(10))
    before = scene.statuses()
    scene.apply(decide.mark_unread(scene.chat, "bob", version=51))
    assert (scene.unread(), scene.chat.marked_unread("bob")) == ((), True)
    assert scene.read(through(10), device=LAPTOP, known=40) is not None  # the laptop holds them, no more
    assert scene.chat.members["bob"].unread_mark.version == 51
    scene.send()
    scene.read(through(11), device=LAPTOP, known=40)
    assert (scene.unread(), scene.chat.marked_unread("bob")) == ((), True)
    scene.version = 59
    cleared = decide.unmark(scene.chat, "bob", through(10), known=51, version=60)
    assert scene.apply(cleared) is not None
    assert scene.chat.members["bob"].unread_mark.version == 60
    assert not scene.chat.marked_unread("bob")
    assert decide.unmark(scene.chat, "bob", through(11), known=60, version=61) is None
    assert scene.statuses() == before + "R"


def test_scene_12_a_mark_from_a_message(scene: Scene) -> None:
    """Scene 12: unread from #8: {8-10}, with #11 four, {10, 11}, none; alice sees READ throughout."""
    scene.send(times=10)
    scene.read(through(10))
    scene.apply(decide.mark_unread(scene.chat, "bob", version=50, from_seq=8))
    scene.version = 50
    assert scene.unread() == (8, 9, 10)
    scene.send()
    assert scene.unread() == (8, 9, 10, 11)
    assert scene.read(through(9)) is None
    assert scene.unread() == (10, 11)
    assert scene.statuses() == "RRRRRRRRRRA"
    last = scene.read(through(11))
    assert last is not None
    assert last.shared == (11, 12)
    assert scene.unread() == ()
    assert not scene.chat.marked_unread("bob")
    assert scene.chat.members["bob"].read.ranges == through(11)


def test_scene_12_what_cannot_be_marked(scene: Scene) -> None:
    """Scene 12: a seq beyond the head, below 1 or behind the floor is refused; own messages never count."""
    scene.send(times=3)
    scene.send("bob")
    scene.read(through(4))
    scene.apply(decide.clear(scene.chat, "bob", 1))
    for seq in (0, 1, 5):
        with pytest.raises(Refused) as refusal:
            decide.mark_unread(scene.chat, "bob", version=50, from_seq=seq)
        assert refusal.value.code is Code.UNKNOWN_MESSAGE
    scene.apply(decide.mark_unread(scene.chat, "bob", version=50, from_seq=3, own=(4, 5)))
    scene.version = 50
    assert scene.unread() == (3,)
    scene.read(through(4))
    scene.apply(decide.mark_unread(scene.chat, "bob", version=70, from_seq=4, own=(4, 5)))
    assert (scene.unread(), scene.chat.marked_unread("bob")) == ((), True)


@pytest.mark.parametrize("rule", list(RollUp))
def test_scene_13_several_devices(scene: Scene, rule: RollUp) -> None:
    """Scene 13: 'any' tells with the first device, 'all' with the last that was known before the message."""
    scene.send()
    since = {PHONE: 0, TABLET: 0, LAPTOP: 1}
    told = []
    for device in (PHONE, TABLET, LAPTOP):
        event = scene.apply(decide.deliver(scene.chat, "bob", device, (1, 2), rule=rule, since=since))
        assert event is not None
        assert event.held == (1, 2)
        told.append(event.shared)
    assert told == ([(1, 2), (), ()] if rule is RollUp.ANY else [(), (1, 2), ()])


def test_scene_14_deliveries_that_are_not_shared(scene: Scene) -> None:
    """Scene 14: acknowledged when bob does not share: ACKED, 'not shared', and held all the same."""
    scene.send()
    scene.deliver((1, 2))
    scene.share("bob", delivered=False)
    scene.send()
    event = scene.deliver((2, 3))
    assert event is not None
    assert (event.held, event.shared) == ((2, 3), ())
    assert scene.statuses() == "DA"
    assert scene.chat.is_delivered(1, "bob") is True
    assert scene.chat.is_delivered(2, "bob") is Unknown.SHARING_OFF
    assert 2 in scene.chat.members["bob"].devices[PHONE]
    scene.share("bob", delivered=True)
    assert scene.deliver((2, 3)) is None
    assert scene.chat.is_delivered(2, "bob") is Unknown.SHARING_OFF


def test_scene_15_a_newcomer(group: Scene) -> None:
    """Scene 15: erin begins with unread 0; reading what was before changes no count; #41 is her first."""
    group.send("olga", times=40)
    group.apply(decide.join(group.chat, "erin", version=100))
    assert group.unread("erin") == ()
    old = group.read((35, 36), "erin")
    assert old is not None
    assert old.shared == ()
    assert group.unread("erin") == ()
    assert group.send("olga") == 41
    assert group.unread("erin") == (41,)
    assert "erin" not in group.chat.audience(40, "olga")
    assert "erin" in group.chat.audience(41, "olga")


def test_scene_16_leaving_and_coming_back(group: Scene) -> None:
    """Scene 16: neither what was unread at leaving nor what was sent meanwhile counts on coming back."""
    group.send("olga", times=10)
    group.read(through(5))
    assert group.unread() == (6, 7, 8, 9, 10)
    group.apply(decide.leave(group.chat, "bob"))
    assert group.unread() == ()
    for wish in (
        lambda: decide.read(group.chat, "bob", through(10)),
        lambda: decide.deliver(group.chat, "bob", PHONE, through(10)),
        lambda: decide.mark_unread(group.chat, "bob", version=90),
        lambda: decide.accept(group.chat, "bob", message_id=MessageId(90)),
    ):
        with pytest.raises(Refused) as refusal:
            wish()
        assert refusal.value.code is Code.NOT_A_MEMBER
    assert decide.leave(group.chat, "bob") is None
    group.send("olga", times=4)
    group.apply(decide.join(group.chat, "bob", version=100))
    assert decide.join(group.chat, "bob", version=101) is None
    assert group.unread() == ()
    group.send("olga")
    assert group.unread() == (15,)
    periods = group.chat.members["bob"].periods
    assert [(p.from_seq, p.through) for _, p in sorted(periods.items())] == [(1, 10), (15, None)]
    assert ["bob" in group.chat.audience(seq, "olga") for seq in (8, 12, 15)] == [True, False, True]


def _asked(group: Scene) -> int:
    """Message #20 by olga, which asks; bob read it with "ok", cara with nothing."""
    group.send("olga", times=19)
    seq = group.send("olga", asks=True)
    group.answer(seq, "bob", "ok")
    group.answer(seq, "cara")
    return seq


def test_scene_17_answers_to_a_message_that_asked(group: Scene) -> None:
    """Scene 17: two readers with contents; bob's second answer is nothing; adam and dan have not read."""
    seq = _asked(group)
    assert seq == 20
    readers = group.chat.asked[seq].readers
    assert {user: receipt.content for user, receipt in readers.items()} == {"bob": "ok", "cara": ""}
    assert group.answer(seq, "bob", "later") is None
    assert readers["bob"].content == "ok"
    assert group.chat.audience(seq) == ("adam", "bob", "cara", "dan")
    assert [user for user in group.chat.audience(seq) if user not in readers] == ["adam", "dan"]
    assert group.chat.read_at(seq, "bob") == readers["bob"].at_ms


@pytest.mark.parametrize("first", [0, 1])
def test_scene_17_the_lowest_version_wins_in_any_order(group: Scene, first: int) -> None:
    """Scene 17: of two answers of one reader the one decided first stands, whichever arrives first."""
    answers = [
        events.GroupReadMarked("G", 20, "bob", 5, "ok", 30),
        events.GroupReadMarked("G", 20, "bob", 4, "later", 31),
    ]
    group.chat.apply(answers[first])
    group.chat.apply(answers[1 - first])
    assert group.chat.asked[20].readers["bob"].content == "ok"


def test_scene_18_a_conversation_receipt_never_answers(group: Scene) -> None:
    """Scene 18: reading through #20 clears dan's unread and tells nobody; his answer then does."""
    group.send("olga", times=14)
    group.read(through(14), "dan")
    group.send("olga", times=5)
    seq = group.send("olga", asks=True)
    assert group.unread("dan") == (15, 16, 17, 18, 19, 20)
    receipt = group.read(through(20), "dan")
    assert receipt is not None
    assert receipt.shared == ()
    assert group.unread("dan") == ()
    assert group.chat.asked[seq].readers == {}
    assert group.chat.is_read(seq, "dan") is False
    answer = group.answer(seq, "dan", "seen")
    assert answer is not None
    assert answer.content == "seen"
    assert group.chat.is_read(seq, "dan") is True


def test_scene_19_who_may_answer_and_who_counts(group: Scene) -> None:
    """Scene 19: erin came later; cara and adam leave and stay in the audience: 2 of 4."""
    seq = _asked(group)
    group.apply(decide.join(group.chat, "erin", version=100))
    refused(Code.NOT_IN_AUDIENCE, group, seq, "erin")
    refused(Code.OWN_MESSAGE, group, seq, "olga")
    group.apply(decide.leave(group.chat, "cara"))
    group.apply(decide.leave(group.chat, "adam"))
    refused(Code.NOT_A_MEMBER, group, seq, "adam")
    assert group.answer(seq, "cara", "again") is None  # done before she left: answered as the first time
    audience, readers = group.chat.audience(seq), group.chat.asked[seq].readers
    assert audience == ("adam", "bob", "cara", "dan")
    assert [user for user in audience if user in readers] == ["bob", "cara"]
    refused(Code.NOT_ASKED, group, 5, "dan", "content")
    before = group.unread("dan")
    plain = group.read((5, 6), "dan")
    assert plain is not None
    assert plain.shared == ()
    assert group.unread("dan") == tuple(n for n in before if n != 5)


def test_scene_19_alone_there_is_nobody_to_read() -> None:
    """Scene 19: in a group of one the audience is empty, which is not 'read by all'."""
    alone = Scene(Conversation.group("H", ["olga"]))
    seq = alone.send("olga", asks=True)
    assert alone.chat.audience(seq) == ()
    assert alone.chat.is_read(seq, "olga") is Unknown.NOT_IN_AUDIENCE


def test_scene_20_expired_receipts(group: Scene) -> None:
    """Scene 20: readers and contents are gone, the answer is 'expired', a late receipt is refused, and no
    older state brings them back."""
    seq = _asked(group)
    older = group.chat.copy()
    unread = {user: group.unread(user) for user in group.chat.members}
    group.apply(decide.expire_receipts(group.chat, seq))
    assert group.chat.asked == {}
    assert {group.chat.is_read(seq, user) for user in group.chat.members} == {Unknown.EXPIRED}
    refused(Code.EXPIRED, group, seq, "dan")
    for joined in (join(group.chat, older), join(older, group.chat)):
        assert joined == group.chat
    group.chat.apply(events.GroupReadMarked("G", seq, "dan", 0, "", 1))
    assert group.chat.asked == {}
    assert {user: group.unread(user) for user in group.chat.members} == unread
    assert decide.expire_receipts(group.chat, seq) is None
    assert decide.expire_receipts(group.chat, seq + 100) is None  # what is not there yet does not expire
    again = group.send("olga", asks=True)
    assert group.answer(again, "dan") is not None


def test_scene_21_counts_are_totals(group: Scene) -> None:
    """Scene 21: the asker's summary is the number of readers, however often: #20 two, #22 one."""
    _asked(group)
    group.send("olga")
    assert group.send("olga", asks=True) == 22
    group.answer(22, "dan")
    for _ in range(2):
        counts = {seq: len(asked.readers) for seq, asked in group.chat.asked.items()}
        assert counts == {20: 2, 22: 1}


def test_counts_of_a_message_that_does_not_count(group: Scene) -> None:
    """A system message is in the order, in nobody's unread."""
    group.apply(decide.accept(group.chat, "olga", message_id=MessageId(2), counts=Counts.SYSTEM))
    assert group.chat.head == 1
    assert group.unread() == ()
