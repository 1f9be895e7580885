"""`Idempotency-Key`: once, and the same answer."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.idempotency import parse_key
from control_plane.problems import Problem
from shared import clock
from shared.aws import Op
from shared.env import Places
from shared.errors import Unavailable
from shared.session import SessionState
from shared.store import idempotency
from shared.store.idempotency import Claim
from tests.control_plane.conftest import NUMBER, Tenant


def keyed(tenant: Tenant, key: str, body: object, path: str = "/v1/sessions") -> httpx.Response:
    return tenant.post(path, body, **{"Idempotency-Key": key})


def test_a_repeat_gets_the_first_answer(tenant: Tenant) -> None:
    """The same key and body do the work once; the repeat says that it is one."""
    first = keyed(tenant, "k", {"name": "x"})
    again = keyed(tenant, '"k"', {"name": "x"})

    assert first.status_code == again.status_code == 202
    assert first.content == again.content
    assert first.headers["location"] == again.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(tenant.get("/v1/sessions").json()["data"]) == 1


def test_another_body_under_the_same_key_is_refused(tenant: Tenant) -> None:
    """422, and nothing is done."""
    keyed(tenant, "k", {"name": "x"})

    answer = keyed(tenant, "k", {"name": "y"})

    assert answer.status_code == 422
    assert answer.json()["code"] == "idempotency_key_reused"


def test_another_path_under_the_same_key_is_refused(tenant: Tenant) -> None:
    """The same body to another session is another request, and is said to be."""
    first, second = (tenant.session() for _ in range(2))
    assert keyed(tenant, "k", {}, f"/v1/sessions/{first}/stop").is_success

    answer = keyed(tenant, "k", {}, f"/v1/sessions/{second}/stop")

    assert answer.json()["code"] == "idempotency_key_reused"
    assert "another request" in answer.json()["detail"]


def test_a_key_is_of_its_tenant_and_route(tenant: Tenant) -> None:
    """Another tenant, or another route, is another key."""
    other = tenant.stage.tenant()

    assert "idempotent-replayed" not in keyed(tenant, "k", {"name": "x"}).headers
    assert "idempotent-replayed" not in keyed(other, "k", {"name": "x"}).headers
    assert keyed(tenant, "k", {"name": "x"}, "/v1/keys").status_code == 201


def test_one_of_many_at_once_does_the_work(tenant: Tenant) -> None:
    """Of twelve requests at the same time one is done; the others wait their turn or replay."""
    session_id = tenant.session(SessionState.CONNECTED)
    tenant.commands(session_id)
    path = f"/v1/sessions/{session_id}/messages"
    body = {"to": NUMBER, "text": "once"}

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(keyed, [tenant] * 12, ["k"] * 12, [body] * 12, [path] * 12))

    done = [each for each in answers if each.status_code == 202]
    running = [each for each in answers if each.status_code == 409]
    assert len(done) + len(running) == 12
    assert len([each for each in done if "idempotent-replayed" not in each.headers]) == 1
    assert len({each.json()["id"] for each in done}) == 1
    assert all(each.json()["code"] == "request_running" for each in running)
    assert all(each.headers["retry-after"] == "1" for each in running)
    assert len(tenant.get(path).json()["data"]) == 1
    assert len(tenant.commands(session_id)) == 1


def test_a_key_made_once_is_shown_again_to_its_repeat(tenant: Tenant) -> None:
    """An answer with a secret is kept sealed, and opens for the same request."""
    first = keyed(tenant, "k", {"name": "x"}, "/v1/keys")
    again = keyed(tenant, "k", {"name": "x"}, "/v1/keys")

    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    claim = Claim(
        tenant_id=tenant.id, scope="POST /v1/keys", key="k", fingerprint="", owner="", now=0
    )
    kept = tenant.stage.aws.run(idempotency.begin(claim))
    assert kept is not None
    assert kept.status == 201
    assert first.json()["key"].encode() not in kept.body


def test_refused_work_gives_the_key_back(tenant: Tenant) -> None:
    """A 409 is not an outcome: the same request may succeed later."""
    session_id = tenant.session(SessionState.STOPPED)
    path = f"/v1/sessions/{session_id}/messages"
    body = {"to": NUMBER, "text": "x"}

    assert keyed(tenant, "k", body, path).status_code == 409
    tenant.observe(session_id, SessionState.CONNECTED)
    answer = keyed(tenant, "k", body, path)

    assert answer.status_code == 202
    assert "idempotent-replayed" not in answer.headers


def test_a_request_that_died_is_taken_over(tenant: Tenant) -> None:
    """A record begun and never finished holds its key for its lease, and only for that."""
    now = clock.millis()
    dead = Claim(tenant_id=tenant.id, scope="x", key="k", fingerprint="f", owner="a", now=now)
    run = tenant.stage.aws.run

    assert run(idempotency.begin(dead)) is None
    heir = Claim(tenant_id=tenant.id, scope="x", key="k", fingerprint="f", owner="b", now=now + 1)
    held = run(idempotency.begin(heir))
    assert held is not None
    assert held.owner == "a"
    late = Claim(
        tenant_id=tenant.id,
        scope="x",
        key="k",
        fingerprint="f",
        owner="b",
        now=now + idempotency.LEASE,
    )
    assert run(idempotency.begin(late)) is None
    assert run(idempotency.begin(late)) is None
    assert not run(idempotency.release(dead))
    assert not run(idempotency.finish(dead, 202, b"{}", None))
    assert run(idempotency.finish(late, 202, b"{}", None))


def test_a_record_that_names_what_was_made_is_resumed_and_never_begun_afresh(
    tenant: Tenant,
) -> None:
    """By the same request only, once its lease is over, and by one of many."""
    now = clock.millis()
    run = tenant.stage.aws.run

    def claim(owner: str, at: int, fingerprint: str = "f") -> Claim:
        return Claim(
            tenant_id=tenant.id, scope="x", key="k", fingerprint=fingerprint, owner=owner, now=at
        )

    dead, late = claim("a", now), now + idempotency.LEASE
    assert run(dead.begin("msg_1").alone())
    held = run(idempotency.begin(claim("b", late)))
    assert held is not None
    assert held.resource == "msg_1"
    assert not claim("b", late - 1).resumes(held)
    assert not claim("b", late, "other").resumes(held)
    assert not claim("b", now + idempotency.KEEP).resumes(held)
    assert claim("b", late).resumes(held)
    assert run(idempotency.resume(claim("b", late), held))
    assert not run(idempotency.resume(claim("c", late), held))
    assert not run(idempotency.abandon(dead))
    assert run(idempotency.abandon(claim("b", late)))
    again = run(idempotency.read(claim("c", late)))
    assert again is not None
    assert claim("c", late).resumes(again)
    assert run(idempotency.resume(claim("c", late), again))
    assert run(idempotency.finish(claim("c", late), 202, b"{}", None))
    finished = run(idempotency.read(claim("d", late)))
    assert finished is not None
    assert not claim("d", late).resumes(finished)
    assert run(idempotency.read(claim("d", now + idempotency.KEEP))) is None


@pytest.mark.parametrize("key", ["", '""', '"a', 'a"b"'[2:] + "\x7f", "a" * 256, "é", '"a"b"'])
def test_a_malformed_key_is_refused(key: str) -> None:
    """Empty, unclosed, over-long or not printable: 400."""
    with pytest.raises(Problem) as caught:
        parse_key(key)
    assert caught.value.code == "invalid_idempotency_key"


def test_a_malformed_key_is_a_problem(tenant: Tenant) -> None:
    """And it is answered as one, which says what a key is."""
    refused = keyed(tenant, "x" * 256, {"name": "x"})

    assert refused.status_code == 400
    assert "1 to 255 printable" in refused.json()["detail"]


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255))
def test_quoted_and_bare_are_the_same_key(key: str) -> None:
    """A structured-field string stands for what is inside it."""
    quoted = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'

    assert parse_key(quoted) == key


@pytest.mark.parametrize("outcome", ["finish", "release"])
def test_a_record_that_cannot_be_written_does_not_change_the_answer(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    """Done is done, and refused is refused, whatever becomes of the key."""
    run = tenant.stage.aws.run
    action = {"finish": "update_item", "release": "delete_item"}[outcome]

    def forgetful(op: Op[Any]) -> Any:
        if op.action == action and op.params(Places())["Key"]["PK"]["S"].endswith("#I"):
            raise Unavailable(op.service, op.action, "test")
        return run(op)

    session_id = tenant.session(SessionState.CONNECTED)
    path = f"/v1/sessions/{session_id}/{'stop' if outcome == 'finish' else 'start'}"
    with monkeypatch.context() as patch:
        patch.setattr(tenant.stage.aws, "run", forgetful)
        answer = keyed(tenant, "k", {}, path)

    assert answer.status_code == {"finish": 202, "release": 409}[outcome]
    again = keyed(tenant, "k", {}, path)
    assert again.json()["code"] == "request_running"
