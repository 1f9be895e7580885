"""The clients of the server, from the handshake to the log-out.

A client without a name waits to be paired; a client with one is checked against the key seen at
its pairing, welcomed, and handed what waited for it.
"""

import logging

from sandbox.whatsapp import presence, router
from sandbox.whatsapp.connection import Connection
from sandbox.whatsapp.directory import Device
from sandbox.whatsapp.iqs import answer_unpaired
from sandbox.whatsapp.jid import SERVER
from sandbox.whatsapp.login import Login, PayloadError, Registration, read_payload
from sandbox.whatsapp.noise import Established
from sandbox.whatsapp.pairing import Candidate, Pairings
from sandbox.whatsapp.wabinary import Node, node
from sandbox.whatsapp.world import World

logger = logging.getLogger(__name__)

WRONG_DEVICE = node("failure", {"reason": "401", "location": "sbx"})
FLAP = (
    0.2  # seconds a connection lives that is welcomed and closed: its client is logged in by then
)
BAD_PAYLOAD = node("failure", {"reason": "400", "location": "sbx"})


class Clients:
    def __init__(self, world: World, pairings: Pairings) -> None:
        self._world = world
        self._pairings = pairings

    def welcome(self, connection: Connection, established: Established) -> None:
        """Decide what a client that finished the handshake gets."""
        try:
            said = read_payload(established.payload)
        except PayloadError as error:
            logger.info("sandbox.payload_refused", extra={"reason": str(error)})
            connection.end(BAD_PAYLOAD)
            return
        match said:
            case Registration():
                self._register(connection, said)
            case Login():
                self._log_in(connection, said)

    def _register(self, connection: Connection, said: Registration) -> None:
        candidate = self._pairings.open(connection, said)
        connection.on_stanza = lambda stanza: self._from_candidate(candidate, stanza)
        connection.on_close = lambda: self._pairings.close(candidate)

    def _from_candidate(self, candidate: Candidate, stanza: Node) -> None:
        if stanza.tag != "iq" or stanza.text("type") not in ("get", "set"):
            return
        if stanza.child("link_code_companion_reg") is not None:
            candidate.connection.send(self._pairings.link_code(candidate, stanza))
        else:
            candidate.connection.send(answer_unpaired(stanza))

    def _log_in(self, connection: Connection, said: Login) -> None:
        user = self._world.directory.by_number(said.number)
        device = user.devices.get(said.device) if user is not None else None
        if user is None or device is None or device.noise_key != connection.client:
            connection.end(WRONG_DEVICE)
            return
        if user.faults.next_login:
            connection.end(user.faults.next_login.popleft())
            return
        if isinstance(device.outlet, Connection):
            device.outlet.end(node("stream:error", {}, node("conflict", {"type": "replaced"})))
        device.outlet = connection
        device.online_since = self._world.clock()
        connection.on_stanza = lambda stanza: router.handle(self._world, device, stanza)
        connection.on_close = lambda: self._left(device, connection)
        self._greet(device, connection)

    def _greet(self, device: Device, connection: Connection) -> None:
        now = str(self._world.clock())
        connection.send(node("success", {"t": now, "lid": device.lid, "location": "sbx"}))
        waiting = list(device.pending.values())
        counts = {
            "count": str(len(waiting)),
            "message": str(sum(stanza.tag == "message" for stanza in waiting)),
            "receipt": str(sum(stanza.tag == "receipt" for stanza in waiting)),
            "notification": str(sum(stanza.tag == "notification" for stanza in waiting)),
            "appdata": "0",
        }
        connection.send(node("ib", {"from": SERVER}, node("offline_preview", counts)))
        for stanza in waiting:
            connection.send(stanza.with_attrs(offline="0"))
        done = node("offline", {"count": counts["count"]})
        connection.send(node("ib", {"from": SERVER}, done))

    def _left(self, device: Device, connection: Connection) -> None:
        if device.outlet is connection:
            device.outlet = None
            presence.set_available(self._world, device, available=False)
