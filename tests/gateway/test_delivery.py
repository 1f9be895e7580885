"""Judging deliveries: what each answer means, and when the next attempt is."""

import base64
from email.utils import formatdate

import msgspec
import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery import (
    CLAIM,
    JITTER,
    LONGEST_HOLD,
    LONGEST_RETRY_AFTER,
    SCHEDULE,
    Answer,
    Delivered,
    Fault,
    GaveUp,
    Held,
    Result,
    RetryAt,
    Verdict,
    after,
    claimed,
    held,
    hindrance,
    judge,
    prepare,
    released,
    unclaimed,
)
from shared import clock, ids
from shared.delivery import Delivery, DeliveryState, HeldBy, Trigger
from shared.ids import EndpointId, EventId, TenantId
from shared.tenant import TenantStatus
from shared.webhook import Endpoint, EndpointStatus

NOW = 1_700_000_000_000
TENANT = TenantId(ids.mint(ids.TENANT, NOW, bytes(10)))
ENDPOINT = Endpoint(
    id=EndpointId(ids.mint(ids.ENDPOINT, NOW, bytes(10))),
    tenant_id=TENANT,
    url="https://example.com/hook",
    events=("*",),
    sealed_secret=b"",
    status=EndpointStatus.ENABLED,
    created_at=0,
    updated_at=0,
)
PAUSED = msgspec.structs.replace(ENDPOINT, status=EndpointStatus.PAUSED)
DISABLED = msgspec.structs.replace(ENDPOINT, status=EndpointStatus.DISABLED)
DELIVERY = Delivery(
    tenant_id=TENANT,
    endpoint_id=ENDPOINT.id,
    event_id=EventId(ids.mint(ids.EVENT, NOW, bytes(10))),
    event_type="message.sent",
    state=DeliveryState.SENDING,
    attempt=1,
    created_at=0,
    updated_at=0,
    due_at=NOW + CLAIM,
)


def middle() -> float:
    """The random number that adds no jitter."""
    return 0.5


def judged(result: Result, attempt: int = 1) -> Verdict:
    return judge(msgspec.structs.replace(DELIVERY, attempt=attempt), result, NOW, middle)


@given(st.integers(200, 299))
def test_only_2xx_is_success(status: int) -> None:
    """Any 2xx is delivered."""
    assert judged(Answer(status)) == Delivered()


@given(st.integers(100, 599).filter(lambda status: not 200 <= status < 300 and status != 410))
def test_everything_else_is_tried_again(status: int) -> None:
    """A redirect, a refusal and a server error alike are failures that may pass."""
    assert judged(Answer(status)) == RetryAt(NOW + SCHEDULE[1], f"http_{status}")


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        (Answer(200, control="disable"), Delivered(disable=True)),
        (Answer(200, control="abort-message"), Delivered()),
        (Answer(410), GaveUp("http_410", disable=True)),
        (Answer(500, control="disable"), GaveUp("http_500", disable=True)),
        (Answer(500, control="abort-message"), GaveUp("http_500")),
        (Answer(500, control="dance"), RetryAt(NOW + SCHEDULE[1], "http_500")),
        (Fault("timeout"), RetryAt(NOW + SCHEDULE[1], "timeout")),
        (Answer(429), RetryAt(NOW + SCHEDULE[1], "http_429")),
        (Answer(429, retry_after="120"), RetryAt(NOW + 120_000, "http_429")),
        (Answer(503, retry_after=" 120 "), RetryAt(NOW + 120_000, "http_503")),
        (Answer(500, retry_after="120"), RetryAt(NOW + SCHEDULE[1], "http_500")),
        (Answer(429, retry_after="1"), RetryAt(NOW + SCHEDULE[1], "http_429")),
        (Answer(429, retry_after="-5"), RetryAt(NOW + SCHEDULE[1], "http_429")),
        (Answer(429, retry_after="soon"), RetryAt(NOW + SCHEDULE[1], "http_429")),
        (Answer(429, retry_after="9" * 5000), RetryAt(NOW + LONGEST_RETRY_AFTER, "http_429")),
        (
            Answer(503, retry_after=formatdate((NOW + 90_000) / 1000, usegmt=True)),
            RetryAt(NOW + 90_000, "http_503"),
        ),
        (
            Answer(503, retry_after="Mon, 01 Jan 1990 00:00:00 GMT"),
            RetryAt(NOW + SCHEDULE[1], "http_503"),
        ),
        (
            Answer(503, retry_after="Fri, 31 Dec 9999 23:59:59 GMT"),
            RetryAt(NOW + LONGEST_RETRY_AFTER, "http_503"),
        ),
        (
            Answer(503, retry_after="Fri, 31 Dec 99999 23:59:59 GMT"),
            RetryAt(NOW + SCHEDULE[1], "http_503"),
        ),
    ],
)
def test_what_an_answer_means(result: Result, verdict: Verdict) -> None:
    """Receivers steer by status and two headers; nonsense in them is passed over."""
    assert judged(result) == verdict


@given(
    st.integers(1, 20),
    st.one_of(
        st.builds(
            Answer,
            st.integers(100, 599),
            st.none() | st.text(),
            st.none() | st.text(),
        ),
        st.builds(Fault, st.text()),
    ),
    st.floats(0, 1, exclude_max=True),
)
def test_a_verdict_always_comes_and_never_waits_too_long(
    attempt: int, result: Result, number: float
) -> None:
    """Whatever comes back, a retry lies within a day and a fifth, and the eleventh is the last."""
    delivery = msgspec.structs.replace(DELIVERY, attempt=attempt)
    verdict = judge(delivery, result, NOW, lambda: number)
    if isinstance(verdict, RetryAt):
        assert attempt < len(SCHEDULE)
        assert NOW < verdict.at <= NOW + round(max(SCHEDULE) * (1 + JITTER))


@given(st.integers(1, len(SCHEDULE) - 1), st.floats(0, 1, exclude_max=True))
def test_retries_are_spread_by_a_fifth(attempt: int, number: float) -> None:
    """Each pause is its step of the schedule, give or take the jitter."""
    delivery = msgspec.structs.replace(DELIVERY, attempt=attempt)
    verdict = judge(delivery, Fault("timeout"), NOW, lambda: number)
    assert isinstance(verdict, RetryAt)
    step = SCHEDULE[attempt]
    assert abs(verdict.at - NOW - step) <= JITTER * step + 1


def test_the_schedule_reaches_three_days() -> None:
    """Eleven attempts reach over a long weekend: more than the 75 hours of the specification."""
    assert len(SCHEDULE) == 11
    assert sum(SCHEDULE) > 75.5 * clock.HOUR


@pytest.mark.parametrize(
    ("endpoint", "status", "reason"),
    [
        (ENDPOINT, TenantStatus.ACTIVE, None),
        (None, TenantStatus.ACTIVE, GaveUp("endpoint_deleted")),
        (ENDPOINT, None, GaveUp("tenant_deleted")),
        (ENDPOINT, TenantStatus.DELETING, GaveUp("tenant_deleted")),
    ],
)
def test_when_nothing_is_posted(
    endpoint: Endpoint | None, status: TenantStatus | None, reason: GaveUp | None
) -> None:
    """Nothing goes to what is deleted or disabled."""
    assert hindrance(endpoint, status, DELIVERY, NOW, middle) == reason


@pytest.mark.parametrize(
    ("endpoint", "status", "by"),
    [
        (ENDPOINT, TenantStatus.SUSPENDED, HeldBy.TENANT_SUSPENDED),
        (PAUSED, TenantStatus.ACTIVE, HeldBy.ENDPOINT_PAUSED),
    ],
)
@given(
    attempt=st.integers(1, len(SCHEDULE)),
    age=st.integers(0, 2**43),
    number=st.floats(0, 1, exclude_max=True),
)
def test_what_is_held_waits_however_long(
    *, endpoint: Endpoint, status: TenantStatus, by: HeldBy, attempt: int, age: int, number: float
) -> None:
    """A minute to six hours at a time; no attempt is used up, not even the last one."""
    delivery = msgspec.structs.replace(DELIVERY, attempt=attempt, created_at=NOW - age)
    hold = hindrance(endpoint, status, delivery, NOW, lambda: number)
    assert isinstance(hold, Held)
    assert (1 - JITTER) * clock.MINUTE <= hold.at - NOW <= LONGEST_HOLD
    after_it = held(delivery, hold, NOW)
    assert after_it.state is DeliveryState.HELD
    assert after_it.held_by is by
    assert after_it.attempt == attempt - 1
    assert after_it.due_at == hold.at
    assert held(after_it, hold, NOW) == after_it


def test_a_test_asks_only_for_its_tenants_good_standing() -> None:
    """It goes to a paused and a disabled endpoint, once: a lost attempt is not made up for."""
    trial = msgspec.structs.replace(DELIVERY, trigger=Trigger.TEST)
    for endpoint in (ENDPOINT, PAUSED, DISABLED):
        assert hindrance(endpoint, TenantStatus.ACTIVE, trial, NOW, middle) is None
    suspended = hindrance(ENDPOINT, TenantStatus.SUSPENDED, trial, NOW, middle)
    assert isinstance(suspended, Held)
    lapsed = msgspec.structs.replace(trial, due_at=NOW)
    assert hindrance(ENDPOINT, TenantStatus.ACTIVE, lapsed, NOW, middle) == GaveUp("interrupted")
    assert judge(trial, Answer(500), NOW, middle) == GaveUp("http_500")


def test_a_redelivery_has_a_schedule_of_its_own() -> None:
    """What was attempted before it does not count against it; its own eleventh is the last."""
    again = msgspec.structs.replace(DELIVERY, attempt=12, scheduled_from=11)
    assert judge(again, Answer(500), NOW, middle) == RetryAt(NOW + SCHEDULE[1], "http_500")
    last = msgspec.structs.replace(again, attempt=22)
    assert judge(last, Answer(500), NOW, middle) == GaveUp("http_500", exhausted=True)


def test_a_schedule_ends_also_where_its_attempts_are_interrupted() -> None:
    """The eleventh in hand is made; once it is lost, or was before a hold, there is no twelfth."""
    last = msgspec.structs.replace(DELIVERY, attempt=22, scheduled_from=11)
    assert hindrance(ENDPOINT, TenantStatus.ACTIVE, last, NOW, middle) is None
    lapsed = msgspec.structs.replace(last, due_at=NOW)
    over = GaveUp("interrupted", exhausted=True)
    for spent in (lapsed, held(unclaimed(lapsed), Held(HeldBy.ENDPOINT_PAUSED, NOW), NOW)):
        assert hindrance(ENDPOINT, TenantStatus.ACTIVE, spent, NOW, middle) == over


def test_an_attempt_whose_claim_lapsed_counts() -> None:
    """Whether it arrived is not known; one that waits has begun none."""
    assert claimed(unclaimed(DELIVERY), NOW).attempt == DELIVERY.attempt + 1
    waiting = released(DELIVERY, NOW, NOW)
    assert unclaimed(waiting) == waiting


def test_a_disabled_endpoint_gets_nothing() -> None:
    """Deliveries that were under way when an endpoint was disabled end."""
    verdict = hindrance(DISABLED, TenantStatus.ACTIVE, DELIVERY, NOW, middle)
    assert verdict == GaveUp("endpoint_disabled")


@pytest.mark.parametrize(
    ("verdict", "result", "state", "due_at", "error"),
    [
        (Delivered(), Answer(204), DeliveryState.DELIVERED, None, None),
        (RetryAt(NOW + 5, "timeout"), Fault("timeout"), DeliveryState.WAITING, NOW + 5, "timeout"),
        (GaveUp("http_410"), Answer(410), DeliveryState.GAVE_UP, None, "http_410"),
        (GaveUp("endpoint_deleted"), None, DeliveryState.GAVE_UP, None, "endpoint_deleted"),
    ],
)
def test_the_row_after_an_attempt(
    verdict: Verdict,
    result: Result | None,
    state: DeliveryState,
    due_at: int | None,
    error: str | None,
) -> None:
    """A finished delivery is due no more; its last answer stays readable."""
    row = after(DELIVERY, verdict, result, NOW)
    status = result.status if isinstance(result, Answer) else None
    assert (row.state, row.due_at, row.last_error, row.last_status, row.updated_at) == (
        state,
        due_at,
        error,
        status,
        NOW,
    )


def test_giving_back_a_claim_takes_back_its_attempt() -> None:
    """An attempt that was not made does not count."""
    again = claimed(released(DELIVERY, NOW, NOW), NOW)
    assert (again.attempt, again.state, again.due_at) == (1, DeliveryState.SENDING, NOW + CLAIM)


@given(st.binary(min_size=24, max_size=64), st.text(), st.integers(NOW, NOW + clock.DAY))
def test_posts_satisfy_the_standard_library_of_standard_webhooks(
    secret: bytes, text: str, now: int
) -> None:
    """Whatever the body, the headers name the attempt's second and sign the bytes."""
    key = "whsec_" + base64.b64encode(secret).decode()
    body = text.encode(errors="replace")
    post = prepare(
        ENDPOINT.url,
        [key],
        DELIVERY.event_id,
        body,
        now=now,
        agent="Zapgate/1",
        headers={},
        trigger=Trigger.EVENT,
    )
    judge_of_it = standardwebhooks.Webhook(key)
    signature = judge_of_it.sign(
        DELIVERY.event_id,
        clock.instant(now // 1000 * 1000),
        body.decode(),
    )
    assert post.headers["webhook-signature"] == signature
    assert post.headers["webhook-timestamp"] == str(now // 1000)
    assert post.headers["webhook-id"] == DELIVERY.event_id
    assert post.body == body


def test_a_tenants_own_headers_come_along_and_ours_win() -> None:
    """Whatever slipped past the door, the signature and the type are ours."""
    theirs = {"authorization": "Bearer 1", "webhook-signature": "forged"}
    key = "whsec_" + base64.b64encode(bytes(32)).decode()
    post = prepare(
        ENDPOINT.url,
        [key],
        DELIVERY.event_id,
        b"{}",
        now=NOW,
        agent="Zapgate/1",
        headers=theirs,
        trigger=Trigger.TEST,
    )
    assert post.headers["authorization"] == "Bearer 1"
    assert post.headers["webhook-signature"].startswith("v1,")
    assert post.headers["zapgate-trigger"] == "test"
