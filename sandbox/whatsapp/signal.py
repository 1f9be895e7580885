"""One simulated device as Signal sees it: its keys, its sessions, its groups.

This is the whole state a phone or a contact needs to read and write encrypted messages. It lives as
long as the sandbox does, and can be written to bytes and read back. Addresses are strings that the
caller chooses, one per device of a peer; randomness is an argument.
"""

from typing import Literal, Self, assert_never

import msgspec

from sandbox.whatsapp import curve, senderkey, x3dh
from sandbox.whatsapp.curve import KeyPair, Rand
from sandbox.whatsapp.ratchet import Session
from sandbox.whatsapp.senderkey import OwnSenderKey, SenderKeys
from sandbox.whatsapp.signal_errors import (
    BadPaddingError,
    DuplicateMessageError,
    MalformedMessageError,
    NoPreKeyError,
    NoSenderKeyError,
    NoSessionError,
    SignalError,
)
from sandbox.whatsapp.x3dh import PreKey, PreKeyBundle, PreKeyMessage, SignedPreKey

Kind = Literal["pkmsg", "msg"]
"""What WhatsApp calls a message that may begin a session, and one of a session both sides have."""

MAX_ARCHIVED_SESSIONS = 40
"""Sessions kept behind the current one of each peer device: as many as Signal's libraries keep."""

MAX_PREKEY_ID = 2**24 - 1
"""Prekey ids travel in three bytes; zero stands for none."""

SIGNED_PREKEY_ID = 1
"""The one signed prekey a simulated device ever has: it does not live long enough to rotate it."""

MAX_PADDING = 16
"""The most padding a reader accepts; WhatsApp's writers use one to fifteen bytes."""


class PublicKeys(msgspec.Struct, frozen=True):
    """What a device uploads for others: the server hands each one-time prekey out once."""

    registration_id: int
    identity: bytes
    signed_prekey: SignedPreKey
    one_time: tuple[PreKey, ...]

    def bundle(self, one_time: PreKey | None) -> PreKeyBundle:
        """Return what begins a session; `one_time` is None when none is left."""
        return PreKeyBundle(self.registration_id, self.identity, self.signed_prekey, one_time)


class SignalDevice(msgspec.Struct):
    """The secrets and sessions of one device. Every method that fails leaves them as they were."""

    registration_id: int
    identity: KeyPair
    signed_prekey: KeyPair
    signed_prekey_public: SignedPreKey
    one_time: dict[int, KeyPair] = {}
    next_prekey_id: int = 1
    # By peer device; the first session is the current one, the others are the archive.
    sessions: dict[str, list[Session]] = {}
    # By group: what we write with. By group, then sender: what we read with.
    own_sender_keys: dict[str, OwnSenderKey] = {}
    sender_keys: dict[str, dict[str, SenderKeys]] = {}

    @classmethod
    def create(cls, rand: Rand, identity: KeyPair | None = None, one_time: int = 0) -> Self:
        """Make a new device, with an identity of its own or the given one, and some prekeys."""
        identity = identity or curve.generate(rand)
        prekey = curve.generate(rand)
        signed = x3dh.sign_prekey(identity, prekey, SIGNED_PREKEY_ID, rand)
        device = cls(int.from_bytes(rand(4), "big"), identity, prekey, signed)
        device.add_prekeys(one_time, rand)
        return device

    def encode(self) -> bytes:
        """Write the whole state, secrets included."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote; msgspec.DecodeError if it is something else."""
        return msgspec.msgpack.decode(data, type=cls)

    def add_prekeys(self, count: int, rand: Rand) -> tuple[PreKey, ...]:
        """Make one-time prekeys; return their public halves, to be uploaded or sent to a peer."""
        added: list[PreKey] = []
        for _ in range(count):
            pair, number = curve.generate(rand), self.next_prekey_id
            self.one_time[number] = pair
            self.next_prekey_id = number % MAX_PREKEY_ID + 1
            added.append(PreKey(number, pair.public))
        return tuple(added)

    def public_keys(self) -> PublicKeys:
        """Return what a server needs to know of this device; every unused prekey is included."""
        one_time = tuple(PreKey(number, pair.public) for number, pair in self.one_time.items())
        signed = self.signed_prekey_public
        return PublicKeys(self.registration_id, self.identity.public, signed, one_time)

    def has_session(self, peer: str) -> bool:
        """Tell whether `encrypt` would do without a bundle."""
        return bool(self.sessions.get(peer))

    def identity_of(self, peer: str) -> bytes | None:
        """Return the identity key of the peer in the current session."""
        sessions = self.sessions.get(peer)
        return sessions[0].theirs if sessions else None

    def forget(self, peer: str) -> None:
        """Drop every session with a peer device, as when its identity changed."""
        self.sessions.pop(peer, None)

    def encrypt(
        self, peer: str, plaintext: bytes, rand: Rand, bundle: PreKeyBundle | None = None
    ) -> tuple[Kind, bytes]:
        """Encrypt for a peer device; a bundle begins a new session and archives the current one.

        Give a bundle only when there is no session, or when the peer sent new keys because it could
        not read: an initiator who has no answer yet must go on with the session it began.

        Raises:
            NoSessionError: there is neither a session nor a bundle.
            SignalError: the bundle is not signed, or its keys are unusable.
        """
        if bundle is not None:
            session = x3dh.initiate(self.identity, bundle, rand)
        elif self.has_session(peer):
            session = self.sessions[peer][0]
        else:
            raise NoSessionError("no session with this peer, and no bundle to begin one")
        following, message = session.encrypt(plaintext)
        self._make_current(peer, following, session)
        if session.unanswered is None:
            return "msg", message
        first = PreKeyMessage(
            registration_id=self.registration_id,
            base_key=session.base_key,
            identity=session.ours,
            message=message,
            prekeys=session.unanswered,
        )
        return "pkmsg", first.encode()

    def decrypt(self, peer: str, kind: Kind, data: bytes, rand: Rand) -> bytes:
        """Decrypt a message of a peer device; the session that could read it becomes current.

        Raises:
            SignalError: see its tree; the kind of error tells what a retry receipt must ask for.
        """
        match kind:
            case "pkmsg":
                return self._decrypt_first(peer, data, rand)
            case "msg":
                return self._decrypt_later(peer, data, rand)
            case _:
                assert_never(kind)

    def sender_key(self, group: str, rand: Rand) -> bytes:
        """Return the distribution message of our key in a group, which is made if there is none."""
        if group not in self.own_sender_keys:
            self.own_sender_keys[group] = OwnSenderKey.create(rand)
        return self.own_sender_keys[group].distribution()

    def forget_sender_key(self, group: str) -> None:
        """Stop using our key in a group, as when a member left; `sender_key` makes a new one."""
        self.own_sender_keys.pop(group, None)

    def learn_sender_key(self, group: str, sender: str, data: bytes) -> None:
        """Take in another device's distribution message; MalformedMessageError if it is none."""
        known = self.sender_keys.get(group, {}).get(sender, ())
        self.sender_keys.setdefault(group, {})[sender] = senderkey.learn(known, data)

    def encrypt_group(self, group: str, plaintext: bytes, rand: Rand) -> bytes:
        """Encrypt once for the whole group; the distribution message must have been sent before.

        Raises:
            NoSenderKeyError: `sender_key` was not called for this group.
        """
        if group not in self.own_sender_keys:
            raise NoSenderKeyError("our key was not handed out to this group")
        following, message = self.own_sender_keys[group].encrypt(plaintext, rand)
        self.own_sender_keys[group] = following
        return message

    def decrypt_group(self, group: str, sender: str, data: bytes) -> bytes:
        """Decrypt a group message of another device.

        Raises:
            SignalError: NoSenderKeyError until the sender handed its key out; see the tree.
        """
        known = self.sender_keys.get(group, {}).get(sender, ())
        following, plaintext = senderkey.decrypt(known, data)
        self.sender_keys[group][sender] = following
        return plaintext

    def _decrypt_first(self, peer: str, data: bytes, rand: Rand) -> bytes:
        message = PreKeyMessage.decode(data)
        sessions = self.sessions.get(peer, ())
        known = (message.base_key, message.identity)
        session = next((s for s in sessions if (s.base_key, s.theirs) == known), None)
        begun = session or self._join(message)
        following, plaintext = begun.decrypt(message.message, rand)
        self._make_current(peer, following, begun)
        if session is None and message.prekeys.one_time_id is not None:
            del self.one_time[message.prekeys.one_time_id]
        return plaintext

    def _decrypt_later(self, peer: str, data: bytes, rand: Rand) -> bytes:
        refusals: list[SignalError] = []
        for session in self.sessions.get(peer, ()):
            try:
                following, plaintext = session.decrypt(data, rand)
            except MalformedMessageError:
                raise
            except SignalError as refusal:
                refusals.append(refusal)
            else:
                self._make_current(peer, following, session)
                return plaintext
        if not refusals:
            raise NoSessionError("a message of a session we do not have")
        # Only the session a message belongs to knows it for a duplicate; the others see a bad MAC.
        duplicates = (error for error in refusals if isinstance(error, DuplicateMessageError))
        raise next(duplicates, refusals[0])

    def _join(self, message: PreKeyMessage) -> Session:
        if message.prekeys.signed_prekey_id != self.signed_prekey_public.id:
            raise NoPreKeyError(f"no signed prekey {message.prekeys.signed_prekey_id}")
        one_time_id = message.prekeys.one_time_id
        if one_time_id is not None and one_time_id not in self.one_time:
            raise NoPreKeyError(f"no one-time prekey {one_time_id}, or no longer")
        one_time = self.one_time[one_time_id] if one_time_id is not None else None
        return x3dh.respond(self.identity, self.signed_prekey, one_time, message)

    def _make_current(self, peer: str, following: Session, replaced: Session) -> None:
        others = [session for session in self.sessions.get(peer, ()) if session is not replaced]
        self.sessions[peer] = [following, *others][: 1 + MAX_ARCHIVED_SESSIONS]


def pad(plaintext: bytes, rand: Rand) -> bytes:
    """Pad a message as WhatsApp does: n bytes of value n, n from 1 to 15."""
    size = rand(1)[0] & 0x0F or 0x0F
    return plaintext + bytes([size]) * size


def unpad(padded: bytes) -> bytes:
    """Undo `pad`; BadPaddingError unless it ends in n bytes of value n, n from 1 to 16."""
    size = padded[-1] if padded else 0
    if not 0 < size <= MAX_PADDING or not padded.endswith(bytes([size]) * size):
        raise BadPaddingError("the plaintext does not end in its padding")
    return padded[:-size]
