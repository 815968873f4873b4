"""The model of the vendor's SDK, against what was seen of the SDK itself."""

from __future__ import annotations

import pytest

from receipts.core.errors import DecodeError
from receipts.easemob import codec
from receipts.easemob import msync_pb2 as pb
from receipts.easemob.codec import BodyType, Command, Kick, StatusCode
from receipts.simulation.websdk import (
    ANSWER_SECONDS,
    DISCONNECTED,
    FILTER,
    HEARTBEAT_SECONDS,
    NO_ANSWER,
    Answer,
    Callback,
    Failed,
    Kicked,
    Queue,
    Statistics,
    Told,
    WebSDK,
)

APP = "org#app"
QUEUE = codec.queue_bytes(APP, "q_bob")


def sdk(*, delivery: bool = False) -> WebSDK:
    """Logged in; what it says then is taken out."""
    made = WebSDK(APP, "bob", "webim_web_1", delivery=delivery)
    made.begin("token", 0.0)
    made.hear([codec.provision_frame("webim_web_1")], 0.0)
    made.out.clear()
    return made


def out(made: WebSDK) -> list[pb.MSync]:
    """What it has sent since the last look."""
    frames, made.out = made.out, []
    return [codec.parse(pb.MSync, frame) for frame in frames]


def syncs(made: WebSDK) -> list[pb.CommSyncUL]:
    """Likewise, of SYNC alone."""
    return [codec.parse(pb.CommSyncUL, one.payload) for one in out(made) if one.command == Command.SYNC]


def told(made: WebSDK) -> list[Told]:
    """What its application was told since the last look."""
    found, made.told = made.told, []
    return found


def message(mid: int, kind: BodyType = BodyType.CHAT, sender: str = "alice") -> bytes:
    """An envelope for bob."""
    body = pb.MessageBody(type=kind, sender=pb.JID(name=sender), to=pb.JID(name="bob"))
    body.contents.add(type=0, text="hi")
    payload = body.SerializeToString()
    return codec.meta_bytes(APP, mid, sender, "bob", group=False, at_ms=1, payload=payload)


def test_login_and_what_follows() -> None:
    """PROVISION comes first, then what was written before it, UNREAD and the greeting."""
    made = WebSDK(APP, "bob", "webim_web_1")
    kept = made.send(made.text("alice", "early"), 0.0)
    made.begin("token", 1.0)
    (login,) = out(made)
    assert (login.command, login.guid.name) == (Command.PROVISION, "bob")
    assert codec.parse(pb.Provision, login.payload).authToken == '{"token": "$t$token"}'
    assert made.unrest == "is login"
    made.hear([codec.provision_frame("webim_web_1")], 1.0)
    first, unread, greeting = out(made)
    assert codec.parse(pb.CommSyncUL, first.payload).meta.id == kept
    assert (unread.command, unread.payload) == (Command.UNREAD, b"")
    assert codec.parse(pb.CommSyncUL, greeting.payload).meta.ns == 0


def test_a_refused_login_is_for_good() -> None:
    """It wants to be rid of the link, and stays away."""
    made = WebSDK(APP, "bob", "webim_web_1")
    made.begin("token", 0.0)
    made.hear([codec.provision_frame("", code=StatusCode.FAIL, reason="no")], 0.0)
    assert told(made) == [Kicked(1, "no")]
    made.end()
    assert (made.gave_up, made.state) == (True, "kicked")


def test_a_login_without_an_answer_is_given_up() -> None:
    """After ten seconds."""
    made = WebSDK(APP, "bob", "webim_web_1")
    made.begin("token", 5.0)
    assert made.wake_at == 15.0
    made.wake(15.0)
    assert made.gave_up


def test_frames_are_acknowledged_by_their_key() -> None:
    """Once each: a key that comes again is not acknowledged, though what is in the frame is dispatched."""
    made = sdk()
    made.hear([codec.metas_frame([message(2)], 7, QUEUE, 1)], 0.0)
    assert [(one.queue.name, one.key) for one in syncs(made)] == [("q_bob", 7)]
    assert told(made) == [Callback("message", 2, "alice", "bob", 2, "hi", False, None), Queue(7, 1)]
    made.hear([codec.metas_frame([message(4)], 7, QUEUE, 1)], 0.0)
    assert syncs(made) == []
    assert [one.mid for one in told(made) if isinstance(one, Callback)] == [4]


def test_a_last_frame_with_metas_is_pulled_once_more() -> None:
    """Without a key."""
    made = sdk()
    news = pb.CommSyncDL(status=pb.Status(), metas=[message(2)], queue=QUEUE, isLast=True)
    frame = pb.MSync(command=Command.SYNC, payload=news.SerializeToString())
    made.hear([frame.SerializeToString()], 0.0)
    (pull,) = syncs(made)
    assert pull.queue.name == "q_bob"
    assert not pull.HasField("key")


def test_listed_queues_are_pulled_until_they_end() -> None:
    """UNREAD's list: a pull each, and rest only when each has ended; then the head of the list once more."""
    made = sdk()
    listed = pb.CommUnreadDL(status=pb.Status())
    for name in ("q1", "q2"):
        listed.unread.add(queue=pb.JID(name=name), n=0)
    frame = pb.MSync(command=Command.UNREAD, payload=listed.SerializeToString())
    made.hear([frame.SerializeToString()], 0.0)
    assert [one.queue.name for one in syncs(made) if one.HasField("queue")] == ["q1", "q2"]
    assert made.unrest == "waits for the end of ['q1', 'q2']"
    made.hear([codec.last_frame(codec.queue_bytes(APP, "q1"), 1)], 0.0)
    assert [one.queue.name for one in syncs(made)] == ["q2"]
    made.hear([codec.last_frame(codec.queue_bytes(APP, "q2"), 1)], 0.0)
    assert syncs(made) == []
    assert made.unrest is None


def test_the_filter() -> None:
    """The last 101 ids are known, those of what it sent itself among them; a logout forgets them."""
    made = sdk()
    local_id = made.send(made.text("alice", "hi"), 0.0)
    made.hear([codec.answer_frame(local_id, 1000, 1)], 0.0)
    assert told(made) == [Answer(local_id, 0, "", 1000)]
    made.hear([codec.metas_frame([message(1000)], 1, QUEUE, 1)], 0.0)
    made.hear([codec.metas_frame([message(mid) for mid in range(1, FILTER)], 2, QUEUE, 1)], 0.0)
    assert [one.mid for one in told(made) if isinstance(one, Callback)] == list(range(1, FILTER))
    made.hear([codec.metas_frame([message(1000), message(5000), message(1000)], 3, QUEUE, 1)], 0.0)
    assert [one.mid for one in told(made) if isinstance(one, Callback)] == [5000, 1000]
    made.log_out()
    assert out(made)[-1].command == Command.LOGOUT
    made.hear([codec.metas_frame([message(5000)], 4, QUEUE, 1)], 0.0)
    assert [one.mid for one in told(made) if isinstance(one, Callback)] == [5000]


def test_delivery_receipts() -> None:
    """With the option, for messages of others between two, and for none twice."""
    made = sdk(delivery=True)
    group = message(4, BodyType.GROUPCHAT)
    metas = [message(2), group, message(6, sender="bob"), message(2)]
    made.hear([codec.metas_frame(metas, 1, QUEUE, 1)], 0.0)
    (receipt, _) = syncs(made)
    body = codec.parse(pb.MessageBody, receipt.meta.payload)
    assert (body.type, body.ackMessageId, body.to.name) == (BodyType.DELIVER_ACK, 2, "alice")
    assert len(body.contents) == 1


def test_a_lost_link_fails_what_is_under_way() -> None:
    """Nothing of it is sent again; what is written meanwhile waits for the next session."""
    made = sdk()
    lost = made.send(made.read("alice", 2), 0.0)
    made.end()
    assert told(made) == [Failed(lost, DISCONNECTED)]
    kept = made.send(made.read_all("alice"), 1.0)
    assert made.out == []
    made.begin("token", 2.0)
    made.hear([codec.provision_frame("webim_web_1")], 2.0)
    assert [one.meta.id for one in syncs(made)][:1] == [kept]


def test_what_is_kept_fails_at_a_logout() -> None:
    """Who logs out takes nothing along."""
    made = WebSDK(APP, "bob", "webim_web_1")
    kept = made.send(made.recall("g", 2, group=True), 0.0)
    made.log_out()
    assert (told(made), made.out) == ([Failed(kept, DISCONNECTED)], [])


def test_no_answer_in_time() -> None:
    """After 15 s it gives the link up; an answer that comes later is nobody's."""
    made = sdk()
    local_id = made.send(made.read_in_group("g", 2, None), 1.0)
    assert made.wake_at == 1.0 + ANSWER_SECONDS
    made.wake(1.0 + ANSWER_SECONDS)
    assert (told(made), made.gave_up) == ([Failed(local_id, NO_ANSWER)], True)
    made.hear([codec.answer_frame(local_id, 9, 1)], 17.0)
    assert told(made) == []


def test_heartbeat() -> None:
    """30 s after the last frame it asks what is unread."""
    made = sdk()
    assert made.wake_at == HEARTBEAT_SECONDS
    made.wake(HEARTBEAT_SECONDS)
    assert [one.command for one in out(made)] == [Command.UNREAD]
    assert made.wake_at == 2 * HEARTBEAT_SECONDS


def test_news_for_the_session() -> None:
    """A summary is told; a kick ends it for good."""
    made = sdk()
    found = codec.statistics_body(Kick.INFORMATION, '{"group_ack": [{"mid": "4", "gid": "g", "count": 2}]}')
    kick = codec.statistics_body(Kick.ANOTHER_DEVICE)
    metas = [
        codec.meta_bytes(APP, 1, "admin", "bob", group=False, at_ms=1, payload=body, ns=0)
        for body in (found, kick)
    ]
    made.hear([codec.metas_frame(metas, 1, QUEUE, 1)], 0.0)
    assert told(made) == [Statistics({4: 2}), Kicked(2, ""), Queue(1, 2)]
    made.end()
    assert (made.state, made.wake_at) == ("kicked", None)


def _bare(sync: pb.CommSyncDL) -> bytes:
    return pb.MSync(command=Command.SYNC, payload=sync.SerializeToString()).SerializeToString()


_NOT_JSON = pb.MessageBody(type=BodyType.READ_ACK)
_NOT_JSON.ext.add(key="group_ack", type=8, stringValue="{")


@pytest.mark.parametrize(
    "frame",
    [
        "text",
        b"\xff",
        pb.MSync(command=Command.PROVISION).SerializeToString(),
        _bare(pb.CommSyncDL(metaId=5)),
        _bare(pb.CommSyncDL(status=pb.Status(), metas=[message(2)])),
        codec.metas_frame([message(2, BodyType.EDIT)], 1, QUEUE, 1),
        codec.metas_frame(
            [codec.meta_bytes(APP, 2, "a", "b", group=False, at_ms=1, payload=_NOT_JSON.SerializeToString())],
            1,
            QUEUE,
            1,
        ),
    ],
)
def test_what_makes_it_throw(frame: bytes | str) -> None:
    """A server that sends this has done wrong."""
    with pytest.raises(DecodeError):
        sdk().hear([frame], 0.0)
