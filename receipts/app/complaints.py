"""What went wrong, as one line that says what to do. Bugs stay tracebacks; what a user did never is one."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

from receipts.core.errors import ReceiptsError, Refused, RemoteProtocolError

__all__ = ["Complaint", "innermost", "reason_of", "run_loop", "system_reason"]

_T = TypeVar("_T")


class Complaint(Exception):
    """Something that the user can mend; the text is the whole line.

    Args:
        status: The exit code: 2 for how the command was called, 1 for everything else.
    """

    def __init__(self, text: str, *, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


def innermost(error: BaseException) -> BaseException:
    """What a task group wrapped, when it wrapped one thing."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def reason_of(error: BaseException) -> str | None:
    """The line for an error that is not a bug; None for one that is.

    >>> reason_of(Refused(Code.RATE_LIMITED, "too many sends", retry_after_ms=250))
    'too many sends; try again in 250 ms (rate_limited)'
    """
    match error:
        case Refused() if error.retry_after_ms:
            return f"{error.reason}; try again in {error.retry_after_ms} ms ({error.code.value})"
        case RemoteProtocolError():
            return f"the other side does not speak our protocol: {error}"
        case Complaint() | ReceiptsError():
            return str(error)
        case OSError():
            return system_reason(error)
        case _:
            return None


def system_reason(error: OSError) -> str:
    """What the system said, without numbers."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, TimeoutError):
        return str(error) or "there was no answer in time"
    if error.errno == errno.ECONNREFUSED:
        return "nothing is listening there"
    text = error.strerror if error.errno is None else os.strerror(error.errno)
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{text or error}"


def run_loop(main: Callable[[], Awaitable[_T]], loop: str = "asyncio") -> _T:
    """Run an async function on one of the event loops, and unwrap what it raises.

    Args:
        loop: `asyncio`, `uvloop` or `trio`.

    Raises:
        Complaint: The loop is not installed.
    """
    options: dict[str, Any] = {"use_uvloop": True} if loop == "uvloop" else {}
    try:
        return anyio.run(main, backend="trio" if loop == "trio" else "asyncio", backend_options=options)
    except ModuleNotFoundError as error:
        if error.name != loop:
            raise
        raise Complaint(f"{loop} is not installed: pip install {loop}, or choose another --loop") from None
    except BaseExceptionGroup as group:
        inner = innermost(group)
        if inner is group:
            raise
        raise inner from inner.__cause__
