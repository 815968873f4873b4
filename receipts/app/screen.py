"""What the demo looks like: on a terminal live panels, elsewhere plain lines."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.columns import Columns
from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from receipts.core.status import Status

from .stage import Device, Stage

__all__ = ["Screen"]

MESSAGES_SHOWN = 8

TICKS = {
    Status.SENT: Text("…", "dim"),
    Status.ACKED: Text("✓", "dim"),
    Status.DELIVERED: Text("✓✓", "dim"),
    Status.READ: Text("✓✓", "bold cyan"),
}


class Screen:
    """Shows what the devices know, as they learn it, and says what was observed."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._panels: dict[str, RenderableType] = {}
        self.live = Live(console=Console(), auto_refresh=False) if sys.stdout.isatty() else None
        self.asked = ("team", 1)
        """The group message whose readers are shown."""

    def __enter__(self) -> Screen:
        if self.live is not None:
            self.live.start()
            self._stage.changed = self.draw
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        if self.live is None:
            print(line, flush=True)
        else:
            self.live.console.print(Text(line))  # above the panels, which stay at the bottom
            self.draw()

    def draw(self) -> None:
        """Show the world as it is now."""
        if self.live is not None:
            panels = Columns(
                [
                    self._kept("chat", self._chat()),
                    self._kept("badges", self._badges()),
                    self._kept("readers", self._readers()),
                ]
            )
            self.live.update(panels, refresh=True)

    def _find(self, user: str, device: str) -> Device | None:
        there = [found for found in self._stage.devices if found.app == "default"]
        return next((found for found in there if (found.me.user, found.me.device) == (user, device)), None)

    def _kept(self, name: str, panel: RenderableType | None) -> RenderableType:
        """A panel as it was last seen, once the device that showed it has left."""
        if panel is not None:
            self._panels[name] = panel
        return self._panels.get(name, "")

    def _chat(self) -> RenderableType | None:
        """The chat with bob as alice's phone has it, each message with its ticks."""
        phone = self._find("alice", "phone")
        if phone is None:
            return None
        grid, me = Table.grid(padding=(0, 1)), phone.me
        for message in me.messages("bob", limit=MESSAGES_SHOWN):
            body = message.body if isinstance(message.body, str) else "…"
            ticks = TICKS[me.status("bob", message.seq)] if message.author == me.user else Text("")
            grid.add_row(f"#{message.seq}", Text(f"{message.author}: {body}"), ticks)
        return Panel(grid, title="alice's phone: bob", width=40)

    def _badges(self) -> RenderableType | None:
        """Every device's unread count."""
        there = [device for device in self._stage.devices if device.app == "default"]
        grid = Table.grid(padding=(0, 1))
        for device in there:
            count = device.me.badge().messages
            badge = Text(f" {count} ", "bold white on red") if count else Text(" 0 ", "dim")
            grid.add_row(device.name, Text(device.transport, "dim"), badge)
        return Panel(grid, title="unread", width=32) if there else None

    def _readers(self) -> RenderableType | None:
        """Who has answered the asking message, as olga's phone knows it."""
        phone = self._find("olga", "phone")
        if phone is None:
            return None
        grid = Table.grid(padding=(0, 1))
        group, seq = self.asked
        for reader in phone.me.known_readers(group, seq):
            grid.add_row(Text("✓✓", "bold cyan"), reader.user, Text(reader.content, "italic"))
        return Panel(grid, title=f"olga: who read {group} #{seq}", width=34)
