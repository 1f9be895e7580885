"""Keys and tenants: who may do what, and how soon they may not."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec
import pytest

from control_plane import auth, keys
from control_plane.auth import Keys
from shared import apikey, clock
from shared.commands import PurgeTenant
from shared.keyring import Keyring
from shared.store import tenants
from shared.tenant import ALL_SCOPES, TenantStatus
from tests.control_plane.conftest import Api, MakeStage, Stage, Tenant

GARBAGE = (
    "",
    "Bearer",
    "Bearer x",
    "Basic eDp5",
    "Bearer zg_live_" + "a" * 38,
    "Bearer \xff",
    "Bearer a b",
)


def test_a_key_works_until_it_is_revoked(tenant: Tenant) -> None:
    """Shown once; 401 at once here after DELETE, and the row says when."""
    made = tenant.post("/v1/keys", {"name": "ci", "scopes": ["keys:read"]})
    key = Api(tenant.stage, made.json()["key"])

    assert made.status_code == 201
    assert apikey.well_formed(key.key)
    shown = key.get(made.headers["location"])
    assert shown.status_code == 200
    assert "key" not in shown.json()
    assert key.key not in shown.text
    revoked = tenant.delete(made.headers["location"])
    assert revoked.status_code == 200
    assert revoked.json()["revoked_at"]
    assert tenant.delete(made.headers["location"]).json() == revoked.json()
    assert key.get("/v1/keys").status_code == 401


def test_every_bad_key_gets_the_same_answer(stage: Stage, tenant: Tenant) -> None:
    """Unknown, revoked, expired, suspended, of the wrong kind: one 401, but for the request id."""
    revoked = tenant.post("/v1/keys", {"name": "x"}).json()
    tenant.delete(f"/v1/keys/{revoked['id']}")
    suspended = stage.tenant()
    stage.operator.post(f"/v1/tenants/{suspended.id}/suspend")
    unknown = apikey.mint(bytes(range(32)))
    bad = [revoked["key"], suspended.key, unknown, stage.operator.key, "zg_live_x"]

    bodies: list[dict[str, object]] = []
    for key in bad:
        answer = Api(stage, key).get("/v1/keys")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        bodies.append({**answer.json(), "request_id": ""})

    assert all(body == bodies[0] for body in bodies)


@pytest.mark.parametrize("header", GARBAGE)
def test_garbage_is_refused_without_a_look_up(stage: Stage, header: str) -> None:
    """The checksum tells a typo from a key before DynamoDB is asked."""
    before = Counter(stage.aws.counts)

    answer = stage.client.get(
        "/v1/sessions",
        headers={"Authorization": header.encode("latin-1")},  # type: ignore[dict-item]
    )

    assert answer.status_code == 401
    assert stage.aws.counts == before


def test_operators_and_tenants_have_their_own_doors(stage: Stage, tenant: Tenant) -> None:
    """Neither's key opens the other's routes."""
    assert tenant.get("/v1/tenants").status_code == 401
    assert tenant.post("/v1/tenants", {"name": "x"}).status_code == 401
    assert stage.operator.get("/v1/sessions").status_code == 401


def test_a_key_does_what_its_scopes_say(tenant: Tenant) -> None:
    """403 names the scope that is missing; write does not imply read."""
    key = tenant.with_scopes("messages:write", "keys:write")

    refused = key.get("/v1/sessions")

    assert refused.status_code == 403
    assert refused.json()["code"] == "missing_scope"
    assert "sessions:read" in refused.json()["detail"]


def test_a_key_cannot_make_or_roll_a_mightier_one(tenant: Tenant) -> None:
    """What the caller may not do, its keys may not."""
    key = tenant.with_scopes("keys:write", "keys:read")

    made = key.post("/v1/keys", {"name": "x", "scopes": ["messages:write"]})
    rolled = key.post(f"/v1/keys/{tenant.key_id}/roll")
    same = key.post("/v1/keys", {"name": "x"})

    assert made.status_code == rolled.status_code == 403
    assert made.json()["errors"][0]["pointer"] == "/scopes"
    assert same.json()["scopes"] == ["keys:write", "keys:read"]


def test_a_key_is_rolled_with_an_overlap(tenant: Tenant) -> None:
    """Both work for a while; without an overlap the old one ends at once."""
    first = tenant.post("/v1/keys", {"name": "ci"}).json()
    second = tenant.post(f"/v1/keys/{first['id']}/roll", {"overlap": 3600}).json()
    third = tenant.post(f"/v1/keys/{second['id']}/roll").json()

    def works(key: str) -> bool:
        return Api(tenant.stage, key).get("/v1/keys").status_code == 200

    assert works(first["key"])
    assert not works(second["key"])
    assert works(third["key"])
    assert third["name"] == "ci"
    assert tenant.post(f"/v1/keys/{second['id']}/roll").status_code == 409


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"name": "x", "scopes": []}, 422, "/scopes"),
        ({"name": "x", "scopes": ["everything"]}, 400, "/scopes/0"),
        ({"name": "x", "expires_in": 1}, 422, "/expires_in"),
        ({"scopes": None}, 400, "/name"),
    ],
)
def test_bad_keys_are_not_made(tenant: Tenant, body: object, status: int, pointer: str) -> None:
    """The shape is 400, a value out of range 422."""
    answer = tenant.post("/v1/keys", body)

    assert answer.status_code == status
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_an_overlap_has_a_bound(tenant: Tenant) -> None:
    """At most seven days."""
    answer = tenant.post(f"/v1/keys/{tenant.key_id}/roll", {"overlap": 7 * 86_400 + 1})

    assert answer.status_code == 422


def test_a_tenants_keys_are_bounded(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are asked for at once; one that works no more makes room for another."""
    monkeypatch.setattr(keys, "KEYS_PER_TENANT", 3)

    def make(number: int) -> httpx.Response:
        return tenant.post("/v1/keys", {"name": str(number)})

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(make, range(6)))

    made = [each.json()["id"] for each in answers if each.status_code == 201]
    assert len(made) == 2
    assert {each.json()["code"] for each in answers if each.status_code != 201} == {"limit_reached"}
    tenant.delete(f"/v1/keys/{made[0]}")
    new = tenant.post("/v1/keys", {"name": "new"})
    assert new.status_code == 201
    listed = {each["id"] for each in tenant.get("/v1/keys").json()["data"]}
    assert listed == {tenant.key_id, made[1], new.json()["id"]}
    assert tenant.post("/v1/keys", {"name": "x"}).json()["code"] == "limit_reached"


def test_suspending_reaches_every_key_at_once_and_resuming_gives_them_back(
    stage: Stage, tenant: Tenant
) -> None:
    """In this process at once, though the key is remembered; and no key can be made meanwhile."""
    assert tenant.get("/v1/sessions").status_code == 200

    suspended = stage.operator.post(f"/v1/tenants/{tenant.id}/suspend")
    refused = tenant.get("/v1/sessions")
    no_key = stage.operator.post(f"/v1/tenants/{tenant.id}/keys")
    stage.operator.post(f"/v1/tenants/{tenant.id}/resume")

    assert suspended.json()["status"] == "suspended"
    assert refused.status_code == 401
    assert no_key.status_code == 409
    assert tenant.get("/v1/sessions").status_code == 200


def test_another_process_hears_of_a_revocation_within_its_bound(
    stage: Stage, tenant: Tenant
) -> None:
    """A key is remembered for ten seconds at the most, an unknown one for two."""
    now = 0.0
    keyring = stage.keyring
    other = Keys(stage.aws, keyring.peppers, keyring.operator_keys, lambda: now)

    assert not isinstance(other.look_up(tenant.key), Exception)
    stage.operator.post(f"/v1/tenants/{tenant.id}/suspend")
    now = 9.9
    remembered = other.remembered(tenant.key)
    assert remembered is not None
    assert not isinstance(remembered, Exception)
    now = 10.0
    assert other.remembered(tenant.key) is None


def test_what_is_remembered_is_bounded(
    stage: Stage, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest goes first."""
    monkeypatch.setattr(auth, "LARGEST_MEMORY", 2)
    lookup = Keys(stage.aws, stage.keyring.peppers, ())
    unknown = [apikey.mint(bytes([n]) * 32) for n in range(3)]

    for key in unknown:
        lookup.look_up(key)

    assert lookup.remembered(unknown[0]) is None
    assert lookup.remembered(unknown[2]) is not None


def test_keys_outlive_a_rotation_of_the_secret(stage: Stage, tenant: Tenant) -> None:
    """A key stored under the previous pepper is found by it."""
    newer = Keyring.parse('{"master": "' + "n" * 40 + '"}')
    lookup = Keys(stage.aws, (*newer.peppers, *stage.keyring.peppers), ())

    assert not isinstance(lookup.look_up(tenant.key), Exception)


def test_a_revoked_key_cannot_be_given_life_again(stage: Stage, tenant: Tenant) -> None:
    """A roll that was under way when the key was revoked does not undo it."""
    made = tenant.post("/v1/keys", {"name": "x"}).json()
    row = stage.aws.run(tenants.read_key(tenant.id, made["id"]))
    assert row is not None
    tenant.delete(f"/v1/keys/{made['id']}")

    late = msgspec.structs.replace(row, expires_at=clock.millis() + clock.HOUR)

    assert not stage.aws.run(tenants.change_key(tenant.id, late))


def test_a_tenant_is_deleted_with_everything(stage: Stage, tenant: Tenant) -> None:
    """Its keys stop, nothing new can be made, and one order has all the rest erased."""
    for _ in range(3):
        tenant.session()
    tenant.commands("any")
    before = Counter(stage.aws.counts)

    answer = stage.operator.delete(f"/v1/tenants/{tenant.id}")

    assert (stage.aws.counts - before).total() < 8
    assert stage.operator.post(f"/v1/tenants/{tenant.id}/keys").status_code == 409

    assert answer.status_code == 202
    assert answer.json()["status"] == "deleting"
    assert tenant.get("/v1/sessions").status_code == 401
    (purge,) = tenant.commands("any")
    assert isinstance(purge, PurgeTenant)
    assert purge.tenant_id == tenant.id
    assert stage.operator.post(f"/v1/tenants/{tenant.id}/resume").status_code == 409
    assert stage.operator.delete(f"/v1/tenants/{tenant.id}").status_code == 202


def test_the_operator_lists_tenants(make_stage: MakeStage) -> None:
    """Newest first, in pages."""
    with make_stage() as stage:
        made: list[dict[str, object]] = []
        for name in ("a", "b", "c"):
            made.append(stage.operator.post("/v1/tenants", {"name": name}).json())
            time.sleep(0.002)

        first = stage.operator.get("/v1/tenants?limit=2").json()
        rest = stage.operator.get(f"/v1/tenants?limit=2&cursor={first['next_cursor']}").json()

    assert first["data"] + rest["data"] == made[::-1]
    assert not rest["has_more"]


def test_the_operator_makes_a_tenant_and_its_first_key(stage: Stage) -> None:
    """The key may do everything, unless the operator says less."""
    made = stage.operator.post("/v1/tenants", {"name": "Acme", "rate_limit": 7})
    item = made.headers["location"]

    key = stage.operator.post(f"{item}/keys").json()
    less = stage.operator.post(f"{item}/keys", {"scopes": ["events:read"]}).json()

    assert made.status_code == 201
    assert stage.operator.get(item).json() == made.json()
    assert tuple(key["scopes"]) == ALL_SCOPES
    assert less["scopes"] == ["events:read"]
    answer = Api(stage, key["key"]).get("/v1/sessions")
    assert answer.headers["ratelimit-policy"] == '"tenant";q=7;w=60'


@pytest.mark.parametrize("status", [TenantStatus.SUSPENDED, TenantStatus.DELETING])
def test_a_key_remembered_elsewhere_makes_nothing_for_a_tenant_that_is_not_active(
    stage: Stage, tenant: Tenant, status: TenantStatus
) -> None:
    """Sessions, keys and endpoints are made only while the tenant's own row says active."""
    assert tenant.get("/v1/sessions").status_code == 200
    assert stage.aws.run(tenants.set_status(tenant.id, status))

    assert tenant.post("/v1/sessions", {"name": "x"}).status_code == 401
    stage.app.state["plane"].keys.look_up(tenant.key)
    assert tenant.post("/v1/keys", {"name": "x"}).status_code == 401
    stage.app.state["plane"].keys.look_up(tenant.key)
    endpoint = {"url": "https://hooks.example.com/"}
    assert tenant.post("/v1/webhooks", endpoint).status_code == 401
