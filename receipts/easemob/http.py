"""The vendor's HTTP face: which call is at which path, and what holds for all of them.

    application(Face(node=node, apps=frozenset({"org#app"}), open_registration=True))

makes an ASGI application; `http_serve` runs it beside websockets. Every call becomes commands to the node in
the name of the user whose token it has (`Node.call`): the node judges, and it answers when what it did is
durable. No rule of receipts, groups or accounts is in here.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from . import http_accounts as accounts
from . import http_conversations as conversations
from . import http_groups as groups
from .http_calls import Endpoint, Face, answering, not_found, unsupported

__all__ = ["CALLS", "application"]

METHODS = ("GET", "POST", "PUT", "DELETE")

CALLS: tuple[tuple[str, str, Endpoint], ...] = (
    ("POST", "/users", accounts.register),
    ("POST", "/token", accounts.make_token),
    ("GET", "/sdk/users/{user}/token/expires", accounts.token_expiry),
    ("GET", "/users/{user}/resources", accounts.list_resources),
    ("GET", "/sdk/user/{user}/user_channels/list", conversations.list_conversations),
    ("GET", "/users/{user}/user_channels", conversations.list_channels),
    ("GET", "/users/{user}/user_channels/page", conversations.list_channels),
    ("GET", "/users/{user}/joined_chatgroups", groups.joined_groups),
    ("GET", "/publicchatgroups", groups.public_groups),
    ("POST", "/chatgroups", groups.create_group),
    ("GET", "/chatgroups/user/{user}", groups.joined_groups_of),
    ("GET", "/chatgroups/user/{user}/joined_count", groups.count_joined),
    ("GET", "/chatgroups/{group}", groups.group_info),
    ("PUT", "/chatgroups/{group}", groups.change_group),
    ("DELETE", "/chatgroups/{group}", groups.destroy_group),
    ("POST", "/chatgroups/{group}/apply", groups.apply_to_join),
    ("POST", "/chatgroups/{group}/invite", groups.invite),
    ("DELETE", "/chatgroups/{group}/quit", groups.leave),
    ("GET", "/chatgroups/{group}/users", groups.list_members),
    ("DELETE", "/chatgroups/{group}/users/{users}", groups.remove_members),
    ("GET", "/chatgroups/{group}/admin", groups.list_admins),
    ("POST", "/chatgroups/{group}/admin", groups.add_admin),
    ("DELETE", "/chatgroups/{group}/admin/{user}", groups.remove_admin),
    ("GET", "/chatgroups/{group}/acks/{message}", groups.list_readers),
)
"""Method, path under `/{org}/{app}`, and what answers it. All other calls of the vendor's are not there."""


def application(face: Face) -> Starlette:
    """The calls, as an ASGI application.

    Answers let every origin in: who may do what is said by a token, never by a cookie.
    """
    app = Starlette(
        routes=_routes(face),
        exception_handlers={HTTPException: not_found},
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origin_regex=".*",  # answered with the very origin, as the vendor does
                allow_methods=[*METHODS, "OPTIONS"],
                allow_headers=["authorization", "content-type"],
                expose_headers=["Retry-After"],
                max_age=600,
            )
        ],
    )
    app.router.redirect_slashes = False
    return app


def _routes(face: Face) -> list[BaseRoute]:
    async def health(request: Request) -> Response:
        return Response(face.node.health(), media_type="application/json")

    routes: list[BaseRoute] = [Route("/health", health), Route("/", health)]
    paths: dict[str, dict[str, Endpoint]] = {}
    for method, path, endpoint in CALLS:
        paths.setdefault(path, {})[method] = endpoint
    for path, endpoints in paths.items():
        for method, endpoint in endpoints.items():
            routes.append(Route("/{org}/{app}" + path, answering(face, endpoint), methods=[method]))
    routes.append(Route("/{org}/{app}/{rest:path}", unsupported, methods=[*METHODS, "PATCH"]))
    return routes
