import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import ids
from tests.strategies import MOMENTS

RANDOM = st.binary(min_size=10, max_size=10)


@given(MOMENTS, RANDOM, MOMENTS, RANDOM)
def test_ids_sort_by_the_time_they_were_minted(a: int, x: bytes, b: int, y: bytes) -> None:
    """An older id of a kind is less than a younger one, as text."""
    first, second = ids.mint("msg", a, x), ids.mint("msg", b, y)

    assert (first < second) == ((a, x) < (b, y))


@given(MOMENTS, RANDOM)
def test_an_id_tells_its_kind_and_time(now: int, random: bytes) -> None:
    """What was minted is recognised as its kind only, and says when."""
    minted = ids.mint(ids.SESSION, now, random)

    assert ids.is_id(ids.SESSION, minted)
    assert not ids.is_id(ids.MESSAGE, minted)
    assert ids.minted_at(minted) == now
    assert ids.floor(ids.SESSION, now) <= minted
    assert re.fullmatch(r"ses_[0-9a-z]{26}", minted)


@given(st.text())
def test_nothing_else_is_an_id(text: str) -> None:
    """Free text is no id, and asking its age is an error that names it."""
    if not any(ids.is_id(kind, text) for kind in ("ten", "ses", "msg", "ep", "evt")):
        with pytest.raises(ValueError, match="not an id"):
            ids.minted_at(text)


@given(st.lists(st.tuples(MOMENTS, RANDOM), min_size=2, max_size=20))
def test_ids_of_one_minter_sort_as_they_were_minted(drawn: list[tuple[int, bytes]]) -> None:
    """Within a millisecond, and whatever the clock does."""
    minted = [""]
    for now, random in drawn:
        minted.append(ids.following(minted[-1], ids.mint(ids.EVENT, now, random)))

    assert sorted(set(minted)) == minted
    assert all(ids.is_id(ids.EVENT, each) for each in minted[1:])


def test_a_later_id_is_taken_as_it_is() -> None:
    """Only what would sort wrongly is changed, and by no more than it takes."""
    first = ids.mint(ids.EVENT, 1, b"\xff" * 10)
    later = ids.mint(ids.EVENT, 2, b"\x00" * 10)

    assert ids.following(first, later) == later
    assert ids.following(later, first) == ids.mint(ids.EVENT, 2, b"\x00" * 9 + b"\x01")
    assert ids.following(first, first) == later


def test_randomness_is_whole() -> None:
    """An id is never minted from less randomness than it promises."""
    with pytest.raises(ValueError, match="random bytes"):
        ids.mint("msg", 0, b"short")


@given(MOMENTS, RANDOM)
def test_the_command_that_sends_a_message_has_one_id(now: int, random: bytes) -> None:
    """Each message has a command id of its own, always the same."""
    message_id = ids.MessageId(ids.mint(ids.MESSAGE, now, random))

    assert ids.send_command(message_id) == ids.mint(ids.COMMAND, now, random)
