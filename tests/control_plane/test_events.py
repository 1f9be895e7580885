"""Events: listed by type, session and time."""

import pytest

from control_plane import events
from shared import clock
from tests.control_plane.conftest import Tenant

START = 1_795_000_000_000


def listed(tenant: Tenant, query: str = "") -> list[str]:
    answer = tenant.get(f"/v1/events?{query}")
    assert answer.status_code == 200, answer.text
    return [str(event["id"]) for event in answer.json()["data"]]


def test_events_are_listed_by_time_and_order(tenant: Tenant) -> None:
    """Newest first unless told otherwise; `since` is inclusive, `until` is not."""
    made = [tenant.happened("message.sent", at=START + n * clock.SECOND) for n in range(4)]
    second = clock.instant(START + clock.SECOND).isoformat().replace("+00:00", "Z")
    third = clock.instant(START + 3 * clock.SECOND).isoformat().replace("+00:00", "Z")

    assert listed(tenant) == made[::-1]
    assert listed(tenant, "order=oldest") == made
    assert listed(tenant, f"since={second}&until={third}&order=oldest") == made[1:3]
    assert listed(tenant, f"since={third}&until={third}") == []


def test_events_are_listed_by_type_and_session(tenant: Tenant) -> None:
    """A type, a family, everything; and one session's."""
    session_id = tenant.session()
    sent = tenant.happened("message.sent", at=START, session_id=session_id)
    read = tenant.happened("message.read", at=START + 1)
    stopped = tenant.happened("session.stopped", at=START + 2, session_id=session_id)

    assert listed(tenant, "type=message.sent") == [sent]
    assert listed(tenant, "type=message.*") == [read, sent]
    assert listed(tenant, "type=*") == [stopped, read, sent]
    assert listed(tenant, f"session_id={session_id}") == [stopped, sent]
    assert listed(tenant, f"session_id={session_id}&type=message.*") == [sent]


def test_a_rare_type_is_found_among_many(tenant: Tenant) -> None:
    """Filtered pages are filled from several reads, and cut where they are full."""
    rare = [
        tenant.happened("message.read" if n % 60 == 0 else "message.sent", at=START + n * 1_000)
        for n in range(241)
    ][::60]

    answer = tenant.get("/v1/events?type=message.read&limit=2&order=oldest").json()
    rest = tenant.get(
        f"/v1/events?type=message.read&limit=2&order=oldest&cursor={answer['next_cursor']}"
    ).json()

    assert [each["id"] for each in answer["data"]] == rare[:2]
    assert [each["id"] for each in rest["data"]] == rare[2:4]


def test_a_page_of_large_events_ends_early(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred of the largest would not fit an answer, and the list could not be read on."""
    monkeypatch.setattr(events, "LARGEST_PAGE", 1)
    monkeypatch.setattr(events, "FILTERED_ROWS", 2)
    made = [tenant.happened("message.sent", at=START + n) for n in range(3)]

    first = tenant.get("/v1/events?type=message.sent&order=oldest").json()
    rest = listed(tenant, f"type=message.sent&order=oldest&cursor={first['next_cursor']}")

    assert [each["id"] for each in first["data"]] == made[:2]
    assert rest == made[2:]


def test_an_event_is_read_as_it_was_sent(tenant: Tenant) -> None:
    """Byte for byte what is signed and delivered."""
    event_id = tenant.happened("message.sent", at=START)

    answer = tenant.get(f"/v1/events/{event_id}")

    assert answer.json()["id"] == event_id
    assert answer.text.startswith('{"type":"message.sent","id":')


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("type=message.lost", "type"),
        ("type=", "type"),
        ("session_id=x", "session_id"),
        ("since=yesterday", "since"),
        ("since=1795317861", "since"),
        ("until=1795317861.5", "until"),
        ("since=", "since"),
        ("since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("since=2026-01-01T00:00:00", "since"),
        ("order=random", "order"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
    ],
)
def test_a_bad_parameter_is_named(tenant: Tenant, query: str, parameter: str) -> None:
    """400, with the parameter's own name."""
    answer = tenant.get(f"/v1/events?{query}")

    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["parameter"] == parameter
