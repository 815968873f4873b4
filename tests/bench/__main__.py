"""All benchmarks, or those that are named, such as `python -m tests.bench node easemob`.

Nothing is asserted: the verdict beside a figure is for people. On a machine that does other things meanwhile,
CPU per round stands, latencies and stalls do not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from . import node
from .report import Row, show

OF_THE_NODE = ("node", "idle", "group", "restart", "easemob")
BESIDE = ("machine", "storage", "simulation")
"""With tables of their own."""


def _rows(
    parts: list[str], seconds: float, loops: tuple[str, ...], schemes: tuple[str, ...]
) -> Iterator[Row]:
    tcp_us: dict[str, float] = {}
    if "node" in parts:
        for loop in loops:
            for scheme in schemes:
                yield from node.rounds(scheme, loop, seconds, tcp_us)
    if "idle" in parts:
        yield node.idle()
    if "group" in parts:
        yield node.group(seconds)
    if "restart" in parts:
        yield node.restart()
    if "easemob" in parts:
        yield from node.vendor(seconds)


def main() -> None:
    """Run, and print one table for the node."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(OF_THE_NODE + BESIDE)}; all")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each window")
    parser.add_argument("--loops", nargs="+", choices=node.LOOPS, default=node.LOOPS)
    parser.add_argument("--schemes", nargs="+", choices=("tcp", "ws"), default=("tcp", "ws"))
    options = parser.parse_args()
    parts = options.parts or [*OF_THE_NODE, *BESIDE]
    if unknown := set(parts) - {*OF_THE_NODE, *BESIDE}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    found = []
    for row in _rows(parts, options.seconds, tuple(options.loops), tuple(options.schemes)):
        found.append(row)
        print(*row.cells, sep="  ", file=sys.stderr, flush=True)
    if found:
        show("The node", found)
    for part in BESIDE:
        if part in parts and find_spec(f"tests.bench.{part}") is not None:
            subprocess.run([sys.executable, "-m", f"tests.bench.{part}"], check=True)


if __name__ == "__main__":
    main()
