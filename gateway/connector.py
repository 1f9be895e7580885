"""Connections to tenants' servers: whom to dial, and how much to listen to.

Every address is judged where it is dialled, after the name was resolved and whatever spelling it
came in, so neither a name that changes its mind nor an address in disguise reaches the inside.
"""

import asyncio
import socket
import ssl
from functools import partial
from ipaddress import ip_address
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.streams import StreamReader

from gateway import tracing
from gateway.names import Allowed, BlockedAddressError, Names
from gateway.tracing import Trace

KEEP_ALIVE: Final = 15.0
"""Seconds an idle connection is kept."""
MOST_INTERIM: Final = 8
"""1xx answers before the real one. There is no use for any: nothing we send asks for them."""
RECEIVE_BUFFER: Final = 32 * 1024
"""Bytes the kernel holds for us, so that a receiver's flood is never one long piece of work."""


class Connector(aiohttp.TCPConnector):
    """Dials what the rules allow."""

    def __init__(self, names: Names, allowed: Allowed, tls: ssl.SSLContext) -> None:
        tls.sslobject_class = _Tls
        self._allowed = allowed
        super().__init__(  # pyright: ignore[reportUnknownMemberType] - an address has no type
            resolver=names,
            ssl=tls,
            socket_factory=self._dial,
            limit=0,  # the dispatcher bounds the attempts in hand, and fairly
            keepalive_timeout=KEEP_ALIVE,
        )
        self._factory = partial(_Connection, loop=asyncio.get_running_loop())

    def _dial(self, address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, endpoint = address
        if not self._allowed(ip_address(endpoint[0])):
            raise BlockedAddressError
        tracing.note("dialling")
        dialled = socket.socket(family=family, type=kind, proto=protocol)
        dialled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        return dialled


class _Tls(ssl.SSLObject):
    def do_handshake(self) -> None:
        tracing.note("securing")
        super().do_handshake()


class _Connection(ResponseHandler):
    """One connection: it notes the answer's first byte, and hangs up on who talks out of turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._trace: Trace | None = None
        self._answered = False
        self._interim = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tracing.note("ready")
        super().connection_made(transport)

    def set_response_params(self, **parameters: Any) -> None:
        """Another request is about to be sent; runs in its context."""
        self._trace = tracing.current()
        if self._trace is not None:
            self._trace.note("asked")
        self._answered = False
        self._interim = 0
        super().set_response_params(**parameters)

    def data_received(self, data: bytes) -> None:
        over = self._answered and (self._payload is None or self._payload.is_eof())
        if data and over:
            # It would be taken for the answer to the next request.
            self.abort()
            return
        if data and self._trace is not None:
            self._trace.note("heard")
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        if exc is not None and self._trace is not None:
            self._trace.note("reset")
        super().connection_lost(exc)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """A message's head was read."""
        code = data[0].code
        if 100 <= code < 200 and code != 101:
            self._interim += 1
            if self._interim > MOST_INTERIM:
                if self.transport is not None:
                    self.transport.abort()
                self.set_exception(HttpProcessingError(message="1xx without end"))
                return
        else:
            self._answered = True
        super().feed_data(data, size)
