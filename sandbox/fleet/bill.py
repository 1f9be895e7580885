"""What a session's traffic asks of AWS, and what a day's requests cost a month.

Requests are those that `zapgate bench requests` and `zapgate bench owed` saw on the wire for
messages that come one by one, minutes apart, as a session's do: nothing is shared with others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

DAYS: Final = 30.4
"""Of a month."""
HOURS: Final = 730

# List prices of us-east-1 (N. Virginia), USD, as of November 2026. DynamoDB on demand, standard
# class, since its prices were halved on 1 November 2024; Fargate on ARM (aws.amazon.com/…/pricing).
WRITE_UNITS: Final = 0.625
"""A million write request units."""
READ_UNITS: Final = 0.125
FIFO_REQUESTS: Final = 0.50
"""A million, of the command queues."""
VCPU_HOUR: Final = 0.03238
GB_HOUR: Final = 0.00356

HOST_MIB: Final = 21
"""Memory of a connected session's host: 17 to 21, measured (`zapgate bench memory`)."""
GATEWAY_VCPU: Final = 1


@dataclass(frozen=True)
class Asked:
    """Requests, and what they cost: reads in read units, writes in write units."""

    requests: Mapping[str, float]
    reads: float = 0
    writes: float = 0


# In a transaction a row's write is two units; an index takes one more for its own copy.
_ROW, _INDEX = 2, 1

ACCEPTED: Final = Asked(
    {
        "GetItem session": 1,
        "GetItem key": 0.5,
        "UpdateItem rate": 0.5,
        "PutItem message": 1,
        "SendMessage command": 1,
        "DeleteMessageBatch command": 1,
    },
    reads=1.5,
    writes=1.5,
)
"""A message taken by the API, through its queue. The receive is the long poll's."""
EVENT: Final = Asked(
    {"TransactWriteItems event": 1, "Query endpoint": 1},
    reads=1,
    writes=_ROW + _INDEX,
)
"""An event recorded: its row, and its place in the log."""
PROGRESS: Final = Asked({}, writes=_ROW)
"""A message's or a session's row, in the event's transaction."""
WEBHOOK: Final = Asked(
    {"TransactWriteItems delivery+attempt": 1},
    writes=(_ROW + _INDEX) + (_ROW + _INDEX) + _ROW,
)
"""Its delivery to one endpoint: born with the event and due, then done and no longer due, and the
attempt's row."""

SENT_EVENTS: Final = 3
"""Of a message: sent, delivered, read."""


@dataclass(frozen=True)
class Traffic:
    """A session's day."""

    sent: int = 20
    received: int = 40


def together(*parts: tuple[float, Asked]) -> Asked:
    """So many of each."""
    requests: dict[str, float] = {}
    for times, part in parts:
        for kind, count in part.requests.items():
            requests[kind] = requests.get(kind, 0) + times * count
    return Asked(
        requests,
        sum(times * part.reads for times, part in parts),
        sum(times * part.writes for times, part in parts),
    )


def of_traffic(traffic: Traffic) -> Asked:
    """What a session's day asks, every event posted to one webhook."""
    events = traffic.sent * SENT_EVENTS + traffic.received
    return together(
        (traffic.sent, ACCEPTED),
        (traffic.sent * SENT_EVENTS, PROGRESS),
        (events, EVENT),
        (events, WEBHOOK),
    )


RESTART: Final = together((2, EVENT), (2, PROGRESS), (2, WEBHOOK))
"""A session that passes to another gateway: it starts, and is connected."""


@dataclass(frozen=True)
class Bill:
    """USD a month."""

    writes: float
    reads: float
    queues: float
    cpu: float
    memory: float

    @property
    def total(self) -> float:
        return self.writes + self.reads + self.queues + self.cpu + self.memory


def bill(*, reads: float, writes: float, queued: float, gateways: int, gateway_gb: int) -> Bill:
    """What these units and requests of a day, and so many gateways, cost a month."""
    return Bill(
        writes=writes * DAYS / 1e6 * WRITE_UNITS,
        reads=reads * DAYS / 1e6 * READ_UNITS,
        queues=queued * DAYS / 1e6 * FIFO_REQUESTS,
        cpu=gateways * GATEWAY_VCPU * VCPU_HOUR * HOURS,
        memory=gateways * gateway_gb * GB_HOUR * HOURS,
    )
