"""The reading policy: one conversation receipt on entering, names while the chat is open (R11)."""

from __future__ import annotations

import pytest

from receipts.client.reading import ReadingPolicy, Wishes
from receipts.core.errors import Code, Refused
from receipts.core.ids import ConversationKind, Counts
from receipts.core.member import Period
from receipts.core.ranges import Ranges
from receipts.wire.commands import AckDelivered, ReadConversation, ReadMessages
from receipts.wire.updates import ConversationPart, MemberPart, Read

from .device import Device, message, only

CHAT = "alice~bob"


def in_group(*seqs: int, asking: tuple[int, ...] = (), user: str = "dan") -> Device:
    device = Device(user)
    members = tuple(
        MemberPart(user=name, periods=((1, Period(1)),)) for name in ("bob", "cara", "dan", "olga")
    )
    part = ConversationPart(
        conversation="g",
        kind=ConversationKind.GROUP,
        head=max(seqs),
        members=members,
        messages=tuple(message(seq, "olga", conversation="g", asks=seq in asking) for seq in seqs),
    )
    device.live(part)
    device.wait(50)
    return device


def test_entering_sends_exactly_one_conversation_receipt() -> None:
    """Entering a chat with unread messages sends one conversation receipt and nothing else (R11)."""
    device = Device()
    device.live()
    device.hear(*[message(seq) for seq in range(1, 8)])
    device.session.open_chat(CHAT, device.now_ms)
    assert device.session.unread(CHAT) == 0
    assert device.wait(50) == [ReadConversation(0, CHAT, 7)]


def test_scene_18_asking_messages_are_named_too() -> None:
    """Opening a chat with an asking message sends both receipts: one never answers a request (scene 18)."""
    device = in_group(15, 16, 17, 18, 19, 20, asking=(20,))
    device.session.open_chat("g", device.now_ms, "seen")
    conversation, answer = device.wait(50)
    assert conversation == ReadConversation(0, "g", 20)
    assert isinstance(answer, ReadMessages)
    assert (answer.ranges, answer.content) == ((20, 21), "seen")


def test_arriving_messages_are_read_by_name_together() -> None:
    """Messages that arrive in an open chat are read by name, many in one frame; after closing, none."""
    device = Device()
    device.live()
    device.session.open_chat(CHAT, device.now_ms)
    assert device.wait(50) == []
    device.hear(message(1))
    device.hear(message(2), message(3, "bob"), message(4))
    assert device.session.unread(CHAT) == 0
    assert device.wait(50) == [ReadMessages(0, CHAT, (1, 3, 4, 5))]
    device.session.close_chat(CHAT)
    device.hear(message(5))
    assert device.session.unread(CHAT) == 1
    assert device.wait(50) == [AckDelivered(0, CHAT, (3, 4, 5, 6))]


def test_arriving_asking_messages_are_answered() -> None:
    """In an open group chat asking messages are answered and plain ones read by name."""
    device = in_group(1)
    device.session.open_chat("g", device.now_ms)
    device.wait(50)
    device.hear(message(2, "olga", conversation="g"), message(3, "olga", conversation="g", asks=True))
    reads = only(ReadMessages, device.wait(50))
    assert [(r.ranges, r.content, bool(r.rid)) for r in reads] == [
        ((2, 3), None, False),
        ((3, 4), None, True),
    ]


def test_what_was_read_elsewhere_is_not_read_again_on_screen() -> None:
    """A message that arrives in an open chat after its read, made on another device, is only acknowledged."""
    device = Device()
    device.live()
    device.session.open_chat(CHAT, device.now_ms)
    device.hear(Read(CHAT, "bob", (1, 2)))
    device.hear(message(1))
    assert device.wait(50) == [AckDelivered(0, CHAT, (1, 2))]


def test_a_policy_that_reads_on_is_held_to_the_screen() -> None:
    """A conversation receipt for what arrives, by such a policy, goes no further than what is here (I-6)."""

    class Through(ReadingPolicy):
        def arrived(self, *, unread: Ranges, asking: Ranges) -> Wishes:
            return Wishes(through=unread[-1] + 99)

    device = Device(policy=Through())
    device.live()
    device.session.open_chat(CHAT, device.now_ms)
    device.hear(message(1), message(2))
    assert device.wait(50) == [ReadConversation(0, CHAT, 2)]


def test_only_what_is_on_screen_is_read() -> None:
    """The receipt goes up to the last message that is here, not to the head that is heard of."""
    device = Device()
    part = ConversationPart(
        conversation=CHAT, kind=ConversationKind.DIRECT, head=9, messages=(message(1), message(2))
    )
    device.live(part)
    device.session.open_chat(CHAT, device.now_ms)
    assert device.wait(50) == [ReadConversation(0, CHAT, 2)]
    assert device.session.unread(CHAT) == 7


def test_silent_messages_are_reported_too() -> None:
    """A message that raises no badge is read all the same when its chat is opened."""
    device = Device()
    device.live()
    device.hear(message(1, counts=Counts.SILENT))
    assert device.session.unread(CHAT) == 0
    device.session.open_chat(CHAT, device.now_ms)
    assert device.wait(50) == [ReadConversation(0, CHAT, 1)]


def test_in_private_nothing_is_answered() -> None:
    """A device that does not share reads clears its own count and answers nobody."""
    device = in_group(1, 2, asking=(2,))
    device.session.profile = type(device.session.profile)(user="dan", device="phone", share_read=False)
    device.session.open_chat("g", device.now_ms, "seen")
    assert device.wait(50) == [ReadConversation(0, "g", 2, False)]
    assert device.session.unread("g") == 0


def test_words_only_where_they_were_asked_for() -> None:
    """Content for a message that did not ask, or for an own one, is refused before anything is sent."""
    device = in_group(1, 2, asking=(2,), user="bob")
    with pytest.raises(Refused) as refused:
        device.session.read_messages("g", [1, 2], "ok", device.now_ms)
    assert refused.value.code is Code.NOT_ASKED
    device.hear(message(3, "bob", conversation="g", asks=True))
    with pytest.raises(Refused) as refused:
        device.session.read_messages("g", [3], "ok", device.now_ms)
    assert refused.value.code is Code.OWN_MESSAGE
    assert device.wait(50) == []


def test_the_first_words_stand() -> None:
    """Of two answers to one message before it went out the first one is sent."""
    device = in_group(1, asking=(1,))
    device.session.read_messages("g", [1], "first", device.now_ms)
    device.session.read_messages("g", [1], "second", device.now_ms)
    (answer,) = device.wait(50)
    assert isinstance(answer, ReadMessages)
    assert answer.content == "first"


def test_a_policy_of_ones_own() -> None:
    """An application with other habits gives its own policy."""

    class ByName(ReadingPolicy):
        def opened(self, *, unread: Ranges, asking: Ranges, last: int, marked: bool) -> Wishes:
            return Wishes(named=unread)

    device = Device(policy=ByName())
    device.live()
    device.hear(message(1), message(2))
    device.session.open_chat(CHAT, device.now_ms)
    assert device.wait(50) == [ReadMessages(0, CHAT, (1, 3))]
