"""A name server on loopback that says what a test wants: it may change its mind, or be silent."""

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from typing import cast

A, AAAA, IN = 1, 28, 1
NO_SUCH_NAME = 3


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """Answers A and AAAA from `names`, and nothing at all for `dead` ones."""

    names: dict[str, list[tuple[str, ...]]] = field(
        default_factory=dict[str, list[tuple[str, ...]]]
    )
    """A name's addresses at each look-up in turn; the last ones for ever."""
    dead: set[str] = field(default_factory=set[str])
    asked: Counter[str] = field(default_factory=Counter[str])
    """How often each name was asked for, of both kinds; retries count."""
    _turns: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | int, int]) -> None:
        name, kind, question = parsed(data)
        self.asked[name] += 1
        if name not in self.dead:
            self._transport.sendto(self._answer(data[:2], name, kind, question), addr)

    def _answer(self, query_id: bytes, name: str, kind: int, question: bytes) -> bytes:
        turns = self.names.get(name)
        if turns is None:
            return query_id + struct.pack(">HHHHH", 0x8180 | NO_SUCH_NAME, 1, 0, 0, 0) + question
        addresses = turns[min(self._turns[name, kind], len(turns) - 1)]
        self._turns[name, kind] += 1
        of_kind = [
            address
            for address in map(ip_address, addresses)
            if kind == (A if isinstance(address, IPv4Address) else AAAA)
        ]
        # The name again, by a pointer to the question; not to be remembered (TTL 0).
        records = b"".join(
            struct.pack(">HHHIH", 0xC00C, kind, IN, 0, len(address.packed)) + address.packed
            for address in of_kind
        )
        counts = struct.pack(">HHHHH", 0x8180, 1, len(of_kind), 0, 0)
        return query_id + counts + question + records


def parsed(query: bytes) -> tuple[str, int, bytes]:
    """The name, the type and the bytes of a query's question (RFC 1035, 4.1.2)."""
    labels, at = list[str](), 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode().lower())
        at += 1 + length
    kind = struct.unpack(">H", query[at + 1 : at + 3])[0]
    return ".".join(labels), kind, query[12 : at + 5]


@asynccontextmanager
async def answering(server: NameServer) -> AsyncGenerator[str]:
    """The name server's `address:port`."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: server, ("127.0.0.1", 0)
    )
    try:
        yield f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()
