"""Every way a connection ends, done to sessions with the real library, all at the same time."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.frames import Watch
from sandbox.network import run_network
from sandbox.whatsapp import control_types as faults
from sandbox.whatsapp.control_client import ControlClient
from shared.events import SessionChange
from shared.session import Reason, SessionState
from tests.gateway.ends import BACK, FRIEND, LOST, SILENT, WAYS, Scene, Told, play, readme
from tests.gateway.gateway import Gateway, gateway
from tests.gateway.hasty import HASTE

pytestmark = pytest.mark.timeout(300)

PATIENCE = 120.0
"""Seconds for anything that is waited for: dozens of hosts share the machine."""

UNANSWERED: Told = (SessionState.STARTING, Reason.CONNECTION_LOST)

_numbers = itertools.count(10)


def some_number() -> str:
    return f"+49151123400{next(_numbers)}"


class Stage:
    """A WhatsApp and a gateway of its own, whose times are a third of the usual.

    A host that is started, or a phone's confirmation, may take its time: dozens start at once.
    """

    def __init__(self, here: Gateway, control: ControlClient) -> None:
        self.here = here
        self.control = control

    def scene(self) -> Scene:
        return Scene(self.here, self.control, some_number())

    async def offered(self, scene: Scene) -> None:
        """Start a session, up to its first QR."""
        await self.control.create_person(scene.number, "Anna")
        await self.here.supervisor.start(scene.session)
        await self.here.until(lambda: self.here.offers.get(scene.session.id))
        scene.look()

    async def scan(self, scene: Scene) -> None:
        await self.control.scan(scene.number, self.here.offers[scene.session.id].qr)

    def watches(self) -> dict[Watch, int]:
        """What the metrics say of watches that stepped in."""
        return dict(self.here.supervisor.watches)

    def account(self) -> str:
        """All that tenants were told of how their sessions are, for whoever reads of a failure."""
        told = [
            f"{event.session_id} {event.sequence} at {event.timestamp:%T.%f}: {event.data}"
            for event in (entry.event for entry in self.here.entries)
            if isinstance(event.data, SessionChange)
        ]
        return "\n".join([*told, f"watches: {self.watches()}"])


@asynccontextmanager
async def stage(home: Path) -> AsyncGenerator[Stage]:
    async with run_network(home / "network") as network:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in network.client_environment().items():
                patch.setenv(name, value)
            running = gateway(network, home / "devices", "tests.gateway.hasty", patience=HASTE)
            here = await running.__aenter__()
        try:
            async with ControlClient(network.control_url) as control:
                here.deadline = PATIENCE
                here.lease = 40.0
                here.limit(login_after_pairing=60.0, pulse=60.0)
                await control.create_person(FRIEND, "Friend")
                yield Stage(here, control)
        finally:
            await running.__aexit__(None, None, None)


async def fails_unsaid(storm: Stage) -> None:
    """The library dials once after pairing, and once when asked for a new stream, and is mute."""
    new, old = storm.scene(), storm.scene()
    await old.open()
    storm.here.limit(login_after_pairing=9.0)
    await storm.offered(new)
    await storm.control.fail_dials("cut", 2)
    await asyncio.gather(storm.scan(new), old.fault(faults.StreamError(515)))

    await old.until_told(SILENT, BACK)
    await new.until_told(UNANSWERED, BACK)
    await asyncio.gather(old.speaks(), new.speaks())
    assert old.told() == [SILENT, BACK]
    assert new.told() == [(SessionState.STARTING, None), UNANSWERED, BACK]
    assert storm.watches() == {Watch.UNCONNECTED: 1, Watch.LOGIN_AFTER_PAIRING: 1}


async def never_answered(storm: Stage) -> None:
    """The first one of a process or a later one: the library would wait for ever."""
    first, later = storm.scene(), storm.scene()
    await asyncio.gather(first.open(), later.open())
    await storm.here.supervisor.stop(first.session.id)
    first.look()
    await storm.control.fail_dials("hang", 2)
    await asyncio.gather(storm.here.supervisor.start(first.session), later.fault(faults.Drop()))
    await asyncio.gather(first.until_told(UNANSWERED, BACK), later.until_told(LOST, BACK))
    await asyncio.gather(first.speaks(), later.speaks())
    assert first.told() == [(SessionState.STARTING, None), UNANSWERED, BACK]
    assert later.told() == [LOST, BACK]
    assert storm.here.pid(later.session) != later.pid
    assert storm.watches() == {Watch.FIRST_WORD: 1, Watch.REDIAL: 1}


async def cut_handshake(storm: Stage) -> None:
    """By the library, after a drop; by a new process, if it was the first dial of the old one.

    Either way the library waits for 20 seconds before it takes notice.
    """
    storm.here.limit(first_word=60.0, redial=60.0)
    first, later = storm.scene(), storm.scene()
    await asyncio.gather(first.open(), later.open())
    await storm.here.supervisor.stop(first.session.id)
    first.look()
    await storm.control.fail_dials("cut", 2)
    await asyncio.gather(storm.here.supervisor.start(first.session), later.fault(faults.Drop()))
    await asyncio.gather(first.until_told(UNANSWERED, BACK), later.until_told(LOST, BACK))
    await asyncio.gather(first.speaks(), later.speaks())
    assert later.told() == [LOST, BACK]
    assert storm.here.pid(later.session) == later.pid
    assert storm.watches() == {}


async def network_down(storm: Stage) -> None:
    """While nobody gets through they dial seldom, and tell once; the first that does wakes all."""
    scenes = [storm.scene() for _ in range(6)]
    await asyncio.gather(*(scene.open() for scene in scenes))
    await storm.control.down(50)
    await asyncio.gather(*(scene.until_told(LOST) for scene in scenes))
    await storm.here.until_matter()
    assert (storm.here.supervisor.matter() or "").endswith("do not get through to WhatsApp")
    await asyncio.gather(*(scene.speaks() for scene in scenes))
    assert [scene.told() for scene in scenes] == [[LOST, BACK]] * len(scenes)
    assert storm.here.supervisor.matter() is None
    assert storm.watches() == {Watch.REDIAL: len(scenes)}


STORMS = (fails_unsaid, never_answered, cut_handshake, network_down)
"""What is done to a network, and so to everybody on it: each has one of its own."""


Played = dict[str, BaseException | None]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """What each way came to: None where it was as it must be. They take place at the same time."""

    async def on_a_stage(play: Callable[[Stage], Awaitable[Played]]) -> Played:
        async with stage(tmp_path_factory.mktemp("ends")) as where:
            results = await play(where)
            for error in filter(None, results.values()):
                error.add_note(where.account())
            return results

    async def outcome(work: Awaitable[None]) -> BaseException | None:
        try:
            await work
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 (the test of that way raises it)
            return error
        return None

    async def ways(where: Stage) -> Played:
        where.here.limit(pulse=20.0)  # one of them stands still
        results = await asyncio.gather(*(outcome(play(where.scene(), way)) for way in WAYS))
        return dict(zip((way.name for way in WAYS), results, strict=True))

    def alone(storm: Callable[[Stage], Awaitable[None]]) -> Callable[[Stage], Awaitable[Played]]:
        async def play(where: Stage) -> Played:
            return {storm.__name__: await outcome(storm(where))}

        return play

    parts = await asyncio.gather(*map(on_a_stage, (ways, *map(alone, STORMS))))
    return {name: error for part in parts for name, error in part.items()}


def test_the_readme_has_the_table() -> None:
    """What is tested here is what is promised there."""
    assert readme() in (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.parametrize(
    "name", [*(way.name for way in WAYS), *(storm.__name__ for storm in STORMS)], ids=str
)
def test_a_connection_ends(name: str, played: Played) -> None:
    """The tenant is told what the table says, and the session goes on, or rests, as it says."""
    error = played[name]
    if error is not None:
        raise error
