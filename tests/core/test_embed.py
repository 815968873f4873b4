"""Embedding the machine: what importing it brings along, and what its state costs."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from receipts.core import events
from receipts.core.conversation import Conversation
from receipts.core.ids import MessageId

FORBIDDEN = (
    "anyio",
    "asyncio",
    "logging",
    "msgpack",
    "secrets",
    "selectors",
    "socket",
    "ssl",
    "trio",
    "uuid",
    "websockets",
)


@pytest.mark.parametrize("module", ["conversation", "decide", "explain", "policy"])
def test_importing_the_machine_brings_no_machinery(module: str) -> None:
    """A fresh interpreter that imports the machine has loaded nothing async, no codec and no sockets."""
    script = f"import sys, receipts.core.{module}; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint(FORBIDDEN)
    assert not {name for name in done.stdout.split() if name.startswith("receipts.")} - {
        name for name in done.stdout.split() if name.startswith("receipts.core")
    }


MANY = 1_000_000

Author = Callable[[int], str]


def one_author(seq: int) -> str:
    """Alice alone writes."""
    return "alice"


def alternating(seq: int) -> str:
    """Alice and bob in turn."""
    return "alice" if seq % 2 else "bob"


def grown(conversation: Conversation, author_of: Author, messages: int) -> Conversation:
    """A conversation in which each message is delivered to and read by one other member as it comes.

    Everybody else reads in order too, as far as the last message, before the state is measured.
    """
    chat, name = conversation, conversation.id
    readers = sorted(chat.members)
    apply, accepted = chat.apply, events.MessageAccepted
    delivered, read = events.DeliveryMarked, events.ReadMarked
    for seq in range(1, messages + 1):
        author = author_of(seq)
        reader = readers[0] if author != readers[0] else readers[1]
        named = (seq, seq + 1)
        apply(accepted(name, seq, MessageId(2 * seq), author, "phone"))
        apply(delivered(name, reader, "phone", named, named))
        apply(read(name, reader, "phone", named, named, (), seq, seq))
    all_of_them = (1, messages + 1)
    for version, reader in enumerate(readers, messages + 1):
        apply(read(name, reader, "phone", all_of_them, all_of_them, all_of_them, version, version))
    return chat


def cells(dumped: Any) -> int:
    """How many entries a dump is made of, whatever they are."""
    if isinstance(dumped, dict):
        return sum(1 + cells(value) for value in dumped.values())
    return sum(1 + cells(value) for value in dumped) if isinstance(dumped, list) else 0


def without_read_times(chat: Conversation) -> dict[str, Any]:
    """The dump but for the last read times, of which there are up to 32 a member from 32 reads on."""
    dumped = chat.dump()
    for member in dumped["members"].values():
        assert len(member.pop("advances")) <= 32
    return dumped


@pytest.mark.parametrize("author_of", [one_author, alternating])
def test_a_million_messages_cost_what_ten_cost(author_of: Author) -> None:
    """Read in order, the state of two after 1,000,000 messages has as many entries as after 10."""
    few = grown(Conversation.between("alice", "bob"), author_of, 10)
    many = grown(Conversation.between("alice", "bob"), author_of, MANY)
    assert cells(without_read_times(few)) == cells(without_read_times(many))
    assert many.head == MANY
    assert many.unread("alice") == many.unread("bob") == 0


def test_a_group_of_200_costs_its_members_not_its_messages() -> None:
    """With 200 authors at random who read in order, the state grows with the members alone."""
    chance = random.Random(200)
    users = [f"user{number}" for number in range(200)]
    every_one_once = users * 2
    picks = [*every_one_once, *chance.choices(users, k=MANY // 20)]
    few, many = (
        grown(Conversation.group("G", users), lambda seq: picks[seq - 1], messages)
        for messages in (len(every_one_once), len(picks))
    )
    assert cells(without_read_times(few)) == cells(without_read_times(many))
    assert {many.unread(user) for user in users} == {0}
