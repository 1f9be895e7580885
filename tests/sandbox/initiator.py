"""A client's side of the connection in plain Python, for what no real client can be made to do."""

import os
from types import TracebackType
from typing import Self

import aiohttp

from sandbox.network import Network
from sandbox.whatsapp import wire
from sandbox.whatsapp.curve import KEY_TYPE, KeyPair, agree, generate, sign, verify
from sandbox.whatsapp.frames import PROLOGUE, frame
from sandbox.whatsapp.noise import Cipher, Symmetric
from sandbox.whatsapp.wabinary import Node, decode, encode


class Initiator:
    """The handshake as whatsmeow does it (handshake.go), certificates included."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self.static = generate(os.urandom)
        self._ephemeral = generate(os.urandom)
        self._state = Symmetric(PROLOGUE)

    def hello(self) -> bytes:
        self._state.mix_hash(self._ephemeral.public)
        return wire.encode((2, wire.encode((1, self._ephemeral.public))))

    def finish(self, answer: bytes, payload: bytes, now: int) -> tuple[bytes, Cipher, Cipher]:
        """Return the last frame, and the ciphers to send and to receive with."""
        hello = wire.Fields.decode(answer).message(3)
        theirs = hello.data(1, 32)
        self._state.mix_hash(theirs)
        self._state.mix_key(agree(self._ephemeral.private, theirs))
        server = self._state.decrypt(hello.data(2))
        self._state.mix_key(agree(self._ephemeral.private, server))
        self._check(self._state.decrypt(hello.data(3)), server, now)
        static = self._state.encrypt(self.static.public)
        self._state.mix_key(agree(self.static.private, theirs))
        sealed = self._state.encrypt(payload)
        sending, receiving = self._state.split()
        return wire.encode((4, wire.encode((1, static), (2, sealed)))), sending, receiving

    def _check(self, chain: bytes, server: bytes, now: int) -> None:
        certificates = wire.Fields.decode(chain)
        leaf, middle = certificates.message(1), certificates.message(2)
        leaf_says = wire.Fields.decode(leaf.data(1))
        middle_says = wire.Fields.decode(middle.data(1))
        assert verify(self.root, middle.data(1), middle.data(2, 64))
        assert verify(middle_says.data(3, 32), leaf.data(1), leaf.data(2, 64))
        assert middle_says.number(2, 0) == 0
        assert leaf_says.number(2) == middle_says.number(1)
        assert leaf_says.data(3) == server
        for says in (leaf_says, middle_says):
            assert says.number(4) <= now <= says.number(5)


def registration(identity: KeyPair, *, forged: bool = False) -> bytes:
    """The payload of a client that wants to be paired."""
    prekey = generate(os.urandom)
    signer = generate(os.urandom) if forged else identity
    signature = sign(signer.private, KEY_TYPE + prekey.public, os.urandom)
    pairing = wire.encode(
        (1, os.urandom(4)),
        (2, KEY_TYPE),
        (3, identity.public),
        (4, b"\0\0\1"),
        (5, prekey.public),
        (6, signature),
    )
    return wire.encode((3, 0), (19, pairing), (33, 0))


def login(number: str, device: int) -> bytes:
    """The payload of a client that was paired before."""
    return wire.encode((1, int(number)), (3, 1), (18, device), (33, 1))


class RawClient:
    """A WebSocket to the server itself, opened and closed as a context."""

    def __init__(self, network: Network, payload: bytes, now: int) -> None:
        self._network = network
        self._payload = payload
        self._now = now
        self._session = aiohttp.ClientSession()

    async def __aenter__(self) -> Self:
        self.socket = await self._session.ws_connect(self._network.server_url, ssl=False)
        initiator = Initiator(bytes.fromhex(self._network.root_hex))
        self.noise = initiator.static
        await self.socket.send_bytes(PROLOGUE + frame(initiator.hello()))
        answer = (await self.socket.receive_bytes(timeout=5))[3:]
        last, self._sending, self._receiving = initiator.finish(answer, self._payload, self._now)
        await self.socket.send_bytes(frame(last))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.socket.close()
        await self._session.close()

    async def send(self, stanza: Node) -> None:
        await self.socket.send_bytes(frame(self._sending.encrypt(encode(stanza))))

    async def send_raw(self, plain: bytes) -> None:
        await self.socket.send_bytes(frame(self._sending.encrypt(plain)))

    async def receive(self) -> Node:
        """The next stanza; each WebSocket message of this server holds exactly one."""
        data = await self.socket.receive_bytes(timeout=5)
        assert int.from_bytes(data[:3], "big") == len(data) - 3
        return decode(self._receiving.decrypt(data[3:]))

    async def closed(self) -> bool:
        """Wait for the server to close."""
        message = await self.socket.receive(timeout=5)
        return message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}
