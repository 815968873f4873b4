"""Garbage for the native codec: whatever comes in, only `BadCommand` and `DecodeError` come out.

`python -m tests.wire.fuzz --inputs 5000000` is the long run, of this and of the framing
(`tests.transports.fuzz`); the suite runs a slice. Inputs are noise, valid frames of every type with bytes,
characters or elements of them changed, and frames made to cost memory. What is decoded all the same has to be
writable again, and to be read as the same. docs/fuzzing.md says what came of it.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from collections import Counter
from collections.abc import Callable
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
from receipts.wire.limits import FRAME_BYTES_MAX
from receipts.wire.table import COMMANDS, UPDATES
from tests.memory_watch import looked_at, peak_mib, wall
from tests.wire.strategies import commands_of, updates_of

__all__ = ["corpus", "judge", "main", "mutated", "run"]

_FRAMES_PER_TYPE = 12
_HEAVY_ONE_IN = 2000
_LOOK_EVERY = 500
_WALL_MIB = 512
_INPUTS_PER_REPORT = 250_000
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
    if chance.randrange(_HEAVY_ONE_IN) == 0:
        return _heavy(chance)
    pick = chance.randrange(10)
    if pick == 0:
        return chance.randbytes(chance.randrange(40))
    if pick == 1:
        return "".join(chance.choices('[]{}",:0123456789-.eE\\utrfalsn\ud800é \x00', k=chance.randrange(40)))
    frame = chance.choice(frames)
    if pick < 6:
        return _other_structure(frame, chance)
    return _other_bytes(frame, chance) if isinstance(frame, bytes) else _other_text(frame, chance)


def _heavy(chance: random.Random) -> Frame:
    """A frame, up to the largest, of one small thing over and over: what it says is more than what it is."""
    size: int = 2 ** chance.randrange(4, FRAME_BYTES_MAX.bit_length())
    if chance.random() < 0.3:
        thing = chance.choice(("[", '{"a":', "[[],", "{},", '"\\u00e9",', "9", "-", " ", "é"))
        return chance.choice(("", "[", '{"type":"Ping","rid":')) + thing * (size // len(thing.encode()))
    promised = 2 ** chance.randrange(1, 32) - chance.randrange(2)
    items: tuple[Any, ...] = ([], {}, [[]], {"a": 1}, 1.5, -999, "ab", b"ab")
    unit: bytes = chance.choice(
        (
            msgpack.Packer().pack_array_header(promised),
            msgpack.Packer().pack_map_header(promised),
            b"\xdb" + promised.to_bytes(4, "big"),
            *map(msgpack.packb, items),
        )
    )
    times = size // len(unit)
    code = chance.choice((b"", b"\x02\x07", b"\x4a\x07"))
    start = msgpack.Packer().pack_array_header(times + len(code)) if chance.random() < 0.7 else b""
    return bytes(start + code + unit * times)


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
    outcomes: Counter[str] = Counter()
    for number in range(inputs):
        frame = mutated(frames, chance)
        if number % _LOOK_EVERY and len(frame) < FRAME_BYTES_MAX // 64:
            outcomes[judge(frame)] += 1
        else:
            size = len(frame) if isinstance(frame, bytes) else len(frame.encode(errors="surrogatepass"))
            outcomes[looked_at(lambda frame=frame: judge(frame), size)] += 1  # type: ignore[misc]
    return outcomes


def main() -> None:
    """The command line."""
    from tests.transports import fuzz as framing

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--inputs", type=int, default=100_000, help="of the codec, and as many of the framing"
    )
    parser.add_argument("--seed", type=int, default=time.time_ns())
    parser.add_argument("--only", choices=["codec", "framing"])
    options = parser.parse_args()
    wall(_WALL_MIB)
    subjects = {"codec": run, "framing": framing.run}
    for name in [options.only] if options.only else subjects:
        _report(name, subjects[name], options.inputs, options.seed)


def _report(name: str, judged: Callable[[int, int], Counter[str]], inputs: int, seed: int) -> None:
    """Run in parts, each from a seed of its own, so that what is found is found again soon."""
    outcomes: Counter[str] = Counter()
    began, before = time.process_time(), peak_mib()
    for start in range(0, inputs, _INPUTS_PER_REPORT):
        some = min(_INPUTS_PER_REPORT, inputs - start)
        print(f"{name}: from {start}, {some} inputs of seed {seed + start}", flush=True)
        outcomes += judged(some, seed + start)
    took = time.process_time() - began
    print(f"{name}: {inputs} inputs in {took:.0f} s of CPU, {inputs / took:.0f} a second")
    print(f"{name}: memory at most {peak_mib():.0f} MiB, {before:.0f} MiB before")
    for outcome, times in outcomes.most_common():
        print(f"{times:>10}  {outcome}")


if __name__ == "__main__":
    main()
