"""The event log: in order, by cursor, and nothing is ever missed."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from control_plane import event_log, events
from shared import clock, signing
from shared.store import events as store
from shared.store.events import KEEP, SETTLE
from tests.control_plane.conftest import Tenant
from tests.control_plane.waiting import until

PATH = "/v1/event-log"


def part(tenant: Tenant, query: str = "", **headers: str) -> dict[str, Any]:
    answer = tenant.get(f"{PATH}?{query}", **headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ids_of(read: dict[str, Any]) -> list[str]:
    return [str(event["id"]) for event in read["data"]]


def place_of(read: dict[str, Any]) -> int:
    """How far the log had settled (ms)."""
    return clock.moment(datetime.fromisoformat(str(read["settled_until"])))


def settled(tenant: Tenant, number: int, kind: str = "message.sent", **how: Any) -> str:
    """An event that was recorded a minute ago, and `number` milliseconds."""
    at = clock.millis() // clock.MINUTE * clock.MINUTE - clock.MINUTE + number
    return tenant.happened(kind, recorded_at=at, at=at, random=number.to_bytes(10), **how)


def walked(tenant: Tenant, query: str = "") -> Iterator[list[str]]:
    """Every part of the log until it is caught up."""
    after = ""
    for _ in range(100):
        read = part(tenant, f"{query}{after}")
        yield ids_of(read)
        if read["caught_up"]:
            return
        after = f"&after={read['next_cursor']}"
    pytest.fail("the log has no end")


def test_the_log_is_read_in_the_order_of_recording(tenant: Tenant) -> None:
    """Not by ids: what was recorded late comes late, and parts join without a gap."""
    now = clock.millis()
    made = [
        tenant.happened("message.sent", at=now - age, recorded_at=now - clock.MINUTE + number)
        for number, age in enumerate([9_000_000, 60_000, 80_000_000, 120_000, 70_000])
    ]

    parts = list(walked(tenant, "limit=2"))

    assert [each for read in parts for each in read] == made
    assert made != sorted(made)
    assert [len(read) for read in parts] == [2, 2, 1]


def test_a_sessions_events_of_one_moment_come_by_sequence(tenant: Tenant) -> None:
    """One transaction stamps all of its events alike; their sequence is what tells."""
    session_id = tenant.session(start=False)
    at = clock.millis() - clock.MINUTE
    by_sequence = {
        number: tenant.happened(
            "message.sent",
            session_id=session_id,
            recorded_at=at,
            sequence=number,
            random=bytes([255 - number]) * 10,
        )
        for number in (10, 2, 9, 1)
    }

    assert ids_of(part(tenant)) == [by_sequence[number] for number in (1, 2, 9, 10)]


def test_an_event_is_in_the_log_as_it_was_sent(tenant: Tenant) -> None:
    """Byte for byte what is signed and delivered."""
    event_id = settled(tenant, 1)
    body = tenant.get(f"/v1/events/{event_id}").text

    assert f'"data":[{body}]' in tenant.get(PATH).text


def test_there_is_always_a_cursor(tenant: Tenant) -> None:
    """An empty part has one, that brings what comes; the same one brings it as often as asked."""
    empty = part(tenant)
    assert (empty["data"], empty["caught_up"]) == ([], True)
    event_id = tenant.happened("message.sent", recorded_at=place_of(empty) + 1)

    def brought() -> list[str]:
        return ids_of(part(tenant, f"after={empty['next_cursor']}"))

    until(brought)
    assert brought() == [event_id]
    assert abs(clock.millis() - SETTLE - place_of(empty)) < clock.MINUTE


def test_what_has_not_settled_is_not_shown_yet(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event recorded this moment waits, and is then there for whoever held a cursor."""
    cursor = part(tenant, "from=now")["next_cursor"]
    event_id = tenant.happened("message.sent")

    assert ids_of(part(tenant, f"after={cursor}")) == []
    assert ids_of(part(tenant, "from=beginning")) == []
    monkeypatch.setattr(event_log, "SETTLE", -1)
    assert ids_of(part(tenant, f"after={cursor}")) == [event_id]


def test_an_answer_waits_until_something_settles(tenant: Tenant) -> None:
    """`Prefer: wait` holds the answer back until there is an event, and no longer."""
    cursor = part(tenant)["next_cursor"]
    event_id = tenant.happened("message.sent", recorded_at=clock.millis() - SETTLE + 1_500)
    began = time.monotonic()

    answer = tenant.get(f"{PATH}?after={cursor}", Prefer="wait=20")

    assert ids_of(answer.json()) == [event_id]
    assert answer.headers["preference-applied"] == "wait=20"
    assert 0.5 < time.monotonic() - began < 10


def test_a_wait_ends_without_an_event(tenant: Tenant) -> None:
    """The time is over: nothing, and a cursor that has moved on all the same."""
    first = part(tenant)

    later = part(tenant, f"after={first['next_cursor']}", Prefer="wait=1")

    assert (later["data"], later["caught_up"]) == ([], True)
    assert later["settled_until"] > first["settled_until"]
    assert later["next_cursor"] != first["next_cursor"]


def test_filters_pass_over_what_is_not_wanted(tenant: Tenant) -> None:
    """By type, family and session; a cursor is a place, good with any filter."""
    session_id = tenant.session(start=False)
    sent = settled(tenant, 1, session_id=session_id)
    read = settled(tenant, 2, "message.read")
    stopped = settled(tenant, 3, "session.stopped", session_id=session_id)

    assert ids_of(part(tenant, "type=message.sent")) == [sent]
    assert ids_of(part(tenant, "type=message.*")) == [sent, read]
    assert ids_of(part(tenant, "type=*")) == [sent, read, stopped]
    assert ids_of(part(tenant, f"session_id={session_id}")) == [sent, stopped]
    cursor = part(tenant, "type=message.*&limit=1")["next_cursor"]
    assert ids_of(part(tenant, f"after={cursor}")) == [read, stopped]
    assert ids_of(part(tenant, f"after={cursor}&type=session.*")) == [stopped]


def test_a_rare_type_costs_bounded_reads(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part ends after so many reads, empty if need be, and its cursor has moved on."""
    monkeypatch.setattr(event_log, "FILTERED_ROWS", 4)
    monkeypatch.setattr(event_log, "MOST_READS", 2)
    made = [settled(tenant, n, "message.read" if n == 20 else "message.sent") for n in range(22)]

    parts = list(walked(tenant, "type=message.read"))

    assert parts == [[], [], [made[20]]]


def test_a_filtered_part_that_is_full_ends_at_its_last_event(
    tenant: Tenant,
) -> None:
    """More was read than may be returned: the next part begins where this one was cut."""
    made = [settled(tenant, n) for n in range(7)]

    parts = list(walked(tenant, "type=message.sent&limit=3"))

    assert parts == [made[:3], made[3:6], made[6:]]


def test_a_part_of_large_events_ends_early(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer has a size it may not pass, however many events were asked for."""
    monkeypatch.setattr(events, "LARGEST_PAGE", 1)
    monkeypatch.setattr(event_log, "FILTERED_ROWS", 2)
    made = [settled(tenant, n) for n in range(5)]

    parts = list(walked(tenant, "type=message.sent"))

    assert parts == [made[:2], made[2:4], made[4:]]


def test_the_log_begins_where_it_is_told_to(tenant: Tenant) -> None:
    """At an instant, now, or as far back as it goes; before that there is nothing."""
    now = clock.millis()
    old = tenant.happened("message.sent", recorded_at=now - KEEP + clock.HOUR // 2)
    early = tenant.happened("message.sent", recorded_at=now - 2 * clock.HOUR)
    late = tenant.happened("message.sent", recorded_at=now - clock.HOUR)

    def since(moment: int) -> list[str]:
        text = clock.instant(moment).isoformat().replace("+00:00", "Z")
        return ids_of(part(tenant, f"from={text}"))

    assert old
    assert ids_of(part(tenant)) == ids_of(part(tenant, "from=beginning")) == [early, late]
    assert since(0) == [early, late]
    assert since(now - 2 * clock.HOUR) == [early, late]
    assert since(now - 2 * clock.HOUR + 1) == [late]
    assert since(clock.millis()) == []
    assert ids_of(part(tenant, "from=now")) == []


def test_the_log_does_not_begin_in_the_future(tenant: Tenant) -> None:
    """A cursor from there would stay ahead of the events that nobody then sees."""
    soon = clock.instant(clock.millis() + clock.MINUTE).isoformat().replace("+00:00", "Z")

    answer = tenant.get(f"{PATH}?from={soon}")

    assert answer.status_code == 400, answer.text
    (fault,) = answer.json()["errors"]
    assert (fault["code"], fault["parameter"]) == ("out_of_range", "from")


def test_a_cursor_is_its_tenants_own(tenant: Tenant) -> None:
    """Changed, another tenant's or another list's: 400, always the same."""
    settled(tenant, 1)
    settled(tenant, 2)
    cursor = str(part(tenant, "limit=1")["next_cursor"])
    of_list = str(tenant.get("/v1/events?limit=1").json()["next_cursor"])
    other = tenant.stage.tenant()

    for who, path in [
        (tenant, f"{PATH}?after={cursor[:-2]}{'a' if cursor[-2] != 'a' else 'b'}{cursor[-1]}"),
        (tenant, f"{PATH}?after=x"),
        (tenant, f"{PATH}?after="),
        (tenant, f"{PATH}?after={of_list}"),
        (tenant, f"/v1/events?cursor={cursor}"),
        (other, f"{PATH}?after={cursor}"),
    ]:
        answer = who.get(path)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor"), path


def test_a_cursor_expires_with_what_follows_it(tenant: Tenant) -> None:
    """Thirty days old it is refused, because something may be missing; a day before it is not."""
    keys = tenant.stage.keyring.cursors

    def asked(age: int) -> Any:
        place = store.place_at(clock.millis() - age)
        cursor = signing.sign_cursor(keys, f"{tenant.id}|event-log", place)
        return tenant.get(f"{PATH}?after={cursor}")

    assert asked(KEEP - clock.DAY).status_code == 200
    refused = asked(KEEP + clock.MINUTE)
    assert (refused.status_code, refused.json()["code"]) == (410, "cursor_expired")
    assert asked(-clock.DAY).json()["caught_up"] is True


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("type=message.lost", "type"),
        ("session_id=x", "session_id"),
        ("from=yesterday", "from"),
        ("from=2026-01-01T00:00:00", "from"),
        ("from=", "from"),
        ("from=2999-01-01T00:00:00Z", "from"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("from=now&after=x", "from"),
    ],
)
def test_a_bad_parameter_is_named(tenant: Tenant, query: str, parameter: str) -> None:
    """400, with the parameter's own name."""
    answer = tenant.get(f"{PATH}?{query}")

    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["parameter"] == parameter
