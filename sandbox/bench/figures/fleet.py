"""Fleet: a day of 100,000 sessions on 500 gateways, simulated: requests, balance and bill."""

import asyncio
from pathlib import Path
from typing import Final

from sandbox.bench.clockwork import Clockwork
from sandbox.bench.samples import Result
from sandbox.fleet.day import simulate
from sandbox.fleet.report import result

SESSIONS: Final = 100_000
GATEWAYS: Final = 500
SHARDS: Final = 2_000
"""Four a gateway: with one more where one is lost, a gateway's load grows by a quarter, not by half
or all of it; and a shard's long poll, which costs the same however many sessions share it, is
seven cents a month."""


async def measure(_home: Path, _rounds: int, clockwork: Clockwork) -> Result:
    """Once: chance is fixed, so it comes out the same every time."""
    clockwork.tick()
    day = await asyncio.to_thread(simulate, gateways=GATEWAYS, shards=SHARDS)
    return result(day, SESSIONS)
