"""The server towards a client that behaves as none should."""

import os

import aiohttp
import pytest

from sandbox.network import Network
from sandbox.whatsapp.control_client import ControlClient
from sandbox.whatsapp.curve import generate
from sandbox.whatsapp.jid import SERVER
from sandbox.whatsapp.wabinary import node
from shared.clock import millis
from tests.sandbox.initiator import RawClient, login, registration

OWNER = "+5511987654321"


def raw(network: Network, payload: bytes) -> RawClient:
    return RawClient(network, payload, millis() // 1000)


async def test_an_unpaired_client_is_offered_six_references(network: Network) -> None:
    """Six references make QR texts that last 160 seconds; they are bytes, without commas."""
    async with raw(network, registration(generate(os.urandom))) as client:
        offer = await client.receive()
        [device] = offer.children
        assert (offer.tag, offer.jid("from"), device.tag) == ("iq", SERVER, "pair-device")
        references = [reference.data for reference in device.all("ref")]
        assert len(set(references)) == 6
        assert all(reference.isascii() and b"," not in reference for reference in references)


async def test_an_unpaired_client_gets_no_answers_but_to_its_pings(network: Network) -> None:
    """Who is nobody yet may keep the connection open and ask for nothing."""
    async with raw(network, registration(generate(os.urandom))) as client:
        await client.receive()
        for xmlns, expected in (("w:p", "result"), ("encrypt", "error"), ("w:g2", "error")):
            await client.send(node("iq", {"id": xmlns, "type": "get", "xmlns": xmlns}))
            answer = await client.receive()
            assert (answer.text("id"), answer.text("type")) == (xmlns, expected)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "400"),
        (b"\xff\xff", "400"),
        (registration(generate(os.urandom), forged=True), "400"),
        (login("4915123456789", 1), "401"),
        (login("5511987654321", 0), "401"),
        (login("5511987654321", 7), "401"),
    ],
    ids=["empty", "garbage", "forged", "nobody", "the-phone", "no-such-device"],
)
async def test_a_login_that_does_not_hold_is_refused(
    network: Network, control: ControlClient, payload: bytes, reason: str
) -> None:
    """A payload is malformed (400) or names a device whose key this is not (401)."""
    await control.create_person(OWNER, "Owner")
    async with raw(network, payload) as client:
        failure = await client.receive()
        assert (failure.tag, failure.text("reason")) == ("failure", reason)
        assert await client.closed()


async def test_garbage_ends_the_connection(network: Network) -> None:
    """A frame that is no stanza is not survived, and the server goes on for others."""
    async with raw(network, registration(generate(os.urandom))) as client:
        await client.receive()
        await client.send_raw(b"\0\xf8\x63")
        assert await client.closed()
    async with raw(network, registration(generate(os.urandom))) as client:
        assert (await client.receive()).tag == "iq"


@pytest.mark.parametrize("opening", [b"GET / HTTP/1.1", b"WA\x06\x02\0\0\1x", b"WA\x06\x03\0\0\1x"])
async def test_another_opening_is_no_client(network: Network, opening: bytes) -> None:
    """Other versions, other protocols and a hello that is none are turned away."""
    async with aiohttp.ClientSession() as session:
        socket = await session.ws_connect(network.server_url, ssl=False)
        await socket.send_bytes(opening)
        message = await socket.receive(timeout=5)
        assert message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}
        await socket.close()


async def test_nobody_connects_while_the_network_is_down(
    network: Network, control: ControlClient
) -> None:
    """Without internet neither the proxy nor the server answers."""
    await control.down(3600)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(network.server_url, ssl=False)
        with pytest.raises(aiohttp.ClientError):
            await session.get("https://web.whatsapp.com/", proxy=network.proxy_url, ssl=False)
    await control.down(0)
    async with aiohttp.ClientSession() as session:
        answer = await session.get("https://web.whatsapp.com/", proxy=network.proxy_url, ssl=False)
        assert answer.status == 404
        answer.release()


@pytest.mark.parametrize("host", ["example.org", "whatsapp.net.example.org", "127.0.0.1"])
async def test_the_proxy_leads_nowhere_else(network: Network, host: str) -> None:
    """Only WhatsApp's names are known, so a client led here reaches nothing else."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientHttpProxyError) as refused:
            await session.get(f"https://{host}/", proxy=network.proxy_url, ssl=False)
        assert refused.value.status == 403


async def test_media_is_kept_under_its_hash_only(network: Network) -> None:
    """An upload is fetched as it was; a token that is not the hash, or not there, is refused."""
    base = network.server_url.replace("wss", "https").removesuffix("/ws/chat")
    token = "LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564="  # SHA-256 of "foo"
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{base}/mms/image/{token}", data=b"foo", ssl=False) as answer:
            path = (await answer.json())["direct_path"]
        async with session.get(base + path, ssl=False) as answer:
            assert await answer.read() == b"foo"
        async with session.post(f"{base}/mms/image/{token}", data=b"bar", ssl=False) as answer:
            assert answer.status == 400
        for wrong in ("/v/..%2f..%2fca.key", "/v/none"):
            async with session.get(base + wrong, ssl=False) as answer:
                assert answer.status == 404
        async with session.delete(f"{base}/mms/md-msg-hist/{token}", ssl=False) as answer:
            assert answer.status == 200
        async with session.get(base + path, ssl=False) as answer:
            assert answer.status == 404
