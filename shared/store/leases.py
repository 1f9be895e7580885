"""Shard leases: who holds a shard, under which fencing token, and which gateways there are.

A gateway vouches for all its leases at once, by a new `stamp` on its own row. Others judge a lease
by their own clock: where neither its stamp nor its owner's has changed for one lease time, it may
be taken, and taking it raises the epoch.
"""

import msgspec

from shared.aws import Op, Response
from shared.ids import WorkerId
from shared.store import keys
from shared.store.dynamo import (
    ABSENT,
    Expression,
    Page,
    Range,
    delete,
    get,
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
    moves: int = 0
    """Leases it has written: where that has grown, others read them anew."""
    good_until: int = 0
    """Until when its leases are good by its wall clock (ms), for those who only look; other
    gateways trust their own clocks."""


def workers(partition: str, rows: Range) -> Op[Page[Worker]]:
    """The gateways whose rows lie in one of `keys.beats_partitions`."""
    beats = query(partition, _Beat, rows)
    return Op(
        beats.service,
        beats.action,
        beats.params,
        lambda response: _workers(beats.decode(response)),
    )


def worker(worker_id: WorkerId) -> Op[Worker | None]:
    """A gateway, if it is there."""
    beat = get(keys.worker(worker_id), _Beat)

    def decode(response: Response) -> Worker | None:
        row = beat.decode(response)
        return None if row is None else _worker(row)

    return Op(beat.service, beat.action, beat.params, decode)


def every(partition: str, rows: Range) -> Op[Page[Lease]]:
    """The leases of a `keys.leases_partition`."""
    return query(partition, Lease, rows)


def read(shard: int) -> Op[Lease | None]:
    return get(keys.lease(shard), Lease)


def vouch(worker: Worker) -> Op[bool]:
    """Renew all leases of a gateway, or announce that it is there."""
    beat = _Beat(
        SK=worker.worker,
        stamp=worker.stamp,
        leaving=worker.leaving,
        moves=worker.moves,
        good_until=worker.good_until,
    )
    return put(to_item(beat, keys.worker(worker.worker))).alone()


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


class _Beat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A gateway's row, as short as can be."""

    SK: WorkerId
    stamp: str
    leaving: bool = False
    moves: int = 0
    good_until: int = 0


def _workers(page: Page[_Beat]) -> Page[Worker]:
    rows = tuple(_worker(row) for row in page.rows)
    return Page(rows, page.next)


def _worker(row: _Beat) -> Worker:
    return Worker(
        worker=row.SK,
        stamp=row.stamp,
        leaving=row.leaving,
        moves=row.moves,
        good_until=row.good_until,
    )
