"""Recoveries, as they are ordered, counted, read and cancelled."""

from typing import Any

import msgspec
import pytest

from control_plane import contention
from control_plane import recoveries as resource
from shared import clock, ids
from shared.delivery import DeliveryState, Trigger
from shared.ids import EndpointId, RecoveryId
from shared.recovery import Recovery, RecoveryState, over
from shared.store import recoveries
from tests.control_plane.beside import beside
from tests.control_plane.conftest import Stage, Tenant

PATH = "/v1/webhooks"
NOW = clock.millis()
START = NOW - clock.HOUR


@pytest.fixture
def endpoint(tenant: Tenant) -> str:
    made = tenant.post(PATH, {"url": "https://hooks.example.com/"})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def instant(moment: int) -> str:
    return clock.instant(moment).isoformat().replace("+00:00", "Z")


def owe(tenant: Tenant, endpoint: str, number: int, **fields: Any) -> None:
    for n in range(number):
        event_id = ids.mint(ids.EVENT, START + n * clock.SECOND, clock.mint("x").encode()[-10:])
        tenant.owed(endpoint, event_id, **fields)


def found(tenant: Tenant, endpoint: str, **body: Any) -> int:
    """What a dry run finds."""
    given = {"since": instant(START), "dry_run": True, **body}
    answer = tenant.post(f"{PATH}/{endpoint}/recover", given)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"found", "more", "allowed"}
    return int(answer.json()["found"])


def ordered(tenant: Tenant, endpoint: str, **body: Any) -> dict[str, Any]:
    answer = tenant.post(f"{PATH}/{endpoint}/recover", {"since": instant(START), **body})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def job(tenant: Tenant, endpoint: str, recovery_id: str) -> Recovery:
    op = recoveries.read(tenant.id, EndpointId(endpoint), RecoveryId(recovery_id))
    row = tenant.stage.aws.run(op)
    assert row is not None
    return row


def step(tenant: Tenant, seen: Recovery, after: Recovery) -> None:
    """What a gateway writes of a job."""
    op = (
        recoveries.replace(tenant.id, seen, after)
        if after.finished_at is None
        else recoveries.finish(tenant.id, seen, after)
    )
    assert tenant.stage.aws.run(op)


def test_a_dry_run_only_counts(tenant: Tenant, endpoint: str) -> None:
    """By state, type, session and time; a test that failed is never counted."""
    session_id = tenant.session()
    owe(tenant, endpoint, 3)
    owe(tenant, endpoint, 2, event_type="session.stopped", session_id=session_id)
    owe(tenant, endpoint, 1, trigger=Trigger.TEST)
    owe(tenant, endpoint, 4, state=DeliveryState.DELIVERED)
    owe(tenant, endpoint, 5, state=DeliveryState.WAITING, due_at=NOW)
    owe(tenant, endpoint, 1, state=DeliveryState.SENDING, due_at=NOW)

    assert found(tenant, endpoint) == 5
    assert found(tenant, endpoint, types=["session.*"]) == 2
    assert found(tenant, endpoint, types=["session.*", "*"]) == 5
    assert found(tenant, endpoint, types=["session.stopped", "message.*"]) == 5
    assert found(tenant, endpoint, types=["message.read"]) == 0
    assert found(tenant, endpoint, session_id=session_id) == 2
    assert found(tenant, endpoint, states=["delivered"]) == 4
    assert found(tenant, endpoint, states=["waiting", "gave_up"]) == 10
    assert found(tenant, endpoint, since=instant(START + 1)) == 3
    assert found(tenant, endpoint, until=instant(START + clock.SECOND)) == 2
    assert tenant.get(f"{PATH}/{endpoint}/recoveries").json()["data"] == []


def test_a_recovery_is_a_job(tenant: Tenant, endpoint: str) -> None:
    """Counted, stored for the gateways, and found where the answer says."""
    owe(tenant, endpoint, 3)
    until = START + clock.MINUTE

    answer = tenant.post(
        f"{PATH}/{endpoint}/recover",
        {"since": instant(START), "until": instant(until), "types": ["message.*"]},
    )

    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert answer.headers["location"] == f"{PATH}/{endpoint}/recoveries/{body['id']}"
    assert tenant.get(answer.headers["location"]).json() == body
    assert (body["kind"], body["state"], body["found"]) == ("recover", "running", 3)
    assert (body["moved"], body["skipped"], body["progress"]) == (0, 0, 0.0)
    assert (body["since"], body["until"]) == (instant(START), instant(until))
    assert (body["types"], body["states"], body["per_second"]) == (["message.*"], ["gave_up"], 20)
    due = tenant.stage.aws.run(recoveries.due(clock.millis(), 1_000))
    assert job(tenant, endpoint, body["id"]) in due


def test_progress_and_the_end_are_told(tenant: Tenant, endpoint: str) -> None:
    """What is moved, skipped, waited for, and why it ended."""
    owe(tenant, endpoint, 4)
    body = ordered(tenant, endpoint)
    seen = job(tenant, endpoint, body["id"])
    half = msgspec.structs.replace(seen, moved=1, skipped=1, waits_for="endpoint_resting")
    step(tenant, seen, half)

    item = f"{PATH}/{endpoint}/recoveries/{body['id']}"
    told = tenant.get(item).json()
    assert (told["moved"], told["skipped"], told["progress"]) == (1, 1, 0.5)
    assert (told["waits_for"], told["finished_at"]) == ("endpoint_resting", None)

    seen = job(tenant, endpoint, body["id"])
    step(tenant, seen, over(seen, RecoveryState.STOPPED, NOW, "endpoint_disabled"))
    told = tenant.get(item).json()
    assert (told["state"], told["reason"]) == ("stopped", "endpoint_disabled")
    assert (told["waits_for"], told["finished_at"]) == (None, instant(NOW))


def test_a_recovery_can_be_waited_for(tenant: Tenant, endpoint: str) -> None:
    """200 with its end, if that comes in time; else 202 with how far it is."""
    slow = tenant.post(f"{PATH}/{endpoint}/recover", {"since": instant(START)}, Prefer="wait=1")
    assert (slow.status_code, slow.json()["state"]) == (202, "running")
    assert slow.headers["location"].endswith(slow.json()["id"])
    cancelled = tenant.post(f"{PATH}/{endpoint}/recoveries/{slow.json()['id']}/cancel")
    assert cancelled.status_code == 200

    def finish() -> bool:
        due = tenant.stage.aws.run(recoveries.due(clock.millis(), 1_000))
        mine = [row for row in due if row.endpoint_id == endpoint]
        for seen in mine:
            step(tenant, seen, over(seen, RecoveryState.DONE, clock.millis()))
        return bool(mine)

    with beside(finish):
        answer = tenant.post(
            f"{PATH}/{endpoint}/recover", {"since": instant(START)}, Prefer="wait=20"
        )

    assert (answer.status_code, answer.json()["state"]) == (200, "done")
    assert answer.json()["progress"] == 1.0
    dry = {"since": instant(START), "dry_run": True}
    assert tenant.post(f"{PATH}/{endpoint}/recover", dry, Prefer="wait=10").status_code == 200


def test_one_recovery_of_an_endpoint_runs_at_a_time(tenant: Tenant, endpoint: str) -> None:
    """The second is told which to wait for; another endpoint's is its own."""
    body = ordered(tenant, endpoint)
    other = tenant.post(PATH, {"url": "https://hooks.example.com/"}).json()["id"]

    refused = tenant.post(f"{PATH}/{endpoint}/recover", {"since": instant(START)})

    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert body["id"] in refused.json()["detail"]
    ordered(tenant, other)
    assert tenant.post(f"{PATH}/{endpoint}/recoveries/{body['id']}/cancel").status_code == 200
    ordered(tenant, endpoint)


def test_a_recovery_is_cancelled_once(tenant: Tenant, endpoint: str) -> None:
    """What was moved stays moved and is said; one that is over cannot be cancelled."""
    body = ordered(tenant, endpoint)
    item = f"{PATH}/{endpoint}/recoveries/{body['id']}"
    seen = job(tenant, endpoint, body["id"])
    step(tenant, seen, msgspec.structs.replace(seen, moved=7))

    first, again = tenant.post(f"{item}/cancel"), tenant.post(f"{item}/cancel")

    assert first.status_code == again.status_code == 200
    assert first.json() == again.json() == tenant.get(item).json()
    assert (first.json()["state"], first.json()["moved"]) == ("cancelled", 7)
    done = ordered(tenant, endpoint)
    seen = job(tenant, endpoint, done["id"])
    step(tenant, seen, over(seen, RecoveryState.DONE, NOW))
    late = tenant.post(f"{PATH}/{endpoint}/recoveries/{done['id']}/cancel")
    assert (late.status_code, late.json()["code"]) == (409, "conflict")


def test_a_step_between_does_not_lose_a_cancellation(
    tenant: Tenant, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made again on top of the step, and keeps its counts."""
    body = ordered(tenant, endpoint)
    steps = iter([True])
    plain = recoveries.finish

    def contested(tenant_id: Any, seen: Recovery, ended: Recovery) -> Any:
        if next(steps, False):
            step(tenant, seen, msgspec.structs.replace(seen, moved=3))
        return plain(tenant_id, seen, ended)

    monkeypatch.setattr(recoveries, "finish", contested)
    monkeypatch.setattr(contention, "TRIES", 1)
    lost = tenant.post(f"{PATH}/{endpoint}/recoveries/{body['id']}/cancel")
    assert (lost.status_code, lost.json()["code"]) == (409, "contended")
    monkeypatch.setattr(contention, "TRIES", 2)
    steps = iter([True])

    answer = tenant.post(f"{PATH}/{endpoint}/recoveries/{body['id']}/cancel")

    assert (answer.json()["state"], answer.json()["moved"]) == ("cancelled", 3)


def test_recoveries_are_listed_newest_first(stage: Stage, tenant: Tenant, endpoint: str) -> None:
    """With the release of what was held, which cannot be cancelled."""
    made: list[str] = []
    for _ in range(3):
        body = ordered(tenant, endpoint)
        made.insert(0, body["id"])
        tenant.post(f"{PATH}/{endpoint}/recoveries/{body['id']}/cancel")
    assert stage.aws.run(recoveries.begin_resume(tenant.id, EndpointId(endpoint), NOW))
    resuming = ids.resuming(EndpointId(endpoint))

    page = tenant.get(f"{PATH}/{endpoint}/recoveries?limit=2").json()
    rest = tenant.get(f"{PATH}/{endpoint}/recoveries?cursor={page['next_cursor']}").json()

    assert [each["id"] for each in [*page["data"], *rest["data"]]] == [*made, resuming]
    released = rest["data"][-1]
    assert (released["kind"], released["state"]) == ("resume", "running")
    assert (released["found"], released["progress"]) == (None, None)
    assert (released["since"], released["found"], released["states"]) == (None, None, ["held"])
    refused = tenant.post(f"{PATH}/{endpoint}/recoveries/{resuming}/cancel")
    assert refused.status_code == 409
    assert "pause" in refused.json()["detail"]


def test_too_many_are_refused_with_their_number(
    tenant: Tenant, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly, or as far as they were counted; a dry run tells the same."""
    monkeypatch.setattr(resource, "MOST_FOUND", 3)
    monkeypatch.setattr(resource, "COUNTED_ROWS", 4)
    monkeypatch.setattr(resource, "MOST_COUNTED", 8)
    owe(tenant, endpoint, 5)

    refused = tenant.post(f"{PATH}/{endpoint}/recover", {"since": instant(START)}).json()
    assert (refused["code"], refused["status"], refused["found"]) == ("too_many_deliveries", 422, 5)
    assert refused["detail"] == "5 are found; 3 are allowed."
    narrow = {"since": instant(START), "until": instant(START + 3 * clock.SECOND)}
    accepted = tenant.post(f"{PATH}/{endpoint}/recover", narrow)
    assert (accepted.status_code, accepted.json()["found"]) == (202, 3)

    owe(tenant, endpoint, 10)
    refused = tenant.post(f"{PATH}/{endpoint}/recover", {"since": instant(START)}).json()
    assert refused["found"] == 12
    assert refused["detail"] == "More than 12 are found; 3 are allowed."
    dry = tenant.post(
        f"{PATH}/{endpoint}/recover", {"since": instant(START), "dry_run": True}
    ).json()
    assert (dry["found"], dry["more"]) == (12, True)

    monkeypatch.setattr(resource, "COUNTING_READS", 2)
    rare = {"since": instant(START), "types": ["message.read"]}
    refused = tenant.post(f"{PATH}/{endpoint}/recover", rare).json()
    assert (refused["code"], refused["found"]) == ("too_many_deliveries", 0)
    assert "too much to look through" in refused["detail"]


@pytest.mark.parametrize(("status", "said"), [("paused", "resume"), ("disabled", "enable")])
def test_nothing_is_recovered_where_nothing_is_sent(
    tenant: Tenant, endpoint: str, status: str, said: str
) -> None:
    """409, with what to do first; but one may count."""
    owe(tenant, endpoint, 2)
    tenant.patch(f"{PATH}/{endpoint}", {"status": status})

    answer = tenant.post(f"{PATH}/{endpoint}/recover", {"since": instant(START)})

    assert answer.status_code == 409
    assert said in answer.json()["detail"]
    assert found(tenant, endpoint) == 2


def test_an_endpoint_that_changes_while_it_is_counted_is_not_recovered(
    tenant: Tenant, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write itself asks whether it is enabled."""
    plain = recoveries.begin_recovery

    def late(*args: Any) -> Any:
        tenant.patch(f"{PATH}/{endpoint}", {"status": "paused"})
        return plain(*args)

    monkeypatch.setattr(recoveries, "begin_recovery", late)

    answer = tenant.post(f"{PATH}/{endpoint}/recover", {"since": instant(START)})

    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert tenant.get(f"{PATH}/{endpoint}/recoveries").json()["data"] == []


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({}, 400, "/since"),
        ({"since": "yesterday"}, 400, "/since"),
        ({"since": "2026-11-01T00:00:00"}, 400, "/since"),
        ({"since": instant(NOW - 31 * clock.DAY)}, 422, "/since"),
        ({"since": instant(NOW + clock.DAY)}, 422, "/since"),
        ({"since": instant(START), "until": instant(START)}, 422, "/until"),
        ({"since": instant(START), "types": ["message.lost"]}, 422, "/types/0"),
        ({"since": instant(START), "session_id": "x"}, 422, "/session_id"),
        ({"since": instant(START), "states": []}, 422, "/states"),
        ({"since": instant(START), "states": ["held"]}, 400, "/states/0"),
        ({"since": instant(START), "per_second": 0}, 422, "/per_second"),
        ({"since": instant(START), "per_second": 51}, 422, "/per_second"),
        ({"since": instant(START), "limit": 1}, 400, "/limit"),
    ],
)
def test_what_does_not_fit_is_named(
    tenant: Tenant, endpoint: str, body: dict[str, Any], status: int, pointer: str
) -> None:
    """With its place in the body."""
    answer = tenant.post(f"{PATH}/{endpoint}/recover", body)

    assert answer.status_code == status, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_an_unknown_recovery_is_not_found(tenant: Tenant, endpoint: str) -> None:
    """Nor is another endpoint's."""
    other = tenant.post(PATH, {"url": "https://hooks.example.com/"}).json()["id"]
    theirs = ordered(tenant, other)["id"]

    for each in (theirs, clock.mint(ids.RECOVERY), "x"):
        assert tenant.get(f"{PATH}/{endpoint}/recoveries/{each}").status_code == 404
        assert tenant.post(f"{PATH}/{endpoint}/recoveries/{each}/cancel").status_code == 404


def test_a_repeated_order_is_one_job(tenant: Tenant, endpoint: str) -> None:
    """With an idempotency key the second answer is the first's."""
    body = {"since": instant(START)}
    first = tenant.post(f"{PATH}/{endpoint}/recover", body, **{"Idempotency-Key": "k"})
    again = tenant.post(f"{PATH}/{endpoint}/recover", body, **{"Idempotency-Key": "k"})

    assert first.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"


def test_resuming_an_endpoint_releases_what_was_held(tenant: Tenant, endpoint: str) -> None:
    """A job of its own, begun anew each time; a pause alone begins none."""
    item = f"{PATH}/{endpoint}"
    assert tenant.post(f"{item}/pause").status_code == 200
    assert tenant.get(f"{item}/recoveries").json()["data"] == []

    for _ in range(2):
        assert tenant.post(f"{item}/resume").status_code == 200
        (released,) = tenant.get(f"{item}/recoveries").json()["data"]
        assert (released["id"], released["kind"]) == (ids.resuming(EndpointId(endpoint)), "resume")
        assert released["state"] == "running"


def test_what_a_suspension_held_is_released_when_it_ends(
    stage: Stage, tenant: Tenant, endpoint: str
) -> None:
    """Without being asked."""
    stage.operator.post(f"/v1/tenants/{tenant.id}/suspend")
    resumed = stage.operator.post(f"/v1/tenants/{tenant.id}/resume")

    assert resumed.status_code == 200
    (job,) = tenant.get(f"/v1/webhooks/{endpoint}/recoveries").json()["data"]
    assert (job["kind"], job["state"]) == ("resume", "running")
