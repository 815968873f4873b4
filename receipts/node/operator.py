"""How the operator's tools speak with a running node: JSON objects, over a socket in the data directory.

    {"type": "AddUser", "rid": 1, "app": "default", "user": "alice", "password": "…"}
    {"type": "Done", "rid": 1}

Whoever can open the socket is the operator; its file mode is the lock. PURE.
"""

from __future__ import annotations

import json
from typing import Any, get_args

import attrs

from receipts.core.errors import DecodeError
from receipts.wire.codec import Frame

from .commands import Admin

__all__ = ["OPERATOR", "OperatorDialect", "encode_request"]

_TYPES: dict[str, type] = {kind.__name__: kind for kind in get_args(Admin)}


class OperatorDialect:
    """A `wire.Dialect` whose commands are the operator's."""

    shared_key = ""

    def decode(self, frame: Frame) -> list[Any]:
        """Raises:
        DecodeError: This is not a request; the text says why.
        """
        try:
            fields = json.loads(frame)
            kind = _TYPES[fields.pop("type")]
            tuples = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
            return [kind(**{**fields, **tuples})]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DecodeError(f"not a request: {error!r}") from error

    def encode(self, update: Any, tick: int) -> list[Frame]:
        """Any update, as its fields."""
        return [json.dumps({"type": type(update).__name__, **attrs.asdict(update)}, default=str)]


OPERATOR = OperatorDialect()


def encode_request(command: Admin) -> str:
    """A request as a frame."""
    fields = attrs.asdict(command)  # type: ignore[arg-type]  # `value` makes attrs classes
    return json.dumps({"type": type(command).__name__, **fields})
