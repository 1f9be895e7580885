from itertools import pairwise

import pytest

from shared.message import RANK, MessageStatus, is_e164, is_recipient

M = MessageStatus


def test_a_message_only_moves_on() -> None:
    """Sent is above queued and uncertain, delivered above sent, read above all."""
    story = [M.QUEUED, M.UNCERTAIN, M.SENT, M.DELIVERED, M.READ]

    assert all(RANK[before] < RANK[later] for before, later in pairwise(story))
    assert RANK[M.QUEUED] < RANK[M.FAILED] < RANK[M.SENT]


@pytest.mark.parametrize("number", ["+4915112345678", "+15551234567", "+2901234", "+8613800000000"])
def test_numbers_in_e164_are_taken(number: str) -> None:
    """A plus, a country, up to fifteen digits."""
    assert is_e164(number)
    assert is_recipient(number)


@pytest.mark.parametrize(
    "text",
    ["", "4915112345678", "+0151123456", "+49 151 1234567", "+491511234567890123", "+49151a",
     "00491511234567", "+", "+123456", "+4915112345678\n", "٤٩١٥١١٢٣٤٥٦٧"],
)  # fmt: skip
def test_everything_else_is_not(text: str) -> None:
    """Spaces, letters, national forms, other scripts' digits: none is guessed at."""
    assert not is_e164(text)
    assert not is_recipient(text)


def test_a_group_is_a_recipient() -> None:
    """A group is addressed by its JID; other JIDs are not."""
    assert is_recipient("120363041234567890@g.us")
    assert is_recipient("4915112345678-1600000000@g.us")
    assert not is_recipient("4915112345678@s.whatsapp.net")
    assert not is_recipient("status@broadcast")
