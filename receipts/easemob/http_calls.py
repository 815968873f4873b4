"""One HTTP call of the vendor's: who asks, with what, and the answer in the vendor's envelope.

Here live reading a request and writing an answer or an error, as the vendor's Web SDK wants them: success is
status 200 and nothing else, errors are JSON with `error` and `error_description`, and some of their texts are
what the SDK tells kinds of errors by. Which calls there are is in the modules beside (`http_accounts`,
`http_groups`, `http_conversations`), and what they may do is for the node to judge.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeAlias

import anyio
import attrs
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from receipts.core.errors import Code, Refused
from receipts.core.ids import AppId, ConversationId, UserId, is_user_id
from receipts.node.accounts import subject_of
from receipts.node.commands import Call as NodeCall
from receipts.node.commands import FindGroup
from receipts.node.groups import check_group_id
from receipts.node.runner import Node
from receipts.wire.commands import Command

__all__ = [
    "Asked",
    "Body",
    "Endpoint",
    "Face",
    "Problem",
    "answering",
    "group_id",
    "illegal",
    "not_found",
    "problem_of",
    "rejection",
    "unsupported",
    "user_id",
]

log = logging.getLogger("receipts.easemob")

BODY_BYTES_MAX = 512 * 1024
"""Of a request: a group of thousands is opened with all its members' names."""

BODY_SECONDS_MAX = 15.0
"""Until it is whole: the SDK waits no longer either."""

NUMBER_MAX = 2**63 - 1

ABSENT = frozenset({"", "undefined", "null"})
"""What the SDK sends for what it was not given."""


@attrs.frozen(kw_only=True)
class Face:
    """What all calls share."""

    node: Node
    apps: frozenset[AppId]
    """App keys that are served, `org#app` each."""
    open_registration: bool = False
    """Whether anybody may open an account in any of them; else only where the app's features say so."""
    token_ms: int = 24 * 60 * 60 * 1000
    """For how long a token is good."""
    body_seconds_max: float = BODY_SECONDS_MAX
    """For how long the rest of a request is waited for."""


class Problem(Exception):
    """A call that is answered with an error.

    Args:
        status: Of HTTP.
        error: The vendor's name of the kind.
        description: For people; for some kinds the text by which the SDK knows it.
        number: The vendor's `error_code`, where the SDK goes by that.
        retry_after_ms: When to come again; 0 for not as it is.
    """

    def __init__(
        self, status: int, error: str, description: str, *, number: int = 0, retry_after_ms: int = 0
    ) -> None:
        super().__init__(f"{status} {error}: {description}")
        self.status = status
        self.error = error
        self.description = description
        self.number = number
        self.retry_after_ms = retry_after_ms


class Asked:
    """A request of a user who has a token."""

    def __init__(self, face: Face, request: Request, app: AppId) -> None:
        self.face = face
        self.request = request
        self.app = app
        self._user: UserId | None = None

    # -- who asks

    @property
    def token(self) -> str:
        """Raises:
        Problem: There is none.
        """
        kind, _, token = self.request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise _unauthorized()
        return token.strip().removeprefix("$t$")

    @property
    def user(self) -> UserId:
        """Whom the token says it is for; the node judges it with each command."""
        if self._user is None:
            self._user = subject_of(self.token)
        return self._user

    def is_for(self, name: str) -> UserId:
        """A user who stands in the path, who has to be the one who asks.

        Raises:
            Problem: It is somebody else.
        """
        if name.lower() != self.user:
            raise _unauthorized()
        return self.user

    # -- with what

    def part(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    @property
    def group(self) -> ConversationId:
        """The group in the path.

        Raises:
            Refused: It cannot be one.
        """
        return group_id(self.part("group"))

    def query(self, name: str, default: str = "") -> str:
        """A parameter of the query, `default` when the SDK had none."""
        found = self.request.query_params.get(name, "")
        return default if found in ABSENT else found

    def number(self, name: str, default: int, *, least: int = 0, most: int = NUMBER_MAX) -> int:
        """A parameter that is a number, brought within bounds.

        Raises:
            Problem: It is no number.
        """
        text = self.query(name, str(default))
        if not text.isdecimal() or len(text) > 19:
            raise illegal(f"{name} has to be a number")
        return max(least, min(int(text), most))

    async def body(self) -> Body:
        """The JSON object that was sent.

        Raises:
            Problem: It is something else, or too large, or does not come.
        """
        try:
            with anyio.fail_after(self.face.body_seconds_max):
                text = await self._text()
        except TimeoutError:
            raise Problem(408, "request_timeout", "the rest of the request did not come") from None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise Problem(400, "json_parse", "the body has to be JSON") from None
        if not isinstance(found, dict):
            raise Problem(400, "json_parse", "the body has to be a JSON object")
        return Body(found)

    async def _text(self) -> bytes:
        text = bytearray()  # in pieces as small as somebody likes
        async with aclosing(self.request.stream()) as chunks:
            async for chunk in chunks:
                text += chunk
                if len(text) > BODY_BYTES_MAX:
                    raise Problem(413, "payload_too_large", f"a request has at most {BODY_BYTES_MAX} bytes")
        return bytes(text)

    # -- the node

    async def ask(self, command: Command | NodeCall) -> Any:
        """Have the node do something in the user's name; the answer, once it is durable.

        Raises:
            Refused: As the node says.
        """
        return await self.face.node.call(command, app=self.app, token=self.token)

    async def ask_of_group(self, group: ConversationId, command: Command | NodeCall) -> Any:
        """`ask` about a group: to a user who is not in it, that says so. (Natively a group is nothing that
        strangers hear of; the vendor's SDK tells 'not a member' from 'no such group'.)"""
        try:
            return await self.ask(command)
        except Refused as refused:
            if refused.code is Code.UNKNOWN_CONVERSATION:
                await self.ask(FindGroup(rid=1, conversation=group))
                raise Refused(Code.NOT_A_MEMBER, f"you are not in {group!r}") from None
            raise


class Body:
    """A JSON object of a request, read by name."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def __contains__(self, name: str) -> bool:
        return self._fields.get(name) is not None

    def text(self, name: str, default: str = "") -> str:
        """Raises:
        Problem: It is something else.
        """
        found = str(self._one(name, str, default, "a text"))
        if not _is_utf8(found):
            raise illegal(f"{name} holds half of a surrogate pair")
        return found

    def flag(self, name: str) -> bool:
        """False when it is absent.

        Raises:
            Problem: It is something else.
        """
        found = self._fields.get(name)
        if isinstance(found, str) and found in ("true", "false"):
            return found == "true"
        return bool(self._one(name, bool, False, "true or false"))

    def number(self, name: str, default: int = 0) -> int:
        """Raises:
        Problem: It is no whole number, or below 0.
        """
        found = self._fields.get(name, default)
        if isinstance(found, str) and found.isdecimal() and len(found) < 19:
            return int(found)
        found = self._one(name, int, default, "a whole number")
        if isinstance(found, bool) or not 0 <= found <= NUMBER_MAX:
            raise illegal(f"{name} has to be a whole number, not below 0")
        return int(found)

    def users(self, name: str) -> tuple[UserId, ...]:
        """User ids, in lower case.

        Raises:
            Problem: It is something else.
        """
        found = self._one(name, list, [], "a list of user ids")
        if not all(isinstance(user, str) for user in found):
            raise illegal(f"{name} has to be a list of user ids")
        return tuple(user_id(user) for user in found)

    def user(self, name: str) -> UserId:
        """A user id, in lower case.

        Raises:
            Problem: It is something else.
        """
        return user_id(self.text(name))

    def _one(self, name: str, kind: type, default: Any, meaning: str) -> Any:
        found = self._fields.get(name)
        if found is None:
            return default
        if not isinstance(found, kind):
            raise illegal(f"{name} has to be {meaning}")
        return found


# -- answers


Endpoint: TypeAlias = Callable[[Asked], Awaitable[Mapping[str, Any]]]
"""A call: its answer is what goes into the envelope beside what is always there."""


def answering(face: Face, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Make what a router runs of a call."""

    async def respond(request: Request) -> Response:
        began = time.monotonic()
        try:
            org, name = request.path_params["org"], request.path_params["app"]
            app = f"{org}#{name}"
            if app not in face.apps:
                raise Problem(
                    404,
                    "organization_application_not_found",
                    f"Could not find application for {org}/{name} from URI: {request.url.path}",
                )
            found = await endpoint(Asked(face, request, app))
        except Problem as problem:
            return rejection(problem)
        except Refused as refused:
            return rejection(problem_of(refused, group=request.path_params.get("group", "")))
        except ClientDisconnect:
            return Response(status_code=499)  # to nobody
        except Exception:
            log.exception("the call %s %s failed", request.method, request.url.path)
            return rejection(Problem(500, "internal_error", "the server made a mistake; it is in its log"))
        return JSONResponse(
            {
                "action": request.method.lower(),
                "uri": str(request.url.replace(query="")),
                "organization": org,
                "applicationName": name,
                "entities": [],
                **found,
                "timestamp": time.time_ns() // 1_000_000,
                "duration": round((time.monotonic() - began) * 1000),
            }
        )

    return respond


def rejection(problem: Problem) -> JSONResponse:
    """An error in the vendor's shape."""
    fields: dict[str, Any] = {
        "error": problem.error,
        "error_description": problem.description,
        "timestamp": time.time_ns() // 1_000_000,
        "duration": 0,
    }
    if problem.number:
        fields["error_code"] = problem.number
    headers = {}
    if problem.retry_after_ms:
        headers["Retry-After"] = str(math.ceil(problem.retry_after_ms / 1000))
        fields["retry_after_ms"] = problem.retry_after_ms
    return JSONResponse(fields, problem.status, headers)


async def unsupported(request: Request) -> Response:
    """A call of the vendor's that is not there. The SDK knows the number as 'operation unsupported'."""
    what = f"{request.method} {request.url.path}"
    return rejection(
        Problem(400, "not_supported", f"this server does not have the call {what}", number=40009)
    )


async def not_found(request: Request, error: Exception) -> Response:
    """A path or a method that no call has."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    return rejection(Problem(status, "resource_not_found", f"nothing here: {request.url.path}"))


# -- errors


def group_id(text: str) -> ConversationId:
    """A group's name as the node has it.

    Raises:
        Refused: No group can be called so.
    """
    try:
        check_group_id(text)
    except Refused:
        raise Refused(Code.UNKNOWN_CONVERSATION, f"{text!r} cannot be a group") from None
    return text


def user_id(text: str) -> UserId:
    """A name as the node has it: the vendor's are the same in small and in capital letters.

    Raises:
        Problem: Nobody can be called so.
    """
    name = text.lower()
    if not is_user_id(name):
        raise Problem(404, "service_resource_not_found", "user not found: this cannot be a user's id")
    return name


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def illegal(description: str) -> Problem:
    """What was sent makes no sense."""
    return Problem(400, "illegal_argument", description)


def _unauthorized() -> Problem:
    return Problem(401, "unauthorized", "Unable to authenticate (OAuth)")


_KINDS: Mapping[Code, tuple[int, str, str, int]] = {
    Code.TOKEN_INVALID: (401, "unauthorized", "Unable to authenticate (OAuth)", 0),
    Code.TOKEN_EXPIRED: (401, "unauthorized", "Unable to authenticate (OAuth)", 0),
    Code.TOKEN_REVOKED: (401, "unauthorized", "Unable to authenticate (OAuth)", 0),
    Code.UNKNOWN_APP: (404, "organization_application_not_found", "", 0),
    Code.UNKNOWN_USER: (404, "service_resource_not_found", "user not found: {}", 0),
    Code.UNKNOWN_MESSAGE: (404, "resource_not_found", "group ack msg not found: {}", 0),
    Code.NOT_ASKED: (404, "resource_not_found", "group ack msg not found: {}", 0),
    Code.EXPIRED: (404, "resource_not_found", "group ack msg not found: {}", 0),
    Code.RECALLED: (404, "resource_not_found", "group ack msg not found: {}", 0),
    Code.NOT_A_MEMBER: (403, "forbidden_op", "users are not members of this group! {}", 0),
    Code.NOT_PERMITTED: (403, "forbidden_op", "", 0),
    Code.FEATURE_OFF: (403, "forbidden_op", "group ack not open: {}", 40000),
    Code.ALREADY_EXISTS: (400, "duplicate_unique_property_exists", "", 0),
    Code.RATE_LIMITED: (429, "reach_limit", "This request has reached api limit: {}", 0),
    Code.STORAGE_FULL: (503, "service_unavailable", "", 0),
    Code.BUSY: (503, "service_unavailable", "", 0),
    Code.SHUTTING_DOWN: (503, "service_unavailable", "", 0),
}
"""Status, kind, what the SDK looks for in the text (around the node's sentence), number. All else is 400."""


def problem_of(refused: Refused, *, group: ConversationId = "") -> Problem:
    """What the node refused, as the vendor would have said it.

    Args:
        group: Which group the call was about, if it was.
    """
    if refused.code is Code.UNKNOWN_CONVERSATION:
        return Problem(404, "resource_not_found", f"grpID {group} does not exist!")
    if refused.code is Code.GROUP_TOO_LARGE:
        return Problem(403, "exceed_limit", f"members size is greater than max user size ! {refused.reason}")
    kind = _KINDS.get(refused.code)
    if kind is None:
        return illegal(refused.reason)
    status, error, text, number = kind
    description = text.format(refused.reason) if text else refused.reason
    return Problem(status, error, description, number=number, retry_after_ms=refused.retry_after_ms)
