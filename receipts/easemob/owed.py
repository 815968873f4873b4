"""Delivery receipts that an SDK may have lost with a link. PURE.

It sends one as a message comes, and never again: what its link lost is lost, and the repeated message it
drops without a word. So it is kept in mind, from one link of a device to the next, what was on its way to a
device that sends such receipts. A node that died has forgotten it; then an author hears of the read next. How
a link makes use of it is in `session`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from receipts.core.ids import AppId, MessageId, UserId

__all__ = ["DEVICES_MAX", "MESSAGES_MAX", "DeviceKey", "OnWay", "Owed"]

DEVICES_MAX = 10_000
"""Those that logged in last: links that break come back within seconds."""

MESSAGES_MAX = 120
"""Of one device: the newest, several times what may be on its way to it at a time."""

DeviceKey: TypeAlias = tuple[AppId, UserId, str]
"""App, user and resource."""


class OnWay:
    """Messages that were written to links of one device, and that it has not acknowledged."""

    __slots__ = ("_messages",)

    def __init__(self) -> None:
        self._messages: dict[MessageId, None] = {}

    def add(self, message_id: MessageId) -> None:
        """It was written."""
        self._messages[message_id] = None
        if len(self._messages) > MESSAGES_MAX:
            del self._messages[next(iter(self._messages))]

    def discard(self, message_id: MessageId) -> None:
        """It has arrived."""
        self._messages.pop(message_id, None)

    def all(self) -> frozenset[MessageId]:
        """As of now."""
        return frozenset(self._messages)


class Owed:
    """Of each device that has shown that it sends delivery receipts, what is on its way to it."""

    def __init__(self) -> None:
        self._devices: dict[DeviceKey, OnWay] = {}

    def known(self, device: DeviceKey) -> OnWay | None:
        """Of a device that logs in; None for one that has shown nothing."""
        found = self._devices.pop(device, None)
        if found is not None:
            self._devices[device] = found  # it is the newest now
        return found

    def shown(self, device: DeviceKey, on_way: Iterable[MessageId]) -> OnWay:
        """A device has sent a receipt, for the first time on its link.

        Args:
            on_way: What was written to that link and has not arrived.
        """
        found = self.known(device)
        if found is None:
            found = self._devices[device] = OnWay()
            if len(self._devices) > DEVICES_MAX:
                del self._devices[next(iter(self._devices))]
        for message_id in on_way:
            found.add(message_id)
        return found
