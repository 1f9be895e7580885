"""The catalogue: every type, its schema, true examples, and what a version promises."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given

from control_plane import event_schemas
from control_plane.event_examples import examples
from control_plane.event_schemas import FILE, breaks, every_schema, written
from control_plane.event_types import catalogue
from shared import events
from tests.control_plane.conftest import Tenant
from tests.schemas import Judge
from tests.strategies import EVENTS

Change = Callable[[dict[str, Any]], object]

JUDGE = Judge(json.loads(msgspec.json.encode(catalogue())))


def test_the_catalogue_has_every_type_with_true_examples(tenant: Tenant) -> None:
    """Each example decodes as its type and fits its schema."""
    served = tenant.get("/v1/event-types").json()

    assert served["version"] == events.VERSION
    assert [entry["type"] for entry in served["data"]] == [each.type for each in events.CATALOGUE]
    judge = Judge(served)
    for entry in served["data"]:
        assert entry["examples"]
        assert entry["schema"]["examples"] == entry["examples"]
        for shown, event in zip(entry["examples"], examples(entry["type"]), strict=True):
            assert shown["type"] == entry["type"]
            assert events.decode(json.dumps(shown)) == event
            assert json.loads(events.encode(event)) == shown
            assert judge.faults(shown) == []


@pytest.mark.parametrize("name", sorted(events.TYPES))
def test_a_type_and_its_schema_are_read_alone(tenant: Tenant, name: str) -> None:
    """The schema stands by itself: dialect, id, and every definition it refers to."""
    entry = tenant.get(f"/v1/event-types/{name}").json()
    answer = tenant.get(f"/v1/event-types/{name}/schema")
    schema = answer.json()

    assert answer.headers["content-type"] == "application/schema+json"
    assert entry["schema"] == schema
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:zapgate:event:{events.VERSION}:{name}"
    assert all(ref.startswith("#/$defs/") for ref in references(schema))
    assert {ref.rpartition("/")[2] for ref in references(schema)} == schema["$defs"].keys()


def references(schema: Any) -> set[str]:
    """Every `$ref` of a document."""
    return set(re.findall(r'"\$ref": "([^"]*)"', json.dumps(schema)))


@pytest.mark.parametrize("path", ["message.lost", "message.lost/schema", "message.*"])
def test_an_unknown_type_is_not_found(tenant: Tenant, path: str) -> None:
    """404, as for anything else that is not there."""
    answer = tenant.get(f"/v1/event-types/{path}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_there_are_no_examples_of_what_is_no_type() -> None:
    """A type without examples is a defect that is noticed at once."""
    with pytest.raises(KeyError):
        examples("message.lost")


@given(EVENTS)
def test_every_event_there_can_be_fits_its_schema(event: events.Event) -> None:
    """Whatever is in its fields."""
    assert JUDGE.faults(json.loads(events.encode(event))) == []


NO_EVENTS: list[tuple[Change, str]] = [
    (lambda event: event.update(type="message.lost"), "not in the catalogue"),
    (lambda event: event.pop("sequence"), "'sequence' is a required property"),
    (lambda event: event.update(sequence="7"), "$.sequence"),
    (lambda event: event.update(timestamp="2026-11-21T00:00:00"), "is not a 'date-time'"),
    (lambda event: event["data"].update(status="lost"), "$.data.status"),
]


@pytest.mark.parametrize(("change", "at"), NO_EVENTS)
def test_what_is_no_event_does_not_fit(change: Change, at: str) -> None:
    """The judge is one: what the schemas forbid is found, and where."""
    event = json.loads(events.encode(examples("message.sent")[0]))
    assert JUDGE.faults(event) == []
    change(event)

    assert at in " ".join(JUDGE.faults(event))


def test_the_schemas_are_those_of_the_file() -> None:
    """What tenants receive is changed on purpose: `python -m control_plane.event_schemas`.

    A change that only adds is written to the file by that command. Any other needs a new type, or
    a new `shared.events.VERSION`.
    """
    held = FILE.read_text()

    assert breaks(json.loads(held), every_schema()) == []
    assert written(every_schema()) == held, "run: python -m control_plane.event_schemas"


def defs(name: str, change: Change) -> Change:
    return lambda whole: change(whole["$defs"][name])


ADDITIONS: dict[str, Change] = {
    "a field": defs("Ping", lambda of: of["properties"].update(more={"type": "string"})),
    "a field that is always there": defs(
        "MessageChange", lambda of: of["required"].append("whatsapp_id")
    ),
    "a value": defs("Reason", lambda of: of["enum"].append("new")),
    "a type": lambda whole: (
        whole["oneOf"].append({"$ref": "#/$defs/New"}),
        whole["$defs"].update(New={"type": "object"}),
    ),
    "a kind of content": defs(
        "ReceivedMessage",
        lambda of: of["properties"]["content"]["anyOf"].append({"$ref": "#/$defs/Ping"}),
    ),
    "other words": defs("Ping", lambda of: of.update(description="Otherwise.")),
}
BREAKS: dict[str, tuple[Change, str]] = {
    "a field is gone": (
        defs("Ping", lambda of: of["properties"].pop("note")),
        "$.data.note: is gone",
    ),
    "a field may be missing": (defs("Ping", lambda of: of["required"].remove("note")), "required"),
    "no field must be there": (defs("Ping", lambda of: of.pop("required")), "required"),
    "a field has another type": (
        defs("MessageSent", lambda of: of["properties"]["sequence"].update(type="string")),
        '$.sequence: `type` was "integer", is "string"',
    ),
    "a value is gone": (defs("Reason", lambda of: of["enum"].pop()), "any more"),
    "any value was allowed": (
        defs("Ping", lambda of: of["properties"]["note"].update(enum=["a"])),
        "$.data.note: `enum` was null",
    ),
    "a kind of content is gone": (
        defs("ReceivedMessage", lambda of: of["properties"]["content"]["anyOf"].pop()),
        "is no choice any more",
    ),
    "a type is gone": (lambda whole: whole["oneOf"].pop(), "is no choice any more"),
    "it may be null": (
        defs(
            "ReceivedMessage",
            lambda of: of["properties"]["content"]["anyOf"].append({"type": "null"}),
        ),
        "$.data.content: may be null",
    ),
    "it has a format": (
        defs("MessageSent", lambda of: of["properties"]["id"].update(format="uuid")),
        "$.id: `format`",
    ),
}


@pytest.mark.parametrize("change", ADDITIONS.values(), ids=ADDITIONS.keys())
def test_a_version_takes_additions(change: Change) -> None:
    """What a reader that passes over the unknown need not know."""
    old, new = every_schema(), copy.deepcopy(every_schema())
    change(new)

    assert breaks(old, new) == []


@pytest.mark.parametrize(("change", "said"), BREAKS.values(), ids=BREAKS.keys())
def test_a_version_takes_nothing_else(change: Change, said: str) -> None:
    """What a reader may rely on stays, and what is the matter is told with its place."""
    old, new = every_schema(), copy.deepcopy(every_schema())
    change(new)

    assert said in " ".join(breaks(old, new))


def test_what_holds_itself_and_lists_is_compared_once() -> None:
    """A definition may refer to itself; a list's items are compared like fields."""
    old: dict[str, Any] = {
        "$ref": "#/$defs/Tree",
        "$defs": {
            "Tree": {"properties": {"leaves": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}}}
        },
    }
    plain = {"type": "array", "items": {"type": "string"}}
    broken = copy.deepcopy(old)
    broken["$defs"]["Tree"]["properties"]["leaves"]["type"] = "object"

    assert breaks(old, old) == []
    assert breaks(old, broken) == ['$.leaves: `type` was "array", is "object"']
    assert breaks(plain, {"type": "array", "items": {"type": "integer"}}) == [
        '$[]: `type` was "string", is "integer"'
    ]


def test_the_file_is_written_for_additions_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command refuses to break a version, says where it would, and leaves the file alone."""
    file = tmp_path / "events.json"
    monkeypatch.setattr(event_schemas, "FILE", file)

    assert event_schemas.main() == 0
    assert file.read_text() == written(every_schema())
    older = every_schema()
    older["$defs"]["Ping"]["properties"].pop("note")
    older["$defs"]["Ping"]["required"].remove("note")
    file.write_text(written(older))
    assert event_schemas.main() == 0
    newer = every_schema()
    newer["$defs"]["Ping"]["properties"]["gone"] = {"type": "string"}
    file.write_text(written(newer))
    assert event_schemas.main() == 1
    assert "$.data.gone: is gone" in capsys.readouterr().err
    assert file.read_text() == written(newer)
