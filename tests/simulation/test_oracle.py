"""The oracle by itself: stories told to it in commands, and what it makes of them.

A judge that is wrong in the same way as what it judges is worth nothing: here its answers are compared by
hand with what the examples say, and its arithmetic with sets.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import receipts.simulation
from receipts.core.policy import Features, Limits, RollUp
from receipts.core.ranges import ranges_of
from receipts.node.commands import AddUser, LinkLost, MakeGroup
from receipts.simulation.facts import Talk, bit_runs, bits, seqs_of_bits, up_to
from receipts.simulation.oracle import Expected, Oracle, Rules, Sender
from receipts.wire import VERSION, commands

AB = "alice~bob"
OPERATOR = Sender(1, operator=True)


class Story:
    """An oracle, and people who speak to it. Unrealistic: every command is a tick of its own."""

    def __init__(self, *, limits: Limits | None = None, features: Features | None = None) -> None:
        self.oracle = Oracle()
        self.oracle.rules["default"] = Rules(features or Features(), limits or Limits())
        self.now_ms = 1_000_000
        self.tick = 0
        self.numbers: dict[int, int] = {}
        self.sessions = 1
        for user in ("alice", "bob", "cara"):
            self.do(OPERATOR, AddUser(rid=0, app="default", user=user))

    def group(self, owner: str, *members: str) -> None:
        """The group G."""
        self.do(
            OPERATOR,
            MakeGroup(rid=0, app="default", conversation="G", name="", owner=owner, members=members),
        )

    def log_in(self, user: str, device: str = "phone") -> int:
        """A new session, by its number."""
        self.sessions += 1
        hello = commands.Hello(version=VERSION, user=user, device=device, install=device, delivery=True)
        self.do(Sender(self.sessions), hello)
        self.oracle.logins[self.sessions].live = True
        return self.sessions

    def do(self, sender: Sender | int, command: Any) -> list[Expected]:
        """A command is decided; what the node has to say."""
        if isinstance(sender, int):
            sender = Sender(sender, purse=sender)
        self.tick += 1
        self.oracle.begin(self.now_ms, self.tick)
        self.oracle.do(sender, command)
        self.oracle.end()
        said, self.oracle.said = self.oracle.said, []
        return said

    def send(self, session: int, to: str = AB, **more: Any) -> list[Expected]:
        """A message."""
        number = self.numbers[session] = self.numbers.get(session, 0) + 1
        return self.do(session, commands.SendMessage(9, to, "hi", number, **more))

    def refused(self, session: int, command: Any) -> str:
        """Why a command is refused."""
        ((_, kind, content),) = self.do(session, command)
        assert kind == "Rejected"
        return str(content[1])

    def talk(self, name: str = AB) -> Talk:
        return self.oracle.talks["default", name]

    def unread(self, user: str, name: str = AB) -> list[int]:
        """What waits for somebody, counted both ways."""
        talk = self.talk(name)
        person = talk.people[user]
        found = list(seqs_of_bits(talk.unread(person)))
        assert talk.recount(person) == found
        return found


def kinds(said: list[Expected]) -> list[tuple[str, tuple[int, ...]]]:
    """What is said, to whom."""
    return [(one.kind, one.to) for one in said]


def test_it_shares_nothing_with_what_it_judges() -> None:
    """Of the package the oracle and its facts import names of things and of events alone."""
    chapters = ("oracle", "facts", "ledger", "talking", "grouping", "asking", "coming")
    allowed = {"receipts.core.ids", "receipts.core.events"}
    allowed |= {f"receipts.simulation.{name}" for name in chapters}
    room = Path(receipts.simulation.__file__ or "").parent
    for name in chapters:
        for node in ast.walk(ast.parse((room / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and (
                node.level or (node.module or "").startswith("receipts")
            ):
                module = f"receipts.simulation.{node.module}" if node.level else node.module
                assert module in allowed, (name, module)


@given(st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)), st.integers(0, 60))
def test_sets_of_bits_are_sets(one: set[int], other: set[int], last: int) -> None:
    """Bits and ranges say the same sets; runs are neighbours."""
    found = bits(ranges_of(one), 100)
    assert set(seqs_of_bits(found)) == one
    assert list(seqs_of_bits(found)) == sorted(one)
    assert set(seqs_of_bits(found & ~bits(ranges_of(other), 100))) == one - other
    assert set(seqs_of_bits(bits(ranges_of(one), last))) == {seq for seq in one if seq <= last}
    assert set(seqs_of_bits(up_to(last))) == set(range(1, last + 1))
    assert bit_runs(found) == sum(seq - 1 not in one for seq in one)


def test_sent_delivered_read() -> None:
    """Scene 1: each step is told to whom it concerns, once."""
    story = Story()
    alice, laptop = story.log_in("alice"), story.log_in("alice", "laptop")
    bob, tablet = story.log_in("bob"), story.log_in("bob", "tablet")
    assert kinds(story.send(alice)) == [("Accepted", (alice,)), ("MessageAccepted", (laptop, bob, tablet))]
    assert (story.unread("alice"), story.unread("bob")) == ([], [1])
    assert kinds(story.do(bob, commands.AckDelivered(0, AB, (1, 2)))) == [("Delivered", (alice, laptop))]
    assert story.do(tablet, commands.AckDelivered(0, AB, (1, 2))) == []
    assert story.unread("bob") == [1]
    said = story.do(bob, commands.ReadConversation(0, AB, 1))
    assert kinds(said) == [("Read", (tablet,)), ("Read", (alice, laptop))]
    assert story.do(tablet, commands.ReadConversation(0, AB, 1)) == []
    assert story.unread("bob") == []
    assert story.talk().status(1, "bob") == 3


def test_sparse_reads_and_what_is_new() -> None:
    """Scene 4: only what is new is told."""
    story = Story()
    alice, bob = story.log_in("alice"), story.log_in("bob")
    for _ in range(10):
        story.send(alice)
    story.do(bob, commands.ReadMessages(0, AB, (3, 5, 9, 10)))
    assert story.unread("bob") == [1, 2, 5, 6, 7, 8, 10]
    (told,) = story.do(bob, commands.ReadConversation(0, AB, 8))
    assert set(seqs_of_bits(told.content[2])) == {1, 2, 5, 6, 7, 8}


def test_beyond_the_head() -> None:
    """Scene 5: applied up to the head, refused behind it."""
    story = Story()
    alice, bob = story.log_in("alice"), story.log_in("bob")
    for _ in range(3):
        story.send(alice)
    answer = story.do(bob, commands.ReadConversation(7, AB, 10))[-1]
    assert answer.content == (7, "beyond_head", (4, 10), AB, 3)
    assert story.unread("bob") == []
    story.send(alice)
    assert story.unread("bob") == [4]


def test_a_repeat_is_answered_as_the_first_time() -> None:
    """Scene 7: also when its author may not send any more; the same number elsewhere is refused."""
    story = Story()
    alice, bob = story.log_in("alice"), story.log_in("bob")
    story.group("bob", "alice")
    message = commands.SendMessage(9, "G", "hi", 1)
    first = story.do(alice, message)[0]
    story.do(bob, commands.RemoveMembers(rid=1, conversation="G", users=("alice",)))
    assert story.do(alice, message) == [first]
    assert story.refused(alice, commands.SendMessage(9, "G", "more", 2)) == "not_a_member"
    assert story.refused(alice, commands.SendMessage(9, AB, "hi", 1)) == "client_id_reused"
    assert story.talk("G").head == 1


def test_recalled_once() -> None:
    """Scene 8: a recall takes exactly what was counted; a repeat is told to nobody."""
    story = Story()
    alice, bob = story.log_in("alice"), story.log_in("bob")
    for _ in range(3):
        story.send(alice)
    recall = commands.RecallMessage(rid=1, conversation=AB, seq=2)
    assert kinds(story.do(alice, recall)) == [("Done", (alice,)), ("MessageRecalled", (bob,))]
    assert kinds(story.do(alice, recall)) == [("Done", (alice,))]
    assert story.unread("bob") == [1, 3]
    assert story.do(bob, commands.AckDelivered(0, AB, (2, 3))) == []
    assert story.talk().is_read(2, "bob") == "recalled"


def test_sharing_off_and_on() -> None:
    """Scene 9: nothing of the past is ever told, read or not; from the line on it is."""
    story = Story()
    alice, bob = story.log_in("alice"), story.log_in("bob")
    for _ in range(2):
        story.send(alice)
    story.do(bob, commands.SetSharing(rid=1, read=False))
    assert story.do(bob, commands.ReadConversation(0, AB, 1)) == []
    story.do(bob, commands.SetSharing(rid=1, read=True))
    assert story.do(bob, commands.ReadConversation(0, AB, 2)) == []
    story.send(alice)
    (told,) = story.do(bob, commands.ReadConversation(0, AB, 3))
    assert told.content[2] == 1 << 3
    assert [story.talk().is_read(seq, "bob") for seq in (1, 2, 3)] == ["sharing_off", "sharing_off", True]


def test_marked_unread_by_who_knows_it() -> None:
    """Scenes 11 and 12: a device clears a mark that it knew; what was read stays read for others."""
    story = Story()
    alice, bob, laptop = story.log_in("alice"), story.log_in("bob"), story.log_in("bob", "laptop")
    for _ in range(10):
        story.send(alice)
    story.do(bob, commands.ReadConversation(0, AB, 10))
    mark = commands.MarkUnread(rid=1, conversation=AB, from_seq=8)
    assert kinds(story.do(bob, mark))[0] == ("UnreadMarked", (bob, laptop))
    person = story.talk().people["bob"]
    person.mark_version = 51
    assert story.unread("bob") == [8, 9, 10]
    assert story.do(laptop, commands.ReadConversation(0, AB, 10, True, 40)) == []
    assert story.unread("bob") == [8, 9, 10]
    story.do(laptop, commands.ReadConversation(0, AB, 9, True, 51))
    assert story.unread("bob") == [10]
    person.mark_version = 52
    story.do(laptop, commands.ReadConversation(0, AB, 10, True, 52))
    assert not story.talk().marked(person)
    assert story.talk().status(8, "bob") == 3


def test_all_devices_have_to_hold_it() -> None:
    """Scene 13: under the rule 'all' a device that came later is not asked; one that leaves can only help."""
    story = Story(features=Features(roll_up=RollUp.ALL))
    alice, phone, tablet = story.log_in("alice"), story.log_in("bob"), story.log_in("bob", "tablet")
    story.send(alice)
    late = story.log_in("bob", "laptop")
    assert story.do(phone, commands.AckDelivered(0, AB, (1, 2))) == []
    assert story.do(late, commands.AckDelivered(0, AB, (1, 2))) == []
    said = story.do(phone, commands.LogOutDevice(rid=1, device="tablet"))
    assert ("Delivered", (alice,)) in kinds(said)
    assert ("Cut", (tablet,)) in kinds(said)


def test_newcomers_and_rejoiners() -> None:
    """Scenes 15 and 16: nothing from before, or from between, is unread; the audience is who was there."""
    story = Story()
    alice, bob = story.log_in("alice"), story.log_in("bob")
    story.group("alice", "bob")
    for _ in range(5):
        story.send(alice, "G")
    story.do(bob, commands.ReadConversation(0, "G", 2))
    story.do(alice, commands.RemoveMembers(rid=1, conversation="G", users=("bob",)))
    assert story.unread("bob", "G") == []
    assert story.refused(bob, commands.ReadConversation(1, "G", 5)) == "not_a_member"
    story.send(alice, "G")
    story.do(alice, commands.AddMembers(rid=1, conversation="G", users=("bob", "cara")))
    story.send(alice, "G")
    assert story.unread("bob", "G") == story.unread("cara", "G") == [7]
    assert [story.talk("G").audience(seq, "alice") for seq in (5, 6, 7)] == [["bob"], [], ["bob", "cara"]]


def test_answers_to_a_message_that_asks() -> None:
    """Scenes 17 to 19: the first answer stands, for the asker alone; reading a conversation is no answer."""
    story = Story()
    alice, bob, cara = story.log_in("alice"), story.log_in("bob"), story.log_in("cara")
    story.group("alice", "bob")
    story.send(alice, "G", asks=True)
    story.do(alice, commands.AddMembers(rid=1, conversation="G", users=("cara",)))
    assert story.do(bob, commands.ReadConversation(0, "G", 1)) == []
    (told,) = story.do(bob, commands.ReadMessages(0, "G", (1, 2), "ok"))
    assert (told.kind, told.to, told.content[1:3]) == ("GroupRead", (alice,), (1, 1))
    assert story.do(bob, commands.ReadMessages(0, "G", (1, 2), "later")) == []
    assert story.talk("G").asked[1] == {"bob": (story.now_ms, "ok")}
    assert story.refused(cara, commands.ReadMessages(1, "G", (1, 2), "me too")) == "not_in_audience"
    assert story.refused(alice, commands.ReadMessages(1, "G", (1, 2), "mine")) == "own_message"


def test_expired_is_not_never() -> None:
    """Scene 20: readers are gone, and that is said."""
    story = Story()
    alice, bob = story.log_in("alice"), story.log_in("bob")
    story.group("alice", "bob")
    story.send(alice, "G", asks=True)
    story.do(bob, commands.ReadMessages(0, "G", (1, 2)))
    talk = story.talk("G")
    story.oracle.expire_receipts(talk, 1)
    story.oracle.said.clear()
    assert talk.is_read(1, "bob") == "expired"
    assert story.refused(bob, commands.ReadMessages(1, "G", (1, 2), "once more")) == "expired"
    story.send(alice, "G")
    story.oracle.expire_messages(talk, 1)
    assert story.unread("bob", "G") == [2]


def test_too_often() -> None:
    """A call over the rate is refused and leaves no trace; deliveries have none."""
    story = Story(limits=Limits(marks_burst=1, marks_per_second=1.0))
    alice, bob = story.log_in("alice"), story.log_in("bob")
    for _ in range(3):
        story.send(alice)
    story.do(bob, commands.ReadConversation(0, AB, 1))
    assert story.refused(bob, commands.ReadConversation(1, AB, 2)) == "rate_limited"
    assert story.unread("bob") == [2, 3]
    assert kinds(story.do(bob, commands.AckDelivered(0, AB, (2, 3)))) == [("Delivered", (alice,))]
    story.now_ms += 1000
    story.do(bob, commands.ReadConversation(0, AB, 2))
    assert story.unread("bob") == [3]


def test_what_is_not_on_disk_can_be_undone() -> None:
    """Undone, lost and looked behind: what was committed stands, and what came after it comes back only from
    a look."""
    story = Story()
    alice, bob = story.log_in("alice"), story.log_in("bob")
    story.send(alice)
    oracle = story.oracle
    oracle.begun()
    oracle.committed()
    story.send(alice)
    story.do(bob, commands.ReadConversation(0, AB, 2))
    assert oracle.on_disk(lambda: (story.talk().head, story.unread("bob"))) == (1, [1])
    assert (story.talk().head, story.unread("bob")) == (2, [])
    oracle.begun()
    story.send(alice)
    oracle.undone()
    assert (story.talk().head, story.unread("bob")) == (1, [1])
    assert oracle.accounts["default", "alice"].installs["phone"].keys() == {1}
    story.send(bob)
    oracle.begun()
    story.send(alice)
    oracle.lost(kept=True)
    assert (story.talk().head, oracle.logins) == (2, {})
    alice = story.log_in("alice")
    story.send(alice)
    oracle.lost(kept=False)
    assert story.talk().head == 2


def test_a_link_that_is_gone_hears_nothing() -> None:
    """Who left is not among those who are told; who logs in again takes the place of the old session."""
    story = Story()
    alice, bob = story.log_in("alice"), story.log_in("bob")
    story.send(alice)
    again = story.log_in("bob")
    assert bob in story.oracle.closed
    assert kinds(story.send(alice))[1] == ("MessageAccepted", (again,))
    story.do(again, LinkLost())
    assert kinds(story.send(alice)) == [("Accepted", (alice,))]
