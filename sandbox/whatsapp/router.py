"""What a device may send, and where each kind of stanza goes.

Companions and simulated phones come through the same door, so that what a contact does is what a
client could do.
"""

import logging

from sandbox.whatsapp import messages, presence, receipts
from sandbox.whatsapp.directory import Device
from sandbox.whatsapp.iqs import answer, failed
from sandbox.whatsapp.wabinary import Node
from sandbox.whatsapp.world import World

logger = logging.getLogger(__name__)


def handle(world: World, device: Device, stanza: Node) -> None:
    """Act on one stanza of a logged-in device; a fault of ours must not take its connection."""
    if device.user.faults.silent and device.number:
        return
    try:
        _handle(world, device, stanza)
    except Exception:
        logger.exception("sandbox.stanza_failed", extra={"stanza": stanza.tag})
        if stanza.tag == "iq":
            world.deliver(device, failed(stanza))


def _handle(world: World, device: Device, stanza: Node) -> None:
    match stanza.tag:
        case "iq" if stanza.text("type") in ("get", "set"):
            answer(world, device, stanza)
        case "message":
            messages.route(world, device, stanza)
        case "receipt":
            receipts.route(world, device, stanza)
        case "ack":
            confirmed = stanza.text("type") if stanza.text("class") != "message" else ""
            world.confirm(device, stanza.text("class"), stanza.text("id"), confirmed)
        case "presence":
            presence.route(world, device, stanza)
        case "chatstate":
            presence.route_chatstate(world, device, stanza)
        case "iq" | "ib" | "notification" | "call" | "xmlstreamend":
            pass
        case unknown:
            logger.info("sandbox.stanza_ignored", extra={"stanza": unknown})
