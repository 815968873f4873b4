"""The outbox: what is owed merges, is said once a link, and is kept until the node is known to have it."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from receipts.client.outbox import Mark, Marks, Outbox, held_by, read_by
from receipts.core.ids import Counts
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
