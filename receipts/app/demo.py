"""`receipts demo`: every behaviour once, on a real node over real sockets; only what was observed is said.

The story: alice (phone, laptop) and bob (phone, tablet) write to each other; olga owns the group `team`, adam
is its admin, bob, cara and dan are members. Devices take turns between TCP and websocket.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from receipts.core.errors import Code, Refused
from receipts.core.events import By
from receipts.core.ranges import RangeSet
from receipts.core.status import Status
from receipts.wire import commands, updates

from .complaints import reason_of
from .lines import clock_time, seqs_text
from .screen import Screen
from .stage import Device, Missed, Stage, expect, staged

__all__ = ["demo"]

SMALL = json.dumps({"features": {"group_receipts": False}})
"""An edition without group receipts (R12)."""

SLOW = json.dumps({"limits": {"sends_per_second": 2.0, "sends_burst": 1}})
"""An app with low rates (R13)."""

SENDS_TRIED_MAX = 50
PAUSE_SECONDS = 0.7
"""Between behaviours, on a terminal only: for the eye."""


async def demo(*, keep: bool = False, settings: str = "{}") -> list[str]:
    """Play R1 to R13.

    Args:
        keep: Keep the node afterwards, until a signal comes.
        settings: Of the app that the story plays in, JSON; what they switch off is going to be missed.

    Returns:
        The ids of what was not observed; empty when all is well.
    """
    apps = {"default": settings, "small": SMALL, "slow": SLOW}
    with tempfile.TemporaryDirectory(prefix="receipts-demo-") as directory:
        async with staged(Path(directory), apps) as stage:
            await _invite(stage)
            story = _Story(stage)
            with story.screen:
                await story.play()
            if story.missing:
                print(f"receipts: not observed: {', '.join(story.missing)}", file=sys.stderr)
            if keep:
                await _keep(stage)
    return story.missing


async def _invite(stage: Stage) -> None:
    await stage.add_users("alice", "bob", "olga", "adam", "cara", "dan")
    await stage.add_users("olga", "bob", app="small")
    await stage.add_users("alice", "bob", app="slow")
    await stage.add_group("team", "olga", "adam", "bob", "cara", "dan")
    await stage.add_group("team", "olga", "bob", app="small")


async def _keep(stage: Stage) -> None:
    """Say how to connect, and wait for a signal."""
    print("\nThe node is up; Ctrl-C ends it. In two other terminals:")
    for user, transport in (("alice", "tcp"), ("bob", "ws")):
        token = stage.tokens["default", user]
        print(f"RECEIPTS_TOKEN={token} receipts chat {stage.urls[transport]} --user {user}")
    print("Other users (the group is `team`):")
    for (app, user), token in stage.tokens.items():
        if app == "default" and user not in ("alice", "bob"):
            print(f"{user} {token}")
    print(f"serving {' '.join(stage.urls.values())}", flush=True)
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return


class _Story:
    """The acts, in order; each returns what it observed, or raises what it missed."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.screen = Screen(stage)
        self.missing: list[str] = []

    async def play(self) -> None:
        """All of them."""
        device = self.stage.device
        async with (
            device("alice", "phone", "tcp") as self.phone,
            device("alice", "laptop", "ws", delivery=False) as self.laptop,
            device("bob", "phone", "ws") as self.bob,
            device("bob", "tablet", "tcp") as self.tablet,
            device("adam", "phone", "tcp") as self.adam,
            device("cara", "phone", "ws") as self.cara,
            device("dan", "phone", "tcp") as self.dan,
        ):
            await self.act("R1", "server ack", self.server_ack)
            await self.act("R2", "delivery receipt", self.delivery_receipt)
            await self.act("R3", "conversation read receipt", self.conversation_receipt)
            await self.act("R4", "the reader's other devices", self.other_devices)
            await self.act("R5", "message read receipt", self.message_receipt)
            async with (
                device("olga", "phone", "tcp") as self.olga,
                device("olga", "laptop", "ws") as self.olga_laptop,
            ):
                await self.act("R6", "group read receipt", self.group_receipt)
                await self.act("R7", "with the reader's words", self.group_words)
                await self.act("R8", "the running count", self.group_count)
            await self.act("R9", "what was read meanwhile", self.statistics)
            async with device("olga", "phone", "ws") as self.olga:
                await self.act("R10", "who has read it", self.reader_list)
            await self.act("R11", "the reading policy", self.reading_policy)
            await self.act("R12", "an app without group receipts", self.feature_off)
            await self.act("R13", "call rates", self.call_rates)

    async def act(self, name: str, title: str, play: Callable[[], Awaitable[str]]) -> None:
        """Play one act and say what came of it."""
        try:
            self.screen.say(f"{name} {title}: {await play()}")
        except Missed as missed:
            self._missed(name, title, str(missed))
        except Exception as error:
            reason = reason_of(error)
            if reason is None:
                raise
            self._missed(name, title, reason)
        if self.screen.live is not None:
            await anyio.sleep(PAUSE_SECONDS)

    def _missed(self, name: str, title: str, why: str) -> None:
        self.missing.append(name)
        self.screen.say(f"{name} {title}: NOT OBSERVED: {why}")

    # -- one-to-one

    async def server_ack(self) -> str:
        began = time.perf_counter()
        sent = await self.phone.me.send("bob", "hello bob")
        took_ms = (time.perf_counter() - began) * 1000
        expect(sent.seq == 1, f"the first message got #{sent.seq}")
        expect(self.phone.me.status("bob", 1) >= Status.ACKED, "the phone does not show it as acked")
        body = self.stage.stored_body(sent.message_id)
        expect(body == "hello bob", f"acknowledged, but on disk is {body!r}")
        await self.laptop.until("alice's own message", lambda: self.laptop.me.messages("bob"))
        expect(self.laptop.me.unread("bob") == 0, "an own message counts as unread")
        return (
            f"#{sent.seq} has id {sent.message_id}, acked after {took_ms:.1f} ms and read back from the "
            "database file; alice's laptop has it too"
        )

    async def delivery_receipt(self) -> str:
        phone = self.phone

        def told() -> list[updates.Delivered]:
            return [update for update in phone.all(updates.Delivered) if update.member == "bob"]

        await phone.until("a delivery receipt", told)
        await self.tablet.me.flush()  # the second device's acknowledgement is no news
        await phone.settle()
        (update, *more) = told()
        expect(not more and update.ranges == (1, 2), f"told {[update, *more]}")
        expect(phone.me.status("bob", 1) == Status.DELIVERED, "the message is not shown as delivered")
        expect(self.bob.me.unread("alice") == 1, "delivery changed bob's unread count")
        await self.laptop.settle()
        expect(not self.laptop.all(updates.Delivered), "the laptop did not ask for them and was told")
        return (
            f"alice's phone was told {seqs_text(update.ranges)} reached bob, by itself; her laptop, opened "
            "without `delivery`, was not"
        )

    async def conversation_receipt(self) -> str:
        for body in ("are you there?", "it is about nine", "call me"):
            await self.phone.me.send("bob", body)
        await self.bob.until("four unread messages", lambda: self.bob.me.unread("alice") == 4)
        await self.tablet.until("four unread messages", lambda: self.tablet.me.unread("alice") == 4)
        before = await self.bob.me.server_badge()
        expect(before.messages == 4, f"the node counts {before.messages} unread")
        frames, since = self.stage.commands(commands.ReadConversation), len(self.phone.heard)
        await self.bob.me.read("alice")
        await self.bob.me.flush()
        found = await self.phone.until("bob's receipt", lambda: self.phone.all(updates.Read, since=since))
        update = found[0]
        expect(
            len(found) == 1 and update.by is By.CONVERSATION and update.through == 4, f"alice heard {found}"
        )
        expect(set(RangeSet(update.ranges)) == {1, 2, 3, 4}, f"read are {seqs_text(update.ranges)}")
        frames = self.stage.commands(commands.ReadConversation) - frames
        expect(frames == 1, f"it took {frames} frames")
        after = await self.bob.me.server_badge()
        expect(after.messages == 0, f"the node still counts {after.messages} unread")
        return (
            f"one frame read {seqs_text(update.ranges)}; the node's unread for bob went 4 -> {after.messages}"
        )

    async def other_devices(self) -> str:
        def echoes() -> list[updates.Read]:
            return [update for update in self.tablet.all(updates.Read) if update.member == "bob"]

        update = (await self.tablet.until("the echo of bob's phone", echoes))[0]
        await self.tablet.until("its badge to clear", lambda: self.tablet.me.badge().messages == 0)
        await self.bob.settle()
        own = [update for update in self.bob.all(updates.Read) if update.member == "bob"]
        expect(not own, "the phone that read was told of its own receipt")
        return f"bob's tablet heard that {seqs_text(update.ranges)} were read, and its badge went 4 -> 0"

    async def message_receipt(self) -> str:
        sent = [await self.phone.me.send("bob", body) for body in ("one more", "and another")]
        first, second = (message.seq for message in sent)
        await self.bob.until("two messages", lambda: self.bob.me.unread("alice") == 2)
        since = len(self.phone.heard)
        await self.bob.me.read_messages("alice", [second])
        found = await self.phone.until("bob's receipt", lambda: self.phone.all(updates.Read, since=since))
        update = found[0]
        expect(update.by is By.MESSAGES and update.ranges == (second, second + 1), f"alice heard {update}")
        expect(self.phone.me.status("bob", first) < Status.READ, f"#{first} is shown as read")
        left = self.bob.me.unread_seqs("alice")
        expect(left == [first], f"bob's unread are {left}")
        return f"#{second} READ, #{first} before it still {self.phone.me.status('bob', first).name}; unread 1"

    # -- the group

    async def group_receipt(self) -> str:
        asked = await self.olga.me.send(conversation="team", body="at nine?", asks=True)
        self.screen.asked = ("team", asked.seq)
        plain = await self.adam.me.send(conversation="team", body="good morning")
        by_admin = await self.adam.me.send(conversation="team", body="who brings cake?", asks=True)
        await self.bob.until("the group's messages", lambda: self.bob.me.unread("team") >= by_admin.seq)
        await self.bob.me.read_messages("team", [asked.seq, plain.seq])
        await self.bob.me.flush()
        update = (await self.olga.until("bob's answer", lambda: self.olga.all(updates.GroupRead)))[0]
        expect(update.seq == asked.seq and update.readers[0].user == "bob", f"olga heard {update}")
        await self.adam.settle()
        expect(not self.adam.all(updates.GroupRead), "somebody was told of a message that did not ask")
        try:
            await self.dan.me.send(conversation="team", body="and me?", asks=True)
            raise Missed("dan, a plain member, may ask for receipts")
        except Refused as refused:
            expect(refused.code is Code.NOT_PERMITTED, f"dan was refused with {refused}")
        following = await self.dan.me.send(conversation="team", body="fine")
        expect(following.seq == by_admin.seq + 1, "the refused message used a seq")
        return (
            f"olga, who asked, was told that bob read #{asked.seq}; adam's plain #{plain.seq} told nobody; "
            f"dan may not ask ({Code.NOT_PERMITTED.value}), adam as admin may (#{by_admin.seq})"
        )

    async def group_words(self) -> str:
        seq = self.screen.asked[1]
        await self.cara.until("the question", lambda: self.cara.me.unread("team") >= seq)
        await self.cara.me.read_messages("team", [seq], "nine is fine")

        def words() -> list[str]:
            known = self.olga.me.known_readers("team", seq)
            return [reader.content for reader in known if reader.user == "cara"]

        (content,) = await self.olga.until("cara's words", words)
        expect(content == "nine is fine", f"cara's words came as {content!r}")
        return f'cara answered #{seq} with "{content}"'

    async def group_count(self) -> str:
        seq = self.screen.asked[1]
        for device in (self.dan, self.adam):
            await self._arrived(device, seq)
            await device.me.read_messages("team", [seq])
        counts = [await self._counts(device, seq) for device in (self.olga, self.olga_laptop)]
        shown = " and ".join(", ".join(map(str, seen)) for seen in counts)
        return f"olga's phone and laptop saw the count of #{seq} grow: {shown}"

    async def _counts(self, device: Device, seq: int) -> list[int]:
        def seen() -> list[updates.GroupRead]:
            return [update for update in device.all(updates.GroupRead) if update.seq == seq]

        await device.until("four readers", lambda: seen() and seen()[-1].count == 4)
        counts = [update.count for update in seen()]
        expect(counts == sorted(set(counts)), f"the counts were {counts}")
        readers = [reader.user for update in seen() for reader in update.readers]
        expect(sorted(readers) == ["adam", "bob", "cara", "dan"], f"the readers were {readers}")
        return counts

    async def _arrived(self, device: Device, seq: int) -> None:
        await device.until("the question", lambda: device.me.session.replica.last("team") >= seq)

    async def statistics(self) -> str:
        async with self.stage.device("olga", "laptop", "ws") as laptop:
            asked = await laptop.me.send(conversation="team", body="tell me when I am back", asks=True)
        seq = asked.seq
        self.screen.asked = ("team", seq)
        await self.stage.until_away("olga")
        for device, words in ((self.cara, "have a good trip"), (self.dan, None)):
            await self._arrived(device, seq)
            await device.me.read_messages("team", [seq], words)
            await device.me.flush()
        async with self.stage.device("olga", "phone", "tcp") as olga:
            found = await olga.until("the summary", lambda: olga.all(updates.ReadStatistics))
            await olga.settle()
        expect(len(found) == 1, f"there were {len(found)} summaries")
        counts = {(group, at): count for group, at, count in found[0].counts}
        expect(counts == {("team", seq): 2}, f"the summary was {counts}")
        return f"olga, back after a while, got one summary: #{seq} was read by {counts['team', seq]}"

    async def reader_list(self) -> str:
        seq = self.screen.asked[1]
        listed = await self.olga.me.readers("team", seq)
        readers = {reader.user: reader for reader in listed.readers}
        waiting = sorted(reader.user for reader in listed.waiting)
        expect(sorted(readers) == ["cara", "dan"] and listed.count == 2, f"readers are {sorted(readers)}")
        expect(waiting == ["adam", "bob"] and listed.audience == 4, f"not read: {waiting}")
        expect(readers["cara"].content == "have a good trip", f"cara said {readers['cara'].content!r}")
        expect(all(reader.at_ms > 0 for reader in listed.readers), "it does not say when")
        who = ", ".join(
            f"{reader.user} at {clock_time(reader.at_ms)}"
            + (f' "{reader.content}"' if reader.content else "")
            for reader in listed.readers
        )
        return f"#{seq} was read by {listed.count} of {listed.audience}: {who}; not by {', '.join(waiting)}"

    # -- habits and limits

    async def reading_policy(self) -> str:
        me, dan = self.phone, self.dan
        for body in ("dan?", "a word", "when you can"):
            await me.me.send("dan", body)
        await dan.until("three messages", lambda: dan.me.unread("alice") == 3)
        whole, named = (
            self.stage.commands(commands.ReadConversation),
            self.stage.commands(commands.ReadMessages),
        )
        since = len(me.heard)
        dan.me.open_chat("alice")
        first = (await me.until("dan's receipt", lambda: me.all(updates.Read, since=since)))[0]
        expect(first.by is By.CONVERSATION and first.through == 3, f"on opening alice heard {first}")
        for body in ("ah, there you are", "good"):
            await me.me.send("dan", body)
        await me.until("all to be read", lambda: me.me.status("dan", 5) is Status.READ)
        dan.me.close_chat("alice")
        later = me.all(updates.Read, since=since)[1:]
        expect(later and all(update.by is By.MESSAGES for update in later), f"while open alice heard {later}")
        whole = self.stage.commands(commands.ReadConversation) - whole
        named = self.stage.commands(commands.ReadMessages) - named
        expect(whole == 1 and 1 <= named <= 2, f"dan sent {whole} conversation and {named} message receipts")
        return (
            f"opening a chat with 3 unread sent {whole} conversation receipt; 2 messages that came while it "
            f"was open were read by {named} message receipt{'s' if named > 1 else ''}"
        )

    async def feature_off(self) -> str:
        async with self.stage.device("olga", "phone", "tcp", app="small") as olga:
            try:
                await olga.me.send(conversation="team", body="at nine?", asks=True)
                raise Missed("the app has no group receipts, and asking was accepted")
            except Refused as refused:
                expect(refused.code is Code.FEATURE_OFF, f"it was refused with {refused}")
                reason = refused.reason
            sent = await olga.me.send(conversation="team", body="at nine?")
            expect(sent.seq == 1, f"the refused message used a seq: the next is #{sent.seq}")
        return f"asking is refused: {reason} ({Code.FEATURE_OFF.value}); the same without asking is #1"

    async def call_rates(self) -> str:
        async with self.stage.device("alice", "phone", "ws", app="slow") as alice:
            for count in range(1, SENDS_TRIED_MAX + 1):
                try:
                    await alice.me.send("bob", f"number {count}")
                except Refused as refused:
                    return await self._again_later(alice, count, refused)
        raise Missed(f"{SENDS_TRIED_MAX} sends in a row were accepted")

    async def _again_later(self, alice: Device, count: int, refused: Refused) -> str:
        expect(refused.code is Code.RATE_LIMITED, f"send {count} was refused with {refused}")
        expect(0 < refused.retry_after_ms <= 1000, f"it says to retry after {refused.retry_after_ms} ms")
        await anyio.sleep(refused.retry_after_ms / 1000)
        sent = await alice.me.send("bob", "once more")
        expect(sent.seq == count, f"the refused message used a seq: the next is #{sent.seq}")
        return (
            f"send {count} was refused: {refused.reason} ({refused.code.value}); {refused.retry_after_ms} ms "
            f"later it was taken as #{sent.seq}"
        )
