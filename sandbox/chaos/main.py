"""Plays the rounds, waits after each until everything was seen to work, and has it judged."""

import asyncio
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, Final, cast

import msgspec

from sandbox.chaos import report
from sandbox.chaos.faults import FAULTS, Done, Scene, roll
from sandbox.chaos.judge import Judgement, Pace, judge, owed, recoveries, unproven
from sandbox.chaos.ledger import Ledger, Round
from sandbox.chaos.options import Kind, Options, Plan, chosen
from sandbox.chaos.stage import Say, Stage, run_stage
from sandbox.chaos.traffic import Traffic, run_traffic
from shared import clock

PATIENCE_LEASES: Final = 6
PATIENCE_SECONDS: Final = 30.0
"""Added: how long after a fault everything may take to be seen to work, before the next one."""
DRAIN_SECONDS: Final = 100.0
"""How long what is under way may take to arrive at the end: a webhook that was claimed by a gateway
that was killed is another's after a minute."""
LOOK: Final = 0.2


class Kept(msgspec.Struct, frozen=True):
    """The file of a run."""

    at: str
    seed: int
    judgement: Judgement
    ledger: Ledger


def understood(
    *, rolling: bool, seed: int | None, faults: str, pace: float, **rest: Any
) -> Options:
    """The options that were typed. Raises ValueError."""
    return Options(
        plan=Plan.ROLLING if rolling else Plan.FAULTS,
        seed=SystemRandom().randrange(1_000_000) if seed is None else seed,
        kinds=chosen(faults),
        every=pace,
        **rest,
    )


def play(home: Path, options: Options, *, as_json: bool = False) -> int:
    """Play a run and print what it proved; the exit code: 0 only if nothing was wrong."""
    begun = time.monotonic()

    def say(line: str) -> None:
        out = sys.stderr if as_json else sys.stdout
        out.write(f"{time.monotonic() - begun:7.1f} s  {line}\n")
        out.flush()

    say(f"seed {options.seed}: {options.rounds} rounds of {options.plan}")
    try:
        ledger = asyncio.run(_run(home, options, say))
    except Exception as error:  # noqa: BLE001 - whatever it was, nothing was proved
        say(f"the run failed: {_deepest(error)!r}; logs are in {home / 'logs'}")
        return 1
    judgement = judge(ledger, Pace(options.every), options.lease_seconds)
    wrongs = judgement.wrongs(options.bound)
    file = _keep(home, options, judgement, ledger)
    if as_json:
        told = {**msgspec.to_builtins(judgement), "seed": options.seed, "wrongs": wrongs}
        sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
        sys.stdout.flush()
    else:
        sys.stdout.write(f"\n{report.table(judgement)}\n\n")
        for note in report.notes(judgement):
            sys.stdout.write(f"* {note}\n")
        sys.stdout.write(f"all that was seen: {file}\n")
    for wrong in wrongs:
        say(f"wrong: {wrong}")
    if not wrongs:
        say("nothing was lost, nothing doubled in silence, nobody had two owners")
    return 1 if wrongs else 0


async def _run(home: Path, options: Options, say: Say) -> Ledger:
    async with run_stage(home, options, say) as stage:
        ledger = Ledger(tuple(linked.id for linked in stage.sessions))
        async with run_traffic(stage, ledger, options.every) as traffic:
            run = _Run(options, stage, ledger, traffic, say)
            await run.play()
        return ledger


class _Run:
    """One run on a set stage."""

    def __init__(
        self, options: Options, stage: Stage, ledger: Ledger, traffic: Traffic, say: Say
    ) -> None:
        self._options = options
        self._stage = stage
        self._ledger = ledger
        self._traffic = traffic
        self._say = say

    async def play(self) -> None:
        options, dice = self._options, Random(self._options.seed)  # noqa: S311 (to be repeated, not secret)
        scene = Scene(self._stage, dice, options.lease_seconds)
        await self._round("calm", self._calm(options.calm))
        kinds = drawn(options)
        for number in range(options.rounds):
            # Before everything has found its place again, now and then.
            await asyncio.sleep(scene.leases(0, 0.5))
            if options.plan is Plan.ROLLING:
                await self._round("rolling", roll(scene))
            else:
                kind = kinds[number]
                await self._round(kind, FAULTS[kind](scene))
        await self._traffic.stop()
        await self._drain()
        await self._traffic.look()

    async def _calm(self, seconds: float) -> Done:
        begun = time.monotonic()
        await asyncio.sleep(seconds)
        return Done("nothing happens", begun, begun)

    async def _round(self, kind: str, fault: Awaitable[Done]) -> None:
        done = await fault
        patience = PATIENCE_LEASES * self._options.lease_seconds + PATIENCE_SECONDS
        until = time.monotonic() + patience
        while (not_yet := await self._not_well(done)) and time.monotonic() < until:  # noqa: ASYNC110 - seen elsewhere
            await asyncio.sleep(LOOK)
        self._ledger.rounds.append(
            Round(
                kind=kind,
                what=done.what,
                begun=done.begun,
                over=done.over,
                ended=time.monotonic(),
                healed=not not_yet,
            )
        )
        self._tell(not_yet)

    async def _not_well(self, done: Done) -> set[str]:
        """Sessions that were not seen to work since a fault was over."""
        not_yet = unproven(self._ledger, max(done.over, done.begun))
        if not_yet:
            return not_yet
        await self._traffic.look()
        connected = {c.session for c in self._ledger.connections if c.until is None}
        return set(self._ledger.sessions) - connected

    def _tell(self, not_yet: set[str]) -> None:
        of = self._ledger.rounds[-1]
        times = recoveries(self._ledger, of, Pace(self._options.every), now=time.monotonic())
        self._say(report.line(of, times, self._options.lease_seconds))
        if not_yet:
            self._say(f"  not seen to work again: {', '.join(sorted(not_yet))}")

    async def _drain(self) -> None:
        until = time.monotonic() + DRAIN_SECONDS
        while (missing := owed(self._ledger)) and time.monotonic() < until:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(LOOK)
        if missing:
            self._say(f"{missing} messages did not arrive within {DRAIN_SECONDS:g} s")


def drawn(options: Options) -> list[Kind]:
    """The kinds of all rounds: each comes before any comes again."""
    dice = Random(options.seed)  # noqa: S311 (to be repeated, not secret)
    kinds: list[Kind] = []
    while len(kinds) < options.rounds:
        kinds += dice.sample(options.kinds, len(options.kinds))
    return kinds


def _keep(home: Path, options: Options, judgement: Judgement, ledger: Ledger) -> Path:
    """Write the run's file; where it is."""
    at = clock.instant(clock.millis()).strftime("%Y%m%dT%H%M%SZ")
    folder = home / "chaos"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{at}.json"
    file.write_bytes(msgspec.json.encode(Kept(at, options.seed, judgement, ledger)))
    return file


def _deepest(error: BaseException) -> BaseException:
    """The first error inside groups of them."""
    if isinstance(error, BaseExceptionGroup):
        inner = cast("tuple[BaseException, ...]", error.exceptions)
        return _deepest(inner[0])
    return error
