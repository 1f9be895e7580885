"""Queues: the requests to SQS, as values.

Command queues are FIFO, one a shard, with the session id as message group: a session's commands
keep their order and run beside other sessions'. The deduplication id is the command's own, so a
repeated request within SQS's five minutes is one command.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.aws import Op, Params, Response, done
from shared.ids import CommandId, SessionId

LARGEST_BATCH: Final = 10
"""Messages in one receive or batch request (SQS limit)."""
LONGEST_POLL: Final = 20
"""Seconds a receive may wait (SQS limit)."""
LONGEST_DELAY: Final = 900
"""Seconds a message may be delayed (SQS limit)."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message in hand, until its visibility times out."""

    body: str
    handle: str
    count: int
    """How often it was received, this time included."""
    group: str
    sent_at: int = 0
    """When it was put into the queue, by SQS's clock (ms)."""


def send_command(shard: int, session_id: SessionId, command_id: CommandId, text: str) -> Op[None]:
    """Queue a signed command behind the session's others."""
    return Op(
        "sqs",
        "send_message",
        lambda at: {
            "QueueUrl": at.command_queue(shard),
            "MessageBody": text,
            "MessageGroupId": session_id,
            "MessageDeduplicationId": command_id,
        },
        done,
    )


def park(text: str, reason: str, group: str) -> Op[None]:
    """Keep a refused command on the dead-letter queue, as it came, with the reason beside it.

    Its hash is the deduplication id, so a gateway that dies between this and the removal parks it
    once.
    """
    return Op(
        "sqs",
        "send_message",
        lambda at: {
            "QueueUrl": at.command_dead_url,
            "MessageBody": text,
            "MessageGroupId": group or "refused",
            "MessageDeduplicationId": hashlib.sha256(text.encode()).hexdigest(),
            "MessageAttributes": {"reason": {"DataType": "String", "StringValue": reason}},
        },
        done,
    )


def send_delivery(group: str, body: str, delay: int) -> Op[None]:
    """Wake a dispatcher in `delay` seconds. `group` is the tenant, for SQS's fair queueing."""
    return Op(
        "sqs",
        "send_message",
        lambda at: {
            "QueueUrl": at.delivery_queue_url,
            "MessageBody": body,
            "MessageGroupId": group,
            "DelaySeconds": min(delay, LONGEST_DELAY),
        },
        done,
    )


def receive(
    queue_url: str, wait: int, limit: int = LARGEST_BATCH, *, visibility: int | None = None
) -> Op[tuple[Received, ...]]:
    """Up to `limit` messages, unseen by others for `visibility` seconds, else as the queue says."""
    request: Params = {
        "QueueUrl": queue_url,
        "WaitTimeSeconds": wait,
        "MaxNumberOfMessages": limit,
        "MessageSystemAttributeNames": [
            "ApproximateReceiveCount",
            "MessageGroupId",
            "SentTimestamp",
        ],
    }
    if visibility is not None:
        request["VisibilityTimeout"] = visibility
    return Op(
        "sqs",
        "receive_message",
        lambda _: request,
        lambda response: tuple(_received(message) for message in response.get("Messages", [])),
    )


def _received(message: dict[str, Any]) -> Received:
    attributes = message.get("Attributes", {})
    return Received(
        body=message["Body"],
        handle=message["ReceiptHandle"],
        count=int(attributes.get("ApproximateReceiveCount", 1)),
        group=attributes.get("MessageGroupId", ""),
        sent_at=int(attributes.get("SentTimestamp", 0)),
    )


def _failures(response: Response) -> tuple[int, ...]:
    return tuple(int(entry["Id"]) for entry in response.get("Failed", []))


def settle(queue_url: str, handles: Sequence[str]) -> Op[tuple[int, ...]]:
    """Delete up to ten finished messages; the positions that AWS failed to delete."""
    entries = [{"Id": str(n), "ReceiptHandle": handle} for n, handle in enumerate(handles)]
    return Op(
        "sqs",
        "delete_message_batch",
        lambda _: {"QueueUrl": queue_url, "Entries": entries},
        _failures,
    )


def hold(queue_url: str, handles: Sequence[str], seconds: int) -> Op[tuple[int, ...]]:
    """Keep up to ten messages in hand for `seconds` more; 0 gives them back at once."""
    entries = [
        {"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": seconds}
        for n, handle in enumerate(handles)
    ]
    return Op(
        "sqs",
        "change_message_visibility_batch",
        lambda _: {"QueueUrl": queue_url, "Entries": entries},
        _failures,
    )
