"""Invariants that only a whole node can break, each by its id (docs/invariants.md).

I-13 (cut and resumed, everything equals the model) and I-14 are in `test_model`, I-29 in `test_refusals`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
import msgpack
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from receipts.client.replica import Replica
from receipts.core.errors import Code
from receipts.core.events import Role
from receipts.core.ids import Counts
from receipts.core.policy import DAY_MS
from receipts.core.ranges import ranges_of
from receipts.core.status import Unknown
from receipts.storage.memory import MemoryStore
from receipts.wire import commands
from receipts.wire.updates import (
    Accepted,
    CatchUp,
    Delivered,
    GroupRead,
    Read,
    Rejected,
)
from tests.node.playbook import Device, Playbook

AB = "alice~bob"
NewBook = Callable[..., Playbook]


def group(new_book: NewBook, size: int, **settings: Any) -> tuple[Playbook, list[Device]]:
    """G with u0 as its owner; each member on a phone."""
    book = new_book(settings=json.dumps(settings))
    names = [f"u{number}" for number in range(size)]
    book.user(*names)
    book.group("G", *names)
    devices = [book.log_in(name, "phone") for name in names]
    return book, devices


def test_i_16_devices_of_a_user_agree(book: Playbook) -> None:
    """I-16: what one device did, marks and badges included, the other one shows, live or after an absence."""
    alice, phone, tablet = (
        book.log_in("alice", "phone"),
        book.log_in("bob", "phone"),
        book.log_in("bob", "tablet"),
    )
    away = book.log_in("bob", "away")
    live, late = Replica("bob", "tablet"), Replica("bob", "away")
    for page in tablet.pages:
        live.apply(page)
    for page in away.pages:
        late.apply(page)
    token = away.token
    away.lose()
    for _ in range(6):
        alice.send(AB)
    phone.ask(commands.ReadMessages(1, AB, (1, 3, 4, 5)))
    phone.ask(commands.MarkUnread(rid=1, conversation=AB, from_seq=5))
    phone.ask(commands.SetMuted(rid=1, conversation=AB, muted=True))
    phone.ask(commands.SetSharing(rid=1, read=False))
    phone.ask(commands.ReadConversation(1, AB, 5, True, 0))
    phone.send(AB)
    phone.ask(commands.ClearConversation(rid=1, conversation=AB, through=1))
    for update in tablet.told():
        live.apply(update)
    away = book.log_in("bob", "away", resume=token)
    for page in away.pages:
        late.apply(page)
    node = book.chat(AB)
    for replica in (live, late):
        mine = replica.member(AB)
        assert replica.unread_seqs(AB) == [5, 6]
        assert node.unread("bob") == 2
        assert mine.unread_mark == node.members["bob"].unread_mark
        assert mine.sharing == node.members["bob"].sharing
        assert mine.registers == node.members["bob"].registers
        assert mine.cleared_through == 1
        assert mine.read == node.members["bob"].read


def test_i_20_one_predicate(book: Playbook) -> None:
    """I-20: silent messages count nowhere, and muting changes where a badge shows, never what is unread."""
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    alice.send(AB)
    alice.send(AB, counts=Counts.SILENT)
    alice.send(AB)
    for muted in (False, True, False):
        bob.ask(commands.SetMuted(rid=1, conversation=AB, muted=muted))
        explained = bob.ask(commands.ExplainUnread(rid=1, conversation=AB))
        assert [seq for seq, _ in explained.messages] == [1, 3]
        (line,) = bob.ask(commands.ListConversations(rid=1)).items
        badge = bob.ask(commands.GetBadge(rid=1))
        assert (line.unread, line.muted) == (2, muted)
        assert (badge.messages, badge.muted_messages) == ((0, 2) if muted else (2, 0))


def test_i_21_frames_of_a_group_are_bounded(new_book: NewBook) -> None:
    """I-21: a message costs a frame a member, its receipts a frame a tick to the asker, however many read."""
    book, at = group(new_book, 30)
    frames = book.frames
    at[0].send("G", asks=True)
    assert book.frames - frames == 30  # the answer, and one to each other member
    frames = book.frames
    book.run(*((reader, commands.AckDelivered(0, "G", (1, 2))) for reader in at[1:]))
    assert book.frames == frames  # recorded, not pushed
    book.run(*((reader, commands.ReadMessages(0, "G", (1, 2), "ok")) for reader in at[1:]))
    assert book.frames - frames == 1
    (told,) = [update for update in at[0].told() if isinstance(update, GroupRead)]
    assert (told.count, len(told.readers)) == (29, 29)
    frames = book.frames
    book.run(*((reader, commands.ReadMessages(0, "G", (1, 2), "again")) for reader in at[1:]))
    book.run(*((reader, commands.ReadConversation(0, "G", 1)) for reader in at[1:]))
    book.run(*((reader, commands.AckDelivered(0, "G", (1, 2))) for reader in at))
    assert book.frames == frames  # no new information
    assert all(not isinstance(update, GroupRead) for reader in at[1:] for update in reader.told())


def test_i_21_a_reader_in_order_costs_one_row(book: Playbook) -> None:
    """I-21: a thousand messages read in order are one range of one row."""
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    for seq in range(1, 301):
        book.run(
            (alice, commands.SendMessage(0, AB, "x", seq)),
            (bob, commands.AckDelivered(0, AB, (seq, seq + 1))),
            (bob, commands.ReadMessages(0, AB, (seq, seq + 1))),
        )
    member = book.chat(AB).members["bob"]
    sets = (member.read, member.read_shared, member.delivered_shared, member.devices["phone"])
    assert [known.gaps for known in sets] == [1, 1, 1, 1]
    book.check_agreement()
    book.evict()
    tablet = book.log_in("bob", "tablet")
    bob.ask(commands.ClearConversation(rid=1, conversation=AB, through=299))
    assert tablet.ask(commands.ExplainUnread(rid=1, conversation=AB)).unread == 0
    row = book.store.conversation("default", AB)
    assert row is not None
    assert len(row.marks) <= 2


@pytest.mark.parametrize("messages", [1, 3, 4, 5, 40])
def test_i_22_nothing_is_cut_off_in_silence(new_book: NewBook, messages: int) -> None:
    """I-22: at, around and far above each cap all is given in pages, and each says if more follow."""
    limits = {"history_page_max": 4, "snapshot_messages": 10**6, "page_bytes_max": 60}
    book = new_book(settings=json.dumps({"limits": limits}))
    book.user("alice", "bob")
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    for _ in range(messages):
        alice.send(AB, "x" * 10)
    everything = list(range(1, messages + 1))
    found: list[int] = []
    more, before = True, 0
    while more:
        page = bob.ask(commands.FetchHistory(rid=1, conversation=AB, before=before, limit=4))
        found = [message.seq for message in page.messages] + found
        more, before = page.more, found[0]
        assert len(page.messages) <= 4
    assert found == everything
    found, more = [], True
    while more:
        after = found[-1] if found else 0
        part = bob.ask(commands.ExplainUnread(rid=1, conversation=AB, after=after, limit=4))
        found += [seq for seq, _ in part.messages]
        more = part.more
        assert part.unread == messages
    assert found == everything
    tablet = book.log_in("bob", "tablet")
    parts = [part for page in tablet.pages for part in page.parts]
    assert [message.seq for part in parts for message in part.messages] == everything
    assert [page.live for page in tablet.pages] == [False] * (len(tablet.pages) - 1) + [True]


def test_i_24_delivered_means_durable(new_book: NewBook) -> None:
    """I-24: whatever a sender was told survives the node, and after the crash both sides converge."""
    book = new_book()
    book.user("alice", "bob")
    for crash in range(7):
        alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
        alice.number = alice.welcome.number  # type: ignore[union-attr]
        seq = book.chat(AB).head + 1 if _there(book) else 1
        script: list[tuple[Device, Any]] = [
            (alice, alice.message(AB)),
            (bob, commands.AckDelivered(1, AB, (seq, seq + 1))),
            (bob, commands.ReadConversation(1, AB, seq)),
        ]
        for index, step in enumerate(script):
            book.hold = index >= crash % 4  # from some point on nothing gets to the disk any more
            book.run(step)
        heard = [*alice.told(), *bob.told()]
        book = book.crash()
        head = book.chat(AB).head if _there(book) else 0
        accepted = [update.seq for update in heard if isinstance(update, Accepted)]
        assert all(number <= head for number in accepted)
        if head:
            member = book.chat(AB).members["bob"]
            for update in heard:
                if isinstance(update, Delivered):
                    assert member.delivered_shared.missing(update.ranges) == ()
                if isinstance(update, Read):
                    assert member.read_shared.missing(update.ranges) == ()
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    bob.do(commands.ReadConversation(1, AB, 10**6))
    head = book.chat(AB).head
    assert {
        one.read for one in alice.ask(commands.GetStatus(rid=1, conversation=AB, seqs=(1, head))).items
    } == {True}


# -- I-25


def _named(told: list[Any]) -> list[Any]:
    """Updates without tokens, and with versions renamed by the order in which they are first seen."""
    names: dict[Any, int] = {}

    def rename(kind: str, item: Any) -> Any:
        return names.setdefault((kind, item), len(names)) if item else item

    def plain(item: Any, field: str = "") -> Any:
        if field == "token":
            return None  # the tick is the whole node's: it grows with whatever anybody does
        if field == "version":
            return rename("number", item)
        if attrs.has(type(item)):
            return [type(item).__name__] + [
                (one.name, plain(getattr(item, one.name), one.name)) for one in attrs.fields(type(item))
            ]
        if field == "periods":
            return [(rename("number", version), plain(period)) for version, period in item]
        if isinstance(item, tuple | list):
            return [plain(one) for one in item]
        return item

    return [plain(update) for update in told]


_seqs = st.sets(st.integers(1, 8), min_size=1, max_size=3).map(ranges_of)
_where = st.sampled_from((AB, "G"))
_public = st.one_of(
    st.tuples(st.just("send"), st.sampled_from(("alice", "bob")), _where),
    st.tuples(st.just("send"), st.just("alice"), _where),
    st.tuples(st.just("ack"), _where, _seqs),
    st.tuples(st.just("read"), _where, _seqs),
    st.tuples(st.just("through"), _where, st.integers(1, 8)),
    st.tuples(st.just("switch"), st.booleans(), st.booleans()),
    st.tuples(st.just("cut")),
)
_private = st.one_of(
    st.tuples(st.just("read privately"), _where, _seqs),
    st.tuples(st.just("through privately"), _where, st.integers(1, 8)),
    st.tuples(st.just("ack privately"), _where, _seqs),
    st.tuples(st.just("mark"), _where, st.integers(1, 8)),
    st.tuples(st.just("clear"), _where, st.integers(1, 8)),
    st.tuples(st.just("mute"), _where, st.booleans()),
)


def _alices_frames(story: list[tuple[Any, ...]]) -> list[Any]:
    book = Playbook(MemoryStore(), settings=json.dumps({"limits": {"page_bytes_max": 300}}))
    book.user("alice", "bob")
    book.group("G", "alice", "bob")
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    told: list[Any] = []
    for kind, *rest in story:
        if kind == "cut":
            told += alice.told()
            alice.lose()
            alice = book.log_in("alice", "phone", resume=alice.token)
            alice.number = alice.welcome.number  # type: ignore[union-attr]
            told += alice.pages
            continue
        actor = alice if kind == "send" and rest[0] == "alice" else bob
        command = _command(actor, kind, rest)
        book.run((actor, command))
    told += alice.told()
    head = {name: book.chat(name).head for name in (AB, "G") if name == "G" or _there(book)}
    for name, last in head.items():
        own = [
            n
            for n in range(1, last + 1)
            if book.hub.world.apps["default"].chats[name].recent[n].author == "alice"
        ]
        told.append(alice.ask(commands.GetStatus(rid=1, conversation=name, seqs=tuple(own[-20:]))))
        if name == "G":
            told += [alice.ask(commands.ListReaders(rid=1, conversation="G", seq=seq)) for seq in own]
    for resume in (alice.token, None):
        told += book.log_in("alice", "tablet", resume=resume).pages
    return _named(told)


def _there(book: Playbook) -> bool:
    return any(name == AB for _, _, name in book.store.all_conversations(0, 9))


def _command(actor: Device, kind: str, rest: list[Any]) -> Any:
    if kind == "send":
        return actor.message(rest[1], "x" * 50, asks=rest == ["alice", "G"])
    if kind == "switch":
        return commands.SetSharing(rid=1, read=rest[0], delivered=rest[1])
    share = "privately" not in kind
    where, what = rest
    if kind.startswith("ack"):
        return commands.AckDelivered(1, where, what, share)
    if kind.startswith("read"):
        return commands.ReadMessages(1, where, what, None, share)
    if kind.startswith("through"):
        return commands.ReadConversation(1, where, what, share)
    if kind == "mark":
        return commands.MarkUnread(rid=1, conversation=where, from_seq=what)
    if kind == "clear":
        return commands.ClearConversation(rid=1, conversation=where, through=what)
    return commands.SetMuted(rid=1, conversation=where, muted=what)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(_public, st.lists(_private, max_size=2)), max_size=20))
@example([(("send", "alice", AB), [("ack privately", AB, (1, 2))])])  # seen device by device
@example(  # seen by the own message in what was shared
    [
        (("send", "alice", AB), []),
        (("read", AB, (1, 2)), []),
        (("send", "bob", AB), []),
        (("send", "alice", AB), [("read privately", AB, (3, 4))]),
    ]
)
def test_i_25_private_reads_do_not_show(story: list[tuple[Any, list[Any]]]) -> None:
    """I-25: with and without what bob did in private alice gets the same frames, pages and answers."""
    without = [public for public, _ in story]
    with_them = [step for public, private in story for step in (public, *private)]
    assert _alices_frames(with_them) == _alices_frames(without)


# -- who is told


def test_i_26_no_receipt_for_receipts_own_messages_and_strangers(book: Playbook) -> None:
    """I-26: receipts make no receipts, own messages none, and who is not in a conversation none."""
    book.user("cara")
    alice, bob, cara = (
        book.log_in("alice", "phone"),
        book.log_in("bob", "phone"),
        book.log_in("cara", "phone"),
    )
    alice.send(AB)
    bob.told()
    frames = book.frames
    bob.do(commands.ReadConversation(1, AB, 1))
    assert book.frames - frames == 2  # the answer, and alice; nothing in return
    alice.told()
    alice.do(commands.AckDelivered(1, AB, (1, 2)))
    alice.do(commands.ReadConversation(1, AB, 1))
    (own,) = alice.do(commands.ReadMessages(1, AB, (1, 2)))
    assert own.code is Code.OWN_MESSAGE
    assert bob.told() == cara.told() == []
    for command in (commands.AckDelivered(1, AB, (1, 2)), commands.ReadMessages(1, AB, (1, 2))):
        cara.refused(command, Code.UNKNOWN_CONVERSATION)
    assert alice.told() == bob.told() == []
    assert "cara" not in book.chat(AB).members


def test_i_27_receipts_from_outside_change_nothing(new_book: NewBook) -> None:
    """I-27: of leavers, of newcomers for what was before them, of other conversations: state is untouched."""
    book, (owner, leaver, _other) = group(new_book, 3)
    book.user("late")
    late = book.log_in("late", "phone")
    owner.send("G", asks=True)
    leaver.ask(commands.RemoveMembers(rid=1, conversation="G", users=("u1",)))
    owner.ask(commands.AddMembers(rid=1, conversation="G", users=("late",)))
    owner.told()
    leaver.told()
    late.told()
    before = book.state()
    for command in (
        commands.ReadMessages(1, "G", (1, 2)),
        commands.ReadMessages(1, "G", (1, 2), "x"),
        commands.AckDelivered(1, "G", (1, 2)),
        commands.ReadConversation(1, "G", 1),
    ):
        leaver.refused(command, Code.NOT_A_MEMBER)
    late.refused(commands.ReadMessages(1, "G", (1, 2), "x"), Code.NOT_IN_AUDIENCE)
    assert book.state() == before
    assert owner.told() == []


def test_i_28_expired_is_unknown(new_book: NewBook) -> None:
    """I-28: when receipts have expired every answer about them says so, and none says 'not read'."""
    book, (owner, reader, _other) = group(new_book, 3)
    owner.send("G", asks=True)
    reader.ask(commands.ReadMessages(1, "G", (1, 2)))
    book.sweep(4 * DAY_MS)
    for _ in range(2):
        found = owner.ask(commands.ListReaders(rid=1, conversation="G", seq=1))
        assert (found.unknown, found.count, found.readers, found.waiting) == (Unknown.EXPIRED, 0, (), ())
        statuses = owner.ask(commands.GetStatus(rid=1, conversation="G", seqs=(1,))).items
        assert {one.read for one in statuses} == {Unknown.EXPIRED}
        assert {one.read_at_ms for one in statuses} == {None}
        book.evict()
    tablet = book.log_in("u0", "tablet")
    assert [part.receipts_expired_through for page in tablet.pages for part in page.parts] == [1]
    assert not any(part.asked for page in tablet.pages for part in page.parts)


def test_i_30_what_only_a_newer_node_knows_lowers_nothing(book: Playbook) -> None:
    """I-30: an unknown register in storage is left alone, and all else of the conversation is as before."""
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    alice.send(AB)
    bob.ask(commands.ReadConversation(1, AB, 1))
    found = book.store.conversation("default", AB)
    assert found is not None
    newer = found.row._replace(registers=msgpack.packb({"colour": [9, "red"]}))
    batch = book.hub.collect()
    batch.conversations.append(newer)
    book.store.commit(batch)
    book.hub.committed()
    book.evict()
    assert book.chat(AB).unread("bob") == 0
    (one,) = alice.ask(commands.GetStatus(rid=1, conversation=AB, seqs=(1,))).items
    assert one.read is True
    tablet = book.log_in("bob", "tablet")
    assert all(part.registers == () for page in tablet.pages for part in page.parts)


def test_every_command_at_its_extremes(book: Playbook) -> None:
    """No field of any command, however extreme, ends in anything but an answer."""
    book.group("G", "alice", "bob")
    huge = 2**62
    extremes: dict[str, list[Any]] = {
        "conversation": [AB, "G", "", "~", "alice~", "x" * 140, "alice~zoe"],
        "seq": [0, 1, huge],
        "from_seq": [None, 0, 1, huge],
        "through": [0, 1, huge],
        "after": [0, huge],
        "before": [0, 1, huge],
        "limit": [0, 1, huge],
        "ranges": [(1, 2), (1, huge), (huge - 1, huge)],
        "seqs": [(), (0,), (1, 1), (huge,)],
        "users": [(), ("zoe",), ("bob", "bob")],
        "members": [(), ("zoe",)],
        "user": ["bob", "zoe"],
        "role": list(Role),
        "number": [0, 1, huge],
        "body": ["", b"", "é"],
        "content": [None, "", "x"],
        "counts": list(Counts),
        "name": ["", "x", None],
        "description": ["", None],
        "device": ["", "phone", "other"],
        "cursor": ["", "x"],
        "token": ["", "x"],
        "old": ["", "x"],
        "new": ["", "x"],
        "delivered": [None, True],
        "read": [None, False],
        "muted": [True],
        "share": [True, False],
        "asks": [False, True],
        "mark_version": [0, huge],
        "rid": [3],
    }
    for kind in commands.COMMAND_TYPES:
        if kind is commands.Hello:
            continue
        fields = attrs.fields(kind)
        names = kind in (commands.ListMembers, commands.ListReaders)
        extremes["after"] = ["", "zoe"] if names else [0, huge]
        base = {one.name: extremes[one.name][0] for one in fields}
        for field in fields:
            for value in extremes[field.name]:
                if kind is commands.CreateGroup and value is None:
                    continue
                device = book.log_in("alice", "phone")
                device.number = device.welcome.number  # type: ignore[union-attr]
                told = device.do(kind(**{**base, field.name: value}))
                answers = [update for update in told if getattr(update, "rid", None) == 3]
                assert len(answers) >= 1 or device.cut, (kind, field.name, value)
                assert not any(isinstance(one, CatchUp) for one in answers)
                for one in answers:
                    if isinstance(one, Rejected):
                        assert one.reason
        book.check_agreement()


@pytest.mark.parametrize("end", ["idle", "replaced"])
def test_i_24_nothing_is_left_out_before_the_last_word(book: Playbook, end: str) -> None:
    """A session that is closed while a message for it is being written gets the message, then the last word:
    whoever resumes from the tick of that word would never hear of the message again."""
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    alice.send(AB)
    bob.told()
    book.hold = True
    book.run((alice, alice.message(AB, "late")))
    if end == "idle":
        book.sweep(100_000, heard=False)
    else:
        book.log_in("bob", "phone", catch_up=False)
    book.finish()
    assert [type(update).__name__ for update in bob.told()] == ["MessageAccepted", "Goodbye"]


def test_i_09_what_is_recalled_between_two_pages_leaves_no_hole(new_book: NewBook) -> None:
    """A message that is recalled after the first page of its conversation is a marker in a later one: what is
    neither message nor marker would count as unread until the next pass."""
    book = new_book(settings=json.dumps({"limits": {"page_bytes_max": 300}}))
    book.user("alice", "bob")
    alice = book.log_in("alice", "phone")
    for _ in range(12):
        alice.send(AB, "x" * 40)
    late = book.log_in("alice", "laptop", catch_up=False)
    replica = Replica("alice", "laptop")
    told = late.told()
    alice.ask(commands.RecallMessage(rid=1, conversation=AB, seq=12))
    while late.session.state == "behind":
        page = next(update for update in told if isinstance(update, CatchUp))
        replica.apply(page)
        assert replica.unread(AB) == 0
        told = late.do(commands.AckPage(rid=0, token=page.token))
    assert replica.chat(AB).recalled.ranges == (12, 13)
