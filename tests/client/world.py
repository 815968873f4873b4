"""A tiny node for one conversation: it decides with the real machine, and tells bob's phone what it may know.

Unrealistic: no rights, no limits, one conversation, and everything happens by calls. What is real is the
split that matters here: events are decided once, and the phone hears of them only as updates.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

from receipts.core import decide, events
from receipts.core.conversation import Conversation
from receipts.core.events import Register
from receipts.core.ids import ConversationKind, Counts, MessageId, Seq, UserId
from receipts.core.ranges import EMPTY, Ranges, RangeSet, ranges_of
from receipts.core.value import value
from receipts.wire.updates import (
    AskedPart,
    ConversationPart,
    Delivered,
    GroupRead,
    MemberPart,
    Read,
    Reader,
    RegisterPart,
    Update,
)

ME = "bob"


@value
class Step:
    """One thing that happens; numbers are taken modulo what is there."""

    what: str
    who: int = 0
    seq: int = 0
    flag: bool = False


_WHATS = (
    *("post", "post", "post", "post", "deliver", "read", "read", "read_some", "mark", "recall"),
    *("clear", "expire", "share", "mute", "ask", "ask", "answer", "answer", "leave"),
)
_SEQ_MAX = 12


def _long(seed: int) -> list[Step]:
    """A long history: drawn one by one, lists come out too short to get anywhere."""
    chance = random.Random(seed)
    return [
        Step(
            what=chance.choice(_WHATS),
            who=chance.randrange(3),
            seq=chance.randint(1, _SEQ_MAX),
            flag=chance.random() < 0.3,
        )
        for _ in range(50)
    ]


def steps() -> st.SearchStrategy[list[Step]]:
    """Histories, short and long."""
    step = st.builds(
        Step,
        what=st.sampled_from(_WHATS),
        who=st.integers(0, 2),
        seq=st.integers(1, _SEQ_MAX),
        flag=st.booleans(),
    )
    return st.one_of(st.lists(step, max_size=25), st.integers(0, 2**32).map(_long))


class World:
    """The deciding side."""

    def __init__(self, *, group: bool) -> None:
        self.users = ["alice", "bob", "cara"] if group else ["alice", "bob"]
        self.chat = Conversation.group("g", self.users) if group else Conversation.between("alice", "bob")
        self.group = group
        self.version = 0
        self.messages: dict[Seq, events.MessageAccepted] = {}
        self.told: list[Update] = []

    def run(self, step: Step) -> None:
        """Let it happen, as far as it makes sense; `told` grows by what the phone hears."""
        self.version += 1
        user = self.users[step.who % len(self.users)]
        getattr(self, "_" + step.what)(user, step.seq, step.flag)

    def _tell(self, event: Any, update: Update | None = None) -> None:
        if event is not None:
            self.chat.apply(event)
            self.told.append(update if update is not None else event)

    def _post(self, user: UserId, seq: Seq, flag: bool, asks: bool = False) -> None:
        if not self.chat.member(user).joined:
            return
        event = decide.accept(
            self.chat,
            user,
            message_id=MessageId(2 * self.version),
            body=f"{user} {self.version}",
            counts=Counts.SILENT if flag else Counts.YES,
            asks=asks,
        )
        self.messages[event.seq] = event
        self._tell(event)

    def _ask(self, user: UserId, seq: Seq, flag: bool) -> None:
        self._post(user, seq, False, asks=self.group)

    def _deliver(self, user: UserId, seq: Seq, flag: bool) -> None:
        if user == ME or self.group or not self.chat.member(user).joined:
            return
        event = decide.deliver(self.chat, user, "d", (1, seq + 1))
        if event is not None:
            self.chat.apply(event)
            if event.shared:
                self.told.append(Delivered(self.chat.id, user, event.shared))

    def _read(self, user: UserId, seq: Seq, flag: bool, ranges: Ranges = EMPTY) -> None:
        if not self.chat.member(user).joined:
            return
        event = decide.read(
            self.chat,
            user,
            ranges or (1, seq + 1),
            device="tablet",
            sharing=not flag,
            version=self.version,
            at_ms=self.version,
        )
        if event is None:
            return
        self.chat.apply(event)
        seqs = event.read if user == ME else event.shared
        if seqs:
            self.told.append(Read(self.chat.id, user, seqs, event.at_ms, event.version))

    def _read_some(self, user: UserId, seq: Seq, flag: bool) -> None:
        self._read(user, seq, flag, ranges_of([seq, seq + 2, seq + 3]))

    def _mark(self, user: UserId, seq: Seq, flag: bool) -> None:
        start, stop = self.chat.visible(ME)
        own = ranges_of(m.seq for m in self.messages.values() if m.author == ME)
        if start < stop:
            first = None if flag else min(max(seq, start), stop - 1)
            self._tell(decide.mark_unread(self.chat, ME, version=self.version, from_seq=first, own=own))

    def _recall(self, user: UserId, seq: Seq, flag: bool) -> None:
        if self.chat.expired_through < seq <= self.chat.head:
            self._tell(decide.recall(self.chat, seq, user))

    def _clear(self, user: UserId, seq: Seq, flag: bool) -> None:
        if self.chat.member(ME).joined:
            self._tell(decide.clear(self.chat, ME, seq))

    def _expire(self, user: UserId, seq: Seq, flag: bool) -> None:
        last = min(seq // 3, self.chat.head)
        if flag:
            self._tell(decide.expire(self.chat, last))
        elif self.group:
            self._tell(decide.expire_receipts(self.chat, last))

    def _share(self, user: UserId, seq: Seq, flag: bool) -> None:
        event = decide.share(self.chat, user, version=self.version, read=flag)
        if event is not None:
            self.chat.apply(event)
            if user == ME:
                self.told.append(event)

    def _mute(self, user: UserId, seq: Seq, flag: bool) -> None:
        self._tell(
            events.RegisterSet(
                conversation=self.chat.id,
                member=ME,
                register=Register.MUTED,
                version=self.version,
                value=flag,
            )
        )

    def _answer(self, user: UserId, seq: Seq, flag: bool) -> None:
        asked = self.chat.asked.get(seq)
        member = self.chat.member(user)
        if asked is None or asked.author == user or not (member.joined and member.in_audience(seq)):
            return
        event = decide.answer(self.chat, user, seq, "ok", at_ms=self.version, version=self.version)
        if event is not None:
            self.chat.apply(event)
            if asked.author == ME:
                reader = Reader(user, event.at_ms, "ok", event.version)
                self.told.append(GroupRead(self.chat.id, seq, len(asked.readers), (reader,)))

    def _leave(self, user: UserId, seq: Seq, flag: bool) -> None:
        if not self.group or user == ME:
            return
        if self.chat.member(user).joined:
            self._tell(decide.leave(self.chat, user))
        else:
            self._tell(decide.join(self.chat, user, version=self.version))

    # -- the same by catch-up ---------------------------------------------------------------------------

    def part(self) -> ConversationPart:
        """All of the state that bob's phone may know."""
        chat = self.chat
        gone = chat.recalled
        return ConversationPart(
            conversation=chat.id,
            kind=ConversationKind.GROUP if self.group else ConversationKind.DIRECT,
            head=chat.head,
            messages=tuple(
                self.messages[seq]
                for seq in sorted(self.messages)
                if seq not in gone and seq > chat.expired_through
            ),
            recalled=gone.ranges,
            uncounted=chat.uncounted.ranges,
            expired_through=chat.expired_through,
            receipts_expired_through=chat.receipts_expired_through,
            registers=tuple(
                RegisterPart(register=name, version=version, value=content)
                for name, (version, content) in chat.registers.items()
            ),
            members=tuple(self._member(user) for user in self.users),
            asked=tuple(
                AskedPart(
                    seq=seq,
                    author=asked.author or "",
                    readers=tuple(
                        Reader(user, receipt.at_ms, receipt.content, receipt.version)
                        for user, receipt in asked.readers.items()
                        if asked.author == ME
                    ),
                )
                for seq, asked in chat.asked.items()
            ),
        )

    def _member(self, user: UserId) -> MemberPart:
        member = self.chat.member(user)
        periods = tuple(sorted(member.periods.items()))
        if user != ME:
            shared = EMPTY if self.group else member.read_shared.ranges
            return MemberPart(
                user=user,
                read_shared=shared,
                delivered_shared=member.delivered_shared.ranges,
                periods=periods,
                advances=() if self.group else tuple(member.advances),
            )
        return MemberPart(
            user=user,
            read=member.read.ranges,
            periods=periods,
            cleared_through=member.cleared_through,
            registers=tuple(
                RegisterPart(register=name, version=version, value=content)
                for name, (version, content) in member.registers.items()
            ),
            sharing=member.sharing,
            unread_mark=member.unread_mark,
        )

    def readable(self) -> list[Seq]:
        """The messages that bob may open."""
        floor = max(self.chat.expired_through, self.chat.member(ME).cleared_through)
        return [s for s in self.messages if s > floor and s not in self.chat.recalled]


def shown(ranges: Ranges) -> list[Seq]:
    """Ranges as seqs."""
    return list(RangeSet(ranges))
