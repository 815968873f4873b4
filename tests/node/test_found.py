"""What the simulator has found in the node, each as a story of its own."""

from __future__ import annotations

import json

from receipts.client.replica import Replica
from receipts.core.errors import Code
from receipts.core.events import GroupReceiptsExpired
from receipts.wire import commands
from receipts.wire.updates import CatchUp, Delivered, Done
from tests.node.playbook import Device, Playbook

CHAT = "alice~bob"


def test_a_device_that_goes_tells_nothing_where_deliveries_are_off() -> None:
    """With delivery receipts off for the app, a device that leaves makes nothing count as delivered."""
    book = Playbook(settings=json.dumps({"features": {"roll_up": "all", "delivery_receipts": False}}))
    book.user("alice", "bob")
    alice = book.log_in("alice", "phone")
    phone, _ = book.log_in("bob", "phone"), book.log_in("bob", "tablet")
    alice.send(CHAT)
    phone.do(commands.AckDelivered(0, CHAT, (1, 2)))
    alice.told()
    assert phone.ask(commands.LogOutDevice(rid=1, device="tablet")) == Done(1)
    assert alice.told() == []
    assert not book.chat(CHAT).member("bob").delivered_shared


def page_of(device: Device) -> CatchUp:
    """The page that has come."""
    (found,) = [update for update in device.told() if isinstance(update, CatchUp)]
    return found


def test_what_is_cleared_between_two_pages_leaves_no_hole() -> None:
    """A device that gets a conversation in pages never counts an own message that was cleared meanwhile."""
    book = Playbook(settings=json.dumps({"limits": {"page_bytes_max": 300}}))
    book.user("alice", "bob")
    alice, bob = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    for sender in (alice, bob, bob, bob, alice):
        sender.send(CHAT)
    for cleared in (4, 5):
        replica = Replica("bob", f"tablet {cleared}")
        tablet = book.log_in("bob", replica.device, catch_up=False)
        pages = [page_of(tablet)]
        replica.apply(pages[0])
        bob.ask(commands.ClearConversation(rid=1, conversation=CHAT, through=cleared))
        while tablet.session.state == "behind":
            book.run((tablet, commands.AckPage(rid=0, token=pages[-1].token)))
            pages.append(page_of(tablet))
            replica.apply(pages[-1])
            assert set(replica.unread_seqs(CHAT)) <= {5} - {cleared}
        assert len(pages) > 2


def test_what_a_device_declined_to_tell_stays_untold() -> None:
    """I-25: with the rule 'all', a device that leaves makes nothing known that another one declined to tell
    of, also after a restart; what that one was willing to tell becomes known."""
    book = Playbook(settings=json.dumps({"features": {"roll_up": "all"}}))
    book.user("alice", "bob")
    alice, phone = book.log_in("alice", "phone"), book.log_in("bob", "phone")
    book.log_in("bob", "tablet")
    for share in (False, True):
        alice.send(CHAT)
        phone.do(commands.AckDelivered(0, CHAT, (1 + share, 2 + share), share))
    alice.told()
    phone.ask(commands.LogOutDevice(rid=1, device="tablet"))
    assert alice.told() == [Delivered(CHAT, "bob", (2, 3))]
    again = book.crash()
    again.check_agreement()
    phone = again.log_in("bob", "phone")
    again.log_in("bob", "tablet")
    phone.ask(commands.LogOutDevice(rid=1, device="tablet"))
    assert 1 not in again.chat(CHAT).member("bob").delivered_shared


def test_receipts_that_storage_did_not_have_in_time_expire() -> None:
    """I-10: when a commit takes longer than receipts are kept, they expire as soon as storage has them."""
    book = Playbook(settings=json.dumps({"limits": {"group_receipts_kept_ms": 1000}}))
    book.user("olga", "bob")
    book.group("G", "olga", "bob")
    olga = book.log_in("olga", "phone")
    olga.send("G")
    book.hold = True
    book.run((olga, olga.message("G", asks=True)))
    assert book.chat("G").asked
    book.sweep(5000)
    book.finish()
    assert book.chat("G").asked
    book.sweep(1000)
    assert not book.chat("G").asked
    assert any(isinstance(update, GroupReceiptsExpired) for update in olga.told())


def test_a_read_that_another_device_had_sent_a_moment_before() -> None:
    """What brings nothing new because of something that is not on disk yet is lost with it, and its sender
    hears of that too: else it would take the read for confirmed by the next answer."""
    book = Playbook()
    book.user("alice", "bob")
    bob = book.log_in("bob", "phone")
    phone, tablet = book.log_in("alice", "phone"), book.log_in("alice", "tablet")
    bob.send(CHAT)
    for device in (phone, tablet):
        device.do(commands.AckDelivered(0, CHAT, (1, 2)))
    read = commands.ReadMessages(0, CHAT, (1, 2))
    book.hold = True
    book.run((phone, read))
    book.run((tablet, read))
    book.fail()
    for device in (phone, tablet):
        (refused,) = device.told()
        assert (refused.code, refused.conversation) == (Code.STORAGE_FULL, CHAT)
        assert refused.ranges == (1, 2)
    tablet.do(read)
    (told,) = phone.told()
    assert told.ranges == (1, 2)
