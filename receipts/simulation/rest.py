"""What a device has to know of a conversation when all is said: exactly what the oracle has for it."""

from __future__ import annotations

from typing import Any

from receipts.core.events import Register
from receipts.core.ids import Seq
from receipts.core.member import Member

from .facts import Person, Talk, bits, seqs_of_bits, up_to
from .judge import ANY_SEQ, message_agrees, shown
from .oracle import Oracle
from .violation import Violation
from .watched import WatchedDevice

__all__ = ["Rest"]

STATUSES_AT_REST = 20
"""Own messages of a conversation whose statuses are compared."""


class Rest:
    """One conversation on one device, when all is said."""

    def __init__(self, oracle: Oracle, device: WatchedDevice, talk: Talk) -> None:
        self._oracle = oracle
        self._device = device
        self._talk = talk
        self._me = talk.people[device.user]
        self._chat = device.replica.chat(talk.id)

    def _wrong(self, invariant: str, what: str, expected: Any, found: Any) -> Violation:
        return self._device.wrong(invariant, f"at rest, {what} of {self._talk.id}", expected, found)

    def _strayed(self) -> str:
        """A device that differs and nothing else explains it: because it was away, or for another reason."""
        return "I-13" if self._device.logins > 1 else "I-16"

    def check(self) -> None:
        """Everything that this device may know of it."""
        talk, me = self._talk, self._me
        member = self._chat.members.get(me.user)
        if member is None:
            raise self._wrong("I-13", "membership", me.periods, None)
        self._check_counts(member)
        periods = tuple((one.from_seq, one.through) for _, one in sorted(member.periods.items()))
        if periods != me.periods:
            raise self._wrong("I-18", "own memberships", me.periods, periods)
        if not me.joined:
            return
        if self._chat.head != talk.head:
            raise self._wrong(
                "I-13" if self._device.logins > 1 else "I-24", "the head", talk.head, self._chat.head
            )
        self._check_own(member)
        self._check_gone()
        self._check_messages()
        self._check_held()
        self._check_members()
        if talk.pair is not None:
            self._check_peer()
        else:
            self._check_answers()
        self._check_statuses()

    def _check_counts(self, member: Member) -> None:
        talk, me, client = self._talk, self._me, self._device.client
        expected = talk.unread(me)
        found = bits(client.replica.unread_ranges(talk.id, client.outbox.local(talk.id)), ANY_SEQ)
        count = client.unread(talk.id)
        if found == expected and count == expected.bit_count():
            if client.marked_unread(talk.id) is not talk.marked(me):
                raise self._wrong("I-16", "marked unread", talk.marked(me), client.marked_unread(talk.id))
            return
        raise self._wrong(
            self._blame_unread(expected, found, count),
            "unread",
            f"{expected.bit_count()} {shown(expected)}",
            f"{count} {shown(found)}",
        )

    def _blame_unread(self, expected: int, found: int, count: int) -> str:
        talk, me = self._talk, self._me
        extra = found & ~expected
        if count < 0:
            return "I-5"
        for invariant, reason in (
            ("I-1", me.wrote),
            ("I-9", talk.recalled),
            ("I-10", up_to(talk.expired)),
            ("I-12", ~up_to(talk.head)),
            ("I-18", ~talk.visible(me)),
            ("I-20", talk.uncounted),
        ):
            if extra & reason:
                return invariant
        return self._strayed()

    def _check_own(self, member: Member) -> None:
        talk, me = self._talk, self._me
        visible = talk.visible(me)
        read = bits(member.read.ranges, ANY_SEQ)
        if (read ^ me.read) & visible & ~talk.recalled:
            raise self._wrong(self._strayed(), "own read", shown(me.read & visible), shown(read & visible))
        sharing = member.sharing
        said = (sharing.delivered, sharing.read)
        if said != (me.shares_delivered, me.shares_read):
            raise self._wrong("I-16", "own sharing", (me.shares_delivered, me.shares_read), said)
        muted = member.registers.get(Register.MUTED)
        if (muted is not None and bool(muted[1])) is not me.muted:
            raise self._wrong("I-16", "muted", me.muted, muted)
        if member.cleared_through != me.cleared:
            raise self._wrong("I-16", "cleared", me.cleared, member.cleared_through)

    def _check_gone(self) -> None:
        talk, chat = self._talk, self._chat
        visible = talk.visible(self._me)
        if chat.expired_through != talk.expired:
            raise self._wrong("I-10", "expired", talk.expired, chat.expired_through)
        for what, found, true, invariant in (
            ("recalled", chat.recalled, talk.recalled, "I-9"),
            ("not counting", chat.uncounted, talk.uncounted, "I-20"),
        ):
            known = bits(found.ranges, ANY_SEQ)
            if (known ^ true) & visible & ~(talk.recalled if what != "recalled" else 0):
                raise self._wrong(invariant, what, shown(true & visible), shown(known & visible))

    def _check_messages(self) -> None:
        """Whatever is unread can be opened here, as far as it was given here (I-12)."""
        talk, replica = self._talk, self._device.replica
        kept = replica.messages(talk.id, limit=ANY_SEQ)
        there = 0
        for message in kept:
            there |= 1 << message.seq
            if not message_agrees(talk, talk.facts[message.seq - 1], message):
                raise self._wrong("I-8", f"#{message.seq}", talk.facts[message.seq - 1].body, message)
        if there & talk.gone():
            raise self._wrong("I-9", "messages kept that are gone", [], shown(there & talk.gone()))
        limits = self._oracle.rules[talk.app].limits
        newest = min(limits.snapshot_messages, replica._messages_max)
        due = list(seqs_of_bits(talk.visible(self._me)))[-newest:]
        missing = [seq for seq in due if not (there | talk.gone()) >> seq & 1]
        if missing:
            invariant = "I-13" if self._device.logins > 1 else "I-12"
            raise self._wrong(invariant, "messages that cannot be opened", [], missing)

    def _check_held(self) -> None:
        """What is stored here is known to be (I-24): no message comes by a way that acknowledges nothing."""
        talk, me, replica = self._talk, self._me, self._device.replica
        if self._oracle.rules[talk.app].limits.gaps_max < talk.head:
            return  # an acknowledgement may have been refused for the gaps it would make
        held = me.held.get(replica.device, 0)
        stored = [one.seq for one in replica.messages(talk.id, limit=ANY_SEQ) if one.author != me.user]
        due = talk.visible(me) & ~held  # who was put out owes nothing of before, and is not asked again
        owed = [seq for seq in stored if due >> seq & 1]
        if owed:
            raise self._wrong("I-24", "messages that were never acknowledged", [], owed)

    def _check_members(self) -> None:
        talk, chat = self._talk, self._chat
        joined = sorted(user for user, one in chat.members.items() if one.joined)
        if joined != sorted(talk.members()):
            raise self._wrong("I-19", "members", sorted(talk.members()), joined)
        if talk.pair is not None:
            return
        for user in joined:
            role = chat.members[user].registers.get(Register.ROLE)
            if role is None or role[1] != talk.people[user].role.value:
                raise self._wrong(self._strayed(), f"role of {user}", talk.people[user].role, role)
        name = chat.registers.get(Register.NAME)
        if (name[1] if name is not None else "") != talk.name:
            raise self._wrong(self._strayed(), "name", talk.name, name)

    def _check_peer(self) -> None:
        talk, me = self._talk, self._me
        for user in talk.pair or ():
            if user == me.user:
                continue
            person, member = talk.people[user], self._chat.members[user]
            kept = talk.visible(me) & ~talk.recalled & me.wrote
            self._check_shared(
                "read", person, person.read_shared & kept, bits(member.read_shared.ranges, ANY_SEQ) & kept
            )
            if self._device.delivery:
                delivered = bits(member.delivered_shared.ranges, ANY_SEQ) & kept
                self._check_shared(
                    "delivered", person, (person.delivered | person.read_shared) & kept, delivered
                )

    def _check_shared(self, what: str, person: Person, expected: int, found: int) -> None:
        if found != expected:
            invariant = "I-25" if found & ~expected else "I-13" if self._device.logins > 1 else "I-24"
            raise self._wrong(invariant, f"{what} by {person.user}", shown(expected), shown(found))

    def _check_answers(self) -> None:
        talk, me = self._talk, self._me
        visible = talk.visible(me) & ~talk.recalled
        for seq, answers in talk.asked.items():
            if not me.wrote >> seq & 1 or not visible >> seq & 1:
                continue
            known = self._chat.asked.get(seq)
            found = {user: (one.at_ms, one.content) for user, one in known.readers.items()} if known else {}
            if found != answers:
                invariant = "I-24" if answers.keys() - found.keys() else "I-19"
                raise self._wrong(invariant, f"answers to #{seq}", answers, found)

    def _check_statuses(self) -> None:
        """As the application is told: the least over everybody a message was for (I-19)."""
        talk, me, client = self._talk, self._me, self._device.client
        own = list(seqs_of_bits(me.wrote & talk.visible(me) & ~talk.recalled))[-STATUSES_AT_REST:]
        for seq in own:
            if client.replica.message(talk.id, seq) is None:
                continue
            found = int(client.status(talk.id, seq))
            least, most = self._status(seq)
            if not least <= found <= most:
                invariant = "I-19" if talk.pair is None else "I-2" if found < least else "I-25"
                raise self._wrong(invariant, f"status of #{seq}", (least, most), found)

    def _status(self, seq: Seq) -> tuple[int, int]:
        """(least, most) that may be shown: deliveries are not told to everybody."""
        talk, me = self._talk, self._me
        audience = talk.audience(seq, me.user)
        true = min((talk.status(seq, user) for user in audience), default=1)
        told = talk.pair is not None and self._device.delivery
        return (true if told or true == 3 else 1), true
