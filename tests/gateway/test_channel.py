"""Frames on a stream."""

import asyncio
import socket

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.channel import FROM_HOST, TO_HOST, Splitter, over, pack
from gateway.frames import LARGEST_FRAME, Farewell, Ping, Pulse, Ready, Recorded, RequestCode
from shared.errors import Malformed

to_host = st.one_of(
    st.just(Ping(until=1.5)),
    st.builds(Recorded, sequence=st.integers(min_value=0, max_value=2**53)),
    st.builds(RequestCode, phone_number=st.text(max_size=2000)),
)


@given(st.lists(to_host, max_size=20), st.data())
def test_frames_survive_any_cut(frames: list[msgspec.Struct], data: st.DataObject) -> None:
    """However the bytes are split or joined on the way, the frames come out whole and in order."""
    stream = b"".join(pack(frame) for frame in frames)
    splitter = Splitter(TO_HOST)
    seen: list[object] = []
    while stream:
        size = data.draw(st.integers(min_value=1, max_value=len(stream)))
        seen += splitter.feed(stream[:size])
        stream = stream[size:]
    assert seen == frames


@given(st.binary(min_size=4, max_size=200))
def test_garbage_is_refused_or_waited_for(data: bytes) -> None:
    """Bytes that are no frames are never taken for one that was not sent."""
    try:
        frames = Splitter(FROM_HOST).feed(data)
    except Malformed:
        return
    for frame in frames:
        assert isinstance(frame, Ready | Pulse | Farewell | msgspec.Struct)


def test_a_length_beyond_the_limit_is_refused_before_it_is_waited_for() -> None:
    """A broken stream does not make the reader collect gigabytes."""
    with pytest.raises(Malformed, match="claims"):
        Splitter(TO_HOST).feed((LARGEST_FRAME + 1).to_bytes(4))


def test_a_frame_that_does_not_decode_is_refused() -> None:
    """A frame of the other direction is as foreign as garbage."""
    with pytest.raises(Malformed, match="decode"):
        Splitter(TO_HOST).feed(pack(Farewell(asked=True)))


def test_what_no_receiver_would_take_is_not_sent() -> None:
    """The limit holds on both sides."""
    with pytest.raises(ValueError, match="bytes"):
        pack(RequestCode(phone_number="1" * (LARGEST_FRAME + 1)))


async def test_a_channel_carries_frames_and_tells_its_end() -> None:
    """What one end writes the other receives; after the end comes nothing, without an error."""
    here, there = socket.socketpair()
    gateway, host = await over(here, FROM_HOST), await over(there, TO_HOST)
    await gateway.send(Ping(until=1.5))
    gateway.post(Recorded(sequence=7))
    seen: list[object] = []
    async with asyncio.timeout(30):
        while len(seen) < 2:
            seen += await host.receive()
    assert seen == [Ping(until=1.5), Recorded(sequence=7)]
    await host.close()
    assert await gateway.receive() == []
    await gateway.send(Ping(until=1.5))
    await gateway.close()
    gateway.post(Ping(until=1.5))
