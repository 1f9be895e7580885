"""What figures of webhooks are measured on: embedded AWS, a sink, postmen and a bare one.

Each postman has a stack of its own on the same emulator, so that none finds another's rows. Whoever
is not driven waits; a waiting gateway asks for due deliveries every five seconds.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.aws import EmbeddedAws, apply_template, run_embedded_aws
from sandbox.bench.bed import MEASURED, BenchError
from sandbox.bench.errand import Errand, Told, pin, run_errand
from sandbox.bench.sink import Arrival, Sink, run_sink

WARM_UP: Final = 80
"""Deliveries not measured: connections are opened, endpoints read."""


@dataclass(frozen=True)
class PostOffice:
    """Where all of it is."""

    aws: EmbeddedAws
    sink: Sink
    home: Path

    @asynccontextmanager
    async def ours(self, name: str, store: str = "aws") -> AsyncGenerator[Errand]:
        """Our webhooks; `store` as `sandbox.bench.postman` has it."""
        module = ["sandbox.bench.postman", store, self.sink.url]
        async with self._with_stack(name, module) as errand:
            yield errand

    @asynccontextmanager
    async def life(self) -> AsyncGenerator[Errand]:
        """A delivery that nobody takes, and a clock to turn on."""
        async with self._with_stack("life", ["sandbox.bench.life", self.sink.url]) as errand:
            yield errand

    @asynccontextmanager
    async def _with_stack(self, name: str, module: Sequence[str]) -> AsyncGenerator[Errand]:
        tables = apply_template(self.aws, stack=name, parameters={"Prefix": name})
        environment = {**tables.environment, **MEASURED}
        async with run_errand(name, module, environment, self.home / "logs") as errand:
            yield errand

    @asynccontextmanager
    async def bare(self) -> AsyncGenerator[Errand]:
        module = ["sandbox.bench.bare_postman", self.sink.url]
        async with run_errand("bare-postman", module, {}, self.home / "logs") as errand:
            yield errand

    async def drive(self, errand: Errand, events: int) -> Told:
        """Have so many delivered. Raises BenchError if that many did not come."""
        await self.sink.take()
        told = await errand.told("drive", events=events)
        came = len({each.id for each in await self.sink.take()})
        if came != told["deliveries"]:
            raise BenchError(f"{told['deliveries']} were delivered, {came} came")
        return told


@asynccontextmanager
async def run_post_office(home: Path) -> AsyncGenerator[PostOffice]:
    """Start it, all but the first core for what is not measured."""
    async with AsyncExitStack() as rest:
        aws = await rest.enter_async_context(run_embedded_aws(home))
        sink = await rest.enter_async_context(run_sink(home / "logs"))
        for pid in (aws.process.pid, sink.pid):
            pin(pid, alone=False)
        yield PostOffice(aws, sink, home)


def waits(handed: dict[str, float], arrivals: Sequence[Arrival]) -> list[float]:
    """Milliseconds from each handing over to the first byte of its first arrival, in that order.

    Raises:
        BenchError: one did not arrive.
    """
    first: dict[str, float] = {}
    for each in arrivals:
        first[each.id] = min(each.at, first.get(each.id, each.at))
    missing = handed.keys() - first.keys()
    if missing:
        raise BenchError(f"{len(missing)} of {len(handed)} events did not arrive")
    return [(first[event_id] - at) * 1000 for event_id, at in handed.items()]
