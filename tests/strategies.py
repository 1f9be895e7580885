"""Strategies for the vocabulary: any value a plane may hand to the other."""

from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import msgspec
from hypothesis import strategies as st

from shared import commands, events, ids
from shared.message import Content, Failure, FailureCode, MessageStatus, OnUncertain
from shared.session import Reason, SessionState

T = TypeVar("T")

MOMENTS = st.integers(min_value=0, max_value=2**43)
"""Milliseconds until the year 2248."""


def made(kind: type[T], /, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[T]:
    return cast("st.SearchStrategy[T]", st.builds(kind, **fields))


def some_ids(prefix: str) -> st.SearchStrategy[str]:
    return st.builds(ids.mint, st.just(prefix), MOMENTS, st.binary(min_size=10, max_size=10))


TEXT = st.text(st.characters(codec="utf-8"), max_size=200)
INSTANTS = st.datetimes(
    datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
CONTENT = made(Content, text=TEXT)
FAILURES = made(
    Failure,
    code=st.sampled_from(FailureCode),
    detail=TEXT,
    blame=st.sampled_from(["whatsapp", "account", "recipient", "request", "zapgate"]),
    retryable=st.booleans(),
    whatsapp_code=st.none() | st.integers(0, 999),
)

_DATA = {
    events.SessionChange: made(
        events.SessionChange,
        state=st.sampled_from(SessionState),
        previous=st.sampled_from(SessionState),
        reason=st.none() | st.sampled_from(Reason),
        detail=st.none() | TEXT,
        until=st.none() | INSTANTS,
        phone_number=st.none() | TEXT,
        lid=st.none() | TEXT,
    ),
    events.PairingOffer: made(events.PairingOffer, expires_at=INSTANTS, has_code=st.booleans()),
    events.MessageChange: made(
        events.MessageChange,
        message_id=some_ids(ids.MESSAGE),
        status=st.sampled_from(MessageStatus),
        to=TEXT,
        whatsapp_id=st.none() | TEXT,
        failure=st.none() | FAILURES,
    ),
    events.ReceivedMessage: made(
        events.ReceivedMessage,
        whatsapp_id=TEXT,
        chat=TEXT,
        sender=made(
            events.Party,
            phone_number=st.none() | TEXT,
            lid=st.none() | TEXT,
            name=st.none() | TEXT,
        ),
        content=CONTENT | made(events.Unsupported, kind=TEXT),
        sent_at=INSTANTS,
        group=st.booleans(),
        from_me=st.booleans(),
    ),
    events.Ping: made(events.Ping, note=TEXT),
    events.EndpointTrouble: made(
        events.EndpointTrouble,
        endpoint_id=some_ids(ids.ENDPOINT),
        url=TEXT,
        reason=TEXT,
        failing_since=st.none() | INSTANTS,
        failures=st.integers(0, 2**31),
        last_error=st.none() | TEXT,
        disable_at=st.none() | INSTANTS,
    ),
    events.Exhaustion: made(
        events.Exhaustion,
        endpoint_id=some_ids(ids.ENDPOINT),
        event_id=some_ids(ids.EVENT),
        event_type=TEXT,
        attempts=st.integers(0, 100),
        session_id=st.none() | some_ids(ids.SESSION),
        last_status=st.none() | st.integers(100, 599),
        last_error=st.none() | TEXT,
    ),
}

EVENT_KINDS = events.Event.__args__
COMMAND_KINDS = commands.Command.__args__


def _event(kind: type[Any]) -> st.SearchStrategy[events.Event]:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    given: dict[str, st.SearchStrategy[Any]] = {
        "id": some_ids(ids.EVENT),
        "timestamp": INSTANTS,
        "data": _DATA[fields["data"].type],
    }
    if "session_id" in fields:
        given |= {"session_id": some_ids(ids.SESSION), "sequence": st.integers(1, 2**53)}
    return made(kind, **given)


EVENTS: st.SearchStrategy[events.Event] = st.one_of([_event(kind) for kind in EVENT_KINDS])


def _command(kind: type[Any]) -> st.SearchStrategy[commands.Command]:
    given: dict[str, st.SearchStrategy[Any]] = {
        "id": some_ids(ids.COMMAND),
        "tenant_id": some_ids(ids.TENANT),
        "session_id": some_ids(ids.SESSION),
        "issued_at": MOMENTS,
        "expires_at": MOMENTS,
    }
    extra: dict[str, st.SearchStrategy[Any]] = {
        "phone_number": st.none() | st.just("+4915112345678"),
        "restart": st.booleans(),
        "message_id": some_ids(ids.MESSAGE),
        "to": TEXT,
        "content": CONTENT,
        "on_uncertain": st.sampled_from(OnUncertain),
    }
    names = {field.name for field in msgspec.structs.fields(kind)}
    return made(kind, **given, **{name: extra[name] for name in extra if name in names})


COMMANDS: st.SearchStrategy[commands.Command] = st.one_of(
    [_command(kind) for kind in COMMAND_KINDS]
)
