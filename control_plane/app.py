"""The app: every route, both doors, and what happens to errors, in one list.

`uvicorn --factory control_plane.app:create_app` serves it; in Lambda `control_plane.handler` does.
"""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, cast

from litestar import Litestar, Request, Router
from litestar.datastructures import State

from control_plane import (
    deliveries,
    event_log,
    event_types,
    events,
    health,
    keys,
    lifecycle,
    messages,
    openapi,
    pairing,
    problems,
    recoveries,
    redelivery,
    rotation,
    sessions,
    tenants,
    trials,
    webhooks,
)
from control_plane.attendance import Attendance
from control_plane.auth import Keys
from control_plane.aws import Aws, Runner
from control_plane.call import Call
from control_plane.edge import Edge, operators_door, tenants_door
from control_plane.limits import Limiter
from control_plane.plane import Plane, Resolve
from shared import clock, env, logs
from shared.env import Settings
from shared.errors import Misconfigured
from shared.keyring import Keyring

LARGEST_BODY: Final = 1024 * 1024
"""Bytes. The longest text is a quarter of it; a queue message could not be larger."""
THREADS: Final = 32
"""Requests that may be waiting for AWS at a time, in one process."""


def create_app(
    settings: Settings | None = None,
    *,
    aws: Runner | None = None,
    now: Callable[[], int] = clock.millis,
    resolve: Resolve | None = None,
    threads: int = THREADS,
) -> Litestar:
    """The control plane. Without settings, what the environment says is taken.

    Args:
        settings: where everything is, and the secret.
        aws: whoever runs operations; a client of its own if not given.
        now: the wall clock, in milliseconds.
        resolve: addresses of a host name; the system's resolver if not given.
        threads: how many requests may wait for AWS at a time. 0 answers one after another, which
            is what Lambda asks for.
    """
    if settings is None:
        settings = env.settings()
        logs.configure(settings.log_level)
    runner = aws if aws is not None else Aws(settings)
    keyring = _keyring(settings, runner)
    pool = ThreadPoolExecutor(threads, "aws") if threads else None
    plane = Plane(
        settings=settings,
        keyring=keyring,
        aws=runner,
        keys=Keys(runner, keyring.peppers, keyring.operator_keys),
        limiter=Limiter(runner, settings.rate_limit),
        attendance=Attendance(runner, now),
        now=now,
        resolve=resolve or addresses_of,
        threads=pool,
    )

    def stop() -> None:
        if pool is not None:
            pool.shutdown()
        if aws is None and isinstance(runner, Aws):
            runner.close()

    app = Litestar(
        route_handlers=_routes(plane),
        request_class=Call,
        exception_handlers={**problems.HANDLERS},
        request_max_body_size=LARGEST_BODY,
        before_request=_check,
        openapi_config=None,
        state=State(
            {"plane": plane, "document": cache(lambda: openapi.document(_routes(plane), settings))}
        ),
        on_shutdown=[stop],
        # Litestar would set up a logging of its own; ours is set up by whoever runs the process.
        logging_config=None,
    )
    app.asgi_handler = Edge(app.asgi_handler, plane)
    return app


async def _check(request: Request[Any, Any, Any]) -> None:
    """What holds on every route."""
    if "auth" in request.scope and request.method != "OPTIONS":
        # Those for anybody are lenient: a load balancer or a browser may append what it likes.
        # OPTIONS tells of every method of a path, whatever each of them takes.
        cast("Call", request).check_query()
    # The body's bound holds on routes that have no use for one, too.
    if {"content-length", "transfer-encoding"} & set(request.headers):
        await request.body()


def _routes(plane: Plane) -> list[Router]:
    """Every route: those for anybody, for the operator, and for tenants."""
    tenant = (
        ("Sessions", [*sessions.ROUTES, *lifecycle.ROUTES]),
        ("Pairing", pairing.ROUTES),
        ("Messages", messages.ROUTES),
        (
            "Webhooks",
            [
                *webhooks.ROUTES,
                *rotation.ROUTES,
                *trials.ROUTES,
                *deliveries.ROUTES,
                *redelivery.ROUTES,
                *recoveries.ROUTES,
            ],
        ),
        ("Events", [*events.ROUTES, *event_log.ROUTES, *event_types.ROUTES]),
        ("Keys", keys.ROUTES),
    )
    return [
        Router("/", route_handlers=[*health.ROUTES, *openapi.ROUTES], tags=["Service"]),
        *(
            Router(
                "/",
                route_handlers=routes,
                middleware=[tenants_door(plane)],
                tags=[tag],
                security=[{openapi.API_KEY: []}],
            )
            for tag, routes in tenant
        ),
        Router(
            "/",
            route_handlers=tenants.ROUTES,
            middleware=[operators_door(plane)],
            tags=["Operator: tenants"],
            security=[{openapi.OPERATOR_KEY: []}],
        ),
    ]


def _keyring(settings: Settings, runner: Runner) -> Keyring:
    if settings.secret:
        return Keyring.parse(settings.secret)
    if settings.secret_arn and isinstance(runner, Aws):
        return Keyring.parse(runner.secret(settings.secret_arn))
    raise Misconfigured("ZAPGATE_SECRET or ZAPGATE_SECRET_ARN must be set")


def addresses_of(host: str) -> tuple[IPv4Address | IPv6Address, ...]:
    """What a host name resolves to now; nothing where it does not."""
    try:
        found = socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(ip_address(str(address[0])) for *_, address in found)
