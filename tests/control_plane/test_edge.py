"""The outermost layer, where a socket ends early."""

import logging
import socket
import time
from urllib.parse import urlsplit

import pytest

from tests.control_plane.conftest import DEADLINE, Tenant


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
        time.sleep(0.2)

    def lines() -> list[str]:
        said = [(each.message, each.__dict__.get("zapgate", {})) for each in caplog.records]
        return [fact for fact, ids in said if ids.get("request_id") == "hung-up"]

    deadline = time.monotonic() + DEADLINE
    while not lines() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert lines() == ["request.answered"]


@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/keys", "/healthz"])
def test_options_tells_what_a_route_allows(tenant: Tenant, path: str) -> None:
    """204 with `Allow` for any live key: no route without a scope of its own is our fault."""
    answer = tenant.ask("OPTIONS", path)

    assert answer.status_code == 204
    assert {"GET", "OPTIONS"} <= {each.strip() for each in answer.headers["allow"].split(",")}
