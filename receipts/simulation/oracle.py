"""A model of the node that is too simple to be wrong: what commands mean, in the order they were decided.

It shares nothing with the node but that order, the names of who sent what, and the numbers that a node is
free to choose (ids and versions, see `checks`). What a command means is worked out from the facts alone: what
is refused, what changes, who is told what. The chapters: `ledger` (what was decided and is not on disk can be
undone), `talking`, `grouping`, `asking`, `coming`; here is the table of commands, and what time does.

Rule 1: whoever repeats what was done is answered as the first time, before any right, limit or switch.
Rule 2: no new information, no frame.
Rule 3: what others see is what was shared when it happened; nothing later takes it back or adds to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from receipts.core.ids import Seq

from .coming import Coming
from .facts import Login, Talk, up_to
from .ledger import ANYTHING, Expected, No, Rules, Sender

__all__ = ["ANYTHING", "Expected", "Oracle", "Rules", "Sender"]


class Oracle(Coming):
    """All facts of one node over all its lives, and what was said because of them."""

    # -- deciding

    def do(self, sender: Sender, command: Any) -> None:
        """What a command means that the node decided now."""
        kind = type(command).__name__
        login = self.logins.get(sender.session)
        handler = _SESSIONS.get(kind)
        try:
            if handler is not None:
                if login is None:
                    self._refuse(sender.session, command.rid, "not_logged_in")
                    self._close(sender.session, "not_logged_in")
                    return
                handler(self, login, sender, command)
            elif kind in _INTERNAL:
                _INTERNAL[kind](self, sender, command)
            elif sender.operator and kind in _OPERATOR:
                _OPERATOR[kind](self, sender, command)
            else:
                self._refuse(sender.session, command.rid, "not_permitted")
        except No as no:
            asked = getattr(command, "command", command)
            where = getattr(asked, "conversation", None) if asked.rid == 0 else None
            self._refuse(sender.session, asked.rid, no.code, no.ranges, where, no.limit)

    # -- time passes

    def expire_receipts(self, talk: Talk, last: Seq) -> None:
        """Answers to all messages through `last` are gone."""
        askers = sorted({talk.facts[seq - 1].author for seq in talk.asked if seq <= last})
        self._forget_answers(talk, last)
        self._tell(talk.app, askers, "GroupReceiptsExpired", talk, last)

    def _forget_answers(self, talk: Talk, last: Seq) -> None:
        if last > talk.receipts_expired:
            self._set(talk, "receipts_expired", last)
        for seq in [seq for seq in talk.asked if seq <= last]:
            self._drop(talk.asked, seq)
            self._drop(talk.due, seq)
        self._touch_all(talk)

    def expire_messages(self, talk: Talk, last: Seq) -> None:
        """All messages through `last` are gone."""
        self._set(talk, "expired", last)
        self._forget_answers(talk, last)
        self._set(talk, "recalled", talk.recalled & ~up_to(last))
        self._set(talk, "uncounted", talk.uncounted & ~up_to(last))
        self._tell(talk.app, talk.members(), "MessagesExpired", talk, last)

    def idle(self, session: int) -> None:
        """A session that was silent for too long is ended."""
        login = self.logins.get(session)
        if login is not None:
            self._part(login)
        self._close(session, "idle")

    def _sweep(self, sender: Sender, command: Any) -> None:
        """What time has come for is told by `checks`, which knows when the node looked."""


_SESSIONS: dict[str, Callable[[Oracle, Login, Sender, Any], None]] = {
    "SendMessage": Oracle._send,
    "AckDelivered": Oracle._ack,
    "ReadConversation": Oracle._read_through,
    "ReadMessages": Oracle._read_named,
    "MarkUnread": Oracle._mark_unread,
    "RecallMessage": Oracle._recall,
    "ClearConversation": Oracle._clear,
    "SetSharing": Oracle._set_sharing,
    "SetMuted": Oracle._set_muted,
    "CreateGroup": Oracle._create_group,
    "AddMembers": Oracle._add_members,
    "RemoveMembers": Oracle._remove_members,
    "SetRole": Oracle._set_role,
    "ChangeGroup": Oracle._change_group,
    "DissolveGroup": Oracle._dissolve,
    "FetchHistory": Oracle._history,
    "ListConversations": Oracle._list,
    "ListMembers": Oracle._list_members,
    "ListReaders": Oracle._list_readers,
    "GetStatus": Oracle._get_status,
    "ExplainUnread": Oracle._explain,
    "GetBadge": Oracle._badge,
    "ListDevices": Oracle._list_devices,
    "LogOutDevice": Oracle._log_out,
    "ChangePassword": Oracle._change_password,
    "AckPage": Oracle._ack_page,
    "AckStatistics": Oracle._ack_statistics,
    "Ping": Oracle._ping,
}
_INTERNAL: dict[str, Callable[[Oracle, Sender, Any], None]] = {
    "Hello": Oracle._hello,
    "LinkLost": Oracle._link_lost,
    "PasswordChecked": Oracle._password_checked,
    "PasswordHashed": Oracle._password_hashed,
    "Malformed": Oracle._malformed,
    "Sweep": Oracle._sweep,
}
_OPERATOR: dict[str, Callable[[Oracle, Sender, Any], None]] = {
    "AddUser": Oracle._add_user,
    "RemoveUser": Oracle._remove_user,
    "RevokeTokens": Oracle._revoke,
    "SetPassword": Oracle._set_password,
    "MakeToken": Oracle._make_token,
    "MakeGroup": Oracle._make_group_for,
    "ExplainFor": Oracle._explain_for,
    "ListUsers": Oracle._listed,
    "ListAllConversations": Oracle._listed,
    "Stats": Oracle._text,
}
