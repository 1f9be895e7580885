"""Turns between tenants and endpoints."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.fairness import Limits, Turns
from shared.ids import EndpointId, TenantId

Job = tuple[TenantId, EndpointId, int]
LIMITS = Limits(slots=6, tenant_slots=3, endpoint_slots=2, room=12, tenant_room=6, endpoint_room=4)
_tenants = st.sampled_from([TenantId("t1"), TenantId("t2"), TenantId("t3")])
_endpoints = st.sampled_from([EndpointId("e1"), EndpointId("e2"), EndpointId("e3")])


def test_a_noisy_tenant_does_not_keep_a_quiet_one_waiting() -> None:
    """With a hundred deliveries waiting, another tenant's only one has its turn in this round."""
    turns: Turns[str] = Turns(Limits())
    noisy, quiet, endpoint = TenantId("noisy"), TenantId("quiet"), EndpointId("ep")
    for _ in range(100):
        turns.add(noisy, endpoint, "noise")
    assert turns.take() == "noise"
    turns.add(quiet, endpoint, "quiet")
    assert [turns.take(), turns.take()] == ["noise", "quiet"]


def test_a_slow_endpoint_does_not_keep_its_tenants_others_waiting() -> None:
    """An endpoint whose slots are all taken is passed over."""
    turns: Turns[str] = Turns(LIMITS)
    tenant, slow, quick = TenantId("t"), EndpointId("slow"), EndpointId("quick")
    for _ in range(4):
        turns.add(tenant, slow, "slow")
    turns.add(tenant, quick, "quick")
    assert [turns.take() for _ in range(4)] == ["slow", "quick", "slow", None]


class Fairness(RuleBasedStateMachine):
    """Whatever comes in and goes out, the limits hold and nothing is lost or doubled."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: Turns[Job] = Turns(LIMITS)
        self.number = 0
        self.waiting: list[Job] = []
        self.sending: list[Job] = []

    @rule(tenant=_tenants, endpoint=_endpoints)
    def comes(self, tenant: TenantId, endpoint: EndpointId) -> None:
        if not self.turns.room(tenant, endpoint):
            full = len(self.waiting) >= LIMITS.room
            of_tenant = [job for job in self.waiting if job[0] == tenant]
            of_endpoint = [job for job in of_tenant if job[1] == endpoint]
            assert (
                full
                or len(of_tenant) >= LIMITS.tenant_room
                or (len(of_endpoint) >= LIMITS.endpoint_room)
            )
            return
        self.number += 1
        job = tenant, endpoint, self.number
        self.turns.add(tenant, endpoint, job)
        self.waiting.append(job)

    @rule()
    def takes(self) -> None:
        job = self.turns.take()
        if job is None:
            assert len(self.sending) >= LIMITS.slots or not any(
                self.free(each) for each in self.waiting
            )
            return
        older = [each for each in self.waiting if each[:2] == job[:2] and each[2] < job[2]]
        assert not older, "an endpoint's own order"
        assert self.free(job)
        self.waiting.remove(job)
        self.sending.append(job)

    def free(self, job: Job) -> bool:
        of_tenant = [each for each in self.sending if each[0] == job[0]]
        of_endpoint = [each for each in of_tenant if each[1] == job[1]]
        return len(of_tenant) < LIMITS.tenant_slots and len(of_endpoint) < LIMITS.endpoint_slots

    @precondition(lambda self: self.sending)
    @rule(data=st.data())
    def ends(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.sending))
        self.sending.remove(job)
        self.turns.done(job[0], job[1])

    @rule()
    def drains(self) -> None:
        assert sorted(self.turns.withdraw()) == sorted(self.waiting)
        self.waiting = []

    @rule(number=st.integers(0, 60))
    def grows_late(self, number: int) -> None:
        late = [job for job in self.waiting if job[2] < number]
        assert sorted(self.turns.withdraw(lambda job: job[2] < number)) == sorted(late)
        self.waiting = [job for job in self.waiting if job not in late]

    @invariant()
    def counts(self) -> None:
        assert self.turns.waiting == len(self.waiting)
        assert self.turns.sending == len(self.sending)
        if not self.waiting and not self.sending:
            known = self.turns._tenants  # pyright: ignore[reportPrivateUsage]  # a look inside
            assert not known, "nothing is remembered of what is over"


Fairness.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestFairness = Fairness.TestCase
