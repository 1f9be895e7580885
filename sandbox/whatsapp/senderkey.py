"""Sender keys: how one message is encrypted once for a whole group.

Each device has a chain and a signing key of its own per group. It hands both out through ordinary
sessions (the distribution message); from then on every message is encrypted with the next link of
the chain and signed, so that members can read it and cannot forge it.
"""

from typing import Self

import msgspec

from sandbox.whatsapp import curve, wire
from sandbox.whatsapp.chain import MAX_SKIPPED, Chain, ReceivingChain
from sandbox.whatsapp.curve import SIGNATURE_SIZE, KeyPair, Rand
from sandbox.whatsapp.ratchet import VERSION, body
from sandbox.whatsapp.signal_errors import BadSignatureError, NoSenderKeyError, malformed
from sandbox.whatsapp.symmetric import cbc_decrypt, cbc_encrypt, hkdf

MAX_SENDER_KEYS = 5
"""Keys kept of one sender in one group, so that what it sent before a change can still be read."""


class SenderKeyDistribution(msgspec.Struct, frozen=True):
    """A sender's key as it hands it out: where its chain stands, and who signs."""

    key_id: int
    link: Chain
    signer: bytes

    def encode(self) -> bytes:
        """Write the message, which travels inside an ordinary encrypted message."""
        return VERSION + wire.encode(
            (1, self.key_id),
            (2, self.link.index),
            (3, self.link.key),
            (4, curve.with_type(self.signer)),
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a message; MalformedMessageError if it is none."""
        with malformed():
            fields = wire.Fields.decode(body(data))
            return cls(
                key_id=fields.number(1, 0),
                link=Chain(fields.data(3), fields.number(2, 0)),
                signer=curve.without_type(fields.data(4)),
            )


class OwnSenderKey(msgspec.Struct, frozen=True):
    """The key with which this device writes to one group."""

    key_id: int
    link: Chain
    signer: KeyPair

    @classmethod
    def create(cls, rand: Rand) -> Self:
        """Make a new key; who left the group does not get it."""
        key_id = int.from_bytes(rand(4), "big") >> 1  # Signal's ids have 31 bits
        return cls(key_id, Chain(rand(32)), curve.generate(rand))

    def distribution(self) -> bytes:
        """Return the distribution message; it opens what is encrypted from now on."""
        return SenderKeyDistribution(self.key_id, self.link, self.signer.public).encode()

    def encrypt(self, plaintext: bytes, rand: Rand) -> tuple[Self, bytes]:
        """Return the key that follows, and the signed message."""
        cipher_key, iv = _message_keys(self.link.seed())
        message = VERSION + wire.encode(
            (1, self.key_id),
            (2, self.link.index),
            (3, cbc_encrypt(cipher_key, iv, plaintext)),
        )
        following = msgspec.structs.replace(self, link=self.link.following())
        return following, message + curve.sign(self.signer.private, message, rand)


class SenderKey(msgspec.Struct, frozen=True):
    """Another device's key, and the messages of it that are still missing.

    `first` is the oldest message that the distribution messages so far can open.
    """

    key_id: int
    signer: bytes
    first: int
    chain: ReceivingChain


SenderKeys = tuple[SenderKey, ...]
"""The keys of one sender in one group, the newest first."""


def learn(known: SenderKeys, data: bytes) -> SenderKeys:
    """Take in a distribution message.

    WhatsApp's clients send one with every group message. The same key again changes nothing, unless
    it overtook an earlier one: then the messages in between become readable, and no other twice.
    """
    given = SenderKeyDistribution.decode(data)
    for key in known:
        if (key.key_id, key.signer) != (given.key_id, given.signer):
            continue
        if key.first <= given.link.index <= key.chain.link.index + MAX_SKIPPED:
            return known
        if key.first - MAX_SKIPPED <= given.link.index < key.first:
            earlier = _reaching_back(key, given)
            return tuple(earlier if each is key else each for each in known)
    key = SenderKey(given.key_id, given.signer, given.link.index, ReceivingChain(given.link))
    return (key, *known)[:MAX_SENDER_KEYS]


def decrypt(known: SenderKeys, data: bytes) -> tuple[SenderKeys, bytes]:
    """Return the keys that follow, and the plaintext.

    Raises:
        SignalError: malformed, of an unknown key, wrongly signed, a duplicate or too far ahead.
    """
    text, signature = data[:-SIGNATURE_SIZE], data[-SIGNATURE_SIZE:]
    with malformed():
        fields = wire.Fields.decode(body(text))
        key_id, number, ciphertext = fields.number(1, 0), fields.number(2, 0), fields.data(3)
    key = next((key for key in known if key.key_id == key_id), None)
    if key is None:
        raise NoSenderKeyError(f"no sender key {key_id} was handed out")
    if not curve.verify(key.signer, text, signature):
        raise BadSignatureError("the group message is not signed by its sender's key")
    chain, seed = key.chain.take(number)
    cipher_key, iv = _message_keys(seed)
    with malformed():
        plaintext = cbc_decrypt(cipher_key, iv, ciphertext)
    used = msgspec.structs.replace(key, chain=chain)
    return tuple(used if each is key else each for each in known), plaintext


def _reaching_back(key: SenderKey, given: SenderKeyDistribution) -> SenderKey:
    _, seeds = given.link.until(key.first)
    chain = msgspec.structs.replace(key.chain, skipped={**seeds, **key.chain.skipped})
    return msgspec.structs.replace(key, first=given.link.index, chain=chain)


def _message_keys(seed: bytes) -> tuple[bytes, bytes]:
    derived = hkdf(seed, 48, b"WhisperGroup")
    return derived[16:], derived[:16]
