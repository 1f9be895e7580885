"""The one way out to tenants' servers: an HTTP client that trusts nothing it is told.

Redirects, cookies, compression and proxies of the environment are off. Time and size are bounded as
a whole: names, TLS, headers and body. What went wrong is told as a code, never in the words of the
libraries, which would tell about our network.
"""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any, ClassVar, Final, Self

import aiohttp
from yarl import URL

from gateway import tracing
from gateway.connector import Connector
from gateway.deadlines import Deadlines
from gateway.delivery import Answer, Exchange, Fault, Post, Result
from gateway.names import (
    PATIENCE,
    BlockedAddressError,
    Names,
    UnresolvedError,
    UnresolvedInTimeError,
)
from gateway.redaction import kept_headers
from gateway.tracing import Trace
from shared.addresses import NOTHING_DENIED, Denied, Targets, address_allowed
from shared.urls import is_host

log = logging.getLogger(__name__)

DEADLINE: Final = 15.0
"""Seconds for one attempt in all; Standard Webhooks advises 15 to 30."""
LARGEST_ANSWER: Final = 16 * 1024
"""Bytes read of an answer's body; the rest is cut off with the connection."""
KEPT_BODY: Final = 2 * 1024
"""Bytes of an answer's body that the log keeps."""
LONGEST_LINE: Final = 8 * 1024
MOST_FIELDS: Final = 100
"""Bytes of an answer's status line and of each of its headers, and how many these may be."""


class _Request(aiohttp.ClientRequest):
    """A request with the headers it was given: none about encodings, of which we read none."""

    DEFAULT_HEADERS: ClassVar[dict[Any, str]] = {}


class Egress:
    """The client, open between `async with` and its end."""

    def __init__(
        self,
        targets: Targets,
        *,
        denied: Denied = NOTHING_DENIED,
        deadline: float = DEADLINE,
        patience: float = PATIENCE,
        trusted: ssl.SSLContext | None = None,
        name_servers: Sequence[str] = (),
    ) -> None:
        """`deadline` and `patience`, a name's, are in seconds.

        For tests, `trusted` replaces the system's certificate authorities, and `name_servers`
        (`address:port`) its name servers.
        """
        self._targets: Targets = targets
        self._denied = denied
        self._deadlines = Deadlines(deadline)
        self._patience = patience
        self._servers = name_servers
        self._tls = trusted or ssl.create_default_context()
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        # From Python 3.13 on this is a default, and would make the verdict the interpreter's.
        self._tls.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
        # Endpoints are posted to again and again: their URLs are read once.
        self._own: Callable[[str], bool] = lru_cache(maxsize=1024)(self._is_own)
        self._stack = AsyncExitStack()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        names = Names(self._allowed, self._servers, self._patience)
        self._stack.push_async_callback(names.close)
        self._stack.callback(self._deadlines.close)
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=Connector(names, self._allowed, self._tls),
                request_class=_Request,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
                read_bufsize=LARGEST_ANSWER,
                max_line_size=LONGEST_LINE,
                max_field_size=LONGEST_LINE,
                max_headers=MOST_FIELDS,
            )
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _allowed(self, address: IPv4Address | IPv6Address) -> bool:
        return address_allowed(address, self._targets, self._denied)

    def _is_own(self, url: str) -> bool:
        return self._denied.host(_host(url))

    async def post(self, post: Post) -> Exchange:
        """Make one attempt. Whatever the other side does is a result, never an exception."""
        if self._session is None:
            raise RuntimeError("the client is not open")
        began = time.monotonic()
        attempt = _Attempt()
        result: Result
        try:
            async with asyncio.timeout(None) as timeout:
                self._deadlines.begin(timeout)
                try:
                    while (answer := await self._try(self._session, post, attempt)) is None:
                        attempt = _Attempt()
                finally:
                    self._deadlines.end(timeout)
                result = answer
        except TimeoutError:
            result = Fault("timeout", attempt.status)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # ValueError: a URL or a header that the parsers refuse.
            result = Fault(_code(error, attempt.trace), attempt.status)
            _let_go(error)
        except Exception:  # a receiver that finds a fault in a parser must not stop the others
            log.exception("egress.unforeseen")
            result = Fault("protocol_error", attempt.status)
        return Exchange(
            result=result,
            phases=attempt.trace.phases(began, time.monotonic()),
            response_headers=attempt.headers,
            response_body=bytes(attempt.body[:KEPT_BODY]),
            response_cut=attempt.cut or len(attempt.body) > KEPT_BODY,
        )

    async def _try(
        self, session: aiohttp.ClientSession, post: Post, attempt: "_Attempt"
    ) -> Answer | None:
        """None where a kept connection had been closed meanwhile: not this event's fault.

        Each of those is used up by it, so after the last one a new connection is dialled.
        """
        tracing.begin(attempt.trace)
        try:
            return await self._post(session, post, attempt)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if attempt.trace.kept() and "heard" not in attempt.trace.marks:
                return None
            raise

    async def _post(
        self, session: aiohttp.ClientSession, post: Post, attempt: "_Attempt"
    ) -> Answer:
        if self._own(post.url):
            raise BlockedAddressError
        async with session.post(
            post.url,
            data=post.body,
            headers=post.headers,
            allow_redirects=False,
        ) as response:
            attempt.status = response.status
            attempt.headers = kept_headers(response.headers.items())
            while chunk := await response.content.read(LARGEST_ANSWER - len(attempt.body)):
                attempt.body += chunk
            if len(attempt.body) >= LARGEST_ANSWER:
                attempt.cut = True
                response.close()
            return Answer(
                response.status,
                response.headers.get("retry-after"),
                response.headers.get("webhook-delivery"),
            )


@dataclass(slots=True)
class _Attempt:
    """What is known of an answer so far, also when it ends before its end."""

    trace: Trace = field(default_factory=lambda: Trace(time.monotonic))
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytearray = field(default_factory=bytearray)
    cut: bool = False


def _host(url: str) -> str:
    """The host as it will be dialled. Raises InvalidURL."""
    host = (URL(url).raw_host or "").rstrip(".")
    if not is_host(host):
        raise aiohttp.InvalidURL(url)
    return host


def _code(error: BaseException, trace: Trace) -> str:
    code = fault_code(error)
    if code == "connection_reset" and trace.securing():
        # Many servers have no other answer to a handshake they do not like.
        return "tls_error"
    if code == "protocol_error" and "reset" in trace.marks:
        # The library tells of the body that was not whole, not of why.
        return "connection_reset"
    return code


_CODES: Final = (
    (BlockedAddressError, "blocked_address"),
    (UnresolvedInTimeError, "dns_timeout"),
    ((UnresolvedError, aiohttp.ClientConnectorDNSError, socket.gaierror), "dns_error"),
    ((aiohttp.ClientSSLError, ssl.SSLError), "tls_error"),
    (TimeoutError, "timeout"),
    (ConnectionRefusedError, "connection_refused"),
    ((ConnectionError, aiohttp.ServerDisconnectedError), "connection_reset"),
    (aiohttp.InvalidURL, "invalid_url"),
    ((aiohttp.ClientPayloadError, aiohttp.ClientResponseError), "protocol_error"),
)
"""What each error is called, the first that fits; none of ours or Python's wording goes out."""


_CERTIFICATES: Final = {10: "tls_expired", 62: "tls_wrong_host", 64: "tls_wrong_host"}
"""What OpenSSL's verdicts on a certificate are called (X509_V_ERR_…); all others, untrusted."""


def fault_code(error: BaseException) -> str:
    """A code for why there was no answer; the error's own words stay inside."""
    for each in _chain(error):
        # aiohttp's error of this kind has no verdict; the one it was made of has.
        if isinstance(each, ssl.SSLCertVerificationError) and hasattr(each, "verify_code"):
            return _CERTIFICATES.get(each.verify_code, "tls_untrusted")
    for each in _chain(error):
        for kind, code in _CODES:
            if isinstance(each, kind):
                return code
    return "connection_failed" if isinstance(error, OSError) else "protocol_error"


def _let_go(error: BaseException) -> None:
    """Free the request that failed now: its frames and its errors hold each other, and the body."""
    for each in list(_chain(error)):
        each.__traceback__ = None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was made of, outermost first."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, aiohttp.ClientConnectorError):
            yield seen.os_error
        yield seen
        seen = seen.__cause__ or seen.__context__
