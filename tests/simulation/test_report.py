"""The page of a failure, and the trace beside it: complete, self-contained, readable."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipts.simulation import report, steps
from receipts.simulation.cast import Cast
from receipts.simulation.chance import Chance
from receipts.simulation.diagram import (
    CHARACTER_PX,
    NODE,
    Dropped,
    Happened,
    Mark,
    Put,
    Record,
    Said,
    Took,
    diagram,
    lanes_of,
)
from receipts.simulation.report import DRAWN_MAX, SENTENCES, Fact, Recording, Story, drawn, page, who
from receipts.simulation.trace import Trace, read_trace

INVARIANTS = Path(__file__).parents[2] / "docs" / "invariants.md"
DEVICES = ("alice/phone", "alice/laptop", "bob/phone", "bob/tablet")

EXAMPLES = """
act alice/phone send alice~bob 0 false true
act bob/phone name alice~bob [2,4] "so <b>be</b> it"
operate verify default alice~bob
say default bob ack alice~bob [1,2] true
deliver alice/phone up 2
late bob/phone 1
tick
store 1 ok
store 1 written
store 1 failed
release 1
turn
password
save bob/phone
cut bob/phone device
freeze bob/phone
thaw bob/phone
duplicate bob/phone down
crash-node tear
start-node true
crash-device bob/phone lose
start-device bob/phone
disk-full true
clock node -5000
wait 1000
"""
"""A step of every kind."""


class Page(HTMLParser):
    """What a browser would make of it, as far as the tests ask."""

    VOID = frozenset({"meta"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def having(self, tag: str, kind: str) -> list[dict[str, str | None]]:
        """Elements of a class."""
        return [
            found for name, found in self.tags if name == tag and kind in (found.get("class") or "").split()
        ]


def happened(index: int, place: str = NODE, mark: Mark = Mark.ACT, label: str = "does it") -> Happened:
    return Happened(
        index=index, now_ms=index * 100, place=place, mark=mark, label=label, text=f"{label} {index}"
    )


def story(records: list[Record], **more: object) -> Story:
    facts = [Fact(place=place, text="somebody") for place in (NODE, *DEVICES)]
    settings: dict[str, object] = {
        "title": "A story",
        "command": "replay it",
        "records": records,
        "who": facts,
    }
    return Story(**(settings | more))  # type: ignore[arg-type]


RECORDS: list[Record] = [
    happened(0, "alice/phone"),
    Put(number=1, source="alice/phone", target=NODE, what="SendMessage"),
    happened(1, NODE, Mark.NONE, ""),
    Took(number=1),
    happened(2, NODE, Mark.INNER, "tick"),
    happened(3, NODE, Mark.INNER, "commit"),
    Put(number=2, source=NODE, target="alice/phone", what="Accepted #1"),
    Put(number=3, source=NODE, target="bob/phone", what="#1 <script>alert(1)</script>"),
    happened(4, "bob/phone", Mark.FAULT, "link cut"),
    Dropped(number=3),
    Said(place="bob/phone", text="the session ends & all is well"),
    happened(5, NODE, Mark.DOWN, "crash"),
    happened(6, NODE, Mark.UP, "start"),
]
"""A little of everything."""


def test_the_page_needs_nothing_from_anywhere() -> None:
    """A page loads nothing and runs nothing; every link leads to a place in it; what was said is text."""
    text = page(story(RECORDS, invariant="I-5", what="<i>too</i> few", details="1 < 2", violated=3))
    parsed = Page(text)
    assert not {tag for tag, _ in parsed.tags} & {"script", "link", "img", "iframe", "object", "b<", "i"}
    assert not re.search(r"url\(|@import|https?:", text)
    ids = {found["id"] for _, found in parsed.tags if "id" in found}
    links = {found["href"] for _, found in parsed.tags if "href" in found}
    assert len(links) > 5
    assert {(link or "").removeprefix("#") for link in links} <= ids
    assert not [found for _, found in parsed.tags if "src" in found or "onload" in found]
    assert "<script>alert(1)</script>" in parsed.text
    assert "<i>too</i> few" in parsed.text


def test_the_page_says_what_does_not_hold_and_how_to_see_it() -> None:
    """Invariant, sentence, finding, command, who is who, and every step stand on the page."""
    parsed = Page(
        page(story(RECORDS, invariant="I-5", what="unread is -1", details="expected 0", violated=3))
    )
    for expected in (
        "A story",
        "I-5",
        SENTENCES["I-5"],
        "unread is -1",
        "expected 0",
        "replay it",
        "bob/tablet",
    ):
        assert expected in parsed.text, expected
    for record in RECORDS:
        if isinstance(record, Happened):
            assert record.text in parsed.text
    assert "bob/phone: the session ends & all is well" in parsed.text
    assert "node → alice/phone: Accepted #1" in parsed.text
    assert [found["id"] for found in parsed.having("tr", "violated")] == ["step-3"]


def test_without_a_violation_the_page_says_so() -> None:
    """A trace that breaks nothing has no red on its page."""
    parsed = Page(page(story(RECORDS)))
    assert "Every invariant holds." in parsed.text
    assert parsed.having("rect", "violated") == []


def test_every_frame_is_an_arrow_and_the_lost_ones_end_in_a_cross() -> None:
    """Frames that arrived have heads, lost ones a cross, those on their way at the end fade."""
    parsed = Page(page(story(RECORDS)))
    arrows = parsed.having("path", "arrow")
    assert len(arrows) == 3
    assert len(parsed.having("path", "gone")) == len(parsed.having("path", "lost")) == 1
    assert len(parsed.having("path", "flying")) == 1


def test_a_life_line_is_broken_while_a_place_is_down() -> None:
    """Between a crash and the start the line is another one."""
    parsed = Page(page(story(RECORDS)))
    assert len(parsed.having("path", "down")) == 2  # the line and the sign
    assert (
        len([found for found in parsed.having("path", "life") if "down" not in (found["class"] or "")]) == 4
    )


def test_the_verdict_stands_where_it_was_found() -> None:
    """The band is behind the step that broke it, below all that it led to; or at the end, after healing."""
    for violated in (3, None):
        svg = diagram(
            RECORDS, lanes_of(RECORDS, DEVICES), {}, violated=violated, verdict=["I-5 is broken", "for sure"]
        )
        band = float(re.search(r'class="violated"[^>]* y="([\d.]+)"', svg)[1])  # type: ignore[index]
        verdict = float(re.search(r'class="verdict"[^>]* y="([\d.]+)"', svg)[1])  # type: ignore[index]
        accepted = _heights(svg)["Accepted #1"]
        end = _heights(svg)["start"]
        assert band < verdict
        assert (band < accepted < verdict < end) if violated == 3 else (band > end)


def _heights(svg: str) -> dict[str, float]:
    return {text: float(y) for y, text in re.findall(r'<text[^>]* y="([\d.]+)"[^>]*>([^<]+)', svg)}


def test_long_traces_are_drawn_from_the_end() -> None:
    """Of a trace that was not shrunk the last steps are drawn, and the page says how many are not."""
    records: list[Record] = [Put(number=0, source=NODE, target="bob/phone", what="before anything")]
    records = [
        happened(0),
        *records,
        *(happened(index) for index in range(1, DRAWN_MAX + 10)),
        Took(number=0),
    ]
    parsed = Page(page(story(records)))
    assert "The 10 steps before these are not drawn." in parsed.text
    assert "does it 10" in parsed.text
    assert "does it 9" not in parsed.text.split("does it 10")[0]
    assert parsed.having("path", "arrow") == []


def test_steps_of_which_nothing_is_seen_share_a_row() -> None:
    """A hundred quiet steps take one thin row; their numbers still lead somewhere."""
    quiet: list[Record] = [happened(index, NODE, Mark.INNER, "tick") for index in range(100)]
    records = [*quiet, happened(100)]
    lanes = lanes_of(records, DEVICES)
    svg = diagram(records, lanes, {})
    assert ">#0–99<" in svg
    assert 'id="at-57"' in svg
    assert _height(svg) - _height(diagram([happened(100)], lanes, {})) < 20


def _height(svg: str) -> float:
    return float(re.findall(r' height="(\d+)"', svg)[-1])


@st.composite
def stories(draw: st.DrawFn) -> list[Record]:
    """Records as a world would give them, of any length."""
    records: list[Record] = []
    flying: list[int] = []
    words = st.text("abc #~", min_size=1, max_size=70)
    places = st.sampled_from((NODE, *DEVICES))
    for index in range(draw(st.integers(1, 12))):
        records.append(happened(index, draw(places), draw(st.sampled_from(list(Mark))), draw(words)))
        for _ in range(draw(st.integers(0, 3))):
            what = draw(st.sampled_from(("put", "took", "dropped", "said")))
            if what == "put":
                ends = [NODE, draw(st.sampled_from(DEVICES))]
                source, target = ends if draw(st.booleans()) else ends[::-1]
                number = len(records)
                records.append(Put(number=number, source=source, target=target, what=draw(words)))
                flying.append(number)
            elif what == "said":
                records.append(Said(place=draw(places), text=draw(words)))
            elif flying:
                number = flying.pop(draw(st.integers(0, len(flying) - 1)))
                records.append(Took(number=number) if what == "took" else Dropped(number=number))
    return records


@given(stories())
def test_no_label_covers_another(records: list[Record]) -> None:
    """Whatever happened, no two labels overlap, all stand inside the picture, and time only goes down."""
    svg = diagram(records, lanes_of(records, DEVICES), {}, violated=0, verdict=["wrong"])
    body = svg[svg.index('class="diagram"') :]
    width, height = (float(found) for found in re.findall(r'(?:width|height)="(\d+)"', body)[:2])
    boxes = []
    for found in re.finditer(
        r'<text class="(?:label|frame)[^>]*? x="([\d.]+)" y="([\d.]+)"([^>]*)>([^<]*)', body
    ):
        x, y, wide = float(found[1]), float(found[2]), len(found[4]) * CHARACTER_PX
        left = x - wide if 'text-anchor="end"' in found[3] else x
        boxes.append((left, left + wide, y))
    for left, right, y in boxes:
        assert left >= 0
        assert right <= width + CHARACTER_PX
        assert y <= height
    for at, (left, right, y) in enumerate(boxes):
        for other_left, other_right, other_y in boxes[:at]:
            assert abs(y - other_y) >= 7 or right <= other_left or other_right <= left
    for y0, y1 in re.findall(r'class="arrow[^>]*d="M\d+,([\d.]+)L[\d.]+,([\d.]+)"', body):
        assert float(y0) < float(y1)


def test_the_node_stands_in_the_middle() -> None:
    """Devices of one user stand together, in the order of the cast, as many on either side of the node."""
    records: list[Record] = [happened(at, place) for at, place in enumerate(reversed(DEVICES))]
    assert lanes_of(records, DEVICES) == [*DEVICES[:2], NODE, *DEVICES[2:]]
    assert lanes_of(records[:1], DEVICES) == [DEVICES[-1], NODE]


@pytest.mark.parametrize("line", EXAMPLES.split("\n")[1:-1])
def test_every_kind_of_step_has_its_place(line: str) -> None:
    """Each step is drawn at the device or at the node, with words unless what follows it says enough."""
    step = steps.parse(line)
    place, mark, label = drawn(step)
    assert place == NODE or place in (*DEVICES, "bob/rogue")
    assert label or mark is Mark.NONE


def test_the_examples_have_every_kind() -> None:
    """No kind of step is missing above."""
    assert {type(step) for step in steps.parse_all(EXAMPLES)} == set(get_args(steps.Step))


def test_the_sentences_are_those_of_the_document() -> None:
    """What the page says of an invariant is what docs/invariants.md says."""
    rows = re.findall(r"^\| (I-\d+) \| (.*) \|$", INVARIANTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: text for name, text in SENTENCES.items() if name != "crash"} == dict(rows)


def test_who_is_who_names_everybody() -> None:
    """Every device and group of a cast is introduced, whatever the cast."""
    for seed in range(50):
        cast = Cast.drawn(Chance(seed))
        places = [fact.place for fact in who(cast)]
        assert {cast.label(device) for device in cast.devices} <= set(places)
        assert len(places) == len(set(places)) == 1 + len(cast.apps) + len(cast.devices) + len(cast.groups)


def test_a_recording_tells_the_trace_from_the_healing() -> None:
    """Steps beyond the end of the trace are marked as those of the second phase."""
    recording = Recording(1)
    recording.step(0, steps.Turn(), 5)
    recording.frame(1, NODE, "alice/phone", "Welcome")
    recording.arrived(1)
    recording.lost(2)
    recording.note(NODE, "a commit")
    recording.step(1, steps.Turn(), 6)
    found = [record.healing for record in recording.records if isinstance(record, Happened)]
    assert found == [False, True]
    assert len(recording.records) == 6


def test_a_trace_survives_its_file() -> None:
    """What is read back is what was written, remarks apart."""
    trace = Trace(cast=Cast.drawn(Chance(7)), steps=steps.parse_all(EXAMPLES), seed=7, invariant="I-5")
    assert read_trace(trace.text("a remark\nof two lines")) == trace


def test_any_text_survives_a_trace() -> None:
    """Words of users stay one line, whatever is in them."""
    words = 'a\nb\u2028c\x85 “d” "e" #f'
    trace = Trace(cast=Cast.drawn(Chance(7)), steps=[steps.Act("alice/phone", "open", ("G", words))])
    assert read_trace(trace.text()) == trace
    assert steps.parse_all(steps.text_of(trace.steps[0])) == list(trace.steps)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "line 1: the cast is missing"),
        ("# nothing\n\nturn\n", "line 3: the cast is missing"),
        ('{"cast": 5}\n', "line 1: this is not a cast"),
        ("{broken\n", "line 1: the cast is missing"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_line(text: str, complaint: str) -> None:
    """The first line that cannot be read is named."""
    with pytest.raises(ValueError, match=complaint):
        read_trace(text)


def test_a_step_that_cannot_be_read_is_named() -> None:
    """A trace is edited by hand: the line of the mistake is in the message."""
    text = Trace(cast=Cast.drawn(Chance(7)), steps=[steps.Turn()]).text() + "trun\n"
    with pytest.raises(ValueError, match="line 3: no step begins like this: 'trun'"):
        read_trace(text)


def test_all_of_it_is_exported() -> None:
    """The names that others use are the ones promised."""
    assert set(report.__all__) >= {"Recording", "Story", "explain", "page"}
