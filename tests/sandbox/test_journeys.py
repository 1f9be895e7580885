"""Whole journeys of an unmodified neonize through the sandbox's WhatsApp."""

from sandbox.whatsapp.control_client import ControlClient
from tests.sandbox.harness import NeonizeClient

OWNER, CONTACT = "+5511987654321", "+4915123456789"


async def link(client: NeonizeClient, control: ControlClient) -> None:
    await control.create_person(OWNER, "Owner")
    qr = await client.until("qr")
    await control.scan(OWNER, qr["text"])
    await client.until("Connected")


async def test_a_client_is_linked_by_its_qr(client: NeonizeClient, control: ControlClient) -> None:
    """A scanned QR makes the client a companion that logs in by itself."""
    await link(client, control)
    [device] = await control.devices(OWNER)
    assert device.connected
    assert device.prekeys > 0
