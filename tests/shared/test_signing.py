import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from shared import clock, sealing, signing
from shared.errors import Forged, Malformed

KEYS = (b"k" * 32, b"j" * 32)


def test_the_published_vector_holds() -> None:
    """The known answer that Standard Webhooks and its libraries share."""
    signature = signing.sign_webhook(
        ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.text(st.characters(codec="utf-8")), st.binary(min_size=32, max_size=32))
def test_the_reference_library_accepts_ours(text: str, random: bytes) -> None:
    """Any body we sign, with one secret or two, verifies with either under standardwebhooks."""
    old, new = signing.webhook_secret(b"o" * 32), signing.webhook_secret(random)
    body = text.encode()
    now = clock.millis() // 1000
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(now),
        "webhook-signature": signing.sign_webhook([new, old], "evt_1", now, body),
    }

    for secret in (old, new):
        # A body that is not JSON is only minded after its signature was found good.
        with contextlib.suppress(ValueError):
            Webhook(secret).verify(body, headers)


@given(st.binary(), st.integers(0, 400), st.integers(1, 255))
def test_a_command_opens_only_as_it_was_signed(payload: bytes, place: int, flip: int) -> None:
    """What was signed opens; what was changed in any byte is Forged."""
    payload = base64.b64encode(payload)
    message = signing.sign_command(KEYS, payload)
    assert signing.open_command(KEYS, message) == payload

    changed = bytearray(message.encode())
    changed[place % len(changed)] ^= flip
    text = changed.decode("latin-1")
    try:
        assert signing.open_command(KEYS, text) == payload
    except Forged:
        return
    # base64 has spare bits at its end: such a change alters the text, not the signature.
    assert place % len(changed) == len(changed) - 1


def test_rotation_verifies_what_the_old_key_signed() -> None:
    """During a rotation both keys' commands are good; afterwards the old one's are not."""
    old = signing.sign_command(KEYS[1:], b"{}")

    assert signing.open_command(KEYS, old) == b"{}"
    with pytest.raises(Forged):
        signing.open_command(KEYS[:1], old)


@given(st.dictionaries(st.text(), st.text() | st.integers()))
def test_a_cursor_serves_one_list_only(value: dict[str, str | int]) -> None:
    """A cursor made for one list opens there and nowhere else."""
    token = signing.sign_cursor(KEYS, "ten_1/sessions", value)

    assert signing.open_cursor(KEYS, "ten_1/sessions", token) == value
    with pytest.raises(Malformed):
        signing.open_cursor(KEYS, "ten_2/sessions", token)


@given(st.text(st.characters(codec="utf-8")), st.binary(min_size=12, max_size=12))
def test_a_sealed_secret_opens_for_its_owner_only(plain: str, nonce: bytes) -> None:
    """Copied into another row, or opened with another key, a sealed secret stays shut."""
    sealed = sealing.seal(KEYS, "ten_1/ep_1", plain, nonce)

    assert sealing.unseal(tuple(reversed(KEYS)), "ten_1/ep_1", sealed) == plain
    with pytest.raises(Forged):
        sealing.unseal(KEYS, "ten_2/ep_1", sealed)
    with pytest.raises(Forged):
        sealing.unseal((b"x" * 32,), "ten_1/ep_1", sealed)


def test_a_secret_that_is_not_base64_is_named_as_such() -> None:
    """A damaged secret is Malformed, not a crash of the signer."""
    with pytest.raises(Malformed):
        signing.sign_webhook(["whsec_***"], "evt_1", 1, b"")
