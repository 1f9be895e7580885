import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import apikey

RANDOM = st.binary(min_size=32, max_size=32)


@given(RANDOM)
def test_a_minted_key_is_well_formed_and_typos_are_not(random: bytes) -> None:
    """Any change of one character is caught without a look-up."""
    key = apikey.mint(random)

    assert apikey.well_formed(key)
    for place in range(len(apikey.PREFIX), len(key)):
        other = "0" if key[place] != "0" else "1"
        assert not apikey.well_formed(key[:place] + other + key[place + 1 :])


@given(RANDOM, RANDOM, st.binary(min_size=1), st.binary(min_size=1))
def test_the_digest_depends_on_key_and_pepper(a: bytes, b: bytes, p: bytes, q: bytes) -> None:
    """Two keys, or two peppers, never share a digest."""
    one, other = apikey.mint(a), apikey.mint(b)

    assert (apikey.digest(p, one) == apikey.digest(p, other)) == (one == other)
    assert apikey.digest(b"p" + p, one) != apikey.digest(b"q" + q, one)


@given(RANDOM)
def test_the_hint_does_not_give_the_key_away(random: bytes) -> None:
    """Only the prefix and four characters are ever shown again."""
    key = apikey.mint(random)

    assert len(apikey.hint(key)) == len(apikey.PREFIX) + 1 + 4


@given(st.text())
def test_garbage_is_not_well_formed(text: str) -> None:
    """Free text is refused, whatever it holds."""
    assert not apikey.well_formed(text)


def test_a_key_is_never_minted_from_too_little() -> None:
    """A short source of randomness is an error, not a weak key."""
    with pytest.raises(ValueError, match="32 random bytes"):
        apikey.mint(b"1234")
