"""What a recorded request was for, and who paid for it."""

from typing import Any

import msgspec
import pytest

from sandbox.bench.counting import is_idle, paid, purpose, tally
from sandbox.bench.script import Record
from shared.aws import Op
from shared.env import Places
from shared.ids import CommandId, EventId, MessageId, SessionId, TenantId, WorkerId
from shared.message import MessageStatus
from shared.queue import receive, send_command
from shared.store import deliveries, events, keys, leases, limits, messages, sessions, webhooks
from shared.store.dynamo import Range, check, get, put, transact
from shared.store.messages import Progress

PLACES = Places(
    command_queue_url="http://127.0.0.1/commands-{shard}.fifo",
    delivery_queue_url="http://127.0.0.1/d",
)
TENANT, SESSION = TenantId("ten_1"), SessionId("ses_1")
MESSAGE, EVENT = MessageId("msg_1"), EventId("evt_1")
LEASE = leases.Lease(shard=1, epoch=1, stamp="s", owner=WorkerId("gw_1"))


def recorded(op: Op[Any], answer: object = None) -> Record:
    """An operation as it went over the wire."""
    service = {"dynamodb": "DynamoDB_20120810", "sqs": "AmazonSQS"}[op.service]
    action = "".join(word.capitalize() for word in op.action.split("_"))
    body = msgspec.json.encode(op.params(PLACES))
    return Record(0.0, 1.0, f"{service}.{action}", body, 200, msgspec.json.encode(answer or {}))


ADVANCE = messages.advance(TENANT, SESSION, MESSAGE, Progress(status=MessageStatus.SENT, at=1))


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (sessions.read(TENANT, SESSION), "GetItem session"),
        (messages.read(TENANT, SESSION, MESSAGE), "GetItem message"),
        (limits.take(TENANT, 1, 1), "UpdateItem rate"),
        (leases.resign(LEASE, "t"), "UpdateItem lease"),
        (leases.every("LEASES#0", Range(9)), "Query lease"),
        (leases.workers("BEATS#3", Range(9)), "Query lease"),
        (messages.every(TENANT, SESSION, Range(9)), "Query message"),
        (webhooks.every_endpoint(TENANT, Range(9)), "Query endpoint"),
        (send_command(3, SESSION, CommandId("cmd_1"), "text"), "SendMessage command"),
        (receive("http://127.0.0.1/d", 20), "ReceiveMessage delivery"),
        (
            transact([put({"PK": {"S": "T#t#E"}, "SK": {"S": "evt_1"}}), ADVANCE]),
            "TransactWriteItems event+message",
        ),
        (
            transact([check(keys.tenant(TENANT), messages.ABSENT)]),
            "TransactWriteItems tenant",
        ),
    ],
)
def test_a_request_names_its_rows(op: Op[Any], expected: str) -> None:
    """The store's own requests are told apart by what they read and write."""
    assert purpose(recorded(op)) == expected


def test_waiting_and_leases_are_nobodys() -> None:
    """What brings nothing, and a lease's upkeep, are idle; a poll or sweep that brings is not."""
    poll = receive(PLACES.command_queue(1), 20)
    assert is_idle(recorded(poll))
    assert is_idle(recorded(leases.resign(LEASE, "t")))
    assert not is_idle(recorded(poll, {"Messages": [{"Body": "b"}]}))
    sweep = deliveries.due_deliveries(1, 1, 10)
    assert is_idle(recorded(sweep, {"Items": list[str]()}))
    assert not is_idle(recorded(sweep, {"Items": ["a delivery"]}))
    assert not is_idle(recorded(sessions.read(TENANT, SESSION)))


def test_what_also_happens_unasked_is_not_paid() -> None:
    """A purpose seen while nothing was wanted is the background's."""
    sweep = recorded(deliveries.due_deliveries(1, 1, 10), {"Items": ["a delivery"]})
    read = recorded(get(keys.event(TENANT, EVENT), events.StoredEvent))
    assert paid([sweep, read], frozenset({purpose(sweep)})) == [read]
    assert tally([read, read, sweep], 2) == "1 GetItem event, 0.5 Query Due"
