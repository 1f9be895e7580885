"""What a session's host remembers through a crash: its ledger, and what is to be entered there.

Beside the entries it holds the intent of each send before it is handed over, the WhatsApp ids of
sent messages, so that a receipt names our message without a question to AWS, and the ids of
received ones, so that what is delivered twice is published once.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from gateway.changes import Change, announce, arrival, offer, outcome
from gateway.host.ledger import Ledger
from shared import clock
from shared.events import MessageChange, ReceivedMessage
from shared.ids import MessageId
from shared.message import RANK, MessageStatus, OnUncertain

REMEMBERED: Final = 30 * clock.DAY
"""How long a sent message's WhatsApp id is kept: WhatsApp itself holds an undelivered message for
about a month, so a receipt later than that is not to be expected."""
MOST_SEEN: Final = 50_000
"""Ids of received messages that are remembered against being delivered twice."""
MOST_HELD: Final = 200
"""Messages that may wait for their sender's number before the next goes out without one."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One message's sending."""

    message_id: MessageId
    recipient: str
    secret: bytes
    """Goes into the message, and from there into the library's own store before the frame is
    written: where it is found with a WhatsApp id, the message may be out, else it is not."""
    on_uncertain: OnUncertain
    begun_at: int
    sequence: int | None = None
    """The entry of its outcome; None while there is none."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A received message that waits for a phone number to be looked up."""

    number: int
    message: ReceivedMessage
    at: int


_BY_ID: Final = (
    "SELECT message_id, recipient, secret, on_uncertain, begun_at, sequence"
    " FROM orders WHERE message_id = ?"
)
_OPEN: Final = (
    "SELECT message_id, recipient, secret, on_uncertain, begun_at, sequence"
    " FROM orders WHERE sequence IS NULL ORDER BY begun_at"
)
_BEGIN: Final = (
    "INSERT INTO orders VALUES (?, ?, ?, ?, ?, NULL) ON CONFLICT (message_id) DO UPDATE SET"
    " recipient = excluded.recipient, secret = excluded.secret,"
    " on_uncertain = excluded.on_uncertain, begun_at = excluded.begun_at, sequence = NULL"
)
_SETTLE: Final = (
    "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (message_id) DO UPDATE SET sequence = excluded.sequence"
)
_SENT: Final = (
    "INSERT INTO sent VALUES (?, ?, ?, ?, ?) ON CONFLICT (whatsapp_id) DO UPDATE SET"
    " message_id = excluded.message_id, recipient = excluded.recipient,"
    " status = excluded.status, at = excluded.at"
)
_EARLY: Final = (
    "INSERT INTO early VALUES (?, ?)"
    " ON CONFLICT (whatsapp_id) DO UPDATE SET status = excluded.status"
)
_SEEN: Final = (
    "INSERT INTO seen SELECT coalesce(max(number), 0) + 1, ? FROM seen WHERE true"
    " ON CONFLICT (key) DO NOTHING RETURNING number"
)
_messages: Final = msgspec.json.Decoder(ReceivedMessage)


class Journal(Ledger):
    """The journal of one session."""

    def change(self, change: Change, now: int) -> bool:
        """Append the event of a session's change; False where it means nothing new."""
        return self.append(lambda mark: announce(self.session, change, mark), now)

    def offered(self, expires_at: int, now: int, *, code: bool) -> bool:
        """Append that a QR or a pairing code is ready; False where pairing is over."""
        return self.append(lambda mark: offer(self.session, expires_at, mark, code=code), now)

    # Messages that arrive.

    def arrived(self, key: str, message: ReceivedMessage, now: int, *, final: bool) -> bool:
        """Append a received message, once per key; False where it was here before."""
        with self.write():
            if not self._first(key, claim=final):
                return False
            self.put(lambda mark: arrival(self.session, message, mark), now)
        return True

    def hold(self, key: str, message: ReceivedMessage, now: int, *, final: bool) -> bool:
        """Keep a received message until `release`; False where it was here before."""
        with self.write():
            if not self._first(key, claim=final):
                return False
            self.db.execute(
                "INSERT INTO held SELECT coalesce(max(number), 0) + 1, ?, ? FROM held",
                msgspec.json.encode(message),
                now,
            )
        return True

    def held(self) -> list[Held]:
        """Messages that wait for a number, oldest first."""
        with self.lock:
            rows = self.db.execute(
                "SELECT number, message, at FROM held ORDER BY number LIMIT ?", MOST_HELD + 1
            )
        return [
            Held(number=number, message=_messages.decode(message), at=at)
            for number, message, at in rows
        ]

    def holding(self) -> bool:
        """Whether any message waits: the next one must not overtake it."""
        with self.lock:
            return bool(self.db.execute("SELECT 1 FROM held LIMIT 1"))

    def release_all(self, now: int) -> None:
        """Append what was held as it is: nobody is left to look the numbers up."""
        while waiting := self.held():
            for each in waiting:
                self.release(each.number, each.message, now)

    def release(self, number: int, message: ReceivedMessage, now: int) -> None:
        """Append a message that was held, as it is now."""
        with self.write():
            if self.db.execute("DELETE FROM held WHERE number = ? RETURNING number", number):
                self.put(lambda mark: arrival(self.session, message, mark), now)

    # Messages that are sent.

    def order(self, message_id: MessageId) -> Order | None:
        """What is known of a message's sending."""
        return next(self._orders(_BY_ID, message_id), None)

    def begin(self, order: Order) -> None:
        """Write down the intent to send, before anything is handed over."""
        with self.write():
            self.db.execute(
                _BEGIN,
                order.message_id,
                order.recipient,
                order.secret,
                order.on_uncertain,
                order.begun_at,
            )

    def withdraw(self, message_id: MessageId) -> None:
        """Forget an intent of which it is certain that nothing went out."""
        with self.write():
            self.db.execute(
                "DELETE FROM orders WHERE message_id = ? AND sequence IS NULL", message_id
            )

    def unsettled(self) -> list[Order]:
        """Intents without an outcome: of a life that ended in between."""
        return list(self._orders(_OPEN))

    def settle(self, change: MessageChange, now: int) -> int:
        """Append the outcome of a send, once; returns its sequence.

        Receipts that overtook the outcome follow it.
        """
        with self.write():
            known = next(self._orders(_BY_ID, change.message_id), None)
            if known is not None and known.sequence is not None:
                return known.sequence
            self.put(lambda mark: outcome(self.session, change, mark), now)
            settled = self.last
            self.db.execute(
                _SETTLE, change.message_id, change.to, b"", OnUncertain.REPORT, now, settled
            )
            if change.whatsapp_id is not None:
                self.db.execute(
                    _SENT, change.whatsapp_id, change.message_id, change.to, change.status, now
                )
                early = self.db.execute(
                    "DELETE FROM early WHERE whatsapp_id = ? RETURNING status", change.whatsapp_id
                )
                for (status,) in early:
                    self._advance(change.whatsapp_id, MessageStatus(status), now)
            if not any(self._orders(_OPEN)):
                self.db.execute("DELETE FROM early")
        return settled

    def receipt(self, whatsapp_id: str, status: MessageStatus, now: int) -> bool:
        """Append that a sent message was delivered or read; False where that is not news.

        In a group the first recipient counts.
        """
        with self.write():
            if self._advance(whatsapp_id, status, now):
                return True
            known = self.db.execute("SELECT 1 FROM sent WHERE whatsapp_id = ?", whatsapp_id)
            if not known and any(self._orders(_OPEN)):
                # It may be of the message in hand, whose id is known only when it is settled.
                early = self.db.execute(
                    "SELECT status FROM early WHERE whatsapp_id = ?", whatsapp_id
                )
                if not early or RANK[status] > RANK[MessageStatus(early[0][0])]:
                    self.db.execute(_EARLY, whatsapp_id, status)
            return False

    def forget_old(self, now: int) -> None:
        """Drop what can no longer matter."""
        with self.write():
            self.db.execute("DELETE FROM sent WHERE at < ?", now - REMEMBERED)
            self.db.execute(
                "DELETE FROM orders WHERE begun_at < ? AND sequence IS NOT NULL",
                now - REMEMBERED,
            )
            self.db.execute(
                "DELETE FROM seen WHERE number <= (SELECT max(number) FROM seen) - ?", MOST_SEEN
            )

    def _first(self, key: str, *, claim: bool) -> bool:
        if not claim:
            return not self.db.execute("SELECT 1 FROM seen WHERE key = ?", key)
        return bool(self.db.execute(_SEEN, key))

    def _advance(self, whatsapp_id: str, status: MessageStatus, now: int) -> bool:
        rows = self.db.execute(
            "SELECT message_id, recipient, status FROM sent WHERE whatsapp_id = ?", whatsapp_id
        )
        if not rows or RANK[status] <= RANK[MessageStatus(rows[0][2])]:
            return False
        message_id, to, _ = rows[0]
        change = MessageChange(message_id=message_id, status=status, to=to, whatsapp_id=whatsapp_id)
        self.put(lambda mark: outcome(self.session, change, mark), now)
        self.db.execute("UPDATE sent SET status = ? WHERE whatsapp_id = ?", status, whatsapp_id)
        return True

    def _orders(self, query: str, *values: str) -> Iterator[Order]:
        with self.lock:
            rows = self.db.execute(query, *values)
        return (
            Order(
                message_id=MessageId(message_id),
                recipient=recipient,
                secret=secret,
                on_uncertain=OnUncertain(on_uncertain),
                begun_at=begun_at,
                sequence=sequence,
            )
            for message_id, recipient, secret, on_uncertain, begun_at, sequence in rows
        )
