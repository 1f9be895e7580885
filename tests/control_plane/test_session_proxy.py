"""A session's own proxy over the API: given, shown without its secret, changed, refused."""

import json
from collections.abc import Iterator

import pytest

from shared import proxy
from shared.commands import StartSession
from shared.ids import SessionId
from shared.session import Session, SessionState
from shared.store import sessions
from tests.control_plane.conftest import MakeStage, Stage, Tenant

SECRET = "hunter2"
GIVEN = f"socks5://some%40one:{SECRET}@Proxy.Example.com:1080"
SHOWN = "socks5://***@proxy.example.com:1080"
OTHER = "http://93.184.216.34:3128"


def row(tenant: Tenant, session_id: str) -> Session:
    found = tenant.stage.aws.run(sessions.read(tenant.id, SessionId(session_id)))
    assert found is not None
    return found


def kept(tenant: Tenant, session_id: str) -> str | None:
    """The proxy's whole URL, as a gateway opens it."""
    session = row(tenant, session_id)
    if session.proxy is None:
        return None
    owner = proxy.owner(session.tenant_id, session.id)
    return proxy.opened(tenant.stage.keyring.seals, owner, session.proxy)


def redialled(tenant: Tenant, session_id: str) -> list[StartSession]:
    return [
        each
        for each in tenant.commands(session_id)
        if isinstance(each, StartSession) and each.redial
    ]


def test_a_proxy_is_kept_and_not_shown(tenant: Tenant) -> None:
    """Sealed in the row; in answers only where it is, and that it has credentials."""
    made = tenant.post("/v1/sessions", {"name": "Shop", "proxy": GIVEN})

    assert made.status_code == 202
    session_id = made.json()["id"]
    read = tenant.get(f"/v1/sessions/{session_id}")
    listed = tenant.get("/v1/sessions")
    for answer in (made, read, listed):
        assert SHOWN in answer.text
        assert SECRET not in answer.text
        assert "some" not in answer.text
    assert kept(tenant, session_id) == f"socks5://some%40one:{SECRET}@proxy.example.com:1080"
    assert SECRET not in str(row(tenant, session_id))
    (command,) = tenant.commands(session_id)
    assert isinstance(command, StartSession)
    assert not command.redial


def test_a_session_without_a_proxy_says_so(tenant: Tenant) -> None:
    """`proxy` is null, also where null was given."""
    for body in ({"name": "Shop"}, {"name": "Shop", "proxy": None}):
        made = tenant.post("/v1/sessions", body)
        assert made.status_code == 202
        assert made.json()["proxy"] is None


def test_a_changed_proxy_is_dialled_at_once(tenant: Tenant) -> None:
    """PATCH shows the new one and orders a session that runs to dial anew; null removes it."""
    session_id = tenant.session(SessionState.CONNECTED, proxy=GIVEN)
    tenant.commands(session_id)
    for given, shown in ((OTHER, OTHER), (OTHER, OTHER), (None, None), (GIVEN, SHOWN)):
        answer = tenant.patch(f"/v1/sessions/{session_id}", {"proxy": given})

        assert answer.status_code == 200
        assert answer.json()["proxy"] == shown
        assert tenant.get(f"/v1/sessions/{session_id}").json()["proxy"] == shown
        assert len(redialled(tenant, session_id)) == 1
    assert answer.json()["name"] == "Shop"
    assert answer.json()["desired"] == "running"


def test_what_is_not_given_stays(tenant: Tenant) -> None:
    """A new name leaves the proxy and dials nothing; no change at all is none."""
    session_id = tenant.session(proxy=GIVEN)
    tenant.commands(session_id)
    path = f"/v1/sessions/{session_id}"
    renamed = tenant.patch(path, {"name": "Bistro"}).json()
    assert (renamed["name"], renamed["proxy"]) == ("Bistro", SHOWN)
    assert tenant.patch(path, {}).json() == renamed
    both = tenant.patch(path, {"name": "Bar", "proxy": OTHER}).json()
    assert (both["name"], both["proxy"]) == ("Bar", OTHER)
    assert len(redialled(tenant, session_id)) == 1


def test_a_repeat_is_answered_the_same(tenant: Tenant) -> None:
    """One key, one restart; the kept answer has no secret either."""
    session_id = tenant.session(SessionState.CONNECTED)
    tenant.commands(session_id)
    path, key = f"/v1/sessions/{session_id}", {"Idempotency-Key": "k1"}
    first = tenant.patch(path, {"proxy": GIVEN}, **key)
    again = tenant.patch(path, {"proxy": GIVEN}, **key)
    other = tenant.patch(path, {"proxy": OTHER}, **key)

    assert first.json() == again.json()
    assert other.status_code == 422
    assert len(redialled(tenant, session_id)) == 1
    assert row(tenant, session_id).proxy is not None


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("", "proxy_malformed"),
        ("proxy.example.com:1080", "proxy_malformed"),
        (f"https://u:{SECRET}@proxy.example.com:1080", "proxy_scheme"),
        (f"socks5h://u:{SECRET}@proxy.example.com:1080", "proxy_scheme"),
        (f"socks5://u:{SECRET}@proxy.example.com", "proxy_port"),
        (f"socks5://u:{SECRET}@proxy.example.com:1080/x", "proxy_path"),
        (f"socks5://{SECRET}@proxy.example.com:1080", "proxy_credentials"),
        (f"socks5://u:{SECRET}%@proxy.example.com:1080", "proxy_credentials"),
        (f"socks5://u:{SECRET}@pro xy.example.com:1080", "proxy_malformed"),
        (f"socks5://u:{SECRET}@proxy..example.com:1080", "proxy_host"),
        (f"socks5://u:{SECRET}@127.0.0.1:1080", "proxy_not_public"),
        (f"socks5://u:{SECRET}@169.254.170.2:80", "proxy_not_public"),
        (f"socks5://u:{SECRET}@localhost:1080", "proxy_not_public"),
        (f"http://u:{SECRET}@inside.example.com:8080", "proxy_not_public"),
    ],
)
def test_what_is_no_proxy_is_refused(tenant: Tenant, url: str, code: str) -> None:
    """422 with the rule that is broken, on creation and on change; nothing of it is repeated."""
    session_id = tenant.session(proxy=OTHER)
    tenant.commands(session_id)
    for answer in (
        tenant.post("/v1/sessions", {"name": "Shop", "proxy": url}),
        tenant.patch(f"/v1/sessions/{session_id}", {"proxy": url}),
    ):
        assert answer.status_code == 422
        (fault,) = answer.json()["errors"]
        assert (fault["code"], fault["pointer"]) == (code, "/proxy")
        assert SECRET not in answer.text
    assert kept(tenant, session_id) == OTHER
    assert tenant.commands(session_id) == []


@pytest.mark.parametrize(
    ("value", "status"), [(7, 400), (["http://a.example.com:1"], 400), ("x" * 2049, 422)]
)
def test_what_does_not_fit_is_refused(tenant: Tenant, value: object, status: int) -> None:
    """What is no text, or too long, at its place in the body."""
    answer = tenant.post("/v1/sessions", {"name": "Shop", "proxy": value})
    assert answer.status_code == status
    assert "/proxy" in answer.text


@pytest.fixture(name="own", scope="module")
def stage_of_its_own(make_stage: MakeStage) -> Iterator[Stage]:
    with make_stage(
        webhook_denied="93.184.0.0/16 api.example.org", webhook_targets="loopback"
    ) as stage:
        yield stage


def test_own_hosts_are_no_proxies(own: Stage) -> None:
    """What webhooks are never posted to is never dialled as a proxy."""
    tenant = own.tenant()
    for url, code in (
        (OTHER, "proxy_not_public"),
        ("http://a.api.example.org:8080", "proxy_own"),
    ):
        answer = tenant.post("/v1/sessions", {"name": "Shop", "proxy": url})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["code"] == code


def test_development_may_use_its_own_machine(own: Stage) -> None:
    """`webhook_targets=loopback` says so of proxies, too."""
    made = own.tenant().post("/v1/sessions", {"name": "Shop", "proxy": "socks5://u:p@[::1]:9050"})
    assert made.status_code == 202
    assert made.json()["proxy"] == "socks5://***@[::1]:9050"


def test_another_tenant_neither_sees_nor_changes_it(stage: Stage, tenant: Tenant) -> None:
    """A stranger's PATCH is a 404, and the sealed URL opens for no other session."""
    session_id = tenant.session(proxy=GIVEN)
    stranger = stage.tenant()
    path = f"/v1/sessions/{session_id}"
    for answer in (
        stranger.get(path),
        stranger.patch(path, {"proxy": OTHER}),
        stranger.patch(path, {"proxy": None}),
    ):
        assert answer.status_code == 404
        assert "proxy.example.com" not in answer.text
    assert "proxy.example.com" not in stranger.get("/v1/sessions").text
    assert row(tenant, session_id).proxy is not None


def test_a_session_that_goes_takes_no_proxy(tenant: Tenant) -> None:
    """409 once it is being deleted."""
    session_id = tenant.session()
    tenant.delete(f"/v1/sessions/{session_id}")
    answer = tenant.patch(f"/v1/sessions/{session_id}", {"proxy": GIVEN})
    assert answer.status_code == 409
    assert SECRET not in answer.text


def test_the_document_tells_of_it(stage: Stage) -> None:
    """What a proxy is, on creation; that a change restarts; an example without a secret."""
    document = stage.client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert "nothing goes another way" in schemas["SessionIn"]["properties"]["proxy"]["description"]
    assert "restarted" in schemas["SessionPatch"]["properties"]["proxy"]["description"]
    assert schemas["SessionPatch"].get("required", []) == []
    assert "***" in json.dumps(schemas["SessionOut"]["properties"]["proxy"])
