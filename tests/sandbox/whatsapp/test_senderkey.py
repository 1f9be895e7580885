from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.whatsapp import senderkey
from sandbox.whatsapp.chain import MAX_SKIPPED
from sandbox.whatsapp.senderkey import MAX_SENDER_KEYS, OwnSenderKey, SenderKeys
from sandbox.whatsapp.signal_errors import (
    BadSignatureError,
    DuplicateMessageError,
    NoSenderKeyError,
    SignalError,
    TooFarAheadError,
)

rand = Random(7).randbytes
relaxed = settings(deadline=None)


def posts(count: int) -> list[tuple[bytes, bytes]]:
    """Return messages "0", "1", … of one key, each with the distribution sent along with it."""
    key = OwnSenderKey.create(rand)
    sent: list[tuple[bytes, bytes]] = []
    for number in range(count):
        distribution = key.distribution()
        key, message = key.encrypt(b"%d" % number, rand)
        sent.append((distribution, message))
    return sent


def test_the_wire_format_is_signals() -> None:
    """Version byte, Signal's field numbers, a signing key of 33 bytes, a signature at the end."""
    key = OwnSenderKey(5, senderkey.Chain(b"c" * 32), OwnSenderKey.create(rand).signer)

    _, message = key.encrypt(b"x", rand)

    signer = key.signer.public
    expected = b"\x33\x08\x05\x10\x00\x1a\x20" + b"c" * 32 + b"\x22\x21\x05" + signer
    assert key.distribution() == expected
    assert message.startswith(b"\x33\x08\x05\x10\x00\x1a\x10")
    assert len(message) == 7 + 16 + 64


@relaxed
@given(st.permutations(range(8)), st.lists(st.integers(0, 7), max_size=8))
def test_messages_with_their_distributions_are_read_in_any_order_and_once(
    order: list[int], again: list[int]
) -> None:
    """Clients send the key with every message: late ones are read, copies are not."""
    sent = posts(8)
    known: SenderKeys = ()

    for number in order:
        distribution, message = sent[number]
        known = senderkey.learn(known, distribution)
        known, plaintext = senderkey.decrypt(known, message)
        assert plaintext == b"%d" % number

    for number in again:
        distribution, message = sent[number]
        with pytest.raises(DuplicateMessageError):
            senderkey.decrypt(senderkey.learn(known, distribution), message)


def test_messages_from_before_the_distribution_stay_closed() -> None:
    """Who gets the key later cannot read what was sent earlier."""
    sent = posts(3)
    known = senderkey.learn((), sent[1][0])

    with pytest.raises(DuplicateMessageError):
        senderkey.decrypt(known, sent[0][1])
    assert senderkey.decrypt(known, sent[2][1])[1] == b"2"


def test_a_gap_is_crossed_with_a_new_distribution() -> None:
    """After more lost messages than can be skipped, the next distribution goes on."""
    key = OwnSenderKey.create(rand)
    known = senderkey.learn((), key.distribution())
    link, _ = key.link.until(MAX_SKIPPED + 1)
    key = OwnSenderKey(key.key_id, link, key.signer)
    _, message = key.encrypt(b"after the gap", rand)

    with pytest.raises(TooFarAheadError):
        senderkey.decrypt(known, message)
    known = senderkey.learn(known, key.distribution())
    assert senderkey.decrypt(known, message)[1] == b"after the gap"


def test_older_keys_are_kept_for_late_messages() -> None:
    """What a sender wrote with an earlier key is read, as long as MAX_SENDER_KEYS are enough."""
    keys = [posts(1)[0] for _ in range(MAX_SENDER_KEYS + 1)]
    known: SenderKeys = ()
    for distribution, _ in keys:
        known = senderkey.learn(known, distribution)

    assert senderkey.decrypt(known, keys[1][1])[1] == b"0"
    with pytest.raises(NoSenderKeyError):
        senderkey.decrypt(known, keys[0][1])


def test_members_cannot_write_in_anothers_name() -> None:
    """Everybody in the group has the chain; only the sender has the signing key."""
    key = OwnSenderKey.create(rand)
    known = senderkey.learn((), key.distribution())
    forger = OwnSenderKey(key.key_id, key.link, OwnSenderKey.create(rand).signer)

    with pytest.raises(BadSignatureError):
        senderkey.decrypt(known, forger.encrypt(b"forged", rand)[1])


@relaxed
@given(st.integers(0, 500), st.integers(1, 255))
def test_a_changed_message_is_refused(at: int, flip: int) -> None:
    """Whatever byte is changed, reading is a SignalError."""
    distribution, message = posts(1)[0]
    changed = bytearray(message)
    changed[at % len(message)] ^= flip

    with pytest.raises(SignalError):
        senderkey.decrypt(senderkey.learn((), distribution), bytes(changed))


@relaxed
@given(st.binary(max_size=150))
def test_rubbish_is_refused_in_one_way(data: bytes) -> None:
    """Random bytes are a SignalError, as message and, unless they happen to be one, as key."""
    known = senderkey.learn((), posts(1)[0][0])

    for candidate in (data, b"\x33" + data):
        with pytest.raises(SignalError):
            senderkey.decrypt(known, candidate)
        with pytest.raises(SignalError):
            senderkey.learn(known, candidate)
