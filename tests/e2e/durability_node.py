"""`receipts serve` in processes that are killed again and again, and what they leave on disk.

Run as a program it is the command line, but for one thing: it takes its time to start before it is needed.
It says `ready` when all code is loaded, and goes on when a line comes in. So a kill costs the load that runs
meanwhile milliseconds, and thirty fit into a test.
"""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from functools import partial
from pathlib import Path
from typing import IO, Any

import anyio

__all__ = ["NodeProcesses"]

STANDBY = 2
"""Processes that get ready meanwhile."""

SECONDS_MAX = 60.0
"""For any one step of a process: only a hang takes as long."""


class NodeProcesses:
    """A node on a directory, and the process that takes its place once it is killed.

    Args:
        data: The node's directory.
        loop: The event loop it runs on.
        log: Where the nodes' stderr goes.
    """

    def __init__(self, data: Path, loop: str, log: IO[str]) -> None:
        self.url = ""
        self._data = data
        self._loop = loop
        self._log = log
        self._address = "127.0.0.1:0"
        self._running: subprocess.Popen[str] | None = None
        self._standby = deque([self._spawn()])

    def _spawn(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", __name__, "serve", "--data", str(self._data)]
        command += ["--tcp", self._address, "--loop", self._loop]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )

    async def start(self) -> None:
        """Serve; the first time the port is chosen, later it is the same."""
        process = self._running = self._standby.popleft()
        await _said(process, "ready")
        assert process.stdin is not None
        print("go", file=process.stdin, flush=True)
        self.url = (await _said(process, "listening")).split()[-1]
        self._address = self.url.removeprefix("tcp://")
        while len(self._standby) < STANDBY:
            self._standby.append(self._spawn())

    async def kill(self) -> None:
        """End the node as a power cut would, but for what the kernel holds."""
        assert self._running is not None
        self._running.kill()
        await self._end(self._running)

    async def stop(self) -> int:
        """End it in good order; its exit code."""
        assert self._running is not None
        self._running.terminate()
        return await self._end(self._running)

    async def _end(self, process: subprocess.Popen[str]) -> int:
        status = await anyio.to_thread.run_sync(partial(process.wait, SECONDS_MAX))
        _close(process)
        return status

    def close(self) -> None:
        """Nothing is left running."""
        for process in (self._running, *self._standby):
            if process is not None:
                process.kill()
                process.wait()
                _close(process)


def _close(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


async def _said(process: subprocess.Popen[str], word: str) -> str:
    """The next line, which begins with a word."""
    assert process.stdout is not None
    with anyio.fail_after(SECONDS_MAX):
        line = await anyio.to_thread.run_sync(process.stdout.readline, abandon_on_cancel=True)
    assert line.startswith(word), f"the node said {line!r} instead of {word!r}"
    return str(line)


def main(arguments: list[str]) -> Any:
    """Load everything, wait for a line, then do what the command line does."""
    from receipts.app.program import run

    print("ready", flush=True)
    if not sys.stdin.readline():
        return 0  # not needed any more
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
