"""The runner: what AWS's errors become, what is counted, and Lambda's entry on top of it."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from control_plane.aws import CONFLICT_ATTEMPTS, Aws
from shared.aws import Op, done
from shared.env import Places
from shared.errors import Contended, Unavailable
from shared.ids import TenantId
from shared.keyring import Keyring
from shared.store import limits, tenants
from tests.conftest import FreshStack
from tests.control_plane.conftest import Stage


def test_a_refusal_is_a_value(stage: Stage) -> None:
    """A failed condition is what the operation says it is."""
    assert not stage.aws.run(tenants.set_status(TenantId("ten_none"), tenants.TenantStatus.ACTIVE))


def test_a_defect_is_raised_as_it_is(stage: Stage) -> None:
    """A table that is not there is a mistake of ours, not a moment's trouble."""
    lost = Aws(Places(table="no-such-table"))

    with pytest.raises(ClientError):
        lost.run(tenants.read(TenantId("ten_none")))
    lost.close()


def test_an_aws_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is tried again a few times and then said."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    nowhere = Aws(Places())

    with pytest.raises(Unavailable) as caught:
        nowhere.run(tenants.read(TenantId("ten_none")))

    assert caught.value.code == "EndpointConnectionError"
    nowhere.close()


class _Client:
    """A client that fails as told before it answers."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        self.errors = errors

    def get_item(self, **_: object) -> dict[str, Any]:
        if self.errors:
            raise ClientError(self.errors.pop(), "GetItem")  # pyright: ignore[reportArgumentType] - as botocore does
        return {"ResponseMetadata": {"RetryAttempts": 1}}


CONFLICT: dict[str, Any] = {"Error": {"Code": "TransactionConflictException"}}
THROTTLED: dict[str, Any] = {"Error": {"Code": "ThrottlingException"}}
BROKEN: dict[str, Any] = {
    "Error": {"Code": "Odd"},
    "ResponseMetadata": {"HTTPStatusCode": 500},
}
ASK: Op[None] = Op("dynamodb", "get_item", lambda _: {}, done)


def faulty(*errors: dict[str, Any]) -> Aws:
    return Aws(Places(), clients={"dynamodb": _Client(list(errors))})


def test_a_conflict_is_tried_again() -> None:
    """Another transaction at the same items means nothing was written: ask again, count each."""
    aws = faulty(*[CONFLICT] * (CONFLICT_ATTEMPTS - 1))

    aws.run(ASK)

    assert aws.counts["dynamodb", "get_item"] == CONFLICT_ATTEMPTS + 1


def test_endless_conflict_is_contention() -> None:
    """And not for ever."""
    with pytest.raises(Contended):
        faulty(*[CONFLICT] * CONFLICT_ATTEMPTS).run(ASK)


@pytest.mark.parametrize("error", [THROTTLED, BROKEN])
def test_trouble_on_their_side_is_unavailable(error: dict[str, Any]) -> None:
    """Throttling and 5xx say nothing about the request."""
    with pytest.raises(Unavailable):
        faulty(error).run(ASK)


def test_threads_share_clients(stage: Stage) -> None:
    """Many at once on a cold runner: one client a service, and every request counted."""
    aws = Aws(stage.settings)
    tenant = TenantId("ten_threads")

    with ThreadPoolExecutor(16) as pool:
        counts: list[int] = list(pool.map(aws.run, [limits.take(tenant, 1, 1)] * 64))

    assert sorted(counts) == list(range(1, 65))
    assert aws.counts["dynamodb", "update_item"] == 64
    aws.close()


def event(method: str, path: str, body: str = "", **headers: str) -> dict[str, Any]:
    """An HTTP API event, as API Gateway sends it."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"host": "x", **headers},
        "requestContext": {
            "http": {"method": method, "path": path, "sourceIp": "127.0.0.1"},
            "stage": "$default",
        },
        "body": body,
        "isBase64Encoded": False,
    }


PROGRAM = """
import json, sys, warnings
warnings.simplefilter("error")
from control_plane.handler import UnknownEvent, handler
answers = [handler(event, None) for event in json.load(sys.stdin)]
try:
    handler({"Records": []}, None)
except UnknownEvent as error:
    answers.append(str(error))
print(json.dumps(answers))
"""


def test_lambda_answers_http_api_events_and_nothing_else(fresh_stack: FreshStack) -> None:
    """The secret comes from Secrets Manager; an event of another kind is a clear error."""
    stack = fresh_stack(Shards="1")
    environment = {**os.environ, **stack.environment}  # noqa: TID251 - handed on to a program
    del environment["ZAPGATE_SECRET"]
    environment["ZAPGATE_SECRET_ARN"] = stack.outputs["SecretArn"]
    operator = Keyring.parse(stack.environment["ZAPGATE_SECRET"]).operator_keys[0]
    sent = [
        event("GET", "/healthz", **{"x-request-id": "mine"}),
        event("GET", "/v1/sessions"),
        event("POST", "/v1/tenants", '{"name":"Acme"}', authorization=f"Bearer {operator}"),
    ]

    ran = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(sent),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )

    assert ran.returncode == 0, ran.stderr
    health, refused, tenant, unknown = json.loads(ran.stdout)
    assert (health["statusCode"], health["body"]) == (200, '{"status":"ok"}')
    assert health["headers"]["x-request-id"] == "mine"
    assert refused["statusCode"] == 401
    assert not refused["isBase64Encoded"]
    assert tenant["statusCode"] == 201
    assert "Records" in unknown
    assert '"fact":"request.answered"' in ran.stderr
