"""What is kept of headers: bounded, joined and without secrets."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.redaction import LARGEST_HEADERS, MASK, MOST_HEADERS, kept_headers


def size(kept: dict[str, str]) -> int:
    return sum(len(name) + len(value) for name, value in kept.items())


@pytest.mark.parametrize(
    "name",
    [
        "Set-Cookie",
        "cookie",
        "Authorization",
        "Proxy-Authorization",
        "X-Api-Key",
        "apikey",
        "X-Auth-Token",
        "X-CSRF-Token",
        "X-Amz-Security-Token",
        "Client-Secret",
        "X-Password",
        "X-Session-Id",
    ],
)
def test_what_gives_access_is_masked(name: str) -> None:
    """By its name, in any case; the value is not even measured."""
    assert kept_headers([(name, "s3cret")]) == {name.lower(): MASK}
    assert kept_headers([(name, "a"), (name, "b")]) == {name.lower(): MASK}


@pytest.mark.parametrize(
    "name", ["content-type", "www-authenticate", "etag", "x-request-id", "retry-after", "server"]
)
def test_what_explains_an_answer_is_shown(name: str) -> None:
    """A challenge says why a request was refused, and is no secret."""
    assert kept_headers([(name, "value")]) == {name: "value"}


def test_repeated_headers_are_joined_in_their_order() -> None:
    """As RFC 9110, 5.3 says they may be."""
    given_headers = [("Via", "a"), ("X", "1"), ("via", "b"), ("VIA", "c")]
    assert list(kept_headers(given_headers).items()) == [("via", "a, b, c"), ("x", "1")]


def test_a_long_header_does_not_hide_the_others() -> None:
    """What does not fit is left out, and what comes after is kept."""
    long = "y" * LARGEST_HEADERS
    assert kept_headers([("a", "1"), ("b", long), ("c", "3")]) == {"a": "1", "c": "3"}


def test_no_more_than_forty_are_kept() -> None:
    """The first ones."""
    many = [(f"x-{number}", "") for number in range(100)]
    assert kept_headers(many) == dict(many[:MOST_HEADERS])


def test_what_is_no_text_is_made_one() -> None:
    """Bytes outside UTF-8 come as lone surrogates, which no JSON can carry."""
    kept = kept_headers([("x-\udcff", "caf\udce9")])
    assert kept == {"x-\ufffd": "caf\ufffd"}
    assert msgspec.json.encode(kept)


names = st.text("ab-", min_size=1, max_size=3) | st.just("cookie")
values = st.text("xyz", max_size=LARGEST_HEADERS // 2)


@given(st.lists(st.tuples(names, values), max_size=80))
def test_the_bounds_hold_whatever_comes(headers: list[tuple[str, str]]) -> None:
    """Number and size, also where headers repeat."""
    kept = kept_headers(headers)
    assert len(kept) <= MOST_HEADERS
    assert size(kept) <= LARGEST_HEADERS
    assert set(kept) <= {name for name, _ in headers}
