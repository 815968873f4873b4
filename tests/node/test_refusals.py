"""Bad input: a clear error to who did it, nothing to anybody else, and nothing lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from receipts.core.errors import Code
from receipts.core.events import Register, Role
from receipts.core.ids import Counts
from receipts.core.policy import DAY_MS, MINUTE_MS
from receipts.core.status import Unknown
from receipts.node.commands import AddUser, MakeToken, Malformed, RemoveUser, RevokeTokens, Stats
from receipts.node.world import STRANGERS_MAX
from receipts.wire import commands, updates
from receipts.wire.updates import Done, Goodbye, Rejected
from tests.node.playbook import Device, Playbook

AB = "alice~bob"
NewBook = Callable[..., Playbook]


@pytest.fixture
def people(book: Playbook) -> tuple[Playbook, Device, Device]:
    """alice and bob on a phone each, with a message from each."""
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    alice.send(AB)
    bob.send(AB)
    alice.told()
    bob.told()
    return book, alice, bob


def group_of(new_book: NewBook, **settings: Any) -> tuple[Playbook, dict[str, Device]]:
    """G has olga (owner), adam and ada (admins), bob and cara; erin is a stranger."""
    book = new_book(settings=json.dumps(settings))
    book.user("olga", "adam", "ada", "bob", "cara", "erin")
    book.group("G", "olga", "bob", "cara", admins=("adam", "ada"))
    return book, {name: book.log_in(name, "phone") for name in ("olga", "adam", "ada", "bob", "cara", "erin")}


def turned_away(book: Playbook, code: Code, **hello: Any) -> Rejected:
    """A first frame that is refused with `code`: an answer, a last word and the end of the link."""
    stranger = book.stranger()
    rejected, goodbye = stranger.do(book.hello("alice", "phone", **hello))
    assert isinstance(rejected, Rejected)
    assert isinstance(goodbye, Goodbye)
    assert (rejected.rid, rejected.code, goodbye.code) == (1, code, code)
    assert rejected.reason == goodbye.reason
    assert stranger.cut
    assert stranger.do(commands.Ping(rid=1)) == []
    return rejected


# -- before and at login


@pytest.mark.parametrize(
    "command",
    [
        commands.Ping(rid=4),
        commands.SendMessage(4, AB, "x", 1),
        commands.ReadConversation(4, AB, 1),
        commands.ListConversations(rid=4),
        commands.AckPage(rid=4, token="x"),
        commands.LogOutDevice(rid=4, device="phone"),
    ],
    ids=lambda command: type(command).__name__,
)
def test_before_login(people: tuple[Playbook, Device, Device], command: Any) -> None:
    """A command before Hello is refused and the link closed; others hear nothing."""
    book, alice, bob = people
    stranger = book.stranger()
    rejected, goodbye = stranger.do(command)
    assert (rejected.rid, rejected.code, goodbye.code) == (4, Code.NOT_LOGGED_IN, Code.NOT_LOGGED_IN)
    assert stranger.cut
    assert alice.told() == bob.told() == []


def test_second_hello(people: tuple[Playbook, Device, Device]) -> None:
    """A second Hello is refused and the session goes on as who it is."""
    book, alice, bob = people
    alice.refused(book.hello("bob", "phone", rid=6), Code.ALREADY_LOGGED_IN)
    assert not alice.cut
    assert alice.send(AB).seq == 3
    assert bob.session.logged_in


def test_second_hello_while_the_first_is_checked(new_book: NewBook) -> None:
    """Two of them at once on a new link close it; what was queued behind them is not done."""
    book = new_book()
    book.user("alice", password="secret")
    book.hold_passwords = True
    stranger = book.stranger()
    hello = book.hello("alice", "phone", password="secret")
    book.run((stranger, hello), (stranger, commands.Ping(rid=8)), (stranger, hello))
    assert [update.code for update in stranger.told()] == [Code.ALREADY_LOGGED_IN] * 2
    book.check_passwords()
    assert stranger.told() == []
    assert not book.hub.world.apps["default"].users["alice"].sessions


def test_commands_queued_behind_a_password(new_book: NewBook) -> None:
    """What is sent right behind a Hello waits for its judgement, in order."""
    book = new_book()
    book.user("alice", "bob", password="secret")
    stranger = book.stranger()
    book.evict()
    hello = book.hello("alice", "phone", password="secret")
    sends = [commands.SendMessage(number, AB, "x", number) for number in range(1, 4)]
    book.run((stranger, hello), *((stranger, send) for send in sends), (stranger, commands.Ping(rid=8)))
    told = stranger.told()
    assert isinstance(told[0], updates.Welcome)
    assert [update.rid for update in told if not isinstance(update, updates.CatchUp)] == [1, 1, 2, 3, 8]


def test_commands_queued_behind_a_password_of_a_known_device(new_book: NewBook) -> None:
    """The same when nothing has to be looked up: what waited is done right after the login."""
    book = new_book()
    book.user("alice", "bob", password="secret")
    book.log_in("alice", "phone")
    stranger = book.stranger()
    book.hold_passwords = True
    hello = book.hello("alice", "phone", password="secret")
    book.run((stranger, hello), (stranger, commands.Ping(rid=8)), (stranger, commands.Ping(rid=9)))
    assert stranger.told() == []
    book.check_passwords()
    rids = [update.rid for update in stranger.told() if not isinstance(update, updates.CatchUp)]
    assert rids == [1, 8, 9]


def test_a_link_that_ends_while_its_password_is_checked(new_book: NewBook) -> None:
    """Nobody is logged in on a link that is gone."""
    book = new_book()
    book.user("alice", password="secret")
    stranger = book.stranger()
    book.hold_passwords = True
    book.run((stranger, book.hello("alice", "phone", password="secret")))
    stranger.lose()
    book.check_passwords()
    assert stranger.told() == []
    assert not stranger.session.logged_in


def test_wrong_version_and_app(book: Playbook) -> None:
    """Another version of the protocol, and an app that is not here, are named as such."""
    assert turned_away(book, Code.WRONG_VERSION, version=2).limit == 1
    turned_away(book, Code.UNKNOWN_APP, app="other", token="x")


def test_draining(book: Playbook) -> None:
    """A node that is shutting down takes nobody in, and says when to come again."""
    book.hub.world.draining = True
    assert turned_away(book, Code.SHUTTING_DOWN).retry_after_ms > 0


def test_wrong_user_and_wrong_password_are_one_answer(new_book: NewBook) -> None:
    """Nothing tells an unknown user, a removed one, one without a password and a wrong password apart."""
    book = new_book()
    book.user("alice", "gone", password="secret")
    book.user("tokens")
    book.operator.do(RemoveUser(rid=1, app="default", user="gone"))
    answers = []
    for user, password in (
        ("alice", "wrong"),
        ("alice", None),
        ("nobody", "secret"),
        ("gone", "secret"),
        ("tokens", ""),
    ):
        for _ in range(11):  # as many as may be tried, and one more
            stranger = book.stranger()
            told = stranger.do(book.hello(user, "phone", password=password))
            assert stranger.cut
        answers.append(told)
        book.now_ms += MINUTE_MS
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0].code is Code.RATE_LIMITED
    first = []
    for user in ("alice", "nobody", "gone", "tokens"):
        stranger = book.stranger()
        first.append(stranger.do(book.hello(user, "phone", password="wrong")))
    assert all(answer == first[0] for answer in first)
    assert first[0][0].code is Code.UNAUTHORIZED


def test_login_attempts_under_many_names_are_bounded(book: Playbook) -> None:
    """Names that nobody has are counted, and forgotten when there are too many of them."""
    app = book.hub.world.apps["default"]
    for number in range(STRANGERS_MAX + 10):
        app.buckets_of(f"nobody{number}")
    assert len(app.strangers) == STRANGERS_MAX


def test_login_attempts_are_limited_and_come_back(new_book: NewBook) -> None:
    """After too many attempts the right password waits as well, as long as the answer says."""
    book = new_book()
    book.user("alice", password="secret")
    for _ in range(10):
        turned_away(book, Code.UNAUTHORIZED, password="wrong")
    book.evict()
    for _ in range(10):
        book.stranger().do(book.hello("alice", "phone", password="wrong"))
    limited = turned_away(book, Code.RATE_LIMITED, password="secret")
    book.now_ms += limited.retry_after_ms
    stranger = book.stranger()
    stranger.do(book.hello("alice", "phone", password="secret"))
    assert stranger.session.logged_in


def test_tokens(new_book: NewBook) -> None:
    """Expired, forged, revoked and foreign tokens each have their answer."""
    book = new_book(apps={"two": "{}"})
    book.user("alice", "bob")
    book.user("alice", app="two")
    secret = book.hub.world.secret
    good = {"app": "default", "sub": "alice", "epoch": 0, "exp": 10**10}

    def forged(key: bytes = secret, algorithm: str = "HS256", **changes: Any) -> str:
        claims = {name: value for name, value in {**good, **changes}.items() if value is not None}
        return jwt.encode(claims, key, algorithm=algorithm)

    turned_away(book, Code.TOKEN_INVALID, token="nonsense")
    turned_away(book, Code.TOKEN_INVALID, token="")
    turned_away(book, Code.TOKEN_INVALID, token=forged(b"1" * 32))
    turned_away(book, Code.TOKEN_INVALID, token=forged(b"0" * 64, algorithm="HS512"))
    turned_away(book, Code.TOKEN_INVALID, token=book.token("bob"))
    turned_away(book, Code.TOKEN_INVALID, token=book.token("alice", app="two"))
    turned_away(book, Code.TOKEN_INVALID, token=forged(exp="soon"))
    turned_away(book, Code.TOKEN_INVALID, token=forged(app=None))
    turned_away(book, Code.TOKEN_INVALID, token=forged(sub=None))
    turned_away(book, Code.TOKEN_INVALID, token=forged(epoch=None))
    turned_away(book, Code.TOKEN_INVALID, token=forged(exp=None))
    turned_away(book, Code.TOKEN_INVALID, token=forged(sub=5))
    short = book.token("alice", lifetime_ms=5000)
    book.now_ms += 5000
    turned_away(book, Code.TOKEN_EXPIRED, token=short)
    made = book.operator.ask(MakeToken(rid=1, app="default", user="alice", lifetime_ms=DAY_MS))
    phone = book.log_in("alice", "phone")
    assert book.operator.do(RevokeTokens(rid=2, app="default", user="alice")) == [Done(2)]
    (goodbye,) = phone.told()
    assert goodbye.code is Code.LOGGED_OUT
    turned_away(book, Code.TOKEN_REVOKED, token=made.text)
    turned_away(book, Code.TOKEN_REVOKED, token=forged(epoch="0"))
    book.operator.do(RemoveUser(rid=3, app="default", user="alice"))
    turned_away(book, Code.TOKEN_REVOKED, token=book.token("alice"))


def test_malformed(people: tuple[Playbook, Device, Device]) -> None:
    """What is a frame and no command is answered; what is no frame ends the link. Others go on."""
    book, alice, bob = people
    found = alice.refused(
        Malformed(rid=5, code=Code.TOO_MANY_GAPS, reason="more than 4096 ranges", fatal=False),
        Code.TOO_MANY_GAPS,
    )
    assert found.reason == "more than 4096 ranges"
    assert alice.send(AB).seq == 3
    bob.told()
    (goodbye,) = alice.do(Malformed(code=Code.BAD_FRAME, reason="not a frame", fatal=True))
    assert goodbye == Goodbye(code=Code.BAD_FRAME, reason="not a frame")
    assert alice.cut
    assert alice.do(alice.message(AB)) == []
    assert bob.told() == []
    assert bob.send(AB).seq == 4
    stranger = book.stranger()
    answers = stranger.do(Malformed(rid=7, code=Code.INVALID, reason="user: not a user id", fatal=False))
    assert [type(answer) for answer in answers] == [Rejected, Goodbye]
    assert answers[0].rid == 7
    assert stranger.cut
    rejected = book.operator.refused(
        Malformed(rid=8, code=Code.INVALID, reason="no", fatal=False), Code.INVALID
    )
    assert rejected.rid == 8
    assert book.operator.do(Stats(rid=9))[0].rid == 9


def test_operator_commands_of_others(people: tuple[Playbook, Device, Device]) -> None:
    """Only the operator's session does the operator's commands."""
    _book, alice, _bob = people
    alice.refused(AddUser(rid=5, app="default", user="eve"), Code.NOT_PERMITTED)
    assert alice.send(AB).seq == 3


def test_a_flood_while_storage_is_slow(people: tuple[Playbook, Device, Device]) -> None:
    """A session that sends too much while it waits is ended at once, not after its own backlog."""
    book, alice, bob = people
    book.evict()
    book.hold_loads = True
    book.run((alice, alice.message(AB)))
    book.run(*((alice, commands.Ping(rid=1)) for _ in range(100)))
    (goodbye,) = alice.do(Malformed(code=Code.BUSY, reason="too many commands at once", fatal=True))
    assert goodbye.code is Code.BUSY
    assert alice.session.backlog is None
    book.load()
    assert alice.told() == bob.told() == []
    assert book.chat(AB).head == 2


# -- receipts


def test_receipts_for_what_is_not_there(people: tuple[Playbook, Device, Device]) -> None:
    """Beyond the head, from strangers, of conversations that do not exist: refused, and nobody is told."""
    book, alice, bob = people
    book.user("cara")
    cara = book.log_in("cara", "phone")
    before = book.state()
    for command in (
        commands.AckDelivered(5, AB, (1, 2)),
        commands.ReadConversation(5, AB, 1),
        commands.ReadMessages(5, AB, (1, 2)),
        commands.MarkUnread(rid=5, conversation=AB),
        commands.RecallMessage(rid=5, conversation=AB, seq=1),
        commands.ClearConversation(rid=5, conversation=AB, through=1),
        commands.SetSharing(rid=5, conversation=AB, read=False),
        commands.SetMuted(rid=5, conversation=AB, muted=True),
        commands.FetchHistory(rid=5, conversation=AB),
        commands.GetStatus(rid=5, conversation=AB, seqs=(1,)),
        commands.ExplainUnread(rid=5, conversation=AB),
        commands.ListMembers(rid=5, conversation=AB),
        commands.ListReaders(rid=5, conversation=AB, seq=1),
        commands.SendMessage(5, AB, "x", 1),
        commands.RemoveMembers(rid=5, conversation=AB, users=("bob",)),
        commands.DissolveGroup(rid=5, conversation=AB),
    ):
        foreign = cara.refused(command, Code.UNKNOWN_CONVERSATION)
        for nowhere in ("bob~dave", "alice~zoe", "nowhere"):
            assert nowhere != command.conversation
            unknown = cara.refused(_elsewhere(command, nowhere), Code.UNKNOWN_CONVERSATION)
            # not a word more about what is there than about what is not
            assert unknown.reason.replace(nowhere, AB) == foreign.reason
    cara.refused(commands.CreateGroup(rid=5, conversation=AB, name="x"), Code.INVALID)
    assert alice.told() == bob.told() == []
    assert book.state() == before
    beyond = bob.do(commands.AckDelivered(6, AB, (2, 9)))
    assert [(update.code, update.limit, update.ranges) for update in beyond] == [
        (Code.BEYOND_HEAD, 2, (3, 9))
    ]
    (future,) = bob.do(commands.ReadMessages(6, AB, (50, 51)))
    assert (future.code, future.ranges) == (Code.BEYOND_HEAD, (3, 51))
    assert alice.told() == []


def _elsewhere(command: Any, conversation: str) -> Any:
    fields = {name: getattr(command, name) for name in type(command).__slots__ if not name.startswith("__")}
    return type(command)(**{**fields, "conversation": conversation})


def test_an_own_message_by_name(people: tuple[Playbook, Device, Device]) -> None:
    """Naming one's own message is refused for it alone; the others named are read."""
    _book, alice, bob = people
    (told,) = bob.do(commands.ReadMessages(6, AB, (1, 3)))
    assert (told.code, told.ranges, told.conversation) == (Code.OWN_MESSAGE, (2, 3), AB)
    (read,) = alice.told()
    assert read.ranges == (1, 2)
    (told,) = bob.do(commands.ReadMessages(7, AB, (2, 3)))
    assert told.code is Code.OWN_MESSAGE
    assert alice.told() == []
    bob.refused(commands.ReadMessages(8, AB, (1, 2), "words"), Code.NOT_ASKED)
    assert bob.do(commands.ReadMessages(9, AB, ())) == [Done(9)]
    assert bob.do(commands.AckDelivered(9, AB, ())) == [Done(9)]


def test_group_receipts_that_cannot_be(new_book: NewBook) -> None:
    """Unasked, of a stranger to the message, of the author, too many, switched off: each by name."""
    book, at = group_of(new_book, limits={"content_characters_max": 5})
    at["olga"].send("G")
    at["olga"].send("G", asks=True)
    at["bob"].told()
    at["bob"].refused(commands.ReadMessages(5, "G", (1, 2), "ok"), Code.NOT_ASKED)
    (mixed,) = at["bob"].do(commands.ReadMessages(6, "G", (1, 3), "ok"))
    assert (mixed.code, mixed.ranges) == (Code.NOT_ASKED, (1, 2))
    assert len(at["olga"].told()) == 1  # the one that asked was answered
    at["cara"].told()
    long = at["cara"].refused(commands.ReadMessages(7, "G", (2, 3), "sixsix"), Code.INVALID)
    assert long.limit == 5
    (own,) = at["olga"].do(commands.ReadMessages(8, "G", (2, 3), ""))
    assert own.code is Code.OWN_MESSAGE
    for _ in range(21):
        at["olga"].send("G", asks=True)
    at["cara"].told()
    many = at["cara"].refused(commands.ReadMessages(9, "G", (3, 24), "x"), Code.TOO_MANY)
    assert many.limit == 20
    app = book.hub.world.apps["default"]
    app.features = type(app.features)(group_receipts=False)
    at["cara"].refused(commands.ReadMessages(9, "G", (3, 4), "x"), Code.FEATURE_OFF)
    at["olga"].told()
    at["olga"].refused(commands.ListReaders(rid=1, conversation="G", seq=3), Code.FEATURE_OFF)
    (one, *_rest) = at["olga"].ask(commands.GetStatus(rid=1, conversation="G", seqs=(3,))).items
    assert one.read is Unknown.FEATURE_OFF


# -- messages


def test_messages_that_cannot_be(people: tuple[Playbook, Device, Device]) -> None:
    """A refused message uses no seq and opens no conversation; the next one with the same number is taken."""
    book, alice, bob = people
    book.user("cara", "dave")
    limit = 256 * 1024
    bad = [
        (commands.SendMessage(5, "alice~cara", "x", 0), Code.INVALID),
        (commands.SendMessage(5, "alice~cara", "x", 7, Counts.SYSTEM), Code.NOT_PERMITTED),
        (commands.SendMessage(5, "alice~cara", "x" * (limit + 1), 7), Code.INVALID),
        (commands.SendMessage(5, "alice~cara", "é" * (limit // 2 + 1), 7), Code.INVALID),
        (commands.SendMessage(5, "alice~cara", bytes(limit + 1), 7), Code.INVALID),
        (commands.SendMessage(5, "alice~cara", "x", 7, asks=True), Code.INVALID),
        (commands.SendMessage(5, "alice~zoe", "x", 7), Code.UNKNOWN_USER),
        (commands.SendMessage(5, "bob~cara", "x", 7), Code.UNKNOWN_CONVERSATION),
        (commands.SendMessage(5, "nowhere", "x", 7), Code.UNKNOWN_CONVERSATION),
        (commands.SendMessage(5, "cara~alice", "x", 7), Code.UNKNOWN_CONVERSATION),
        (commands.SendMessage(5, "alice~alice", "x", 7), Code.UNKNOWN_CONVERSATION),
    ]
    for command, code in bad:
        alice.refused(command, code)
    cara = book.log_in("cara", "phone")
    assert cara.ask(commands.ListConversations(rid=1)).items == ()
    assert [name for _, _, name in book.store.all_conversations(0, 10)] == [AB]
    assert alice.ask(commands.SendMessage(5, "alice~cara", "é" * (limit // 2), 7)).seq == 1
    reused = alice.refused(commands.SendMessage(6, AB, "x", 7), Code.CLIENT_ID_REUSED)
    assert "alice~cara" in reused.reason
    assert book.operator.do(RemoveUser(rid=1, app="default", user="dave")) == [Done(1)]
    alice.refused(commands.SendMessage(5, "alice~dave", "x", 8), Code.UNKNOWN_USER)
    assert bob.told() == []


def test_recall_rights_and_window(new_book: NewBook) -> None:
    """By the author for two minutes, by an admin for ever, by nobody else; or not at all."""
    book, at = group_of(new_book)
    at["bob"].send("G")
    at["bob"].send("G")
    at["cara"].told()
    recall = commands.RecallMessage(rid=5, conversation="G", seq=1)
    at["cara"].refused(recall, Code.NOT_PERMITTED)
    for seq in (0, 3):
        at["bob"].told()
        at["bob"].refused(commands.RecallMessage(rid=5, conversation="G", seq=seq), Code.UNKNOWN_MESSAGE)
    book.sweep(2 * MINUTE_MS)
    assert at["bob"].do(commands.RecallMessage(rid=6, conversation="G", seq=2)) == [Done(6)]
    book.sweep(1)
    assert at["bob"].refused(recall, Code.EXPIRED).limit == 2 * MINUTE_MS
    at["adam"].told()
    assert at["adam"].do(recall) == [Done(5)]
    at["bob"].ask(commands.RemoveMembers(rid=7, conversation="G", users=("bob",)))
    at["bob"].told()
    assert at["bob"].do(recall) == [Done(5)]  # done before, whoever asks again
    at["olga"].send("G")
    app = book.hub.world.apps["default"]
    at["bob"].refused(commands.RecallMessage(rid=5, conversation="G", seq=3), Code.NOT_A_MEMBER)
    app.features = type(app.features)(recall=False)
    at["olga"].told()
    at["olga"].refused(commands.RecallMessage(rid=5, conversation="G", seq=3), Code.FEATURE_OFF)


def test_asks_a_day(new_book: NewBook) -> None:
    """So many asking messages a day in a group; then wait as long as the answer says."""
    book, at = group_of(new_book, limits={"asking_messages_per_day": 3, "group_receipts_kept_ms": 3 * DAY_MS})
    for _ in range(3):
        at["olga"].send("G", asks=True)
        book.now_ms += 1000
    message = commands.SendMessage(5, "G", "x", 90, asks=True)
    limited = at["olga"].refused(message, Code.RATE_LIMITED)
    assert limited.limit == 3
    assert limited.retry_after_ms == DAY_MS - 3000
    book.evict()
    assert at["olga"].refused(message, Code.RATE_LIMITED).retry_after_ms == limited.retry_after_ms
    at["olga"].send("G")  # one that does not ask is free
    book.now_ms += limited.retry_after_ms
    assert at["olga"].ask(message).seq == 5


# -- how much and how often


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("sends", lambda number: commands.SendMessage(5, AB, "x", 100 + number)),
        ("marks", lambda number: commands.ReadConversation(5, AB, 1)),
        ("marks", lambda number: commands.ReadMessages(5, AB, (1, 2))),
        ("marks", lambda number: commands.MarkUnread(rid=5, conversation=AB)),
        ("queries", lambda number: commands.ListConversations(rid=5)),
        ("queries", lambda number: commands.FetchHistory(rid=5, conversation=AB)),
        ("queries", lambda number: commands.GetBadge(rid=5)),
        ("queries", lambda number: commands.ListDevices(rid=5)),
        ("queries", lambda number: commands.ExplainUnread(rid=5, conversation=AB)),
        ("queries", lambda number: commands.GetStatus(rid=5, conversation=AB, seqs=(2,))),
        ("changes", lambda number: commands.SetMuted(rid=5, conversation=AB, muted=bool(number % 2))),
        ("changes", lambda number: commands.CreateGroup(rid=5, conversation=f"g{number}", name="g")),
        ("changes", lambda number: commands.ClearConversation(rid=5, conversation=AB, through=1)),
        ("changes", lambda number: commands.SetSharing(rid=5, read=bool(number % 2))),
        ("logins", lambda number: commands.ChangePassword(rid=5, old="", new="x")),
    ],
)
def test_rate_limits(new_book: NewBook, kind: str, command: Callable[[int], Any]) -> None:
    """Each kind of call over its rate is refused with the time to wait, after which it works (I-29)."""
    rate = "logins_per_minute" if kind == "logins" else f"{kind}_per_second"
    book = new_book(settings=json.dumps({"limits": {f"{kind}_burst": 3, rate: 2}}))
    book.user("alice", "bob")
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    alice.ask(commands.SendMessage(1, AB, "x", 1))
    bob.ask(commands.SendMessage(1, AB, "y", 1))
    book.now_ms += 100_000
    bob.told()
    for number in range(3):
        bob.do(command(number))
    before = book.state()
    alice.told()
    limited = bob.refused(command(3), Code.RATE_LIMITED)
    assert limited.retry_after_ms > 0
    assert limited.limit == 3
    assert book.state() == before
    assert alice.told() == []
    book.now_ms += limited.retry_after_ms
    (*_, last) = bob.do(command(3))
    assert not (isinstance(last, Rejected) and last.code is Code.RATE_LIMITED)


def test_a_rate_of_zero(new_book: NewBook) -> None:
    """A kind of call that is not allowed at all says to come back in a minute."""
    book = new_book(settings=json.dumps({"limits": {"queries_burst": 0, "queries_per_second": 0}}))
    book.user("alice")
    found = book.log_in("alice", "phone").refused(commands.GetBadge(rid=1), Code.RATE_LIMITED)
    assert found.retry_after_ms == 60_000


def test_deliveries_are_never_limited(new_book: NewBook) -> None:
    """A device that catches up acknowledges as fast as it stores."""
    book = new_book(settings=json.dumps({"limits": {"marks_burst": 1, "marks_per_second": 0.001}}))
    book.user("alice", "bob")
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    for seq in range(1, 50):
        alice.send(AB)
        bob.told()
        assert bob.do(commands.AckDelivered(5, AB, (seq, seq + 1))) == [Done(5)]


def test_a_limited_receipt_merges_into_a_later_one(new_book: NewBook) -> None:
    """Refused work that is done again later ends in the same state as work that was not refused (I-29)."""
    states = []
    for limits in ({"marks_burst": 1, "marks_per_second": 1}, {}):
        book = new_book(settings=json.dumps({"limits": limits}))
        book.user("alice", "bob")
        alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
        for _ in range(5):
            alice.send(AB)
        waiting: list[int] = []
        for seq in range(1, 6):
            waiting.append(seq)
            for number in list(waiting):
                (*_, told) = bob.do(commands.ReadMessages(5, AB, (number, number + 1)))
                if isinstance(told, Done):
                    waiting.remove(number)
                else:
                    book.now_ms += told.retry_after_ms // 2
        while waiting:
            (*_, told) = bob.do(commands.ReadMessages(5, AB, (waiting[0], waiting[0] + 1)))
            if isinstance(told, Done):
                waiting.pop(0)
            else:
                book.now_ms += told.retry_after_ms
        chat = book.chat(AB)
        states.append((chat.unread("bob"), chat.members["bob"].read, chat.members["bob"].read_shared))
        assert alice.told()[-1].ranges == (5, 6)
    assert states[0] == states[1]


def test_gaps(new_book: NewBook) -> None:
    """So many separate ranges; over them nothing changes, and 'through' always works (I-17)."""
    book = new_book(settings=json.dumps({"limits": {"gaps_max": 3}}))
    book.user("alice", "bob")
    book.group("G", "alice", "bob")
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    for _ in range(20):
        alice.send(AB)
        alice.send("G", asks=True)
    alice.told()
    bob.told()
    for conversation in (AB, "G"):
        for seq in (2, 4, 6):
            bob.ask(commands.ReadMessages(5, conversation, (seq, seq + 1)))
        before = book.state()
        alice.told()
        for command in (
            commands.ReadMessages(5, conversation, (8, 9)),
            commands.ReadMessages(5, conversation, (8, 9), "words" if conversation == "G" else None),
            commands.AckDelivered(5, conversation, (8, 9)),
        ):
            assert bob.refused(command, Code.TOO_MANY_GAPS).limit == 3
        assert book.state() == before
        assert alice.told() == []
        assert bob.ask(commands.ReadConversation(5, conversation, 20)) == Done(5)
        assert book.chat(conversation).unread("bob") == 0
    for _ in range(5):
        bob.send(AB)
        alice.send(AB)
    bob.told()
    many = bob.refused(commands.MarkUnread(rid=5, conversation=AB, from_seq=1), Code.TOO_MANY_GAPS)
    assert many.limit == 3


def test_devices(new_book: NewBook) -> None:
    """Only so many devices; one that is logged out makes room, and so does one that was away too long."""
    book = new_book(settings=json.dumps({"limits": {"devices_max": 2}}))
    book.user("alice")
    phone, tablet = book.log_in("alice", "phone"), book.log_in("alice", "tablet")
    third = book.stranger()
    rejected, goodbye = third.do(book.hello("alice", "laptop"))
    assert (rejected.code, rejected.limit, goodbye.code) == (Code.TOO_MANY, 2, Code.TOO_MANY)
    assert third.cut
    phone.refused(commands.LogOutDevice(rid=1, device="laptop"), Code.UNKNOWN_DEVICE)
    assert phone.do(commands.LogOutDevice(rid=2, device="tablet")) == [Done(2)]
    (goodbye,) = tablet.told()
    assert goodbye.code is Code.LOGGED_OUT
    assert tablet.cut
    phone.refused(commands.LogOutDevice(rid=3, device="tablet"), Code.UNKNOWN_DEVICE)
    laptop = book.log_in("alice", "laptop")
    laptop.lose()
    book.sweep(31 * DAY_MS)
    book.log_in("alice", "tablet")
    names = [one.device for one in phone.ask(commands.ListDevices(rid=4)).items]
    assert names == ["phone", "tablet"]
    book.check_agreement()


def test_history_bounds(new_book: NewBook) -> None:
    """Leavers, newcomers, and who cleared: each reads what was theirs, in pages."""
    book, at = group_of(new_book)
    book2, at2 = group_of(new_book, groups={"open_history": False})
    for one, here in ((book, at), (book2, at2)):
        for _ in range(5):
            here["olga"].send("G")
        here["olga"].ask(commands.AddMembers(rid=1, conversation="G", users=("erin",)))
        here["bob"].ask(commands.RemoveMembers(rid=1, conversation="G", users=("bob",)))
        for _ in range(5):
            here["olga"].send("G")
        here["olga"].ask(commands.AddMembers(rid=1, conversation="G", users=("bob",)))
        here["olga"].send("G")
        here["cara"].ask(commands.ClearConversation(rid=1, conversation="G", through=8))
        for device in here.values():
            device.told()
        assert one.chat("G").head == 11

    def seqs(device: Device, **more: Any) -> list[int]:
        found = device.ask(commands.FetchHistory(rid=1, conversation="G", **more))
        return [message.seq for message in found.messages]

    assert seqs(at["erin"]) == list(range(1, 12))
    assert seqs(at2["erin"]) == list(range(6, 12))
    assert seqs(at["bob"]) == [1, 2, 3, 4, 5, 11]
    assert seqs(at["cara"]) == [9, 10, 11]
    assert seqs(at["bob"], before=5, limit=2) == [3, 4]
    assert seqs(at["bob"], before=1) == []
    assert seqs(at["bob"], before=10**9, limit=10**9) == [1, 2, 3, 4, 5, 11]
    page = at["bob"].ask(commands.FetchHistory(rid=1, conversation="G", limit=0))
    assert ([m.seq for m in page.messages], page.more) == ([11], True)


def test_queries_that_cannot_be(people: tuple[Playbook, Device, Device]) -> None:
    """Too many ids, other people's messages, forged cursors and tokens: an error, never a dead node."""
    book, alice, _bob = people
    book.group("G", "alice", "bob")
    alice.send("G")
    alice.told()
    many = alice.refused(commands.GetStatus(rid=1, conversation=AB, seqs=tuple(range(1, 22))), Code.TOO_MANY)
    assert many.limit == 20
    alice.refused(commands.GetStatus(rid=1, conversation=AB, seqs=(2,)), Code.NOT_PERMITTED)
    alice.refused(commands.GetStatus(rid=1, conversation=AB, seqs=(3,)), Code.UNKNOWN_MESSAGE)
    alice.refused(commands.GetStatus(rid=1, conversation=AB, seqs=(0,)), Code.UNKNOWN_MESSAGE)
    assert alice.ask(commands.GetStatus(rid=1, conversation=AB, seqs=())).items == ()
    alice.refused(commands.ListReaders(rid=1, conversation=AB, seq=1), Code.INVALID)
    alice.refused(commands.ListReaders(rid=1, conversation="G", seq=2), Code.UNKNOWN_MESSAGE)
    for cursor in ("x", "1", "1.2.3", "-1.2", "1." + "9" * 19, "١.٢"):
        alice.refused(commands.ListConversations(rid=1, cursor=cursor), Code.INVALID)
    for token in (
        "life1:1:x",
        "life1:1:1.2",
        "life1:1:1.2.3.4",
        "life1:1:" + "9" * 20 + ".1.1",
        "::",
        "life1::",
    ):
        again = book.log_in("alice", "tablet", resume=token)
        assert again.pages[0].full
    alice.refused(commands.AckPage(rid=1, token="other"), Code.INVALID)
    alice.refused(commands.ExplainUnread(rid=1, conversation="G~"), Code.UNKNOWN_CONVERSATION)


def test_mark_unread_bounds(people: tuple[Playbook, Device, Device]) -> None:
    """Only from a message that can be seen."""
    book, alice, _bob = people
    before = book.state()
    for seq in (0, 3, 10**15):
        alice.refused(commands.MarkUnread(rid=1, conversation=AB, from_seq=seq), Code.UNKNOWN_MESSAGE)
    assert book.state() == before


# -- groups


ROLES = ("olga", "adam", "bob")
MAY: list[tuple[str, Any, tuple[str, ...]]] = [
    ("add", commands.AddMembers(rid=5, conversation="G", users=("erin",)), ("olga", "adam")),
    ("remove a member", commands.RemoveMembers(rid=5, conversation="G", users=("cara",)), ("olga", "adam")),
    ("remove an admin", commands.RemoveMembers(rid=5, conversation="G", users=("ada",)), ("olga",)),
    ("remove the owner", commands.RemoveMembers(rid=5, conversation="G", users=("olga",)), ()),
    ("rename", commands.ChangeGroup(rid=5, conversation="G", name="Gee"), ("olga", "adam")),
    ("describe", commands.ChangeGroup(rid=5, conversation="G", description="all"), ("olga", "adam")),
    ("promote", commands.SetRole(rid=5, conversation="G", user="cara", role=Role.ADMIN), ("olga",)),
    ("demote", commands.SetRole(rid=5, conversation="G", user="ada", role=Role.MEMBER), ("olga",)),
    ("hand over", commands.SetRole(rid=5, conversation="G", user="cara", role=Role.OWNER), ("olga",)),
    ("dissolve", commands.DissolveGroup(rid=5, conversation="G"), ("olga",)),
    ("ask", commands.SendMessage(5, "G", "x", 77, asks=True), ("olga", "adam")),
    ("write", commands.SendMessage(5, "G", "x", 78), ("olga", "adam", "bob")),
    ("see members", commands.ListMembers(rid=5, conversation="G"), ("olga", "adam", "bob")),
]


@pytest.mark.parametrize(("what", "command", "may"), MAY, ids=lambda one: one if isinstance(one, str) else "")
def test_roles(new_book: NewBook, what: str, command: Any, may: tuple[str, ...]) -> None:
    """Who may do what in a group: owner, admin, plain member; a stranger nothing, not even learn of it."""
    for name in ROLES:
        book, at = group_of(new_book)
        before = book.state()
        if name in may:
            answer = at[name].ask(command)
            assert isinstance(answer, Done | updates.Accepted | updates.Members), (name, answer)
            book.check_agreement()
        else:
            at[name].refused(command, Code.NOT_PERMITTED)
            assert book.state() == before
            assert all(device.told() == [] for device in at.values())
    stranger = at["erin"]
    stranger.refused(command, Code.UNKNOWN_CONVERSATION)


def test_leaving(new_book: NewBook) -> None:
    """A member leaves at will, an owner hands over first or is the last; a policy may say who writes."""
    book, at = group_of(new_book, groups={"may_send": "admin"})
    at["bob"].refused(commands.SendMessage(5, "G", "x", 1), Code.NOT_PERMITTED)
    leave = commands.RemoveMembers
    assert at["bob"].ask(leave(rid=1, conversation="G", users=("bob",))) == Done(1)
    at["olga"].told()
    at["olga"].refused(leave(rid=2, conversation="G", users=("olga",)), Code.NOT_PERMITTED)
    at["olga"].refused(
        commands.SetRole(rid=2, conversation="G", user="olga", role=Role.ADMIN), Code.NOT_PERMITTED
    )
    at["olga"].refused(
        commands.SetRole(rid=2, conversation="G", user="erin", role=Role.ADMIN), Code.UNKNOWN_USER
    )
    at["olga"].refused(
        commands.SetRole(rid=2, conversation="G", user="bob", role=Role.ADMIN), Code.UNKNOWN_USER
    )
    at["olga"].ask(commands.SetRole(rid=3, conversation="G", user="adam", role=Role.OWNER))
    roles = {
        one.user: one.role for one in at["olga"].ask(commands.ListMembers(rid=4, conversation="G")).members
    }
    assert roles == {"ada": Role.ADMIN, "adam": Role.OWNER, "cara": Role.MEMBER, "olga": Role.ADMIN}
    at["olga"].ask(leave(rid=5, conversation="G", users=("olga", "nobody")))
    at["adam"].ask(leave(rid=6, conversation="G", users=("cara", "ada")))
    at["adam"].ask(leave(rid=7, conversation="G", users=("adam",)))
    assert book.chat("G").members["adam"].joined is False
    book.check_agreement()


def test_groups_that_cannot_be(new_book: NewBook) -> None:
    """Ids, names, sizes and members of groups."""
    book, at = group_of(new_book, limits={"group_members_max": 6})
    olga = at["olga"]
    create = commands.CreateGroup
    for name in ("", "a b", "a~b", "x" * 65, "é"):
        olga.refused(create(rid=1, conversation=name, name="x"), Code.INVALID)
    assert olga.refused(create(rid=1, conversation="H", name="x" * 201), Code.INVALID).limit == 200
    long = create(rid=1, conversation="H", name="x", description="x" * 2001)
    assert olga.refused(long, Code.INVALID).limit == 2000
    olga.refused(create(rid=1, conversation="H", name="x", members=("zoe",)), Code.UNKNOWN_USER)
    at["erin"].refused(create(rid=1, conversation="G", name="x"), Code.ALREADY_EXISTS)
    assert olga.do(create(rid=2, conversation="G", name="again")) == [Done(2)]  # hers already
    olga.refused(commands.AddMembers(rid=1, conversation="G", users=("zoe",)), Code.UNKNOWN_USER)
    olga.refused(commands.ChangeGroup(rid=1, conversation="G", name="x" * 201), Code.INVALID)
    assert [name for _, _, name in book.store.all_conversations(0, 10)] == ["G"]
    book.user("u1", "u2")
    limit = olga.refused(
        commands.AddMembers(rid=1, conversation="G", users=("u1", "u2")), Code.GROUP_TOO_LARGE
    )
    assert limit.limit == 6
    names = ("adam", "ada", "bob", "cara", "erin", "u1")
    olga.refused(create(rid=1, conversation="H", name="x", members=names), Code.GROUP_TOO_LARGE)
    assert olga.do(commands.AddMembers(rid=3, conversation="G", users=("u1",)))[-1] == Done(3)
    olga.ask(commands.SendMessage(4, "bob~olga", "hi", 1))
    olga.told()
    olga.refused(commands.AddMembers(rid=1, conversation="bob~olga", users=("u1",)), Code.INVALID)


def test_dissolving(new_book: NewBook) -> None:
    """Everybody is told of the end and of their own leaving alone; what was said stays readable."""
    book, at = group_of(new_book)
    at["olga"].send("G")
    for device in at.values():
        device.told()
    frames = book.frames
    assert at["olga"].do(commands.DissolveGroup(rid=1, conversation="G"))[-1] == Done(1)
    assert book.frames - frames == 2 * 5 + 1
    for name in ("adam", "ada", "bob", "cara"):
        deleted, left = at[name].told()
        assert (deleted.register, deleted.value, left.member) == (Register.DELETED, True, name)
    assert at["olga"].do(commands.DissolveGroup(rid=2, conversation="G")) == [Done(2)]
    at["bob"].refused(commands.DissolveGroup(rid=2, conversation="G"), Code.NOT_A_MEMBER)
    at["bob"].refused(commands.SendMessage(2, "G", "x", 1), Code.NOT_A_MEMBER)
    at["olga"].refused(commands.CreateGroup(rid=2, conversation="G", name="x"), Code.ALREADY_EXISTS)
    assert len(at["bob"].ask(commands.FetchHistory(rid=3, conversation="G")).messages) == 1
    assert at["bob"].ask(commands.ListConversations(rid=3)).items == ()
    back = book.log_in("bob", "tablet")
    (part,) = back.pages[0].parts
    assert [register.register.value for register in part.registers] == ["deleted"]
    assert [member.user for member in part.members] == ["bob"]


def test_all_that_is_refused_is_named(new_book: NewBook) -> None:
    """One answer names every message that was not taken, own ones and for whatever reason: what it does not
    name counts as done."""
    _book, at = group_of(new_book)
    at["olga"].send("G", asks=True)
    at["olga"].send("G")
    at["bob"].send("G")
    at["olga"].send("G", asks=True)
    at["olga"].ask(commands.RemoveMembers(rid=1, conversation="G", users=("bob",)))
    at["olga"].send("G", asks=True)
    at["olga"].ask(commands.AddMembers(rid=1, conversation="G", users=("bob",)))
    at["olga"].send("G", asks=True)
    at["bob"].told()
    (mixed,) = at["bob"].do(commands.ReadMessages(6, "G", (2, 7), "ok"))
    assert (mixed.code, mixed.ranges) == (Code.OWN_MESSAGE, (2, 4, 5, 6))
    (mixed,) = at["bob"].do(commands.ReadMessages(7, "G", (2, 3, 4, 7), "ok"))
    assert (mixed.code, mixed.ranges) == (Code.NOT_ASKED, (2, 3, 5, 6))


def test_what_has_to_be_loaded_is_counted_once(new_book: NewBook) -> None:
    """A group of users who are not in memory costs one call, though its command is run again for each of
    them."""
    book = new_book(settings=json.dumps({"limits": {"changes_burst": 1, "changes_per_second": 0}}))
    book.user("olga", "adam", "bob")
    book.evict()
    olga = book.log_in("olga", "phone")
    made = olga.ask(commands.CreateGroup(rid=1, conversation="H", name="x", members=("adam", "bob")))
    assert made == Done(1)
