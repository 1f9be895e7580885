from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    rule,
)

from sandbox.whatsapp import signal
from sandbox.whatsapp.curve import Rand
from sandbox.whatsapp.ratchet import MAX_RECEIVING_CHAINS
from sandbox.whatsapp.signal import Kind, SignalDevice
from sandbox.whatsapp.signal_errors import (
    BadMacError,
    BadPaddingError,
    DuplicateMessageError,
    NoPreKeyError,
    NoSenderKeyError,
    NoSessionError,
    SignalError,
)
from sandbox.whatsapp.x3dh import PreKeyBundle, PreKeyMessage

rand = Random(11).randbytes
relaxed = settings(deadline=None)
names = st.sampled_from(["alice", "bob"])
PEER = {"alice": "bob", "bob": "alice"}


def fresh_bundle(device: SignalDevice, rand: Rand = rand, *, one_time: bool = True) -> PreKeyBundle:
    """Return a bundle nobody else got, as a server hands it out."""
    added = device.add_prekeys(1, rand)[0] if one_time else None
    return device.public_keys().bundle(added)


def pair() -> tuple[SignalDevice, SignalDevice]:
    """Return two devices that know each other: both have read a message of the other."""
    alice, bob = SignalDevice.create(rand), SignalDevice.create(rand)
    kind, message = alice.encrypt("bob", b"hello", rand, fresh_bundle(bob))
    bob.decrypt("alice", kind, message, rand)
    alice.decrypt("bob", *bob.encrypt("alice", b"hello", rand), rand)
    return alice, bob


@dataclass
class Sent:
    """A message on its way, and whether it has arrived before."""

    sender: str
    number: int
    kind: Kind
    data: bytes
    arrived: bool = False

    @property
    def text(self) -> bytes:
        return f"{self.sender} {self.number}".encode()


class Conversation(RuleBasedStateMachine):
    """Two devices over a network that delays, reorders, repeats, damages and loses messages."""

    waiting = Bundle("waiting")

    def __init__(self) -> None:
        super().__init__()
        self.rand = Random(17).randbytes
        self.devices = {name: SignalDevice.create(self.rand) for name in PEER}
        self.counts = dict.fromkeys(PEER, 0)
        self.arrivals: dict[str, list[int]] = {name: [] for name in PEER}

    def write(self, name: str, bundle: PreKeyBundle | None = None) -> Sent:
        if bundle is None and not self.devices[name].has_session(PEER[name]):
            bundle = fresh_bundle(self.devices[PEER[name]], self.rand)
        self.counts[name] += 1
        text = f"{name} {self.counts[name]}".encode()
        kind, data = self.devices[name].encrypt(PEER[name], text, self.rand, bundle)
        return Sent(name, self.counts[name], kind, data)

    def read(self, sent: Sent) -> bytes:
        reader = self.devices[PEER[sent.sender]]
        plaintext = reader.decrypt(sent.sender, sent.kind, sent.data, self.rand)
        sent.arrived = True
        self.arrivals[sent.sender].append(sent.number)
        return plaintext

    @initialize(target=waiting)
    def both_begin_at_once(self) -> Any:
        """Each takes the other for somebody it has no session with."""
        return multiple(self.write("alice"), self.write("bob"))

    @rule(target=waiting, name=names)
    def send(self, name: str) -> Sent:
        """Write in the current session, or begin one."""
        return self.write(name)

    @rule(target=waiting, name=names, one_time=st.booleans())
    def begin_anew(self, name: str, one_time: bool) -> Sent:  # noqa: FBT001 - drawn by hypothesis
        """Begin another session, as after a retry receipt with keys."""
        bundle = fresh_bundle(self.devices[PEER[name]], self.rand, one_time=one_time)
        return self.write(name, bundle)

    @rule(sent=waiting)
    def deliver(self, sent: Sent) -> None:
        """Deliver any message ever sent: the first time it is read, then it is a duplicate."""
        if sent.arrived:
            with pytest.raises(SignalError):
                self.read(sent)
            return
        try:
            assert self.read(sent) == sent.text
        except SignalError:
            # Only a message overtaken by as many as there are chains may be given up.
            later = [number for number in self.arrivals[sent.sender] if number > sent.number]
            assert len(later) >= MAX_RECEIVING_CHAINS

    @rule(name=names)
    def talk(self, name: str) -> None:
        """A message that arrives at once is always read, whatever happened before."""
        sent = self.write(name)

        assert self.read(sent) == sent.text

    @rule(sent=waiting, at=st.integers(0, 500), flip=st.integers(1, 255))
    def damage(self, sent: Sent, at: int, flip: int) -> None:
        """A damaged message is refused, or read by the session its undamaged part belongs to."""
        reader = self.devices[PEER[sent.sender]]
        before = reader.encode()
        changed = bytearray(sent.data)
        changed[at % len(changed)] ^= flip
        try:
            plaintext = reader.decrypt(sent.sender, sent.kind, bytes(changed), self.rand)
        except SignalError:
            assert reader.encode() == before
        else:
            assert plaintext == sent.text
            assert sent.kind == "pkmsg"
            sent.arrived = True
            self.arrivals[sent.sender].append(sent.number)

    @rule(sent=consumes(waiting))
    def lose(self, sent: Sent) -> None:
        """A message is lost for good."""

    @rule(name=names)
    def restart(self, name: str) -> None:
        """A device is written down and read back between any two messages."""
        self.devices[name] = SignalDevice.decode(self.devices[name].encode())


TestConversation = Conversation.TestCase
TestConversation.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)


def test_public_keys_are_what_a_server_needs() -> None:
    """Identity, signed prekey and all one-time prekeys are published, numbered from one."""
    device = SignalDevice.create(rand, one_time=3)
    public = device.public_keys()

    assert public.identity == device.identity.public
    assert [prekey.id for prekey in public.one_time] == [1, 2, 3]
    assert len(public.signed_prekey.signature) == 64
    assert device.registration_id == public.registration_id < 2**32


def test_prekey_ids_start_again_before_they_need_a_fourth_byte() -> None:
    """The id after the largest is one: zero would mean that there is no prekey."""
    device = SignalDevice.create(rand)
    device.next_prekey_id = signal.MAX_PREKEY_ID

    assert [prekey.id for prekey in device.add_prekeys(2, rand)] == [signal.MAX_PREKEY_ID, 1]


def test_an_identity_can_be_given() -> None:
    """A phone's Signal identity is its account's."""
    identity = SignalDevice.create(rand).identity

    assert SignalDevice.create(rand, identity).identity == identity


def test_an_unanswered_initiator_keeps_its_base_key() -> None:
    """Until an answer is read, every message can begin the same session."""
    alice, bob = SignalDevice.create(rand), SignalDevice.create(rand)
    first = alice.encrypt("bob", b"1", rand, fresh_bundle(bob))
    second = alice.encrypt("bob", b"2", rand)

    assert first[0] == second[0] == "pkmsg"
    bases = {PreKeyMessage.decode(data).base_key for _, data in (first, second)}
    assert len(bases) == 1
    assert bob.decrypt("alice", *second, rand) == b"2"
    assert bob.decrypt("alice", *first, rand) == b"1"


def test_a_one_time_prekey_is_used_once() -> None:
    """When its session was forgotten, a replayed first message finds its prekey gone."""
    alice, bob = SignalDevice.create(rand), SignalDevice.create(rand)
    kind, data = alice.encrypt("bob", b"once", rand, fresh_bundle(bob))
    bob.decrypt("alice", kind, data, rand)
    assert bob.one_time == {}

    bob.forget("alice")

    with pytest.raises(NoPreKeyError):
        bob.decrypt("alice", kind, data, rand)


def test_an_unreadable_first_message_uses_up_no_prekey() -> None:
    """The one-time prekey stays until a message was really read with it."""
    alice, bob = SignalDevice.create(rand), SignalDevice.create(rand)
    kind, data = alice.encrypt("bob", b"hi", rand, fresh_bundle(bob))
    message = PreKeyMessage.decode(data)
    broken = PreKeyMessage(
        message.registration_id,
        message.base_key,
        message.identity,
        message.message[:-1] + b"\0" if message.message[-1] else message.message[:-1] + b"\1",
        message.prekeys,
    )

    with pytest.raises(BadMacError):
        bob.decrypt("alice", kind, broken.encode(), rand)
    assert bob.decrypt("alice", kind, data, rand) == b"hi"


def test_a_message_for_another_signed_prekey_is_refused() -> None:
    """A first message that names a signed prekey we never had is NoPreKeyError."""
    alice, bob = SignalDevice.create(rand), SignalDevice.create(rand)
    bob.signed_prekey_public = signal.SignedPreKey(9, b"", b"")
    stranger = SignalDevice.create(rand)
    kind, data = alice.encrypt("bob", b"hi", rand, fresh_bundle(stranger))

    with pytest.raises(NoPreKeyError):
        bob.decrypt("alice", kind, data, rand)


def test_without_a_session_nothing_is_written_or_read() -> None:
    """No session and no bundle is an error of its own, in both directions."""
    alice, bob = pair()
    stranger = SignalDevice.create(rand)

    assert not stranger.has_session("bob")
    assert stranger.identity_of("bob") is None
    with pytest.raises(NoSessionError):
        stranger.encrypt("bob", b"hi", rand)
    with pytest.raises(NoSessionError):
        stranger.decrypt("alice", *alice.encrypt("bob", b"hi", rand), rand)
    assert alice.identity_of("bob") == bob.identity.public


def test_a_duplicate_is_told_from_a_forgery_in_the_archive_too() -> None:
    """A copy of a message of an archived session is a duplicate, not a bad MAC."""
    alice, bob = pair()
    old = alice.encrypt("bob", b"old", rand)
    assert bob.decrypt("alice", *old, rand) == b"old"
    bob.decrypt("alice", *alice.encrypt("bob", b"new", rand, fresh_bundle(bob)), rand)

    with pytest.raises(DuplicateMessageError):
        bob.decrypt("alice", *old, rand)


def test_the_archive_has_a_bound() -> None:
    """The current session and MAX_ARCHIVED_SESSIONS others are kept of one peer device."""
    alice, bob = pair()
    for _ in range(signal.MAX_ARCHIVED_SESSIONS + 5):
        alice.encrypt("bob", b"again", rand, fresh_bundle(bob))

    assert len(alice.sessions["bob"]) == 1 + signal.MAX_ARCHIVED_SESSIONS


def test_a_peer_with_new_keys_is_accepted() -> None:
    """Somebody who installed anew begins again with another identity."""
    _, bob = pair()
    again = SignalDevice.create(rand)

    kind, data = again.encrypt("bob", b"new phone", rand, fresh_bundle(bob))

    assert bob.decrypt("alice", kind, data, rand) == b"new phone"
    assert bob.identity_of("alice") == again.identity.public


@relaxed
@given(st.binary(max_size=200), st.sampled_from(["pkmsg", "msg"]))
def test_rubbish_is_refused_and_changes_nothing(data: bytes, kind: Kind) -> None:
    """Random bytes of either kind are a SignalError, and the device stays as it was."""
    alice, _ = pair()
    before = alice.encode()

    for candidate in (data, b"\x33" + data):
        with pytest.raises(SignalError):
            alice.decrypt("bob", kind, candidate, rand)
    assert alice.encode() == before


def test_a_group_message_is_read_by_all_who_have_the_key() -> None:
    """One ciphertext serves every member; the sender's own device is not among them."""
    alice, bob, carol = (SignalDevice.create(rand) for _ in range(3))
    distribution = alice.sender_key("group", rand)
    bob.learn_sender_key("group", "alice", distribution)

    message = alice.encrypt_group("group", b"hello all", rand)

    assert bob.decrypt_group("group", "alice", message) == b"hello all"
    for group, sender in (("group", "alice"), ("other", "alice"), ("group", "bob")):
        with pytest.raises(NoSenderKeyError):
            carol.decrypt_group(group, sender, message)
    carol.learn_sender_key("group", "alice", distribution)
    assert carol.decrypt_group("group", "alice", message) == b"hello all"


def test_a_key_handed_out_again_opens_what_comes_next() -> None:
    """Asking twice gives the same key, as far along as its messages are."""
    alice, bob = SignalDevice.create(rand), SignalDevice.create(rand)
    first = alice.sender_key("group", rand)
    assert alice.sender_key("group", rand) == first

    alice.encrypt_group("group", b"before bob came", rand)
    bob.learn_sender_key("group", "alice", alice.sender_key("group", rand))

    message = alice.encrypt_group("group", b"welcome", rand)
    assert bob.decrypt_group("group", "alice", message) == b"welcome"


def test_a_member_who_left_does_not_get_the_new_key() -> None:
    """After the key was forgotten, messages need the distribution made since."""
    alice, bob = SignalDevice.create(rand), SignalDevice.create(rand)
    bob.learn_sender_key("group", "alice", alice.sender_key("group", rand))
    alice.forget_sender_key("group")
    with pytest.raises(NoSenderKeyError):
        alice.encrypt_group("group", b"nobody has the key", rand)

    alice.sender_key("group", rand)

    with pytest.raises(NoSenderKeyError):
        bob.decrypt_group("group", "alice", alice.encrypt_group("group", b"without bob", rand))


def test_group_keys_survive_a_restart() -> None:
    """Own keys and those of others are part of the state."""
    alice, bob = SignalDevice.create(rand), SignalDevice.create(rand)
    bob.learn_sender_key("group", "alice", alice.sender_key("group", rand))

    alice, bob = (SignalDevice.decode(device.encode()) for device in (alice, bob))

    message = alice.encrypt_group("group", b"still here", rand)
    assert bob.decrypt_group("group", "alice", message) == b"still here"


@given(st.binary(max_size=100))
def test_padding_is_taken_off_again(plaintext: bytes) -> None:
    """One to fifteen bytes are added, each of that value, and all are checked."""
    padded = signal.pad(plaintext, rand)

    assert 1 <= len(padded) - len(plaintext) <= 15
    assert signal.unpad(padded) == plaintext


def test_sixteen_bytes_of_padding_are_accepted() -> None:
    """Readers accept one byte more than writers write."""
    assert signal.unpad(b"text" + b"\x10" * 16) == b"text"


@pytest.mark.parametrize("padded", [b"", b"\0", b"text\x11", b"\x02", b"ab\x03\x02\x03"])
def test_wrong_padding_is_refused(padded: bytes) -> None:
    """Padding that is absent, too long, cut or uneven is BadPaddingError."""
    with pytest.raises(BadPaddingError):
        signal.unpad(padded)
