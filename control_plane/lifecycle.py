"""The orders that move a session: start, stop, restart, log out, reset, delete.

An order writes what the tenant wants and queues a command; the gateway writes what is. So orders
are answered 202, or 200 where `Prefer: wait=N` saw them carried out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from litestar import Response, delete, post
from litestar.params import FromPath, JSONBody

from control_plane import orders, waiting
from control_plane.call import Call
from control_plane.fields import PhoneNumber, phone_number
from control_plane.idempotency import Answer, once, reply
from control_plane.plane import Plane
from control_plane.sessions import (
    PATH,
    SessionOut,
    awaited,
    found,
    refused,
    running,
    shown,
)
from shared.commands import DeleteSession, LogOutSession, ResetSession, StopSession
from shared.ids import SessionId
from shared.session import AT_REST, Desired, Session, SessionState
from shared.store import sessions as store
from shared.tenant import Scope


class StartIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to start."""

    phone_number: PhoneNumber | None = None
    """Ask for a pairing code for this number, if it is not linked yet."""


@post(f"{PATH}/{{session_id:str}}/start", needs=Scope.SESSIONS_WRITE, status_code=202)
async def start_session(
    session_id: FromPath[str], data: JSONBody[StartIn], request: Call
) -> Response[SessionOut]:
    """Connect a session, or begin to pair it where it is not linked.

    One that is banned for a time is started when the ban is over.
    """
    number = phone_number(data.phone_number)

    def issue(plane: Plane, session: Session) -> None:
        orders.start(plane, session, phone_number=number)

    def check(session: Session) -> None:
        if session.state not in AT_REST and session.desired is Desired.RUNNING:
            raise refused(session, "It is running already; restart it to begin again.")

    order = _Order(
        desired=Desired.RUNNING, check=check, issue=issue, settled=running, phone_number=number
    )
    return await _carry_out(request, session_id, order)


@post(f"{PATH}/{{session_id:str}}/stop", needs=Scope.SESSIONS_WRITE, status_code=202)
async def stop_session(session_id: FromPath[str], request: Call) -> Response[SessionOut]:
    """Disconnect a session and keep its credentials: starting it needs no pairing."""

    def check(session: Session) -> None:
        if session.state in AT_REST and session.desired is Desired.STOPPED:
            raise refused(session, "There is nothing to stop.")

    def issue(plane: Plane, session: Session) -> None:
        orders.of_kind(plane, session, StopSession)

    order = _Order(desired=Desired.STOPPED, check=check, issue=issue, settled=_at_rest)
    return await _carry_out(request, session_id, order)


@post(f"{PATH}/{{session_id:str}}/restart", needs=Scope.SESSIONS_WRITE, status_code=202)
async def restart_session(session_id: FromPath[str], request: Call) -> Response[SessionOut]:
    """End what holds the session's socket and begin afresh, with the same credentials.

    One that is banned for a time asks WhatsApp at once whether it still is.
    """

    def check(session: Session) -> None:
        if session.state in AT_REST and session.desired is Desired.STOPPED:
            raise refused(session, "It is not running; start it.")

    def issue(plane: Plane, session: Session) -> None:
        orders.start(plane, session, restart=True)

    order = _Order(desired=Desired.RUNNING, check=check, issue=issue, settled=running)
    return await _carry_out(request, session_id, order)


@post(f"{PATH}/{{session_id:str}}/log_out", needs=Scope.SESSIONS_WRITE, status_code=202)
async def log_out_session(session_id: FromPath[str], request: Call) -> Response[SessionOut]:
    """Remove the device from the WhatsApp account and erase its credentials."""

    def issue(plane: Plane, session: Session) -> None:
        orders.of_kind(plane, session, LogOutSession)

    order = _Order(desired=Desired.STOPPED, check=_has_device, issue=issue, settled=_logged_out)
    return await _carry_out(request, session_id, order)


@post(f"{PATH}/{{session_id:str}}/reset", needs=Scope.SESSIONS_WRITE, status_code=202)
async def reset_session(session_id: FromPath[str], request: Call) -> Response[SessionOut]:
    """Erase a session's credentials without asking WhatsApp: starting it pairs anew.

    For a device that does not work any more, or an account that cannot be reached; otherwise log
    out. The phone lists the device until it is removed there.
    """

    def issue(plane: Plane, session: Session) -> None:
        orders.of_kind(plane, session, ResetSession)

    order = _Order(desired=Desired.STOPPED, check=_has_device, issue=issue, settled=_logged_out)
    return await _carry_out(request, session_id, order)


@delete(f"{PATH}/{{session_id:str}}", needs=Scope.SESSIONS_WRITE, status_code=202)
async def delete_session(session_id: FromPath[str], request: Call) -> Response[SessionOut]:
    """Log a session out and erase it. Its id is unknown once that is done.

    The session, its messages, its pairing and its credentials are erased at once. Its events stay
    in the event log until their thirty days are over; deleting the tenant erases those too.
    """

    def work() -> Answer[SessionOut]:
        plane = request.plane
        session = found(request, session_id)
        now = plane.now()
        # One that is being deleted already is ordered again: the first order may not have got out.
        plane.aws.run(store.desire(request.tenant_id, session.id, Desired.DELETED, now))
        orders.of_kind(plane, session, DeleteSession)
        gone = msgspec.structs.replace(
            session, desired=Desired.DELETED, updated_at=now, pending=True
        )
        return Answer(202, shown(plane, gone))

    done = await once(request, work)
    if done.body is None or not request.wait:
        return done.response
    op = store.read(request.tenant_id, SessionId(session_id))
    left = await waiting.until(
        request, lambda: request.plane.aws.run(op), lambda session: session is None
    )
    body = (
        _erased(done.body)
        if left is None
        else await request.run(lambda: shown(request.plane, left))
    )
    return reply(
        200 if left is None else 202, msgspec.json.encode(body), headers=waiting.applied(request)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What an order wants, when it makes sense, and what answers it."""

    desired: Desired
    check: Callable[[Session], None]
    """Raises Problem where the order makes no sense in the session's state."""
    issue: Callable[[Plane, Session], None]
    settled: Callable[[Session], bool]
    phone_number: str | None = None


async def _carry_out(call: Call, session_id: str, order: _Order) -> Response[SessionOut]:
    """Write what is wanted, queue the command, and wait for the state if asked to."""

    def work() -> Answer[SessionOut]:
        plane = call.plane
        session = found(call, session_id)
        if session.desired is Desired.DELETED:
            raise refused(session, "It is being deleted.")
        order.check(session)
        now = plane.now()
        wanted = store.desire(call.tenant_id, session.id, order.desired, now, order.phone_number)
        if not plane.aws.run(wanted):
            raise refused(session, "It is being deleted.")
        order.issue(plane, session)
        ordered = msgspec.structs.replace(
            session,
            desired=order.desired,
            pending=True,
            updated_at=now,
            phone_number=order.phone_number or session.phone_number,
        )
        return Answer(202, shown(plane, ordered), f"{PATH}/{session.id}")

    return await awaited(call, await once(call, work), order.settled)


def _has_device(session: Session) -> None:
    never = session.state in {SessionState.CREATED, SessionState.LOGGED_OUT}
    if never and session.desired is Desired.STOPPED:
        raise refused(session, "No number is linked.")


def _erased(ordered: SessionOut) -> SessionOut:
    """A session that is gone, as it was in the end: without a device."""
    return msgspec.structs.replace(
        ordered,
        state=SessionState.LOGGED_OUT,
        pending=False,
        reason=None,
        detail=None,
        until=None,
        connected_at=None,
    )


def _at_rest(session: Session) -> bool:
    return session.state in AT_REST


def _logged_out(session: Session) -> bool:
    return session.state is SessionState.LOGGED_OUT


ROUTES: Final = [
    start_session,
    stop_session,
    restart_session,
    log_out_session,
    reset_session,
    delete_session,
]
