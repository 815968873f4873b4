"""`receipts serve --easemob` as a process: calls and frames of the vendor's, apps by flag and by file."""

from __future__ import annotations

import json
import signal
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import trustme

import receipts as package
import transports
from receipts.easemob import msync_pb2 as pb
from receipts.easemob.codec import Command
from tests.app.conftest import SECONDS_MAX, Here, Serving

APP = ("--tcp", "127.0.0.1:0", "--easemob", "127.0.0.1:0", "--app-key", "org#app")


def _log_in(url: str, user: str, password: str = "secret", app: str = "org/app") -> str:
    """A token, over HTTP."""
    body = {"grant_type": "password", "username": user, "password": password, "timestamp": 1}
    answer = httpx.post(f"{url}/{app}/token", json=body, timeout=SECONDS_MAX)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def _register(url: str, user: str, app: str = "org/app") -> httpx.Response:
    body = {"username": user, "password": "secret", "nickname": ""}
    return httpx.post(f"{url}/{app}/users", json=body, timeout=SECONDS_MAX)


def _provision(user: str, token: str, app: str = "org#app") -> bytes:
    """The SDK's first frame."""
    asked = pb.Provision(
        osType=16, version="4.21.1", resource="webim_web_1", authToken=json.dumps({"token": "$t$" + token})
    )
    guid = pb.JID(appKey=app, name=user, domain="easemob.com")
    frame = pb.MSync(version=0, guid=guid, command=Command.PROVISION, payload=asked.SerializeToString())
    return frame.SerializeToString()


async def _provisioned(link: transports.Link, user: str, token: str, app: str = "org#app") -> int:
    """Log in over a link; the error code, 0 for none."""
    link.send([_provision(user, token, app)])
    frame = pb.MSync.FromString((await link.receive())[0])  # type: ignore[arg-type]  # binary, or it fails
    assert frame.command == Command.PROVISION
    return int(pb.Provision.FromString(frame.payload).status.errorCode)


def _place(url: str) -> str:
    return url.replace("http", "ws", 1) + "/websocket"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio", "trio"])
def test_calls_frames_and_an_end_in_good_order(start: Callable[..., Serving], loop: str) -> None:
    """On each event loop: somebody registers, logs in over HTTP and over the websocket, opens a group and is
    closed in good order on SIGTERM; after a restart token and group are still good."""
    serving = start(*APP, "--open-registration", "--loop", loop)
    url = serving.urls["http"]
    for user in ("alice", "bob"):
        assert _register(url, user).status_code == 200
    token = _log_in(url, "alice")
    calls: dict[str, Any] = {"headers": {"Authorization": f"Bearer {token}"}, "timeout": SECONDS_MAX}
    made = httpx.post(f"{url}/org/app/chatgroups", json={"groupname": "G", "members": ["bob"]}, **calls)
    group = made.json()["data"]["groupid"]
    status = anyio.run(_chat_until_it_stops, serving, token, _log_in(url, "bob"), group)
    assert status == 0
    again = start(*APP, "--loop", loop).urls["http"]
    (found,) = httpx.get(f"{again}/org/app/chatgroups/{group}", **calls).json()["data"]
    assert found["affiliations_count"] == 2
    assert _register(again, "cara").status_code == 401


async def _chat_until_it_stops(serving: Serving, alice: str, bob: str, group: str) -> int:
    """A page and a phone are there, and the page hears that the node stops."""
    with anyio.fail_after(SECONDS_MAX):
        async with transports.connect(_place(serving.urls["http"])) as page:
            assert await _provisioned(page, "alice", bob) != 0
        async with transports.connect(_place(serving.urls["http"])) as page:
            assert await _provisioned(page, "alice", alice) == 0
            async with package.connect(
                serving.urls["tcp"], user="bob", device="phone", app="org#app", token=bob
            ) as phone:
                sent = await phone.send(group, "hello")
                frame = b""
                while b"hello" not in frame:
                    frame = b"".join(bytes(one) for one in await page.receive())  # type: ignore[arg-type]
                assert sent.seq == 1
            serving.process.send_signal(signal.SIGTERM)
            with pytest.raises(anyio.EndOfStream):
                await page.receive_into(lambda frames: True)
        return await anyio.to_thread.run_sync(serving.process.wait)


def test_apps_of_a_file(start: Callable[..., Serving], place: Path, here: Here, data: Path) -> None:
    """A configuration file names app keys and the settings of each; an app that is not in it keeps what the
    operator gave it."""
    here(
        "app",
        "set",
        "org#kept",
        "--file",
        _file(place, "kept.toml", "[features]\nrecall = false\n"),
        "--data",
        data,
    )
    config = _file(
        place,
        "node.toml",
        """
        [serve]
        easemob = ["127.0.0.1:0"]
        app_key = ["org#app", "org#small", "org#kept"]
        open_registration = true

        [apps."org#small".features]
        group_receipts = false

        [apps."org#small".limits]
        registrations_burst = 1
        registrations_per_second = 0.001
        """,
    )
    serving = start("--tcp", "127.0.0.1:0", "--config", config)
    url = serving.urls["http"]
    assert [_register(url, user, "org/small").status_code for user in ("a", "b")] == [200, 429]
    assert [_register(url, user, "org/app").status_code for user in ("a", "b")] == [200, 200]
    assert _register(url, "a", "org/kept").status_code == 200
    assert _register(url, "a", "org/other").status_code == 404
    assert serving.stop() == 0
    _, out, _ = here("stats", "--json", "--data", data)
    assert json.loads(out)["apps"] == ["default", "org#app", "org#kept", "org#small"]


def _file(place: Path, name: str, text: str) -> Path:
    file = place / name
    file.write_text(text)
    return file


def test_operators_accounts_are_the_sdks(start: Callable[..., Serving], here: Here, data: Path) -> None:
    """Where nobody may register, the operator opens accounts, and tokens of the operator's let the SDK in."""
    serving = start(*APP)
    here("user", "add", "alice", "--no-password", "--app", "org#app", "--data", data)
    token = here("token", "alice", "--app", "org#app", "--data", data)[1].strip()

    async def main() -> int:
        async with transports.connect(_place(serving.urls["http"])) as page:
            return await _provisioned(page, "alice", token)

    assert anyio.run(main) == 0


def test_tls_for_all_listeners(start: Callable[..., Serving], place: Path) -> None:
    """With a certificate the SDK's address is https, and wss its websockets."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(place / "key.pem")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(place / "cert.pem", append=True)
    serving = start(
        *APP, "--open-registration", "--tls-cert", place / "cert.pem", "--tls-key", place / "key.pem"
    )
    context = ssl.create_default_context()
    authority.configure_trust(context)
    url = serving.urls["https"]
    with httpx.Client(verify=context, timeout=SECONDS_MAX) as http:
        body: dict[str, Any] = {"username": "alice", "password": "secret"}
        assert http.post(f"{url}/org/app/users", json=body).status_code == 200
        body["grant_type"] = "password"
        token = http.post(f"{url}/org/app/token", json=body).json()["access_token"]

    async def main() -> int:
        async with transports.connect(_place(url), ssl_context=context) as page:
            return await _provisioned(page, "alice", token)

    assert anyio.run(main) == 0


def test_what_is_complained_about(here: Here, start: Callable[..., Serving], place: Path) -> None:
    """A mistake in what is to be served is one line, before anything is begun."""
    data = place / "other"
    easemob = ("serve", "--data", data, "--easemob")
    assert "go together" in here.complaint(*easemob, "127.0.0.1:0", status=2)
    assert "go together" in here.complaint("serve", "--data", data, "--app-key", "org#app", status=2)
    for key in ("org", "org#", "#app", "a#b#c", "a/b#c", "a#" + "b" * 200):
        complaint = here.complaint(*easemob, "127.0.0.1:0", "--app-key", key, status=2)
        assert complaint.startswith(f"--app-key {key!r} is not ORG#APP")
    for address in ("nowhere", "127.0.0.1:0/path", "http://127.0.0.1:0"):
        complaint = here.complaint(*easemob, address, "--app-key", "org#app", status=2)
        assert complaint.startswith(f"--easemob {address!r} is not HOST:PORT")
    assert not data.exists()
    taken = start(*APP).urls["http"].removeprefix("http://")
    complaint = here.complaint(
        *easemob, taken, "--app-key", "org#app", "--tcp", "127.0.0.1:0", "--loop", "asyncio"
    )
    assert complaint.startswith(f"http://{taken} is in use by another program")
