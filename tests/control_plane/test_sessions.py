"""Sessions: created, ordered, read, waited for."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from control_plane import attendance
from control_plane.attendance import Attendance
from shared import clock
from shared.aws import Op
from shared.commands import (
    DeleteSession,
    LogOutSession,
    ResetSession,
    StartSession,
    StopSession,
)
from shared.errors import Unavailable
from shared.ids import SessionId, WorkerId
from shared.session import REASONS, Reason, SessionState
from shared.store import leases, sessions
from shared.store.dynamo import Page
from shared.store.leases import Lease, Worker
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
        ("reset", SessionState.CONNECTED, ResetSession, "stopped"),
        ("reset", SessionState.FAILED, ResetSession, "stopped"),
        ("start", SessionState.BANNED, StartSession, "running"),
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
    assert (answer.json()["desired"], answer.json()["pending"]) == (desired, True)
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
        ("reset", SessionState.LOGGED_OUT, "stopped"),
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
    for order in ("start", "stop", "restart", "log_out", "reset", "pairing"):
        refused = tenant.post(f"/v1/sessions/{session_id}/{order}")
        assert refused.status_code == 409
        assert refused.json()["detail"].endswith("It is being deleted.")
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
    assert 0.3 <= time.monotonic() - began < 9


def test_an_order_that_changes_nothing_is_answered(tenant: Tenant) -> None:
    """A start that finds the session running is done as soon as a gateway has heard it."""
    session_id = tenant.session(SessionState.CONNECTED)
    tenant.post(f"/v1/sessions/{session_id}/stop")
    heed = sessions.heed(tenant.id, SessionId(session_id), clock.millis(), tenant.epoch)
    timer = threading.Timer(0.3, lambda: tenant.stage.aws.run(heed))
    timer.start()

    answer = tenant.post(f"/v1/sessions/{session_id}/start", Prefer="wait=10")
    timer.join()

    assert answer.status_code == 200
    assert (answer.json()["state"], answer.json()["pending"]) == ("connected", False)


def test_a_session_says_whether_anybody_holds_it(tenant: Tenant) -> None:
    """A state without a gateway is what was last seen; a gateway that is silent is none."""
    session_id = tenant.session(SessionState.CONNECTED)
    aws, now = tenant.stage.aws, clock.millis()
    for shard in range(tenant.stage.settings.shards):
        aws.run(leases.create(shard, WorkerId("wrk_here"), "a"))
    session = f"/v1/sessions/{session_id}"

    def told(good_until: int) -> list[bool]:
        worker = Worker(worker=WorkerId("wrk_here"), stamp="a", good_until=good_until)
        aws.run(leases.vouch(worker))
        time.sleep(attendance.MEMORY + 0.1)
        listed = tenant.get("/v1/sessions").json()["data"][0]
        return [tenant.get(session).json()["attended"], listed["attended"]]

    assert told(now + clock.HOUR) == [True, True]
    assert told(now) == [False, False]


def test_an_attendance_nobody_can_read_is_the_last_that_was_known() -> None:
    """The session's state is told all the same."""

    class Away:
        def run(self, _: object) -> Any:
            raise Unavailable("dynamodb", "query", "timeout")

    assert not Attendance(Away(), clock.millis).of(0)


def test_who_asks_while_another_reads_gets_what_that_finds() -> None:
    """After a quiet hour two ask at once: neither hears that nobody was there an hour ago."""
    reading = threading.Event()

    class Slow:
        def run(self, op: Op[Any]) -> Any:
            reading.set()
            time.sleep(0.2)
            if op.action == "query":
                lease = Lease(shard=0, epoch=1, stamp="a", owner=WorkerId("wrk_here"))
                return Page((lease,), None)
            good_until = clock.millis() + clock.MINUTE
            return Worker(worker=WorkerId("wrk_here"), stamp="a", good_until=good_until)

    attending = Attendance(Slow(), clock.millis)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(attending.of, 0)
        reading.wait()
        second = threads.submit(attending.of, 0)
        assert (first.result(), second.result()) == (True, True)


def test_a_detail_is_said_behind_the_reason(tenant: Tenant) -> None:
    """What is known beyond the reason, until the state changes."""
    session_id = tenant.session(SessionState.CONNECTED)
    tenant.observe(session_id, SessionState.FAILED, Reason.REPLACED, detail="by a laptop")
    failed = tenant.get(f"/v1/sessions/{session_id}").json()
    tenant.observe(session_id, SessionState.STARTING)

    assert failed["detail"] == f"{REASONS[Reason.REPLACED]} (by a laptop)"
    assert tenant.get(f"/v1/sessions/{session_id}").json()["detail"] is None


def test_a_preference_gives_up_in_time(tenant: Tenant) -> None:
    """Where nothing happens, the answer is the 202 it would have been."""
    session_id = tenant.session(SessionState.CONNECTED)
    began = time.monotonic()

    answer = tenant.post(f"/v1/sessions/{session_id}/stop", Prefer="wait=1")

    assert answer.status_code == 202
    assert answer.json()["state"] == "connected"
    assert 1 <= time.monotonic() - began < 10


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
    gone = answer.json()
    assert (gone["state"], gone["desired"], gone["connected_at"]) == ("logged_out", "deleted", None)
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
        ({"name": " \t"}, 422, "/name"),
        ({"name": "\u3000\u200d"}, 422, "/name"),
        ({"name": "a\x00b"}, 422, "/name"),
        ({"name": "\x1b[31mred"}, 422, "/name"),
        ({"name": "a\u202eb"}, 422, "/name"),
        ({"name": "a\u2066b"}, 422, "/name"),
        ({"name": "shop\n"}, 422, "/name"),
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


@pytest.mark.parametrize("name", ["Bäckerei 東京", "👩‍👩‍👧 🏳️‍🌈", "می‌خواهم", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", " x "])
def test_names_are_in_any_script(tenant: Tenant, name: str) -> None:
    """Emoji with their joiners, and every writing system."""
    assert tenant.post("/v1/sessions", {"name": name, "start": False}).json()["name"] == name


@pytest.mark.parametrize("path", ["/v1/keys", "/v1/tenants"])
def test_every_name_follows_the_same_rule(tenant: Tenant, path: str) -> None:
    """Keys and tenants are named as sessions are."""
    api = tenant.stage.operator if "tenants" in path else tenant

    answer = api.post(path, {"name": "a\u202eb"})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/name"


def test_a_refusal_says_each_thing_once(tenant: Tenant) -> None:
    """The state, then one sentence of why or what to do."""
    session_id = tenant.session(SessionState.CONNECTED, start=False)
    tenant.observe(session_id, SessionState.STOPPED, Reason.STOPPED_BY_TENANT)
    message = {"to": NUMBER, "text": "x"}

    unsent = tenant.post(f"/v1/sessions/{session_id}/messages", message).json()["detail"]
    stopped = tenant.post(f"/v1/sessions/{session_id}/stop").json()["detail"]

    assert unsent == (
        "The session is stopped. You stopped it. Start it to connect again; no pairing is needed."
    )
    assert stopped == "The session is stopped. There is nothing to stop."


def test_a_refusal_during_a_ban_says_until_when(tenant: Tenant) -> None:
    """The reason's words speak of `until`, so the problem has it."""
    session_id = tenant.session(SessionState.CONNECTED)
    until = clock.millis() + 60_000
    tenant.observe(session_id, SessionState.BANNED, Reason.TEMPORARILY_BANNED, until=until)

    problem = tenant.post(f"/v1/sessions/{session_id}/messages", {"to": NUMBER, "text": "x"}).json()

    assert "`until`" in problem["detail"]
    assert problem["until"] == tenant.get(f"/v1/sessions/{session_id}").json()["until"] is not None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Encoding": "identity"}, 202),
        ({"Content-Type": "application/json; charset=utf-16"}, 415),
        ({"Content-Type": "application/json; charset=UTF-8"}, 202),
    ],
)
def test_a_body_is_plain_utf_8(tenant: Tenant, headers: dict[str, str], status: int) -> None:
    """415 for a coding or a character set that is not read."""
    body = b'{"name":"x","start":false}'

    answer = tenant.ask(
        "POST", "/v1/sessions", body, {"Content-Type": "application/json", **headers}
    )

    assert answer.status_code == status


def test_a_value_that_is_not_in_the_list_is_told_the_list(tenant: Tenant) -> None:
    """An enum's error names what is allowed, in fields and in lists."""
    narrow = tenant.post("/v1/keys", {"name": "x", "scopes": ["everything"]}).json()

    assert narrow["errors"][0]["pointer"].startswith("/scopes")
    assert "sessions:read" in narrow["errors"][0]["detail"]


@pytest.mark.parametrize("seconds", ["99999", "1000000000", "0" * 5000 + "26"])
def test_a_wait_that_is_too_long_is_cut(tenant: Tenant, seconds: str) -> None:
    """However long the number, 25 seconds are what is applied."""
    session_id = tenant.session(SessionState.PAIRING)
    tenant.offer(session_id)

    answer = tenant.get(f"/v1/sessions/{session_id}/pairing", Prefer=f"wait={seconds}")

    assert answer.headers["preference-applied"] == "wait=25"
