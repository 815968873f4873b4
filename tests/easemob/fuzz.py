"""Garbage for the dialect of the vendor's SDK: a node is given frames that were broken on purpose.

`python -m tests.easemob.fuzz --inputs 1000000` is the long run; the suite runs a slice. Inputs are noise, and
frames of a whole story with bytes changed, left out, doubled or put in elsewhere. Whatever comes in, only
`DecodeError` comes out of the dialect; such a link is closed with a reason, and another session of the same
node goes on. What is read all the same is carried out.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter

from receipts.easemob import codec
from receipts.easemob import msync_pb2 as pb
from tests.easemob.web import APP, Book, Web

__all__ = ["Fuzz", "main", "run"]

LINKS_PER_NODE = 2000
"""After so many broken links a new node: what the SDK's mistakes leave behind is not what is tried here."""

LIMITS = (
    '{"limits": {"sends_burst": 1000000, "marks_burst": 1000000, "changes_burst": 1000000,'
    ' "sends_per_second": 1000000, "marks_per_second": 1000000, "devices_max": 1000}}'
)


class Recording(Web):
    """An SDK whose frames are kept."""

    recording = False
    frames: list[bytes]

    def _hand_over(self, frame: bytes | str) -> None:
        assert isinstance(frame, bytes)
        if self.recording:
            self.frames.append(frame)
        super()._hand_over(frame)


class Fuzz:
    """A node, a session that is attacked, and one that has to go on."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.outcomes: Counter[str] = Counter()
        self.links = 0
        self._begin()

    def _begin(self) -> None:
        self.book = Book(settings=LIMITS)
        self.book.user("alice", "bob", app=APP)
        self.book.group("g1", "alice", "bob", app=APP)
        self.victim = Recording(self.book, "bob", "webim_web_1", delivery=True)
        self.victim.frames = []
        self.witness = self.book.online("alice", "webim_web_2")
        self.frames = self._story()
        self.payloads = [codec.parse(pb.MSync, frame).payload for frame in self.frames]
        self.links = 0

    def _story(self) -> list[bytes]:
        """One of each frame that the SDK sends."""
        victim, witness = self.victim, self.witness
        victim.recording = True
        victim.log_in()
        mid = witness.send("bob")
        victim.read("alice", mid)
        victim.read_all("alice")
        asked = witness.send("g1", group=True, asks=True)
        victim.read_group("g1", asked, "ok")
        victim.read_all("g1", group=True)
        victim.recall("alice", victim.send("alice", "hello"))
        victim.sync(pb.CommSyncUL(queue=pb.JID(appKey=APP, name="q_bob", domain=codec.USER_DOMAIN)))
        victim.say(pb.MSync(version=0, command=codec.Command.LOGOUT))
        victim.recording = False
        victim.lose()
        victim.log_in()
        return victim.frames

    def one(self) -> str:
        """Give the node one broken frame; what became of it."""
        if self.victim.is_cut or self.victim.link is None:
            self._log_in()
        victim, frame = self.victim, self.mutated()
        victim.farewells.clear()
        victim.provisions.clear()
        victim.put(frame)
        outcome = "read"
        if victim.is_cut:
            refused = any(answer.status.reason for answer in victim.provisions)
            assert victim.farewells or refused, f"closed without a reason: {frame.hex()}"
            outcome = "refused" if refused else "closed"
        self.outcomes[outcome] += 1
        return outcome

    def _log_in(self) -> None:
        victim = self.victim
        self.links += 1
        if self.links > LINKS_PER_NODE:
            assert self.witness.greet().code == 0, "another session was harmed"
            self._begin()
            return
        if victim.link is not None:
            self.book.devices.pop(victim.link.session, None)
            victim.lose()
        for kept in (victim.metas, victim.heard, victim.keys, victim.answers, victim.provisions):
            kept.clear()
        victim.log_in()
        if self.chance.random() < 0.2:  # the first frame is broken as well
            victim.lose()
            victim.open()
        assert self.witness.greet().code == 0, "another session was harmed"

    def mutated(self) -> bytes:
        """A frame of the story, broken at some depth, or noise."""
        chance = self.chance
        frame = chance.choice(self.frames)
        depth = chance.randrange(5)
        if depth == 0:
            return chance.randbytes(chance.randrange(200))
        if depth == 1:
            return self._broken(frame, self.frames)
        sync = codec.parse(pb.MSync, frame)
        if sync.command != codec.Command.SYNC or depth == 2:
            sync.payload = self._broken(sync.payload, self.payloads)
            return sync.SerializeToString()
        inner = codec.parse(pb.CommSyncUL, sync.payload)
        if inner.HasField("meta"):
            self._break_meta(inner.meta, depth)
        else:
            inner.key = chance.choice((0, 1, inner.key, inner.key + 1, 2**63, 2**64 - 1))
        sync.payload = inner.SerializeToString()
        return sync.SerializeToString()

    def _break_meta(self, meta: pb.Meta, depth: int) -> None:
        """Something is still readable, and says what nobody would."""
        chance = self.chance
        if depth == 3:
            meta.payload = self._broken(meta.payload, self.payloads)
            return
        meta.id = chance.choice((0, meta.id, 2**63 - 1, 2**63, 2**64 - 1))
        meta.ns = chance.choice((meta.ns, meta.ns, chance.randrange(8)))
        meta.to.name = chance.choice((meta.to.name, "", "bob", "nobody", "a~b", "g1", "x" * 300, "\x00"))
        meta.to.domain = chance.choice((meta.to.domain, codec.GROUP_DOMAIN, ""))
        body = pb.MessageBody.FromString(meta.payload)
        body.type = chance.randrange(10)
        body.ackMessageId = chance.choice((0, 1, 2, 4, 2**63 - 1, 2**63, 2**64 - 1))
        meta.payload = body.SerializeToString()

    def _broken(self, data: bytes, others: list[bytes]) -> bytes:
        chance = self.chance
        found = bytearray(data)
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            place = chance.randrange(len(found) + 1)
            kind = chance.randrange(6)
            if kind == 0 and found:
                found[place % len(found)] = chance.randrange(256)
            elif kind == 1 and found:
                found[place % len(found)] ^= 1 << chance.randrange(8)
            elif kind == 2:
                del found[place : place + chance.randrange(1, 9)]
            elif kind == 3:
                found[place:place] = chance.randbytes(chance.randrange(1, 9))
            elif kind == 4:
                found[place:place] = found[place : place + chance.randrange(1, 30)]
            else:
                other = chance.choice(others)
                start = chance.randrange(len(other) + 1)
                found[place:place] = other[start : start + chance.randrange(1, 40)]
        return bytes(found)


def run(inputs: int, seed: int, *, report_every: int = 0) -> Counter[str]:
    """Try `inputs` broken frames; raises what should not have come out."""
    fuzz = Fuzz(random.Random(seed))
    began = time.perf_counter()
    for number in range(1, inputs + 1):
        try:
            fuzz.one()
        except Exception as error:
            raise AssertionError(f"seed {seed}, frame {number}: {error!r}") from error
        if report_every and number % report_every == 0:
            rate = number / (time.perf_counter() - began)
            print(f"{number} frames, {rate:.0f} a second, {dict(fuzz.outcomes)}", flush=True)
    return fuzz.outcomes


def main() -> None:
    """The long run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began = time.perf_counter()
    outcomes = run(arguments.inputs, arguments.seed, report_every=50_000)
    took = time.perf_counter() - began
    print(f"{arguments.inputs} frames in {took:.0f} s, seed {arguments.seed}: {dict(outcomes)}")


if __name__ == "__main__":
    main()
