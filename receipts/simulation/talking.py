"""What is said in conversations, and what is said of it: messages, receipts, unread marks, sharing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from receipts.core.events import By, Register, Role
from receipts.core.ids import AppId, ConversationId, Counts, DeviceId, Seq, UserId, direct_members

from .facts import Account, Fact, Login, Person, Talk, bit_runs, bits, seqs_of_bits, up_to
from .ledger import Expected, Ledger, No, Rules, Sender

__all__ = ["RANK", "Talking"]

DAY_MS = 86_400_000
RANK = {Role.MEMBER: 0, Role.ADMIN: 1, Role.OWNER: 2}


class Talking(Ledger):
    """Commands of members to each other."""

    # -- messages

    def _send(self, login: Login, sender: Sender, command: Any) -> None:
        account = login.account
        app, me, number = account.app, account.user, command.number
        sent = account.installs.setdefault(login.install, {}).get(number)
        if sent is not None and not self._is_forgotten(login, sent, command):
            talk, seq = sent
            if talk.id != command.conversation:
                raise No("client_id_reused")
            self._say(login.number, "Accepted", command.rid, talk, talk.facts[seq - 1], number)
            return
        known = self.talks.get((app, command.conversation))
        peers = None if known is not None else self._peers(login, command.conversation)
        rules = self.rules[app]
        self._check_message(rules, command)
        if known is not None and known.pair is None:
            self._check_group_send(rules, known, me, login.number, command)
        elif known is not None and me not in known.people:
            raise No("unknown_conversation")
        elif command.asks:
            raise No("invalid")
        self._take(login, sender, "sends")
        talk = known if known is not None else self._open_pair(app, command.conversation, peers or ())
        fact = self._post(talk, me, login, command)
        self._say(login.number, "Accepted", command.rid, talk, fact, number)
        self._tell(app, talk.members(), "MessageAccepted", talk, fact, but=login.number)

    def _is_forgotten(self, login: Login, sent: tuple[Talk, Seq], command: Any) -> bool:
        """A number whose message has expired may be forgotten, or still known."""
        talk, seq = sent
        return seq <= talk.expired and not self.send_known(login.number, command, talk.id, seq)

    def _peers(self, login: Login, conversation: ConversationId) -> tuple[Account, ...]:
        pair = direct_members(conversation)
        if pair is None or login.account.user not in pair:
            raise No("unknown_conversation")
        return tuple(self._account(login.account.app, user) for user in pair)

    def _check_message(self, rules: Rules, command: Any) -> None:
        body = command.body
        size = len(body if isinstance(body, bytes) else body.encode())
        if command.number < 1:
            raise No("invalid")
        if command.counts is Counts.SYSTEM:
            raise No("not_permitted")
        if size > rules.limits.body_bytes_max:
            raise No("invalid", limit=rules.limits.body_bytes_max)

    def _check_group_send(self, rules: Rules, talk: Talk, me: UserId, session: int, command: Any) -> None:
        person = talk.people.get(me)
        if person is None:
            raise No("unknown_conversation")
        if not person.joined or talk.dissolved:
            raise No("not_a_member")
        policy = rules.features.groups
        if RANK[person.role] < RANK[policy.may_send]:
            raise No("not_permitted")
        if not command.asks:
            return
        if not rules.features.group_receipts:
            raise No("feature_off")
        if RANK[person.role] < RANK[policy.may_ask_receipts]:
            raise No("not_permitted")
        limit = rules.limits.group_receipts_members_max
        if len(talk.members()) > limit:
            raise No("group_too_large", limit=limit)
        limit = rules.limits.asking_messages_per_day
        since = self.now_ms - DAY_MS
        recent = sum(1 for fact in talk.facts if fact.asks and fact.at_ms > since)
        if recent >= limit and self.limited(session, command.rid):
            raise No("rate_limited", limit=limit)  # of expired ones the node need not know

    def _open_pair(self, app: AppId, conversation: ConversationId, peers: Iterable[Account]) -> Talk:
        talk = Talk(app, conversation)
        self._put(self.talks, (app, conversation), talk)
        for account in peers:
            person = talk.people[account.user] = Person(account.user)
            person.periods = ((1, None),)
            if not (account.shares_delivered and account.shares_read):
                person.shares_delivered, person.shares_read = account.shares_delivered, account.shares_read
                self._tell(app, (account.user,), "SharingChanged", *_sharing(talk, person))
        return talk

    def _post(self, talk: Talk, me: UserId, login: Login, command: Any) -> Fact:
        seq = talk.head + 1
        asks = command.asks and talk.pair is None
        fact = Fact(
            seq,
            me,
            login.device,
            self.now_ms,
            self.tick,
            command.body,
            int(command.counts),
            asks,
            login.install,
            command.number,
        )
        person, bit = talk.people[me], 1 << seq
        reads = person.shares_read and talk.pair is not None
        fact.shares = (1 if person.shares_delivered else 0) | (2 if reads else 0)
        self._append(talk.facts, fact)
        self._put(login.account.installs[login.install], command.number, (talk, seq))
        self._set(person, "wrote", person.wrote | bit)
        self._set(person, "read", person.read | bit)
        if person.shares_delivered:
            self._set(person, "delivered", person.delivered | bit)
        if reads:
            self._set(person, "read_shared", person.read_shared | bit)
        self._put(person.held, login.device, person.held.get(login.device, 0) | bit)
        if fact.counts:
            self._set(talk, "uncounted", talk.uncounted | bit)
        if asks:
            self._set(talk, "asks", talk.asks | bit)
            self._put(talk.asked, seq, {})
            self._put(talk.due, seq, self.now_ms + self.rules[talk.app].limits.group_receipts_kept_ms)
        self._touch(talk, me)
        self._touch_all(talk)
        return fact

    def _recall(self, login: Login, sender: Sender, command: Any) -> None:
        talk, person = self._talk(login, command.conversation)
        seq, me = command.seq, login.account.user
        if seq > 0 and talk.recalled >> seq & 1:
            self._done(login.number, command.rid)
            return
        rules = self.rules[talk.app]
        if not rules.features.recall:
            raise No("feature_off")
        if not 1 <= seq <= talk.head:
            raise No("unknown_message")
        if seq <= talk.expired:
            raise No("expired")
        if not person.joined:
            raise No("not_a_member")
        fact = talk.facts[seq - 1]
        least = rules.features.groups.may_recall_others
        if talk.pair is not None or RANK[person.role] < RANK[least]:
            if fact.author != me:
                raise No("not_permitted")
            if self.now_ms - fact.at_ms > rules.limits.recall_window_ms:
                raise No("expired", limit=rules.limits.recall_window_ms)
        self._take(login, sender, "changes")
        self._set(talk, "recalled", talk.recalled | 1 << seq)
        self._touch_all(talk)
        self._done(login.number, command.rid)
        concerned = [user for user, one in talk.people.items() if one.joined or one.had(seq)]
        self._tell(talk.app, concerned, "MessageRecalled", talk, seq, me, self.now_ms, but=login.number)

    def _clear(self, login: Login, sender: Sender, command: Any) -> None:
        talk, person = self._talk(login, command.conversation)
        self._take(login, sender, "changes")
        last = min(command.through, talk.head)
        if last > person.cleared:
            self._set(person, "cleared", last)
            self._touch(talk, person.user)
            self._tell(talk.app, (person.user,), "HistoryCleared", talk, person.user, last, but=login.number)
        self._done(login.number, command.rid)

    # -- receipts

    def _ack(self, login: Login, sender: Sender, command: Any) -> None:
        talk, person = self._talk(login, command.conversation)
        named = command.ranges
        sharing = command.share and self.rules[talk.app].features.delivery_receipts
        if not person.joined:
            raise No("not_a_member")
        self._deliver(talk, person, login, bits(named, talk.head), sharing)
        self._answer_head(login, talk, command.rid, named[-1] - 1 if named else 0)

    def _deliver(self, talk: Talk, person: Person, login: Login, found: int, sharing: bool) -> None:
        held = person.held.get(login.device, 0)
        new = found & ~held
        shared = 0
        if found and sharing and person.shares_delivered:
            shared = self._due_by_rule(talk, person, login, found)
            shared = self._worth_telling(talk, shared & ~up_to(person.delivered_line) & ~person.delivered)
        if not new and not shared:
            return
        self._check_gaps(talk, held, new, found)
        self._check_gaps(talk, person.delivered, shared, found)
        self._put(person.held, login.device, held | new)
        if person.shares_delivered and not sharing:
            self._set(person, "withheld", person.withheld | new & ~person.delivered)
        self._touch(talk, person.user)
        self._share_delivered(talk, person, shared)

    def _share_delivered(self, talk: Talk, person: Person, shared: int) -> None:
        if not shared:
            return
        self._set(person, "delivered", person.delivered | shared)
        self._touch(talk, person.user)
        if talk.pair is not None:
            peer = self.accounts.get((talk.app, talk.pair[talk.pair[0] == person.user]))
            to = tuple(one.number for one in peer.sessions if one.delivery) if peer is not None else ()
            if to:
                self.said.append(Expected(to, "Delivered", (talk, person.user, shared)))

    def _due_by_rule(self, talk: Talk, person: Person, login: Login, found: int) -> int:
        """What counts as delivered when a device holds `found`: all of it, or with the rule 'all' what the
        other devices have as well, or came too late for."""
        if self.rules[talk.app].features.roll_up != "all":
            return found
        for device, since in self.devices_since(talk, login.account).items():
            if device != login.device:
                found &= person.held.get(device, 0) | up_to(since)
        return found

    def devices_since(self, talk: Talk, account: Account) -> dict[DeviceId, Seq]:
        """The devices of an account that count, each with the last message that it came too late for."""
        return {
            name: talk.head_at(known.since)
            for name, known in account.devices.items()
            if not known.removed and not self._is_idle(account, name)
        }

    def _is_idle(self, account: Account, device: DeviceId) -> bool:
        if any(login.device == device for login in account.sessions):
            return False
        away_ms = self.now_ms - account.devices[device].seen_ms
        return bool(away_ms > self.rules[account.app].limits.device_idle_ms)

    def _worth_telling(self, talk: Talk, shared: int) -> int:
        return shared if shared & ~talk.gone() else 0

    def _check_gaps(self, talk: Talk, known: int, more: int, found: int) -> None:
        """Sets are made of few runs; but to say 'through n' is welcome, however many there are."""
        limit = self.rules[talk.app].limits.gaps_max
        through = bool(found & 2) and bit_runs(found) == 1
        if not through and bit_runs(known | more) > max(limit, bit_runs(known)):
            raise No("too_many_gaps", limit=limit)

    def _read_through(self, login: Login, sender: Sender, command: Any) -> None:
        talk, person = self._talk(login, command.conversation)
        self._take(login, sender, "marks")
        last = command.through
        if last > 0:
            seen = min(last, talk.head)
            self._read(talk, person, login, up_to(seen), command, By.CONVERSATION, seen)
        self._answer_head(login, talk, command.rid, last)

    def _read_named(self, login: Login, sender: Sender, command: Any) -> None:
        talk, person = self._talk(login, command.conversation)
        rules, content = self.rules[talk.app], command.content
        if content is not None and len(content) > rules.limits.content_characters_max:
            raise No("invalid", limit=rules.limits.content_characters_max)
        if not command.ranges:
            self._done(login.number, command.rid)
            return
        wanted = bits(command.ranges, talk.head)
        own = wanted & person.wrote & ~up_to(talk.expired)
        wanted &= ~own
        answers: list[Seq] = []
        refused: list[tuple[Seq, str]] = []
        if talk.pair is not None:
            if content:
                raise No("not_asked")
        elif not person.joined:
            raise No("not_a_member")
        elif command.share and person.shares_read:
            answers, refused = self._judge_answers(talk, person, wanted, content)
        self._take(login, sender, "marks")
        for seq, _ in refused:
            wanted &= ~(1 << seq)
        if wanted:
            self._read(talk, person, login, wanted, command, By.MESSAGES, 0)
        for seq in answers:
            self._answer(talk, person, seq, content or "")
        if own or refused:  # what is not named in the answer counts as done
            code = "own_message" if own else refused[0][1]
            self._refuse(login.number, command.rid, code, own | sum(1 << seq for seq, _ in refused), talk.id)
        else:
            self._answer_head(login, talk, command.rid, command.ranges[-1] - 1)

    def _read(
        self, talk: Talk, person: Person, login: Login, found: int, command: Any, by: By, last: Seq
    ) -> None:
        if not person.joined:
            raise No("not_a_member")
        rules = self.rules[talk.app]
        share = command.share and person.shares_read
        new, shared, held, delivered = found & ~person.read, 0, 0, 0
        known = person.held.get(login.device, 0)
        if share:  # what is read in private is no acknowledgement either (I-25)
            told = found & ~up_to(person.read_line)
            held = told & ~known
            if talk.pair is not None:
                shared = self._worth_telling(talk, told & ~person.read_shared)
            else:
                delivered = self._delivered_by_reading(rules, talk, person, login, told, found)
        if new or shared or held or delivered:
            self._check_gaps(talk, person.read, new, found)
            self._check_gaps(talk, person.read_shared, shared, found)
            self._check_gaps(talk, known, held, found)
            self._touch(talk, person.user)
            if held:
                self._put(person.held, login.device, known | held)
            self._read_facts(talk, person, login, new, shared, by, last)
            self._share_delivered(talk, person, delivered)
        self._unmark(talk, person, found, command.mark_version)

    def _delivered_by_reading(
        self, rules: Rules, talk: Talk, person: Person, login: Login, told: int, found: int
    ) -> int:
        """What counts as delivered in a group because it was read there for others to know."""
        if not rules.features.delivery_receipts or not person.shares_delivered:
            return 0
        due = self._due_by_rule(talk, person, login, told)
        delivered = self._worth_telling(talk, due & ~up_to(person.delivered_line) & ~person.delivered)
        try:
            self._check_gaps(talk, person.delivered, delivered, found)
        except No:
            return 0  # the read stands
        return delivered

    def _read_facts(
        self, talk: Talk, person: Person, login: Login, new: int, shared: int, by: By, last: Seq
    ) -> None:
        now, me = self.now_ms, person.user
        if new | shared:
            self._set(person, "read", person.read | new | shared)
        if new:
            self._tell(talk.app, (me,), "Read", talk, me, new, now, by, last, but=login.number)
        if shared:
            self._set(person, "read_shared", person.read_shared | shared)
            self._set(person, "delivered", person.delivered | shared)
            self._set(person, "shared_reads", (*person.shared_reads, (now, shared)))
            peers = [user for user in talk.pair or () if user != me]
            self._tell(talk.app, peers, "Read", talk, me, shared, now, by, last)

    def _unmark(self, talk: Talk, person: Person, found: int, known: int) -> None:
        """What a device reads clears a mark that it knew."""
        if not (person.flagged or person.again) or known < person.mark_version:
            return
        left = person.again & ~found
        if left == person.again and not person.flagged:
            return
        self._mark(talk, person, False, left)

    def _mark(self, talk: Talk, person: Person, flagged: bool, again: int) -> None:
        self._set(person, "flagged", flagged)
        self._set(person, "again", again)
        self._set(person, "mark_version", person.mark_version + 1)  # at least: nobody can know it yet
        self._touch(talk, person.user)
        content = (talk, person, flagged, again, person.mark_version)
        self._tell(talk.app, (person.user,), "UnreadMarked", *content)

    def _mark_unread(self, login: Login, sender: Sender, command: Any) -> None:
        talk, person = self._inside(login, command.conversation)
        first, head = command.from_seq, talk.head
        own = 0
        if first is not None and 1 <= first <= head:
            own = person.wrote & up_to(head) & ~up_to(first - 1) & ~up_to(talk.expired)
        self._take(login, sender, "marks")
        limit = self.rules[talk.app].limits.gaps_max
        if bit_runs(own) > limit:
            raise No("too_many_gaps", limit=limit)
        floor = talk.floor(person)
        again, flagged = person.again, True
        if first is not None:
            if not floor <= first <= head:
                raise No("unknown_message")
            more = up_to(head) & ~up_to(first - 1) & ~own
            again, flagged = again | more, not more
        self._mark(talk, person, flagged, again & ~up_to(floor - 1))
        self._done(login.number, command.rid)

    def _answer_head(self, login: Login, talk: Talk, rid: int, last: Seq) -> None:
        head = talk.head
        if last > head:
            self._refuse(login.number, rid, "beyond_head", (head + 1, last), talk.id, head)  # type: ignore[arg-type]
        else:
            self._done(login.number, rid)

    # -- answers to messages that ask

    def _judge_answers(
        self, talk: Talk, person: Person, wanted: int, content: str | None
    ) -> tuple[list[Seq], list[tuple[Seq, str]]]:
        """Which of `wanted` are answered, and which cannot be. Without words those that asked are answered,
        the others just read; one alone whose answers have expired is not to be taken for a plain one."""
        rules = self.rules[talk.app]
        if content is not None:
            limit = rules.limits.detail_ids_max
            if wanted.bit_count() > limit and wanted.bit_count() != 1:
                raise No("too_many", limit=limit)
            candidates = list(seqs_of_bits(wanted))
        elif wanted.bit_count() == 1:
            candidates = list(seqs_of_bits(wanted & talk.asks & ~up_to(talk.expired)))
        else:
            candidates = list(seqs_of_bits(wanted & talk.asks & ~up_to(talk.receipts_expired)))
        answers, refused = [], []
        for seq in candidates:
            code = self._judge_answer(rules, talk, person, seq)
            if code:
                refused.append((seq, code))
            elif code is None:
                answers.append(seq)
        return answers, refused

    def _judge_answer(self, rules: Rules, talk: Talk, person: Person, seq: Seq) -> str | None:
        """None: it is answered. Empty: it was before, or tells nobody anything. Else why it cannot be."""
        if seq <= talk.expired or not talk.asks >> seq & 1:
            return "not_asked"
        if not rules.features.group_receipts:
            return "feature_off"
        if seq <= talk.receipts_expired:
            return "expired"
        if person.user in talk.asked[seq]:
            return ""
        if not person.had(seq):
            return "not_in_audience"
        return "" if seq <= person.read_line or talk.recalled >> seq & 1 else None

    def _answer(self, talk: Talk, person: Person, seq: Seq, content: str) -> None:
        self._put(talk.asked[seq], person.user, (self.now_ms, content))
        self._touch(talk, person.user)
        self._answers.setdefault((talk, seq), []).append(person.user)

    # -- sharing, muting

    def _set_sharing(self, login: Login, sender: Sender, command: Any) -> None:
        account = login.account
        if command.conversation is not None:
            talks = [self._talk(login, command.conversation)[0]]
        else:
            talks = self.talks_of(account.app, account.user)
        self._take(login, sender, "changes")
        for talk in talks:
            person = talk.people[account.user]
            if self._share(talk, person, command.delivered, command.read):
                self._tell(talk.app, (account.user,), "SharingChanged", *_sharing(talk, person))
        if command.conversation is None:
            if command.delivered is not None:
                self._set(account, "shares_delivered", command.delivered)
            if command.read is not None:
                self._set(account, "shares_read", command.read)
            self._set(account, "removed", account.removed)  # it is written, changed or not
        self._done(login.number, command.rid)

    def _share(self, talk: Talk, person: Person, delivered: bool | None, read: bool | None) -> bool:
        """Switching on draws a line: what is there stays unknown for ever (I-25)."""
        before = (person.shares_delivered, person.shares_read)
        after = (before[0] if delivered is None else delivered, before[1] if read is None else read)
        if before == after:
            return False
        if after[0] and not before[0]:
            self._set(person, "delivered_line", talk.head)
        if after[1] and not before[1]:
            self._set(person, "read_line", talk.head)
        self._set(person, "shares_delivered", after[0])
        self._set(person, "shares_read", after[1])
        self._touch(talk, person.user)
        return True

    def _set_muted(self, login: Login, sender: Sender, command: Any) -> None:
        talk, person = self._inside(login, command.conversation)
        self._take(login, sender, "changes")
        if person.muted is not command.muted:
            self._set(person, "muted", command.muted)
            self._touch(talk, person.user)
            self._tell(
                talk.app, (person.user,), "RegisterSet", talk, person.user, Register.MUTED, command.muted
            )
        self._done(login.number, command.rid)


def _sharing(talk: Talk, person: Person) -> tuple[Any, ...]:
    return (
        talk,
        person.user,
        person.shares_delivered,
        person.shares_read,
        person.delivered_line,
        person.read_line,
    )
