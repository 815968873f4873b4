"""Steps and casts as text: what is written can be read, and nothing else."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipts.simulation.cast import Cast
from receipts.simulation.chance import Chance
from receipts.simulation.steps import Act, Deliver, Step, Turn, parse, parse_all, text_of

_words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8)
_scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), _words, st.just("true"))
_arguments = st.lists(st.one_of(_scalars, st.lists(_scalars, max_size=3).map(tuple)), max_size=4).map(tuple)
_FIELDS: dict[Any, st.SearchStrategy[Any]] = {
    str: _words,
    int: st.integers(0, 2**40),
    bool: st.booleans(),
}


def _of(kind: Any) -> st.SearchStrategy[Step]:
    hints = get_type_hints(kind)
    fields = [_FIELDS.get(hints[name], _arguments) for name in kind._fields]
    return st.builds(kind, *fields)


@given(st.one_of([_of(kind) for kind in get_args(Step)]))
def test_every_step_can_be_read_back(step: Step) -> None:
    """A step's line says all of it."""
    line = text_of(step)
    assert "\n" not in line
    assert parse(line) == step
    assert type(parse(line)) is type(step)


def test_a_trace_is_a_text_for_people() -> None:
    """Lines of a trace are what they look like; empty ones and remarks are passed over."""
    steps = parse_all(
        "# begin\nact alice/phone send alice~bob 0 false true\n\n  deliver alice/phone up 2\nturn\n"
    )
    assert steps == [
        Act("alice/phone", "send", ("alice~bob", 0, False, True)),
        Deliver("alice/phone", True, 2),
        Turn(),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "fly",
        "7",
        "deliver",
        "deliver alice/phone sideways 1",
        "deliver alice/phone up many",
        "turn 1",
        "wait true",
        'act alice/phone "send',
    ],
)
def test_what_is_no_step_is_refused(line: str) -> None:
    """A line that no step has written is a ValueError that shows it."""
    with pytest.raises(ValueError, match=r"\S"):
        parse(line)


def test_every_cast_can_be_read_back() -> None:
    """A cast's text says all of it, whatever was drawn."""
    for seed in range(50):
        cast = Cast.drawn(Chance(seed))
        assert Cast.from_json(cast.to_json()) == cast
    with pytest.raises(ValueError, match="not a cast"):
        Cast.from_json("{}")


def test_labels_name_the_app_only_where_there_are_several() -> None:
    """A device is "user/name", with several apps "app:user/name"; no two have one label."""
    several = 0
    for seed in range(50):
        cast = Cast.drawn(Chance(seed))
        labels = [cast.label(device) for device in cast.devices]
        assert len(set(labels)) == len(labels)
        assert all((":" in label) is (len(cast.apps) > 1) for label in labels)
        several += len(cast.apps) > 1
    assert several
