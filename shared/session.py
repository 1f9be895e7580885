"""A session: one linked WhatsApp number, and the one table of what may become of it.

The table is the truth for the code, the tests and the README's diagram. A pair that is missing is
not an error of the user but of ours: `after` returns None and the caller logs and keeps the state.
"""

from enum import StrEnum
from typing import Final

import msgspec

from shared.ids import SessionId, TenantId
from shared.proxy import Proxy


class SessionState(StrEnum):
    CREATED = "created"
    STARTING = "starting"
    PAIRING = "pairing"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    STOPPED = "stopped"
    LOGGED_OUT = "logged_out"
    BANNED = "banned"
    FAILED = "failed"
    PASSKEY_REQUIRED = "passkey_required"


class Desired(StrEnum):
    """What the tenant wants of a session; the gateway works until the state agrees."""

    RUNNING = "running"
    STOPPED = "stopped"
    DELETED = "deleted"


class Trigger(StrEnum):
    """What can happen to a session."""

    START = "start"
    """Its host was started, by order, after a failure or on a new gateway."""
    OFFER = "offer"
    """WhatsApp offered a QR or a pairing code: the number is not linked yet."""
    PAIRED = "paired"
    """The phone confirmed; the first login follows."""
    CONNECT = "connect"
    DROP = "drop"
    """The socket was lost and will be dialled again."""
    STOP = "stop"
    LOG_OUT = "log_out"
    """The device was removed: by order, on the phone, or by WhatsApp."""
    BAN = "ban"
    FAIL = "fail"
    """It ended in a way that starting again at once would not mend."""
    EXPIRE = "expire"
    """Nobody scanned or typed in time."""
    PASSKEY = "passkey"
    """WhatsApp asks for a passkey this client cannot present."""


_S, _T = SessionState, Trigger

ALIVE: Final = frozenset({_S.STARTING, _S.PAIRING, _S.CONNECTED, _S.RECONNECTING})
"""States in which a socket is held or being opened."""
AT_REST: Final = frozenset(SessionState) - ALIVE
"""States in which none is: only an order, or the end of a ban, moves the session on."""

TRANSITIONS: Final[dict[tuple[SessionState, Trigger], SessionState]] = {
    # A start is always heard: from rest it begins, while alive it begins again (a new host).
    **{(state, _T.START): _S.STARTING for state in SessionState},
    # What WhatsApp ended is not said to be stopped: that would hide why, and what to do.
    **{(state, _T.STOP): _S.STOPPED for state in (_S.CREATED, *ALIVE)},
    **{(state, _T.LOG_OUT): _S.LOGGED_OUT for state in set(SessionState) - {_S.LOGGED_OUT}},
    **{(state, _T.FAIL): _S.FAILED for state in ALIVE},
    **{(state, _T.BAN): _S.BANNED for state in ALIVE},
    **{(state, _T.CONNECT): _S.CONNECTED for state in ALIVE},
    (_S.CONNECTED, _T.DROP): _S.RECONNECTING,
    (_S.RECONNECTING, _T.DROP): _S.RECONNECTING,
    # The first login of a device may drop before it was ever seen connected.
    (_S.STARTING, _T.DROP): _S.STARTING,
    # What was offered is worth nothing any more; the next host offers anew.
    (_S.PAIRING, _T.DROP): _S.STARTING,
    (_S.STARTING, _T.OFFER): _S.PAIRING,
    (_S.PAIRING, _T.OFFER): _S.PAIRING,
    (_S.STARTING, _T.PAIRED): _S.STARTING,
    (_S.PAIRING, _T.PAIRED): _S.STARTING,
    (_S.STARTING, _T.EXPIRE): _S.STOPPED,
    (_S.PAIRING, _T.EXPIRE): _S.STOPPED,
    (_S.STARTING, _T.PASSKEY): _S.PASSKEY_REQUIRED,
    (_S.PAIRING, _T.PASSKEY): _S.PASSKEY_REQUIRED,
}


def after(state: SessionState, trigger: Trigger) -> SessionState | None:
    """The state that follows, or None where the trigger means nothing in this state."""
    return TRANSITIONS.get((state, trigger))


RESUMABLE: Final = ALIVE | {_S.CREATED}
"""States from which a wanted session goes on by itself. From any other, WhatsApp or its owner ended
it, and only a new start, or the end of a ban, begins it again."""
ANSWERS_START: Final = frozenset(SessionState) - {
    _S.CREATED,
    _S.STARTING,
    _S.RECONNECTING,
    _S.STOPPED,
}
"""States that answer a start: it works, it asks to be paired, or it ended."""


class Meaning(msgspec.Struct, frozen=True):
    """What a state means, and what to do in it."""

    means: str
    then: str


STATES: Final[dict[SessionState, Meaning]] = {
    _S.CREATED: Meaning("It was made, and never started.", "Start it and pair it."),
    _S.STARTING: Meaning("Its socket is being opened.", "It will be ready in a moment."),
    _S.PAIRING: Meaning(
        "A QR, and a code where a number was given, wait for the phone.",
        "Pair it: show its QR or its code to the owner of the phone.",
    ),
    _S.CONNECTED: Meaning("The socket is open and logged in.", "It is ready."),
    _S.RECONNECTING: Meaning(
        "The socket was lost and is dialled again; messages wait.",
        "It will be ready again in a moment.",
    ),
    _S.STOPPED: Meaning("No socket is held; the credentials are kept.", "Start it."),
    _S.LOGGED_OUT: Meaning(
        "The device was removed; its credentials are erased.", "Start it and pair it again."
    ),
    _S.BANNED: Meaning(
        "WhatsApp banned the account, for good or until `until`.",
        "Nothing can be sent from this account now.",
    ),
    _S.FAILED: Meaning(
        "It ended in a way that starting it at once would not mend.",
        "Act on the reason, then start it.",
    ),
    _S.PASSKEY_REQUIRED: Meaning(
        "WhatsApp asked for a passkey while pairing.",
        "Remove the passkey from the account, or link another number.",
    ),
}
"""For the README, and for whoever asked a session for what it cannot do in its state."""


class Reason(StrEnum):
    """Why a session is in its state, as a code; `REASONS` says it in words."""

    STOPPED_BY_TENANT = "stopped_by_tenant"
    LOGGED_OUT_BY_TENANT = "logged_out_by_tenant"
    REMOVED_ON_PHONE = "removed_on_phone"
    ACCOUNT_LOCKED = "account_locked"
    ACCOUNT_BANNED = "account_banned"
    TEMPORARILY_BANNED = "temporarily_banned"
    REPLACED = "replaced"
    PAIRING_EXPIRED = "pairing_expired"
    PAIRING_REFUSED = "pairing_refused"
    PASSKEY_REQUIRED = "passkey_required"
    CLIENT_OUTDATED = "client_outdated"
    CONNECTION_LOST = "connection_lost"
    CONNECTION_REFUSED = "connection_refused"
    SILENT = "silent"
    PROXY_FAILED = "proxy_failed"
    STORE_UNAVAILABLE = "store_unavailable"
    CREDENTIALS_RESET = "credentials_reset"
    HOST_DIED = "host_died"


REASONS: Final[dict[Reason, str]] = {
    Reason.STOPPED_BY_TENANT: "You stopped it. Start it to connect again; no pairing is needed.",
    Reason.LOGGED_OUT_BY_TENANT: "You logged it out. Start it to pair the number again.",
    Reason.REMOVED_ON_PHONE: "The device was removed on the phone. Start it to pair again.",
    Reason.ACCOUNT_LOCKED: "WhatsApp locked the account. Unlock it on the phone, then start it to "
    "pair again.",
    Reason.ACCOUNT_BANNED: "WhatsApp banned the account. Ask for a review on the phone; once it is "
    "lifted, start it to pair again.",
    Reason.TEMPORARILY_BANNED: "WhatsApp banned the account until `until`. It starts by itself "
    "then, unless you stop it; send less, and only to people who expect it. If the ban was lifted "
    "before, restart it.",
    Reason.REPLACED: "The same device connected elsewhere. Start it to take the connection back.",
    Reason.PAIRING_EXPIRED: "Nobody scanned the QR or typed the code in time. Start it again.",
    Reason.PAIRING_REFUSED: "WhatsApp refused the pairing. Check the number, then start it again.",
    Reason.PASSKEY_REQUIRED: "WhatsApp asks for a passkey to link this account, which is not "
    "supported yet. Remove the passkey on the phone and start it again, or link another number.",
    Reason.CLIENT_OUTDATED: "WhatsApp refuses this client version. Ask your operator to update "
    "Zapgate, then start it.",
    Reason.CONNECTION_LOST: "The connection was lost; it is being made again. Nothing to do.",
    Reason.CONNECTION_REFUSED: "WhatsApp refused the connection. Start it to try again.",
    Reason.SILENT: "The connection was open, but nothing came over it; it is being made again. "
    "Nothing to do.",
    Reason.PROXY_FAILED: "The session's proxy does not let it through. Mend or change the proxy; "
    "it is being tried again.",
    Reason.STORE_UNAVAILABLE: "Its credentials cannot be read just now; it is being tried again. "
    "If it lasts, ask your operator; a reset of the credentials begins anew, with pairing.",
    Reason.CREDENTIALS_RESET: "You reset its credentials. Remove the device on the phone if it is "
    "still listed there, and start it to pair the number again.",
    Reason.HOST_DIED: "The process that held the socket ended; it is being started again. Nothing "
    "to do.",
}


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session as stored."""

    id: SessionId
    tenant_id: TenantId
    name: str
    shard: int
    state: SessionState
    desired: Desired
    created_at: int
    updated_at: int
    phone_number: str | None = None
    """E.164. What the tenant said it would be, then what WhatsApp said it is."""
    lid: str | None = None
    """The account's hidden id, once known."""
    pending: bool = False
    """Whether the tenant's last order still waits for a gateway."""
    reason: Reason | None = None
    detail: str | None = None
    """What is known beyond the reason, in words."""
    until: int | None = None
    """When a temporary ban ends (ms)."""
    connected_at: int | None = None
    """When it was last connected; None while no device is linked."""
    proxy: Proxy | None = None
    """Through what its socket goes, if its tenant has a proxy for it."""
    epoch: int = 0
    """Fencing token of the last gateway that wrote the state; an older one is refused."""


def sendable(session: Session) -> bool:
    """Whether a message is accepted: it is connected, or on the way (back) to it with a device."""
    match session.state:
        case SessionState.CONNECTED | SessionState.RECONNECTING:
            return True
        case SessionState.STARTING:
            return session.connected_at is not None
        case _:
            return False


def linked(session: Session) -> bool:
    """Whether it has a device that was connected at least once: a start connects, not pairs."""
    return session.connected_at is not None


def starting_anew(session: Session) -> bool:
    """Whether it is at rest and a start was ordered that no gateway has carried out yet."""
    return session.state in AT_REST and session.desired is Desired.RUNNING and session.pending


def ban_ends(session: Session) -> int | None:
    """When the ban ends of a session that is banned for a time, and wanted; None for any other.

    An account's ban ends by WhatsApp's word only, which nobody hears but the owner.
    """
    banned = session.state is SessionState.BANNED and session.reason is Reason.TEMPORARILY_BANNED
    return session.until if banned and session.desired is Desired.RUNNING else None


def unlinked(state: SessionState, reason: Reason | None) -> bool:
    """Whether a session that came to this state has no device any more, or not yet.

    An account's ban takes the device with it, as a log-out does; one for a time does not. A QR is
    offered only where there is none.
    """
    if state is SessionState.BANNED:
        return reason is Reason.ACCOUNT_BANNED
    return state in {SessionState.LOGGED_OUT, SessionState.PAIRING}


class Pairing(msgspec.Struct, frozen=True, kw_only=True):
    """The running attempt to link a number: QR and code are valid side by side."""

    qr: str
    qr_expires_at: int
    attempt_expires_at: int
    """When WhatsApp offers no further QR and the attempt ends."""
    code: str | None = None
    """`XXXX-XXXX`, where a phone number was given."""
    phone_number: str | None = None
    code_expires_at: int | None = None
    """When another code takes its place, or the attempt ends."""
    code_error: str | None = None
    """Why there is no code for that number, in words."""


def shard_of(session_id: SessionId, shards: int) -> int:
    """The shard a new session gets: its random bits, spread evenly."""
    # The last 8 characters are 40 random bits of the id.
    return int(session_id[-8:].translate(_TO_DIGITS), 32) % shards


_TO_DIGITS: Final = str.maketrans(
    "0123456789abcdefghjkmnpqrstvwxyz", "0123456789abcdefghijklmnopqrstuv"
)
