"""The rotation of signing secrets: shown once, overlapping, revoked, and judged from outside."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from shared import clock, sealing, signing
from shared.aws import Op
from shared.ids import EndpointId
from shared.store import webhooks
from shared.webhook import RETIRED_SECRETS, live_secrets
from tests.control_plane.conftest import Stage, Tenant
from tests.control_plane.waiting import until

PATH = "/v1/webhooks"


def made(tenant: Tenant) -> tuple[str, str]:
    """A new endpoint's path and secret."""
    answer = tenant.post(PATH, {"url": "https://hooks.example.com/zapgate"})
    assert answer.status_code == 201, answer.text
    return f"{PATH}/{answer.json()['id']}", answer.json()["secret"]


def rotated(tenant: Tenant, item: str, **body: Any) -> str:
    answer = tenant.post(f"{item}/secret/rotate", body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["secret"])


def signed(tenant: Tenant, item: str, body: bytes) -> dict[str, str]:
    """The headers a gateway would send now."""
    endpoint_id = EndpointId(item.rpartition("/")[2])
    row = tenant.stage.aws.run(webhooks.read_endpoint(tenant.id, endpoint_id))
    assert row is not None
    now = clock.millis()
    secrets = [
        sealing.unseal(tenant.stage.keyring.seals, row.owner, each)
        for each in live_secrets(row, now)
    ]
    return {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(now // clock.SECOND),
        "webhook-signature": signing.sign_webhook(secrets, "evt_1", now // clock.SECOND, body),
    }


def accepted(tenant: Tenant, item: str, *secrets: str) -> list[bool]:
    """Whether Standard Webhooks' own library takes a request of now for ours, by each secret."""
    body = json.dumps({"text": "Grüße 👋"}, ensure_ascii=False).encode()
    headers = signed(tenant, item, body)
    assert headers["webhook-signature"].count("v1,") >= 1

    def takes(secret: str) -> bool:
        try:
            Webhook(secret).verify(body, headers)
        except WebhookVerificationError:
            return False
        return True

    return [takes(secret) for secret in secrets]


def test_receivers_follow_a_rotation_without_a_gap(tenant: Tenant) -> None:
    """Before, the old secret verifies; then both; once the old one is revoked, only the new one."""
    item, old = made(tenant)
    assert accepted(tenant, item, old) == [True]

    new = rotated(tenant, item)
    assert new != old
    assert new.startswith("whsec_")
    assert accepted(tenant, item, old, new) == [True, True]

    revoked = tenant.post(f"{item}/secret/revoke-previous")
    assert revoked.status_code == 200
    assert revoked.json() == tenant.get(item).json()
    assert revoked.json()["previous_secrets_until"] == []
    assert accepted(tenant, item, old, new) == [False, True]
    assert tenant.post(f"{item}/secret/revoke-previous").json() == revoked.json()


def test_a_former_secret_ends_by_itself(tenant: Tenant) -> None:
    """When its overlap is over it signs no more, and another rotation is free."""
    item, old = made(tenant)
    new = rotated(tenant, item, overlap_seconds=1)

    until(lambda: not tenant.get(item).json()["previous_secrets_until"])

    assert accepted(tenant, item, old, new) == [False, True]
    assert rotated(tenant, item)


def test_without_overlap_the_old_secret_ends_at_once(tenant: Tenant) -> None:
    """For a secret that leaked."""
    item, old = made(tenant)
    new = rotated(tenant, item, overlap_seconds=0)

    assert accepted(tenant, item, old, new) == [False, True]
    assert tenant.get(item).json()["previous_secrets_until"] == []


def test_a_secret_is_shown_once_and_kept_sealed(stage: Stage, tenant: Tenant) -> None:
    """In the answer to the rotation only; a day of overlap where none is asked for."""
    item, _ = made(tenant)
    before = clock.millis()

    answer = tenant.post(f"{item}/secret/rotate").json()

    secret = answer.pop("secret")
    assert tenant.get(item).json() == answer
    (until,) = answer["previous_secrets_until"]
    assert clock.instant(before + clock.DAY).isoformat() <= until.replace("Z", "+00:00")
    row = stage.aws.run(webhooks.read_endpoint(tenant.id, answer["id"]))
    assert row is not None
    assert secret.encode() not in row.sealed_secret


def test_a_rotation_is_repeated_by_its_key(tenant: Tenant) -> None:
    """The same secret again, and no second rotation."""
    item, _ = made(tenant)

    first, again = (
        tenant.post(f"{item}/secret/rotate", {}, **{"Idempotency-Key": "k"}) for _ in range(2)
    )

    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    assert again.headers["idempotent-replayed"] == "true"
    assert len(tenant.get(item).json()["previous_secrets_until"]) == 1
    assert accepted(tenant, item, again.json()["secret"]) == [True]


def test_a_rotation_during_another_is_a_conflict_unless_forced(tenant: Tenant) -> None:
    """409 says until when, and what to do instead; forced, all three sign."""
    item, first = made(tenant)
    second = rotated(tenant, item)
    (until,) = tenant.get(item).json()["previous_secrets_until"]

    for body in ({}, {"overlap_seconds": 0}):
        refused = tenant.post(f"{item}/secret/rotate", body)
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
        assert until[:19] in refused.json()["detail"]
        assert "revoke-previous" in refused.json()["detail"]
        assert "force" in refused.json()["detail"]

    third = rotated(tenant, item, force=True)
    assert accepted(tenant, item, first, second, third) == [True, True, True]
    assert len(tenant.get(item).json()["previous_secrets_until"]) == 2


def test_former_secrets_are_bounded_and_keep_their_word(tenant: Tenant) -> None:
    """One too many is refused rather than ending another early; without overlap it is none."""
    item, first = made(tenant)
    made_since = [rotated(tenant, item, force=True) for _ in range(RETIRED_SECRETS)]

    full = tenant.post(f"{item}/secret/rotate", {"force": True})
    assert (full.status_code, full.json()["code"]) == (422, "limit_reached")
    assert accepted(tenant, item, first, *made_since) == [True] * (RETIRED_SECRETS + 1)

    newest = rotated(tenant, item, force=True, overlap_seconds=0)
    assert accepted(tenant, item, first, made_since[-1], newest) == [True, False, True]


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"overlap_seconds": -1}, 422, "/overlap_seconds"),
        ({"overlap_seconds": 604_801}, 422, "/overlap_seconds"),
        ({"overlap_seconds": "1"}, 400, "/overlap_seconds"),
        ({"force": 1}, 400, "/force"),
        ({"secret": "whsec_mine"}, 400, "/secret"),
    ],
)
def test_bad_rotations_are_pointed_at(
    tenant: Tenant, body: object, status: int, pointer: str
) -> None:
    """And nothing is rotated: a secret is ours to make, and a week is enough."""
    item, old = made(tenant)

    answer = tenant.post(f"{item}/secret/rotate", body)

    assert answer.status_code == status
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert accepted(tenant, item, old) == [True]
    assert tenant.post(f"{item}/secret/rotate", {"overlap_seconds": 604_800}).status_code == 200


def test_of_rotations_at_once_one_is_made(tenant: Tenant) -> None:
    """The others meet its overlap; the secret that was shown is the one that signs."""
    item, old = made(tenant)

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(tenant.post, [f"{item}/secret/rotate"] * 5))

    (won,) = [each for each in answers if each.status_code == 200]
    assert {each.json()["code"] for each in answers if each is not won} == {"conflict"}
    assert accepted(tenant, item, old, won.json()["secret"]) == [True, True]


def test_a_rotation_and_other_changes_are_all_made(tenant: Tenant) -> None:
    """Whoever comes second makes the change on top of the first."""
    item, old = made(tenant)

    def change(number: int) -> Any:
        match number:
            case 0:
                return tenant.post(f"{item}/secret/rotate")
            case 1:
                return tenant.patch(item, {"description": "d"})
            case _:
                return tenant.post(f"{item}/pause")

    with ThreadPoolExecutor(3) as pool:
        rotation, *others = pool.map(change, range(3))

    assert [each.status_code for each in (rotation, *others)] == [200] * 3
    after = tenant.get(item).json()
    assert (after["description"], after["status"]) == ("d", "paused")
    assert accepted(tenant, item, old, rotation.json()["secret"]) == [True, True]


def test_a_rotation_whose_answer_was_lost_is_no_conflict(
    stage: Stage, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that AWS made, and made us believe it had not, is found to be ours."""
    item, old = made(tenant)
    run, lost = stage.aws.run, list[str]()

    def lossy(op: Op[Any]) -> Any:
        answer = run(op)
        if op.action == "put_item" and not lost:
            lost.append(op.action)
            return False
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(stage.aws, "run", lossy)
        new = rotated(tenant, item)

    assert lost
    assert len(tenant.get(item).json()["previous_secrets_until"]) == 1
    assert accepted(tenant, item, old, new) == [True, True]
