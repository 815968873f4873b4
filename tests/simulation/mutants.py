"""Each of the field's 25 failures as a mistake of a few lines, and the run of the simulator that finds it.

    python -m tests.simulation.mutants                      hunt all of them
    python -m tests.simulation.mutants --only 4 15          those of some failures
    python -m tests.simulation.mutants --write              and write docs/mutants.md

A mutant is applied to a copy of the package in a temporary directory, and a process of its own runs worlds on
that copy: the tree is never touched. A mutant counts as caught when a world ends in a violation of the
invariant that stands for its failure; worlds that end in another one before are counted too.
"""

# ruff: noqa: E501  # changes are written as the lines that they change, however long those are

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

__all__ = ["EVENTS", "MUTANTS", "ROOT", "SEEDS", "Catch", "Change", "Mutant", "catch", "mutated"]

ROOT = Path(__file__).parents[2]
SEEDS = 200
EVENTS = 2000


class Change(NamedTuple):
    """A place in the package, and what stands there instead."""

    file: str
    old: str
    new: str


class Mutant(NamedTuple):
    """A deliberate mistake."""

    failure: int
    """Its row in the table of failures; 0 for the one in the arithmetic that everything rests on."""
    name: str
    changes: tuple[Change, ...]
    invariants: tuple[str, ...]
    """Any of these stands for the failure; the first one is its own."""
    why: str
    """How this is that failure."""
    rare: bool = False
    """Whether it takes tens of worlds, too many for every run of the tests."""


class Catch(NamedTuple):
    """What a hunt came to."""

    mutant: Mutant
    seeds: int
    """Worlds that were run; the last one ended in one of the mutant's invariants, if any did."""
    invariant: str | None
    what: str
    """What was found, in a sentence."""
    others: dict[str, int]
    """Worlds before it that ended in other invariants."""


CONVERSATION = "receipts/core/conversation.py"
DECIDE = "receipts/core/decide.py"
REPLICA = "receipts/client/replica.py"
SESSION = "receipts/client/session.py"
OUTBOX = "receipts/client/outbox.py"
MARKS = "receipts/node/marks.py"

FAILURES = {
    1: "Own messages are counted as unread",
    2: "READ falls back to DELIVERED when a slower device's delivered receipt lands later",
    3: "A receipt that arrives before its message is thrown away",
    4: "A watermark rewinds, or a stale value is told as news",
    5: "Negative unread",
    6: "A cursor past the head hides everything that comes later",
    7: "The wall clock decides what is read",
    8: "Client and server order the same timeline differently",
    9: "Delete or recall leaves the count up, or subtracts twice",
    10: "Expired messages stay unread, and their receipts outlive them",
    11: "Scope bleed: reading A zeroes B",
    12: "Ghost unread: a count with nothing to open",
    13: "Counts lost, or resurrected, by a reconnect",
    14: "An incremental count drifts from the truth",
    15: "Receipts move the wrong counter",
    16: "Read on one device, unread on another",
    17: "Unread that cannot be cleared",
    18: "Newcomers and rejoiners see all history as unread",
    19: "Group roll-up is wrong",
    20: "Muted, system and silent messages are counted inconsistently",
    21: "Receipt storm",
    22: "Batch caps drop the tail silently",
    23: "Duplicates abort a batch, or are taken for new",
    24: "Delivered without the message, or no receipt although delivered",
    25: "Privacy: the setting hides, but still sends",
}

NOT_EXPRESSED = {
    11: "threads: there are none. Bleeding from conversation to conversation is expressed.",
    12: "edits, reactions and threads: there are none. A count with nothing to open is expressed.",
    20: "mentions and blocking: the application's. Muted and silent messages are expressed.",
    24: "acknowledging before decrypting: bodies are never looked at. Acknowledging before storing is expressed.",
}
"""Parts of failures that this model has no words for."""

MUTANTS = (
    Mutant(
        1,
        "own by device",
        (
            Change(
                CONVERSATION,
                "        author.read.add(seq, stop)\n",
                "        if message.device:\n            author.read.add(seq, stop)\n",
            ),
        ),
        ("I-1",),
        "A message is the author's own only where its device is known: live on other devices, and after a "
        "catch-up, it is not.",
    ),
    Mutant(
        1,
        "own until loaded again",
        (
            Change(
                "receipts/storage/codec.py",
                "    fold(chat, rows.unfolded)\n    for ask in rows.asks:\n",
                "    for ask in rows.asks:\n",
            ),
        ),
        ("I-1",),
        "After a restart, a conversation that is loaded has forgotten which of its newest messages are whose.",
    ),
    Mutant(
        2,
        "delivered replaces read",
        (
            Change(
                CONVERSATION,
                "        if shared:\n            member.delivered_shared.update(shared)\n",
                "        member.read_shared.discard(held)\n"
                "        if shared:\n            member.delivered_shared.update(shared)\n",
            ),
        ),
        ("I-2",),
        "The status of a message is what some device reported last.",
    ),
    Mutant(
        3,
        "no receipt without message",
        (
            Change(
                REPLICA,
                "        member.read.update(part.read)\n",
                "        here = ranges_of(self._boxes[chat.id].messages)\n"
                "        member.read.update(RangeSet(here).within(part.read))\n",
            ),
        ),
        ("I-3",),
        "What was read is taken in for messages that are here, and dropped for those that come later.",
    ),
    Mutant(
        4,
        "last writer wins",
        (
            Change(
                CONVERSATION,
                "        if read:\n            member.read.update(read)\n",
                "        if read:\n            member.read = RangeSet(read)\n",
            ),
        ),
        ("I-4",),
        "What a receipt says replaces what was read before.",
    ),
    Mutant(
        4,
        "stale is news",
        (
            Change(
                DECIDE,
                "            shared = open_ if new is open_ else member.read_shared.missing(open_)\n",
                "            shared = open_\n",
            ),
        ),
        ("I-4",),
        "The peer is told of a read again, whatever it knew.",
    ),
    Mutant(
        5,
        "one off for each recall",
        (
            Change(
                CONVERSATION,
                "        return count(self.unread_ranges(user))\n",
                "        read = self.members[user].read if user in self.members else RangeSet()\n"
                "        return count(self.unread_ranges(user)) - count(read.within(self.recalled.ranges))\n",
            ),
        ),
        ("I-5",),
        "A recall takes one off the count, also of who had read the message.",
    ),
    Mutant(
        6,
        "no clamp",
        (Change(DECIDE, "    if ranges and ranges[-1] > head + 1:\n", "    if not head:\n"),),
        ("I-6",),
        "A bad client's cursor is taken as it is.",
    ),
    Mutant(
        7,
        "not from the future",
        (
            Change(
                SESSION,
                "        unread = RangeSet(unread).within(seqs)\n        if unread:\n",
                "        unread = RangeSet(unread).within(seqs)\n"
                "        newest = self.replica.message(conversation, last)\n"
                "        if unread and newest is not None and newest.at_ms <= now_ms:\n",
            ),
        ),
        ("I-7",),
        "An open chat reads what is not later than the device's clock: a phone that is slow reads too little.",
    ),
    Mutant(
        8,
        "order of time",
        (
            Change(
                REPLICA,
                "        return [box.messages[seq] for seq in box.seqs[max(start, stop - limit) : stop]]\n",
                "        found = [box.messages[seq] for seq in box.seqs[max(start, stop - limit) : stop]]\n"
                "        return sorted(found, key=lambda one: (one.at_ms, one.author, one.seq))\n",
            ),
        ),
        ("I-8",),
        "The client's timeline goes by time, and by name where times are equal.",
    ),
    Mutant(
        9,
        "recalled still counts",
        (
            Change(
                CONVERSATION,
                "        if unread and self.recalled:\n            unread = self.recalled.missing(unread)\n",
                "",
            ),
        ),
        ("I-9",),
        "A recall takes the message, not its unit of the count.",
    ),
    Mutant(
        10,
        "expired still counts",
        (
            Change(
                CONVERSATION,
                "        start = max(period.from_seq, member.cleared_through + 1, self.expired_through + 1)\n",
                "        start = max(period.from_seq, member.cleared_through + 1)\n",
            ),
        ),
        ("I-10",),
        "Retention deletes messages and leaves the floor of the count where it was.",
    ),
    Mutant(
        11,
        "one place for reads",
        (
            Change(
                OUTBOX,
                "        found = self._marks.get(conversation)\n        return found.local() if found is not None else []\n",
                "        return [read for marks in self._marks.values() for read in marks.local()]\n",
            ),
        ),
        ("I-11",),
        "What was read here and is not confirmed is laid over every conversation.",
    ),
    Mutant(
        12,
        "no way to open",
        (
            Change(
                "receipts/core/explain.py",
                "    rest = RangeSet(through(after)).missing(unread)\n",
                "    rest = RangeSet(through(after)).missing(unread)\n"
                "    if rest:\n        rest = chat.members[user].read.missing(rest)\n",
            ),
        ),
        ("I-12",),
        "What was marked as unread again counts, and is not among what can be opened.",
    ),
    Mutant(
        13,
        "token runs ahead",
        (
            Change(
                SESSION,
                '        return f"{self.welcome.prefix}{max(self._tick - 1, 0)}"\n',
                '        return f"{self.welcome.prefix}{self._tick}"\n',
            ),
        ),
        ("I-13",),
        "A device resumes behind a tick of which it has heard a part.",
    ),
    Mutant(
        13,
        "live too soon",
        (
            Change(
                "receipts/node/catchup.py",
                "    live = first_of_pass and not found.cursor  # a pass of several pages may have been overtaken\n",
                "    live = not found.cursor\n",
            ),
        ),
        ("I-13",),
        "What happens to a page while the next ones are fetched is never told.",
        rare=True,
    ),
    Mutant(
        14,
        "two endpoints",
        (Change("receipts/node/queries.py", "    codec.fold(chat, summary.unfolded)\n", ""),),
        ("I-14",),
        "The conversation list and the badge count from rows without what is not folded in yet; all else is right.",
    ),
    Mutant(
        15,
        "one cursor for two",
        (
            Change(
                MARKS,
                "        _tell_read(world, session, chat, event)\n",
                "        _tell_read(world, session, chat, event)\n"
                "        for other in (chat.pair or ()) if event.through else ():\n"
                "            conversation.members[other].read.add(1, event.through + 1)\n",
            ),
        ),
        ("I-15",),
        "How far one of two has read is taken for how far both have.",
    ),
    Mutant(
        16,
        "no echo",
        (
            Change(
                MARKS,
                "    if event.read and len(user.sessions) > 1:\n",
                "    if event.read and len(user.sessions) > 2:\n",
            ),
        ),
        ("I-16",),
        "With two devices, the other one is not told what was read.",
    ),
    Mutant(
        17,
        "nothing to read",
        (
            Change(
                SESSION,
                "        if fresh or (last and self._clears_mark(conversation, through(last))):\n",
                "        if fresh:\n",
            ),
        ),
        ("I-17",),
        "Reading returns early when there is nothing that was not read before, though a mark counts it again.",
    ),
    Mutant(
        18,
        "history counts",
        (
            Change(
                DECIDE,
                "version=version, from_seq=chat.head + 1)\n",
                "version=version, from_seq=1)\n",
            ),
        ),
        ("I-18",),
        "Whoever comes in, or comes back, finds everything unread that was ever said.",
    ),
    Mutant(
        19,
        "one for all",
        (
            Change(
                REPLICA,
                "        return min((chat.status(seq, user) for user in audience), default=floor)\n",
                "        return max((chat.status(seq, user) for user in audience), default=floor)\n",
            ),
        ),
        ("I-19",),
        "The first reader ticks the whole group.",
    ),
    Mutant(
        19,
        "audience of today",
        (
            Change(
                CONVERSATION,
                "            sorted(user for user, m in self.members.items() if user != author and m.in_audience(seq))\n",
                "            sorted(user for user, m in self.members.items() if user != author and m.joined)\n",
            ),
        ),
        ("I-19",),
        "Newcomers have to read what was said before them, leavers no longer.",
    ),
    Mutant(
        20,
        "muted in the badge",
        (Change(REPLICA, "            tally = counts[line.muted]\n", "            tally = counts[False]\n"),),
        ("I-20",),
        "A device's badge does not keep muted conversations apart, the node's does.",
    ),
    Mutant(
        20,
        "silent messages count",
        (
            Change(
                CONVERSATION,
                "        if unread and self.uncounted:\n            unread = self.uncounted.missing(unread)\n",
                "",
            ),
        ),
        ("I-20",),
        "Messages that are not to count do.",
    ),
    Mutant(
        21,
        "told to the whole group",
        (
            Change(
                "receipts/node/hub.py",
                "            world.tick.outbox.append((list(user.sessions), update))\n",
                "            world.tell(chat.app, chat.members(), update)\n",
            ),
        ),
        ("I-21",),
        "An answer to one member goes to all of them.",
    ),
    Mutant(
        21,
        "nothing new is told",
        (
            Change(
                "receipts/node/groups.py",
                "    if (known is not None and bool(known[1])) is not command.muted:\n",
                "    if known is None or command.muted in (True, False):\n",
            ),
        ),
        ("I-21",),
        "A setting that is what it was goes out to all devices.",
    ),
    Mutant(
        22,
        "that was all",
        (
            Change(
                "receipts/node/queries.py",
                "        more=len(found) > len(given),\n",
                "        more=len(found) > len(given) + limit,\n",
            ),
        ),
        ("I-22",),
        "A page of history never says that there is more.",
    ),
    Mutant(
        23,
        "one repeat is enough",
        (
            Change(
                MARKS,
                "    if wanted:\n        _read(",
                "    if wanted and not conversation.members[name].read.within(wanted):\n        _read(",
            ),
        ),
        ("I-23",),
        "Of messages that are read by name, none is taken if one was read before.",
    ),
    Mutant(
        23,
        "forgets what it took",
        (
            Change(
                "receipts/node/messages.py",
                "    sent = _sent_before(world, install, command.number)\n",
                "    sent = None if command.number < install.highest else _sent_before(world, install, command.number)\n",
            ),
        ),
        ("I-23",),
        "Of what a client sends again after a cut, only the last is known as a repeat.",
    ),
    Mutant(
        24,
        "acknowledged, not stored",
        (Change(SESSION, "            messages=list(replica.arrived),\n", "            messages=[],\n"),),
        ("I-24",),
        "A device acknowledges messages that its disk never gets.",
    ),
    Mutant(
        24,
        "told before it is safe",
        (
            Change(
                "receipts/node/pipeline.py",
                "        free: list[Tick] = []\n        if self._committing is None:\n",
                "        free: list[Tick] = []\n        if self._committing is None or self._waiting:\n",
            ),
        ),
        ("I-24",),
        "Answers that rest on a commit go out while it is still being written.",
    ),
    Mutant(
        24,
        "no receipt for what was caught up",
        (
            Change(
                SESSION,
                "        self._learn(self.replica.apply(page), now_ms)\n        self.replica.token = page.token\n",
                "        self._news += self.replica.apply(page)\n        self.replica.take_fresh()\n"
                "        self.replica.token = page.token\n",
            ),
        ),
        ("I-24",),
        "Messages that come by catch-up are not acknowledged.",
    ),
    Mutant(
        25,
        "the switch hides",
        (
            Change(
                DECIDE,
                "    if sharing and switches.read and ranges:\n",
                "    if sharing and ranges:\n",
            ),
        ),
        ("I-25",),
        "Reads are shared although the user has switched that off.",
    ),
    Mutant(
        25,
        "the past leaks",
        (
            Change(
                DECIDE,
                "        read_obscured_through=chat.head if read and not old.read else old.read_obscured_through,\n",
                "        read_obscured_through=old.read_obscured_through,\n",
            ),
        ),
        ("I-25",),
        "Switching sharing on again tells of messages that were there while it was off.",
    ),
    Mutant(
        0,
        "off by one in the ranges",
        (
            Change(
                "receipts/core/ranges.py",
                "    i = bisect_right(bounds, start)\n    j = bisect_left(bounds, stop)\n    found",
                "    i = bisect_right(bounds, start)\n    j = bisect_left(bounds, stop - 1)\n    found",
            ),
        ),
        tuple(f"I-{number}" for number in range(1, 32)),
        "The arithmetic that counts, marks and statuses all rest on: the oracle has its own.",
    ),
)


# -- applying


class NotFound(Exception):
    """The text that a mutant changes is not there once."""


def check(mutant: Mutant, root: Path = ROOT) -> None:
    """Whether a mutant can be applied to a tree.

    Raises:
        NotFound: The old text of a change is not in its file, or is there more than once.
    """
    for change in mutant.changes:
        times = (root / change.file).read_text().count(change.old)
        if times != 1:
            raise NotFound(
                f"mutant {mutant.failure} “{mutant.name}”: {change.file} has its text {times} times, "
                f"not once; change the mutant to what stands there now:\n{change.old}"
            )


def mutated(mutant: Mutant | None, directory: Path) -> Path:
    """A copy of the package with a mutant in it, or as it is.

    Args:
        directory: Where the copy goes; made.

    Returns:
        `directory`, to be the first of `PYTHONPATH`.

    Raises:
        NotFound: As `check`.
    """
    leave_out = shutil.ignore_patterns("__pycache__")
    for package in ("receipts", "transports"):
        shutil.copytree(ROOT / package, directory / package, ignore=leave_out)
    if mutant is not None:
        check(mutant, directory)
        for change in mutant.changes:
            path = directory / change.file
            path.write_text(path.read_text().replace(change.old, change.new))
    return directory


# -- hunting

_HUNT = """
import json, sys
import receipts
from receipts.simulation.chance import Chance
from receipts.simulation.run import simulate
from receipts.simulation.violation import Violation
from receipts.simulation.world import World

directory, wanted, first, seeds, events = json.loads(sys.argv[1])
assert receipts.__file__.startswith(directory), receipts.__file__

def logical(cast, steps):
    world = World(cast)
    for step in steps:
        world.do(step)
    world.heal()
    return world.checks.logical()

def run(seed):
    outcome = simulate(seed, events)
    if outcome.violation is None and "I-7" in wanted:
        one = logical(outcome.cast, outcome.steps)
        other = logical(outcome.cast.shifted(Chance(seed)), outcome.steps)
        if one != other:
            return ["I-7", "the same steps with other clocks come to another end"]
    found = outcome.violation
    return None if found is None else [found.invariant, found.what]

found = []
for seed in range(first, first + seeds):
    found.append(run(seed))
    if found[-1] is not None and found[-1][0] in wanted:
        break
print(json.dumps(found))
"""


def hunt(
    directory: Path, wanted: Iterable[str], *, first: int = 0, seeds: int = SEEDS, events: int = EVENTS
) -> list[tuple[str, str] | None]:
    """Run worlds on the copy in a directory until one ends in an invariant that is wanted.

    Returns:
        What each world ended in, in order: (invariant, sentence), None for nothing wrong.
    """
    arguments = json.dumps([str(directory), list(wanted), first, seeds, events])
    found = subprocess.run(
        [sys.executable, "-c", _HUNT, arguments],
        env={**os.environ, "PYTHONPATH": str(directory), "RECEIPTS_FROZEN": "0"},
        cwd=directory,
        capture_output=True,
        text=True,
    )
    if found.returncode:
        raise RuntimeError(f"the run ended with {found.returncode}: {found.stderr[-2000:]}")
    return [None if one is None else (one[0], one[1]) for one in json.loads(found.stdout)]


def catch(mutant: Mutant, *, seeds: int = SEEDS, events: int = EVENTS) -> Catch:
    """Hunt one mutant.

    Raises:
        NotFound: As `check`.
    """
    with tempfile.TemporaryDirectory() as directory:
        copy = mutated(mutant, Path(directory).resolve() / "copy")
        worlds = hunt(copy, mutant.invariants, seeds=seeds, events=events)
    others: dict[str, int] = {}
    for world in worlds:
        if world is not None and world[0] not in mutant.invariants:
            others[world[0]] = others.get(world[0], 0) + 1
    last = worlds[-1]
    if last is not None and last[0] in mutant.invariants:
        return Catch(mutant, len(worlds), last[0], last[1], others)
    return Catch(mutant, len(worlds), None, "", others)


# -- the table


def table(catches: Iterable[Catch], clean: int) -> str:
    """docs/mutants.md.

    Args:
        catches: In the order of `MUTANTS`.
        clean: How many worlds without a mutant were run and had nothing wrong.
    """
    lines = [
        "# Mutants: what the simulator finds",
        "",
        "Each of the 25 ways in which receipts and unread counts go wrong in real systems, put into this",
        "package as a mistake of a few lines, and the run that finds it. The mistakes themselves are in",
        "`tests/simulation/mutants.py` and are only ever applied to a copy. This page is made by",
        "`python -m tests.simulation.mutants --write`.",
        "",
        f"A run is `simulate(seed, {EVENTS})` with seeds 0, 1, 2 …; *seeds* is how many it took until a world",
        "ended in the invariant that stands for the failure ([invariants](invariants.md)). Where worlds before",
        f"it ended in another one, that is said beside it. Without a mutant, seeds 0 to {clean - 1} find nothing.",
        "",
        "| # | failure | mutant | how | invariant | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for found in catches:
        mutant = found.mutant
        failure = FAILURES.get(mutant.failure, "The arithmetic of ranges")
        seeds = str(found.seeds) if found.invariant else f"not in {found.seeds}"
        others = ", ".join(f"{name} in {times}" for name, times in sorted(found.others.items()))
        lines.append(
            f"| {mutant.failure or '–'} | {failure} | {mutant.name} | {mutant.why} "
            f"| {found.invariant or '–'} | {seeds}{f' ({others})' if others else ''} |"
        )
    lines += ["", "What this model has no words for, and so no mutants:", ""]
    lines += [f"- {number}: {why}" for number, why in NOT_EXPRESSED.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Hunt, print what was found, and write it down if that is asked."""
    parser = argparse.ArgumentParser(description="Hunt mutants of the package with the simulator.")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of failures")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write docs/mutants.md")
    options = parser.parse_args()
    chosen = [one for one in MUTANTS if options.only is None or one.failure in options.only]
    with ThreadPoolExecutor(options.jobs) as pool:
        hunts = [pool.submit(catch, one, seeds=options.seeds, events=options.events) for one in chosen]
        catches = []
        for mutant, running in zip(chosen, hunts, strict=True):
            found = running.result()
            catches.append(found)
            caught = f"{found.invariant} after {found.seeds}" if found.invariant else f"NOT in {found.seeds}"
            print(f"{mutant.failure:2} {mutant.name:35} {caught:20} {found.others or ''}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        worlds = max(found.seeds for found in catches if found.invariant) if catches else 1
        copy = mutated(None, Path(directory).resolve() / "copy")
        wrong = [one for one in hunt(copy, ["I-7"], seeds=worlds, events=options.events) if one is not None]
    print(f"without a mutant: {worlds} worlds, {len(wrong)} of them wrong {wrong or ''}")
    if options.write:
        (ROOT / "docs" / "mutants.md").write_text(table(catches, worlds))
    return 1 if wrong or any(found.invariant is None for found in catches) else 0


if __name__ == "__main__":
    sys.exit(main())
