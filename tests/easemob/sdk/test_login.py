"""Accounts and logins as the SDK does them: by password, by token, on several devices, and what is
refused."""

from __future__ import annotations

import pytest

from .driver import SDKError
from .stage import PASSWORD, Stage
from .story import matches

pytestmark = pytest.mark.anyio


async def test_by_password_and_by_token(stage: Stage) -> None:
    """A password gives a token with its duration, and the token logs other devices in."""
    (alice,) = await stage.people("alice", registering=True)
    phone = await stage.page(alice)
    given = await phone.open(pwd=PASSWORD)
    assert given["duration"] > 0
    assert len(phone.all("onConnected")) == 1
    laptop = await stage.page(alice, "laptop")
    assert (await laptop.open(accessToken=given["accessToken"]))["accessToken"] == given["accessToken"]
    await stage.settle(phone, laptop)
    assert not phone.all("onDisconnected")


async def test_three_devices(stage: Stage) -> None:
    """Each device of a user has every message once, whoever wrote it, each hears what another one read and
    every receipt for what any of them wrote, and each knows of the others."""
    alice, bob = await stage.people("alice", "bob")
    devices = [await stage.device(alice, name) for name in ("phone", "laptop", "tablet")]
    peer = await stage.device(bob)
    from_bob = await peer.text(alice, "to all three")
    from_alice = await devices[0].text(bob, "from one of three")
    await stage.settle(*devices)
    for device in devices:
        own = [from_alice] if device is not devices[0] else []
        found = [
            text["id"] for text in device.all("onTextMessage") if not text["from"].startswith("stranger")
        ]
        assert found == [from_bob, *own]
    await devices[2].send(type="channel", chatType="singleChat", to=bob)
    for device in (peer, *devices[:2]):
        assert matches(await device.heard_of("onChannelMessage"), author=alice, to=bob)
    await stage.settle(*devices)
    assert not devices[2].all("onChannelMessage")
    assert [(await stage.unread(device)).get(bob, 0) for device in devices] == [0, 0, 0]
    team = await stage.group(devices[0], bob)
    asked = await devices[0].text(team, "?", chatType="groupChat", msgConfig={"allowGroupAck": True})
    await peer.heard_of("onTextMessage", id=asked)
    await peer.send(type="read", chatType="groupChat", to=team, id=asked, ackContent="!")
    await peer.send(type="read", chatType="singleChat", to=alice, id=from_alice)
    await stage.settle(*devices)
    for device in devices:
        assert [told["mid"] for told in device.all("onDeliveredMessage")] == [from_alice]
        in_group, direct = sorted(device.all("onReadMessage"), key=lambda told: "groupReadCount" not in told)
        assert matches(in_group, author=bob, mid=asked, groupReadCount={asked: 1}, ackContent="!")
        assert matches(direct, author=bob, to=alice, mid=from_alice)
    others = await devices[0].call("getSelfIdsOnOtherPlatform")
    assert sorted(others["data"]) == [f"{alice}/webim_web_{name}" for name in ("laptop", "tablet")]


async def test_the_same_device_twice(stage: Stage) -> None:
    """The newer login of a resource takes its place; the older one is told so and does not come back."""
    alice, bob = await stage.people("alice", "bob")
    older = await stage.device(alice)
    newer = await stage.device(alice)
    assert matches(await older.heard_of("onDisconnected"), type=206)
    peer = await stage.device(bob)
    mid = await peer.text(alice, "hello")
    await newer.heard_of("onTextMessage", id=mid)
    await stage.settle(newer)
    assert not newer.all("onDisconnected")
    assert not older.all("onReconnecting")
    assert not older.all("onTextMessage")


async def test_logging_out(stage: Stage) -> None:
    """A device that has logged out is no longer there, and may come back."""
    (alice,) = await stage.people("alice")
    phone = await stage.device(alice)
    laptop = await stage.device(alice, "laptop")
    await stage.until_away(laptop)
    assert (await phone.call("getSelfIdsOnOtherPlatform"))["data"] == []
    await stage.device(alice, "laptop")
    assert (await phone.call("getSelfIdsOnOtherPlatform"))["data"] == [f"{alice}/webim_web_laptop"]


async def test_wrong_credentials(stage: Stage) -> None:
    """A wrong password, an unknown user and a token of somebody else are refused with the SDK's own
    errors."""
    alice, bob = await stage.people("alice", "bob", registering=True)
    known = await stage.page(bob)
    token = (await known.open(pwd=PASSWORD))["accessToken"]
    for user, credentials, error_type, message in (
        (alice, {"pwd": "wrong"}, 1, "invalid password"),
        ("nobody", {"pwd": PASSWORD}, 1, "user not found"),
        (alice, {"accessToken": token}, 28, "INVALID_TOKEN"),
        (alice, {"accessToken": "no token"}, 28, "INVALID_TOKEN"),
    ):
        device = await stage.page(user)
        with pytest.raises(SDKError) as refused:
            await device.open(**credentials)
        assert refused.value.type == error_type, refused.value.error
        assert message in str(refused.value.error)
        assert not device.all("onConnected")


async def test_registering(stage: Stage) -> None:
    """A name is given once, and has to be one."""
    (alice,) = await stage.people("alice")
    device = await stage.page(alice)
    for name, text in ((alice, "unique"), ("not a name!", "not legal")):
        with pytest.raises(SDKError) as refused:
            await device.call("registerUser", {"username": name, "password": PASSWORD, "nickname": ""})
        assert refused.value.type == 17
        assert text in str(refused.value.message)


async def test_when_a_token_ends(stage: Stage) -> None:
    """The SDK learns when its token ends, and can be given another one."""
    (alice,) = await stage.people("alice", registering=True)
    phone = await stage.device(alice)
    other = await stage.page(alice, "laptop")
    newer = (await other.open(pwd=PASSWORD))["accessToken"]
    renewed = await phone.call("renewToken", newer)
    assert renewed["expire"] > 0 if "expire" in renewed else renewed["expire_timestamp"] > 0
