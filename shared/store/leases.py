"""Shard leases: who holds a shard, under which fencing token, and which gateways there are.

A gateway vouches for all its leases at once, by a new `stamp` on its own row. Others judge a lease
by their own clock: where neither its stamp nor its owner's has changed for one lease time, it may
be taken, and taking it raises the epoch.
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
    delete,
    put,
    query,
    setting,
    to_item,
    update,
)


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """A shard's lease as stored. An `owner` of None was given back."""

    shard: int
    epoch: int
    """Fencing token: grows by one each time the lease changes hands. 0 was never held."""
    stamp: str
    """Random, new with every change of hands."""
    owner: WorkerId | None = None
    wanted_by: WorkerId | None = None
    """Who asked its owner for it; once it is given back, whom it is kept for."""


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway that is there."""

    worker: WorkerId
    stamp: str
    """Random, new several times a lease time."""
    leaving: bool = False
    """It takes no shard any more and will give back what it has."""
    good_until: int = 0
    """Until when its leases are good by its wall clock (ms), for those who only look; other
    gateways trust their own clocks."""


def every(rows: Range) -> Op[Page[Lease | Worker]]:
    """Leases and gateways, which lie together so that one request reads both."""
    rows_of = query(keys.LEASES, _Row, rows)
    return Op(
        rows_of.service,
        rows_of.action,
        rows_of.params,
        lambda response: _sorted(rows_of.decode(response)),
    )


def vouch(worker: Worker) -> Op[bool]:
    """Renew all leases of a gateway, or announce that it is there."""
    return put(to_item(worker, keys.worker(worker.worker))).alone()


def bury(seen: Worker) -> Op[bool]:
    """Take the row of a gateway away, as it was seen."""
    unmoved = Expression("#stamp = :seen_stamp", {"seen_stamp": seen.stamp})
    return delete(keys.worker(seen.worker), unmoved).alone()


def create(shard: int, owner: WorkerId, stamp: str) -> Op[bool]:
    """Take a shard that was never held. False where somebody was faster."""
    lease = Lease(shard=shard, epoch=1, stamp=stamp, owner=owner)
    return put(to_item(lease, keys.lease(shard)), ABSENT).alone()


def take(seen: Lease, owner: WorkerId, stamp: str) -> Op[bool]:
    """Take over a lease that is free or lapsed, as it was seen. False where it moved since.

    Its owner's row is not asked: a word that comes after the lease lapsed does not count.
    """
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


def ask(seen: Lease, asker: WorkerId | None) -> Op[bool]:
    """Ask the owner for a lease, or (None) for it no more. False where it moved since."""
    same = "#wanted_by = :seen_by" if seen.wanted_by else "attribute_not_exists(#wanted_by)"
    unmoved = Expression(
        f"#owner = :seen_owner AND #epoch = :seen_epoch AND {same}",
        {"seen_owner": seen.owner, "seen_epoch": seen.epoch}
        | ({"seen_by": seen.wanted_by} if seen.wanted_by else {}),
    )
    return update(keys.lease(seen.shard), setting({"wanted_by": asker}), unmoved).alone()


def resign(held: Lease, stamp: str, heir: WorkerId | None = None) -> Op[bool]:
    """Give a lease back, so that the next owner need not wait for it to lapse.

    It is kept for `heir` for a while. False where it was taken.
    """
    values: dict[str, object] = {"owner": None, "stamp": stamp, "wanted_by": heir}
    still = Expression(
        "#owner = :held_owner AND #epoch = :held_epoch",
        {"held_owner": held.owner, "held_epoch": held.epoch},
    )
    return update(keys.lease(held.shard), setting(values), still).alone()


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the partition: a lease, or a gateway if it names one."""

    stamp: str
    shard: int = 0
    epoch: int = 0
    owner: WorkerId | None = None
    wanted_by: WorkerId | None = None
    worker: WorkerId | None = None
    leaving: bool = False
    good_until: int = 0


def _sorted(page: Page[_Row]) -> Page[Lease | Worker]:
    return Page(tuple(_either(row) for row in page.rows), page.next)


def _either(row: _Row) -> Lease | Worker:
    if row.worker is not None:
        return Worker(
            worker=row.worker,
            stamp=row.stamp,
            leaving=row.leaving,
            good_until=row.good_until,
        )
    return Lease(
        shard=row.shard,
        epoch=row.epoch,
        stamp=row.stamp,
        owner=row.owner,
        wanted_by=row.wanted_by,
    )
