"""The HTTP face: lists of conversations with unread counts and last messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from receipts.easemob import bodies
from receipts.easemob import msync_pb2 as pb
from tests.easemob.face import APP, Caller, User, faced, refusal

pytestmark = pytest.mark.anyio


async def listed(user: User, **query: Any) -> tuple[list[dict[str, Any]], str]:
    """A page of the list as the SDK asks for it, and the next cursor."""
    wanted = {"limit": 20, "cursor": "", "need_mark": "true", "needEmptySession": "false", **query}
    answer = await user.get(f"sdk/user/{user.name}/user_channels/list", **wanted)
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    return data["channel_infos"], data["cursor"]


async def test_unread_counts_and_last_messages() -> None:
    """Each conversation is listed, the latest first, with what is unread of it and its last message."""
    async with faced() as here:
        alice, bob = await here.users("alice", "bob")
        group = await alice.group("bob", name="G")
        async with alice.device() as phone:
            await phone.send("bob", "hello")
            sent = await phone.send("bob", "are you there?")
            await phone.send(group, "all of you?")
        (first, second), cursor = await listed(bob)
        assert cursor == ""
        assert (first["session_to"], first["session_type"], first["unread_num"]) == (group, "groupchat", 1)
        assert json.loads(first["meta"]["payload"])["type"] == "groupchat"
        assert (first["meta"]["to"], first["is_top"]) == (group, False)
        assert (second["session_to"], second["session_type"], second["unread_num"]) == ("alice", "chat", 2)
        assert second["meta"].pop("timestamp") == sent.at_ms
        payload = json.loads(second["meta"].pop("payload"))
        assert second["meta"] == {"id": str(sent.message_id), "from": "alice", "to": "bob"}
        assert payload["bodies"] == [{"type": "txt", "msg": "are you there?"}]
        assert (payload["from"], payload["to"], payload["type"]) == ("alice", "bob", "chat")
        assert payload["ext"] == {}
        async with bob.device() as tablet:
            await tablet.read("alice")
            await tablet.flush()
            await tablet.server_badge()
        assert [info["unread_num"] for info in (await listed(bob))[0]] == [1, 0]
        mine = (await listed(alice))[0]
        assert [(info["session_to"], info["unread_num"]) for info in mine] == [(group, 0), ("bob", 0)]


async def test_pages_of_the_list() -> None:
    """Pages follow one another by cursor and hold every conversation once, those without a message only when
    asked for; nothing is pinned."""
    async with faced() as here:
        bob, *others = await here.users("bob", "a", "b", "c", "d", "e")
        empty = await bob.group(name="quiet")
        for other in others:
            async with other.device() as phone:
                await phone.send("bob", "hello")
        found, cursor = list[str](), ""
        while True:
            page, cursor = await listed(bob, limit=2, cursor=cursor)
            assert len(page) <= 2
            found += [info["session_to"] for info in page]
            if not cursor:
                break
        assert found == ["e", "d", "c", "b", "a"]
        everything = [info["session_to"] for info in (await listed(bob, needEmptySession="true"))[0]]
        assert sorted(everything) == sorted([*found, empty])
        assert await listed(bob, is_top="true") == ([], "")
        assert refusal(await others[0].get("sdk/user/bob/user_channels/list"))[0] == 401
        forged = Caller(here, APP, f"{bob.token_text.rpartition('.')[0]}.{'A' * 43}")
        assert refusal(await forged.get("sdk/user/bob/user_channels/list", is_top="true"))[0] == 401


async def test_the_older_lists() -> None:
    """Older SDKs get the same by channel ids, at once or by numbered pages."""
    async with faced() as here:
        bob, *others = await here.users("bob", "a", "b", "c")
        group = await bob.group(name="G")
        async with bob.device() as phone:
            await phone.send(group, "hello")
        for other in others:
            async with other.device() as phone:
                await phone.send("bob", "hello")
        answer = await bob.get("users/bob/user_channels")
        infos = answer.json()["data"]["channel_infos"]
        assert [(info["channel_id"], info["unread_num"]) for info in infos] == [
            ("org#app_c@easemob.com", 1),
            ("org#app_b@easemob.com", 1),
            ("org#app_a@easemob.com", 1),
            (f"org#app_{group}@conference.easemob.com", 0),
        ]
        pages = [
            (await bob.get("users/bob/user_channels/page", pageNum=number, pageSize=3)).json()["data"]
            for number in (1, 2, 3)
        ]
        assert [page["channel_infos"] for page in pages] == [infos[:3], infos[3:], []]


async def test_last_messages_of_every_sort() -> None:
    """A message with attributes comes with them; a recalled last one leaves the one before it; attributes
    that are no JSON are left out rather than spoiling the list."""
    async with faced() as here:
        alice, bob = await here.users("alice", "bob")
        body = pb.MessageBody(contents=[pb.Content(type=0, text="with more")])
        body.ext.add(key="n", type=2, varintValue=7)
        async with alice.device() as phone:
            await phone.send("bob", bodies.MARK + body.SerializeToString())
            payload = await _last_payload(bob)
            assert (payload["bodies"][0]["msg"], payload["ext"]) == ("with more", {"n": 7})
            recalled = await phone.send("bob", "oh no")
            await phone.recall("bob", recalled.seq)
            assert (await _last_payload(bob))["ext"] == {"n": 7}
            body.ext.add(key="x", type=6, doubleValue=float("nan"))
            await phone.send("bob", bodies.MARK + body.SerializeToString())
            assert (await _last_payload(bob))["ext"] == {}


async def _last_payload(user: User) -> dict[str, Any]:
    (info,), _ = await listed(user)
    found: dict[str, Any] = json.loads(info["meta"]["payload"])
    return found
