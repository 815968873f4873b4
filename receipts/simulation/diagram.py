"""A space-time diagram as SVG: life lines side by side, time downwards, frames as slanted arrows.

PURE. What is drawn comes in as records (`Happened`, `Put`, `Took`, `Dropped`, `Said`), in the order in which
it took place; nothing here knows what a step or a frame is, `report` does. Colours are CSS variables of the
page around it.

Every departure, arrival and remark gets a line of its own, so no two labels stand at one height: a diagram
grows downwards, never denser.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from html import escape
from typing import TypeAlias

from receipts.core.value import value

__all__ = [
    "NODE",
    "Dropped",
    "Happened",
    "Mark",
    "Put",
    "Record",
    "Said",
    "Took",
    "diagram",
    "lanes_of",
]

NODE = "node"
"""The place of the node; every other place is a device."""

GUTTER_PX = 92
"""Left of the lanes: number and clock of each step."""

LANE_PX = 190
LANES_PX = 780
"""Few lanes share this and are wider: more of each label is seen."""

MARGIN_PX = 40
HEAD_PX = 46
LINE_PX = 17
"""From one line to the next: a label of 11 px and air."""

QUIET_PX = 6
"""Of a step of which nothing is seen."""

STEP_GAP_PX = 7
CHARACTER_PX = 6.4
"""Of a label; about what the widest common font has."""

BOLD_PX = 7.6
LABEL_MAX = 58


class Mark(StrEnum):
    """How a step stands on its life line."""

    ACT = "act"
    """Somebody did something."""
    INNER = "inner"
    """The node went on with its work."""
    DOWN = "down"
    """A crash: the life line is broken from here on."""
    UP = "up"
    FAULT = "fault"
    """The network, a disk or a clock misbehaves."""
    MEND = "mend"
    NONE = "none"
    """What is seen of it is what follows."""


@value
class Happened:
    """A step began."""

    index: int
    """Place in the trace, from 0."""
    now_ms: int
    place: str
    mark: Mark
    label: str
    text: str
    """The whole step in one line."""
    healing: bool = False
    """Whether it belongs to the second phase, after the trace."""


@value
class Put:
    """A frame was put on a link."""

    number: int
    source: str
    target: str
    what: str


@value
class Took:
    """A frame was handed over."""

    number: int


@value
class Dropped:
    """A frame will never arrive."""

    number: int


@value
class Said:
    """Something worth knowing took place, seen by nobody in particular."""

    place: str
    text: str


Record: TypeAlias = Happened | Put | Took | Dropped | Said


def lanes_of(records: Iterable[Record], order: Sequence[str]) -> list[str]:
    """Who takes part, from left to right: the node in the middle, as many devices on either side.

    Args:
        records: What is going to be drawn.
        order: All places; devices that belong together stand together.
    """
    seen: dict[str, None] = {NODE: None}
    for record in records:
        match record:
            case Happened() | Said():
                seen[record.place] = None
            case Put():
                seen |= {record.source: None, record.target: None}
            case Took() | Dropped():
                pass
    known = [place for place in order if place in seen and place != NODE]
    devices = known + [place for place in seen if place not in order and place != NODE]
    half = (len(devices) + 1) // 2
    return [*devices[:half], NODE, *devices[half:]]


def diagram(
    records: Sequence[Record],
    lanes: Sequence[str],
    colours: dict[str, int],
    *,
    violated: int | None = None,
    verdict: Sequence[str] = (),
) -> str:
    """The heads of the life lines and the diagram below them, as two SVG elements.

    Args:
        records: In order; they begin with a step.
        lanes: See `lanes_of`.
        colours: Which of the page's colours (`--u0` …) a place has.
        violated: Index of the step after which something was wrong.
        verdict: Lines that stand below that step, in red.
    """
    canvas = _Canvas(lanes, colours, _when(records))
    for record in records:
        canvas.draw(record)
        # The verdict stands below all that the step led to, so it is held back until the next one begins.
        if isinstance(record, Happened) and record.index == violated:
            canvas.condemn(verdict)
            verdict = ()
    canvas.finish(verdict)  # what was found when nothing was left to be done stands at the end
    return canvas.heads() + canvas.body()


def _when(records: Iterable[Record]) -> int:
    """Clocks are shown from the first step on."""
    return next((record.now_ms for record in records if isinstance(record, Happened)), 0)


class _Canvas:
    """Lays the records out from top to bottom."""

    def __init__(self, lanes: Sequence[str], colours: dict[str, int], start_ms: int) -> None:
        self._lanes = list(lanes)
        self._colours = colours
        self._start_ms = start_ms
        lane = max(LANE_PX, min(LANES_PX // len(lanes), 2 * LANE_PX))
        self._x = {place: GUTTER_PX + lane // 2 + lane * at for at, place in enumerate(lanes)}
        self._width = GUTTER_PX + lane * len(lanes) + MARGIN_PX
        self._y = 10.0
        self._under: list[str] = []  # bands and life lines
        self._arrows: list[str] = []
        self._over: list[str] = []  # marks and labels
        self._flying: dict[int, tuple[Put, float]] = {}
        self._down: dict[str, float] = {}  # place → since where it is down
        self._since: dict[str, float] = dict.fromkeys(lanes, 0.0)
        self._step: Happened | None = None
        self._step_y = 0.0
        self._lines = 0  # of the step that is being drawn
        self._quiet: list[Happened] = []
        self._verdict: Sequence[str] | None = None
        self._healing = False

    # -- records

    def draw(self, record: Record) -> None:
        match record:
            case Happened():
                self._end_step()
                self._begin_step(record)
            case Put():
                self._put(record)
            case Took():
                self._land(record.number)
            case Dropped():
                self._lose(record.number)
            case Said():
                self._say(record)

    def condemn(self, verdict: Sequence[str]) -> None:
        self._verdict = verdict

    def finish(self, verdict: Sequence[str]) -> None:
        self._end_step()
        self._flush_quiet()
        self._y += 12
        if verdict:
            self._step_y = self._y
            self._judge(verdict)
        for put, y in self._flying.values():
            self._fade(put, y)
        for place in self._lanes:
            self._life(place, self._y)

    def _begin_step(self, step: Happened) -> None:
        if step.healing and not self._healing:
            self._flush_quiet()
            self._rule("healing: everything is mended and delivered")
            self._healing = True
        self._step, self._lines = step, 0
        if step.mark not in (Mark.NONE, Mark.INNER):
            self._open_step()

    def _open_step(self) -> None:
        """Give the step that began a number on the left and its sign, now that something of it is seen."""
        step = self._step
        if self._lines == 0 and step is not None:
            self._flush_quiet()
            self._y += STEP_GAP_PX
            self._step_y = self._y
            self._number(step, self._y + LINE_PX / 2)
            if step.mark is not Mark.NONE:
                self._mark(step)
        self._lines += 1

    def _line(self) -> float:
        """The height of a new line."""
        self._open_step()
        self._y += LINE_PX
        return self._y - LINE_PX / 2

    def _end_step(self) -> None:
        step, self._step = self._step, None
        if step is None:
            return
        if self._verdict is not None:
            self._step = step
            self._open_step()
            self._judge(self._verdict)
            self._step, self._verdict = None, None
        elif self._lines == 0:
            self._quiet.append(step)

    def _flush_quiet(self) -> None:
        """A run of steps of which nothing is seen takes one thin row."""
        quiet, self._quiet = self._quiet, []
        if not quiet:
            return
        self._y += STEP_GAP_PX
        first, last = quiet[0].index, quiet[-1].index
        what = f"#{first}" if first == last else f"#{first}–{last}"
        y = self._y + QUIET_PX / 2 + 3
        title = escape("\n".join(f"#{step.index} {step.text}" for step in quiet[:40]))
        anchors = "".join(f'<g id="at-{step.index}"></g>' for step in quiet)
        self._over.append(
            f'{anchors}<a href="#step-{first}"><text class="quiet" x="8" y="{y:.1f}">{what}'
            f"<title>{title}</title></text></a>"
        )
        self._y += QUIET_PX

    # -- what is drawn

    def _colour(self, place: str) -> str:
        return f"var(--u{self._colours[place]})" if place in self._colours else "var(--node)"

    def _number(self, step: Happened, y: float) -> None:
        clock = f"{(step.now_ms - self._start_ms) / 1000:.3f}"
        self._over.append(
            f'<g id="at-{step.index}"><a href="#step-{step.index}"><text class="number" x="8" '
            f'y="{y + 4:.1f}">#{step.index}<title>{escape(step.text)}</title></text></a>'
            f'<text class="clock" x="{GUTTER_PX - 12}" y="{y + 4:.1f}">{clock}</text></g>'
        )

    def _mark(self, step: Happened) -> None:
        y = self._y + LINE_PX / 2
        self._y += LINE_PX
        x = self._x[step.place]
        if step.mark is Mark.DOWN:
            self._life(step.place, y)
            self._down[step.place] = y
        elif step.mark is Mark.UP:
            self._life(step.place, y)
            self._down.pop(step.place, None)
        self._over.append(_sign(step.mark, x, y, self._colour(step.place)))
        self._label(step.place, x + 11, y, step.label, f"label {step.mark}", step.text)

    def _label(self, place: str, x: float, y: float, text: str, kind: str, title: str = "") -> None:
        """Text to the right of a life line; to the left where it would not fit otherwise."""
        room = int((self._width - x) / CHARACTER_PX)
        text = _short(text, LABEL_MAX)
        end = len(text) > room
        if end:
            x = self._x[place] - 11
        anchor = ' text-anchor="end"' if end else ""
        hover = f"<title>{escape(title)}</title>" if title and title != text else ""
        self._over.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y + 4:.1f}"{anchor}>{escape(text)}{hover}</text>'
        )

    def _say(self, said: Said) -> None:
        place = said.place if said.place in self._x else NODE
        y = self._line()
        x = self._x[place]
        self._over.append(f'<circle class="dot" cx="{x}" cy="{y:.1f}" r="2.5"/>')
        self._label(place, x + 11, y, said.text, "label said", said.text)

    def _put(self, put: Put) -> None:
        y = self._line()
        source, target = self._x[put.source], self._x[put.target]
        right = target > source
        text = _short(put.what, min(LABEL_MAX, int((abs(target - source) - 24) / CHARACTER_PX)))
        x, anchor = (source + 10, "start") if right else (source - 10, "end")
        self._over.append(
            f'<text class="frame" style="fill:{self._arrow_colour(put)}" x="{x}" y="{y + 1:.1f}" '
            f'text-anchor="{anchor}">{escape(text)}<title>{escape(put.what)}</title></text>'
        )
        self._flying[put.number] = put, y + 5

    def _arrow_colour(self, put: Put) -> str:
        return self._colour(put.target if put.source == NODE else put.source)

    def _land(self, number: int) -> None:
        flown = self._flying.pop(number, None)
        if flown is None:
            return  # it was put before what is drawn
        put, began = flown
        # At once below its departure it would look level: a slant of half a line shows the direction.
        y = max(self._line(), began + LINE_PX / 2)
        self._arrow(put, began, self._x[put.target], y, head=True)

    def _lose(self, number: int) -> None:
        flown = self._flying.pop(number, None)
        if flown is None:
            return
        put, began = flown
        y = max(self._line(), began + LINE_PX / 2)
        source, target = self._x[put.source], self._x[put.target]
        x = source + (target - source) * 0.62
        self._arrow(put, began, x, y, head=False)
        self._over.append(
            f'<path class="lost" d="M{x - 4:.1f},{y - 4:.1f}l8,8m0,-8l-8,8"><title>lost: '
            f"{escape(put.what)}</title></path>"
        )

    def _fade(self, put: Put, began: float) -> None:
        """A frame that is still on its way at the end."""
        source, target = self._x[put.source], self._x[put.target]
        full, room = 60.0, self._y - began
        share = min(1.0, max(room, 4.0) / full) * 0.5
        x, y = source + (target - source) * share, began + min(full, max(room, 4.0))
        self._arrows.append(
            f'<path class="arrow flying" style="stroke:{self._arrow_colour(put)}" '
            f'd="M{source},{began:.1f}L{x:.1f},{y:.1f}">'
            f"<title>still on its way: {escape(put.what)}</title></path>"
        )

    def _arrow(self, put: Put, began: float, x: float, y: float, *, head: bool) -> None:
        source = self._x[put.source]
        colour = self._arrow_colour(put)
        gone = "" if head else " gone"
        self._arrows.append(
            f'<path class="arrow{gone}" style="stroke:{colour}" d="M{source},{began:.1f}L{x:.1f},{y:.1f}">'
            f"<title>{escape(put.what)}</title></path>"
        )
        if head:
            self._arrows.append(_head(source, began, x, y, colour))

    def _life(self, place: str, y: float) -> None:
        """The life line of a place up to here, as it was: up or down."""
        since = self._since[place]
        self._since[place] = y
        kind = "life down" if place in self._down else "life"
        x = self._x[place]
        self._under.append(
            f'<path class="{kind}" style="stroke:{self._colour(place)}" d="M{x},{since:.1f}V{y:.1f}"/>'
        )

    def _rule(self, text: str) -> None:
        self._y += 10
        y = self._y
        self._under.append(f'<path class="rule" d="M0,{y:.1f}H{self._width}"/>')
        self._over.append(f'<text class="rule" x="8" y="{y + 14:.1f}">{escape(text)}</text>')
        self._y += 20

    def _judge(self, verdict: Sequence[str]) -> None:
        top = self._step_y - 3
        self._y += 4
        for line in verdict:
            text = _short(line, int((self._width - GUTTER_PX) / BOLD_PX))
            self._y += LINE_PX
            self._over.append(
                f'<text class="verdict" x="{GUTTER_PX}" y="{self._y - 4:.1f}">{escape(text)}</text>'
            )
        self._y += 5
        height = self._y - top
        self._under.insert(
            0, f'<rect class="violated" x="1" y="{top:.1f}" width="{self._width - 2}" height="{height:.1f}"/>'
        )
        self._y += 4

    # -- the elements

    def heads(self) -> str:
        """The names above the life lines; a page keeps them in sight."""
        parts = []
        for place in self._lanes:
            x, colour = self._x[place], self._colour(place)
            user, slash, device = place.partition("/")
            name = escape(_short(user, 22))
            second = (
                f'<text class="device" x="{x}" y="36">{escape(_short(device, 24))}</text>' if slash else ""
            )
            parts.append(
                f'<text class="place" style="fill:{colour}" x="{x}" y="{20 if slash else 27}">{name}'
                f"<title>{escape(place)}</title></text>{second}"
            )
        return f'<svg class="heads" width="{self._width}" height="{HEAD_PX}">{"".join(parts)}</svg>'

    def body(self) -> str:
        """The diagram."""
        parts = "".join((*self._under, *self._arrows, *self._over))
        return (
            f'<svg class="diagram" width="{self._width}" height="{self._y:.0f}" role="img" '
            f'aria-label="Space-time diagram">{parts}</svg>'
        )


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(most - 1, 1)] + "…"


def _head(x0: float, y0: float, x: float, y: float, colour: str) -> str:
    """The head of an arrow; a marker would take its colour from nowhere."""
    length = max(((x - x0) ** 2 + (y - y0) ** 2) ** 0.5, 1.0)
    along_x, along_y = (x - x0) / length, (y - y0) / length
    back_x, back_y = x - 8 * along_x, y - 8 * along_y
    side_x, side_y = -3.6 * along_y, 3.6 * along_x
    return (
        f'<path style="fill:{colour}" d="M{x:.1f},{y:.1f}L{back_x + side_x:.1f},{back_y + side_y:.1f}'
        f'L{back_x - side_x:.1f},{back_y - side_y:.1f}Z"/>'
    )


def _sign(mark: Mark, x: float, y: float, colour: str) -> str:
    """What stands on the life line."""
    match mark:
        case Mark.ACT:
            return f'<circle style="fill:{colour}" cx="{x}" cy="{y:.1f}" r="4.5"/>'
        case Mark.DOWN:
            return f'<path class="sign down" d="M{x - 6},{y - 6:.1f}l12,12m0,-12l-12,12"/>'
        case Mark.UP:
            return f'<path class="sign up" d="M{x},{y - 6:.1f}l6,10h-12z"/>'
        case Mark.FAULT:
            return f'<path class="sign fault" d="M{x + 2},{y - 7:.1f}l-6,8h4l-2,7l7,-9h-4l3,-6z"/>'
        case Mark.MEND:
            return f'<circle class="sign mend" cx="{x}" cy="{y:.1f}" r="4.5"/>'
        case Mark.INNER | Mark.NONE:
            return f'<path class="sign inner" d="M{x - 5},{y:.1f}h10"/>'
