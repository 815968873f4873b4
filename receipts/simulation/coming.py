"""Who is there: accounts, devices, sessions, and what the operator does with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from receipts.core.events import Role
from receipts.core.ids import AppId, DeviceId, Seq, is_user_id

from .asking import Asking
from .facts import Account, Known, Login, Person, Talk, up_to
from .grouping import Grouping
from .ledger import ANYTHING, No, Rules, Sender

__all__ = ["Coming"]

SEEN_EVERY_MS = 3_600_000
"""How exactly the node notes when a device was last there."""


class Coming(Asking, Grouping):
    """Logins, accounts, apps."""

    # -- coming and going

    def _hello(self, sender: Sender, command: Any) -> None:
        if sender.session in self.logins:
            raise No("already_logged_in")
        if self.login_given(sender.session):
            self._log_in(sender.session, command)
        else:
            self._login_refused(sender.session, command)

    def _login_refused(self, session: int, command: Any) -> None:
        self._refuse(session, command.rid, ANYTHING)
        self._close(session, ANYTHING)

    def _password_checked(self, sender: Sender, outcome: Any) -> None:
        command = outcome.command
        if type(command).__name__ == "Hello":
            self._hello(sender, command)
        else:
            self._refuse(sender.session, command.rid, "unauthorized")  # else it is decided when it is hashed

    def _log_in(self, session: int, command: Any) -> None:
        account = self.accounts[command.app, command.user]
        name = command.device
        known = account.devices.get(name)
        if known is None or known.removed or self._is_idle(account, name):
            self._make_room(account)
            known = Known(self.tick, self.now_ms, command.client)
            self._put(account.devices, name, known)
        elif self.now_ms - known.seen_ms > SEEN_EVERY_MS or known.client != command.client:
            self._set(known, "seen_ms", self.now_ms)
            self._set(known, "client", command.client)
        sent = account.installs.get(command.install)
        if sent is None:
            sent = {}
            self._put(account.installs, command.install, sent)
        for old in [one for one in account.sessions if one.device == name]:
            self._part(old)
            self._close(old.number, "replaced")
        delivery = command.delivery and self.rules[account.app].features.delivery_receipts
        login = Login(session, account, name, command.install, delivery, self.tick)
        first = not account.sessions
        account.sessions.append(login)
        self.logins[session] = login
        highest = max(sent, default=0)
        self._say(session, "Welcome", command.rid, account.user, name, highest, command.resume)
        if first:
            self._say(session, "Ask", "statistics", ())
        self._say(session, "Ask", "page", ())

    def _make_room(self, account: Account) -> None:
        """A new device takes the place of those that were away for long."""
        idle = [
            name
            for name, known in account.devices.items()
            if not known.removed and self._is_idle(account, name)
        ]
        if idle:
            self._forget_devices(account, idle)

    def _forget_devices(self, account: Account, gone: list[DeviceId]) -> None:
        """Under the rule 'all' more may count as delivered without them."""
        rules = self.rules[account.app]
        if rules.features.roll_up == "all":
            for talk in self.talks_of(account.app, account.user):
                since = self.devices_since(talk, account)
                self._roll_up(talk, account, {name: since[name] for name in since if name not in gone})
        for name in gone:
            self._set(account.devices[name], "removed", True)

    def _roll_up(self, talk: Talk, account: Account, since: dict[DeviceId, Seq]) -> None:
        person = talk.people[account.user]
        if not since or not person.joined or not person.shares_delivered:
            return
        if not self.rules[talk.app].features.delivery_receipts:
            return
        anywhere = 0
        for held in person.held.values():
            anywhere |= held
        for name, head in since.items():
            anywhere &= person.held.get(name, 0) | up_to(head)
        shared = anywhere & ~up_to(person.delivered_line) & ~person.delivered & ~person.withheld
        self._share_delivered(talk, person, self._worth_telling(talk, shared))

    def _part(self, login: Login) -> None:
        """A session is no longer among its user's."""
        account = login.account
        account.sessions.remove(login)
        self.ended[login.number] = self.logins.pop(login.number)
        self.closed.add(login.number)
        known = account.devices.get(login.device)
        if known is None or known.removed or self.now_ms - known.seen_ms <= SEEN_EVERY_MS:
            return
        if self.loaded(account):
            self._set(known, "seen_ms", self.now_ms)

    def _link_lost(self, sender: Sender, command: Any) -> None:
        login = self.logins.get(sender.session)
        if login is not None:
            self._part(login)
        if sender.session in self.ended:
            self.ended[sender.session].live = False  # there is nobody to hear anything
        self.closed.add(sender.session)

    def _malformed(self, sender: Sender, command: Any) -> None:
        login = self.logins.get(sender.session)
        if not command.fatal:
            self._refuse(sender.session, command.rid, command.code)
            if login is not None or sender.operator:
                return
        if login is not None:
            self._part(login)
        self._close(sender.session, command.code)

    def _log_out(self, login: Login, sender: Sender, command: Any) -> None:
        account = login.account
        known = account.devices.get(command.device)
        if known is None or known.removed:
            raise No("unknown_device")
        self._forget_devices(account, [command.device])
        self._done(login.number, command.rid)
        self._end([one for one in account.sessions if one.device == command.device], "logged_out")

    def _end(self, logins: Iterable[Login], code: str) -> None:
        for login in list(logins):
            self._part(login)
            self._close(login.number, code)

    def _change_password(self, login: Login, sender: Sender, command: Any) -> None:
        self._refuse(login.number, command.rid, ANYTHING)  # else it is decided when it is hashed

    def _password_hashed(self, sender: Sender, outcome: Any) -> None:
        command, kind = outcome.command, type(outcome.command).__name__
        if kind == "AddUser":
            self._create_user(command)
        else:
            if kind == "ChangePassword":
                account = self.logins[sender.session].account
                account = self._account(account.app, account.user)
            else:
                account = self._account(command.app, command.user)
            self._set(account, "removed", False)  # it is written
            self._end([one for one in account.sessions if one.number != sender.session], "logged_out")
        self._done(sender.session, command.rid)

    # -- the operator

    def _add_user(self, sender: Sender, command: Any) -> None:
        if command.app not in self.rules:
            raise No("unknown_app")
        if not is_user_id(command.user):
            raise No("invalid")
        known = self.accounts.get((command.app, command.user))
        if known is not None and not known.removed:
            raise No("already_exists")
        if command.password is not None:
            raise No("invalid")  # else it is decided when it is hashed
        self._create_user(command)
        self._done(sender.session, command.rid)

    def _create_user(self, command: Any) -> None:
        known = self.accounts.get((command.app, command.user))
        if known is None:
            account = Account(command.app, command.user)
            self._put(self.accounts, (command.app, command.user), account)
        elif known.removed:
            self._set(known, "removed", False)
            self._set(known, "shares_delivered", True)
            self._set(known, "shares_read", True)
            known.untold.clear()
        else:
            raise No("already_exists")

    def _remove_user(self, sender: Sender, command: Any) -> None:
        account = self._account(command.app, command.user)
        user = account.user
        for talk in self.talks_of(account.app, user):
            person = talk.people[user]
            if talk.pair is None and person.joined:
                self._hand_over(talk, person)
                self._put_out(talk, user, talk.members())
            if talk.head > person.cleared:
                self._set(person, "cleared", talk.head)
                self._touch(talk, user)
        self._end(account.sessions, "logged_out")
        for known in account.devices.values():
            self._set(known, "removed", True)
        self._set(account, "removed", True)
        self._done(sender.session, command.rid)

    def _hand_over(self, talk: Talk, owner: Person) -> None:
        if owner.role is not Role.OWNER:
            return
        heirs = [one for one in talk.people.values() if one.joined and one is not owner]
        if heirs:
            heir = min(heirs, key=lambda one: (one.role is not Role.ADMIN, one.user))
            self._give_role(talk, heir, Role.OWNER)

    def _revoke(self, sender: Sender, command: Any) -> None:
        account = self._account(command.app, command.user)
        self._set(account, "removed", False)  # it is written
        self._end(account.sessions, "logged_out")
        self._done(sender.session, command.rid)

    def _set_password(self, sender: Sender, command: Any) -> None:
        self._refuse(sender.session, command.rid, ANYTHING)  # else it is decided when it is hashed

    def _make_group_for(self, sender: Sender, command: Any) -> None:
        if command.app not in self.rules:
            raise No("unknown_app")
        members = [
            (command.owner, Role.OWNER),
            *((user, Role.ADMIN) for user in command.admins),
            *((user, Role.MEMBER) for user in command.members),
        ]
        self._make_group(command.app, command.conversation, command.name, "", members)
        self._done(sender.session, command.rid)

    def configure(self, session: int, rid: int, app: AppId, rules: Rules | None) -> None:
        """An app has other rules from now on; None: they make no sense."""
        if rules is None:
            self._refuse(session, rid, "invalid")
            return
        self._put(self.rules, app, rules)
        self._done(session, rid)

    def _explain_for(self, sender: Sender, command: Any) -> None:
        if command.app not in self.rules:
            raise No("unknown_app")
        self._account(command.app, command.user)
        talk = self.talks.get((command.app, command.conversation))
        if talk is None or command.user not in talk.people:
            raise No("unknown_conversation")
        self._explained(sender.session, talk, talk.people[command.user], command)

    def _text(self, sender: Sender, command: Any) -> None:
        self._say(sender.session, "Text", command.rid)

    def _listed(self, sender: Sender, command: Any) -> None:
        self._say(sender.session, "Ask", ANYTHING, ())

    def _make_token(self, sender: Sender, command: Any) -> None:
        self._account(command.app, command.user)
        self._say(sender.session, "Text", command.rid)
