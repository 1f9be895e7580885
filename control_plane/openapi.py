"""The API described by its own types: OpenAPI 3.1, and a page to read it by."""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final, cast, get_args

import msgspec
from litestar import Litestar, Response, Router, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Server
from litestar.routes import HTTPRoute
from litestar.types import Method

from control_plane.call import Call
from control_plane.idempotency import reply
from control_plane.problems import KINDS, MEDIA_TYPE, ProblemOut
from control_plane.schemas import explain, kinds
from shared import events
from shared.env import Settings

API_KEY: Final = "apiKey"
OPERATOR_KEY: Final = "operatorKey"
DOCUMENT: Final = "/openapi.json"
PAGE: Final = "/docs"
_QR_TYPES: Final = ("image/png", "image/svg+xml", "text/plain")

PAGE_HEADERS: Final = (
    (b"cache-control", b"no-cache"),
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
            b"connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        ),
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
"""Of the page: its own script, and only its own, may run and read the document."""

ABOUT: Final = """
Link WhatsApp numbers, send by REST, receive signed webhooks.

Send your key as `Authorization: Bearer zg_live_…`. Every answer carries `X-Request-Id`, and
`RateLimit` says where you stand. Lists come in pages: follow `next_cursor`. Send an
`Idempotency-Key` with whatever must happen once: a repeat within a day is answered as the first
was. `Prefer: wait=N` lets an order's answer wait up to 25 seconds for its outcome. What goes wrong
is a problem as in RFC 9457; its `code` is one of these:

"""


@get(DOCUMENT, include_in_schema=False)
async def read_document(request: Call) -> Response[bytes]:
    """Serve the document, made when first asked for."""
    return reply(200, await request.run(request.app.state["document"]))


@get(PAGE, include_in_schema=False)
async def read_page(request: Call) -> Response[bytes]:
    """Serve a page that shows the document."""
    if request.scope["state"]["asked_path"].endswith("/"):
        # The page names the document beside itself, so that a stage's path may stand before both.
        return reply(308, b"", f"..{PAGE}")
    request.scope["state"]["headers"] = PAGE_HEADERS
    page = files("control_plane").joinpath("docs.html").read_bytes()
    return reply(200, page, media_type="text/html")


ROUTES: Final = [read_document, read_page]


def document(routes: Sequence[Router], settings: Settings) -> bytes:
    """The document of these routes, as JSON.

    Litestar describes an app, and would serve what it describes with routes of its own, one of them
    for every unknown path; so an app that is only described has them, and not the one that serves.
    """
    codes = "\n".join(
        f"- `{code}` ({kind.status}): {kind.title}. {kind.then}" for code, kind in KINDS.items()
    )
    config = OpenAPIConfig(
        title="Zapgate",
        version="1",
        description=ABOUT + codes,
        servers=[Server(url=settings.public_url or "/")],
        components=Components(
            security_schemes={
                API_KEY: SecurityScheme(
                    type="http", scheme="bearer", description="A tenant's key: `zg_live_…`"
                ),
                OPERATOR_KEY: SecurityScheme(
                    type="http", scheme="bearer", description="The operator's key: `zg_oper_…`"
                ),
            }
        ),
        use_handler_docstrings=True,
        operation_id_creator=_operation_id,
        render_plugins=[JsonRenderPlugin()],
    )
    described = Litestar(
        route_handlers=routes, request_class=Call, openapi_config=config, logging_config=None
    )
    scopes = {
        handler.handler_name: str(handler.opt["needs"])
        for route in described.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if "needs" in handler.opt
    }
    whole = _completed(described.openapi_schema.to_schema(), scopes)
    encoded = msgspec.json.encode(whole)
    # Litestar names a page of sessions by its module; readers of the document need not know it.
    return re.sub(rb"PageOut_control_plane\.\w+\.(\w+?)Out_", rb"\1Page", encoded)


def _operation_id(handler: HTTPRouteHandler, _: Method, __: list[str | Any]) -> str:
    return handler.handler_name


def _completed(whole: dict[str, Any], scopes: Mapping[str, str]) -> dict[str, Any]:
    """What Litestar cannot know: problems, headers, answers that waited, and our webhooks.

    Args:
        whole: the document as Litestar makes it.
        scopes: which scope an operation needs, by its id.
    """
    components = whole["components"]
    schemas = components["schemas"]
    _describe_types(schemas)
    whole["webhooks"] = _webhooks(schemas)
    explain(schemas)
    components["responses"] = {
        "Problem": {
            "description": "A problem (RFC 9457).",
            "headers": _headers("RateLimit", "Retry-After"),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemOut"}}},
        }
    }
    components["parameters"] = _PARAMETERS
    components["headers"] = _HEADERS
    for path, methods in cast("dict[str, dict[str, Any]]", whole["paths"]).items():
        for method, operation in methods.items():
            _complete(operation, method, path, schemas)
            scope = scopes.get(operation["operationId"])
            if scope is not None:
                said = f"{operation['description']}\n\nNeeds the scope `{scope}`."
                operation["description"] = said.strip()
    return whole


def _complete(operation: dict[str, Any], method: str, path: str, schemas: dict[str, Any]) -> None:
    """One operation: its texts, what it takes and what it answers."""
    summary, _, rest = str(operation.get("description", "")).partition("\n")
    # A summary is plain text, a description is Markdown.
    operation["summary"] = summary.rstrip(".").replace("`", "")
    operation["description"] = rest.strip()
    responses = cast("dict[str, Any]", operation["responses"])
    responses.pop("400", None)
    names = ["RequestId"]
    if method in {"post", "patch", "delete"}:
        names.append("IdempotencyKey")
    waits = "Prefer: wait" in rest or ("202" in responses and path not in _NEVER_WAIT)
    if waits:
        names.append("Prefer")
        _add_waited(responses)
    if operation["operationId"] == "read_pairing_qr":
        responses["200"]["content"] = {each: {} for each in _QR_TYPES}
    limited = {API_KEY: []} in operation.get("security", [])
    told = [
        *(["RateLimit"] if limited else []),
        *(["Preference-Applied"] if waits else []),
        *(["Location"] if operation["operationId"] in _LOCATED else []),
    ]
    for response in responses.values():
        response["headers"] = _headers(*told)
    responses["default"] = {"$ref": "#/components/responses/Problem"}
    parameters = cast("list[Any]", operation.setdefault("parameters", []))
    parameters.extend({"$ref": f"#/components/parameters/{name}"} for name in names)
    if "requestBody" in operation:
        (media,) = operation["requestBody"]["content"].values()
        body = schemas[media["schema"]["$ref"].rpartition("/")[2]]
        # No body at all is read as an object without fields.
        operation["requestBody"]["required"] = bool(body.get("required"))


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _describe_types(schemas: dict[str, Any]) -> None:
    """Put msgspec's own description of each type in place of Litestar's.

    msgspec decodes the bodies, so it knows what fits. Litestar 2.25 takes the dots of
    `tuple[X, ...]` for a type that allows anything, and has no word for unknown fields.
    """
    ours = [kind for kind in kinds(msgspec.Struct) if kind.__name__ in schemas]
    _, defined = msgspec.json.schema_components(
        [ProblemOut, *ours], ref_template="#/components/schemas/{name}"
    )
    schemas |= defined


def _add_waited(responses: dict[str, Any]) -> None:
    """An order is 202, or 200 once it is known to be carried out."""
    if "202" in responses:
        responses["200"] = responses["202"] | {"description": "Done while you waited."}
        responses["202"]["description"] = "Ordered; not known to be done yet."


def _webhooks(schemas: dict[str, Any]) -> dict[str, Any]:
    """What we post to endpoints: one entry for each event type."""
    sent = get_args(events.Event)
    _, defined = msgspec.json.schema_components(sent, ref_template="#/components/schemas/{name}")
    for name, schema in defined.items():
        schemas.setdefault(name, schema)
    entries = {entry.type: entry for entry in events.CATALOGUE}
    return {
        name: {
            "post": {
                "operationId": name,
                "summary": f"Sent {entries[name].emitted}".replace("`", ""),
                "description": f"{entries[name].means} {entries[name].then}",
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {"$ref": f"#/components/schemas/{kind.__name__}"}
                        }
                    }
                },
                "responses": {"2XX": {"description": "Received."}},
            }
        }
        for kind in sent
        for name in [events.type_name(kind)]
    }


_NEVER_WAIT: Final = frozenset({"/v1/tenants/{tenant_id}"})
"""Paths of 202s that `Prefer` does not turn into 200s: a tenant takes as long as its sessions."""

_LOCATED: Final = frozenset(
    {
        "create_session",
        "start_session",
        "stop_session",
        "restart_session",
        "log_out_session",
        "send_message",
        "create_endpoint",
        "recover_endpoint",
        "create_key",
        "roll_key",
        "create_tenant",
    }
)
"""Operations whose answers say where what they made or moved can be read."""

_HEADERS: Final = {
    "Location": {
        "description": "Where what was made or ordered can be read.",
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "RateLimit": {
        "description": '`"tenant";r=…;t=…`: requests left, and seconds until there are more. '
        "`RateLimit-Policy` says how many there are (draft-ietf-httpapi-ratelimit-headers).",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds to wait before a repeat, where one makes sense.",
        "schema": {"type": "integer"},
    },
    "Preference-Applied": {
        "description": "`wait=N`: the preference as it was honoured.",
        "schema": {"type": "string"},
    },
}

_PARAMETERS: Final = {
    "RequestId": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "Your name for this request; ours is made up where there is none.",
        "schema": {"type": "string", "maxLength": 64},
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "1 to 255 printable ASCII characters, quoted or bare.",
        "schema": {"type": "string", "maxLength": 255},
    },
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "description": "`wait=N`: let the answer wait up to N seconds, 25 at the most.",
        "schema": {"type": "string"},
    },
}
