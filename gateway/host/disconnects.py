"""How a socket can end or stumble, and what follows: one table.

Sources: what the library emits for each stream error, failure code and login status was observed
one by one against version 0.5.2. The library dials again by itself only after a plain drop.
"""

import re
from typing import Final

from neonize.proto.Neonize_pb2 import (
    ConnectFailure,
    ConnectFailureReason,
    KeepAliveTimeout,
    LoggedOut,
    PairStatus,
    TemporaryBan,
)

from gateway.changes import Change
from gateway.frames import Watch
from gateway.host.verdict import Fate, Verdict
from shared import clock
from shared.session import Reason, Trigger


def _lost(detail: str) -> Verdict:
    return Verdict(
        Fate.AGAIN, Change(trigger=Trigger.DROP, reason=Reason.CONNECTION_LOST, detail=detail)
    )


_T, _R, _F = Trigger, Reason, ConnectFailureReason

STAY: Final = Verdict(Fate.STAY)

CONNECTED: Final = Verdict(Fate.STAY, Change(trigger=_T.CONNECT))
DROPPED: Final = Verdict(Fate.STAY, Change(trigger=_T.DROP, reason=_R.CONNECTION_LOST))
SILENT: Final = Verdict(Fate.AGAIN, Change(trigger=_T.DROP, reason=_R.SILENT))
"""The socket is open, or thought to be, and nothing comes over it."""
WATCHES: Final[dict[Watch, Verdict]] = {
    Watch.SILENCE: SILENT,
    Watch.UNCONNECTED: SILENT,
    Watch.FLAPPING: _lost("WhatsApp took the connection and dropped it, several times in a row"),
    Watch.FIRST_WORD: _lost("WhatsApp did not answer"),
    Watch.LOGIN_AFTER_PAIRING: _lost("WhatsApp did not answer after the number was linked"),
    Watch.REDIAL: _lost("WhatsApp did not answer for long"),
}
"""What a watch of the host's means, when its time is over."""
REPLACED: Final = Verdict(Fate.END, Change(trigger=_T.FAIL, reason=_R.REPLACED))
OUTDATED: Final = Verdict(Fate.END, Change(trigger=_T.FAIL, reason=_R.CLIENT_OUTDATED))
_REMOVED: Final = Change(trigger=_T.LOG_OUT, reason=_R.REMOVED_ON_PHONE)
_LOCKED: Final = Change(trigger=_T.LOG_OUT, reason=_R.ACCOUNT_LOCKED)
_BANNED: Final = Change(trigger=_T.BAN, reason=_R.ACCOUNT_BANNED)

UNANSWERED: Final = 2
"""Pings in a row without an answer after which the connection is given up, 50 to 80 seconds after
it fell silent; the library itself waits for three minutes."""

REMOVED: Final = Verdict(Fate.END, _REMOVED)
NO_STORE: Final = Verdict(
    Fate.AGAIN,
    Change(trigger=_T.DROP, reason=_R.STORE_UNAVAILABLE, detail="its device store is not there"),
)

FAILURES: Final[dict[int, Verdict]] = {
    _F.GENERIC: Verdict(Fate.END, Change(trigger=_T.FAIL, reason=_R.CONNECTION_REFUSED)),
    _F.LOGGED_OUT: REMOVED,
    _F.TEMP_BANNED: Verdict(Fate.END, Change(trigger=_T.BAN, reason=_R.TEMPORARILY_BANNED)),
    _F.MAIN_DEVICE_GONE: Verdict(Fate.END, _LOCKED),
    _F.UNKNOWN_LOGOUT: Verdict(Fate.END, _BANNED),
    _F.CLIENT_OUTDATED: OUTDATED,
    _F.BAD_USER_AGENT: Verdict(Fate.END, Change(trigger=_T.FAIL, reason=_R.CONNECTION_REFUSED)),
    _F.INTERNAL_SERVER_ERROR: Verdict(Fate.AGAIN, DROPPED.change),
    _F.EXPERIMENTAL: Verdict(Fate.END, Change(trigger=_T.FAIL, reason=_R.CONNECTION_REFUSED)),
    _F.SERVICE_UNAVAILABLE: Verdict(Fate.AGAIN, DROPPED.change),
}
"""WhatsApp's answer to a login, by the library's name for its code."""

BANS: Final[dict[int, str]] = {
    TemporaryBan.SEND_TO_TOO_MANY_PEOPLE: "too many people who do not know the number were written",
    TemporaryBan.BLOCKED_BY_USERS: "too many people blocked the number",
    TemporaryBan.CREATED_TOO_MANY_GROUPS: "too many groups were created with strangers",
    TemporaryBan.SENT_TOO_MANY_SAME_MESSAGE: "the same message was sent too often",
    TemporaryBan.BROADCAST_LIST: "too many messages went to a broadcast list",
}

STATUSES: Final[dict[str, Verdict]] = {
    "success": STAY,
    "error": STAY,
    "err-scanned-without-multidevice": STAY,
    "timeout": Verdict(Fate.END, Change(trigger=_T.EXPIRE, reason=_R.PAIRING_EXPIRED)),
    "err-client-outdated": OUTDATED,
    "err-unexpected-state": Verdict(Fate.END, Change(trigger=_T.FAIL, reason=_R.PAIRING_REFUSED)),
    "passkey-request": Verdict(Fate.END, Change(trigger=_T.PASSKEY, reason=_R.PASSKEY_REQUIRED)),
}
"""Login statuses: all that is heard of an attempt to pair."""


def logged_out(event: LoggedOut) -> Verdict:
    """The device was removed: by its owner, by a lock or by a ban."""
    verdict = FAILURES.get(event.Reason)
    if verdict is not None and verdict.change in {_REMOVED, _LOCKED, _BANNED}:
        return verdict
    return REMOVED


def banned(event: TemporaryBan, now: int) -> Verdict:
    """Banned for a time; `Expire` is in seconds from now."""
    return Verdict(
        Fate.END,
        Change(
            trigger=_T.BAN,
            reason=_R.TEMPORARILY_BANNED,
            detail=BANS.get(event.Code),
            until=now + event.Expire * clock.SECOND,
        ),
    )


def refused(event: ConnectFailure) -> Verdict:
    """WhatsApp refused the login."""
    verdict = FAILURES.get(event.Reason, FAILURES[_F.GENERIC])
    change = verdict.change
    if change is None or not event.Message:
        return verdict
    return Verdict(
        verdict.fate,
        Change(trigger=change.trigger, reason=change.reason, detail=words(event.Message)),
    )


def unanswered(event: KeepAliveTimeout) -> Verdict:
    """The socket is open and nobody answers on it."""
    if event.ErrorCount < UNANSWERED:
        return STAY
    return SILENT


def paired(event: PairStatus) -> Verdict:
    """The phone confirmed, or the last step of pairing failed."""
    if event.Status == PairStatus.SUCCESS:
        return Verdict(Fate.STAY, Change(trigger=_T.PAIRED))
    return Verdict(
        Fate.END,
        Change(trigger=_T.FAIL, reason=_R.PAIRING_REFUSED, detail=words(event.Error)),
    )


def status(text: str, *, early: bool) -> Verdict:
    """What a login status means. `early`: the attempt's time was not over.

    A timeout before its time is not one: WhatsApp closed the connection, so it is tried again.
    """
    if text == "timeout" and early:
        return Verdict(Fate.AGAIN, DROPPED.change)
    return STATUSES.get(text, STAY)


def gave_up(error: str, now: int) -> Verdict:
    """The library's loop ended, and why.

    It does not dial a first time twice, and an event it has no word for ends it.
    """
    if _UNKNOWN_BAN in error:
        return Verdict(
            Fate.END,
            Change(
                trigger=_T.BAN,
                reason=_R.TEMPORARILY_BANNED,
                detail="for how long is not known; an hour is assumed",
                until=now + UNKNOWN_BAN,
            ),
        )
    return undialled(error)


def undialled(error: str) -> Verdict:
    """No connection came about, in the words of whoever tried."""
    if error.startswith(_STORE):
        # Why is the operator's: it names the server, and the tenant cannot mend it.
        return Verdict(Fate.AGAIN, Change(trigger=_T.DROP, reason=_R.STORE_UNAVAILABLE))
    return _lost(words(error))


_STORE: Final = ("failed to upgrade database", "failed to open database")
"""whatsmeow's words (sqlstore's `New`) where it cannot use the credentials."""
_UNKNOWN_BAN: Final = "TemporaryBan.Code"
"""In the library's error for a ban whose code it does not know."""
UNKNOWN_BAN: Final = clock.HOUR
"""Its end is lost with it; to log in every few minutes would not be to obey it."""
_LONGEST_DETAIL: Final = 300
_CREDENTIALS: Final = re.compile(r"//[^/@\s]*@")


def words(error: str) -> str:
    """An error of the library as a detail for tenants: one line, short, without credentials."""
    line = " ".join(_CREDENTIALS.sub("//", error).split())
    return line[:_LONGEST_DETAIL]
