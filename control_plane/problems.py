"""Everything that can be the matter with a request, as RFC 9457 problems.

`KINDS` is the whole list: what a code means, its status, and what to do. Whatever is raised while a
request is answered ends here; what nobody expected is a bare 500, logged with its trail.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum, EnumType
from typing import Any, Final, cast, get_args, get_type_hints

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from shared.errors import Contended, Unavailable
from shared.logs import fields
from shared.session import Reason, SessionState

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
TYPES_PATH: Final = "/v1/problems"
"""Where a problem's `type` can be read."""
RETRY_SECONDS: Final = 1
"""What `Retry-After` says where nothing better is known."""


class Kind(msgspec.Struct, frozen=True):
    """One kind of problem."""

    status: int
    title: str
    then: str
    """What to do."""


KINDS: Final[dict[str, Kind]] = {
    "invalid_request": Kind(400, "The request does not fit", "See `errors`, and mend it."),
    "invalid_cursor": Kind(400, "The cursor is not for this list", "Begin without a cursor."),
    "invalid_idempotency_key": Kind(
        400, "The idempotency key is malformed", "Send 1 to 255 printable ASCII characters."
    ),
    "unauthorized": Kind(401, "No valid key", "Send `Authorization: Bearer` and a live key."),
    "missing_scope": Kind(403, "The key lacks a scope", "Use a key with the scope named."),
    "not_found": Kind(404, "Not found", "Check the address and the id."),
    "method_not_allowed": Kind(405, "No such method here", "See `Allow`."),
    "not_acceptable": Kind(406, "No such representation", "Ask for one of those named."),
    "conflict": Kind(409, "Not in this state", "See `detail`."),
    "contended": Kind(
        409, "Others are changing it at the same moment", "Repeat it after `Retry-After`."
    ),
    "session_cannot_send": Kind(409, "The session cannot send", "See `detail` and `state`."),
    "request_running": Kind(
        409, "A request with this idempotency key is running", "Repeat it after `Retry-After`."
    ),
    "event_expired": Kind(410, "The event is not kept any more", "Nothing can be sent again."),
    "cursor_expired": Kind(
        410,
        "The cursor is older than the log",
        "What followed it may be gone. Begin again with `from=beginning`.",
    ),
    "body_too_large": Kind(413, "The body is too large", "Send at most 1 MiB."),
    "unsupported_media_type": Kind(415, "The body is not JSON", "Send `application/json`."),
    "invalid_value": Kind(422, "A value is not allowed", "See `errors`, and mend it."),
    "idempotency_key_reused": Kind(
        422, "The idempotency key was used for another request", "Take a new key."
    ),
    "too_many_deliveries": Kind(
        422,
        "There are more deliveries than one recovery may send",
        "Narrow it by `since`, `until`, `types` or `session_id`; `found` says how many there are.",
    ),
    "limit_reached": Kind(422, "There are too many", "Delete or revoke one that is not needed."),
    "rate_limited": Kind(429, "Too many requests", "Wait for `Retry-After` seconds."),
    "request_failed": Kind(400, "The request cannot be answered", "See `detail`."),
    "internal_error": Kind(500, "Our fault", "Tell us the request id."),
    "unavailable": Kind(503, "Unavailable for a moment", "Repeat it after `Retry-After`."),
}

QUOTA_EXCEEDED: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"
"""The registered type of a 429 (draft-ietf-httpapi-ratelimit-headers)."""

_HUNG_UP: Final = "client disconnected prematurely"
"""Litestar's words, for what is nobody's defect and has nobody left to hear of it."""

_BY_STATUS: Final = {
    400: "invalid_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong: in the body at a JSON Pointer, or in a parameter of that name."""

    code: str
    detail: str
    pointer: str | None = None
    parameter: str | None = None


class ProblemOut(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem, as RFC 9457 writes it, with our code, the request's id and what is wrong where."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: tuple[Fault, ...] = ()
    state: SessionState | None = None
    """Of the session, where its state is the matter."""
    reason: Reason | None = None
    until: datetime | None = None
    """When its ban ends, where it is banned for a time."""
    message_id: str | None = None
    """Of the message that may have been accepted."""
    found: int | None = None
    """How many there are, where there are too many."""


class Problem(Exception):
    """A request that cannot be granted, told to whoever made it."""

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        state: SessionState | None = None,
        reason: Reason | None = None,
        until: datetime | None = None,
        message_id: str | None = None,
        found: int | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail or f"{KINDS[code].title}. {KINDS[code].then}"
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.state = state
        self.reason = reason
        self.until = until
        self.message_id = message_id
        self.found = found


class Undecided(Problem):
    """It may have been done. A repeat with the same idempotency key finds out and goes on."""


def not_found(what: str) -> Problem:
    """The same for an id that never was and for another tenant's."""
    return Problem("not_found", f"There is no such {what}.")


def invalid_value(pointer: str, code: str, detail: str) -> Problem:
    """A body of the right shape with a value that is not allowed."""
    fault = Fault(code=code, detail=detail, pointer=pointer)
    return Problem("invalid_value", detail, errors=[fault])


def invalid_parameter(name: str, code: str, detail: str) -> Problem:
    fault = Fault(code=code, detail=detail, parameter=name)
    return Problem("invalid_request", detail, errors=[fault])


_AT: Final = re.compile(r" - at `(key in )?\$(?P<path>[^`]*)`$")
_STEP: Final = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+)\]")
_FIELD: Final = re.compile(
    r"Object (?P<what>missing required|contains unknown) field `(?P<name>.*?)`"
)
_RANGE: Final = re.compile(r" of length |`(int|float)` (<|>)|multiple of")
_PATTERN: Final = "matching regex"
_ENUM: Final = "Invalid enum value"


def misfit(error: msgspec.DecodeError, kind: object = None) -> Problem:
    """What msgspec found wrong with a body: 400 for its shape, 422 for a value out of range.

    Args:
        error: what it said.
        kind: the type the body should have had, for what else to say.
    """
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        fault = Fault(code="malformed", detail="The body is not JSON.", pointer="")
        return Problem("invalid_request", fault.detail, errors=[fault])
    at = _AT.search(text)
    message = text[: at.start()] if at else text
    # Beyond a dictionary's value (`[...]`) msgspec does not say which it is.
    path, _, _ = (at["path"] if at else "").partition("[...]")
    pointer = "".join(f"/{step['name'] or step['index']}" for step in _STEP.finditer(path))
    field = _FIELD.match(message)
    if field is not None:
        code = "missing" if field["what"].startswith("missing") else "unknown"
        pointer = f"{pointer}/{escaped(field['name'])}"
        detail = f"The field is {'required' if code == 'missing' else 'not known here'}."
        fault = Fault(code=code, detail=detail, pointer=pointer)
        return Problem("invalid_request", f"{pointer}: {detail}", errors=[fault])
    detail = message.replace("`", "").replace("Expected str", "Expected string") + "."
    if _PATTERN in message:
        detail = "It is blank, or has control or formatting characters."
        return invalid_value(pointer, "malformed", detail)
    if _RANGE.search(message):
        return invalid_value(pointer, "out_of_range", detail)
    if _ENUM in message:
        field_name = pointer[1:].partition("/")[0]
        detail += _allowed(get_type_hints(kind).get(field_name) if kind else None)
    fault = Fault(code="type", detail=detail, pointer=pointer)
    return Problem("invalid_request", f"{pointer or 'The body'}: {detail}", errors=[fault])


def _allowed(hint: object) -> str:
    """A sentence with the values of the enum that this type is or holds; empty without one."""
    if isinstance(hint, EnumType):
        values = [str(each.value) for each in cast("type[Enum]", hint)]
        return f" Allowed: {', '.join(values)}."
    said = [_allowed(each) for each in get_args(hint)]
    return next(filter(None, said), "")


def escaped(name: str) -> str:
    """A name as a step of a JSON Pointer, cut: it is the caller's own and may be of any length."""
    # RFC 6901: these two characters are written as escapes.
    return name[:100].replace("~", "~0").replace("/", "~1")


def _respond(request: Request[Any, Any, Any], problem: Problem) -> Response[ProblemOut]:
    kind = KINDS[problem.code]
    request_id = str(request.scope["state"].get("request_id", ""))
    base = str(request.scope["state"].get("public_url", ""))
    body = ProblemOut(
        type=QUOTA_EXCEEDED if kind.status == 429 else f"{base}{TYPES_PATH}/{problem.code}",
        title=kind.title,
        status=kind.status,
        detail=problem.detail,
        instance=request.scope["path"],
        code=problem.code,
        request_id=request_id,
        errors=problem.errors,
        state=problem.state,
        reason=problem.reason,
        until=problem.until,
        message_id=problem.message_id,
        found=problem.found,
    )
    return Response(
        content=cast("ProblemOut", msgspec.json.encode(body)),
        status_code=kind.status,
        media_type=MEDIA_TYPE,
        headers=problem.headers,
    )


def _on_problem(request: Request[Any, Any, Any], error: Problem) -> Response[ProblemOut]:
    return _respond(request, error)


def _on_unavailable(request: Request[Any, Any, Any], error: Unavailable) -> Response[ProblemOut]:
    log.warning(
        "request.unavailable",
        extra=fields(request_id=request.scope["state"].get("request_id"), cause=str(error)),
    )
    detail = "What this request needs did not answer in time. Nothing is known to be done."
    headers = {"Retry-After": str(RETRY_SECONDS)}
    return _respond(request, Problem("unavailable", detail, headers=headers))


def _on_contended(request: Request[Any, Any, Any], error: Contended) -> Response[ProblemOut]:
    """Others kept winning, somewhere within the work; whoever knows more raises a problem."""
    log.warning(
        "request.contended",
        extra=fields(request_id=request.scope["state"].get("request_id"), cause=str(error)),
    )
    detail = (
        "Others are changing the same thing at the same moment. This is not done, or not wholly."
    )
    headers = {"Retry-After": str(RETRY_SECONDS)}
    return _respond(request, Problem("contended", detail, headers=headers))


def _on_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[ProblemOut]:
    """Litestar's own refusals: routing, parameters, body size."""
    if error.detail == _HUNG_UP:
        return _respond(request, Problem("request_failed", "The body did not arrive."))
    if error.status_code >= 500:
        return _on_defect(request, error)
    headers = {
        name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"
    }
    code = _BY_STATUS.get(error.status_code, "request_failed")
    if code == "invalid_request":
        return _respond(request, Problem(code, errors=_parameters(request, error.extra)))
    return _respond(request, Problem(code, headers=headers))


def _parameters(request: Request[Any, Any, Any], extra: object) -> list[Fault]:
    if not isinstance(extra, list):
        return []
    faults: list[Fault] = []
    for each in cast("list[object]", extra):
        if isinstance(each, dict):
            said = cast("dict[str, object]", each)
            argument = str(said.get("key", ""))
            detail = str(said.get("message", "")).replace("`", "")
            if _ENUM in detail:
                field = request.route_handler.parsed_fn_signature.parameters.get(argument)
                detail = f"{detail}.{_allowed(None if field is None else field.annotation)}"
            name = _outside(request, argument)
            faults.append(Fault(code="invalid", detail=detail, parameter=name))
    return faults


def _outside(request: Request[Any, Any, Any], argument: str) -> str:
    """What a handler's argument is called in a query."""
    field = request.route_handler.parsed_fn_signature.parameters.get(argument)
    definition = None if field is None else field.kwarg_definition
    return getattr(definition, "name", None) or argument[:100]


def _on_defect(request: Request[Any, Any, Any], error: Exception) -> Response[ProblemOut]:
    log.error(
        "request.failed",
        extra=fields(request_id=request.scope["state"].get("request_id")),
        exc_info=error,
    )
    return _respond(request, Problem("internal_error", "Something went wrong on our side."))


HANDLERS: Final[dict[type[Exception], Callable[[Request[Any, Any, Any], Any], Response[Any]]]] = {
    Problem: _on_problem,
    Unavailable: _on_unavailable,
    Contended: _on_contended,
    HTTPException: _on_http,
    Exception: _on_defect,
}
