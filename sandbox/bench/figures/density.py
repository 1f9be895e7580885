"""Density: what a session costs when there are many, in memory, in idle processor time, over time.

One gateway holds more and more sessions; at each number they are left idle and looked at. The last
number has traffic, then the gateway is started anew. Beside it raw neonize, a process each, does
the same at the same time, as many as fit.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.bench import proc, report
from sandbox.bench.bed import Bed, numbers, run_bed
from sandbox.bench.chatter import Chatter, arrived, chat, raw_chat
from sandbox.bench.clockwork import Clockwork
from sandbox.bench.crowd import RAW_FROM, Census, Crowd, Raws, census, seconds, used
from sandbox.bench.figures import start
from sandbox.bench.options import Options
from sandbox.bench.raw import run_raw
from sandbox.bench.samples import Result, Row, Target
from sandbox.bench.trend import trend

Say = Callable[[str], None]

OWN_MIB: Final = 30.0
GROWTH: Final = 3.0
"""MiB an hour and session that count as flat: a MiB in twenty minutes. What fills its caches once
is not told from what grows for ever in less."""
STARTS: Final = 3
SAMPLES: Final = 20
"""Looks at the memory while there is traffic; a minute apart in twenty minutes."""
JUDGED: Final = 600.0
"""Seconds of traffic from which its growth is judged: before that, caches fill."""
SETTLED_AFTER: Final = 0.25
"""Share of the traffic after which a slope is taken: caches fill with the first texts."""


@dataclass(frozen=True)
class Look:
    """What there was at one moment; `at` is monotonic seconds."""

    at: float
    ours: Census
    keepers: Census
    raw: Census | None

    @property
    def whole(self) -> float:
        """PSS of hosts, gateway and zygote together, a session."""
        return self.ours.proportional + self._keepers / len(self.ours.each)

    @property
    def _keepers(self) -> float:
        return self.keepers.proportional * len(self.keepers.each)


@dataclass(frozen=True)
class Scene:
    """Who is looked at."""

    bed: Bed
    crowd: Crowd
    raws: Raws

    def look(self) -> Look:
        raw = self.raws.pids()
        return Look(
            time.monotonic(),
            census(self.crowd.hosts()),
            census(self.crowd.keepers()),
            census(raw) if raw else None,
        )


async def measure(home: Path, options: Options, clockwork: Clockwork, say: Say) -> Result:
    rows: list[Row] = []
    notes = [
        (
            f"density: PSS counts what processes share in parts; raw neonize is a process a "
            f"session, at most {options.raw} of them; idle processor time is of hosts, gateway and "
            f"zygote, over {options.idle_seconds:g} s"
        )
    ]
    samples: dict[str, list[float]] = {}
    async with AsyncExitStack() as rest:
        bed = await rest.enter_async_context(run_bed(home))
        scene = Scene(bed, Crowd(bed, rest), Raws(bed, rest))
        unlinked = await bed.tenant.api.ok("POST", "/v1/sessions", {"name": "start"})
        path = f"/v1/sessions/{unlinked['id']}"
        before = await bed.qr(path)
        await start.stop(bed, path)
        for count in options.sessions:
            clockwork.tick()
            begun = time.monotonic()
            await scene.crowd.grow(count)
            await scene.raws.grow(min(count, options.raw))
            say(f"  {count} sessions linked after {time.monotonic() - begun:.0f} s")
            await asyncio.sleep(options.settle_seconds)
            found = await idle(scene, count, options.idle_seconds)
            row, before = await starts(scene, count, path, before)
            rows += [*found, row]
            for each in (*found, row):
                say("  " + "  ".join(report.cells(each)))
        clockwork.tick()
        say(f"  {options.minutes:g} minutes of traffic")
        found_rows, found_notes = await traffic(scene, options, samples)
        rows += found_rows
        notes += found_notes
        for each in found_rows:
            say("  " + "  ".join(report.cells(each)))
        for note in found_notes:
            say(f"  {note}")
        clockwork.tick()
        say("  starting the gateway anew")
        rows.append(await anew(scene, samples))
    return Result(rows=tuple(rows), notes=tuple(notes), samples=samples)


async def idle(scene: Scene, count: int, watched: float) -> list[Row]:
    """Memory and processor time of sessions with nothing to do."""
    ours_before = seconds([*scene.crowd.hosts(), *scene.crowd.keepers()])
    keepers_before = seconds(scene.crowd.keepers())
    raw_before = seconds(scene.raws.pids())
    begun = time.monotonic()
    await asyncio.sleep(watched)
    ours = used(ours_before, seconds(ours_before))
    keepers = used(keepers_before, seconds(keepers_before))
    raw = used(raw_before, seconds(raw_before))
    minutes = (time.monotonic() - begun) / 60
    look = scene.look()
    cpu = ours / count / minutes * 1000
    raw_cpu = tuple(raw / len(raw_before) / minutes * 1000 for _ in [0] if raw_before)
    return [
        *of_memory(f"{count} sessions", look),
        Row(
            name="... idle CPU, a session and minute",
            unit="ms",
            ours=(cpu,),
            bare=raw_cpu,
        ),
        Row(
            name="... of it the gateway's",
            unit="ms",
            ours=(keepers / count / minutes * 1000,),
        ),
    ]


def of_memory(name: str, look: Look) -> list[Row]:
    ours, raw = look.ours, look.raw
    return [
        Row(
            name=f"{name}: memory of a host, private",
            unit="MiB",
            ours=(ours.private,),
            bare=() if raw is None else (raw.private,),
        ),
        Row(
            name="... PSS",
            unit="MiB",
            ours=(ours.proportional,),
            bare=() if raw is None else (raw.proportional,),
        ),
        Row(
            name="... PSS, the greatest",
            unit="MiB",
            ours=(ours.most,),
            bare=() if raw is None else (raw.most,),
            target=Target(OWN_MIB, of="value"),
        ),
        Row(
            name="... gateway and zygote included, a session",
            unit="MiB",
            ours=(look.whole,),
            bare=() if raw is None else (raw.proportional,),
        ),
    ]


async def starts(scene: Scene, count: int, path: str, before: str) -> tuple[Row, str]:
    """Start to QR of one more, beside raw neonize from its exec; the row, and the last QR."""
    ours: list[float] = []
    raw: list[float] = []
    for number in range(STARTS):
        took, before = await start.start(scene.bed, path, before)
        ours.append(took)
        await start.stop(scene.bed, path)
        name = f"start{count}-{number}"
        async with run_raw(scene.bed.network, scene.bed.scratch, name) as fresh:
            fresh.tell("connect")
            raw.append((float((await fresh.until("qr"))["at"]) - fresh.begun) * 1000)
    return Row(name="... start to QR", unit="ms", ours=tuple(ours), bare=tuple(raw)), before


async def traffic(
    scene: Scene, options: Options, samples: dict[str, list[float]]
) -> tuple[list[Row], list[str]]:
    """Texts both ways, and what memory does meanwhile."""
    bed, over = scene.bed, asyncio.Event()
    hosts = set(scene.crowd.hosts())
    usage = proc.usage()
    looks = [scene.look()]
    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        ours = group.create_task(chat(bed, scene.crowd.linked, options.rate, over))
        raw = group.create_task(raw_chat(bed, scene.raws.raws, options.rate, over))
        for number in range(1, SAMPLES + 1):
            due = begun + options.minutes * 60 * number / SAMPLES
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            looks.append(scene.look())
        over.set()
    shares = proc.spent(usage, proc.usage())
    gone = len(hosts - set(scene.crowd.hosts()))
    came = await arrived(bed.people, ours.result(), [each.contact for each in scene.crowd.linked])
    raw_contacts = [numbers(RAW_FROM + index)[1] for index in range(len(scene.raws.raws))]
    raw_came = await arrived(bed.people, raw.result(), raw_contacts)
    rows, grown = growth(looks, samples)
    most = max(each.ours.most for each in looks)
    raw_most = tuple(max(each.raw.most for each in looks if each.raw) for _ in [0] if looks[0].raw)
    return [
        Row(
            name=f"traffic, {options.minutes:g} min: texts a session and minute",
            unit="",
            ours=(ours.result().rate / len(scene.crowd.linked),),
            bare=(raw.result().rate / len(scene.raws.raws),) if scene.raws.raws else (),
        ),
        Row(
            name="... PSS of a host, the greatest ever",
            unit="MiB",
            ours=(most,),
            bare=raw_most,
            target=Target(OWN_MIB, of="value"),
        ),
        *rows,
    ], [
        (
            f"traffic: {told(ours.result(), came)}; raw neonize: {told(raw.result(), raw_came)}; "
            f"{gone} hosts ended meanwhile"
        ),
        grown,
        f"processors while there was traffic: {shares}",
    ]


def told(chatter: Chatter, came: int) -> str:
    return (
        f"{came} of {len(chatter.out)} texts arrived at the contacts, {chatter.into.total()} "
        f"were written to the sessions, {chatter.failed} failed"
    )


def growth(looks: list[Look], samples: dict[str, list[float]]) -> tuple[list[Row], str]:
    """Slopes once the first texts have filled what is filled once."""
    first = looks[0].at
    length = looks[-1].at - first
    kept = [each for each in looks if each.at - first >= SETTLED_AFTER * length]
    at = [each.at for each in kept]
    samples["traffic, seconds"] = [each.at - first for each in looks]
    samples["traffic, PSS of a host"] = [each.ours.proportional for each in looks]
    samples["traffic, private of a host"] = [each.ours.private for each in looks]
    samples["traffic, PSS of the greatest host"] = [each.ours.most for each in looks]
    samples["traffic, PSS of gateway and zygote"] = [
        each.keepers.proportional * len(each.keepers.each) for each in looks
    ]
    samples["traffic, private of raw"] = [each.raw.private for each in looks if each.raw]
    ours = trend(at, [each.ours.private for each in kept])
    gateway = trend(at, [each.keepers.proportional * len(each.keepers.each) for each in kept])
    raw: tuple[float, ...] = ()
    if kept[0].raw is not None:
        raw = (trend(at, [each.raw.private for each in kept if each.raw]).slope * 3600,)
    begun, ended = looks[0].ours.private, looks[-1].ours.private
    return [
        Row(
            name="... growth of a host, private",
            unit="MiB/h",
            ours=(ours.slope * 3600,),
            bare=raw,
            target=Target(GROWTH, of="value") if length >= JUDGED else None,
        ),
        Row(name="... growth of the gateway", unit="MiB/h", ours=(gateway.slope * 3600,)),
    ], (
        f"growth: {len(kept)} looks over {length * (1 - SETTLED_AFTER) / 60:.3g} minutes; of a "
        f"host {ours.slope * 3600:.2g} ± {ours.error * 3600:.2g} MiB/h, from {begun:.1f} to "
        f"{ended:.1f} MiB since the traffic began"
    )


async def anew(scene: Scene, samples: dict[str, list[float]]) -> Row:
    """From the exec of a gateway until all its sessions are connected; raw, a few at a time."""
    count = len(scene.crowd.linked)
    took, progress = await scene.crowd.restart()
    samples["anew, seconds"] = progress
    bare: tuple[float, ...] = ()
    if scene.raws.raws:
        raw = len(scene.raws.raws)
        bare = (await scene.raws.restart() / raw * 1000,)
    return Row(
        name=f"process start to {count} connected ({took:.0f} s), a session",
        unit="ms",
        ours=(took / count * 1000,),
        bare=bare,
    )
