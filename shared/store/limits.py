"""Requests counted per tenant and window, shared by every control-plane process.

A process takes several requests' worth at once while it is busy, so that counting does not cost a
write for each.
"""

from shared import clock
from shared.aws import Op
from shared.ids import TenantId
from shared.store import keys
from shared.store.dynamo import attribute, named, plain

WINDOW: int = 60
"""Seconds."""


def take(tenant_id: TenantId, window: int, amount: int) -> Op[int]:
    """Count `amount` requests in the `window`-th minute; the count so far, these included."""
    return Op(
        "dynamodb",
        "update_item",
        lambda at: {
            "TableName": at.table,
            "Key": named(keys.rate_window(tenant_id, window)),
            "UpdateExpression": "ADD #used :amount SET #ttl = :ttl",
            "ExpressionAttributeNames": {"#used": "used", "#ttl": "ttl"},
            "ExpressionAttributeValues": {
                ":amount": attribute(amount),
                ":ttl": attribute((window + 2) * WINDOW + clock.HOUR // clock.SECOND),
            },
            "ReturnValues": "UPDATED_NEW",
        },
        lambda response: int(plain(response["Attributes"]["used"])),
    )
