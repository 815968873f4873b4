"""The outbox: what is owed merges, is said once a link, and is kept until the node is known to have it."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from receipts.client.outbox import Mark, Marks, Outbox, held_by, read_by
from receipts.core.conversation import Conversation
from receipts.core.events import GroupReadMarked, MessageAccepted
from receipts.core.ids import Counts, MessageId
from receipts.core.ranges import RangeSet, count
from receipts.wire.codec import decode_command, encode_command
from receipts.wire.commands import AckDelivered, ReadConversation, ReadMessages, SendMessage

CHAT = "alice~bob"

_seqs = st.integers(1, 30)
_share = st.booleans()
_known = st.sampled_from([0, 51])
_wish = st.one_of(
    st.tuples(st.just("owe"), _seqs, _share, st.just(0)),
    st.tuples(st.just("along"), _seqs, _share, st.just(0)),
    st.tuples(st.just("through"), _seqs, _share, _known),
    st.tuples(st.just("named"), _seqs, _share, _known),
    st.tuples(st.just("answer"), _seqs, _share, _known),
    st.tuples(st.just("words"), _seqs, _share, _known),
)
Wish = tuple[str, int, bool, int]


def wish(marks: Marks, one: Wish) -> None:
    what, seq, share, known = one
    if what == "owe":
        marks.owe(seq, share)
    elif what == "along":
        marks.bring_along(seq)
    elif what == "through":
        marks.read_conversation(seq, share, known)
    elif what == "named":
        marks.read_messages((seq, seq + 1), share, known)
    else:
        marks.answer((seq, seq + 1), "ok" if what == "words" else None, share, known)


def due(
    marks: Marks, *, direct: bool = False, reads: bool = True, rids: Iterator[int] | None = None
) -> list[Mark]:
    numbers = rids or iter(range(1, 1000))
    return marks.due(CHAT, direct=direct, reads=reads, next_rid=lambda: next(numbers))


def said(marks: list[Mark]) -> tuple[RangeSet, RangeSet]:
    """(acknowledged, read) by all of these together."""
    held, read = RangeSet(), RangeSet()
    for mark in marks:
        if isinstance(mark, AckDelivered):
            held.update(mark.ranges)
        else:
            read.update(read_by(mark))
    return held, read


@given(wishes=st.lists(_wish, max_size=20), direct=st.booleans())
def test_everything_is_said_and_only_once(wishes: list[Wish], direct: bool) -> None:
    """One flush says all that was wished, a second one nothing, and once it is done nothing is left."""
    marks = Marks()
    for one in wishes:
        wish(marks, one)
    owed = {seq for what, seq, _, _ in wishes if what == "owe"}
    reads = {seq for what, seq, _, _ in wishes if what in ("named", "answer", "words")}
    last = max((seq for what, seq, _, _ in wishes if what == "through"), default=0)
    out = due(marks, direct=direct)
    held, read = said(out)
    covered = set(held)
    for mark in out:
        if direct and not isinstance(mark, AckDelivered) and mark.share:
            covered |= set(RangeSet(held_by(mark)))
    assert owed <= covered
    assert reads | set(range(1, last + 1)) == set(read)
    assert due(marks, direct=direct) == []
    for mark in out:
        marks.done(mark)
    assert not marks
    assert marks.local() == []


@given(wishes=st.lists(_wish, max_size=20), cut=st.integers(0, 20), direct=st.booleans())
def test_a_cut_repeats_what_was_not_confirmed(wishes: list[Wish], cut: int, direct: bool) -> None:
    """After `again` everything not done is said again, whatever was wished before and after the first try."""
    marks = Marks()
    for one in wishes[:cut]:
        wish(marks, one)
    first = due(marks, direct=direct)
    for mark in first[: len(first) // 2]:
        marks.done(mark)
    for one in wishes[cut:]:
        wish(marks, one)
    whole = Marks()
    for mark in marks.commands(CHAT):
        whole.take_back(mark)
    marks.again()
    _, read = said(due(marks, direct=direct))
    _, expected = said(due(whole, direct=direct))
    assert read == expected


@given(wishes=st.lists(_wish, max_size=20))
def test_saved_marks_come_back(wishes: list[Wish]) -> None:
    """Marks survive as commands: what comes back says the same and counts the same."""
    marks, twin = Marks(), Marks()
    for one in wishes:
        wish(marks, one)
    for mark in marks.commands(CHAT):
        back = decode_command(encode_command(mark))
        assert isinstance(back, (AckDelivered, ReadConversation, ReadMessages))
        twin.take_back(back)
    assert twin.local() == marks.local()
    assert twin.commands(CHAT) == marks.commands(CHAT)


@given(wishes=st.lists(_wish, min_size=1, max_size=30))
def test_one_conversation_costs_few_frames(wishes: list[Wish]) -> None:
    """However many receipts merge, the frames are bounded by who may know and which mark was known (I-21)."""
    marks = Marks()
    for one in wishes:
        wish(marks, one)
    kinds = {(share, known) for what, _, share, known in wishes if what not in ("owe", "along")}
    answers = sum(isinstance(m, ReadMessages) and m.content is not None for m in due(marks))
    marks.again()
    assert len(due(marks)) - answers <= 2 + 3 * len(kinds)


def test_a_reader_who_reads_in_order_has_one_range() -> None:
    """A thousand messages read one by one are one frame with one range (I-21)."""
    marks = Marks()
    for seq in range(1, 1001):
        marks.owe(seq, True)
        marks.read_messages((seq, seq + 1), True, 0)
    (frame,) = due(marks, direct=True)
    assert isinstance(frame, ReadMessages)
    assert frame.ranges == (1, 1001)


def test_many_answers_with_words_are_cut_into_frames() -> None:
    """Answers with the same words share frames of at most as many messages as a node takes."""
    marks = Marks()
    marks.answer((1, 46), "seen", True, 0)
    frames = due(marks)
    sizes = [count(frame.ranges) for frame in frames if isinstance(frame, ReadMessages)]
    assert sizes == [20, 20, 5]
    assert len({frame.rid for frame in frames}) == 3


def test_answers_that_fill_their_frames_leave_no_empty_one() -> None:
    """Forty answers with the same words are two frames, each done by itself; with both nothing is left."""
    marks = Marks()
    marks.answer((1, 41), "seen", True, 0)
    first, second = due(marks)
    assert [held_by(first), held_by(second)] == [(1, 21), (21, 41)]
    marks.done(first)
    assert [read_by(mark) for mark in marks.commands(CHAT) if isinstance(mark, ReadMessages)] == [(21, 41)]
    assert due(marks) == [], "the second was said on this link"
    marks.done(second)
    assert not marks


def test_what_was_said_is_not_said_again_beside_new_words() -> None:
    """A new answer goes out alone: those with other words, or with the same ones, were said on this link."""
    marks = Marks()
    marks.answer((1, 2), "seen", True, 0)
    marks.answer((2, 3), "ok", True, 0)
    assert len(due(marks)) == 2
    marks.answer((3, 4), "seen", True, 0)
    (more,) = due(marks)
    assert isinstance(more, ReadMessages)
    assert (more.ranges, more.content) == ((3, 4), "seen")


def test_reading_less_than_was_read_is_nothing_new() -> None:
    """A conversation receipt for an earlier message than the last one adds nothing to say."""
    marks = Marks()
    marks.read_conversation(5, True, 0)
    marks.read_conversation(3, True, 0)
    assert marks.local() == [(0, (1, 6))]
    assert due(marks) == [ReadConversation(0, CHAT, 5)]


def test_refused_answers_are_dropped_whatever_was_said_of_them() -> None:
    """Answers that the node will not take are gone, whatever words they had; what is left is done."""
    marks = Marks()
    marks.answer((3, 4), "ok", True, 0)
    marks.answer((1, 3), "seen", True, 0)
    marks.answer((4, 6), None, True, 0)
    frames = due(marks)
    marks.refuse((2, 5))
    assert marks.local() == [(0, (1, 2, 5, 6))]
    for frame in frames:  # that of the words which are gone changes nothing
        assert marks
        marks.done(frame)
    assert not marks


def test_what_is_confirmed_after_patience_was_asked_for_is_done() -> None:
    """A mark that arrived all the same need not be said again, though the others are."""
    marks = Marks()
    marks.read_messages((1, 2), True, 0)
    (first,) = due(marks)
    marks.read_messages((3, 4), True, 0)
    due(marks)
    marks.again()
    marks.done(first)
    assert due(marks) == [ReadMessages(0, CHAT, (3, 4))]


def test_answers_that_did_not_arrive_are_said_again_after_a_cut() -> None:
    """After a reconnect the words that the state shows are done, those that it does not show go out again."""
    chat = Conversation.group("g", ["olga", "bob"])
    for seq in (1, 2):
        chat.apply(MessageAccepted("g", seq, MessageId(2 * seq), "olga", asks=True))
    marks = Marks()
    marks.answer((1, 2), "seen", True, 0)
    marks.answer((2, 3), "ok", True, 0)
    assert len(due(marks)) == 2
    chat.apply(GroupReadMarked("g", 1, "bob", 5, "seen", 9))
    marks.reconcile(chat, "bob", "phone")
    (again,) = due(marks)
    assert isinstance(again, ReadMessages)
    assert (again.ranges, again.content) == ((2, 3), "ok")


_happening = st.one_of(_wish, st.sampled_from(["say", "confirm", "refuse", "again", "reconcile"]))


@given(happenings=st.lists(_happening, max_size=40), direct=st.booleans())
def test_whatever_happens_a_mark_is_owed_until_it_is_done(happenings: list[Wish | str], direct: bool) -> None:
    """Said, confirmed, refused, cut in any order: what is noted as said is owed; once done, nothing is."""
    marks = Marks()
    chat = Conversation.between("alice", "bob") if direct else Conversation.group(CHAT, ["alice", "bob"])
    flight: list[Mark] = []
    rids = iter(range(1, 10_000))
    for one in happenings:
        if isinstance(one, tuple):
            wish(marks, one)
        elif one == "say":
            flight += due(marks, direct=direct, rids=rids)
        elif one == "confirm" and flight:
            marks.done(flight.pop(0))
        elif one == "refuse" and flight:
            marks.refuse(held_by(flight[0]))
        elif one == "again":
            marks.again()
        elif one == "reconcile":
            flight.clear()
            marks.reconcile(chat, "bob", "phone")
        assert marks._tried.keys() <= marks._reads.keys()
    marks.again()
    for mark in due(marks, direct=direct, rids=rids):
        marks.done(mark)
    assert not marks


def test_reads_wait_when_they_must() -> None:
    """With reads held back, acknowledgements go alone; the reads follow."""
    marks = Marks()
    marks.owe(1, True)
    marks.read_conversation(1, True, 0)
    assert due(marks, direct=True, reads=False) == [AckDelivered(0, CHAT, (1, 2))]
    assert due(marks, direct=True) == [ReadConversation(0, CHAT, 1)]


def test_sends_keep_their_numbers() -> None:
    """Numbers rise and are never given twice, also not after a restart; order stays."""
    outbox = Outbox("install")
    for body in ("one", "two", "three"):
        outbox.send(9, CHAT, body, Counts.YES, False)
    outbox.settle_send(2)
    twin = Outbox("install", outbox.number)
    twin.restore([pending.command() for pending in outbox.sends.values()], [])
    assert list(twin.sends) == [1, 3]
    assert not any(pending.attended for pending in twin.sends.values())
    assert twin.send(1, CHAT, "four", Counts.YES, False).number == 4
    assert twin.sends[3].command() == SendMessage(0, CHAT, "three", 3)
