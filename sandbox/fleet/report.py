"""What a simulated day says: requests a session, the hottest key, time to balance, the bill."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.due import SWEEP_SECONDS
from gateway.recovery import LOOK_SECONDS
from gateway.supervisor import STARTS_AT_ONCE
from sandbox.bench.samples import Result, Row, Target
from sandbox.fleet.bill import (
    GATEWAY_VCPU,
    HOST_MIB,
    RESTART,
    SENT_EVENTS,
    Bill,
    Traffic,
    bill,
    of_traffic,
)
from sandbox.fleet.day import DAY, Day, Outcome
from sandbox.fleet.meter import READ_UNIT, load
from shared.queue import LONGEST_POLL
from shared.store.deliveries import DUE_SHARDS

SESSION_BYTES: Final = 600
"""A session's row in the index that a shard's new holder reads: half a unit for 4 KB."""
GATEWAY_GB: Final = 8
"""For the sessions of a gateway after a third of all were lost at once."""


@dataclass(frozen=True)
class Account:
    """A day's requests and units, by what they are for."""

    requests: dict[str, float]
    reads: dict[str, float]
    writes: dict[str, float]
    queued: float
    """Requests to queues."""


def account(day: Day, sessions: int, traffic: Traffic, *, seconds: float = DAY) -> Account:
    """All that the fleet asks in such a day."""
    fleet, days = day.fleet, seconds / DAY
    each, shards = of_traffic(traffic), len(fleet.table.leases)
    on_shard, moves = sessions / shards, fleet.table.moves
    polls = (shards + day.size) * seconds / LONGEST_POLL + traffic.sent * sessions * days
    looks = day.size * seconds * (DUE_SHARDS / SWEEP_SECONDS + 1 / LOOK_SECONDS)
    begun = moves * on_shard
    nudges = 3 * fleet.left
    asked = sum(each.requests.values()) * sessions * days
    to_queues = 2 * traffic.sent * sessions * days  # each is sent to its queue, and deleted from it
    restarts = sum(RESTART.requests.values()) * begun
    return Account(
        {
            "messages, events, webhooks": asked,
            "long polls": polls,
            "looks for what is due": looks,
            "leases": float(sum(fleet.meter.requests.values())),
            "sessions that move": restarts + moves + nudges,
        },
        {
            "messages, events, webhooks": each.reads * sessions * days,
            "looks for what is due": looks / 2,
            "leases": fleet.meter.reads,
            "sessions that move": RESTART.reads * begun
            + moves * max(0.5, on_shard * SESSION_BYTES / READ_UNIT / 2),
        },
        {
            "messages, events, webhooks": each.writes * sessions * days,
            "leases": fleet.meter.writes,
            "sessions that move": RESTART.writes * begun,
        },
        polls + nudges + to_queues,
    )


def hottest(day: Day, sessions: int, traffic: Traffic) -> dict[str, tuple[float, float]]:
    """The busiest second of each kind of key: read and write units."""
    peaks: dict[str, tuple[float, float]] = {}
    for key, (reads, writes) in day.fleet.meter.peaks().items():
        kind = key.partition("#")[0]
        before = peaks.get(kind, (0.0, 0.0))
        peaks[kind] = max(before[0], reads), max(before[1], writes)
    events = (traffic.sent * SENT_EVENTS + traffic.received) * sessions / DAY
    peaks["DUE"] = (day.size / SWEEP_SECONDS / 2, 2 * events / DUE_SHARDS)
    peaks["DUE#recoveries"] = (day.size / LOOK_SECONDS / 2, 0.0)
    return peaks


def result(day: Day, sessions: int, *, seconds: float = DAY) -> Result:
    """The table."""
    traffic = Traffic()
    told = account(day, sessions, traffic, seconds=seconds)
    days = seconds / DAY
    costs = bill(
        reads=sum(told.reads.values()) / days,
        writes=sum(told.writes.values()) / days,
        queued=told.queued / days,
        gateways=day.size,
        gateway_gb=GATEWAY_GB,
    )
    on_shard = sessions / len(day.fleet.table.leases)
    rows = [
        Row(name="requests a session a day", unit="", ours=(_a_day(told.requests, sessions, days),))
    ]
    rows += [
        Row(name=f"... {what}", unit="", ours=(count / sessions / days,))
        for what, count in told.requests.items()
    ]
    rows += [
        Row(
            name=f"{key}, busiest second, of what a partition bears",
            unit="%",
            ours=(100 * load(*peak),),
            target=Target(100, of="value"),
        )
        for key, peak in hottest(day, sessions, traffic).items()
    ]
    rows += _events(day, on_shard)
    rows += _costs(costs, told, sessions, days)
    return Result(rows=tuple(rows), notes=_notes(day, sessions, traffic, costs), samples={})


def _a_day(parts: dict[str, float], sessions: int, days: float) -> float:
    return sum(parts.values()) / sessions / days


def _events(day: Day, on_shard: float) -> list[Row]:
    rows: list[Row] = []
    for kind in dict.fromkeys(each.kind for each in day.outcomes):
        seen = [each for each in day.outcomes if each.kind == kind]
        name = f"{kind} ({len(seen)})"
        held = _times(seen, lambda each: each.held)
        if held and max(held) > 0:
            rows.append(
                Row(
                    name=f"{name}: all held again, lease times",
                    unit="",
                    ours=held,
                    target=Target(1.5, of="value"),
                )
            )
        even = _times(seen, lambda each: each.even)
        if even:
            rows.append(Row(name=f"{name}: even, lease times", unit="", ours=even))
        gaps = tuple(each.gap for each in seen)
        rows.append(
            Row(name=f"{name}: longest between giving back and taking", unit="s", ours=gaps)
        )
        moved = tuple(each.moved * on_shard for each in seen)
        rows.append(Row(name=f"{name}: sessions moved", unit="", ours=moved))
    most = max((each.most_won for each in day.outcomes), default=0) * on_shard
    rows.append(Row(name="most sessions a gateway has to start in a second", unit="", ours=(most,)))
    return rows


def _times(seen: list[Outcome], of: Callable[[Outcome], float | None]) -> tuple[float, ...]:
    return tuple(value for each in seen if (value := of(each)) is not None)


def _costs(costs: Bill, told: Account, sessions: int, days: float) -> list[Row]:
    parts = {
        "DynamoDB writes": costs.writes,
        "DynamoDB reads": costs.reads,
        "SQS": costs.queues,
        "Fargate vCPU": costs.cpu,
        "Fargate memory": costs.memory,
        "in all": costs.total,
    }
    rows = [Row(name=f"{name}, a month", unit="USD", ours=(usd,)) for name, usd in parts.items()]
    own = bill(
        reads=told.reads["leases"] / days,
        writes=told.writes["leases"] / days,
        queued=0,
        gateways=0,
        gateway_gb=0,
    )
    rows.append(Row(name="... of it the leases", unit="USD", ours=(own.total,)))
    rows.append(Row(name="a session, a month", unit="USD", ours=(costs.total / sessions,)))
    return rows


def _notes(day: Day, sessions: int, traffic: Traffic, costs: Bill) -> tuple[str, ...]:
    unfinished = [each.kind for each in day.outcomes if each.held is None or each.even is None]
    fleet, each = day.fleet, sessions / day.size
    size = (
        f"simulated: {sessions} sessions, {day.size} gateways, {len(fleet.table.leases)} shards, "
        f"lease time {fleet.ttl:g} s, shares evened out {fleet.patience:g} s after the last "
        f"gateway came or went; {fleet.table.moves} shards moved"
    )
    asked = (
        f"a session sends {traffic.sent} and receives {traffic.received} a day, each event is "
        "posted to one webhook; requests as counted on the wire, units by DynamoDB's rules"
    )
    prices = (
        f"us-east-1, list prices, November 2026; {day.size} tasks of {GATEWAY_VCPU} vCPU (ARM) and "
        f"{GATEWAY_GB} GB: {each:.0f} sessions of {HOST_MIB} MiB, and room for those of a lost "
        f"zone; {costs.total / sessions * 100:.1f} cents a session. Not in it: Lambda and HTTP "
        "API, storage, EFS, logs, alarms, traffic out"
    )
    return (
        size,
        asked,
        prices,
        f"a gateway starts {STARTS_AT_ONCE} sessions at a time, whatever it wins at once",
        "every event came to its end" if not unfinished else f"without an end: {unfinished}",
    )
