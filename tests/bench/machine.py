"""What the pure machine costs: `python -m tests.bench.machine`.

A round is one message: posted, delivered, read by the peer. It is measured with its events made by hand
(apply), with the judgements (decide), and as the same lifecycle on the `transitions` library, in the same
run. Then the state after 10 and after 1,000,000 messages. Here a figure may be looked at, not asserted:
the limits beside them are what this was built for.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import median
from typing import Any

from receipts.core import decide, events
from receipts.core.conversation import Conversation
from receipts.core.ids import MessageId

__all__ = ["main"]

CHAT = "alice~bob"


def apply_rounds(rounds: int) -> None:
    """Rounds by events as a replica or a store gets them, made and applied."""
    chat = Conversation.between("alice", "bob")
    apply = chat.apply
    accepted, delivered, read = events.MessageAccepted, events.DeliveryMarked, events.ReadMarked
    for seq in range(1, rounds + 1):
        named = (seq, seq + 1)
        apply(accepted(CHAT, seq, MessageId(2 * seq), "alice", "phone", seq, "hello"))
        apply(delivered(CHAT, "bob", "phone", named, named))
        apply(read(CHAT, "bob", "phone", named, named, (), seq, seq))
    assert chat.unread("bob") == 0


def decide_rounds(rounds: int) -> None:
    """Rounds by wishes as the deciding side gets them, judged and applied."""
    chat = Conversation.between("alice", "bob")
    apply = chat.apply
    for seq in range(1, rounds + 1):
        named = (seq, seq + 1)
        apply(
            decide.accept(
                chat, "alice", message_id=MessageId(2 * seq), at_ms=seq, device="phone", body="hello"
            )
        )
        delivered = decide.deliver(chat, "bob", "phone", named)
        if delivered is not None:
            apply(delivered)
        read = decide.read(chat, "bob", named, device="phone", at_ms=seq, version=seq)
        if read is not None:
            apply(read)
    assert chat.unread("bob") == 0


LIFECYCLE: dict[str, Any] = {
    "states": ["sent", "acked", "delivered", "read"],
    "transitions": [
        ["ack", "sent", "acked"],
        ["deliver", "acked", "delivered"],
        ["read", "delivered", "read"],
    ],
    "initial": "sent",
}
LEAN: dict[str, Any] = {**LIFECYCLE, "auto_transitions": False}
"""Without the triggers that the library adds for every state unless told not to."""


class Message:
    """A model that a library machine moves along."""


def library_rounds(rounds: int, *, shared: bool, settings: dict[str, Any]) -> None:
    """Rounds on `transitions`: one machine for all messages, or one each."""
    from transitions import Machine

    one = Machine(model=None, **settings) if shared else None
    for _ in range(rounds):
        message: Any = Message()
        if one is not None:
            one.add_model(message)
        else:
            Machine(model=message, **settings)
        message.ack()
        message.deliver()
        message.read()
        assert message.state == "read"
        if one is not None:
            one.remove_model(message)


def microseconds(run: Callable[[int], None], rounds: int, repeats: int) -> tuple[float, float]:
    """CPU time a round: (best, median) of the repeats."""
    found = []
    for _ in range(repeats):
        begin = time.process_time()
        run(rounds)
        found.append((time.process_time() - begin) / rounds * 1e6)
    return min(found), median(found)


def entries(chat: Conversation) -> int:
    """How many entries the dump of a state has, the last 32 read times of a member apart."""
    dumped = chat.dump()
    for member in dumped["members"].values():
        del member["advances"]
    return _entries(dumped)


def _entries(dumped: Any) -> int:
    values = dumped.values() if isinstance(dumped, dict) else dumped if isinstance(dumped, list) else ()
    return sum(1 + _entries(value) for value in values)


def grow(chat: Conversation, authors: Iterable[str], marks: tuple[int, ...]) -> list[int]:
    """The entries after as many messages as each of `marks` (rising), each of them read by everybody."""
    found = []
    readers = sorted(chat.members)
    for seq, author in enumerate(authors, 1):
        chat.apply(events.MessageAccepted(chat.id, seq, MessageId(2 * seq), author, "phone"))
        peer = readers[seq % len(readers)]
        named = (seq, seq + 1)
        chat.apply(events.DeliveryMarked(chat.id, peer, "phone", named, named))
        if seq in marks:
            everything = (1, seq + 1)
            for reader in readers:
                mark = events.ReadMarked(chat.id, reader, "phone", everything, everything, everything, 0, seq)
                chat.apply(mark)
            found.append(entries(chat))
    return found


def growth(messages: int) -> list[tuple[str, list[int]]]:
    """(pattern, entries after 10 and after `messages`), for three patterns of authors."""
    chance = random.Random(200)
    users = [f"user{number}" for number in range(200)]
    marks = (10, messages)
    return [
        ("one author", grow(Conversation.between("alice", "bob"), ("alice" for _ in range(messages)), marks)),
        (
            "alternating",
            grow(
                Conversation.between("alice", "bob"),
                ("bob" if n % 2 else "alice" for n in range(messages)),
                marks,
            ),
        ),
        (
            "200 random authors",
            grow(Conversation.group("G", users), (chance.choice(users) for _ in range(messages)), marks),
        ),
    ]


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table, with rich where it is installed."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(f"\n{title}")
        for row in (columns, *rows):
            print("  ".join(cell.ljust(28) for cell in row).rstrip())
        return
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50_000, help="of the machine; the library takes a 50th")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--messages", type=int, default=1_000_000, help="of the state that must not grow")
    options = parser.parse_args()
    few = max(1, options.rounds // 50)
    measured = [
        ("apply", "3", microseconds(apply_rounds, options.rounds, options.repeats)),
        ("decide and apply", "4", microseconds(decide_rounds, options.rounds, options.repeats)),
    ]
    for name, settings in (("transitions", LIFECYCLE), ("transitions, lean", LEAN)):
        for how, shared in (("one machine", True), ("a machine each", False)):
            run = partial(library_rounds, shared=shared, settings=settings)
            measured.append((f"{name}, {how}", "", microseconds(run, few, options.repeats)))
    applied, decided = measured[0][2][0], measured[1][2][0]
    show(
        "One round (posted, delivered, read): µs of CPU",
        ["", "best", "median", "at most", "× apply", "× decide and apply"],
        [
            [name, f"{best:.2f}", f"{middle:.2f}", limit, f"{best / applied:.1f}", f"{best / decided:.1f}"]
            for name, limit, (best, middle) in measured
        ],
    )
    show(
        f"Entries of the state after 10 and after {options.messages:,} messages, read in order",
        ["", "10", f"{options.messages:,}"],
        [[name, *map(str, found)] for name, found in growth(options.messages)],
    )


if __name__ == "__main__":
    main()
