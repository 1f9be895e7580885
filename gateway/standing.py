"""How endpoints stand with the fleet: what their answers change in their row, and who is told.

An endpoint's row is written by its tenant and by every gateway. Each change is a rule applied to
the row as it is now: if another came between, the row is read again and the rule asked again.
"""

import logging
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, assert_never

import msgspec

from gateway import breaker, disabling
from gateway.aws import Aws
from gateway.breaker import WELL, Ask, Go, Leave, Ordinary, Probe, Rest, Sign, Test, Window
from gateway.delivery import Held, Result, error_of
from gateway.directory import Directory
from gateway.disabling import Consequence, Disable, Recovered, Warn
from gateway.notices import Notice, notice
from gateway.outbox import Deliverer
from gateway.stamps import Stamps
from shared import clock, ids
from shared.delivery import Delivery, HeldBy, Trigger
from shared.errors import Contended
from shared.events import EndpointDisabled, EndpointFailing, EndpointRecovered, OperationalEvent
from shared.ids import EndpointId, EventId, TenantId
from shared.logs import fields
from shared.store import webhooks
from shared.webhook import Endpoint, EndpointStatus, Health

log = logging.getLogger(__name__)

CHANGE_ATTEMPTS: Final = 5
KEPT: Final = 10_000
"""Endpoints whose latest results are remembered at most."""

_random = random.SystemRandom().random


@dataclass(frozen=True, slots=True)
class Changed:
    """An endpoint's row as it is to be, and what is told of it."""

    endpoint: Endpoint
    event: OperationalEvent | None = None


class Turn(msgspec.Struct, frozen=True):
    """What an answer changed in its endpoint's breaker."""

    opened: Health | None = None
    """Its health where it opened just now."""
    closed: bool = False


UNTURNED: Final = Turn()
UNSEEN: Final = Window()


class Standing:
    """Asks and changes endpoints' rows for what their receivers answer."""

    def __init__(
        self, aws: Aws, directory: Directory, deliverer: Deliverer, now: Callable[[], int]
    ) -> None:
        self._aws = aws
        self._directory = directory
        self._deliverer = deliverer
        self._now = now
        self._stamps = Stamps(aws, now)
        self._windows: OrderedDict[EndpointId, Window] = OrderedDict()

    def resting(self, endpoint: Endpoint) -> Held | None:
        """Until when deliveries to an endpoint that is left alone are held, if it is."""
        now = self._now()
        if not isinstance(breaker.may_attempt(endpoint.health, now), Rest):
            return None
        if (window := self._windows.get(endpoint.id)) is not None:
            self._windows[endpoint.id] = window.rested()
        return resting(endpoint.health, now)

    async def leave(self, endpoint: Endpoint, delivery: Delivery) -> Leave | Held:
        """By what right an attempt may be made now. Of all who ask after a rest, one gets it."""
        if delivery.trigger is Trigger.TEST:
            return Test()
        now = self._now()
        may = breaker.may_attempt(endpoint.health, now)
        match may:
            case Go():
                return Ordinary()
            case Rest():
                return resting(endpoint.health, now)
            case Ask(claimed, leave):
                asking = msgspec.structs.replace(endpoint, health=claimed)
                won = await self._aws.run(
                    webhooks.replace_endpoint(endpoint.tenant_id, endpoint, asking)
                )
                self._directory.forget(endpoint.tenant_id)
                return leave if won else resting(claimed, now)
            case _:
                assert_never(may)

    async def answered(self, endpoint: Endpoint, leave: Leave, result: Result) -> Turn:
        """Draw the consequences of an attempt. Raises Unavailable, Contended.

        `endpoint` is as it was when `leave` was given.
        """
        now = self._now()
        sign = breaker.sign_of(result, now)
        before = self._windows.pop(endpoint.id, UNSEEN)
        asked = None if isinstance(leave, Test) else disabling.asked(result)
        if (
            sign is Sign.GOOD
            and endpoint.health == WELL
            and isinstance(leave, Ordinary)
            and not asked
        ):
            # Nearly every answer: it changes nothing.
            _, window = breaker.record(
                WELL, before, sign, None, leave=leave, now=now, random=_random
            )
            self._remember(endpoint.id, window)
            return UNTURNED
        if isinstance(leave, Probe):
            endpoint = _claimed(endpoint, leave)
        chance = _random()

        def recorded(health: Health) -> tuple[Health, Window]:
            return breaker.record(
                health,
                before,
                sign,
                error_of(result),
                leave=leave,
                now=now,
                random=lambda: chance,
            )

        _, window = recorded(endpoint.health)
        self._remember(endpoint.id, window)
        turn = UNTURNED

        def rule(row: Endpoint) -> Changed | None:
            nonlocal turn
            health, _ = recorded(row.health)
            turn = Turn(
                opened=health if row.health.open_until is None and health.open_until else None,
                closed=row.health.open_until is not None and health.open_until is None,
            )
            if isinstance(leave, Test) and health == row.health:
                # However long it has been failing: whoever mends it may try as often as they like.
                return None
            follows = asked or disabling.consequence(row.health, health, now)
            return self._changed(row, health, follows)

        seen: Endpoint | None = endpoint
        if isinstance(leave, Test):
            # It is asked for by a person, and may end a rest that this gateway has not heard of.
            seen = await self._aws.run(webhooks.read_endpoint(endpoint.tenant_id, endpoint.id))
        if seen is not None:
            await self._change(seen, rule)
        return turn

    def _remember(self, endpoint_id: EndpointId, window: Window) -> None:
        self._windows[endpoint_id] = window
        if len(self._windows) > KEPT:
            self._windows.popitem(last=False)

    async def told(self, tenant_id: TenantId, event: OperationalEvent) -> Notice:
        """What is to be stored when `event` happens."""
        endpoints = await self._directory.endpoints(tenant_id)
        return notice(tenant_id, event, endpoints, self._now(), self._deliverer.born)

    def stored(self, told: Notice) -> None:
        """The notice is in the table: what of it was born claimed goes out."""
        log.info(
            "event.recorded",
            extra=fields(
                event_id=told.event.id,
                type=told.event.type,
                tenant_id=told.event.tenant_id,
                deliveries=len(told.owed),
            ),
        )
        for delivery in told.owed:
            self._deliverer.hand_over(delivery, told.event.body.encode())

    def _changed(
        self, row: Endpoint, health: Health, follows: Consequence | None
    ) -> Changed | None:
        match follows:
            case None:
                after = msgspec.structs.replace(row, health=health)
                return None if health == row.health else Changed(after)
            case Warn(remembered):
                after = msgspec.structs.replace(row, health=remembered)
                return Changed(after, self._event(EndpointFailing, after, remembered, follows))
            case Recovered():
                after = msgspec.structs.replace(row, health=health)
                return Changed(after, self._event(EndpointRecovered, after, row.health, follows))
            case Disable(reason):
                if row.status is EndpointStatus.DISABLED:
                    return None
                after = msgspec.structs.replace(
                    row,
                    health=health,
                    status=EndpointStatus.DISABLED,
                    disabled_reason=reason,
                    updated_at=self._now(),
                )
                return Changed(after, self._event(EndpointDisabled, after, health, follows))
            case _:
                assert_never(follows)

    def _event(
        self,
        kind: type[EndpointFailing | EndpointDisabled | EndpointRecovered],
        endpoint: Endpoint,
        health: Health,
        follows: Consequence,
    ) -> OperationalEvent:
        return kind(
            id=EventId(clock.mint(ids.EVENT)),
            timestamp=clock.instant(self._now()),
            data=disabling.trouble(endpoint, health, follows),
        )

    async def _change(self, endpoint: Endpoint, rule: Callable[[Endpoint], Changed | None]) -> None:
        seen: Endpoint | None = endpoint
        for _ in range(CHANGE_ATTEMPTS):
            if seen is None or (changed := rule(seen)) is None:
                return
            told = None if changed.event is None else await self.told(seen.tenant_id, changed.event)
            write = webhooks.replacing(seen.tenant_id, seen, changed.endpoint)
            refusal = await self._stamps.run([write, *(() if told is None else told.writes)])
            self._directory.forget(endpoint.tenant_id)
            if refusal is None:
                log.info(
                    "endpoint.changed",
                    extra=fields(
                        tenant_id=seen.tenant_id,
                        endpoint_id=seen.id,
                        status=changed.endpoint.status,
                        failures=changed.endpoint.health.failures,
                        open_until=changed.endpoint.health.open_until,
                    ),
                )
                if told is not None:
                    self.stored(told)
                return
            seen = await self._aws.run(webhooks.read_endpoint(endpoint.tenant_id, endpoint.id))
        raise Contended("endpoint.change")


def _claimed(endpoint: Endpoint, probe: Probe) -> Endpoint:
    """The endpoint as the claim of its probe left its row."""
    health = msgspec.structs.replace(endpoint.health, open_until=probe.claim)
    return msgspec.structs.replace(endpoint, health=health, version=endpoint.version + 1)


def resting(health: Health, now: int) -> Held:
    """How a delivery waits for an endpoint that is left alone."""
    return Held(HeldBy.ENDPOINT_RESTING, breaker.hold_until(health, now, _random))
