"""How each type of field is written and checked, found out from the annotations of the vocabulary.

A `Form` turns one field into what msgpack or JSON can hold, and back. A `Record` does so for a whole value
by its fields. The binary form of a value is an array of its fields in order of declaration without
trailing defaults; the text form is an object without fields that have their default. Nothing here knows of
frames; see `codec`.

Rule 1: what a stranger sends is checked to the last bound (`strict`); the mistake is theirs.
Rule 2: what a node sends is checked for its types, and may be newer than this program (I-30): further fields
are left alone, unknown values of an enum fall back to one that claims least, an unknown register is skipped.
"""

from __future__ import annotations

import base64
import types
from collections.abc import Callable
from enum import Enum, IntEnum
from operator import attrgetter
from typing import Any, Final, NamedTuple, NewType, TypeAlias, Union, get_args, get_origin, get_type_hints

import attrs

from receipts.core.errors import Code, LocalProtocolError
from receipts.core.events import By, MessageAccepted, Register, Role
from receipts.core.ids import ConversationKind, Counts, Shares, is_user_id
from receipts.core.ranges import check_ranges
from receipts.core.status import Status, Unknown

from .limits import (
    APP_CHARACTERS_MAX,
    CLIENT_CHARACTERS_MAX,
    CONVERSATION_CHARACTERS_MAX,
    DESCRIPTION_CHARACTERS_MAX,
    DEVICE_CHARACTERS_MAX,
    INT_MAX,
    JSON_INT_MAX,
    NAME_CHARACTERS_MAX,
    RANGES_MAX,
    SECRET_CHARACTERS_MAX,
    SEQ_MAX,
    SEQS_MAX,
    TOKEN_CHARACTERS_MAX,
    USERS_MAX,
)

__all__ = ["Field", "Form", "Record", "Skipped", "Wrong", "fields_of", "is_printable", "record"]

_Convert: TypeAlias = Callable[[Any], Any]


class Wrong(Exception):
    """A field that cannot be; the message says why, `code` what to answer.

    What was sent is not repeated in it: it may be a password, and the message goes into logs.
    """

    def __init__(self, message: str, code: Code = Code.INVALID) -> None:
        super().__init__(message)
        self.code = code


class Skipped(Exception):
    """From a newer peer, and of a sort that is to be left out as a whole."""


class Form(NamedTuple):
    """One type of field, in both forms."""

    pack: _Convert | None
    """To what msgpack holds; None when it does so by itself."""
    unpack: _Convert
    """From msgpack (arrays are tuples). Raises `Wrong` or `Skipped`."""
    dump: _Convert | None
    """To what JSON holds; None when it does so by itself."""
    load: _Convert
    """From JSON (arrays are lists). Raises `Wrong` or `Skipped`."""


# -- numbers ----------------------------------------------------------------------------------------------


def _int_from(least: int, most: int = INT_MAX) -> Form:
    def unpack(item: Any) -> int:
        if item.__class__ is int and least <= item <= most:
            return item
        raise Wrong(f"not a whole number from {least} to {most}")

    def load(item: Any) -> int:
        return unpack(_int_of_json(item))

    return Form(None, unpack, _int_to_json, load)


def _int_of_json(item: Any) -> Any:
    """A number that was written as a string, for the sake of JavaScript; anything else as it is."""
    if item.__class__ is str and len(item) <= _DIGITS_MAX and item.isascii() and item.isdigit():
        return int(item)
    return item


def _int_to_json(item: int) -> int | str:
    return item if item <= JSON_INT_MAX else str(item)


def _unpack_bool(item: Any) -> bool:
    if item is True or item is False:
        return item
    raise Wrong("neither true nor false")


_DIGITS_MAX = len(str(INT_MAX))
_INT = _int_from(0)
_INT_FROM_1 = _int_from(1)
_SEQ = _int_from(1, SEQ_MAX)
_NO_SEQ_OR_SEQ = _int_from(0, SEQ_MAX)
_BOOL = Form(None, _unpack_bool, None, _unpack_bool)


# -- strings ----------------------------------------------------------------------------------------------


def is_printable(text: str, characters_max: int) -> bool:
    """Whether `text` is fit for a name: not empty, not too long, nothing in it that cannot be seen."""
    return 0 < len(text) <= characters_max and text.isprintable()


def _unpack_str(item: Any) -> str:
    if item.__class__ is not str:
        raise Wrong("not a string")
    if not item.isascii():
        try:
            item.encode()  # JSON can spell half a surrogate pair, which nothing else can carry
        except UnicodeEncodeError:
            raise Wrong("half of a surrogate pair is not a character") from None
    return item


def _checked_str(fits: Callable[[str], bool], wanted: str) -> Form:
    def unpack(item: Any) -> str:
        text = _unpack_str(item)
        if fits(text):
            return text
        raise Wrong(f"not {wanted}")

    return Form(None, unpack, None, unpack)


def _at_most(characters_max: int) -> Form:
    return _checked_str(lambda text: len(text) <= characters_max, f"at most {characters_max} characters")


def _printable(characters_max: int) -> Form:
    wanted = f"1 to {characters_max} printable characters"
    return _checked_str(lambda text: is_printable(text, characters_max), wanted)


_STR = Form(None, _unpack_str, None, _unpack_str)
_USER = _checked_str(is_user_id, "a user id")
_NO_USER_OR_USER = _checked_str(lambda text: not text or is_user_id(text), "a user id, or nothing")
_CONVERSATION = _printable(CONVERSATION_CHARACTERS_MAX)
_DEVICE = _printable(DEVICE_CHARACTERS_MAX)
_APP = _printable(APP_CHARACTERS_MAX)
_SECRET = _at_most(SECRET_CHARACTERS_MAX)
_TOKEN = _at_most(TOKEN_CHARACTERS_MAX)
_CLIENT = _at_most(CLIENT_CHARACTERS_MAX)
_NAME = _at_most(NAME_CHARACTERS_MAX)
_DESCRIPTION = _at_most(DESCRIPTION_CHARACTERS_MAX)


# -- what an application sends ------------------------------------------------------------------------------

_BASE64 = "base64"
_TEXT_BASE64 = "text_base64"
_ESCAPED_CHARACTERS_MAX = 64 * 1024  # six times as much fits into a frame with room to spare


def _unpack_body(item: Any) -> str | bytes:
    return item if item.__class__ is bytes else _unpack_str(item)


def _dump_body(item: str | bytes) -> Any:
    if item.__class__ is bytes:
        return {_BASE64: base64.b64encode(item).decode("ascii")}
    if len(item) > _ESCAPED_CHARACTERS_MAX and not item.isprintable():  # type: ignore[union-attr]
        # JSON spells a control character in six; a long body of them would make a frame that is too large
        return {_TEXT_BASE64: base64.b64encode(item.encode()).decode("ascii")}  # type: ignore[union-attr]
    return item


def _load_body(item: Any) -> str | bytes:
    if item.__class__ is not dict:
        return _unpack_str(item)
    try:
        if _BASE64 in item:
            return base64.b64decode(item[_BASE64], validate=True)
        return base64.b64decode(item[_TEXT_BASE64], validate=True).decode()
    except (KeyError, TypeError, ValueError):
        raise Wrong(f'neither a string, {{"{_BASE64}": …}} nor {{"{_TEXT_BASE64}": …}}') from None


_BODY = Form(None, _unpack_body, _dump_body, _load_body)


# -- choices ----------------------------------------------------------------------------------------------


def _fallback(kind: type[Enum]) -> Callable[[Any], Any]:
    """What stands for a value of `kind` that only a newer node knows: what claims least (I-30)."""
    if kind is Status:
        return lambda item: max((known for known in Status if known <= item), default=Status.SENT)
    if kind is Shares:
        return lambda item: Shares(item & Shares.ALL)
    if kind is Register:
        return _skip
    constant = _FALLBACKS[kind]
    return lambda item: constant


_FALLBACKS: Final[dict[type[Enum], Enum]] = {
    Code: Code.PROTOCOL_ERROR,
    Unknown: Unknown.NOT_SUPPORTED,
    Role: Role.MEMBER,
    ConversationKind: ConversationKind.GROUP,
    By: By.UNSAID,
    Counts: Counts.SYSTEM,
}


def _skip(item: Any) -> Any:
    raise Skipped


def _choice(kind: type[Enum], strict: bool) -> Form:
    known = {member.value: member for member in kind}
    plain = _INT if issubclass(kind, IntEnum) else _STR
    fallback = _fallback(kind)

    def judge(item: Any) -> Any:
        found = known.get(item)
        if found is not None:
            return found
        if strict:
            raise Wrong(f"not one of {', '.join(map(repr, known))}")
        return fallback(item)

    return Form(
        None,
        lambda item: judge(plain.unpack(item)),
        None,
        lambda item: judge(plain.load(item)),
    )


# -- several of them --------------------------------------------------------------------------------------


def _optional(form: Form) -> Form:
    pack, unpack, dump, load = form
    return Form(
        pack and (lambda item: None if item is None else pack(item)),
        lambda item: None if item is None else unpack(item),
        dump and (lambda item: None if item is None else dump(item)),
        lambda item: None if item is None else load(item),
    )


def _bool_or(form: Form) -> Form:
    unpack, load = form.unpack, form.load
    return Form(
        None,
        lambda item: item if item is True or item is False else unpack(item),
        None,
        lambda item: item if item is True or item is False else load(item),
    )


def _array(item: Any) -> Any:
    if item.__class__ is tuple or item.__class__ is list:
        return item
    raise Wrong("not an array")


def _convert_all(items: Any, convert: _Convert) -> tuple[Any, ...]:
    found = []
    for item in items:
        try:
            found.append(convert(item))
        except Skipped:
            pass
    return tuple(found)


def _sequence(form: Form, least: int = 0, most: int | None = None) -> Form:
    pack, unpack, dump, load = form

    def bounded(items: Any) -> Any:
        if len(_array(items)) < least:
            raise Wrong("empty")
        if most is not None and len(items) > most:
            raise Wrong(f"more than {most}", Code.TOO_MANY)
        return items

    return Form(
        pack and (lambda items: [pack(item) for item in items]),
        lambda items: _convert_all(bounded(items), unpack),
        dump and (lambda items: [dump(item) for item in items]),
        lambda items: _convert_all(bounded(items), load),
    )


def _row(forms: tuple[Form, ...]) -> Form:
    """A tuple of fixed length; further elements are left alone."""

    def through(converts: list[_Convert | None]) -> _Convert | None:
        if not any(converts):
            return None
        return lambda items: [c(i) if c else i for c, i in zip(converts, items, strict=True)]

    def back(converts: list[_Convert]) -> _Convert:
        def convert(items: Any) -> tuple[Any, ...]:
            if len(_array(items)) < len(converts):
                raise Wrong(f"fewer than {len(converts)} elements")
            return tuple(c(i) for c, i in zip(converts, items, strict=False))

        return convert

    return Form(
        through([form.pack for form in forms]),
        back([form.unpack for form in forms]),
        through([form.dump for form in forms]),
        back([form.load for form in forms]),
    )


def _ranges(least: int = 0, most: int | None = None) -> Form:
    def checked(items: tuple[int, ...]) -> tuple[int, ...]:
        if len(items) < 2 * least:
            raise Wrong("empty")
        if most is not None and len(items) > 2 * most:
            raise Wrong(f"more than {most} ranges", Code.TOO_MANY_GAPS)
        for item in items:
            if item.__class__ is not int or item > INT_MAX:
                raise Wrong("not a seq")
        try:
            check_ranges(items)
        except LocalProtocolError:
            raise Wrong("ranges (start, stop, …) are even in number and increase from 1") from None
        return items

    return Form(
        None,
        lambda items: checked(tuple(_array(items))),
        lambda items: [_int_to_json(item) for item in items],
        lambda items: checked(tuple(_int_of_json(item) for item in _array(items))),
    )


_RANGES = _ranges()


# -- register values --------------------------------------------------------------------------------------

_INT_KEY = "int"


def _unpack_register_value(item: Any) -> Any:
    if item is None or item is True or item is False:
        return item
    if item.__class__ is str:
        return _unpack_str(item)
    if item.__class__ is int and 0 <= item <= INT_MAX:
        return item
    raise Skipped


def _dump_register_value(item: Any) -> Any:
    """A string stays one here, so a large number needs another coat."""
    return {_INT_KEY: str(item)} if item.__class__ is int and item > JSON_INT_MAX else item


def _load_register_value(item: Any) -> Any:
    if item.__class__ is dict:
        item = _int_of_json(item.get(_INT_KEY))
        if item.__class__ is not int:
            raise Skipped
    return _unpack_register_value(item)


_REGISTER_VALUE = Form(None, _unpack_register_value, _dump_register_value, _load_register_value)


# -- whole values -----------------------------------------------------------------------------------------


class Field(NamedTuple):
    """One field of a value on the wire."""

    name: str
    default: Any
    """`attrs.NOTHING` when it has to be there."""
    form: Form


class Record:
    """All fields of one type, in order of declaration."""

    __slots__ = (
        "_backwards",
        "_get",
        "_in_order",
        "_least",
        "_names",
        "_packs",
        "_unpacks",
        "fields",
        "kind",
    )

    def __init__(self, kind: type, fields: tuple[Field, ...]) -> None:
        self.kind = kind
        self.fields = fields
        self._names = [field.name for field in fields]
        # With what the type has anyway in front, so that it gives a tuple for a single field too.
        self._get = attrgetter("__class__", *self._names)
        # Whether values may be given in order, without their names: no field in between stays private.
        given = [field.name for field in attrs.fields(kind) if not field.kw_only]
        self._in_order = self._names == given[: len(fields)]
        self._backwards = [field.default for field in reversed(fields)]
        packs = ((index, field.form.pack) for index, field in enumerate(fields))
        self._packs = [(index, pack) for index, pack in packs if pack is not None]
        self._unpacks = [field.form.unpack for field in fields]
        needed = (index for index, field in enumerate(fields, 1) if field.default is attrs.NOTHING)
        self._least = max(needed, default=0)

    def pack(self, value: Any, *head: int) -> list[Any]:
        """The binary form: `head`, then the fields without trailing ones that have their default."""
        _, *items = self._get(value)
        for default in self._backwards:
            item = items[-1]
            if item is not default and (default is attrs.NOTHING or item != default):
                break
            items.pop()
        count = len(items)
        for index, pack in self._packs:
            if index >= count:
                break
            items[index] = pack(items[index])
        return [*head, *items]

    def unpack(self, items: Any, start: int = 0) -> Any:
        """A value from its binary form, which begins at `start`.

        Raises:
            Wrong: A field is missing or cannot be.
            Skipped: It is from a newer peer and has to be left out.
        """
        _array(items)
        found: list[Any] = []
        try:
            for unpack, item in zip(self._unpacks, items[start:] if start else items, strict=False):
                found.append(unpack(item))
        except Wrong as error:
            raise _named(self._names[len(found)], error) from None
        if len(found) < self._least:
            left = self.fields[len(found) :]
            raise Wrong(f"{next(field.name for field in left if field.default is attrs.NOTHING)} is missing")
        if self._in_order:
            return self.kind(*found)
        return self.kind(**dict(zip(self._names, found, strict=False)))

    def dump(self, value: Any) -> dict[str, Any]:
        """The text form, as an object without fields that have their default."""
        found: dict[str, Any] = {}
        for name, default, form in self.fields:
            item = getattr(value, name)
            if default is attrs.NOTHING or item != default:
                found[name] = form.dump(item) if form.dump else item
        return found

    def load(self, source: Any) -> Any:
        """A value from its text form; keys that are not known are left alone.

        Raises:
            Wrong: A field is missing or cannot be.
            Skipped: It is from a newer peer and has to be left out.
        """
        if source.__class__ is not dict:
            raise Wrong("not an object")
        found: dict[str, Any] = {}
        for name, default, form in self.fields:
            if name in source:
                try:
                    found[name] = form.load(source[name])
                except Wrong as error:
                    raise _named(name, error) from None
            elif default is attrs.NOTHING:
                raise Wrong(f"{name} is missing")
        return self.kind(**found)


def _named(name: str, error: Wrong) -> Wrong:
    """What is wrong, with the field that it is wrong in."""
    return Wrong(f"{name}: {error}", error.code)


_PRIVATE: Final[dict[type, frozenset[str]]] = {MessageAccepted: frozenset({"device", "client_id"})}
"""Fields that stay between the author's device and the node."""


def fields_of(kind: type) -> list[tuple[str, Any, Any]]:
    """(name, type, default or `attrs.NOTHING`) of what travels of `kind`, in order of declaration."""
    hints = get_type_hints(kind)
    private = _PRIVATE.get(kind, frozenset())
    return [
        (field.name, hints[field.name], field.default)
        for field in attrs.fields(kind)
        if field.name not in private
    ]


def record(kind: type, *, strict: bool) -> Record:
    """The record of a type of the vocabulary, by its annotations.

    Args:
        strict: Whether a stranger fills it in (rule 1), or a node that may be newer (rule 2).
    """
    known = _RECORDS.get((kind, strict))
    if known is None:
        fields = tuple(
            Field(name, default, _form(name, hint, strict)) for name, hint, default in fields_of(kind)
        )
        known = _RECORDS[kind, strict] = Record(kind, fields)
    return known


_RECORDS: dict[tuple[type, bool], Record] = {}

_PLAIN: Final[dict[Any, Form]] = {int: _INT, str: _STR, bool: _BOOL, tuple[int, ...]: _RANGES}

_NAMED: Final[dict[Any, Form]] = {("seq", int): _INT_FROM_1}
"""Fields whose name says more than their type, whoever fills them in."""

_NAMED_STRICT: Final[dict[Any, Form]] = {
    ("conversation", str): _CONVERSATION,
    ("user", str): _USER,
    ("users", tuple[str, ...]): _sequence(_USER, least=1, most=USERS_MAX),
    ("members", tuple[str, ...]): _sequence(_USER, most=USERS_MAX),
    ("after", str): _NO_USER_OR_USER,
    ("device", str): _DEVICE,
    ("install", str): _DEVICE,
    ("app", str): _APP,
    ("password", str): _SECRET,
    ("old", str): _SECRET,
    ("new", str): _SECRET,
    ("token", str): _TOKEN,
    ("resume", str): _TOKEN,
    ("cursor", str): _TOKEN,
    ("client", str): _CLIENT,
    ("name", str): _NAME,
    ("description", str): _DESCRIPTION,
    ("ranges", tuple[int, ...]): _ranges(least=1, most=RANGES_MAX),
    ("seqs", tuple[int, ...]): _sequence(_SEQ, most=SEQS_MAX),
    ("seq", int): _SEQ,
    ("from_seq", int): _SEQ,
    ("through", int): _NO_SEQ_OR_SEQ,
    ("before", int): _NO_SEQ_OR_SEQ,
    ("after", int): _NO_SEQ_OR_SEQ,
    ("limit", int): _INT_FROM_1,
}
"""What a stranger may write into the fields of commands."""


def _form(name: str, hint: Any, strict: bool) -> Form:
    """The form of a field by its type; its name matters where the type alone does not say enough."""
    if isinstance(hint, NewType):
        return _form(name, hint.__supertype__, strict)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _choice(hint, strict)
    if isinstance(hint, type) and attrs.has(hint):
        inner = record(hint, strict=strict)
        return Form(inner.pack, inner.unpack, inner.dump, inner.load)
    if get_origin(hint) in (Union, types.UnionType):
        return _union(name, set(get_args(hint)), strict)
    found = (strict and _NAMED_STRICT.get((name, hint))) or _NAMED.get((name, hint)) or _PLAIN.get(hint)
    if found:
        return found
    arguments = get_args(hint)
    if arguments[-1] is ...:
        return _sequence(_form("", arguments[0], strict))
    return _row(tuple(_form("", argument, strict) for argument in arguments))


def _union(name: str, choices: set[Any], strict: bool) -> Form:
    if choices == {str, bytes}:
        return _BODY
    if choices == {str, bool, int, type(None)}:
        return _REGISTER_VALUE
    if choices == {bool, Unknown}:
        return _bool_or(_choice(Unknown, strict))
    (some,) = choices - {type(None)}
    return _optional(_form(name, some, strict))
