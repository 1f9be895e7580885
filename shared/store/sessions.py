"""Sessions and their pairing attempts: rows and requests.

Two writers share a session's row: the control plane writes what the tenant wants (`desired`, name),
the gateway what is (`state` and what goes with it), fenced by the epoch of its lease.
"""

import msgspec
from msgspec import UNSET, UnsetType

from shared import clock
from shared.aws import Op
from shared.ids import SessionId, TenantId
from shared.proxy import Proxy
from shared.session import Desired, Pairing, Reason, Session, SessionState
from shared.store import keys
from shared.store.dynamo import (
    ABSENT,
    PRESENT,
    Expression,
    Page,
    Range,
    Write,
    check,
    delete,
    get,
    put,
    query,
    setting,
    to_item,
    transact,
    update,
)
from shared.tenant import TenantStatus


def create(tenant_id: TenantId, session: Session) -> Op[bool]:
    """False unless the tenant is active."""
    active = Expression("#status = :active", {"active": TenantStatus.ACTIVE.value})
    return transact(
        [
            check(keys.tenant(tenant_id), active),
            put(
                to_item(
                    session,
                    keys.session(tenant_id, session.id),
                    GSI1PK=keys.shard_index(session.shard),
                    GSI1SK=session.id,
                ),
                ABSENT,
            ),
        ]
    )


def read(tenant_id: TenantId, session_id: SessionId) -> Op[Session | None]:
    return get(keys.session(tenant_id, session_id), Session)


def every(tenant_id: TenantId, rows: Range) -> Op[Page[Session]]:
    return query(keys.tenant_partition(tenant_id), Session, rows, prefix="SESSION#")


def of_shard(shard: int, rows: Range) -> Op[Page[Session]]:
    """Every tenant's sessions on a shard, for the gateway that leases it."""
    return query(keys.shard_index(shard), Session, rows, index=True)


def find(shard: int, session_id: SessionId) -> Op[Page[Session]]:
    """The session of that id on a shard, whoever owns it. From an index: about a second behind."""
    only_it = (session_id, session_id)
    return query(keys.shard_index(shard), Session, Range(limit=1), between=only_it, index=True)


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant changes of a session, at a time."""

    at: int
    name: str | UnsetType = UNSET
    proxy: Proxy | UnsetType | None = UNSET

    def of(self, session: Session) -> Session:
        """The session as it is then."""
        return msgspec.structs.replace(
            session,
            updated_at=self.at,
            name=session.name if self.name is UNSET else self.name,
            proxy=session.proxy if self.proxy is UNSET else self.proxy,
        )


def change(tenant_id: TenantId, session_id: SessionId, changes: Changes) -> Op[bool]:
    """Write what is given, and nothing else. False where the session is gone or going."""
    values: dict[str, object] = {"updated_at": changes.at}
    if changes.name is not UNSET:
        values["name"] = changes.name
    if changes.proxy is not UNSET:
        values["proxy"] = msgspec.to_builtins(changes.proxy, builtin_types=(bytes,))
    return update(keys.session(tenant_id, session_id), setting(values), _NOT_DELETED).alone()


def desire(
    tenant_id: TenantId,
    session_id: SessionId,
    desired: Desired,
    now: int,
    phone_number: str | None = None,
) -> Op[bool]:
    """Write what the tenant wants, and that it waits. False where the session is gone or going."""
    values: dict[str, object] = {"desired": desired.value, "updated_at": now, "pending": True}
    if phone_number is not None:
        values["phone_number"] = phone_number
    return update(keys.session(tenant_id, session_id), setting(values), _NOT_DELETED).alone()


def heed(tenant_id: TenantId, session_id: SessionId, now: int, epoch: int) -> Op[bool]:
    """Say that the tenant's order was heard, where it changed no state."""
    values: dict[str, object] = {"pending": False, "updated_at": now}
    return update(keys.session(tenant_id, session_id), setting(values), _fence(epoch)).alone()


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway saw of a session.

    None leaves `phone_number`, `lid` and `connected_at` as they are; `unlinked` forgets the last
    two, which belong to the device, unless they are given.
    """

    state: SessionState
    at: int
    epoch: int
    reason: Reason | None = None
    detail: str | None = None
    until: int | None = None
    phone_number: str | None = None
    lid: str | None = None
    connected_at: int | None = None
    unlinked: bool = False


def observe(tenant_id: TenantId, session_id: SessionId, seen: Observation) -> Write:
    """Write a session's state.

    Its condition fails for a gateway whose lease has passed on, which gets the row as it is, and
    where the session is gone.
    """
    values: dict[str, object] = {
        "state": seen.state.value,
        "reason": None if seen.reason is None else seen.reason.value,
        "detail": seen.detail,
        "until": seen.until,
        "pending": False,
        "epoch": seen.epoch,
        "updated_at": seen.at,
    }
    if seen.phone_number is not None:
        values["phone_number"] = seen.phone_number
    if seen.lid is not None or seen.unlinked:
        values["lid"] = seen.lid
    if seen.connected_at is not None or seen.unlinked:
        values["connected_at"] = seen.connected_at
    fence = _fence(seen.epoch)
    return update(keys.session(tenant_id, session_id), setting(values), fence, old=True)


def remove(tenant_id: TenantId, session_id: SessionId) -> Op[bool]:
    """Erase the session's row and its pairing's."""
    return transact(
        [
            delete(keys.session(tenant_id, session_id)),
            delete(keys.pairing(tenant_id, session_id)),
        ]
    )


def offer(tenant_id: TenantId, session_id: SessionId, pairing: Pairing) -> Op[bool]:
    """Show the running attempt's QR and code until they expire."""
    item = to_item(
        pairing,
        keys.pairing(tenant_id, session_id),
        ttl=(pairing.attempt_expires_at + clock.HOUR) // clock.SECOND,
    )
    return put(item).alone()


def pairing(tenant_id: TenantId, session_id: SessionId) -> Op[Pairing | None]:
    """The last attempt offered; the caller judges whether it has expired."""
    return get(keys.pairing(tenant_id, session_id), Pairing)


def withdraw(tenant_id: TenantId, session_id: SessionId) -> Write:
    """Forget the attempt: it succeeded or ended."""
    return delete(keys.pairing(tenant_id, session_id))


def _fence(epoch: int) -> Expression:
    return Expression(f"{PRESENT.text} AND #epoch <= :epoch", {"epoch": epoch})


_NOT_DELETED = Expression(
    f"{PRESENT.text} AND #desired <> :deleted", {"deleted": Desired.DELETED.value}
)
