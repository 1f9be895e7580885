"""Webhook endpoints: where events may be sent."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import msgspec
import pytest

from control_plane import contention
from control_plane import webhooks as resource
from shared import clock, headers, sealing
from shared.aws import Op
from shared.ids import EndpointId, TenantId
from shared.store import webhooks
from shared.webhook import DISABLED_AFTER, Endpoint, EndpointStatus, Health
from tests.control_plane.conftest import MakeStage, Stage, Tenant

URL = "https://hooks.example.com/zapgate"
PATH = "/v1/webhooks"


def made(tenant: Tenant, **body: Any) -> dict[str, Any]:
    answer = tenant.post(PATH, {"url": URL, **body})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def row_of(tenant: Tenant, endpoint_id: str) -> Endpoint:
    row = tenant.stage.aws.run(webhooks.read_endpoint(tenant.id, EndpointId(endpoint_id)))
    assert row is not None
    return row


def fell_ill(tenant: Tenant, endpoint_id: str, **fields: Any) -> None:
    """A gateway's hand in the row: the endpoint has been failing, and by default rests."""
    seen = row_of(tenant, endpoint_id)
    health = Health(
        failing_since=1_000,
        failures=7,
        last_error="timeout",
        opened=1,
        open_until=clock.millis() + clock.HOUR,
    )
    health = msgspec.structs.replace(health, **fields)
    changed = msgspec.structs.replace(seen, health=health)
    assert tenant.stage.aws.run(webhooks.replace_endpoint(tenant.id, seen, changed))


@pytest.fixture
def releases(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The endpoints whose held deliveries were let go."""
    seen: list[str] = []
    let_go = resource.released

    def noted(call: Any, endpoint: Endpoint) -> None:
        assert endpoint.receives
        seen.append(endpoint.id)
        let_go(call, endpoint)

    monkeypatch.setattr(resource, "released", noted)
    return seen


WELL = {
    "state": "healthy",
    "failing_since": None,
    "failures": 0,
    "last_error": None,
    "next_probe_at": None,
    "disables_at": None,
}


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


def test_a_filter_names_each_event_once(tenant: Tenant) -> None:
    """What is given twice is kept once, at its first place; at creation and at change."""
    twice = ["session.*", "message.sent", "session.*"]
    endpoint = made(tenant, events=twice)
    assert endpoint["events"] == ["session.*", "message.sent"]

    changed = tenant.patch(f"{PATH}/{endpoint['id']}", {"events": ["*", "*"]}).json()
    assert changed["events"] == ["*"]


def test_headers_are_kept_for_the_gateway_alone(tenant: Tenant) -> None:
    """Names are shown, values never again, not even in the row."""
    given = {"Authorization": "Bearer very-secret", "X-Shop": "7"}
    endpoint = made(tenant, headers=given)
    item = f"{PATH}/{endpoint['id']}"

    assert endpoint["header_names"] == ["Authorization", "X-Shop"]
    for answer in (tenant.get(item), tenant.get(PATH), tenant.patch(item, {"description": "d"})):
        assert "very-secret" not in answer.text
    row = row_of(tenant, endpoint["id"])
    assert b"very-secret" not in msgspec.json.encode(row)
    assert headers.opened(tenant.stage.keyring.seals, row) == given


def test_headers_are_replaced_as_a_whole(tenant: Tenant) -> None:
    """What is not given again is gone; none at all removes them; other changes leave them."""
    endpoint = made(tenant, headers={"X-A": "1", "X-B": "2"})
    item = f"{PATH}/{endpoint['id']}"
    seals = tenant.stage.keyring.seals

    tenant.patch(item, {"headers": {"X-B": "3"}})
    assert tenant.patch(item, {"description": "d"}).json()["header_names"] == ["X-B"]
    assert headers.opened(seals, row_of(tenant, endpoint["id"])) == {"X-B": "3"}
    assert tenant.patch(item, {"headers": {}}).json()["header_names"] == []
    assert row_of(tenant, endpoint["id"]).sealed_headers is None


UNFIT: dict[str, tuple[dict[str, str], list[tuple[str, str]]]] = {
    "ours": ({"Webhook-Signature": "x"}, [("/headers/Webhook-Signature", "header_reserved")]),
    "like ours": ({"content_length": "0"}, [("/headers/content_length", "header_reserved")]),
    "two lines": ({"X-A": "a\r\nHost: b"}, [("/headers/X-A", "header_value")]),
    "no token": ({"a/b~": "x"}, [("/headers/a~1b~0", "header_name")]),
    "no name": ({"": "x"}, [("/headers/", "header_name")]),
    "twice": ({"X-A": "1", "x-a": "2"}, [("/headers/x-a", "header_repeated")]),
    "long": ({"X-A": "v" * 1_024}, [("/headers/X-A", "header_too_long")]),
    "large": ({f"X{n}": "v" * 1_000 for n in range(5)}, [("/headers", "headers_too_large")]),
    "many": ({f"X{n}": "v" for n in range(21)}, [("/headers", "too_many_headers")]),
    "two": (
        {"Host": "x", "X-A": "ok", "Via": "x"},
        [("/headers/Host", "header_reserved"), ("/headers/Via", "header_reserved")],
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_headers_that_cannot_be_set_are_pointed_at(tenant: Tenant, case: str) -> None:
    """422 with every one that is wrong, at creation and at change, and nothing is changed."""
    given, faults = UNFIT[case]
    endpoint = made(tenant)

    for answer in (
        tenant.post(PATH, {"url": URL, "headers": given}),
        tenant.patch(f"{PATH}/{endpoint['id']}", {"headers": given}),
    ):
        assert answer.status_code == 422
        assert [(each["pointer"], each["code"]) for each in answer.json()["errors"]] == faults
    assert len(tenant.get(PATH).json()["data"]) == 1
    assert row_of(tenant, endpoint["id"]).header_names == ()


def test_headers_do_not_follow_to_another_server(tenant: Tenant) -> None:
    """Whoever may change a URL is not shown a credential by it: headers are given again."""
    endpoint = made(tenant, headers={"Authorization": "Bearer x"})
    item = f"{PATH}/{endpoint['id']}"
    elsewhere = "https://elsewhere.example.com/"

    refused = tenant.patch(item, {"url": elsewhere})
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "headers_needed")
    assert refused.json()["errors"][0]["pointer"] == "/headers"
    assert tenant.get(item).json()["url"] == URL
    assert tenant.patch(item, {"url": f"{URL}/v2"}).json()["header_names"] == ["Authorization"]
    assert tenant.patch(item, {"url": elsewhere, "headers": {}}).status_code == 200
    assert tenant.patch(item, {"url": URL}).status_code == 200


def test_a_paused_endpoint_waits_until_it_is_resumed(tenant: Tenant, releases: list[str]) -> None:
    """Each as often as one likes; what was held is let go when it is resumed."""
    endpoint = made(tenant)
    item = f"{PATH}/{endpoint['id']}"

    paused = tenant.post(f"{item}/pause")
    again = tenant.post(f"{item}/pause")
    assert (paused.status_code, paused.json()["status"]) == (200, "paused")
    assert again.json() == paused.json()
    assert releases == []

    resumed = tenant.post(f"{item}/resume")
    assert (resumed.status_code, resumed.json()["status"]) == (200, "enabled")
    assert releases == [endpoint["id"]]
    assert tenant.post(f"{item}/resume").json() == resumed.json()


def test_a_pause_is_repeated_by_its_key(tenant: Tenant) -> None:
    """The first answer, though the endpoint was resumed meanwhile."""
    item = f"{PATH}/{made(tenant)['id']}"

    first = tenant.post(f"{item}/pause", **{"Idempotency-Key": "k"})
    tenant.post(f"{item}/resume")
    again = tenant.post(f"{item}/pause", **{"Idempotency-Key": "k"})

    assert again.content == first.content
    assert tenant.get(item).json()["status"] == "enabled"


@pytest.mark.parametrize("by", ["resume", "status"])
@pytest.mark.parametrize("status", [EndpointStatus.PAUSED, EndpointStatus.DISABLED])
def test_enabling_forgets_what_was_wrong(
    tenant: Tenant, releases: list[str], status: EndpointStatus, by: str
) -> None:
    """The reason, the failures and the rest; and what was held is let go."""
    endpoint = made(tenant)
    item = f"{PATH}/{endpoint['id']}"
    fell_ill(tenant, endpoint["id"])
    off = tenant.patch(item, {"status": status.value}).json()
    assert off["health"]["state"] == "failing"
    assert off["health"]["disables_at"] is None

    if by == "resume":
        enabled = tenant.post(f"{item}/resume").json()
    else:
        enabled = tenant.patch(item, {"status": "enabled"}).json()

    assert (enabled["status"], enabled["disabled_reason"]) == ("enabled", None)
    assert enabled["health"] == WELL
    assert row_of(tenant, endpoint["id"]).health == Health()
    assert releases == [endpoint["id"]]


def test_a_disabled_endpoint_keeps_the_first_reason(tenant: Tenant) -> None:
    """Disabling again, by hand, what disabled itself; a pause is no reason."""
    endpoint = made(tenant)
    item = f"{PATH}/{endpoint['id']}"
    seen = row_of(tenant, endpoint["id"])
    gone = msgspec.structs.replace(
        seen, status=EndpointStatus.DISABLED, disabled_reason="It answered 410 Gone."
    )
    assert tenant.stage.aws.run(webhooks.replace_endpoint(tenant.id, seen, gone))

    again = tenant.patch(item, {"status": "disabled"}).json()
    assert again["disabled_reason"] == "It answered 410 Gone."
    assert tenant.post(f"{item}/pause").json()["disabled_reason"] is None


def test_health_is_told_in_words(tenant: Tenant) -> None:
    """Healthy, failing until it is disabled, or resting until it is tried again."""
    endpoint = made(tenant)
    item = f"{PATH}/{endpoint['id']}"
    assert endpoint["health"] == WELL

    fell_ill(tenant, endpoint["id"], opened=0, open_until=None)
    failing = tenant.get(item).json()["health"]
    assert failing == {
        **WELL,
        "state": "failing",
        "failing_since": "1970-01-01T00:00:01Z",
        "failures": 7,
        "last_error": "timeout",
        "disables_at": "1970-01-06T00:00:01Z",
    }
    assert DISABLED_AFTER == 5 * clock.DAY

    fell_ill(tenant, endpoint["id"], open_until=61_000)
    resting = tenant.get(item).json()["health"]
    assert resting == {**failing, "state": "resting", "next_probe_at": "1970-01-01T00:01:01Z"}


def test_a_rest_is_ended_by_resuming_or_by_another_url(tenant: Tenant, releases: list[str]) -> None:
    """Not by saying once more that it is enabled: a repeated setting changes nothing."""
    endpoint = made(tenant)
    item = f"{PATH}/{endpoint['id']}"
    fell_ill(tenant, endpoint["id"])

    same = tenant.patch(item, {"status": "enabled", "url": URL, "description": "d"})
    assert same.json()["health"]["state"] == "resting"
    assert releases == []

    assert tenant.post(f"{item}/resume").json()["health"] == WELL
    assert releases == [endpoint["id"]]

    fell_ill(tenant, endpoint["id"])
    assert tenant.patch(item, {"url": f"{URL}/v2"}).json()["health"] == WELL
    assert releases == [endpoint["id"]] * 2

    tenant.post(f"{item}/pause")
    tenant.patch(item, {"url": URL})
    assert len(releases) == 2


def test_an_endpoint_is_deleted(tenant: Tenant) -> None:
    """204, to a repeat with the same key as well, and then it is not there."""
    item = f"{PATH}/{made(tenant)['id']}"

    first = tenant.delete(item, **{"Idempotency-Key": "k"})
    again = tenant.delete(item, **{"Idempotency-Key": "k"})

    assert first.status_code == again.status_code == 204
    assert first.content == again.content == b""
    assert again.headers["idempotent-replayed"] == "true"
    assert tenant.get(item).status_code == tenant.delete(item).status_code == 404


def test_changes_that_meet_are_made_again(tenant: Tenant) -> None:
    """Each on top of the others: none is refused for having met one of them."""
    item = f"{PATH}/{tenant.post(PATH, {'url': URL}).json()['id']}"

    def change(number: int) -> int:
        return tenant.patch(item, {"description": str(number)}).status_code

    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(change, range(30))) == {200}


def test_a_change_that_others_keep_beating_is_said_to(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """409, that nothing was changed, and when to ask again."""
    monkeypatch.setattr(contention, "TRIES", 2)
    item = f"{PATH}/{tenant.post(PATH, {'url': URL}).json()['id']}"
    plain = webhooks.read_endpoint

    def beaten(tenant_id: TenantId, endpoint_id: EndpointId) -> Op[Endpoint | None]:
        op = plain(tenant_id, endpoint_id)
        seen = tenant.stage.aws.run(op)
        assert seen is not None
        assert tenant.stage.aws.run(webhooks.replace_endpoint(tenant_id, seen, seen))
        return Op(op.service, op.action, op.params, lambda _: seen)

    with monkeypatch.context() as patch:
        patch.setattr(webhooks, "read_endpoint", beaten)
        answer = tenant.patch(item, {"description": "mine"})

    assert (answer.status_code, answer.json()["code"]) == (409, "contended")
    assert answer.json()["detail"].endswith("Nothing was changed.")
    assert int(answer.headers["retry-after"]) > 0
    assert tenant.get(item).json()["description"] == ""


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
