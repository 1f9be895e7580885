"""The one way out to tenants' servers: an HTTP client that trusts nothing it is told.

Every address is judged where it is dialled, after the name was resolved, so neither a name that
changes its mind nor an address in disguise reaches the inside. Redirects, cookies and proxies of
the environment are off. Time and size are bounded as a whole: names, TLS, headers and body.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from ipaddress import ip_address
from typing import Any, Final, Self

import aiohttp

from gateway.delivery import Answer, Exchange, Fault, Post, Result
from shared.addresses import Targets, address_allowed
from shared.delivery import Phases

DEADLINE: Final = 15.0
"""Seconds for one attempt in all; Standard Webhooks advises 15 to 30."""
LARGEST_ANSWER: Final = 16 * 1024
"""Bytes read of an answer's body; the rest is cut off with the connection."""
KEEP_ALIVE: Final = 15.0
"""Seconds an idle connection is kept."""

_BLOCKED: Final = "blocked address"


class BlockedAddressError(OSError):
    """The name led to an address that webhooks must not be sent to."""

    def __init__(self) -> None:
        """The text is one for all addresses: what is inside is not told outside."""
        super().__init__(_BLOCKED)


class Egress:
    """The client, open between `async with` and its end."""

    def __init__(
        self, targets: Targets, *, deadline: float = DEADLINE, trusted: ssl.SSLContext | None = None
    ) -> None:
        """`trusted` replaces the system's certificate authorities, for tests."""
        self._targets: Targets = targets
        self._deadline = deadline
        self._ssl = trusted or ssl.create_default_context()
        self._ssl.minimum_version = ssl.TLSVersion.TLSv1_2
        self._stack = AsyncExitStack()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            ssl=self._ssl,
            socket_factory=self._socket,
            limit=0,  # the dispatcher bounds the attempts in hand, and fairly
            keepalive_timeout=KEEP_ALIVE,
        )
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
            )
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def post(self, post: Post) -> Exchange:
        """Make one attempt. Whatever the other side does is a result, never an exception."""
        began = time.monotonic()
        result: Result
        try:
            async with asyncio.timeout(self._deadline):
                result = await self._again_if_stale(post)
        except TimeoutError:
            result = Fault("timeout")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # ValueError: a URL or a header that the parsers refuse.
            result = Fault(fault_code(error))
        return Exchange(result, Phases(total=round((time.monotonic() - began) * 1000, 3)))

    async def _again_if_stale(self, post: Post) -> Answer:
        try:
            return await self._post(post)
        except aiohttp.ServerDisconnectedError:
            # A kept connection that the server had closed meanwhile: not this event's fault.
            return await self._post(post)

    async def _post(self, post: Post) -> Answer:
        if self._session is None:
            raise RuntimeError("the client is not open")
        async with self._session.post(
            post.url,
            data=post.body,
            headers=post.headers,
            allow_redirects=False,
            skip_auto_headers=("accept-encoding", "accept"),
        ) as response:
            left = LARGEST_ANSWER
            while left > 0 and (chunk := await response.content.read(left)):
                left -= len(chunk)
            if left <= 0:
                response.close()
            return Answer(
                response.status,
                response.headers.get("retry-after"),
                response.headers.get("webhook-delivery"),
            )

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, endpoint = address
        if not address_allowed(ip_address(endpoint[0]), self._targets):
            raise BlockedAddressError
        return socket.socket(family=family, type=kind, proto=protocol)


_CODES: Final = (
    (BlockedAddressError, "blocked_address"),
    ((aiohttp.ClientConnectorDNSError, socket.gaierror), "dns_error"),
    ((aiohttp.ClientSSLError, ssl.SSLError), "tls_error"),
    (TimeoutError, "timeout"),
    (ConnectionRefusedError, "connection_refused"),
    ((ConnectionError, aiohttp.ServerDisconnectedError), "connection_reset"),
    (aiohttp.InvalidURL, "invalid_url"),
    ((aiohttp.ClientPayloadError, aiohttp.ClientResponseError), "protocol_error"),
)
"""What each error is called, the first that fits; none of ours or Python's wording goes out."""


def fault_code(error: BaseException) -> str:
    """A code for why there was no answer; the error's own words stay inside."""
    for each in _chain(error):
        for kind, code in _CODES:
            if isinstance(each, kind):
                return code
    if any(_BLOCKED in str(each) for each in _chain(error)):
        # Several addresses were tried: their errors are joined as text.
        return "blocked_address"
    return "connection_failed" if isinstance(error, OSError) else "protocol_error"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was made of, outermost first."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, aiohttp.ClientConnectorError):
            yield seen.os_error
        yield seen
        seen = seen.__cause__ or seen.__context__
