"""Hypothesis strategies for tests that meet receipts: seqs, histories, casts, faults, whole worlds.

Needs `hypothesis`, which `pip install 'message-receipts[testing]'` brings. Everything shrinks towards fewer
people, fewer steps and small numbers. The state machine that holds an application of yours against the oracle
is in `machine`.

    @given(histories())
    def test_my_projection_counts_as_the_machine_does(history):
        chat = receipts.Conversation.named(history[0].conversation)
        ...
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any, TypeVar

from hypothesis import strategies as st

from receipts.core import decide, events
from receipts.core.conversation import Conversation
from receipts.core.errors import Refused
from receipts.core.events import By, Event, Register, Role
from receipts.core.ids import ConversationKind, Counts, MessageId, Seq, Shares, UserId, direct
from receipts.core.policy import RollUp
from receipts.core.ranges import Ranges, ranges_of, through

from .cast import AppCast, Cast, DeviceCast, GroupCast, UserCast
from .generator import PROFILES, Faults
from .steps import (
    Act,
    Clock,
    CrashDevice,
    CrashNode,
    Cut,
    Deliver,
    DiskFull,
    Duplicate,
    Freeze,
    Late,
    Password,
    Release,
    Save,
    StartDevice,
    StartNode,
    Step,
    Store,
    Thaw,
    Tick,
    Turn,
    Wait,
)
from .trace import Trace

__all__ = [
    "acts",
    "casts",
    "fault_profiles",
    "faults_of",
    "histories",
    "kinds",
    "loose_events",
    "ranges",
    "seeds",
    "seqs",
    "step_lists",
    "traces",
]

_T = TypeVar("_T")

NAMES = ("alice", "bob", "cara", "dan", "erin", "finn")
DEVICE_NAMES = ("phone", "laptop", "tablet")
GROUPS = ("G", "H")
FRAMES_MAX = 1000
"""More than are ever on their way here."""

USERS = NAMES[:4]
DEVICES = DEVICE_NAMES[:2]
SEQ_MAX = 14
"""Small, so that what is drawn meets."""


def seqs(highest: Seq = SEQ_MAX) -> st.SearchStrategy[Seq]:
    """A seq that a message may have, from 1 to `highest`, inclusive."""
    return st.integers(1, highest)


def _weighted(*choices: st.SearchStrategy[_T]) -> st.SearchStrategy[_T]:
    """One of these; who stands there twice comes twice as often. (`one_of` leaves out the second.)"""
    return st.integers(0, len(choices) - 1).flatmap(lambda at: choices[at])


def ranges(highest: Seq = SEQ_MAX, *, empty: bool = True) -> st.SearchStrategy[Ranges]:
    """Sets of seqs as they travel: mostly 'through n', or a few single ones.

    Args:
        highest: The highest seq in a set, inclusive.
        empty: Whether the empty set is one of them.
    """
    least = 0 if empty else 1
    return st.one_of(
        st.integers(least, highest).map(through),
        st.sets(seqs(highest), min_size=least, max_size=6).map(ranges_of),
    )


@cache
def kinds() -> st.SearchStrategy[ConversationKind]:
    """One-to-one, or a group."""
    return st.sampled_from(list(ConversationKind))


# -- histories: what a conversation was told, as the side that decides would tell it


class _Decider:
    """Turns wishes into events by `receipts.core.decide`; what is refused leaves no event."""

    def __init__(self, kind: ConversationKind, rule: RollUp) -> None:
        name = "alice~bob" if kind is ConversationKind.DIRECT else "team"
        self.chat = Conversation.named(name)
        self.history: list[Event] = []
        self._rule = rule
        self._version = 0
        self._authors: dict[Seq, UserId] = {}
        self._since: dict[UserId, dict[str, Seq]] = {user: {} for user in USERS}
        if kind is ConversationKind.GROUP:
            for user in USERS[:3]:
                self.take("join", user)
        self.take("send", "alice", "phone", Counts.YES, False)

    def take(self, what: str, *wish: Any) -> None:
        self._version += 1
        try:
            decided = getattr(self, f"_{what}")(*wish)
        except Refused:
            return
        if decided is not None:
            self.chat.apply(decided)
            self.history.append(decided)

    def _known(self, user: UserId, device: str) -> dict[str, Seq]:
        self._since[user].setdefault(device, self.chat.head)
        return self._since[user]

    def _send(self, user: UserId, device: str, counts: Counts, asks: bool) -> Event:
        self._known(user, device)
        now = self._version
        event = decide.accept(
            self.chat,
            user,
            message_id=MessageId(2 * now),
            device=device,
            at_ms=now,
            counts=counts,
            asks=asks,
            body=f"{user} at {now}",
        )
        self._authors[event.seq] = user
        return event

    def _deliver(self, user: UserId, device: str, named: Ranges, sharing: bool) -> Event | None:
        since = self._known(user, device)
        return decide.deliver(self.chat, user, device, named, sharing=sharing, rule=self._rule, since=since)

    def _read(self, user: UserId, device: str, named: Ranges, sharing: bool) -> Event | None:
        since, now = self._known(user, device), self._version
        by = By.CONVERSATION if named and named[:1] == (1,) and len(named) == 2 else By.MESSAGES
        return decide.read(
            self.chat,
            user,
            named,
            device=device,
            sharing=sharing,
            at_ms=now,
            version=now,
            by=by,
            last=named[-1] - 1 if named and by is By.CONVERSATION else 0,
            delivers=True,
            rule=self._rule,
            since=since,
        )

    def _unmark(self, user: UserId, named: Ranges) -> Event | None:
        return decide.unmark(self.chat, user, named, known=self._version, version=self._version)

    def _answer(self, user: UserId, seq: Seq, content: str) -> Event | None:
        return decide.answer(self.chat, user, seq, content, at_ms=self._version, version=self._version)

    def _mark(self, user: UserId, from_seq: Seq | None) -> Event:
        own = ranges_of(seq for seq, author in self._authors.items() if author == user)
        return decide.mark_unread(self.chat, user, version=self._version, from_seq=from_seq, own=own)

    def _recall(self, user: UserId, seq: Seq) -> Event | None:
        return decide.recall(self.chat, seq, user, at_ms=self._version)

    def _clear(self, user: UserId, last: Seq) -> Event | None:
        return decide.clear(self.chat, user, last)

    def _join(self, user: UserId) -> Event | None:
        return decide.join(self.chat, user, version=self._version)

    def _leave(self, user: UserId) -> Event | None:
        return decide.leave(self.chat, user)

    def _share(self, user: UserId, delivered: bool | None, read: bool | None) -> Event | None:
        return decide.share(self.chat, user, version=self._version, delivered=delivered, read=read)

    def _expire(self, last: Seq) -> Event | None:
        return decide.expire(self.chat, last)

    def _expire_receipts(self, last: Seq) -> Event | None:
        return decide.expire_receipts(self.chat, last)

    def _mute(self, user: UserId, muted: bool) -> Event:
        return events.RegisterSet(
            conversation=self.chat.id,
            member=user,
            register=Register.MUTED,
            version=self._version,
            value=muted,
        )


@cache
def _wishes(kind: ConversationKind) -> st.SearchStrategy[tuple[Any, ...]]:
    group = kind is ConversationKind.GROUP
    who = st.sampled_from(USERS if group else USERS[:2])
    device = st.sampled_from(DEVICES)
    yes, mostly = st.booleans(), st.sampled_from((True, True, True, False))
    counts = st.sampled_from((Counts.YES, Counts.YES, Counts.YES, Counts.SILENT, Counts.SYSTEM))
    send = st.tuples(st.just("send"), who, device, counts, yes)
    read = st.tuples(st.just("read"), who, device, ranges(), mostly)
    wishes = [
        *(send, send, send, read, read),
        st.tuples(st.just("deliver"), who, device, ranges(), mostly),
        st.tuples(st.just("mark"), who, st.none() | seqs()),
        st.tuples(st.just("unmark"), who, ranges()),
        st.tuples(st.just("recall"), who, seqs()),
        st.tuples(st.just("clear"), who, seqs()),
        st.tuples(st.just("share"), who, st.none() | yes, st.none() | yes),
        st.tuples(st.just("mute"), who, yes),
        st.tuples(st.just("expire"), st.integers(0, 3)),
    ]
    if group:
        answer = st.tuples(st.just("answer"), who, seqs(), st.sampled_from(("", "ok")))
        wishes += [
            *(answer, answer),
            st.tuples(st.just("join"), who),
            st.tuples(st.just("leave"), who),
            st.tuples(st.just("expire_receipts"), st.integers(0, 3)),
        ]
    return _weighted(*wishes)


@st.composite
def histories(draw: st.DrawFn, kind: ConversationKind | None = None, *, events_max: int = 30) -> list[Event]:
    """What was decided in one conversation, in order: applied to `Conversation.named`, it gives its state.

    A conversation "alice~bob", or a group "team" that alice, bob and cara are in from the beginning. There
    is one message at least. Events may be late, doubled or in another order for a replica: shuffle them.

    Args:
        draw: Given by Hypothesis.
        kind: One-to-one or a group; None for either.
        events_max: How many wishes are turned into events at most; those that are refused give none.
    """
    decider = _Decider(kind or draw(kinds()), draw(st.sampled_from(list(RollUp))))
    for wish in draw(st.lists(_wishes(decider.chat.kind), max_size=events_max)):
        decider.take(*wish)
    return decider.history


@cache
def loose_events(kind: ConversationKind = ConversationKind.GROUP) -> st.SearchStrategy[Event]:
    """One well-formed event of "alice~bob" or "team" that nobody has decided: all that a replica may get.

    Who wrote a message, and whether it asked, are facts of the message: here they follow from its seq.
    """
    group = kind is ConversationKind.GROUP
    people = USERS if group else USERS[:2]
    chat = st.just("team" if group else "alice~bob")
    who, device = st.sampled_from(people), st.sampled_from(("", *DEVICES))
    seq, last, version, yes, some = seqs(9), st.integers(0, 9), st.integers(0, 5), st.booleans(), ranges(9)
    time = st.integers(0, 10_000)
    shares, counts = st.sampled_from(list(Shares)), st.sampled_from(list(Counts))

    def message(number: Seq, device: str, at_ms: int, counts: Counts, shares: Shares) -> Event:
        return events.MessageAccepted(
            conversation="team" if group else "alice~bob",
            seq=number,
            message_id=MessageId(2 * number),
            author=people[number % len(people)],
            device=device,
            at_ms=at_ms,
            counts=counts,
            asks=group and number % 2 == 0,
            shares=shares,
        )

    of_group = (
        st.builds(
            events.GroupReadMarked,
            conversation=chat,
            seq=seq,
            member=who,
            at_ms=time,
            content=st.sampled_from(("", "ok")),
            version=version,
        ),
        st.builds(events.GroupReceiptsExpired, conversation=chat, through=last),
        st.builds(events.MemberJoined, conversation=chat, member=who, version=version, from_seq=seq),
        st.builds(events.MemberLeft, conversation=chat, member=who, joined=version, through=last),
    )
    return st.one_of(
        st.builds(message, seq, device, time, counts, shares),
        st.builds(
            events.DeliveryMarked, conversation=chat, member=who, device=device, held=some, shared=some
        ),
        st.builds(
            events.ReadMarked,
            conversation=chat,
            member=who,
            device=device,
            read=some,
            shared=some,
            held=some,
            at_ms=time,
            version=version,
        ),
        st.builds(
            events.UnreadMarked, conversation=chat, member=who, version=version, flagged=yes, ranges=some
        ),
        st.builds(events.MessageRecalled, conversation=chat, seq=seq, by=who, at_ms=time),
        st.builds(events.MessagesExpired, conversation=chat, through=last),
        st.builds(events.HistoryCleared, conversation=chat, member=who, through=last),
        st.builds(
            events.SharingChanged,
            conversation=chat,
            member=who,
            version=version,
            delivered=yes,
            read=yes,
            delivered_obscured_through=last,
            read_obscured_through=last,
        ),
        st.builds(
            events.RegisterSet,
            conversation=chat,
            member=who,
            register=st.sampled_from((Register.ROLE, Register.MUTED)),
            version=version,
            value=st.sampled_from((None, True, Role.ADMIN.value)),
        ),
        *(of_group if group else ()),
    )


# -- whole worlds


@st.composite
def casts(draw: st.DrawFn, *, users_max: int = 3, devices_max: int = 2, groups_max: int = 1) -> Cast:
    """Who there is in a world: one app, two users at least, a device for each at least.

    Args:
        draw: Given by Hypothesis.
        users_max: At most 6.
        devices_max: Of each user; at most 3.
        groups_max: At most 2.
    """
    names = NAMES[: draw(st.integers(2, max(2, users_max)))]
    devices = [
        DeviceCast(
            app="default",
            user=user,
            name=name,
            delivery=draw(st.booleans()),
            share_delivered=not draw(_seldom()),
            share_read=not draw(_seldom()),
            storage=draw(st.booleans()),
            text=draw(_seldom()),
            coalesce_ms=draw(st.sampled_from((0, 50, 2000))),
            offset_ms=draw(st.sampled_from((0, 0, -90_000, 3_600_000))),
        )
        for user in names
        for name in DEVICE_NAMES[: draw(st.integers(1, devices_max))]
    ]
    groups = [
        GroupCast(app="default", conversation=name, owner=names[0], members=draw(_some(names[1:])))
        for name in GROUPS[: draw(st.integers(0, groups_max))]
    ]
    return Cast(
        apps=(AppCast(app="default"),),
        users=tuple(UserCast(app="default", user=name) for name in names),
        devices=tuple(devices),
        groups=tuple(groups),
        node_offset_ms=draw(st.sampled_from((0, 0, -3_600_000))),
    )


def _seldom() -> st.SearchStrategy[bool]:
    return st.sampled_from((False, False, False, True))


def _some(names: Sequence[UserId]) -> st.SearchStrategy[tuple[UserId, ...]]:
    """Some of them, in their order."""
    return st.sets(st.sampled_from(names)).map(lambda found: tuple(name for name in names if name in found))


def fault_profiles() -> st.SearchStrategy[Faults]:
    """How much goes wrong in a run: nothing first, since a failure without faults is the easiest to read."""
    return st.sampled_from(list(PROFILES.values()))


def seeds() -> st.SearchStrategy[int]:
    """Seeds for `simulate`. One seed is one run, so nothing can be shrunk here: `shrink` does that."""
    return st.integers(0, 2**32 - 1)


def acts(cast: Cast) -> st.SearchStrategy[Act]:
    """What users do on their devices, in the conversations that this cast may have."""
    return st.sampled_from(cast.devices).flatmap(lambda device: _acts_on(cast, device))


def _acts_on(cast: Cast, device: DeviceCast) -> st.SearchStrategy[Act]:
    others = [one.user for one in cast.users if one.app == device.app and one.user != device.user]
    groups = [group.conversation for group in cast.groups if group.app == device.app]
    chat = st.sampled_from([*(direct(device.user, other) for other in others), *groups])
    seq, last, yes = seqs(), st.integers(0, 6), st.booleans()
    named = st.sets(seqs(), min_size=1, max_size=4).map(lambda found: tuple(sorted(found)))
    words = st.sampled_from((None, None, "", "ok"))
    share = st.none() | yes

    def act(operation: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Act]:
        label = cast.label(device)
        return st.tuples(*arguments).map(lambda found: Act(label, operation, found))

    send = act("send", chat, st.sampled_from((0, 0, 0, 1)), yes, yes)
    read = act("read", chat, last)
    in_groups = [
        act("add", st.sampled_from(groups), _some(others)),
        act("remove", st.sampled_from(groups), _some(others)),
        act("readers", st.sampled_from(groups), seq),
    ]
    return _weighted(
        *(send, send, send, send, read, read, read),
        act("name", chat, named, words),
        act("open", chat, words),
        act("close", chat),
        act("mark", chat, st.none() | seq),
        act("recall", chat, seq),
        act("clear", chat, last),
        act("share", st.none() | chat, share, share),
        act("mute", chat, yes),
        act("status", chat, named),
        act("explain", chat),
        act("badge"),
        *(in_groups if groups else ()),
    )


def faults_of(cast: Cast) -> st.SearchStrategy[Step]:
    """What goes wrong in a world, and what mends it."""
    device = st.sampled_from([cast.label(one) for one in cast.devices])
    storage = st.sampled_from(("keep", "lose"))
    return st.one_of(
        st.builds(Wait, st.sampled_from((100, 2_000, 40_000))),
        st.builds(Cut, device, st.sampled_from(("both", "device", "node"))),
        st.builds(Late, device, st.integers(1, 3)),
        st.builds(Freeze, device),
        st.builds(Thaw, device),
        st.builds(Duplicate, device, st.booleans()),
        st.builds(CrashDevice, device, storage),
        st.builds(StartDevice, device),
        st.builds(CrashNode, st.sampled_from(("keep", "lose", "tear"))),
        st.builds(StartNode, st.booleans()),
        st.builds(DiskFull, st.booleans()),
        st.builds(Clock, st.one_of(device, st.just("node")), st.sampled_from((1_000, 3_600_000))),
    )


def _work_of(cast: Cast) -> st.SearchStrategy[Step]:
    """The world goes on, in small steps: between any two of them something else may happen."""
    device = st.sampled_from([cast.label(one) for one in cast.devices])
    return st.one_of(
        st.builds(Deliver, device, st.booleans(), st.integers(1, 4)),
        st.just(Tick()),
        st.builds(Store, st.integers(1, 2), st.sampled_from(("ok", "ok", "ok", "written"))),
        st.builds(Release, st.integers(1, 2)),
        st.builds(Save, device),
        st.just(Password()),
    )


def _exchange(cast: Cast) -> Sequence[Step]:
    """Everybody says what there is to say, and hears what came of it."""
    labels = [cast.label(device) for device in cast.devices]
    up = [Deliver(label, True, FRAMES_MAX) for label in labels]
    saved = [Save(label) for label in labels]
    down = [Deliver(label, False, FRAMES_MAX) for label in labels]
    return [Wait(100), *saved, *up, Turn(), *down]


def step_lists(cast: Cast, *, steps_max: int = 60, faults: bool = True) -> st.SearchStrategy[list[Step]]:
    """Traces for `replay`: users act, the world goes on, things go wrong.

    Args:
        cast: Who does it.
        steps_max: Of acts, faults and stretches of work, at most; one of these may be several steps.
        faults: Whether things go wrong.
    """
    exchange = st.just(_exchange(cast))
    act = acts(cast).map(lambda found: [found])
    acted = acts(cast).map(lambda found: [found, *_exchange(cast)])
    work = _work_of(cast).map(lambda found: [found])
    wrong = faults_of(cast).map(lambda found: [found])
    part = _weighted(acted, act, acted, exchange, work, *((wrong,) if faults else ()))
    # All log in first; what is drawn after that meets a world in which something can happen.
    begin = [*_exchange(cast), *_exchange(cast)]
    # Left to itself Hypothesis draws lists of about six: too few for anything to meet.
    least = st.sampled_from((0, steps_max // 4, steps_max // 2))
    parts = least.flatmap(lambda size: st.lists(part, min_size=size, max_size=steps_max))
    return parts.map(lambda found: [*begin, *chain.from_iterable(found)])


@st.composite
def traces(draw: st.DrawFn, *, steps_max: int = 60, faults: bool = True) -> Trace:
    """A cast and what happens to it.

        @given(traces())
        def test_nothing_breaks(trace):
            violation = replay(trace.cast, trace.steps).violation
            assert violation is None, trace.text()

    Args:
        draw: Given by Hypothesis.
        steps_max: See `step_lists`.
        faults: Whether things go wrong.
    """
    cast = draw(casts())
    return Trace(cast=cast, steps=draw(step_lists(cast, steps_max=steps_max, faults=faults)))
