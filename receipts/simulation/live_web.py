"""Devices of the vendor's Web SDK in a live world: links, pauses, and what people do on them.

The SDK is a model (`websdk`), the application on it too (`live_page`); the session and everything behind it
on the node is production code (`receipts.easemob.session`), over links that fail as those of native devices.
What must hold in the end is checked here as well, since only worlds with such devices need the codec.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence

import anyio
import anyio.abc

from receipts.core.ids import ConversationId, UserId, direct
from receipts.easemob import msync_pb2 as pb
from receipts.easemob.session import Dialects
from receipts.node.runner import Node
from receipts.wire.commands import ListConversations
from transports.base import Handler, Link

from .chance import Chance
from .live_checks import Truth
from .live_page import Message, Page, Sent, peer_of
from .live_people import GROUPS, Deed, LiveFaults, draw_plan
from .live_stage import APP, Stage, Wire
from .violation import Violation
from .websdk import WebSDK

__all__ = ["WebDevice", "WebPeople", "handler", "plain_link_errors"]

FIRST_LOCAL_ID = 530_000_000_000
"""Local ids are not unique across devices: here they never are."""

MANY = 40
"""Messages at once: more than may be on their way to one device."""

ATTEMPTS = 5
"""Links in a row that came to nothing, until the SDK gives up; its application logs in again later."""

LATER_SECONDS = 30.0

CAUGHT_UP_SECONDS = 60
"""For a page to be told what it has missed, when nothing goes wrong."""

plain_link_errors = (
    OSError,
    anyio.EndOfStream,
    anyio.ClosedResourceError,
    anyio.BrokenResourceError,
)
"""What ends a link without anybody having done wrong."""


def handler(node: Node) -> Handler:
    """Takes links of the SDK, as one node serves them."""
    dialects = Dialects(frozenset({APP}), now=lambda: node.hub.world.now_ms)

    async def handle(link: Link) -> None:
        await node.handle_queued(link, dialects())

    return handle


class WebDevice:
    """One device of a user: the SDK, the page that it is in, and its wire.

    Args:
        stage: Where.
        page: The application; it goes on when the page is loaded again.
        token: Of the user.
        delivery: Whether the SDK sends delivery receipts.
    """

    def __init__(self, stage: Stage, page: Page, token: str, *, delivery: bool) -> None:
        self.page = page
        self.wire = Wire(stage, self.name, lambda: stage.web_url)
        self.mistakes: list[BaseException] = []
        self._token = token
        self._pauses: random.Random = stage.delays
        self._stage = stage
        self.sdk = WebSDK(APP, page.user, page.resource, delivery=delivery, first_id=FIRST_LOCAL_ID)
        self._link: Link | None = None
        self._waiting: anyio.CancelScope | None = None
        self._talking: anyio.CancelScope | None = None
        self._attempts = 0
        self._is_open = anyio.Event()
        self._is_open.set()

    @property
    def name(self) -> str:
        """User and resource."""
        return f"{self.page.user}/{self.page.resource}"

    @property
    def unrest(self) -> str | None:
        """What it waits for; None for nothing."""
        if self.page.failed:
            return "has something to send again"
        return self.sdk.unrest

    async def live(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Be there, through all links, until cancelled."""
        task_status.started()
        while True:
            await self._is_open.wait()
            with anyio.CancelScope() as self._talking:
                try:
                    async with self.wire.open() as link:
                        await self._talk(link)
                except plain_link_errors:
                    pass
            self._link = None
            self.sdk.end()
            self._tell()
            await self._pause()

    async def _pause(self) -> None:
        self._attempts += 1
        pause = self._pauses.uniform(1, 2)
        if self._attempts > ATTEMPTS or self.page.kicked is not None:
            pause, self._attempts, self.page.kicked = LATER_SECONDS, 0, None
        if self._is_open.is_set():
            await anyio.sleep(pause)

    async def _talk(self, link: Link) -> None:
        self._link = link
        self.page.begin_link()
        self.sdk.begin(self._token, anyio.current_time())
        self.flush()
        while not self.sdk.gave_up:
            with anyio.CancelScope() as self._waiting:
                self._set_alarm()
                frames = await link.receive()
                self._hear(frames)
            if self._waiting.cancelled_caught:
                self.sdk.wake(anyio.current_time())
            self._tell()
            self.flush()

    def _hear(self, frames: Sequence[bytes | str]) -> None:
        try:
            self.sdk.hear(frames, anyio.current_time())
        except Exception as error:  # the SDK would throw: the node has said something impossible
            self.mistakes.append(error)
        if self.sdk.state == "in":
            self._attempts = 0

    def _tell(self) -> None:
        """The application takes what it is told, as fast as the SDK tells it."""
        told, self.sdk.told = self.sdk.told, []
        for one in told:
            self._stage.trace.note("told", f"{self.name} {one}")
            try:
                self.page.take(one)
            except Exception as error:
                self.mistakes.append(error)

    def flush(self) -> None:
        """Send what the SDK wants to be sent."""
        out, self.sdk.out = self.sdk.out, []
        if self._link is not None and out:
            try:
                self._link.send(out)
            except plain_link_errors:
                pass  # whoever receives hears of it as well
        self._set_alarm()

    def _set_alarm(self) -> None:
        if self._waiting is not None:
            wake_at = self.sdk.wake_at
            self._waiting.deadline = float("inf") if wake_at is None else wake_at

    # -- what its user does

    def send(self, sent: Sent) -> None:
        """Send something, now or when there is a session."""
        self.page.sent[sent.meta.id] = sent
        self.sdk.send(sent.meta, anyio.current_time())
        self.flush()

    def leave(self, *, log_out: bool) -> None:
        """The page is closed, after saying so or not."""
        if log_out:
            self.sdk.log_out()
            self.flush()
            self.page.forget_filter()
        if self._is_open.is_set():
            self._is_open = anyio.Event()
        if self._talking is not None:
            self._talking.cancel()

    def come_back(self) -> None:
        """The page is there again."""
        self._is_open.set()

    def heal(self) -> None:
        """From now on nothing goes wrong with it."""
        self.come_back()
        self.wire.repair()


class WebPeople:
    """What people do on devices of the SDK.

    Args:
        stage: Where.
        chance: Where everything is drawn from.
        faults: What goes wrong.
    """

    def __init__(self, stage: Stage, chance: Chance, faults: LiveFaults) -> None:
        self._stage = stage
        self._chance = chance
        self._faults = faults
        self.accepted: dict[str, ConversationId] = {}
        """Bodies that the node said it has: body → conversation."""
        self._users: list[UserId] = []
        self._bodies = 0
        self._names = 0
        self.devices: list[WebDevice] = []
        """All that are there, or will come back."""
        self._deeds = [deed for deed, times in self._weights() for _ in range(times)]

    def _weights(self) -> list[tuple[Callable[[WebDevice], Deed], int]]:
        return [
            (self._send, 12),
            (self._send_many, 1),
            (self._read, 5),
            (self._read_all, 6),
            (self._answer, 6),
            (self._recall, 3),
            (self._leave, 3),
            (self._come_back, 6),
            (self._again, 8),
        ]

    async def begin(self, users: Sequence[UserId]) -> None:
        """One or two devices each."""
        self._users = list(users)
        for user in users:
            for _ in range(1 + self._chance.below(2)):
                await self._appear(user, self._next_name())

    @property
    def mistakes(self) -> list[BaseException]:
        """What was found wrong up to now."""
        self._look()
        return [error for device in self.devices for error in device.mistakes]

    @property
    def unrest(self) -> str | None:
        """What is under way; None when nothing is."""
        for device in self.devices:
            if device.page.failed:
                self._send_again(device)
            if device.unrest is not None:
                return f"{device.name} {device.unrest}"
        return None

    def heal(self) -> None:
        """From now on nothing goes wrong."""
        for device in self.devices:
            device.heal()

    def mend(self) -> None:
        """All wires are free."""
        for device in self.devices:
            device.wire.heal()

    # -- what goes wrong

    def draw_fault(self) -> Deed | None:
        """As for native devices."""
        device, chance = self._someone(), self._chance
        if chance.happens(self._faults.cut):
            return Deed(f"{device.name} is cut off", _now(device.wire.cut))
        if chance.happens(self._faults.forgets):
            name = chance.one_of((device.page.resource, self._next_name()))
            if name == device.page.resource:
                return Deed(f"{device.name} is loaded again", lambda: self._reload(device))
            return Deed(
                f"{device.name} is lost, {name} comes in its place", lambda: self._replace(device, name)
            )
        return None

    async def _reload(self, device: WebDevice) -> None:
        """Another connection in the same page; what the application keeps, it keeps."""
        device.leave(log_out=True)
        await anyio.sleep(0.1)
        device.come_back()

    async def _replace(self, device: WebDevice, name: str) -> None:
        if device in self.devices:
            device.leave(log_out=False)
            self.devices.remove(device)
            await self._appear(device.page.user, name)

    async def _appear(self, user: UserId, name: str) -> None:
        stage, chance = self._stage, self._chance
        page = Page(stage.disk, APP, user, name)
        device = WebDevice(stage, page, stage.token(user), delivery=chance.happens(700))
        device.wire.plan = lambda: draw_plan(chance, self._faults)
        self.devices.append(device)
        await stage.keep(device.live)

    # -- what people do

    def draw(self) -> Deed:
        """Something to do."""
        self._look()
        return self._chance.one_of(self._deeds)(self._someone())

    def _look(self) -> None:
        """See what became of what was sent."""
        for device in self.devices:
            page = device.page
            self.accepted.update(page.accepted)
            for reason in page.refused:
                self._stage.trace.note("refused", f"{device.name}: {reason}")
            page.accepted, page.refused = [], []

    def _someone(self) -> WebDevice:
        return self._chance.one_of(self.devices)

    def _next_name(self) -> str:
        self._names += 1
        return f"webim_web_{self._names}"

    def _chat(self, device: WebDevice) -> ConversationId:
        user = device.page.user
        others = [direct(user, other) for other in self._users if other != user]
        return self._chance.one_of([*GROUPS, *others])

    def _message(
        self, device: WebDevice, fits: Callable[[ConversationId, Message], bool]
    ) -> tuple[ConversationId, Message] | None:
        """One of the last messages that a page holds and that fit."""
        known = [found for found in device.page.known() if fits(*found)][-20:]
        return self._chance.one_of(known) if known else None

    def _send(self, device: WebDevice) -> Deed:
        page, conversation = device.page, self._chat(device)
        self._bodies += 1
        text = f"{device.name} {self._bodies}"
        group = conversation in GROUPS
        asks = group and self._chance.happens(500)
        to = peer_of(conversation, page.user)

        async def send() -> None:
            meta = device.sdk.text(to, text, group=group, asks=asks)
            device.send(Sent("message", meta, conversation, text, asks))

        return Deed(f"{device.name} sends {text!r} to {conversation}{', asking' * asks}", send)

    def _send_many(self, device: WebDevice) -> Deed:
        """More than may be on its way to a device at once."""
        deeds = [self._send(device) for _ in range(MANY)]

        async def send() -> None:
            for deed in deeds:
                await deed.do()

        return Deed(f"{device.name} sends much at once, first {deeds[0].what}", send)

    def _receipt(self, device: WebDevice, what: str, meta: pb.Meta, conversation: ConversationId) -> Deed:
        return Deed(f"{device.name} {what}", _now(lambda: device.send(Sent("receipt", meta, conversation))))

    def _read(self, device: WebDevice) -> Deed:
        user = device.page.user
        found = self._message(device, lambda name, one: name not in GROUPS and one.sender != user)
        if found is None:
            return self._send(device)
        conversation, message = found
        meta = device.sdk.read(peer_of(conversation, user), message.mid)
        return self._receipt(device, f"reads {message.mid} of {conversation}", meta, conversation)

    def _read_all(self, device: WebDevice) -> Deed:
        conversation = self._chat(device)
        to = peer_of(conversation, device.page.user)
        meta = device.sdk.read_all(to, group=conversation in GROUPS)
        return self._receipt(device, f"reads all of {conversation}", meta, conversation)

    def _answer(self, device: WebDevice) -> Deed:
        user = device.page.user
        found = self._message(device, lambda _, one: one.asks and one.sender != user)
        if found is None:
            return self._send(device)
        conversation, message = found
        content = self._chance.one_of((None, "", "{}", "yes"))
        meta = device.sdk.read_in_group(conversation, message.mid, content)
        what = f"answers {message.mid} of {conversation}, saying {content!r}"
        return self._receipt(device, what, meta, conversation)

    def _recall(self, device: WebDevice) -> Deed:
        user = device.page.user
        anybody = self._chance.happens(200)
        found = self._message(device, lambda _, one: anybody or one.sender == user)
        if found is None:
            return self._send(device)
        conversation, message = found
        group = conversation in GROUPS

        async def recall() -> None:
            meta = device.sdk.recall(peer_of(conversation, user), message.mid, group=group)
            device.send(Sent("recall", meta, conversation, mid=message.mid))

        return Deed(f"{device.name} recalls {message.mid} of {conversation}", recall)

    def _leave(self, device: WebDevice) -> Deed:
        log_out = self._chance.happens(300)
        return Deed(
            f"{device.name} is closed{', logged out' * log_out}",
            _now(lambda: device.leave(log_out=log_out)),
        )

    def _come_back(self, device: WebDevice) -> Deed:
        return Deed(f"{device.name} is opened", _now(device.come_back))

    def _again(self, device: WebDevice) -> Deed:
        return Deed(f"{device.name} sends again what failed", _now(lambda: self._send_again(device)))

    def _send_again(self, device: WebDevice) -> None:
        """Most of it, as it was; some users do not care."""
        failed, device.page.failed = device.page.failed, []
        for sent in failed:
            if self._chance.happens(800):
                device.send(sent)

    # -- what must hold in the end

    async def check(self, truths: Sequence[Truth]) -> None:
        """At rest, every page knows what its user should, and the node counts for it as for others.

        Raises:
            Violation: I-13 for what a page was not told, I-14 for a count.
        """
        for device in self.devices:
            await self._check_page(device.page, truths)
        await self._check_nothing_waits()

    async def _check_page(self, page: Page, truths: Sequence[Truth]) -> None:
        known = self._stage.disk.user(APP, page.user)
        since = {row.device: row.since_tick for row in known.devices if not row.removed} if known else {}
        for truth in truths:
            if page.user in truth.members and not truth.dissolved:
                lacks = list(page.lacks(truth, since[page.resource]))
                if lacks:
                    what = f"{page.user}/{page.resource} does not know {truth.name}"
                    raise Violation("I-13", what, "\n".join(lacks))
        counts = await self._unread(page.user)
        for truth in truths:
            if truth.joined(page.user) and not truth.dissolved:
                unread = len(truth.unread(page.user))
                if counts[truth.name] != unread:
                    what = f"the list of {page.user} has {counts[truth.name]} unread in {truth.name}"
                    raise Violation("I-14", what, f"recounted {unread}")

    async def _unread(self, user: UserId) -> dict[ConversationId, int]:
        """The conversation list, as HTTP gives it to the SDK."""
        node = self._stage.node
        assert node is not None
        counts: dict[ConversationId, int] = {}
        cursor: str | None = ""
        while cursor is not None:
            asked = ListConversations(rid=1, cursor=cursor, limit=50)
            found = await node.call(asked, app=APP, token=self._stage.token(user))
            counts |= {item.conversation: item.unread for item in found.items}
            cursor = found.cursor or None
        return counts

    async def _check_nothing_waits(self) -> None:
        """All has arrived and is written down: who comes again without a filter is told nothing again. What
        was not told at all may be: that the user did it, or has read everything one by one elsewhere."""
        for device in self.devices:
            device.leave(log_out=True)
            device.page.all_has_arrived = True
            await anyio.sleep(3)
            device.come_back()
            for _ in range(CAUGHT_UP_SECONDS):
                if device.unrest is None:
                    break
                await anyio.sleep(1)
            if device.mistakes:
                raise device.mistakes[0]
            if device.unrest is not None:
                raise Violation("I-24", f"{device.name} {device.unrest}, and nothing goes wrong")


def _now(do: Callable[[], object]) -> Callable[[], Awaitable[None]]:
    """A deed that takes no time."""

    async def deed() -> None:
        do()

    return deed
