"""The life of a session on one gateway: who starts first, and attempts that are cut off."""

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import msgspec
import pytest

from gateway.frames import Entry
from gateway.nursery import Nursery, Unborn
from gateway.supervisor import STARTS_AT_ONCE, Supervisor
from sandbox.network import Network, run_network
from sandbox.whatsapp.control_client import ControlClient
from shared import clock
from shared.env import Settings
from shared.events import SessionConnected, SessionLoggedOut, SessionStarting, SessionStopped
from shared.ids import SessionId, TenantId
from shared.session import Reason, Session, SessionState
from tests.gateway.gateway import Gateway, gateway, link, new_session
from tests.gateway.waiting import until

ANNA = "+4915112345678"


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


@pytest.fixture
async def here(network: Network, tmp_path: Path) -> AsyncGenerator[Gateway]:
    async with gateway(network, tmp_path / "devices") as running:
        yield running


async def test_a_gateway_that_won_hundreds_starts_them_gently_and_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order goes first, then devices by turns of their tenants, then numbers that pair."""
    begun: list[SessionId] = []
    free = asyncio.Event()

    async def fork(_: Nursery) -> None:
        await free.wait()
        raise Unborn("only the order matters here")

    async def record(_: Session, __: Sequence[Entry]) -> None:
        pass

    journalled: set[SessionId] = set()

    def lease(session: Session) -> float:
        """Asked for before its journal is opened, and before each host."""
        if session.id in journalled:
            begun.append(session.id)
        journalled.add(session.id)
        return 1e9

    monkeypatch.setattr(Nursery, "fork", fork)
    supervisor = Supervisor(
        settings=Settings(device_store=str(tmp_path)),
        record=record,
        offer=lambda _, __: asyncio.sleep(0),
        store_away=lambda _: asyncio.sleep(0),
        now=clock.millis,
        until=lease,
    )
    gate = supervisor._house.gate  # pyright: ignore[reportPrivateUsage] (a test may look inside)

    def waiting() -> int:
        return len(gate._waiting)  # pyright: ignore[reportPrivateUsage] (likewise)

    def sessions(count: int, tenant: TenantId, state: SessionState, since: int) -> list[Session]:
        return [
            msgspec.structs.replace(
                new_session(),
                tenant_id=tenant,
                state=state,
                connected_at=since + n if since else None,
            )
            for n in range(count)
        ]

    crowd, few = new_session().tenant_id, new_session().tenant_id
    earlier = sessions(STARTS_AT_ONCE, crowd, SessionState.STARTING, 0)
    pairing = sessions(5, crowd, SessionState.PAIRING, 0)
    linked = sessions(100, crowd, SessionState.CONNECTED, 1)
    others = sessions(5, few, SessionState.CONNECTED, 1)
    ordered = new_session()
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        for session in earlier:
            await supervisor.start(session)
        await until(lambda: len(begun) == STARTS_AT_ONCE)
        for session in (*pairing, *linked, *others):
            await supervisor.start(session)
        await supervisor.start(ordered, ordered=True)
        await until(lambda: waiting() == 111)
        assert len(begun) == STARTS_AT_ONCE
        free.set()
        await until(lambda: len(set(begun)) == 115)
        await supervisor.close()

    first = list(dict.fromkeys(begun))[STARTS_AT_ONCE:]
    assert first[0] == ordered.id
    turns = [first.index(each.id) for each in others]
    assert max(turns) <= 2 * len(others) + 1
    devices = [each for each in first if each in {one.id for one in linked}]
    assert devices == [each.id for each in reversed(linked)]
    assert set(first[-len(pairing) :]) == {each.id for each in pairing}


async def test_an_attempt_that_is_cut_off_begins_anew(
    here: Gateway, control: ControlClient
) -> None:
    """Its host dies: the session says that it starts again, and the new QR links the number."""
    session = new_session()
    await control.create_person(ANNA, "Anna")
    await here.supervisor.start(session, ANNA)
    first = await here.until(lambda: next((each for each in here.pairings if each.code), None))
    last = here.last
    os.kill(here.pid(session) or 0, signal.SIGKILL)
    again = await here.event(session, SessionStarting, after=last)
    assert (again.data.previous, again.data.reason) == (SessionState.PAIRING, Reason.HOST_DIED)

    def anew() -> str | None:
        codes = [each.code for each in here.pairings if each.code and each.code != first.code]
        return codes[-1] if codes else None

    await control.type_code(ANNA, await here.until(anew))
    await here.event(session, SessionConnected, after=again.sequence)


async def test_a_device_that_the_library_erased_was_removed(
    here: Gateway, control: ControlClient, tmp_path: Path
) -> None:
    """Whoever heard of it died: the session is logged out, and nobody is asked to pair."""
    session = new_session()
    await link(here, control, session, ANNA)
    await here.supervisor.stop(session.id)
    stopped = await here.event(session, SessionStopped)
    (store,) = (tmp_path / "devices").rglob("device.db")
    with sqlite3.connect(store) as database:
        database.execute("DELETE FROM whatsmeow_device")
    database.close()
    here.pairings.clear()
    row = msgspec.structs.replace(session, state=SessionState.CONNECTED, connected_at=5)
    await here.supervisor.start(row)
    ended = await here.event(session, SessionLoggedOut, after=stopped.sequence)
    assert ended.data.reason is Reason.REMOVED_ON_PHONE
    assert here.pairings == []
