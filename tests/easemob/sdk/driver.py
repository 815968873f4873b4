"""The vendor's unmodified SDK, driven from Python: pages, connections in them, and all that these were told.

`driver.mjs` runs the pages (jsdom windows or headless Chromium), `agent.js` the SDK inside each. A
`Device` is one connection in a page of its own: a browser. Nothing here knows what is right; tests do.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import anyio
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

__all__ = ["LINK_LOST", "NEWEST", "OLDER", "Callback", "Device", "Driver", "Kind", "Page", "SDKError"]

NEWEST = "4.21.1"
OLDER = ("4.17.0", "4.13.0")

HERE = Path(__file__).parent
PATIENCE_SECONDS = 40.0
"""For anything to come: the SDK's own longest wait is 15 s; only what will never come takes as long."""

LINK_LOST = (510, 512)
"""Types of the SDK's errors when a link broke, or no answer came, before the answer."""

Kind = Literal["jsdom", "chromium"]
_T = TypeVar("_T")


class SDKError(Exception):
    """The SDK rejected a promise."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"{error.get('type')}: {error.get('message')}")
        self.type = error.get("type")
        """As in the SDK's table of errors."""
        self.message = error.get("message")
        self.error = error


class Callback(NamedTuple):
    """Something an application was told."""

    name: str
    """Such as `onReadMessage`."""
    value: Any
    """Its first argument."""


class Driver:
    """A running `driver.mjs`; made by `Driver.running`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._ids = count(1)
        self._answers: dict[int, tuple[anyio.Event, list[dict[str, Any]]]] = {}
        self._devices: dict[str, Device] = {}
        self._pages = count(1)
        self.unhandled: list[Mapping[str, Any]] = []
        """Errors in pages that nobody caught."""

    @classmethod
    @asynccontextmanager
    async def running(cls, packages: Path) -> AsyncIterator[Driver]:
        """Start one, and end it with the block.

        Args:
            packages: The directory with `node_modules`.
        """
        node, chromium = shutil.which("node"), shutil.which("chromium")
        assert node is not None
        command = [node, str(HERE / "driver.mjs"), str(packages), *([chromium] if chromium else [])]
        async with (
            await anyio.open_process(command, stderr=None) as process,
            anyio.create_task_group() as tasks,
        ):
            driver = cls(process)
            tasks.start_soon(driver._listen)
            try:
                yield driver
            finally:
                assert process.stdin is not None
                with anyio.CancelScope(shield=True):
                    await process.stdin.aclose()
                    with anyio.move_on_after(10):
                        await process.wait()
            tasks.cancel_scope.cancel()

    async def ask(self, page: str, op: str, *args: Any) -> Any:
        """Do something in a page.

        Raises:
            SDKError: It was rejected.
            TimeoutError: It was neither done nor rejected.
        """
        number = next(self._ids)
        done, answers = self._answers[number] = anyio.Event(), []
        assert self._process.stdin is not None
        line = json.dumps({"id": number, "page": page, "op": op, "args": args})
        await self._process.stdin.send(f"{line}\n".encode())
        with anyio.fail_after(PATIENCE_SECONDS):
            await done.wait()
        answer = answers[0]
        if "error" in answer:
            raise SDKError(answer["error"])
        return answer["result"]

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        rest = ""
        async for text in TextReceiveStream(self._process.stdout):
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                self._hear(json.loads(line))

    def _hear(self, said: dict[str, Any]) -> None:
        if "id" in said:
            done, answers = self._answers.pop(said["id"])
            answers.append(said)
            done.set()
        elif "unhandled" in said:
            self.unhandled.append(said["unhandled"])
        elif said["page"] in self._devices:
            args = said["args"]
            self._devices[said["page"]].hear(Callback(said["callback"], args[0] if args else None))

    async def device(
        self, user: str, options: Mapping[str, Any], *, version: str = NEWEST, kind: Kind = "jsdom"
    ) -> Device:
        """A page with the SDK and one connection in it, not yet open.

        Args:
            options: Of the SDK's `connection`.
        """
        page = f"{user}-{next(self._pages)}"
        chosen = {"kind": kind} if version == NEWEST else {"kind": kind, "version": version}
        await self.ask(page, "open", chosen)
        device = self._devices[page] = Device(self, page, user)
        await self.ask(page, "connection", "c", options)
        return device

    async def visit(self, url: str, **options: Any) -> Page:
        """Open a page of somebody's in Chromium, as a person does.

        Args:
            options: As of Playwright's `newContext`.
        """
        name = f"visit-{next(self._pages)}"
        await self.ask(name, "open", {"url": url, "options": options})
        return Page(self, name)

    async def forget(self, page: str) -> None:
        """Close a page, as a browser that is shut: the SDK gets no chance to say goodbye."""
        if self._devices.pop(page, None) is not None:
            await self.ask(page, "close")


class Page:
    """A page in Chromium that is looked at and used, not driven from inside."""

    def __init__(self, driver: Driver, name: str) -> None:
        self._driver = driver
        self._name = name

    async def click(self, selector: str) -> None:
        """Click on something, as soon as it is there."""
        await self._driver.ask(self._name, "click", selector)

    async def write(self, selector: str, text: str) -> None:
        """Fill in a field and press Enter."""
        await self._driver.ask(self._name, "fill", selector, text)
        await self._driver.ask(self._name, "press", selector, "Enter")

    async def shows(self, selector: str) -> str:
        """Wait until something can be seen; its text."""
        await self._driver.ask(self._name, "waitForSelector", selector)
        return str(await self._driver.ask(self._name, "textContent", selector))

    async def lacks(self, selector: str) -> None:
        """Wait until something cannot be seen."""
        await self._driver.ask(self._name, "waitForSelector", selector, {"state": "hidden"})

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression comes to in the page."""
        return await self._driver.ask(self._name, "evaluate", expression)

    async def picture(self, path: Path) -> None:
        """Write what can be seen as a PNG."""
        await self._driver.ask(self._name, "screenshot", {"path": str(path)})

    async def close(self) -> None:
        """Shut it."""
        await self._driver.ask(self._name, "close")


class Device:
    """One browser of a user, with one SDK connection, and all its callbacks in order."""

    def __init__(self, driver: Driver, page: str, user: str) -> None:
        self._driver = driver
        self.page = page
        self.user = user
        self.heard: list[Callback] = []
        self._changed = anyio.Event()
        self._handles = count(1)

    def hear(self, callback: Callback) -> None:
        """A callback was called."""
        self.heard.append(callback)
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    # -- doing

    async def open(self, **credentials: str) -> Any:
        """`conn.open` for this device's user, with `pwd` or `accessToken`."""
        return await self.call("open", {"user": self.user, **credentials})

    async def call(self, method: str, *args: Any) -> Any:
        """Call a method of the connection and wait for its promise.

        Raises:
            SDKError: It was rejected.
        """
        return await self._driver.ask(self.page, "call", "c", method, args)

    async def create(self, **message: Any) -> str:
        """`message.create`; a handle of the message object, to be sent, and sent again."""
        handle = f"m{next(self._handles)}"
        await self._driver.ask(self.page, "create", handle, message)
        return handle

    async def send_created(self, handle: str) -> Any:
        """`conn.send` of an object that was made before.

        Raises:
            SDKError: It was rejected.
        """
        return await self._driver.ask(self.page, "send", "c", handle)

    async def persist(self, handle: str) -> dict[str, Any]:
        """Send as an application does that tries again with the same object whenever its link was lost.

        Raises:
            SDKError: It was rejected for another reason.
        """
        while True:
            times = len(self.all("onConnected"))
            try:
                found: dict[str, Any] = await self.send_created(handle)
                return found
            except SDKError as error:
                if error.type not in LINK_LOST:
                    raise
            await self.connected(times + 1)

    async def send(self, **message: Any) -> Any:
        """Make a message or receipt and send it; what the promise resolves with.

        Raises:
            SDKError: It was rejected.
        """
        return await self.send_created(await self.create(**message))

    async def send_all(self, messages: Sequence[Mapping[str, Any]]) -> list[str]:
        """Send many without waiting for answers in between; their message ids at the server, in order.

        Raises:
            SDKError: One was rejected.
        """
        found = await self._driver.ask(self.page, "sendAll", "c", messages)
        return [str(one["serverMsgId"]) for one in found]

    async def text(self, to: str, text: str, **more: Any) -> str:
        """Send a text; its message id at the server."""
        message = {"type": "txt", "chatType": "singleChat", "to": to, "msg": text, **more}
        return str((await self.send(**message))["serverMsgId"])

    async def field(self, name: str) -> Any:
        """A field of the connection."""
        return await self._driver.ask(self.page, "field", "c", name)

    async def close(self) -> None:
        """`conn.close`, and the page after it."""
        await self.call("close")
        await self.shut()

    async def shut(self) -> None:
        """Shut the browser, without a word to the server."""
        await self._driver.forget(self.page)

    # -- looking

    def all(self, name: str, *, since: int = 0) -> list[Any]:
        """The first argument of every call of a callback, in order.

        Args:
            since: An earlier length of `heard`.
        """
        return [callback.value for callback in self.heard[since:] if callback.name == name]

    async def until(self, condition: Callable[[], _T]) -> _T:
        """Wait until something holds; look after every callback.

        Raises:
            TimeoutError: It never did; the text says what was heard instead.
        """
        try:
            with anyio.fail_after(PATIENCE_SECONDS):
                while not (found := condition()):
                    await self._changed.wait()
                return found
        except TimeoutError:
            last = "\n".join(f"  {name} {value}" for name, value in self.heard[-20:])
            raise TimeoutError(f"{self.page} has not heard what was waited for, but:\n{last}") from None

    async def connected(self, times: int) -> None:
        """Wait until it has logged in that often, by itself after the first time."""
        await self.until(lambda: len(self.all("onConnected")) >= times)

    async def heard_of(
        self, name: str, *, since: int = 0, author: str | None = None, **fields: Any
    ) -> dict[str, Any]:
        """Wait for a callback whose argument has these fields; its first argument.

        Args:
            since: An earlier length of `heard`.
            author: The field `from`.
        """
        if author is not None:
            fields["from"] = author

        def matching() -> list[Any]:
            return [found for found in self.all(name, since=since) if _has(found, fields)]

        found: dict[str, Any] = (await self.until(matching))[0]
        return found


def _has(found: Any, fields: Mapping[str, Any]) -> bool:
    return all(isinstance(found, dict) and found.get(name) == value for name, value in fields.items())
