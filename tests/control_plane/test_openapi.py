"""The API's own description: whole, readable without a network, and true."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.app import create_app
from shared import clock, events, ids
from shared.env import Settings
from shared.session import SessionState
from tests.control_plane.conftest import Stage, Tenant
from tests.control_plane.test_tenancy import NO_AWS, ROUTES


@pytest.fixture(scope="module")
def document(stage: Stage) -> dict[str, Any]:
    return dict(stage.client.get("/openapi.json").json())


def test_every_route_is_described(document: dict[str, Any]) -> None:
    """With a summary, a description of its answer, and the problem it may be instead."""
    assert document["openapi"].startswith("3.1")
    described = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    served = {
        (method, re.sub(r":str", "", path))
        for method, path, handler in ROUTES
        if handler.include_in_schema is not False
    }
    assert described == served
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert operation["responses"]["default"] == {"$ref": "#/components/responses/Problem"}


def test_what_we_post_is_described_too(document: dict[str, Any]) -> None:
    """Every event type is a webhook of the document."""
    assert document["webhooks"].keys() == events.TYPES
    sent = resolve(document, {"$ref": "#/components/schemas/MessageSent"})
    assert "data" in sent["properties"]


def test_fields_are_explained(document: dict[str, Any]) -> None:
    """The docstrings of our types reach the reader."""
    session = document["components"]["schemas"]["SessionOut"]

    assert session["description"] == "A session."
    assert "last ordered" in session["properties"]["desired"]["description"]
    assert session["properties"]["created_at"]["format"] == "date-time"
    assert session["properties"]["until"]["anyOf"][0]["format"] == "date-time"
    asked = document["components"]["schemas"]["SessionIn"]["properties"]["phone_number"]
    assert "pairing code" in asked["description"]
    assert document["components"]["schemas"]["Scope"]["type"] == "string"
    assert "SessionPage" in document["components"]["schemas"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """No `$ref` of the document is broken."""

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            members = cast("dict[str, Any]", node)
            if "$ref" in members:
                resolve(document, members)
            for value in members.values():
                walk(value)
        elif isinstance(node, list):
            for value in cast("list[Any]", node):
                walk(value)

    walk(document)


def test_every_schema_says_something(document: dict[str, Any]) -> None:
    """No choice is empty or alone: strict clients refuse both."""
    for where, node in nodes(document):
        for choice in ("oneOf", "anyOf"):
            if isinstance(node.get(choice), list):
                assert {} not in node[choice], where
                assert len(node[choice]) > 1, where


def test_examples_and_defaults_fit(document: dict[str, Any]) -> None:
    """What a field may be taken for by example, or is where it is not given, is allowed."""
    checked = 0
    for where, node in nodes(document):
        if "type" not in node and "anyOf" not in node and "oneOf" not in node:
            continue
        examples = node.get("examples", [])
        given = [*examples, *([node["default"]] if "default" in node else [])]
        for value in given if isinstance(examples, list) else []:
            checked += 1
            assert fits(document, node, value), (where, value)
    assert checked > 10


def test_a_body_that_may_be_left_out_is_said_to_be(document: dict[str, Any]) -> None:
    """Where every field has a default."""
    required = {
        operation["operationId"]: operation["requestBody"]["required"]
        for methods in document["paths"].values()
        for operation in methods.values()
        if "requestBody" in operation
    }

    for name in ("start_session", "start_pairing", "roll_key", "create_first_key"):
        assert required[name] is False
    for name in ("create_session", "send_message", "create_endpoint", "create_tenant"):
        assert required[name] is True


def test_answers_are_described_with_their_headers(document: dict[str, Any]) -> None:
    """What a client reads from them, and only where it comes."""
    paths = document["paths"]
    send = paths["/v1/sessions/{session_id}/messages"]["post"]
    delete = paths["/v1/tenants/{tenant_id}"]["delete"]

    assert {"Location", "RateLimit", "Preference-Applied"} <= send["responses"]["202"][
        "headers"
    ].keys()
    assert "Needs the scope `messages:write`." in send["description"]
    assert delete["responses"].keys() == {"202", "default"}
    assert {"$ref": "#/components/parameters/Prefer"} not in delete["parameters"]


def test_summaries_are_plain_text(document: dict[str, Any]) -> None:
    """Markup belongs to descriptions."""
    for _, node in nodes({"paths": document["paths"], "webhooks": document["webhooks"]}):
        assert "`" not in node.get("summary", "")


def test_the_page_has_one_address(stage: Stage) -> None:
    """A closing slash would change what is beside the page; where it leads keeps a stage's path."""
    moved = stage.client.get("/docs/")

    assert moved.status_code == 308
    assert moved.headers["location"] == "../docs"
    assert stage.client.get("/docs/", follow_redirects=True).url.path == "/docs"


def nodes(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of the document, with where it is."""
    left: list[tuple[str, Any]] = [("#", document)]
    while left:
        where, node = left.pop()
        if isinstance(node, dict):
            members = cast("dict[str, Any]", node)
            yield where, members
            left.extend((f"{where}/{name}", value) for name, value in members.items())
        elif isinstance(node, list):
            values = cast("list[Any]", node)
            left.extend((f"{where}/{index}", value) for index, value in enumerate(values))


def fits(document: dict[str, Any], schema: dict[str, Any], value: Any) -> bool:
    """Whether a value fits a schema, as far as our schemas go."""
    schema = resolve(document, schema)
    for choice in ("oneOf", "anyOf"):
        if choice in schema and not any(fits(document, each, value) for each in schema[choice]):
            return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    match schema.get("type"):
        case "string":
            return (
                isinstance(value, str)
                and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**9)
                and re.search(schema.get("pattern", ""), value) is not None
            )
        case "integer":
            return type(value) is int and (
                schema.get("minimum", value) <= value <= schema.get("maximum", value)
            )
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case "array":
            return (
                isinstance(value, list)
                and len(cast("list[Any]", value)) >= schema.get("minItems", 0)
                and all(fits(document, schema["items"], each) for each in cast("list[Any]", value))
            )
        case _:
            return True


def test_the_page_loads_nothing_from_elsewhere(stage: Stage) -> None:
    """No script, style, font or image of another host, and a policy that forbids them."""
    answer = stage.client.get("/docs")

    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"https?://|(src|href)\s*=\s*[\"']//", answer.text)
    assert "cookie" not in answer.headers


def resolve(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        target: Any = document
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = target
    return node


UNKNOWN = ids.mint(ids.SESSION, 0, bytes(10))

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["+4915112345678", "https://hooks.example.com/", "*", "message.*"])
)
FLAT = st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=5), SCALARS, max_size=3)
ANYTHING = SCALARS | FLAT | st.lists(FLAT, max_size=2)


def bodies(document: dict[str, Any], schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Bodies near the schema: its own fields, with fitting values more often than not."""
    whole = resolve(document, schema)
    if "properties" not in whole:
        return ANYTHING
    fields = {
        name: values(document, member) | ANYTHING for name, member in whole["properties"].items()
    }
    return st.fixed_dictionaries({}, optional=fields) | ANYTHING


def values(document: dict[str, Any], schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    whole = resolve(document, schema)
    for choice in ("oneOf", "anyOf"):
        if choice in whole:
            return st.one_of([values(document, each) for each in whole[choice]])
    if "enum" in whole:
        return st.sampled_from(whole["enum"])
    match whole.get("type"):
        case "string":
            return st.text(max_size=min(whole.get("maxLength", 40), 40))
        case "integer":
            return st.integers(whole.get("minimum", -5), whole.get("maximum", 10**6))
        case "boolean":
            return st.booleans()
        case "array":
            return st.lists(values(document, whole["items"]), max_size=3)
        case _:
            return ANYTHING


@dataclass(frozen=True)
class Request:
    """A request to a route as described, with places for ids that exist."""

    method: str
    path: str
    ids: tuple[str | None, ...]
    """What stands in the path; None for an id that exists."""
    query: dict[str, str]
    body: Any
    key: str | None
    responses: frozenset[str]


def requests(document: dict[str, Any]) -> st.SearchStrategy[Request]:
    every = [
        request(document, method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return st.one_of(every)


def request(
    document: dict[str, Any], method: str, path: str, operation: dict[str, Any]
) -> st.SearchStrategy[Request]:
    parameters = [resolve(document, each) for each in operation.get("parameters", [])]
    query = {
        each["name"]: (values(document, each["schema"]) | st.text(max_size=8)).map(str)
        for each in parameters
        if each["in"] == "query"
    }
    body: st.SearchStrategy[Any] = st.none()
    if "requestBody" in operation:
        (media,) = operation["requestBody"]["content"].values()
        body = bodies(document, media["schema"])
    segment = st.sampled_from([None, None, None, UNKNOWN, "%00", "ä"])
    return st.builds(
        Request,
        method=st.just(method.upper()),
        path=st.just(path),
        ids=st.tuples(*[segment] * path.count("{")),
        query=st.fixed_dictionaries({}, optional=query),
        body=body,
        key=st.sampled_from([None, None, "a", "b", '"', "x" * 300]),
        responses=st.just(frozenset(operation["responses"])),
    )


DESCRIBED: dict[str, Any] = json.loads(
    create_app(Settings(secret=json.dumps({"master": "m" * 32})), aws=NO_AWS, threads=0).state[
        "document"
    ]()
)


@given(sent=requests(DESCRIBED))
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_nothing_sent_to_any_route_is_our_fault(
    stage: Stage, fuzzed: tuple[Tenant, dict[str, str]], sent: Request
) -> None:
    """No 5xx, and whatever is refused is a problem that says why."""
    tenant, known = fuzzed
    given = iter(sent.ids)
    target = re.sub(r"\{(\w+)\}", lambda found: next(given) or known.get(found[1], "x"), sent.path)
    api = stage.operator if sent.path.startswith("/v1/tenants") else tenant
    headers = {} if sent.key is None else {"Idempotency-Key": sent.key}

    url = str(httpx.URL(target, params=sent.query)) if sent.query else target
    answer = api.ask(sent.method, url, sent.body, headers)

    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert problem["code"]
        assert problem["detail"]
    else:
        assert str(answer.status_code) in sent.responses


@pytest.fixture(scope="module")
def fuzzed(stage: Stage) -> tuple[Tenant, dict[str, str]]:
    """A tenant with one of everything."""
    tenant = stage.tenant()
    session_id = tenant.session(SessionState.CONNECTED)
    endpoint = tenant.post("/v1/webhooks", {"url": "https://hooks.example.com/"})
    event_id = tenant.happened("message.sent")
    tenant.owed(endpoint.json()["id"], event_id)
    recovery = tenant.post(
        f"/v1/webhooks/{endpoint.json()['id']}/recover",
        {"since": clock.instant(clock.millis() - clock.HOUR).isoformat()},
    )
    spare = tenant.post("/v1/keys", {"name": "spare"})
    return tenant, {
        "session_id": session_id,
        "endpoint_id": endpoint.json()["id"],
        "event_id": event_id,
        "recovery_id": recovery.json()["id"],
        "key_id": spare.json()["id"],
        "tenant_id": stage.tenant().id,
        "code": "not_found",
    }
