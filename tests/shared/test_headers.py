"""A tenant's own headers: which may be set, and that nobody reads or swaps them."""

from random import Random
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import headers, sealing
from shared.errors import Forged
from shared.ids import EndpointId, SessionId, TenantId
from shared.store import keys
from shared.store.dynamo import to_item
from shared.webhook import (
    ENDPOINTS_PER_TENANT,
    LONGEST_URL,
    RETIRED_SECRETS,
    Endpoint,
    EndpointStatus,
    Retired,
)

SEALS = (b"k" * 32,)
NONCE = b"n" * sealing.NONCE_BYTES
ENDPOINT = Endpoint(
    id=EndpointId("ep_1"),
    tenant_id=TenantId("ten_1"),
    url="https://example.com",
    events=("*",),
    sealed_secret=b"",
    status=EndpointStatus.ENABLED,
    created_at=1,
    updated_at=1,
)

OURS = [
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "Host",
    "User-Agent",
    "Content-Type",
    "Content-Length",
    "Content-Encoding",
    "Content-Digest",
    "Connection",
    "Keep-Alive",
    "Transfer-Encoding",
    "TE",
    "Trailer",
    "Upgrade",
    "HTTP2-Settings",
    "Expect",
    "Proxy-Authorization",
    "Proxy-Connection",
    "Sec-WebSocket-Key",
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Real-IP",
    "X-Original-URL",
    "X-HTTP-Method-Override",
    "If-None-Match",
    "Range",
    "Accept-Encoding",
    "Date",
    "Idempotency-Key",
    "Cookie",
    "X-Amz-Security-Token",
    "X-AMZN-Trace-Id",
    "X-aws-ec2-metadata-token",
    "Metadata-Flavor",
    "X-Zapgate-Tenant",
]

THEIRS = [
    "Authorization",
    "X-Api-Key",
    "x-functions-key",
    "CF-Access-Client-Secret",
    "ngrok-skip-browser-warning",
    "X-Vercel-Protection-Bypass",
    "Accept",
    "Webhooks",
    "Contents",
    "Hosted",
    "!#$%&'*+-.^_`|~9",
]


def codes(given: dict[str, str]) -> list[tuple[str | None, str]]:
    return [(wrong.name, wrong.code) for wrong in headers.judge(given)]


@pytest.mark.parametrize("name", OURS)
def test_what_is_ours_or_could_smuggle_cannot_be_set(name: str) -> None:
    """Refused with the rule it falls under and why that rule is."""
    (wrong,) = headers.judge({name: "x"})

    assert (wrong.name, wrong.code) == (name, "header_reserved")
    pattern, _, reason = wrong.detail.partition(" cannot be set. ")
    assert headers.RESERVED[pattern] == reason


@given(st.sampled_from(OURS), st.randoms(), st.sampled_from("-_.~!|"))
def test_no_spelling_of_it_slips_through(name: str, random: Random, sign: str) -> None:
    """Neither in other case, nor with signs that CGI's heirs take for a hyphen."""
    spelt = "".join(random.choice([each.lower(), each.upper()]) for each in name)

    assert codes({spelt.replace("-", sign): "x"})[0][1] == "header_reserved"


@pytest.mark.parametrize("name", THEIRS)
def test_what_receivers_ask_for_can_be_set(name: str) -> None:
    """Credentials and switches of all kinds, and any other name a field may have."""
    assert headers.judge({name: "Bearer a\tb  c=="}) == ()


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a:", ":path", "a\r\nb", "ä", "a/b", 'a"', "a\x00"]
)
def test_a_name_is_a_token(name: str) -> None:
    """RFC 9110: no blanks, colons, line ends or letters beyond ASCII."""
    assert codes({name: "x"}) == [(name, "header_name")]


@pytest.mark.parametrize(
    "value", ["", " x", "x ", "\tx", "x\r\ny: z", "x\n", "x\ry", "x\x00", "grün", "x\x7f", "\x0b"]
)
def test_a_value_is_visible_ascii(value: str) -> None:
    """Nothing that ends a line or is trimmed on the way, and not nothing."""
    assert codes({"X-A": value}) == [("X-A", "header_value")]


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=40), max_size=25))
def test_what_is_accepted_is_one_line_each(given: dict[str, str]) -> None:
    """Whatever is given, accepted headers cannot become other headers than they are."""
    if headers.judge(given):
        return
    wire = "".join(f"{name}: {value}\r\n" for name, value in given.items()).encode("ascii")
    lines = wire.split(b"\r\n")[:-1]

    assert len(lines) == len(given) <= headers.MOST
    assert dict(line.decode().split(": ", 1) for line in lines) == given
    assert not any(headers.reserved(name) for name in given)


@pytest.mark.parametrize("other", ["X-KEY", "x-key", "X_Key", "x.key"])
def test_one_name_is_set_once(other: str) -> None:
    """Names that a receiver may take for the same are; the second is pointed at."""
    (wrong,) = headers.judge({"X-Key": "1", other: "2"})

    assert (wrong.name, wrong.code) == (other, "header_repeated")
    assert "X-Key" in wrong.detail


def test_every_wrong_header_is_named() -> None:
    """In their order, so that all can be mended at once."""
    wrong = codes({"Host": "x", "X-Good": "x", "a b": "x", "X-Bad": ""})

    assert wrong == [("Host", "header_reserved"), ("a b", "header_name"), ("X-Bad", "header_value")]


def test_headers_are_bounded() -> None:
    """In number, each and in all; up to the bound they are allowed."""
    name = "X-Long"
    longest = "v" * (headers.LONGEST - len(name))
    assert codes({name: longest}) == []
    assert codes({name: longest + "v"}) == [(name, "header_too_long")]

    whole = {
        f"X{n}": "v" * (headers.LONGEST - 2) for n in range(headers.LARGEST // headers.LONGEST)
    }
    assert codes(whole) == []
    assert codes({**whole, "Y": "v"}) == [(None, "headers_too_large")]

    many = {f"X{n}": "v" for n in range(headers.MOST)}
    assert codes(many) == []
    assert codes({**many, "Y": "v"}) == [(None, "too_many_headers")]


@given(st.dictionaries(st.sampled_from(THEIRS), st.text('ab"\\ ', min_size=1), max_size=5))
def test_headers_are_kept_sealed(given: dict[str, str]) -> None:
    """What is put in comes out; the row shows names alone, and none leave nothing."""
    row = headers.with_headers(SEALS, ENDPOINT, given, NONCE)

    assert row.header_names == tuple(given)
    assert (row.sealed_headers is None) == (not given)
    assert headers.opened(SEALS, row) == given


def test_a_sealed_value_opens_only_as_what_it_is() -> None:
    """A secret is no headers, headers are no secret, and another endpoint's are neither."""
    row = headers.with_headers(SEALS, ENDPOINT, {"Authorization": "Bearer x"}, NONCE)
    secret = sealing.seal(SEALS, ENDPOINT.owner, '{"Authorization":"Bearer x"}', NONCE)
    sealed = row.sealed_headers
    assert sealed is not None
    assert b"Bearer" not in sealed

    for swapped in (
        msgspec.structs.replace(row, sealed_headers=secret),
        msgspec.structs.replace(row, id=EndpointId("ep_2")),
        msgspec.structs.replace(row, tenant_id=TenantId("ten_2")),
    ):
        with pytest.raises(Forged):
            headers.opened(SEALS, swapped)
    with pytest.raises(Forged):
        sealing.unseal(SEALS, ENDPOINT.owner, sealed)


NAMES = st.sampled_from(["webhook-id", "Webhook_Id", "WEBHOOK.ID", "x-a", "X-A", "host"])


@given(st.dictionaries(NAMES, st.just("theirs")), st.dictionaries(NAMES, st.just("ours")))
def test_ours_come_last_and_win(theirs: dict[str, str], ours: dict[str, str]) -> None:
    """Even if a header like ours was ever stored, in any spelling, ours alone is sent."""
    merged = headers.merged(theirs, ours)

    names = {headers.folded(name) for name in ours}
    assert list(merged.items())[len(merged) - len(ours) :] == list(ours.items())
    for name, value in merged.items():
        assert (value == "ours") == (headers.folded(name) in names)


@pytest.mark.parametrize(
    ("after", "follows"),
    [
        ("https://example.com/other?x=1", True),
        ("https://EXAMPLE.com:443/", True),
        ("https://example.com:8443/", False),
        ("https://example.org/", False),
        ("https://sub.example.com/", False),
        ("http://example.com/", False),
    ],
)
def test_headers_stay_on_their_server(after: str, *, follows: bool) -> None:
    """Another scheme, host or port is another server."""
    assert headers.may_follow("https://example.com/hook", after) is follows


def test_all_endpoints_of_a_tenant_fit_a_page() -> None:
    """A gateway reads them with one query, which DynamoDB ends at 1 MB."""
    # JSON writes a quotation mark with two bytes.
    largest = {f"X{n}": '"' * (headers.LONGEST - 2) for n in range(4)}
    assert headers.judge(largest) == ()
    former = Retired(sealed=b"s" * 90, until=2**43)
    row = msgspec.structs.replace(
        headers.with_headers(SEALS, ENDPOINT, largest, NONCE),
        url="u" * LONGEST_URL,
        events=("message.received",) * 50,
        sessions=(SessionId("s" * 30),) * 50,
        description="🙂" * 500,
        sealed_secret=b"s" * 90,
        retired=(former,) * RETIRED_SECRETS,
        disabled_reason="r" * 200,
    )
    item = to_item(row, keys.endpoint(row.tenant_id, row.id))

    assert weight(item) * ENDPOINTS_PER_TENANT < 1_000_000


def weight(tagged: Any) -> int:
    """Bytes of a DynamoDB value: names and values, and a little for each element."""
    match tagged:
        case dict():
            members = cast("dict[str, Any]", tagged)
            return sum(len(name) + weight(value) + 3 for name, value in members.items())
        case list():
            return sum(weight(each) + 3 for each in cast("list[Any]", tagged))
        case bytes():
            return len(tagged)
        case _:
            return len(str(tagged).encode())
