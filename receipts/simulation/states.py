"""Whether what a node keeps, in memory and on disk, is what happened.

Answers are compared first (counts, statuses), then the sets they are made of: so a difference is found under
the name of what a person would see of it. `View` says what is looked at, and what was done just now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from typing import Any

from receipts.core.conversation import Conversation
from receipts.core.events import Register
from receipts.core.explain import explain
from receipts.core.ids import Seq, UserId
from receipts.core.member import Member
from receipts.node.world import Chat
from receipts.storage.base import ConversationRows, MessageRow, Store
from receipts.storage.codec import load_conversation

from .facts import Person, Talk, bits, seqs_of_bits, up_to
from .judge import ANY_SEQ, shown
from .oracle import Oracle
from .violation import Violation

__all__ = [
    "Stored",
    "View",
    "compare",
    "compare_accounts",
    "compare_rows",
    "compare_whole",
    "logical",
    "recount",
]

_RECEIPTS = ("AckDelivered", "ReadConversation", "ReadMessages")
STATUSES_AT_ONCE = 6
"""How many of a conversation's newest messages have their statuses compared when all in memory is looked at,
and how many others in turns: they are made of sets that are compared whole, so that a few do to see how."""


class View:
    """A conversation that is looked at.

    Args:
        moment: `Oracle.made` before the commands.
        commands: What was just decided, by whom; empty for a look at any time.
        bleeding: Nothing was done here; what changed was done elsewhere.
        where: The place, for people.
    """

    __slots__ = ("bleeding", "commands", "moment", "oracle", "talk", "where")

    def __init__(
        self,
        oracle: Oracle,
        talk: Talk,
        moment: int,
        commands: Sequence[tuple[Any, Any]],
        *,
        bleeding: bool = False,
        where: str = "in memory",
    ) -> None:
        self.oracle = oracle
        self.talk = talk
        self.moment = moment
        self.commands = commands
        self.bleeding = bleeding
        self.where = where

    def wrong(self, invariant: str, what: str, expected: Any, found: Any) -> Violation:
        """A violation that says what was being done."""
        lines = [f"expected {expected}", f"found    {found}"]
        lines += [f"{session!r} {command!r}" for session, command in self.commands]
        if self.bleeding:
            invariant = "I-11"
        return Violation(invariant, f"{self.talk.id} {self.where}: {what}", "\n".join(lines))

    def done_here(self) -> list[tuple[UserId, Any]]:
        """(who, command) of what was just done in this conversation."""
        return [
            (session.user.name, command)
            for session, command in self.commands
            if session.user is not None
            and getattr(command, "conversation", None) == self.talk.id
            and session.app.id == self.talk.app
        ]

    def before(self, person: Person, name: str) -> int:
        """A set of somebody before the commands."""
        found: int = self.oracle.before(self.moment, person, name)
        return found


# -- in memory


def compare(view: View, chat: Chat, users: Iterable[UserId], *, whole: bool) -> None:
    """A conversation in memory.

    Args:
        users: Whose sets are compared.
        whole: Whether something changed that concerns everybody.
    """
    talk, known = view.talk, chat.conversation
    if known.head != talk.head:
        raise view.wrong("I-8", "the head", talk.head, known.head)
    people, members = talk.people, known.members
    if whole:
        for user, person in people.items():
            count = known.unread(user)
            if count != talk.unread(person).bit_count():
                _blame_unread(view, known, person, count)
    for user in users:
        person = people[user]
        member = members.get(user)
        if member is None:
            raise view.wrong("I-24", f"{user} is a member", person.periods, None)
        _compare_unread(view, known, person)
        _compare_sets(view, talk, person, member)
        _compare_rest(view, person, member)
    if whole:
        _compare_talk(view, talk, known)


def _compare_unread(view: View, known: Conversation, person: Person) -> None:
    talk, user = view.talk, person.user
    found = bits(known.unread_ranges(user), ANY_SEQ)
    if found != talk.unread(person):
        _blame_unread(view, known, person, known.unread(user))
    count = known.unread(user)
    if count != found.bit_count():
        _blame_unread(view, known, person, count)
    if known.marked_unread(user) is not talk.marked(person):
        raise view.wrong("I-16", f"marked unread for {user}", talk.marked(person), not talk.marked(person))


def _blame_unread(view: View, known: Conversation, person: Person, count: int) -> None:
    """A count is wrong: whose failure is it?"""
    talk, user = view.talk, person.user
    expected = talk.unread(person)
    found = bits(known.unread_ranges(user), ANY_SEQ)
    extra, lost = found & ~expected, expected & ~found
    if count < 0 or count > talk.visible(person).bit_count() + extra.bit_count():
        invariant = "I-5"
    elif extra:
        invariant = _blame_extra(view, person, extra)
    elif lost:
        invariant = _blame_lost(view, known, person, lost)
    else:
        invariant = "I-12"
    raise view.wrong(
        invariant,
        f"unread of {user}",
        f"{expected.bit_count()} {shown(expected)}",
        f"{count} {shown(found)}",
    )


def _blame_extra(view: View, person: Person, extra: int) -> str:
    """Too much is unread."""
    talk = view.talk
    for invariant, reason in (
        ("I-1", person.wrote),
        ("I-9", talk.recalled),
        ("I-10", up_to(talk.expired)),
        ("I-12", ~up_to(talk.head)),
        ("I-18", ~talk.visible(person)),
        ("I-20", talk.uncounted),
    ):
        if extra & reason:
            return invariant
    if extra & view.before(person, "read") & ~person.again:
        return "I-4" if view.commands else "I-14"
    for who, command in view.done_here():
        kind = type(command).__name__
        if who == person.user and kind == "ReadConversation" and command.through >= talk.head:
            return "I-17"
        if who == person.user and kind == "ReadMessages":
            return "I-23"
    return "I-14"


def _blame_lost(view: View, known: Conversation, person: Person, lost: int) -> str:
    """Too little is unread."""
    member = known.members.get(person.user)
    read = bits(member.read._bounds, ANY_SEQ) if member is not None else 0
    if lost & person.again:
        return "I-16"
    done = view.done_here()
    if any(type(command).__name__ == "SendMessage" for _, command in done) and lost >> view.talk.head & 1:
        if lost & read:
            return "I-6"  # it was read before it was there
        return "I-20"
    if any(who != person.user and type(command).__name__ in _RECEIPTS for who, command in done):
        return "I-15"
    if any(type(command).__name__ == "RecallMessage" for _, command in done):
        return "I-9"
    if any(type(command).__name__ in ("AddMembers", "RemoveMembers", "CreateGroup") for _, command in done):
        return "I-18"
    return "I-14" if done or not view.commands else "I-11"


def _compare_sets(view: View, talk: Talk, person: Person, member: Member) -> None:
    kept = ~up_to(talk.expired) if talk.expired else -1
    shared = bits(member.read_shared._bounds, ANY_SEQ)
    if (shared ^ person.read_shared) & kept:
        _blame_shared(view, person, "read_shared", shared, kept)
    delivered = bits(member.delivered_shared._bounds, ANY_SEQ)
    if (delivered ^ person.delivered) & kept:
        _blame_shared(view, person, "delivered", delivered, kept)
    read = bits(member.read._bounds, ANY_SEQ)
    if (read ^ person.read) & kept:
        _blame_read(view, person, read, kept)
    devices = member.devices
    for device, held in person.held.items():
        known = devices.get(device)
        found = bits(known._bounds, ANY_SEQ) if known is not None else 0
        if (found ^ held) & kept:
            what = f"held by {person.user}'s {device}"
            raise view.wrong("I-24", what, shown(held & kept), shown(found & kept))
    if len(devices) > len(person.held) and not devices.keys() <= person.held.keys():
        raise view.wrong("I-24", f"devices of {person.user}", sorted(person.held), sorted(devices))


def _blame_shared(view: View, person: Person, name: str, found: int, kept: int) -> None:
    """What others see of a member is wrong."""
    talk = view.talk
    expected: int = getattr(person, name)
    extra, lost = found & ~expected & kept, expected & ~found & kept
    if lost:
        # A status fell; or what is due never came.
        invariant = "I-2" if lost & view.before(person, name) else "I-24"
    elif extra >> talk.head + 1:
        invariant = "I-6"
    elif not person.joined and not person.periods:
        invariant = "I-26"
    elif name == "read_shared":
        line = up_to(person.read_line)
        private = not person.shares_read or extra & line or extra & person.read
        invariant = "I-25" if private else "I-14"
    else:
        private = not person.shares_delivered or extra & up_to(person.delivered_line)
        invariant = "I-25" if private else "I-24"
    what = "shared as read" if name == "read_shared" else "shared as delivered"
    raise view.wrong(invariant, f"{what} by {person.user}", shown(expected & kept), shown(found & kept))


def _blame_read(view: View, person: Person, found: int, kept: int) -> None:
    """What a member has read is wrong, though no count shows it yet."""
    talk = view.talk
    extra, lost = found & ~person.read & kept, person.read & ~found & kept
    if lost & person.wrote:
        invariant = "I-1"
    elif lost:
        invariant = "I-4" if lost & view.before(person, "read") else "I-23"
    else:
        invariant = "I-6" if extra >> talk.head + 1 else "I-14"
    raise view.wrong(invariant, f"read by {person.user}", shown(person.read & kept), shown(found & kept))


def _compare_rest(view: View, person: Person, member: Member) -> None:
    user = person.user
    periods = tuple((one.from_seq, one.through) for _, one in sorted(member.periods.items()))
    if periods != person.periods:
        raise view.wrong("I-18", f"memberships of {user}", person.periods, periods)
    sharing = member.sharing
    said = (
        sharing.delivered,
        sharing.read,
        sharing.delivered_obscured_through,
        sharing.read_obscured_through,
    )
    meant = (person.shares_delivered, person.shares_read, person.delivered_line, person.read_line)
    if said != meant:
        raise view.wrong("I-25", f"sharing of {user}", meant, said)
    mark = member.unread_mark
    if (mark.flagged, bits(mark.ranges, ANY_SEQ)) != (person.flagged, person.again):
        raise view.wrong("I-16", f"the unread mark of {user}", (person.flagged, shown(person.again)), mark)
    if member.cleared_through != person.cleared:
        raise view.wrong("I-16", f"cleared by {user}", person.cleared, member.cleared_through)
    registers = member.registers
    muted = registers.get(Register.MUTED)
    if (muted is not None and bool(muted[1])) is not person.muted:
        raise view.wrong("I-20", f"muted by {user}", person.muted, muted)
    if view.talk.pair is None:
        role = registers.get(Register.ROLE)
        if role is None or role[1] != person.role.value:
            raise view.wrong("I-14", f"role of {user}", person.role, role)


def _compare_talk(view: View, talk: Talk, known: Conversation) -> None:
    if known.expired_through != talk.expired:
        raise view.wrong("I-10", "messages expired", talk.expired, known.expired_through)
    if known.receipts_expired_through != talk.receipts_expired:
        raise view.wrong("I-10", "receipts expired", talk.receipts_expired, known.receipts_expired_through)
    recalled = bits(known.recalled._bounds, ANY_SEQ)
    if recalled != talk.recalled:
        raise view.wrong("I-9", "recalled", shown(talk.recalled), shown(recalled))
    uncounted = bits(known.uncounted._bounds, ANY_SEQ)
    if uncounted != talk.uncounted:
        raise view.wrong("I-20", "not counting", shown(talk.uncounted), shown(uncounted))
    if known.asked.keys() != talk.asked.keys():
        late = known.asked.keys() - talk.asked.keys()
        orphan = any(seq <= talk.receipts_expired for seq in late)
        raise view.wrong("I-10" if orphan else "I-28", "asked", sorted(talk.asked), sorted(known.asked))
    for seq, answers in talk.asked.items():
        readers = known.asked[seq].readers
        if len(readers) != len(answers) or any(
            user not in answers or (one.at_ms, one.content) != answers[user] for user, one in readers.items()
        ):
            _blame_answers(view, seq, answers, readers)
    for register, value in (
        (Register.NAME, talk.name),
        (Register.DESCRIPTION, talk.description),
        (Register.DELETED, talk.dissolved),
    ):
        found = known.registers.get(register)
        if (found[1] if found is not None else type(value)()) != value:
            raise view.wrong("I-14", register.value, value, found)


def _blame_answers(view: View, seq: Seq, answers: dict[UserId, tuple[int, str]], readers: Any) -> None:
    author = view.talk.facts[seq - 1].author
    if author in readers:
        invariant = "I-26"
    elif readers.keys() - answers.keys():
        people = view.talk.people
        strangers = [user for user in readers if user not in people or not people[user].had(seq)]
        invariant = "I-19" if strangers else "I-25"
    else:
        invariant = "I-24" if answers.keys() - readers.keys() else "I-23"
    raise view.wrong(invariant, f"answers to #{seq}", answers, dict(readers))


# -- everything


def recount(view: View) -> None:
    """The oracle's own arithmetic, against counting message by message."""
    for person in view.talk.people.values():
        one, other = view.talk.recount(person), list(seqs_of_bits(view.talk.unread(person)))
        assert one == other, (view.talk.id, person.user, one, other)


def compare_whole(view: View, known: Conversation, *, statuses: int = STATUSES_AT_ONCE) -> None:
    """All of a conversation, with what can be asked about it.

    Args:
        statuses: For how many of the newest messages, and for how many others, statuses are asked.
    """
    talk = view.talk
    if known.head != talk.head:
        raise view.wrong("I-8" if known.head > talk.head else "I-24", "the head", talk.head, known.head)
    if known.members.keys() != talk.people.keys():
        raise view.wrong("I-19", "members", sorted(talk.people), sorted(known.members))
    for person in talk.people.values():
        member = known.members[person.user]
        _compare_unread(view, known, person)
        page = explain(known, person.user, limit=ANY_SEQ)
        if (
            page.seqs != tuple(seqs_of_bits(talk.unread(person)))
            or page.unread != len(page.seqs)
            or page.more
        ):
            raise view.wrong("I-12", f"explained to {person.user}", shown(talk.unread(person)), page)
        _compare_sets(view, talk, person, member)
        _compare_rest(view, person, member)
    _compare_talk(view, talk, known)
    _compare_statuses(view, talk, known, statuses)


def _compare_statuses(view: View, talk: Talk, known: Conversation, count: int) -> None:
    older = max(talk.head - count, 0)
    turn = view.moment % older if older else 0
    for fact in (*talk.facts[-count:], *talk.facts[turn : min(turn + count, older)]):
        seq = fact.seq
        if known.audience(seq, fact.author) != tuple(talk.audience(seq, fact.author)):
            raise view.wrong(
                "I-19",
                f"audience of #{seq}",
                talk.audience(seq, fact.author),
                known.audience(seq, fact.author),
            )
        if seq <= talk.expired:
            continue
        for user in talk.people:
            _compare_status(view, talk, known, seq, user)


def _compare_status(view: View, talk: Talk, known: Conversation, seq: Seq, user: UserId) -> None:
    status = known.status(seq, user)
    meant = talk.status(seq, user)
    if status != meant:
        raise view.wrong("I-2" if status < meant else "I-25", f"status of #{seq} with {user}", meant, status)
    delivered, read = known.is_delivered(seq, user), known.is_read(seq, user)
    _compare_known(view, seq, user, "delivered", delivered, talk.is_delivered(seq, user))
    _compare_known(view, seq, user, "read", read, talk.is_read(seq, user))
    if user != talk.facts[seq - 1].author and known.read_at(seq, user) != talk.read_at(seq, user):
        found_at = known.read_at(seq, user)
        raise view.wrong("I-14", f"when #{seq} was read by {user}", talk.read_at(seq, user), found_at)


def _compare_known(view: View, seq: Seq, user: UserId, what: str, found: object, true: object) -> None:
    if found is not true and found != true:
        invariant = "I-25" if true == "sharing_off" else "I-28"
        raise view.wrong(invariant, f"whether #{seq} is {what} for {user}", true, found)


# -- on disk


class Stored:
    """Compares conversations on disk with what happened.

    What such a comparison finds follows from the rows and the facts alone. So it is not repeated for as long
    as both are, value by value, what they were when they agreed.
    """

    def __init__(self) -> None:
        self._agreed: dict[Talk, tuple[Any, ...]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a world finds out by itself what agrees."""
        return Stored, ()

    def compare(self, view: View, store: Store, rows: ConversationRows) -> None:
        """What a new process would load, and the messages that it would find.

        Args:
            rows: Of the conversation.
        """
        talk = view.talk
        messages = store.history(rows.row.key, (1, talk.head + 2), ANY_SEQ)
        looked_at = (rows, messages, _facts_of(talk))
        if self._agreed.get(talk) == looked_at:
            return
        compare_whole(view, load_conversation(rows), statuses=STORED_STATUSES)
        compare_rows(view, messages, rows)
        self._agreed[talk] = looked_at


STORED_STATUSES = 2
"""The same for a conversation on disk."""

_all_of_person = attrgetter(*(name for name in Person.__slots__ if name != "held"))
_all_of_talk = attrgetter(
    *(name for name in Talk.__slots__ if name not in ("asked", "due", "facts", "people"))
)


def _facts_of(talk: Talk) -> tuple[Any, ...]:
    """Everything about a conversation, to be compared with what it was. A message never changes but for its
    id, which is heard of later."""
    return (
        _all_of_talk(talk),
        talk.facts.copy(),
        [fact.message_id for fact in talk.facts],
        {user: (_all_of_person(person), person.held.copy()) for user, person in talk.people.items()},
        {seq: answers.copy() for seq, answers in talk.asked.items()},
        talk.due.copy(),
    )


def compare_rows(view: View, found: Sequence[MessageRow], rows: ConversationRows) -> None:
    """Messages on disk: dense, in order, whole, and nothing of those that are gone (I-8, I-10).

    Args:
        found: All of them, with bodies.
        rows: The conversation that they are of.
    """
    talk = view.talk
    if [row.seq for row in found] != list(range(talk.expired + 1, talk.head + 1)):
        raise view.wrong("I-8", "the messages kept", f"#{talk.expired + 1} to #{talk.head}", len(found))
    for row in found:
        fact = talk.facts[row.seq - 1]
        body = "" if talk.recalled >> row.seq & 1 else fact.body
        if (row.author, row.at_ms, row.counts, bool(row.asks), row.body) != (
            fact.author,
            fact.at_ms,
            fact.counts,
            fact.asks,
            body,
        ):
            raise view.wrong("I-14", f"#{row.seq} as kept", (fact.author, fact.at_ms, body), row)
        if fact.message_id not in (0, row.message_id):
            raise view.wrong("I-8", f"the id of #{row.seq}", fact.message_id, row.message_id)
    kept = {receipt.seq for receipt in rows.receipts} | {ask.seq for ask in rows.asks}
    if kept - talk.asked.keys():
        raise view.wrong("I-10", "receipts without their message", sorted(talk.asked), sorted(kept))


def compare_accounts(oracle: Oracle, store: Store) -> None:
    """Accounts, devices and numbers of sends, as a new process meets them."""
    for (app, user), account in oracle.accounts.items():
        rows = store.user(app, user)
        if rows is None:
            raise Violation("I-24", f"the account of {user} is not on disk")
        row = rows.user
        said = (row.removed, row.share_delivered, row.share_read)
        meant = (account.removed, account.shares_delivered, account.shares_read)
        if said != meant:
            raise Violation("I-24", f"the account of {user} is another one on disk", f"{meant} / {said}")
        known = sorted(name for name, one in account.devices.items() if not one.removed)
        stored = sorted(one.device for one in rows.devices if not one.removed)
        if known != stored:
            raise Violation("I-24", f"the devices of {user} are others on disk", f"{known} / {stored}")
        for install, sent in account.installs.items():
            if not sent:
                continue
            kept = store.install(app, user, install)
            if kept is None or kept[1] != max(sent):
                raise Violation("I-23", f"numbers of {user}'s {install}", f"{max(sent)} / {kept}")


# -- for runs that differ in clocks


def logical(oracle: Oracle) -> Any:
    """All that happened, without times, ids and versions."""
    return {
        f"{talk.app} {talk.id}": {
            "messages": [
                [fact.author, fact.device, fact.body, fact.counts, fact.asks] for fact in talk.facts
            ],
            "recalled": talk.recalled,
            "expired": [talk.expired, talk.receipts_expired],
            "asked": {
                seq: {user: content for user, (_, content) in sorted(answers.items())}
                for seq, answers in sorted(talk.asked.items())
            },
            "people": {user: _logical_person(talk, one) for user, one in sorted(talk.people.items())},
        }
        for _, talk in sorted(oracle.talks.items())
    }


def _logical_person(talk: Talk, person: Person) -> Collection[Any]:
    return [
        person.read,
        person.read_shared,
        person.delivered,
        sorted(person.held.items()),
        person.periods,
        person.cleared,
        person.flagged,
        person.again,
        [person.shares_read, person.shares_delivered, person.read_line, person.delivered_line],
        person.muted,
        person.role.value,
        talk.unread(person),
    ]
