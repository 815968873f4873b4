"""An operator's commands: through the socket of the node that runs, or in this process when none does."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import anyio

import transports
from receipts.core.errors import Code, Refused
from receipts.node.commands import Admin, ListAllConversations, Verify
from receipts.node.operator import OPERATOR, encode_request
from receipts.storage.base import StoreLocked
from receipts.storage.sqlite import DATABASE_NAME, SQLiteStore

from .complaints import Complaint, innermost

__all__ = ["SOCKET_NAME", "Operate", "begin_new_life", "operating", "problems", "socket_url", "verify_all"]

SOCKET_NAME = "operator.sock"

SOCKET_PATH_BYTES_MAX = 103
"""What fits into the address of a Unix socket everywhere (Linux has 107, others 103)."""

ANSWER_SECONDS = 60.0
"""For one command: a verification of a large conversation takes a while."""

Operate: TypeAlias = Callable[[Admin], Awaitable[dict[str, Any]]]
"""Does one command and returns the answer as its fields, with its kind as `type`. Raises `Refused`."""


def socket_url(data: Path) -> str:
    """Where the node on this directory listens for its operator.

    Raises:
        Complaint: The path is too long for a socket.
    """
    path = data.resolve() / SOCKET_NAME
    size = len(bytes(path))
    if size > SOCKET_PATH_BYTES_MAX:
        raise Complaint(
            f"{path} has {size} bytes, and a socket's path at most {SOCKET_PATH_BYTES_MAX}: "
            "choose a shorter --data, or reach it by a symbolic link from /run"
        )
    return f"tcp+unix://{path}"


@asynccontextmanager
async def operating(data: Path, *, create: bool = False) -> AsyncIterator[Operate]:
    """Reach the node that owns a directory, or be it.

    Args:
        create: Whether a directory without data may be begun.

    Raises:
        Complaint: There is no data; or another process has it and does not answer.
        StoreCorrupt, StoreFailed: As the store says.
    """
    try:
        async with transports.connect(socket_url(data)) as link:
            yield _Desk(link).operate
            return
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        pass  # no node is running there
    except PermissionError:
        raise Complaint(f"a node is running on {data}, and only its own user may operate it") from None
    if not create and not (data / DATABASE_NAME).exists():
        raise Complaint(f"there is no node's data in {data}: check --data, or begin with `receipts user add`")
    from receipts.node.runner import Node  # only where it is needed: the socket's side starts twice as fast

    try:
        async with Node(SQLiteStore(data)).running() as node:

            async def operate(command: Admin) -> dict[str, Any]:
                answer: dict[str, Any] = json.loads(OPERATOR.encode(await node.operate(command), 0)[0])
                return answer

            yield operate
    except StoreLocked as error:
        raise Complaint(
            f"{error}, or wait until it answers: it keeps no {SOCKET_NAME} (it may be starting)"
        ) from None
    except BaseExceptionGroup as group:
        error_inside = innermost(group)
        if error_inside is group:
            raise
        raise error_inside from error_inside.__cause__


class _Desk:
    """A conversation with the node, one request at a time."""

    def __init__(self, link: transports.Link) -> None:
        self._link = link

    async def operate(self, command: Admin) -> dict[str, Any]:
        try:
            with anyio.fail_after(ANSWER_SECONDS):
                self._link.send([encode_request(command)])
                frame = (await self._link.receive())[0]
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise Complaint("the node has stopped before it answered: try again") from None
        except TimeoutError:
            raise Complaint(f"the node did not answer within {ANSWER_SECONDS:.0f} s") from None
        answer: dict[str, Any] = json.loads(frame)
        if answer["type"] in ("Rejected", "Goodbye"):
            raise Refused(
                Code(answer["code"]), answer["reason"], retry_after_ms=answer["retry_after_ms"] or 0
            )
        return answer


# -- what takes more than one command


async def verify_all(operate: Operate, *, app: str | None, repair: bool) -> tuple[int, list[dict[str, Any]]]:
    """Recount every conversation.

    Args:
        app: Only those of one app.
        repair: Whether to mend what is found; then a new life begins.

    Returns:
        How many conversations were looked at, and what was found: {app, conversation, invariant, member,
        detail, repaired}.
    """
    life = secrets.token_hex(8) if repair else ""
    count, findings, after_key = 0, list[dict[str, Any]](), 0
    while True:
        page = json.loads((await operate(ListAllConversations(rid=1, after_key=after_key)))["text"])
        if not page:
            return count, findings
        after_key = page[-1][0]
        for _key, of_app, conversation in page:
            if app is None or app == of_app:
                count += 1
                findings += await _verify(operate, of_app, conversation, life)


async def _verify(operate: Operate, app: str, conversation: str, life: str) -> list[dict[str, Any]]:
    look = Verify(rid=1, app=app, conversation=conversation)
    found = json.loads((await operate(look))["text"])
    left = found
    if found and life:
        await operate(Verify(rid=1, app=app, conversation=conversation, repair=True, life=life))
        left = json.loads((await operate(look))["text"])
    return [
        {"app": app, "conversation": conversation, **finding, "repaired": finding not in left}
        for finding in found
    ]


def problems(data: Path) -> list[str]:
    """Read the database of a node that is not running and say what is damaged in it, as SQLite sees it.

    Raises:
        StoreLocked: A node is running there.
        StoreCorrupt: It cannot even be opened.
    """
    store = _opened(data)
    try:
        return store.problems()
    finally:
        store.close()


def begin_new_life(data: Path) -> str:
    """After a restore: what devices remember of the time since the backup is void, and they start anew.

    Returns:
        The id of the life.
    """
    store = _opened(data)
    try:
        life = secrets.token_hex(8)
        store.new_life(life)
        return life
    finally:
        store.close()


def _opened(data: Path) -> SQLiteStore:
    if not (data / DATABASE_NAME).exists():
        raise Complaint(f"there is no node's data in {data}: check --data")
    store = SQLiteStore(data)
    store.open(now_ms=0, life=secrets.token_hex(8), secret=secrets.token_bytes(32))
    return store
