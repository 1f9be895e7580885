"""What the gateway counts, for Prometheus. No tenant, session or number is a label: only kinds."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

Reading = Callable[[], Iterable[Metric]]


class Metrics:
    """Counters that are counted up where things happen, and gauges that are read when asked."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self.commands = Counter(
            "zapgate_commands",
            "Commands by what became of them",
            ("command", "outcome"),
            registry=registry,
        )
        self.command_delay = Histogram(
            "zapgate_command_delay_seconds",
            "For how long the oldest command of a read had waited in its queue",
            registry=registry,
            buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200),
        )
        self.refused = Counter(
            "zapgate_commands_refused",
            "Commands refused, by reason",
            ("reason",),
            registry=registry,
        )
        self.messages = Counter(
            "zapgate_messages", "Statuses sent messages reached", ("status",), registry=registry
        )
        self.events = Counter(
            "zapgate_events", "Events recorded, by type", ("type",), registry=registry
        )
        self.deliveries = Counter(
            "zapgate_delivery_attempts",
            "Webhook attempts by decision",
            ("decision", "error"),
            registry=registry,
        )
        self.attempt_seconds = Histogram(
            "zapgate_delivery_attempt_seconds",
            "How long an attempt took",
            registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
        )
        self.delivery_delay = Histogram(
            "zapgate_delivery_delay_seconds",
            "From the event to its first attempt's end",
            registry=registry,
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60),
        )
        self.sidelined = Counter(
            "zapgate_deliveries_sidelined",
            "Due deliveries put off for lack of room",
            registry=registry,
        )
        self.recovered = Counter(
            "zapgate_deliveries_recovered",
            "Deliveries made due again by recovery jobs, by the job's kind",
            ("kind",),
            registry=registry,
        )

        self.overdue = Gauge(
            "zapgate_deliveries_overdue_seconds",
            "How long the oldest delivery found due by the last sweep had been due",
            registry=registry,
        )

    def read(self, reading: Reading) -> None:
        """Ask `reading` for its families at every scrape."""
        self._registry.register(_Reader(reading))

    def exposition(self) -> bytes:
        return generate_latest(self._registry)


class _Reader(Collector):
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def collect(self) -> Iterator[Metric]:
        yield from self._reading()


def gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def family(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
    name: str,
    text: str,
    labels: tuple[str, ...],
    values: Iterable[tuple[tuple[str, ...], float]],
) -> Metric:
    """A gauge or counter with labels, as it is now."""
    metric = kind(name, text, labels=labels)
    for key, value in values:
        metric.add_metric(key, value)
    return metric
