"""What is refused, with the SDK's own error types: nothing changes, nobody else is told."""

from __future__ import annotations

from typing import Any

import pytest

from receipts.core.events import GroupReceiptsExpired
from receipts.node.commands import RevokeTokens

from .driver import Device, SDKError
from .stage import APP, BRIEF, SLOW, SMALL, TIGHT, Stage

pytestmark = pytest.mark.anyio

ASKING = {"chatType": "groupChat", "msgConfig": {"allowGroupAck": True}}


async def refused(device: Device, **message: Any) -> tuple[Any, Any]:
    """The type and text of a refusal."""
    with pytest.raises(SDKError) as error:
        await device.send(**message)
    return error.value.type, error.value.message


async def rejected(device: Device, method: str, **arguments: Any) -> tuple[Any, Any]:
    """The same of a call."""
    with pytest.raises(SDKError) as error:
        await device.call(method, arguments)
    return error.value.type, error.value.message


def text(to: str, **more: Any) -> dict[str, Any]:
    return {"type": "txt", "chatType": "singleChat", "to": to, "msg": "hello", **more}


def answer(group: str, mid: str) -> dict[str, Any]:
    return {"type": "read", "chatType": "groupChat", "to": group, "id": mid, "ackContent": ""}


async def test_in_groups(stage: Stage) -> None:
    """Not a member, not an admin, no such group, not asked for, not in the audience: each its own error."""
    owner, member, outsider = await stage.people("olga", "bob", "erin")
    olga, bob, erin = [await stage.device(user) for user in (owner, member, outsider)]
    team = await stage.group(olga, member)
    asked = await olga.text(team, "at nine?", **ASKING)
    plain = await olga.text(team, "good morning", chatType="groupChat")
    await bob.heard_of("onTextMessage", id=plain)
    assert await refused(erin, **text(team, chatType="groupChat")) == (602, "not in group or chatroom")
    assert await refused(erin, **answer(team, asked)) == (602, "not in group or chatroom")
    assert await refused(bob, **text(team, **ASKING)) == (503, "group ack msg permission denied")
    assert await refused(bob, **text("999999999999999", chatType="groupChat")) == (605, "group not found")
    assert await refused(bob, **answer(team, plain)) == (503, "group ack msg not found")
    assert await refused(bob, **answer(team, "4611686018427387904")) == (503, "group ack msg not found")
    with pytest.raises(SDKError) as forbidden:
        await erin.call("getGroupMsgReadUser", {"msgId": asked, "groupId": team})
    assert forbidden.value.type == 602
    with pytest.raises(SDKError) as denied:
        await bob.call("getGroupMsgReadUser", {"msgId": asked, "groupId": team})
    assert denied.value.type == 603
    await olga.call("inviteUsersToGroup", {"groupId": team, "users": [outsider]})
    assert (await refused(erin, **answer(team, asked)))[0] == 503
    await stage.settle(olga)
    assert not olga.all("onReadMessage")
    assert not [t for t in olga.all("onTextMessage") if t["chatType"] == "groupChat"]


async def test_to_nobody(stage: Stage) -> None:
    """A text to a user who does not exist is refused."""
    (alice,) = await stage.people("alice")
    phone = await stage.device(alice)
    error_type, message = await refused(phone, **text("nobody-at-all"))
    assert error_type == 204
    assert "doesn't exist" in message


async def test_without_the_feature(stage: Stage) -> None:
    """R12: an app without group receipts says so, and takes the same text when it does not ask."""
    owner, member = await stage.people("olga", "bob", app_key=SMALL)
    olga = await stage.device(owner, app_key=SMALL)
    team = await stage.group(olga, member)
    assert await refused(olga, **text(team, **ASKING)) == (503, "group ack not open")
    mid = await olga.text(team, "without asking", chatType="groupChat")
    error_type, _ = await rejected(olga, "getGroupMsgReadUser", msgId=mid, groupId=team)
    assert error_type == 505


async def test_calls(stage: Stage) -> None:
    """What the calls on groups refuse has the SDK's own types too; and so has a token that was taken back."""
    owner, member, outsider = await stage.people("olga", "bob", "erin")
    olga, erin = await stage.device(owner), await stage.device(outsider)
    full = {"groupname": "G", "desc": "", "members": [member], "public": False, "maxusers": 2}
    group = (await olga.call("createGroup", {"data": full}))["data"]["groupid"]
    plain = await olga.text(group, "nobody is asked", chatType="groupChat")
    this = {"groupId": group}
    for device, method, arguments, error_type in (
        (olga, "inviteUsersToGroup", {**this, "users": [outsider]}, 607),
        (olga, "createGroup", {"data": {**full, "members": ["nobody-at-all"]}}, 204),
        (olga, "getGroupMsgReadUser", {**this, "msgId": plain}, 17),
        (olga, "getGroupMsgReadUser", {**this, "msgId": "4611686018427387904"}, 17),
        (olga, "getGroupInfo", {"groupId": "999999999999999"}, 605),
        (erin, "getGroupInfo", this, 602),
        (erin, "joinGroup", {**this, "message": ""}, 603),
        (erin, "setGroupAdmin", {**this, "username": outsider}, 602),
    ):
        assert (await rejected(device, method, **arguments))[0] == error_type, method
    await stage.operate(RevokeTokens(rid=1, app=APP, user=owner))
    await olga.heard_of("onDisconnected")
    assert await rejected(olga, "getGroupInfo", **this) == (52, "Unable to authenticate (OAuth)")


async def test_apps_do_not_meet(stage: Stage) -> None:
    """The same story in two apps of one node: the feature is off in one, and nothing crosses."""
    (here,) = await stage.people("alice", registering=True)
    phone = await stage.device(here)
    elsewhere = await stage.page(here, app_key=SMALL)
    with pytest.raises(SDKError) as unknown:
        await elsewhere.open(pwd="wrong and unknown")
    assert (unknown.value.type, unknown.value.message) == (1, "user not found")
    token = (await (await stage.page(here, "laptop", app_key=APP)).open(pwd="correct horse"))["accessToken"]
    with pytest.raises(SDKError) as foreign:
        await elsewhere.open(accessToken=token)
    assert foreign.value.type == 28
    await stage.settle(phone)
    assert not phone.all("onDisconnected")


async def test_small_groups_and_few_questions(stage: Stage) -> None:
    """A group above the limit may not ask, and no group more often than the app's day allows."""
    owner, *members = await stage.people("olga", "bob", "cara", "dan", app_key=TIGHT)
    olga = await stage.device(owner, app_key=TIGHT)
    large = await stage.group(olga, *members)
    assert (await refused(olga, **text(large, **ASKING)))[0] == 503
    small = await stage.group(olga, *members[:2])
    for question in ("one", "two"):
        await olga.text(small, question, **ASKING)
    assert await refused(olga, **text(small, **ASKING)) == (503, "limit send group ack msg")
    await olga.text(small, "without asking", chatType="groupChat")


async def test_an_answer_that_comes_too_late(stage: Stage) -> None:
    """What was asked longer ago than receipts are kept cannot be answered, and has no readers to list."""
    owner, member = await stage.people("olga", "bob", app_key=BRIEF)
    olga = await stage.device(owner, app_key=BRIEF)
    bob = await stage.device(member, app_key=BRIEF)
    team = await stage.group(olga, member)
    async with stage.native(owner, app=BRIEF) as phone:
        expired: list[GroupReceiptsExpired] = []
        phone.on(GroupReceiptsExpired, expired.append)
        asked = await olga.text(team, "at once?", **ASKING)
        await bob.heard_of("onTextMessage", id=asked)
        await phone.until(lambda: expired)
    assert await refused(bob, **answer(team, asked)) == (503, "group ack msg not found")
    error_type, message = await rejected(olga, "getGroupMsgReadUser", msgId=asked, groupId=team)
    assert error_type == 17
    assert "group ack msg not found: expired" in message
    await stage.settle(olga, app_key=BRIEF)
    assert not olga.all("onReadMessage")


async def test_too_fast(stage: Stage) -> None:
    """R13: over the rate a text is refused as `traffic limit`, and a call over HTTP as too many."""
    alice, bob = await stage.people("alice", "bob", app_key=SLOW)
    phone = await stage.device(alice, app_key=SLOW)
    for _ in range(2):
        await phone.text(bob, "within the limit")
    assert await refused(phone, **text(bob)) == (509, "traffic limit")
    page = {"pageSize": 20, "cursor": ""}
    for _ in range(2):
        await phone.call("getServerConversations", page)
    with pytest.raises(SDKError) as limited:
        await phone.call("getServerConversations", page)
    assert limited.value.type == 500
