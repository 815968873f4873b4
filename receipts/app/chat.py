"""`receipts chat`: a client for terminals and scripts."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import attrs

from receipts.client.connection import Connection, connect
from receipts.core.errors import LocalProtocolError, Refused
from receipts.core.ids import Seq
from receipts.core.status import Status
from receipts.node.worker import Worker, call_soon
from receipts.wire.updates import Reader
from transports.sockets import parse

from .complaints import Complaint, reason_of, system_reason
from .lines import clock_time, conversation_name, json_line, message_line, news_line, seqs_text

__all__ = ["Chatting", "chat"]

SCHEMES = ("tcp", "tls", "tcp+unix", "ws", "wss")
CHUNK_BYTES = 65536


@attrs.frozen(kw_only=True)
class Chatting:
    """Who chats, where, and how it is printed."""

    url: str
    user: str
    device: str
    app: str = "default"
    token: str | None = None
    password: str | None = None
    password_stdin: bool = False
    """Whether the first line of stdin is the password."""
    path: Path | None = None
    """Where messages and receipts are kept."""
    ca: Path | None = None
    as_json: bool = False


async def chat(chatting: Chatting) -> int:
    """Chat until stdin ends, or `/quit`.

    Returns:
        How many commands were not done.

    Raises:
        Complaint: The URL is none, or nobody answers there.
        Refused: The node does not let this user in, or ended the session for good.
    """
    context = _check_url(chatting)
    stdin = _Stdin()
    password = chatting.password
    if chatting.password_stdin:
        password = await stdin.line()
        if not password:
            raise Complaint("there is no password on the first line of stdin", status=2)
    connection = connect(
        chatting.url,
        user=chatting.user,
        device=chatting.device,
        app=chatting.app,
        token=chatting.token,
        password=password,
        path=chatting.path,
        client="receipts-chat",
        ssl_context=context,
    )
    talk = _Talk(connection, as_json=chatting.as_json)
    connection.on(object, talk.news)  # before it is entered, so that what waits unread is printed too
    try:
        async with connection, anyio.create_task_group() as tasks:
            tasks.start_soon(talk.keep)
            await talk.read_all(stdin)
            tasks.cancel_scope.cancel()
    except TimeoutError:
        raise Complaint(f"{chatting.url}: there was no answer in time") from None
    except OSError as error:
        raise Complaint(f"{chatting.url}: {system_reason(error)}") from None
    return talk.failed


def _check_url(chatting: Chatting) -> ssl.SSLContext | None:
    scheme = chatting.url.partition("://")[0]
    try:
        if scheme not in SCHEMES:
            raise ValueError
        parse(chatting.url, default_port={"ws": 80, "wss": 443}.get(scheme))
    except ValueError:
        raise Complaint(
            f"{chatting.url!r} is no address of a node, such as tcp://127.0.0.1:4000 or "
            f"ws://127.0.0.1:4001/; it begins with one of {', '.join(SCHEMES)}",
            status=2,
        ) from None
    if chatting.ca is None:
        return None
    try:
        return ssl.create_default_context(cafile=chatting.ca)
    except OSError as error:
        raise Complaint(f"{chatting.ca} cannot be used as a certificate authority: {error}") from None


class _Stdin:
    """Lines of stdin, read by a thread, because no event loop can wait for every kind of file.

    By the descriptor and not by `sys.stdin`, whose lock a thread that still reads would hold at exit.
    """

    def __init__(self) -> None:
        self._reader = Worker("receipts-stdin", call_soon())
        self._rest = b""
        self._ended = False

    async def line(self) -> str | None:
        """The next line without its end; None at the end of the file."""
        while b"\n" not in self._rest and not self._ended:
            chunk = await self._chunk()
            self._rest += chunk
            self._ended = not chunk
        if not self._rest:
            return None
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="replace").rstrip("\r")

    async def _chunk(self) -> bytes:
        arrived, found = anyio.Event(), [b""]

        def done(chunk: bytes | None, error: BaseException | None) -> None:
            found[0] = chunk or b""
            arrived.set()

        self._reader.submit(done, os.read, 0, CHUNK_BYTES)
        await arrived.wait()
        return found[0]


class _Talk:
    """Commands in, lines out."""

    def __init__(self, me: Connection, *, as_json: bool) -> None:
        self.me = me
        self.failed = 0
        self._as_json = as_json
        self._conversation: str | None = None
        self._over = False
        self._commands: dict[str, tuple[str, str, Callable[[list[str]], Awaitable[None]]]] = {
            "to": ("NAME", "talk to a user, or in a group", self._to),
            "read": ("[SEQ]", "read everything (through a message): one receipt", self._read),
            "readmsg": (
                "SEQ [WORDS]",
                "read one message by name; WORDS go to a group message that asks",
                self._readmsg,
            ),
            "unread": ("", "how many wait unread here, and which", self._unread),
            "readers": ("SEQ", "who has read a group message that asked, and who has not", self._readers),
            "list": ("", "the conversations with their unread counts", self._list),
            "history": ("[COUNT]", "the newest messages", self._history),
            "status": ("SEQ", "how far a message has come, member by member", self._status),
            "ask": ("TEXT", "send to the group and ask for receipts", self._ask),
            "recall": ("SEQ", "take a message back", self._recall),
            "mark": ("[SEQ]", "count this as unread again (from a message on)", self._mark),
            "share": ("on|off", "let others know what is delivered and read, or not", self._share),
            "open": ("[WORDS]", "this chat is on screen: receipts are sent by themselves", self._open),
            "close": ("", "it is no longer on screen", self._close),
            "new": ("ID MEMBER…", "open a group", self._new),
            "wait": (
                "[COUNT]",
                "until so many are unread here; or `delivered SEQ`, `read SEQ`, `readers SEQ [COUNT]`",
                self._wait,
            ),
            "help": ("", "this list", self._help),
            "quit": ("", "leave, once the node has everything", self._quit),
        }

    # -- printing

    def news(self, news: Any) -> None:
        """Something happened (`News`)."""
        if self._as_json:
            self._print(json_line(type(news).__name__, news))
        elif (line := news_line(news, self.me.user)) is not None:
            self._print(line)

    def _say(self, kind: str, fields: Any, *lines: str) -> None:
        """An answer: a JSON object, or lines."""
        if self._as_json:
            self._print(json_line(kind, fields))
        else:
            for line in lines:
                self._print(line)

    def _print(self, line: str) -> None:
        try:
            print(line, flush=True)
        except BrokenPipeError:
            self._over = True  # nobody reads any more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    # -- the conversation with the user

    async def keep(self) -> None:
        """Raise what ends the connection for good."""
        async for _ in self.me.updates():
            pass

    async def read_all(self, stdin: _Stdin) -> None:
        """Do line after line, each when the one before is done; then flush."""
        while not self._over and (line := await stdin.line()) is not None:
            if line.strip():
                await self._try(line)
        try:
            await self.me.flush()
        except Refused as refused:
            self._fail(reason_of(refused) or "", refused)

    async def _try(self, line: str) -> None:
        try:
            await self._do(line)
        except (Refused, LocalProtocolError) as error:
            self._fail(reason_of(error) or "", error)
        except ValueError as error:
            self._fail(str(error), error)

    def _fail(self, reason: str, error: Exception) -> None:
        self.failed += 1
        fields = {"code": getattr(error, "code", "usage"), "reason": reason}
        if self._as_json:
            self._print(
                json_line("Refused", {**fields, "retry_after_ms": getattr(error, "retry_after_ms", 0)})
            )
        else:
            print(f"refused: {reason}", file=sys.stderr, flush=True)

    async def _do(self, line: str) -> None:
        if not line.startswith("/") or line.startswith("//"):
            await self._send(line.removeprefix("/"), asks=False)
            return
        name, *words = line[1:].split()
        if name not in self._commands:
            raise ValueError(f"there is no command /{name}: see /help, or write //{name} to send it")
        if name == "ask":
            words = [line.partition(" ")[2].strip()]
        await self._commands[name][2](words)

    def _here(self) -> str:
        if self._conversation is None:
            raise ValueError("say to whom first: /to NAME")
        return self._conversation

    def _name(self, conversation: str) -> str:
        return conversation_name(conversation, self.me.user)

    # -- commands

    async def _to(self, words: list[str]) -> None:
        (name,) = _take(words, 1, "/to NAME")
        self._conversation = self.me.conversation(name)
        self._say("To", {"conversation": self._conversation}, f"to {self._name(self._conversation)}")

    async def _send(self, body: str, *, asks: bool) -> None:
        await self.me.send(conversation=self._here(), body=body, asks=asks)  # printed as news: `Accepted`

    async def _ask(self, words: list[str]) -> None:
        (body,) = words
        if not body:
            raise ValueError("say it like this: /ask TEXT")
        await self._send(body, asks=True)

    async def _read(self, words: list[str]) -> None:
        through = _number(words[0]) if words else None
        await self.me.read(self._here(), through)
        await self.me.flush()
        unread = self.me.unread(self._here())
        self._say("Done", {"command": "read", "unread": unread}, f"read, {unread} unread")

    async def _readmsg(self, words: list[str]) -> None:
        seq = _number(*words[:1])
        await self.me.read_messages(self._here(), [seq], " ".join(words[1:]) or None)
        await self.me.flush()
        self._say("Done", {"command": "readmsg", "seq": seq}, f"read #{seq}")

    async def _unread(self, words: list[str]) -> None:
        here = self._here()
        seqs, marked = self.me.unread_seqs(here), self.me.marked_unread(here)
        shown = "".join(f" #{seq}" for seq in seqs) + (" marked" if marked else "")
        fields = {"conversation": here, "unread": len(seqs), "seqs": seqs, "marked_unread": marked}
        self._say("Unread", fields, f"unread {len(seqs)}{':' if shown else ''}{shown}")

    async def _readers(self, words: list[str]) -> None:
        seq = _number(*words[:1])
        found = await self.me.readers(self._here(), seq)
        if found.unknown is not None:
            self._say("Readers", found, f"#{seq} unknown: {found.unknown.value}")
            return
        lines = [f"#{seq} read by {found.count} of {found.audience}"]
        lines += [f"  {clock_time(reader.at_ms)} {reader.user}{_words(reader)}" for reader in found.readers]
        lines += [f"  not read: {reader.user}{_words(reader)}" for reader in found.waiting]
        self._say("Readers", found, *lines)

    async def _list(self, words: list[str]) -> None:
        items = self.me.conversations()
        for item in items:
            last = message_line(item.last, self.me.user) if item.last is not None else ""
            marks = (" marked" if item.marked_unread else "") + (" muted" if item.muted else "")
            self._say(
                "Summary", item, f"{self._name(item.conversation)}: unread {item.unread}{marks}  {last}"
            )
        badge = self.me.badge()
        self._say("Badge", badge, f"unread {badge.messages} in {badge.conversations} conversations")

    async def _history(self, words: list[str]) -> None:
        limit = _number(words[0]) if words else 20
        page = await self.me.fetch_history(self._here(), limit=limit)
        lines = [message_line(message, self.me.user) for message in page.messages]
        lines += [f"recalled: {seqs_text(page.recalled)}"] if page.recalled else []
        self._say("History", page, *lines)

    async def _status(self, words: list[str]) -> None:
        seq = _number(*words[:1])
        found = await self.me.ask_status(self._here(), [seq])
        lines = [f"#{item.seq} {item.user}: {item.status.name.lower()}" for item in found.items]
        self._say("Statuses", found, *(lines or [f"#{seq} is for nobody else"]))

    async def _recall(self, words: list[str]) -> None:
        seq = _number(*words[:1])
        await self.me.recall(self._here(), seq)
        self._say("Done", {"command": "recall", "seq": seq}, f"recalled #{seq}")

    async def _mark(self, words: list[str]) -> None:
        await self.me.mark_unread(self._here(), from_seq=_number(words[0]) if words else None)
        self._say("Done", {"command": "mark"}, "marked as unread")

    async def _share(self, words: list[str]) -> None:
        (choice,) = _take(words, 1, "/share on|off")
        if choice not in ("on", "off"):
            raise ValueError("say it like this: /share on, or /share off")
        await self.me.set_sharing(delivered=choice == "on", read=choice == "on")
        self._say("Done", {"command": "share"}, f"sharing is {choice}")

    async def _open(self, words: list[str]) -> None:
        self.me.open_chat(self._here(), " ".join(words) or None)
        await self.me.flush()
        self._say("Done", {"command": "open"}, f"{self._name(self._here())} is on screen")

    async def _close(self, words: list[str]) -> None:
        self.me.close_chat(self._here())
        self._say("Done", {"command": "close"}, f"{self._name(self._here())} is no longer on screen")

    async def _new(self, words: list[str]) -> None:
        if not words:
            raise ValueError("say it like this: /new ID MEMBER…")
        self._conversation = await self.me.create_group(words[0], words[1:], conversation=words[0])
        self._say("To", {"conversation": self._conversation}, f"to {self._conversation}")

    async def _wait(self, words: list[str]) -> None:
        here, me = self._here(), self.me
        kind, *rest = words if words and not words[0].isdecimal() else ["unread", *words]
        if kind == "unread":
            count = _number(rest[0]) if rest else 1
            await me.until(lambda: me.unread(here) >= count)
        elif kind in ("delivered", "read"):
            seq, wanted = _number(*rest[:1]), Status[kind.upper()]
            await me.until(lambda: me.status(here, seq) >= wanted)
        elif kind == "readers":
            seq, count = _number(*rest[:1]), _number(rest[1]) if rest[1:] else 1
            await me.until(lambda: len(me.known_readers(here, seq)) >= count)
        else:
            raise ValueError("say it like this: /wait, /wait 3, /wait read 7 or /wait readers 7 2")
        self._say("Done", {"command": "wait"})

    async def _help(self, words: list[str]) -> None:
        calls = {name: f"/{name} {usage}".rstrip() for name, (usage, _, _) in self._commands.items()}
        lines = [f"{calls[name]:<22} {text}" for name, (_, text, _) in self._commands.items()]
        self._say(
            "Help", calls, "TEXT                   send it (//… sends a line that begins with /)", *lines
        )

    async def _quit(self, words: list[str]) -> None:
        self._over = True


def _words(reader: Reader) -> str:
    return (f' "{reader.content}"' if reader.content else "") + (" (left)" if reader.left else "")


def _take(words: list[str], count: int, usage: str) -> list[str]:
    if len(words) != count:
        raise ValueError(f"say it like this: {usage}")
    return words


def _number(word: str = "") -> Seq:
    if not word.removeprefix("#").isdecimal():
        raise ValueError(
            f"{word!r} is not the number of a message" if word else "say which: the number of a message"
        )
    return int(word.removeprefix("#"))
