"""Entries on their way to the outbox."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway import recorder as recorders
from gateway.changes import Change, Mark, announce
from gateway.frames import Entry
from gateway.recorder import BATCH, REFUSALS, Recorder
from shared import clock, ids
from shared.errors import Unavailable
from shared.ids import EventId
from shared.session import Pairing, Session, SessionState, Trigger
from tests.gateway.gateway import new_session
from tests.gateway.waiting import until


def entries(session: Session, first: int, last: int) -> list[Entry]:
    made: list[Entry] = []
    for sequence in range(first, last + 1):
        mark = Mark(EventId(clock.mint(ids.EVENT)), sequence, clock.millis())
        event = announce(session, Change(trigger=Trigger.START), mark)
        assert event is not None
        made.append(Entry(sequence=sequence, event=event))
    return made


class Outbox:
    """Stores, or is away."""

    def __init__(self) -> None:
        self.stored: list[int] = []
        self.batches: list[int] = []
        self.shown: list[Pairing] = []
        self.away = 0
        self.poison = 0
        """The sequence of an entry that is refused."""
        self.aside: list[int] = []

    def _fail(self) -> None:
        if self.away:
            self.away -= 1
            raise Unavailable("dynamodb", "transact_write_items", "timeout")

    async def record(self, _: Session, batch: Sequence[Entry]) -> None:
        await asyncio.sleep(0)
        self._fail()
        if any(entry.sequence == self.poison for entry in batch):
            raise ValueError("ValidationException")
        self.stored += [entry.sequence for entry in batch]
        self.batches.append(len(batch))

    async def set_aside(self, _: Session, entry: Entry, error: Exception) -> None:
        assert "ValidationException" in str(error)
        self.aside.append(entry.sequence)

    async def offer(self, _: Session, pairing: Pairing) -> None:
        self._fail()
        self.shown.append(pairing)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorders, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(recorders, "LONGEST_PAUSE", 0.02)


async def test_entries_are_stored_in_order_once_and_in_batches() -> None:
    """What the host sends again after a restart is not stored again."""
    session, outbox = new_session(), Outbox()
    told: list[int] = []
    recorder = Recorder(
        session,
        outbox.record,
        outbox.offer,
        outbox.set_aside,
        lambda batch: told.append(batch[-1].sequence),
    )
    task = asyncio.ensure_future(recorder.record())
    recorder.take(entries(session, 1, 250))
    recorder.take(entries(session, 200, 260))
    async with asyncio.timeout(30):
        await recorder.idle.wait()
    task.cancel()
    assert outbox.stored == list(range(1, 261))
    assert max(outbox.batches) == BATCH
    assert told[-1] == recorder.last == recorder.queued == 260
    assert recorder.session.state is SessionState.STARTING


async def test_an_outage_delays_and_loses_nothing() -> None:
    """It is tried until it is stored, and the session follows only what is stored."""
    session, outbox = new_session(), Outbox()
    outbox.away = 3
    recorder = Recorder(session, outbox.record, outbox.offer, outbox.set_aside, lambda _: None)
    recorder.take(entries(session, 1, 2))
    assert recorder.depth == 2
    assert recorder.session.state is SessionState.CREATED
    task = asyncio.ensure_future(recorder.record())
    async with asyncio.timeout(30):
        await recorder.idle.wait()
    task.cancel()
    assert outbox.stored == [1, 2]


async def test_an_entry_that_is_always_refused_stops_no_other() -> None:
    """It is set aside, and the rest is stored in order; an outage is no refusal."""
    session, outbox = new_session(), Outbox()
    outbox.away, outbox.poison = 2 * REFUSALS, 4
    recorder = Recorder(session, outbox.record, outbox.offer, outbox.set_aside, lambda _: None)
    recorder.take(entries(session, 1, 8))
    task = asyncio.ensure_future(recorder.record())
    async with asyncio.timeout(30):
        await recorder.idle.wait()
    task.cancel()
    assert outbox.stored == [1, 2, 3, 5, 6, 7, 8]
    assert outbox.aside == [4]
    assert recorder.last == 8


async def test_only_the_newest_pairing_is_shown() -> None:
    """An older QR is of no use by the time the outage is over."""
    outbox = Outbox()
    outbox.away = 1
    recorder = Recorder(
        new_session(), outbox.record, outbox.offer, outbox.set_aside, lambda _: None
    )
    task = asyncio.ensure_future(recorder.publish())
    recorder.show(Pairing(qr="old", qr_expires_at=1, attempt_expires_at=2))
    await asyncio.sleep(0)
    recorder.show(Pairing(qr="new", qr_expires_at=1, attempt_expires_at=2))
    async with asyncio.timeout(30):
        while not outbox.shown:
            await asyncio.sleep(0.01)
    task.cancel()
    assert outbox.shown[-1].qr == "new"


async def test_an_offer_goes_behind_the_start_of_its_attempt() -> None:
    """The start takes away what the last attempt offered: it must not meet the new offer."""
    session, outbox = new_session(), Outbox()
    outbox.away = 3
    recorder = Recorder(session, outbox.record, outbox.offer, outbox.set_aside, lambda _: None)
    recorder.take(entries(session, 1, 1))
    pairing = Pairing(qr="new", qr_expires_at=1, attempt_expires_at=2)
    recorder.show(pairing)
    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(recorder.publish())
        await asyncio.sleep(0.02)
        assert outbox.shown == []
        recording = group.create_task(recorder.record())
        await until(lambda: outbox.shown == [pairing])
        assert outbox.stored == [1]
        for task in (publishing, recording):
            task.cancel()
