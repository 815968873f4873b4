"""Exact when killed at any moment: a device on a real file, a node that decides, cuts anywhere."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from receipts.client.disk import Disk, rows_of
from receipts.client.outbox import Outbox
from receipts.client.replica import Replica
from receipts.client.session import Profile, Session, State
from receipts.core import decide
from receipts.core.conversation import Conversation
from receipts.core.events import MessageAccepted
from receipts.core.ids import ConversationKind, MessageId
from receipts.core.ranges import RangeSet, ranges_of, through
from receipts.wire import commands
from receipts.wire.codec import decode_command, encode_update
from receipts.wire.updates import (
    Accepted,
    CatchUp,
    ConversationPart,
    MemberPart,
    Pong,
    Update,
    Welcome,
)

CHAT = "alice~bob"


class Node:
    """Decides with the real machine and remembers numbers of sends.

    Unrealistic: one conversation, one session, one tick a command, and a resume that always brings all marks.
    """

    def __init__(self) -> None:
        self.chat = Conversation.between("alice", "bob")
        self.tick = 0
        self.messages: list[tuple[int, MessageAccepted]] = []
        self.sent: dict[tuple[str, int], Accepted] = {}
        self.bodies: list[str] = []
        self.install = ""
        self.out: list[bytes | str] = []

    def say(self, update: Update) -> None:
        self.out.append(encode_update(update, self.tick))

    def post(self, author: str, body: str, *, push: bool) -> MessageAccepted:
        self.tick += 1
        event = decide.accept(
            self.chat, author, message_id=MessageId(2 * self.tick), body=body, at_ms=self.tick
        )
        self.chat.apply(event)
        self.messages.append((self.tick, event))
        if push:
            self.say(event)
        return event

    def hear(self, frame: bytes | str) -> None:
        command = decode_command(frame)
        self.tick += 1
        match command:
            case commands.Hello():
                self.install = command.install
                self.welcome(command)
            case commands.SendMessage():
                self.send(command)
            case commands.AckDelivered():
                self.mark(decide.deliver(self.chat, "bob", "phone", command.ranges))
            case commands.ReadConversation():
                self.read(through(command.through), command.mark_version)
            case commands.ReadMessages():
                self.read(command.ranges, command.mark_version)
            case commands.MarkUnread():
                self.chat.apply(decide.mark_unread(self.chat, "bob", version=self.tick))
                self.say(decide.mark_unread(self.chat, "bob", version=self.tick))
                self.say(Pong(command.rid))
            case commands.Ping():
                self.say(Pong(command.rid))
            case _:
                assert isinstance(command, commands.AckPage)

    def mark(self, event: object) -> None:
        if event is not None:
            self.chat.apply(event)  # type: ignore[arg-type]

    def read(self, ranges: tuple[int, ...], known: int) -> None:
        self.mark(decide.read(self.chat, "bob", ranges, device="phone", version=self.tick))
        self.mark(decide.unmark(self.chat, "bob", ranges, known=known, version=self.tick))

    def send(self, command: commands.SendMessage) -> None:
        key = (self.install, command.number)
        if key not in self.sent:
            event = self.post("bob", str(command.body), push=False)
            self.bodies.append(str(command.body))
            self.sent[key] = Accepted(
                command.rid, CHAT, event.seq, event.message_id, event.at_ms, command.number
            )
        first = self.sent[key]
        self.say(Accepted(command.rid, CHAT, first.seq, first.message_id, first.at_ms, command.number))

    def welcome(self, hello: commands.Hello) -> None:
        since = int(hello.resume.partition(":")[2]) if hello.resume else -1
        self.say(
            Welcome(
                rid=hello.rid,
                user="bob",
                device="phone",
                prefix="life:",
                full=since < 0,
                node_time_ms=0,
                heartbeat_ms=1000,
                number=max((number for _, number in self.sent), default=0),
            )
        )
        mine = self.chat.member("bob")
        part = ConversationPart(
            conversation=CHAT,
            kind=ConversationKind.DIRECT,
            head=self.chat.head,
            messages=tuple(event for tick, event in self.messages if tick > since),
            members=(
                MemberPart(
                    user="bob",
                    read=mine.read.ranges,
                    held=mine.held("phone").ranges,
                    unread_mark=mine.unread_mark,
                ),
            ),
        )
        self.say(CatchUp(parts=(part,), token=f"life:{self.tick}", live=True, full=since < 0))


class Phone:
    """A process with a file, which can be killed between any two steps, and in the middle of one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_ms = 0
        self.number = 0
        self.disk = Disk(path, messages_max=1000)
        self.start()

    def start(self) -> None:
        saved = self.disk.open(user="bob", device="phone", app="default", install="install")
        replica = Replica("bob", "phone")
        replica.token = saved.token
        replica.restore(saved.parts, saved.messages)
        outbox = Outbox(saved.install, saved.number)
        outbox.restore(saved.sends, saved.marks)
        profile = Profile(user="bob", device="phone", coalesce_ms=10)
        self.session = Session(profile, replica, outbox, saving=True)

    def kill(self) -> None:
        self.disk.close()
        self.start()

    def work(self) -> list[bytes | str]:
        """What `connection` does: take, save, and only then hand out."""
        self.session.timer(self.now_ms)
        changes = self.session.take_changes()
        frames = self.session.take_frames(self.now_ms)
        if changes is not None:
            self.disk.commit(rows_of(changes))
        return frames


_WHATS = (
    *("post", "post", "read", "read_some", "open", "close", "send", "mark"),
    *("exchange", "exchange", "exchange", "half", "cut", "kill", "kill_unsaved"),
)
_Steps = list[tuple[str, int]]


def _long(seed: int) -> _Steps:
    chance = random.Random(seed)
    return [(chance.choice(_WHATS), chance.randint(1, 8)) for _ in range(60)]


_STEPS = st.one_of(
    st.lists(st.tuples(st.sampled_from(_WHATS), st.integers(1, 8)), max_size=40),
    st.integers(0, 2**32).map(_long),
)


class Story:
    """A phone, a node, and a link between them that may be cut."""

    def __init__(self, path: Path) -> None:
        self.node = Node()
        self.phone = Phone(path)
        self.linked = False
        self.written: list[str] = []

    def link(self) -> None:
        session = self.phone.session
        if not self.linked and session.state is State.OFFLINE:
            session.link_opened(self.phone.now_ms, password="x")
            self.node.out.clear()
            self.linked = True

    def cut(self) -> None:
        self.linked = False
        self.node.out.clear()
        self.phone.session.link_lost(self.phone.now_ms)

    def exchange(self, keep: int | None = None) -> None:
        """Frames both ways; with `keep` only that many of the phone's arrive, and the answers are lost."""
        self.link()
        self.phone.now_ms += 20
        frames = self.phone.work()
        for frame in frames[:keep]:
            self.node.hear(frame)
        if keep is not None:
            self.cut()
            return
        out, self.node.out = self.node.out, []
        self.phone.session.receive_frames(out, self.phone.now_ms)
        assert self.phone.session.broken is None, self.phone.session.broken

    def step(self, what: str, n: int) -> None:
        session = self.phone.session
        now = self.phone.now_ms
        last = session.replica.last(CHAT)
        match what:
            case "post":
                self.node.post("alice", f"alice {n}", push=self.linked and session.state is State.LIVE)
            case "read" if last:
                session.read(CHAT, min(n, last), now)
            case "read_some" if last:
                session.read_messages(CHAT, {min(n, last), min(n + 2, last)}, None, now)
            case "open":
                session.open_chat(CHAT, now)
            case "close":
                session.close_chat(CHAT)
            case "send":
                self.written.append(f"bob {len(self.written)}")
                session.send(CHAT, self.written[-1])
                for frame in self.phone.work():
                    self.node.hear(frame)
            case "mark" if session.state is State.LIVE and session.replica.chat(CHAT).head:
                session.ask(lambda rid: commands.MarkUnread(rid=rid, conversation=CHAT))
            case "exchange":
                self.exchange()
            case "half":
                self.exchange(keep=n % 3)
            case "cut" if self.linked:
                self.cut()
            case "kill":
                self.linked = False
                self.node.out.clear()
                self.phone.work()
                self.phone.kill()
            case "kill_unsaved":
                self.linked = False
                self.node.out.clear()
                self.phone.kill()
                stored = RangeSet(
                    ranges_of(m.seq for m in self.phone.session.replica.messages(CHAT, limit=999))
                )
                held = self.node.chat.member("bob").held("phone")
                assert not stored.missing(held.ranges), (
                    "the node takes for delivered what a crash lost (I-24)"
                )
            case _:
                pass

    def heal(self) -> None:
        for _ in range(12):
            self.exchange()
            session = self.phone.session
            if session.state is State.LIVE:
                session.flush(self.phone.now_ms)


@given(steps=_STEPS)
@settings(max_examples=60)
def test_nothing_is_lost_doubled_or_promised_too_early(steps: _Steps) -> None:
    """Whatever is cut or killed and when: each message once, delivered implies durable, and in the end node
    and phone agree on what is unread and marked (I-13, I-24, scene 7)."""
    with tempfile.TemporaryDirectory() as directory:
        story = Story(Path(directory) / "phone.db")
        try:
            for what, n in steps:
                story.step(what, n)
            story.heal()
            node, session = story.node, story.phone.session
            chat = node.chat
            assert session.flushed
            assert session.outbox.sends == {}
            assert sorted(node.bodies) == sorted(story.written)
            assert [m.seq for m in session.replica.messages(CHAT, limit=999)] == [
                event.seq for _, event in node.messages
            ]
            assert session.unread_seqs(CHAT) == list(RangeSet(chat.unread_ranges("bob")))
            assert session.replica.unread_seqs(CHAT) == session.unread_seqs(CHAT)
            assert session.marked_unread(CHAT) is chat.marked_unread("bob")
            others = ranges_of(event.seq for _, event in node.messages if event.author == "alice")
            held = chat.member("bob").held("phone")
            assert not held.missing(others), "a message of others that was never acknowledged"
        finally:
            story.phone.disk.close()
