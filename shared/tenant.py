"""Tenants and their API keys."""

from enum import StrEnum
from typing import Final

import msgspec

from shared.ids import KeyId, TenantId

KEYS_PER_TENANT: Final = 100
"""Suspending a tenant writes each, in one request."""


class TenantStatus(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETING = "deleting"


class Scope(StrEnum):
    """What a key may do. `write` does not imply `read`: grant both."""

    SESSIONS_READ = "sessions:read"
    SESSIONS_WRITE = "sessions:write"
    MESSAGES_READ = "messages:read"
    MESSAGES_WRITE = "messages:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    EVENTS_READ = "events:read"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"


ALL_SCOPES = tuple(Scope)


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """A SaaS company, or one customer of it: whoever owns sessions, keys and endpoints."""

    id: TenantId
    name: str
    status: TenantStatus
    created_at: int
    rate_limit: int | None = None
    """Requests a minute; None takes the installation's default."""


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as stored: never the key, only its keyed digest and enough to recognise it by."""

    id: KeyId
    tenant_id: TenantId
    name: str
    hint: str
    """Prefix and last four characters, for people."""
    digest: str
    scopes: tuple[Scope, ...]
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None

    def usable(self, now: int) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)
