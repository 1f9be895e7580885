"""Messages: rows and requests."""

import msgspec

from shared import clock
from shared.aws import Op, Refusal
from shared.ids import MessageId, SessionId, TenantId
from shared.message import RANK, Failure, Message, MessageStatus
from shared.store import keys
from shared.store.dynamo import (
    ABSENT,
    Expression,
    Page,
    Range,
    Write,
    delete,
    from_item,
    get,
    put,
    query,
    setting,
    to_item,
    transact,
    update,
)
from shared.store.idempotency import Claim, Record

KEEP: int = 90 * clock.DAY
"""How long a message's row is kept."""


def create(tenant_id: TenantId, message: Message, claim: Claim | None = None) -> Op[Record | None]:
    """Store a queued message, and take its idempotency key in the same transaction.

    None where it was stored; the key's record where that key was taken.
    """
    item = to_item(
        message,
        keys.message(tenant_id, message.session_id, message.id),
        rank=RANK[message.status],
        ttl=(message.created_at + KEEP) // clock.SECOND,
    )
    write = put(item, ABSENT)
    op = write.alone() if claim is None else transact([claim.begin(message.id), write])

    def taken(refusal: Refusal) -> Record | None:
        old = refusal.item(0)
        return None if old is None else from_item(old, Record)

    return Op(op.service, op.action, op.params, lambda _: None, taken)


def read(tenant_id: TenantId, session_id: SessionId, message_id: MessageId) -> Op[Message | None]:
    return get(keys.message(tenant_id, session_id, message_id), Message)


def every(tenant_id: TenantId, session_id: SessionId, rows: Range) -> Op[Page[Message]]:
    return query(keys.messages_partition(tenant_id, session_id), Message, rows)


def discard(
    tenant_id: TenantId, session_id: SessionId, message_id: MessageId, claim: Claim | None = None
) -> Op[bool]:
    """Take back a message whose order was not queued, and its key: it was never accepted.

    False where another request has taken the key, and the message with it.
    """
    gone = delete(keys.message(tenant_id, session_id, message_id))
    return gone.alone() if claim is None else transact([gone, claim.withdraw()])


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a message: its highest new status, and when each was reached."""

    status: MessageStatus
    at: int
    whatsapp_id: str | None = None
    failure: Failure | None = None
    sent_at: int | None = None
    delivered_at: int | None = None
    read_at: int | None = None


def advance(
    tenant_id: TenantId, session_id: SessionId, message_id: MessageId, progress: Progress
) -> Write:
    """Move a message up the ranks. The condition fails where it is as far already, or gone."""
    values: dict[str, object] = {
        "status": progress.status.value,
        "rank": RANK[progress.status],
        "updated_at": progress.at,
    }
    marks = {
        "whatsapp_id": progress.whatsapp_id,
        "sent_at": progress.sent_at,
        "delivered_at": progress.delivered_at,
        "read_at": progress.read_at,
        "failure": None if progress.failure is None else msgspec.to_builtins(progress.failure),
    }
    values |= {name: value for name, value in marks.items() if value is not None}
    higher = Expression("#rank < :rank")
    return update(keys.message(tenant_id, session_id, message_id), setting(values), higher)
