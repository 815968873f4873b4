"""`receipts chat` in pipes: two processes that talk, and everything that may go wrong."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.conftest import COMMAND, SECONDS_MAX, Here, Serving, environment, ok, receipts


class World:
    """A node with users, and chats as processes."""

    def __init__(self, serving: Serving, tokens: dict[str, str]) -> None:
        self.tcp, self.ws = serving.urls["tcp"], serving.urls["ws"]
        self.serving = serving
        self.tokens = tokens
        self._running: list[subprocess.Popen[str]] = []

    def begin(self, user: str, url: str, script: str, *options: str) -> subprocess.Popen[str]:
        """Start a chat that does a script and then leaves."""
        process = subprocess.Popen(
            [*COMMAND, "chat", url, "--user", user, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(RECEIPTS_TOKEN=self.tokens[user]),
        )
        assert process.stdin is not None
        process.stdin.write(script)
        process.stdin.close()
        process.stdin = None  # so that `communicate` leaves it alone
        self._running.append(process)
        return process

    def chat(self, user: str, script: str, *options: str) -> tuple[int, list[str], str]:
        """Do a script to its end: exit code, lines, complaints."""
        return end(self.begin(user, self.tcp, script, *options))

    def close(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
                process.communicate()


def end(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    """Wait for a chat to leave: exit code, lines, complaints."""
    out, err = process.communicate(timeout=SECONDS_MAX)
    return process.returncode, out.splitlines(), err


@pytest.fixture
def world(data: Path, start: Callable[..., Serving], here: Here) -> Iterator[World]:
    """A node with alice, bob, olga and cara, and their group `team`, in which olga may ask for receipts."""
    serving = start()
    tokens = {}
    for user in ("alice", "bob", "olga", "cara"):
        here("user", "add", user, "--no-password", "--data", data)
        tokens[user] = here("token", user, "--data", data)[1].strip()
    team = ("--owner", "olga", "--member", "bob", "--member", "cara")
    assert here("group", "create", "team", *team, "--data", data)[0] == 0
    found = World(serving, tokens)
    yield found
    found.close()


def test_two_processes_talk(world: World) -> None:
    """Piped, each line waits until it is done: two scripts, over TCP and websocket, see each other's messages
    and receipts, and leave with exit code 0."""
    alice = world.begin("alice", world.tcp, "/to bob\nhello\n/wait read 1\n/wait\n/read\n/status 1\n")
    bob = world.begin("bob", world.ws, "/to alice\n/wait\n/unread\n/read\n/unread\nhi\n/wait read 2\n")
    status, said, complaints = end(alice)
    assert (status, complaints) == (0, "")
    assert said[0] == "online"
    for line in ("to bob", "sent #1 (message 2)", "read by bob: #1 (all through #1)", "#2 bob: hi"):
        assert line in said
    assert said[-2:] == ["read, 0 unread", "#1 bob: read"]
    status, heard, complaints = end(bob)
    assert (status, complaints) == (0, "")
    order = ["#1 alice: hello", "unread 1: #1", "read, 0 unread", "unread 0", "sent #2 (message 4)"]
    assert [line for line in heard if line in order] == order


def test_a_group_asks(world: World) -> None:
    """Group receipts from the terminal: the asker sees who read with what words, and who has not."""
    olga = world.begin("olga", world.tcp, "/to team\n/ask at nine?\n/wait readers 1\n/readers 1\n")
    script = "/to team\n/wait\n/readmsg 1 nine is fine\n/list\n"
    status, heard, complaints = end(world.begin("bob", world.ws, script))
    assert (status, complaints) == (0, "")
    assert "[team] #1 olga: at nine? (asks for receipts)" in heard
    assert heard[-2:] == [
        "team: unread 0  [team] #1 olga: at nine? (asks for receipts)",
        "unread 0 in 0 conversations",
    ]
    status, said, _ = end(olga)
    assert status == 0
    assert '[team] #1 read by bob "nine is fine", 1 in all' in said
    assert said[-3] == "#1 read by 1 of 2"
    assert said[-2].endswith(' bob "nine is fine"')
    assert said[-1] == "  not read: cara"


def test_for_programs(world: World) -> None:
    """With --json every line is an object with a type, refusals among them, and marks of other devices come
    back as updates."""
    status, lines, complaints = world.chat("alice", "/to bob\none\ntwo\n/recall 1\n/recall 9\n", "--json")
    found: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert (status, complaints) == (1, "")
    assert [entry["type"] for entry in found if entry["type"] not in ("Delivered", "MessageRecalled")] == [
        *("Online", "To", "Accepted", "Accepted", "Done", "Refused")
    ]
    assert [entry["seq"] for entry in found if entry["type"] == "Accepted"] == [1, 2]
    assert found[-1]["code"] == "unknown_message"
    _, lines, _ = world.chat("bob", "/to alice\n/unread\n/mark\n/share off\n/open\n/unread\n", "--json")
    unread = [entry for entry in map(json.loads, lines) if entry["type"] == "Unread"]
    assert [(entry["unread"], entry["seqs"]) for entry in unread] == [(1, [2]), (0, [])]


def test_what_is_refused_sets_the_exit_code(world: World) -> None:
    """In a script a refused line is said on stderr, the lines after it are done, and the exit code is 1."""
    script = "hello\n/frob\n/to bob\n/to\n/read x\n/status\n/share maybe\n/wait what\n"
    script += "//slash\n/ask me\n/quit\nlost\n"
    status, lines, complaints = world.chat("alice", script)
    assert status == 1
    assert complaints.splitlines() == [
        "refused: say to whom first: /to NAME",
        "refused: there is no command /frob: see /help, or write //frob to send it",
        "refused: say it like this: /to NAME",
        "refused: 'x' is not the number of a message",
        "refused: say which: the number of a message",
        "refused: say it like this: /share on, or /share off",
        "refused: say it like this: /wait, /wait 3, /wait read 7 or /wait readers 7 2",
        complaints.splitlines()[-1],
    ]
    assert complaints.splitlines()[-1].startswith("refused: ")
    assert "sent #1 (message 2)" in lines
    _, lines, _ = world.chat("alice", "/to bob\n/history\n/new trio bob cara\n/help\n")
    assert "[bob] #1 you: /slash" in lines
    assert "to trio" in lines
    assert any(line.startswith("/readers SEQ") for line in lines)


def test_what_is_kept_in_a_file(world: World, place: Path) -> None:
    """With --data a device remembers: what it has read already is not printed again."""
    world.chat("alice", "/to bob\none\n")
    kept = str(place / "bob.db")
    assert "#1 alice: one" in world.chat("bob", "", "--data", kept)[1]
    world.chat("alice", "/to bob\ntwo\n")
    _, lines, _ = world.chat("bob", "/to alice\n/unread\n/read 2\n", "--data", kept)
    assert "#1 alice: one" not in lines
    assert "#2 alice: two" in lines
    assert "unread 2: #1 #2" in lines


def test_who_is_not_let_in(world: World, data: Path, here: Here) -> None:
    """A wrong password, token, user or app is one line that says so."""
    here("user", "revoke", "cara", "--data", data)
    tokens = world.tokens
    for user, token, reason in (
        ("alice", "x", "the token is not one of this node's; get a new one (token_invalid)"),
        ("bob", tokens["alice"], "the token is for somebody else (token_invalid)"),
        ("cara", tokens["cara"], "the token was revoked; get a new one (token_revoked)"),
    ):
        assert here.complaint("chat", world.tcp, "--user", user, "--token", token) == reason
    line = here.complaint("chat", world.ws, "--user", "alice", "--token", "x", "--app", "y")
    assert line == "there is no app 'y' here (unknown_app)"
    done = receipts("chat", world.tcp, "--user", "alice", "--password-stdin", stdin="wrong\n")
    reason = "receipts: wrong user or password (unauthorized)\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", reason)


def test_where_nobody_is(here: Here) -> None:
    """An address where nothing listens, or that is none, is named."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        line = here.complaint("chat", url, "--user", "alice", "--token", "x")
    assert line == f"{url}: nothing is listening there"
    for wrong in ("foo://x:1", "tcp://x", "127.0.0.1:4000", "tcp://127.0.0.1:x"):
        assert wrong in here.complaint("chat", wrong, "--user", "alice", "--token", "x", status=2)
    line = here.complaint("chat", url, "--user", "alice", "--token", "x", "--tls-ca", "/nowhere.pem")
    assert "certificate authority" in line
    assert "RECEIPTS_TOKEN" in receipts("chat", url, "--user", "alice").stderr


def test_with_a_password(world: World, data: Path, here: Here) -> None:
    """The first line of stdin is the password, those after it are the script."""
    ok("user", "password", "alice", "--password-stdin", "--data", data, stdin="secret\n")
    out = ok("chat", world.tcp, "--user", "alice", "--password-stdin", stdin="secret\n/to bob\nhello\n")
    assert "sent #1 (message 2)" in out.splitlines()


def test_nobody_reads_it(world: World) -> None:
    """When whoever read the output leaves, so does the chat, without a traceback."""
    process = world.begin("alice", world.tcp, "/to bob\nhello\n/help\n")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(SECONDS_MAX) == 0
