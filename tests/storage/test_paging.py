"""`resume` and `summaries`: nothing is lost between pages, and nothing shows in them that is private."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from receipts.core.errors import LocalProtocolError
from receipts.core.member import Member
from receipts.storage.base import Changed, MessageRow, ResumePage, Store
from receipts.storage.codec import load_member, pack_marks
from receipts.storage.paging import newest
from tests.storage.writer import APP, Writer, items, pages, summary_pages

GROUP = "g"


def one(store: Store, user: str, since: int, snapshot_messages: int = 1000) -> Changed:
    """The only item of a pass."""
    (item,) = items(pages(store, user, since, bytes_max=10**6, snapshot_messages=snapshot_messages))
    return item


def seqs(rows: list[MessageRow]) -> list[int]:
    """Of messages."""
    return [row.seq for row in rows]


# -- what a pass holds ----------------------------------------------------------------------------------


def test_full_state(store: Store, writer: Writer) -> None:
    """Without a tick everything of every conversation is given."""
    writer.conversation("a~b", "a", "b")
    sent = [writer.send("a~b", "a", "one"), writer.send("a~b", "b", "two", counts=1)]
    mark = writer.mark("a~b", "b", (1, 3))
    writer.commit()
    writer.recall("a~b", 1, "a")
    tick = writer.commit()
    (page,) = pages(store, "b", -1)
    assert (page.tick, page.cursor) == (tick, "")
    (item,) = page.items
    assert item.row.conversation == "a~b"
    assert item.head == 2
    assert [member.user for member in item.members] == ["a", "b"]
    assert item.mine == item.members[1]
    assert item.marks == [mark]
    assert seqs(item.messages) == [1, 2]
    assert (item.messages[0].body, item.messages[1]) == ("", sent[1])
    assert (item.recalled, item.uncounted, item.first_seq) == ((1, 2), (2, 3), 1)


def test_snapshot_leaves_older_messages_to_history(store: Store, writer: Writer) -> None:
    """A full state holds the newest messages, says from which on, and of all which ones do not count."""
    writer.conversation(GROUP, "a")
    for n in range(10):
        writer.send(GROUP, "a", counts=n % 2)
    writer.commit()
    item = one(store, "a", -1, snapshot_messages=3)
    assert seqs(item.messages) == [8, 9, 10]
    assert item.first_seq == 8
    assert item.uncounted == (2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
    assert one(store, "a", -1, snapshot_messages=10).first_seq == 1
    item = one(store, "a", -1, snapshot_messages=0)
    assert (item.messages, item.first_seq) == ([], 11)


def test_snapshot_counts_what_may_be_read(store: Store, writer: Writer) -> None:
    """The newest messages are the newest that the user may read, over holes in the membership."""
    writer.conversation(GROUP, "a", "b")
    for step in (None, writer.leave, None, writer.join, None):
        if step is not None:
            step(GROUP, "b")
        else:
            for _ in range(3):
                writer.send(GROUP, "a")
        writer.commit()
    item = one(store, "b", -1, snapshot_messages=5)
    assert seqs(item.messages) == [2, 3, 7, 8, 9]
    assert item.first_seq == 2


def test_only_what_changed(store: Store, writer: Writer) -> None:
    """Since a tick, only what changed after it is given, each kind of row by its own tick."""
    writer.conversation(GROUP, "a", "b", "c")
    for _ in range(3):
        writer.send(GROUP, "a", counts=1)
    ask = writer.ask(GROUP, "a")
    writer.mark(GROUP, "a", (1, 2))
    since = writer.commit()
    assert items(pages(store, "b", since)) == []

    changes: list[tuple[Callable[[], object], str]] = [
        (lambda: writer.row(GROUP), "row"),
        (lambda: writer.leave(GROUP, "c"), "members"),
        (lambda: writer.mark(GROUP, "a", (1, 3)), "marks"),
        (lambda: writer.send(GROUP, "a", "new", counts=2), "messages"),
        (lambda: writer.recall(GROUP, 2, "a"), "recalled"),
        (lambda: writer.answer(ask, "c"), "asks"),
    ]
    for change, name in changes:
        change()
        tick = writer.commit()
        item = one(store, "b", since)
        told = {
            "row": item.row.tick > since,
            "members": bool(item.members),
            "marks": bool(item.marks),
            "messages": bool(item.messages),
            "recalled": bool(item.recalled),
            "asks": bool(item.asks),
        }
        assert {kind for kind, is_told in told.items() if is_told} == {name}
        assert item.mine.user == "b"
        assert (item.recalled, item.uncounted) == (
            (2, 3) if name == "recalled" else (),
            (5, 6) if name == "messages" else (),
        )
        assert [row.reader for row in item.receipts] == (["c"] if name == "asks" else [])
        since = tick


def test_all_answers_come_with_a_changed_ask(store: Store, writer: Writer) -> None:
    """One new answer brings all answers of its message, and none of another message."""
    writer.conversation(GROUP, "a", "b", "c")
    asks = [writer.ask(GROUP, "a"), writer.ask(GROUP, "a")]
    for ask in asks:
        writer.answer(ask, "b")
    since = writer.commit()
    writer.answer(asks[0], "c")
    writer.commit()
    item = one(store, "a", since)
    assert [(row.seq, row.reader) for row in item.receipts] == [(1, "b"), (1, "c")]


def test_recalled_while_away(store: Store, writer: Writer) -> None:
    """Scene 23: what is recalled while a device was away is told without its text, old or new."""
    writer.conversation("a~b", "a", "b")
    for _ in range(10):
        writer.send("a~b", "a", "text")
    since = writer.commit()
    for _ in range(50):
        writer.send("a~b", "a", "text")
    writer.commit()
    for seq in (12, 3):
        writer.recall("a~b", seq, "a")
    for n in range(20):
        writer.mark("a~b", "a", (1, 2 + n))
        writer.commit()
    item = one(store, "b", since)
    assert seqs(item.messages) == list(range(11, 61))
    assert [row.seq for row in item.messages if not row.body] == [12]
    assert item.recalled == (3, 4, 12, 13)
    assert len(item.marks) == 1


def test_leaver_gets_no_later_messages(store: Store, writer: Writer) -> None:
    """Messages outside of the user's periods, cleared or expired ones are not given; for them alone there is
    no item."""
    key = writer.conversation(GROUP, "a", "b", "c")
    for _ in range(4):
        writer.send(GROUP, "a")
    writer.clear(GROUP, "c", 2)
    writer.commit()
    writer.leave(GROUP, "b")
    since = writer.commit()
    writer.send(GROUP, "a", "not for b")
    writer.commit()
    assert items(pages(store, "b", since)) == []
    assert seqs(one(store, "b", -1).messages) == [1, 2, 3, 4]
    assert seqs(one(store, "c", -1).messages) == [3, 4, 5]
    assert seqs(one(store, "c", since).messages) == [5]
    writer.batch.expired_messages.append((key, 3))
    writer.row(GROUP, expired_through=3)
    writer.commit()
    item = one(store, "c", -1)
    assert (seqs(item.messages), item.head, item.row.expired_through) == ([4, 5], 5, 3)


def test_newcomer_gets_the_others_whole(store: Store, writer: Writer) -> None:
    """Whoever was let in while away gets all members and marks, but no message from before."""
    writer.conversation(GROUP, "a", "b")
    writer.send(GROUP, "a")
    writer.mark(GROUP, "b", (1, 2))
    since = writer.commit()
    writer.join(GROUP, "c")
    writer.commit()
    writer.send(GROUP, "a", "for c too")
    writer.commit()
    item = one(store, "c", since)
    assert [row.user for row in item.members] == ["a", "b", "c"]
    assert [row.user for row in item.marks] == ["b"]
    assert seqs(item.messages) == [2]
    assert [row.user for row in one(store, "b", since).members] == ["c"]


def test_returner_gets_the_others_whole(store: Store, writer: Writer) -> None:
    """Whoever comes back gets what was kept from a leaver meanwhile."""
    writer.conversation(GROUP, "a", "b", "c")
    writer.send(GROUP, "a")
    writer.leave(GROUP, "c")
    writer.commit()
    writer.send(GROUP, "a")
    writer.leave(GROUP, "b")
    since = writer.commit()
    writer.join(GROUP, "c")
    writer.commit()
    item = one(store, "c", since)
    assert [row.user for row in item.members] == ["a", "b", "c"]
    assert not load_member(item.members[1]).joined
    assert item.messages == []


# -- pages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bytes_max", [0, 1, 200, 500, 2000, 10**6])
@pytest.mark.parametrize("since", [-1, 0, 2])
def test_pages_add_up_to_the_whole(store: Store, writer: Writer, since: int, bytes_max: int) -> None:
    """However small the pages, together they hold each message once, rising, and each row once."""
    for name in ("a~b", GROUP, "h"):
        writer.conversation(name, "a", "b")
        writer.mark(name, "a", (1, 2))
    for _ in range(3):
        for name, count in (("a~b", 7), (GROUP, 0), ("h", 4)):
            for _ in range(count):
                writer.send(name, "a", "x" * 100, counts=writer.heads[name] % 2)
        writer.commit()
    (whole,) = pages(store, "b", since, bytes_max=10**9)
    parts = items(pages(store, "b", since, bytes_max=bytes_max))
    if bytes_max <= 500:
        assert len(parts) > len(whole.items)
    for expected in whole.items:
        mine = [part for part in parts if part.row.key == expected.row.key]
        assert [row for part in mine for row in part.messages] == expected.messages
        assert [row for part in mine for row in part.members] == expected.members
        assert [row for part in mine for row in part.marks] == expected.marks
        assert {part.first_seq for part in mine} == {expected.first_seq}
        if since >= 0:
            silent = [seq for part in mine for seq in part.uncounted[::2]]
            assert silent == [row.seq for row in expected.messages if row.counts]
    assert [part.row.key for part in parts] == sorted(part.row.key for part in parts)


def test_page_is_about_as_large_as_asked(store: Store, writer: Writer) -> None:
    """Bodies in a page are at most the bound and one body more; every page holds something."""
    for name in ("g", "h", "i"):
        writer.conversation(name, "a")
        for n in range(40):
            writer.send(name, "a", "x" * (n * 37 % 400))
    writer.commit()
    found = pages(store, "a", 0, bytes_max=1000)
    for page in found:
        assert sum(len(row.body) for item in page.items for row in item.messages) < 1000 + 400
        assert page.items
    assert len(found) > 10


def test_empty_bodies_fill_pages_too(store: Store, writer: Writer) -> None:
    """A page of messages without text ends as well: rows cost something of their own."""
    writer.conversation("g", "a")
    for _ in range(500):
        writer.send("g", "a", "")
    writer.commit()
    assert len(pages(store, "a", 0, bytes_max=1000)) > 10


def test_last_page_reports_the_tick_of_the_first(store: Store, writer: Writer) -> None:
    """A conversation that was passed early and then changes is not lost: the pass reports where it began."""
    for name in ("g", "h"):
        writer.conversation(name, "a", "b")
        for _ in range(5):
            writer.send(name, "a", "x" * 100)
    began = writer.commit()
    first = store.resume(APP, "b", since=0, cursor="", bytes_max=300, snapshot_messages=9)
    assert [item.row.conversation for item in first.items] == ["g"]
    page = first
    while page.cursor:
        writer.mark("g", "a", (1, 2))
        writer.recall("g", 1, "a")
        writer.commit()
        page = store.resume(APP, "b", since=0, cursor=page.cursor, bytes_max=300, snapshot_messages=9)
        assert page.tick == began
    assert writer.meta.tick > began
    item = one(store, "b", page.tick)
    assert (len(item.marks), item.recalled) == (1, (1, 2))


def test_nothing_is_lost_whatever_is_committed_between_pages(store: Store, writer: Writer) -> None:
    """Passes from tick to tick, with commits between all pages, hold every row in its latest version."""
    for name in ("g", "h", "i"):
        writer.conversation(name, "a", "b")
    writer.commit()
    messages: dict[tuple[int, int], MessageRow] = {}
    told: dict[tuple[str, int, str], object] = {}
    recalled: dict[int, set[int]] = {}

    def take(page: ResumePage) -> None:
        for item in page.items:
            for row in item.messages:
                messages[row.key, row.seq] = row
            for member in item.members:
                told["member", member.key, member.user] = member
            for mark in item.marks:
                told["mark", mark.key, mark.user] = mark
            bounds = item.recalled
            for start, stop in zip(bounds[::2], bounds[1::2], strict=True):
                recalled.setdefault(item.row.key, set()).update(range(start, stop))

    def meddle(step: int) -> None:
        if step > 60:
            return
        name = "ghi"[step * 7 % 3]
        for _ in range(step % 4):
            writer.send(name, "a", "x" * 50)
        if step % 5 == 4:
            writer.recall(name, max(writer.heads[name] - step % 3, 1), "a")
        if step % 3 == 0:
            writer.mark(name, "a", (1, step + 2))
        if step % 7 == 0:
            writer.share(name, "a", step % 2 == 0)
        writer.commit()

    since, cursor, step = 0, "", 0
    while True:
        page = store.resume(APP, "b", since=since, cursor=cursor, bytes_max=300, snapshot_messages=9)
        take(page)
        if not page.cursor and page.tick == writer.meta.tick:
            break
        cursor = page.cursor
        since = since if cursor else page.tick
        step += 1
        meddle(step)

    assert step > 60
    for name, key in writer.keys.items():
        found = store.conversation(APP, name)
        assert found is not None
        for row in store.history(key, (1, 1000), 1000):
            known = messages[key, row.seq]
            if row.recalled_tick:
                assert row.seq in recalled[key] or known == row
            else:
                assert known == row
        for member in found.members:
            assert told["member", key, member.user] == member
        for mark in found.marks:
            assert told["mark", key, mark.user] == mark


def test_growing_conversation_does_not_keep_a_pass_from_ending(store: Store, writer: Writer) -> None:
    """Messages accepted after the first page wait for the next pass."""
    writer.conversation("g", "a")
    for _ in range(3):
        writer.send("g", "a", "x" * 1000)
    began = writer.commit()
    cursor, given = "", 0
    for _ in range(10):
        page = store.resume(APP, "a", since=0, cursor=cursor, bytes_max=500, snapshot_messages=9)
        given += sum(len(item.messages) for item in page.items)
        cursor = page.cursor
        if not cursor:
            break
        writer.send("g", "a", "x" * 1000)
        writer.commit()
    assert (cursor, given, page.tick) == ("", 3, began)
    assert one(store, "a", began).messages[0].seq == 4


def test_page_goes_on_after_a_change_of_what_may_be_read(store: Store, writer: Writer) -> None:
    """Messages cleared or expired between two pages are skipped, which is said in their place, and the pass
    ends as it should."""
    key = writer.conversation("g", "a")
    writer.conversation("h", "a")
    for name in ("g", "h"):
        for _ in range(10):
            writer.send(name, "a", "x" * 100)
    writer.commit()
    first = store.resume(APP, "a", since=0, cursor="", bytes_max=500, snapshot_messages=9)
    assert first.cursor
    writer.clear("g", "a", 6)
    writer.batch.expired_messages.append((key, 10))
    writer.row("g", expired_through=10)
    writer.commit()
    rest = store.resume(APP, "a", since=0, cursor=first.cursor, bytes_max=10**6, snapshot_messages=9)
    assert [(item.row.conversation, bool(item.messages)) for item in rest.items] == [
        ("g", False),
        ("h", True),
    ]
    assert (rest.items[0].row.expired_through, load_member(rest.items[0].members[0]).cleared_through) == (
        10,
        6,
    )
    assert rest.cursor == ""


@pytest.mark.parametrize("cursor", ["x", "1", "1.2", "1.2.3.4", "-1.2.3", "1..2", "1.2.³", "9" * 30 + ".1.1"])
def test_foreign_cursor_is_refused(store: Store, cursor: str) -> None:
    """A cursor that no store gave is refused, not guessed at."""
    with pytest.raises(LocalProtocolError, match="cursor"):
        store.resume(APP, "a", since=0, cursor=cursor, bytes_max=1, snapshot_messages=1)
    with pytest.raises(LocalProtocolError, match="cursor"):
        store.summaries(APP, "a", cursor + ".1.1", 10)


# -- privacy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bytes_max", [0, 300, 700, 10**6])
@pytest.mark.parametrize("since", [-1, 0, 1, 2])
def test_private_reads_show_nowhere(store: Store, writer: Writer, since: int, bytes_max: int) -> None:
    """I-25: what another member reads in private changes neither which rows come nor where a page ends."""
    for name in ("g", "h", "i"):
        writer.conversation(name, "a", "b")
        for _ in range(5):
            writer.send(name, "a", "x" * 100)
    writer.mark("g", "a", (1, 2))
    writer.commit()
    writer.send("h", "b")
    writer.commit()

    def shown() -> list[tuple[str, list[tuple[object, ...]]]]:
        return [
            (
                page.cursor.rsplit(".", 1)[0],
                [
                    (
                        item.row,
                        item.head,
                        [row.user for row in item.members],
                        [row.user for row in item.marks],
                        item.messages,
                    )
                    for item in page.items
                ],
            )
            for page in pages(store, "b", since, bytes_max=bytes_max)
        ]

    before = shown()
    private = Member()
    for seq in range(1, 200, 2):
        private.read.add(seq, seq + 1)
    row = writer.mark("g", "a", (1, 2), private=True)
    writer.batch.marks[-1] = row._replace(marks=pack_marks(private, 1))
    writer.clear("i", "a", 3)
    writer.commit()
    assert shown() == before


# -- summaries ------------------------------------------------------------------------------------------


def test_summary_line(store: Store, writer: Writer) -> None:
    """A line has all that counting one's unread needs, and the newest message that can be shown."""
    writer.conversation(GROUP, "a", "b")
    writer.send(GROUP, "a", "zero")
    writer.commit()
    row = writer.row(GROUP, folded_through=1)
    mine = writer.send(GROUP, "a", "one")
    last = writer.send(GROUP, "b", "two", counts=1)
    writer.send(GROUP, "b", "three")
    writer.recall(GROUP, 4, "b")
    mark = writer.mark(GROUP, "a", (1, 2))
    writer.commit()
    ((line,), cursor) = store.summaries(APP, "a", "", 10)
    assert cursor == ""
    assert (line.row, line.head, line.member.user, line.mark) == (row, 4, "a", mark)
    assert line.unfolded == [mine._replace(body="")]
    assert (line.recalled, line.uncounted) == ((4, 5), (3, 4))
    assert line.last == last
    ((other,), _) = store.summaries(APP, "b", "", 10)
    assert other.mark is None
    assert seqs(other.unfolded) == [3, 4]


def test_summaries_by_latest_message(store: Store, writer: Writer) -> None:
    """The conversation with the latest message comes first, recalled or not; then those without messages."""
    for name in ("w", "x", "y", "z"):
        writer.conversation(name, "a")
    for name in ("x", "w", "z", "x"):
        writer.send(name, "a")
        writer.commit()
    assert summary_pages(store, "a", 10) == [["x", "z", "w", "y"]]
    writer.recall("x", 2, "a")
    writer.commit()
    assert summary_pages(store, "a", 10) == [["x", "z", "w", "y"]]
    assert summary_pages(store, "a", 1) == [["x"], ["z"], ["w"], ["y"]]
    assert summary_pages(store, "a", 2) == [["x", "z"], ["w", "y"]]
    assert summary_pages(store, "a", 3) == [["x", "z", "w"], ["y"]]


def test_summaries_are_of_current_conversations(store: Store, writer: Writer) -> None:
    """Conversations that were left are not listed, and those come back that were joined again."""
    for name in ("x", "y", "z"):
        writer.conversation(name, "a", "b")
        writer.send(name, "a")
    writer.commit()
    writer.leave("y", "b")
    writer.leave("z", "b")
    writer.commit()
    writer.join("z", "b")
    writer.commit()
    assert summary_pages(store, "b", 1) == [["z"], ["x"]]
    assert summary_pages(store, "a", 10) == [["z", "y", "x"]]
    assert summary_pages(store, "c", 10) == [[]]


def test_summary_without_messages(store: Store, writer: Writer) -> None:
    """A conversation whose messages have expired keeps its head and has no last message."""
    key = writer.conversation("x", "a")
    writer.send("x", "a")
    writer.commit()
    writer.batch.expired_messages.append((key, 1))
    writer.row("x", expired_through=1)
    writer.commit()
    ((line,), _) = store.summaries(APP, "a", "", 10)
    assert (line.head, line.last, line.unfolded) == (1, None, [])


def test_newest() -> None:
    """The highest seqs of some ranges, over their holes."""
    ranges = (1, 4, 9, 10, 20, 23)
    assert [newest(ranges, limit) for limit in (0, 2, 3, 4, 6, 99)] == [
        (),
        (21, 23),
        (20, 23),
        (9, 10, 20, 23),
        (2, 4, 9, 10, 20, 23),
        ranges,
    ]
