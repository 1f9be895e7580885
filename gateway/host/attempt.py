"""One attempt to link a number: the QRs as they come, and a code for a phone number beside them.

QR and code are valid at the same time; whichever is used first wins. The library offers six QRs,
the first for a minute, the others for twenty seconds each, and then the attempt is over.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.host.journal import Journal
from gateway.host.wire import NoCode
from shared import clock
from shared.logs import fields
from shared.session import Pairing

log = logging.getLogger(__name__)

FIRST_QR: Final = 60 * clock.SECOND
NEXT_QR: Final = 20 * clock.SECOND
QRS: Final = 6
"""whatsmeow's `qrchan.go`."""
ATTEMPT: Final = FIRST_QR + (QRS - 1) * NEXT_QR
CODE_LIFE: Final = 80 * clock.SECOND
"""A code is replaced, with the next QR, after half of the attempt. How long WhatsApp takes one is
not known; the library's authors know only that it ends with the attempt."""
_EARLY: Final = 5 * clock.SECOND
"""A timeout more than this before the attempt's end is a lost connection."""
_LATE: Final = 30 * clock.SECOND
_CODE_TIMEOUT: Final = 30.0
"""Seconds WhatsApp may take for a code."""


_WORDS: Final = {
    "phone number too short": "The phone number is too short.",
    "international phone number required": "The phone number must begin with its country code.",
    "status 400": "WhatsApp does not take this phone number.",
    "status 404": "WhatsApp does not know this phone number. Check it; the QR needs none.",
    "status 429": "WhatsApp gives no more codes for this number now. Try again in an hour, "
    "or scan the QR.",
}
"""Errors of a code, by a part of the library's text, in words for whoever links the number."""


def words(error: str) -> str:
    """Why there is no code, for the person who waits for it."""
    for part, text in _WORDS.items():
        if part in error:
            return text
    return "WhatsApp gave no code for this number. Try again, or scan the QR."


class Attempt:
    """The running attempt."""

    def __init__(
        self,
        journal: Journal,
        *,
        pair: Callable[[str], Awaitable[str]],
        show: Callable[[Pairing], Awaitable[None]],
        journalled: Callable[[], None],
        now: Callable[[], int],
        phone_number: str | None,
    ) -> None:
        self._journal = journal
        self._pair = pair
        self._show = show
        self._journalled = journalled
        self._now = now
        self._wanted = phone_number
        self._current: Pairing | None = None
        self._ends = 0
        self._asking = asyncio.Lock()
        self._over = False

    @property
    def begun(self) -> bool:
        """Whether WhatsApp offered anything: the session has no credentials."""
        return self._current is not None

    def early(self) -> bool:
        """Whether the attempt's time is not over yet."""
        return self._now() < self._ends - _EARLY

    def end(self) -> None:
        """The number is linked. A code asked for now would upset WhatsApp, and the session."""
        self._over = True

    def overdue(self) -> bool:
        """Whether the library should have said long ago that the attempt is over."""
        return self.begun and self._now() > self._ends + _LATE

    async def on_qr(self, qr: str) -> None:
        """The next QR; with the first of them a code is asked for, if a number is known."""
        now = self._now()
        first = self._current is None
        if first:
            self._ends = now + ATTEMPT
        before = self._current
        await self._offer(
            Pairing(
                qr=qr,
                qr_expires_at=now + (FIRST_QR if first else NEXT_QR),
                attempt_expires_at=self._ends,
                code=None if before is None else before.code,
                code_expires_at=None if before is None else before.code_expires_at,
                phone_number=self._wanted if before is None else before.phone_number,
                code_error=None if before is None else before.code_error,
            )
        )
        stale = before is not None and (before.code_expires_at or self._ends) <= now
        if self._wanted is not None and (first or stale):
            await self.request(self._wanted)

    async def request(self, phone_number: str) -> None:
        """Ask for a code: at once, or with the first QR. A new one replaces the old."""
        self._wanted = phone_number
        if self._current is None or self._over:
            return
        async with self._asking:
            code, trouble = None, None
            try:
                code = await asyncio.wait_for(self._pair(phone_number), _CODE_TIMEOUT)
            except NoCode as error:
                trouble = words(str(error))
            except TimeoutError:
                trouble = words("timed out")
            expires_at: int | None = min(self._now() + CODE_LIFE, self._ends)
            if trouble is not None:
                log.warning("pairing.no_code", extra=fields(why=trouble))
                before = self._current
                if before.code is not None and before.phone_number == phone_number:
                    return  # it was only to be refreshed, and is good until another is given
                expires_at = None
            await self._offer(
                Pairing(
                    qr=self._current.qr,
                    qr_expires_at=self._current.qr_expires_at,
                    attempt_expires_at=self._ends,
                    code=code,
                    phone_number=phone_number,
                    code_expires_at=expires_at,
                    code_error=trouble,
                )
            )

    async def _offer(self, pairing: Pairing) -> None:
        self._current = pairing
        await self._show(pairing)
        code = pairing.code is not None
        if self._journal.offered(pairing.qr_expires_at, self._now(), code=code):
            self._journalled()
