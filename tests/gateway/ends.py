"""How a connection can end, what a tenant is told, and what happens then: one table.

The tests do each of them to a session of its own, and the README shows the table.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.changes import follow
from sandbox.whatsapp import control_types as faults
from sandbox.whatsapp.control_client import ControlClient
from shared.events import (
    MessageReceived,
    MessageSent,
    MessageUncertain,
    SessionChange,
    SessionConnected,
)
from shared.message import Text
from shared.session import Reason, Session, SessionState
from tests.gateway.gateway import Gateway, link, new_session, order
from tests.gateway.hasty import FREEZE

FRIEND = "+4915112340000"
"""Everybody's contact."""

Told = tuple[SessionState, Reason | None]

_S, _R = SessionState, Reason

BACK: Told = (_S.CONNECTED, None)
LOST: Told = (_S.RECONNECTING, _R.CONNECTION_LOST)
SILENT: Told = (_S.RECONNECTING, _R.SILENT)
DIED: Told = (_S.RECONNECTING, _R.HOST_DIED)


class Then(StrEnum):
    """What happens after that, as the README says it."""

    NOTHING = "it stays connected"
    LIBRARY = "its process dials again"
    PROCESS = "a new process dials"
    BAN = "it rests until the ban is over"
    START = "it rests until you start it"
    PAIR = "it rests; start it to pair the number again"


OPENING = asyncio.Semaphore(6)
"""Sessions that are linked at a time. All at once they would take so long that the first of them
were told silent: the times of the watches are short here."""


@dataclass
class Scene:
    """One linked session, and what is done to it."""

    here: Gateway
    control: ControlClient
    number: str
    session: Session = field(default_factory=new_session)
    pid: int = 0
    since: int = 0
    """The sequence of what was recorded before."""

    async def open(self) -> None:
        async with OPENING:
            await link(self.here, self.control, self.session, self.number)
        self.pid = self.here.host(self.session)
        self.look()

    def look(self) -> None:
        """Take what is told from now on."""
        self.since = max(event.sequence for event in self.here.events(self.session))

    async def fault(self, fault: faults.Fault) -> None:
        await self.control.fault(self.number, fault)

    def told(self) -> list[Told]:
        """The changes since the beginning, in order."""
        return [
            (event.data.state, event.data.reason)
            for event in self.here.events(self.session)
            if event.sequence > self.since and isinstance(event.data, SessionChange)
        ]

    async def until_told(self, *changes: Told) -> None:
        """Wait until these were told, in this order and each at least once."""

        def found() -> bool:
            told = iter(self.told())
            return all(change in told for change in changes)

        await self.here.until(found)

    def state(self) -> Told:
        """What the API shows: the row, to which the recorded events were applied."""
        row = self.session
        for event in self.here.events(self.session):
            row = follow(row, event)
        return row.state, row.reason

    async def says(self, text: str) -> None:
        """Send a text; returns once its outcome is recorded."""
        await self.here.supervisor.send(order(self.session, FRIEND, text))

    async def speaks(self) -> None:
        """A message goes out and another comes in, and neither twice."""
        out, back = f"out of {self.number}", f"into {self.number}"
        await self.control.send(FRIEND, self.number, back)
        await self.says(out)
        await self.here.event(self.session, MessageSent, after=self.since)
        await self.here.until(lambda: back in self.heard())
        assert self.heard().count(back) == 1

    def heard(self) -> list[str]:
        contents = [
            event.data.content
            for event in self.here.events(self.session)
            if isinstance(event, MessageReceived)
        ]
        return [content.text for content in contents if isinstance(content, Text)]

    async def count(self) -> Counter[str]:
        """What the contact received, by text."""
        return Counter(each.text for each in await self.control.received(FRIEND))


Strike = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True)
class Way:
    """One way a connection ends."""

    row: str
    """What happens, as the README says it; several ways may share a row."""
    name: str
    strike: Strike
    told: tuple[Told, ...]
    """All a tenant hears of it, in order."""
    then: Then
    often: bool = False
    """It is told more than once."""
    quiet: bool = False
    """Nothing can be ordered meanwhile that will certainly go out."""


def fault(made: faults.Fault) -> Strike:
    return lambda scene: scene.fault(made)


def kill(number: signal.Signals) -> Strike:
    async def strike(scene: Scene) -> None:
        os.kill(scene.pid, number)

    return strike


def refused(reason: int, times: int = 1) -> Strike:
    return fault(faults.FailLogin(reason, times))


async def nonsense(scene: Scene) -> None:
    """What is not understood, and must not be fatal."""
    for what in ("chatstate", "stanza", "junk", "noise"):
        await scene.fault(faults.Poison(what))


async def silence(scene: Scene) -> None:
    """The connection stays open, and nothing comes."""
    await scene.fault(faults.Silence())
    await scene.until_told(SILENT)
    await scene.fault(faults.Clear())


async def flapping(scene: Scene) -> None:
    """Every login is taken, and its connection dropped."""
    await scene.fault(faults.Flap(1000))
    await scene.here.until_gone(scene.pid)
    await scene.fault(faults.Clear())


async def stuck(scene: Scene) -> None:
    """A message is never acknowledged."""
    await scene.fault(faults.AckDelay(600))
    await scene.says(f"stuck of {scene.number}")
    await scene.here.event(scene.session, MessageUncertain, after=scene.since)
    await scene.fault(faults.Clear())


async def stuck_after_a_drop(scene: Scene) -> None:
    """The library sends it again after a drop, and then waits for its acknowledgement for ever."""
    await scene.fault(faults.AckDelay(600))
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.says(f"stuck of {scene.number}"))
        await scene.here.until_sending(scene.session)
        await scene.fault(faults.Drop())
        await scene.here.event(scene.session, MessageUncertain, after=scene.since)
        await scene.fault(faults.Clear())


async def frozen(scene: Scene) -> None:
    """What came in is never taken."""
    await scene.control.send(FRIEND, scene.number, FREEZE)
    await scene.here.until_gone(scene.pid)


WAYS = (
    Way("the connection is closed", "drop", fault(faults.Drop()), (LOST, BACK), Then.LIBRARY),
    *(
        Way(
            "WhatsApp ends the stream: 503, 516 or any code it may think of",
            f"stream-{code}",
            fault(faults.StreamError(code)),
            (LOST, BACK),
            Then.LIBRARY,
        )
        for code in (503, 516, 599)
    ),
    Way(
        "WhatsApp asks for a new stream (515)",
        "stream-515",
        fault(faults.StreamError(515)),
        (),
        Then.NOTHING,
    ),
    *(
        Way(
            "WhatsApp is overloaded (login answered 500, 503)",
            f"login-{code}",
            refused(code, 2),
            (LOST, BACK),
            Then.LIBRARY,
        )
        for code in (500, 503)
    ),
    *(
        Way(
            "the login is answered with a code nobody knows (411, 415, 418 …)",
            f"login-{code}",
            refused(code),
            (LOST, BACK),
            Then.PROCESS,
        )
        for code in (411, 415, 418, 599)
    ),
    Way(
        "nothing comes over the open connection for 70 s",
        "silence",
        silence,
        (SILENT, BACK),
        Then.PROCESS,
    ),
    Way(
        "the connection is taken and dropped, five times in a minute",
        "flapping",
        flapping,
        (LOST, BACK),
        Then.PROCESS,
        often=True,
        quiet=True,
    ),
    Way(
        "WhatsApp says what makes the library deaf (a receipt of an unknown type)",
        "poison",
        fault(faults.Poison("receipt")),
        (LOST, BACK),
        Then.PROCESS,
    ),
    Way(
        "WhatsApp says what nobody understands, or garbage",
        "nonsense",
        nonsense,
        (),
        Then.NOTHING,
    ),
    *(
        Way(
            "WhatsApp says what aborts the library's process (login answered 413, 414)",
            f"login-{code}",
            fault(faults.Abort(code)),
            (LOST, DIED, BACK),
            Then.PROCESS,
        )
        for code in (413, 414)
    ),
    *(
        Way(
            "the session's process is killed or aborts",
            number.name,
            kill(number),
            (DIED, BACK),
            Then.PROCESS,
        )
        for number in (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV)
    ),
    Way(
        "the session's process stands still for 30 s",
        "SIGSTOP",
        kill(signal.SIGSTOP),
        (DIED, BACK),
        Then.PROCESS,
    ),
    Way(
        "an event cannot be taken for 30 s",
        "frozen",
        frozen,
        (DIED, BACK),
        Then.PROCESS,
        quiet=True,
    ),
    Way(
        "a message is stuck in the library for 90 s (it is `uncertain` then)",
        "stuck",
        stuck,
        (DIED, BACK),
        Then.PROCESS,
        quiet=True,
    ),
    Way(
        "a message is stuck in the library for 90 s (it is `uncertain` then)",
        "stuck-after-a-drop",
        stuck_after_a_drop,
        (LOST, BACK, DIED, BACK),
        Then.PROCESS,
        quiet=True,
    ),
    Way(
        "another client takes the device's place",
        "replaced",
        fault(faults.Replaced()),
        ((_S.FAILED, _R.REPLACED),),
        Then.START,
    ),
    *(
        Way(
            "the login is refused (400, 409, 501)",
            f"login-{code}",
            refused(code),
            (LOST, (_S.FAILED, _R.CONNECTION_REFUSED)),
            Then.START,
        )
        for code in (400, 409, 501)
    ),
    Way(
        "the client is too old (405)",
        "login-405",
        refused(405),
        (LOST, (_S.FAILED, _R.CLIENT_OUTDATED)),
        Then.START,
    ),
    *(
        Way(
            "the account is banned for a time (402)",
            f"ban-{code}",
            fault(faults.Ban(code)),
            (LOST, (_S.BANNED, _R.TEMPORARILY_BANNED)),
            Then.BAN,
        )
        for code in (101, 107)
    ),
    Way(
        "the device is removed on the phone",
        "removed",
        fault(faults.LogOut()),
        ((_S.LOGGED_OUT, _R.REMOVED_ON_PHONE),),
        Then.PAIR,
    ),
    Way(
        "the device was removed meanwhile (401)",
        "login-401",
        refused(401),
        (LOST, (_S.LOGGED_OUT, _R.REMOVED_ON_PHONE)),
        Then.PAIR,
    ),
    Way(
        "the account is locked (403)",
        "login-403",
        refused(403),
        (LOST, (_S.LOGGED_OUT, _R.ACCOUNT_LOCKED)),
        Then.PAIR,
    ),
    Way(
        "the account is banned (406)",
        "login-406",
        refused(406),
        (LOST, (_S.BANNED, _R.ACCOUNT_BANNED)),
        Then.PAIR,
    ),
)


STORMS: tuple[tuple[str, Told, Then], ...] = (
    (
        "no connection comes about: refused, cut, or not answered for 90 s",
        LOST,
        Then.PROCESS,
    ),
    (
        "the library's one dial after pairing fails, and it says nothing for 45 s",
        (_S.STARTING, _R.CONNECTION_LOST),
        Then.PROCESS,
    ),
    (
        "the library's one dial for a new stream fails, and it says nothing for 15 s",
        SILENT,
        Then.PROCESS,
    ),
)
"""What can be done only to a network, and so to everybody on it: as `Way` has it."""


def readme() -> str:
    """The table as the README shows it."""
    rows = [(way.row, way.told, way.then) for way in WAYS]
    rows += [(row, (told,), then) for row, told, then in STORMS]
    lines = [
        "| what happens | state and reason | then |",
        "|---|---|---|",
        *(f"| {row} | {_shown(told)} | {then.value} |" for row, told, then in rows),
    ]
    return "\n".join(dict.fromkeys(lines)) + "\n"


def _shown(told: tuple[Told, ...]) -> str:
    """The last thing that is told before the session is back."""
    ends = [(state, reason) for state, reason in told if reason is not None]
    if not ends:
        return "none"
    state, reason = ends[-1]
    return f"`{state.value}`, `{reason.value}`"


async def play(scene: Scene, way: Way) -> None:
    """Do it to a linked session, and hold what follows against the table."""
    here, session = scene.here, scene.session
    await scene.open()
    await way.strike(scene)
    await scene.until_told(*way.told[: 1 if not way.quiet else None])
    match way.then:
        case Then.NOTHING | Then.LIBRARY | Then.PROCESS:
            # From the first word of it on: what is ordered meanwhile waits.
            await scene.speaks()
            await scene.until_told(*way.told)
            assert scene.state() == BACK
            assert here.supervisor.holds(session.id)
            same = here.pid(session) == scene.pid
            assert same is (way.then is not Then.PROCESS)
        case Then.BAN | Then.START | Then.PAIR:
            await scene.until_told(*way.told)
            assert scene.state() == way.told[-1]
            await here.until_not_held(session)
            await here.until_gone(scene.pid)
    told = scene.told()
    assert (list(dict.fromkeys(told)) if way.often else told) == list(way.told)
    if way.then in {Then.BAN, Then.START}:
        scene.look()
        await here.supervisor.start(session)
        await here.event(session, SessionConnected, after=scene.since)
    elif way.then is Then.PAIR:
        del here.offers[session.id]
        await here.supervisor.start(session)
        await here.until(lambda: here.offers.get(session.id))
    counted = await scene.count()
    assert all(number <= 1 for text, number in counted.items() if text.endswith(scene.number))
