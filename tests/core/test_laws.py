"""The laws of the join: order does not matter, repeats do not matter, nothing goes back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipts.core import events
from receipts.core.conversation import Conversation, join
from receipts.core.errors import LocalProtocolError
from receipts.core.events import EVENT_TYPES, Event
from receipts.core.ids import ConversationKind, MessageId
from receipts.core.member import ADVANCES_MAX, Advance, Member, Period
from receipts.core.ranges import EMPTY, RangeSet, check_ranges, count, ranges_of, seqs_of, through
from tests.core.worlds import GROUP_ID, World, any_events, kinds, replica, worlds


@st.composite
def parts(draw: st.DrawFn, number: int) -> tuple[ConversationKind, list[list[Event]]]:
    """Some histories of one conversation: cut out of what one side decided, or of events at random."""
    if draw(st.booleans()):
        world = draw(worlds())
        one_event = st.sampled_from(world.history)
        return world.kind, [draw(st.lists(one_event, max_size=12)) for _ in range(number)]
    kind = draw(kinds())
    return kind, [draw(st.lists(any_events(kind), max_size=10)) for _ in range(number)]


@given(parts(2))
def test_join_is_commutative(given_parts: tuple[ConversationKind, list[list[Event]]]) -> None:
    """Which of two replicas joins the other makes no difference."""
    kind, (one, other) = given_parts
    a, b = replica(kind, one), replica(kind, other)
    assert join(a, b).dump() == join(b, a).dump()


@given(parts(3))
def test_join_is_associative(given_parts: tuple[ConversationKind, list[list[Event]]]) -> None:
    """How joins are bracketed makes no difference."""
    kind, histories = given_parts
    a, b, c = (replica(kind, history) for history in histories)
    assert join(join(a, b), c).dump() == join(a, join(b, c)).dump()


@given(parts(2))
def test_join_is_idempotent_and_changes_neither_argument(
    given_parts: tuple[ConversationKind, list[list[Event]]],
) -> None:
    """Joining what is there already changes nothing, and the arguments of a join stay as they were."""
    kind, (one, other) = given_parts
    a, b = replica(kind, one), replica(kind, other)
    before = a.dump(), b.dump()
    both = join(a, b)
    assert (a.dump(), b.dump()) == before
    assert join(both, a) == both == join(both, b)
    assert join(a, a) == a == a.copy()
    a.merge(a)
    assert a.dump() == before[0]


@given(parts(2))
def test_a_joined_state_is_independent_of_where_it_came_from(
    given_parts: tuple[ConversationKind, list[list[Event]]],
) -> None:
    """After a join the two states share nothing: what one hears later the other does not know."""
    kind, (one, other) = given_parts
    a = replica(kind, one)
    twin = a.copy()
    before = a.dump()
    for event in other:
        twin.apply(event)
    assert a.dump() == before


@given(parts(2))
def test_applying_events_is_joining_their_state(
    given_parts: tuple[ConversationKind, list[list[Event]]],
) -> None:
    """Live events, and the state that they make elsewhere, come to the same (catch-up equals live)."""
    kind, (one, other) = given_parts
    assert replica(kind, one + other) == join(replica(kind, one), replica(kind, other))


@given(worlds(), st.data())
def test_any_order_and_any_repeats_give_one_state(world: World, data: st.DataObject) -> None:
    """One history, shuffled and with repeats, gives the state of the side that decided it (I-2, I-23)."""
    repeats = data.draw(st.lists(st.sampled_from(world.history), max_size=8))
    shuffled = data.draw(st.permutations(world.history + repeats))
    assert replica(world.kind, shuffled).dump() == world.chat.dump()


@given(
    kinds().flatmap(lambda kind: st.tuples(st.just(kind), st.lists(any_events(kind), max_size=12))), st.data()
)
def test_any_order_of_any_events_gives_one_state(
    given_events: tuple[ConversationKind, list[Event]], data: st.DataObject
) -> None:
    """Order and repeats do not matter either for events that nobody would have decided."""
    kind, history = given_events
    repeats = data.draw(st.lists(st.sampled_from(history), max_size=4)) if history else []
    assert replica(kind, data.draw(st.permutations(history + repeats))) == replica(kind, history)


def _malformed(chat: str) -> list[Event]:
    odd: Any = (1,)
    back: Any = (3, 2)
    zero: Any = (0, 2)
    touching: Any = (1, 3, 3, 4)
    listed: list[Event] = [
        events.MessageAccepted(chat, 0, MessageId(2), "alice"),
        events.MessageAccepted(chat, -1, MessageId(2), "newcomer", asks=True),
        events.GroupReadMarked(chat, 0, "alice", 0, "", 1),
        events.MessageRecalled(conversation=chat, seq=0, by="alice"),
        events.MemberJoined(conversation=chat, member="newcomer", version=1, from_seq=0),
    ]
    for bad in (odd, back, zero, touching):
        listed += [
            events.DeliveryMarked(chat, "newcomer", "phone", bad, (1, 2)),
            events.DeliveryMarked(chat, "newcomer", "phone", (1, 2), bad),
            events.ReadMarked(chat, "newcomer", "phone", bad, (1, 2), (1, 2), 0, 1),
            events.ReadMarked(chat, "newcomer", "phone", (1, 2), bad, (1, 2), 0, 1),
            events.ReadMarked(chat, "newcomer", "phone", (1, 2), (1, 2), bad, 0, 1),
            events.UnreadMarked(conversation=chat, member="newcomer", version=1, flagged=True, ranges=bad),
        ]
    return listed


@pytest.mark.parametrize("event", _malformed(GROUP_ID), ids=repr)
def test_a_malformed_event_leaves_no_trace(event: Event) -> None:
    """An event with a seq below 1 or ranges that do not increase is refused, and nothing changed."""
    chat = Conversation.group(GROUP_ID, ["alice", "bob"])
    before = chat.dump()
    with pytest.raises(LocalProtocolError):
        chat.apply(event)
    assert chat.dump() == before


@given(worlds(), st.data())
def test_an_event_of_another_conversation_leaves_no_trace(world: World, data: st.DataObject) -> None:
    """An event about another conversation is refused, and nothing changed (I-11)."""
    other = ConversationKind.GROUP if world.kind is ConversationKind.DIRECT else ConversationKind.DIRECT
    event = data.draw(any_events(other))
    before = world.chat.dump()
    with pytest.raises(LocalProtocolError):
        world.chat.apply(event)
    with pytest.raises(LocalProtocolError):
        world.chat.merge(replica(other, [event]))
    assert world.chat.dump() == before


def test_what_belongs_elsewhere_is_refused_whole() -> None:
    """Neither an event nor the state of another conversation gets in, whichever kind the two are (I-11)."""
    pair, group = Conversation.between("alice", "bob"), Conversation.group(GROUP_ID, ["alice", "bob"])
    for chat, other in ((pair, group), (group, pair)):
        before = chat.dump()
        with pytest.raises(LocalProtocolError, match="does not belong"):
            chat.apply(events.MessageAccepted(other.id, 1, MessageId(2), "alice"))
        with pytest.raises(LocalProtocolError, match="cannot be joined"):
            chat.merge(other)
        with pytest.raises(LocalProtocolError, match="cannot be joined"):
            join(chat, other)
        assert chat.dump() == before


def test_two_halves_of_a_story_make_the_whole() -> None:
    """Of two answers the first one stands in a join too, and times of reading come along from either side."""
    chat = GROUP_ID
    asked: Event = events.MessageAccepted(chat, 1, MessageId(2), "alice", asks=True)
    first: Event = events.GroupReadMarked(chat, 1, "bob", 50, "at once", 7)
    later: Event = events.GroupReadMarked(chat, 1, "bob", 90, "again", 9)
    read: Event = events.ReadMarked(chat, "bob", "", (), (2, 3), EMPTY, 70, 8)
    whole = replica(ConversationKind.GROUP, [asked, first, read])
    for one, other in (
        ([asked, first], [later, read]),
        ([later, read], [asked, first]),
        ([first], [asked, read]),
    ):
        joined = join(replica(ConversationKind.GROUP, one), replica(ConversationKind.GROUP, other))
        assert joined.dump() == whole.dump()
        assert (joined.asked[1].readers["bob"].content, joined.read_at(1, "bob")) == ("at once", 50)
        assert joined.read_at(2, "bob") == 70


def test_every_event_type_can_be_applied() -> None:
    """The table of the machine has an entry for each type of the union, and for nothing else."""
    from receipts.core.conversation import _APPLY

    assert set(_APPLY) == set(EVENT_TYPES)


@given(st.permutations([Period(4), Period(0, 7), Period(4)]), st.integers(0, 9))
def test_a_period_that_ends_before_it_begins_to_be_known_covers_nothing_wrong(
    order: list[Period], seq: int
) -> None:
    """The end of a membership heard of before its beginning puts nobody in an audience on credit."""
    member = Member()
    for period in order:
        member.open_period(3, period)
        assert not member.in_audience(seq) or seq >= 4
    assert member.in_audience(seq) is (4 <= seq <= 7)
    assert member.period == member.periods[3] == Period(4, 7)


@given(st.lists(st.tuples(st.integers(0, 80), st.integers(0, 2)), max_size=120), st.data())
def test_the_newest_advances_are_kept_in_whatever_order_they_come(
    given_advances: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Keeping only the newest read times is a join: order and repeats do not matter."""
    advances = [Advance(version, at_ms, (1, 2)) for version, at_ms in given_advances]
    member, other = Member(), Member()
    for advance in data.draw(st.permutations(advances)):
        member.remember(advance)
    for advance in advances + advances:
        other.remember(advance)
    newest = sorted({(a.version, a.at_ms) for a in advances})[-ADVANCES_MAX:]
    assert [(a.version, a.at_ms) for a in member.advances] == newest
    assert member.advances == other.advances


# -- sets of seqs ------------------------------------------------------------------------------------------

seqs = st.sets(st.integers(1, 40), max_size=30)


@given(seqs)
def test_ranges_are_the_set(model: set[int]) -> None:
    """Ranges hold exactly the seqs they were made of, in as few ranges as there are runs."""
    found = ranges_of(model)
    check_ranges(found)
    known = RangeSet(found)
    assert list(seqs_of(found)) == list(known) == sorted(model)
    assert count(found) == known.count() == len(model)
    assert known.gaps == len([seq for seq in model if seq - 1 not in model])
    assert bool(known) is bool(model)
    assert all((seq in known) is (seq in model) for seq in range(-1, 45))
    assert known == known.copy()
    assert known.copy().ranges == found
    assert (known == model) is False


@given(seqs, seqs)
def test_range_arithmetic_is_set_arithmetic(one: set[int], other: set[int]) -> None:
    """Update, discard, missing and within are union, difference and intersection of sets."""
    known, more = RangeSet(ranges_of(one)), ranges_of(other)
    assert set(seqs_of(known.missing(more))) == other - one
    assert set(seqs_of(known.within(more))) == other & one
    for found in (known.missing(more), known.within(more)):
        check_ranges(found)
    union, rest = known.copy(), known.copy()
    union.update(more)
    rest.discard(more)
    assert union.ranges == ranges_of(one | other)
    assert rest.ranges == ranges_of(one - other)
    assert known.ranges == ranges_of(one)


@given(seqs, st.integers(1, 42), st.integers(1, 10), st.integers(0, 45))
def test_one_range_and_a_floor(model: set[int], start: int, length: int, floor: int) -> None:
    """Adding one range, and forgetting what lies below a floor, are the same on a set."""
    known = RangeSet(ranges_of(model))
    known.add(start, start + length)
    model |= set(range(start, start + length))
    assert known.ranges == ranges_of(model)
    known.drop_through(floor)
    assert known.ranges == ranges_of(seq for seq in model if seq > floor)


def test_huge_ranges_cost_no_more_than_small_ones() -> None:
    """A range is two numbers, however large they are."""
    known = RangeSet(through(10**18))
    known.discard((7, 10**17))
    assert known.gaps == 2
    assert known.count() == 10**18 - 10**17 + 7
    assert known.missing((1, 10**19)) == (7, 10**17, 10**18 + 1, 10**19)
    assert repr(RangeSet((1, 4, 9, 10))) == "{1-3, 9}"
    assert through(0) == through(-1) == EMPTY
