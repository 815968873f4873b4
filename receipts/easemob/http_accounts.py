"""Registering, tokens, and the devices that are there: the vendor's calls about accounts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from receipts.core.errors import Code, Refused
from receipts.core.ids import is_user_id
from receipts.node.commands import Enter, Grant, RegisterUser
from receipts.wire.commands import ListDevices

from .http_calls import Asked, Problem, illegal

__all__ = ["list_resources", "make_token", "register", "token_expiry"]


async def register(asked: Asked) -> Mapping[str, Any]:
    """`POST users`: open an account, where anybody may."""
    face = asked.face
    if not (face.open_registration or face.node.hub.world.apps[asked.app].features.open_registration):
        raise Problem(401, "unauthorized", "Open registration doesn't allow, so register user need token")
    body = await asked.body()
    name = body.text("username").lower()
    password = body.text("password")
    if not is_user_id(name):
        raise illegal(f"username {name[:64]} is not legal")
    if not password:
        raise illegal("password or pin must provided")
    try:
        await face.node.call(RegisterUser(rid=1, app=asked.app, user=name, password=password))
    except Refused as refused:
        if refused.code is Code.ALREADY_EXISTS:
            raise Problem(
                400,
                "duplicate_unique_property_exists",
                f"Application {asked.app} Entity user requires that property named username be unique, "
                f"value of {name} exists",
            ) from None
        raise
    now_ms = face.node.hub.world.now_ms
    user = {
        "uuid": name,
        "type": "user",
        "created": now_ms,
        "modified": now_ms,
        "username": name,
        "activated": True,
    }
    return {"path": "/users", "entities": [user]}


async def make_token(asked: Asked) -> Mapping[str, Any]:
    """`POST token`: a token for a password."""
    body = await asked.body()
    if body.text("grant_type") != "password":
        raise Problem(400, "invalid_grant", "the one grant_type that there is here is password")
    name, password = body.text("username").lower(), body.text("password")
    if not name or not password:
        raise illegal("username and password must be provided")
    if not is_user_id(name):
        raise Problem(404, "user_not_found", "user not found")
    face = asked.face
    grant = Grant(rid=1, app=asked.app, user=name, password=password, lifetime_ms=face.token_ms)
    try:
        made = await face.node.call(grant)
    except Refused as refused:
        if refused.code is Code.UNAUTHORIZED:
            raise Problem(400, "invalid_grant", "invalid password") from None
        if refused.code is Code.UNKNOWN_USER:
            raise Problem(404, "user_not_found", "user not found") from None
        raise
    return {
        "access_token": made.text,
        "expires_in": face.token_ms // 1000,
        "user": {"uuid": name, "type": "user", "username": name, "activated": True},
    }


async def token_expiry(asked: Asked) -> Mapping[str, Any]:
    """`GET sdk/users/{user}/token/expires`: until when a token is good; the SDK asks it of a new one."""
    asked.is_for(asked.part("user"))
    entered = await asked.face.node.call(Enter(rid=1, app=asked.app, token=asked.token))
    return {"expire_timestamp": entered.expires_ms}


async def list_resources(asked: Asked) -> Mapping[str, Any]:
    """`GET users/{user}/resources`: the user's devices that are online."""
    asked.is_for(asked.part("user"))
    found = await asked.ask(ListDevices(rid=1))
    return {"data": [{"res": device.device} for device in found.items if device.online]}
