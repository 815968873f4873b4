"""The words around the machine: names, codes, roles, roll-up."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import receipts.core
from receipts.core.conversation import Conversation, Receipt
from receipts.core.errors import Code, DecodeError, LocalProtocolError, Refused, RemoteProtocolError
from receipts.core.events import Role
from receipts.core.ids import ConversationKind, direct, direct_members, is_user_id
from receipts.core.policy import Features, GroupPolicy, RollUp, allowed, held_by_rule
from receipts.core.ranges import RangeSet
from receipts.core.status import Unknown


def test_a_role_may_do_what_roles_below_it_may() -> None:
    """Owner, admin, member: each is allowed what takes its own role or a lower one."""
    ranked = [Role.MEMBER, Role.ADMIN, Role.OWNER]
    for place, role in enumerate(ranked):
        assert [allowed(role, least) for least in ranked] == [place >= other for other in range(3)]
    assert GroupPolicy().may_ask_receipts is Role.ADMIN
    assert Features().roll_up is RollUp.ANY


def test_any_counts_what_one_device_holds_and_all_what_every_one_holds() -> None:
    """By 'any' all of it counts; by 'all' what the others hold, or need not hold because they came later."""
    held = {"phone": RangeSet((1, 5)), "tablet": RangeSet((2, 4))}
    since = {"phone": 0, "tablet": 0, "watch": 2, "laptop": 9}
    assert held_by_rule(RollUp.ANY, "phone", (1, 5), held, since) == (1, 5)
    assert held_by_rule(RollUp.ALL, "phone", (1, 5), held, {"phone": 0}) == (1, 5)
    assert held_by_rule(RollUp.ALL, "phone", (1, 5), held, since) == (2, 3)
    assert held["tablet"].ranges == (2, 4)


def test_the_conversation_of_two_has_one_name() -> None:
    """Either side names the conversation the same, and the name tells both; nothing else names two users."""
    assert direct("bob", "alice") == direct("alice", "bob") == "alice~bob"
    assert direct_members("alice~bob") == ("alice", "bob")
    for name in ("bob~alice", "alice~alice", "alice~", "~bob", "alice", "a~b~c", "Alice~bob", ""):
        assert direct_members(name) is None
    with pytest.raises(LocalProtocolError):
        direct("bob", "bob")


def test_what_names_a_user() -> None:
    """1 to 64 characters of a small alphabet without the tilde."""
    assert all(is_user_id(name) for name in ("a", "a.b-c_9", "x" * 64))
    assert not any(is_user_id(name) for name in ("", "x" * 65, "A", "a~b", "a b", "ä"))


def test_an_error_says_whose_fault_it_is_and_carries_its_numbers() -> None:
    """A refusal is the caller's, with code, limit and when to come again; a broken frame is the peer's."""
    refusal = Refused(Code.RATE_LIMITED, "slow down", retry_after_ms=250, limit=5)
    assert isinstance(refusal, LocalProtocolError)
    assert (refusal.code, refusal.reason, refusal.retry_after_ms, refusal.limit) == (
        Code.RATE_LIMITED,
        "slow down",
        250,
        5,
    )
    assert str(refusal) == "slow down (rate_limited)"
    broken = DecodeError("no frame")
    assert isinstance(broken, RemoteProtocolError)
    assert broken.code is Code.BAD_FRAME
    assert RemoteProtocolError("no").code is Code.PROTOCOL_ERROR


def test_an_answer_names_its_parts() -> None:
    """Version first, so that answers compare by it."""
    receipt = Receipt((7, 1000, "ok"))
    assert (receipt.version, receipt.at_ms, receipt.content) == (7, 1000, "ok")
    assert min(receipt, Receipt((6, 2000, "later"))).content == "later"


@pytest.mark.parametrize("why", list(Unknown))
def test_not_known_is_neither_yes_nor_no(why: Unknown) -> None:
    """Who takes an unknown for a yes or a no is told at once, whichever of the reasons it is (I-28)."""
    with pytest.raises(TypeError, match=f"{why.value}.*neither yes nor no"):
        bool(why)


def test_a_conversation_shows_what_it_is() -> None:
    """The representation is for people: id, head, members; two of one kind and state are equal."""
    chat = Conversation.between("bob", "alice")
    assert repr(chat) == "<Conversation alice~bob head 0, 2 members>"
    assert chat.kind is ConversationKind.DIRECT
    assert chat == Conversation.named("alice~bob")
    assert (chat == "alice~bob") is False


@pytest.mark.parametrize("name", [m.name for m in pkgutil.iter_modules(receipts.core.__path__)])
def test_all_is_exact(name: str) -> None:
    """`__all__` of each module is what it defines without a leading underscore, no more and no less."""
    module = importlib.import_module(f"receipts.core.{name}")
    # Constants and aliases have no home of their own: those are public that the module itself binds.
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    bound = set()
    for node in tree.body:
        targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
        bound |= {target.id for target in targets if hasattr(target, "id")}
        bound |= {node.name} if hasattr(node, "name") else set()
    assert sorted(module.__all__) == sorted(n for n in bound if not n.startswith("_"))
