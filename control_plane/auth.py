"""Who calls: API keys, and what they may do.

A key's shape and checksum are tried first, so garbage costs nothing; then one read, remembered for
a few seconds. Whatever is wrong with a key, the answer is the same 401. Operator keys are derived
from the installation's secret and open the operator's routes only; tenants' keys open the others.
"""

import hmac
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

import msgspec

from control_plane.aws import Runner
from control_plane.problems import Problem
from shared import apikey
from shared.ids import KeyId, TenantId
from shared.store import tenants
from shared.store.tenants import Digest
from shared.tenant import Scope

REMEMBERED_SECONDS: Final = 10.0
"""A revoked key may live this long in another process: the bound we publish."""
UNKNOWN_SECONDS: Final = 2.0
"""An unknown key is asked for again soon: it may have been made in between."""
LARGEST_MEMORY: Final = 10_000
"""Keys remembered at a time, known or not: a few MiB."""

OPERATOR: Final = TenantId("operator")
"""Stands in a tenant's place for the operator's own records."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Whose key it is."""

    tenant_id: TenantId
    key_id: KeyId = KeyId("")
    scopes: tuple[Scope, ...] = ()
    rate_limit: int | None = None


@dataclass(frozen=True, slots=True)
class _Memory:
    until: float
    found: Digest | None


class Keys:
    """Looks keys up, and remembers what it found for a short while."""

    def __init__(
        self,
        aws: Runner,
        peppers: Sequence[bytes],
        operator_keys: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._aws = aws
        self._peppers = tuple(peppers)
        self._operator_keys = tuple(key.encode() for key in operator_keys)
        self._clock = clock
        self._memory: dict[str, _Memory] = {}
        self._lock = Lock()

    def digest(self, key: str) -> str:
        """What a new key is stored under."""
        return apikey.digest(self._peppers[0], key)

    def is_operator(self, key: str) -> bool:
        given = key.encode()
        # Every key is compared, so that time does not tell which of them is the newest.
        return sum(hmac.compare_digest(given, known) for known in self._operator_keys) > 0

    def remembered(self, key: str) -> Digest | Problem | None:
        """The key's row, the problem if there is none, or None where it must be looked up."""
        memory = self._memory.get(self.digest(key))
        if memory is None or self._clock() >= memory.until:
            return None
        return memory.found or unauthorized()

    def look_up(self, key: str) -> Digest | Problem:
        """The key's row, by whichever pepper it was stored. One read where it is the newest."""
        found: Digest | None = None
        for pepper in self._peppers:
            found = self._aws.run(tenants.by_digest(apikey.digest(pepper, key)))
            if found is not None:
                break
        seconds = UNKNOWN_SECONDS if found is None else REMEMBERED_SECONDS
        with self._lock:
            while len(self._memory) >= LARGEST_MEMORY:
                del self._memory[next(iter(self._memory))]
            digest = self.digest(key)
            self._memory.pop(digest, None)
            self._memory[digest] = _Memory(self._clock() + seconds, found)
        return found or unauthorized()

    def forget(self, tenant_id: TenantId) -> None:
        """Look this tenant's keys up again: something about them has changed."""
        with self._lock:
            for digest, memory in list(self._memory.items()):
                if memory.found is not None and memory.found.key.tenant_id == tenant_id:
                    del self._memory[digest]


def unauthorized() -> Problem:
    """The one answer to every key that is not good here."""
    return Problem(
        "unauthorized",
        "Send a live API key as `Authorization: Bearer …`.",
        headers={"WWW-Authenticate": "Bearer"},
    )


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The key of a request's headers; empty where there is none, or one that cannot be a key."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.decode("latin-1").partition(" ")
            key = key.strip()
            if scheme.lower() == "bearer" and apikey.well_formed(key):
                return key
    return ""


def judge(digest: Digest, scope: Scope | None, now: int) -> Caller:
    """The caller, if the key is live and may do this. Raises Problem."""
    key = digest.key
    if digest.suspended or not key.usable(now):
        raise unauthorized()
    if scope is not None and scope not in key.scopes:
        raise Problem("missing_scope", f"The key lacks the scope {scope.value}.")
    return Caller(
        tenant_id=key.tenant_id,
        key_id=key.id,
        scopes=key.scopes,
        rate_limit=digest.rate_limit,
    )
