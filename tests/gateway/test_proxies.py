"""A session's own proxy: nothing goes another way, and what is the matter with it is told."""

import asyncio
import struct
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from gateway.host.proxies import Trouble
from gateway.proxies import NoWay, Proxies, Way
from sandbox.network import Network, run_network
from sandbox.whatsapp.control_client import ControlClient
from shared import proxy
from shared.addresses import NOTHING_DENIED, Denied
from shared.events import (
    MessageReceived,
    MessageSent,
    SessionChange,
    SessionConnected,
    SessionReconnecting,
)
from shared.message import Text
from shared.proxy import Upstream, judge
from shared.session import Reason, Session
from tests.gateway.gateway import Gateway, gateway, link, new_session, order
from tests.gateway.name_server import NameServer, answering
from tests.way_out import Mood, Scheme, WayOut, closed_port, way_out

ANNA, BEN = "+4915112345678", "+4915112345679"
SEALS = (b"s" * 32,)
USER, PASSWORD = "us er", "p@ss:w/rd"
WRITTEN = "us%20er:p%40ss:w%2Frd"
NAME = "proxy.example.com"


@pytest.fixture
async def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Network]:
    async with run_network(tmp_path / "network") as running:
        for name, value in running.client_environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
async def control(network: Network) -> AsyncGenerator[ControlClient]:
    async with ControlClient(network.control_url) as client:
        yield client


@pytest.fixture(params=[None, (USER, PASSWORD)], ids=["open", "closed"])
def credentials(request: pytest.FixtureRequest) -> tuple[str, str] | None:
    """What a proxy asks for."""
    return request.param


@pytest.fixture(params=["http", "socks5"])
async def way(
    request: pytest.FixtureRequest, network: Network, credentials: tuple[str, str] | None
) -> AsyncGenerator[WayOut]:
    """A proxy of each kind, open to all or not."""
    async with way_out(request.param, server_port(network), credentials) as running:
        yield running


@pytest.fixture
async def straight(network: Network, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[WayOut]:
    """The way of sessions without a proxy, which no other may take.

    The gateway's own environment names it too: the library asks it beside a SOCKS5 proxy.
    """
    async with way_out("http", server_port(network)) as running:
        for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, running.url())
        yield running


def server_port(network: Network) -> int:
    return urlsplit(network.server_url).port or 0


@asynccontextmanager
async def here(network: Network, straight: WayOut, folder: Path) -> AsyncGenerator[Gateway]:
    led = msgspec.structs.replace(network, proxy_url=straight.url())
    ways = Proxies(
        SEALS, common=led.proxy_url, targets="loopback", denied=NOTHING_DENIED, patience=1.0
    )
    async with gateway(led, folder, proxies=ways) as running:
        yield running


def through(session: Session, url: str) -> Session:
    """The session with a proxy, as the control plane would have written it."""
    given = judge(url, "loopback")
    assert isinstance(given, Upstream), given
    owner = proxy.owner(session.tenant_id, session.id)
    kept = proxy.sealed(SEALS, owner, given, b"n" * 12)
    return msgspec.structs.replace(session, proxy=kept)


def remotes(pid: int) -> set[int]:
    """Ports of the other side of a process's TCP connections, also of those not made yet."""
    mine: set[str] = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            mine.add(str(each.readlink()))
        except FileNotFoundError:
            continue
    found: set[int] = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            parts = line.split()
            if f"socket:[{parts[9]}]" in mine:
                found.add(struct.unpack("!H", bytes.fromhex(parts[2].rpartition(":")[2]))[0])
    return found


async def in_trouble(running: Gateway, session: Session, after: int = 0) -> str:
    """What is said of the session's proxy next."""

    def find() -> str | None:
        return next(
            (
                event.data.detail
                for event in running.events(session)
                if isinstance(event.data, SessionChange)
                and event.data.reason is Reason.PROXY_FAILED
                and event.sequence > after
            ),
            None,
        )

    return await running.until(find)


async def test_a_session_lives_behind_its_proxy(
    network: Network, control: ControlClient, straight: WayOut, way: WayOut, tmp_path: Path
) -> None:
    """Linked, sent and received through it, with names left to it; nothing goes another way."""
    async with here(network, straight, tmp_path / "devices") as running:
        session = through(new_session(), way.url(WRITTEN if way.credentials else ""))
        await control.create_person(BEN, "Ben")
        await link(running, control, session, ANNA)
        await running.supervisor.send(order(session, BEN, "out"))
        await running.event(session, MessageSent)
        await control.send(BEN, ANNA, "and in")
        received = await running.event(session, MessageReceived)

        assert received.data.content == Text("and in")
        assert remotes(running.pid(session) or 0) - {0} == {way.port}
        assert {each.partition(":")[2] for each in way.asked} == {"443"}
        assert way.came >= 2
        assert straight.came == 0
        told = str([msgspec.json.encode(event) for event in running.events(session)])
        assert PASSWORD not in told
        assert str(way.port) not in told


ILL = {
    "refused": ("http", Mood.REFUSING, Trouble.TARGET_REFUSED),
    "away": ("http", Mood.LOST, Trouble.TARGET_AWAY),
    "curt": ("http", Mood.CURT, Trouble.CUT),
    "foreign": ("http", Mood.FOREIGN, Trouble.NO_PROXY),
    "hollow": ("http", Mood.HOLLOW, Trouble.CUT),
    "otherwise": ("http", Mood.OTHERWISE, Trouble.NOT_WHATSAPP),
    "socks-refused": ("socks5", Mood.REFUSING, Trouble.TARGET_REFUSED),
    "socks-away": ("socks5", Mood.LOST, Trouble.TARGET_AWAY),
    "socks-curt": ("socks5", Mood.CURT, Trouble.CUT),
    "socks-foreign": ("socks5", Mood.FOREIGN, Trouble.NO_PROXY),
    "socks-hollow": ("socks5", Mood.HOLLOW, Trouble.CUT),
    "socks-otherwise": ("socks5", Mood.OTHERWISE, Trouble.NOT_WHATSAPP),
}


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_what_is_the_matter_is_told_apart(
    network: Network, straight: WayOut, tmp_path: Path, scheme: Scheme
) -> None:
    """Each way in which a proxy fails has words of its own; no other way is tried."""
    port = server_port(network)
    async with AsyncExitStack() as ways:
        running = await ways.enter_async_context(here(network, straight, tmp_path / "devices"))
        cases: list[tuple[Session, Trouble]] = []
        for kind, mood, trouble in ILL.values():
            if kind == scheme:
                way = await ways.enter_async_context(way_out(scheme, port, mood=mood))
                cases.append((through(new_session(), way.url()), trouble))
        closed = await ways.enter_async_context(way_out(scheme, port, (USER, PASSWORD)))
        cases += [
            (through(new_session(), closed.url(login)), Trouble.CREDENTIALS)
            for login in ("", "somebody:else")
        ]
        nobody = WayOut(scheme, ways.enter_context(closed_port()), port)
        cases.append((through(new_session(), nobody.url()), Trouble.REFUSED))
        async with asyncio.TaskGroup() as group:
            for session, _ in cases:
                group.create_task(running.supervisor.start(session))
        told = [(await in_trouble(running, session), trouble) for session, trouble in cases]
        assert [words for words, _ in told] == [trouble.value for _, trouble in told]
        assert straight.came == 0
        async with asyncio.TaskGroup() as group:
            for session, _ in cases:
                group.create_task(running.supervisor.stop(session.id))


async def test_a_proxy_that_says_nothing_is_not_waited_for(
    network: Network, control: ControlClient, straight: WayOut, tmp_path: Path
) -> None:
    """The library would wait for ever. Other trouble is told, and in the end it comes by itself."""
    async with (
        way_out("http", server_port(network), mood=Mood.MUTE) as way,
        here(network, straight, tmp_path / "devices") as running,
    ):
        running.limit(first_word=2.0)
        session = through(new_session(), way.url())
        await running.supervisor.start(session)
        assert await in_trouble(running, session) == Trouble.SILENT.value
        way.mood = Mood.CURT
        way.cut()
        await running.until(lambda: Trouble.CUT.value in str(running.events(session)))
        running.limit(first_word=60.0)
        way.mood = Mood.WELL
        await control.create_person(ANNA, "Anna")
        pairing = await running.until(lambda: running.pairings[-1] if running.pairings else None)
        await control.scan(ANNA, pairing.qr)
        await running.event(session, SessionConnected)
        assert straight.came == 0


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_dies_is_waited_for_and_may_be_changed(
    network: Network,
    control: ControlClient,
    straight: WayOut,
    tmp_path: Path,
    scheme: Scheme,
) -> None:
    """Reconnecting, and why; back when it is back, or at once through another one."""
    port = server_port(network)
    async with here(network, straight, tmp_path / "devices") as running:
        async with way_out(scheme, port) as way:
            session = through(new_session(), way.url())
            await link(running, control, session, ANNA)
        dropped = await running.event(session, SessionReconnecting)
        assert await in_trouble(running, session) == Trouble.REFUSED.value
        last = running.last
        async with way_out(scheme, port, port=way.port):
            await running.event(session, SessionConnected, after=last)
        assert dropped.data.reason is Reason.CONNECTION_LOST
        await in_trouble(running, session, after=running.last)
        async with way_out("http", port, (USER, PASSWORD)) as other:
            last = running.last
            elsewhere = through(session, other.url(WRITTEN))
            await running.supervisor.start(elsewhere, restart=True)
            await running.event(session, SessionConnected, after=last)
            assert straight.came == 0
            last = running.last
            await running.supervisor.start(
                msgspec.structs.replace(session, proxy=None), restart=True
            )
            await running.event(session, SessionConnected, after=last)
            assert straight.came > 0


@asynccontextmanager
async def ways(
    names: NameServer, denied: Denied = NOTHING_DENIED, seals: tuple[bytes, ...] = SEALS
) -> AsyncGenerator[Proxies]:
    async with answering(names) as server:
        found = Proxies(
            seals,
            common="http://127.0.0.1:1",
            targets="public",
            denied=denied,
            name_servers=[server],
            patience=2.0,
        )
        try:
            yield found
        finally:
            await found.close()


def public(url: str) -> Session:
    session = new_session()
    given = judge(url, "public")
    assert isinstance(given, Upstream)
    owner = proxy.owner(session.tenant_id, session.id)
    return msgspec.structs.replace(session, proxy=proxy.sealed(SEALS, owner, given, b"n" * 12))


async def trouble(found: Proxies, session: Session) -> Trouble:
    with pytest.raises(NoWay) as caught:
        await found.way(session, 0)
    return caught.value.trouble


async def test_a_name_is_looked_up_here_and_dialled_by_address() -> None:
    """Each try takes the next address; sessions without a proxy go the common way."""
    names = NameServer({NAME: [("93.184.216.34", "2606:2800:220:1::1")]})
    session = public(f"socks5://{WRITTEN}@{NAME}:1080")
    async with ways(names) as found:
        urls = {(await found.way(session, failures)).url for failures in range(2)}
        assert urls == {
            "socks5://us%20er:p%40ss%3Aw%2Frd@93.184.216.34:1080",
            "socks5://us%20er:p%40ss%3Aw%2Frd@[2606:2800:220:1::1]:1080",
        }
        assert await found.way(new_session(), 0) == Way("http://127.0.0.1:1")
        literal = await found.way(public("http://93.184.216.34:8080"), 0)
        assert literal == Way("http://93.184.216.34:8080", own=True)
        assert "p%40ss" not in repr(await found.way(session, 0))


async def test_a_name_that_turns_inward_is_not_followed() -> None:
    """It was public when it was given; what it is when it is dialled counts."""
    names = NameServer({NAME: [("93.184.216.34",), ("127.0.0.1",), ("169.254.169.254",)]})
    session = public(f"http://{NAME}:8080")
    async with ways(names) as found:
        assert (await found.way(session, 0)).url == "http://93.184.216.34:8080"
    for _ in range(2):
        async with ways(names) as found:
            assert await trouble(found, session) is Trouble.NOT_PUBLIC


async def test_a_name_without_an_address_is_told() -> None:
    """Not found, and not answered for in time, are two things to do something about."""
    async with ways(NameServer(dead={"dead.example.com"})) as found:
        assert await trouble(found, public("http://none.example.com:80")) is Trouble.NAME_UNKNOWN
        assert await trouble(found, public("http://dead.example.com:80")) is Trouble.NAME_SILENT


async def test_what_is_denied_since_is_not_dialled() -> None:
    """Our own networks and hosts, also where they are named after the proxy was given."""
    names = NameServer({NAME: [("93.184.216.34",)]})
    denied = Denied.parse(f"93.184.0.0/16 own.{NAME}")
    async with ways(names, denied) as found:
        for host in (NAME, "93.184.216.34", f"own.{NAME}"):
            assert await trouble(found, public(f"http://{host}:80")) is Trouble.NOT_PUBLIC


async def test_what_does_not_open_is_said_to_be_unreadable() -> None:
    """Its key is gone, or it was sealed for another session: nothing is dialled instead."""
    session = public("http://93.184.216.34:8080")
    other = msgspec.structs.replace(new_session(), proxy=session.proxy)
    async with ways(NameServer()) as found:
        assert await trouble(found, other) is Trouble.UNREADABLE
    async with ways(NameServer(), seals=(b"x" * 32,)) as found:
        assert await trouble(found, session) is Trouble.UNREADABLE
