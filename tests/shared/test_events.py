import msgspec
from hypothesis import given

from shared import events
from shared.webhook import matches
from tests.strategies import EVENT_KINDS, EVENTS


@given(EVENTS)
def test_an_event_survives_its_bytes(event: events.Event) -> None:
    """What is stored and sent decodes to what happened."""
    body = events.encode(event)

    assert events.decode(body) == event
    assert msgspec.json.decode(body)["type"] == events.type_name(event)


def test_the_catalogue_is_whole() -> None:
    """Each type is explained once, and nothing is explained that is never sent."""
    listed = [entry.type for entry in events.CATALOGUE]

    assert sorted(listed) == sorted(events.type_name(kind) for kind in EVENT_KINDS)
    assert all(
        text.endswith(".") or text.startswith("when ")
        for entry in events.CATALOGUE
        for text in (entry.emitted, entry.means, entry.then)
    )


def test_filters_match_by_family_or_name() -> None:
    """`*` is all, `message.*` a family, anything else itself."""
    assert matches("*", "message.sent")
    assert matches("message.*", "message.sent")
    assert not matches("message.*", "session.stopped")
    assert not matches("message", "message.sent")
    assert matches("message.sent", "message.sent")
    assert not matches("message.sent", "message.sent.v2")
