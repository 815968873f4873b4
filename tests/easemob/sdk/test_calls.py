"""The SDK's own calls on groups, lists and messages, and what it makes of the answers."""

from __future__ import annotations

from typing import Any

import pytest

from .driver import Device, SDKError
from .stage import Stage
from .story import is_id, matches

pytestmark = pytest.mark.anyio


async def members(device: Device, group: str) -> dict[str, str]:
    """Roles by user, as `getGroupMembers` tells."""
    found = await device.call("getGroupMembers", {"groupId": group})
    return {member["userId"]: member["role"] for member in found["data"]["members"]}


async def public_groups(device: Device) -> list[str]:
    """All that anybody may find, page by page."""
    found: list[str] = []
    cursor = ""
    while True:
        page = await device.call("listGroups", {"limit": 5, "cursor": cursor})
        found += [one["groupid"] for one in page["data"]]
        cursor = page["cursor"]
        if not cursor:
            return found


async def test_the_life_of_a_group(stage: Stage) -> None:
    """Made, joined, left, invited to, administered, handed over, dissolved: each call does what it says."""
    a, b, c = await stage.people("alice", "bob", "cara")
    alice, bob, cara = [await stage.device(user) for user in (a, b, c)]
    group = await stage.group(alice, b)
    this = {"groupId": group}
    (info,) = (await alice.call("getGroupInfo", this))["data"]
    assert matches(info, id=group, name="team", owner=a, affiliations_count=2, public=True)
    assert group in await public_groups(cara)
    await cara.call("joinGroup", {**this, "message": "let me in"})
    assert await members(alice, group) == {a: "owner", b: "member", c: "member"}
    await alice.call("setGroupAdmin", {**this, "username": c})
    assert (await alice.call("getGroupAdmin", this))["data"] == [c]
    (joined,) = (await cara.call("getJoinedGroups", {"pageNum": 0, "pageSize": 20}))["data"]
    assert matches(joined, groupid=group, groupname="team", role="admin")
    await alice.call("removeGroupAdmin", {**this, "username": c})
    await cara.call("leaveGroup", this)
    await alice.call("removeGroupMember", {**this, "username": b})
    assert await members(alice, group) == {a: "owner"}
    assert (await bob.call("getJoinedGroups", {"pageNum": 0, "pageSize": 20}))["data"] == []
    await alice.call("inviteUsersToGroup", {**this, "users": [b]})
    await alice.call("modifyGroup", {**this, "groupName": "renamed", "description": "by alice"})
    await alice.call("changeGroupOwner", {**this, "newOwner": b})
    (info,) = (await bob.call("getGroupInfo", this))["data"]
    assert matches(info, name="renamed", description="by alice", owner=b)
    with pytest.raises(SDKError) as refused:
        await alice.call("destroyGroup", this)
    assert refused.value.type == 603
    await bob.call("destroyGroup", this)
    with pytest.raises(SDKError) as gone:
        await bob.call("getGroupInfo", this)
    assert gone.value.type == 605


async def test_lists_of_conversations(stage: Stage) -> None:
    """Newest first, in pages, with what was said last and the count: the same in all three calls."""
    a, b, c = await stage.people("alice", "bob", "cara")
    alice, cara, bob = [await stage.device(user) for user in (a, c, b)]
    await alice.text(b, "first")
    await cara.text(b, "second", ext={"n": 1})
    last = await alice.text(b, "third")
    pages: list[dict[str, Any]] = []
    cursor = ""
    while not pages or cursor:
        found = (await bob.call("getServerConversations", {"pageSize": 1, "cursor": cursor}))["data"]
        pages += found["conversations"]
        cursor = found["cursor"]
    assert [page["conversationId"] for page in pages] == [a, c]
    assert [page["unReadCount"] for page in pages] == [2, 1]
    assert matches(pages[0]["lastMessage"], id=last, msg="third", chatType="singleChat", author=a, to=b)
    assert pages[1]["lastMessage"]["ext"] == {"n": 1}
    for arguments in ([], [{"pageNum": 1, "pageSize": 20}]):
        channels = (await bob.call("getConversationlist", *arguments))["data"]["channel_infos"]
        assert [(one["channel_id"], one["unread_num"]) for one in channels] == [
            (f"org#app_{a}@easemob.com", 2),
            (f"org#app_{c}@easemob.com", 1),
        ]
        assert channels[0]["lastMessage"]["msg"] == "third"


async def test_every_kind_of_message(stage: Stage) -> None:
    """Whatever the SDK can send comes out as it went in, with its fields and its `ext`."""
    a, b = await stage.people("alice", "bob")
    alice, bob = await stage.device(a), await stage.device(b)
    ext = {"text": "x", "whole": 7, "yes": True, "part": 1.5, "deep": {"list": [1, None, "two"]}}
    kinds: dict[str, dict[str, Any]] = {
        "onTextMessage": {"type": "txt", "msg": "ünï → 汉字 🙂"},
        "onCmdMessage": {"type": "cmd", "action": "refresh"},
        "onCustomMessage": {"type": "custom", "customEvent": "poll", "customExts": {"a": "1", "b": "2"}},
        "onLocationMessage": {"type": "loc", "addr": "here", "buildingName": "B", "lat": 31.5, "lng": -7.25},
    }
    for callback, message in kinds.items():
        sent = await alice.send(**message, chatType="singleChat", to=b, ext=ext)
        found = await bob.heard_of(callback, id=sent["serverMsgId"])
        assert matches(found, **message, author=a, to=b)
        for name, value in ext.items():
            assert found["ext"][name] == value


async def test_recalling(stage: Stage) -> None:
    """A message that was taken back is gone for the peer and does not count as unread."""
    a, b = await stage.people("alice", "bob")
    alice, bob = await stage.device(a), await stage.device(b)
    kept, taken = [await alice.text(b, text) for text in ("to be kept", "oops")]
    await bob.heard_of("onTextMessage", id=taken)
    assert await stage.unread(bob) == {a: 2}
    await alice.call("recallMessage", {"mid": taken, "to": b, "chatType": "singleChat"})
    told = await bob.heard_of("onRecallMessage", mid=taken)
    assert matches(told, author=a, to=b)
    assert is_id(told["id"])
    assert await stage.unread(bob) == {a: 1}
    await bob.send(type="read", chatType="singleChat", to=a, id=kept)
    await alice.heard_of("onReadMessage", mid=kept)


async def test_what_is_not_there(stage: Stage) -> None:
    """A call of the SDK that this server does not have is refused in a way that the SDK understands."""
    (alice,) = await stage.people("alice")
    phone = await stage.device(alice)
    for method, arguments in (
        ("getContacts", []),
        ("fetchUserInfoById", [alice]),
        ("getHistoryMessages", [{"targetId": "bob", "chatType": "singleChat", "pageSize": 20}]),
    ):
        with pytest.raises(SDKError, match="this server does not have the call") as refused:
            await phone.call(method, *arguments)
        assert refused.value.type == 53
