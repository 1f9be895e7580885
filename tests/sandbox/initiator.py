"""A client's side of the connection in plain Python, for what no real client can be made to do."""

import asyncio
import os
from base64 import b64encode
from collections.abc import Callable
from types import TracebackType
from typing import Self

import aiohttp

from sandbox.network import Network
from sandbox.whatsapp import adv, wire
from sandbox.whatsapp.control_client import ControlClient
from sandbox.whatsapp.curve import KEY_TYPE, KeyPair, agree, generate, sign, verify
from sandbox.whatsapp.frames import PROLOGUE, frame
from sandbox.whatsapp.jid import SERVER, Jid
from sandbox.whatsapp.noise import Cipher, Symmetric
from sandbox.whatsapp.wabinary import Node, decode, encode, leaf, node
from shared.clock import millis


class Initiator:
    """The handshake as whatsmeow does it (handshake.go), certificates included."""

    def __init__(self, root: bytes, static: KeyPair | None = None) -> None:
        self.root = root
        self.static = static or generate(os.urandom)
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

    def __init__(self, network: Network, payload: bytes, noise: KeyPair | None = None) -> None:
        self._network = network
        self._payload = payload
        self._initiator = Initiator(bytes.fromhex(network.root_hex), noise)
        self.noise = self._initiator.static
        self.seen: list[Node] = []
        self._session = aiohttp.ClientSession()

    async def __aenter__(self) -> Self:
        self.socket = await self._session.ws_connect(self._network.server_url, ssl=False)
        initiator, now = self._initiator, millis() // 1000
        await self.socket.send_bytes(PROLOGUE + frame(initiator.hello()))
        answer = (await self.socket.receive_bytes(timeout=30))[3:]
        last, self._sending, self._receiving = initiator.finish(answer, self._payload, now)
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
        data = await self.socket.receive_bytes(timeout=30)
        assert int.from_bytes(data[:3], "big") == len(data) - 3
        stanza = decode(self._receiving.decrypt(data[3:]))
        self.seen.append(stanza)
        return stanza

    async def until(self, fits: Callable[[Node], bool]) -> Node:
        """The next stanza that fits; others are passed over."""
        while not fits(stanza := await self.receive()):
            pass
        return stanza

    async def ask(self, xmlns: str, kind: str, *children: Node, to: Jid = SERVER) -> Node:
        """Send a query and return its answer, which comes under the query's id."""
        query = {"id": os.urandom(8).hex(), "xmlns": xmlns, "type": kind, "to": to}
        await self.send(node("iq", query, *children))
        return await self.until(lambda each: each.tag == "iq" and each.text("id") == query["id"])

    async def closed(self) -> bool:
        """Wait for the server to close."""
        message = await self.socket.receive(timeout=30)
        return message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}


async def pair(network: Network, control: ControlClient, number: str) -> RawClient:
    """Link a client by QR as a companion does it; return it, ready to log in."""
    identity, secret = generate(os.urandom), os.urandom(32)
    async with RawClient(network, registration(identity)) as client:
        offer = await client.receive()
        reference = offer.children[0].children[0].data.decode()
        keys = (client.noise.public, identity.public, secret)
        qr = ",".join([reference, *(b64encode(key).decode() for key in keys)])
        async with asyncio.TaskGroup() as tasks:
            scanning = tasks.create_task(control.scan(number, qr))
            success = await client.receive()
            envelope = success.children[0].child("device-identity")
            assert envelope is not None
            signed = adv.open_envelope(envelope.data, secret)
            proof = b"\6\1" + signed.details + identity.public + signed.account_key
            signature = sign(identity.private, proof, os.urandom)
            answer = wire.encode((1, signed.details), (3, signed.account_signature), (4, signature))
            content = node("pair-device-sign", {}, leaf("device-identity", answer))
            await client.send(node("iq", {"id": success.text("id"), "type": "result"}, content))
        restart = await client.receive()
        assert (restart.tag, restart.text("code")) == ("stream:error", "515")
    return RawClient(network, login(number[1:], scanning.result().device), client.noise)
