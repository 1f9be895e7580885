"""The handshake: whoever knows the root comes through, and whoever lies does not."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.whatsapp import wire
from sandbox.whatsapp.curve import generate
from sandbox.whatsapp.noise import Established, HandshakeError, Responder, certify
from tests.sandbox.initiator import Initiator

NOW = 1_800_000_000
RAND = random.Random(7).randbytes
ROOT = generate(RAND)
IDENTITY = certify(ROOT, NOW, RAND)


def shake_hands(payload: bytes = b"payload") -> tuple[Initiator, Established]:
    initiator, responder = Initiator(ROOT.public), Responder(IDENTITY, RAND)
    last, _, _ = initiator.finish(responder.hello(initiator.hello()), payload, NOW)
    return initiator, responder.finish(last)


@given(st.binary(max_size=500), st.lists(st.binary(max_size=100), max_size=5))
def test_both_sides_reach_the_same_keys(payload: bytes, frames: list[bytes]) -> None:
    """The server learns who the client is and what it says; then frames pass both ways."""
    initiator, responder = Initiator(ROOT.public), Responder(IDENTITY, RAND)
    answer = responder.hello(initiator.hello())
    last, sending, receiving = initiator.finish(answer, payload, NOW)
    established = responder.finish(last)
    assert (established.client, established.payload) == (initiator.static.public, payload)
    for frame in frames:
        assert established.receiving.decrypt(sending.encrypt(frame)) == frame
        assert receiving.decrypt(established.sending.encrypt(frame)) == frame


def test_another_root_does_not_vouch_for_the_server() -> None:
    """A client that was given another root refuses the certificates."""
    initiator, responder = Initiator(generate(RAND).public), Responder(IDENTITY, RAND)
    with pytest.raises(AssertionError):
        initiator.finish(responder.hello(initiator.hello()), b"", NOW)


@given(st.data())
def test_a_changed_last_frame_is_refused(data: st.DataObject) -> None:
    """Every byte of what the client sends is authenticated."""
    initiator, responder = Initiator(ROOT.public), Responder(IDENTITY, RAND)
    last, _, _ = initiator.finish(responder.hello(initiator.hello()), b"payload", NOW)
    at = data.draw(st.integers(0, len(last) - 1))
    changed = bytes([last[at] ^ data.draw(st.integers(1, 255))])
    with pytest.raises(HandshakeError):
        responder.finish(last[:at] + changed + last[at + 1 :])


@given(st.binary(max_size=100))
def test_garbage_is_no_hello(frame: bytes) -> None:
    """Whatever arrives first is a hello or refused."""
    with pytest.raises(HandshakeError):
        Responder(IDENTITY, RAND).hello(frame)


def test_a_key_of_small_order_is_refused() -> None:
    """A client cannot make the secret zero."""
    with pytest.raises(HandshakeError):
        Responder(IDENTITY, RAND).hello(wire.encode((2, wire.encode((1, bytes(32))))))


def test_each_frame_counts_also_one_that_fails() -> None:
    """A frame cannot be played again, nor taken out of its place."""
    initiator, responder = Initiator(ROOT.public), Responder(IDENTITY, RAND)
    last, sending, _ = initiator.finish(responder.hello(initiator.hello()), b"", NOW)
    established = responder.finish(last)
    frames = [sending.encrypt(b"one"), sending.encrypt(b"two")]
    with pytest.raises(HandshakeError):
        established.receiving.decrypt(frames[1])
    assert established.receiving.decrypt(frames[1]) == b"two"
    with pytest.raises(HandshakeError):
        established.receiving.decrypt(frames[0])
