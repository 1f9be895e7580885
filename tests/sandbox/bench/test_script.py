"""Recorded requests, to be made again elsewhere."""

import secrets

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sandbox.bench.script import FRESH_LENGTH, Record, minting, part, with_bytes
from shared import ids

moments = st.integers(0, 1 << 46)
tails = st.binary(min_size=ids.RANDOM_BYTES, max_size=ids.RANDOM_BYTES)


def record(body: object, target: str = "DynamoDB_20120810.PutItem", begun: float = 0.0) -> Record:
    return Record(begun, begun + 1, target, msgspec.json.encode(body), 200, b"{}")


@given(moments, tails)
def test_ids_of_messages_are_new_and_of_their_kind(now: int, random: bytes) -> None:
    """What was minted for a message is minted anew, once for the whole part, and stays an id."""
    old = ids.mint(ids.MESSAGE, now, random)
    body = {"Item": {"SK": {"S": old}, "id": {"S": old}}}
    again = part([record(body), record({"Key": {"SK": {"S": old}}}, begun=2)], {})
    fresh = again.fresh(minting(7))
    first, second = (step.params(fresh) for step in again.steps)
    new = first["Item"]["id"]["S"]
    assert ids.is_id(ids.MESSAGE, new)
    assert new != old
    assert first["Item"]["SK"]["S"] == second["Key"]["SK"]["S"] == new


@given(moments, tails)
def test_ids_of_tenants_and_sessions_stay(now: int, random: bytes) -> None:
    """The rows that are only read are those of the recorded tenant and session."""
    key = f"T#{ids.mint(ids.TENANT, now, random)}#S#{ids.mint(ids.SESSION, now, random)}"
    again = part([record({"Key": {"PK": {"S": key}}})], {})
    assert again.steps[0].slots == ()
    assert again.steps[0].params({})["Key"]["PK"]["S"] == key


def test_tables_and_queues_are_those_of_another_stack() -> None:
    """A request recorded on one stack is made to the other: never twice to the same queue."""
    moved = {'"one"': '"two"', '"http://q/one-commands-': '"http://q/two-commands-'}
    body = {"TableName": "one", "QueueUrl": "http://q/one-commands-3.fifo", "text": "one fine day"}
    params = part([record(body)], moved).steps[0].params({})
    assert params == {
        "TableName": "two",
        "QueueUrl": "http://q/two-commands-3.fifo",
        "text": "one fine day",
    }


def test_a_poll_stands_where_it_brought_something() -> None:
    """A receive that waited for a message comes after the request that sent it."""
    poll = Record(0.0, 5.0, "AmazonSQS.ReceiveMessage", b"{}", 200, b"{}")
    sent = Record(4.0, 4.5, "AmazonSQS.SendMessage", b"{}", 200, b"{}")
    assert [step.method for step in part([poll, sent], {}).steps] == [
        "send_message",
        "receive_message",
    ]


@given(st.binary())
def test_bytes_come_back_as_bytes(data: bytes) -> None:
    """The wire's base64 is what botocore wants as bytes, at any depth."""
    body = {"Item": {"body": {"B": data}, "list": {"L": [{"B": data}]}}}
    params = part([record(body)], {}).steps[0].params({})
    assert params == body
    assert with_bytes({"B": {"S": "an attribute named B"}}) == {"B": {"S": "an attribute named B"}}


def test_minted_ends_do_not_repeat() -> None:
    """Two seeds never mint the same end, nor one seed twice."""
    one, other = minting(1), minting(2)
    ends = [mint() for mint in (one, other) for _ in range(100)]
    assert len(set(ends)) == len(ends)
    assert {len(end) for end in ends} == {FRESH_LENGTH}


def test_largest_seed_still_fits() -> None:
    """Sixteen bits of seed fit in front of the count."""
    assert len(minting(secrets.randbits(16))()) == FRESH_LENGTH
