"""The way out, against servers as they come."""

import asyncio
import gc
import gzip
import ipaddress
import socket
import ssl
import struct
import sys
import tracemalloc
import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway import egress as egress_module
from gateway.delivery import Answer, Fault, Post
from gateway.egress import KEPT_BODY, Egress, fault_code
from shared.addresses import Targets
from tests.gateway.receivers import Receiver, read_request, response, served

DEADLINE = 0.6
LATE = DEADLINE * 10_000
"""Milliseconds by which the deadline must have come, on however busy a machine."""


@asynccontextmanager
async def opened(
    targets: Targets = "loopback", trusted: ssl.SSLContext | None = None
) -> AsyncGenerator[Egress]:
    async with Egress(targets, deadline=DEADLINE, trusted=trusted) as egress:
        yield egress


def port_of(url: str) -> str:
    return url.rsplit(":", 1)[1].split("/", maxsplit=1)[0]


def post(url: str, body: bytes = b'{"a": 1}') -> Post:
    return Post(url, {"content-type": "application/json", "user-agent": "Zapgate/0"}, body)


async def test_a_post_arrives_as_it_was_made() -> None:
    """Method, headers and bytes are ours; nothing is added that says more."""
    receiver = Receiver()
    async with opened() as egress, served(receiver) as url:
        attempt = await egress.post(post(url, "{“ü”}".encode()))
    assert attempt.result == Answer(204)
    (request,) = receiver.requests
    assert request.line == "POST /hook HTTP/1.1"
    assert request.body == "{“ü”}".encode()
    assert request.headers.keys() == {"host", "content-type", "user-agent", "content-length"}


async def test_what_a_receiver_says_in_headers_is_heard() -> None:
    """`Retry-After` and `webhook-delivery` come with the status."""
    receiver = Receiver([response(503, "retry-after: 120", "webhook-delivery: abort-message")])
    async with opened() as egress, served(receiver) as url:
        attempt = await egress.post(post(url))
    assert attempt.result == Answer(503, "120", "abort-message")


async def test_a_redirect_is_not_followed() -> None:
    """302 to a page that would answer 200 is a 302, and that page is never asked."""
    trap = Receiver([response(200)])
    async with opened() as egress, served(trap) as elsewhere:
        receiver = Receiver([response(302, f"location: {elsewhere}")])
        async with served(receiver) as url:
            attempt = await egress.post(post(url))
    assert attempt.result == Answer(302)
    assert trap.requests == []


async def test_cookies_are_not_kept() -> None:
    """What a receiver sets is not sent to it, or to anybody, the next time."""
    receiver = Receiver([response(200, "set-cookie: a=b; path=/")])
    async with opened() as egress, served(receiver) as url:
        await egress.post(post(url))
        await egress.post(post(url))
    assert "cookie" not in receiver.requests[1].headers
    assert receiver.connections == 1, "but the connection is"


async def test_a_kept_connection_that_died_is_not_the_events_fault() -> None:
    """A server that closed an idle connection gets the post on a new one."""
    count = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await read_request(reader)
        writer.write(response(204))
        await writer.drain()
        # Closes with the next request in its hands.
        if count == 1:
            await reader.readexactly(1)

    async with opened() as egress, served(once) as url:
        assert (await egress.post(post(url))).result == Answer(204)
        assert (await egress.post(post(url))).result == Answer(204)
    assert count == 2


async def test_silence_ends_at_the_deadline() -> None:
    """A server that takes the request and says nothing is a timeout."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with opened() as egress, served(silent) as url:
        attempt = await egress.post(post(url))
    assert attempt.result == Fault("timeout")
    assert DEADLINE * 1000 <= attempt.phases.total < LATE


async def test_dripping_ends_at_the_deadline() -> None:
    """The time is counted over the body, not from byte to byte."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with opened() as egress, served(drip) as url:
        assert (await egress.post(post(url))).result == Fault("timeout", 200)


async def test_dripping_headers_end_at_the_deadline() -> None:
    """Nor from header to header; what was heard is the first byte, not the last."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(1000):
            writer.write(f"x-{number}: y\r\n".encode())
            await writer.drain()
            await asyncio.sleep(0.05)

    async with opened() as egress, served(drip) as url:
        exchange = await egress.post(post(url))
    assert exchange.result == Fault("timeout")
    assert exchange.phases.first_byte is not None
    assert exchange.phases.first_byte < exchange.phases.total - 100, "more came after it"


async def test_interim_answers_have_an_end() -> None:
    """A few 1xx are passed over; a flood of them is cut off at once, not at the deadline."""

    async def few(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 3 + response(204))
        await writer.drain()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        while True:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
            await writer.drain()

    async with opened() as egress:
        async with served(few) as url:
            assert (await egress.post(post(url))).result == Answer(204)
        async with served(flood) as url:
            exchange = await egress.post(post(url))
    assert exchange.result == Fault("protocol_error"), "at the deadline it were a timeout"


async def test_switching_protocols_is_a_status_like_others() -> None:
    """101 is no success, and what follows it is not read as HTTP."""

    async def switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
        writer.write(head + response(200))
        await writer.drain()
        await reader.read()

    async with opened() as egress, served(switch) as url:
        assert (await egress.post(post(url))).result == Answer(101)
        assert (await egress.post(post(url))).result == Answer(101)


async def test_an_endless_body_is_cut_off() -> None:
    """No more than 16 KiB are read, and the status stands."""
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            sent += 65536

    async with opened() as egress, served(flood) as url:
        attempt = await egress.post(post(url))
        assert attempt.result == Answer(200)
    assert sent < 16 * 1024 * 1024


async def test_a_gzip_bomb_is_not_unpacked() -> None:
    """A body is never decompressed: it stays as small as it came."""
    bomb = gzip.compress(bytes(50_000_000))
    receiver = Receiver([response(200, "content-encoding: gzip", body=bomb)])
    async with opened() as egress, served(receiver) as url:
        attempt = await egress.post(post(url))
    assert attempt.result == Answer(200)
    assert attempt.response_body == bomb[:KEPT_BODY]
    assert attempt.response_cut
    assert attempt.phases.total < 300


async def test_bombs_take_no_memory() -> None:
    """Fifty at once stay within a few times what is read of each."""
    bomb = gzip.compress(bytes(50_000_000))
    receiver = Receiver([response(200, "content-encoding: gzip", body=bomb)])
    async with opened() as egress, served(receiver) as url:
        await egress.post(post(url))
        tracemalloc.start()
        try:
            await asyncio.gather(*(egress.post(post(url)) for _ in range(50)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 50 * 512 * 1024, "the receiver's own buffers included"


async def test_a_reset_is_told_from_a_refusal() -> None:
    """A connection cut off and a port where nobody listens have codes of their own."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.transport.abort()

    async with opened() as egress:
        async with served(reset) as url:
            assert (await egress.post(post(url))).result == Fault("connection_reset")
        assert (await egress.post(post(url))).result == Fault("connection_refused")


async def test_a_reset_in_an_answer_is_a_reset() -> None:
    """Whether within the headers or within the body."""
    for begun, status in (
        (b"HTTP/1.1 200 OK\r\nx: ", None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", 200),
    ):

        async def reset(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begun: bytes = begun
        ) -> None:
            await read_request(reader)
            writer.write(begun)
            await writer.drain()
            await asyncio.sleep(0.05)  # so that it is read before the reset
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

        async with opened() as egress, served(reset) as url:
            assert (await egress.post(post(url))).result == Fault("connection_reset", status)


async def test_a_host_that_does_not_answer_is_a_timeout() -> None:
    """Packets that vanish end at the deadline, and the phase says it was the connecting."""

    async def vanish(*_: object) -> None:
        await asyncio.sleep(60)

    with mock.patch.object(asyncio.get_running_loop(), "sock_connect", vanish):
        async with opened() as egress:
            exchange = await egress.post(post("https://127.0.0.1:1/hook"))
    assert exchange.result == Fault("timeout")
    assert exchange.phases.connect is not None
    assert DEADLINE * 800 < exchange.phases.connect < LATE
    assert exchange.phases.tls is None


@pytest.mark.parametrize(
    "answer",
    [
        b"SMTP ready\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 10_000 + b"\r\n",
        b"HTTP/1.1 200 " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 99 Low\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 1000 High\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 2OO OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 -200 OK\r\ncontent-length: 0\r\n\r\n",
        b"<html><body>Hello, HTTP/0.9</body></html>",
        b"\x16\x03\x01\x00\x05hello",
        bytes(1000),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_not_http_is_a_protocol_error(answer: bytes) -> None:
    """Garbage, endless headers and broken bodies are failures with one code."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    async with opened() as egress, served(speak) as url:
        result = (await egress.post(post(url))).result
    assert isinstance(result, Fault)
    assert result.code == "protocol_error"


FORMS = {
    "ipv4": "127.0.0.1",
    "name": "localhost",
    "ipv6": "[::1]",
    "mapped": "[::ffff:127.0.0.1]",
    "decimal": "2130706433",
    "hexadecimal": "0x7f.1",
    "short": "127.1",
    "zero": "0",
    "metadata": "169.254.169.254",
    "octal": "017700000001",
    "circled-digits": "①②⑦.0.0.1",
    "scoped": "[fe80::1%lo]",
    # and some more
    "all-zero": "0.0.0.0",  # noqa: S104 - an address to refuse
    "task-credentials": "169.254.170.2",
    "private": "10.0.0.1",
    "ipv6-metadata": "[fd00:ec2::254]",
    "nat64": "[64:ff9b::7f00:1]",
    "under-localhost": "a.localhost",
    "localhost-dot": "LOCALHOST.",
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", FORMS.values(), ids=FORMS)
async def test_the_inside_is_never_dialled(host: str, scheme: str) -> None:
    """However an inner address is written, no connection is made to it."""
    receiver = Receiver()
    async with opened("public") as egress, served(receiver) as local:
        exchange = await egress.post(post(f"{scheme}://{host}:{port_of(local)}/hook"))
    assert exchange.result in {Fault("blocked_address"), Fault("invalid_url")}
    assert exchange.phases.connect is None, "it was not even tried"
    assert receiver.connections == 0


def certificate(folder: Path, *, until: int = 2099) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 signed by itself, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])

    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(until, 1, 1, tzinfo=UTC))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    file = folder / f"receiver-{until}.pem"
    file.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return file, context


async def test_tls_is_verified(tmp_path: Path) -> None:
    """A certificate nobody vouches for, or of a foreign name, has a code; nothing is sent."""
    file, context = certificate(tmp_path)
    receiver = Receiver()
    trusting = ssl.create_default_context(cafile=str(file))
    async with served(receiver, context) as url:
        async with opened() as egress:
            assert (await egress.post(post(url))).result == Fault("tls_untrusted")
        async with opened(trusted=trusting) as egress:
            assert (await egress.post(post(url))).result == Answer(204)
            elsewhere = url.replace("127.0.0.1", "localhost")
            assert (await egress.post(post(elsewhere))).result == Fault("tls_wrong_host")
    assert len(receiver.requests) == 1


async def test_an_expired_certificate_is_named(tmp_path: Path) -> None:
    """The commonest mistake of receivers has a code of its own."""
    file, context = certificate(tmp_path, until=2021)
    receiver = Receiver()
    trusting = ssl.create_default_context(cafile=str(file))
    async with served(receiver, context) as url, opened(trusted=trusting) as egress:
        exchange = await egress.post(post(url))
    assert exchange.result == Fault("tls_expired")
    assert exchange.phases.tls is not None
    assert exchange.phases.first_byte is None
    assert receiver.requests == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_old_tls_is_not_answered(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """A server that speaks nothing newer than TLS 1.1 gets nothing."""
    file, context = certificate(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    receiver = Receiver()
    trusting = ssl.create_default_context(cafile=str(file))
    async with served(receiver, context) as url, opened(trusted=trusting) as egress:
        assert (await egress.post(post(url))).result == Fault("tls_error")
    assert receiver.requests == []


async def test_http_on_a_tls_port_is_a_tls_error() -> None:
    """What answers in the clear does not get the event in the clear."""

    async def plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(response(400))
        await writer.drain()

    async with opened() as egress, served(plainly) as plain:
        result = (await egress.post(post(plain.replace("http:", "https:")))).result
    assert result == Fault("tls_error")


async def test_a_handshake_that_does_not_end_is_a_timeout() -> None:
    """The deadline covers it, and the phase says where the time went."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            pass

    async with opened() as egress, served(silent) as plain:
        exchange = await egress.post(post(plain.replace("http:", "https:")))
    assert exchange.result == Fault("timeout")
    assert exchange.phases.tls is not None
    assert DEADLINE * 800 < exchange.phases.tls < LATE


async def test_old_tls_is_not_spoken(tmp_path: Path) -> None:
    """TLS 1.1 is refused by whatever context we are given."""
    trusting = ssl.create_default_context()
    async with opened(trusted=trusting):
        assert trusting.minimum_version is ssl.TLSVersion.TLSv1_2


def test_codes_name_the_innermost_known_cause() -> None:
    """Errors of several layers get one code; unknown ones say no more than that it failed."""
    key: Any = mock.Mock()
    dns = aiohttp.ClientConnectorDNSError(key, OSError("x"))
    assert fault_code(dns) == "dns_error"
    assert fault_code(aiohttp.ClientConnectorError(key, TimeoutError())) == "timeout"
    assert fault_code(aiohttp.ClientConnectorError(key, OSError(113, "no route"))) == (
        "connection_failed"
    )
    assert fault_code(ValueError("x")) == "protocol_error"
    assert egress_module.DEADLINE <= 15


@pytest.mark.parametrize(
    ("answer", "result"),
    [(response(204), Answer(204)), (response(500, body=b"no" * 500), Answer(500))],
)
async def test_a_connection_serves_many_posts(answer: bytes, result: Answer) -> None:
    """One after the other they go over the same one: no new name, no new handshake."""
    receiver = Receiver([answer])
    async with opened() as egress, served(receiver) as url:
        first = await egress.post(post(url.replace("127.0.0.1", "localhost")))
        others = [await egress.post(post(url.replace("127.0.0.1", "localhost"))) for _ in range(20)]
    assert first.phases.dns is not None
    assert first.phases.connect is not None
    assert {each.result for each in others} == {result}
    assert {(each.phases.dns, each.phases.connect) for each in others} == {(None, None)}
    assert all(each.phases.first_byte is not None for each in others)
    assert (receiver.connections, len(receiver.requests)) == (1, 21)


async def test_every_stale_connection_is_passed_over() -> None:
    """However many kept connections died meanwhile, each post arrives, and once."""
    receiver = Receiver(pause=0.1)
    async with opened() as egress, served(receiver) as url:
        await asyncio.gather(*(egress.post(post(url)) for _ in range(8)))
        assert receiver.connections == 8
        receiver.hang_up = True
        result = (await egress.post(post(url))).result
    assert result == Answer(204)
    assert receiver.connections == 9


async def test_a_new_connection_that_is_cut_is_not_tried_again() -> None:
    """An event is posted once for an attempt, unless the connection was an old one."""
    count = 0

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        await read_request(reader)
        count += 1

    async with opened() as egress, served(cut) as url:
        assert (await egress.post(post(url))).result == Fault("connection_reset")
    assert count == 1


@pytest.mark.parametrize("at_once", [True, False])
async def test_an_answer_nobody_asked_for_is_not_the_next_ones(*, at_once: bool) -> None:
    """What a server says beyond its answer is not taken for its answer to the next post."""
    connections = 0

    async def chatty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(response(500))
        if not at_once:
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.write(response(200))
        await writer.drain()
        await reader.read()

    async with opened() as egress, served(chatty) as url:
        assert (await egress.post(post(url))).result == Answer(500)
        await asyncio.sleep(0.1)  # it speaks out of turn
        assert (await egress.post(post(url))).result == Answer(500)
    assert connections == 2


async def test_a_body_longer_than_said_does_not_leak_into_the_next() -> None:
    """A server that lies about its length loses its connection, not the next event's verdict."""
    lie = b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno" + response(200)
    receiver = Receiver([lie])
    async with opened() as egress, served(receiver) as url:
        for _ in range(3):
            exchange = await egress.post(post(url))
            assert exchange.result == Answer(500)
            assert exchange.response_body == b"no"
    assert receiver.connections == 3


async def test_the_log_gets_what_was_answered() -> None:
    """Headers, the beginning of the body, and whether there was more; no secrets."""
    body = bytes(range(256)) * 12
    receiver = Receiver(
        [response(200, "Set-Cookie: id=1", "X-Request-Id: 7", "x-request-id: 8", body=body)]
    )
    async with opened() as egress, served(receiver) as url:
        exchange = await egress.post(post(url))
    assert exchange.response_headers == {
        "content-length": "3072",
        "set-cookie": "[masked]",
        "x-request-id": "7, 8",
    }
    assert exchange.response_body == body[:KEPT_BODY]
    assert exchange.response_cut


async def test_a_short_body_is_kept_whole() -> None:
    """And is not said to be cut; also when its status is a failure."""
    receiver = Receiver([response(401, body=b"who are you?")])
    async with opened() as egress, served(receiver) as url:
        exchange = await egress.post(post(url))
    assert exchange.result == Answer(401)
    assert exchange.response_body == b"who are you?"
    assert not exchange.response_cut


async def test_what_was_heard_before_the_end_is_kept() -> None:
    """An answer that breaks off is a failure, with what there was of it."""

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        await writer.drain()
        await reader.read()

    async with opened() as egress, served(half) as url:
        exchange = await egress.post(post(url))
    assert exchange.result == Fault("timeout", 200)
    assert exchange.response_headers == {"content-length": "10"}
    assert exchange.response_body == b"half"


async def test_phases_say_where_the_time_went(tmp_path: Path) -> None:
    """Each part is there, and together they are no more than the whole."""
    file, context = certificate(tmp_path)
    receiver = Receiver(pause=0.15)
    trusting = ssl.create_default_context(cafile=str(file))
    trusting.check_hostname = False
    async with served(receiver, context) as url, opened(trusted=trusting) as egress:
        fresh = (await egress.post(post(url.replace("127.0.0.1", "localhost")))).phases
        kept = (await egress.post(post(url.replace("127.0.0.1", "localhost")))).phases
    parts = (fresh.dns, fresh.connect, fresh.tls, fresh.first_byte)
    assert all(part is not None for part in parts)
    together = sum(part or 0 for part in parts)
    assert together <= fresh.total + 1
    assert together > fresh.total * 0.8
    assert fresh.first_byte is not None
    assert 140 < fresh.first_byte < 300
    assert (kept.dns, kept.connect, kept.tls) == (None, None, None)


async def test_a_parser_s_own_fault_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a receiver does to the libraries is a failure of its delivery, and is logged."""
    receiver = Receiver()
    async with opened() as egress, served(receiver) as url:
        with mock.patch("aiohttp.ClientResponse.start", side_effect=RuntimeError("inside")):
            exchange = await egress.post(post(url))
    assert exchange.result == Fault("protocol_error")
    assert "egress.unforeseen" in caplog.text


async def test_a_closed_client_is_our_own_mistake() -> None:
    """It is no fault of a receiver, so it is no result."""
    with pytest.raises(RuntimeError):
        await Egress("public").post(post("https://example.com/"))


async def test_a_failure_lets_go_of_its_body() -> None:
    """What a failed attempt leaves behind holds no body: cycles are looked for seldom."""
    body = b"x" * 5_000
    receiver = Receiver([response(200, "content-length: 9")])  # two lengths: no answer at all
    async with opened() as egress:
        held = sys.getrefcount(body)
        gc.disable()
        try:
            async with served(receiver) as url:
                malformed = await egress.post(post(url, body))
            refused = await egress.post(post(url, body))
            blocked = await egress.post(post("http://10.0.0.1/", body))
            assert [malformed.result, refused.result, blocked.result] == [
                Fault("protocol_error"),
                Fault("connection_refused"),
                Fault("blocked_address"),
            ]
            assert sys.getrefcount(body) == held
        finally:
            gc.enable()
