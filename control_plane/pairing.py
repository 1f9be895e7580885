"""Pairing: the running attempt to link a number, its code and its QR in four forms."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, assert_never

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from control_plane import orders, waiting
from control_plane.call import Call
from control_plane.fields import PhoneNumber, instant, phone_number
from control_plane.idempotency import Answer, once, reply
from control_plane.problems import Problem
from control_plane.sessions import PATH as SESSIONS
from control_plane.sessions import found, refused
from shared.session import (
    ALIVE,
    AT_REST,
    Desired,
    Pairing,
    Session,
    linked,
    starting_anew,
)
from shared.store import sessions as store
from shared.tenant import Scope

PATH: Final = f"{SESSIONS}/{{session_id:str}}/pairing"


class PairingIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to pair."""

    phone_number: PhoneNumber | None = None
    """Ask for a pairing code for this number. The QR is there in any case."""


class PairingStatus(StrEnum):
    STARTING = "starting"
    """No offer yet, or the next QR is on its way."""
    OFFERED = "offered"


class PairingOut(msgspec.Struct, frozen=True, kw_only=True):
    """The running attempt. QR and code are valid side by side."""

    session_id: str
    status: PairingStatus
    qr: str | None
    """What the QR says: draw it yourself, or ask for `…/pairing/qr`."""
    qr_expires_at: datetime | None
    """When the next QR takes its place."""
    code: str | None
    """To be typed on the phone, under "Link with phone number"."""
    code_expires_at: datetime | None
    """When another code takes its place, or the attempt ends."""
    code_error: str | None
    """Why there is no code for the number."""
    phone_number: str | None
    expires_at: datetime | None
    """When the attempt ends."""


class QrFormat(StrEnum):
    """How the QR is drawn."""

    TEXT = "text"
    PNG = "png"
    SVG = "svg"
    DATA_URL = "data_url"


@get(PATH, needs=Scope.SESSIONS_READ)
async def read_pairing(session_id: FromPath[str], request: Call) -> Response[PairingOut]:
    """Read the running attempt: its code, its QR, and until when they are good.

    With `Prefer: wait=N` the answer waits for an offer.
    """
    return _answer(request, 200, await _offered(request, session_id))


@post(PATH, needs=Scope.SESSIONS_WRITE, status_code=202)
async def start_pairing(
    session_id: FromPath[str], data: JSONBody[PairingIn], request: Call
) -> Response[PairingOut]:
    """Begin an attempt afresh, with a code for `phone_number` if one is given.

    What an attempt under way has shown is void then. A number that WhatsApp gives no code for is
    told in `code_error`; the QR is good all the same.

    With `Prefer: wait=N` the answer waits for the offer.
    """
    number = phone_number(data.phone_number)

    def work() -> Answer[PairingOut]:
        plane = request.plane
        session = found(request, session_id)
        if linked(session) and session.desired is not Desired.DELETED:
            then = "" if session.state in ALIVE else ", or start it to connect"
            raise refused(session, f"Its number is linked; log it out first{then}.")
        now = plane.now()
        desired = store.desire(request.tenant_id, session.id, Desired.RUNNING, now, number)
        if not plane.aws.run(desired):
            raise refused(session, "It is being deleted.")
        # What the last attempt offered is no answer to this one.
        plane.aws.run(store.withdraw(request.tenant_id, session.id).alone())
        restart = session.state in ALIVE
        orders.start(plane, session, phone_number=number, restart=restart)
        return Answer(202, _shown(session.id, None, now))

    done = await once(request, work)
    if done.body is None or not request.wait:
        return done.response

    def settled(seen: tuple[Session, Pairing | None]) -> bool:
        session, pairing = seen
        # A state or an offer from before the order is not its answer.
        over = session.state in AT_REST or linked(session)
        return not session.pending and (over or _is_offer(pairing, request.plane.now(), number))

    session, pairing = await waiting.until(request, lambda: _seen(request, session_id), settled)
    offered = not session.pending and _is_offer(pairing, request.plane.now(), number)
    return _answer(request, 200 if offered else 202, (session, pairing))


@get(f"{PATH}/qr", needs=Scope.SESSIONS_READ)
async def read_pairing_qr(
    session_id: FromPath[str],
    request: Call,
    drawn: Annotated[
        QrFormat | None,
        QueryParameter(name="format", description="Goes before what `Accept` says."),
    ] = None,
) -> Response[bytes]:
    """Draw the QR: as text for a terminal, PNG, SVG or a data URL.

    With `Prefer: wait=N` the answer waits for one.
    """
    form = drawn or _acceptable(request)
    session, pairing = await _offered(request, session_id)
    if pairing is None or pairing.qr_expires_at <= request.plane.now():
        raise Problem(
            "conflict",
            "There is no QR yet. Ask again in a moment, or with Prefer: wait=10.",
            state=session.state,
        )
    body = await request.run(lambda: _drawn(form, pairing.qr))
    return reply(200, body, headers=waiting.applied(request), media_type=_MEDIA_TYPES[form])


async def _offered(call: Call, session_id: str) -> tuple[Session, Pairing | None]:
    """The session and its attempt, once there is an offer or the time asked for is over."""

    def settled(seen: tuple[Session, Pairing | None]) -> bool:
        session, pairing = seen
        over = session.state in AT_REST and not starting_anew(session)
        return over or linked(session) or _is_offer(pairing, call.plane.now())

    session, pairing = await waiting.until(call, lambda: _seen(call, session_id), settled)
    if session.state in AT_REST and not starting_anew(session):
        raise refused(session)
    if linked(session):
        raise refused(session, "Its number is linked.")
    return session, pairing


def _seen(call: Call, session_id: str) -> tuple[Session, Pairing | None]:
    session = found(call, session_id)
    pairing = call.plane.aws.run(store.pairing(call.tenant_id, session.id))
    if pairing is not None and pairing.attempt_expires_at <= call.plane.now():
        pairing = None
    return session, pairing


def _is_offer(pairing: Pairing | None, now: int, number: str | None = None) -> bool:
    """Whether there is something to show; with a number, its code too or why there is none."""
    if pairing is None or pairing.qr_expires_at <= now:
        return False
    if number is not None and pairing.phone_number != number:
        return False  # the offer of an attempt before
    return (
        pairing.phone_number is None or pairing.code is not None or pairing.code_error is not None
    )


def _shown(session_id: str, pairing: Pairing | None, now: int) -> PairingOut:
    live = pairing is not None and pairing.qr_expires_at > now
    return PairingOut(
        session_id=session_id,
        status=PairingStatus.OFFERED if live else PairingStatus.STARTING,
        qr=pairing.qr if pairing and live else None,
        qr_expires_at=instant(pairing.qr_expires_at) if pairing and live else None,
        code=pairing.code if pairing else None,
        code_expires_at=instant(pairing.code_expires_at) if pairing else None,
        code_error=pairing.code_error if pairing else None,
        phone_number=pairing.phone_number if pairing else None,
        expires_at=instant(pairing.attempt_expires_at) if pairing else None,
    )


def _answer(call: Call, status: int, seen: tuple[Session, Pairing | None]) -> Response[PairingOut]:
    session, pairing = seen
    body = _shown(session.id, pairing, call.plane.now())
    return reply(status, msgspec.json.encode(body), headers=waiting.applied(call))


_ACCEPTED: Final = {
    "image/png": QrFormat.PNG,
    "image/svg+xml": QrFormat.SVG,
    "text/plain": QrFormat.TEXT,
}


def _acceptable(call: Call) -> QrFormat:
    if not call.headers.get("accept", "").strip():
        return QrFormat.PNG
    best = call.accept.best_match(list(_ACCEPTED))
    if best is None:
        raise Problem("not_acceptable", f"The QR comes as {', '.join(_ACCEPTED)}.")
    return _ACCEPTED[best]


_MEDIA_TYPES: Final = {
    QrFormat.TEXT: "text/plain",
    QrFormat.PNG: "image/png",
    QrFormat.SVG: "image/svg+xml",
    QrFormat.DATA_URL: "text/plain",
}


def _drawn(form: QrFormat, text: str) -> bytes:
    # qrcode takes 60 ms to import, a tenth of a cold start, and few requests draw a QR.
    from control_plane import qr  # noqa: PLC0415

    match form:
        case QrFormat.TEXT:
            return qr.text(text)
        case QrFormat.PNG:
            return qr.png(text)
        case QrFormat.SVG:
            return qr.svg(text)
        case QrFormat.DATA_URL:
            return qr.data_url(text)
        case _:
            assert_never(form)


ROUTES: Final = [read_pairing, start_pairing, read_pairing_qr]
