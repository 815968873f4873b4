"""What is asked, and the answer as of now. What storage answers is expected here; `answers` judges it."""

from __future__ import annotations

import re
from typing import Any

from receipts.core.events import Role
from receipts.core.ids import DeviceId, Seq, UserId

from .facts import Login, Person, Talk, seqs_of_bits, up_to
from .ledger import No, Rules, Sender
from .talking import Talking

__all__ = ["Asking"]

_CURSOR = re.compile(r"[0-9]{1,18}\.[0-9]{1,18}")


class Asking(Talking):
    """Commands that change nothing."""

    # -- questions

    def _history(self, login: Login, sender: Sender, command: Any) -> None:
        talk, person = self._talk(login, command.conversation)
        rules = self.rules[talk.app]
        self._take(login, sender, "queries")
        readable = person.may_open(talk.head, talk.expired, rules.features.groups.open_history)
        if command.before > 0:
            readable &= up_to(min(command.before, talk.head + 1) - 1)
        limit = _page(command.limit, rules.limits.history_page_max)
        self._say(login.number, "Ask", "history", (command.rid, talk, readable, limit))

    def _list(self, login: Login, sender: Sender, command: Any) -> None:
        if command.cursor and _CURSOR.fullmatch(command.cursor) is None:
            raise No("invalid")
        self._take(login, sender, "queries")
        limit = _page(command.limit, self.rules[login.account.app].limits.conversations_page_max)
        self._say(login.number, "Ask", "conversations", (command.rid, command.cursor, limit))

    def _badge(self, login: Login, sender: Sender, command: Any) -> None:
        self._take(login, sender, "queries")
        self._say(login.number, "Ask", "badge", (command.rid,))

    def _explain(self, login: Login, sender: Sender, command: Any) -> None:
        talk, person = self._talk(login, command.conversation)
        self._take(login, sender, "queries")
        self._explained(login.number, talk, person, command)

    def _explained(self, session: int, talk: Talk, person: Person, command: Any) -> None:
        unread = list(seqs_of_bits(talk.unread(person)))
        rest = [seq for seq in unread if seq > command.after]
        limit = _page(command.limit, 1000)
        content = (command.rid, talk, len(unread), talk.marked(person), rest[:limit], len(rest) > limit)
        self._say(session, "Ask", "explained", content)

    def _list_members(self, login: Login, sender: Sender, command: Any) -> None:
        talk, _ = self._inside(login, command.conversation)
        self._take(login, sender, "queries")
        names = sorted(talk.members())
        rest = [name for name in names if name > command.after]
        limit = _page(command.limit, 1000)
        people = [talk.people[name] for name in rest[:limit]]
        shown = tuple(
            (one.user, one.role if talk.pair is None else Role.MEMBER, one.periods[-1][0]) for one in people
        )
        content = (command.rid, talk.id, talk.name, talk.description, len(names), shown, len(rest) > limit)
        self._say(login.number, "Members", *content)

    def _list_readers(self, login: Login, sender: Sender, command: Any) -> None:
        talk, _ = self._talk(login, command.conversation)
        self._take(login, sender, "queries")
        if talk.pair is not None:
            raise No("invalid")
        self._check_own(login, talk, command.seq)
        if not self.rules[talk.app].features.group_receipts:
            raise No("feature_off")
        self._say(login.number, "Readers", *self._readers(talk, command))

    def _readers(self, talk: Talk, command: Any) -> tuple[Any, ...]:
        seq = command.seq
        limits = self.rules[talk.app].limits
        unknown = None
        if not talk.asks >> seq & 1:
            unknown = "not_asked"
        elif talk.recalled >> seq & 1:
            unknown = "recalled"
        elif seq not in talk.asked:
            unknown = "expired"
        if unknown is not None:
            return (command.rid, talk.id, seq, unknown, 0, 0, (), (), False)
        answers = talk.asked[seq]
        audience = talk.audience(seq, talk.facts[seq - 1].author)
        rest = [user for user in audience if user > command.after]
        read, waiting, given, room = [], [], 0, limits.page_bytes_max
        for user in rest[: _page(command.limit, limits.readers_page_max)]:
            if room < 0:
                break
            given += 1
            left = not talk.people[user].joined
            if user in answers:
                read.append((user, *answers[user], left))
                room -= len(answers[user][1])
            elif talk.is_read(seq, user) is False:
                waiting.append((user, 0, "", left))
        more = len(rest) > given
        return command.rid, talk.id, seq, None, len(audience), len(answers), tuple(read), tuple(waiting), more

    def _check_own(self, login: Login, talk: Talk, seq: Seq) -> None:
        if 1 <= seq <= talk.expired:
            raise No("expired")
        if not 1 <= seq <= talk.head:
            raise No("unknown_message")
        if talk.facts[seq - 1].author != login.account.user:
            raise No("not_permitted")

    def _get_status(self, login: Login, sender: Sender, command: Any) -> None:
        talk, me = self._talk(login, command.conversation)
        rules = self.rules[talk.app]
        limit = rules.limits.detail_ids_max
        if len(command.seqs) > limit:
            raise No("too_many", limit=limit)
        self._take(login, sender, "queries")
        since = {
            user: self.devices_since(talk, self.accounts[talk.app, user])
            for user in talk.pair or ()
            if user != me.user and (talk.app, user) in self.accounts
        }
        items = []
        for seq in dict.fromkeys(command.seqs):
            self._check_own(login, talk, seq)
            for user in talk.audience(seq, me.user):
                items.append(self._status(rules, talk, seq, user, since.get(user, {})))
        self._say(login.number, "Statuses", command.rid, talk.id, tuple(items))

    def _status(
        self, rules: Rules, talk: Talk, seq: Seq, user: UserId, since: dict[DeviceId, Seq]
    ) -> tuple[Any, ...]:
        person = talk.people[user]
        delivered, read = talk.is_delivered(seq, user), talk.is_read(seq, user)
        if talk.pair is None and not rules.features.group_receipts:
            read = "feature_off"
        devices: tuple[Any, ...] = ()
        if isinstance(delivered, bool):
            told = delivered or rules.features.roll_up == "all"
            devices = tuple(
                (
                    name,
                    True if told and person.held.get(name, 0) >> seq & 1 else None if seq <= head else False,
                )
                for name, head in sorted(since.items())
            )
        return seq, user, talk.status(seq, user), delivered, read, talk.read_at(seq, user), devices

    def _list_devices(self, login: Login, sender: Sender, command: Any) -> None:
        self._take(login, sender, "queries")
        account = login.account
        online = {one.device for one in account.sessions}
        devices = tuple(
            (name, self.now_ms if name in online else known.seen_ms, name in online)
            for name, known in sorted(account.devices.items())
            if not known.removed
        )
        self._say(login.number, "Devices", command.rid, devices)

    def _ping(self, login: Login, sender: Sender, command: Any) -> None:
        self._say(login.number, "Pong", command.rid)

    def _ack_page(self, login: Login, sender: Sender, command: Any) -> None:
        if command.token != login.page:
            raise No("invalid")
        if not login.live and not login.coming:
            login.coming = True
            self._say(login.number, "Ask", "page", ())
        self._done(login.number, command.rid)

    def _ack_statistics(self, login: Login, sender: Sender, command: Any) -> None:
        account = login.account
        for place, tick in list(account.untold.items()):
            if tick <= command.through <= self.tick:
                del account.untold[place]  # at worst it is told once more
        self._done(login.number, command.rid)


def _page(asked: int, most: int) -> int:
    return max(1, min(asked, most))
