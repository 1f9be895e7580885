"""Session hosts with the real library, their part of the device store in a PostgreSQL server."""

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest

from gateway.changes import STOPPED
from gateway.host.place import LAST_WORDS
from sandbox.network import Network, run_network
from sandbox.whatsapp.certificates import open_authority
from sandbox.whatsapp.control_client import ControlClient
from shared import clock
from shared.errors import Unavailable
from shared.events import (
    MessageDelivered,
    MessageReceived,
    MessageSent,
    SessionConnected,
    SessionLoggedOut,
    SessionReconnecting,
    SessionStopped,
)
from shared.session import Reason, Session, SessionState
from tests.conftest import HOME
from tests.gateway.gateway import Gateway, gateway, link, new_session, order, sequences
from tests.gateway.waiting import until
from tests.postgres import PASSWORD, DatabaseServer, behind_tls, run_postgres

ANNA, BEN, CLEO = "+4915112345678", "+4915112345679", "+4915112345680"


@pytest.fixture
async def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Network]:
    async with run_network(tmp_path / "network") as running:
        for name, value in running.client_environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
async def control(network: Network) -> AsyncGenerator[ControlClient]:
    async with ControlClient(network.control_url) as client:
        await client.create_person(BEN, "Ben")
        yield client


@pytest.fixture
def own_postgres() -> Iterator[DatabaseServer]:
    """A server that the test may stop."""
    with run_postgres(HOME) as server:
        yield server


async def talk(here: Gateway, control: ControlClient, session: Session, number: str) -> None:
    """A message out and one in: either is read by the other side."""
    began = max(sequences(here, session), default=0)
    text = f"{number} {began}"
    await here.supervisor.send(order(session, BEN, text))
    await control.wait_for_text(BEN, text)
    await here.event(session, MessageDelivered, after=began)
    before = here.last
    await control.send(BEN, number, f"re: {text}")
    received = await here.event(session, MessageReceived, after=before - 1)
    assert received.data.sender.phone_number == BEN


def tables(postgres: DatabaseServer, url: str) -> dict[str, set[str]]:
    """The tables of each session's schema."""
    found: dict[str, set[str]] = {}
    with postgres.admin(urlsplit(url).path[1:]) as connection:
        for schema, table in connection.execute(
            "SELECT nspname, coalesce(tablename, '') FROM pg_namespace"
            " LEFT JOIN pg_tables ON schemaname = nspname WHERE starts_with(nspname, 'ses_')"
        ):
            found.setdefault(schema, set()).add(table)
    return found


async def test_sessions_of_one_database_are_apart(
    network: Network, control: ControlClient, postgres: DatabaseServer
) -> None:
    """Each has one device in a schema of its own, and takes three connections."""
    url = postgres.database()
    first, second = new_session(), new_session()
    async with gateway(network, url) as here:
        await link(here, control, first, ANNA)
        here.pairings.clear()
        await link(here, control, second, CLEO)
        await talk(here, control, first, ANNA)
        await talk(here, control, second, CLEO)
        assert tables(postgres, url).keys() == {first.id, second.id}
        with postgres.admin(urlsplit(url).path[1:]) as connection:
            for session in (first, second):
                connection.execute(f"SET search_path = {session.id}".encode())
                devices = connection.execute("SELECT count(*) FROM whatsmeow_device")
                assert devices.fetchone() == (1,)
                used = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s",
                    [session.id],
                ).fetchone()
                assert used == (3,)
        await here.supervisor.erase(first)
        assert tables(postgres, url).keys() == {second.id}
        await talk(here, control, second, CLEO)


async def test_a_killed_gateways_session_goes_on_at_another(
    network: Network, control: ControlClient, postgres: DatabaseServer
) -> None:
    """Of the machine nothing is needed: not to pair, to decrypt, nor to count."""
    url, session = postgres.database(), new_session()
    async with gateway(network, url) as first:
        await link(first, control, session, ANNA)
        await talk(first, control, session, ANNA)
        await first.until_drained(session)
        first.away = True
        await control.send(BEN, ANNA, "while AWS is away")
        await first.until_journalled(session)
        # What a gateway that is killed leaves: its hosts die with it, and nothing is recorded.
        zygote = first.supervisor._house.nursery._zygote  # pyright: ignore[reportPrivateUsage] (a test may look inside)
        assert zygote is not None
        zygote.drop()
        last = first.last
    async with gateway(network, url) as second:
        await second.supervisor.start(session)
        await second.event(session, SessionConnected, after=last)
        assert second.pairings == []
        received = await second.event(session, MessageReceived)
        assert received.data.whatsapp_id
        await talk(second, control, session, ANNA)
        assert sequences(second, session) == list(range(last + 1, second.last + 1))


async def test_logging_out_drops_the_keys_and_erasing_all(
    network: Network, control: ControlClient, postgres: DatabaseServer
) -> None:
    """The journal goes on counting after a log-out; the next start pairs again."""
    url, session = postgres.database(), new_session()
    async with gateway(network, url) as here:
        await link(here, control, session, ANNA)
        await here.supervisor.stop(session.id, log_out=True)
        ended = await here.event(session, SessionLoggedOut)
        (left,) = tables(postgres, url).values()
        assert "entries" in left
        assert {name for name in left if name.startswith("whatsmeow")} == {"whatsmeow_version"}
        here.pairings.clear()
        await here.supervisor.start(session)
        pairing = await here.until(lambda: here.pairings[-1] if here.pairings else None)
        await control.scan(ANNA, pairing.qr)
        await here.event(session, SessionConnected, after=ended.sequence)
        await talk(here, control, session, ANNA)
        await here.supervisor.erase(session)
        assert tables(postgres, url) == {}


@pytest.mark.timeout(120)
async def test_a_server_that_comes_back_finds_everything_going_on(
    network: Network, control: ControlClient, own_postgres: DatabaseServer
) -> None:
    """The session says that its store is away, tries again, and loses nothing meanwhile."""
    url, session = own_postgres.database(), new_session()
    async with gateway(network, url) as here:
        await link(here, control, session, ANNA)
        await talk(here, control, session, ANNA)
        last = here.last
        await asyncio.to_thread(own_postgres.stop)
        await until(lambda: session.id in here.stores_away)
        assert here.pid(session) is None
        await control.send(BEN, ANNA, "while the store is away")
        sending = asyncio.ensure_future(
            here.supervisor.send(order(session, BEN, "ordered meanwhile"))
        )
        await asyncio.to_thread(own_postgres.start)
        away = await here.event(session, SessionReconnecting, after=last)
        assert away.data.reason is Reason.STORE_UNAVAILABLE
        await here.event(session, SessionConnected, after=away.sequence)
        await here.event(session, MessageReceived, after=away.sequence)
        await sending
        await here.event(session, MessageSent, after=away.sequence)
        await control.wait_for_text(BEN, "ordered meanwhile")
        await talk(here, control, session, ANNA)
        assert sequences(here, session) == list(range(1, here.last + 1))


@pytest.mark.timeout(120)
async def test_a_stop_that_cannot_be_journalled_is_not_done(
    network: Network, control: ControlClient, own_postgres: DatabaseServer
) -> None:
    """Its order goes back, and is carried out when the server is there."""
    url, session = own_postgres.database(), new_session()
    async with gateway(network, url) as here:
        await link(here, control, session, ANNA)
        await asyncio.to_thread(own_postgres.stop)
        await until(lambda: session.id in here.stores_away)
        with pytest.raises(Unavailable):
            await here.supervisor.stop(session.id)
        assert not here.supervisor.holds(session.id)
        await asyncio.to_thread(own_postgres.start)
        await here.supervisor.mark(session, STOPPED)
        stopped = await here.event(session, SessionStopped)
        assert stopped.data.previous is SessionState.CONNECTED


async def test_a_server_that_is_away_at_the_start_is_waited_for(
    network: Network, control: ControlClient, own_postgres: DatabaseServer
) -> None:
    """The gateway runs, and its sessions begin when they can."""
    url, session = own_postgres.database(), new_session()
    await asyncio.to_thread(own_postgres.stop)
    async with gateway(network, url) as here:
        await here.supervisor.start(session)
        await until(lambda: session.id in here.stores_away)
        assert here.supervisor.matter() == "1 of 1 cannot read the device store"
        await asyncio.to_thread(own_postgres.start)
        await control.create_person(ANNA, "Anna")
        pairing = await here.until(lambda: here.pairings[-1] if here.pairings else None)
        assert here.supervisor.matter() is None
        await control.scan(ANNA, pairing.qr)
        await here.event(session, SessionConnected)


async def test_both_drivers_check_the_servers_certificate(
    network: Network, control: ControlClient, postgres: DatabaseServer, tmp_path: Path
) -> None:
    """By the authority that the URL names: the journal's driver and the library's."""
    now = clock.instant(clock.millis())
    authority = open_authority(tmp_path / "ca", now, random.randbytes)
    database = urlsplit(postgres.database()).path[1:]
    async with behind_tls(postgres, authority.tls) as port:
        url = postgres.url(
            database, port, sslmode="verify-full", sslrootcert=str(authority.ca_file)
        )
        async with gateway(network, url) as here:
            session = new_session()
            await link(here, control, session, ANNA)
            await talk(here, control, session, ANNA)


@pytest.mark.timeout(120)
async def test_the_password_is_nowhere_to_be_read(
    network: Network,
    control: ControlClient,
    own_postgres: DatabaseServer,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Not in an argument, a log, an event or what the library prints, whatever goes wrong."""
    url, session = own_postgres.database(), new_session()
    async with gateway(network, url) as here:
        await link(here, control, session, ANNA)
        pid, zygote = here.pid(session), here.zygote
        seen = [Path(f"/proc/{each}/cmdline").read_text() for each in (pid, zygote)]
        seen += [Path(f"/proc/{each}/environ").read_text() for each in (pid, zygote)]
        scratch = here.supervisor._house.folder(session)  # pyright: ignore[reportPrivateUsage] (a test may look inside)
        with own_postgres.admin() as connection:
            connection.execute("ALTER ROLE zapgate PASSWORD 'another'")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'zapgate'"
            )
        await until(lambda: session.id in here.stores_away)
        seen.append((scratch / LAST_WORDS).read_text())
        seen += [str(entry) for entry in here.entries]
    seen += [record.getMessage() + str(vars(record)) for record in caplog.records]
    seen += capfd.readouterr()
    for secret in (PASSWORD, quote(PASSWORD, safe=""), unquote(url)):
        assert not any(secret in text for text in seen)
    assert not scratch.exists()
