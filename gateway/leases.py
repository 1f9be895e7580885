"""Which leases to take, keep and give up: the rule, without a request.

A gateway judges others by what it saw and its own monotonic clock, never by theirs: a lease whose
stamp has not changed for one lease time has lapsed. Of itself it is stricter: a lease it could not
renew is given up at four fifths of that time, counted from before the request, so that its sockets
are closed before anybody may open them again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from shared.ids import WorkerId
from shared.store.leases import Lease

SAFE_SHARE: Final = 0.8
"""Of the lease time: how long a renewal lets a holder act."""
HOST_SHARE: Final = 0.9
"""Of the lease time: how long a renewal lets a host live. Between its holder's end, which asks the
host to stop in order, and the first moment another gateway may take the lease."""
RENEWALS: Final = 3
"""Renewals a lease time."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A lease as it was last seen, and since when (monotonic seconds) its stamp is the same."""

    lease: Lease
    since: float


@dataclass(frozen=True, slots=True)
class Hold:
    """A lease we hold until (monotonic seconds) we must have stopped acting on it."""

    lease: Lease
    until: float

    def good(self, now: float) -> bool:
        return now < self.until


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask of the table now. Each request may be refused: somebody was faster."""

    create: tuple[int, ...] = ()
    """Shards nobody ever held."""
    take: tuple[Lease, ...] = ()
    """Leases that were given back or have lapsed, as they were seen."""
    renew: tuple[Hold, ...] = ()


def deadline(before: float, lease_seconds: float) -> float:
    """Until when a lease may be acted on whose renewal was sent at `before`."""
    return before + SAFE_SHARE * lease_seconds


def saw(
    sightings: Mapping[int, Sighting], leases: Iterable[Lease], now: float
) -> dict[int, Sighting]:
    """What we know after reading the table at `now`: a stamp seen before keeps its time."""
    seen: dict[int, Sighting] = {}
    for lease in leases:
        before = sightings.get(lease.shard)
        same = before is not None and before.lease.stamp == lease.stamp
        seen[lease.shard] = Sighting(lease, before.since if before and same else now)
    return seen


def plan(
    *,
    me: WorkerId,
    shards: int,
    sightings: Mapping[int, Sighting],
    holds: Mapping[int, Hold],
    closing: frozenset[int],
    now: float,
    lease_seconds: float,
) -> Plan:
    """Renew what is ours, take all that is free or lapsed.

    `closing` are shards whose sockets are still being closed after their lease was lost: not to be
    taken until that is done. An even share between gateways belongs here, as a bound on `take` and
    as leases to ask for by `wanted_by`.
    """
    free = [shard for shard in range(shards) if shard not in holds and shard not in closing]
    return Plan(
        create=tuple(shard for shard in free if shard not in sightings),
        take=tuple(
            sightings[shard].lease
            for shard in free
            if shard in sightings and _free(sightings[shard], me, now, lease_seconds)
        ),
        renew=tuple(holds.values()),
    )


def overdue(holds: Mapping[int, Hold], now: float) -> tuple[int, ...]:
    """Shards whose sockets must be closed now: their lease was not renewed in time."""
    return tuple(shard for shard, hold in holds.items() if not hold.good(now))


def _free(seen: Sighting, me: WorkerId, now: float, lease_seconds: float) -> bool:
    # Ours by the table and not by us: the answer that gave it to us was lost, or we gave it up.
    ours = seen.lease.owner == me
    return ours or seen.lease.owner is None or now - seen.since >= lease_seconds
