"""Histories for the tests of the core: steps, who takes them, and events of every kind at random.

A `World` is one deciding side: it turns steps into events by `receipts.core.decide`, applies them and keeps
them. Nothing is asserted here.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, TypeAlias

from hypothesis import strategies as st

from receipts.core import decide, events
from receipts.core.conversation import Conversation
from receipts.core.errors import Refused
from receipts.core.events import Event, Register, Role
from receipts.core.ids import ConversationKind, Counts, MessageId, Shares
from receipts.core.policy import RollUp
from receipts.core.ranges import Ranges, ranges_of, through

__all__ = [
    "DIRECT_ID",
    "GROUP_ID",
    "USERS",
    "Step",
    "World",
    "any_events",
    "kinds",
    "ranges",
    "replica",
    "steps",
    "worlds",
]

USERS = ("alice", "bob", "cara", "dan")
DEVICES = ("phone", "tablet")
DIRECT_ID = "alice~bob"
GROUP_ID = "G"

Step: TypeAlias = tuple[Any, ...]
"""(what, who, …): see `World.step`."""


def people(kind: ConversationKind) -> tuple[str, ...]:
    """Who takes part: two, or four of whom the last is not in a group from the beginning."""
    return USERS[:2] if kind is ConversationKind.DIRECT else USERS


def empty(kind: ConversationKind) -> Conversation:
    """What everybody knows before the first event."""
    return Conversation.named(DIRECT_ID if kind is ConversationKind.DIRECT else GROUP_ID)


def replica(kind: ConversationKind, history: Iterable[Event]) -> Conversation:
    """A conversation that got these events, in this order."""
    chat = empty(kind)
    for event in history:
        chat.apply(event)
    return chat


class World:
    """One conversation with the side that decides."""

    def __init__(self, kind: ConversationKind, rule: RollUp = RollUp.ANY) -> None:
        self.kind = kind
        self.rule = rule
        self.chat = empty(kind)
        self.history: list[Event] = []
        self.authors: dict[int, str] = {}
        self.version = 0
        self.known_since: dict[str, dict[str, int]] = {user: {} for user in USERS}
        if kind is ConversationKind.GROUP:
            for user in USERS[:3]:
                self.step(("join", user))

    def step(self, step: Step) -> list[Event] | Refused:
        """Take one step. Returns the events that it came to, or why it was refused."""
        what, *rest = step
        self.version += 1
        try:
            found = getattr(self, f"_{what}")(*rest)
        except Refused as refusal:
            return refusal
        made = [event for event in (found if isinstance(found, list) else [found]) if event is not None]
        self.history += made
        return made

    def run(self, steps: Iterable[Step]) -> World:
        """Take them all; refusals are fine."""
        for step in steps:
            self.step(step)
        return self

    def _apply(self, event: Event | None) -> Event | None:
        if event is not None:
            self.chat.apply(event)
        return event

    def _send(self, user: str, device: str, counts: Counts, asks: bool) -> Event | None:
        self._know(user, device)
        event = decide.accept(
            self.chat,
            user,
            message_id=MessageId(2 * self.version),
            device=device,
            at_ms=self.version,
            counts=counts,
            asks=asks,
        )
        self.authors[event.seq] = user
        return self._apply(event)

    def _deliver(self, user: str, device: str, named: Ranges, sharing: bool) -> Event | None:
        since = self._know(user, device)
        return self._apply(
            decide.deliver(self.chat, user, device, named, sharing=sharing, rule=self.rule, since=since)
        )

    def _read(self, user: str, device: str, named: Ranges, sharing: bool, knows: bool) -> list[Event | None]:
        self._know(user, device)
        event = decide.read(
            self.chat, user, named, device=device, sharing=sharing, at_ms=self.version, version=self.version
        )
        self._apply(event)
        known = self.version if knows else 0
        cleared = decide.unmark(self.chat, user, named, known=known, version=self.version)
        return [event, self._apply(cleared)]

    def _answer(self, user: str, seq: int, content: str, sharing: bool) -> Event | None:
        return self._apply(
            decide.answer(
                self.chat, user, seq, content, at_ms=self.version, version=self.version, sharing=sharing
            )
        )

    def _mark(self, user: str, from_seq: int | None) -> Event | None:
        own = ranges_of(seq for seq, author in self.authors.items() if author == user)
        return self._apply(
            decide.mark_unread(self.chat, user, version=self.version, from_seq=from_seq, own=own)
        )

    def _recall(self, user: str, seq: int) -> Event | None:
        return self._apply(decide.recall(self.chat, seq, user, at_ms=self.version))

    def _clear(self, user: str, last: int) -> Event | None:
        return self._apply(decide.clear(self.chat, user, last))

    def _join(self, user: str) -> Event | None:
        return self._apply(decide.join(self.chat, user, version=self.version))

    def _leave(self, user: str) -> Event | None:
        return self._apply(decide.leave(self.chat, user))

    def _share(self, user: str, delivered: bool | None, read: bool | None) -> Event | None:
        return self._apply(
            decide.share(self.chat, user, version=self.version, delivered=delivered, read=read)
        )

    def _expire(self, last: int) -> Event | None:
        return self._apply(decide.expire(self.chat, last))

    def _expire_receipts(self, last: int) -> Event | None:
        return self._apply(decide.expire_receipts(self.chat, last))

    def _name(self, name: str) -> Event | None:
        return self._apply(
            events.RegisterSet(
                conversation=self.chat.id,
                member=None,
                register=Register.NAME,
                version=self.version,
                value=name,
            )
        )

    def _role(self, user: str, role: Role) -> Event | None:
        return self._apply(
            events.RegisterSet(
                conversation=self.chat.id,
                member=user,
                register=Register.ROLE,
                version=self.version,
                value=role.value,
            )
        )

    def _know(self, user: str, device: str) -> dict[str, int]:
        since = self.known_since[user]
        since.setdefault(device, self.chat.head)
        return since


@cache
def kinds() -> st.SearchStrategy[ConversationKind]:
    """One-to-one, or a group."""
    return st.sampled_from(list(ConversationKind))


@cache
def ranges(highest: int = 14) -> st.SearchStrategy[Ranges]:
    """Ranges over small seqs, beyond the head included; mostly through n, or a few single ones."""
    return st.one_of(
        st.integers(0, highest).map(through),
        st.sets(st.integers(1, highest), max_size=5).map(ranges_of),
    )


@cache
def steps(kind: ConversationKind) -> st.SearchStrategy[Step]:
    """One step of somebody; many make sense, some are refused."""
    who = st.sampled_from(people(kind))
    device = st.sampled_from(DEVICES)
    seq = st.integers(0, 14)
    yes = st.booleans()
    mostly = st.sampled_from((True, True, True, False))
    counts = st.sampled_from((Counts.YES, Counts.YES, Counts.YES, Counts.SYSTEM))
    send = st.tuples(st.just("send"), who, device, counts, yes)
    read = st.tuples(st.just("read"), who, device, ranges(), mostly, yes)
    common = [
        send,
        send,
        send,
        read,
        read,
        st.tuples(st.just("deliver"), who, device, ranges(), mostly),
        st.tuples(st.just("mark"), who, st.none() | seq),
        st.tuples(st.just("recall"), who, seq),
        st.tuples(st.just("clear"), who, seq),
        st.tuples(st.just("share"), who, st.none() | yes, st.none() | yes),
        st.tuples(st.just("expire"), seq),
    ]
    if kind is ConversationKind.DIRECT:
        return st.one_of(common)
    return st.one_of(
        *common,
        st.tuples(st.just("answer"), who, seq, st.sampled_from(("", "ok")), mostly),
        st.tuples(st.just("answer"), who, seq, st.sampled_from(("", "ok")), mostly),
        st.tuples(st.just("join"), who),
        st.tuples(st.just("leave"), who),
        st.tuples(st.just("expire_receipts"), seq),
        st.tuples(st.just("name"), st.sampled_from(("one", "two"))),
        st.tuples(st.just("role"), who, st.sampled_from(list(Role))),
    )


@st.composite
def worlds(draw: st.DrawFn, steps_max: int = 25) -> World:
    """A world with a history, a first message at least."""
    kind = draw(kinds())
    world = World(kind, draw(st.sampled_from(list(RollUp))))
    world.step(("send", "alice", "phone", Counts.YES, False))
    return world.run(draw(st.lists(steps(kind), max_size=steps_max)))


@cache
def any_events(kind: ConversationKind) -> st.SearchStrategy[Event]:
    """One well-formed event, decided by nobody: anything a replica might be given.

    Who wrote a message, and whether it asked, is a fact of the message: here it follows from the seq.
    """
    chat = empty(kind).id
    all_people = people(kind)
    who = st.sampled_from(all_people)
    device = st.sampled_from(("", *DEVICES))
    seq = st.integers(1, 9)
    through_seq = st.integers(0, 9)
    some = ranges(9)
    version = st.integers(0, 5)
    yes = st.booleans()
    return st.one_of(
        st.builds(
            lambda n, where, counts, shares: events.MessageAccepted(
                chat,
                n,
                MessageId(2 * n),
                all_people[n % len(all_people)],
                where,
                counts=counts,
                asks=n % 2 == 0,
                shares=shares,
            ),
            seq,
            device,
            st.sampled_from(list(Counts)),
            st.sampled_from(list(Shares)),
        ),
        st.builds(events.DeliveryMarked, st.just(chat), who, device, some, some),
        st.builds(events.ReadMarked, st.just(chat), who, device, some, some, some, version, version),
        st.builds(
            events.GroupReadMarked, st.just(chat), seq, who, version, st.sampled_from(("", "ok")), version
        ),
        st.builds(events.GroupReceiptsExpired, conversation=st.just(chat), through=through_seq),
        st.builds(
            events.UnreadMarked,
            conversation=st.just(chat),
            member=who,
            version=version,
            flagged=yes,
            ranges=some,
        ),
        st.builds(events.MessageRecalled, conversation=st.just(chat), seq=seq, by=who),
        st.builds(events.MessagesExpired, conversation=st.just(chat), through=through_seq),
        st.builds(events.HistoryCleared, conversation=st.just(chat), member=who, through=through_seq),
        st.builds(events.MemberJoined, conversation=st.just(chat), member=who, version=version, from_seq=seq),
        st.builds(
            events.MemberLeft, conversation=st.just(chat), member=who, joined=version, through=through_seq
        ),
        st.builds(
            events.SharingChanged,
            conversation=st.just(chat),
            member=who,
            version=version,
            delivered=yes,
            read=yes,
            delivered_obscured_through=through_seq,
            read_obscured_through=through_seq,
        ),
        st.builds(
            events.RegisterSet,
            conversation=st.just(chat),
            member=st.none() | who,
            register=st.sampled_from(list(Register)),
            version=version,
            value=st.sampled_from((None, True, 0, "one", "two")),
        ),
    )
