"""How one session speaks: the seam between frames and the vocabulary. The native protocol's two are here.

A dialect may have state of its own (a vendor's has); the native ones have none, so all sessions share them.
"""

from __future__ import annotations

from typing import Final, Protocol

from .codec import Frame, decode_command, encode_update
from .commands import Command
from .updates import Update

__all__ = ["NATIVE_BINARY", "NATIVE_TEXT", "Dialect", "NativeBinary", "NativeText", "dialect_of"]


class Dialect(Protocol):
    """How one session speaks."""

    @property
    def shared_key(self) -> str:
        """Sessions with an equal, non-empty key are sent the same frames for the same update, so that it
        is encoded once for all of them; empty when frames are made for this session alone."""

    def decode(self, frame: Frame) -> list[Command]:
        """The commands in a frame that came from the client, in order; none is a possible answer.

        Raises:
            BadCommand: The command is to be refused, the link goes on.
            DecodeError: This is not a frame; the link is to be closed.
        """

    def encode(self, update: Update, tick: int) -> list[Frame]:
        """The frames that tell the client of an update, in order; none when this client cannot be told.

        Raises:
            LocalProtocolError: The update is too large for a frame, or holds what cannot be written.
        """


class NativeBinary:
    """The native protocol in msgpack."""

    __slots__ = ()

    shared_key: Final = "native-binary"

    def decode(self, frame: Frame) -> list[Command]:
        """One command; a text frame is understood as well."""
        return [decode_command(frame)]

    def encode(self, update: Update, tick: int) -> list[Frame]:
        """One binary frame."""
        return [encode_update(update, tick)]


class NativeText:
    """The native protocol in JSON."""

    __slots__ = ()

    shared_key: Final = "native-text"

    def decode(self, frame: Frame) -> list[Command]:
        """One command; a binary frame is understood as well."""
        return [decode_command(frame)]

    def encode(self, update: Update, tick: int) -> list[Frame]:
        """One text frame."""
        return [encode_update(update, tick, text=True)]


NATIVE_BINARY: Final = NativeBinary()
NATIVE_TEXT: Final = NativeText()


def dialect_of(first_frame: Frame) -> Dialect:
    """The native dialect that a session chose by its first frame: answers come as it spoke."""
    return NATIVE_TEXT if isinstance(first_frame, str) else NATIVE_BINARY
