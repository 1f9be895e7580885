"""How often a tenant may ask: counted per minute, over all processes.

A process that is busy with a tenant takes several permits at once, so that counting costs a write
for the first request and then for one in many. What a process took and did not use is lost to the
tenant until the next minute; the share it may take keeps that small. Of those who find no permit at
hand, one asks for all of them.
"""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Final

from control_plane.aws import Runner
from shared import clock
from shared.ids import TenantId
from shared.store import limits

LARGEST_CHUNK: Final = 64
"""Permits taken at once at the most: at 100 requests a second, a write and a half a second."""
LARGEST_SHARE: Final = 50
"""And never more than this part (1/50) of the limit, so that little is lost."""
BUSY_SECONDS: Final = 2.0
"""A chunk used up within this time is followed by one twice as large."""
LARGEST_MEMORY: Final = 10_000
"""Tenants remembered; beyond it those of past windows are dropped."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a tenant stands in the running window."""

    limit: int
    remaining: int
    reset: int
    """Seconds until the next window."""
    allowed: bool

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """`RateLimit` fields of draft-ietf-httpapi-ratelimit-headers."""
        return [
            (b"ratelimit-policy", b'"tenant";q=%d;w=%d' % (self.limit, limits.WINDOW)),
            (b"ratelimit", b'"tenant";r=%d;t=%d' % (self.remaining, self.reset)),
        ]


@dataclass(slots=True)
class _Account:
    window: int
    left: int = 0
    """Permits taken and not used."""
    used: int = 0
    """The count of all processes, as last seen."""
    chunk: int = 0
    taken_at: float = 0.0


class Limiter:
    """Hands out permits."""

    def __init__(
        self, aws: Runner, default: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._aws = aws
        self._default = default
        self._monotonic = monotonic
        self._accounts: dict[TenantId, _Account] = {}
        self._flights: dict[TenantId, Future[None]] = {}
        """Chunks that are being taken: one a tenant."""
        self.wanting: Counter[TenantId] = Counter()
        """Requests that have no permit yet, and no refusal."""
        self._lock = Lock()

    def at_hand(self, tenant_id: TenantId, limit: int | None, now: int) -> Standing | None:
        """A permit from the chunk in hand, or a refusal; None where a chunk must be taken."""
        with self._lock:
            return self._hand_out(tenant_id, limit or self._default, now)

    def take(self, tenant_id: TenantId, limit: int | None, now: int) -> Standing:
        """A permit of a chunk that is taken now, or a refusal.

        Asks DynamoDB, or waits for another who asks. Raises Unavailable for all of them.
        """
        allowed = limit or self._default
        with self._lock:
            self.wanting[tenant_id] += 1
            flight, ours = self._join(tenant_id)
        while not ours:
            try:
                flight.result()
            except BaseException:
                with self._lock:
                    self._served(tenant_id)
                raise
            with self._lock:
                standing = self._hand_out(tenant_id, allowed, now)
                if standing is not None:
                    self._served(tenant_id)
                    return standing
                flight, ours = self._join(tenant_id)
        return self._fly(flight, tenant_id, allowed, now)

    def _hand_out(self, tenant_id: TenantId, allowed: int, now: int) -> Standing | None:
        account = self._accounts.get(tenant_id)
        if account is None or account.window != _window(now):
            return None
        if account.left > 0:
            account.left -= 1
            return _standing(account, allowed, now, granted=True)
        if account.used >= allowed:
            return _standing(account, allowed, now, granted=False)
        return None

    def _served(self, tenant_id: TenantId) -> None:
        self.wanting[tenant_id] -= 1
        if not self.wanting[tenant_id]:
            del self.wanting[tenant_id]

    def _join(self, tenant_id: TenantId) -> tuple[Future[None], bool]:
        """The chunk that is being taken, or a new one; whether it is ours to take."""
        flight = self._flights.get(tenant_id)
        if flight is not None:
            return flight, False
        flight = self._flights[tenant_id] = Future[None]()
        return flight, True

    def _fly(self, flight: Future[None], tenant_id: TenantId, allowed: int, now: int) -> Standing:
        try:
            standing = self._take(tenant_id, allowed, now)
        except BaseException as error:
            self._land(tenant_id)
            flight.set_exception(error)
            raise
        self._land(tenant_id)
        flight.set_result(None)
        return standing

    def _land(self, tenant_id: TenantId) -> None:
        with self._lock:
            del self._flights[tenant_id]
            self._served(tenant_id)

    def _take(self, tenant_id: TenantId, allowed: int, now: int) -> Standing:
        window = _window(now)
        with self._lock:
            chunk = self._next_chunk(tenant_id, allowed)
        used = self._aws.run(limits.take(tenant_id, window, chunk))
        usable = min(chunk, allowed - (used - chunk))
        with self._lock:
            account = self._accounts.get(tenant_id)
            if account is None or account.window != window:
                account = self._remember(tenant_id, window)
            account.chunk = chunk
            account.taken_at = self._monotonic()
            account.used = max(account.used, used)
            if usable > 0:
                account.left += usable - 1
            return _standing(account, allowed, now, granted=usable > 0)

    def _next_chunk(self, tenant_id: TenantId, allowed: int) -> int:
        wanted = self.wanting[tenant_id]
        account = self._accounts.get(tenant_id)
        if account is None or self._monotonic() - account.taken_at > BUSY_SECONDS:
            return wanted
        return max(wanted, min(account.chunk * 2, LARGEST_CHUNK, allowed // LARGEST_SHARE))

    def _remember(self, tenant_id: TenantId, window: int) -> _Account:
        if len(self._accounts) >= LARGEST_MEMORY:
            past = [key for key, each in self._accounts.items() if each.window != window]
            for key in past or [next(iter(self._accounts))]:
                del self._accounts[key]
        account = _Account(window)
        self._accounts[tenant_id] = account
        return account


def _window(now: int) -> int:
    return now // (limits.WINDOW * clock.SECOND)


def _standing(account: _Account, allowed: int, now: int, *, granted: bool) -> Standing:
    remaining = max(0, allowed - account.used) + account.left
    reset = limits.WINDOW - now // clock.SECOND % limits.WINDOW
    return Standing(allowed, remaining if granted else 0, reset, granted)
