"""What the oracle remembers: every (message, member, level) as one bit, and all answers worked out from them.

A set of messages is an `int` with the bit of each seq set: nothing here knows of ranges, joins or versions,
and no answer is kept. What happens to these facts is in `oracle`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from receipts.core.events import Body, Role
from receipts.core.ids import AppId, ConversationId, DeviceId, Seq, UserId, direct_members

__all__ = ["Account", "Fact", "Known", "Login", "Person", "Talk", "bit_runs", "bits", "seqs_of_bits", "up_to"]

READ_TIMES = 32
"""How many of a member's shared reads have a time."""


def up_to(seq: Seq) -> int:
    """{1 … seq}, inclusive."""
    return (2 << seq) - 2


def bits(ranges: Sequence[int], last: Seq) -> int:
    """Half-open ranges as a set, without what is beyond `last` (inclusive)."""
    if not ranges:
        return 0
    if len(ranges) == 2 and ranges[1] <= last:  # the usual one
        return (1 << ranges[1]) - (1 << ranges[0])
    found = 0
    for start, stop in zip(ranges[::2], ranges[1::2], strict=True):
        if start > last:
            break
        found |= (1 << (stop if stop <= last else last + 1)) - (1 << start)
    return found


def bit_runs(found: int) -> int:
    """How many runs of neighbours a set is made of."""
    return (found & ~(found << 1)).bit_count()


def seqs_of_bits(found: int) -> Iterator[Seq]:
    """The seqs in a set, rising."""
    while found:
        lowest = found & -found
        yield lowest.bit_length() - 1
        found ^= lowest


class Fact:
    """A message."""

    __slots__ = (
        "asks",
        "at_ms",
        "author",
        "body",
        "counts",
        "device",
        "install",
        "message_id",
        "number",
        "seq",
        "shares",
        "tick",
    )

    def __init__(
        self,
        seq: Seq,
        author: UserId,
        device: DeviceId,
        at_ms: int,
        tick: int,
        body: Body,
        counts: int,
        asks: bool,
        install: str,
        number: int,
    ) -> None:
        self.seq = seq
        self.author = author
        self.device = device
        self.at_ms = at_ms
        self.tick = tick
        """In which it was decided."""
        self.body = body
        self.counts = counts
        """0: it counts as unread."""
        self.asks = asks
        self.install = install
        self.number = number
        self.shares = 0
        """What of the author's sharing was on: 1 for deliveries, 2 for reads."""
        self.message_id = 0
        """As the node said; 0 before that."""


class Person:
    """What happened with one member of one conversation."""

    __slots__ = (
        "again",
        "cleared",
        "delivered",
        "delivered_line",
        "flagged",
        "held",
        "mark_version",
        "muted",
        "periods",
        "read",
        "read_line",
        "read_shared",
        "role",
        "shared_reads",
        "shares_delivered",
        "shares_read",
        "user",
        "withheld",
        "wrote",
    )

    def __init__(self, user: UserId) -> None:
        self.user = user
        self.wrote = 0
        self.read = 0
        """With what was written."""
        self.read_shared = 0
        self.delivered = 0
        """What others may know as delivered."""
        self.withheld = 0
        """What a device declined to tell of."""
        self.held: dict[DeviceId, int] = {}
        self.periods: tuple[tuple[Seq, Seq | None], ...] = ()
        """(first, last) of each membership, both inclusive; None while it lasts."""
        self.cleared = 0
        self.flagged = False
        self.again = 0
        """Marked as unread again."""
        self.mark_version = 0
        """As the node said: which of its marks this is."""
        self.shares_read = self.shares_delivered = True
        self.read_line = self.delivered_line = 0
        """Through where nothing is ever known, because sharing was off."""
        self.muted = False
        self.role = Role.MEMBER
        self.shared_reads: tuple[tuple[int, int], ...] = ()
        """(when, which), in order."""

    @property
    def joined(self) -> bool:
        return bool(self.periods) and self.periods[-1][1] is None

    def had(self, seq: Seq) -> bool:
        """Whether a message was for this member, its author apart."""
        return any(first <= seq and (last is None or seq <= last) for first, last in self.periods)

    def may_open(self, head: Seq, floor: Seq, open_history: bool = False) -> int:
        """What a member may be given: all that was sent while in it, and not cleared or expired since.

        Args:
            open_history: With what was there before the first time.
        """
        found = 0
        for index, (first, last) in enumerate(self.periods):
            start = 1 if open_history and index == 0 else first
            found |= up_to(head if last is None else last) & ~up_to(start - 1)
        return found & ~up_to(max(floor, self.cleared))


class Talk:
    """What happened in one conversation."""

    __slots__ = (
        "app",
        "asked",
        "asks",
        "description",
        "dissolved",
        "due",
        "expired",
        "facts",
        "id",
        "name",
        "pair",
        "people",
        "recalled",
        "receipts_expired",
        "uncounted",
        "version",
    )

    def __init__(self, app: AppId, conversation: ConversationId) -> None:
        self.app = app
        self.id = conversation
        self.pair = direct_members(conversation)
        self.facts: list[Fact] = []
        """By seq - 1."""
        self.people: dict[UserId, Person] = {}
        self.recalled = 0
        self.uncounted = 0
        self.asks = 0
        """Messages that asked."""
        self.asked: dict[Seq, dict[UserId, tuple[int, str]]] = {}
        """Who answered them, when, with what words; until they expire."""
        self.due: dict[Seq, int] = {}
        """When the answers of each expire."""
        self.expired = 0
        """Messages through this one are gone; likewise answers."""
        self.receipts_expired = 0
        self.name = ""
        self.description = ""
        self.dissolved = False
        self.version = 0
        """The highest that the node has given here."""

    @property
    def head(self) -> Seq:
        return len(self.facts)

    def members(self) -> list[UserId]:
        """Who is in it now."""
        return [user for user, person in self.people.items() if person.joined]

    def gone(self) -> int:
        """Messages that there are no more."""
        return self.recalled | up_to(self.expired)

    # -- what a member sees

    def floor(self, person: Person) -> Seq:
        """The first message that may count; head + 1 for who is not in."""
        if not person.joined:
            return self.head + 1
        return min(max(person.periods[-1][0], person.cleared + 1, self.expired + 1), self.head + 1)

    def visible(self, person: Person) -> int:
        """What may count."""
        periods = person.periods
        if not periods or periods[-1][1] is not None:
            return 0
        floor = max(periods[-1][0] - 1, person.cleared, self.expired)
        head = len(self.facts)
        return (2 << head) - (2 << floor) if floor < head else 0

    def unread(self, person: Person) -> int:
        """What waits unread."""
        seen = self.visible(person)
        return seen & (~person.read | person.again) & ~self.recalled & ~self.uncounted

    def marked(self, person: Person) -> bool:
        """Whether it is marked as unread by hand."""
        return person.flagged or bool(person.again & self.visible(person))

    def recount(self, person: Person) -> list[Seq]:
        """`unread`, message by message."""
        found = []
        for fact in self.facts:
            seq = fact.seq
            bit = 1 << seq
            if fact.author == person.user or fact.counts or not person.joined:
                continue
            if seq < person.periods[-1][0] or seq <= person.cleared or seq <= self.expired:
                continue
            if bit & self.recalled or (bit & person.read and not bit & person.again):
                continue
            found.append(seq)
        return found

    # -- what others may know

    def status(self, seq: Seq, user: UserId) -> int:
        """0 to 3: sent, acked, delivered, read."""
        person = self.people.get(user)
        bit = 1 << seq
        if person is not None:
            if bit & person.read_shared or user in self.asked.get(seq, ()):
                return 3
            if bit & person.delivered:
                return 2
        return 1 if 0 < seq <= self.head else 0

    def is_delivered(self, seq: Seq, user: UserId) -> bool | str:
        """Yes, no, or why nobody can tell."""
        lost = self._lost(seq)
        if lost:
            return lost
        if self.status(seq, user) >= 2:
            return True
        person = self.people.get(user)
        if person is None or not person.had(seq):
            return "not_in_audience"
        if not person.shares_delivered or seq <= person.delivered_line:
            return "sharing_off"
        return False

    def is_read(self, seq: Seq, user: UserId) -> bool | str:
        """Yes, no, or why nobody can tell."""
        lost = self._lost(seq)
        if lost:
            return lost
        if self.pair is None:
            if seq <= self.receipts_expired:
                return "expired"
            if not self.asks >> seq & 1:
                return "not_asked"
        if self.status(seq, user) == 3:
            return True
        person = self.people.get(user)
        if person is None or not person.had(seq) or (self.pair is None and person.wrote >> seq & 1):
            return "not_in_audience"
        if not person.shares_read or seq <= person.read_line:
            return "sharing_off"
        return False

    def read_at(self, seq: Seq, user: UserId) -> int | None:
        """When it was read, as far as others may know it and it is remembered."""
        if self._lost(seq):
            return None
        answered = self.asked.get(seq, {}).get(user)
        if answered is not None:
            return answered[0]
        person = self.people[user]
        if not person.read_shared >> seq & 1:
            return None
        return next((at for at, which in person.shared_reads[-READ_TIMES:] if which >> seq & 1), None)

    def _lost(self, seq: Seq) -> str:
        if seq < 1:
            return "not_in_audience"
        if seq <= self.expired:
            return "expired"
        return "recalled" if self.recalled >> seq & 1 else ""

    def audience(self, seq: Seq, author: UserId) -> list[UserId]:
        """Who a message was for."""
        return sorted(user for user, person in self.people.items() if user != author and person.had(seq))

    def head_at(self, tick: int) -> Seq:
        """The last message that was accepted up to and including a tick and is kept; 0 for none."""
        for fact in reversed(self.facts):
            if fact.tick <= tick:
                return fact.seq if fact.seq > self.expired else 0
        return 0


class Known:
    """A device of an account."""

    __slots__ = ("client", "removed", "seen_ms", "since")

    def __init__(self, since: int, seen_ms: int, client: str) -> None:
        self.since = since
        """The tick at which it became known."""
        self.seen_ms = seen_ms
        self.client = client
        self.removed = False


class Account:
    """A user."""

    __slots__ = (
        "app",
        "devices",
        "installs",
        "removed",
        "sessions",
        "shares_delivered",
        "shares_read",
        "untold",
        "user",
    )

    def __init__(self, app: AppId, user: UserId) -> None:
        self.app = app
        self.user = user
        self.removed = False
        self.shares_delivered = self.shares_read = True
        """In conversations to come."""
        self.devices: dict[DeviceId, Known] = {}
        self.installs: dict[str, dict[int, tuple[Talk, Seq]]] = {}
        """What was sent under each number."""
        self.sessions: list[Login] = []
        """Logged in, in order."""
        self.untold: dict[tuple[ConversationId, Seq], int] = {}
        """Own messages that were answered while nobody was there to hear it, and in which tick."""


class Login:
    """A session that is logged in."""

    __slots__ = ("account", "coming", "delivery", "device", "install", "live", "number", "page", "tick")

    def __init__(
        self, number: int, account: Account, device: DeviceId, install: str, delivery: bool, tick: int
    ) -> None:
        self.number = number
        self.account = account
        self.device = device
        self.install = install
        self.delivery = delivery
        self.tick = tick
        self.live = False
        self.page: str | None = None
        """Token of the page that is to be acknowledged."""
        self.coming = False
        """Whether it was, and the next one is being read."""
