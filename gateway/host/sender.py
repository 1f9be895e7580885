"""Messages out, one at a time, each with its intent journalled before it is handed over.

A send ends in exactly one outcome: sent, failed, or uncertain where the connection was cut between
handing it over and WhatsApp's answer. Without a connection it waits, until its time is over.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, assert_never

from gateway.frames import Send
from gateway.host.journal import Journal, Order
from gateway.host.refusals import EXPIRED, UNFIT, Refused, Unknown, Unsent, judge
from gateway.host.store import Store, StoreFailed, Unreadable
from gateway.host.wire import Undelivered
from shared import clock
from shared.commands import SendMessage
from shared.events import MessageChange
from shared.ids import MessageId
from shared.logs import fields
from shared.message import Failure, MessageStatus, OnUncertain

log = logging.getLogger(__name__)

SECRET_BYTES: Final = 32
"""WhatsApp's length of a message secret."""
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
"""Seconds between tries of a message that found no connection: the loss may be noticed late."""


Transmit = Callable[[str, str, bytes], Awaitable[str]]
"""Recipient, text and secret to the WhatsApp id. Raises Undelivered."""


def settle_interrupted(journal: Journal, store: Store, now: int, *, again: bool) -> None:
    """Decide the intents that a host left without an outcome, before anything else is sent.

    `again` says that whoever ordered them has had no answer and orders them again, to a host.
    Raises StoreFailed where the store does not answer; it is to be asked again.
    """
    for order in journal.unsettled():
        try:
            trace, known = store.whatsapp_id(order.secret), True
        except Unreadable:
            trace, known = None, False
        log.warning(
            "send.interrupted",
            extra=fields(message_id=order.message_id, handed_over=trace is not None),
        )
        if known and trace is None:
            journal.withdraw(order.message_id)
        elif not again or order.on_uncertain is OnUncertain.REPORT:
            uncertain = MessageChange(
                message_id=order.message_id,
                status=MessageStatus.UNCERTAIN,
                to=order.recipient,
                whatsapp_id=trace,
            )
            journal.settle(uncertain, now)
        # Else it stays open: sent again it is settled, and if it cannot be, it is uncertain.


class Sender:
    """The session's one line of messages going out."""

    def __init__(
        self,
        journal: Journal,
        *,
        store: Store,
        transmit: Transmit,
        connected: asyncio.Event,
        settled: Callable[[Order], None],
        journalled: Callable[[], None],
        now: Callable[[], int],
        random: Callable[[int], bytes],
    ) -> None:
        self._journal = journal
        self._store = store
        self._transmit = transmit
        self._connected = connected
        self._settled = settled
        self._journalled = journalled
        self._now = now
        self._random = random
        self._orders: asyncio.Queue[SendMessage] = asyncio.Queue()
        self._since: float | None = None
        self._stopped = False
        self._resent: set[MessageId] = set()
        """Messages of which an attempt may have gone out, while they are tried again."""
        self.idle = asyncio.Event()
        self.idle.set()

    def put(self, frame: Send) -> None:
        self._orders.put_nowait(frame.command)

    def stop(self) -> None:
        """Begin no further send. The one in hand goes on; `idle` says when it is over."""
        self._stopped = True

    @property
    def sending_for(self) -> float:
        """Seconds the library has had the message in hand, 0 when it has none."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    async def run(self) -> None:
        while True:
            command = await self._orders.get()
            if not self._stopped:
                await self._send(command)

    async def _send(self, command: SendMessage) -> None:
        known = self._journal.order(command.message_id)
        if known is not None and known.sequence is not None:
            self._settled(known)
            return
        pause = _FIRST_PAUSE
        if known is not None:
            self._resent.add(command.message_id)
        while not await self._try(command):
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)
        self._resent.discard(command.message_id)

    async def _try(self, command: SendMessage) -> bool:
        """One attempt; False where nothing went out and it should be tried again."""
        if not await self._connection(command.expires_at):
            await self._expire(command)
            return True
        if self._stopped:
            return True
        secret = self._random(SECRET_BYTES)
        self._journal.begin(
            Order(
                message_id=command.message_id,
                recipient=command.to,
                secret=secret,
                on_uncertain=command.on_uncertain,
                begun_at=self._now(),
            )
        )
        self.idle.clear()
        self._since = time.monotonic()
        try:
            sent_as = await self._transmit(command.to, command.content.text, secret)
        except Undelivered as error:
            return await self._refused(command, secret, str(error))
        except (ValueError, TypeError):
            # It cannot be put into the library's terms; tried again it would fail again.
            log.exception("send.impossible", extra=fields(message_id=command.message_id))
            self._fail(command, UNFIT)
            return True
        finally:
            self._since = None
            self.idle.set()
        self._settle(command, MessageStatus.SENT, sent_as)
        return True

    async def _refused(self, command: SendMessage, secret: bytes, error: str) -> bool:
        judgement = judge(error)
        match judgement:
            case Refused(failure):
                self._fail(command, failure)
                return True
            case Unsent():
                if command.message_id not in self._resent:
                    self._journal.withdraw(command.message_id)
                return False
            case Unknown():
                log.warning("send.unanswered", extra=fields(message_id=command.message_id))
                if command.on_uncertain is OnUncertain.RESEND:
                    # Its intent stays: if its time ends first, it may be out all the same.
                    self._resent.add(command.message_id)
                    return False
                await self._doubt(command, secret)
                return True
            case _:
                assert_never(judgement)

    async def _connection(self, expires_at: int) -> bool:
        """Wait until there is a connection; False if the message's time is over first."""
        left = (expires_at - self._now()) / clock.SECOND
        if left <= 0:
            return False
        try:
            await asyncio.wait_for(self._connected.wait(), left)
        except TimeoutError:
            return False
        return True

    async def _expire(self, command: SendMessage) -> None:
        """Its time is over: it failed, unless an attempt of it may have gone out."""
        known = self._journal.order(command.message_id)
        if known is None:
            self._fail(command, EXPIRED)
        else:
            await self._doubt(command, known.secret)

    async def _doubt(self, command: SendMessage, secret: bytes) -> None:
        try:
            # The lease is renewed over this loop: it has no time to wait for another's file.
            trace = await asyncio.to_thread(self._store.whatsapp_id, secret)
        except StoreFailed:
            trace = None
        self._settle(command, MessageStatus.UNCERTAIN, trace)

    def _fail(self, command: SendMessage, failure: Failure) -> None:
        self._journal.settle(
            MessageChange(
                message_id=command.message_id,
                status=MessageStatus.FAILED,
                to=command.to,
                failure=failure,
            ),
            self._now(),
        )
        self._journalled()

    def _settle(self, command: SendMessage, status: MessageStatus, sent_as: str | None) -> None:
        self._journal.settle(
            MessageChange(
                message_id=command.message_id, status=status, to=command.to, whatsapp_id=sent_as
            ),
            self._now(),
        )
        self._journalled()
