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
from receipts.wire.codec import BadCommand, Frame
from receipts.wire.forms import Record, Wrong, record

from .commands import Admin

__all__ = ["OPERATOR", "OperatorDialect", "encode_request"]

_RECORDS: dict[str, Record] = {kind.__name__: record(kind, strict=True) for kind in get_args(Admin)}


class OperatorDialect:
    """A `wire.Dialect` whose commands are the operator's."""

    shared_key = ""

    def decode(self, frame: Frame) -> list[Any]:
        """Raises:
        BadCommand: A request with a mistake in it; the text says which.
        DecodeError: This is not a request.
        """
        try:
            fields = json.loads(frame)
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"a request is a JSON object: {error}") from error
        if not isinstance(fields, dict) or not isinstance(name := fields.pop("type", None), str):
            raise DecodeError('a request is a JSON object with a "type"')
        rid = fields.get("rid")
        rid = rid if isinstance(rid, int) else 0
        known = _RECORDS.get(name)
        if known is None:
            raise BadCommand(rid, f"there is no request {name!r}; known are {', '.join(sorted(_RECORDS))}")
        if unknown := fields.keys() - {field.name for field in known.fields}:
            raise BadCommand(rid, f"{name} has no {', '.join(sorted(unknown))}")
        try:
            return [known.load(fields)]
        except Wrong as error:
            raise BadCommand(rid, f"{name}: {error}", error.code) from None

    def encode(self, update: Any, tick: int) -> list[Frame]:
        """Any update, as its fields."""
        return [json.dumps({"type": type(update).__name__, **attrs.asdict(update)}, default=str)]


OPERATOR = OperatorDialect()


def encode_request(command: Admin) -> str:
    """A request as a frame."""
    fields = attrs.asdict(command)  # type: ignore[arg-type]  # `value` makes attrs classes
    return json.dumps({"type": type(command).__name__, **fields})
