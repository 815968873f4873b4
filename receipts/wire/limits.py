"""What a frame may cost before anybody looks at what it asks. Numbers only.

These bound what a stranger can make a node hold or compute. What an application allows (the length of a
body, the ids of a query) is judged later, by `receipts.core.policy.Limits`, and is always less.
"""

from __future__ import annotations

from typing import Final

from receipts.core.policy import Limits

__all__ = [
    "APP_CHARACTERS_MAX",
    "CLIENT_CHARACTERS_MAX",
    "CONVERSATION_CHARACTERS_MAX",
    "DESCRIPTION_CHARACTERS_MAX",
    "DEVICE_CHARACTERS_MAX",
    "FRAME_BYTES_MAX",
    "INT_MAX",
    "ITEMS_MAX",
    "JSON_INT_MAX",
    "NAME_CHARACTERS_MAX",
    "NESTING_MAX",
    "RANGES_MAX",
    "SECRET_CHARACTERS_MAX",
    "SEQS_MAX",
    "SEQ_MAX",
    "STRANGER_ITEMS_MAX",
    "TOKEN_CHARACTERS_MAX",
    "USERS_MAX",
]

FRAME_BYTES_MAX: Final = 1024 * 1024
"""Of one frame, in UTF-8 if it is text: four bodies of the largest size, as the transports have it."""

NESTING_MAX: Final = 16
"""Arrays and objects inside each other; our own deepest frame, a catch-up page, has 8."""

STRANGER_ITEMS_MAX: Final = 2 * Limits().gaps_max
"""Elements of one array in a command: the ranges of the largest set."""

ITEMS_MAX: Final = 128 * 1024
"""Elements of one array in an update: 65536 ranges. A set with more gaps is sent in parts, being a join."""

INT_MAX: Final = 2**63 - 1
"""What SQLite and most languages hold in a whole number."""

JSON_INT_MAX: Final = 2**53
"""What JavaScript reads without loss; larger numbers travel as strings in the text form."""

RANGES_MAX: Final = Limits().gaps_max
"""Separate ranges in one mark: no set that it could go into may have more."""

SEQ_MAX: Final = INT_MAX - 1
"""In a command: the range that ends with this message can still be written."""

SEQS_MAX: Final = 1000
"""Messages that one status query may name; policy allows far fewer."""

USERS_MAX: Final = Limits().group_members_max
"""Users that one command may name: a whole group of the largest size."""

CONVERSATION_CHARACTERS_MAX: Final = 140
"""Two user ids of 64 characters and the sign between them, rounded up."""

DEVICE_CHARACTERS_MAX: Final = 64
"""Of a device or install id: room for a UUID with a prefix."""

APP_CHARACTERS_MAX: Final = 128
"""Organisation and application with the sign between them."""

SECRET_CHARACTERS_MAX: Final = 1024
"""Of a password; hashing a longer one is only a way to make the node work."""

TOKEN_CHARACTERS_MAX: Final = 8192
"""Of tokens and cursors, which are opaque to a client: HTTP servers take headers of this size."""

CLIENT_CHARACTERS_MAX: Final = 256
"""Of a client's name and version, which goes into logs."""

NAME_CHARACTERS_MAX: Final = 256
"""Of a group's name: one line on any screen."""

DESCRIPTION_CHARACTERS_MAX: Final = 4096
"""Of a group's description: a page of text."""
