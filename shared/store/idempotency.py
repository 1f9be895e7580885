"""Idempotency records: which request a key stood for, and what it was answered.

A record is begun before the work and finished with the answer. One that was begun and not finished
within its lease belongs to a request that died; the next with the same key takes it over.
"""

import hashlib

import msgspec

from shared import clock
from shared.aws import Op
from shared.ids import TenantId
from shared.store import keys
from shared.store.dynamo import Expression, Write, delete, from_item, put, setting, to_item, update

KEEP: int = clock.DAY
"""How long a key is remembered."""
LEASE: int = 30 * clock.SECOND
"""Longest a request may run: API Gateway's HTTP limit."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A key's record. `status` is None while the first request runs."""

    fingerprint: str
    """SHA-256 of method, path and body: another request under the same key is refused."""
    owner: str
    """The request that took the key: only it may finish or release it."""
    lease_until: int
    expires_at: int
    status: int | None = None
    body: bytes = b""
    location: str | None = None


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A request that carries a key: which record it may begin."""

    tenant_id: TenantId
    scope: str
    """Method and route, so that one key may serve different requests."""
    key: str
    fingerprint: str
    owner: str
    """A random mark of this one request: a repeat is another owner."""
    now: int

    @property
    def row(self) -> keys.Key:
        hashed = hashlib.sha256(self.key.encode()).hexdigest()
        return keys.idempotency(self.tenant_id, self.scope, hashed)

    def begin(self) -> Write:
        """The write that takes the key, alone or beside the work itself."""
        record = Record(
            fingerprint=self.fingerprint,
            owner=self.owner,
            lease_until=self.now + LEASE,
            expires_at=self.now + KEEP,
        )
        free = Expression(
            "attribute_not_exists(#PK) OR #expires_at <= :now OR "
            "(attribute_not_exists(#status) AND #lease_until <= :now AND #fingerprint = :same) OR "
            # A request sent again because its answer was lost meets its own record.
            "(attribute_not_exists(#status) AND #owner = :owner)",
            {"now": self.now, "same": self.fingerprint, "owner": self.owner},
        )
        item = to_item(record, self.row, ttl=(self.now + KEEP) // clock.SECOND)
        return put(item, free, old=True)


def begin(claim: Claim) -> Op[Record | None]:
    """Take the key: None where it is ours now, the record where it was taken."""
    op = claim.begin().alone()
    return Op(
        op.service,
        op.action,
        op.params,
        lambda _: None,
        lambda refusal: from_item(refusal.item() or {}, Record),
    )


def finish(claim: Claim, status: int, body: bytes, location: str | None) -> Op[bool]:
    """Keep the answer for whoever repeats the request. False where the key has passed on."""
    values: dict[str, object] = {"status": status, "body": body}
    if location is not None:
        values["location"] = location
    return update(claim.row, setting(values), _still(claim)).alone()


def release(claim: Claim) -> Op[bool]:
    """Forget the key: nothing was done, a repeat may run. False where it has passed on."""
    return delete(claim.row, _still(claim)).alone()


def _still(claim: Claim) -> Expression:
    return Expression("#owner = :owner", {"owner": claim.owner})
