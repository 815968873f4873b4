"""What must always hold, by number. Worlds are random; each test's docstring is the sentence that holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from attrs import evolve
from hypothesis import assume, given
from hypothesis import strategies as st

from receipts.core import decide, events
from receipts.core.conversation import Conversation, Receipt
from receipts.core.errors import Code, LocalProtocolError, Refused
from receipts.core.events import Event
from receipts.core.explain import explain, repair, verify
from receipts.core.ids import ConversationKind, Counts, MessageId
from receipts.core.member import Period, Sharing, UnreadMark
from receipts.core.policy import GAPS_MAX, Limits, RollUp
from receipts.core.ranges import RangeSet, count, ranges_of, seqs_of, through
from receipts.core.status import Status, Unknown
from tests.core.worlds import (
    DIRECT_ID,
    GROUP_ID,
    USERS,
    Step,
    World,
    any_events,
    kinds,
    people,
    ranges,
    replica,
    steps,
    worlds,
)

EXPIRY = ("expire", "expire_receipts")


def pairs(world: World) -> list[tuple[int, str]]:
    """Every (message, user) of a world, one seq beyond the head included."""
    return [(seq, user) for seq in range(1, world.chat.head + 2) for user in people(world.kind)]


def present(world: World) -> list[str]:
    """Who is in the conversation now."""
    return [user for user, member in world.chat.members.items() if member.joined]


@st.composite
def stories(draw: st.DrawFn, without: tuple[str, ...] = ()) -> tuple[World, list[Step]]:
    """A world at its beginning, and steps to take in it."""
    kind = draw(kinds())
    world = World(kind, draw(st.sampled_from(list(RollUp))))
    taken = draw(st.lists(steps(kind).filter(lambda step: step[0] not in without), max_size=25))
    return world, [("send", "alice", "phone", Counts.YES, True), *taken]


@given(worlds())
def test_i_01_own_messages_are_never_unread(world: World) -> None:
    """I-1: no message counts as unread for its author, marked unread or not, live or by events alone."""
    heard = replica(world.kind, world.history)
    for user in people(world.kind):
        for chat in (world.chat, heard):
            assert all(world.authors[seq] != user for seq in seqs_of(chat.unread_ranges(user)))


@given(stories(without=EXPIRY))
def test_i_02_a_status_never_falls(story: tuple[World, list[Step]]) -> None:
    """I-2: whatever happens, what is known of (message, user) only rises."""
    world, taken = story
    known: dict[tuple[int, str], Status] = {}
    for step in taken:
        world.step(step)
        now = {pair: world.chat.status(*pair) for pair in pairs(world)}
        assert all(now[pair] >= status for pair, status in known.items())
        known = now


@given(st.data())
def test_i_02_a_status_never_falls_on_a_replica_either(data: st.DataObject) -> None:
    """I-2: events in any order never lower a status; READ stays READ when a delivery comes late."""
    kind = data.draw(kinds())
    expiries = (events.GroupReceiptsExpired, events.MessagesExpired)
    heard = data.draw(
        st.lists(any_events(kind).filter(lambda event: not isinstance(event, expiries)), max_size=15)
    )
    chat = replica(kind, [])
    known: dict[tuple[int, str], Status] = {}
    for event in heard:
        chat.apply(event)
        now = {(seq, user): chat.status(seq, user) for seq in range(1, 10) for user in people(kind)}
        assert all(now[pair] >= status for pair, status in known.items())
        known = now


@given(worlds())
def test_i_02_only_expiry_lowers_and_then_the_answer_is_unknown(world: World) -> None:
    """I-2, I-28: where expiry took a READ away, the answer is 'expired', never 'no'."""
    before = {pair: world.chat.status(*pair) for pair in pairs(world)}
    world.step(("expire_receipts", world.chat.head))
    for (seq, user), status in before.items():
        if world.chat.status(seq, user) < status:
            assert world.chat.is_read(seq, user) in (Unknown.EXPIRED, Unknown.RECALLED)


@given(worlds())
def test_i_03_receipts_that_come_before_their_messages_are_not_lost(world: World) -> None:
    """I-3: all marks before all messages end in the same state as the order in which they were decided."""
    early = sorted(world.history, key=lambda event: isinstance(event, events.MessageAccepted))
    assert replica(world.kind, early).dump() == world.chat.dump()


def test_i_03_what_happened_to_a_message_tells_that_it_was_there() -> None:
    """I-3: a recall or an expiry that comes before its message raises the head; shared is read too."""
    for event in (
        events.MessageRecalled(conversation=DIRECT_ID, seq=3, by="alice"),
        events.MessagesExpired(conversation=DIRECT_ID, through=3),
    ):
        chat = replica(ConversationKind.DIRECT, [event])
        assert chat.head == 3
        assert chat.status(3, "bob") is Status.ACKED
        told = events.ReadMarked(DIRECT_ID, "bob", "", (), (2, 4), (), 0, 1)
        chat.apply(told)
        assert chat.members["bob"].read.ranges == (2, 4)
        assert verify(chat) == []


@given(worlds())
def test_i_04_what_is_told_is_always_new(world: World) -> None:
    """I-4: no seq is read, shared as read, or shared as delivered twice for one member."""
    told: dict[tuple[str, str], set[int]] = {}

    def once(what: str, user: str, found: tuple[int, ...]) -> None:
        known = told.setdefault((what, user), set())
        assert known.isdisjoint(seqs_of(found))
        known |= set(seqs_of(found))

    for event in world.history:
        if isinstance(event, events.ReadMarked):
            once("read", event.member, event.read)
            once("read told", event.member, event.shared)
            assert event.read or event.shared or event.held
        elif isinstance(event, events.DeliveryMarked):
            once("delivered told", event.member, event.shared)
            once("held on " + event.device, event.member, event.held)
            assert event.held or event.shared


@given(worlds(), st.data())
def test_i_05_unread_lies_between_none_and_all_visible(world: World, data: st.DataObject) -> None:
    """I-5: 0 <= unread <= visible, on the side that decides and on a replica that heard anything at all."""
    heard = replica(world.kind, data.draw(st.lists(any_events(world.kind), max_size=10)))
    for chat in (world.chat, heard):
        for user in people(world.kind):
            start, stop = chat.visible(user)
            assert 0 <= chat.unread(user) <= stop - start


@given(worlds(), st.integers(1, 10**15))
def test_i_06_no_cursor_beyond_the_head(world: World, far: int) -> None:
    """I-6: reading or acknowledging beyond the head is taken up to it; the next message is unread."""
    for user in present(world):
        beyond = through(world.chat.head + far)
        world.step(("read", user, "phone", beyond, True, True))
        world.step(("deliver", user, "phone", beyond, True))
        assert world.chat.unread(user) == 0
    assert verify(world.chat) == []
    assume(len(present(world)) > 1)
    author, *others = present(world)
    world.step(("send", author, "phone", Counts.YES, False))
    for user in others:
        assert explain(world.chat, user).seqs == (world.chat.head,)
        assert world.chat.status(world.chat.head, user) is Status.ACKED


def test_i_06_what_a_receipt_names_beyond_the_head_is_left_out_of_the_event() -> None:
    """I-6: `through` of a conversation receipt is cut with its ranges, and an empty conversation has none."""
    chat = Conversation.between("alice", "bob")
    assert decide.read(chat, "bob", through(10), device="phone", by=events.By.CONVERSATION, last=10) is None
    assert decide.deliver(chat, "bob", "phone", (5, 10)) is None
    chat.apply(decide.accept(chat, "alice", message_id=MessageId(2)))
    event = decide.read(chat, "bob", through(10), device="phone", by=events.By.CONVERSATION, last=10)
    assert event is not None
    assert (event.read, event.shared, event.held, event.through) == ((1, 2), (1, 2), (1, 2), 1)


@given(worlds(), st.integers(-(10**12), 10**12))
def test_i_07_no_clock_decides_anything(world: World, offset: int) -> None:
    """I-7: with all times shifted, backwards too, the state is the same but for the times that are shown."""

    def timeless(chat: Conversation) -> object:
        dumped = chat.dump()
        for member in dumped["members"].values():
            member["advances"] = [(version, read) for version, _, read in member["advances"]]
        for asked in dumped["asked"].values():
            asked["readers"] = {user: (r[0], r[2]) for user, r in asked["readers"].items()}
        return dumped

    shifted = [
        evolve(cast(Any, event), at_ms=event.at_ms * 3 + offset) if hasattr(event, "at_ms") else event
        for event in world.history
    ]
    assert timeless(replica(world.kind, shifted)) == timeless(world.chat)


@given(worlds(), st.permutations(range(40)), st.integers(-(10**12), 10**12))
def test_i_08_the_seq_is_the_only_comparator(world: World, names: list[int], slope: int) -> None:
    """I-8: with other ids and times (all at one moment, or backwards) every order and count is the same."""

    def renamed(event: Event) -> Any:
        if not isinstance(event, events.MessageAccepted):
            return event
        return evolve(
            cast(Any, event), message_id=MessageId(1 + names[event.seq % 40]), at_ms=slope * -event.seq
        )

    other = replica(world.kind, [renamed(event) for event in world.history])
    for user in people(world.kind):
        assert other.unread_ranges(user) == world.chat.unread_ranges(user)
        assert other.visible(user) == world.chat.visible(user)
        for seq in range(1, world.chat.head + 1):
            assert other.status(seq, user) is world.chat.status(seq, user)
            assert other.is_read(seq, user) is world.chat.is_read(seq, user)
    assert other.dump() == world.chat.dump()


def test_i_08_messages_of_one_moment_have_one_order() -> None:
    """I-8: of messages of one millisecond, ids falling, the one with the higher seq is the newer one."""
    chat = Conversation.between("alice", "bob")
    for number in range(1, 4):
        chat.apply(decide.accept(chat, "alice", message_id=MessageId(20 - 2 * number), at_ms=5))
    event = decide.read(chat, "bob", through(2), device="phone", at_ms=5, version=1)
    assert event is not None
    for events_in_order in ([event], [event, event]):
        twin = chat.copy()
        for one in events_in_order:
            twin.apply(one)
        assert explain(twin, "bob").seqs == (3,)
        assert [twin.status(seq, "bob").name for seq in (1, 2, 3)] == ["READ", "READ", "ACKED"]
        assert decide.mark_unread(twin, "bob", version=2, from_seq=2).ranges == (2, 4)


@given(worlds(), st.data())
def test_i_09_a_recall_takes_exactly_what_was_counted(world: World, data: st.DataObject) -> None:
    """I-9: a recall changes unread by exactly [it was counted], once; with a read it commutes."""
    seq = data.draw(st.integers(1, world.chat.head))
    before = {user: list(explain(world.chat, user).seqs) for user in people(world.kind)}
    other = world.chat.copy()
    world.step(("recall", "alice", seq))
    for user, unread in before.items():
        assert list(explain(world.chat, user).seqs) == [n for n in unread if n != seq or not _gone(world, n)]
    assert world.step(("recall", "alice", seq)) == [] or seq <= world.chat.expired_through
    reader = data.draw(st.sampled_from(people(world.kind)))
    recalled = events.MessageRecalled(conversation=world.chat.id, seq=seq, by="alice")
    read = events.ReadMarked(world.chat.id, reader, "phone", (seq, seq + 1), (seq, seq + 1), (), 0, 99)
    one, two = other.copy(), other.copy()
    for event in (recalled, read):
        one.apply(event)
    for event in (read, recalled):
        two.apply(event)
    assert one.dump() == two.dump()


def _gone(world: World, seq: int) -> bool:
    return seq in world.chat.recalled or seq <= world.chat.expired_through


@given(worlds(), st.data())
def test_i_10_expiry_is_exact_and_leaves_no_orphans(world: World, data: st.DataObject) -> None:
    """I-10: after expiry, unread is what was unread above the line, and no row below it is left."""
    before = {user: explain(world.chat, user).seqs for user in people(world.kind)}
    line = data.draw(st.integers(0, world.chat.head))
    world.step(("expire", line))
    chat = world.chat
    for user, unread in before.items():
        assert explain(chat, user).seqs == tuple(seq for seq in unread if seq > line)
    assert all(seq > line for seq in (*chat.recalled, *chat.uncounted, *chat.asked))
    assert verify(chat) == []


@given(worlds(), st.data())
def test_i_11_what_one_member_does_changes_nothing_of_the_others(world: World, data: st.DataObject) -> None:
    """I-11: an event about a member changes that member's part of the state and no other's."""
    step = data.draw(steps(world.kind))
    before = world.chat.dump()["members"]
    made = world.step(step)
    assume(not isinstance(made, Refused))
    after = world.chat.dump()["members"]
    changed = {user for user in after if after[user] != before.get(user)}
    assert changed <= {step[1]}


@given(worlds(), st.integers(1, 6))
def test_i_12_every_count_has_its_messages(world: World, limit: int) -> None:
    """I-12: the pages of `explain` hold exactly as many seqs as the count, each visible to the member."""
    for user in people(world.kind):
        found: list[int] = []
        more = True
        while more:
            page = explain(world.chat, user, after=found[-1] if found else 0, limit=limit)
            assert len(page.seqs) <= limit
            assert page.unread == world.chat.unread(user)
            found += page.seqs
            more = page.more
        start, stop = world.chat.visible(user)
        assert len(found) == len(set(found)) == world.chat.unread(user)
        assert all(start <= seq < stop and world.authors[seq] != user for seq in found)


@given(worlds())
def test_i_14_kept_equals_recounted(world: World) -> None:
    """I-14: the state kept live is the state made anew from the history, and `verify` doubts neither."""
    again = replica(world.kind, world.history)
    assert again.dump() == world.chat.dump()
    assert verify(world.chat) == verify(again) == []
    assert repair(world.chat) == []
    assert again.dump() == world.chat.dump()


@given(worlds(), st.data())
def test_i_15_receipts_of_others_do_not_touch_my_unread(world: World, data: st.DataObject) -> None:
    """I-15: a receipt by anybody else leaves my unread as it is, and is no message."""
    me, *others = people(world.kind)
    before = world.chat.unread_ranges(me), world.chat.head
    other = data.draw(st.sampled_from(others))
    world.step(("deliver", other, "tablet", data.draw(ranges()), True))
    world.step(("read", other, "tablet", data.draw(ranges()), True, True))
    world.step(("answer", other, data.draw(st.integers(1, 14)), "ok", True))
    assert (world.chat.unread_ranges(me), world.chat.head) == before


@given(st.data())
def test_i_17_reading_through_the_head_zeroes_from_any_state(data: st.DataObject) -> None:
    """I-17: whatever the state, even one that nobody decided, reading to the head leaves nothing."""
    kind = data.draw(kinds())
    chat = replica(kind, data.draw(st.lists(any_events(kind), max_size=12)))
    for user in people(kind):
        member = chat.members.get(user)
        if member is None or not member.joined:
            assert chat.unread(user) == 0
            continue
        named = through(chat.head)
        for event in (
            decide.read(chat, user, named, device="phone", version=9),
            decide.unmark(chat, user, named, known=9, version=10),
        ):
            if event is not None:
                chat.apply(event)
        assert chat.unread(user) == 0
        assert not chat.marked_unread(user)


@given(st.data())
def test_i_17_repair_ends_with_nothing_left_to_find(data: st.DataObject) -> None:
    """I-17: from any state `repair` comes to one that `verify` does not doubt, and then changes nothing."""
    kind = data.draw(kinds())
    chat = replica(kind, data.draw(st.lists(any_events(kind), max_size=15)))
    chat.head = data.draw(st.integers(0, 9))
    chat.expired_through = data.draw(st.integers(0, 9))
    doubts = verify(chat)
    found = repair(chat)
    assert bool(found) is bool(doubts)
    assert verify(chat) == []
    mended = chat.dump()
    assert repair(chat) == []
    assert chat.dump() == mended


@given(worlds())
def test_i_18_a_newcomer_begins_with_nothing_unread(world: World) -> None:
    """I-18: who joins, for the first time or again, has unread 0; from then on each message counts."""
    assume(world.kind is ConversationKind.GROUP)
    world.step(("join", "alice"))
    world.step(("leave", "dan"))
    assert world.chat.unread("dan") == 0
    world.step(("send", "alice", "phone", Counts.YES, False))
    assert world.chat.unread("dan") == 0
    world.step(("join", "dan"))
    assert world.chat.unread("dan") == 0
    world.step(("read", "dan", "phone", (1, 3), True, True))
    world.step(("send", "alice", "phone", Counts.YES, False))
    assert explain(world.chat, "dan").seqs == (world.chat.head,)
    assert world.chat.audience(world.chat.head - 1).count("dan") == 0


@given(worlds())
def test_i_19_the_audience_is_who_was_there_at_the_send(world: World) -> None:
    """I-19: leavers stay in the audience, newcomers do not come in, the author is not in it."""
    before = {seq: world.chat.audience(seq, author) for seq, author in world.authors.items()}
    for user in people(world.kind):
        world.step(("leave", user))
        world.step(("join", user))
    for seq, author in world.authors.items():
        assert world.chat.audience(seq, author) == before[seq]
        assert author not in before[seq]


@given(st.permutations(["phone", "tablet", "watch"]))
def test_i_19_delivered_to_all_devices_means_all_that_were_known_before(order: list[str]) -> None:
    """I-19: by the rule 'all', delivered is told with the last device known before the message."""
    chat = Conversation.between("alice", "bob")
    since = dict.fromkeys(order, 0)
    chat.apply(decide.accept(chat, "alice", message_id=MessageId(2)))
    since["new"] = 1
    for index, device in enumerate(order):
        assert chat.is_delivered(1, "bob") is False
        event = decide.deliver(chat, "bob", device, (1, 2), rule=RollUp.ALL, since=since)
        assert event is not None
        assert event.shared == ((1, 2) if index == 2 else ())
        chat.apply(event)
    assert chat.is_delivered(1, "bob") is True


def test_i_19_a_device_that_is_removed_can_only_raise_the_status() -> None:
    """I-19: without the device that 'all' waited for, what the others hold is delivered when said again."""
    chat = Conversation.between("alice", "bob")
    chat.apply(decide.accept(chat, "alice", message_id=MessageId(2)))
    since = {"phone": 0, "tablet": 0}
    first = decide.deliver(chat, "bob", "phone", (1, 2), rule=RollUp.ALL, since=since)
    assert first is not None
    assert (first.held, first.shared) == ((1, 2), ())
    chat.apply(first)
    assert decide.deliver(chat, "bob", "phone", (1, 2), rule=RollUp.ALL, since=since) is None
    again = decide.deliver(chat, "bob", "phone", (1, 2), rule=RollUp.ALL, since={"phone": 0})
    assert again is not None
    assert (again.held, again.shared) == ((), (1, 2))
    assert decide.deliver_again(chat, "bob", "phone", since=since) is None
    assert decide.deliver_again(chat, "bob", "phone", since={"phone": 0}) == again
    chat.apply(again)
    assert decide.deliver_again(chat, "bob", "phone", since={"phone": 0}) is None


def test_i_19_what_only_a_removed_device_had_is_delivered_when_no_other_owes_it() -> None:
    """I-19: a newer device owes nothing from before; what the device that left had counts."""
    chat = _busy(3)
    since = {"old": 0, "new": 2}
    held = decide.deliver(chat, "bob", "old", (1, 2), rule=RollUp.ALL, since={**since, "lost": 0})
    assert held is not None
    assert held.shared == ()
    chat.apply(held)
    again = decide.deliver_again(chat, "bob", "new", since={"new": 2})
    assert again is not None
    assert (again.held, again.shared) == ((), (1, 2))
    for switched in (False, True):  # off; and on again, which draws a line at the head
        off = decide.share(chat, "bob", version=1 + switched, delivered=switched)
        assert off is not None
        chat.apply(off)
        assert decide.deliver_again(chat, "bob", "new", since={"new": 2}) is None
    assert decide.deliver_again(chat, "mallory", "new", since={"new": 2}) is None


@given(worlds(), st.sampled_from([Counts.SILENT, Counts.SYSTEM]))
def test_i_20_one_predicate_for_every_counter(world: World, counts: Counts) -> None:
    """I-20: what does not count counts nowhere: not in unread, not in `explain`, not when marked unread."""
    assume("alice" in present(world))
    world.step(("send", "alice", "phone", counts, False))
    for user in present(world):
        world.step(("mark", user, world.chat.head))
        assert world.chat.head not in explain(world.chat, user).seqs
        assert count(world.chat.unread_ranges(user)) == world.chat.unread(user)


@pytest.mark.parametrize("limit", [1, 7])
@pytest.mark.parametrize("unread_of", [lambda n: n - 1, lambda n: n, lambda n: n + 1, lambda n: 10 * n])
def test_i_22_no_page_ends_in_silence(limit: int, unread_of: Callable[[int], int]) -> None:
    """I-22: one below, at, one above and far above the limit of a page, nothing is lost, `more` is right."""
    unread = unread_of(limit)
    chat = Conversation.between("alice", "bob")
    for number in range(unread):
        chat.apply(decide.accept(chat, "alice", message_id=MessageId(2 * number + 2)))
    page = explain(chat, "bob", limit=limit)
    assert page.unread == unread
    assert page.more is (unread > limit)
    assert page.seqs == tuple(range(1, min(unread, limit) + 1))


@given(st.data())
def test_i_23_applying_twice_is_applying_once(data: st.DataObject) -> None:
    """I-23: a repeat changes nothing, and what stands behind it in a batch is still applied."""
    kind = data.draw(kinds())
    history = data.draw(st.lists(any_events(kind), max_size=10))
    doubled = [event for event in history for _ in range(2)]
    assert replica(kind, doubled).dump() == replica(kind, history).dump()


# -- I-25 ---------------------------------------------------------------------------------------------------


def seen_by_others(world: World) -> list[object]:
    """All that anybody may learn of anybody else in a world."""
    chat = world.chat
    learnt: list[object] = []
    for seq, user in pairs(world):
        asked = chat.asked.get(seq)
        readers = sorted(asked.readers.items()) if asked is not None else None
        learnt.append((chat.status(seq, user), chat.is_read(seq, user), chat.is_delivered(seq, user)))
        learnt.append((chat.read_at(seq, user), chat.audience(seq), readers))
    return learnt


def told_to_others(made: list[Event] | Refused) -> list[object]:
    """What of the outcome of one step others are told."""
    if isinstance(made, Refused):
        return [made.code]
    told: list[object] = []
    for event in made:
        if isinstance(event, (events.ReadMarked, events.DeliveryMarked)):
            told += [event.shared] if event.shared else []
        elif not isinstance(event, events.UnreadMarked):
            told.append(event)
    return told


@given(stories())
def test_i_25_private_reads_make_no_difference_to_anybody_else(story: tuple[World, list[Step]]) -> None:
    """I-25: two runs that differ only in private reads and marks look the same to all others, for ever."""
    world, taken = story
    twin = World(world.kind, world.rule)
    for step in taken:
        what, user, *rest = step
        member = world.chat.members.get(user)
        off = member is not None and not member.sharing.read
        says_no = (what == "read" and not rest[2]) or (what == "answer" and not rest[2])
        if what == "mark" or (what in ("read", "answer") and (off or says_no)):
            made = world.step(step)
            twin.version += 1
            if what == "read":
                twin._know(user, rest[0])  # the device is there in both, only the reading is not
            assert [code for code in told_to_others(made) if not isinstance(code, Code)] == []
        else:
            assert told_to_others(world.step(step)) == told_to_others(twin.step(step))
        assert seen_by_others(world) == seen_by_others(twin)


@pytest.mark.parametrize("privately", [True, False])
def test_i_25_a_private_read_leaves_no_gap_in_what_is_shared_later(privately: bool) -> None:
    """I-25: a receipt that agrees to tell shares all it names, read in private before or not."""
    chat = Conversation.between("alice", "bob")
    for number in range(1, 6):
        chat.apply(decide.accept(chat, "alice", message_id=MessageId(2 * number)))
    if privately:
        private = decide.read(chat, "bob", (3, 4), device="phone", sharing=False, version=1)
        assert private is not None
        assert (private.read, private.shared, private.held) == ((3, 4), (), ())
        chat.apply(private)
    shared = decide.read(chat, "bob", through(5), device="phone", version=2)
    assert shared is not None
    assert shared.shared == (1, 6)


@pytest.mark.parametrize("privately", [True, False])
@pytest.mark.parametrize("rule", list(RollUp))
def test_i_25_a_private_read_is_no_acknowledgement(privately: bool, rule: RollUp) -> None:
    """I-25: what is told of deliveries is the same with and without a private read on one of the devices."""
    chat = Conversation.between("alice", "bob")
    off = decide.share(chat, "bob", version=1, read=False)
    assert off is not None
    chat.apply(off)
    chat.apply(decide.accept(chat, "alice", message_id=MessageId(2)))
    if privately:
        private = decide.read(chat, "bob", (1, 2), device="tablet", version=2)
        assert private is not None
        chat.apply(private)
    since = {"phone": 0, "tablet": 0}
    told = []
    for device in ("phone", "tablet"):
        event = decide.deliver(chat, "bob", device, (1, 2), rule=rule, since=since)
        assert event is not None
        told.append(event.shared)
        chat.apply(event)
    assert told == ([(1, 2), ()] if rule is RollUp.ANY else [(), (1, 2)])


def test_i_25_reading_in_a_group_below_the_line_is_no_acknowledgement_either() -> None:
    """I-25: what was there when sharing was switched on stays private, so reading it in a group delivers
    nothing and holds nothing."""
    chat = Conversation.group("g", ["alice", "bob"])
    chat.apply(decide.accept(chat, "alice", message_id=MessageId(2)))
    for version, read in ((1, False), (2, True)):
        switched = decide.share(chat, "bob", version=version, read=read)
        assert switched is not None
        chat.apply(switched)
    chat.apply(decide.accept(chat, "alice", message_id=MessageId(4)))
    event = decide.read(chat, "bob", through(2), device="phone", version=3, delivers=True)
    assert event is not None
    assert (event.read, event.held, event.delivered) == ((1, 3), (2, 3), (2, 3))


@pytest.mark.parametrize("by_switch", [True, False])
def test_i_25_a_private_answer_is_none(by_switch: bool) -> None:
    """I-25: in a group too, who does not share reads answers nothing, neither then nor after switching on."""
    world = World(ConversationKind.GROUP)
    if by_switch:
        world.step(("share", "bob", None, False))
    world.step(("send", "alice", "phone", Counts.YES, True))
    assert world.step(("answer", "bob", 1, "ok", by_switch)) == []
    if by_switch:
        assert world.chat.is_read(1, "bob") is Unknown.SHARING_OFF
        world.step(("share", "bob", None, True))
        assert world.step(("answer", "bob", 1, "ok", True)) == []
        assert world.chat.is_read(1, "bob") is Unknown.SHARING_OFF
        world.step(("send", "alice", "phone", Counts.YES, True))
        assert len(told_to_others(world.step(("answer", "bob", 2, "ok", True)))) == 1


def test_i_25_own_messages_of_who_shares_nothing_are_in_no_shared_set() -> None:
    """I-25: a message tells as little of its author as receipts do: each switch, as it was at its send."""
    for delivered, read, shared in ((False, True, (False, True)), (True, False, (True, False))):
        chat = Conversation.between("alice", "bob")
        switched = decide.share(chat, "alice", version=1, delivered=delivered, read=read)
        assert switched is not None
        chat.apply(switched)
        chat.apply(decide.accept(chat, "alice", message_id=MessageId(2), device="phone"))
        alice = chat.members["alice"]
        assert (1 in alice.delivered_shared, 1 in alice.read_shared) == shared
        assert 1 in alice.read
        assert chat.unread("alice") == 0


# -- I-26 to I-28 -------------------------------------------------------------------------------------------


@given(worlds())
def test_i_26_no_receipt_for_an_own_message_or_to_a_non_member(world: World) -> None:
    """I-26: no receipt ever tells of the reader's own message, or comes from who was not there."""
    for event in world.history:
        if isinstance(event, (events.ReadMarked, events.DeliveryMarked)):
            assert all(world.authors[seq] != event.member for seq in seqs_of(event.shared))
        if isinstance(event, events.GroupReadMarked):
            assert world.authors[event.seq] != event.member
            assert event.member in world.chat.audience(event.seq)


OUTSIDE: list[Step] = [
    ("send", "mallory", "phone", Counts.YES, True),
    ("deliver", "mallory", "phone", (1, 2), True),
    ("read", "mallory", "phone", (1, 2), True, True),
    ("answer", "mallory", 1, "ok", True),
    ("mark", "mallory", None),
    ("mark", "mallory", 1),
    ("clear", "mallory", 1),
    ("leave", "mallory"),
]


@pytest.mark.parametrize("kind", list(ConversationKind))
@pytest.mark.parametrize("step", OUTSIDE, ids=str)
def test_i_27_who_is_outside_changes_nothing(kind: ConversationKind, step: Step) -> None:
    """I-27: whatever somebody from outside sends, the state has no trace of them."""
    world = World(kind)
    world.known_since["mallory"] = {}
    world.step(("send", "alice", "phone", Counts.YES, True))
    before = world.chat.dump()
    outcome = world.step(step)
    if step[0] in ("clear", "leave"):
        assert outcome == []
    else:
        assert isinstance(outcome, Refused)
        expected = Code.NOT_ASKED if step[0] == "answer" and kind is ConversationKind.DIRECT else None
        assert outcome.code is (expected or Code.NOT_A_MEMBER)
    assert world.chat.dump() == before
    assert world.chat.unread("mallory") == 0
    assert world.chat.is_read(1, "mallory") is Unknown.NOT_IN_AUDIENCE
    assert world.chat.is_delivered(1, "mallory") is Unknown.NOT_IN_AUDIENCE


def _by_outsider() -> list[Event]:
    chat = DIRECT_ID
    return [
        events.MessageAccepted(chat, 7, MessageId(2), "mallory", "phone"),
        events.DeliveryMarked(chat, "mallory", "phone", (1, 2), (1, 2)),
        events.ReadMarked(chat, "mallory", "phone", (1, 2), (1, 2), (1, 2), 0, 1),
        events.GroupReadMarked(chat, 1, "mallory", 0, "", 1),
        events.UnreadMarked(conversation=chat, member="mallory", version=1, flagged=True),
        events.HistoryCleared(conversation=chat, member="mallory", through=1),
        events.MemberJoined(conversation=chat, member="mallory", version=1, from_seq=1),
        events.MemberLeft(conversation=chat, member="mallory", joined=0, through=1),
        events.SharingChanged(conversation=chat, member="mallory", version=1, delivered=True, read=False),
        events.RegisterSet(
            conversation=chat, member="mallory", register=events.Register.MUTED, version=1, value=True
        ),
    ]


@pytest.mark.parametrize("event", _by_outsider(), ids=lambda event: type(event).__name__)
def test_i_27_between_two_users_there_is_no_third(event: Event) -> None:
    """I-27: an event about somebody else is refused between two users, by replicas too, without a trace."""
    chat = Conversation.between("alice", "bob")
    before = chat.dump()
    with pytest.raises(Refused) as refusal:
        chat.apply(event)
    assert refusal.value.code is Code.NOT_A_MEMBER
    assert chat.dump() == before


def test_i_27_a_conversation_is_between_two_users() -> None:
    """I-27: two names that are one, or are no user ids, make no conversation."""
    for one, other in (("bob", "bob"), ("Alice", "bob"), ("", "bob"), ("a~b", "bob")):
        with pytest.raises(LocalProtocolError):
            Conversation.between(one, other)


@given(worlds(), st.data())
def test_i_27_deciding_changes_nothing(world: World, data: st.DataObject) -> None:
    """I-27: deciding only looks; what was not applied has left no trace, for strangers either."""
    chat = world.chat
    before = chat.dump()
    who = data.draw(st.sampled_from([*USERS, "mallory"]))
    seq, named = data.draw(st.integers(0, 14)), data.draw(ranges())
    wishes: list[Callable[[], Any]] = [
        lambda: decide.accept(chat, who, message_id=MessageId(2)),
        lambda: decide.deliver(chat, who, "phone", named, rule=RollUp.ALL, since={"phone": 0, "tablet": 2}),
        lambda: decide.deliver_again(chat, who, "phone", since={"phone": 0, "tablet": 2}),
        lambda: decide.read(chat, who, named, device="phone"),
        lambda: decide.answer(chat, who, seq, "", at_ms=0, version=99),
        lambda: decide.mark_unread(chat, who, version=99, from_seq=seq),
        lambda: decide.unmark(chat, who, named, known=99, version=99),
        lambda: decide.recall(chat, seq, who),
        lambda: decide.clear(chat, who, seq),
        lambda: decide.join(chat, who, version=99),
        lambda: decide.leave(chat, who),
        lambda: decide.share(chat, who, version=99, read=False),
        lambda: decide.expire(chat, seq),
        lambda: decide.expire_receipts(chat, seq),
        lambda: explain(chat, who),
        lambda: chat.marked_unread(who),
        lambda: verify(chat),
    ]
    for wish in wishes:
        try:
            wish()
        except Refused:
            pass
        assert chat.dump() == before


@given(worlds())
def test_i_28_expired_is_not_no(world: World) -> None:
    """I-28: after expiry every question about the message is answered 'expired', and an answer is refused."""
    head = world.chat.head
    world.step(("expire", head))
    for user in people(world.kind):
        for seq in range(1, head + 1):
            assert world.chat.is_read(seq, user) is Unknown.EXPIRED
            assert world.chat.is_delivered(seq, user) is Unknown.EXPIRED
            assert world.chat.read_at(seq, user) is None
            refusal = world.step(("answer", user, seq, "", True))
            assert isinstance(refusal, Refused)
            assert refusal.code is Code.EXPIRED
    with pytest.raises(TypeError):
        bool(world.chat.is_read(head, "alice"))


def test_i_28_gone_is_said_to_be_gone() -> None:
    """I-28: of expired and of recalled messages only that is told; the one after them has answers."""
    chat = _busy(3)
    read = decide.read(chat, "bob", through(3), at_ms=7, version=1)
    assert read is not None
    chat.apply(read)
    chat.apply(events.MessagesExpired(conversation=chat.id, through=1))
    chat.apply(events.MessageRecalled(conversation=chat.id, seq=2, by="alice"))
    answers = [Unknown.EXPIRED, Unknown.RECALLED, True]
    assert [chat.is_read(seq, "bob") for seq in (1, 2, 3)] == answers
    assert [chat.is_delivered(seq, "bob") for seq in (1, 2, 3)] == answers
    assert [chat.read_at(seq, "bob") for seq in (1, 2, 3)] == [None, None, 7]


# -- limits (I-21) ------------------------------------------------------------------------------------------


def _busy(messages: int) -> Conversation:
    chat = Conversation.between("alice", "bob")
    for number in range(1, messages + 1):
        chat.apply(events.MessageAccepted(chat.id, number, MessageId(2 * number), "alice"))
    return chat


def test_i_21_a_set_has_no_more_ranges_than_the_limit() -> None:
    """I-21: a read or an acknowledgement that would make more ranges than the limit is refused, whole."""
    chat = _busy(12)
    sparse = ranges_of([2, 4, 6])
    assert decide.read(chat, "bob", sparse, device="phone", gaps_max=3) is not None
    for device in ("phone", ""):
        with pytest.raises(Refused) as refusal:
            decide.read(chat, "bob", ranges_of([2, 4, 6, 8]), device=device, gaps_max=3)
        assert (refusal.value.code, refusal.value.limit) == (Code.TOO_MANY_GAPS, 3)
    with pytest.raises(Refused, match="too_many_gaps"):
        decide.deliver(chat, "bob", "phone", ranges_of([2, 4, 6, 8]), gaps_max=3)
    marked = decide.read(chat, "bob", sparse, device="phone", gaps_max=3)
    assert marked is not None
    chat.apply(marked)
    with pytest.raises(Refused, match="too_many_gaps"):
        decide.read(chat, "bob", (8, 9), device="phone", gaps_max=3)
    with pytest.raises(Refused, match="too_many_gaps"):
        decide.deliver(chat, "bob", "phone", (8, 9), gaps_max=3)
    assert Limits().gaps_max == GAPS_MAX == 4096


def test_i_21_what_closes_gaps_is_never_refused() -> None:
    """I-21, I-17: reading on from an edge, between two ranges, or through the head is taken at any limit."""
    chat = _busy(12)
    marked = decide.read(chat, "bob", ranges_of([2, 4, 6]), device="phone", gaps_max=3)
    assert marked is not None
    chat.apply(marked)
    for gaps_max in (3, 1):  # the second: the limit was lowered since
        for named in ((3, 4), (7, 8), (1, 13), (1, 2)):
            assert decide.read(chat, "bob", named, device="phone", gaps_max=gaps_max) is not None
            assert decide.deliver(chat, "bob", "phone", named, gaps_max=gaps_max) is not None


def test_i_21_no_limit_keeps_a_conversation_from_being_read_to_the_end() -> None:
    """I-17, I-21: with every set full and a line of sharing in between, 'through the head' is taken."""
    chat = _busy(12)
    wishes: list[Callable[[], Event | None]] = [
        lambda: decide.read(chat, "bob", ranges_of([2, 4, 6]), device="phone", gaps_max=3),
        lambda: decide.share(chat, "bob", version=1, read=False, delivered=False),
        lambda: decide.share(chat, "bob", version=2, read=True, delivered=True),
        lambda: decide.accept(chat, "alice", message_id=MessageId(98)),
        lambda: decide.accept(chat, "alice", message_id=MessageId(100)),
    ]
    for wish in wishes:
        event = wish()
        assert event is not None
        chat.apply(event)
    with pytest.raises(Refused, match="too_many_gaps"):
        decide.read(chat, "bob", (14, 15), device="phone", gaps_max=3)
    done = decide.read(chat, "bob", through(chat.head), device="phone", gaps_max=3)
    assert done is not None
    assert done.shared == done.held == (13, 15)
    assert decide.deliver(chat, "bob", "phone", through(chat.head), gaps_max=3) is not None
    chat.apply(done)
    assert chat.unread("bob") == 0


def test_a_read_time_is_known_for_the_newest_reads_only() -> None:
    """When a message was read is kept for the last advances; for older and gone ones it is not."""
    chat = _busy(40)
    for seq in range(1, 40):
        event = decide.read(chat, "bob", (seq, seq + 1), at_ms=1000 + seq, version=seq)
        assert event is not None
        chat.apply(event)
    assert [chat.read_at(seq, "bob") for seq in (1, 7, 8, 39, 40)] == [None, None, 1008, 1039, None]
    assert chat.read_at(8, "mallory") is None
    recalled = decide.recall(chat, 39, "alice")
    assert recalled is not None
    chat.apply(recalled)
    assert chat.read_at(39, "bob") is None


# -- verify and repair --------------------------------------------------------------------------------------


def _group() -> Conversation:
    world = World(ConversationKind.GROUP)
    for _ in range(3):
        world.step(("send", "alice", "phone", Counts.YES, True))
    world.step(("read", "bob", "phone", (1, 3), True, True))
    world.step(("answer", "bob", 1, "ok", True))
    return world.chat


def _put(name: str, value: object) -> Callable[[Conversation], object]:
    return lambda chat: setattr(chat, name, value)


def _recalled_and_expired(chat: Conversation) -> None:
    chat.recalled.add(1, 2)
    chat.expired_through = 1


BREAKAGES: dict[str, tuple[str, Callable[[Conversation], object]]] = {
    "read beyond head": ("I-6", lambda chat: chat.members["bob"].read.add(4, 9)),
    "read_shared beyond head": ("I-6", lambda chat: chat.members["bob"].read_shared.add(4, 9)),
    "delivered_shared beyond head": ("I-6", lambda chat: chat.members["bob"].delivered_shared.add(4, 9)),
    "held beyond head": ("I-6", lambda chat: chat.members["bob"].held("phone").add(4, 9)),
    "recalled beyond head": ("I-6", lambda chat: chat.recalled.add(4, 9)),
    "uncounted beyond head": ("I-6", lambda chat: chat.uncounted.add(4, 9)),
    "cleared beyond head": ("I-6", lambda chat: setattr(chat.members["bob"], "cleared_through", 4)),
    "expired beyond head": ("I-6", _put("expired_through", 4)),
    "receipts expired beyond head": ("I-6", _put("receipts_expired_through", 4)),
    "receipts beyond head": ("I-6", lambda chat: chat._asked(4)),
    "mark beyond head": (
        "I-5",
        lambda chat: setattr(chat.members["bob"], "unread_mark", UnreadMark(1, False, (2, 9))),
    ),
    "own marked unread": (
        "I-1",
        lambda chat: setattr(chat.members["alice"], "unread_mark", UnreadMark(1, False, (2, 3))),
    ),
    "own not read": ("I-1", lambda chat: chat.members["alice"].read.discard((2, 3))),
    "messages expired without receipts": ("I-10", _put("expired_through", 2)),
    "recalled and expired": ("I-10", _recalled_and_expired),
    "expired orphan": ("I-10", _put("receipts_expired_through", 1)),
    "answers without a question": ("I-10", lambda chat: setattr(chat.asked[1], "author", None)),
    "shared but not read": ("I-14", lambda chat: chat.members["bob"].read_shared.add(3, 4)),
    "author answered": ("I-26", lambda chat: chat.asked[1].readers.update(alice=Receipt((1, 0, "")))),
    "outsider answered": ("I-19", lambda chat: chat.asked[1].readers.update(dan=Receipt((1, 0, "")))),
    "membership without beginning": (
        "I-18",
        lambda chat: chat.members["bob"].open_period(10**6, Period(0, 2)),
    ),
    "membership from the future": ("I-18", lambda chat: chat.members["bob"].open_period(10**6, Period(9))),
    "membership that did not end": ("I-18", lambda chat: chat.members["bob"].open_period(10**6, Period(3))),
    "membership beyond head": (
        "I-18",
        lambda chat: chat.member("dan").open_period(1, Period(1, 9)),
    ),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_what_is_broken_is_found_and_mended(name: str) -> None:
    """Each way the state can be wrong is found under its invariant, and is gone after one repair."""
    invariant, break_it = BREAKAGES[name]
    chat = _group()
    assert verify(chat) == []
    break_it(chat)
    assert invariant in [finding.invariant for finding in verify(chat)]
    assert invariant in [finding.invariant for finding in repair(chat)]
    assert verify(chat) == []
    assert all(finding.detail for finding in verify(chat))


def test_marking_unread_never_lowers_a_count() -> None:
    """A flag, or a mark from a later message, leaves what was marked before unread."""
    chat = _busy(10)
    for event in (
        decide.read(chat, "bob", through(10)),
        decide.mark_unread(chat, "bob", version=1, from_seq=8),
    ):
        assert event is not None
        chat.apply(event)
    for version, from_seq in ((2, None), (3, 9), (4, 10)):
        chat.apply(decide.mark_unread(chat, "bob", version=version, from_seq=from_seq))
        assert explain(chat, "bob").seqs == (8, 9, 10)


def test_reading_elsewhere_leaves_a_mark_alone() -> None:
    """What is read before the marked messages is no news about the mark; a flag is cleared by any read."""
    chat = _busy(10)
    chat.apply(decide.mark_unread(chat, "bob", version=1, from_seq=8))
    assert decide.unmark(chat, "bob", (3, 6), known=1, version=2) is None
    assert decide.unmark(chat, "bob", (3, 9), known=0, version=2) is None, (
        "a device that did not know the mark"
    )
    cleared = decide.unmark(chat, "bob", (3, 9), known=1, version=2)
    assert cleared is not None
    assert cleared.ranges == (9, 11)
    flagged = _busy(10)
    flagged.apply(decide.mark_unread(flagged, "bob", version=1))
    cleared = decide.unmark(flagged, "bob", (3, 6), known=1, version=2)
    assert cleared is not None
    assert (cleared.flagged, cleared.ranges) == (False, ())


def test_a_mark_ends_with_its_messages() -> None:
    """A conversation marked unread from a message on is not marked any more when that was cleared away."""
    chat = _busy(10)
    chat.apply(decide.mark_unread(chat, "bob", version=1, from_seq=8))
    assert chat.marked_unread("bob")
    cleared = decide.clear(chat, "bob", 10)
    assert cleared is not None
    chat.apply(cleared)
    assert not chat.marked_unread("bob")
    chat.apply(decide.mark_unread(chat, "bob", version=2))
    assert chat.marked_unread("bob")
    assert chat.unread("bob") == 0


def test_a_message_that_nobody_gets_has_no_audience() -> None:
    """Seqs below 1 and a member who never was are for nobody; nothing is raised."""
    chat = _busy(1)
    for seq in (0, -1):
        assert chat.status(seq, "bob") is Status.SENT
        assert chat.is_read(seq, "bob") is Unknown.NOT_IN_AUDIENCE
        assert chat.is_delivered(seq, "bob") is Unknown.NOT_IN_AUDIENCE
    assert chat.status(1, "mallory") is Status.ACKED
    assert (chat.unread("mallory"), chat.marked_unread("mallory")) == (0, False)
    assert chat.audience(1, "alice") == ("bob",)


def test_nobody_is_asked_for_receipts_between_two_users() -> None:
    """Between two users reads are told anyway: `asks` is left out, so no answer can go past sharing."""
    chat = Conversation.between("alice", "bob")
    chat.apply(decide.accept(chat, "alice", message_id=MessageId(2), asks=True))
    assert chat.asked == {}
    with pytest.raises(Refused, match="not_asked"):
        decide.answer(chat, "bob", 1, "", at_ms=0, version=1)


def test_registers_have_a_default_that_any_version_beats() -> None:
    """Sharing is on until a version says otherwise; of two values of one version one stands everywhere."""
    chat = Conversation.between("alice", "bob")
    assert chat.members["bob"].sharing == Sharing()
    one, two = (
        events.RegisterSet(
            conversation=chat.id, member="bob", register=events.Register.NAME, version=3, value=value
        )
        for value in ("one", None)
    )
    other = chat.copy()
    for event in (one, two):
        chat.apply(event)
    for event in (two, one):
        other.apply(event)
    assert chat == other


def test_group_ids_do_not_name_two_users() -> None:
    """A conversation by its id is between two users exactly when the id names them."""
    assert Conversation.named(GROUP_ID).kind is ConversationKind.GROUP
    assert sorted(Conversation.named(DIRECT_ID).members) == ["alice", "bob"]
    assert RangeSet() == Conversation.named(GROUP_ID).recalled
