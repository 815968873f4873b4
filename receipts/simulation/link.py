"""One simulated link: two queues of frames, and who knows of its end.

A link keeps order and loses nothing while it stands, as `transports` promise; it ends for each side on its
own. What the world does with it (deliver, cut, duplicate) is in `world`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from receipts.wire.codec import Frame

__all__ = ["Link"]


class Link:
    """A link between a device and the node."""

    __slots__ = (
        "device_gone",
        "down",
        "duplicated",
        "label",
        "node_gone",
        "number",
        "numbers",
        "session",
        "up",
    )

    def __init__(self, number: int, label: str) -> None:
        self.number = number
        self.label = label
        """Of the device."""
        self.session: Any = None
        """The node's, for as long as the node listens."""
        self.up: deque[Frame] = deque()
        """Frames on their way to the node."""
        self.down: deque[Frame] = deque()
        """Frames on their way to the device."""
        self.numbers: tuple[deque[int], deque[int]] = (deque(), deque())
        """Of the frames on their way down and up, for a journal; empty while nobody keeps one."""
        self.device_gone = False
        """The device does not listen any more; frames that it had sent may still arrive (`Late`)."""
        self.node_gone = False
        """The node has closed its end; frames that it had sent may still arrive, then the end does."""
        self.duplicated = False
        """Whether a frame of it was there twice."""

    def send_up(self, frames: Iterable[Frame]) -> None:
        """The device sends; when the node does not listen any more it is lost."""
        if self.session is not None:
            self.up.extend(frames)

    def send_down(self, frames: Iterable[Frame]) -> None:
        """The node sends; to a device that does not listen, or on a link that it closed, it is lost."""
        if not self.device_gone and not self.node_gone:
            self.down.extend(frames)

    def __repr__(self) -> str:
        return f"<Link {self.number} of {self.label}>"
