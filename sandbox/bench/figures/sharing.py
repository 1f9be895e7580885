"""Sharing: whether several sessions could live in one process. Not a figure but an experiment.

Some sessions stay connected, with texts both ways; others are stopped and started, one after the
other: first while they are connected, then in the moment after their connection was dropped, when
the library dials. What counts is how often the process dies of it, with every session that it held.
"""

import asyncio
import itertools
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from sandbox.bench import proc
from sandbox.bench.bed import numbers, run_network_apart
from sandbox.bench.clockwork import Clockwork
from sandbox.bench.options import Options
from sandbox.bench.raw import Raw, RawError, run_client, store
from sandbox.bench.samples import Result, Row, Target
from sandbox.bench.trend import trend
from sandbox.network import Network
from sandbox.whatsapp.control_client import ControlClient, ControlError
from sandbox.whatsapp.control_types import Drop

Say = Callable[[str], None]

SCRIPT: Final = Path(__file__).parents[1] / "sharing_host.py"
RESIDENTS: Final = 4
COMERS: Final = 4
"""Sessions that come and go."""
LEFT: Final = 0.01
"""What a stop may leave behind: a slope that is nought but for noise."""
LONGEST: Final = 600.0
"""Seconds of coming and going."""
PAUSE: Final = 0.2
"""Seconds between two texts of a session, each way."""
DIAL: Final = 0.1
"""Seconds that a dial takes, more or less."""
_DEADLY: Final = re.compile(r"^(fatal error: .*|panic: .*|SIG[A-Z]+: .*)$", re.MULTILINE)


@dataclass
class Tally:
    """What came of it."""

    starts: int = 0
    stops: int = 0
    hung: Counter[str] = field(default_factory=Counter[str])
    aborts: Counter[str] = field(default_factory=Counter[str])
    """By what the library printed."""
    texts: int = 0
    seconds: list[float] = field(default_factory=list[float])
    """Of each start."""
    lives: list[list["Left"]] = field(default_factory=list[list["Left"]])
    """What each process had after each cycle."""

    @property
    def longest(self) -> list["Left"]:
        return max(self.lives, key=len)


@dataclass(frozen=True)
class Left:
    """What a process holds when a session has ended."""

    threads: int
    databases: int
    descriptors: int
    private: float


def left(pid: int) -> Left:
    """Raises OSError where it is gone."""
    targets: list[str] = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            targets.append(str(entry.readlink()))
        except OSError:
            continue
    databases = sum(".db" in each for each in targets)
    threads = sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
    return Left(threads, databases, len(targets), proc.memory(pid).private)


async def measure(home: Path, options: Options, clockwork: Clockwork, say: Say) -> Result:
    clockwork.tick()
    async with AsyncExitStack() as rest:
        folder = Path(rest.enter_context(tempfile.TemporaryDirectory(prefix="zapgate-sharing-")))
        network = await rest.enter_async_context(run_network_apart(folder / "whatsapp"))
        people = await rest.enter_async_context(ControlClient(network.control_url))
        trial = Trial(network, people, folder, home / "logs", say)
        await trial.link()
        connected = await trial.run(options.cycles, dialling=False)
        clockwork.tick()
        dialling = await trial.run(options.cycles, dialling=True)
    return merged(result("connected", connected), result("dialling", dialling))


class Trial:
    """One trial; process after process if they die."""

    def __init__(
        self, network: Network, people: ControlClient, folder: Path, logs: Path, say: Say
    ) -> None:
        self.tally = Tally()
        self._network = network
        self._people = people
        self._folder = folder
        self._logs = logs
        self._say = say
        self._lives = 0
        self._until = 0.0
        self._dialling = False
        self._clients = [f"client{number}" for number in range(RESIDENTS + COMERS)]

    async def link(self) -> None:
        """Link each session once, in a process that nothing else is done in."""
        async with run_client(
            SCRIPT, self._network, self._log("link"), [self._network.proxy_url]
        ) as process:
            await process.until("loaded")
            for index, client in enumerate(self._clients):
                owner, contact = numbers(index)
                await self._people.create_person(owner, f"Owner {index}")
                await self._people.create_person(contact, f"Contact {index}")
                process.tell("start", client=client, store=self._store(client))
                qr = await process.until("qr", lambda event, of=client: event["client"] == of)
                await self._people.scan(owner, qr["text"])
                await process.until("started", lambda event, of=client: event["client"] == of)

    async def run(self, cycles: int, *, dialling: bool) -> Tally:
        """Until so many were started and stopped, or the time is over.

        With `dialling`, each is stopped in the moment after its connection was dropped.
        """
        self.tally, self._dialling = Tally(), dialling
        self._until = time.monotonic() + LONGEST
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write(over))
            try:
                while not self._done(cycles):
                    await self._life(cycles)
            finally:
                over.set()
        return self.tally

    def _done(self, cycles: int) -> bool:
        return min(self.tally.starts, self.tally.stops) >= cycles or time.monotonic() > self._until

    async def _life(self, cycles: int) -> None:
        """One process, until it dies, hangs, or all is done."""
        self._lives += 1
        log = self._log(f"life-{self._lives}")
        kept: list[Left] = []
        self.tally.lives.append(kept)
        async with run_client(SCRIPT, self._network, log, [self._network.proxy_url]) as process:
            try:
                await process.until("loaded")
                for index, client in enumerate(self._clients):
                    await self._start(process, client)
                    if index < RESIDENTS:
                        process.tell("write", client=client, to=numbers(index)[1], pause=PAUSE)
                for client in itertools.cycle(self._clients[RESIDENTS:]):
                    if self._done(cycles):
                        return
                    if self._dialling:
                        await self._drop(client)
                    await self._stop(process, client)
                    kept.append(left(process.process.pid))
                    await self._start(process, client)
                    if len(kept) % 100 == 0:
                        self._say(f"  {self.tally.stops} stops, {kept[-1]}")
            except (RawError, OSError) as error:
                why = await self._verdict(process, log, error)
                self._say(f"  after {len(kept)} cycles: {why}")

    async def _verdict(self, process: Raw, log: Path, error: Exception) -> str:
        """Whether it died, and of what, or hung."""
        hung = next((each for each in process.events if each["event"] == "hung"), None)
        if hung is not None:
            self.tally.hung[hung["what"]] += 1
            return f"a {hung['what']} hung"
        if process.process.returncode is None and not _gone(process):
            self.tally.hung["answer"] += 1
            return f"no answer: {error}"
        status = await process.process.wait()
        found = _DEADLY.search(await asyncio.to_thread(log.read_text, errors="replace"))
        why = found[1] if found is not None else f"ended with {status}"
        self.tally.aborts[why] += 1
        return why

    async def _start(self, process: Raw, client: str) -> None:
        process.events.clear()
        self.tally.starts += 1
        process.tell("start", client=client, store=self._store(client))
        told = await process.until("started")
        self.tally.seconds.append(float(told["seconds"]))

    async def _stop(self, process: Raw, client: str) -> None:
        process.events.clear()
        self.tally.stops += 1
        process.tell("stop", client=client)
        told = await process.until("stopped")
        self.tally.texts = max(self.tally.texts, int(told["sent"]) + int(told["received"]))

    async def _drop(self, client: str) -> None:
        owner, _ = numbers(self._clients.index(client))
        await self._people.fault(owner, Drop())
        await asyncio.sleep(random.uniform(0, DIAL))  # noqa: S311 - not a secret

    async def _write(self, over: asyncio.Event) -> None:
        """Texts to all of them, whether connected or not."""
        for index in itertools.cycle(range(len(self._clients))):
            if over.is_set():
                return
            owner, contact = numbers(index)
            try:
                await self._people.send(contact, owner, "a text")
            except (ControlError, aiohttp.ClientError, TimeoutError) as error:
                self._say(f"  a text was not written: {error!r}")
            await asyncio.sleep(PAUSE / len(self._clients))

    def _log(self, name: str) -> Path:
        """A fresh file for what a process prints, above all when it aborts."""
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"sharing-{name}.log"
        log.unlink(missing_ok=True)
        return log

    def _store(self, client: str) -> str:
        return store(self._folder / f"{client}.db")


def _gone(process: Raw) -> bool:
    return any(each["event"] == "gone" for each in process.events)


def result(when: str, tally: Tally) -> Result:
    """The verdict: none may have died, hung, or left anything behind."""
    both = tally.starts + tally.stops
    longest = tally.longest
    rows = [
        Row(
            name=f"stopped while {when}: aborts in 1,000 starts and stops",
            unit="",
            ours=(tally.aborts.total() / both * 1000,),
            target=Target(0, of="value"),
        ),
        Row(
            name="... hung",
            unit="",
            ours=(tally.hung.total() / both * 1000,),
            target=Target(0, of="value"),
        ),
    ]
    counted = {
        "threads": [float(each.threads) for each in longest],
        "database handles": [float(each.databases) for each in longest],
        "KiB of memory": [each.private * 1024 for each in longest],
    }
    at = [float(number) for number in range(len(longest))]
    rows += [
        Row(
            name=f"... {name} left by each",
            unit="",
            ours=(trend(at, values).slope,),
            target=Target(LEFT, of="value"),
        )
        for name, values in counted.items()
        if len(values) > 2
    ]
    return Result(
        rows=tuple(rows),
        notes=(
            (
                f"stopped while {when}: {tally.starts} starts and {tally.stops} stops beside "
                f"{RESIDENTS} connected sessions, {tally.texts} texts of the last process, in "
                f"{len(tally.lives)} processes; aborts {dict(tally.aborts)}, hung "
                f"{dict(tally.hung)}; what is left is of the longest life, {len(longest)} stops"
            ),
        ),
        samples={
            f"{when}: starts, seconds": tally.seconds,
            f"{when}: stops of each life": [float(len(each)) for each in tally.lives],
            **{f"{when}: {name}": values for name, values in counted.items()},
        },
    )


def merged(*results: Result) -> Result:
    return Result(
        rows=tuple(row for each in results for row in each.rows),
        notes=tuple(note for each in results for note in each.notes),
        samples={name: values for each in results for name, values in each.samples.items()},
    )
