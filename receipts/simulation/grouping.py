"""Who is in which group, and in which role."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from receipts.core.events import Register, Role
from receipts.core.ids import AppId, ConversationId, UserId

from .facts import Login, Person, Talk
from .ledger import Ledger, No, Sender
from .talking import RANK

__all__ = ["Grouping"]

_GROUP_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Grouping(Ledger):
    """Commands that change groups."""

    # -- groups

    def _create_group(self, login: Login, sender: Sender, command: Any) -> None:
        account = login.account
        if _GROUP_ID.fullmatch(command.conversation) is None:
            raise No("invalid")
        known = self.talks.get((account.app, command.conversation))
        if known is not None:
            person = known.people.get(account.user)
            if person is None or person.role is not Role.OWNER or known.dissolved:
                raise No("already_exists")
            self._done(login.number, command.rid)
            return
        self._check_texts(command.name, command.description)
        members = [(account.user, Role.OWNER), *((user, Role.MEMBER) for user in command.members)]
        self._check_size(account.app, len({user for user, _ in members}))
        for user, _ in members:
            self._account(account.app, user)
        self._take(login, sender, "changes")
        self._make_group(account.app, command.conversation, command.name, command.description, members)
        self._done(login.number, command.rid)

    def _make_group(
        self,
        app: AppId,
        conversation: ConversationId,
        name: str,
        description: str,
        members: Iterable[tuple[UserId, Role]],
    ) -> None:
        if _GROUP_ID.fullmatch(conversation) is None:
            raise No("invalid")
        self._check_texts(name, description)
        if (app, conversation) in self.talks:
            raise No("already_exists")
        roles: dict[UserId, Role] = {}
        for user, role in members:
            roles.setdefault(user, role)
        self._check_size(app, len(roles))
        for user in roles:
            self._account(app, user)
        talk = Talk(app, conversation)
        talk.name, talk.description = name, description
        self._put(self.talks, (app, conversation), talk)
        for user, role in roles.items():
            self._let_in(talk, user, role)
        self._tell_newcomers(talk, roles)

    def _check_texts(self, name: str, description: str) -> None:
        if len(name) > 200 or len(description) > 2000:
            raise No("invalid")

    def _check_size(self, app: AppId, count: int) -> None:
        limit = self.rules[app].limits.group_members_max
        if count > limit:
            raise No("group_too_large", limit=limit)

    def _let_in(self, talk: Talk, user: UserId, role: Role) -> Person:
        person = talk.people.get(user)
        if person is None:
            person = Person(user)
            account = self.accounts[talk.app, user]
            person.shares_delivered, person.shares_read = account.shares_delivered, account.shares_read
            self._put(talk.people, user, person)
        self._set(person, "periods", (*person.periods, (talk.head + 1, None)))
        self._set(person, "role", role)
        self._touch(talk, user)
        return person

    def _tell_newcomers(self, talk: Talk, users: Iterable[UserId]) -> None:
        people = {user: person.periods for user, person in talk.people.items()}
        for user in users:
            self._tell(talk.app, (user,), "ConversationPart", talk, user, talk.head, people)

    def _group(self, login: Login, conversation: ConversationId) -> tuple[Talk, Person]:
        talk, person = self._inside(login, conversation)
        if talk.pair is not None:
            raise No("invalid")
        return talk, person

    def _check_role(self, person: Person, least: Role) -> None:
        if RANK[person.role] < RANK[least]:
            raise No("not_permitted")

    def _add_members(self, login: Login, sender: Sender, command: Any) -> None:
        talk, me = self._group(login, command.conversation)
        self._check_role(me, self.rules[talk.app].features.groups.may_add)
        before = talk.members()
        new = [user for user in dict.fromkeys(command.users) if user not in before]
        self._check_size(talk.app, len(before) + len(new))
        for user in new:
            self._account(talk.app, user)
        self._take(login, sender, "changes")
        for user in new:
            person = self._let_in(talk, user, Role.MEMBER)
            self._tell(talk.app, before, "MemberJoined", talk, user, person.periods[-1][0])
            self._tell(talk.app, before, "RegisterSet", talk, user, Register.ROLE, Role.MEMBER.value)
        self._tell_newcomers(talk, new)
        self._done(login.number, command.rid)

    def _remove_members(self, login: Login, sender: Sender, command: Any) -> None:
        talk, me = self._group(login, command.conversation)
        members = talk.members()
        gone = [user for user in dict.fromkeys(command.users) if user in members]
        for user in gone:
            role = talk.people[user].role
            if user != me.user:
                self._check_role(me, self.rules[talk.app].features.groups.may_remove)
                if role is Role.OWNER or (role is Role.ADMIN and me.role is not Role.OWNER):
                    raise No("not_permitted")
            elif me.role is Role.OWNER and len(members) > 1:
                raise No("not_permitted")
        self._take(login, sender, "changes")
        for user in gone:
            self._put_out(talk, user, members)
        self._done(login.number, command.rid)

    def _put_out(self, talk: Talk, user: UserId, told: Iterable[UserId]) -> None:
        person = talk.people[user]
        if person.joined:
            first, _ = person.periods[-1]
            self._set(person, "periods", (*person.periods[:-1], (first, talk.head)))
            self._touch(talk, user)
            self._tell(talk.app, told, "MemberLeft", talk, user, talk.head)

    def _set_role(self, login: Login, sender: Sender, command: Any) -> None:
        talk, me = self._group(login, command.conversation)
        self._check_role(me, Role.OWNER)
        person = talk.people.get(command.user)
        if person is None or not person.joined:
            raise No("unknown_user")
        if person is me and command.role is not Role.OWNER:
            raise No("not_permitted")
        self._take(login, sender, "changes")
        if person.role is not command.role:
            self._give_role(talk, person, command.role)
            if command.role is Role.OWNER:
                self._give_role(talk, me, Role.ADMIN)
        self._done(login.number, command.rid)

    def _give_role(self, talk: Talk, person: Person, role: Role) -> None:
        self._set(person, "role", role)
        self._touch(talk, person.user)
        self._tell(talk.app, talk.members(), "RegisterSet", talk, person.user, Register.ROLE, role.value)

    def _change_group(self, login: Login, sender: Sender, command: Any) -> None:
        talk, me = self._group(login, command.conversation)
        self._check_role(me, self.rules[talk.app].features.groups.may_rename)
        self._check_texts(command.name or "", command.description or "")
        self._take(login, sender, "changes")
        for what, text in ((Register.NAME, command.name), (Register.DESCRIPTION, command.description)):
            if text is not None and text != getattr(talk, what.value):
                self._set(talk, what.value, text)
                self._touch_all(talk)
                self._tell(talk.app, talk.members(), "RegisterSet", talk, None, what, text)
        self._done(login.number, command.rid)

    def _dissolve(self, login: Login, sender: Sender, command: Any) -> None:
        known, person = self._talk(login, command.conversation)
        if known.dissolved and person.role is Role.OWNER:
            self._done(login.number, command.rid)
            return
        talk, me = self._group(login, command.conversation)
        self._check_role(me, Role.OWNER)
        self._take(login, sender, "changes")
        everybody = talk.members()
        self._set(talk, "dissolved", True)
        self._touch_all(talk)
        self._tell(talk.app, everybody, "RegisterSet", talk, None, Register.DELETED, True)
        for user in everybody:
            self._put_out(talk, user, (user,))
        self._done(login.number, command.rid)
