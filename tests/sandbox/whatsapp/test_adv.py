from base64 import b64encode
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.whatsapp import adv, curve, wire
from sandbox.whatsapp.adv import Account, IdentityError, Offer, QrError, SignedIdentity
from sandbox.whatsapp.curve import KeyPair

rand = Random(3).randbytes
SECRET = bytes(range(32))
keys = st.binary(min_size=32, max_size=32)
refs = st.text("abcdefghijklmnopqrstuvwxyz0123456789@+/=", min_size=1, max_size=40)


def offered() -> tuple[KeyPair, Offer]:
    """Return a companion's identity and what a phone offers it."""
    companion = curve.generate(rand)
    _, offer = Account.create(rand).offer(companion.public, SECRET, 1_700_000_000, rand)
    return companion, offer


def countersigned(companion: KeyPair, envelope: bytes) -> bytes:
    """Answer as a companion does: the identity with its signature, without the account's key."""
    signed = adv.open_envelope(envelope, SECRET)
    message = b"\x06\x01" + signed.details + companion.public + signed.account_key
    return wire.encode(
        (1, signed.details),
        (3, signed.account_signature),
        (4, curve.sign(companion.private, message, rand)),
    )


@given(refs, keys, keys, keys, st.sampled_from(["", ",1", ",6", ",c"]))
def test_both_forms_of_the_code_are_read(
    ref: str, noise: bytes, identity: bytes, secret: bytes, kind: str
) -> None:
    """A code is read with the linking page in front or bare, with the client's type or without."""
    parts = [ref, *(b64encode(key).decode() for key in (noise, identity, secret))]
    expected = adv.QrCode(ref, noise, identity, secret, kind[1:] or None)

    for prefix in ("", "https://wa.me/settings/linked_devices#"):
        assert adv.parse_qr(prefix + ",".join(parts) + kind) == expected


KEY = b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("https://example.com/", id="another page"),
        pytest.param(f",{KEY},{KEY},{KEY}", id="no reference"),
        pytest.param(f"ref,{KEY},{KEY}", id="a key missing"),
        pytest.param(f"ref,{KEY},{KEY},{KEY},1,2", id="too much"),
        pytest.param(f"ref,{KEY},{KEY},{KEY[:-4]}", id="a short key"),
        pytest.param(f"ref,{KEY},{KEY},!!!", id="no base64"),
        pytest.param(f"ref,{KEY},{KEY},ключ", id="no ASCII"),
    ],
)
def test_another_text_is_not_a_code(text: str) -> None:
    """What is not a linking code is QrError, whatever is wrong with it."""
    with pytest.raises(QrError):
        adv.parse_qr(text)


@given(st.text())
def test_any_text_is_a_code_or_one_error(text: str) -> None:
    """Arbitrary text raises nothing but QrError."""
    try:
        adv.parse_qr(text)
    except QrError:
        return


def test_a_code_does_not_show_its_secret() -> None:
    """The representation of a code, which may be logged, has no secret in it."""
    code = adv.parse_qr(f"ref,{KEY},{KEY},{b64encode(SECRET).decode()}")

    assert SECRET.hex() not in repr(code)
    assert repr(SECRET)[2:-1] not in repr(code)


def test_phone_and_companion_sign_each_other() -> None:
    """The companion's answer to the offer gives an identity that both have signed."""
    companion, offer = offered()

    signed = adv.accept(offer, countersigned(companion, offer.envelope))

    signed.verify(companion.public)
    assert SignedIdentity.decode(signed.encode()) == signed


def test_the_offer_has_whatsapps_form() -> None:
    """Signature and HMAC are over exactly the bytes a companion checks."""
    companion, offer = offered()
    envelope = wire.Fields.decode(offer.envelope)
    signed = envelope.message(1)
    details = wire.Fields.decode(signed.data(1))

    assert (details.number(2), details.number(3)) == (1_700_000_000, 1)
    assert envelope.data(2) == adv.hmac_sha256(SECRET, envelope.data(1))
    signed_bytes = b"\x06\x00" + signed.data(1) + companion.public
    assert curve.verify(signed.data(2, 32), signed_bytes, signed.data(3, 64))
    assert not signed.has(4)


def test_every_linked_device_gets_the_next_index() -> None:
    """Indexes count from one and are never given twice."""
    account, companion = Account.create(rand), curve.generate(rand)
    indexes: list[int] = []
    for _ in range(3):
        account, offer = account.offer(companion.public, SECRET, 1, rand)
        indexes.append(offer.key_index)

    assert indexes == [1, 2, 3]


def test_an_offer_under_another_secret_is_refused() -> None:
    """A companion notices a phone that did not see its code."""
    _, offer = offered()

    with pytest.raises(IdentityError):
        adv.open_envelope(offer.envelope, bytes(32))


def test_an_answer_of_another_device_is_refused() -> None:
    """Only the device whose identity was signed can answer, and only about that identity."""
    companion, offer = offered()
    stranger, other = offered()
    answers = [
        countersigned(stranger, offer.envelope),
        countersigned(stranger, other.envelope),
        offer.signed.encode(),
        b"",
    ]

    for answer in answers:
        with pytest.raises(IdentityError):
            adv.accept(offer, answer)
    forged = msgspec.structs.replace(offer.signed, account_signature=bytes(64))
    with pytest.raises(IdentityError):
        forged.verify(companion.public)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_rubbish_is_refused_in_one_way(data: bytes) -> None:
    """Random bytes are an IdentityError, as envelope and as answer."""
    _, offer = offered()

    with pytest.raises(IdentityError):
        adv.open_envelope(data, SECRET)
    with pytest.raises(IdentityError):
        adv.accept(offer, data)
