"""Hashing passwords, in at most two threads, so that logins do not hold up messages."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.abc
import anyio.to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from .world import PasswordJob

__all__ = ["Passwords", "hash_password"]

THREADS_MAX = 2
"""One hash takes 64 MiB and about 50 ms of CPU: argon2-cffi's defaults, RFC 9106's low-memory profile."""

_hasher = PasswordHasher()


def hash_password(password: str) -> str:
    """Argon2id, with a salt of its own; blocks."""
    return _hasher.hash(password)


def _verify(known: str, password: str) -> bool:
    try:
        return _hasher.verify(known, password)
    except (VerificationError, InvalidHashError):
        return False


class Passwords:
    """Jobs for threads; outcomes come back in the event loop."""

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks
        self._limiter = anyio.CapacityLimiter(THREADS_MAX)

    def start(self, job: PasswordJob, done: Callable[[PasswordJob, bool | str], None]) -> None:
        """Verify (outcome: bool) or hash (outcome: str), then call `done`."""
        self._tasks.start_soon(self._run, job, done)

    async def _run(self, job: PasswordJob, done: Callable[[PasswordJob, bool | str], None]) -> None:
        outcome: bool | str
        if job.known is None:
            outcome = await anyio.to_thread.run_sync(hash_password, job.password, limiter=self._limiter)
        else:
            outcome = await anyio.to_thread.run_sync(_verify, job.known, job.password, limiter=self._limiter)
        done(job, outcome)
