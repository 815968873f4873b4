"""What the simulator has found in the client, each as a story of its own."""

from __future__ import annotations

from receipts.core.events import MessageAccepted
from receipts.core.ids import ConversationKind, MessageId
from receipts.core.member import Period
from receipts.wire.commands import AckDelivered, FetchHistory
from receipts.wire.updates import ConversationPart, History, MemberPart
from tests.client.device import Device


def test_history_that_comes_before_the_pages_is_acknowledged_all_the_same() -> None:
    """A device that fetches history while it catches up acknowledges what the pages then bring: until these
    say that the user is in the group, it cannot know what it owes (I-24)."""
    device = Device()
    device.welcome(full=True)
    device.page(live=False, full=True)
    rid = device.session.ask(lambda rid: FetchHistory(rid=rid, conversation="G"))
    device.said()
    message = MessageAccepted("G", 1, MessageId(2), "alice", "", 0, "hi")
    device.hear(History(rid=rid, conversation="G", messages=(message,), recalled=(), more=False))
    assert [answer.messages for _, answer in device.session.take_outcomes()] == [(message,)]  # type: ignore[union-attr]
    device.page(
        ConversationPart(
            conversation="G",
            kind=ConversationKind.GROUP,
            head=1,
            messages=(message,),
            members=(MemberPart(user="bob", periods=((1, Period(1)),)),),
        )
    )
    device.said()
    assert device.wait(50) == [AckDelivered(0, "G", (1, 2))]
