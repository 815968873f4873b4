"""Accounts, tokens, groups, apps, verification: beside a running node, and without one."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

import receipts as package
from receipts.app.operate import operating, socket_url
from receipts.core.errors import Refused
from receipts.node.commands import AddUser, ListUsers
from receipts.storage.sqlite import DATABASE_NAME, SQLiteStore
from receipts.wire.updates import Accepted
from tests.app.conftest import Here, Serving, ok, receipts


def _live(do: Callable[..., str], data: Path) -> None:
    """The life of accounts, from beginning to end."""
    assert do("user", "add", "alice", "--password-stdin", "--data", data, stdin="secret\n") == "added alice\n"
    assert do("user", "add", "bob", "--no-password", "--data", data) == "added bob\n"
    listed = [line.split("\t")[:2] for line in do("user", "list", "--data", data).splitlines()]
    assert listed == [["alice", "True"], ["bob", "False"]]
    token = do("token", "bob", "--data", data, "--days", "2")
    assert token.count(".") == 2
    assert token == token.strip() + "\n"
    made = do("group", "create", "team", "--owner", "alice", "--admin", "bob", "--data", data, "--name", "T")
    assert made == "created team\n"
    assert do("user", "password", "bob", "--password-stdin", "--data", data, stdin="new\n")
    assert do("user", "revoke", "alice", "--data", data) == "revoked the tokens of alice\n"
    assert do("explain", "bob", "team", "--data", data) == "unread 0\n"
    assert do("verify", "--data", data) == "verified 1 conversations, 0 findings\n"
    assert json.loads(do("stats", "--json", "--data", data))["apps"] == ["default"]
    assert do("user", "remove", "bob", "--data", data) == "removed bob\n"
    assert [row["user"] for row in json.loads(do("user", "list", "--json", "--data", data))] == ["alice"]


def test_operating_beside_a_node(data: Path, start: Callable[..., Serving]) -> None:
    """Every command of the operator works, as a process of its own, beside a node that runs."""
    start()
    _live(ok, data)


def test_operating_without_a_node(data: Path, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the operator works the same on the data alone."""

    def do(*arguments: object, stdin: str = "") -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        status, out, err = here(*arguments)
        assert (status, err) == (0, "")
        return out

    _live(do, data)


def test_a_refusal_is_one_line(data: Path, here: Here) -> None:
    """What the node refuses is said in its own words, with its code, and exits with 1."""
    assert here("user", "add", "alice", "--no-password", "--data", data)[0] == 0
    taken = here.complaint("user", "add", "alice", "--no-password", "--data", data)
    assert taken == "there is a user 'alice' already (already_exists)"
    assert "a-z" in here.complaint("user", "add", "Alice", "--no-password", "--data", data)
    assert "unknown_user" in here.complaint("token", "nobody", "--data", data)
    assert "unknown_app" in here.complaint("token", "alice", "--data", data, "--app", "other")
    assert "unknown_conversation" in here.complaint("explain", "alice", "team", "--data", data)


def test_what_is_wrong_with_a_call_exits_with_two(here: Here, data: Path) -> None:
    """A command that cannot be understood says so in one line, names its help, and exits with 2."""
    assert "RECEIPTS_DATA" in here.complaint("stats", status=2)
    assert "`receipts user add --help`" in here.complaint("user", "add", status=2)
    assert "No such command" in here.complaint("frobnicate", status=2)
    assert "exclude" in here.complaint(
        "user", "add", "x", "--no-password", "--password-stdin", "--data", data, status=2
    )


def test_no_terminal_to_ask_for_a_password(data: Path) -> None:
    """Without a terminal a password is not waited for, and an empty line is none."""
    done = receipts("user", "add", "alice", "--data", data)
    assert (done.returncode, done.stderr) == (
        2,
        "receipts: there is no terminal to ask for a password: pass --password-stdin\n",
    )
    done = receipts("user", "add", "alice", "--password-stdin", "--data", data)
    assert (done.returncode, done.stderr) == (
        2,
        "receipts: there is no password on the first line of stdin\n",
    )


def test_only_adding_begins_a_directory(data: Path, here: Here) -> None:
    """A mistyped directory is not made by looking into it."""
    for command in (["user", "list"], ["token", "alice"], ["stats"], ["verify"], ["new-life"]):
        assert "there is no node's data in" in here.complaint(*command, "--data", data)
    assert not data.exists()


def test_the_directory_from_environment_and_file(
    data: Path, place: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flag goes before the environment, the environment before the configuration file."""
    file = place / "node.toml"
    file.write_text(f'[serve]\ndata = "{place / "from-file"}"\n')
    here("user", "add", "of-file", "--no-password", "--config", file)
    monkeypatch.setenv("RECEIPTS_DATA", str(place / "from-env"))
    here("user", "add", "of-env", "--no-password", "--config", file)
    here("user", "add", "of-flag", "--no-password", "--config", file, "--data", data)
    found = {
        name: here("user", "list", "--data", where)[1].split("\t")[0]
        for name, where in (("file", place / "from-file"), ("env", place / "from-env"), ("flag", data))
    }
    assert found == {"file": "of-file", "env": "of-env", "flag": "of-flag"}


def test_a_locked_directory_without_a_socket(data: Path, here: Here) -> None:
    """Where another process has the data and does not answer, one line says which process it is."""
    store = SQLiteStore(data)
    store.open(now_ms=1, life="a", secret=b"0" * 32)
    try:
        line = here.complaint("user", "list", "--data", data)
        assert "is in use by process" in line
        assert "operator.sock" in line
        assert "in use by process" in here.complaint("new-life", "--data", data)
    finally:
        store.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"this is no database, but a text of some length" * 100, "not a database"), (b"", None)],
    ids=["garbage", "empty"],
)
def test_a_file_that_is_no_database(data: Path, here: Here, content: bytes, words: str | None) -> None:
    """A damaged database is named with the way out; an empty file is a database that is new."""
    data.mkdir()
    (data / DATABASE_NAME).write_bytes(content)
    if words is None:
        assert here("user", "list", "--data", data)[0] == 0
        return
    line = here.complaint("user", "list", "--data", data)
    assert words in line
    assert "backup" in line
    status, out, _ = here("verify", "--data", data)
    assert status == 1
    assert out.startswith("damaged: ")


def test_data_of_a_newer_version(data: Path, here: Here) -> None:
    """Data of a newer program is left alone, and the line says what to install."""
    here("user", "add", "alice", "--no-password", "--data", data)
    db = sqlite3.connect(data / DATABASE_NAME)
    db.execute("PRAGMA user_version = 999")
    db.close()
    assert "newer" in here.complaint("user", "list", "--data", data)


def test_a_directory_that_cannot_be_made(place: Path, here: Here) -> None:
    """A path that leads through a file is a complaint, not a traceback."""
    (place / "file").write_text("")
    assert "Not a directory" in here.complaint(
        "user", "add", "a", "--no-password", "--data", place / "file/data"
    )


def test_a_path_too_long_for_a_socket(place: Path, here: Here) -> None:
    """The system's limit on a socket's path is explained."""
    line = here.complaint("user", "add", "a", "--no-password", "--data", place / ("x" * 120))
    assert "choose a shorter --data" in line


def test_a_new_life(data: Path, here: Here) -> None:
    """After a restore the data gets another life; everything in it stays."""
    here("user", "add", "alice", "--no-password", "--data", data)
    before = json.loads(here("stats", "--json", "--data", data)[1])["life"]
    status, out, _ = here("new-life", "--data", data)
    assert status == 0
    after = json.loads(here("stats", "--json", "--data", data)[1])["life"]
    assert out == f"life {after}\n"
    assert after != before
    assert here("user", "list", "--data", data)[1].startswith("alice\t")


def test_settings_of_an_app(data: Path, place: Path, here: Here) -> None:
    """An app is made and set from TOML or JSON; what means nothing is refused with file and line."""
    file = place / "small.toml"
    file.write_text("[features]\ngroup_receipts = false\n\n[limits]\nrecall_window_ms = 1000\n")
    assert here("app", "set", "small", "--file", file, "--data", data)[:2] == (0, "set small\n")
    assert json.loads(here("stats", "--json", "--data", data)[1])["apps"] == ["default", "small"]
    file.write_text("[features]\ngroup_receipts = 3\n")
    assert f"{file}:2: group_receipts has to be" in here.complaint(
        "app", "set", "x", "--file", file, "--data", data
    )
    other = place / "small.json"
    other.write_text('{\n"limits": {\n"sends_per_secnd": 1}}')
    line = here.complaint("app", "set", "x", "--file", other, "--data", data)
    assert (
        line == f"{other}:3: there is no setting 'limits.sends_per_secnd': did you mean 'sends_per_second'?"
    )
    other.write_text("{")
    assert f"{other}:1: this is not JSON" in here.complaint(
        "app", "set", "x", "--file", other, "--data", data
    )
    assert "cannot be read" in here.complaint(
        "app", "set", "x", "--file", place / "none.toml", "--data", data
    )


async def _send(url: str, user: str, token: str, *bodies: str) -> list[Accepted]:
    async with package.connect(url, user=user, device="phone", token=token) as me:
        return [await me.send("bob", body) for body in bodies]


def test_what_is_behind_a_count(data: Path, start: Callable[..., Serving], here: Here) -> None:
    """`explain` names the messages behind a count, for a peer's name as for the conversation's id."""
    serving = start()
    for user in ("alice", "bob"):
        here("user", "add", user, "--no-password", "--data", data)
    token = here("token", "alice", "--data", data)[1].strip()
    sent = anyio.run(_send, serving.urls["tcp"], "alice", token, "one", "two")
    assert here("explain", "bob", "alice", "--data", data)[1] == "unread 2\n" + "".join(
        f"#{found.seq}\tmessage {found.message_id}\n" for found in sent
    )
    assert serving.stop() == 0
    found = json.loads(here("explain", "bob", "alice~bob", "--data", data, "--json")[1])
    assert (found["unread"], [seq for seq, _ in found["messages"]]) == (2, [1, 2])


def test_verification_finds_and_mends(data: Path, start: Callable[..., Serving], here: Here) -> None:
    """A count that does not match its messages is found (exit 1), mended with --repair, and then gone."""
    serving = start()
    for user in ("alice", "bob"):
        here("user", "add", user, "--no-password", "--data", data)
    token = here("token", "alice", "--data", data)[1].strip()
    anyio.run(_send, serving.urls["tcp"], "alice", token, "one", "two")
    assert serving.stop() == 0
    db = sqlite3.connect(data / DATABASE_NAME)
    db.execute("UPDATE conversations SET folded_through = 2")
    db.execute("DELETE FROM marks")
    db.commit()
    db.close()
    status, out, _ = here("verify", "--data", data)
    assert status == 1
    assert "found: default/alice~bob of alice: " in out
    status, out, _ = here("verify", "--repair", "--data", data)
    assert status == 0
    assert "repaired: default/alice~bob of alice: " in out
    assert here("verify", "--data", data)[:2] == (0, "verified 1 conversations, 0 findings\n")


@pytest.mark.anyio
async def test_operating_from_a_program(data: Path) -> None:
    """The operator's functions work on every event loop, and refusals are exceptions."""
    async with operating(data, create=True) as operate:
        assert (await operate(AddUser(rid=1, app="default", user="alice")))["type"] == "Done"
        with pytest.raises(Refused, match="already"):
            await operate(AddUser(rid=1, app="default", user="alice"))
    async with package.Node(SQLiteStore(data)).running() as node:
        await node.listen_operator(socket_url(data))
        async with operating(data) as operate:
            listed = await operate(ListUsers(rid=1, app="default"))
            assert json.loads(listed["text"])[0]["user"] == "alice"
            with pytest.raises(Refused, match="already"):
                await operate(AddUser(rid=1, app="default", user="alice"))


def test_the_operators_socket_is_private(data: Path, start: Callable[..., Serving], here: Here) -> None:
    """Only the node's own user can reach the socket, and a killed node's stale one is no obstacle."""
    serving = start()
    assert (data / "operator.sock").stat().st_mode & 0o777 == 0o600
    serving.process.kill()
    serving.process.wait()
    assert (data / "operator.sock").exists()
    assert here("user", "add", "alice", "--no-password", "--data", data)[0] == 0
    start()
    assert here("user", "list", "--data", data)[1].startswith("alice")
