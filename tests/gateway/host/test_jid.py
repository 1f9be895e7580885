"""WhatsApp's addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from neonize.proto.Neonize_pb2 import JID

from control_plane.event_examples import examples
from gateway.host.jid import Address, address, as_jid, chat, party, recipient
from shared.events import ReceivedMessage

PN = Address("4915112345678", "s.whatsapp.net")
LID = Address("756772701718111", "lid")
GROUP = Address("120363041234567890", "g.us")


@pytest.mark.parametrize(
    ("first", "second", "number", "lid"),
    [
        (PN, None, "+4915112345678", None),
        (LID, None, None, "756772701718111@lid"),
        (LID, PN, "+4915112345678", "756772701718111@lid"),
        (PN, LID, "+4915112345678", "756772701718111@lid"),
        (None, LID, None, "756772701718111@lid"),
        (None, None, None, None),
        (Address("1", "hosted.lid"), None, None, "1@lid"),
        (Address("4915112345678", "hosted"), None, "+4915112345678", None),
        (GROUP, None, None, None),
        (Address("12", "s.whatsapp.net"), None, None, None),
    ],
    ids=str,
)
def test_both_addresses_are_found_in_either_order(
    first: Address | None, second: Address | None, number: str | None, lid: str | None
) -> None:
    """The number is shown where it is known, the LID beside it; what is neither is neither."""
    who = party(first, second)
    assert (who.phone_number, who.lid) == (number, lid)


def test_where_to_answer_prefers_the_number() -> None:
    """Number, else LID, else WhatsApp's own address."""
    assert chat(party(LID, PN), LID) == "+4915112345678"
    assert chat(party(LID, None), LID) == "756772701718111@lid"
    assert chat(party(None, None), Address("x", "bot")) == "x@bot"


def test_an_unset_jid_is_no_address() -> None:
    """An empty message, or one with a server only, addresses nobody."""
    assert address(JID()) is None
    assert address(JID(Server="lid")) is None


def test_devices_are_left_out() -> None:
    """`:12` never reaches a tenant."""
    assert address(JID(User="1", Server="lid", Device=12)) == Address("1", "lid")


@given(st.integers(min_value=1_000_000, max_value=10**15 - 1))
def test_a_recipient_survives_the_way_to_the_library(number: int) -> None:
    """E.164 becomes the user's JID, with every field the library's schema requires."""
    to = recipient(f"+{number}")
    assert to.number == f"+{number}"
    jid = JID.FromString(as_jid(to).SerializeToString())
    assert (jid.User, jid.Server, jid.Device) == (str(number), "s.whatsapp.net", 0)


def test_a_group_is_addressed_by_its_jid() -> None:
    """Canonical recipients are numbers or groups."""
    assert recipient(str(GROUP)) == GROUP
    assert GROUP.is_group


def test_the_catalogues_examples_write_addresses_as_they_are_sent() -> None:
    """Numbers in E.164, all else as JIDs."""
    one, other = Address("4915112345678", "s.whatsapp.net"), Address("123456789012345", "lid")
    ada = party(one, other, "Ada")
    hidden = party(other, None, "Ada")

    shown = [each.data for each in examples("message.received")]

    found = [each for each in shown if isinstance(each, ReceivedMessage)]
    assert len(found) == len(shown) > 2
    assert {each.sender for each in found} == {ada, hidden}
    assert {each.chat for each in found if not each.group} == {ada.phone_number, hidden.lid}
