"""No tenant sees, names or moves what is another's: every route, by the app's own table."""

import json
import re
from typing import Any

import pytest
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from control_plane.app import create_app
from shared import clock, ids
from shared.env import Settings
from shared.session import SessionState
from shared.tenant import Scope
from tests.control_plane.conftest import NUMBER, Stage, Tenant

NO_AWS: Any = object()
"""Never asked: these apps only say which routes there are."""

PUBLIC = {"/healthz", "/docs", "/openapi.json", "/v1/problems/{code:str}"}


def routes() -> list[tuple[str, str, HTTPRouteHandler]]:
    app = create_app(Settings(secret=json.dumps({"master": "m" * 32})), aws=NO_AWS, threads=0)
    return [
        (method, route.path, handler)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in sorted(handler.http_methods)
        if method != "OPTIONS"
    ]


ROUTES = routes()
OF_TENANTS = [
    (method, path)
    for method, path, _ in ROUTES
    if path not in PUBLIC and not path.startswith("/v1/tenants")
]
WITH_IDS = [
    # Event types are everybody's.
    each
    for each in OF_TENANTS
    if "{" in each[1] and not each[1].startswith("/v1/event-types")
]

BODIES: dict[tuple[str, str], object] = {
    ("PATCH", "/v1/sessions/{session_id:str}"): {"name": "Mine now"},
    ("POST", "/v1/sessions/{session_id:str}/messages"): {"to": NUMBER, "text": "x"},
    ("PATCH", "/v1/webhooks/{endpoint_id:str}"): {"status": "disabled"},
    ("POST", "/v1/webhooks/{endpoint_id:str}/recover"): {"since": "2026-11-01T00:00:00Z"},
}


@pytest.fixture(scope="module")
def rich(stage: Stage) -> dict[str, str]:
    """A tenant that has one of everything, by the name of its id in a path."""
    tenant = stage.tenant()
    session_id = tenant.session(SessionState.CONNECTED)
    message = tenant.post(f"/v1/sessions/{session_id}/messages", {"to": NUMBER, "text": "x"})
    endpoint = tenant.post("/v1/webhooks", {"url": "https://hooks.example.com/"})
    tenant.offer(session_id)
    event_id = tenant.happened("message.sent")
    tenant.owed(endpoint.json()["id"], event_id)
    recovery = tenant.post(
        f"/v1/webhooks/{endpoint.json()['id']}/recover",
        {"since": clock.instant(clock.millis() - clock.HOUR).isoformat()},
    )
    return {
        "session_id": session_id,
        "message_id": message.json()["id"],
        "endpoint_id": endpoint.json()["id"],
        "event_id": event_id,
        "recovery_id": recovery.json()["id"],
        "event_type": "message.sent",
        "key_id": tenant.key_id,
    }


@pytest.fixture(scope="module")
def stranger(stage: Stage) -> Tenant:
    return stage.tenant()


def made_up(name: str) -> str:
    prefix = {
        "endpoint_id": ids.ENDPOINT,
        "event_id": ids.EVENT,
        "key_id": ids.KEY,
        "message_id": ids.MESSAGE,
        "recovery_id": ids.RECOVERY,
        "session_id": ids.SESSION,
    }[name]
    return clock.mint(prefix)


def filled(path: str, values: dict[str, str]) -> str:
    return re.sub(r"\{(\w+):str\}", lambda found: values[found[1]], path)


@pytest.mark.parametrize(("method", "path"), WITH_IDS)
def test_another_tenants_id_is_as_unknown_as_a_made_up_one(
    rich: dict[str, str], stranger: Tenant, method: str, path: str
) -> None:
    """The same 404 to the last byte, but for the id itself and the request's."""
    names = re.findall(r"\{(\w+):str\}", path)
    body = BODIES.get((method, path))
    answers = [
        stranger.ask(method, filled(path, values), body, {"X-Request-Id": "same"})
        for values in (
            rich,
            {name: made_up(name) for name in names},
            dict.fromkeys(names, "not-an-id"),
        )
    ]

    theirs, *others = answers
    assert theirs.status_code == 404
    seen = {**theirs.json(), "instance": ""}
    assert seen["code"] == "not_found"
    for other in others:
        assert {**other.json(), "instance": ""} == seen
        assert dict(other.headers).keys() == dict(theirs.headers).keys()


def test_nothing_of_it_was_touched(rich: dict[str, str], stage: Stage, stranger: Tenant) -> None:
    """Whatever a stranger tried, in any order with the tests above, is without effect."""
    assert stranger.get("/v1/sessions").json()["data"] == []
    assert stranger.get("/v1/events").json()["data"] == []
    assert stranger.get("/v1/webhooks").json()["data"] == []
    theirs = {each["id"] for each in stranger.get("/v1/keys?limit=100").json()["data"]}
    assert rich["key_id"] not in theirs


@pytest.mark.parametrize(("method", "path"), OF_TENANTS)
def test_every_route_of_tenants_wants_a_key_and_a_scope(
    rich: dict[str, str], stage: Stage, stranger: Tenant, method: str, path: str
) -> None:
    """401 without a key; 403 with one that lacks the scope, before anything is looked at."""
    nobody = stage.client.request(method, filled(path, rich))
    assert nobody.status_code == 401

    (needs,) = {
        handler.opt["needs"] for other, route, handler in ROUTES if (other, route) == (method, path)
    }
    lacking = [scope.value for scope in Scope if scope is not needs]
    if needs is not Scope.KEYS_WRITE:
        refused = stranger.with_scopes(*lacking).ask(method, filled(path, rich))
        assert refused.status_code == 403
        assert needs.value in refused.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [(method, path) for method, path, _ in ROUTES if path.startswith("/v1/tenants")],
)
def test_every_route_of_the_operator_refuses_tenants(
    stranger: Tenant, method: str, path: str
) -> None:
    """401, even for a tenant's own id."""
    answer = stranger.ask(method, filled(path, {"tenant_id": stranger.id}))

    assert answer.status_code == 401


def test_every_route_is_behind_a_door() -> None:
    """A new route is public only if this list says so."""
    app = create_app(Settings(secret=json.dumps({"master": "m" * 32})), aws=NO_AWS, threads=0)

    for route in app.routes:
        assert isinstance(route, HTTPRoute)
        for handler in route.route_handlers:
            if handler.http_methods != {"OPTIONS"}:
                assert bool(handler.resolve_middleware()) == (route.path not in PUBLIC), route.path
