"""Shard leases: who holds a shard, under which fencing token.

A holder writes a new `stamp` with every renewal. Others judge it by their own clock: a lease whose
stamp has not changed for one lease time may be taken, and taking it raises the epoch.
"""

import msgspec

from shared.aws import Op
from shared.ids import WorkerId
from shared.store import keys
from shared.store.dynamo import (
    ABSENT,
    Expression,
    Page,
    Range,
    put,
    query,
    setting,
    to_item,
    update,
)


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """A shard's lease as stored. An `owner` of None was given back on the way out."""

    shard: int
    epoch: int
    """Fencing token: grows by one each time the lease changes hands."""
    stamp: str
    """Random, new with every renewal."""
    owner: WorkerId | None = None
    wanted_by: WorkerId | None = None


def every(rows: Range) -> Op[Page[Lease]]:
    return query(keys.LEASES, Lease, rows)


def create(shard: int, owner: WorkerId, stamp: str) -> Op[bool]:
    """Take a shard that was never held. False where somebody was faster."""
    lease = Lease(shard=shard, epoch=1, stamp=stamp, owner=owner)
    return put(to_item(lease, keys.lease(shard)), ABSENT).alone()


def take(seen: Lease, owner: WorkerId, stamp: str) -> Op[bool]:
    """Take over a lease that is free or lapsed, as it was seen. False where it moved since."""
    values: dict[str, object] = {
        "owner": owner,
        "stamp": stamp,
        "epoch": seen.epoch + 1,
        "wanted_by": None,
    }
    unmoved = Expression(
        "#stamp = :seen_stamp AND #epoch = :seen_epoch",
        {"seen_stamp": seen.stamp, "seen_epoch": seen.epoch},
    )
    return update(keys.lease(seen.shard), setting(values), unmoved).alone()


def renew(held: Lease, stamp: str) -> Op[bool]:
    """Keep a lease. False where it was taken."""
    return update(keys.lease(held.shard), setting({"stamp": stamp}), _still(held)).alone()


def resign(held: Lease, stamp: str) -> Op[bool]:
    """Give a lease back, so that the next owner need not wait for it to lapse."""
    values: dict[str, object] = {"owner": None, "stamp": stamp}
    return update(keys.lease(held.shard), setting(values), _still(held)).alone()


def _still(held: Lease) -> Expression:
    return Expression(
        "#owner = :held_owner AND #epoch = :held_epoch",
        {"held_owner": held.owner, "held_epoch": held.epoch},
    )
