"""What to post, and what the answer means.

Standard Webhooks 1.0: the id is the event's and the same in every attempt, the timestamp is the
attempt's, and the signature is made over both and the exact bytes of the body. Only 2xx is success;
a redirect is a failure, because a POST that follows one arrives as a GET without its body.
"""

from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Final, assert_never

import msgspec

from shared import clock
from shared.delivery import Delivery, DeliveryState, HeldBy, Phases, Trigger
from shared.headers import merged
from shared.ids import EventId, WorkerId
from shared.signing import sign_webhook
from shared.tenant import TenantStatus
from shared.webhook import Endpoint, EndpointStatus

SCHEDULE: Final = (
    0,
    5 * clock.SECOND,
    30 * clock.SECOND,
    5 * clock.MINUTE,
    30 * clock.MINUTE,
    2 * clock.HOUR,
    5 * clock.HOUR,
    10 * clock.HOUR,
    14 * clock.HOUR,
    20 * clock.HOUR,
    24 * clock.HOUR,
)
"""Pause before each attempt: eleven in about 76 hours, a little more than Standard Webhooks'
example."""
JITTER: Final = 0.2
"""Share of a pause by which retries spread, so that an outage does not end in a burst."""
LONGEST_RETRY_AFTER: Final = 24 * clock.HOUR

SHORTEST_HOLD: Final = clock.MINUTE
LONGEST_HOLD: Final = 6 * clock.HOUR
"""When a held delivery is looked at again though nobody released it: after a quarter of its age
within these, so that a long hold costs few writes and a short one little delay."""

CLAIM: Final = clock.MINUTE
"""How long an attempt belongs to the gateway that claimed it: four times an attempt's deadline, so
that a claim of the living does not lapse."""


class Answer(msgspec.Struct, frozen=True):
    """What an endpoint answered."""

    status: int
    retry_after: str | None = None
    control: str | None = None
    """The `webhook-delivery` header: how a receiver steers its deliveries (Svix's names)."""


class Fault(msgspec.Struct, frozen=True):
    """Why there is no whole answer, as a code such as `timeout` or `tls_error`."""

    code: str
    status: int | None = None
    """Of an answer that broke off."""


Result = Answer | Fault


def error_of(result: Result) -> str | None:
    """The code of a failure: `timeout`, `http_500`; None for success."""
    match result:
        case Fault(code):
            return code
        case Answer(status):
            return None if 200 <= status < 300 else f"http_{status}"
        case _:
            assert_never(result)


class Exchange(msgspec.Struct, frozen=True):
    """One attempt as the log tells it."""

    result: Result
    phases: Phases
    response_headers: Mapping[str, str] = {}
    response_body: bytes = b""
    """Its beginning."""
    response_cut: bool = False


class Delivered(msgspec.Struct, frozen=True):
    """It arrived; with `disable`, the receiver wants no more."""

    disable: bool = False


class RetryAt(msgspec.Struct, frozen=True):
    """It failed and is tried again at `at` (ms)."""

    at: int
    error: str


class GaveUp(msgspec.Struct, frozen=True):
    """It failed for good; with `disable`, so does everything else for this endpoint."""

    error: str
    disable: bool = False
    exhausted: bool = False
    """Whether it was the last attempt of its schedule."""


class Held(msgspec.Struct, frozen=True):
    """It is not attempted for another's sake, and looked at again at `at` (ms)."""

    by: HeldBy
    at: int


Verdict = Delivered | RetryAt | GaveUp


class Post(msgspec.Struct, frozen=True):
    """A request ready to go."""

    url: str
    headers: dict[str, str]
    body: bytes


def prepare(
    url: str,
    secrets: Sequence[str],
    event_id: EventId,
    body: bytes,
    *,
    now: int,
    agent: str,
    headers: Mapping[str, str],
    trigger: Trigger,
) -> Post:
    """The request of one attempt, signed for `now` (ms) with every live secret.

    `headers` are the tenant's own. A receiver may tell a test by the `zapgate-trigger`.
    """
    timestamp = now // clock.SECOND
    ours = {
        "content-type": "application/json",
        "user-agent": agent,
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign_webhook(secrets, event_id, timestamp, body),
        "zapgate-trigger": trigger,
    }
    return Post(url, merged(headers, ours), body)


def hindrance(
    endpoint: Endpoint | None,
    status: TenantStatus | None,
    delivery: Delivery,
    now: int,
    random: Callable[[], float],
) -> GaveUp | Held | None:
    """Why an attempt is not to be made, if it is not. A test only needs its tenant's good standing.

    What a breaker says comes later: it is asked when the attempt is about to be made.
    """
    if status is None or status is TenantStatus.DELETING:
        return GaveUp("tenant_deleted")
    if endpoint is None:
        return GaveUp("endpoint_deleted")
    begun = delivery.state is DeliveryState.SENDING and now < (delivery.due_at or 0)
    if delivery.attempt - delivery.scheduled_from - begun >= _most_attempts(delivery):
        # The last one was interrupted. What interrupts each, it may be, must not go on for ever.
        return GaveUp("interrupted", exhausted=delivery.trigger is not Trigger.TEST)
    if status is TenantStatus.SUSPENDED:
        return Held(HeldBy.TENANT_SUSPENDED, hold_until(delivery.created_at, now, random))
    if delivery.trigger is Trigger.TEST:
        return None
    match endpoint.status:
        case EndpointStatus.ENABLED:
            return None
        case EndpointStatus.PAUSED:
            return Held(HeldBy.ENDPOINT_PAUSED, hold_until(delivery.created_at, now, random))
        case EndpointStatus.DISABLED:
            return GaveUp("endpoint_disabled")
        case _:
            assert_never(endpoint.status)


def _most_attempts(delivery: Delivery) -> int:
    """How many a delivery's schedule has; whoever asked for a test is told of one attempt."""
    return 1 if delivery.trigger is Trigger.TEST else len(SCHEDULE)


def hold_until(created_at: int, now: int, random: Callable[[], float]) -> int:
    """When something held since `created_at` is looked at again unasked."""
    hold = max(SHORTEST_HOLD, min((now - created_at) // 4, LONGEST_HOLD))
    return now + round(hold * (1 - JITTER * random()))


def judge(delivery: Delivery, result: Result, now: int, random: Callable[[], float]) -> Verdict:
    """What follows from an attempt's result. `random` gives numbers in [0, 1)."""
    match result:
        case Fault(code):
            return _later(delivery, code, now, random, at_least=0)
        case Answer(status) if 200 <= status < 300:
            return Delivered(disable=result.control == "disable")
        case Answer(status, retry_after, control):
            error = f"http_{status}"
            if status == 410 or control == "disable":
                return GaveUp(error, disable=True)
            if control == "abort-message":
                return GaveUp(error)
            wait = retry_wait(retry_after, now) if status in {429, 503} else 0
            return _later(delivery, error, now, random, at_least=wait)
        case _:
            assert_never(result)


def after(delivery: Delivery, verdict: Verdict, result: Result | None, now: int) -> Delivery:
    """The delivery's row after an attempt; `result` is None where none was made."""
    status = None if result is None else result.status
    match verdict:
        case Delivered():
            state, due_at, error = DeliveryState.DELIVERED, None, None
        case RetryAt(at, code):
            state, due_at, error = DeliveryState.WAITING, at, code
        case GaveUp(code):
            state, due_at, error = DeliveryState.GAVE_UP, None, code
        case _:
            assert_never(verdict)
    return msgspec.structs.replace(
        delivery,
        state=state,
        due_at=due_at,
        held_by=None,
        claimed_by=None,
        updated_at=now,
        last_status=status,
        last_error=error,
    )


def claimed(delivery: Delivery, now: int, by: WorkerId | None = None) -> Delivery:
    """The delivery with its next attempt begun, by a gateway."""
    return msgspec.structs.replace(
        delivery,
        state=DeliveryState.SENDING,
        attempt=delivery.attempt + 1,
        due_at=now + CLAIM,
        held_by=None,
        claimed_by=by,
        updated_at=now,
    )


def released(delivery: Delivery, due_at: int, now: int) -> Delivery:
    """A claimed delivery given back until `due_at`, its attempt not made."""
    return msgspec.structs.replace(
        delivery,
        state=DeliveryState.WAITING,
        attempt=delivery.attempt - 1,
        due_at=due_at,
        claimed_by=None,
        updated_at=now,
    )


def unclaimed(delivery: Delivery) -> Delivery:
    """A delivery as it waits for its next attempt; after a lapsed claim, the lost one counts."""
    if delivery.state is not DeliveryState.SENDING:
        return delivery
    return msgspec.structs.replace(delivery, state=DeliveryState.WAITING, claimed_by=None)


def held(delivery: Delivery, hold: Held, now: int) -> Delivery:
    """A delivery that waits for something else than its receiver. A begun attempt is taken back."""
    begun = delivery.state is DeliveryState.SENDING
    return msgspec.structs.replace(
        delivery,
        state=DeliveryState.HELD,
        attempt=delivery.attempt - begun,
        due_at=hold.at,
        held_by=hold.by,
        claimed_by=None,
        updated_at=now,
    )


def _later(
    delivery: Delivery, error: str, now: int, random: Callable[[], float], at_least: int
) -> RetryAt | GaveUp:
    made = delivery.attempt - delivery.scheduled_from
    if made >= _most_attempts(delivery):
        return GaveUp(error, exhausted=delivery.trigger is not Trigger.TEST)
    pause = SCHEDULE[made] * (1 + JITTER * (2 * random() - 1))
    return RetryAt(now + max(round(pause), at_least), error)


def retry_wait(header: str | None, now: int) -> int:
    """How long (ms) the header asks to wait: seconds or an HTTP date (RFC 9110, 10.2.3); else 0."""
    if header is None:
        return 0
    text = header.strip()
    if text.isascii() and text.isdigit():
        # A number of any length: cut before it is read, not after.
        wait = int(text[:9]) * clock.SECOND
    else:
        try:
            wait = round(parsedate_to_datetime(text).timestamp() * clock.SECOND) - now
        except (ValueError, OverflowError):
            return 0
    return max(0, min(wait, LONGEST_RETRY_AFTER))
