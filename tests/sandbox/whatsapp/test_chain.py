import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.whatsapp.chain import MAX_SKIPPED, Chain, ReceivingChain
from sandbox.whatsapp.signal_errors import DuplicateMessageError, TooFarAheadError

START = Chain(bytes.fromhex("8ab72d6f4cc5ac0d387eaf463378ddb28edd07385b1cb01250c715982e7ad48f"))


def test_the_next_link_is_the_published_one() -> None:
    """A link follows from the one before as in Signal's library."""
    following = START.following()

    assert following.index == 1
    assert following.key.hex() == "28e8f8fee54b801eef7c5cfb2f17f32c7b334485bbb70fac6ec10342a246d15d"


@given(st.lists(st.integers(0, 30)))
def test_every_seed_is_given_once(order: list[int]) -> None:
    """In whatever order messages come, each gets the seed of its link, and gets it once."""
    _, seeds = START.until(31)
    chain, taken = ReceivingChain(START), set[int]()

    for number in order:
        if number in taken:
            with pytest.raises(DuplicateMessageError):
                chain.take(number)
        else:
            chain, seed = chain.take(number)
            taken.add(number)
            assert seed == seeds[number]


def test_no_more_than_the_limit_is_skipped() -> None:
    """One message may step over MAX_SKIPPED links and no more."""
    chain = ReceivingChain(START)

    chain.take(MAX_SKIPPED)
    with pytest.raises(TooFarAheadError):
        chain.take(MAX_SKIPPED + 1)


def test_the_oldest_skipped_seeds_make_room() -> None:
    """No more than MAX_SKIPPED seeds are kept; those skipped first go first."""
    chain, _ = ReceivingChain(START).take(MAX_SKIPPED)
    chain, _ = chain.take(MAX_SKIPPED + 3)

    assert len(chain.skipped) == MAX_SKIPPED
    with pytest.raises(DuplicateMessageError):
        chain.take(1)
    chain.take(2)
