"""The vendor's calls about groups, and about who has read a group message."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from receipts.core.errors import Code, Refused
from receipts.core.events import Joining, Role
from receipts.core.ids import ConversationId, MessageId, UserId
from receipts.core.status import Unknown
from receipts.node.commands import (
    FindGroup,
    GroupInfo,
    JoinGroup,
    ListGroups,
    ListPublicGroups,
    ListReadersOf,
    OpenGroup,
)
from receipts.wire.commands import (
    AddMembers,
    ChangeGroup,
    DissolveGroup,
    ListMembers,
    RemoveMembers,
    SetRole,
)
from receipts.wire.updates import MemberInfo, Readers

from .http_calls import Asked, Problem, group_id, illegal, user_id

__all__ = [
    "add_admin",
    "apply_to_join",
    "change_group",
    "count_joined",
    "create_group",
    "destroy_group",
    "group_info",
    "invite",
    "joined_groups",
    "joined_groups_of",
    "leave",
    "list_admins",
    "list_members",
    "list_readers",
    "public_groups",
    "remove_admin",
    "remove_members",
]

MEMBERS_PAGE = 1000
INFOS_MAX = 100
"""Groups whose particulars one call may ask."""

PUBLIC_PAGE_MAX = 100
STRETCHES_MAX = 50
"""Stretches of conversations looked through for one page of public groups."""

READERS_MAX = 500


def _new_group_id() -> ConversationId:
    """15 digits, as the vendor's: no user guesses or meets another's."""
    return str(10**14 + secrets.randbelow(9 * 10**14))


# -- opening, finding


async def create_group(asked: Asked) -> Mapping[str, Any]:
    """`POST chatgroups`: the user becomes the owner."""
    body = await asked.body()
    if "owner" in body:
        asked.is_for(body.text("owner"))
    joining = Joining.INVITED
    if body.flag("public"):
        joining = Joining.LISTED if body.flag("approval") or body.flag("membersonly") else Joining.ANYONE
    group = _new_group_id()
    await asked.ask(
        OpenGroup(
            rid=1,
            conversation=group,
            name=body.text("groupname") or group,
            description=body.text("desc", body.text("description")),
            members=tuple(user for user in body.users("members") if user != asked.user),
            joining=joining,
            inviting=Role.MEMBER if body.flag("allowinvites") else None,
            members_max=body.number("maxusers"),
            custom=body.text("custom"),
        )
    )
    return {"data": {"groupid": group}}


async def group_info(asked: Asked) -> Mapping[str, Any]:
    """`GET chatgroups/{ids}`: the particulars of groups, by their ids with commas between."""
    names = [group_id(name) for name in asked.part("group").split(",") if name]
    if len(names) > INFOS_MAX:
        raise illegal(f"at most {INFOS_MAX} groups at once")
    return {"data": [await _info(asked, name) for name in names]}


async def _info(asked: Asked, name: ConversationId) -> dict[str, Any]:
    group = await _find(asked, name)
    if group.role is None and group.joining is Joining.INVITED:
        raise Refused(Code.NOT_A_MEMBER, f"you are not in {name!r}")
    members = await _members(asked, name) if group.role is not None else []
    return {
        **_particulars(group),
        "affiliations_count": group.count,
        "affiliations": [
            {"owner" if member.role is Role.OWNER else "member": member.user} for member in members
        ]
        or [{"owner": group.owner}],
    }


async def _find(asked: Asked, name: ConversationId) -> GroupInfo:
    found: GroupInfo = (await asked.ask(FindGroup(rid=1, conversation=name))).group
    return found


def _particulars(group: GroupInfo) -> dict[str, Any]:
    return {
        "id": group.conversation,
        "name": group.name,
        "description": group.description,
        "owner": group.owner,
        "public": group.joining is not Joining.INVITED,
        "membersonly": group.joining is not Joining.ANYONE,
        "allowinvites": group.inviting is Role.MEMBER,
        "maxusers": group.members_max,
        "created": group.created_ms,
        "custom": group.custom,
        "mute": False,
        "disabled": False,
    }


async def public_groups(asked: Asked) -> Mapping[str, Any]:
    """`GET publicchatgroups`: groups that everybody may find."""
    limit = asked.number("limit", 20, least=1, most=PUBLIC_PAGE_MAX)
    cursor, found = asked.query("cursor"), list[GroupInfo]()
    for _ in range(STRETCHES_MAX):
        page = await asked.ask(ListPublicGroups(rid=1, after=cursor, limit=limit - len(found)))
        found += page.groups
        cursor = page.cursor
        if not cursor or len(found) == limit:
            break
    named = _named if asked.query("version") == "v3" else _named_as_before
    return {"data": [named(group) for group in found], "cursor": cursor, "count": len(found)}


def _named(group: GroupInfo) -> dict[str, Any]:
    return {"id": group.conversation, "name": group.name}


def _named_as_before(group: GroupInfo) -> dict[str, Any]:
    """As SDKs before 4.19 pass it through."""
    return {"groupid": group.conversation, "groupname": group.name}


async def joined_groups(asked: Asked) -> Mapping[str, Any]:
    """`GET users/{user}/joined_chatgroups`: the groups that the user is in; in pages from 0 on if asked."""
    asked.is_for(asked.part("user"))
    groups = (await asked.ask(ListGroups(rid=1))).groups
    if asked.query("version") != "v3":
        return {"data": [_named_as_before(group) for group in groups]}
    page = _page(asked, groups)
    return {
        "data": [{**_named(group), "permission": _permission(group), "disabled": False} for group in page]
    }


async def joined_groups_of(asked: Asked) -> Mapping[str, Any]:
    """`GET chatgroups/user/{user}`: the same with particulars."""
    asked.is_for(asked.part("user"))
    page = _page(asked, (await asked.ask(ListGroups(rid=1))).groups)
    entities = []
    for group in page:
        found = {**_particulars(group), "groupId": group.conversation, "permission": _permission(group)}
        if asked.query("needAffiliations") == "true":
            found["affiliations_count"] = group.count
        entities.append(found)
    return {"entities": entities, "count": len(entities)}


async def count_joined(asked: Asked) -> Mapping[str, Any]:
    """`GET chatgroups/user/{user}/joined_count`."""
    asked.is_for(asked.part("user"))
    return {"data": len((await asked.ask(ListGroups(rid=1))).groups)}


def _page(asked: Asked, groups: Sequence[GroupInfo]) -> Sequence[GroupInfo]:
    size = asked.number("pagesize", 20, least=1, most=500)
    start = asked.number("pagenum", 0, most=10**6) * size
    return groups[start : start + size]


def _permission(group: GroupInfo) -> str:
    return (group.role or Role.MEMBER).value


# -- changing


async def change_group(asked: Asked) -> Mapping[str, Any]:
    """`PUT chatgroups/{group}`: name and description, or another owner."""
    group, body = asked.group, await asked.body()
    if "newowner" in body:
        heir = body.user("newowner")
        await asked.ask_of_group(group, SetRole(rid=1, conversation=group, user=heir, role=Role.OWNER))
        return {"data": {"newowner": True}}
    name = body.text("groupname") if "groupname" in body else None
    description = body.text("description", body.text("desc"))
    described = "description" in body or "desc" in body
    if name is None and not described:
        raise illegal("there is groupname and description to change")
    await asked.ask_of_group(
        group,
        ChangeGroup(rid=1, conversation=group, name=name, description=description if described else None),
    )
    return {"data": {"groupname": name is not None, "description": described}}


async def destroy_group(asked: Asked) -> Mapping[str, Any]:
    """`DELETE chatgroups/{group}`."""
    group = asked.group
    await asked.ask_of_group(group, DissolveGroup(rid=1, conversation=group))
    return {"data": {"success": True, "groupid": group, "id": group}}


async def apply_to_join(asked: Asked) -> Mapping[str, Any]:
    """`POST chatgroups/{group}/apply`: come in, where everybody may."""
    group = asked.group
    await asked.ask(JoinGroup(rid=1, conversation=group))
    return {"data": {"action": "apply", "id": group, "result": True, "user": asked.user}}


async def invite(asked: Asked) -> Mapping[str, Any]:
    """`POST chatgroups/{group}/invite`: those who are invited are in."""
    group, body = asked.group, await asked.body()
    users = body.users("usernames")
    if not users:
        raise illegal("usernames has to name somebody")
    await asked.ask_of_group(group, AddMembers(rid=1, conversation=group, users=users))
    return {"data": [{"action": "invite", "id": group, "result": True, "user": user} for user in users]}


async def remove_members(asked: Asked) -> Mapping[str, Any]:
    """`DELETE chatgroups/{group}/users/{users}`: put users out, by their names with commas between."""
    group = asked.group
    users = tuple(user_id(user) for user in asked.part("users").split(",") if user)
    await asked.ask_of_group(group, RemoveMembers(rid=1, conversation=group, users=users))
    removed = [
        {"action": "remove_member", "groupid": group, "id": group, "result": True, "user": user}
        for user in users
    ]
    return {"data": removed[0] if len(removed) == 1 else removed}


async def leave(asked: Asked) -> Mapping[str, Any]:
    """`DELETE chatgroups/{group}/quit`."""
    group = asked.group
    await asked.ask_of_group(group, RemoveMembers(rid=1, conversation=group, users=(asked.user,)))
    return {"data": {"action": "remove_member", "id": group, "result": True, "user": asked.user}}


async def add_admin(asked: Asked) -> Mapping[str, Any]:
    """`POST chatgroups/{group}/admin`."""
    group, body = asked.group, await asked.body()
    user = body.user("newadmin")
    await asked.ask_of_group(group, SetRole(rid=1, conversation=group, user=user, role=Role.ADMIN))
    return {"data": {"result": "success", "newadmin": user}}


async def remove_admin(asked: Asked) -> Mapping[str, Any]:
    """`DELETE chatgroups/{group}/admin/{user}`: a plain member again."""
    group, user = asked.group, user_id(asked.part("user"))
    await asked.ask_of_group(group, SetRole(rid=1, conversation=group, user=user, role=Role.MEMBER))
    return {"data": {"result": "success", "oldadmin": user}}


# -- members


async def list_admins(asked: Asked) -> Mapping[str, Any]:
    """`GET chatgroups/{group}/admin`."""
    members = await _members(asked, asked.group)
    return {"data": [member.user for member in members if member.role is Role.ADMIN]}


async def list_members(asked: Asked) -> Mapping[str, Any]:
    """`GET chatgroups/{group}/users`: by name; in pages from 1 on, or behind a cursor."""
    group = asked.group
    if asked.query("pagenum"):
        size = asked.number("pagesize", 20, least=1, most=MEMBERS_PAGE)
        start = (asked.number("pagenum", 1, least=1, most=10**6) - 1) * size
        members = await _members(asked, group)
        page = members[start : start + size]
        return {"data": [_affiliation(member) for member in page], "count": len(page)}
    limit = asked.number("limit", 50, least=1, most=MEMBERS_PAGE)
    found = await asked.ask_of_group(
        group, ListMembers(rid=1, conversation=group, after=asked.query("cursor"), limit=limit)
    )
    listed = [_affiliation(member) for member in found.members]
    return {
        "data": listed,
        "count": len(listed),
        "cursor": found.members[-1].user if found.more else "",
    }


async def _members(asked: Asked, group: ConversationId) -> list[MemberInfo]:
    """All of a group's members, by name."""
    members: list[MemberInfo] = []
    more = True
    while more:
        after: UserId = members[-1].user if members else ""
        found = await asked.ask_of_group(
            group, ListMembers(rid=1, conversation=group, after=after, limit=MEMBERS_PAGE)
        )
        members += found.members
        more = found.more
    return members


def _affiliation(member: MemberInfo) -> dict[str, Any]:
    return {member.role.value: member.user}


# -- receipts


async def list_readers(asked: Asked) -> Mapping[str, Any]:
    """`GET chatgroups/{group}/acks/{message}`: who has read a message that asked; for its author."""
    group, message = asked.group, asked.part("message")
    if not message.isdecimal() or len(message) > 19:
        raise illegal("the id of a message is a number")
    readers: Readers = await asked.ask_of_group(
        group,
        ListReadersOf(
            rid=1,
            conversation=group,
            message_id=MessageId(int(message)),
            after=asked.query("key"),
            limit=asked.number("limit", READERS_MAX, least=1, most=READERS_MAX),
        ),
    )
    if readers.unknown is not None:
        raise _unknown(readers.unknown)
    last = max((reader.user for reader in (*readers.readers, *readers.waiting)), default="")
    return {
        "data": {
            "ackmid": message,
            "is_last": not readers.more,
            "next_key": last if readers.more else "",
            "total": readers.count,
            "timestamp": max((reader.at_ms for reader in readers.readers), default=0),
            "userlist": [reader.user for reader in readers.readers],
        }
    }


def _unknown(why: Unknown) -> Problem:
    """Not known is another answer than 'nobody'."""
    return Problem(404, "resource_not_found", f"group ack msg not found: {why.value}")
