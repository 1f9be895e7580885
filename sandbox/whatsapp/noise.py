"""The handshake that opens every connection: Noise XX, with WhatsApp's certificates on top.

The pattern is `Noise_XX_25519_AESGCM_SHA256` (The Noise Protocol Framework, revision 34), the
server answering. After it each frame is one AES-256-GCM message with a counter for its nonce. The
server's static key is vouched for by a chain of two certificates; clients carry the root's public
key and check the chain before they say who they are.
"""

import hashlib

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sandbox.whatsapp import wire
from sandbox.whatsapp.curve import CurveError, KeyPair, Rand, agree, generate, sign
from sandbox.whatsapp.frames import PROLOGUE

PROTOCOL = b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0"  # padded to a hash's length, so it is the hash
CERTIFICATE_LIFETIME = 10 * 365 * 86_400  # seconds; a sandbox should outlive nobody's patience
CERTIFICATE_BACKDATING = 86_400  # seconds, for clients whose clock is behind
INTERMEDIATE_SERIAL, LEAF_SERIAL, ROOT_SERIAL = 1, 2, 0


class HandshakeError(ValueError):
    """The client's side of the handshake does not hold."""


class Identity(msgspec.Struct, frozen=True):
    """What the server shows: its static key and the encoded chain that vouches for it."""

    static: KeyPair
    chain: bytes


def certify(root: KeyPair, now: int, rand: Rand) -> Identity:
    """Make a server key and the chain from `root` to it, valid from `now` (Unix seconds)."""
    intermediate, static = generate(rand), generate(rand)
    leaf = _certificate(LEAF_SERIAL, INTERMEDIATE_SERIAL, static, now)
    middle = _certificate(INTERMEDIATE_SERIAL, ROOT_SERIAL, intermediate, now)
    chain = wire.encode((1, _signed(leaf, intermediate, rand)), (2, _signed(middle, root, rand)))
    return Identity(static, chain)


def _certificate(serial: int, issuer: int, key: KeyPair, now: int) -> bytes:
    start, end = now - CERTIFICATE_BACKDATING, now + CERTIFICATE_LIFETIME
    return wire.encode((1, serial), (2, issuer), (3, key.public), (4, start), (5, end))


def _signed(details: bytes, by: KeyPair, rand: Rand) -> bytes:
    return wire.encode((1, details), (2, sign(by.private, details, rand)))


class Cipher:
    """One direction of a connection. Each frame counts, also one that fails."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)
        self._count = 0

    def encrypt(self, plain: bytes, associated: bytes = b"") -> bytes:
        return self._aead.encrypt(self._nonce(), plain, associated)

    def decrypt(self, data: bytes, associated: bytes = b"") -> bytes:
        """Open the next frame.

        Raises:
            HandshakeError: it was not made with this key and this count.
        """
        try:
            return self._aead.decrypt(self._nonce(), data, associated)
        except InvalidTag as error:
            raise HandshakeError("a frame that does not decrypt") from error

    def _nonce(self) -> bytes:
        self._count += 1
        return (self._count - 1).to_bytes(12, "big")


class Established(msgspec.Struct, frozen=True):
    """The end of the handshake: who the client is, what it said, and the two directions."""

    client: bytes
    payload: bytes
    receiving: Cipher
    sending: Cipher


class Responder:
    """The server's side: `hello` answers the first frame, `finish` reads the second."""

    def __init__(self, identity: Identity, rand: Rand) -> None:
        self._identity = identity
        self._ephemeral = generate(rand)
        self._state = Symmetric(PROLOGUE)

    def hello(self, frame: bytes) -> bytes:
        """Return the server's hello.

        Raises:
            HandshakeError: the frame is no client hello.
        """
        try:
            theirs = wire.Fields.decode(frame).message(2).data(1, 32)
            self._state.mix_hash(theirs)
            self._state.mix_hash(self._ephemeral.public)
            self._state.mix_key(agree(self._ephemeral.private, theirs))
            static = self._state.encrypt(self._identity.static.public)
            self._state.mix_key(agree(self._identity.static.private, theirs))
        except (wire.WireError, CurveError) as error:
            raise HandshakeError("no client hello") from error
        chain = self._state.encrypt(self._identity.chain)
        hello = wire.encode((1, self._ephemeral.public), (2, static), (3, chain))
        return wire.encode((3, hello))

    def finish(self, frame: bytes) -> Established:
        """Read the client's last frame of the handshake.

        Raises:
            HandshakeError: it is malformed or was made for another connection.
        """
        try:
            finish = wire.Fields.decode(frame).message(4)
            client = self._state.decrypt(finish.data(1))
            self._state.mix_key(agree(self._ephemeral.private, client))
            payload = self._state.decrypt(finish.data(2))
        except (wire.WireError, CurveError) as error:
            raise HandshakeError("no client finish") from error
        receiving, sending = self._state.split()
        return Established(client, payload, receiving, sending)


class Symmetric:
    """Noise's symmetric state: a hash of all that was said, and a key from all that was agreed."""

    def __init__(self, prologue: bytes) -> None:
        self._hash = self._salt = PROTOCOL
        self._cipher = Cipher(PROTOCOL)
        self.mix_hash(prologue)

    def mix_hash(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def mix_key(self, secret: bytes) -> None:
        self._salt, key = self._expand(secret)
        self._cipher = Cipher(key)

    def encrypt(self, plain: bytes) -> bytes:
        data = self._cipher.encrypt(plain, self._hash)
        self.mix_hash(data)
        return data

    def decrypt(self, data: bytes) -> bytes:
        plain = self._cipher.decrypt(data, self._hash)
        self.mix_hash(data)
        return plain

    def split(self) -> tuple[Cipher, Cipher]:
        """Return the ciphers of the client's direction and of the server's."""
        client, server = self._expand(b"")
        return Cipher(client), Cipher(server)

    def _expand(self, secret: bytes) -> tuple[bytes, bytes]:
        both = HKDF(SHA256(), 64, self._salt, b"").derive(secret)
        return both[:32], both[32:]
