"""What the SDK is told when something was refused: codes and texts that it makes its own errors of. PURE.

It compares most texts as a whole, so they say no more than these; any other text becomes an error of its
general kind, with the text in it.
"""

from __future__ import annotations

from typing import NamedTuple

from receipts.core.errors import Code
from receipts.node.accounts import ACCOUNT_REMOVED, PASSWORD_CHANGED
from receipts.node.messages import ASKED_ENOUGH
from receipts.wire.updates import Rejected

from .codec import Kick, StatusCode

__all__ = ["Refusal", "kick_of", "of_login", "of_message", "of_receipt"]


class Refusal(NamedTuple):
    """A `Status` other than OK."""

    code: StatusCode
    reason: str


_FAIL, _DENIED = StatusCode.FAIL, StatusCode.PERMISSION_DENIED

_NOT_IN_GROUP = Refusal(_FAIL, "not in group or chatroom")
_NO_GROUP = Refusal(_FAIL, "group not found")
_TOO_FAST = Refusal(_DENIED, "traffic limit")
_TOO_LARGE = Refusal(_DENIED, "Sorry, data is too large")
_ACK_OFF = Refusal(_FAIL, "group ack not open")
_MAY_NOT_ASK = Refusal(_FAIL, "group ack msg permission denied")
_NO_ACKED = Refusal(_FAIL, "group ack msg not found")
_ASKED_ENOUGH = Refusal(_FAIL, "limit send group ack msg")

_COMMON = {
    Code.NOT_A_MEMBER: _NOT_IN_GROUP,
    Code.UNKNOWN_CONVERSATION: _NO_GROUP,
    Code.RATE_LIMITED: _TOO_FAST,
    Code.BUSY: _TOO_FAST,
}

_OF_RECEIPT = {
    **_COMMON,
    Code.FEATURE_OFF: _ACK_OFF,
    Code.NOT_ASKED: _NO_ACKED,
    Code.UNKNOWN_MESSAGE: _NO_ACKED,
    Code.NOT_IN_AUDIENCE: _NO_ACKED,
    Code.RECALLED: _NO_ACKED,
    Code.EXPIRED: _NO_ACKED,
    Code.INVALID: _TOO_LARGE,
}

_OF_RECALL = {
    **_COMMON,
    Code.FEATURE_OFF: Refusal(_FAIL, "message recall disabled"),
    Code.EXPIRED: Refusal(_FAIL, "exceed recall time limit"),
    Code.NOT_PERMITTED: Refusal(_FAIL, "blocked"),
}


def of_message(rejected: Rejected, to: str, *, asks: bool) -> Refusal:
    """Of a message to `to`, which asked for receipts or did not."""
    code = rejected.code
    if code is Code.UNKNOWN_USER:
        return Refusal(_FAIL, f"username {to} doesn't exist!")
    if code is Code.INVALID:
        return _TOO_LARGE if rejected.limit is not None else _as_it_is(rejected)
    if code is Code.NOT_PERMITTED:
        return _MAY_NOT_ASK if asks else Refusal(_FAIL, "not in group or chatroom white list")
    if code is Code.FEATURE_OFF and asks:
        return _ACK_OFF
    if code is Code.RATE_LIMITED and ASKED_ENOUGH in rejected.reason:
        return _ASKED_ENOUGH
    return _COMMON.get(code) or _as_it_is(rejected)


def of_receipt(rejected: Rejected, *, recall: bool) -> Refusal:
    """Of a receipt, or of a recall."""
    return (_OF_RECALL if recall else _OF_RECEIPT).get(rejected.code) or _as_it_is(rejected)


def _as_it_is(rejected: Rejected) -> Refusal:
    return Refusal(_FAIL, rejected.reason)


_OF_LOGIN = {
    Code.TOKEN_EXPIRED: Refusal(_FAIL, "Sorry, token expired"),
    Code.TOKEN_INVALID: Refusal(_FAIL, "Sorry, token or password does not match login info"),
    Code.TOKEN_REVOKED: Refusal(_FAIL, "Sorry, token or password does not match login info"),
    Code.UNAUTHORIZED: Refusal(_FAIL, "Sorry, token or password does not match login info"),
    Code.UNKNOWN_USER: Refusal(_FAIL, "Sorry, user not found"),
    Code.TOO_MANY: Refusal(StatusCode.TOO_MANY_DEVICES, "Sorry, too many devices"),
}

_COME_AGAIN = frozenset({Code.SHUTTING_DOWN, Code.STORAGE_FULL, Code.BUSY, Code.RATE_LIMITED})


def of_login(rejected: Rejected) -> Refusal | None:
    """Of a login; None when it is not refused for good: a link that just ends is tried again."""
    if rejected.code in _COME_AGAIN:
        return None
    return _OF_LOGIN.get(rejected.code) or _as_it_is(rejected)


def kick_of(code: Code, reason: str) -> Kick | None:
    """How a session is ended for good; None when it may come back by itself."""
    if code is Code.REPLACED:
        return Kick.ANOTHER_DEVICE
    if code is Code.LOGGED_OUT:
        return _LOGGED_OUT.get(reason, Kick.BY_OTHER_DEVICE)
    return None


_LOGGED_OUT = {PASSWORD_CHANGED: Kick.PASSWORD_CHANGED, ACCOUNT_REMOVED: Kick.USER_REMOVED}
