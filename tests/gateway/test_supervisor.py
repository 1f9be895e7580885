"""The supervisor without a host."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from gateway.aside import Aside
from gateway.changes import NOT_REMOVED
from gateway.frames import Entry
from gateway.gate import Gate
from gateway.host.folder import Folder
from gateway.host.journal import Journal, Order
from gateway.host.place import place
from gateway.host.refusals import ENDED
from gateway.host.store import StoreFailed
from gateway.house import House, last_words
from gateway.keeper import Keeper
from gateway.limits import Limits
from gateway.nursery import Nursery, Unborn
from gateway.proxies import proxies_of
from gateway.supervisor import Supervisor
from gateway.threads import Threads
from gateway.weather import FEW, Weather
from shared import clock, ids
from shared.env import Settings, for_hosts
from shared.errors import Malformed, NotHeld
from shared.events import MessageUncertain, SessionLoggedOut
from shared.ids import EventId, SessionId, TenantId
from shared.message import OnUncertain
from shared.session import Session, SessionState
from tests.gateway.gateway import new_session, order
from tests.gateway.waiting import until


async def _never(*_: object) -> None:
    pytest.fail("nothing is to be stored")


def supervisor(store: str, patience: float = 1.0) -> Supervisor:
    return Supervisor(
        settings=Settings(device_store=store, patience=patience),
        record=_never,
        offer=_never,
        store_away=_never,
        now=clock.millis,
        until=lambda _: None,
    )


async def test_what_is_not_held_is_said_to_be(tmp_path: Path) -> None:
    """A send is refused without having been done; stopping and erasing do no harm."""
    session, here = new_session(), supervisor(str(tmp_path))
    assert not here.holds(session.id)
    assert here.snapshot() == []
    with pytest.raises(NotHeld):
        await here.send(order(session, "+4915112345679", "hello"))
    await here.stop(session.id)
    await here.erase(session)
    await here.close()


@pytest.mark.parametrize(
    ("ages", "patience", "matter"),
    [
        ([], 1.0, None),
        ([None, 1.0], 1.0, None),
        ([11.0, 1.0], 1.0, None),
        ([11.0, 12.0, 1.0], 1.0, "2 of 3 do not answer"),
        ([11.0, 12.0, 1.0], 2.0, None),
        ([21.0, 22.0, 1.0], 2.0, "2 of 3 do not answer"),
    ],
)
async def test_silent_hosts_are_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ages: list[float | None],
    patience: float,
    matter: str | None,
) -> None:
    """One that stands still is replaced; most of them at once is the gateway's trouble."""
    here = supervisor(str(tmp_path), patience)
    snapshot = [SimpleNamespace(pulse_age=age) for age in ages]
    monkeypatch.setattr(here, "snapshot", lambda: snapshot)
    assert here.matter() == matter


async def test_an_outage_is_told(tmp_path: Path) -> None:
    """Most sessions do not get through to WhatsApp: nobody's own trouble."""
    here = supervisor(str(tmp_path))
    for each in range(FEW):
        here._house.weather.missed(SessionId(f"ses_{each}"), lambda: None)  # pyright: ignore[reportPrivateUsage] (a test may look inside)
    assert here.matter() == "5 of 0 do not get through to WhatsApp"


async def test_what_may_be_out_is_not_said_to_have_failed(tmp_path: Path) -> None:
    """A host was killed in a send, and its session is stopped before another one starts."""
    session, stored = new_session(), list[Entry]()

    async def record(_: Session, entries: Sequence[Entry]) -> None:
        stored.extend(entries)

    here = Supervisor(
        settings=Settings(device_store=str(tmp_path)),
        record=record,
        offer=_never,
        store_away=_never,
        now=clock.millis,
        until=lambda _: None,
    )
    command = order(session, "+4915112345679", "hello", OnUncertain.RESEND)
    store = place(str(tmp_path), session)
    with Journal(store, session, mint=lambda: EventId(clock.mint(ids.EVENT))) as journal:
        journal.begin(
            Order(
                message_id=command.message_id,
                recipient=command.to,
                secret=bytes(32),
                on_uncertain=command.on_uncertain,
                begun_at=clock.millis(),
            )
        )
    await here.refuse(session, command, ENDED)
    (entry,) = stored
    assert isinstance(entry.event, MessageUncertain)


async def test_what_cannot_be_erased_is_not_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that are left on the disk end the deletion: it is tried again, and its rows stay."""
    session, here = new_session(), supervisor(str(tmp_path))
    folder = tmp_path / session.tenant_id / session.id
    folder.mkdir(parents=True)
    (folder / "device.db").touch()

    def keep(*_: object, **__: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", keep)
        with pytest.raises(StoreFailed):
            await here.erase(session)
    await here.erase(session)
    assert not folder.exists()
    await here.erase(session)


async def test_a_session_survives_a_defect_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would notice that it is held no more: it is held again, unless it was stopped."""
    held, released = list[Keeper](), asyncio.Event()

    async def run(keeper: Keeper) -> None:
        held.append(keeper)
        if len(held) == 1:
            raise ValueError("a defect")
        await released.wait()

    monkeypatch.setattr(Keeper, "run", run)
    monkeypatch.setattr("gateway.supervisor.BROKEN_PAUSE", 0.01)
    session, here = new_session(), supervisor(str(tmp_path))
    async with asyncio.TaskGroup() as group:
        group.create_task(here.run())
        await here.start(session)
        await until(lambda: len(held) == 2)
        assert here.holds(session.id)
        released.set()
        await here.close()


async def test_a_session_whose_journal_is_damaged_can_be_deleted(tmp_path: Path) -> None:
    """Nothing in it can be read any more, so nothing waits for it."""
    session = new_session()
    folder = tmp_path / session.tenant_id / session.id
    folder.mkdir(parents=True)
    (folder / "journal.db").write_bytes(b"no database" * 1000)
    here = Supervisor(
        settings=Settings(device_store=str(tmp_path)),
        record=_never,
        offer=_never,
        store_away=lambda _: asyncio.sleep(0),
        now=clock.millis,
        until=lambda _: 1e9,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(here.run())
        await here.start(session)
        await until(lambda: here.matter() is not None)
        await here.stop(session.id, log_out=True)
        await here.erase(session)
        assert not folder.exists()
        await here.close()


async def test_who_could_not_log_out_is_told_that_the_phone_lists_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order came between two hosts: nobody asked WhatsApp to remove anything."""
    tried, recorded = asyncio.Event(), list[Entry]()

    async def fork(_: Nursery) -> None:
        tried.set()
        raise Unborn("there is no host")

    async def record(_: Session, entries: Sequence[Entry]) -> None:
        recorded.extend(entries)

    monkeypatch.setattr(Nursery, "fork", fork)
    here = Supervisor(
        settings=Settings(device_store=str(tmp_path)),
        record=record,
        offer=_never,
        store_away=_never,
        now=clock.millis,
        until=lambda _: 1e9,
    )
    session = msgspec.structs.replace(new_session(), state=SessionState.CONNECTED, connected_at=5)
    async with asyncio.TaskGroup() as group:
        group.create_task(here.run())
        await here.start(session)
        await tried.wait()
        await here.stop(session.id, log_out=True)
        await here.close()
    last = recorded[-1].event
    assert isinstance(last, SessionLoggedOut)
    assert last.data.detail == NOT_REMOVED


async def test_a_closing_gateway_starts_nothing(tmp_path: Path) -> None:
    """A session that is won on the way out belongs to the next gateway."""
    here = supervisor(str(tmp_path))
    async with asyncio.TaskGroup() as group:
        group.create_task(here.run())
        await asyncio.sleep(0)
        await here.close()
        with pytest.raises(NotHeld):
            await here.start(new_session())


@pytest.mark.parametrize(
    ("tenant_id", "session_id"), [("..", None), (None, "../../etc"), ("", None), (None, "")]
)
def test_a_folder_is_named_by_ids_only(
    tmp_path: Path, tenant_id: str | None, session_id: str | None
) -> None:
    """No id, however it came here, leads out of the device store."""
    session = new_session()
    if tenant_id is not None:
        session = msgspec.structs.replace(session, tenant_id=TenantId(tenant_id))
    if session_id is not None:
        session = msgspec.structs.replace(session, id=SessionId(session_id))
    house = House(
        settings=Settings(device_store=str(tmp_path)),
        nursery=Nursery(for_hosts({}), "INFO"),
        proxies=proxies_of(Settings(), ()),
        record=_never,
        offer=_never,
        store_away=_never,
        aside=Aside(lambda _: Folder(tmp_path), clock.millis, threads := Threads()),
        threads=threads,
        scratch=None,
        now=clock.millis,
        until=lambda _: None,
        closing=asyncio.Event(),
        gate=Gate(1),
        weather=Weather(lambda: 0),
        limits=Limits(),
    )
    for asked in (house.store, house.folder):
        with pytest.raises(Malformed):
            asked(session)


def test_last_words_are_found_without_numbers(tmp_path: Path) -> None:
    """Of all that an aborting library prints, the line that says why."""
    assert last_words(tmp_path) is None
    (tmp_path / "host.log").write_text("Press Ctrl+C to exit\n")
    assert last_words(tmp_path) is None
    (tmp_path / "host.log").write_text("x\npanic: no device 4915112345678\ngoroutine 1\n")
    assert last_words(tmp_path) == "panic: no device …"
    with (tmp_path / "host.log").open("a") as file:
        file.write("a send failed\n" * 50_000 + "fatal error: concurrent map writes\n")
    assert last_words(tmp_path) == "fatal error: concurrent map writes"
