"""Small worlds, all of them: up to four steps of two people, every order of their events, every repeat."""

from __future__ import annotations

from itertools import permutations, product

import pytest

from receipts.core.conversation import Conversation
from receipts.core.events import Event
from receipts.core.explain import verify
from receipts.core.ids import ConversationKind, Counts
from receipts.core.ranges import seqs_of
from receipts.core.status import Status
from tests.core.worlds import DIRECT_ID, Step, World

ALPHABET: tuple[Step, ...] = (
    ("send", "alice", "phone", Counts.YES, False),
    ("send", "bob", "phone", Counts.YES, False),
    ("deliver", "bob", "phone", (1, 3), True),
    ("read", "bob", "phone", (1, 9), True, True),
    ("read", "bob", "tablet", (2, 3), True, False),
    ("read", "alice", "phone", (1, 9), False, True),
    ("recall", "alice", 1),
    ("mark", "bob", 1),
    ("share", "bob", None, False),
    ("share", "bob", None, True),
    ("clear", "bob", 1),
    ("expire", 1),
)

BOTH = ("alice", "bob")
Levels = dict[tuple[int, str], Status]


def _levels(chat: Conversation) -> Levels:
    return {(seq, user): chat.status(seq, user) for seq in range(1, 5) for user in BOTH}


def _check(world: World, before: Levels) -> Levels:
    """The invariants that every state of a deciding side has."""
    chat = world.chat
    for user in BOTH:
        start, stop = chat.visible(user)
        assert 0 <= chat.unread(user) <= stop - start
        assert all(world.authors[seq] != user for seq in seqs_of(chat.unread_ranges(user)))
    now = _levels(chat)
    assert all(now[pair] >= before[pair] for pair in now)
    assert verify(chat) == []
    return now


def _replay(history: list[Event], order: tuple[int, ...]) -> Conversation:
    chat = Conversation.named(DIRECT_ID)
    for index in order:
        chat.apply(history[index])
    return chat


@pytest.mark.parametrize("first", ALPHABET[:2], ids=["alice first", "bob first"])
def test_every_small_world_is_one_state_in_every_order(first: Step) -> None:
    """A message and up to three more steps: any order of the events, with repeats, is equal."""
    seen: set[tuple[Event, ...]] = set()
    for steps in product(ALPHABET, repeat=3):
        world = World(ConversationKind.DIRECT)
        levels = _levels(world.chat)
        for step in (first, *steps):
            world.step(step)
            levels = _check(world, levels)
        if tuple(world.history) in seen:
            continue
        seen.add(tuple(world.history))
        numbers = range(len(world.history))
        expected = world.chat.dump()
        for order in permutations(numbers):
            assert _replay(world.history, order).dump() == expected
        for again in numbers:
            orders = {(again, *reversed(numbers), again)}
            if len(numbers) <= 3:  # with four there are 240 for each world; one world has them all below
                orders |= set(permutations([*numbers, again]))
            assert all(_replay(world.history, order).dump() == expected for order in orders)
    assert len(seen) > 100


def test_every_repeat_in_every_place_is_harmless() -> None:
    """One history of four events, each of them repeated in each place of each order, is one state."""
    world = World(ConversationKind.DIRECT)
    world.run(
        [
            ("send", "alice", "phone", Counts.YES, False),
            ("deliver", "bob", "phone", (1, 2), True),
            ("read", "bob", "phone", (1, 2), True, True),
            ("recall", "alice", 1),
        ]
    )
    assert len(world.history) == 4
    expected = world.chat.dump()
    for again in range(4):
        for order in set(permutations([*range(4), again])):
            assert _replay(world.history, order).dump() == expected
