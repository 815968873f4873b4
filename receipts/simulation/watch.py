"""Whether devices show what they may: while things happen no more than was decided, at rest exactly that.

`Watch` looks at a device whenever it has heard or done something, and at all of them in the end (`rest`).
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from receipts.client.session import Session as Client
from receipts.client.session import State
from receipts.core import events
from receipts.core.conversation import Conversation
from receipts.core.ids import AppId, ConversationId, Seq, UserId
from receipts.core.member import Member
from receipts.core.ranges import Ranges
from receipts.wire import updates

from .answers import badge_of
from .facts import Person, Talk, bits, seqs_of_bits, up_to
from .judge import ANY_SEQ, message_agrees, shown
from .oracle import Oracle
from .rest import Rest
from .watched import Watched, WatchedDevice

__all__ = ["Watch", "Watched"]

OTHER_EVERY = 4
"""After this many looks at a device, one at what should be as it was."""


class Watch:
    """Looks at devices."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._devices: dict[str, WatchedDevice] = {}
        self._untold: set[str] = set()
        """Devices that were logged in without being told of deliveries since their state was whole."""
        self._acknowledged: dict[tuple[AppId, UserId, str], dict[ConversationId, int]] = {}
        """By outbox: what was acknowledged, since the device began from nothing the last time."""

    # -- a device's life

    def started(self, label: str, client: Client, *, kept: bool) -> None:
        """A process has begun, with what its disk had if `kept`."""
        device = self._devices[label] = WatchedDevice(label, client)
        device.delivery = not kept or label not in self._untold
        device.complete = not kept
        for name in client.outbox._marks:
            device.read_here[name] = _union(client.outbox.local(name))
        known = self._acknowledged.setdefault((device.app, device.user, device.install), {})
        if not kept:
            known.clear()
        for name, acknowledged in known.items():
            self._check_durable(device, name, acknowledged)
        for name in device.replica.take_seen():
            self._look(device, name)
        device.replica.heard.clear()

    def _check_durable(self, device: WatchedDevice, name: ConversationId, acknowledged: int) -> None:
        """What a device has said to hold is there after a restart (I-24)."""
        replica = device.replica
        chat = replica.chat(name)
        gone = bits(chat.recalled._bounds, ANY_SEQ) | up_to(chat.expired_through)
        there = (
            [message.seq for message in replica._boxes[name].messages.values()]
            if name in replica._boxes
            else []
        )
        known = acknowledged | gone
        for seq in there:
            known |= 1 << seq
        newest = list(seqs_of_bits(known))[-replica._messages_max :]
        if newest:  # older ones had to make room
            gone |= up_to(newest[0] - 1)
        missing = acknowledged & ~gone
        for seq in there:
            missing &= ~(1 << seq)
        if missing:
            raise device.wrong("I-24", f"acknowledged messages of {name} are lost", "none", shown(missing))

    def acknowledged(
        self, app: AppId, user: UserId, install: str, name: ConversationId, ranges: Ranges
    ) -> None:
        """The node takes a device to hold messages."""
        known = self._acknowledged.setdefault((app, user, install), {})
        known[name] = known.get(name, 0) | bits(ranges, ANY_SEQ)

    def gone(self, label: str) -> None:
        """A process has ended."""
        self._devices.pop(label, None)

    # -- while things happen

    def heard(self, label: str) -> None:
        """A device has taken in frames."""
        device = self._devices[label]
        replica = device.replica
        device.complete = device.complete or device.client.state is State.LIVE
        heard = replica.heard
        if heard:
            replica.heard = []
            for update in heard:
                self._check_heard(device, update)
        seen = replica.take_seen()
        for name in seen:
            self._look(device, name)
        self._check_other(device, seen)

    def acted(self, label: str) -> None:
        """A user did something."""
        device = self._devices[label]
        outbox = device.client.outbox
        for name in sorted(outbox.touched_marks):
            device.read_here[name] = _union(outbox.local(name))
        seen = device.replica.take_seen()
        for name in seen:
            self._look(device, name)
        self._check_other(device, seen)

    def read_on(self, label: str, name: ConversationId, last: Seq) -> None:
        """A user has read everything up to and including `last`: at once it is read here (I-17)."""
        device = self._devices[label]
        client = device.client
        left = bits(client.replica.unread_ranges(name, client.outbox.local(name)), ANY_SEQ) & up_to(last)
        if left:
            raise device.wrong("I-17", f"{name} was read through #{last}", "nothing unread", shown(left))
        for other in client.outbox._marks:
            if other != name:
                more = _union(client.outbox.local(other)) & ~device.read_here.get(other, 0)
                if more:
                    raise device.wrong("I-11", f"reading {name} reads {other}", "nothing", shown(more))
        self._look(device, name)
        self._check_other(device, [name])

    def _check_heard(self, device: WatchedDevice, update: Any) -> None:
        """What was just said is in the replica, whatever was there before (I-3)."""
        check = _HEARD.get(type(update))
        if check is not None:
            check(self, device, update)

    def _message(self, device: WatchedDevice, message: events.MessageAccepted) -> None:
        talk = self._talk(device, message.conversation)
        if message.seq > talk.head:
            raise device.wrong("I-12", f"#{message.seq} of {talk.id} is not there", talk.head, message)
        if not message_agrees(talk, talk.facts[message.seq - 1], message):
            raise device.wrong(
                "I-8", f"#{message.seq} of {talk.id}", talk.facts[message.seq - 1].body, message
            )

    def _read(self, device: WatchedDevice, update: updates.Read) -> None:
        member = device.replica.chat(update.conversation).members[update.member]
        kept = member.read if update.member == device.user else member.read_shared
        self._check_kept(device, update, bits(kept.ranges, ANY_SEQ))

    def _delivered(self, device: WatchedDevice, update: updates.Delivered) -> None:
        member = device.replica.chat(update.conversation).members[update.member]
        self._check_kept(device, update, bits(member.delivered_shared._bounds, ANY_SEQ))

    def _check_kept(self, device: WatchedDevice, update: Any, known: int) -> None:
        lost = bits(update.ranges, ANY_SEQ) & ~known
        if lost:
            there = [device.replica.message(update.conversation, seq) for seq in seqs_of_bits(lost)]
            early = any(message is None for message in there)
            raise device.wrong("I-3" if early else "I-2", "a receipt is thrown away", update, shown(known))

    def _group_read(self, device: WatchedDevice, update: updates.GroupRead) -> None:
        chat = device.replica.chat(update.conversation)
        if update.seq <= chat.receipts_expired_through:
            return
        known = chat.asked[update.seq].readers
        if any(reader.user not in known for reader in update.readers):
            raise device.wrong("I-3", "an answer is thrown away", update, sorted(known))

    def _caught_up(self, device: WatchedDevice, page: updates.CatchUp) -> None:
        if page.full:
            device.known.clear()
            device.prints.clear()
            device.counts.clear()
            self._acknowledged[device.app, device.user, device.install] = {}
        if page.full or page.live:
            device.logins += 1
        login = self._login(device)
        device.delivery = (device.delivery or page.full) and login is not None and login.delivery
        (self._untold.discard if device.delivery else self._untold.add)(device.label)
        for part in page.parts:
            for message in part.messages:
                self._message(device, message)
            chat = device.replica.chat(part.conversation)
            for member in part.members:
                known = chat.members[member.user]
                for ranges, kept in (
                    (member.read, known.read),
                    (member.read_shared, known.read_shared),
                    (member.delivered_shared, known.delivered_shared),
                ):
                    if ranges and bits(ranges, ANY_SEQ) & ~bits(kept._bounds, ANY_SEQ):
                        what = f"marks of {member.user} are thrown away"
                        raise device.wrong("I-3", what, shown(bits(ranges, ANY_SEQ)), kept)

    def _login(self, device: WatchedDevice) -> Any:
        account = self._oracle.accounts.get((device.app, device.user))
        sessions = account.sessions if account is not None else []
        return next((one for one in sessions if one.device == device.replica.device), None)

    def _talk(self, device: WatchedDevice, name: ConversationId) -> Talk:
        talk = self._oracle.talks.get((device.app, name))
        if talk is None:
            raise device.wrong("I-27", f"there is no conversation {name}", None, name)
        return talk

    def _check_other(self, device: WatchedDevice, seen: list[ConversationId]) -> None:
        """Now and then one of the conversations that nothing was heard of: it has not changed (I-11)."""
        device.looks += 1
        turn, rest = divmod(device.looks, OTHER_EVERY)
        if rest:
            return
        count = len(device.counts)
        if count <= len(seen):
            return
        name = next(islice(device.counts, turn % count, None))
        if name not in seen:
            count = device.replica.unread(name)
            if count != device.counts[name]:
                raise device.wrong("I-11", f"{name} was not touched", device.counts[name], count)

    def _look(self, device: WatchedDevice, name: ConversationId) -> None:
        """A conversation on a device: no more than was decided, and nothing lost."""
        replica = device.replica
        chat = replica.chat(name)
        talk = self._oracle.talks.get((device.app, name))
        if talk is None:
            self._check_empty(device, chat)
            return
        if chat.head > talk.head:
            raise device.wrong("I-6", f"the head of {name}", talk.head, chat.head)
        me = device.user
        prints = device.prints.setdefault(name, {})
        for user, member in chat.members.items():
            print_ = _print_of(member)
            if prints.get(user) != print_:  # else as the last time: what was told is never taken back
                prints[user] = print_
                self._check_member(device, talk, user, member)
        for seq, asked in chat.asked.items():
            if asked.readers:
                self._check_answers(device, talk, seq, asked)
        mine = chat.members.get(me)
        if mine is not None:
            self._check_counts(device, talk, chat, mine)

    def _check_empty(self, device: WatchedDevice, chat: Conversation) -> None:
        if chat.head or any(member.read or member.read_shared for member in chat.members.values()):
            raise device.wrong("I-27", f"there is no conversation {chat.id}", "nothing", chat)

    def _check_member(self, device: WatchedDevice, talk: Talk, user: UserId, member: Member) -> None:
        person = talk.people.get(user)
        kept = ~up_to(talk.expired) if talk.expired else -1
        read = bits(member.read._bounds, ANY_SEQ)
        shared = bits(member.read_shared._bounds, ANY_SEQ)
        delivered = bits(member.delivered_shared._bounds, ANY_SEQ)
        if person is None:
            if read or shared or delivered or member.joined:
                raise device.wrong("I-27", f"{user} was never in {talk.id}", "nothing", member.read)
            return
        mine = user == device.user
        if mine:
            if read & ~person.read & kept:
                raise device.wrong("I-16", f"own read of {talk.id}", shown(person.read), shown(read))
        elif (
            shared & ~person.read_shared & kept or delivered & ~(person.delivered | person.read_shared) & kept
        ):
            self._blame_more(device, talk, person, shared, delivered)
        before = device.known.get((talk.id, user))
        if before is not None:
            if before[1] & ~shared or before[2] & ~delivered:
                raise device.wrong(
                    "I-2", f"a status with {user} fell in {talk.id}", before[1:], (shared, delivered)
                )
            if before[0] & ~read:
                own = before[0] & ~read & person.wrote
                raise device.wrong(
                    "I-1" if own else "I-4", f"what {user} read of {talk.id}", shown(before[0]), shown(read)
                )
        device.known[talk.id, user] = (read, shared, delivered)

    def _blame_more(
        self, device: WatchedDevice, talk: Talk, person: Person, shared: int, delivered: int
    ) -> None:
        extra = shared & ~person.read_shared
        if (shared | delivered) >> talk.head + 1:
            invariant = "I-6"
        elif extra & person.read or not person.shares_read:
            invariant = "I-25"
        else:
            invariant = "I-24"
        raise device.wrong(
            invariant,
            f"knows more of {person.user} in {talk.id} than was told",
            (shown(person.read_shared), shown(person.delivered)),
            (shown(shared), shown(delivered)),
        )

    def _check_answers(self, device: WatchedDevice, talk: Talk, seq: Seq, asked: Any) -> None:
        if asked.author != device.user and asked.readers.keys() - {device.user}:
            raise device.wrong(
                "I-25", f"answers to #{seq} of {asked.author}", "its author's", sorted(asked.readers)
            )
        known = talk.asked.get(seq)
        if known is None:
            return  # they have expired; this device has not heard of it yet
        for user, receipt in asked.readers.items():
            if known.get(user) != (receipt.at_ms, receipt.content):
                invariant = "I-23" if user in known else "I-24"
                raise device.wrong(invariant, f"the answer of {user} to #{seq}", known.get(user), receipt)

    def _check_counts(self, device: WatchedDevice, talk: Talk, chat: Conversation, mine: Member) -> None:
        """The count that is shown is what the known facts come to, by another way."""
        name = talk.id
        known = _known_unread(chat, mine)
        device.counts[name] = known.bit_count()
        client = device.client
        local = client.outbox.local(name)
        device.read_here[name] = _union(local)
        if local and known:
            known &= ~_read_here(mine, local)
        count = client.replica.unread(name, local)  # as `Session.unread` has it
        person = talk.people.get(device.user)
        wrote = person.wrote if person is not None else 0
        if known & wrote and device.complete:
            raise device.wrong("I-1", f"own messages of {name} are unread", "none", shown(known & wrote))
        if count != known.bit_count():
            self._blame_count(device, talk, chat, mine, known, count)

    def _blame_count(
        self, device: WatchedDevice, talk: Talk, chat: Conversation, mine: Member, known: int, count: int
    ) -> None:
        client = device.client
        found = bits(client.replica.unread_ranges(talk.id, client.outbox.local(talk.id)), ANY_SEQ)
        extra = found & ~known
        person = talk.people.get(device.user)
        if count < 0 or count > chat.head:
            invariant = "I-5"
        elif person is not None and extra & person.wrote:
            invariant = "I-1"
        elif extra & bits(chat.recalled._bounds, ANY_SEQ):
            invariant = "I-9"
        elif extra & up_to(chat.expired_through):
            invariant = "I-10"
        elif extra & bits(chat.uncounted._bounds, ANY_SEQ):
            invariant = "I-20"
        elif mine.period is not None and extra & up_to(mine.period.from_seq - 1):
            invariant = "I-18"
        else:
            invariant = "I-14" if found != known else "I-12"
        raise device.wrong(
            invariant,
            f"unread of {talk.id}",
            f"{known.bit_count()} {shown(known)}",
            f"{count} {shown(found)}",
        )

    def everything(self) -> None:
        """All conversations of all devices."""
        for device in self._devices.values():
            device.prints.clear()
            for name in device.replica.names:
                self._look(device, name)
                seqs = [message.seq for message in device.replica.messages(name, limit=ANY_SEQ)]
                if seqs != sorted(set(seqs)):
                    raise device.wrong("I-8", f"the order of messages in {name}", sorted(seqs), seqs)

    # -- at rest

    def at_rest(self) -> None:
        """Every device that is logged in knows exactly what it may; all devices of a user agree."""
        for device in self._devices.values():
            if device.client.state is State.LIVE:
                self._check_outbox(device)
                for talk in self._oracle.talks_of(device.app, device.user):
                    Rest(self._oracle, device, talk).check()
                self._check_lists(device)

    def _check_outbox(self, device: WatchedDevice) -> None:
        outbox = device.client.outbox
        if outbox.sends or outbox.asks or outbox.marked():
            left = [*outbox.sends, *outbox.asks.values(), *outbox.marked()]
            raise device.wrong("I-29", "something is not said, and nobody says why", [], left)

    def _check_lists(self, device: WatchedDevice) -> None:
        oracle, user = self._oracle, device.user
        client = device.client
        badge = client.badge()
        found = (badge.messages, badge.conversations, badge.muted_messages, badge.muted_conversations)
        meant = badge_of(oracle, device.app, user)
        if found != meant:
            sums = (found[0] + found[2], found[1] + found[3]) == (meant[0] + meant[2], meant[1] + meant[3])
            raise device.wrong("I-20" if sums else "I-14", "the badge", meant, found)
        talks = [
            talk
            for talk in oracle.talks_of(device.app, user)
            if talk.people[user].joined and not talk.dissolved
        ]
        listed = [line.conversation for line in client.conversations()]
        if sorted(listed) != sorted(talk.id for talk in talks):
            raise device.wrong("I-13", "the list", sorted(talk.id for talk in talks), listed)


def _print_of(member: Member) -> tuple[int, ...]:
    """How many ranges, and where they end: a change that leaves both is seen when all is looked at."""
    read, shared, delivered = member.read._bounds, member.read_shared._bounds, member.delivered_shared._bounds
    return (
        len(read),
        read[-1] if read else 0,
        len(shared),
        shared[-1] if shared else 0,
        len(delivered),
        delivered[-1] if delivered else 0,
    )


def _known_unread(chat: Conversation, mine: Member) -> int:
    """What waits unread by what a device knows, apart from what was read on it."""
    period = mine.period
    if period is None or period.through is not None:
        return 0
    floor = max(period.from_seq - 1, mine.cleared_through, chat.expired_through)
    seen = up_to(chat.head) & ~up_to(floor)
    read = bits(mine.read._bounds, ANY_SEQ)
    mark = mine.unread_mark.ranges
    if mark:
        read &= ~bits(mark, ANY_SEQ)
    unread = seen & ~read
    if unread:
        unread &= ~bits(chat.recalled._bounds, ANY_SEQ) & ~bits(chat.uncounted._bounds, ANY_SEQ)
    return unread


def _union(local: list[tuple[int, Ranges]]) -> int:
    """All that was read on a device and is not confirmed."""
    found = 0
    for _, ranges in local:
        found |= bits(ranges, ANY_SEQ)
    return found


def _read_here(mine: Member, local: list[tuple[int, Ranges]]) -> int:
    """What was read on a device and is not confirmed, without what stays marked as unread."""
    mark, gone = mine.unread_mark, 0
    again = bits(mark.ranges, ANY_SEQ)
    marked = mark.flagged or again
    for known, ranges in local:
        found = bits(ranges, ANY_SEQ)
        gone |= found
        if marked and known >= mark.version:
            again &= ~found
            marked = again
    return gone & ~again


_HEARD: dict[type, Any] = {
    events.MessageAccepted: Watch._message,
    updates.Read: Watch._read,
    updates.Delivered: Watch._delivered,
    updates.GroupRead: Watch._group_read,
    updates.CatchUp: Watch._caught_up,
}
