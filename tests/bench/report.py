"""One line of a report, and the table of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Row", "show"]


class Row(NamedTuple):
    """A figure, and the budget that it is held against."""

    setting: str
    what: str
    figure: float
    unit: str
    budget: float | None
    """The largest figure that is right; None for one that is only shown."""
    notes: str = ""

    @property
    def verdict(self) -> str:
        """Whether it is right."""
        if self.budget is None:
            return ""
        return "ok" if self.figure <= self.budget else "OVER"

    @property
    def cells(self) -> tuple[str, ...]:
        """As text."""
        budget = "" if self.budget is None else f"{self.budget:.3g}"
        figure = f"{self.figure:,.0f}" if self.figure >= 100 else f"{self.figure:.3g}"
        return self.setting, self.what, figure, self.unit, budget, self.verdict, self.notes


HEAD = ("", "what", "figure", "unit", "at most", "verdict", "beside it")


def show(title: str, rows: Sequence[Row]) -> None:
    """Print a table that can be pasted into a document."""
    table = [HEAD, *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEAD))]
    print(f"\n{title}\n")
    for index, line in enumerate(table):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
        if not index:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
