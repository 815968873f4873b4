"""docs/protocol.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from receipts.core.errors import Code
from receipts.wire.codec import decode_command, decode_update, encode_command, encode_update
from receipts.wire.commands import COMMAND_TYPES
from receipts.wire.table import ANSWERED_BY, CODE_OF, COMMANDS, UPDATES, UPDATES_FROM
from receipts.wire.updates import ANSWER_TYPES, UPDATE_TYPES
from tests.wire.frames_table import DOCUMENT, renewed

TEXT = DOCUMENT.read_text(encoding="utf-8")


def test_every_frame_has_one_code() -> None:
    """P-34: the table has each command and each update once, and codes of the two do not meet."""
    assert set(COMMANDS.values()) == set(COMMAND_TYPES)
    assert set(UPDATES.values()) == set(UPDATE_TYPES)
    assert len(CODE_OF) == len(COMMANDS) + len(UPDATES) == len(COMMAND_TYPES) + len(UPDATE_TYPES)
    assert max(COMMANDS) < UPDATES_FROM <= min(UPDATES)
    assert len({kind.__name__ for kind in CODE_OF}) == len(CODE_OF)


def test_codes_of_frames_stay_as_they_are() -> None:
    """P-34: a code that was given once stands for the same frame for ever; new frames get new codes."""
    given = "Hello SendMessage AckDelivered ReadConversation ReadMessages MarkUnread RecallMessage"
    assert [COMMANDS[code].__name__ for code in range(1, 8)] == given.split()
    assert {code: UPDATES[code].__name__ for code in (64, 74, 75, 76, 79, 82, 84, 93)} == {
        64: "MessageAccepted",
        74: "Delivered",
        75: "Read",
        76: "GroupRead",
        79: "CatchUp",
        82: "Accepted",
        84: "Rejected",
        93: "Pong",
    }


def test_every_command_says_what_answers_it() -> None:
    """P-50: each command has an answer, which is one of the answers."""
    assert set(ANSWERED_BY) == set(COMMAND_TYPES)
    assert set(ANSWERED_BY.values()) <= set(ANSWER_TYPES)


def test_the_tables_of_the_document_are_current() -> None:
    """The document has what `python -m tests.wire.frames_table --write` would put into it."""
    assert renewed(TEXT) == TEXT
    for code, kind in (COMMANDS | UPDATES).items():
        assert f"| {code} | `{kind.__name__}` |" in TEXT


def test_the_document_explains_every_code() -> None:
    """P-90: the table of codes has each code once, and no other."""
    rows = re.findall(r"^\| `(\w+)` \|", TEXT.split("what to do:\n")[1].split("\n## ")[0], re.MULTILINE)
    assert sorted(rows) == sorted(Code)


def test_every_line_of_the_session_is_a_frame() -> None:
    """P-23: the worked session is made of frames just as this codec writes them."""
    lines = TEXT.split("```text\n")[1].split("\n```")[0].splitlines()
    frames = [line for line in lines if not line.startswith("# ")]
    assert len(frames) > 15
    for line in frames:
        _, way, frame = re.split(r" (?=[<>] )|(?<= [<>]) ", line, maxsplit=2)
        if way == ">":
            assert encode_command(decode_command(frame), text=True) == frame
        else:
            told = decode_update(frame)
            assert told is not None
            assert encode_update(told[1], told[0], text=True) == frame


def test_statements_and_tests_name_each_other() -> None:
    """Statements are numbered once; those on frames and their forms are each named by a test here."""
    stated = re.findall(r"^- \*\*(P-\d+)\*\*", TEXT, re.MULTILINE)
    assert len(stated) == len(set(stated))
    named = set[str]()
    for path in Path(__file__).parent.glob("test_*.py"):
        named.update(re.findall(r'"""(P-\d+)', path.read_text(encoding="utf-8")))
    assert named <= set(stated)
    ours = {name for name in stated if 10 <= int(name[2:]) < 35}
    assert ours <= named
