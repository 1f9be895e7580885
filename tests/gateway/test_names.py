"""Names: looked up without threads, and believed only as far as they are dialled."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import pytest

from gateway.delivery import Answer, Fault, Post
from gateway.egress import Egress
from gateway.names import MOST_ADDRESSES, Names, UnresolvedError, UnresolvedInTimeError
from shared.addresses import Denied
from tests.gateway.name_server import NameServer, answering
from tests.gateway.receivers import Receiver, served

NAME = "hooks.example.com"
INSIDE = Denied.parse("127.0.0.0/8")
"""Makes of ::1 an address that may be posted to, beside 127.0.0.1, which may not."""


@asynccontextmanager
async def nobody_dialled() -> AsyncGenerator[list[str]]:
    """Every dial is refused, and noted: nothing leaves this machine."""
    dialled: list[str] = []

    async def refuse(_: socket.socket, address: tuple[Any, ...]) -> None:
        dialled.append(address[0])
        raise ConnectionRefusedError

    with mock.patch.object(asyncio.get_running_loop(), "sock_connect", refuse):
        yield dialled


@asynccontextmanager
async def both(receiver: Receiver, inside: Receiver) -> AsyncGenerator[int]:
    """One port on which ::1 is the receiver and 127.0.0.1 is the inside."""
    async with served(inside) as url:
        port = int(url.rsplit(":", 1)[1].split("/")[0])
        async with served(receiver, host="::1", port=port):
            yield port


def post(port: int = 443, name: str = NAME) -> Post:
    scheme = "https" if port == 443 else "http"
    return Post(f"{scheme}://{name}:{port}/hook", {}, b"{}")


async def test_a_name_that_turns_inward_is_not_followed() -> None:
    """Rebinding: public when it was first looked up, 127.0.0.1 the next time."""
    names = NameServer({NAME: [("8.8.8.8",), ("127.0.0.1",)]})
    inside = Receiver()
    async with answering(names) as server, served(inside) as url:
        port = int(url.rsplit(":", 1)[1].split("/")[0])
        async with Egress("public", name_servers=[server]) as egress, nobody_dialled() as dialled:
            assert (await egress.post(post(port))).result == Fault("connection_refused")
        assert dialled == ["8.8.8.8"]
        async with Egress("public", name_servers=[server]) as egress:
            assert (await egress.post(post(port))).result == Fault("blocked_address")
    assert inside.connections == 0


async def test_a_name_that_turns_inward_after_a_delivery_is_not_followed() -> None:
    """Nor when the first post arrived: an address is judged each time it is dialled."""
    names = NameServer({NAME: [("::1",), ("127.0.0.1",)]})
    receiver, inside = Receiver(), Receiver()
    async with answering(names) as server, both(receiver, inside) as port:
        for expected in (Answer(204), Fault("blocked_address")):
            async with Egress("loopback", denied=INSIDE, name_servers=[server]) as egress:
                assert (await egress.post(post(port))).result == expected
    assert (receiver.connections, inside.connections) == (1, 0)


@pytest.mark.parametrize("addresses", [("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
async def test_of_mixed_answers_only_the_public_one_is_dialled(addresses: tuple[str, ...]) -> None:
    """An inner address among public ones is passed over, whatever its place."""
    receiver, inside = Receiver(), Receiver()
    names = NameServer({NAME: [addresses]})
    async with (
        answering(names) as server,
        both(receiver, inside) as port,
        Egress("loopback", denied=INSIDE, name_servers=[server]) as egress,
    ):
        assert (await egress.post(post(port))).result == Answer(204)
    assert (receiver.connections, inside.connections) == (1, 0)


async def test_mixed_answers_whose_public_one_is_dead_do_not_end_inside() -> None:
    """The inner address is no second choice."""
    names = NameServer({NAME: [("8.8.8.8", "127.0.0.1", "10.0.0.1", "::1", "fd00:ec2::254")]})
    async with (
        answering(names) as server,
        Egress("public", name_servers=[server]) as egress,
        nobody_dialled() as dialled,
    ):
        await egress.post(post())
    assert dialled == ["8.8.8.8"]


async def test_many_inner_addresses_are_one_verdict() -> None:
    """All of them blocked is `blocked_address`, however many there are."""
    names = NameServer({NAME: [("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1")]})
    async with (
        answering(names) as server,
        Egress("public", name_servers=[server]) as egress,
        nobody_dialled() as dialled,
    ):
        assert (await egress.post(post())).result == Fault("blocked_address")
    assert dialled == []


async def test_no_such_name_is_told_from_silence() -> None:
    """`dns_error` where a name server says no, `dns_timeout` where none says anything."""
    names = NameServer({"empty.example.com": [()]}, dead={"dead.example.com"})
    async with (
        answering(names) as server,
        Egress("public", patience=0.3, name_servers=[server]) as egress,
    ):
        for name, code in (
            ("nowhere.example.com", "dns_error"),
            ("empty.example.com", "dns_error"),
            ("dead.example.com", "dns_timeout"),
        ):
            began = time.monotonic()
            exchange = await egress.post(post(name=name))
            assert exchange.result == Fault(code), name
            assert time.monotonic() - began < 4
            assert exchange.phases.dns is not None
            assert exchange.phases.connect is None


async def test_dead_names_hold_up_nobody_else() -> None:
    """With hundreds of look-ups unanswered, the next name is resolved at once, without threads."""
    dead = {f"dead{number}.example.com" for number in range(300)}
    names = NameServer({NAME: [("192.0.2.1",)]}, dead=set(dead))
    async with answering(names) as server, asyncio.TaskGroup() as group:
        resolver = Names(anywhere, [server])
        waiting = [group.create_task(outcome(resolver, name)) for name in sorted(dead)]
        while len(names.asked) < len(dead):
            await asyncio.sleep(0.01)
        threads = threading.active_count()
        assert await outcome(resolver, NAME) == ["192.0.2.1"]
        assert threading.active_count() == threads
        assert not any(task.done() for task in waiting), "it waited for the others"
        await resolver.close()
    assert {task.result() for task in waiting} == {UnresolvedInTimeError}


def anywhere(_: object) -> bool:
    return True


async def outcome(resolver: Names, name: str) -> Any:
    try:
        return [found["host"] for found in await resolver.resolve(name, 443)]
    except (UnresolvedError, UnresolvedInTimeError) as error:
        return type(error)


async def test_of_many_addresses_a_few_are_taken() -> None:
    """A name with hundreds of addresses is not dialled hundreds of times."""
    many = tuple(f"192.0.2.{number}" for number in range(20))
    names = NameServer({NAME: [(*many, "2001:db8::1")]})
    async with answering(names) as server:
        resolver = Names(anywhere, [server])
        assert len(await outcome(resolver, NAME)) == MOST_ADDRESSES + 1
        await resolver.close()


async def test_localhost_is_here_and_no_name_server_is_asked() -> None:
    """RFC 6761: it, and what is under it, is this machine by itself."""
    names = NameServer()
    async with answering(names) as server:
        resolver = Names(anywhere, [server])
        for name in ("localhost", "LOCALHOST.", "a.localhost"):
            assert await outcome(resolver, name) == ["127.0.0.1", "::1"]
        assert await resolver.resolve("localhost", 1, socket.AF_INET6) == [
            {
                "hostname": "localhost",
                "host": "::1",
                "port": 1,
                "family": socket.AF_INET6,
                "proto": socket.IPPROTO_TCP,
                "flags": socket.AI_NUMERICHOST,
            }
        ]
        await resolver.close()
    assert not names.asked


async def test_names_are_whole() -> None:
    """The network's own search domains are not tried on a tenant's name."""
    names = NameServer()
    async with answering(names) as server:
        resolver = Names(anywhere, [server])
        assert await outcome(resolver, "intern.example") is UnresolvedError
        assert await outcome(resolver, "intern") is UnresolvedError
        await resolver.close()
    assert set(names.asked) <= {"intern.example", "intern"}


async def test_what_is_no_name_is_refused() -> None:
    """A label too long for DNS is no name, and does not stay unanswered."""
    async with answering(NameServer()) as server:
        resolver = Names(anywhere, [server])
        assert await outcome(resolver, "a" * 64 + ".example.com") is UnresolvedError
        await resolver.close()


async def test_our_own_hosts_are_not_even_looked_up() -> None:
    """A host that is denied by name is blocked, in any spelling and with anything before it."""
    names = NameServer({"api.example.com": [("8.8.8.8",)]})
    denied = Denied.parse("api.example.com")
    async with (
        answering(names) as server,
        Egress("public", denied=denied, name_servers=[server]) as egress,
    ):
        for name in ("api.example.com", "API.example.com.", "v1.api.example.com"):
            assert (await egress.post(post(name=name))).result == Fault("blocked_address")
    assert not names.asked
