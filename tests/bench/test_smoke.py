"""The load generator's own checks: what is right passes, what is wrong fails the run.

No figure is looked at here: what costs what is for `python -m tests.bench`, on a machine that is quiet.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from receipts.core.conversation import Conversation
from receipts.core.errors import Code
from receipts.core.events import MessageAccepted
from receipts.core.ids import MessageId, direct
from receipts.easemob import msync_pb2 as pb
from receipts.simulation.generator import PROFILES
from receipts.wire import commands
from receipts.wire.updates import Accepted, Badge, Delivered, Explained, GroupRead, Read, Reader, Rejected
from tests.bench import node, server, simulation
from tests.bench.easemob import VendorReceiver, VendorSender
from tests.bench.load import closed_loop, group, play
from tests.bench.load_checks import Asker, Receiver, Sender, Wrong, body_of, judge_count

CHAT = direct("alice", "bob")
READ = Read(CHAT, "bob", (1, 2), 5, 7)


def sender(messages: int = 1) -> Sender:
    """Alice, who has sent that many."""
    alice = Sender("alice", "bob", CHAT)
    for _ in range(messages):
        alice.send(0.0)
    return alice


def test_round_is_finished_by_its_read() -> None:
    """Accepted, delivered and read, in this order, finish a round once."""
    alice = sender()
    alice.take(3, Accepted(1, CHAT, 1, MessageId(2), 5, 1))
    alice.take(4, Delivered(CHAT, "bob", (1, 2)))
    assert not alice.finished()
    alice.take(4, READ)
    assert len(alice.finished()) == 1
    assert not alice.finished()
    assert alice.settled


@pytest.mark.parametrize(
    "update",
    [
        Accepted(2, CHAT, 1, MessageId(2), 5, 1),
        Accepted(1, CHAT, 2, MessageId(2), 5, 1),
        Accepted(1, "alice~carol", 1, MessageId(2), 5, 1),
        Delivered(CHAT, "bob", (1, 2)),
        READ,
        Rejected(rid=1, code=Code.BUSY, reason=""),
        MessageAccepted(CHAT, 1, MessageId(2), "bob", body=body_of(1)),
    ],
)
def test_wrong_first_update_fails(update: object) -> None:
    """Whoever sent one message is told that it was taken, of it alone, before anything else."""
    with pytest.raises(Wrong):
        sender().take(1, update)


@pytest.mark.parametrize(
    "update",
    [
        Delivered(CHAT, "bob", (2, 3)),
        Delivered(CHAT, "bob", (1, 3)),
        Delivered(CHAT, "bob", (1, 2, 3, 4)),
        Delivered(CHAT, "alice", (1, 2)),
        READ,
    ],
)
def test_wrong_receipt_fails(update: object) -> None:
    """A receipt names the next messages that were taken, and a read follows its delivery."""
    alice = sender(2)
    alice.take(1, Accepted(1, CHAT, 1, MessageId(2), 5, 1))
    with pytest.raises(Wrong):
        alice.take(2, update)


def test_tick_that_goes_back_fails() -> None:
    """Updates of one link come in the order of ticks."""
    alice = sender()
    alice.take(3, Accepted(1, CHAT, 1, MessageId(2), 5, 1))
    with pytest.raises(Wrong):
        alice.take(2, Delivered(CHAT, "bob", (1, 2)))


@pytest.mark.parametrize(("seq", "author", "body"), [(2, "alice", 2), (1, "carol", 1), (1, "alice", 2)])
def test_wrong_message_fails(seq: int, author: str, body: int) -> None:
    """A receiver takes the next message of its peer, with the body that was sent, and nothing else."""
    bob = Receiver("bob", "alice", CHAT)
    with pytest.raises(Wrong):
        bob.take(1, MessageAccepted(CHAT, seq, MessageId(2), author, body=body_of(body)))


def test_receiver_acknowledges_and_reads() -> None:
    """A message is answered by its delivery and its read."""
    bob = Receiver("bob", "alice", CHAT)
    said = bob.take(1, MessageAccepted(CHAT, 1, MessageId(2), "alice", body=body_of(1)))
    assert said == [commands.AckDelivered(0, CHAT, (1, 2)), commands.ReadMessages(0, CHAT, (1, 2))]


@pytest.mark.parametrize(
    ("count", "readers"), [(2, ["bob"]), (1, ["alice"]), (2, ["bob", "bob"]), (1, []), (1, ["mallory"])]
)
def test_wrong_group_count_fails(count: int, readers: list[str]) -> None:
    """A count is that of its readers, who are members, each once, without the asker."""
    alice = Asker("alice", "G", frozenset({"bob", "carol"}))
    alice.send(0.0)
    alice.take(1, Accepted(1, "G", 1, MessageId(2), 5, 1))
    with pytest.raises(Wrong):
        alice.take(1, GroupRead("G", 1, count, tuple(Reader(name, 5, "", 1) for name in readers)))


def test_wrong_count_in_the_end_fails() -> None:
    """What a user is told to have unread is what was left unread."""
    bob = Receiver("bob", "alice", CHAT)
    bob.reads = False
    bob.take(1, MessageAccepted(CHAT, 1, MessageId(2), "alice", body=body_of(1)))
    right = Badge(rid=1, messages=1, conversations=1, muted_messages=0, muted_conversations=0)
    judge_count(bob, right)
    with pytest.raises(Wrong):
        judge_count(bob, Badge(rid=1, messages=0, conversations=0, muted_messages=0, muted_conversations=0))
    listed = ((1, MessageId(4)),)
    other = Explained(rid=1, conversation=CHAT, unread=1, marked_unread=False, messages=listed, more=False)
    with pytest.raises(Wrong):
        judge_count(bob, other)


@pytest.mark.parametrize("scheme", ["tcp", "ws", "easemob"])
def test_run_of_pairs_passes(tmp_path: Path, scheme: str) -> None:
    """Half a second of rounds against a real node finds nothing wrong, counts included."""
    url = f"{scheme}://127.0.0.1:0"
    server.seed(tmp_path, server.app_of(url))
    with node.serving(tmp_path, url, "asyncio") as served:
        scenario = partial(closed_loop, pairs=2, outstanding=2)
        found = asyncio.run(play(scenario, served.url, served.pid, 0.25))
    assert found["rounds"] > 0


VENDOR_ANSWER = pb.CommSyncDL(status=pb.Status(errorCode=0), metaId=1, serverId=10)


def vendor_receipt(kind: int, mid: int, *, receipt_id: int = 21, peer: str = "bob") -> tuple[pb.Meta, Any]:
    """As the vendor's dialect tells a receipt."""
    body = pb.MessageBody(type=kind, ackMessageId=mid)
    body.sender.name = peer
    return pb.Meta(id=receipt_id, ns=1), body


def vendor_sender() -> VendorSender:
    """Alice, who has sent one message that was taken with id 10."""
    alice = VendorSender("alice", "bob", CHAT)
    alice.say(0.0)
    alice.answered(VENDOR_ANSWER)
    return alice


@pytest.mark.parametrize("kinds", [(5, 4), (5, 7), (4,)])
def test_vendor_round_is_finished_by_its_read(kinds: tuple[int, ...]) -> None:
    """Of a message or of the conversation; a read says that it was delivered too."""
    alice = vendor_sender()
    for kind in kinds:
        assert not alice.finished()
        alice.heard(*vendor_receipt(kind, 0 if kind == 7 else 10))
    assert len(alice.finished()) == 1
    assert alice.settled


@pytest.mark.parametrize(
    "receipt",
    [
        vendor_receipt(4, 12),
        vendor_receipt(5, 12),
        vendor_receipt(5, 10, receipt_id=20),
        vendor_receipt(5, 10, peer="carol"),
        vendor_receipt(1, 10),
    ],
)
def test_wrong_vendor_receipt_fails(receipt: tuple[pb.Meta, Any]) -> None:
    """It is of the peer, has an id of a receipt, and names a message that waits for it."""
    with pytest.raises(Wrong):
        vendor_sender().heard(*receipt)


def test_vendor_receipt_that_comes_twice_fails() -> None:
    """Each kind comes once a message."""
    alice = vendor_sender()
    alice.heard(*vendor_receipt(5, 10))
    with pytest.raises(Wrong):
        alice.heard(*vendor_receipt(5, 10))
    alice.heard(*vendor_receipt(4, 10))
    with pytest.raises(Wrong):
        alice.heard(*vendor_receipt(4, 10))


def test_wrong_vendor_message_fails() -> None:
    """A receiver takes the next text of its peer, and answers it with two receipts."""
    bob = VendorReceiver("bob", "alice", CHAT)
    for number, mid in ((2, 10), (1, 11)):
        body = pb.MessageBody(type=1, contents=[pb.Content(type=0, text=body_of(number))])
        with pytest.raises(Wrong):
            bob.heard(pb.Meta(id=mid, ns=1), body)
    right = pb.MessageBody(type=1, contents=[pb.Content(type=0, text=body_of(1))])
    assert len(bob.heard(pb.Meta(id=10, ns=1), right)) == 2
    with pytest.raises(Wrong):
        bob.answered(pb.CommSyncDL(status=pb.Status(errorCode=0), metaId=3))


def test_run_of_a_group_passes(tmp_path: Path) -> None:
    """The same in a group whose members all answer."""
    server.seed(tmp_path)
    with node.serving(tmp_path, "tcp://127.0.0.1:0", "asyncio") as served:
        found = asyncio.run(play(group, served.url, served.pid, 0.25))
    assert found["rounds"] > 0


def test_worlds_are_measured_by_profile(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every profile has its line beside the sum; a world in which something is wrong has no figure."""
    simulation.main(["--runs", "1", "--seeds", "4", "--events", "50"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[-5:]] == [
        "all profiles alike",
        *(f"– with `{faults}` faults" for faults in PROFILES),
    ]

    def wrong(chat: Conversation, user: str) -> int:
        return chat.head + 1

    monkeypatch.setattr(Conversation, "unread", wrong)
    with pytest.raises(SystemExit, match=r"seed 0 breaks I-\d+: no figure"):
        simulation.measure([0], 500)
