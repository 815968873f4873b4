"""The replica: whatever the way and the order in which it hears, it ends in one state."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from receipts.client.replica import BLANKS_MAX, Replica
from receipts.core import events
from receipts.core.errors import LocalProtocolError
from receipts.core.events import MessageAccepted, MessageRecalled
from receipts.core.ids import ConversationKind, Counts, MessageId
from receipts.core.member import Advance, Period
from receipts.core.ranges import ranges_of
from receipts.core.status import Status
from receipts.wire.codec import encode_update
from receipts.wire.limits import FRAME_BYTES_MAX
from receipts.wire.updates import (
    AskedPart,
    CatchUp,
    ConversationPart,
    Delivered,
    GroupRead,
    History,
    MemberPart,
    Pong,
    Read,
    Reader,
    RegisterPart,
)

from .device import message
from .world import ME, Step, World, steps

CHAT = "alice~bob"


def heard(updates: list[Any]) -> Replica:
    replica = Replica(ME, "phone")
    for update in updates:
        replica.apply(update)
    return replica


def played(history: list[Step], group: bool) -> World:
    world = World(group=group)
    for step in history:
        world.run(step)
    return world


@given(history=steps(), group=st.booleans())
def test_live_replica_counts_as_the_node_does(history: list[Step], group: bool) -> None:
    """A replica that hears everything as it happens agrees with the node on unread, marks and messages."""
    world = played(history, group)
    replica = heard(world.told)
    chat = world.chat
    if group:  # who is in a group is told by a part
        replica.apply(
            ConversationPart(conversation="g", kind=ConversationKind.GROUP, head=0, members=periods(world))
        )
    assert replica.unread_seqs(chat.id) == list(ranges_seqs(chat.unread_ranges(ME)))
    assert replica.marked_unread(chat.id) is chat.marked_unread(ME)
    assert [m.seq for m in replica.messages(chat.id, limit=1000)] == world.readable()


def ranges_seqs(ranges: tuple[int, ...]) -> list[int]:
    return [seq for index in range(0, len(ranges), 2) for seq in range(ranges[index], ranges[index + 1])]


def periods(world: World) -> tuple[MemberPart, ...]:
    return tuple(
        MemberPart(user=user, periods=tuple(world.chat.member(user).periods.items())) for user in world.users
    )


@given(history=steps(), group=st.booleans(), seed=st.integers(0, 2**32))
def test_late_and_doubled_updates_end_in_the_same_state(history: list[Step], group: bool, seed: int) -> None:
    """Updates in any order, any of them twice, give an equal replica (I-2, I-3, I-23)."""
    world = played(history, group)
    mixed = world.told + random.Random(seed).sample(world.told, len(world.told) // 2)
    random.Random(seed).shuffle(mixed)
    assert heard(mixed).dump() == heard(world.told).dump()


@given(history=steps(), group=st.booleans(), cut=st.floats(0, 1))
def test_catch_up_is_equal_to_live(history: list[Step], group: bool, cut: float) -> None:
    """A replica that was away from any moment on, and caught up, equals one that never was (I-13)."""
    whole, away = World(group=group), World(group=group)
    for step in history:
        whole.run(step)
    for step in history[: int(len(history) * cut)]:
        away.run(step)
    page = CatchUp(parts=(whole.part(),), token="t", live=True)
    live = heard(
        [ConversationPart(conversation=whole.chat.id, kind=whole.chat.kind, head=0, members=periods(whole))]
    )
    for update in whole.told:
        live.apply(update)
    resumed = heard([*away.told, page])
    fresh = heard([CatchUp(parts=(whole.part(),), token="t", live=True, full=True)])
    assert strip(resumed.dump()) == strip(live.dump())
    assert strip(fresh.dump()) == strip(live.dump())


def strip(dump: dict[str, Any]) -> dict[str, Any]:
    """Without what groups do not push: deliveries."""
    for chat in dump["conversations"].values():
        if chat["kind"] == "group":
            for member in chat["members"].values():
                member.pop("delivered_shared", None)
                member.pop("read_shared", None)
    return dump


@given(history=steps(), group=st.booleans())
def test_saved_and_restored_is_equal(history: list[Step], group: bool) -> None:
    """What a replica saves is all it needs to come back as it was."""
    world = played(history, group)
    replica = heard([*world.told, world.part()])
    twin = Replica(ME, "phone")
    name = world.chat.id
    twin.restore(replica.parts(name), replica.messages(name, limit=1000))
    theirs, ours = twin.dump(), replica.dump()
    for dump in (theirs, ours):  # bodies below what was cleared are not handed out, and so not saved here
        dump["conversations"].get(name, {}).pop("messages", None)
    assert theirs["conversations"].get(name) == ours["conversations"].get(name)
    assert twin.unread(name) == replica.unread(name)


@given(history=steps(), group=st.booleans())
def test_catching_up_twice_is_no_news(history: list[Step], group: bool) -> None:
    """The application hears of each thing once: a page that brings nothing new tells nothing."""
    world = played(history, group)
    page = CatchUp(parts=(world.part(),), token="t", live=True)
    replica = heard([page])
    assert replica.apply(page) == []


def test_scene_05_mark_ahead_of_messages_is_kept() -> None:
    """A mark that comes before its messages is kept: they arrive read (scene 5, I-3)."""
    replica = heard([message(seq) for seq in (1, 2, 3)])
    replica.apply(Read(CHAT, "bob", (1, 11)))
    assert replica.unread(CHAT) == 0
    for seq in range(4, 12):
        replica.apply(message(seq))
    assert replica.unread_seqs(CHAT) == [11]


def test_scene_06_own_message_reads_nothing_else() -> None:
    """An own message from another device leaves what stood before it unread (scene 6)."""
    replica = heard([*[message(seq) for seq in (1, 2, 3)], message(4, "bob")])
    assert replica.unread_seqs(CHAT) == [1, 2, 3]


def test_scene_08_recall_is_exact_in_any_order() -> None:
    """A recalled message counts no more, its body is gone, and no late copy brings it back (scene 8)."""
    replica = heard([message(1), message(3)])
    replica.apply(MessageRecalled(conversation=CHAT, seq=2, by="alice"))
    assert replica.apply(message(2)) == []
    assert replica.unread_seqs(CHAT) == [1, 3]
    replica.apply(Read(CHAT, "bob", (1, 3)))
    replica.apply(MessageRecalled(conversation=CHAT, seq=1, by="alice"))
    assert replica.unread(CHAT) == 1
    assert [m.seq for m in replica.messages(CHAT)] == [3]


def test_what_is_gone_is_told_once_and_stays_gone() -> None:
    """A recall heard before, or of an expired message, is no news; nor is an expiry heard before (I-23)."""
    replica = heard([message(seq) for seq in (1, 2, 3)])
    recall = MessageRecalled(conversation=CHAT, seq=2, by="alice")
    assert replica.apply(recall) == [recall]
    assert replica.apply(recall) == []
    expiry = events.MessagesExpired(conversation=CHAT, through=2)
    assert replica.apply(expiry) == [expiry]
    assert replica.apply(expiry) == []
    assert replica.apply(MessageRecalled(conversation=CHAT, seq=1, by="alice")) == []
    assert replica.apply(message(1)) == [], "no late copy brings it back"
    assert replica.removed == [(CHAT, 2), (CHAT, 1)]
    assert [m.seq for m in replica.messages(CHAT)] == replica.unread_seqs(CHAT) == [3]


def test_a_page_tells_what_was_missed_as_it_would_have_come_live() -> None:
    """A part's floors, silent messages, ended memberships, deliveries and times are joined in, told once."""
    replica = Replica("bob", "phone")
    ask = message(1, "bob", conversation="g", asks=True)
    replica.apply(ask)
    read = Advance(9, 70, (2, 3))
    part = ConversationPart(
        conversation="g",
        kind=ConversationKind.GROUP,
        head=6,
        uncounted=(5, 6),
        expired_through=1,
        receipts_expired_through=3,
        registers=(RegisterPart(register=events.Register.NAME, version=3, value="The group"),),
        members=(
            MemberPart(user="bob", periods=((1, Period(1)),)),
            MemberPart(user="cara", periods=((1, Period(1, 4)),), delivered_shared=(2, 5)),
            MemberPart(user="dan", read_shared=(2, 3), delivered_shared=(2, 4), advances=(read,)),
        ),
        asked=(
            AskedPart(seq=2, author="bob", readers=(Reader("dan", 70, "late", 9),)),
            AskedPart(seq=4, author="bob", readers=(Reader("dan", 80, "ok", 11),)),
        ),
    )
    news = replica.apply(part)
    assert [type(update).__name__ for update in news] == [
        "MessagesExpired",
        "GroupReceiptsExpired",
        "RegisterSet",
        "MemberJoined",
        "MemberJoined",
        "MemberLeft",
        "Delivered",
        "Delivered",
        "Read",
        "GroupRead",
    ]
    assert news[6:9] == [
        Delivered("g", "cara", (2, 5)),
        Delivered("g", "dan", (3, 4)),
        Read("g", "dan", (2, 3), 70),
    ]
    assert replica.apply(part) == []
    assert replica.unread_seqs("g") == [2, 3, 4, 6], "#5 raises no badge"
    assert [line.name for line in replica.conversations()] == ["The group"]
    assert replica.chat("g").read_at(2, "dan") == 70
    assert list(replica.chat("g").asked) == [4], "of #1 to #3 the receipts have expired"
    assert replica.readers("g", 2) == ()
    assert [(r.user, r.content) for r in replica.readers("g", 4)] == [("dan", "ok")]
    assert replica.messages("g") == []
    dumped = replica.dump()["conversations"]["g"]
    assert dumped["members"]["dan"]["read_shared"] == [2, 3]
    assert dumped["expired_through"] == 1


def test_expired_messages_are_left_out_of_what_replicas_are_compared_by() -> None:
    """Who heard of a message that is gone, and who never did, have equal dumps."""
    late, early = Replica(ME, "phone"), Replica(ME, "phone")
    early.apply(message(1, counts=Counts.SILENT))
    early.apply(Read(CHAT, ME, (1, 2)))
    for replica in (late, early):
        replica.apply(message(2))
        replica.apply(events.MessagesExpired(conversation=CHAT, through=1))
    assert early.dump() == late.dump()


def test_nothing_is_known_of_what_was_never_heard_of() -> None:
    """A conversation or a message that this device knows nothing of has no messages, readers or unread."""
    replica = heard([message(1)])
    assert replica.messages("nowhere") == []
    assert replica.messages(CHAT, limit=0) == []
    assert replica.readers(CHAT, 1) == replica.readers("nowhere", 7) == ()
    assert (replica.unread("nowhere"), replica.last("nowhere")) == (0, 0)
    assert replica.status("nowhere", 1) is Status.SENT


def test_i_08_messages_are_in_the_order_of_their_seqs() -> None:
    """I-8: whatever their ids, their times (all at one moment) and the order in which they came."""
    came = [
        MessageAccepted(CHAT, seq, MessageId(100 - seq), "alice", at_ms=5, body=str(seq))
        for seq in (3, 1, 5, 2, 4)
    ]
    replica = heard(list(came))
    assert [m.seq for m in replica.messages(CHAT)] == [1, 2, 3, 4, 5]
    assert [m.seq for m in replica.messages(CHAT, before=4, limit=2)] == [2, 3]
    assert replica.last(CHAT) == 5
    (line,) = replica.conversations()
    assert line.last is not None
    assert line.last.seq == 5
    replica.apply(Read(CHAT, "bob", (1, 4)))
    assert replica.unread_seqs(CHAT) == [4, 5]


def test_scene_12_marked_from_a_message_on() -> None:
    """Unread again from #8; reading on takes it away again, seq by seq; `read` never shrinks (scene 12)."""
    replica = heard([message(seq) for seq in range(1, 11)])
    replica.apply(Read(CHAT, "bob", (1, 11)))
    replica.apply(
        events.UnreadMarked(conversation=CHAT, member="bob", version=5, flagged=False, ranges=(8, 11))
    )
    assert replica.unread_seqs(CHAT) == [8, 9, 10]
    assert replica.marked_unread(CHAT)
    assert not replica.marked_unread(CHAT, [(5, (1, 11))]), "it was read with the mark known"
    replica.apply(message(11))
    assert replica.unread(CHAT) == 4
    assert replica.unread_seqs(CHAT, [(5, (1, 10))]) == [10, 11]
    assert replica.unread_seqs(CHAT, [(4, (1, 10))]) == [8, 9, 10, 11], "the reader did not know the mark"
    replica.read_confirmed(CHAT, (1, 10), 5, share=True)
    assert replica.unread_seqs(CHAT) == [10, 11]
    replica.read_confirmed(CHAT, (1, 12), 5, share=True)
    assert replica.unread(CHAT) == 0
    assert not replica.marked_unread(CHAT)


def test_scene_17_first_answer_stands() -> None:
    """Of two answers of one reader the lower version stands, in either order (scene 17)."""
    first = GroupRead("g", 20, 2, (Reader("bob", 1, "ok", 7), Reader("cara", 1, "", 8)))
    late = GroupRead("g", 20, 2, (Reader("bob", 2, "later", 9),))
    ask = message(20, "olga", conversation="g", asks=True)
    for order in ([first, late], [late, first]):
        replica = Replica("olga", "phone")
        replica.apply(ask)
        for update in order:
            replica.apply(update)
        assert [(r.user, r.content) for r in replica.readers("g", 20)] == [("bob", "ok"), ("cara", "")]


def test_scene_23_bodies_a_marker_and_one_mark() -> None:
    """After an absence: the new bodies, a marker for the recalled one, one read; each once (scene 23)."""
    replica = heard([message(seq, "bob" if seq % 2 else "alice") for seq in range(1, 11)])
    part = ConversationPart(
        conversation=CHAT,
        kind=ConversationKind.DIRECT,
        head=60,
        messages=tuple(message(seq) for seq in range(11, 61) if seq != 12),
        recalled=(12, 13),
        members=(MemberPart(user="alice", read_shared=(1, 8), delivered_shared=(1, 8)),),
    )
    news = replica.apply(CatchUp(parts=(part,), token="t", live=True))
    assert sum(isinstance(update, MessageAccepted) for update in news) == 49
    assert [u.seq for u in news if isinstance(u, MessageRecalled)] == [12]
    (read,) = [u for u in news if isinstance(u, Read)]
    assert read.member == "alice"
    assert read.ranges == (1, 2, 3, 4, 5, 6, 7, 8), "only bob's own messages: alice's are not read by her"
    assert len(news) == 51
    assert replica.status(CHAT, 7) is Status.READ
    assert replica.status(CHAT, 9) is Status.ACKED


def test_full_state_drops_what_was_there() -> None:
    """A full state replaces the replica, and only what waits to be read and was not known is news."""
    replica = heard([message(1), message(2), message(1, conversation="bob~zoe", author="zoe")])
    part = ConversationPart(
        conversation=CHAT,
        kind=ConversationKind.DIRECT,
        head=4,
        messages=tuple(message(seq) for seq in (1, 2, 3, 4)),
        members=(MemberPart(user="bob", read=(1, 2, 3, 4)),),
    )
    news = replica.apply(CatchUp(parts=(part,), token="t", live=True, full=True))
    assert [u.seq for u in news if isinstance(u, MessageAccepted)] == [4]
    assert len(news) == 1
    assert [line.conversation for line in replica.conversations()] == [CHAT]
    assert replica.unread_seqs(CHAT) == [2, 4]


def test_messages_are_bounded_and_paged() -> None:
    """The newest bodies are kept; older ones come by history and go in only where there is room."""
    replica = Replica("bob", "phone", messages_max=5)
    for seq in range(1, 9):
        replica.apply(message(seq))
    assert [m.seq for m in replica.messages(CHAT)] == [4, 5, 6, 7, 8]
    assert [m.seq for m in replica.messages(CHAT, before=7, limit=2)] == [5, 6]
    replica.history(
        History(rid=1, conversation=CHAT, messages=(message(2), message(3)), recalled=(), more=False)
    )
    assert [m.seq for m in replica.messages(CHAT)] == [4, 5, 6, 7, 8]
    assert replica.unread(CHAT) == 8, "counting needs no bodies"
    roomy = Replica("bob", "phone")
    roomy.apply(message(3))
    roomy.history(History(rid=1, conversation=CHAT, messages=(message(1),), recalled=(2, 3), more=False))
    assert [m.seq for m in roomy.messages(CHAT)] == [1, 3]
    assert roomy.unread(CHAT) == 2


def test_what_makes_room_is_removed_from_disk_too() -> None:
    """A message that is not kept any more is noted as removed: recalled later, it must not come back with a
    restart."""
    replica = Replica("bob", "phone", messages_max=2)
    for seq in (1, 2, 3):
        replica.apply(message(seq))
    assert replica.removed == [(CHAT, 1)]


def test_what_is_gone_is_not_restored() -> None:
    """Saved messages that are recalled or expired stay away, and are to be removed."""
    saved = Replica("bob", "phone")
    for seq in (1, 2, 3):
        saved.apply(message(seq))
    saved.apply(events.MessagesExpired(conversation=CHAT, through=1))
    saved.apply(events.MessageRecalled(conversation=CHAT, seq=2, by="alice"))
    restored = Replica("bob", "phone")
    restored.restore(saved.parts(CHAT), [message(seq) for seq in (1, 2, 3)])
    assert [m.seq for m in restored.messages(CHAT)] == [3]
    assert restored.removed == [(CHAT, 1), (CHAT, 2)]


def test_history_takes_bodies_of_recalled_messages_away() -> None:
    """What a page of history says to be recalled is no longer shown, though no update has said it."""
    replica = heard([message(1), message(2)])
    replica.history(History(rid=1, conversation=CHAT, messages=(message(2),), recalled=(1, 2), more=False))
    assert [m.seq for m in replica.messages(CHAT)] == [2]


def test_while_catching_up_a_conversation_ends_where_its_messages_end() -> None:
    """Own messages that a later page brings are not taken for unread ones, whatever is told before they come:
    the head, marks, a recall, an answer to an own send, a page of history (I-1)."""
    replica = Replica("bob", "phone")
    first = ConversationPart(
        conversation=CHAT,
        kind=ConversationKind.DIRECT,
        head=5,
        messages=(message(1),),
        recalled=(5, 6),
    )
    replica.apply(CatchUp(parts=(first,), token="t:1", live=False, full=True))
    assert replica.unread_seqs(CHAT) == [1]
    replica.apply(message(7, "bob"))
    replica.history(History(rid=1, conversation=CHAT, messages=(message(6),), recalled=(), more=True))
    assert replica.unread_seqs(CHAT) == [1]
    (saved,) = replica.parts(CHAT)
    assert saved.head == 7
    rest = ConversationPart(
        conversation=CHAT,
        kind=ConversationKind.DIRECT,
        head=7,
        messages=(message(2, "bob"), message(3, "bob"), message(4), message(6), message(7, "bob")),
    )
    replica.apply(CatchUp(parts=(rest,), token="t:2", live=True))
    assert replica.unread_seqs(CHAT) == [1, 4, 6]
    assert replica.chat(CHAT).head == 7


def test_badge_and_list_leave_muted_and_left_conversations_apart() -> None:
    """Muted conversations are badged apart; a group that was left is not listed."""
    replica = heard(
        [message(1), message(1, "zoe", conversation="bob~zoe"), message(2, "zoe", conversation="bob~zoe")]
    )
    replica.apply(
        events.RegisterSet(
            conversation="bob~zoe", member="bob", register=events.Register.MUTED, version=3, value=True
        )
    )
    replica.apply(events.MemberJoined(conversation="g", member="bob", version=4, from_seq=1))
    replica.apply(events.MemberLeft(conversation="g", member="bob", joined=4, through=0))
    badge = replica.badge()
    assert (badge.messages, badge.conversations) == (1, 1)
    assert (badge.muted_messages, badge.muted_conversations) == (2, 1)
    assert [(line.name, line.unread) for line in replica.conversations()] == [("zoe", 2), ("alice", 1)]


def test_group_status_is_the_least_of_the_audience() -> None:
    """In a group a message is as far as the slowest of its audience; alone it stays acked (I-19)."""
    members = tuple(
        MemberPart(user=user, periods=((1, events_period(1)),)) for user in ("bob", "cara", "dan")
    )
    part = ConversationPart(conversation="g", kind=ConversationKind.GROUP, head=0, members=members)
    replica = heard([part, message(1, "bob", conversation="g", asks=True)])
    assert replica.status("g", 1) is Status.ACKED
    replica.apply(GroupRead("g", 1, 1, (Reader("cara", 1, "", 5),)))
    assert replica.status("g", 1) is Status.ACKED
    replica.apply(GroupRead("g", 1, 2, (Reader("dan", 1, "", 6),)))
    assert replica.status("g", 1) is Status.READ
    assert replica.status("g", 1, "cara") is Status.READ
    lonely = heard([message(1, "bob", conversation="h", asks=True)])
    assert lonely.status("h", 1) is Status.ACKED


def events_period(start: int) -> Any:
    from receipts.core.member import Period

    return Period(start)


def test_names_of_conversations() -> None:
    """A user id names the conversation with that user, unless a group is known by that name."""
    replica = heard([message(1, "zoe", conversation="team")])
    assert replica.resolve("alice") == CHAT
    assert replica.resolve(CHAT) == CHAT
    assert replica.resolve("team") == "team"
    assert replica.resolve("G-1") == "G-1"
    try:
        replica.resolve("bob")
    except LocalProtocolError:
        pass
    else:
        raise AssertionError("nobody talks to themselves")


def test_answers_are_not_state() -> None:
    """An answer changes nothing in the replica."""
    replica = heard([message(1)])
    before = replica.dump()
    assert replica.apply(Pong(1)) == []
    assert replica.dump() == before


def test_delivered_is_told_once_and_not_below_read() -> None:
    """A delivery that was told, or is implied by a read, is no news (no new information, no frame)."""
    replica = heard([message(1, "bob"), message(2, "bob")])
    assert len(replica.apply(Delivered(CHAT, "alice", (1, 2)))) == 1
    assert replica.apply(Delivered(CHAT, "alice", (1, 2))) == []
    replica.apply(Read(CHAT, "alice", (1, 3), 9, 9))
    assert replica.apply(Delivered(CHAT, "alice", (2, 3))) == []
    assert replica.status(CHAT, 2) is Status.READ


def test_asking_messages_of_others() -> None:
    """The replica knows which messages ask this user: not its own, not expired ones."""
    replica = heard(
        [
            message(1, "olga", conversation="g", asks=True),
            message(2, "bob", conversation="g", asks=True),
            message(3, "olga", conversation="g"),
            message(4, "olga", conversation="g", asks=True),
        ]
    )
    assert replica.asking("g", (1, 5)) == ranges_of([1, 4])
    replica.apply(events.GroupReceiptsExpired(conversation="g", through=1))
    assert replica.asking("g", (1, 5)) == ranges_of([4])
    part = ConversationPart(
        conversation="g", kind=ConversationKind.GROUP, head=5, asked=(AskedPart(seq=5, author="olga"),)
    )
    replica.apply(part)
    assert replica.asking("g", (1, 6)) == ranges_of([4, 5])


def test_many_answers_are_saved_in_parts_that_fit_a_frame() -> None:
    """However many answers with words there are, each saved part fits a frame, and all come back."""
    replica = Replica("olga", "phone")
    for seq in range(1, 11):
        replica.apply(message(seq, "olga", conversation="g", asks=True))
        readers = tuple(Reader(f"user{n}", 1, "x" * 1000, n + 1) for n in range(150))
        replica.apply(GroupRead("g", seq, 150, readers))
    parts = list(replica.parts("g"))
    assert len(parts) > 2
    assert max(len(encode_update(part, 0)) for part in parts) < FRAME_BYTES_MAX
    twin = Replica("olga", "phone")
    twin.restore(parts, [])
    assert twin.dump(messages=False) == replica.dump(messages=False)


def test_who_asks_for_what_was_never_heard_of() -> None:
    """Names that nothing was heard of are empty, twice and however many there are, and none of them stays:
    not in the list, and not much in memory."""
    replica = Replica(ME, "phone")
    for _ in range(2):
        for number in range(BLANKS_MAX + 1):
            assert replica.unread(f"group{number}") == 0
            assert len(replica._blanks) <= BLANKS_MAX
    assert replica.conversations() == ()
    replica.apply(message(1, "olga", conversation=f"{ME}~olga"))
    assert replica.unread(f"{ME}~olga") == 1
