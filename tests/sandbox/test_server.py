"""The server towards a client that behaves as none should."""

import asyncio
import os
from urllib.parse import urlsplit

import aiohttp
import pytest

from sandbox.network import Network
from sandbox.whatsapp import control_types as faults
from sandbox.whatsapp.control_client import ControlClient
from sandbox.whatsapp.curve import KEY_TYPE, generate, sign
from sandbox.whatsapp.jid import SERVER, parse
from sandbox.whatsapp.wabinary import leaf, node
from tests.sandbox.initiator import RawClient, login, pair, registration

OWNER, CONTACT = "+5511987654321", "+4915123456789"


async def test_an_unpaired_client_is_offered_six_references(network: Network) -> None:
    """Six references make QR texts that last 160 seconds; they are bytes, without commas."""
    async with RawClient(network, registration(generate(os.urandom))) as client:
        offer = await client.receive()
        [device] = offer.children
        assert (offer.tag, offer.jid("from"), device.tag) == ("iq", SERVER, "pair-device")
        references = [reference.data for reference in device.all("ref")]
        assert len(set(references)) == 6
        assert all(reference.isascii() and b"," not in reference for reference in references)


async def test_an_unpaired_client_gets_no_answers_but_to_its_pings(network: Network) -> None:
    """Who is nobody yet may keep the connection open and ask for nothing."""
    async with RawClient(network, registration(generate(os.urandom))) as client:
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
    async with RawClient(network, payload) as client:
        failure = await client.receive()
        assert (failure.tag, failure.text("reason")) == ("failure", reason)
        assert await client.closed()


async def test_garbage_ends_the_connection(network: Network) -> None:
    """A frame that is no stanza is not survived, and the server goes on for others."""
    async with RawClient(network, registration(generate(os.urandom))) as client:
        await client.receive()
        await client.send_raw(b"\0\xf8\x63")
        assert await client.closed()
    async with RawClient(network, registration(generate(os.urandom))) as client:
        assert (await client.receive()).tag == "iq"


@pytest.mark.parametrize("opening", [b"GET / HTTP/1.1", b"WA\x06\x02\0\0\1x", b"WA\x06\x03\0\0\1x"])
async def test_another_opening_is_no_client(network: Network, opening: bytes) -> None:
    """Other versions, other protocols and a hello that is none are turned away."""
    async with aiohttp.ClientSession() as session:
        socket = await session.ws_connect(network.server_url, ssl=False)
        await socket.send_bytes(opening)
        message = await socket.receive(timeout=30)
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


async def test_a_companion_is_welcomed_and_every_query_answered(
    network: Network, control: ControlClient
) -> None:
    """A login gets its name and what waited; an unknown query gets 501, a known one its result."""
    await control.create_person(OWNER, "Owner")
    async with await pair(network, control, OWNER) as client:
        success = await client.receive()
        assert (success.tag, str(success.jid("lid")).endswith(":1@lid")) == ("success", True)
        previews = [(await client.receive()).children[0].tag for _ in range(2)]
        assert previews == ["offline_preview", "offline"]
        assert (await client.ask("w:p", "get")).text("type") == "result"
        for query in (("w:nothing", "get"), ("w:g2", "set"), ("encrypt", "set")):
            refused = await client.ask(*query, node("unheard-of"))
            assert refused.text("type") == "error"
            assert refused.children[0].attrs == {
                "code": "501",
                "text": "feature-not-implemented",
            }
        malformed = await client.ask("usync", "get", node("usync"))
        assert malformed.children[0].text("code") == "400"


async def test_a_stanza_comes_again_until_it_is_confirmed(
    network: Network, control: ControlClient
) -> None:
    """What a companion did not confirm waits for its next login, marked as such."""
    await control.create_person(OWNER, "Owner")
    await control.create_person(CONTACT, "Contact")
    paired = await pair(network, control, OWNER)
    async with paired as client:
        await client.until(lambda stanza: stanza.tag == "ib" and bool(stanza.child("offline")))
        await upload_prekeys(client)
        sent = await control.send(CONTACT, OWNER, "hello")
        first = await client.until(lambda stanza: stanza.tag == "message")
        assert first.text("id") == sent.id
    async with RawClient(network, login(OWNER[1:], 1), paired.noise) as client:
        again = await client.until(lambda stanza: stanza.tag == "message")
        assert (again.text("id"), again.text("offline")) == (sent.id, "0")
        to = again.jid("from")
        assert to is not None
        await client.send(node("receipt", {"id": sent.id, "to": to}))
        await client.until(lambda stanza: stanza.tag == "ack")
    assert (await control.sent(CONTACT, sent.id)).delivered
    async with RawClient(network, login(OWNER[1:], 1), paired.noise) as client:
        last = await client.until(lambda stanza: stanza.tag in {"message", "ib"})
        assert last.children[0].text("message") == "0"


async def test_a_second_login_takes_the_place_of_the_first(
    network: Network, control: ControlClient
) -> None:
    """A device has one connection; the older one is told that it was replaced."""
    await control.create_person(OWNER, "Owner")
    paired = await pair(network, control, OWNER)
    async with paired as first:
        await first.receive()
        async with RawClient(network, login(OWNER[1:], 1), paired.noise) as second:
            assert (await second.receive()).tag == "success"
            end = await first.until(lambda stanza: stanza.tag == "stream:error")
            assert end.children[0].text("type") == "replaced"
            assert [device.connected for device in await control.devices(OWNER)] == [True]


async def test_a_silent_network_says_nothing_until_it_is_not(
    network: Network, control: ControlClient
) -> None:
    """Under silence nothing passes and nothing closes; what was kept comes afterwards."""
    await control.create_person(OWNER, "Owner")
    await control.create_person(CONTACT, "Contact")
    async with await pair(network, control, OWNER) as client:
        await client.until(lambda stanza: stanza.tag == "ib" and bool(stanza.child("offline")))
        await upload_prekeys(client)
        await control.fault(OWNER, faults.Silence())
        await client.send(node("iq", {"id": "unheard", "xmlns": "w:p", "type": "get"}))
        sent = await control.send(CONTACT, OWNER, "hello")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.receive(), 0.2)
        await control.fault(OWNER, faults.Silence(on=False))
        message = await client.until(lambda stanza: stanza.tag == "message")
        assert message.text("id") == sent.id


async def test_a_one_time_key_is_given_away_once(network: Network, control: ControlClient) -> None:
    """Each fetch takes another key; when few are left the device is asked for more."""
    await control.create_person(OWNER, "Owner")
    contact = parse((await control.create_person(CONTACT, "Contact")).lid)
    seen: set[bytes] = set()
    async with await pair(network, control, OWNER) as client:
        for _ in range(40):
            asked = node("key", {}, node("user", {"jid": contact}))
            answer = await client.ask("encrypt", "get", asked)
            key = answer.children[0].children[0].child("key")
            assert key is not None
            seen.add(key.children[0].data)
        nobody = node("key", {}, node("user", {"jid": contact.with_device(9)}))
        answer = await client.ask("encrypt", "get", nobody)
        assert answer.children[0].children[0].children[0].text("code") == "404"
    assert len(seen) == 40


async def upload_prekeys(client: RawClient) -> None:
    """Upload one key, so that the device can be written to as to a real one."""
    identity, prekey = generate(os.urandom), generate(os.urandom)
    signature = sign(identity.private, KEY_TYPE + prekey.public, os.urandom)
    number = leaf("id", b"\0\0\1")
    answer = await client.ask(
        "encrypt",
        "set",
        leaf("registration", b"\0\0\0\1"),
        leaf("type", KEY_TYPE),
        leaf("identity", identity.public),
        node("list", {}, node("key", {}, number, leaf("value", prekey.public))),
        node("skey", {}, number, leaf("value", prekey.public), leaf("signature", signature)),
    )
    assert answer.text("type") == "result"


async def _socks(network: Network, *said: bytes) -> bytes:
    """What the way in answers a SOCKS5 client that says this, until it hangs up or waits."""
    url = urlsplit(network.proxy_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    heard = b""
    for part in said:
        writer.write(part)
        heard += await asyncio.wait_for(reader.read(64), 30)
    writer.close()
    return heard


def _ask(name: bytes, port: int = 443) -> bytes:
    return b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big")


async def test_the_way_in_speaks_socks(network: Network) -> None:
    """RFC 1928, open and with any login; other names, and addresses, are refused."""
    known, stranger = _ask(b"web.whatsapp.com"), _ask(b"example.org")
    somebody = b"\x01\x04some\x03one"
    assert await _socks(network, b"\x05\x01\x00", known) == b"\x05\x00\x05\x00\x00\x01" + bytes(6)
    answered = await _socks(network, b"\x05\x02\x00\x02", somebody, known)
    assert answered == b"\x05\x02\x01\x00\x05\x00\x00\x01" + bytes(6)
    assert await _socks(network, b"\x05\x01\x00", stranger) == b"\x05\x00\x05\x02\x00\x01" + bytes(
        6
    )
    assert await _socks(network, b"\x05\x01\x00", b"\x05\x01\x00\x01\x7f\x00\x00\x01\x01\xbb") == (
        b"\x05\x00"
    )
    assert await _socks(network, b"\x05\x01\x01", known) == b"\x05\xff"
