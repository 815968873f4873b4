"""What happened, so that it can be undone, and what was said because of it: the ground the oracle stands on.

Facts change through `_set`, `_put`, `_drop` and `_append` alone, which write down what was there before. What
commands mean is in `talking`, `grouping`, `asking` and `coming`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from receipts.core.ids import AppId, ConversationId, Seq, UserId

from .facts import Account, Login, Person, Talk

__all__ = ["ANYTHING", "Expected", "Ledger", "No", "Rules", "Sender"]

ANYTHING = "*"
"""In an expectation: whatever the node says here."""
_ABSENT: Any = object()


class Rules(NamedTuple):
    """What an app has and allows: any objects with the names of `core.policy`."""

    features: Any
    limits: Any


class Sender(NamedTuple):
    """Whose command it is."""

    session: int
    operator: bool = False
    purse: Any = None
    """Whatever the node counts the user's calls by; another one begins anew."""


class Expected(NamedTuple):
    """Something that the node has to say, or to do."""

    to: tuple[int, ...]
    """Sessions."""
    kind: str
    """The name of the update; `Ask` for a fetch, `Cut` for the end of a link."""
    content: tuple[Any, ...]


class No(Exception):
    """A refusal."""

    def __init__(self, code: str, ranges: int = 0, limit: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.ranges = ranges
        self.limit = limit


class Ledger:
    """Facts, and how to undo them; expectations, and whom they are for."""

    def __init__(self) -> None:
        self.rules: dict[AppId, Rules] = {}
        self.accounts: dict[tuple[AppId, UserId], Account] = {}
        self.talks: dict[tuple[AppId, ConversationId], Talk] = {}
        self.logins: dict[int, Login] = {}
        """By session."""
        self.ended: dict[int, Login] = {}
        """Those that were: what was decided while they were still has to reach them, before the last word."""
        self.closed: set[int] = set()
        """Sessions that have ended, whatever still comes on their links."""
        self.touched: dict[Talk, dict[UserId, None]] = {}
        """Whose part of which conversation changed since this was emptied."""
        self.all_touched: set[Talk] = set()
        """Conversations in which something changed that concerns everybody."""
        self.said: list[Expected] = []
        """What the node has to say, in the order of the commands."""
        self.now_ms = 0
        self.tick = 0
        self.login_given: Callable[[int], bool] = lambda session: True
        """Whether the node let a session in: who may is no matter of receipts."""
        self.send_known: Callable[[int, Any, ConversationId, Seq], bool] = lambda *_: True
        """Whether the node still knows of a send whose message has expired: it need not."""
        self.limited: Callable[[int, int], bool] = lambda session, rid: False
        """Whether the node refused a command for its rate."""
        self.loaded: Callable[[Account], bool] = lambda account: True
        """Whether the node knows a user's devices now: else it does not note when one was last there."""
        self._purses: dict[Any, dict[str, list[float]]] = {}
        self.made = 0
        """How many changes there were ever; it never falls, so it names a moment."""
        self._journal: list[tuple[Any, Any, Any]] = []
        self._begun = 0
        """How much of the journal is in the commit that is being written."""
        self._answers: dict[tuple[Talk, Seq], list[UserId]] = {}

    # -- time and commits

    def begin(self, now_ms: int, tick: int) -> None:
        """A tick begins."""
        self.now_ms, self.tick = now_ms, tick

    def end(self) -> None:
        """A tick ends: answers to messages that asked are told, all of one message in one frame."""
        for (talk, seq), users in self._answers.items():
            answers = talk.asked.get(seq)
            author = talk.facts[seq - 1].author
            account = self.accounts.get((talk.app, author))
            if answers is None or account is None:
                continue
            if account.sessions:
                said = tuple((user, *answers[user]) for user in users)
                content = (talk, seq, len(answers), said)
                self.said.append(Expected(_numbers(account.sessions), "GroupRead", content))
            else:  # a session that is behind finds it in its pages
                self._put(account.untold, (talk.id, seq), self.tick)
        self._answers.clear()

    def begun(self) -> None:
        """All that was decided up to now is being written."""
        self._begun = len(self._journal)

    def committed(self) -> None:
        """What was being written is on disk."""
        del self._journal[: self._begun]
        self._begun = 0

    def undone(self) -> None:
        """Nothing of what is not on disk has happened."""
        self._undo(0)
        self._begun = 0

    def lost(self, *, kept: bool) -> None:
        """The node's process has ended; what was being written is on disk or not."""
        self._undo(self._begun if kept else 0)
        self._journal.clear()
        self._begun = 0
        self.closed.clear()  # the next process counts sessions anew
        for login in self.logins.values():
            login.account.sessions.clear()
        self.logins.clear()
        self.ended.clear()
        self._purses.clear()

    def forget_purses(self, kept: Iterable[Any]) -> None:
        """The node counts calls by these alone."""
        known = set(kept)
        self._purses = {purse: kinds for purse, kinds in self._purses.items() if purse in known}

    def on_disk(self, look: Callable[[], Any], *, begun: bool = False) -> Any:
        """What `look` finds in what is on disk; with `begun` when what is being written is there already."""
        journal = list(self._journal)
        redo = self._undo(self._begun if begun else 0)
        try:
            return look()
        finally:
            for holder, name, content in reversed(redo):
                _assign(holder, name, content)
            self._journal = journal

    def before(self, moment: int, holder: Any, name: str) -> Any:
        """What something was at a moment (`made`) since which nothing was committed."""
        for changed, what, old in self._journal[len(self._journal) - (self.made - moment) :]:
            if changed is holder and what == name:
                return old
        return getattr(holder, name)

    def _undo(self, keep: int) -> list[tuple[Any, Any, Any]]:
        journal = self._journal
        redo = []
        while len(journal) > keep:
            holder, name, old = journal.pop()
            redo.append((holder, name, _read(holder, name)))
            _assign(holder, name, old)
        return redo

    def _set(self, holder: Any, name: str, content: Any) -> None:
        self.made += 1
        self._journal.append((holder, name, getattr(holder, name)))
        setattr(holder, name, content)

    def _put(self, holder: dict[Any, Any], key: Any, content: Any) -> None:
        self.made += 1
        self._journal.append((holder, key, holder.get(key, _ABSENT)))
        holder[key] = content

    def _drop(self, holder: dict[Any, Any], key: Any) -> None:
        self.made += 1
        self._journal.append((holder, key, holder.get(key, _ABSENT)))
        holder.pop(key, None)

    def _append(self, holder: list[Any], item: Any) -> None:
        self.made += 1
        self._journal.append((holder, len(holder), _ABSENT))
        holder.append(item)

    def adopt(self, holder: Any, name: str, content: Any) -> None:
        """Take over a number that the node was free to choose."""
        self._set(holder, name, content)

    def _touch(self, talk: Talk, user: UserId) -> None:
        known = self.touched.get(talk)
        if known is None:
            self.touched[talk] = {user: None}
        else:
            known[user] = None

    def _touch_all(self, talk: Talk) -> None:
        self.touched.setdefault(talk, {})
        self.all_touched.add(talk)

    # -- saying

    def _say(self, session: int, kind: str, *content: Any) -> None:
        self.said.append(Expected((session,), kind, content))

    def _done(self, session: int, rid: int) -> None:
        if rid:
            self.said.append(Expected((session,), "Done", (rid,)))

    def _tell(self, app: AppId, users: Iterable[UserId], kind: str, *content: Any, but: int = 0) -> None:
        accounts = self.accounts
        to = []
        for user in users:
            account = accounts.get((app, user))
            if account is not None:
                to += [login.number for login in account.sessions if login.number != but]
        if to:
            self.said.append(Expected(tuple(to), kind, content))

    def _close(self, session: int, code: str) -> None:
        self.closed.add(session)
        self._say(session, "Goodbye", code)
        self._say(session, "Cut")

    def _refuse(
        self,
        session: int,
        rid: int,
        code: str,
        ranges: int = 0,
        where: ConversationId | None = None,
        limit: int | None = None,
    ) -> None:
        self.said.append(Expected((session,), "Rejected", (rid, code, ranges, where, limit)))

    def _take(self, login: Login, sender: Sender, kind: str) -> None:
        """One call of a kind: so many at once, so many a second."""
        limits = self.rules[login.account.app].limits
        rate = getattr(limits, f"{kind}_per_second") / 1000
        most = float(getattr(limits, f"{kind}_burst"))
        purse = self._purses.setdefault(sender.purse, {}).setdefault(kind, [most, self.now_ms])
        left = min(most, purse[0] + (self.now_ms - purse[1]) * rate)
        purse[1] = self.now_ms
        if left < 1:
            purse[0] = left
            raise No("rate_limited")
        purse[0] = left - 1

    # -- looking up

    def _talk(self, login: Login, conversation: ConversationId) -> tuple[Talk, Person]:
        talk = self.talks.get((login.account.app, conversation))
        person = talk.people.get(login.account.user) if talk is not None else None
        if talk is None or person is None:
            raise No("unknown_conversation")
        return talk, person

    def _inside(self, login: Login, conversation: ConversationId) -> tuple[Talk, Person]:
        talk, person = self._talk(login, conversation)
        if talk.pair is None and not person.joined:
            raise No("not_a_member")
        return talk, person

    def _account(self, app: AppId, user: UserId) -> Account:
        account = self.accounts.get((app, user))
        if account is None or account.removed:
            raise No("unknown_user")
        return account

    def talks_of(self, app: AppId, user: UserId) -> list[Talk]:
        """All conversations that somebody was ever in."""
        return [talk for talk in self.talks.values() if talk.app == app and user in talk.people]


def _numbers(logins: Iterable[Login]) -> tuple[int, ...]:
    return tuple(login.number for login in logins)


def _read(holder: Any, name: Any) -> Any:
    if isinstance(holder, dict):
        return holder.get(name, _ABSENT)
    if isinstance(holder, list):
        return holder[name]
    return getattr(holder, name)


def _assign(holder: Any, name: Any, content: Any) -> None:
    if isinstance(holder, dict):
        if content is _ABSENT:
            holder.pop(name, None)
        else:
            holder[name] = content
    elif isinstance(holder, list):
        if content is _ABSENT:
            del holder[name]
        else:
            holder.append(content)
    else:
        setattr(holder, name, content)
