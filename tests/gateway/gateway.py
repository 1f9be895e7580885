"""A supervisor at work, with lists in the place of AWS."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from gateway.frames import Entry
from gateway.keeper import HostStatus
from gateway.proxies import Proxies
from gateway.supervisor import Supervisor
from sandbox.network import Network
from sandbox.whatsapp.control_client import ControlClient
from shared import clock, ids
from shared.commands import SendMessage
from shared.env import Settings
from shared.errors import Unavailable
from shared.events import SessionConnected, SessionEvent
from shared.ids import CommandId, MessageId, SessionId, TenantId
from shared.message import OnUncertain, Text
from shared.session import Desired, Pairing, Session, SessionState

T = TypeVar("T")

DEADLINE = 30.0
"""Seconds for anything a test waits for; generous, for busy machines."""


def new_session() -> Session:
    now = clock.millis()
    return Session(
        id=SessionId(clock.mint(ids.SESSION)),
        tenant_id=TenantId(clock.mint(ids.TENANT)),
        name="a number",
        shard=0,
        state=SessionState.CREATED,
        desired=Desired.RUNNING,
        created_at=now,
        updated_at=now,
    )


def order(
    session: Session, to: str, text: str, on_uncertain: OnUncertain = OnUncertain.REPORT
) -> SendMessage:
    now = clock.millis()
    return SendMessage(
        id=CommandId(clock.mint(ids.COMMAND)),
        tenant_id=session.tenant_id,
        session_id=session.id,
        issued_at=now,
        expires_at=now + clock.MINUTE,
        message_id=MessageId(clock.mint(ids.MESSAGE)),
        to=to,
        content=Text(text),
        on_uncertain=on_uncertain,
    )


def gone(pid: int) -> bool:
    """Whether a process is no more, or only waits to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


class Gateway:
    """One gateway's supervisor, what it recorded, and what it offered."""

    def __init__(
        self,
        network: Network,
        store: Path | str,
        prelude: str = "sandbox.trust",
        *,
        patience: float = 1.0,
        proxies: Proxies | None = None,
    ) -> None:
        self.entries: list[Entry] = []
        self.pairings: list[Pairing] = []
        self.offers: dict[SessionId, Pairing] = {}
        """The newest of each session."""
        self.deadline = DEADLINE
        self.stores_away: list[SessionId] = []
        """Sessions of which it was said, each time."""
        self.away = False
        """AWS does not answer."""
        self._news = asyncio.Event()
        self.settings = Settings(
            device_store=str(store),
            host_prelude=prelude,
            whatsapp_proxy=network.proxy_url,
            log_level="INFO",
            patience=patience,
        )
        self.lease = 9.0
        """Seconds a renewal lets a host live."""
        self.renewed: float | None = None
        """The last renewal (monotonic seconds), if there are no more."""
        self.supervisor = Supervisor(
            settings=self.settings,
            proxies=proxies,
            record=self._record,
            offer=self._offer,
            store_away=self._store_away,
            now=clock.millis,
            until=self._until,
        )

    async def _record(self, session: Session, entries: Sequence[Entry]) -> None:
        if self.away:
            raise Unavailable("dynamodb", "put_item", "ConnectionError")
        assert all(entry.event.session_id == session.id for entry in entries)
        self.entries += entries
        self._news.set()

    def _until(self, _: Session) -> float | None:
        now = time.monotonic()
        until = (self.renewed or now) + self.lease
        return until if until > now else None

    async def _offer(self, session: Session, pairing: Pairing) -> None:
        self.pairings.append(pairing)
        self.offers[session.id] = pairing
        self._news.set()

    async def _store_away(self, session: Session) -> None:
        self.stores_away.append(session.id)

    def limit(self, **seconds: float) -> None:
        """Change some limits of what hosts may take."""
        house = self.supervisor._house  # pyright: ignore[reportPrivateUsage] (a test may change what no setting does)
        changed = msgspec.structs.replace(house.limits, **seconds)
        object.__setattr__(house, "limits", changed)

    def events(self, session: Session) -> list[SessionEvent]:
        return [entry.event for entry in self.entries if entry.event.session_id == session.id]

    def kinds(self, session: Session) -> list[str]:
        """`connected`, `sent` … in order."""
        return [type(event).__name__ for event in self.events(session)]

    async def until(self, check: Callable[[], T | None]) -> T:
        """Wait until `check` finds something among what was recorded and offered."""
        try:
            async with asyncio.timeout(self.deadline):
                while not (found := check()):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pytest.fail(f"it did not come in {self.deadline} s; recorded were {self.entries}")
        return found

    async def event(self, session: Session, kind: type[T], after: int = 0) -> T:
        """The first event of a kind beyond a sequence."""

        def find() -> T | None:
            return next(
                (
                    event
                    for event in self.events(session)
                    if isinstance(event, kind) and event.sequence > after
                ),
                None,
            )

        return await self.until(find)

    @property
    def last(self) -> int:
        return self.entries[-1].event.sequence if self.entries else 0

    @property
    def zygote(self) -> int | None:
        return self.supervisor._house.nursery.pid  # pyright: ignore[reportPrivateUsage] (a test may look inside)

    async def until_sending(self, session: Session) -> None:
        """Wait until the host has a message in the library's hands."""
        await self._poll(lambda: any(each.sending_for > 0 for each in self._hosts(session)))

    async def until_drained(self, session: Session) -> None:
        """Wait until the host says that all its entries are recorded."""
        await self._poll(lambda: any(each.journal_depth == 0 for each in self._hosts(session)))

    async def until_heard(self, session: Session) -> None:
        """Wait until the host has looked at its connection, and found one."""
        await self._poll(lambda: any(each.heard_ago is not None for each in self._hosts(session)))

    async def until_journalled(self, session: Session) -> None:
        """Wait until the host has an entry that is not recorded."""
        await self._poll(lambda: any(each.journal_depth > 0 for each in self._hosts(session)))

    async def until_ending(self, session: Session) -> None:
        """Wait until the host is gone for good, whatever of it is still to be recorded."""
        await self._poll(lambda: self.pid(session) is None)

    async def until_matter(self) -> None:
        """Wait until something is the matter with the hosts as a whole."""
        await self._poll(lambda: self.supervisor.matter() is not None)

    async def until_gone(self, pid: int) -> None:
        """Wait until a process is no more."""
        await self._poll(lambda: gone(pid))

    async def until_not_held(self, session: Session) -> None:
        await self._poll(lambda: not self.supervisor.holds(session.id))

    async def _poll(self, check: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(self.deadline):
                while not check():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"it did not come about in {self.deadline} s")

    def _hosts(self, session: Session) -> list[HostStatus]:
        return [each for each in self.supervisor.snapshot() if each.session_id == session.id]

    def pid(self, session: Session) -> int | None:
        return next(
            (each.pid for each in self.supervisor.snapshot() if each.session_id == session.id), None
        )

    def host(self, session: Session) -> int:
        """The pid of the host it has now; 0 would be every process of the test run."""
        pid = self.pid(session)
        assert pid is not None
        return pid


@asynccontextmanager
async def gateway(
    network: Network,
    store: Path | str,
    prelude: str = "sandbox.trust",
    *,
    patience: float = 1.0,
    proxies: Proxies | None = None,
) -> AsyncGenerator[Gateway]:
    """A gateway at work until the context ends; then nothing of it runs any more."""
    running = Gateway(network, store, prelude, patience=patience, proxies=proxies)
    async with asyncio.TaskGroup() as group:
        group.create_task(running.supervisor.run())
        try:
            yield running
        finally:
            await running.supervisor.close()


async def link(running: Gateway, control: ControlClient, session: Session, number: str) -> None:
    """Start a session and scan its QR with the phone of a number, which is made up for it."""
    await control.create_person(number, "Anna")
    await running.supervisor.start(session)
    pairing = await running.until(lambda: running.offers.get(session.id))
    await control.scan(number, pairing.qr)
    await running.event(session, SessionConnected)


def sequences(running: Gateway, session: Session) -> list[int]:
    """What was recorded, without what was recorded twice."""
    return sorted({event.sequence for event in running.events(session)})
