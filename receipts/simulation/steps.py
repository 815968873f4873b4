"""What can happen in a world, as values with a line of text each: a trace is a list of these.

    act alice/phone send alice~bob 0 false true
    deliver alice/phone up 1
    turn
    crash-node lose

A step says all that is to be known of it, so replaying a trace needs no chance. One that makes no sense in
the world it meets (deliver on an empty link, act on a device that is down) does nothing there, so any part of
a trace is a trace: that is what shrinking needs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias, get_args, get_type_hints

__all__ = [
    "Act",
    "Clock",
    "CrashDevice",
    "CrashNode",
    "Cut",
    "Deliver",
    "DiskFull",
    "Duplicate",
    "Freeze",
    "Late",
    "Operate",
    "Password",
    "Release",
    "Save",
    "Say",
    "StartDevice",
    "StartNode",
    "Step",
    "Store",
    "Thaw",
    "Tick",
    "Turn",
    "Wait",
    "parse",
    "parse_all",
    "text_of",
]


class Act(NamedTuple):
    """A user does something on a device. Operations and their arguments are in `device.ACTS`."""

    device: str
    """Label of the device: "user/name", with more than one app "app:user/name"."""
    operation: str
    arguments: tuple[Any, ...] = ()
    """Texts, numbers, booleans, None, and tuples of these."""


class Operate(NamedTuple):
    """The operator does something at the node. Operations are in `node.OPERATIONS`."""

    operation: str
    arguments: tuple[Any, ...] = ()


class Say(NamedTuple):
    """A rogue, who speaks without a client of ours, says something. Operations are in `rogue.ROGUES`."""

    app: str
    user: str
    operation: str
    arguments: tuple[Any, ...] = ()


class Deliver(NamedTuple):
    """The next frames of one direction of a device's link arrive, up to a number of them. With no frame on
    the way, what arrives is the end of the link, if the other side has ended it."""

    device: str
    up: bool
    """Whether to the node."""
    frames: int = 1


class Late(NamedTuple):
    """Frames arrive at the node on a link that the device has given up, the oldest one first; after the last
    frame the node learns that the link is gone."""

    device: str
    frames: int = 1


class Tick(NamedTuple):
    """The hub decides everything that is queued, as one tick."""


class Store(NamedTuple):
    """The store's thread does the next jobs of its queue: loads, fetches, commits. What comes of them waits
    for `Release`."""

    jobs: int = 1
    outcome: str = "ok"
    """Of the commits among them. `ok`: durable. `written`: written and not synced, so the job is not done;
    a crash then keeps or loses it. `failed` and `failed-kept`: the sync fails and the node stops; what was
    written is lost, or there after all."""


class Release(NamedTuple):
    """The event loop takes up what the store has done, the oldest first: frames go out, more is decided."""

    outcomes: int = 1


class Turn(NamedTuple):
    """`Tick`, all of `Store`, all of `Release` and all of `Password`: a quick and healthy node."""


class Password(NamedTuple):
    """The thread that hashes passwords is done with the next one."""


class Save(NamedTuple):
    """The disk of a device has written what was begun; the frames that promise it go out."""

    device: str


class Cut(NamedTuple):
    """A device's link breaks."""

    device: str
    notices: str = "both"
    """`both` at once; `device`: the node keeps a link from which frames may still come (`Late`); `node`: the
    device keeps a link on which nothing is answered any more."""


class Freeze(NamedTuple):
    """A partition: nothing goes to or comes from a device, no link can be opened, nobody notices."""

    device: str


class Thaw(NamedTuple):
    """The partition ends for a device."""

    device: str


class Duplicate(NamedTuple):
    """A frame that is on its way is there twice; the copy comes last."""

    device: str
    up: bool


class CrashNode(NamedTuple):
    """The node's process dies."""

    unsynced: str = "lose"
    """What becomes of a commit that is not synced: `keep`, `lose`, or `tear` (half of it is on disk)."""


class StartNode(NamedTuple):
    """The node starts on its disk."""

    new_life: bool = False
    """Whether as after a restore: resume tokens of the life before are void."""


class CrashDevice(NamedTuple):
    """The process of a device dies."""

    device: str
    storage: str = "keep"
    """Its own disk, if it has one: `keep` or `lose`."""


class StartDevice(NamedTuple):
    """A device is started again, with what its disk has, if it has one."""

    device: str


class DiskFull(NamedTuple):
    """The node's disk has no room from now on, or has some again."""

    full: bool


class Clock(NamedTuple):
    """A clock jumps: `who` is a device, or "node". Devices use clocks that never go back, so they do not."""

    who: str
    jump_ms: int


class Wait(NamedTuple):
    """Time passes for everybody; timers that are due fire, devices that want to connect do."""

    ms: int


Step: TypeAlias = (
    Act
    | Operate
    | Say
    | Deliver
    | Late
    | Tick
    | Store
    | Release
    | Turn
    | Password
    | Save
    | Cut
    | Freeze
    | Thaw
    | Duplicate
    | CrashNode
    | StartNode
    | CrashDevice
    | StartDevice
    | DiskFull
    | Clock
    | Wait
)

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.~/:-]*|\*")
_NAMES = ("true", "false", "null")


def _kebab(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"-\1", name).lower()


_KINDS: dict[str, Any] = {_kebab(kind.__name__): kind for kind in get_args(Step)}
_NAME_OF: dict[type, str] = {kind: name for name, kind in _KINDS.items()}
_DIRECTIONS = {"up": True, "down": False}
_OPEN = (Act, Operate, Say)
"""Kinds whose last field is all the words that are left."""


def text_of(step: Step) -> str:
    """A step as one line; `parse` reads it."""
    kind = type(step)
    words = [_NAME_OF[kind]]
    fields: list[Any] = list(step)
    if isinstance(step, _OPEN):
        fields = [*fields[:-1], *step.arguments]
    elif isinstance(step, Deliver | Duplicate):
        fields[1] = "up" if step.up else "down"
    words += [_word(field) for field in fields]
    return " ".join(words)


def _word(field: Any) -> str:
    if isinstance(field, str) and _WORD.fullmatch(field) and field not in _NAMES:
        return field
    return json.dumps(field, ensure_ascii=False, separators=(",", ":"))


def parse(line: str) -> Step:
    """The step that `text_of` has written.

    Raises:
        ValueError: This is not the line of a step.
    """
    words = list(_words(line))
    if not words or not isinstance(words[0], str) or words[0] not in _KINDS:
        raise ValueError(f"no step begins like this: {line!r}")
    kind = _KINDS[words[0]]
    fields = words[1:]
    if kind in _OPEN:
        fixed = len(kind._fields) - 1
        fields = [*fields[:fixed], tuple(fields[fixed:])]
    elif kind in (Deliver, Duplicate) and len(fields) > 1:
        fields[1] = _DIRECTIONS.get(fields[1], fields[1])
    expected = get_type_hints(kind)
    for name, field in zip(kind._fields, fields, strict=False):
        wanted = expected[name] if expected[name] in (str, int, bool) else tuple
        if type(field) is not wanted:
            raise ValueError(f"{words[0]} has {name} of type {wanted.__name__}, not {field!r}: {line!r}")
    try:
        return kind(*fields)  # type: ignore[no-any-return]
    except TypeError as error:
        raise ValueError(f"{line!r}: {error}") from None


def _words(line: str) -> Iterable[Any]:
    decode = json.JSONDecoder().raw_decode
    place = 0
    while place < len(line):
        if line[place] == " ":
            place += 1
            continue
        found = _WORD.match(line, place)
        if found is not None and found[0] not in _NAMES:
            yield found[0]
            place = found.end()
        else:
            content, place = decode(line, place)
            yield _frozen(content)


def _frozen(content: Any) -> Any:
    return tuple(_frozen(item) for item in content) if isinstance(content, list) else content


def parse_all(text: str) -> list[Step]:
    """The steps of a trace, one a line; empty lines and those that begin with `#` are passed over."""
    lines = (line.strip() for line in text.split("\n"))  # a word may hold what else ends a line
    return [parse(line) for line in lines if line and not line.startswith("#")]
