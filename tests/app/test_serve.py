"""`receipts serve` as a process: what it prints, how it ends, what it refuses."""

from __future__ import annotations

import json
import resource
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
import trustme

import receipts as package
from receipts.core.errors import Code
from receipts.wire import updates
from tests.app.conftest import SECONDS_MAX, Here, Serving, ok, receipts


def _token(here: Here, data: Path, user: str) -> str:
    here("user", "add", user, "--no-password", "--data", data)
    return here("token", user, "--data", data)[1].strip()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio", "trio"])
def test_it_serves_and_drains(data: Path, start: Callable[..., Serving], here: Here, loop: str) -> None:
    """On each event loop: URLs with real ports on stdout, sessions told goodbye on SIGTERM, exit code 0, and
    everything that was acknowledged there after a restart."""
    serving = start("--tcp", "127.0.0.1:0", "--ws", "127.0.0.1:0/chat", "--loop", loop)
    token = {user: _token(here, data, user) for user in ("alice", "bob")}
    assert serving.urls["ws"].endswith("/chat")
    assert not serving.urls["tcp"].endswith(":0")
    status = anyio.run(_say_goodbye, serving, token["alice"])
    assert status == 0
    assert "draining" in serving.log.read_text()
    assert not (data / "operator.sock").exists()
    again = start("--tcp", "127.0.0.1:0", lines=1)
    assert anyio.run(_unread, again.urls["tcp"], token["bob"]) == 1
    assert again.stop(signal.SIGINT) == 0


async def _say_goodbye(serving: Serving, token: str) -> int:
    async with package.connect(serving.urls["ws"], user="alice", device="phone", token=token) as me:
        await me.send("bob", "hello")
        serving.process.send_signal(signal.SIGTERM)
        with anyio.fail_after(SECONDS_MAX):
            async for update in me.updates():
                if isinstance(update, updates.Goodbye):
                    assert update.code is Code.SHUTTING_DOWN
                    break
    return await anyio.to_thread.run_sync(serving.process.wait)


async def _unread(url: str, token: str) -> int:
    async with package.connect(url, user="bob", device="phone", token=token) as me:
        return me.unread("alice")


def test_a_second_signal_ends_at_once(start: Callable[..., Serving]) -> None:
    """While it drains, another signal ends the process without waiting for anything."""
    serving = start()
    serving.process.send_signal(signal.SIGSTOP)  # so that both are there when it goes on
    serving.process.send_signal(signal.SIGTERM)
    serving.process.send_signal(signal.SIGINT)
    assert serving.stop(signal.SIGCONT) in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert "ending at once" in serving.log.read_text()


def test_health_and_metrics(start: Callable[..., Serving], data: Path, here: Here) -> None:
    """A plain GET on the websocket's address is answered, and the metrics page has figures that move."""
    serving = start("--ws", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
    token = _token(here, data, "alice")
    _token(here, data, "bob")
    assert _get(serving.urls["ws"].replace("ws:", "http:")) == '{"status": "ok"}'
    before = _figures(serving.urls["http"])
    assert before['receipts_commands_total{command="AddUser"}'] == 2
    found = anyio.run(_figures_meanwhile, serving, token)
    assert found['receipts_sessions{state="live"}'] == 1
    assert found['receipts_commands_total{command="SendMessage"}'] == 2
    assert found['receipts_rejected_total{code="unknown_user"}'] == 1
    assert found["receipts_conversations"] == 1
    assert found["receipts_commit_seconds_count"] > before["receipts_commit_seconds_count"]
    assert found['receipts_commit_seconds_bucket{le="+Inf"}'] == found["receipts_commit_seconds_count"]
    assert found["receipts_tick"] > before["receipts_tick"]
    assert "process_resident_memory_bytes" in found
    assert serving.stop() == 0


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=SECONDS_MAX) as answer:
        return str(answer.read().decode())


def _figures(url: str) -> dict[str, float]:
    lines = [line for line in _get(url).splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def _figures_meanwhile(serving: Serving, token: str) -> dict[str, float]:
    async with package.connect(serving.urls["ws"], user="alice", device="phone", token=token) as me:
        await me.send("bob", "hello")
        with pytest.raises(package.Refused):
            await me.send("nobody", "hello")
        return await anyio.to_thread.run_sync(_figures, serving.urls["http"])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A certificate for localhost, its key, and who signed it."""
    directory = tmp_path_factory.mktemp("tls")
    names = {name: directory / f"{name}.pem" for name in ("ca", "cert", "key", "other")}
    ca, other = trustme.CA(), trustme.CA()
    issued = ca.issue_cert("localhost", "127.0.0.1")
    ca.cert_pem.write_to_path(names["ca"])
    issued.private_key_pem.write_to_path(names["key"])
    for blob in issued.cert_chain_pems:
        blob.write_to_path(names["cert"], append=True)
    other.cert_pem.write_to_path(names["other"])
    return names


def test_with_a_certificate(
    data: Path, start: Callable[..., Serving], here: Here, authority: dict[str, Path]
) -> None:
    """With certificate and key, tcp becomes tls and ws wss; who trusts the authority can log in."""
    serving = start(
        *("--tcp", "127.0.0.1:0", "--ws", "127.0.0.1:0"),
        *("--tls-cert", authority["cert"], "--tls-key", authority["key"]),
    )
    assert sorted(serving.urls) == ["tls", "wss"]
    token = _token(here, data, "alice")
    for url in serving.urls.values():
        chat = ("chat", url, "--user", "alice", "--token", token)
        assert ok(*chat, "--tls-ca", authority["ca"], stdin="/list\n").endswith(
            "unread 0 in 0 conversations\n"
        )
    done = receipts(*chat, "--tls-ca", authority["other"])
    assert done.returncode == 1
    assert "the certificate is not trusted" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_cannot_be_served(data: Path, place: Path, here: Here, authority: dict[str, Path]) -> None:
    """Whatever is wrong with an address, a certificate or a value is one line that names it."""

    def wrong(*arguments: object, status: int = 2) -> str:
        return here.complaint("serve", "--data", data, *arguments, status=status)

    for address in (
        "4000",
        "127.0.0.1:x",
        ":4000",
        "tcp://127.0.0.1:4000",
        "127.0.0.1:99999",
        "127.0.0.1:1/x",
    ):
        assert f"--tcp '{address}' is not HOST:PORT" in wrong("--tcp", address)
    assert "is not HOST:PORT/path" in wrong("--ws", "x")
    assert "go together" in wrong("--tls-cert", authority["cert"])
    both = ("--tls-cert", authority["cert"], "--tls-key", authority["ca"])
    assert "are not a PEM certificate and its key" in wrong(*both, status=1)
    missing = ("--tls-cert", place / "none.pem", "--tls-key", authority["key"])
    assert "none.pem cannot be read" in wrong(*missing, status=1)
    assert "--loop 'twisted' is none of uvloop, asyncio, trio" in wrong("--loop", "twisted")
    assert "--log-format" in wrong("--log-format", "xml")
    assert "between 0.1 and 3600 seconds" in wrong("--heartbeat", "0")
    assert "--metrics 'x' is not HOST:PORT" in wrong("--tcp", "127.0.0.1:0", "--metrics", "x")
    assert not list(data.glob("*.sock"))


def test_an_address_that_is_taken(data: Path, here: Here) -> None:
    """A port in use is named with what to do, whether for clients or for metrics."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = here.complaint("serve", "--data", data, "--tcp", address)
        assert line == f"tcp://{address} is in use by another program: stop it, or choose another port"
        line = here.complaint("serve", "--data", data, "--tcp", "127.0.0.1:0", "--metrics", address)
        assert line == f"--metrics {address} cannot be listened at: Address already in use"


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process are Linux's")
def test_a_disk_that_fails(data: Path, start: Callable[..., Serving], here: Here) -> None:
    """When a write fails, the node stops with exit code 1 and says why; what it had acknowledged is there
    after a restart, and the log tells nobody what was written."""
    serving = start("--tcp", "127.0.0.1:0", "--log-format", "json", lines=1)
    token = {user: _token(here, data, user) for user in ("alice", "bob")}
    anyio.run(_send_until_it_stops, serving, token["alice"])
    assert serving.process.wait(SECONDS_MAX) == 1
    log = serving.log.read_text().splitlines()
    assert log[-1].startswith("receipts: the node has stopped: ")
    assert json.loads(log[-2])["level"] == "critical"
    assert "the secret" not in "".join(log)
    again = start("--tcp", "127.0.0.1:0", lines=1)
    assert anyio.run(_unread, again.urls["tcp"], token["bob"]) == 1


async def _send_until_it_stops(serving: Serving, token: str) -> None:
    url = serving.urls["tcp"]
    async with package.connect(url, user="alice", device="phone", token=token) as me:
        await me.send("bob", "the secret" * 10_000)  # so that the database's log outgrows ours
        size = (serving.data / "receipts.sqlite3-wal").stat().st_size
        resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE, (size, size))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(me.send, "bob", "the secret that is not stored")
            await me.until(lambda: not me.online)
            tasks.cancel_scope.cancel()


def test_a_second_node_on_the_same_data(start: Callable[..., Serving], data: Path, here: Here) -> None:
    """One process owns a directory; the second one says which, and harms nothing."""
    serving = start()
    line = here.complaint("serve", "--data", data)
    assert line == f"{data} is in use by process {serving.process.pid}: stop it first"
    assert here("stats", "--data", data)[0] == 0
    assert serving.stop() == 0


def test_flags_before_environment_before_file(place: Path, data: Path, start: Callable[..., Serving]) -> None:
    """Each setting is taken from the flag, else the environment, else the file, else the default; settings of
    apps come from the file."""
    file = place / "node.toml"
    file.write_text(
        f"""
        [serve]
        data = "{place / "elsewhere"}"
        tcp = ["127.0.0.1:0", "127.0.0.1:0"]
        ws = ["127.0.0.1:0/file"]
        log_format = "json"
        loop = "trio"
        [apps.small.features]
        group_receipts = false
        """
    )
    by_file = start("--config", file, lines=3)
    assert by_file.urls["ws"].endswith("/file")
    assert by_file.stop() == 0
    lines = [json.loads(line) for line in by_file.log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["serving", "draining", "stopped"]
    assert lines[0]["apps"] == ["default", "small"]
    assert lines[0]["urls"][2] == by_file.urls["ws"]
    assert {"timestamp", "level", "logger"} <= lines[0].keys()

    env = {"RECEIPTS_CONFIG": str(file), "RECEIPTS_WS": "127.0.0.1:0/env", "RECEIPTS_TCP": "127.0.0.1:0"}
    by_env = start("--log-format", "text", **env)
    assert by_env.urls["ws"].endswith("/env")
    assert by_env.stop() == 0
    assert "[info" in by_env.log.read_text()

    by_flag = start("--ws", "127.0.0.1:0/flag", **env)
    assert by_flag.urls["ws"].endswith("/flag")
    assert by_flag.stop() == 0
    assert data.exists()


def test_a_file_that_means_nothing(place: Path, here: Here, data: Path) -> None:
    """Every mistake in a configuration file is one line with file and line number."""
    file = place / "node.toml"

    def wrong(text: str) -> str:
        file.write_text(text)
        return here.complaint("serve", "--config", file).replace(str(file), "FILE")

    assert wrong("[serve]\ntcp = [\n").startswith("FILE:2: this is not TOML")
    assert wrong("[serve]\n\ntcpp = []") == "FILE:3: there is no setting 'serve.tcpp': did you mean 'tcp'?"
    assert wrong("[server]") == "FILE:1: there is no setting 'server': did you mean 'serve'?"
    assert wrong('[serve]\ntcp = "x"').startswith("FILE:2: serve.tcp has to be a list of addresses")
    assert wrong("[serve]\nheartbeat = true").startswith("FILE:2: serve.heartbeat has to be a number")
    assert wrong("apps = 3").startswith("FILE:1: apps has to be a table")
    line = wrong("[apps.default.limits]\nqueries_burst = 1\nsends_burstt = 3")
    assert (
        line == "FILE:3: there is no setting 'apps.default.limits.sends_burstt': did you mean 'sends_burst'?"
    )
    assert (
        wrong("[apps.x.features]\nroll_up = 'most'")
        == "FILE:2: roll_up has to be one of any, all, not 'most'"
    )
    assert wrong("[apps.x.limits]\nsends_burst = -1").startswith("FILE:2: sends_burst has to be")
    assert "cannot be read: No such file" in here.complaint("serve", "--config", place / "none.toml")
    file.write_bytes(b"\xff\xfe")
    assert "is not text in UTF-8" in here.complaint("serve", "--config", file)


def test_what_is_not_installed(place: Path) -> None:
    """Without the libraries of the extra `node`, one line says how to get them."""
    for missing in ("typer", "structlog", "prometheus_client"):
        code = f"import sys; sys.modules[{missing!r}] = None\nfrom receipts.app.cli import main; main()"
        call = [sys.executable, "-c", code, "serve", "--data", str(place)]
        done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=SECONDS_MAX)
        assert (done.returncode, done.stderr) == (
            1,
            f"receipts: {missing} is not installed: pip install 'message-receipts[node]'\n",
        )


def test_version_and_help() -> None:
    """The version is printed alone; help of every command has its examples."""
    assert ok("--version").startswith("receipts ")
    assert "receipts demo" in ok("--help")


COMMANDS = [
    *("serve", "chat", "demo", "token", "explain", "verify", "stats", "new-life"),
    *("user add", "user list", "user remove", "user password", "user revoke", "group create", "app set"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(here: Here, command: str) -> None:
    """Every command explains itself, and every option of it has a text."""
    status, out, _ = here(*command.split(), "--help")
    assert status == 0
    assert f"Usage: receipts {command} " in out
    assert "--help" in out
