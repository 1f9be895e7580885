"""When an endpoint's tenant is warned, and when an endpoint is given up.

An endpoint is disabled after five days in which at least twenty attempts failed and none succeeded,
or at once where it asks for it. Its tenant is told before: when its breaker first opens, and when
half and nine tenths of the way are gone; and again when it answers after such a warning. A success
makes everything that went before forgotten.

The health says what was told, so the write that changes it decides which gateway tells.
"""

from dataclasses import dataclass
from typing import Final, assert_never

import msgspec

from gateway.delivery import Answer, Result
from shared import clock
from shared.events import EndpointTrouble
from shared.webhook import DISABLED_AFTER, Endpoint, Health

PATIENCE: Final = DISABLED_AFTER
"""From the first failure since which nothing succeeded."""
ENOUGH_FAILURES: Final = 20
"""An endpoint that hears little may fail for days by failing once."""
WARNED_AT: Final = (0.5, 0.9)
"""Shares of the way to being disabled."""


@dataclass(frozen=True, slots=True)
class Warn:
    """Write `health`, which remembers the warning, and tell the tenant (`endpoint.failing`)."""

    health: Health
    reason: str
    disable_at: int
    """When (ms) it is disabled at the earliest."""


@dataclass(frozen=True, slots=True)
class Disable:
    """Disable it and tell the tenant (`endpoint.disabled`)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """Tell the tenant, who was warned, that it answers again (`endpoint.recovered`)."""

    reason: str = "It answered with success again."


Consequence = Warn | Disable | Recovered


def asked(result: Result) -> Disable | None:
    """Whether an answer says that the endpoint wants no more, whatever its status."""
    match result:
        case Answer(410):
            return Disable("It answered 410 Gone.")
        case Answer(control="disable"):
            return Disable("It asked to be disabled.")
        case _:
            return None


def consequence(before: Health, after: Health, now: int) -> Consequence | None:
    """What follows at `now` (ms) from a health that is about to replace another."""
    if after.failing_since is None:
        return Recovered() if before.warned else None
    failing = now - after.failing_since
    days = failing // clock.DAY
    way = min(failing / PATIENCE, after.failures / ENOUGH_FAILURES)
    if way >= 1:
        return Disable(f"Nothing succeeded for {days} days, and {after.failures} attempts failed.")
    reached = sum(way >= share for share in WARNED_AT)
    due = 1 + reached if reached or after.opened else 0
    if due <= after.warned:
        return None
    reason = (
        f"Nothing has succeeded for {days} days."
        if reached
        else "It keeps failing, and is left alone for growing pauses between attempts."
    )
    return Warn(
        msgspec.structs.replace(after, warned=due),
        reason,
        max(now, after.failing_since + PATIENCE),
    )


def trouble(endpoint: Endpoint, health: Health, told: Consequence) -> EndpointTrouble:
    """What the tenant is told; of a recovery, `health` is the one before it."""
    match told:
        case Warn(disable_at=at):
            disable_at = clock.instant(at)
        case Disable() | Recovered():
            disable_at = None
        case _:
            assert_never(told)
    since = health.failing_since
    return EndpointTrouble(
        endpoint_id=endpoint.id,
        # Without its query, which may hold a credential: this goes to other servers.
        url=endpoint.url.partition("?")[0],
        reason=told.reason,
        failing_since=None if since is None else clock.instant(since),
        failures=health.failures,
        last_error=health.last_error,
        disable_at=disable_at,
    )
