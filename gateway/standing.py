"""How endpoints stand with the fleet: what their answers change in their row, and who is told.

An endpoint's row is written by its tenant and by every gateway. Each change is a rule applied to
the row as it is now: if another came between, the row is read again and the rule asked again.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from gateway.aws import Aws
from gateway.directory import Directory
from gateway.notices import Notice, notice
from shared import clock, ids
from shared.delivery import Delivery, DeliveryState
from shared.errors import Contended
from shared.events import EndpointDisabled, EndpointTrouble, OperationalEvent
from shared.ids import EventId
from shared.logs import fields
from shared.store import webhooks
from shared.store.dynamo import together
from shared.webhook import Endpoint, EndpointStatus

log = logging.getLogger(__name__)

CHANGE_ATTEMPTS: Final = 5


class Deliverer(Protocol):
    """What becomes of a notice's deliveries."""

    def born(self, delivery: Delivery, endpoint: Endpoint) -> Delivery: ...
    def hand_over(self, delivery: Delivery, body: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Changed:
    """An endpoint's row as it is to be, and what is told of it."""

    endpoint: Endpoint
    event: OperationalEvent | None = None


Rule = Callable[[Endpoint], Changed | None]
"""What is to be changed in an endpoint's row as it is now; None where nothing is."""


class Standing:
    """Changes endpoints' rows for what their receivers answered."""

    def __init__(
        self, aws: Aws, directory: Directory, deliverer: Deliverer, now: Callable[[], int]
    ) -> None:
        self._aws = aws
        self._directory = directory
        self._deliverer = deliverer
        self._now = now

    async def disable(self, endpoint: Endpoint, reason: str, error: str | None) -> None:
        """Its receiver wants no more."""

        def rule(row: Endpoint) -> Changed | None:
            if row.status is EndpointStatus.DISABLED:
                return None
            disabled = msgspec.structs.replace(
                row,
                status=EndpointStatus.DISABLED,
                disabled_reason=reason,
                updated_at=self._now(),
            )
            data = EndpointTrouble(endpoint_id=row.id, url=row.url, reason=reason, last_error=error)
            event = EndpointDisabled(
                id=EventId(clock.mint(ids.EVENT)), timestamp=clock.instant(self._now()), data=data
            )
            return Changed(disabled, event)

        await self._change(endpoint, rule)

    async def told(self, about: Endpoint, event: OperationalEvent) -> Notice:
        """What is to be stored when `event` happens."""
        endpoints = await self._directory.endpoints(about.tenant_id)
        return notice(about.tenant_id, event, endpoints, self._now(), self._deliverer.born)

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
            if delivery.state is DeliveryState.SENDING:
                self._deliverer.hand_over(delivery, told.event.body.encode())

    async def _change(self, endpoint: Endpoint, rule: Rule) -> Endpoint | None:
        """The row as it is after the rule; None where it is gone. Raises Unavailable, Contended."""
        seen: Endpoint | None = endpoint
        for _ in range(CHANGE_ATTEMPTS):
            if seen is None or (changed := rule(seen)) is None:
                return seen
            told = None if changed.event is None else await self.told(seen, changed.event)
            write = webhooks.replacing(seen.tenant_id, seen, changed.endpoint)
            refusal = await self._aws.run(together([write, *(() if told is None else told.writes)]))
            self._directory.forget(endpoint.tenant_id)
            if refusal is None:
                if told is not None:
                    self.stored(told)
                return changed.endpoint
            seen = await self._aws.run(webhooks.read_endpoint(endpoint.tenant_id, endpoint.id))
        raise Contended("endpoint.change")
