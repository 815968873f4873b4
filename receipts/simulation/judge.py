"""Whether what the node says is what it has to say, and whose failure it is if not.

`agrees` compares an update with an expectation of the `oracle`; `blame` gives a difference the id of the
invariant that a person would look under. Nothing is remembered here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from receipts.core import events
from receipts.core.ids import Seq
from receipts.wire import updates

from .facts import Fact, Talk, bits, seqs_of_bits
from .oracle import ANYTHING, Expected, Oracle

__all__ = ["agrees", "blame", "ranges_agree", "shown"]

ANY_SEQ: Seq = 1 << 20
"""Beyond it no run comes; ranges are cut off there, because a set of bits is as long as its highest seq."""


def agrees(oracle: Oracle, update: Any, expected: Expected) -> bool:
    """Whether an update says what was expected. Numbers that the node chooses are taken over from it."""
    judge = _JUDGES.get(type(update))
    if judge is None or judge[0] != expected.kind:
        return False
    return judge[1](oracle, update, expected.content)


def ranges_agree(ranges: Sequence[int], expected: int) -> bool:
    """Whether half-open ranges hold exactly a set."""
    return bits(ranges, ANY_SEQ) == expected


def shown(found: int) -> str:
    """A set for people."""
    return "{" + ", ".join(map(str, seqs_of_bits(found))) + "}"


# -- what goes out


def _accepted(oracle: Oracle, update: updates.Accepted, content: Any) -> bool:
    rid, talk, fact, number = content
    return (
        update.rid == rid
        and update.conversation == talk.id
        and update.seq == fact.seq
        and update.at_ms == fact.at_ms
        and update.number == number
        and _id_agrees(talk, fact, update.message_id)
    )


def _message(oracle: Oracle, update: events.MessageAccepted, content: Any) -> bool:
    talk, fact = content
    return (
        update.conversation == talk.id
        and message_agrees(talk, fact, update)
        and update.device == fact.device
        and update.shares == fact.shares
    )


def message_agrees(talk: Talk, fact: Fact, message: events.MessageAccepted) -> bool:
    """Whether this is that message; which device sent it is not told to everybody."""
    return (
        message.seq == fact.seq
        and message.author == fact.author
        and message.at_ms == fact.at_ms
        and message.body == fact.body
        and message.counts == fact.counts
        and message.asks is fact.asks
        and _id_agrees(talk, fact, message.message_id)
    )


def _id_agrees(talk: Talk, fact: Fact, message_id: int) -> bool:
    """Ids are even, and rise with the seqs of a conversation (I-8)."""
    if fact.message_id == 0:
        before = talk.facts[fact.seq - 2].message_id if fact.seq > 1 else 0
        if message_id & 1 or message_id <= before:
            return False
        fact.message_id = message_id
    return fact.message_id == message_id


def _delivered(oracle: Oracle, update: updates.Delivered, content: Any) -> bool:
    talk, member, found = content
    return update.conversation == talk.id and update.member == member and ranges_agree(update.ranges, found)


def _read(oracle: Oracle, update: updates.Read, content: Any) -> bool:
    talk, member, found, at_ms, by, last = content
    if not (
        update.conversation == talk.id
        and update.member == member
        and ranges_agree(update.ranges, found)
        and update.at_ms == at_ms
        and update.by == by
        and update.through == last
        and update.version >= talk.version
    ):
        return False
    if update.version > talk.version:
        oracle.adopt(talk, "version", update.version)
    return True


def _group_read(oracle: Oracle, update: updates.GroupRead, content: Any) -> bool:
    talk, seq, count, readers = content
    said = tuple((reader.user, reader.at_ms, reader.content) for reader in update.readers)
    return update.conversation == talk.id and (update.seq, update.count, said) == (seq, count, readers)


def _unread_marked(oracle: Oracle, update: events.UnreadMarked, content: Any) -> bool:
    talk, person, flagged, again, least = content
    if not (
        update.conversation == talk.id
        and update.member == person.user
        and update.flagged is flagged
        and ranges_agree(update.ranges, again)
        and update.version >= least
    ):
        return False
    oracle.adopt(person, "mark_version", update.version)
    return True


def _recalled(oracle: Oracle, update: events.MessageRecalled, content: Any) -> bool:
    talk, seq, by, at_ms = content
    return (update.conversation, update.seq, update.by, update.at_ms) == (talk.id, seq, by, at_ms)


def _cleared(oracle: Oracle, update: events.HistoryCleared, content: Any) -> bool:
    talk, member, last = content
    return (update.conversation, update.member, update.through) == (talk.id, member, last)


def _expired(oracle: Oracle, update: Any, content: Any) -> bool:
    talk, last = content
    return (update.conversation, update.through) == (talk.id, last)


def _joined(oracle: Oracle, update: events.MemberJoined, content: Any) -> bool:
    talk, member, first = content
    return (update.conversation, update.member, update.from_seq) == (talk.id, member, first)


def _left(oracle: Oracle, update: events.MemberLeft, content: Any) -> bool:
    talk, member, last = content
    return (update.conversation, update.member, update.through) == (talk.id, member, last)


def _sharing(oracle: Oracle, update: events.SharingChanged, content: Any) -> bool:
    talk, *rest = content
    said = [
        update.member,
        update.delivered,
        update.read,
        update.delivered_obscured_through,
        update.read_obscured_through,
    ]
    return bool(update.conversation == talk.id and said == rest)


def _register(oracle: Oracle, update: events.RegisterSet, content: Any) -> bool:
    talk, member, register, value = content
    said = (update.conversation, update.member, update.register, update.value)
    return said == (talk.id, member, register, value)


def _newcomer(oracle: Oracle, update: updates.ConversationPart, content: Any) -> bool:
    """What somebody who was let in is told: who is there, and nothing of what was said or read."""
    talk, user, head, people = content
    return (
        update.conversation == talk.id
        and update.head == head
        and not update.messages
        and not update.asked
        and {part.user for part in update.members} == people.keys()
        and all(_member_agrees(part, people[part.user], user) for part in update.members)
    )


def _member_agrees(part: updates.MemberPart, periods: tuple[Any, ...], me: str) -> bool:
    if part.read or part.read_shared or part.delivered_shared or part.held or part.advances:
        return False
    if tuple((one.from_seq, one.through) for _, one in sorted(part.periods)) != periods:
        return False
    plain = part.sharing.version == 0 and part.unread_mark.version == 0 and not part.cleared_through
    return plain or part.user == me


def _done(oracle: Oracle, update: Any, content: Any) -> bool:
    return bool(update.rid == content[0])


def _rejected(oracle: Oracle, update: updates.Rejected, content: Any) -> bool:
    rid, code, ranges, _, limit = content
    if update.rid != rid or (code != ANYTHING and update.code != code):
        return False
    if code == "beyond_head":
        return update.limit == limit and update.ranges == (ranges[0], ranges[1] + 1)
    if code == "rate_limited" and not update.retry_after_ms > 0:
        return False
    return ranges_agree(update.ranges, ranges) and (limit is None or update.limit == limit)


def _goodbye(oracle: Oracle, update: updates.Goodbye, content: Any) -> bool:
    return content[0] in (ANYTHING, update.code)


def _welcome(oracle: Oracle, update: updates.Welcome, content: Any) -> bool:
    rid, user, device, number, resume = content
    said = (update.rid, update.user, update.device, update.number)
    return said == (rid, user, device, number) and (resume is not None or update.full)


def _members(oracle: Oracle, update: updates.Members, content: Any) -> bool:
    shown = tuple((one.user, one.role, one.from_seq) for one in update.members)
    said = (
        update.rid,
        update.conversation,
        update.name,
        update.description,
        update.count,
        shown,
        update.more,
    )
    return bool(said == content)


def _readers(oracle: Oracle, update: updates.Readers, content: Any) -> bool:
    def lines(readers: Sequence[updates.Reader]) -> tuple[Any, ...]:
        return tuple((one.user, one.at_ms, one.content, one.left) for one in readers)

    said = (
        update.rid,
        update.conversation,
        update.seq,
        update.unknown,
        update.audience,
        update.count,
        lines(update.readers),
        lines(update.waiting),
        update.more,
    )
    return bool(said == content)


def _statuses(oracle: Oracle, update: updates.Statuses, content: Any) -> bool:
    rid, where, items = content
    return (update.rid, update.conversation) == (rid, where) and _status_lines(update) == items


def _status_lines(update: updates.Statuses) -> tuple[Any, ...]:
    return tuple(
        (
            one.seq,
            one.user,
            int(one.status),
            one.delivered,
            one.read,
            one.read_at_ms,
            tuple((known.device, known.held) for known in one.devices),
        )
        for one in update.items
    )


def _devices(oracle: Oracle, update: updates.Devices, content: Any) -> bool:
    said = tuple((one.device, one.seen_ms, one.online) for one in update.items)
    return bool((update.rid, said) == content)


_JUDGES: dict[type, tuple[str, Callable[[Oracle, Any, Any], bool]]] = {
    updates.Accepted: ("Accepted", _accepted),
    events.MessageAccepted: ("MessageAccepted", _message),
    updates.Delivered: ("Delivered", _delivered),
    updates.Read: ("Read", _read),
    updates.GroupRead: ("GroupRead", _group_read),
    events.UnreadMarked: ("UnreadMarked", _unread_marked),
    events.MessageRecalled: ("MessageRecalled", _recalled),
    events.HistoryCleared: ("HistoryCleared", _cleared),
    events.MessagesExpired: ("MessagesExpired", _expired),
    events.GroupReceiptsExpired: ("GroupReceiptsExpired", _expired),
    events.MemberJoined: ("MemberJoined", _joined),
    events.MemberLeft: ("MemberLeft", _left),
    events.SharingChanged: ("SharingChanged", _sharing),
    events.RegisterSet: ("RegisterSet", _register),
    updates.ConversationPart: ("ConversationPart", _newcomer),
    updates.Done: ("Done", _done),
    updates.Rejected: ("Rejected", _rejected),
    updates.Goodbye: ("Goodbye", _goodbye),
    updates.Welcome: ("Welcome", _welcome),
    updates.Members: ("Members", _members),
    updates.Readers: ("Readers", _readers),
    updates.Statuses: ("Statuses", _statuses),
    updates.Devices: ("Devices", _devices),
    updates.Pong: ("Pong", _done),
}


# -- whose failure it is


def blame(oracle: Oracle, missing: list[Expected], extra: list[tuple[tuple[int, ...], Any]]) -> str:
    """The invariant that is broken when the node did not say `missing`, and said `extra` instead."""
    for _, update in extra:
        if isinstance(update, updates.Accepted) and not any(one.kind == "Rejected" for one in missing):
            return "I-23"  # one send became two messages, or another one
    for to, update in extra:
        twin = next((one for one in missing if one.kind == type(update).__name__), None)
        found = _BLAME.get(type(update))
        if found is not None:
            return found(oracle, to, update, twin)
    for one in missing:
        if one.kind == "Read" and _is_echo(oracle, one):
            return "I-16"
        if one.kind in _MISSED:
            return _MISSED[one.kind]
    return "I-29"


def _is_echo(oracle: Oracle, read: Expected) -> bool:
    """Whether it is for the reader's own other devices."""
    logins = [oracle.logins.get(session) for session in read.to]
    return any(login is not None and login.account.user == read.content[1] for login in logins)


def _blame_marks(oracle: Oracle, to: tuple[int, ...], update: Any, twin: Expected | None) -> str:
    """`Delivered` or `Read` that should not be, or not like this."""
    app = next((login.account.app for login in map(oracle.logins.get, to) if login is not None), "default")
    talk = oracle.talks.get((app, update.conversation))
    person = talk.people.get(update.member) if talk is not None else None
    if talk is None or person is None:
        return "I-27"
    told = bits(update.ranges, ANY_SEQ)
    if told >> talk.head + 1:
        return "I-6"
    listeners = {login.account.user for login in map(oracle.logins.get, to) if login is not None}
    if update.member not in listeners:
        entitled = set(talk.pair or ())
        if not listeners <= entitled:
            return "I-21"
        known = person.read_shared if isinstance(update, updates.Read) else person.delivered
        if told & ~known:
            return "I-25" if told & ~known & (person.read | ~0) else "I-4"
    elif twin is None:
        return "I-21"
    expected = twin.content[2] if twin is not None else 0
    if told & ~expected:
        return "I-4"  # what is told is not new
    return "I-21" if twin is None or set(to) != set(twin.to) else "I-23"


def _blame_group_read(oracle: Oracle, to: tuple[int, ...], update: Any, twin: Expected | None) -> str:
    if twin is None:
        return "I-21"
    _, seq, count, _ = twin.content
    if set(to) != set(twin.to):
        return "I-21"
    if update.seq == seq and update.count != count:
        return "I-19"
    return "I-23"


def _blame_message(oracle: Oracle, to: tuple[int, ...], update: Any, twin: Expected | None) -> str:
    if twin is None:
        return "I-21"
    _, fact = twin.content
    if set(to) != set(twin.to):
        return "I-21" if set(to) > set(twin.to) else "I-24"
    if update.seq != fact.seq or update.message_id & 1:
        return "I-8"
    return "I-25" if update.shares != fact.shares else "I-20" if update.counts != fact.counts else "I-8"


def _blame_rejected(oracle: Oracle, to: tuple[int, ...], update: Any, twin: Expected | None) -> str:
    code = str(update.code)
    if twin is not None and twin.content[1] != ANYTHING:
        code = twin.content[1]  # what it should have been
    return _BY_CODE.get(code, "I-29")


_BY_CODE = {
    "beyond_head": "I-6",
    "own_message": "I-26",
    "not_in_audience": "I-19",
    "not_a_member": "I-27",
    "unknown_conversation": "I-27",
    "unknown_message": "I-12",
    "expired": "I-28",
    "not_asked": "I-28",
    "client_id_reused": "I-23",
    "too_many_gaps": "I-21",
    "group_too_large": "I-22",
    "too_many": "I-22",
}


def _blame_statuses(oracle: Oracle, to: tuple[int, ...], update: Any, twin: Expected | None) -> str:
    if twin is None:
        return "I-29"
    said, meant = _status_lines(update), twin.content[2]
    if [line[:2] for line in said] != [line[:2] for line in meant]:
        return "I-19"
    for one, other in zip(said, meant, strict=True):
        if one == other:
            continue
        if one[2] < other[2]:
            return "I-2"
        for found, true in (one[3:5], other[3:5]), (one[4:6], other[4:6]):
            if found[0] != true[0] and isinstance(true[0], str):
                return "I-25" if true[0] == "sharing_off" else "I-28"
        return "I-25" if one[2] > other[2] else "I-14"
    return "I-29"


def _blame_readers(oracle: Oracle, to: tuple[int, ...], update: Any, twin: Expected | None) -> str:
    if twin is None:
        return "I-29"
    if update.unknown != twin.content[3]:
        return "I-28"
    return "I-22" if update.more != twin.content[8] else "I-19"


def _blame_members(oracle: Oracle, to: tuple[int, ...], update: Any, twin: Expected | None) -> str:
    return "I-22" if twin is not None and update.more != twin.content[6] else "I-14"


def _always(invariant: str) -> Callable[[Oracle, tuple[int, ...], Any, Expected | None], str]:
    return lambda oracle, to, update, twin: invariant


def _private(invariant: str) -> Callable[[Oracle, tuple[int, ...], Any, Expected | None], str]:
    """What is a member's own: told to somebody else it is a leak."""

    def found(oracle: Oracle, to: tuple[int, ...], update: Any, twin: Expected | None) -> str:
        listeners = {login.account.user for login in map(oracle.logins.get, to) if login is not None}
        return "I-25" if listeners - {update.member} else invariant

    return found


_BLAME: dict[type, Callable[[Oracle, tuple[int, ...], Any, Expected | None], str]] = {
    updates.Read: _blame_marks,
    updates.Delivered: _blame_marks,
    updates.GroupRead: _blame_group_read,
    events.MessageAccepted: _blame_message,
    events.UnreadMarked: _private("I-16"),
    events.HistoryCleared: _private("I-16"),
    events.SharingChanged: _private("I-25"),
    events.MessageRecalled: _always("I-9"),
    events.MessagesExpired: _always("I-10"),
    events.GroupReceiptsExpired: _always("I-10"),
    events.MemberJoined: _always("I-18"),
    events.MemberLeft: _always("I-18"),
    events.RegisterSet: _always("I-21"),
    updates.ConversationPart: _always("I-25"),
    updates.Accepted: _always("I-23"),
    updates.Rejected: _blame_rejected,
    updates.Statuses: _blame_statuses,
    updates.Readers: _blame_readers,
    updates.Members: _blame_members,
    updates.Devices: _always("I-14"),
    updates.Welcome: _always("I-23"),
}
_MISSED = {
    "Read": "I-24",
    "Delivered": "I-24",
    "GroupRead": "I-24",
    "MessageAccepted": "I-24",
    "UnreadMarked": "I-16",
    "HistoryCleared": "I-16",
    "SharingChanged": "I-16",
    "MessageRecalled": "I-9",
    "MessagesExpired": "I-10",
    "GroupReceiptsExpired": "I-10",
    "MemberJoined": "I-19",
    "MemberLeft": "I-19",
    "RegisterSet": "I-16",
    "ConversationPart": "I-13",
    "Rejected": "I-29",
    "Done": "I-29",
}
