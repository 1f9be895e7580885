"""The way a session's socket goes: straight, or through its tenant's proxy.

A proxy's name is looked up and judged each time a host is about to dial, and the host is given the
address: the library would look the name up again, and ask nobody whether it may go there. There is
no other way for a session that has a proxy: if it cannot be used, nothing is dialled.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from gateway.host.proxies import Trouble
from gateway.names import (
    PATIENCE,
    BlockedAddressError,
    Names,
    UnresolvedError,
    UnresolvedInTimeError,
)
from shared import proxy
from shared.addresses import Denied, Targets, address_allowed
from shared.env import Settings
from shared.errors import Forged, ZapgateError
from shared.proxy import Upstream
from shared.session import Session

_TROUBLES: Final = {
    BlockedAddressError: Trouble.NOT_PUBLIC,
    UnresolvedInTimeError: Trouble.NAME_SILENT,
    UnresolvedError: Trouble.NAME_UNKNOWN,
}


class NoWay(ZapgateError):
    """A session's proxy cannot be dialled."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.value)
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class Way:
    """How a host dials."""

    url: str = field(repr=False)
    """The proxy, its host an address; empty is a direct connection. It is a secret."""
    own: bool = False
    """Whether the proxy is the session's own, so that its tenant is told how it does."""


class Proxies:
    """Ways for the sessions of a gateway."""

    def __init__(
        self,
        seals: Sequence[bytes],
        *,
        common: str,
        targets: Targets,
        denied: Denied,
        name_servers: Sequence[str] = (),
        patience: float = PATIENCE,
    ) -> None:
        """`common` is the proxy of sessions that have none; `name_servers` are for tests."""
        self._seals = seals
        self._common = Way(common)
        self._targets: Targets = targets
        self._denied = denied
        self._servers = name_servers
        self._patience = patience
        self._names: Names | None = None

    async def way(self, session: Session, failures: int) -> Way:
        """How a session dials that failed so often in a row. Raises NoWay.

        Of a name's addresses each try takes the next.
        """
        if session.proxy is None:
            return self._common
        upstream = self._opened(session, session.proxy)
        if upstream.address is not None:
            return Way(upstream.url, own=True)
        if self._names is None:
            # Made within the running loop.
            self._names = Names(self._allowed, self._servers, self._patience)
        try:
            found = await self._names.resolve(upstream.host, upstream.port)
        except (BlockedAddressError, UnresolvedError, UnresolvedInTimeError) as error:
            raise NoWay(_TROUBLES[type(error)]) from error
        return Way(upstream.at(found[failures % len(found)]["host"]), own=True)

    async def close(self) -> None:
        if self._names is not None:
            await self._names.close()

    def _opened(self, session: Session, stored: proxy.Proxy) -> Upstream:
        try:
            url = proxy.opened(self._seals, proxy.owner(session.tenant_id, session.id), stored)
        except Forged as error:
            raise NoWay(Trouble.UNREADABLE) from error
        # What is denied may have become more since it was given.
        judged = proxy.judge(url, self._targets, self._denied)
        if isinstance(judged, Upstream):
            return judged
        inward = judged.code in {"proxy_not_public", "proxy_own"}
        raise NoWay(Trouble.NOT_PUBLIC if inward else Trouble.UNREADABLE)

    def _allowed(self, address: IPv4Address | IPv6Address) -> bool:
        return address_allowed(address, self._targets, self._denied)


def proxies_of(settings: Settings, seals: Sequence[bytes]) -> Proxies:
    """The ways that the settings allow; webhooks and proxies are judged alike."""
    return Proxies(
        seals,
        common=settings.whatsapp_proxy,
        targets=settings.webhook_targets,
        denied=settings.denied(),
    )
