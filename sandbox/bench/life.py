"""The whole life of a delivery that nobody ever takes, in seconds: its clock is turned on.

Executed as `life.py SINK_URL`; speaks as `sandbox.bench.postman` does, and has one order. Rows,
queue and receiver are real. Wake-ups are held back until their time by that clock, and
then sent; for longer pauses the sweeper finds the row, as it would.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Final, TypeVar

from gateway.aws import Aws
from sandbox.bench.errand import Told, obey
from sandbox.bench.parts import LOOK_SECONDS, CountingAws, Parts, run_parts
from sandbox.bench.workload import entries
from shared import clock, env, logs
from shared.aws import Op, Params
from shared.delivery import Delivery, DeliveryState
from shared.env import Places, Settings
from shared.ids import EndpointId, EventId, TenantId
from shared.store import deliveries

T = TypeVar("T")

LONGEST: Final = 200
"""Turns of the clock after which it counts as endless."""
GRACE: Final = 3 * clock.SECOND
"""How far beyond a row's time the clock is turned: the sweeper leaves the first two seconds to the
wake-up."""
PATIENCE: Final = 5.0
_OVER: Final = frozenset({DeliveryState.DELIVERED, DeliveryState.GAVE_UP})


class HeldWakes(CountingAws):
    """AWS whose delayed messages wait until they are let go."""

    def __init__(self, places: Settings) -> None:
        super().__init__(places)
        self._held: list[Op[object]] = []

    async def run(self, op: Op[T]) -> T:
        if op.action == "send_message" and op.params(self.places).get("DelaySeconds"):
            self._held.append(Op(op.service, op.action, _at_once(op), op.decode, op.refused))
            return op.decode({})
        return await super().run(op)

    async def let_go(self) -> bool:
        """Send what was held; whether there was anything."""
        held, self._held = self._held, []
        for op in held:
            await super().run(op)
        return bool(held)


def _at_once(op: Op[T]) -> Callable[[Places], Params]:
    def params(at: Places) -> Params:
        return {**op.params(at), "DelaySeconds": 0}

    return params


async def life(settings: Settings, sink: str) -> Told:
    """Record one event for an endpoint that always fails, and follow it to its end."""
    ahead = 0

    def now() -> int:
        return clock.millis() + ahead

    aws = HeldWakes(settings)
    async with run_parts(settings, aws, now) as parts:
        tenant_id = await parts.tenant(f"{sink}/bad", endpoints=0)
        endpoint_id = await parts.endpoint(tenant_id, f"{sink}/bad")
        line = await parts.line(tenant_id)
        entry = next(entries(line.session.id))
        aws.purposes.clear()
        line.take([entry])
        await parts.settled([line])
        states: list[str] = []
        for _ in range(LONGEST):
            row = await _row(parts, tenant_id, endpoint_id, entry.event.id)
            states.append(row.state.value)
            if row.state in _OVER:
                return {
                    "purposes": dict(aws.purposes),
                    "attempts": row.attempt,
                    "hours": (now() - row.created_at) / clock.HOUR,
                    "states": states,
                }
            ahead += max(0, (row.due_at or 0) - now()) + GRACE
            await _on(parts, aws, row)
    raise RuntimeError(f"a delivery does not end: {states[-5:]}")


async def _on(parts: Parts, aws: HeldWakes, row: Delivery) -> None:
    """Until the delivery has moved: by its wake-up if there is one, else by the sweeper."""
    if not await aws.let_go():
        await parts.dispatcher.sweep()
    async with asyncio.timeout(PATIENCE):
        while True:
            await asyncio.sleep(LOOK_SECONDS * 10)
            await parts.settled([])
            seen = await _row(parts, row.tenant_id, row.endpoint_id, row.event_id)
            if seen.state is not DeliveryState.SENDING and seen != row:
                return


async def _row(
    parts: Parts, tenant_id: TenantId, endpoint_id: EndpointId, event_id: EventId
) -> Delivery:
    op = deliveries.read_delivery(tenant_id, endpoint_id, event_id)
    # Not the gateway's request, so not counted.
    found = await Aws.run(parts.aws, op)
    assert found is not None  # noqa: S101 - it was recorded
    return found


async def main(sink: str) -> None:
    settings = env.settings()
    logs.configure(settings.log_level)
    await obey({"life": lambda: life(settings, sink)})


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
