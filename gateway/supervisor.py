"""The sessions this gateway holds: started when they are won, stopped when they are lost.

Calls for one session take their turn; sessions run side by side. Each session has a keeper, and
each keeper, most of the time, a host.
"""

import asyncio
import logging
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from gateway.aside import Aside
from gateway.changes import Change
from gateway.frames import Entry, Stop, Watch
from gateway.gate import Gate
from gateway.host.journal import Journal
from gateway.host.ledger import PAGE
from gateway.host.place import DATABASE, in_database
from gateway.host.sender import settle_interrupted
from gateway.host.store import StoreFailed
from gateway.house import House, Publish, Record, Tell, store
from gateway.keeper import HostStatus, Keeper
from gateway.limits import Limits
from gateway.nursery import Nursery
from gateway.proxies import Proxies, proxies_of
from gateway.recorder import record_alone
from gateway.threads import Threads
from gateway.weather import SPACING, Weather
from shared.commands import SendMessage
from shared.env import Settings, for_hosts
from shared.errors import Contended, NotHeld, Unavailable
from shared.events import MessageChange
from shared.ids import SessionId
from shared.logs import fields
from shared.message import Failure, MessageStatus
from shared.session import Reason, Session, Trigger

log = logging.getLogger(__name__)

STARTS_AT_ONCE: Final = 4
"""Hosts that load their library side by side: each takes most of a second of a core."""
BROKEN_PAUSE: Final = 10.0
"""Seconds before a session is held again whose keeper met a defect of ours."""


class Supervisor:
    """The sessions held here."""

    def __init__(
        self,
        *,
        settings: Settings,
        record: Record,
        offer: Publish,
        store_away: Tell,
        now: Callable[[], int],
        until: Callable[[Session], float | None],
        ended: Callable[[Session], None] = lambda _: None,
        proxies: Proxies | None = None,
    ) -> None:
        """`until` says how long (monotonic seconds) a session's host may live.

        `ended` is told of each session that is held no more, as it is then. Without `proxies`, no
        session's own can be opened: one that has a proxy does not dial.
        """
        database = in_database(settings.device_store)
        threads = Threads()
        self._keepers: dict[SessionId, Keeper] = {}
        self._house = House(
            settings=settings,
            nursery=Nursery(for_hosts(), settings.log_level, [DATABASE] if database else []),
            proxies=proxies or proxies_of(settings, ()),
            record=record,
            offer=offer,
            store_away=store_away,
            aside=Aside(partial(store, settings), now, threads),
            threads=threads,
            scratch=Path(mkdtemp(prefix="zapgate-")) if database else None,
            now=now,
            until=until,
            closing=asyncio.Event(),
            gate=Gate(STARTS_AT_ONCE),
            weather=Weather(lambda: len(self._keepers), SPACING * settings.patience),
            limits=Limits().scaled(settings.patience),
        )
        self._ended = ended
        self._turns: defaultdict[SessionId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._group: asyncio.TaskGroup | None = None
        self._running = asyncio.Event()
        self._closed = self._house.closing

    async def run(self) -> None:
        """Hold sessions until `close`."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._running.set()
                await self._closed.wait()
        finally:
            await self._house.proxies.close()
            await self._house.nursery.close()
            self._house.threads.close()
            if self._house.scratch is not None:
                shutil.rmtree(self._house.scratch, ignore_errors=True)

    async def start(
        self,
        session: Session,
        phone_number: str | None = None,
        *,
        restart: bool = False,
        ordered: bool = False,
    ) -> None:
        """Hold a session. One that is held already goes on, unless `restart`.

        What is `ordered` begins whatever ended it before, and goes before what merely resumes. A
        phone number asks for a pairing code either way. Raises NotHeld when the gateway closes.
        """
        await self._running.wait()
        async with self._turns[session.id]:
            keeper = self._keepers.get(session.id)
            if keeper is not None and not restart and not keeper.ending:
                if phone_number is not None:
                    keeper.request_code(phone_number)
                elif ordered:
                    keeper.hurry()
                return
            if keeper is not None:
                await self._end(keeper, Stop(quiet=True))
            if self._closed.is_set() or self._group is None:
                raise NotHeld("this gateway is closing")
            self._hold(Keeper(self._house, session, phone_number, ordered=ordered))

    async def stop(
        self, session_id: SessionId, *, log_out: bool = False, quiet: bool = False
    ) -> None:
        """End a session's host; returns when it is gone and its journal drained.

        Raises StoreFailed if it is gone, and the journal cannot be told: `mark` can, later.
        """
        async with self._turns[session_id]:
            keeper = self._keepers.get(session_id)
            if keeper is not None:
                await self._end(keeper, Stop(log_out=log_out, quiet=quiet))

    async def erase(self, session: Session) -> None:
        """Delete a session's credentials and journal, after ending its host if there is one.

        Raises StoreFailed if anything is left: then nobody may be told that it is gone.
        """
        await self.stop(session.id, quiet=True)
        async with self._turns[session.id]:
            await self._house.threads.run(self._house.store(session).erase)
        if self._house.scratch is not None:
            # What the library printed of it.
            shutil.rmtree(self._house.scratch / session.id, ignore_errors=True)
        self._turns.pop(session.id, None)

    async def send(self, command: SendMessage) -> None:
        """Send a message; returns once its outcome is recorded. Raises NotHeld."""
        keeper = self._keepers.get(command.session_id)
        if keeper is None:
            raise NotHeld("no host here holds the session")
        await keeper.send(command)

    async def mark(self, session: Session, change: Change) -> None:
        """Journal and record a change of a session without a host: stopped, or logged out.

        A log-out erases the credentials. Raises NotHeld if the session has a host.
        """

        def work(journal: Journal) -> None:
            journal.release_all(self._house.now())
            journal.change(change, self._house.now())

        await self._at_rest(session, work)
        if change.trigger is Trigger.LOG_OUT:
            async with self._turns[session.id]:
                await self._house.threads.run(self._house.store(session).erase_credentials)

    async def refuse(self, session: Session, command: SendMessage, failure: Failure) -> None:
        """Journal and record that a message of a session without a host failed.

        One that has an outcome already keeps it. Raises NotHeld if the session has a host.
        """
        change = MessageChange(
            message_id=command.message_id,
            status=MessageStatus.FAILED,
            to=command.to,
            failure=failure,
        )
        await self._at_rest(session, lambda journal: journal.settle(change, self._house.now()))

    def holds(self, session_id: SessionId) -> bool:
        """Whether a session has its host here, or will have it again in a moment."""
        keeper = self._keepers.get(session_id)
        return keeper is not None and not keeper.ending

    def matter(self) -> str | None:
        """What is the matter with the hosts as a whole.

        None can be made, most cannot read their device store, do not get through to WhatsApp, or
        are silent.
        """
        if self._house.nursery.matter is not None:
            return self._house.nursery.matter
        away = sum(keeper.store_is_away for keeper in self._keepers.values())
        if 2 * away > len(self._keepers):
            return f"{away} of {len(self._keepers)} cannot read the device store"
        weather = self._house.weather
        if weather.foul:
            return f"{weather.waiting} of {len(self._keepers)} do not get through to WhatsApp"
        ages = [age for each in self.snapshot() if (age := each.pulse_age) is not None]
        silent = sum(age > self._house.limits.faint for age in ages)
        return f"{silent} of {len(ages)} do not answer" if 2 * silent > len(ages) else None

    @property
    def ends(self) -> Mapping[Reason, int]:
        """Changes of sessions recorded here, by their reason, since this gateway started."""
        return self._house.ends

    @property
    def watches(self) -> Mapping[Watch, int]:
        """Hosts ended because something took too long, by what, since this gateway started."""
        return self._house.watches

    @property
    def zygotes(self) -> Mapping[str, int]:
        """Zygotes that were replaced, by what became of them."""
        return self._house.nursery.replaced

    @property
    def aside(self) -> Aside:
        """Events the table refused."""
        return self._house.aside

    def snapshot(self) -> list[HostStatus]:
        """Every session held here."""
        return [keeper.status() for keeper in self._keepers.values()]

    async def close(self) -> None:
        """End all hosts quietly and drain their journals: what a gateway does on its way out."""
        self._closed.set()
        await asyncio.gather(*(self.stop(each, quiet=True) for each in list(self._keepers)))

    async def _keep(self, keeper: Keeper) -> None:
        broken = False
        try:
            await keeper.run()
        except Exception:  # one session's defect must not end the others
            log.exception("keeper.broken", extra=fields(session_id=keeper.session.id))
            broken = True
        finally:
            keeper.done.set()
            if not broken:
                self._forget(keeper)
                self._ended(keeper.session)
        if broken:
            await self._hold_again(keeper)

    async def _hold_again(self, broken: Keeper) -> None:
        """After a defect: a session must not say that it is connected while nobody holds it."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), BROKEN_PAUSE)
        if self._keepers.get(broken.session.id) is not broken:
            return
        self._forget(broken)
        if not self._closed.is_set() and not broken.stopped:
            self._hold(Keeper(self._house, broken.session, None))

    def _hold(self, keeper: Keeper) -> None:
        if self._group is None:
            raise AssertionError("unreachable: sessions are held while the supervisor runs")
        self._keepers[keeper.session.id] = keeper
        self._house.aside.heed(keeper.session)
        self._group.create_task(self._keep(keeper), name=f"session {keeper.session.id}")

    def _forget(self, keeper: Keeper) -> None:
        if self._keepers.get(keeper.session.id) is keeper:
            del self._keepers[keeper.session.id]
            self._house.aside.leave(keeper.session.id)

    async def _end(self, keeper: Keeper, stop: Stop) -> None:
        keeper.stop(stop)
        await keeper.done.wait()
        self._forget(keeper)
        if keeper.unfinished and not stop.quiet:
            raise StoreFailed("the end of the session is not journalled yet")

    async def _record(self, session: Session, entries: Sequence[Entry]) -> None:
        try:
            await self._house.record(session, entries)
        except (Unavailable, Contended):
            raise
        except Exception:  # one of them is refused: the command that waits cannot mend that
            log.exception("record.failed", extra=fields(session_id=session.id))
            for entry in entries:
                await record_alone(self._house.record, self._house.aside.put, session, entry)

    async def _at_rest(self, session: Session, work: Callable[[Journal], object]) -> None:
        async with self._turns[session.id]:
            if session.id in self._keepers:
                raise NotHeld("the session has a host: ask that")

            def page(begin: Callable[[Journal], object]) -> list[Entry]:
                with self._house.open(session) as journal:
                    begin(journal)
                    return journal.after(0, PAGE)

            def settle_and_work(journal: Journal) -> None:
                # A host that was killed may have handed over what is now said to have failed.
                settle_interrupted(
                    journal, self._house.store(session), self._house.now(), again=False
                )
                work(journal)

            entries = await self._house.threads.run(page, settle_and_work)
            while entries:
                await self._record(session, entries)
                recorded = entries[-1].sequence
                forget = partial(Journal.forget, sequence=recorded)
                entries = await self._house.threads.run(page, forget)
