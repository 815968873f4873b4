"""What can go wrong, and whose fault it is. The side that made the mistake is the class."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Code", "DecodeError", "LocalProtocolError", "ReceiptsError", "Refused", "RemoteProtocolError"]


class Code(StrEnum):
    """Why something was refused, or why a link was closed. The strings are part of the protocol."""

    # the link
    BAD_FRAME = "bad_frame"
    FRAME_TOO_LARGE = "frame_too_large"
    WRONG_VERSION = "wrong_version"
    PROTOCOL_ERROR = "protocol_error"
    NOT_LOGGED_IN = "not_logged_in"
    ALREADY_LOGGED_IN = "already_logged_in"
    REPLACED = "replaced"
    LOGGED_OUT = "logged_out"
    IDLE = "idle"
    TOO_SLOW = "too_slow"
    SHUTTING_DOWN = "shutting_down"
    # who you are
    UNAUTHORIZED = "unauthorized"
    TOKEN_INVALID = "token_invalid"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_REVOKED = "token_revoked"
    # what you named
    UNKNOWN_APP = "unknown_app"
    UNKNOWN_USER = "unknown_user"
    UNKNOWN_DEVICE = "unknown_device"
    UNKNOWN_CONVERSATION = "unknown_conversation"
    UNKNOWN_MESSAGE = "unknown_message"
    BEYOND_HEAD = "beyond_head"
    OWN_MESSAGE = "own_message"
    RECALLED = "recalled"
    EXPIRED = "expired"
    NOT_ASKED = "not_asked"
    ALREADY_EXISTS = "already_exists"
    CLIENT_ID_REUSED = "client_id_reused"
    # what you may
    NOT_A_MEMBER = "not_a_member"
    NOT_IN_AUDIENCE = "not_in_audience"
    NOT_PERMITTED = "not_permitted"
    FEATURE_OFF = "feature_off"
    # how much
    INVALID = "invalid"
    GROUP_TOO_LARGE = "group_too_large"
    TOO_MANY = "too_many"
    TOO_MANY_GAPS = "too_many_gaps"
    RATE_LIMITED = "rate_limited"
    STORAGE_FULL = "storage_full"
    BUSY = "busy"


class ReceiptsError(Exception):
    """Everything that this package raises on purpose."""


class LocalProtocolError(ReceiptsError):
    """The caller asked for something that is impossible now; nothing changed."""


class Refused(LocalProtocolError):
    """A wish was judged and refused; nothing changed.

    `code` is for programs, `reason` says in one sentence what is wrong and what to do, `retry_after_ms`
    (0: a retry as it is will not help) says when to come again, `limit` is the number that was exceeded.
    """

    def __init__(self, code: Code, reason: str, *, retry_after_ms: int = 0, limit: int | None = None) -> None:
        super().__init__(f"{reason} ({code.value})")
        self.code = code
        self.reason = reason
        self.retry_after_ms = retry_after_ms
        self.limit = limit


class RemoteProtocolError(ReceiptsError):
    """The peer broke the protocol; the link has to be closed with `code`."""

    def __init__(self, message: str, *, code: Code = Code.PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.code = code


class DecodeError(RemoteProtocolError):
    """These bytes are not a frame."""

    def __init__(self, message: str, *, code: Code = Code.BAD_FRAME) -> None:
        super().__init__(message, code=code)
