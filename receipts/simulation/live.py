"""Live worlds: the real node and the real client as tasks, over a real transport, in simulated time.

    outcome = simulate_live(seed=7)
    outcome = simulate_live(seed=7, url="mine://node")     over a transport of your own, once it is registered

What the pure simulation leaves out is under test here: the runner, the connection, the transport, and the
order in which tasks run. That order, all jitter, all delays and all faults come from the seed, and time is
trio's `MockClock`, which jumps whenever nobody has anything to do; so one seed is one run, byte for byte, and
worlds of hours take a second. Devices keep what they know in memory: a file would bring in threads, which no
seed rules. The layers below are `live_stage`, `live_people` and `live_checks`.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from traceback import format_exception
from typing import TYPE_CHECKING, Any

import anyio
import trio._core._run as scheduler
from trio.testing import MockClock

from receipts.client.connection import Connection
from receipts.core.ids import ConversationId
from receipts.core.value import value
from receipts.node.commands import ExplainFor, Verify
from receipts.node.runner import Node
from transports.base import Handler, Link

from .chance import Chance
from .live_checks import Truth, check_sent, differences, recount
from .live_people import CALM, ROUGH, LiveFaults, People
from .live_stage import APP, Device, Stage, Trace
from .violation import Violation

if TYPE_CHECKING:
    from .live_web import WebPeople

__all__ = ["CALM", "ROUGH", "LiveFaults", "LiveOutcome", "simulate_live"]

SETTLE_SECONDS = 3000
"""For everything to be said and heard once nothing goes wrong any more: a client waits half a minute between
attempts at most, the node 5 s for a full disk; a queue of such waits is far below this."""

QUIET_SECONDS = 5
"""Looks, one second apart, at which nothing may be under way: receipts wait for each other 2 s at most."""

USERS = 4

SETTINGS = (
    """{"groups": {"may_ask_receipts": "member"}, "limits": {"page_bytes_max": 2000, "devices_max": 100}}""",
    """{"groups": {"may_ask_receipts": "member"}, "limits": {"sends_burst": 20, "sends_per_second": 2.0,
        "marks_burst": 20, "marks_per_second": 2.0, "devices_max": 100, "retention_ms": 600000}}""",
    """{"features": {"roll_up": "all"}, "limits": {"page_bytes_max": 700, "devices_max": 100}}""",
)
"""What the app allows; a world takes one of them."""


@value
class LiveOutcome:
    """What became of a world in which nothing was wrong."""

    seed: int
    digest: str
    """Of every frame, deed and answer, with its time; equal for equal seeds, on every machine, as long as the
    versions of this package and of trio are the same."""
    counts: dict[str, int]
    """How often what happened: `deed`, `refused`, `link`, `sent`, `received`, `node` …"""
    seconds: float
    """How long it took, in the world's time."""


def simulate_live(
    seed: int,
    *,
    deeds: int = 200,
    faults: LiveFaults = ROUGH,
    url: str = "memory://simulated",
    wrap: Callable[[Link], Link] = lambda link: link,
    idle_seconds: float = 0.0,
    web: bool = False,
    web_url: str = "memory://simulated-web",
    line: Callable[[str], None] | None = None,
) -> LiveOutcome:
    """Let users do this and that while things go wrong; then mend everything and demand that all agree.

    Not to be called from a running event loop: it starts one. While it runs, it rules trio's scheduler and
    the module `random`, and puts both back.

    Args:
        seed: Of everything.
        deeds: How many things are done, faults among them.
        faults: What goes wrong.
        url: Where the node listens and devices connect; any scheme of `transports.connect`. A port of 0 is
            fine.
        wrap: Put around the device's end of every link: a link of your own.
        idle_seconds: How long nothing may happen, in real time, before the world's time jumps. 0 is for
            transports without sockets. With sockets, take 0.01 or more; which frame comes first is then
            the machine's choice, and a seed is not one run any more.
        web: Whether users have devices with the vendor's SDK, too; takes the extra `easemob`.
        web_url: Where the node listens for those, as `url`; any scheme.
        line: Called with every line of the trace.

    Raises:
        Violation: Something is wrong; its text names the seed.
    """
    trace = Trace(line)

    async def main() -> float:
        async with _world(seed, url, web_url if web else "", wrap, faults, trace) as (stage, people, guests):
            await _play(stage, people, guests, deeds)
        return anyio.current_time()

    clock = MockClock(autojump_threshold=idle_seconds)
    try:
        with _one_order(seed), _silence():
            seconds = anyio.run(main, backend="trio", backend_options={"clock": clock})
    except Exception as error:
        found = _bare(error)
        found.details += f"\nlive world {seed}, {deeds} deeds, {faults} at {url}"
        raise found from None
    return LiveOutcome(seed=seed, digest=trace.digest, counts=dict(trace.counts), seconds=seconds)


def _bare(error: BaseException) -> Violation:
    """What was found, without the groups that task groups put around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, Violation):
        return error
    return Violation("crash", f"{type(error).__name__}: {error}", "".join(format_exception(error)))


@contextmanager
def _one_order(seed: int) -> Iterator[None]:
    """Let the seed say in which order tasks run, and what clients draw for their pauses.

    Trio shuffles the tasks that are ready on purpose. It has a switch for what we need, which Hypothesis and
    pytest-trio use too: sort them by their age first, then shuffle them by a generator that can be seeded.
    Without the sorting, the order of tasks that one cancellation wakes follows their addresses in memory.
    """
    kept = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r, random.getstate()
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    scheduler._r = random.Random(seed)
    random.seed(seed)
    try:
        yield
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = kept[0]  # type: ignore[misc]
        scheduler._r = kept[1]
        random.setstate(kept[2])


@contextmanager
def _silence() -> Iterator[None]:
    """Nodes whose disks fail say so in their logs; here that is nothing to be told."""
    loggers = [logging.getLogger(name) for name in ("receipts.node", "receipts.client")]
    kept = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, kept, strict=True):
            logger.setLevel(level)


@asynccontextmanager
async def _world(
    seed: int, url: str, web_url: str, wrap: Callable[[Link], Link], faults: LiveFaults, trace: Trace
) -> AsyncIterator[tuple[Stage, People, WebPeople | None]]:
    """A stage with people on it; what is wrong comes out bare."""
    chance = Chance(seed)
    settings = chance.one_of(SETTINGS)
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        stage = Stage(
            seed,
            address=url,
            wrap=wrap,
            settings=settings,
            trace=trace,
            tasks=tasks,
            web_address=web_url,
            web_handler=_web_handler() if web_url else None,
        )
        guests = _web_people(stage, chance, faults) if web_url else None
        people = People(stage, chance, faults, USERS, guests)
        try:
            yield stage, people, guests
        except Exception as error:
            failure = error
        with anyio.move_on_after(100):
            await stage.close()
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


# Imported where they are wanted: the vendor's codec is an extra of the package.


def _web_handler() -> Callable[[Node], Handler]:
    from .live_web import handler

    return handler


def _web_people(stage: Stage, chance: Chance, faults: LiveFaults) -> WebPeople:
    from .live_web import WebPeople

    return WebPeople(stage, chance, faults)


async def _play(stage: Stage, people: People, guests: WebPeople | None, deeds: int) -> None:
    await people.begin()
    async with anyio.create_task_group() as tasks:
        await people.run(deeds, tasks)
        await _heal(stage)
        if guests is not None:
            guests.heal()
        await _settle(stage, people)
        tasks.cancel_scope.cancel()
    await _check(stage, people, guests)


async def _heal(stage: Stage) -> None:
    """From now on nothing goes wrong; what stands may still be going to, and is replaced."""
    await anyio.sleep(0.001)  # what was begun last, maybe a cut, has happened then
    stage.trace.note("heal", "everything")
    stage.disk.full, stage.disk.fails = False, None
    await stage.start()
    for device in stage.devices:
        device.wire.repair()


async def _settle(stage: Stage, people: People) -> None:
    """Wait until nothing is under way any more."""
    quiet = 0
    for _ in range(SETTLE_SECONDS):
        _check_mistakes(stage, people)
        unrest = people.unrest or stage.unrest
        quiet = 0 if unrest else quiet + 1
        if quiet == QUIET_SECONDS:
            return
        await anyio.sleep(1)
    raise Violation("I-24", f"nothing goes wrong any more, and there is no rest: {unrest}")


def _check_mistakes(stage: Stage, people: People) -> None:
    mistakes = [*people.mistakes, *([stage.broken] if stage.broken is not None else [])]
    for device in stage.devices:
        if device.me.session.error is not None:
            mistakes.append(device.me.session.error)
    if mistakes:
        if isinstance(mistakes[0], Violation):
            raise mistakes[0]
        details = "".join(format_exception(mistakes[0]))
        raise Violation("crash", f"{type(mistakes[0]).__name__}: {mistakes[0]}", details)


# -- what must hold in the end


async def _check(stage: Stage, people: People, guests: WebPeople | None) -> None:
    truths = recount(stage.disk)
    check_sent(truths, people.accepted | (guests.accepted if guests is not None else {}))
    await _check_node(stage, people, truths)
    for device in stage.devices:
        await _check_device(device, truths)
    if guests is not None:
        await guests.check(truths)
    for device in list(stage.devices):
        joined = [truth.name for truth in truths if truth.joined(device.me.user)]
        await _check_fresh(stage, device, joined)


async def _check_node(stage: Stage, people: People, truths: list[Truth]) -> None:
    """What the node has in memory is right, and what it answers."""
    for truth in truths:
        findings = await stage.operate(Verify(rid=1, app=APP, conversation=truth.name))
        if (said := json.loads(findings.text)) != []:
            raise Violation(said[0]["invariant"], f"the node's {truth.name} is not right", str(said))
        for user in people.users:
            if truth.joined(user):
                asked = ExplainFor(rid=1, app=APP, user=user, conversation=truth.name)
                answer = await stage.operate(asked)
                seqs, unread = [seq for seq, _ in answer.messages], sorted(truth.unread(user))
                if (answer.unread, seqs) != (len(unread), unread):
                    what = f"the node counts {answer.unread} unread of {user} in {truth.name}"
                    raise Violation("I-14", what, f"explained by {seqs}, recounted {unread}")


async def _check_device(device: Device, truths: list[Truth]) -> None:
    """What a device shows is right, and so is what the node answers it."""
    me = device.me
    found = differences(truths, me.user, _shown(me), delivery=me.session.profile.delivery)
    if found:
        raise Violation("I-13", f"{device.name} does not show what is true", "\n".join(found))
    mine = [truth for truth in truths if truth.joined(me.user) and not truth.dissolved]
    badge = [0, 0, 0, 0]
    for truth in mine:
        muted = 2 if truth.muted(me.user) else 0
        unread = len(truth.unread(me.user))
        badge[muted] += unread
        badge[muted + 1] += bool(unread or truth.marked_unread(me.user))
    for whose, told in (("shows", me.badge()), ("is told", await me.server_badge())):
        said = [told.messages, told.conversations, told.muted_messages, told.muted_conversations]
        if said != badge:
            raise Violation("I-14", f"{device.name} {whose} the badge {said}", f"recounted {badge}")
    listed: dict[str, Any] = {}
    cursor: str | None = None
    while cursor != "":
        page = await me.list_conversations(cursor=cursor or "", limit=50)
        listed |= {one.conversation: (one.head, one.unread, one.marked_unread) for one in page.items}
        cursor = page.cursor
    known = {one.conversation: (one.head, one.unread, one.marked_unread) for one in me.conversations()}
    if known != listed:
        raise Violation("I-14", f"{device.name} lists other counts than the node", f"{known}\n{listed}")


def _shown(me: Connection) -> dict[str, Any]:
    """What a device shows, as `differences` takes it."""
    replica = me.session.replica
    shown: dict[str, Any] = {}
    for name in replica.dump(messages=False)["conversations"]:
        chat = replica.chat(name)
        own = [one.seq for one in me.messages(name, limit=10_000) if one.author == me.user]
        asked = [seq for seq, one in chat.asked.items() if one.author == me.user and seq in own]
        shown[name] = {
            "head": chat.head,
            "unread": me.unread_seqs(name),
            "marked": me.marked_unread(name),
            "statuses": {seq: me.status(name, seq) for seq in own},
            "readers": {seq: [reader.user for reader in me.known_readers(name, seq)] for seq in asked},
        }
    return shown


async def _check_fresh(stage: Stage, device: Device, joined: list[ConversationId]) -> None:
    """A device without a past, which is told everything at once, shows the same of what the user is in."""
    me = device.me
    await device.close()
    fresh = await stage.device(me.user, me.device, delivery=me.session.profile.delivery, coalesce_ms=0)
    await fresh.me.until(lambda: fresh.me.online)
    await fresh.me.flush()
    known, given = _shown(me), _shown(fresh.me)
    for name in joined:
        for what in ("unread", "marked", "readers"):
            if known[name][what] != given[name][what]:
                text = f"{device.name} put {what} of {name} together as {known[name][what]}"
                raise Violation("I-13", text, f"a device without a past is given {given[name][what]}")
    await fresh.close()
