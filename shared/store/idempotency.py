"""Idempotency records: which request a key stood for, and what it was answered.

A record is begun before the work and finished with the answer. One that was begun and not finished
within its lease belongs to a request that died; the next with the same key takes it over. Where the
record names what was made, the next goes on with that and never begins afresh.
"""

import hashlib

import msgspec

from shared import clock
from shared.aws import Op, Response
from shared.ids import TenantId
from shared.store import keys
from shared.store.dynamo import (
    Expression,
    Write,
    delete,
    from_item,
    get,
    put,
    setting,
    to_item,
    update,
)

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
    resource: str | None = None
    """The id of what was stored with the key, while it is not known to have been ordered."""


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

    def begin(self, resource: str | None = None) -> Write:
        """The write that takes the key, alone or beside the work itself: the storing of `resource`.

        A record that names a resource is not taken by it: `resumes` says what it is good for.
        """
        record = Record(
            fingerprint=self.fingerprint,
            owner=self.owner,
            lease_until=self.now + LEASE,
            expires_at=self.now + KEEP,
            resource=resource,
        )
        free = Expression(
            "attribute_not_exists(#PK) OR #expires_at <= :now OR "
            "(attribute_not_exists(#status) AND attribute_not_exists(#resource)"
            " AND #lease_until <= :now AND #fingerprint = :same) OR "
            # A request sent again because its answer was lost meets its own record.
            "(attribute_not_exists(#status) AND #owner = :owner)",
            {"now": self.now, "same": self.fingerprint, "owner": self.owner},
        )
        item = to_item(record, self.row, ttl=(self.now + KEEP) // clock.SECOND)
        return put(item, free, old=True)

    def resumes(self, record: Record) -> bool:
        """Whether this request is to go on where the one of the record ended."""
        return (
            record.status is None
            and record.resource is not None
            and record.lease_until <= self.now < record.expires_at
            and record.fingerprint == self.fingerprint
        )

    def withdraw(self) -> Write:
        """The write that forgets the key beside what was stored with it, if both are still ours."""
        ours = Expression("attribute_not_exists(#PK) OR #owner = :owner", {"owner": self.owner})
        return delete(self.row, ours)


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


def read(claim: Claim) -> Op[Record | None]:
    """The key's record, if it stands for a request of before."""
    op = get(claim.row, Record)

    def current(response: Response) -> Record | None:
        record = op.decode(response)
        return None if record is None or record.expires_at <= claim.now else record

    return Op(op.service, op.action, op.params, current)


def resume(claim: Claim, seen: Record) -> Op[bool]:
    """Take over an unfinished record as it was `seen`. False where another has."""
    values = {"owner": claim.owner, "lease_until": claim.now + LEASE}
    as_seen = Expression(
        "#owner = :seen AND #lease_until = :lapsed AND attribute_not_exists(#status)",
        {"seen": seen.owner, "lapsed": seen.lease_until},
    )
    return update(claim.row, setting(values), as_seen).alone()


def abandon(claim: Claim) -> Op[bool]:
    """End the lease and leave the record unfinished: the next request may resume it at once."""
    return update(claim.row, setting({"lease_until": 0}), _still(claim)).alone()


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
