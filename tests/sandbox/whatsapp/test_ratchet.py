from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.whatsapp import curve, ratchet, x3dh
from sandbox.whatsapp.ratchet import MAX_RECEIVING_CHAINS, Session, SignalMessage, Unanswered
from sandbox.whatsapp.signal_errors import (
    BadMacError,
    DuplicateMessageError,
    MalformedMessageError,
    SignalError,
)
from sandbox.whatsapp.x3dh import PreKeyBundle, PreKeyMessage

relaxed = settings(deadline=None)
rand = Random(99).randbytes


def begin() -> tuple[Session, Session]:
    """Return the two ends of a new session: initiator, responder."""
    alice, bob, prekey = (curve.generate(rand) for _ in range(3))
    signed = x3dh.sign_prekey(bob, prekey, 1, rand)
    ours = x3dh.initiate(alice, PreKeyBundle(1, bob.public, signed), rand)
    first = PreKeyMessage(1, ours.base_key, alice.public, b"", Unanswered(1))
    return ours, x3dh.respond(bob, prekey, None, first)


def turn(sender: Session, receiver: Session) -> tuple[Session, Session, bytes]:
    """Send one message and read it; return both sessions and the message."""
    sender, message = sender.encrypt(b"turn")
    receiver, plaintext = receiver.decrypt(message, rand)
    assert plaintext == b"turn"
    return sender, receiver, message


def test_message_keys_are_the_published_ones() -> None:
    """A seed gives the cipher and MAC keys that Signal's library derives."""
    seed = bytes.fromhex("8ab72d6f4cc5ac0d387eaf463378ddb28edd07385b1cb01250c715982e7ad48f")
    link = ratchet.Chain(seed)

    cipher_key, mac_key, iv = ratchet._message_keys(link.seed())  # pyright: ignore[reportPrivateUsage] - the vector is about these

    assert cipher_key.hex() == "bf51e9d75e0e31031051f82a2491ffc084fa298b7793bd9db620056febf45217"
    assert mac_key.hex() == "c6c77d6a73a354337a56435e34607dfe48e3ace14e77314dc6abc172e7a7030b"
    assert len(iv) == 16


def test_the_wire_format_is_signals() -> None:
    """Version byte, ratchet key of 33 bytes, both counters even when zero, ciphertext, MAC."""
    ours, _ = begin()

    _, message = ours.encrypt(b"x" * 15)

    head = b"\x33\x0a\x21\x05" + ours.ratchet.public + b"\x10\x00\x18\x00\x22\x10"
    assert message.startswith(head)
    assert len(message) == len(head) + 16 + 8


@relaxed
@given(st.lists(st.booleans(), max_size=30))
def test_a_conversation_goes_on(speakers: list[bool]) -> None:
    """Whoever speaks, and however often in a row, the other reads it."""
    ours, theirs = begin()
    ours, theirs, _ = turn(ours, theirs)

    for we_speak in speakers:
        if we_speak:
            ours, theirs, _ = turn(ours, theirs)
        else:
            theirs, ours, _ = turn(theirs, ours)


@relaxed
@given(st.permutations(range(12)))
def test_messages_are_read_in_any_order_and_once(order: list[int]) -> None:
    """Messages of one chain arrive in any order; a second copy of any is a duplicate."""
    ours, theirs = begin()
    sent: list[bytes] = []
    for number in range(12):
        ours, message = ours.encrypt(b"%d" % number)
        sent.append(message)

    for number in order:
        theirs, plaintext = theirs.decrypt(sent[number], rand)
        assert plaintext == b"%d" % number

    for message in sent:
        with pytest.raises(DuplicateMessageError):
            theirs.decrypt(message, rand)


def late_message(turns: int) -> Callable[[], bytes]:
    ours, theirs = begin()
    ours, theirs, _ = turn(ours, theirs)
    ours, late = ours.encrypt(b"late")
    for _ in range(turns):
        theirs, ours, _ = turn(theirs, ours)
        ours, theirs, _ = turn(ours, theirs)
    return lambda: theirs.decrypt(late, rand)[1]


def test_old_chains_are_kept_for_late_messages() -> None:
    """A message is read although the sender changed its ratchet key since, but not for ever."""
    assert late_message(MAX_RECEIVING_CHAINS - 1)() == b"late"
    with pytest.raises(BadMacError):
        late_message(MAX_RECEIVING_CHAINS)()


def test_an_answer_ends_the_first_messages() -> None:
    """The initiator repeats its prekeys until it has read an answer."""
    ours, theirs = begin()
    ours, theirs, _ = turn(ours, theirs)
    assert ours.unanswered is not None

    _, ours, _ = turn(theirs, ours)

    assert ours.unanswered is None


@relaxed
@given(st.integers(0, 500), st.integers(1, 255))
def test_a_changed_message_is_refused(at: int, flip: int) -> None:
    """Whatever byte of a message is changed, reading it is a SignalError."""
    ours, theirs = begin()
    _, message = ours.encrypt(b"secret")
    changed = bytearray(message)
    changed[at % len(message)] ^= flip

    with pytest.raises(SignalError):
        theirs.decrypt(bytes(changed), rand)


def test_a_message_of_another_session_is_refused() -> None:
    """Two sessions of unrelated devices do not open each other's messages."""
    ours, _ = begin()
    _, strangers = begin()

    with pytest.raises(BadMacError):
        strangers.decrypt(ours.encrypt(b"hello")[1], rand)


def test_a_ratchet_key_of_small_order_is_refused() -> None:
    """A message that offers a key nobody can agree with is malformed."""
    _, theirs = begin()
    message = SignalMessage(bytes(32), 0, 0, bytes(16)).encode()

    with pytest.raises(MalformedMessageError):
        theirs.decrypt(message + bytes(8), rand)


@relaxed
@given(st.binary(max_size=150))
def test_rubbish_is_refused_in_one_way(data: bytes) -> None:
    """Random bytes, with the right version or not, are a SignalError."""
    _, theirs = begin()

    for candidate in (data, b"\x33" + data):
        with pytest.raises(SignalError):
            theirs.decrypt(candidate, rand)
