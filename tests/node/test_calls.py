"""Calls without a device: who makes them, and what groups they find and open."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from receipts.core.errors import Code
from receipts.core.events import Joining, Role
from receipts.core.ids import MessageId
from receipts.node.commands import (
    AddUser,
    Enter,
    Entered,
    FindGroup,
    Grant,
    GroupFound,
    GroupsFound,
    JoinGroup,
    ListGroups,
    ListPublicGroups,
    ListReadersOf,
    OpenGroup,
    RegisterUser,
    Text,
)
from receipts.wire import commands
from receipts.wire.updates import Done, Readers, Rejected
from tests.node.playbook import Device, Playbook

AB = "alice~bob"
NewBook = Callable[..., Playbook]


def enter(book: Playbook, user: str) -> Device:
    """Somebody who calls with a token."""
    call = book.stranger(f"call of {user}")
    (entered,) = call.do(Enter(rid=1, app="default", token=book.token(user)))
    assert isinstance(entered, Entered)
    assert entered.user == user
    return call


def group_of(call: Device, conversation: str) -> Any:
    found = call.ask(FindGroup(rid=9, conversation=conversation))
    assert isinstance(found, GroupFound)
    return found.group


def test_a_call_is_made_in_the_name_of_a_token(book: Playbook) -> None:
    """Who enters asks like a device of that user, but is none: nobody is there, and nothing is pushed."""
    bob = book.log_in("bob", "phone")
    call = enter(book, "alice")
    assert call.do(Enter(app="default", token=book.token("alice"))) == []
    bob.send(AB)
    assert call.told() == []
    badge = call.ask(commands.GetBadge(rid=2))
    assert badge.messages == 1
    assert call.ask(commands.ListDevices(rid=3)).items == ()
    call.ask(commands.ReadConversation(4, AB, 1))
    assert [update.ranges for update in bob.told()] == [(1, 2)]
    call.lose()
    book.check_agreement()


@pytest.mark.parametrize(
    "token",
    ["no token", jwt.encode({"sub": 7}, "x" * 32), jwt.encode({"sub": "No Name"}, "x" * 32)],
    ids=["garbage", "nobody", "no user id"],
)
def test_who_shows_no_token_of_the_node_does_not_enter(book: Playbook, token: str) -> None:
    """What is no token, or for no user, is told from a token that is not good any more; the link stays."""
    call = book.stranger()
    call.refused(Enter(rid=1, app="default", token=token), Code.TOKEN_INVALID)
    call.refused(Enter(rid=2, app="nowhere", token=token), Code.UNKNOWN_APP)
    old = book.token("alice", lifetime_ms=10_000)
    book.sweep(10_000)
    call.refused(Enter(rid=3, app="default", token=old), Code.TOKEN_EXPIRED)
    assert isinstance(call.ask(Enter(rid=4, app="default", token=book.token("alice"))), Entered)


def test_a_token_for_a_password(new_book: NewBook) -> None:
    """The right password gets a token that lets in; an unknown user is told from a wrong password."""
    book = new_book(settings=json.dumps({"limits": {"logins_burst": 4, "logins_per_minute": 1}}))
    book.user("alice", password="secret")
    book.user("bob")
    call = book.stranger()

    def grant(user: str, password: str, app: str = "default") -> Grant:
        return Grant(rid=1, app=app, user=user, password=password, lifetime_ms=60_000)

    granted = call.ask(grant("alice", "secret"))
    assert isinstance(granted, Text)
    entered = call.ask(Enter(rid=2, app="default", token=granted.text))
    assert (entered.user, entered.expires_ms) == ("alice", book.now_ms + 60_000)
    call.refused(grant("alice", "wrong"), Code.UNAUTHORIZED)
    call.refused(grant("bob", "hash:"), Code.UNAUTHORIZED)
    call.refused(grant("mallory", "secret"), Code.UNKNOWN_USER)
    call.refused(grant("alice", "secret", "nowhere"), Code.UNKNOWN_APP)
    answers = [call.ask(grant("alice", "guess")) for _ in range(3)]
    assert [answer.code for answer in answers] == [Code.UNAUTHORIZED] * 2 + [Code.RATE_LIMITED]


def test_accounts_that_people_open_themselves(new_book: NewBook) -> None:
    """A name is given once, also to two who want it at the same time; how many a second is limited."""
    book = new_book(
        settings=json.dumps({"limits": {"registrations_burst": 3, "registrations_per_second": 1}})
    )
    call, other = book.stranger("one"), book.stranger("other")

    def register(user: str, password: str = "secret", app: str = "default") -> RegisterUser:
        return RegisterUser(rid=1, app=app, user=user, password=password)

    book.hold_passwords = True
    book.run((call, register("alice")), (other, register("alice", "another")))
    book.check_passwords()
    assert call.told() == [Done(1)]
    assert [answer.code for answer in other.told()] == [Code.ALREADY_EXISTS]
    assert isinstance(
        call.ask(Grant(rid=2, app="default", user="alice", password="secret", lifetime_ms=9)), Text
    )
    call.refused(register("alice"), Code.ALREADY_EXISTS)
    call.refused(register("No Name"), Code.INVALID)
    call.refused(register("bob", ""), Code.INVALID)
    call.refused(register("bob", app="nowhere"), Code.UNKNOWN_APP)
    assert call.do(register("bob")) == [Done(1)]
    call.refused(register("cara"), Code.RATE_LIMITED)
    assert book.operator.do(AddUser(rid=1, app="default", user="cara")) == [Done(1)]
    book.check_agreement()


# -- groups


def test_what_is_kept_with_a_group(new_book: NewBook) -> None:
    """All that a group is opened with is found again, by members and others, over a restart as well."""
    book = new_book()
    book.user("alice", "bob", "cara")
    alice = enter(book, "alice")
    opened = OpenGroup(
        rid=2,
        conversation="G",
        name="g",
        description="about",
        members=("bob",),
        joining=Joining.ANYONE,
        inviting=Role.MEMBER,
        members_max=3,
        custom="mine",
    )
    assert alice.do(opened) == [Done(2)]
    assert alice.do(OpenGroup(rid=3, conversation="H", name="h")) == [Done(3)]
    made_ms = book.now_ms
    book = book.crash()
    for user, role in (("alice", Role.OWNER), ("bob", Role.MEMBER), ("cara", None)):
        group = group_of(enter(book, user), "G")
        assert (group.name, group.description, group.custom) == ("g", "about", "mine")
        assert (group.joining, group.inviting, group.members_max) == (Joining.ANYONE, Role.MEMBER, 3)
        assert (group.owner, group.count, group.role) == ("alice", 2, role)
        assert group.created_ms == made_ms
    plain = group_of(enter(book, "alice"), "H")
    assert (plain.joining, plain.inviting, plain.custom) == (Joining.INVITED, Role.ADMIN, "")
    assert plain.members_max == book.hub.world.apps["default"].limits.group_members_max
    book.check_agreement()


def test_groups_that_cannot_be_opened(new_book: NewBook) -> None:
    """An id is taken once, and a group is no larger than the app or itself allows; nothing is left behind."""
    book = new_book(settings=json.dumps({"limits": {"group_members_max": 3}}))
    names = ["bob", "cara", "dan"]
    book.user("alice", *names)
    alice = enter(book, "alice")

    def opened(conversation: str, *members: str, **more: Any) -> OpenGroup:
        return OpenGroup(rid=2, conversation=conversation, name="g", members=members, **more)

    assert alice.do(opened("G")) == [Done(2)]
    alice.refused(opened("G"), Code.ALREADY_EXISTS)
    alice.refused(opened("H", members_max=4), Code.GROUP_TOO_LARGE)
    alice.refused(opened("H", *names), Code.GROUP_TOO_LARGE)
    alice.refused(opened("H", "bob", "cara", members_max=2), Code.GROUP_TOO_LARGE)
    alice.refused(opened("H", "mallory"), Code.UNKNOWN_USER)
    alice.refused(opened("H", custom="x" * 100_000), Code.INVALID)
    alice.refused(opened(AB), Code.INVALID)
    alice.refused(FindGroup(rid=3, conversation="H"), Code.UNKNOWN_CONVERSATION)
    assert [group.conversation for group in alice.ask(ListGroups(rid=4)).groups] == ["G"]


def test_coming_in_by_oneself(new_book: NewBook) -> None:
    """Where everybody may one comes in, once, and as long as there is room; elsewhere by invitation alone."""
    book = new_book()
    book.user("alice", "bob", "cara", "dan")
    alice, bob, cara = (enter(book, user) for user in ("alice", "bob", "cara"))
    phone = book.log_in("alice", "phone")
    for conversation, joining in (
        ("open", Joining.ANYONE),
        ("listed", Joining.LISTED),
        ("closed", Joining.INVITED),
    ):
        made = OpenGroup(rid=2, conversation=conversation, name="g", joining=joining, members_max=2)
        assert alice.do(made) == [Done(2)]
    phone.told()
    assert bob.do(JoinGroup(rid=3, conversation="open")) == [Done(3)]
    assert {update.member for update in phone.told()} == {"bob"}
    assert bob.do(JoinGroup(rid=4, conversation="open")) == [Done(4)]
    assert phone.told() == []
    cara.refused(JoinGroup(rid=5, conversation="open"), Code.GROUP_TOO_LARGE)
    cara.refused(JoinGroup(rid=5, conversation="listed"), Code.NOT_PERMITTED)
    cara.refused(JoinGroup(rid=5, conversation="closed"), Code.NOT_PERMITTED)
    cara.refused(JoinGroup(rid=5, conversation="nowhere"), Code.UNKNOWN_CONVERSATION)
    bob.send(AB)
    cara.refused(JoinGroup(rid=5, conversation=AB), Code.UNKNOWN_CONVERSATION)
    alice.refused(commands.AddMembers(rid=6, conversation="open", users=("dan",)), Code.GROUP_TOO_LARGE)
    assert alice.do(commands.DissolveGroup(rid=7, conversation="open")) == [Done(7)]
    for call in (bob, cara):
        call.refused(JoinGroup(rid=8, conversation="open"), Code.UNKNOWN_CONVERSATION)
        call.refused(FindGroup(rid=8, conversation="open"), Code.UNKNOWN_CONVERSATION)
    book.check_agreement()


def test_who_may_invite(new_book: NewBook) -> None:
    """A group may let its members invite though the app does not, and the other way round."""
    book = new_book()
    book.user("alice", "bob", "cara")
    alice, bob = enter(book, "alice"), enter(book, "bob")
    for conversation, inviting in (("G", Role.MEMBER), ("H", Role.OWNER), ("I", None)):
        made = OpenGroup(rid=2, conversation=conversation, name="g", members=("bob",), inviting=inviting)
        assert alice.do(made) == [Done(2)]
    assert bob.do(commands.AddMembers(rid=3, conversation="G", users=("cara",))) == [Done(3)]
    for conversation in ("H", "I"):
        bob.refused(
            commands.AddMembers(rid=4, conversation=conversation, users=("cara",)), Code.NOT_PERMITTED
        )


def test_lists_of_groups(new_book: NewBook) -> None:
    """One's own groups by id, without those one left; everybody's in pages, without closed and dissolved."""
    book = new_book()
    book.user("alice", "bob")
    alice, bob = enter(book, "alice"), enter(book, "bob")
    for number in range(6):
        joining = Joining.INVITED if number == 2 else Joining.LISTED
        made = OpenGroup(rid=2, conversation=f"g{number}", name="g", members=("bob",), joining=joining)
        assert alice.do(made) == [Done(2)]
    bob.send(AB)
    bob.ask(commands.RemoveMembers(rid=3, conversation="g1", users=("bob",)))
    alice.ask(commands.DissolveGroup(rid=3, conversation="g4"))
    for evicted in (False, True):
        if evicted:
            book.evict()
        mine = bob.ask(ListGroups(rid=4))
        assert isinstance(mine, GroupsFound)
        assert [group.conversation for group in mine.groups] == ["g0", "g2", "g3", "g5"]
    pages: list[list[str]] = []
    after = ""
    while not pages or after:
        page = bob.ask(ListPublicGroups(rid=5, after=after, limit=2))
        pages.append([group.conversation for group in page.groups])
        after = page.cursor
    assert [name for names in pages for name in names] == ["g0", "g1", "g3", "g5"]
    assert max(map(len, pages)) == 2
    whole = bob.ask(ListPublicGroups(rid=6, limit=50))
    assert (len(whole.groups), whole.cursor) == (4, "")
    assert (whole.groups[0].owner, whole.groups[0].count) == ("", 0), "who is in there is for its members"


def test_readers_by_the_id_of_a_message(new_book: NewBook) -> None:
    """Readers of a message are found by the id that its author was given, however long ago it was sent."""
    book = new_book()
    book.user("olga", "bob")
    book.group("G", "olga", "bob")
    olga, bob = book.log_in("olga", "phone"), enter(book, "bob")
    sent = olga.send("G", asks=True)
    bob.ask(commands.ReadMessages(2, "G", (1, 2), "ok"))
    call = enter(book, "olga")
    for _ in range(2):
        readers = call.ask(ListReadersOf(rid=3, conversation="G", message_id=sent.message_id))
        assert isinstance(readers, Readers)
        assert [(reader.user, reader.content) for reader in readers.readers] == [("bob", "ok")]
        for _ in range(70):
            olga.send("G")
    for wrong in (sent.message_id + 1, sent.message_id + 10**6):
        refused = call.ask(ListReadersOf(rid=4, conversation="G", message_id=MessageId(wrong)))
        assert isinstance(refused, Rejected)
        assert refused.code is Code.UNKNOWN_MESSAGE
