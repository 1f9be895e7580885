from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.whatsapp import curve, x3dh
from sandbox.whatsapp.curve import KeyPair
from sandbox.whatsapp.ratchet import Unanswered
from sandbox.whatsapp.signal_errors import BadSignatureError, MalformedMessageError
from sandbox.whatsapp.x3dh import PreKey, PreKeyBundle, PreKeyMessage

# From the tests of Signal's C library: one agreement, no one-time prekey. Its private base key
# is one that X25519 would clamp, so only the responder's side can be compared.
ALICE = curve.key_pair(
    bytes.fromhex("9040f0d4e09cf38f6dc7c13779c908c015a1da4fa78737a080eb0a6f4f5f8f58")
)
ALICE_BASE = bytes.fromhex("472d1fb1a9862c3af6beaca8920277e2b26f4a79213ec7c906aeb35e03cf8950")
BOB = curve.key_pair(
    bytes.fromhex("4875cc69ddf8ea0719ec947d61081135868d5fd801f02c0225e516df2156605e")
)
BOB_PREKEY = curve.key_pair(
    bytes.fromhex("583900131fb727998b7803fe6ac22cc591f342e4e42a8c8d5d78194209b8d253")
)
CHAIN = bytes.fromhex("9797caca53c989bbe229a40ca7727010eb2604fc14945d77958a0aeda088b44d")


def bundle(one_time: PreKey | None = None) -> PreKeyBundle:
    signed = x3dh.sign_prekey(BOB, BOB_PREKEY, 1, Random(0).randbytes)
    return PreKeyBundle(7, BOB.public, signed, one_time)


def first_message(base: bytes, identity: bytes = ALICE.public) -> PreKeyMessage:
    return PreKeyMessage(1, base, identity, b"", Unanswered(1))


def test_the_responder_reaches_the_published_chain() -> None:
    """Bob's sending chain is the one Signal's library computes."""
    session = x3dh.respond(BOB, BOB_PREKEY, None, first_message(ALICE_BASE))

    assert session.sending.key == CHAIN


@settings(deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_both_sides_reach_the_same_chain(seed: int, with_one_time: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    """With a one-time prekey or without, the responder can read what the initiator sends."""
    rand = Random(seed).randbytes
    one_time: KeyPair | None = curve.generate(rand) if with_one_time else None
    offered = bundle(PreKey(9, one_time.public) if one_time else None)
    session = x3dh.initiate(ALICE, offered, rand)

    joined = x3dh.respond(BOB, BOB_PREKEY, one_time, first_message(session.base_key))

    _, message = session.encrypt(b"hello")
    assert joined.decrypt(message, rand)[1] == b"hello"
    assert session.unanswered == Unanswered(1, 9 if with_one_time else None)


def test_a_bundle_must_be_signed_by_its_identity() -> None:
    """A prekey somebody else put into a bundle is refused before anything is computed."""
    stranger = curve.generate(Random(5).randbytes)
    forged = msgspec.structs.replace(bundle(), identity=stranger.public)

    with pytest.raises(BadSignatureError):
        x3dh.initiate(ALICE, forged, Random(0).randbytes)


def test_a_bundle_with_an_unusable_key_is_refused() -> None:
    """A one-time prekey of small order gives a typed error, not a session."""
    with pytest.raises(MalformedMessageError):
        x3dh.initiate(ALICE, bundle(PreKey(3, bytes(32))), Random(0).randbytes)


@given(
    st.builds(
        PreKeyMessage,
        registration_id=st.integers(0, 2**32 - 1),
        base_key=st.binary(min_size=32, max_size=32),
        identity=st.binary(min_size=32, max_size=32),
        message=st.binary(max_size=100),
        prekeys=st.builds(
            Unanswered,
            signed_prekey_id=st.integers(0, 2**24 - 1),
            one_time_id=st.none() | st.integers(1, 2**24 - 1),
        ),
    )
)
def test_a_first_message_is_read_back(message: PreKeyMessage) -> None:
    """What is written is read back; a one-time id of None is no field at all."""
    assert PreKeyMessage.decode(message.encode()) == message


def test_the_wire_format_is_signals() -> None:
    """Version byte, typed keys of 33 bytes, and Signal's field numbers."""
    message = PreKeyMessage(5, ALICE.public, BOB.public, b"m", Unanswered(1, 2))

    assert message.encode() == b"".join(
        [
            b"\x33\x08\x02",
            b"\x12\x21\x05" + ALICE.public,
            b"\x1a\x21\x05" + BOB.public,
            b"\x22\x01m\x28\x05\x30\x01",
        ]
    )


def test_a_one_time_id_of_zero_means_none() -> None:
    """Clients that have no one-time prekey write its id as zero."""
    message = PreKeyMessage(5, ALICE.public, BOB.public, b"m", Unanswered(1, 0))

    assert PreKeyMessage.decode(message.encode()).prekeys == Unanswered(1, None)
