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

_ALIVE: Final = (_S.STARTING, _S.PAIRING, _S.CONNECTED, _S.RECONNECTING)
_REST: Final = (_S.CREATED, _S.STOPPED, _S.LOGGED_OUT, _S.BANNED, _S.FAILED, _S.PASSKEY_REQUIRED)

TRANSITIONS: Final[dict[tuple[SessionState, Trigger], SessionState]] = {
    # A start is always heard: from rest it begins, while alive it begins again (a new host).
    **{(state, _T.START): _S.STARTING for state in (*_REST, *_ALIVE)},
    **{(state, _T.STOP): _S.STOPPED for state in (*_REST, *_ALIVE)},
    **{(state, _T.LOG_OUT): _S.LOGGED_OUT for state in (*_REST, *_ALIVE)},
    **{(state, _T.FAIL): _S.FAILED for state in _ALIVE},
    **{(state, _T.BAN): _S.BANNED for state in _ALIVE},
    **{(state, _T.DROP): _S.RECONNECTING for state in (_S.CONNECTED, _S.RECONNECTING)},
    **{(state, _T.CONNECT): _S.CONNECTED for state in _ALIVE},
    (_S.STARTING, _T.OFFER): _S.PAIRING,
    (_S.PAIRING, _T.OFFER): _S.PAIRING,
    (_S.PAIRING, _T.PAIRED): _S.STARTING,
    (_S.STARTING, _T.PAIRED): _S.STARTING,
    (_S.PAIRING, _T.EXPIRE): _S.STOPPED,
    (_S.STARTING, _T.EXPIRE): _S.STOPPED,
    (_S.PAIRING, _T.PASSKEY): _S.PASSKEY_REQUIRED,
    (_S.STARTING, _T.PASSKEY): _S.PASSKEY_REQUIRED,
    # The first login of a device may drop before it was ever seen connected.
    (_S.STARTING, _T.DROP): _S.STARTING,
}


def after(state: SessionState, trigger: Trigger) -> SessionState | None:
    """The state that follows, or None where the trigger means nothing in this state."""
    return TRANSITIONS.get((state, trigger))


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
    Reason.ACCOUNT_LOCKED: "WhatsApp locked the account. Unlock it on the phone, then pair again.",
    Reason.ACCOUNT_BANNED: "WhatsApp banned the account. Ask for a review on the phone.",
    Reason.TEMPORARILY_BANNED: "WhatsApp banned the account for a time; `until` says how long.",
    Reason.REPLACED: "The same device connected elsewhere. Start it to take the connection back.",
    Reason.PAIRING_EXPIRED: "Nobody scanned the QR or typed the code in time. Start it again.",
    Reason.PAIRING_REFUSED: "WhatsApp refused the pairing. Check the number, then start it again.",
    Reason.PASSKEY_REQUIRED: "WhatsApp asks for a passkey to link this account, which is not "
    "supported yet. Link it from a phone without one.",
    Reason.CLIENT_OUTDATED: "WhatsApp refuses this client version. Zapgate must be updated.",
    Reason.CONNECTION_LOST: "The connection was lost; it is being made again.",
    Reason.CONNECTION_REFUSED: "WhatsApp refused the connection. Start it to try again.",
    Reason.SILENT: "The connection was open, but nothing came over it; it is being made again.",
    Reason.PROXY_FAILED: "The session's proxy does not let it through. Mend or change the proxy; "
    "it is being tried again.",
    Reason.STORE_UNAVAILABLE: "Its credentials cannot be read just now; it is being tried again.",
    Reason.CREDENTIALS_RESET: "You reset its credentials. Start it to pair the number again.",
    Reason.HOST_DIED: "The process that held the socket ended; it is being started again.",
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
    reason: Reason | None = None
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
    code_error: str | None = None
    """Why there is no code for that number, in words."""


def shard_of(session_id: SessionId, shards: int) -> int:
    """The shard a new session gets: its random bits, spread evenly."""
    # The last 8 characters are 40 random bits of the id.
    return int(session_id[-8:].translate(_TO_DIGITS), 32) % shards


_TO_DIGITS: Final = str.maketrans(
    "0123456789abcdefghjkmnpqrstvwxyz", "0123456789abcdefghijklmnopqrstuv"
)
