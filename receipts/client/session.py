"""One device's side of the protocol: from frames and wishes to frames, news and deadlines.

PURE. Nothing here waits, sends or looks at a clock: the time arrives as `now_ms` (of any clock that does not
go back), `wake_at` says when to come again, and `take_frames`, `take_news`, `take_outcomes` and
`take_changes` hand out what came of it. `connection` is the async half.

Rule 1: the state changes by `TABLE` alone; what the table lacks is the node's mistake, and the link is cut.
Rule 2: sends and questions go out as soon as the node has said welcome, marks when the replica is live.
Rule 3: the node answers in order, so an answer confirms every mark that went out before its question
(`flight` keeps count).
Rule 4: the resume token never runs ahead of the replica. A tick's updates may be cut in the middle, so a
live tick counts as held when the next one begins; what is told twice for that changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, cast

import attrs

from receipts.core.errors import Code, DecodeError, LocalProtocolError, Refused, RemoteProtocolError
from receipts.core.events import Body, HistoryCleared, MessageAccepted, MessageRecalled
from receipts.core.ids import ConversationId, Counts, DeviceId, Seq, UserId
from receipts.core.ranges import Ranges, RangeSet, ranges_of, through
from receipts.core.status import Status
from receipts.core.value import value
from receipts.wire import VERSION, commands
from receipts.wire.codec import decode_update, encode_command
from receipts.wire.commands import (
    AckPage,
    AckStatistics,
    ClearConversation,
    Command,
    Hello,
    Ping,
    RecallMessage,
    SendMessage,
)
from receipts.wire.updates import (
    Accepted,
    Answer,
    Badge,
    CatchUp,
    ConversationPart,
    Done,
    Goodbye,
    History,
    Reader,
    ReadStatistics,
    Rejected,
    Summary,
    Update,
    Welcome,
)

from .flight import Flight
from .news import News, Offline, Online, SendRefused
from .outbox import Mark, Outbox, PendingSend
from .reading import ReadingPolicy
from .replica import Replica

__all__ = [
    "COALESCE_MS",
    "FATAL",
    "HEARTBEAT_MS",
    "RETRY_FIRST_MS",
    "RETRY_MAX_MS",
    "TABLE",
    "WELCOME_MS",
    "Changes",
    "Input",
    "Profile",
    "Session",
    "State",
    "back_off_ms",
]

COALESCE_MS = 50
"""Marks wait this long for company: below what a person notices, above a burst of messages."""

RETRY_FIRST_MS = 250
RETRY_MAX_MS = 30_000
"""Between attempts to connect: the first soon, because most cuts are short; never more than half a minute,
because somebody is waiting for messages."""

HEARTBEAT_MS = 30_000
"""Until the node has said how long it waits."""

WELCOME_MS = 10_000
"""For the answer to `Hello`; hashing a password takes a busy node a while."""

FATAL = frozenset(
    {
        Code.WRONG_VERSION,
        Code.REPLACED,
        Code.LOGGED_OUT,
        Code.UNAUTHORIZED,
        Code.TOKEN_INVALID,
        Code.TOKEN_EXPIRED,
        Code.TOKEN_REVOKED,
        Code.UNKNOWN_APP,
        Code.UNKNOWN_USER,
        Code.UNKNOWN_DEVICE,
        Code.FEATURE_OFF,
        Code.INVALID,
        Code.TOO_MANY,
    }
)
"""Reasons to close a link, or to refuse a login, after which trying again would not help."""

_PASSING = frozenset({Code.BUSY, Code.SHUTTING_DOWN, Code.STORAGE_FULL, Code.RATE_LIMITED})


class State(Enum):
    """Where a session stands."""

    OFFLINE = "offline"
    """No link; `Session.reconnect_at` says when to try."""
    GREETING = "greeting"
    """`Hello` is on its way."""
    BEHIND = "behind"
    """Logged in; pages of what was missed arrive."""
    LIVE = "live"
    CLOSED = "closed"
    """For good; `Session.error` says why."""


class Input(Enum):
    """What moves a session from state to state."""

    LINK_OPENED = "link opened"
    WELCOMED = "welcomed"
    PAGE = "page"
    LAST_PAGE = "last page"
    LINK_LOST = "link lost"
    ENDED = "ended"


TABLE: Mapping[State, Mapping[Input, State]] = {
    State.OFFLINE: {Input.LINK_OPENED: State.GREETING, Input.ENDED: State.CLOSED},
    State.GREETING: {
        Input.WELCOMED: State.BEHIND,
        Input.LINK_LOST: State.OFFLINE,
        Input.ENDED: State.CLOSED,
    },
    State.BEHIND: {
        Input.PAGE: State.BEHIND,
        Input.LAST_PAGE: State.LIVE,
        Input.LINK_LOST: State.OFFLINE,
        Input.ENDED: State.CLOSED,
    },
    State.LIVE: {Input.LINK_LOST: State.OFFLINE, Input.ENDED: State.CLOSED},
    State.CLOSED: {},
}

_LINKED = (State.GREETING, State.BEHIND, State.LIVE)
_LOGGED_IN = (State.BEHIND, State.LIVE)


@value
class Profile:
    """Who a session logs in as, and how it behaves."""

    user: UserId
    device: DeviceId
    app: str = "default"
    delivery: bool = False
    """Whether to be told of deliveries of own messages."""
    share_delivered: bool = True
    """False: this device never lets others know that it holds a message."""
    share_read: bool = True
    """False: this device never lets others know what was read on it."""
    coalesce_ms: int = COALESCE_MS
    client: str = ""
    text: bool = False
    """Whether to speak JSON instead of msgpack."""


@attrs.define
class Changes:
    """What has to be saved, all at once: after it, this is what a new process knows."""

    token: str | None
    number: int
    replaced: bool
    """Everything saved of conversations and messages goes first."""
    parts: dict[ConversationId, list[ConversationPart]]
    """The whole state of each conversation that changed."""
    messages: list[MessageAccepted]
    removed: list[tuple[ConversationId, Seq]]
    sends: list[SendMessage | int]
    """New ones, and numbers of those that are settled."""
    marks: dict[ConversationId, list[Mark]]


def back_off_ms(attempt: int, chance: float) -> int:
    """How long to wait before connecting again.

    Args:
        attempt: 1 for the first one after a link was lost.
        chance: In [0, 1): spreads clients that lost their node together.

    Returns:
        Milliseconds: half to all of `RETRY_FIRST_MS` doubled for every attempt, up to `RETRY_MAX_MS`.
    """
    full = min(RETRY_MAX_MS, RETRY_FIRST_MS << min(attempt - 1, 16))
    return full // 2 + int(full / 2 * chance)


class Session:
    """What one device says and hears.

    Args:
        profile: Who it is.
        replica: What it knows; joined into as updates come.
        outbox: What it still has to say.
        policy: When an open chat sends which receipts.
        chance: Gives numbers in [0, 1), for the back-off.
        saving: Whether `take_changes` is going to be called; without, nothing is noted for it.
    """

    def __init__(
        self,
        profile: Profile,
        replica: Replica,
        outbox: Outbox,
        *,
        policy: ReadingPolicy | None = None,
        chance: Callable[[], float] = lambda: 0.5,
        saving: bool = False,
    ) -> None:
        self.profile = profile
        self.replica = replica
        self.outbox = outbox
        self.state = State.OFFLINE
        self.error: Refused | None = None
        """Why the session is closed for good."""
        self.reconnect_at: int | None = 0
        """When to open a link, in the caller's time; None while there is one, or never again."""
        self.broken: str | None = None
        """Why the link has to be dropped now; the caller aborts it and calls `link_lost`."""
        self.welcome: Welcome | None = None
        """What the node last said at login."""
        self._policy = policy or ReadingPolicy()
        self._chance = chance
        self._saving = saving
        self._rid = 0
        self._attempts = 0
        self._patience_ms = 0  # what the node asked for before the next attempt
        self._password: str | None = None
        self._login_token: str | None = None
        self._hello_rid = 0
        self._tick: int | None = None  # of the newest live update
        self._saved_token: str | None = replica.token
        self._open: dict[ConversationId, str | None] = {}  # chats on screen, with the words to answer with
        self._queue: list[Command] = []
        self._news: list[News] = []
        self._outcomes: list[tuple[int, Answer]] = []
        self._flight = Flight(replica, outbox, profile.coalesce_ms, self._next_rid)
        self._heard_at = 0
        self._asked_at = 0
        self._heartbeat_ms = HEARTBEAT_MS

    # -- what happens ----------------------------------------------------------------------------------

    def _move(self, event: Input) -> None:
        after = TABLE[self.state].get(event)
        if after is None:
            raise RemoteProtocolError(f"{event.value} while {self.state.value}")
        self.state = after

    def link_opened(self, now_ms: int, *, password: str | None = None, token: str | None = None) -> None:
        """A link stands: `Hello` is the first frame that `take_frames` gives.

        Raises:
            LocalProtocolError: There is a link already, or the session is closed.
        """
        if Input.LINK_OPENED not in TABLE[self.state]:
            raise LocalProtocolError(f"a link cannot be opened while {self.state.value}")
        self._move(Input.LINK_OPENED)
        self.reconnect_at = None
        self.broken = None
        self._heard_at = self._asked_at = now_ms
        self._hello_rid = self._next_rid()
        profile = self.profile
        hello = Hello(
            rid=self._hello_rid,
            version=VERSION,
            user=profile.user,
            device=profile.device,
            install=self.outbox.install,
            app=profile.app,
            password=password,
            token=token,
            resume=self.replica.token,
            delivery=profile.delivery,
            client=profile.client,
        )
        self._queue = [hello]

    def receive_frames(self, frames: Iterable[bytes | str], now_ms: int) -> None:
        """Take in what the node sent, in order.

        Garbage, and updates that make no sense now, set `broken`; what stood before them counts.
        """
        self._heard_at = now_ms
        for frame in frames:
            if self.state not in _LINKED or self.broken is not None:
                break
            try:
                decoded = decode_update(frame)
                if decoded is not None:  # else an update of a newer protocol (I-30)
                    self._receive(decoded[1], decoded[0], now_ms)
            except (RemoteProtocolError, DecodeError) as error:
                self.broken = str(error)
            except LocalProtocolError as error:  # an event that the machine refuses
                self.broken = f"the node said what cannot be: {error}"
        self._note_nothing()

    def _note_nothing(self) -> None:
        if not self._saving:
            self.replica.saved()
            self.outbox.saved()

    def _receive(self, update: Update, tick: int, now_ms: int) -> None:
        if self.state is State.LIVE:
            self._tick = tick
        handler = _HANDLERS.get(type(update))
        if handler is not None:
            handler(self, update, now_ms)
        elif (rid := getattr(update, "rid", None)) is not None:
            self._answered(cast(Any, update), rid)
        else:
            self._state_update(update, tick, now_ms)

    def link_lost(self, now_ms: int, reason: str = "the link is gone") -> None:
        """The link ended, or could not be opened; `reconnect_at` says when to try again."""
        if self.state is State.CLOSED:
            return
        if self.state is not State.OFFLINE:
            self._move(Input.LINK_LOST)
        self._settle_token()
        self._forget_link()
        self._attempts += 1
        wait_ms = max(back_off_ms(self._attempts, self._chance()), self._patience_ms)
        self._patience_ms = 0
        self.reconnect_at = now_ms + wait_ms
        self._news.append(Offline(reason=self.broken or reason, retry_in_ms=wait_ms))

    def _forget_link(self) -> None:
        self._queue.clear()
        self._flight.link_lost()
        for rid, command in list(self.outbox.asks.items()):
            if isinstance(command, commands.ChangePassword):  # a repeat would name the wrong old one
                del self.outbox.asks[rid]
                reason = "the link was cut before the answer: the password may have been changed or not"
                self._outcomes.append((rid, Rejected(rid=rid, code=Code.PROTOCOL_ERROR, reason=reason)))

    def timer(self, now_ms: int) -> None:
        """The time that `wake_at` named has come."""
        if self.state is State.GREETING and now_ms >= self._asked_at + WELCOME_MS:
            self.broken = "no answer to the login"
        elif self.state in _LOGGED_IN and self._flight.awaits_answer and now_ms >= self._dead_at():
            self.broken = "the node does not answer"

    def _dead_at(self) -> int:
        return max(self._heard_at, self._asked_at) + self._heartbeat_ms

    def close(self) -> None:
        """No more links; what waits for an answer stays in the outbox."""
        if self.state is not State.CLOSED:
            self._settle_token()
            self._move(Input.ENDED)
            self._forget_link()
            self.reconnect_at = None

    def _end(self, code: Code, reason: str) -> None:
        self.error = Refused(code, reason)
        self.close()

    @property
    def wake_at(self) -> int | None:
        """When to call `timer` and `take_frames` again, in the caller's time; None for no need."""
        if self.state is State.GREETING:
            return self._asked_at + WELCOME_MS
        if self.state not in _LOGGED_IN:
            return None
        at = self._dead_at() if self._flight.awaits_answer else self._asked_at + self._heartbeat_ms
        flush_at = self._flight.flush_at
        if self.state is State.LIVE and flush_at is not None and flush_at < at:
            at = flush_at
        for pending in self.outbox.sends.values():
            if 0 < pending.not_before_ms < at and not pending.sent:
                at = pending.not_before_ms
        return at

    # -- updates ---------------------------------------------------------------------------------------

    def _welcomed(self, update: Welcome, now_ms: int) -> None:
        if update.rid != self._hello_rid:
            raise RemoteProtocolError("a welcome that nobody asked for")
        self._move(Input.WELCOMED)
        self.replica.catching_up = True
        self._flight.welcomed(update.rid)
        self.welcome = update
        self._tick = None
        self._heartbeat_ms = max(update.heartbeat_ms, 1)
        self.outbox.number = max(self.outbox.number, update.number)

    def _caught_up(self, page: CatchUp, now_ms: int) -> None:
        self._move(Input.LAST_PAGE if page.live else Input.PAGE)
        if page.full:
            self.outbox.forget_owed()
        self._learn(self.replica.apply(page), now_ms)
        self.replica.token = page.token
        self._tick = None
        self._queue.append(AckPage(rid=0, token=page.token))
        if page.live:
            self._attempts = 0
            for conversation in self.outbox.marked():
                marks = self.outbox.marks(conversation)
                marks.reconcile(self.replica.chat(conversation), self.profile.user, self.profile.device)
                self._flight.schedule(now_ms)
            self._news.append(Online())

    def _state_update(self, update: Update, tick: int, now_ms: int) -> None:
        self._learn(self.replica.apply(update, tick), now_ms)

    def _learn(self, news: list[Update], now_ms: int) -> None:
        """Owe acknowledgements for what was stored, read what is on screen, tell the application."""
        arrived: dict[ConversationId, list[Seq]] = {}
        for message in self.replica.take_fresh():
            if self._stored(message, now_ms) and message.conversation in self._open:
                arrived.setdefault(message.conversation, []).append(message.seq)
        for conversation, seqs in arrived.items():
            self._on_screen(conversation, ranges_of(seqs), now_ms)
        self._news += news

    def _stored(self, message: MessageAccepted, now_ms: int) -> bool:
        """Note what is owed for a message. Returns whether it is somebody else's."""
        conversation, seq = message.conversation, message.seq
        member = self.replica.member(conversation)
        held = member.devices.get(self.profile.device)
        if held is not None and seq in held:
            return message.author != self.profile.user
        if message.author == self.profile.user:
            self.outbox.marks(conversation).bring_along(seq)
            return False
        if member.in_audience(seq):
            share = self.profile.share_delivered and member.sharing.delivered
            self.outbox.marks(conversation).owe(seq, share)
            self._flight.schedule(now_ms)
        return True

    def _statistics(self, update: ReadStatistics, now_ms: int) -> None:
        self._queue.append(AckStatistics(rid=0, through=update.through))
        self._news.append(update)

    def _goodbye(self, update: Goodbye, now_ms: int) -> None:
        self._news.append(update)
        if update.code in FATAL and not update.retry_after_ms:
            self._end(update.code, update.reason)
        else:
            self._patience_ms = update.retry_after_ms
            self.broken = f"{update.reason} ({update.code.value})"

    # -- answers ---------------------------------------------------------------------------------------

    def _answered(self, answer: Answer, rid: int) -> None:
        self._flight.answered(rid, self._heard_at)
        command = self.outbox.asks.pop(rid, None)
        if command is None:
            return
        self.outbox.asked.discard(rid)
        if isinstance(answer, History):
            self._keep_history(answer)
        elif isinstance(answer, Done):
            self._done_here(command)
        self._outcomes.append((rid, answer))

    def _keep_history(self, page: History) -> None:
        """While pages of what was missed still come, it is not known which of these messages are to be
        acknowledged: in a group that the user was let into meanwhile they would never be. Then the answer is
        for the application alone, and the pages bring what this device is to keep."""
        if self.state is not State.LIVE:
            return
        self.replica.history(page)
        for message in self.replica.take_fresh():
            self._stored(message, self._heard_at)

    def _done_here(self, command: Command) -> None:
        """The node tells other devices of these; this one knows by the answer."""
        update: Update
        if isinstance(command, RecallMessage):
            update = MessageRecalled(conversation=command.conversation, seq=command.seq, by=self.profile.user)
        elif isinstance(command, ClearConversation):
            head = self.replica.chat(command.conversation).head
            update = HistoryCleared(
                conversation=command.conversation,
                member=self.profile.user,
                through=min(command.through, head),
            )
        else:
            return
        self._news += self.replica.apply(update)

    def _accepted(self, update: Accepted, now_ms: int) -> None:
        self._flight.answered(update.rid, now_ms)
        pending = self.outbox.settle_send(update.number)
        if pending is None:
            return
        device = self.profile.device
        message = MessageAccepted(
            update.conversation,
            update.seq,
            update.message_id,
            self.profile.user,
            device,
            update.at_ms,
            pending.body,
            pending.counts,
            pending.asks,
        )
        self.replica.apply(message)
        self.replica.take_fresh()
        self._outcomes.append((pending.rid, update))
        self._news.append(update)

    def _rejected(self, update: Rejected, now_ms: int) -> None:
        rid = update.rid
        if rid == self._hello_rid and self.state is State.GREETING:
            self._login_refused(update)
            return
        marks_refused = self._flight.refused(update, now_ms)
        if marks_refused is not None:
            self._news += marks_refused
        elif rid in self.outbox.asks:
            del self.outbox.asks[rid]
            self.outbox.asked.discard(rid)
            self._outcomes.append((rid, update))
        else:
            self._send_refused(update, now_ms)

    def _login_refused(self, update: Rejected) -> None:
        if update.retry_after_ms or update.code in _PASSING:
            self._patience_ms = update.retry_after_ms
            self.broken = f"{update.reason} ({update.code.value})"
        else:
            self._end(update.code, update.reason)

    def _send_refused(self, update: Rejected, now_ms: int) -> None:
        pending = next((p for p in self.outbox.sends.values() if p.rid == update.rid), None)
        if pending is None:
            return
        if update.retry_after_ms and not pending.attended:
            pending.sent = False
            pending.not_before_ms = now_ms + update.retry_after_ms
            return
        self.outbox.settle_send(pending.number)
        self._outcomes.append((pending.rid, update))
        if not pending.attended:
            self._news.append(
                SendRefused(
                    conversation=pending.conversation,
                    number=pending.number,
                    code=update.code,
                    reason=update.reason,
                )
            )

    # -- wishes ----------------------------------------------------------------------------------------

    def _next_rid(self) -> int:
        self._rid += 1
        return self._rid

    def _check_open(self) -> None:
        if self.error is not None:
            raise Refused(self.error.code, self.error.reason)
        if self.state is State.CLOSED:
            raise LocalProtocolError("this connection is closed")

    def send(
        self, conversation: ConversationId, body: Body, *, counts: Counts = Counts.YES, asks: bool = False
    ) -> PendingSend:
        """Keep a message until the node has it; its answer comes as an outcome under `PendingSend.rid`.

        Raises:
            Refused: The session ended for good; `error` says why.
            LocalProtocolError: The connection is closed.
        """
        self._check_open()
        return self.outbox.send(self._next_rid(), conversation, body, counts, asks)

    def ask(self, make: Callable[[int], Command]) -> int:
        """Send a command that is answered, and repeat it after a reconnect.

        Args:
            make: Gets the rid.

        Returns:
            The rid, under which the answer comes as an outcome.

        Raises:
            Refused: The session ended for good; `error` says why.
            LocalProtocolError: The connection is closed.
        """
        self._check_open()
        rid = self._next_rid()
        self.outbox.asks[rid] = make(rid)
        return rid

    def forget(self, rid: int) -> None:
        """Nobody waits for this answer any more. A message goes out all the same."""
        self.outbox.asks.pop(rid, None)
        self.outbox.asked.discard(rid)
        for pending in self.outbox.sends.values():
            if pending.rid == rid:
                pending.attended = False

    def read(self, conversation: ConversationId, last: Seq | None, now_ms: int) -> None:
        """Everything up to and including `last` is read (the newest message here when left out).

        Raises:
            LocalProtocolError: `last` is a message that this device has not seen.
        """
        self._check_open()
        newest = max(self.replica.last(conversation), self.replica.chat(conversation).head)
        last = self.replica.last(conversation) if last is None else last
        if not 0 <= last <= newest:
            raise LocalProtocolError(f"#{last} was never on screen: the newest message here is #{newest}")
        local = self.outbox.local(conversation)
        fresh = self.replica.unreported(conversation, last, local)
        if fresh or (last and self._clears_mark(conversation, through(last))):
            share, known = self._reader(conversation)
            self.outbox.marks(conversation).read_conversation(last, share, known)
            self._flight.schedule(now_ms)

    def read_messages(
        self, conversation: ConversationId, seqs: Iterable[Seq], content: str | None, now_ms: int
    ) -> None:
        """These messages are read, by name; those that asked are answered.

        Raises:
            LocalProtocolError: One of them is a message that this device has not seen.
            Refused: `not_asked`: there is `content`, and a message here did not ask; `own_message`.
        """
        self._check_open()
        wanted = ranges_of(seqs)
        if not wanted:
            return
        replica = self.replica
        chat = replica.chat(conversation)
        newest = max(replica.last(conversation), chat.head)
        if wanted[0] < 1 or wanted[-1] > newest + 1:
            raise LocalProtocolError(f"#{wanted[-1] - 1} was never on screen: the newest is #{newest}")
        answers = replica.asking(conversation, wanted)
        if content is not None:
            self._check_asked(conversation, RangeSet(answers).missing(wanted))
            answers = wanted
        fresh = replica.unreported(conversation, wanted[-1] - 1, self.outbox.local(conversation))
        named = RangeSet(answers).missing(RangeSet(fresh).within(wanted))
        share, known = self._reader(conversation)
        if answers and (content is not None or share):
            self.outbox.marks(conversation).answer(answers, content, share, known)
            self._flight.schedule(now_ms)
        elif answers:  # in private: read, and nobody is answered
            named = RangeSet(fresh).within(wanted)
        if not named and not answers and self._clears_mark(conversation, wanted):
            named = self._by_others(conversation, wanted)
        if named:
            self.outbox.marks(conversation).read_messages(named, share, known)
            self._flight.schedule(now_ms)

    def _by_others(self, conversation: ConversationId, seqs: Ranges) -> Ranges:
        """`seqs` without those that are known here as the user's own: an author reads nothing by name."""
        kept = ((seq, self.replica.message(conversation, seq)) for seq in RangeSet(seqs))
        return ranges_of(seq for seq, one in kept if one is None or one.author != self.profile.user)

    def _check_asked(self, conversation: ConversationId, others: Ranges) -> None:
        for seq in RangeSet(others):
            message = self.replica.message(conversation, seq)
            if message is not None and message.author == self.profile.user:
                raise Refused(Code.OWN_MESSAGE, f"#{seq} is your own message")
            if message is not None and not message.asks:
                raise Refused(Code.NOT_ASKED, f"#{seq} did not ask for receipts; leave the content out")

    def _reader(self, conversation: ConversationId) -> tuple[bool, int]:
        """Whether others may know of a read now, and the unread mark that this device knows."""
        member = self.replica.member(conversation)
        return self.profile.share_read and member.sharing.read, member.unread_mark.version

    def _clears_mark(self, conversation: ConversationId, ranges: Ranges) -> bool:
        """Whether reading `ranges` would change the unread mark that this device knows."""
        if not self.marked_unread(conversation):
            return False
        mark = self.replica.member(conversation).unread_mark
        return mark.flagged or bool(RangeSet(mark.ranges).within(ranges))

    def open_chat(self, conversation: ConversationId, now_ms: int, content: str | None = None) -> None:
        """The user looks at a conversation: the policy says what that reads, now and while it is open.

        Args:
            content: Words to answer with where messages ask.
        """
        self._check_open()
        self._open[conversation] = content
        last = self.replica.last(conversation)
        unread = self.replica.unreported(conversation, last, self.outbox.local(conversation))
        wishes = self._policy.opened(
            unread=unread,
            asking=self.replica.asking(conversation, unread),
            last=last,
            marked=self.marked_unread(conversation),
        )
        if wishes.through:
            self.read(conversation, wishes.through, now_ms)
        self._name(conversation, wishes.named, wishes.answers, now_ms)

    def close_chat(self, conversation: ConversationId) -> None:
        """The user looks elsewhere."""
        self._open.pop(conversation, None)

    def _on_screen(self, conversation: ConversationId, seqs: Ranges, now_ms: int) -> None:
        """Messages of others have come into an open chat."""
        last = seqs[-1] - 1
        unread = self.replica.unreported(conversation, last, self.outbox.local(conversation))
        unread = RangeSet(unread).within(seqs)
        if unread:
            asking = self.replica.asking(conversation, unread)
            wishes = self._policy.arrived(unread=unread, asking=asking)
            if wishes.through:
                self.read(conversation, min(wishes.through, last), now_ms)
            self._name(conversation, wishes.named, wishes.answers, now_ms)

    def _name(self, conversation: ConversationId, named: Ranges, answers: Ranges, now_ms: int) -> None:
        if named:
            self.read_messages(conversation, RangeSet(named), None, now_ms)
        if answers:
            share, _ = self._reader(conversation)
            content = self._open.get(conversation) if share else None
            self.read_messages(conversation, RangeSet(answers), content, now_ms)

    def flush(self, now_ms: int) -> None:
        """Send marks now, and ask the node to confirm them."""
        self._flight.flush(now_ms)

    @property
    def flushed(self) -> bool:
        """Whether the node is known to have every mark."""
        return self._flight.flushed

    # -- what comes out --------------------------------------------------------------------------------

    def take_news(self) -> list[News]:
        """What the application is to be told, in order."""
        news, self._news = self._news, []
        return news

    def take_outcomes(self) -> list[tuple[int, Answer]]:
        """Answers to what was sent and asked, by rid; a `Rejected` among them is a refusal."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def take_frames(self, now_ms: int) -> list[bytes | str]:
        """What goes to the node now, in one batch.

        With a saved replica: after calling this method you must save what `take_changes` gave just before,
        and only then send the frames; they promise the node that it is saved.
        """
        if self.state not in _LINKED or self.broken is not None:
            return []
        out, self._queue = self._queue, []
        outbox = self.outbox
        if self.state in _LOGGED_IN:
            asks: list[Command] = []
            if outbox.asks:
                asks += [command for rid, command in outbox.asks.items() if rid not in outbox.asked]
            if self.state is State.LIVE and self._flight.due(now_ms, asking=bool(asks)):
                out += self._flight.take(now_ms)
            if outbox.sends:
                out += self._take_sends(now_ms)
            outbox.asked.update(outbox.asks)
            out += asks
        frames = [self._encode(command, now_ms) for command in out] if out else []
        if self.state in _LOGGED_IN and self._ping_due(now_ms):
            frames.append(self._encode(Ping(rid=self._next_rid()), now_ms))
        self._note_nothing()
        return frames

    def _take_sends(self, now_ms: int) -> list[Command]:
        found: list[Command] = []
        for pending in self.outbox.sends.values():
            if not pending.sent and pending.not_before_ms <= now_ms:
                pending.sent = True
                pending.not_before_ms = 0
                pending.rid = pending.rid or self._next_rid()
                found.append(pending.command())
        return found

    def _ping_due(self, now_ms: int) -> bool:
        if self._flight.awaits_answer:
            return False  # an answer is on its way already
        return now_ms >= self._asked_at + self._heartbeat_ms or self._flight.needs_question

    def _encode(self, command: Command, now_ms: int) -> bytes | str:
        command = self._flight.sent(command)
        if command.rid:
            self._asked_at = now_ms
        return encode_command(command, text=self.profile.text)

    def _settle_token(self) -> None:
        self.replica.token = self.token

    @property
    def token(self) -> str | None:
        """Where a new link resumes: what happened up to there is in the replica."""
        if self._tick is None or self.welcome is None:
            return self.replica.token
        return f"{self.welcome.prefix}{max(self._tick - 1, 0)}"

    def take_changes(self) -> Changes | None:
        """What has to be saved since the last call; None for nothing."""
        replica, outbox = self.replica, self.outbox
        token = self.token
        dirty = replica.touched or replica.arrived or replica.removed or replica.replaced
        if not (dirty or outbox.touched_sends or outbox.touched_marks or token != self._saved_token):
            return None
        self._saved_token = token
        changes = Changes(
            token=token,
            number=outbox.number,
            replaced=replica.replaced,
            parts={name: list(replica.parts(name)) for name in sorted(replica.touched)},
            messages=list(replica.arrived),
            removed=list(replica.removed),
            sends=[
                outbox.sends[number].command() if number in outbox.sends else number
                for number in sorted(outbox.touched_sends)
            ],
            marks={name: outbox.saved_marks(name) for name in sorted(outbox.touched_marks)},
        )
        replica.saved()
        outbox.saved()
        return changes

    # -- what the application sees: the replica, over it what was read here and is not confirmed --------

    def unread(self, conversation: ConversationId) -> int:
        """How many messages wait unread."""
        return self.replica.unread(conversation, self.outbox.local(conversation))

    def unread_seqs(self, conversation: ConversationId) -> list[Seq]:
        """The seqs behind `unread`, rising."""
        return self.replica.unread_seqs(conversation, self.outbox.local(conversation))

    def marked_unread(self, conversation: ConversationId) -> bool:
        """Whether the conversation is marked as unread."""
        return self.replica.marked_unread(conversation, self.outbox.local(conversation))

    def conversations(self) -> tuple[Summary, ...]:
        """The user's conversations, the one with the latest message first."""
        return self.replica.conversations(self.outbox.local)

    def badge(self) -> Badge:
        """Unread over all conversations, muted ones apart."""
        return self.replica.badge(self.outbox.local)

    def status(self, conversation: ConversationId, seq: Seq, member: UserId | None = None) -> Status:
        """As `Replica.status`."""
        return self.replica.status(conversation, seq, member)

    def readers(self, conversation: ConversationId, seq: Seq) -> tuple[Reader, ...]:
        """As `Replica.readers`."""
        return self.replica.readers(conversation, seq)


_HANDLERS: dict[type, Callable[[Session, Any, int], None]] = {
    Welcome: Session._welcomed,
    CatchUp: Session._caught_up,
    Accepted: Session._accepted,
    Rejected: Session._rejected,
    Goodbye: Session._goodbye,
    ReadStatistics: Session._statistics,
}
