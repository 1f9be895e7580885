"""Trying an endpoint: what is sent, and what its owner is told."""

from typing import Any

import msgspec
import pytest

from shared import clock, events, queue
from shared.delivery import Attempt, Delivery, DeliveryState, Outcome, Phases, Trigger, Wake
from shared.ids import EndpointId, EventId
from shared.store import deliveries
from shared.store.dynamo import Range, transact
from tests.control_plane.beside import beside
from tests.control_plane.conftest import Stage, Tenant

PATH = "/v1/webhooks"


@pytest.fixture
def endpoint(tenant: Tenant) -> str:
    made = tenant.post(PATH, {"url": "https://hooks.example.com/", "events": ["message.*"]})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def woken(stage: Stage) -> list[Wake]:
    """Every wake-up in the queue, which tests share."""
    found: list[Wake] = []
    while received := stage.aws.run(queue.receive(stage.settings.delivery_queue_url, 1)):
        found += [Wake.decode(each.body) for each in received]
        handles = [each.handle for each in received]
        stage.aws.run(queue.settle(stage.settings.delivery_queue_url, handles))
    return found


def conclude(tenant: Tenant, row: Delivery, state: DeliveryState, **fields: Any) -> None:
    """What a gateway writes at the end of an attempt."""
    at = clock.millis()
    given: dict[str, Any] = {"status": None, "error": None, **fields}
    after = msgspec.structs.replace(
        row,
        state=state,
        attempt=row.attempt + 1,
        last_status=given["status"],
        last_error=given["error"],
        due_at=None,
        updated_at=at,
    )
    attempt = Attempt(
        tenant_id=tenant.id,
        endpoint_id=row.endpoint_id,
        event_id=row.event_id,
        number=after.attempt,
        trigger=row.trigger,
        began_at=at,
        outcome=Outcome(state.value) if state is not DeliveryState.WAITING else Outcome.RETRY,
        url="https://hooks.example.com/",
        **given,
    )
    writes = [
        deliveries.moving(tenant.id, row, after),
        deliveries.record_attempt(tenant.id, attempt),
    ]
    assert tenant.stage.aws.run(transact(writes))


def test_a_test_is_an_event_a_delivery_and_a_wake(
    stage: Stage, tenant: Tenant, endpoint: str
) -> None:
    """Rows first, then a message that only says where to look."""
    plain = tenant.post(f"{PATH}/{endpoint}/test")
    body = plain.json()
    assert plain.status_code == 202
    assert (body["state"], body["attempts"], body["trigger"]) == ("waiting", 0, "test")
    assert body["attempt"] is body["diagnosis"] is None
    event = tenant.get(f"/v1/events/{body['event_id']}")
    assert event.json()["type"] == "endpoint.test"
    assert isinstance(events.decode(event.content), events.EndpointTest)
    assert Wake.of(tenant.delivery(endpoint, body["event_id"])) in woken(stage)


@pytest.mark.parametrize("kind", sorted(events.TYPES))
def test_any_type_can_be_tried(tenant: Tenant, endpoint: str, kind: str) -> None:
    """The catalogue's example, with an id and a time of its own; no list claims it happened."""
    body = tenant.post(f"{PATH}/{endpoint}/test", {"type": kind}).json()

    sent = events.decode(tenant.get(f"/v1/events/{body['event_id']}").content)
    assert body["event_type"] == events.type_name(sent) == kind
    assert sent.id == body["event_id"]
    assert abs(clock.moment(sent.timestamp) - clock.millis()) < clock.MINUTE
    listed = [each["id"] for each in tenant.get("/v1/events").json()["data"]]
    assert listed == ([sent.id] if kind == "endpoint.test" else [])


def test_an_unknown_type_is_named(tenant: Tenant, endpoint: str) -> None:
    """A filter is no type."""
    for kind in ("message.lost", "message.*", ""):
        answer = tenant.post(f"{PATH}/{endpoint}/test", {"type": kind})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/type"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"status": 204, "phases": Phases(total=12.5, dns=1.0)}, "ok"),
        ({"status": 200, "phases": Phases(total=12_000.0)}, "slow"),
        ({"status": 401, "error": "http_401"}, "unauthorized"),
        ({"error": "dns_error", "phases": Phases(total=3.0)}, "dns_error"),
    ],
)
def test_waiting_for_a_test_says_what_is_wrong(
    stage: Stage, tenant: Tenant, endpoint: str, fields: dict[str, Any], code: str
) -> None:
    """The attempt as the log has it, and what it means."""
    well = "error" not in fields

    def deliver() -> bool:
        op = deliveries.every_delivery(tenant.id, EndpointId(endpoint), Range(10))
        state = DeliveryState.DELIVERED if well else DeliveryState.GAVE_UP
        rows = stage.aws.run(op).rows
        for row in rows:
            conclude(tenant, row, state, response_body="no\n", **fields)
        return bool(rows)

    with beside(deliver):
        answer = tenant.post(f"{PATH}/{endpoint}/test", Prefer="wait=20")

    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=20"
    body = answer.json()
    assert (body["diagnosis"]["code"], body["diagnosis"]["well"]) == (code, well)
    assert body["attempt"]["status"] == body["last_status"] == fields.get("status")
    assert (body["attempt"]["number"], body["attempt"]["trigger"]) == (1, "test")
    assert body["attempt"]["response_body"] == "no\n"


def test_a_test_that_takes_longer_than_the_wait_is_ordered(tenant: Tenant, endpoint: str) -> None:
    """202, and its outcome is in the log later."""
    answer = tenant.post(f"{PATH}/{endpoint}/test", Prefer="wait=1")

    assert answer.status_code == 202
    assert answer.json()["diagnosis"] is None
    item = f"{PATH}/{endpoint}/deliveries/{answer.json()['event_id']}"
    assert tenant.get(item).json()["log"] == []


@pytest.mark.parametrize("status", ["paused", "disabled"])
def test_a_test_asks_for_no_status(tenant: Tenant, endpoint: str, status: str) -> None:
    """To mend an endpoint one must be able to try it."""
    assert tenant.patch(f"{PATH}/{endpoint}", {"status": status}).status_code == 200

    assert tenant.post(f"{PATH}/{endpoint}/test").status_code == 202


def test_a_repeated_test_is_made_once(tenant: Tenant, endpoint: str) -> None:
    """With an idempotency key, and without waiting a second time."""
    given = {"Idempotency-Key": "k", "Prefer": "wait=0"}
    first = tenant.post(f"{PATH}/{endpoint}/test", **given)
    again = tenant.post(f"{PATH}/{endpoint}/test", **given)

    assert first.json() == again.json()
    rows = Range(10)
    op = deliveries.every_delivery(tenant.id, EndpointId(endpoint), rows)
    assert [row.event_id for row in tenant.stage.aws.run(op).rows] == [
        EventId(first.json()["event_id"])
    ]
    assert tenant.delivery(endpoint, first.json()["event_id"]).trigger is Trigger.TEST
