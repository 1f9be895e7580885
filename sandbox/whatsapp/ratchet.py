"""A session between two devices: Signal's double ratchet, version 3 of its messages.

Each side keeps one chain for sending and a few for receiving. Every time the other side shows a new
ratchet key, an agreement with it steps the root key and both chains begin anew (Signal, "The Double
Ratchet Algorithm", revision 4). A session is a value: sending or reading returns the session that
follows, so a message that is refused changes nothing.
"""

import hmac
from typing import Self

import msgspec

from sandbox.whatsapp import curve, wire
from sandbox.whatsapp.chain import Chain, ReceivingChain
from sandbox.whatsapp.curve import KeyPair, Rand
from sandbox.whatsapp.signal_errors import BadMacError, MalformedMessageError, malformed
from sandbox.whatsapp.symmetric import cbc_decrypt, cbc_encrypt, hkdf, hmac_sha256

VERSION = b"\x33"
"""The first byte of every Signal message: version 3, spoken by somebody who knows up to 3."""

MAX_RECEIVING_CHAINS = 5
"""Ratchet keys of the peer whose late messages can be read: as many as Signal's libraries keep."""

_MAC_SIZE = 8


class Unanswered(msgspec.Struct, frozen=True):
    """What an initiator repeats in every message until the first answer is read.

    `one_time_id` is None where the bundle had no one-time prekey.
    """

    signed_prekey_id: int
    one_time_id: int | None = None


class SignalMessage(msgspec.Struct, frozen=True):
    """A message of an established session, as it travels, still encrypted."""

    ratchet_key: bytes
    counter: int
    previous_counter: int
    ciphertext: bytes

    def encode(self) -> bytes:
        """Write the message up to, but without, its MAC.

        Counters of zero are written too: Signal's own reader checks the MAC over what it would have
        written itself.
        """
        return VERSION + wire.encode(
            (1, curve.with_type(self.ratchet_key)),
            (2, self.counter),
            (3, self.previous_counter),
            (4, self.ciphertext),
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a message without its MAC; MalformedMessageError if it is none."""
        with malformed():
            fields = wire.Fields.decode(body(data))
            return cls(
                ratchet_key=curve.without_type(fields.data(1)),
                counter=fields.number(2, 0),
                previous_counter=fields.number(3, 0),
                ciphertext=fields.data(4),
            )


class Session(msgspec.Struct, frozen=True):
    """One session with one device.

    `base_key` is the initiator's public key of the key agreement and tells sessions of the same two
    devices apart. `receiving` maps the peer's ratchet keys to their chains, oldest first.
    """

    ours: bytes
    theirs: bytes
    base_key: bytes
    root: bytes
    ratchet: KeyPair
    sending: Chain
    receiving: dict[bytes, ReceivingChain] = {}
    previous_counter: int = 0
    unanswered: Unanswered | None = None

    def encrypt(self, plaintext: bytes) -> tuple[Self, bytes]:
        """Return the session that follows, and the message with its MAC."""
        cipher_key, mac_key, iv = _message_keys(self.sending.seed())
        message = SignalMessage(
            ratchet_key=self.ratchet.public,
            counter=self.sending.index,
            previous_counter=self.previous_counter,
            ciphertext=cbc_encrypt(cipher_key, iv, plaintext),
        ).encode()
        following = msgspec.structs.replace(self, sending=self.sending.following())
        return following, message + _mac(mac_key, self.ours, self.theirs, message)

    def decrypt(self, data: bytes, rand: Rand) -> tuple[Self, bytes]:
        """Return the session that follows, and the plaintext.

        Raises:
            SignalError: it is malformed, not of this session, a duplicate, or too far ahead.
        """
        text, mac = data[:-_MAC_SIZE], data[-_MAC_SIZE:]
        message = SignalMessage.decode(text)
        session = self if message.ratchet_key in self.receiving else self._step(message, rand)
        chain, seed = session.receiving[message.ratchet_key].take(message.counter)
        cipher_key, mac_key, iv = _message_keys(seed)
        if not hmac.compare_digest(mac, _mac(mac_key, self.theirs, self.ours, text)):
            raise BadMacError("the message was not made with this session's keys")
        with malformed():
            plaintext = cbc_decrypt(cipher_key, iv, message.ciphertext)
        receiving = {**session.receiving, message.ratchet_key: chain}
        return msgspec.structs.replace(session, receiving=receiving, unanswered=None), plaintext

    def _step(self, message: SignalMessage, rand: Rand) -> Self:
        theirs = message.ratchet_key
        root, receiving_key = root_step(self.root, self.ratchet.private, theirs)
        ratchet = curve.generate(rand)
        root, sending_key = root_step(root, ratchet.private, theirs)
        kept = list(self.receiving.items())[1 - MAX_RECEIVING_CHAINS :]
        return msgspec.structs.replace(
            self,
            root=root,
            ratchet=ratchet,
            sending=Chain(sending_key),
            receiving={**dict(kept), theirs: ReceivingChain(Chain(receiving_key))},
            previous_counter=max(self.sending.index - 1, 0),
        )


def root_step(root: bytes, private: bytes, public: bytes) -> tuple[bytes, bytes]:
    """Return the next root key and the key of the chain it opens."""
    with malformed():
        agreed = curve.agree(private, public)
    derived = hkdf(agreed, 64, b"WhisperRatchet", salt=root)
    return derived[:32], derived[32:]


def body(data: bytes) -> bytes:
    """Return what follows the version byte; MalformedMessageError for any other version."""
    if data[:1] != VERSION:
        raise MalformedMessageError("not a Signal message of version 3")
    return data[1:]


def _message_keys(seed: bytes) -> tuple[bytes, bytes, bytes]:
    derived = hkdf(seed, 80, b"WhisperMessageKeys")
    return derived[:32], derived[32:64], derived[64:]


def _mac(key: bytes, sender: bytes, receiver: bytes, message: bytes) -> bytes:
    parts = curve.with_type(sender), curve.with_type(receiver), message
    return hmac_sha256(key, *parts)[:_MAC_SIZE]
