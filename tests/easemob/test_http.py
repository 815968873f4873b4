"""The HTTP face over real HTTP: accounts, tokens, what holds for every call, limits and apart apps."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import pytest

from receipts.node.commands import AddUser, ConfigureApp, RevokeTokens
from receipts.node.runner import Node
from receipts.storage.base import Batch, StoreFull
from receipts.storage.memory import MemoryStore
from receipts.storage.sqlite import SQLiteStore
from tests.easemob.face import APP, ORIGIN, Caller, User, faced, refusal

pytestmark = pytest.mark.anyio

NO_TOKEN = (401, "Unable to authenticate (OAuth)")


async def test_register_and_log_in() -> None:
    """Somebody registers and logs in, whatever the case of the name, and the token lets them in."""
    async with faced() as here:
        stranger = here.app()
        made = await stranger.post("users", username="Alice", password="secret", nickname="")
        assert made.status_code == 200
        (user,) = made.json()["entities"]
        assert (user["username"], user["type"], user["activated"]) == ("alice", "user", True)
        answer = await stranger.token("ALICE", "secret")
        assert answer.status_code == 200
        found = answer.json()
        assert found["expires_in"] == 86400
        assert found["user"]["username"] == "alice"
        alice = User(here, APP, found["access_token"], "alice")
        assert (await alice.get("users/alice/resources")).json()["data"] == []
        expires = (await alice.get("sdk/users/Alice/token/expires")).json()["expire_timestamp"]
        assert 0 <= here.node.hub.world.now_ms + 86_400_000 - expires < 60_000


async def test_what_registering_refuses() -> None:
    """A taken name, an impossible one and a missing password are each told in the vendor's words."""
    async with faced() as here:
        stranger = here.app()
        await here.user("alice")
        taken = await stranger.post("users", username="alice", password="p", nickname="")
        assert refusal(taken) == (
            400,
            "Application org#app Entity user requires that property named username be unique, "
            "value of alice exists",
        )
        assert taken.json()["error"] == "duplicate_unique_property_exists"
        assert refusal(await stranger.post("users", username="a b", password="p")) == (
            400,
            "username a b is not legal",
        )
        assert refusal(await stranger.post("users", username="bob", password="")) == (
            400,
            "password or pin must provided",
        )
        assert refusal(await stranger.post("users", username="bob", password="x" * 300))[0] == 400
        assert refusal(await stranger.token("bob", "p")) == (404, "user not found")


async def test_registering_at_once() -> None:
    """Of many who want the same name at the same time, in capitals or not, one gets it, with the password of
    that one."""
    async with faced() as here:
        names = ["zoe", "Zoe", "ZOE", "zoE"]
        answers: dict[str, httpx.Response] = {}

        async def register(name: str) -> None:
            answers[name] = await here.app().post("users", username=name, password=f"of {name}", nickname="")

        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(register, name)
        taken = [name for name in names if answers[name].status_code == 200]
        assert len(taken) == 1
        for name in set(names) - set(taken):
            assert "be unique, value of zoe exists" in refusal(answers[name])[1]
        await here.login("zoe", password=f"of {taken[0]}")


async def test_registration_is_closed_unless_it_is_opened() -> None:
    """Nobody registers themselves but where the flag, or the app's own feature, allows it."""
    async with faced("org#app", "org#open", open_registration=False) as here:
        closed = await here.app().post("users", username="alice", password="p", nickname="")
        assert refusal(closed) == (401, "Open registration doesn't allow, so register user need token")
        settings = json.dumps({"features": {"open_registration": True}})
        await here.node.operate(ConfigureApp(rid=1, app="org#open", settings=settings))
        opened = await here.app("org#open").post("users", username="alice", password="p", nickname="")
        assert opened.status_code == 200


async def test_what_a_login_refuses() -> None:
    """A wrong password and an unknown user are told in two texts that the SDK knows."""
    async with faced() as here:
        stranger = here.app()
        await here.node.operate(AddUser(rid=1, app=APP, user="alice", password="secret"))
        wrong = await stranger.token("alice", "wrong")
        assert refusal(wrong) == (400, "invalid password")
        assert wrong.json()["error"] == "invalid_grant"
        assert refusal(await stranger.token("bob", "secret")) == (404, "user not found")
        assert refusal(await stranger.token("not legal", "secret")) == (404, "user not found")
        assert refusal(await stranger.token("alice", ""))[0] == 400
        assert refusal(await stranger.post("token", grant_type="client_credentials"))[0] == 400
        assert (await stranger.token("alice", "secret")).status_code == 200


async def test_a_call_needs_a_good_token() -> None:
    """No token, garbage, a revoked one and one for somebody else or another app are all 'unable to
    authenticate', whichever call it is."""
    async with faced("org#app", "org#two") as here:
        alice, bob = await here.users("alice", "bob")
        other = await here.user("alice", "org#two")
        for token in ("", "nonsense", "e30.e30.e30", bob.token_text[:-3], other.token_text):
            assert refusal(await Caller(here, APP, token).get("users/alice/joined_chatgroups")) == NO_TOKEN
            assert refusal(await Caller(here, APP, token).post("chatgroups", groupname="G")) == NO_TOKEN
            assert refusal(await Caller(here, APP, token).get("sdk/users/alice/token/expires")) == NO_TOKEN
        assert refusal(await bob.get("users/alice/joined_chatgroups")) == NO_TOKEN
        assert (await alice.get("users/alice/joined_chatgroups")).status_code == 200
        await here.node.operate(RevokeTokens(rid=1, app=APP, user="alice"))
        assert refusal(await alice.get("users/alice/joined_chatgroups")) == NO_TOKEN


async def test_pages_of_other_origins_may_call() -> None:
    """A preflight is answered with 200 and what the SDK needs; every answer, errors too, names the origin and
    lets pages see when to come again."""
    async with faced() as here:
        preflight = await here.http.options(
            "/org/app/token",
            headers={
                "Origin": ORIGIN,
                "Access-Control-Request-Method": "DELETE",
                "Access-Control-Request-Headers": "authorization,content-type",
            },
        )
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == ORIGIN
        assert {"authorization", "content-type"} <= set(
            preflight.headers["access-control-allow-headers"].lower().replace(" ", "").split(",")
        )
        allowed = preflight.headers["access-control-allow-methods"]
        assert all(method in allowed for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"))
        for path in ("/nowhere", "/org/app/nowhere", "/org/else/token"):
            answer = await here.http.get(path, headers={"Origin": ORIGIN})
            assert answer.headers["access-control-allow-origin"] == ORIGIN
            assert answer.headers["access-control-expose-headers"] == "Retry-After"
            assert refusal(answer)


async def test_calls_that_are_not_there() -> None:
    """A call of the vendor's that this server does not have says so, in a way that the SDK knows; so does an
    app that is not served, and a path of nobody's."""
    async with faced() as here:
        (alice,) = await here.users("alice")
        for method, path in (
            ("GET", "chatrooms/1"),
            ("POST", "users/alice/contacts/apply"),
            ("PUT", "metadata/user/alice"),
            ("DELETE", "users/alice/user_channel"),
        ):
            answer = await alice.call(method, path)
            assert refusal(answer)[0] == 400
            assert answer.json()["error_code"] == 40009
            assert path in answer.json()["error_description"]
        elsewhere = await Caller(here, "org#else", alice.token_text).get("users/alice/joined_chatgroups")
        assert refusal(elsewhere) == (
            404,
            "Could not find application for org/else from URI: /org/else/users/alice/joined_chatgroups",
        )
        assert refusal(await here.http.get("/"[:0] + "/a"))[0] == 404
        health = await here.http.get("/health")
        assert (health.status_code, health.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"no json", 400),
        (b"[]", 400),
        (b"[" * 100_000, 400),
        (b'{"groupname": 7}', 400),
        (b'{"groupname": "\\ud800"}', 400),
        (b'{"members": "bob"}', 400),
        (b'{"members": [7]}', 400),
        (b'{"members": ["no user can be called this"]}', 404),
        (b'{"maxusers": -1}', 400),
        (b'{"maxusers": true}', 400),
        (b'{"maxusers": 1e999}', 400),
        (b'{"public": "perhaps"}', 400),
        (b'{"desc": "' + b"x" * 3000 + b'"}', 400),
        (b'{"desc": "' + b"x" * 600_000 + b'"}', 413),
        (b'{"owner": "bob"}', 401),
    ],
)
async def test_bodies_that_make_no_sense(body: bytes, status: int) -> None:
    """Whatever is sent as a body is read or refused in the vendor's shape, and the node goes on."""
    async with faced() as here:
        (alice,) = await here.users("alice")
        headers = {"Authorization": f"Bearer {alice.token_text}", "Content-Type": "application/json"}
        answer = await here.http.post("/org/app/chatgroups", content=body, headers=headers)
        assert refusal(answer)[0] == status
        assert (await alice.get("users/alice/joined_chatgroups")).status_code == 200


async def test_a_body_that_does_not_come() -> None:
    """Who says how much will come and then stops is told so; a body in the smallest pieces is read."""
    async with faced(body_seconds_max=0.2) as here:
        url = here.http.base_url
        async with await anyio.connect_tcp(url.host, url.port or 80) as stream:
            head = b"POST /org/app/token HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
            await stream.send(head + b'{"grant_type":')
            answer = b""
            while b"request_timeout" not in answer:
                answer += await stream.receive()
            assert answer.startswith(b"HTTP/1.1 408 ")
        text = b'{"grant_type":"password","username":"nobody","password":"x"}'

        async def pieces() -> AsyncIterator[bytes]:
            for index in range(len(text)):
                yield text[index : index + 1]

        answered = await here.http.post("/org/app/token", content=pieces())
        assert refusal(answered) == (404, "user not found")


@pytest.mark.parametrize(
    "path",
    [
        "chatgroups/%00/users",
        "chatgroups/alice~bob/users",
        "chatgroups/%ED%A0%80",
        f"chatgroups/{'1' * 500}",
        "chatgroups/1/acks/1e9",
        "chatgroups/1/acks/99999999999999999999",
        "chatgroups/1/acks/9999999999999999999",
        "chatgroups/1/users?limit=many",
        "chatgroups/1/users/%F0%9F%98%80",
        "chatgroups/1/admin/%20",
        "sdk/user/alice/user_channels/list?cursor=elsewhere",
        "sdk/user/alice/user_channels/list?limit=-1",
        "users/alice/user_channels/page?pageNum=x",
    ],
)
async def test_paths_and_parameters_that_make_no_sense(path: str) -> None:
    """Nothing in a path or a query is taken for more than it is; the node goes on."""
    async with faced() as here:
        (alice,) = await here.users("alice")
        await here.user("bob")
        method = "DELETE" if "/admin/" in path or "/users/%" in path else "GET"
        assert refusal(await alice.call(method, path))[0] in (400, 404)
        assert (await alice.get("users/alice/joined_chatgroups")).status_code == 200


async def test_nobody_appears_online_by_calling() -> None:
    """A call makes no device known, and what waits for the user's return goes on waiting."""
    async with faced() as here:
        olga, bob = await here.users("olga", "bob")
        group = await olga.group("bob")
        async with olga.device() as phone:
            await phone.send(group, "who reads this?", asks=True)
        async with bob.device() as tablet:
            await tablet.read_messages(group, [1], "I do")
            await tablet.flush()
            assert (await bob.get("users/bob/resources")).json()["data"] == [{"res": "phone"}]
        for _ in range(3):
            assert (await olga.get("users/olga/resources")).json()["data"] == []
        async with olga.device() as phone:
            await phone.until(lambda: phone.known_readers(group, 1))
            assert [device.device for device in await phone.devices()] == ["phone"]


async def test_apps_are_apart() -> None:
    """Users of one name in two apps have nothing to do with each other: neither accounts, nor groups, nor
    limits, nor switches."""
    limits = {"queries_burst": 3, "queries_per_second": 0.001}
    off = json.dumps({"features": {"group_receipts": False}, "limits": limits})
    async with faced("org#one", "org#two", settings={"org#two": off}) as here:
        one, two = await here.user("alice", "org#one"), await here.user("alice", "org#two")
        group = await one.group()
        assert [item["id"] for item in (await _public(one))] == [group]
        assert refusal(await two.get(f"chatgroups/{group}")) == (404, f"grpID {group} does not exist!")
        answers = [await two.get("publicchatgroups", version="v3") for _ in range(4)]
        assert [answer.status_code for answer in answers[:2]] == [200, 200]
        assert answers[-1].status_code == 429
        assert len([await one.get("publicchatgroups", version="v3") for _ in range(10)]) == 10
        assert refusal(await here.app("org#two").token("alice", "p")) == (400, "invalid password")


async def _public(user: User) -> list[dict[str, str]]:
    found: list[dict[str, str]] = (await user.get("publicchatgroups", version="v3", limit=20)).json()["data"]
    return found


async def test_call_rates_are_limited() -> None:
    """Over an app's rate a call is answered with 429 and the time to come again, and let in when the rate
    allows it; calls of others are not concerned."""
    limits = {"changes_per_second": 0.5, "changes_burst": 2, "logins_burst": 1, "registrations_burst": 1}
    limits |= {"logins_per_minute": 0.1, "registrations_per_second": 0.001}
    async with faced(settings={APP: json.dumps({"limits": limits})}) as here:
        alice, bob = await here.users("alice", "bob")
        answers = [await alice.post("chatgroups", groupname="G", members=[]) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert "reached api limit" in refusal(answers[2])[1]
        assert 0 < answers[2].json()["retry_after_ms"] <= 2000
        assert answers[2].headers["retry-after"] in ("1", "2")
        await bob.group()
        more = json.dumps({"limits": {**limits, "changes_per_second": 1000.0}})
        await here.node.operate(ConfigureApp(rid=1, app=APP, settings=more))
        await alice.group()
        stranger = here.app()
        await stranger.token("alice", "p")
        assert refusal(await stranger.token("alice", "p"))[0] == 429
        assert (await stranger.post("users", username="cara", password="p")).status_code == 200
        assert refusal(await stranger.post("users", username="dan", password="p"))[0] == 429


async def test_what_was_answered_is_on_disk(tmp_path: Path) -> None:
    """After a call was answered, the node may be gone: another one on its directory knows what was done."""
    async with faced(store=SQLiteStore(tmp_path)) as here:
        alice, _ = await here.users("alice", "bob")
        group = await alice.group("bob", custom="mine", maxusers=50)
        before = (await alice.get(f"chatgroups/{group}")).json()["data"]
    async with faced(store=SQLiteStore(tmp_path)) as again:
        alice = User(again, APP, alice.token_text, "alice")
        assert (await alice.get(f"chatgroups/{group}")).json()["data"] == before
        assert before[0]["custom"] == "mine"


class FullStore(MemoryStore):
    """Memory that has no room for as long as it is told so."""

    full = False

    def commit(self, batch: Batch) -> None:
        if self.full:
            raise StoreFull("says the test")
        super().commit(batch)


async def test_a_full_disk() -> None:
    """While nothing can be written, calls that change something are answered with 503 and the time to come
    again, others as ever; nothing of what was refused is there afterwards."""
    store = FullStore()
    async with faced(store=store) as here:
        (alice,) = await here.users("alice")
        store.full = True
        answer = await alice.post("chatgroups", groupname="G", members=[], public=True)
        assert refusal(answer)[0] == 503
        assert int(answer.headers["retry-after"]) > 0
        assert (await alice.get("users/alice/joined_chatgroups")).json()["data"] == []
        store.full = False
        assert await _public(alice) == []
        group = await alice.group()
        assert [item["id"] for item in await _public(alice)] == [group]


class GatedStore(MemoryStore):
    """Memory whose commits wait for the test."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def commit(self, batch: Batch) -> None:
        if not self.gate.is_set():
            self.arrived.set()
            assert self.gate.wait(60), "the test forgot the gate"
        super().commit(batch)


async def test_a_call_that_is_under_way_when_the_node_stops() -> None:
    """A node that stops writes what was decided, answers the calls that asked for it, and only then ends."""
    store = GatedStore()
    answers: list[int] = []

    async def call(user: User, url: httpx.URL) -> None:
        headers = {"Authorization": f"Bearer {user.token_text}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http:
            answers.append((await http.post("/org/app/chatgroups", json={"groupname": "G"})).status_code)

    async with anyio.create_task_group() as tasks, faced(store=store) as here:
        (alice,) = await here.users("alice")
        store.gate.clear()
        tasks.start_soon(call, alice, here.http.base_url)
        await anyio.to_thread.run_sync(store.arrived.wait)
        tasks.start_soon(_let_pass_when_it_stops, here.node, store)
    assert answers == [200]


async def _let_pass_when_it_stops(node: Node, store: GatedStore) -> None:
    while not node.hub.world.draining:
        await anyio.wait_all_tasks_blocked()
    await anyio.wait_all_tasks_blocked()
    store.gate.set()
