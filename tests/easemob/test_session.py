"""The dialect of the vendor's SDK on a node, driven by frames."""

from __future__ import annotations

from receipts.core.ids import MessageId
from receipts.easemob import msync_pb2 as pb
from receipts.easemob.codec import GROUP_DOMAIN, BodyType, Command, Kick, StatusCode
from receipts.easemob.owed import DEVICES_MAX, MESSAGES_MAX, Owed
from receipts.easemob.session import EARLY_MAX
from receipts.easemob.window import WINDOW
from receipts.node.commands import RemoveUser, SetPassword
from receipts.node.queues import tell_answers
from receipts.wire.commands import (
    AckDelivered,
    ClearConversation,
    LogOutDevice,
    MarkUnread,
    ReadConversation,
    ReadMessages,
    RecallMessage,
    RemoveMembers,
    SetSharing,
)
from tests.easemob.web import APP, Book, Heard

UNSUPPORTED = "this kind of message is not supported"


def book(*users: str, settings: str = "{}") -> Book:
    made = Book(settings=settings)
    made.user(*(users or ("alice", "bob")), app=APP)
    return made


# -- login


def test_login_is_answered_with_the_resource_and_the_queue_ends_empty() -> None:
    """A login is accepted with the device's own resource; the queue is listed once, pulled, and is empty."""
    node = book()
    alice = node.online("alice")
    assert alice.provisions[0].status.errorCode == 0
    assert alice.provisions[0].resource == "webim_web_1"
    assert alice.synced == 1
    alice.unread()
    assert alice.synced == 1


def test_one_to_one_message_and_its_receipts() -> None:
    """R1, R2, R5: the sender hears of acceptance, delivery and reading of one message, each once."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob", delivery=True)
    mid = alice.send("bob", "hello")
    assert bob.told() == [Heard("message", "alice", "bob", str(mid), "hello")]
    assert alice.told() == [Heard("delivered", "bob", "alice", str(mid))]
    assert bob.read("alice", mid).code == 0
    assert alice.told() == [Heard("read", "bob", "alice", str(mid))]
    assert bob.read("alice", mid).code == 0
    assert alice.told() == []


def test_names_in_capitals_are_the_same() -> None:
    """Whoever logs in, or writes, in capital letters is told of to others by the one name that receipts and
    lists have too; nothing else of the message changes."""
    node = book()
    alice, bob = node.web("Alice"), node.online("bob")
    alice.log_in(node.token("alice", app=APP))
    plain = alice.send("BOB", "hi")
    body = alice.text("Bob", "with a picture", group=False, asks=False)
    body.contents[0].type, body.contents[0].remotePath = 1, "http://elsewhere/picture"
    rich = alice.body(body, "Bob").mid
    assert bob.told() == [
        Heard("message", "alice", "bob", str(plain), "hi"),
        Heard("message", "alice", "bob", str(rich), "with a picture"),
    ]
    body.sender.name, body.to.name = "alice", "bob"
    assert bob.metas[-1].payload == body.SerializeToString()
    assert bob.read("ALICE", plain).code == 0
    assert alice.told() == [Heard("read", "bob", "alice", str(plain))]


def test_conversation_receipt_goes_to_the_sender_and_the_own_other_devices() -> None:
    """R3, R4: one frame clears all unread; the sender and the reader's other device hear it."""
    node = book()
    alice, bob, other = node.online("alice"), node.online("bob"), node.online("bob", "webim_web_2")
    for text in "123":
        alice.send("bob", text)
    bob.told()
    other.told()
    assert bob.read_all("alice").code == 0
    assert alice.told() == [Heard("channel", "bob", "alice", "")]
    assert other.told() == [Heard("channel", "bob", "alice", "")]
    assert bob.told() == []
    assert node.chat("alice~bob", APP).unread("bob") == 0


def test_own_other_devices_get_sent_messages() -> None:
    """What one device sends comes to the user's others, and raises no delivery receipt there."""
    node = book()
    alice, other = node.online("alice"), node.online("alice", "webim_web_2", delivery=True)
    mid = alice.send("bob")
    assert other.told() == [Heard("message", "alice", "bob", str(mid), "hi")]
    assert alice.told() == []


def test_scene_24() -> None:
    """A conversation receipt reaches through what was written to the SDK, not what it could not show."""
    node = book()
    alice, phone = node.online("alice"), node.log_in("bob", "phone", app=APP)
    mids = [alice.send("bob", str(number)) for number in range(1, 8)]
    phone.do(AckDelivered(rid=0, conversation="alice~bob", ranges=(1, 8)))
    alice.told()
    browser = node.online("bob")
    assert node.chat("alice~bob", APP).unread("bob") == 7
    assert browser.told() == []
    mids.append(alice.send("bob", "8"))
    assert [heard.text for heard in browser.told()] == ["8"]
    node.hold = True
    browser.silent = True
    mids.append(alice.body(alice.text("bob", "9"), "bob").mid)
    browser.read_all("alice")
    node.finish()
    mids[-1] = [meta.id for meta in browser.metas][-1]
    assert node.chat("alice~bob", APP).unread("bob") == 1
    assert [heard.mid for heard in alice.told()] == [str(mid) for mid in mids[:8]]
    phone.do(ReadConversation(rid=0, conversation="alice~bob", through=9))
    assert alice.told() == [Heard("channel", "bob", "alice", "")]
    assert Heard("channel", "bob", "alice", "") in browser.told()


def test_reading_one_message_lowers_unread_by_it() -> None:
    """Scene 24: a message read receipt counts for that one message."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob")
    mids = [alice.send("bob") for _ in range(3)]
    bob.read("alice", mids[1])
    assert node.chat("alice~bob", APP).unread("bob") == 2


def test_native_and_sdk_see_each_other() -> None:
    """A phone on the native protocol and a browser on the SDK exchange messages and receipts."""
    node = book()
    phone, browser = node.log_in("alice", "phone", app=APP), node.online("bob", delivery=True)
    accepted = phone.send("alice~bob", "from the phone")
    assert browser.told() == [Heard("message", "alice", "bob", str(accepted.message_id), "from the phone")]
    told = phone.told()
    assert [type(update).__name__ for update in told] == ["Delivered"]
    browser.read("alice", accepted.message_id)
    assert [type(update).__name__ for update in phone.told()] == ["Read"]
    browser.send("alice", "from the browser")
    (update,) = phone.told()
    assert update.body == "from the browser"
    phone.do(ReadMessages(rid=0, conversation="alice~bob", ranges=(2, 3)))
    assert [heard.name for heard in browser.told()] == ["read"]


# -- groups


def group(settings: str = "{}") -> Book:
    node = book("olga", "adam", "bob", "cara", "dan", settings=settings)
    node.group("g1", "olga", "bob", "cara", "dan", admins=("adam",), app=APP)
    return node


def test_group_receipts_with_counts_and_words() -> None:
    """R6–R8: each reader is told by itself, with the count up to it and the reader's words, to the asker."""
    node = group()
    olga, bob, cara = node.online("olga"), node.online("bob"), node.online("cara")
    mid = olga.send("g1", group=True, asks=True)
    assert bob.told() == [Heard("message", "olga", "g1", str(mid), "hi")]
    assert bob.read_group("g1", mid, "ok").code == 0
    assert cara.read_group("g1", mid, None).code == 0
    assert olga.told() == [
        Heard("read", "bob", "g1", str(mid), "ok", {str(mid): 1}),
        Heard("read", "cara", "g1", str(mid), "", {str(mid): 2}),
    ]
    assert bob.read_group("g1", mid, "later").code == 0
    assert olga.told() == []
    assert bob.told() == []


def test_group_conversation_receipt_answers_nothing() -> None:
    """Scene 18: it clears unread and tells nobody."""
    node = group()
    olga, bob, other = node.online("olga"), node.online("bob"), node.online("bob", "webim_web_2")
    olga.send("g1", group=True, asks=True)
    other.told()
    assert bob.read_all("g1", group=True).code == 0
    assert node.chat("g1", APP).unread("bob") == 0
    assert olga.told() == other.told() == []


def test_summary_after_absence() -> None:
    """Scene 21, R9: who comes back first is told once what was answered meanwhile; the next device gets the
    answers one by one; then all is live."""
    node = group()
    olga = node.online("olga")
    second = node.online("olga", "webim_web_2")
    mids = [olga.send("g1", str(number), group=True, asks=True) for number in range(2)]
    olga.lose()
    second.lose()
    bob, cara = node.online("bob"), node.online("cara")
    bob.read_group("g1", mids[0])
    cara.read_group("g1", mids[0])
    cara.read_group("g1", mids[1])
    olga.log_in()
    expected = [
        {"mid": str(mids[0]), "gid": "g1", "count": 2},
        {"mid": str(mids[1]), "gid": "g1", "count": 1},
    ]
    assert olga.statistics == expected
    assert olga.told() == []
    second.log_in()
    assert second.statistics == []
    assert [heard.counts for heard in second.told() if heard.name == "read"] == [
        {str(mids[0]): 1},
        {str(mids[0]): 2},
        {str(mids[1]): 1},
    ]
    bob.read_group("g1", mids[1])
    assert [heard.counts for heard in olga.told()] == [{str(mids[1]): 2}]
    olga.lose()
    olga.log_in()
    assert olga.statistics == expected
    assert olga.told() == []


def test_summary_that_was_not_acknowledged_comes_again() -> None:
    """Scene 21: if the link broke before, the next login brings it again."""
    node = group()
    olga, bob = node.online("olga"), node.online("bob")
    mid = olga.send("g1", group=True, asks=True)
    olga.lose()
    bob.read_group("g1", mid)
    olga.silent = True
    olga.log_in()
    assert len(olga.statistics) == 1
    olga.lose()
    olga.silent = False
    olga.log_in()
    assert len(olga.statistics) == 2
    olga.lose()
    olga.log_in()
    assert len(olga.statistics) == 2


# -- absence


def test_receipts_wait_and_merge() -> None:
    """What was delivered and read in absence arrives at the login, as what came of it."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob", delivery=True)
    mids = [alice.send("bob", str(number)) for number in range(4)]
    alice.told()
    alice.lose()
    bob.read("alice", mids[0])
    alice.log_in()
    assert alice.told() == [Heard("read", "bob", "alice", str(mids[0]))]
    alice.lose()
    bob.read("alice", mids[1])
    bob.read_all("alice")
    alice.log_in()
    assert alice.told() == [Heard("channel", "bob", "alice", "")]
    alice.lose()
    alice.log_in()
    assert alice.told() == []


def test_long_backlog() -> None:
    """Messages of an absence come each once, in order, over several pages and frames, with their receipts."""
    node = book(settings='{"limits": {"page_bytes_max": 20000, "sends_burst": 1000}}')
    alice, bob = node.online("alice"), node.online("bob", delivery=True)
    bob.lose()
    texts = [f"message {number} " + "x" * 100 for number in range(600)]
    for text in texts:
        alice.send("bob", text)
    before = bob.synced
    bob.log_in()
    assert [heard.text for heard in bob.told()] == texts
    assert bob.synced == before + 1
    assert sum(heard.name == "delivered" for heard in alice.told()) == 600
    bob.lose()
    bob.log_in()
    assert bob.told() == []
    assert len(bob.metas) == 600


def test_backlog_cut_half_way() -> None:
    """A link that is cut in the middle of a backlog goes on after the last acknowledged frame."""
    node = book(settings='{"limits": {"page_bytes_max": 30000}}')
    alice, bob = node.online("alice"), node.online("bob")
    bob.lose()
    texts = [f"message {number} " + "x" * 100 for number in range(500)]
    for text in texts:
        alice.send("bob", text)
    for acknowledged in (1, 2, 0, 3):
        bob.silent = True
        bob.log_in()
        for _ in range(acknowledged):
            bob.acknowledge()
        bob.lose()
        bob.silent = False
    bob.log_in()
    assert [heard.text for heard in bob.told()] == texts


def test_first_device_gets_what_waited_and_later_ones_what_arrived_nowhere() -> None:
    """A user's first device gets all unread messages; a new one after it gets none of them again."""
    node = book()
    alice = node.online("alice")
    mids = [alice.send("bob", str(number)) for number in range(3)]
    bob = node.online("bob")
    assert [heard.mid for heard in bob.told()] == [str(mid) for mid in mids]
    assert node.online("bob", "webim_web_2").told() == []


def test_a_receipt_lost_with_its_link_is_made_up_for() -> None:
    """A delivery receipt that was on its way when the link broke is not said twice by the SDK, which drops
    the repeated message; since it sends them at all, the arrival of the repeat counts."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob", delivery=True)
    bob.silent = bob.mute = True
    mid = alice.send("bob")
    bob.lose()
    bob.silent = bob.mute = False
    bob.log_in()
    assert alice.told() == []
    later = alice.send("bob")
    assert {heard.mid for heard in alice.told()} == {str(mid), str(later)}
    assert len(bob.told()) == 2


def test_a_receipt_lost_by_a_device_that_is_known() -> None:
    """If the device has sent a delivery receipt on an earlier link, the arrival of what was on its way then
    counts at once; what is new to it waits for its receipt, as ever."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob", delivery=True)
    first = alice.send("bob")
    assert [heard.mid for heard in alice.told()] == [str(first)]
    bob.silent = bob.mute = True
    lost = alice.send("bob")
    bob.lose()
    absent = alice.send("bob")
    bob.log_in()
    bob.lose()  # once more, before anything was acknowledged
    assert alice.told() == []
    bob.silent = False
    bob.log_in()
    assert [(heard.name, heard.mid) for heard in alice.told()] == [
        ("delivered", str(lost)),
        ("delivered", str(absent)),
    ]
    new = alice.send("bob")
    assert alice.told() == []
    bob.deliver("alice", new)
    assert [heard.mid for heard in alice.told()] == [str(new)]
    assert len(bob.told()) == 4


def test_a_receipt_that_cannot_be_made_up_for() -> None:
    """On a full disk what the SDK did not ask for is refused in silence; the author hears of the read."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob", delivery=True)
    alice.send("bob")
    bob.silent = bob.mute = True
    mid = alice.send("bob")
    bob.lose()
    bob.log_in()
    alice.told()
    node.full = True
    bob.acknowledge()
    node.full = False
    assert alice.told() == []
    assert not bob.is_cut
    assert bob.read("alice", mid).code == 0
    assert [(heard.name, heard.mid) for heard in alice.told()] == [("read", str(mid))]


def test_what_is_owed_is_bounded() -> None:
    """Of the devices that came last, and of each the newest messages."""
    owed = Owed()
    for number in range(DEVICES_MAX + 2):
        owed.shown((APP, "bob", str(number)), ())
        owed.known((APP, "bob", "0"))
    assert owed.known((APP, "bob", "0")) is not None
    assert owed.known((APP, "bob", "1")) is None
    on_way = owed.shown((APP, "bob", "0"), map(MessageId, range(MESSAGES_MAX + 3)))
    assert on_way.all() == set(range(3, MESSAGES_MAX + 3))


def test_an_sdk_without_delivery_delivers_nothing() -> None:
    """Arrival is not delivery: without the option nobody is told."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob")
    alice.send("bob")
    assert len(bob.told()) == 1
    bob.lose()
    bob.log_in()
    assert alice.told() == []


# -- the node dies, or the disk is full


def test_a_node_that_died_tells_nothing_twice() -> None:
    """What had arrived is on disk, or known to the SDK by its id."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob", delivery=True)
    mids = [alice.send("bob", str(number)) for number in range(10)]
    bob.read("alice", mids[3])
    node = node.crash()
    webs = [web.move(node) for web in (alice, bob)]
    for web in webs:
        web.log_in()
    assert [heard.mid for heard in alice.told() if heard.name == "delivered"] == [str(mid) for mid in mids]
    assert [heard.mid for heard in alice.told()] == []
    assert [heard.mid for heard in bob.told()] == [str(mid) for mid in mids]
    bob.read_all("alice")
    assert alice.told() == [Heard("channel", "bob", "alice", "")]


def test_keys_never_come_again() -> None:
    """Not across logins of a device, nor across lives of the process, whatever the clock does."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob")
    for _ in range(3):
        alice.send("bob")
        bob.lose()
        bob.log_in()  # the stand-in looks at every key
    node.sweep()
    node.now_ms -= 100_000
    node = node.crash()
    for web in (alice, bob):
        web.move(node)
        web.log_in()
    alice.send("bob")
    assert bob.keys == sorted(set(bob.keys))
    assert len(bob.keys) == 4


def test_full_disk_while_a_backlog_arrives() -> None:
    """What could not be written down is said again with the next heartbeat, and the backlog goes on."""
    node = book(settings='{"limits": {"page_bytes_max": 1000}}')
    alice, bob = node.online("alice"), node.online("bob")
    bob.lose()
    for number in range(100):
        alice.send("bob", f"{number} " + "x" * 90)
    bob.silent = True
    bob.log_in()
    bob.silent = False
    node.full = True
    bob.acknowledge()
    node.full = False
    assert len(bob.told()) < 100
    bob.unread()
    node.sweep()
    bob.lose()
    bob.log_in()
    assert len({meta.id for meta in bob.metas}) == 100


def test_refused_for_want_of_room_and_sent_again() -> None:
    """A message that could not be stored is refused; the same one again is taken, once."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob")
    node.full = True
    body, local_id = alice.text("bob", "hello"), alice.local_id()
    refused = alice.body(body, "bob", local_id=local_id)
    assert refused.code == StatusCode.FAIL
    node.full = False
    taken = alice.body(body, "bob", local_id=local_id)
    assert taken.code == 0
    assert alice.body(body, "bob", local_id=local_id) == taken
    assert len(bob.told()) == 1


# -- refusals and ends


def test_logins_that_are_refused() -> None:
    """Each in the SDK's own words; the link is closed."""
    node = book()
    password = "Sorry, token or password does not match login info"
    for token, reason in (
        ("nonsense", password),
        (node.token("bob", app=APP), password),
        (node.token("alice", app=APP, lifetime_ms=0), "Sorry, token expired"),
    ):
        alice = node.web("alice")
        alice.log_in(token)
        assert alice.provisions[-1].status.reason == reason
        assert alice.provisions[-1].status.errorCode == StatusCode.FAIL
        assert alice.is_cut
    stranger = node.web("alice", app="org#other")
    stranger.log_in(node.token("alice", app=APP))
    assert stranger.provisions[-1].status.errorCode == StatusCode.FAIL
    assert "there is no app" in stranger.provisions[-1].status.reason


def test_a_login_that_may_be_tried_again_is_not_answered() -> None:
    """A node that is going down ends the link, and the SDK comes again by itself."""
    node = book()
    node.hub.world.draining = True
    alice = node.web("alice")
    alice.open()
    alice.provision(node.token("alice", app=APP))
    assert alice.provisions == []
    assert alice.is_cut


def test_too_many_devices() -> None:
    """Over the limit a login is refused as such."""
    node = book(settings='{"limits": {"devices_max": 1}}')
    node.online("alice")
    second = node.web("alice", "webim_web_2")
    second.log_in()
    assert second.provisions[-1].status.errorCode == StatusCode.TOO_MANY_DEVICES


def test_the_same_device_again_ends_the_older_link() -> None:
    """The older session is told so, in the one way that keeps it from coming back; nothing is told twice."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob")
    again = node.online("bob")
    assert bob.kicks == [Kick.ANOTHER_DEVICE]
    assert bob.is_cut
    alice.send("bob")
    assert (len(again.told()), bob.told()) == (1, [])


def test_ends_for_good() -> None:
    """Another device logs this one out, the password changes, the account goes: each has its own kick."""
    for command, kick in (
        ("log_out", Kick.BY_OTHER_DEVICE),
        ("password", Kick.PASSWORD_CHANGED),
        ("remove", Kick.USER_REMOVED),
    ):
        node = book()
        bob, phone = node.online("bob"), node.log_in("bob", "phone", app=APP)
        if command == "log_out":
            phone.do(LogOutDevice(rid=1, device="webim_web_1"))
        elif command == "password":
            node.operator.do(SetPassword(rid=1, app=APP, user="bob", password="new"))
        else:
            node.operator.do(RemoveUser(rid=1, app=APP, user="bob"))
        assert bob.kicks == [kick]
        assert bob.is_cut


def test_ends_that_are_not_for_good_have_no_kick() -> None:
    """A silent link is closed without a word, later than a native one would be."""
    node = book()
    bob = node.online("bob")
    cut = []
    for after_ms in (2 * node.hub.world.heartbeat_ms + 1, node.hub.world.heartbeat_ms):
        node.sweep(after_ms, heard=False)
        cut.append(bob.is_cut)
    assert cut == [False, True]
    assert bob.kicks == []


def test_clients_with_a_new_name_each_time_take_a_slot() -> None:
    """They use up no devices, go on where the last one was, and two at once are two."""
    node = book(settings='{"limits": {"devices_max": 2}}')
    alice = node.online("alice")
    for number in range(5):
        bob = node.online("bob", f"webim_random_web_{number}")
        assert bob.provisions[-1].resource == f"webim_random_web_{number}"
        alice.send("bob", str(number))
        assert [heard.text for heard in bob.told()] == [str(number)]
        bob.lose()
    one, two = (node.online("bob", f"webim_random_web_{number}") for number in (8, 9))
    assert one.told() == two.told() == []
    assert not one.is_cut


def test_what_is_refused() -> None:
    """Each refusal reaches the SDK in the words that it makes its own errors of, and changes nothing."""
    node = group('{"limits": {"group_receipts_members_max": 10, "asking_messages_per_day": 1}}')
    node.user("eve", app=APP)
    olga, bob, eve = node.online("olga"), node.online("bob"), node.online("eve")
    asked = olga.send("g1", group=True, asks=True)
    plain = olga.send("g1", group=True)
    own = bob.send("g1", group=True)
    bob.told()
    for answer, code, reason in (
        (bob.body(bob.text("nobody", "hi"), "nobody"), 1, "username nobody doesn't exist!"),
        (bob.body(bob.text("No Body", "hi"), "No Body"), 1, "username no body doesn't exist!"),
        (bob.body(bob.text("g2", "hi", group=True), "g2", group=True), 1, "group not found"),
        (bob.body(bob.text("a~b", "hi", group=True), "a~b", group=True), 1, "group not found"),
        (eve.body(eve.text("g1", "hi", group=True), "g1", group=True), 1, "not in group or chatroom"),
        (
            bob.body(bob.text("g1", "hi", group=True, asks=True), "g1", group=True),
            1,
            "group ack msg permission denied",
        ),
        (
            olga.body(olga.text("g1", "hi", group=True, asks=True), "g1", group=True),
            1,
            "limit send group ack msg",
        ),
        (eve.read_group("g1", asked), 1, "not in group or chatroom"),
        (bob.read_group("g2", asked), 1, "group not found"),
        (bob.read_group("g1", plain), 1, "group ack msg not found"),
        (bob.read_group("g1", asked + 100), 1, "group ack msg not found"),
        (bob.read_group("g1", 0), 1, "group ack msg not found"),
        (bob.read("olga", asked), 1, "group not found"),
        (eve.read_all("g1", group=True), 1, "not in group or chatroom"),
        (bob.read_all("g2", group=True), 1, "group not found"),
        (bob.body(bob.text("bob", "hi"), "bob"), 1, "messages to oneself are not supported"),
        (bob.body(bob.empty(BodyType.CHATROOM, "r1"), "r1", group=True), 1, UNSUPPORTED),
        (bob.body(bob.empty(BodyType.EDIT, "olga"), "olga"), 1, UNSUPPORTED),
        (bob.body(bob.text("olga", "x" * 300_000), "olga"), 7, "Sorry, data is too large"),
    ):
        assert (answer.code, answer.reason) == (code, reason)
    assert bob.read_group("g1", own).code == 1
    assert [heard for heard in olga.told() if heard.name == "read"] == []
    assert bob.told() == []


def test_switched_off_and_too_fast() -> None:
    """R12, R13: no group receipts in this edition; over the rate."""
    node = group(
        '{"features": {"group_receipts": false}, "limits": {"sends_burst": 1, "sends_per_second": 0.001}}'
    )
    olga = node.online("olga")
    asking = olga.text("g1", "hi", group=True, asks=True)
    assert olga.body(asking, "g1", group=True)[:2] == (1, "group ack not open")
    olga.send("g1", group=True)
    assert olga.body(olga.text("g1", "hi", group=True), "g1", group=True)[:2] == (7, "traffic limit")


def test_kinds_that_are_not_supported() -> None:
    """Edits, messages to some members, other namespaces and other people's names are refused, in turn."""
    node = group()
    olga = node.online("olga")
    edit = olga.empty(8, "bob")
    edit.ackMessageId = 5
    forged = olga.text("bob", "hi")
    forged.sender.name = "bob"
    elsewhere = olga.text("bob", "hi")
    elsewhere.to.name = "cara"
    payload = olga.text("g1", "hi", group=True).SerializeToString()
    to = pb.JID(appKey=APP, name="g1", domain=GROUP_DOMAIN)
    directed = pb.Meta(id=olga.local_id(), ns=1, to=to, payload=payload, directedUsers=["bob"])
    other = pb.Meta(id=olga.local_id(), ns=3, to=to, payload=payload)
    answers = [olga.body(body, "bob") for body in (edit, forged, elsewhere, olga.empty(0, "bob"))]
    answers += [olga.meta(directed), olga.meta(other)]
    answers.append(olga.body(olga.text("g1", "hi"), "g1", group=True))
    assert all(answer.code == StatusCode.FAIL and answer.reason for answer in answers)


def test_recalled_messages() -> None:
    """A recall goes to the other side; too late it is refused as such."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob")
    mid = alice.send("bob")
    bob.told()
    assert alice.recall("bob", mid).code == 0
    assert bob.told() == [Heard("recalled", "alice", "bob", str(mid))]
    assert node.chat("alice~bob", APP).unread("bob") == 0
    late = alice.send("bob")
    node.sweep(10 * 60_000)
    assert alice.recall("bob", late)[:2] == (1, "exceed recall time limit")
    assert bob.recall("alice", late)[:2] == (1, "blocked")
    assert bob.deliver("alice", mid).code == 0


def test_what_is_no_frame_ends_the_link_with_a_reason() -> None:
    """Undecodable bytes, text, and frames out of turn; other sessions go on."""
    node = book()
    alice = node.online("alice")
    for frame in (b"\xff\xff", "text", pb.MSync(command=2).SerializeToString()):
        bob = node.online("bob")
        bob.put(frame)
        assert bob.is_cut
        assert bob.farewells
    for frames in (
        [pb.MSync(command=1).SerializeToString()],
        [pb.MSync(command=3).SerializeToString()],
    ):
        early = node.web("bob")
        early.open()
        for frame in frames:
            early.put(frame)
        assert early.is_cut
        assert early.farewells
    bob = node.online("bob")
    bob.provision(node.token("bob", app=APP))
    assert bob.is_cut
    bob = node.online("bob")
    bob.meta(pb.Meta(id=0, ns=0))
    assert bob.is_cut
    assert alice.greet().code == 0


def test_a_device_that_acknowledges_nothing() -> None:
    """No more than a window is on its way to it; the rest waits, and then is told in frames of many."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob")
    bob.silent = True
    for number in range(3 * WINDOW):
        alice.send("bob", str(number))
    assert len(bob.metas) == WINDOW
    bob.silent = False
    while bob.unacknowledged:
        bob.acknowledge()
    assert [heard.text for heard in bob.told()] == [str(number) for number in range(3 * WINDOW)]
    assert len(bob.keys) < 2 * WINDOW


def test_a_device_for_which_too_much_waits_is_cut() -> None:
    """It comes back, and gets what waited."""
    node = book(settings='{"limits": {"sends_burst": 10000}}')
    alice, bob = node.online("alice"), node.online("bob")
    bob.silent = True
    text = "x" * 200_000
    while not bob.is_cut:
        alice.send("bob", text)
    sent = node.chat("alice~bob", APP).head
    bob.lose()
    bob.silent = False
    bob.log_in()
    assert len({meta.id for meta in bob.metas}) == sent


def test_who_has_logged_out_is_away_at_once() -> None:
    """R9: what is answered after an author's LOGOUT comes as a summary, even if the end of the link is
    noticed later; and the link ends, if the SDK does not end it."""
    node = group()
    olga, bob = node.online("olga"), node.online("bob")
    mid = olga.send("g1", group=True, asks=True)
    olga.say(pb.MSync(version=0, command=Command.LOGOUT))
    assert olga.is_cut
    bob.read_group("g1", mid)
    olga.lose()
    olga.log_in()
    assert olga.statistics == [{"mid": str(mid), "gid": "g1", "count": 1}]
    assert olga.told() == []


def test_apps_are_apart() -> None:
    """Scene 25: the same names in two apps never meet."""
    node = Book(apps={APP: "{}", "org#two": '{"features": {"group_receipts": false}}'})
    node.dialects.apps = {APP, "org#two"}
    for app in (APP, "org#two"):
        node.user("alice", "bob", app=app)
    alice, bob = node.online("alice"), node.online("bob")
    other = node.web("bob", app="org#two")
    other.log_in()
    mid = alice.send("bob")
    assert len(bob.told()) == 1
    assert other.told() == []
    assert other.read("alice", mid)[:2] == (1, "group not found")


# -- what else may happen


def test_a_device_comes_back_to_what_was_read_elsewhere() -> None:
    """R4 in absence: the messages come, and that all of them were read on another device."""
    node = book()
    alice, bob, other = node.online("alice"), node.online("bob"), node.online("bob", "webim_web_2")
    mids = [alice.send("bob", str(number)) for number in range(2)]
    other.told()
    other.lose()
    mids += [alice.send("bob", str(number)) for number in range(2, 4)]
    bob.read_all("alice")
    other.log_in()
    found = other.told()
    assert [heard.mid for heard in found[:2]] == [str(mid) for mid in mids[2:]]
    assert found[2:] == [Heard("channel", "bob", "alice", "")]
    other.lose()
    bob.lose()
    other.log_in()
    bob.log_in()
    assert other.told() == []
    assert [heard for heard in bob.told() if heard.name == "channel"] == []


def test_recalled_in_absence() -> None:
    """What was recalled is told to a device that was away; the message itself, if it was away then too, never
    comes."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob")
    first = alice.send("bob", "1")
    bob.told()
    bob.lose()
    second = alice.send("bob", "2")
    for mid in (first, second):
        assert alice.recall("bob", mid).code == 0
    bob.log_in()
    assert bob.told() == [Heard("recalled", "alice", "bob", str(mid)) for mid in (first, second)]
    group_node = group()
    olga, adam = group_node.online("olga"), group_node.online("adam")
    mid = olga.send("g1", group=True)
    adam.lose()
    olga.recall("g1", mid, group=True)
    adam.log_in()
    assert adam.told()[-1] == Heard("recalled", "olga", "g1", str(mid))


def test_a_new_device_of_a_user_with_a_long_history() -> None:
    """Pages in which there is nothing for it pass by themselves, and receipts of long ago are not told."""
    node = book(settings='{"limits": {"page_bytes_max": 2000}}')
    alice, phone = node.online("alice"), node.log_in("bob", "phone", app=APP)
    for number in range(100):
        alice.send("bob", f"{number} " + "x" * 90)
    phone.do(ReadConversation(rid=0, conversation="alice~bob", through=100))
    for number in range(20):
        phone.send("alice~bob", str(number))
    alice.read_all("bob")
    alice.told()
    assert node.online("bob").told() == []
    new = alice.send("bob")
    browser = node.online("bob", "webim_web_2")
    browser.told()
    assert node.online("alice", "webim_web_2").told() == []
    phone.do(ReadConversation(rid=0, conversation="alice~bob", through=121))
    assert alice.told() == [Heard("channel", "bob", "alice", "")]
    assert new


def test_a_user_without_other_devices_left_gets_what_none_of_them_had() -> None:
    """A second device takes over what the first one missed: messages and receipts."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob")
    mids = [alice.send("bob", str(number)) for number in range(3)]
    alice.lose()
    bob.read("alice", mids[0])
    back = bob.send("alice", "back")
    second = node.online("alice", "webim_web_2")
    assert second.told() == [
        Heard("message", "bob", "alice", str(back), "back"),
        Heard("read", "bob", "alice", str(mids[0])),
    ]


def test_frames_on_their_way_when_a_member_leaves() -> None:
    """They are acknowledged all the same."""
    node = group()
    olga, bob = node.online("olga"), node.online("bob")
    bob.silent = True
    olga.send("g1", group=True)
    olga_phone = node.log_in("olga", "phone", app=APP)
    olga_phone.do(RemoveMembers(rid=1, conversation="g1", users=("bob",)))
    bob.silent = False
    bob.acknowledge()
    assert bob.greet().code == 0
    assert bob.read_all("g1", group=True)[1] == "not in group or chatroom"
    assert bob.body(bob.text("g1", "hi", group=True), "g1", group=True)[1] == "not in group or chatroom"


def test_a_conversation_that_has_not_begun() -> None:
    """There is nothing to read in it, which is no mistake; nothing to receive either."""
    node = book()
    bob = node.online("bob")
    assert bob.read_all("alice").code == 0
    assert bob.deliver("alice", 2)[:2] == (1, "group not found")
    node.online("alice").send("bob")
    assert bob.deliver("alice", 1000).code == 0
    assert bob.read("alice", 1000)[:2] == (1, "group ack msg not found")


def test_old_messages_are_found_by_their_ids() -> None:
    """Receipts for messages that left memory, and ids in between, which nobody has."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob")
    mids = [alice.send("bob", str(number)) for number in range(150)]
    alice.send("bob", "last")
    node = node.crash()
    for web in (alice, bob):
        web.move(node)
        web.log_in()
    bob.told()
    alice.told()
    assert bob.read("alice", mids[3]).code == 0
    assert bob.read("alice", mids[3] + 1).code == 1
    assert alice.told() == [Heard("read", "bob", "alice", str(mids[3]))]
    assert bob.read("alice", mids[140]).code == 0
    assert bob.read_all("alice").code == 0
    assert [heard.name for heard in alice.told()] == ["read", "channel"]


def test_answers_to_an_old_message() -> None:
    """The id of a message that left memory is looked up before it is told."""
    node = group('{"limits": {"sends_burst": 1000}}')
    olga, bob = node.online("olga"), node.online("bob")
    mid = olga.send("g1", group=True, asks=True)
    for number in range(200):
        olga.send("g1", str(number), group=True)
    node.evict()
    bob.read_group("g1", mid, "late")
    assert olga.told() == [Heard("read", "bob", "g1", str(mid), "late", {str(mid): 1})]


def test_answers_in_the_tick_of_a_login() -> None:
    """Who comes in that very tick finds them in the summary: live, nothing is said of messages whose ids
    were not asked for."""
    node = group()
    olga, bob = node.online("olga"), node.log_in("bob", "phone", app=APP)
    mid = olga.send("g1", group=True, asks=True)
    olga.lose()
    olga.open()
    assert olga.link is not None
    (hello,) = olga.link.session.dialect.decode(olga.login_frame(node.token("olga", app=APP)))
    answer = ReadMessages(rid=0, conversation="g1", ranges=(1, 2), content="ok")
    node.run((bob, answer), (olga.link, hello))
    assert olga.told() == []
    assert olga.statistics == [{"mid": str(mid), "gid": "g1", "count": 1}]
    world = node.hub.world
    app = world.apps[APP]
    said = len(world.tick.outbox)
    tell_answers(world, app.chats["g1"], app.users["olga"], 1, 0, ())
    assert len(world.tick.outbox) == said


def test_answers_of_one_tick_arrive_in_any_order() -> None:
    """That answers are known up to one is said when those before it have arrived."""
    node = group()
    olga = node.online("olga")
    phones = [node.log_in(name, "phone", app=APP) for name in ("bob", "cara", "dan")]
    mids = [olga.send("g1", str(number), group=True, asks=True) for number in range(2)]
    olga.silent = True

    def answers(seq: int) -> ReadMessages:
        return ReadMessages(rid=0, conversation="g1", ranges=(seq, seq + 1), content="ok")

    node.run((phones[0], answers(1)), (phones[1], answers(2)), (phones[2], answers(1)))
    assert len(olga.unacknowledged) == 2
    olga.acknowledge()
    olga.lose()
    olga.seen.clear()
    olga.told()
    olga.silent = False
    olga.log_in()
    assert [heard.counts for heard in olga.told()][-1] == {str(mids[1]): 1}


def test_many_readers_of_one_tick() -> None:
    """More receipts than go into a frame arrive in several, each once, with rising counts."""
    node = Book(settings="{}")
    readers = [f"reader-{number:02}" for number in range(70)]
    node.user("olga", *readers, app=APP)
    node.group("g1", "olga", *readers, app=APP)
    olga = node.online("olga")
    phones = [node.log_in(name, "phone", app=APP) for name in readers]
    mid = olga.send("g1", group=True, asks=True)
    read = ReadMessages(rid=0, conversation="g1", ranges=(1, 2), content="")
    node.run(*((phone, read) for phone in phones))
    found = olga.told()
    assert [heard.counts for heard in found] == [{str(mid): count} for count in range(1, 71)]
    assert sorted(heard.sender for heard in found) == readers


def test_a_login_on_a_full_disk_is_tried_again() -> None:
    """It is not answered, and the next one goes well."""
    node = book()
    node.full = True
    bob = node.web("bob")
    bob.open()
    bob.provision(node.token("bob", app=APP))
    assert bob.provisions == []
    assert bob.is_cut
    node.full = False
    bob.log_in()
    assert bob.provisions[-1].status.errorCode == 0


def test_older_sdks_put_the_token_elsewhere() -> None:
    """In one of three places; one that is not readable counts as absent."""
    for place in ("auth", "provision", "broken", "number"):
        node = book()
        bob = node.web("bob")
        bob.open()
        token = "$t$" + node.token("bob", app=APP)
        provision = pb.Provision(resource="webim_web_1")
        sync = pb.MSync(command=3, guid=pb.JID(appKey=APP, name="Bob"))
        if place == "provision":
            provision.auth = token
        else:
            sync.auth = token
        if place == "broken":
            provision.authToken = "{"
        if place == "number":
            provision.authToken = '{"token": 5}'
        sync.payload = provision.SerializeToString()
        bob.say(sync)
        assert bob.provisions[-1].status.errorCode == 0


def test_a_repeated_acknowledgement_and_pull() -> None:
    """Neither does harm, and each pull ends."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob")
    alice.send("bob")
    queue = pb.JID(appKey=APP, name="q_bob", domain="easemob.com")
    bob.sync(pb.CommSyncUL(queue=queue, key=bob.keys[-1]))
    before = bob.synced
    bob.sync(pb.CommSyncUL(queue=queue))
    bob.sync(pb.CommSyncUL(queue=queue))
    assert bob.synced == before + 2
    bob.silent = True
    alice.send("bob")
    bob.unread()
    assert bob.synced == before + 3
    assert [heard.name for heard in bob.told()] == ["message", "message"]
    bob.lose()
    for _ in range(WINDOW):
        alice.send("bob")
    bob.log_in()
    before = bob.synced
    bob.sync(pb.CommSyncUL(queue=queue, key=bob.keys[0]))
    assert bob.synced == before
    while bob.unacknowledged:
        bob.acknowledge()
    assert bob.synced == before + 1


def test_private_readers_leak_nothing() -> None:
    """I-25: what was read in private is never told, nor hidden in a conversation receipt."""
    node = book()
    alice, phone = node.online("alice"), node.log_in("bob", "phone", app=APP)
    first = alice.send("bob", "1")
    phone.do(SetSharing(rid=1, read=False))
    phone.do(ReadConversation(rid=0, conversation="alice~bob", through=1))
    phone.do(SetSharing(rid=1, read=True))
    second = alice.send("bob", "2")
    phone.do(ReadConversation(rid=0, conversation="alice~bob", through=2))
    assert alice.told() == [Heard("read", "bob", "alice", str(second))]
    assert first


def test_marked_as_unread_and_read_again() -> None:
    """An SDK knows no unread marks, but shows the count: its receipt clears them."""
    node = book()
    alice, bob, phone = node.online("alice"), node.online("bob"), node.log_in("bob", "phone", app=APP)
    mid = alice.send("bob")
    bob.read_all("alice")
    phone.do(MarkUnread(rid=1, conversation="alice~bob", from_seq=1))
    assert node.chat("alice~bob", APP).unread("bob") == 1
    bob.read("alice", mid)
    assert node.chat("alice~bob", APP).unread("bob") == 0


def test_many_delivery_receipts_by_hand() -> None:
    """An application may send them itself, for whatever it likes."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob")
    mids = [alice.send("bob", str(number)) for number in range(EARLY_MAX + 10)]
    for mid in mids:
        bob.deliver("alice", mid)
    assert [heard.mid for heard in alice.told()] == [str(mid) for mid in mids]


def test_sessions_look_alike_from_outside() -> None:
    """A dialect of its own for each link, no frame shared."""
    node = book()
    one, other = node.dialects(), node.dialects()
    assert one is not other
    assert one.shared_key == ""


def test_answers_that_were_told_are_not_told_again() -> None:
    """A device that was away gets those that came since; a new one none of before."""
    node = group()
    olga, bob, cara = node.online("olga"), node.online("bob"), node.online("cara")
    second = node.online("olga", "webim_web_2")
    mid = olga.send("g1", group=True, asks=True)
    bob.read_group("g1", mid)
    second.told()
    second.lose()
    cara.read_group("g1", mid)
    second.log_in()
    assert [heard.counts for heard in second.told()] == [{str(mid): 2}]
    phone = node.log_in("adam", "phone", app=APP)
    asked = phone.send("g1", asks=True)
    cara.read_group("g1", asked.message_id)
    assert [heard.name for heard in node.online("adam").told()] == ["message"]


def test_answers_in_two_groups_at_once() -> None:
    """That those of one group are on their way holds up nothing of the other."""
    node = group()
    node.group("g2", "olga", "bob", app=APP)
    olga, bob = node.online("olga"), node.online("bob")
    one = olga.send("g1", group=True, asks=True)
    two = olga.send("g2", group=True, asks=True)
    olga.silent = True
    bob.read_group("g1", one)
    bob.read_group("g2", two)
    bob.send("g2", group=True)
    olga.acknowledge()
    olga.lose()
    olga.seen.clear()
    olga.told()
    olga.silent = False
    olga.log_in()
    assert [heard.mid for heard in olga.told() if heard.name == "read"] == [str(two)]


def test_pages_with_nothing_for_the_device_pass_by() -> None:
    """What changed of groups is no news to the SDK; it hears at once what is."""
    node = Book(settings='{"limits": {"page_bytes_max": 100}}')
    node.user("alice", "bob", app=APP)
    for number in range(10):
        node.group(f"g{number}", "alice", "bob", app=APP)
    alice = node.online("alice")
    alice.send("bob", "here")
    bob = node.online("bob")
    assert [heard.text for heard in bob.told()] == ["here"]
    assert bob.synced == 1


def test_two_conversation_receipts_on_one_link() -> None:
    """What was the head at login is looked up once, and holds on."""
    node = book()
    alice = node.online("alice")
    for number in range(3):
        alice.send("bob", str(number))
    bob = node.online("bob")
    bob.silent = True
    node.hold = True
    alice.body(alice.text("bob", "3"), "bob")
    for _ in range(2):
        bob.read_all("alice")
    node.finish()
    assert node.chat("alice~bob", APP).unread("bob") == 1


def test_recall_of_what_the_device_sent_itself() -> None:
    """Taken back on another device while this one was away, it is told like any other."""
    node = book()
    alice, phone = node.online("alice"), node.log_in("alice", "phone", app=APP)
    alice.send("bob", "1")
    mid = alice.send("bob", "2")
    alice.lose()
    phone.do(RecallMessage(rid=0, conversation="alice~bob", seq=2))
    alice.log_in()
    assert alice.told() == [Heard("recalled", "alice", "bob", str(mid))]


def test_recall_of_what_was_not_acknowledged() -> None:
    """A message that was on its way when the link broke may be on the screen: its recall is told."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob")
    bob.silent = True
    mid = alice.send("bob")
    bob.told()
    bob.lose()
    alice.recall("bob", mid)
    bob.silent = False
    bob.log_in()
    assert bob.told() == [Heard("recalled", "alice", "bob", str(mid))]


def test_what_the_user_has_cleared_is_not_read_by_that() -> None:
    """I-24: a conversation receipt says that all is read, also what this user has put out of sight since: the
    SDK may still show it."""
    node = book(settings='{"features": {"roll_up": "any"}}')
    alice = node.online("alice")
    alice.send("bob", "1")
    second = alice.send("bob", "2")
    alice.lose()
    bob = node.log_in("bob", "phone", app=APP)
    alice_phone = node.log_in("alice", "phone", app=APP)
    bob.do(ReadConversation(rid=0, conversation="alice~bob", through=1))
    alice_phone.do(ClearConversation(rid=0, conversation="alice~bob", through=2))
    alice.log_in()
    told = alice.told()
    assert "channel" not in [heard.name for heard in told]
    assert str(second) not in [heard.mid for heard in told if heard.name == "read"]


def test_all_is_read_of_a_message_that_comes_later() -> None:
    """A conversation receipt in one pass of pages does not hide the one for a message of the next pass."""
    node = book("alice", "bob", "cara", settings='{"limits": {"page_bytes_max": 300}}')
    alice = node.online("alice")
    alice.lose()
    phone = node.log_in("alice", "phone", app=APP)
    phone.send("alice~cara", "x" * 400)
    phone.send("alice~bob", "1")
    alice.silent = True
    alice.log_in()
    alice.acknowledge()
    alice.lose()
    alice.told()
    phone.send("alice~bob", "2")
    bob = node.log_in("bob", "phone", app=APP)
    bob.do(ReadConversation(rid=0, conversation="alice~bob", through=2))
    alice.silent = False
    alice.log_in()
    assert [heard.name for heard in alice.told()] == ["channel", "message", "channel"]


def test_a_summary_that_was_lost() -> None:
    """R9: what it told comes as single receipts, if the device is not the first to come back any more."""
    node = group()
    olga, bob = node.online("olga"), node.online("bob")
    mid = olga.send("g1", group=True, asks=True)
    olga.lose()
    bob.read_group("g1", mid)
    olga.silent = True
    olga.log_in()
    olga.lose()
    olga.silent = False
    node.online("olga", "webim_web_2")
    olga.log_in()
    assert [heard.counts for heard in olga.told()] == [{str(mid): 1}]


def test_a_summary_that_comes_before_what_it_sums_up() -> None:
    """It is acknowledged while pages still come: what it told is known all the same, and is not looked at
    again at the next login."""
    node = group(settings='{"limits": {"page_bytes_max": 300}}')
    node.group("g2", "olga", "bob", app=APP)
    olga, bob = node.online("olga"), node.online("bob")
    first, mid = (olga.send("g2", text, group=True, asks=True) for text in "12")
    olga.lose()
    for number in range(3):
        bob.send("g1", f"{number}" * 200, group=True)
    bob.read_group("g2", mid)
    phone = node.log_in("olga", "phone", app=APP)
    phone.do(RecallMessage(rid=0, conversation="g2", seq=1))
    phone.lose()
    olga.log_in()
    assert olga.statistics == [{"mid": str(mid), "gid": "g2", "count": 1}]
    assert [heard.mid for heard in olga.told() if heard.name == "recalled"] == [str(first)]
    node.sweep(1000)
    olga.lose()
    olga.seen.clear()
    olga.log_in()
    assert olga.told() == []


def test_an_acknowledgement_that_could_not_be_written_is_said_again() -> None:
    """By this side, with the next that comes: which messages a device holds decides what new ones are
    given."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob")
    bob.silent = True
    mids = [alice.send("bob", str(number)) for number in (1, 2, 3)]
    node.full = True
    bob.acknowledge()
    bob.acknowledge()
    node.full = False
    assert node.chat("alice~bob", APP).members["bob"].held("webim_web_1").ranges == ()
    bob.acknowledge()
    assert node.chat("alice~bob", APP).members["bob"].held("webim_web_1").ranges == (1, 4)
    assert node.online("bob", "webim_web_2").told() == []
    assert [meta.id for meta in bob.metas] == mids


def test_an_acknowledgement_that_could_not_be_written_stands() -> None:
    """The SDK asks no answer for it, and is not refused one; that it has the frame stays true."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob")
    bob.silent = True
    mid = alice.send("bob")
    bob.silent = False
    node.full = True
    bob.acknowledge()
    node.full = False
    bob.lose()
    bob.log_in()
    assert [meta.id for meta in bob.metas] == [mid]
    assert node.chat("alice~bob", APP).unread("bob") == 1


def test_a_conversation_receipt_never_covers_what_was_sent_after_it() -> None:
    """What waits for acknowledgements is not overtaken by the answer to a later message."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob")
    mid = alice.send("bob")
    alice.silent = True
    for number in range(WINDOW):
        bob.send("alice", str(number))
    bob.read_all("alice")
    later = alice.local_id()
    alice.body(alice.text("bob", "later"), "bob", local_id=later)
    assert later not in alice.answers
    assert mid
    alice.order.clear()
    alice.silent = False
    while alice.unacknowledged:
        alice.acknowledge()
    assert alice.order == ["channel", "answer"]
    assert alice.answers[later].code == 0


def test_what_was_marked_as_read_before_it_arrived_still_comes() -> None:
    """A conversation receipt reaches the head at login, which the device may not have been given yet."""
    node = book()
    alice, bob = node.online("alice"), node.online("bob")
    bob.lose()
    mids = [alice.send("bob", str(number)) for number in range(2 * WINDOW)]
    bob.silent = True
    bob.log_in()
    assert bob.read_all("alice").code == 0
    assert node.chat("alice~bob", APP).unread("bob") == 0
    bob.lose()
    bob.silent = False
    bob.log_in()
    assert [heard.mid for heard in bob.told() if heard.name == "message"] == [str(mid) for mid in mids]
