"""Sessions: created, ordered, read, waited for."""

import threading
import time

import pytest

from shared.commands import DeleteSession, LogOutSession, StartSession, StopSession
from shared.ids import SessionId
from shared.session import Reason, SessionState
from shared.store import sessions
from tests.control_plane.conftest import NUMBER, Tenant

REST = (
    SessionState.STOPPED,
    SessionState.LOGGED_OUT,
    SessionState.BANNED,
    SessionState.FAILED,
    SessionState.PASSKEY_REQUIRED,
)


def test_a_session_is_made_and_ordered_to_start(tenant: Tenant) -> None:
    """Creating answers 202 with the session and queues one signed command."""
    answer = tenant.post("/v1/sessions", {"name": "Shop", "phone_number": NUMBER})

    assert answer.status_code == 202
    session = answer.json()
    assert session["state"] == "created"
    assert session["desired"] == "running"
    assert session["phone_number"] == NUMBER
    assert answer.headers["location"] == f"/v1/sessions/{session['id']}"
    (command,) = tenant.commands(session["id"])
    assert isinstance(command, StartSession)
    assert command.tenant_id == tenant.id
    assert command.phone_number == NUMBER
    assert tenant.get(answer.headers["location"]).json() == session


def test_a_session_that_is_not_to_start_is_ordered_nothing(tenant: Tenant) -> None:
    """`start: false` makes the row and waits."""
    session_id = tenant.session(start=False)

    assert tenant.get(f"/v1/sessions/{session_id}").json()["desired"] == "stopped"
    assert tenant.commands(session_id) == []


def test_sessions_are_renamed(tenant: Tenant) -> None:
    """PATCH changes the name and nothing else."""
    session_id = tenant.session()
    before = tenant.get(f"/v1/sessions/{session_id}").json()

    after = tenant.patch(f"/v1/sessions/{session_id}", {"name": "Bistro"}).json()

    assert after["name"] == "Bistro"
    assert {**after, "name": 0, "updated_at": 0} == {**before, "name": 0, "updated_at": 0}


@pytest.mark.parametrize(
    ("order", "state", "kind", "desired"),
    [
        ("start", SessionState.STOPPED, StartSession, "running"),
        ("start", SessionState.FAILED, StartSession, "running"),
        ("stop", SessionState.CONNECTED, StopSession, "stopped"),
        ("stop", SessionState.PAIRING, StopSession, "stopped"),
        ("restart", SessionState.CONNECTED, StartSession, "running"),
        ("log_out", SessionState.CONNECTED, LogOutSession, "stopped"),
        ("log_out", SessionState.STOPPED, LogOutSession, "stopped"),
    ],
)
def test_an_order_is_written_and_queued(
    tenant: Tenant, order: str, state: SessionState, kind: type, desired: str
) -> None:
    """Each order is 202: what is wanted is in the row, and a command is on its way."""
    session_id = tenant.session(state)
    tenant.commands(session_id)

    answer = tenant.post(f"/v1/sessions/{session_id}/{order}")

    assert answer.status_code == 202
    assert answer.json()["desired"] == desired
    (command,) = tenant.commands(session_id)
    assert isinstance(command, kind)
    if isinstance(command, StartSession):
        assert command.restart == (order == "restart")


@pytest.mark.parametrize(
    ("order", "state", "desired"),
    [
        ("start", SessionState.CONNECTED, "running"),
        ("start", SessionState.PAIRING, "running"),
        ("stop", SessionState.STOPPED, "stopped"),
        ("restart", SessionState.STOPPED, "stopped"),
        ("log_out", SessionState.LOGGED_OUT, "stopped"),
    ],
)
def test_an_order_that_makes_no_sense_says_why(
    tenant: Tenant, order: str, state: SessionState, desired: str
) -> None:
    """409 with the state and what to do, and nothing is queued."""
    session_id = tenant.session(start=desired == "running")
    tenant.commands(session_id)
    tenant.observe(session_id, state)

    answer = tenant.post(f"/v1/sessions/{session_id}/{order}")

    assert answer.status_code == 409
    problem = answer.json()
    assert problem["state"] == state.value
    assert state.value in problem["detail"]
    assert tenant.commands(session_id) == []


def test_a_deleted_session_takes_no_other_order(tenant: Tenant) -> None:
    """DELETE is 202 and final; asking again orders again."""
    session_id = tenant.session(SessionState.CONNECTED)
    tenant.commands(session_id)

    assert tenant.delete(f"/v1/sessions/{session_id}").status_code == 202
    assert tenant.delete(f"/v1/sessions/{session_id}").json()["desired"] == "deleted"

    assert [type(each) for each in tenant.commands(session_id)] == [DeleteSession, DeleteSession]
    for order in ("start", "stop", "restart", "log_out", "pairing"):
        assert tenant.post(f"/v1/sessions/{session_id}/{order}").status_code == 409
    assert tenant.patch(f"/v1/sessions/{session_id}", {"name": "x"}).status_code == 409


def test_a_preference_waits_for_the_state(tenant: Tenant) -> None:
    """`Prefer: wait` answers 200 as soon as the gateway has carried the order out."""
    session_id = tenant.session(SessionState.CONNECTED)
    timer = threading.Timer(
        0.3, lambda: tenant.observe(session_id, SessionState.STOPPED, Reason.STOPPED_BY_TENANT)
    )
    timer.start()
    began = time.monotonic()

    answer = tenant.post(f"/v1/sessions/{session_id}/stop", Prefer="respond-async, wait=10")
    timer.join()

    assert answer.status_code == 200
    assert answer.json()["state"] == "stopped"
    assert answer.json()["detail"].startswith("You stopped it")
    assert answer.headers["preference-applied"] == "wait=10"
    assert 0.3 <= time.monotonic() - began < 3


def test_a_preference_gives_up_in_time(tenant: Tenant) -> None:
    """Where nothing happens, the answer is the 202 it would have been."""
    session_id = tenant.session(SessionState.CONNECTED)
    began = time.monotonic()

    answer = tenant.post(f"/v1/sessions/{session_id}/stop", Prefer="wait=1")

    assert answer.status_code == 202
    assert answer.json()["state"] == "connected"
    assert 1 <= time.monotonic() - began < 3


def test_a_preference_waits_for_erasure(tenant: Tenant) -> None:
    """A deleted session that is gone is 200 at once."""
    session_id = tenant.session(SessionState.CONNECTED)
    timer = threading.Timer(
        0.3, lambda: tenant.stage.aws.run(sessions.remove(tenant.id, SessionId(session_id)))
    )
    timer.start()

    answer = tenant.delete(f"/v1/sessions/{session_id}", Prefer="wait=10")
    timer.join()

    assert answer.status_code == 200
    assert tenant.get(f"/v1/sessions/{session_id}").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({}, 400, "/name"),
        ({"name": 5}, 400, "/name"),
        ({"name": "x", "start": "yes"}, 400, "/start"),
        ({"name": "x", "colour": "red"}, 400, "/colour"),
        ([], 400, ""),
        (b"{", 400, ""),
        (b'"\xff"', 400, ""),
        ({"name": ""}, 422, "/name"),
        ({"name": "x" * 101}, 422, "/name"),
        ({"name": "x", "phone_number": "0151"}, 422, "/phone_number"),
        ({"name": "x", "phone_number": "+49 151 12345678"}, 422, "/phone_number"),
    ],
)
def test_a_body_that_does_not_fit_is_pointed_at(
    tenant: Tenant, body: object, status: int, pointer: str
) -> None:
    """400 for the shape, 422 for a value, each with a JSON Pointer to the place."""
    answer = tenant.post("/v1/sessions", body)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["pointer"] == pointer
