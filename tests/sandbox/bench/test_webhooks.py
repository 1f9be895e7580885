"""What the figures of webhooks reckon with: requests on a wire, arrivals, purposes, names."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.bench.bed import BenchError
from sandbox.bench.figures.owed import by_purpose, total
from sandbox.bench.main import FIGURES, TOGETHER, figures_of
from sandbox.bench.memory_aws import MemoryAws
from sandbox.bench.post_office import waits
from sandbox.bench.sink import Arrival, Noted, request_length
from sandbox.bench.workload import bodies, entries
from shared import clock, ids
from shared.env import Settings
from shared.events import decode
from shared.ids import EndpointId, EventId, SessionId, TenantId
from shared.store import events, webhooks
from shared.store.dynamo import Range
from shared.webhook import Endpoint, EndpointStatus

REQUEST = b"POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nwebhook-id: evt_1\r\n\r\nbody"
SESSION = SessionId("ses_1")


@given(st.integers(0, len(REQUEST) - 1))
def test_a_request_is_whole_when_its_body_is(cut: int) -> None:
    """Nothing is taken for a request before its last byte, whatever follows it."""
    assert request_length(REQUEST[:cut]) is None
    assert request_length(REQUEST) == request_length(REQUEST + REQUEST) == len(REQUEST)


def test_a_request_without_a_length_has_no_body() -> None:
    """A GET ends with its head."""
    head = b"GET /-/seen HTTP/1.1\r\nHost: a\r\n\r\n"
    assert request_length(head) == len(head)


def test_what_came_is_told_once() -> None:
    """What was taken is not told again."""
    noted = Noted()
    noted.add(Arrival("evt_1", 1.5, 2))
    assert msgspec.msgpack.decode(noted.take(), type=list[Arrival]) == [Arrival("evt_1", 1.5, 2)]
    assert msgspec.msgpack.decode(noted.take()) == []


def test_a_wait_ends_with_the_first_arrival() -> None:
    """A second attempt does not make the first one late, and strangers are passed over."""
    arrivals = [Arrival("b", 9.0, 0), Arrival("a", 1.25, 0), Arrival("c", 0, 0), Arrival("b", 2, 0)]
    assert waits({"a": 1.0, "b": 1.0}, arrivals) == [250.0, 1000.0]


def test_a_wait_without_arrival_is_no_figure() -> None:
    """An event that never came is not left out of the percentiles."""
    with pytest.raises(BenchError, match="1 of 2"):
        waits({"a": 1.0, "b": 1.0}, [Arrival("a", 2.0, 0)])


def test_purposes_are_told_for_each() -> None:
    """Requests are summed, and told by purpose for each delivery, most first."""
    purposes = {"Query endpoint": 1, "PutItem delivery": 20}
    assert total({"purposes": purposes}) == 21
    assert by_purpose(purposes, 20) == "1 PutItem delivery, 0.05 Query endpoint"


def test_figures_go_by_one_name_too() -> None:
    """A name may stand for several figures, each is measured once, and none means all."""
    assert figures_of(("webhooks", "owed")) == TOGETHER["webhooks"]
    assert figures_of(()) == tuple(FIGURES)
    assert all(name in FIGURES for names in TOGETHER.values() for name in names)


def test_entries_are_a_sessions_in_order() -> None:
    """Sequences count up, ids are new, and a body is the event's exact encoding."""
    several = entries(SESSION)
    first, second = next(several), next(several)
    assert (first.sequence, second.sequence) == (1, 2)
    assert first.event.id != second.event.id
    event_id, body = next(bodies(SESSION))
    assert decode(body).id == event_id


async def test_a_table_in_memory_keeps_rows() -> None:
    """What was written is read and listed, and what was not is not there."""
    tenant_id = TenantId(clock.mint(ids.TENANT))
    aws = MemoryAws(Settings())
    event = events.StoredEvent(
        id=EventId("evt_1"), tenant_id=tenant_id, type="a.b", created_at=1, recorded_at=1, body="{}"
    )
    endpoint = Endpoint(
        id=EndpointId("ep_1"),
        tenant_id=tenant_id,
        url="http://127.0.0.1",
        events=("*",),
        sealed_secret=b"sealed",
        status=EndpointStatus.ENABLED,
        created_at=1,
        updated_at=1,
    )
    async with aws:
        assert await aws.run(events.read_event(tenant_id, event.id)) is None
        await aws.run(events.record_event(tenant_id, event).alone())
        assert await aws.run(events.read_event(tenant_id, event.id)) == event
        await aws.run(webhooks.create_endpoint(tenant_id, endpoint))
        listed = await aws.run(webhooks.every_endpoint(tenant_id, Range(9)))
        assert listed.rows == (endpoint,)
    assert aws.requests["dynamodb", "get_item"] == 2
