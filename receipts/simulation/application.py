"""Your application against the oracle: the same deeds on both sides, and every answer compared.

PURE, as far as your application is. You write an adapter, a subclass of `Application`; `examine` draws deeds
from a seed, `receipts.simulation.machine` lets Hypothesis draw them. What the right answer is comes from
`oracle`, which knows nothing of how this package does it.

    class Ours(Application):
        def begin(self, users, devices, groups): ...
        def send(self, user, device, conversation, asks): ...
        def read(self, user, device, conversation, through): ...
        def unread(self, user, device, conversation): ...

    examine(Ours, seed=1)

What the words mean is in docs/glossary.md; seqs are 1, 2, 3 … in every conversation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from receipts.core.events import Role
from receipts.core.ids import ConversationId, DeviceId, Seq, UserId, direct
from receipts.core.policy import Features, GroupPolicy, Limits
from receipts.core.ranges import ranges_of
from receipts.core.status import Status
from receipts.node.commands import AddUser, MakeGroup
from receipts.wire import VERSION
from receipts.wire.commands import (
    AckDelivered,
    AddMembers,
    ClearConversation,
    Hello,
    MarkUnread,
    ReadConversation,
    ReadMessages,
    RecallMessage,
    RemoveMembers,
    SendMessage,
    SetSharing,
)

from .chance import Chance
from .facts import Person, Talk, seqs_of_bits
from .oracle import Oracle, Rules, Sender
from .violation import Violation

__all__ = [
    "DEVICES",
    "GROUP",
    "STEPS",
    "USERS",
    "Application",
    "Deed",
    "Exam",
    "conversations_of",
    "draw_deed",
    "examine",
]

USERS: tuple[UserId, ...] = ("alice", "bob", "cara")
DEVICES: tuple[DeviceId, ...] = ("phone", "laptop")
"""Of every user."""

GROUP: ConversationId = "team"
"""All users are in it from the beginning; the first one owns it and stays."""

COMPARE_ALL_EVERY = 20
"""Deeds; what is done in one conversation shows nothing in another, and messages grow many."""

STEPS = 300
SHRINK_TRIES = 400

_APP = "default"
_UNLIMITED = Limits(
    sends_burst=10**6,
    marks_burst=10**6,
    changes_burst=10**6,
    queries_burst=10**6,
    recall_window_ms=10**12,
    group_receipts_kept_ms=10**12,
    device_idle_ms=10**12,
    asking_messages_per_day=10**6,
)
_RIGHTS = GroupPolicy(may_ask_receipts=Role.MEMBER)
"""Limits and rights are a node's business, not that of the rules under test."""


class Application(ABC):
    """What is put to the test. Three methods are needed; what else you leave out is not tried, not asked.

    Every method is called from one thread. A conversation is "alice~bob" for two users, their names in
    order, or `GROUP`. Whatever a method raises ends the test.
    """

    def begin(  # noqa: B027  many applications need no preparation
        self,
        users: Sequence[UserId],
        devices: Sequence[DeviceId],
        groups: Mapping[ConversationId, Sequence[UserId]],
    ) -> None:
        """Everybody who is going to take part; each user has all of the devices. Groups: by id, members in
        order, the owner first."""

    def settle(self) -> None:  # noqa: B027  those that answer at once have nothing to wait for
        """Called before answers are compared: wait here until everything has arrived everywhere."""

    def end(self) -> None:  # noqa: B027  most have nothing to close
        """The last call, however it went: give back files and connections."""

    # -- deeds

    @abstractmethod
    def send(self, user: UserId, device: DeviceId, conversation: ConversationId, asks: bool) -> Seq:
        """Send a message. Returns the seq that it got.

        Args:
            asks: Whether the author asks for read receipts; only in a group, else False.
        """

    @abstractmethod
    def read(self, user: UserId, device: DeviceId, conversation: ConversationId, through: Seq) -> None:
        """Everything up to and including `through` is read (a conversation receipt)."""

    def read_messages(
        self,
        user: UserId,
        device: DeviceId,
        conversation: ConversationId,
        seqs: Sequence[Seq],
        content: str | None,
    ) -> None:
        """These messages of others are read, by name. With `content`, all of them asked, and this is what
        the reader says; without, those of them that asked are answered with no words."""
        raise NotImplementedError

    def deliver(
        self, user: UserId, device: DeviceId, conversation: ConversationId, seqs: Sequence[Seq]
    ) -> None:
        """The device has stored these messages."""
        raise NotImplementedError

    def mark_unread(
        self, user: UserId, device: DeviceId, conversation: ConversationId, from_seq: Seq | None
    ) -> None:
        """Count as unread again: by a flag alone (None), or everything of others from a message on."""
        raise NotImplementedError

    def recall(self, user: UserId, device: DeviceId, conversation: ConversationId, seq: Seq) -> None:
        """The author takes a message back."""
        raise NotImplementedError

    def clear(self, user: UserId, device: DeviceId, conversation: ConversationId, through: Seq) -> None:
        """The user empties a conversation for themselves, up to and including `through`."""
        raise NotImplementedError

    def share(self, user: UserId, device: DeviceId, delivered: bool | None, read: bool | None) -> None:
        """In all conversations, let others know of deliveries and reads from now on, or not; None leaves a
        switch as it is."""
        raise NotImplementedError

    def join(self, conversation: ConversationId, user: UserId) -> None:
        """The group's owner lets a user in (again)."""
        raise NotImplementedError

    def leave(self, conversation: ConversationId, user: UserId) -> None:
        """A member other than the owner leaves the group."""
        raise NotImplementedError

    def restart(self) -> None:
        """Start again from what is stored; nothing may be lost."""
        raise NotImplementedError

    # -- answers

    @abstractmethod
    def unread(self, user: UserId, device: DeviceId, conversation: ConversationId) -> int:
        """How many messages wait unread; 0 in a group that the user is not in."""

    def unread_seqs(self, user: UserId, device: DeviceId, conversation: ConversationId) -> Collection[Seq]:
        """Which ones."""
        raise NotImplementedError

    def marked_unread(self, user: UserId, device: DeviceId, conversation: ConversationId) -> bool:
        """Whether the conversation is marked as unread by hand."""
        raise NotImplementedError

    def status(
        self, user: UserId, device: DeviceId, conversation: ConversationId, seq: Seq, member: UserId
    ) -> Status:
        """How far a message of `user` came with the other one, as `user` sees it; only between two users."""
        raise NotImplementedError

    def readers(
        self, user: UserId, device: DeviceId, conversation: ConversationId, seq: Seq
    ) -> Mapping[UserId, str]:
        """Who has answered a message of `user` that asked, and with what words."""
        raise NotImplementedError


class Deed(NamedTuple):
    """A call of a method of `Application`."""

    what: str
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.what}({', '.join(map(repr, self.arguments))})"


def _chat_of(deed: Deed) -> ConversationId | None:
    """The conversation that a deed is about; None for one about all."""
    if deed.what in ("join", "leave"):
        return str(deed.arguments[0])
    return str(deed.arguments[2]) if deed.what not in ("share", "restart") else None


def conversations_of(user: UserId) -> list[ConversationId]:
    """Everything that a user may ever be in."""
    return [direct(user, other) for other in USERS if other != user] + [GROUP]


class Exam:
    """One application, and the oracle that is told the same.

    Args:
        application: Fresh.
    """

    def __init__(self, application: Application) -> None:
        self.application = application
        self.deeds: list[Deed] = []
        """All that was done."""
        self._oracle = Oracle()
        self._now_ms = 1_800_000_000_000
        self._tick = 0
        self._numbers: dict[tuple[UserId, DeviceId], int] = {}
        self._sessions = {(user, device): at for at, (user, device) in enumerate(_everywhere(), start=1)}
        self._begin()

    def _begin(self) -> None:
        self._oracle.rules[_APP] = Rules(Features(groups=_RIGHTS), _UNLIMITED)
        operator = Sender(0, operator=True)
        for user in USERS:
            self._tell(operator, AddUser(rid=1, app=_APP, user=user))
        self._tell(
            operator,
            MakeGroup(
                rid=1, app=_APP, conversation=GROUP, name=GROUP, owner=USERS[0], admins=(), members=USERS[1:]
            ),
        )
        for (user, device), session in self._sessions.items():
            hello = Hello(rid=1, version=VERSION, user=user, device=device, install=f"{user}/{device}")
            self._tell(Sender(session), hello)
        self.application.begin(USERS, DEVICES, {GROUP: USERS})

    def offers(self, name: str) -> bool:
        """Whether the application has a method of this name."""
        return getattr(type(self.application), name) is not getattr(Application, name, None)

    # -- deeds

    def do(self, deed: Deed) -> bool:
        """Do the same on both sides, and compare.

        Returns:
            Whether it made sense: what the application does not offer, and what cannot be done now (reading
            where there is nothing, writing to a group that one has left), is passed over.

        Raises:
            Violation: The two disagree.
        """
        if not self.offers(deed.what):
            return False
        if deed.what != "restart" and not self._take(deed):
            return False
        self.deeds.append(deed)
        answer = getattr(self.application, deed.what)(*deed.arguments)
        if deed.what == "send":
            talk = self.talk(deed.arguments[2])
            assert talk is not None
            self._expect("I-8", f"{deed} gives a seq", talk.head, answer)
        self.application.settle()
        self.compare(None if len(self.deeds) % COMPARE_ALL_EVERY == 0 else _chat_of(deed))
        return True

    def _take(self, deed: Deed) -> bool:
        """Tell the oracle; False when it refuses, or when there is nothing to be told."""
        made = _COMMANDS[deed.what](self, *deed.arguments)
        if made is None:
            return False
        (user, device), command = made
        return self._tell(Sender(self._sessions[user, device]), command)

    def _tell(self, sender: Sender, command: Any) -> bool:
        oracle = self._oracle
        self._now_ms += 1000
        self._tick += 1
        oracle.begin(self._now_ms, self._tick)
        oracle.do(sender, command)
        oracle.end()
        refused = any(said.kind == "Rejected" for said in oracle.said)
        oracle.said.clear()
        if refused:
            oracle.undone()
        else:
            oracle.begun()
            oracle.committed()
        return not refused

    def next_number(self, user: UserId, device: DeviceId) -> int:
        """Of the next send of a device."""
        self._numbers[user, device] = self._numbers.get((user, device), 0) + 1
        return self._numbers[user, device]

    # -- what the oracle knows

    def talk(self, conversation: ConversationId) -> Talk | None:
        """The facts of a conversation; None before its first message."""
        return self._oracle.talks.get((_APP, conversation))

    def head(self, conversation: ConversationId) -> Seq:
        """The highest seq."""
        talk = self.talk(conversation)
        return talk.head if talk is not None else 0

    def inside(self, conversation: ConversationId, user: UserId) -> bool:
        """Whether a user is in a conversation that is there."""
        talk = self.talk(conversation)
        return talk is not None and user in talk.people and talk.people[user].joined

    # -- comparing

    def compare(self, touched: ConversationId | None = None) -> None:
        """Ask the application for all counts, and for all statuses and readers.

        Args:
            touched: Leave statuses and readers of other conversations out.

        Raises:
            Violation: It answers something else than the oracle.
        """
        for talk in self._oracle.talks.values():
            for user, person in talk.people.items():
                for device in DEVICES:
                    self._compare_counts(talk, person, device)
                    if touched is not None and touched != talk.id:
                        continue
                    if talk.pair is not None and self.offers("status"):
                        self._compare_statuses(talk, user, device)
                    if talk.pair is None and self.offers("readers") and person.joined:
                        self._compare_readers(talk, user, device)

    def _compare_counts(self, talk: Talk, person: Person, device: DeviceId) -> None:
        app, where = self.application, (person.user, device, talk.id)
        whose = f"for {person.user} on the {device} in {talk.id}"
        expected = list(seqs_of_bits(talk.unread(person)))
        if self.offers("unread_seqs"):
            found = sorted(app.unread_seqs(*where))
            self._expect(
                _why_unread(talk, person, expected, found), f"the unread {whose} are", expected, found
            )
        count = app.unread(*where)
        visible = talk.visible(person).bit_count()
        invariant = "I-14" if 0 <= count <= visible else "I-5"
        self._expect(invariant, f"the unread count {whose} is", len(expected), count)
        if self.offers("marked_unread"):
            marked = app.marked_unread(*where)
            self._expect("I-16", f"the manual mark {whose} is", talk.marked(person), marked)

    def _compare_statuses(self, talk: Talk, user: UserId, device: DeviceId) -> None:
        assert talk.pair is not None
        member = talk.pair[talk.pair[0] == user]
        for fact in talk.facts:
            if fact.author != user or talk.recalled >> fact.seq & 1:
                continue
            expected = Status(talk.status(fact.seq, member))
            found = Status(self.application.status(user, device, talk.id, fact.seq, member))
            hidden = talk.is_read(fact.seq, member) == "sharing_off"
            above = "I-25" if hidden else "I-4"
            self._expect(
                above if found > expected else "I-3",
                f"with {member}, #{fact.seq} of {user} in {talk.id} is, on the {device},",
                expected.name,
                found.name,
            )

    def _compare_readers(self, talk: Talk, user: UserId, device: DeviceId) -> None:
        for seq, answers in talk.asked.items():
            if talk.facts[seq - 1].author != user or talk.recalled >> seq & 1:
                continue
            expected = {reader: content for reader, (_, content) in sorted(answers.items())}
            found = dict(sorted(self.application.readers(user, device, talk.id, seq).items()))
            self._expect(
                "I-19", f"on the {device} of {user}, #{seq} in {talk.id} was answered by", expected, found
            )

    def _expect(self, invariant: str, what: str, expected: Any, found: Any) -> None:
        if expected == found:
            return
        done = "\n".join(f"  {deed}" for deed in self.deeds)
        violation = Violation(
            invariant,
            f"{what} {expected!r}, not {found!r}",
            f"expected {expected!r}\nfound {found!r}\nafter\n{done}",
        )
        violation.step = len(self.deeds) - 1
        raise violation


def _everywhere() -> Iterable[tuple[UserId, DeviceId]]:
    return ((user, device) for user in USERS for device in DEVICES)


def _why_unread(talk: Talk, person: Person, expected: list[Seq], found: list[Seq]) -> str:
    """The invariant that a wrong set of unread messages breaks."""
    for seq in found:
        bit = 1 << seq
        if seq in expected:
            continue
        if bit & person.wrote:
            return "I-1"
        if bit & talk.recalled:
            return "I-9"
        if not bit & talk.visible(person):
            return "I-18"
    return "I-14"


# -- from deeds to commands: what the oracle understands

_Made: TypeAlias = tuple[tuple[UserId, DeviceId], Any] | None


def _send(exam: Exam, user: UserId, device: DeviceId, chat: ConversationId, asks: bool) -> _Made:
    if asks and chat != GROUP:
        return None
    if chat == GROUP and not exam.inside(chat, user):
        return None
    number = exam.next_number(user, device)
    return (user, device), SendMessage(1, chat, f"message {number}", number, asks=asks)


ANY_MARK = 1 << 40
"""An unread mark that is newer than any: who reads here knows them all."""


def _read(exam: Exam, user: UserId, device: DeviceId, chat: ConversationId, through: Seq) -> _Made:
    if not exam.inside(chat, user) or not 1 <= through <= exam.head(chat):
        return None
    return (user, device), ReadConversation(1, chat, through, mark_version=ANY_MARK)


def _read_messages(
    exam: Exam, user: UserId, device: DeviceId, chat: ConversationId, seqs: Sequence[Seq], content: str | None
) -> _Made:
    if not seqs or not _exist(exam, user, chat, seqs):
        return None
    return (user, device), ReadMessages(1, chat, ranges_of(seqs), content, mark_version=ANY_MARK)


def _deliver(exam: Exam, user: UserId, device: DeviceId, chat: ConversationId, seqs: Sequence[Seq]) -> _Made:
    if not seqs or not _exist(exam, user, chat, seqs):
        return None
    return (user, device), AckDelivered(1, chat, ranges_of(seqs))


def _exist(exam: Exam, user: UserId, chat: ConversationId, seqs: Sequence[Seq]) -> bool:
    """Whether these are messages of others."""
    talk = exam.talk(chat)
    if talk is None or not exam.inside(chat, user):
        return False
    return all(1 <= seq <= talk.head and talk.facts[seq - 1].author != user for seq in seqs)


def _mark_unread(
    exam: Exam, user: UserId, device: DeviceId, chat: ConversationId, from_seq: Seq | None
) -> _Made:
    if not exam.inside(chat, user):
        return None
    return (user, device), MarkUnread(rid=1, conversation=chat, from_seq=from_seq)


def _recall(exam: Exam, user: UserId, device: DeviceId, chat: ConversationId, seq: Seq) -> _Made:
    talk = exam.talk(chat)
    if talk is None or not 1 <= seq <= talk.head or talk.facts[seq - 1].author != user:
        return None
    return (user, device), RecallMessage(rid=1, conversation=chat, seq=seq)


def _clear(exam: Exam, user: UserId, device: DeviceId, chat: ConversationId, through: Seq) -> _Made:
    if not exam.inside(chat, user) or not 1 <= through <= exam.head(chat):
        return None
    return (user, device), ClearConversation(rid=1, conversation=chat, through=through)


def _share(exam: Exam, user: UserId, device: DeviceId, delivered: bool | None, read: bool | None) -> _Made:
    return (user, device), SetSharing(rid=1, delivered=delivered, read=read)


def _join(exam: Exam, chat: ConversationId, user: UserId) -> _Made:
    if chat != GROUP or exam.inside(chat, user):
        return None
    return (USERS[0], DEVICES[0]), AddMembers(rid=1, conversation=chat, users=(user,))


def _leave(exam: Exam, chat: ConversationId, user: UserId) -> _Made:
    if chat != GROUP or user == USERS[0] or not exam.inside(chat, user):
        return None
    return (user, DEVICES[0]), RemoveMembers(rid=1, conversation=chat, users=(user,))


_COMMANDS: dict[str, Callable[..., _Made]] = {
    "send": _send,
    "read": _read,
    "read_messages": _read_messages,
    "deliver": _deliver,
    "mark_unread": _mark_unread,
    "recall": _recall,
    "clear": _clear,
    "share": _share,
    "join": _join,
    "leave": _leave,
}

# -- from a seed to deeds

_WHATS = (
    *("send",) * 8,
    *("read", "read", "read", "read_messages", "read_messages", "deliver", "deliver"),
    *("mark_unread", "recall", "clear", "share", "join", "leave", "restart"),
)


def draw_deed(exam: Exam, chance: Chance) -> Deed:
    """Something that may make sense now."""
    what = chance.one_of(_WHATS)
    user, device = chance.one_of(USERS), chance.one_of(DEVICES)
    chat = chance.one_of(conversations_of(user))
    if what == "restart":
        return Deed(what)
    if what in ("join", "leave"):
        return Deed(what, (GROUP, chance.one_of(USERS[1:])))
    if what == "share":
        return Deed(
            what, (user, device, chance.one_of((None, True, False)), chance.one_of((None, True, False)))
        )
    if what == "send":
        return Deed(what, (user, device, chat, chat == GROUP and chance.happens(500)))
    seq = max(1, exam.head(chat) - chance.below(6))
    if what in ("read_messages", "deliver"):
        return _draw_named(exam, chance, what, (user, device, chat), seq)
    if what == "recall" and (talk := exam.talk(chat)) is not None and seq <= talk.head:
        return Deed(what, (talk.facts[seq - 1].author, device, chat, seq))
    if what == "mark_unread" and chance.happens(300):
        return Deed(what, (user, device, chat, None))
    return Deed(what, (user, device, chat, seq))


def _draw_named(
    exam: Exam, chance: Chance, what: str, where: tuple[UserId, DeviceId, ConversationId], seq: Seq
) -> Deed:
    user, _, chat = where
    talk = exam.talk(chat)
    facts = talk.facts[seq - 1 :] if talk is not None else []
    seqs = tuple(fact.seq for fact in facts if fact.author != user and chance.happens(600))
    if what == "deliver":
        return Deed(what, (*where, seqs))
    asked = bool(seqs) and all(fact.asks for fact in facts if fact.seq in seqs)
    content = chance.one_of(("ok", "", "later")) if asked and chance.happens(600) else None
    return Deed(what, (*where, seqs, content))


def examine(make: Callable[[], Application], seed: int, *, steps: int = STEPS) -> int:
    """Put an application to the test with deeds drawn from a seed.

    Args:
        make: Gives a fresh application; called again to look for a shorter story of what went wrong.
        seed: Any whole number; the same one gives the same deeds, as long as the answers are the same.
        steps: How many deeds are drawn; some make no sense where they fall, and are passed over.

    Returns:
        How many were done.

    Raises:
        Violation: The application is wrong, by the shortest story that was found: `details` has it.
    """
    chance, exam = Chance(seed), Exam(make())
    try:
        for _ in range(steps):
            exam.do(draw_deed(exam, chance))
    except Violation as found:
        raise _shorter(make, exam.deeds, found) from None
    finally:
        exam.application.end()
    return len(exam.deeds)


def _shorter(make: Callable[[], Application], deeds: Sequence[Deed], found: Violation) -> Violation:
    """The same with fewer deeds: leave out ever smaller parts, from the end, as long as it stays wrong."""
    kept, size, tries = list(deeds), max(1, len(deeds) // 2), 0
    while True:
        stop, shorter = len(kept), False
        while stop > 0 and tries < SHRINK_TRIES:
            tries += 1
            again, done = _wrong(make, _without(kept, max(0, stop - size), stop))
            if again is not None and again.invariant == found.invariant:
                kept, found, shorter = done, again, True
            stop = min(stop - size, len(kept))
        if size > 1:
            size //= 2
        elif not shorter or tries >= SHRINK_TRIES:
            break
    return found


def _without(deeds: Sequence[Deed], start: int, stop: int) -> list[Deed]:
    """Leave out a part; what comes later names the same messages, whose seqs are lower by then."""
    before: dict[ConversationId, int] = {}
    gone: dict[ConversationId, list[Seq]] = {}
    left = []
    for at, deed in enumerate(deeds):
        chat = _chat_of(deed)
        if deed.what == "send" and chat is not None:
            before[chat] = before.get(chat, 0) + 1
            if start <= at < stop:
                gone.setdefault(chat, []).append(before[chat])
        if not start <= at < stop:
            left.append(_renamed(deed, gone.get(chat, []) if chat is not None else []))
    return left


def _renamed(deed: Deed, gone: Sequence[Seq]) -> Deed:
    def lower(seq: Seq) -> Seq:
        return seq - sum(1 for one in gone if one < seq)

    if not gone or deed.what in ("send", "join", "leave"):
        return deed
    user, device, chat, named, *content = deed.arguments
    if isinstance(named, tuple):
        new: Any = tuple(lower(seq) for seq in named if seq not in gone)
    else:
        new = lower(named) if named is not None else None
    return Deed(deed.what, (user, device, chat, new, *content))


def _wrong(make: Callable[[], Application], deeds: Iterable[Deed]) -> tuple[Violation | None, list[Deed]]:
    """What goes wrong, and what was done of it."""
    exam = Exam(make())
    try:
        for deed in deeds:
            exam.do(deed)
    except Violation as violation:
        return violation, exam.deeds
    finally:
        exam.application.end()
    return None, exam.deeds
