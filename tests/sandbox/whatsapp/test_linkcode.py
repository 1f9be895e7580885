from random import Random

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from sandbox.whatsapp import curve, linkcode
from sandbox.whatsapp.curve import KeyPair
from sandbox.whatsapp.linkcode import CodeFormatError, ExchangeError, WrongCodeError
from sandbox.whatsapp.symmetric import hkdf

rand = Random(5).randbytes
CODE = "ABCD2345"


class Companion:
    """The other side of the exchange, as a linked device computes it."""

    def __init__(self) -> None:
        self.identity, self.ephemeral = curve.generate(rand), curve.generate(rand)
        self.hello = linkcode.wrap_key(CODE, self.ephemeral.public, rand)

    def finish(self, phone_hello: bytes, account: bytes) -> tuple[bytes, bytes]:
        """Return the bundle for the phone, and the secret."""
        agreed = curve.agree(self.ephemeral.private, linkcode.unwrap_key(CODE, phone_hello))
        salt, nonce, randomness = rand(32), rand(12), rand(32)
        key = hkdf(agreed, 32, b"link_code_pairing_key_bundle_encryption_key", salt=salt)
        opened = self.identity.public + account + randomness
        bundle = salt + nonce + AESGCM(key).encrypt(nonce, opened, None)
        identities = curve.agree(self.identity.private, account)
        return bundle, hkdf(agreed + identities + randomness, 32, b"adv_secret")


@pytest.fixture(scope="module")
def account() -> KeyPair:
    return curve.generate(rand)


@pytest.mark.parametrize("typed", ["ABCD-2345", "abcd2345", " aBcD 2345\n"])
def test_both_sides_reach_the_same_secret(account: KeyPair, typed: str) -> None:
    """However the right code is typed, phone and companion agree on the secret."""
    companion = Companion()
    attempt = linkcode.answer(typed, companion.hello, rand)
    bundle, secret = companion.finish(attempt.hello, account.public)

    reached = linkcode.finish(attempt, account, companion.identity.public, bundle)

    assert reached == secret


def test_a_wrong_code_is_noticed_at_the_end(account: KeyPair) -> None:
    """Another code opens the hello to some key, but never the bundle."""
    companion = Companion()
    attempt = linkcode.answer("ABCD2346", companion.hello, rand)
    bundle, _ = companion.finish(attempt.hello, account.public)

    with pytest.raises(WrongCodeError):
        linkcode.finish(attempt, account, companion.identity.public, bundle)


def test_a_bundle_about_other_identities_is_refused(account: KeyPair) -> None:
    """The bundle must name the companion that stands beside it, and this phone's account."""
    companion, stranger = Companion(), curve.generate(rand)
    attempt = linkcode.answer(CODE, companion.hello, rand)
    bundle, _ = companion.finish(attempt.hello, account.public)
    foreign, _ = companion.finish(attempt.hello, stranger.public)

    for named, sent in [
        (stranger.public, bundle),
        (companion.identity.public, foreign),
        (bytes(32), bundle),
        (b"", bundle),
    ]:
        with pytest.raises(ExchangeError):
            linkcode.finish(attempt, account, named, sent)


def test_a_bundle_of_the_wrong_size_is_refused(account: KeyPair) -> None:
    """A short bundle is malformed, a cut one does not open."""
    companion = Companion()
    attempt = linkcode.answer(CODE, companion.hello, rand)
    bundle, _ = companion.finish(attempt.hello, account.public)

    for sent, error in [
        (b"", ExchangeError),
        (bundle[:50], ExchangeError),
        (bundle[:-1], WrongCodeError),
    ]:
        with pytest.raises(error):
            linkcode.finish(attempt, account, companion.identity.public, sent)


@pytest.mark.parametrize("size", [0, 79, 81])
def test_a_hello_of_the_wrong_size_is_refused(size: int) -> None:
    """A wrapped key has 80 bytes."""
    with pytest.raises(ExchangeError):
        linkcode.answer(CODE, bytes(size), rand)


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        pytest.param("ABCD-234", "8 characters, not 7", id="short"),
        pytest.param("", "8 characters, not 0", id="empty"),
        pytest.param("ABCD-23456", "8 characters, not 9", id="long"),
        pytest.param("OBCD-I345", "does not contain I O", id="letters no code has"),
        pytest.param("ABCD_2345", "does not contain _", id="another dash"),
    ],
)
def test_what_cannot_be_a_code_is_explained(typed: str, reason: str) -> None:
    """The person who typed it is told what is wrong."""
    with pytest.raises(CodeFormatError, match=reason):
        linkcode.normalise(typed)


@given(st.text(linkcode.ALPHABET, min_size=8, max_size=8), st.data())
def test_a_code_is_the_same_however_it_is_typed(code: str, data: st.DataObject) -> None:
    """Case, dash and spaces do not matter."""
    typed = "".join(data.draw(st.sampled_from([c, c.lower()])) for c in code)

    assert linkcode.normalise(f" {typed[:4]}-{typed[4:]} ") == code


@given(st.text())
def test_any_text_is_a_code_or_one_error(text: str) -> None:
    """Arbitrary text raises nothing but CodeFormatError."""
    try:
        assert len(linkcode.normalise(text)) == 8
    except CodeFormatError:
        return
