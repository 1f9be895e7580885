"""Messages: accepted, queued, followed."""

import threading
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import clock
from shared.aws import Op
from shared.commands import SendMessage
from shared.errors import Unavailable
from shared.ids import MessageId, SessionId
from shared.message import MessageStatus
from shared.session import Reason, SessionState
from shared.store import messages
from shared.store.messages import Progress
from tests.control_plane.conftest import NUMBER, Stage, Tenant


def path(session_id: str) -> str:
    return f"/v1/sessions/{session_id}/messages"


def test_a_message_is_accepted_and_queued(tenant: Tenant) -> None:
    """202, a row, and a signed command with the same contents."""
    session_id = tenant.session(SessionState.CONNECTED)
    tenant.commands(session_id)

    answer = tenant.post(
        path(session_id),
        {"to": NUMBER, "text": "Grüße 👋\n", "expires_in": 60, "on_uncertain": "resend"},
    )

    assert answer.status_code == 202
    message = answer.json()
    assert message["status"] == "queued"
    assert message["content"] == {"type": "text", "text": "Grüße 👋\n"}
    (command,) = tenant.commands(session_id)
    assert isinstance(command, SendMessage)
    assert command.message_id == message["id"]
    assert command.to == NUMBER
    assert command.content.text == "Grüße 👋\n"
    assert command.on_uncertain == "resend"
    assert command.expires_at - command.issued_at == 60 * clock.SECOND
    assert tenant.get(answer.headers["location"]).json() == message
    assert tenant.get(path(session_id)).json()["data"] == [message]


@pytest.mark.parametrize(
    "to", [NUMBER, "12036304@g.us", "120363040404040404@g.us", "49151123456-1600000000@g.us"]
)
def test_numbers_and_groups_are_recipients(tenant: Tenant, to: str) -> None:
    """A message goes to a phone number in E.164 or to a group's JID."""
    session_id = tenant.session(SessionState.CONNECTED)

    assert tenant.post(path(session_id), {"to": to, "text": "x"}).status_code == 202


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"text": "x"}, 400, "/to"),
        ({"to": NUMBER}, 400, "/text"),
        ({"to": NUMBER, "text": 1}, 400, "/text"),
        ({"to": NUMBER, "text": "x", "expires_in": "60"}, 400, "/expires_in"),
        ({"to": NUMBER, "text": "x", "on_uncertain": "maybe"}, 400, "/on_uncertain"),
        ({"to": NUMBER, "text": "x", "a/b~c": 1}, 400, "/a~1b~0c"),
        ({"to": "015112345678", "text": "x"}, 422, "/to"),
        ({"to": "+0151", "text": "x"}, 422, "/to"),
        ({"to": "", "text": "x"}, 422, "/to"),
        ({"to": f"{NUMBER}\n", "text": "x"}, 422, "/to"),
        ({"to": "4915112345678@s.whatsapp.net", "text": "x"}, 422, "/to"),
        ({"to": NUMBER, "text": ""}, 422, "/text"),
        ({"to": NUMBER, "text": " \n"}, 422, "/text"),
        ({"to": NUMBER, "text": "a\x00b"}, 422, "/text"),
        ({"to": NUMBER, "text": "a\uffffb"}, 422, "/text"),
        ({"to": NUMBER, "text": "x" * 65_537}, 422, "/text"),
        ({"to": NUMBER, "text": "x", "expires_in": 0}, 422, "/expires_in"),
        ({"to": NUMBER, "text": "x", "expires_in": 86_401}, 422, "/expires_in"),
        (b'{"to": "+4915112345678", "text": "\\ud800"}', 400, ""),
        (b"[" * 100_000, 400, ""),
    ],
)
def test_what_cannot_be_sent_is_refused_with_a_pointer(
    tenant: Tenant, body: object, status: int, pointer: str
) -> None:
    """400 where the shape is wrong, 422 where the value is, and the place in both."""
    session_id = tenant.session(SessionState.CONNECTED)

    answer = tenant.post(path(session_id), body)

    assert answer.status_code == status, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert tenant.get(path(session_id)).json()["data"] == []


def test_the_longest_text_is_accepted(tenant: Tenant) -> None:
    """65 536 characters of four bytes each fit in the row, the command and the kept answer."""
    session_id = tenant.session(SessionState.CONNECTED)
    body = {"to": NUMBER, "text": "👋" * 65_536}

    first = tenant.post(path(session_id), body, **{"Idempotency-Key": "long"})
    again = tenant.post(path(session_id), body, **{"Idempotency-Key": "long"})

    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()


def test_a_body_over_a_mebibyte_is_refused(tenant: Tenant) -> None:
    """413, before anything is read of it."""
    session_id = tenant.session(SessionState.CONNECTED)

    answer = tenant.post(path(session_id), {"to": NUMBER, "text": "x" * 1_100_000})

    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"


@pytest.mark.parametrize(
    "state",
    [
        SessionState.CREATED,
        SessionState.PAIRING,
        SessionState.STOPPED,
        SessionState.LOGGED_OUT,
        SessionState.BANNED,
        SessionState.FAILED,
        SessionState.PASSKEY_REQUIRED,
    ],
)
def test_a_session_that_cannot_send_says_so(tenant: Tenant, state: SessionState) -> None:
    """409 with the state and what to do."""
    session_id = tenant.session()
    if state is not SessionState.CREATED:
        tenant.observe(session_id, state, Reason.REMOVED_ON_PHONE)

    answer = tenant.post(path(session_id), {"to": NUMBER, "text": "x"})

    assert answer.status_code == 409
    problem = answer.json()
    assert problem["code"] == "session_cannot_send"
    assert problem["state"] == state.value
    if state is not SessionState.CREATED:
        assert problem["reason"] == "removed_on_phone"
        assert "removed on the phone. Start it to pair again." in problem["detail"]


@pytest.mark.parametrize("order", ["stop", "delete"])
def test_a_session_that_was_ordered_away_takes_no_message(tenant: Tenant, order: str) -> None:
    """What the tenant wants counts, though the socket is still open."""
    session_id = tenant.session(SessionState.CONNECTED)
    if order == "stop":
        tenant.post(f"/v1/sessions/{session_id}/stop")
    else:
        tenant.delete(f"/v1/sessions/{session_id}")

    answer = tenant.post(path(session_id), {"to": NUMBER, "text": "x"})

    assert answer.json()["code"] == "session_cannot_send"


def test_a_preference_waits_for_the_outcome(tenant: Tenant) -> None:
    """`Prefer: wait` answers 200 once the message left the queue."""
    session_id = tenant.session(SessionState.CONNECTED)

    def send_it() -> None:
        (row,) = tenant.get(path(session_id)).json()["data"]
        sent = Progress(
            status=MessageStatus.SENT, at=clock.millis(), whatsapp_id="3EB0", sent_at=clock.millis()
        )
        write = messages.advance(tenant.id, SessionId(session_id), MessageId(row["id"]), sent)
        assert tenant.stage.aws.run(write.alone())

    timer = threading.Timer(0.3, send_it)
    timer.start()
    answer = tenant.post(path(session_id), {"to": NUMBER, "text": "x"}, Prefer="wait=10")
    timer.join()

    assert answer.status_code == 200
    assert answer.json()["status"] == "sent"
    assert answer.json()["whatsapp_id"] == "3EB0"


class _Failing:
    """An AWS whose command queues do not answer."""

    def __init__(self, stage: Stage) -> None:
        self._run = stage.aws.run

    def __call__(self, op: Op[Any]) -> Any:
        if op.action == "send_message":
            raise Unavailable("sqs", "send_message", "test")
        return self._run(op)


def test_what_cannot_be_queued_was_never_accepted(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed send to the queue is 503, takes the row back, and frees the idempotency key."""
    session_id = tenant.session(SessionState.CONNECTED)
    body = {"to": NUMBER, "text": "x"}
    with monkeypatch.context() as patch:
        patch.setattr(tenant.stage.aws, "run", _Failing(tenant.stage))
        failed = tenant.post(path(session_id), body, **{"Idempotency-Key": "k"})
        not_made = tenant.post("/v1/sessions", {"name": "x"})

    assert failed.status_code == 503
    assert failed.headers["retry-after"] == "1"
    assert tenant.get(path(session_id)).json()["data"] == []
    assert not_made.status_code == 503
    assert len(tenant.get("/v1/sessions").json()["data"]) == 1
    again = tenant.post(path(session_id), body, **{"Idempotency-Key": "k"})
    assert again.status_code == 202
    assert "idempotent-replayed" not in again.headers


def test_an_accepted_message_costs_three_requests(tenant: Tenant) -> None:
    """One read, one write and one send; the key is remembered and permits are taken in chunks."""
    session_id = tenant.session(SessionState.CONNECTED)
    body = {"to": NUMBER, "text": "x"}
    for _ in range(4):
        tenant.post(path(session_id), body)
    before = Counter(tenant.stage.aws.counts)

    for _ in range(30):
        assert tenant.post(path(session_id), body).status_code == 202

    used = tenant.stage.aws.counts - before
    counting = used.pop(("dynamodb", "update_item"), 0)
    assert used == {
        ("dynamodb", "get_item"): 30,
        ("dynamodb", "put_item"): 30,
        ("sqs", "send_message"): 30,
    }
    assert counting <= 10


@given(
    body=st.dictionaries(
        st.sampled_from(["to", "text", "expires_in", "on_uncertain"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(NUMBER),
    )
)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_body_is_our_fault(busy: tuple[Tenant, str], body: dict[str, object]) -> None:
    """Whatever is sent, the answer is 202 or says what is wrong."""
    tenant, session_id = busy

    answer = tenant.post(path(session_id), msgspec.json.encode(body))

    assert answer.status_code in {202, 400, 422}, answer.text


@pytest.fixture(scope="module")
def busy(stage: Stage) -> tuple[Tenant, str]:
    """A tenant with a connected session, for many requests."""
    tenant = stage.tenant()
    return tenant, tenant.session(SessionState.CONNECTED)
