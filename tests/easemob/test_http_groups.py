"""The HTTP face: groups, who is in them, who may do what, and who has read a group message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from receipts.client.connection import Connection
from receipts.core.events import Register
from tests.easemob.face import APP, User, faced, refusal

pytestmark = pytest.mark.anyio


async def data(answer: Any) -> Any:
    """What a call that has to succeed answers."""
    found = await answer
    assert found.status_code == 200, found.text
    return found.json()["data"]


async def roles(user: User, group: str) -> dict[str, str]:
    """The members of a group, as the call for pages gives them."""
    members, cursor = dict[str, str](), "undefined"
    while cursor:
        answer = await user.get(f"chatgroups/{group}/users", cursor=cursor, limit=2, joined_time="true")
        assert answer.status_code == 200, answer.text
        for entry in answer.json()["data"]:
            ((role, name),) = entry.items()
            members[name] = role
        cursor = answer.json()["cursor"]
    return members


async def test_a_group_is_opened_and_described() -> None:
    """Who opens a group owns it; its particulars are as asked for, and its members' devices hear of it."""
    async with faced() as here:
        alice, bob, _ = await here.users("alice", "bob", "cara")
        async with bob.device() as phone:
            group = await alice.group(
                "BOB", "cara", name="Friends", desc="Of mine", maxusers=50, allowinvites=True, custom="{}"
            )
            assert group.isdecimal()
            await phone.until(lambda: _heard_of(phone, group))
        (found,) = await data(bob.get(f"chatgroups/{group}", joined_time="true"))
        created = found.pop("created")
        assert 0 <= here.node.hub.world.now_ms - created < 60_000
        assert found == {
            "id": group,
            "name": "Friends",
            "description": "Of mine",
            "owner": "alice",
            "public": True,
            "membersonly": False,
            "allowinvites": True,
            "maxusers": 50,
            "custom": "{}",
            "mute": False,
            "disabled": False,
            "affiliations_count": 3,
            "affiliations": [{"owner": "alice"}, {"member": "bob"}, {"member": "cara"}],
        }
        assert await roles(bob, group) == {"alice": "owner", "bob": "member", "cara": "member"}


def _heard_of(phone: Connection, group: str) -> bool:
    return any(item.conversation == group for item in phone.conversations())


async def test_several_groups_are_described_at_once() -> None:
    """Ids with commas between ask for each of these groups, in that order."""
    async with faced() as here:
        (alice,) = await here.users("alice")
        groups = [await alice.group(name=name) for name in ("B", "A")]
        found = await data(alice.get(f"chatgroups/{','.join(groups)}"))
        assert [item["name"] for item in found] == ["B", "A"]


async def test_lists_of_groups() -> None:
    """Groups that a user is in are listed with the user's role, in pages; public ones for everybody, and none
    that was dissolved."""
    async with faced() as here:
        alice, bob = await here.users("alice", "bob")
        public = [await alice.group("bob", name=f"G{number}") for number in range(5)]
        private = await alice.group("bob", name="P", public=False)
        gone = await alice.group("bob")
        await data(alice.delete(f"chatgroups/{gone}?version=v3&resource=web"))
        listed, cursor = list[str](), ""
        while True:
            answer = await bob.get("publicchatgroups", version="v3", limit=2, cursor=cursor)
            page = answer.json()
            assert len(page["data"]) <= 2
            listed += [item["id"] for item in page["data"]]
            cursor = page["cursor"]
            if not cursor:
                break
        assert sorted(public) == listed
        old = await data(bob.get("publicchatgroups", limit=1))
        assert old == [{"groupid": listed[0], "groupname": f"G{public.index(listed[0])}"}]
        joined = []
        for number in range(4):
            answer = await bob.get("users/bob/joined_chatgroups", pagenum=number, pagesize=2, version="v3")
            assert answer.json()["uri"].endswith("/users/bob/joined_chatgroups")
            joined += answer.json()["data"]
        assert [item["id"] for item in joined] == sorted([*public, private])
        assert {item["permission"] for item in joined} == {"member"}
        everything = await data(bob.get("users/bob/joined_chatgroups"))
        assert [item["groupid"] for item in everything] == sorted([*public, private])
        answer = await alice.get(
            "chatgroups/user/alice", pagenum=0, pagesize=1, needAffiliations="true", needRole="true"
        )
        (entity,) = answer.json()["entities"]
        assert entity["groupId"] == min([*public, private])
        assert (entity["permission"], entity["affiliations_count"]) == ("owner", 2)
        assert await data(bob.get("chatgroups/user/bob/joined_count")) == 6


async def test_who_may_come_in_by_themselves() -> None:
    """A public group takes whoever applies, one that needs approval or is private nobody; twice is once."""
    async with faced() as here:
        alice, bob = await here.users("alice", "bob")
        public = await alice.group()
        approved = await alice.group(approval=True)
        private = await alice.group(public=False)
        for _ in range(2):
            assert await data(bob.post(f"chatgroups/{public}/apply?resource=web", message="hi")) == {
                "action": "apply",
                "id": public,
                "result": True,
                "user": "bob",
            }
        assert await roles(bob, public) == {"alice": "owner", "bob": "member"}
        for group in (approved, private):
            status, text = refusal(await bob.post(f"chatgroups/{group}/apply", message=""))
            assert (status, "by invitation" in text) == (403, True)
        assert refusal(await bob.post("chatgroups/7/apply", message="")) == (
            404,
            "grpID 7 does not exist!",
        )
        (listed,) = await data(bob.get(f"chatgroups/{approved}"))
        assert (listed["membersonly"], listed["affiliations"]) == (True, [{"owner": "alice"}])
        assert "not members of this group" in refusal(await bob.get(f"chatgroups/{private}"))[1]


async def test_inviting() -> None:
    """Who is invited is in, with all that follows; members may invite where the group was opened so."""
    async with faced() as here:
        alice, bob, cara, _ = await here.users("alice", "bob", "cara", "dan")
        group = await alice.group("bob")
        assert await data(alice.post(f"chatgroups/{group}/invite", usernames=["Cara"])) == [
            {"action": "invite", "id": group, "result": True, "user": "cara"}
        ]
        assert refusal(await bob.post(f"chatgroups/{group}/invite", usernames=["dan"]))[0] == 403
        status, text = refusal(await alice.post(f"chatgroups/{group}/invite", usernames=["eve"]))
        assert (status, text.startswith("user not found")) == (404, True)
        assert refusal(await alice.post(f"chatgroups/{group}/invite", usernames=[]))[0] == 400
        free = await alice.group("bob", allowinvites=True)
        await data(bob.post(f"chatgroups/{free}/invite", usernames=["cara", "dan"]))
        assert await roles(cara, free) == {
            "alice": "owner",
            "bob": "member",
            "cara": "member",
            "dan": "member",
        }


async def test_a_group_has_its_own_limit() -> None:
    """A group is as large as it was opened for, and no larger than the app allows."""
    settings = json.dumps({"limits": {"group_members_max": 3}})
    async with faced(settings={APP: settings}) as here:
        alice, bob, cara, _ = await here.users("alice", "bob", "cara", "dan")
        too_many = "members size is greater than max user size !"
        answer = await alice.post("chatgroups", groupname="G", members=["bob", "cara", "dan"])
        assert (answer.status_code, too_many in refusal(answer)[1]) == (403, True)
        answer = await alice.post("chatgroups", groupname="G", members=[], maxusers=4)
        assert (answer.status_code, too_many in refusal(answer)[1]) == (403, True)
        answer = await alice.post("chatgroups", groupname="G", members=["bob", "cara"], maxusers=2)
        assert refusal(answer)[0] == 403
        pair = await alice.group("bob", maxusers=2)
        assert refusal(await cara.post(f"chatgroups/{pair}/apply", message=""))[0] == 403
        assert refusal(await alice.post(f"chatgroups/{pair}/invite", usernames=["cara"]))[0] == 403
        await data(bob.post(f"chatgroups/{pair}/apply", message=""))  # is in, which is no more members
        trio = await alice.group("bob", "cara")
        assert (await data(alice.get(f"chatgroups/{trio}")))[0]["maxusers"] == 3
        assert refusal(await alice.post(f"chatgroups/{trio}/invite", usernames=["dan"]))[0] == 403


async def test_admins() -> None:
    """The owner makes admins and plain members again; nobody else does, and only of members."""
    async with faced() as here:
        alice, bob, _, _ = await here.users("alice", "bob", "cara", "dan")
        group = await alice.group("bob", "cara")
        admin = f"chatgroups/{group}/admin"
        made = await data(alice.post(f"{admin}?resource=web&version=v3", newadmin="bob"))
        assert made == {"result": "success", "newadmin": "bob"}
        assert await data(alice.get(admin, version="v3")) == ["bob"]
        assert (await roles(bob, group))["bob"] == "admin"
        assert refusal(await bob.post(admin, newadmin="cara"))[0] == 403
        assert refusal(await alice.post(admin, newadmin="dan"))[0] == 404
        await data(bob.post(f"chatgroups/{group}/invite", usernames=["dan"]))
        gone = await data(alice.delete(f"{admin}/bob?resource=web&version=v3"))
        assert gone == {"result": "success", "oldadmin": "bob"}
        assert await data(alice.get(admin)) == []


async def test_leaving_and_being_put_out() -> None:
    """Members leave, admins put out, an owner hands over or dissolves; who is out is told 'not a member'."""
    async with faced() as here:
        alice, bob, cara, dan = await here.users("alice", "bob", "cara", "dan")
        group = await alice.group("bob", "cara", "dan")
        assert (await data(bob.delete(f"chatgroups/{group}/quit?resource=web")))["result"] is True
        not_in = refusal(await bob.get(f"chatgroups/{group}/users", limit=5))
        assert (not_in[0], "are not members of this group" in not_in[1]) == (403, True)
        assert refusal(await cara.delete(f"chatgroups/{group}/users/dan"))[0] == 403
        out = await data(alice.delete(f"chatgroups/{group}/users/DAN?resource=web"))
        assert (out["user"], out["result"]) == ("dan", True)
        assert refusal(await dan.get(f"chatgroups/{group}/admin"))[0] == 403
        assert refusal(await alice.delete(f"chatgroups/{group}/quit"))[0] == 403
        assert await data(alice.put(f"chatgroups/{group}", newowner="cara")) == {"newowner": True}
        assert await roles(cara, group) == {"alice": "admin", "cara": "owner"}
        assert refusal(await alice.delete(f"chatgroups/{group}"))[0] == 403
        await data(cara.delete(f"chatgroups/{group}?version=v3"))
        assert refusal(await cara.get(f"chatgroups/{group}")) == (
            404,
            f"grpID {group} does not exist!",
        )
        several = await alice.group("bob", "cara")
        assert [
            item["user"] for item in await data(alice.delete(f"chatgroups/{several}/users/bob,cara"))
        ] == [
            "bob",
            "cara",
        ]


async def test_names_are_changed() -> None:
    """The owner renames a group and describes it anew; what is not said stays."""
    async with faced() as here:
        alice, bob = await here.users("alice", "bob")
        group = await alice.group("bob", name="Old", desc="One")
        async with bob.device() as phone:
            await data(alice.put(f"chatgroups/{group}?resource=web", groupname="New"))
            await phone.until(lambda: any(item.name == "New" for item in phone.conversations()))
        await data(alice.put(f"chatgroups/{group}", description="Two"))
        (found,) = await data(bob.get(f"chatgroups/{group}"))
        assert (found["name"], found["description"]) == ("New", "Two")
        assert refusal(await bob.put(f"chatgroups/{group}", groupname="Mine"))[0] == 403
        assert refusal(await alice.put(f"chatgroups/{group}", custom="x"))[0] == 400


async def test_members_by_page_number() -> None:
    """The older call for members counts its pages from 1."""
    async with faced() as here:
        alice, *_ = await here.users("alice", "bob", "cara", "dan")
        group = await alice.group("bob", "cara", "dan")
        pages = [
            await data(alice.get(f"chatgroups/{group}/users", version="v3", pagenum=number, pagesize=3))
            for number in (1, 2, 3)
        ]
        assert pages == [
            [{"owner": "alice"}, {"member": "bob"}, {"member": "cara"}],
            [{"member": "dan"}],
            [],
        ]


async def test_strangers_learn_who_is_not_a_member() -> None:
    """About a group that is not theirs users are told so, about one that there is not that, by every call."""
    async with faced() as here:
        alice, bob = await here.users("alice", "bob")
        group = await alice.group(public=False)
        for method, path, body in (
            ("GET", "chatgroups/{}", None),
            ("PUT", "chatgroups/{}", {"groupname": "x"}),
            ("DELETE", "chatgroups/{}", None),
            ("GET", "chatgroups/{}/users?limit=9", None),
            ("DELETE", "chatgroups/{}/users/alice", None),
            ("DELETE", "chatgroups/{}/quit", None),
            ("POST", "chatgroups/{}/invite", {"usernames": ["bob"]}),
            ("GET", "chatgroups/{}/admin", None),
            ("POST", "chatgroups/{}/admin", {"newadmin": "bob"}),
            ("DELETE", "chatgroups/{}/admin/alice", None),
            ("GET", "chatgroups/{}/acks/2", None),
        ):
            status, text = refusal(await bob.call(method, path.format(group), body))
            assert (status, "are not members of this group" in text) == (403, True), path
            nowhere = refusal(await bob.call(method, path.format(77), body))
            assert nowhere == (404, "grpID 77 does not exist!"), path


async def test_readers_of_a_message() -> None:
    """The author of a message that asked lists who has read it, and nobody else does."""
    async with faced() as here:
        alice, bob, cara, _ = await here.users("alice", "bob", "cara", "dan")
        group = await alice.group("bob", "cara", "dan")
        async with alice.device() as phone:
            asked = await phone.send(group, "who?", asks=True)
            plain = await phone.send(group, "nobody was asked")
        path = f"chatgroups/{group}/acks/{asked.message_id}"
        found = await data(alice.get(path, limit=500, key="undefined"))
        assert (found["total"], found["userlist"], found["is_last"]) == (0, [], True)
        for reader in (cara, bob):
            async with reader.device() as tablet:
                await tablet.read_messages(group, [1], "{}")
                await tablet.flush()
        found = await data(alice.get(path, limit=500, key="undefined"))
        assert found["ackmid"] == str(asked.message_id)
        assert (found["total"], found["userlist"]) == (2, ["bob", "cara"])
        assert 0 <= here.node.hub.world.now_ms - found["timestamp"] < 60_000
        first = await data(alice.get(path, limit=1))
        assert (first["userlist"], first["is_last"], first["next_key"]) == (["bob"], False, "bob")
        second = await data(alice.get(path, limit=2, key=first["next_key"]))
        assert (second["userlist"], second["is_last"], second["total"]) == (["cara"], True, 2)
        assert refusal(await bob.get(path))[0] == 403
        for message in (plain.message_id, 1, 2**62):
            status, text = refusal(await alice.get(f"chatgroups/{group}/acks/{message}"))
            assert (status, text.startswith("group ack msg not found")) == (404, True)


async def test_readers_where_receipts_are_off() -> None:
    """Where an app has no group receipts, asking for readers says that the feature is not there."""
    settings = json.dumps({"features": {"group_receipts": False}})
    async with faced(settings={APP: settings}) as here:
        alice, _ = await here.users("alice", "bob")
        group = await alice.group("bob")
        async with alice.device() as phone:
            sent = await phone.send(group, "plain")
        answer = await alice.get(f"chatgroups/{group}/acks/{sent.message_id}")
        status, text = refusal(answer)
        assert (status, text.startswith("group ack not open")) == (403, True)
        assert answer.json()["error_code"] == 40000


async def test_what_is_kept_with_a_group_reaches_native_devices() -> None:
    """How one comes in, who may invite, the limit, the time and the application's own words are registers of
    the conversation, which members' devices get with it."""
    async with faced() as here:
        alice, bob = await here.users("alice", "bob")
        async with bob.device() as phone:
            group = await alice.group("bob", maxusers=9, allowinvites=True, custom="c")
            await phone.until(lambda: _heard_of(phone, group))
            (part,) = phone.session.replica.parts(group)
        known = {known.register: known.value for known in part.registers}
        assert isinstance(created := known.pop(Register.CREATED_MS), int)
        assert created > 0
        assert known == {
            Register.NAME: "G",
            Register.JOINING: "anyone",
            Register.INVITING: "member",
            Register.MEMBERS_MAX: 9,
            Register.CUSTOM: "c",
        }
