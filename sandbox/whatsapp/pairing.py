"""How a client becomes a companion: a QR text is scanned, or a code is typed on the phone.

The server only carries notes between the two: references it made up, and keys sealed so that it
cannot read them. The phone decides; the companion proves with a signature that it agrees.
"""

import asyncio
import base64

import msgspec

from sandbox.whatsapp import code_refusals
from sandbox.whatsapp.connection import REQUEST_TIMEOUT, ClosedError, Connection
from sandbox.whatsapp.device_news import announce
from sandbox.whatsapp.directory import Device, User
from sandbox.whatsapp.jid import SERVER
from sandbox.whatsapp.login import Registration
from sandbox.whatsapp.wabinary import Node, leaf, node
from sandbox.whatsapp.world import World

REFERENCES = 6  # the first QR lives 60 s and each later one 20 s; with other numbers all live 20 s
RESTART = node("stream:error", {"code": "515"})  # "log in with your new name"


class NoSuchPairingError(LookupError):
    """No client is waiting with this QR text or for this phone number."""


class PairingRefusedError(Exception):
    """The client did not accept what the phone sent, or left."""


class LinkCode(msgspec.Struct, frozen=True):
    """A client that shows a code: its half of the exchange, sealed under that code."""

    number: str
    reference: bytes
    wrapped_ephemeral: bytes


class Candidate:
    """A connected client that is nobody's companion yet."""

    def __init__(self, connection: Connection, registration: Registration) -> None:
        self.connection = connection
        self.registration = registration
        self.references: list[bytes] = []
        self.link_code: LinkCode | None = None
        self.finish: asyncio.Future[Node] | None = None


class Pairings:
    def __init__(self, world: World) -> None:
        self._world = world
        self._candidates: list[Candidate] = []

    def __len__(self) -> int:
        return len(self._candidates)

    def numbers(self) -> list[str]:
        """For each waiting client the number it asked a code for, empty if for none."""
        return [each.link_code.number if each.link_code else "" for each in self._candidates]

    def open(self, connection: Connection, registration: Registration) -> Candidate:
        """Offer a new client the references its QR texts are made of."""
        candidate = Candidate(connection, registration)
        candidate.references = [self._reference() for _ in range(REFERENCES)]
        self._candidates.append(candidate)
        offers = [leaf("ref", reference) for reference in candidate.references]
        attrs = {"from": SERVER, "id": self._world.new_id(), "type": "set", "xmlns": "md"}
        connection.send(node("iq", attrs, node("pair-device", {}, *offers)))
        return candidate

    def _reference(self) -> bytes:
        return b"2@" + base64.urlsafe_b64encode(self._world.rand(24))

    def close(self, candidate: Candidate) -> None:
        """Forget a client that left."""
        self._candidates.remove(candidate)
        if candidate.finish is not None and not candidate.finish.done():
            candidate.finish.set_exception(PairingRefusedError("the client left"))

    def by_reference(self, reference: bytes) -> Candidate:
        for candidate in self._candidates:
            if reference in candidate.references:
                return candidate
        raise NoSuchPairingError("no client is showing this QR")

    def by_number(self, number: str) -> tuple[Candidate, LinkCode]:
        """The newest client that shows a code for a phone number."""
        for candidate in reversed(self._candidates):
            if candidate.link_code is not None and candidate.link_code.number == number:
                return candidate, candidate.link_code
        raise NoSuchPairingError("no client is waiting for a code of this number")

    def link_code(self, candidate: Candidate, query: Node) -> Node:
        """Answer the client's part of the pairing by code."""
        result = {"from": SERVER, "id": query.text("id"), "type": "result"}
        stage = query.child("link_code_companion_reg")
        match stage.text("stage") if stage is not None else "":
            case "companion_hello" if stage is not None:
                error = code_refusals.refusal(self._world, stage.jid("jid"))
                if error is not None:
                    return node("iq", result | {"type": "error"}, error)
                candidate.link_code = _hello(stage, self._reference())
                reference = leaf("link_code_pairing_ref", candidate.link_code.reference)
                return node("iq", result, node("link_code_companion_reg", {}, reference))
            case "companion_finish" if stage is not None:
                if candidate.finish is not None and not candidate.finish.done():
                    candidate.finish.set_result(stage)
                return node("iq", result)
            case _:
                error = node("error", {"code": "400", "text": "bad-request"})
                return node("iq", result | {"type": "error"}, error)

    async def hello(self, candidate: Candidate, greeting: Node) -> Node:
        """Carry the phone's half of the exchange over; return the client's `companion_finish`.

        Raises:
            PairingRefusedError: the client left or says nothing.
        """
        candidate.finish = asyncio.get_running_loop().create_future()
        attrs = {
            "from": SERVER,
            "id": self._world.new_id(),
            "t": str(self._world.clock()),
            "type": "link_code_companion_reg",
        }
        candidate.connection.send(node("notification", attrs, greeting))
        try:
            return await asyncio.wait_for(candidate.finish, REQUEST_TIMEOUT)
        except TimeoutError as error:
            raise PairingRefusedError("the client does not answer") from error

    async def offer(self, candidate: Candidate, device: Device, identity: bytes) -> bytes:
        """Tell the client who it will be; return what it signed.

        Raises:
            PairingRefusedError: the client finds a mistake in `identity`, left, or says nothing.
        """
        attrs = {
            "from": SERVER,
            "id": self._world.new_id(),
            "type": "set",
            "t": str(self._world.clock()),
        }
        success = node(
            "pair-success",
            {},
            leaf("device-identity", identity),
            node("device", {"jid": device.pn, "lid": device.lid}),
            node("platform", {"name": "android"}),
        )
        try:
            answer = await candidate.connection.request(node("iq", attrs, success))
        except (ClosedError, TimeoutError) as error:
            raise PairingRefusedError("the client does not answer") from error
        signed = answer.child("pair-device-sign")
        proof = signed.child("device-identity") if signed is not None else None
        if proof is None:
            error = answer.child("error")
            reason = error.text("text") if error is not None else "no signature"
            raise PairingRefusedError(f"the client refused: {reason}")
        return proof.data

    def admit(self, candidate: Candidate, device: Device) -> None:
        """Make the client a device of its user and send it off to log in."""
        device.user.devices[device.number] = device
        announce(self._world, device.user, but=device)
        candidate.connection.end(RESTART)


def new_device(candidate: Candidate, user: User, number: int, key_index: int) -> Device:
    keys = candidate.registration.keys
    return Device(user, number, keys, candidate.connection.client, key_index)


def _hello(stage: Node, reference: bytes) -> LinkCode:
    jid = stage.jid("jid")
    wrapped = stage.child("link_code_pairing_wrapped_companion_ephemeral_pub")
    return LinkCode(jid.user if jid else "", reference, wrapped.data if wrapped else b"")
