import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.whatsapp.symmetric import CipherError, cbc_decrypt, cbc_encrypt, hkdf, hmac_sha256

keys, ivs = st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16)


@pytest.mark.parametrize(
    ("secret", "salt", "info", "derived"),
    [
        pytest.param(
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            id="RFC 5869, A.1",
        ),
        pytest.param(
            "0b" * 22,
            None,
            "",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            id="RFC 5869, A.3",
        ),
    ],
)
def test_hkdf_derives_the_published_keys(
    secret: str, salt: str | None, info: str, derived: str
) -> None:
    """HKDF agrees with RFC 5869, with a salt and without."""
    given_salt = None if salt is None else bytes.fromhex(salt)

    key = hkdf(bytes.fromhex(secret), 42, bytes.fromhex(info), salt=given_salt)

    assert key.hex() == derived


def test_hmac_is_the_published_one() -> None:
    """HMAC over parts is that over the joined parts (RFC 4231, test case 2)."""
    mac = hmac_sha256(b"Jefe", b"what do ya want ", b"for nothing?")

    assert mac.hex() == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"


@given(keys, ivs, st.binary(max_size=100))
def test_what_is_encrypted_is_decrypted(key: bytes, iv: bytes, plaintext: bytes) -> None:
    """Decryption undoes encryption for every length."""
    assert cbc_decrypt(key, iv, cbc_encrypt(key, iv, plaintext)) == plaintext


@given(keys, st.binary(max_size=20), st.binary(max_size=100))
def test_rubbish_decrypts_to_rubbish_or_one_error(key: bytes, iv: bytes, data: bytes) -> None:
    """Random bytes are CipherError, or by chance a plaintext."""
    try:
        cbc_decrypt(key, iv, data)
    except CipherError:
        return
