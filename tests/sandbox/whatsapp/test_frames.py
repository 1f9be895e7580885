"""Frames are the same however they were cut on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.whatsapp.frames import MAX_LENGTH, PROLOGUE, Frames, MalformedFrameError, frame

OPENINGS = [PROLOGUE, b"ED\0\1\0\0\5route" + PROLOGUE]


@given(st.sampled_from(OPENINGS), st.lists(st.binary(max_size=50), max_size=5), st.data())
def test_any_cut_gives_the_same_frames(
    opening: bytes, sent: list[bytes], data: st.DataObject
) -> None:
    """Pieces of any size add up to the frames that were sent, in order."""
    stream = opening + b"".join(map(frame, sent))
    frames, got = Frames(), list[bytes]()
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += frames.feed(stream[:size])
        stream = stream[size:]
    assert got == sent


@pytest.mark.parametrize("opening", [b"XX\6\3", b"WA\5\3", b"WA\6\2", b"ED\0\1\0\0\0XX\6\3"])
def test_another_opening_is_refused(opening: bytes) -> None:
    """Only WhatsApp Web of this dictionary's version is spoken here."""
    with pytest.raises(MalformedFrameError):
        Frames().feed(opening)


def test_a_frame_has_a_largest_size() -> None:
    """Three bytes cannot tell a longer one."""
    assert frame(bytes(5)) == b"\0\0\5" + bytes(5)
    with pytest.raises(MalformedFrameError):
        frame(bytes(MAX_LENGTH))
