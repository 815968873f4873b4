"""SQLite against the model: after any sequence of batches both stores give the same answers."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from receipts.core.ids import Seq
from receipts.storage.base import AskRow
from receipts.storage.memory import MemoryStore
from receipts.storage.sqlite import SQLiteStore
from tests.storage.writer import Writer, every_answer, open_store

NAMES = ("a~b", "g", "h")
USERS = ("a", "b", "c")

names = st.sampled_from(NAMES)
users = st.sampled_from(USERS)
bodies = st.one_of(st.text(max_size=20), st.binary(max_size=20), st.just("x" * 400))


class Agreement(RuleBasedStateMachine):
    """Rows of any kind in any order, several to a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="receipts-")
        self.memory = MemoryStore()
        self.sqlite = SQLiteStore(Path(self.directory.name))
        self.stores = (self.memory, self.sqlite)
        for store in self.stores:
            open_store(store)
        self.writer = Writer(*self.stores)
        self.installs: dict[str, int] = {}
        self.asks: dict[tuple[int, Seq], AskRow] = {}
        self.floors: dict[str, Seq] = {}
        self.is_dirty = False

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        self.directory.cleanup()

    @initialize()
    def begin(self) -> None:
        """Three conversations, one of them empty of members."""
        self.writer.conversation("a~b", "a", "b")
        self.writer.conversation("g", "a", "b", "c")
        self.writer.conversation("h")
        self.commit()

    @rule(user=users, removed=st.booleans(), device=st.sampled_from(["", "phone", "tv"]))
    def account(self, user: str, removed: bool, device: str) -> None:
        if device:
            self.writer.device(user, device, removed=removed)
        else:
            self.writer.user(user, removed=removed)

    @rule(name=names, author=users, body=bodies, stored=st.booleans(), counts=st.integers(0, 2))
    def send(self, name: str, author: str, body: str | bytes, stored: bool, counts: int) -> None:
        if stored and author not in self.installs:
            self.installs[author] = self.writer.install(author, "i").key
        self.writer.send(name, author, body, install=self.installs[author] if stored else 0, counts=counts)

    @rule(name=names, author=users)
    def ask(self, name: str, author: str) -> None:
        row = self.writer.ask(name, author)
        self.asks[row.key, row.seq] = row

    @precondition(lambda self: self.asks)
    @rule(data=st.data(), reader=users, content=st.text(max_size=5))
    def answer(self, data: st.DataObject, reader: str, content: str) -> None:
        row = data.draw(st.sampled_from(sorted(self.asks.values())))
        self.writer.answer(row, reader, content)

    @rule(name=names, user=users)
    def come_or_go(self, name: str, user: str) -> None:
        member = self.writer.periods.get((name, user))
        if member is not None and member.joined:
            self.writer.leave(name, user)
        else:
            self.writer.join(name, user)

    @rule(name=names, user=users, seq=st.integers(1, 9), private=st.booleans())
    def mark(self, name: str, user: str, seq: int, private: bool) -> None:
        self.writer.mark(name, user, (seq, seq + 2), private=private)

    @rule(name=names, user=users, device=st.sampled_from(["tv", "car"]), through=st.integers(0, 9))
    def tell(self, name: str, user: str, device: str, through: int) -> None:
        self.writer.tell(name, user, device, through)

    @rule(name=names, user=users, seq=st.integers(0, 9))
    def clear(self, name: str, user: str, seq: int) -> None:
        if (name, user) in self.writer.periods:
            self.writer.clear(name, user, min(seq, self.writer.heads[name]))

    @rule(name=names, seq=st.integers(1, 9), by=users)
    def recall(self, name: str, seq: int, by: str) -> None:
        self.writer.recall(name, seq, by)

    @rule(name=names, folded=st.integers(0, 9))
    def row(self, name: str, folded: int) -> None:
        self.writer.row(name, folded_through=folded, expired_through=self.floors.get(name, 0))

    @rule(name=names, through=st.integers(1, 9), whole=st.booleans())
    def expire(self, name: str, through: int, whole: bool) -> None:
        through = min(through, self.writer.heads[name])
        key = self.writer.keys[name]
        if whole:
            self.floors[name] = max(through, self.floors.get(name, 0))
            self.writer.batch.expired_messages.append((key, through))
            self.writer.row(name, expired_through=self.floors[name])
        else:
            self.writer.batch.expired_receipts.append((key, through))
        for place in [place for place in self.asks if place[0] == key and place[1] <= through]:
            del self.asks[place]

    @rule()
    def commit(self) -> None:
        self.writer.commit()
        self.is_dirty = True

    @rule()
    def open_again(self) -> None:
        for store in self.stores:
            store.close()
            open_store(store)

    @invariant()
    def agree(self) -> None:
        """Asked when there is something new to ask about: uncommitted rows change no answer."""
        if not self.is_dirty:
            return
        self.is_dirty = False
        for (question, expected), (_, found) in zip(
            every_answer(self.memory, self.writer), every_answer(self.sqlite, self.writer), strict=True
        ):
            assert found == expected, question

        assert self.sqlite.problems() == []


TestAgreement = Agreement.TestCase
# Every step asks some hundred questions: fewer examples than where a step is cheap.
TestAgreement.settings = settings(max_examples=settings().max_examples // 4, stateful_step_count=40)
