"""A failure as a page that a person can read: one HTML file, which needs nothing from anywhere.

PURE. `Recording` is a `Journal`: it keeps what a replay did, in order. `page` makes the file of it: what does
not hold, the command that shows it again, who is who, a space-time diagram, and the steps as text. The
diagram itself is drawn by `diagram`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import assert_never

import attrs

from receipts.core.value import value

from .cast import Cast, DeviceCast, GroupCast
from .diagram import NODE, Dropped, Happened, Mark, Put, Record, Said, Took, diagram, lanes_of
from .report_style import PAGE, STYLE
from .run import replay
from .steps import (
    Act,
    Clock,
    CrashDevice,
    CrashNode,
    Cut,
    Deliver,
    DiskFull,
    Duplicate,
    Freeze,
    Late,
    Operate,
    Password,
    Release,
    Save,
    Say,
    StartDevice,
    StartNode,
    Step,
    Store,
    Thaw,
    Tick,
    Turn,
    Wait,
    text_of,
)
from .trace import Trace
from .violation import Violation

__all__ = ["DRAWN_MAX", "SENTENCES", "Fact", "Recording", "Story", "drawn", "explain", "page", "who"]

DRAWN_MAX = 400
"""Steps that are drawn: the last ones. A shrunk trace has fewer; of another one nobody reads more."""

COLOURS = 8
"""Of users; after that they come again."""

SENTENCES = {
    "I-1": "An own message is never unread, whichever way it came: live, by catch-up, from another device.",
    "I-2": "A status never falls; order and repeats of events do not matter.",
    "I-3": "A receipt that comes before its message is not lost.",
    "I-4": "Marks only grow, and what is told is always new.",
    "I-5": "0 ≤ unread ≤ visible.",
    "I-6": "No mark goes beyond the head; what says more is applied up to there and answered so.",
    "I-7": "No device's clock decides anything.",
    "I-8": "There is one comparator: the seq.",
    "I-9": "A recall takes from a count exactly what was counted; it commutes with reading; a repeat does "
    "nothing.",
    "I-10": "Expiry is exact: no count and no receipt without its message.",
    "I-11": "What is done in one conversation, or by one member, changes no count of another.",
    "I-12": "Every count can be explained: the seqs behind it, as many as it says.",
    "I-13": "Cut and resumed at any step, a device ends where it would have been.",
    "I-14": "What is kept equals what a recount gives.",
    "I-15": "A receipt of somebody else never changes my unread.",
    "I-16": "At rest, all devices of a user agree.",
    "I-17": "Reading through the head gives 0 unread, from any state.",
    "I-18": "What came before a membership period is never unread in it.",
    "I-19": '"All" is over a stated audience: who was a member at the send; an empty one is an answer of its '
    "own.",
    "I-20": "One predicate decides what counts, for every counter.",
    "I-21": "Cost is bounded: frames by news, state by gaps; no news, no frame.",
    "I-22": "Nothing is cut off in silence: a page that is not all says so.",
    "I-23": "A repeat changes nothing and does not keep the rest of its batch from being applied.",
    "I-24": "What was said is on disk; delivered means that a device has stored it.",
    "I-25": "With sharing off, what I read makes no difference to what anybody else gets.",
    "I-26": "No receipt for a receipt, for an own message, or to somebody who is not in the conversation.",
    "I-27": "What comes from outside a conversation changes nothing in it.",
    "I-28": '"Expired" and the other reasons of not knowing are not "no".',
    "I-29": "What a limit refused is said, with the time to come again; doing it then ends in the same "
    "state.",
    "I-30": "What a newer peer adds is carried or ignored and never lowers what is known.",
    "I-31": "The same story ends in the same state over every transport and event loop.",
    "crash": "No input makes the code under test raise what it does not declare.",
}
"""What holds, by its id (docs/invariants.md); `crash` stands for an exception of the code under test."""


class Recording:
    """A `Journal` that keeps everything, for a page.

    Args:
        steps: How many steps the trace has.
    """

    def __init__(self, steps: int) -> None:
        self.records: list[Record] = []
        self._steps = steps
        self._silent: tuple[int, str, Mark, str] | None = None

    def step(self, index: int, step: Step, now_ms: int) -> None:
        """A step begins; those with an index beyond the trace mend what is broken."""
        place, mark, label = drawn(step)
        self._silent = None
        if isinstance(step, _NOTED):  # it says so in a note if there is something to do; else it is nothing
            self._silent = len(self.records), place, mark, label
            mark, label = Mark.NONE, ""
        self.records.append(
            Happened(
                index=index,
                now_ms=now_ms,
                place=place,
                mark=mark,
                label=label,
                text=text_of(step),
                healing=index >= self._steps,
            )
        )

    def frame(self, number: int, source: str, target: str, what: str) -> None:
        """A frame is put on a link."""
        self.records.append(Put(number=number, source=source, target=target, what=what))

    def arrived(self, number: int) -> None:
        """A frame is handed over."""
        self.records.append(Took(number=number))

    def lost(self, number: int) -> None:
        """A frame will never arrive."""
        self.records.append(Dropped(number=number))

    def note(self, place: str, text: str) -> None:
        """Something is worth knowing."""
        if self._silent is not None and self._silent[1] == place:
            at, _, mark, label = self._silent
            self.records[at] = attrs.evolve(self.records[at], mark=mark, label=label)  # type: ignore[misc]
            self._silent = None
        elif self.records:  # before the first step everybody starts, which goes without saying
            self.records.append(Said(place=place, text=text))


_NOTED = (CrashNode, StartNode, CrashDevice, StartDevice, Save, DiskFull)


def drawn(step: Step) -> tuple[str, Mark, str]:
    """Where a step stands in the diagram, how, and in which words."""
    match step:
        case Act():
            return step.device, Mark.ACT, _act(step)
        case Operate():
            return NODE, Mark.ACT, f"operator: {_words(step, skip=1)}"
        case Say():
            return f"{step.user}/rogue", Mark.ACT, _words(step, skip=3)
        case CrashNode():
            unsynced = {"keep": "kept", "lose": "lost", "tear": "torn"}
            return NODE, Mark.DOWN, f"crash, unsynced writes {unsynced.get(step.unsynced, step.unsynced)}"
        case StartNode():
            return NODE, Mark.UP, "start of a new life" if step.new_life else "start"
        case CrashDevice():
            return step.device, Mark.DOWN, "crash" if step.storage == "keep" else "crash, storage lost"
        case StartDevice():
            return step.device, Mark.UP, "start"
        case Deliver() | Wait():
            return NODE, Mark.NONE, ""
        case Tick() | Store() | Release() | Turn() | Password() | Save():
            return _work(step)
        case Cut() | Freeze() | Thaw() | Duplicate() | Late() | DiskFull() | Clock():
            return _fault(step)
        case _:
            assert_never(step)


def _act(step: Act) -> str:
    """What a user does, in words for what is met most; the rest is shown as it is written."""
    match step.operation, step.arguments:
        case "send", (chat, counts, asks, *_):
            return f"send to {chat}{', not counting' * bool(counts)}{', asking' * bool(asks)}"
        case ("read" | "clear") as what, (chat, last):
            return f"{what} {chat}" + (f" through #{last}" if last else "")
        case ("name" | "status") as what, (chat, tuple() as seqs, *content):
            named = ", ".join(f"#{seq}" for seq in seqs)
            return f"{'read' if what == 'name' else 'ask the status of'} {named} in {chat}{_saying(*content)}"
        case "open", (chat, content):
            return f"open {chat}{_saying(content)}"
        case "mark", (chat, seq):
            return f"mark {chat} unread" + (f" from #{seq}" if seq is not None else "")
        case ("recall" | "readers") as what, (chat, seq):
            return f"{'recall' if what == 'recall' else 'ask who read'} #{seq} in {chat}"
        case _:
            return _words(step, skip=2)


def _saying(content: object = None) -> str:
    return f", saying “{content}”" if content is not None else ""


def _work(step: Tick | Store | Release | Turn | Password | Save) -> tuple[str, Mark, str]:
    match step:
        case Store():
            if step.outcome.startswith("failed"):
                return NODE, Mark.FAULT, "the sync fails"
            return NODE, Mark.INNER, "written, not synced" if step.outcome == "written" else "store"
        case Save():
            return step.device, Mark.INNER, "saved"
        case Tick() | Release() | Turn() | Password():
            return NODE, Mark.INNER, text_of(step)
        case _:
            assert_never(step)


def _fault(
    step: Cut | Freeze | Thaw | Duplicate | Late | DiskFull | Clock,
) -> tuple[str, Mark, str]:
    match step:
        case Cut():
            who = {"device": ", the node does not notice", "node": ", the device does not notice"}
            return step.device, Mark.FAULT, f"link cut{who.get(step.notices, '')}"
        case Freeze():
            return step.device, Mark.FAULT, "partition"
        case Thaw():
            return step.device, Mark.MEND, "partition ends"
        case Duplicate():
            return step.device, Mark.FAULT, f"a frame to {'the node' if step.up else 'the device'} is doubled"
        case Late():
            return NODE, Mark.FAULT, f"late frames of {step.device}"
        case DiskFull():
            return NODE, Mark.FAULT if step.full else Mark.MEND, "disk full" if step.full else "disk has room"
        case Clock():
            return step.who, Mark.FAULT, f"clock jumps by {step.jump_ms:+,} ms"
        case _:
            assert_never(step)


def _words(step: Step, *, skip: int) -> str:
    """The text of a step without its first words."""
    return text_of(step).split(" ", skip)[skip]


@value
class Fact:
    """A line of the list of who is who."""

    place: str
    """A user, a device (`user/device`), a group, or the node."""
    text: str


def who(people: Cast) -> list[Fact]:
    """Everybody of a cast, the devices of a user next to each other."""
    app_of = {one.app: one for one in people.apps}
    facts = [Fact(place=NODE, text=f"clock {_offset(people.node_offset_ms)}")]
    for app in people.apps:
        facts.append(Fact(place=f"app {app.app}", text=f"settings: {_settings(app.settings)}"))
    order = {(user.app, user.user): at for at, user in enumerate(people.users)}
    for device in sorted(people.devices, key=lambda one: order.get((one.app, one.user), len(order))):
        facts.append(Fact(place=people.label(device), text=_habits(device)))
    for group in people.groups:
        roles = [f"owner {group.owner}"]
        roles += [f"{title} {', '.join(names)}" for title, names in _people(group) if names]
        name = group.conversation if len(app_of) == 1 else f"{group.app}:{group.conversation}"
        facts.append(Fact(place=f"group {name}", text="; ".join(roles)))
    return facts


def _settings(text: str) -> str:
    """What is not as it is by default."""
    tables = json.loads(text or "{}")
    found = [f"{name} {content}" for table in tables.values() for name, content in table.items()]
    return ", ".join(found) or "all by default"


def _people(group: GroupCast) -> tuple[tuple[str, Sequence[str]], ...]:
    plain = [user for user in group.members if user not in (group.owner, *group.admins)]
    return ("admins", group.admins), ("members", plain)


def _habits(device: DeviceCast) -> str:
    """What sets a device apart."""
    habits = [
        "keeps its state on disk" if device.storage else "keeps nothing on disk",
        "asks for delivery receipts" if device.delivery else "asks for no delivery receipts",
        "" if device.share_delivered else "shares no deliveries",
        "" if device.share_read else "shares no reads",
        "speaks JSON" if device.text else "",
        "logs in with a password" if device.password else "",
        f"waits {device.coalesce_ms} ms for more marks",
        f"keeps {device.messages_max:,} messages",
        f"clock {_offset(device.offset_ms)}",
    ]
    return ", ".join(habit for habit in habits if habit)


def _offset(ms: int) -> str:
    return f"{ms / 1000:+,.1f} s" if ms else "right"


@value
class Story:
    """What a page tells."""

    title: str
    command: str
    """That shows the failure again."""
    records: Sequence[Record]
    """See `Recording`."""
    who: Sequence[Fact] = ()
    invariant: str | None = None
    what: str = ""
    details: str = ""
    violated: int | None = None
    """Index of the step after which it did not hold."""
    notes: Sequence[str] = ()
    """How it was found, one sentence each."""


def explain(trace: Trace, *, command: str = "", notes: Sequence[str] = ()) -> str:
    """The page of a trace: it is replayed, and watched.

    Args:
        trace: What happened; one that breaks nothing gives a page as well.
        command: That replays it, for the reader.
        notes: How it was found, one sentence each.
    """
    recording = Recording(len(trace.steps))
    found = replay(trace.cast, trace.steps, journal=recording).violation
    whence = "A trace" if trace.seed is None else f"Seed {trace.seed}"
    story = Story(
        title=f"{whence} breaks {found.invariant}" if found is not None else f"{whence} breaks nothing",
        command=command,
        records=recording.records,
        who=who(trace.cast),
        invariant=found.invariant if found is not None else None,
        what=found.what if found is not None else "",
        details=found.details if found is not None else "",
        violated=_last_index(recording.records, found),
        notes=notes,
    )
    return page(story)


def _last_index(records: Sequence[Record], found: Violation | None) -> int | None:
    """Of the step that broke it: the last one, as nothing is done afterwards. None for what was found only
    when everything was done."""
    last = next((record.index for record in reversed(records) if isinstance(record, Happened)), -1)
    return last if found is not None and found.step == last else None


def page(story: Story) -> str:
    """The whole HTML file.

    Returns:
        A document that loads nothing and runs nothing: text, one style sheet, two SVG elements.
    """
    records, left_out = _last(story.records)
    order = [fact.place for fact in story.who]
    body = "".join(
        (
            _headline(story),
            _again(story),
            f"<h2>Who is who</h2>{_who(story.who)}" if story.who else "",
            "<h2>What happened</h2>",
            _legend(),
            _left_out(left_out),
            "</section>",
            diagram(
                records,
                lanes_of(records, order),
                _colours(order),
                violated=story.violated,
                verdict=_verdict(story),
            ),
            "<section><h2>The steps</h2>",
            _table(records, story),
        )
    )
    return PAGE.format(title=escape(story.title), style=STYLE, body=f"<section>{body}</section>")


def _last(records: Sequence[Record]) -> tuple[Sequence[Record], int]:
    """The last steps and all that belongs to them; how many steps stand before them."""
    begins = [at for at, record in enumerate(records) if isinstance(record, Happened)]
    if len(begins) <= DRAWN_MAX:
        return records, 0
    return records[begins[-DRAWN_MAX] :], len(begins) - DRAWN_MAX


def _colours(order: Iterable[str]) -> dict[str, int]:
    """All devices of a user have the user's colour."""
    users: dict[str, int] = {}
    found = {}
    for place in order:
        if "/" in place:
            found[place] = users.setdefault(place.partition("/")[0], len(users)) % COLOURS
    return found


def _verdict(story: Story) -> list[str]:
    if story.invariant is None:
        return []
    lines = [f"✗ {story.invariant} {SENTENCES.get(story.invariant, '')}", story.what]
    return [line for line in (*lines, *story.details.splitlines()[:2]) if line.strip()]


def _headline(story: Story) -> str:
    if story.invariant is None:
        verdict = '<p class="fine">Every invariant holds.</p>'
    else:
        details = f"<pre>{escape(story.details.strip())}</pre>" if story.details.strip() else ""
        where = (
            "" if story.violated is None else f' <a href="#at-{story.violated}">after #{story.violated}</a>'
        )
        verdict = (
            f'<div class="verdict"><p><b>{escape(story.invariant)}</b> '
            f"{escape(SENTENCES.get(story.invariant, ''))}</p>"
            f"<p>What was found{where}: {escape(story.what)}</p>{details}</div>"
        )
    notes = "".join(f"<li>{escape(note)}</li>" for note in story.notes)
    return f"<h1>{escape(story.title)}</h1>{verdict}" + (f"<ul>{notes}</ul>" if notes else "")


def _again(story: Story) -> str:
    return (
        f'<p>To see it again:</p><pre class="command">{escape(story.command)}</pre>' if story.command else ""
    )


def _who(facts: Iterable[Fact]) -> str:
    rows = []
    colours = _colours([fact.place for fact in facts])
    for fact in facts:
        colour = f"var(--u{colours[fact.place]})" if fact.place in colours else "var(--node)"
        rows.append(
            f'<tr><th style="color:{colour}">{escape(fact.place)}</th><td>{escape(fact.text)}</td></tr>'
        )
    return f'<table class="who">{"".join(rows)}</table>'


def _legend() -> str:
    return (
        "<p>Time goes downwards. An arrow is a frame on its way; it begins where it was put on the link and "
        'ends where it was handed over. <span class="key">●</span> somebody did something, '
        '<span class="key down">✕</span> a crash (the life line is broken until the start), '
        '<span class="key fault">ϟ</span> a fault of network, disk or clock, '
        '<span class="key">—</span> the node went on with its work. The numbers lead to the steps below; '
        "steps of which nothing is seen share a thin row.</p>"
    )


def _left_out(count: int) -> str:
    return f'<p class="left-out">The {count} steps before these are not drawn.</p>' if count else ""


def _table(records: Iterable[Record], story: Story) -> str:
    rows: list[str] = []
    follows: list[str] = []
    step: Happened | None = None
    for record in records:
        if isinstance(record, Happened):
            rows.append(_row(step, follows, story))
            step, follows = record, []
        else:
            follows.append(_followed(record))
    rows.append(_row(step, follows, story))
    head = "<tr><th>#</th><th>ms</th><th>step</th><th>what came of it</th></tr>"
    return f'<table class="steps">{head}{"".join(rows)}</table>'


def _row(step: Happened | None, follows: Sequence[str], story: Story) -> str:
    if step is None:
        return (
            f"<tr><td></td><td></td><td>(at the beginning)</td><td>{_seen(follows)}</td></tr>"
            if follows
            else ""
        )
    kinds = " ".join(
        kind
        for kind, wanted in (("violated", step.index == story.violated), ("healing", step.healing))
        if wanted
    )
    seen = _seen(follows)
    if step.index == story.violated and story.invariant is not None:
        seen += f'<div class="wrong">✗ {escape(story.invariant)}: {escape(story.what)}</div>'
    return (
        f'<tr id="step-{step.index}" class="{kinds}"><td><a href="#at-{step.index}">{step.index}</a></td>'
        f"<td>{step.now_ms}</td><td><code>{escape(step.text)}</code></td><td>{seen}</td></tr>"
    )


def _seen(follows: Iterable[str]) -> str:
    return "".join(f"<div>{text}</div>" for text in follows if text)


def _followed(record: Record) -> str:
    match record:
        case Put():
            return f"{escape(record.source)} → {escape(record.target)}: {escape(record.what)}"
        case Said():
            return f"{escape(record.place)}: {escape(record.text)}"
        case Took() | Dropped() | Happened():
            return ""
