"""Orders to the gateway: signed commands on the queue of the session's shard."""

from control_plane.plane import Plane
from shared import clock, commands, ids, queue
from shared.commands import (
    Command,
    DeleteSession,
    LogOutSession,
    PurgeTenant,
    ResetSession,
    SendMessage,
    StartSession,
    StopSession,
)
from shared.ids import CommandId, SessionId, TenantId
from shared.message import Message
from shared.session import Session, shard_of


def issue(plane: Plane, shard: int, command: Command) -> None:
    """Queue a command behind the session's others. Raises Unavailable if it is not queued."""
    text = commands.encode(plane.keyring.commands, command)
    plane.aws.run(queue.send_command(shard, command.session_id, command.id, text))


def start(
    plane: Plane, session: Session, *, phone_number: str | None = None, restart: bool = False
) -> None:
    now = plane.now()
    command = StartSession(
        id=CommandId(clock.mint(ids.COMMAND)),
        tenant_id=session.tenant_id,
        session_id=session.id,
        issued_at=now,
        expires_at=now + commands.LIFETIME,
        phone_number=phone_number,
        restart=restart,
    )
    issue(plane, session.shard, command)


def redial(plane: Plane, session: Session) -> None:
    """Have a session that runs dial anew; nothing becomes of one that does not."""
    now = plane.now()
    command = StartSession(
        id=CommandId(clock.mint(ids.COMMAND)),
        tenant_id=session.tenant_id,
        session_id=session.id,
        issued_at=now,
        expires_at=now + commands.LIFETIME,
        redial=True,
    )
    issue(plane, session.shard, command)


def of_kind(
    plane: Plane,
    session: Session,
    kind: type[StopSession | LogOutSession | ResetSession | DeleteSession],
) -> None:
    """Issue an order that says nothing but what it is."""
    now = plane.now()
    command = kind(
        id=CommandId(clock.mint(ids.COMMAND)),
        tenant_id=session.tenant_id,
        session_id=session.id,
        issued_at=now,
        expires_at=now + commands.LIFETIME,
    )
    issue(plane, session.shard, command)


def send(plane: Plane, session: Session, message: Message) -> None:
    """Order a message; ordered again within SQS's five minutes, it is still one command.

    After that the session's host knows the message by its id.
    """
    command = SendMessage(
        id=ids.send_command(message.id),
        tenant_id=session.tenant_id,
        session_id=session.id,
        issued_at=message.created_at,
        expires_at=message.expires_at,
        message_id=message.id,
        to=message.to,
        content=message.content,
        on_uncertain=message.on_uncertain,
    )
    issue(plane, session.shard, command)


def purge(plane: Plane, tenant_id: TenantId) -> None:
    """Have a deleted tenant's sessions and rows erased; any shard will do, so one is made up."""
    now = plane.now()
    session_id = SessionId(clock.mint(ids.SESSION))
    command = PurgeTenant(
        id=CommandId(clock.mint(ids.COMMAND)),
        tenant_id=tenant_id,
        session_id=session_id,
        issued_at=now,
        expires_at=now + commands.LIFETIME,
    )
    issue(plane, shard_of(session_id, plane.settings.shards), command)
