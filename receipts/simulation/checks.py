"""What must hold, judged after every step, each finding under the id of its invariant.

A world tells this about everything that its node decides, writes, lets out and forgets, and about
everything that its devices hear and do. The commands go to the `oracle`, which works out by itself what they
mean; what the node has in memory, on disk and on the wire, and what devices show, is compared with it.

    checks = Checks()
    checks.node_started(hub, store)            a node runs on a store that was just opened
    checks.ticked(tick)                        after every `hub.apply` and `hub.learn`, before `pipeline.add`
    checks.released(pipeline.ready())
    checks.collected()                         `pipeline.start` gave a batch
    checks.committed(pipeline.committed())     or checks.failed(pipeline.failed())
    checks.answered(ask, answer(world, ask, found))
    checks.node_gone()                         it crashed or was stopped

    replica = Watched(user, device, …)         the `Replica` of every device; it notes what it hears
    checks.device_started(label, session, …)   a process of a device; before its first link
    checks.heard(label)                        after every `session.receive_frames`, before `take_changes`
    checks.read_on(label, conversation, last)  the user has read, or opened, a chat
    checks.acted(label)                        after everything else that a user did on a device
    checks.device_gone(label)                  it crashed or was stopped

    checks.everything()                        now and then: nothing is taken on trust
    checks.at_rest()                           everything was said, heard and written: all must agree

Every method raises `Violation` for what must not be. The parts: `facts` and `oracle` (what is true), `judge`
(what is said), `states` (what is kept), `answers` (what storage says), `watch` (what devices show).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from receipts.client.session import Session as Client
from receipts.core.errors import Code, Refused
from receipts.core.events import GroupReceiptsExpired
from receipts.core.ids import ConversationId, Seq
from receipts.node import admin
from receipts.node.commands import ConfigureApp, LinkLost, Malformed, Sweep, Text, Verify
from receipts.node.hub import EXPIRE_AGAIN_MS, Hub
from receipts.node.pipeline import Mail
from receipts.node.upkeep import RETENTION_EVERY_MS
from receipts.node.world import Ask, Session, Tick
from receipts.storage.base import Store
from receipts.wire.commands import AckDelivered
from receipts.wire.updates import Accepted, Goodbye, Rejected, Welcome

from . import answers, judge, states
from .facts import Account, Talk
from .oracle import Expected, Oracle, Rules, Sender
from .violation import Violation
from .watch import Watch, Watched

__all__ = ["Checks", "Violation", "Watched"]

STORED_EVERY = 64
"""After this many commits one conversation is compared with what a new process would load."""
_QUESTIONS = frozenset(
    {
        "AckPage",
        "ExplainFor",
        "ExplainUnread",
        "FetchHistory",
        "GetBadge",
        "GetStatus",
        "ListAllConversations",
        "ListConversations",
        "ListDevices",
        "ListMembers",
        "ListReaders",
        "ListUsers",
        "MakeToken",
        "Malformed",
        "Ping",
        "Stats",
    }
)
"""What can be asked once more when the answer was undone."""


class _Held(NamedTuple):
    """A tick that was decided and is not let out."""

    number: int
    made: int
    """`Oracle.made` after it."""
    outbox: list[Any]
    commands: list[tuple[Session, Any]]


class Checks:
    """The judge of one world, over all lives of its node."""

    def __init__(self) -> None:
        self.oracle = Oracle()
        self.watch = Watch(self.oracle)
        self._hub: Hub = None  # type: ignore[assignment]  # `node_started` comes first
        self._store: Store = None  # type: ignore[assignment]
        self._runs = False
        """Whether a node runs."""
        self._held: deque[_Held] = deque()
        self._safe = 0
        """`Oracle.made` of what is on disk."""
        self._begun: tuple[int, int] | None = None
        """(tick, `Oracle.made`) of the commit that is being written."""
        self._safe_tick = 0
        self._asks: dict[int, tuple[Ask, Expected]] = {}
        """What storage was asked, by the identity of the question."""
        self._commits = 0
        self._stored = states.Stored()
        self._sweeps: deque[tuple[int, int]] = deque()
        """Node time when the node began to look at the time, and what was on disk then: the last minutes."""
        self._sweep_began: tuple[int, int] | None = None
        """Of a look that waits for storage."""
        self._lenient_until_ms = 0
        """Until then what is to expire may still be there."""
        self.oracle.login_given = self._welcomed
        self.oracle.send_known = self._knows_send
        self.oracle.limited = self._was_limited
        self.oracle.loaded = self._knows_devices
        self._tick: Tick = Tick(0)
        self._undone: list[Session] = []
        """Sessions whose login was just undone."""

    # -- the node

    def node_started(self, hub: Hub, store: Store) -> None:
        """A node runs: what it found on its disk is what it had committed (I-24), row by row (I-14).

        Args:
            hub: New, with all apps; nothing was decided yet.
            store: Open.
        """
        self._hub, self._store, self._runs = hub, store, True
        world = hub.world
        tick = world.committed_tick
        if self._begun is not None and tick == self._begun[0]:
            self._safe_tick = tick
            self.oracle.lost(kept=True)
        elif tick == self._safe_tick:
            self.oracle.lost(kept=False)
        else:
            raise Violation(
                "I-24", "what was committed is not on disk", f"tick {tick}, committed {self._safe_tick}"
            )
        self._begun = None
        self._safe = self.oracle.made
        self._lenient_until_ms = 0
        for app in world.apps.values():
            self.oracle.rules[app.id] = Rules(app.features, app.limits)
        states.compare_accounts(self.oracle, store)
        self._compare_stored(list(self.oracle.talks.values()))

    def node_gone(self) -> None:
        """The node's process has ended, by whatever cause; a commit that was begun is on disk or not."""
        self._runs = False
        self._held.clear()
        self._asks.clear()
        self._sweeps.clear()
        self._sweep_began = None

    def ticked(self, tick: Tick) -> None:
        """Something was decided: state and outbox are what the commands mean."""
        oracle = self.oracle
        self._tick = tick
        world = self._hub.world
        moment = oracle.made
        oracle.begin(world.now_ms, tick.number)
        if tick.commands:
            for session, command in tick.commands:
                self._decide(session, command)
            oracle.end()
        said, oracle.said = oracle.said, []
        self._compare_outbox(tick.outbox, said)
        if oracle.touched or world.touched_chats:
            self._compare_touched(tick, moment)
        if world.sweep_ms and self._sweep_began is None:
            self._sweep_began = (world.sweep_ms, self._safe_tick)
        if tick.outbox or tick.writes or (tick.commands and self._held):
            self._held.append(_Held(tick.number, oracle.made, tick.outbox, tick.commands))

    def _decide(self, session: Session, command: Any) -> None:
        kind = type(command)
        if kind is Sweep:
            self._time_passes()
        elif kind is ConfigureApp:
            self._configured(session, command)
        elif kind is Verify:
            self._verified(session, command)
        elif session.number in self.oracle.closed and kind is not LinkLost:
            raise Violation(
                "I-23", "a session that had ended was heard once more", f"{session!r}: {command!r}"
            )
        else:
            if kind is AckDelivered and session.user is not None:
                self.watch.acknowledged(
                    session.app.id,
                    session.user.name,
                    session.install_name,
                    command.conversation,
                    command.ranges,
                )
            self.oracle.do(Sender(session.number, session.admin, session.user), command)

    # what the node is free to choose

    def _said_to(self, session: int, kind: type) -> Iterator[Any]:
        """Answers of the tick in hand."""
        for to, update in _updates(self._tick.outbox):
            if type(update) is kind and isinstance(to, Session) and to.number == session:
                yield update

    def _welcomed(self, session: int) -> bool:
        return any(True for _ in self._said_to(session, Welcome))

    def _knows_send(self, session: int, command: Any, where: ConversationId, seq: Seq) -> bool:
        refused = self._said_to(session, Rejected)
        return any(
            one.rid == command.rid and (one.conversation, one.seq) == (where, seq)
            for one in self._said_to(session, Accepted)
        ) or any(one.rid == command.rid and one.code is Code.CLIENT_ID_REUSED for one in refused)

    def _was_limited(self, session: int, rid: int) -> bool:
        return any(
            one.rid == rid and one.code is Code.RATE_LIMITED for one in self._said_to(session, Rejected)
        )

    def _knows_devices(self, account: Account) -> bool:
        user = self._hub.world.apps[account.app].users.get(account.user)
        return user is not None and bool(user.devices)

    def _configured(self, session: Session, command: ConfigureApp) -> None:
        try:
            rules = Rules(*admin.parse_settings(command.settings))
        except Refused:
            rules = None
        self.oracle.configure(session.number, command.rid, command.app, rules)
        self._lenient_until_ms = max(self._lenient_until_ms, self.oracle.now_ms + RETENTION_EVERY_MS)

    def _verified(self, session: Session, command: Verify) -> None:
        """The node's own search for what cannot be right has to find nothing."""
        for said in self._said_to(session.number, Text):
            if said.rid != command.rid:
                continue  # an answer to something else
            for finding in json.loads(said.text):
                raise Violation(finding["invariant"], "the node's state cannot be right", str(finding))
            self.oracle.said.append(Expected((session.number,), "Text", (command.rid,)))
            return
        self.oracle.said.append(Expected((session.number,), "Rejected", (command.rid, "*", 0, None, None)))

    # time

    def _time_passes(self) -> None:
        """What the node let expire has to be what was due; what was due long ago has to be gone."""
        oracle, world = self.oracle, self._hub.world
        for talk in oracle.talks.values():
            chat = world.apps[talk.app].chats.get(talk.id)
            if chat is not None:
                known = chat.conversation
                self._expire_receipts(talk, known.receipts_expired_through, known.expired_through)
                self._expire_messages(talk, known.expired_through)
            self._check_overdue(talk)
        for to, update in _updates(self._tick.outbox):
            if isinstance(update, Goodbye) and update.code is Code.IDLE and to.number not in oracle.closed:
                oracle.idle(to.number)
        self._sweeps.append(self._sweep_began or (oracle.now_ms, self._safe_tick))
        self._sweep_began = None
        while len(self._sweeps) > 1 and self._sweeps[1][0] <= self._sweeps[-1][0] - RETENTION_EVERY_MS:
            self._sweeps.popleft()

    def _expire_receipts(self, talk: Talk, found: Seq, messages: Seq) -> None:
        """
        Args:
            found: Through where the node let receipts expire.
            messages: Through where it let messages expire, their receipts with them.
        """
        now_ms = self.oracle.now_ms
        due = max((seq for seq, at_ms in talk.due.items() if at_ms <= now_ms), default=0)
        said = self._said_expired(talk)
        if due and found >= due and (due > messages or said):
            self.oracle.expire_receipts(talk, due)
        if found > max(messages, talk.receipts_expired):
            if not due or any(seq <= found for seq, at_ms in talk.due.items() if at_ms > now_ms):
                what = f"through #{found}, due #{due}"
                raise Violation("I-10", f"receipts of {talk.id} expired too early", what)
            self.oracle.expire_receipts(talk, found)  # later ones were due after the node began to look
        elif said > talk.receipts_expired:  # likewise, and their messages go at the same time
            self.oracle.expire_receipts(talk, said)

    def _said_expired(self, talk: Talk) -> Seq:
        """Through where anybody was told that receipts expired, apart from their messages; 0 for nobody."""
        return max(
            (
                update.through
                for to, update in _updates(self._tick.outbox)
                if isinstance(update, GroupReceiptsExpired)
                and (to[0].app.id, update.conversation) == (talk.app, talk.id)
            ),
            default=0,
        )

    def _expire_messages(self, talk: Talk, found: Seq) -> None:
        if found <= talk.expired:
            return
        kept_ms = self.oracle.rules[talk.app].limits.retention_ms
        newest = talk.facts[found - 1] if found <= talk.head else None
        if newest is None or not kept_ms or newest.at_ms >= self.oracle.now_ms - kept_ms:
            raise Violation("I-10", f"messages of {talk.id} expired too early", f"through #{found}")
        self.oracle.expire_messages(talk, found)

    def _check_overdue(self, talk: Talk) -> None:
        """What was due, and on disk, when the time was looked at before: receipts the last time, messages the
        last time but one that the node looks for these."""
        if self.oracle.now_ms <= self._lenient_until_ms or not self._sweeps:
            return
        since_ms, tick = self._sweeps[-1]
        for seq, at_ms in talk.due.items():
            if at_ms <= since_ms and talk.facts[seq - 1].tick <= tick:
                raise Violation("I-10", f"receipts of #{seq} of {talk.id} did not expire", f"due at {at_ms}")
        since_ms, tick = self._sweeps[0]
        kept_ms = self.oracle.rules[talk.app].limits.retention_ms
        if kept_ms and talk.head > talk.expired and since_ms <= self._sweeps[-1][0] - RETENTION_EVERY_MS:
            oldest = talk.facts[talk.expired]
            if oldest.at_ms < since_ms - kept_ms and oldest.tick <= tick:
                raise Violation("I-10", f"#{oldest.seq} of {talk.id} did not expire", f"of {oldest.at_ms}")

    # what goes out

    def _compare_outbox(self, outbox: list[Any], said: list[Expected]) -> None:
        """What the node says is what the oracle expects: as long as both have one order, one by one. Nothing
        is compared once more after it agreed: what the node was free to choose was taken over then."""
        agreed = 0
        if len(outbox) == len(said):
            for entry, expected in zip(outbox, said, strict=True):
                if not self._agrees(entry, expected):
                    break
                agreed += 1
            else:
                return
        self._compare_unordered(outbox[agreed:], said[agreed:])

    def _agrees(self, entry: Any, expected: Expected) -> bool:
        kind = type(entry)
        if kind is tuple:
            to, update = entry
            if type(to) is list:
                if len(to) != len(expected.to):
                    return False
                if len(to) == 1:
                    if to[0].number != expected.to[0]:
                        return False
                elif {one.number for one in to} != set(expected.to):
                    return False
            elif (to.number,) != expected.to:
                return False
            if type(update) is Text:
                return expected.kind == "Text" and update.rid == expected.content[0]
            return judge.agrees(self.oracle, update, expected)
        if entry.session.number != expected.to[0] or expected.kind != kind.__name__:
            return False
        if kind is Ask:
            if expected.content[0] not in ("*", entry.purpose):
                return False
            found = answers.agrees(entry, expected)
            if found:
                self._asks[id(entry)] = (entry, expected)
            return found
        return True

    def _compare_unordered(self, outbox: list[Any], said: list[Expected]) -> None:
        missing = list(said)
        extra = []
        for entry in outbox:
            for index, expected in enumerate(missing):
                if self._agrees(entry, expected):
                    del missing[index]
                    break
            else:
                extra.append(entry)
        if missing or extra:
            self._wrong_outbox(missing, extra)

    def _wrong_outbox(self, missing: list[Expected], extra: list[Any]) -> None:
        pushed = []
        for entry in extra:
            if type(entry) is tuple:
                to, update = entry
                pushed.append((tuple(one.number for one in to) if type(to) is list else (to.number,), update))
        invariant = ""
        for entry in extra:
            if type(entry) is Ask:
                invariant = answers.blame(entry, missing)
        invariant = invariant or judge.blame(self.oracle, missing, pushed)
        raise Violation(
            invariant,
            "the node does not say what its commands mean",
            "commands: "
            + "\n  ".join(f"{session!r} {command!r}" for session, command in self._tick.commands)
            + "\nexpected and not said:\n  "
            + "\n  ".join(self._describe(one) for one in missing)
            + "\nsaid and not expected:\n  "
            + "\n  ".join(map(repr, extra)),
        )

    def _describe(self, expected: Expected) -> str:
        content = ", ".join(
            one.id if isinstance(one, Talk) else getattr(one, "user", None) or repr(one)
            for one in expected.content
        )
        return f"{expected.kind} to sessions {expected.to}: {content}"

    # what is kept

    def _compare_touched(self, tick: Tick, moment: int) -> None:
        oracle, world = self.oracle, self._hub.world
        number = tick.number
        touched = oracle.touched
        elsewhere = [
            chat
            for chat in world.touched_chats
            if chat.touched_tick == number and oracle.talks.get((chat.app.id, chat.id)) not in touched
        ]
        for chat in sorted(
            elsewhere, key=lambda one: one.key
        ):  # what was done elsewhere changes nothing here
            other = oracle.talks.get((chat.app.id, chat.id))
            if other is None:
                raise Violation("I-27", f"there is no reason for a conversation {chat.id!r}")
            view = states.View(oracle, other, moment, [], bleeding=True)
            states.compare(view, chat, list(other.people), whole=True)
        for talk, users in touched.items():
            known = world.apps[talk.app].chats.get(talk.id)
            if known is None:
                raise Violation("I-14", f"{talk.id} was changed and is not in memory")
            view = states.View(oracle, talk, moment, tick.commands)
            states.compare(view, known, users, whole=talk in oracle.all_touched)
        oracle.touched = {}
        oracle.all_touched.clear()

    def _compare_stored(self, talks: list[Talk]) -> None:
        """What a new process would load is what was committed."""

        def look() -> None:
            for talk in talks:
                rows = self._store.conversation(talk.app, talk.id)
                if self.oracle.talks.get((talk.app, talk.id)) is not talk:
                    continue  # it is not committed yet
                if rows is None:
                    raise Violation("I-24", f"{talk.id} was committed and is not on disk")
                view = states.View(self.oracle, talk, self.oracle.made, [], where="on disk")
                self._stored.compare(view, self._store, rows)

        # What the disk has done may not have been heard of yet.
        written = self._store.resume("", "", since=0, cursor="", bytes_max=0, snapshot_messages=0).tick
        self.oracle.on_disk(look, begun=self._begun is not None and written == self._begun[0])

    # what is let out

    def released(self, mail: Mail) -> None:
        """`Pipeline.ready` let this out: nothing of it may be lost any more (I-24)."""
        world = self._hub.world
        expected: dict[Session, list[Any]] = {}
        logins, ended = self.oracle.logins, self.oracle.ended
        while self._held and self._held[0].number <= world.released_tick:
            held = self._held.popleft()
            if held.made > self._safe:
                raise Violation(
                    "I-24",
                    "something was let out that is not on disk yet",
                    f"tick {held.number}, safe is {self._safe_tick}: {held.outbox}",
                )
            for entry in held.outbox:
                if type(entry) is not tuple:
                    continue
                to, update = entry
                if type(to) is list:
                    for session in to:
                        login = logins.get(session.number) or ended.get(session.number)
                        if login is not None and login.live:
                            expected.setdefault(session, []).append(update)
                elif to.dialect is not None:
                    expected.setdefault(to, []).append(update)
        if expected or mail.frames:
            self._compare_frames(expected, mail)

    def _compare_frames(self, expected: dict[Session, list[Any]], mail: Mail) -> None:
        for session, frames in mail.frames.items():
            meant = expected.pop(session, [])
            if len(frames) != len(meant):
                raise Violation(
                    "I-24",
                    f"{session!r} is told {len(frames)} things, not {len(meant)}",
                    f"{meant}\n{frames}",
                )
            for frame, update in zip(frames, meant, strict=True):
                if getattr(frame, "update", update) is not update:
                    raise Violation("I-24", f"{session!r} is told something else", f"{frame!r}\n{update!r}")
                if getattr(frame, "tick", 0) > self._safe_tick:
                    raise Violation("I-24", f"{session!r} may resume from what is not on disk", repr(update))
        for session, meant in expected.items():
            raise Violation("I-24", f"{session!r} is not told what was decided", "\n".join(map(repr, meant)))

    def collected(self) -> None:
        """A commit was begun: it takes all that was decided up to now."""
        self.oracle.begun()
        self._begun = (self._hub.world.tick_number, self.oracle.made)

    def committed(self, mail: Mail) -> None:
        """The commit is durable; `Pipeline.committed` let this out."""
        assert self._begun is not None
        self._safe_tick, self._safe = self._begun
        self._begun = None
        self.oracle.committed()
        self.released(mail)
        self._commits += 1
        if self._commits % STORED_EVERY == 0 and self.oracle.talks:
            talks = list(self.oracle.talks.values())
            self._compare_stored([talks[self._commits // STORED_EVERY % len(talks)]])

    def failed(self, mail: Mail) -> None:
        """The commit was undone; `Pipeline.failed` let this out: everybody is answered (I-29)."""
        world = self._hub.world
        self._undo_logins(world.released_tick)
        expected: dict[Session, int] = {}
        for held in self._held:
            for session, count in _owed(held, self.oracle.closed):
                expected[session] = expected.get(session, 0) + count
        for session in self._undone:
            expected[session] = expected.get(session, 0) + 1
        self._held.clear()
        self._asks.clear()
        self._begun = None
        self.oracle.undone()
        self._safe = self.oracle.made
        self._lenient_until_ms = max(self._lenient_until_ms, world.now_ms + EXPIRE_AGAIN_MS)
        told = {session: len(frames) for session, frames in mail.frames.items()}
        expected = {
            session: count for session, count in expected.items() if count and session.dialect is not None
        }
        if told != expected:
            raise Violation(
                "I-29",
                "who lost a command to a full disk has to hear of it, once, and nobody else anything",
                f"expected {expected}, told {told}",
            )

    def _undo_logins(self, released_tick: int) -> None:
        """Sessions whose login is not on disk are ended."""
        oracle = self.oracle
        by_number = {session.number: session for session in self._hub.world.sessions}
        self._undone = []
        for login in list(oracle.logins.values()):
            login.coming = False
            if login.tick > released_tick:
                login.account.sessions.remove(login)
                del oracle.logins[login.number]
                oracle.closed.add(login.number)
                self._undone.append(by_number[login.number])

    def answered(self, ask: Ask, mail: Mail) -> None:
        """Storage has answered a fetch."""
        known = self._asks.pop(id(ask), None)
        login = self.oracle.logins.get(ask.session.number)
        if known is None or login is None:
            return
        said = [
            frame.update for frames in mail.frames.values() for frame in frames if hasattr(frame, "update")
        ]
        self.oracle.on_disk(lambda: answers.compare(self.oracle, login, known[1], said))

    # -- devices

    def device_started(self, label: str, client: Client, *, kept: bool) -> None:
        """A process of a device has begun.

        Args:
            label: Names the device, the same over all its processes.
            client: Its replica is a `Watched`.
            kept: Whether the replica was restored from the device's own disk; then nothing that the device
                has acknowledged may be missing (I-24).
        """
        self.watch.started(label, client, kept=kept)

    def device_gone(self, label: str) -> None:
        """The device's process has ended."""
        self.watch.gone(label)

    def heard(self, label: str) -> None:
        """A device has taken in frames, or answers: it shows no more than was decided, and loses nothing."""
        self.watch.heard(label)

    def acted(self, label: str) -> None:
        """A user did something on a device."""
        self.watch.acted(label)

    def read_on(self, label: str, conversation: ConversationId, last: Seq) -> None:
        """A user has read everything in a chat up to and including `last` (I-17)."""
        self.watch.read_on(label, conversation, last)

    # -- all of it

    def everything(self) -> None:
        """Nothing on trust: all conversations, in memory, on disk, and on all devices."""
        if self._runs:
            self._check_node()
        self.watch.everything()

    def _check_node(self) -> None:
        oracle = self.oracle
        talks = list(oracle.talks.values())
        world = self._hub.world
        for talk in talks:
            chat = world.apps[talk.app].chats.get(talk.id)
            view = states.View(oracle, talk, oracle.made, [])
            states.recount(view)
            if chat is not None:
                states.compare_whole(view, chat.conversation)
        self._compare_stored(talks)
        oracle.forget_purses(user for app in world.apps.values() for user in app.users.values())

    def at_rest(self) -> None:
        """After healing: all links stand, all is said, heard and durable. Every device equals the oracle's
        projection (I-13, I-16, I-24), every outbox is empty (I-29)."""
        if self._held:
            raise Violation("I-24", "something that was decided is never told", repr(self._held[0]))
        self.watch.at_rest()

    def copied(self) -> None:
        """This judge, with its world, is a copy: what was known by its identity has a new one."""
        self._asks = {id(ask): (ask, expected) for ask, expected in self._asks.values()}

    def logical(self) -> Any:
        """What it all came to, without a single time: equal for runs that differ only in clocks (I-7)."""
        return states.logical(self.oracle)


def _owed(held: _Held, closed: set[int]) -> Iterator[tuple[Session, int]]:
    """Who has to hear that what a tick decided is lost."""
    for session, command in held.commands:
        command = getattr(command, "command", command)
        if isinstance(command, LinkLost | Sweep | Malformed):
            continue
        asks = type(command).__name__ in _QUESTIONS or (isinstance(command, Verify) and not command.repair)
        if not asks or session.number in closed:
            yield session, 1
    for to, update in _updates(held.outbox):
        if isinstance(update, Goodbye):
            yield to, 1


def _updates(outbox: list[Any]) -> Iterator[tuple[Any, Any]]:
    """(session or sessions, update) of an outbox, without what is to be done besides."""
    return (entry for entry in outbox if type(entry) is tuple)
