"""Messages: accepted, queued, followed."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx
import msgspec
import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import clock
from shared.aws import Op
from shared.commands import SendMessage
from shared.errors import Unavailable
from shared.ids import MessageId, SessionId
from shared.message import MessageStatus
from shared.session import Reason, SessionState
from shared.store import keys, messages
from shared.store.dynamo import KeyRow, Range, query, setting, update
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
        SessionState.STARTING,
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
        # One that starts has nothing to do but be paired, whatever ended it before.
        said = "read its pairing" if state is SessionState.STARTING else "Start it to pair again."
        assert said in problem["detail"]


def test_a_session_takes_messages_while_a_device_is_linked(tenant: Tenant) -> None:
    """One that was connected may start again; once it is logged out, starting is not enough."""
    session_id = tenant.session(SessionState.CONNECTED)
    tenant.observe(session_id, SessionState.STARTING)
    assert tenant.post(path(session_id), {"to": NUMBER, "text": "x"}).status_code == 202

    tenant.observe(session_id, SessionState.LOGGED_OUT)
    tenant.observe(session_id, SessionState.STARTING)
    refused = tenant.post(path(session_id), {"to": NUMBER, "text": "x"})

    assert refused.status_code == 409
    assert refused.json()["state"] == "starting"
    assert "No number is linked yet" in refused.json()["detail"]
    assert tenant.get(f"/v1/sessions/{session_id}").json()["connected_at"] is None


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


class _Queue:
    """The real AWS, whose command queues fail before or after they took the command."""

    def __init__(self, stage: Stage, fault: Exception, *, after: bool = False) -> None:
        self._run = stage.aws.run
        self._fault = fault
        self._after = after

    def __call__(self, op: Op[Any]) -> Any:
        if op.action != "send_message":
            return self._run(op)
        if self._after:
            self._run(op)
        raise self._fault


SILENT: Final = Unavailable("sqs", "send_message", "ReadTimeoutError")
REFUSED: Final = ClientError(
    {"Error": {"Code": "AWS.SimpleQueueService.NonExistentQueue"}}, "SendMessage"
)


def test_what_the_queue_refused_was_never_accepted(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal takes the row back and frees the idempotency key."""
    session_id = tenant.session(SessionState.CONNECTED)
    body = {"to": NUMBER, "text": "x"}
    with monkeypatch.context() as patch:
        patch.setattr(tenant.stage.aws, "run", _Queue(tenant.stage, REFUSED))
        failed = tenant.post(path(session_id), body, **{"Idempotency-Key": "k"})
        unkeyed = tenant.post(path(session_id), body)

    assert failed.status_code == unkeyed.status_code == 500
    assert tenant.get(path(session_id)).json()["data"] == []
    again = tenant.post(path(session_id), body, **{"Idempotency-Key": "k"})
    assert again.status_code == 202
    assert "idempotent-replayed" not in again.headers


def test_a_session_whose_start_was_not_queued_was_never_made(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, and no row that a repeat could meet."""
    monkeypatch.setattr(tenant.stage.aws, "run", _Queue(tenant.stage, SILENT))

    assert tenant.post("/v1/sessions", {"name": "x"}).status_code == 503
    assert tenant.get("/v1/sessions").json()["data"] == []


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("state", [SessionState.CONNECTED, SessionState.STOPPED])
def test_a_repeat_of_what_may_have_been_queued_is_the_same_message(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, state: SessionState, *, after: bool
) -> None:
    """Whether the command was queued or not: one row, one command, whatever the session is now."""
    session_id = tenant.session(SessionState.CONNECTED)
    tenant.commands(session_id)
    body = {"to": NUMBER, "text": "x"}
    with monkeypatch.context() as patch:
        patch.setattr(tenant.stage.aws, "run", _Queue(tenant.stage, SILENT, after=after))
        failed = tenant.post(path(session_id), body, **{"Idempotency-Key": "k"})
        still = tenant.post(path(session_id), body, **{"Idempotency-Key": "k"})
    tenant.observe(session_id, state)
    other = tenant.post(path(session_id), {**body, "text": "y"}, **{"Idempotency-Key": "k"})
    done = tenant.post(path(session_id), body, **{"Idempotency-Key": "k"})
    replayed = tenant.post(path(session_id), body, **{"Idempotency-Key": "k"})

    assert failed.status_code == still.status_code == 503
    assert failed.headers["retry-after"] == "1"
    message_id = failed.json()["message_id"]
    assert message_id in failed.json()["detail"]
    assert still.json()["message_id"] == message_id
    assert other.status_code == 422
    assert done.status_code == 202
    assert done.json()["id"] == message_id
    assert done.headers["location"].endswith(message_id)
    assert replayed.content == done.content
    assert replayed.headers["idempotent-replayed"] == "true"
    assert [row["id"] for row in tenant.get(path(session_id)).json()["data"]] == [message_id]
    (command,) = tenant.commands(session_id)
    assert isinstance(command, SendMessage)
    assert command.message_id == message_id


def test_a_message_whose_request_died_is_finished_by_its_repeat(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored and not ordered: its key is held for the lease, and then for that message only."""
    session_id = tenant.session(SessionState.CONNECTED)
    tenant.commands(session_id)
    body = {"to": NUMBER, "text": "x"}
    run = tenant.stage.aws.run

    def dying(op: Op[Any]) -> Any:
        if op.action in {"send_message", "update_item", "delete_item"}:
            raise Unavailable(op.service, op.action, "test")
        return run(op)

    tenant.get("/v1/sessions")
    with monkeypatch.context() as patch:
        patch.setattr(tenant.stage.aws, "run", dying)
        message_id = tenant.post(path(session_id), body, **{"Idempotency-Key": "k"}).json()[
            "message_id"
        ]
    running = tenant.post(path(session_id), body, **{"Idempotency-Key": "k"})
    assert running.json()["code"] == "request_running"
    (item,) = run(query(keys.idempotency_partition(tenant.id), KeyRow, Range(limit=10))).rows
    assert run(update(item.key, setting({"lease_until": clock.millis()})).alone())

    def repeat(_: int) -> httpx.Response:
        return tenant.post(path(session_id), body, **{"Idempotency-Key": "k"})

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(repeat, range(6)))

    done = [each for each in answers if each.status_code == 202]
    assert {each.json()["id"] for each in done} == {message_id}
    assert {each.status_code for each in answers} <= {202, 409}
    assert len(tenant.commands(session_id)) == 1
    assert len(tenant.get(path(session_id)).json()["data"]) == 1


def test_a_message_that_went_out_meanwhile_is_not_ordered_again(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repeat answers with what became of it."""
    session_id = tenant.session(SessionState.CONNECTED)
    body = {"to": NUMBER, "text": "x"}
    with monkeypatch.context() as patch:
        patch.setattr(tenant.stage.aws, "run", _Queue(tenant.stage, SILENT, after=True))
        message_id = tenant.post(path(session_id), body, **{"Idempotency-Key": "k"}).json()[
            "message_id"
        ]
    sent = Progress(status=MessageStatus.SENT, at=clock.millis(), whatsapp_id="3EB0")
    write = messages.advance(tenant.id, SessionId(session_id), MessageId(message_id), sent)
    assert tenant.stage.aws.run(write.alone())

    monkeypatch.setattr(tenant.stage.aws, "run", _Queue(tenant.stage, AssertionError()))
    done = tenant.post(path(session_id), body, **{"Idempotency-Key": "k"})

    assert done.status_code == 202
    assert done.json()["status"] == "sent"


def test_without_a_key_the_message_that_may_be_out_stays(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 503 names it, and it can be read."""
    session_id = tenant.session(SessionState.CONNECTED)
    with monkeypatch.context() as patch:
        patch.setattr(tenant.stage.aws, "run", _Queue(tenant.stage, SILENT))
        failed = tenant.post(path(session_id), {"to": NUMBER, "text": "x"})

    message_id = failed.json()["message_id"]
    assert failed.status_code == 503
    assert failed.headers["retry-after"] == "1"
    assert message_id in failed.json()["detail"]
    assert tenant.get(f"{path(session_id)}/{message_id}").json()["status"] == "queued"


def test_a_repeat_is_answered_though_its_session_was_stopped(tenant: Tenant) -> None:
    """What was accepted stays answered; only a new message is refused."""
    session_id = tenant.session(SessionState.CONNECTED)
    body = {"to": NUMBER, "text": "x"}
    first = tenant.post(path(session_id), body, **{"Idempotency-Key": "k"})
    tenant.observe(session_id, SessionState.STOPPED)

    again = tenant.post(path(session_id), body, **{"Idempotency-Key": "k"})

    assert again.content == first.content
    assert tenant.post(path(session_id), body, **{"Idempotency-Key": "l"}).status_code == 409


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
