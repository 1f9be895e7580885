from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.whatsapp import curve
from sandbox.whatsapp.curve import CurveError

hexadecimal = bytes.fromhex
seeds = st.integers(0, 2**32)
relaxed = partial(settings, deadline=None)

# From the tests of Signal's C library.
SIGNER_PRIVATE = hexadecimal("c097248412e58bf05df487968205132794178e367637f5818f81e0e6ce73e865")
SIGNER_PUBLIC = hexadecimal("ab7e717d4a163b7d9a1d8071dfe9dcf8cdcd1cea3339b6356be84d887e322c64")
SIGNED = hexadecimal("05edce9d9c415ca78cb7252e72c2c4a554d3eb29485a0e1d503118d1a82d99fb4a")
SIGNATURE = hexadecimal(
    "5de88ca9a89b4a115da79109c67c9c7464a3e4180274f1cb8c63c2984e286dfb"
    "ede82deb9dcd9fae0bfbb821569b3d9001bd8130cd11d486cef047bd60b86e88"
)


@pytest.mark.parametrize(
    ("private", "public", "shared"),
    [
        pytest.param(
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
            id="RFC 7748, section 5.2, first",
        ),
        pytest.param(
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
            id="RFC 7748, section 5.2, second",
        ),
        pytest.param(
            "c806439dc9d2c476ffed8f2580c0888d58ab406bf7ae3698879021b96bb4bf59",
            "653614993d2b15ee9e5fd3d86ce719ef4ec1daae1886a87b3f5fa9565a27a22f",
            "325f239328941ced6e673b86ba41017448e99b649a9c3806c1dd7ca4c477e629",
            id="Signal",
        ),
    ],
)
def test_agreement_gives_the_published_secrets(private: str, public: str, shared: str) -> None:
    """X25519 agrees with RFC 7748 and with Signal's library."""
    assert curve.agree(hexadecimal(private), hexadecimal(public)) == hexadecimal(shared)


@relaxed()
@given(seeds, seeds)
def test_both_sides_agree(one: int, other: int) -> None:
    """Whoever computes it, the secret is the same."""
    ours, theirs = curve.generate(Random(one).randbytes), curve.generate(Random(other).randbytes)

    assert curve.agree(ours.private, theirs.public) == curve.agree(theirs.private, ours.public)


@pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31), b"", bytes(31), bytes(33)])
def test_a_key_that_gives_no_secret_is_refused(public: bytes) -> None:
    """Points of small order and keys of a wrong size are errors, not secrets."""
    with pytest.raises(CurveError):
        curve.agree(curve.generate(Random(0).randbytes).private, public)


def test_a_private_key_of_the_wrong_size_signs_nothing() -> None:
    """A cut key is an error, not another key."""
    with pytest.raises(CurveError):
        curve.sign(bytes(31), b"message", Random(0).randbytes)


def test_the_published_signature_verifies() -> None:
    """A signature made by Signal's library is accepted."""
    assert curve.verify(SIGNER_PUBLIC, SIGNED, SIGNATURE)


def test_the_published_key_signs() -> None:
    """What Signal's key signs here verifies with Signal's public key."""
    assert curve.key_pair(SIGNER_PRIVATE).public == SIGNER_PUBLIC
    assert curve.verify(
        SIGNER_PUBLIC, SIGNED, curve.sign(SIGNER_PRIVATE, SIGNED, Random(0).randbytes)
    )


@pytest.mark.parametrize("bit", range(0, 512, 5))
def test_no_bit_of_a_signature_is_idle(bit: int) -> None:
    """Any bit flipped in a signature makes it invalid; the sign bit too."""
    flipped = bytearray(SIGNATURE)
    flipped[bit // 8] ^= 1 << bit % 8

    assert not curve.verify(SIGNER_PUBLIC, SIGNED, bytes(flipped))


@relaxed()
@given(seeds, st.binary(max_size=200), st.binary(min_size=1, max_size=200))
def test_a_signature_is_for_one_message_and_one_key(
    seed: int, message: bytes, extra: bytes
) -> None:
    """A signature verifies for its message and signer, and for no other."""
    rand = Random(seed).randbytes
    signer, stranger = curve.generate(rand), curve.generate(rand)
    signature = curve.sign(signer.private, message, rand)

    assert curve.verify(signer.public, message, signature)
    assert not curve.verify(signer.public, message + extra, signature)
    assert not curve.verify(stranger.public, message, signature)


@given(st.binary(max_size=70), st.binary(max_size=70), st.binary(max_size=70))
def test_verifying_rubbish_is_false(public: bytes, message: bytes, signature: bytes) -> None:
    """Verification answers False to anything, and never raises."""
    assert not curve.verify(public, message, signature)


def test_a_key_pair_does_not_show_its_secret() -> None:
    """The representation of a key pair, which may be logged, has only the public key in it."""
    pair = curve.generate(Random(0).randbytes)

    assert repr(pair) == f"KeyPair(public={pair.public.hex()})"


@given(st.binary(max_size=40))
def test_typed_keys_are_read_back_or_refused(data: bytes) -> None:
    """33 bytes that begin with 05 name a key; nothing else does."""
    if len(data) == 33 and data.startswith(b"\x05"):
        assert curve.with_type(curve.without_type(data)) == data
    else:
        with pytest.raises(CurveError):
            curve.without_type(data)
