"""Webhook endpoints: where events may be sent."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from control_plane import webhooks as resource
from shared import sealing
from shared.store import webhooks
from tests.control_plane.conftest import MakeStage, Stage, Tenant

URL = "https://hooks.example.com/zapgate"
PATH = "/v1/webhooks"


def made(tenant: Tenant, **body: Any) -> dict[str, Any]:
    answer = tenant.post(PATH, {"url": URL, **body})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_an_endpoint_is_made_with_a_secret_shown_once(stage: Stage, tenant: Tenant) -> None:
    """`whsec_…` in this answer only; in the row it is sealed for this endpoint."""
    endpoint = made(tenant, events=["message.*"], description="till")
    secret = endpoint.pop("secret")

    assert secret.startswith("whsec_")
    shown = tenant.get(f"{PATH}/{endpoint['id']}")
    assert shown.json() == endpoint
    assert tenant.get(PATH).json()["data"] == [endpoint]
    row = stage.aws.run(webhooks.read_endpoint(tenant.id, endpoint["id"]))
    assert row is not None
    assert secret.encode() not in row.sealed_secret
    assert sealing.unseal(stage.keyring.seals, row.owner, row.sealed_secret) == secret


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://hooks.example.com/", "url_not_https"),
        ("https://10.0.0.1/", "url_not_public"),
        ("https://localhost/", "url_not_public"),
        ("http://127.0.0.1:9/", "url_not_https"),
        ("https://[::1]/", "url_not_public"),
        ("https://inside.example.com/", "url_not_public"),
        ("https://me:pw@hooks.example.com/", "url_credentials"),
        ("https://hooks.example.com:22/", "url_port"),
        ("nonsense", "url_not_https"),
        ("", "url_malformed"),
        ("https://hooks.example.com/" + "a" * 2_048, "out_of_range"),
    ],
)
def test_a_url_that_is_not_public_https_is_refused(tenant: Tenant, url: str, code: str) -> None:
    """422 with its reason, at creation and at change; a name that resolves privately too."""
    endpoint = made(tenant)

    for answer in (
        tenant.post(PATH, {"url": url}),
        tenant.patch(f"{PATH}/{endpoint['id']}", {"url": url}),
    ):
        assert answer.status_code == 422
        assert answer.json()["errors"][0] == {
            "code": code,
            "detail": answer.json()["detail"],
            "pointer": "/url",
        }
    assert len(tenant.get(PATH).json()["data"]) == 1


def test_development_may_name_this_machine(make_stage: MakeStage) -> None:
    """`webhook_targets=loopback` allows http to loopback on any port."""
    with make_stage(webhook_targets="loopback") as stage:
        tenant = stage.tenant()

        assert tenant.post(PATH, {"url": "http://127.0.0.1:8000/hook"}).status_code == 201
        assert tenant.post(PATH, {"url": "http://hooks.example.com/"}).status_code == 422


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({}, 400, "/url"),
        ({"url": URL, "events": "message.*"}, 400, "/events"),
        ({"url": URL, "events": []}, 422, "/events"),
        ({"url": URL, "events": ["message.sent", "message.lost"]}, 422, "/events/1"),
        ({"url": URL, "events": ["mess*"]}, 422, "/events/0"),
        ({"url": URL, "sessions": ["ses_x"]}, 422, "/sessions/0"),
        ({"url": URL, "secret": "whsec_mine"}, 400, "/secret"),
    ],
)
def test_bad_endpoints_are_pointed_at(
    tenant: Tenant, body: object, status: int, pointer: str
) -> None:
    """A filter that matches nothing is a mistake, and so is a session that is not there."""
    answer = tenant.post(PATH, body)

    assert answer.status_code == status
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_a_filter_names_sessions_of_the_tenant_only(tenant: Tenant) -> None:
    """Another tenant's session is as unknown as a made-up one."""
    mine = tenant.session()
    theirs = tenant.stage.tenant().session()

    assert made(tenant, sessions=[mine, mine])["sessions"] == [mine]
    refused = tenant.post(PATH, {"url": URL, "sessions": [mine, theirs]})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/sessions/1"


def test_an_endpoint_is_changed_field_by_field(tenant: Tenant) -> None:
    """What is not given stays; disabling says by whom, enabling forgets it."""
    endpoint = made(tenant, description="till")
    item = f"{PATH}/{endpoint['id']}"

    disabled = tenant.patch(item, {"status": "disabled"}).json()
    enabled = tenant.patch(item, {"status": "enabled", "events": ["session.*"]}).json()

    assert disabled["disabled_reason"] == "disabled by you"
    assert enabled["disabled_reason"] is None
    assert enabled["events"] == ["session.*"]
    assert enabled["description"] == "till"
    assert enabled["updated_at"] > disabled["updated_at"]


def test_changes_at_once_are_all_made(tenant: Tenant) -> None:
    """Two changes of different fields do not undo each other."""
    item = f"{PATH}/{made(tenant)['id']}"
    bodies: list[object] = [{"description": "d"}, {"events": ["message.*"]}]
    threads = [threading.Thread(target=tenant.patch, args=(item, body)) for body in bodies]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    after = tenant.get(item).json()
    assert (after["description"], after["events"]) == ("d", ["message.*"])


def test_an_endpoint_is_deleted(tenant: Tenant) -> None:
    """204, to a repeat with the same key as well, and then it is not there."""
    item = f"{PATH}/{made(tenant)['id']}"

    first = tenant.delete(item, **{"Idempotency-Key": "k"})
    again = tenant.delete(item, **{"Idempotency-Key": "k"})

    assert first.status_code == again.status_code == 204
    assert first.content == again.content == b""
    assert again.headers["idempotent-replayed"] == "true"
    assert tenant.get(item).status_code == tenant.delete(item).status_code == 404


def test_endpoints_are_bounded(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are asked for at once; one that is deleted makes room for another."""
    monkeypatch.setattr(resource, "ENDPOINTS_PER_TENANT", 2)

    def make(_: int) -> httpx.Response:
        return tenant.post(PATH, {"url": URL})

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(make, range(5)))

    first, _second = [each.json()["id"] for each in answers if each.status_code == 201]
    assert {each.json()["code"] for each in answers if each.status_code != 201} == {"limit_reached"}
    assert [tenant.delete(f"{PATH}/{first}").status_code for _ in range(2)] == [204, 404]
    assert tenant.post(PATH, {"url": URL}).status_code == 201
    assert tenant.post(PATH, {"url": URL}).json()["code"] == "limit_reached"
