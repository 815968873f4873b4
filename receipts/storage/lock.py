"""One process owns a directory: an advisory lock that the kernel lets go of when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from .base import StoreLocked

__all__ = ["DirectoryLock"]


class DirectoryLock:
    """A locked file in a directory. The file stays behind: deleting it would let two processes lock two
    files of one name."""

    __slots__ = ("_descriptor", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def acquire(self) -> None:
        """Lock, and leave our process id for whoever comes next.

        Raises:
            StoreLocked: Another one holds it, in this process or another; the message has its id if known.
            OSError: The file cannot be made.
        """
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise StoreLocked(f"{self.path.parent} is in use by {who}: stop it first") from None
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        os.ftruncate(descriptor, 0)
        try:
            os.write(descriptor, b"%d\n" % os.getpid())
        except OSError:  # a full disk keeps our id off it, but does not take the lock away
            pass

    def release(self) -> None:
        """Let go; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
