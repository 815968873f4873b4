"""What a process that does nothing but run a node sets for itself. A node inside another program does not.

Almost all that a node makes is freed by its reference counts, so the garbage collector finds next to nothing,
and looks at everything for it: with 1000 conversations in use it took a sixth of the CPU time, and held up
the event loop for 0.2 s at a time.
"""

from __future__ import annotations

import gc

__all__ = ["calm_collector"]

THRESHOLDS = (50_000, 20, 50)
"""Young objects before the collector looks at them (a busy tick has some 10,000), and how many such looks
before it looks at older ones. Cycles come from errors and ended links, a few objects each."""


def calm_collector() -> None:
    """Let the collector look rarely, and never at what is there by now. To be called once all is imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
