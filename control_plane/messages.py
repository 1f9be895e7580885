"""Messages: sent by REST, followed by status.

An accepted message is a row and a signed command. Accepting costs one read, one write and one
request to the queue; with an idempotency key, one more write keeps the answer.

Where the queue does not answer, the command may be on it. Then the row stays, the answer is 503 and
names it, and a repeat with the same key orders the same message again, under the same command id.
"""

import logging
import re
from datetime import datetime
from typing import Annotated, Final

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from control_plane import orders, paging, waiting
from control_plane.call import Call
from control_plane.fields import instant
from control_plane.idempotency import Answer, once_together, reply
from control_plane.paging import DEFAULT_LIMIT, Cursor, Limit, PageOut
from control_plane.problems import RETRY_SECONDS, Problem, Undecided, invalid_value, not_found
from control_plane.sessions import PATH as SESSIONS
from control_plane.sessions import found, refused
from shared import clock, ids, message
from shared.errors import Unavailable, ZapgateError
from shared.ids import MessageId, SessionId
from shared.logs import fields
from shared.message import (
    LONGEST_EXPIRY,
    LONGEST_TEXT,
    Content,
    Failure,
    Message,
    MessageStatus,
    OnUncertain,
    Text,
)
from shared.session import Desired, Session, SessionState, sendable
from shared.store import idempotency
from shared.store import messages as store
from shared.store.idempotency import Claim, Record
from shared.tenant import Scope

log = logging.getLogger(__name__)

PATH: Final = f"{SESSIONS}/{{session_id:str}}/messages"
ITEM: Final = f"{PATH}/{{message_id:str}}"

DEFAULT_EXPIRY: Final = LONGEST_EXPIRY
"""Seconds: as long as may be asked for."""

_UNLINKED: Final = "No number is linked yet: read its pairing and show the QR or the code."
"""What to do about a session that starts without a device."""
_UNSENDABLE: Final = re.compile(
    "[^\\x09\\x0a\\x0d\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]"
)
"""What SQS does not carry (XML 1.0's characters are what it does), and no phone shows."""


class MessageIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message to send."""

    to: Annotated[
        str,
        Meta(
            description="A phone number in E.164, or a group's JID.",
            examples=["+4915112345678", "120363040404040404@g.us"],
        ),
    ]
    text: Annotated[str, Meta(min_length=1, max_length=LONGEST_TEXT, examples=["Hello"])]
    expires_in: Annotated[
        int,
        Meta(
            ge=1,
            le=LONGEST_EXPIRY,
            description="Seconds after which it must no longer be sent, but fail as expired.",
        ),
    ] = DEFAULT_EXPIRY
    on_uncertain: OnUncertain = OnUncertain.REPORT
    """What to do if the connection is cut between handing it over and WhatsApp's answer: leave it
    and report it as uncertain, or send it again at the risk of a double."""


class MessageOut(msgspec.Struct, frozen=True, kw_only=True):
    """A message and what became of it."""

    id: str
    session_id: str
    to: str
    content: Content
    status: MessageStatus
    on_uncertain: OnUncertain
    whatsapp_id: str | None
    """WhatsApp's id, once it took the message."""
    failure: Failure | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None


def shown(row: Message) -> MessageOut:
    return MessageOut(
        id=row.id,
        session_id=row.session_id,
        to=row.to,
        content=row.content,
        status=row.status,
        on_uncertain=row.on_uncertain,
        whatsapp_id=row.whatsapp_id,
        failure=row.failure,
        created_at=clock.instant(row.created_at),
        updated_at=clock.instant(row.updated_at),
        expires_at=clock.instant(row.expires_at),
        sent_at=instant(row.sent_at),
        delivered_at=instant(row.delivered_at),
        read_at=instant(row.read_at),
    )


@post(PATH, needs=Scope.MESSAGES_WRITE, status_code=202)
async def send_message(
    session_id: FromPath[str], data: JSONBody[MessageIn], request: Call
) -> Response[MessageOut]:
    """Send a text message.

    It is accepted while the session is connected or on its way to it, and then waits in order.
    Send an `Idempotency-Key`, so that a repeated request is one message. With `Prefer: wait=N` the
    answer waits until WhatsApp took the message or it failed.

    A 503 with a `message_id` says that the message may have been accepted: repeat the request with
    its key. Without a key, read that message; one that is still queued when it has expired was not.
    """
    if not message.is_recipient(data.to):
        raise invalid_value(
            "/to", "not_a_recipient", "A recipient is a phone number in E.164 or a group's JID."
        )
    _check_text(data.text)
    plane = request.plane

    def work(claim: Claim | None) -> Answer[MessageOut] | Record:
        session = found(request, session_id)
        problem = _unsendable(session)
        if problem is not None:
            # A repeat is answered as the first was, whatever its session has come to since.
            held = None if claim is None else plane.aws.run(idempotency.read(claim))
            if claim is None or held is None:
                raise problem
            return _again(request, session, claim, held)
        now = plane.now()
        row = Message(
            id=MessageId(clock.mint(ids.MESSAGE)),
            tenant_id=request.tenant_id,
            session_id=session.id,
            to=data.to,
            content=Text(data.text),
            status=MessageStatus.QUEUED,
            created_at=now,
            updated_at=now,
            expires_at=now + data.expires_in * clock.SECOND,
            on_uncertain=data.on_uncertain,
        )
        try:
            held = plane.aws.run(store.create(request.tenant_id, row, claim))
        except ZapgateError:
            # It may be stored, but it was not ordered: the row must not say otherwise.
            plane.aws.run(store.discard(request.tenant_id, session.id, row.id, claim))
            raise
        if claim is not None and held is not None:
            return _again(request, session, claim, held)
        try:
            orders.send(plane, session, row)
        except Unavailable as error:
            raise _undecided(session, row.id, claim, error) from error
        except Exception:
            plane.aws.run(store.discard(request.tenant_id, session.id, row.id, claim))
            raise
        return _accepted(row)

    done = await once_together(request, work)
    if done.body is None or not request.wait:
        return done.response
    op = store.read(request.tenant_id, SessionId(session_id), MessageId(done.body.id))
    row = await waiting.until(request, lambda: plane.aws.run(op), _left_queue)
    return reply(
        200 if _left_queue(row) else 202,
        msgspec.json.encode(done.body if row is None else shown(row)),
        f"{SESSIONS}/{session_id}/messages/{done.body.id}",
        waiting.applied(request),
    )


@get(PATH, needs=Scope.MESSAGES_READ)
async def list_messages(
    session_id: FromPath[str], request: Call, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Response[PageOut[MessageOut]]:
    """List a session's sent messages, newest first."""
    name = f"messages|{session_id}"
    rows = paging.page(request, name, limit, cursor)

    def read() -> store.Page[Message]:
        session = found(request, session_id)
        return request.plane.aws.run(store.every(request.tenant_id, session.id, rows))

    return paging.answer(request, name, await request.run(read), shown)


@get(ITEM, needs=Scope.MESSAGES_READ)
async def read_message(
    session_id: FromPath[str], message_id: FromPath[str], request: Call
) -> Response[MessageOut]:
    """Read a message's status."""

    def read() -> Message:
        row: Message | None = None
        if ids.is_id(ids.SESSION, session_id) and ids.is_id(ids.MESSAGE, message_id):
            row = request.plane.aws.run(
                store.read(request.tenant_id, SessionId(session_id), MessageId(message_id))
            )
        if row is None:
            raise not_found("message")
        return row

    return reply(200, msgspec.json.encode(shown(await request.run(read))))


def _check_text(text: str) -> None:
    if not text.strip():
        raise invalid_value("/text", "blank", "The text says nothing.")
    if _UNSENDABLE.search(text):
        raise invalid_value("/text", "control_character", "The text has control characters.")


def _unsendable(session: Session) -> Problem | None:
    """Why the session takes no message now, if it takes none."""
    if session.desired is Desired.DELETED:
        return refused(session, "It is being deleted.", "session_cannot_send")
    if not sendable(session):
        then = _UNLINKED if session.state is SessionState.STARTING else ""
        return refused(session, then, "session_cannot_send")
    if session.desired is Desired.STOPPED:
        return refused(session, "It is being stopped; start it to send.", "session_cannot_send")
    return None


def _accepted(row: Message) -> Answer[MessageOut]:
    return Answer(202, shown(row), f"{SESSIONS}/{row.session_id}/messages/{row.id}")


def _again(call: Call, session: Session, claim: Claim, held: Record) -> Answer[MessageOut] | Record:
    """Answer a repeat: by the record, or by ordering the message the first could not be sure of.

    Raises Undecided where that is not sure this time either.
    """
    plane = call.plane
    if held.resource is None or not claim.resumes(held):
        return held
    message_id = MessageId(held.resource)
    try:
        if not plane.aws.run(idempotency.resume(claim, held)):
            return held
        row = plane.aws.run(store.read(call.tenant_id, session.id, message_id))
        if row is not None and row.status is MessageStatus.QUEUED:
            orders.send(plane, session, row)
    except Exception as error:
        # Whatever it was: the first order may have been queued.
        raise _undecided(session, message_id, claim, error) from error
    if row is None:
        # Erased with its session.
        raise not_found("session")
    return _accepted(row)


def _undecided(
    session: Session, message_id: MessageId, claim: Claim | None, cause: Exception
) -> Undecided:
    """The row is there, and its command may be on the queue."""
    log.warning(
        "message.undecided",
        extra=fields(
            tenant_id=session.tenant_id,
            session_id=session.id,
            message_id=message_id,
            cause=f"{type(cause).__name__}: {cause}",
        ),
    )
    then = (
        "Read it before you send it again."
        if claim is None
        else "Repeat the request with the same idempotency key: it stays one message."
    )
    return Undecided(
        "unavailable",
        f"The message {message_id} may have been accepted: the queue did not answer. {then}",
        headers={"Retry-After": str(RETRY_SECONDS)},
        message_id=message_id,
    )


def _left_queue(row: Message | None) -> bool:
    return row is None or row.status is not MessageStatus.QUEUED


ROUTES: Final = [send_message, list_messages, read_message]
