"""One conversation as a join: the pure state machine.

`Conversation.apply(event)` is the only way in; a stored message, which is its event in another form, may take
`apply_message`. It checks first and then changes, so a refused event leaves no trace. Applying events in any
order, any number of times, gives one state (I-2, I-3, I-23), and so does `merge`-ing the states of two
replicas: live updates, catch-up and snapshots are the same thing (Shapiro et al. 2011, state-based joins).

Nothing here decides anything; see `decide` for that. No clock, no chance, no I/O. State costs one entry per
member and device, one range per gap, and one entry per message that asked for group receipts until it
expires; it does not grow with the number of messages that were read in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, Self

from . import events
from .errors import Code, LocalProtocolError, Refused
from .ids import ConversationId, ConversationKind, DeviceId, Seq, UserId, Version, direct, direct_members
from .member import Advance, Member, Period, Sharing, UnreadMark, set_register
from .ranges import Ranges, RangeSet, check_ranges, count
from .status import Status, Unknown

__all__ = ["Asked", "Conversation", "Message", "Receipt", "join"]


class Message(Protocol):
    """What the machine asks of a message: an event, or a row of storage. Numbers as in `ids`."""

    @property
    def seq(self) -> Seq: ...
    @property
    def author(self) -> UserId: ...
    @property
    def device(self) -> DeviceId: ...
    @property
    def counts(self) -> int: ...
    @property
    def asks(self) -> bool: ...
    @property
    def shares(self) -> int: ...


class Receipt(tuple[Version, int, str]):
    """One reader's answer: (version, when in ms, content). Compares by version first."""

    __slots__ = ()

    @property
    def version(self) -> Version:
        return self[0]

    @property
    def at_ms(self) -> int:
        return self[1]

    @property
    def content(self) -> str:
        return self[2]


class Asked:
    """A message that asked for group receipts, and who answered."""

    __slots__ = ("author", "readers")

    def __init__(self, author: UserId | None = None) -> None:
        self.author = author
        """None while an answer is here before its message."""
        self.readers: dict[UserId, Receipt] = {}
        """One entry per reader; absent means not read."""


class Conversation:
    """The joined state of one conversation."""

    __slots__ = (
        "asked",
        "expired_through",
        "head",
        "id",
        "kind",
        "members",
        "recalled",
        "receipts_expired_through",
        "registers",
        "uncounted",
    )

    def __init__(self, conversation: ConversationId, kind: ConversationKind) -> None:
        self.id = conversation
        self.kind = kind
        self.head: Seq = 0
        """The highest seq heard of; 0 when there is no message."""
        self.members: dict[UserId, Member] = {}
        """One entry per user who was ever heard of here, leavers included."""
        self.recalled = RangeSet()
        self.uncounted = RangeSet()
        """Messages that never count as unread."""
        self.asked: dict[Seq, Asked] = {}
        """One entry per message that asked for group receipts and has not expired."""
        self.expired_through: Seq = 0
        """Messages up to and including this one are gone by retention."""
        self.receipts_expired_through: Seq = 0
        """Group receipts up to and including this message are gone."""
        self.registers: dict[events.Register, tuple[Version, events.RegisterValue]] = {}

    @classmethod
    def between(cls, one: UserId, other: UserId) -> Self:
        """The conversation of two users, empty.

        Raises:
            LocalProtocolError: The two are the same, or one is not a user id.
        """
        chat = cls(direct(one, other), ConversationKind.DIRECT)
        chat._seat_both()
        return chat

    @classmethod
    def group(cls, conversation: ConversationId, members: Iterable[UserId] = ()) -> Self:
        """A group, empty; `members` are in it from the beginning (version 0, from #1)."""
        chat = cls(conversation, ConversationKind.GROUP)
        for user in members:
            chat.member(user).open_period(0, Period(1))
        return chat

    @classmethod
    def named(cls, conversation: ConversationId) -> Self:
        """The empty conversation that this id stands for: of two users, or a group without members."""
        kind = ConversationKind.DIRECT if direct_members(conversation) else ConversationKind.GROUP
        chat = cls(conversation, kind)
        if kind is ConversationKind.DIRECT:
            chat._seat_both()
        return chat

    def _seat_both(self) -> None:
        both = direct_members(self.id)
        if both is None:
            raise LocalProtocolError(f"{self.id!r} does not name two users")
        for user in both:
            self.member(user).open_period(0, Period(1))

    # -- the way in

    def apply(self, event: events.Event) -> None:
        """Join one event into the state. Repeats, any order and events from long ago are all fine.

        Raises:
            LocalProtocolError: The event is about another conversation, or is malformed (ranges that do not
                increase, a seq below 1). Nothing changed.
            Refused: `not_a_member`: the conversation is between two others (I-27). Nothing changed.
        """
        if event.conversation != self.id:
            raise LocalProtocolError(f"an event of {event.conversation!r} does not belong to {self.id!r}")
        _APPLY[type(event)](self, event)

    def apply_message(self, message: Message) -> None:
        """Join one message of this conversation, as `apply` joins its event.

        Raises:
            LocalProtocolError: A seq below 1. Nothing changed.
            Refused: `not_a_member`: the conversation is between two others (I-27). Nothing changed.
        """
        seq = message.seq
        if seq < 1:
            raise _no_seq(seq)
        stop = seq + 1
        author = self.members.get(message.author) or self.member(message.author)
        if seq > self.head:
            self.head = seq
        author.read.add(seq, stop)
        shares = message.shares
        if shares & 1:
            author.delivered_shared.add(seq, stop)
        if shares & 2:
            author.read_shared.add(seq, stop)
        if message.device:
            try:
                author.devices[message.device].add(seq, stop)
            except KeyError:
                author.held(message.device).add(seq, stop)
        if message.counts and seq > self.expired_through:
            self.uncounted.add(seq, stop)
        if message.asks and seq > self.receipts_expired_through:
            self._asked(seq).author = message.author

    def member(self, user: UserId) -> Member:
        """What is known of a user here; an empty entry is made for somebody new. To only look, use `members`.

        Raises:
            Refused: `not_a_member`: the conversation is between two others (I-27).
        """
        found = self.members.get(user)
        if found is None:
            if self._outsider(user):
                raise Refused(Code.NOT_A_MEMBER, f"{user} is not in {self.id}")
            found = self.members[user] = Member()
        return found

    def _outsider(self, user: UserId) -> bool:
        """Whether `user` can never be in here. Who is in a group is not known before all events are."""
        return self.kind is ConversationKind.DIRECT and user not in (direct_members(self.id) or ())

    def _delivery_marked(self, event: events.DeliveryMarked) -> None:
        held, shared = event.held, event.shared
        check_ranges(held)
        if shared is not held:
            check_ranges(shared)
        member = self.members.get(event.member) or self.member(event.member)
        if held and event.device:
            try:
                member.devices[event.device].update(held)
            except KeyError:
                member.held(event.device).update(held)
        if shared:
            member.delivered_shared.update(shared)
        if event.withheld:
            check_ranges(event.withheld)
            member.withheld.update(event.withheld)

    def _read_marked(self, event: events.ReadMarked) -> None:
        read, shared, held = event.read, event.shared, event.held
        check_ranges(read)
        if shared is not read:
            check_ranges(shared)
        if held and held is not read:
            check_ranges(held)
        delivered = event.delivered
        if delivered and delivered is not read:
            check_ranges(delivered)
        member = self.members.get(event.member) or self.member(event.member)
        if read:
            member.read.update(read)
        if held and event.device:
            member.held(event.device).update(held)
        if shared:
            if shared is not read:
                member.read.update(shared)
            member.read_shared.update(shared)
            member.delivered_shared.update(shared)  # READ implies DELIVERED
            member.remember(Advance(event.version, event.at_ms, shared, event.by))
        if delivered:
            member.delivered_shared.update(delivered)

    def _group_read_marked(self, event: events.GroupReadMarked) -> None:
        seq = event.seq
        if seq < 1:
            raise _no_seq(seq)
        if self._outsider(event.member):
            raise Refused(Code.NOT_A_MEMBER, f"{event.member} is not in {self.id}")
        if seq <= self.receipts_expired_through:
            return
        readers = (self.asked.get(seq) or self._asked(seq)).readers
        receipt = Receipt((event.version, event.at_ms, event.content))
        known = readers.get(event.member)
        if known is None or receipt < known:
            readers[event.member] = receipt

    def _group_receipts_expired(self, event: events.GroupReceiptsExpired) -> None:
        self._drop_receipts(event.through)

    def _drop_receipts(self, through: Seq) -> None:
        if through > self.receipts_expired_through:
            self.receipts_expired_through = through
            for seq in [seq for seq in self.asked if seq <= through]:
                del self.asked[seq]

    def _unread_marked(self, event: events.UnreadMarked) -> None:
        check_ranges(event.ranges)
        self.member(event.member).set_unread_mark(UnreadMark(event.version, event.flagged, event.ranges))

    def _message_recalled(self, event: events.MessageRecalled) -> None:
        _check_seq(event.seq)
        self.head = max(self.head, event.seq)
        if event.seq > self.expired_through:
            self.recalled.add(event.seq, event.seq + 1)

    def _messages_expired(self, event: events.MessagesExpired) -> None:
        if event.through > self.expired_through:
            self.expired_through = event.through
            self.head = max(self.head, event.through)
            self.recalled.drop_through(event.through)
            self.uncounted.drop_through(event.through)
            self._drop_receipts(event.through)

    def _history_cleared(self, event: events.HistoryCleared) -> None:
        member = self.member(event.member)
        member.cleared_through = max(member.cleared_through, event.through)

    def _member_joined(self, event: events.MemberJoined) -> None:
        _check_seq(event.from_seq)
        self.member(event.member).open_period(event.version, Period(event.from_seq))

    def _member_left(self, event: events.MemberLeft) -> None:
        self.member(event.member).close_period(event.joined, event.through)

    def _sharing_changed(self, event: events.SharingChanged) -> None:
        self.member(event.member).set_sharing(
            Sharing(
                event.version,
                event.delivered,
                event.read,
                event.delivered_obscured_through,
                event.read_obscured_through,
            )
        )

    def _register_set(self, event: events.RegisterSet) -> None:
        if event.member is not None:
            self.member(event.member).set_register(event.register, event.version, event.value)
            return
        set_register(self.registers, event.register, event.version, event.value)

    def _asked(self, seq: Seq) -> Asked:
        found = self.asked.get(seq)
        if found is None:
            found = self.asked[seq] = Asked()
        return found

    # -- unread

    def visible(self, user: UserId) -> tuple[Seq, Seq]:
        """What may count for a member: [start, stop). Empty (start == stop) for who is not a member now."""
        member = self.members.get(user)
        return self._visible(member) if member is not None else (self.head + 1, self.head + 1)

    def _visible(self, member: Member) -> tuple[Seq, Seq]:
        period = member.period
        stop = self.head + 1
        if period is None or period.through is not None:
            return stop, stop
        start = max(period.from_seq, member.cleared_through + 1, self.expired_through + 1)
        return min(start, stop), stop

    def unread_ranges(self, user: UserId) -> Ranges:
        """The seqs behind `unread`: visible, not read (or marked unread again), not recalled, counting."""
        member = self.members.get(user)
        if member is None:
            return ()
        start, stop = window = self._visible(member)
        if start == stop:
            return ()
        unread = member.read.missing(window)
        mark = member.unread_mark.ranges
        if mark:
            again = RangeSet(mark)
            unread = _union(unread, again.within(window))
        if unread and self.recalled:
            unread = self.recalled.missing(unread)
        if unread and self.uncounted:
            unread = self.uncounted.missing(unread)
        return unread

    def unread(self, user: UserId) -> int:
        """How many messages wait unread for a member: 0 <= unread <= visible (I-5). 0 for a non-member."""
        return count(self.unread_ranges(user))

    def marked_unread(self, user: UserId) -> bool:
        """Whether the member marked the conversation as unread by hand and nothing cleared that since.

        A mark from a message on ends with its messages: when they are behind the floor (left, cleared,
        expired) there is nothing left to open.
        """
        member = self.members.get(user)
        if member is None:
            return False
        mark = member.unread_mark
        if mark.flagged or not mark.ranges:
            return mark.flagged
        start, stop = self._visible(member)
        return start < stop and bool(RangeSet(mark.ranges).within((start, stop)))

    # -- what others may know

    def status(self, seq: Seq, user: UserId) -> Status:
        """How far message `seq` is known to have come with `user`.

        Never falls (I-2), but for what expiry forgets on purpose: see `is_read` for the difference.
        """
        member = self.members.get(user)
        if member is not None:
            receipts = self.asked.get(seq)
            if seq in member.read_shared or (receipts is not None and user in receipts.readers):
                return Status.READ
            if seq in member.delivered_shared:
                return Status.DELIVERED
        return Status.ACKED if 0 < seq <= self.head else Status.SENT

    def is_delivered(self, seq: Seq, user: UserId) -> bool | Unknown:
        """Whether `user` has the message, or why that cannot be told."""
        if (gone := self._gone(seq)) is not None:
            return gone
        if self.status(seq, user) >= Status.DELIVERED:
            return True
        member = self.members.get(user)
        if member is None or not member.in_audience(seq):
            return Unknown.NOT_IN_AUDIENCE
        sharing = member.sharing
        if not sharing.delivered or seq <= sharing.delivered_obscured_through:
            return Unknown.SHARING_OFF
        return False

    def is_read(self, seq: Seq, user: UserId) -> bool | Unknown:
        """Whether `user` read the message, or why that cannot be told.

        In a group only messages that asked have an answer.
        """
        if (gone := self._gone(seq)) is not None:
            return gone
        if self.kind is ConversationKind.GROUP:
            if seq <= self.receipts_expired_through:
                return Unknown.EXPIRED
            if seq not in self.asked:
                return Unknown.NOT_ASKED
        if self.status(seq, user) is Status.READ:
            return True
        member = self.members.get(user)
        if member is None or not member.in_audience(seq) or self._wrote(seq, user):
            return Unknown.NOT_IN_AUDIENCE
        sharing = member.sharing
        if not sharing.read or seq <= sharing.read_obscured_through:
            return Unknown.SHARING_OFF
        return False

    def read_at(self, seq: Seq, user: UserId) -> int | None:
        """When `user` read the message (node time, ms), as far as that was shared and is still known."""
        if self._gone(seq) is not None:
            return None
        receipts = self.asked.get(seq)
        if receipts is not None and user in receipts.readers:
            return receipts.readers[user].at_ms
        member = self.members.get(user)
        if member is None or seq not in member.read_shared:
            return None
        times = [a.at_ms for a in member.advances if seq in RangeSet(a.ranges)]
        return times[0] if times else None

    def audience(self, seq: Seq, author: UserId | None = None) -> tuple[UserId, ...]:
        """Who the message was for, as of its send, sorted; leavers stay in, newcomers do not come in (I-19).

        Args:
            author: Left out of the answer; taken from the message itself when it asked for receipts.
        """
        receipts = self.asked.get(seq)
        if author is None and receipts is not None:
            author = receipts.author
        return tuple(
            sorted(user for user, m in self.members.items() if user != author and m.in_audience(seq))
        )

    def _gone(self, seq: Seq) -> Unknown | None:
        if seq < 1:
            return Unknown.NOT_IN_AUDIENCE  # of nobody: there is no such message
        if seq <= self.expired_through:
            return Unknown.EXPIRED
        return Unknown.RECALLED if seq in self.recalled else None

    def _wrote(self, seq: Seq, user: UserId) -> bool:
        receipts = self.asked.get(seq)
        return receipts is not None and receipts.author == user

    # -- the whole state

    def merge(self, other: Conversation) -> None:
        """Join another replica's state into this one: commutative, associative, idempotent.

        Raises:
            LocalProtocolError: `other` is another conversation.
        """
        if other.id != self.id or other.kind is not self.kind:
            raise LocalProtocolError(f"{other.id!r} cannot be joined into {self.id!r}")
        self.head = max(self.head, other.head)
        for user, theirs in other.members.items():
            _merge_member(self.member(user), theirs)
        self.recalled.update(other.recalled.ranges)
        self.uncounted.update(other.uncounted.ranges)
        for register, (version, content) in other.registers.items():
            set_register(self.registers, register, version, content)
        self.expired_through = max(self.expired_through, other.expired_through)
        self.receipts_expired_through = max(self.receipts_expired_through, other.receipts_expired_through)
        for seq, asked in other.asked.items():
            mine = self._asked(seq)
            mine.author = mine.author if mine.author is not None else asked.author
            for user, receipt in asked.readers.items():
                if user not in mine.readers or receipt < mine.readers[user]:
                    mine.readers[user] = receipt
        self._forget_expired()

    def _forget_expired(self) -> None:
        self.recalled.drop_through(self.expired_through)
        self.uncounted.drop_through(self.expired_through)
        for seq in [seq for seq in self.asked if seq <= self.receipts_expired_through]:
            del self.asked[seq]

    def copy(self) -> Conversation:
        """An independent conversation in the same state."""
        twin = Conversation(self.id, self.kind)
        twin.merge(self)
        return twin

    def dump(self) -> dict[str, Any]:
        """The whole state as plain, sorted data: equal states give equal dumps. For tests and people."""
        return {
            "id": self.id,
            "kind": self.kind.value,
            "head": self.head,
            "recalled": list(self.recalled.ranges),
            "uncounted": list(self.uncounted.ranges),
            "expired_through": self.expired_through,
            "receipts_expired_through": self.receipts_expired_through,
            "registers": {name.value: list(known) for name, known in sorted(self.registers.items())},
            "asked": {
                seq: {
                    "author": asked.author,
                    "readers": {u: list(r) for u, r in sorted(asked.readers.items())},
                }
                for seq, asked in sorted(self.asked.items())
            },
            "members": {user: _dump_member(member) for user, member in sorted(self.members.items())},
        }

    def __eq__(self, other: object) -> bool:
        return self.dump() == other.dump() if isinstance(other, Conversation) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"<Conversation {self.id} head {self.head}, {len(self.members)} members>"


def join(one: Conversation, other: Conversation) -> Conversation:
    """The least state that holds all that either holds; neither argument changes.

    Raises:
        LocalProtocolError: They are different conversations.
    """
    joined = one.copy()
    joined.merge(other)
    return joined


def _merge_member(mine: Member, theirs: Member) -> None:
    mine.read.update(theirs.read.ranges)
    mine.read_shared.update(theirs.read_shared.ranges)
    mine.delivered_shared.update(theirs.delivered_shared.ranges)
    mine.withheld.update(theirs.withheld.ranges)
    for device, held in theirs.devices.items():
        mine.held(device).update(held.ranges)
    for version, period in theirs.periods.items():
        mine.open_period(version, period)
    mine.cleared_through = max(mine.cleared_through, theirs.cleared_through)
    for register, (version, content) in theirs.registers.items():
        mine.set_register(register, version, content)
    mine.set_sharing(theirs.sharing)
    mine.set_unread_mark(theirs.unread_mark)
    for advance in theirs.advances:
        mine.remember(advance)


def _dump_member(member: Member) -> dict[str, Any]:
    sharing, mark = member.sharing, member.unread_mark
    return {
        "read": list(member.read.ranges),
        "read_shared": list(member.read_shared.ranges),
        "delivered_shared": list(member.delivered_shared.ranges),
        "withheld": list(member.withheld.ranges),
        "devices": {device: list(held.ranges) for device, held in sorted(member.devices.items())},
        "periods": {v: [p.from_seq, p.through] for v, p in sorted(member.periods.items())},
        "cleared_through": member.cleared_through,
        "registers": {name.value: list(known) for name, known in sorted(member.registers.items())},
        "sharing": [
            sharing.version,
            sharing.delivered,
            sharing.read,
            sharing.delivered_obscured_through,
            sharing.read_obscured_through,
        ],
        "unread_mark": [mark.version, mark.flagged, list(mark.ranges)],
        "advances": [[a.version, a.at_ms, list(a.ranges)] for a in member.advances],
    }


def _union(one: Ranges, other: Ranges) -> Ranges:
    joined = RangeSet(one)
    joined.update(other)
    return joined.ranges


def _check_seq(seq: Seq) -> None:
    if seq < 1:
        raise _no_seq(seq)


def _no_seq(seq: Seq) -> LocalProtocolError:
    return LocalProtocolError(f"a seq begins at 1, not {seq}")


# Dispatch by type: a `match` over thirteen classes costs the last one a microsecond.
_APPLY: Mapping[type, Callable[[Conversation, Any], None]] = {
    events.MessageAccepted: Conversation.apply_message,
    events.DeliveryMarked: Conversation._delivery_marked,
    events.ReadMarked: Conversation._read_marked,
    events.GroupReadMarked: Conversation._group_read_marked,
    events.GroupReceiptsExpired: Conversation._group_receipts_expired,
    events.UnreadMarked: Conversation._unread_marked,
    events.MessageRecalled: Conversation._message_recalled,
    events.MessagesExpired: Conversation._messages_expired,
    events.HistoryCleared: Conversation._history_cleared,
    events.MemberJoined: Conversation._member_joined,
    events.MemberLeft: Conversation._member_left,
    events.SharingChanged: Conversation._sharing_changed,
    events.RegisterSet: Conversation._register_set,
}
