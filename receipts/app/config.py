"""The configuration file: TOML in, checked values out. Flags and environment are the command line's.

    [serve]
    data = "/var/lib/receipts"
    tcp = ["0.0.0.0:4000"]

    [apps.default.limits]
    sends_per_second = 20.0

Every complaint names file and line, and the entry that was probably meant.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from receipts.core.errors import Refused
from receipts.core.policy import Features, GroupPolicy, Limits
from receipts.node.admin import parse_settings

from .complaints import Complaint, system_reason

__all__ = ["NOTHING", "Config", "load_config", "load_settings"]

_SERVE: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "data": (str, "the path of a directory"),
    "tcp": (list, 'a list of addresses, such as ["127.0.0.1:4000"]'),
    "ws": (list, 'a list of addresses, such as ["127.0.0.1:4001/chat"]'),
    "easemob": (list, 'a list of addresses, such as ["127.0.0.1:4002"]'),
    "app_key": (list, 'a list of app keys, such as ["org#app"]'),
    "open_registration": (bool, "true or false"),
    "tls_cert": (str, "the path of a PEM file"),
    "tls_key": (str, "the path of a PEM file"),
    "metrics": (str, "an address, such as 127.0.0.1:9400"),
    "loop": (str, "uvloop, asyncio or trio"),
    "log_format": (str, "text or json"),
    "heartbeat": ((int, float), "a number of seconds"),
}


def _names_of(cls: Any) -> frozenset[str]:
    return frozenset(field.name for field in attrs.fields(cls))


_PARTS: Mapping[str, frozenset[str]] = {
    "features": _names_of(Features) - {"groups"},
    "groups": _names_of(GroupPolicy),
    "limits": _names_of(Limits),
}


@attrs.frozen
class Config:
    """What a file says; what it does not say is absent."""

    serve: Mapping[str, Any]
    """By the names of `serve`'s flags, with `_` for `-`."""
    apps: Mapping[str, str]
    """Settings by app name, JSON as `receipts.node.admin.parse_settings` takes them."""


NOTHING = Config({}, {})


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        Complaint: It cannot be read, is not TOML, or says something that means nothing.
    """
    source = _Source(path)
    found = source.toml()
    source.check_names((), found, ("serve", "apps"))
    serve = source.table(("serve",), found.get("serve", {}))
    source.check_names(("serve",), serve, _SERVE)
    for name, content in serve.items():
        kind, meaning = _SERVE[name]
        fits = isinstance(content, kind) and (kind is bool or not isinstance(content, bool))
        if not fits or (kind is list and not all(isinstance(item, str) for item in content)):
            raise source.complaint(("serve",), name, f"serve.{name} has to be {meaning}, not {content!r}")
    apps = source.table(("apps",), found.get("apps", {}))
    return Config(serve, {name: source.settings(("apps", name), content) for name, content in apps.items()})


def load_settings(path: Path) -> str:
    """Read and check a file of one app's settings: TOML or JSON with `features`, `groups` and `limits`.

    Returns:
        JSON.

    Raises:
        Complaint: As `load_config`.
    """
    source = _Source(path)
    return source.settings((), source.json() if path.suffix == ".json" else source.toml())


class _Source:
    """A file, and where in it something stands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise Complaint(f"{path} is not text in UTF-8") from None
        except OSError as error:
            raise Complaint(
                f"the file {path} cannot be read: {system_reason(_without_name(error))}"
            ) from None

    def toml(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            at = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
            line = int(at[1]) if at else self.text.rstrip().count("\n") + 1
            what = re.sub(r" \(at .*\)$", "", str(error))
            raise Complaint(f"{self.path}:{line}: this is not TOML: {what}") from None

    def json(self) -> Any:
        try:
            return json.loads(self.text)
        except json.JSONDecodeError as error:
            raise Complaint(f"{self.path}:{error.lineno}: this is not JSON: {error.msg}") from None

    def table(self, where: tuple[str, ...], content: Any) -> dict[str, Any]:
        if not isinstance(content, dict):
            name = ".".join(where) or "the file"
            raise self.complaint(where[:-1], where[-1] if where else "", f"{name} has to be a table")
        return content

    def settings(self, where: tuple[str, ...], content: Any) -> str:
        """Check an app's settings as the node does, and give them as the node takes them."""
        parts = self.table(where, content)
        self.check_names(where, parts, _PARTS)
        for part, entries in parts.items():
            self.check_names((*where, part), self.table((*where, part), entries), _PARTS[part])
            for name, value in entries.items():
                try:
                    parse_settings(json.dumps({part: {name: value}}, default=str))
                except Refused as refused:
                    raise self.complaint((*where, part), name, refused.reason) from None
        return json.dumps(parts)

    def check_names(self, where: tuple[str, ...], table: Iterable[str], known: Iterable[str]) -> None:
        names = sorted(known)
        for name in table:
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
                full = ".".join((*where, name))
                raise self.complaint(where, name, f"there is no setting {full!r}: {hint}")

    def complaint(self, where: tuple[str, ...], name: str, text: str) -> Complaint:
        line = _line_of(self.text, where, name)
        return Complaint(f"{self.path}:{line}: {text}" if line else f"{self.path}: {text}")


def _without_name(error: OSError) -> OSError:
    return OSError(error.errno, error.strerror)


def _line_of(text: str, where: tuple[str, ...], name: str) -> int:
    """The line on which an entry of a table stands, as far as a look at headers and keys tells; 0 if not.

    The parser keeps no positions, and a line that is off would be worse than none: what is nested in any
    other way than `[header]` and `key = …` is not found, and JSON is found by its quoted name alone.
    """
    wanted = (*where, name)
    quoted = re.compile(rf'[\s{{]*"{re.escape(name)}"\s*:')
    current: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            found = current = _names(header[1])
        elif entry := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            found = (*current, *_names(entry[1]))
        else:
            found = wanted if quoted.match(line) else ()
        if found[: len(wanted)] == wanted:
            return number
    return 0


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
