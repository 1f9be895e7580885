"""Names to addresses, without threads: a thousand dead name servers hold up nobody but themselves.

The system's `getaddrinfo` blocks a thread for as long as a tenant's name server keeps silent, and
a few dozen of those stop everybody's names. c-ares asks for all names at once, over sockets.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, cast

import pycares
from aiodns import DNSResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from pycares import AAAARecordData, ARecordData

from gateway import tracing

PATIENCE: Final = 5.0
"""Seconds a name may take."""
FIRST_TRY: Final = 1.0
TRIES: Final = 5
"""A name server is asked again after a second at most, then after twice as long each time."""
MOST_ADDRESSES: Final = 4
"""Of a family that are dialled: a name with hundreds would make us dial for somebody else."""

Address = IPv4Address | IPv6Address
Allowed = Callable[[Address], bool]
"""Whether an address may be dialled."""

_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_KINDS: Final = {"A": socket.AF_INET, "AAAA": socket.AF_INET6}
_LOCALHOST: Final = "localhost"
_HERE: Final = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
# Constants of a C library, which have no types.
_EDNS: Final = cast("int", pycares.ARES_FLAG_EDNS)  # pyright: ignore[reportUnknownMemberType]
_TIMEOUT: Final = cast("int", pycares.errno.ARES_ETIMEOUT)  # pyright: ignore[reportUnknownMemberType]
_CANCELLED: Final = cast("int", pycares.errno.ARES_ECANCELLED)  # pyright: ignore[reportUnknownMemberType]
_SILENCE: Final = {(_TIMEOUT,), (_CANCELLED,)}


class BlockedAddressError(OSError):
    """There is no address but ones that webhooks must not be sent to."""


class UnresolvedError(OSError):
    """There is no address for the name."""


class UnresolvedInTimeError(OSError):
    """No name server answered for the name. No TimeoutError: that is the attempt's own."""


class Names(AbstractResolver):
    """The resolver, to be made within a running loop; every name that is asked for has a trace."""

    def __init__(
        self, allowed: Allowed, servers: Sequence[str] = (), patience: float = PATIENCE
    ) -> None:
        """`servers` (`address:port`) replace the system's, for tests; `patience` is in seconds."""
        self._allowed = allowed
        self._patience = patience
        self._resolver = DNSResolver(
            tuple(servers) or None,
            timeout=FIRST_TRY,
            tries=TRIES,
            flags=_EDNS,
        )

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The name's addresses that are allowed.

        Raises UnresolvedError, UnresolvedInTimeError or BlockedAddressError.
        """
        tracing.note("resolving")
        # c-ares leaves localhost to the hosts file; RFC 6761, 6.3 says what it is.
        found = _HERE if _is_localhost(host) else await self._look_up(host, family)
        tracing.note("resolved")
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=_FAMILIES[address.version],
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._chosen(found)
            if family in {socket.AF_UNSPEC, _FAMILIES[address.version]}
        ]

    def _chosen(self, found: Sequence[Address]) -> list[Address]:
        allowed = [address for address in found if self._allowed(address)]
        if not allowed:
            raise BlockedAddressError
        first = {
            address
            for version in _FAMILIES
            for address in [each for each in allowed if each.version == version][:MOST_ADDRESSES]
        }
        return [address for address in allowed if address in first]

    async def _look_up(self, host: str, family: socket.AddressFamily) -> list[Address]:
        # Asked for by kind, not by c-ares' getaddrinfo: a tenant's name is whole, so neither the
        # network's search domains are tried on it nor the hosts file, which knows this network and
        # not the public one. (pycares' `lookups` option frees its text before c-ares reads it.)
        asked = [
            self._resolver.query_dns(host, kind)
            for kind, of in _KINDS.items()
            if family in {socket.AF_UNSPEC, of}
        ]
        try:
            answered, silent = await asyncio.wait(asked, timeout=self._patience)
        finally:
            for each in asked:
                each.cancel()
        refusals = [error for each in answered if (error := each.exception()) is not None]
        found = [
            ip_address(record.data.addr)
            for each in asked
            if each in answered and each.exception() is None
            for record in each.result().answer
            if isinstance(record.data, ARecordData | AAAARecordData)
        ]
        if found:
            return found
        if silent or any(error.args[:1] in _SILENCE for error in refusals):
            raise UnresolvedInTimeError
        raise UnresolvedError

    async def close(self) -> None:
        await self._resolver.close()


def _is_localhost(host: str) -> bool:
    name = host.rstrip(".").lower()
    return name == _LOCALHOST or name.endswith(f".{_LOCALHOST}")
