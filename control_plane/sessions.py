"""Sessions: linked WhatsApp numbers, made, listed, read and changed.

What moves them is in `lifecycle`.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Final, cast

import msgspec
from litestar import Response, get, patch, post
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Meta, UnsetType

from control_plane import orders, paging, proxies, waiting
from control_plane.auth import unauthorized
from control_plane.call import Call
from control_plane.fields import Name, PhoneNumber, instant, phone_number
from control_plane.idempotency import Answer, Done, once, reply
from control_plane.paging import DEFAULT_LIMIT, Cursor, Limit, PageOut
from control_plane.plane import Plane
from control_plane.problems import Problem, not_found
from control_plane.proxies import ProxyUrl
from shared import clock, ids
from shared.errors import ZapgateError
from shared.ids import SessionId
from shared.session import (
    ANSWERS_START,
    REASONS,
    STATES,
    Desired,
    Reason,
    Session,
    SessionState,
    shard_of,
)
from shared.store import sessions as store
from shared.tenant import Scope

PATH: Final = "/v1/sessions"


class SessionIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A session to make."""

    name: Name
    phone_number: PhoneNumber | None = None
    """Ask for a pairing code for this number, beside the QR."""
    start: bool = True
    """Begin pairing at once."""
    proxy: Annotated[ProxyUrl, Meta(description=proxies.ABOUT)] | None = None


class SessionPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change; what is not given stays."""

    name: Name | UnsetType = UNSET
    proxy: ProxyUrl | UnsetType | None = UNSET
    """As on creation; `null` removes it. Either way a session that runs is restarted."""


class SessionOut(msgspec.Struct, frozen=True, kw_only=True):
    """A session."""

    id: Annotated[str, Meta(examples=["ses_01k9x6m3qhd5c8w7v2n4t0b1za"])]
    name: str
    state: SessionState
    desired: Desired
    """What you last ordered."""
    pending: bool
    """Whether that order still waits for a gateway. Where it does not, and `state` does not agree
    with `desired`, `reason` says why."""
    attended: bool
    """Whether a gateway holds this session's shard now. Where none does, `state` is what was last
    seen; orders and messages are taken and wait."""
    phone_number: str | None
    lid: str | None
    """The account's hidden id, which WhatsApp uses in a phone number's place."""
    reason: Reason | None
    """Why it is in this state."""
    detail: str | None
    """The reason in words, and what to do."""
    until: datetime | None
    """When a temporary ban ends."""
    proxy: Annotated[str | None, Meta(examples=["socks5://***@proxy.example.com:1080"])]
    """Its own proxy, with `***` in place of credentials."""
    connected_at: datetime | None
    created_at: datetime
    updated_at: datetime


def shown(plane: Plane, session: Session) -> SessionOut:
    """May ask AWS whether anybody holds it."""
    return SessionOut(
        id=session.id,
        name=session.name,
        state=session.state,
        desired=session.desired,
        pending=session.pending,
        attended=plane.attendance.of(session.shard),
        phone_number=session.phone_number,
        lid=session.lid,
        reason=session.reason,
        detail=_in_words(session),
        until=instant(session.until),
        proxy=None if session.proxy is None else session.proxy.shown,
        connected_at=instant(session.connected_at),
        created_at=clock.instant(session.created_at),
        updated_at=clock.instant(session.updated_at),
    )


def _in_words(session: Session) -> str | None:
    if session.reason is None:
        return None
    more = "" if session.detail is None else f" ({session.detail})"
    return REASONS[session.reason] + more


def found(call: Call, session_id: str) -> Session:
    """The tenant's session. Raises Problem, the same whoever else's it may be."""
    session: Session | None = None
    if ids.is_id(ids.SESSION, session_id):
        session = call.plane.aws.run(store.read(call.tenant_id, SessionId(session_id)))
    if session is None:
        raise not_found("session")
    return session


def refused(session: Session, what: str = "", code: str = "conflict") -> Problem:
    """An order that makes no sense now: the state, and why or what to do about it.

    Without `what`, the reason says both where there is one.
    """
    known = STATES[session.state].then if session.reason is None else REASONS[session.reason]
    return Problem(
        code,
        f"The session is {session.state.value}. {what or known}",
        state=session.state,
        reason=session.reason,
        until=instant(session.until),
    )


@post(PATH, needs=Scope.SESSIONS_WRITE, status_code=202)
async def create_session(data: JSONBody[SessionIn], request: Call) -> Response[SessionOut]:
    """Make a session and, unless told otherwise, begin to pair it.

    Read its pairing next and show the QR or the code to the owner of the phone. With
    `Prefer: wait=N` the answer waits until there is an offer.
    """
    number = phone_number(data.phone_number)
    upstream = None if data.proxy is None else await proxies.checked(request, data.proxy)
    plane = request.plane

    def work() -> Answer[SessionOut]:
        now = plane.now()
        session_id = SessionId(clock.mint(ids.SESSION))
        session = Session(
            id=session_id,
            tenant_id=request.tenant_id,
            name=data.name,
            shard=shard_of(session_id, plane.settings.shards),
            state=SessionState.CREATED,
            desired=Desired.RUNNING if data.start else Desired.STOPPED,
            created_at=now,
            updated_at=now,
            phone_number=number,
            proxy=None if upstream is None else proxies.sealed(request, session_id, upstream),
            pending=data.start,
        )
        try:
            created = plane.aws.run(store.create(request.tenant_id, session))
            if created and data.start:
                orders.start(plane, session, phone_number=number)
        except ZapgateError:
            # Not whole, so not made: nothing of it may be left for a repeat to meet.
            plane.aws.run(store.remove(request.tenant_id, session_id))
            raise
        if not created:
            # The tenant was suspended or deleted, and this process had not heard.
            plane.keys.forget(request.tenant_id)
            raise unauthorized()
        return Answer(202, shown(plane, session), f"{PATH}/{session_id}")

    done = await once(request, work)
    if not data.start:
        return done.response
    return await awaited(request, done, running)


@get(PATH, needs=Scope.SESSIONS_READ)
async def list_sessions(
    request: Call, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Response[PageOut[SessionOut]]:
    """List your sessions, newest first."""
    rows = paging.page(request, "sessions", limit, cursor)
    page = await request.run(lambda: request.plane.aws.run(store.every(request.tenant_id, rows)))
    return await request.run(
        lambda: paging.answer(
            request, "sessions", page, lambda session: shown(request.plane, session)
        )
    )


@get(f"{PATH}/{{session_id:str}}", needs=Scope.SESSIONS_READ)
async def read_session(session_id: FromPath[str], request: Call) -> Response[SessionOut]:
    """Read a session's state."""
    body = await request.run(lambda: shown(request.plane, found(request, session_id)))
    return reply(200, msgspec.json.encode(body))


@patch(f"{PATH}/{{session_id:str}}", needs=Scope.SESSIONS_WRITE)
async def change_session(
    session_id: FromPath[str], data: JSONBody[SessionPatch], request: Call
) -> Response[SessionOut]:
    """Change a session's name or its proxy; what is not given stays as it is.

    A session that runs is restarted when `proxy` is given, also the same one again, so that it
    dials by that way at once; messages wait meanwhile. `null` removes the proxy.
    """
    upstream = await proxies.checked(request, data.proxy) if isinstance(data.proxy, str) else None
    plane = request.plane

    def work() -> Answer[SessionOut]:
        session = found(request, session_id)
        if data == SessionPatch():
            return Answer(200, shown(plane, session))
        proxy = None if upstream is None else proxies.sealed(request, session.id, upstream)
        changes = store.Changes(
            at=plane.now(), name=data.name, proxy=UNSET if data.proxy is UNSET else proxy
        )
        if not plane.aws.run(store.change(request.tenant_id, session.id, changes)):
            raise refused(session, "It is being deleted.")
        changed = changes.of(session)
        if data.proxy is not UNSET:
            # Also where it seems to be at rest: it may have been started at this moment.
            orders.redial(plane, changed)
        return Answer(200, shown(plane, changed))

    return (await once(request, work)).response


async def awaited(
    call: Call, done: Done[SessionOut], settled: Callable[[Session], bool]
) -> Response[SessionOut]:
    """The first answer, or the session as it became while the caller waited."""
    ordered = done.body
    if ordered is None or not call.wait:
        return done.response
    op = store.read(call.tenant_id, SessionId(ordered.id))

    def answered(session: Session | None) -> bool:
        # A state from before the order is not its answer.
        return session is None or (not session.pending and settled(session))

    session = await waiting.until(call, lambda: call.plane.aws.run(op), answered)
    body = ordered
    if session is not None:
        body = await call.run(lambda: shown(call.plane, session))
    status = 200 if answered(session) else 202
    return reply(
        status,
        msgspec.json.encode(body),
        cast("str | None", done.response.headers.get("Location")),
        waiting.applied(call),
    )


def running(session: Session) -> bool:
    """Whether a start is answered: it works, it asks to be paired, or it ended."""
    return session.state in ANSWERS_START


ROUTES: Final = [create_session, list_sessions, read_session, change_session]
