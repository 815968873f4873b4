"""Bad input over real links: who did it is told what was wrong, nobody else notices, and nothing is lost.

After every offence two bystanders send, deliver and read a message to the end, and are told of nothing else;
then the offender goes on, on the same link or the next, and its own conversation is as it was.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import anyio
import jwt
import msgpack
import pytest

import transports
from receipts.core.errors import Code
from receipts.core.events import MessagesExpired
from receipts.core.policy import DAY_MS
from receipts.core.status import Status
from receipts.node.commands import MakeToken, RevokeTokens
from receipts.storage.sqlite import DATABASE_NAME, SQLiteStore
from receipts.wire import VERSION, commands
from receipts.wire.codec import decode_update
from receipts.wire.limits import FRAME_BYTES_MAX
from receipts.wire.updates import Accepted, Delivered, Done, Goodbye, Read, Rejected, Welcome
from tests.e2e.stage import Device, Raw, Stage, log_in, running

AB = "alice~bob"
TRANSPORTS = ("tcp", "websocket")
_ANSWER: Any = (Accepted, Rejected)
SETTINGS = json.dumps({"limits": {"group_receipts_members_max": 3, "logins_burst": 100}})


class Scene(NamedTuple):
    """Where offences take place."""

    stage: Stage
    carol: Device
    dan: Device
    """Two bystanders."""

    async def undisturbed(self) -> None:
        """The bystanders do a whole round of receipts, and hear of nothing else."""
        sent = await self.carol.me.send("dan", "all well?")
        await self.dan.has("carol", sent.seq)
        await self.dan.me.read("carol")
        await self.dan.me.flush()
        await self.carol.me.until(lambda: self.carol.me.status("dan", sent.seq) is Status.READ)
        for device in (self.carol, self.dan):
            for update in await device.told():
                assert update.conversation == "carol~dan", update  # type: ignore[union-attr]

    async def goes_on(self, alice: Raw) -> None:
        """A device of alice's writes to bob, and her conversation with him is as she left it."""
        listed = await alice.ask(lambda rid: commands.FetchHistory(rid=rid, conversation=AB, limit=200))
        bodies = [message.body for message in listed.messages]
        assert bodies == [f"to bob {number}" for number in range(1, len(bodies) + 1)]
        number = len(bodies) + 1
        alice.say(commands.SendMessage(1 << 20, AB, f"to bob {number}", 1000 + number))
        assert (await alice.hear(Accepted)).seq == number


@asynccontextmanager
async def scene(transport: str, directory: Path, **options: Any) -> AsyncIterator[Scene]:
    """A node with alice and bob, whose conversation has two messages, a group, and two bystanders."""
    options.setdefault("apps", {"default": SETTINGS})
    async with running(transport, directory, **options) as stage:
        with anyio.fail_after(60):
            await stage.users("alice", "bob", "carol", "dan", "olga")
            await stage.group("G", "olga", "alice", "bob")
            alice = await stage.raw("alice", "first")
            for number in (1, 2):
                alice.say(commands.SendMessage(number, AB, f"to bob {number}", number))
                await alice.hear(Accepted)
            await alice.close()
            yield Scene(stage, await stage.device("carol"), await stage.device("dan"))


def check(found: Rejected | Goodbye, code: Code, words: str) -> None:
    """A refusal names its reason in words that help; trying again as it is would not."""
    assert found.code is code, found
    assert words in found.reason, found.reason
    assert found.retry_after_ms == 0


async def ends(raw: Raw) -> None:
    """The node closes the link."""
    with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
        await raw.hear(Welcome)
    await raw.close()


# -- what is not a frame


async def _bytes(stage: Stage, *parts: bytes, end: bool = False) -> bytes:
    """Say bytes to the node's port, and hear what comes back until it hangs up."""
    host, _, port = stage.url.partition("://")[2].rstrip("/").partition(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        for part in parts:
            await stream.send(part)
        if end:
            await stream.send_eof()
        answer = b""
        try:
            async for some in stream:
                answer += some
        except anyio.BrokenResourceError:
            pass
        return answer


def _prefixed(answer: bytes) -> Any:
    (size,) = struct.unpack_from(">I", answer)
    decoded = decode_update(answer[4 : 4 + size])
    assert decoded is not None
    return decoded[1]


_UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.b64encode(bytes(16)) + b"\r\n\r\n"
)


@pytest.mark.anyio
async def test_bytes_that_are_no_frames_on_tcp(tmp_path: Path) -> None:
    """Garbage is answered with what was wrong, and the link ends; so it does inside of a frame."""
    async with scene("tcp", tmp_path) as here:
        said = _prefixed(await _bytes(here.stage, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"))
        check(said, Code.FRAME_TOO_LARGE, f"a frame may have {FRAME_BYTES_MAX} bytes, this one has")
        await here.undisturbed()
        for cut_short in (struct.pack(">I", 100) + b"only this", b"\0\0"):
            await _bytes(here.stage, cut_short, end=True)  # who has hung up cannot be told anything
            await here.undisturbed()
        await here.goes_on(await here.stage.raw("alice", "phone"))


@pytest.mark.anyio
async def test_bytes_that_are_no_frames_on_a_websocket(tmp_path: Path) -> None:
    """Garbage instead of a handshake is a bad request; garbage after it ends the link with a reason."""
    async with scene("websocket", tmp_path) as here:
        answer = await _bytes(here.stage, b"\x16\x03\x01 this is no handshake\r\n\r\n")
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
        await here.undisturbed()
        answer = await _bytes(here.stage, _UPGRADE, b"\xff\xff\xff\xff\xff\xff")
        assert b"bad_frame" in answer
        await here.undisturbed()
        answer = await _bytes(here.stage, _UPGRADE, b"\x82\xe4\0\0\0\0only this", end=True)
        assert answer.startswith(b"HTTP/1.1 101 ")
        await here.undisturbed()
        await here.goes_on(await here.stage.raw("alice", "phone"))


@pytest.mark.anyio
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("logged_in", [False, True], ids=["stranger", "member"])
async def test_a_frame_over_the_limit(tmp_path: Path, transport: str, logged_in: bool) -> None:
    """It is refused by its size, before its content has arrived; the limit is named."""
    async with scene(transport, tmp_path) as here:
        large = 4 * FRAME_BYTES_MAX
        link, close = await here.stage.hold(transports.connect(here.stage.url, frame_bytes_max=large))
        raw = Raw(link, close)
        if logged_in:
            raw.say(log_in("alice", "phone", await here.stage.token("alice")))
            await raw.catch_up()
        raw.link.send([bytes(FRAME_BYTES_MAX + 1)])
        check(
            await raw.hear(Goodbye),
            Code.FRAME_TOO_LARGE,
            f"a frame may have {FRAME_BYTES_MAX} bytes, this one has {FRAME_BYTES_MAX + 1}",
        )
        await ends(raw)
        await here.undisturbed()
        await here.goes_on(await here.stage.raw("alice", "phone"))


@pytest.mark.anyio
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_frames_that_mean_nothing(tmp_path: Path, transport: str) -> None:
    """A frame that cannot be read ends its link; one that can, but makes no sense, is refused alone. What
    came before it in the same write counts."""
    nonsense: list[bytes | str] = [
        b"",
        b"\xc1",
        b"\xff" * 1000,
        b"\x93\x01",
        msgpack.packb("no array"),
        msgpack.packb([2, -1]),
        "",
        "{",
        "[]",
        '{"type": 1}',
        '{"type": "Ping", "rid": -1}',
        "[" * 100_000,
    ]
    async with scene(transport, tmp_path) as here:
        for number, frame in enumerate(nonsense):
            raw = await here.stage.raw("alice", "phone")
            raw.say(commands.Ping(rid=7))
            raw.link.send([frame])
            heard = [await raw.hear(object), await raw.hear(object)]
            assert getattr(heard[0], "rid", None) == 7, "what came before counts"
            assert isinstance(heard[1], Goodbye), f"nonsense {number}"
            assert heard[1].code is Code.BAD_FRAME
            assert len(heard[1].reason) > 10
            await ends(raw)
            stranger = await here.stage.raw_link()
            stranger.link.send([frame])
            assert (await stranger.hear(Goodbye)).code is Code.BAD_FRAME
            await ends(stranger)
        await here.undisturbed()
        raw = await here.stage.raw("alice", "phone")
        for frame, code, words in [
            (msgpack.packb([250, 11]), Code.INVALID, "there is no command with the code 250"),
            (msgpack.packb([2, 11]), Code.INVALID, "SendMessage: "),
            (msgpack.packb([2, 11, AB, 5, 1]), Code.INVALID, "body"),
            ('{"type": "Nothing", "rid": 11}', Code.INVALID, "there is no command of this type"),
            ('{"type": "SendMessage", "rid": 11, "conversation": 5}', Code.INVALID, "SendMessage: "),
        ]:
            raw.link.send([frame])
            refused = await raw.hear(Rejected)
            assert refused.rid == 11
            check(refused, code, words)
            await here.undisturbed()
        await here.goes_on(raw)


# -- who comes in


async def _turned_away(here: Scene, hello: commands.Command, code: Code, words: str) -> Rejected:
    raw = await here.stage.raw_link()
    raw.say(hello, commands.SendMessage(99, AB, "smuggled in", 99))
    refused = await raw.hear(Rejected)
    check(refused, code, words)
    check(await raw.hear(Goodbye), code, words)
    await ends(raw)
    await here.undisturbed()
    return refused


@pytest.mark.anyio
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_is_not_let_in(tmp_path: Path, transport: str) -> None:
    """Every login that fails is refused with its reason and let go; what came behind it does not count."""
    async with scene(transport, tmp_path) as here:
        stage, operate = here.stage, here.stage.node.operate

        def hello(token: str | None, **fields: Any) -> commands.Command:
            known = {"user": "alice", "device": "phone", "install": "i", "version": VERSION, "rid": 1}
            return commands.Hello(**{**known, "token": token, **fields})

        good = await stage.token("alice")
        brief = await operate(MakeToken(rid=1, app="default", user="alice", lifetime_ms=5000))
        claims = jwt.decode(good, options={"verify_signature": False})
        forged = jwt.encode({**claims, "epoch": 0}, b"not the secret" * 4, algorithm="HS256")
        unsigned = jwt.encode(claims, "", algorithm="none")
        await _turned_away(here, commands.Ping(rid=1), Code.NOT_LOGGED_IN, "begin with Hello")
        wrong = await _turned_away(here, hello(good, version=99), Code.WRONG_VERSION, f"version {VERSION}")
        assert wrong.limit == VERSION
        await _turned_away(here, hello(good, app="nowhere"), Code.UNKNOWN_APP, "no app 'nowhere'")
        known = await _turned_away(
            here, hello(None, password="guess"), Code.UNAUTHORIZED, "wrong user or password"
        )
        unknown = await _turned_away(
            here, hello(None, user="nobody", password="guess"), Code.UNAUTHORIZED, "wrong user or password"
        )
        assert known == unknown, "a stranger learns who is there"
        await _turned_away(here, hello(forged), Code.TOKEN_INVALID, "get a new one")
        await _turned_away(here, hello(unsigned), Code.TOKEN_INVALID, "get a new one")
        await _turned_away(here, hello("garbage"), Code.TOKEN_INVALID, "get a new one")
        await _turned_away(here, hello(good, user="bob"), Code.TOKEN_INVALID, "for somebody else")
        stage.now_ms += 10_000
        await _turned_away(here, hello(brief.text), Code.TOKEN_EXPIRED, "get a new one")
        online = await stage.raw("alice", "laptop")
        await operate(RevokeTokens(rid=1, app="default", user="alice"))
        check(await online.hear(Goodbye), Code.LOGGED_OUT, "revoked")
        await ends(online)
        await _turned_away(here, hello(good), Code.TOKEN_REVOKED, "get a new one")
        stage._tokens.clear()
        await here.goes_on(await stage.raw("alice", "phone"))


# -- what a member may not


def _asking(rid: int, group: str) -> commands.Command:
    return commands.SendMessage(rid, group, "who has read this?", rid, asks=True)


def _recall(rid: int, conversation: str) -> commands.Command:
    return commands.RecallMessage(rid=rid, conversation=conversation, seq=1)


def _history(rid: int, conversation: str) -> commands.Command:
    return commands.FetchHistory(rid=rid, conversation=conversation)


@pytest.mark.anyio
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_is_refused(tmp_path: Path, transport: str) -> None:
    """Every wish that cannot be has its code and its reason; the session goes on, and nothing has changed."""
    async with scene(transport, tmp_path) as here:
        stage = here.stage
        await stage.users("erin")
        await stage.group("BIG", "olga", "alice", "bob", "erin")
        olga, alice, bob = [await stage.raw(user, "phone") for user in ("olga", "alice", "bob")]
        for group in ("G", "BIG"):
            assert (await olga.ask(lambda rid, g=group: commands.SendMessage(rid, g, "plain", rid))).seq == 1  # type: ignore[misc]
        await bob.told()
        strange, beyond = Code.UNKNOWN_CONVERSATION, Code.BEYOND_HEAD
        cases: list[tuple[Raw, Callable[[int], commands.Command], Code, str, int | None]] = [
            (bob, lambda r: commands.ReadConversation(r, "nowhere", 1), strange, "'nowhere'", None),
            (bob, lambda r: commands.ReadConversation(r, "carol~dan", 1), strange, "with you in it", None),
            (bob, lambda r: commands.ReadMessages(r, "carol~dan", (1, 2)), strange, "with you in it", None),
            (bob, lambda r: commands.AckDelivered(r, "carol~dan", (1, 2)), strange, "with you in it", None),
            (bob, lambda r: commands.ReadMessages(r, AB, (70, 71)), beyond, "nothing after #2", 2),
            (bob, lambda r: commands.AckDelivered(r, AB, (70, 71)), beyond, "nothing after #2", 2),
            (alice, lambda r: commands.ReadConversation(r, AB, 70), beyond, "nothing after #2", 2),
            (alice, lambda r: commands.ReadMessages(r, AB, (1, 2)), Code.OWN_MESSAGE, "leave it out", None),
            (
                bob,
                lambda r: commands.ReadMessages(r, "G", (1, 2), "seen"),
                Code.NOT_ASKED,
                "did not ask",
                None,
            ),
            (alice, lambda r: _asking(r, "G"), Code.NOT_PERMITTED, "", None),
            (olga, lambda r: _asking(r, "BIG"), Code.GROUP_TOO_LARGE, "3", 3),
            (alice, lambda r: commands.SendMessage(r, "NOWHERE", "?", r), strange, "'NOWHERE'", None),
            (alice, lambda r: commands.SendMessage(r, "alice~zoe", "?", r), Code.UNKNOWN_USER, "'zoe'", None),
            (alice, lambda r: commands.SendMessage(r, "carol~dan", "?", r), strange, "'carol~dan'", None),
            (bob, lambda r: _recall(r, AB), Code.NOT_PERMITTED, "", None),
            (bob, lambda r: _history(r, "carol~dan"), strange, "with you in it", None),
            (alice, lambda r: log_in("bob", "phone", "x"), Code.ALREADY_LOGGED_IN, "another link", None),
        ]
        before = [await stage.explain(user, AB) for user in ("alice", "bob")]
        for number, (raw, make, code, words, limit) in enumerate(cases):
            raw.say(make(500 + number))
            refused = await raw.hear(Rejected)
            check(refused, code, words)
            assert refused.limit == limit, f"case {number}"
            assert len(refused.reason.split()) > 3, refused.reason
            await here.undisturbed()
        assert before == [await stage.explain(user, AB) for user in ("alice", "bob")] == [[], [1, 2]]
        for raw in (olga, alice, bob):
            assert await raw.told() == [], "somebody was told of what was refused"
        await here.goes_on(alice)
        assert isinstance(await bob.ask(lambda rid: commands.ReadConversation(rid, AB, 3)), Done)
        told = [update for update in await alice.told() if isinstance(update, (Read, Delivered))]
        assert told[-1].ranges == (1, 4)


@pytest.mark.anyio
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_too_much_too_fast(tmp_path: Path, transport: str) -> None:
    """Above a rate one is told how long to wait, and waiting that long is enough; deliveries have no rate."""
    settings = json.dumps({"limits": {"sends_per_second": 2, "sends_burst": 3, "logins_burst": 2}})
    bystanders = json.dumps({})
    async with scene(transport, tmp_path, apps={"default": bystanders, "slow": settings}) as here:
        stage = here.stage
        await stage.users("alice", "bob", app="slow")
        alice, bob = [await stage.raw(user, "phone", app="slow") for user in ("alice", "bob")]
        alice.say(*(commands.SendMessage(number, AB, "quick", number) for number in range(1, 6)))
        answers: list[Any] = [await alice.hear(_ANSWER) for _ in range(5)]
        assert [getattr(answer, "seq", 0) for answer in answers] == [1, 2, 3, 0, 0]
        for refused in answers[3:]:
            assert refused.code is Code.RATE_LIMITED
            assert f"wait {refused.retry_after_ms} ms" in refused.reason
            assert 0 < refused.retry_after_ms <= 501
        for _ in range(50):
            bob.say(commands.AckDelivered(0, AB, (1, 4)))
        assert all(
            isinstance(update, object) and not isinstance(update, Rejected) for update in await bob.told()
        )
        await here.undisturbed()
        stage.now_ms += answers[3].retry_after_ms
        assert (await alice.ask(lambda rid: commands.SendMessage(rid, AB, "patient", 4))).seq == 4
        hello = commands.Hello(
            rid=1, version=VERSION, user="alice", device="x", install="i", app="slow", password="guess"
        )
        codes = []
        for _ in range(3):
            stranger = await stage.raw_link()
            stranger.say(hello)
            refused = await stranger.hear(Rejected)
            codes.append(refused.code)
            await ends(stranger)
        assert codes == [Code.UNAUTHORIZED, Code.UNAUTHORIZED, Code.RATE_LIMITED]
        assert refused.retry_after_ms > 0
        assert (await alice.ask(lambda rid: commands.SendMessage(rid, AB, "repeated", 4))).seq == 4
        await here.undisturbed()


# -- a full disk


@pytest.mark.anyio
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_full_disk(tmp_path: Path, transport: str) -> None:
    """When the file may not grow, writers are refused and told when to come back, readers are served; when
    there is room again everything goes on, and what was refused is sent once, without a gap."""
    store = SQLiteStore(tmp_path / "node", pages_max=220)
    apps = {"default": json.dumps({"limits": {"retention_ms": DAY_MS, "sends_burst": 10_000}})}
    async with running(transport, tmp_path, store=store, apps=apps) as stage:
        with anyio.fail_after(60):
            await stage.users("alice", "bob")
            alice, bob = await stage.raw("alice", "phone"), await stage.raw("bob", "phone")
            reader = await stage.device("bob", "laptop")
            number, answer = 0, cast(Any, None)
            while not isinstance(answer, Rejected):
                number += 1
                alice.say(commands.SendMessage(number, AB, "x" * 10_000, number))
                answer = await alice.hear(_ANSWER)
                assert number < 1000
            accepted = number - 1
            assert accepted > 20
            assert answer.rid == number
            assert answer.code is Code.STORAGE_FULL
            assert answer.retry_after_ms > 0
            assert "disk is full" in answer.reason
            # Readers: a count, a list, a page of history, a device that comes back, and the operator.
            assert len(await stage.explain("bob", AB)) == accepted
            await reader.has("alice", accepted)
            assert reader.me.unread("alice") == accepted
            (line,) = (await reader.me.list_conversations()).items
            assert (line.head, line.unread) == (accepted, accepted)
            assert len((await reader.me.fetch_history("alice", limit=20)).messages) == 20
            again = await stage.raw("bob", "phone")
            assert [update for update in again.heard if isinstance(update, Rejected)] == []
            await again.told()
            assert max(getattr(update, "seq", 0) for update in [*bob.heard, *again.heard]) <= accepted
            # Messages get too old, and there is room again.
            stage.sweep(2 * DAY_MS)
            assert (await alice.hear(MessagesExpired)).through == accepted
            for _ in range(2):  # the second time it is a repeat
                alice.say(commands.SendMessage(number, AB, "x" * 10_000, number))
                assert (await alice.hear(Accepted)).seq == accepted + 1
            await reader.has("alice", accepted + 1)
            await reader.me.read("alice")
            await reader.me.flush()
            assert await stage.explain("bob", AB) == []
            told = [update for update in await alice.told() if isinstance(update, Read)]
            assert told
            assert told[-1].ranges[-1] == accepted + 2
    with sqlite3.connect(f"file:{store.path}?mode=ro", uri=True) as db:
        found = db.execute("SELECT seq, number FROM messages WHERE seq > ?", (accepted,)).fetchall()
    db.close()
    assert found == [(accepted + 1, number)]


# -- a file that is none


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database " * 1000)


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _overwritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:20_480] = b"\xaa" * (20_480 - 4096)
    path.write_bytes(content)


def _foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
    db.close()


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 4711")
    db.close()


@pytest.mark.parametrize(
    ("spoil", "way_out"),
    [
        (_garbage, "restore the directory from a backup"),
        (_truncated, "restore the directory from a backup"),
        (_overwritten, "restore the directory from a backup"),
        (_foreign, "use another directory"),
        (_newer, "restore a backup from before the upgrade"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, spoil: Callable[[Path], None], way_out: str) -> None:
    """`receipts serve` refuses a database that is damaged or not its own, in one line that names the file and
    the way out, with exit code 1, and leaves it as it found it."""
    data = tmp_path / "node"
    store = SQLiteStore(data)
    store.open(now_ms=1, life="life", secret=b"secret")
    store.close()
    path = data / DATABASE_NAME
    spoil(path)
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "receipts.app", "serve", "--data", str(data), "--tcp", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("receipts: ")
    assert str(path) in line
    assert way_out in line
    assert path.read_bytes() == before
