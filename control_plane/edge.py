"""The outermost layer: a request's id, its log line, and the headers of every answer.

And behind it the two doors: routes for tenants' keys and routes for the operator's. They are plain
ASGI, because they run for every request.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar, cast

from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.auth import OPERATOR, Caller, bearer, judge, unauthorized
from control_plane.plane import Plane
from control_plane.problems import Problem
from shared import clock, ids, tenant
from shared.logs import fields

T = TypeVar("T")

log = logging.getLogger(__name__)

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:+/=-]{1,64}")
"""What we repeat in headers and logs of what a caller calls a request."""

HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000"),
    (b"x-content-type-options", b"nosniff"),
)
"""Of every answer: nothing of it may be kept, guessed at or framed."""


class Edge:
    """Wraps the whole app, unknown routes included."""

    def __init__(self, app: ASGIApp, plane: Plane) -> None:
        self._app = app
        self._public_url = plane.settings.public_url.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["state"]
        request_id = _request_id(scope)
        state["request_id"] = request_id
        state["public_url"] = self._public_url
        # As it was typed: routing takes a closing slash away.
        state["asked_path"] = scope["path"]
        began = time.perf_counter()
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *_with_allow(scope, message["headers"]),
                    *state.get("headers", HEADERS),
                    *state.get("limits", ()),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            said = cast("dict[str, Any]", scope)
            caller: Caller | None = said.get("auth")
            log.info(
                "request.answered",
                extra=fields(
                    request_id=request_id,
                    method=said.get("method"),
                    # The route, not the path: a path may hold whatever somebody typed.
                    route=said.get("path_template"),
                    status=status,
                    ms=round((time.perf_counter() - began) * 1000, 1),
                    tenant_id=caller.tenant_id if caller else None,
                ),
            )


def _with_allow(
    scope: Scope, headers: Iterable[tuple[bytes, bytes]]
) -> Iterable[tuple[bytes, bytes]]:
    """What OPTIONS tells, put right: Litestar tells only of the first handler of a route."""
    said = cast("dict[str, Any]", scope)
    if said.get("method") != "OPTIONS":
        return headers
    methods = {
        method
        for route in scope["litestar_app"].routes
        if isinstance(route, HTTPRoute) and route.path_format == said.get("path_template")
        for method in route.methods
    }
    allow = ", ".join(sorted(methods)).encode()
    return [(name, allow if name == b"allow" else value) for name, value in headers]


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode()
    return clock.mint(ids.REQUEST)


def tenants_door(plane: Plane) -> Callable[[ASGIApp], ASGIApp]:
    """Lets in tenants' keys that have the scope the route needs, as often as they may."""

    def door(app: ASGIApp) -> ASGIApp:
        async def enter(scope: Scope, receive: Receive, send: Send) -> None:
            key = bearer(scope["headers"])
            if not key:
                raise unauthorized()
            # `is_operator` is not asked: an operator's key is stored nowhere, so it is unknown.
            found = plane.keys.remembered(key)
            if found is None:
                found = await _run(plane, lambda: plane.keys.look_up(key))
            if isinstance(found, Problem):
                raise found
            # None for Litestar's own OPTIONS: it tells what a route allows, which needs no scope.
            needs: tenant.Scope | None = scope["route_handler"].opt.get("needs")
            now = plane.now()
            # First whose key it is, then how often, then what it may do: every answer to a live key
            # is counted and says where the tenant stands.
            caller = judge(found, None, now)
            scope["auth"] = caller
            standing = plane.limiter.at_hand(caller.tenant_id, caller.rate_limit, now)
            if standing is None:
                standing = await _run(
                    plane, lambda: plane.limiter.take(caller.tenant_id, caller.rate_limit, now)
                )
            scope["state"]["limits"] = standing.headers
            if not standing.allowed:
                raise Problem(
                    "rate_limited",
                    f"At most {standing.limit} requests a minute.",
                    headers={"Retry-After": str(standing.reset)},
                )
            judge(found, needs, now)
            await app(scope, receive, send)

        return enter

    return door


def operators_door(plane: Plane) -> Callable[[ASGIApp], ASGIApp]:
    """Lets in the operator's keys only."""

    def door(app: ASGIApp) -> ASGIApp:
        async def enter(scope: Scope, receive: Receive, send: Send) -> None:
            if not plane.keys.is_operator(bearer(scope["headers"])):
                raise unauthorized()
            scope["auth"] = Caller(tenant_id=OPERATOR)
            await app(scope, receive, send)

        return enter

    return door


async def _run(plane: Plane, work: Callable[[], T]) -> T:
    if plane.threads is None:
        return work()
    return await asyncio.get_running_loop().run_in_executor(plane.threads, work)
