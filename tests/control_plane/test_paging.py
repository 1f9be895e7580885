"""Pages, limits of requests, and what every answer carries."""

import base64

import msgspec
import pytest

from control_plane import limits
from control_plane.limits import FIRST_CHUNK, LARGEST_CHUNK, Limiter
from control_plane.problems import KINDS, QUOTA_EXCEEDED, ProblemOut, misfit
from shared import clock
from shared.errors import Contended, Unavailable
from shared.ids import TenantId
from tests.control_plane.conftest import Stage, Tenant


def test_a_list_is_walked_by_its_cursor(tenant: Tenant) -> None:
    """Every row once, in order, and the `Link` header leads the same way."""
    made = [tenant.session(name=f"s{n}", start=False) for n in range(5)]
    seen: list[str] = []
    path = "/v1/sessions?limit=2"
    while path:
        answer = tenant.get(path)
        body = answer.json()
        seen += [each["id"] for each in body["data"]]
        assert body["has_more"] == (body["next_cursor"] is not None)
        path = ""
        if body["has_more"]:
            assert answer.links["next"]["url"] == (
                f"/v1/sessions?limit=2&cursor={body['next_cursor']}"
            )
            path = answer.links["next"]["url"]

    assert sorted(seen) == sorted(made)
    assert len(set(seen)) == 5


def test_a_cursor_is_good_for_its_own_list_only(tenant: Tenant) -> None:
    """Changed, of another tenant, list, session or filter: 400, always the same."""
    for _ in range(3):
        tenant.session(start=False)
        tenant.happened("message.sent", at=clock.millis())
    other = tenant.stage.tenant()
    cursor = str(tenant.get("/v1/sessions?limit=1").json()["next_cursor"])
    of_events = str(tenant.get("/v1/events?limit=1&type=message.sent").json()["next_cursor"])
    payload, _, signature = cursor.partition(".")
    forged = base64.urlsafe_b64encode(b'{"PK":"T#' + other.id.encode() + b'"}').decode()

    for who, path in [
        (
            tenant,
            f"/v1/sessions?cursor={cursor[:-2]}{'a' if cursor[-2] != 'a' else 'b'}{cursor[-1]}",
        ),
        (tenant, f"/v1/sessions?cursor={forged}.{signature}"),
        (tenant, f"/v1/sessions?cursor={payload}"),
        (tenant, "/v1/sessions?cursor=x"),
        (tenant, "/v1/sessions?cursor="),
        (other, f"/v1/sessions?cursor={cursor}"),
        (tenant, f"/v1/keys?cursor={cursor}"),
        (tenant, f"/v1/sessions?cursor={of_events}"),
        (tenant, f"/v1/events?cursor={of_events}"),
        (tenant, f"/v1/events?type=message.*&cursor={of_events}"),
        (tenant, f"/v1/events?type=message.sent&order=oldest&cursor={of_events}"),
    ]:
        answer = who.get(path)
        assert answer.status_code == 400, path
        assert answer.json()["code"] == "invalid_cursor"
    assert tenant.get(f"/v1/events?type=message.sent&cursor={of_events}").status_code == 200


def test_a_tenant_is_told_where_it_stands(stage: Stage) -> None:
    """`RateLimit` on every answer to a live key, refusals included; then 429 with `Retry-After`."""
    tenant = stage.tenant(rate_limit=4)

    answers = [tenant.get("/v1/sessions?limit=1") for _ in range(3)]
    answers.append(tenant.get("/v1/nothing/../sessions/x"))
    over = tenant.get("/v1/sessions")

    assert [each.status_code for each in answers] == [200, 200, 200, 404]
    assert answers[0].headers["ratelimit-policy"] == '"tenant";q=4;w=60'
    remaining = [each.headers["ratelimit"].split(";")[1] for each in answers]
    assert remaining == ["r=3", "r=2", "r=1", "r=0"]
    assert over.status_code == 429
    assert over.json()["type"] == QUOTA_EXCEEDED
    assert over.headers["ratelimit"].startswith('"tenant";r=0;t=')
    assert 1 <= int(over.headers["retry-after"]) <= 60
    assert stage.tenant().get("/v1/sessions").status_code == 200


def test_permits_are_taken_in_growing_chunks(stage: Stage, tenant: Tenant) -> None:
    """A busy process writes once for many requests; an idle one takes a few at a time."""
    now = 0.0
    limiter = Limiter(stage.aws, 6_000, lambda: now)
    moment = clock.millis() // 60_000 * 60_000 + 60_000
    before = stage.aws.counts["dynamodb", "update_item"]

    def ask() -> int:
        standing = limiter.at_hand(tenant.id, None, moment)
        if standing is None:
            standing = limiter.take(tenant.id, None, moment)
        assert standing.allowed
        return standing.remaining

    remaining = [ask() for _ in range(1_000)]
    busy = stage.aws.counts["dynamodb", "update_item"] - before
    now = 100.0
    while limiter.at_hand(tenant.id, None, moment) is not None:
        pass
    limiter.take(tenant.id, None, moment)
    few = [limiter.at_hand(tenant.id, None, moment) for _ in range(FIRST_CHUNK)]

    assert remaining == [5_999 - n for n in range(1_000)]
    assert busy <= 6 + 1_000 // LARGEST_CHUNK + 1
    assert [each is not None for each in few] == [True] * (FIRST_CHUNK - 1) + [False]


@pytest.mark.parametrize("limit", [1, 3, 70])
def test_several_processes_share_one_limit(stage: Stage, tenant: Tenant, limit: int) -> None:
    """However permits are spread, no more than the limit is granted in a window."""
    limiters = [Limiter(stage.aws, limit) for _ in range(3)]
    moment = clock.millis() // 60_000 * 60_000 + 120_000

    def granted(limiter: Limiter) -> bool:
        standing = limiter.at_hand(tenant.id, None, moment)
        return (standing or limiter.take(tenant.id, None, moment)).allowed

    total = sum(granted(limiters[n % 3]) for n in range(limit * 2 + 6))

    assert total <= limit
    assert total >= limit - 3


def test_accounts_of_past_windows_are_dropped(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded by the tenants of a minute."""
    monkeypatch.setattr(limits, "LARGEST_MEMORY", 2)
    limiter = Limiter(stage.aws, 10)
    moment = clock.millis()

    for n in range(4):
        limiter.take(TenantId(f"ten_{n}"), None, moment + n * 30_000)

    assert len(limiter._accounts) <= 2  # pyright: ignore[reportPrivateUsage] - what is bounded


def test_every_answer_carries_its_request_id_and_security_headers(stage: Stage) -> None:
    """The caller's id if it is clean, else one of ours; in the problem too."""
    ours = stage.client.get("/v1/sessions")
    named = stage.client.get("/v1/sessions", headers={"X-Request-Id": "mine-1"})
    unclean = stage.client.get("/healthz", headers={"X-Request-Id": "a b<script>"})

    assert ours.headers["x-request-id"] == ours.json()["request_id"]
    assert named.headers["x-request-id"] == named.json()["request_id"] == "mine-1"
    assert unclean.headers["x-request-id"].startswith("req_")
    for answer in (ours, unclean):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v2/sessions", 404, "not_found"),
        ("GET", "/v1/sessions/../../etc/passwd", 404, "not_found"),
        ("PUT", "/v1/sessions", 405, "method_not_allowed"),
        ("DELETE", "/healthz", 405, "method_not_allowed"),
        ("GET", "/v1/problems/none", 404, "not_found"),
    ],
)
def test_the_frameworks_refusals_are_problems_too(
    stage: Stage, method: str, path: str, status: int, code: str
) -> None:
    """Unknown routes and methods, before any door."""
    answer = stage.client.request(method, path)

    problem = msgspec.json.decode(answer.content, type=ProblemOut)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem.status, problem.code) == (status, status, code)
    if status == 405:
        assert "GET" in answer.headers["allow"]


def test_a_body_that_is_not_json_is_415(tenant: Tenant) -> None:
    """A form is not guessed at."""
    answer = tenant.ask(
        "POST", "/v1/sessions", b"name=x", {"Content-Type": "application/x-www-form-urlencoded"}
    )

    assert answer.status_code == 415


def test_every_kind_of_problem_is_described(stage: Stage) -> None:
    """`type` leads to what it means and what to do."""
    for code, kind in KINDS.items():
        shown = stage.client.get(f"/v1/problems/{code}").json()
        assert shown == {"status": kind.status, "title": kind.title, "then": kind.then}


def test_what_nobody_expected_is_a_bare_500(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No word of it reaches the caller; the log has its trail under the request's id."""
    tenant.get("/v1/sessions")

    def broken(op: object) -> object:
        raise ZeroDivisionError("whsec_secret")

    with monkeypatch.context() as patch:
        patch.setattr(tenant.stage.aws, "run", broken)
        answer = tenant.get("/v1/keys")

    assert answer.status_code == 500
    assert "whsec_secret" not in answer.text
    assert "ZeroDivision" not in answer.text
    (record,) = [each for each in caplog.records if each.message == "request.failed"]
    assert record.__dict__["zapgate"]["request_id"] == answer.json()["request_id"]
    assert record.exc_info is not None


def test_an_aws_that_does_not_answer_is_503(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `Retry-After`, and without saying what AWS said."""

    def silent(op: object) -> object:
        raise Unavailable("dynamodb", "get_item", "EndpointConnectionError")

    tenant.get("/v1/sessions")
    with monkeypatch.context() as patch:
        patch.setattr(tenant.stage.aws, "run", silent)
        answer = tenant.get("/v1/keys")

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert "dynamodb" not in answer.text


def test_others_who_keep_winning_are_409(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `Retry-After`, and without saying that nothing was done, where nobody knows."""

    def contested(op: object) -> object:
        raise Contended("dynamodb.transact_write_items")

    tenant.get("/v1/sessions")
    with monkeypatch.context() as patch:
        patch.setattr(tenant.stage.aws, "run", contested)
        answer = tenant.get("/v1/keys")

    assert (answer.status_code, answer.json()["code"]) == (409, "contended")
    assert answer.headers["retry-after"] == "1"
    assert "othing" not in answer.json()["detail"]
    assert "dynamodb" not in answer.text


class _Inner(msgspec.Struct, forbid_unknown_fields=True):
    deep: list[dict[str, int]]


class _Outer(msgspec.Struct, forbid_unknown_fields=True):
    items: list[_Inner]


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        (b'{"items":[{"deep":[{"a":"x"}]}]}', "/items/0/deep/0", "type"),
        (b'{"items":[{"deep":[]},{"deep":1}]}', "/items/1/deep", "type"),
        (b'{"items":[{}]}', "/items/0/deep", "missing"),
        (b'{"items":[{"deep":[],"x/y":1}]}', "/items/0/x~1y", "unknown"),
        (b"1", "", "type"),
        (b"{", "", "malformed"),
    ],
)
def test_a_misfit_is_pointed_at(body: bytes, pointer: str, code: str) -> None:
    """Msgspec's own words become a JSON Pointer (RFC 6901) and a code."""
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(body, type=_Outer)

    (fault,) = misfit(caught.value).errors
    assert (fault.pointer, fault.code) == (pointer, code)
