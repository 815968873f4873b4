"""What every store promises, asked of each of them."""

from __future__ import annotations

import pytest

from receipts.core.errors import LocalProtocolError
from receipts.storage.base import (
    RECENT,
    SCANNED_MAX,
    Batch,
    InstallRow,
    MetaRow,
    Owed,
    ResumePage,
    Sent,
    Start,
    Store,
    StoreLocked,
    UserRows,
)
from tests.storage.writer import APP, KEPT_MS, MINUTE_MS, START_MS, Writer, bare, every_answer, open_store

GROUP = "g"


def group(writer: Writer, *users: str) -> int:
    """A committed group; returns its key."""
    key = writer.conversation(GROUP, *(users or ("a", "b", "c")))
    writer.commit()
    return key


# -- life -----------------------------------------------------------------------------------------------


def test_new_store_begins_with_the_counters_it_was_given(store: Store) -> None:
    """A new store takes life, secret and time from who opens it, and begins to count at 0."""
    store.close()
    assert open_store(store) == MetaRow("life-1", 0, 0, 0, 0, START_MS, b"secret")


def test_counters_are_those_of_the_last_commit(store: Store, writer: Writer) -> None:
    """On opening again the counters are those of the last commit, whatever the opener offers."""
    writer.conversation(GROUP, "a")
    writer.send(GROUP, "a")
    writer.commit()
    store.close()
    assert store.open(now_ms=1, life="other", secret=b"other") == writer.meta


def test_new_life_is_kept(store: Store) -> None:
    """A new life changes the life and nothing else, and lasts."""
    store.new_life("life-2")
    store.close()
    assert open_store(store) == MetaRow("life-2", 0, 0, 0, 0, START_MS, b"secret")


def test_close_can_be_repeated(store: Store) -> None:
    """Closing twice is closing once."""
    store.close()
    store.close()


def test_open_store_is_locked(store: Store) -> None:
    """A store that is open cannot be opened, and stays usable."""
    with pytest.raises(StoreLocked):
        open_store(store)
    assert store.apps() == []


def test_closed_store_refuses_to_commit(store: Store, writer: Writer) -> None:
    """What is closed takes nothing."""
    store.close()
    with pytest.raises(LocalProtocolError, match="not open"):
        writer.commit()


def test_every_answer_is_the_same_after_opening_again(store: Store, writer: Writer) -> None:
    """Nothing that was committed is lost by closing, and no answer changes."""
    tell_a_story(writer)
    before = dict(every_answer(store, writer))
    store.close()
    open_store(store)
    assert dict(every_answer(store, writer)) == before


def tell_a_story(writer: Writer) -> None:
    """Some of everything."""
    writer.configure(APP, "{}")
    for user in "abc":
        writer.user(user)
        writer.device(user, "phone")
    install = writer.install("a", "i").key
    writer.conversation("a~b", "a", "b")
    writer.conversation(GROUP, "a", "b", "c")
    writer.commit()
    for body in ("one", b"two", "", "four"):
        writer.send("a~b", "a", body, install=install)
        writer.mark("a~b", "b", (1, writer.heads["a~b"] + 1))
        writer.commit()
    ask = writer.ask(GROUP, "a")
    writer.send(GROUP, "b", "silent", counts=1)
    writer.commit()
    writer.answer(ask, "b", "yes")
    writer.recall("a~b", 2, "a")
    writer.leave(GROUP, "c")
    writer.commit()
    writer.send(GROUP, "b", "late")
    writer.commit()


# -- rows -----------------------------------------------------------------------------------------------


def test_empty_store_knows_nothing(store: Store) -> None:
    """Every question has an answer before anything was written."""
    assert store.apps() == []
    assert store.users(APP, "", 10) == []
    assert store.user(APP, "a") is None
    assert store.install(APP, "a", "i") is None
    assert store.sent(1, 1) is None
    assert store.conversation(APP, "a~b") is None
    assert store.conversations_of(APP, "a") == []
    assert store.all_conversations(0, 10) == []
    assert store.messages(1, [1]) == []
    assert store.authored(1, "a", 1, 10) == ()
    assert store.head_at(1, 10) == 0
    assert store.asked_between(1, 0) == 0
    assert store.due_receipts(START_MS, 10) == []
    assert store.next_due_receipt(0) is None
    assert store.due_messages(APP, START_MS, 10) == []
    assert store.history(1, (1, 10), 10) == []
    page = store.resume(APP, "a", since=-1, cursor="", bytes_max=10, snapshot_messages=10)
    assert page == ([], 0, "")
    assert store.summaries(APP, "a", "", 10) == ([], "")
    assert store.statistics(APP, "a", 0) == []


def test_accounts(store: Store, writer: Writer) -> None:
    """An account comes back whole, with the devices it ever had, and true is true, not 1."""
    user = writer.user("a", share_read=True, removed=False)
    phone = writer.device("a", "phone")
    writer.device("a", "laptop")
    laptop = writer.device("a", "laptop", removed=True)
    writer.commit()
    found = store.user(APP, "a")
    assert found == UserRows(user, [laptop, phone])
    assert found is not None
    assert found.user.share_read is True
    assert found.user.removed is False
    assert found.devices[0].removed is True


def test_account_row_is_replaced(store: Store, writer: Writer) -> None:
    """The later row of an account stands."""
    writer.user("a")
    writer.commit()
    later = writer.user("a", password_hash="new", token_epoch=3, removed=True)
    writer.commit()
    assert store.user(APP, "a") == UserRows(later, [])


def test_users_come_by_name_in_pages(store: Store, writer: Writer) -> None:
    """Accounts of one app, by name, after one."""
    rows = {name: writer.user(name) for name in ("b", "a", "c", "é", "a.b")}
    writer.user("aa", app="other")
    writer.commit()
    names = [row.user for row in store.users(APP, "", 10)]
    assert names == ["a", "a.b", "b", "c", "é"]
    assert store.users(APP, "a", 2) == [rows["a.b"], rows["b"]]


def test_apps_do_not_meet(store: Store) -> None:
    """The same names in two apps are different rows everywhere."""
    one, two = Writer(store, app="one"), Writer(store, app="two")
    one.user("a")
    one.conversation("a~b", "a", "b")
    one.send("a~b", "a", "hello")
    one.commit()
    two.meta = one.meta
    two._begin()
    two.user("a", password_hash="two")
    two.conversation("a~b", "a", "b")
    two.commit()
    for app, head in (("one", 1), ("two", 0)):
        found = store.conversation(app, "a~b")
        assert found is not None
        assert found.head == head
        assert found.row.app == app
        assert [row.user for row in store.users(app, "", 10)] == ["a"]
        assert store.conversations_of(app, "a") == ["a~b"]
        assert len(store.due_messages(app, one.now_ms, 10)) == head
    assert store.conversation("three", "a~b") is None
    assert store.all_conversations(0, 10) == [(1, "one", "a~b"), (2, "two", "a~b")]


def test_settings_of_apps(store: Store, writer: Writer) -> None:
    """Every app that was ever configured is there, with its latest settings."""
    writer.configure("b", "{}")
    writer.configure("a", "{}")
    writer.commit()
    writer.configure("b", '{"limits": {}}')
    writer.commit()
    assert store.apps() == [("a", "{}"), ("b", '{"limits": {}}')]


def test_conversation_is_loaded_whole(store: Store, writer: Writer) -> None:
    """All that judging needs, in a fixed order, and no bodies."""
    key = writer.conversation(GROUP, "b", "a")
    sent = [writer.send(GROUP, "a", "one"), writer.send(GROUP, "b", b"two", counts=2)]
    mark = writer.mark(GROUP, "b", (1, 3))
    writer.commit()
    ask = writer.ask(GROUP, "a")
    third = writer.batch.messages[-1]
    answer = writer.answer(ask, "b", "ok")
    row = writer.row(GROUP, folded_through=1)
    writer.commit()
    found = store.conversation(APP, GROUP)
    assert found is not None
    assert found.row == row
    assert found.head == 3
    assert [member.user for member in found.members] == ["a", "b"]
    assert found.marks == [mark]
    assert found.unfolded == [bare(sent[1]), bare(third)]
    assert found.recent == [bare(sent[0]), bare(sent[1]), bare(third)]
    assert found.recent[2].asks is True
    assert (found.recalled, found.uncounted) == ((), (2, 3))
    assert found.asks == [ask._replace(tick=2)]
    assert found.receipts == [answer]
    assert key == 1


def test_recent_messages_are_the_newest(store: Store, writer: Writer) -> None:
    """Of a long conversation the newest few stay at hand, rising."""
    writer.conversation(GROUP, "a")
    rows = [bare(writer.send(GROUP, "a")) for _ in range(RECENT + 6)]
    writer.row(GROUP, folded_through=RECENT)
    writer.commit()
    found = store.conversation(APP, GROUP)
    assert found is not None
    assert found.recent == rows[6:]
    assert found.unfolded == rows[RECENT:]


def test_rows_of_conversations_are_replaced(store: Store, writer: Writer) -> None:
    """Of conversation, member, mark, ask and receipt the later row stands, also inside one batch."""
    writer.conversation(GROUP, "a", "b")
    ask = writer.ask(GROUP, "a")
    writer.answer(ask, "b", "first")
    writer.mark(GROUP, "b", (1, 2))
    writer.commit()
    writer.row(GROUP, folded_through=0)
    row = writer.row(GROUP, folded_through=1, registers=b"\x80")
    writer.mark(GROUP, "b", (1, 3))
    mark = writer.mark(GROUP, "b", (1, 4))
    member = writer.leave(GROUP, "b")
    answer = writer.answer(ask, "b", "second")
    tick = writer.commit()
    found = store.conversation(APP, GROUP)
    assert found is not None
    assert found.row == row
    assert found.marks == [mark]
    assert found.members[1] == member
    assert found.asks == [ask._replace(tick=tick)]
    assert found.receipts == [answer]


def test_conversations_of_a_user_by_key(store: Store, writer: Writer) -> None:
    """All conversations that a user was ever in, the oldest first, those that were left included."""
    writer.conversation("z", "a", "b")
    writer.conversation("a~b", "a", "b")
    writer.conversation(GROUP, "b")
    writer.commit()
    writer.leave("z", "a")
    writer.commit()
    assert store.conversations_of(APP, "a") == ["z", "a~b"]
    assert store.conversations_of(APP, "nobody") == []
    assert store.all_conversations(1, 1) == [(2, APP, "a~b")]


# -- messages -------------------------------------------------------------------------------------------


def test_groups_of_an_app_in_stretches(store: Store, writer: Writer) -> None:
    """Groups come by id, of one app, without conversations of two; a full stretch says where it ended."""
    other = Writer(store, app="other")
    other.conversation("of-another-app", "a")
    other.commit()
    writer.meta = other.meta
    writer._begin()
    assert store.groups(APP, "") == ([], "")
    names = [f"g{number:04}" for number in range(SCANNED_MAX // 2)]
    for number, name in enumerate(names):
        writer.conversation(name, "a")
        writer.conversation(f"a~u{number}", "a", f"u{number}")
    writer.conversation("z", "a")
    writer.commit()
    found, end = store.groups(APP, "")
    assert end == names[-1]
    assert [row.conversation for row in found] == names
    rest, end = store.groups(APP, end)
    assert ([row.conversation for row in rest], end) == (["z"], "")


@pytest.mark.parametrize("body", ["", "text", "ünïcödé \N{GRINNING FACE}", b"", b"\x00\xff", "x" * 300_000])
def test_body_keeps_its_type(store: Store, writer: Writer, body: str | bytes) -> None:
    """Text comes back as text, bytes as bytes, of any length."""
    key = group(writer)
    row = writer.send(GROUP, "a", body)
    writer.commit()
    found = store.history(key, (1, 2), 1)
    assert found == [row]
    assert type(found[0].body) is type(body)


def test_history_is_the_newest_within_ranges(store: Store, writer: Writer) -> None:
    """The newest messages inside the ranges, rising; what is outside them is not there."""
    key = group(writer)
    rows = [writer.send(GROUP, "a", str(n)) for n in range(10)]
    writer.commit()
    assert store.history(key, (1, 11), 3) == rows[7:]
    assert store.history(key, (2, 4, 8, 10), 3) == [rows[2], rows[7], rows[8]]
    assert store.history(key, (2, 4, 8, 10), 10) == [rows[1], rows[2], rows[7], rows[8]]
    assert store.history(key, (5, 50), 0) == []
    assert store.history(key, (), 10) == []


def test_messages_by_seq(store: Store, writer: Writer) -> None:
    """Named messages come rising and once each, without bodies; unknown ones are left out."""
    key = group(writer)
    rows = [bare(writer.send(GROUP, "a")) for _ in range(3)]
    writer.commit()
    assert store.messages(key, [3, 1, 9, 3]) == [rows[0], rows[2]]


def test_recall_takes_the_body(store: Store, writer: Writer) -> None:
    """A recalled message keeps its place, author and number, and has no body."""
    key = group(writer)
    row = writer.send(GROUP, "a", "secret words", counts=1)
    writer.send(GROUP, "a", "secret words too")
    writer.commit()
    writer.recall(GROUP, 1, "b")
    tick = writer.commit()
    at_ms = writer.meta.node_time_ms
    gone = row._replace(body="", recalled_tick=tick, recalled_by="b", recalled_ms=at_ms)
    assert store.history(key, (1, 2), 10) == [gone]
    found = store.conversation(APP, GROUP)
    assert found is not None
    assert found.recalled == (1, 2)
    assert found.uncounted == (1, 2)


def test_what_was_loaded_before_a_recall_is_not_what_is_loaded_after_it(store: Store, writer: Writer) -> None:
    """A message that a conversation was loaded with comes as recalled when that is loaded again."""
    group(writer)
    writer.send(GROUP, "a", "secret words")
    writer.commit()
    before = store.conversation(APP, GROUP)
    writer.recall(GROUP, 1, "b")
    tick = writer.commit()
    after = store.conversation(APP, GROUP)
    assert before is not None
    assert after is not None
    for rows in (before.recent, before.unfolded):
        assert [(row.body, row.recalled_tick, row.recalled_by) for row in rows] == [("", 0, "")]
    for rows in (after.recent, after.unfolded):
        assert [(row.body, row.recalled_tick, row.recalled_by) for row in rows] == [("", tick, "b")]


def test_recall_in_the_same_batch(store: Store, writer: Writer) -> None:
    """A message may be accepted and recalled in one commit."""
    key = group(writer)
    writer.send(GROUP, "a", "oops")
    writer.recall(GROUP, 1, "a")
    tick = writer.commit()
    (found,) = store.history(key, (1, 2), 10)
    assert (found.body, found.recalled_tick, found.tick) == ("", tick, tick)


def test_recall_of_an_unknown_message_is_nothing(store: Store, writer: Writer) -> None:
    """There is nothing to take from a message that is not there."""
    key = group(writer)
    writer.recall(GROUP, 5, "a")
    writer.commit()
    assert store.history(key, (1, 9), 10) == []


def test_authored(store: Store, writer: Writer) -> None:
    """Which messages of a stretch somebody wrote."""
    key = group(writer)
    for author in "aabbaab":
        writer.send(GROUP, author)
    writer.commit()
    assert store.authored(key, "a", 1, 8) == (1, 3, 5, 7)
    assert store.authored(key, "a", 2, 6) == (2, 3, 5, 6)
    assert store.authored(key, "c", 1, 8) == ()


def test_head_at_a_tick(store: Store, writer: Writer) -> None:
    """The highest seq that had been accepted by a tick, for every tick."""
    key = group(writer)
    heads = {writer.meta.tick: 0, 0: 0}
    for count in (1, 3, 0, 2, 40, 1):
        for _ in range(count):
            writer.send(GROUP, "a")
        heads[writer.commit()] = writer.heads[GROUP]
    heads[writer.meta.tick + 1] = writer.heads[GROUP]
    assert {tick: store.head_at(key, tick) for tick in heads} == heads


def test_sends_are_found_again(store: Store, writer: Writer) -> None:
    """What became of a send is known by install and number; the highest number comes with the install."""
    install = writer.install("a", "i")
    other = writer.install("b", "i")
    writer.conversation(GROUP, "a", "b")
    first = writer.send(GROUP, "a", install=install.key)
    writer.send(GROUP, "b")
    writer.commit()
    assert store.install(APP, "a", "i") == (install, 1)
    assert store.install(APP, "b", "i") == (other, 0)
    assert store.install(APP, "a", "j") is None
    assert store.sent(install.key, 1) == Sent(APP, GROUP, 1, first.message_id, first.at_ms, 1)
    assert store.sent(install.key, 2) is None
    assert store.sent(other.key, 1) is None
    assert store.sent(0, 0) is None


def test_recalled_send_is_still_known(store: Store, writer: Writer) -> None:
    """A repeat of a send is answered as the first time, even when it was recalled meanwhile."""
    install = writer.install("a", "i")
    writer.conversation(GROUP, "a")
    writer.send(GROUP, "a", install=install.key)
    writer.recall(GROUP, 1, "a")
    writer.commit()
    sent = store.sent(install.key, 1)
    assert sent is not None
    assert sent.seq == 1


# -- all or nothing -------------------------------------------------------------------------------------


def test_number_cannot_be_used_twice(store: Store, writer: Writer) -> None:
    """Two messages under one number are refused, and nothing of the batch is there."""
    install = writer.install("a", "i")
    key = writer.conversation(GROUP, "a")
    writer.send(GROUP, "a", install=install.key)
    writer.commit()
    before = dict(every_answer(store, writer))
    writer.mark(GROUP, "a", (1, 2))
    writer.user("b")
    writer.send(GROUP, "a", "again", install=install.key, number=1)
    with pytest.raises(LocalProtocolError):
        store.commit(writer.batch)
    assert dict(every_answer(store, writer)) == before
    assert store.head_at(key, 100) == 1


def test_number_cannot_be_used_twice_in_one_batch(store: Store, writer: Writer) -> None:
    """The same, when both come at once."""
    install = writer.install("a", "i")
    key = writer.conversation(GROUP, "a")
    writer.send(GROUP, "a", install=install.key)
    writer.send(GROUP, "a", install=install.key, number=1)
    with pytest.raises(LocalProtocolError):
        writer.commit()
    assert store.head_at(key, 100) == 0


@pytest.mark.parametrize("at_once", [False, True])
def test_message_is_never_replaced(store: Store, writer: Writer, at_once: bool) -> None:
    """A second message in the place of a first is refused: it would be a lost message."""
    key = writer.conversation(GROUP, "a")
    first = writer.send(GROUP, "a", "first")
    if not at_once:
        writer.commit()
    writer.send(GROUP, "a", "second", seq=1)
    with pytest.raises(LocalProtocolError):
        store.commit(writer.batch)
    assert store.history(key, (1, 9), 10) == ([] if at_once else [first])


def test_names_are_unique(store: Store, writer: Writer) -> None:
    """A conversation or an install under a second key is refused."""
    writer.install("a", "i")
    writer.conversation(GROUP, "a")
    writer.commit()
    for wrong in (
        Batch(writer.batch.meta, installs=[InstallRow(9, APP, "a", "i")]),
        Batch(writer.batch.meta, conversations=[writer.row(GROUP, key=9)]),
    ):
        with pytest.raises(LocalProtocolError):
            store.commit(wrong)
    assert store.install(APP, "a", "i") == (InstallRow(1, APP, "a", "i"), 0)
    assert store.all_conversations(0, 9) == [(2, APP, GROUP)]


def test_refused_batch_leaves_the_store_usable(store: Store, writer: Writer) -> None:
    """After a refusal the next batch is taken."""
    key = writer.conversation(GROUP, "a")
    writer.send(GROUP, "a")
    writer.commit()
    with pytest.raises(LocalProtocolError):
        store.commit(Batch(writer.batch.meta, messages=[writer.send(GROUP, "a", seq=1)]))
    writer.batch.messages.clear()
    writer.send(GROUP, "a", seq=2)
    writer.commit()
    assert store.head_at(key, 100) == 2


def test_empty_batch_moves_the_counters(store: Store, writer: Writer) -> None:
    """A batch without rows is a commit like any other."""
    writer.commit()
    page = store.resume(APP, "a", since=0, cursor="", bytes_max=1, snapshot_messages=1)
    assert page.tick == writer.meta.tick == 1


# -- group receipts -------------------------------------------------------------------------------------


def test_asked_between(store: Store, writer: Writer) -> None:
    """How many asked since a time, that time included."""
    key = group(writer)
    times = []
    for asks in (True, False, True, True):
        times.append(writer.now_ms)
        (writer.ask if asks else writer.send)(GROUP, "a")
        writer.commit()
    assert [store.asked_between(key, at_ms) for at_ms in times] == [3, 2, 2, 1]
    assert store.asked_between(key, times[0] - 1) == 3
    assert store.asked_between(key, times[0] + 1) == 2
    assert store.asked_between(key, times[3] + 1) == 0


def test_due_receipts(store: Store, writer: Writer) -> None:
    """Receipts are due at their time, by conversation, the one that waits longest first."""
    writer.conversation(GROUP, "a")
    writer.conversation("h", "a")
    first = writer.ask("h", "a")
    writer.commit()
    writer.ask(GROUP, "a")
    second = writer.ask("h", "a")
    writer.commit()
    assert store.due_receipts(first.expires_ms - 1, 10) == []
    assert store.due_receipts(first.expires_ms, 10) == [(APP, "h", 1)]
    assert store.due_receipts(second.expires_ms, 10) == [(APP, "h", 2), (APP, GROUP, 1)]
    assert store.due_receipts(second.expires_ms, 1) == [(APP, "h", 2)]
    assert store.next_due_receipt(0) == first.expires_ms
    assert store.next_due_receipt(first.expires_ms) == second.expires_ms == first.expires_ms + MINUTE_MS
    assert store.next_due_receipt(second.expires_ms) is None


def test_expiry_moves_with_its_row(store: Store, writer: Writer) -> None:
    """An ask whose expiry was changed is due at the new time only."""
    writer.conversation(GROUP, "a")
    ask = writer.ask(GROUP, "a")
    writer.commit()
    writer.batch.asks.append(ask._replace(expires_ms=ask.expires_ms + KEPT_MS))
    writer.commit()
    assert store.due_receipts(ask.expires_ms, 9) == []
    assert store.next_due_receipt(0) == ask.expires_ms + KEPT_MS


def test_expired_receipts_are_gone(store: Store, writer: Writer) -> None:
    """Asks and answers up to and including a message go; its text and later asks stay."""
    key = group(writer)
    asks = [writer.ask(GROUP, "a") for _ in range(3)]
    for ask in asks:
        writer.answer(ask, "b")
    writer.commit()
    writer.batch.expired_receipts.append((key, 2))
    writer.commit()
    found = store.conversation(APP, GROUP)
    assert found is not None
    assert [ask.seq for ask in found.asks] == [3]
    assert [receipt.seq for receipt in found.receipts] == [3]
    assert len(store.history(key, (1, 9), 9)) == 3
    assert store.statistics(APP, "a", 0) == [(GROUP, 3, 1, 6)]
    assert store.next_due_receipt(0) == asks[2].expires_ms


def test_statistics(store: Store, writer: Writer) -> None:
    """An author is told of messages that were answered after a tick, with all who answered."""
    group(writer)
    asks = [writer.ask(GROUP, "a"), writer.ask(GROUP, "a"), writer.ask(GROUP, "b")]
    before = writer.commit()
    writer.answer(asks[0], "b")
    writer.answer(asks[2], "a")
    first = writer.commit()
    assert store.statistics(APP, "a", before) == [(GROUP, 1, 1, 2)]
    writer.answer(asks[0], "c")
    writer.commit()
    assert store.statistics(APP, "a", first) == [(GROUP, 1, 2, 2)]
    assert store.statistics(APP, "a", writer.meta.tick) == []
    assert store.statistics(APP, "b", before) == [(GROUP, 3, 1, 6)]
    assert store.statistics("other", "a", 0) == []


# -- retention ------------------------------------------------------------------------------------------


def test_due_messages(store: Store, writer: Writer) -> None:
    """Conversations with messages from before a time, each with the newest such message."""
    writer.conversation("g", "a")
    writer.conversation("h", "a")
    writer.conversation("i", "a")
    times = []
    for names in ("g", "gh", "h", "g"):
        times.append(writer.now_ms)
        for name in names:
            writer.send(name, "a")
        writer.commit()
    due = [store.due_messages(APP, at_ms, 10) for at_ms in [*times, times[3] + 1]]
    assert due == [
        [],
        [(APP, "g", 1)],
        [(APP, "g", 2), (APP, "h", 1)],
        [(APP, "g", 2), (APP, "h", 2)],
        [(APP, "g", 3), (APP, "h", 2)],
    ]
    assert store.due_messages(APP, times[3], 1) == [(APP, "g", 2)]
    assert store.due_messages("other", times[3], 10) == []


def test_expired_messages_are_gone(store: Store, writer: Writer) -> None:
    """Messages up to and including one go with their receipts; the head stays where it was."""
    key = group(writer)
    writer.send(GROUP, "a", counts=1)
    ask = writer.ask(GROUP, "a")
    writer.answer(ask, "b")
    last = writer.send(GROUP, "a")
    writer.recall(GROUP, 1, "a")
    writer.commit()
    writer.batch.expired_messages.append((key, 2))
    writer.row(GROUP, expired_through=2)
    writer.commit()
    assert store.history(key, (1, 9), 9) == [last]
    found = store.conversation(APP, GROUP)
    assert found is not None
    assert (found.head, found.recalled, found.uncounted, found.asks, found.receipts) == (3, (), (), [], [])
    writer.batch.expired_messages.append((key, 3))
    writer.row(GROUP, expired_through=3)
    writer.commit()
    found = store.conversation(APP, GROUP)
    assert found is not None
    assert (found.head, found.recent, found.unfolded) == (3, [], [])
    assert store.due_messages(APP, writer.now_ms, 9) == []
    assert store.head_at(key, 100) == 0


def test_numbers_outlive_their_messages(store: Store, writer: Writer) -> None:
    """When a message expires, its number stays used: a send from long ago is not taken for a new one."""
    install = writer.install("a", "i")
    key = writer.conversation(GROUP, "a")
    for _ in range(3):
        writer.send(GROUP, "a", install=install.key)
    writer.commit()
    for through in (2, 3):
        writer.batch.expired_messages.append((key, through))
        writer.row(GROUP, expired_through=through)
        writer.commit()
        assert store.install(APP, "a", "i") == (install, 3)
        assert store.sent(install.key, 2) is None
    store.close()
    open_store(store)
    assert store.install(APP, "a", "i") == (install, 3)


def test_expiry_touches_one_conversation(store: Store, writer: Writer) -> None:
    """Other conversations keep what they have."""
    key = writer.conversation("g", "a")
    writer.conversation("h", "a")
    writer.ask("g", "a")
    writer.ask("h", "a")
    writer.commit()
    writer.batch.expired_messages.append((key, 9))
    writer.commit()
    found = store.conversation(APP, "h")
    assert found is not None
    assert (found.head, len(found.asks), len(found.recent)) == (1, 1, 1)


# -- devices that keep nothing themselves ---------------------------------------------------------------

DIRECT = "a~b"


def owed(
    store: Store, device: str = "tv", *, start: Start = Start.KNOWN, since: int = 0, known_tick: int = 10**6
) -> tuple[list[int], Owed]:
    """Messages and receipts that wait for a device of a's in the one conversation that there is."""
    page = store.resume(
        APP,
        "a",
        since=since,
        cursor="",
        bytes_max=10**6,
        snapshot_messages=1,
        device=device,
        start=start,
        known_tick=known_tick,
    )
    (item,) = page.items
    assert item.owed is not None
    return [row.seq for row in item.messages], item.owed


def test_queues_and_what_was_told(store: Store, writer: Writer) -> None:
    """Both are found by their device, and whether the user has others of its kind."""
    writer.conversation(DIRECT, "a", "b")
    assert store.queue(APP, "a", "tv") == (None, False)
    queue, told = writer.tell(DIRECT, "a", "tv", 3)
    writer.commit()
    assert store.queue(APP, "a", "tv") == (queue, False)
    assert store.queue(APP, "a", "car") == (None, True)
    assert store.queue(APP, "b", "tv") == (None, False)
    key = writer.keys[DIRECT]
    assert store.told(key, "a", "tv") == told
    assert store.told(key, "a", "car") is None
    later, again = writer.tell(DIRECT, "a", "tv", 4)
    writer.commit()
    assert store.queue(APP, "a", "tv") == (later, False)
    assert store.told(key, "a", "tv") == again


def test_messages_are_found_by_their_ids(store: Store, writer: Writer) -> None:
    """In their conversation alone; 0 for an id in between, of another conversation, or of nothing."""
    key = writer.conversation(DIRECT, "a", "b")
    other = writer.conversation("g", "a")
    rows = [writer.send(DIRECT, "a") for _ in range(9)]
    apart = writer.send("g", "a")
    rows.append(writer.send(DIRECT, "b"))
    writer.commit()
    assert [store.seq_of(key, row.message_id) for row in rows] == list(range(1, 11))
    assert store.seq_of(other, apart.message_id) == 1
    for unknown in (0, 1, rows[3].message_id + 1, apart.message_id, rows[-1].message_id + 2):
        assert store.seq_of(key, unknown) == 0
    writer.batch.expired_messages.append((key, 4))
    writer.commit()
    assert [store.seq_of(key, row.message_id) for row in rows[2:6]] == [0, 0, 5, 6]


def test_a_known_device_is_owed_what_it_does_not_hold(store: Store, writer: Writer) -> None:
    """Messages that it has not, and what was read or delivered and not told, with the own messages."""
    writer.conversation(DIRECT, "a", "b")
    for author in "aababa":
        writer.send(DIRECT, author)
    writer.mark(DIRECT, "b", (1, 5))
    writer.hold(DIRECT, "a", "tv", (1, 3))
    writer.tell(DIRECT, "a", "tv", 1)
    writer.commit()
    messages, found = owed(store)
    assert messages == [3, 4, 5, 6]
    assert (found.peer, found.read, found.delivered) == ("b", (2, 5), ())
    assert [row.seq for row in found.own] == [2, 4]
    assert not found.all_read
    assert found.seen_through == 0
    writer.mark(DIRECT, "b", (1, 7))
    writer.mark(DIRECT, "a", (1, 7))
    writer.commit()
    found = owed(store)[1]
    assert found.all_read
    assert found.seen_through == 5


def test_a_new_device_is_owed_what_no_other_has(store: Store, writer: Writer) -> None:
    """The first of its kind gets no receipts from before it."""
    writer.conversation(DIRECT, "a", "b")
    for author in "abbba":
        writer.send(DIRECT, author)
    writer.hold(DIRECT, "a", "tv", (2, 3))
    writer.mark(DIRECT, "b", (1, 2))
    writer.tell(DIRECT, "a", "tv", 0)
    writer.commit()
    messages, found = owed(store, "car", start=Start.ANOTHER)
    assert messages == [1, 3, 4, 5]
    assert found.read == (1, 2)
    messages, found = owed(store, "car", start=Start.FIRST)
    assert (found.read, found.delivered, found.settled) == ((), (), (1, 2))
    messages, found = owed(store, "car", start=Start.FIRST, known_tick=0)
    assert messages == [1, 2, 3, 4, 5]
    assert (found.read, found.settled) == ((1, 2), ())


def test_a_device_is_told_what_was_recalled_of_what_it_may_have(store: Store, writer: Writer) -> None:
    """Whether it acknowledged it or not; a new device only of what came since it is known."""
    key = writer.conversation(DIRECT, "a", "b")
    for _ in range(3):
        writer.send(DIRECT, "b")
    writer.hold(DIRECT, "a", "tv", (1, 2))
    since = writer.commit()
    for seq in (1, 3):
        writer.batch.recalls.append((key, seq, writer.tick, "b", 5))
    writer.commit()
    found = owed(store, since=since)[1]
    assert [(row.seq, row.recalled_by) for row in found.recalled] == [(1, "b"), (3, "b")]
    new = owed(store, "car", since=since, start=Start.ANOTHER)[1]
    assert new.recalled == []


def test_what_a_device_is_owed_comes_even_if_no_messages_are_left(store: Store, writer: Writer) -> None:
    """What was to come on the next page may have arrived meanwhile by itself: receipts and recalls still come
    with the end of the conversation, and a recall of that time with the next pass alone."""
    key = writer.conversation(DIRECT, "a", "b")
    for _ in range(3):
        writer.send(DIRECT, "b")
    writer.batch.recalls.append((key, 1, writer.tick, "b", 5))
    since = writer.commit()

    def page(since: int, cursor: str) -> ResumePage:
        return store.resume(
            APP, "a", since=since, cursor=cursor, bytes_max=1, snapshot_messages=1, device="tv"
        )

    first = page(0, "")
    assert first.cursor
    writer.hold(DIRECT, "a", "tv", (1, 4))
    writer.batch.recalls.append((key, 3, writer.tick, "b", 5))
    writer.commit()
    second = page(0, first.cursor)
    (item,) = second.items
    assert item.owed is not None
    assert ([row.seq for row in item.owed.recalled], second.cursor) == ([1], "")
    (item,) = page(since, "").items
    assert item.owed is not None
    assert [row.seq for row in item.owed.recalled] == [3]
