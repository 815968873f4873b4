"""The session: its table, what it says when, and how it comes back."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipts.client.news import MarkRefused, Offline, Online, SendRefused
from receipts.client.session import (
    FATAL,
    RETRY_FIRST_MS,
    RETRY_MAX_MS,
    TABLE,
    WELCOME_MS,
    Input,
    State,
    back_off_ms,
)
from receipts.core.errors import Code, LocalProtocolError, Refused
from receipts.core.events import MessageAccepted, MessageRecalled, SharingChanged, UnreadMarked
from receipts.core.ids import ConversationKind, MessageId
from receipts.core.status import Status
from receipts.wire.codec import encode_update
from receipts.wire.commands import (
    AckDelivered,
    AckPage,
    AckStatistics,
    ChangePassword,
    ClearConversation,
    ExplainUnread,
    FetchHistory,
    GetBadge,
    Hello,
    Ping,
    ReadConversation,
    ReadMessages,
    RecallMessage,
    SendMessage,
    SetMuted,
)
from receipts.wire.updates import (
    Accepted,
    Badge,
    CatchUp,
    ConversationPart,
    Done,
    Goodbye,
    History,
    MemberPart,
    Pong,
    Read,
    ReadStatistics,
    Rejected,
    Welcome,
)

from .device import PREFIX, Device, message, only

CHAT = "alice~bob"


def rejected(rid: int, code: Code, **more: Any) -> Rejected:
    return Rejected(rid=rid, code=code, reason="no", **more)


# -- the table --------------------------------------------------------------------------------------------


def test_table_is_complete() -> None:
    """Every state has its row, every row leads to a state, and nothing leads out of closed."""
    assert set(TABLE) == set(State)
    assert all(isinstance(after, State) for row in TABLE.values() for after in row.values())
    assert TABLE[State.CLOSED] == {}
    reached = {after for row in TABLE.values() for after in row.values()} | {State.OFFLINE}
    assert reached == set(State)


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", list(Input))
def test_what_the_table_lacks_changes_nothing(state: State, event: Input) -> None:
    """An input leads where the table says; one that it lacks is refused and leaves the state."""
    session = Device().session
    session.state = state
    after = TABLE[state].get(event)
    if after is not None:
        session._move(event)
        assert session.state is after
    else:
        with pytest.raises(Exception, match=state.value):
            session._move(event)
        assert session.state is state


def test_login_says_what_is_here_already() -> None:
    """Hello carries the replica's resume token and the outbox's install id, and nothing goes first."""
    device = Device(install="abc", delivery=True, client="test 1")
    device.replica.token = "life:7"
    hello = device.open()
    assert (hello.user, hello.device, hello.install, hello.resume) == ("bob", "phone", "abc", "life:7")
    assert (hello.password, hello.token, hello.delivery, hello.client) == ("secret", None, True, "test 1")
    device.session.send("alice~bob", "too early")
    assert device.said() == []


def test_pages_then_live() -> None:
    """Each page is acknowledged with its token; with the last one the session is live and says so once."""
    device = Device()
    device.welcome()
    device.page(live=False)
    assert device.said() == [AckPage(rid=0, token=f"{PREFIX}{device.tick - 1}")]
    assert device.state() is State.BEHIND
    device.page()
    assert device.state() is State.LIVE
    assert only(Online, device.told()) == [Online()]


@pytest.mark.parametrize(
    "update",
    [CatchUp(parts=(), token="t", live=True), Done(1)],
    ids=["page before welcome", "answer before welcome"],
)
def test_a_confused_node_is_cut(update: Any) -> None:
    """What makes no sense now cuts the link, or is ignored; it never raises and never changes the replica."""
    device = Device()
    device.open()
    device.session.receive_frames([encode_update(update, 1)], 0)
    assert device.session.state is State.GREETING
    assert (device.session.broken is not None) is isinstance(update, CatchUp)


def test_garbage_cuts_the_link_and_what_stood_before_it_counts() -> None:
    """Frames before the broken one are taken in; then the link is dropped and opened again (I-23)."""
    device = Device()
    device.live()
    frames = [encode_update(message(1), 5), b"\xc1", encode_update(message(2), 6)]
    device.session.receive_frames(frames, 0)
    assert device.session.broken is not None
    assert device.session.unread(CHAT) == 1
    assert device.said() == []
    device.lose()
    assert device.session.state is State.OFFLINE


@pytest.mark.parametrize(
    "update",
    [
        Read(CHAT, "mallory", (1, 2), 5, 5),
        MessageAccepted(CHAT, 2, MessageId(4), "mallory"),
        Welcome(
            rid=77,
            user="bob",
            device="phone",
            prefix="other:",
            full=False,
            node_time_ms=0,
            heartbeat_ms=9,
            number=9,
        ),
    ],
    ids=["read by an outsider", "message by an outsider", "welcome that nobody asked for"],
)
def test_what_cannot_be_cuts_the_link_and_leaves_no_trace(update: Any) -> None:
    """News that no node can have is not taken for anything else: the link goes, the state stays (I-27)."""
    device = Device()
    device.live()
    device.hear(message(1))
    before, token = device.replica.dump(), device.session.outbox.number
    device.session.receive_frames([encode_update(update, 9)], 0)
    assert device.session.broken is not None
    assert (device.replica.dump(), device.session.outbox.number) == (before, token)
    assert device.said() == []
    device.lose()
    assert device.session.reconnect_at is not None


def test_a_welcome_is_the_answer_to_this_login() -> None:
    """A welcome under another number than the login's is somebody else's: nobody is logged in by it."""
    device = Device()
    hello = device.open()
    welcome = Welcome(
        rid=hello.rid + 1,
        user="bob",
        device="phone",
        prefix=PREFIX,
        full=False,
        node_time_ms=0,
        heartbeat_ms=9,
        number=9,
    )
    device.session.receive_frames([encode_update(welcome, 1)], 0)
    assert device.session.broken is not None
    assert device.state() is State.GREETING
    assert device.session.welcome is None


def test_unknown_frames_are_ignored() -> None:
    """A frame of a newer protocol is passed over (I-30)."""
    device = Device()
    device.live()
    device.session.receive_frames(['{"type": "SomethingNew", "tick": "9"}'], 0)
    assert device.session.broken is None


# -- the token --------------------------------------------------------------------------------------------


def test_token_never_runs_ahead_of_the_replica() -> None:
    """A live tick counts as held when the next one begins; while behind, only pages move the token."""
    device = Device()
    device.welcome()
    device.page(live=False)
    assert device.session.token == f"{PREFIX}3"[: len(PREFIX)] + str(device.tick - 1)
    held = device.session.token
    device.hear(Pong(99))
    assert device.session.token == held, "an answer while behind says nothing about what was missed"
    device.page()
    assert device.session.token == f"{PREFIX}{device.tick - 1}"
    device.hear(message(1))
    device.hear(message(2))
    assert device.session.token == f"{PREFIX}{device.tick - 1}"
    device.lose()
    assert device.open().resume == f"{PREFIX}{device.tick - 1}"


def test_a_tick_cut_in_the_middle_is_told_again_and_heard_once() -> None:
    """After a cut inside a tick the resume brings all of that tick; the application hears each once."""
    device = Device()
    device.live()
    device.tick = 20
    device.hear(message(1))
    device.told()
    device.lose()
    hello = device.open()
    assert hello.resume == f"{PREFIX}20", "not 21: there may have been more in it"
    device.lose()
    device.live(
        ConversationPart(
            conversation=CHAT, kind=ConversationKind.DIRECT, head=2, messages=(message(1), message(2))
        )
    )
    assert [m.seq for m in only(MessageAccepted, device.told())] == [2]


# -- sends ------------------------------------------------------------------------------------------------


def test_scene_07_resend_with_the_same_number() -> None:
    """Unanswered sends go out again with the same number, right after the welcome, and are answered once."""
    device = Device("alice")
    device.live()
    one, two = device.session.send(CHAT, "one"), device.session.send(CHAT, "two")
    assert [(c.number, c.body) for c in only(SendMessage, device.said())] == [(1, "one"), (2, "two")]
    device.hear(Accepted(one.rid, CHAT, 8, MessageId(16), 5, 1))
    assert device.session.take_outcomes() == [(one.rid, Accepted(one.rid, CHAT, 8, MessageId(16), 5, 1))]
    device.lose()
    device.welcome(number=2)
    assert [(c.number, c.rid) for c in only(SendMessage, device.said())] == [(2, two.rid)]
    device.page(
        ConversationPart(
            conversation=CHAT, kind=ConversationKind.DIRECT, head=9, messages=(message(9, "alice"),)
        )
    )
    device.hear(Accepted(two.rid, CHAT, 9, MessageId(18), 5, 2))
    assert [rid for rid, _ in device.session.take_outcomes()] == [two.rid]
    assert [m.seq for m in device.replica.messages(CHAT)] == [8, 9]
    assert device.session.unread_seqs(CHAT) == list(range(1, 8)), "an own message reads only itself"
    assert device.session.outbox.sends == {}
    device.lose()
    assert only(SendMessage, device.live()) == []


def test_numbers_go_on_where_the_node_knows_them() -> None:
    """A send never takes a number that the node has seen under this install id."""
    device = Device()
    device.live(number=40)
    device.session.send(CHAT, "hi")
    assert [c.number for c in only(SendMessage, device.said())] == [41]


def test_refused_send_is_gone() -> None:
    """A refused send is answered and not kept, also one refused for now: the caller decides (R13)."""
    device = Device("alice")
    device.live()
    pending = device.session.send(CHAT, "hi")
    device.said()
    device.hear(rejected(pending.rid, Code.RATE_LIMITED, retry_after_ms=500))
    ((rid, answer),) = device.session.take_outcomes()
    assert (rid, answer.retry_after_ms) == (pending.rid, 500)  # type: ignore[union-attr]
    assert device.wait(1000) == []
    assert device.session.outbox.sends == {}


def test_unattended_send_is_tried_again() -> None:
    """A message that nobody waits for is tried again when the node said so, and its end is news."""
    device = Device("alice")
    device.live()
    pending = device.session.send(CHAT, "hi")
    device.session.forget(pending.rid)
    device.said()
    device.hear(rejected(pending.rid, Code.STORAGE_FULL, retry_after_ms=500))
    assert device.said() == []
    assert device.session.wake_at == 500
    (again,) = device.wait(500)
    assert isinstance(again, SendMessage)
    assert again.number == pending.number
    assert device.session.wake_at == 30_500, "it waits for the answer, or for the link to be dead"
    device.hear(rejected(pending.rid, Code.NOT_A_MEMBER))
    assert [n.number for n in only(SendRefused, device.told())] == [pending.number]
    assert device.session.outbox.sends == {}


# -- acknowledgements -------------------------------------------------------------------------------------


def test_acknowledgements_are_one_frame_for_many() -> None:
    """Messages of others are acknowledged together, after a short while, in one range."""
    device = Device()
    device.live()
    device.hear(message(1))
    device.hear(message(2), message(3))
    assert device.said() == []
    assert device.wait(50) == [AckDelivered(0, CHAT, (1, 4))]
    assert device.wait(1000) == []


def test_own_messages_join_the_ranges_and_need_none() -> None:
    """Own messages in between go along, so that the ranges stay few; for own ones alone nothing is said."""
    device = Device()
    device.live()
    device.hear(message(1, "bob"))
    assert device.wait(100) == []
    device.hear(message(2), message(3, "bob"), message(4))
    assert device.wait(100) == [AckDelivered(0, CHAT, (1, 5))]


def test_private_delivery_says_so() -> None:
    """A device that declines to tell acknowledges all the same, and asks not to share it."""
    device = Device(share_delivered=False)
    device.live()
    device.hear(message(1))
    assert device.wait(100) == [AckDelivered(0, CHAT, (1, 2), False)]


def test_shared_read_needs_no_acknowledgement() -> None:
    """Reading at once is the acknowledgement too; a private read, or one in a group, is not."""
    device = Device()
    device.live()
    device.hear(message(1))
    device.session.read(CHAT, 1, device.now_ms)
    assert device.wait(100) == [ReadConversation(0, CHAT, 1)]

    private = Device(share_read=False)
    private.live()
    private.hear(message(1))
    private.session.read(CHAT, 1, private.now_ms)
    assert private.wait(100) == [AckDelivered(0, CHAT, (1, 2)), ReadConversation(0, CHAT, 1, False)]

    group = Device()
    group.live(group_part())
    group.hear(message(1, conversation="g"))
    group.session.read("g", 1, group.now_ms)
    assert group.wait(100) == [AckDelivered(0, "g", (1, 2)), ReadConversation(0, "g", 1)]


def group_part(*messages: MessageAccepted, head: int = 0) -> ConversationPart:
    from receipts.core.member import Period

    members = tuple(
        MemberPart(user=user, periods=((1, Period(1)),)) for user in ("bob", "cara", "dan", "olga")
    )
    return ConversationPart(
        conversation="g", kind=ConversationKind.GROUP, head=head, members=members, messages=messages
    )


def test_what_the_device_holds_already_is_not_owed() -> None:
    """A full state tells what the node knows this device to hold; only the rest is acknowledged."""
    device = Device()
    part = ConversationPart(
        conversation=CHAT,
        kind=ConversationKind.DIRECT,
        head=3,
        messages=tuple(message(seq) for seq in (1, 2, 3)),
        members=(MemberPart(user="bob", held=(1, 3), read=(1, 2)),),
    )
    device.live(part, full=True)
    assert device.wait(100) == [AckDelivered(0, CHAT, (3, 4))]


def test_history_from_before_is_not_acknowledged() -> None:
    """What was sent before this user came in is fetched without a receipt (scene 15)."""
    from receipts.core.member import Period

    device = Device()
    part = ConversationPart(
        conversation="g",
        kind=ConversationKind.GROUP,
        head=40,
        members=(MemberPart(user="bob", periods=((9, Period(41)),)),),
    )
    device.live(part)
    rid = device.session.ask(lambda rid: FetchHistory(rid=rid, conversation="g"))
    device.said()
    old = tuple(message(seq, conversation="g") for seq in (35, 36))
    device.hear(History(rid=rid, conversation="g", messages=old, recalled=(), more=True))
    device.session.read_messages("g", [35], None, device.now_ms)
    assert device.wait(100) == []
    assert device.session.unread("g") == 0
    device.hear(message(41, conversation="g"))
    assert device.session.unread_seqs("g") == [41]
    assert device.wait(100) == [AckDelivered(0, "g", (41, 42))]


# -- marks ------------------------------------------------------------------------------------------------


def test_reading_counts_here_at_once() -> None:
    """What was read here is read here before the node knows, and only the node makes it certain."""
    device = Device()
    device.live()
    device.hear(message(1), message(2))
    device.session.read(CHAT, 2, device.now_ms)
    assert device.session.unread(CHAT) == 0
    assert device.session.badge().messages == 0
    assert [line.unread for line in device.session.conversations()] == [0]
    assert device.session.status(CHAT, 2, "bob") is Status.ACKED
    assert device.replica.unread(CHAT) == 2
    device.session.flush(device.now_ms)
    read, ping = device.said()
    assert read == ReadConversation(0, CHAT, 2)
    assert isinstance(ping, Ping)
    assert device.session.outbox.marked() == [CHAT]
    device.hear(Pong(ping.rid))
    assert device.session.flushed
    assert device.replica.unread(CHAT) == 0


def test_an_answer_confirms_only_what_went_before() -> None:
    """The node answers in order: a mark that went out after the question is not confirmed by its answer."""
    device = Device()
    device.live()
    device.hear(message(1), message(2))
    device.session.read_messages(CHAT, [1], None, device.now_ms)
    device.wait(50)
    rid = device.session.ask(lambda rid: GetBadge(rid=rid))
    device.said()
    device.session.read_messages(CHAT, [2], None, device.now_ms)
    device.wait(50)
    device.hear(Badge(rid=rid, messages=1, conversations=1, muted_messages=0, muted_conversations=0))
    assert device.replica.unread_seqs(CHAT) == [2]
    assert device.session.unread(CHAT) == 0


def test_nothing_new_nothing_said() -> None:
    """Reading what is read, and opening what has nothing unread, sends nothing (I-21)."""
    device = Device()
    device.live()
    device.hear(message(1))
    device.session.read(CHAT, 1, device.now_ms)
    device.session.read(CHAT, 1, device.now_ms)
    device.session.read_messages(CHAT, [1], None, device.now_ms)
    assert device.wait(50) == [ReadConversation(0, CHAT, 1)]
    device.session.read(CHAT, 1, device.now_ms)
    device.session.open_chat(CHAT, device.now_ms)
    assert device.wait(50) == []


def test_what_was_not_on_screen_cannot_be_read() -> None:
    """A receipt never goes beyond what this device has (I-6)."""
    device = Device()
    device.live()
    device.hear(message(1))
    with pytest.raises(LocalProtocolError, match="never on screen"):
        device.session.read(CHAT, 2, device.now_ms)
    with pytest.raises(LocalProtocolError, match="never on screen"):
        device.session.read_messages(CHAT, [2], None, device.now_ms)
    assert device.session.unread(CHAT) == 1


def test_naming_what_is_read_says_only_what_clears_the_mark() -> None:
    """Read messages are named again only to clear an unread mark; own ones never are."""
    device = Device()
    device.live()
    device.hear(message(1, "bob"), message(2), message(3))
    device.session.read(CHAT, 3, device.now_ms)
    device.wait(50)
    device.session.read_messages(CHAT, [], None, device.now_ms)
    device.session.read_messages(CHAT, [1, 2, 3], None, device.now_ms)
    assert device.wait(50) == []
    device.hear(UnreadMarked(conversation=CHAT, member="bob", version=51, flagged=True))
    assert device.session.marked_unread(CHAT)
    device.session.read_messages(CHAT, [1, 2], None, device.now_ms)
    assert not device.session.marked_unread(CHAT)
    assert device.wait(50) == [ReadMessages(0, CHAT, (2, 3), None, True, 51)]


def test_words_for_a_message_that_is_not_here_are_for_the_node_to_judge() -> None:
    """A message whose body is not kept here may have asked: the answer goes out."""
    device = Device()
    device.live(group_part(message(3, conversation="g", author="olga"), head=3))
    device.wait(50)
    device.session.read_messages("g", [2], "seen", device.now_ms)
    (answer,) = device.wait(50)
    assert isinstance(answer, ReadMessages)
    assert (answer.ranges, answer.content) == ((2, 3), "seen")
    assert device.session.readers("g", 2) == ()


def test_marks_say_when_they_are_due() -> None:
    """The caller is asked to come back when what waits for company is to go out, and not before."""
    device = Device()
    device.live()
    quiet = device.session.wake_at
    assert quiet is not None
    device.hear(message(1))
    assert device.session.wake_at == device.now_ms + 50 < quiet
    assert device.wait(49) == []
    assert device.wait(1) == [AckDelivered(0, CHAT, (1, 2))]
    assert device.session.wake_at == quiet


def test_marks_wait_for_the_link_and_merge() -> None:
    """What is read while there is no link goes out as one frame when the replica is live again."""
    device = Device()
    device.live()
    device.hear(*[message(seq) for seq in range(1, 6)])
    device.wait(50)
    device.lose()
    for seq in (1, 2, 3):
        device.session.read(CHAT, seq, device.now_ms)
    device.session.read_messages(CHAT, [5], None, device.now_ms)
    device.welcome()
    assert device.said() == [], "not before the replica has caught up"
    device.page()
    device.said()
    marks = device.wait(50)
    assert marks == [
        AckDelivered(0, CHAT, (4, 5)),
        ReadConversation(0, CHAT, 3),
        ReadMessages(0, CHAT, (5, 6)),
    ]


def test_after_a_cut_only_what_is_missing_is_said_again() -> None:
    """Marks that the resumed state shows have arrived; the others are sent again."""
    device = Device()
    device.live()
    device.hear(message(1), message(2), message(1, "zoe", conversation="bob~zoe"))
    device.session.read(CHAT, 2, device.now_ms)
    device.session.read("bob~zoe", 1, device.now_ms)
    assert len(device.wait(50)) == 2
    device.lose()
    arrived = ConversationPart(
        conversation=CHAT,
        kind=ConversationKind.DIRECT,
        head=2,
        members=(MemberPart(user="bob", read=(1, 3), held=(1, 3)),),
    )
    device.live(arrived)
    assert device.wait(50) == [ReadConversation(0, "bob~zoe", 1)]


def test_scene_10_sharing_as_of_the_reading() -> None:
    """A read made while sharing was off stays private, whatever is switched before it goes out (scene 10)."""
    from receipts.core.events import SharingChanged

    device = Device()
    device.live()
    device.hear(
        message(1),
        message(2),
        message(3),
        SharingChanged(conversation=CHAT, member="bob", version=5, delivered=True, read=False),
    )
    device.wait(50)
    device.lose()
    device.session.read(CHAT, 3, device.now_ms)
    device.live()
    device.hear(
        SharingChanged(
            conversation=CHAT, member="bob", version=6, delivered=True, read=True, read_obscured_through=3
        ),
        message(4),
    )
    device.session.read(CHAT, 4, device.now_ms)
    said = only(ReadConversation, device.wait(50))
    assert [(c.through, c.share) for c in said] == [(3, False), (4, True)]


def test_scene_11_only_who_knew_the_mark_clears_it() -> None:
    """A receipt carries the unread mark that was known when it was made, not when it goes out (scene 11)."""
    device = Device()
    device.live(
        ConversationPart(
            conversation=CHAT,
            kind=ConversationKind.DIRECT,
            head=10,
            messages=tuple(message(seq) for seq in range(1, 11)),
            members=(MemberPart(user="bob", held=(1, 11), read=(1, 10)),),
        )
    )
    device.lose()
    device.session.read(CHAT, 10, device.now_ms)
    device.live()
    device.hear(UnreadMarked(conversation=CHAT, member="bob", version=51, flagged=True))
    assert device.wait(50) == [ReadConversation(0, CHAT, 10)]
    assert device.session.marked_unread(CHAT)
    device.session.open_chat(CHAT, device.now_ms)
    assert not device.session.marked_unread(CHAT)
    assert device.wait(50) == [ReadConversation(0, CHAT, 10, True, 51)]
    device.session.flush(device.now_ms)
    (ping,) = only(Ping, device.said())
    device.hear(Pong(ping.rid))
    assert device.session.flushed
    assert not device.session.marked_unread(CHAT)
    device.session.open_chat(CHAT, device.now_ms)
    assert device.wait(50) == []


def test_refused_for_now_stays_and_merges() -> None:
    """A receipt over the limit waits as long as the node said, merges, and then goes out (R13, I-29)."""
    device = Device()
    device.live()
    device.hear(message(1), message(2), message(3))
    device.session.read(CHAT, 1, device.now_ms)
    device.wait(50)
    device.hear(rejected(0, Code.RATE_LIMITED, conversation=CHAT, retry_after_ms=1000))
    device.session.read(CHAT, 3, device.now_ms)
    assert only(ReadConversation, device.wait(900)) == []
    assert device.session.unread(CHAT) == 0
    assert device.wait(200) == [ReadConversation(0, CHAT, 3)]
    assert only(MarkRefused, device.told()) == []


def test_an_answer_while_catching_up_counts_nothing_in_between() -> None:
    """A send that is answered before the pages have come leaves no hole that would count as unread: what
    stands in it may be own messages from another device (I-1)."""
    device = Device()
    device.welcome()
    one = device.session.send(CHAT, "hi")
    device.said()
    device.hear(Accepted(one.rid, CHAT, 8, MessageId(16), 5, 1))
    assert device.session.unread(CHAT) == 0
    device.page(live=True)
    assert device.replica.chat(CHAT).head == 8


def test_several_refused_reads_are_told_apart_the_next_time() -> None:
    """Two reads of a conversation, of which the node takes one at a time, get through one after the other:
    the one that was taken is not said again."""
    device = Device()
    device.live()
    device.hear(*[message(seq) for seq in range(1, 6)])
    device.wait(50)
    device.session.read(CHAT, 2, device.now_ms)
    device.session.read_messages(CHAT, [4, 5], None, device.now_ms)
    assert [mark.rid for mark in device.wait(50)] == [0, 0]
    device.hear(rejected(0, Code.RATE_LIMITED, conversation=CHAT, retry_after_ms=1000))
    said = device.wait(1000)
    (first,), (second,) = only(ReadConversation, said), only(ReadMessages, said)
    assert (first.through, second.ranges) == (2, (4, 6))
    device.hear(Done(first.rid), rejected(second.rid, Code.RATE_LIMITED, retry_after_ms=1000))
    assert device.replica.unread_seqs(CHAT) == [3, 4, 5]
    (second,) = only(ReadMessages, device.wait(1000))
    assert second.ranges == (4, 6)
    device.hear(Done(second.rid))
    assert device.session.flushed
    assert device.replica.unread_seqs(CHAT) == [3]


def test_what_would_make_too_many_gaps_is_told_from_what_would_not() -> None:
    """A refusal without a number, for the gaps that one receipt of several would make, drops none of them:
    they are said once more, each with a number, and only the one that is refused again is given up."""
    device = Device()
    device.live()
    device.hear(*[message(seq) for seq in range(1, 6)])
    device.wait(50)
    device.session.read(CHAT, 2, device.now_ms)
    device.session.read_messages(CHAT, [4], None, device.now_ms)
    device.wait(50)
    device.hear(rejected(0, Code.TOO_MANY_GAPS, conversation=CHAT))
    assert device.session.unread_seqs(CHAT) == [3, 5]
    said = device.wait(1)
    (first,), (second,) = only(ReadConversation, said), only(ReadMessages, said)
    device.hear(Done(first.rid), rejected(second.rid, Code.TOO_MANY_GAPS))
    assert [refused.ranges for refused in only(MarkRefused, device.told())] == [(4, 5)]
    assert device.replica.unread_seqs(CHAT) == device.session.unread_seqs(CHAT) == [3, 4, 5]
    device.hear(*[Done(mark.rid) for mark in device.wait(50)])
    assert device.session.flushed


def test_of_a_refused_receipt_what_was_taken_before_is_not_lost() -> None:
    """A receipt of several ranges that makes too many gaps is said once more range by range: one that the
    node had taken before is taken again, and only what is refused again is given up."""
    device = Device()
    device.live()
    device.hear(*[message(seq) for seq in range(1, 8)])
    device.wait(50)
    device.session.read_messages(CHAT, [1, 3, 5], None, device.now_ms)
    (whole,) = only(ReadMessages, device.wait(50))
    assert whole.ranges == (1, 2, 3, 4, 5, 6)
    device.hear(rejected(0, Code.TOO_MANY_GAPS, conversation=CHAT))
    device.hear(rejected(0, Code.TOO_MANY_GAPS, conversation=CHAT))  # of the acknowledgement as well
    said = device.wait(1)
    pieces = only(ReadMessages, said)
    assert [piece.ranges for piece in pieces] == [(1, 2), (3, 4), (5, 6)]
    refused = rejected(pieces[2].rid, Code.TOO_MANY_GAPS)
    device.hear(*[refused if piece is pieces[2] else Done(piece.rid) for piece in said])
    assert [told.ranges for told in only(MarkRefused, device.told())] == [(5, 6)]
    assert device.replica.unread_seqs(CHAT) == [2, 4, 5, 6, 7]


def test_acknowledgements_do_not_wait_for_refused_reads() -> None:
    """Delivery is never limited: it goes out while reads are to be patient."""
    device = Device()
    device.live()
    device.hear(message(1))
    device.session.read(CHAT, 1, device.now_ms)
    device.wait(50)
    device.hear(rejected(0, Code.RATE_LIMITED, conversation=CHAT, retry_after_ms=10_000))
    device.hear(message(1, "zoe", conversation="bob~zoe"))
    assert AckDelivered(0, "bob~zoe", (1, 2)) in device.wait(10_000 - 1) + device.wait(1)


def test_refused_for_good_is_dropped_and_reported() -> None:
    """A receipt that will never be taken is not kept, counts no longer here, and is told."""
    device = Device()
    device.live(group_part(message(1, conversation="g"), head=1))
    device.wait(50)
    device.session.read("g", 1, device.now_ms)
    device.wait(50)
    device.hear(rejected(0, Code.NOT_A_MEMBER, conversation="g"))
    (refused,) = only(MarkRefused, device.told())
    assert (refused.conversation, refused.code, refused.ranges) == ("g", Code.NOT_A_MEMBER, (1, 2))
    assert device.session.unread("g") == 1
    assert device.session.flushed
    assert device.wait(5000) == []


def test_partly_refused_answers() -> None:
    """Of answers in one frame those that were refused are dropped and reported, the others are done."""
    device = Device()
    asking = tuple(message(seq, "olga", conversation="g", asks=True) for seq in (1, 2))
    device.live(group_part(*asking, head=2))
    device.wait(50)
    device.session.read_messages("g", [1, 2], None, device.now_ms)
    (answers,) = device.wait(50)
    assert isinstance(answers, ReadMessages)
    assert answers.rid
    device.hear(rejected(answers.rid, Code.EXPIRED, conversation="g", ranges=(1, 2)))
    (refused,) = only(MarkRefused, device.told())
    assert (refused.code, refused.ranges) == (Code.EXPIRED, (1, 2))
    assert device.session.flushed
    assert device.replica.unread_seqs("g") == [1]


def test_wholly_refused_answers_are_dropped_beside_others() -> None:
    """Answers of which the node takes none read nothing; other words of the same breath are done."""
    device = Device()
    asking = tuple(message(seq, "olga", conversation="g", asks=True) for seq in (1, 2))
    device.live(group_part(*asking, head=2))
    device.wait(50)
    device.session.read_messages("g", [1], "ok", device.now_ms)
    device.session.read_messages("g", [2], "seen", device.now_ms)
    first, second = only(ReadMessages, device.wait(50))
    device.hear(rejected(first.rid, Code.EXPIRED, conversation="g", ranges=(1, 2)))
    assert device.replica.unread_seqs("g") == [1, 2]
    assert device.session.unread_seqs("g") == [1]
    device.hear(Done(second.rid))
    assert device.session.flushed
    assert device.replica.unread_seqs("g") == [1]


def test_named_reads_are_refused_message_by_message() -> None:
    """A refusal that names messages takes those from every read by name; what is left is confirmed later."""
    device = Device()
    device.live(group_part(*[message(seq, conversation="g") for seq in range(1, 6)], head=5))
    device.wait(50)
    for seqs in ([1], [2, 3]):
        device.session.read_messages("g", seqs, None, device.now_ms)
        device.wait(50)
    device.hear(rejected(0, Code.NOT_IN_AUDIENCE, conversation="g", ranges=(1, 3)))
    (refused,) = only(MarkRefused, device.told())
    assert (refused.code, refused.ranges) == (Code.NOT_IN_AUDIENCE, (1, 3))
    assert device.session.unread_seqs("g") == [1, 2, 4, 5]
    device.session.flush(device.now_ms)
    (ping,) = only(Ping, device.said())
    device.hear(Pong(ping.rid))
    assert device.session.flushed
    assert device.replica.unread_seqs("g") == [1, 2, 4, 5]


def test_a_refusal_that_names_no_conversation_means_all_of_them() -> None:
    """Reads of two conversations, refused together, are reported one by one, each with its own messages."""
    device = Device()
    device.live()
    device.hear(
        message(1), message(1, "zoe", conversation="bob~zoe"), message(2, "zoe", conversation="bob~zoe")
    )
    device.session.read(CHAT, 1, device.now_ms)
    device.session.read("bob~zoe", 2, device.now_ms)
    device.wait(50)
    device.hear(rejected(0, Code.NOT_A_MEMBER))
    refused = [(news.conversation, news.ranges) for news in only(MarkRefused, device.told())]
    assert sorted(refused) == [(CHAT, (1, 2)), ("bob~zoe", (1, 3))]
    assert device.session.badge().messages == 3


def test_an_answer_that_comes_twice_is_heard_once() -> None:
    """What became of a message, taken or refused, changes nothing when it is said again (I-23)."""
    device = Device()
    device.live()
    taken = device.session.send(CHAT, "one")
    lost = device.session.send(CHAT, "two")
    device.said()
    accepted = Accepted(
        rid=taken.rid, number=taken.number, conversation=CHAT, seq=1, message_id=MessageId(2), at_ms=9
    )
    device.hear(accepted, rejected(lost.rid, Code.NOT_A_MEMBER))
    assert [rid for rid, _ in device.session.take_outcomes()] == [taken.rid, lost.rid]
    device.told()
    before = device.replica.dump()
    device.hear(accepted, rejected(lost.rid, Code.NOT_A_MEMBER))
    assert device.session.take_outcomes() == []
    assert device.told() == []
    assert device.replica.dump() == before


def test_who_stops_waiting_lets_only_that_message_go_unattended() -> None:
    """The refusal of a message that nobody waits for any more is news; of others it is their answer."""
    device = Device()
    device.live()
    first, second = (device.session.send(CHAT, body) for body in ("one", "two"))
    device.said()
    device.session.forget(second.rid)
    device.hear(rejected(first.rid, Code.NOT_A_MEMBER), rejected(second.rid, Code.NOT_A_MEMBER))
    assert [news.number for news in only(SendRefused, device.told())] == [second.number]
    assert device.session.outbox.sends == {}


def test_beyond_head_is_no_failure() -> None:
    """Said beyond the head (after the node lost messages), what there is, is read; nothing is reported."""
    device = Device()
    device.live()
    device.hear(message(1), message(2), message(3))
    device.session.read(CHAT, 3, device.now_ms)
    device.wait(50)
    device.hear(rejected(0, Code.BEYOND_HEAD, conversation=CHAT, limit=2, ranges=(3, 4)))
    device.session.flush(device.now_ms)
    (ping,) = only(Ping, device.said())
    device.hear(Pong(ping.rid))
    assert only(MarkRefused, device.told()) == []
    assert device.session.flushed


# -- questions --------------------------------------------------------------------------------------------


def test_questions_are_repeated_and_see_what_was_read() -> None:
    """A question goes out again after a cut, and behind the marks that were made before it."""
    device = Device()
    device.live()
    device.hear(message(1))
    device.session.read(CHAT, 1, device.now_ms)
    rid = device.session.ask(lambda rid: ExplainUnread(rid=rid, conversation=CHAT))
    assert [type(c) for c in device.said()] == [ReadConversation, ExplainUnread]
    device.lose()
    assert only(ExplainUnread, device.live()) == [ExplainUnread(rid=rid, conversation=CHAT)]
    device.session.forget(rid)
    device.lose()
    assert only(ExplainUnread, device.live()) == []


def test_answers_are_outcomes_and_change_nothing_by_themselves() -> None:
    """A question that is done or refused is answered once, under its rid; what it did comes as an update."""
    device = Device()
    device.live()
    before = device.replica.dump()
    muted = device.session.ask(lambda rid: SetMuted(rid=rid, conversation=CHAT, muted=True))
    other = device.session.ask(lambda rid: SetMuted(rid=rid, conversation="bob~zoe", muted=True))
    device.said()
    refusal = rejected(other, Code.UNKNOWN_CONVERSATION)
    for _ in range(2):
        device.hear(Done(muted), refusal)
    assert device.session.take_outcomes() == [(muted, Done(muted)), (other, refusal)]
    assert device.replica.dump() == before
    device.lose()
    assert only(SetMuted, device.live()) == []


def test_password_change_is_not_repeated() -> None:
    """Whether a password was changed before a cut cannot be known: the caller is told so."""
    device = Device()
    device.live()
    rid = device.session.ask(lambda rid: ChangePassword(rid=rid, old="a", new="b"))
    device.said()
    device.lose()
    ((which, answer),) = device.session.take_outcomes()
    assert which == rid
    assert isinstance(answer, Rejected)
    assert only(ChangePassword, device.live()) == []


def test_recall_and_clear_are_done_here_by_their_answer() -> None:
    """The node tells other devices of a recall and a clearing; the one that asked knows by the answer."""
    device = Device("alice")
    device.live()
    pending = device.session.send(CHAT, "oops")
    device.said()
    device.hear(Accepted(pending.rid, CHAT, 1, MessageId(2), 5, 1), message(2, "bob"))
    rid = device.session.ask(lambda rid: RecallMessage(rid=rid, conversation=CHAT, seq=1))
    device.said()
    device.hear(Done(rid))
    assert [m.seq for m in device.replica.messages(CHAT)] == [2]
    assert len(only(MessageRecalled, device.told())) == 1
    rid = device.session.ask(lambda rid: ClearConversation(rid=rid, conversation=CHAT, through=99))
    device.said()
    device.hear(Done(rid))
    assert device.replica.messages(CHAT) == []
    device.hear(message(3, "bob"))
    assert [m.seq for m in device.replica.messages(CHAT)] == [3]


def test_scene_21_summary_is_told_and_acknowledged() -> None:
    """The summary of answers is handed on and acknowledged; a repeat is handed on again (scene 21)."""
    device = Device("olga")
    device.live()
    summary = ReadStatistics(counts=(("g", 20, 2), ("g", 22, 1)), through=77)
    for _ in range(2):
        device.hear(summary)
        assert device.said() == [AckStatistics(rid=0, through=77)]
        assert only(ReadStatistics, device.told()) == [summary]


# -- the link ---------------------------------------------------------------------------------------------


def test_silence_is_broken_by_a_ping_and_a_dead_node_noticed() -> None:
    """Who has nothing to ask for a heartbeat's time pings; who is not answered for another drops the link."""
    device = Device()
    device.live()
    assert device.session.wake_at == 30_000
    assert device.wait(29_999) == []
    (ping,) = device.wait(1)
    assert isinstance(ping, Ping)
    device.hear(Pong(ping.rid))
    (ping,) = device.wait(30_000)
    device.now_ms += 29_999
    device.session.timer(device.now_ms)
    assert device.session.broken is None
    device.wait(1)
    assert device.session.broken == "the node does not answer"


def test_a_login_that_is_not_answered_is_given_up() -> None:
    """A node that accepts links and says nothing is left alone after a while."""
    device = Device()
    device.open()
    device.wait(WELCOME_MS - 1)
    assert device.session.broken is None
    device.wait(1)
    assert device.session.broken is not None


@given(attempt=st.integers(1, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_back_off_is_bounded_and_jittered(attempt: int, chance: float) -> None:
    """The pause grows with the attempts between half and all of a bound, and never beyond half a minute."""
    pause = back_off_ms(attempt, chance)
    full = min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** min(attempt - 1, 20))
    assert full // 2 <= pause <= full
    assert back_off_ms(attempt, 0) <= pause


def test_reconnecting_waits_longer_each_time_and_starts_over_when_live() -> None:
    """Pauses double while the node is gone; once live again the next cut is followed by a short one."""
    device = Device()
    pauses = []
    for _ in range(4):
        device.session.link_lost(device.now_ms, "refused")
        pauses.append((device.session.reconnect_at or 0) - device.now_ms)
    assert [round(b / a) for a, b in itertools.pairwise(pauses)] == [2, 2, 2]
    device.live()
    device.told()
    device.lose()
    assert device.session.reconnect_at == pauses[0]
    (gone,) = only(Offline, device.told())
    assert gone.retry_in_ms == pauses[0]


@pytest.mark.parametrize("code", sorted(FATAL))
def test_fatal_codes_end_the_session(code: Code) -> None:
    """After a goodbye that no retry can mend there is no further attempt, and every wish says why."""
    device = Device()
    device.live()
    device.hear(Goodbye(code=code, reason="over"))
    assert device.session.state is State.CLOSED
    assert device.session.reconnect_at is None
    with pytest.raises(Refused) as refused:
        device.session.send(CHAT, "hi")
    assert refused.value.code is code
    device.lose()
    assert device.session.reconnect_at is None


@pytest.mark.parametrize("code", [Code.SHUTTING_DOWN, Code.TOO_SLOW, Code.IDLE, Code.BUSY])
def test_passing_codes_are_followed_by_another_attempt(code: Code) -> None:
    """After other goodbyes the session comes back, not before the node wants it."""
    device = Device()
    device.live()
    update = Goodbye(code=code, reason="later", retry_after_ms=60_000)
    device.session.receive_frames([encode_update(update, 9)], 0)
    assert device.session.broken is not None
    device.lose()
    assert device.session.reconnect_at == 60_000


def test_refused_login() -> None:
    """A login that was refused for good ends the session; one refused for now is tried again then."""
    device = Device()
    hello = device.open()
    device.session.receive_frames(
        [encode_update(rejected(hello.rid, Code.RATE_LIMITED, retry_after_ms=9000), 1)], 0
    )
    device.lose()
    assert device.session.reconnect_at == 9000
    hello = device.open()
    device.hear(rejected(hello.rid, Code.UNAUTHORIZED))
    assert device.session.state is State.CLOSED
    assert device.session.error is not None
    assert device.session.error.code is Code.UNAUTHORIZED


def test_closing_is_for_good_and_can_be_said_again() -> None:
    """Without a link no timer is needed; once closed none ever is, however often that is said."""
    device = Device()
    assert device.session.wake_at is None
    device.live()
    device.session.close()
    device.session.close()
    assert (device.session.wake_at, device.session.reconnect_at, device.state()) == (None, None, State.CLOSED)
    assert device.said() == []


def test_a_link_is_opened_once() -> None:
    """A second link while there is one, or after the end, is the caller's mistake."""
    device = Device()
    device.open()
    with pytest.raises(LocalProtocolError):
        device.session.link_opened(0)
    device.session.close()
    with pytest.raises(LocalProtocolError):
        device.session.link_opened(0)
    with pytest.raises(LocalProtocolError, match="closed"):
        device.session.send(CHAT, "hi")


def test_another_life_of_the_node() -> None:
    """A full state drops the replica; unsent messages and pending reads stay, acks are owed anew."""
    device = Device()
    device.live()
    device.hear(message(1), message(2))
    device.lose()
    device.session.send(CHAT, "hi")
    device.session.read(CHAT, 2, device.now_ms)
    part = ConversationPart(conversation=CHAT, kind=ConversationKind.DIRECT, head=1, messages=(message(1),))
    said = device.live(part, full=True)
    assert len(only(SendMessage, said)) == 1
    assert [m.seq for m in device.replica.messages(CHAT)] == [1]
    assert device.wait(50) == [ReadConversation(0, CHAT, 2)]
    assert device.session.unread(CHAT) == 0


def test_hello_is_sent_with_a_token() -> None:
    """A token goes instead of a password."""
    device = Device()
    device.session.link_opened(0, token="signed")
    (hello,) = device.said()
    assert isinstance(hello, Hello)
    assert (hello.password, hello.token) == (None, "signed")


def test_echo_of_another_device_lowers_unread_here() -> None:
    """What another device of mine read is read here, and nothing is said about it (R4)."""
    device = Device()
    device.live()
    device.hear(message(1))
    device.wait(50)
    device.hear(Read(CHAT, "bob", (1, 2)))
    assert device.session.unread(CHAT) == 0
    assert device.wait(1000) == []


def test_what_vanished_is_not_acknowledged() -> None:
    """After a full state only messages that are there are owed, not those of another life of the node."""
    device = Device()
    device.live()
    device.hear(message(1), message(2), message(3))
    device.lose()
    device.live(
        ConversationPart(conversation=CHAT, kind=ConversationKind.DIRECT, head=1, messages=(message(1),)),
        full=True,
    )
    assert device.wait(50) == [AckDelivered(0, CHAT, (1, 2))]


def test_history_is_acknowledged_once() -> None:
    """Older messages that are fetched and were for this user are acknowledged, unless the node knows it."""
    device = Device()
    device.live(
        ConversationPart(
            conversation=CHAT,
            kind=ConversationKind.DIRECT,
            head=9,
            messages=(message(9),),
            members=(MemberPart(user="bob", held=(5, 10), read=(1, 10)),),
        ),
        full=True,
    )
    rid = device.session.ask(lambda rid: FetchHistory(rid=rid, conversation=CHAT))
    device.said()
    device.hear(
        History(
            rid=rid,
            conversation=CHAT,
            messages=tuple(message(seq) for seq in (3, 4, 5, 6)),
            recalled=(),
            more=True,
        )
    )
    assert device.wait(50) == [AckDelivered(0, CHAT, (3, 5))]


def test_a_read_that_was_to_clear_a_mark_is_repeated() -> None:
    """After a cut the state may show a read and the unread mark still stand: then the read is said again."""
    from receipts.core.member import UnreadMark

    device = Device()
    marked = ConversationPart(
        conversation=CHAT,
        kind=ConversationKind.DIRECT,
        head=2,
        messages=(message(1), message(2)),
        members=(
            MemberPart(
                user="bob", read=(1, 3), held=(1, 3), unread_mark=UnreadMark(version=51, flagged=True)
            ),
        ),
    )
    device.live(marked)
    device.session.read(CHAT, 2, device.now_ms)
    again = ReadConversation(0, CHAT, 2, True, 51)
    assert device.wait(50) == [again]
    device.lose()
    device.live(marked)
    assert device.wait(50) == [again]


def test_named_reads_that_arrived_are_not_repeated() -> None:
    """After a cut named reads and own answers that the state shows are not said again, others are."""
    from receipts.wire.updates import AskedPart, Reader

    device = Device()
    asking = tuple(message(seq, "olga", conversation="g", asks=True) for seq in (1, 2))
    device.live(group_part(*asking, message(3, "olga", conversation="g"), head=3))
    device.wait(50)
    device.session.read_messages("g", [1], "seen", device.now_ms)
    device.session.read_messages("g", [2, 3], None, device.now_ms)
    assert len(device.wait(50)) == 3
    device.lose()
    part = ConversationPart(
        conversation="g",
        kind=ConversationKind.GROUP,
        head=3,
        members=(MemberPart(user="bob", read=(1, 2, 3, 4), held=(1, 4)),),
        asked=(AskedPart(seq=1, author="olga", readers=(Reader("bob", 5, "seen", 9),)),),
    )
    device.live(part)
    (again,) = device.wait(50)
    assert isinstance(again, ReadMessages)
    assert (again.ranges, again.content) == ((2, 3), None)


def test_a_private_read_is_no_proof_of_delivery() -> None:
    """A private read that is confirmed leaves the acknowledgement owed until that one is confirmed itself."""
    device = Device(share_read=False)
    device.live()
    device.hear(message(1))
    device.session.read(CHAT, 1, device.now_ms)
    device.wait(50)
    device.hear(rejected(0, Code.STORAGE_FULL, conversation=CHAT, retry_after_ms=10))
    (read,) = only(ReadConversation, device.wait(10))
    assert not read.share
    device.session.flush(device.now_ms)
    (ping,) = only(Ping, device.said())
    device.hear(Pong(ping.rid))
    chat = device.replica.dump()["conversations"][CHAT]
    assert chat["members"]["bob"]["held"] == [1, 2]


def test_what_a_read_did_not_acknowledge_is_acknowledged_soon() -> None:
    """A shared read that the user's own switch kept private, or that was refused, leaves its acknowledgement
    owed; it goes out by itself."""
    device = Device()
    device.live()
    device.hear(message(1))
    device.session.read(CHAT, 1, device.now_ms)
    assert device.wait(50) == [ReadConversation(0, CHAT, 1)]
    # Decided on another device before the read came to the node.
    device.hear(SharingChanged(conversation=CHAT, member="bob", version=5, delivered=True, read=False))
    device.session.flush(device.now_ms)
    (ping,) = only(Ping, device.said())
    device.hear(Pong(ping.rid))
    assert only(AckDelivered, device.wait(50)) == [AckDelivered(0, CHAT, (1, 2))]

    refused = Device()
    refused.live()
    refused.hear(message(1))
    refused.session.read(CHAT, 1, refused.now_ms)
    refused.wait(50)
    refused.hear(rejected(0, Code.TOO_MANY_GAPS, conversation=CHAT))
    assert refused.wait(50) == [AckDelivered(0, CHAT, (1, 2))]


def test_saying_read_in_private_holds_nothing() -> None:
    """What the node takes a device to hold follows from acknowledgements and shared reads alone."""
    device = Device()
    device.replica.apply(message(1))
    device.replica.read_confirmed(CHAT, (1, 2), 0, share=False)
    assert device.replica.dump()["conversations"][CHAT]["members"]["bob"]["held"] == []
    device.replica.read_confirmed(CHAT, (1, 2), 0, share=True)
    assert device.replica.dump()["conversations"][CHAT]["members"]["bob"]["held"] == [1, 2]
