"""The requests as values: what they say, before any emulator has a part in it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import ids
from shared.addresses import Denied
from shared.aws import Refusal, conflicted
from shared.delivery import DeliveryState
from shared.env import Places, settings
from shared.errors import Misconfigured
from shared.ids import EndpointId, EventId, KeyId, MessageId, SessionId, TenantId
from shared.store import dynamo, events, keys, tenants
from shared.store.dynamo import Expression
from shared.store.events import StoredEvent
from tests.strategies import some_ids

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(VALUES)
def test_values_survive_dynamodb_s_form(value: Any) -> None:
    """Any builtin value reads back as it was written."""
    assert dynamo.plain(dynamo.attribute(value)) == value


def _every_key(tenant: str, other: str) -> list[keys.Key]:
    tenant_id = TenantId(tenant)
    return [
        keys.tenant(tenant_id),
        keys.api_key(tenant_id, KeyId(other)),
        keys.session(tenant_id, SessionId(other)),
        keys.pairing(tenant_id, SessionId(other)),
        keys.endpoint(tenant_id, EndpointId(other)),
        keys.message(tenant_id, SessionId(other), MessageId(other)),
        keys.event(tenant_id, EventId(other)),
        keys.delivery(tenant_id, EndpointId(other), EventId(other)),
        keys.idempotency(tenant_id, "POST /v1/x", other),
        keys.rate_window(tenant_id, 7),
    ]


@given(some_ids(ids.TENANT), some_ids(ids.TENANT), st.text(max_size=40), st.text(max_size=40))
def test_no_key_of_one_tenant_names_another_s_row(a: str, b: str, x: str, y: str) -> None:
    """Whatever ids a caller makes up, the partition stays under its own tenant."""
    if a == b:
        return

    assert not set(_every_key(a, x)) & set(_every_key(b, y))
    assert all(partition.startswith(f"T#{a}") for partition, _ in _every_key(a, x))
    assert len(set(_every_key(a, x))) == len(_every_key(a, x))


EVENT = StoredEvent(
    id=EventId(ids.mint(ids.EVENT, 5_000, bytes(10))),
    tenant_id=TenantId(ids.mint(ids.TENANT, 0, bytes(10))),
    type="message.sent",
    created_at=5_000,
    recorded_at=9_000,
    body="{}",
    sequence=7,
)


def test_an_event_has_its_place_in_the_log() -> None:
    """By when it was recorded; it is kept for as long as a cursor before it is good."""
    item = events.record_event(EVENT.tenant_id, EVENT).body["Item"]

    assert dynamo.plain(item["GSI1PK"]) == f"T#{EVENT.tenant_id}#L"
    assert dynamo.plain(item["GSI1SK"]) == f"0000000009000#0000000007#{EVENT.id}"
    assert dynamo.plain(item["ttl"]) == (9_000 + events.KEEP) // 1000
    assert dynamo.from_item(item, StoredEvent) == EVENT


@given(st.integers(0, events.LATEST), st.integers(0, 10**10 - 1), some_ids(ids.EVENT))
def test_places_sort_as_they_were_recorded(moment: int, sequence: int, event_id: str) -> None:
    """A place at a moment lies before every event of it, and after every event before it."""
    made = msgspec.structs.replace(
        EVENT, recorded_at=moment, sequence=sequence, id=EventId(event_id)
    )
    place = events.place_of(made)

    assert events.place_at(moment) < place
    assert moment == events.LATEST or place < events.place_at(moment + 1)
    assert events.moment_of(place) == events.moment_of(events.place_at(moment)) == moment
    # What the query begins at leaves out the place itself and nothing beyond it.
    assert events.place_at(moment) + "!" < place < place + "!"


def test_an_expression_escapes_every_name_and_passes_every_value() -> None:
    """Reserved words are no matter: each name goes in as a placeholder."""
    change = dynamo.setting({"status": "sent", "reason": None, "until": 5})
    request = change.into("UpdateExpression", Expression("#rank < :rank", {"rank": 3}))

    assert request["UpdateExpression"] == "SET #status = :status, #until = :until REMOVE #reason"
    assert request["ConditionExpression"] == "#rank < :rank"
    assert request["ExpressionAttributeNames"] == {
        "#rank": "rank", "#reason": "reason", "#status": "status", "#until": "until",
    }  # fmt: skip
    assert request["ExpressionAttributeValues"] == {
        ":status": {"S": "sent"}, ":until": {"N": "5"}, ":rank": {"N": "3"},
    }  # fmt: skip


def test_what_dynamodb_cannot_hold_is_an_error_of_ours() -> None:
    """Neither a value without a form, nor a form without a value, is guessed at."""
    with pytest.raises(TypeError, match="object"):
        dynamo.attribute(object())
    with pytest.raises(TypeError, match="NS"):
        dynamo.plain({"NS": ["1"]})


def test_a_change_may_only_remove() -> None:
    """Nothing to set is no empty SET."""
    assert dynamo.setting({"reason": None}).text == "REMOVE #reason"
    assert dynamo.setting({"state": "x"}).text == "SET #state = :state"


def test_a_write_without_a_condition_names_nothing() -> None:
    """DynamoDB refuses empty lists of names and values."""
    assert dynamo.put({}).body == {"Item": {}}
    assert set(dynamo.delete(("a", "b")).body) == {"Key"}
    assert dynamo.Expression("true").into("ConditionExpression") == {"ConditionExpression": "true"}


def test_a_transaction_has_its_limit() -> None:
    """More writes than AWS takes are refused here, by name."""
    write = dynamo.delete(("a", "b"))

    with pytest.raises(ValueError, match="100"):
        dynamo.transact([write] * 101)


def test_refusals_are_told_from_other_errors() -> None:
    """Only a failed condition is a refusal; a conflict is to be tried again."""
    failed = {"Error": {"Code": "ConditionalCheckFailedException"}, "Item": {"a": {"S": "b"}}}
    cancelled = {
        "Error": {"Code": "TransactionCanceledException"},
        "CancellationReasons": [{"Code": "None"}, {"Code": "ConditionalCheckFailed"}],
    }
    conflict = {
        "Error": {"Code": "TransactionCanceledException"},
        "CancellationReasons": [{"Code": "None"}, {"Code": "TransactionConflict"}],
    }

    one, many = Refusal.of(failed), Refusal.of(cancelled)
    assert one is not None
    assert one.item() == {"a": {"S": "b"}}
    assert many is not None
    assert (many.failed(0), many.failed(1), many.failed(2)) == (False, True, False)
    assert many.item(5) is None
    assert Refusal.of(conflict) is None
    assert conflicted(conflict)
    assert not conflicted(cancelled)
    assert not conflicted({"Error": {"Code": "ThrottlingException"}})
    assert conflicted({"Error": {"Code": "TransactionConflictException"}})


def test_settings_say_which_variable_is_wrong() -> None:
    """A value of the wrong kind is refused by name; nothing is guessed."""
    assert settings({"ZAPGATE_SHARDS": "4", "OTHER": "x"}).shards == 4
    with pytest.raises(Misconfigured, match="shards"):
        settings({"ZAPGATE_SHARDS": "many"})
    with pytest.raises(Misconfigured, match="webhook_targets"):
        settings({"ZAPGATE_WEBHOOK_TARGETS": "everything"})
    with pytest.raises(Misconfigured, match=r"ZAPGATE_WEBHOOK_DENIED: '10\.0\.0\.0/33'"):
        settings({"ZAPGATE_WEBHOOK_DENIED": "10.0.0.0/8 10.0.0.0/33"})


def test_our_own_address_is_denied_to_webhooks() -> None:
    """The API's public host is, beside what is listed; where it is this machine, nothing is."""
    listed = settings(
        {
            "ZAPGATE_WEBHOOK_DENIED": "2a05:d018::/32",
            "ZAPGATE_PUBLIC_URL": "https://api.example.com:8443/base",
        }
    ).denied()
    assert listed == Denied.parse("2a05:d018::/32, api.example.com")
    public = settings({"ZAPGATE_PUBLIC_URL": "https://8.8.8.8"}).denied()
    assert public == Denied.parse("8.8.8.8")
    for url in ("", "http://127.0.0.1:8000", "http://[::1]:1", "http://localhost:8000"):
        assert settings({"ZAPGATE_PUBLIC_URL": url}).denied() == Denied()


def test_a_queue_s_url_is_made_from_its_shard() -> None:
    """The placeholder is where the number goes."""
    places = Places(command_queue_url="http://127.0.0.1/1/zapgate-commands-{shard}.fifo")

    assert places.command_queue(12) == "http://127.0.0.1/1/zapgate-commands-12.fifo"


def test_making_one_more_says_why_it_was_not_made() -> None:
    """Too many, a tenant that is not active, or our own write sent again."""
    op = tenants.make_counted(TenantId("ten_1"), "keys", 3, (dynamo.put({}, dynamo.ABSENT),))
    assert op.refused is not None
    failed, fine = "ConditionalCheckFailed", "None"

    def why(*codes: str, status: str | None = None) -> tenants.Making:
        row = None if status is None else {"status": {"S": status}}
        assert op.refused is not None
        return op.refused(Refusal(codes, (row, None)))

    assert why(failed, fine, status="active") is tenants.Making.FULL
    assert why(failed, fine, status="deleting") is tenants.Making.CLOSED
    assert why(failed, fine) is tenants.Making.CLOSED
    assert why(fine, failed) is tenants.Making.MADE


def test_what_a_text_is_besides_is_forgotten() -> None:
    """An enumeration's member is stored as its text."""
    assert dynamo.attribute(DeliveryState.HELD) == {"S": "held"}
