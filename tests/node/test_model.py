"""The node against a model that keeps every fact in plain sets and recomputes every answer.

Users act on several devices; links are cut and resumed, conversations leave memory, commits fail, the
process dies. After every step what the node says (unread, explanation, list, badge, statuses) is what the
model says; so do replicas made of nothing but live updates and catch-up pages.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receipts.client.replica import Replica
from receipts.core.errors import Code
from receipts.core.ids import Counts, UserId
from receipts.core.ranges import ranges_of, seqs_of
from receipts.core.status import Status, Unknown
from receipts.storage.base import Store
from receipts.storage.memory import MemoryStore
from receipts.storage.sqlite import SQLiteStore
from receipts.wire import commands
from receipts.wire.updates import Accepted, Done, Rejected
from tests.node.playbook import Device, Playbook

USERS = ("alice", "bob", "cara")
AB = "alice~bob"
CHATS = (AB, "G")
SETTINGS = json.dumps(
    {
        "limits": {f"{kind}_burst": 10**6 for kind in ("sends", "marks", "queries", "changes")}
        | {"page_bytes_max": 300}
    }
)


class Fact:
    """A message."""

    def __init__(self, author: UserId, counts: bool, asks: bool) -> None:
        self.author = author
        self.counts = counts
        self.asks = asks
        self.recalled = False
        self.readers: dict[UserId, str] = {}


class Person:
    """One member of one conversation."""

    def __init__(self) -> None:
        self.read: set[int] = set()
        self.read_shared: set[int] = set()
        self.delivered: set[int] = set()
        self.periods: list[list[int | None]] = [[1, None]]
        self.cleared = 0
        self.flagged = False
        self.again: set[int] = set()
        self.shares_read = self.shares_delivered = True
        self.read_line = self.delivered_line = 0

    @property
    def inside(self) -> bool:
        return self.periods[-1][1] is None

    def had(self, seq: int) -> bool:
        return any(start <= seq and (stop is None or seq <= stop) for start, stop in self.periods)  # type: ignore[operator]


class Model:
    """Everything that was accepted."""

    def __init__(self) -> None:
        self.facts: dict[str, list[Fact]] = {chat: [] for chat in CHATS}
        self.people = {
            chat: {user: Person() for user in (("alice", "bob") if chat == AB else USERS)} for chat in CHATS
        }

    def head(self, chat: str) -> int:
        return len(self.facts[chat])

    def visible(self, chat: str, user: UserId) -> set[int]:
        person = self.people[chat][user]
        if not person.inside:
            return set()
        start = max(int(person.periods[-1][0] or 0), person.cleared + 1)
        return set(range(start, self.head(chat) + 1))

    def unread(self, chat: str, user: UserId) -> list[int]:
        person = self.people[chat][user]
        facts = self.facts[chat]
        return sorted(
            seq
            for seq in self.visible(chat, user)
            if (seq not in person.read or seq in person.again)
            and facts[seq - 1].counts
            and not facts[seq - 1].recalled
        )

    def marked(self, chat: str, user: UserId) -> bool:
        person = self.people[chat][user]
        return person.flagged or bool(person.again & self.visible(chat, user))

    def status(self, chat: str, seq: int, user: UserId) -> Status:
        person = self.people[chat][user]
        if seq in person.read_shared or user in self.facts[chat][seq - 1].readers:
            return Status.READ
        return Status.DELIVERED if seq in person.delivered else Status.ACKED

    def read_answer(self, chat: str, seq: int, user: UserId) -> bool | Unknown:
        fact, person = self.facts[chat][seq - 1], self.people[chat][user]
        if fact.recalled:
            return Unknown.RECALLED
        if chat == "G" and not fact.asks:
            return Unknown.NOT_ASKED
        if self.status(chat, seq, user) is Status.READ:
            return True
        off = not person.shares_read or seq <= person.read_line
        return Unknown.SHARING_OFF if off else False

    # -- what is done

    def send(self, chat: str, user: UserId, counts: bool, asks: bool) -> None:
        person = self.people[chat][user]
        self.facts[chat].append(Fact(user, counts, asks))
        seq = self.head(chat)
        person.read.add(seq)
        if person.shares_read and chat == AB:
            person.read_shared.add(seq)
        if person.shares_delivered:
            person.delivered.add(seq)

    def deliver(self, chat: str, user: UserId, seqs: set[int]) -> None:
        person = self.people[chat][user]
        if person.shares_delivered:
            new = {seq for seq in seqs if seq > person.delivered_line} - person.delivered
            if not all(self.facts[chat][seq - 1].recalled for seq in new):
                person.delivered |= new

    def read(self, chat: str, user: UserId, seqs: set[int], share: bool, knows: bool) -> None:
        person = self.people[chat][user]
        person.read |= seqs
        if share and person.shares_read:
            new = {seq for seq in seqs if seq > person.read_line} - person.read_shared
            if chat == AB and not all(self.facts[chat][seq - 1].recalled for seq in new):
                person.read_shared |= new
                person.delivered |= new
            if chat == "G":
                self.deliver(chat, user, seqs)
        if knows:
            person.again -= seqs
            person.flagged = False

    def answer(self, chat: str, user: UserId, seqs: set[int], content: str) -> None:
        person = self.people[chat][user]
        for seq in seqs:
            fact = self.facts[chat][seq - 1]
            if fact.asks and not fact.recalled and seq > person.read_line:
                fact.readers.setdefault(user, content)


_seqs = st.sets(st.integers(1, 12), min_size=1, max_size=4)
_user = st.sampled_from(USERS)
_chat = st.sampled_from(CHATS)
_steps = st.one_of(
    st.tuples(st.just("send"), _user, _chat, st.booleans(), st.booleans()),
    st.tuples(st.just("send"), _user, _chat, st.just(True), st.booleans()),
    st.tuples(st.just("ack"), _user, _chat, _seqs, st.booleans()),
    st.tuples(st.just("through"), _user, _chat, st.integers(0, 14), st.booleans(), st.booleans()),
    st.tuples(st.just("read"), _user, _chat, _seqs, st.booleans(), st.booleans()),
    st.tuples(st.just("flag"), _user, _chat),
    st.tuples(st.just("mark"), _user, _chat, st.integers(1, 12)),
    st.tuples(st.just("recall"), _user, _chat, st.integers(1, 12)),
    st.tuples(st.just("clear"), _user, _chat, st.integers(0, 12)),
    st.tuples(st.just("share"), _user, _chat, st.booleans(), st.booleans()),
    st.tuples(st.just("leave"), st.sampled_from(("bob", "cara"))),
    st.tuples(st.just("add"), st.sampled_from(("bob", "cara"))),
    st.tuples(st.just("cut"), _user, st.booleans()),
    st.tuples(st.just("evict")),
    st.tuples(st.just("crash")),
)
_plans = st.lists(
    st.tuples(
        st.sampled_from(("do", "do", "do", "fail", "burst", "lost burst")), st.lists(_steps, max_size=4)
    ),
    max_size=12,
)


class Pair:
    """A node and its model, step by step."""

    def __init__(self, store: Store) -> None:
        self.book = Playbook(store, settings=SETTINGS)
        self.book.user(*USERS)
        self.book.group("G", "alice", "bob", "cara")
        self.model = Model()
        self.at: dict[UserId, Device] = {}
        self.watching: dict[UserId, Device] = {}
        self.replicas = {user: Replica(user, "watch") for user in USERS}
        for user in USERS:
            self._connect(user, None)

    def _connect(self, user: UserId, token: str | None) -> None:
        self.at[user] = self.book.log_in(user, "phone")
        self.at[user].number = self.at[user].welcome.number  # type: ignore[union-attr]
        watch = self.watching[user] = self.book.log_in(user, "watch", resume=token, catch_up=False)
        while watch.session.state == "behind":
            (page,) = self._feed(user)
            self.book.run((watch, commands.AckPage(rid=0, token=page.token)))
        self._feed(user)

    def _feed(self, user: UserId) -> list[Any]:
        told = [update for update in self.watching[user].told() if getattr(update, "rid", None) is None]
        for update in told:
            self.replicas[user].apply(update)
        return [update for update in told if type(update).__name__ == "CatchUp"]

    def plan(self, how: str, steps: list[Any]) -> None:
        """Do some steps: at once, with a full disk, or within one held commit that then fails or not."""
        book = self.book
        if how in ("burst", "lost burst"):
            steps = [step for step in steps if step[0] not in ("cut", "evict", "crash")]
            before = copy.deepcopy(self.model)
            numbers = {user: device.number for user, device in self.at.items()}
            book.hold = True
            for step in steps:
                self.step(step, held=True)
            if how == "burst":
                book.finish()
            else:
                book.fail()
                self.model = before
                for user, number in numbers.items():
                    self.at[user].number = number
            for device in self.at.values():
                device.told()
            return
        for step in steps:
            if how == "fail" and step[0] not in ("cut", "evict", "crash"):
                before = copy.deepcopy(self.model)
                sent = {user: device.number for user, device in self.at.items()}
                book.full = True
                if self.step(step):
                    self.model = before
                    for user in USERS:
                        self.at[user].number = sent[user]
                book.full = False
            else:
                assert not self.step(step)

    def step(self, step: Any, held: bool = False) -> bool:
        """Do one step; returns whether the disk was full."""
        kind, *rest = step
        if kind in ("cut", "evict", "crash"):
            getattr(self, kind)(*rest)
            return False
        user, command, change = getattr(self, kind)(*rest)
        if command is None:
            return False
        device = self.at[user]
        device.book.run((device, command))
        told = [update for update in device.told() if getattr(update, "rid", None) == command.rid]
        full = False
        for answer in told:
            assert isinstance(answer, Accepted | Done | Rejected)
            if isinstance(answer, Rejected):
                full = answer.code is Code.STORAGE_FULL
                allowed = (Code.STORAGE_FULL, Code.BEYOND_HEAD, Code.OWN_MESSAGE, Code.NOT_IN_AUDIENCE)
                assert answer.code in allowed, answer
        assert held or len(told) == 1
        change()
        return full

    # -- steps: (who, command or None when it would be refused, what the model does)

    def _inside(self, chat: str, user: UserId) -> bool:
        there = chat == "G" or bool(self.model.facts[chat])  # two users' begins with its first message
        return there and user in self.model.people[chat] and self.model.people[chat][user].inside

    def send(self, user: UserId, chat: str, counts: bool, asks: bool) -> Any:
        if user not in self.model.people[chat] or not self.model.people[chat][user].inside:
            return user, None, None
        asks = asks and user == "alice" and chat == "G"
        kind = Counts.YES if counts else Counts.SILENT
        command = self.at[user].message(chat, "x" * 40, counts=kind, asks=asks)
        return user, command, lambda: self.model.send(chat, user, counts, asks)

    def ack(self, user: UserId, chat: str, seqs: set[int], share: bool) -> Any:
        if not self._inside(chat, user):
            return user, None, None
        there = {seq for seq in seqs if seq <= self.model.head(chat)}
        command = commands.AckDelivered(7, chat, ranges_of(seqs), share)
        return user, command, lambda: self.model.deliver(chat, user, there if share else set())

    def _knows(self, user: UserId, chat: str, knows: bool) -> int:
        return self.book.hub.world.version if knows else 0

    def through(self, user: UserId, chat: str, last: int, share: bool, knows: bool) -> Any:
        if not self._inside(chat, user):
            return user, None, None
        there = set(range(1, min(last, self.model.head(chat)) + 1))
        command = commands.ReadConversation(7, chat, last, share, self._knows(user, chat, knows))
        return user, command, lambda: self.model.read(chat, user, there, share, knows and last > 0)

    def read(self, user: UserId, chat: str, seqs: set[int], share: bool, knows: bool) -> Any:
        if not self._inside(chat, user):
            return user, None, None
        model = self.model
        facts, person = model.facts[chat], model.people[chat][user]
        there = {seq for seq in seqs if seq <= len(facts) and facts[seq - 1].author != user}
        command = commands.ReadMessages(7, chat, ranges_of(seqs), None, share, self._knows(user, chat, knows))
        if chat == "G" and share and person.shares_read:
            there -= {
                seq
                for seq in there
                if facts[seq - 1].asks and not person.had(seq) and user not in facts[seq - 1].readers
            }

        def change() -> None:
            if there:
                model.read(chat, user, there, share, knows)
                if chat == "G" and share and person.shares_read:
                    model.answer(chat, user, there, "")

        return user, command, change

    def flag(self, user: UserId, chat: str) -> Any:
        if not self._inside(chat, user):
            return user, None, None
        person = self.model.people[chat][user]

        def change() -> None:
            person.flagged = True
            person.again &= self.model.visible(chat, user)

        return user, commands.MarkUnread(rid=7, conversation=chat), change

    def mark(self, user: UserId, chat: str, seq: int) -> Any:
        if not self._inside(chat, user) or seq not in self.model.visible(chat, user):
            return user, None, None
        person, facts = self.model.people[chat][user], self.model.facts[chat]

        def change() -> None:
            more = {number for number in range(seq, len(facts) + 1) if facts[number - 1].author != user}
            person.flagged = not more
            person.again = (person.again | more) & self.model.visible(chat, user)

        return user, commands.MarkUnread(rid=7, conversation=chat, from_seq=seq), change

    def recall(self, user: UserId, chat: str, seq: int) -> Any:
        facts = self.model.facts[chat]
        if not self._inside(chat, user) or seq > len(facts) or facts[seq - 1].author != user:
            return user, None, None
        command = commands.RecallMessage(rid=7, conversation=chat, seq=seq)
        return user, command, lambda: setattr(facts[seq - 1], "recalled", True)

    def clear(self, user: UserId, chat: str, last: int) -> Any:
        if user not in self.model.people[chat] or (chat == AB and not self.model.facts[AB]):
            return user, None, None
        person = self.model.people[chat][user]
        floor = max(person.cleared, min(last, self.model.head(chat)))
        command = commands.ClearConversation(rid=7, conversation=chat, through=last)
        return user, command, lambda: setattr(person, "cleared", floor)

    def share(self, user: UserId, chat: str, read: bool, delivered: bool) -> Any:
        if user not in self.model.people[chat] or (chat == AB and not self.model.facts[AB]):
            return user, None, None
        person, head = self.model.people[chat][user], self.model.head(chat)

        def change() -> None:
            if read and not person.shares_read:
                person.read_line = head
            if delivered and not person.shares_delivered:
                person.delivered_line = head
            person.shares_read, person.shares_delivered = read, delivered

        return user, commands.SetSharing(rid=7, conversation=chat, read=read, delivered=delivered), change

    def leave(self, user: UserId) -> Any:
        if not self._inside("G", user):
            return user, None, None
        period, head = self.model.people["G"][user].periods[-1], self.model.head("G")
        command = commands.RemoveMembers(rid=7, conversation="G", users=(user,))
        return user, command, lambda: period.__setitem__(1, head)

    def add(self, user: UserId) -> Any:
        if self._inside("G", user):
            return "alice", None, None
        periods, head = self.model.people["G"][user].periods, self.model.head("G")
        command = commands.AddMembers(rid=7, conversation="G", users=(user,))
        return "alice", command, lambda: periods.append([head + 1, None])

    def cut(self, user: UserId, resume: bool) -> None:
        """A link breaks; the device comes back with its token, or with an empty replica."""
        self._feed(user)
        watch = self.watching[user]
        watch.lose()
        self.at[user].lose()
        if not resume:
            self.replicas[user] = Replica(user, "watch")
        self._connect(user, watch.token if resume else None)

    def evict(self) -> None:
        self.book.evict()

    def crash(self) -> None:
        """The process dies; everybody comes back with what they have."""
        for user in USERS:
            self._feed(user)
        tokens = {user: self.watching[user].token for user in USERS}
        self.book = self.book.crash()
        for user in USERS:
            self._connect(user, tokens[user])

    # -- what has to be true

    def check(self) -> None:
        for user in USERS:
            self._feed(user)
            self._check_counts(user)
            self._check_statuses(user)

    def _chats(self, user: UserId) -> list[str]:
        there = [AB] if user != "cara" and self.model.facts[AB] else []
        return [*there, "G"]

    def _check_counts(self, user: UserId) -> None:
        device, replica, model = self.at[user], self.replicas[user], self.model
        listed = {line.conversation: line for line in device.ask(commands.ListConversations(rid=8)).items}
        assert set(listed) == {chat for chat in self._chats(user) if self._inside(chat, user)}
        total = 0
        for chat in self._chats(user):
            unread = model.unread(chat, user)
            marked = model.marked(chat, user)
            total += len(unread)
            explained = device.ask(commands.ExplainUnread(rid=8, conversation=chat))
            assert [seq for seq, _ in explained.messages] == unread, (user, chat)
            assert (explained.unread, explained.marked_unread) == (len(unread), marked)
            assert replica.unread_seqs(chat) == unread, (user, chat, "replica")
            assert replica.marked_unread(chat) == marked
            if chat in listed:
                assert listed[chat].unread == len(unread)
                assert listed[chat].marked_unread == marked
        badge = device.ask(commands.GetBadge(rid=8))
        assert badge.messages == total

    def _check_statuses(self, user: UserId) -> None:
        device, replica, model = self.at[user], self.replicas[user], self.model
        for chat in self._chats(user):
            facts = model.facts[chat]
            own = [seq for seq in range(1, len(facts) + 1) if facts[seq - 1].author == user][-20:]
            found = device.ask(commands.GetStatus(rid=8, conversation=chat, seqs=tuple(own))).items
            others = [name for name in model.people[chat] if name != user]
            expected = {(seq, name) for seq in own for name in others if model.people[chat][name].had(seq)}
            assert {(one.seq, one.user) for one in found} == expected
            for one in found:
                assert one.read == model.read_answer(chat, one.seq, one.user), (chat, one)
                if facts[one.seq - 1].recalled:
                    continue
                assert one.status is model.status(chat, one.seq, one.user), (chat, one)
                if chat == AB:
                    assert replica.status(chat, one.seq, one.user) is one.status, (chat, one)
            if chat == "G" and self._inside(chat, user):
                for seq in own:
                    if facts[seq - 1].asks and not facts[seq - 1].recalled:
                        answer = device.ask(commands.ListReaders(rid=8, conversation=chat, seq=seq))
                        assert {one.user for one in answer.readers} == set(facts[seq - 1].readers)
                        known = {one.user for one in replica.readers(chat, seq)}
                        assert known == set(facts[seq - 1].readers)

    def check_at_rest(self) -> None:
        """Every device that resumes ends where a device that starts from nothing ends."""
        self.book.check_agreement()
        for user in USERS:
            self.cut(user, resume=True)
            resumed = self.replicas[user]
            self.cut(user, resume=False)
            fresh = self.replicas[user]
            for chat in self._chats(user):
                one, other = resumed.chat(chat).dump(), fresh.chat(chat).dump()
                mine, again = one["members"][user], other["members"][user]
                # An own message that was recalled or is behind the floor is told by that alone.
                seen = self.model.visible(chat, user) - set(seqs_of(one["recalled"]))
                assert seen & set(seqs_of(mine["read"])) == seen & set(seqs_of(again["read"]))
                for name in ("cleared_through", "sharing", "unread_mark", "periods", "registers"):
                    assert mine[name] == again[name], (user, chat, name)
                assert one["head"] == other["head"]
                if self._inside(chat, user):
                    asked = [
                        {seq: ask for seq, ask in dump["asked"].items() if ask["author"] == user}
                        for dump in (one, other)
                    ]
                    assert asked[0] == asked[1], (user, chat)
                    assert one["registers"] == other["registers"]
                    for name, theirs in other["members"].items():
                        periods = one["members"][name]["periods"]
                        assert periods == theirs["periods"], (user, chat, name)
        self.check()


def _play(store: Store, plans: list[Any]) -> None:
    pair = Pair(store)
    for how, steps in plans:
        pair.plan(how, steps)
        pair.check()
    pair.check_at_rest()


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(_plans)
def test_node_agrees_with_the_model(plans: list[Any]) -> None:
    """Whatever is cut, evicted, lost or restarted: all counts, explanations and statuses are the model's."""
    _play(MemoryStore(), plans)


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(_plans)
def test_node_agrees_with_the_model_on_disk(plans: list[Any]) -> None:
    """The same with files."""
    with TemporaryDirectory() as directory:
        store = SQLiteStore(Path(directory) / "data")
        try:
            _play(store, plans)
        finally:
            store.close()


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_steps, max_size=25))
def test_eviction_changes_no_answer(steps: list[Any]) -> None:
    """With everything evicted between commands, all answers and all that is told are the same."""
    told: list[list[Any]] = []
    for evicting in (False, True):
        pair = Pair(MemoryStore())
        found: list[Any] = []
        for step in steps:
            if step[0] in ("evict", "crash"):
                continue
            if evicting:
                pair.book.evict()
            if step[0] == "cut":
                pair.cut(*step[1:])
                continue
            user, command, change = getattr(pair, step[0])(*step[1:])
            if command is not None:
                if getattr(command, "mark_version", 0):
                    command = type(command)(*[getattr(command, n) for n in _fields(command)[:-1]], 10**9)
                pair.book.run((pair.at[user], command))
                change()
            for device in (*pair.at.values(), *pair.watching.values()):
                found.append((device.name, _without_versions(device.told())))
        told.append(found)
    assert told[0] == told[1]


def _fields(command: Any) -> list[str]:
    return [name for name in type(command).__slots__ if not name.startswith("__")]


def _without_versions(told: list[Any]) -> list[str]:
    return [str(update) for update in told]
