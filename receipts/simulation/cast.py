"""Who there is in a world: apps, users, devices, groups. Data only; `Cast.drawn` makes one from a seed.

What users do is in `generator`, what devices are in `device`.
"""

from __future__ import annotations

import json
from typing import Any

import attrs

from receipts.core.ids import AppId, ConversationId, DeviceId, UserId
from receipts.core.value import value

from .chance import Chance

__all__ = ["AppCast", "Cast", "DeviceCast", "GroupCast", "UserCast"]

NAMES = ("alice", "bob", "cara", "dan", "erin", "finn")
DEVICES = ("phone", "laptop", "tablet")
GROUPS = ("G", "H")
DEVICES_MAX = 8
"""Of a whole world: more would only thin out what meets."""


@value
class AppCast:
    """A tenant."""

    app: AppId
    settings: str = "{}"
    """JSON as `node.admin.parse_settings` takes it."""


@value
class UserCast:
    """An account that is there from the beginning."""

    app: AppId
    user: UserId


@value
class DeviceCast:
    """A device and the habits of its program."""

    app: AppId
    user: UserId
    name: DeviceId
    delivery: bool = True
    """Whether it asks to be told of deliveries."""
    share_delivered: bool = True
    share_read: bool = True
    storage: bool = False
    """Whether what it knows outlives its process."""
    text: bool = False
    """Whether it speaks JSON."""
    password: bool = False
    """Whether it logs in with a password instead of a token."""
    coalesce_ms: int = 50
    messages_max: int = 1000
    offset_ms: int = 0
    """How far its clock is from true time."""


@value
class GroupCast:
    """A group that is there from the beginning."""

    app: AppId
    conversation: ConversationId
    owner: UserId
    admins: tuple[UserId, ...] = ()
    members: tuple[UserId, ...] = ()


@value
class Cast:
    """Everybody."""

    apps: tuple[AppCast, ...]
    users: tuple[UserCast, ...]
    devices: tuple[DeviceCast, ...]
    groups: tuple[GroupCast, ...] = ()
    node_offset_ms: int = 0
    """How far the node's clock is from true time."""
    heartbeat_ms: int = 30_000

    def label(self, device: DeviceCast) -> str:
        """What a device is called in steps: "user/name", with more than one app "app:user/name"."""
        short = f"{device.user}/{device.name}"
        return short if len(self.apps) == 1 else f"{device.app}:{short}"

    def shifted(self, offsets: Chance) -> Cast:
        """The same with other clocks: up to an hour off, the node's a day (I-7: nothing else may change).

        Node time begins with the node's clock, so expiry, which compares only node times, is the same.
        """
        devices = tuple(
            _with(device, offset_ms=offsets.between(-HOUR_MS, HOUR_MS)) for device in self.devices
        )
        node_offset_ms = offsets.between(-24 * HOUR_MS, 24 * HOUR_MS)
        shifted: Cast = _with(self, devices=devices, node_offset_ms=node_offset_ms)
        return shifted

    def to_json(self) -> str:
        """As text; `from_json` reads it."""
        return json.dumps(_plain(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Cast:
        """The cast that `to_json` has written.

        Raises:
            ValueError: It is none.
        """
        try:
            found: dict[str, Any] = json.loads(text)
            return cls(
                apps=tuple(AppCast(**one) for one in found.pop("apps")),
                users=tuple(UserCast(**one) for one in found.pop("users")),
                devices=tuple(DeviceCast(**one) for one in found.pop("devices")),
                groups=tuple(
                    GroupCast(**{**one, "admins": tuple(one["admins"]), "members": tuple(one["members"])})
                    for one in found.pop("groups")
                ),
                **found,
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"this is not a cast: {error}") from error

    @classmethod
    def drawn(cls, chance: Chance) -> Cast:
        """Everybody, by chance."""
        apps = ["one", "two"] if chance.happens(120) else ["default"]
        users: list[UserCast] = []
        devices: list[DeviceCast] = []
        groups: list[GroupCast] = []
        settings = {app: _settings(chance) for app in apps}
        for app in apps:
            names = NAMES[: chance.between(2, 3 if len(apps) > 1 else 5)]
            users += [UserCast(app=app, user=name) for name in names]
            devices += _devices(chance, app, names, DEVICES_MAX // len(apps))
            most = settings[app]["limits"].get("group_members_max", len(names))
            groups += [
                _group(chance, app, name, names, most) for name in GROUPS[: chance.one_of((0, 1, 1, 1, 2, 2))]
            ]
        return cls(
            apps=tuple(AppCast(app=app, settings=json.dumps(settings[app])) for app in apps),
            users=tuple(users),
            devices=tuple(devices),
            groups=tuple(groups),
            node_offset_ms=chance.between(-HOUR_MS, HOUR_MS),
            heartbeat_ms=chance.one_of((5_000, 30_000, 30_000, 60_000)),
        )


HOUR_MS = 3_600_000

# `value` makes attrs classes, which a type checker is told in other words.
_with: Any = attrs.evolve
_plain: Any = attrs.asdict


def _devices(chance: Chance, app: AppId, names: tuple[str, ...], most: int) -> list[DeviceCast]:
    """One for everybody while they last, then more for those at the front: several devices of one user are
    where receipts go wrong."""
    count = chance.between(min(len(names), most), most)
    return [
        DeviceCast(
            app=app,
            user=names[index % len(names)],
            name=DEVICES[index // len(names) % 3] + ("" if index < 3 * len(names) else str(index)),
            delivery=chance.happens(800),
            share_delivered=chance.happens(920),
            share_read=chance.happens(920),
            storage=chance.happens(280),
            text=chance.happens(80),
            password=chance.happens(450),
            coalesce_ms=chance.one_of((0, 0, 50, 50, 50, 2000)),
            messages_max=chance.one_of((1000, 1000, 1000, 20)),
            offset_ms=chance.between(-HOUR_MS, HOUR_MS),
        )
        for index in range(count)
    ]


def _group(chance: Chance, app: AppId, name: str, names: tuple[str, ...], most: int) -> GroupCast:
    inside = chance.some_of(names, chance.between(1, min(len(names), most)))
    return GroupCast(
        app=app,
        conversation=name,
        owner=inside[0],
        admins=tuple(inside[1:2]) if chance.happens(500) else (),
        members=tuple(inside[1:]),
    )


_LIMITS: tuple[tuple[str, tuple[int | float, ...]], ...] = (
    ("page_bytes_max", (300, 2000)),
    ("snapshot_messages", (5, 50)),
    ("retention_ms", (60_000, 600_000, 2 * HOUR_MS)),
    ("group_receipts_kept_ms", (30_000, 600_000, HOUR_MS)),
    ("group_receipts_members_max", (2, 3)),
    ("asking_messages_per_day", (3, 20)),
    ("recall_window_ms", (5_000, 3_600_000)),
    ("devices_max", (2, 3)),
    ("device_idle_ms", (120_000, HOUR_MS)),
    ("sends_burst", (3, 10)),
    ("sends_per_second", (0.2, 2)),
    ("marks_burst", (3, 10)),
    ("marks_per_second", (0.2, 2)),
    ("changes_burst", (2, 10)),
    ("changes_per_second", (0.1, 1)),
    ("queries_burst", (3,)),
    ("queries_per_second", (0.5,)),
    ("gaps_max", (4,)),
    ("detail_ids_max", (2,)),
    ("history_page_max", (5,)),
    ("group_members_max", (3,)),
)
"""Limits that a world may have, small enough to be met; most worlds have few of them."""


def _settings(chance: Chance) -> dict[str, Any]:
    """Features and limits of an app, most of them as they are by default."""
    features: dict[str, Any] = {}
    if chance.happens(300):
        features["roll_up"] = "all"
    for name in ("group_receipts", "delivery_receipts", "recall"):
        if chance.happens(40):
            features[name] = False
    groups: dict[str, Any] = {}
    if chance.happens(600):
        groups["may_ask_receipts"] = "member"
    for name in ("may_add", "may_remove", "may_rename", "may_recall_others"):
        if chance.happens(300):
            groups[name] = "member"
    if chance.happens(200):
        groups["open_history"] = False
    limits = {name: chance.one_of(choices) for name, choices in _LIMITS if chance.happens(90)}
    if chance.happens(150):  # both at once, and often, because what expires is where counts drift
        limits |= {"retention_ms": 60_000, "group_receipts_kept_ms": 30_000}
    if chance.happens(250):  # many pages, with everything that can come between two of them
        limits["page_bytes_max"] = 300
    return {"features": features, "groups": groups, "limits": limits}
