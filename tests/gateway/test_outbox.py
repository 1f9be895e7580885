"""The outbox on a real table."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
import pytest

from gateway import stamps
from gateway.aws import Aws
from gateway.delivery import claimed
from gateway.directory import Directory
from gateway.frames import Entry
from gateway.metrics import Metrics
from gateway.outbox import Outbox
from shared import clock, ids
from shared.aws import Op
from shared.delivery import Delivery, DeliveryState
from shared.errors import Unavailable
from shared.events import (
    MESSAGE_EVENTS,
    MessageChange,
    SessionChange,
    SessionConnected,
    SessionEvent,
    decode,
)
from shared.ids import EventId, MessageId, TenantId
from shared.message import Message, MessageStatus, Text
from shared.session import Pairing, Reason, Session, SessionState
from shared.store import deliveries, events, messages, sessions
from shared.store.dynamo import Range
from shared.store.events import LATEST, StoredEvent
from shared.webhook import Endpoint
from tests.gateway.conftest import World

T = TypeVar("T")

URL = "http://127.0.0.1:9/"
START = 1_795_000_000_000


class Deliverer:
    """A dispatcher that only takes."""

    def __init__(self) -> None:
        self.full = False
        self.taken: list[tuple[Delivery, bytes]] = []

    def born(self, delivery: Delivery, endpoint: Endpoint) -> Delivery:
        return delivery if self.full else claimed(delivery, clock.millis())

    def hand_over(self, delivery: Delivery, body: bytes) -> None:
        self.taken.append((delivery, body))


class Box:
    """An outbox with what it told others."""

    def __init__(
        self, world: World, aws: Aws | None = None, now: Callable[[], int] = clock.millis
    ) -> None:
        self.deliverer = Deliverer()
        self.fenced: list[Session] = []
        self.outbox = Outbox(
            aws=aws or world.aws,
            directory=Directory(world.aws, world.keyring.seals, memory=1),
            deliverer=self.deliverer,
            fenced=self.fenced.append,
            metrics=Metrics(),
            now=now,
        )


@asynccontextmanager
async def opened(
    world: World, aws: Aws | None = None, now: Callable[[], int] = clock.millis
) -> AsyncGenerator[Box]:
    box = Box(world, aws, now)
    async with box.outbox:
        yield box


async def queued(world: World, session: Session) -> MessageId:
    """A message waiting to be sent."""
    now = clock.millis()
    message_id = MessageId(clock.mint(ids.MESSAGE))
    message = Message(
        id=message_id,
        tenant_id=session.tenant_id,
        session_id=session.id,
        to="+4915112345678",
        content=Text("hello"),
        status=MessageStatus.QUEUED,
        created_at=now,
        updated_at=now,
        expires_at=now + clock.HOUR,
    )
    await world.aws.run(messages.create(session.tenant_id, message))
    return message_id


def reached(
    session: Session, message_id: MessageId, status: MessageStatus, sequence: int = 1
) -> SessionEvent:
    return MESSAGE_EVENTS[status](
        id=EventId(clock.mint(ids.EVENT)),
        timestamp=clock.instant(clock.millis()),
        session_id=session.id,
        sequence=sequence,
        data=MessageChange(message_id=message_id, status=status, to="+4915112345678"),
    )


def connected(session: Session) -> SessionEvent:
    return SessionConnected(
        id=EventId(clock.mint(ids.EVENT)),
        timestamp=clock.instant(clock.millis()),
        session_id=session.id,
        sequence=1,
        data=SessionChange(
            state=SessionState.CONNECTED,
            previous=SessionState.STARTING,
            phone_number="+4915112345678",
        ),
    )


def entries(*events: SessionEvent) -> Sequence[Entry]:
    return [Entry(sequence=event.sequence, event=event) for event in events]


async def test_an_event_its_status_and_its_deliveries_are_one_request(world: World) -> None:
    """A sent message is recorded in one write, and its webhook is on its way without another."""
    tenant_id = await world.tenant()
    session = await world.session(tenant_id)
    endpoint = await world.endpoint(tenant_id, URL)
    message_id = await queued(world, session)
    async with opened(world) as box:
        first = reached(session, message_id, MessageStatus.SENT)
        await box.outbox.record(session, entries(first))
        before = world.requests()
        second = reached(session, message_id, MessageStatus.DELIVERED, 2)
        await box.outbox.record(session, entries(second))
        assert world.requests() - before == 1
    message = await world.aws.run(messages.read(tenant_id, session.id, message_id))
    assert message is not None
    assert (message.status, message.sent_at is not None) == (MessageStatus.DELIVERED, True)
    stored = await world.aws.run(events.read_event(tenant_id, second.id))
    assert stored is not None
    assert decode(stored.body) == second
    assert [each.event_id for each, _ in box.deliverer.taken] == [first.id, second.id]
    delivery = await world.aws.run(deliveries.read_delivery(tenant_id, endpoint.id, second.id))
    assert delivery is not None
    assert delivery == box.deliverer.taken[1][0]
    assert (delivery.state, delivery.attempt) == (DeliveryState.SENDING, 1)
    assert box.deliverer.taken[1][1] == stored.body.encode()


async def test_entries_of_many_sessions_share_requests(world: World) -> None:
    """Two hundred events that come in together take a handful of requests."""
    tenant_id = await world.tenant()
    found = [await world.session(tenant_id) for _ in range(10)]
    async with opened(world) as box:
        await box.outbox.record(found[0], entries(connected(found[0])))
        before = world.requests()
        await asyncio.gather(
            *(
                box.outbox.record(
                    session,
                    entries(
                        *(
                            reached(session, MessageId(clock.mint(ids.MESSAGE)), status, n)
                            for n, status in enumerate([MessageStatus.SENT] * 20)
                        )
                    ),
                )
                for session in found
            )
        )
        used = world.requests() - before
    # Their messages do not exist: each transaction is refused once and goes again without them.
    assert used <= 10
    page = await world.aws.run(
        events.every_event(tenant_id, Range(limit=500), between=("evt_", "evt_~"))
    )
    assert len(page.rows) == 201


async def test_a_repeated_entry_changes_nothing(world: World) -> None:
    """After a crash the journal tells again; no event, status or delivery comes twice."""
    tenant_id = await world.tenant()
    session = await world.session(tenant_id)
    await world.endpoint(tenant_id, URL)
    message_id = await queued(world, session)
    async with opened(world) as box:
        sent = reached(session, message_id, MessageStatus.SENT)
        seen = reached(session, message_id, MessageStatus.READ, 2)
        await box.outbox.record(session, entries(sent, seen))
        await box.outbox.record(session, entries(sent))
        late = reached(session, message_id, MessageStatus.DELIVERED, 3)
        await box.outbox.record(session, entries(seen, late))
    message = await world.aws.run(messages.read(tenant_id, session.id, message_id))
    assert message is not None
    assert message.status is MessageStatus.READ
    assert [each.event_id for each, _ in box.deliverer.taken] == [sent.id, seen.id, late.id]


async def test_a_late_writer_is_fenced(world: World) -> None:
    """A gateway whose lease passed on stores what happened, but not the session's state."""
    tenant_id = await world.tenant()
    session = await world.session(tenant_id, state=SessionState.STOPPED, epoch=5)
    old = msgspec.structs.replace(session, epoch=4)
    event = connected(old)
    async with opened(world) as box:
        await box.outbox.record(old, entries(event))
        assert box.fenced == [old]
        assert (await world.read_session(session)).state is SessionState.STOPPED
        assert await world.aws.run(events.read_event(tenant_id, event.id)) is not None
        held = msgspec.structs.replace(session, epoch=6)
        await box.outbox.record(held, entries(connected(held)))
    row = await world.read_session(session)
    assert (row.state, row.epoch, row.phone_number) == (SessionState.CONNECTED, 6, "+4915112345678")
    assert row.connected_at is not None


async def test_a_store_that_is_away_is_said_in_the_row(world: World) -> None:
    """Its event cannot be counted yet. A state of rest stays, and a late gateway says nothing."""
    tenant_id = await world.tenant()
    connected = await world.session(tenant_id, state=SessionState.CONNECTED, epoch=5)
    stopped = await world.session(tenant_id, state=SessionState.STOPPED)
    async with opened(world) as box:
        await box.outbox.store_away(msgspec.structs.replace(connected, epoch=4))
        assert (await world.read_session(connected)).state is SessionState.CONNECTED
        await box.outbox.store_away(connected)
        await box.outbox.store_away(stopped)
    row = await world.read_session(connected)
    assert (row.state, row.reason) == (SessionState.RECONNECTING, Reason.STORE_UNAVAILABLE)
    assert (await world.read_session(stopped)).state is SessionState.STOPPED


async def test_a_deleted_session_fences_nobody(world: World) -> None:
    """The last words of a session whose row is gone are stored, and the lease is kept."""
    tenant_id = await world.tenant()
    session = await world.session(tenant_id)
    await world.aws.run(sessions.remove(tenant_id, session.id))
    event = connected(session)
    async with opened(world) as box:
        await box.outbox.record(session, entries(event))
        assert box.fenced == []
    assert await world.aws.run(events.read_event(tenant_id, event.id)) is not None


async def test_without_room_a_delivery_waits_in_the_table(world: World) -> None:
    """What the dispatcher cannot hold is born waiting, for the sweeper."""
    tenant_id = await world.tenant()
    session = await world.session(tenant_id)
    endpoint = await world.endpoint(tenant_id, URL)
    event = connected(session)
    async with opened(world) as box:
        box.deliverer.full = True
        await box.outbox.record(session, entries(event))
    delivery = await world.aws.run(deliveries.read_delivery(tenant_id, endpoint.id, event.id))
    assert delivery is not None
    assert (delivery.state, delivery.attempt) == (DeliveryState.WAITING, 0)
    ((told, _),) = box.deliverer.taken
    assert told.state is DeliveryState.WAITING, "whoever stops tells others of it"


async def test_a_pairing_is_shown_until_it_is_over(world: World) -> None:
    """A connected session has no code to type any more."""
    tenant_id = await world.tenant()
    session = await world.session(tenant_id, state=SessionState.PAIRING)
    offer = Pairing(
        qr="2@…",
        qr_expires_at=clock.millis() + clock.MINUTE,
        attempt_expires_at=clock.millis() + clock.MINUTE,
    )
    async with opened(world) as box:
        await box.outbox.offer(session, offer)
        assert await world.aws.run(sessions.pairing(tenant_id, session.id)) == offer
        await box.outbox.record(session, entries(connected(session)))
    assert await world.aws.run(sessions.pairing(tenant_id, session.id)) is None


class Hesitant(Aws):
    """AWS that takes its time: the next writes are carried out when they are let go, if ever."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.places = world.settings
        self.held: list[Op[Any]] | None = None

    async def run(self, op: Op[T]) -> T:
        if self.held is not None and op.action in {"put_item", "transact_write_items"}:
            self.held.append(op)
            await asyncio.Event().wait()
        return await self._world.aws.run(op)

    async def carry_out(self) -> None:
        """What was given up long ago arrives."""
        held, self.held = self.held or [], None
        for op in held:
            await self._world.aws.run(op)


async def logged(world: World, tenant_id: TenantId) -> list[StoredEvent]:
    page = await world.aws.run(events.read_log(tenant_id, events.place_at(0), LATEST, 100))
    return list(page.rows)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are given up after 50 ms."""
    monkeypatch.setattr(stamps, "WITHIN", 50)


async def test_events_are_logged_in_the_order_they_are_recorded(world: World) -> None:
    """Though its clock stands still or is set back, and whatever their ids say."""
    tenant_id = await world.tenant()
    session = await world.session(tenant_id)
    times = iter([START, START, START - clock.HOUR, START - clock.HOUR, START + clock.HOUR])
    made = [
        msgspec.structs.replace(
            connected(session),
            id=EventId(ids.mint(ids.EVENT, START - n * clock.DAY, bytes(10))),
            sequence=n + 1,
        )
        for n in range(5)
    ]
    async with opened(world, now=lambda: next(times, START)) as box:
        for event in made[:2]:
            await box.outbox.record(session, entries(event))
        await box.outbox.record(session, entries(*made[2:]))
    rows = await logged(world, tenant_id)
    assert [row.id for row in rows] == [event.id for event in made]
    assert [row.sequence for row in rows] == [1, 2, 3, 4, 5]
    assert len({row.recorded_at for row in rows}) == 3
    assert {decode(row.body) for row in rows} == set(made)


@pytest.mark.usefixtures("soon")
async def test_a_request_that_took_too_long_is_stamped_anew(world: World) -> None:
    """The repeat has its own place; the first, carried out after it, changes nothing."""
    tenant_id = await world.tenant()
    session = await world.session(tenant_id)
    event = connected(session)
    aws = Hesitant(world)
    aws.held = []
    async with opened(world, aws) as box:
        with pytest.raises(Unavailable):
            await box.outbox.record(session, entries(event))
        gave_up = clock.millis()
        held, aws.held = aws.held, None
        await box.outbox.record(session, entries(event))
    aws.held = held
    await aws.carry_out()
    (row,) = await logged(world, tenant_id)
    assert row.recorded_at >= gave_up


@pytest.mark.usefixtures("soon")
async def test_a_request_carried_out_after_all_keeps_its_place(world: World) -> None:
    """The repeat finds the event stored, and does not move it."""
    tenant_id = await world.tenant()
    session = await world.session(tenant_id)
    event = connected(session)
    aws = Hesitant(world)
    aws.held = []
    async with opened(world, aws) as box:
        with pytest.raises(Unavailable):
            await box.outbox.record(session, entries(event))
        gave_up = clock.millis()
        await aws.carry_out()
        await box.outbox.record(session, entries(event))
    (row,) = await logged(world, tenant_id)
    assert row.recorded_at <= gave_up
    assert row.created_at == clock.moment(event.timestamp)


async def test_nothing_of_a_session_overtakes_what_is_not_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits behind a request that failed is refused with it; other sessions' is stored."""
    monkeypatch.setattr(stamps, "WITHIN", 2_000)
    tenant_id = await world.tenant()
    session, other = await world.session(tenant_id), await world.session(tenant_id)
    first, second, third = (
        msgspec.structs.replace(connected(session), sequence=n) for n in (1, 2, 3)
    )
    theirs = connected(other)
    aws = Hesitant(world)
    aws.held = []
    async with opened(world, aws) as box, asyncio.TaskGroup() as group:

        async def refused(*some: SessionEvent) -> None:
            with pytest.raises(Unavailable):
                await box.outbox.record(session, entries(*some))

        failing = group.create_task(refused(first))
        while not aws.held:
            await asyncio.sleep(0.005)
        # These wait for the request under way, and would go into the next.
        following = group.create_task(refused(second, third))
        recorded = group.create_task(box.outbox.record(other, entries(theirs)))
        while box.outbox.waiting < 3:
            await asyncio.sleep(0.001)
        aws.held = None
        await asyncio.gather(failing, following, recorded)
        assert [row.id for row in await logged(world, tenant_id)] == [theirs.id]
        await box.outbox.record(session, entries(first, second, third))
    ours = [row.sequence for row in await logged(world, tenant_id) if row.session_id == session.id]
    assert ours == [1, 2, 3]


async def test_trouble_with_aws_is_the_callers_to_repeat(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is claimed to be stored that is not."""
    tenant_id = await world.tenant()
    session = await world.session(tenant_id)
    event = connected(session)
    async with opened(world) as box:
        await box.outbox.record(session, entries(connected(session)))
        with monkeypatch.context() as patch:

            async def down(op: object) -> None:
                raise Unavailable("dynamodb", "transact_write_items", "ReadTimeoutError")

            patch.setattr(world.aws, "run", down)
            with pytest.raises(Unavailable):
                await box.outbox.record(session, entries(event))
        await box.outbox.record(session, entries(event))
    assert await world.aws.run(events.read_event(tenant_id, event.id)) is not None


async def test_one_entry_that_cannot_be_stored_stops_no_other(world: World) -> None:
    """A row DynamoDB refuses for good is its own session's trouble."""
    tenant_id = await world.tenant()
    good, bad = await world.session(tenant_id), await world.session(tenant_id)
    fine = connected(good)
    huge = MESSAGE_EVENTS[MessageStatus.SENT](
        id=EventId(clock.mint(ids.EVENT)),
        timestamp=clock.instant(clock.millis()),
        session_id=bad.id,
        sequence=1,
        data=MessageChange(
            message_id=MessageId(clock.mint(ids.MESSAGE)),
            status=MessageStatus.SENT,
            to="x" * 450_000,
        ),
    )
    async with opened(world) as box:
        outcomes = await asyncio.gather(
            box.outbox.record(bad, entries(huge)),
            box.outbox.record(good, entries(fine)),
            return_exceptions=True,
        )
    assert isinstance(outcomes[0], Exception)
    assert outcomes[1] is None
    assert await world.aws.run(events.read_event(tenant_id, fine.id)) is not None
