"""Hypothesis draws the deeds: your application against the oracle as a rule-based state machine.

Needs `hypothesis`, which `pip install 'message-receipts[testing]'` brings. Write the adapter that is
described in `application`, and mount it:

    class OursAgainstTheOracle(ReceiptsMachine):
        make = Ours

    TestOurs = OursAgainstTheOracle.TestCase

Hypothesis finds a short story for what goes wrong, and remembers it for the next run. You may add rules and
invariants of your own: `self.exam.application` is the adapter, `self.exam.do` tells both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from receipts.core.ids import ConversationId, DeviceId, Seq, UserId

from .application import DEVICES, GROUP, USERS, Application, Deed, Exam, conversations_of

__all__ = ["ReceiptsMachine"]

_BACK_MAX = 6
"""How far behind the head things are done: far enough to skip messages, near enough to meet."""

_where = st.integers(0, 11)
"""Which of the places in which something can be done now; modulo their number."""

_devices = st.sampled_from(DEVICES)
_members = st.sampled_from(USERS[1:])
_back = st.integers(0, _BACK_MAX)
_some = st.integers(1, 2**_BACK_MAX - 1)
"""Which of a few messages: a bit each."""

_switch = st.sampled_from((None, True, False))
_places: st.SearchStrategy[tuple[UserId, ConversationId]] = st.sampled_from(
    [(user, chat) for user in USERS for chat in conversations_of(user)]
)


def _offered(name: str) -> Callable[[ReceiptsMachine], bool]:
    def offered(machine: ReceiptsMachine) -> bool:
        return machine.exam.offers(name) and bool(machine.exam.deeds)

    return offered


class ReceiptsMachine(RuleBasedStateMachine):
    """What users do in a small chat, drawn by Hypothesis, done by your application and told to the oracle.

    After every rule all answers are compared; a difference is a `Violation` with the id of what does not
    hold. Rules for methods that the adapter leaves out are not run.
    """

    make: ClassVar[Callable[[], Application]]
    """Gives a fresh application; set it in your subclass (a class, or a `staticmethod`)."""

    exam: Exam

    @initialize(places=st.lists(_places, min_size=1, max_size=4))
    def begin(self, places: list[tuple[UserId, ConversationId]]) -> None:
        self.exam = Exam(type(self).make())
        for user, chat in places:  # without a message there is nothing to be done
            self.exam.do(Deed("send", (user, DEVICES[0], chat, False)))

    def teardown(self) -> None:
        if hasattr(self, "exam"):  # an application that cannot begin has none
            self.exam.application.end()

    def _place(self, where: int) -> tuple[UserId, ConversationId]:
        """Somebody, and a conversation of theirs with something in it."""
        exam = self.exam
        places = [(user, chat) for user in USERS for chat in conversations_of(user) if exam.head(chat)]
        return places[where % len(places)]

    def _seq(self, chat: ConversationId, back: int) -> Seq:
        return max(1, self.exam.head(chat) - back)

    def _others(self, user: UserId, chat: ConversationId, back: int) -> list[Seq]:
        """Messages of others near the head."""
        talk = self.exam.talk(chat)
        facts = talk.facts[self._seq(chat, back) - 1 :] if talk is not None else []
        return [fact.seq for fact in facts if fact.author != user]

    @rule(place=_places, device=_devices, asks=st.booleans())
    def send(self, place: tuple[UserId, ConversationId], device: DeviceId, asks: bool) -> None:
        user, chat = place
        self.exam.do(Deed("send", (user, device, chat, asks and chat == GROUP)))

    @rule(where=_where, device=_devices, back=_back)
    def read(self, where: int, device: DeviceId, back: int) -> None:
        user, chat = self._place(where)
        self.exam.do(Deed("read", (user, device, chat, self._seq(chat, back))))

    @precondition(_offered("read_messages"))
    @rule(where=_where, device=_devices, back=_back, some=_some, words=st.booleans())
    def read_messages(self, where: int, device: DeviceId, back: int, some: int, words: bool) -> None:
        user, chat = self._place(where)
        seqs = [seq for at, seq in enumerate(self._others(user, chat, back)) if some >> at & 1]
        talk = self.exam.talk(chat)
        asked = talk is not None and bool(seqs) and all(talk.asks >> seq & 1 for seq in seqs)
        content = "ok" if words and asked else None
        self.exam.do(Deed("read_messages", (user, device, chat, tuple(seqs), content)))

    @precondition(_offered("deliver"))
    @rule(where=_where, device=_devices, back=_back)
    def deliver(self, where: int, device: DeviceId, back: int) -> None:
        user, chat = self._place(where)
        self.exam.do(Deed("deliver", (user, device, chat, tuple(self._others(user, chat, back)))))

    @precondition(_offered("mark_unread"))
    @rule(where=_where, device=_devices, back=st.none() | _back)
    def mark_unread(self, where: int, device: DeviceId, back: int | None) -> None:
        user, chat = self._place(where)
        seq = None if back is None else self._seq(chat, back)
        self.exam.do(Deed("mark_unread", (user, device, chat, seq)))

    @precondition(_offered("recall"))
    @rule(where=_where, device=_devices, back=_back)
    def recall(self, where: int, device: DeviceId, back: int) -> None:
        _, chat = self._place(where)
        talk, seq = self.exam.talk(chat), self._seq(chat, back)
        assert talk is not None
        self.exam.do(Deed("recall", (talk.facts[seq - 1].author, device, chat, seq)))

    @precondition(_offered("clear"))
    @rule(where=_where, device=_devices, back=_back)
    def clear(self, where: int, device: DeviceId, back: int) -> None:
        user, chat = self._place(where)
        self.exam.do(Deed("clear", (user, device, chat, self._seq(chat, back))))

    @precondition(_offered("share"))
    @rule(user=st.sampled_from(USERS), device=_devices, delivered=_switch, read=_switch)
    def share(self, user: UserId, device: DeviceId, delivered: bool | None, read: bool | None) -> None:
        self.exam.do(Deed("share", (user, device, delivered, read)))

    @precondition(_offered("join"))
    @rule(user=_members)
    def join(self, user: UserId) -> None:
        self.exam.do(Deed("join", (GROUP, user)))

    @precondition(_offered("leave"))
    @rule(user=_members)
    def leave(self, user: UserId) -> None:
        self.exam.do(Deed("leave", (GROUP, user)))

    @precondition(_offered("restart"))
    @rule()
    def restart(self) -> None:
        self.exam.do(Deed("restart"))
