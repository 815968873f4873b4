"""The SDK's own calls on groups, lists and messages, and what it makes of the answers."""

from __future__ import annotations

from collections.abc import Mapping
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


GROUP, PEER, MESSAGE = "the group", "bob", "the message"
"""Stand in calls for what a test has made."""

THIS_GROUP = {"groupId": GROUP}
THIS_CHAT = {"conversationId": PEER, "conversationType": "singleChat"}
REMINDING = {"options": {"paramType": 0, "remindType": "ALL"}}

NOT_THERE: dict[str, list[Any]] = {
    # contacts and block lists
    "getContacts": [],
    "getAllContacts": [],
    "addContact": [PEER, "hello"],
    "deleteContact": [PEER],
    "acceptContactInvite": [PEER],
    "setContactRemark": [{"userId": PEER, "remark": "x"}],
    "getBlocklist": [],
    "addUsersToBlocklist": [{"name": [PEER]}],
    # presence and push settings
    "subscribePresence": [{"usernames": [PEER], "expiry": 100}],
    "publishPresence": [{"description": "x"}],
    "getPresenceStatus": [{"usernames": [PEER]}],
    "setSilentModeForAll": [REMINDING],
    "getSilentModeForAll": [],
    "setSilentModeForConversation": [{"conversationId": PEER, "type": "singleChat", **REMINDING}],
    "setPushPerformLanguage": [{"language": "en"}],
    "uploadPushToken": [{"deviceId": "d", "deviceToken": "t", "notifierName": "n"}],
    # reactions, threads, translation, pinned messages
    "addReaction": [{"messageId": MESSAGE, "reaction": "x"}],
    "getReactionlist": [{"chatType": "singleChat", "messageId": [MESSAGE]}],
    "createChatThread": [{"parentId": GROUP, "name": "t", "messageId": MESSAGE}],
    "getJoinedChatThreads": [{"parentId": GROUP}],
    "translateMessage": [{"text": "x", "languages": ["en"]}],
    "getSupportedLanguages": [],
    "pinMessage": [{**THIS_CHAT, "messageId": MESSAGE}],
    "getServerPinnedMessages": [THIS_CHAT],
    # attributes, announcements, shared files
    "updateUserInfo": [{"nickname": "x"}],
    "fetchUserInfoById": [PEER],
    "setGroupMemberAttributes": [{**THIS_GROUP, "userId": PEER, "memberAttributes": {"a": "1"}}],
    "getGroupMemberAttributes": [{**THIS_GROUP, "userId": PEER}],
    "fetchGroupAnnouncement": [THIS_GROUP],
    "updateGroupAnnouncement": [{**THIS_GROUP, "announcement": "x"}],
    "getGroupSharedFilelist": [THIS_GROUP],
    # lists of who may not, or may all the same; who applies; who was invited
    "muteGroupMember": [{**THIS_GROUP, "username": PEER, "muteDuration": 1000}],
    "getGroupMutelist": [THIS_GROUP],
    "disableSendGroupMsg": [THIS_GROUP],
    "getGroupAllowlist": [THIS_GROUP],
    "addUsersToGroupAllowlist": [{**THIS_GROUP, "users": [PEER]}],
    "blockGroupMessages": [THIS_GROUP],
    "blockGroupMember": [{**THIS_GROUP, "username": PEER}],
    "getGroupBlocklist": [THIS_GROUP],
    "acceptGroupJoinRequest": [{**THIS_GROUP, "applicant": PEER}],
    "rejectGroupJoinRequest": [{**THIS_GROUP, "applicant": PEER}],
    "acceptGroupInvite": [{**THIS_GROUP, "invitee": PEER}],
    "rejectGroupInvite": [{**THIS_GROUP, "invitee": PEER}],
    # conversations on the server, history
    "pinConversation": [{**THIS_CHAT, "isPinned": True}],
    "addConversationMark": [{"conversations": [THIS_CHAT], "mark": 1}],
    "getServerConversationsByFilter": [{"pageSize": 10, "cursor": "", "filter": {"mark": 1}}],
    "deleteConversation": [{"channel": PEER, "chatType": "singleChat", "deleteRoam": True}],
    "getHistoryMessages": [{"targetId": PEER, "chatType": "singleChat", "pageSize": 20}],
    "removeHistoryMessages": [{"targetId": PEER, "chatType": "singleChat", "messageIds": [MESSAGE]}],
    "deleteAllMessagesAndConversations": [],
    "reportMessage": [{"reportType": "x", "reportReason": "y", "messageId": MESSAGE}],
    # chat rooms
    "getChatRooms": [{"pagenum": 1, "pagesize": 10}],
    "createChatRoom": [{"name": "x", "description": "", "maxusers": 10, "members": []}],
    "getChatRoomDetails": [{"chatRoomId": "1"}],
    "destroyChatRoom": [{"chatRoomId": "1"}],
}
"""The SDK's calls that the documentation says are not there, with arguments that the SDK takes."""


def filled_in(value: Any, known: Mapping[str, str]) -> Any:
    """Arguments with what stands for somebody or something replaced."""
    if isinstance(value, dict):
        return {name: filled_in(inner, known) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled_in(inner, known) for inner in value]
    return known.get(value, value) if isinstance(value, str) else value


async def test_what_is_not_there(stage: Stage) -> None:
    """A call of the SDK that this server does not have is refused in a way that the SDK understands, with the
    call in the text."""
    a, b = await stage.people("alice", "bob")
    alice = await stage.device(a)
    known = {PEER: b, GROUP: await stage.group(alice, b), MESSAGE: await alice.text(b, "hello")}
    for method, arguments in NOT_THERE.items():
        with pytest.raises(SDKError, match="this server does not have the call") as refused:
            await alice.call(method, *filled_in(arguments, known))
        assert refused.value.type == 53, method


async def test_messages_that_are_not_there(stage: Stage) -> None:
    """So is a message of a kind, or to somebody, that there is not; and the link stays."""
    a, b = await stage.people("alice", "bob")
    alice = await stage.device(a)
    group = await stage.group(alice, b)
    room, some = {"chatType": "chatRoom"}, {"chatType": "groupChat", "receiverList": [b]}
    for to, more, text in (
        ("1", room, "this kind of message is not supported"),
        (group, some, "messages to some members of a group are not supported"),
        (a, {}, "messages to oneself are not supported"),
    ):
        with pytest.raises(SDKError) as refused:
            await alice.text(to, "hello", **more)
        assert (refused.value.type, refused.value.message) == (503, text)
    with pytest.raises(SDKError) as refused:
        await alice.call("joinChatRoom", {"roomId": "1"})
    assert (refused.value.type, refused.value.message) == (503, "this kind of message is not supported")
    await stage.settle(alice)
    assert len(alice.all("onConnected")) == 1
