"""Nothing is missed: any writers, as slow and as far off as is allowed, and any reader."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.call import Call
from control_plane.event_log import Part, Reading
from shared import ids
from shared.aws import Op
from shared.env import Places
from shared.ids import EventId, TenantId
from shared.store import events as store
from shared.store.dynamo import Item
from shared.store.events import LAG, SETTLE, SKEW, WITHIN, StoredEvent

START = 1_795_000_000_000
TENANT = TenantId(ids.mint(ids.TENANT, START, bytes(10)))
LONG = 60_000
"""Milliseconds in which all of it happens."""


@dataclass(frozen=True)
class Write:
    """One request of a writer."""

    writer: int
    sent: int
    """True time at which it was stamped and sent."""
    took: int
    """Until it was carried out."""
    lagged: int
    """From then until the index showed it."""
    kind: str


@dataclass
class Index:
    """What an index shows as time goes by, and a plane's clock: read as DynamoDB would be."""

    shown: list[tuple[int, Item]] = field(default_factory=list[tuple[int, Item]])
    time: int = START
    skew: int = 0

    @property
    def plane(self) -> Any:
        return self

    @property
    def aws(self) -> Any:
        return self

    @property
    def tenant_id(self) -> TenantId:
        return TENANT

    def now(self) -> int:
        return self.time + self.skew

    def run(self, op: Op[Any]) -> Any:
        asked = op.params(Places())
        values = {name: tagged["S"] for name, tagged in asked["ExpressionAttributeValues"].items()}
        assert values[":low"] <= values[":high"], "DynamoDB refuses such a range"
        rows = sorted(
            (item["GSI1SK"]["S"], item)
            for seen_from, item in self.shown
            if seen_from <= self.time and values[":low"] <= item["GSI1SK"]["S"] <= values[":high"]
        )
        page = rows[: asked["Limit"]]
        answer: dict[str, Any] = {
            "Items": [
                item
                for _, item in page
                if item["type"]["S"] == values.get(":type", item["type"]["S"])
            ]
        }
        if len(page) == asked["Limit"]:
            answer["LastEvaluatedKey"] = {"GSI1SK": page[-1][1]["GSI1SK"]}
        return op.decode(answer)

    def write(self, writes: Sequence[Write], skews: Sequence[int]) -> list[StoredEvent]:
        """Every event as its writer stamps it, never back: in the order of the log."""
        last = [0] * len(skews)
        made: list[StoredEvent] = []
        for number, each in enumerate(sorted(writes, key=lambda write: write.sent)):
            stamp = max(START + each.sent + skews[each.writer], last[each.writer] + 1)
            last[each.writer] = stamp
            # Ids tell nothing: they are of when it happened, long ago or just now.
            event = StoredEvent(
                id=EventId(ids.mint(ids.EVENT, START - number * 7919 % 1000, bytes(10))),
                tenant_id=TENANT,
                type=each.kind,
                created_at=0,
                recorded_at=stamp,
                body=str(number),
            )
            item = store.record_event(TENANT, event).body["Item"]
            self.shown.append((START + each.sent + each.took + each.lagged, item))
            made.append(event)
        return sorted(made, key=store.place_of)


def read(index: Index, place: str, limit: int, kind: str | None = None) -> Part:
    return Reading(cast("Call", index), place, limit, kind, None)()


SKEWS = st.integers(0, SKEW)
WRITES = st.lists(
    st.builds(
        Write,
        writer=st.integers(0, 2),
        sent=st.integers(0, LONG),
        took=st.integers(0, WITHIN) | st.just(WITHIN),
        lagged=st.integers(0, LAG) | st.just(LAG),
        kind=st.sampled_from(["message.sent", "message.read"]),
    ),
    max_size=30,
)
READS = st.lists(st.tuples(st.integers(0, LONG), SKEWS, st.integers(1, 5)), max_size=30)


@given(WRITES, st.tuples(SKEWS, SKEWS, SKEWS), READS)
def test_a_reader_gets_every_event_once_and_in_order(
    writes: list[Write], skews: tuple[int, ...], reads: list[tuple[int, int, int]]
) -> None:
    """Whoever follows the cursor has the whole log, whenever and by whichever process it asks."""
    index = Index()
    expected = index.write(writes, skews)
    place, got = store.place_at(START - SETTLE), list[StoredEvent]()
    for moment, skew, limit in sorted(reads):
        index.time, index.skew = START + moment, skew
        part = read(index, place, limit)
        assert part.place >= place
        place = part.place
        got += part.rows

    index.time = START + 2 * LONG
    caught_up = False
    while not caught_up:
        part = read(index, place, 7)
        place, caught_up = part.place, part.caught_up
        got += part.rows

    assert [each.body for each in got] == [each.body for each in expected]


@given(WRITES, st.tuples(SKEWS, SKEWS, SKEWS), READS)
def test_a_filter_changes_what_is_shown_and_not_where_one_is(
    writes: list[Write], skews: tuple[int, ...], reads: list[tuple[int, int, int]]
) -> None:
    """A reader that filters has all of its kind, as one that reads everything."""
    index = Index()
    expected = index.write(writes, skews)
    place, got = store.place_at(START - SETTLE), list[StoredEvent]()
    for moment, skew, limit in [*sorted(reads), (2 * LONG, 0, 100)]:
        index.time, index.skew = START + moment, skew
        part = read(index, place, limit, "message.read")
        assert len(part.rows) <= limit
        place = part.place
        got += part.rows

    assert [each.body for each in got] == [
        each.body for each in expected if each.type == "message.read"
    ]


@pytest.mark.parametrize(("beyond", "missed"), [(0, False), (1, False), (2, True)])
def test_the_bounds_are_what_it_rests_on(beyond: int, missed: bool) -> None:  # noqa: FBT001
    """A request that takes two milliseconds longer than all bounds together may be missed."""
    index = Index()
    index.write([Write(0, 0, WITHIN + beyond, LAG, "message.sent")], [0])
    index.skew = SKEW
    place, got = store.place_at(START - 1), list[StoredEvent]()
    for index.time in (START + WITHIN + LAG, START + WITHIN + LAG + 1, START + LONG):
        part = read(index, place, 10)
        place = part.place
        got += part.rows

    assert (got == []) is missed
