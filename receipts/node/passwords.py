"""Hashing passwords, in at most two threads, so that logins do not hold up messages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from .worker import Worker
from .world import PasswordJob

__all__ = ["Passwords", "hash_password"]

log = logging.getLogger("receipts.node")

THREADS = 2
"""One hash takes 64 MiB and about 50 ms of CPU: argon2-cffi's defaults, RFC 9106's low-memory profile."""

_hasher = PasswordHasher()


def hash_password(password: str) -> str:
    """Argon2id, with a salt of its own; blocks."""
    return _hasher.hash(password)


def _verify(known: str, password: str) -> bool:
    try:
        return _hasher.verify(known, password)
    except (VerifyMismatchError, InvalidHashError):  # other errors say nothing about the password
        return False


class Passwords:
    """Jobs for threads; outcomes come back in the event loop."""

    def __init__(self, soon: Callable[..., Any]) -> None:
        self._soon = soon
        self._workers: list[Worker] = []
        self._turn = 0

    def start(self, job: PasswordJob, done: Callable[[PasswordJob, bool | str | None], None]) -> None:
        """Verify (outcome: bool) or hash (outcome: str), then call `done`. None is the outcome of what could
        not be done, for want of memory or of threads."""

        def finished(outcome: bool | str | None, error: BaseException | None) -> None:
            if error is not None:
                log.error("a password could not be hashed", exc_info=error)
            done(job, outcome)

        try:
            if len(self._workers) < THREADS:  # a node whose users bring tokens never needs them
                self._workers.append(Worker(f"receipts-passwords-{len(self._workers)}", self._soon))
        except RuntimeError as error:  # the system gives no more threads
            if not self._workers:
                self._soon(finished, None, error)
                return
        self._turn = (self._turn + 1) % len(self._workers)

        worker = self._workers[self._turn]
        if job.known is None:
            worker.submit(finished, hash_password, job.password)
        else:
            worker.submit(finished, _verify, job.known, job.password)

    def close(self) -> None:
        """Finish what was begun; blocks for as long as that takes."""
        for worker in self._workers:
            worker.close()
