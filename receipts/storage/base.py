"""The contract of a store: rows in, rows out, one atomic and durable commit at a time.

What is stored is joined state, not a log: a message is one row, and receipts replace rows. Every row carries
the number of the tick that last changed it, so that what changed since a device was last here is a query.
A send writes its message row and nothing else: the author's own marks in it are folded back in when the
conversation is loaded (`ConversationRow.folded_through` says from where), which halves the cost of sending.

Stores block. Who calls them decides on which thread; they are used from one thread at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import attrs

from receipts.core.errors import ReceiptsError
from receipts.core.events import Body
from receipts.core.ids import AppId, ConversationId, DeviceId, Seq, UserId, Version
from receipts.core.ranges import Ranges

__all__ = [
    "SCANNED_MAX",
    "AppRow",
    "AskRow",
    "Batch",
    "Changed",
    "ConversationRow",
    "ConversationRows",
    "DeviceRow",
    "GroupReceiptRow",
    "InstallRow",
    "MarkRow",
    "MemberRow",
    "MessageRow",
    "MetaRow",
    "Owed",
    "QueueRow",
    "ResumePage",
    "Sent",
    "Start",
    "Store",
    "StoreCorrupt",
    "StoreFailed",
    "StoreFull",
    "StoreLocked",
    "SummaryRows",
    "ToldRow",
    "UserRow",
    "UserRows",
    "scanned_to",
]

# -- errors


class StoreFull(ReceiptsError):
    """There is no room; the commit was undone and nothing changed. Reading goes on."""


class StoreFailed(ReceiptsError):
    """The disk failed, or what was written may not be there: the process has to stop."""


class StoreCorrupt(ReceiptsError):
    """What is on disk is not a store of ours, or is damaged; the message names the way out."""


class StoreLocked(ReceiptsError):
    """Another process owns the data."""


# -- rows


class MetaRow(NamedTuple):
    """One row: the node's counters as of the last commit. None of them ever goes back."""

    life: str
    """Id of this history of the data; a new one makes all resume tokens start from the beginning."""
    tick: int
    version: Version
    message_id: int
    """The highest given."""
    key: int
    """The highest conversation or install key given."""
    node_time_ms: int
    secret: bytes
    """Signs tokens of this node when the operator gave no key."""


class AppRow(NamedTuple):
    """A tenant."""

    app: AppId
    settings: str
    """JSON: features and limits that differ from the defaults; policy.py names them."""


class UserRow(NamedTuple):
    """An account; the key is (app, user)."""

    app: AppId
    user: UserId
    password_hash: str
    """Empty: password login is off."""
    token_epoch: int
    """Tokens made for an earlier epoch are revoked."""
    share_delivered: bool
    share_read: bool
    statistics_tick: int
    """Group receipts up to and including this tick have been told to the user (R9)."""
    created_ms: int
    removed: bool


class DeviceRow(NamedTuple):
    """A device of a user; the key is (app, user, device)."""

    app: AppId
    user: UserId
    device: DeviceId
    since_tick: int
    """The tick at which it became known: messages up to then are not asked of it."""
    seen_ms: int
    client: str
    removed: bool


class QueueRow(NamedTuple):
    """For a device that keeps nothing itself: how far it came. The key is (app, user, device)."""

    app: AppId
    user: UserId
    device: DeviceId
    position: str
    """All up to here has arrived: a tick, and behind a colon the cursor of `Store.resume` if there is one."""
    start: int
    """A `Start`: what the device gets, until it has caught up for the first time."""
    login_ms: int
    """Node time of its last login; higher at each."""


class ToldRow(NamedTuple):
    """What such a device has been told of a conversation; the key is (key, user, device)."""

    key: int
    user: UserId
    device: DeviceId
    told: bytes
    """`codec.pack_told`."""


class InstallRow(NamedTuple):
    """A stored outbox of a user, under which numbers of sends are unique."""

    key: int
    app: AppId
    user: UserId
    install: str


class ConversationRow(NamedTuple):
    """A conversation; the key is `key`, unique as well is (app, conversation)."""

    key: int
    app: AppId
    conversation: ConversationId
    tick: int
    folded_through: Seq
    """Messages up to and including this one are in their authors' marks; later ones are folded in on load."""
    expired_through: Seq
    receipts_expired_through: Seq
    registers: bytes
    """msgpack: see `storage.codec`."""


class MemberRow(NamedTuple):
    """What rarely changes of a member: periods, cleared_through, registers, sharing, unread mark."""

    key: int
    app: AppId
    user: UserId
    tick: int
    state: bytes


class MarkRow(NamedTuple):
    """What receipts change of a member: read, read_shared, delivered_shared, held by device; advances."""

    key: int
    user: UserId
    tick: int
    marks: bytes
    advances: bytes


class MessageRow(NamedTuple):
    """A message; the key is (key, seq). Recalling it (`Batch.recalls`) empties the body and fills the last
    three fields."""

    key: int
    seq: Seq
    message_id: int
    tick: int
    """Of acceptance; rises with seq."""
    author: UserId
    device: DeviceId
    at_ms: int
    counts: int
    asks: bool
    shares: int
    install_key: int
    number: int
    """(install_key, number) is unique when install_key is not 0."""
    body: Body
    recalled_tick: int
    recalled_by: UserId
    recalled_ms: int


class AskRow(NamedTuple):
    """A message that asked for group receipts, while they are kept; the key is (key, seq)."""

    key: int
    seq: Seq
    app: AppId
    author: UserId
    expires_ms: int
    tick: int
    """Of the latest answer, or of the message while there is none."""


class GroupReceiptRow(NamedTuple):
    """One answer; the key is (key, seq, reader)."""

    key: int
    seq: Seq
    reader: UserId
    version: Version
    at_ms: int
    content: str
    tick: int


@attrs.define(slots=True)
class Batch:
    """One commit: rows to insert or replace, and what to delete. All lists may be empty."""

    meta: MetaRow
    apps: list[AppRow] = attrs.Factory(list)
    users: list[UserRow] = attrs.Factory(list)
    devices: list[DeviceRow] = attrs.Factory(list)
    installs: list[InstallRow] = attrs.Factory(list)
    queues: list[QueueRow] = attrs.Factory(list)
    told: list[ToldRow] = attrs.Factory(list)
    conversations: list[ConversationRow] = attrs.Factory(list)
    members: list[MemberRow] = attrs.Factory(list)
    marks: list[MarkRow] = attrs.Factory(list)
    messages: list[MessageRow] = attrs.Factory(list)
    """New ones."""
    recalls: list[tuple[int, Seq, int, UserId, int]] = attrs.Factory(list)
    """(conversation key, seq, tick, by, at_ms): applied after `messages`; both may be in one batch."""
    asks: list[AskRow] = attrs.Factory(list)
    receipts: list[GroupReceiptRow] = attrs.Factory(list)
    expired_receipts: list[tuple[int, Seq]] = attrs.Factory(list)
    """(conversation key, through): asks and receipts up to and including that seq go."""
    expired_messages: list[tuple[int, Seq]] = attrs.Factory(list)
    """(conversation key, through): messages, asks and receipts up to and including that seq go."""


# -- answers


class UserRows(NamedTuple):
    """All of one account."""

    user: UserRow
    devices: list[DeviceRow]
    """Removed ones included."""


class ConversationRows(NamedTuple):
    """All that the machine needs of one conversation; bodies are not among it."""

    row: ConversationRow
    head: Seq
    members: list[MemberRow]
    marks: list[MarkRow]
    unfolded: list[MessageRow]
    """Messages behind `row.folded_through`, rising, bodies empty."""
    recent: list[MessageRow]
    """The newest few (`RECENT`), rising, bodies empty; overlaps with `unfolded`."""
    recalled: Ranges
    uncounted: Ranges
    asks: list[AskRow]
    receipts: list[GroupReceiptRow]


class Sent(NamedTuple):
    """What became of an earlier send."""

    app: AppId
    conversation: ConversationId
    seq: Seq
    message_id: int
    at_ms: int
    number: int


class Start(IntEnum):
    """What a device that keeps nothing itself is given."""

    KNOWN = 0
    """What changed since it was there, as far as it has not arrived."""
    ANOTHER = 1
    """It is new, and the user has others of its kind: what arrived at no device of the user."""
    FIRST = 2
    """It is the user's first of its kind: messages as above, no receipts for what was before it."""


class Owed(NamedTuple):
    """What a device that keeps nothing itself has not been told yet of a conversation."""

    peer: UserId
    """The other one in a one-to-one conversation, of whom all this is; empty in a group."""
    delivered: Ranges
    """Newly, and not read either."""
    read: Ranges
    settled: Ranges
    """What is not told any more, but is to be noted as told (`Start.FIRST`): both delivered and read."""
    all_read: bool
    """Whether no message of the user is left that the peer has not read, as far as that may be known."""
    by_conversation: bool
    """Whether the peer's last read was of the conversation, not of messages by name."""
    seen_through: Seq
    """The peer's last message, if the user has read all of theirs; else 0."""
    answered: Version
    """The device knows of all answers to asking messages up to and including this version."""
    answered_elsewhere: Version
    """Likewise some other device of the user's, of its kind."""
    own: list[MessageRow]
    """The user's own messages among `delivered`, `read` and the changed asks, rising, bodies empty."""
    recalled: list[MessageRow]
    """What the device may have and was recalled since, rising."""
    told: bytes | None
    """As the device's `ToldRow` has it."""


class Changed(NamedTuple):
    """What changed of one conversation since a tick, as far as rows go; who may see what is judged later."""

    row: ConversationRow
    head: Seq
    members: list[MemberRow]
    """Changed since."""
    mine: MemberRow
    """The asking user's own, changed or not."""
    marks: list[MarkRow]
    """Changed since."""
    messages: list[MessageRow]
    """Accepted since and readable for the user, rising, recalled ones without body; one page's share."""
    recalled: Ranges
    """Recalled since (whenever they were accepted)."""
    uncounted: Ranges
    """Of the whole conversation in a full state, else of `messages`."""
    first_seq: Seq
    """Of a full state: messages below are left to history. 1 when nothing was left out."""
    asks: list[AskRow]
    """Changed since."""
    receipts: list[GroupReceiptRow]
    """All of those of `asks`."""
    owed: Owed | None = None
    """Only with `Store.resume(device=…)`, on the last page of the conversation."""


class ResumePage(NamedTuple):
    """A page of what changed since a tick."""

    items: list[Changed]
    tick: int
    """The store's last commit: with `cursor` empty, everything up to and including it has been given."""
    cursor: str
    """Where the next page begins; empty when this was the last."""


class SummaryRows(NamedTuple):
    """One line of a conversation list, before counting."""

    row: ConversationRow
    head: Seq
    member: MemberRow
    mark: MarkRow | None
    unfolded: list[MessageRow]
    """Of this user only, bodies empty."""
    recalled: Ranges
    uncounted: Ranges
    last: MessageRow | None
    """The newest message that is not recalled, with body."""


RECENT = 64
"""Messages per conversation whose author and id stay at hand: receipts are mostly for what is on screen."""


SCANNED_MAX = 1000
"""Conversations looked through at once in search of groups: a few milliseconds."""


def scanned_to(rows: Sequence[ConversationRow]) -> ConversationId:
    """The second part of what `Store.groups` answers."""
    return rows[-1].conversation if len(rows) == SCANNED_MAX else ""


class Store(ABC):
    """Where joined state becomes durable.

    All methods block. None of them is called while another one runs. After `StoreFailed` the store must not
    be used but for `close`.
    """

    @abstractmethod
    def open(self, *, now_ms: int, life: str, secret: bytes) -> MetaRow:
        """Open, creating and migrating as needed, and return the counters.

        Args:
            now_ms, life, secret: For the meta row of a store that is new.

        Raises:
            StoreLocked: Another process has it.
            StoreCorrupt: It is damaged, or newer than this program.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of it; idempotent. Nothing that was committed is lost."""

    @abstractmethod
    def commit(self, batch: Batch) -> None:
        """Write all of `batch` or nothing; on return it is durable.

        Raises:
            StoreFull: Undone; the store can go on.
            StoreFailed: Unknown; the process has to stop.
        """

    @abstractmethod
    def new_life(self, life: str) -> None:
        """Begin a new history: resume tokens of the old one start from the beginning."""

    # what the hub asks before it can judge

    @abstractmethod
    def apps(self) -> list[AppRow]:
        """All tenants that were ever configured."""

    @abstractmethod
    def user(self, app: AppId, user: UserId) -> UserRows | None:
        """An account, removed ones included."""

    @abstractmethod
    def users(self, app: AppId, after: UserId, limit: int) -> list[UserRow]:
        """Accounts by name, after one (exclusive)."""

    @abstractmethod
    def install(self, app: AppId, user: UserId, install: str) -> tuple[InstallRow, int] | None:
        """A stored outbox and the highest number of a send under it (0 for none)."""

    @abstractmethod
    def queue(self, app: AppId, user: UserId, device: DeviceId) -> tuple[QueueRow | None, bool]:
        """How far a device came that keeps nothing itself, and whether the user has others of its kind."""

    @abstractmethod
    def told(self, key: int, user: UserId, device: DeviceId) -> ToldRow | None:
        """What such a device has been told of a conversation."""

    @abstractmethod
    def sent(self, install_key: int, number: int) -> Sent | None:
        """What became of a send."""

    @abstractmethod
    def conversation(self, app: AppId, conversation: ConversationId) -> ConversationRows | None:
        """Everything of a conversation that judging needs."""

    @abstractmethod
    def conversations_of(self, app: AppId, user: UserId) -> list[ConversationId]:
        """All conversations that a user was ever a member of, by key."""

    @abstractmethod
    def all_conversations(self, after_key: int, limit: int) -> list[tuple[int, AppId, ConversationId]]:
        """Conversations of all apps by key, after one (exclusive): for verification and upkeep."""

    @abstractmethod
    def groups(self, app: AppId, after: ConversationId) -> tuple[list[ConversationRow], ConversationId]:
        """Groups of an app by id, after one (exclusive), dissolved ones included: those among the next
        `SCANNED_MAX` conversations; and the id up to which was looked, empty when that was the end."""

    @abstractmethod
    def messages(self, key: int, seqs: Sequence[Seq]) -> list[MessageRow]:
        """These messages, rising, bodies empty; unknown ones are left out."""

    @abstractmethod
    def seq_of(self, key: int, message_id: int) -> Seq:
        """The message of a conversation with this id; 0 when there is none."""

    @abstractmethod
    def authored(self, key: int, user: UserId, start: Seq, stop: Seq) -> Ranges:
        """Which messages of [start, stop) a user wrote."""

    @abstractmethod
    def head_at(self, key: int, tick: int) -> Seq:
        """The highest seq accepted up to and including a tick; 0 for none."""

    @abstractmethod
    def asked_between(self, key: int, start_ms: int) -> int:
        """How many messages of a conversation asked for receipts since a time (inclusive), of those kept."""

    @abstractmethod
    def due_receipts(self, now_ms: int, limit: int) -> list[tuple[AppId, ConversationId, Seq]]:
        """Conversations with receipts that expire at or before now, each with the highest such message."""

    @abstractmethod
    def next_due_receipt(self, after_ms: int) -> int | None:
        """When the next receipts expire, after a time (exclusive)."""

    @abstractmethod
    def due_messages(self, app: AppId, before_ms: int, limit: int) -> list[tuple[AppId, ConversationId, Seq]]:
        """Conversations of an app with messages accepted before a time (exclusive), each with the highest
        such seq."""

    # what is answered straight from storage

    @abstractmethod
    def history(self, key: int, ranges: Ranges, limit: int) -> list[MessageRow]:
        """The newest `limit` messages within `ranges`, rising, recalled ones without body."""

    @abstractmethod
    def resume(
        self,
        app: AppId,
        user: UserId,
        *,
        since: int,
        cursor: str,
        bytes_max: int,
        snapshot_messages: int,
        device: DeviceId = "",
        start: int = Start.KNOWN,
        known_tick: int = 0,
    ) -> ResumePage:
        """What changed since a tick (exclusive) in the conversations of a user, in pages.

        Args:
            device: One that keeps nothing itself: messages that it holds are left out, and with each
                conversation comes what else it is owed.
            start: For such a device, a `Start`.
            known_tick: When the device became known. `start` is about what was there by then; what came later
                it is owed like any other.
            since: -1 for the full state: then at most the newest `snapshot_messages` of each conversation.
            cursor: Of the page before; empty for the first.
            bytes_max: Roughly, of bodies in a page; at least one message or one conversation is given.
        """

    @abstractmethod
    def summaries(self, app: AppId, user: UserId, cursor: str, limit: int) -> tuple[list[SummaryRows], str]:
        """A user's current conversations, the one with the latest message first, and the next cursor."""

    @abstractmethod
    def statistics(self, app: AppId, user: UserId, since: int) -> list[tuple[ConversationId, Seq, int, int]]:
        """Asking messages of a user with an answer after a tick (exclusive): (conversation, seq, readers,
        message id)."""
