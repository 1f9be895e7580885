"""A simulated fleet: its shortcuts change nothing, and its bill adds up."""

import pytest

from sandbox.bench.samples import MISSED
from sandbox.fleet.bill import RESTART, Traffic, bill, of_traffic
from sandbox.fleet.day import DAY, Day, simulate
from sandbox.fleet.meter import Meter, load, units
from sandbox.fleet.report import result

KINDS = ("crash", "freeze", "deploy", "zone lost", "scale-in", "scale-out")
SECONDS = 3_600.0


def day(*, exact: bool) -> Day:
    return simulate(gateways=10, shards=40, kinds=KINDS, seconds=SECONDS, exact=exact)


@pytest.fixture(scope="module")
def quick() -> Day:
    return day(exact=False)


def test_what_is_spared_changes_nothing(quick: Day) -> None:
    """Every turn of every gateway thought through comes to the same: moves, times, requests."""
    exact = day(exact=True)
    assert quick.fleet.table.moves == pytest.approx(exact.fleet.table.moves, rel=0.05)
    for ours, true in zip(quick.outcomes, exact.outcomes, strict=True):
        assert ours.kind == true.kind
        assert (ours.held, ours.even) == pytest.approx((true.held, true.even), abs=0.6)
    requests = quick.fleet.meter.requests
    assert sum(requests.values()) == pytest.approx(exact.fleet.meter.requests.total(), rel=0.02)
    for kind in ("PutItem beat", "Query beats", "Query leases", "UpdateItem lease"):
        assert requests[kind] == pytest.approx(exact.fleet.meter.requests[kind], rel=0.1), kind


def test_every_shard_is_soon_back_and_a_deploy_moves_each_once(quick: Day) -> None:
    """Whatever happens, within one and a half lease times; and no shard is moved in vain."""
    for outcome in quick.outcomes:
        assert outcome.held is not None
        assert outcome.held <= 1.5
        assert outcome.even is not None
    (deploy,) = [each for each in quick.outcomes if each.kind == "deploy"]
    assert deploy.moved <= 40 * 1.1


def test_the_table_says_what_it_costs(quick: Day) -> None:
    """A line for each kind of request, key, event and cost; nothing is beyond its limit."""
    table = result(quick, 2_000, seconds=SECONDS)
    rows = {row.name: row for row in table.rows}
    assert not [row.name for row in table.rows if row.verdict == MISSED]
    parts = sum(
        row.ours[0] for name, row in rows.items() if name.startswith("... ") and not row.unit
    )
    assert rows["requests a session a day"].ours[0] == pytest.approx(parts)
    costs = [rows[f"{each}, a month"].ours[0] for each in ("SQS", "Fargate vCPU", "in all")]
    assert 0 < costs[0] < costs[1] < costs[2]
    assert "every event came to its end" in table.notes


def test_a_bill_is_units_times_prices() -> None:
    """A million writes a day, two of reads, one of queues; and ten gateways."""
    costs = bill(reads=2e6, writes=1e6, queued=1e6, gateways=10, gateway_gb=8)
    assert costs.writes == pytest.approx(30.4 * 0.625)
    assert costs.reads == pytest.approx(2 * 30.4 * 0.125)
    assert costs.queues == pytest.approx(30.4 * 0.5)
    assert costs.cpu == pytest.approx(10 * 730 * 0.03238)
    assert costs.memory == pytest.approx(10 * 8 * 730 * 0.00356)
    assert costs.total == pytest.approx(
        costs.writes + costs.reads + costs.queues + costs.cpu + costs.memory
    )


def test_traffic_is_priced_by_the_message() -> None:
    """Twice the messages, twice the requests; a restart is two events."""
    once, twice = of_traffic(Traffic(1, 1)), of_traffic(Traffic(2, 2))
    assert twice.writes == 2 * once.writes
    assert sum(twice.requests.values()) == 2 * sum(once.requests.values())
    assert RESTART.requests["TransactWriteItems event"] == 2


def test_a_key_is_as_hot_as_its_busiest_second() -> None:
    """Units of one second add up; a quiet stretch counts as what it asks a second."""
    meter = Meter()
    for at in (5.1, 5.2, 6.0):
        meter.read("Query", "A", 10, at)
    meter.write("PutItem", "A", 5.9)
    meter.quiet("Query", "B", often=4, seconds=100, cost=2)
    assert meter.peaks() == {"A": (20, 1), "B": (8, 0)}
    assert (meter.reads, meter.writes) == (830, 1)
    assert load(1_500, 100) == 0.5
    assert (units(0), units(4_096), units(4_097)) == (1, 1, 2)


def test_the_day_of_a_fleet_is_a_day() -> None:
    """What is multiplied is what was not stepped: a quiet day is turns and seldom reads."""
    quiet = simulate(gateways=4, shards=8, kinds=(), seconds=DAY)
    turns = 4 * DAY / quiet.fleet.turn
    assert quiet.fleet.meter.requests["PutItem beat"] == pytest.approx(turns, rel=0.01)
    assert quiet.fleet.table.moves == 0
