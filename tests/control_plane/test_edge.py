"""The outermost layer, where a socket ends early."""

import logging
import socket
from urllib.parse import urlsplit

import pytest

from tests.control_plane.conftest import Tenant
from tests.control_plane.waiting import until


def test_a_caller_who_hangs_up_is_nobodys_defect(
    tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a body and then nothing: one log line, and no trail."""
    caplog.set_level(logging.INFO)
    where = urlsplit(tenant.stage.url)
    assert where.port is not None
    with socket.create_connection(("127.0.0.1", where.port)) as caller:
        caller.sendall(
            b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
            b"X-Request-Id: hung-up\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer " + tenant.key.encode() + b'\r\n\r\n{"name'
        )

    def lines() -> list[str]:
        said = [(each.message, each.__dict__.get("zapgate", {})) for each in caplog.records]
        return [fact for fact, ids in said if ids.get("request_id") == "hung-up"]

    until(lines)
    assert lines() == ["request.answered"]


@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/keys", "/healthz"])
def test_options_tells_what_a_route_allows(tenant: Tenant, path: str) -> None:
    """204 with `Allow` for any live key: no route without a scope of its own is our fault."""
    answer = tenant.ask("OPTIONS", path)

    assert answer.status_code == 204
    assert {"GET", "OPTIONS"} <= {each.strip() for each in answer.headers["allow"].split(",")}


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/sessions"), ("GET", "/v1/sessions"), ("GET", "/healthz")]
)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_has_a_bound_on_every_route(
    tenant: Tenant, method: str, path: str, *, chunked: bool
) -> None:
    """413 beyond 1 MiB, whether the route has a use for a body or not, announced or not."""
    chunk = bytes(64 * 1024)
    content = iter([chunk] * 32) if chunked else chunk * 32
    given = {"Authorization": f"Bearer {tenant.key}"}

    answer = tenant.stage.client.request(method, path, content=content, headers=given)

    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"


def test_a_body_nobody_asked_for_is_ignored(tenant: Tenant) -> None:
    """Routes that take none answer as without one."""
    assert tenant.ask("GET", "/v1/sessions", b"nonsense").status_code == 200
