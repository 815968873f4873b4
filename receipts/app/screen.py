"""What the demo looks like: on a terminal live panels, elsewhere plain lines."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from receipts.core.status import Status

from .stage import Stage

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
        self._said: list[str] = []
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
            self.draw()
            self.live.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        if self.live is None:
            print(line, flush=True)
        else:
            self._said.append(line)
            self.draw()

    def draw(self) -> None:
        """Show the world as it is now."""
        if self.live is not None:
            panels = Columns([self._chat(), self._badges(), self._readers()], equal=False)
            self.live.update(Group(panels, *(Text(line) for line in self._said)), refresh=True)

    def _device(self, name: str) -> int | None:
        names = [device.name for device in self._stage.devices]
        return names.index(name) if name in names else None

    def _chat(self) -> RenderableType:
        """The chat with bob as alice's phone has it, each message with its ticks."""
        grid = Table.grid(padding=(0, 1))
        at = self._device("alice's phone")
        if at is not None:
            me = self._stage.devices[at].me
            for message in me.messages("bob", limit=MESSAGES_SHOWN):
                body = message.body if isinstance(message.body, str) else "…"
                ticks = TICKS[me.status("bob", message.seq)] if message.author == me.user else Text("")
                grid.add_row(f"#{message.seq}", Text(f"{message.author}: {body}"), ticks)
        return Panel(grid, title="alice's phone: bob", width=40)

    def _badges(self) -> RenderableType:
        grid = Table.grid(padding=(0, 1))
        for device in self._stage.devices:
            count = device.me.badge().messages
            badge = Text(f" {count} ", "bold white on red") if count else Text(" 0 ", "dim")
            grid.add_row(device.name, Text(device.transport, "dim"), badge)
        return Panel(grid, title="unread", width=32)

    def _readers(self) -> RenderableType:
        """Who has answered the asking message, as one of olga's devices knows it."""
        grid = Table.grid(padding=(0, 1))
        group, seq = self.asked
        for device in self._stage.devices:
            if device.me.user == "olga" and device.me.device == "phone":
                for reader in device.me.known_readers(group, seq):
                    grid.add_row(Text("✓✓", "bold cyan"), reader.user, Text(reader.content, "italic"))
        return Panel(grid, title=f"olga: who read {group} #{seq}", width=34)
