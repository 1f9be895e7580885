"""The catalogue of event types: when each is emitted, what to do, its schema, and examples."""

from functools import cache
from typing import Any, Final

import msgspec
from litestar import Response, get
from litestar.params import FromPath

from control_plane.call import Call
from control_plane.event_examples import examples
from control_plane.event_schemas import schema_of
from control_plane.idempotency import reply
from control_plane.problems import not_found
from shared import events
from shared.tenant import Scope

PATH: Final = "/v1/event-types"
ITEM: Final = f"{PATH}/{{event_type:str}}"
SCHEMA_TYPE: Final = "application/schema+json"


class EventTypeOut(msgspec.Struct, frozen=True, kw_only=True):
    """An event type."""

    type: str
    version: int
    """Of the catalogue."""
    emitted: str
    means: str
    then: str
    """What to do when it arrives."""
    schema: dict[str, Any]
    """JSON Schema (2020-12) of the whole event."""
    examples: tuple[dict[str, Any], ...]


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """Every event type."""

    version: int
    """Within a version there may be new types, fields, values and kinds of content: pass over what
    you do not know. Nothing you know changes or goes."""
    data: tuple[EventTypeOut, ...]


@get(PATH, needs=Scope.EVENTS_READ)
async def list_event_types(request: Call) -> Response[Catalogue]:
    """List what can happen, with the schema and examples of each type."""
    return reply(200, await request.run(_encoded))


@get(ITEM, needs=Scope.EVENTS_READ)
async def read_event_type(event_type: FromPath[str], request: Call) -> Response[EventTypeOut]:
    """Read when an event of this type is sent, what it means and what to do."""
    found = _known(event_type)
    return reply(200, msgspec.json.encode(await request.run(lambda: described(found))))


@get(f"{ITEM}/schema", needs=Scope.EVENTS_READ, media_type=SCHEMA_TYPE)
async def read_event_schema(event_type: FromPath[str], request: Call) -> Response[dict[str, Any]]:
    """Read the JSON Schema (2020-12) of this type's events, for a validator."""
    found = _known(event_type)
    body = msgspec.json.encode(await request.run(lambda: described(found).schema))
    return reply(200, body, media_type=SCHEMA_TYPE)


def _known(event_type: str) -> str:
    if event_type not in events.TYPES:
        raise not_found("event type")
    return event_type


@cache
def _encoded() -> bytes:
    return msgspec.json.encode(catalogue())


def catalogue() -> Catalogue:
    """All of it, in the order of `shared.events`."""
    return Catalogue(
        version=events.VERSION,
        data=tuple(described(entry.type) for entry in events.CATALOGUE),
    )


@cache
def described(event_type: str) -> EventTypeOut:
    """One type. Raises KeyError for an unknown one."""
    entry = _ENTRIES[event_type]
    return EventTypeOut(
        type=entry.type,
        version=events.VERSION,
        emitted=entry.emitted,
        means=entry.means,
        then=entry.then,
        schema=schema_of(event_type),
        examples=tuple(msgspec.to_builtins(each) for each in examples(event_type)),
    )


_ENTRIES: Final = {entry.type: entry for entry in events.CATALOGUE}

ROUTES: Final = [list_event_types, read_event_type, read_event_schema]
