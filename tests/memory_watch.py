"""What fuzzing holds against memory: a wall around the process, and a look at single inputs.

The wall turns memory without bound into a `MemoryError`, which no decoder may raise. The look tells which
input takes more than its size allows, long before the wall is met.
"""

from __future__ import annotations

import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

__all__ = ["BYTES_PER_BYTE", "looked_at", "peak_mib", "wall"]

BYTES_PER_BYTE = 100
"""What one byte of input may take while it is decoded: one that says "an empty map" takes 72."""

_BASE_BYTES = 1024 * 1024

_T = TypeVar("_T")


def wall(more_mib: int) -> None:
    """Let this process grow by so much, and no further."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + more_mib * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def looked_at(call: Callable[[], _T], size: int) -> _T:
    """Do something with an input of `size` bytes.

    Raises:
        AssertionError: It took more memory than an input of that size may, if only for a moment.
    """
    tracemalloc.start()
    try:
        done = call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    allowed = _BASE_BYTES + BYTES_PER_BYTE * size
    assert peak <= allowed, f"an input of {size} bytes took {peak} bytes, more than {allowed}"
    return done


def peak_mib() -> float:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
