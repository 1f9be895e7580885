"""The log of attempts: what is told, and what is not."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.attempts import SHORTEST_SECRET, interrupted, logged
from gateway.delivery import (
    Answer,
    Delivered,
    Exchange,
    Fault,
    GaveUp,
    Post,
    Result,
    RetryAt,
    Verdict,
)
from gateway.redaction import MASK
from shared.delivery import Attempt, Delivery, DeliveryState, Outcome, Phases
from shared.ids import EndpointId, EventId, TenantId
from shared.webhook import Endpoint, EndpointStatus

TENANT, EVENT = TenantId("ten_1"), EventId("evt_1")
ENDPOINT = Endpoint(
    id=EndpointId("ep_1"),
    tenant_id=TENANT,
    url="https://example.com/hook",
    events=("*",),
    sealed_secret=b"",
    status=EndpointStatus.ENABLED,
    created_at=0,
    updated_at=0,
    header_names=("Authorization",),
)
DELIVERY = Delivery(
    tenant_id=TENANT,
    endpoint_id=ENDPOINT.id,
    event_id=EVENT,
    event_type="message.sent",
    state=DeliveryState.SENDING,
    attempt=3,
    created_at=0,
    updated_at=7,
    due_at=9,
)
PHASES = Phases(total=1.5)


def log_of(
    result: Result, verdict: Verdict, *, token: str = "", body: bytes = b"", echo: str = ""
) -> Attempt:
    headers = {"webhook-signature": "v1,abc", "webhook-id": EVENT, "Authorization": token}
    exchange = Exchange(result, PHASES, {"x-echo": echo}, body)
    post = Post(ENDPOINT.url, headers, b"{}")
    return logged(DELIVERY, ENDPOINT, post, exchange, verdict, began_at=8)


@pytest.mark.parametrize(
    ("result", "verdict", "told"),
    [
        (Answer(204), Delivered(), (Outcome.DELIVERED, 204, None, None)),
        (Answer(500), RetryAt(99, "http_500"), (Outcome.RETRY, 500, "http_500", 99)),
        (Fault("timeout"), GaveUp("timeout"), (Outcome.GAVE_UP, None, "timeout", None)),
    ],
)
def test_an_attempt_is_told_as_it_was(
    result: Result, verdict: Verdict, told: tuple[object, ...]
) -> None:
    """Its number, what came back, what follows and when."""
    attempt = log_of(result, verdict)
    assert (attempt.outcome, attempt.status, attempt.error, attempt.next_at) == told
    assert (attempt.number, attempt.began_at, attempt.phases) == (3, 8, PHASES)


def test_signatures_and_the_tenants_own_values_are_masked() -> None:
    """Their names are shown: a person sees that they were sent."""
    headers = log_of(Answer(200), Delivered(), token="Bearer abcdefgh").request_headers
    assert headers == {"webhook-signature": MASK, "webhook-id": EVENT, "Authorization": MASK}


@given(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=SHORTEST_SECRET),
    st.text(max_size=20),
)
def test_what_a_receiver_echoes_of_a_credential_is_masked(secret: str, around: str) -> None:
    """In the body and in headers, with the scheme before it and alone."""
    sent = f"Bearer {secret}"
    for said in (sent, secret):
        attempt = log_of(
            Answer(401),
            GaveUp("http_401"),
            token=sent,
            body=f"{around}{said}".encode(errors="replace"),
            echo=said,
        )
        assert secret not in attempt.response_body or secret in around or secret in MASK
        assert secret not in attempt.response_headers["x-echo"] or secret in MASK


def test_a_credential_is_masked_as_json_writes_it() -> None:
    """A receiver that answers with the headers it got mostly answers with JSON."""
    sent = 'Basic YWJj/ZGVm"Z2hp'
    for said in (r"YWJj/ZGVm\"Z2hp", r"YWJj\/ZGVm\"Z2hp"):
        attempt = log_of(
            Answer(401), GaveUp("http_401"), token=sent, body=f'{{"got":"{said}"}}'.encode()
        )
        assert attempt.response_body == f'{{"got":"{MASK}"}}'


@pytest.mark.parametrize("kept", range(1, 20))
def test_a_credential_that_was_cut_off_is_masked(kept: int) -> None:
    """As much of it as is kept: a body's end is where ours is cut, wherever the receiver's is."""
    sent = "Bearer 0123456789abcdef"
    body = f"got {sent}"[: len("got Bearer ") + kept].encode()
    attempt = log_of(Answer(401), GaveUp("http_401"), token=sent, body=body)
    assert sent.removeprefix("Bearer ")[:SHORTEST_SECRET] not in attempt.response_body


def test_an_attempt_that_could_not_be_signed_shows_no_request() -> None:
    """There was none."""
    exchange = Exchange(Fault("secret_unreadable"), PHASES)
    verdict = RetryAt(99, "secret_unreadable")
    attempt = logged(DELIVERY, ENDPOINT, None, exchange, verdict, began_at=8)
    assert attempt.request_headers == {}


def test_an_interrupted_attempt_is_told_as_such() -> None:
    """It began when it was claimed; how it ended is not known."""
    attempt = interrupted(DELIVERY, ENDPOINT.url)
    assert (attempt.number, attempt.outcome, attempt.began_at) == (3, Outcome.INTERRUPTED, 7)
    assert (attempt.status, attempt.phases) == (None, None)


def test_a_body_that_is_no_text_can_be_stored() -> None:
    """Whatever the bytes are, the row is JSON."""
    attempt = log_of(Answer(200), Delivered(), body=b"\xff\xfe\x00")
    assert msgspec.json.decode(msgspec.json.encode(attempt))["response_body"]
