"""A held shard's queue: its commands, from the queue to the sessions they are for.

One long poll; what it returns is sorted by session. The commands of a session are carried out in
their order, sessions beside each other. A message is deleted after its effect, kept in hand while
that takes time, and given back where the fault was ours.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.aws import Aws
from gateway.backoff import pause
from gateway.gather import Gather, Most, Outcomes
from gateway.loops import Loop
from gateway.metrics import Metrics
from gateway.orders import Orders
from gateway.sorting import LAST_PAUSE, Fate, Order, Settlement, groups, runs, sort, worn
from gateway.vigil import Sight
from shared import clock, commands, ids, queue
from shared.commands import PurgeTenant, SendMessage
from shared.env import Places
from shared.errors import Contended, Malformed, NotHeld, Unavailable
from shared.ids import CommandId, SessionId
from shared.logs import fields
from shared.queue import Received
from shared.session import Session
from shared.store import sessions
from shared.store.dynamo import Range

log = logging.getLogger(__name__)

HELD_LEASES: Final = 1
"""Lease times a message in hand is not seen by others, renewed at a third: as long as its shard
stays ours in silence, so that the next owner need not wait for it. Nor does it come too early: we
alone read the queue, and know what we have in hand."""
FRESH_LEASES: Final = 0.3
"""Lease times a message is not seen by others when it is received, until it is renewed. The poll of
a gateway that was killed goes on at the queue, and takes what comes first: that is hidden for so
long from the next owner."""
SHORTEST_VISIBILITY: Final = 2
"""Seconds: SQS counts in whole ones, and a renewal takes some time."""
LEFT_POLL: Final = 0.25
"""Seconds from the nudge that ends a poll that was left behind to our own first, which must not
take the nudge itself. A session's host takes longer to start."""
LOOK: Final = 5.0
"""Seconds after which a session whose messages still wait is looked at, and again."""
LONG: Final = 60.0
"""Seconds in hand after which a command that could go on counts as one that does not."""
FEW: Final = 3
"""Sessions: where the commands of fewer wait, it is theirs and not their shard's standstill."""
LARGEST_IN_HAND: Final = 2_000
"""Messages of a shard in hand: a session that waits for its phone keeps ten at the most."""
FULL_PAUSE: Final = 0.2
DRAIN_SECONDS: Final = 5.0
"""How long commands in hand may go on once we are told to stop; then they are given back."""
NUDGE: Final = "nudge"
"""Ends our own long poll, which nothing else can: a poll that is cut off could still take messages
on the server's side, and keep them from the next gateway for their visibility time."""
NUDGE_SECONDS: Final = 2.0
PAGE: Final = 100
RESUME_PAUSE: Final = 1.0
LONG_RESUME_PAUSE: Final = 30.0
"""Seconds before a shard's sessions are listed again after an error that waiting may not mend, and
the longest before one of them is tried again."""


@dataclass(slots=True)
class _InHand:
    order: Order
    since: float
    renewed: float | None = None
    """When its visibility was last renewed."""
    begun: bool = False
    """Its turn has come: what was before it of its session is done."""


class ShardInbox:
    """One held shard: its sessions are brought up, its queue is read."""

    def __init__(
        self,
        shard: int,
        *,
        places: Places,
        aws: Aws,
        keys: Sequence[bytes],
        orders: Orders,
        metrics: Metrics,
        lease_seconds: float,
        now: Callable[[], int],
        holds: Callable[[SessionId], bool],
    ) -> None:
        """`holds` says whether a session has its host here."""
        self.shard = shard
        self._held = max(SHORTEST_VISIBILITY, math.ceil(HELD_LEASES * lease_seconds))
        self._fresh = max(SHORTEST_VISIBILITY, math.ceil(FRESH_LEASES * lease_seconds))
        self._places = places
        self._url = places.command_queue(shard)
        self._aws = aws
        self._keys = keys
        self._orders = orders
        self._metrics = metrics
        self._now = now
        self._holds = holds
        self._in_hand: dict[str, _InHand] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._deletions: Gather[str] = Gather(self._delete, partial(Most, queue.LARGEST_BATCH))
        self._first = True
        self._stopping = False
        self._work = asyncio.TaskGroup()
        self._poller: asyncio.Task[None] | None = None
        self._leash: asyncio.Timeout | None = None
        self._groups: set[asyncio.Task[None]] = set()
        self._polls = self._settled = 0
        self._late = 0.0
        self.loop = Loop(
            f"inbox_{shard}",
            self._poll,
            pause=0,
            longest_backoff=5,
            over=lambda: self._stopping,
        )
        self._renewals = Loop(f"visibility_{shard}", self._renew, pause=self._fresh / 4)
        self._looks = Loop(f"looks_{shard}", self._look, pause=LOOK)

    async def run(self) -> None:
        """Until `close`, or cancelled; then what is still in hand is given back."""
        try:
            async with self._deletions, self._work as work:
                self._poller = work.create_task(self._read())
                others = [
                    work.create_task(self._resume()),
                    *(work.create_task(loop.run()) for loop in (self._renewals, self._looks)),
                ]
                await asyncio.wait([self._poller])
                await self._drain()
                for other in others:
                    other.cancel()
        except* _CutOffError:
            log.warning("inbox.cut_off", extra=fields(shard=self.shard, in_hand=self.in_hand))
        finally:
            await self._give_back_rest()

    async def close(self) -> None:
        """Read no more: end the poll that is under way, so that `run` ends by itself."""
        self._stopping = True
        poller = self._poller
        if poller is None or poller.done():
            return
        try:
            async with asyncio.timeout(NUDGE_SECONDS):
                await self._nudge()
                await asyncio.wait([poller])
        except Exception as error:  # noqa: BLE001 - without the nudge, the poll is cut off
            log.warning(
                "inbox.poll_cut_off",
                extra=fields(shard=self.shard, cause=type(error).__name__),
            )
            poller.cancel()

    @property
    def in_hand(self) -> int:
        return len(self._in_hand)

    async def _end_left_poll(self) -> None:
        """End the poll that an owner who was killed may have left behind."""
        with suppress(Unavailable, Contended):
            await self._nudge()
            await asyncio.sleep(LEFT_POLL)

    async def _nudge(self) -> None:
        number = clock.mint(ids.COMMAND)
        # A group of its own: one that is in hand somewhere must not hold the next one back.
        group = SessionId(f"{NUDGE}_{number}")
        await self._aws.run(queue.send_command(self.shard, group, CommandId(number), NUDGE))

    def reading(self) -> Sight:
        """How the reading goes: polls answered, and how long what was last read had waited."""
        return Sight(self._polls, self._late)

    def working(self, moving: Collection[SessionId]) -> Sight:
        """How the commands in hand go that could: messages of the sessions in `moving`, orders.

        What waits for a phone, or behind another of its session, is not among them.
        """
        now = time.monotonic()
        waits: dict[SessionId, float] = {}
        for each in self._in_hand.values():
            command = each.order.command
            if isinstance(command, Malformed | PurgeTenant):
                continue
            goes = command.session_id in moving if isinstance(command, SendMessage) else each.begun
            if goes and now - each.since > LONG:
                waits[command.session_id] = max(waits.get(command.session_id, 0), now - each.since)
        return Sight(self._settled, max(waits.values(), default=0), idle=len(waits) < FEW)

    def read_anew(self) -> None:
        """Cut off the poll that is under way, whatever it waits for, and begin again."""
        self._first = True
        if self._leash is not None:
            self._leash.reschedule(asyncio.get_running_loop().time())

    async def begin_anew(self) -> None:
        """Cut off what is in hand and give it back: it comes again, and is begun again."""
        cut = list(self._groups)
        for task in cut:
            task.cancel()
        if cut:
            await asyncio.wait(cut, timeout=DRAIN_SECONDS)
        await self._give_back_rest()

    async def _read(self) -> None:
        while not self._stopping:
            try:
                async with asyncio.timeout(None) as self._leash:
                    await self.loop.run()
            except TimeoutError:
                log.warning("inbox.read_anew", extra=fields(shard=self.shard))
            finally:
                self._leash = None

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._empty.wait()
        except TimeoutError:
            raise _CutOffError from None

    async def _resume(self) -> None:
        """Bring up the shard's sessions; one that takes long holds nobody up."""
        async with asyncio.TaskGroup() as resumed:
            await self._resume_pages(resumed)

    async def _resume_pages(self, resumed: asyncio.TaskGroup) -> None:
        start = None
        while True:
            try:
                page = await self._aws.run(
                    sessions.of_shard(self.shard, Range(limit=PAGE, start=start))
                )
            except (Unavailable, Contended):
                await asyncio.sleep(RESUME_PAUSE)
                continue
            except Exception:
                # A row that cannot be read must not end the gateway: it would only meet it again.
                log.exception("shard.not_resumed", extra=fields(shard=self.shard))
                await asyncio.sleep(LONG_RESUME_PAUSE)
                continue
            for session in page.rows:
                resumed.create_task(self._resume_one(session))
            start = page.next
            if start is None:
                return

    async def _resume_one(self, session: Session) -> None:
        failures = 0
        while True:
            try:
                await self._orders.resume(session)
            except (Unavailable, Contended) as error:
                failures += 1
                log.warning(
                    "session.not_resumed",
                    extra=fields(session_id=session.id, failures=failures, cause=str(error)),
                )
                jitter = random.random()  # noqa: S311 (not a secret)
                await asyncio.sleep(pause(failures, jitter, longest=LONG_RESUME_PAUSE))
            except Exception:
                # Its next command, or the next gateway, tries again.
                log.exception("session.not_resumed", extra=fields(session_id=session.id))
                return
            else:
                return

    async def _poll(self) -> None:
        if self._first:
            self._first = False
            await self._end_left_poll()
        if len(self._in_hand) >= LARGEST_IN_HAND:
            await asyncio.sleep(FULL_PAUSE)
            self._polls += 1
            return
        if not self._orders.acts_for(self.shard):
            # Frozen for longer than the lease: what we took now would be hidden from its owner.
            await asyncio.sleep(FULL_PAUSE)
            self._polls += 1
            return
        messages = await self._aws.run(
            queue.receive(self._url, queue.LONGEST_POLL, visibility=self._fresh)
        )
        self._polls += 1
        self._late = self._lateness(messages)
        orders: list[Order] = []
        for message in messages:
            if message.body == NUDGE:
                self._deletions.add(message.handle)
            else:
                orders.append(Order(message, self._opened(message)))
        since = time.monotonic()
        for order in orders:
            self._in_hand[order.message.handle] = _InHand(order, since)
            self._empty.clear()
        for group in groups(orders):
            if self._stopping:
                self._work.create_task(self._give_back(group, "stopping", 0))
            else:
                task = self._work.create_task(self._group(group))
                self._groups.add(task)
                task.add_done_callback(self._groups.discard)

    def _lateness(self, messages: Sequence[Received]) -> float:
        """Seconds for which the oldest of what is seen for the first time has waited."""
        fresh = [message.sent_at for message in messages if message.count == 1 and message.sent_at]
        if not fresh:
            return 0
        late = max(0, self._now() - min(fresh)) / clock.SECOND
        self._metrics.command_delay.observe(late)
        return late

    def _opened(self, message: Received) -> commands.Command | Malformed:
        try:
            return commands.decode(self._keys, message.body, self._now())
        except Malformed as refusal:
            return refusal

    async def _group(self, orders: list[Order]) -> None:
        """Carry out one session's commands; after one that is given back, so is the rest."""
        left = list(orders)
        for waiting in runs(orders):
            run = waiting
            while run:
                # A session that is not here is looked up first, and answers come in any order:
                # so the first message goes alone, and brings it up for the others.
                held = len(run) > 1 and self._holds(SessionId(run[0].message.group))
                together = run if held else run[:1]
                settlements = await asyncio.gather(*(self._one(order) for order in together))
                # SQS gives out nothing more of a group while one of its messages is in hand, so
                # deleting each by itself would gain nothing: a run's go together, in one request.
                await asyncio.gather(*map(self._settle, together, settlements))
                run = run[len(together) :]
                del left[: len(together)]
                back = [each for each in settlements if each.fate is Fate.GIVE_BACK]
                if back:
                    await self._give_back(left, "behind_another", back[0].pause)
                    return

    async def _give_back(self, orders: Sequence[Order], reason: str, pause: int) -> None:
        settlement = Settlement(Fate.GIVE_BACK, reason, pause)
        await asyncio.gather(*(self._settle(order, settlement) for order in orders))

    async def _one(self, order: Order) -> Settlement:
        in_hand = self._in_hand.get(order.message.handle)
        if in_hand is not None:
            in_hand.begun = True
        fault: Exception | None = None
        outcome = ""
        if isinstance(order.command, Malformed):
            fault = order.command
        else:
            try:
                outcome = await self._orders.carry_out(order.command, self.shard)
            except Exception as error:  # noqa: BLE001 - sorted below
                fault = error
        settlement = sort(fault, order.message.count)
        if worn(settlement, order.message.count, self._places.command_receives):
            settlement = await self._wear_out(order, settlement)
        self._tell(order, settlement, outcome, fault)
        return settlement

    async def _wear_out(self, order: Order, settlement: Settlement) -> Settlement:
        """Settle what would be moved away unsaid: a message failed, any other order is parked."""
        if not isinstance(order.command, SendMessage):
            return Settlement(Fate.PARK, "worn_out")
        try:
            await self._orders.give_up(order.command, self.shard)
        except NotHeld:
            return settlement  # the next owner's to say
        except Exception:
            log.exception("command.not_given_up", extra=fields(shard=self.shard))
            return Settlement(Fate.GIVE_BACK, settlement.reason, LAST_PAUSE)
        return Settlement(Fate.DONE, "worn_out")

    async def _settle(self, order: Order, settlement: Settlement) -> None:
        message = order.message
        try:
            match settlement.fate:
                case Fate.DONE:
                    await self._deletions.add(message.handle)
                case Fate.PARK if self._places.command_dead_url:
                    await self._aws.run(queue.park(message.body, settlement.reason, message.group))
                    await self._deletions.add(message.handle)
                case Fate.PARK:
                    pass
                case Fate.GIVE_BACK:
                    await self._aws.run(queue.hold(self._url, [message.handle], settlement.pause))
        except (Unavailable, Contended) as error:
            # It is seen again when its visibility ends, and is then recognised as done.
            log.warning("command.unsettled", extra=fields(shard=self.shard, cause=str(error)))
        except Exception:
            # Likewise: one message must not end its shard, and with it the gateway.
            log.exception("command.unsettled", extra=fields(shard=self.shard))
        self._out_of_hand(message.handle)

    def _out_of_hand(self, handle: str) -> None:
        self._in_hand.pop(handle, None)
        self._settled += 1
        if not self._in_hand:
            self._empty.set()

    async def _delete(self, handles: Sequence[str]) -> Outcomes:
        failed = set(await self._aws.run(queue.settle(self._url, handles)))
        return [
            Unavailable("sqs", "delete_message_batch", "Failed") if n in failed else None
            for n in range(len(handles))
        ]

    async def _renew(self) -> None:
        now = time.monotonic()
        due = [
            (handle, each)
            for handle, each in self._in_hand.items()
            if now - (each.renewed or each.since)
            >= (self._held if each.renewed else self._fresh) / 3
        ]
        for n in range(0, len(due), queue.LARGEST_BATCH):
            batch = due[n : n + queue.LARGEST_BATCH]
            await self._aws.run(queue.hold(self._url, [handle for handle, _ in batch], self._held))
            for _, each in batch:
                each.renewed = now

    async def _look(self) -> None:
        before = time.monotonic() - LOOK
        stuck = {
            each.order.command.session_id
            for each in self._in_hand.values()
            if isinstance(each.order.command, SendMessage) and each.since < before
        }
        for session_id in stuck:
            await self._orders.obey(session_id)

    async def _give_back_rest(self) -> None:
        handles = list(self._in_hand)
        self._in_hand.clear()
        self._empty.set()
        for n in range(0, len(handles), queue.LARGEST_BATCH):
            with suppress(Unavailable, Contended):
                await self._aws.run(queue.hold(self._url, handles[n : n + queue.LARGEST_BATCH], 0))

    def _tell(
        self, order: Order, settlement: Settlement, outcome: str, fault: Exception | None
    ) -> None:
        command = order.command
        if isinstance(command, Malformed):
            name, known = "unreadable", fields(reason=settlement.reason, shard=self.shard)
        else:
            name = str(command.__struct_config__.tag)
            known = fields(
                command=name,
                command_id=command.id,
                tenant_id=command.tenant_id,
                session_id=command.session_id,
                count=order.message.count,
                outcome=outcome or settlement.reason,
            )
        word = outcome or settlement.fate.value
        self._metrics.commands.labels(command=name, outcome=word).inc()
        match settlement.fate:
            case Fate.DONE if settlement.reason:
                self._metrics.refused.labels(reason=settlement.reason).inc()
                log.error("command.given_up", extra=known)
            case Fate.DONE:
                log.info("command.carried_out", extra=known)
            case Fate.PARK:
                self._metrics.refused.labels(reason=settlement.reason).inc()
                log.warning("command.refused", extra=known)
            case Fate.GIVE_BACK:
                defect = fault if settlement.reason == "defect" else None
                log.warning("command.given_back", extra=known, exc_info=defect)


class _CutOffError(Exception):
    """What is in hand takes too long: it is cut off and given back."""
