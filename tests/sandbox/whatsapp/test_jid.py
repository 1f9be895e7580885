"""Addresses read back as they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.whatsapp.jid import Jid, MalformedJidError, lid, parse, phone


@given(
    st.text("0123456789", min_size=1, max_size=20),
    st.sampled_from(["s.whatsapp.net", "lid", "g.us"]),
    st.integers(0, 255),
)
def test_an_address_reads_back(user: str, server: str, device: int) -> None:
    """`user@server`, with the device between them where there is one."""
    jid = Jid(user, server, device)
    assert parse(str(jid)) == jid
    assert parse(str(jid.bare)) == jid.with_device(0) == jid.bare


def test_addresses_look_as_people_know_them() -> None:
    """The forms WhatsApp's clients print."""
    assert str(phone("4915123456789", 3)) == "4915123456789:3@s.whatsapp.net"
    assert str(lid("1234")) == "1234@lid"
    assert str(Jid("", "s.whatsapp.net")) == "s.whatsapp.net"
    assert str(Jid("9", "interop", 1, 2)) == "2-9:1@interop"


@pytest.mark.parametrize("text", ["", "user", "user@", "1:x@lid", "1:256@lid", "1:²@lid", "1:@lid"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """No server, or a device that is no number of one byte."""
    with pytest.raises(MalformedJidError):
        parse(text)
