"""What is done to a client, seen by one that takes it as it comes."""

import asyncio

import aiohttp
import pytest

from sandbox.network import Network
from sandbox.whatsapp import control_types as faults
from sandbox.whatsapp.control_client import ControlClient
from sandbox.whatsapp.noise import HandshakeError
from sandbox.whatsapp.wabinary import MalformedNodeError, node
from tests.sandbox.initiator import RawClient, login, pair

OWNER = "+5511987654321"


@pytest.fixture
async def linked(network: Network, control: ControlClient) -> RawClient:
    """A linked client, ready to log in."""
    await control.create_person(OWNER, "Owner")
    return await pair(network, control, OWNER)


@pytest.mark.parametrize(
    ("what", "tag"), [("receipt", "receipt"), ("chatstate", "chatstate"), ("stanza", "unheard-of")]
)
async def test_poison_comes_as_asked(
    control: ControlClient, linked: RawClient, what: str, tag: str
) -> None:
    """A stanza of a type nobody knows; the connection is none the worse."""
    async with linked:
        await linked.until(lambda each: each.tag == "success")
        await control.fault(OWNER, faults.Poison(what))  # pyright: ignore[reportArgumentType] (a parameter is a str)
        poison = await linked.until(lambda each: each.tag == tag)
        assert poison.jid("from") is not None
        assert (await linked.ask("w:p", "get")).text("type") == "result"


async def test_junk_is_no_stanza_and_noise_no_frame(
    control: ControlClient, linked: RawClient
) -> None:
    """Each is sealed as any frame, so that those behind it can be opened."""
    async with linked:
        await linked.until(lambda each: each.text("id") == "" and each.child("offline") is not None)
        await control.fault(OWNER, faults.Poison("junk"))
        with pytest.raises(MalformedNodeError):
            await linked.receive()
        await control.fault(OWNER, faults.Poison("noise"))
        with pytest.raises(HandshakeError):
            await linked.receive()


async def test_flapping_ends_each_connection_that_becomes_active(
    network: Network, control: ControlClient, linked: RawClient
) -> None:
    """So often, and no more."""
    await control.fault(OWNER, faults.Flap(1))
    async with linked:
        await linked.ask("passive", "set", node("active"))
        with pytest.raises(aiohttp.WSMessageTypeError):
            await linked.until(lambda _: False)
    again = RawClient(network, login(OWNER[1:], 1), linked.noise)
    async with again:
        await again.ask("passive", "set", node("active"))
        assert (await again.ask("w:p", "get")).text("type") == "result"


@pytest.mark.parametrize("reason", [413, 414])
async def test_an_abort_is_a_login_that_fails(
    control: ControlClient, linked: RawClient, reason: int
) -> None:
    """Behind a kind of its own, because it ends a neonize process."""
    await control.fault(OWNER, faults.Abort(reason))  # pyright: ignore[reportArgumentType] (a parameter is an int)
    async with linked:
        failure = await linked.receive()
        assert (failure.tag, failure.text("reason")) == ("failure", str(reason))


async def test_dials_meet_what_was_asked_for(network: Network, control: ControlClient) -> None:
    """So many of them, whosever they are; those after them are served."""
    async with aiohttp.ClientSession() as session:

        async def dial() -> aiohttp.ClientWebSocketResponse:
            return await session.ws_connect(network.server_url, ssl=False)

        await control.fail_dials("hang")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(dial(), 0.3)
        await control.fail_dials("mute")
        socket = await dial()
        await socket.send_bytes(b"WA\x06\x03\0\0\x01x")
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.3)
        await socket.close()
        await control.fail_dials("cut")
        socket = await dial()
        await socket.send_bytes(b"WA\x06\x03\0\0\x01x")
        assert (await socket.receive(timeout=30)).type is aiohttp.WSMsgType.CLOSE
        await socket.close()
    async with RawClient(network, b"") as served:
        assert (await served.receive()).tag == "failure"
