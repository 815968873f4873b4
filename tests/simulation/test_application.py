"""An application against the oracle: a right one passes, each wrong one is found by its invariant."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from receipts.core.ids import ConversationId, DeviceId, Seq, UserId
from receipts.core.status import Status
from receipts.simulation.application import GROUP, USERS, Application, Deed, Exam, examine
from receipts.simulation.machine import ReceiptsMachine
from receipts.simulation.violation import Violation
from tests.simulation.embedded import Embedded


@pytest.mark.parametrize("seed", range(4))
def test_the_machine_passes(seed: int) -> None:
    """The core, embedded, gives the oracle's answers after every one of hundreds of deeds."""
    assert examine(Embedded, seed, steps=200) > 100


class EmbeddedMachine(ReceiptsMachine):
    make = Embedded


TestEmbedded = EmbeddedMachine.TestCase
TestEmbedded.__doc__ = "The core, embedded, agrees with the oracle whatever Hypothesis comes up with."
TestEmbedded.settings = settings(max_examples=20, stateful_step_count=30)


class OwnCounts(Embedded):
    """Counts own messages."""

    def unread_seqs(self, user: UserId, device: DeviceId, conversation: ConversationId) -> Collection[Seq]:
        chat = self.chat(conversation)
        own = [
            seq for (where, seq), author in self.authors.items() if (where, author) == (conversation, user)
        ]
        return {*super().unread_seqs(user, device, conversation), *own[:1]} if chat.unread(user) else own[:1]


class RecalledCounts(Embedded):
    """Forgets that a message was recalled."""

    def recall(self, user: UserId, device: DeviceId, conversation: ConversationId, seq: Seq) -> None:
        """Does nothing."""


class Negative(Embedded):
    """Lets a recall take from the count whatever was counted."""

    recalled = 0

    def recall(self, user: UserId, device: DeviceId, conversation: ConversationId, seq: Seq) -> None:
        super().recall(user, device, conversation, seq)
        self.recalled += 1

    def unread(self, user: UserId, device: DeviceId, conversation: ConversationId) -> int:
        return super().unread(user, device, conversation) - 100 * self.recalled


class OldCounts(Embedded):
    """Who comes back finds everything unread that was sent in between."""

    def leave(self, conversation: ConversationId, user: UserId) -> None:
        """Does nothing."""


class Leaks(Embedded):
    """Tells of reads although sharing is off."""

    def share(self, user: UserId, device: DeviceId, delivered: bool | None, read: bool | None) -> None:
        """Does nothing."""


class LosesReads(Embedded):
    """Shows what was read as delivered."""

    def status(
        self, user: UserId, device: DeviceId, conversation: ConversationId, seq: Seq, member: UserId
    ) -> Status:
        return min(super().status(user, device, conversation, seq, member), Status.DELIVERED)


class LastAnswer(Embedded):
    """Keeps no readers over a restart."""

    def restart(self) -> None:
        super().restart()
        for asked in self.chat(GROUP).asked.values():
            asked.readers.clear()


class Gaps(Embedded):
    """Numbers messages over all conversations."""

    def send(self, user: UserId, device: DeviceId, conversation: ConversationId, asks: bool) -> Seq:
        super().send(user, device, conversation, asks)
        return len(self.authors)


class Device(Embedded):
    """Devices of one user do not know of each other."""

    def marked_unread(self, user: UserId, device: DeviceId, conversation: ConversationId) -> bool:
        return device == "phone" and super().marked_unread(user, device, conversation)


WRONG: list[tuple[type[Embedded], str, str]] = [
    (OwnCounts, "I-1", "send"),
    (RecalledCounts, "I-9", "recall"),
    (Negative, "I-5", "recall"),
    (OldCounts, "I-18", "leave"),
    (Leaks, "I-25", "share"),
    (LosesReads, "I-3", "read"),
    (LastAnswer, "I-19", "restart"),
    (Gaps, "I-8", "send"),
    (Device, "I-16", "mark_unread"),
]


def broken(make: type[Embedded], seed: int) -> Violation | None:
    """What a seed finds."""
    try:
        examine(make, seed, steps=150)
    except Violation as violation:
        return violation
    return None


@pytest.mark.parametrize(("make", "invariant", "deed"), WRONG, ids=[make.__name__ for make, _, _ in WRONG])
def test_a_wrong_application_is_found(make: type[Embedded], invariant: str, deed: str) -> None:
    """Each bug is found with the id of what it breaks, by a short story that has the deed to blame."""
    found = next(filter(None, (broken(make, seed) for seed in range(20))))
    assert found.invariant == invariant, found.details
    story = found.details.partition("after\n")[2].splitlines()
    assert 1 <= len(story) <= 6, story
    assert any(line.strip().startswith(f"{deed}(") for line in story), story


def test_hypothesis_finds_it_too() -> None:
    """The state machine shrinks a failure to the deeds that matter."""

    class Machine(ReceiptsMachine):
        make: ClassVar = RecalledCounts

    with pytest.raises(Violation) as caught:
        run_state_machine_as_test(Machine, settings=settings(stateful_step_count=12, database=None))
    assert caught.value.invariant == "I-9"
    assert len(caught.value.details.partition("after\n")[2].splitlines()) <= 3


class Small(Application):
    """The least that an application has to offer: and it is wrong, for it knows no devices."""

    log: ClassVar[list[str]] = []

    def __init__(self) -> None:
        self.counts: dict[tuple[UserId, ConversationId], int] = {}
        self.heads: dict[ConversationId, int] = {}

    def send(self, user: UserId, device: DeviceId, conversation: ConversationId, asks: bool) -> Seq:
        self.heads[conversation] = self.heads.get(conversation, 0) + 1
        for other in USERS if conversation == GROUP else conversation.split("~"):
            if other != user:
                self.counts[other, conversation] = self.counts.get((other, conversation), 0) + 1
        return self.heads[conversation]

    def read(self, user: UserId, device: DeviceId, conversation: ConversationId, through: Seq) -> None:
        self.counts[user, conversation] = 0

    def unread(self, user: UserId, device: DeviceId, conversation: ConversationId) -> int:
        return self.counts.get((user, conversation), 0)

    def settle(self) -> None:
        self.log.append("settle")

    def end(self) -> None:
        self.log.append("end")


def test_a_counter_is_not_enough() -> None:
    """The plain counter that most begin with is wrong as soon as somebody reads less than all of it."""
    with pytest.raises(Violation, match="unread count") as caught:
        examine(Small, 1)
    assert caught.value.invariant == "I-14"
    assert caught.value.details.count("send(") == 2
    assert caught.value.details.count("read(") == 1
    assert Small.log[-1] == "end"
    assert "settle" in Small.log


def test_what_is_left_out_is_not_tried() -> None:
    """An adapter with three methods gets no other deed, and is asked no other question."""
    exam = Exam(Small())
    assert not exam.do(Deed("recall", ("alice", "phone", "alice~bob", 1)))
    assert not exam.do(Deed("restart"))
    assert exam.do(Deed("send", ("alice", "phone", "alice~bob", False)))
    assert [str(deed) for deed in exam.deeds] == ["send('alice', 'phone', 'alice~bob', False)"]


@pytest.mark.parametrize(
    "deed",
    [
        Deed("read", ("alice", "phone", "alice~bob", 1)),
        Deed("send", ("alice", "phone", "alice~bob", True)),
        Deed("recall", ("bob", "phone", "alice~cara", 1)),
        Deed("recall", ("alice", "phone", "alice~cara", 2)),
        Deed("read_messages", ("alice", "phone", "alice~cara", (1,), None)),
        Deed("deliver", ("cara", "phone", "alice~cara", ())),
        Deed("mark_unread", ("alice", "phone", "alice~bob", None)),
        Deed("clear", ("cara", "phone", "alice~cara", 2)),
        Deed("join", (GROUP, "bob")),
        Deed("join", ("alice~bob", "bob")),
        Deed("leave", (GROUP, "alice")),
        Deed("read_messages", ("bob", "phone", GROUP, (1,), "ok")),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_passed_over(deed: Deed) -> None:
    """Neither side hears of what cannot be done now."""
    exam = Exam(Embedded())
    assert exam.do(Deed("send", ("alice", "phone", "alice~cara", False)))
    assert exam.do(Deed("send", ("alice", "phone", GROUP, False)))
    assert not exam.do(deed)
    assert len(exam.deeds) == 2


def test_who_left_writes_nothing() -> None:
    """A member who is out can neither write nor read."""
    exam = Exam(Embedded())
    assert exam.do(Deed("leave", (GROUP, "bob")))
    assert not exam.do(Deed("send", ("bob", "phone", GROUP, False)))
    assert not exam.do(Deed("mark_unread", ("bob", "phone", GROUP, None)))
    assert exam.do(Deed("join", (GROUP, "bob")))
    assert exam.do(Deed("send", ("bob", "phone", GROUP, True)))
    assert exam.do(Deed("send", ("bob", "phone", GROUP, False)))
