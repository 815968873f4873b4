"""How much is on its way to a device, what of it has arrived, and what waits. PURE."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from receipts.core.errors import LocalProtocolError
from receipts.core.ids import ConversationId
from receipts.core.ranges import Ranges, RangeSet
from receipts.node.queued import Heard

from .envelopes import Arrival, News

__all__ = ["FRAME_BYTES", "WAITING_BYTES_MAX", "WINDOW", "Batch", "Window", "batches"]

WINDOW = 30
"""Messages and receipts that may be on their way. The SDK remembers the last 101 ids that it saw, those of
the receipts that it sends for what it gets among them: what it had when its link broke, and could not say so,
it knows again. What is more waits, and goes out in frames of many."""

FRAME_BYTES = 64 * 1024
"""Of envelopes in a frame of many; a larger one has a frame of its own."""

WAITING_BYTES_MAX = 8 << 20
"""Of envelopes that wait for a device which acknowledges nothing; beyond it the link is cut."""


class Batch:
    """News while they wait, and then as a frame on its way."""

    __slots__ = (
        "answer",
        "arrivals",
        "count",
        "ends_page",
        "heard",
        "key",
        "metas",
        "of_page",
        "size",
        "summary",
        "tick",
    )

    def __init__(self, metas: list[bytes], heard: Heard | None = None, tick: int = 0) -> None:
        self.metas = metas
        """Envelopes; none any more once they are sent."""
        self.count = len(metas)
        self.size = sum(map(len, metas))
        self.heard = [heard] if heard is not None else []
        self.arrivals: list[Arrival] = []
        self.tick = tick
        """The first of those that it tells of; 0 when that is for a page, or a summary, to say."""
        self.key = 0
        """What acknowledges the frame."""
        self.of_page = False
        self.ends_page = ""
        """Token of the page that has arrived with it."""
        self.summary = 0
        """What `AckStatistics` acknowledges with it."""
        self.answer = b""
        """A frame that needs no acknowledgement, and goes out in its turn."""

    def takes(self, other: Batch) -> bool:
        """Whether there is room for another in its frame."""
        if self.answer or other.answer:
            return False
        return self.count + other.count <= WINDOW and self.size + other.size <= FRAME_BYTES

    def add(self, other: Batch) -> None:
        """Go out together with what comes next."""
        self.metas += other.metas
        self.count += other.count
        self.size += other.size
        self.heard += other.heard
        self.arrivals += other.arrivals
        self.tick = self.tick or other.tick
        self.of_page = self.of_page or other.of_page
        self.ends_page = other.ends_page or self.ends_page
        self.summary = other.summary or self.summary


def batches(news: News, tick: int = 0) -> Iterator[Batch]:
    """News in as few frames as they take; what is told by all of them is told with the last."""
    metas = news.metas
    for start in range(0, len(metas), WINDOW):
        last = start + WINDOW >= len(metas)
        batch = Batch(metas[start : start + WINDOW], news.heard if last else None, tick)
        if news.arrival is not None:
            batch.arrivals.append(news.arrival)
        yield batch


class Window:
    """What is on its way to one device, and what waits until some of that has arrived."""

    def __init__(self) -> None:
        self._sent: deque[Batch] = deque()
        self._waiting: deque[Batch] = deque()
        self._on_way = 0
        self._waiting_size = 0

    @property
    def count(self) -> int:
        """Messages and receipts that have not arrived."""
        return self._on_way + sum(batch.count for batch in self._waiting)

    @property
    def waits(self) -> bool:
        """Whether something is to go out when what is on its way has arrived."""
        return bool(self._waiting)

    @property
    def arrivals(self) -> Iterator[Arrival]:
        """Messages that are on their way."""
        return (arrival for batch in self._sent for arrival in batch.arrivals)

    @property
    def of_pages(self) -> bool:
        """Whether something that the device missed has not arrived."""
        return any(batch.of_page for batch in (*self._sent, *self._waiting))

    @property
    def first_tick(self) -> int:
        """The first tick of which something has not arrived; 0 for none."""
        return next((batch.tick for batch in (*self._sent, *self._waiting) if batch.tick), 0)

    def answer(self, frame: bytes) -> list[Batch]:
        """An answer to a message; what may be sent now. It overtakes no news, or what they say of all
        messages would seem to be said of this one."""
        batch = Batch([])
        batch.answer = frame
        return self.push(batch)

    def push(self, batch: Batch) -> list[Batch]:
        """News; what may be sent now.

        Raises:
            LocalProtocolError: Too much waits for a device that acknowledges nothing.
        """
        if not self._waiting and self._has_room(batch):
            return [self._send(batch)]
        self._waiting.append(batch)
        self._waiting_size += batch.size
        if self._waiting_size > WAITING_BYTES_MAX:
            raise LocalProtocolError("the device acknowledges nothing of what it was sent")
        return []

    def flush(self) -> list[Batch]:
        """What may be sent by now, in frames of many."""
        found: list[Batch] = []
        waiting = self._waiting
        while waiting and self._has_room(waiting[0]):
            batch = self._next()
            while waiting and batch.takes(waiting[0]) and self._on_way + batch.count < WINDOW:
                batch.add(self._next())
            found.append(self._send(batch))
        return found

    def _next(self) -> Batch:
        batch = self._waiting.popleft()
        self._waiting_size -= batch.size
        return batch

    def _has_room(self, batch: Batch) -> bool:
        return not self._on_way or self._on_way + batch.count <= WINDOW

    def _send(self, batch: Batch) -> Batch:
        if not batch.answer:
            self._sent.append(batch)
            self._on_way += batch.count
        return batch

    def arrived(self, key: int) -> list[Batch]:
        """Frames up to a key have arrived: those that had not before."""
        found: list[Batch] = []
        while self._sent and self._sent[0].key <= key:
            batch = self._sent.popleft()
            self._on_way -= batch.count
            found.append(batch)
        return found

    def heard(self, arrived: Iterable[Batch]) -> tuple[Heard, ...]:
        """What was heard by frames that have arrived, conversation by conversation. That answers are known up
        to a version is said with the last frame of answers of the conversation: those of one tick may stand
        in any order."""
        found: dict[ConversationId, list[Heard]] = {}
        for batch in arrived:
            for heard in batch.heard:
                if not (heard.answered and self._said_later(heard)):
                    found.setdefault(heard.conversation, []).append(heard)
        return tuple(_joined(conversation, heard) for conversation, heard in found.items())

    def _said_later(self, heard: Heard) -> bool:
        for batch in (*self._sent, *self._waiting):
            for index, later in enumerate(batch.heard):
                if later.answered and later.conversation == heard.conversation:
                    version = max(heard.answered, later.answered)
                    batch.heard[index] = Heard(heard.conversation, answered=version)
                    return True
        return False


def _joined(conversation: ConversationId, heard: list[Heard]) -> Heard:
    if len(heard) == 1:
        return heard[0]
    return Heard(
        conversation,
        _union(one.held for one in heard),
        _union(one.delivered for one in heard),
        _union(one.read for one in heard),
        max(one.cleared for one in heard),
        max(one.answered for one in heard),
    )


def _union(sets: Iterable[Ranges]) -> Ranges:
    joined = RangeSet()
    for ranges in sets:
        joined.update(ranges)
    return joined.ranges
