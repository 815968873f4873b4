"""What is counted, and how it is printed: the parts without a process around them."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from receipts.app.complaints import Complaint, innermost, reason_of, run_loop
from receipts.app.lines import conversation_name, json_line, message_line, news_line, seqs_text
from receipts.app.metrics import COMMIT_SECONDS, Figures, LoopWatch
from receipts.client.news import Lagged, MarkRefused, Offline, Online
from receipts.core import events
from receipts.core.errors import Code, DecodeError, Refused
from receipts.core.ids import MessageId
from receipts.node.commands import AddUser
from receipts.node.runner import Node
from receipts.storage.memory import MemoryStore
from receipts.wire import updates


@pytest.mark.anyio
async def test_a_node_tells_its_observer() -> None:
    """Every command and refusal is counted once by its kind, and every commit has its time."""
    figures = Figures()
    async with Node(MemoryStore(), inline=True, observer=figures).running() as node:
        await node.operate(AddUser(rid=1, app="default", user="alice"))
        with pytest.raises(Refused):
            await node.operate(AddUser(rid=1, app="default", user="alice"))
        assert node.uncommitted == 0
    assert figures.commands[AddUser] == 2
    assert figures.rejected == {Code.ALREADY_EXISTS: 1}
    assert figures.ticks > 2
    assert sum(figures.commit_buckets) >= 1
    assert figures.commit_seconds_sum > 0
    assert figures.commits_failed == 0


def test_commits_fall_into_buckets() -> None:
    """A commit counts where the bound is at least its time; failures are counted beside."""
    figures = Figures()
    for seconds in (COMMIT_SECONDS[0], COMMIT_SECONDS[0] * 1.01, 100.0):
        figures.committed(seconds, None)
    figures.committed(0.0, OSError())
    assert figures.commit_buckets == [2, 1, *([0] * (len(COMMIT_SECONDS) - 2)), 1]
    assert figures.commits_failed == 1


def test_stalls_are_forgotten() -> None:
    """The longest stall is shown for one to two minutes, and then no longer."""
    now = [0.0]
    watch = LoopWatch(lambda: now[0])
    seen = []
    for at, stall in ((1, 0.5), (30, 0.2), (61, 0.1), (119, 0.0), (122, 0.0), (400, 0.0)):
        now[0] = at
        watch.note(stall)
        seen.append(watch.stall_seconds_max)
    assert seen == [0.5, 0.5, 0.5, 0.5, 0.1, 0.0]


def test_ranges_and_names_for_people() -> None:
    """Ranges are written with inclusive bounds, conversations by who is at the other end."""
    assert seqs_text((1, 4, 9, 10)) == "#1-#3, #9"
    assert seqs_text(()) == ""
    assert [conversation_name("alice~bob", me) for me in ("alice", "bob", "cara")] == [
        "bob",
        "alice",
        "alice~bob",
    ]
    assert conversation_name("team", "bob") == "team"


def _message(**more: Any) -> events.MessageAccepted:
    return events.MessageAccepted("alice~bob", 3, MessageId(8), "alice", **{"body": "hi", **more})


def test_messages_as_lines() -> None:
    """A message shows its number, its author, and its conversation where the author does not say it."""
    assert message_line(_message(), "bob") == "#3 alice: hi"
    assert message_line(_message(), "alice") == "[bob] #3 you: hi"
    assert message_line(_message(body=b"123"), "bob") == "#3 alice: 3 bytes"


@pytest.mark.parametrize(
    ("news", "line"),
    [
        (updates.Delivered("alice~bob", "bob", (1, 3)), "delivered to bob: #1-#2"),
        (updates.Read("alice~bob", "bob", (1, 3)), "read by bob: #1-#2"),
        (updates.Read("alice~bob", "alice", (1, 2)), "[bob] read on another device: #1"),
        (
            updates.ReadStatistics(counts=(("team", 4, 2),), through=9),
            "read while you were away: [team] #4 by 2",
        ),
        (events.MessageRecalled(conversation="alice~bob", seq=2, by="bob"), "[bob] #2 was recalled by bob"),
        (
            events.UnreadMarked(
                conversation="alice~bob", member="alice", version=3, flagged=True, ranges=(2, 4)
            ),
            "[bob] marked as unread: #2-#3",
        ),
        (
            events.UnreadMarked(conversation="alice~bob", member="alice", version=4, flagged=False),
            "[bob] no longer marked as unread",
        ),
        (events.MemberJoined(conversation="team", member="bob", version=1, from_seq=1), "[team] bob is in"),
        (events.MemberLeft(conversation="team", member="bob", joined=1, through=1), "[team] bob has left"),
        (
            events.RegisterSet(
                conversation="team", member="bob", register=events.Register.ROLE, version=1, value="admin"
            ),
            "[team] role of bob: admin",
        ),
        (
            events.SharingChanged(
                conversation="alice~bob", member="alice", version=1, delivered=True, read=False
            ),
            "[bob] deliveries are shared, reads are kept private",
        ),
        (events.MessagesExpired(conversation="team", through=3), "[team] messages through #3 are gone"),
        (Online(), "online"),
        (Offline(reason="gone", retry_in_ms=250), "offline: gone; trying again in 250 ms"),
        (Lagged(count=3), "3 updates were dropped"),
        (MarkRefused(conversation="team", code=Code.NOT_A_MEMBER, reason="no"), "refused: no (not_a_member)"),
        (updates.Pong(3), None),
    ],
)
def test_news_as_lines(news: Any, line: str | None) -> None:
    """Everything that happens has one line for people, or none."""
    assert news_line(news, "alice") == line


def test_json_for_programs() -> None:
    """An object keeps its fields; bytes are marked as such."""
    assert json_line("Delivered", updates.Delivered("c", "bob", (1, 3))) == (
        '{"type": "Delivered", "conversation": "c", "member": "bob", "ranges": [1, 3]}'
    )
    assert '"body": {"base64": "MQ=="}' in json_line("MessageAccepted", _message(body=b"1"))


def test_reasons() -> None:
    """Errors that a user can mend have a line; bugs have none."""
    refused = Refused(Code.RATE_LIMITED, "too many sends", retry_after_ms=250)
    assert reason_of(refused) == "too many sends; try again in 250 ms (rate_limited)"
    assert reason_of(DecodeError("garbage")) == "the other side does not speak our protocol: garbage"
    assert reason_of(TimeoutError()) == "there was no answer in time"
    assert reason_of(FileNotFoundError(2, "No such file or directory", "x")) == "x: No such file or directory"
    assert reason_of(KeyError("bug")) is None


def test_groups_of_errors_are_unwrapped() -> None:
    """One error in task groups is that error; several stay a group."""
    one = ExceptionGroup("", [ExceptionGroup("", [KeyError("x")])])
    assert isinstance(innermost(one), KeyError)
    two = ExceptionGroup("", [KeyError("x"), ValueError("y")])
    assert innermost(two) is two

    async def fail(*errors: Exception) -> None:
        async def failing(error: Exception) -> None:
            raise error

        async with anyio.create_task_group() as tasks:
            for error in errors:
                tasks.start_soon(failing, error)

    with pytest.raises(Complaint, match=r"^one$"):
        run_loop(lambda: fail(Complaint("one")), "trio")
