"""Which delivery is next: turns between lanes, tenants, and the endpoints of a tenant.

A slot in use cannot be taken back before its attempt ends, which may be long, so what the next
tenant will need must be free before it comes. Hence a tenant may hold no more slots than it leaves
free: one alone has half of them, each of ten an eleventh, and an eleventh stays free. Whoever holds
fewest is served first, so slots, and with them the time attempts take, are shared evenly whether
the receivers are quick or slow. Endpoints not known to be quick have half of all slots between
them, shared by the same rule, so that no number of slow ones keeps the quick ones waiting.

How many attempts an endpoint bears at a time is found out: more after a round of successes, half
after a sign of too much. What may wait in memory is bounded for each and in all, and shared like
the slots. What finds no room is not lost: its row waits in the table.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Final, Generic, TypeVar, assert_never

import msgspec

from gateway.delivery import Answer, Fault, Result
from shared.delivery import Delivery, Trigger
from shared.ids import EndpointId, TenantId

T = TypeVar("T")


class Lane(StrEnum):
    """Why a delivery waits: what just happened goes before what is tried or asked for again."""

    FIRST = "first"
    RETRY = "retry"
    REPLAY = "replay"


def lane_of(delivery: Delivery, *, fresh: bool) -> Lane:
    """The lane of a claimed delivery; `fresh` where its event happened just now.

    What somebody waits for goes with what just happened. A first attempt that is not fresh was held
    or found no room: it is a backlog, like a recovery.
    """
    first = delivery.attempt - delivery.scheduled_from <= 1
    match delivery.trigger:
        case Trigger.EVENT:
            if first:
                return Lane.FIRST if fresh else Lane.REPLAY
            return Lane.RETRY
        case Trigger.TEST | Trigger.REDELIVERY:
            return Lane.FIRST if first else Lane.RETRY
        case Trigger.RECOVERY:
            return Lane.REPLAY
        case _:
            assert_never(delivery.trigger)


_TURNS: Final = tuple(
    {"F": Lane.FIRST, "R": Lane.RETRY, "P": Lane.REPLAY}[c] for c in "FFRFFPFFRFFR"
)
"""Eight, three and one of twelve; a lane from which nothing can be taken is passed over."""
_PARTS: Final = {Lane.FIRST: 1, Lane.RETRY: 2, Lane.REPLAY: 8}
"""A lane has at most one of so many parts of slots and of room: fresh events always find some."""
_SLOW_PARTS: Final = 2
"""Slow endpoints have one of so many parts of the slots."""
_RESERVE_PARTS: Final = 32
"""One of so many parts of slots and of room is left to tenants who hold none."""

SLOW: Final = 2.0
"""Seconds: an endpoint counts as slow until an attempt takes less, and when one takes as long."""
START: Final = 4
"""Attempts in hand an endpoint is trusted with before anything is known of it."""


class Load(Enum):
    """What an attempt's result says about the number of attempts its endpoint bears at a time."""

    FINE = "fine"
    TOO_MUCH = "too_much"
    NEUTRAL = "neutral"


_OVERLOADED: Final = frozenset({429, 502, 503, 504})
_UNREACHED: Final = frozenset(
    {"timeout", "connection_refused", "connection_reset", "connection_failed"}
)


def load_of(result: Result) -> Load:
    """What a result says about load: only what fewer attempts at a time might have prevented."""
    match result:
        case Answer(status) if 200 <= status < 300:
            return Load.FINE
        case Answer(status):
            return Load.TOO_MUCH if status in _OVERLOADED else Load.NEUTRAL
        case Fault(code):
            return Load.TOO_MUCH if code in _UNREACHED else Load.NEUTRAL
        case _:
            assert_never(result)


@dataclass(frozen=True, slots=True)
class Limits:
    """Slots are attempts in hand, room is what waits for a slot."""

    slots: int = 256
    endpoint_slots: int = 32
    """The most that successes may lead to."""
    room: int = 5_000
    tenant_room: int = 1_000
    endpoint_room: int = 500
    remembered: int = 10_000
    """Endpoints with nothing waiting or in hand of which what was learnt is kept."""


class Slot(msgspec.Struct, Generic[T], frozen=True):
    """A slot in use, and what it is used for."""

    job: T
    tenant_id: TenantId
    endpoint_id: EndpointId
    lane: Lane
    slow: bool
    epoch: int


def _nothing() -> dict[Lane, int]:
    return dict.fromkeys(Lane, 0)


@dataclass(slots=True)
class _Known:
    """What was learnt of an endpoint."""

    limit: int
    successes: int = 0
    """Of the present round: as many as the limit raise it."""
    reached: bool = False
    """Whether as many as the limit were in hand in this round: else they prove nothing."""
    slow: bool = True
    epoch: int = 0
    """Counts the cuts of the limit: an attempt that began before the last says nothing of it."""

    def cut(self, limit: int) -> None:
        self.begin_round(limit)
        self.epoch += 1

    def begin_round(self, limit: int) -> None:
        self.limit = limit
        self.successes = 0
        self.reached = False


@dataclass
class _Endpoint(Generic[T]):
    id: EndpointId
    known: _Known
    waiting: dict[Lane, deque[T]] = field(
        default_factory=lambda: {lane: deque[T]() for lane in Lane}
    )
    sending: int = 0

    @property
    def over(self) -> bool:
        return not self.sending and not any(self.waiting.values())


_Class = tuple[Lane, bool]
"""A lane's quick endpoints, or its slow ones."""
_CLASSES: Final = tuple((lane, slow) for lane in Lane for slow in (False, True))


@dataclass
class _Tenant(Generic[T]):
    id: TenantId
    endpoints: dict[EndpointId, _Endpoint[T]] = field(
        default_factory=dict[EndpointId, _Endpoint[T]]
    )
    ready: dict[_Class, OrderedDict[EndpointId, _Endpoint[T]]] = field(
        default_factory=lambda: {each: OrderedDict[EndpointId, _Endpoint[T]]() for each in _CLASSES}
    )
    """Endpoints with something waiting and a free slot of their own, in order of their turns."""
    waiting: dict[Lane, int] = field(default_factory=_nothing)
    sending: int = 0
    slow: int = 0
    """How many of those go to slow endpoints."""

    def held(self, *, slow: bool) -> int:
        """What counts against it when it is a slow endpoint's turn, or a quick one's."""
        return self.slow if slow else self.sending


class _Queue(Generic[T]):
    """Tenants by what they hold, fewest first, and among equals in order of their turns."""

    def __init__(self) -> None:
        # What tenants hold adds up to the slots, so there are few different numbers.
        self._by_held: dict[int, OrderedDict[TenantId, _Tenant[T]]] = {}
        self._held: dict[TenantId, int] = {}

    @property
    def empty(self) -> bool:
        return not self._held

    def put(self, tenant: _Tenant[T], held: int) -> None:
        if self._held.get(tenant.id) == held:
            return
        self.remove(tenant)
        self._held[tenant.id] = held
        self._by_held.setdefault(held, OrderedDict())[tenant.id] = tenant

    def remove(self, tenant: _Tenant[T]) -> None:
        held = self._held.pop(tenant.id, None)
        if held is not None:
            equals = self._by_held[held]
            del equals[tenant.id]
            if not equals:
                del self._by_held[held]

    def first(self, below: int) -> _Tenant[T] | None:
        """The next one, where it holds less. Of a queue that is not empty."""
        least = min(self._by_held)
        return next(iter(self._by_held[least].values())) if least < below else None


class Turns(Generic[T]):
    """Waiting deliveries in order of their turns, and how many are being sent."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._start = min(START, limits.endpoint_slots)
        self._slow_slots = _part(limits.slots, _SLOW_PARTS)
        self._lane_slots = {lane: _part(limits.slots, parts) for lane, parts in _PARTS.items()}
        self._tenants: dict[TenantId, _Tenant[T]] = {}
        self._idle: OrderedDict[tuple[TenantId, EndpointId], _Known] = OrderedDict()
        self._queues: dict[_Class, _Queue[T]] = {each: _Queue() for each in _CLASSES}
        self._waiting = _nothing()
        self._sending = _nothing()
        self._slow = 0
        self._turn = 0
        self._slow_next = dict.fromkeys(Lane, False)
        self._exhausted = False
        """Nothing could be taken, and nothing has changed since."""
        self.waiting = 0
        self.sending = 0

    def room(self, tenant_id: TenantId, endpoint_id: EndpointId, lane: Lane) -> bool:
        """Whether one more may wait for this endpoint in this lane."""
        room = self._limits.room
        if not _roomy(self._waiting, lane, room):
            return False
        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            return True
        if not _roomy(tenant.waiting, lane, self._limits.tenant_room):
            return False
        if sum(tenant.waiting.values()) >= _most(room - self.waiting, room):
            return False
        endpoint = tenant.endpoints.get(endpoint_id)
        if endpoint is None:
            return True
        waiting = {each: len(jobs) for each, jobs in endpoint.waiting.items()}
        return _roomy(waiting, lane, self._limits.endpoint_room)

    def add(self, tenant_id: TenantId, endpoint_id: EndpointId, job: T, lane: Lane) -> None:
        """Let it wait for its turn.

        Whether there is room was asked before and may have changed: a few more are borne.
        """
        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            tenant = self._tenants[tenant_id] = _Tenant(tenant_id)
        endpoint = tenant.endpoints.get(endpoint_id)
        if endpoint is None:
            known = self._idle.pop((tenant_id, endpoint_id), None) or _Known(self._start)
            endpoint = tenant.endpoints[endpoint_id] = _Endpoint(endpoint_id, known)
        endpoint.waiting[lane].append(job)
        self._count(tenant, lane, 1)
        self._settle(tenant, endpoint)

    def take(self) -> Slot[T] | None:
        """The next one, now being sent; None where nothing waits that has a free slot."""
        free = self._limits.slots - self.sending
        if free <= 0 or self._exhausted:
            return None
        tried = set[Lane]()
        for turn in range(self._turn, self._turn + len(_TURNS)):
            lane = _TURNS[turn % len(_TURNS)]
            if not self._waiting[lane] or lane in tried:
                continue
            tried.add(lane)
            slot = self._take(lane, free)
            if slot is not None:
                self._turn = (turn + 1) % len(_TURNS)
                return slot
        self._exhausted = True
        return None

    def done(self, slot: Slot[T], load: Load, seconds: float | None) -> None:
        """One that was taken is over: its slot is free.

        `load` says what came of it, `seconds` how long it took; None where no attempt was made.
        """
        tenant = self._tenants[slot.tenant_id]
        endpoint = tenant.endpoints[slot.endpoint_id]
        known = endpoint.known
        self._use(tenant, endpoint, slot, -1)
        if seconds is not None:
            known.slow = seconds >= SLOW
        if slot.epoch == known.epoch:
            self._adapt(known, load)
        self._settle(tenant, endpoint)

    def slow_start(self, tenant_id: TenantId, endpoint_id: EndpointId) -> None:
        """Begin again with one attempt at a time: it has been resting."""
        tenant, endpoint = self._find(tenant_id, endpoint_id)
        if tenant and endpoint:
            endpoint.known.cut(1)
            self._settle(tenant, endpoint)
        else:
            known = self._idle.get((tenant_id, endpoint_id)) or _Known(self._start)
            known.cut(1)
            self._remember(tenant_id, endpoint_id, known)

    def limit(self, tenant_id: TenantId, endpoint_id: EndpointId) -> int:
        """How many attempts the endpoint is trusted with at a time."""
        _, endpoint = self._find(tenant_id, endpoint_id)
        known = endpoint.known if endpoint else self._idle.get((tenant_id, endpoint_id))
        return known.limit if known else self._start

    def withdraw(self, late: Callable[[T], bool] = lambda _: True) -> list[T]:
        """What waits and is `late`, taken off; by default everything.

        An endpoint's are as old as their order in each lane: behind one that is not late, none is.
        """
        return [
            job
            for tenant in list(self._tenants.values())
            for endpoint in list(tenant.endpoints.values())
            for job in self._withdraw(tenant, endpoint, late)
        ]

    def withdraw_of(self, tenant_id: TenantId, endpoint_id: EndpointId) -> list[T]:
        """All that waits for one endpoint, taken off."""
        tenant, endpoint = self._find(tenant_id, endpoint_id)
        if tenant and endpoint:
            return list(self._withdraw(tenant, endpoint, lambda _: True))
        return []

    def _find(
        self, tenant_id: TenantId, endpoint_id: EndpointId
    ) -> tuple[_Tenant[T] | None, _Endpoint[T] | None]:
        tenant = self._tenants.get(tenant_id)
        return tenant, tenant.endpoints.get(endpoint_id) if tenant else None

    def _take(self, lane: Lane, free: int) -> Slot[T] | None:
        if self._sending[lane] >= self._lane_slots[lane]:
            return None
        slow_next = self._slow_next[lane]
        for slow in (slow_next, not slow_next):
            queue = self._queues[lane, slow]
            if queue.empty:
                continue
            slots = self._slow_slots if slow else self._limits.slots
            left = min(free, slots - self._slow) if slow else free
            tenant = queue.first(_most(left, slots))
            if tenant is not None:
                self._slow_next[lane] = not slow
                return self._take_of(tenant, lane, slow=slow)
        return None

    def _take_of(self, tenant: _Tenant[T], lane: Lane, *, slow: bool) -> Slot[T]:
        # Whoever has had a turn goes to the end, if it stays.
        ready = tenant.ready[lane, slow]
        endpoint_id, endpoint = next(iter(ready.items()))
        ready.move_to_end(endpoint_id)
        job = endpoint.waiting[lane].popleft()
        slot = Slot(job, tenant.id, endpoint_id, lane, slow, endpoint.known.epoch)
        self._count(tenant, lane, -1)
        self._use(tenant, endpoint, slot, 1)
        if endpoint.sending >= endpoint.known.limit:
            endpoint.known.reached = True
        self._settle(tenant, endpoint)
        return slot

    def _withdraw(
        self, tenant: _Tenant[T], endpoint: _Endpoint[T], late: Callable[[T], bool]
    ) -> Iterator[T]:
        for lane, waiting in endpoint.waiting.items():
            while waiting and late(waiting[0]):
                yield waiting.popleft()
                self._count(tenant, lane, -1)
        self._settle(tenant, endpoint)

    def _count(self, tenant: _Tenant[T], lane: Lane, change: int) -> None:
        tenant.waiting[lane] += change
        self._waiting[lane] += change
        self.waiting += change

    def _use(self, tenant: _Tenant[T], endpoint: _Endpoint[T], slot: Slot[T], change: int) -> None:
        endpoint.sending += change
        tenant.sending += change
        self.sending += change
        self._sending[slot.lane] += change
        if slot.slow:
            tenant.slow += change
            self._slow += change

    def _adapt(self, known: _Known, load: Load) -> None:
        match load:
            case Load.FINE:
                known.successes += known.reached
                if known.successes >= known.limit:
                    known.begin_round(min(known.limit + 1, self._limits.endpoint_slots))
            case Load.TOO_MUCH:
                known.cut(max(1, known.limit // 2))
            case Load.NEUTRAL:
                pass
            case _:
                assert_never(load)

    def _settle(self, tenant: _Tenant[T], endpoint: _Endpoint[T]) -> None:
        """Put both where they belong after a change."""
        self._exhausted = False
        free = endpoint.sending < endpoint.known.limit
        for each, ready in tenant.ready.items():
            lane, slow = each
            waits = endpoint.waiting[lane]
            if not ready and not waits:
                continue
            if free and waits and slow is endpoint.known.slow:
                ready[endpoint.id] = endpoint
            elif ready:
                ready.pop(endpoint.id, None)
            else:
                continue
            queue = self._queues[each]
            if ready:
                queue.put(tenant, tenant.held(slow=slow))
            else:
                queue.remove(tenant)
        if endpoint.over:
            del tenant.endpoints[endpoint.id]
            self._remember(tenant.id, endpoint.id, endpoint.known)
        if not tenant.endpoints:
            del self._tenants[tenant.id]

    def _remember(self, tenant_id: TenantId, endpoint_id: EndpointId, known: _Known) -> None:
        """Keep what was learnt of an endpoint for its next event."""
        key = tenant_id, endpoint_id
        self._idle[key] = known
        self._idle.move_to_end(key)
        if len(self._idle) > self._limits.remembered:
            self._idle.popitem(last=False)


def _part(whole: int, parts: int) -> int:
    return max(1, whole // parts)


def _most(left: int, whole: int) -> int:
    """What a tenant may hold, less than: as much as it leaves, and something while there is any."""
    return max(min(left, 1), left - whole // _RESERVE_PARTS)


def _roomy(waiting: dict[Lane, int], lane: Lane, room: int) -> bool:
    return sum(waiting.values()) < room and waiting[lane] < _part(room, _PARTS[lane])
