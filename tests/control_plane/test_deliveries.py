"""The log of deliveries, and doing one again."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from control_plane import contention
from control_plane import deliveries as resource
from control_plane.event_examples import examples
from shared import clock, events, ids
from shared.aws import Op, Params, done
from shared.delivery import Attempt, DeliveryState, HeldBy, Outcome, Phases, Trigger, Wake
from shared.env import Places
from shared.errors import Unavailable
from shared.ids import EndpointId, EventId
from shared.store import deliveries
from shared.store import events as event_store
from shared.store.events import KEEP, StoredEvent
from tests.control_plane.beside import beside
from tests.control_plane.conftest import Stage, Tenant
from tests.control_plane.test_trials import conclude, woken

PATH = "/v1/webhooks"
START = clock.millis() - clock.HOUR


@pytest.fixture
def endpoint(tenant: Tenant) -> str:
    made = tenant.post(PATH, {"url": "https://hooks.example.com/"})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def event_id(number: int) -> str:
    return ids.mint(ids.EVENT, START + number * clock.SECOND, b"\x02" * 10)


def instant(number: int) -> str:
    return clock.instant(START + number * clock.SECOND).isoformat().replace("+00:00", "Z")


def listed(tenant: Tenant, endpoint: str, query: str = "") -> list[str]:
    answer = tenant.get(f"{PATH}/{endpoint}/deliveries?{query}")
    assert answer.status_code == 200, answer.text
    return [str(each["event_id"]) for each in answer.json()["data"]]


def test_deliveries_are_listed_by_state_type_session_and_time(
    tenant: Tenant, endpoint: str
) -> None:
    """Newest event first unless told otherwise; each filter alone and together."""
    session_id = tenant.session()
    kinds = ["message.sent", "message.read", "session.stopped"]
    states = [
        DeliveryState.GAVE_UP,
        DeliveryState.DELIVERED,
        DeliveryState.HELD,
        DeliveryState.WAITING,
        DeliveryState.GAVE_UP,
        DeliveryState.SENDING,
    ]
    made = [event_id(n) for n in range(6)]
    for n, state in enumerate(states):
        tenant.owed(
            endpoint,
            made[n],
            state=state,
            event_type=kinds[n % 3],
            session_id=session_id if n < 3 else None,
            due_at=START if state in {DeliveryState.WAITING, DeliveryState.HELD} else None,
            held_by=HeldBy.ENDPOINT_PAUSED if state is DeliveryState.HELD else None,
        )

    def seen(query: str = "") -> list[int]:
        return [made.index(each) for each in listed(tenant, endpoint, query)]

    assert seen() == [5, 4, 3, 2, 1, 0]
    assert seen("order=oldest") == [0, 1, 2, 3, 4, 5]
    assert seen("state=gave_up") == [4, 0]
    assert seen("state=held") == [2]
    assert seen("state=waiting") == [3]
    assert seen("type=message.*&state=gave_up") == [4, 0]
    assert seen("type=message.read") == [4, 1]
    assert seen("type=*&order=oldest") == [0, 1, 2, 3, 4, 5]
    assert seen(f"session_id={session_id}") == [2, 1, 0]
    assert seen(f"session_id={session_id}&state=gave_up") == [0]
    assert seen(f"since={instant(1)}&until={instant(4)}") == [3, 2, 1]
    assert seen(f"since={instant(1)}&state=gave_up") == [4]
    assert seen(f"since={instant(4)}&until={instant(4)}") == []


def test_a_delivery_is_shown_as_it_stands(tenant: Tenant, endpoint: str) -> None:
    """What it waits for, and when its next attempt is, only where there is one to come."""
    tenant.owed(
        endpoint,
        event_id(0),
        state=DeliveryState.HELD,
        held_by=HeldBy.ENDPOINT_RESTING,
        due_at=START,
        trigger=Trigger.RECOVERY,
        last_status=503,
        last_error="http_503",
    )
    tenant.owed(endpoint, event_id(1), state=DeliveryState.WAITING, due_at=START)

    waiting, held = tenant.get(f"{PATH}/{endpoint}/deliveries").json()["data"]

    assert (held["state"], held["held_by"], held["trigger"]) == (
        "held",
        "endpoint_resting",
        "recovery",
    )
    assert (held["last_status"], held["last_error"]) == (503, "http_503")
    assert (held["attempts"], held["next_attempt_at"], held["session_id"]) == (11, None, None)
    assert waiting["next_attempt_at"] == instant(0)


@pytest.mark.parametrize("state", ["gave_up", "delivered"])
def test_pages_are_filled_and_go_on(
    tenant: Tenant, endpoint: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is rare is found among many, from the index and from all; each exactly once."""
    monkeypatch.setattr(resource, "FILTERED_ROWS", 4)
    made = [event_id(n) for n in range(15)]
    rare = [made[n] for n in (0, 1, 8, 14)]
    for each in made:
        kind = "message.read" if each in rare else "message.sent"
        tenant.owed(endpoint, each, state=DeliveryState(state), event_type=kind)

    query = f"state={state}&type=message.read&limit=1&order=oldest"
    found: list[str] = []
    following = ""
    while True:
        page = tenant.get(f"{PATH}/{endpoint}/deliveries?{query}{following}").json()
        found += [each["event_id"] for each in page["data"]]
        if not page["has_more"]:
            break
        following = f"&cursor={page['next_cursor']}"
    assert found == rare


def test_a_cursor_is_good_for_its_list_only(tenant: Tenant, endpoint: str) -> None:
    """Other filters, another endpoint and the event list refuse it."""
    for n in range(3):
        tenant.owed(endpoint, event_id(n))
    other = tenant.post(PATH, {"url": "https://hooks.example.com/"}).json()["id"]
    cursor = tenant.get(f"{PATH}/{endpoint}/deliveries?limit=1").json()["next_cursor"]

    assert listed(tenant, endpoint, f"limit=1&cursor={cursor}") == [event_id(1)]
    for path in (
        f"{PATH}/{endpoint}/deliveries?state=gave_up&cursor={cursor}",
        f"{PATH}/{endpoint}/deliveries?order=oldest&cursor={cursor}",
        f"{PATH}/{other}/deliveries?cursor={cursor}",
        f"{PATH}/{endpoint}/recoveries?cursor={cursor}",
        f"/v1/events?cursor={cursor}",
    ):
        assert tenant.get(path).json()["code"] == "invalid_cursor"


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("state=lost", "state"),
        ("type=message.lost", "type"),
        ("session_id=x", "session_id"),
        ("since=yesterday", "since"),
        ("since=1795317861", "since"),
        ("until=1795317861.5", "until"),
        ("since=", "since"),
        ("since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("until=2026-01-01T00:00:00", "until"),
        ("order=random", "order"),
        ("limit=0", "limit"),
    ],
)
def test_a_bad_parameter_is_named(
    tenant: Tenant, endpoint: str, query: str, parameter: str
) -> None:
    """400, with the parameter's own name."""
    answer = tenant.get(f"{PATH}/{endpoint}/deliveries?{query}")

    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["parameter"] == parameter


def test_a_delivery_is_read_with_its_attempts(stage: Stage, tenant: Tenant, endpoint: str) -> None:
    """In their order, each as it was logged; another delivery's are not among them."""
    row = tenant.owed(endpoint, event_id(0), last_error="timeout", attempt=2)
    tenant.owed(endpoint, event_id(1))
    attempt = Attempt(
        tenant_id=tenant.id,
        endpoint_id=row.endpoint_id,
        event_id=row.event_id,
        number=1,
        trigger=Trigger.EVENT,
        began_at=START,
        outcome=Outcome.RETRY,
        url="https://hooks.example.com/",
        status=500,
        error="http_500",
        next_at=START + clock.MINUTE,
        phases=Phases(total=20.5, dns=1.5, connect=2.0, tls=3.0, first_byte=10.0),
        request_headers={"webhook-id": row.event_id, "authorization": "…"},
        response_headers={"server": "nginx"},
        response_body="oops",
        response_cut=True,
    )
    others = [
        msgspec.structs.replace(
            attempt, number=2, outcome=Outcome.GAVE_UP, status=None, error="timeout", next_at=None
        ),
        msgspec.structs.replace(attempt, event_id=EventId(event_id(1))),
    ]
    for each in (attempt, *others):
        assert stage.aws.run(deliveries.record_attempt(tenant.id, each).alone())

    body = tenant.get(f"{PATH}/{endpoint}/deliveries/{row.event_id}").json()

    assert (body["state"], body["attempts"]) == ("gave_up", 2)
    first, second = body["log"]
    assert first == {
        "number": 1,
        "began_at": instant(0),
        "trigger": "event",
        "outcome": "retry",
        "url": "https://hooks.example.com/",
        "status": 500,
        "error": "http_500",
        "next_at": instant(60),
        "phases": {"total": 20.5, "dns": 1.5, "connect": 2.0, "tls": 3.0, "first_byte": 10.0},
        "request_headers": {"webhook-id": row.event_id, "authorization": "…"},
        "response_headers": {"server": "nginx"},
        "response_body": "oops",
        "response_cut": True,
    }
    assert (second["number"], second["outcome"], second["status"]) == (2, "gave_up", None)


def test_of_many_attempts_the_last_are_shown(
    stage: Stage, tenant: Tenant, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where their bodies are more than one read brings."""
    monkeypatch.setattr(resource, "ATTEMPTS_SHOWN", 90)
    row = tenant.owed(endpoint, event_id(0))
    for number in range(1, 101):
        attempt = Attempt(
            tenant_id=tenant.id,
            endpoint_id=row.endpoint_id,
            event_id=row.event_id,
            number=number,
            trigger=Trigger.EVENT,
            began_at=START,
            outcome=Outcome.INTERRUPTED,
            url="https://hooks.example.com/",
            response_body="x" * 16_000,
        )
        assert stage.aws.run(deliveries.record_attempt(tenant.id, attempt).alone())

    body = tenant.get(f"{PATH}/{endpoint}/deliveries/{row.event_id}").json()

    assert [each["number"] for each in body["log"]] == list(range(11, 101))


@pytest.mark.parametrize(
    ("state", "attempt"),
    [
        (DeliveryState.GAVE_UP, 11),
        (DeliveryState.WAITING, 4),
        (DeliveryState.HELD, 0),
        (DeliveryState.DELIVERED, 1),
    ],
)
def test_an_event_is_sent_again(
    stage: Stage, tenant: Tenant, endpoint: str, state: DeliveryState, attempt: int
) -> None:
    """Now, on a fresh schedule, in place of any pending retry, and a dispatcher is woken."""
    happened = tenant.happened("message.sent")
    before = tenant.owed(
        endpoint,
        happened,
        state=state,
        attempt=attempt,
        due_at=START + clock.DAY if state is DeliveryState.WAITING else None,
        held_by=HeldBy.ENDPOINT_PAUSED if state is DeliveryState.HELD else None,
    )

    answer = tenant.post(f"{PATH}/{endpoint}/deliveries/{happened}/redeliver")

    assert answer.status_code == 202, answer.text
    row = tenant.delivery(endpoint, happened)
    assert row == msgspec.structs.replace(
        before,
        state=DeliveryState.WAITING,
        trigger=Trigger.REDELIVERY,
        scheduled_from=attempt,
        held_by=None,
        due_at=row.due_at,
        updated_at=row.updated_at,
    )
    assert abs((row.due_at or 0) - clock.millis()) < clock.MINUTE
    assert (answer.json()["state"], answer.json()["trigger"]) == ("waiting", "redelivery")
    assert Wake.of(row) in woken(stage)


def test_an_event_is_sent_to_an_endpoint_it_never_went_to(
    stage: Stage, tenant: Tenant, endpoint: str
) -> None:
    """A new endpoint can be given what happened before it was there, whatever its filter."""
    session_id = tenant.session()
    happened = tenant.happened("message.sent", session_id=session_id)
    tenant.patch(f"{PATH}/{endpoint}", {"events": ["session.*"]})

    answer = tenant.post(f"{PATH}/{endpoint}/deliveries/{happened}/redeliver")

    assert answer.status_code == 202, answer.text
    row = tenant.delivery(endpoint, happened)
    assert (row.state, row.attempt, row.trigger) == (
        DeliveryState.WAITING,
        0,
        Trigger.REDELIVERY,
    )
    assert (row.event_type, row.session_id) == ("message.sent", session_id)
    assert Wake.of(row) in woken(stage)
    assert listed(tenant, endpoint) == [happened]


@pytest.mark.parametrize(
    "kind", ["endpoint.failing", "endpoint.disabled", "endpoint.recovered", "delivery.exhausted"]
)
def test_an_event_about_an_endpoint_is_not_sent_to_it(
    stage: Stage, tenant: Tenant, endpoint: str, kind: str
) -> None:
    """But to any other."""
    about: Any = examples(kind)[0]
    happened = EventId(clock.mint(ids.EVENT))
    data = msgspec.structs.replace(about.data, endpoint_id=EndpointId(endpoint))
    event = msgspec.structs.replace(about, id=happened, data=data)
    stored = StoredEvent(
        id=happened,
        tenant_id=tenant.id,
        type=kind,
        created_at=clock.millis(),
        recorded_at=clock.millis(),
        body=events.encode(event).decode(),
    )
    assert stage.aws.run(event_store.record_event(tenant.id, stored).alone())
    other = tenant.post(PATH, {"url": "https://hooks.example.com/"}).json()["id"]

    refused = tenant.post(f"{PATH}/{endpoint}/deliveries/{happened}/redeliver")
    sent = tenant.post(f"{PATH}/{other}/deliveries/{happened}/redeliver")

    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert sent.status_code == 202


def test_a_redelivery_waits_for_its_attempt(tenant: Tenant, endpoint: str) -> None:
    """`Prefer: wait`: 200 with what became of this attempt, not of those before."""
    happened = tenant.happened("message.sent")
    tenant.owed(endpoint, happened, attempt=3, last_status=500)

    def deliver() -> bool:
        row = tenant.delivery(endpoint, happened)
        if row.state is not DeliveryState.WAITING:
            return False
        conclude(tenant, row, DeliveryState.DELIVERED, status=200)
        return True

    with beside(deliver):
        answer = tenant.post(f"{PATH}/{endpoint}/deliveries/{happened}/redeliver", Prefer="wait=20")

    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=20"
    assert (answer.json()["state"], answer.json()["attempts"]) == ("delivered", 4)


def test_a_redelivery_that_is_held_need_not_be_waited_for(tenant: Tenant, endpoint: str) -> None:
    """Its endpoint rests: no attempt is to come now, and the answer says so."""
    happened = tenant.happened("message.sent")
    tenant.owed(endpoint, happened)

    def hold() -> bool:
        row = tenant.delivery(endpoint, happened)
        if row.state is not DeliveryState.WAITING:
            return False
        held = msgspec.structs.replace(
            row, state=DeliveryState.HELD, held_by=HeldBy.ENDPOINT_RESTING
        )
        return tenant.stage.aws.run(deliveries.move_delivery(tenant.id, row, held))

    with beside(hold):
        answer = tenant.post(f"{PATH}/{endpoint}/deliveries/{happened}/redeliver", Prefer="wait=20")

    assert (answer.status_code, answer.json()["held_by"]) == (200, "endpoint_resting")


def test_what_is_being_sent_is_not_sent_again(tenant: Tenant, endpoint: str) -> None:
    """409, with the time after which its attempt is over."""
    happened = tenant.happened("message.sent")
    tenant.owed(
        endpoint, happened, state=DeliveryState.SENDING, due_at=clock.millis() + clock.MINUTE
    )

    answer = tenant.post(f"{PATH}/{endpoint}/deliveries/{happened}/redeliver")

    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert 1 <= int(answer.headers["retry-after"]) <= 16
    assert tenant.delivery(endpoint, happened).state is DeliveryState.SENDING


@pytest.mark.parametrize(("status", "said"), [("paused", "resume"), ("disabled", "enable")])
def test_nothing_is_redelivered_where_nothing_is_sent(
    tenant: Tenant, endpoint: str, status: str, said: str
) -> None:
    """409, with what to do first."""
    happened = tenant.happened("message.sent")
    before = tenant.owed(endpoint, happened)
    tenant.patch(f"{PATH}/{endpoint}", {"status": status})

    answer = tenant.post(f"{PATH}/{endpoint}/deliveries/{happened}/redeliver")

    assert answer.status_code == 409
    assert said in answer.json()["detail"]
    assert tenant.delivery(endpoint, happened) == before


def test_an_event_that_is_not_kept_cannot_be_sent(tenant: Tenant, endpoint: str) -> None:
    """410 where its delivery is still known, by time or because the row is gone; else 404."""
    old = tenant.happened("message.sent", at=clock.millis() - KEEP - clock.MINUTE)
    gone, never = event_id(0), event_id(1)
    tenant.owed(endpoint, old)
    tenant.owed(endpoint, gone)

    for each in (old, gone):
        answer = tenant.post(f"{PATH}/{endpoint}/deliveries/{each}/redeliver")
        assert (answer.status_code, answer.json()["code"]) == (410, "event_expired")
    for each in (never, "x"):
        answer = tenant.post(f"{PATH}/{endpoint}/deliveries/{each}/redeliver")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert tenant.get(f"{PATH}/{endpoint}/deliveries/{each}").status_code == 404


def test_a_move_that_came_between_is_built_upon(
    tenant: Tenant, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The conditional write fails, and is made again on what is there now."""
    happened = tenant.happened("message.sent")
    tenant.owed(endpoint, happened)
    moves = iter([True])
    plain = deliveries.move_delivery

    def contested(tenant_id: Any, before: Any, moved: Any) -> Any:
        if next(moves, False):
            between = msgspec.structs.replace(before, attempt=12)
            assert tenant.stage.aws.run(plain(tenant_id, before, between))
        return plain(tenant_id, before, moved)

    monkeypatch.setattr(deliveries, "move_delivery", contested)

    answer = tenant.post(f"{PATH}/{endpoint}/deliveries/{happened}/redeliver")

    assert answer.status_code == 202
    row = tenant.delivery(endpoint, happened)
    assert (row.attempt, row.scheduled_from) == (12, 12)


def test_a_queue_that_does_not_answer_delays_a_redelivery_only(
    tenant: Tenant, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is stored, and the sweeper finds it: to say that nothing was done would be wrong."""

    def silent(_: Places) -> Params:
        raise Unavailable("sqs", "send_message", "Timeout")

    def unsent(_group: str, _body: str, _delay: int) -> Op[None]:
        return Op("sqs", "send_message", silent, done)

    monkeypatch.setattr("shared.queue.send_delivery", unsent)
    happened = tenant.happened("message.sent")

    answer = tenant.post(f"{PATH}/{endpoint}/deliveries/{happened}/redeliver")

    assert answer.status_code == 202
    assert tenant.delivery(endpoint, happened).state is DeliveryState.WAITING


@pytest.mark.parametrize("owed", [True, False])
def test_redeliveries_at_once_are_one(tenant: Tenant, endpoint: str, *, owed: bool) -> None:
    """Each is accepted: whoever finds the event due already has what it asked for."""
    happened = tenant.happened("message.sent")
    if owed:
        tenant.owed(endpoint, happened)
    path = f"{PATH}/{endpoint}/deliveries/{happened}/redeliver"

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(tenant.post, [path] * 36))

    assert {answer.status_code for answer in answers} == {202}
    row = tenant.delivery(endpoint, happened)
    assert (row.state, row.trigger) == (DeliveryState.WAITING, Trigger.REDELIVERY)


def test_a_redelivery_waits_for_no_later_one(tenant: Tenant, endpoint: str) -> None:
    """A redelivery's own retry, due later, is replaced as any other."""
    happened = tenant.happened("message.sent")
    tenant.owed(
        endpoint,
        happened,
        state=DeliveryState.WAITING,
        trigger=Trigger.REDELIVERY,
        attempt=3,
        scheduled_from=2,
        due_at=clock.millis() + clock.HOUR,
    )

    answer = tenant.post(f"{PATH}/{endpoint}/deliveries/{happened}/redeliver")

    assert answer.status_code == 202
    row = tenant.delivery(endpoint, happened)
    assert row.due_at is not None
    assert row.due_at <= clock.millis()
    assert row.scheduled_from == 3


def test_a_delivery_that_keeps_moving_is_said_to(
    tenant: Tenant, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """409: ask again, nothing was changed. The same where it comes into being meanwhile."""
    monkeypatch.setattr(contention, "TRIES", 1)
    happened = tenant.happened("message.sent")
    plain = deliveries.read_delivery

    def late(*args: Any) -> Any:
        op = plain(*args)
        if not tenant.stage.aws.run(op):
            tenant.owed(endpoint, happened)
            return Op(op.service, op.action, op.params, lambda _: None)
        return op

    monkeypatch.setattr(deliveries, "read_delivery", late)

    answer = tenant.post(f"{PATH}/{endpoint}/deliveries/{happened}/redeliver")

    assert (answer.status_code, answer.json()["code"]) == (409, "contended")
    assert "Nothing was changed." in answer.json()["detail"]
    assert int(answer.headers["retry-after"]) > 0
    again = tenant.post(f"{PATH}/{endpoint}/deliveries/{happened}/redeliver")
    assert (again.status_code, again.json()["attempts"]) == (202, 11)
