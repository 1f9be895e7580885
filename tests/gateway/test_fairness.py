"""Turns between lanes, tenants and endpoints, by examples, by a model and by a simulated clock."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.delivery import Answer, Fault, Result
from gateway.fairness import SLOW, START, Lane, Limits, Load, Slot, Turns, load_of
from shared.ids import EndpointId, TenantId

QUIET, NOISY = TenantId("quiet"), TenantId("noisy")
EP, OTHER = EndpointId("ep"), EndpointId("other")


def taken(turns: Turns[str], most: int = 1_000) -> list[Slot[str]]:
    """All that can be taken now."""
    slots: list[Slot[str]] = []
    while len(slots) < most and (slot := turns.take()) is not None:
        slots.append(slot)
    return slots


def once(
    turns: Turns[str],
    tenant: TenantId,
    endpoint: EndpointId,
    *,
    load: Load = Load.NEUTRAL,
    seconds: float | None = 0.1,
) -> Slot[str]:
    """One attempt, while nobody else's is waiting."""
    turns.add(tenant, endpoint, "once", Lane.FIRST)
    slot = turns.take()
    assert slot
    assert (slot.tenant_id, slot.endpoint_id) == (tenant, endpoint)
    turns.done(slot, load, seconds)
    return slot


def endpoints(turns: Turns[str], tenant: TenantId, count: int, seconds: float) -> list[EndpointId]:
    """Endpoints that are known to take so long."""
    named = [EndpointId(f"{seconds}-{number}") for number in range(count)]
    for endpoint in named:
        once(turns, tenant, endpoint, seconds=seconds)
    return named


def fill(
    turns: Turns[str], tenant: TenantId, named: list[EndpointId], lane: Lane = Lane.FIRST
) -> None:
    """More than the tenant may hold."""
    for endpoint in named:
        for _ in range(4):
            turns.add(tenant, endpoint, lane.value, lane)


def round_of(turns: Turns[str], load: Load) -> int:
    """As many attempts at a time as the endpoint is trusted with; the limit after them."""
    most = turns.limit(QUIET, EP)
    for _ in range(most + 1):
        turns.add(QUIET, EP, "job", Lane.FIRST)
    slots = taken(turns)
    assert len(slots) == most
    turns.withdraw()
    for slot in slots:
        turns.done(slot, load, 0.1)
    return turns.limit(QUIET, EP)


def test_a_noisy_tenant_does_not_keep_a_quiet_one_waiting() -> None:
    """With a hundred deliveries waiting, another tenant's only one is next."""
    turns: Turns[str] = Turns(Limits())
    for _ in range(100):
        turns.add(NOISY, EP, "noise", Lane.FIRST)
    taken(turns, 1)
    turns.add(QUIET, EP, "quiet", Lane.FIRST)
    assert [slot.job for slot in taken(turns, 2)] == ["quiet", "noise"]


def test_a_slow_endpoint_does_not_keep_its_tenants_others_waiting() -> None:
    """An endpoint whose slots are all taken is passed over."""
    turns: Turns[str] = Turns(Limits(endpoint_slots=2))
    for _ in range(4):
        turns.add(QUIET, EP, "slow", Lane.FIRST)
    turns.add(QUIET, OTHER, "quick", Lane.FIRST)
    assert [slot.job for slot in taken(turns)] == ["slow", "quick", "slow"]


@pytest.mark.parametrize(("seconds", "slots", "reserve"), [(0.1, 256, 8), (15.0, 128, 4)])
@pytest.mark.parametrize("tenants", [1, 2, 3, 10, 40])
def test_nobody_holds_more_than_is_left_free(
    tenants: int, seconds: float, slots: int, reserve: int
) -> None:
    """Slots that cannot be taken back are free beforehand, for who comes next."""
    turns: Turns[str] = Turns(Limits())
    named = {
        tenant: endpoints(turns, tenant, 50, seconds)
        for tenant in (TenantId(f"t{number}") for number in range(tenants))
    }
    for tenant, its in named.items():
        fill(turns, tenant, its)
    held = Counter(slot.tenant_id for slot in taken(turns))
    assert max(held.values()) - min(held.values()) <= 1
    assert abs(slots - turns.sending - reserve - max(held.values())) <= 1
    turns.add(QUIET, EP, "quiet", Lane.FIRST)
    slot = turns.take()
    assert slot
    assert slot.tenant_id == QUIET


def test_the_last_slots_are_for_tenants_who_hold_none() -> None:
    """Tenants who come one after the other, each taking all it may, leave some all the same."""
    turns: Turns[str] = Turns(Limits())
    names = [TenantId(f"t{number}") for number in range(7)]
    named = {tenant: endpoints(turns, tenant, 50, 0.1) for tenant in names}
    for tenant in names:
        fill(turns, tenant, named[tenant])
        taken(turns)
    left = 256 - turns.sending
    assert 8 <= left <= 10
    for number in range(left):
        for _ in range(2):
            turns.add(TenantId(f"new{number}"), EP, "new", Lane.FIRST)
    assert len({slot.tenant_id for slot in taken(turns)}) == left
    assert turns.take() is None


def test_lanes_take_weighted_turns() -> None:
    """Of twelve turns eight are first attempts', three retries', one replays'."""
    turns: Turns[str] = Turns(Limits())
    for number in range(12):
        for lane in Lane:
            turns.add(TenantId(f"t{number}"), EP, lane.value, lane)
    assert Counter(slot.lane for slot in taken(turns, 12)) == {
        Lane.FIRST: 8,
        Lane.RETRY: 3,
        Lane.REPLAY: 1,
    }


@pytest.mark.parametrize(("lane", "most"), [(Lane.RETRY, 128), (Lane.REPLAY, 32)])
def test_retries_and_replays_leave_slots_to_first_attempts(lane: Lane, most: int) -> None:
    """However much waits to be tried again, it has its part of the slots and no more."""
    turns: Turns[str] = Turns(Limits())
    names = [TenantId(f"t{number}") for number in range(100)]
    named = {tenant: endpoints(turns, tenant, 2, 0.1) for tenant in names}
    for tenant in names:
        fill(turns, tenant, named[tenant], lane)
    assert len(taken(turns)) == most
    fill(turns, QUIET, [EP])
    assert len(taken(turns)) == START


def test_a_lane_that_is_alone_takes_every_turn() -> None:
    """Turns are not kept for a lane in which nothing waits."""
    turns: Turns[str] = Turns(Limits(slots=64))
    for number in range(20):
        turns.add(TenantId(f"t{number}"), EP, "again", Lane.RETRY)
    assert len(taken(turns)) == 20


@pytest.mark.parametrize(("lane", "room"), [(Lane.FIRST, 64), (Lane.RETRY, 32), (Lane.REPLAY, 8)])
@pytest.mark.parametrize(
    "limits", [Limits(room=64), Limits(tenant_room=64), Limits(endpoint_room=64)]
)
def test_each_lane_has_its_part_of_the_room(limits: Limits, lane: Lane, room: int) -> None:
    """What is tried again does not fill the memory that fresh events need."""
    turns: Turns[str] = Turns(limits)
    waiting = 0
    while True:
        # Where the whole room is small, a tenant finds less of it.
        tenant = TenantId(f"t{waiting}") if limits.room == 64 else QUIET
        if not turns.room(tenant, EP, lane):
            break
        turns.add(tenant, EP, "job", lane)
        waiting += 1
    assert waiting == room
    assert turns.room(TenantId("t0"), EP, Lane.FIRST) is (waiting < limits.room)


@pytest.mark.parametrize("tenants", [1, 2, 10])
def test_a_tenant_leaves_as_much_room_as_it_takes(tenants: int) -> None:
    """What waits for slow receivers does not keep other tenants' events out of memory."""
    turns: Turns[str] = Turns(Limits(room=640, tenant_room=1_000))
    waiting: Counter[int] = Counter()
    for number in range(1_000):
        tenant = TenantId(f"t{number % tenants}")
        endpoint = EndpointId(f"e{number}")
        if turns.room(tenant, endpoint, Lane.FIRST):
            turns.add(tenant, endpoint, "job", Lane.FIRST)
            waiting[number % tenants] += 1
    share = (640 - 20) / (tenants + 1)
    assert all(abs(each - share) <= 1 for each in waiting.values())
    assert turns.room(QUIET, EP, Lane.FIRST)


def test_an_endpoint_is_trusted_with_more_after_each_round_of_successes() -> None:
    """One more at a time, up to the limit."""
    turns: Turns[str] = Turns(Limits())
    seen = [turns.limit(QUIET, EP)]
    while seen[-1] < 32:
        seen.append(round_of(turns, Load.FINE))
    assert seen == list(range(START, 33))
    assert round_of(turns, Load.FINE) == 32


def test_too_much_halves_once_a_round() -> None:
    """All attempts in hand fail together: that is one sign, not many."""
    turns: Turns[str] = Turns(Limits())
    while round_of(turns, Load.FINE) < 32:
        pass
    assert [round_of(turns, Load.TOO_MUCH) for _ in range(6)] == [16, 8, 4, 2, 1, 1]


def test_what_began_before_the_cut_says_nothing_of_it() -> None:
    """A success that began among many does not raise the limit that was cut meanwhile."""
    turns: Turns[str] = Turns(Limits())
    for _ in range(4):
        turns.add(QUIET, EP, "job", Lane.FIRST)
    failed, *others = taken(turns)
    turns.done(failed, Load.TOO_MUCH, 0.1)
    for slot in others:
        turns.done(slot, Load.FINE, 0.1)
    assert turns.limit(QUIET, EP) == 2
    assert round_of(turns, Load.FINE) == 3


def test_successes_alone_prove_nothing_about_many_at_a_time() -> None:
    """An endpoint that is sent one event at a time keeps the limit it began with."""
    turns: Turns[str] = Turns(Limits())
    for _ in range(100):
        once(turns, QUIET, EP, load=Load.FINE)
    assert turns.limit(QUIET, EP) == START


def test_what_is_known_of_an_endpoint_outlives_its_events() -> None:
    """The limit is kept while nothing waits, of the endpoints used last."""
    turns: Turns[str] = Turns(Limits(remembered=2))
    for name in ("a", "b", "c"):
        turns.slow_start(QUIET, EndpointId(name))
    limits = [turns.limit(QUIET, EndpointId(name)) for name in ("a", "b", "c")]
    assert limits == [START, 1, 1]
    assert not turns._tenants  # pyright: ignore[reportPrivateUsage]  # a look inside


def test_a_rested_endpoint_begins_with_one_at_a_time() -> None:
    """Whatever it bore before, and whatever waits or is being sent."""
    turns: Turns[str] = Turns(Limits())
    for _ in range(5):
        turns.add(QUIET, EP, "job", Lane.FIRST)
    slots = taken(turns)
    turns.slow_start(QUIET, EP)
    for slot in slots:
        assert turns.take() is None
        turns.done(slot, Load.FINE, 0.1)
    assert turns.limit(QUIET, EP) == 1
    assert len(taken(turns)) == 1


def test_an_endpoint_that_is_trusted_with_less_waits_for_its_slots() -> None:
    """A limit cut to what is in hand gives no further slot."""
    turns: Turns[str] = Turns(Limits())
    for _ in range(6):
        turns.add(QUIET, EP, "job", Lane.FIRST)
    first, second, third, _ = taken(turns)
    turns.done(first, Load.TOO_MUCH, 0.1)
    turns.done(second, Load.NEUTRAL, 0.1)
    assert turns.take() is None
    turns.done(third, Load.NEUTRAL, None)
    assert turns.take()


def test_endpoints_not_known_to_be_quick_hold_half_of_the_slots() -> None:
    """However many tenants have slow endpoints or new ones, the quick ones find slots."""
    turns: Turns[str] = Turns(Limits())
    quick = [TenantId(f"quick{number}") for number in range(100)]
    for tenant in quick:
        once(turns, tenant, EP)
    for number in range(300):
        turns.add(TenantId(f"t{number}"), EP, "unknown", Lane.FIRST)
    assert len(taken(turns)) == 128
    for tenant in quick:
        turns.add(tenant, EP, "quick", Lane.FIRST)
    assert Counter(slot.job for slot in taken(turns)) == {"quick": 100}


def test_an_endpoint_is_slow_until_an_attempt_takes_less() -> None:
    """What was not attempted says nothing about it."""
    turns: Turns[str] = Turns(Limits())
    for seconds, slow in (
        (None, True),
        (0.1, True),
        (None, False),
        (SLOW, False),
        (None, True),
        (0.1, True),
    ):
        assert once(turns, QUIET, EP, seconds=seconds).slow is slow


def test_what_waits_moves_when_its_endpoint_turns_slow() -> None:
    """The slots it takes from then on are those of the slow."""
    turns: Turns[str] = Turns(Limits())
    once(turns, QUIET, EP)
    turns.add(QUIET, EP, "job", Lane.FIRST)
    turns.add(QUIET, EP, "job", Lane.FIRST)
    quick = turns.take()
    assert quick
    turns.done(quick, Load.FINE, SLOW)
    slow = turns.take()
    assert slow
    assert (quick.slow, slow.slow) == (False, True)


def test_slow_endpoints_leave_slots_to_their_tenants_quick_ones() -> None:
    """A tenant's slow endpoints hold half of what it may hold."""
    turns: Turns[str] = Turns(Limits())
    slow, quick = endpoints(turns, NOISY, 50, 15.0), endpoints(turns, NOISY, 50, 0.1)
    fill(turns, NOISY, slow)
    fill(turns, NOISY, quick)
    assert Counter(slot.slow for slot in taken(turns)) == {True: 62, False: 62}


def test_what_waits_for_one_endpoint_can_be_taken_off() -> None:
    """An endpoint that is to rest keeps nothing in memory, and nobody else loses anything."""
    turns: Turns[str] = Turns(Limits())
    turns.add(QUIET, EP, "retry", Lane.RETRY)
    turns.add(QUIET, EP, "first", Lane.FIRST)
    turns.add(QUIET, OTHER, "other", Lane.FIRST)
    assert turns.withdraw_of(QUIET, EP) == ["first", "retry"]
    assert turns.withdraw_of(QUIET, EP) == []
    assert turns.withdraw_of(NOISY, EP) == []
    assert [slot.job for slot in taken(turns)] == ["other"]


@pytest.mark.parametrize(
    ("result", "load"),
    [
        (Answer(200), Load.FINE),
        (Answer(302), Load.NEUTRAL),
        (Answer(404), Load.NEUTRAL),
        (Answer(429), Load.TOO_MUCH),
        (Answer(500), Load.NEUTRAL),
        (Answer(503), Load.TOO_MUCH),
        (Fault("timeout"), Load.TOO_MUCH),
        (Fault("connection_refused"), Load.TOO_MUCH),
        (Fault("tls_error"), Load.NEUTRAL),
    ],
)
def test_what_a_result_says_about_load(result: Result, load: Load) -> None:
    """Fewer at a time are tried where that may help, not where the receiver is merely wrong."""
    assert load_of(result) is load


Job = tuple[TenantId, EndpointId, Lane, int]
LIMITS = Limits(slots=12, endpoint_slots=5, room=24, tenant_room=16, endpoint_room=10, remembered=4)
_tenants = st.sampled_from([TenantId("t1"), TenantId("t2"), TenantId("t3")])
_endpoints = st.sampled_from([EndpointId("e1"), EndpointId("e2"), EndpointId("e3")])
_lanes = st.sampled_from(Lane)
_PARTS = {Lane.FIRST: 1, Lane.RETRY: 2, Lane.REPLAY: 8}


class Fairness(RuleBasedStateMachine):
    """Whatever comes in and goes out, the limits hold and nothing is lost or doubled."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: Turns[Job] = Turns(LIMITS)
        self.number = 0
        self.waiting: list[Job] = []
        self.sending: list[Slot[Job]] = []
        self.quick: set[tuple[TenantId, EndpointId]] = set()

    @rule(tenant=_tenants, endpoint=_endpoints, lane=_lanes)
    def comes(self, tenant: TenantId, endpoint: EndpointId, lane: Lane) -> None:
        of_tenant = [job for job in self.waiting if job[0] == tenant]
        of_endpoint = [job for job in of_tenant if job[1] == endpoint]
        full = any(
            len(jobs) >= room or sum(job[2] is lane for job in jobs) >= max(1, room // _PARTS[lane])
            for jobs, room in (
                (self.waiting, LIMITS.room),
                (of_tenant, LIMITS.tenant_room),
                (of_endpoint, LIMITS.endpoint_room),
            )
        )
        left = LIMITS.room - len(self.waiting)
        full = full or (len(of_tenant) > 0 and len(of_tenant) >= left)
        assert self.turns.room(tenant, endpoint, lane) is not full
        if full:
            return
        self.number += 1
        job = tenant, endpoint, lane, self.number
        self.turns.add(tenant, endpoint, job, lane)
        self.waiting.append(job)

    @rule()
    def takes(self) -> None:
        slot = self.turns.take()
        if slot is None:
            assert not any(self.free(each) for each in self.waiting)
            return
        job = slot.job
        assert (slot.tenant_id, slot.endpoint_id, slot.lane) == job[:3]
        older = [each for each in self.waiting if each[:3] == job[:3] and each[3] < job[3]]
        assert not older, "an endpoint's own order in its lane"
        assert self.free(job)
        held = self.held(job)
        assert all(
            self.held(each) >= held
            for each in self.waiting
            if self.free(each) and each[2] is slot.lane and self.is_slow(each) is slot.slow
        ), "whoever holds fewest"
        self.waiting.remove(job)
        self.sending.append(slot)

    def is_slow(self, job: Job) -> bool:
        return job[:2] not in self.quick

    def held(self, job: Job) -> int:
        """What its tenant holds; of a slow one, of the slow ones."""
        mine = [slot for slot in self.sending if slot.tenant_id == job[0]]
        return sum(slot.slow for slot in mine) if self.is_slow(job) else len(mine)

    def free(self, job: Job) -> bool:
        tenant, endpoint, lane, _ = job
        of_endpoint = [each for each in self.sending if each.job[:2] == (tenant, endpoint)]
        in_lane = [each for each in self.sending if each.lane is lane]
        slow = [each for each in self.sending if each.slow]
        left = LIMITS.slots - len(self.sending)
        if self.is_slow(job):
            left = min(left, LIMITS.slots // 2 - len(slow))
        held = self.held(job)
        return (
            left > 0
            and len(of_endpoint) < self.turns.limit(tenant, endpoint)
            and len(in_lane) < max(1, LIMITS.slots // _PARTS[lane])
            and (held == 0 or held < left)
        )

    @precondition(lambda self: self.sending)
    @rule(
        data=st.data(),
        load=st.sampled_from(Load),
        seconds=st.sampled_from([None, 0.1, SLOW]),
    )
    def ends(self, data: st.DataObject, load: Load, seconds: float | None) -> None:
        slot = data.draw(st.sampled_from(self.sending))
        self.sending.remove(slot)
        self.turns.done(slot, load, seconds)
        if seconds is not None:
            (self.quick.discard if seconds >= SLOW else self.quick.add)(slot.job[:2])

    @rule(tenant=_tenants, endpoint=_endpoints)
    def has_rested(self, tenant: TenantId, endpoint: EndpointId) -> None:
        self.turns.slow_start(tenant, endpoint)
        assert self.turns.limit(tenant, endpoint) == 1

    @rule(tenant=_tenants, endpoint=_endpoints)
    def rests(self, tenant: TenantId, endpoint: EndpointId) -> None:
        mine = [job for job in self.waiting if job[:2] == (tenant, endpoint)]
        assert sorted(job[3] for job in self.turns.withdraw_of(tenant, endpoint)) == [
            job[3] for job in mine
        ]
        self.waiting = [job for job in self.waiting if job not in mine]

    @rule()
    def drains(self) -> None:
        withdrawn = self.turns.withdraw()
        assert sorted(job[3] for job in withdrawn) == [job[3] for job in self.waiting]
        self.waiting = []

    @rule(number=st.integers(0, 60))
    def grows_late(self, number: int) -> None:
        late = [job for job in self.waiting if job[3] < number]
        withdrawn = self.turns.withdraw(lambda job: job[3] < number)
        assert sorted(job[3] for job in withdrawn) == [job[3] for job in late]
        self.waiting = [job for job in self.waiting if job not in late]

    @invariant()
    def forgets(self) -> None:
        # What is not remembered is not known to be quick.
        idle = self.turns._idle  # pyright: ignore[reportPrivateUsage]  # a look inside
        tenants = self.turns._tenants  # pyright: ignore[reportPrivateUsage]  # likewise
        assert len(idle) <= LIMITS.remembered
        known = {(t, e) for t, tenant in tenants.items() for e in tenant.endpoints} | set(idle)
        self.quick &= known
        assert set(tenants) == {job[0] for job in self.waiting} | {
            slot.tenant_id for slot in self.sending
        }

    @invariant()
    def counts(self) -> None:
        assert self.turns.waiting == len(self.waiting)
        assert self.turns.sending == len(self.sending)


Fairness.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestFairness = Fairness.TestCase
