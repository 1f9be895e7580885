"""Receivers of every bad kind at once, and a good one among them."""

import asyncio
import gzip
import socket
import struct
import time
from contextlib import AsyncExitStack

from gateway.delivery import CLAIM
from shared.delivery import Attempt, Delivery
from tests.gateway.conftest import World
from tests.gateway.receivers import Handler, Receiver, read_request, response, served
from tests.gateway.test_dispatcher import log_of, opened, owed
from tests.gateway.waiting import until

DEADLINE = 6.0
"""Seconds that silence takes."""
BOMB = gzip.compress(bytes(20_000_000))


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    await asyncio.Event().wait()


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while True:
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.05)


async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def lying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort")


async def babbling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"no HTTP at all\r\n\r\n")


KINDS: dict[str, tuple[Handler, set[str | None]]] = {
    "slow": (silent, {"timeout"}),
    "dripping": (dripping, {"timeout"}),
    "resetting": (resetting, {"connection_reset"}),
    "lying": (lying, {"connection_reset", "protocol_error"}),
    "babbling": (babbling, {"protocol_error"}),
    "redirecting": (Receiver([response(302, "location: http://127.0.0.1:1/")]), {"http_302"}),
    "failing": (Receiver([response(500)]), {"http_500"}),
    "bombing": (
        Receiver([response(200, "content-encoding: gzip", body=BOMB)]),
        {None},  # its status was there before the bomb, which is neither unpacked nor read on
    ),
}
"""Each, and the errors it may be judged by."""


async def test_each_is_judged_and_none_moves_the_others(world: World) -> None:
    """A quiet tenant's events arrive while every bad kind is attempted, before one is over."""
    good = Receiver()
    async with AsyncExitStack() as receivers:
        urls = {
            name: await receivers.enter_async_context(served(handler))
            for name, (handler, _) in KINDS.items()
        }
        urls["dead"] = "http://127.0.0.1:1/"
        url = await receivers.enter_async_context(served(good))
        dispatcher = await receivers.enter_async_context(opened(world, deadline=DEADLINE))
        loud = await world.tenant()
        bad = {name: await world.endpoint(loud, each) for name, each in urls.items()}
        owing = {name: [await owed(world, each) for _ in range(4)] for name, each in bad.items()}
        quiet = await world.endpoint(await world.tenant(), url)
        due = [await owed(world, quiet) for _ in range(20)]

        for several in owing.values():
            for delivery in several:
                dispatcher.hand_over(*delivery)
        waits: list[float] = []
        for n, (delivery, body) in enumerate(due, 1):
            began = time.monotonic()
            dispatcher.hand_over(delivery, body)
            await until(lambda n=n: len(good.requests) == n)
            waits.append(time.monotonic() - began)
        assert max(waits) < DEADLINE - 1, "some waited for the silent ones"

        for name, several in owing.items():
            errors = KINDS[name][1] if name in KINDS else {"connection_refused"}
            for delivery, _ in several:
                attempt = await first_attempt(world, delivery)
                assert attempt.error in errors, name
                assert attempt.phases is not None
                assert attempt.phases.total < CLAIM


async def first_attempt(world: World, delivery: Delivery) -> Attempt:
    async def made() -> bool:
        return bool(await log_of(world, delivery))

    await until(made)
    return (await log_of(world, delivery))[0]
