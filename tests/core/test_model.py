"""The machine against a brute-force model that keeps every fact and recounts.

The model shares nothing with the machine but ids and enums: facts are (seq, user, level) in a set, answers
are found by looking at each message in turn. It is slow and plain on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from receipts.core.conversation import join
from receipts.core.errors import Refused
from receipts.core.events import DeliveryMarked, Event, ReadMarked
from receipts.core.explain import explain, verify
from receipts.core.ids import ConversationKind, Counts
from receipts.core.policy import RollUp
from receipts.core.status import Status, Unknown
from tests.core.worlds import Step, World, empty, people, steps

NOTHING: frozenset[int] = frozenset()


def seqs(ranges: tuple[int, ...]) -> set[int]:
    """The seqs in flat half-open ranges."""
    return {seq for start, stop in zip(ranges[::2], ranges[1::2], strict=True) for seq in range(start, stop)}


class Model:
    """What happened, fact by fact."""

    def __init__(self, kind: ConversationKind, rule: RollUp, members: Iterable[str]) -> None:
        self.group = kind is ConversationKind.GROUP
        self.rule = rule
        self.authors: dict[int, str] = {}
        self.uncounted: set[int] = set()
        self.asking: set[int] = set()
        self.recalled: set[int] = set()
        self.facts: set[tuple[int, str, str]] = set()
        self.answers: dict[tuple[int, str], str] = {}
        self.stays: dict[str, list[list[int | None]]] = {user: [[1, None]] for user in members}
        self.cleared: dict[str, int] = {}
        self.expired = 0
        self.answers_expired = 0
        self.switches: dict[str, dict[str, bool]] = {}
        self.lines: dict[tuple[str, str], int] = {}
        self.flags: set[str] = set()
        self.again: set[tuple[int, str]] = set()
        self.devices: dict[str, dict[str, int]] = {}

    @property
    def head(self) -> int:
        return max(self.authors, default=0)

    # -- what is asked ------------------------------------------------------------------------------------

    def present(self, user: str) -> bool:
        return any(last is None for _, last in self.stays.get(user, []))

    def in_audience(self, seq: int, user: str) -> bool:
        return any(
            first is not None and first <= seq and (last is None or seq <= last)
            for first, last in self.stays.get(user, [])
        )

    def can_see(self, seq: int, user: str) -> bool:
        since = [first for first, last in self.stays.get(user, []) if last is None]
        return bool(since) and seq >= (since[0] or 0) and seq > max(self.cleared.get(user, 0), self.expired)

    def unread(self, user: str) -> list[int]:
        return [
            seq
            for seq, author in sorted(self.authors.items())
            if author != user
            and self.can_see(seq, user)
            and seq not in self.recalled | self.uncounted
            and ((seq, user, "read") not in self.facts or (seq, user) in self.again)
        ]

    def marked(self, user: str) -> bool:
        return user in self.flags or any(who == user and self.can_see(seq, user) for seq, who in self.again)

    def answered(self, seq: int, user: str) -> bool:
        return seq > self.answers_expired and (seq, user) in self.answers

    def status(self, seq: int, user: str) -> Status:
        if (seq, user, "read told") in self.facts or self.answered(seq, user):
            return Status.READ
        if (seq, user, "delivered told") in self.facts:
            return Status.DELIVERED
        return Status.ACKED if seq in self.authors else Status.SENT

    def gone(self, seq: int) -> Unknown | None:
        if seq < 1:
            return Unknown.NOT_IN_AUDIENCE
        if seq <= self.expired:
            return Unknown.EXPIRED
        return Unknown.RECALLED if seq in self.recalled else None

    def hidden(self, seq: int, user: str, what: str) -> bool:
        return not self.shares(user, what) or seq <= self.lines.get((user, what), 0)

    def is_delivered(self, seq: int, user: str) -> bool | Unknown:
        if (gone := self.gone(seq)) is not None:
            return gone
        if self.status(seq, user) >= Status.DELIVERED:
            return True
        if not self.in_audience(seq, user):
            return Unknown.NOT_IN_AUDIENCE
        return Unknown.SHARING_OFF if self.hidden(seq, user, "delivered") else False

    def is_read(self, seq: int, user: str) -> bool | Unknown:
        if (gone := self.gone(seq)) is not None:
            return gone
        if self.group and seq <= self.answers_expired:
            return Unknown.EXPIRED
        if self.group and seq not in self.asking:
            return Unknown.NOT_ASKED
        if self.status(seq, user) is Status.READ:
            return True
        own = seq in self.asking and self.authors[seq] == user
        if not self.in_audience(seq, user) or own:
            return Unknown.NOT_IN_AUDIENCE
        return Unknown.SHARING_OFF if self.hidden(seq, user, "read") else False

    def audience(self, seq: int, author: str) -> tuple[str, ...]:
        return tuple(user for user in sorted(self.stays) if user != author and self.in_audience(seq, user))

    def readers(self, seq: int) -> list[str]:
        return sorted(user for asked, user in self.answers if asked == seq and self.answered(seq, user))

    def shares(self, user: str, what: str) -> bool:
        return self.switches.get(user, {}).get(what, True)

    # -- what happens: each returns what others are told, or why it is refused ------------------------------

    def take(self, step: Step) -> set[int] | str | None:
        what, *rest = step
        outcome: set[int] | str | None = getattr(self, f"_{what}")(*rest)
        return outcome

    def _send(self, user: str, device: str, counts: Counts, asks: bool) -> str | None:
        self._know(user, device)
        if not self.present(user):
            return "not_a_member"
        seq = self.head + 1
        self.authors[seq] = user
        self.facts |= {(seq, user, "read"), (seq, user, "on " + device)}
        if self.shares(user, "delivered"):
            self.facts.add((seq, user, "delivered told"))
        if self.shares(user, "read") and not self.group:
            self.facts.add((seq, user, "read told"))
        if counts is not Counts.YES:
            self.uncounted.add(seq)
        if asks and self.group:
            self.asking.add(seq)
        return None

    def _told(self, found: set[int], user: str, what: str) -> set[int]:
        new = {seq for seq in found if (seq, user, what + " told") not in self.facts}
        new = {seq for seq in new if not self.hidden(seq, user, what)}
        return new if any(self.gone(seq) is None for seq in new) else set()

    def _deliver(self, user: str, device: str, named: tuple[int, ...], sharing: bool) -> set[int] | str:
        self._know(user, device)
        if not self.present(user):
            return "not_a_member"
        found = {seq for seq in seqs(named) if seq in self.authors}
        self.facts |= {(seq, user, "on " + device) for seq in found}
        due = {seq for seq in found if self.rule is RollUp.ANY or self._everywhere(seq, user)}
        told = self._told(due, user, "delivered") if sharing else set()
        self.facts |= {(seq, user, "delivered told") for seq in told}
        return told

    def _everywhere(self, seq: int, user: str) -> bool:
        known = self.devices[user]
        return all((seq, user, "on " + device) in self.facts for device in known if known[device] < seq)

    def _read(
        self, user: str, device: str, named: tuple[int, ...], sharing: bool, knows: bool
    ) -> set[int] | str:
        self._know(user, device)
        if not self.present(user):
            return "not_a_member"
        found = {seq for seq in seqs(named) if seq in self.authors}
        told = self._told(found, user, "read") if sharing and not self.group else set()
        self.facts |= {(seq, user, "read") for seq in found}
        self.facts |= {(seq, user, level) for seq in told for level in ("read told", "delivered told")}
        if sharing:
            self.facts |= {(seq, user, "on " + device) for seq in found if not self.hidden(seq, user, "read")}
        if knows:
            self.flags.discard(user)
            self.again -= {(seq, user) for seq in seqs(named)}
        return told

    def _answer(self, user: str, seq: int, content: str, sharing: bool) -> set[int] | str:
        if seq <= self.answers_expired:
            return "expired"
        if seq not in self.asking:
            return "not_asked"
        if (seq, user) in self.answers:
            return set()
        if self.authors[seq] == user:
            return "own_message"
        if not self.present(user):
            return "not_a_member"
        if not self.in_audience(seq, user):
            return "not_in_audience"
        if sharing and not self.hidden(seq, user, "read") and seq not in self.recalled:
            self.answers[seq, user] = content
            return {seq}
        return set()

    def _mark(self, user: str, from_seq: int | None) -> str | None:
        if not self.present(user):
            return "not_a_member"
        if from_seq is None:
            self.flags.add(user)
        else:
            if from_seq not in self.authors or not self.can_see(from_seq, user):
                return "unknown_message"
            others = {seq for seq in self.authors if seq >= from_seq and self.authors[seq] != user}
            self.again |= {(seq, user) for seq in others}
            (self.flags.discard if others else self.flags.add)(user)
        # What is behind the floor when marking again is let go of.
        self.again -= {(seq, who) for seq, who in self.again if who == user and not self.can_see(seq, user)}
        return None

    def _recall(self, user: str, seq: int) -> str | None:
        if seq not in self.authors:
            return "unknown_message"
        if seq <= self.expired:
            return "expired"
        self.recalled.add(seq)
        return None

    def _clear(self, user: str, last: int) -> None:
        if user in self.stays:
            self.cleared[user] = max(self.cleared.get(user, 0), min(last, self.head))

    def _join(self, user: str) -> None:
        if not self.present(user):
            self.stays.setdefault(user, []).append([self.head + 1, None])

    def _leave(self, user: str) -> None:
        for stay in self.stays.get(user, []):
            if stay[1] is None:
                stay[1] = self.head

    def _share(self, user: str, delivered: bool | None, read: bool | None) -> None:
        for what, wanted in (("delivered", delivered), ("read", read)):
            if wanted and not self.shares(user, what):
                self.lines[user, what] = self.head
            if wanted is not None:
                self.switches.setdefault(user, {})[what] = wanted

    def _expire(self, last: int) -> None:
        self.expired = max(self.expired, min(last, self.head))
        self._expire_receipts(self.expired)

    def _expire_receipts(self, last: int) -> None:
        self.answers_expired = max(self.answers_expired, min(last, self.head))

    def _name(self, name: str) -> None:
        pass

    def _role(self, user: str, role: Any) -> None:
        pass

    def _know(self, user: str, device: str) -> None:
        self.devices.setdefault(user, {}).setdefault(device, self.head)


class MachineAgainstModel(RuleBasedStateMachine):
    """One deciding side, one replica that hears late, twice and out of order, and the model."""

    world: World

    @initialize(kind=st.sampled_from(list(ConversationKind)), rule=st.sampled_from(list(RollUp)))
    def begin(self, kind: ConversationKind, rule: RollUp) -> None:
        self.world = World(kind, rule)
        self.model = Model(kind, rule, people(kind)[:3])
        self.replica = empty(kind)
        self.unheard: list[Event] = list(self.world.history)
        self.statuses: dict[tuple[int, str], Status] = {}

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        """Somebody does something; what others are told, or the refusal, is the same in both."""
        step = data.draw(steps(self.world.kind))
        before = len(self.world.history)
        outcome = self.world.step(step)
        self.unheard += self.world.history[before:]
        expected = self.model.take(step)
        if isinstance(outcome, Refused):
            assert outcome.code.value == expected
            return
        assert not isinstance(expected, str)
        if step[0] in ("read", "deliver"):
            marks = [event for event in outcome if isinstance(event, (ReadMarked, DeliveryMarked))]
            assert seqs(marks[0].shared if marks else ()) == expected
        if step[0] == "answer":
            assert bool(outcome) is bool(expected)

    @precondition(lambda self: self.unheard)
    @rule(data=st.data())
    def replica_hears(self, data: st.DataObject) -> None:
        """The replica gets some events, in any order; some of them stay on the way to come again."""
        order = data.draw(st.permutations(range(len(self.unheard))))
        heard = order[: data.draw(st.integers(1, len(order)))]
        for index in heard:
            self.replica.apply(self.unheard[index])
        again = set(heard[: data.draw(st.integers(0, len(heard)))])
        self.unheard = [e for i, e in enumerate(self.unheard) if i in again or i not in heard]

    @rule()
    def replica_catches_up(self) -> None:
        """Joining the whole state is as good as all events, and never lowers what the replica knows."""
        caught_up = join(self.replica, self.world.chat)
        assert caught_up.dump() == self.world.chat.dump()

    @invariant()
    def counts_agree(self) -> None:
        """Unread, and each seq behind it, is what the model counts."""
        chat, model = self.world.chat, self.model
        assert chat.head == model.head
        for user in people(self.world.kind):
            unread = model.unread(user)
            assert chat.unread(user) == len(unread)
            assert list(explain(chat, user).seqs) == unread
            assert chat.marked_unread(user) is model.marked(user)

    @invariant()
    def answers_agree(self) -> None:
        """What others may know of every (message, user) is what the model says."""
        chat, model = self.world.chat, self.model
        for seq in range(model.head + 2):
            for user in people(self.world.kind):
                assert chat.status(seq, user) is model.status(seq, user), (seq, user)
                assert chat.is_delivered(seq, user) is model.is_delivered(seq, user), (seq, user)
                assert chat.is_read(seq, user) is model.is_read(seq, user), (seq, user)

    @invariant()
    def audiences_agree(self) -> None:
        """Who a message was for, and who answered, is what the model says."""
        chat, model = self.world.chat, self.model
        for seq, author in model.authors.items():
            assert chat.audience(seq, author) == model.audience(seq, author)
            asked = chat.asked.get(seq)
            assert (asked is not None) is (seq in model.asking and seq > model.answers_expired)
            if asked is not None:
                assert sorted(asked.readers) == model.readers(seq)
                assert chat.audience(seq) == model.audience(seq, author)

    @invariant()
    def nothing_is_wrong(self) -> None:
        """A side that decides never comes into a state that `verify` doubts."""
        assert verify(self.world.chat) == []

    def teardown(self) -> None:
        """When everything has arrived, the replica is equal."""
        if not hasattr(self, "world"):
            return
        for event in reversed(self.unheard):
            self.replica.apply(event)
        assert self.replica.dump() == self.world.chat.dump()
        for user in people(self.world.kind):
            assert self.replica.unread(user) == len(self.model.unread(user))


TestMachineAgainstModel = MachineAgainstModel.TestCase
TestMachineAgainstModel.__doc__ = "The machine and the model agree after every step, whatever the steps are."
TestMachineAgainstModel.settings = settings(
    max_examples=4 * settings().max_examples,  # the cheapest test a step, and the one that finds most
    stateful_step_count=40,
)
