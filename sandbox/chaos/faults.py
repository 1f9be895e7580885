"""What is done to the stage: one function for each kind of fault.

Each returns when the fault is over and every gateway is up again, and says what was done, when it
began, and from when on recovery counts.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import Final

from sandbox.chaos.fleet import Gateway
from sandbox.chaos.gate import Gate, How
from sandbox.chaos.options import Kind
from sandbox.chaos.stage import Stage


@dataclass(frozen=True)
class Done:
    """A fault that is over; see `Round`."""

    what: str
    begun: float
    over: float


@dataclass(frozen=True)
class Scene:
    """Where a fault happens, and the dice."""

    stage: Stage
    dice: Random
    lease: float
    """Seconds."""

    def victim(self) -> Gateway:
        return self.dice.choice(self.stage.fleet.live)

    def leases(self, least: float, most: float) -> float:
        """So many lease times, in seconds."""
        return self.dice.uniform(least, most) * self.lease


Fault = Callable[[Scene], Awaitable[Done]]


async def kill(scene: Scene) -> Done:
    fleet, victim = scene.stage.fleet, scene.victim()
    pause = scene.leases(0, 0.5)
    begun = time.monotonic()
    await fleet.kill(victim)
    await asyncio.sleep(pause)
    await fleet.start()
    return Done(f"{victim.name} killed, the next started after {pause:.1f} s", begun, begun)


async def term(scene: Scene) -> Done:
    fleet, victim = scene.stage.fleet, scene.victim()
    begun = time.monotonic()
    await asyncio.gather(fleet.stop(victim), fleet.start())
    return Done(f"{victim.name} stopped and replaced", begun, begun)


async def freeze(scene: Scene) -> Done:
    victim, seconds = scene.victim(), scene.leases(0.5, 2.5)
    begun = time.monotonic()
    victim.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        victim.signal(signal.SIGCONT)
    return Done(f"{victim.name} frozen for {seconds:.1f} s", begun, begun)


async def host(scene: Scene) -> Done:
    number = scene.dice.choice((signal.SIGABRT, signal.SIGKILL))
    hosts = [each for gateway in scene.stage.fleet.live for each in gateway.hosts()]
    begun = time.monotonic()
    if hosts:
        with suppress(ProcessLookupError):
            os.kill(scene.dice.choice(hosts), number)
    return Done(f"one of {len(hosts)} hosts got {number.name}", begun, begun)


async def table(scene: Scene) -> Done:
    stage = scene.stage
    gates = [each.gates.table for each in stage.fleet.live]
    return await _outage(scene, "the table", [*gates, stage.api_gates.table])


async def queue(scene: Scene) -> Done:
    stage = scene.stage
    gates = [each.gates.queue for each in stage.fleet.live]
    return await _outage(scene, "the queues", [*gates, stage.api_gates.queue])


async def network(scene: Scene) -> Done:
    seconds = scene.leases(0.2, 1.5)
    begun = time.monotonic()
    await scene.stage.people.down(seconds)
    await asyncio.sleep(seconds)
    return Done(f"no WhatsApp for {seconds:.1f} s", begun, time.monotonic())


async def unreached(scene: Scene) -> Done:
    victim, seconds = scene.victim(), scene.leases(0.2, 1.5)
    begun, over = await _shut([victim.whatsapp], How.REFUSE, seconds)
    return Done(f"no WhatsApp for {victim.name} for {seconds:.1f} s", begun, over)


async def cut_off(scene: Scene) -> Done:
    victim, seconds = scene.victim(), scene.leases(0.5, 2.5)
    how = scene.dice.choice(tuple(How))
    gates = [victim.gates.table, victim.gates.queue]
    begun, _ = await _shut(gates, how, seconds)
    return Done(f"AWS {how} for {victim.name} for {seconds:.1f} s", begun, begun)


FAULTS: Final[Mapping[Kind, Fault]] = MappingProxyType(
    {
        Kind.KILL: kill,
        Kind.TERM: term,
        Kind.FREEZE: freeze,
        Kind.HOST: host,
        Kind.TABLE: table,
        Kind.QUEUE: queue,
        Kind.NETWORK: network,
        Kind.UNREACHED: unreached,
        Kind.CUT_OFF: cut_off,
    }
)


async def roll(scene: Scene) -> Done:
    """Replace every gateway, one after the other: the next is ready before the last is told."""
    fleet = scene.stage.fleet
    begun = time.monotonic()
    old = list(fleet.live)
    for gateway in old:
        await fleet.start()
        await fleet.stop(gateway)
    seconds = time.monotonic() - begun
    return Done(f"{len(old)} gateways replaced in {seconds:.1f} s", begun, begun)


async def _outage(scene: Scene, of: str, gates: Sequence[Gate]) -> Done:
    seconds, how = scene.leases(0.3, 2), scene.dice.choice(tuple(How))
    begun, over = await _shut(gates, how, seconds)
    return Done(f"{of} {how} for {seconds:.1f} s", begun, over)


async def _shut(gates: Sequence[Gate], how: How, seconds: float) -> tuple[float, float]:
    """Shut gates for a while; when it began and ended."""
    begun = time.monotonic()
    for gate in gates:
        gate.shut(how)
    try:
        await asyncio.sleep(seconds)
    finally:
        for gate in gates:
            gate.open()
    return begun, time.monotonic()
