"""Query parameters: what a route does not know is refused, as unknown fields of bodies are."""

from typing import Any

import pytest
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter

from tests.control_plane.conftest import Api, Tenant
from tests.control_plane.test_tenancy import ROUTES


def fault(api: Api, path: str) -> dict[str, Any]:
    answer = api.get(path)
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == "invalid_request"
    (found,) = answer.json()["errors"]
    return dict(found)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/event-log?cursor=abc", "cursor"),
        ("/v1/event-log?limit=1&begin=now", "begin"),
        ("/v1/event-types?limit=1", "limit"),
        ("/v1/sessions?page=2", "page"),
        ("/v1/sessions?x%5B%5D=", "x[]"),
        ("/v1/sessions?" + "x" * 200, "x" * 100),
    ],
)
def test_unknown_parameters_are_refused_by_name(tenant: Tenant, path: str, name: str) -> None:
    """A misspelt filter would otherwise answer as if it had been heard."""
    found = fault(tenant, path)

    assert (found["code"], found["parameter"]) == ("unknown", name)


def test_known_parameters_are_named(tenant: Tenant) -> None:
    """As they are called in the query."""
    known = "Known: after, from, type, session_id, limit."

    assert known in fault(tenant, "/v1/event-log?cursor=abc")["detail"]


@pytest.mark.parametrize(
    ("path", "name"),
    [("/v1/sessions?limit=1&limit=1", "limit"), ("/v1/events?type=a&type=b", "type")],
)
def test_a_parameter_has_one_value(tenant: Tenant, path: str, name: str) -> None:
    """Which of two was meant is not for us to say."""
    found = fault(tenant, path)

    assert (found["code"], found["parameter"]) == ("repeated", name)


def test_other_methods_and_doors_refuse_them_too(tenant: Tenant) -> None:
    """Orders, and the operator's routes."""
    assert tenant.post("/v1/sessions?dry_run=true", {"name": "Shop"}).status_code == 400
    assert fault(tenant.stage.operator, "/v1/tenants?status=active")["parameter"] == "status"
    assert tenant.get("/v1/sessions").json()["data"] == []


def test_routes_for_anybody_are_lenient(tenant: Tenant) -> None:
    """What a load balancer or a browser appends harms nobody; OPTIONS tells of every method."""
    assert tenant.stage.client.get("/healthz?probe=1").status_code == 200
    assert tenant.stage.client.get("/docs?utm_source=mail").status_code == 200
    assert tenant.ask("OPTIONS", "/v1/sessions?limit=1").status_code == 204


def test_no_route_takes_a_list() -> None:
    """Each parameter of each route is a single value, which refusing repetitions relies on."""
    checked = 0
    for _, _, handler in ROUTES:
        assert isinstance(handler, HTTPRouteHandler)
        for field in handler.parsed_fn_signature.parameters.values():
            if isinstance(field.kwarg_definition, QueryParameter):
                checked += 1
                assert not field.is_non_string_sequence
    assert checked > 20
