"""Garbage for the native codec: whatever comes in, only `BadCommand` and `DecodeError` come out.

`python -m tests.wire.fuzz --inputs 1000000 --seed 7` is the long run; the suite runs a slice. Inputs are
noise, and valid frames of every type with bytes, characters or elements of them changed. What is decoded all
the same has to be writable again, and to be read as the same.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from collections import Counter
from typing import Any

import msgpack
from hypothesis import HealthCheck, given, settings

from receipts.core.errors import DecodeError
from receipts.wire.codec import (
    BadCommand,
    Frame,
    decode_command,
    decode_update,
    encode_command,
    encode_update,
)
from receipts.wire.table import COMMANDS, UPDATES
from tests.wire.strategies import commands_of, updates_of

__all__ = ["corpus", "judge", "main", "mutated", "run"]

_FRAMES_PER_TYPE = 12
_SPICE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    2**53 + 1,
    2**63,
    2**64 - 1,
    1.5,
    "",
    "alice~bob",
    "\x00",
    "9" * 19,
    b"\xff",
    [],
    {},
    [[]],
    [1, 2],
    [2, 1],
    ["name", 1, "x"],
    {"base64": "?"},
)


def corpus() -> list[Frame]:
    """Valid frames of every type in both forms; the same ones each time."""
    frames: list[Frame] = []
    steady = settings(
        max_examples=_FRAMES_PER_TYPE,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    for kind in COMMANDS.values():

        @steady
        @given(commands_of(kind))
        def gather(command: Any) -> None:
            frames.extend(encode_command(command, text=text) for text in (False, True))

        gather()
    for kind in UPDATES.values():

        @steady
        @given(updates_of(kind))
        def gather_updates(update: Any) -> None:
            frames.extend(encode_update(update, 5, text=text) for text in (False, True))

        gather_updates()
    return frames


def mutated(frames: list[Frame], chance: random.Random) -> Frame:
    """One input: noise, or a valid frame with something changed."""
    pick = chance.randrange(10)
    if pick == 0:
        return chance.randbytes(chance.randrange(40))
    if pick == 1:
        return "".join(chance.choices('[]{}",:0123456789-.eE\\utrfalsn\ud800é \x00', k=chance.randrange(40)))
    frame = chance.choice(frames)
    if pick < 6:
        return _other_structure(frame, chance)
    return _other_bytes(frame, chance) if isinstance(frame, bytes) else _other_text(frame, chance)


def _other_bytes(frame: bytes, chance: random.Random) -> bytes:
    found = bytearray(frame)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(found) + 1)
        match chance.randrange(4):
            case 0:
                del found[at:]
            case 1:
                found[at:at] = chance.randbytes(chance.randint(1, 5))
            case 2:
                found[at : at + 1] = bytes(
                    [chance.choice(b"\x00\x7f\x80\x90\xc0\xc1\xc4\xc7\xcf\xd4\xdb\xdd\xdf")]
                )
            case _:
                found[at : at + chance.randrange(4)] = chance.randbytes(1)
    return bytes(found)


def _other_text(frame: str, chance: random.Random) -> str:
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(frame) + 1)
        stuff = chance.choice(
            ["", '"', "[", "]", "}", "-", "1", "e9", "\\ud800", "\\u0000", "NaN", "null", "9" * 30]
        )
        frame = frame[:at] + stuff + frame[at + chance.randrange(3) :]
    return frame


def _other_structure(frame: Frame, chance: random.Random) -> Frame:
    found: Any = msgpack.unpackb(frame) if isinstance(frame, bytes) else json.loads(frame)
    for _ in range(chance.randint(1, 2)):
        _spice(found, chance)
    if isinstance(frame, str):
        return json.dumps(found, default=repr)
    return bytes(msgpack.packb(found))


def _spice(found: Any, chance: random.Random) -> None:
    """Put something odd somewhere into a tree of lists and dicts."""
    keys = list(found) if isinstance(found, dict) else list(range(len(found)))
    if not keys:
        return
    key = chance.choice(keys)
    if isinstance(found[key], list | dict) and chance.random() < 0.7:
        _spice(found[key], chance)
    elif chance.random() < 0.2:
        del found[key]
    else:
        found[key] = copy.deepcopy(chance.choice(_SPICE))


def judge(frame: Frame) -> str:
    """Read a frame on both sides, and say what came of it.

    Raises:
        AssertionError: What was read is written or read differently the second time.
        Exception: Anything else but the two errors that a reader has to expect: the bug that is looked for.
    """
    try:
        command = decode_command(frame)
        assert decode_command(encode_command(command)) == command
        assert decode_command(encode_command(command, text=True)) == command
        outcome = "a command"
    except BadCommand:
        outcome = "a bad command"
    except DecodeError:
        outcome = "garbage"
    try:
        told = decode_update(frame)
    except DecodeError:
        return outcome
    if told is None:
        return "an unknown update"
    tick, update = told
    assert decode_update(encode_update(update, tick)) == told
    assert decode_update(encode_update(update, tick, text=True)) == told
    return "an update"


def run(inputs: int, seed: int) -> Counter[str]:
    """Judge so many inputs; how many of them were what."""
    chance = random.Random(seed)
    frames = corpus()
    return Counter(judge(mutated(frames, chance)) for _ in range(inputs))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    options = parser.parse_args()
    print(f"seed {options.seed}")
    for outcome, times in run(options.inputs, options.seed).most_common():
        print(f"{times:>10}  {outcome}")


if __name__ == "__main__":
    main()
