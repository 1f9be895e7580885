"""What noisy and slow tenants do to quiet ones, by a simulated clock: nothing here waits."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush

import pytest

from gateway.fairness import Lane, Limits, Load, Slot, Turns
from shared.ids import EndpointId, TenantId

SECONDS = 90.0


@dataclass(frozen=True)
class Crowd:
    """Tenants of one kind."""

    name: str
    tenants: int
    endpoints: int
    rate: float
    """Events a second of each tenant, at moments of chance."""
    takes: tuple[float, float]
    """Seconds an attempt takes, from and to."""
    load: Load = Load.FINE
    lane: Lane = Lane.FIRST
    begins: float = 0.0


@dataclass
class Job:
    crowd: Crowd
    came: float


@dataclass
class Seen:
    """What became of one kind of tenants."""

    waits: list[float] = field(default_factory=list[float])
    sidelined: int = 0

    def percentile(self, share: float) -> float:
        return sorted(self.waits)[round(share * (len(self.waits) - 1))]


QUIET = Crowd("quiet", tenants=20, endpoints=1, rate=1.0, takes=(0.02, 0.3))
NOISY = Crowd("noisy", tenants=1, endpoints=10, rate=100 * QUIET.rate, takes=(0.02, 0.3))
SLOW = Crowd("slow", tenants=1, endpoints=50, rate=50.0, takes=(15.0, 15.0))


def arrivals(crowd: Crowd, chance: random.Random) -> Iterator[tuple[float, TenantId, EndpointId]]:
    for number in range(crowd.tenants):
        tenant = TenantId(f"{crowd.name}{number}")
        moment = crowd.begins + chance.expovariate(crowd.rate)
        while moment < SECONDS:
            yield moment, tenant, EndpointId(f"e{chance.randrange(crowd.endpoints)}")
            moment += chance.expovariate(crowd.rate)


def simulate(*crowds: Crowd) -> dict[str, Seen]:
    """Each crowd's waits for a slot, over `SECONDS`."""
    seen = {crowd.name: Seen() for crowd in crowds}
    turns: Turns[Job] = Turns(Limits())
    events: list[tuple[float, int, tuple[Crowd, TenantId, EndpointId] | Slot[Job]]] = []
    for crowd in crowds:
        # Of its own, so that the quiet ones' day is the same whoever else is there.
        chance = random.Random(crowd.name)
        for moment, tenant, endpoint in arrivals(crowd, chance):
            events.append((moment, len(events), (crowd, tenant, endpoint)))
    heapify(events)
    number = len(events)
    chance = random.Random(0)
    while events:
        now, _, event = heappop(events)
        if isinstance(event, Slot):
            turns.done(event, event.job.crowd.load, now - event.job.came)
        else:
            crowd, tenant, endpoint = event
            if not turns.room(tenant, endpoint, crowd.lane):
                seen[crowd.name].sidelined += 1
                continue
            turns.add(tenant, endpoint, Job(crowd, now), crowd.lane)
        while (slot := turns.take()) is not None:
            seen[slot.job.crowd.name].waits.append(now - slot.job.came)
            # From here on it is the attempt's beginning that counts.
            slot.job.came = now
            number += 1
            heappush(events, (now + chance.uniform(*slot.job.crowd.takes), number, slot))
    return seen


def slow(tenants: int, rate: float, begins: float = 0.0, load: Load = Load.FINE) -> Crowd:
    return replace(SLOW, tenants=tenants, rate=rate, begins=begins, load=load)


@pytest.mark.parametrize(
    "others",
    [
        pytest.param((NOISY, SLOW), id="a noisy and a slow tenant"),
        pytest.param((NOISY, slow(1, 50.0, load=Load.TOO_MUCH)), id="one that times out"),
        pytest.param((replace(NOISY, takes=(0.5, 1.9)), SLOW), id="a noisy one, not so quick"),
        pytest.param((NOISY, slow(10, 10.0)), id="ten slow tenants"),
        pytest.param((NOISY, slow(40, 5.0)), id="forty slow tenants"),
        pytest.param((NOISY, slow(300, 0.5, begins=20.0)), id="more slow tenants than slots"),
        pytest.param(
            (
                replace(SLOW, name="retries", tenants=40, rate=5.0, lane=Lane.RETRY),
                replace(NOISY, name="replays", rate=200.0, lane=Lane.REPLAY),
            ),
            id="retries and replays",
        ),
    ],
)
def test_quiet_tenants_do_not_notice_the_others(others: tuple[Crowd, ...]) -> None:
    """Their waits stay as short as alone, none of them lasts a second, and nothing is put off."""
    quiet, alone = simulate(QUIET, *others)["quiet"], simulate(QUIET)["quiet"]
    assert quiet.percentile(0.99) <= max(2 * alone.percentile(0.99), 0.05)
    assert max(quiet.waits) < 1.0
    assert quiet.sidelined == 0
    assert len(quiet.waits) == len(alone.waits)


def test_tenants_who_come_later_do_not_notice_the_others_either() -> None:
    """Nothing is known of their endpoints when all the slow ones are at work."""
    late = replace(QUIET, begins=30.0)
    quiet = simulate(late, NOISY, slow(40, 5.0))["quiet"]
    assert max(quiet.waits) < 1.0
    assert quiet.sidelined == 0


def test_slow_tenants_have_what_is_theirs() -> None:
    """Keeping the others quick costs the slow ones slots, not their share: all get the same."""
    seen = simulate(QUIET, *(replace(SLOW, name=name, rate=10.0) for name in ("a", "b", "c")))
    attempts = [len(seen[name].waits) for name in ("a", "b", "c")]
    assert max(attempts) < 1.1 * min(attempts)
    assert sum(attempts) >= 0.7 * 128 * SECONDS / 15
