"""What the strategies draw: histories that are true, worlds that can be played, everything well-formed."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from receipts.core.conversation import Conversation
from receipts.core.events import Event, MessageAccepted
from receipts.core.explain import explain, verify
from receipts.core.ids import ConversationKind
from receipts.core.ranges import Ranges, check_ranges, seqs_of
from receipts.simulation.cast import Cast
from receipts.simulation.generator import NONE, PROFILES, Faults
from receipts.simulation.run import replay
from receipts.simulation.steps import parse, text_of
from receipts.simulation.strategies import (
    casts,
    fault_profiles,
    histories,
    kinds,
    loose_events,
    ranges,
    seeds,
    step_lists,
    traces,
)
from receipts.simulation.trace import Trace, read_trace


@given(ranges(), ranges(5, empty=False))
def test_ranges_are_well_formed(some: Ranges, few: Ranges) -> None:
    """Bounds rise, seqs stay within the highest, and the empty set comes only where it is allowed."""
    check_ranges(some)
    check_ranges(few)
    assert few
    assert max(seqs_of(few)) <= 5


@given(histories(), st.data())
def test_a_history_is_true_and_may_come_in_any_order(history: list[Event], data: st.DataObject) -> None:
    """Applied in order a history gives a state without findings; shuffled and doubled it gives the same."""
    chat = played(history)
    assert verify(chat) == []
    assert chat.head >= 1
    assert played(data.draw(st.permutations(history + history))).dump() == chat.dump()
    for user in chat.members:
        assert chat.unread(user) == len(explain(chat, user).seqs)


def played(history: list[Event]) -> Conversation:
    """The conversation that a history tells of."""
    chat = Conversation.named(history[0].conversation)
    for event in history:
        chat.apply(event)
    return chat


@given(st.data(), kinds())
def test_a_history_is_of_the_kind_that_was_asked_for(data: st.DataObject, kind: ConversationKind) -> None:
    """One-to-one or a group, as wished."""
    assert played(data.draw(histories(kind))).kind is kind


def test_histories_shrink_to_one_message() -> None:
    """The smallest history is one message that nobody touched."""
    found = find(histories(ConversationKind.DIRECT), lambda _: True)
    assert [type(event) for event in found] == [MessageAccepted]


@given(st.data(), kinds())
def test_loose_events_are_taken_by_any_replica(data: st.DataObject, kind: ConversationKind) -> None:
    """Whatever a replica is given of a conversation, in whatever order, it takes, and its marks only grow."""
    some = data.draw(st.lists(loose_events(kind), min_size=1, max_size=10))
    assert played(some).dump() == played(some[::-1]).dump()


@given(fault_profiles(), seeds())
def test_profiles_are_the_ones_with_a_name(faults: Faults, seed: int) -> None:
    """What is drawn is what the command line knows by name; seeds are whole numbers."""
    assert faults in PROFILES.values()
    assert seed >= 0


def test_the_first_profile_has_no_faults() -> None:
    """A failure shrinks to a world in which nothing goes wrong, if it fails there."""
    assert find(fault_profiles(), lambda _: True) == NONE


@given(casts(users_max=4, devices_max=3, groups_max=2))
def test_casts_survive_their_text(cast: Cast) -> None:
    """A cast has two users at least, a device for each, no label twice, and its JSON is read back."""
    assert Cast.from_json(cast.to_json()) == cast
    labels = [cast.label(device) for device in cast.devices]
    assert len(labels) == len(set(labels))
    assert {device.user for device in cast.devices} == {user.user for user in cast.users}
    assert len(cast.users) >= 2


@given(st.data())
def test_steps_survive_their_text(data: st.DataObject) -> None:
    """Every step that is drawn is a line that is read back."""
    steps = data.draw(step_lists(data.draw(casts())))
    assert [parse(text_of(step)) for step in steps] == steps


@pytest.mark.timeout(300)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(traces(steps_max=40))
def test_nothing_breaks(trace: Trace) -> None:
    """Whatever users and faults Hypothesis comes up with, everything that must hold does."""
    violation = replay(trace.cast, trace.steps).violation
    assert violation is None, f"{violation}\n{violation.details}\n{trace.text()}"
    assert read_trace(trace.text()) == trace


def test_traces_get_somewhere() -> None:
    """Among what is drawn are worlds in which people send, read, and are told of it."""
    reached = 0

    # The same traces every time: how many of a few get somewhere is a matter of luck.
    @settings(
        max_examples=80, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(traces(faults=False))
    def play(trace: Trace) -> None:
        nonlocal reached
        if reached >= 5:
            return
        counts = replay(trace.cast, trace.steps, heal=False, check_every=1000).counts
        reached += {"send", "read"} <= set(counts) and counts["frame down"] > 10

    play()
    assert reached >= 5
